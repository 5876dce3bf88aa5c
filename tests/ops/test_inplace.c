/* Every `inplace` pair of every built-in op: the output on the input's own bytes has the same bits as
 * elsewhere, at every CPU level and however the tiles are split. */
#include "infer_util.h"
#include "tests/support/op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { MAX_IN = 5, MAX_OUT = 3 };

/* Operands of f32 that fit an op; those of a pair have the dimensions of its output. */
typedef struct sample {
    const kiln_op *op;
    uint32_t n_in;
    struct {
        uint32_t ndim; /* 0: absent */
        int64_t dims[4];
    } in[MAX_IN];
    const void *attrs;
} sample;

static const kiln_softmax_attrs axis0 = {0, 0.5f}, last = {-1, 0.5f};
static const kiln_rms_norm_attrs with_q8 = {1e-5f, KILN_QUANT_Q8_A};
static const kiln_swiglu_attrs silu_q8 = {KILN_ACT_SILU, 0, KILN_QUANT_Q8_A};
static const kiln_rope_attrs interleaved = {{3, 0, 0}, 0, 10000, 1, KILN_ROPE_INTERLEAVED},
                             neox = {{3, 0, 0}, 64, 10000, 1, KILN_ROPE_NEOX};

/* Wide enough for several tiles each. */
static const sample samples[] = {
    {&kiln__op_add, 2, {{2, {5, 3000}}, {2, {5, 3000}}}, NULL},
    {&kiln__op_mul, 2, {{2, {5, 3000}}, {2, {5, 3000}}}, NULL},
    {&kiln__op_bias, 2, {{2, {5, 3000}}, {1, {3000}}}, NULL},
    {&kiln__op_scale, 1, {{2, {5, 3000}}}, NULL},
    {&kiln__op_silu, 1, {{2, {5, 3001}}}, NULL},
    {&kiln__op_gelu, 1, {{2, {5, 3001}}}, NULL},
    {&kiln__op_softcap, 1, {{2, {5, 3001}}}, NULL},
    {&kiln__op_rms_norm, 2, {{2, {9, 2016}}, {1, {2016}}}, &with_q8},
    {&kiln__op_add_rms_norm, 3, {{2, {9, 2016}}, {2, {9, 2016}}, {1, {2016}}}, &with_q8},
    {&kiln__op_layer_norm, 3, {{2, {9, 2001}}, {1, {2001}}, {1, {2001}}}, NULL},
    {&kiln__op_l2_norm, 1, {{2, {9, 2001}}}, NULL},
    {&kiln__op_softmax, 2, {{2, {9, 2001}}, {2, {9, 2001}}}, &last},
    {&kiln__op_softmax, 1, {{3, {9, 2, 601}}}, &axis0},
    {&kiln__op_argsort, 1, {{2, {9, 2001}}}, NULL},
    {&kiln__op_swiglu, 2, {{2, {3, 9024}}, {2, {3, 9024}}}, &silu_q8},
    {&kiln__op_weighted_sum,
     5,
     {{3, {5, 2, 1500}}, {2, {5, 2}}, {2, {5, 1500}}, {2, {5, 1500}}, {2, {5, 1}}},
     NULL},
    {&kiln__op_rope, 1, {{3, {9, 20, 66}}}, &interleaved},
    {&kiln__op_rope, 1, {{3, {9, 20, 66}}}, &neox},
};

typedef struct node_run {
    kiln_graph *graph;
    eager *eager;
    uint32_t in[MAX_IN], out[MAX_OUT], n_out;
    kiln_desc desc[MAX_OUT];
} node_run;

/* The node with output j on the bytes of input on[j], or on its own where that is negative. */
static node_run build(const sample *s, const int32_t *on, uint32_t cpu) {
    node_run r = {0};
    int32_t alias[MAX_OUT];
    _Alignas(8) unsigned char attrs[64];
    kiln_error error;
    assert_int_equal(kiln_graph_create(NULL, &r.graph, NULL), KILN_OK);
    for (uint32_t i = 0; i < s->n_in; i++) {
        char name[16];
        kiln_dim dims[4];
        snprintf(name, sizeof name, "in%u", i);
        for (uint32_t k = 0; k < s->in[i].ndim; k++)
            dims[k] = kiln_n(s->in[i].dims[k]);
        r.in[i] = s->in[i].ndim ? kiln_state(r.graph, name, KILN_F32, s->in[i].ndim, dims).id : 0;
    }
    kiln_op_defaults(s->op, attrs);
    const void *used = s->attrs ? s->attrs : s->op->attrs_size ? attrs : NULL;
    assert_int_equal(kiln__node_infer(r.graph, s->op, "", r.in, s->n_in, used, r.desc, alias, &r.n_out),
                     KILN_OK);
    for (uint32_t j = 0; j < r.n_out; j++) {
        int64_t bytes;
        assert_int_equal(kiln__desc_dense(r.graph, &r.desc[j], &bytes, NULL), KILN_OK);
        uint32_t storage = on[j] >= 0 ? r.graph->tensors.items[r.in[on[j]]].storage
                                      : kiln__storage_new(r.graph, KILN_STORAGE_ARENA, NULL, bytes);
        r.out[j] = kiln__tensor_new(r.graph, storage, 0, &r.desc[j]);
    }
    (void)kiln__node_emit(r.graph, s->op, "", r.in, s->n_in, r.out, r.n_out, used);
    if (kiln_graph_check(r.graph, &error) != KILN_OK)
        fail_msg("%s: %s", s->op->name, error.text);
    r.eager = eager_new(r.graph, cpu);
    return r;
}

static void *bytes_of(const node_run *r, uint32_t tensor) {
    return eager_data(r->eager, (kiln_tensor){tensor, r->graph->tag});
}

static void fill(const node_run *r, const sample *s) {
    uint64_t random = 17;
    for (uint32_t i = 0; i < s->n_in; i++)
        for (int64_t e = 0; r->in[i] != 0 && e < r->graph->tensors.items[r->in[i]].bytes / 4; e++)
            ((float *)bytes_of(r, r->in[i]))[e] = (float)op_random_between(&random, -2, 2);
}

static void compare(const sample *s, const int32_t *on, uint32_t cpu) {
    static const int32_t apart[MAX_OUT] = {-1, -1, -1};
    node_run a = build(s, apart, cpu), b = build(s, on, cpu);
    fill(&a, s);
    assert_int_equal(eager_run(a.eager, 1).status, KILN_OK);
    for (int64_t split = 1; split <= 4; split++) {
        fill(&b, s);
        assert_int_equal(eager_run(b.eager, split).status, KILN_OK);
        for (uint32_t j = 0; j < a.n_out; j++)
            if (memcmp(bytes_of(&a, a.out[j]), bytes_of(&b, b.out[j]),
                       (size_t)a.graph->tensors.items[a.out[j]].bytes) != 0)
                fail_msg("%s: output %s differs when outputs lie on inputs %d, %d", s->op->name,
                         s->op->out_names[j], on[0], on[1]);
    }
    eager_free(a.eager);
    eager_free(b.eager);
    kiln_graph_destroy(a.graph);
    kiln_graph_destroy(b.graph);
}

static void test_pairs(void **state) {
    (void)state;
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
            for (uint32_t p = 0; p < samples[i].op->n_inplace; p++) {
                int32_t on[MAX_OUT] = {-1, -1, -1};
                on[samples[i].op->inplace[p].out] = samples[i].op->inplace[p].in;
                compare(&samples[i], on, levels[l].cpu);
            }
}

/* Both outputs of add_rms_norm in place at once, either way round. */
static void test_two_at_once(void **state) {
    (void)state;
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
            if (samples[i].op == &kiln__op_add_rms_norm) {
                compare(&samples[i], (const int32_t[]){0, 1, -1}, levels[l].cpu);
                compare(&samples[i], (const int32_t[]){1, 0, -1}, levels[l].cpu);
            }
}

/* No op with pairs is missing from the samples. */
static void test_all_sampled(void **state) {
    (void)state;
    kiln_op_set set = kiln_ops_builtin();
    for (size_t o = 0; o < set.count; o++) {
        bool found = set.ops[o]->n_inplace == 0;
        for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
            found = found || samples[i].op == set.ops[o];
        if (!found)
            fail_msg("%s has in-place pairs and no sample", set.ops[o]->name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_all_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
