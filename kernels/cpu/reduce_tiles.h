/* How sums of rows are cut: blocks of columns of each output row. */
#ifndef KILN_REDUCE_TILES_H
#define KILN_REDUCE_TILES_H

#include "tiles.h"

enum { KILN__REDUCE_COLUMNS = 512 };

typedef struct kiln__reduce_grid {
    int64_t units, per_tile, tiles;
    int64_t chunks; /* column blocks of a row */
} kiln__reduce_grid;

/* `terms`: how many rows are added into one of y. */
static inline kiln__reduce_grid kiln__reduce_grid_of(const kiln_operand *y, int64_t terms) {
    kiln__reduce_grid g = {.chunks = kiln__ceil_div(y->ne[3], KILN__REDUCE_COLUMNS)};
    int64_t columns = y->ne[3] < KILN__REDUCE_COLUMNS ? y->ne[3] : KILN__REDUCE_COLUMNS;
    g.units = kiln__rows(y) * g.chunks;
    g.per_tile = terms >= KILN__TILE ? 1 : kiln__rows_per_tile(columns * (terms + 1));
    g.tiles = g.units > 0 ? kiln__ceil_div(g.units, g.per_tile) : 0;
    return g;
}

static inline int64_t kiln__reduce_tiles(const kiln_args *args) {
    return kiln__reduce_grid_of(&args->out[0], args->in[0].ne[2]).tiles;
}

#endif
