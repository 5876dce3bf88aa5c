#include "json_tree.h"
#include "checked.h"

#include <stdlib.h>
#include <string.h>

/* ---- strings ---------------------------------------------------------------------------------------- */

/* The value of `n` hex digits that the scan saw. */
static uint32_t hex_number(const char *text, int n) {
    uint32_t value = 0;
    for (int i = 0; i < n; i++) {
        uint32_t c = (unsigned char)text[i];
        value = value << 4 | (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* Writes a code point as UTF-8 and returns where the next byte goes. */
static char *put_utf8(char *out, uint32_t code) {
    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    /* As many leading ones as there are bytes. */
    *out++ = (char)((0xff00u >> (more + 1) & 0xff) | code >> (6 * more));
    while (more-- > 0)
        *out++ = (char)(0x80 | (code >> (6 * more) & 0x3f));
    return out;
}

/* `at` is after a backslash. Returns where the text goes on. */
static const char *take_escape(const char *at, char **out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (*at != 'u') {
        *(*out)++ = to[strchr(from, *at) - from];
        return at + 1;
    }
    uint32_t code = hex_number(at + 1, 4);
    at += 5;
    /* Half of a pair: the other half is the next escape. */
    if (code >= 0xd800 && code < 0xdc00) {
        code = 0x10000 + ((code - 0xd800) << 10) + (hex_number(at + 2, 4) - 0xdc00);
        at += 6;
    }
    *out = put_utf8(*out, code);
    return at;
}

/* Copies the value of a string, with a NUL, to *out, which moves on. `at` is its opening quote; returns what
 * comes after the closing one. */
static const char *take_string(const char *at, char **out) {
    at++;
    for (;;) {
        const char *start = at;
        while (*at != '"' && *at != '\\')
            at++;
        memcpy(*out, start, (size_t)(at - start));
        *out += at - start;
        if (*at++ == '"')
            break;
        at = take_escape(at, out);
    }
    *(*out)++ = '\0';
    return at;
}

/* ---- the tree --------------------------------------------------------------------------------------- */

typedef struct builder {
    kiln__json_item *items;
    size_t n;
    size_t open;     /* 1 + the index of the innermost container that is open, whose `span` holds that of the
                      * one around it until it closes; 0: none */
    const char *key; /* of the value that comes, NULL when it has none */
    char *strings;   /* where the next one goes */
} builder;

static void add(builder *b, kiln__json_type type, const char *text, size_t size) {
    if (b->open > 0)
        b->items[b->open - 1].size++;
    b->items[b->n++] = (kiln__json_item){b->key, text, size, 1, type};
    b->key = NULL;
}

static void open_container(builder *b, kiln__json_type type) {
    add(b, type, NULL, 0);
    b->items[b->n - 1].span = b->open;
    b->open = b->n;
}

static void close_container(builder *b) {
    size_t index = b->open - 1;
    b->open = b->items[index].span;
    b->items[index].span = b->n - index;
}

/* A string is a key where an object is open and no key waits for its value. */
static const char *add_string(builder *b, const char *at) {
    const char *value = b->strings;
    at = take_string(at, &b->strings);
    if (b->key == NULL && b->open > 0 && b->items[b->open - 1].type == KILN_JSON_OBJECT)
        b->key = value;
    else
        add(b, KILN_JSON_STRING, value, (size_t)(b->strings - value) - 1);
    return at;
}

static const char *add_number(builder *b, const char *at, const char *end) {
    const char *start = at;
    while (at < end &&
           ((*at >= '0' && *at <= '9') || *at == '-' || *at == '+' || *at == '.' || (*at | 32) == 'e'))
        at++;
    add(b, KILN_JSON_NUMBER, start, (size_t)(at - start));
    return at;
}

/* The grammar holds, so the first character of a value tells its kind. */
static void build(builder *b, const char *at, const char *end) {
    while (at < end) {
        switch (*at) {
        case ' ':
        case '\t':
        case '\n':
        case '\r':
        case ',':
        case ':':
            at++;
            break;
        case '{':
        case '[':
            open_container(b, *at++ == '{' ? KILN_JSON_OBJECT : KILN_JSON_ARRAY);
            break;
        case '}':
        case ']':
            close_container(b);
            at++;
            break;
        case '"':
            at = add_string(b, at);
            break;
        case 'n':
            add(b, KILN_JSON_NULL, NULL, 0);
            at += 4;
            break;
        case 't':
            add(b, KILN_JSON_TRUE, NULL, 0);
            at += 4;
            break;
        case 'f':
            add(b, KILN_JSON_FALSE, NULL, 0);
            at += 5;
            break;
        default:
            at = add_number(b, at, end);
        }
    }
}

kiln_status kiln__json_tree_build(const char *text, size_t size, const kiln__json_facts *facts,
                                  const kiln_allocator *allocator, kiln__json_tree *out) {
    *out = (kiln__json_tree){.n = facts->values, .string_bytes = facts->string_bytes};
    out->items = KILN_NEW_RAW(allocator, kiln__json_item, out->n);
    out->strings = KILN_NEW_RAW(allocator, char, out->string_bytes);
    if (out->items == NULL || out->strings == NULL) {
        kiln__json_tree_free(out, allocator);
        return KILN_ERROR_MEMORY;
    }
    builder b = {.items = out->items, .strings = out->strings};
    build(&b, text + facts->start, text + size);
    return KILN_OK;
}

void kiln__json_tree_free(kiln__json_tree *tree, const kiln_allocator *allocator) {
    KILN_DELETE(allocator, tree->items, kiln__json_item, tree->n);
    KILN_DELETE(allocator, tree->strings, char, tree->string_bytes);
    *tree = (kiln__json_tree){0};
}

/* ---- duplicate keys --------------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b) {
    const kiln__json_item *const *x = a, *const *y = b;
    int order = strcmp((*x)->key, (*y)->key);
    return order != 0 ? order : (*x > *y) - (*x < *y);
}

/* The first member whose key stood before, or NULL. Pairs are cheapest where there are few; sorting keeps an
 * object that is made to collide in hash tables as cheap as any other. */
static kiln_status find_duplicate(const kiln__json_item *object, const kiln_allocator *allocator,
                                  const kiln__json_item **found) {
    enum { FEW = 8 };
    const kiln__json_item *few[FEW], **members = few, *end = object + object->span;
    *found = NULL;
    if (object->size > FEW &&
        (members = KILN_NEW_RAW(allocator, const kiln__json_item *, object->size)) == NULL)
        return KILN_ERROR_MEMORY;
    size_t n = 0;
    for (const kiln__json_item *m = object + 1; m < end; m += m->span) {
        for (size_t i = 0; members == few && *found == NULL && i < n; i++)
            if (strcmp(few[i]->key, m->key) == 0)
                *found = m;
        members[n++] = m;
    }
    if (members == few)
        return KILN_OK;
    qsort(members, n, sizeof(const kiln__json_item *), compare_keys);
    for (size_t i = 1; i < n; i++)
        if (strcmp(members[i - 1]->key, members[i]->key) == 0 && (*found == NULL || members[i] < *found))
            *found = members[i];
    KILN_DELETE(allocator, members, const kiln__json_item *, object->size);
    return KILN_OK;
}

kiln_status kiln__json_tree_duplicate(const kiln__json_tree *tree, const kiln_allocator *allocator,
                                      size_t *found) {
    *found = SIZE_MAX;
    for (size_t i = 0; i < tree->n; i++) {
        const kiln__json_item *duplicate;
        if (tree->items[i].type != KILN_JSON_OBJECT)
            continue;
        if (find_duplicate(&tree->items[i], allocator, &duplicate) != KILN_OK)
            return KILN_ERROR_MEMORY;
        if (duplicate != NULL) {
            *found = (size_t)(duplicate - tree->items);
            return KILN_OK;
        }
    }
    return KILN_OK;
}
