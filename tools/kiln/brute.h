/* Derives what a plan must obey a second time, the slow and obvious way, and holds the plan against it. */
#ifndef KILN_TOOLS_BRUTE_H
#define KILN_TOOLS_BRUTE_H

#include "kiln_plan.h"

typedef struct brute_report {
    bool ok;
    char problem[512];  /* the first thing that is wrong */
    uint64_t nodes;     /* of the program: after lowering and fusion */
    uint64_t accesses;  /* byte boxes they declare */
    uint64_t pairs;     /* pairs of accesses compared, all of them */
    uint64_t conflicts; /* pairs that share a byte of which one writes it */
    uint64_t cautious; /* pairs that share no byte, but whose strides interlace so that the rule may say so */
    uint64_t hazards;  /* of the plan, each confirmed */
    uint32_t regions, longest_chain;
    uint64_t storages;  /* in the arena; each pair of them compared */
    uint64_t sharing;   /* pairs of them that lie over each other, none alive at the same time */
    uint64_t undecided; /* pairs with too many runs to compare: not checked, and never a finding */
} brute_report;

/* `tick` (may be NULL) is called now and then with the nodes done. KILN_ERROR_MEMORY or what an op's accesses
 * say; a plan that is wrong is no error but report->ok false. */
KILN_MUST_CHECK kiln_status brute_check(const kiln_plan *plan, void (*tick)(void *context, int64_t done),
                                        void *context, brute_report *report, kiln_error *error);

#endif
