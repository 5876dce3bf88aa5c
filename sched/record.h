/* The layout of baked records: what an executor walks. Internal.
 *
 * A tape is one session's copy of its plan's dispatches, in execution order, made once when the session is
 * created and only patched afterwards:
 *
 *     records  [r0 r1 r2 | r3 | r4 r5 …]      fixed size, in execution order
 *     regions  [  0..2   | 3  | 4..5  …]      no hazard among the records of one; a barrier between two
 *     block    [ops attrs|ops attrs| … ]      each record's operands and attribute struct, same order
 *
 * Everything is in one allocation. A slot that changes patches counts and attribute values in the block, a
 * binding that changes patches operand pointers, both at offsets found when the tape was made; then the
 * records whose counts changed are marked stale, and their regions and the tape, so that the executor finds them to
 * bring what it derives from counts (tiles, grids) up to date before the next run. The block is the same for every executor: the CPU's kernels read it as it is,
 * Metal packs its parameter structs from it.
 */
#ifndef KILN_RECORD_H
#define KILN_RECORD_H

#include "kiln_op.h"
#include "profile.h"

typedef struct kiln__record {
    kiln_args args; /* pointers into the block */
    const kiln_op *op;
    const void *kernel; /* the executor's choice, made by its prepare; the CPU's is a kiln_kernel */
    int64_t tiles;      /* for the present counts; the executor's */
    int64_t first_tile; /* within its region; the executor's */
    int64_t estimate;   /* ns that all tiles take one thread, roughly; the executor's */
    uint32_t node;      /* index in the plan's program */
    uint32_t stale;     /* 1: counts changed since `tiles` was computed */
    uint32_t piece;     /* tiles between two looks at whether to stop, at most; the executor's */
    /* When the tape is timed: nanoseconds in the kernel during this run, summed over workers (relaxed: read
     * only after the region is done). The executor zeroes it at submit. */
    _Atomic int64_t ns;
} kiln__record;

typedef struct kiln__region {
    uint32_t first, last; /* records first ≤ i < last */
    int64_t tiles;        /* the sum over its records; the executor's */
    int64_t estimate;     /* the sum over its records */
    int64_t decided;      /* the estimate when it was last decided who computes it; the executor's */
    uint32_t observed;    /* 1: call hooks->region_done when it is finished */
    uint32_t stale;       /* 1: some record is stale */
} kiln__region;

/* Bits of kiln__tape.stale. */
enum {
    KILN__STALE_COUNTS = 1, /* some record is stale */
    KILN__STALE_STEPS = 2   /* who computes what is to be decided anew */
};

/* Bits of kiln__tape.timed. */
enum {
    KILN__TIME_RECORDS = 1, /* sum up the time in kernels per record */
    KILN__TIME_PROFILE = 2  /* note all calls in the profile */
};

typedef struct kiln__tape {
    kiln__record *records;
    kiln__region *regions;
    uint32_t n_records, n_regions;
    uint32_t stale; /* KILN__STALE_* */
    uint32_t timed; /* KILN__TIME_* */
    kiln__profile *profile;
} kiln__tape;

/* Counts of a record have changed. */
static inline void kiln__tape_touch(kiln__tape *tape, uint32_t region, uint32_t record) {
    tape->records[record].stale = 1;
    tape->regions[region].stale = 1;
    tape->stale |= KILN__STALE_COUNTS;
}

#endif
