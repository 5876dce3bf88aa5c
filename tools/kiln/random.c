#include "random.h"
#include "tools/llm/half.h"

#include <string.h>

uint64_t random_next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Block types: any bits are good quants, but the f16 factors must fit the values that are wanted. The first
 * factor is scale / reach, the second one scale / min_reach. Layouts: kiln_dtype_list.h. */
static const struct {
    kiln_dtype dtype;
    /* Of the first factor in the block. */
    uint32_t at;
    /* What the first factor is multiplied with, at most. */
    float reach;
    /* Of the second factor; -1: there is none. */
    int32_t min_at;
    /* Such that the mean is near 0: 0 to 31 less half of that; 0 to 63 × 0 to 15 (31) less 0 to 63. */
    float min_reach;
} blocks[] = {
    {KILN_Q4_0, 0, 8, -1, 0},      {KILN_Q5_1, 0, 15.5f, 2, -1},    {KILN_Q8_0, 0, 128, -1, 0},
    {KILN_IQ4_NL, 0, 127, -1, 0},  {KILN_Q4_K, 0, 63 * 15, 2, 126}, {KILN_Q5_K, 0, 63 * 31, 2, 126},
    {KILN_Q6_K, 208, 4096, -1, 0},
};
enum { N_BLOCKS = sizeof blocks / sizeof blocks[0] };

static size_t block_row(kiln_dtype dtype) {
    size_t i = 0;
    while (i < N_BLOCKS && blocks[i].dtype != dtype)
        i++;
    return i;
}

bool random_has(kiln_dtype dtype) {
    kiln_dtype_kind kind = kiln_dtype_get(dtype)->kind;
    return kind == KILN_KIND_FLOAT || kind == KILN_KIND_INT || block_row(dtype) < N_BLOCKS;
}

int64_t random_most(kiln_dtype dtype) {
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    if (info->kind != KILN_KIND_INT || info->bytes >= 8)
        return INT64_MAX;
    bool is_unsigned = dtype == KILN_U8 || dtype == KILN_U32;
    return (int64_t)1 << (8 * info->bytes - (is_unsigned ? 0 : 1));
}

static void put_block(unsigned char *to, size_t row, uint64_t *state, float scale) {
    uint32_t bytes = kiln_dtype_get(blocks[row].dtype)->bytes;
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t bits = random_next(state);
        memcpy(to + i, &bits, bytes - i < 8 ? bytes - i : 8);
    }
    uint16_t factor = half_from_float(scale / blocks[row].reach);
    memcpy(to + blocks[row].at, &factor, sizeof factor);
    if (blocks[row].min_at < 0)
        return;
    factor = half_from_float(scale / blocks[row].min_reach);
    memcpy(to + blocks[row].min_at, &factor, sizeof factor);
}

void random_put(unsigned char *to, kiln_dtype dtype, uint64_t *state, float scale, int64_t limit) {
    size_t row = block_row(dtype);
    if (row < N_BLOCKS) {
        put_block(to, row, state, scale);
        return;
    }
    uint64_t bits = random_next(state);
    float f = scale * (float)((double)(bits >> 40) / 8388608.0 - 1.0);
    uint16_t half = dtype == KILN_F16 ? half_from_float(f) : bfloat_from_float(f);
    int64_t value = (int64_t)(bits % (uint64_t)limit);
    if (dtype == KILN_F32)
        memcpy(to, &f, sizeof f);
    else if (dtype == KILN_F16 || dtype == KILN_BF16)
        memcpy(to, &half, sizeof half);
    else /* little-endian, so that the low bytes come first */
        memcpy(to, &value, kiln_dtype_get(dtype)->bytes);
}
