/* What baking costs, how it grows, and the memory of a plan.
 *
 * Touching a page for the first time costs as much as baking the nodes that it holds, and malloc gives pages back to the
 * system, or not, by rules of its own, which differ for small and large plans. So sizes are compared in one state: "kept",
 * where malloc keeps what it ever had (a program that bakes again and again), and "fresh", where all pages are the
 * system's before each bake (one that bakes once). The bar is for the worse. */
#include "cases.h"
#include "ours.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

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

/* ---- pages ------------------------------------------------------------------------------------------ */

enum { KEPT, FRESH, STATES };

static const char *const states[STATES] = {"kept", "fresh"};

/* From now on malloc keeps what is freed. False: this system's has no such switch. */
static bool keep_pages(void) {
#ifdef __GLIBC__
    return mallopt(M_TRIM_THRESHOLD, 1 << 30) == 1 && mallopt(M_MMAP_THRESHOLD, 1 << 30) == 1;
#else
    return false;
#endif
}

static void give_pages_back(void) {
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
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

/* Medians in ms, by state; bytes a node. */
static double bake_size(bench *b, int shape, int n, int rounds, int n_states, double *medians) {
    const kiln_allocator counting = {NULL, count_alloc, count_free};
    bench_series *s[STATES];
    kiln_error error;
    kiln_graph *g;
    int64_t bytes = 0;
    for (int k = 0; k < n_states; k++)
        s[k] = bench_series_new(b, "ms", "bake, %s, %d nodes, pages %s", shapes[shape], n,
                                n_states > 1 ? states[k] : "as they come");
    bench_must(kiln_graph_create(&counting, &g, &error), &error);
    build(g, shape, n);
    bench_must(kiln_graph_check(g, &error), &error);
    for (int k = 0; k < n_states; k++) {
        for (int r = -1; r < rounds; r++) { /* the first has pages that are nobody's yet */
            if (k == FRESH)
                give_pages_back();
            double ms = bake_ms(g, &bytes);
            if (r >= 0)
                bench_add(s[k], ms);
        }
        bench_show(s[k]);
        medians[k] = bench_stats_of(s[k]).median;
    }
    kiln_graph_destroy(g);
    return (double)bytes / n;
}

void bench_bake(bench *b, const peer *p, const bench_options *options) {
    (void)p;
    double worst = 0, growth[STATES] = {0}, per_node = 0;
    puts("\nbake: 10,000 and 100,000 nodes");
    const int n_states = keep_pages() ? STATES : 1;
    for (int shape = 0; shape < 3; shape++) {
        double small[STATES], large[STATES];
        (void)bake_size(b, shape, 10000, options->rounds, n_states, small);
        double bytes = bake_size(b, shape, 100000, 3 + options->rounds / 4, n_states, large);
        printf("  %-66s %10.0f bytes a node\n", "  its plan", bytes);
        per_node = bytes > per_node ? bytes : per_node;
        for (int k = 0; k < n_states; k++) {
            worst = small[k] > worst ? small[k] : worst;
            growth[k] = large[k] / small[k] > growth[k] ? large[k] / small[k] : growth[k];
        }
    }
    bench_bar_add(b, "5", worst <= 5 && growth[KEPT] <= 12 && growth[FRESH] <= 12,
                  "10,000 nodes <= 5 ms, 100,000 <= 12x that; memory stated",
                  "%.2f ms; pages kept %.1fx, fresh %.1fx; %.0f bytes a node", worst, growth[KEPT],
                  growth[FRESH], per_node);
}
