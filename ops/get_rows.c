#include "matmul_infer.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"table", "ids"};
static const char *const out_names[] = {"y"};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "table", KILN__WEIGHTS, 2, 2));
    KILN__TRY(kiln__need(infer, 1, "ids", KILN__INDICES, 1, 3));
    const kiln_desc *table = infer->in[0], *ids = infer->in[1];
    kiln__out_like(infer, 0, ids, KILN_F32);
    infer->out[0].ndim = ids->ndim + 1;
    infer->out[0].dims[ids->ndim] = table->dims[1];
    return KILN_OK;
}

KILN_CPU_DECLARE(get_rows)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(get_rows, kiln__tiles_out_rows, NULL, kiln__cost_outputs)};

const kiln_op kiln__op_get_rows = {
    .name = "get_rows",
    .text = "y[i..., :] = table[ids[i...], :] as f32",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_get_rows(kiln_graph *graph, kiln_tensor table, kiln_tensor ids) {
    const kiln_tensor in[] = {table, ids};
    return kiln__add_node(graph, &kiln__op_get_rows, in, 2, NULL, NULL);
}
