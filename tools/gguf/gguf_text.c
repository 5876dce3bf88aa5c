/* A value as text for people. */
#include "gguf_internal.h"
#include "fp_mode.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* Writes what fits and counts what would have been written. */
typedef struct text {
    char *buffer;
    size_t size, length;
} text;

static void put_bytes(text *t, const void *bytes, size_t n) {
    if (t->length + 1 < t->size) {
        size_t room = t->size - 1 - t->length;
        memcpy(t->buffer + t->length, bytes, n < room ? n : room);
    }
    t->length += n;
}

KILN_PRINTF(2, 3) static void put(text *t, const char *format, ...) {
    char piece[64];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    if (n > 0)
        put_bytes(t, piece, (size_t)n < sizeof piece ? (size_t)n : sizeof piece - 1);
}

static void put_string(text *t, kiln_gguf_string s) {
    const unsigned char *bytes = (const unsigned char *)s.data;
    put_bytes(t, "\"", 1);
    for (size_t i = 0, length; i < s.size; i += length) {
        length = kiln_gguf__utf8(bytes + i, s.size - i);
        if (bytes[i] == '"' || bytes[i] == '\\')
            put(t, "\\%c", bytes[i]);
        else if (bytes[i] == '\n')
            put_bytes(t, "\\n", 2);
        else if (length == 0 || bytes[i] < 0x20 || bytes[i] == 0x7F)
            put(t, "\\x%02x", bytes[i]);
        else
            put_bytes(t, bytes + i, length);
        if (length == 0)
            length = 1;
    }
    put_bytes(t, "\"", 1);
}

#define PUT(TYPE, NAME, ...)                                                                                 \
    static void put_##NAME(text *t, const unsigned char *bytes) {                                            \
        TYPE v;                                                                                              \
        memcpy(&v, bytes, sizeof v);                                                                         \
        put(t, __VA_ARGS__);                                                                                 \
    }

PUT(uint8_t, u8, "%" PRIu8, v)
PUT(int8_t, i8, "%" PRId8, v)
PUT(uint16_t, u16, "%" PRIu16, v)
PUT(int16_t, i16, "%" PRId16, v)
PUT(uint32_t, u32, "%" PRIu32, v)
PUT(int32_t, i32, "%" PRId32, v)
PUT(uint64_t, u64, "%" PRIu64, v)
PUT(int64_t, i64, "%" PRId64, v)
PUT(float, f32, "%.9g", (double)v)
PUT(double, f64, "%.17g", v)
PUT(uint8_t, bool, "%s", v != 0 ? "true" : "false")

static void (*const printers[KILN_GGUF_TYPE_COUNT])(text *, const unsigned char *) = {
    [KILN_GGUF_U8] = put_u8,   [KILN_GGUF_I8] = put_i8,     [KILN_GGUF_U16] = put_u16,
    [KILN_GGUF_I16] = put_i16, [KILN_GGUF_U32] = put_u32,   [KILN_GGUF_I32] = put_i32,
    [KILN_GGUF_F32] = put_f32, [KILN_GGUF_BOOL] = put_bool, [KILN_GGUF_U64] = put_u64,
    [KILN_GGUF_I64] = put_i64, [KILN_GGUF_F64] = put_f64,
};

size_t kiln_gguf_kv_text(const kiln_gguf_kv *kv, int64_t max_items, char *buffer, size_t size) {
    text t = {buffer, size, 0};
    if (size > 0)
        buffer[0] = '\0';
    if (kv == NULL)
        return 0;
    bool is_array = kv->type == KILN_GGUF_ARRAY;
    int64_t shown = is_array && kv->count > max_items ? (max_items > 0 ? max_items : 0) : kv->count;
    kiln_gguf_strings strings = kiln_gguf_strings_of(kv);
    kiln_gguf_string s;
    kiln__fp mode = kiln__enter_fp_mode();
    if (is_array)
        put(&t, "[");
    for (int64_t i = 0; i < shown; i++) {
        if (i > 0)
            put(&t, ", ");
        if (kiln_gguf_strings_next(&strings, &s))
            put_string(&t, s);
        else
            printers[kv->element](&t, (const unsigned char *)kv->data +
                                          (size_t)i * kiln_gguf__scalar_size(kv->element));
    }
    if (shown < kv->count)
        put(&t, "%s… of %" PRId64, shown > 0 ? ", " : "", kv->count);
    if (is_array)
        put(&t, "]");
    kiln__leave_fp_mode(mode);
    if (size > 0)
        buffer[t.length < size ? t.length : size - 1] = '\0';
    return t.length;
}
