#include "infer_util.h"

#include <float.h>

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "eps",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_l2_norm_attrs, eps),
     .preset = 1e-12,
     .max = FLT_MAX},
};

KILN_CPU_DECLARE(l2_norm)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(l2_norm, kiln__tiles_rows, kiln__scratch_rows_3, kiln__cost_function)};

const kiln_op kiln__op_l2_norm = {
    .name = "l2_norm",
    .text = "x / max(sqrt(sum x^2), eps)",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_l2_norm_attrs),
    .infer = kiln__infer_unary,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_norm,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_l2_norm(kiln_graph *graph, kiln_tensor x, float eps) {
    kiln_l2_norm_attrs a = {kiln_f32_given(eps)};
    return kiln__add_node(graph, &kiln__op_l2_norm, &x, 1, &a, NULL);
}
