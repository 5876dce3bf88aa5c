/* Where a kernel's reports go: a worker's own sink, read by the executor after each run call. Internal. */
#ifndef KILN_TILE_H
#define KILN_TILE_H

#include "kiln_op.h"

enum { KILN__SINK_BAD_INDEX = 1, KILN__SINK_FAILED = 2 };

typedef struct kiln__tile_sink {
    uint32_t reports;          /* KILN__SINK_*: what there is to look at; 0 after nearly every call */
    int64_t row, index, limit; /* BAD_INDEX: the lowest row reported */
    char text[256];            /* FAILED */
} kiln__tile_sink;

#endif
