/* Halves and bytes as floats, one value or a vector of them. */
#ifndef KILN_VEC_CONVERT_H
#define KILN_VEC_CONVERT_H

#include "vec.h"

/* ---- one value --------------------------------------------------------------------------------------- */

/* IEEE binary16 to binary32, exact; a signalling NaN becomes quiet, as the hardware does it. */
KILN_INLINE float f16_to_f32(uint16_t h) {
#if defined(__F16C__)
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
#elif defined(__aarch64__)
    __fp16 f;
    memcpy(&f, &h, sizeof f);
    return (float)f;
#else
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    /* With the exponent's bias corrected by a product, denormals come out right too. */
    uint32_t finite = float_bits(bits_float(magnitude << 13) * 0x1p112f);
    uint32_t special = 0x7f800000 | magnitude << 13 | (magnitude > 0x7c00 ? 0x400000 : 0);
    return bits_float(sign | (magnitude >= 0x7c00 ? special : finite));
#endif
}

KILN_INLINE uint16_t u16_at(const void *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return h;
}

KILN_INLINE float f16_at(const void *p) {
    return f16_to_f32(u16_at(p));
}

/* The halves at w[0] + at … w[3] + at. */
KILN_INLINE f32x4 f16_column(const unsigned char *const *w, int64_t at) {
#if defined(__F16C__)
    __m128i h = _mm_cvtsi32_si128(u16_at(w[0] + at));
    h = _mm_insert_epi16(h, u16_at(w[1] + at), 1);
    h = _mm_insert_epi16(h, u16_at(w[2] + at), 2);
    h = _mm_insert_epi16(h, u16_at(w[3] + at), 3);
    return (f32x4)_mm_cvtph_ps(h);
#else
    return (f32x4){f16_at(w[0] + at), f16_at(w[1] + at), f16_at(w[2] + at), f16_at(w[3] + at)};
#endif
}

/* To nearest, ties to even; overflow gives Inf; a NaN keeps its sign and upper payload and becomes quiet. */
KILN_INLINE uint16_t f32_to_f16(float f) {
    uint32_t u = float_bits(f), magnitude = u & 0x7fffffff, sign = u >> 16 & 0x8000;
    uint32_t normal = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13; /* rebias and round */
    /* Below 2^-14 a half's last place is 2^-24, which is that of a float in [0.5, 1). */
    uint32_t small = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000;
    uint32_t nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
    uint32_t h = magnitude > 0x7f800000    ? nan
                 : magnitude >= 0x47800000 ? 0x7c00
                 : magnitude < 0x38800000  ? small
                                           : normal;
    return (uint16_t)(sign | h);
}

KILN_INLINE float bf16_to_f32(uint16_t h) {
    return bits_float((uint32_t)h << 16);
}

KILN_INLINE uint16_t f32_to_bf16(float f) {
    uint32_t u = float_bits(f);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16, nan = u >> 16 | 0x40;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* ---- a vector --------------------------------------------------------------------------------------- */

/* KILN_VL values of a row in memory as floats. */
KILN_INLINE vf vf_from_f32(const void *p) {
    return vf_load(p);
}

KILN_INLINE vf vf_from_bf16(const void *p) {
#if defined(__aarch64__)
    return (vf)vshll_n_u16(vld1_u16(p), 16);
#else
    typedef uint16_t vh __attribute__((vector_size(2 * KILN_VL)));
    vh h;
    memcpy(&h, p, sizeof h);
    vu wide = __builtin_convertvector(h, vu) << 16;
    return (vf)wide;
#endif
}

KILN_INLINE vf vf_from_f16(const void *p) {
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__F16C__)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(__aarch64__)
    float16x4_t h;
    memcpy(&h, p, sizeof h);
    return (vf)vcvt_f32_f16(h);
#else
    vf v;
    for (int i = 0; i < KILN_VL; i++)
        v[i] = f16_to_f32(((const uint16_t *)p)[i]);
    return v;
#endif
}

/* KILN_VL bytes as floats. */
KILN_INLINE vf vf_from_u8(const void *p) {
#if defined(__AVX512F__)
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif defined(__AVX2__)
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#elif defined(__SSE2__)
    __m128i zero = _mm_setzero_si128(), v = _mm_unpacklo_epi8(_mm_loadu_si32(p), zero);
    return (vf)_mm_cvtepi32_ps(_mm_unpacklo_epi16(v, zero));
#elif defined(__aarch64__)
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return (vf)vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
#else
    vf v;
    for (int i = 0; i < KILN_VL; i++)
        v[i] = ((const uint8_t *)p)[i];
    return v;
#endif
}

KILN_INLINE vf vf_from_i8(const void *p) {
#if defined(__AVX512F__)
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif defined(__AVX2__)
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#elif defined(__SSE2__)
    __m128i v = _mm_loadu_si32(p), twice = _mm_unpacklo_epi8(v, v);
    return (vf)_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(twice, twice), 24));
#elif defined(__aarch64__)
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return (vf)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
#else
    vf v;
    for (int i = 0; i < KILN_VL; i++)
        v[i] = ((const int8_t *)p)[i];
    return v;
#endif
}

#endif
