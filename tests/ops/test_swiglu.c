/* swiglu with its quantised copies; weighted_sum; mean_pool. */
#include "infer_util.h"
#include "tests/support/op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define F32(...)                                                                                             \
    { .dtype = KILN_F32, OP_DIMS(__VA_ARGS__) }
#define F16(...)                                                                                             \
    { .dtype = KILN_F16, OP_DIMS(__VA_ARGS__) }
#define BF16(...)                                                                                            \
    { .dtype = KILN_BF16, OP_DIMS(__VA_ARGS__) }
#define NONE                                                                                                 \
    { .dtype = KILN_DTYPE_NONE }
#define WIDE(...)                                                                                            \
    { .dtype = KILN_F32, OP_DIMS(__VA_ARGS__), .lo = -15, .hi = 15 }
#define INF ((double)INFINITY)
#define NOT ((double)NAN)
#define CASE(title, descriptor, check, attributes, count, ...)                                               \
    {                                                                                                        \
        .name = title, .op = &kiln__op_##descriptor, .n_in = count, .in = {__VA_ARGS__},                     \
        .attrs = attributes, .oracle = check, .rel = 1e-6                                                    \
    }

/* ---- swiglu ----------------------------------------------------------------------------------------- */

static double act_of(uint32_t act, double x) {
    switch (act) {
    case KILN_ACT_SILU:
        return x / (1 + exp(-x));
    case KILN_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
    case KILN_ACT_GELU_ERF:
        return 0.5 * x * erfc(-x / sqrt(2.0));
    default:
        return x < 0 ? 0 : x;
    }
}

static void swiglu_oracle(const op_case *c, const op_values *in, op_values *out) {
    static const kiln_swiglu_attrs preset = {0};
    const kiln_swiglu_attrs *a = c->attrs ? c->attrs : &preset;
    int64_t n = out[0].ne[3];
    for (int64_t i = 0; i < out[0].n; i++) {
        double g = c->n_in > 1 ? in[0].v[i] : in[0].v[i / n * 2 * n + i % n];
        double u = c->n_in > 1 ? in[1].v[i] : in[0].v[i / n * 2 * n + n + i % n], limit = (double)a->limit;
        if (limit > 0) {
            g = g > limit ? limit : g;
            u = u > limit ? limit : u < -limit ? -limit : u;
        }
        out[0].v[i] = act_of(a->act, g) * u;
        out[0].slack[i] = fabs(g * u);
        if (out[1].v != NULL) {
            out[1].v[i] = out[0].v[i];
            out[1].slack[i] = 1e6; /* compared bit for bit in test_quantised */
        }
    }
}

static void test_swiglu(void **state) {
    (void)state;
    static const kiln_swiglu_attrs tanh_form = {KILN_ACT_GELU_TANH, 0, 0},
                                   erf_form = {KILN_ACT_GELU_ERF, 0, 0}, relu = {KILN_ACT_RELU, 0, 0},
                                   limited = {KILN_ACT_SILU, 7, 0}, q8 = {KILN_ACT_SILU, 0, KILN_QUANT_Q8_A},
                                   f16 = {KILN_ACT_GELU_TANH, 7, KILN_QUANT_F16};
    const op_case cases[] = {
        CASE("two", swiglu, swiglu_oracle, NULL, 2, WIDE(5, 37), WIDE(5, 37)),
        CASE("packed", swiglu, swiglu_oracle, NULL, 1, WIDE(5, 2, 74)),
        CASE("one column", swiglu, swiglu_oracle, NULL, 1, WIDE(5, 2)),
        CASE("long rows", swiglu, swiglu_oracle, NULL, 1, WIDE(2, 18000)),
        CASE("flat and long", swiglu, swiglu_oracle, NULL, 2, WIDE(3, 5000), WIDE(3, 5000)),
        CASE("gelu tanh", swiglu, swiglu_oracle, &tanh_form, 1, WIDE(5, 200)),
        CASE("gelu erf", swiglu, swiglu_oracle, &erf_form, 1, WIDE(5, 200)),
        CASE("relu", swiglu, swiglu_oracle, &relu, 2, WIDE(5, 100), F16(5, 100)),
        CASE("limit", swiglu, swiglu_oracle, &limited, 1, WIDE(5, 200)),
        CASE("halves", swiglu, swiglu_oracle, NULL, 2, F16(3, 1100), BF16(3, 1100)),
        CASE("packed halves", swiglu, swiglu_oracle, NULL, 1, BF16(3, 2200)),
        CASE("q8_a copy", swiglu, swiglu_oracle, &q8, 1, WIDE(5, 128)),
        CASE("f16 copy", swiglu, swiglu_oracle, &f16, 2, WIDE(5, 61), WIDE(5, 61)),
        CASE("permuted", swiglu, swiglu_oracle, NULL, 2,
             {.dtype = KILN_F32, OP_DIMS(3, 4, 33), .order = "102", .pad = 1}, F32(3, 4, 33)),
        CASE("empty", swiglu, swiglu_oracle, NULL, 1, F32(0, 8)),
        CASE("special", swiglu, swiglu_oracle, NULL, 2,
             {.dtype = KILN_F32, OP_DIMS(5), OP_DATA(NOT, INF, 0, 1, 2)},
             {.dtype = KILN_F32, OP_DIMS(5), OP_DATA(1, 2, INF, NOT, -INF)}),
        CASE("special, limited", swiglu, swiglu_oracle, &limited, 2,
             {.dtype = KILN_F32, OP_DIMS(4), OP_DATA(NOT, INF, 0, 1)},
             {.dtype = KILN_F32, OP_DIMS(4), OP_DATA(1, INF, -INF, NOT)}),
    };
    OP_CASES_RUN(cases);
}

/* The second output is `quantize` of the first, bit for bit. */
static void test_quantised(void **state) {
    (void)state;
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (uint32_t quant = KILN_QUANT_Q8_A; quant <= KILN_QUANT_F16; quant++) {
            int64_t n = quant == KILN_QUANT_Q8_A ? 9024 : 160; /* more than one tile to a row */
            kiln_graph *g;
            kiln_tensor out[2];
            assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
            kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(3), kiln_n(2 * n)));
            kiln_swiglu_attrs a = {KILN_ACT_SILU, 0, quant};
            assert_int_equal(kiln_node_add(g, &kiln__op_swiglu, &x, 1, &a, out), KILN_OK);
            kiln_tensor copy = kiln_quantize(g, out[0], (kiln_quant)quant);
            assert_int_equal(kiln_graph_check(g, NULL), KILN_OK);
            eager *run = eager_new(g, levels[l].cpu);
            uint64_t random = 5;
            for (int64_t i = 0; i < 6 * n; i++)
                ((float *)eager_data(run, x))[i] = (float)op_random_between(&random, -4, 4);
            assert_int_equal(eager_run(run, 3).status, KILN_OK);
            kiln_tensor_info info;
            assert_int_equal(kiln_tensor_get(g, copy, &info), KILN_OK);
            assert_memory_equal(eager_data(run, copy), eager_data(run, out[1]), (size_t)info.bytes);
            eager_free(run);
            kiln_graph_destroy(g);
        }
}

/* ---- weighted_sum ----------------------------------------------------------------------------------- */

static void sum_oracle(const op_case *c, const op_values *in, op_values *out) {
    int64_t k = in[0].ne[2], h = in[0].ne[3];
    for (int64_t i = 0; i < out->n; i++) {
        int64_t t = i / h, col = i % h;
        double y = c->n_in > 2 && in[2].v ? in[2].v[i] : 0, size = fabs(y);
        for (int64_t s = 0; s < k; s++) {
            double term = in[1].v[t * k + s] * in[0].v[(t * k + s) * h + col];
            y += term;
            size += fabs(term);
        }
        if (c->n_in > 3 && in[3].v) {
            double gate = c->n_in > 4 ? 1 / (1 + exp(-in[4].v[t])) : 1;
            y += gate * in[3].v[i];
            size += fabs(gate * in[3].v[i]);
        }
        out->v[i] = y;
        out->slack[i] = size;
    }
}

static void test_weighted_sum(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("sum", weighted_sum, sum_oracle, NULL, 2, F32(5, 2, 64), F32(5, 2)),
        CASE("sum of eight, wide", weighted_sum, sum_oracle, NULL, 2, F32(3, 8, 1111), F32(3, 8)),
        CASE("sum of one", weighted_sum, sum_oracle, NULL, 2, F32(5, 1, 7), F32(5, 1)),
        CASE("sum of none", weighted_sum, sum_oracle, NULL, 3, F32(5, 0, 7), F32(5, 0), F32(5, 7)),
        CASE("sum, residual", weighted_sum, sum_oracle, NULL, 3, F32(5, 4, 64), F32(5, 4), F16(5, 64)),
        CASE("sum, shared", weighted_sum, sum_oracle, NULL, 4, F32(5, 4, 64), F32(5, 4), NONE, F32(5, 64)),
        CASE("sum, gated shared", weighted_sum, sum_oracle, NULL, 5, F16(5, 4, 600), F32(5, 4), F32(5, 600),
             BF16(5, 600), F32(5, 1)),
        CASE("sum, strided", weighted_sum, sum_oracle, NULL, 2,
             {.dtype = KILN_F32, OP_DIMS(5, 3, 33), .order = "102", .pad = 2},
             {.dtype = KILN_F32, OP_DIMS(5, 3), .pad = 1}),
        CASE("sum, no tokens", weighted_sum, sum_oracle, NULL, 2, F32(0, 2, 64), F32(0, 2)),
        CASE("sum, 0 * Inf", weighted_sum, sum_oracle, NULL, 2,
             {.dtype = KILN_F32, OP_DIMS(1, 2, 3), OP_DATA(1, 2, INF, 3, NOT, 4)},
             {.dtype = KILN_F32, OP_DIMS(1, 2), OP_DATA(0, 1)}),
    };
    OP_CASES_RUN(cases);
}

/* ---- mean_pool -------------------------------------------------------------------------------------- */

static void pool_oracle(const op_case *c, const op_values *in, op_values *out) {
    int64_t t_n = in[0].ne[2], h = in[0].ne[3];
    for (int64_t i = 0; i < out->n; i++) {
        int64_t b = i / h, col = i % h, count = 0;
        double sum = 0;
        for (int64_t t = 0; t < t_n; t++)
            if (c->n_in < 2 || in[1].v[b * t_n + t] != 0) {
                sum += in[0].v[(b * t_n + t) * h + col];
                count++;
            }
        out->v[i] = count ? sum / (double)count : 0;
        out->slack[i] = 1;
    }
}

#define MASK(type, ...)                                                                                      \
    { .dtype = KILN_##type, OP_DIMS(__VA_ARGS__), .lo = 0, .hi = 1 }

static void test_mean_pool(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("pool", mean_pool, pool_oracle, NULL, 1, F32(7, 33)),
        CASE("pool long", mean_pool, pool_oracle, NULL, 1, F32(2, 3000, 9)),
        CASE("pool wide", mean_pool, pool_oracle, NULL, 2, F16(2, 5, 1300), MASK(U8, 2, 5)),
        CASE("pool u8", mean_pool, pool_oracle, NULL, 2, F32(3, 7, 33), MASK(U8, 3, 7)),
        CASE("pool i32", mean_pool, pool_oracle, NULL, 2, F32(2, 3, 7, 33), MASK(I32, 2, 3, 7)),
        CASE("pool f32", mean_pool, pool_oracle, NULL, 2, F32(3, 4),
             {.dtype = KILN_F32, OP_DIMS(3), OP_DATA(0, -0.5, -0.0)}),
        CASE("pool, nothing left", mean_pool, pool_oracle, NULL, 2, F32(2, 3, 4),
             {.dtype = KILN_U8, OP_DIMS(2, 3), OP_DATA(0)}),
        CASE("pool, no rows", mean_pool, pool_oracle, NULL, 1, F32(2, 0, 4)),
        CASE("pool, left-out NaN stays out", mean_pool, pool_oracle, NULL, 2,
             {.dtype = KILN_F32, OP_DIMS(3, 2), OP_DATA(1, 2, NOT, INF, 3, 4)},
             {.dtype = KILN_U8, OP_DIMS(3), OP_DATA(1, 0, 1)}),
        CASE("pool permuted", mean_pool, pool_oracle, NULL, 2,
             {.dtype = KILN_F32, OP_DIMS(3, 7, 33), .order = "102", .pad = 1}, MASK(I32, 3, 7)),
    };
    OP_CASES_RUN(cases);
    op_case symbol =
        CASE("pool symbol", mean_pool, pool_oracle, NULL, 2, {.dtype = KILN_F32, OP_DIMS(1, 9), .slots = {1}},
             {.dtype = KILN_U8, OP_DIMS(1), .slots = {1}, .lo = 0, .hi = 1});
    symbol.slots[0] = (op_slot){.min = 0, .max = 50, .value = 37};
    symbol.n_slots = 1;
    op_case_run(&symbol);
    symbol.slots[0].value = 0;
    op_case_run(&symbol);
}

static void test_refusals(void **state) {
    (void)state;
    static const kiln_swiglu_attrs q8 = {0, 0, KILN_QUANT_Q8_A}, act = {4, 0, 0}, limit = {0, -1, 0};
    const struct {
        op_case c;
        kiln_status status;
        const char *text;
    } cases[] = {
        {CASE("r0", swiglu, NULL, NULL, 1, F32(3, 7)), KILN_ERROR_SHAPE,
         "gate [3, 7] has 7 columns; without `up` they hold gate, then up, and must be even"},
        {CASE("r1", swiglu, NULL, NULL, 2, F32(3, 7), F32(3, 8)), KILN_ERROR_SHAPE,
         "up [3, 8] must have the dimensions of gate [3, 7]"},
        {CASE("r2", swiglu, NULL, &q8, 1, F32(3, 80)), KILN_ERROR_SHAPE,
         "quant = q8_a needs rows of a multiple of 32; those of the output [3, 40] have 40"},
        {CASE("r3", swiglu, NULL, &act, 1, F32(3, 80)), KILN_ERROR_ARGUMENT,
         "attribute act is 4; it must be below 4"},
        {CASE("r4", swiglu, NULL, &limit, 1, F32(3, 80)), KILN_ERROR_ARGUMENT,
         "attribute limit is -1; it must be 0 to 3.402823466e+38"},
        {CASE("r5", weighted_sum, NULL, NULL, 2, F32(3, 2, 4), F32(3, 3)), KILN_ERROR_SHAPE,
         "axis 1 of w [3, 3] is 3; it must be 2, axis 1 of x [3, 2, 4]"},
        {CASE("r6", weighted_sum, NULL, NULL, 2, F32(3, 4), F32(3, 3)), KILN_ERROR_SHAPE,
         "x [3, 4] has 2 dimensions; it must have 3"},
        {CASE("r7", weighted_sum, NULL, NULL, 5, F32(3, 2, 4), F32(3, 2), NONE, NONE, F32(3, 1)),
         KILN_ERROR_ARGUMENT, "shared_logit is given without shared"},
        {CASE("r8", weighted_sum, NULL, NULL, 5, F32(3, 2, 4), F32(3, 2), NONE, F32(3, 4), F32(3, 4)),
         KILN_ERROR_SHAPE, "shared_logit [3, 4] must have one column"},
        {CASE("r9", weighted_sum, NULL, NULL, 3, F32(3, 2, 4), F32(3, 2), F32(3, 5)), KILN_ERROR_SHAPE,
         "axis 1 of residual [3, 5] is 5; it must be 4, axis 2 of x [3, 2, 4]"},
        {CASE("r10", mean_pool, NULL, NULL, 1, F32(3)), KILN_ERROR_SHAPE,
         "x [3] has 1 dimensions; it must have 2 to 4"},
        {CASE("r11", mean_pool, NULL, NULL, 2, F32(3, 4), F32(4)), KILN_ERROR_SHAPE,
         "axis 0 of mask [4] is 4; it must be 3, axis 0 of x [3, 4]"},
        {CASE("r12", mean_pool, NULL, NULL, 2, F32(3, 4), F32(3, 4)), KILN_ERROR_SHAPE,
         "mask [3, 4] has 2 dimensions; it must have 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        op_case_refused(&cases[i].c, cases[i].status, cases[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_swiglu),       cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_weighted_sum), cmocka_unit_test(test_mean_pool),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
