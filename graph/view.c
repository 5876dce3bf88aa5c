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
    /* What has no elements lies anywhere. Else the step leads to one of them, so it fits. */
    int64_t step, offset;
    if (want == 0 || !kiln__mul(start / block, desc.strides[a], &step) ||
        !kiln__add(t->offset, step, &offset))
        offset = t->offset;
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

/* The axes that say where elements lie: those of one element do not, whatever their stride. */
typedef struct axes {
    uint32_t n, at[KILN_MAX_DIMS];
} axes;

static axes axes_of(const kiln_desc *desc) {
    axes a = {0};
    for (uint32_t i = 0; i < desc->ndim; i++)
        if (!is_one(desc->dims[i]))
            a.at[a.n++] = i;
    return a;
}

/* How many steps an axis has: blocks of the innermost one. */
static int64_t steps_of(const kiln_desc *desc, uint32_t axis) {
    return desc->dims[axis].n / (axis == desc->ndim - 1 ? kiln_dtype_get(desc->dtype)->block : 1);
}

/* In a group only the outermost axis may be a symbol: inner counts fix the strides. */
static bool symbol_outermost(const kiln_desc *desc, const axes *a, uint32_t first, uint32_t last) {
    for (uint32_t i = first + 1; i < last; i++)
        if (desc->dims[a->at[i]].slot != 0)
            return false;
    return true;
}

/* Old axes [i0,i1) hold the same elements as new axes [j0,j1): checks that the old ones are adjacent in
 * memory and gives the new strides. */
static bool reshape_group(const kiln_desc *old, const axes *from, uint32_t i0, uint32_t i1, kiln_desc *new,
                          const axes *to, uint32_t j0, uint32_t j1) {
    const bool old_inner = from->at[i1 - 1] == old->ndim - 1, new_inner = to->at[j1 - 1] == new->ndim - 1;
    if (!symbol_outermost(old, from, i0, i1) || !symbol_outermost(new, to, j0, j1) ||
        (old_inner != new_inner && kiln_dtype_get(old->dtype)->block > 1))
        return false;
    int64_t unit = old->strides[from->at[i1 - 1]], stride = unit;
    for (uint32_t i = i1 - 1; i-- > i0;)
        if (!kiln__mul(stride, steps_of(old, from->at[i + 1]), &stride) ||
            old->strides[from->at[i]] != stride)
            return false;
    for (uint32_t j = j1; j-- > j0;) {
        new->strides[to->at[j]] = unit;
        if (j > j0 && !kiln__mul(unit, steps_of(new, to->at[j]), &unit))
            return false;
    }
    return true;
}

/* a ≤ b at the symbols' maxima; false in *fits when one of them is too large to tell. */
static bool at_most(const kiln_graph *g, kiln_dim a, kiln_dim b, bool *fits) {
    int64_t x, y;
    *fits = kiln__mul(a.n, a.slot ? g->slots.items[a.slot].max : 1, &x) &&
            kiln__mul(b.n, b.slot ? g->slots.items[b.slot].max : 1, &y);
    return *fits && x <= y;
}

/* Strides of axes of one element: as if what lies inside of them were dense. */
static void stride_ones(const kiln_graph *g, kiln_desc *desc) {
    for (uint32_t i = desc->ndim; i-- > 0;) {
        int64_t inner = kiln_dtype_get(desc->dtype)->bytes;
        if (!is_one(desc->dims[i]))
            continue;
        if (i + 1 < desc->ndim &&
            !kiln__mul(desc->strides[i + 1], kiln__dim_max(g, desc->dims[i + 1]), &inner))
            inner = desc->strides[i + 1];
        desc->strides[i] = inner;
    }
}

static bool reshape_strides(const kiln_graph *g, const kiln_desc *old, kiln_desc *new) {
    const axes from = axes_of(old), to = axes_of(new);
    uint32_t i = 0, j = 0;
    while (i < from.n && j < to.n) {
        const uint32_t i0 = i, j0 = j;
        kiln_dim a = old->dims[from.at[i++]], b = new->dims[to.at[j++]];
        while (!kiln_dim_equal(a, b)) {
            bool fits, more_old = at_most(g, a, b, &fits);
            if (!fits || (more_old ? i == from.n || !dim_mul(a, old->dims[from.at[i++]], &a)
                                   : j == to.n || !dim_mul(b, new->dims[to.at[j++]], &b)))
                return false;
        }
        if (!reshape_group(old, &from, i0, i, new, &to, j0, j))
            return false;
    }
    stride_ones(g, new);
    return i == from.n && j == to.n;
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
