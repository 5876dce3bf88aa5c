/* Lowering and fusion: rewriting of the program before it is scheduled. Internal.
 *
 * The program is a copy of the graph. Rewriting replaces nodes by nodes; tensor ids keep their meaning, new
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

/* Rewrites `program` in place: first lowering (quantize for `fast` precision, one per tensor that several
 * matmuls read; expert_map, one per ids tensor), then fusion. `out` is written whole; empty on failure, and
 * then the program is to be thrown away. Errors: KILN_ERROR_MEMORY; any error of an op's infer (a defect:
 * what it emits is legal). */
kiln_status kiln__rewrite(kiln_graph *program, const kiln__rewrite_options *options,
                          const kiln_allocator *allocator, kiln__rewrites *out, kiln_error *error);
void kiln__rewrites_free(kiln__rewrites *rewrites);

#endif
