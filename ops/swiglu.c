#include "infer_util.h"

#include <float.h>

#include "cpu/level.h"
#include "cpu/swiglu_tiles.h"

static const char *const in_names[] = {"gate", "up"};
static const char *const out_names[] = {"y", "quantised"};

static const kiln_attr attrs[] = {
    {.name = "act",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_swiglu_attrs, act),
     .names = kiln__act_names,
     .n_names = 4},
    {.name = "limit", .type = KILN_ATTR_F32, .offset = offsetof(kiln_swiglu_attrs, limit), .max = FLT_MAX},
    {.name = "quant",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_swiglu_attrs, quant),
     .names = kiln__quant_names,
     .n_names = 4},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_swiglu_attrs *a = infer->attrs;
    KILN__TRY(kiln__need(infer, 0, "gate", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need(infer, 1, "up", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need_same(infer, 1, "up", 0, "gate"));
    const kiln_desc *gate = infer->in[0];
    kiln__out_like(infer, 0, gate, KILN_F32);
    if (kiln__in(infer, 1) == NULL) {
        kiln_dim *columns = &infer->out[0].dims[gate->ndim - 1];
        char shape[KILN_SHAPE_TEXT_SIZE];
        if (columns->n % 2 != 0)
            return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                                   "gate %s has %lld columns; without `up` they hold gate, then up, and "
                                   "must be even",
                                   kiln_infer_shape_text(infer, gate, shape), (long long)columns->n);
        columns->n /= 2;
    }
    return kiln__out_quant(infer, 1, 0, a->quant);
}

/* Elements of gate and up are read before the same element of y is written; y is quantised after that. The
 * packed form has other row strides than y, so it is never replaced. */
static const kiln_inplace inplace[] = {{0, 0}, {0, 1}};

KILN_CPU_DECLARE(swiglu)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(swiglu, kiln__swiglu_tiles, NULL, kiln__cost_function)};

const kiln_op kiln__op_swiglu = {
    .name = "swiglu",
    .text = "act(gate) * up, packed in one operand or in two",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 2,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_swiglu_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = inplace,
    .n_inplace = 2,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

static kiln_tensor build(kiln_graph *graph, kiln_tensor gate, kiln_tensor up, uint32_t n, kiln_act act) {
    const kiln_tensor in[] = {gate, up};
    kiln_tensor out[2];
    kiln_swiglu_attrs a = {(uint32_t)act, 0.0f, KILN_QUANT_NONE};
    return kiln__add_node(graph, &kiln__op_swiglu, in, n, &a, out);
}

kiln_tensor kiln_swiglu(kiln_graph *graph, kiln_tensor gate, kiln_tensor up, kiln_act act) {
    return build(graph, gate, up, 2, act);
}

kiln_tensor kiln_swiglu_packed(kiln_graph *graph, kiln_tensor gate_up, kiln_act act) {
    return build(graph, gate_up, gate_up, 1, act);
}
