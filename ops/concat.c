#include "infer_util.h"

#include <stdio.h>

#include "cpu/level.h"
#include "cpu/move_tiles.h"

static const char *const in_names[] = {"part"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "axis",
     .type = KILN_ATTR_I64,
     .offset = offsetof(kiln_concat_attrs, axis),
     .min = -KILN_MAX_DIMS,
     .max = KILN_MAX_DIMS - 1},
};

/* Part i fits part 0 in everything but the axis, whose count is added to `sum`. */
static kiln_status check_part(const kiln_infer *infer, uint32_t i, uint32_t axis, kiln_dim *sum) {
    const kiln_desc *first = infer->in[0], *part = infer->in[i];
    char name[32], a[KILN_SHAPE_TEXT_SIZE], b[KILN_SHAPE_TEXT_SIZE];
    snprintf(name, sizeof name, "part %u", i);
    if (part == NULL)
        return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT, "%s is missing", name);
    if (part->dtype != first->dtype)
        return kiln_infer_fail(infer, KILN_ERROR_DTYPE, "%s is %s; it must be %s, as part 0", name,
                               kiln_dtype_get(part->dtype)->name, kiln_dtype_get(first->dtype)->name);
    KILN__TRY(kiln__need_dense_rows(infer, i, name));
    bool fits = part->ndim == first->ndim;
    for (uint32_t k = 0; fits && k < part->ndim; k++)
        fits = k == axis || kiln_dim_equal(part->dims[k], first->dims[k]);
    if (!fits)
        return kiln_infer_fail(
            infer, KILN_ERROR_SHAPE, "%s %s must have the dimensions of part 0 %s but for axis %u", name,
            kiln_infer_shape_text(infer, part, a), kiln_infer_shape_text(infer, first, b), axis);
    kiln_dim d = part->dims[axis];
    if (sum->n == 0)
        sum->slot = d.slot;
    if (d.n != 0 && d.slot != sum->slot)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "axis %u of %s %s is %s, that of the parts before it %s: their sum is no "
                               "multiple of one symbol",
                               axis, name, kiln_infer_shape_text(infer, part, a),
                               kiln_infer_dim_text(infer, d, b),
                               kiln_infer_dim_text(infer, *sum, (char[KILN_SHAPE_TEXT_SIZE]){0}));
    if (__builtin_add_overflow(sum->n, d.n, &sum->n))
        return kiln_infer_fail(infer, KILN_ERROR_OVERFLOW, "axis %u of the parts does not fit 63 bits", axis);
    return KILN_OK;
}

static kiln_status infer(kiln_infer *infer) {
    const kiln_concat_attrs *a = infer->attrs;
    const kiln_desc *first = infer->in[0];
    if (first == NULL)
        return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT, "part 0 is missing");
    const kiln_dtype_info *info = kiln_dtype_get(first->dtype);
    if (info->kind == KILN_KIND_ACT)
        return kiln_infer_fail(infer, KILN_ERROR_DTYPE,
                               "part 0 is %s; quantised activations cannot be joined", info->name);
    uint32_t axis;
    KILN__TRY(kiln__need_axis_in(infer, 0, "part 0", a->axis, &axis));
    kiln_dim sum = {0, 0};
    for (uint32_t i = 0; i < infer->n_in; i++)
        KILN__TRY(check_part(infer, i, axis, &sum));
    kiln__out_like(infer, 0, first, first->dtype);
    infer->out[0].dims[axis] = sum;
    return KILN_OK;
}

KILN_CPU_DECLARE(concat)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(concat, kiln__concat_tiles, NULL, kiln__cost_plain)};

const kiln_op kiln__op_concat = {
    .name = "concat",
    .text = "tensors of one dtype one after the other along an axis",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .variadic = true,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_concat_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_concat(kiln_graph *graph, const kiln_tensor *parts, uint32_t n_parts, int64_t axis) {
    kiln_concat_attrs a = {axis};
    return kiln__add_node(graph, &kiln__op_concat, parts, n_parts, &a, NULL);
}
