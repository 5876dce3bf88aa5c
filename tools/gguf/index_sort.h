/* Sorts an array of indices in place, without memory of its own and in O(n log n) whatever the input, so that
 * crafted names cost no more than others. Internal. */
#ifndef KILN_GGUF_INDEX_SORT_H
#define KILN_GGUF_INDEX_SORT_H

#include "kiln_base.h"

/* Negative, 0 or positive as item `a` comes before, with or after item `b`. */
typedef int (*kiln_gguf__compare)(const void *items, uint32_t a, uint32_t b);

/* Equal items keep the order of their indices, so there is one right result. */
static inline bool kiln_gguf__before(const void *items, kiln_gguf__compare compare, uint32_t a, uint32_t b) {
    int order = compare(items, a, b);
    return order < 0 || (order == 0 && a < b);
}

/* Moves index[root] down the heap of `count` indices until no child comes after it. */
static inline void kiln_gguf__sift(const void *items, kiln_gguf__compare compare, uint32_t *index,
                                   size_t root, size_t count) {
    uint32_t moving = index[root];
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && kiln_gguf__before(items, compare, index[child], index[child + 1]))
            child++;
        if (!kiln_gguf__before(items, compare, moving, index[child]))
            break;
        index[root] = index[child];
    }
    index[root] = moving;
}

/* Fills `index` with 0 … count-1 in the order of `compare`: a heap sort. */
static inline void kiln_gguf__index_sort(const void *items, kiln_gguf__compare compare, uint32_t *index,
                                         size_t count) {
    for (size_t i = 0; i < count; i++)
        index[i] = (uint32_t)i;
    for (size_t root = count / 2; root-- > 0;)
        kiln_gguf__sift(items, compare, index, root, count);
    for (size_t last = count; last-- > 1;) {
        uint32_t largest = index[0];
        index[0] = index[last];
        index[last] = largest;
        kiln_gguf__sift(items, compare, index, 0, last);
    }
}

#endif
