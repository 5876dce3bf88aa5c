/* What baking costs, how it grows, and the memory of a plan and a session. */
#include "cases.h"
#include "ours.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- memory: an allocator that counts --------------------------------------------------------------- */

static int64_t live;

static void *count_alloc(void *context, size_t size, size_t align) {
    (void)context;
    void *p = NULL;
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size) != 0)
        return NULL;
    live += (int64_t)size;
    return p;
}

static void count_free(void *context, void *p, size_t size) {
    (void)context;
    if (p != NULL)
        live -= (int64_t)size;
    free(p);
}

/* ---- shapes ----------------------------------------------------------------------------------------- */

/* Something like a model's layers: norms, products, an append, two branches that meet again. */
static void build_layers(kiln_graph *g, int n) {
    kiln_dim x_dims[] = {kiln_n(1), kiln_n(32)}, w_dims[] = {kiln_n(32), kiln_n(32)};
    kiln_tensor none = {0, 0}, x = kiln_input(g, "x", KILN_F32, 2, x_dims);
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, 2, w_dims),
                cache = kiln_state(g, "kv", KILN_F32, 2, w_dims);
    for (int i = 0; i + 10 <= n; i += 10) {
        kiln_tensor h = kiln_rms_norm(g, x, none, 1e-5f), q = kiln_matmul(g, w, h), v = kiln_matmul(g, w, h);
        kiln_tensor rows =
            kiln_set_rows(g, cache, v, none, (kiln_set_rows_attrs){kiln_i64_const(i / 10 % 32), 0});
        kiln_tensor back = kiln_slice(g, rows, 0, i / 10 % 32, kiln_n(1));
        x = kiln_add(g, x, kiln_matmul(g, w, kiln_add(g, q, back)));
        h = kiln_rms_norm(g, x, none, 1e-5f);
        x = kiln_add(g, x, kiln_matmul(g, w, kiln_silu(g, h)));
    }
    kiln_output(g, kiln_copy(g, x, KILN_F32), "y");
}

static const char *const shapes[] = {"chain", "independent", "layers"};

static void build(kiln_graph *g, int shape, int n) {
    if (shape < 2)
        bench_build_adds(g, n, 16, shape == 0);
    else
        build_layers(g, n);
}

static double bake_ms(const kiln_graph *g, int64_t *bytes) {
    kiln_error error;
    kiln_plan *plan;
    int64_t before = live, start = bench_now();
    bench_must(kiln_bake(g, NULL, &plan, &error), &error);
    double ms = (double)(bench_now() - start) / 1e6;
    *bytes = live - before;
    kiln_plan_release(plan);
    return ms;
}

void bench_bake(bench *b, const peer *p, const bench_options *options) {
    (void)p;
    const kiln_allocator counting = {NULL, count_alloc, count_free};
    double worst = 0, growth = 0, per_node = 0;
    puts("\nbake: 10,000 and 100,000 nodes");
    for (int shape = 0; shape < 3; shape++) {
        double medians[2];
        for (int large = 0; large < 2; large++) {
            const int n = large ? 100000 : 10000, rounds = large ? 3 + options->rounds / 8 : options->rounds;
            kiln_error error;
            kiln_graph *g;
            int64_t bytes = 0;
            bench_series *s = bench_series_new(b, "ms", "bake, %s, %d nodes", shapes[shape], n);
            bench_must(kiln_graph_create(&counting, &g, &error), &error);
            build(g, shape, n);
            bench_must(kiln_graph_check(g, &error), &error);
            for (int r = 0; r < rounds; r++)
                bench_add(s, bake_ms(g, &bytes));
            bench_show(s);
            printf("  %-66s %10.0f bytes a node\n", "  its plan", (double)bytes / n);
            medians[large] = bench_stats_of(s).median;
            per_node = large || (double)bytes / n < per_node ? per_node : (double)bytes / n;
            kiln_graph_destroy(g);
        }
        worst = medians[0] > worst ? medians[0] : worst;
        growth = medians[1] / medians[0] > growth ? medians[1] / medians[0] : growth;
    }
    bench_bar_add(b, "5", worst <= 5 && growth <= 12,
                  "10,000 nodes <= 5 ms, 100,000 <= 12x that; memory stated",
                  "%.2f ms, %.1fx, %.0f bytes a node", worst, growth, per_node);
}
