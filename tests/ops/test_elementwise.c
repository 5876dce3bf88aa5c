/* add, mul, bias, scale, silu, gelu, softcap, accumulate, zero. */
#include "infer_util.h"
#include "tests/support/op_case.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Element of `b` that belongs to element i of `a`: counts of 1 repeat. */
static int64_t repeated(const op_values *a, const op_values *b, int64_t i) {
    int64_t at = 0, step = 1;
    for (int k = KILN_MAX_DIMS - 1; k >= 0; k--) {
        if (b->ne[k] != 1)
            at += i % a->ne[k] * step;
        i /= a->ne[k];
        step *= b->ne[k];
    }
    return at;
}

static void add_oracle(const op_case *c, const op_values *in, op_values *out) {
    (void)c;
    for (int64_t i = 0; i < out->n; i++)
        out->v[i] = in[0].v[i] + in[1].v[repeated(&in[0], &in[1], i)];
}

static void mul_oracle(const op_case *c, const op_values *in, op_values *out) {
    (void)c;
    for (int64_t i = 0; i < out->n; i++)
        out->v[i] = in[0].v[i] * in[1].v[repeated(&in[0], &in[1], i)];
}

#define F32(...)                                                                                             \
    { .dtype = KILN_F32, OP_DIMS(__VA_ARGS__) }
#define F16(...)                                                                                             \
    { .dtype = KILN_F16, OP_DIMS(__VA_ARGS__) }
#define BF16(...)                                                                                            \
    { .dtype = KILN_BF16, OP_DIMS(__VA_ARGS__) }
#define PAIR(title, descriptor, check, a, b)                                                                 \
    { .name = title, .op = &kiln__op_##descriptor, .n_in = 2, .in = {a, b}, .oracle = check, .rel = 1e-7 }

static void test_pairs(void **state) {
    (void)state;
    const op_case cases[] = {
        PAIR("add 1-d", add, add_oracle, F32(37), F32(37)),
        PAIR("add one element", add, add_oracle, F32(1), F32(1)),
        PAIR("add flat, several tiles", add, add_oracle, F32(3, 7000), F32(3, 7000)),
        PAIR("add a row", add, add_oracle, F32(5, 4, 33), F32(33)),
        PAIR("add middle axes repeated", add, add_oracle, F32(2, 3, 4, 17), F32(2, 1, 4, 17)),
        PAIR("add a column", add, add_oracle, F32(3, 19), F32(3, 1)),
        PAIR("add a number", add, add_oracle, F32(2, 3, 600), F32(1)),
        PAIR("add halves", add, add_oracle, F16(3, 1100), BF16(3, 1100)),
        PAIR("add a half column", add, add_oracle, F32(3, 1100), F16(3, 1)),
        PAIR("add long rows", add, add_oracle, F32(2, 20000), F32(20000)),
        PAIR("add nothing", add, add_oracle, F32(0, 5), F32(5)),
        PAIR("add empty rows", add, add_oracle, F32(5, 0), F32(5, 0)),
        PAIR("mul 1-d", mul, mul_oracle, F32(37), F32(37)),
        PAIR("mul a row", mul, mul_oracle, F32(5, 4, 33), F32(33)),
        PAIR("mul a column", mul, mul_oracle, F32(3, 19), F32(3, 1)),
        PAIR("mul halves", mul, mul_oracle, BF16(3, 1100), F16(3, 1100)),
        PAIR("bias", bias, add_oracle, F32(3, 5, 70), F32(70)),
        PAIR("bias 1-d", bias, add_oracle, F32(70), F32(70)),
        PAIR("bias half", bias, add_oracle, BF16(5, 70), F16(70)),
        {.name = "add strided, permuted",
         .op = &kiln__op_add,
         .n_in = 2,
         .in = {{.dtype = KILN_F32, OP_DIMS(3, 4, 17), .order = "102", .pad = 3},
                {.dtype = KILN_F32, OP_DIMS(3, 4, 17), .pad = 1}},
         .oracle = add_oracle,
         .rel = 1e-7},
        {.name = "add symbol below its maximum",
         .op = &kiln__op_add,
         .n_in = 2,
         .in = {{.dtype = KILN_F32, OP_DIMS(2, 1, 9), .slots = {0, 1}},
                {.dtype = KILN_F32, OP_DIMS(2, 1, 9), .slots = {0, 1}}},
         .slots = {{.min = 0, .max = 12, .value = 5}},
         .n_slots = 1,
         .oracle = add_oracle,
         .rel = 1e-7},
        {.name = "add symbol at zero",
         .op = &kiln__op_add,
         .n_in = 2,
         .in = {{.dtype = KILN_F32, OP_DIMS(1, 9), .slots = {1}}, {.dtype = KILN_F32, OP_DIMS(9)}},
         .slots = {{.min = 0, .max = 12, .value = 0}},
         .n_slots = 1,
         .oracle = add_oracle},
        {.name = "mul: NaN and infinities flow",
         .op = &kiln__op_mul,
         .n_in = 2,
         .in = {{.dtype = KILN_F32, OP_DIMS(4), OP_DATA((double)NAN, (double)INFINITY, 0, -1)},
                {.dtype = KILN_F32, OP_DIMS(4), OP_DATA(0, 0, 1, (double)INFINITY)}},
         .oracle = mul_oracle},
    };
    OP_CASES_RUN(cases);
}

/* ---- one operand ------------------------------------------------------------------------------------ */

static double silu_of(double x) {
    return x / (1 + exp(-x));
}
static double gelu_of(double x, bool exact) {
    return exact ? 0.5 * x * erfc(-x / sqrt(2.0))
                 : 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static void unary_oracle(const op_case *c, const op_values *in, op_values *out) {
    const float *cap = c->attrs;
    for (int64_t i = 0; i < out->n; i++) {
        double x = in[0].v[i];
        out->slack[i] = fabs(x);
        if (c->op == &kiln__op_silu)
            out->v[i] = silu_of(x);
        else if (c->op == &kiln__op_gelu)
            out->v[i] = gelu_of(x, c->attrs != NULL && ((const kiln_gelu_attrs *)c->attrs)->exact);
        else if (c->op == &kiln__op_softcap)
            out->v[i] = (double)*cap * tanh(x / (double)*cap);
    }
}

static void scale_oracle(const op_case *c, const op_values *in, op_values *out) {
    const kiln_scale_attrs *a = c->attrs;
    double s = a->scale.slot ? (double)c->slots[a->scale.slot - 1].number : (double)a->scale.value;
    double t = a->shift.slot ? (double)c->slots[a->shift.slot - 1].number : (double)a->shift.value;
    for (int64_t i = 0; i < out->n; i++) {
        out->v[i] = s * in[0].v[i] + t;
        out->slack[i] = fabs(s * in[0].v[i]) + fabs(t);
    }
}

#define ONE(title, descriptor, attributes, ...)                                                              \
    {                                                                                                        \
        .name = title, .op = &kiln__op_##descriptor, .n_in = 1, .in = {{__VA_ARGS__}}, .attrs = attributes,  \
        .oracle = unary_oracle, .rel = 4e-7                                                                  \
    }

static void test_unary(void **state) {
    (void)state;
    static const kiln_gelu_attrs exact = {1};
    static const kiln_softcap_attrs cap30 = {30}, cap1 = {1};
    static const kiln_scale_attrs twice = {{2, 0}, {-0.5f, 0}}, slots = {{0, 1}, {0, 2}};
    const op_case cases[] = {
        ONE("silu", silu, NULL, .dtype = KILN_F32, OP_DIMS(3, 37), .lo = -20, .hi = 20),
        ONE("silu large", silu, NULL, .dtype = KILN_F32, OP_DIMS(2, 9000), .lo = -200, .hi = 200),
        ONE("silu f16", silu, NULL, .dtype = KILN_F16, OP_DIMS(3, 700), .lo = -20, .hi = 20),
        ONE("silu special", silu, NULL, .dtype = KILN_F32, OP_DIMS(4),
            OP_DATA((double)NAN, (double)INFINITY, (double)-INFINITY, 0)),
        ONE("silu strided", silu, NULL, .dtype = KILN_F32, OP_DIMS(3, 2, 37), .order = "102", .pad = 2),
        ONE("gelu", gelu, NULL, .dtype = KILN_F32, OP_DIMS(3, 333), .lo = -12, .hi = 12),
        ONE("gelu exact", gelu, &exact, .dtype = KILN_F32, OP_DIMS(3, 333), .lo = -12, .hi = 12),
        ONE("gelu exact bf16", gelu, &exact, .dtype = KILN_BF16, OP_DIMS(3, 333), .lo = -12, .hi = 12),
        ONE("gelu special", gelu, NULL, .dtype = KILN_F32, OP_DIMS(5),
            OP_DATA((double)NAN, (double)INFINITY, (double)-INFINITY, 0, 1e30)),
        ONE("gelu exact special", gelu, &exact, .dtype = KILN_F32, OP_DIMS(5),
            OP_DATA((double)NAN, (double)INFINITY, 0, 1e30, -1e30)),
        ONE("softcap", softcap, &cap30, .dtype = KILN_F32, OP_DIMS(3, 333), .lo = -120, .hi = 120),
        ONE("softcap near 0", softcap, &cap1, .dtype = KILN_F32, OP_DIMS(3, 333), .lo = -0.01, .hi = 0.01),
        ONE("softcap special", softcap, &cap1, .dtype = KILN_F32, OP_DIMS(4),
            OP_DATA((double)NAN, (double)INFINITY, (double)-INFINITY, -1e30)),
        {.name = "scale",
         .op = &kiln__op_scale,
         .n_in = 1,
         .in = {F32(3, 333)},
         .attrs = &twice,
         .oracle = scale_oracle,
         .rel = 1e-7},
        {.name = "scale by slots",
         .op = &kiln__op_scale,
         .n_in = 1,
         .in = {F16(3, 333)},
         .attrs = &slots,
         .slots = {{.is_float = true, .number = 3.25f}, {.is_float = true, .number = -1}},
         .n_slots = 2,
         .oracle = scale_oracle,
         .rel = 1e-7},
    };
    OP_CASES_RUN(cases);
}

/* ---- in place --------------------------------------------------------------------------------------- */

static void accumulate_oracle(const op_case *c, const op_values *in, op_values *out) {
    const kiln_accumulate_attrs *a = c->attrs;
    double w = c->n_in > 2              ? in[2].v[0]
               : a != NULL && a->w.slot ? (double)c->slots[a->w.slot - 1].number
               : a != NULL              ? (double)a->w.value
                                        : 1;
    for (int64_t i = 0; i < out->n; i++) {
        out->v[i] = in[0].v[i] + w * in[1].v[i];
        out->slack[i] = fabs(in[0].v[i]) + fabs(w * in[1].v[i]);
    }
}

static void zero_oracle(const op_case *c, const op_values *in, op_values *out) {
    (void)c;
    (void)in;
    for (int64_t i = 0; i < out->n; i++)
        out->v[i] = 0;
}

#define STATE(...)                                                                                           \
    { .dtype = KILN_F32, .kind = KILN_STORAGE_STATE, OP_DIMS(__VA_ARGS__) }

static void test_in_place(void **state) {
    (void)state;
    static const kiln_accumulate_attrs by_slot = {{0, 1}}, zero_weight = {{0, 0}};
    const op_case cases[] = {
        {.name = "accumulate",
         .op = &kiln__op_accumulate,
         .n_in = 3,
         .in = {STATE(3, 333), F32(3, 333), F32(1)},
         .oracle = accumulate_oracle,
         .rel = 2e-7},
        {.name = "accumulate f16 by slot, acc strided",
         .op = &kiln__op_accumulate,
         .n_in = 2,
         .in = {{.dtype = KILN_F32, .kind = KILN_STORAGE_STATE, OP_DIMS(3, 33), .pad = 5}, F16(3, 33)},
         .attrs = &by_slot,
         .slots = {{.is_float = true, .number = -0.75f}},
         .n_slots = 1,
         .oracle = accumulate_oracle,
         .rel = 2e-7},
        {.name = "accumulate one element",
         .op = &kiln__op_accumulate,
         .n_in = 3,
         .in = {STATE(1), F32(1), F32(1, 1)},
         .oracle = accumulate_oracle,
         .rel = 2e-7},
        {.name = "accumulate 0 * Inf is NaN",
         .op = &kiln__op_accumulate,
         .n_in = 2,
         .in = {STATE(3), {.dtype = KILN_F32, OP_DIMS(3), OP_DATA(1, (double)INFINITY, (double)NAN)}},
         .attrs = &zero_weight,
         .oracle = accumulate_oracle},
        {.name = "zero", .op = &kiln__op_zero, .n_in = 1, .in = {STATE(3, 3333)}, .oracle = zero_oracle},
        {.name = "zero strided f16",
         .op = &kiln__op_zero,
         .n_in = 1,
         .in = {{.dtype = KILN_F16, .kind = KILN_STORAGE_STATE, OP_DIMS(3, 2, 33), .order = "102", .pad = 3}},
         .oracle = zero_oracle},
        {.name = "zero i64",
         .op = &kiln__op_zero,
         .n_in = 1,
         .in = {{.dtype = KILN_I64, .kind = KILN_STORAGE_STATE, OP_DIMS(7)}},
         .oracle = zero_oracle},
        {.name = "zero q4_0 blocks",
         .op = &kiln__op_zero,
         .n_in = 1,
         .in = {{.dtype = KILN_Q4_0, .kind = KILN_STORAGE_STATE, OP_DIMS(3, 64), .pad = 1}},
         .oracle = zero_oracle},
    };
    OP_CASES_RUN(cases);
}

static void test_zeros(void **state) {
    (void)state;
    kiln_graph *g;
    kiln_error error;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    kiln_slot t = kiln_slot_i64(g, "n_tokens", 0, 8);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(t), kiln_n(5)));
    kiln_tensor acc = kiln_zeros(g, KILN_SHAPE(kiln_sym(t), kiln_n(5)));
    acc = kiln_accumulate_by(g, acc, x, kiln_f32_const(2));
    acc = kiln_accumulate_by(g, acc, x, kiln_f32_const(0.5f));
    kiln_output(g, acc, "y");
    if (kiln_graph_check(g, &error) != KILN_OK)
        fail_msg("%s", error.text);
    eager *run = eager_new(g, 0);
    eager_set_i64(run, t, 3);
    float *xs = eager_data(run, x);
    for (int i = 0; i < 15; i++)
        xs[i] = (float)i;
    assert_int_equal(eager_run(run, 1).status, KILN_OK);
    const float *y = eager_data(run, acc);
    for (int i = 0; i < 15; i++)
        assert_true(y[i] == 2.5f * (float)i);
    eager_free(run);
    kiln_graph_destroy(g);

    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    assert_false(kiln_tensor_valid(kiln_zeros(g, 0, NULL)));
    assert_int_equal(kiln_graph_check(g, &error), KILN_ERROR_SHAPE);
    assert_string_equal(error.text, "kiln_zeros: 0 dimensions; 1 to 4 are allowed");
    kiln_graph_destroy(g);
}

/* ---- refusals --------------------------------------------------------------------------------------- */

static void test_refusals(void **state) {
    (void)state;
    static const kiln_softcap_attrs no_cap = {KILN_ZERO_F32};
    static const kiln_scale_attrs nan_scale = {{NAN, 0}, {0, 0}};
    static const struct {
        op_case c;
        kiln_status status;
        const char *text;
    } cases[] = {
        {{.name = "r0", .op = &kiln__op_add, .n_in = 2, .in = {F32(2, 3), F32(2)}},
         KILN_ERROR_SHAPE,
         "b [2] cannot be repeated to a [2, 3]: counted from the innermost, axes must be equal or 1"},
        {{.name = "r1", .op = &kiln__op_mul, .n_in = 2, .in = {F32(3), F32(2, 3)}},
         KILN_ERROR_SHAPE,
         "b [2, 3] cannot be repeated to a [3]: counted from the innermost, axes must be equal or 1"},
        {{.name = "r2",
          .op = &kiln__op_add,
          .n_in = 2,
          .in = {{.dtype = KILN_Q8_0, OP_DIMS(2, 32)}, F32(32)}},
         KILN_ERROR_DTYPE,
         "a [2, 32] is q8_0; it must be f32, f16 or bf16"},
        {{.name = "r3",
          .op = &kiln__op_silu,
          .n_in = 1,
          .in = {{.dtype = KILN_F32, OP_DIMS(3, 4), .order = "10"}}},
         KILN_ERROR_SHAPE,
         "the elements of a row of x [3, 4] are 12 bytes apart; they must be adjacent, 4 bytes (kiln_copy "
         "makes a dense tensor)"},
        {{.name = "r4", .op = &kiln__op_bias, .n_in = 2, .in = {F32(3, 4), F32(3)}},
         KILN_ERROR_SHAPE,
         "axis 0 of b [3] is 3; it must be 4, axis 1 of x [3, 4]"},
        {{.name = "r5", .op = &kiln__op_bias, .n_in = 2, .in = {F32(3, 4), F32(1, 4)}},
         KILN_ERROR_SHAPE,
         "b [1, 4] has 2 dimensions; it must have 1"},
        {{.name = "r6", .op = &kiln__op_softcap, .n_in = 1, .in = {F32(3)}, .attrs = &no_cap},
         KILN_ERROR_ARGUMENT,
         "attribute cap is 0; it must be 1.175494351e-38 to 3.402823466e+38"},
        {{.name = "r7", .op = &kiln__op_scale, .n_in = 1, .in = {F32(3)}, .attrs = &nan_scale},
         KILN_ERROR_ARGUMENT,
         "attribute scale is nan; it must be a number"},
        {{.name = "r8", .op = &kiln__op_accumulate, .n_in = 2, .in = {STATE(3, 4), F32(4, 3)}},
         KILN_ERROR_SHAPE,
         "x [4, 3] must have the dimensions of acc [3, 4]"},
        {{.name = "r9", .op = &kiln__op_accumulate, .n_in = 3, .in = {STATE(3), F32(3), F32(2)}},
         KILN_ERROR_SHAPE,
         "w [2] must have one element"},
        {{.name = "r10", .op = &kiln__op_accumulate, .n_in = 2, .in = {F32(3), F32(3)}},
         KILN_ERROR_ARGUMENT,
         " would write into 'in0', which is of kind weight; copy it first (kiln_copy) or make it a state"},
        {{.name = "r11",
          .op = &kiln__op_accumulate,
          .n_in = 2,
          .in = {{.dtype = KILN_F16, .kind = KILN_STORAGE_STATE, OP_DIMS(3)}, F32(3)}},
         KILN_ERROR_DTYPE,
         "acc [3] is f16; it must be f32"},
        {{.name = "r12",
          .op = &kiln__op_zero,
          .n_in = 1,
          .in = {{.dtype = KILN_Q8_A, .kind = KILN_STORAGE_STATE, OP_DIMS(32)}}},
         KILN_ERROR_DTYPE,
         "x is q8_a; quantised activations cannot be cleared"},
        {{.name = "r13", .op = &kiln__op_add, .n_in = 2, .in = {F32(3), {0}}},
         KILN_ERROR_ARGUMENT,
         "operand b is missing"},
        {{.name = "r14",
          .op = &kiln__op_add,
          .n_in = 2,
          .in = {{.dtype = KILN_F32, OP_DIMS(1, 4), .slots = {1}}, F32(6, 4)},
          .slots = {{.min = 0, .max = 6}},
          .n_slots = 1},
         KILN_ERROR_SHAPE,
         "b [6, 4] cannot be repeated to a [slot0, 4]: counted from the innermost, axes must be equal or 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        op_case_refused(&cases[i].c, cases[i].status, cases[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs), cmocka_unit_test(test_unary),    cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_zeros), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
