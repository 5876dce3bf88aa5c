/* The form of attention for many query rows. Lane l of every vector belongs to query row l; rows of scratch
 * hold one value per query row: qs[c][l], scores[j][l], out[c][l]. */
#include "attention_forms.h"

#if KILN_VL == 16
#define GROUP 4 /* vectors per step: with four keys, sixteen sums in registers */
#else
#define GROUP 2
#endif

/* s[i][·] = Σ_c x[c][·]·w[i][c] for four i at once, in runs: `x` rows of `lanes` values; w[i] a pointer per
 * i, its values `step` floats apart; some vectors of the lanes from `at` on. */
KILN_INLINE void products(vf s[4][GROUP], const float *x, const float *const w[4], int64_t step, int64_t n,
                          int64_t lanes, int64_t at, int vectors) {
    for (int64_t c = 0; c == 0 || c < n; c += RUN) {
        int64_t end = c + RUN < n ? c + RUN : n;
        vf run[4][GROUP];
        for (int i = 0; i < 4; i++)
            for (int v = 0; v < vectors; v++)
                run[i][v] = (vf){0};
        for (int64_t k = c; k < end; k++)
            for (int v = 0; v < vectors; v++) {
                vf q = vf_load(x + k * lanes + at + v * KILN_VL);
                for (int i = 0; i < 4; i++)
                    run[i][v] = vf_madd(q, vf_set(w[i][k * step]), run[i][v]);
            }
        for (int i = 0; i < 4; i++)
            for (int v = 0; v < vectors; v++)
                s[i][v] = c == 0 ? run[i][v] : s[i][v] + run[i][v];
    }
}

/* Four rows of something; past the last row that row again. */
static void four_of(const float *four[4], const unsigned char *w, int64_t row_step, int64_t row,
                    int64_t rows) {
    for (int64_t i = 0; i < 4; i++)
        four[i] = (const float *)(const void *)(w + (row + i < rows ? row + i : rows - 1) * row_step);
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

/* Scores of up to four keys from j on, for some vectors of query rows. */
KILN_INLINE void score_keys(const kiln__att *a, const kiln__att_block *b, const float *const k[4], int64_t j,
                            int64_t lanes, int64_t at, int vectors) {
    vf s[4][GROUP];
    products(s, a->qs, k, 1, a->d, lanes, at, vectors);
    for (int64_t i = 0; i < 4 && j + i < b->n; i++)
        for (int v = 0; v < vectors; v++)
            vf_store(a->scores + (j + i) * lanes + at + v * KILN_VL, s[i][v]);
}

static void scores(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    for (int64_t j = 0; j < b->n; j += 4) {
        const float *k[4];
        int64_t at = 0;
        four_of(k, b->k, b->k_stride, j, b->n);
        for (; at + (int64_t)GROUP * KILN_VL <= lanes; at += (int64_t)GROUP * KILN_VL)
            score_keys(a, b, k, j, lanes, at, GROUP);
        for (; at < lanes; at += KILN_VL)
            score_keys(a, b, k, j, lanes, at, 1);
    }
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
        for (int64_t j = 0; j < b->n; j += RUN) {
            vf some = {0};
            for (int64_t i = j; i < b->n && i < j + RUN; i++) {
                float *s = a->scores + i * lanes + l;
                vf e = vf_exp_small(vf_load(s) - shift);
                some += e;
                vf_store(s, e);
            }
            sum += some;
        }
        vf factor = vf_exp_small(old - shift);
        vf_store(a->factor + l, factor);
        vf_store(a->most + l, most);
        kiln__att_join(a->sum + l, vf_wide(factor), sum);
    }
}

/* ---- values ----------------------------------------------------------------------------------------- */

static void values_careful(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    for (int64_t c = 0; c < a->dv; c++) {
        float total[KILN__ATT_ROWS] = {0};
        for (int64_t m = 0; m < a->n_rows; m++)
            total[m] = kiln__att_careful(b, a->scores + m, lanes, c);
        for (int64_t l = 0; l < lanes; l += KILN_VL)
            kiln__att_join(a->out + c * lanes + l, vf_wide(vf_load(a->factor + l)), vf_load(total + l));
    }
}

/* Up to four columns of v from c on, for some vectors of query rows. */
KILN_INLINE void value_columns(const kiln__att *a, const kiln__att_block *b, const float *const v[4],
                               int64_t c, int64_t lanes, int64_t at, int vectors) {
    vf s[4][GROUP];
    products(s, a->scores, v, b->v_stride / (int64_t)sizeof(float), b->n, lanes, at, vectors);
    for (int k = 0; k < vectors; k++) {
        int64_t l = at + k * KILN_VL;
        vw factor = vf_wide(vf_load(a->factor + l));
        for (int64_t i = 0; i < 4 && c + i < a->dv; i++)
            kiln__att_join(a->out + (c + i) * lanes + l, factor, s[i][k]);
    }
}

static void values(const kiln__att *a, const kiln__att_block *b, int64_t lanes) {
    if (b->partial && !kiln__att_finite(a, b)) {
        values_careful(a, b, lanes);
        return;
    }
    for (int64_t c = 0; c < a->dv; c += 4) {
        const float *v[4];
        int64_t at = 0;
        four_of(v, b->v, (int64_t)sizeof(float), c, a->dv);
        for (; at + (int64_t)GROUP * KILN_VL <= lanes; at += (int64_t)GROUP * KILN_VL)
            value_columns(a, b, v, c, lanes, at, GROUP);
        for (; at < lanes; at += KILN_VL)
            value_columns(a, b, v, c, lanes, at, 1);
    }
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
    memset(a->out, 0, (size_t)(a->dv * lanes) * sizeof *a->out);
    for (int64_t m = 0; m < lanes; m++) {
        a->most[m] = -INFINITY;
        a->sum[m] = 0.0;
    }
    kiln__att_block b;
    for (int64_t p = a->lo; p < a->hi; p += b.n) {
        b = KILN_LEVEL_FN(att_block)(a, p);
        scores(a, &b, lanes);
        softmax(a, &b, lanes);
        values(a, &b, lanes);
    }
    for (int64_t m = 0; m < a->n_rows; m++) {
        float *to = kiln__att_out(a, &a->rows[m]);
        double inverse = kiln__att_inverse(a->sum[m]);
        for (int64_t c = 0; c < a->dv; c++)
            to[c] = (float)(a->out[c * lanes + m] * inverse);
    }
}
