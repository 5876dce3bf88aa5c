/* Two inputs, element by element, the second repeated to the first: add, mul, bias, accumulate. */
#include "kiln_attrs.h"
#include "rows.h"

/* y = f(a, b); param is accumulate's w. y may be a or b. */
typedef void (*pair_fn)(float *y, const float *a, const float *b, int64_t n, float param);

static void pair_add(float *y, const float *a, const float *b, int64_t n, float param) {
    (void)param;
    KILN_LEVEL_FN(row_add)(y, a, b, n);
}

static void pair_mul(float *y, const float *a, const float *b, int64_t n, float param) {
    (void)param;
    VEC_MAP2(y, a, b, n, v, w, v * w);
}

static void pair_accumulate(float *y, const float *a, const float *b, int64_t n, float param) {
    VEC_MAP2(y, a, b, n, v, w, v + w * param);
}

void KILN_LEVEL_FN(row_add)(float *y, const float *a, const float *b, int64_t n) {
    VEC_MAP2(y, a, b, n, v, w, v + w);
}

/* `step` is b's element size, 0 when one element stands for the whole row. */
static void pair_cell(pair_fn f, float *y, const unsigned char *a, uint32_t a_type, const unsigned char *b,
                      uint32_t b_type, int64_t step, int64_t n, float param) {
    if (a_type == KILN_F32 && b_type == KILN_F32 && step != 0) {
        f(y, (const float *)(const void *)a, (const float *)(const void *)b, n, param);
        return;
    }
    float a_part[KILN__PART], b_part[KILN__PART];
    if (step == 0) {
        float one;
        KILN__FNS[b_type].to_f32(b, &one, 1);
        for (int64_t i = 0; i < KILN__PART; i++)
            b_part[i] = one;
    }
    int64_t a_size = kiln__float_size(a_type);
    for (int64_t i = 0; i < n; i += KILN__PART) {
        int64_t m = n - i < KILN__PART ? n - i : KILN__PART;
        const float *as = kiln__f32_row(a_type, a + i * a_size, m, a_part);
        const float *bs = step == 0 ? b_part : kiln__f32_row(b_type, b + i * step, m, b_part);
        f(y + i, as, bs, m, param);
    }
}

static void walk(const kiln_args *args, kiln_tile *tile, pair_fn f, float param) {
    const kiln_operand *a = &args->in[0], *b = &args->in[1], *y = &args->out[0];
    int64_t a_size = kiln__float_size(a->dtype), b_size = kiln__float_size(b->dtype);
    if (kiln__binary_is_flat(args)) {
        kiln__span s = kiln__flat_span(kiln__count(y), tile);
        pair_cell(f, (float *)(void *)y->data + s.first, a->data + s.first * a_size, a->dtype,
                  b->data + s.first * b_size, b->dtype, b_size, s.n, param);
        return;
    }
    int64_t step = b->ne[3] == 1 && y->ne[3] != 1 ? 0 : b_size;
    kiln__grid g = kiln__grid_of(y);
    for (kiln__cell c = kiln__cells(&g, tile); kiln__cell_next(&g, &c);)
        pair_cell(f, (float *)(void *)kiln__row(y, c.row) + c.start, kiln__row(a, c.row) + c.start * a_size,
                  a->dtype, kiln__row_of(b, y, c.row) + c.start * step, b->dtype, step, c.n, param);
}

kiln_status KILN_LEVEL_FN(add)(const kiln_args *args, kiln_tile *tile) {
    walk(args, tile, pair_add, 0.0f);
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(mul)(const kiln_args *args, kiln_tile *tile) {
    walk(args, tile, pair_mul, 0.0f);
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(accumulate)(const kiln_args *args, kiln_tile *tile) {
    const kiln_accumulate_attrs *attrs = args->attrs;
    const kiln_operand *w = kiln__optional(args, 2);
    walk(args, tile, pair_accumulate, w ? *(const float *)(const void *)w->data : attrs->w.value);
    return KILN_OK;
}
