/* When logits are NaN or Inf: since when, and where they come from. */
#ifndef KILN_TOOLS_NONFINITE_H
#define KILN_TOOLS_NONFINITE_H

#include "common.h"

/* The index of the first NaN or Inf of n values; -1 when there is none. */
int64_t nonfinite_first(const float *values, int64_t n);

/* The logits after the last of `count` ≥ 1 tokens, which stand at positions 0 and up, are not finite. Decodes
 * them again with another decoder, made with these options on this executor, that looks at what every
 * node makes; then says at which token and in which node the first NaN or Inf is, and which weights of the
 * file hold some. Takes as long as the tokens took before, or a few times as long. Returns EXIT_FAILED. */
int nonfinite_fail(const model_file *model, const kiln_llama_decoder_options *options,
                   kiln_executor *executor, const int32_t *tokens, int64_t count);

#endif
