#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"y"};

KILN_CPU_DECLARE(silu)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(silu, kiln__tiles_unary, NULL, kiln__cost_function)};

const kiln_op kiln__op_silu = {
    .name = "silu",
    .text = "x / (1 + e^-x)",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .infer = kiln__infer_unary,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_unary,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_silu(kiln_graph *graph, kiln_tensor x) {
    return kiln__add_node(graph, &kiln__op_silu, &x, 1, NULL, NULL);
}
