/* Dot products of bytes, four by four: the integer instructions of each level behind three functions. All
 * results are exact, so that levels differ only in what is done with them in floats.
 *
 * w holds unsigned q of a format with offset OFF, x signed activations, −127 ≤ x ≤ 127; wanted is
 * Σ (q − OFF)·x. Depending on the level, OFF is taken off the weights or off the sum: `dot_start` is what a
 * sum starts from.
 */
#ifndef KILN_DOT_BYTES_H
#define KILN_DOT_BYTES_H

#include "vec.h"

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define KILN_DOT_VNNI 1
#elif defined(__AVX2__)
#define KILN_DOT_AVX2 1
#endif

#if defined(KILN_DOT_VNNI)

KILN_INLINE i32x8 dot_start(int off, const i8x32 *x) {
    i32x8 zero = {0};
    if (off == 0)
        return zero;
    u8x32 offs = (u8x32){0} + (uint8_t)off;
    return zero - (i32x8)_mm256_dpbusd_epi32((__m256i)zero, (__m256i)offs, (__m256i)*x);
}

/* start + lanes of four products each. */
KILN_INLINE i32x8 dot_quads(int off, const i32x8 *start, const u8x32 *w, const i8x32 *x) {
    (void)off;
    return (i32x8)_mm256_dpbusd_epi32((__m256i)*start, (__m256i)*w, (__m256i)*x);
}

#elif defined(KILN_DOT_AVX2)

/* Pairs of products fit 16 bits as long as w < 128; larger offsets (128) go through |w − 128| ≤ 128 with the
 * sign moved to x: 2·128·127 still fits. */
KILN_INLINE i32x8 dot_quads(int off, const i32x8 *start, const u8x32 *w, const i8x32 *x) {
    __m256i ones = _mm256_set1_epi16(1), a = (__m256i)*w, b = (__m256i)*x;
    if (off == 128) {
        __m256i centred = (__m256i)(*w ^ 0x80);
        a = _mm256_abs_epi8(centred);
        b = _mm256_sign_epi8(b, centred);
    }
    return *start + (i32x8)_mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones);
}

KILN_INLINE i32x8 dot_start(int off, const i8x32 *x) {
    i32x8 zero = {0};
    u8x32 offs = (u8x32){0} + (uint8_t)off;
    return off == 0 || off == 128 ? zero : zero - dot_quads(0, &zero, &offs, x);
}

#else

KILN_INLINE i32x8 dot_start(int off, const i8x32 *x) {
    (void)off, (void)x;
    return (i32x8){0};
}

/* Sixteen products in four lanes; where in them each stands does not matter here. */
KILN_INLINE i32x4 dot_16(const int8_t *w, const int8_t *x) {
#if defined(__SSE2__)
    __m128i zero = _mm_setzero_si128(), wv = _mm_loadu_si128((const __m128i *)(const void *)w),
            xv = _mm_loadu_si128((const __m128i *)(const void *)x);
    /* The upper bytes of 16-bit values. */
    __m128i ws = _mm_cmpgt_epi8(zero, wv), xs = _mm_cmpgt_epi8(zero, xv);
    __m128i low = _mm_madd_epi16(_mm_unpacklo_epi8(wv, ws), _mm_unpacklo_epi8(xv, xs));
    __m128i high = _mm_madd_epi16(_mm_unpackhi_epi8(wv, ws), _mm_unpackhi_epi8(xv, xs));
    return (i32x4)_mm_add_epi32(low, high);
#elif defined(__ARM_FEATURE_DOTPROD)
    return (i32x4)vdotq_s32(vdupq_n_s32(0), vld1q_s8(w), vld1q_s8(x));
#elif defined(__aarch64__)
    int8x16_t wv = vld1q_s8(w), xv = vld1q_s8(x);
    int16x8_t two = vmull_s8(vget_low_s8(wv), vget_low_s8(xv)); /* 2·128·127 fits */
    return (i32x4)vpaddlq_s16(vmlal_high_s8(two, wv, xv));
#else
    i32x4 sum = {0};
    for (int i = 0; i < 16; i++)
        sum[i % 4] += w[i] * x[i];
    return sum;
#endif
}

KILN_INLINE i32x8 dot_quads(int off, const i32x8 *start, const u8x32 *w, const i8x32 *x) {
    u8x32 centred = *w - (uint8_t)off; /* −128 … 127 for every format */
    int8_t wv[32], xv[32];
    memcpy(wv, &centred, sizeof wv);
    memcpy(xv, x, sizeof xv);
    i32x4 low = dot_16(wv, xv), high = dot_16(wv + 16, xv + 16);
    return *start + __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}

#endif

/* The sums of lanes 0–3 (low) and 4–7 (high) of four vectors. */
typedef struct sums4 {
    i32x4 low, high;
} sums4;

#if !defined(__AVX2__)
/* Lane r is the sum of v[r]'s lanes. */
KILN_INLINE i32x4 sum_each(const i32x4 *v) {
    i32x4 ab =
        __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5) + __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
    i32x4 cd =
        __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5) + __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}
#endif

KILN_INLINE sums4 sum_quads(int off, const i32x8 v[4]) {
#if defined(__AVX2__)
    __m256i ones = _mm256_set1_epi16(1);
    /* But for OFF 128, |q − OFF| ≤ 32: eight products fit 16 bits, and packing then adding pairs is the
     * cheaper way. */
    __m256i ab = _mm256_madd_epi16(_mm256_packs_epi32((__m256i)v[0], (__m256i)v[1]), ones);
    __m256i cd = _mm256_madd_epi16(_mm256_packs_epi32((__m256i)v[2], (__m256i)v[3]), ones);
    i32x8 s = (i32x8)_mm256_madd_epi16(_mm256_packs_epi32(ab, cd), ones);
    if (off == 128)
        s = (i32x8)_mm256_hadd_epi32(_mm256_hadd_epi32((__m256i)v[0], (__m256i)v[1]),
                                     _mm256_hadd_epi32((__m256i)v[2], (__m256i)v[3]));
    return (sums4){__builtin_shufflevector(s, s, 0, 1, 2, 3), __builtin_shufflevector(s, s, 4, 5, 6, 7)};
#else
    (void)off;
    i32x4 low[4], high[4];
    for (int r = 0; r < 4; r++) {
        low[r] = __builtin_shufflevector(v[r], v[r], 0, 1, 2, 3);
        high[r] = __builtin_shufflevector(v[r], v[r], 4, 5, 6, 7);
    }
    return (sums4){sum_each(low), sum_each(high)};
#endif
}

#endif
