/* The header of one part: a cursor that never leaves the bytes, keys, and tensor infos. */
#include "gguf_internal.h"

#include <inttypes.h>

typedef struct cursor {
    const unsigned char *base;
    size_t size, at;
    const gguf_label *label;
    kiln_error *error;
} cursor;

static size_t left_of(const cursor *c) {
    return c->size - c->at;
}

/* The next `n` bytes, which are `what`. */
static kiln_status take(cursor *c, uint64_t n, const char *what, const unsigned char **out) {
    *out = c->base + c->at;
    if (n > left_of(c))
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT,
                         "truncated or damaged at byte %zu: %s takes %" PRIu64 " bytes, %zu are left", c->at,
                         what, n, left_of(c));
    c->at += (size_t)n;
    return KILN_OK;
}

static kiln_status take_u32(cursor *c, const char *what, uint32_t *out) {
    const unsigned char *bytes;
    kiln_status status = take(c, sizeof *out, what, &bytes);
    if (status == KILN_OK)
        memcpy(out, bytes, sizeof *out);
    return status;
}

static kiln_status take_u64(cursor *c, const char *what, uint64_t *out) {
    const unsigned char *bytes;
    kiln_status status = take(c, sizeof *out, what, &bytes);
    if (status == KILN_OK)
        memcpy(out, bytes, sizeof *out);
    return status;
}

/* A key or tensor name: at most `most` bytes, fit to be printed. */
static kiln_status take_name(cursor *c, const char *what, size_t number, size_t most, const char **name,
                             size_t *size) {
    const unsigned char *bytes;
    size_t start = c->at;
    uint64_t length = 0;
    kiln_status status = take_u64(c, what, &length);
    if (status != KILN_OK || (status = take(c, length, what, &bytes)) != KILN_OK)
        return status;
    if (length > most)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_LIMIT,
                         "%s %zu at byte %zu is %" PRIu64 " bytes long, at most %zu are allowed", what,
                         number, start, length, most);
    *name = (const char *)bytes;
    *size = (size_t)length;
    const char *wrong = kiln_gguf__bad_name(*name, *size);
    if (wrong != NULL)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT, "%s %zu at byte %zu %s", what, number, start,
                         wrong);
    return KILN_OK;
}

/* ---- Header ----------------------------------------------------------------------------------------- */

/* One of the two counts; each item takes at least `least` bytes, so the file bounds it. */
static kiln_status take_count(cursor *c, const char *what, size_t least, uint64_t *out) {
    kiln_status status = take_u64(c, what, out);
    if (status != KILN_OK)
        return status;
    if (*out > (c->size - GGUF_HEADER_SIZE) / least)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT,
                         "the header claims %" PRIu64
                         " %s of at least %zu bytes each, but only %zu bytes follow",
                         *out, what, least, c->size - GGUF_HEADER_SIZE);
    if (*out > INT32_MAX)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_LIMIT, "%" PRIu64 " %s, at most 2^31 are allowed",
                         *out, what);
    return KILN_OK;
}

static kiln_status parse_start(cursor *c, uint32_t *version, uint64_t *tensors, uint64_t *kvs) {
    const unsigned char *magic;
    kiln_status status = take(c, 4, "the magic", &magic);
    if (status != KILN_OK)
        return status;
    if (memcmp(magic, "GGUF", 4) != 0)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT,
                         "begins with bytes %02x %02x %02x %02x, expected \"GGUF\": not a GGUF file",
                         magic[0], magic[1], magic[2], magic[3]);
    if ((status = take_u32(c, "the version", version)) != KILN_OK)
        return status;
    if (*version == 1 || *version == 0x02000000 || *version == 0x03000000)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_UNSUPPORTED,
                         "is GGUF %s; versions 2 and 3, little-endian, are read: convert it anew",
                         *version == 1 ? "version 1" : "for big-endian machines");
    if (*version != 2 && *version != 3)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT,
                         "has GGUF version %" PRIu32 ", expected 2 or 3 (at byte 4)", *version);
    if ((status = take_count(c, "tensors", GGUF_MIN_TENSOR, tensors)) != KILN_OK)
        return status;
    return take_count(c, "keys", GGUF_MIN_KV, kvs);
}

/* ---- Values ----------------------------------------------------------------------------------------- */

static kiln_status take_type(cursor *c, const gguf_kv_entry *e, const char *what, kiln_gguf_type *out) {
    uint32_t number = 0;
    kiln_status status = take_u32(c, "a value type", &number);
    if (status == KILN_OK && number >= KILN_GGUF_TYPE_COUNT)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT,
                         "key '%.*s': %s type %" PRIu32 " at byte %zu, expected 0 to %d", GGUF_KEY(e), what,
                         number, c->at - 4, KILN_GGUF_TYPE_COUNT - 1);
    *out = (kiln_gguf_type)number;
    return status;
}

/* The `count` elements of e->kv, which begin here. */
static kiln_status take_elements(cursor *c, gguf_kv_entry *e, uint64_t count) {
    size_t start = c->at, scalar = kiln_gguf__scalar_size(e->kv.element);
    size_t least = scalar != 0 ? scalar : sizeof(uint64_t);
    const unsigned char *bytes = c->base + start;
    kiln_status status = KILN_OK;
    if (count > left_of(c) / least)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT,
                         "key '%.*s' at byte %zu: %" PRIu64
                         " values of type %s do not fit the %zu bytes left",
                         GGUF_KEY(e), start, count, kiln_gguf_type_name(e->kv.element), left_of(c));
    if (scalar != 0) {
        status = take(c, count * scalar, "a value", &bytes);
    } else {
        for (uint64_t i = 0, length = 0; status == KILN_OK && i < count; i++) {
            const unsigned char *text;
            if ((status = take_u64(c, "the length of a string", &length)) == KILN_OK)
                status = take(c, length, "a string", &text);
        }
    }
    for (uint64_t i = 0; status == KILN_OK && e->kv.element == KILN_GGUF_BOOL && i < count; i++)
        if (bytes[i] > 1)
            status = GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT,
                               "key '%.*s': a bool of value %d at byte %zu, expected 0 or 1", GGUF_KEY(e),
                               bytes[i], start + (size_t)i);
    e->kv.count = (int64_t)count;
    e->kv.data = bytes;
    e->kv.bytes = c->at - start;
    return status;
}

static kiln_status parse_kv(cursor *c, size_t number, gguf_kv_entry *e) {
    uint64_t count = 1;
    memset(e, 0, sizeof *e);
    kiln_status status = take_name(c, "key", number, GGUF_MAX_KEY, &e->kv.key, &e->key_size);
    if (status != KILN_OK || (status = take_type(c, e, "value", &e->kv.type)) != KILN_OK)
        return status;
    e->kv.element = e->kv.type;
    if (e->kv.type == KILN_GGUF_ARRAY) {
        if ((status = take_type(c, e, "element", &e->kv.element)) != KILN_OK ||
            (status = take_u64(c, "the length of an array", &count)) != KILN_OK)
            return status;
        if (e->kv.element == KILN_GGUF_ARRAY)
            return GGUF_FAIL(
                c->label, c->error, KILN_ERROR_FORMAT,
                "key '%.*s' is an array of arrays (element type at byte %zu), which is not allowed",
                GGUF_KEY(e), c->at - 12);
    }
    return take_elements(c, e, count);
}

/* ---- Keys ------------------------------------------------------------------------------------------- */

static int compare_keys(const void *items, uint32_t a, uint32_t b) {
    const gguf_kv_entry *entries = items;
    return strcmp(entries[a].kv.key, entries[b].kv.key);
}

static bool is_same_value(const kiln_gguf_kv *a, const kiln_gguf_kv *b) {
    return a->type == b->type && a->element == b->element && a->count == b->count && a->bytes == b->bytes &&
           memcmp(a->data, b->data, a->bytes) == 0;
}

/* Copies the keys out of the file, so that they end in NUL. */
static bool pool_keys(const kiln_allocator *a, gguf_keys *keys) {
    size_t size = 0;
    for (size_t i = 0; i < keys->count; i++)
        size += keys->items[i].key_size + 1; /* below twice the file's size */
    keys->pool = KILN_NEW(a, char, size);
    if (keys->pool == NULL)
        return false;
    keys->pool_size = size;
    char *next = keys->pool;
    for (size_t i = 0; i < keys->count; i++) {
        gguf_kv_entry *e = &keys->items[i];
        memcpy(next, e->kv.key, e->key_size);
        next[e->key_size] = '\0';
        e->kv.key = next;
        next += e->key_size + 1;
    }
    return true;
}

/* Sorts the index; drops later entries that repeat an earlier one, refuses those that contradict it. */
static kiln_status index_keys(const kiln_allocator *a, const gguf_label *label, gguf_keys *keys,
                              kiln_error *error) {
    keys->index = KILN_NEW(a, uint32_t, keys->count);
    if (keys->index == NULL)
        return GGUF_FAIL(label, error, KILN_ERROR_MEMORY, "no memory for an index of %zu keys", keys->count);
    keys->index_count = keys->count;
    kiln_gguf__index_sort(keys->items, compare_keys, keys->index, keys->count);
    bool repeated = false;
    for (size_t i = 1, first = 0; i < keys->count; i++) {
        gguf_kv_entry *before = &keys->items[keys->index[first]], *e = &keys->items[keys->index[i]];
        if (strcmp(before->kv.key, e->kv.key) != 0) {
            first = i;
            continue;
        }
        if (!is_same_value(&before->kv, &e->kv))
            return GGUF_FAIL(label, error, KILN_ERROR_FORMAT,
                             "key '%.120s' stands twice with different values (a %s, then a %s)", e->kv.key,
                             kiln_gguf_type_name(before->kv.type), kiln_gguf_type_name(e->kv.type));
        e->key_size = 0; /* marks it: no key is empty */
        repeated = true;
    }
    if (!repeated)
        return KILN_OK;
    size_t kept = 0;
    for (size_t i = 0; i < keys->count; i++)
        if (keys->items[i].key_size != 0)
            keys->items[kept++] = keys->items[i];
    keys->count = kept;
    kiln_gguf__index_sort(keys->items, compare_keys, keys->index, kept);
    return KILN_OK;
}

static kiln_status parse_keys(const kiln_allocator *a, cursor *c, uint64_t count, gguf_keys *keys) {
    for (uint64_t i = 0; i < count; i++) {
        if (!KILN_GROW(a, *keys, keys->count + 1))
            return GGUF_FAIL(c->label, c->error, KILN_ERROR_MEMORY, "no memory for key %zu", keys->count + 1);
        kiln_status status = parse_kv(c, keys->count, &keys->items[keys->count]);
        if (status != KILN_OK)
            return status;
        keys->count++;
    }
    if (!pool_keys(a, keys))
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_MEMORY, "no memory for %zu keys", keys->count);
    return index_keys(a, c->label, keys, c->error);
}

const kiln_gguf_kv *kiln_gguf__keys_find(const gguf_keys *keys, const char *key) {
    size_t low = 0, high = keys->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const kiln_gguf_kv *kv = &keys->items[keys->index[middle]].kv;
        int order = strcmp(kv->key, key);
        if (order == 0)
            return kv;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void kiln_gguf__keys_release(const kiln_allocator *a, gguf_keys *keys) {
    KILN_DELETE(a, keys->pool, char, keys->pool_size);
    KILN_DELETE(a, keys->index, uint32_t, keys->index_count);
    KILN_ARRAY_FREE(a, *keys);
    memset(keys, 0, sizeof *keys);
}

/* ---- Tensor infos ----------------------------------------------------------------------------------- */

static kiln_status take_tensor_type(cursor *c, gguf_tensor_entry *e) {
    uint32_t id = 0;
    kiln_status status = take_u32(c, "a tensor type", &id);
    if (status != KILN_OK)
        return status;
    e->tensor.type = kiln_gguf_tensor_type_get(id);
    if (e->tensor.type == NULL)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_UNSUPPORTED,
                         "tensor '%.*s' has ggml type %" PRIu32
                         " (at byte %zu), which is unknown or was removed "
                         "from ggml: quantise the model anew to a known type",
                         GGUF_NAME(e), id, c->at - 4);
    e->tensor.dtype = e->tensor.type->dtype;
    return KILN_OK;
}

static kiln_status parse_tensor(cursor *c, size_t number, gguf_tensor_entry *e) {
    kiln_gguf_tensor *t = &e->tensor;
    uint32_t ndim = 0;
    uint64_t value = 0;
    memset(e, 0, sizeof *e);
    kiln_status status = take_name(c, "tensor name", number, GGUF_MAX_NAME, &t->name, &e->name_size);
    if (status != KILN_OK || (status = take_u32(c, "the number of dimensions", &ndim)) != KILN_OK)
        return status;
    if (ndim > KILN_GGUF_MAX_DIMS)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_LIMIT,
                         "tensor '%.*s' has %" PRIu32 " dimensions (at byte %zu), at most %d are allowed",
                         GGUF_NAME(e), ndim, c->at - 4, KILN_GGUF_MAX_DIMS);
    t->ndim = (int32_t)ndim;
    for (int32_t i = 0; i < KILN_GGUF_MAX_DIMS; i++)
        t->dims[i] = 1;
    for (int32_t i = t->ndim; i-- > 0;) {
        if ((status = take_u64(c, "a dimension", &value)) != KILN_OK)
            return status;
        if (value > INT64_MAX)
            return GGUF_FAIL(c->label, c->error, KILN_ERROR_OVERFLOW,
                             "tensor '%.*s' has a dimension of %" PRIu64 " (at byte %zu), beyond 63 bits",
                             GGUF_NAME(e), value, c->at - 8);
        t->dims[i] = (int64_t)value;
    }
    if ((status = take_tensor_type(c, e)) != KILN_OK ||
        (status = take_u64(c, "a tensor offset", &value)) != KILN_OK)
        return status;
    if (value > INT64_MAX)
        return GGUF_FAIL(c->label, c->error, KILN_ERROR_FORMAT,
                         "tensor '%.*s' has offset %" PRIu64 " (at byte %zu), beyond 63 bits", GGUF_NAME(e),
                         value, c->at - 8);
    t->offset = (int64_t)value;
    return kiln_gguf__tensor_shape(c->label, e, c->error);
}

/* ---- The whole header ------------------------------------------------------------------------------- */

static kiln_status set_alignment(gguf_file *file, const gguf_keys *keys, kiln_error *error) {
    int64_t alignment = KILN_GGUF_DEFAULT_ALIGNMENT;
    kiln_status status = kiln_gguf__optional_int(keys, &file->label, "general.alignment", GGUF_MIN_ALIGNMENT,
                                                 GGUF_MAX_ALIGNMENT, &alignment, error);
    if (status != KILN_OK)
        return status;
    if ((alignment & (alignment - 1)) != 0)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_FORMAT,
                         "general.alignment is %" PRId64 ", expected a power of two", alignment);
    file->part.alignment = (uint32_t)alignment;
    return KILN_OK;
}

kiln_status kiln_gguf__parse(const kiln_allocator *a, gguf_file *file, uint32_t part, gguf_keys *keys,
                             gguf_tensors *tensors, kiln_error *error) {
    cursor c = {file->part.base, file->part.size, 0, &file->label, error};
    uint64_t tensor_count = 0, key_count = 0;
    size_t first = tensors->count;
    kiln_status status = parse_start(&c, &file->part.version, &tensor_count, &key_count);
    if (status != KILN_OK || (status = parse_keys(a, &c, key_count, keys)) != KILN_OK ||
        (status = set_alignment(file, keys, error)) != KILN_OK)
        return status;
    for (uint64_t i = 0; i < tensor_count; i++) {
        if (tensors->count >= INT32_MAX)
            return GGUF_FAIL(c.label, error, KILN_ERROR_LIMIT, "more than %d tensors in all parts",
                             INT32_MAX);
        if (!KILN_GROW(a, *tensors, tensors->count + 1))
            return GGUF_FAIL(c.label, error, KILN_ERROR_MEMORY, "no memory for tensor %zu",
                             tensors->count + 1);
        if ((status = parse_tensor(&c, (size_t)i, &tensors->items[tensors->count])) != KILN_OK)
            return status;
        tensors->items[tensors->count++].tensor.part = part;
    }
    file->part.data_offset = ((int64_t)c.at + file->part.alignment - 1) / file->part.alignment *
                             file->part.alignment; /* the file is below 2^62 bytes */
    if (tensor_count == 0)
        return KILN_OK;
    return kiln_gguf__tensors_place(a, file, tensors, first, error);
}
