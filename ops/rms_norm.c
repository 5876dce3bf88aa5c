#include "infer_util.h"

#include <float.h>

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x", "weight"};
static const char *const out_names[] = {"y", "quantised"};

static const kiln_attr attrs[] = {
    {.name = "eps",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_rms_norm_attrs, eps),
     .preset = 1e-5,
     .max = FLT_MAX},
    {.name = "quant",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_rms_norm_attrs, quant),
     .names = kiln__quant_names,
     .n_names = 4},
};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need(infer, 1, "weight", KILN__FLOATS, 1, 1));
    KILN__TRY(kiln__need_axis(infer, 1, "weight", 0, 0, "x", -1));
    const kiln_rms_norm_attrs *a = infer->attrs;
    kiln__out_like(infer, 0, infer->in[0], KILN_F32);
    return kiln__out_quant(infer, 1, 0, a->quant);
}

/* A row is read whole before its first element is written; rows are written in the order they are read. */
static const kiln_inplace inplace[] = {{0, 0}};

KILN_CPU_DECLARE(rms_norm)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(rms_norm, NULL, kiln__tiles_rows, kiln__scratch_rows_3)};

const kiln_op kiln__op_rms_norm = {
    .name = "rms_norm",
    .text = "x / sqrt(mean(x^2) + eps) * weight",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 2,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_rms_norm_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = inplace,
    .n_inplace = sizeof inplace / sizeof inplace[0],
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_rms_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, float eps) {
    const kiln_tensor in[] = {x, weight};
    kiln_tensor out[2] = {{0, 0}};
    kiln_rms_norm_attrs a = {eps, KILN_QUANT_NONE};
    return kiln__add_node(graph, &kiln__op_rms_norm, in, 2, &a, out);
}
