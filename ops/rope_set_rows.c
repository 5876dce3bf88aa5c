#include "append_infer.h"
#include "rope_infer.h"

#include <float.h>

#include "cpu/append.h"
#include "cpu/level.h"
#include "cpu/rope_tiles.h"

static const char *const in_names[] = {"dst", "x", "positions", "indices"};
static const char *const out_names[] = {"dst"};

static const kiln_attr attrs[] = {
    {.name = "rope_position",
     .type = KILN_ATTR_I64_SLOT,
     .offset = offsetof(kiln_rope_set_rows_attrs, rope.position)},
    {.name = "dims",
     .type = KILN_ATTR_I64,
     .offset = offsetof(kiln_rope_set_rows_attrs, rope.dims),
     .max = INT32_MAX},
    {.name = "theta",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_rope_set_rows_attrs, rope.theta),
     .preset = 10000,
     .min = FLT_MIN,
     .max = FLT_MAX},
    {.name = "freq_scale",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_rope_set_rows_attrs, rope.freq_scale),
     .preset = 1,
     .min = -FLT_MAX,
     .max = FLT_MAX},
    {.name = "mode",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_rope_set_rows_attrs, rope.mode),
     .names = kiln__rope_mode_names,
     .n_names = 2},
    {.name = "position",
     .type = KILN_ATTR_I64_SLOT,
     .offset = offsetof(kiln_rope_set_rows_attrs, rows.position)},
    {.name = "ring", .type = KILN_ATTR_BOOL, .offset = offsetof(kiln_rope_set_rows_attrs, rows.ring)},
};

static kiln_status infer(kiln_infer *infer) {
    const kiln_rope_set_rows_attrs *a = infer->attrs;
    KILN__TRY(kiln__rope_infer(infer, 1, 2, &a->rope));
    return kiln__append_infer(infer, "x", 3, 2, 3);
}

static kiln_status accesses(const kiln_access_query *query) {
    const kiln_rope_set_rows_attrs *a = query->attrs;
    return kiln__append_accesses(query, &a->rows, 3);
}

static int64_t tiles(const kiln_args *args) {
    const kiln_rope_set_rows_attrs *a = args->attrs;
    const kiln_operand *indices = kiln__optional(args, 3);
    return kiln__append_of(&args->out[0], &args->in[1], indices, &a->rows, true).tiles;
}

static int64_t scratch(const kiln_args *args) {
    return kiln__rope_scratch(&args->in[1]);
}

static kiln_status check(const kiln_check *c) {
    const kiln_rope_set_rows_attrs *a = c->args->attrs;
    return kiln__append_check(c, 3, &a->rows);
}

static int64_t rows_held(const kiln_args *args) {
    const kiln_rope_set_rows_attrs *a = args->attrs;
    return kiln__append_rows_held(args, 3, &a->rows);
}

KILN_CPU_DECLARE(rope_set_rows)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(rope_set_rows, tiles, scratch, kiln__cost_append)};

const kiln_op kiln__op_rope_set_rows = {
    .name = "rope_set_rows",
    .text = "rope, and the result written into dst as set_rows does, in place",
    .in_names = in_names,
    .n_in_min = 2,
    .n_in_max = 4,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_rope_set_rows_attrs),
    .infer = infer,
    .accesses = accesses,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
    .check = check,
    .rows_held = rows_held,
};

kiln_tensor kiln_rope_set_rows(kiln_graph *graph, kiln_tensor dst, kiln_tensor x, kiln_tensor positions,
                               kiln_tensor indices, kiln_rope_set_rows_attrs attributes) {
    const kiln_tensor in[] = {dst, x, positions, indices};
    return kiln__add_node(graph, &kiln__op_rope_set_rows, in, 4, &attributes, NULL);
}
