#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/reduce_tiles.h"

static const char *const in_names[] = {"x", "w", "residual", "shared", "shared_logit"};
static const char *const out_names[] = {"y"};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 3, 3));
    KILN__TRY(kiln__need(infer, 1, "w", KILN__DT(F32), 2, 2));
    KILN__TRY(kiln__need_axis(infer, 1, "w", 0, 0, "x", 0));
    KILN__TRY(kiln__need_axis(infer, 1, "w", 1, 0, "x", 1));
    for (uint32_t i = 2; i < 4; i++) {
        KILN__TRY(kiln__need(infer, i, in_names[i], KILN__FLOATS, 2, 2));
        KILN__TRY(kiln__need_axis(infer, i, in_names[i], 0, 0, "x", 0));
        KILN__TRY(kiln__need_axis(infer, i, in_names[i], 1, 0, "x", 2));
    }
    KILN__TRY(kiln__need(infer, 4, "shared_logit", KILN__FLOATS, 2, 2));
    KILN__TRY(kiln__need_axis(infer, 4, "shared_logit", 0, 0, "x", 0));
    const kiln_desc *logit = kiln__in(infer, 4);
    if (logit != NULL) {
        char shape[KILN_SHAPE_TEXT_SIZE];
        if (kiln__in(infer, 3) == NULL)
            return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT, "shared_logit is given without shared");
        if (!kiln_dim_equal(logit->dims[1], kiln_n(1)))
            return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "shared_logit %s must have one column",
                                   kiln_infer_shape_text(infer, logit, shape));
    }
    const kiln_desc *x = infer->in[0];
    kiln__out_like(infer, 0, x, KILN_F32);
    infer->out[0].ndim = 2;
    infer->out[0].dims[1] = x->dims[2];
    return KILN_OK;
}

/* A part of an output row is written when all terms of that part have been read. */
static const kiln_inplace inplace[] = {{0, 2}, {0, 3}};

KILN_CPU_DECLARE(weighted_sum)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(weighted_sum, kiln__reduce_tiles, NULL, kiln__cost_plain)};

const kiln_op kiln__op_weighted_sum = {
    .name = "weighted_sum",
    .text = "residual + sum over s of w[t,s] * x[t,s,:] + sigmoid(shared_logit) * shared",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 5,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = inplace,
    .n_inplace = 2,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_weighted_sum(kiln_graph *graph, kiln_tensor x, kiln_tensor w) {
    const kiln_tensor in[] = {x, w};
    return kiln__add_node(graph, &kiln__op_weighted_sum, in, 2, NULL, NULL);
}

kiln_tensor kiln_weighted_sum_full(kiln_graph *graph, kiln_tensor x, kiln_tensor w, kiln_tensor residual,
                                   kiln_tensor shared, kiln_tensor shared_logit) {
    const kiln_tensor in[] = {x, w, residual, shared, shared_logit};
    return kiln__add_node(graph, &kiln__op_weighted_sum, in, 5, NULL, NULL);
}
