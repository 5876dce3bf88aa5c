/* How swiglu cuts its work. Parts of rows start at multiples of KILN__TILE, so at whole blocks of the
 * quantised copy. */
#ifndef KILN_SWIGLU_TILES_H
#define KILN_SWIGLU_TILES_H

#include "tiles.h"

/* Two dense operands and no copy are one long row: then row 0 is all there is. */
static inline kiln__grid kiln__swiglu_grid(const kiln_args *args) {
    const kiln_operand *gate = &args->in[0], *y = &args->out[0];
    bool pair = kiln__optional(args, 1) != NULL && args->n_out == 1;
    bool flat = pair && (gate->flat & args->in[1].flat & y->flat);
    return flat ? kiln__grid_make(1, kiln__count(y)) : kiln__grid_of(y);
}

static inline int64_t kiln__swiglu_tiles(const kiln_args *args) {
    return kiln__swiglu_grid(args).tiles;
}

#endif
