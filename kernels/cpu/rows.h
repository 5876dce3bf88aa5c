/* Rows of any float dtype as f32, and what several kernels do to a row. Only for files in kernels/cpu/.
 *
 * The functions named by KILN_LEVEL_FN are compiled once per level and never inlined: a fused op and the ops
 * it stands for call the same machine code, which is why their results are the same bits. */
#ifndef KILN_ROWS_H
#define KILN_ROWS_H

#include "dtype_kernels.h"
#include "tiles.h"
#include "vec_math.h"

#define KILN__FNS KILN_LEVEL_FN(dtype)

enum { KILN__PART = 512 }; /* elements converted at a time, on the stack */

/* The n values at `row` as f32: where they are, or converted into `buffer`. */
static inline const float *kiln__f32_row(uint32_t dtype, const void *row, int64_t n, float *buffer) {
    if (dtype == KILN_F32)
        return row;
    KILN__FNS[dtype].to_f32(row, buffer, n);
    return buffer;
}

/* y = softmax(x), y may be x: the largest value subtracted; zeros when all are -Inf; NaN spreads to all. */
void KILN_LEVEL_FN(row_softmax)(float *y, const float *x, int64_t n);
/* y = x·(1/√(mean(x²) + eps))·weight; weight may be NULL; y may be x. */
void KILN_LEVEL_FN(row_rms_norm)(float *y, const float *x, const float *weight, int64_t n, float eps);
/* y = e^x: vf_exp for those that have no vectors, the tests that hold its error. */
void KILN_LEVEL_FN(row_exp)(float *y, const float *x, int64_t n);
/* y = a + b */
void KILN_LEVEL_FN(row_add)(float *y, const float *a, const float *b, int64_t n);

#endif
