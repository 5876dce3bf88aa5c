/* Shared by test_matmul.c and test_matmul_id.c. */
#ifndef KILN_TESTS_MATMUL_HELP_H
#define KILN_TESTS_MATMUL_HELP_H

#include "dtype_kernels.h"
#include "infer_util.h"
#include "operands.h"
#include "tests/support/op_case.h"
#include "tuning.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* Everything a weight may be. */
static const kiln_dtype weight_dtypes[] = {KILN_F32,  KILN_F16,    KILN_BF16, KILN_Q4_0, KILN_Q5_1,
                                           KILN_Q8_0, KILN_IQ4_NL, KILN_Q4_K, KILN_Q5_K, KILN_Q6_K};
enum { N_WEIGHTS = sizeof weight_dtypes / sizeof weight_dtypes[0] };

/* The form in which fast precision hands x to weights of a dtype; NONE for f32. */
static inline kiln_dtype fast_dtype(kiln_dtype w) {
    return w == KILN_F32 ? KILN_DTYPE_NONE : kiln__takes_xq(w, KILN_Q8_A) ? KILN_Q8_A : KILN_BF16;
}

static inline int64_t block_of(kiln_dtype dtype) {
    return kiln_dtype_get(dtype)->block;
}

/* Fills an xq operand from x's values, as the quantize op would. */
static inline void quantise(const op_values *x, kiln_dtype dtype, void *bytes) {
    float *f = malloc(((size_t)x->n + 1) * sizeof *f);
    assert_non_null(f);
    for (int64_t i = 0; i < x->n; i++)
        f[i] = (float)x->v[i];
    kiln__dtype_base[dtype].from_f32(f, bytes, x->n);
    free(f);
}

/* y = Σ w·x of one row, with the size of the sum. */
static inline void oracle_dot(const double *w, const double *x, int64_t k, double *y, double *size) {
    *y = *size = 0;
    for (int64_t j = 0; j < k; j++) {
        *y += w[j] * x[j];
        *size += fabs(w[j] * x[j]);
    }
}

/* Bounds on the summing alone: the oracle takes the same (quantised) operands. Measured over these tests:
 * 3e-7 (exact) and 1.5e-6 (fast, whose terms are larger than what is left of them where a min or offset is
 * taken off). */
enum { EXACT_PER_BILLION = 1000, FAST_PER_BILLION = 3000 };

#endif
