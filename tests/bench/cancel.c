/* How soon a cancelled run is over: from kiln_cancel to the fence, at random moments, with tiles of up to 100 us. The run is
 * a chain of regions worth sharing (64 tiles) and of runs of regions with one tile.
 *
 *     1 thread             somebody waits (and computes), another thread cancels
 *     2 threads, waiting   the same; the one who cancels makes three on two processors
 *     2 threads            nobody waits before it is cancelled: the worker computes alone
 *
 * The end is when kiln_wait returns to the canceller, who was asleep in it or computed. The worst tile is measured, too:
 * what the system takes away from a thread within a tile is part of both figures. */
#include "cases.h"
#include "ours.h"
#include "work.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum {
    ROWS = 64,
    LAYERS = 20,
    SERIAL = 16,
    TILE_NS = 70000 /* when measured; later the processor may be slower */
};

static kiln_plan *bake_chain(void) {
    kiln_error error;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_dim dims[] = {kiln_n(ROWS), kiln_n(BENCH_WORK_LANES)};
    const int64_t steps = bench_work_steps(TILE_NS), one = bench_work_steps((double)TILE_NS / (double)ROWS);
    bench_must(kiln_graph_create(NULL, &g, &error), &error);
    kiln_tensor x = kiln_input(g, "x", KILN_I32, 2, dims);
    for (int i = 0; i < LAYERS; i++) {
        x = bench_work_add(g, x, (bench_work){ROWS, steps, (int64_t)TILE_NS * ROWS});
        for (int k = 0; k < SERIAL; k++)
            x = bench_work_add(g, x, (bench_work){1, one, TILE_NS});
    }
    kiln_output(g, x, "y");
    bench_must(kiln_bake(g, &bench_unfused, &plan, &error), &error);
    kiln_graph_destroy(g);
    return plan;
}

/* ---- one who waits ---------------------------------------------------------------------------------- */

typedef struct waiter {
    pthread_t thread;
    kiln_fence fence;
    atomic_int turn; /* 1: there is a fence to wait for; 2: leave; 0: the fence is done */
} waiter;

static void *waiter_main(void *context) {
    waiter *w = context;
    kiln_error error;
    for (;;) {
        int turn = atomic_load_explicit(&w->turn, memory_order_acquire);
        if (turn == 2)
            return NULL;
        if (turn == 0) {
            bench_sleep_us(20);
            continue;
        }
        kiln_status status = kiln_wait(w->fence, -1, &error);
        if (status != KILN_ERROR_CANCELLED)
            bench_fail("cancel: the run ended with %s", kiln_status_name(status));
        atomic_store_explicit(&w->turn, 0, memory_order_release);
    }
}

/* ---- samples ---------------------------------------------------------------------------------------- */

static uint64_t seed = 88172645463325252u;

static int64_t below(int64_t n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (int64_t)(seed % (uint64_t)n);
}

/* Microseconds from the call to the fence. */
static double sample(kiln_session *session, waiter *w) {
    kiln_error error;
    kiln_fence fence;
    bench_must(kiln_submit(session, &fence, &error), &error);
    if (w != NULL) {
        w->fence = fence;
        atomic_store_explicit(&w->turn, 1, memory_order_release);
    }
    bench_sleep_us(500 + below(4000));
    int64_t start = bench_now();
    kiln_cancel(fence);
    kiln_status status = kiln_wait(fence, -1, &error);
    double us = (double)(bench_now() - start) / 1e3;
    if (status != KILN_ERROR_CANCELLED)
        bench_fail("cancel: the run ended with %s", kiln_status_name(status));
    while (w != NULL && atomic_load_explicit(&w->turn, memory_order_acquire) != 0)
        sched_yield();
    return us;
}

void bench_cancel(bench *b, const peer *p, const bench_options *options) {
    static const struct {
        const char *name;
        uint32_t threads;
        bool waiting;
    } kinds[] = {{"1 thread, waiting", 1, true}, {"2 threads, waiting", 2, true}, {"2 threads", 2, false}};
    const int samples = options->rounds * 1000 / BENCH_ROUNDS;
    double p99 = 0, tile = 0, typical = 0;
    puts("\ncancel: from the call to the fence");
    if (b->cpus < 2) {
        puts("  skipped: one processor");
        return;
    }
    peer_rest(p);
    kiln_plan *plan = bake_chain();
    bench_work_watch(true);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        waiter w = {.turn = 0};
        bench_rig rig;
        bench_rig_open(&rig, plan, kinds[k].threads);
        if (kinds[k].waiting && pthread_create(&w.thread, NULL, waiter_main, &w) != 0)
            bench_fail("the system refused a thread");
        (void)bench_work_worst();
        bench_series *s = bench_series_new(b, "us", "cancel to fence: %s", kinds[k].name),
                     *worst = bench_series_new(b, "us", "the longest tile of each run: %s", kinds[k].name);
        for (int i = 0; i < samples; i++) {
            bench_add(s, sample(rig.session, kinds[k].waiting ? &w : NULL));
            bench_add(worst, (double)bench_work_worst() / 1e3);
        }
        bench_show(s);
        bench_show(worst);
        p99 = fmax(p99, bench_stats_of(s).p99);
        tile = fmax(tile, bench_stats_of(worst).max);
        typical = fmax(typical, bench_stats_of(worst).median);
        if (kinds[k].waiting) {
            atomic_store_explicit(&w.turn, 2, memory_order_release);
            pthread_join(w.thread, NULL);
        }
        bench_rig_close(&rig);
    }
    bench_work_watch(false);
    kiln_plan_release(plan);
    bench_bar_add(b, "9", p99 < 1000, "99th percentile < 1 ms with tiles of <= 100 us",
                  "%.2f ms, %d cancels of each kind; longest tile of a run %.0f us, the worst of all %.0f us",
                  p99 / 1e3, samples, typical, tile);
}
