/* Regions of matrix products: a branch of two, or the experts of a MoE block, most of whose rows go to one expert. */
#ifndef KILN_BENCH_PRODUCT_H
#define KILN_BENCH_PRODUCT_H

#include "ours.h"

typedef struct bench_shape {
    const char *name;
    kiln_dtype dtype;        /* f32, or q8_0 with 8-bit activations */
    int64_t tokens, n, k;    /* weights are [n, k] */
    int64_t experts, chosen; /* 0 experts: the branch */
} bench_shape;

enum { BENCH_RIGS = 5 };

typedef struct bench_product {
    bench_shape shape;
    kiln_graph *graph;
    kiln_plan *plan;
    bench_rig rig[BENCH_RIGS];
    uint32_t threads[BENCH_RIGS], n_rigs;
    unsigned char *weights;
    size_t matrix, bytes; /* of one matrix, of all */
} bench_product;

/* Bakes it, fills weights and inputs, and makes a session for each number of threads; ends the program unless all give
 * the same bits as the first. */
void bench_product_open(bench_product *p, bench_shape shape, const uint32_t *threads, uint32_t n_threads);
void bench_product_close(bench_product *p);

/* One token's experts, `first`, first + 1, …: those of the next run. Their weights lie one behind the other at the
 * address returned. Only for experts that are a multiple of those chosen. */
const unsigned char *bench_product_choose(bench_product *p, int64_t first);

/* Bytes of weights that a run of one token reads. */
size_t bench_product_read(const bench_product *p);

#endif
