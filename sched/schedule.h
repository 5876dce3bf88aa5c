/* The schedule of a program: order, regions, barriers with their causes, and the memory plan. Internal.
 *
 *     kiln__hazards hazards;
 *     kiln__schedule schedule;
 *     kiln__hazards_find(program, allocator, NULL, &hazards, error);
 *     kiln__schedule_make(program, &hazards, &options, &schedule, error);
 *     ...
 *     kiln__schedule_free(&schedule);
 *     kiln__hazards_free(&hazards);
 *
 * Everything is deterministic: the same program and options give the same schedule on every machine.
 */
#ifndef KILN_SCHED_SCHEDULE_H
#define KILN_SCHED_SCHEDULE_H

#include "memory.h"

typedef struct kiln__schedule_options {
    kiln__memory_options memory;
    int64_t max_arena; /* bytes the arena may take; 0: no cap. Regions are added only as far as it needs */
    bool serial;       /* one node per region, in program order */
} kiln__schedule_options;

/* Why there is a boundary between two regions. */
typedef enum kiln__barrier_cause {
    KILN__BARRIER_HAZARD, /* a hazard on a longest chain: every schedule has it */
    KILN__BARRIER_MEMORY, /* added to keep the arena within max_arena */
    KILN__BARRIER_SERIAL, /* added because `serial` was asked for */
    KILN__BARRIER_CAUSE_COUNT
} kiln__barrier_cause;

/* "hazard", "memory", "serial" */
extern const char *const kiln__barrier_cause_names[KILN__BARRIER_CAUSE_COUNT];

/* The barrier between region r and region r + 1. Its own hazards are those from a node of region r to a node
 * of region r + 1: no other barrier separates them. */
typedef struct kiln__barrier {
    kiln__barrier_cause cause;
    /* The first of its own hazards, an index into kiln__hazards.items; without any: for cause HAZARD one that
     * crosses it, else KILN__NO_HAZARD. */
    uint32_t hazard;
    uint32_t first, n;   /* its own hazards: barrier_hazards[first … first+n-1] */
    uint32_t n_crossing; /* hazards from a region ≤ r to a region > r, its own included */
} kiln__barrier;
#define KILN__NO_HAZARD UINT32_MAX

typedef struct kiln__schedule {
    kiln_allocator allocator;
    uint32_t n_nodes;
    uint32_t n_regions;      /* 0 for a program without nodes */
    uint32_t longest_chain;  /* nodes on the longest chain of hazards: there cannot be fewer regions */
    uint32_t *order;         /* [n_nodes]: node indices by region, program order within a region */
    uint32_t *region_of;     /* [n_nodes], by node index */
    uint32_t *region_first;  /* [n_regions + 1]: region r is order[region_first[r] … region_first[r+1]-1] */
    kiln__barrier *barriers; /* [n_regions - 1] */
    uint32_t n_barriers;
    uint32_t *barrier_hazards; /* hazard indices, grouped by barrier, program order within */
    uint32_t n_barrier_hazards;
    uint32_t barriers_avoided; /* against one after every node: n_nodes - n_regions */
    kiln__memory memory;
} kiln__schedule;

/* Orders the nodes of the program into regions and plans its memory. Number of regions: longest_chain, unless
 * max_arena or serial asks for more. `*out` is written whole and owns its arrays (allocator of `hazards`); on
 * failure it is empty. Cost: near-linear in nodes and hazards; with max_arena a few dozen times that when the
 * cap binds. Errors: KILN_ERROR_MEMORY; KILN_ERROR_OVERFLOW; KILN_ERROR_ARGUMENT (a negative cap, memory
 * options); and KILN_ERROR_LIMIT when no order was found that fits max_arena (the text has the cap, the best
 * that was found and what no order can go below). */
KILN_MUST_CHECK kiln_status kiln__schedule_make(const kiln_graph *graph, const kiln__hazards *hazards,
                                                const kiln__schedule_options *options, kiln__schedule *out,
                                                kiln_error *error);
void kiln__schedule_free(kiln__schedule *schedule);

#endif
