#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"acc", "x", "w"};
static const char *const out_names[] = {"acc"};

static const kiln_attr attrs[] = {
    {.name = "w", .type = KILN_ATTR_F32_SLOT, .offset = offsetof(kiln_accumulate_attrs, w), .preset = 1},
};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "acc", KILN__DT(F32), 1, 4));
    KILN__TRY(kiln__need(infer, 1, "x", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need_same(infer, 1, "x", 0, "acc"));
    KILN__TRY(kiln__need(infer, 2, "w", KILN__DT(F32), 1, 4));
    const kiln_desc *w = kiln__in(infer, 2);
    for (uint32_t i = 0; w != NULL && i < w->ndim; i++) {
        char shape[KILN_SHAPE_TEXT_SIZE];
        if (!kiln_dim_equal(w->dims[i], kiln_n(1)))
            return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "w %s must have one element",
                                   kiln_infer_shape_text(infer, w, shape));
    }
    infer->alias[0] = 0;
    return KILN_OK;
}

KILN_CPU_DECLARE(accumulate)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(accumulate, kiln__tiles_binary, NULL, kiln__cost_plain)};

const kiln_op kiln__op_accumulate = {
    .name = "accumulate",
    .text = "acc += w * x, in place; w an operand or the attribute",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 3,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_accumulate_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_accumulate(kiln_graph *graph, kiln_tensor acc, kiln_tensor x, kiln_tensor w) {
    const kiln_tensor in[] = {acc, x, w};
    return kiln__add_node(graph, &kiln__op_accumulate, in, 3, NULL, NULL);
}

kiln_tensor kiln_accumulate_by(kiln_graph *graph, kiln_tensor acc, kiln_tensor x, kiln_f32_value w) {
    const kiln_tensor in[] = {acc, x};
    kiln_accumulate_attrs a = {w};
    return kiln__add_node(graph, &kiln__op_accumulate, in, 2, &a, NULL);
}
