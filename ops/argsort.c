#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/topk_scratch.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"indices"};

static const kiln_attr attrs[] = {
    {.name = "descending", .type = KILN_ATTR_BOOL, .offset = offsetof(kiln_argsort_attrs, descending)},
};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need_short_rows(infer, 0, "x"));
    kiln__out_like(infer, 0, infer->in[0], KILN_I32);
    return KILN_OK;
}

/* f32 in, i32 out: a row is turned into keys in scratch before its first index is written. */
static const kiln_inplace inplace[] = {{0, 0}};

KILN_CPU_DECLARE(argsort)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(argsort, kiln__tiles_rows, kiln__argsort_scratch, kiln__cost_sort)};

const kiln_op kiln__op_argsort = {
    .name = "argsort",
    .text = "positions that sort each row, stably; NaN last in either direction",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_argsort_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = inplace,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_argsort(kiln_graph *graph, kiln_tensor x, bool descending) {
    kiln_argsort_attrs a = {descending};
    return kiln__add_node(graph, &kiln__op_argsort, &x, 1, &a, NULL);
}
