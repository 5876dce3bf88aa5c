/* Random graphs of Kiln's own ops that can be run: chains of matmuls and norms, routed experts, appends to
 * states, writes in place through views, whatever fits together. The same seed gives the same graph. */
#ifndef KILN_TESTS_RANDOM_GRAPH_H
#define KILN_TESTS_RANDOM_GRAPH_H

#include "graph.h"

enum { RANDOM_LEAVES = 24, RANDOM_OUTPUTS = 4 };

/* An input, weight or state, with what it holds at first. */
typedef struct random_leaf {
    kiln_tensor tensor;
    kiln_storage storage;
    kiln_storage_kind kind;
    void *data;
    int64_t size;
} random_leaf;

typedef struct random_graph {
    kiln_graph *graph;
    kiln_slot n;        /* "n", a symbol: 0 … n_max */
    kiln_slot position; /* "position": 0 … 20 */
    kiln_slot factor;   /* "factor", a float */
    kiln_slot more;     /* "more", computed: n + 2, a symbol */
    kiln_slot later;    /* "later", computed: position + n + 1, for attributes */
    int64_t n_max;
    random_leaf leaves[RANDOM_LEAVES];
    int n_leaves;
    kiln_tensor outputs[RANDOM_OUTPUTS];
    int n_outputs;
} random_graph;

/* Aborts when memory runs out. Some graphs have NaN and infinities in their inputs, some indices out of range. */
void random_graph_make(uint64_t seed, random_graph *out);
void random_graph_free(random_graph *graph);

#endif
