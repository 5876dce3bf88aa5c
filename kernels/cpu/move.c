/* Rows moved or cleared: zero, concat, set_rows. */
#include "append.h"
#include "kiln_attrs.h"
#include "move_tiles.h"
#include "rows.h"

/* Rows as bytes: any dtype is u8 here. */
kiln_status KILN_LEVEL_FN(zero)(const kiln_args *args, kiln_tile *tile) {
    kiln_operand y = kiln__as_bytes(&args->out[0]);
    if (y.flat) {
        kiln__span s = kiln__flat_span(kiln__count(&y), tile);
        memset(y.data + s.first, 0, (size_t)s.n);
        return KILN_OK;
    }
    kiln__grid g = kiln__grid_of(&y);
    for (kiln__cell c = kiln__cells(&g, tile); kiln__cell_next(&g, &c);)
        memset(kiln__row(&y, c.row) + c.start, 0, (size_t)c.n);
    return KILN_OK;
}

/* Copies the part of output row r that comes from `part`, which starts at element `at` of the axis. */
static void copy_part(const kiln_operand *part, const kiln_operand *y, int64_t axis, int64_t at, int64_t r) {
    int64_t i[3] = {r / y->ne[2] / y->ne[1], r / y->ne[2] % y->ne[1], r % y->ne[2]};
    unsigned char *to = kiln__row(y, r);
    if (axis < 3) {
        if (i[axis] < at || i[axis] - at >= part->ne[axis])
            return;
        i[axis] -= at;
    } else {
        to += at;
    }
    memcpy(to, part->data + i[0] * part->nb[0] + i[1] * part->nb[1] + i[2] * part->nb[2],
           (size_t)part->ne[3]);
}

kiln_status KILN_LEVEL_FN(concat)(const kiln_args *args, kiln_tile *tile) {
    const kiln_concat_attrs *attrs = args->attrs;
    kiln_operand y = kiln__as_bytes(&args->out[0]);
    int64_t axis =
        attrs->axis < 0 ? KILN_MAX_DIMS + attrs->axis : KILN_MAX_DIMS - (int64_t)y.ndim + attrs->axis;
    int64_t per = kiln__rows_per_tile(y.ne[3]), all = kiln__rows(&y);
    int64_t end = tile->last * per < all ? tile->last * per : all;
    int64_t at = 0;
    for (uint32_t p = 0; p < args->n_in; p++) {
        kiln_operand part = kiln__as_bytes(&args->in[p]);
        if (part.ne[0] * part.ne[1] * part.ne[2] * part.ne[3] > 0)
            for (int64_t r = tile->first * per; r < end; r++)
                copy_part(&part, &y, axis, at, r);
        at += part.ne[axis];
    }
    return KILN_OK;
}

/* n elements from one float dtype to another. */
static void convert(uint32_t to_type, unsigned char *to, uint32_t from_type, const unsigned char *from,
                    int64_t n) {
    if (to_type == from_type) {
        memcpy(to, from, (size_t)(n * kiln__float_size(to_type)));
        return;
    }
    float part[KILN__PART];
    for (int64_t i = 0; i < n; i += KILN__PART) {
        int64_t m = n - i < KILN__PART ? n - i : KILN__PART;
        const float *values = kiln__f32_row(from_type, from + i * kiln__float_size(from_type), m, part);
        KILN__FNS[to_type].from_f32(values, to + i * kiln__float_size(to_type), m);
    }
}

kiln_status KILN_LEVEL_FN(set_rows)(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *indices = kiln__optional(args, 2);
    kiln__append a = kiln__append_of(&args->out[0], &args->in[1], indices, args->attrs, false);
    int64_t to_size = kiln__float_size(a.dst->dtype), from_size = kiln__float_size(a.rows->dtype);
    int64_t end = tile->last * a.per_tile < a.units ? tile->last * a.per_tile : a.units;
    for (int64_t u = tile->first * a.per_tile; u < end; u++) {
        int64_t t0 = indices ? 0 : u, t1 = indices ? a.count : u + 1;
        int64_t piece0 = indices ? u / a.chunks : 0, piece1 = indices ? piece0 + 1 : a.pieces;
        int64_t start = indices ? u % a.chunks * a.chunk : 0, n = a.n - start;
        if (indices != NULL && n > a.chunk)
            n = a.chunk;
        for (int64_t t = t0; t < t1; t++) {
            int64_t row = kiln__append_row(&a, t, tile, indices == NULL || u == 0);
            for (int64_t piece = piece0; row >= 0 && piece < piece1; piece++)
                convert(a.dst->dtype, kiln__append_run(&a, a.dst, row, piece) + start * to_size,
                        a.rows->dtype, kiln__append_run(&a, a.rows, t, piece) + start * from_size, n);
        }
    }
    return KILN_OK;
}
