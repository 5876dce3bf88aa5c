/* A small trained model that is part of the repository, tests/data/tales, and the variants that are made of
 * it. So the tests of decoding run everywhere; make.py there trained it and made the answers. */
#ifndef KILN_TESTS_TALES_H
#define KILN_TESTS_TALES_H

#include "kiln_gguf.h"

/* Relative to the root of the repository, where tests are run. */
#define TALES "tests/data/tales/"

/* How the feed-forward block of every layer is written. */
typedef enum tales_experts {
    TALES_DENSE,
    /* Each expert is the dense block with its hidden units in another order, and the signs of `up` and `down`
     * flipped. The router is random. So the answer is the dense one whichever experts are chosen, and a wrong
     * one if their parts are mixed up. Two are used. */
    TALES_PERMUTED,
    /* Expert e is hidden units e·n to e·n + n - 1, with `down` times the number of experts. All are used, and
     * the router is zero, so that each counts the same. */
    TALES_SPLIT
} tales_experts;

typedef struct tales_form {
    kiln_dtype dtype; /* of the matrices; rows that are not a multiple of its block are f16 */
    tales_experts experts;
    uint32_t n_experts; /* 0 with TALES_DENSE; of TALES_SPLIT a divisor of 172 */
} tales_form;

/* Writes a variant as a GGUF file to memory, for kiln_gguf_open_memory. `*bytes` is from malloc and the
 * caller's. On failure it is NULL. Errors: those of kiln_gguf_open and of the writer. */
kiln_status tales_make(const tales_form *form, void **bytes, size_t *size, kiln_error *error);

#endif
