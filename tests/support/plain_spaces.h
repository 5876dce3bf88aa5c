/* What the tokenizer makes of a text before it encodes it, for tests to compare with. */
#ifndef KILN_TESTS_PLAIN_SPACES_H
#define KILN_TESTS_PLAIN_SPACES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The text with a space for every U+2581, to `out`, which has room for `size` bytes; returns the size. The
 * three bytes are found wherever they stand, as the first of them continues no other character. */
static inline size_t plain_spaces(const char *text, size_t size, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        bool is_space = i + 2 < size && memcmp(text + i, "\xe2\x96\x81", 3) == 0;
        out[n++] = is_space ? ' ' : text[i];
        i += is_space ? 2 : 0;
    }
    return n;
}

#endif
