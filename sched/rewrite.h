/* Lowering and fusion: rewriting of the program before it is scheduled. Internal.
 *
 * The program is the graph with other nodes. Rewriting replaces nodes by nodes; tensor ids keep their meaning, new
 * tensors are added behind them. Nothing here decides an order or a place in memory.
 */
#ifndef KILN_REWRITE_H
#define KILN_REWRITE_H

#include "graph.h"
#include "kiln_fusion.h"

typedef struct kiln__rewrite_options {
    bool exact;          /* keep activations f32: no quantize nodes */
    uint32_t no_fuse;    /* KILN_FUSE_* rules that are off */
    const uint8_t *keep; /* [tensors of the program]: 1 for those to be made as such (taps); NULL for none */
} kiln__rewrite_options;

/* One applied rule, for the dump. */
typedef struct kiln__fusion {
    const char *rule; /* static name */
    uint32_t node;    /* index in the rewritten program of the node that does the work now */
    uint32_t from[4]; /* nodes of the graph as built that it replaces, ascending */
    uint32_t n_from;
} kiln__fusion;

typedef struct kiln__rewrites {
    kiln_allocator allocator;
    kiln__fusion *items;
    size_t count, capacity;
} kiln__rewrites;

/* Makes the program of a graph: first lowering (quantize for `fast` precision, one per tensor that several
 * matmuls read; expert_map, one per ids tensor), then fusion. `*program` is the caller's, for kiln_graph_destroy, and a
 * fork of `built` (kiln__graph_fork), which stays what it was but reads its arrays there. `out` is written whole. On failure
 * `*program` is NULL, `out` empty and `built` as before. Errors: KILN_ERROR_MEMORY; any error of an op's infer (a defect:
 * what it emits is legal). */
kiln_status kiln__rewrite(kiln_graph *built, const kiln__rewrite_options *options,
                          const kiln_allocator *allocator, kiln_graph **program, kiln__rewrites *out,
                          kiln_error *error);
void kiln__rewrites_free(kiln__rewrites *rewrites);

#endif
