/* Ops that order rows: gather_topk, top_k, argsort, argmax. */
#include "kiln_attrs.h"
#include "order.h"
#include "rows.h"
#include "topk_scratch.h"

#include <math.h>

static const float *in_row(const kiln_args *args, int64_t r, float *buffer) {
    return kiln__f32_row(args->in[0].dtype, kiln__row(&args->in[0], r), args->in[0].ne[3], buffer);
}

static int64_t end_of(const kiln_args *args, const kiln_tile *tile) {
    int64_t all = kiln__rows(&args->in[0]), end = tile->last * kiln__rows_per_tile(args->in[0].ne[3]);
    return end < all ? end : all;
}

static int64_t begin_of(const kiln_args *args, const kiln_tile *tile) {
    return tile->first * kiln__rows_per_tile(args->in[0].ne[3]);
}

/* ---- gather_topk ------------------------------------------------------------------------------------ */

/* Ids of a row to `ids`, their values to `w`; an id out of range gives `absent` and is reported. */
static void choose(const kiln_args *args, kiln_tile *tile, int64_t r, const float *p, uint64_t *heap,
                   float absent, int32_t *ids, float *w) {
    int64_t n = args->in[0].ne[3], k = args->out[0].ne[3];
    const kiln_operand *order = kiln__optional(args, 1);
    if (order != NULL) {
        memcpy(ids, kiln__row(order, r), (size_t)k * sizeof *ids);
    } else {
        order_top(p, n, k, heap);
        for (int64_t s = 0; s < k; s++)
            ids[s] = (int32_t)order_index(heap[s]);
    }
    for (int64_t s = 0; s < k; s++) {
        bool ok = ids[s] >= 0 && ids[s] < n;
        w[s] = ok ? p[ids[s]] : absent;
        if (!ok)
            kiln_tile_bad_index(tile, r, ids[s], n);
    }
}

static void normalise(float *w, int64_t k) {
    double wide = 0.0;
    for (int64_t s = 0; s < k; s++)
        wide += (double)w[s];
    const float sum = (float)wide;
    for (int64_t s = 0; s < k; s++)
        w[s] = sum <= 0.0f ? 0.0f : w[s] / sum;
}

kiln_status KILN_LEVEL_FN(gather_topk)(const kiln_args *args, kiln_tile *tile) {
    const kiln_gather_topk_attrs *attrs = args->attrs;
    int64_t n = args->in[0].ne[3], k = args->out[0].ne[3];
    uint64_t *heap = (uint64_t *)(void *)tile->scratch;
    float *buffer = (float *)(void *)(tile->scratch + kiln__topk_heap_bytes(args));
    bool chosen = attrs->softmax == KILN_TOPK_SOFTMAX_CHOSEN;
    const float *scale = args->n_in > 2 ? (const float *)(const void *)args->in[2].data : NULL;
    for (int64_t r = begin_of(args, tile), end = end_of(args, tile); r < end; r++) {
        int32_t *ids = (int32_t *)(void *)kiln__row(&args->out[0], r);
        float *w = (float *)(void *)kiln__row(&args->out[1], r);
        const float *p = in_row(args, r, buffer);
        if (attrs->softmax == KILN_TOPK_SOFTMAX) {
            KILN_LEVEL_FN(row_softmax)(buffer, p, n);
            p = buffer;
        }
        choose(args, tile, r, p, heap, chosen ? -INFINITY : 0.0f, ids, w);
        if (chosen)
            KILN_LEVEL_FN(row_softmax)(w, w, k);
        else if (!attrs->no_normalise)
            normalise(w, k);
        for (int64_t s = 0; scale != NULL && s < k; s++)
            if (ids[s] >= 0 && ids[s] < n)
                w[s] *= scale[ids[s]];
    }
    return KILN_OK;
}

/* ---- top_k, argsort, argmax ------------------------------------------------------------------------- */

kiln_status KILN_LEVEL_FN(top_k)(const kiln_args *args, kiln_tile *tile) {
    int64_t n = args->in[0].ne[3], k = args->out[0].ne[3];
    uint64_t *heap = (uint64_t *)(void *)tile->scratch;
    float *buffer = (float *)(void *)(tile->scratch + kiln__topk_heap_bytes(args));
    for (int64_t r = begin_of(args, tile), end = end_of(args, tile); r < end; r++) {
        const float *x = in_row(args, r, buffer);
        float *values = (float *)(void *)kiln__row(&args->out[0], r);
        int32_t *indices = (int32_t *)(void *)kiln__row(&args->out[1], r);
        order_top(x, n, k, heap);
        for (int64_t s = 0; s < k; s++) {
            indices[s] = (int32_t)order_index(heap[s]);
            values[s] = x[indices[s]];
        }
    }
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(argsort)(const kiln_args *args, kiln_tile *tile) {
    const kiln_argsort_attrs *attrs = args->attrs;
    int64_t n = args->in[0].ne[3];
    uint64_t *a = (uint64_t *)(void *)tile->scratch, *b = a + n;
    float *buffer = (float *)(void *)(b + n);
    for (int64_t r = begin_of(args, tile), end = end_of(args, tile); r < end; r++) {
        const float *x = in_row(args, r, buffer);
        int32_t *y = (int32_t *)(void *)kiln__row(&args->out[0], r);
        for (int64_t i = 0; i < n; i++) {
            uint32_t key = order_key(x[i]);
            /* ~key: from large to small; key - 1: from small to large.
             * NaN's 0 becomes the largest in both. */
            a[i] = (uint64_t)(attrs->descending ? ~key : key - 1u) << 32 | (uint64_t)i;
        }
        const uint64_t *sorted = order_sort(a, b, n);
        for (int64_t i = 0; i < n; i++)
            y[i] = (int32_t)(uint32_t)sorted[i];
    }
    return KILN_OK;
}

static float part_max(const float *x, int64_t n) {
    vf most = vf_set(-INFINITY);
    int64_t i = 0;
    for (; i + KILN_VL <= n; i += KILN_VL)
        most = vf_max(most, vf_load(x + i));
    if (i < n)
        most = vf_max(most, vf_load_part(x + i, n - i, -INFINITY));
    return vf_most(most);
}

/* In parts: the maximum of each by vectors, and where it is only when it is a new one. */
static int64_t row_argmax(uint32_t dtype, const unsigned char *row, int64_t n) {
    float part[KILN__PART], best = -INFINITY;
    int64_t at = -1, size = kiln__float_size(dtype);
    for (int64_t i = 0; i < n; i += KILN__PART) {
        int64_t m = n - i < KILN__PART ? n - i : KILN__PART;
        const float *x = kiln__f32_row(dtype, row + i * size, m, part);
        float most = part_max(x, m);
        if (!(most > best))
            continue;
        best = most;
        at = i;
        while (x[at - i] != most)
            at++;
    }
    /* Nothing above -Inf: the first that is no NaN, if any. */
    for (int64_t i = 0; at < 0 && i < n; i++) {
        float x;
        KILN__FNS[dtype].to_f32(row + i * size, &x, 1);
        if (x == x)
            at = i;
    }
    return at < 0 && n > 0 ? 0 : at;
}

/* A row that is empty in this run has no largest: -1, which a following lookup reports. */
kiln_status KILN_LEVEL_FN(argmax)(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    for (int64_t r = begin_of(args, tile), end = end_of(args, tile); r < end; r++) {
        /* Row r of x belongs to element r of y. */
        unsigned char *to = kiln__row(y, r / y->ne[3]) + r % y->ne[3] * y->nb[3];
        *(int32_t *)(void *)to = (int32_t)row_argmax(x->dtype, kiln__row(x, r), x->ne[3]);
    }
    return KILN_OK;
}
