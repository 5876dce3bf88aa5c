#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "scale", .type = KILN_ATTR_F32_SLOT, .offset = offsetof(kiln_scale_attrs, scale), .preset = 1},
    {.name = "shift", .type = KILN_ATTR_F32_SLOT, .offset = offsetof(kiln_scale_attrs, shift)},
};

KILN_CPU_DECLARE(scale)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(scale, kiln__tiles_unary, NULL, kiln__cost_plain)};

const kiln_op kiln__op_scale = {
    .name = "scale",
    .text = "scale * x + shift",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_scale_attrs),
    .infer = kiln__infer_unary,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_unary,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_scale(kiln_graph *graph, kiln_tensor x, kiln_scale_attrs attributes) {
    return kiln__add_node(graph, &kiln__op_scale, &x, 1, &attributes, NULL);
}
