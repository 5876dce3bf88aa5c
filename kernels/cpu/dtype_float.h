/* Sums of products in 16 lanes (vec.h), for every pairing of float formats. Included by dtype_float.c and
 * gemm_float.c. */
#ifndef KILN_DTYPE_FLOAT_H
#define KILN_DTYPE_FLOAT_H

#include "vec_convert.h"

typedef vf vf_reader(const void *p); /* KILN_VL values of some format */

/* acc[lane] += a[j]·b[j] for j in 0 … n-1; sizes are those of an element, in bytes. A tail is filled up with
 * zeros, so that it goes through the same instructions. */
KILN_INLINE void dot_lanes(vf *acc, vf_reader *read_a, int64_t size_a, const void *a, vf_reader *read_b,
                           int64_t size_b, const void *b, int64_t n) {
    const unsigned char *pa = a, *pb = b;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int v = 0; v < VECS; v++)
            acc[v] = vf_madd(read_a(pa + (j + v * KILN_VL) * size_a), read_b(pb + (j + v * KILN_VL) * size_b),
                             acc[v]);
    if (j < n) {
        unsigned char ta[LANES * 4] = {0}, tb[LANES * 4] = {0};
        memcpy(ta, pa + j * size_a, (size_t)((n - j) * size_a));
        memcpy(tb, pb + j * size_b, (size_t)((n - j) * size_b));
        for (int v = 0; v < VECS; v++)
            acc[v] = vf_madd(read_a(ta + v * KILN_VL * size_a), read_b(tb + v * KILN_VL * size_b), acc[v]);
    }
}

#endif
