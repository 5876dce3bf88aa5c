#include "kiln_base.h"

#include "json_scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
} statuses[KILN_STATUS_COUNT] = {
    [KILN_OK] = {"KILN_OK", "success"},
    [KILN_ERROR_ARGUMENT] = {"KILN_ERROR_ARGUMENT", "a call was used wrongly"},
    [KILN_ERROR_SHAPE] = {"KILN_ERROR_SHAPE", "dimensions do not fit"},
    [KILN_ERROR_DTYPE] = {"KILN_ERROR_DTYPE", "this dtype is not taken here"},
    [KILN_ERROR_OVERFLOW] = {"KILN_ERROR_OVERFLOW", "a size does not fit 63 bits"},
    [KILN_ERROR_MEMORY] = {"KILN_ERROR_MEMORY", "out of memory"},
    [KILN_ERROR_UNSUPPORTED] = {"KILN_ERROR_UNSUPPORTED", "not supported here"},
    [KILN_ERROR_FORMAT] = {"KILN_ERROR_FORMAT", "malformed input"},
    [KILN_ERROR_LIMIT] = {"KILN_ERROR_LIMIT", "a cap was exceeded"},
    [KILN_ERROR_BINDING] = {"KILN_ERROR_BINDING", "a binding is missing or unfit"},
    [KILN_ERROR_STALE] = {"KILN_ERROR_STALE", "the plan does not match the graph"},
    [KILN_ERROR_BUSY] = {"KILN_ERROR_BUSY", "the object is running"},
    [KILN_ERROR_DIRTY] = {"KILN_ERROR_DIRTY", "a state may be half written"},
    [KILN_ERROR_INDEX] = {"KILN_ERROR_INDEX", "an index read from data is out of range"},
    [KILN_ERROR_CANCELLED] = {"KILN_ERROR_CANCELLED", "the run was cancelled"},
    [KILN_ERROR_TIMEOUT] = {"KILN_ERROR_TIMEOUT", "the wait timed out"},
    [KILN_ERROR_KERNEL] = {"KILN_ERROR_KERNEL", "a kernel failed"},
    [KILN_ERROR_NUMERIC] = {"KILN_ERROR_NUMERIC", "NaN or Inf was found"},
    [KILN_ERROR_SYSTEM] = {"KILN_ERROR_SYSTEM", "the operating system refused"},
};

const char *kiln_status_name(kiln_status status) {
    return (unsigned)status < KILN_STATUS_COUNT ? statuses[status].name : "KILN_UNKNOWN";
}

const char *kiln_status_text(kiln_status status) {
    return (unsigned)status < KILN_STATUS_COUNT ? statuses[status].text : "unknown status";
}

bool kiln_status_is_transient(kiln_status status) {
    return status == KILN_ERROR_BUSY || status == KILN_ERROR_CANCELLED || status == KILN_ERROR_TIMEOUT ||
           status == KILN_ERROR_MEMORY;
}

/* Bytes of the character at `text` if a reader may be shown it as it is; 0: it is a control character, or not
 * UTF-8. */
static size_t plain_length(const char *text, size_t size) {
    const unsigned char *p = (const unsigned char *)text;
    const bool control = p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && size > 1 && p[1] < 0xa0);
    return control ? 0 : kiln__utf8_length(text, size);
}

/* Names, tokens and paths come into texts as others wrote them: what is not plain is shown as \xNN. */
static void put_escaped(kiln_error *error, const char *text, size_t size, bool cut) {
    enum { ROOM = KILN_ERROR_TEXT_SIZE - 4 }; /* and "..." */
    size_t used = 0, whole = 0;               /* bytes; those after which "..." may follow */
    for (size_t at = 0; at < size;) {
        const size_t n = plain_length(text + at, size - at), wide = n > 0 ? n : 4;
        if (used + wide >= KILN_ERROR_TEXT_SIZE) {
            cut = true;
            break;
        }
        if (n > 0)
            memcpy(error->text + used, text + at, n);
        else
            snprintf(error->text + used, 5, "\\x%02x", (unsigned)(unsigned char)text[at]);
        used += wide;
        at += n > 0 ? n : 1;
        whole = used <= ROOM ? used : whole;
    }
    error->text[used] = '\0';
    if (cut)
        memcpy(error->text + whole, "...", 4);
}

/* A text that was cut may end in the middle of a character. */
static size_t whole_characters(const char *text, size_t size) {
    size_t from = size;
    while (from > 0 && size - from < 3 && ((unsigned char)text[from - 1] & 0xc0) == 0x80)
        from--;
    if (from > 0 && (unsigned char)text[from - 1] >= 0xc0 &&
        kiln__utf8_length(text + from - 1, size - from + 1) == 0)
        return from - 1;
    return size;
}

kiln_status kiln_error_set(kiln_error *error, kiln_status status, const char *format, ...) {
    if (error == NULL)
        return status;
    char text[KILN_ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const bool cut = n >= (int)sizeof text;
    error->status = status;
    put_escaped(error, text, cut ? whole_characters(text, sizeof text - 1) : n > 0 ? (size_t)n : 0, cut);
    return status;
}

static void *default_alloc(void *context, size_t size, size_t align) {
    (void)context;
    if (align <= _Alignof(max_align_t))
        return malloc(size ? size : 1);
    size_t padded;
    if (__builtin_add_overflow(size, align - 1, &padded))
        return NULL;
    padded &= ~(align - 1);
    return aligned_alloc(align, padded ? padded : align);
}

static void default_free(void *context, void *pointer, size_t size) {
    (void)context;
    (void)size;
    free(pointer);
}

kiln_allocator kiln_allocator_default(void) {
    return (kiln_allocator){NULL, default_alloc, default_free};
}

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

const char *kiln_version(void) {
    return TEXT(KILN_VERSION_MAJOR) "." TEXT(KILN_VERSION_MINOR) "." TEXT(KILN_VERSION_PATCH);
}
