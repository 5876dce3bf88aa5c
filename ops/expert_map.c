#include "matmul_infer.h"

#include "cpu/level.h"
#include "cpu/matmul_tiles.h"

static const char *const in_names[] = {"ids"};
static const char *const out_names[] = {"offsets", "entries"};

static const kiln_attr attrs[] = {
    {.name = "n_experts",
     .type = KILN_ATTR_I64,
     .offset = offsetof(kiln_expert_map_attrs, n_experts),
     .preset = 1,
     .min = 1,
     .max = INT32_MAX - 2,
     .required = true},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_expert_map_attrs *a = infer->attrs;
    kiln_dim pairs = {0, 0};
    KILN__TRY(kiln__need_ids(infer, 0, &pairs));
    infer->out[0] = (kiln_desc){.dtype = KILN_I32, .ndim = 1, .dims = {kiln_n(a->n_experts + 2)}};
    infer->out[1] = (kiln_desc){.dtype = KILN_I32, .ndim = 1, .dims = {pairs}};
    return KILN_OK;
}

KILN_CPU_DECLARE(expert_map)
static const kiln_kernel kernels[] = {
    KILN_CPU_KERNELS(expert_map, kiln__expert_map_tiles, NULL, kiln__cost_function)};

const kiln_op kiln__op_expert_map = {
    .name = "expert_map",
    .text = "(token, slot) pairs grouped by expert: offsets of the groups, and the pairs; made only where "
            "there are so many tokens that matmul_id uses it",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 1,
    .out_names = out_names,
    .n_out = 2,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_expert_map_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_expert_map(kiln_graph *graph, kiln_tensor ids, int64_t n_experts, kiln_tensor *entries) {
    kiln_expert_map_attrs a = {n_experts};
    kiln_tensor out[2];
    (void)kiln__add_node(graph, &kiln__op_expert_map, &ids, 1, &a, out);
    if (entries != NULL)
        *entries = out[1];
    return out[0];
}
