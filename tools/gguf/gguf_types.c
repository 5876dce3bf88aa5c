/* The tables of value types and tensor types, and what is a legal name and shape. */
#include "gguf_internal.h"

static const struct {
    const char *name;
    size_t size;
} value_types[KILN_GGUF_TYPE_COUNT] = {
    [KILN_GGUF_U8] = {"u8", 1},       [KILN_GGUF_I8] = {"i8", 1},     [KILN_GGUF_U16] = {"u16", 2},
    [KILN_GGUF_I16] = {"i16", 2},     [KILN_GGUF_U32] = {"u32", 4},   [KILN_GGUF_I32] = {"i32", 4},
    [KILN_GGUF_F32] = {"f32", 4},     [KILN_GGUF_BOOL] = {"bool", 1}, [KILN_GGUF_STRING] = {"string", 0},
    [KILN_GGUF_ARRAY] = {"array", 0}, [KILN_GGUF_U64] = {"u64", 8},   [KILN_GGUF_I64] = {"i64", 8},
    [KILN_GGUF_F64] = {"f64", 8},
};

static const kiln_gguf_tensor_type tensor_types[] = {
#define GGUF_TENSOR_TYPE(id, name, block, bytes, dtype) {name, id, block, bytes, dtype},
#include "gguf_types.inc"
#undef GGUF_TENSOR_TYPE
};

#define TENSOR_TYPE_COUNT (sizeof tensor_types / sizeof tensor_types[0])

const char *kiln_gguf_type_name(kiln_gguf_type type) {
    return (unsigned)type < KILN_GGUF_TYPE_COUNT ? value_types[type].name : "unknown";
}

size_t kiln_gguf__scalar_size(kiln_gguf_type type) {
    return value_types[type].size;
}

const kiln_gguf_tensor_type *kiln_gguf_tensor_type_get(uint32_t id) {
    for (size_t i = 0; i < TENSOR_TYPE_COUNT; i++)
        if (tensor_types[i].id == id)
            return &tensor_types[i];
    return NULL;
}

const kiln_gguf_tensor_type *kiln_gguf_tensor_type_by_name(const char *name) {
    for (size_t i = 0; name != NULL && i < TENSOR_TYPE_COUNT; i++)
        if (strcmp(tensor_types[i].name, name) == 0)
            return &tensor_types[i];
    return NULL;
}

const kiln_gguf_tensor_type *kiln_gguf_tensor_type_of(kiln_dtype dtype) {
    for (size_t i = 0; dtype != KILN_DTYPE_NONE && i < TENSOR_TYPE_COUNT; i++)
        if (tensor_types[i].dtype == dtype)
            return &tensor_types[i];
    return NULL;
}

size_t kiln_gguf__utf8(const unsigned char *text, size_t size) {
    unsigned char lead = text[0];
    if (lead < 0x80)
        return 1;
    size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    /* Longer than needed, a surrogate, or beyond U+10FFFF: seen from the second byte. */
    if ((lead == 0xE0 && text[1] < 0xA0) || (lead == 0xED && text[1] > 0x9F) ||
        (lead == 0xF0 && text[1] < 0x90) || (lead == 0xF4 && text[1] > 0x8F))
        return 0;
    return length;
}

const char *kiln_gguf__bad_name(const char *text, size_t size) {
    const unsigned char *bytes = (const unsigned char *)text;
    if (size == 0)
        return "is empty";
    for (size_t i = 0, length; i < size; i += length) {
        length = kiln_gguf__utf8(bytes + i, size - i);
        if (length == 0)
            return "is not valid UTF-8";
        if (bytes[i] < 0x20 || bytes[i] == 0x7F)
            return "has a control character in it";
    }
    return NULL;
}

kiln_status kiln_gguf__tensor_bytes(const kiln_gguf_tensor_type *type, int32_t ndim, const int64_t *dims,
                                    int64_t *bytes) {
    if (ndim < 0 || ndim > KILN_GGUF_MAX_DIMS)
        return KILN_ERROR_SHAPE;
    int64_t inner = ndim > 0 ? dims[ndim - 1] : 1, elements = 1, size = type->bytes;
    if (inner < 0 || inner % type->block != 0)
        return KILN_ERROR_SHAPE;
    bool empty = false;
    for (int32_t i = 0; i < ndim; i++) {
        if (dims[i] < 0)
            return KILN_ERROR_SHAPE;
        int64_t blocks = i == ndim - 1 ? dims[i] / type->block : dims[i];
        empty = empty || dims[i] == 0;
        if (dims[i] != 0 && (!kiln__mul(elements, dims[i], &elements) || !kiln__mul(size, blocks, &size)))
            return KILN_ERROR_OVERFLOW;
    }
    *bytes = empty ? 0 : size;
    return KILN_OK;
}
