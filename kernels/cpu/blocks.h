/* The GGML block formats, in one shape: value = d·(q − OFF) + m, with q an unsigned byte, d one float per 32
 * or 16 values and m one float per 32 (or none). Layouts as in GGUF files, see graph/kiln_dtype_list.h and
 * docs of the GGUF quantisation types; all little-endian.
 *
 * A format NAME has the constants NAME_OFF, NAME_GROUPS (scales per 32 values: 1 or 2), NAME_MIN (has m) and
 * two functions on one block, whose 32-value parts are numbered from 0:
 *
 *     NAME_scales(block, d, m)    d[part·GROUPS + group], m[part]
 *     NAME_bytes(block, part)     the q of a part, in order
 *
 * All products in `scales` are exact in f32 (11-bit by 6- to 8-bit integers), and so is d·(q − OFF): a fused
 * and a separate addition of m give the same bits.
 */
#ifndef KILN_BLOCKS_H
#define KILN_BLOCKS_H

#include "vec_convert.h"

/* 16 bytes to 32 values: the low nibbles, then the high ones. */
KILN_INLINE u8x32 nibbles(const unsigned char *p) {
    u64x2 v = u64x2_load(p);
#if defined(__AVX2__)
    static const u64x4 shift = {0, 0, 4, 4};
    return (u8x32)(__builtin_shufflevector(v, v, 0, 1, 0, 1) >> shift) & 15;
#else
    u64x2 half[2] = {v, v >> 4};
    return u8x32_load(half) & 15;
#endif
}

/* 32 bytes shifted right (left where `by` is negative) and masked; the mask leaves no bit of a neighbour. */
KILN_INLINE u8x32 shifted(const unsigned char *p, int by, uint8_t mask) {
    u8x32 v = u8x32_load(p);
    return (u8x32)(by < 0 ? (u64x4)v << -by : (u64x4)v >> by) & mask;
}

/* Byte i is 16 where bit i is set, else 0. */
KILN_INLINE u8x32 fifth_bits(uint32_t bits) {
    typedef uint32_t u32x8 __attribute__((vector_size(32)));
    static const u8x32 select = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                                 1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    u32x8 wide = {bits, bits, bits, bits, bits, bits, bits, bits};
    u8x32 v = (u8x32)wide;
    v = __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 18, 18, 18, 18, 18, 18,
                                18, 18, 19, 19, 19, 19, 19, 19, 19, 19);
    return (u8x32)((v & select) != 0) & 16;
}

/* ---- q4_0: f16 d, 16 bytes of nibbles ------------------------------------------------------------------ */

enum { q4_0_OFF = 8, q4_0_GROUPS = 1, q4_0_MIN = 0 };
KILN_INLINE void q4_0_scales(const unsigned char *block, float *d, float *m) {
    (void)m;
    d[0] = f16_at(block);
}
KILN_INLINE u8x32 q4_0_bytes(const unsigned char *block, int part) {
    (void)part;
    return nibbles(block + 2);
}

/* ---- q5_1: f16 d, f16 m, u32 of fifth bits, 16 bytes of nibbles ---------------------------------------- */

enum { q5_1_OFF = 0, q5_1_GROUPS = 1, q5_1_MIN = 1 };
KILN_INLINE void q5_1_scales(const unsigned char *block, float *d, float *m) {
    d[0] = f16_at(block);
    m[0] = f16_at(block + 2);
}
KILN_INLINE u8x32 q5_1_bytes(const unsigned char *block, int part) {
    (void)part;
    uint32_t bits;
    memcpy(&bits, block + 4, sizeof bits);
    return nibbles(block + 8) | fifth_bits(bits);
}

/* ---- q8_0: f16 d, 32 signed bytes ---------------------------------------------------------------------- */

enum { q8_0_OFF = 128, q8_0_GROUPS = 1, q8_0_MIN = 0 };
KILN_INLINE void q8_0_scales(const unsigned char *block, float *d, float *m) {
    (void)m;
    d[0] = f16_at(block);
}
KILN_INLINE u8x32 q8_0_bytes(const unsigned char *block, int part) {
    (void)part;
    return u8x32_load(block + 2) ^ 0x80;
}

/* ---- iq4_nl: f16 d, 16 bytes of nibbles that index a codebook ------------------------------------------ */

enum { iq4_nl_OFF = 128, iq4_nl_GROUPS = 1, iq4_nl_MIN = 0 };
/* The codebook −127 −104 −83 −65 −49 −35 −22 −10 1 13 25 38 53 69 89 113, plus 128. */
#define IQ4_NL_CODEBOOK 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241
KILN_INLINE void iq4_nl_scales(const unsigned char *block, float *d, float *m) {
    (void)m;
    d[0] = f16_at(block);
}
KILN_INLINE u8x32 iq4_nl_bytes(const unsigned char *block, int part) {
    (void)part;
    u8x32 index = nibbles(block + 2);
#if defined(__AVX2__)
    static const u8x32 table = {IQ4_NL_CODEBOOK, IQ4_NL_CODEBOOK};
    return (u8x32)_mm256_shuffle_epi8((__m256i)table, (__m256i)index);
#elif defined(__aarch64__)
    static const uint8_t table[16] = {IQ4_NL_CODEBOOK};
    uint8x16_t q[2];
    memcpy(q, &index, sizeof q);
    q[0] = vqtbl1q_u8(vld1q_u8(table), q[0]);
    q[1] = vqtbl1q_u8(vld1q_u8(table), q[1]);
    return u8x32_load(q);
#else
    static const uint8_t table[16] = {IQ4_NL_CODEBOOK};
    uint8_t q[32];
    memcpy(q, &index, sizeof q);
    for (int i = 0; i < 32; i++)
        q[i] = table[q[i]];
    return u8x32_load(q);
#endif
}

/* ---- q4_K and q5_K: f16 d, f16 dmin, 12 bytes of scales, then bits ------------------------------------- */

/* Eight 6-bit (scale, min) pairs in 12 bytes: bytes 0–3 and 4–7 hold the low six bits of pairs 0–3; bytes
 * 8–11 the low four bits of pairs 4–7, whose upper two stand on top of bytes 0–7. */
KILN_INLINE void k_scales(const unsigned char *block, float *d, float *m) {
    uint32_t in[3], six[4]; /* eight scales, then eight mins, a byte each */
    memcpy(in, block + 4, sizeof in);
    six[0] = in[0] & 0x3f3f3f3f;
    six[1] = (in[2] & 0x0f0f0f0f) | (in[0] >> 2 & 0x30303030);
    six[2] = in[1] & 0x3f3f3f3f;
    six[3] = (in[2] >> 4 & 0x0f0f0f0f) | (in[1] >> 2 & 0x30303030);
    float all = f16_at(block), all_min = -f16_at(block + 2), out[16];
    for (int i = 0; i < 16; i += KILN_VL) {
        vf v = vf_from_u8((const unsigned char *)six + i);
        memcpy(out + i, &v, sizeof v);
    }
    for (int i = 0; i < 8; i++) {
        d[i] = all * out[i];
        m[i] = all_min * out[8 + i];
    }
}

/* 32 bytes hold parts 2i (low nibbles) and 2i+1 (high ones). */
KILN_INLINE u8x32 k_nibbles(const unsigned char *bytes, int part) {
    return shifted(bytes + part / 2 * 32, part % 2 * 4, 15);
}

enum { q4_K_OFF = 0, q4_K_GROUPS = 1, q4_K_MIN = 1 };
KILN_INLINE void q4_K_scales(const unsigned char *block, float *d, float *m) {
    k_scales(block, d, m);
}
KILN_INLINE u8x32 q4_K_bytes(const unsigned char *block, int part) {
    return k_nibbles(block + 16, part);
}

enum { q5_K_OFF = 0, q5_K_GROUPS = 1, q5_K_MIN = 1 };
KILN_INLINE void q5_K_scales(const unsigned char *block, float *d, float *m) {
    k_scales(block, d, m);
}
KILN_INLINE u8x32 q5_K_bytes(const unsigned char *block, int part) {
    return k_nibbles(block + 48, part) | shifted(block + 16, part - 4, 16); /* bit `part` of byte i */
}

/* ---- q6_K: 128 bytes of low nibbles, 64 of upper bit pairs, 16 × i8 scales, f16 d ---------------------- */

enum { q6_K_OFF = 32, q6_K_GROUPS = 2, q6_K_MIN = 0 };
KILN_INLINE void q6_K_scales(const unsigned char *block, float *d, float *m) {
    (void)m;
    float all = f16_at(block + 208);
    for (int i = 0; i < 16; i += KILN_VL) {
        vf v = vf_from_i8(block + 192 + i) * all;
        memcpy(d + i, &v, sizeof v);
    }
}
KILN_INLINE u8x32 q6_K_bytes(const unsigned char *block, int part) {
    int half = part / 4, j = part % 4;
    return shifted(block + 64 * half + 32 * (j % 2), j < 2 ? 0 : 4, 15) |
           shifted(block + 128 + 32 * half, 2 * j - 4, 48);
}

/* ---- the list ------------------------------------------------------------------------------------------ */

/* X(NAME, …) for every block dtype. */
#define BLOCKS_EACH(X, ...)                                                                                  \
    X(q4_0, __VA_ARGS__)                                                                                     \
    X(q5_1, __VA_ARGS__)                                                                                     \
    X(q8_0, __VA_ARGS__)                                                                                     \
    X(iq4_nl, __VA_ARGS__) X(q4_K, __VA_ARGS__) X(q5_K, __VA_ARGS__) X(q6_K, __VA_ARGS__)

/* NAME_VALUES and NAME_BYTES per block, and NAME_PARTS of 32 values, from the dtype table. */
#define KILN_DTYPE(NAME, lower, kind, block, bytes, align, text)                                             \
    enum { lower##_VALUES = block, lower##_BYTES = bytes, lower##_PARTS = block / 32 };
#include "kiln_dtype_list.h"
#undef KILN_DTYPE

/* Products with q8_a activations add blocks in f32 over so many values (128 terms at most), and those in
 * double. */
enum { BLOCK_RUN = 2048 };

/* q8_a, the activations: f32 d, f32 s = d·Σq, 32 × i8. */
enum { Q8_A_SUM = 4, Q8_A_BYTES_AT = 8 };

#endif
