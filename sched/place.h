/* Placing byte ranges that live for an interval of regions: two that are alive at once never overlap.
 * Internal. */
#ifndef KILN_SCHED_PLACE_H
#define KILN_SCHED_PLACE_H

#include "kiln_base.h"

typedef struct kiln__item {
    int64_t size;         /* > 0 */
    int64_t offset;       /* the answer */
    uint32_t first, last; /* regions, both included */
} kiln__item;

/* Sets the offsets of all items. All sizes are multiples of `unit`, and so are the offsets then; the sum of
 * the sizes must fit int64. *total: end of the highest item. *lower_bound: largest sum of sizes alive in one
 * region, which no placement goes below. Near-linear. False when memory is out. */
KILN_MUST_CHECK bool kiln__place_items(kiln__item *items, uint32_t n, int64_t unit,
                                       const kiln_allocator *allocator, int64_t *total, int64_t *lower_bound);

#endif
