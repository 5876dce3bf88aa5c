#include "rows.h"

kiln_status KILN_LEVEL_FN(quantize)(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    const kiln_dtype_info *from = kiln_dtype_get((kiln_dtype)x->dtype),
                          *to = kiln_dtype_get((kiln_dtype)y->dtype);
    int64_t n = x->ne[3], rows = kiln__rows(y), per = kiln__rows_per_tile(n);
    for (int64_t r = tile->first * per; r < tile->last * per && r < rows; r++) {
        const unsigned char *in = kiln__row(x, r);
        unsigned char *out = kiln__row(y, r);
        for (int64_t j = 0; j < n; j += KILN__PART) {
            float part[KILN__PART];
            int64_t m = n - j < KILN__PART ? n - j : KILN__PART;
            const float *f = kiln__f32_row(x->dtype, in + j * from->bytes, m, part);
            KILN__FNS[y->dtype].from_f32(f, out + j / to->block * to->bytes, m);
        }
    }
    return KILN_OK;
}
