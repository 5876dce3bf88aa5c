/* Operands of any dtype as bytes, and how moving them is cut. */
#ifndef KILN_MOVE_TILES_H
#define KILN_MOVE_TILES_H

#include "tiles.h"

static inline kiln_operand kiln__as_bytes(const kiln_operand *o) {
    kiln_operand b = *o;
    const kiln_dtype_info *info = kiln_dtype_get((kiln_dtype)o->dtype);
    b.ne[3] = o->ne[3] / info->block * info->bytes;
    b.nb[3] = 1;
    b.dtype = KILN_U8;
    return b;
}

static inline int64_t kiln__zero_tiles(const kiln_args *args) {
    kiln_operand y = kiln__as_bytes(&args->out[0]);
    return y.flat ? kiln__flat_tiles(kiln__count(&y)) : kiln__grid_of(&y).tiles;
}

static inline int64_t kiln__concat_tiles(const kiln_args *args) {
    kiln_operand y = kiln__as_bytes(&args->out[0]);
    return y.ne[3] > 0 ? kiln__row_tiles(kiln__rows(&y), y.ne[3]) : 0;
}

#endif
