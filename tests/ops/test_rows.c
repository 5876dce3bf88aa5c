/* set_rows and concat. */
#include "infer_util.h"
#include "kiln.h"
#include "tests/support/op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define F32(...)                                                                                             \
    { .dtype = KILN_F32, OP_DIMS(__VA_ARGS__) }
#define F16(...)                                                                                             \
    { .dtype = KILN_F16, OP_DIMS(__VA_ARGS__) }
#define BF16(...)                                                                                            \
    { .dtype = KILN_BF16, OP_DIMS(__VA_ARGS__) }
#define DST(type, ...)                                                                                       \
    { .dtype = KILN_##type, .kind = KILN_STORAGE_STATE, OP_DIMS(__VA_ARGS__) }
#define NONE                                                                                                 \
    { .dtype = KILN_DTYPE_NONE }

/* ---- set_rows --------------------------------------------------------------------------------------- */

static void set_oracle(const op_case *c, const op_values *in, op_values *out) {
    static const kiln_set_rows_attrs preset = {{0, 0, 0}, 0};
    const kiln_set_rows_attrs *a = c->attrs ? c->attrs : &preset;
    int64_t axis = 4 - (int64_t)in[0].ndim, capacity = in[0].ne[axis], rows = in[1].ne[axis];
    int64_t n = rows ? in[1].n / rows : 0,
            base = a->position.slot ? c->slots[a->position.slot - 1].value : a->position.value;
    for (int64_t i = 0; i < out->n; i++)
        out->v[i] = in[0].v[i];
    for (int64_t t = 0; t < rows; t++) {
        double index = c->n_in > 2 ? in[2].v[t] : (double)base + (double)t;
        if (index < 0 || capacity == 0 || (!a->ring && index >= (double)capacity))
            continue;
        /* Positions go on beyond int64, which half of uint64 has room for. */
        uint64_t exact = c->n_in > 2 ? (uint64_t)in[2].v[t] : (uint64_t)base + (uint64_t)t;
        int64_t to = (int64_t)(a->ring ? exact % (uint64_t)capacity : exact);
        for (int64_t j = 0; j < n; j++) {
            uint64_t bits = 0;
            op_encode(out->dtype, &bits, 0, in[1].v[t * n + j]);
            out->v[to * n + j] = op_decode(out->dtype, &bits, 0);
        }
    }
}

#define SET(title, attributes, count, ...)                                                                   \
    {                                                                                                        \
        .name = title, .op = &kiln__op_set_rows, .n_in = count, .in = {__VA_ARGS__}, .attrs = attributes,    \
        .oracle = set_oracle                                                                                 \
    }
#define BAD(row, index, limit)                                                                               \
    .expect = KILN_ERROR_INDEX, .bad_row = row, .bad_index = index, .bad_limit = limit
#define SET_BAD(title, attributes, count, row, index, limit, ...)                                            \
    {                                                                                                        \
        .name = title, .op = &kiln__op_set_rows, .n_in = count, .in = {__VA_ARGS__}, .attrs = attributes,    \
        .oracle = set_oracle, BAD(row, index, limit)                                                         \
    }

static const kiln_set_rows_attrs at3 = {{3, 0, 0}, 0}, at6 = {{6, 0, 0}, 0}, minus2 = {{-2, 0, 0}, 0},
                                 far = {{INT64_MAX, 0, 0}, 0}, ring13 = {{13, 0, 0}, 1},
                                 ring_far = {{INT64_MAX, 0, 0}, 1}, ring_minus1 = {{-1, 0, 0}, 1},
                                 by_slot = {{0, 1, 0}, 0}, ring_by_slot = {{0, 1, 0}, 1};

static void test_set_rows(void **state) {
    (void)state;
    const op_case cases[] = {
        SET("at 0", NULL, 2, DST(F32, 8, 33), F32(3, 33)),
        SET("at 3, rows of heads", &at3, 2, DST(F32, 8, 4, 33), F32(5, 4, 33)),
        SET("four axes", &at3, 2, DST(F16, 8, 2, 3, 33), F32(4, 2, 3, 33)),
        SET("f16", &at3, 2, DST(F16, 8, 700), F32(3, 700)),
        SET("bf16 from f16", &at3, 2, DST(BF16, 8, 700), F16(3, 700)),
        SET("f32 from bf16", &at3, 2, DST(F32, 8, 700), BF16(3, 700)),
        SET("f16 from f16", &at3, 2, DST(F16, 8, 70), F16(3, 70)),
        SET("strided", &at3, 2,
            {.dtype = KILN_F16, .kind = KILN_STORAGE_STATE, OP_DIMS(8, 3, 33), .order = "102", .pad = 3},
            {.dtype = KILN_F32, OP_DIMS(4, 3, 33), .order = "102", .pad = 1}),
        SET("no rows", NULL, 2, DST(F32, 8, 4), F32(0, 4)),
        SET("all rows", NULL, 2, DST(F32, 8, 4), F32(8, 4)),
        SET("ring", &ring13, 2, DST(F32, 8, 4), F32(5, 4)),
        SET("ring at the end of all positions", &ring_far, 2, DST(F32, 8, 4), F32(1, 4)),
        SET("ring beyond the end of all positions", &ring_far, 2, DST(F32, 7, 4), F32(6, 4)),
        SET("ring beyond the end, lapped", &ring_far, 2, DST(F32, 7, 4), F32(21, 4)),
        SET("ring lapped: the last ones stay", &ring13, 2, DST(F32, 8, 4), F32(21, 4)),
        SET("ring lapped, a tile to a row", &ring13, 2, DST(F16, 3, 5000), F32(8, 5000)),
        SET("indices i32", NULL, 3, DST(F32, 8, 33), F32(3, 33),
            {.dtype = KILN_I32, OP_DIMS(3), OP_DATA(7, 0, 4)}),
        SET("indices u32, repeated: the last one counts", NULL, 3, DST(F16, 8, 600), F32(5, 600),
            {.dtype = KILN_U32, OP_DIMS(5), OP_DATA(2, 3, 2, 2, 3)}),
        SET("indices i64, heads", NULL, 3, DST(BF16, 8, 3, 20), F32(4, 3, 20),
            {.dtype = KILN_I64, OP_DIMS(4), OP_DATA(2, 7, 7, 0)}),
        SET("indices in a ring", &ring13, 3, DST(F32, 8, 3, 20), F32(4, 3, 20),
            {.dtype = KILN_I64, OP_DIMS(4), OP_DATA(2, 10, 800, 7)}),
        SET("four axes, indices", NULL, 3, DST(F16, 8, 2, 3, 300), F32(3, 2, 3, 300),
            {.dtype = KILN_I32, OP_DIMS(3), OP_DATA(1, 1, 5)}),
    };
    OP_CASES_RUN(cases);
}

static void test_set_rows_bad(void **state) {
    (void)state;
    const op_case cases[] = {
        SET_BAD("past the end", &at6, 2, 2, 8, 8, DST(F32, 8, 4), F32(5, 4)),
        SET_BAD("before the start", &minus2, 2, 0, -2, 8, DST(F32, 8, 4), F32(5, 4)),
        SET_BAD("beyond 64 bits", &far, 2, 0, INT64_MAX, 8, DST(F32, 8, 4), F32(5, 4)),
        SET_BAD("negative in a ring", &ring_minus1, 2, 0, -1, INT64_MAX, DST(F32, 8, 4), F32(5, 4)),
        SET_BAD("bad i32", NULL, 3, 1, -1, 8, DST(F32, 8, 40), F32(4, 40),
                {.dtype = KILN_I32, OP_DIMS(4), OP_DATA(1, -1, 8, 3)}),
        SET_BAD("bad u32", NULL, 3, 0, 4294967295, 8, DST(F16, 8, 2, 40), F32(2, 2, 40),
                {.dtype = KILN_U32, OP_DIMS(2), OP_DATA(4294967295.0, 3)}),
        SET_BAD("bad i64", NULL, 3, 1, INT64_C(1) << 40, 8, DST(F32, 8, 600), F32(2, 600),
                {.dtype = KILN_I64, OP_DIMS(2), OP_DATA(1, 1099511627776.0)}),
    };
    OP_CASES_RUN(cases);
}

static void test_set_rows_slots(void **state) {
    (void)state;
    op_case c = SET("slot", &by_slot, 2, DST(F32, 8, 4), {.dtype = KILN_F32, OP_DIMS(1, 4), .slots = {0}});
    c.in[1].slots[0] = 2;
    c.slots[0] = (op_slot){.min = -9, .max = 100, .value = 4};
    c.slots[1] = (op_slot){.min = 0, .max = 6, .value = 3};
    c.n_slots = 2;
    op_case_run(&c);
    c.slots[1].value = 0;
    op_case_run(&c);
    c.attrs = &ring_by_slot;
    c.slots[0].value = 30;
    c.slots[1].value = 6;
    op_case_run(&c);
    c.attrs = &by_slot;
    c.slots[0].value = 7;
    c.slots[1].value = 2;
    c.expect = KILN_ERROR_INDEX;
    c.bad_row = 1;
    c.bad_index = c.bad_limit = 8;
    op_case_run(&c);
}

/* Each index of a ring is taken modulo its capacity, the last one of int64 too; a slot may stand there as
 * well. */
static void test_ring_ends(void **state) {
    (void)state;
    enum { CAPACITY = 7, ROWS = 5 };
    const int64_t at[ROWS] = {INT64_MAX, INT64_MAX - 1, INT64_MAX - 4, 0, 12};
    const float values[ROWS] = {1, 2, 3, 4, 5};
    kiln_graph *g;
    kiln_plan *plan;
    kiln_executor *cpu;
    kiln_session *session;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    const kiln_slot slot = kiln_slot_i64(g, "position", 0, INT64_MAX);
    kiln_dim ring[] = {kiln_n(CAPACITY), kiln_n(1)}, some[] = {kiln_n(ROWS), kiln_n(1)};
    const kiln_tensor dst = kiln_input(g, "dst", KILN_F32, 2, ring),
                      rows = kiln_input(g, "rows", KILN_F32, 2, some),
                      indices = kiln_input(g, "indices", KILN_I64, 1, some);
    const kiln_tensor by_index =
        kiln_set_rows(g, kiln_copy(g, dst, KILN_F32), rows, indices, (kiln_set_rows_attrs){.ring = 1});
    const kiln_tensor by_position =
        kiln_set_rows(g, kiln_copy(g, dst, KILN_F32), rows, (kiln_tensor){0, 0},
                      (kiln_set_rows_attrs){.position = kiln_i64_of(slot), .ring = 1});
    const kiln_tensor a = kiln_output(g, by_index, "by_index"),
                      b = kiln_output(g, by_position, "by_position");
    assert_int_equal(kiln_bake(g, NULL, &plan, NULL), KILN_OK);
    assert_int_equal(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = 1}, &cpu, NULL), KILN_OK);
    assert_int_equal(kiln_session_create(plan, cpu, NULL, &session, NULL), KILN_OK);
    memset(kiln_session_data(session, dst), 0, CAPACITY * sizeof(float));
    memcpy(kiln_session_data(session, rows), values, sizeof values);
    memcpy(kiln_session_data(session, indices), at, sizeof at);
    const int64_t position = INT64_MAX - 1;
    assert_int_equal(kiln_session_set_i64(session, slot, position, NULL), KILN_OK);
    assert_int_equal(kiln_run(session, NULL), KILN_OK);
    float want[2][CAPACITY] = {{0}};
    for (int t = 0; t < ROWS; t++) {
        want[0][at[t] % CAPACITY] = values[t];
        want[1][((uint64_t)position + (uint64_t)t) % CAPACITY] = values[t];
    }
    assert_memory_equal(kiln_session_data(session, a), want[0], sizeof want[0]);
    assert_memory_equal(kiln_session_data(session, b), want[1], sizeof want[1]);
    assert_int_equal(kiln_session_destroy(session, NULL), KILN_OK);
    kiln_plan_release(plan);
    assert_int_equal(kiln_executor_destroy(cpu, NULL), KILN_OK);
    kiln_graph_destroy(g);
}

/* ---- concat ----------------------------------------------------------------------------------------- */

static void concat_oracle(const op_case *c, const op_values *in, op_values *out) {
    const kiln_concat_attrs *a = c->attrs;
    int64_t axis = a == NULL     ? 4 - (int64_t)out->ndim
                   : a->axis < 0 ? 4 + a->axis
                                 : 4 - (int64_t)out->ndim + a->axis;
    int64_t inner = 1, at = 0;
    for (int64_t k = axis + 1; k < 4; k++)
        inner *= out->ne[k];
    for (uint32_t p = 0; p < c->n_in; p++) {
        int64_t run = in[p].ne[axis] * inner;
        for (int64_t i = 0; i < in[p].n; i++)
            out->v[i / run * out->ne[axis] * inner + at * inner + i % run] = in[p].v[i];
        at += in[p].ne[axis];
    }
}

#define CONCAT(title, attributes, count, ...)                                                                \
    {                                                                                                        \
        .name = title, .op = &kiln__op_concat, .n_in = count, .in = {__VA_ARGS__}, .attrs = attributes,      \
        .oracle = concat_oracle                                                                              \
    }

static const kiln_concat_attrs axis1 = {1}, last = {-1}, axis2 = {2};

static void test_concat(void **state) {
    (void)state;
    const op_case cases[] = {
        CONCAT("two", NULL, 2, F32(3, 5), F32(4, 5)),
        CONCAT("one", NULL, 1, F32(3, 5)),
        CONCAT("with empty ones", NULL, 3, F32(0, 5), F32(4, 5), F32(0, 5)),
        CONCAT("columns", &last, 3, F16(3, 5), F16(3, 1), F16(3, 9)),
        CONCAT("middle", &axis1, 2, F32(3, 2, 7), F32(3, 4, 7)),
        CONCAT("middle of four", &axis2, 2, BF16(2, 3, 2, 7), BF16(2, 3, 1, 7)),
        CONCAT("outermost of four", NULL, 2, F32(2, 3, 2, 7), F32(1, 3, 2, 7)),
        CONCAT("vectors", NULL, 3, F32(5), F32(1), F32(9)),
        CONCAT("integers", &last, 2, {.dtype = KILN_I64, OP_DIMS(3, 2)}, {.dtype = KILN_I64, OP_DIMS(3, 3)}),
        CONCAT("bytes", NULL, 2, {.dtype = KILN_U8, OP_DIMS(3, 7)}, {.dtype = KILN_U8, OP_DIMS(2, 7)}),
        CONCAT("blocks, rows", NULL, 2, {.dtype = KILN_Q4_0, OP_DIMS(3, 64)},
               {.dtype = KILN_Q4_0, OP_DIMS(1, 64)}),
        CONCAT("blocks, columns", &last, 2, {.dtype = KILN_Q8_0, OP_DIMS(3, 64)},
               {.dtype = KILN_Q8_0, OP_DIMS(3, 32)}),
        CONCAT("strided", &axis1, 2, {.dtype = KILN_F32, OP_DIMS(3, 2, 7), .order = "102", .pad = 1},
               {.dtype = KILN_F32, OP_DIMS(3, 4, 7), .pad = 2}),
        CONCAT("long", &last, 2, F32(5, 3000), F32(5, 3001)),
    };
    OP_CASES_RUN(cases);
    op_case symbol = CONCAT("symbols", NULL, 2, {.dtype = KILN_F32, OP_DIMS(1, 5), .slots = {1}},
                            {.dtype = KILN_F32, OP_DIMS(2, 5), .slots = {1}});
    symbol.slots[0] = (op_slot){.min = 0, .max = 7, .value = 3};
    symbol.n_slots = 1;
    op_case_run(&symbol);
    symbol.slots[0].value = 0;
    op_case_run(&symbol);
}

static void test_refusals(void **state) {
    (void)state;
    const struct {
        op_case c;
        kiln_status status;
        const char *text;
    } cases[] = {
        {SET("r0", NULL, 2, DST(F32, 8, 4), F32(3, 5)), KILN_ERROR_SHAPE,
         "axis 1 of rows [3, 5] is 5; it must be 4, axis 1 of dst [8, 4]"},
        {SET("r1", NULL, 2, DST(F32, 8, 2, 4), F32(3, 8)), KILN_ERROR_SHAPE,
         "rows [3, 8] must have the 3 dimensions of dst [8, 2, 4]"},
        {SET("r2", NULL, 2, DST(F32, 8), F32(3)), KILN_ERROR_SHAPE,
         "dst [8] has 1 dimensions; it must have 2 to 4"},
        {SET("r3", NULL, 3, DST(F32, 8, 4), F32(3, 4), {.dtype = KILN_I32, OP_DIMS(2)}), KILN_ERROR_SHAPE,
         "axis 0 of indices [2] is 2; it must be 3, axis 0 of rows [3, 4]"},
        {SET("r4", NULL, 3, DST(F32, 8, 4), F32(3, 4), F32(3)), KILN_ERROR_DTYPE,
         "indices [3] is f32; it must be i32, u32 or i64"},
        {SET("r5", NULL, 2, DST(Q8_0, 8, 32), F32(3, 32)), KILN_ERROR_DTYPE,
         "dst [8, 32] is q8_0; it must be f32, f16 or bf16"},
        {SET("r6", NULL, 2, F32(8, 4), F32(3, 4)), KILN_ERROR_ARGUMENT,
         " would write into 'in0', which is of kind weight; copy it first "
         "(kiln_copy) or make it a state"},
        {CONCAT("r7", NULL, 2, F32(3, 4), F32(3, 5)), KILN_ERROR_SHAPE,
         "part 1 [3, 5] must have the dimensions of part 0 [3, 4] but for axis 0"},
        {CONCAT("r8", NULL, 2, F32(3, 4), F16(3, 4)), KILN_ERROR_DTYPE,
         "part 1 is f16; it must be f32, as part 0"},
        {CONCAT("r9", &axis2, 2, F32(3, 4), F32(3, 4)), KILN_ERROR_SHAPE,
         "axis = 2; part 0 [3, 4] has axes -2 to 1"},
        {{.name = "r10",
          .op = &kiln__op_concat,
          .n_in = 2,
          .in = {{.dtype = KILN_F32, OP_DIMS(1, 5), .slots = {1}}, F32(2, 5)},
          .slots = {{.min = 0, .max = 8}},
          .n_slots = 1},
         KILN_ERROR_SHAPE,
         "axis 0 of part 1 [2, 5] is 2, that of the parts before it slot0: their sum is no multiple of one "
         "symbol"},
        {CONCAT("r11", NULL, 2, NONE, F32(3, 4)), KILN_ERROR_ARGUMENT, "part 0 is missing"},
        {CONCAT("r12", NULL, 2, {.dtype = KILN_Q8_A, OP_DIMS(2, 32)}, {.dtype = KILN_Q8_A, OP_DIMS(2, 32)}),
         KILN_ERROR_DTYPE, "part 0 is q8_a; quantised activations cannot be joined"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        op_case_refused(&cases[i].c, cases[i].status, cases[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_rows),       cmocka_unit_test(test_set_rows_bad),
        cmocka_unit_test(test_set_rows_slots), cmocka_unit_test(test_ring_ends),
        cmocka_unit_test(test_concat),         cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
