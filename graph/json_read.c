#include "json_read.h"
#include "json_write.h"
#include "checked.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- texts for messages ----------------------------------------------------------------------------- */

/* A bounded text; what does not fit is left out and the text ends in "...". */
typedef struct line {
    char *text;
    size_t size, used;
    bool cut;
} line;

static void line_add(line *l, const char *text, size_t n) {
    if (l->cut || n == 0)
        return;
    if (l->used + n + 4 > l->size) {
        memcpy(l->text + l->used, "...", 3);
        l->used += 3;
        l->cut = true;
    } else {
        memcpy(l->text + l->used, text, n);
        l->used += n;
    }
    l->text[l->used] = '\0';
}

static void line_add_text(line *l, const char *text) {
    line_add(l, text, strlen(text));
}

/* Escapes what would disturb a one-line message. The text is valid UTF-8. */
static void line_add_quoted(line *l, const char *text) {
    line_add(l, "\"", 1);
    while (*text != '\0' && !l->cut) {
        size_t n = kiln__utf8_length(text, strlen(text) < 4 ? strlen(text) : 4);
        unsigned char c = (unsigned char)*text;
        if (c < 32 || c == 127 || c == '"' || c == '\\' || n == 0) {
            char escape[8];
            n = 1;
            snprintf(escape, sizeof escape, c == '"' || c == '\\' ? "\\%c" : "\\u%04x", c);
            line_add_text(l, escape);
        } else {
            line_add(l, text, n);
        }
        text += n;
    }
    line_add(l, "\"", 1);
}

const char *kiln__json_quote(const char *text, char buffer[KILN__JSON_QUOTE_SIZE]) {
    line l = {buffer, KILN__JSON_QUOTE_SIZE, 0, false};
    line_add_quoted(&l, text);
    return buffer;
}

static bool is_plain_key(const char *key) {
    for (const char *p = key; *p != '\0'; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_' ||
              (p > key && *p >= '0' && *p <= '9')))
            return false;
    return *key != '\0';
}

static void line_add_step(line *l, const kiln__json_item *item, size_t index) {
    char text[KILN__JSON_QUOTE_SIZE];
    if (item->key != NULL && is_plain_key(item->key)) {
        line_add_text(l, ".");
        line_add_text(l, item->key);
        return;
    }
    line_add_text(l, "[");
    if (item->key == NULL)
        snprintf(text, sizeof text, "%zu", index);
    line_add_text(l, item->key != NULL ? kiln__json_quote(item->key, text) : text);
    line_add_text(l, "]");
}

/* "$.nodes[3].attrs.k": the way from the root down to an item. */
static void line_add_path(line *l, const kiln__json_item *root, const kiln__json_item *item) {
    line_add_text(l, "$");
    for (const kiln__json_item *at = root; at != item && !l->cut;) {
        size_t index = 0;
        for (at++; item >= at + at->span; at += at->span)
            index++;
        line_add_step(l, at, index);
    }
}

enum { PATH_SIZE = 200 };

kiln_status kiln__json_fail(const kiln__json *value, kiln_status status, kiln_error *error,
                            const char *format, ...) {
    if (error == NULL)
        return status; /* asked only whether; putting the text together would cost more than the answer */
    char path[PATH_SIZE], text[KILN_ERROR_TEXT_SIZE];
    const kiln__json *root = value;
    while (root->up != NULL)
        root = root->up;
    line_add_path(&(line){path, sizeof path, 0, false}, root->item, value->item);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return kiln_error_set(error, status, "%s: %s", path, text);
}

static void line_add_number(line *l, const kiln__json_item *item) {
    enum { SHOWN = 40 };
    line_add(l, item->text, item->size < SHOWN ? item->size : SHOWN);
    line_add_text(l, item->size < SHOWN ? "" : "...");
}

const char *kiln__json_show(const kiln__json *value, char buffer[KILN__JSON_QUOTE_SIZE]) {
    static const char *const kinds[] = {[KILN_JSON_NULL] = "null",
                                        [KILN_JSON_FALSE] = "false",
                                        [KILN_JSON_TRUE] = "true",
                                        [KILN_JSON_ARRAY] = "an array",
                                        [KILN_JSON_OBJECT] = "an object"};
    const kiln__json_item *item = value->item;
    line l = {buffer, KILN__JSON_QUOTE_SIZE, 0, false};
    if (item->type == KILN_JSON_STRING)
        line_add_quoted(&l, item->text);
    else if (item->type == KILN_JSON_NUMBER)
        line_add_number(&l, item);
    else
        line_add_text(&l, kinds[item->type]);
    return buffer;
}

kiln_status kiln__json_fail_type(const kiln__json *value, const char *expected, kiln_error *error) {
    if (error == NULL)
        return KILN_ERROR_FORMAT;
    char got[KILN__JSON_QUOTE_SIZE];
    return kiln__json_fail(value, KILN_ERROR_FORMAT, error, "expected %s, got %s", expected,
                           kiln__json_show(value, got));
}

/* ---- documents -------------------------------------------------------------------------------------- */

/* A duplicate key, named by its path. */
static kiln_status refuse_duplicates(const kiln__json_doc *doc, kiln_error *error) {
    size_t found;
    char path[PATH_SIZE];
    if (kiln__json_tree_duplicate(&doc->tree, &doc->allocator, &found) != KILN_OK)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "reading JSON: out of memory");
    if (found == SIZE_MAX)
        return KILN_OK;
    line_add_path(&(line){path, sizeof path, 0, false}, doc->tree.items, &doc->tree.items[found]);
    return kiln_error_set(error, KILN_ERROR_FORMAT, "%s: duplicate key", path);
}

static kiln_status open_doc(kiln__json_doc *doc, const char *text, size_t size, const kiln__json_caps *caps,
                            kiln_error *error) {
    kiln__json_facts facts;
    kiln_status status = kiln__json_scan(text, size, caps, &facts, error);
    if (status != KILN_OK)
        return status;
    if (kiln__json_tree_build(text, size, &facts, &doc->allocator, &doc->tree) != KILN_OK)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "reading JSON: out of memory");
    return refuse_duplicates(doc, error);
}

kiln_status kiln__json_open(kiln__json_doc *doc, const char *text, size_t size, const kiln__json_caps *caps,
                            const kiln_allocator *allocator, kiln_error *error) {
    *doc =
        (kiln__json_doc){.allocator = kiln__allocator_or_default(allocator), .mode = kiln__enter_fp_mode()};
    kiln_status status = open_doc(doc, text, size, caps, error);
    if (status != KILN_OK)
        kiln__json_close(doc);
    return status;
}

void kiln__json_close(kiln__json_doc *doc) {
    kiln__json_tree_free(&doc->tree, &doc->allocator);
    kiln__leave_fp_mode(doc->mode);
}

kiln__json kiln__json_root(const kiln__json_doc *doc) {
    return (kiln__json){doc->tree.items, NULL, 0};
}

/* ---- containers ------------------------------------------------------------------------------------- */

static bool is_container(const kiln__json_item *item) {
    return item->type >= KILN_JSON_ARRAY;
}

kiln__json kiln__json_first(const kiln__json *container) {
    const kiln__json_item *item = container->item;
    return (kiln__json){is_container(item) && item->size > 0 ? item + 1 : NULL, container, 0};
}

void kiln__json_next(kiln__json *value) {
    const kiln__json_item *around = value->up->item, *next = value->item + value->item->span;
    value->item = next < around + around->span ? next : NULL;
    value->index++;
}

const char *kiln__json_key_of(const kiln__json *value) {
    return value->item->key;
}

bool kiln__json_is_null(const kiln__json *value) {
    return value->item->type == KILN_JSON_NULL;
}

bool kiln__json_is_object(const kiln__json *value) {
    return value->item->type == KILN_JSON_OBJECT;
}

bool kiln__json_is_array(const kiln__json *value) {
    return value->item->type == KILN_JSON_ARRAY;
}

bool kiln__json_is_string(const kiln__json *value) {
    return value->item->type == KILN_JSON_STRING;
}

kiln__json kiln__json_member(const kiln__json *object, const char *key) {
    kiln__json v = {NULL, object, 0};
    if (kiln__json_is_object(object))
        for (v = kiln__json_first(object); v.item != NULL; kiln__json_next(&v))
            if (strcmp(v.item->key, key) == 0)
                break;
    return v;
}

static kiln_status fail_unknown(const kiln__json *member, const kiln__json_field *fields, size_t n,
                                kiln_error *error) {
    char known[160];
    line l = {known, sizeof known, 0, false};
    known[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        line_add_text(&l, i ? ", " : "");
        line_add_text(&l, fields[i].key);
    }
    return kiln__json_fail(member, KILN_ERROR_FORMAT, error, "unknown key (known here: %s)", known);
}

kiln_status kiln__json_members(const kiln__json *object, const kiln__json_field *fields, size_t n,
                               kiln_error *error) {
    if (!kiln__json_is_object(object))
        return kiln__json_fail_type(object, "an object", error);
    for (size_t i = 0; i < n; i++)
        *fields[i].value = (kiln__json){NULL, object, 0};
    for (kiln__json v = kiln__json_first(object); v.item != NULL; kiln__json_next(&v)) {
        size_t i = 0;
        while (i < n && strcmp(fields[i].key, v.item->key) != 0)
            i++;
        if (i == n)
            return fail_unknown(&v, fields, n, error);
        *fields[i].value = v;
    }
    for (size_t i = 0; i < n; i++)
        if (fields[i].required && fields[i].value->item == NULL)
            return kiln__json_fail(object, KILN_ERROR_FORMAT, error, "key \"%s\" is missing", fields[i].key);
    return KILN_OK;
}

kiln_status kiln__json_count(const kiln__json *array, size_t least, size_t most, size_t *count,
                             kiln_error *error) {
    if (!kiln__json_is_array(array))
        return kiln__json_fail_type(array, "an array", error);
    *count = array->item->size;
    if (*count < least)
        return kiln__json_fail(array, KILN_ERROR_FORMAT, error, "%zu elements; at least %zu are needed",
                               *count, least);
    if (*count > most)
        return kiln__json_fail(array, KILN_ERROR_LIMIT, error, "%zu elements; the cap is %zu", *count, most);
    return KILN_OK;
}

/* ---- scalars ---------------------------------------------------------------------------------------- */

/* Digits up to here are the same integer in every program that holds numbers as doubles. */
#define EXACT_DIGITS INT64_C(9007199254740991) /* 2^53 - 1 */
/* Below here a number with a point or an exponent is exact where it is integral; 14 digits are the fewest
 * that common programs print (lua-cjson; cJSON prints 15). */
#define SHORT_FORMS 1e14
/* From there on up to here, 2^52, it is exact where it has so many digits. */
#define LONG_FORMS 4503599627370496.0
enum { LONG_DIGITS = 16 };

/* All `size` characters are decimal digits, without spaces, plus signs or leading zeros. "-0" is none. */
static bool parse_i64(const char *text, size_t size, int64_t *out) {
    const char *end = text + size;
    bool negative = size > 0 && *text == '-';
    text += negative;
    if (text == end || (*text == '0' && size > 1))
        return false;
    /* Of the negative, which has one more. */
    int64_t value = 0;
    for (; text < end; text++)
        if (*text < '0' || *text > '9' || !kiln__mul(value, 10, &value) ||
            !kiln__add(value, -(int64_t)(*text - '0'), &value))
            return false;
    if (!negative && value == INT64_MIN)
        return false;
    *out = negative ? value : -value;
    return true;
}

/* Before the exponent. */
static size_t count_digits(const kiln__json_item *item) {
    size_t n = 0;
    for (size_t i = 0; i < item->size && (item->text[i] | 32) != 'e'; i++)
        n += item->text[i] >= '0' && item->text[i] <= '9';
    return n;
}

/* May it be another integer than the one that was once read, because a program printed too few digits? */
static bool is_rounded(const kiln__json_item *item, double value) {
    value = fabs(value);
    return value >= LONG_FORMS || (value >= SHORT_FORMS && count_digits(item) < LONG_DIGITS);
}

static bool number_i64(const kiln__json_item *item, int64_t *out) {
    if (parse_i64(item->text, item->size, out))
        return *out <= EXACT_DIGITS && *out >= -EXACT_DIGITS;
    double value = kiln__json_number(item->text, item->size);
    if (is_rounded(item, value) || value != floor(value))
        return false;
    *out = (int64_t)value;
    return true;
}

static bool as_i64(const kiln__json_item *item, int64_t *out) {
    return item->type == KILN_JSON_STRING   ? parse_i64(item->text, item->size, out)
           : item->type == KILN_JSON_NUMBER ? number_i64(item, out)
                                            : false;
}

/* A finite number, or a string that stands for a float. */
static bool as_f64(const kiln__json_item *item, double *out) {
    static const struct {
        const char *word;
        double value;
    } words[] = {{"NaN", (double)NAN},
                 {"Infinity", (double)INFINITY},
                 {"-Infinity", -(double)INFINITY},
                 {"-0.0", -0.0}};
    if (item->type == KILN_JSON_NUMBER) {
        *out = kiln__json_number(item->text, item->size);
        return isfinite(*out);
    }
    for (size_t i = 0; item->type == KILN_JSON_STRING && i < sizeof words / sizeof *words; i++)
        if (strcmp(item->text, words[i].word) == 0) {
            *out = words[i].value;
            return true;
        }
    return false;
}

/* 64 and 64.0 are the same; so are the two forms of what the writer puts into a string. */
static bool same_number(const kiln__json_item *x, const kiln__json_item *y) {
    int64_t i, j;
    double v, w;
    if (as_i64(x, &i) && as_i64(y, &j) && !kiln__json_is_plain_i64(i))
        return i == j;
    return as_f64(x, &v) && as_f64(y, &w) && v == w && signbit(v) == signbit(w);
}

bool kiln__json_same_scalar(const kiln__json *a, const kiln__json *b) {
    const kiln__json_item *x = a->item, *y = b->item;
    if (x->type == KILN_JSON_NUMBER || y->type == KILN_JSON_NUMBER)
        return same_number(x, y);
    return x->type == y->type && !is_container(x) &&
           (x->type != KILN_JSON_STRING || strcmp(x->text, y->text) == 0);
}

kiln_status kiln__json_get_bool(const kiln__json *value, bool *out, kiln_error *error) {
    if (value->item->type != KILN_JSON_TRUE && value->item->type != KILN_JSON_FALSE)
        return kiln__json_fail_type(value, "true or false", error);
    *out = value->item->type == KILN_JSON_TRUE;
    return KILN_OK;
}

kiln_status kiln__json_get_i64(const kiln__json *value, int64_t min, int64_t max, int64_t *out,
                               kiln_error *error) {
    if (as_i64(value->item, out) && *out >= min && *out <= max)
        return KILN_OK;
    char expected[120];
    const kiln__json_item *item = value->item;
    if (item->type == KILN_JSON_NUMBER && is_rounded(item, kiln__json_number(item->text, item->size)))
        snprintf(expected, sizeof expected,
                 "an integer as digits, beyond 2^53 - 1 in a string (this one may have been rounded)");
    else if (min == INT64_MIN && max == INT64_MAX)
        snprintf(expected, sizeof expected, "an integer");
    else if (max == INT64_MAX)
        snprintf(expected, sizeof expected, "an integer from %lld up", (long long)min);
    else
        snprintf(expected, sizeof expected, "an integer in %lld\xe2\x80\xa6%lld", (long long)min,
                 (long long)max);
    return kiln__json_fail_type(value, expected, error);
}

kiln_status kiln__json_get_f64(const kiln__json *value, double *out, kiln_error *error) {
    return as_f64(value->item, out) ? KILN_OK : kiln__json_fail_type(value, "a number", error);
}

kiln_status kiln__json_get_f32(const kiln__json *value, float *out, kiln_error *error) {
    double wide = 0;
    kiln_status status = kiln__json_get_f64(value, &wide, error);
    if (status != KILN_OK)
        return status;
    *out = (float)wide;
    if (isinf(*out) && !isinf(wide))
        return kiln__json_fail_type(value, "a number that fits 32 bits", error);
    return KILN_OK;
}

kiln_status kiln__json_get_string(const kiln__json *value, size_t most, const char **out, kiln_error *error) {
    if (!kiln__json_is_string(value))
        return kiln__json_fail_type(value, "a string", error);
    *out = value->item->text;
    if (value->item->size > most)
        return kiln__json_fail(value, KILN_ERROR_LIMIT, error,
                               "a string of %zu bytes; at most %zu are allowed", value->item->size, most);
    return KILN_OK;
}

kiln_status kiln__json_get_enum(const kiln__json *value, const char *const *names, size_t n, size_t *out,
                                kiln_error *error) {
    char expected[200];
    line l = {expected, sizeof expected, 0, false};
    line_add_text(&l, "one of");
    for (size_t i = 0; i < n; i++) {
        if (names[i] == NULL)
            continue;
        if (kiln__json_is_string(value) && strcmp(value->item->text, names[i]) == 0) {
            *out = i;
            return KILN_OK;
        }
        line_add_text(&l, l.used > 6 ? ", " : " ");
        line_add_text(&l, names[i]);
    }
    return kiln__json_fail_type(value, expected, error);
}
