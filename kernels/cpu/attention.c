/* Attention: from arguments to tiles, and the form for few query rows. */
#include "attention_forms.h"

/* ---- tiles --------------------------------------------------------------------------------------------- */

/* The keys a query at index i sees, by position. */
static void set_range(const kiln_attention_attrs *attrs, int64_t base, int64_t keys, kiln__att_row *r) {
    int64_t p = base + r->query;
    r->lo = attrs->window > 0 && p >= attrs->window ? p - attrs->window + 1 : 0;
    r->hi = attrs->causal && p + 1 < keys ? p + 1 : keys;
    if (r->hi < 0)
        r->hi = 0;
    if (r->lo > r->hi)
        r->lo = r->hi;
}

static void set_mask(kiln__att *a, const kiln_operand *mask) {
    int64_t size = mask->dtype == KILN_F32 ? 4 : 1;
    a->mask_type = mask->dtype;
    a->mask_step = mask->ne[3] == 1 ? 0 : size;
    a->mask_shared = (mask->ne[1] == 1 || mask->nb[1] == 0) && (mask->ne[2] == 1 || mask->nb[2] == 0);
}

static const unsigned char *mask_row(const kiln_operand *mask, int64_t batch, const kiln__att_row *r) {
    return mask->data + (mask->ne[0] == 1 ? 0 : batch * mask->nb[0]) +
           (mask->ne[1] == 1 ? 0 : r->head * mask->nb[1]) + (mask->ne[2] == 1 ? 0 : r->query * mask->nb[2]);
}

/* Positions are clamped to where no sum of them overflows. */
static int64_t clamp_position(int64_t p) {
    const int64_t far = INT64_C(1) << 60;
    return p > far ? far : p < -far ? -far : p;
}

static void start(kiln__att *a, const kiln_args *args, unsigned char *scratch) {
    const kiln_attention_attrs *attrs = args->attrs;
    a->q = &args->in[0];
    a->k = &args->in[1];
    a->v = &args->in[2];
    a->y = &args->out[0];
    a->d = a->q->ne[3];
    a->dv = a->v->ne[3];
    a->d_row = kiln__scratch_row(a->d);
    a->dv_row = kiln__scratch_row(a->dv);
    a->scale = attrs->scale != 0.0f ? attrs->scale : (float)(1.0 / sqrt((double)a->d));
    a->softcap = attrs->softcap;
    a->ring = attrs->ring != 0;
    a->capacity = a->k->ne[2];
    a->out = (double *)(void *)scratch;
    a->sum = a->out + KILN__ATT_ROWS * a->dv_row;
    a->qs = (float *)(void *)(a->sum + KILN__ATT_ROWS);
    a->scores = a->qs + KILN__ATT_ROWS * a->d_row;
    a->ks = a->scores + (int64_t)KILN__ATT_ROWS * KILN__ATT_KEYS;
    a->vs = a->ks + KILN__ATT_KEYS * a->d_row;
    a->most = a->vs + KILN__ATT_KEYS * a->dv_row;
    a->factor = a->most + KILN__ATT_ROWS;
    a->from = a->factor + KILN__ATT_ROWS;
    a->to = a->from + KILN__ATT_ROWS;
}

static void run_tile(kiln__att *a, const kiln_args *args, const kiln__att_grid *g, int64_t tile) {
    const kiln_attention_attrs *attrs = args->attrs;
    const kiln_operand *mask = kiln__optional(args, 3);
    int64_t queries = tile % g->query_blocks * g->queries_per, rest = tile / g->query_blocks;
    int64_t heads = rest % g->head_blocks * g->heads_per, kv = rest / g->head_blocks % g->kv_heads;
    a->batch = rest / g->head_blocks / g->kv_heads;
    a->k_head = a->k->data + a->batch * a->k->nb[0] + kv * a->k->nb[1];
    a->v_head = a->v->data + a->batch * a->v->nb[0] + kv * a->v->nb[1];
    int64_t base = clamp_position(attrs->q_position.value);
    int64_t keys = a->ring ? base + a->q->ne[2] : a->capacity; /* that there are */
    a->n_rows = 0;
    if (mask != NULL)
        set_mask(a, mask);
    for (int64_t h = heads; h < heads + g->heads_per && h < g->group; h++)
        for (int64_t i = queries; i < queries + g->queries_per && i < a->q->ne[2]; i++) {
            kiln__att_row *r = &a->rows[a->n_rows++];
            *r = (kiln__att_row){.head = kv * g->group + h, .query = i};
            set_range(attrs, base, keys, r);
            r->mask = mask != NULL ? mask_row(mask, a->batch, r) : NULL;
        }
    if (a->n_rows == 0)
        return; /* the grid has no such tile */
    /* Ranges move forward with the query, and every head has the same ones. */
    a->lo = a->rows[0].lo;
    a->hi = a->rows[a->n_rows - 1].hi;
    if (a->n_rows < KILN__ATT_MANY)
        KILN_LEVEL_FN(att_few)(a);
    else
        KILN_LEVEL_FN(att_many)(a);
}

kiln_status KILN_LEVEL_FN(attention)(const kiln_args *args, kiln_tile *tile) {
    kiln__att a;
    kiln__att_grid g = kiln__att_grid_of(args);
    start(&a, args, tile->scratch);
    for (int64_t t = tile->first; t < tile->last; t++)
        run_tile(&a, args, &g, t);
    return KILN_OK;
}

/* ---- blocks of keys ------------------------------------------------------------------------------------ */

static const unsigned char *block_rows(const kiln_operand *o, const unsigned char *head, int64_t row,
                                       int64_t n, int64_t length, int64_t room, float *scratch,
                                       int64_t *stride) {
    const unsigned char *from = head + row * o->nb[2];
    *stride = o->nb[2];
    if (o->dtype == KILN_F32)
        return from;
    for (int64_t j = 0; j < n; j++)
        KILN__FNS[o->dtype].to_f32(from + j * o->nb[2], scratch + j * room, length);
    *stride = room * (int64_t)sizeof *scratch;
    return (const unsigned char *)scratch;
}

kiln__att_block KILN_LEVEL_FN(att_block)(const kiln__att *a, int64_t position) {
    kiln__att_block b = {.position = position, .row = position, .n = a->hi - position};
    if (b.n > KILN__ATT_KEYS)
        b.n = KILN__ATT_KEYS;
    if (a->ring) {
        b.row = position % a->capacity;
        if (b.n > a->capacity - b.row)
            b.n = a->capacity - b.row;
    }
    const kiln__att_row *first = &a->rows[0], *last = &a->rows[a->n_rows - 1];
    b.partial = first->mask != NULL || position < last->lo || position + b.n > first->hi;
    b.k = block_rows(a->k, a->k_head, b.row, b.n, a->d, a->d_row, a->ks, &b.k_stride);
    b.v = block_rows(a->v, a->v_head, b.row, b.n, a->dv, a->dv_row, a->vs, &b.v_stride);
    return b;
}

/* ---- few query rows ------------------------------------------------------------------------------------ */

KILN_INLINE f32x4 fold(vf x) {
    f32x4 q[KILN_VL / 4];
    memcpy(q, &x, sizeof q);
#if KILN_VL == 16
    return (q[0] + q[2]) + (q[1] + q[3]);
#elif KILN_VL == 8
    return q[0] + q[1];
#else
    return q[0];
#endif
}

/* The sums of the lanes of four vectors. */
KILN_INLINE f32x4 sums(vf a, vf b, vf c, vf d) {
    f32x4 p = fold(a), q = fold(b), r = fold(c), s = fold(d);
    f32x4 pq = __builtin_shufflevector(p, q, 0, 4, 1, 5) + __builtin_shufflevector(p, q, 2, 6, 3, 7);
    f32x4 rs = __builtin_shufflevector(r, s, 0, 4, 1, 5) + __builtin_shufflevector(r, s, 2, 6, 3, 7);
    return __builtin_shufflevector(pq, rs, 0, 1, 4, 5) + __builtin_shufflevector(pq, rs, 2, 3, 6, 7);
}

/* Scores of one query row against four keys. */
KILN_INLINE f32x4 dots(const float *q, const float *const k[4], int64_t d) {
    vf s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int64_t c = 0;
    for (; c + KILN_VL <= d; c += KILN_VL) {
        vf x = vf_load(q + c);
        s0 += x * vf_load(k[0] + c);
        s1 += x * vf_load(k[1] + c);
        s2 += x * vf_load(k[2] + c);
        s3 += x * vf_load(k[3] + c);
    }
    if (c < d) {
        vf x = vf_load_part(q + c, d - c, 0.0f);
        s0 += x * vf_load_part(k[0] + c, d - c, 0.0f);
        s1 += x * vf_load_part(k[1] + c, d - c, 0.0f);
        s2 += x * vf_load_part(k[2] + c, d - c, 0.0f);
        s3 += x * vf_load_part(k[3] + c, d - c, 0.0f);
    }
    return sums(s0, s1, s2, s3);
}

/* Scores of all rows; a last group of fewer than four keys repeats its last key. */
static void few_scores(const kiln__att *a, const kiln__att_block *b) {
    for (int64_t j = 0; j < b->n; j += 4) {
        const float *k[4];
        for (int64_t i = 0; i < 4; i++)
            k[i] = kiln__att_key(b, j + i < b->n ? j + i : b->n - 1);
        for (int64_t m = 0; m < a->n_rows; m++) {
            f32x4 s = dots(a->qs + m * a->d_row, k, a->d);
            memcpy(a->scores + m * KILN__ATT_KEYS + j, &s, sizeof s);
        }
    }
}

/* Caps and masks the scores of row m, and turns them into factors of v; `most`, `sum` and `factor` follow. */
static void few_softmax(const kiln__att *a, const kiln__att_block *b, int64_t m) {
    float *s = a->scores + m * KILN__ATT_KEYS;
    const kiln__att_row *r = &a->rows[m];
    if (a->softcap > 0.0f)
        VEC_MAP1(s, s, b->n, v, vf_tanh(v / a->softcap) * a->softcap);
    for (int64_t j = 0; b->partial && j < b->n; j++) {
        if (b->position + j < r->lo || b->position + j >= r->hi)
            s[j] = -INFINITY;
        else if (r->mask != NULL) {
            float add = kiln__att_mask(a, r->mask, b->row + j);
            s[j] = add == -INFINITY ? add : s[j] + add;
        }
    }
    vf most = vf_set(a->most[m]), sum = {0};
    int64_t j = 0;
    for (j = b->n; j < KILN__ATT_KEYS && j % KILN_VL != 0; j++)
        s[j] = -INFINITY;
    for (j = 0; j < b->n; j += KILN_VL)
        most = vf_max(most, vf_load(s + j));
    float next = vf_most(most);
    vf shift = vf_set(next == -INFINITY ? 0.0f : next);
    for (j = 0; j < b->n; j += KILN_VL) {
        vf e = vf_exp_small(vf_load(s + j) - shift);
        sum += e;
        vf_store(s + j, e);
    }
    vf factor = vf_set(1.0f);
    if (next != a->most[m])
        factor = vf_exp_small(vf_set(a->most[m]) - shift);
    a->factor[m] = factor[0];
    a->most[m] = next;
    a->sum[m] = a->sum[m] * (double)factor[0] + (double)vf_sum(sum);
}

/* out[m] = out[m]·factor + Σ_j p[m][j]·v[j] for `rows` (1 or 2) rows from m on, which share what is read of
 * v, and for some vectors of columns from c on, the last of them of `last` columns. */
KILN_INLINE void few_columns(const kiln__att *a, const kiln__att_block *b, int64_t m, int rows, int64_t c,
                             int vectors, int64_t last) {
    const float *p = a->scores + m * KILN__ATT_KEYS;
    /* Vector k of row r is number r·vectors + k, of 8 at most. */
    vf total[8] = {{0}};
    for (int64_t j = 0; j < b->n; j += RUN) {
        int64_t end = j + RUN < b->n ? j + RUN : b->n;
        vf sum[8] = {{0}};
        for (int64_t i = j; i < end; i++) {
            const float *from = kiln__att_value(b, i) + c;
            KILN_UNROLL
            for (int k = 0; k < vectors; k++) {
                vf v = vf_load_n(from + k * KILN_VL, k + 1 < vectors ? KILN_VL : last);
                KILN_UNROLL
                for (int r = 0; r < rows; r++)
                    sum[r * vectors + k] =
                        vf_madd(vf_set(p[r * KILN__ATT_KEYS + i]), v, sum[r * vectors + k]);
            }
        }
        KILN_UNROLL
        for (int k = 0; k < rows * vectors; k++)
            total[k] += sum[k];
    }
    KILN_UNROLL
    for (int r = 0; r < rows; r++) {
        /* Rows in scratch are padded to whole vectors. */
        double *out = a->out + (m + r) * a->dv_row + c;
        vw factor = vf_wide(vf_set(a->factor[m + r]));
        KILN_UNROLL
        for (int k = 0; k < vectors; k++)
            kiln__att_join(out + k * KILN_VL, factor, total[r * vectors + k]);
    }
}

KILN_INLINE void few_rows(const kiln__att *a, const kiln__att_block *b, int64_t m, int rows) {
    int64_t c = 0;
    for (; rows == 1 && c + 8 * KILN_VL <= a->dv; c += 8 * KILN_VL)
        few_columns(a, b, m, rows, c, 8, KILN_VL);
    for (; c + 4 * KILN_VL <= a->dv; c += 4 * KILN_VL)
        few_columns(a, b, m, rows, c, 4, KILN_VL);
    for (; c < a->dv; c += KILN_VL)
        few_columns(a, b, m, rows, c, 1, a->dv - c);
}

/* Two rows at a time, where there are registers for the sums of two. */
static void few_values(const kiln__att *a, const kiln__att_block *b) {
    int64_t m = 0;
#if KILN_VL > 4 || defined(__aarch64__)
    for (; m + 2 <= a->n_rows; m += 2)
        few_rows(a, b, m, 2);
#endif
    for (; m < a->n_rows; m++)
        few_rows(a, b, m, 1);
}

static void few_values_careful(const kiln__att *a, const kiln__att_block *b) {
    for (int64_t m = 0; m < a->n_rows; m++)
        for (int64_t c = 0; c < a->dv; c += KILN_VL) {
            float total[KILN_VL] = {0};
            for (int64_t l = 0; l < KILN_VL && c + l < a->dv; l++)
                total[l] = kiln__att_careful(b, a->scores + m * KILN__ATT_KEYS, 1, c + l);
            kiln__att_join(a->out + m * a->dv_row + c, vf_wide(vf_set(a->factor[m])), vf_load(total));
        }
}

/* Values of a block that lie in memory: few_values takes parts of their rows, which processors do not
 * foresee. */
static void fetch_values(const kiln__att *a, const kiln__att_block *b) {
    for (int64_t j = 0; j < b->n; j++)
        for (int64_t c = 0; c < a->dv; c += 16)
            __builtin_prefetch(kiln__att_value(b, j) + c);
}

void KILN_LEVEL_FN(att_few)(kiln__att *a) {
    for (int64_t m = 0; m < a->n_rows; m++) {
        const kiln__att_row *r = &a->rows[m];
        const unsigned char *q =
            a->q->data + a->batch * a->q->nb[0] + r->head * a->q->nb[1] + r->query * a->q->nb[2];
        float *to = a->qs + m * a->d_row;
        const float *from = kiln__f32_row(a->q->dtype, q, a->d, to);
        VEC_MAP1(to, from, a->d, v, v * a->scale);
        memset(a->out + m * a->dv_row, 0, (size_t)a->dv_row * sizeof *a->out);
        a->most[m] = -INFINITY;
        a->sum[m] = 0.0;
    }
    kiln__att_block b;
    for (int64_t p = a->lo; p < a->hi; p += b.n) {
        b = KILN_LEVEL_FN(att_block)(a, p);
        if (a->v->dtype == KILN_F32)
            fetch_values(a, &b);
        few_scores(a, &b);
        for (int64_t m = 0; m < a->n_rows; m++)
            few_softmax(a, &b, m);
        if (b.partial && !kiln__att_finite(a, &b))
            few_values_careful(a, &b);
        else
            few_values(a, &b);
    }
    for (int64_t m = 0; m < a->n_rows; m++) {
        float *to = kiln__att_out(a, &a->rows[m]);
        const double *from = a->out + m * a->dv_row;
        double inverse = kiln__att_inverse(a->sum[m]);
        for (int64_t c = 0; c < a->dv; c += KILN_VL)
            vf_store_n(to + c, vw_narrow(vw_load(from + c) * inverse), a->dv - c);
    }
}
