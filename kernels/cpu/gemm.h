/* The arithmetic of matmul and matmul_id: some rows of W against some rows of activations. Internal.
 *
 * Every y[t][r] is computed from W's row r and x[t] alone, by the same instructions in the same order however
 * many rows and tokens a call has: results do not depend on tiling.
 */
#ifndef KILN_GEMM_H
#define KILN_GEMM_H

#include "level.h"

typedef struct kiln__gemm {
    uint32_t w_dtype;
    const unsigned char *w;
    int64_t w_stride;              /* bytes from row to row */
    int64_t rows, k, tokens;       /* rows of W, elements of a row (a multiple of the block), rows of x */
    const unsigned char *const *x; /* tokens pointers: f32 rows for gemm_float, q8_a rows for gemm_int */
    float *const *y;               /* tokens pointers to `rows` floats */
    unsigned char *scratch;        /* 64-byte aligned, as many bytes as asked for */
    int64_t
        first; /* ≥ 0: which rows x are; gemm_int packs those of one number once, until kiln__gemm_forget */
} kiln__gemm;

#ifdef KILN_LEVEL
/* y[t][r] = Σ_j W[r,j]·x[t][j], W in any float or block dtype, in f32: the sum in 16 lanes of vec.h. */
void KILN_LEVEL_FN(gemm_float)(const kiln__gemm *g);
/* The same with W in a block dtype and x in q8_a: integer dots of blocks, scaled and added in block order. */
void KILN_LEVEL_FN(gemm_int)(const kiln__gemm *g);
#endif

#endif
