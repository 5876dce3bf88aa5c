#include "json_read.h"
#include "json_write.h"
#include "checked.h"

#include <cjson/cJSON.h>
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

/* "$.nodes[3].attrs.k". Chains are as deep as the text: at most KILN__JSON_DEPTH_MAX. */
static void line_add_path(line *l, const kiln__json *value) {
    const kiln__json *chain[KILN__JSON_DEPTH_MAX + 1];
    size_t n = 0;
    for (; value->up != NULL && n <= KILN__JSON_DEPTH_MAX; value = value->up)
        chain[n++] = value;
    line_add_text(l, "$");
    while (n-- > 0) {
        const char *key = chain[n]->item->string;
        if (key == NULL) {
            char index[32];
            snprintf(index, sizeof index, "[%zu]", chain[n]->index);
            line_add_text(l, index);
        } else if (is_plain_key(key)) {
            line_add_text(l, ".");
            line_add_text(l, key);
        } else {
            char quoted[KILN__JSON_QUOTE_SIZE];
            line_add_text(l, "[");
            line_add_text(l, kiln__json_quote(key, quoted));
            line_add_text(l, "]");
        }
    }
}

enum { PATH_SIZE = 200 };

kiln_status kiln__json_fail(const kiln__json *value, kiln_status status, kiln_error *error,
                            const char *format, ...) {
    if (error == NULL)
        return status; /* asked only whether; putting the text together would cost more than the answer */
    char path[PATH_SIZE], text[KILN_ERROR_TEXT_SIZE];
    line_add_path(&(line){path, sizeof path, 0, false}, value);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return kiln_error_set(error, status, "%s: %s", path, text);
}

kiln_status kiln__json_fail_type(const kiln__json *value, const char *expected, kiln_error *error) {
    if (error == NULL)
        return KILN_ERROR_FORMAT;
    const cJSON *item = value->item;
    char quoted[KILN__JSON_QUOTE_SIZE];
    const char *got = cJSON_IsNull(item)     ? "null"
                      : cJSON_IsTrue(item)   ? "true"
                      : cJSON_IsFalse(item)  ? "false"
                      : cJSON_IsArray(item)  ? "an array"
                      : cJSON_IsObject(item) ? "an object"
                                             : quoted;
    if (cJSON_IsString(item))
        kiln__json_quote(item->valuestring, quoted);
    else if (cJSON_IsNumber(item))
        kiln__json_format_f64(item->valuedouble, quoted);
    return kiln__json_fail(value, KILN_ERROR_FORMAT, error, "expected %s, got %s", expected, got);
}

/* ---- duplicate keys --------------------------------------------------------------------------------- */

typedef struct key_place {
    const char *key;
    size_t index;
} key_place;

static int compare_keys(const void *a, const void *b) {
    const key_place *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

/* Index of the first member whose key stood before, or SIZE_MAX. Sorting keeps an object made to collide in
 * hash tables as cheap as any other. */
static kiln_status find_duplicate(const cJSON *object, const kiln_allocator *allocator, size_t *found) {
    key_place few[16], *keys = few;
    size_t n = 0;
    *found = SIZE_MAX;
    for (const cJSON *m = object->child; m != NULL; m = m->next)
        n++;
    if (n > 16 && (keys = KILN_NEW(allocator, key_place, n)) == NULL)
        return KILN_ERROR_MEMORY;
    size_t i = 0;
    for (const cJSON *m = object->child; m != NULL; m = m->next, i++)
        keys[i] = (key_place){m->string, i};
    qsort(keys, n, sizeof *keys, compare_keys);
    for (i = 1; i < n; i++)
        if (strcmp(keys[i - 1].key, keys[i].key) == 0 && keys[i].index < *found)
            *found = keys[i].index;
    if (keys != few)
        KILN_DELETE(allocator, keys, key_place, n);
    return KILN_OK;
}

/* Of the value and of all within it. Recursion is bounded by the scan's cap on depth. */
static kiln_status check_duplicates(const kiln__json *value, const kiln_allocator *allocator,
                                    kiln_error *error) {
    size_t duplicate = SIZE_MAX;
    if (cJSON_IsObject(value->item) && find_duplicate(value->item, allocator, &duplicate) != KILN_OK)
        return kiln__json_fail(value, KILN_ERROR_MEMORY, error, "out of memory");
    for (kiln__json v = kiln__json_first(value); v.item != NULL; kiln__json_next(&v)) {
        if (v.index == duplicate)
            return kiln__json_fail(&v, KILN_ERROR_FORMAT, error, "duplicate key");
        kiln_status status = check_duplicates(&v, allocator, error);
        if (status != KILN_OK)
            return status;
    }
    return KILN_OK;
}

/* ---- documents -------------------------------------------------------------------------------------- */

kiln_status kiln__json_open(kiln__json_doc *doc, const char *text, size_t size, const kiln__json_caps *caps,
                            const kiln_allocator *allocator, kiln_error *error) {
    kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln__json_facts facts;
    doc->root = NULL;
    kiln_status status = kiln__json_scan(text, size, caps, &facts, error);
    if (status != KILN_OK)
        return status;
    char *plain = NULL;
    if (!facts.is_plain) {
        plain = KILN_NEW(&a, char, facts.plain_size);
        if (plain == NULL)
            return kiln_error_set(error, KILN_ERROR_MEMORY, "reading JSON: out of memory");
        kiln__json_plain(text, size, plain);
    }
    /* The grammar was proved above, so NULL means that cJSON's malloc failed. cJSON also writes where it
     * stopped to a global of its own; Kiln never reads that. */
    doc->root = cJSON_ParseWithLengthOpts(plain ? plain : text, plain ? facts.plain_size : size, NULL, false);
    KILN_DELETE(&a, plain, char, facts.plain_size);
    if (doc->root == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "reading JSON: out of memory");
    kiln__json root = kiln__json_root(doc);
    status = check_duplicates(&root, &a, error);
    if (status != KILN_OK)
        kiln__json_close(doc);
    return status;
}

void kiln__json_close(kiln__json_doc *doc) {
    cJSON_Delete(doc->root);
    doc->root = NULL;
}

kiln__json kiln__json_root(const kiln__json_doc *doc) {
    return (kiln__json){doc->root, NULL, 0};
}

/* ---- containers ------------------------------------------------------------------------------------- */

kiln__json kiln__json_first(const kiln__json *container) {
    return (kiln__json){container->item->child, container, 0};
}

void kiln__json_next(kiln__json *value) {
    value->item = value->item->next;
    value->index++;
}

const char *kiln__json_key_of(const kiln__json *value) {
    return value->item->string;
}

bool kiln__json_is_null(const kiln__json *value) {
    return cJSON_IsNull(value->item);
}

bool kiln__json_is_object(const kiln__json *value) {
    return cJSON_IsObject(value->item);
}

bool kiln__json_is_array(const kiln__json *value) {
    return cJSON_IsArray(value->item);
}

bool kiln__json_is_string(const kiln__json *value) {
    return cJSON_IsString(value->item);
}

kiln__json kiln__json_member(const kiln__json *object, const char *key) {
    kiln__json v = {NULL, object, 0};
    if (cJSON_IsObject(object->item))
        for (v = kiln__json_first(object); v.item != NULL; kiln__json_next(&v))
            if (strcmp(v.item->string, key) == 0)
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
    if (!cJSON_IsObject(object->item))
        return kiln__json_fail_type(object, "an object", error);
    for (size_t i = 0; i < n; i++)
        *fields[i].value = (kiln__json){NULL, object, 0};
    for (kiln__json v = kiln__json_first(object); v.item != NULL; kiln__json_next(&v)) {
        size_t i = 0;
        while (i < n && strcmp(fields[i].key, v.item->string) != 0)
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
    if (!cJSON_IsArray(array->item))
        return kiln__json_fail_type(array, "an array", error);
    *count = 0;
    for (const cJSON *e = array->item->child; e != NULL; e = e->next)
        ++*count;
    if (*count < least)
        return kiln__json_fail(array, KILN_ERROR_FORMAT, error, "%zu elements; at least %zu are needed",
                               *count, least);
    if (*count > most)
        return kiln__json_fail(array, KILN_ERROR_LIMIT, error, "%zu elements; the cap is %zu", *count, most);
    return KILN_OK;
}

/* ---- scalars ---------------------------------------------------------------------------------------- */

bool kiln__json_same_scalar(const kiln__json *a, const kiln__json *b) {
    const cJSON *x = a->item, *y = b->item;
    if (cJSON_IsNumber(x) && cJSON_IsNumber(y))
        return x->valuedouble == y->valuedouble;
    if (cJSON_IsString(x) && cJSON_IsString(y))
        return strcmp(x->valuestring, y->valuestring) == 0;
    return (cJSON_IsTrue(x) && cJSON_IsTrue(y)) || (cJSON_IsFalse(x) && cJSON_IsFalse(y)) ||
           (cJSON_IsNull(x) && cJSON_IsNull(y));
}

kiln_status kiln__json_get_bool(const kiln__json *value, bool *out, kiln_error *error) {
    if (!cJSON_IsBool(value->item))
        return kiln__json_fail_type(value, "true or false", error);
    *out = cJSON_IsTrue(value->item);
    return KILN_OK;
}

/* Decimal digits, without spaces, plus signs or leading zeros. */
static bool parse_i64(const char *text, int64_t *out) {
    bool negative = *text == '-';
    text += negative;
    if (*text < '0' || *text > '9' || (*text == '0' && (text[1] != '\0' || negative)))
        return false;
    int64_t value = 0; /* of the negative, which has one more */
    for (; *text != '\0'; text++)
        if (*text < '0' || *text > '9' || !kiln__mul(value, 10, &value) ||
            !kiln__add(value, -(int64_t)(*text - '0'), &value))
            return false;
    if (!negative && value == INT64_MIN)
        return false;
    *out = negative ? value : -value;
    return true;
}

static bool as_i64(const cJSON *item, int64_t *out) {
    if (cJSON_IsString(item))
        return parse_i64(item->valuestring, out);
    if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) < 9007199254740992.0) ||
        item->valuedouble != floor(item->valuedouble))
        return false;
    *out = (int64_t)item->valuedouble;
    return true;
}

kiln_status kiln__json_get_i64(const kiln__json *value, int64_t min, int64_t max, int64_t *out,
                               kiln_error *error) {
    if (as_i64(value->item, out) && *out >= min && *out <= max)
        return KILN_OK;
    char expected[80];
    if (cJSON_IsNumber(value->item) && fabs(value->item->valuedouble) >= 9007199254740992.0)
        snprintf(expected, sizeof expected, "an integer up to 2^53 - 1, or a larger one as a string");
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
    const cJSON *item = value->item;
    if (cJSON_IsNumber(item) && isfinite(item->valuedouble)) {
        *out = item->valuedouble;
        return KILN_OK;
    }
    const char *word = cJSON_IsString(item) ? item->valuestring : "";
    if (strcmp(word, "NaN") != 0 && strcmp(word, "Infinity") != 0 && strcmp(word, "-Infinity") != 0)
        return kiln__json_fail_type(value, "a number", error);
    *out = word[0] == 'N' ? (double)NAN : word[0] == '-' ? -(double)INFINITY : (double)INFINITY;
    return KILN_OK;
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
    if (!cJSON_IsString(value->item))
        return kiln__json_fail_type(value, "a string", error);
    *out = value->item->valuestring;
    if (strlen(*out) > most)
        return kiln__json_fail(value, KILN_ERROR_LIMIT, error,
                               "a string of %zu bytes; at most %zu are allowed", strlen(*out), most);
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
        if (cJSON_IsString(value->item) && strcmp(value->item->valuestring, names[i]) == 0) {
            *out = i;
            return KILN_OK;
        }
        line_add_text(&l, l.used > 6 ? ", " : " ");
        line_add_text(&l, names[i]);
    }
    return kiln__json_fail_type(value, expected, error);
}
