/* A stable sort of (key, index) pairs that allocates nothing by itself:
 * qsort of the C library may. Internal. */
#ifndef KILN_SCHED_SORT_H
#define KILN_SCHED_SORT_H

#include "kiln_base.h"

typedef struct kiln__key {
    int64_t key;
    uint32_t index;
} kiln__key;

/* Sorts by ascending key; equal keys keep their order. `scratch` has room for n as well. Linear when the keys
 * are in order already, else n log n. */
void kiln__sort_keys(kiln__key *keys, kiln__key *scratch, size_t n);

#endif
