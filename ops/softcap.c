#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

#include <float.h>

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "cap",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_softcap_attrs, cap),
     .preset = 30,
     .min = FLT_MIN,
     .max = FLT_MAX},
};

KILN_CPU_DECLARE(softcap)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(softcap, kiln__tiles_unary, NULL, kiln__cost_function)};

const kiln_op kiln__op_softcap = {
    .name = "softcap",
    .text = "cap * tanh(x / cap)",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_softcap_attrs),
    .infer = kiln__infer_unary,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_unary,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_softcap(kiln_graph *graph, kiln_tensor x, float cap) {
    kiln_softcap_attrs a = {kiln_f32_given(cap)};
    return kiln__add_node(graph, &kiln__op_softcap, &x, 1, &a, NULL);
}
