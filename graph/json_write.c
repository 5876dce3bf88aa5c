#include "json_write.h"
#include "json_scan.h"
#include "checked.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* 2^52 - 1. Up to here every program that holds numbers as doubles and prints 15 digits or more keeps an
 * integer; cJSON, for one, takes neighbours from 2^52 on to be the same. */
#define SAFE_INTEGER INT64_C(4503599627370495)

/* ---- bytes ------------------------------------------------------------------------------------------ */

static void set_status(kiln__json_writer *w, kiln_status status) {
    if (w->status == KILN_OK)
        w->status = status;
}

static void flush(kiln__json_writer *w) {
    if (w->chunked > 0 && w->status == KILN_OK && !w->sink(w->context, w->chunk, w->chunked))
        set_status(w, KILN_ERROR_CANCELLED);
    w->chunked = 0;
}

static void put(kiln__json_writer *w, const char *bytes, size_t n) {
    if (w->status != KILN_OK || n == 0)
        return;
    if (w->sink == NULL) {
        size_t want;
        if (__builtin_add_overflow(w->text.count, n, &want) || !KILN_GROW(&w->allocator, w->text, want)) {
            set_status(w, KILN_ERROR_MEMORY);
            return;
        }
        memcpy(w->text.items + w->text.count, bytes, n);
        w->text.count = want;
        return;
    }
    while (n > 0) {
        size_t room = sizeof w->chunk - w->chunked, part = n < room ? n : room;
        memcpy(w->chunk + w->chunked, bytes, part);
        w->chunked += part;
        bytes += part;
        n -= part;
        if (w->chunked == sizeof w->chunk)
            flush(w);
    }
}

static void put_text(kiln__json_writer *w, const char *text) {
    put(w, text, strlen(text));
}

static void line_break(kiln__json_writer *w) {
    static const char spaces[] = "\n                                                                ";
    _Static_assert(sizeof spaces >= 2 + 2 * KILN__JSON_NESTING, "one line break and the deepest indent");
    put(w, spaces, 1 + 2 * (size_t)w->depth);
}

/* ---- structure -------------------------------------------------------------------------------------- */

/* What goes before a key, or before a value that has none: comma, line break, indent. False when nothing may
 * stand here. */
static bool separate(kiln__json_writer *w) {
    if (w->depth == 0) {
        if (w->done)
            set_status(w, KILN_ERROR_ARGUMENT);
        return w->status == KILN_OK;
    }
    bool used = w->level[w->depth - 1].used, lines = w->level[w->depth - 1].lines;
    w->level[w->depth - 1].used = true;
    if (used)
        put_text(w, lines || w->compact ? "," : ", ");
    if (lines)
        line_break(w);
    return w->status == KILN_OK;
}

/* Every value begins here. */
static bool begin_value(kiln__json_writer *w) {
    if (w->status != KILN_OK)
        return false;
    if (w->after_key) {
        w->after_key = false;
        return true;
    }
    if (w->depth > 0 && w->level[w->depth - 1].object) {
        set_status(w, KILN_ERROR_ARGUMENT); /* a value without its key */
        return false;
    }
    return separate(w);
}

/* ... and ends here. */
static void end_value(kiln__json_writer *w) {
    if (w->depth == 0)
        w->done = true;
}

static void begin(kiln__json_writer *w, bool object, kiln__json_layout layout) {
    if (!begin_value(w))
        return;
    if (w->depth == KILN__JSON_NESTING) {
        set_status(w, KILN_ERROR_ARGUMENT);
        return;
    }
    bool outer = w->depth == 0 || w->level[w->depth - 1].lines;
    put_text(w, object ? "{" : "[");
    w->level[w->depth].object = object;
    w->level[w->depth].lines = layout == KILN_JSON_LINES && outer && !w->compact;
    w->level[w->depth].used = false;
    w->depth++;
}

void kiln__json_begin_object(kiln__json_writer *w, kiln__json_layout layout) {
    begin(w, true, layout);
}

void kiln__json_begin_array(kiln__json_writer *w, kiln__json_layout layout) {
    begin(w, false, layout);
}

void kiln__json_end(kiln__json_writer *w) {
    if (w->status != KILN_OK)
        return;
    if (w->depth == 0 || w->after_key) {
        set_status(w, KILN_ERROR_ARGUMENT);
        return;
    }
    w->depth--;
    if (w->level[w->depth].lines && w->level[w->depth].used)
        line_break(w);
    put_text(w, w->level[w->depth].object ? "}" : "]");
    end_value(w);
}

/* ---- strings ---------------------------------------------------------------------------------------- */

static void put_escape(kiln__json_writer *w, unsigned char c) {
    static const char *const shorts[32] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};
    static const char hex[] = "0123456789abcdef";
    if (c == '"' || c == '\\')
        put(w, (char[]){'\\', (char)c}, 2);
    else if (c < 32 && shorts[c] != NULL)
        put(w, shorts[c], 2);
    else
        put(w, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
}

static void put_quoted(kiln__json_writer *w, const char *text, size_t size) {
    put_text(w, "\"");
    size_t from = 0, at = 0; /* text[from .. at) goes out as it is */
    while (at < size) {
        unsigned char c = (unsigned char)text[at];
        size_t n = kiln__utf8_length(text + at, size - at);
        if (n > 0 && c >= 32 && c != '"' && c != '\\' && c != 127) {
            at += n;
            continue;
        }
        put(w, text + from, at - from);
        if (n > 0)
            put_escape(w, c);
        else
            put_text(w, "\xef\xbf\xbd"); /* U+FFFD */
        from = ++at;
    }
    put(w, text + from, at - from);
    put_text(w, "\"");
}

void kiln__json_key(kiln__json_writer *w, const char *key) {
    if (w->status != KILN_OK)
        return;
    if (w->depth == 0 || !w->level[w->depth - 1].object || w->after_key) {
        set_status(w, KILN_ERROR_ARGUMENT);
        return;
    }
    if (!separate(w))
        return;
    put_quoted(w, key, strlen(key));
    put_text(w, w->compact ? ":" : ": ");
    w->after_key = true;
}

void kiln__json_put_string(kiln__json_writer *w, const char *text, size_t size) {
    if (!begin_value(w))
        return;
    put_quoted(w, text, size);
    end_value(w);
}

void kiln__json_put_cstring(kiln__json_writer *w, const char *text) {
    kiln__json_put_string(w, text, strlen(text));
}

/* ---- words and numbers ------------------------------------------------------------------------------ */

static void put_word(kiln__json_writer *w, const char *word, bool quoted) {
    if (!begin_value(w))
        return;
    if (quoted)
        put_text(w, "\"");
    put_text(w, word);
    if (quoted)
        put_text(w, "\"");
    end_value(w);
}

void kiln__json_put_null(kiln__json_writer *w) {
    put_word(w, "null", false);
}

void kiln__json_put_bool(kiln__json_writer *w, bool value) {
    put_word(w, value ? "true" : "false", false);
}

bool kiln__json_is_plain_i64(int64_t value) {
    return value <= SAFE_INTEGER && value >= -SAFE_INTEGER;
}

void kiln__json_put_i64(kiln__json_writer *w, int64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, value);
    put_word(w, digits, !kiln__json_is_plain_i64(value));
}

void kiln__json_put_u64(kiln__json_writer *w, uint64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    put_word(w, digits, value > (uint64_t)SAFE_INTEGER);
}

/* `n` significant digits of |v| to `digits` and the exponent of the first. The C library writes the locale's
 * decimal separator, of one byte or several, after the first digit: everything there that is no digit is
 * skipped. */
static int significant(double v, int n, char digits[24]) {
    char text[64];
    snprintf(text, sizeof text, "%.*e", n - 1, fabs(v));
    int got = 0;
    const char *p = text;
    for (; *p != 'e' && *p != '\0'; p++)
        if (*p >= '0' && *p <= '9' && got < n)
            digits[got++] = *p;
    digits[got] = '\0';
    return *p == 'e' ? (int)strtol(p + 1, NULL, 10) : 0;
}

/* The value that a reader gets from digits × 10^(exponent - (n-1)). An integer with an exponent has no
 * decimal separator, so strtod reads it alike in every locale. */
static double read_back(const char *digits, int n, int exponent) {
    char text[48];
    snprintf(text, sizeof text, "%se%d", digits, exponent - (n - 1));
    return strtod(text, NULL);
}

static size_t layout_number(bool negative, const char *digits, int n, int exponent, char *out) {
    size_t at = 0;
    if (negative)
        out[at++] = '-';
    if (exponent < -5 || exponent > 15) { /* d.ddde-10 */
        out[at++] = digits[0];
        if (n > 1)
            out[at++] = '.';
        for (int i = 1; i < n; i++)
            out[at++] = digits[i];
        return at + (size_t)snprintf(out + at, 8, "e%d", exponent);
    }
    if (exponent < 0) { /* 0.00ddd */
        out[at++] = '0';
        out[at++] = '.';
        for (int i = -1; i > exponent; i--)
            out[at++] = '0';
    }
    for (int i = 0; i < n || i <= exponent; i++) { /* ddd, ddd00 or dd.dd */
        if (i > 0 && i == exponent + 1)
            out[at++] = '.';
        out[at++] = i < n ? digits[i] : '0';
    }
    out[at] = '\0';
    return at;
}

static size_t format_number(double v, bool single, char *out) {
    const char *word = isnan(v) ? "NaN" : !isinf(v) ? NULL : v > 0 ? "Infinity" : "-Infinity";
    if (word != NULL || v == 0.0) {
        word = word != NULL ? word : signbit(v) ? "-0.0" : "0";
        memcpy(out, word, strlen(word) + 1);
        return strlen(word);
    }
    char digits[24];
    int most = single ? 9 : 17; /* as many always suffice */
    for (int n = 1;; n++) {
        int exponent = significant(v, n, digits);
        double back = read_back(digits, n, exponent);
        if (n == most || (single ? (float)back == (float)fabs(v) : back == fabs(v)))
            return layout_number(v < 0, digits, n, exponent, out);
    }
}

size_t kiln__json_format_f32(float value, char buffer[KILN__JSON_NUMBER_SIZE]) {
    return format_number((double)value, true, buffer);
}

size_t kiln__json_format_f64(double value, char buffer[KILN__JSON_NUMBER_SIZE]) {
    return format_number(value, false, buffer);
}

/* What many programs do not keep as a number goes out as a string. A zero with a sign is one of these:
 * JavaScript writes 0 for it. */
static bool is_word(double value) {
    return !isfinite(value) || (value == 0.0 && signbit(value));
}

void kiln__json_put_f32(kiln__json_writer *w, float value) {
    char text[KILN__JSON_NUMBER_SIZE];
    kiln__json_format_f32(value, text);
    put_word(w, text, is_word((double)value));
}

void kiln__json_put_f64(kiln__json_writer *w, double value) {
    char text[KILN__JSON_NUMBER_SIZE];
    kiln__json_format_f64(value, text);
    put_word(w, text, is_word(value));
}

/* ---- life ------------------------------------------------------------------------------------------- */

static void init(kiln__json_writer *w, bool compact) {
    memset(w, 0, offsetof(kiln__json_writer, chunk));
    w->compact = compact;
    w->mode = kiln__enter_fp_mode();
}

void kiln__json_writer_init(kiln__json_writer *w, const kiln_allocator *allocator, bool compact) {
    init(w, compact);
    w->allocator = kiln__allocator_or_default(allocator);
}

void kiln__json_writer_init_sink(kiln__json_writer *w, kiln_json_sink sink, void *context, bool compact) {
    init(w, compact);
    w->sink = sink;
    w->context = context;
}

kiln_status kiln__json_writer_finish(kiln__json_writer *w, kiln_json_text *out, kiln_error *error) {
    kiln__leave_fp_mode(w->mode);
    if (!w->done || w->depth > 0)
        set_status(w, KILN_ERROR_ARGUMENT);
    if (!w->compact)
        put_text(w, "\n");
    if (w->sink != NULL)
        flush(w);
    else
        put(w, "", 1); /* the terminating NUL, not counted */
    if (out != NULL)
        *out = (kiln_json_text){0};
    if (w->status == KILN_OK) {
        if (w->sink == NULL && out != NULL)
            *out = (kiln_json_text){w->text.items, w->text.count - 1, w->text.capacity, w->allocator};
        return KILN_OK;
    }
    if (w->sink == NULL)
        KILN_ARRAY_FREE(&w->allocator, w->text);
    const char *why = w->status == KILN_ERROR_MEMORY      ? "out of memory"
                      : w->status == KILN_ERROR_CANCELLED ? "the sink refused"
                                                          : "calls out of order or nested too deeply";
    return kiln_error_set(error, w->status, "writing JSON: %s", why);
}

void kiln_json_text_free(kiln_json_text *text) {
    if (text == NULL)
        return;
    if (text->data != NULL)
        text->allocator.free(text->allocator.context, text->data, text->capacity);
    *text = (kiln_json_text){0};
}
