/* Attention: how it is cut into tiles, and what its two forms share.
 *
 * A tile is a block of query rows (query, head) that share their keys: heads of one group × consecutive
 * queries, up to 64 rows. It goes through the keys that any of its queries may see in blocks of up to 64,
 * with the running maximum, sum and output of each row rescaled as the maximum grows (online softmax; Milakov
 * and Gimelshein, arXiv:1805.02867; Dao et al., FlashAttention, arXiv:2205.14135).
 *
 * Few rows (decoding): vectors run along a row of k or v. Many rows: vectors run across query rows, so that
 * maxima and sums need no reduction within a vector, and a value of k or v is used for all of them at once.
 */
#ifndef KILN_ATTENTION_H
#define KILN_ATTENTION_H

#include "kiln_attrs.h"
#include "tiles.h"

enum {
    KILN__ATT_ROWS = 64, /* query rows of a tile at most */
    KILN__ATT_KEYS = 64, /* keys of a block at most */
    KILN__ATT_MANY = 12 /* query rows from which the second form is used: measured, both cost the same here */
};

typedef struct kiln__att_grid {
    int64_t batch, kv_heads, group;    /* group: query heads per kv head */
    int64_t heads_per, head_blocks;    /* heads of a group per tile, tiles per group */
    int64_t queries_per, query_blocks; /* the same along the queries */
    int64_t tiles;
} kiln__att_grid;

static inline kiln__att_grid kiln__att_grid_of(const kiln_args *args) {
    const kiln_operand *q = &args->in[0], *k = &args->in[1];
    kiln__att_grid g = {.batch = q->ne[0], .kv_heads = k->ne[1], .group = q->ne[1] / k->ne[1]};
    g.heads_per = g.group < KILN__ATT_ROWS ? g.group : KILN__ATT_ROWS;
    g.head_blocks = kiln__ceil_div(g.group, g.heads_per);
    g.queries_per = KILN__ATT_ROWS / g.heads_per;
    g.query_blocks = kiln__ceil_div(q->ne[2], g.queries_per);
    g.tiles = args->out[0].ne[3] == 0 ? 0 : g.batch * g.kv_heads * g.head_blocks * g.query_blocks;
    return g;
}

enum {
    KILN__ATT_SCORE_OPS = 120,
    KILN__ATT_CONVERT_OPS = 400
}; /* beside the products: measured for rows of 8 */

/* Every query against the keys before it, or all: a score and a share of a row of v each. Rows that are not f32 are
 * converted. */
static inline kiln_cost kiln__att_cost(const kiln_args *args) {
    const kiln_operand *q = &args->in[0], *k = &args->in[1], *v = &args->in[2];
    const kiln_attention_attrs *attrs = args->attrs;
    int64_t keys = k->ne[2], behind = kiln__plus(attrs->q_position.value, q->ne[2]);
    if (attrs->causal && behind < keys)
        keys = behind > 0 ? behind : 0;
    if (attrs->window > 0 && attrs->window < keys)
        keys = attrs->window;
    int64_t rows = kiln__times(kiln__times(q->ne[0], q->ne[1]), q->ne[2]);
    int64_t heads = kiln__times(kiln__times(k->ne[0], k->ne[1]), keys);
    int64_t ops = kiln__times(kiln__times(rows, keys), q->ne[3] + v->ne[3] + KILN__ATT_SCORE_OPS);
    if (k->dtype != KILN_F32)
        ops = kiln__plus(ops, kiln__times(heads, KILN__ATT_CONVERT_OPS));
    return (kiln_cost){kiln__plus(kiln__bytes_of(k, kiln__times(heads, k->ne[3])),
                                  kiln__bytes_of(v, kiln__times(heads, v->ne[3]))),
                       ops};
}

/* Scratch: in double the output rows and the sum of each row; in f32 the query rows, the scores, a block of k
 * and of v converted, and four values per row. */
static inline int64_t kiln__att_scratch(const kiln_args *args) {
    int64_t d = args->in[0].ne[3], dv = args->in[2].ne[3];
    if (d > INT32_MAX || dv > INT32_MAX)
        return -1;
    int64_t doubles = kiln__scratch_row(dv) + 1;
    int64_t floats = 2 * kiln__scratch_row(d) + kiln__scratch_row(dv) + KILN__ATT_KEYS + 4;
    return KILN__ATT_ROWS * (8 * doubles + 4 * floats);
}

/* ---- one tile (kernels only) ------------------------------------------------------------------------ */

/* Where one query row looks: keys lo … hi-1 by position, and its row of the mask. */
typedef struct kiln__att_row {
    int64_t head, query;
    int64_t lo, hi;
    const unsigned char *mask; /* NULL when there is none */
} kiln__att_row;

typedef struct kiln__att {
    const kiln_operand *q, *k, *v, *y;
    const unsigned char *k_head, *v_head; /* row 0 of this batch and kv head */
    int64_t batch, d, dv, d_row, dv_row;  /* lengths, and those of rows in scratch */
    float scale, softcap;
    uint32_t mask_type;
    int64_t mask_step; /* bytes from key to key; 0 when one value stands for all keys */
    bool mask_shared;  /* one mask row for all query rows */
    bool ring;
    int64_t capacity;
    int64_t n_rows, lo, hi; /* rows of this tile and the keys that any of them sees */
    kiln__att_row rows[KILN__ATT_ROWS];
    /* Scratch. Numerators and denominators are in double: they are sums over all keys, block by block. */
    double *out, *sum;
    float *qs, *scores, *ks, *vs;
    float *most, *factor, *from, *to;
} kiln__att;

/* A block of keys: consecutive positions, consecutive rows of k and v, as f32. */
typedef struct kiln__att_block {
    int64_t position, row, n;
    bool partial; /* some row does not see some key */
    const unsigned char *k, *v;
    int64_t k_stride, v_stride; /* bytes */
} kiln__att_block;

static inline const float *kiln__att_key(const kiln__att_block *b, int64_t j) {
    return (const float *)(const void *)(b->k + j * b->k_stride);
}
static inline const float *kiln__att_value(const kiln__att_block *b, int64_t j) {
    return (const float *)(const void *)(b->v + j * b->v_stride);
}

#endif
