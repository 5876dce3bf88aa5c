/* libFuzzer target: bytes as a program of builder calls (builder_calls.h). Nothing may crash, overflow, leak
 * or read outside. The first byte says whether counts and places are extreme. */
#include "builder_calls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 0)
        builder_calls_run(data + 1, size - 1, data[0] % 2 != 0);
    return 0;
}
