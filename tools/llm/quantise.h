/* Rows of floats as they stand in GGUF files: f32, f16, q8_0, q4_0 and iq4_nl.
 *
 * The rules are simple ones: a block's scale is its largest value over the largest step, and each value goes
 * to the nearest step. ggml's quantiser tries several scales for q4_0 and iq4_nl and comes closer. Every
 * operation is rounded on its own, so the bytes are the same on every machine. Any thread. */
#ifndef KILN_TOOLS_QUANTISE_H
#define KILN_TOOLS_QUANTISE_H

#include "kiln_dtype.h"

#include <stdbool.h>
#include <stddef.h>

/* True for the dtypes above. */
bool quantise_knows(kiln_dtype dtype);

/* Writes the n values of x to `out`, which has kiln_dtype_row_bytes(dtype, n) bytes. n is a multiple of the
 * dtype's block. The values are finite. */
void quantise(kiln_dtype dtype, const float *x, size_t n, unsigned char *out);

#endif
