/* How soon a run of one small node is over: with everybody awake, and after the host was asleep for a while. */
#include "cases.h"
#include "ours.h"

#include <stdio.h>

enum { WIDTH = 16, AWAKE = 2000 };

typedef struct theirs {
    peer_context *context;
    peer_buffer *buffer;
    peer_graph *graph;
    peer_allocr *allocr;
} theirs;

static void theirs_open(const peer *p, theirs *t) {
    float v[WIDTH] = {0};
    if (p == NULL)
        return;
    t->context = p->init((peer_params){p->tensor_overhead() * 8 + p->graph_overhead(16, false), NULL, true});
    peer_tensor *a = p->new_1d(t->context, PEER_F32, WIDTH), *c = p->new_1d(t->context, PEER_F32, WIDTH);
    t->buffer = p->alloc_tensors(t->context, p->backend[1]);
    p->set(a, v, 0, sizeof v);
    p->set(c, v, 0, sizeof v);
    t->graph = p->new_graph(t->context, 16, false);
    p->expand(t->graph, p->add(t->context, a, c));
    t->allocr = p->allocr_new(p->buffer_type(p->backend[2]));
    if (!p->allocr_alloc(t->allocr, t->graph))
        bench_fail("the peer could not allocate its graph");
}

static void theirs_close(const peer *p, theirs *t) {
    if (p == NULL)
        return;
    peer_rest(p);
    p->allocr_free(t->allocr);
    p->buffer_free(t->buffer);
    p->free(t->context);
}

/* One sample of each side for a gap: both sleep before they are measured. */
static void sample(kiln_session *session, const peer *p, const theirs *t, int64_t gap_us, bench_series *us,
                   bench_series *them) {
    kiln_error error;
    const int reps = gap_us == 0 ? AWAKE : 1;
    if (gap_us > 0)
        bench_sleep_us(gap_us);
    else
        bench_must(kiln_run(session, &error), &error);
    int64_t start = bench_now();
    for (int i = 0; i < reps; i++)
        bench_must(kiln_run(session, &error), &error);
    bench_add(us, (double)(bench_now() - start) / reps);
    if (p == NULL)
        return;
    if (gap_us > 0) {
        p->compute(p->backend[2], t->graph); /* awake, then asleep like ours */
        bench_sleep_us(gap_us);
    } else {
        p->compute(p->backend[2], t->graph);
    }
    start = bench_now();
    for (int i = 0; i < reps; i++)
        p->compute(p->backend[2], t->graph);
    bench_add(them, (double)(bench_now() - start) / reps);
    if (gap_us == 0)
        peer_rest(p);
}

void bench_wake(bench *b, const peer *p, const bench_options *options) {
    static const int64_t gaps[] = {0, 1000, 20000, 200000};
    static const int most[] = {0, 1000, 300, 120}; /* samples, so that the 99th percentile is one */
    bench_ours o;
    theirs t;
    bool ok = true;
    char figures[160] = "";
    puts("\nwake: one node, 2 threads, after the host slept");
    bench_ours_open(&o, 1, WIDTH, true);
    theirs_open(p, &t);
    for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        bench_series *us = bench_series_new(b, "ns", "one node after %lld us: kiln", (long long)gaps[g]);
        bench_series *them = bench_series_new(b, "ns", "one node after %lld us: ggml", (long long)gaps[g]);
        const int rounds = gaps[g] == 0 ? options->rounds : most[g] * options->rounds / BENCH_ROUNDS;
        for (int r = 0; r < rounds; r++)
            sample(o.session[2], p, &t, gaps[g], us, them);
        bench_show(us);
        if (p == NULL)
            continue;
        bench_show(them);
        bench_stats x = bench_stats_of(us), y = bench_stats_of(them);
        ok = ok && x.median <= 0.5 * y.median && (gaps[g] == 0 || x.p99 <= y.median);
        size_t at = strlen(figures);
        snprintf(figures + at, sizeof figures - at, "%s%s %.3fx", g ? ", " : "",
                 (const char *[]){"awake", "1 ms", "20 ms", "200 ms"}[g], x.median / y.median);
    }
    if (p != NULL)
        bench_bar_add(b, "3", ok, "median <= 0.5x of ggml's, p99 after sleep no worse than its median", "%s",
                      figures);
    theirs_close(p, &t);
    bench_ours_close(&o);
}
