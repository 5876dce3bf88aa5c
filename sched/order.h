/* Assigning nodes to regions. Internal.
 *
 * A region is a set of nodes with no hazard among them; the order is given by region_of[node] alone (program
 * order within a region). Three ways to make one, all deterministic: as few regions as there can be, with the
 * slack used to lower peak memory; one node per region; and as many regions as a memory cap asks for.
 */
#ifndef KILN_SCHED_ORDER_H
#define KILN_SCHED_ORDER_H

#include "schedule.h"

/* Hazards by their `from` node, for walking forwards; and what each node and storage have to do with each
 * other: the arena storages a node touches (bytes > 0; an opaque node touches its operands), and the nodes
 * that touch a storage, each pair once. Built once per schedule. */
typedef struct kiln__flow {
    kiln_allocator allocator;
    const kiln__hazards *hazards;
    uint32_t n_nodes, n_storages;
    size_t *first_out;  /* [n_nodes + 1] */
    uint32_t *out_node; /* successors, grouped by node */
    size_t n_out;
    size_t *first_touch;     /* [n_nodes + 1] */
    uint32_t *touch_storage; /* arena storages, grouped by node */
    size_t *first_user;      /* [n_storages + 1] */
    uint32_t *user_node;     /* nodes in program order, grouped by storage */
    size_t n_touch;
    int64_t
        *bytes; /* [n_storages]: size rounded up to the alignment; 0 for those that are not in the arena */
} kiln__flow;

KILN_MUST_CHECK kiln_status kiln__flow_make(const kiln_graph *graph, const kiln__hazards *hazards,
                                            int64_t align, const kiln_allocator *allocator, kiln__flow *out,
                                            kiln_error *error);
void kiln__flow_free(kiln__flow *flow);

/* The least number of regions (= nodes on the longest chain of hazards). Within its slack each node moves to
 * where the bytes times regions that are alive are least; never worse in peak than everything as early as
 * possible. region_of has n_nodes entries. */
KILN_MUST_CHECK kiln_status kiln__order_shortest(const kiln__flow *flow, uint32_t *region_of,
                                                 uint32_t *n_regions, kiln_error *error);

/* Fills regions in program order while what is alive stays within `budget` bytes; a node that does not fit
 * waits for a later region. When nothing fits, the node that adds least goes alone. Budget 0 is thus a serial
 * order that keeps little alive. The result may exceed the budget: look at the plan made from it. */
KILN_MUST_CHECK kiln_status kiln__order_within(const kiln__flow *flow, int64_t budget, uint32_t *region_of,
                                               uint32_t *n_regions, kiln_error *error);

#endif
