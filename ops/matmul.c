#include "matmul_infer.h"

#include "cpu/level.h"
#include "cpu/matmul_tiles.h"

static const char *const in_names[] = {"w", "x", "shadow", "xq"};
static const char *const out_names[] = {"y"};

static kiln_status infer(kiln_infer *infer) {
    const kiln_desc *w = infer->in[KILN_MATMUL_W], *x = infer->in[KILN_MATMUL_X];
    bool split;
    KILN__TRY(kiln__need(infer, KILN_MATMUL_W, "w", KILN__WEIGHTS, 2, 2));
    KILN__TRY(kiln__need(infer, KILN_MATMUL_X, "x", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need_inner(infer, KILN_MATMUL_W, KILN_MATMUL_X, &split));
    KILN__TRY(kiln__need(infer, KILN_MATMUL_SHADOW, "shadow", KILN__DT(F16), 2, 2));
    KILN__TRY(kiln__need_same(infer, KILN_MATMUL_SHADOW, "shadow", KILN_MATMUL_W, "w"));
    KILN__TRY(kiln__need_xq(infer, KILN_MATMUL_W, KILN_MATMUL_X, KILN_MATMUL_XQ, split ? 2 : 1));
    kiln_desc *y = &infer->out[0];
    kiln__out_like(infer, 0, x, KILN_F32);
    y->ndim = x->ndim - split;
    y->dims[y->ndim - 1] = w->dims[0];
    return KILN_OK;
}

KILN_CPU_DECLARE(matmul)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(matmul, kiln__matmul_tiles, kiln__matmul_scratch, kiln__matmul_cost)};

const kiln_op kiln__op_matmul = {
    .name = "matmul",
    .text = "y[..., n] = sum over j of w[n, j] * x[..., j]",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = KILN_MATMUL_OPERANDS,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = kiln_access_operands, /* x too beside xq: an executor may keep activations in f32 */
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_matmul(kiln_graph *graph, kiln_tensor w, kiln_tensor x) {
    const kiln_tensor in[] = {w, x};
    return kiln__add_node(graph, &kiln__op_matmul, in, 2, NULL, NULL);
}

kiln_tensor kiln_matmul_shadow(kiln_graph *graph, kiln_tensor w, kiln_tensor x, kiln_tensor shadow) {
    const kiln_tensor in[] = {w, x, shadow};
    return kiln__add_node(graph, &kiln__op_matmul, in, 3, NULL, NULL);
}
