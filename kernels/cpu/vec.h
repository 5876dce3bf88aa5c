/* Vectors for kernels: GNU C vector types (gcc and clang, any target), and the few instructions that C cannot
 * name. Arithmetic on them is written as on floats, and each level gets its own instructions. Only for files
 * in kernels/cpu/ (they define KILN_LEVEL). Internal.
 *
 *   vec.h          types, loads and stores, lanes
 *   vec_math.h     exp, tanh, the activations; maps and sums over rows
 *   vec_convert.h  halves and bytes as floats
 */
#ifndef KILN_VEC_H
#define KILN_VEC_H

#include "level.h"

#include <string.h>

/* immintrin.h alone takes gcc 0.4 s per file, and level base needs none of what it adds. */
#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__x86_64__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Floats in a vector of the level's width. */
#if defined(__AVX512F__)
#define KILN_VL 16
#elif defined(__AVX2__)
#define KILN_VL 8
#else
#define KILN_VL 4
#endif

/* Loops over a few vectors, indexed by constants once they are unrolled, stay in registers. */
#if defined(__clang__)
#define KILN_UNROLL _Pragma("unroll")
#else
#define KILN_UNROLL _Pragma("GCC unroll 16")
#endif

/* 32-byte vectors are passed between functions that are all inlined: no ABI is involved. */
#pragma GCC diagnostic ignored "-Wpsabi"
#define KILN_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(KILN_VL * 4)));
typedef int32_t vi __attribute__((vector_size(KILN_VL * 4)));
typedef uint32_t vu __attribute__((vector_size(KILN_VL * 4)));
/* The same in memory: only as aligned as one float. */
typedef float vf_mem __attribute__((vector_size(KILN_VL * 4), aligned(4), may_alias));

/* Of a fixed width, for bytes and block formats. */
typedef uint8_t u8x32 __attribute__((vector_size(32)));
typedef int8_t i8x32 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef double f64x4 __attribute__((vector_size(32)));
typedef uint64_t u64x2 __attribute__((vector_size(16)));
typedef uint64_t u64x4 __attribute__((vector_size(32)));

/* ---- memory -------------------------------------------------------------------------------------------- */

static inline vf vf_load(const float *p) {
    return *(const vf_mem *)(const void *)p;
}
static inline void vf_store(float *p, vf v) {
    *(vf_mem *)(void *)p = v;
}
/* The first n lanes from memory, the others `fill`; and the first n lanes to memory. 0 ≤ n ≤ KILN_VL. */
#if KILN_VL == 16
static inline vf vf_load_part(const float *p, int64_t n, float fill) {
    return (vf)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << n) - 1), p);
}
static inline void vf_store_part(float *p, vf v, int64_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
#else
static inline vf vf_load_part(const float *p, int64_t n, float fill) {
    float lanes[KILN_VL];
    for (int64_t l = 0; l < KILN_VL; l++)
        lanes[l] = l < n ? p[l] : fill;
    return vf_load(lanes);
}
static inline void vf_store_part(float *p, vf v, int64_t n) {
    float lanes[KILN_VL];
    vf_store(lanes, v);
    for (int64_t l = 0; l < n; l++)
        p[l] = lanes[l];
}
#endif

/* Whole or in part, as n says. */
static inline vf vf_load_n(const float *p, int64_t n) {
    return n >= KILN_VL ? vf_load(p) : vf_load_part(p, n, 0.0f);
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    if (n >= KILN_VL)
        vf_store(p, v);
    else
        vf_store_part(p, v, n);
}

#define VEC_LOAD(type, name)                                                                                 \
    KILN_INLINE type name(const void *p) {                                                                   \
        type v;                                                                                              \
        memcpy(&v, p, sizeof v);                                                                             \
        return v;                                                                                            \
    }
VEC_LOAD(u8x32, u8x32_load)
VEC_LOAD(i8x32, i8x32_load)
VEC_LOAD(u64x2, u64x2_load)
VEC_LOAD(f32x4, f32x4_load)
#undef VEC_LOAD

KILN_INLINE uint32_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

KILN_INLINE float bits_float(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* ---- lanes --------------------------------------------------------------------------------------------- */

static inline vf vf_set(float x) {
    return x - (vf){0}; /* minus, so that -0 stays -0 */
}
/* Lanes of a where the mask is all ones, of b where it is zero. */
static inline vf vf_select(vi mask, vf a, vf b) {
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}
/* A NaN in x comes through; one in the bound does not occur. */
static inline vf vf_at_most(vf x, float bound) {
    return vf_select(x > bound, vf_set(bound), x);
}
static inline vf vf_at_least(vf x, float bound) {
    return vf_select(x < bound, vf_set(bound), x);
}
/* The larger of each lane; a NaN in `x` is passed over. */
static inline vf vf_max(vf most, vf x) {
    return vf_select(x > most, x, most);
}
static inline vf vf_abs(vf x) {
    return (vf)((vi)x & 0x7fffffff);
}
static inline vf vf_copysign(vf magnitude, vf sign) {
    return (vf)(((vi)magnitude & 0x7fffffff) | ((vu)sign & 0x80000000u));
}

/* Lanes 2i and 2i+1 change places. */
static inline vf vf_swap_pairs(vf v) {
#if KILN_VL == 16
    return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif KILN_VL == 8
    return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#else
    return __builtin_shufflevector(v, v, 1, 0, 3, 2);
#endif
}

/* c + a·b, fused where the level has the instruction. Named, and not left to the compiler's contraction,
 * which may choose otherwise from one loop to the next: results must not depend on that. */
KILN_INLINE float madd(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return c + a * b;
#endif
}

KILN_INLINE f32x4 madd4(f32x4 a, f32x4 b, f32x4 c) {
#if defined(__FMA__)
    return (f32x4)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
#elif defined(__aarch64__)
    return (f32x4)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return c + a * b;
#endif
}

KILN_INLINE vf vf_madd(vf a, vf b, vf c) {
#if defined(__AVX512F__)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return (vf)madd4((f32x4)a, (f32x4)b, (f32x4)c);
#endif
}

/* Lanes added pairwise: l and l + n/2 first. */
static inline float vf_sum(vf v) {
    float s[KILN_VL];
    vf_store(s, v);
    for (int n = KILN_VL / 2; n > 0; n /= 2)
        for (int l = 0; l < n; l++)
            s[l] += s[l + n];
    return s[0];
}

/* Largest lane of a vector without NaN. */
static inline float vf_most(vf v) {
    float s[KILN_VL];
    vf_store(s, v);
    for (int l = 1; l < KILN_VL; l++)
        s[0] = s[l] > s[0] ? s[l] : s[0];
    return s[0];
}

/* ---- sums of any length ------------------------------------------------------------------------------- */

/* A sum of n terms in f32 is off by up to n·2^-24 of Σ|terms|. So a sum adds runs of at most RUN terms in
 * f32, and joins the runs in double where there may be many of them: its error is that of one run at any
 * length. */
enum { RUN = 16 };

/* As many doubles as a vf has floats. */
typedef double vw __attribute__((vector_size(KILN_VL * 8)));
typedef double vw_mem __attribute__((vector_size(KILN_VL * 8), aligned(8), may_alias));

KILN_INLINE vw vw_load(const double *p) {
    return *(const vw_mem *)(const void *)p;
}
KILN_INLINE void vw_store(double *p, vw v) {
    *(vw_mem *)(void *)p = v;
}
KILN_INLINE vw vf_wide(vf v) {
    return __builtin_convertvector(v, vw);
}
KILN_INLINE vf vw_narrow(vw v) {
    return __builtin_convertvector(v, vf);
}

/* ---- sums in 16 lanes -------------------------------------------------------------------------------- */

/* Dot products run in 16 lanes whatever the width: element j goes to lane j mod 16, and lanes are added
 * pairwise (l and l+8, then l+4, l+2, l+1). A result then depends on the level only through fused
 * multiply-add, never on how a loop was blocked. */
enum { LANES = 16, VECS = LANES / KILN_VL }; /* VECS vectors hold the 16 lanes */

KILN_INLINE float lanes_sum(const vf *v) {
    vf s[VECS];
    memcpy(s, v, sizeof s);
    for (int half = VECS / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            s[i] += s[i + half];
    return vf_sum(s[0]);
}

#endif
