/* Checked arithmetic and small allocation helpers. Every size in Kiln is computed with these. Internal. */
#ifndef KILN_CHECKED_H
#define KILN_CHECKED_H

#include "kiln_base.h"

#include <string.h>

/* False on overflow of int64; *out is then unspecified. */
static inline bool kiln__mul(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool kiln__add(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

/* Rounds `n` ≥ 0 up to a multiple of `align`, a power of two. False on overflow. */
static inline bool kiln__align_up(int64_t n, int64_t align, int64_t *out) {
    if (__builtin_add_overflow(n, align - 1, out))
        return false;
    *out &= ~(align - 1);
    return true;
}

static inline kiln_allocator kiln__allocator_or_default(const kiln_allocator *allocator) {
    return allocator != NULL && allocator->alloc != NULL ? *allocator : kiln_allocator_default();
}

/* Array of `count` items; NULL on overflow or when the allocator has none. */
static inline void *kiln__alloc_raw(const kiln_allocator *a, size_t count, size_t size, size_t align) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return a->alloc(a->context, bytes ? bytes : 1, align);
}

/* The same, zeroed. */
static inline void *kiln__alloc_array(const kiln_allocator *a, size_t count, size_t size, size_t align) {
    void *p = kiln__alloc_raw(a, count, size, align);
    if (p != NULL)
        memset(p, 0, count * size);
    return p;
}

static inline void kiln__free_array(const kiln_allocator *a, void *p, size_t count, size_t size) {
    size_t bytes = count * size;
    if (p != NULL)
        a->free(a->context, p, bytes > 0 ? bytes : 1);
}

/* Zeroed; and as it comes, for what is filled at once or perhaps not used at all: memory that is not touched costs nothing. */
#define KILN_NEW(a, type, count)       ((type *)kiln__alloc_array((a), (count), sizeof(type), _Alignof(type)))
#define KILN_NEW_RAW(a, type, count)   ((type *)kiln__alloc_raw((a), (count), sizeof(type), _Alignof(type)))
#define KILN_DELETE(a, p, type, count) kiln__free_array((a), (p), (count), sizeof(type))

/* A growable array: struct { T *items; size_t count, capacity; }. Grows to `want` items, or to twice what it had if that
 * is more; false when memory is out, and then nothing has changed. New room is not zeroed. `place` is the address of
 * `items`, a pointer of any type: it is read and written as bytes. */
static inline bool kiln__grow(const kiln_allocator *a, void *place, size_t *capacity, size_t want,
                              size_t size, size_t align) {
    if (want <= *capacity)
        return true;
    size_t next = *capacity <= SIZE_MAX / 2 ? 2 * *capacity : want, bytes;
    next = next < want ? want : next;
    next = next < 8 ? 8 : next;
    if (__builtin_mul_overflow(next, size, &bytes))
        return false;
    void *p = a->alloc(a->context, bytes, align);
    if (p == NULL)
        return false;
    void *old;
    memcpy(&old, place, sizeof old);
    if (old != NULL) {
        memcpy(p, old, *capacity * size);
        a->free(a->context, old, *capacity * size);
    }
    memcpy(place, &p, sizeof p);
    *capacity = next;
    return true;
}

#define KILN_GROW(a, array, want)                                                                            \
    kiln__grow((a), &(array).items, &(array).capacity, (want), sizeof *(array).items, _Alignof(max_align_t))
#define KILN_ARRAY_FREE(a, array)                                                                            \
    do {                                                                                                     \
        if ((array).items != NULL)                                                                           \
            (a)->free((a)->context, (array).items, (array).capacity * sizeof *(array).items);                \
        (array).items = NULL;                                                                                \
        (array).count = (array).capacity = 0;                                                                \
    } while (0)

#endif
