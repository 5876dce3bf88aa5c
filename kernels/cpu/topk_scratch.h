/* Scratch of the ops that order rows. The same functions serve the ops and their kernels. */
#ifndef KILN_TOPK_SCRATCH_H
#define KILN_TOPK_SCRATCH_H

#include "tiles.h"

/* Room for the ranks of the k best, to a multiple of 64 bytes. out[0] holds k of each row. */
static inline int64_t kiln__topk_heap_bytes(const kiln_args *args) {
    return kiln__scratch_row(args->out[0].ne[3]) * 8;
}

/* Ranks, then a row of f32. */
static inline int64_t kiln__topk_scratch(const kiln_args *args) {
    return args->in[0].ne[3] > INT32_MAX
               ? -1
               : kiln__topk_heap_bytes(args) + kiln__scratch_bytes(args->in[0].ne[3], 1);
}

/* Two rows of pairs, then a row of f32. */
static inline int64_t kiln__argsort_scratch(const kiln_args *args) {
    int64_t n = args->in[0].ne[3];
    return n > INT32_MAX ? -1 : n * 16 + kiln__scratch_bytes(n, 1);
}

#endif
