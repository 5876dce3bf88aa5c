/* Random contents for tensors of every type: the same for a seed on every machine. */
#ifndef KILN_TOOLS_RANDOM_H
#define KILN_TOOLS_RANDOM_H

#include "kiln_dtype.h"

#include <stdbool.h>
#include <stdint.h>

/* SplitMix64: a few lines, the same on every machine. */
uint64_t random_next(uint64_t *state);

/* Is there a way to make them? All types but q8_a, which does not occur in files. */
bool random_has(kiln_dtype dtype);

/* One more than the largest integer of the type; where there is no such number, the largest. */
int64_t random_most(kiln_dtype dtype);

/* One element (of block types: a block) to `to`, which need not be aligned. Floats lie in [-scale, scale),
 * and so do the values of a block; integers lie in [0, limit), limit ≥ 1. */
void random_put(unsigned char *to, kiln_dtype dtype, uint64_t *state, float scale, int64_t limit);

#endif
