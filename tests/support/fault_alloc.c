#define _POSIX_C_SOURCE 200809L

#include "fault_alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Under ASan the whole ends where the bytes handed out end, so that the first byte past them is seen. Without
 * it a canary stands there and is looked at when they are freed. */
#if defined __SANITIZE_ADDRESS__
#define CANARY 0
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define CANARY 0
#endif
#endif
#ifndef CANARY
#define CANARY 64
#endif

/* Stands directly before the bytes handed out. */
typedef struct fault_block {
    struct fault_block *next, *previous;
    void *base;
    size_t size;
    uint64_t magic;
} fault_block;

static const uint64_t live_magic = 0x4b696c6e4c697665u, dead_magic = 0x4b696c6e44656164u;

static bool is_injected(fault_alloc *f) {
    f->total++;
    f->calls++;
    bool fail =
        (f->mode == FAULT_ONCE && f->calls == f->nth) || (f->mode == FAULT_FROM && f->calls >= f->nth);
    f->injected += fail;
    return fail;
}

static fault_block *block_new(size_t size, size_t align) {
    size_t room = align > _Alignof(max_align_t) ? align : _Alignof(max_align_t);
    size_t before = (sizeof(fault_block) + room - 1) / room * room, bytes;
    void *base = NULL;
    if (__builtin_add_overflow(before, size, &bytes) || __builtin_add_overflow(bytes, CANARY, &bytes) ||
        posix_memalign(&base, room, bytes) != 0)
        return NULL;
    fault_block *block = (fault_block *)(void *)((char *)base + before - sizeof(fault_block));
    *block = (fault_block){NULL, NULL, base, size, live_magic};
    memset(block + 1, 0xA5, size + CANARY);
    return block;
}

static void *fault_take(void *context, size_t size, size_t align) {
    fault_alloc *f = context;
    fault_block *block = NULL;
    pthread_mutex_lock(&f->lock);
    if (align == 0 || (align & (align - 1)) != 0) {
        fprintf(stderr, "fault_alloc: alignment %zu is no power of two\n", align);
        f->errors++;
    } else if (!is_injected(f)) {
        block = block_new(size, align);
    }
    if (block != NULL) {
        block->next = f->head;
        if (f->head != NULL)
            f->head->previous = block;
        f->head = block;
        f->live++;
        f->live_bytes += size;
        if (f->live_bytes > f->peak_bytes)
            f->peak_bytes = f->live_bytes;
    }
    pthread_mutex_unlock(&f->lock);
    return block != NULL ? block + 1 : NULL;
}

static void check_canary(fault_alloc *f, const fault_block *block) {
    const unsigned char *end = (const unsigned char *)(block + 1) + block->size;
    for (int i = 0; i < CANARY; i++)
        if (end[i] != 0xA5) {
            fprintf(stderr, "fault_alloc: byte %d behind a block of %zu was written\n", i, block->size);
            f->errors++;
            return;
        }
}

static void unlink_and_free(fault_alloc *f, fault_block *block) {
    check_canary(f, block);
    if (block->previous != NULL)
        block->previous->next = block->next;
    else
        f->head = block->next;
    if (block->next != NULL)
        block->next->previous = block->previous;
    f->live--;
    f->live_bytes -= block->size;
    block->magic = dead_magic;
    memset(block + 1, 0x5A, block->size);
    free(block->base);
}

static void fault_give(void *context, void *pointer, size_t size) {
    fault_alloc *f = context;
    if (pointer == NULL)
        return;
    fault_block *block = (fault_block *)pointer - 1;
    pthread_mutex_lock(&f->lock);
    if (block->magic != live_magic) {
        fprintf(stderr, "fault_alloc: free of a pointer that is not live\n");
        f->errors++;
    } else {
        if (block->size != size) {
            fprintf(stderr, "fault_alloc: free got size %zu, alloc had %zu\n", size, block->size);
            f->errors++;
        }
        unlink_and_free(f, block);
    }
    pthread_mutex_unlock(&f->lock);
}

void fault_alloc_init(fault_alloc *faults) {
    memset(faults, 0, sizeof *faults);
    pthread_mutex_init(&faults->lock, NULL);
}

void fault_alloc_arm(fault_alloc *faults, fault_mode mode, size_t nth) {
    pthread_mutex_lock(&faults->lock);
    faults->mode = mode;
    faults->nth = nth;
    faults->calls = faults->injected = 0;
    pthread_mutex_unlock(&faults->lock);
}

kiln_allocator fault_alloc_allocator(fault_alloc *faults) {
    return (kiln_allocator){faults, fault_take, fault_give};
}

bool fault_alloc_finish(fault_alloc *faults) {
    bool clean = faults->live == 0 && faults->errors == 0;
    if (faults->live != 0)
        fprintf(stderr, "fault_alloc: %zu blocks (%zu bytes) leaked, newest of %zu bytes\n", faults->live,
                faults->live_bytes, faults->head->size);
    while (faults->head != NULL)
        unlink_and_free(faults, faults->head);
    pthread_mutex_destroy(&faults->lock);
    return clean;
}

/* One run of `body`. Returns false after printing when it did not behave; `*calls` gets its allocations. */
static bool run_once(const char *what, fault_body body, void *context, fault_mode mode, size_t nth,
                     size_t *calls) {
    fault_alloc faults;
    fault_alloc_init(&faults);
    fault_alloc_arm(&faults, mode, nth);
    kiln_status status = body(fault_alloc_allocator(&faults), context);
    bool must_succeed = faults.injected == 0, must_fail = mode == FAULT_FROM && faults.injected != 0;
    *calls = faults.calls;
    bool good = status == KILN_OK ? !must_fail : status == KILN_ERROR_MEMORY && !must_succeed;
    if (!good)
        fprintf(stderr, "%s: %s with allocation %zu %s\n", what, kiln_status_name(status), nth,
                mode == FAULT_NONE   ? "counted, none failing"
                : mode == FAULT_ONCE ? "failing once"
                                     : "and all later ones failing");
    if (!fault_alloc_finish(&faults)) {
        fprintf(stderr, "%s: not clean after allocation %zu failed\n", what, nth);
        good = false;
    }
    return good;
}

long fault_alloc_every(const char *what, fault_body body, void *context) {
    size_t points = 0, calls = 0;
    if (!run_once(what, body, context, FAULT_NONE, 0, &points))
        return -1;
    for (size_t nth = 1; nth <= points; nth++)
        if (!run_once(what, body, context, FAULT_ONCE, nth, &calls) ||
            !run_once(what, body, context, FAULT_FROM, nth, &calls))
            return -1;
    printf("%s: %zu allocations, %zu injected failures\n", what, points, 2 * points);
    return (long)points;
}
