/* How copy is cut into tiles. */
#ifndef KILN_COPY_TILES_H
#define KILN_COPY_TILES_H

#include "tiles.h"

static inline int64_t kiln__copy_tiles(const kiln_args *args) {
    return kiln__grid_of(&args->out[0]).tiles;
}

#endif
