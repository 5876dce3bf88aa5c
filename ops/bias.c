#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x", "b"};
static const char *const out_names[] = {"y"};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need(infer, 1, "b", KILN__FLOATS, 1, 1));
    KILN__TRY(kiln__need_axis(infer, 1, "b", 0, 0, "x", -1));
    kiln__out_like(infer, 0, infer->in[0], KILN_F32);
    return KILN_OK;
}

static const kiln_inplace inplace[] = {{0, 0}};

/* The kernel of `add`: b is repeated along the leading axes, which it does not have. */
KILN_CPU_DECLARE(add)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(add, NULL, kiln__tiles_binary, NULL)};

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
    .inplace = inplace,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_bias(kiln_graph *graph, kiln_tensor x, kiln_tensor b) {
    const kiln_tensor in[] = {x, b};
    return kiln__add_node(graph, &kiln__op_bias, in, 2, NULL, NULL);
}
