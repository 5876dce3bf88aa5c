/* What kernels need to know about a dtype: one table per CPU level, made from the rows of kiln_dtype_list.h.
 * Internal to kernels and tests.
 *
 * Rows hold n values, n a multiple of the dtype's block. Functions that a dtype has no use for are NULL:
 * to_f32 is there for floats, blocks and q8_a; from_f32 for floats and q8_a; the dots for floats and blocks
 * (dot_q8_a for blocks only).
 *
 * Within one level every function is deterministic. Conversions give the same bits at every level. NaN and
 * Inf flow through.
 */
#ifndef KILN_DTYPE_KERNELS_H
#define KILN_DTYPE_KERNELS_H

#include "cpu/level.h"

typedef struct kiln__dtype_fns {
    void (*to_f32)(const void *row, float *out, int64_t n);
    void (*from_f32)(const float *in, void *row, int64_t n); /* rounds to nearest, ties to even */
    /* Σ row[j]·x[j]. Sixteen running sums, j mod 16, added up pairwise every 256 elements, then in double. */
    float (*dot_f32)(const void *row, const float *x, int64_t n);
    float (*dot_f16)(const void *row, const uint16_t *x, int64_t n);  /* the same with x in f16 */
    float (*dot_bf16)(const void *row, const uint16_t *x, int64_t n); /* the same with x in bf16 */
    /* Integer dots block by block against x in q8_a, scaled and summed in block order as cpu/gemm_int.c
     * does. */
    float (*dot_q8_a)(const void *row, const void *x, int64_t n);
} kiln__dtype_fns;

#define KILN__DTYPE_TABLE(level, features, unused)                                                           \
    extern const kiln__dtype_fns kiln__dtype_##level[KILN_DTYPE_COUNT];
KILN_CPU_EACH(KILN__DTYPE_TABLE, )
#undef KILN__DTYPE_TABLE

#endif
