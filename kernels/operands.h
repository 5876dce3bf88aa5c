/* The operands of the matrix ops by name, for their kernels and for whatever rewrites graphs. Internal. */
#ifndef KILN_OPERANDS_H
#define KILN_OPERANDS_H

#include "kiln_op.h"

enum {
    KILN_MATMUL_W,      /* [N,K] */
    KILN_MATMUL_X,      /* [..., K] or [..., h, d] */
    KILN_MATMUL_SHADOW, /* optional: w in f16, for executors that are faster with it */
    KILN_MATMUL_XQ,     /* optional: x as `quantize` makes it; CPU kernels read it instead of x */
    KILN_MATMUL_OPERANDS
};

enum {
    KILN_MATMUL_ID_X,       /* [T,K] or [T,k,K] */
    KILN_MATMUL_ID_IDS,     /* [T,k] */
    KILN_MATMUL_ID_OFFSETS, /* optional, with entries: the two outputs of expert_map for the same ids */
    KILN_MATMUL_ID_ENTRIES,
    KILN_MATMUL_ID_XQ, /* optional: x as `quantize` makes it; CPU kernels read it instead of x */
    KILN_MATMUL_ID_W,  /* [E,N,K], or the first of E operands [N,K] */
    KILN_MATMUL_ID_OPERANDS
};

/* What a second form of x may be for weights of a dtype, so that kernels read it instead of x: q8_a for
 * blocks, bf16 or f16 for halves. f32 weights stay with f32. */
static inline bool kiln__takes_xq(uint32_t w_dtype, uint32_t xq_dtype) {
    if (w_dtype == KILN_F16 || w_dtype == KILN_BF16)
        return xq_dtype == KILN_BF16 || xq_dtype == KILN_F16;
    return xq_dtype == KILN_Q8_A && kiln_dtype_get((kiln_dtype)w_dtype)->kind == KILN_KIND_BLOCK;
}

/* An index of an i32 or u32 tensor. */
static inline int64_t kiln__index_at(uint32_t dtype, const unsigned char *p) {
    return dtype == KILN_U32 ? (int64_t) * (const uint32_t *)(const void *)p
                             : (int64_t) * (const int32_t *)(const void *)p;
}

#endif
