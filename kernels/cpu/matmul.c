#include "dtype_kernels.h"
#include "gemm.h"
#include "matmul_tiles.h"

/* Where token t stands: its index along y's leading axes, applied to x's strides (y has one axis fewer than
 * an x that splits K). */
typedef struct token_rows {
    const unsigned char *x;
    float *y;
} token_rows;

static token_rows rows_of(const kiln__mm *m, const kiln_operand *y, int64_t t) {
    int64_t i2 = t % y->ne[2], q = t / y->ne[2], i1 = q % y->ne[1], i0 = q / y->ne[1];
    const int64_t *nb = m->x->nb;
    int64_t at = kiln__mm_splits(m) ? i1 * nb[0] + i2 * nb[1] : i0 * nb[0] + i1 * nb[1] + i2 * nb[2];
    unsigned char *out = y->data + i0 * y->nb[0] + i1 * y->nb[1] + i2 * y->nb[2];
    return (token_rows){m->x->data + at, (float *)(void *)out};
}

/* Row of x as f32 in `out`, its parts gathered when K is split. */
static void gather(const kiln__mm *m, const unsigned char *x, float *out) {
    const kiln__dtype_fns *fns = &KILN_LEVEL_FN(dtype)[m->x->dtype];
    int64_t part = m->x->ne[3], parts = m->k / part;
    for (int64_t h = 0; h < parts; h++)
        fns->to_f32(x + h * m->x->nb[2], out + h * part, part);
}

/* A shadow is not read: here W's own blocks are dequantised as fast as halves are read from memory, and are a
 * quarter to two fifths of their size. */
kiln_status KILN_LEVEL_FN(matmul)(const kiln_args *args, kiln_tile *tile) {
    kiln__mm m = kiln__matmul_plan(args);
    const kiln_operand *w = m.w, *y = &args->out[0];
    bool gathers = kiln__mm_gathers(&m);
    float *rows = (float *)(void *)(tile->scratch + kiln__mm_gemm_scratch(&m));
    if (m.integer && !tile->again)
        kiln__gemm_forget(tile->scratch);
    for (int64_t i = tile->first, run; i < tile->last; i += run) {
        /* All row blocks of one token block that are in this call, as one product. */
        int64_t block = i % m.row_blocks, first = i / m.row_blocks * m.tokens_per_block;
        run = m.row_blocks - block < tile->last - i ? m.row_blocks - block : tile->last - i;
        int64_t row = block * m.rows_per_block, end = (block + run) * m.rows_per_block;
        kiln__gemm g = {w->dtype,      w->data + row * w->nb[2],
                        w->nb[2],      (end < m.n ? end : m.n) - row,
                        m.k,           0,
                        NULL,          NULL,
                        tile->scratch, first};
        const unsigned char *xs[KILN__MOST_TOKENS];
        float *ys[KILN__MOST_TOKENS];
        for (; g.tokens < m.tokens_per_block && first + g.tokens < m.tokens; g.tokens++) {
            token_rows t = rows_of(&m, y, first + g.tokens);
            xs[g.tokens] = t.x;
            ys[g.tokens] = t.y + row;
            if (gathers) {
                gather(&m, t.x, rows + g.tokens * m.k);
                xs[g.tokens] = (const unsigned char *)(rows + g.tokens * m.k);
            }
        }
        g.x = xs;
        g.y = ys;
        (m.integer ? KILN_LEVEL_FN(gemm_int) : KILN_LEVEL_FN(gemm_float))(&g);
    }
    return KILN_OK;
}
