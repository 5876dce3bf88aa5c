#include "infer_util.h"

#include <float.h>

#include "cpu/level.h"
#include "cpu/softmax_tiles.h"

static const char *const in_names[] = {"x", "mask"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "axis",
     .type = KILN_ATTR_I64,
     .offset = offsetof(kiln_softmax_attrs, axis),
     .preset = -1,
     .min = -KILN_MAX_DIMS,
     .max = KILN_MAX_DIMS - 1},
    {.name = "scale",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_softmax_attrs, scale),
     .preset = 1,
     .min = -FLT_MAX,
     .max = FLT_MAX},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_softmax_attrs *a = infer->attrs;
    uint32_t axis;
    KILN__TRY(kiln__infer_unary(infer));
    KILN__TRY(kiln__need_axis_in(infer, 0, "x", a->axis, &axis));
    KILN__TRY(kiln__need(infer, 1, "mask", KILN__DT(F32) | KILN__DT(U8), 1, 4));
    KILN__TRY(kiln__need_broadcast(infer, 1, "mask", infer->in[0], "x"));
    return kiln__need_axis(infer, 1, "mask", -1, 0, "x", -1);
}

static int64_t tiles(const kiln_args *args) {
    return kiln__softmax_grid_of(args).tiles;
}

/* The first pass over a row (or a block of columns) only looks for the maximum or writes the scaled and
 * masked value where it has read; later passes read what is in y. */
static const kiln_inplace inplace[] = {{0, 0}};

KILN_CPU_DECLARE(softmax)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(softmax, tiles, NULL, kiln__cost_function)};

const kiln_op kiln__op_softmax = {
    .name = "softmax",
    .text = "softmax of scale * x + mask along an axis; zeros where all is left out",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_softmax_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = inplace,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_softmax(kiln_graph *graph, kiln_tensor x, kiln_tensor mask, kiln_softmax_attrs attributes) {
    const kiln_tensor in[] = {x, mask};
    return kiln__add_node(graph, &kiln__op_softmax, in, 2, &attributes, NULL);
}
