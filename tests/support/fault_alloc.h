/* An allocator for tests: counts, checks that `free` gets the size `alloc` was asked for, reports leaks, and
 * fails the nth allocation once, or every one from the nth on.
 *
 *     fault_alloc faults;
 *     fault_alloc_init(&faults);
 *     fault_alloc_arm(&faults, FAULT_ONCE, 3);
 *     ... create, use and destroy with fault_alloc_allocator(&faults) ...
 *     assert_true(fault_alloc_finish(&faults));
 *
 * or, for the whole sweep over n, `fault_alloc_every`. Memory it hands out is filled with 0xA5, and with 0x5A
 * before it is freed. Any number of threads may allocate and free; the other functions belong to one thread.
 */
#ifndef KILN_TESTS_FAULT_ALLOC_H
#define KILN_TESTS_FAULT_ALLOC_H

#include "kiln_base.h"

#include <pthread.h>

typedef enum fault_mode {
    FAULT_NONE, /* count only */
    FAULT_ONCE, /* the nth allocation fails, later ones succeed */
    FAULT_FROM  /* the nth and all later ones fail */
} fault_mode;

struct fault_block;

typedef struct fault_alloc {
    pthread_mutex_t lock;
    fault_mode mode;
    size_t nth;               /* from 1, counted since the last arm */
    size_t calls;             /* allocations asked for since the last arm */
    size_t injected;          /* of them, made to fail */
    size_t total;             /* allocations asked for since init */
    size_t live, live_bytes;  /* not yet freed */
    size_t peak_bytes;        /* largest live_bytes */
    size_t errors;            /* wrong sizes and foreign pointers given to free, bad alignments */
    struct fault_block *head; /* live blocks, newest first */
} fault_alloc;

/* Fails nothing until armed. Undone by `fault_alloc_finish`. */
void fault_alloc_init(fault_alloc *faults);

/* From now on: `mode`, counting from zero again. */
void fault_alloc_arm(fault_alloc *faults, fault_mode mode, size_t nth);

/* The allocator to hand to Kiln. `faults` must outlive everything allocated with it. */
kiln_allocator fault_alloc_allocator(fault_alloc *faults);

/* True when nothing is live and no error was counted; else prints what is wrong to stderr. Live blocks are
 * given back, so that one leak is reported once. `faults` may be initialised again afterwards. */
bool fault_alloc_finish(fault_alloc *faults);

/* One complete use: create, use, destroy. Returns KILN_OK, or the first error it met, having destroyed all it
 * made. When a call fails, the body may try it again and go on. */
typedef kiln_status (*fault_body)(kiln_allocator allocator, void *context);

/* Runs `body` without failures to count its allocations, then once per allocation with that one failing, and
 * once more with all from that one failing. Prints "WHAT: N allocations, 2N injected failures". Returns N, or
 * -1 after printing what went wrong: the first run failed, a run returned something other than KILN_OK or
 * KILN_ERROR_MEMORY, a persistent failure went unreported, memory leaked, or `free` got a wrong size. */
long fault_alloc_every(const char *what, fault_body body, void *context);

#endif
