/* What the tests of the GGUF library share. */
#ifndef KILN_TESTS_GGUF_HELP_H
#define KILN_TESTS_GGUF_HELP_H

#include "kiln_gguf.h"
#include "tests/support/fault_alloc.h"
#include "tests/support/gguf_walk.h"
#include "tests/support/testdata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Files that open; of a split model the first part. */
static const char *const gguf_valid[] = {
    "gguf/alltypes_real_256x128.gguf",
    "gguf/docker_dummy.gguf",
    "gguf/docker_dummy-00001-of-00002.gguf",
    "gguf/ggml-vocab-phi-3.gguf",
    "gguf/iree_multiple.gguf",
    "gguf/iree_single.gguf",
    "gguf/iree_single_v2.gguf",
    "stories260K/stories260K-f16.gguf",
    "stories260K/stories260K-f32.gguf",
    "stories260K/stories260K-iq4_nl.gguf",
    "stories260K/stories260K-moe4x-permuted-f32.gguf",
    "stories260K/stories260K-moe4x-split-f32.gguf",
    "stories260K/stories260K-moe8x-permuted-q8_0.gguf",
    "stories260K/stories260K-q4_0.gguf",
    "stories260K/stories260K-q8_0.gguf",
};

/* The file's path, or skips the test. */
static inline const char *need(const char *relative, char path[TESTDATA_PATH_SIZE]) {
    if (testdata_path(relative, path, TESTDATA_PATH_SIZE) == NULL)
        skip();
    return path;
}

static inline unsigned char *need_bytes(const char *relative, size_t *size) {
    unsigned char *bytes = testdata_read(relative, size);
    if (bytes == NULL)
        skip();
    return bytes;
}

static inline kiln_gguf *open_good(const char *path, kiln_gguf_access access) {
    kiln_gguf_options options = {.access = access};
    kiln_gguf *g = NULL;
    kiln_error error = {0};
    if (kiln_gguf_open(path, &options, &g, &error) != KILN_OK)
        fail_msg("%s", error.text);
    assert_non_null(g);
    assert_int_equal(error.status, KILN_OK);
    return g;
}

/* Opens a copy that ends where the bytes end, so that ASan sees a read past them. */
static inline kiln_status open_copy(const void *bytes, size_t size, uint64_t *hash, kiln_error *error) {
    unsigned char *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    kiln_gguf_bytes part = {copy, size, "copy.gguf"};
    kiln_gguf *g = NULL;
    kiln_status status = kiln_gguf_open_memory(&part, 1, NULL, &g, error);
    if (status == KILN_OK)
        *hash = gguf_walk(g);
    else
        assert_null(g);
    kiln_gguf_destroy(g);
    free(copy);
    return status;
}

static inline void expect_text(const kiln_error *error, const char *part) {
    if (strstr(error->text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error->text, part);
}

/* A file built by hand. */
typedef struct built {
    unsigned char bytes[8192];
    size_t size;
} built;

static inline void put(built *b, const void *data, size_t n) {
    assert_true(b->size + n <= sizeof b->bytes);
    memcpy(b->bytes + b->size, data, n);
    b->size += n;
}

static inline void put_u32(built *b, uint32_t v) {
    put(b, &v, sizeof v);
}

static inline void put_u64(built *b, uint64_t v) {
    put(b, &v, sizeof v);
}

static inline void put_text(built *b, const char *text) {
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static inline void put_start(built *b, uint64_t tensors, uint64_t keys) {
    b->size = 0;
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, tensors);
    put_u64(b, keys);
}

static inline void put_key_u32(built *b, const char *key, uint32_t value) {
    put_text(b, key);
    put_u32(b, KILN_GGUF_U32);
    put_u32(b, value);
}

static inline void put_tensor(built *b, const char *name, uint32_t ndim, const uint64_t *dims, uint32_t type,
                              uint64_t offset) {
    put_text(b, name);
    put_u32(b, ndim);
    for (uint32_t i = 0; i < ndim; i++)
        put_u64(b, dims[i]);
    put_u32(b, type);
    put_u64(b, offset);
}

/* Pads to the alignment, then adds `data` bytes. */
static inline void put_end(built *b, size_t alignment, size_t data) {
    static const unsigned char zeros[4096];
    size_t padding = (alignment - b->size % alignment) % alignment;
    put(b, zeros, padding);
    put(b, zeros, data);
}

static inline void expect_built(const built *b, kiln_status status, const char *text) {
    kiln_error error = {0};
    uint64_t hash = 0;
    kiln_status got = open_copy(b->bytes, b->size, &hash, &error);
    if (got != status)
        fail_msg("%s instead of %s: %s", kiln_status_name(got), kiln_status_name(status), error.text);
    if (status != KILN_OK) {
        assert_int_equal(error.status, status);
        expect_text(&error, "copy.gguf: ");
        expect_text(&error, text);
    } else {
        assert_int_not_equal(hash, 0);
    }
}

#endif
