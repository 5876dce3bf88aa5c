/* Taps: which tensors of a graph are watched, and where in the plan each of them is made. */
#include "plan.h"

#include <stdlib.h>

static bool is_pattern(const char *text) {
    size_t n = strlen(text);
    return n > 0 && text[n - 1] == '*';
}

static bool pattern_matches(const char *pattern, const char *name) {
    return is_pattern(pattern) ? strncmp(pattern, name, strlen(pattern) - 1) == 0
                               : strcmp(pattern, name) == 0;
}

/* Of a tensor that has one. */
static kiln__tap *tap_of(kiln_plan *plan, uint32_t tensor) {
    kiln__tap *tap = plan->taps.items;
    while (tap->tensor != tensor)
        tap++;
    return tap;
}

/* Resolves the taps to tensors that nodes make; keep[tensor] is set for each. */
static kiln_status resolve(kiln_plan *plan, const kiln_bake_options *options, uint8_t *keep,
                           kiln_error *error) {
    const kiln_graph *g = plan->graph;
    for (uint32_t i = 0; i < options->n_taps; i++) {
        bool any = false;
        const char *pattern = options->taps[i].tensor;
        uint32_t named = pattern != NULL && is_pattern(pattern) ? 0 : i + 1;
        if (pattern == NULL || (options->taps[i].watch & ~(uint32_t)(KILN_WATCH_VALUES | KILN_WATCH_FINITE |
                                                                     KILN_WATCH_HASH | KILN_WATCH_TIME)))
            return kiln_error_set(error, KILN_ERROR_ARGUMENT, "tap %u: no tensor name, or unknown watch bits",
                                  i);
        for (uint32_t id = 1; id < g->tensors.count; id++) {
            char label[KILN__LABEL_SIZE] = "";
            if (g->producers.items[id] == 0 || !pattern_matches(pattern, kiln__tensor_label(g, id, label)))
                continue;
            any = true;
            /* Tapped before: one entry watches for both. */
            if (keep[id]) {
                kiln__tap *before = tap_of(plan, id);
                before->watch |= options->taps[i].watch;
                before->named = before->named != 0 ? before->named : named;
                continue;
            }
            if (!KILN_GROW(&plan->allocator, plan->taps, plan->taps.count + 1))
                return kiln_error_set(error, KILN_ERROR_MEMORY, "baking: out of memory");
            kiln__tap *tap = &plan->taps.items[plan->taps.count++];
            *tap = (kiln__tap){.tensor = id, .watch = options->taps[i].watch, .named = named};
            memcpy(tap->label, label, sizeof label);
            keep[id] = 1;
        }
        if (!any)
            return kiln_error_set(error, KILN_ERROR_ARGUMENT, "tap %u: no node makes a tensor named '%s'", i,
                                  pattern);
    }
    return KILN_OK;
}

/* A tensor of which the tap would see bytes that nothing has written. */
static kiln_status refuse_tap(const kiln_plan *plan, const kiln__tap *tap, int64_t byte, kiln_error *error) {
    const kiln_graph *g = plan->graph;
    const kiln__tensor *t = &g->tensors.items[tap->tensor];
    size_t node = g->producers.items[tap->tensor] - 1;
    char label[KILN__LABEL_SIZE];
    return kiln_error_set(
        error, KILN_ERROR_ARGUMENT,
        "tap %u: '%s' cannot be watched: when node '%s' (%s) is done, byte %lld of its %lld has not "
        "been written; write it before (kiln_zero), or tap what is made of it",
        tap->named - 1, tap->label, kiln__node_label(g, node, label), g->nodes.items[node].op->name,
        (long long)(byte - t->offset), (long long)t->bytes);
}

/* Drops the taps of patterns that would see bytes which nothing has written, and refuses those asked for by
 * name. */
static kiln_status drop_unwritten(kiln_plan *plan, const int64_t *unwritten, uint8_t *keep,
                                  kiln_error *error) {
    size_t n = 0;
    for (size_t i = 0; i < plan->taps.count; i++) {
        const kiln__tap *tap = &plan->taps.items[i];
        if (unwritten[i] >= 0 && tap->named != 0)
            return refuse_tap(plan, tap, unwritten[i], error);
        if (unwritten[i] >= 0)
            keep[tap->tensor] = 0;
        else
            plan->taps.items[n++] = *tap;
    }
    plan->taps.count = n;
    return KILN_OK;
}

/* Fusions and the order of nodes change nothing of what is written when a node is done: the graph as built
 * says it. */
static kiln_status check_written(kiln_plan *plan, uint8_t *keep, kiln_error *error) {
    const kiln_allocator *a = &plan->allocator;
    kiln__watched watched = {keep, plan->graph->tensors.count};
    size_t n = plan->taps.count;
    kiln__hazards hazards;
    kiln_status status = kiln__hazards_find(plan->graph, a, &watched, &hazards, error);
    if (status != KILN_OK)
        return status;
    int64_t *unwritten = KILN_NEW(a, int64_t, n);
    if (unwritten == NULL)
        status = kiln_error_set(error, KILN_ERROR_MEMORY, "baking: out of memory");
    if (status == KILN_OK)
        status = kiln__taps_find_unwritten(plan, &hazards, unwritten, error);
    if (status == KILN_OK)
        status = drop_unwritten(plan, unwritten, keep, error);
    KILN_DELETE(a, unwritten, int64_t, n);
    kiln__hazards_free(&hazards);
    return status;
}

kiln_status kiln__taps_resolve(kiln_plan *plan, const kiln_bake_options *options, uint8_t *keep,
                               kiln_error *error) {
    kiln_status status = resolve(plan, options, keep, error);
    return status == KILN_OK && plan->taps.count > 0 ? check_written(plan, keep, error) : status;
}

static int by_record(const void *a, const void *b) {
    const kiln__tap *x = a, *y = b;
    if (x->record != y->record)
        return x->record < y->record ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

/* After scheduling: where each tapped tensor is made. */
kiln_status kiln__taps_place(kiln_plan *plan, kiln_error *error) {
    const kiln__schedule *s = &plan->schedule;
    if (plan->taps.count == 0)
        return KILN_OK;
    uint32_t *position = KILN_NEW(&plan->allocator, uint32_t, s->n_nodes);
    if (position == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "baking: out of memory");
    for (uint32_t i = 0; i < s->n_nodes; i++)
        position[s->order[i]] = i;
    for (size_t t = 0; t < plan->taps.count; t++) {
        kiln__tap *tap = &plan->taps.items[t];
        uint32_t node = plan->program->producers.items[tap->tensor] - 1;
        tap->record = position[node];
        tap->region = s->region_of[node];
    }
    KILN_DELETE(&plan->allocator, position, uint32_t, s->n_nodes);
    qsort(plan->taps.items, plan->taps.count, sizeof *plan->taps.items, by_record);
    return KILN_OK;
}
