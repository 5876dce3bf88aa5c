#include "json_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS_MAX = 40, PLAIN_MAX = 64, EXPONENT_MAX = 99999 };

typedef struct scanner {
    const char *text;
    size_t size, at;
    const kiln__json_caps *caps;
    uint32_t depth_cap, depth;
    unsigned char objects[KILN__JSON_DEPTH_MAX / 8]; /* one bit per open container: is it an object? */
    kiln__json_facts *facts;
    kiln_error *error;
} scanner;

/* ---- characters ------------------------------------------------------------------------------------- */

size_t kiln__utf8_length(const char *text, size_t size) {
    if (size == 0)
        return 0;
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (n == 0 || n > size)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    /* overlong, surrogate, above U+10FFFF */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int hex_value(char c) {
    if (is_digit(c))
        return c - '0';
    char lower = (char)(c | 32);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The byte at the scanner's place, 0 at the end (a NUL byte is valid nowhere in JSON). */
static char peek(const scanner *s) {
    return s->at < s->size ? s->text[s->at] : '\0';
}

static void skip_space(scanner *s) {
    while (s->at < s->size && (s->text[s->at] == ' ' || s->text[s->at] == '\t' || s->text[s->at] == '\n' ||
                               s->text[s->at] == '\r'))
        s->at++;
}

/* ---- errors ----------------------------------------------------------------------------------------- */

/* Position of byte `at` for people; everything before it is valid UTF-8. */
static kiln_status fail_at(const scanner *s, size_t at, kiln_status status, const char *what,
                           const char *got) {
    size_t line = 1, column = 1;
    for (size_t i = s->facts->start; i < at; i++) {
        if (s->text[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)s->text[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    return kiln_error_set(s->error, status, "JSON, line %zu, column %zu (byte %zu): %s%s%s", line, column, at,
                          what, got[0] ? ", got " : "", got);
}

static kiln_status fail_got(const scanner *s, const char *what) {
    char got[24];
    unsigned char c = (unsigned char)peek(s);
    if (s->at >= s->size)
        snprintf(got, sizeof got, "the end of the text");
    else if (c > 32 && c < 127)
        snprintf(got, sizeof got, c == '\'' ? "\"%c\"" : "'%c'", c);
    else
        snprintf(got, sizeof got, "byte 0x%02x", c);
    return fail_at(s, s->at, KILN_ERROR_FORMAT, what, got);
}

/* ---- strings ---------------------------------------------------------------------------------------- */

/* Four hex digits at the scanner's place; -1 when they are not. */
static int32_t hex4(scanner *s) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        int digit = s->at < s->size ? hex_value(s->text[s->at]) : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static kiln_status scan_unicode_escape(scanner *s) {
    size_t start = s->at; /* of the backslash */
    s->at += 2;
    int32_t unit = hex4(s);
    if (unit < 0)
        return fail_got(s, "expected four hex digits after \\u");
    if (unit == 0)
        return fail_at(s, start, KILN_ERROR_FORMAT, "U+0000 is not allowed in a string", "");
    if (unit < 0xd800 || unit > 0xdfff)
        return KILN_OK;
    if (unit > 0xdbff)
        return fail_at(s, start, KILN_ERROR_FORMAT, "a low surrogate without a high one before it", "");
    bool escaped = s->size - s->at >= 2 && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u';
    if (escaped) {
        s->at += 2;
        unit = hex4(s);
        if (unit < 0)
            return fail_got(s, "expected four hex digits after \\u");
    }
    if (!escaped || unit < 0xdc00 || unit > 0xdfff)
        return fail_at(s, start, KILN_ERROR_FORMAT, "a high surrogate without a low one after it", "");
    return KILN_OK;
}

static kiln_status scan_escape(scanner *s) {
    char c = s->at + 1 < s->size ? s->text[s->at + 1] : '\0';
    if (c == 'u')
        return scan_unicode_escape(s);
    s->at++;
    if (c == '\0' || strchr("\"\\/bfnrt", c) == NULL)
        return fail_got(s, "expected an escape (one of \" \\ / b f n r t u) after \\");
    s->at++;
    return KILN_OK;
}

static kiln_status scan_string(scanner *s) {
    size_t start = s->at++;
    for (;;) {
        if (s->at >= s->size)
            return fail_at(s, start, KILN_ERROR_FORMAT, "a string without its closing quote", "");
        unsigned char c = (unsigned char)s->text[s->at];
        if (c == '"') {
            /* Without its quotes, with a NUL; escapes only make it shorter. */
            s->facts->string_bytes += s->at - start;
            s->at++;
            return KILN_OK;
        }
        if (c == '\\') {
            kiln_status status = scan_escape(s);
            if (status != KILN_OK)
                return status;
            continue;
        }
        if (c < 32)
            return fail_got(s, "a control character in a string must be escaped");
        size_t n = kiln__utf8_length(s->text + s->at, s->size - s->at);
        if (n == 0)
            return fail_got(s, "expected UTF-8");
        s->at += n;
    }
}

/* ---- numbers ---------------------------------------------------------------------------------------- */

/* The number after an 'e', sign and all; larger ones count as ±10^15,
 * which no text is long enough to undo. */
static int64_t read_exponent(const char *text, size_t size) {
    bool negative = size > 0 && text[0] == '-';
    int64_t value = 0;
    for (size_t i = 0; i < size; i++)
        if (is_digit(text[i]) && value < INT64_C(1000000000000000))
            value = value * 10 + (text[i] - '0');
    return negative ? -value : value;
}

/* Writes the same number without a decimal point (1.5 is 15e-1) and without long runs of zeros to `out` and
 * returns its length; 0 when it has more than DIGITS_MAX significant digits. strtod reads such a number alike
 * in every locale. A short number that has no point stays as it is. */
static size_t plain_number(const char *text, size_t size, char out[PLAIN_MAX]) {
    size_t end = 0, point = SIZE_MAX, first = SIZE_MAX,
           last = 0; /* first, last: of the digits that are not 0 */
    size_t negative = text[0] == '-';
    for (; end < size && (text[end] | 32) != 'e'; end++) {
        if (text[end] == '.')
            point = end;
        else if (is_digit(text[end]) && text[end] != '0') {
            first = first == SIZE_MAX ? end : first;
            last = end;
        }
    }
    if (point == SIZE_MAX && size <= DIGITS_MAX) {
        memcpy(out, text, size);
        return size;
    }
    if (first == SIZE_MAX) {
        memcpy(out, negative ? "-0" : "0", negative ? 2 : 1);
        return negative ? 2 : 1;
    }
    size_t n = 0, integers_end = point < end ? point : end;
    if (negative)
        out[n++] = '-';
    for (size_t i = first; i <= last; i++) {
        if (n == DIGITS_MAX + negative && i != point)
            return 0;
        if (i != point)
            out[n++] = text[i];
    }
    int64_t exponent =
        last < integers_end ? (int64_t)(integers_end - last) - 1 : -(int64_t)(last - integers_end);
    if (end < size)
        exponent += read_exponent(text + end + 1, size - end - 1);
    if (exponent > EXPONENT_MAX || exponent < -EXPONENT_MAX) /* infinite, or zero, as a double */
        exponent = exponent > 0 ? EXPONENT_MAX : -EXPONENT_MAX;
    if (exponent != 0)
        n += (size_t)snprintf(out + n, PLAIN_MAX - n, "e%d", (int)exponent);
    return n;
}

static bool skip_digits(scanner *s) {
    size_t start = s->at;
    while (is_digit(peek(s)))
        s->at++;
    return s->at > start;
}

static kiln_status scan_number(scanner *s) {
    size_t start = s->at;
    if (peek(s) == '-')
        s->at++;
    bool zero = peek(s) == '0';
    if (!skip_digits(s))
        return fail_got(s, "expected a digit");
    size_t digits = s->at - start - (s->text[start] == '-');
    if (zero && digits > 1)
        return fail_at(s, start, KILN_ERROR_FORMAT, "a number with a leading zero", "");
    if (peek(s) == '.') {
        s->at++;
        if (!skip_digits(s))
            return fail_got(s, "expected a digit after the decimal point");
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        if (!skip_digits(s))
            return fail_got(s, "expected a digit in the exponent");
    }
    /* Most numbers are too short to have so many digits. */
    char plain[PLAIN_MAX];
    size_t size = s->at - start;
    if (size > DIGITS_MAX && plain_number(s->text + start, size, plain) == 0)
        return fail_at(s, start, KILN_ERROR_LIMIT, "a number of more than 40 significant digits", "");
    return KILN_OK;
}

double kiln__json_number(const char *text, size_t size) {
    char plain[PLAIN_MAX];
    plain[plain_number(text, size, plain)] = '\0';
    return strtod(plain, NULL);
}

/* ---- the grammar ------------------------------------------------------------------------------------ */

typedef enum state {
    VALUE,        /* a value must come */
    VALUE_OR_END, /* just after '[' */
    KEY,          /* a key must come */
    KEY_OR_END,   /* just after '{' */
    AFTER         /* a value has ended */
} state;

static bool in_object(const scanner *s) {
    uint32_t i = s->depth - 1;
    return s->objects[i / 8] >> (i % 8) & 1;
}

static kiln_status open_container(scanner *s, bool object) {
    if (s->depth == s->depth_cap) {
        char what[64];
        snprintf(what, sizeof what, "more than %u levels of arrays and objects", s->depth_cap);
        return fail_at(s, s->at, KILN_ERROR_LIMIT, what, "");
    }
    unsigned char bit = (unsigned char)(1u << (s->depth % 8));
    if (object)
        s->objects[s->depth / 8] |= bit;
    else
        s->objects[s->depth / 8] &= (unsigned char)~bit;
    s->depth++;
    if (s->depth > s->facts->depth)
        s->facts->depth = s->depth;
    s->at++;
    return KILN_OK;
}

static kiln_status scan_word(scanner *s, const char *word) {
    for (; *word != '\0'; word++, s->at++)
        if (peek(s) != *word)
            return fail_got(s, "expected true, false or null");
    return KILN_OK;
}

static kiln_status scan_value(scanner *s, state *next) {
    char c = peek(s);
    *next = AFTER;
    if (s->facts->values == s->caps->values) {
        char what[64];
        snprintf(what, sizeof what, "more than %zu values", s->caps->values);
        return fail_at(s, s->at, KILN_ERROR_LIMIT, what, "");
    }
    s->facts->values++;
    if (c == '{' || c == '[') {
        *next = c == '{' ? KEY_OR_END : VALUE_OR_END;
        return open_container(s, c == '{');
    }
    if (c == '"')
        return scan_string(s);
    if (c == '-' || is_digit(c))
        return scan_number(s);
    if (c == 't' || c == 'f' || c == 'n')
        return scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
    return fail_got(s, "expected a value");
}

static kiln_status scan_key(scanner *s, const char *expected) {
    if (peek(s) != '"')
        return fail_got(s, expected);
    kiln_status status = scan_string(s);
    if (status != KILN_OK)
        return status;
    skip_space(s);
    if (peek(s) != ':')
        return fail_got(s, "expected ':' after a key");
    s->at++;
    return KILN_OK;
}

/* After a value, within a container: a comma, or the container's end. */
static kiln_status scan_after(scanner *s, state *next) {
    char c = peek(s);
    if (c == ',') {
        s->at++;
        *next = in_object(s) ? KEY : VALUE;
        return KILN_OK;
    }
    if (c != (in_object(s) ? '}' : ']'))
        return fail_got(s, in_object(s) ? "expected ',' or '}'" : "expected ',' or ']'");
    s->at++;
    s->depth--;
    *next = AFTER;
    return KILN_OK;
}

static kiln_status scan_step(scanner *s, state *next) {
    char c = peek(s);
    switch (*next) {
    case VALUE_OR_END:
        if (c == ']')
            return scan_after(s, next);
        return scan_value(s, next);
    case VALUE:
        return scan_value(s, next);
    case KEY_OR_END:
        if (c == '}')
            return scan_after(s, next);
        *next = VALUE;
        return scan_key(s, "expected a key or '}'");
    case KEY:
        *next = VALUE;
        return scan_key(s, "expected a key");
    case AFTER:
        break;
    }
    return scan_after(s, next);
}

kiln_status kiln__json_scan(const char *text, size_t size, const kiln__json_caps *caps,
                            kiln__json_facts *facts, kiln_error *error) {
    *facts = (kiln__json_facts){0};
    if (size > caps->bytes)
        return kiln_error_set(error, KILN_ERROR_LIMIT, "JSON: %zu bytes; the cap is %zu", size, caps->bytes);
    scanner s = {.text = text, .size = size, .caps = caps, .facts = facts, .error = error};
    s.depth_cap = caps->depth < KILN__JSON_DEPTH_MAX ? caps->depth : KILN__JSON_DEPTH_MAX;
    if (size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        return fail_at(&s, 0, KILN_ERROR_FORMAT, "the text is in UTF-16; save it as UTF-8", "");
    facts->start = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    s.at = facts->start;
    state next = VALUE;
    do {
        skip_space(&s);
        kiln_status status = scan_step(&s, &next);
        if (status != KILN_OK)
            return status;
    } while (next != AFTER || s.depth > 0);
    skip_space(&s);
    return s.at == size ? KILN_OK : fail_got(&s, "expected nothing after the value");
}
