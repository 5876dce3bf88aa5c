/* Sixteen threads: what a barrier costs, how unequal experts scale, whether many threads harm what one does best, and what
 * they cost at rest; over 1, 2, 4, 8 and 16 threads. Needs as many processors.
 *
 * A barrier between two regions is seen where each thread has one tile per region: n tiles of 2 us for n threads, 500 regions
 * in a row. What a region takes beyond a tile is the barrier; a tile is what n threads of our own take for the same steps
 * without one, at the same time in the round, since processors are slower when all compute. (With empty tiles a few
 * threads take all before the others have seen them: that figure is shown too, but is none of n threads.)
 *
 * Where processors are hyperthreads, no executor makes 16 of them 13 times as fast as one: what 16 threads of arithmetic alone
 * gain is shown beside. */
#include "cases.h"
#include "product.h"
#include "roof.h"
#include "work.h"

#include <math.h>
#include <stdio.h>

enum { MOST = 16, COUNTS = 5, REGIONS = 500, TILE_NS = 2000, NODES = 1000, WIDTH = 16 };

static const uint32_t counts[COUNTS] = {1, 2, 4, 8, 16};

/* ---- barriers --------------------------------------------------------------------------------------- */

static kiln_plan *bake_regions(uint32_t tiles, int64_t steps) {
    kiln_error error;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_dim dims[] = {kiln_n(tiles), kiln_n(BENCH_WORK_LANES)};
    bench_must(kiln_graph_create(NULL, &g, &error), &error);
    kiln_tensor x = kiln_input(g, "x", KILN_I32, 2, dims);
    for (int i = 0; i < REGIONS; i++)
        x = bench_work_add(g, x, (bench_work){tiles, steps, (int64_t)TILE_NS * tiles});
    kiln_output(g, x, "y");
    bench_must(kiln_bake(g, &bench_unfused, &plan, &error), &error);
    kiln_graph_destroy(g);
    return plan;
}

/* A thread's tiles of all regions, as the kernel computes them. */
static void alone(void *context, unsigned index, unsigned threads) {
    const int64_t *steps = context;
    volatile uint32_t value = index;
    (void)threads;
    for (int i = 0; i < REGIONS; i++)
        value = bench_work_value(value, *steps);
}

/* Returns the median at the most threads, ns. */
static double barriers(bench *b, const bench_options *options) {
    int64_t steps[] = {bench_work_steps(TILE_NS), 1};
    double ns = 0;
    for (int c = 1; c < COUNTS; c++) {
        const uint32_t n = counts[c];
        bench_series *beyond = bench_series_new(b, "ns", "barrier: %u tiles of 2 us, %u threads", n, n),
                     *empty = bench_series_new(b, "ns", "region of %u empty tiles, %u threads", n, n);
        bench_rig rig[2];
        kiln_plan *plan[2];
        for (int k = 0; k < 2; k++) {
            plan[k] = bake_regions(n, steps[k]);
            bench_rig_open(&rig[k], plan[k], n);
            bench_work_check(rig[k].session, n, REGIONS * steps[k]);
        }
        for (int r = 0; r < options->rounds; r++) {
            double tile = bench_together(n, alone, steps) / (double)REGIONS;
            (void)bench_run_ns(rig[0].session, 1); /* everybody is awake */
            bench_add(beyond, bench_run_ns(rig[0].session, 3) / (double)REGIONS - tile);
            (void)bench_run_ns(rig[1].session, 1);
            bench_add(empty, bench_run_ns(rig[1].session, 3) / (double)REGIONS);
        }
        bench_show(beyond);
        bench_show(empty);
        ns = bench_stats_of(beyond).median;
        for (int k = 0; k < 2; k++) {
            bench_rig_close(&rig[k]);
            kiln_plan_release(plan[k]);
        }
    }
    return ns;
}

/* ---- experts ---------------------------------------------------------------------------------------- */

/* Returns the median speed-up of the most threads; *alone: what as many threads of arithmetic gain. */
static double experts(bench *b, const bench_options *options, bench_shape shape, double *alone) {
    bench_product p;
    bench_series *us[COUNTS], *roof[COUNTS], *gain[COUNTS];
    bench_product_open(&p, shape, counts, COUNTS);
    for (int c = 0; c < COUNTS; c++) {
        us[c] = bench_series_new(b, "us", "%s, %u threads", shape.name, counts[c]);
        roof[c] =
            bench_series_new(b, "x", "%s: what %u threads of arithmetic alone gain", shape.name, counts[c]);
    }
    for (int r = 0; r < options->rounds; r++) {
        double one = bench_arithmetic_ns(1);
        for (int c = 0; c < COUNTS; c++) {
            bench_add(roof[c], counts[c] * one / bench_arithmetic_ns(counts[c]));
            (void)bench_run_ns(p.rig[c].session, 1);
            bench_add(us[c], bench_run_ns(p.rig[c].session, 3) / 1e3);
        }
    }
    for (int c = 0; c < COUNTS; c++) {
        gain[c] = bench_ratio(b, us[0], us[c], "%s: speed-up of %u threads", shape.name, counts[c]);
        bench_show(us[c]);
        bench_show(gain[c]);
        bench_show(roof[c]);
    }
    if (bench_stats_of(us[0]).median < 2000)
        bench_fail("%s: less than 2 ms of work; make the shape larger", shape.name);
    bench_product_close(&p);
    *alone = bench_stats_of(roof[COUNTS - 1]).median;
    return bench_stats_of(gain[COUNTS - 1]).median;
}

/* ---- tiny nodes, and rest --------------------------------------------------------------------------- */

static void adds(bench *b, const bench_options *options, double *ratio, double *spread, double *rest) {
    kiln_error error;
    kiln_graph *g;
    kiln_plan *plan;
    bench_rig rig[COUNTS];
    bench_series *ns[COUNTS], *x[COUNTS], *idle;
    float want[WIDTH];
    bench_must(kiln_graph_create(NULL, &g, &error), &error);
    bench_build_adds(g, NODES, WIDTH, true);
    bench_must(kiln_bake(g, &bench_unfused, &plan, &error), &error);
    for (int c = 0; c < COUNTS; c++) {
        ns[c] = bench_series_new(b, "ns/node", "chain of %d adds, %u threads", NODES, counts[c]);
        bench_rig_open(&rig[c], plan, counts[c]);
        float *in = kiln_session_data(rig[c].session, kiln_plan_tensor(plan, "c"));
        for (size_t i = 0; i < WIDTH; i++)
            in[i] = bench_value(i + 1);
        (void)bench_run_ns(rig[c].session, 1);
        const float *y = kiln_session_data(rig[c].session, kiln_plan_tensor(plan, "y"));
        if (c == 0)
            memcpy(want, y, sizeof want);
        if (memcmp(want, y, sizeof want) != 0)
            bench_fail("many: the chain gives something else with %u threads", counts[c]);
    }
    for (int r = 0; r < options->rounds; r++)
        for (int c = 0; c < COUNTS; c++) {
            (void)bench_run_ns(rig[c].session, 1);
            bench_add(ns[c], bench_run_ns(rig[c].session, 5) / (double)NODES);
        }
    for (int c = 0; c < COUNTS; c++) {
        bench_show(ns[c]);
        x[c] = bench_ratio(b, ns[c], ns[0], "chain of adds: %u threads / 1 thread", counts[c]);
    }
    bench_show(x[COUNTS - 1]);
    bench_stats one = bench_stats_of(ns[0]);
    *ratio = bench_stats_of(x[COUNTS - 1]).median;
    *spread = (one.q3 - one.q1) / one.median;
    idle = bench_series_new(b, "%", "processor time of parked pools of up to %u threads", counts[COUNTS - 1]);
    for (int i = 0; i < 3; i++) {
        (void)bench_run_ns(rig[COUNTS - 1].session, 1);
        bench_add(idle, 100 * bench_idle_share(2000000));
    }
    bench_show(idle);
    *rest = bench_stats_of(idle).max;
    for (int c = 0; c < COUNTS; c++)
        bench_rig_close(&rig[c]);
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

void bench_many(bench *b, const peer *p, const bench_options *options) {
    static const bench_shape shapes[] = {{"experts f32, 512 tokens", KILN_F32, 512, 512, 512, 8, 1},
                                         {"experts f32, 2048 tokens", KILN_F32, 2048, 1024, 512, 8, 1},
                                         {"experts q8_0, 1024 tokens", KILN_Q8_0, 1024, 1024, 1024, 8, 1}};
    double ratio, spread, rest, gain[3], alone[3], least = INFINITY;
    puts("\nmany: 1 to 16 threads");
    if (b->cpus < MOST) {
        printf("  skipped: it needs %d processors, and here are %u\n", (int)MOST, b->cpus);
        return;
    }
    peer_rest(p);
    double barrier = barriers(b, options);
    for (int i = 0; i < 3; i++) {
        gain[i] = experts(b, options, shapes[i], &alone[i]);
        least = fmin(least, gain[i]);
    }
    adds(b, options, &ratio, &spread, &rest);
    bench_bar_add(
        b, "10", barrier <= 1500 && least >= 13 && ratio <= 1 + spread && rest < 0.1,
        "16 threads: barrier <= 1.5 us; experts >= 13x; tiny chain no slower than 1; parked < 0.1%",
        "barrier %.2f us; experts %.1fx, %.1fx, %.1fx (arithmetic alone %.1fx, %.1fx, %.1fx); chain "
        "%.3fx; %.3f%%",
        barrier / 1e3, gain[0], gain[1], gain[2], alone[0], alone[1], alone[2], ratio, rest);
}
