#include "quantise.h"
#include "half.h"

#include <math.h>

/* The layouts are GGUF's: 32 values in a block, an f16 scale first. */
enum { BLOCK = 32 };

/* The value of the block that is largest in size, with its sign; the first of several. */
static float extreme(const float *x) {
    float most = 0;
    for (int i = 0; i < BLOCK; i++)
        most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
    return most;
}

/* Stores the scale and returns what each value is multiplied by: the inverse of the scale as readers will see
 * it. */
static float put_scale(float scale, unsigned char *out) {
    uint16_t half = half_from_float(scale);
    float step = float_from_half(half);
    memcpy(out, &half, sizeof half);
    return step < 0 || step > 0 ? 1.0f / step : 0;
}

static void put_nibble(unsigned char *nibbles, int i, unsigned q) {
    nibbles[i % (BLOCK / 2)] |= (unsigned char)(i < BLOCK / 2 ? q : q << 4);
}

/* Product and sum are two statements in what follows: in one, some compilers fuse them, and the bytes
 * differ. */
static void block_q8_0(const float *x, unsigned char *out) {
    float inverse = put_scale(fabsf(extreme(x)) / 127.0f, out);
    for (int i = 0; i < BLOCK; i++) {
        float q = x[i] * inverse;
        q += q < 0 ? -0.5f : 0.5f;
        out[2 + i] = (unsigned char)(int8_t)(q > 127 ? 127 : q < -127 ? -127 : (int)q);
    }
}

/* Nibbles stand for -8 … 7. The largest value goes to -8, so that all sixteen are of use. */
static void block_q4_0(const float *x, unsigned char *out) {
    float inverse = put_scale(extreme(x) / -8.0f, out);
    memset(out + 2, 0, BLOCK / 2);
    for (int i = 0; i < BLOCK; i++) {
        float q = x[i] * inverse;
        q += 8.5f;
        put_nibble(out + 2, i, q < 0 ? 0 : q > 15 ? 15 : (unsigned)q);
    }
}

/* Nibbles are indices into a codebook. The largest value goes to its first entry. */
static void block_iq4_nl(const float *x, unsigned char *out) {
    static const float codebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
    float inverse = put_scale(extreme(x) / -127.0f, out);
    memset(out + 2, 0, BLOCK / 2);
    for (int i = 0; i < BLOCK; i++) {
        float q = x[i] * inverse;
        unsigned best = 0;
        for (unsigned c = 1; c < 16; c++)
            best = fabsf(q - codebook[c]) < fabsf(q - codebook[best]) ? c : best;
        put_nibble(out + 2, i, best);
    }
}

static void one_f16(const float *x, unsigned char *out) {
    uint16_t half = half_from_float(*x);
    memcpy(out, &half, sizeof half);
}

static void one_f32(const float *x, unsigned char *out) {
    memcpy(out, x, sizeof *x);
}

typedef void block_fn(const float *x, unsigned char *out);

static block_fn *const blocks[KILN_DTYPE_COUNT] = {
    [KILN_F32] = one_f32,     [KILN_F16] = one_f16,         [KILN_Q8_0] = block_q8_0,
    [KILN_Q4_0] = block_q4_0, [KILN_IQ4_NL] = block_iq4_nl,
};

bool quantise_knows(kiln_dtype dtype) {
    return dtype < KILN_DTYPE_COUNT && blocks[dtype] != NULL;
}

void quantise(kiln_dtype dtype, const float *x, size_t n, unsigned char *out) {
    const kiln_dtype_info *form = kiln_dtype_get(dtype);
    for (size_t i = 0; i < n; i += form->block, out += form->bytes)
        blocks[dtype](x + i, out);
}
