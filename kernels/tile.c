#include "tile.h"

#include <stdarg.h>
#include <stdio.h>

void kiln_tile_bad_index(kiln_tile *tile, int64_t row, int64_t index, int64_t limit) {
    kiln__tile_sink *sink = tile->reserved;
    if ((sink->reports & KILN__SINK_BAD_INDEX) && sink->row <= row)
        return;
    sink->reports |= KILN__SINK_BAD_INDEX;
    sink->row = row;
    sink->index = index;
    sink->limit = limit;
}

kiln_status kiln_tile_fail(kiln_tile *tile, const char *format, ...) {
    kiln__tile_sink *sink = tile->reserved;
    va_list args;
    va_start(args, format);
    vsnprintf(sink->text, sizeof sink->text, format, args);
    va_end(args);
    sink->reports |= KILN__SINK_FAILED;
    return KILN_ERROR_KERNEL;
}
