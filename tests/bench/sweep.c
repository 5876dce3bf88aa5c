/* make bench-tuning: measures what the executor's numbers in kernels/tuning.h stand for, and prints each with the curve it
 * comes from and what it is there now. The executor in this program is built with these numbers as a variable
 * (variable_tuning.h); sessions take them when they are made.
 *
 *     record_ns     a record of a chain of tiny adds, replayed on one thread
 *     bytes_per_ns  f32 products of one token on one thread, whose weights fit the second cache: that is where regions
 *                   bound by bytes spend their time. Adds of growing length are shown for comparison
 *     ops_per_ns    an f32 product of 32 tokens on one thread
 *     share_ns      the same work in regions shared and not, both with everybody awake: the least work from which sharing
 *                   is never slower
 *     claim_ns      a region of 200 us in tiles of 50 ns, claimed in portions of different length
 *     wake_ns       one region of two long tiles after a sleep: what it takes longer than with everybody awake */
#include "bench.h"
#include "product.h"
#include "roof.h"
#include "variable_tuning.h"
#include "work.h"

#include <stdio.h>

kiln__tuning bench_tuning;

enum { ROUNDS = 15 };

static void reset(void) {
    bench_tuning = bench_fixed_tuning;
}

static void suggest(const char *name, double value, int64_t now) {
    printf("suggested: %-13s %8.3g   (now %lld)\n", name, value, (long long)now);
}

/* ---- one thread: what computing costs --------------------------------------------------------------- */

static void graph_new(kiln_graph **g) {
    kiln_error error;
    bench_must(kiln_graph_create(NULL, g, &error), &error);
}

static kiln_plan *bake_and_drop(kiln_graph *g) {
    kiln_error error;
    kiln_plan *plan;
    bench_must(kiln_bake(g, &bench_unfused, &plan, &error), &error);
    kiln_graph_destroy(g);
    return plan;
}

/* Nanoseconds per node of a chain of `n` adds of `width` floats. */
static double add_ns(bench *b, int n, int width, const char *unit) {
    kiln_graph *g;
    bench_rig rig;
    graph_new(&g);
    bench_build_adds(g, n, width, true);
    kiln_plan *plan = bake_and_drop(g);
    bench_rig_open(&rig, plan, 1);
    bench_series *s = bench_series_new(b, "ns", "%d adds of %s, 1 thread, each", n, unit);
    (void)bench_run_ns(rig.session, 1);
    for (int r = 0; r < ROUNDS; r++)
        bench_add(s, bench_run_ns(rig.session, 2) / n);
    bench_show(s);
    bench_rig_close(&rig);
    kiln_plan_release(plan);
    return bench_stats_of(s).median;
}

static void records(bench *b) {
    suggest("record_ns", add_ns(b, 1000, 16, "16 floats"), bench_fixed_tuning.record_ns);
}

static void adds(bench *b) {
    for (int kib = 4; kib <= 16384; kib *= 4) {
        char unit[32];
        const int width = kib * 1024 / 4; /* of each of three operands */
        snprintf(unit, sizeof unit, "3 x %d KiB", kib);
        double rate = 3.0 * kib * 1024 / add_ns(b, kib >= 1024 ? 8 : 64, width, unit);
        printf("    %8d KiB in all: %.1f bytes/ns\n", 3 * kib, rate);
    }
}

/* Two products with weights of 256 KiB each; of one token, bytes count, of many, operations. */
static void products(bench *b) {
    static const uint32_t one[] = {1};
    double most = 0, bytes = 0;
    for (int64_t tokens = 1; tokens <= 64; tokens *= 4) {
        const bench_shape shape = {"f32 product", KILN_F32, tokens, 256, 256, 0, 0};
        const double macs = 2.0 * 256 * 256 * (double)tokens;
        bench_product p;
        bench_product_open(&p, shape, one, 1);
        bench_series *s = bench_series_new(b, "macs/ns", "two f32 products [256, 256], %lld tokens, 1 thread",
                                           (long long)tokens);
        for (int r = 0; r < ROUNDS; r++)
            bench_add(s, macs / bench_run_ns(p.rig[0].session, 3));
        bench_show(s);
        const double median = bench_stats_of(s).median;
        most = median > most ? median : most;
        bytes = tokens == 1 ? median * (double)sizeof(float) : bytes;
        bench_product_close(&p);
    }
    suggest("bytes_per_ns", bytes, bench_fixed_tuning.bytes_per_ns);
    suggest("ops_per_ns", most, bench_fixed_tuning.ops_per_ns);
}

/* ---- two threads ------------------------------------------------------------------------------------ */

/* `n` regions of `tiles` tiles of `ns` each, one behind the other. */
static kiln_plan *bake_regions(int n, int64_t tiles, double ns) {
    kiln_graph *g;
    kiln_dim dims[] = {kiln_n(tiles), kiln_n(BENCH_WORK_LANES)};
    graph_new(&g);
    kiln_tensor x = kiln_input(g, "x", KILN_I32, 2, dims);
    for (int i = 0; i < n; i++)
        x = bench_work_add(g, x, (bench_work){tiles, bench_work_steps(ns), (int64_t)(ns * (double)tiles)});
    kiln_output(g, x, "y");
    return bake_and_drop(g);
}

/* Regions of growing length, shared and not. */
static void share(bench *b) {
    enum { REGIONS = 400, TILES = 16 };
    static const double us[] = {0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16};
    double from = -1;
    for (size_t i = 0; i < sizeof us / sizeof *us; i++) {
        kiln_plan *plan = bake_regions(REGIONS, TILES, us[i] * 1e3 / (double)TILES);
        bench_rig rig[2];
        bench_series *s[2];
        for (int k = 0; k < 2; k++) {
            bench_tuning.share_ns = k == 0 ? INT64_MAX : 0;
            bench_rig_open(&rig[k], plan, 2);
            s[k] =
                bench_series_new(b, "ns", "region of %.2f us, %s", us[i], k == 0 ? "alone" : "shared by 2");
        }
        for (int r = 0; r < ROUNDS; r++)
            for (int k = 0; k < 2; k++) {
                (void)bench_run_ns(rig[k].session, 1);
                bench_add(s[k], bench_run_ns(rig[k].session, 2) / (double)REGIONS);
            }
        bench_series *ratio = bench_ratio(b, s[1], s[0], "region of %.2f us: shared / alone", us[i]);
        bench_show(s[0]);
        bench_show(s[1]);
        bench_show(ratio);
        if (bench_stats_of(ratio).median > 1)
            from = -1;
        else if (from < 0)
            from = us[i] * 1e3;
        for (int k = 0; k < 2; k++)
            bench_rig_close(&rig[k]);
        kiln_plan_release(plan);
    }
    reset();
    suggest("share_ns", from, bench_fixed_tuning.share_ns);
}

static void claims(bench *b) {
    enum { REGIONS = 20, TILES = 4000, TILE_NS = 50, MOST = 8 };
    kiln_plan *plan = bake_regions(REGIONS, TILES, TILE_NS);
    bench_rig rig[MOST];
    bench_series *s[MOST];
    double best = 0;
    int chosen = 0;
    for (int i = 0; i < MOST; i++) {
        bench_tuning.claim_ns = INT64_C(125) << i;
        bench_rig_open(&rig[i], plan, 2);
        s[i] = bench_series_new(b, "us", "region of 200 us, 2 threads, claims of %lld ns", 125LL << i);
    }
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < MOST; i++) {
            (void)bench_run_ns(rig[i].session, 1);
            bench_add(s[i], bench_run_ns(rig[i].session, 2) / (double)REGIONS / 1e3);
        }
    for (int i = 0; i < MOST; i++) {
        double median = bench_stats_of(s[i]).median;
        bench_show(s[i]);
        best = i == 0 || median < best ? median : best;
        bench_rig_close(&rig[i]);
    }
    while (bench_stats_of(s[chosen]).median > 1.01 * best) /* the shortest that is within 1% of the best */
        chosen++;
    kiln_plan_release(plan);
    reset();
    suggest("claim_ns", (double)(125LL << chosen), bench_fixed_tuning.claim_ns);
}

static void wakes(bench *b) {
    enum { TILE_NS = 500000, SAMPLES = 60 };
    kiln_plan *plan = bake_regions(1, 2, TILE_NS);
    bench_rig rig;
    bench_rig_open(&rig, plan, 2);
    bench_series *awake = bench_series_new(b, "us", "two tiles of 500 us, 2 threads, awake"),
                 *after = bench_series_new(b, "us", "two tiles of 500 us, 2 threads, 2 ms later"),
                 *wake = bench_series_new(b, "us", "waking");
    for (int i = 0; i < SAMPLES; i++) {
        (void)bench_run_ns(rig.session, 1);
        double quick = bench_run_ns(rig.session, 1) / 1e3;
        bench_sleep_us(2000);
        double slow = bench_run_ns(rig.session, 1) / 1e3;
        bench_add(awake, quick);
        bench_add(after, slow);
        bench_add(wake, slow - quick);
    }
    bench_show(awake);
    bench_show(after);
    bench_show(wake);
    bench_rig_close(&rig);
    kiln_plan_release(plan);
    suggest("wake_ns", bench_stats_of(wake).median * 1e3, bench_fixed_tuning.wake_ns);
}

int main(void) {
    static bench b;
    reset();
    bench_begin(&b, "kiln bench-tuning");
    records(&b);
    adds(&b);
    products(&b);
    if (b.cpus < 2) {
        puts("skipped: share_ns, claim_ns and wake_ns need two processors");
    } else {
        share(&b);
        claims(&b);
        wakes(&b);
    }
    return bench_finish(&b, NULL) ? 0 : 1;
}
