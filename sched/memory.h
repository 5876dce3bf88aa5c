/* The memory plan: where each arena storage lies, and which outputs take the place of dying inputs. Internal.
 *
 * It is made after the order is known and never adds a barrier: two storages share bytes only when the last
 * region that touches one comes before the first region that touches the other.
 */
#ifndef KILN_SCHED_MEMORY_H
#define KILN_SCHED_MEMORY_H

#include "hazard.h"

/* Default alignment of arena offsets. 128 covers the cache lines of Apple's cores and the line pairs that x86
 * prefetches, so two storages never share one; the same everywhere, so that plans are. */
enum { KILN__ARENA_ALIGN = 128 };

#define KILN__NEVER UINT32_MAX /* "no region": a storage that no node accesses */

/* A storage that must outlive its last access: until the end of the region that `node` runs in, or to the end
 * of the run (node = KILN__KEEP_TO_END). For outputs of taps and whatever is read after the run. */
typedef struct kiln__keep {
    uint32_t storage;
    uint32_t node;
} kiln__keep;
#define KILN__KEEP_TO_END UINT32_MAX

typedef struct kiln__memory_options {
    bool no_reuse;   /* every storage gets bytes of its own */
    bool no_inplace; /* no output takes the place of an input */
    int64_t align;   /* of offsets; a power of two; 0 for KILN__ARENA_ALIGN */
    const kiln__keep *keep;
    uint32_t n_keep;
} kiln__memory_options;

/* Of one storage. Storages that are not KILN_STORAGE_ARENA have a life, but offset -1. */
typedef struct kiln__place {
    int64_t offset; /* in the arena; 0 for those of size 0 or never accessed */
    uint32_t first; /* first and last region that accesses it; both KILN__NEVER when none does */
    uint32_t last;  /* `kiln__keep` included */
    uint32_t heir;  /* the storage that takes its place in place, 0 if none */
    uint32_t host;  /* the storage whose place it takes in place, 0 if none */
} kiln__place;

/* Output `out` of `node` runs over input `in` (both count from 0, as in kiln_inplace). */
typedef struct kiln__inplace_use {
    uint32_t node;
    uint8_t out, in;
} kiln__inplace_use;

typedef struct kiln__memory {
    kiln__place *places; /* [n_storages], by storage id */
    uint32_t n_storages;
    kiln__inplace_use *inplace; /* in program order */
    uint32_t n_inplace;
    size_t inplace_capacity;
    int64_t align;
    int64_t arena_bytes; /* the size of the arena: a multiple of align */
    int64_t sum_bytes;   /* without any reuse (sizes rounded up to align) */
    int64_t lower_bound; /* the largest sum of sizes alive in one region, in-place pairs counted once */
} kiln__memory;

static inline int64_t kiln__arena_align(const kiln__memory_options *options) {
    return options->align ? options->align : KILN__ARENA_ALIGN;
}

/* Errors: KILN_ERROR_ARGUMENT (align no power of two, an id in `keep` out of range). */
KILN_MUST_CHECK kiln_status kiln__memory_options_check(const kiln_graph *graph,
                                                       const kiln__memory_options *options,
                                                       kiln_error *error);

/* Plans memory for nodes that run in the given regions (region_of[n_nodes], each hazard going from a lower to
 * a higher region). `*out` is written whole; on failure it is empty. Its arrays come from `allocator`.
 * Errors: KILN_ERROR_MEMORY, KILN_ERROR_OVERFLOW (the arena does not fit 63 bits), KILN_ERROR_ARGUMENT (align
 * no power of two, an id in `keep` out of range). */
KILN_MUST_CHECK kiln_status kiln__memory_plan(const kiln_graph *graph, const kiln__hazards *hazards,
                                              const uint32_t *region_of, uint32_t n_regions,
                                              const kiln__memory_options *options,
                                              const kiln_allocator *allocator, kiln__memory *out,
                                              kiln_error *error);
void kiln__memory_free(kiln__memory *memory, const kiln_allocator *allocator);

#endif
