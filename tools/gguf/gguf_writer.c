/* Collects keys and tensors to be written. */
#include "gguf_writer.h"

#include <inttypes.h>

/* Remembers the first error. */
#define WRITE_FAIL(W, STATUS, ...) GGUF_ERROR(&(W)->failed, (STATUS), __VA_ARGS__)

kiln_status kiln_gguf_writer_create(kiln_allocator allocator, kiln_gguf_writer **out, kiln_error *error) {
    if (out == NULL)
        return GGUF_ERROR(error, KILN_ERROR_ARGUMENT, "GGUF writer: out is NULL");
    *out = NULL;
    kiln_allocator a = kiln__allocator_or_default(&allocator);
    kiln_gguf_writer *w = KILN_NEW(&a, kiln_gguf_writer, 1);
    if (w == NULL)
        return GGUF_ERROR(error, KILN_ERROR_MEMORY, "GGUF writer: no memory (%zu bytes)", sizeof *w);
    w->allocator = a;
    *out = w;
    return KILN_OK;
}

void kiln_gguf_writer_destroy(kiln_gguf_writer *writer) {
    if (writer == NULL)
        return;
    kiln_allocator a = writer->allocator;
    KILN_ARRAY_FREE(&a, writer->keys);
    KILN_ARRAY_FREE(&a, writer->names);
    KILN_ARRAY_FREE(&a, writer->kvs);
    KILN_ARRAY_FREE(&a, writer->tensors);
    KILN_DELETE(&a, writer, kiln_gguf_writer, 1);
}

/* ---- Adding keys ------------------------------------------------------------------------------------ */

/* The status to return before doing anything, KILN_OK to go on. `why` ends the message about a name of more
 * than `most` bytes. */
static kiln_status check_name(kiln_gguf_writer *w, const char *what, const char *name, size_t most,
                              const char *why) {
    if (w == NULL)
        return KILN_ERROR_ARGUMENT;
    if (w->failed.status != KILN_OK)
        return w->failed.status;
    if (name == NULL)
        return WRITE_FAIL(w, KILN_ERROR_ARGUMENT, "GGUF writer: %s is NULL", what);
    size_t size = strlen(name);
    if (size > most)
        return WRITE_FAIL(w, KILN_ERROR_LIMIT,
                          "GGUF writer: %s '%.*s...' is %zu bytes long, at most %zu are allowed%s", what,
                          kiln_gguf__clip(name, size), name, size, most, why);
    const char *wrong = kiln_gguf__bad_name(name, size);
    if (wrong != NULL)
        return WRITE_FAIL(w, KILN_ERROR_ARGUMENT, "GGUF writer: %s '%.120s' %s", what, name, wrong);
    return KILN_OK;
}

/* Begins a key whose value takes `size` more bytes after its type. */
static kiln_status begin_kv(kiln_gguf_writer *w, const char *key, kiln_gguf_type type, size_t size) {
    kiln_status status = check_name(w, "key", key, GGUF_MAX_KEY, "");
    if (status != KILN_OK)
        return status;
    size_t key_size = strlen(key), need;
    if (__builtin_add_overflow(size, 8 + key_size + 4, &need) || !gguf_reserve(w, &w->keys, need) ||
        !KILN_GROW(&w->allocator, w->kvs, w->kvs.count + 1))
        return WRITE_FAIL(w, KILN_ERROR_MEMORY, "GGUF writer: no memory for key '%.120s' (%zu bytes)", key,
                          size);
    gguf_append_u64(&w->keys, key_size);
    w->kvs.items[w->kvs.count++] = (gguf_written_kv){w->keys.count, key_size};
    gguf_append(&w->keys, key, key_size);
    gguf_append_u32(&w->keys, (uint32_t)type);
    return KILN_OK;
}

/* Data lies at multiples of 32: a file must not say otherwise. */
static kiln_status check_alignment(kiln_gguf_writer *w, const char *key, kiln_gguf_type type,
                                   const void *value) {
    uint32_t alignment = 0;
    if (w == NULL || key == NULL || strcmp(key, "general.alignment") != 0 || w->failed.status != KILN_OK)
        return KILN_OK;
    if (type == KILN_GGUF_U32)
        memcpy(&alignment, value, sizeof alignment);
    if (alignment != KILN_GGUF_DEFAULT_ALIGNMENT)
        return WRITE_FAIL(
            w, KILN_ERROR_ARGUMENT,
            "GGUF writer: general.alignment may only be the u32 %d, which is used: leave it out",
            KILN_GGUF_DEFAULT_ALIGNMENT);
    return KILN_OK;
}

static kiln_status add_scalar(kiln_gguf_writer *w, const char *key, kiln_gguf_type type, const void *value) {
    size_t size = kiln_gguf__scalar_size(type);
    kiln_status status = check_alignment(w, key, type, value);
    if (status != KILN_OK || (status = begin_kv(w, key, type, size)) != KILN_OK)
        return status;
    gguf_append(&w->keys, value, size);
    return KILN_OK;
}

#define ADD_SCALAR(NAME, CTYPE, TYPE)                                                                        \
    kiln_status kiln_gguf_writer_add_##NAME(kiln_gguf_writer *writer, const char *key, CTYPE value) {        \
        return add_scalar(writer, key, TYPE, &value);                                                        \
    }

ADD_SCALAR(u8, uint8_t, KILN_GGUF_U8)
ADD_SCALAR(i8, int8_t, KILN_GGUF_I8)
ADD_SCALAR(u16, uint16_t, KILN_GGUF_U16)
ADD_SCALAR(i16, int16_t, KILN_GGUF_I16)
ADD_SCALAR(u32, uint32_t, KILN_GGUF_U32)
ADD_SCALAR(i32, int32_t, KILN_GGUF_I32)
ADD_SCALAR(u64, uint64_t, KILN_GGUF_U64)
ADD_SCALAR(i64, int64_t, KILN_GGUF_I64)
ADD_SCALAR(f32, float, KILN_GGUF_F32)
ADD_SCALAR(f64, double, KILN_GGUF_F64)

kiln_status kiln_gguf_writer_add_bool(kiln_gguf_writer *writer, const char *key, bool value) {
    uint8_t byte = value ? 1 : 0;
    return add_scalar(writer, key, KILN_GGUF_BOOL, &byte);
}

kiln_status kiln_gguf_writer_add_bytes(kiln_gguf_writer *writer, const char *key, kiln_gguf_string value) {
    kiln_status status = check_alignment(writer, key, KILN_GGUF_STRING, NULL);
    if (status != KILN_OK)
        return status;
    if (writer != NULL && writer->failed.status == KILN_OK && value.data == NULL)
        return WRITE_FAIL(writer, KILN_ERROR_ARGUMENT, "GGUF writer: the string for key '%.120s' is NULL",
                          key != NULL ? key : "(NULL)");
    size_t size;
    if (__builtin_add_overflow(value.size, sizeof(uint64_t), &size))
        size = SIZE_MAX;
    if ((status = begin_kv(writer, key, KILN_GGUF_STRING, size)) != KILN_OK)
        return status;
    gguf_append_u64(&writer->keys, value.size);
    gguf_append(&writer->keys, value.data, value.size);
    return KILN_OK;
}

kiln_status kiln_gguf_writer_add_string(kiln_gguf_writer *writer, const char *key, const char *text) {
    return kiln_gguf_writer_add_bytes(writer, key, (kiln_gguf_string){text, text != NULL ? strlen(text) : 0});
}

static kiln_status begin_array(kiln_gguf_writer *w, const char *key, kiln_gguf_type element, size_t count,
                               size_t size) {
    kiln_status status = check_alignment(w, key, KILN_GGUF_ARRAY, NULL);
    if (__builtin_add_overflow(size, (size_t)12, &size))
        size = SIZE_MAX; /* no allocator has that */
    if (status != KILN_OK || (status = begin_kv(w, key, KILN_GGUF_ARRAY, size)) != KILN_OK)
        return status;
    gguf_append_u32(&w->keys, (uint32_t)element);
    gguf_append_u64(&w->keys, count);
    return KILN_OK;
}

kiln_status kiln_gguf_writer_add_array(kiln_gguf_writer *writer, const char *key, kiln_gguf_type element,
                                       const void *values, size_t count) {
    kiln_status status = check_name(writer, "key", key, GGUF_MAX_KEY, "");
    if (status != KILN_OK)
        return status;
    size_t scalar = (unsigned)element < KILN_GGUF_TYPE_COUNT ? kiln_gguf__scalar_size(element) : 0, size;
    if (scalar == 0)
        return WRITE_FAIL(writer, KILN_ERROR_ARGUMENT,
                          "GGUF writer: array '%.120s' of %s, expected scalars (strings: add_strings)", key,
                          kiln_gguf_type_name(element));
    if (values == NULL && count != 0)
        return WRITE_FAIL(writer, KILN_ERROR_ARGUMENT, "GGUF writer: array '%.120s' is NULL, with %zu values",
                          key, count);
    for (size_t i = 0; element == KILN_GGUF_BOOL && i < count; i++)
        if (((const unsigned char *)values)[i] > 1)
            return WRITE_FAIL(writer, KILN_ERROR_ARGUMENT,
                              "GGUF writer: array '%.120s': bool %zu has value %d, expected 0 or 1", key, i,
                              ((const unsigned char *)values)[i]);
    if (__builtin_mul_overflow(scalar, count, &size))
        size = SIZE_MAX;
    if ((status = begin_array(writer, key, element, count, size)) == KILN_OK)
        gguf_append(&writer->keys, values, size);
    return status;
}

kiln_status kiln_gguf_writer_add_strings(kiln_gguf_writer *writer, const char *key,
                                         const kiln_gguf_string *values, size_t count) {
    kiln_status status = check_name(writer, "key", key, GGUF_MAX_KEY, "");
    if (status != KILN_OK)
        return status;
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        if (values == NULL || values[i].data == NULL)
            return WRITE_FAIL(writer, KILN_ERROR_ARGUMENT, "GGUF writer: array '%.120s': string %zu is NULL",
                              key, i);
        if (__builtin_add_overflow(size, values[i].size, &size) ||
            __builtin_add_overflow(size, (size_t)8, &size))
            return WRITE_FAIL(writer, KILN_ERROR_MEMORY, "GGUF writer: array '%.120s': strings beyond memory",
                              key);
    }
    if ((status = begin_array(writer, key, KILN_GGUF_STRING, count, size)) != KILN_OK)
        return status;
    for (size_t i = 0; i < count; i++) {
        gguf_append_u64(&writer->keys, values[i].size);
        gguf_append(&writer->keys, values[i].data, values[i].size);
    }
    return KILN_OK;
}

kiln_status kiln_gguf_writer_add_kv(kiln_gguf_writer *writer, const kiln_gguf_kv *kv) {
    if (writer != NULL && kv == NULL && writer->failed.status == KILN_OK)
        return WRITE_FAIL(writer, KILN_ERROR_ARGUMENT, "GGUF writer: kv is NULL");
    if (writer == NULL || kv == NULL)
        return KILN_ERROR_ARGUMENT;
    kiln_status status = check_alignment(writer, kv->key, kv->type, kv->data);
    if (status == KILN_OK)
        status = kv->type == KILN_GGUF_ARRAY
                     ? begin_array(writer, kv->key, kv->element, (size_t)kv->count, kv->bytes)
                     : begin_kv(writer, kv->key, kv->type, kv->bytes);
    if (status == KILN_OK)
        gguf_append(&writer->keys, kv->data, kv->bytes);
    return status;
}

/* ---- Adding tensors --------------------------------------------------------------------------------- */

kiln_status kiln_gguf_writer_add_tensor(kiln_gguf_writer *writer, const char *name,
                                        const kiln_gguf_tensor_type *type, int32_t ndim, const int64_t *dims,
                                        const void *data) {
    kiln_status status = check_name(writer, "tensor name", name, GGUF_MAX_WRITTEN,
                                    ": ggml refuses a file with a longer one; use a shorter name");
    if (status != KILN_OK)
        return status;
    gguf_written_tensor t = {.type = type, .ndim = ndim, .data = data, .name = writer->names.count};
    if (type == NULL || type != kiln_gguf_tensor_type_get(type->id) || (dims == NULL && ndim != 0))
        return WRITE_FAIL(
            writer, KILN_ERROR_ARGUMENT,
            "GGUF writer: tensor '%s': its type or dims is NULL, or the type not from the table", name);
    if ((status = kiln_gguf__tensor_bytes(type, ndim, dims, &t.size)) != KILN_OK)
        return WRITE_FAIL(
            writer, status,
            status == KILN_ERROR_SHAPE
                ? "GGUF writer: tensor '%s': %d dimensions, expected 0 to 4, none negative, the last a "
                  "multiple of %u for type %s"
                : "GGUF writer: tensor '%s': %d dimensions, blocks of %u of type %s: its size does "
                  "not fit 63 bits",
            name, (int)ndim, type->block, type->name);
    if (data == NULL && t.size != 0)
        return WRITE_FAIL(writer, KILN_ERROR_ARGUMENT,
                          "GGUF writer: tensor '%s' of %" PRId64 " bytes: data is NULL", name, t.size);
    for (int32_t i = 0; i < ndim; i++)
        t.dims[i] = dims[i];
    size_t name_size = strlen(name) + 1;
    if (!gguf_reserve(writer, &writer->names, name_size) ||
        !KILN_GROW(&writer->allocator, writer->tensors, writer->tensors.count + 1))
        return WRITE_FAIL(writer, KILN_ERROR_MEMORY, "GGUF writer: no memory for tensor '%s'", name);
    gguf_append(&writer->names, name, name_size);
    writer->tensors.items[writer->tensors.count++] = t;
    return KILN_OK;
}
