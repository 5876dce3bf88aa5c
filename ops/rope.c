#include "rope_infer.h"

#include <float.h>

#include "cpu/level.h"
#include "cpu/rope_tiles.h"

const char *const kiln__rope_mode_names[2] = {"interleaved", "neox"};

static const char *const in_names[] = {"x", "positions"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "position", .type = KILN_ATTR_I64_SLOT, .offset = offsetof(kiln_rope_attrs, position)},
    {.name = "dims", .type = KILN_ATTR_I64, .offset = offsetof(kiln_rope_attrs, dims), .max = INT32_MAX},
    {.name = "theta",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_rope_attrs, theta),
     .preset = 10000,
     .min = FLT_MIN,
     .max = FLT_MAX},
    {.name = "freq_scale",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_rope_attrs, freq_scale),
     .preset = 1,
     .min = -FLT_MAX,
     .max = FLT_MAX},
    {.name = "mode",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(kiln_rope_attrs, mode),
     .names = kiln__rope_mode_names,
     .n_names = 2},
};

kiln_status kiln__rope_infer(const kiln_infer *infer, uint32_t i, uint32_t p, const kiln_rope_attrs *a) {
    char shape[KILN_SHAPE_TEXT_SIZE];
    KILN__TRY(kiln__need(infer, i, "x", KILN__FLOATS, 2, 3));
    KILN__TRY(kiln__need_constant(infer, i, "x", -1, "the angles depend on it"));
    const kiln_desc *x = infer->in[i];
    int64_t d = x->dims[x->ndim - 1].n;
    if (a->dims > d)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "dims = %lld is larger than the %lld elements of a row of x %s",
                               (long long)a->dims, (long long)d, kiln_infer_shape_text(infer, x, shape));
    if (a->dims % 2 != 0)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "dims = %lld must be even: elements turn in pairs",
                               (long long)a->dims);
    if (a->dims == 0 && d % 2 != 0)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "the rows of x %s have %lld elements, which must be even: elements turn in "
                               "pairs (or set dims)",
                               kiln_infer_shape_text(infer, x, shape), (long long)d);
    KILN__TRY(kiln__need(infer, p, "positions", KILN__DT(I32) | KILN__DT(I64), 1, 1));
    return kiln__need_axis(infer, p, "positions", 0, i, "x", 0);
}

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(kiln__rope_infer(infer, 0, 1, infer->attrs));
    kiln__out_like(infer, 0, infer->in[0], KILN_F32);
    return KILN_OK;
}

static int64_t tiles(const kiln_args *args) {
    return kiln__rope_grid_of(&args->in[0]).tiles;
}

static int64_t scratch(const kiln_args *args) {
    return kiln__rope_scratch(&args->in[0]);
}

/* Both elements of a pair are read before either is written. */
static const kiln_inplace inplace[] = {{0, 0}};

KILN_CPU_DECLARE(rope)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(rope, tiles, scratch, kiln__cost_function)};

const kiln_op kiln__op_rope = {
    .name = "rope",
    .text = "turns pairs of elements by position * freq_scale * theta^(-2i/dims)",
    .in_names = in_names,
    .n_in_min = 1,
    .n_in_max = 2,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_rope_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .inplace = inplace,
    .n_inplace = 1,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
};

kiln_tensor kiln_rope(kiln_graph *graph, kiln_tensor x, kiln_tensor positions, kiln_rope_attrs attributes) {
    const kiln_tensor in[] = {x, positions};
    return kiln__add_node(graph, &kiln__op_rope, in, 2, &attributes, NULL);
}
