/* Lays out what a writer has collected, and writes it to memory or to a file. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_writer.h"
#include "out_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* ---- Layout ----------------------------------------------------------------------------------------- */

static int compare_written_keys(const void *items, uint32_t a, uint32_t b) {
    const kiln_gguf_writer *w = items;
    const gguf_written_kv *x = &w->kvs.items[a], *y = &w->kvs.items[b];
    size_t least = x->key_size < y->key_size ? x->key_size : y->key_size;
    int order = memcmp(w->keys.items + x->key, w->keys.items + y->key, least);
    return order != 0 ? order : x->key_size < y->key_size ? -1 : x->key_size > y->key_size;
}

static const char *name_of(const kiln_gguf_writer *w, size_t i) {
    return (const char *)w->names.items + w->tensors.items[i].name;
}

static int compare_written_names(const void *items, uint32_t a, uint32_t b) {
    return strcmp(name_of(items, a), name_of(items, b));
}

static kiln_status check_twice(kiln_gguf_writer *w, size_t count, kiln_gguf__compare compare, bool keys,
                               kiln_error *error) {
    if (count > INT32_MAX)
        return GGUF_ERROR(error, KILN_ERROR_OVERFLOW, "GGUF writer: %zu %s, at most 2^31 are allowed", count,
                          keys ? "keys" : "tensors");
    uint32_t *index = KILN_NEW(&w->allocator, uint32_t, count);
    if (index == NULL)
        return GGUF_ERROR(error, KILN_ERROR_MEMORY, "GGUF writer: no memory to sort %zu names", count);
    kiln_gguf__index_sort(w, compare, index, count);
    kiln_status status = KILN_OK;
    for (size_t i = 1; i < count && status == KILN_OK; i++) {
        if (compare(w, index[i - 1], index[i]) != 0)
            continue;
        const gguf_written_kv *kv = keys ? &w->kvs.items[index[i]] : NULL;
        const char *name = keys ? (const char *)w->keys.items + kv->key : name_of(w, index[i]);
        status = GGUF_ERROR(error, KILN_ERROR_ARGUMENT, "GGUF writer: %s '%.*s' was added twice",
                            keys ? "key" : "tensor",
                            kiln_gguf__clip(name, keys ? kv->key_size : strlen(name)), name);
    }
    KILN_DELETE(&w->allocator, index, uint32_t, count);
    return status;
}

/* Everything before the data, padded, and the size of the whole file. */
static kiln_status lay_out(kiln_gguf_writer *w, gguf_buffer *head, int64_t *size, kiln_error *error) {
    int64_t offset = 0;
    if (!gguf_reserve(w, head, GGUF_HEADER_SIZE))
        return GGUF_ERROR(error, KILN_ERROR_MEMORY, "GGUF writer: no memory for the header");
    gguf_append(head, "GGUF", 4);
    gguf_append_u32(head, 3);
    gguf_append_u64(head, w->tensors.count);
    gguf_append_u64(head, w->kvs.count);
    if (!gguf_reserve(w, head, w->keys.count))
        return GGUF_ERROR(error, KILN_ERROR_MEMORY, "GGUF writer: no memory for %zu bytes of keys",
                          w->keys.count);
    gguf_append(head, w->keys.items, w->keys.count);
    for (size_t i = 0; i < w->tensors.count; i++) {
        const gguf_written_tensor *t = &w->tensors.items[i];
        size_t name_size = strlen(name_of(w, i));
        if (!gguf_reserve(w, head, name_size + 24 + 8 * KILN_GGUF_MAX_DIMS))
            return GGUF_ERROR(error, KILN_ERROR_MEMORY, "GGUF writer: no memory for the infos of %zu tensors",
                              w->tensors.count);
        gguf_append_u64(head, name_size);
        gguf_append(head, name_of(w, i), name_size);
        gguf_append_u32(head, (uint32_t)t->ndim);
        for (int32_t d = t->ndim; d-- > 0;)
            gguf_append_u64(head, (uint64_t)t->dims[d]);
        gguf_append_u32(head, t->type->id);
        gguf_append_u64(head, (uint64_t)offset);
        if (!kiln__add(offset, t->size, &offset) ||
            !kiln__align_up(offset, KILN_GGUF_DEFAULT_ALIGNMENT, &offset))
            return GGUF_ERROR(error, KILN_ERROR_OVERFLOW, "GGUF writer: the file does not fit 63 bits");
    }
    size_t padding = (KILN_GGUF_DEFAULT_ALIGNMENT - head->count % KILN_GGUF_DEFAULT_ALIGNMENT) %
                     KILN_GGUF_DEFAULT_ALIGNMENT;
    if (!gguf_reserve(w, head, padding))
        return GGUF_ERROR(error, KILN_ERROR_MEMORY, "GGUF writer: no memory for the header");
    memset(head->items + head->count, 0, padding);
    head->count += padding;
    if (!kiln__add(offset, (int64_t)head->count, size))
        return GGUF_ERROR(error, KILN_ERROR_OVERFLOW, "GGUF writer: the file does not fit 63 bits");
    return KILN_OK;
}

/* Takes the bytes of the file in order. False stops; the sink knows why. */
typedef struct sink {
    bool (*put)(struct sink *s, const void *data, size_t n);
    kiln__out_file *out;  /* file */
    int code;             /* file: errno of a failure */
    unsigned char *where; /* memory: next byte */
} sink;

static bool put_all(const kiln_gguf_writer *w, const gguf_buffer *head, sink *s) {
    static const unsigned char zeros[KILN_GGUF_DEFAULT_ALIGNMENT];
    if (!s->put(s, head->items, head->count))
        return false;
    for (size_t i = 0; i < w->tensors.count; i++) {
        const gguf_written_tensor *t = &w->tensors.items[i];
        size_t padding = (size_t)(-t->size & (KILN_GGUF_DEFAULT_ALIGNMENT - 1));
        if ((t->size != 0 && !s->put(s, t->data, (size_t)t->size)) ||
            (padding != 0 && !s->put(s, zeros, padding)))
            return false;
    }
    return true;
}

/* Checks, and makes the head; the caller frees it even on failure. */
static kiln_status prepare(kiln_gguf_writer *w, gguf_buffer *head, int64_t *size, kiln_error *error) {
    if (w->failed.status != KILN_OK)
        return GGUF_ERROR(error, w->failed.status, "%s", w->failed.text);
    kiln_status status = check_twice(w, w->kvs.count, compare_written_keys, true, error);
    if (status == KILN_OK)
        status = check_twice(w, w->tensors.count, compare_written_names, false, error);
    return status == KILN_OK ? lay_out(w, head, size, error) : status;
}

/* ---- To memory -------------------------------------------------------------------------------------- */

static bool put_memory(sink *s, const void *data, size_t n) {
    memcpy(s->where, data, n);
    s->where += n;
    return true;
}

kiln_status kiln_gguf_writer_write_memory(kiln_gguf_writer *writer, void **out, size_t *size,
                                          kiln_error *error) {
    if (out != NULL)
        *out = NULL;
    if (size != NULL)
        *size = 0;
    if (writer == NULL || out == NULL || size == NULL)
        return GGUF_ERROR(error, KILN_ERROR_ARGUMENT, "GGUF writer: writer, bytes or size is NULL");
    gguf_buffer head = {0};
    int64_t total = 0;
    kiln_status status = prepare(writer, &head, &total, error);
    if (status == KILN_OK) {
        void *memory = writer->allocator.alloc(writer->allocator.context, (size_t)total, 64);
        sink s = {put_memory, NULL, 0, memory};
        if (memory != NULL && put_all(writer, &head, &s)) {
            *out = memory;
            *size = (size_t)total;
        } else {
            status =
                GGUF_ERROR(error, KILN_ERROR_MEMORY, "GGUF writer: no memory for %" PRId64 " bytes", total);
        }
    }
    KILN_ARRAY_FREE(&writer->allocator, head);
    return status;
}

/* ---- To a file -------------------------------------------------------------------------------------- */

static bool put_file(sink *s, const void *data, size_t n) {
    s->code = kiln__out_write(s->out, data, n);
    return s->code == 0;
}

static kiln_status write_file(kiln_gguf_writer *w, const gguf_buffer *head, kiln__out_file *out,
                              const char *path, kiln_error *error) {
    gguf_label label;
    kiln_gguf__label_set(&label, path);
    sink s = {put_file, out, kiln__out_open(out, path), NULL};
    if (s.code != 0)
        return GGUF_FAIL(&label, error, KILN_ERROR_SYSTEM,
                         "cannot create the file, or .partial beside it: %s", strerror(s.code));
    bool good = put_all(w, head, &s);
    int code = kiln__out_finish(out, good);
    if (good && code == 0)
        return KILN_OK;
    return GGUF_FAIL(&label, error, KILN_ERROR_SYSTEM, "cannot write: %s", strerror(good ? code : s.code));
}

kiln_status kiln_gguf_writer_write(kiln_gguf_writer *writer, const char *path, kiln_error *error) {
    if (writer == NULL || path == NULL)
        return GGUF_ERROR(error, KILN_ERROR_ARGUMENT, "GGUF writer: writer or path is NULL");
    gguf_buffer head = {0};
    int64_t total = 0;
    kiln_status status = prepare(writer, &head, &total, error);
    if (status == KILN_OK) {
        kiln__out_file *out = KILN_NEW(&writer->allocator, kiln__out_file, 1);
        if (out == NULL) {
            status = GGUF_ERROR(error, KILN_ERROR_MEMORY, "GGUF writer: no memory for a path");
        } else {
            status = write_file(writer, &head, out, path, error);
            KILN_DELETE(&writer->allocator, out, kiln__out_file, 1);
        }
    }
    KILN_ARRAY_FREE(&writer->allocator, head);
    return status;
}
