/* Blocks of quantised values: conversions and dots, and the table of all dtypes. */
#include "blocks.h"
#include "dtype_float.h"
#include "dtype_fns.h"

/* ---- activations --------------------------------------------------------------------------------------- */

void KILN_LEVEL_FN(q8_a_to_f32)(const void *row, float *out, int64_t n) {
    const unsigned char *block = row;
    for (; n > 0; n -= 32, block += q8_a_BYTES, out += 32) {
        float d;
        memcpy(&d, block, sizeof d);
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)(int8_t)block[Q8_A_BYTES_AT + i];
    }
}

/* A block with Inf keeps the infinite elements' signs, and one with NaN becomes NaN as a whole: a dot product
 * with it is then not finite either. */
static float quantize_special(const float *in, int8_t *q, uint32_t largest) {
    for (int i = 0; i < 32; i++) {
        uint32_t u = float_bits(in[i]);
        q[i] = (u & 0x7fffffff) != 0x7f800000 ? 0 : u >> 31 ? -1 : 1;
    }
    return bits_float(largest);
}

static void quantize_block(const float *in, unsigned char *block) {
    int8_t q[32] = {0};
    uint32_t largest = 0; /* of the magnitudes; as integers they order NaN above Inf above the rest */
    for (int i = 0; i < 32; i++) {
        uint32_t u = float_bits(in[i]) & 0x7fffffff;
        largest = u > largest ? u : largest;
    }
    float d = 0;
    int32_t sum = 0;
    if (largest >= 0x7f800000) {
        d = quantize_special(in, q, largest);
    } else if (bits_float(largest) >= 0x1p-119f) {
        /* Below, 127/largest is not finite: the block counts as 0. */
        d = bits_float(largest) / 127.0f;
        float inverse = 127.0f / bits_float(largest);
        for (int i = 0; i < 32; i++) /* adding 1.5·2^23 rounds to nearest, ties to even */
            q[i] = (int8_t)(int32_t)(float_bits(in[i] * inverse + 0x1.8p23f) - 0x4b400000u);
    }
    for (int i = 0; i < 32; i++)
        sum += q[i];
    float s = d * (float)sum;
    memcpy(block, &d, sizeof d);
    memcpy(block + Q8_A_SUM, &s, sizeof s);
    memcpy(block + Q8_A_BYTES_AT, q, sizeof q);
}

void KILN_LEVEL_FN(q8_a_from_f32)(const float *in, void *row, int64_t n) {
    unsigned char *block = row;
    for (; n > 0; n -= 32, block += q8_a_BYTES, in += 32)
        quantize_block(in, block);
}

/* ---- weights: one set of functions per format ---------------------------------------------------------- */

/* m = -0 leaves every value as it is, the sign of zero included. */
KILN_INLINE void part_to_f32(const u8x32 *bytes, int off, float d0, float d1, float m, float *out) {
    uint8_t q[32];
    memcpy(q, bytes, sizeof q);
    KILN_UNROLL
    for (int i = 0; i < 32; i += KILN_VL) {
        vf v = vf_from_u8(q + i) - (float)off;
        v = v * (i < 16 ? d0 : d1) + m;
        memcpy(out + i, &v, sizeof v);
    }
}

#define BLOCK_TO_F32(NAME, unused)                                                                           \
    static void NAME##_to_f32(const void *row, float *out, int64_t n) {                                      \
        const unsigned char *block = row;                                                                    \
        for (; n > 0; n -= NAME##_VALUES, block += NAME##_BYTES) {                                           \
            float d[NAME##_PARTS * 2] = {0}, m[NAME##_PARTS] = {0};                                          \
            NAME##_scales(block, d, m);                                                                      \
            for (int p = 0; p < NAME##_PARTS; p++, out += 32) {                                              \
                u8x32 bytes = NAME##_bytes(block, p);                                                        \
                part_to_f32(&bytes, NAME##_OFF, d[p * NAME##_GROUPS],                                        \
                            d[p * NAME##_GROUPS + NAME##_GROUPS - 1], NAME##_MIN ? m[p] : -0.0f, out);       \
            }                                                                                                \
        }                                                                                                    \
    }

/* Dequantised in pieces that stay in the first cache, then as any float row. */
#define BLOCK_DOT_FLOAT(NAME, X, xtype)                                                                      \
    static float NAME##_dot_##X(const void *row, const xtype *x, int64_t n) {                                \
        const unsigned char *block = row;                                                                    \
        double total = 0;                                                                                    \
        for (int64_t j = 0; j < n; j += 256, block += 256 / NAME##_VALUES * NAME##_BYTES) {                  \
            float w[256];                                                                                    \
            vf acc[VECS] = {0};                                                                              \
            int64_t m = n - j < 256 ? n - j : 256;                                                           \
            NAME##_to_f32(block, w, m);                                                                      \
            dot_lanes(acc, vf_from_f32, sizeof *w, w, vf_from_##X, sizeof *x, x + j, m);                     \
            total += (double)lanes_sum(acc);                                                                 \
        }                                                                                                    \
        return (float)total;                                                                                 \
    }

/* Σ (q − off)·x over some bytes: exact. */
KILN_INLINE int32_t dot_bytes(const uint8_t *q, int off, const unsigned char *x, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += (int16_t)(q[i] - off) * (int16_t)(int8_t)x[i];
    return sum;
}

/* The order of these additions is the contract: gemm_int.c does the same in all its shapes. */
#define BLOCK_DOT_Q8_A(NAME, unused)                                                                         \
    static float NAME##_dot_q8_a(const void *row, const void *xrow, int64_t n) {                             \
        const unsigned char *block = row, *x = xrow;                                                         \
        double total = 0;                                                                                    \
        float acc = 0;                                                                                       \
        for (; n > 0; n -= NAME##_VALUES, block += NAME##_BYTES) {                                           \
            float d[NAME##_PARTS * NAME##_GROUPS], m[NAME##_PARTS] = {0};                                    \
            NAME##_scales(block, d, m);                                                                      \
            for (int p = 0; p < NAME##_PARTS; p++, x += q8_a_BYTES) {                                        \
                u8x32 bytes = NAME##_bytes(block, p);                                                        \
                uint8_t q[32];                                                                               \
                float xd, xs;                                                                                \
                memcpy(q, &bytes, sizeof q);                                                                 \
                memcpy(&xd, x, sizeof xd);                                                                   \
                memcpy(&xs, x + Q8_A_SUM, sizeof xs);                                                        \
                for (int g = 0; g < NAME##_GROUPS; g++) {                                                    \
                    int at = 16 * g;                                                                         \
                    int32_t sum = dot_bytes(q + at, NAME##_OFF, x + Q8_A_BYTES_AT + at, 32 / NAME##_GROUPS); \
                    acc = madd((float)sum, d[p * NAME##_GROUPS + g] * xd, acc);                              \
                }                                                                                            \
                if (NAME##_MIN)                                                                              \
                    acc = madd(m[p], xs, acc);                                                               \
            }                                                                                                \
            if ((x - (const unsigned char *)xrow) % (BLOCK_RUN / 32 * q8_a_BYTES) == 0) {                    \
                total += (double)acc;                                                                        \
                acc = 0;                                                                                     \
            }                                                                                                \
        }                                                                                                    \
        return (float)(total + (double)acc);                                                                 \
    }

BLOCKS_EACH(BLOCK_TO_F32, )
BLOCKS_EACH(BLOCK_DOT_FLOAT, f32, float)
BLOCKS_EACH(BLOCK_DOT_FLOAT, f16, uint16_t)
BLOCKS_EACH(BLOCK_DOT_FLOAT, bf16, uint16_t)
BLOCKS_EACH(BLOCK_DOT_Q8_A, )

/* ---- the table ----------------------------------------------------------------------------------------- */

#define ROW_FLOAT(name)                                                                                      \
    {                                                                                                        \
        KILN_LEVEL_FN(name##_to_f32), KILN_LEVEL_FN(name##_from_f32), KILN_LEVEL_FN(name##_dot_f32),         \
            KILN_LEVEL_FN(name##_dot_f16), KILN_LEVEL_FN(name##_dot_bf16), NULL                              \
    }
#define ROW_INT(name)                                                                                        \
    { 0 }
#define ROW_BLOCK(name)                                                                                      \
    { name##_to_f32, NULL, name##_dot_f32, name##_dot_f16, name##_dot_bf16, name##_dot_q8_a }
#define ROW_ACT(name)                                                                                        \
    { KILN_LEVEL_FN(name##_to_f32), KILN_LEVEL_FN(name##_from_f32), NULL, NULL, NULL, NULL }

const kiln__dtype_fns KILN_LEVEL_FN(dtype)[KILN_DTYPE_COUNT] = {
#define KILN_DTYPE(NAME, lower, kind, block, bytes, align, text) [KILN_##NAME] = ROW_##kind(lower),
#include "kiln_dtype_list.h"
#undef KILN_DTYPE
};
