#include "infer_util.h"

#include "cpu/copy_tiles.h"
#include "cpu/level.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"y"};

static const char *const dtype_names[KILN_DTYPE_COUNT] = {
    "none",
#define KILN_DTYPE(NAME, lower, kind, block, bytes, align, text) #lower,
#include "kiln_dtype_list.h"
#undef KILN_DTYPE
};

static const kiln_attr attrs[] = {
    {.name = "dtype",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_copy_attrs, dtype),
     .preset = KILN_F32,
     .names = dtype_names,
     .n_names = KILN_DTYPE_COUNT,
     .required = true},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_copy_attrs *a = infer->attrs;
    const kiln_desc *x = infer->in[0];
    const kiln_dtype_info *from = kiln_dtype_get(x->dtype), *to = kiln_dtype_get((kiln_dtype)a->dtype);
    bool ok = to != NULL && (from->kind == KILN_KIND_FLOAT   ? to->kind == KILN_KIND_FLOAT
                             : from->kind == KILN_KIND_BLOCK ? a->dtype == KILN_F32
                             : from->kind == KILN_KIND_INT   ? from == to
                                                             : false);
    if (!ok)
        return kiln_infer_fail(infer, KILN_ERROR_DTYPE,
                               "x is %s and cannot be copied to %s: floats go to f32, f16 or bf16, blocks to "
                               "f32, integers to their own dtype",
                               from->name, dtype_names[a->dtype]);
    kiln__out_like(infer, 0, x, (kiln_dtype)a->dtype);
    return KILN_OK;
}

KILN_CPU_DECLARE(copy)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(copy, kiln__copy_tiles, NULL, kiln__cost_plain)};

const kiln_op kiln__op_copy = {
    .name = "copy",
    .text = "a dense copy, in another float dtype if wanted",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_copy_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_copy(kiln_graph *graph, kiln_tensor x, kiln_dtype dtype) {
    kiln_copy_attrs a = {(uint32_t)dtype};
    return kiln__add_node(graph, &kiln__op_copy, &x, 1, &a, NULL);
}
