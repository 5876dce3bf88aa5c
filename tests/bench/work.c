#include "work.h"

#include "ours.h"
#include "tuning.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* ---- the arithmetic --------------------------------------------------------------------------------- */

uint32_t bench_work_value(uint32_t x, int64_t steps) {
    for (int64_t i = 0; i < steps; i++)
        x = x * 1664525u + 1013904223u;
    return x;
}

int64_t bench_work_steps(double ns) {
    enum { PROBE = 100000, ROUNDS = 9 };
    static double per_step;
    static volatile uint32_t sink;
    if (per_step <= 0) {
        double best = 1e9;
        for (int k = 0; k < ROUNDS; k++) { /* the best of some: the processor is awake then */
            int64_t start = bench_now();
            sink = bench_work_value(sink, PROBE);
            double now = (double)(bench_now() - start) / (double)PROBE;
            best = now < best ? now : best;
        }
        per_step = best;
    }
    int64_t steps = (int64_t)(ns / per_step);
    return steps < 1 ? 1 : steps;
}

/* ---- the op ----------------------------------------------------------------------------------------- */

static atomic_bool watched;
static _Atomic int64_t worst;

void bench_work_watch(bool on) {
    atomic_store(&watched, on);
}

int64_t bench_work_worst(void) {
    return atomic_exchange(&worst, 0);
}

static kiln_status work_infer(kiln_infer *infer) {
    const kiln_desc *x = infer->in[0];
    if (x->dtype != KILN_I32 || x->ndim != 2 || x->dims[1].n != BENCH_WORK_LANES)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "x must be [rows, %d] i32", (int)BENCH_WORK_LANES);
    infer->out[0] = (kiln_desc){.dtype = KILN_I32, .ndim = 2, .dims = {x->dims[0], x->dims[1]}};
    return KILN_OK;
}

static int64_t work_tiles(const kiln_args *args) {
    const bench_work *work = args->attrs;
    return work->tiles;
}

static kiln_cost work_cost(const kiln_args *args) {
    const bench_work *work = args->attrs;
    return (kiln_cost){0, work->ns * kiln__cpu_tuning.ops_per_ns};
}

static void one_tile(const kiln_args *args, int64_t tile) {
    const bench_work *work = args->attrs;
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    const int64_t rows = x->ne[2];
    for (int64_t r = tile * rows / work->tiles; r < (tile + 1) * rows / work->tiles; r++) {
        const uint32_t *in = (const uint32_t *)(const void *)(x->data + r * x->nb[2]);
        uint32_t *out = (uint32_t *)(void *)(y->data + r * y->nb[2]);
        memcpy(out, in, BENCH_WORK_LANES * sizeof *out);
        out[0] = bench_work_value(in[0], work->steps);
    }
}

static kiln_status work_run(const kiln_args *args, kiln_tile *tile) {
    const bool look = atomic_load_explicit(&watched, memory_order_relaxed);
    for (int64_t t = tile->first; t < tile->last; t++) {
        const int64_t start = look ? bench_now() : 0;
        one_tile(args, t);
        if (!look)
            continue;
        const int64_t ns = bench_now() - start;
        int64_t most = atomic_load_explicit(&worst, memory_order_relaxed);
        while (ns > most && !atomic_compare_exchange_weak(&worst, &most, ns)) {
        }
    }
    return KILN_OK;
}

static const kiln_attr attr_table[] = {
    {.name = "tiles", .type = KILN_ATTR_I64, .offset = offsetof(bench_work, tiles), .preset = 1},
    {.name = "steps", .type = KILN_ATTR_I64, .offset = offsetof(bench_work, steps), .preset = 1},
    {.name = "ns", .type = KILN_ATTR_I64, .offset = offsetof(bench_work, ns), .preset = 1}};
static const kiln_kernel kernels[] = {
    {.name = "work", .tiles = work_tiles, .run = work_run, .cost = work_cost}};
static const char *const in_names[] = {"x"}, *const out_names[] = {"y"};
static const kiln_op work_op = {.name = "bench_work",
                                .text = "busy for a while",
                                .in_names = in_names,
                                .n_in_min = 1,
                                .n_in_max = 1,
                                .out_names = out_names,
                                .n_out = 1,
                                .attrs = attr_table,
                                .n_attrs = 3,
                                .attrs_size = sizeof(bench_work),
                                .infer = work_infer,
                                .accesses = kiln_access_operands,
                                .kernels = kernels,
                                .n_kernels = 1};

kiln_tensor bench_work_add(kiln_graph *g, kiln_tensor x, bench_work work) {
    kiln_tensor y = {0, 0};
    (void)kiln_node_add(g, &work_op, &x, 1, &work, &y); /* remembers its error */
    return y;
}

void bench_work_check(kiln_session *session, int64_t rows, int64_t steps) {
    kiln_plan *plan = kiln_session_plan(session);
    kiln_error error;
    int32_t *x = kiln_session_data(session, kiln_plan_tensor(plan, "x"));
    for (int64_t r = 0; r < rows; r++)
        x[r * BENCH_WORK_LANES] = (int32_t)r;
    bench_must(kiln_run(session, &error), &error);
    const int32_t *y = kiln_session_data(session, kiln_plan_tensor(plan, "y"));
    for (int64_t r = 0; r < rows; r++)
        if ((uint32_t)y[r * BENCH_WORK_LANES] != bench_work_value((uint32_t)r, steps))
            bench_fail("work: row %lld is wrong", (long long)r);
}
