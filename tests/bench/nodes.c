/* What a node costs: tiny adds (16 floats), as a chain and side by side; replayed, built anew as ggml's users do for every
 * token, and called again in the capture style. */
#include "cases.h"

#include "ours.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 1000, WIDTH = 16, REPS = 5, MOST = 4 };

typedef struct theirs {
    peer_context *inputs, *graph_context;
    peer_buffer *buffer;
    peer_tensor *a, *c, *last, **many;
    peer_graph *graph;
    peer_allocr *allocr;
    void *memory;
    size_t size;
} theirs;

static void theirs_build(const peer *p, theirs *t, bool chain) {
    t->graph_context = p->init((peer_params){t->size, t->memory, true});
    t->graph = p->new_graph(t->graph_context, NODES + 8, false);
    peer_tensor *x = t->a;
    for (int i = 0; i < NODES; i++) {
        x = p->add(t->graph_context, chain ? x : t->many[i], t->c);
        if (!chain)
            p->expand(t->graph, x);
    }
    p->expand(t->graph, x);
    t->last = x;
}

static void theirs_open(const peer *p, theirs *t, bool chain) {
    float v[WIDTH];
    memset(t, 0, sizeof *t);
    if (p == NULL)
        return;
    t->inputs = p->init((peer_params){p->tensor_overhead() * (NODES + 8), NULL, true});
    t->a = p->new_1d(t->inputs, PEER_F32, WIDTH);
    t->c = p->new_1d(t->inputs, PEER_F32, WIDTH);
    t->many = calloc(NODES, sizeof *t->many);
    t->size = p->tensor_overhead() * NODES + p->graph_overhead(NODES + 8, false) + 4096;
    t->memory = malloc(t->size);
    if (t->many == NULL || t->memory == NULL)
        bench_fail("out of memory");
    for (int i = 0; !chain && i < NODES; i++)
        t->many[i] = p->new_1d(t->inputs, PEER_F32, WIDTH);
    t->buffer = p->alloc_tensors(t->inputs, p->backend[1]);
    for (size_t k = 0; k < WIDTH; k++)
        v[k] = bench_value(k);
    p->set(t->a, v, 0, sizeof v);
    p->set(t->c, v, 0, sizeof v);
    for (size_t i = 0; !chain && i < NODES; i++) {
        for (size_t k = 0; k < WIDTH; k++)
            v[k] = bench_value(i * WIDTH + k);
        p->set(t->many[i], v, 0, sizeof v);
    }
    theirs_build(p, t, chain);
    t->allocr = p->allocr_new(p->buffer_type(p->backend[1]));
    if (!p->allocr_alloc(t->allocr, t->graph))
        bench_fail("the peer could not allocate its graph");
}

static void theirs_close(const peer *p, theirs *t) {
    if (p == NULL)
        return;
    p->allocr_free(t->allocr);
    p->free(t->graph_context);
    p->buffer_free(t->buffer);
    p->free(t->inputs);
    free(t->many);
    free(t->memory);
}

/* Both sides must give what adding in order gives, to the bit. */
static void check(const bench_ours *o, const peer *p, const theirs *t, bool chain) {
    float a[WIDTH], c[WIDTH], want[WIDTH], got[WIDTH];
    kiln_error error;
    for (size_t k = 0; k < WIDTH; k++) {
        c[k] = bench_value(k);
        a[k] = bench_value(chain ? k : (size_t)(NODES - 1) * WIDTH + k);
        want[k] = a[k];
        for (int i = 0; i < (chain ? NODES : 1); i++)
            want[k] += c[k];
    }
    for (int threads = 1; threads <= 2; threads++) {
        bench_must(kiln_run(o->session[threads], &error), &error);
        memcpy(got, kiln_session_data(o->session[threads], kiln_plan_tensor(o->plan, "y")), sizeof got);
        if (memcmp(got, want, sizeof want) != 0)
            bench_fail("our result with %d threads is wrong: %g, want %g", threads, (double)got[1],
                       (double)want[1]);
        if (p == NULL)
            continue;
        p->compute(p->backend[threads], t->graph);
        p->get(t->last, got, 0, sizeof got);
        if (memcmp(got, want, sizeof want) != 0)
            bench_fail("the peer's result with %d threads is %g, want %g", threads, (double)got[1],
                       (double)want[1]);
    }
}

static double time_ours(const bench_ours *o, int threads) {
    kiln_error error;
    bench_must(kiln_run(o->session[threads], &error), &error);
    int64_t start = bench_now();
    for (int i = 0; i < REPS; i++)
        bench_must(kiln_run(o->session[threads], &error), &error);
    return (double)(bench_now() - start) / (double)REPS / (double)NODES;
}

static double time_theirs(const peer *p, const theirs *t, int threads) {
    p->compute(p->backend[threads], t->graph);
    int64_t start = bench_now();
    for (int i = 0; i < REPS; i++)
        p->compute(p->backend[threads], t->graph);
    double ns = (double)(bench_now() - start) / (double)REPS / (double)NODES;
    if (threads > 1)
        peer_rest(p);
    return ns;
}

/* Build, allocate with the allocator kept, compute: a token there. */
static double time_token(const peer *p, theirs *t, bool chain, int threads) {
    int64_t start = bench_now();
    for (int i = 0; i < REPS; i++) {
        p->free(t->graph_context);
        theirs_build(p, t, chain);
        (void)p->allocr_alloc(t->allocr, t->graph);
        p->compute(p->backend[threads], t->graph);
    }
    double ns = (double)(bench_now() - start) / (double)REPS / (double)NODES;
    if (threads > 1)
        peer_rest(p);
    return ns;
}

/* Calling all ops again and finding the plan; the replay is not part of it. */
static double time_capture(kiln_capture *capture, bool chain) {
    kiln_error error;
    int64_t ns = 0;
    for (int i = 0; i < REPS + 1; i++) {
        kiln_session *session;
        int64_t start = bench_now();
        bench_build_adds(kiln_capture_begin(capture), NODES, WIDTH, chain);
        bench_must(kiln_capture_end(capture, &session, &error), &error);
        ns += i > 0 ? bench_now() - start : 0;
    }
    return (double)ns / (double)REPS / (double)NODES;
}

static void measure(bench *b, const peer *p, const bench_options *options, bool chain) {
    const char *kind = chain ? "chain" : "independent";
    static const char *const threads_text[] = {"", "1 thread", "2 threads"};
    bench_series *us[3], *them[3], *token[3], *capture;
    bench_ours o;
    theirs t;
    bench_ours_open(&o, NODES, WIDTH, chain);
    theirs_open(p, &t, chain);
    check(&o, p, &t, chain);
    kiln_capture *again;
    kiln_error error;
    bench_must(kiln_capture_create(o.executor[1], &(kiln_capture_options){.bake = bench_unfused}, NULL,
                                   &again, &error),
               &error);
    for (int n = 1; n <= 2; n++) {
        us[n] = bench_series_new(b, "ns/node", "%s of %d, %s: kiln replay", kind, NODES, threads_text[n]);
        them[n] = bench_series_new(b, "ns/node", "%s of %d, %s: ggml compute", kind, NODES, threads_text[n]);
        token[n] = bench_series_new(b, "ns/node", "%s of %d, %s: ggml build, alloc, compute", kind, NODES,
                                    threads_text[n]);
    }
    capture = bench_series_new(b, "ns/node", "%s of %d: kiln capture, on top of the replay", kind, NODES);
    for (int r = 0; r < options->rounds; r++)
        for (int n = 1; n <= 2; n++) {
            bench_add(us[n], time_ours(&o, n));
            if (p != NULL) {
                bench_add(them[n], time_theirs(p, &t, n));
                bench_add(token[n], time_token(p, &t, chain, n));
            }
            if (n == 1)
                bench_add(capture, time_capture(again, chain));
        }
    double ratio[3] = {0, NAN, NAN}, whole[3] = {0, NAN, NAN};
    for (int n = 1; n <= 2; n++) {
        bench_show(us[n]);
        if (p == NULL)
            continue;
        bench_show(them[n]);
        bench_show(token[n]);
        ratio[n] =
            bench_stats_of(bench_ratio(b, us[n], them[n], "%s, %s: kiln / ggml", kind, threads_text[n]))
                .median;
        whole[n] = bench_stats_of(
                       bench_ratio(b, us[n], token[n], "%s, %s: kiln / ggml's token", kind, threads_text[n]))
                       .median;
    }
    bench_show(capture);
    if (p != NULL)
        bench_bar_add(b, chain ? "1" : "2", ratio[2] <= 0.15 && ratio[1] <= 0.35,
                      "2 threads <= 0.15x, 1 thread <= 0.35x of ggml's ns per node",
                      "2 threads %.3fx, 1 thread %.3fx", ratio[2], ratio[1]);
    double per_node = bench_stats_of(capture).median;
    if (chain && p != NULL)
        bench_bar_add(b, "4", whole[1] <= 0.1 && whole[2] <= 0.1 && per_node <= 60,
                      "replay <= 0.1x of ggml's build + alloc + compute; capture <= 60 ns a node",
                      "1 thread %.3fx, 2 threads %.3fx; capture %.1f ns a node", whole[1], whole[2],
                      per_node);
    (void)kiln_capture_destroy(again, NULL);
    theirs_close(p, &t);
    bench_ours_close(&o);
}

void bench_nodes(bench *b, const peer *p, const bench_options *options) {
    puts("\nnodes: adds of 16 floats, fusion off");
    measure(b, p, options, true);
    measure(b, p, options, false);
}
