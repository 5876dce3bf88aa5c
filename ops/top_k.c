#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/topk_scratch.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"values", "indices"};

static const kiln_attr attrs[] = {
    {.name = "k",
     .type = KILN_ATTR_I64,
     .offset = offsetof(kiln_top_k_attrs, k),
     .preset = 1,
     .min = 1,
     .max = INT32_MAX,
     .required = true},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_top_k_attrs *a = infer->attrs;
    char shape[KILN_SHAPE_TEXT_SIZE];
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need_constant(infer, 0, "x", -1, "k elements are chosen among them in every run"));
    KILN__TRY(kiln__need_short_rows(infer, 0, "x"));
    const kiln_desc *x = infer->in[0];
    int64_t n = x->dims[x->ndim - 1].n;
    if (a->k > n)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "k = %lld is larger than the %lld elements of a row of x %s", (long long)a->k,
                               (long long)n, kiln_infer_shape_text(infer, x, shape));
    kiln__out_like(infer, 0, x, KILN_F32);
    kiln__out_like(infer, 1, x, KILN_I32);
    infer->out[0].dims[x->ndim - 1] = infer->out[1].dims[x->ndim - 1] = kiln_n(a->k);
    return KILN_OK;
}

KILN_CPU_DECLARE(top_k)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(top_k, kiln__tiles_rows, kiln__topk_scratch, kiln__cost_sort)};

const kiln_op kiln__op_top_k = {
    .name = "top_k",
    .text = "the k largest of each row and where they are; NaN last, ties to the lowest index",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 2,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_top_k_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_top_k(kiln_graph *graph, kiln_tensor x, int64_t k, kiln_tensor *indices) {
    kiln_tensor out[2];
    kiln_top_k_attrs a = {k};
    kiln__add_node(graph, &kiln__op_top_k, &x, 1, &a, out);
    if (indices != NULL)
        *indices = out[1];
    return out[0];
}
