/* rms_norm, add_rms_norm, layer_norm, l2_norm, and the quantised copies of the first two. */
#include "dtype_kernels.h"
#include "infer_util.h"
#include "tests/support/op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define F32(...)                                                                                             \
    { .dtype = KILN_F32, OP_DIMS(__VA_ARGS__) }
#define F16(...)                                                                                             \
    { .dtype = KILN_F16, OP_DIMS(__VA_ARGS__) }
#define BF16(...)                                                                                            \
    { .dtype = KILN_BF16, OP_DIMS(__VA_ARGS__) }
#define NONE                                                                                                 \
    { .dtype = KILN_DTYPE_NONE }

static double weight_at(const op_case *c, const op_values *in, uint32_t i, int64_t col, double absent) {
    return i < c->n_in && in[i].v != NULL ? in[i].v[col] : absent;
}

static void rms_row(const op_case *c, const op_values *in, uint32_t weight, const double *x, int64_t n,
                    double *y) {
    double eps = c->attrs ? (double)((const kiln_rms_norm_attrs *)c->attrs)->eps : 1e-5, sum = 0;
    for (int64_t j = 0; j < n; j++)
        sum += x[j] * x[j];
    for (int64_t j = 0; j < n; j++)
        y[j] = x[j] / sqrt(sum / (double)n + eps) * weight_at(c, in, weight, j, 1);
}

/* Quantised copies are compared bit for bit in test_quantised; here they need only be near. */
static void copy_of(const op_values *y, op_values *copy) {
    for (int64_t i = 0; i < copy->n; i++) {
        copy->v[i] = y->v[i];
        copy->slack[i] = 8e4; /* steps of an eighth of a block's largest value at most */
    }
}

static void rms_oracle(const op_case *c, const op_values *in, op_values *out) {
    int64_t n = in[0].ne[3];
    for (int64_t i = 0; n > 0 && i < in[0].n; i += n)
        rms_row(c, in, 1, in[0].v + i, n, out[0].v + i);
    if (out[1].v != NULL)
        copy_of(&out[0], &out[1]);
}

static void add_rms_oracle(const op_case *c, const op_values *in, op_values *out) {
    int64_t n = in[0].ne[3];
    for (int64_t i = 0; i < in[0].n; i++)
        out[0].v[i] = in[0].v[i] + in[1].v[i];
    for (int64_t i = 0; n > 0 && i < in[0].n; i += n)
        rms_row(c, in, 2, out[0].v + i, n, out[1].v + i);
    if (out[2].v != NULL)
        copy_of(&out[1], &out[2]);
}

static void layer_oracle(const op_case *c, const op_values *in, op_values *out) {
    double eps = c->attrs ? (double)((const kiln_layer_norm_attrs *)c->attrs)->eps : 1e-5;
    int64_t n = in[0].ne[3];
    for (int64_t i = 0; n > 0 && i < in[0].n; i += n) {
        double mean = 0, var = 0;
        for (int64_t j = 0; j < n; j++)
            mean += in[0].v[i + j] / (double)n;
        for (int64_t j = 0; j < n; j++)
            var += (in[0].v[i + j] - mean) * (in[0].v[i + j] - mean) / (double)n;
        for (int64_t j = 0; j < n; j++) {
            double w = weight_at(c, in, 1, j, 1), b = weight_at(c, in, 2, j, 0), s = sqrt(var + eps);
            out[0].v[i + j] = (in[0].v[i + j] - mean) / s * w + b;
            out[0].slack[i + j] = fmax(1, fabs(in[0].v[i + j] - mean) / s) * fabs(w) + fabs(b);
        }
    }
}

static void l2_oracle(const op_case *c, const op_values *in, op_values *out) {
    double eps = c->attrs ? (double)((const kiln_l2_norm_attrs *)c->attrs)->eps : 1e-12;
    int64_t n = in[0].ne[3];
    for (int64_t i = 0; n > 0 && i < in[0].n; i += n) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++)
            sum += in[0].v[i + j] * in[0].v[i + j];
        for (int64_t j = 0; j < n; j++)
            out[0].v[i + j] = in[0].v[i + j] / (sqrt(sum) < eps ? eps : sqrt(sum));
    }
}

#define CASE(title, descriptor, check, attributes, count, ...)                                               \
    {                                                                                                        \
        .name = title, .op = &kiln__op_##descriptor, .n_in = count, .in = {__VA_ARGS__},                     \
        .attrs = attributes, .oracle = check, .rel = 1e-6                                                    \
    }

static const kiln_rms_norm_attrs rms_1e6 = {1e-6f, KILN_QUANT_NONE}, rms_0 = {0, KILN_QUANT_NONE},
                                 rms_q8 = {1e-5f, KILN_QUANT_Q8_A}, rms_bf16 = {1e-5f, KILN_QUANT_BF16},
                                 rms_f16 = {1e-5f, KILN_QUANT_F16};

static void test_rms(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("rms", rms_norm, rms_oracle, NULL, 1, F32(5, 64)),
        CASE("rms weight", rms_norm, rms_oracle, &rms_1e6, 2, F32(5, 67), F32(67)),
        CASE("rms long rows", rms_norm, rms_oracle, NULL, 2, F32(3, 5000), F32(5000)),
        CASE("rms f16, bf16 weight", rms_norm, rms_oracle, NULL, 2, F16(2, 3, 100), BF16(100)),
        CASE("rms one column", rms_norm, rms_oracle, NULL, 2, F32(9, 1), F32(1)),
        CASE("rms zero row", rms_norm, rms_oracle, NULL, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(0, 0, 0, 0)}),
        CASE("rms zero row without eps is NaN", rms_norm, rms_oracle, &rms_0, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(0, 0, 0, 0)}),
        CASE("rms NaN stays in its row", rms_norm, rms_oracle, NULL, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 3), OP_DATA((double)NAN, 1, 2, 3, 4, 5)}),
        CASE("rms strided", rms_norm, rms_oracle, NULL, 2,
             {.dtype = KILN_F32, OP_DIMS(3, 4, 33), .order = "102", .pad = 3}, F32(33)),
        CASE("rms empty", rms_norm, rms_oracle, NULL, 1, F32(0, 33)),
        CASE("rms q8_a", rms_norm, rms_oracle, &rms_q8, 2, F32(5, 64), F32(64)),
        CASE("rms bf16 copy", rms_norm, rms_oracle, &rms_bf16, 2, F32(5, 61), F32(61)),
        CASE("rms f16 copy", rms_norm, rms_oracle, &rms_f16, 2, F16(5, 61), F32(61)),
        CASE("add_rms", add_rms_norm, add_rms_oracle, NULL, 3, F32(5, 65), F32(5, 65), F32(65)),
        CASE("add_rms halves", add_rms_norm, add_rms_oracle, &rms_1e6, 2, F16(5, 65), BF16(5, 65)),
        CASE("add_rms all kinds", add_rms_norm, add_rms_oracle, &rms_q8, 3, BF16(3, 2, 96), F16(3, 2, 96),
             F16(96)),
        CASE("add_rms long", add_rms_norm, add_rms_oracle, &rms_bf16, 3, F32(3, 5000), F32(3, 5000),
             F32(5000)),
    };
    OP_CASES_RUN(cases);
    op_case symbol = {.name = "rms symbol",
                      .op = &kiln__op_rms_norm,
                      .n_in = 2,
                      .in = {{.dtype = KILN_F32, OP_DIMS(1, 40), .slots = {1}}, F32(40)},
                      .slots = {{.min = 0, .max = 300, .value = 7}},
                      .n_slots = 1,
                      .oracle = rms_oracle,
                      .rel = 1e-6};
    op_case_run(&symbol);
    symbol.slots[0].value = 0;
    op_case_run(&symbol);
    symbol.slots[0].value = 300;
    op_case_run(&symbol);
}

static void test_layer_and_l2(void **state) {
    (void)state;
    static const kiln_layer_norm_attrs eps = {1e-12f};
    static const kiln_l2_norm_attrs large = {100}, none = {0};
    const op_case cases[] = {
        CASE("layer", layer_norm, layer_oracle, NULL, 1, F32(5, 64)),
        CASE("layer weight", layer_norm, layer_oracle, &eps, 2, F32(5, 67), F32(67)),
        CASE("layer bias", layer_norm, layer_oracle, NULL, 3, F32(5, 67), NONE, F16(67)),
        CASE("layer both", layer_norm, layer_oracle, NULL, 3, F32(3, 5001), F32(5001), F32(5001)),
        CASE("layer f16", layer_norm, layer_oracle, NULL, 3, F16(3, 2, 100), BF16(100), F32(100)),
        CASE("layer around 100", layer_norm, layer_oracle, NULL, 1,
             {.dtype = KILN_F32, OP_DIMS(4, 300), .lo = 99, .hi = 101}),
        CASE("layer equal values", layer_norm, layer_oracle, NULL, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(3)}),
        CASE("l2", l2_norm, l2_oracle, NULL, 1, F32(5, 67)),
        CASE("l2 bf16", l2_norm, l2_oracle, NULL, 1, BF16(5, 1000)),
        CASE("l2 below eps", l2_norm, l2_oracle, &large, 1, F32(5, 67)),
        CASE("l2 zero row", l2_norm, l2_oracle, NULL, 1, {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(0)}),
        CASE("l2 zero row, no eps", l2_norm, l2_oracle, &none, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(0)}),
    };
    OP_CASES_RUN(cases);
}

/* ---- bit for bit ------------------------------------------------------------------------------------ */

typedef struct built {
    kiln_graph *graph;
    kiln_tensor a, b, w;
    kiln_tensor sum, normed, copy;    /* of the fused op */
    kiln_tensor sum2, normed2, copy2; /* of the single ones */
} built;

static built build_both(kiln_quant quant, int64_t n) {
    built g;
    kiln_tensor out[3];
    assert_int_equal(kiln_graph_create(NULL, &g.graph, NULL), KILN_OK);
    g.a = kiln_input(g.graph, "a", KILN_F32, KILN_SHAPE(kiln_n(7), kiln_n(n)));
    g.b = kiln_input(g.graph, "b", KILN_F32, KILN_SHAPE(kiln_n(7), kiln_n(n)));
    g.w = kiln_input(g.graph, "w", KILN_F32, KILN_SHAPE(kiln_n(n)));
    kiln_rms_norm_attrs attrs = {1e-5f, quant};
    kiln_tensor in[] = {g.a, g.b, g.w};
    assert_int_equal(kiln_node_add(g.graph, &kiln__op_add_rms_norm, in, 3, &attrs, out), KILN_OK);
    g.sum = out[0];
    g.normed = out[1];
    g.copy = out[2];
    g.sum2 = kiln_add(g.graph, g.a, g.b);
    g.normed2 = kiln_rms_norm(g.graph, g.sum2, g.w, 1e-5f);
    g.copy2 = kiln_quantize(g.graph, g.normed2, quant);
    return g;
}

static void compare(eager *run, const kiln_graph *g, kiln_tensor a, kiln_tensor b, const char *what) {
    kiln_tensor_info info;
    assert_int_equal(kiln_tensor_get(g, a, &info), KILN_OK);
    if (memcmp(eager_data(run, a), eager_data(run, b), (size_t)info.bytes) != 0)
        fail_msg("%s: the fused op and the single ones differ", what);
}

/* add_rms_norm is add, then rms_norm, then quantize. */
static void test_quantised(void **state) {
    (void)state;
    static const kiln_quant quants[] = {KILN_QUANT_Q8_A, KILN_QUANT_BF16, KILN_QUANT_F16};
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (size_t q = 0; q < 3; q++) {
            int64_t n = 96 * (int64_t)(q + 1);
            built g = build_both(quants[q], n);
            eager *run = eager_new(g.graph, levels[l].cpu);
            uint64_t random = 7;
            for (int64_t i = 0; i < 7 * n; i++) {
                ((float *)eager_data(run, g.a))[i] = (float)op_random_between(&random, -3, 3);
                ((float *)eager_data(run, g.b))[i] = (float)op_random_between(&random, -1, 1);
            }
            for (int64_t i = 0; i < n; i++)
                ((float *)eager_data(run, g.w))[i] = (float)op_random_between(&random, 0, 2);
            assert_int_equal(eager_run(run, 3).status, KILN_OK);
            compare(run, g.graph, g.sum, g.sum2, "sum");
            compare(run, g.graph, g.normed, g.normed2, "normed");
            compare(run, g.graph, g.copy, g.copy2, "quantised");
            eager_free(run);
            kiln_graph_destroy(g.graph);
        }
}

static void test_refusals(void **state) {
    (void)state;
    static const kiln_rms_norm_attrs negative = {-1, 0}, unknown = {0, 9};
    const struct {
        op_case c;
        kiln_status status;
        const char *text;
    } cases[] = {
        {CASE("r0", rms_norm, NULL, NULL, 2, F32(3, 4), F32(3)), KILN_ERROR_SHAPE,
         "axis 0 of weight [3] is 3; it must be 4, axis 1 of x [3, 4]"},
        {CASE("r1", rms_norm, NULL, &negative, 1, F32(3, 4)), KILN_ERROR_ARGUMENT,
         "attribute eps is -1; it must be 0 to 3.402823466e+38"},
        {CASE("r2", rms_norm, NULL, &unknown, 1, F32(3, 4)), KILN_ERROR_ARGUMENT,
         "attribute quant is 9; it must be below 4"},
        {CASE("r3", rms_norm, NULL, &rms_q8, 1, F32(3, 40)), KILN_ERROR_SHAPE,
         "quant = q8_a needs rows of a multiple of 32; those of the output [3, 40] have 40"},
        {CASE("r4", add_rms_norm, NULL, &rms_q8, 2, F32(3, 32), F32(32)), KILN_ERROR_SHAPE,
         "b [32] must have the dimensions of a [3, 32]"},
        {CASE("r5", layer_norm, NULL, NULL, 3, F32(3, 4), F32(4), F32(5)), KILN_ERROR_SHAPE,
         "axis 0 of bias [5] is 5; it must be 4, axis 1 of x [3, 4]"},
        {CASE("r6", l2_norm, NULL, NULL, 1, {.dtype = KILN_I32, OP_DIMS(3)}), KILN_ERROR_DTYPE,
         "x [3] is i32; it must be f32, f16 or bf16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        op_case_refused(&cases[i].c, cases[i].status, cases[i].text);
}

/* Rows that are finite, as their norms are, but whose squares or sums leave the range of f32, and rows whose
 * mean is large against what the elements differ by. */
static void test_range_and_mean(void **state) {
    (void)state;
    static const kiln_layer_norm_attrs layer_0 = {0};
    static const kiln_l2_norm_attrs l2_0 = {0};
    static const double rows[][4] = {
        {1e20, -3e20, 2.5e20, 7e19},
        {3e38, -3.4e38, 2e38, 1e38},
        {1e-25, -3e-25, 2.5e-25, 0},
        {1e-44, -3e-44, 2.8e-45, 7e-44},
        {1e19, 3e-20, -2e19, 5},
        {3e38, 3.2e38, 3.4e38, 3.1e38},
        {10000, 10000.001, 10000.002, 9999.99},
        {-1e6, -999999, -999997, -1e6},
        {1e30, 1.0000001e30, 1e30, 1.0000002e30},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (int long_row = 0; long_row < 2; long_row++) {
            const op_in x = {.dtype = KILN_F32,
                             .ndim = 2,
                             .dims = {2, long_row ? 4096 : 64},
                             .data = rows[r],
                             .n_data = 4};
            const op_in none = NONE, weight = {.dtype = KILN_F32, .ndim = 1, .dims = {x.dims[1]}};
            op_case cases[] = {
                CASE("rms range", rms_norm, rms_oracle, &rms_0, 2, x, weight),
                CASE("layer range", layer_norm, layer_oracle, &layer_0, 2, x, weight),
                CASE("l2 range", l2_norm, l2_oracle, &l2_0, 1, x),
                CASE("rms range, eps", rms_norm, rms_oracle, NULL, 1, x),
                CASE("layer range, eps", layer_norm, layer_oracle, NULL, 3, x, none, weight),
                CASE("l2 range, eps", l2_norm, l2_oracle, NULL, 1, x),
                CASE("rms range, q8_a", rms_norm, rms_oracle, &rms_q8, 2, x, weight),
            };
            for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                cases[i].abs = 1e-37; /* what is below the smallest normal number of f32 */
            OP_CASES_RUN(cases);
            op_in half = {.dtype = KILN_F32,
                          .ndim = 2,
                          .dims = {2, x.dims[1]},
                          .data = (const double[]){0},
                          .n_data = 1};
            op_case add = CASE("add_rms range", add_rms_norm, add_rms_oracle, &rms_q8, 3, x, half, weight);
            add.abs = 1e-37;
            op_case_run(&add);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rms),
        cmocka_unit_test(test_layer_and_l2),
        cmocka_unit_test(test_range_and_mean),
        cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
