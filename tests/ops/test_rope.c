/* rope, and rope_set_rows as rope followed by set_rows. */
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
#define NONE                                                                                                 \
    { .dtype = KILN_DTYPE_NONE }
#define POSITIONS(type, t)                                                                                   \
    { .dtype = KILN_##type, OP_DIMS(t), .lo = 0, .hi = 5000 }

static void oracle(const op_case *c, const op_values *in, op_values *out) {
    const kiln_rope_attrs *a = c->attrs;
    int64_t axis = 4 - (int64_t)in[0].ndim, d = in[0].ne[3], tokens = in[0].ne[axis];
    int64_t heads = axis == 1 ? in[0].ne[2] : 1, dims = a->dims ? a->dims : d;
    double base = (double)(a->position.slot ? c->slots[a->position.slot - 1].value : a->position.value);
    for (int64_t r = 0; r < tokens * heads; r++) {
        const double *x = in[0].v + r * d;
        double *y = out->v + r * d, p = base + (c->n_in > 1 ? in[1].v[r / heads] : (double)(r / heads));
        for (int64_t i = 0; i < d; i++) {
            y[i] = x[i];
            out->slack[r * d + i] = 1;
        }
        for (int64_t i = 0; i < dims / 2; i++) {
            double angle = p * (double)a->freq_scale * pow((double)a->theta, -2.0 * (double)i / (double)dims);
            int64_t j = a->mode == KILN_ROPE_NEOX ? i : 2 * i;
            int64_t k = a->mode == KILN_ROPE_NEOX ? i + dims / 2 : 2 * i + 1;
            y[j] = x[j] * cos(angle) - x[k] * sin(angle);
            y[k] = x[j] * sin(angle) + x[k] * cos(angle);
        }
    }
}

#define CASE(title, attributes, count, ...)                                                                  \
    {                                                                                                        \
        .name = title, .op = &kiln__op_rope, .n_in = count, .in = {__VA_ARGS__}, .attrs = attributes,        \
        .oracle = oracle, .rel = 3e-7                                                                        \
    }

static const kiln_rope_attrs plain = {{0, 0, 0}, 0, 10000, 1, KILN_ROPE_INTERLEAVED},
                             neox = {{0, 0, 0}, 0, 10000, 1, KILN_ROPE_NEOX},
                             at7 = {{7, 0, 0}, 0, 500000, 0.25f, KILN_ROPE_INTERLEAVED},
                             neox_part = {{100000, 0, 0}, 20, 10000, 1, KILN_ROPE_NEOX},
                             part = {{-3, 0, 0}, 2, 10000, 1, KILN_ROPE_INTERLEAVED},
                             by_slot = {{0, 1, 0}, 0, 10000, 1, KILN_ROPE_NEOX};

static void test_rope(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("interleaved", &plain, 1, F32(5, 3, 64)),
        CASE("neox", &neox, 1, F32(5, 3, 64)),
        CASE("interleaved, position, theta, scale", &at7, 1, F32(5, 3, 30)),
        CASE("neox, some dims, far", &neox_part, 1, F32(5, 3, 33)),
        CASE("interleaved, some dims, before 0", &part, 1, F32(5, 3, 7)),
        CASE("two elements", &neox, 1, F32(4, 2, 2)),
        CASE("two axes", &plain, 1, F32(40, 128)),
        CASE("f16", &neox, 1, F16(5, 3, 48)),
        CASE("positions i32", &neox, 2, F32(6, 3, 64), POSITIONS(I32, 6)),
        CASE("positions i64 and a position", &at7, 2, F32(6, 3, 64), POSITIONS(I64, 6)),
        CASE("strided", &plain, 1, {.dtype = KILN_F32, OP_DIMS(5, 3, 34), .order = "102", .pad = 2}),
        CASE("no tokens", &plain, 1, F32(0, 3, 34)),
        CASE("many tokens", &neox, 1, F32(100, 4, 64)),
        CASE("NaN stays in its pair", &plain, 1,
             {.dtype = KILN_F32, OP_DIMS(1, 1, 4), OP_DATA(1, 2, (double)NAN, 3)}),
    };
    OP_CASES_RUN(cases);
    op_case symbol = CASE("symbol", &by_slot, 1, {.dtype = KILN_F32, OP_DIMS(1, 2, 20), .slots = {2}});
    symbol.slots[0] = (op_slot){.min = 0, .max = 1 << 20, .value = 77};
    symbol.slots[1] = (op_slot){.min = 0, .max = 9, .value = 4};
    symbol.n_slots = 2;
    op_case_run(&symbol);
    symbol.slots[0].value = 1 << 20;
    op_case_run(&symbol);
}

/* Positions so far out that angles leave the fast reduction: results stay sines and cosines. */
static void test_rope_far(void **state) {
    (void)state;
    static const kiln_rope_attrs far = {{INT64_MAX, 0, 0}, 0, 10000, 3e38f, KILN_ROPE_NEOX};
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++) {
        kiln_graph *g;
        assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(64)));
        kiln_tensor y = kiln_rope(g, x, (kiln_tensor){0, 0}, far);
        assert_int_equal(kiln_graph_check(g, NULL), KILN_OK);
        eager *run = eager_new(g, levels[l].cpu);
        for (int i = 0; i < 128; i++)
            ((float *)eager_data(run, x))[i] = 1;
        assert_int_equal(eager_run(run, 1).status, KILN_OK);
        for (int i = 0; i < 128; i++)
            assert_true(fabsf(((float *)eager_data(run, y))[i]) < 1.4143f);
        eager_free(run);
        kiln_graph_destroy(g);
    }
}

/* ---- rope_set_rows ---------------------------------------------------------------------------------- */

typedef struct pair_case {
    kiln_dtype dst, x;
    int64_t tokens, heads, d; /* heads 0: two axes */
    bool positions, indices;
    kiln_rope_set_rows_attrs attrs;
    kiln_status status;
} pair_case;

static kiln_tensor tensor3(kiln_graph *g, bool is_state, const char *name, kiln_dtype dtype, int64_t t,
                           int64_t heads, int64_t d) {
    kiln_dim dims[3] = {kiln_n(t), kiln_n(heads ? heads : d), kiln_n(d)};
    return (is_state ? kiln_state : kiln_input)(g, name, dtype, heads ? 3 : 2, dims);
}

static void run_pair(const pair_case *p, uint32_t cpu) {
    kiln_graph *g;
    kiln_tensor none = {0, 0}, positions = none, indices = none;
    kiln_error error;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    kiln_tensor x = tensor3(g, false, "x", p->x, p->tokens, p->heads, p->d);
    kiln_tensor a = tensor3(g, true, "a", p->dst, 9, p->heads, p->d);
    kiln_tensor b = tensor3(g, true, "b", p->dst, 9, p->heads, p->d);
    if (p->positions)
        positions = kiln_input(g, "positions", KILN_I32, KILN_SHAPE(kiln_n(p->tokens)));
    if (p->indices)
        indices = kiln_input(g, "indices", KILN_I32, KILN_SHAPE(kiln_n(p->tokens)));
    kiln_tensor fused = kiln_rope_set_rows(g, a, x, positions, indices, p->attrs);
    kiln_tensor turned = kiln_rope(g, x, positions, p->attrs.rope);
    kiln_tensor single = kiln_set_rows(g, b, turned, indices, p->attrs.rows);
    if (kiln_graph_check(g, &error) != KILN_OK)
        fail_msg("%s", error.text);
    eager *run = eager_new(g, cpu);
    uint64_t random = 3;
    int64_t row = (p->heads ? p->heads : 1) * p->d;
    for (int64_t i = 0; i < p->tokens * row; i++)
        op_encode(p->x, eager_data(run, x), i, op_random_between(&random, -2, 2));
    for (int64_t t = 0; t < p->tokens; t++) {
        if (p->positions)
            ((int32_t *)eager_data(run, positions))[t] = (int32_t)(7 * t % 50);
        if (p->indices)
            ((int32_t *)eager_data(run, indices))[t] = (int32_t)(5 * t % 9);
    }
    kiln_tensor_info info;
    assert_int_equal(kiln_tensor_get(g, fused, &info), KILN_OK);
    for (int64_t split = 1; split <= 4; split++) {
        memset(eager_data(run, a), 0x11, (size_t)info.bytes);
        memset(eager_data(run, b), 0x11, (size_t)info.bytes);
        eager_result result = eager_run(run, split);
        assert_int_equal(result.status, p->status);
        assert_memory_equal(eager_data(run, fused), eager_data(run, single), (size_t)info.bytes);
    }
    eager_free(run);
    kiln_graph_destroy(g);
}

static void test_pairs(void **state) {
    (void)state;
    static const pair_case cases[] = {
        {KILN_F32, KILN_F32, 4, 3, 64, false, false, {{{5, 0, 0}, 0, 10000, 1, 0}, {{5, 0, 0}, 0}}, KILN_OK},
        {KILN_F16, KILN_F32, 4, 3, 34, false, false, {{{5, 0, 0}, 20, 10000, 1, 1}, {{2, 0, 0}, 0}}, KILN_OK},
        {KILN_BF16, KILN_F16, 5, 2, 64, true, false, {{{0, 0, 0}, 0, 10000, 1, 1}, {{3, 0, 0}, 0}}, KILN_OK},
        {KILN_F16, KILN_F32, 5, 2, 600, true, false, {{{0, 0, 0}, 0, 10000, 1, 0}, {{33, 0, 0}, 1}}, KILN_OK},
        {KILN_F16, KILN_F32, 20, 2, 64, false, false, {{{3, 0, 0}, 0, 10000, 1, 0}, {{3, 0, 0}, 1}}, KILN_OK},
        {KILN_F16, KILN_F32, 12, 3, 64, true, true, {{{1, 0, 0}, 0, 10000, 1, 0}, {{0, 0, 0}, 0}}, KILN_OK},
        {KILN_F32, KILN_BF16, 6, 0, 64, false, true, {{{1, 0, 0}, 0, 10000, 1, 1}, {{0, 0, 0}, 0}}, KILN_OK},
        {KILN_F32,
         KILN_F32,
         6,
         2,
         8,
         false,
         false,
         {{{1, 0, 0}, 0, 10000, 1, 1}, {{6, 0, 0}, 0}},
         KILN_ERROR_INDEX},
        {KILN_F32, KILN_F32, 0, 2, 8, false, false, {{{1, 0, 0}, 0, 10000, 1, 1}, {{6, 0, 0}, 0}}, KILN_OK},
    };
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            run_pair(&cases[i], levels[l].cpu);
}

/* Accesses and the report of a bad index, by the harness. */
static void pair_oracle(const op_case *c, const op_values *in, op_values *out) {
    const kiln_rope_set_rows_attrs *a = c->attrs;
    op_values turned = *out, x = in[1];
    double v[4096], slack[4096];
    op_case rope = {.attrs = &a->rope, .n_in = 1};
    turned.v = v;
    turned.slack = slack;
    oracle(&rope, &x, &turned);
    int64_t axis = 4 - (int64_t)in[0].ndim, n = in[0].n / in[0].ne[axis];
    for (int64_t i = 0; i < out->n; i++) {
        out->v[i] = in[0].v[i];
        out->slack[i] = 1;
    }
    for (int64_t t = 0; t < x.ne[axis]; t++) {
        double to = c->n_in > 3 ? in[3].v[t] : (double)(a->rows.position.value + t);
        for (int64_t j = 0; j < n && to >= 0 && to < (double)in[0].ne[axis]; j++)
            out->v[(int64_t)to * n + j] = v[t * n + j];
    }
}

static void test_pairs_declared(void **state) {
    (void)state;
    static const kiln_rope_set_rows_attrs at2 = {{{5, 0, 0}, 0, 10000, 1, 0}, {{2, 0, 0}, 0}};
    const op_case cases[] = {
        {.name = "declared",
         .op = &kiln__op_rope_set_rows,
         .n_in = 2,
         .in = {{.dtype = KILN_F32, .kind = KILN_STORAGE_STATE, OP_DIMS(9, 3, 20), .pad = 3}, F32(4, 3, 20)},
         .attrs = &at2,
         .oracle = pair_oracle,
         .rel = 3e-7},
        {.name = "declared, indices, one bad",
         .op = &kiln__op_rope_set_rows,
         .n_in = 4,
         .in = {{.dtype = KILN_F32, .kind = KILN_STORAGE_STATE, OP_DIMS(9, 3, 20)},
                F32(4, 3, 20),
                NONE,
                {.dtype = KILN_I64, OP_DIMS(4), OP_DATA(1, 3, 9, 3)}},
         .attrs = &at2,
         .oracle = pair_oracle,
         .rel = 3e-7,
         .expect = KILN_ERROR_INDEX,
         .bad_row = 2,
         .bad_index = 9,
         .bad_limit = 9},
    };
    OP_CASES_RUN(cases);
}

static void test_refusals(void **state) {
    (void)state;
    static const kiln_rope_attrs d66 = {{0, 0, 0}, 66, 10000, 1, 0}, d3 = {{0, 0, 0}, 3, 10000, 1, 0},
                                 no_theta = {{0, 0, 0}, 0, KILN_ZERO_F32, 1, 0},
                                 mode = {{0, 0, 0}, 0, 10000, 1, 2};
    static const kiln_rope_set_rows_attrs both = {{{0, 0, 0}, 0, 10000, 1, 0}, {{0, 0, 0}, 0}};
    const struct {
        op_case c;
        kiln_status status;
        const char *text;
    } cases[] = {
        {CASE("r0", &d66, 1, F32(3, 2, 64)), KILN_ERROR_SHAPE,
         "dims = 66 is larger than the 64 elements of a row of x [3, 2, 64]"},
        {CASE("r1", &d3, 1, F32(3, 2, 64)), KILN_ERROR_SHAPE,
         "dims = 3 must be even: elements turn in pairs"},
        {CASE("r2", &plain, 1, F32(3, 2, 7)), KILN_ERROR_SHAPE,
         "the rows of x [3, 2, 7] have 7 elements, which must be even: elements turn in pairs (or set dims)"},
        {CASE("r3", &plain, 2, F32(3, 2, 8), POSITIONS(I32, 4)), KILN_ERROR_SHAPE,
         "axis 0 of positions [4] is 4; it must be 3, axis 0 of x [3, 2, 8]"},
        {CASE("r4", &plain, 2, F32(3, 2, 8), POSITIONS(U32, 3)), KILN_ERROR_DTYPE,
         "positions [3] is u32; it must be i32 or i64"},
        {CASE("r5", &plain, 1, F32(3, 2, 2, 8)), KILN_ERROR_SHAPE,
         "x [3, 2, 2, 8] has 4 dimensions; it must have 2 to 3"},
        {CASE("r6", &no_theta, 1, F32(3, 2, 8)), KILN_ERROR_ARGUMENT,
         "attribute theta is 0; it must be 1.175494351e-38 to 3.402823466e+38"},
        {CASE("r7", &mode, 1, F32(3, 2, 8)), KILN_ERROR_ARGUMENT, "attribute mode is 2; it must be below 2"},
        {{.name = "r8",
          .op = &kiln__op_rope_set_rows,
          .n_in = 2,
          .in = {{.dtype = KILN_F32, .kind = KILN_STORAGE_STATE, OP_DIMS(9, 2, 8)}, F32(3, 4, 8)},
          .attrs = &both},
         KILN_ERROR_SHAPE,
         "axis 1 of x [3, 4, 8] is 4; it must be 2, axis 1 of dst [9, 2, 8]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        op_case_refused(&cases[i].c, cases[i].status, cases[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rope),           cmocka_unit_test(test_rope_far), cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_pairs_declared), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
