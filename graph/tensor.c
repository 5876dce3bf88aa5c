/* Descriptions, leaf tensors and outputs. */
#include "graph.h"

#include <stdio.h>

/* ---- descriptions ----------------------------------------------------------------------------------- */

const char *kiln__dim_text(const kiln_graph *g, kiln_dim d, char buffer[KILN__SHAPE_SIZE]) {
    const char *slot = d.slot != 0 ? kiln__text(g, g->slots.items[d.slot].name) : "";
    if (d.slot == 0)
        snprintf(buffer, KILN__SHAPE_SIZE, "%lld", (long long)d.n);
    else if (d.n == 1)
        snprintf(buffer, KILN__SHAPE_SIZE, "%s", slot);
    else
        snprintf(buffer, KILN__SHAPE_SIZE, "%lld*%s", (long long)d.n, slot);
    return buffer;
}

const char *kiln__shape_text(const kiln_graph *g, const kiln_desc *desc, char buffer[KILN__SHAPE_SIZE]) {
    size_t at = 1;
    buffer[0] = '[';
    for (uint32_t i = 0; i < desc->ndim && i < KILN_MAX_DIMS; i++) {
        char dim[KILN__SHAPE_SIZE];
        /* Four dimensions of 36 characters fit. */
        int n = snprintf(buffer + at, KILN__SHAPE_SIZE - at, "%s%.36s", i ? ", " : "",
                         kiln__dim_text(g, desc->dims[i], dim));
        at += n > 0 ? (size_t)n : 0;
    }
    buffer[at] = ']';
    buffer[at + 1] = '\0';
    return buffer;
}

/* Checks what does not depend on strides, and gives the innermost count in blocks. */
static kiln_status check_dims(const kiln_graph *g, const kiln_desc *desc, int64_t *blocks,
                              kiln_error *error) {
    const kiln_dtype_info *info = kiln_dtype_get(desc->dtype);
    if (info == NULL)
        return kiln_error_set(error, KILN_ERROR_DTYPE, "unknown dtype %d", (int)desc->dtype);
    if (desc->ndim < 1 || desc->ndim > KILN_MAX_DIMS)
        return kiln_error_set(error, KILN_ERROR_SHAPE, "%u dimensions; 1 to %d are allowed", desc->ndim,
                              KILN_MAX_DIMS);
    for (uint32_t i = 0; i < desc->ndim; i++) {
        kiln_dim d = desc->dims[i];
        int64_t max;
        if (d.n < 0)
            return kiln_error_set(error, KILN_ERROR_SHAPE, "dimension %u is %lld; it must not be negative", i,
                                  (long long)d.n);
        if (d.slot == 0)
            continue;
        if (d.slot >= g->slots.count || g->slots.items[d.slot].is_float || g->slots.items[d.slot].min < 0)
            return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                                  "dimension %u follows slot %u, which is not an integer slot with min >= 0",
                                  i, d.slot);
        if (!kiln__mul(d.n, g->slots.items[d.slot].max, &max))
            return kiln_error_set(error, KILN_ERROR_OVERFLOW,
                                  "dimension %u: %lld times the maximum of '%s' "
                                  "does not fit 63 bits",
                                  i, (long long)d.n, kiln__text(g, g->slots.items[d.slot].name));
    }
    kiln_dim last = desc->dims[desc->ndim - 1];
    if (last.n % info->block != 0 || (last.slot != 0 && info->block > 1 && last.n % info->block != 0))
        return kiln_error_set(error, KILN_ERROR_SHAPE,
                              "the innermost dimension is %lld, which is no multiple of the %u values in a "
                              "%s block",
                              (long long)last.n, info->block, info->name);
    *blocks = kiln__dim_max(g, last) / info->block;
    return KILN_OK;
}

kiln_status kiln__desc_dense(const kiln_graph *g, kiln_desc *desc, int64_t *bytes, kiln_error *error) {
    int64_t blocks = 0;
    kiln_status status = check_dims(g, desc, &blocks, error);
    if (status != KILN_OK)
        return status;
    int64_t stride = kiln_dtype_get(desc->dtype)->bytes;
    bool empty = false;
    for (uint32_t i = desc->ndim; i-- > 0;) {
        int64_t n = i == desc->ndim - 1 ? blocks : kiln__dim_max(g, desc->dims[i]);
        desc->strides[i] = stride;
        empty |= n == 0;
        /* An empty dimension counts as one here, so that every other product is still checked. */
        if (!kiln__mul(stride, n ? n : 1, &stride)) {
            char shape[KILN__SHAPE_SIZE];
            return kiln_error_set(error, KILN_ERROR_OVERFLOW, "%s %s at its maximum does not fit 63 bits",
                                  kiln_dtype_get(desc->dtype)->name, kiln__shape_text(g, desc, shape));
        }
    }
    for (uint32_t i = desc->ndim; i < KILN_MAX_DIMS; i++) {
        desc->dims[i] = (kiln_dim){0, 0};
        desc->strides[i] = 0;
    }
    *bytes = empty ? 0 : stride;
    return KILN_OK;
}

int64_t kiln__dense_bytes(const kiln_graph *g, const kiln_desc *desc) {
    for (uint32_t i = 0; i < desc->ndim; i++)
        if (kiln__dim_max(g, desc->dims[i]) == 0)
            return 0;
    int64_t outermost = kiln__dim_max(g, desc->dims[0]);
    return desc->strides[0] * (desc->ndim == 1 ? outermost / kiln_dtype_get(desc->dtype)->block : outermost);
}

kiln_status kiln__desc_check(const kiln_graph *g, const kiln_desc *desc, int64_t *bytes, kiln_error *error) {
    int64_t blocks = 0;
    kiln_status status = check_dims(g, desc, &blocks, error);
    if (status != KILN_OK)
        return status;
    const kiln_dtype_info *info = kiln_dtype_get(desc->dtype);
    int64_t span = info->bytes;
    bool empty = false;
    for (uint32_t i = 0; i < desc->ndim; i++) {
        int64_t n = i == desc->ndim - 1 ? blocks : kiln__dim_max(g, desc->dims[i]), stride = desc->strides[i];
        empty |= n == 0;
        if (stride < 0 || stride % info->align != 0)
            return kiln_error_set(error, KILN_ERROR_SHAPE,
                                  "stride %u is %lld bytes; %s needs a multiple of %u, "
                                  "not negative",
                                  i, (long long)stride, info->name, info->align);
        if (i == desc->ndim - 1 && info->block > 1 && n > 1 && stride != info->bytes)
            return kiln_error_set(error, KILN_ERROR_SHAPE,
                                  "the blocks of a %s row must be adjacent (stride "
                                  "%u, got %lld)",
                                  info->name, info->bytes, (long long)stride);
        int64_t reach;
        if (!kiln__mul(stride, n ? n - 1 : 0, &reach) || !kiln__add(span, reach, &span))
            return kiln_error_set(error, KILN_ERROR_OVERFLOW, "the tensor's span does not fit 63 bits");
    }
    *bytes = empty ? 0 : span;
    return KILN_OK;
}

bool kiln__desc_equal(const kiln_desc *a, const kiln_desc *b) {
    if (a == b)
        return true;
    if (a->dtype != b->dtype || a->ndim != b->ndim)
        return false;
    for (uint32_t i = 0; i < a->ndim; i++)
        if (a->dims[i].n != b->dims[i].n || a->dims[i].slot != b->dims[i].slot ||
            a->strides[i] != b->strides[i])
            return false;
    return true;
}

bool kiln__desc_same_layout(const kiln_desc *a, const kiln_desc *b) {
    if (a == b)
        return true;
    const kiln_dtype_info *da = kiln_dtype_get(a->dtype), *db = kiln_dtype_get(b->dtype);
    if (a->ndim != b->ndim || da == NULL || db == NULL || da->bytes != db->bytes || da->block != db->block)
        return false;
    for (uint32_t i = 0; i < a->ndim; i++)
        if (!kiln_dim_equal(a->dims[i], b->dims[i]) || a->strides[i] != b->strides[i])
            return false;
    return true;
}

bool kiln__desc_is_dense(const kiln_graph *g, const kiln_desc *desc) {
    kiln_desc dense = *desc;
    int64_t bytes;
    return kiln__desc_dense(g, &dense, &bytes, NULL) == KILN_OK && kiln__desc_equal(&dense, desc);
}

bool kiln__desc_shares_bytes(const kiln_graph *g, const kiln_desc *desc) {
    const kiln_dtype_info *info = kiln_dtype_get(desc->dtype);
    int64_t n[KILN_MAX_DIMS], stride[KILN_MAX_DIMS], span = info->bytes;
    uint32_t levels = 0; /* by stride, ascending */
    for (uint32_t i = 0; i < desc->ndim; i++) {
        int64_t count = kiln__dim_max(g, desc->dims[i]) / (i == desc->ndim - 1 ? info->block : 1);
        uint32_t at = levels;
        if (count < 2)
            continue;
        for (; at > 0 && stride[at - 1] > desc->strides[i]; at--) {
            n[at] = n[at - 1];
            stride[at] = stride[at - 1];
        }
        n[at] = count;
        stride[at] = desc->strides[i];
        levels++;
    }
    for (uint32_t l = 0; l < levels; l++) {
        if (stride[l] < span)
            return true;
        span += (n[l] - 1) * stride[l]; /* fits: at most the tensor's bytes */
    }
    return false;
}

static kiln_box box_of(const kiln_graph *g, const kiln_desc *desc, int64_t offset, int64_t bytes,
                       bool *exact) {
    kiln_box box = {.offset = offset, .count = {1, 1, 1}};
    int64_t count[KILN_MAX_DIMS], stride[KILN_MAX_DIMS];
    int64_t run;         /* to where the level so far leads */
    uint32_t levels = 0; /* innermost first */
    if (exact != NULL)
        *exact = true;
    if (bytes == 0)
        return box;
    const kiln_dtype_info *info = kiln_dtype_get(desc->dtype);
    box.length = info->bytes;
    for (uint32_t i = desc->ndim; i-- > 0;) {
        int64_t n = kiln__dim_max(g, desc->dims[i]), s = desc->strides[i];
        if (i == desc->ndim - 1)
            n /= info->block;
        if (n == 1 || s == 0) /* stride 0 repeats the same bytes */
            continue;
        if (levels == 0 && s == box.length) {
            box.length *= n;
        } else if (levels > 0 && kiln__mul(count[levels - 1], stride[levels - 1], &run) && s == run) {
            count[levels - 1] *= n;
        } else {
            count[levels] = n;
            stride[levels++] = s;
        }
    }
    uint32_t first = 0;
    if (levels > KILN_BOX_LEVELS) { /* one level too many: the innermost becomes its hull */
        box.length += (count[0] - 1) * stride[0];
        first = 1;
        if (exact != NULL)
            *exact = false;
    }
    for (uint32_t i = levels, to = 0; i-- > first; to++) {
        box.count[to] = count[i];
        box.stride[to] = stride[i];
    }
    return box;
}

kiln_box kiln__tensor_box(const kiln_graph *g, const kiln__tensor *t, bool *exact) {
    if (g->shapes.items[t->shape].run) {
        if (exact != NULL)
            *exact = true;
        return (kiln_box){t->offset, t->bytes, {1, 1, 1}, {0, 0, 0}};
    }
    return box_of(g, kiln__desc_of(g, t), t->offset, t->bytes, exact);
}

/* ---- leaf tensors ----------------------------------------------------------------------------------- */

/* Where a shape is remembered. There are few different ones in a graph, so the last one asked for of each hash is enough, and
 * one that comes into `shapes` twice does no harm. */
static uint32_t *place_of_shape(kiln_graph *g, const kiln_desc *desc) {
    uint64_t hash = (uint64_t)desc->dtype << 8 | desc->ndim;
    for (uint32_t i = 0; i < desc->ndim && i < KILN_MAX_DIMS; i++)
        hash = (hash ^ (uint64_t)desc->dims[i].n ^ (uint64_t)desc->dims[i].slot << 40 ^
                (uint64_t)desc->strides[i] << 20) *
               UINT64_C(0x9e3779b97f4a7c15);
    return &g->recent[hash >> 58];
}

static bool is_shape(const kiln_graph *g, uint32_t shape, const kiln_desc *desc) {
    return shape != 0 && kiln__desc_equal(&g->shapes.items[shape].desc, desc);
}

uint32_t kiln__shape_of(kiln_graph *g, const kiln_desc *desc, int64_t bytes) {
    uint32_t *recent = place_of_shape(g, desc);
    if (is_shape(g, *recent, desc))
        return *recent;
    if (g->shapes.count >= UINT32_MAX || !KILN_GROW(&g->allocator, g->shapes, g->shapes.count + 1)) {
        (void)kiln__graph_fail(g, KILN_ERROR_MEMORY, "adding a tensor: out of memory");
        return 0;
    }
    kiln_box box = box_of(g, desc, 0, bytes, NULL);
    bool run = box.count[0] == 1 && box.count[1] == 1 && box.count[2] == 1;
    g->shapes.items[g->shapes.count] = (kiln__shape){*desc, bytes, run};
    return *recent = (uint32_t)g->shapes.count++;
}

uint32_t kiln__tensor_push(kiln_graph *g, uint32_t storage, int64_t offset, uint32_t shape) {
    uint32_t id = (uint32_t)g->tensors.count;
    if (g->tensors.count >= UINT32_MAX || !KILN_GROW(&g->allocator, g->tensors, g->tensors.count + 1) ||
        !KILN_GROW(&g->allocator, g->producers, g->tensors.count + 1)) {
        (void)kiln__graph_fail(g, KILN_ERROR_MEMORY, "adding a tensor: out of memory");
        return 0;
    }
    g->tensors.items[id] = (kiln__tensor){shape, storage, offset, g->shapes.items[shape].bytes, 0};
    g->producers.items[id] = 0;
    g->tensors.count = g->producers.count = (size_t)id + 1;
    return id;
}

uint32_t kiln__tensor_new(kiln_graph *g, uint32_t storage, int64_t offset, const kiln_desc *desc) {
    if (g->error.status != KILN_OK)
        return 0;
    int64_t bytes = 0, end;
    kiln_error why;
    uint32_t shape = *place_of_shape(g, desc);
    if (is_shape(g, shape, desc)) { /* it was checked when it came in */
        bytes = g->shapes.items[shape].bytes;
    } else {
        shape = 0;
        if (kiln__desc_check(g, desc, &bytes, &why) != KILN_OK) {
            (void)kiln__graph_fail(g, why.status, "a tensor: %s", why.text);
            return 0;
        }
    }
    const kiln_dtype_info *info = kiln_dtype_get(desc->dtype);
    const kiln__storage *s = &g->storages.items[storage];
    if (bytes == 0 && offset > s->size) /* a part of nothing: it lies anywhere */
        offset = 0;
    if (offset < 0 || offset % info->align != 0) {
        (void)kiln__graph_fail(
            g, KILN_ERROR_SHAPE,
            "a tensor in storage '%s': offset %lld; %s needs a multiple of %u, not negative",
            KILN__STORAGE_LABEL(g, storage), (long long)offset, info->name, info->align);
        return 0;
    }
    if (!kiln__add(offset, bytes, &end) || end > s->size) {
        (void)kiln__graph_fail(
            g, KILN_ERROR_SHAPE,
            "a tensor in storage '%s': %lld bytes at offset %lld do not lie within its %lld "
            "bytes",
            KILN__STORAGE_LABEL(g, storage), (long long)bytes, (long long)offset, (long long)s->size);
        return 0;
    }
    if (shape == 0)
        shape = kiln__shape_of(g, desc, bytes);
    return shape != 0 ? kiln__tensor_push(g, storage, offset, shape) : 0;
}

bool kiln__dims_copy(kiln_graph *g, kiln_desc *desc, uint32_t ndim, const kiln_dim *dims, const char *what) {
    if (ndim < 1 || ndim > KILN_MAX_DIMS) {
        (void)kiln__graph_fail(g, KILN_ERROR_SHAPE, "%s: %u dimensions; 1 to %d are allowed", what, ndim,
                               KILN_MAX_DIMS);
        return false;
    }
    if (dims == NULL) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "%s: %u dimensions, and dims is NULL", what, ndim);
        return false;
    }
    desc->ndim = ndim;
    for (uint32_t i = 0; i < ndim; i++) {
        desc->dims[i] = dims[i];
        if (!kiln__slot_resolve(g, &desc->dims[i].slot)) {
            (void)kiln__graph_fail(
                g, KILN_ERROR_ARGUMENT,
                "%s: dimension %u follows a slot that is not of this graph, or was not found", what, i);
            return false;
        }
    }
    return true;
}

static kiln_tensor leaf(kiln_graph *g, kiln_storage_kind kind, const char *name, kiln_dtype dtype,
                        uint32_t ndim, const kiln_dim *dims) {
    kiln_tensor none = {0, 0};
    kiln_desc desc = {.dtype = dtype};
    int64_t bytes = 0;
    kiln_error why;
    if (g->error.status != KILN_OK || !kiln__dims_copy(g, &desc, ndim, dims, name ? name : "a tensor"))
        return none;
    if (kiln__desc_dense(g, &desc, &bytes, &why) != KILN_OK) {
        (void)kiln__graph_fail(g, why.status, "%s '%s': %s", kiln__storage_kind_names[kind], name ? name : "",
                               why.text);
        return none;
    }
    if (kiln__name_find(g, KILN_NAME_TENSOR, name) != 0) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "tensor name '%s' is taken already", name);
        return none;
    }
    uint32_t storage = kiln__storage_new(g, kind, name, bytes);
    if (storage == 0)
        return none;
    uint32_t id = kiln__tensor_new(g, storage, 0, &desc);
    if (id == 0 || kiln__tensor_set_name(g, id, name) != KILN_OK)
        return none;
    return (kiln_tensor){id, g->tag};
}

kiln_tensor kiln_input(kiln_graph *g, const char *name, kiln_dtype dtype, uint32_t ndim,
                       const kiln_dim *dims) {
    return leaf(g, KILN_STORAGE_INPUT, name, dtype, ndim, dims);
}

kiln_tensor kiln_weight(kiln_graph *g, const char *name, kiln_dtype dtype, uint32_t ndim,
                        const kiln_dim *dims) {
    return leaf(g, KILN_STORAGE_WEIGHT, name, dtype, ndim, dims);
}

kiln_tensor kiln_state(kiln_graph *g, const char *name, kiln_dtype dtype, uint32_t ndim,
                       const kiln_dim *dims) {
    return leaf(g, KILN_STORAGE_STATE, name, dtype, ndim, dims);
}

kiln_tensor kiln_tensor_at(kiln_graph *g, kiln_storage storage, int64_t offset, kiln_dtype dtype,
                           uint32_t ndim, const kiln_dim *dims, const int64_t *strides) {
    kiln_tensor none = {0, 0};
    kiln_desc desc = {.dtype = dtype};
    int64_t bytes;
    kiln_error why;
    if (g->error.status != KILN_OK)
        return none;
    if (storage.graph != g->tag || storage.id == 0 || storage.id >= g->storages.count) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "kiln_tensor_at: unknown storage");
        return none;
    }
    if (!kiln__dims_copy(g, &desc, ndim, dims, "kiln_tensor_at"))
        return none;
    if (strides != NULL) {
        memcpy(desc.strides, strides, ndim * sizeof *strides);
    } else if (kiln__desc_dense(g, &desc, &bytes, &why) != KILN_OK) {
        (void)kiln__graph_fail(g, why.status, "a tensor in storage '%s': %s",
                               KILN__STORAGE_LABEL(g, storage.id), why.text);
        return none;
    }
    uint32_t id = kiln__tensor_new(g, storage.id, offset, &desc);
    return id ? (kiln_tensor){id, g->tag} : none;
}

/* ---- outputs and looking ---------------------------------------------------------------------------- */

kiln_tensor kiln_output(kiln_graph *g, kiln_tensor tensor, const char *name) {
    kiln_tensor none = {0, 0};
    kiln_tensor_info info;
    if (g->error.status != KILN_OK)
        return none;
    if (kiln_tensor_get(g, tensor, &info) != KILN_OK) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "kiln_output '%s': unknown tensor", name ? name : "");
        return none;
    }
    if (info.kind != KILN_STORAGE_ARENA) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                               "kiln_output '%s': its bytes are of kind %s ('%s'); copy it first (kiln_copy)",
                               name ? name : "", kiln__storage_kind_names[info.kind],
                               KILN__STORAGE_LABEL(g, info.storage.id));
        return none;
    }
    /* Before anything changes: the tensor gets the name too, when it has none. */
    if (g->tensors.items[tensor.id].name == 0 && kiln__name_find(g, KILN_NAME_TENSOR, name) != 0) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "tensor name '%s' is taken already", name);
        return none;
    }
    if (kiln__storage_set_name(g, info.storage.id, name) != KILN_OK)
        return none;
    g->storages.items[info.storage.id].kind = KILN_STORAGE_OUTPUT;
    if (g->tensors.items[tensor.id].name == 0 && kiln__tensor_set_name(g, tensor.id, name) != KILN_OK)
        return none;
    return tensor;
}

kiln_status kiln_tensor_get(const kiln_graph *g, kiln_tensor tensor, kiln_tensor_info *out) {
    if (tensor.graph != g->tag || tensor.id == 0 || tensor.id >= g->tensors.count)
        return KILN_ERROR_ARGUMENT;
    const kiln__tensor *t = &g->tensors.items[tensor.id];
    *out = (kiln_tensor_info){.name = kiln__text(g, t->name),
                              .desc = *kiln__desc_of(g, t),
                              .storage = {t->storage, g->tag},
                              .kind = g->storages.items[t->storage].kind,
                              .offset = t->offset,
                              .bytes = t->bytes};
    return KILN_OK;
}

kiln_tensor kiln_tensor_find(const kiln_graph *g, const char *name) {
    uint32_t id = kiln__name_find(g, KILN_NAME_TENSOR, name);
    return (kiln_tensor){id, id ? g->tag : 0};
}
