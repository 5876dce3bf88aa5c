/* Norms of rows: rms_norm, add_rms_norm, layer_norm, l2_norm. Each reads its row whole before it writes the
 * first element of it, so the output may stand in the input's place. */
#include "kiln_attrs.h"
#include "rows.h"

#include <math.h>

void KILN_LEVEL_FN(row_rms_norm)(float *y, const float *x, const float *weight, int64_t n, float eps) {
    float sum;
    VEC_SUM(sum, x, n, 0.0f, v, v * v);
    float s = 1.0f / sqrtf(sum / (float)n + eps);
    if (weight != NULL)
        VEC_MAP2(y, x, weight, n, v, w, v * s * w);
    else
        VEC_MAP1(y, x, n, v, v * s);
}

static void row_layer_norm(float *y, const float *x, const float *weight, const float *bias, int64_t n,
                           float eps) {
    float sum, squares;
    VEC_SUM(sum, x, n, 0.0f, v, v);
    float mean = sum / (float)n;
    VEC_SUM(squares, x, n, mean, v, (v - mean) * (v - mean));
    float s = 1.0f / sqrtf(squares / (float)n + eps);
    if (weight != NULL)
        VEC_MAP2(y, x, weight, n, v, w, (v - mean) * s * w);
    else
        VEC_MAP1(y, x, n, v, (v - mean) * s);
    if (bias != NULL)
        VEC_MAP2(y, y, bias, n, v, w, v + w);
}

static void row_l2_norm(float *y, const float *x, int64_t n, float eps) {
    float sum;
    VEC_SUM(sum, x, n, 0.0f, v, v * v);
    float length = sqrtf(sum);
    if (length < eps)
        length = eps;
    VEC_MAP1(y, x, n, v, v / length);
}

/* A [N] operand as f32, NULL when absent; `buffer` has room for N. */
static const float *vector_of(const kiln_args *args, uint32_t i, float *buffer) {
    const kiln_operand *o = kiln__optional(args, i);
    return o != NULL ? kiln__f32_row(o->dtype, o->data, o->ne[3], buffer) : NULL;
}

static void quantise(const kiln_args *args, uint32_t j, int64_t r, const float *row, int64_t n) {
    if (j < args->n_out && args->out[j].data != NULL)
        KILN__FNS[args->out[j].dtype].from_f32(row, kiln__row(&args->out[j], r), n);
}

/* The rows of a call, and scratch for three rows (kiln__scratch_rows_3). */
typedef struct norm_rows {
    int64_t first, last, n;
    float *a, *b, *c;
} norm_rows;

static norm_rows rows_of(const kiln_args *args, const kiln_tile *tile) {
    int64_t n = args->in[0].ne[3], all = kiln__rows(&args->in[0]), per = kiln__rows_per_tile(n);
    int64_t pad = kiln__scratch_row(n), last = tile->last * per;
    float *s = (float *)(void *)tile->scratch;
    return (norm_rows){tile->first * per, last < all ? last : all, n, s, s + pad, s + 2 * pad};
}

static float *out_row(const kiln_args *args, uint32_t j, int64_t r) {
    return (float *)(void *)kiln__row(&args->out[j], r);
}

static const float *in_row(const kiln_args *args, uint32_t i, int64_t r, int64_t n, float *buffer) {
    return kiln__f32_row(args->in[i].dtype, kiln__row(&args->in[i], r), n, buffer);
}

kiln_status KILN_LEVEL_FN(rms_norm)(const kiln_args *args, kiln_tile *tile) {
    const kiln_rms_norm_attrs *attrs = args->attrs;
    norm_rows t = rows_of(args, tile);
    const float *weight = vector_of(args, 1, t.b);
    for (int64_t r = t.first; r < t.last; r++) {
        float *y = out_row(args, 0, r);
        KILN_LEVEL_FN(row_rms_norm)(y, in_row(args, 0, r, t.n, t.a), weight, t.n, attrs->eps);
        quantise(args, 1, r, y, t.n);
    }
    return KILN_OK;
}

/* Calls the same row functions as `add` and `rms_norm`, one after the other. */
kiln_status KILN_LEVEL_FN(add_rms_norm)(const kiln_args *args, kiln_tile *tile) {
    const kiln_rms_norm_attrs *attrs = args->attrs;
    norm_rows t = rows_of(args, tile);
    const float *weight = vector_of(args, 2, t.c);
    for (int64_t r = t.first; r < t.last; r++) {
        float *sum = out_row(args, 0, r), *normed = out_row(args, 1, r);
        KILN_LEVEL_FN(row_add)
        (sum, in_row(args, 0, r, t.n, t.a), in_row(args, 1, r, t.n, t.b), t.n);
        KILN_LEVEL_FN(row_rms_norm)(normed, sum, weight, t.n, attrs->eps);
        quantise(args, 2, r, normed, t.n);
    }
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(layer_norm)(const kiln_args *args, kiln_tile *tile) {
    const kiln_layer_norm_attrs *attrs = args->attrs;
    norm_rows t = rows_of(args, tile);
    const float *weight = vector_of(args, 1, t.b), *bias = vector_of(args, 2, t.c);
    for (int64_t r = t.first; r < t.last; r++)
        row_layer_norm(out_row(args, 0, r), in_row(args, 0, r, t.n, t.a), weight, bias, t.n, attrs->eps);
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(l2_norm)(const kiln_args *args, kiln_tile *tile) {
    const kiln_l2_norm_attrs *attrs = args->attrs;
    norm_rows t = rows_of(args, tile);
    for (int64_t r = t.first; r < t.last; r++)
        row_l2_norm(out_row(args, 0, r), in_row(args, 0, r, t.n, t.a), t.n, attrs->eps);
    return KILN_OK;
}
