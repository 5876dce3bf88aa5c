#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"index"};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 1, 4));
    const kiln_desc *x = infer->in[0];
    int64_t n = kiln_infer_dim_max(infer, x->dims[x->ndim - 1]);
    char shape[KILN_SHAPE_TEXT_SIZE];
    if (n < 1 || n > INT32_MAX)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "the rows of x %s have %lld elements; they must have 1 to %d",
                               kiln_infer_shape_text(infer, x, shape), (long long)n, INT32_MAX);
    kiln__out_like(infer, 0, x, KILN_I32);
    if (x->ndim > 1)
        infer->out[0].ndim = x->ndim - 1;
    else
        infer->out[0].dims[0] = kiln_n(1);
    return KILN_OK;
}

/* Unlike kiln__tiles_rows: also rows that are empty in this run have an answer. */
static int64_t tiles(const kiln_args *args) {
    return kiln__row_tiles(kiln__rows(&args->in[0]), args->in[0].ne[3]);
}

KILN_CPU_DECLARE(argmax)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(argmax, tiles, NULL, kiln__cost_plain)};

const kiln_op kiln__op_argmax = {
    .name = "argmax",
    .text = "index of the largest of each row; ties to the lowest, NaN only when all are; -1 of an empty row",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_argmax(kiln_graph *graph, kiln_tensor x) {
    return kiln__add_node(graph, &kiln__op_argmax, &x, 1, NULL, NULL);
}
