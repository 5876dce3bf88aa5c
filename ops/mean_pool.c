#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/reduce_tiles.h"

static const char *const in_names[] = {"x", "mask"};
static const char *const out_names[] = {"y"};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 2, 4));
    const kiln_desc *x = infer->in[0];
    KILN__TRY(
        kiln__need(infer, 1, "mask", KILN__DT(F32) | KILN__DT(U8) | KILN__DT(I32), x->ndim - 1, x->ndim - 1));
    for (int i = 0; i < (int)x->ndim - 1; i++)
        KILN__TRY(kiln__need_axis(infer, 1, "mask", i, 0, "x", i));
    kiln__out_like(infer, 0, x, KILN_F32);
    infer->out[0].ndim = x->ndim - 1;
    infer->out[0].dims[x->ndim - 2] = x->dims[x->ndim - 1];
    return KILN_OK;
}

KILN_CPU_DECLARE(mean_pool)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(mean_pool, kiln__reduce_tiles, NULL, kiln__cost_plain)};

const kiln_op kiln__op_mean_pool = {
    .name = "mean_pool",
    .text = "mean of the rows whose mask is not 0; zeros when there is none",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_mean_pool(kiln_graph *graph, kiln_tensor x, kiln_tensor mask) {
    const kiln_tensor in[] = {x, mask};
    return kiln__add_node(graph, &kiln__op_mean_pool, in, 2, NULL, NULL);
}
