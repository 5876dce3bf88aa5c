/* Bytes as a program of builder calls, right and wrong ones: for a fuzzer, and for a generator with a
 * seed. */
#ifndef KILN_TEST_BUILDER_CALLS_H
#define KILN_TEST_BUILDER_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes the calls. What is accepted is baked, held against its own dump, and run; with `extremes`, where
 * counts, strides and places are anything up to the ends of their types, it is not run. Every refusal must
 * have a text, and whatever else is wrong ends the process. */
void builder_calls_run(const uint8_t *data, size_t size, bool extremes);

#endif
