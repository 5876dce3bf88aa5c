/* Where a kernel's reports go: a worker's own sink, read by the executor after each run call. Internal. */
#ifndef KILN_TILE_H
#define KILN_TILE_H

#include "kiln_op.h"

typedef struct kiln__tile_sink {
    bool bad_index; /* with the lowest row reported */
    int64_t row, index, limit;
    char text[256]; /* of kiln_tile_fail; "" when the kernel gave none */
} kiln__tile_sink;

#endif
