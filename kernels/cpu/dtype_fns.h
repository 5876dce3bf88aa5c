/* The functions behind the table of dtype_kernels.h, one set per dtype kind and level.
 * Internal to dtype_*.c. */
#ifndef KILN_DTYPE_FNS_H
#define KILN_DTYPE_FNS_H

#include "dtype_kernels.h"

#define FLOAT_FNS(W)                                                                                         \
    void KILN_LEVEL_FN(W##_to_f32)(const void *row, float *out, int64_t n);                                  \
    void KILN_LEVEL_FN(W##_from_f32)(const float *in, void *row, int64_t n);                                 \
    float KILN_LEVEL_FN(W##_dot_f32)(const void *row, const float *x, int64_t n);                            \
    float KILN_LEVEL_FN(W##_dot_f16)(const void *row, const uint16_t *x, int64_t n);                         \
    float KILN_LEVEL_FN(W##_dot_bf16)(const void *row, const uint16_t *x, int64_t n);
FLOAT_FNS(f32)
FLOAT_FNS(f16)
FLOAT_FNS(bf16)
#undef FLOAT_FNS

void KILN_LEVEL_FN(q8_a_to_f32)(const void *row, float *out, int64_t n);
void KILN_LEVEL_FN(q8_a_from_f32)(const float *in, void *row, int64_t n);

#endif
