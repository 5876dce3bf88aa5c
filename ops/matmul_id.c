#include "matmul_infer.h"

#include "graph.h"

#include "cpu/level.h"
#include "cpu/matmul_tiles.h"

#include <stdio.h>

static const char *const in_names[] = {"x", "ids", "offsets", "entries", "xq", "w"};
static const char *const out_names[] = {"y"};

/* [E,N,K], or E times [N,K] of one dtype. Gives the number of experts. */
static kiln_status check_weights(const kiln_infer *infer, int64_t *experts) {
    const kiln_desc *w = kiln__in(infer, KILN_MATMUL_ID_W);
    char name[32], shape[KILN_SHAPE_TEXT_SIZE];
    if (w == NULL)
        return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT, "operand w is missing");
    uint32_t tensors = infer->n_in - KILN_MATMUL_ID_W, ndim = tensors > 1 ? 2 : 3;
    KILN__TRY(kiln__need(infer, KILN_MATMUL_ID_W, "w", KILN__WEIGHTS,
                         tensors > 1    ? 2
                         : w->ndim == 2 ? 2
                                        : 3,
                         ndim));
    for (uint32_t e = 1; e < tensors; e++) {
        uint32_t i = KILN_MATMUL_ID_W + e;
        snprintf(name, sizeof name, "w of expert %u", e);
        if (kiln__in(infer, i) == NULL)
            return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT, "%s is missing", name);
        KILN__TRY(kiln__need(infer, i, name, 1u << w->dtype, 2, 2));
        KILN__TRY(kiln__need_same(infer, i, name, KILN_MATMUL_ID_W, "w of expert 0"));
    }
    if (w->ndim == 3)
        KILN__TRY(kiln__need_constant(infer, KILN_MATMUL_ID_W, "w", 0, "it is the number of experts"));
    *experts = w->ndim == 3 ? w->dims[0].n : tensors;
    if (*experts > INT32_MAX - 2)
        return kiln_infer_fail(infer, KILN_ERROR_LIMIT, "w %s has %lld experts; ids are 32-bit",
                               kiln_infer_shape_text(infer, w, shape), (long long)*experts);
    return KILN_OK;
}

/* offsets [E+2] and entries [T·k], both or neither, each without gaps. */
static kiln_status check_map(const kiln_infer *infer, int64_t experts, kiln_dim want) {
    const kiln_desc *offsets = infer->in[KILN_MATMUL_ID_OFFSETS],
                    *entries = infer->in[KILN_MATMUL_ID_ENTRIES];
    char shape[KILN_SHAPE_TEXT_SIZE], pairs[KILN_SHAPE_TEXT_SIZE];
    if (offsets == NULL && entries == NULL)
        return KILN_OK;
    if (offsets == NULL || entries == NULL)
        return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT,
                               "offsets and entries belong together; %s is missing",
                               offsets == NULL ? "offsets" : "entries");
    KILN__TRY(kiln__need(infer, KILN_MATMUL_ID_OFFSETS, "offsets", KILN__DT(I32), 1, 1));
    KILN__TRY(kiln__need(infer, KILN_MATMUL_ID_ENTRIES, "entries", KILN__DT(I32), 1, 1));
    if (!kiln_dim_equal(offsets->dims[0], kiln_n(experts + 2)))
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "offsets is %s; for %lld experts it must be [%lld]",
                               kiln_infer_shape_text(infer, offsets, shape), (long long)experts,
                               (long long)experts + 2);
    if (!kiln_dim_equal(entries->dims[0], want))
        return kiln_infer_fail(
            infer, KILN_ERROR_SHAPE, "entries is %s; it must be [%s], one per element of ids",
            kiln_infer_shape_text(infer, entries, shape), kiln_infer_dim_text(infer, want, pairs));
    return KILN_OK;
}

static kiln_status infer(kiln_infer *infer) {
    const kiln_desc *x = infer->in[KILN_MATMUL_ID_X], *ids = infer->in[KILN_MATMUL_ID_IDS];
    int64_t experts = 0;
    kiln_dim pairs = {0, 0};
    if (x == NULL || ids == NULL)
        return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT, "operand %s is missing", x == NULL ? "x" : "ids");
    KILN__TRY(check_weights(infer, &experts));
    KILN__TRY(kiln__need(infer, KILN_MATMUL_ID_X, "x", KILN__FLOATS, 2, 3));
    KILN__TRY(kiln__need_ids(infer, KILN_MATMUL_ID_IDS, &pairs));
    KILN__TRY(kiln__need_axis(infer, KILN_MATMUL_ID_X, "x", 0, KILN_MATMUL_ID_IDS, "ids", 0));
    if (x->ndim == 3)
        KILN__TRY(kiln__need_axis(infer, KILN_MATMUL_ID_X, "x", 1, KILN_MATMUL_ID_IDS, "ids", 1));
    KILN__TRY(kiln__need_inner(infer, KILN_MATMUL_ID_W, KILN_MATMUL_ID_X, NULL));
    KILN__TRY(check_map(infer, experts, pairs));
    KILN__TRY(kiln__need_xq(infer, KILN_MATMUL_ID_W, KILN_MATMUL_ID_X, KILN_MATMUL_ID_XQ, 1));
    const kiln_desc *w = infer->in[KILN_MATMUL_ID_W];
    infer->out[0] =
        (kiln_desc){.dtype = KILN_F32, .ndim = 3, .dims = {ids->dims[0], ids->dims[1], w->dims[w->ndim - 2]}};
    return KILN_OK;
}

KILN_CPU_DECLARE(matmul_id)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(matmul_id, kiln__matmul_id_tiles, kiln__matmul_id_scratch, kiln__matmul_id_cost)};

const kiln_op kiln__op_matmul_id = {
    .name = "matmul_id",
    .text = "y[t, s, :] = w[ids[t, s]] * x[t] or * x[t, s]",
    .in_names = in_names,
    .n_in_min = KILN_MATMUL_ID_OPERANDS,
    .n_in_max = KILN_MATMUL_ID_OPERANDS,
    .variadic = true,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = kiln_access_operands, /* x too beside xq: an executor may keep activations in f32 */
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_matmul_id(kiln_graph *graph, kiln_tensor w, kiln_tensor x, kiln_tensor ids) {
    return kiln_matmul_id_split(graph, &w, 1, x, ids);
}

enum { MOST_EXPERTS = 1024 - KILN_MATMUL_ID_W }; /* as many operands as a node may have */

kiln_tensor kiln_matmul_id_split(kiln_graph *graph, const kiln_tensor *w, uint32_t n_experts, kiln_tensor x,
                                 kiln_tensor ids) {
    kiln_tensor in[KILN_MATMUL_ID_W + MOST_EXPERTS] = {[KILN_MATMUL_ID_X] = x, [KILN_MATMUL_ID_IDS] = ids};
    if (n_experts > MOST_EXPERTS) {
        (void)kiln__graph_fail(
            graph, KILN_ERROR_LIMIT,
            "matmul_id: %u separate experts; at most %d fit in one node (stack them in one "
            "tensor [E, N, K])",
            n_experts, MOST_EXPERTS);
        return (kiln_tensor){0, 0};
    }
    for (uint32_t e = 0; w != NULL && e < n_experts; e++)
        in[KILN_MATMUL_ID_W + e] = w[e];
    return kiln__add_node(graph, &kiln__op_matmul_id, in, KILN_MATMUL_ID_W + n_experts, NULL, NULL);
}
