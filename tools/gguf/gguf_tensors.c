/* Where tensors lie: sizes, bounds, overlaps, and lookup by name. */
#include "gguf_internal.h"

#include <inttypes.h>
#include <stdio.h>

/* "[8, 64, 172]", outermost first. */
static const char *shape_text(const kiln_gguf_tensor *t, char *buffer, size_t size) {
    size_t at = (size_t)snprintf(buffer, size, "[");
    for (int32_t i = 0; i < t->ndim && at < size; i++)
        at += (size_t)snprintf(buffer + at, size - at, "%s%" PRId64, i > 0 ? ", " : "", t->dims[i]);
    if (at < size)
        snprintf(buffer + at, size - at, "]");
    return buffer;
}

kiln_status kiln_gguf__tensor_shape(const gguf_label *label, gguf_tensor_entry *entry, kiln_error *error) {
    kiln_gguf_tensor *t = &entry->tensor;
    char shape[112];
    int64_t inner = t->ndim > 0 ? t->dims[t->ndim - 1] : 1;
    kiln_status status = kiln_gguf__tensor_bytes(t->type, t->ndim, t->dims, &t->bytes);
    if (status == KILN_ERROR_OVERFLOW)
        return GGUF_FAIL(label, error, status, "tensor '%.*s' %s of type %s: its size does not fit 63 bits",
                         GGUF_NAME(entry), shape_text(t, shape, sizeof shape), t->type->name);
    if (status != KILN_OK)
        return GGUF_FAIL(label, error, KILN_ERROR_FORMAT,
                         "tensor '%.*s' %s: rows of %" PRId64 " values are no multiple of the %" PRIu32
                         " values in a block of type %s",
                         GGUF_NAME(entry), shape_text(t, shape, sizeof shape), inner, t->type->block,
                         t->type->name);
    return KILN_OK;
}

static int compare_places(const void *items, uint32_t a, uint32_t b) {
    const gguf_tensor_entry *entries = items;
    int64_t x = entries[a].tensor.offset, y = entries[b].tensor.offset;
    return x < y ? -1 : x > y;
}

/* Refuses tensors from `first` on of which two share a byte. */
static kiln_status check_overlaps(const kiln_allocator *a, const gguf_label *label,
                                  const gguf_tensors *tensors, size_t first, kiln_error *error) {
    const gguf_tensor_entry *entries = tensors->items + first;
    size_t count = tensors->count - first;
    bool ordered = true;
    int64_t end = 0;
    for (size_t i = 0; i < count; i++) { /* nearly every file: nothing to sort */
        ordered = ordered && (entries[i].tensor.bytes == 0 || entries[i].tensor.offset >= end);
        if (entries[i].tensor.bytes != 0)
            end = entries[i].tensor.offset + entries[i].tensor.bytes;
    }
    if (ordered)
        return KILN_OK;
    uint32_t *index = KILN_NEW(a, uint32_t, count);
    if (index == NULL)
        return GGUF_FAIL(label, error, KILN_ERROR_MEMORY, "no memory to check %zu tensors for overlaps",
                         count);
    kiln_gguf__index_sort(entries, compare_places, index, count);
    const gguf_tensor_entry *last = NULL;
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < count && status == KILN_OK; i++) {
        const gguf_tensor_entry *e = &entries[index[i]];
        if (e->tensor.bytes == 0)
            continue;
        if (last != NULL && e->tensor.offset < last->tensor.offset + last->tensor.bytes)
            status = GGUF_FAIL(label, error, KILN_ERROR_FORMAT,
                               "tensors '%.*s' (offset %" PRId64 ", %" PRId64
                               " bytes) and '%.*s' (offset %" PRId64 ") share bytes",
                               GGUF_NAME(last), last->tensor.offset, last->tensor.bytes, GGUF_NAME(e),
                               e->tensor.offset);
        last = e;
    }
    KILN_DELETE(a, index, uint32_t, count);
    return status;
}

/* Where a tensor's elements may begin: numbers at multiples of their size, and blocks, which begin with or
 * hold an f16, at even bytes. */
static int64_t element_alignment(const kiln_gguf_tensor_type *type) {
    return type->block == 1 ? type->bytes : type->bytes % 2 == 0 ? 2 : 1;
}

/* Checks where one tensor lies and fills in its pointer. `room` is the size of the data section. */
static kiln_status place(const gguf_file *file, gguf_tensor_entry *e, int64_t room, kiln_error *error) {
    const kiln_gguf_part *part = &file->part;
    kiln_gguf_tensor *t = &e->tensor;
    if (t->offset % part->alignment != 0)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_FORMAT,
                         "tensor '%.*s' has offset %" PRId64
                         ", expected a multiple of the alignment %" PRIu32,
                         GGUF_NAME(e), t->offset, part->alignment);
    if (t->offset > room || t->bytes > room - t->offset)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_FORMAT,
                         "tensor '%.*s' takes %" PRId64 " bytes at offset %" PRId64
                         ", but the data section has %" PRId64 ": truncated or damaged",
                         GGUF_NAME(e), t->bytes, t->offset, room);
    t->part_offset = part->data_offset + t->offset;
    int64_t needed = element_alignment(t->type);
    if (t->part_offset % needed != 0)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_FORMAT,
                         "tensor '%.*s' of type %s lies at byte %" PRId64 ", expected a multiple of %" PRId64
                         ": write the file again with a general.alignment of 32",
                         GGUF_NAME(e), t->type->name, t->part_offset, needed);
    t->data = (const unsigned char *)part->base + t->part_offset;
    return KILN_OK;
}

kiln_status kiln_gguf__tensors_place(const kiln_allocator *a, const gguf_file *file, gguf_tensors *tensors,
                                     size_t first, kiln_error *error) {
    const kiln_gguf_part *part = &file->part;
    int64_t size = (int64_t)part->size, room = size - part->data_offset;
    if (room < 0)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_FORMAT,
                         "truncated: %" PRId64 " bytes, but tensor data begins at byte %" PRId64, size,
                         part->data_offset);
    for (size_t i = first; i < tensors->count; i++) {
        kiln_status status = place(file, &tensors->items[i], room, error);
        if (status != KILN_OK)
            return status;
    }
    return check_overlaps(a, &file->label, tensors, first, error);
}

static int compare_names(const void *items, uint32_t a, uint32_t b) {
    const gguf_tensor_entry *entries = items;
    return strcmp(entries[a].tensor.name, entries[b].tensor.name);
}

kiln_status kiln_gguf__tensors_finish(const kiln_allocator *a, const gguf_file *files, gguf_tensors *tensors,
                                      kiln_error *error) {
    size_t size = 0, count = tensors->count;
    for (size_t i = 0; i < count; i++)
        size += tensors->items[i].name_size + 1; /* at most 256 × 2^31 */
    tensors->pool = KILN_NEW(a, char, size);
    tensors->pool_size = tensors->pool != NULL ? size : 0;
    tensors->index = KILN_NEW(a, uint32_t, count);
    tensors->index_count = tensors->index != NULL ? count : 0;
    if (tensors->pool == NULL || tensors->index == NULL)
        return GGUF_FAIL(&files[0].label, error, KILN_ERROR_MEMORY, "no memory for the names of %zu tensors",
                         count);
    char *next = tensors->pool;
    for (size_t i = 0; i < count; i++) {
        gguf_tensor_entry *e = &tensors->items[i];
        memcpy(next, e->tensor.name, e->name_size);
        next[e->name_size] = '\0';
        e->tensor.name = next;
        next += e->name_size + 1;
    }
    kiln_gguf__index_sort(tensors->items, compare_names, tensors->index, count);
    for (size_t i = 1; i < count; i++) {
        const kiln_gguf_tensor *x = &tensors->items[tensors->index[i - 1]].tensor;
        const kiln_gguf_tensor *y = &tensors->items[tensors->index[i]].tensor;
        if (strcmp(x->name, y->name) == 0)
            return GGUF_FAIL(&files[y->part].label, error, KILN_ERROR_FORMAT,
                             "tensor '%s' stands twice (the other in %s)", y->name,
                             files[x->part].label.text);
    }
    return KILN_OK;
}

void kiln_gguf__tensors_release(const kiln_allocator *a, gguf_tensors *tensors) {
    KILN_DELETE(a, tensors->pool, char, tensors->pool_size);
    KILN_DELETE(a, tensors->index, uint32_t, tensors->index_count);
    KILN_ARRAY_FREE(a, *tensors);
    memset(tensors, 0, sizeof *tensors);
}
