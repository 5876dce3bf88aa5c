#include "append_infer.h"

#include "cpu/append.h"
#include "cpu/level.h"

static const char *const in_names[] = {"dst", "rows", "indices"};
static const char *const out_names[] = {"dst"};

static const kiln_attr attrs[] = {
    {.name = "position", .type = KILN_ATTR_I64_SLOT, .offset = offsetof(kiln_set_rows_attrs, position)},
    {.name = "ring", .type = KILN_ATTR_BOOL, .offset = offsetof(kiln_set_rows_attrs, ring)},
};

static kiln_status infer(kiln_infer *infer) {
    return kiln__append_infer(infer, "rows", 2, 2, 4);
}

static kiln_status accesses(const kiln_access_query *query) {
    return kiln__append_accesses(query, query->attrs, 2);
}

static int64_t tiles(const kiln_args *args) {
    const kiln_operand *indices = kiln__optional(args, 2);
    return kiln__append_of(&args->out[0], &args->in[1], indices, args->attrs, false).tiles;
}

static kiln_status check(const kiln_check *c) {
    return kiln__append_check(c, 2, c->args->attrs);
}

static int64_t rows_held(const kiln_args *args) {
    return kiln__append_rows_held(args, 2, args->attrs);
}

KILN_CPU_DECLARE(set_rows)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(set_rows, tiles, NULL, kiln__cost_append)};

const kiln_op kiln__op_set_rows = {
    .name = "set_rows",
    .text = "writes rows into dst, in place, at a position or at indices; optionally modulo its length",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 3,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_set_rows_attrs),
    .infer = infer,
    .accesses = accesses,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
    .check = check,
    .rows_held = rows_held,
};

kiln_tensor kiln_set_rows(kiln_graph *graph, kiln_tensor dst, kiln_tensor rows, kiln_tensor indices,
                          kiln_set_rows_attrs attributes) {
    const kiln_tensor in[] = {dst, rows, indices};
    return kiln__add_node(graph, &kiln__op_set_rows, in, 3, &attributes, NULL);
}
