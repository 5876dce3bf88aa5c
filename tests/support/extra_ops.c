#include "extra_ops.h"

#include <sched.h>
#include <string.h>

test_gate test_gate_shared;

static kiln_status infer(kiln_infer *infer) {
    const kiln_desc *x = infer->in[0];
    if (x->dtype != KILN_F32)
        return kiln_infer_fail(infer, KILN_ERROR_DTYPE, "x is %s; it must be f32",
                               kiln_dtype_get(x->dtype)->name);
    infer->out[0].dtype = KILN_F32;
    infer->out[0].ndim = x->ndim;
    for (uint32_t i = 0; i < x->ndim; i++)
        infer->out[0].dims[i] = x->dims[i];
    return KILN_OK;
}

static int64_t rows(const kiln_args *args) {
    const kiln_operand *y = &args->out[0];
    return y->ne[0] * y->ne[1] * y->ne[2];
}

static kiln_status run(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    atomic_fetch_add(&test_gate_shared.entered, 1);
    while (atomic_load(&test_gate_shared.closed))
        sched_yield();
    if (atomic_load(&test_gate_shared.fail))
        return kiln_tile_fail(tile, "told to fail");
    if (atomic_load(&test_gate_shared.returns) != KILN_OK)
        return (kiln_status)atomic_load(&test_gate_shared.returns);
    size_t bytes = (size_t)x->ne[3] * sizeof(float);
    for (int64_t i = tile->first; i < tile->last; i++)
        memcpy(y->data + i * (int64_t)bytes, x->data + i * (int64_t)bytes, bytes);
    return KILN_OK;
}

static const char *const in_names[] = {"x"}, *const out_names[] = {"y"};
static const kiln_kernel kernels[] = {{.name = "gate", .tiles = rows, .run = run}};

const kiln_op test_gate_op = {.name = "test_gate",
                              .text = "copies when the gate is open",
                              .in_names = in_names,
                              .n_in_min = 1,
                              .n_in_max = 1,
                              .out_names = out_names,
                              .n_out = 1,
                              .infer = infer,
                              .accesses = kiln_access_operands,
                              .kernels = kernels,
                              .n_kernels = 1};

const kiln_op test_opaque_op = {.name = "test_opaque",
                                .text = "copies, and says nothing of what it touches",
                                .in_names = in_names,
                                .n_in_min = 1,
                                .n_in_max = 1,
                                .out_names = out_names,
                                .n_out = 1,
                                .infer = infer,
                                .kernels = kernels,
                                .n_kernels = 1};
