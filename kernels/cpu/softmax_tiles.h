/* How softmax cuts its work: by rows, or, along another axis than the innermost, by blocks of columns. */
#ifndef KILN_SOFTMAX_TILES_H
#define KILN_SOFTMAX_TILES_H

#include "kiln_attrs.h"
#include "tiles.h"

enum { KILN__SOFTMAX_COLUMNS = 256 };

typedef struct kiln__softmax_grid {
    int64_t units, per_tile, tiles;
    int64_t chunks;        /* column blocks of a row; 0: a unit is a whole row */
    int64_t length, inner; /* of the axis; rows from one of its elements to the next */
} kiln__softmax_grid;

static inline kiln__softmax_grid kiln__softmax_grid_of(const kiln_args *args) {
    const kiln_softmax_attrs *attrs = args->attrs;
    const kiln_operand *x = &args->in[0];
    kiln__softmax_grid g = {.units = kiln__rows(x), .per_tile = 1, .length = x->ne[3]};
    int64_t axis =
        attrs->axis < 0 ? KILN_MAX_DIMS + attrs->axis : KILN_MAX_DIMS - (int64_t)x->ndim + attrs->axis;
    int64_t work = x->ne[3];
    if (axis < KILN_MAX_DIMS - 1) {
        g.length = x->ne[axis];
        g.inner = 1;
        for (int64_t k = axis + 1; k < KILN_MAX_DIMS - 1; k++)
            g.inner *= x->ne[k];
        g.chunks = kiln__ceil_div(x->ne[3], KILN__SOFTMAX_COLUMNS);
        g.units = g.length > 0 ? g.units / g.length * g.chunks : 0;
        work = g.length * (x->ne[3] < KILN__SOFTMAX_COLUMNS ? x->ne[3] : KILN__SOFTMAX_COLUMNS);
    }
    if (work == 0)
        g.units = 0;
    g.per_tile = kiln__rows_per_tile(work);
    g.tiles = kiln__row_tiles(g.units, work);
    return g;
}

/* Row of element j of the axis; `outer` counts the positions of the axes but this one and the innermost. */
static inline int64_t kiln__softmax_row(const kiln__softmax_grid *g, int64_t outer, int64_t j) {
    return (outer / g->inner * g->length + j) * g->inner + outer % g->inner;
}

#endif
