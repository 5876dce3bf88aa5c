#include "infer_util.h"

#include "graph.h"

#include "cpu/level.h"
#include "cpu/move_tiles.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"x"};

static kiln_status infer(kiln_infer *infer) {
    const kiln_dtype_info *info = kiln_dtype_get(infer->in[0]->dtype);
    if (info->kind == KILN_KIND_ACT)
        return kiln_infer_fail(infer, KILN_ERROR_DTYPE, "x is %s; quantised activations cannot be cleared",
                               info->name);
    KILN__TRY(kiln__need_dense_rows(infer, 0, "x"));
    infer->alias[0] = 0;
    return KILN_OK;
}

/* What was there is not read. */
static kiln_status accesses(const kiln_access_query *query) {
    return kiln_access_operand(query, query->n_in, KILN_WRITE);
}

KILN_CPU_DECLARE(zero)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(zero, kiln__zero_tiles, NULL, kiln__cost_plain)};

const kiln_op kiln__op_zero = {
    .name = "zero",
    .text = "sets a tensor to zero, in place",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .infer = infer,
    .accesses = accesses,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_zero(kiln_graph *graph, kiln_tensor x) {
    return kiln__add_node(graph, &kiln__op_zero, &x, 1, NULL, NULL);
}

/* An arena storage like those that kiln_node_add makes for outputs, and a zero node on it. */
kiln_tensor kiln_zeros(kiln_graph *graph, uint32_t ndim, const kiln_dim *dims) {
    kiln_tensor none = {0, 0};
    kiln_desc desc = {.dtype = KILN_F32};
    kiln_error why;
    int64_t bytes;
    if (!kiln__dims_copy(graph, &desc, ndim, dims, "kiln_zeros"))
        return none;
    if (kiln__desc_dense(graph, &desc, &bytes, &why) != KILN_OK) {
        (void)kiln__graph_fail(graph, why.status, "kiln_zeros: %s", why.text);
        return none;
    }
    uint32_t storage = kiln__storage_new(graph, KILN_STORAGE_ARENA, NULL, bytes);
    uint32_t id = storage != 0 ? kiln__tensor_new(graph, storage, 0, &desc) : 0;
    return id != 0 ? kiln_zero(graph, (kiln_tensor){id, graph->tag}) : none;
}
