#include "infer_util.h"

#include <float.h>

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x", "weight"};
static const char *const out_names[] = {"y", "quantised"};

const kiln_attr kiln__rms_norm_attr_rows[2] = {
    {.name = "eps",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_rms_norm_attrs, eps),
     .preset = 1e-5,
     .max = FLT_MAX},
    {.name = "quant",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_rms_norm_attrs, quant),
     .names = kiln__quant_names,
     .n_names = 4},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_rms_norm_attrs *a = infer->attrs;
    KILN__TRY(kiln__infer_unary(infer));
    KILN__TRY(kiln__need_vector(infer, 1, "weight", 0, "x"));
    return kiln__out_quant(infer, 1, 0, a->quant);
}

KILN_CPU_DECLARE(rms_norm)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(rms_norm, kiln__tiles_rows, kiln__scratch_rows_3, kiln__cost_function)};

const kiln_op kiln__op_rms_norm = {
    .name = "rms_norm",
    .text = "x / sqrt(mean(x^2) + eps) * weight",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 2,
    .attrs = kiln__rms_norm_attr_rows,
    .n_attrs = 2,
    .attrs_size = sizeof(kiln_rms_norm_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_norm,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_rms_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, float eps) {
    const kiln_tensor in[] = {x, weight};
    kiln_tensor out[2] = {{0, 0}};
    kiln_rms_norm_attrs a = {kiln_f32_given(eps), KILN_QUANT_NONE};
    return kiln__add_node(graph, &kiln__op_rms_norm, in, 2, &a, out);
}
