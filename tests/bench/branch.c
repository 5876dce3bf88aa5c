/* What a second thread brings for regions of unequal matrix products: a branch of two, and experts of which one has 90% of
 * the rows. Bound by arithmetic (several tokens): how much faster. Bound by memory (one token, weights larger than the
 * caches): how near to what two threads of our own read at the time, as a share of it.
 *
 * Every round measures the machine right before the products and behind them, in several ways of reading; its roof is the
 * fastest of these, each taken as the mean of both. Weights are cold because what is read in turn is four times as large as the
 * last cache: one branch alone, and all experts together, of which others are chosen each time. */
#include "cases.h"
#include "product.h"
#include "roof.h"

#include <math.h>
#include <stdio.h>

static const uint32_t threads[] = {1, 2};

static size_t largest_cache(void) {
    size_t most = 32u << 20, size;
    char unit;
    FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (f != NULL && fscanf(f, "%zu%c", &size, &unit) == 2) {
        size = unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : size;
        most = size > most ? size : most;
    }
    if (f != NULL)
        fclose(f);
    return most;
}

/* ---- bound by arithmetic ---------------------------------------------------------------------------- */

/* Returns the median speed-up. */
static double computing(bench *b, const bench_options *options, bench_shape shape) {
    enum { REPS = 5 };
    bench_product p;
    bench_product_open(&p, shape, threads, 2);
    bench_series *one = bench_series_new(b, "us", "%s, 1 thread", shape.name),
                 *two = bench_series_new(b, "us", "%s, 2 threads", shape.name),
                 *roof = bench_series_new(b, "x", "%s: what 2 threads of arithmetic alone gain", shape.name);
    for (int r = 0; r < options->rounds; r++) {
        double alone = bench_arithmetic_ns(1);
        bench_add(roof, 2 * alone / bench_arithmetic_ns(2));
        for (uint32_t i = 0; i < 2; i++) {
            (void)bench_run_ns(p.rig[i].session, 1);
            bench_add(i == 0 ? one : two, bench_run_ns(p.rig[i].session, REPS) / 1e3);
        }
    }
    bench_series *gain = bench_ratio(b, one, two, "%s: speed-up", shape.name);
    bench_show(one);
    bench_show(two);
    bench_show(gain);
    bench_show(roof);
    if (bench_stats_of(one).median < 200)
        bench_fail("%s: less than 200 us of work; make the shape larger", shape.name);
    bench_product_close(&p);
    return bench_stats_of(gain).median;
}

/* ---- bound by memory -------------------------------------------------------------------------------- */

/* Nanoseconds of a run, each with experts of its own; the first is to wake the workers, as the layers before would. */
static double run_cold(bench_product *p, int rig, int64_t *next) {
    enum { REPS = 3 };
    double ns = 0;
    for (int i = 0; i <= REPS; i++, *next += p->shape.chosen) {
        (void)bench_product_choose(p, *next);
        double now = bench_run_ns(p->rig[rig].session, 1);
        ns += i > 0 ? now : 0;
    }
    return ns / (double)REPS;
}

/* Adds to ns[way] how long `n` threads of our own take at present. */
static void read_all_ways(bench_product *p, unsigned n, int64_t *next, double ns[BENCH_READ_WAYS]) {
    for (unsigned way = 0; way < BENCH_READ_WAYS; way++, *next += p->shape.chosen)
        ns[way] += bench_read_ns(bench_product_choose(p, *next), bench_product_read(p), n, way);
}

/* Returns the median share of the round's roof. */
static double reading(bench *b, const bench_options *options, bench_shape shape) {
    bench_product p;
    bench_series *rate[3], *roof[3], *share[3];
    bench_product_open(&p, shape, threads, 2);
    for (int n = 1; n <= 2; n++) {
        rate[n] = bench_series_new(b, "GB/s", "%s, %d thread%s", shape.name, n, n == 1 ? "" : "s");
        roof[n] = bench_series_new(b, "GB/s", "%s: what %d thread%s read", shape.name, n, n == 1 ? "" : "s");
    }
    const double bytes = (double)bench_product_read(&p);
    int64_t next = 0;
    for (int r = 0; r < options->rounds; r++)
        for (int n = 1; n <= 2; n++) {
            double ways[BENCH_READ_WAYS] = {0}, quickest = INFINITY;
            read_all_ways(&p, (unsigned)n, &next, ways);
            const double ns = run_cold(&p, n - 1, &next);
            read_all_ways(&p, (unsigned)n, &next, ways);
            for (int way = 0; way < BENCH_READ_WAYS; way++)
                quickest = fmin(quickest, ways[way] / 2);
            bench_add(rate[n], bytes / ns);
            bench_add(roof[n], bytes / quickest);
        }
    for (int n = 1; n <= 2; n++) {
        share[n] = bench_ratio(b, rate[n], roof[n], "%s: share of what %d thread%s read", shape.name, n,
                               n == 1 ? "" : "s");
        bench_show(rate[n]);
        bench_show(roof[n]);
        bench_show(share[n]);
    }
    bench_product_close(&p);
    return bench_stats_of(share[2]).median;
}

void bench_branch(bench *b, const peer *p, const bench_options *options) {
    static const bench_shape compute[] = {
        {"branch f32, 32 tokens", KILN_F32, 32, 512, 512, 0, 0},
        {"branch q8_0, 64 tokens", KILN_Q8_0, 64, 1024, 1024, 0, 0},
        {"experts f32, 64 tokens", KILN_F32, 64, 512, 512, 8, 1},
        {"experts q8_0, 128 tokens", KILN_Q8_0, 128, 1024, 1024, 8, 1},
    };
    const int64_t cold = (int64_t)(4 * largest_cache()); /* at least 128 MiB */
    const bench_shape memory[] = {
        {"branch f32, 1 token", KILN_F32, 1, cold / 2 / (4096 * 4), 4096, 0, 0},
        {"branch q8_0, 1 token", KILN_Q8_0, 1, cold / 2 / (4096 / 32 * 34), 4096, 0, 0},
        {"experts q8_0, 1 token, 8 of many", KILN_Q8_0, 1, 1408, 2048,
         cold / (1408 * 2048 / 32 * 34) / 8 * 8 + 8, 8},
    };
    double slowest = INFINITY, least = INFINITY;
    puts("\nbranch: two products side by side; experts, one of which has 90% of the rows");
    (void)p;
    if (b->cpus < 2) {
        puts("  skipped: one processor");
        return;
    }
    for (size_t i = 0; i < sizeof compute / sizeof *compute; i++)
        slowest = fmin(slowest, computing(b, options, compute[i]));
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        least = fmin(least, reading(b, options, memory[i]));
    bench_bar_add(b, "6", slowest >= 1.85 && least >= 0.95,
                  "speed-up >= 1.85 where arithmetic binds, >= 95% of the 2-thread roof where memory does",
                  "at least %.2fx, at least %.0f%% of the roof", slowest, 100 * least);
}
