/* Golden vectors of ONNX's operator tests, at every CPU level. */
#include "kiln_ops.h"
#include "tests/support/onnx_pb.h"
#include "tests/support/op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { MAX_FILES = 5 };

/* The tensors of one test, and the graph that is to reproduce them. */
typedef struct golden {
    onnx_tensor in[MAX_FILES], out[2];
    kiln_graph *graph;
    kiln_tensor x[MAX_FILES]; /* graph inputs, f32 or i32, with in[]'s values */
    kiln_dtype type[MAX_FILES];
} golden;

static bool load(golden *g, const char *name, int n_in, int n_out) {
    char path[160];
    memset(g, 0, sizeof *g);
    for (int i = 0; i < n_in + n_out; i++) {
        snprintf(path, sizeof path, "onnx_node/%s/test_data_set_0/%s_%d.pb", name,
                 i < n_in ? "input" : "output", i < n_in ? i : i - n_in);
        if (!onnx_read(path, i < n_in ? &g->in[i] : &g->out[i - n_in]))
            return false;
    }
    assert_int_equal(kiln_graph_create(NULL, &g->graph, NULL), KILN_OK);
    return true;
}

static void unload(golden *g) {
    for (int i = 0; i < MAX_FILES; i++)
        onnx_free(&g->in[i]);
    for (int i = 0; i < 2; i++)
        onnx_free(&g->out[i]);
    kiln_graph_destroy(g->graph);
}

#define LOAD(g, name, n_in, n_out)                                                                           \
    golden g;                                                                                                \
    do {                                                                                                     \
        if (!load(&g, name, n_in, n_out))                                                                    \
            skip();                                                                                          \
    } while (0)

static kiln_tensor feed(golden *g, int i, kiln_dtype type) {
    char name[8];
    kiln_dim dims[ONNX_MAX_DIMS];
    snprintf(name, sizeof name, "x%d", i);
    for (uint32_t k = 0; k < g->in[i].ndim; k++)
        dims[k] = kiln_n(g->in[i].dims[k]);
    g->type[i] = type;
    return g->x[i] = kiln_input(g->graph, name, type, g->in[i].ndim, dims);
}

/* Runs the graph at every level and compares `y` with golden output j; order[i] is where element i of y
 * stands there, NULL: at i. */
static void check(golden *g, int j, kiln_tensor y, const int64_t *order, double tolerance) {
    kiln_tensor_info info;
    kiln_error error;
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    if (kiln_graph_check(g->graph, &error) != KILN_OK)
        fail_msg("%s", error.text);
    assert_int_equal(kiln_tensor_get(g->graph, y, &info), KILN_OK);
    for (size_t l = 0; l < n_levels; l++) {
        eager *run = eager_new(g->graph, levels[l].cpu);
        for (int i = 0; i < MAX_FILES; i++)
            for (int64_t e = 0; kiln_tensor_valid(g->x[i]) && e < g->in[i].n; e++)
                op_encode(g->type[i], eager_data(run, g->x[i]), e, g->in[i].value[e]);
        assert_int_equal(eager_run(run, 2).status, KILN_OK);
        for (int64_t e = 0; e < g->out[j].n; e++) {
            double got = op_decode(info.desc.dtype, eager_data(run, y), e);
            double want = g->out[j].value[order ? order[e] : e];
            if (fabs(got - want) > tolerance)
                fail_msg("%s: element %lld is %.9g, expected %.9g", levels[l].name, (long long)e, got, want);
        }
        eager_free(run);
    }
}

static const kiln_tensor none = {0, 0};

static void test_attention(void **state) {
    (void)state;
    LOAD(g, "test_attention_4d_gqa_causal", 3, 1);
    feed(&g, 0, KILN_F32);
    feed(&g, 1, KILN_F32);
    feed(&g, 2, KILN_F32);
    kiln_attention_attrs a = {.causal = 1};
    kiln_tensor y = kiln_attention(g.graph, g.x[0], g.x[1], g.x[2], none, a);
    /* ours is [batch, queries, heads, d], theirs [batch, heads, queries, d] */
    int64_t order[2 * 9 * 4 * 8], e = 0;
    assert_int_equal(g.out[0].n, sizeof order / sizeof order[0]);
    for (int64_t b = 0; b < 2; b++)
        for (int64_t i = 0; i < 4; i++)
            for (int64_t h = 0; h < 9; h++)
                for (int64_t c = 0; c < 8; c++)
                    order[e++] = ((b * 9 + h) * 4 + i) * 8 + c;
    check(&g, 0, y, order, 1e-6);
    unload(&g);
}

static void test_gather(void **state) {
    (void)state;
    LOAD(g, "test_gather_0", 2, 1);
    kiln_tensor table = kiln_reshape(g.graph, feed(&g, 0, KILN_F32), KILN_SHAPE(kiln_n(5), kiln_n(24)));
    check(&g, 0, kiln_get_rows(g.graph, table, feed(&g, 1, KILN_I32)), NULL, 0);
    unload(&g);
}

static void test_rms_norm(void **state) {
    (void)state;
    LOAD(g, "test_rms_normalization_2d_axis1", 2, 1);
    check(&g, 0, kiln_rms_norm(g.graph, feed(&g, 0, KILN_F32), feed(&g, 1, KILN_F32), 1e-5f), NULL, 1e-6);
    unload(&g);
}

static void test_softmax(void **state) {
    (void)state;
    LOAD(g, "test_softmax_example", 1, 1);
    check(&g, 0, kiln_softmax(g.graph, feed(&g, 0, KILN_F32), none, (kiln_softmax_attrs){0}), NULL, 1e-7);
    unload(&g);
}

static void test_swiglu(void **state) {
    (void)state;
    LOAD(g, "test_swiglu", 2, 1);
    check(&g, 0, kiln_swiglu(g.graph, feed(&g, 0, KILN_F32), feed(&g, 1, KILN_F32), KILN_ACT_SILU), NULL,
          1e-6);
    unload(&g);
}

static void top_k(const char *name) {
    LOAD(g, name, 2, 2);
    kiln_tensor indices,
        values = kiln_top_k(g.graph, feed(&g, 0, KILN_F32), (int64_t)g.in[1].value[0], &indices);
    check(&g, 0, values, NULL, 0);
    check(&g, 1, indices, NULL, 0);
    unload(&g);
}

static void test_top_k(void **state) {
    (void)state;
    top_k("test_top_k");
    top_k("test_top_k_same_values");
}

/* Their caches hold any numbers (c, s), ours are cos and sin of one angle: each of their pairs is ours,
 * turned by atan2(s, c) and stretched by the length of (c, s). With theta = 1 all pairs of a row turn by the
 * same angle, freq_scale; of each run only the pair it was made for is compared.
 * x: [batch, heads, tokens, d]. */
static void one_pair(const golden *g, int64_t row, int64_t pair, kiln_rope_mode mode, uint32_t cpu) {
    int64_t d = g->in[0].dims[3], tokens = g->in[0].dims[2], heads = g->in[0].dims[1];
    int64_t batch = row / tokens / heads, position = (int64_t)g->in[3].value[batch * tokens + row % tokens];
    double c = g->in[1].value[position * d / 2 + pair], s = g->in[2].value[position * d / 2 + pair];
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(NULL, &graph, NULL), KILN_OK);
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(d)));
    kiln_rope_attrs a = {kiln_i64_const(1), 0, 1, kiln_f32_given((float)atan2(s, c)), mode};
    kiln_tensor y = kiln_rope(graph, x, none, a);
    eager *run = eager_new(graph, cpu);
    for (int64_t i = 0; i < d; i++)
        ((float *)eager_data(run, x))[i] = (float)g->in[0].value[row * d + i];
    assert_int_equal(eager_run(run, 1).status, KILN_OK);
    for (int64_t k = 0; k < 2; k++) {
        int64_t i = mode == KILN_ROPE_NEOX ? pair + k * d / 2 : 2 * pair + k;
        double got = hypot(c, s) * (double)((float *)eager_data(run, y))[i];
        assert_true(fabs(got - g->out[0].value[row * d + i]) < 1e-6);
    }
    eager_free(run);
    kiln_graph_destroy(graph);
}

static void rope(const char *name, kiln_rope_mode mode) {
    LOAD(g, name, 4, 1);
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (int64_t row = 0; row < g.in[0].n / g.in[0].dims[3]; row++)
            for (int64_t pair = 0; pair < g.in[0].dims[3] / 2; pair++)
                one_pair(&g, row, pair, mode, levels[l].cpu);
    unload(&g);
}

static void test_rope(void **state) {
    (void)state;
    rope("test_rotary_embedding", KILN_ROPE_NEOX);
    rope("test_rotary_embedding_interleaved", KILN_ROPE_INTERLEAVED);
}

static void test_reader(void **state) {
    (void)state;
    static const unsigned char good[] = {8, 2, 16, 1, 66, 1, 'x', 74, 8, 0, 0, 128, 63, 0, 0, 0, 192};
    static const unsigned char packed[] = {10, 2, 1, 2, 16, 1, 74, 8, 0, 0, 128, 63, 0, 0, 0, 192};
    onnx_tensor t;
    assert_true(onnx_parse(good, sizeof good, &t));
    assert_true(t.ndim == 1 && t.n == 2 && t.value[0] == 1 && t.value[1] == -2);
    onnx_free(&t);
    assert_true(onnx_parse(packed, sizeof packed, &t));
    assert_true(t.ndim == 2 && t.n == 2);
    onnx_free(&t);
    for (size_t size = 0; size < sizeof good; size++)
        assert_false(onnx_parse(good, size, &t)); /* every cut is noticed */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader),   cmocka_unit_test(test_attention), cmocka_unit_test(test_gather),
        cmocka_unit_test(test_rms_norm), cmocka_unit_test(test_softmax),   cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_top_k),    cmocka_unit_test(test_rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
