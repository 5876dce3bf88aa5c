#include "infer_util.h"

#include "graph.h"

#include "cpu/level.h"
#include "cpu/topk_scratch.h"

static const char *const in_names[] = {"probs", "order", "scale"};
static const char *const out_names[] = {"ids", "weights"};
static const char *const softmax_names[] = {"probs", "softmax", "softmax_chosen"};

static const kiln_attr attrs[] = {
    {.name = "k",
     .type = KILN_ATTR_I64,
     .offset = offsetof(kiln_gather_topk_attrs, k),
     .preset = 1,
     .min = 1,
     .max = INT32_MAX,
     .required = true},
    {.name = "normalise", .type = KILN_ATTR_OFF, .offset = offsetof(kiln_gather_topk_attrs, no_normalise)},
    {.name = "softmax",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_gather_topk_attrs, softmax),
     .names = softmax_names,
     .n_names = 3},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_gather_topk_attrs *a = infer->attrs;
    char shape[KILN_SHAPE_TEXT_SIZE];
    KILN__TRY(kiln__need(infer, 0, "probs", KILN__FLOATS, 2, 2));
    KILN__TRY(kiln__need_constant(infer, 0, "probs", -1, "k experts are chosen among them in every run"));
    const kiln_desc *probs = infer->in[0];
    int64_t experts = probs->dims[1].n;
    if (experts > INT32_MAX)
        return kiln_infer_fail(infer, KILN_ERROR_LIMIT, "probs %s has %lld experts; ids are i32",
                               kiln_infer_shape_text(infer, probs, shape), (long long)experts);
    if (a->k > experts)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "k = %lld is larger than the %lld experts of probs %s", (long long)a->k,
                               (long long)experts, kiln_infer_shape_text(infer, probs, shape));
    KILN__TRY(kiln__need(infer, 1, "order", KILN__DT(I32), 2, 2));
    KILN__TRY(kiln__need_same(infer, 1, "order", 0, "probs"));
    KILN__TRY(kiln__need(infer, 2, "scale", KILN__DT(F32), 1, 1));
    KILN__TRY(kiln__need_axis(infer, 2, "scale", 0, 0, "probs", 1));
    kiln__out_like(infer, 0, probs, KILN_I32);
    kiln__out_like(infer, 1, probs, KILN_F32);
    infer->out[0].dims[1] = infer->out[1].dims[1] = kiln_n(a->k);
    return KILN_OK;
}

/* Of `order` only the first k columns are read. */
static kiln_status accesses(const kiln_access_query *query) {
    const kiln_gather_topk_attrs *a = query->attrs;
    for (uint32_t i = 0; i < query->n_in; i++) {
        if (query->in[i] == NULL)
            continue;
        if (i == 1) {
            const kiln_desc *order = query->in[1];
            kiln_box box = {.length = 4 * a->k,
                            .count = {kiln__dim_max(query->list->graph, order->dims[0]), 1, 1},
                            .stride = {order->strides[0], 0, 0}};
            KILN__TRY(kiln_access_box(query, i, KILN_READ, &box));
        } else {
            KILN__TRY(kiln_access_operand(query, i, KILN_READ));
        }
    }
    KILN__TRY(kiln_access_operand(query, query->n_in, KILN_WRITE));
    return kiln_access_operand(query, query->n_in + 1, KILN_WRITE);
}

KILN_CPU_DECLARE(gather_topk)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(gather_topk, kiln__tiles_rows, kiln__topk_scratch, kiln__cost_sort)};

const kiln_op kiln__op_gather_topk = {
    .name = "gather_topk",
    .text = "ids and weights of the k largest of each row, or of the first k of an order",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 3,
    .out_names = out_names,
    .n_out = 2,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_gather_topk_attrs),
    .infer = infer,
    .accesses = accesses,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_gather_topk(kiln_graph *graph, kiln_tensor probs, kiln_tensor order, kiln_tensor scale,
                             kiln_gather_topk_attrs attributes, kiln_tensor *weights) {
    const kiln_tensor in[] = {probs, order, scale};
    kiln_tensor out[2];
    kiln__add_node(graph, &kiln__op_gather_topk, in, 3, &attributes, out);
    if (weights != NULL)
        *weights = out[1];
    return out[0];
}
