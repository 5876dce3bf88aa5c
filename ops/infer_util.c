#include "infer_util.h"

#include "kiln_graph.h"

#include <stdio.h>

const char *const kiln__act_names[4] = {"silu", "gelu_tanh", "gelu_erf", "relu"};
const char *const kiln__quant_names[4] = {"none", "q8_a", "bf16", "f16"};

/* "f32, f16 or bf16" */
static const char *dtype_list(uint32_t dtypes, char buffer[KILN_SHAPE_TEXT_SIZE]) {
    size_t at = 0;
    buffer[0] = '\0';
    for (uint32_t d = 1; d < KILN_DTYPE_COUNT && at < KILN_SHAPE_TEXT_SIZE - 16; d++) {
        if (!(dtypes & (1u << d)))
            continue;
        bool last = (dtypes >> d) == 1u;
        const char *joint = at == 0 ? "" : last ? " or " : ", ";
        int n = snprintf(buffer + at, KILN_SHAPE_TEXT_SIZE - at, "%s%s", joint,
                         kiln_dtype_get((kiln_dtype)d)->name);
        at += n > 0 ? (size_t)n : 0;
    }
    return buffer;
}

kiln_status kiln__need_dense_rows(const kiln_infer *infer, uint32_t i, const char *name) {
    const kiln_desc *d = kiln__in(infer, i);
    if (d == NULL)
        return KILN_OK;
    const kiln_dtype_info *info = kiln_dtype_get(d->dtype);
    uint32_t last = d->ndim - 1;
    if (d->strides[last] == (int64_t)info->bytes || kiln_infer_dim_max(infer, d->dims[last]) <= info->block)
        return KILN_OK;
    char shape[KILN_SHAPE_TEXT_SIZE];
    return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                           "the elements of a row of %s %s are %lld bytes apart; they must be adjacent, %u "
                           "bytes (kiln_copy makes a dense tensor)",
                           name, kiln_infer_shape_text(infer, d, shape), (long long)d->strides[last],
                           info->bytes);
}

kiln_status kiln__need(const kiln_infer *infer, uint32_t i, const char *name, uint32_t dtypes,
                       uint32_t ndim_min, uint32_t ndim_max) {
    const kiln_desc *d = kiln__in(infer, i);
    char shape[KILN_SHAPE_TEXT_SIZE], list[KILN_SHAPE_TEXT_SIZE];
    if (d == NULL)
        return KILN_OK;
    if (!(dtypes & (1u << d->dtype)))
        return kiln_infer_fail(infer, KILN_ERROR_DTYPE, "%s %s is %s; it must be %s", name,
                               kiln_infer_shape_text(infer, d, shape), kiln_dtype_get(d->dtype)->name,
                               dtype_list(dtypes, list));
    if (d->ndim < ndim_min || d->ndim > ndim_max) {
        if (ndim_min == ndim_max)
            return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "%s %s has %u dimensions; it must have %u", name,
                                   kiln_infer_shape_text(infer, d, shape), d->ndim, ndim_min);
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "%s %s has %u dimensions; it must have %u to %u",
                               name, kiln_infer_shape_text(infer, d, shape), d->ndim, ndim_min, ndim_max);
    }
    return kiln__need_dense_rows(infer, i, name);
}

kiln_status kiln__need_axis(const kiln_infer *infer, uint32_t i, const char *name, int axis, uint32_t j,
                            const char *j_name, int j_axis) {
    const kiln_desc *a = kiln__in(infer, i), *b = kiln__in(infer, j);
    if (a == NULL || b == NULL)
        return KILN_OK;
    int ai = axis < 0 ? axis + (int)a->ndim : axis, bi = j_axis < 0 ? j_axis + (int)b->ndim : j_axis;
    if (kiln_dim_equal(a->dims[ai], b->dims[bi]))
        return KILN_OK;
    char a_shape[KILN_SHAPE_TEXT_SIZE], b_shape[KILN_SHAPE_TEXT_SIZE], got[KILN_SHAPE_TEXT_SIZE],
        want[KILN_SHAPE_TEXT_SIZE];
    return kiln_infer_fail(
        infer, KILN_ERROR_SHAPE, "axis %d of %s %s is %s; it must be %s, axis %d of %s %s", ai, name,
        kiln_infer_shape_text(infer, a, a_shape), kiln_infer_dim_text(infer, a->dims[ai], got),
        kiln_infer_dim_text(infer, b->dims[bi], want), bi, j_name, kiln_infer_shape_text(infer, b, b_shape));
}

kiln_status kiln__need_same(const kiln_infer *infer, uint32_t i, const char *name, uint32_t j,
                            const char *j_name) {
    const kiln_desc *a = kiln__in(infer, i), *b = kiln__in(infer, j);
    if (a == NULL || b == NULL)
        return KILN_OK;
    bool same = a->ndim == b->ndim;
    for (uint32_t k = 0; same && k < a->ndim; k++)
        same = kiln_dim_equal(a->dims[k], b->dims[k]);
    if (same)
        return KILN_OK;
    char a_shape[KILN_SHAPE_TEXT_SIZE], b_shape[KILN_SHAPE_TEXT_SIZE];
    return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "%s %s must have the dimensions of %s %s", name,
                           kiln_infer_shape_text(infer, a, a_shape), j_name,
                           kiln_infer_shape_text(infer, b, b_shape));
}

kiln_status kiln__need_broadcast(const kiln_infer *infer, uint32_t i, const char *name, const kiln_desc *to,
                                 const char *to_name) {
    const kiln_desc *d = kiln__in(infer, i);
    if (d == NULL)
        return KILN_OK;
    bool ok = d->ndim <= to->ndim;
    for (uint32_t k = 0; ok && k < d->ndim; k++) {
        kiln_dim dim = d->dims[k];
        ok = (dim.n == 1 && dim.slot == 0) || kiln_dim_equal(dim, to->dims[to->ndim - d->ndim + k]);
    }
    if (ok)
        return KILN_OK;
    char shape[KILN_SHAPE_TEXT_SIZE], to_shape[KILN_SHAPE_TEXT_SIZE];
    return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                           "%s %s cannot be repeated to %s %s: counted from the innermost, axes must be "
                           "equal or 1",
                           name, kiln_infer_shape_text(infer, d, shape), to_name,
                           kiln_infer_shape_text(infer, to, to_shape));
}

kiln_status kiln__need_constant(const kiln_infer *infer, uint32_t i, const char *name, int axis,
                                const char *why) {
    const kiln_desc *d = kiln__in(infer, i);
    if (d == NULL)
        return KILN_OK;
    int a = axis < 0 ? axis + (int)d->ndim : axis;
    if (d->dims[a].slot == 0 && d->dims[a].n > 0)
        return KILN_OK;
    char shape[KILN_SHAPE_TEXT_SIZE], got[KILN_SHAPE_TEXT_SIZE];
    return kiln_infer_fail(
        infer, KILN_ERROR_SHAPE, "axis %d of %s %s is %s; it must be a constant of at least 1: %s", a, name,
        kiln_infer_shape_text(infer, d, shape), kiln_infer_dim_text(infer, d->dims[a], got), why);
}

kiln_status kiln__need_vector(const kiln_infer *infer, uint32_t i, const char *name, uint32_t of,
                              const char *of_name) {
    KILN__TRY(kiln__need(infer, i, name, KILN__FLOATS, 1, 1));
    return kiln__need_axis(infer, i, name, 0, of, of_name, -1);
}

kiln_status kiln__need_axis_in(const kiln_infer *infer, uint32_t i, const char *name, int64_t axis,
                               uint32_t *at) {
    const kiln_desc *d = infer->in[i];
    int64_t ndim = d->ndim, front = axis < 0 ? axis + ndim : axis;
    char shape[KILN_SHAPE_TEXT_SIZE];
    if (front < 0 || front >= ndim)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "axis = %lld; %s %s has axes %d to %d",
                               (long long)axis, name, kiln_infer_shape_text(infer, d, shape), -(int)ndim,
                               (int)ndim - 1);
    *at = (uint32_t)front;
    return KILN_OK;
}

kiln_status kiln__need_short_rows(const kiln_infer *infer, uint32_t i, const char *name) {
    const kiln_desc *d = infer->in[i];
    int64_t n = kiln_infer_dim_max(infer, d->dims[d->ndim - 1]);
    char shape[KILN_SHAPE_TEXT_SIZE];
    if (n <= INT32_MAX)
        return KILN_OK;
    return kiln_infer_fail(infer, KILN_ERROR_LIMIT, "the rows of %s %s have %lld elements; indices are i32",
                           name, kiln_infer_shape_text(infer, d, shape), (long long)n);
}

kiln_status kiln__infer_unary(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "x", KILN__FLOATS, 1, 4));
    kiln__out_like(infer, 0, infer->in[0], KILN_F32);
    return KILN_OK;
}

kiln_status kiln__infer_binary(kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "a", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need(infer, 1, "b", KILN__FLOATS, 1, 4));
    KILN__TRY(kiln__need_broadcast(infer, 1, "b", infer->in[0], "a"));
    kiln__out_like(infer, 0, infer->in[0], KILN_F32);
    return KILN_OK;
}

/* Each element is read, as part of a vector, before the same element is written. */
const kiln_inplace kiln__inplace_unary[1] = {{0, 0}};
/* As above. b may be replaced only where it has y's size and strides, so not where it is repeated. */
const kiln_inplace kiln__inplace_binary[2] = {{0, 0}, {0, 1}};
/* A row is read whole before its first element is written; rows are written in the order they are read. */
const kiln_inplace kiln__inplace_norm[1] = {{0, 0}};

kiln_dtype kiln__quant_dtype(uint32_t quant) {
    static const kiln_dtype dtypes[] = {[KILN_QUANT_NONE] = KILN_DTYPE_NONE,
                                        [KILN_QUANT_Q8_A] = KILN_Q8_A,
                                        [KILN_QUANT_BF16] = KILN_BF16,
                                        [KILN_QUANT_F16] = KILN_F16};
    return dtypes[quant];
}

kiln_status kiln__out_quant(kiln_infer *infer, uint32_t j, uint32_t of, uint32_t quant) {
    if (quant == KILN_QUANT_NONE) {
        infer->n_out = j;
        return KILN_OK;
    }
    const kiln_desc *like = &infer->out[of];
    kiln_dtype dtype = kiln__quant_dtype(quant);
    int64_t block = kiln_dtype_get(dtype)->block;
    kiln_dim last = like->dims[like->ndim - 1];
    if (last.n % block != 0) {
        char shape[KILN_SHAPE_TEXT_SIZE], got[KILN_SHAPE_TEXT_SIZE];
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "quant = %s needs rows of a multiple of %lld; those of the output %s have %s",
                               kiln__quant_names[quant], (long long)block,
                               kiln_infer_shape_text(infer, like, shape),
                               kiln_infer_dim_text(infer, last, got));
    }
    kiln__out_like(infer, j, like, dtype);
    return KILN_OK;
}

kiln_tensor kiln__add_node(kiln_graph *graph, const kiln_op *op, const kiln_tensor *inputs, uint32_t n,
                           const void *attrs, kiln_tensor *outputs) {
    kiln_tensor own[8] = {{0, 0}};
    kiln_tensor *out = outputs != NULL ? outputs : own;
    (void)kiln_node_add(graph, op, inputs, n, attrs, out); /* the graph remembers the error */
    return out[0];
}
