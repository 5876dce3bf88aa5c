#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "exact", .type = KILN_ATTR_BOOL, .offset = offsetof(kiln_gelu_attrs, exact)},
};

KILN_CPU_DECLARE(gelu)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(gelu, kiln__tiles_unary, NULL, kiln__cost_function)};

const kiln_op kiln__op_gelu = {
    .name = "gelu",
    .text = "x times the normal distribution function of x: the tanh form, or exact by erf",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_gelu_attrs),
    .infer = kiln__infer_unary,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_unary,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_gelu(kiln_graph *graph, kiln_tensor x, bool exact) {
    kiln_gelu_attrs a = {exact};
    return kiln__add_node(graph, &kiln__op_gelu, &x, 1, &a, NULL);
}
