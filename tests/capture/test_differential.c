/* Random graphs baked in many ways: what comes out does not depend on threads, order, fusion, arena or in-place
 * pairs, bit for bit. KILN_RANDOM_GRAPHS sets the number of graphs, KILN_RANDOM_SEED the first seed.
 *
 * The judges: for `exact` precision the graph run node by node (eager.h); for `fast`, which changes values on
 * purpose, a plan with one node per region, no fusion, no reuse and nothing in place. The rule sum_residual adds
 * in another order, so plans with it are compared among themselves. */
#include "kiln.h"
#include "check.h"
#include "cpu_features.h"
#include "eager.h"
#include "op_case.h"
#include "random_graph.h"

#include <math.h>
#include <stdlib.h>

enum { RUNS = 3, CONFIGS = 3, PIECES = RUNS * (RANDOM_LEAVES + RANDOM_OUTPUTS) };

static kiln_executor *executors[2]; /* one thread, three threads */
static long nodes, plans, refused, over_cap, fusions, inplace, bad_indices, impossible, eager_runs;

/* ---- outcomes --------------------------------------------------------------------------------------- */

/* What RUNS runs leave: after each the outputs, unless it was refused, and the states. */
typedef struct outcome {
    kiln_status status[RUNS];
    unsigned char *bytes;
    size_t used, room;
    struct {
        kiln_tensor tensor;
        int run;
        size_t end;
    } pieces[PIECES];
    int n_pieces;
} outcome;

/* One NaN is as good as another: which operand's a sum hands on is not defined. */
static void put_element(outcome *o, kiln_dtype dtype, const unsigned char *at) {
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    if (o->room - o->used < info->bytes) {
        o->room = 2 * o->room + 4096;
        o->bytes = realloc(o->bytes, o->room);
        assert_non_null(o->bytes);
    }
    memcpy(o->bytes + o->used, at, info->bytes);
    if (info->kind == KILN_KIND_FLOAT && isnan(op_decode(dtype, at, 0)))
        memset(o->bytes + o->used, 0xff, info->bytes);
    o->used += info->bytes;
}

/* The elements that there are at this value of the symbol. */
static void put_tensor(outcome *o, int run, const random_graph *r, kiln_tensor tensor, int64_t n,
                       const unsigned char *data) {
    const kiln_graph *g = r->graph;
    const kiln_desc *d = kiln__desc_of(g, &g->tensors.items[tensor.id]);
    int64_t count[KILN_MAX_DIMS] = {1, 1, 1, 1}, stride[KILN_MAX_DIMS] = {0};
    for (uint32_t i = 0, to = KILN_MAX_DIMS - d->ndim; i < d->ndim; i++, to++) {
        count[to] = d->dims[i].n * (d->dims[i].slot == 0 ? 1 : d->dims[i].slot == r->more.id ? n + 2 : n);
        stride[to] = d->strides[i];
    }
    for (int64_t i = 0; i < count[0]; i++)
        for (int64_t j = 0; j < count[1]; j++)
            for (int64_t k = 0; k < count[2]; k++)
                for (int64_t l = 0; l < count[3]; l++)
                    put_element(o, d->dtype,
                                data + i * stride[0] + j * stride[1] + k * stride[2] + l * stride[3]);
    o->pieces[o->n_pieces].tensor = tensor;
    o->pieces[o->n_pieces].run = run;
    o->pieces[o->n_pieces++].end = o->used;
}

static void outcome_free(outcome *o) {
    free(o->bytes);
    *o = (outcome){0};
}

static void compare(const random_graph *g, const outcome *want, const outcome *got, const char *what) {
    for (int run = 0; run < RUNS; run++)
        if (want->status[run] != got->status[run])
            fail_msg("%s: run %d: %s, want %s", what, run, kiln_status_name(got->status[run]),
                     kiln_status_name(want->status[run]));
    assert_int_equal(want->used, got->used);
    size_t start = 0;
    for (int p = 0; p < want->n_pieces; start = want->pieces[p++].end)
        for (size_t i = start; i < want->pieces[p].end; i++)
            if (want->bytes[i] != got->bytes[i]) {
                char label[KILN__LABEL_SIZE];
                kiln__tensor_label(g->graph, want->pieces[p].tensor.id, label);
                fail_msg("%s: run %d: byte %zu of the values of '%s' differs", what, want->pieces[p].run,
                         i - start, label);
            }
}

/* ---- runs ------------------------------------------------------------------------------------------- */

typedef struct values {
    int64_t n, position;
    float factor;
} values;

static values values_of(const random_graph *g, int run) {
    const int64_t n[RUNS] = {g->n_max, 0, (g->n_max + 1) / 2}, position[RUNS] = {0, 3, 7};
    return (values){n[run], position[run], 0.25f * (float)(run + 1)};
}

static void run_eagerly(const random_graph *g, outcome *out) {
    eager *e = eager_new(g->graph, kiln__cpu_features());
    for (int i = 0; i < g->n_leaves; i++)
        memcpy(eager_data(e, g->leaves[i].tensor), g->leaves[i].data, (size_t)g->leaves[i].size);
    for (int run = 0; run < RUNS; run++) {
        values v = values_of(g, run);
        eager_set_i64(e, g->n, v.n);
        eager_set_i64(e, g->position, v.position);
        eager_set_f32(e, g->factor, v.factor);
        out->status[run] = eager_is_impossible(e) ? KILN_ERROR_LIMIT : eager_run(e, 1 + run).status;
        eager_runs++;
        bad_indices += out->status[run] == KILN_ERROR_INDEX;
        impossible += out->status[run] == KILN_ERROR_LIMIT;
        for (int i = 0; out->status[run] != KILN_ERROR_LIMIT && i < g->n_outputs; i++)
            put_tensor(out, run, g, g->outputs[i], v.n, eager_data(e, g->outputs[i]));
        for (int i = 0; i < g->n_leaves; i++)
            if (g->leaves[i].kind == KILN_STORAGE_STATE)
                put_tensor(out, run, g, g->leaves[i].tensor, g->n_max, eager_data(e, g->leaves[i].tensor));
    }
    eager_free(e);
}

static void bind_leaves(const random_graph *g, kiln_session *s, kiln_state_buffer **states) {
    for (int i = 0; i < g->n_leaves; i++) {
        const random_leaf *l = &g->leaves[i];
        if (l->kind != KILN_STORAGE_STATE) {
            CHECK_OK(kiln_session_bind(s, l->storage, l->data, l->size, error));
            continue;
        }
        CHECK_OK(kiln_state_buffer_create(NULL, l->size, &states[i], error));
        memcpy(kiln_state_buffer_data(states[i]), l->data, (size_t)l->size);
        CHECK_OK(kiln_session_bind_state(s, l->storage, states[i], error));
    }
}

static void run_plan(const random_graph *g, kiln_plan *plan, kiln_executor *executor, outcome *out) {
    kiln_session *s;
    kiln_state_buffer *states[RANDOM_LEAVES] = {NULL};
    CHECK_OK(kiln_session_create(plan, executor, NULL, &s, error));
    bind_leaves(g, s, states);
    for (int run = 0; run < RUNS; run++) {
        values v = values_of(g, run);
        CHECK_OK(kiln_session_set_i64(s, g->n, v.n, error));
        CHECK_OK(kiln_session_set_i64(s, g->position, v.position, error));
        CHECK_OK(kiln_session_set_f32(s, g->factor, v.factor, error));
        out->status[run] = kiln_run(s, NULL);
        for (int i = 0; out->status[run] != KILN_ERROR_LIMIT && i < g->n_outputs; i++)
            put_tensor(out, run, g, g->outputs[i], v.n, kiln_session_data(s, g->outputs[i]));
        for (int i = 0; i < g->n_leaves; i++)
            if (states[i] != NULL)
                put_tensor(out, run, g, g->leaves[i].tensor, g->n_max, kiln_state_buffer_data(states[i]));
    }
    CHECK_OK(kiln_session_destroy(s, error));
    for (int i = 0; i < g->n_leaves; i++)
        CHECK_OK(kiln_state_buffer_destroy(states[i], error));
}

/* ---- ways to bake ----------------------------------------------------------------------------------- */

/* False: the cap is too low. */
static bool bake_and_run(const random_graph *g, const char *what, const kiln_bake_options *options,
                         kiln_executor *executor, outcome *out, kiln_plan_summary *summary) {
    kiln_plan *plan;
    kiln_error error = {KILN_OK, ""};
    kiln_status status = kiln_bake(g->graph, options, &plan, &error);
    if (status == KILN_ERROR_LIMIT && options->max_arena > 0) {
        over_cap++;
        return false;
    }
    if (status != KILN_OK)
        fail_msg("%s: %s", what, error.text);
    kiln_plan_get_summary(plan, summary);
    assert_true(options->max_arena == 0 || summary->arena_bytes <= options->max_arena);
    run_plan(g, plan, executor, out);
    kiln_plan_release(plan);
    plans++;
    fusions += summary->fusions;
    inplace += summary->inplace;
    return true;
}

/* Plans of one class give the same bits. */
typedef struct plan_class {
    bool exact, sums; /* sums: with the rule sum_residual, which adds in another order */
} plan_class;

static kiln_bake_options plain_options(plan_class c) {
    return (kiln_bake_options){.precision = c.exact ? KILN_PRECISION_EXACT : KILN_PRECISION_FAST,
                               .no_fuse = c.sums ? 0 : KILN_FUSE_ALL,
                               .no_reuse = true,
                               .no_inplace = true,
                               .serial = true};
}

/* The first is what people get; the others are random. `arena`: what the first took. */
static kiln_bake_options options_of(plan_class c, int config, int64_t arena, uint64_t r) {
    static const kiln_tap all = {"*", KILN_WATCH_FINITE};
    kiln_bake_options o = {.precision = c.exact ? KILN_PRECISION_EXACT : KILN_PRECISION_FAST,
                           .no_fuse = c.sums ? 0 : KILN_FUSE_SUM_RESIDUAL};
    if (config == 0)
        return o;
    o.no_reuse = r % 4 == 0;
    o.no_inplace = r / 4 % 4 == 0;
    o.serial = r / 16 % 8 == 0;
    if (!o.no_reuse && !o.serial && r / 128 % 2 == 0)
        o.max_arena = arena * (int64_t)(5 + r / 256 % 4) / 8;
    if (!c.sums) {
        o.no_fuse |= (uint32_t)(r / 1024) & KILN_FUSE_ALL;
        o.taps = &all;
        o.n_taps = r / 65536 % 8 == 0;
    }
    return o;
}

static void check_class(const random_graph *g, uint64_t seed, plan_class c) {
    outcome want = {0}, got = {0};
    kiln_plan_summary summary;
    kiln_bake_options o = plain_options(c);
    int64_t arena = 0;
    uint64_t random = seed * 4 + (uint64_t)c.exact * 2 + c.sums;
    char what[200];
    snprintf(what, sizeof what, "seed %llu: %s, one node after the other", (unsigned long long)seed,
             c.exact ? "exact" : "fast");
    (void)bake_and_run(g, what, &o, executors[0], &want, &summary);
    if (c.exact && !c.sums) {
        run_eagerly(g, &got);
        compare(g, &got, &want, what);
        outcome_free(&got);
    }
    for (int config = 0; config < CONFIGS; config++) {
        o = options_of(c, config, arena, op_random(&random) >> 8);
        int executor = config == 0 || op_random(&random) >> 63;
        snprintf(what, sizeof what, "seed %llu: %s, no_fuse %x%s%s%s, cap %lld%s, %u thread(s)",
                 (unsigned long long)seed, c.exact ? "exact" : "fast", o.no_fuse,
                 o.no_reuse ? ", no_reuse" : "", o.no_inplace ? ", no_inplace" : "",
                 o.serial ? ", serial" : "", (long long)o.max_arena, o.n_taps ? ", tapped" : "",
                 kiln_executor_threads(executors[executor]));
        if (bake_and_run(g, what, &o, executors[executor], &got, &summary))
            compare(g, &want, &got, what);
        arena = config == 0 ? summary.arena_bytes : arena;
        outcome_free(&got);
    }
    outcome_free(&want);
}

/* A node that writes bytes which it reads through another operand: a graph that no way of baking takes. */
static bool is_refused(const random_graph *g) {
    kiln_plan *plan;
    kiln_error error = {KILN_OK, ""};
    kiln_bake_options o = plain_options((plan_class){.exact = true});
    kiln_status status = kiln_bake(g->graph, &o, &plan, &error);
    kiln_plan_release(plan);
    return status == KILN_ERROR_ARGUMENT && strstr(error.text, "share bytes") != NULL;
}

/* ---- the test --------------------------------------------------------------------------------------- */

static unsigned long long number(const char *name, unsigned long long preset) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : preset;
}

static void test_random_graphs(void **unused) {
    (void)unused;
    unsigned long long first = number("KILN_RANDOM_SEED", 1), n = number("KILN_RANDOM_GRAPHS", 300);
    for (unsigned long long seed = first; seed < first + n; seed++) {
        random_graph g;
        random_graph_make(seed, &g);
        nodes += (long)g.graph->nodes.count;
        bool ok = !is_refused(&g);
        for (int i = 0; ok && i < 4; i++)
            check_class(&g, seed, (plan_class){.exact = i % 2 == 0, .sums = i >= 2});
        refused += !ok;
        random_graph_free(&g);
    }
    print_message(
        "%llu graphs, %ld nodes, %ld refused; %ld plans run, %ld fusions, %ld in place, %ld times the cap "
        "was too low; of %ld runs %ld met a bad index, %ld were impossible\n",
        n, nodes, refused, plans, fusions, inplace, over_cap, eager_runs, bad_indices, impossible);
    assert_true((unsigned long long)refused <= n / 10);
    assert_true(impossible <= eager_runs / 5 && (n < 100 || impossible > 0));
}

static int setup(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < 2; i++) {
        kiln_cpu_options options = {.threads = 1 + 2 * i};
        CHECK_OK(kiln_cpu_executor_create(NULL, &options, &executors[i], error));
    }
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    for (int i = 0; i < 2; i++)
        CHECK_OK(kiln_executor_destroy(executors[i], error));
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_graphs)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
