/* Reads everything an opened GGUF file offers, so that a sanitizer sees any byte that should not be read. */
#ifndef KILN_TESTS_GGUF_WALK_H
#define KILN_TESTS_GGUF_WALK_H

#include "kiln_gguf.h"

#include <stdlib.h>
#include <string.h>

static inline uint64_t gguf_walk_hash(uint64_t h, const void *data, size_t n) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

static inline uint64_t gguf_walk_scalars(const kiln_gguf *g, const kiln_gguf_kv *kv, uint64_t h) {
    uint32_t u32;
    int32_t i32;
    uint64_t u64;
    int64_t i64;
    float f32;
    double f64;
    bool flag;
    if (kiln_gguf_get_u32(g, kv->key, &u32, NULL) == KILN_OK)
        h = gguf_walk_hash(h, &u32, sizeof u32);
    if (kiln_gguf_get_i32(g, kv->key, &i32, NULL) == KILN_OK)
        h = gguf_walk_hash(h, &i32, sizeof i32);
    if (kiln_gguf_get_u64(g, kv->key, &u64, NULL) == KILN_OK)
        h = gguf_walk_hash(h, &u64, sizeof u64);
    if (kiln_gguf_get_i64(g, kv->key, &i64, NULL) == KILN_OK)
        h = gguf_walk_hash(h, &i64, sizeof i64);
    if (kiln_gguf_get_f32(g, kv->key, &f32, NULL) == KILN_OK)
        h = gguf_walk_hash(h, &f32, sizeof f32);
    if (kiln_gguf_get_f64(g, kv->key, &f64, NULL) == KILN_OK)
        h = gguf_walk_hash(h, &f64, sizeof f64);
    if (kiln_gguf_get_bool(g, kv->key, &flag, NULL) == KILN_OK)
        h = gguf_walk_hash(h, flag ? "1" : "0", 1);
    return h;
}

static inline uint64_t gguf_walk_kv(const kiln_gguf *g, const kiln_gguf_kv *kv, uint64_t h) {
    kiln_gguf_string s;
    char text[64];
    h = gguf_walk_hash(h, kv->key, strlen(kv->key) + 1);
    h = gguf_walk_hash(h, kv->data, kv->bytes);
    h = gguf_walk_scalars(g, kv, h);
    for (kiln_gguf_strings strings = kiln_gguf_strings_of(kv); kiln_gguf_strings_next(&strings, &s);)
        h = gguf_walk_hash(h, s.data, s.size);
    kiln_gguf_kv_text(kv, 5, text, sizeof text);
    kiln_gguf_kv_text(kv, INT64_MAX, text, sizeof text);
    h = gguf_walk_hash(h, text, strlen(text));
    if (kv->type == KILN_GGUF_ARRAY && kv->count < 100000) {
        size_t n = (size_t)kv->count;
        int32_t *numbers = malloc((n + 1) * sizeof *numbers);
        float *reals = malloc((n + 1) * sizeof *reals);
        if (numbers != NULL && kiln_gguf_get_array_i32(g, kv->key, numbers, kv->count, NULL) == KILN_OK)
            h = gguf_walk_hash(h, numbers, n * sizeof *numbers);
        if (reals != NULL && kiln_gguf_get_array_f32(g, kv->key, reals, kv->count, NULL) == KILN_OK)
            h = gguf_walk_hash(h, reals, n * sizeof *reals);
        free(numbers);
        free(reals);
    }
    return h;
}

/* A hash of all keys, values, names, shapes and data; 0 when lookup by name does not find what iteration
 * shows. The same for the same content however it was opened. */
static inline uint64_t gguf_walk(const kiln_gguf *g) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < kiln_gguf_kv_count(g); i++) {
        const kiln_gguf_kv *kv = kiln_gguf_kv_at(g, i);
        if (kiln_gguf_kv_find(g, kv->key) != kv)
            return 0;
        h = gguf_walk_kv(g, kv, h);
    }
    for (size_t i = 0; i < kiln_gguf_tensor_count(g); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(g, i);
        if (kiln_gguf_tensor_find(g, t->name) != t || t->data == NULL)
            return 0;
        h = gguf_walk_hash(h, t->name, strlen(t->name) + 1);
        h = gguf_walk_hash(h, &t->type->id, sizeof t->type->id);
        h = gguf_walk_hash(h, t->dims, sizeof t->dims);
        h = gguf_walk_hash(h, t->data, (size_t)t->bytes);
    }
    for (size_t i = 0; i < kiln_gguf_part_count(g); i++) {
        const kiln_gguf_part *part = kiln_gguf_part_at(g, i);
        const unsigned char *bytes = part->base;
        h = gguf_walk_hash(h, &bytes[part->size - 1], 1);
        if (bytes[part->mapped_size - 1] != 0 && part->mapped_size != part->size)
            return 0;
    }
    return h;
}

#endif
