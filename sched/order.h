/* Assigning nodes to regions. Internal.
 *
 * A region is a set of nodes with no hazard among them; an order is region_of[node] alone, each hazard going
 * from a lower to a higher region. Three ways to make one, all deterministic: as few regions as there can be,
 * one node per region, and as many regions as a memory cap asks for. Costs are near-linear in nodes and
 * hazards.
 */
#ifndef KILN_SCHED_ORDER_H
#define KILN_SCHED_ORDER_H

#include "flow.h"

/* The least number of regions (= nodes on the longest chain of hazards). Within its slack each node goes
 * where bytes times regions alive are least; the peak is never above that of "everything as early as
 * possible". region_of has n_nodes entries. Errors: KILN_ERROR_MEMORY. */
KILN_MUST_CHECK kiln_status kiln__order_shortest(const kiln__flow *flow, uint32_t *region_of,
                                                 uint32_t *n_regions, kiln_error *error);

/* One node per region, program order. */
void kiln__order_serial(const kiln__flow *flow, uint32_t *region_of, uint32_t *n_regions);

/* Fills regions while what is alive stays within `budget` bytes; a node that does not fit waits for a later
 * region. When none fits, the one that adds least goes alone. So budget 0 gives a serial order that keeps
 * little alive. The peak may exceed the budget: judge by the plan made from it. Errors: KILN_ERROR_MEMORY. */
KILN_MUST_CHECK kiln_status kiln__order_within(const kiln__flow *flow, int64_t budget, uint32_t *region_of,
                                               uint32_t *n_regions, kiln_error *error);

#endif
