/* What was decided about regions, for dumps. */
#include "cpu_pool.h"

/* Regions that one thread computes follow one another without a barrier: it goes from one to the next by itself. That it
 * looks up in between, to call an observer, to wake somebody early for a later region (where serial_end breaks the loop)
 * or to let another run have its turn, does not make it wait for anybody. So a serial run is all of them in a row. */
void kiln__cpu_describe(const kiln__run *owner, uint32_t region, kiln__region_info *out) {
    const kiln__cpu_run *run = owner->state;
    const kiln__tape *tape = owner->tape;
    const kiln__region *r = &tape->regions[region];
    const uint32_t others = run->threads - 1;
    *out = (kiln__region_info){.shared = run->steps[region].units > 1,
                               .estimate = r->estimate,
                               .tiles = r->tiles,
                               .grain = run->steps[region].grain,
                               .wakes = run->steps[region].wake < others ? run->steps[region].wake : others};
    if (out->shared || (region > 0 && run->steps[region - 1].units <= 1))
        return;
    uint32_t end = region;
    while (end < tape->n_regions && run->steps[end].units <= 1)
        end++;
    out->serial_regions = end - region;
    out->serial_records = tape->regions[end - 1].last - r->first;
}
