/* One input, one output, element by element: silu, gelu, softcap, scale. */
#include "kiln_attrs.h"
#include "rows.h"

typedef void (*map_fn)(float *y, const float *x, int64_t n, const float *param);

static void walk(const kiln_args *args, kiln_tile *tile, map_fn map, const float *param) {
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    int64_t size = kiln__float_size(x->dtype);
    kiln__grid g = kiln__grid_unary(args);
    for (kiln__cell c = kiln__cells(&g, tile); kiln__cell_next(&g, &c);) {
        const unsigned char *from = (g.flat ? x->data : kiln__row(x, c.row)) + c.start * size;
        float *to = (float *)(void *)(g.flat ? y->data : kiln__row(y, c.row)) + c.start;
        if (x->dtype == KILN_F32) {
            map(to, (const float *)(const void *)from, c.n, param);
            continue;
        }
        float part[KILN__PART];
        for (int64_t i = 0; i < c.n; i += KILN__PART) {
            int64_t n = c.n - i < KILN__PART ? c.n - i : KILN__PART;
            KILN__FNS[x->dtype].to_f32(from + i * size, part, n);
            map(to + i, part, n, param);
        }
    }
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
