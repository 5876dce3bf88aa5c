#include "infer_util.h"

#include "cpu/level.h"
#include "cpu/tiles.h"

static const char *const in_names[] = {"a", "b", "weight"};
static const char *const out_names[] = {"sum", "normed", "quantised"};

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "a", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need(infer, 1, "b", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need_same(infer, 1, "b", 0, "a"));
    KILN__TRY(kiln__need_vector(infer, 2, "weight", 0, "a"));
    const kiln_rms_norm_attrs *a = infer->attrs;
    kiln__out_like(infer, 0, infer->in[0], KILN_F32);
    kiln__out_like(infer, 1, infer->in[0], KILN_F32);
    return kiln__out_quant(infer, 2, 1, a->quant);
}

/* Per row: a and b are read whole while the sum is written (the same element of either may be replaced by
 * it), and only then the norm is written, from the sum. */
static const kiln_inplace inplace[] = {{0, 0}, {1, 1}, {0, 1}, {1, 0}};

KILN_CPU_DECLARE(add_rms_norm)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(add_rms_norm, kiln__tiles_rows, kiln__scratch_rows_3, kiln__cost_function)};

const kiln_op kiln__op_add_rms_norm = {
    .name = "add_rms_norm",
    .text = "a + b, and the rms_norm of that",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 3,
    .out_names = out_names,
    .n_out = 3,
    .attrs = kiln__rms_norm_attr_rows,
    .n_attrs = 2,
    .attrs_size = sizeof(kiln_rms_norm_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = inplace,
    .n_inplace = sizeof inplace / sizeof inplace[0],
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_add_rms_norm(kiln_graph *graph, kiln_tensor a, kiln_tensor b, kiln_tensor weight, float eps,
                              kiln_tensor *normed) {
    const kiln_tensor in[] = {a, b, weight};
    kiln_tensor out[3] = {{0, 0}};
    kiln_rms_norm_attrs attributes = {kiln_f32_given(eps), KILN_QUANT_NONE};
    kiln__add_node(graph, &kiln__op_add_rms_norm, in, 3, &attributes, out);
    if (normed != NULL)
        *normed = out[1];
    return out[0];
}
