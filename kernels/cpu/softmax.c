/* softmax along any axis, and the row function that gather_topk shares. */
#include "kiln_attrs.h"
#include "rows.h"
#include "softmax_tiles.h"

#include <math.h>

/* The maximum, or 0 where everything is -Inf: then every exponential is 0, and so is the sum. */
static inline vf finite_max(vf most) {
    return vf_select(most == -INFINITY, vf_set(0.0f), most);
}

/* 1/sum, or 0 for the empty sum. NaN stays. */
static inline vf inverse(vf sum) {
    return vf_select(sum == 0.0f, vf_set(0.0f), 1.0f / sum);
}

void KILN_LEVEL_FN(row_exp)(float *y, const float *x, int64_t n) {
    VEC_MAP1(y, x, n, v, vf_exp(v));
}

void KILN_LEVEL_FN(row_softmax)(float *y, const float *x, int64_t n) {
    vf most = vf_set(-INFINITY);
    double sum = 0.0;
    int64_t i = 0;
    for (; i + KILN_VL <= n; i += KILN_VL)
        most = vf_max(most, vf_load(x + i));
    if (i < n)
        most = vf_max(most, vf_load_part(x + i, n - i, -INFINITY));
    vf m = finite_max(vf_set(vf_most(most)));
    for (int64_t b = 0; b < n; b += 2 * RUN * KILN_VL) {
        int64_t end = n - b < 2 * RUN * KILN_VL ? n : b + 2 * RUN * KILN_VL;
        vf some = {0}, more = {0};
        for (i = b; i + 2 * KILN_VL <= end; i += 2 * KILN_VL) {
            vf e = vf_exp_small(vf_load(x + i) - m), f = vf_exp_small(vf_load(x + i + KILN_VL) - m);
            some += e;
            more += f;
            vf_store(y + i, e);
            vf_store(y + i + KILN_VL, f);
        }
        for (; i < end; i += KILN_VL) {
            vf v = end - i < KILN_VL ? vf_load_part(x + i, end - i, -INFINITY) : vf_load(x + i);
            vf e = vf_exp_small(v - m);
            more += e;
            vf_store_n(y + i, e, end - i);
        }
        sum += (double)vf_sum(some + more);
    }
    vf s = inverse(vf_set((float)sum));
    VEC_MAP1(y, y, n, v, v * s);
}

/* y = scale·x + mask: what the exponentials are taken of. u8 masks leave out, whatever x holds there. */
static void masked(float *y, const float *x, const unsigned char *mask, uint32_t type, float scale,
                   int64_t n) {
    if (mask == NULL) {
        VEC_MAP1(y, x, n, v, v * scale);
    } else if (type == KILN_F32) {
        const float *add = (const float *)(const void *)mask;
        VEC_MAP2(y, x, add, n, v, w, v * scale + w);
    } else {
        for (int64_t i = 0; i < n; i++)
            y[i] = mask[i] ? x[i] * scale : -INFINITY;
    }
}

/* One column block along an axis that is not the innermost: down once for the maxima, once for the
 * exponentials and their sums, once to divide. y holds what is between. */
static void columns(const kiln_args *args, const kiln__softmax_grid *g, int64_t outer, int64_t start,
                    int64_t n) {
    const kiln_softmax_attrs *attrs = args->attrs;
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    const kiln_operand *mask = kiln__optional(args, 1);
    float part[KILN__SOFTMAX_COLUMNS], most[KILN__SOFTMAX_COLUMNS], some[KILN__SOFTMAX_COLUMNS];
    double sum[KILN__SOFTMAX_COLUMNS];
    int64_t size = kiln__float_size(x->dtype);
    for (int64_t c = 0; c < n; c++) {
        most[c] = -INFINITY;
        sum[c] = 0.0;
        some[c] = 0.0f;
    }
    for (int64_t j = 0; j < g->length; j++) {
        int64_t r = kiln__softmax_row(g, outer, j);
        float *row = (float *)(void *)kiln__row(y, r) + start;
        const unsigned char *m = mask ? kiln__row_of(mask, x, r) : NULL;
        if (m != NULL)
            m += start * (mask->dtype == KILN_F32 ? 4 : 1);
        masked(row, kiln__f32_row(x->dtype, kiln__row(x, r) + start * size, n, part), m,
               mask ? mask->dtype : 0, attrs->scale, n);
        VEC_MAP2(most, most, row, n, v, w, vf_max(v, w));
    }
    VEC_MAP1(most, most, n, v, finite_max(v));
    for (int64_t j = 0; j < g->length; j++) {
        float *row = (float *)(void *)kiln__row(y, kiln__softmax_row(g, outer, j)) + start;
        VEC_MAP2(row, row, most, n, v, w, vf_exp_small(v - w));
        VEC_MAP2(some, some, row, n, v, w, v + w);
        if (j % RUN == RUN - 1 || j == g->length - 1)
            vec_join(sum, some, n);
    }
    for (int64_t c = 0; c < n; c++)
        some[c] = (float)sum[c];
    VEC_MAP1(some, some, n, v, inverse(v));
    for (int64_t j = 0; j < g->length; j++) {
        float *row = (float *)(void *)kiln__row(y, kiln__softmax_row(g, outer, j)) + start;
        VEC_MAP2(row, row, some, n, v, w, v * w);
    }
}

kiln_status KILN_LEVEL_FN(softmax)(const kiln_args *args, kiln_tile *tile) {
    const kiln_softmax_attrs *attrs = args->attrs;
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    const kiln_operand *mask = kiln__optional(args, 1);
    kiln__softmax_grid g = kiln__softmax_grid_of(args);
    int64_t end = tile->last * g.per_tile < g.units ? tile->last * g.per_tile : g.units;
    for (int64_t u = tile->first * g.per_tile; u < end; u++) {
        if (g.chunks > 0) {
            int64_t start = u % g.chunks * KILN__SOFTMAX_COLUMNS, left = x->ne[3] - start;
            columns(args, &g, u / g.chunks, start,
                    left < KILN__SOFTMAX_COLUMNS ? left : KILN__SOFTMAX_COLUMNS);
            continue;
        }
        float *to = (float *)(void *)kiln__row(y, u);
        const float *from = (const float *)(const void *)kiln__row(x, u);
        if (x->dtype != KILN_F32) { /* x is narrower than y here, so y is no part of x */
            KILN__FNS[x->dtype].to_f32(from, to, x->ne[3]);
            from = to;
        }
        if (mask != NULL || attrs->scale != 1.0f) {
            masked(to, from, mask ? kiln__row_of(mask, x, u) : NULL, mask ? mask->dtype : 0, attrs->scale,
                   x->ne[3]);
            from = to;
        }
        KILN_LEVEL_FN(row_softmax)(to, from, x->ne[3]);
    }
    return KILN_OK;
}
