#include "copy_tiles.h"
#include "rows.h"

#include <string.h>

#define PICK(type)                                                                                           \
    static void pick_##type(const unsigned char *x, int64_t stride, int64_t n, void *out) {                  \
        for (int64_t i = 0; i < n; i++)                                                                      \
            memcpy((type *)out + i, x + i * stride, sizeof(type));                                           \
    }
PICK(uint8_t)
PICK(uint16_t)
PICK(uint32_t)
PICK(uint64_t)

/* n plain elements `stride` bytes apart, side by side to `out`. */
static void pick(const unsigned char *x, int64_t stride, int64_t n, void *out, uint32_t size) {
    if (stride == (int64_t)size)
        memcpy(out, x, (size_t)n * size);
    else
        (size == 1   ? pick_uint8_t
         : size == 2 ? pick_uint16_t
         : size == 4 ? pick_uint32_t
                     : pick_uint64_t)(x, stride, n, out);
}

kiln_status KILN_LEVEL_FN(copy)(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    const kiln_dtype_info *from = kiln_dtype_get((kiln_dtype)x->dtype),
                          *to = kiln_dtype_get((kiln_dtype)y->dtype);
    bool adjacent = from->block > 1 || x->nb[3] == (int64_t)from->bytes || x->ne[3] == 1;
    kiln__grid g = kiln__grid_of(y);
    for (kiln__cell c = kiln__cells(&g, tile); kiln__cell_next(&g, &c);) {
        for (int64_t j = c.start; j < c.start + c.n; j += KILN__PART) {
            _Alignas(8) unsigned char raw[KILN__PART * 8];
            float part[KILN__PART];
            int64_t n = c.start + c.n - j < KILN__PART ? c.start + c.n - j : KILN__PART;
            const unsigned char *in = kiln__row(x, c.row);
            unsigned char *out = kiln__row(y, c.row) + j * to->bytes;
            if (x->dtype == y->dtype) {
                pick(in + j * x->nb[3], x->nb[3], n, out, from->bytes);
                continue;
            }
            if (adjacent) {
                in += j / from->block * from->bytes;
            } else {
                pick(in + j * x->nb[3], x->nb[3], n, raw, from->bytes);
                in = raw;
            }
            KILN__FNS[y->dtype].from_f32(kiln__f32_row(x->dtype, in, n, part), out, n);
        }
    }
    return KILN_OK;
}
