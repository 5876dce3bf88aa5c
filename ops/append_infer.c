#include "append_infer.h"

#include "cpu/tiles.h"
#include "graph.h"

kiln_status kiln__append_infer(kiln_infer *infer, const char *rows, uint32_t indices, uint32_t ndim_min,
                               uint32_t ndim_max) {
    KILN__TRY(kiln__need(infer, 0, "dst", KILN__FLOATS, ndim_min, ndim_max));
    KILN__TRY(kiln__need(infer, 1, rows, KILN__FLOATS, ndim_min, ndim_max));
    const kiln_desc *dst = infer->in[0], *from = infer->in[1];
    char a[KILN_SHAPE_TEXT_SIZE], b[KILN_SHAPE_TEXT_SIZE];
    if (dst->ndim != from->ndim)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "%s %s must have the %u dimensions of dst %s", rows,
                               kiln_infer_shape_text(infer, from, a), dst->ndim,
                               kiln_infer_shape_text(infer, dst, b));
    for (int i = 1; i < (int)dst->ndim; i++)
        KILN__TRY(kiln__need_axis(infer, 1, rows, i, 0, "dst", i));
    KILN__TRY(kiln__need(infer, indices, "indices", KILN__INDICES | KILN__DT(I64), 1, 1));
    KILN__TRY(kiln__need_axis(infer, indices, "indices", 0, 1, rows, 0));
    infer->alias[0] = 0;
    return KILN_OK;
}

kiln_status kiln__append_accesses(const kiln_access_query *query, const kiln_set_rows_attrs *attrs,
                                  uint32_t indices) {
    const kiln_graph *g = query->list->graph;
    const kiln_desc *dst = query->in[0], *rows = query->in[1];
    KILN__TRY(kiln_access_operand(query, 1, KILN_READ));
    for (uint32_t i = 2; i < query->n_in; i++)
        if (query->in[i] != NULL)
            KILN__TRY(kiln_access_operand(query, i, KILN_READ));
    bool given = indices < query->n_in && query->in[indices] != NULL;
    if (given || attrs->ring || attrs->position.slot != 0)
        return kiln_access_operand(query, query->n_in, KILN_WRITE);
    int64_t first = attrs->position.value, capacity = kiln__dim_max(g, dst->dims[0]), last;
    if (__builtin_add_overflow(first, kiln__dim_max(g, rows->dims[0]), &last) || last > capacity)
        last = capacity;
    if (first < 0)
        first = 0;
    /* Every row would be out of range: nothing is written. */
    if (first >= last)
        return kiln_access_box(query, query->n_in, KILN_WRITE, &(kiln_box){0});
    uint32_t inner = dst->ndim - 1;
    kiln_box box = {
        .offset = first * dst->strides[0], .count = {last - first, 1, 1}, .stride = {dst->strides[0]}};
    for (uint32_t k = 1; k < inner; k++) {
        box.count[k] = kiln__dim_max(g, dst->dims[k]);
        box.stride[k] = dst->strides[k];
    }
    box.length = kiln__dim_max(g, dst->dims[inner]) * kiln_dtype_get(dst->dtype)->bytes;
    return kiln_access_box(query, query->n_in, KILN_WRITE, &box);
}

kiln_status kiln__append_check(const kiln_check *check, uint32_t indices, const kiln_set_rows_attrs *attrs) {
    const kiln_args *args = check->args;
    uint32_t axis = KILN_MAX_DIMS - (uint32_t)args->in[0].ndim;
    int64_t count = args->in[1].ne[axis], capacity = args->in[0].ne[axis], position = attrs->position.value;
    bool follows = attrs->position.slot != 0 || kiln_check_count_follows(check, 0, axis) ||
                   kiln_check_count_follows(check, 1, axis);
    if (!follows || attrs->ring || kiln__optional(args, indices) != NULL || kiln__count(&args->in[1]) == 0 ||
        (position >= 0 && count <= capacity && position <= capacity - count))
        return KILN_OK;
    return kiln_check_fail(check, "%lld row%s from position %lld on do%s not fit the %lld rows of dst",
                           (long long)count, count == 1 ? "" : "s", (long long)position,
                           count == 1 ? "es" : "", (long long)capacity);
}

int64_t kiln__append_rows_held(const kiln_args *args, uint32_t indices, const kiln_set_rows_attrs *attrs) {
    int64_t count = args->in[1].ne[KILN_MAX_DIMS - args->in[0].ndim], end;
    if (attrs->ring || kiln__optional(args, indices) != NULL || attrs->position.value < 0 ||
        __builtin_add_overflow(attrs->position.value, count, &end))
        return -1;
    return end;
}
