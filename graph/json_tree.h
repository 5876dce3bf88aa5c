/* The values of a JSON text in one flat array, in the order of the text: a container, then all that is in it.
 * Nothing here recurses, so the stack does not grow with the depth of a text. Internal: the readers in
 * json_read.h are what others use.
 */
#ifndef KILN_JSON_TREE_H
#define KILN_JSON_TREE_H

#include "json_scan.h"

typedef enum kiln__json_type {
    KILN_JSON_NULL,
    KILN_JSON_FALSE,
    KILN_JSON_TRUE,
    KILN_JSON_NUMBER,
    KILN_JSON_STRING,
    KILN_JSON_ARRAY,
    KILN_JSON_OBJECT
} kiln__json_type;

typedef struct kiln__json_item {
    const char *key;  /* of a member of an object, NUL-terminated; NULL for all others */
    const char *text; /* a string's value, NUL-terminated; a number's characters in the text; else NULL */
    size_t size;      /* bytes of `text`; of a container: how many elements or members */
    size_t span;      /* this item and all within it: the next sibling is so many items further */
    kiln__json_type type;
} kiln__json_item;

typedef struct kiln__json_tree {
    kiln__json_item *items; /* items[0] is the root */
    size_t n;
    char *strings;
    size_t string_bytes;
} kiln__json_tree;

/* Builds the tree of a text that passed the scan with these facts. Numbers point into the text, which must
 * live as long as the tree. Errors: KILN_ERROR_MEMORY; then there is nothing to free. */
KILN_MUST_CHECK kiln_status kiln__json_tree_build(const char *text, size_t size,
                                                  const kiln__json_facts *facts,
                                                  const kiln_allocator *allocator, kiln__json_tree *out);

/* Frees it; a zeroed tree is allowed. */
void kiln__json_tree_free(kiln__json_tree *tree, const kiln_allocator *allocator);

/* Index of the first item, in the order of the text, whose key stood before in its object; SIZE_MAX when
 * there is none. `allocator` serves scratch memory. Errors: KILN_ERROR_MEMORY. */
KILN_MUST_CHECK kiln_status kiln__json_tree_duplicate(const kiln__json_tree *tree,
                                                      const kiln_allocator *allocator, size_t *found);

#endif
