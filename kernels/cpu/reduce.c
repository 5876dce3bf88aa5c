/* Sums of rows: weighted_sum over the slots of a token, mean_pool over the tokens of a sequence. */
#include "kiln_attrs.h"
#include "reduce_tiles.h"
#include "rows.h"

/* acc += w · (n elements of a row from `start`) */
static void add_row(float *acc, const kiln_operand *x, const unsigned char *row, int64_t start, int64_t n,
                    float w) {
    float part[KILN__REDUCE_COLUMNS];
    const float *from = kiln__f32_row(x->dtype, row + start * kiln__float_size(x->dtype), n, part);
    VEC_MAP2(acc, acc, from, n, v, u, v + u * w);
}

/* The same for `count` slots one after the other, four of them at a time in registers where they are f32. */
static void add_slots(float *acc, const kiln_operand *x, const unsigned char *slots, int64_t start, int64_t n,
                      const float *w, int64_t count) {
    int64_t s = 0;
    for (; x->dtype == KILN_F32 && s + 4 <= count; s += 4) {
        const float *r[4];
        int64_t c = 0;
        for (int i = 0; i < 4; i++)
            r[i] = (const float *)(const void *)(slots + (s + i) * x->nb[2]) + start;
        for (; c + KILN_VL <= n; c += KILN_VL) {
            vf sum = vf_load(acc + c);
            for (int i = 0; i < 4; i++)
                sum += vf_load(r[i] + c) * w[s + i];
            vf_store(acc + c, sum);
        }
        for (int i = 0; c < n && i < 4; i++)
            add_row(acc + c, x, slots + (s + i) * x->nb[2], start + c, n - c, w[s + i]);
    }
    for (; s < count; s++)
        add_row(acc, x, slots + s * x->nb[2], start, n, w[s]);
}

static float sigmoid_of(const kiln_operand *logit, int64_t r) {
    float x;
    KILN__FNS[logit->dtype].to_f32(kiln__row(logit, r), &x, 1);
    vf s = vf_sigmoid(vf_set(x));
    return s[0];
}

/* The sum of a part of a row is held apart until it is complete: it may replace the residual's or the shared
 * term's bytes. Up to RUN terms are one run. */
kiln_status KILN_LEVEL_FN(weighted_sum)(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *x = &args->in[0], *w = &args->in[1], *y = &args->out[0];
    const kiln_operand *residual = kiln__optional(args, 2), *shared = kiln__optional(args, 3),
                       *logit = kiln__optional(args, 4);
    kiln__reduce_grid g = kiln__reduce_grid_of(y, x->ne[2]);
    for (int64_t u = tile->first * g.per_tile; u < tile->last * g.per_tile && u < g.units; u++) {
        int64_t t = u / g.chunks, start = u % g.chunks * KILN__REDUCE_COLUMNS;
        int64_t n = x->ne[3] - start < KILN__REDUCE_COLUMNS ? x->ne[3] - start : KILN__REDUCE_COLUMNS;
        const float *ws = (const float *)(const void *)kiln__row(w, t);
        const unsigned char *xs = x->data + t * x->nb[1];
        float acc[KILN__REDUCE_COLUMNS] = {0};
        double total[KILN__REDUCE_COLUMNS];
        const bool runs = x->ne[2] > RUN;
        if (runs)
            memset(total, 0, sizeof total);
        if (residual != NULL)
            KILN__FNS[residual->dtype].to_f32(
                kiln__row(residual, t) + start * kiln__float_size(residual->dtype), acc, n);
        for (int64_t s = 0; s < x->ne[2]; s += RUN) {
            if (runs)
                vec_join(total, acc, n);
            add_slots(acc, x, xs + s * x->nb[2], start, n, ws + s, x->ne[2] - s < RUN ? x->ne[2] - s : RUN);
        }
        if (shared != NULL)
            add_row(acc, shared, kiln__row(shared, t), start, n, logit ? sigmoid_of(logit, t) : 1.0f);
        for (int64_t i = 0; runs && i < n; i++)
            acc[i] = (float)(total[i] + (double)acc[i]);
        memcpy((float *)(void *)kiln__row(y, t) + start, acc, (size_t)n * sizeof *acc);
    }
    return KILN_OK;
}

static bool is_set(const kiln_operand *mask, const unsigned char *row, int64_t t) {
    if (mask == NULL)
        return true;
    if (mask->dtype == KILN_U8)
        return row[t] != 0;
    if (mask->dtype == KILN_I32)
        return ((const int32_t *)(const void *)row)[t] != 0;
    return ((const float *)(const void *)row)[t] != 0.0f;
}

/* Of the rows t … t+RUN-1 of a sequence, those that count: their parts from `start` on. Returns how many. */
static int64_t rows_that_count(const kiln_operand *x, const kiln_operand *mask, const unsigned char *xs,
                               const unsigned char *ms, int64_t t, int64_t start,
                               const unsigned char **rows) {
    int64_t end = t + RUN < x->ne[2] ? t + RUN : x->ne[2], count = 0;
    for (int64_t i = t; i < end; i++)
        if (is_set(mask, ms, i))
            rows[count++] = xs + i * x->nb[2] + start * kiln__float_size(x->dtype);
    return count;
}

/* total += the sum of up to RUN rows of n elements, which is one run. */
static void add_rows(double *total, uint32_t dtype, const unsigned char *const *rows, int64_t count,
                     int64_t n) {
    float run[KILN__REDUCE_COLUMNS] = {0}, part[KILN__REDUCE_COLUMNS];
    int64_t i = 0;
    for (; dtype == KILN_F32 && i + 4 <= count; i += 4) {
        const float *r[4];
        memcpy(r, rows + i, sizeof r);
        int64_t c = 0;
        for (; c + KILN_VL <= n; c += KILN_VL)
            vf_store(run + c, vf_load(run + c) + ((vf_load(r[0] + c) + vf_load(r[1] + c)) +
                                                  (vf_load(r[2] + c) + vf_load(r[3] + c))));
        for (; c < n; c++)
            run[c] += (r[0][c] + r[1][c]) + (r[2][c] + r[3][c]);
    }
    for (; i < count; i++) {
        const float *from = kiln__f32_row(dtype, rows[i], n, part);
        VEC_MAP2(run, run, from, n, v, w, v + w);
    }
    vec_join(total, run, n);
}

kiln_status KILN_LEVEL_FN(mean_pool)(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *x = &args->in[0], *y = &args->out[0], *mask = kiln__optional(args, 1);
    kiln__reduce_grid g = kiln__reduce_grid_of(y, x->ne[2]);
    for (int64_t u = tile->first * g.per_tile; u < tile->last * g.per_tile && u < g.units; u++) {
        int64_t r = u / g.chunks, start = u % g.chunks * KILN__REDUCE_COLUMNS, count = 0;
        int64_t n = x->ne[3] - start < KILN__REDUCE_COLUMNS ? x->ne[3] - start : KILN__REDUCE_COLUMNS;
        const unsigned char *xs = x->data + r / x->ne[1] * x->nb[0] + r % x->ne[1] * x->nb[1];
        const unsigned char *ms = mask ? kiln__row_of(mask, y, r) : NULL;
        double total[KILN__REDUCE_COLUMNS] = {0};
        for (int64_t t = 0; t < x->ne[2]; t += RUN) {
            const unsigned char *rows[RUN];
            int64_t some = rows_that_count(x, mask, xs, ms, t, start, rows);
            add_rows(total, x->dtype, rows, some, n);
            count += some;
        }
        double inverse = count > 0 ? 1.0 / (double)count : 0.0;
        float *to = (float *)(void *)kiln__row(y, r) + start;
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)(total[i] * inverse);
    }
    return KILN_OK;
}
