#include "dtype_kernels.h"
#include "gemm.h"
#include "matmul_tiles.h"

#include <string.h>

/* What a call works with. */
typedef struct id_run {
    const kiln_args *args;
    kiln_tile *tile;
    kiln__mm_id p;
    const kiln_operand *ids, *y;
    float *rows; /* scratch for activations as f32 */
} id_run;

static int64_t id_of(const id_run *r, int64_t pair) {
    int64_t t = pair / r->p.slots, s = pair % r->p.slots;
    return kiln__index_at(r->ids->dtype, r->ids->data + t * r->ids->nb[2] + s * r->ids->nb[3]);
}

static float *y_of(const id_run *r, int64_t pair) {
    int64_t t = pair / r->p.slots, s = pair % r->p.slots;
    return (float *)(void *)(r->y->data + t * r->y->nb[1] + s * r->y->nb[2]);
}

static const unsigned char *x_of(const id_run *r, int64_t pair) {
    const kiln_operand *x = r->p.m.x;
    int64_t t = pair / r->p.slots, s = pair % r->p.slots;
    return x->data + (x->ndim == 3 ? t * x->nb[1] + s * x->nb[2] : t * x->nb[2]);
}

/* Rows row … end-1 of one expert's W for some pairs: entries of the map from `first` on, or the pair of that number. */
static void product(const id_run *r, int64_t expert, int64_t first, const int32_t *pairs, int64_t count,
                    int64_t row, int64_t end) {
    const kiln__mm *m = &r->p.m;
    const kiln_operand *w = r->p.split ? m->w + expert : m->w;
    const unsigned char *base = w->data + (r->p.split ? 0 : expert * w->nb[1]);
    const unsigned char *xs[KILN__MOST_TOKENS];
    float *ys[KILN__MOST_TOKENS];
    for (int64_t c = 0; c < count; c++) {
        xs[c] = x_of(r, pairs[c]);
        ys[c] = y_of(r, pairs[c]) + row;
        if (!m->integer && m->x->dtype != KILN_F32) {
            KILN_LEVEL_FN(dtype)[m->x->dtype].to_f32(xs[c], r->rows + c * m->k, m->k);
            xs[c] = (const unsigned char *)(r->rows + c * m->k);
        }
    }
    kiln__gemm g = {w->dtype, base + row * w->nb[2], w->nb[2], end - row, m->k, count, xs,
                    ys,       r->tile->scratch,      first};
    (m->integer ? KILN_LEVEL_FN(gemm_int) : KILN_LEVEL_FN(gemm_float))(&g);
}

/* Pairs without an expert: zeros, and a report. */
static void drop(const id_run *r, const int32_t *pairs, int64_t count, int64_t row, int64_t end) {
    for (int64_t c = 0; c < count; c++) {
        memset(y_of(r, pairs[c]) + row, 0, (size_t)(end - row) * sizeof(float));
        kiln_tile_bad_index(r->tile, pairs[c], id_of(r, pairs[c]), r->p.experts);
    }
}

/* A block of the map's entries, which are sorted by expert: a product for every expert in it. */
static kiln_status mapped(const id_run *r, int64_t first, int64_t last, int64_t row, int64_t end) {
    const int32_t *offsets = (const int32_t *)(void *)r->args->in[KILN_MATMUL_ID_OFFSETS].data;
    const int32_t *entries = (const int32_t *)(void *)r->args->in[KILN_MATMUL_ID_ENTRIES].data;
    /* The map may come from anywhere: nothing in it is taken for an address unchecked. */
    for (int64_t i = first; i < last; i++)
        if (entries[i] < 0 || entries[i] >= r->p.m.tokens)
            return kiln_tile_fail(r->tile, "the expert map's entry %lld is %d; there are %lld pairs",
                                  (long long)i, entries[i], (long long)r->p.m.tokens);
    int64_t expert = 0;
    for (int64_t i = first, stop; i < last; i = stop) {
        while (expert < r->p.experts && offsets[expert + 1] <= i)
            expert++;
        stop = expert < r->p.experts && offsets[expert + 1] < last ? offsets[expert + 1] : last;
        if (expert < r->p.experts)
            product(r, expert, i, entries + i, stop - i, row, end);
        else
            drop(r, entries + i, stop - i, row, end);
    }
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(matmul_id)(const kiln_args *args, kiln_tile *tile) {
    id_run r = {args, tile, kiln__matmul_id_plan(args), &args->in[KILN_MATMUL_ID_IDS], &args->out[0], NULL};
    const kiln__mm *m = &r.p.m;
    r.rows = (float *)(void *)(tile->scratch + kiln__mm_gemm_scratch(m));
    if (m->integer && !tile->again)
        kiln__gemm_forget(tile->scratch);
    for (int64_t i = tile->first, run; i < tile->last; i += run) {
        int64_t block = i % m->row_blocks, first = i / m->row_blocks * m->tokens_per_block;
        run = m->row_blocks - block < tile->last - i ? m->row_blocks - block : tile->last - i;
        int64_t row = block * m->rows_per_block, end = (block + run) * m->rows_per_block;
        int64_t last = first + m->tokens_per_block < m->tokens ? first + m->tokens_per_block : m->tokens;
        end = end < m->n ? end : m->n;
        if (r.p.mapped) {
            kiln_status status = mapped(&r, first, last, row, end);
            if (status != KILN_OK)
                return status;
            continue;
        }
        int32_t pair = (int32_t)first; /* one pair per block */
        int64_t id = id_of(&r, pair);
        if (id >= 0 && id < r.p.experts)
            product(&r, id, first, &pair, 1, row, end);
        else
            drop(&r, &pair, 1, row, end);
    }
    return KILN_OK;
}
