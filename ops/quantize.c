#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"x"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "quant",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_quantize_attrs, quant),
     .preset = KILN_QUANT_Q8_A,
     .names = kiln__quant_names,
     .n_names = 4,
     .required = true},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_quantize_attrs *a = infer->attrs;
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 1, 4));
    if (a->quant == KILN_QUANT_NONE)
        return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT, "quant is none; it must be q8_a, bf16 or f16");
    const kiln_desc *x = infer->in[0];
    kiln_dtype dtype = kiln__quant_dtype(a->quant);
    int64_t block = kiln_dtype_get(dtype)->block;
    char shape[KILN_SHAPE_TEXT_SIZE];
    if (x->dims[x->ndim - 1].n % block != 0)
        return kiln_infer_fail(
            infer, KILN_ERROR_SHAPE, "rows of x %s do not divide into the %lld values of a %s block",
            kiln_infer_shape_text(infer, x, shape), (long long)block, kiln_dtype_get(dtype)->name);
    kiln__out_like(infer, 0, x, dtype);
    return KILN_OK;
}

KILN_CPU_DECLARE(quantize)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(quantize, kiln__tiles_out_rows, NULL, kiln__cost_function)};

const kiln_op kiln__op_quantize = {
    .name = "quantize",
    .text = "rows of x in the form that integer and bf16 dot products take",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_quantize_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_quantize(kiln_graph *graph, kiln_tensor x, kiln_quant quant) {
    kiln_quantize_attrs a = {(uint32_t)quant};
    return kiln__add_node(graph, &kiln__op_quantize, &x, 1, &a, NULL);
}
