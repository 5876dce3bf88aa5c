#include "product.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- weights ---------------------------------------------------------------------------------------- */

static size_t row_bytes(const bench_shape *s) {
    const kiln_dtype_info *info = kiln_dtype_get(s->dtype);
    return (size_t)s->k / info->block * info->bytes;
}

/* Small numbers without a pattern. q8_0: blocks of an f16 scale (2^-10) and 32 bytes. */
static void fill(unsigned char *data, size_t bytes, kiln_dtype dtype) {
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        if (dtype == KILN_F32) {
            float v = ((float)(state >> 40) - 8388608.0f) * 1e-9f;
            memcpy(data + i, &v, sizeof v);
        } else {
            memcpy(data + i, &state, 4);
        }
    }
    const unsigned char scale[2] = {0x00, 0x14};
    for (size_t i = 0; dtype == KILN_Q8_0 && i + 34 <= bytes; i += 34)
        memcpy(data + i, scale, sizeof scale);
}

/* ---- graphs ----------------------------------------------------------------------------------------- */

static kiln_tensor weight(kiln_graph *g, const bench_shape *s, const char *name, unsigned char *data,
                          size_t bytes) {
    kiln_dim matrix[] = {kiln_n(s->n), kiln_n(s->k)};
    kiln_dim stack[] = {kiln_n(s->experts), kiln_n(s->n), kiln_n(s->k)};
    kiln_tensor w =
        s->experts > 0 ? kiln_weight(g, name, s->dtype, 3, stack) : kiln_weight(g, name, s->dtype, 2, matrix);
    kiln_storage_data(g, kiln_storage_of(g, w), data, (int64_t)bytes, 1);
    return w;
}

static void build(bench_product *p) {
    const bench_shape *s = &p->shape;
    kiln_graph *g = p->graph;
    kiln_dim rows[] = {kiln_n(s->tokens), kiln_n(s->k)}, choice[] = {kiln_n(s->tokens), kiln_n(s->chosen)};
    kiln_tensor x = kiln_input(g, "x", KILN_F32, 2, rows);
    if (s->experts > 0) {
        kiln_tensor w = weight(g, s, "w", p->weights, p->bytes);
        kiln_output(g, kiln_matmul_id(g, w, x, kiln_input(g, "ids", KILN_I32, 2, choice)), "y");
        return;
    }
    kiln_tensor a = weight(g, s, "a", p->weights, p->matrix),
                b = weight(g, s, "b", p->weights + p->matrix, p->matrix);
    kiln_output(g, kiln_add(g, kiln_matmul(g, a, x), kiln_matmul(g, b, x)), "y");
}

/* 90% of the rows go to expert 0, the others to the rest in turn. */
static void fill_inputs(bench_product *p, kiln_session *session) {
    const bench_shape *s = &p->shape;
    float *x = kiln_session_data(session, kiln_plan_tensor(p->plan, "x"));
    for (size_t i = 0; i < (size_t)(s->tokens * s->k); i++)
        x[i] = (float)(i % 127) / 64.0f - 1.0f;
    if (s->experts == 0)
        return;
    int32_t *ids = kiln_session_data(session, kiln_plan_tensor(p->plan, "ids"));
    for (int64_t i = 0; i < s->tokens * s->chosen; i++)
        ids[i] = (int32_t)(i % 10 != 9 ? 0 : 1 + i / 10 % (s->experts - 1));
}

static const float *result(bench_product *p, uint32_t rig) {
    return kiln_session_data(p->rig[rig].session, kiln_plan_tensor(p->plan, "y"));
}

static void check(bench_product *p) {
    const bench_shape *s = &p->shape;
    const size_t n = (size_t)(s->tokens * s->n * (s->experts > 0 ? s->chosen : 1));
    kiln_error error;
    for (uint32_t i = 0; i < p->n_rigs; i++) {
        bench_must(kiln_run(p->rig[i].session, &error), &error);
        if (memcmp(result(p, 0), result(p, i), n * sizeof(float)) != 0)
            bench_fail("%s: %u threads do not give what %u give", s->name, p->threads[i], p->threads[0]);
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += fabs((double)result(p, 0)[i]);
    if (!(sum > 0 && isfinite(sum)))
        bench_fail("%s: the result is no result: %g", s->name, sum);
}

void bench_product_open(bench_product *p, bench_shape shape, const uint32_t *threads, uint32_t n_threads) {
    kiln_error error;
    const kiln_bake_options bake = {.precision =
                                        shape.dtype == KILN_F32 ? KILN_PRECISION_EXACT : KILN_PRECISION_FAST};
    void *memory = NULL;
    memset(p, 0, sizeof *p);
    p->shape = shape;
    p->matrix = row_bytes(&shape) * (size_t)shape.n;
    p->bytes = p->matrix * (size_t)(shape.experts > 0 ? shape.experts : 2);
    if (n_threads > BENCH_RIGS || posix_memalign(&memory, 4096, p->bytes) != 0)
        bench_fail("%s: no memory for %zu bytes of weights", shape.name, p->bytes);
    p->weights = memory;
    fill(p->weights, p->bytes, shape.dtype);
    bench_must(kiln_graph_create(NULL, &p->graph, &error), &error);
    build(p);
    bench_must(kiln_bake(p->graph, &bake, &p->plan, &error), &error);
    p->n_rigs = n_threads;
    for (uint32_t i = 0; i < n_threads; i++) {
        p->threads[i] = threads[i];
        bench_rig_open(&p->rig[i], p->plan, threads[i]);
        fill_inputs(p, p->rig[i].session);
    }
    check(p);
}

void bench_product_close(bench_product *p) {
    for (uint32_t i = 0; i < p->n_rigs; i++)
        bench_rig_close(&p->rig[i]);
    kiln_plan_release(p->plan);
    kiln_graph_destroy(p->graph);
    free(p->weights);
}

/* ---- one token -------------------------------------------------------------------------------------- */

const unsigned char *bench_product_choose(bench_product *p, int64_t first) {
    const bench_shape *s = &p->shape;
    first %= s->experts > 0 ? s->experts : 1;
    for (uint32_t r = 0; s->experts > 0 && r < p->n_rigs; r++) {
        int32_t *ids = kiln_session_data(p->rig[r].session, kiln_plan_tensor(p->plan, "ids"));
        for (int64_t i = 0; i < s->chosen; i++)
            ids[i] = (int32_t)(first + i);
    }
    return p->weights + (size_t)first * p->matrix;
}

size_t bench_product_read(const bench_product *p) {
    return p->shape.experts > 0 ? p->matrix * (size_t)p->shape.chosen : p->bytes;
}
