/* For tests of rewriting: rewrites a copy of a graph, checks that what comes out is a program, and compares
 * what two programs compute. Fails through cmocka. */
#ifndef KILN_TEST_REWRITE_CASE_H
#define KILN_TEST_REWRITE_CASE_H

#include "eager.h"
#include "fingerprint.h"
#include "infer_util.h"
#include "op_case.h"
#include "rewrite.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const kiln_tensor none;

static inline kiln_graph *new_graph(void) {
    kiln_graph *g;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    return g;
}

/* ---- rewriting -------------------------------------------------------------------------------------- */

/* Every node stands as if the builder had made it: infer agrees with its outputs, which it alone makes. */
static inline void check_node(kiln_graph *p, uint32_t index) {
    const kiln__node *n = &p->nodes.items[index];
    kiln_desc descs[8];
    int32_t alias[8];
    uint32_t n_out;
    assert_non_null(n->op);
    assert_int_equal(kiln__node_infer(p, n->op, "checked", kiln__node_in(p, n), n->n_in,
                                      kiln__node_attrs(p, n), descs, alias, &n_out),
                     KILN_OK);
    assert_int_equal(n_out, n->n_out);
    for (uint32_t j = 0; j < n_out; j++) {
        const kiln__tensor *t = &p->tensors.items[kiln__node_out(p, n)[j]];
        assert_int_equal(p->producers.items[kiln__node_out(p, n)[j]], index + 1);
        assert_true(kiln__desc_equal(kiln__desc_of(p, t), &descs[j]));
        if (alias[j] >= 0) {
            const kiln__tensor *in = &p->tensors.items[kiln__node_in(p, n)[alias[j]]];
            assert_true(in->storage == t->storage && in->offset == t->offset);
        }
    }
}

static inline void check_program(kiln_graph *p, const kiln__rewrites *r, size_t n_built) {
    for (uint32_t i = 0; i < p->nodes.count; i++) {
        check_node(p, i);
        assert_true(p->nodes.items[i].origin <= n_built);
    }
    for (size_t k = 0; k < r->count; k++) {
        const kiln__fusion *f = &r->items[k];
        assert_true(f->node < p->nodes.count && f->n_from >= 1 && f->n_from <= 4);
        for (uint32_t i = 0; i < f->n_from; i++)
            assert_true(f->from[i] < n_built && (i == 0 || f->from[i - 1] < f->from[i]));
        assert_true(p->nodes.items[f->node].origin >= f->from[f->n_from - 1] + 1);
    }
    for (size_t i = 1; i < p->tensors.count; i++) { /* no tensor names a maker that does not make it */
        uint32_t producer = p->producers.items[i];
        bool made = producer == 0;
        for (uint32_t j = 0; !made && j < p->nodes.items[producer - 1].n_out; j++)
            made = kiln__node_out(p, &p->nodes.items[producer - 1])[j] == i;
        assert_true(made);
    }
}

static inline kiln_graph *rewritten(const kiln_graph *g, const kiln__rewrite_options *options,
                                    kiln__rewrites *out) {
    kiln_graph *built, *p;
    kiln_error error;
    assert_int_equal(g->error.status, KILN_OK);
    assert_int_equal(kiln__graph_clone(g, NULL, &built, &error), KILN_OK);
    if (kiln__rewrite(built, options, NULL, &p, out, &error) != KILN_OK)
        fail_msg("kiln__rewrite: %s", error.text);
    check_program(p, out, g->nodes.count);
    assert_true(kiln__graph_equal(built, g)); /* it stays what it was */
    kiln_graph_destroy(built);
    return p;
}

static inline size_t count_op(const kiln_graph *p, const kiln_op *op) {
    size_t n = 0;
    for (size_t i = 0; i < p->nodes.count; i++)
        n += p->nodes.items[i].op == op;
    return n;
}

/* The i-th node with that op. */
static inline const kiln__node *find_op(const kiln_graph *p, const kiln_op *op, size_t i) {
    for (size_t k = 0; k < p->nodes.count; k++)
        if (p->nodes.items[k].op == op && i-- == 0)
            return &p->nodes.items[k];
    fail_msg("no such node: %s", op->name);
    return NULL;
}

static inline size_t count_rule(const kiln__rewrites *r, const char *rule) {
    size_t n = 0;
    for (size_t k = 0; k < r->count; k++)
        n += strcmp(r->items[k].rule, rule) == 0;
    return n;
}

/* ---- computing -------------------------------------------------------------------------------------- */

/* The first bytes of a storage, and what its elements are; NULL when no tensor lies in it. */
static inline unsigned char *storage_bytes(const kiln_graph *g, eager *run, uint32_t storage,
                                           kiln_dtype *dtype) {
    for (uint32_t i = 1; i < g->tensors.count; i++) {
        const kiln__tensor *t = &g->tensors.items[i];
        if (t->storage != storage)
            continue;
        *dtype = kiln__desc_of(g, t)->dtype;
        return (unsigned char *)eager_data(run, (kiln_tensor){i, g->tag}) - t->offset;
    }
    return NULL;
}

static inline void fill_bytes(unsigned char *bytes, kiln_dtype dtype, int64_t size, uint64_t seed) {
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    int64_t n = size / info->bytes;
    if (info->kind == KILN_KIND_BLOCK)
        op_random_blocks(dtype, bytes, n * info->block, &seed);
    for (int64_t i = 0; i < n && info->kind == KILN_KIND_FLOAT; i++)
        op_encode(dtype, bytes, i, op_random_between(&seed, -1, 1));
    for (int64_t i = 0; i < n && info->kind == KILN_KIND_INT; i++) /* ids and positions, all in range */
        op_encode(dtype, bytes, i, (double)(op_random(&seed) % 4));
}

static inline void fill_all(const kiln_graph *g, eager *run, uint64_t seed) {
    for (uint32_t s = 1; s < g->storages.count; s++) {
        const kiln__storage *storage = &g->storages.items[s];
        kiln_dtype dtype = KILN_F32;
        if (storage->kind == KILN_STORAGE_ARENA || storage->kind == KILN_STORAGE_OUTPUT)
            continue;
        unsigned char *bytes = storage_bytes(g, run, s, &dtype);
        if (bytes != NULL)
            fill_bytes(bytes, dtype, storage->size, seed + s);
    }
}

/* Elements pass within tolerance × the largest of them, halves also when they are neighbours; bit for bit
 * when tolerance is 0. */
static inline void compare_bytes(kiln_dtype dtype, const unsigned char *a, const unsigned char *b,
                                 int64_t size, double tolerance, const char *what) {
    int64_t n = size / kiln_dtype_get(dtype)->bytes;
    double most = 0;
    if (memcmp(a, b, (size_t)size) == 0)
        return;
    if (tolerance == 0)
        fail_msg("%s differs", what);
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, isfinite(op_decode(dtype, a, i)) ? fabs(op_decode(dtype, a, i)) : 0);
    for (int64_t i = 0; i < n; i++) {
        double x = op_decode(dtype, a, i), y = op_decode(dtype, b, i);
        double step = dtype == KILN_F16 ? fabs(x) * 0x1p-10 : 0;
        if (x != y && !(isnan(x) && isnan(y)) && !(fabs(x - y) <= fmax(tolerance * most, step)))
            fail_msg("%s: element %lld is %.9g and %.9g (largest %g)", what, (long long)i, x, y, most);
    }
}

/* Runs both from the same inputs, weights and states, all symbols at `value` (or their bound): outputs and
 * states must agree. Storages of `a` have the same ids in `b`. */
static inline void compare_at(const kiln_graph *a, const kiln_graph *b, int64_t value, double tolerance,
                              uint64_t seed, const op_level *level) {
    eager *x = eager_new(a, level->cpu), *y = eager_new(b, level->cpu);
    const kiln_graph *graphs[] = {a, b};
    eager *runs[] = {x, y};
    char what[256];
    for (int k = 0; k < 2; k++) {
        fill_all(a, runs[k], seed);
        for (uint32_t s = 1; s < a->slots.count; s++) {
            const kiln__slot *slot = &a->slots.items[s];
            int64_t v = value < slot->min ? slot->min : value > slot->max ? slot->max : value;
            if (!slot->is_float)
                eager_set_i64(runs[k], (kiln_slot){s, a->tag}, v);
        }
        eager_result result = eager_run(runs[k], 1);
        if (result.status != KILN_OK)
            fail_msg("node %zu (%s) fails with %s", result.node, graphs[k]->nodes.items[result.node].op->name,
                     kiln_status_name(result.status));
    }
    for (uint32_t s = 1; s < a->storages.count; s++) {
        kiln_storage_kind kind = a->storages.items[s].kind;
        kiln_dtype dtype = KILN_F32;
        if (kind != KILN_STORAGE_OUTPUT && kind != KILN_STORAGE_STATE)
            continue;
        unsigned char *p = storage_bytes(a, x, s, &dtype), *q = storage_bytes(b, y, s, &dtype);
        snprintf(what, sizeof what, "%s, %lld, seed %llu: '%s'", level->name, (long long)value,
                 (unsigned long long)seed, kiln__text(a, a->storages.items[s].name));
        if (p != NULL)
            compare_bytes(dtype, p, q, a->storages.items[s].size, tolerance, what);
    }
    eager_free(x);
    eager_free(y);
}

static inline void compare(const kiln_graph *a, const kiln_graph *b, double tolerance, uint64_t seed) {
    size_t n;
    const op_level *levels = op_levels(&n);
    static const int64_t values[] = {1, 5, 1 << 20, 0};
    for (size_t l = 0; l < n; l++)
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++)
            compare_at(a, b, values[v], tolerance, seed, &levels[l]);
}

#endif
