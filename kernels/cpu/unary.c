/* One input, one output, element by element: silu, gelu, softcap, scale. */
#include "kiln_attrs.h"
#include "rows.h"

typedef void (*map_fn)(float *y, const float *x, int64_t n, const float *param);

static void map_cell(map_fn map, float *y, uint32_t type, const unsigned char *x, int64_t n,
                     const float *param) {
    if (type == KILN_F32) {
        map(y, (const float *)(const void *)x, n, param);
        return;
    }
    float part[KILN__PART];
    for (int64_t i = 0; i < n; i += KILN__PART) {
        int64_t m = n - i < KILN__PART ? n - i : KILN__PART;
        KILN__FNS[type].to_f32(x + i * kiln__float_size(type), part, m);
        map(y + i, part, m, param);
    }
}

static void walk(const kiln_args *args, kiln_tile *tile, map_fn map, const float *param) {
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    int64_t size = kiln__float_size(x->dtype);
    if (kiln__unary_is_flat(args)) {
        kiln__span s = kiln__flat_span(kiln__count(y), tile);
        map_cell(map, (float *)(void *)y->data + s.first, x->dtype, x->data + s.first * size, s.n, param);
        return;
    }
    kiln__grid g = kiln__grid_of(y);
    for (kiln__cell c = kiln__cells(&g, tile); kiln__cell_next(&g, &c);)
        map_cell(map, (float *)(void *)kiln__row(y, c.row) + c.start, x->dtype,
                 kiln__row(x, c.row) + c.start * size, c.n, param);
}

static void map_silu(float *y, const float *x, int64_t n, const float *param) {
    (void)param;
    VEC_MAP1(y, x, n, v, vf_silu(v));
}

static void map_gelu_tanh(float *y, const float *x, int64_t n, const float *param) {
    (void)param;
    VEC_MAP1(y, x, n, v, vf_gelu_tanh(v));
}

static void map_gelu_erf(float *y, const float *x, int64_t n, const float *param) {
    (void)param;
    VEC_MAP1(y, x, n, v, vf_gelu_erf(v));
}

static void map_softcap(float *y, const float *x, int64_t n, const float *param) {
    VEC_MAP1(y, x, n, v, vf_tanh(v / param[0]) * param[0]);
}

static void map_scale(float *y, const float *x, int64_t n, const float *param) {
    float scale = param[0], shift = param[1];
    VEC_MAP1(y, x, n, v, v * scale + shift);
}

kiln_status KILN_LEVEL_FN(silu)(const kiln_args *args, kiln_tile *tile) {
    walk(args, tile, map_silu, NULL);
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(gelu)(const kiln_args *args, kiln_tile *tile) {
    const kiln_gelu_attrs *a = args->attrs;
    walk(args, tile, a->exact ? map_gelu_erf : map_gelu_tanh, NULL);
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(softcap)(const kiln_args *args, kiln_tile *tile) {
    const kiln_softcap_attrs *a = args->attrs;
    walk(args, tile, map_softcap, &a->cap);
    return KILN_OK;
}

kiln_status KILN_LEVEL_FN(scale)(const kiln_args *args, kiln_tile *tile) {
    const kiln_scale_attrs *a = args->attrs;
    float param[2] = {a->scale.value, a->shift.value};
    walk(args, tile, map_scale, param);
    return KILN_OK;
}
