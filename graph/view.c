/* Views: other shapes over the same bytes. A view is a tensor like any other; it remembers no parent, since
 * hazards are found from bytes. */
#include "graph.h"

/* Resolves a handle, or remembers an error. NULL also while the graph has failed. The pointer is good until
 * the next tensor is made. */
static const kiln__tensor *resolve(kiln_graph *g, kiln_tensor tensor, const char *call) {
    if (g->error.status != KILN_OK)
        return NULL;
    if (tensor.graph != g->tag || tensor.id == 0 || tensor.id >= g->tensors.count) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "%s: unknown tensor (id %u)", call, tensor.id);
        return NULL;
    }
    return &g->tensors.items[tensor.id];
}

static kiln_tensor finish(kiln_graph *g, const kiln__tensor *base, int64_t offset, const kiln_desc *desc) {
    uint32_t id = kiln__tensor_new(g, base->storage, offset, desc);
    return (kiln_tensor){id, id ? g->tag : 0};
}

/* Axis with negative ones counted from the end; -1 after remembering an error. */
static int32_t axis_of(kiln_graph *g, const kiln_desc *desc, int32_t axis, const char *call) {
    int32_t n = (int32_t)desc->ndim, a = axis < 0 ? axis + n : axis;
    if (a < 0 || a >= n) {
        (void)kiln__graph_fail(g, KILN_ERROR_SHAPE, "%s: axis %d of a tensor with %d dimensions", call, axis,
                               n);
        return -1;
    }
    return a;
}

kiln_tensor kiln_slice(kiln_graph *g, kiln_tensor tensor, int32_t axis, int64_t start, kiln_dim length) {
    kiln_tensor none = {0, 0};
    const kiln__tensor *t = resolve(g, tensor, "kiln_slice");
    int32_t a;
    if (t == NULL || (a = axis_of(g, kiln__desc_of(g, t), axis, "kiln_slice")) < 0)
        return none;
    kiln_desc desc = *kiln__desc_of(g, t);
    kiln_dim dim = desc.dims[a];
    if (!kiln__slot_resolve(g, &length.slot) || (length.slot != 0 && g->slots.items[length.slot].is_float)) {
        (void)kiln__graph_fail(
            g, KILN_ERROR_ARGUMENT,
            "kiln_slice: the length follows a slot that is not of this graph, was not found, or "
            "holds a float");
        return none;
    }
    /* What is surely there: a symbol's minimum, but for a slice that follows the same symbol. */
    int64_t have = dim.slot == 0                                  ? dim.n
                   : length.slot == dim.slot && length.n <= dim.n ? dim.n * g->slots.items[dim.slot].max
                                                                  : dim.n * g->slots.items[dim.slot].min;
    int64_t want, end;
    if (!kiln__mul(length.n, length.slot ? g->slots.items[length.slot].max : 1, &want) || start < 0 ||
        want < 0 || !kiln__add(start, want, &end) || end > have ||
        (dim.slot != 0 && length.slot == dim.slot && start != 0)) {
        char shape[KILN__SHAPE_SIZE], count[KILN__SHAPE_SIZE];
        (void)kiln__graph_fail(
            g, KILN_ERROR_SHAPE,
            "kiln_slice: %s elements from %lld on of axis %d of %s; %lld are there for certain",
            kiln__dim_text(g, length, count), (long long)start, a, kiln__shape_text(g, &desc, shape),
            (long long)have);
        return none;
    }
    int64_t block = a == (int32_t)desc.ndim - 1 ? kiln_dtype_get(desc.dtype)->block : 1;
    if (start % block != 0) {
        (void)kiln__graph_fail(g, KILN_ERROR_SHAPE,
                               "kiln_slice: start %lld is no multiple of the %lld values in "
                               "a %s block",
                               (long long)start, (long long)block, kiln_dtype_get(desc.dtype)->name);
        return none;
    }
    desc.dims[a] = length;
    int64_t offset = want == 0 ? t->offset : t->offset + start / block * desc.strides[a];
    return finish(g, t, offset, &desc);
}

/* ---- reshape ---------------------------------------------------------------------------------------- */

/* Product of two dimensions; false when it has two symbols or overflows. */
static bool dim_mul(kiln_dim a, kiln_dim b, kiln_dim *out) {
    if (a.slot != 0 && b.slot != 0)
        return false;
    out->slot = a.slot ? a.slot : b.slot;
    return kiln__mul(a.n, b.n, &out->n);
}

static bool is_one(kiln_dim d) {
    return d.n == 1 && d.slot == 0;
}

/* In a merged group only the outermost dimension may be a symbol: inner counts fix the strides. */
static bool symbol_outermost(const kiln_dim *dims, uint32_t first, uint32_t last) {
    while (first < last && is_one(dims[first]))
        first++;
    for (uint32_t i = first + 1; i < last; i++)
        if (dims[i].slot != 0)
            return false;
    return true;
}

/* Old axes [i0,i1) hold the same elements as new axes [j0,j1): checks that the old ones are adjacent in
 * memory and gives the new strides. */
static bool reshape_group(const kiln_desc *old, uint32_t i0, uint32_t i1, kiln_desc *new, uint32_t j0,
                          uint32_t j1) {
    int64_t block = kiln_dtype_get(old->dtype)->block, old_block = i1 == old->ndim ? block : 1;
    if (!symbol_outermost(old->dims, i0, i1) || !symbol_outermost(new->dims, j0, j1))
        return false;
    int64_t unit = 0, expect = 0; /* stride of one step; stride the next axis outwards must have */
    for (uint32_t i = i1; i-- > i0;) {
        if (is_one(old->dims[i]) && i != old->ndim - 1)
            continue;
        int64_t steps = i == old->ndim - 1 ? old->dims[i].n / block : old->dims[i].n;
        if (unit == 0)
            unit = expect = old->strides[i];
        if (old->strides[i] != expect)
            return false;
        expect = old->strides[i] * steps;
    }
    for (uint32_t j = j1; j-- > j0;) {
        bool inner = j == new->ndim - 1;
        if (inner && (old_block != block || new->dims[j].n % block != 0))
            return false;
        new->strides[j] = unit;
        unit *= inner ? new->dims[j].n / block : new->dims[j].n;
    }
    return true;
}

static bool reshape_strides(const kiln_graph *g, const kiln_desc *old, kiln_desc *new) {
    uint32_t i = 0, j = 0;
    while (i < old->ndim && j < new->ndim) {
        uint32_t i0 = i, j0 = j;
        kiln_dim a = old->dims[i++], b = new->dims[j++];
        while (!kiln_dim_equal(a, b)) {
            bool more_old = kiln__dim_max(g, a) <= kiln__dim_max(g, b);
            if (more_old ? i == old->ndim || !dim_mul(a, old->dims[i++], &a)
                         : j == new->ndim || !dim_mul(b, new->dims[j++], &b))
                return false;
        }
        /* Trailing ones belong to the last group: an innermost axis needs its partner. */
        bool last = true;
        for (uint32_t r = i; r < old->ndim; r++)
            last = last && is_one(old->dims[r]);
        for (uint32_t r = j; r < new->ndim; r++)
            last = last && is_one(new->dims[r]);
        if (last)
            i = old->ndim, j = new->ndim;
        if (!reshape_group(old, i0, i, new, j0, j))
            return false;
    }
    return i == old->ndim && j == new->ndim;
}

static bool is_empty(const kiln_desc *desc) {
    for (uint32_t i = 0; i < desc->ndim; i++)
        if (desc->dims[i].n == 0)
            return true;
    return false;
}

kiln_tensor kiln_reshape(kiln_graph *g, kiln_tensor tensor, uint32_t ndim, const kiln_dim *dims) {
    kiln_tensor none = {0, 0};
    const kiln__tensor *t = resolve(g, tensor, "kiln_reshape");
    if (t == NULL)
        return none;
    const kiln_desc *old = kiln__desc_of(g, t);
    kiln_desc desc = {.dtype = old->dtype};
    int64_t bytes;
    kiln_error why;
    if (!kiln__dims_copy(g, &desc, ndim, dims, "kiln_reshape"))
        return none;
    if (kiln__desc_dense(g, &desc, &bytes, &why) != KILN_OK) {
        (void)kiln__graph_fail(g, why.status, "kiln_reshape: %s", why.text);
        return none;
    }
    bool both_empty = is_empty(old) && is_empty(&desc);
    if (!both_empty && !reshape_strides(g, old, &desc)) {
        char from[KILN__SHAPE_SIZE], to[KILN__SHAPE_SIZE];
        (void)kiln__graph_fail(
            g, KILN_ERROR_SHAPE,
            "kiln_reshape: %s to %s: the counts differ, or axes to be merged are not adjacent "
            "in memory (kiln_copy makes a dense tensor)",
            kiln__shape_text(g, old, from), kiln__shape_text(g, &desc, to));
        return none;
    }
    return finish(g, t, t->offset, &desc);
}

/* ---- permute and broadcast -------------------------------------------------------------------------- */

kiln_tensor kiln_permute(kiln_graph *g, kiln_tensor tensor, const uint32_t *perm) {
    kiln_tensor none = {0, 0};
    const kiln__tensor *t = resolve(g, tensor, "kiln_permute");
    if (t == NULL)
        return none;
    const kiln_desc *old = kiln__desc_of(g, t);
    kiln_desc desc = *old;
    uint32_t seen = 0;
    if (perm == NULL) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "kiln_permute: perm is NULL");
        return none;
    }
    for (uint32_t i = 0; i < desc.ndim; i++) {
        if (perm[i] >= desc.ndim || (seen & (1u << perm[i]))) {
            (void)kiln__graph_fail(g, KILN_ERROR_SHAPE,
                                   "kiln_permute: entry %u is %u; the entries must be 0 to "
                                   "%u, each once",
                                   i, perm[i], desc.ndim - 1);
            return none;
        }
        seen |= 1u << perm[i];
        desc.dims[i] = old->dims[perm[i]];
        desc.strides[i] = old->strides[perm[i]];
    }
    const kiln_dtype_info *info = kiln_dtype_get(desc.dtype);
    if (info->block > 1 && perm[desc.ndim - 1] != desc.ndim - 1) {
        (void)kiln__graph_fail(g, KILN_ERROR_SHAPE,
                               "kiln_permute: the innermost axis of %s cannot move, its "
                               "blocks lie along it",
                               info->name);
        return none;
    }
    return finish(g, t, t->offset, &desc);
}

kiln_tensor kiln_transpose(kiln_graph *g, kiln_tensor tensor, int32_t axis_a, int32_t axis_b) {
    kiln_tensor none = {0, 0};
    const kiln__tensor *t = resolve(g, tensor, "kiln_transpose");
    int32_t a, b;
    if (t == NULL || (a = axis_of(g, kiln__desc_of(g, t), axis_a, "kiln_transpose")) < 0 ||
        (b = axis_of(g, kiln__desc_of(g, t), axis_b, "kiln_transpose")) < 0)
        return none;
    uint32_t perm[KILN_MAX_DIMS] = {0, 1, 2, 3};
    perm[a] = (uint32_t)b;
    perm[b] = (uint32_t)a;
    return kiln_permute(g, tensor, perm);
}

kiln_tensor kiln_broadcast(kiln_graph *g, kiln_tensor tensor, uint32_t ndim, const kiln_dim *dims) {
    kiln_tensor none = {0, 0};
    const kiln__tensor *t = resolve(g, tensor, "kiln_broadcast");
    if (t == NULL)
        return none;
    const kiln_desc *old = kiln__desc_of(g, t);
    kiln_desc desc = {.dtype = old->dtype};
    if (!kiln__dims_copy(g, &desc, ndim, dims, "kiln_broadcast"))
        return none;
    bool ok = ndim >= old->ndim;
    for (uint32_t i = 0; ok && i < old->ndim; i++) {
        uint32_t to = ndim - old->ndim + i;
        if (kiln_dim_equal(desc.dims[to], old->dims[i]))
            desc.strides[to] = old->strides[i];
        else
            ok = is_one(old->dims[i]) && (to != ndim - 1 || kiln_dtype_get(desc.dtype)->block == 1);
    }
    if (!ok) {
        char from[KILN__SHAPE_SIZE], to[KILN__SHAPE_SIZE];
        (void)kiln__graph_fail(g, KILN_ERROR_SHAPE,
                               "kiln_broadcast: %s to %s: counted from the innermost, axes "
                               "must be equal or 1",
                               kiln__shape_text(g, old, from), kiln__shape_text(g, &desc, to));
        return none;
    }
    return finish(g, t, t->offset, &desc);
}
