#include "onnx_pb.h"

#include "testdata.h"

#include <stdlib.h>
#include <string.h>

typedef struct cursor {
    const unsigned char *at, *end;
} cursor;

static bool read_varint(cursor *c, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && c->at < c->end; shift += 7) {
        unsigned char byte = *c->at++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool add_dim(onnx_tensor *t, uint64_t dim) {
    if (t->ndim == ONNX_MAX_DIMS || dim > (1u << 20))
        return false;
    t->dims[t->ndim++] = (int64_t)dim;
    return true;
}

/* Skips or keeps one length-delimited field. */
static bool read_bytes(cursor *c, uint64_t field, onnx_tensor *t, cursor *raw) {
    uint64_t size, dim;
    if (!read_varint(c, &size) || size > (uint64_t)(c->end - c->at))
        return false;
    cursor inside = {c->at, c->at + size};
    c->at += size;
    if (field == 9)
        *raw = inside;
    while (field == 1 && inside.at < inside.end) /* packed dims */
        if (!read_varint(&inside, &dim) || !add_dim(t, dim))
            return false;
    return true;
}

static bool read_fields(cursor c, onnx_tensor *t, uint64_t *type, cursor *raw) {
    uint64_t key, value;
    while (c.at < c.end) {
        if (!read_varint(&c, &key))
            return false;
        if ((key & 7) == 2) {
            if (!read_bytes(&c, key >> 3, t, raw))
                return false;
        } else if ((key & 7) == 0) {
            if (!read_varint(&c, &value) || (key >> 3 == 1 && !add_dim(t, value)))
                return false;
            if (key >> 3 == 2)
                *type = value;
        } else {
            return false;
        }
    }
    return true;
}

bool onnx_parse(const void *bytes, size_t size, onnx_tensor *out) {
    cursor c = {bytes, (const unsigned char *)bytes + size}, raw = {NULL, NULL};
    uint64_t type = 0;
    memset(out, 0, sizeof *out);
    if (!read_fields(c, out, &type, &raw) || (type != 1 && type != 7) || raw.at == NULL)
        return false;
    out->n = 1;
    for (uint32_t i = 0; i < out->ndim; i++)
        out->n *= out->dims[i];
    size_t each = type == 1 ? sizeof(float) : sizeof(int64_t);
    if ((size_t)(raw.end - raw.at) != (size_t)out->n * each)
        return false;
    out->value = calloc((size_t)out->n + 1, sizeof *out->value);
    for (int64_t i = 0; out->value != NULL && i < out->n; i++) {
        float f;
        int64_t whole;
        if (type == 1) {
            memcpy(&f, raw.at + (size_t)i * each, each);
            out->value[i] = (double)f;
        } else {
            memcpy(&whole, raw.at + (size_t)i * each, each);
            out->value[i] = (double)whole;
        }
    }
    return out->value != NULL;
}

bool onnx_read(const char *relative, onnx_tensor *out) {
    size_t size;
    void *bytes = testdata_read(relative, &size);
    memset(out, 0, sizeof *out);
    bool ok = bytes != NULL && onnx_parse(bytes, size, out);
    free(bytes);
    return ok;
}

void onnx_free(onnx_tensor *tensor) {
    free(tensor->value);
    memset(tensor, 0, sizeof *tensor);
}
