/* How matmul and matmul_id are cut into tiles, for their `tiles` and `scratch` callbacks and their kernels.
 *
 * A tile is a block of rows of W against a block of tokens. Tiles with the same tokens are neighbours, so
 * that a worker that takes several prepares its activations once.
 */
#ifndef KILN_MATMUL_TILES_H
#define KILN_MATMUL_TILES_H

#include "gemm_scratch.h"
#include "operands.h"
#include "tiles.h"
#include "tuning.h"

enum { KILN__MOST_TOKENS = 64 }; /* per block: bounds pointer arrays on the stack */

typedef struct kiln__mm {
    const kiln_operand *w, *x; /* w: the first of split weights; x: the operand that is read, x or xq */
    bool integer;              /* q8_a activations */
    int64_t n, k, tokens;      /* y is tokens × n */
    int64_t rows_per_block, row_blocks, tokens_per_block, token_blocks;
} kiln__mm;

/* Completes w, x, integer, n, k and tokens by the blocks. */
static inline void kiln__mm_blocks(kiln__mm *m, int64_t most_tokens) {
    int64_t blocks = kiln__ceil_div(m->tokens, most_tokens);
    m->tokens_per_block = blocks > 0 ? kiln__ceil_div(m->tokens, blocks) : 1;
    m->token_blocks = blocks;
    int64_t macs = m->k * m->tokens_per_block, rows = macs > 0 ? kiln__cpu_tuning.tile_macs / macs : m->n;
    if (m->tokens_per_block > 1 && rows < kiln__cpu_tuning.tile_rows)
        rows = kiln__cpu_tuning.tile_rows;
    m->rows_per_block =
        rows <= KILN__PANEL_ROWS ? KILN__PANEL_ROWS : rows / KILN__PANEL_ROWS * KILN__PANEL_ROWS;
    m->row_blocks = kiln__ceil_div(m->n, m->rows_per_block);
}

static inline int64_t kiln__mm_most_tokens(bool integer) {
    return integer ? kiln__cpu_tuning.int_tokens : kiln__cpu_tuning.float_tokens;
}

/* The operand that kernels read activations from. */
static inline const kiln_operand *kiln__mm_x(const kiln_args *args, uint32_t x, uint32_t xq,
                                             uint32_t w_dtype) {
    const kiln_operand *q = kiln__optional(args, xq);
    return q != NULL && kiln__takes_xq(w_dtype, q->dtype) ? q : &args->in[x];
}

/* Scratch: what gemm needs, then f32 rows for activations that are not f32 rows in memory. */
static inline int64_t kiln__mm_gemm_scratch(const kiln__mm *m) {
    return m->integer ? kiln__gemm_int_scratch(m->tokens_per_block, m->k)
                      : kiln__gemm_float_scratch(m->tokens_per_block);
}

static inline int64_t kiln__mm_scratch(const kiln__mm *m, bool gathers) {
    int64_t gemm = kiln__mm_gemm_scratch(m), rows = 0, all;
    if (gathers && __builtin_mul_overflow(m->k, m->tokens_per_block * 4, &rows))
        return -1;
    return gemm < 0 || __builtin_add_overflow(gemm, rows, &all) ? -1 : all;
}

/* ---- matmul -------------------------------------------------------------------------------------------- */

static inline kiln__mm kiln__matmul_plan(const kiln_args *args) {
    const kiln_operand *w = &args->in[KILN_MATMUL_W];
    kiln__mm m = {.w = w, .x = kiln__mm_x(args, KILN_MATMUL_X, KILN_MATMUL_XQ, w->dtype)};
    m.integer = m.x->dtype == KILN_Q8_A;
    m.n = w->ne[2];
    m.k = w->ne[3];
    m.tokens = kiln__rows(&args->out[0]);
    kiln__mm_blocks(&m, kiln__mm_most_tokens(m.integer));
    return m;
}

/* x as [..., h, d] with h·d = K, and not simply [..., K] */
static inline bool kiln__mm_splits(const kiln__mm *m) {
    return m->x->ne[3] != m->k;
}

/* Do activations have to be copied to be f32 rows (or q8_a rows)? */
static inline bool kiln__mm_gathers(const kiln__mm *m) {
    if (m->integer)
        return false;
    return m->x->dtype != KILN_F32 || (kiln__mm_splits(m) && m->x->nb[2] != m->x->ne[3] * 4);
}

static inline int64_t kiln__matmul_tiles(const kiln_args *args) {
    kiln__mm m = kiln__matmul_plan(args);
    return m.token_blocks * m.row_blocks;
}

static inline int64_t kiln__matmul_scratch(const kiln_args *args) {
    kiln__mm m = kiln__matmul_plan(args);
    /* Fewer tokens in a run may make blocks larger, up to the most there can be. */
    m.tokens_per_block =
        m.tokens < kiln__mm_most_tokens(m.integer) ? m.tokens : kiln__mm_most_tokens(m.integer);
    return kiln__mm_scratch(&m, kiln__mm_gathers(&m));
}

/* Integer dot products do about four multiply-adds in the time of one in f32. With few tokens each result has its own way
 * through a row of W, whose beginning and end cost as much as some hundred multiply-adds. */
static inline int64_t kiln__mm_ops(const kiln__mm *m) {
    const int64_t row = m->tokens < kiln__cpu_tuning.panel_tokens ? 300 : 8;
    int64_t results = kiln__times(m->n, m->tokens);
    return kiln__plus(kiln__times(results, m->k) / (m->integer ? 4 : 1), kiln__times(results, row));
}

static inline kiln_cost kiln__matmul_cost(const kiln_args *args) {
    kiln__mm m = kiln__matmul_plan(args);
    int64_t bytes = kiln__bytes_of(m.w, kiln__times(m.n, m.k));
    bytes = kiln__plus(bytes, kiln__bytes_of(m.x, kiln__elements(m.x)));
    return (kiln_cost){kiln__plus(bytes, kiln__bytes_of(&args->out[0], kiln__elements(&args->out[0]))),
                       kiln__mm_ops(&m)};
}

/* ---- matmul_id ----------------------------------------------------------------------------------------- */

typedef struct kiln__mm_id {
    kiln__mm m; /* its tokens are (token, slot) pairs */
    int64_t slots, experts;
    bool split;  /* a tensor per expert */
    bool mapped; /* pairs are taken in the order of the map: blocks of tokens_per_block entries */
} kiln__mm_id;

/* Are rows worth grouping by expert? expert_map asks too, and makes nothing when they are not. */
static inline bool kiln__mm_id_grouped(const kiln_operand *ids) {
    return ids->ne[2] >= kiln__cpu_tuning.map_tokens;
}

static inline kiln__mm_id kiln__matmul_id_plan(const kiln_args *args) {
    const kiln_operand *w = &args->in[KILN_MATMUL_ID_W], *ids = &args->in[KILN_MATMUL_ID_IDS];
    kiln__mm_id p = {.split = w->ndim == 2, .slots = ids->ne[3]};
    p.m.w = w;
    p.m.x = kiln__mm_x(args, KILN_MATMUL_ID_X, KILN_MATMUL_ID_XQ, w->dtype);
    p.m.integer = p.m.x->dtype == KILN_Q8_A;
    p.m.n = w->ne[2];
    p.m.k = w->ne[3];
    p.m.tokens = ids->ne[2] * ids->ne[3];
    p.experts = p.split ? args->n_in - KILN_MATMUL_ID_W : w->ne[1];
    p.mapped = kiln__optional(args, KILN_MATMUL_ID_OFFSETS) != NULL && kiln__mm_id_grouped(ids);
    kiln__mm_blocks(&p.m, p.mapped ? kiln__mm_most_tokens(p.m.integer) : 1);
    return p;
}

static inline int64_t kiln__matmul_id_tiles(const kiln_args *args) {
    kiln__mm_id p = kiln__matmul_id_plan(args);
    return p.m.token_blocks * p.m.row_blocks;
}

static inline int64_t kiln__matmul_id_scratch(const kiln_args *args) {
    kiln__mm_id p = kiln__matmul_id_plan(args);
    if (p.mapped)
        p.m.tokens_per_block = kiln__mm_most_tokens(p.m.integer);
    return kiln__mm_scratch(&p.m, !p.m.integer && p.m.x->dtype != KILN_F32);
}

/* As many experts as there are pairs, at most all. */
static inline kiln_cost kiln__matmul_id_cost(const kiln_args *args) {
    kiln__mm_id p = kiln__matmul_id_plan(args);
    int64_t read = p.m.tokens < p.experts ? p.m.tokens : p.experts;
    int64_t bytes = kiln__times(read, kiln__bytes_of(p.m.w, kiln__times(p.m.n, p.m.k)));
    bytes = kiln__plus(bytes, kiln__bytes_of(p.m.x, kiln__elements(p.m.x)));
    return (kiln_cost){kiln__plus(bytes, kiln__bytes_of(&args->out[0], kiln__elements(&args->out[0]))),
                       kiln__mm_ops(&p.m)};
}

static inline int64_t kiln__expert_map_tiles(const kiln_args *args) {
    return kiln__mm_id_grouped(&args->in[0]);
}

#endif
