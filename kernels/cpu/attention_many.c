/* The form of attention for many query rows. Lane l of every vector belongs to query row l; rows of scratch
 * hold one value per query row: qs[c][l], scores[j][l], out[c][l]. */
#include "attention_forms.h"

#if KILN_VL == 16
#define GROUP 4 /* vectors per step: with four keys, sixteen sums in registers */
#else
#define GROUP 2
#endif

/* to[i][·] += Σ_c x[c][·]·w[i][c] for four i at once: `x` rows of `lanes` values; w[i] a pointer per i, its
 * values `step` floats apart. */
static inline __attribute__((always_inline)) void products(float *to, const float *x, const float *const w[4],
                                                           int64_t step, int64_t n, int64_t lanes, int64_t at,
                                                           int vectors) {
    vf s[4][GROUP];
    for (int i = 0; i < 4; i++)
        for (int v = 0; v < vectors; v++)
            s[i][v] = vf_load(to + i * lanes + at + v * KILN_VL);
    for (int64_t c = 0; c < n; c++)
        for (int v = 0; v < vectors; v++) {
            vf q = vf_load(x + c * lanes + at + v * KILN_VL);
            for (int i = 0; i < 4; i++)
                s[i][v] += q * w[i][c * step];
        }
    for (int i = 0; i < 4; i++)
        for (int v = 0; v < vectors; v++)
            vf_store(to + i * lanes + at + v * KILN_VL, s[i][v]);
}

/* All lanes of four rows of `to`. */
static void four_rows(float *to, const float *x, const float *const w[4], int64_t step, int64_t n,
                      int64_t lanes) {
    int64_t at = 0;
    for (; at + (int64_t)GROUP * KILN_VL <= lanes; at += (int64_t)GROUP * KILN_VL)
        products(to, x, w, step, n, lanes, at, GROUP);
    for (; at < lanes; at += KILN_VL)
        products(to, x, w, step, n, lanes, at, 1);
}

/* `rows` rows of `to`, the last ones by way of `spare`: four rows that four_rows may write over. */
static void all_rows(float *to, const float *x, const unsigned char *w, int64_t row_step, int64_t step,
                     int64_t rows, int64_t n, int64_t lanes) {
    float spare[4 * KILN__ATT_ROWS];
    for (int64_t r = 0; r < rows; r += 4) {
        const float *four[4];
        for (int64_t i = 0; i < 4; i++) {
            int64_t row = r + i < rows ? r + i : rows - 1;
            four[i] = (const float *)(const void *)(w + row * row_step);
        }
        if (r + 4 <= rows) {
            four_rows(to + r * lanes, x, four, step, n, lanes);
            continue;
        }
        size_t bytes = (size_t)((rows - r) * lanes) * sizeof(float);
        memset(spare, 0, sizeof spare);
        memcpy(spare, to + r * lanes, bytes);
        four_rows(spare, x, four, step, n, lanes);
        memcpy(to + r * lanes, spare, bytes);
    }
}

/* ---- scores ----------------------------------------------------------------------------------------- */

/* Query rows see keys from[l] … to[l]-1 of the block. */
static void mask_ranges(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    for (int64_t m = 0; m < lanes; m++) {
        const kiln__att_row *r = &a->rows[m < a->n_rows ? m : a->n_rows - 1];
        int64_t lo = r->lo - b->position, hi = r->hi - b->position;
        a->from[m] = (float)(lo < 0 ? 0 : lo > b->n ? b->n : lo);
        a->to[m] = (float)(hi < 0 ? 0 : hi > b->n ? b->n : hi);
    }
    for (int64_t j = 0; j < b->n; j++)
        for (int64_t l = 0; l < lanes; l += KILN_VL) {
            float *s = a->scores + j * lanes + l;
            vi seen = (vf_load(a->from + l) <= (float)j) & (vf_load(a->to + l) > (float)j);
            vf_store(s, vf_select(seen, vf_load(s), vf_set(-INFINITY)));
        }
}

static void mask_values(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    for (int64_t j = 0; j < b->n; j++) {
        float *s = a->scores + j * lanes;
        if (a->mask_shared) {
            float add = kiln__att_mask(a, a->rows[0].mask, b->row + j);
            for (int64_t l = 0; l < lanes; l += KILN_VL)
                vf_store(s + l, add == -INFINITY ? vf_set(add) : vf_load(s + l) + add);
            continue;
        }
        for (int64_t m = 0; m < a->n_rows; m++) {
            float add = kiln__att_mask(a, a->rows[m].mask, b->row + j);
            s[m] = add == -INFINITY ? add : s[m] + add;
        }
    }
}

static void scores(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    memset(a->scores, 0, (size_t)(b->n * lanes) * sizeof(float));
    all_rows(a->scores, a->qs, b->k, b->k_stride, 1, b->n, a->d, lanes);
    if (a->softcap > 0.0f)
        VEC_MAP1(a->scores, a->scores, b->n * lanes, v, vf_tanh(v / a->softcap) * a->softcap);
    if (b->partial)
        mask_ranges(a, b, lanes);
    if (a->rows[0].mask != NULL)
        mask_values(a, b, lanes);
}

/* Scores to factors of v; the running maximum and sum of each row, and by what its output is to be scaled. */
static void softmax(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    for (int64_t l = 0; l < lanes; l += KILN_VL) {
        vf old = vf_load(a->most + l), most = old, sum = {0};
        for (int64_t j = 0; j < b->n; j++)
            most = vf_max(most, vf_load(a->scores + j * lanes + l));
        vf shift = vf_select(most == -INFINITY, vf_set(0.0f), most);
        for (int64_t j = 0; j < b->n; j++) {
            float *s = a->scores + j * lanes + l;
            vf e = vf_exp(vf_load(s) - shift);
            sum += e;
            vf_store(s, e);
        }
        vf factor = vf_exp(old - shift);
        vf_store(a->factor + l, factor);
        vf_store(a->most + l, most);
        vf_store(a->sum + l, vf_load(a->sum + l) * factor + sum);
    }
}

/* ---- values ----------------------------------------------------------------------------------------- */

/* Key by key, without those that have no weight: 0·NaN must not come in. */
static void values_careful(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    for (int64_t j = 0; j < b->n; j++)
        for (int64_t c = 0; c < a->dv; c++) {
            float x = kiln__att_value(b, j)[c];
            for (int64_t m = 0; m < a->n_rows; m++)
                if (a->scores[j * lanes + m] != 0.0f)
                    a->out[c * lanes + m] += a->scores[j * lanes + m] * x;
        }
}

static void values(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    for (int64_t c = 0; c < a->dv; c++)
        VEC_MAP2(a->out + c * lanes, a->out + c * lanes, a->factor, lanes, v, w, v * w);
    if (b->partial && !kiln__att_finite(a, b))
        values_careful(a, b, lanes);
    else
        all_rows(a->out, a->scores, b->v, (int64_t)sizeof(float), b->v_stride / (int64_t)sizeof(float), a->dv,
                 b->n, lanes);
}

/* ---- the tile --------------------------------------------------------------------------------------- */

static void load_queries(const kiln__att *a, int64_t lanes) {
    float *row = a->ks; /* not in use yet, and room for more than one row */
    memset(a->qs, 0, (size_t)(a->d * lanes) * sizeof(float));
    for (int64_t m = 0; m < a->n_rows; m++) {
        const kiln__att_row *r = &a->rows[m];
        const unsigned char *q =
            a->q->data + a->batch * a->q->nb[0] + r->head * a->q->nb[1] + r->query * a->q->nb[2];
        const float *from = kiln__f32_row(a->q->dtype, q, a->d, row);
        for (int64_t c = 0; c < a->d; c++)
            a->qs[c * lanes + m] = from[c] * a->scale;
    }
}

void KILN_LEVEL_FN(att_many)(kiln__att *a) {
    int64_t lanes = (a->n_rows + KILN_VL - 1) / KILN_VL * KILN_VL;
    load_queries(a, lanes);
    memset(a->out, 0, (size_t)(a->dv * lanes) * sizeof(float));
    for (int64_t m = 0; m < lanes; m++) {
        a->most[m] = -INFINITY;
        a->sum[m] = 0.0f;
    }
    kiln__att_block b;
    for (int64_t p = a->lo; p < a->hi; p += b.n) {
        b = KILN_LEVEL_FN(att_block)(a, p);
        scores(a, &b, lanes);
        softmax(a, &b, lanes);
        values(a, &b, lanes);
    }
    for (int64_t m = 0; m < a->n_rows; m++) {
        float *to = kiln__att_out(a, &a->rows[m]), inverse = kiln__att_inverse(a->sum[m]);
        for (int64_t c = 0; c < a->dv; c++)
            to[c] = a->out[c * lanes + m] * inverse;
    }
}
