/* Baking: a graph becomes a plan. */
#include "plan.h"
#include "fp_mode.h"

/* ---- baking ----------------------------------------------------------------------------------------- */

static kiln_status bake_into(kiln_plan *plan, const kiln_graph *graph, const kiln_bake_options *options,
                             kiln_error *error) {
    const kiln_allocator *a = &plan->allocator;
    kiln_status status = kiln__graph_clone(graph, a, &plan->graph, error);
    if (status != KILN_OK)
        return status;
    size_t n_tensors = graph->tensors.count;
    uint8_t *keep = KILN_NEW(a, uint8_t, n_tensors);
    if (keep == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "baking: out of memory");
    status = kiln__taps_resolve(plan, options, keep, error);
    if (status == KILN_OK) {
        kiln__rewrite_options rewrite = {
            .exact = options->precision == KILN_PRECISION_EXACT, .no_fuse = options->no_fuse, .keep = keep};
        status = kiln__rewrite(plan->graph, &rewrite, a, &plan->program, &plan->rewrites, error);
    }
    if (status == KILN_OK)
        status =
            kiln__hazards_find(plan->program, a, &(kiln__watched){keep, n_tensors}, &plan->hazards, error);
    KILN_DELETE(a, keep, uint8_t, n_tensors);
    if (status != KILN_OK || (status = kiln__plan_check_uses(plan, error)) != KILN_OK)
        return status;
    kiln__schedule_options schedule = {
        .memory = {.no_reuse = options->no_reuse, .no_inplace = options->no_inplace},
        .max_arena = options->max_arena,
        .serial = options->serial};
    status = kiln__schedule_make(plan->program, &plan->hazards, &schedule, &plan->schedule, error);
    if (status == KILN_OK)
        status = kiln__taps_place(plan, error);
    return status == KILN_OK ? kiln__limits_find(plan, error) : status;
}

kiln_status kiln_bake(const kiln_graph *graph, const kiln_bake_options *options, kiln_plan **out,
                      kiln_error *error) {
    if (graph == NULL || out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_bake: graph or out is NULL");
    *out = NULL;
    kiln_status status = kiln_graph_check(graph, error);
    if (status != KILN_OK)
        return status;
    kiln_bake_options defaults = {0};
    if (options == NULL)
        options = &defaults;
    if ((unsigned)options->precision > KILN_PRECISION_EXACT || options->max_arena < 0 ||
        (options->n_taps > 0 && options->taps == NULL))
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_bake: %s",
                              options->max_arena < 0                         ? "max_arena is negative"
                              : options->taps == NULL && options->n_taps > 0 ? "taps is NULL"
                                                                             : "unknown precision");
    kiln_plan *plan = KILN_NEW(&graph->allocator, kiln_plan, 1);
    if (plan == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "baking: out of memory");
    plan->allocator = graph->allocator;
    atomic_init(&plan->references, 1);
    plan->options = *options;
    plan->options.taps = NULL;
    plan->options.n_taps = 0;
    kiln__fp mode = kiln__enter_fp_mode();
    status = bake_into(plan, graph, options, error);
    kiln__leave_fp_mode(mode);
    if (status != KILN_OK) {
        kiln_plan_release(plan);
        return status;
    }
    for (size_t i = 1; i < plan->program->storages.count; i++)
        if (plan->program->storages.items[i].owner != NULL)
            atomic_fetch_add(&((kiln_state_buffer *)plan->program->storages.items[i].owner)->bound, 1);
    plan->holds_states = true;
    *out = plan;
    return KILN_OK;
}

/* ---- life ------------------------------------------------------------------------------------------- */

void kiln__plan_drop_states(kiln_plan *plan) {
    for (size_t i = 1; plan->holds_states && i < plan->program->storages.count; i++) {
        kiln__storage *s = &plan->program->storages.items[i];
        if (s->owner == NULL)
            continue;
        atomic_fetch_sub(&((kiln_state_buffer *)s->owner)->bound, 1);
        s->owner = s->data = NULL;
    }
    plan->holds_states = false;
}

void kiln_plan_retain(kiln_plan *plan) {
    if (plan != NULL)
        atomic_fetch_add_explicit(&plan->references, 1, memory_order_relaxed);
}

void kiln_plan_release(kiln_plan *plan) {
    /* Release orders this owner's reads before the last owner's free; acquire lets the last one see them. */
    if (plan == NULL || atomic_fetch_sub_explicit(&plan->references, 1, memory_order_acq_rel) != 1)
        return;
    kiln__plan_drop_states(plan);
    kiln_allocator a = plan->allocator;
    KILN_ARRAY_FREE(&a, plan->taps);
    KILN_ARRAY_FREE(&a, plan->limits);
    KILN_ARRAY_FREE(&a, plan->limit_sources);
    KILN_DELETE(&a, plan->uses, kiln__storage_use, plan->n_uses);
    kiln__schedule_free(&plan->schedule);
    kiln__hazards_free(&plan->hazards);
    kiln__rewrites_free(&plan->rewrites);
    kiln_graph_destroy(plan->program);
    kiln_graph_destroy(plan->graph);
    KILN_DELETE(&a, plan, kiln_plan, 1);
}
