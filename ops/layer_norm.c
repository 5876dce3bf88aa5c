#include "infer_util.h"

#include <float.h>

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x", "weight", "bias"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "eps",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_layer_norm_attrs, eps),
     .preset = 1e-5,
     .max = FLT_MAX},
};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__infer_unary(infer));
    KILN__TRY(kiln__need_vector(infer, 1, "weight", 0, "x"));
    return kiln__need_vector(infer, 2, "bias", 0, "x");
}

KILN_CPU_DECLARE(layer_norm)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(layer_norm, kiln__tiles_rows, kiln__scratch_rows_3, kiln__cost_function)};

const kiln_op kiln__op_layer_norm = {
    .name = "layer_norm",
    .text = "(x - mean) / sqrt(variance + eps) * weight + bias",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 3,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_layer_norm_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_norm,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_layer_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, kiln_tensor bias,
                            float eps) {
    const kiln_tensor in[] = {x, weight, bias};
    kiln_layer_norm_attrs a = {kiln_f32_given(eps)};
    return kiln__add_node(graph, &kiln__op_layer_norm, in, 3, &a, NULL);
}
