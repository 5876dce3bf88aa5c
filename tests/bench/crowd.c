/* More threads than processors, and others who want them too: 8 threads on two processors beside a process that never
 * rests, against 2 threads under the same load. The work is like a decode step: 24 layers, each a region worth sharing and a
 * few for one thread. And what a parked pool costs: processor time while nothing is submitted for seconds.
 *
 * Where there are more processors, all of this is kept to two of them (Linux only; elsewhere it says that it was not). */
#define _GNU_SOURCE /* sched_setaffinity */

#include "cases.h"
#include "ours.h"
#include "work.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 64, LAYERS = 24, SERIAL = 5, LOADS = 2 };

/* ---- two processors ----------------------------------------------------------------------------------- */

#ifdef __linux__
typedef cpu_set_t processors;

/* The first two that this thread may run on, for it and for what it starts from now on. False: it may run on one only. */
static bool keep_to_two(processors *before) {
    processors two;
    int n = 0;
    CPU_ZERO(&two);
    if (sched_getaffinity(0, sizeof *before, before) != 0)
        bench_fail("the system does not say which processors there are");
    for (size_t i = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET(i, before)) {
            CPU_SET(i, &two);
            n++;
        }
    return n == 2 && sched_setaffinity(0, sizeof two, &two) == 0;
}

static void keep_to_all(const processors *before) {
    (void)sched_setaffinity(0, sizeof *before, before);
}
#else
typedef int processors;

static bool keep_to_two(processors *before) {
    *before = 0;
    if (sysconf(_SC_NPROCESSORS_ONLN) > 2)
        puts("  (not kept to two processors: this system has no call for that)");
    return sysconf(_SC_NPROCESSORS_ONLN) >= 2;
}

static void keep_to_all(const processors *before) {
    (void)before;
}
#endif

/* ---- others ----------------------------------------------------------------------------------------- */

/* A process that computes until it is killed, or its parent is gone. */
static pid_t busy_start(void) {
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        bench_fail("the system refused a process");
    if (child > 0)
        return child;
    volatile unsigned count = 0; /* nothing here but what is allowed behind fork in a process with threads */
    while (++count % (1u << 20) != 0 || getppid() == parent) {
    }
    _exit(0);
}

static void busy_stop(pid_t child) {
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0) {
    }
}

/* ---- a step ----------------------------------------------------------------------------------------- */

/* *steps: what a row goes through. */
static kiln_plan *bake_layers(int64_t *steps) {
    kiln_error error;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_dim dims[] = {kiln_n(ROWS), kiln_n(BENCH_WORK_LANES)};
    const int64_t shared = bench_work_steps(3000), alone = bench_work_steps(10);
    *steps = LAYERS * (shared + SERIAL * alone);
    bench_must(kiln_graph_create(NULL, &g, &error), &error);
    kiln_tensor x = kiln_input(g, "x", KILN_I32, 2, dims);
    for (int i = 0; i < LAYERS; i++) {
        x = bench_work_add(g, x, (bench_work){ROWS, shared, 3000 * ROWS});
        for (int k = 0; k < SERIAL; k++)
            x = bench_work_add(g, x, (bench_work){1, alone, 10 * ROWS});
    }
    kiln_output(g, x, "y");
    bench_must(kiln_bake(g, &bench_unfused, &plan, &error), &error);
    kiln_graph_destroy(g);
    return plan;
}

/* Steps in a second, over as many slices of the system's as make a mean. */
static double throughput(kiln_session *session) {
    enum { LONG = 250000000 };
    kiln_error error;
    int n = 0;
    int64_t start = bench_now(), now;
    do {
        bench_must(kiln_run(session, &error), &error);
        n++;
        now = bench_now();
    } while (now - start < LONG);
    return 1e9 * n / (double)(now - start);
}

void bench_crowd(bench *b, const peer *p, const bench_options *options) {
    static const uint32_t threads[] = {2, 8};
    pid_t busy[LOADS];
    processors before;
    bench_rig rig[2];
    bench_series *ratio[LOADS + 1], *idle;
    puts("\ncrowd: 8 threads against 2, while other processes compute");
    if (!keep_to_two(&before)) {
        puts("  skipped: one processor");
        return;
    }
    peer_rest(p);
    int64_t steps;
    kiln_plan *plan = bake_layers(&steps);
    for (int i = 0; i < 2; i++) {
        bench_rig_open(&rig[i], plan, threads[i]);
        bench_work_check(rig[i].session, ROWS, steps);
    }
    for (int load = 0; load <= LOADS; load++) {
        bench_series *s[2];
        if (load > 0)
            busy[load - 1] = busy_start();
        for (int i = 0; i < 2; i++)
            s[i] = bench_series_new(b, "steps/s", "%u threads beside %d busy process%s", threads[i], load,
                                    load == 1 ? "" : "es");
        for (int r = 0; r < options->rounds; r++)
            for (int i = 0; i < 2; i++)
                bench_add(s[i], throughput(rig[i].session));
        ratio[load] = bench_ratio(b, s[1], s[0], "8 threads / 2 threads beside %d busy process%s", load,
                                  load == 1 ? "" : "es");
        bench_show(s[0]);
        bench_show(s[1]);
        bench_show(ratio[load]);
    }
    for (int load = 0; load < LOADS; load++)
        busy_stop(busy[load]);
    idle = bench_series_new(b, "%", "processor time of parked pools of 2 and 8 threads");
    for (int i = 0; i < 3; i++) {
        bench_work_check(rig[1].session, ROWS, steps);
        bench_add(idle, 100 * bench_idle_share(2000000));
    }
    bench_show(idle);
    for (int i = 0; i < 2; i++)
        bench_rig_close(&rig[i]);
    kiln_plan_release(plan);
    keep_to_all(&before);
    double share = bench_stats_of(ratio[1]).median, rest = bench_stats_of(idle).max;
    bench_bar_add(
        b, "8", share >= 0.8 && rest < 0.1,
        "8 threads on 2 processors >= 0.8x of 2 threads beside a busy process; parked < 0.1% of one",
        "%.2fx; %.3f%%", share, rest);
}
