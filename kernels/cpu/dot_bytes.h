/* Dot products of bytes, four by four: the integer instructions of each level behind three functions. All
 * results are exact, so that levels differ only in what is done with them in floats.
 *
 * w holds unsigned q of a format with offset OFF, x signed activations, −127 ≤ x ≤ 127; wanted is Σ (q −
 * OFF)·x. Depending on the level, OFF is taken off the weights or off the sum: `dot_start` is what a sum
 * starts from.
 */
#ifndef KILN_DOT_BYTES_H
#define KILN_DOT_BYTES_H

#include "simd.h"

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

KILN_INLINE i32x8 dot_quads(int off, const i32x8 *start, const u8x32 *w, const i8x32 *x) {
    uint8_t q[32];
    int8_t a[32];
    int32_t sum[8] = {0};
    memcpy(q, w, sizeof q);
    memcpy(a, x, sizeof a);
    for (int l = 0; l < 8; l++)
        for (int i = 0; i < 4; i++)
            sum[l] += (int16_t)(q[4 * l + i] - off) * (int16_t)a[4 * l + i];
    i32x8 v;
    memcpy(&v, sum, sizeof v);
    return *start + v;
}

#endif

/* The sums of lanes 0–3 (low) and 4–7 (high) of four vectors. */
typedef struct sums4 {
    i32x4 low, high;
} sums4;

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
    sums4 s;
    (void)off;
    for (int r = 0; r < 4; r++) {
        s.low[r] = v[r][0] + v[r][1] + v[r][2] + v[r][3];
        s.high[r] = v[r][4] + v[r][5] + v[r][6] + v[r][7];
    }
    return s;
#endif
}

#endif
