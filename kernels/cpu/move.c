/* Bytes moved or cleared: zero, concat. */
#include "kiln_ops.h"
#include "move_tiles.h"
#include "rows.h"

/* Rows as bytes: any dtype is u8 here. */
kiln_status KILN_LEVEL_FN(zero)(const kiln_args *args, kiln_tile *tile) {
    kiln_operand y = kiln__as_bytes(&args->out[0]);
    kiln__grid g = kiln__grid_of(&y, kiln__is_flat(&y, 1));
    for (kiln__cell c = kiln__cells(&g, tile); kiln__cell_next(&g, &c);)
        memset((g.flat ? y.data : kiln__row(&y, c.row)) + c.start, 0, (size_t)c.n);
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
