#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x", "b"};
static const char *const out_names[] = {"y"};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__infer_unary(infer));
    return kiln__need_vector(infer, 1, "b", 0, "x");
}

/* The kernel of `add`: b is repeated along the leading axes, which it does not have. */
KILN_CPU_DECLARE(add)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(add, kiln__tiles_binary, NULL, kiln__cost_plain)};

const kiln_op kiln__op_bias = {
    .name = "bias",
    .text = "x + b, b [N] repeated over all rows",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_unary,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_bias(kiln_graph *graph, kiln_tensor x, kiln_tensor b) {
    const kiln_tensor in[] = {x, b};
    return kiln__add_node(graph, &kiln__op_bias, in, 2, NULL, NULL);
}
