/* f32, f16, bf16: conversions and dots. */
#include "dtype_float.h"
#include "dtype_fns.h"

/* ---- conversions --------------------------------------------------------------------------------------- */

void KILN_LEVEL_FN(f32_to_f32)(const void *row, float *out, int64_t n) {
    memmove(out, row, (size_t)n * sizeof *out);
}

void KILN_LEVEL_FN(f32_from_f32)(const float *in, void *row, int64_t n) {
    memmove(row, in, (size_t)n * sizeof *in);
}

void KILN_LEVEL_FN(f16_to_f32)(const void *row, float *out, int64_t n) {
    const uint16_t *h = row;
    int64_t i = 0;
    for (; i + KILN_VL <= n; i += KILN_VL) {
        vf v = vf_from_f16(h + i);
        memcpy(out + i, &v, sizeof v);
    }
    for (; i < n; i++)
        out[i] = f16_to_f32(h[i]);
}

void KILN_LEVEL_FN(f16_from_f32)(const float *in, void *row, int64_t n) {
    uint16_t *h = row;
    int64_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(h + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
    for (; i + 4 <= n; i += 4)
        vst1_f16((float16_t *)(void *)(h + i), vcvt_f16_f32(vld1q_f32(in + i)));
#endif
    for (; i < n; i++)
        h[i] = f32_to_f16(in[i]);
}

void KILN_LEVEL_FN(bf16_to_f32)(const void *row, float *out, int64_t n) {
    const uint16_t *h = row;
    for (int64_t i = 0; i < n; i++)
        out[i] = bf16_to_f32(h[i]);
}

void KILN_LEVEL_FN(bf16_from_f32)(const float *in, void *row, int64_t n) {
    uint16_t *h = row;
    for (int64_t i = 0; i < n; i++)
        h[i] = f32_to_bf16(in[i]);
}

/* ---- dots ---------------------------------------------------------------------------------------------- */

#define FLOAT_DOT(W, X, wtype, xtype)                                                                        \
    float KILN_LEVEL_FN(W##_dot_##X)(const void *row, const xtype *x, int64_t n) {                           \
        const wtype *w = row;                                                                                \
        double total = 0;                                                                                    \
        for (int64_t j = 0; j < n; j += 256) {                                                               \
            vf acc[VECS] = {0};                                                                              \
            dot_lanes(acc, vf_from_##W, sizeof *w, w + j, vf_from_##X, sizeof *x, x + j,                     \
                      n - j < 256 ? n - j : 256);                                                            \
            total += (double)lanes_sum(acc);                                                                 \
        }                                                                                                    \
        return (float)total;                                                                                 \
    }
#define FLOAT_DOTS(W, wtype)                                                                                 \
    FLOAT_DOT(W, f32, wtype, float) FLOAT_DOT(W, f16, wtype, uint16_t) FLOAT_DOT(W, bf16, wtype, uint16_t)
FLOAT_DOTS(f32, float)
FLOAT_DOTS(f16, uint16_t)
FLOAT_DOTS(bf16, uint16_t)
