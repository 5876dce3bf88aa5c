/* How rope cuts its work, by blocks of tokens, and the scratch of rope and rope_set_rows: factors for one
 * token, and a row. */
#ifndef KILN_ROPE_TILES_H
#define KILN_ROPE_TILES_H

#include "tiles.h"

typedef struct kiln__rope_grid {
    int axis; /* of the tokens, among the four padded ones */
    int64_t tokens, heads, d;
    int64_t per_tile, tiles;
} kiln__rope_grid;

static inline kiln__rope_grid kiln__rope_grid_of(const kiln_operand *x) {
    kiln__rope_grid g = {.axis = KILN_MAX_DIMS - (int)x->ndim, .d = x->ne[3], .per_tile = 1};
    g.tokens = x->ne[g.axis];
    g.heads = g.axis == 1 ? x->ne[2] : 1;
    if (g.heads * g.d == 0 || g.tokens == 0)
        return g;
    g.per_tile = kiln__rows_per_tile(g.heads * g.d);
    g.tiles = kiln__ceil_div(g.tokens, g.per_tile);
    return g;
}

/* in[0] of rope, in[1] of rope_set_rows */
static inline int64_t kiln__rope_scratch(const kiln_operand *x) {
    return kiln__scratch_bytes(x->ne[3], 4);
}

#endif
