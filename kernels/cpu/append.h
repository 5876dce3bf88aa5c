/* Where set_rows and rope_set_rows put their rows, and how they cut their work. Internal to kernels and ops.
 *
 * Rows lie along the first axis of dst [C, ...] and rows [T, ...]; a row consists of `pieces` innermost runs
 * of n elements. Positions that follow one another never meet (those that a ring laps are left out), so tiles
 * are blocks of rows. Indices may repeat, and then the last one counts: tiles are blocks of pieces, and each
 * goes through all rows in order. */
#ifndef KILN_APPEND_H
#define KILN_APPEND_H

#include "kiln_attrs.h"
#include "tiles.h"

enum { KILN__APPEND_COLUMNS = 256 };

typedef struct kiln__append {
    const kiln_operand *dst, *rows;
    const kiln_operand *indices; /* NULL: position + t */
    int64_t position;
    bool ring;
    int axis;                       /* of the rows, among the four padded ones */
    int64_t count, capacity;        /* T and C */
    int64_t pieces, n;              /* innermost runs per row and their length */
    int64_t chunk, chunks;          /* with indices: elements of a run per unit, units per run */
    int64_t units, per_tile, tiles; /* a unit is a row or, with indices, a part of a run */
} kiln__append;

/* `whole`: runs are not to be cut (rope turns them as a whole). */
static inline kiln__append kiln__append_of(const kiln_operand *dst, const kiln_operand *rows,
                                           const kiln_operand *indices, const kiln_set_rows_attrs *attrs,
                                           bool whole) {
    kiln__append a = {.dst = dst, .rows = rows, .indices = indices, .position = attrs->position.value};
    a.ring = attrs->ring != 0;
    a.axis = KILN_MAX_DIMS - (int)dst->ndim;
    a.count = rows->ne[a.axis];
    a.capacity = dst->ne[a.axis];
    a.pieces = 1;
    for (int k = a.axis + 1; k < KILN_MAX_DIMS - 1; k++)
        a.pieces *= rows->ne[k];
    a.n = rows->ne[KILN_MAX_DIMS - 1];
    a.chunk = whole || a.n < KILN__APPEND_COLUMNS ? a.n : KILN__APPEND_COLUMNS;
    if (a.pieces * a.n == 0 || a.count == 0)
        return a;
    a.chunks = kiln__ceil_div(a.n, a.chunk);
    a.units = indices == NULL ? a.count : a.pieces * a.chunks;
    a.per_tile = kiln__rows_per_tile(indices == NULL ? a.pieces * a.n : a.count * a.chunk);
    a.tiles = kiln__ceil_div(a.units, a.per_tile);
    return a;
}

/* Run `piece` of row `i` of dst or of rows. */
static inline unsigned char *kiln__append_run(const kiln__append *a, const kiln_operand *o, int64_t i,
                                              int64_t piece) {
    unsigned char *p = o->data + i * o->nb[a->axis];
    if (a->axis == 1)
        return p + piece * o->nb[2];
    if (a->axis == 0)
        return p + piece / o->ne[2] * o->nb[1] + piece % o->ne[2] * o->nb[2];
    return p;
}

static inline int64_t kiln__append_index(const kiln__append *a, int64_t t) {
    const unsigned char *p = a->indices->data + t * a->indices->nb[3];
    if (a->indices->dtype == KILN_I64)
        return *(const int64_t *)(const void *)p;
    if (a->indices->dtype == KILN_U32)
        return *(const uint32_t *)(const void *)p;
    return *(const int32_t *)(const void *)p;
}

/* The row of dst for row t, or -1: the write is dropped. `report`: an index out of range is to be reported,
 * by one tile only. */
static inline int64_t kiln__append_row(const kiln__append *a, int64_t t, kiln_tile *tile, bool report) {
    const bool ring = a->ring && a->capacity > 0;
    if (ring && a->indices == NULL && t < a->count - a->capacity)
        return -1; /* row t + capacity goes to the same place after it */
    int64_t index = a->indices != NULL ? kiln__append_index(a, t) : a->position;
    const int64_t on = a->indices != NULL ? 0 : t; /* further than it */
    if (ring && index >= 0) {
        /* Taken apart, so that the sum fits wherever the position stands. */
        const int64_t row = index % a->capacity, left = a->capacity - on % a->capacity;
        return row < left ? row + on % a->capacity : row - left;
    }
    const bool fits = !__builtin_add_overflow(index, on, &index);
    if (fits && index >= 0 && (ring || index < a->capacity))
        return ring ? index % a->capacity : index;
    if (report)
        kiln_tile_bad_index(tile, t, fits ? index : INT64_MAX, ring ? INT64_MAX : a->capacity);
    return -1;
}

#endif
