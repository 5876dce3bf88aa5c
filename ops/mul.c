#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"a", "b"};
static const char *const out_names[] = {"y"};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "a", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need(infer, 1, "b", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need_broadcast(infer, 1, "b", infer->in[0], "a"));
    kiln__out_like(infer, 0, infer->in[0], KILN_F32);
    return KILN_OK;
}

/* Elements are read before the same ones are written. b may be replaced only where it has y's size and
 * strides, so not where it is repeated. */
static const kiln_inplace inplace[] = {{0, 0}, {0, 1}};

KILN_CPU_DECLARE(mul)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(mul, NULL, kiln__tiles_binary, NULL)};

const kiln_op kiln__op_mul = {
    .name = "mul",
    .text = "a * b, b repeated to a",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = inplace,
    .n_inplace = 2,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_mul(kiln_graph *graph, kiln_tensor a, kiln_tensor b) {
    const kiln_tensor in[] = {a, b};
    return kiln__add_node(graph, &kiln__op_mul, in, 2, NULL, NULL);
}
