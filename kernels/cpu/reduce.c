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

static float sigmoid_of(const kiln_operand *logit, int64_t r) {
    float x;
    KILN__FNS[logit->dtype].to_f32(kiln__row(logit, r), &x, 1);
    vf s = vf_sigmoid(vf_set(x));
    return s[0];
}

/* The sum of a part of a row is held apart until it is complete: it may replace the residual's or the shared
 * term's bytes. */
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
        if (residual != NULL)
            KILN__FNS[residual->dtype].to_f32(
                kiln__row(residual, t) + start * kiln__float_size(residual->dtype), acc, n);
        for (int64_t s = 0; s < x->ne[2]; s++)
            add_row(acc, x, xs + s * x->nb[2], start, n, ws[s]);
        if (shared != NULL)
            add_row(acc, shared, kiln__row(shared, t), start, n, logit ? sigmoid_of(logit, t) : 1.0f);
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

enum { POOL_ROWS = 32 }; /* rows summed before they join the total, so that rounding errors stay small */

kiln_status KILN_LEVEL_FN(mean_pool)(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *x = &args->in[0], *y = &args->out[0], *mask = kiln__optional(args, 1);
    kiln__reduce_grid g = kiln__reduce_grid_of(y, x->ne[2]);
    for (int64_t u = tile->first * g.per_tile; u < tile->last * g.per_tile && u < g.units; u++) {
        int64_t r = u / g.chunks, start = u % g.chunks * KILN__REDUCE_COLUMNS, count = 0;
        int64_t n = x->ne[3] - start < KILN__REDUCE_COLUMNS ? x->ne[3] - start : KILN__REDUCE_COLUMNS;
        const unsigned char *xs = x->data + r / x->ne[1] * x->nb[0] + r % x->ne[1] * x->nb[1];
        const unsigned char *ms = mask ? kiln__row_of(mask, y, r) : NULL;
        float total[KILN__REDUCE_COLUMNS] = {0}, some[KILN__REDUCE_COLUMNS];
        for (int64_t t = 0; t < x->ne[2]; t += POOL_ROWS) {
            memset(some, 0, sizeof some);
            for (int64_t i = t; i < t + POOL_ROWS && i < x->ne[2]; i++)
                if (is_set(mask, ms, i)) {
                    add_row(some, x, xs + i * x->nb[2], start, n, 1.0f);
                    count++;
                }
            VEC_MAP2(total, total, some, n, v, w, v + w);
        }
        float inverse = count > 0 ? 1.0f / (float)count : 0.0f;
        float *to = (float *)(void *)kiln__row(y, r) + start;
        VEC_MAP1(to, total, n, v, v * inverse);
    }
    return KILN_OK;
}
