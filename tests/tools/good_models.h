/* Models that are good files, made of the repository's own (tests/support/tales.h) once for each program. */
#ifndef KILN_TESTS_GOOD_MODELS_H
#define KILN_TESTS_GOOD_MODELS_H

#include "gguf_help.h"
#include "tests/support/tales.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline void must(kiln_status status, const kiln_error *error) {
    if (status != KILN_OK)
        fail_msg("%s: %s", kiln_status_name(status), error->text);
}

typedef struct good_file {
    const char *name;
    tales_form form;
    void *bytes;
    size_t size;
} good_file;

static good_file good_files[] = {
#define DENSE "f32.gguf"
    {DENSE, {KILN_F32, TALES_DENSE, 0}, NULL, 0},
#define DENSE_Q4_0 "q4_0.gguf"
    {DENSE_Q4_0, {KILN_Q4_0, TALES_DENSE, 0}, NULL, 0},
#define DENSE_Q8_0 "q8_0.gguf"
    {DENSE_Q8_0, {KILN_Q8_0, TALES_DENSE, 0}, NULL, 0},
#define MOE "moe4x-f32.gguf"
    {MOE, {KILN_F32, TALES_PERMUTED, 4}, NULL, 0},
#define MOE_Q8_0 "moe8x-q8_0.gguf"
    {MOE_Q8_0, {KILN_Q8_0, TALES_PERMUTED, 8}, NULL, 0},
};

static inline int make_good_files(void **state) {
    (void)state;
    kiln_error error;
    for (size_t i = 0; i < COUNT(good_files); i++)
        must(tales_make(&good_files[i].form, &good_files[i].bytes, &good_files[i].size, &error), &error);
    return 0;
}

static inline int free_good_files(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(good_files); i++)
        free(good_files[i].bytes);
    return 0;
}

static inline const good_file *good_file_of(const char *name) {
    for (size_t i = 0; i < COUNT(good_files); i++)
        if (strcmp(good_files[i].name, name) == 0)
            return &good_files[i];
    fail_msg("no good file %s", name);
    return NULL;
}

static inline kiln_gguf *open_base(const char *name) {
    const good_file *b = good_file_of(name);
    kiln_gguf *g;
    kiln_error error;
    must(kiln_gguf_open_memory(&(kiln_gguf_bytes){b->bytes, b->size, b->name}, 1, NULL, &g, &error), &error);
    return g;
}

/* The largest difference between two sets of n logits. (Written with fmax, gcc 12 for arm64 fails to compile
 * it.) */
static inline double farthest(const float *a, const float *b, size_t n) {
    double most = 0;
    for (size_t k = 0; k < n; k++) {
        double difference = fabs((double)a[k] - (double)b[k]);
        most = difference > most || isnan(difference) ? difference : most;
    }
    return most;
}

#endif
