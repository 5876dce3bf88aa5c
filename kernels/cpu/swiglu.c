/* swiglu: act(gate)·up, from one packed operand or from two, with an optional quantised copy. */
#include "kiln_attrs.h"
#include "rows.h"
#include "swiglu_tiles.h"

#include <math.h>

typedef void (*glu_fn)(float *y, const float *gate, const float *up, int64_t n, float limit);

/* A limit of +Inf clamps nothing; NaN comes through a clamp. */
#define GLU(name, act)                                                                                       \
    static void name(float *y, const float *gate, const float *up, int64_t n, float limit) {                 \
        VEC_MAP2(y, gate, up, n, v, w,                                                                       \
                 act(vf_at_most(v, limit)) * vf_at_least(vf_at_most(w, limit), -limit));                     \
    }
GLU(glu_silu, vf_silu)
GLU(glu_gelu_tanh, vf_gelu_tanh)
GLU(glu_gelu_erf, vf_gelu_erf)
GLU(glu_relu, vf_relu)
#undef GLU

kiln_status KILN_LEVEL_FN(swiglu)(const kiln_args *args, kiln_tile *tile) {
    static const glu_fn acts[] = {[KILN_ACT_SILU] = glu_silu,
                                  [KILN_ACT_GELU_TANH] = glu_gelu_tanh,
                                  [KILN_ACT_GELU_ERF] = glu_gelu_erf,
                                  [KILN_ACT_RELU] = glu_relu};
    const kiln_swiglu_attrs *attrs = args->attrs;
    const kiln_operand *gate = &args->in[0], *y = &args->out[0];
    const kiln_operand *up = kiln__optional(args, 1);
    const kiln_operand *copy = args->n_out > 1 && args->out[1].data != NULL ? &args->out[1] : NULL;
    const kiln_dtype_info *info = copy ? kiln_dtype_get((kiln_dtype)copy->dtype) : NULL;
    float limit = attrs->limit > 0.0f ? attrs->limit : INFINITY;
    uint32_t up_type = up ? up->dtype : gate->dtype;
    int64_t gate_size = kiln__float_size(gate->dtype), up_size = kiln__float_size(up_type);
    kiln__grid g = kiln__swiglu_grid(args);
    for (kiln__cell c = kiln__cells(&g, tile); kiln__cell_next(&g, &c);) {
        const unsigned char *gs = kiln__row(gate, c.row);
        const unsigned char *us = up ? kiln__row(up, c.row) : gs + g.n * gate_size;
        float *to = (float *)(void *)kiln__row(y, c.row) + c.start;
        gs += c.start * gate_size;
        us += c.start * up_size;
        float g_part[KILN__PART], u_part[KILN__PART];
        bool whole = gate->dtype == KILN_F32 && up_type == KILN_F32;
        for (int64_t i = 0, m; i < c.n; i += m) {
            m = whole || c.n - i < KILN__PART ? c.n - i : KILN__PART;
            acts[attrs->act](to + i, kiln__f32_row(gate->dtype, gs + i * gate_size, m, g_part),
                             kiln__f32_row(up_type, us + i * up_size, m, u_part), m, limit);
        }
        if (copy != NULL)
            KILN__FNS[copy->dtype].from_f32(to, kiln__row(copy, c.row) + c.start / info->block * info->bytes,
                                            c.n);
    }
    return KILN_OK;
}
