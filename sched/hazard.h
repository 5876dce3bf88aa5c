/* Hazards: which nodes must wait for which, and for what bytes. Internal.
 *
 * One source for all of it: program order plus overlapping byte boxes. Views, in-place ops, appends to a KV
 * cache and two storages mapped over the same memory are the same case. See hazard.c for the method.
 */
#ifndef KILN_SCHED_HAZARD_H
#define KILN_SCHED_HAZARD_H

#include "graph.h"

typedef enum kiln__hazard_kind {
    KILN__RAW, /* reads what was written (or may have been) */
    KILN__WAW, /* writes over what was written */
    KILN__WAR, /* writes over what was read */
    KILN__HAZARD_KIND_COUNT
} kiln__hazard_kind;

extern const char *const kiln__hazard_kind_names[KILN__HAZARD_KIND_COUNT]; /* "raw", "waw", "war" */

/* `to` must run in a later region than `from`; from < to in program order. The accesses are indices into
 * kiln__hazards.list.items: their boxes overlap (or one of them is "all memory") and at least one writes. */
typedef struct kiln__hazard {
    uint32_t from, to;
    uint32_t from_access, to_access;
    kiln__hazard_kind kind;
} kiln__hazard;

/* Where a storage lies for the purpose of overlap:
 * storages whose memory is known and overlaps are one space. */
typedef struct kiln__space_place {
    uint32_t space;
    int64_t base; /* offset of the storage's first byte in the space */
} kiln__space_place;

/* Owned by whoever called kiln__hazards_find; holds no pointer into the graph except list.graph. */
typedef struct kiln__hazards {
    kiln_allocator allocator;
    uint32_t n_nodes;
    uint32_t n_storages; /* as graph->storages.count: ids are 1 … n_storages - 1 */

    kiln_access_list list;  /* the accesses of all nodes, in program order */
    uint32_t *first_access; /* [n_nodes + 1]: node i has items first_access[i] … first_access[i+1]-1 */

    /* At most one hazard per pair of nodes (the first found: RAW before WAW before WAR where there is a
     * choice within one access). Not every conflicting pair is in it: those implied by a chain of others may
     * be left out. The transitive closure is that of all conflicting pairs. */
    kiln__hazard *items;
    size_t count, capacity;
    uint32_t *first_hazard; /* [n_nodes + 1]: hazards ending in node i */

    kiln__space_place *places; /* [n_storages]; space 0 for the unused id 0 */
    uint32_t n_spaces;
} kiln__hazards;

/* Tensors that someone looks at when the node that makes them is done (taps): the node counts as reading them
 * whole, so that whoever writes any of their bytes is ordered against it. */
typedef struct kiln__watched {
    const uint8_t *of; /* [n], by tensor id: 1 for those that are */
    size_t n;
} kiln__watched;

/* Collects the accesses of every node and finds the hazards between them. A node that declares no accesses
 * (KILN__OPERAND_ANY) conflicts with every other node that accesses anything. `*out` is written whole; on
 * failure it is empty, and kiln__hazards_free on it is harmless. Cost: near-linear in accesses plus hazards,
 * as long as writes cover what they overwrite; see hazard.c. `watched` may be NULL. Errors:
 * KILN_ERROR_MEMORY; KILN_ERROR_LIMIT (2^32 - 2 nodes or accesses); KILN_ERROR_OVERFLOW (known memory that
 * wraps the address space); whatever an op's `accesses` returns. */
KILN_MUST_CHECK kiln_status kiln__hazards_find(const kiln_graph *graph, const kiln_allocator *allocator,
                                               const kiln__watched *watched, kiln__hazards *out,
                                               kiln_error *error);
void kiln__hazards_free(kiln__hazards *hazards);

/* The predicate all of it rests on: do these two accesses conflict (same space, overlapping boxes, one
 * writes)? `earlier` is the one first in program order; *kind may be NULL. */
bool kiln__accesses_conflict(const kiln__hazards *hazards, const kiln__access *earlier,
                             const kiln__access *later, kiln__hazard_kind *kind);

#endif
