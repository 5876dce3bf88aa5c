/* How much scratch the functions of cpu/gemm.h need, for ops' `scratch` callbacks:
 * the same at every level. */
#ifndef KILN_GEMM_SCRATCH_H
#define KILN_GEMM_SCRATCH_H

#include <stdint.h>

enum {
    KILN__GEMM_ROWS = 4,     /* rows of W that gemm_float takes at a time */
    KILN__GEMM_CHUNK = 1024, /* elements of them it dequantises at a time: 16 KiB */
    KILN__PANEL_ROWS = 16,   /* rows of W in a panel of gemm_int */
    KILN__PANEL_TOKENS = 8,  /* rows of x beside each other there */
    KILN__PANEL_PART = 704,  /* bytes of 32 columns of a panel: 16·32 values, 2·16 scales, 16 mins */
    KILN__PANEL_X = 384,     /* bytes of 32 columns of 8 rows of x: values, d, s, 2 starts */
    KILN__PANEL_HEAD = 64,   /* bytes in front of them: whose rows of x these are */
};

static inline int64_t kiln__gemm_float_scratch(int64_t tokens) {
    return KILN__GEMM_ROWS * (KILN__GEMM_CHUNK * 4 + tokens * (16 * 4 + 8));
}

/* What lies in the scratch of gemm_int is of no use any more: before the first call that may not take it for its own. */
static inline void kiln__gemm_forget(unsigned char *scratch) {
    *(int64_t *)(void *)scratch = -1;
}

/* Negative on overflow, for the `scratch` callback. */
static inline int64_t kiln__gemm_int_scratch(int64_t tokens, int64_t k) {
    int64_t parts = k / 32, groups = (tokens + KILN__PANEL_TOKENS - 1) / KILN__PANEL_TOKENS, bytes;
    if (__builtin_mul_overflow(parts, KILN__PANEL_PART + groups * KILN__PANEL_X, &bytes) ||
        __builtin_add_overflow(bytes, KILN__PANEL_HEAD, &bytes))
        return -1;
    return bytes;
}

#endif
