/* Norms of rows: rms_norm, add_rms_norm, layer_norm, l2_norm. Each reads its row whole before it writes the
 * first element of it, so the output may stand in the input's place. */
#include "kiln_attrs.h"
#include "rows.h"

#include <math.h>

/* Squares of f32 leave its range where the elements do not: below 2^-75 and above 2^64. Rows whose sum of n
 * squares shows that some may have done so are computed again in double, whose range has room for all of
 * them. */
static bool in_range(float squares, float n) {
    return squares >= 0x1p-100f * n && squares <= 0x1p126f;
}

/* y = (x - mean)·s·weight in double until the weight. */
static void wide_row(float *y, const float *x, const float *weight, int64_t n, double mean, double s) {
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(((double)x[i] - mean) * s) * (weight != NULL ? weight[i] : 1.0f);
}

static double wide_mean(const float *x, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i];
    return sum / (double)n;
}

static double wide_squares(const float *x, int64_t n, double mean) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sum;
}

void KILN_LEVEL_FN(row_rms_norm)(float *y, const float *x, const float *weight, int64_t n, float eps) {
    double sum;
    VEC_SUM(sum, x, n, 0.0f, v, v * v);
    float square = (float)sum / (float)n + eps;
    if (!in_range(square, 1)) {
        wide_row(y, x, weight, n, 0.0, 1.0 / sqrt(wide_squares(x, n, 0.0) / (double)n + (double)eps));
        return;
    }
    float s = 1.0f / sqrtf(square);
    if (weight != NULL)
        VEC_MAP2(y, x, weight, n, v, w, v * s * w);
    else
        VEC_MAP1(y, x, n, v, v * s);
}

/* The mean as hi + lo, and the variance. A sum of the elements knows the mean only to some 2^-23 of their
 * size, which is nothing beside what they differ by, unless the mean is large against that. Then their
 * differences from that estimate are exact enough, and the mean of these is how far it was off; where it was
 * off by much, the better estimate takes its place. */
typedef struct spread {
    float hi, lo;
    double variance;
} spread;

static spread spread_of(const float *x, int64_t n) {
    const double share = 1.0 / (double)n;
    double sum, squares;
    VEC_SUM(sum, x, n, 0.0f, v, v);
    spread r = {.hi = (float)(sum * share)};
    VEC_SUM(squares, x, n, r.hi, v, (v - r.hi) * (v - r.hi));
    r.variance = squares * share;
    bool exact = (double)r.hi * (double)r.hi <= 4 * r.variance;
    for (int tries = 0; !exact && tries < 3; tries++) {
        const float hi = r.hi;
        VEC_SUM2(sum, squares, x, n, hi, v, v - hi, (v - hi) * (v - hi));
        double off = sum * share, square = squares * share;
        r.lo = (float)off;
        r.variance = square - off * off;
        exact = off * off <= square / 4;
        if (!exact)
            r.hi = (float)((double)hi + off);
    }
    return r;
}

static void row_layer_norm(float *y, const float *x, const float *weight, const float *bias, int64_t n,
                           float eps) {
    spread r = spread_of(x, n);
    float square = (float)(r.variance + (double)eps);
    if (in_range(square, 1)) {
        float mean = r.hi, s = 1.0f / sqrtf(square);
        if (r.lo != 0.0f) {
            VEC_MAP1(y, x, n, v, v - r.hi);
            x = y;
            mean = r.lo;
        }
        if (weight != NULL)
            VEC_MAP2(y, x, weight, n, v, w, (v - mean) * s * w);
        else
            VEC_MAP1(y, x, n, v, (v - mean) * s);
    } else {
        double mean = wide_mean(x, n);
        double variance = wide_squares(x, n, mean) / (double)n;
        wide_row(y, x, weight, n, mean, 1.0 / sqrt(variance + (double)eps));
    }
    if (bias != NULL)
        VEC_MAP2(y, y, bias, n, v, w, v + w);
}

static void row_l2_norm(float *y, const float *x, int64_t n, float eps) {
    double sum;
    VEC_SUM(sum, x, n, 0.0f, v, v * v);
    float squares = (float)sum;
    if (!in_range(squares, (float)n)) {
        double length = sqrt(wide_squares(x, n, 0.0));
        length = length < (double)eps ? (double)eps : length;
        for (int64_t i = 0; i < n; i++)
            y[i] = (float)((double)x[i] / length);
        return;
    }
    float length = sqrtf(squares);
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
