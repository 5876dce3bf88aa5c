/* The writer's parts. Keys are kept as the bytes they will be in the file; tensor data is only pointed to.
 *
 *   header | keys | tensor infos | padding | data of tensor 0 | padding | data of tensor 1 | padding …
 *
 * gguf_writer.c collects, gguf_write.c lays out and writes. Internal. */
#ifndef KILN_GGUF_WRITER_H
#define KILN_GGUF_WRITER_H

#include "gguf_internal.h"

typedef struct gguf_buffer {
    unsigned char *items;
    size_t count, capacity;
} gguf_buffer;

typedef struct gguf_written_kv {
    size_t key; /* where its key begins in `keys`, and its size */
    size_t key_size;
} gguf_written_kv;

typedef struct gguf_written_tensor {
    size_t name; /* where its name begins in `names`, which ends in NUL */
    const kiln_gguf_tensor_type *type;
    int32_t ndim;
    int64_t dims[KILN_GGUF_MAX_DIMS];
    int64_t size;
    const void *data;
} gguf_written_tensor;

struct kiln_gguf_writer {
    kiln_allocator allocator;
    kiln_error failed; /* the first error of an add; KILN_OK while there is none */
    gguf_buffer keys;  /* as in the file */
    gguf_buffer names; /* of tensors, each ending in NUL */
    struct {
        gguf_written_kv *items;
        size_t count, capacity;
    } kvs;
    struct {
        gguf_written_tensor *items;
        size_t count, capacity;
    } tensors;
};

/* Room for `n` more bytes. */
static inline bool gguf_reserve(kiln_gguf_writer *w, gguf_buffer *b, size_t n) {
    size_t want;
    return !__builtin_add_overflow(b->count, n, &want) && KILN_GROW(&w->allocator, *b, want) &&
           (b->items != NULL || n == 0);
}

static inline void gguf_append(gguf_buffer *b, const void *data, size_t n) {
    if (data == NULL || n == 0)
        return;
    memcpy(b->items + b->count, data, n);
    b->count += n;
}

static inline void gguf_append_u32(gguf_buffer *b, uint32_t v) {
    gguf_append(b, &v, sizeof v);
}

static inline void gguf_append_u64(gguf_buffer *b, uint64_t v) {
    gguf_append(b, &v, sizeof v);
}

#endif
