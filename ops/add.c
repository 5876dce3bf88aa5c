#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"a", "b"};
static const char *const out_names[] = {"y"};

KILN_CPU_DECLARE(add)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(add, kiln__tiles_binary, NULL, kiln__cost_plain)};

const kiln_op kiln__op_add = {
    .name = "add",
    .text = "a + b, b repeated to a",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 1,
    .infer = kiln__infer_binary,
    .accesses = kiln_access_operands,
    .inplace = kiln__inplace_binary,
    .n_inplace = 2,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_add(kiln_graph *graph, kiln_tensor a, kiln_tensor b) {
    const kiln_tensor in[] = {a, b};
    return kiln__add_node(graph, &kiln__op_add, in, 2, NULL, NULL);
}
