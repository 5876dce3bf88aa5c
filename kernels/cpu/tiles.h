/* How ops cut their work into tiles: the same functions serve an op's `tiles` callback and its kernels.
 * Operands have four dimensions, a row is the innermost one. Internal to kernels and ops. */
#ifndef KILN_TILES_H
#define KILN_TILES_H

#include "cost.h"
#include "kiln_op.h"

enum { KILN__TILE = 4096 }; /* elements a tile should have at least: about a microsecond of light work */

/* Input i, NULL where it is absent. */
static inline const kiln_operand *kiln__optional(const kiln_args *args, uint32_t i) {
    return i < args->n_in && args->in[i].dtype != KILN_DTYPE_NONE ? &args->in[i] : NULL;
}

static inline int64_t kiln__rows(const kiln_operand *o) {
    return o->ne[0] * o->ne[1] * o->ne[2];
}

static inline int64_t kiln__count(const kiln_operand *o) {
    return kiln__rows(o) * o->ne[3];
}

static inline int64_t kiln__ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* Row r in row-major order. A count of 1 repeats: for operands broadcast to `shape`, whose rows r counts. */
static inline unsigned char *kiln__row_of(const kiln_operand *o, const kiln_operand *shape, int64_t r) {
    if (shape->ne[0] * shape->ne[1] == 1)
        return o->data + (o->ne[2] == 1 ? 0 : r * o->nb[2]);
    int64_t i2 = r % shape->ne[2], q = r / shape->ne[2], i1 = q % shape->ne[1], i0 = q / shape->ne[1];
    return o->data + (o->ne[0] == 1 ? 0 : i0 * o->nb[0]) + (o->ne[1] == 1 ? 0 : i1 * o->nb[1]) +
           (o->ne[2] == 1 ? 0 : i2 * o->nb[2]);
}

static inline unsigned char *kiln__row(const kiln_operand *o, int64_t r) {
    return kiln__row_of(o, o, r);
}

/* ---- whole rows: norms, softmax, top-k -------------------------------------------------------------- */

/* Rows per tile when a row is about n elements of work. */
static inline int64_t kiln__rows_per_tile(int64_t n) {
    return n <= 0 ? KILN__TILE : n >= KILN__TILE ? 1 : KILN__TILE / n;
}

static inline int64_t kiln__row_tiles(int64_t rows, int64_t n) {
    int64_t per = kiln__rows_per_tile(n);
    return rows <= per ? rows > 0 : kiln__ceil_div(rows, per);
}

/* Tiles of whole rows of in[0]. */
static inline int64_t kiln__tiles_rows(const kiln_args *args) {
    int64_t n = args->in[0].ne[3];
    return n == 0 ? 0 : kiln__row_tiles(kiln__rows(&args->in[0]), n);
}

/* Tiles of whole rows of out[0]. */
static inline int64_t kiln__tiles_out_rows(const kiln_args *args) {
    return kiln__row_tiles(kiln__rows(&args->out[0]), args->out[0].ne[3]);
}

/* f32 values from one row of scratch to the next, for rows of n. */
static inline int64_t kiln__scratch_row(int64_t n) {
    return (n + 15) & ~(int64_t)15;
}

/* Bytes of `rows` rows of n f32 values in scratch; -1 on overflow. */
static inline int64_t kiln__scratch_bytes(int64_t n, int64_t rows) {
    int64_t bytes;
    if (n > INT64_MAX - 15 || __builtin_mul_overflow(kiln__scratch_row(n), 4 * rows, &bytes))
        return -1;
    return bytes;
}

static inline int64_t kiln__scratch_rows_3(const kiln_args *args) {
    return kiln__scratch_bytes(args->in[0].ne[3], 3);
}

/* ---- elements: spans of flat operands, cells of others ---------------------------------------------- */

/* Tiles of n elements that lie one behind the other: a tile is KILN__TILE of them, or all when they are few. */
static inline int64_t kiln__flat_tiles(int64_t n) {
    return n == 0 ? 0 : n <= 2 * KILN__TILE ? 1 : kiln__ceil_div(n, KILN__TILE);
}

typedef struct kiln__span {
    int64_t first, n;
} kiln__span;

/* The elements of tiles first … last-1 of n. */
static inline kiln__span kiln__flat_span(int64_t n, const kiln_tile *tile) {
    if (n <= 2 * KILN__TILE)
        return (kiln__span){0, n};
    int64_t first = tile->first * KILN__TILE, end = tile->last * KILN__TILE;
    return (kiln__span){first, (end < n ? end : n) - first};
}

/* Operands with gaps: a cell is a part of a row. */
typedef struct kiln__grid {
    int64_t rows, n;         /* what is walked: rows of n elements */
    int64_t chunk, chunks;   /* elements per cell, cells per row */
    int64_t per_tile, tiles; /* cells per tile */
} kiln__grid;

static inline kiln__grid kiln__grid_make(int64_t rows, int64_t n) {
    kiln__grid g = {.rows = rows, .n = n, .chunk = n, .chunks = 1, .per_tile = 1};
    if (g.n == 0 || g.rows == 0)
        return g;
    if (g.n > 2 * KILN__TILE) {
        g.chunk = KILN__TILE;
        g.chunks = kiln__ceil_div(g.n, KILN__TILE);
    } else {
        g.per_tile = kiln__rows_per_tile(g.n);
    }
    int64_t cells = g.rows * g.chunks;
    g.tiles = cells <= g.per_tile ? 1 : kiln__ceil_div(cells, g.per_tile);
    return g;
}

static inline kiln__grid kiln__grid_of(const kiln_operand *shape) {
    return kiln__grid_make(kiln__rows(shape), shape->ne[3]);
}

/* Bytes of one element of f32, f16 or bf16. */
static inline int64_t kiln__float_size(uint32_t dtype) {
    return dtype == KILN_F32 ? 4 : 2;
}

static inline bool kiln__same_counts(const kiln_operand *a, const kiln_operand *b) {
    return a->ne[0] == b->ne[0] && a->ne[1] == b->ne[1] && a->ne[2] == b->ne[2] && a->ne[3] == b->ne[3];
}

/* out[0] = f(in[0]), element by element, as one row? */
static inline bool kiln__unary_is_flat(const kiln_args *args) {
    return args->in[0].flat & args->out[0].flat;
}

/* out[0] = f(in[0], in[1]), in[1] repeated where its counts are 1: as one row, without repeating? */
static inline bool kiln__binary_is_flat(const kiln_args *args) {
    return (args->in[0].flat & args->in[1].flat & args->out[0].flat) &&
           kiln__same_counts(&args->in[1], &args->out[0]);
}

static inline int64_t kiln__tiles_unary(const kiln_args *args) {
    const kiln_operand *y = &args->out[0];
    return kiln__unary_is_flat(args) ? kiln__flat_tiles(kiln__count(y)) : kiln__grid_of(y).tiles;
}

static inline int64_t kiln__tiles_binary(const kiln_args *args) {
    const kiln_operand *y = &args->out[0];
    return kiln__binary_is_flat(args) ? kiln__flat_tiles(kiln__count(y)) : kiln__grid_of(y).tiles;
}

/* The cells of tiles first … last-1: for (kiln__cell c = kiln__cells(&g, tile); kiln__cell_next(&g, &c);) */
typedef struct kiln__cell {
    int64_t next, end;
    int64_t row, start, n; /* elements start … start + n-1 of a row */
} kiln__cell;

static inline kiln__cell kiln__cells(const kiln__grid *g, const kiln_tile *tile) {
    int64_t all = g->rows * g->chunks, end = tile->last * g->per_tile;
    kiln__cell c = {tile->first * g->per_tile, end < all ? end : all, 0, 0, 0};
    return c;
}

static inline bool kiln__cell_next(const kiln__grid *g, kiln__cell *c) {
    if (c->next >= c->end)
        return false;
    c->row = g->chunks == 1 ? c->next : c->next / g->chunks;
    c->start = (c->next - c->row * g->chunks) * g->chunk;
    c->n = g->n - c->start < g->chunk ? g->n - c->start : g->chunk;
    c->next++;
    return true;
}

#endif
