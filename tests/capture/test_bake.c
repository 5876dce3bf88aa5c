/* Baking: what it refuses, memory caps, storages that overlap in memory, symbols in products,
 * ops that declare nothing. */
#include "kiln.h"
#include "check.h"
#include "extra_ops.h"
#include "tiny_model.h"

static kiln_graph *graph;
static kiln_executor *executor;

static int setup(void **unused) {
    (void)unused;
    kiln_cpu_options cpu = {.threads = 2};
    CHECK_OK(kiln_graph_create(NULL, &graph, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    kiln_graph_destroy(graph);
    CHECK_OK(kiln_executor_destroy(executor, error));
    return 0;
}

static kiln_status write_all(const kiln_access_query *query) {
    kiln_status status = kiln_access_operand(query, 0, KILN_READ_WRITE);
    return status ? status : kiln_access_operand(query, 1, KILN_WRITE);
}

static void test_refusals(void **unused) {
    (void)unused;
    kiln_plan *plan;
    /* An intermediate that nothing has written. */
    kiln_storage hole = kiln_storage_add(graph, KILN_STORAGE_ARENA, "hole", 32);
    kiln_tensor x = kiln_tensor_at(graph, hole, 0, KILN_F32, KILN_SHAPE(kiln_n(8)), NULL);
    kiln_name(graph, x, "nothing");
    kiln_output(graph, kiln_silu(graph, x), "y");
    CHECK_FAILS(kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
                "node 'y' (silu) reads 'nothing', which no earlier node writes");
    assert_null(plan);
    kiln_bake_options odd = {.precision = (kiln_precision)7};
    CHECK_FAILS(kiln_bake(graph, &odd, &plan, error), KILN_ERROR_ARGUMENT, "kiln_bake: unknown precision");
    kiln_bake_options negative = {.max_arena = -1};
    CHECK_FAILS(kiln_bake(graph, &negative, &plan, error), KILN_ERROR_ARGUMENT,
                "kiln_bake: max_arena is negative");
    /* An op that says it writes what nobody may write. */
    kiln_graph_reset(graph);
    kiln_op greedy = test_gate_op;
    greedy.accesses = write_all;
    kiln_tensor in = kiln_input(graph, "in", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(4))), out;
    assert_int_equal(kiln_node_add(graph, &greedy, &in, 1, NULL, &out), KILN_OK);
    CHECK_FAILS(kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
                "node 'test_gate.0' (test_gate) declares that it writes to 'in', which is of kind input");
    /* The graph's first error is what baking reports. */
    kiln_graph_reset(graph);
    kiln_tensor a = kiln_input(graph, "a", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(3)));
    kiln_tensor b = kiln_input(graph, "b", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(5)));
    kiln_tensor bad = kiln_matmul(graph, b, a);
    assert_false(kiln_tensor_valid(bad));
    assert_false(kiln_tensor_valid(kiln_silu(graph, bad)));
    kiln_error first;
    assert_int_equal(kiln_graph_check(graph, &first), KILN_ERROR_SHAPE);
    CHECK_FAILS(kiln_bake(graph, NULL, &plan, error), KILN_ERROR_SHAPE, first.text);
    /* An empty graph is a plan with nothing to do. */
    kiln_graph_reset(graph);
    kiln_session *session;
    CHECK_OK(kiln_bake(graph, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    CHECK_OK(kiln_run(session, error));
    CHECK_OK(kiln_session_destroy(session, error));
    kiln_plan_release(plan);
}

/* y = sum of eight branches that are all independent:
 * wide, so the arena is large unless it is made narrow. */
static void test_memory_cap(void **unused) {
    (void)unused;
    kiln_graph_reset(graph);
    kiln_dim shape[] = {kiln_n(64), kiln_n(64)};
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, 2, shape), sum = kiln_zeros(graph, 2, shape);
    for (int i = 0; i < 8; i++) {
        kiln_tensor branch = kiln_silu(graph, kiln_copy(graph, x, KILN_F32));
        sum = kiln_accumulate_by(graph, sum, branch, kiln_f32_const((float)i));
    }
    kiln_output(graph, kiln_copy(graph, sum, KILN_F32), "y");
    kiln_plan *wide, *narrow, *none;
    kiln_plan_summary w, n;
    CHECK_OK(kiln_bake(graph, NULL, &wide, error));
    kiln_plan_get_summary(wide, &w);
    kiln_bake_options cap = {.max_arena = w.arena_bytes / 2};
    CHECK_OK(kiln_bake(graph, &cap, &narrow, error));
    kiln_plan_get_summary(narrow, &n);
    assert_true(n.arena_bytes <= cap.max_arena);
    assert_true(n.regions >= w.regions);
    assert_int_equal(w.regions, w.longest_chain);
    cap.max_arena = 1024; /* less than one tensor */
    assert_int_equal(kiln_bake(graph, &cap, &none, NULL), KILN_ERROR_LIMIT);
    float first[64 * 64];
    kiln_plan *plans[] = {wide, narrow};
    for (int i = 0; i < 2; i++) {
        kiln_session *session;
        CHECK_OK(kiln_session_create(plans[i], executor, NULL, &session, error));
        float *in = kiln_session_data(session, x);
        for (int j = 0; j < 64 * 64; j++)
            in[j] = (float)(j % 13) - 6;
        CHECK_OK(kiln_run(session, error));
        const float *y = kiln_session_data(session, kiln_plan_tensor(plans[i], "y"));
        if (i == 0)
            memcpy(first, y, sizeof first);
        else
            assert_memory_equal(first, y, sizeof first);
        CHECK_OK(kiln_session_destroy(session, error));
        kiln_plan_release(plans[i]);
    }
}

/* Two storages whose memory overlaps when the plan is baked: ordered as one. */
static void test_overlapping_storages(void **unused) {
    (void)unused;
    static float memory[32], elsewhere[32];
    kiln_graph_reset(graph);
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(16)));
    kiln_storage window = kiln_storage_add(graph, KILN_STORAGE_OUTPUT, "window", 64);
    kiln_tensor w = kiln_tensor_at(graph, window, 0, KILN_F32, KILN_SHAPE(kiln_n(16)), NULL);
    kiln_storage_data(graph, kiln_storage_of(graph, x), memory, 64, 0);
    kiln_storage_data(graph, window, memory + 8, 64, 0); /* x[8] is w[0] */
    kiln_tensor before = kiln_output(graph, kiln_copy(graph, x, KILN_F32), "before");
    kiln_zero(graph, w);
    kiln_tensor after = kiln_output(graph, kiln_copy(graph, x, KILN_F32), "after");
    kiln_plan *plan;
    kiln_session *session;
    CHECK_OK(kiln_bake(graph, NULL, &plan, error));
    kiln_plan_summary s;
    kiln_plan_get_summary(plan, &s);
    assert_int_equal(s.regions, 3); /* copy, zero, copy: nothing in the graph alone says so */
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    for (int i = 0; i < 32; i++)
        memory[i] = 1;
    CHECK_OK(kiln_run(session, error));
    const float *b = kiln_session_data(session, before), *a = kiln_session_data(session, after);
    for (int i = 0; i < 16; i++)
        assert_true(b[i] == 1 && a[i] == (i < 8 ? 1.0f : 0.0f));
    /* The same overlap at another address is fine, another overlap is not, none is. */
    kiln_storage xs = kiln_plan_storage(plan, "x");
    CHECK_OK(kiln_session_bind(session, xs, elsewhere, 64, error));
    CHECK_OK(kiln_session_bind(session, window, elsewhere + 8, 64, error));
    CHECK_OK(kiln_run(session, error));
    CHECK_OK(kiln_session_bind(session, window, elsewhere + 4, 64, error));
    CHECK_FAILS(kiln_run(session, error), KILN_ERROR_BINDING,
                "'x' and 'window' overlap in memory and a node writes to one of them; they did not overlap "
                "when the plan "
                "was baked");
    CHECK_OK(kiln_session_bind(session, window, elsewhere + 16, 64, error));
    CHECK_OK(kiln_run(session, error));
    CHECK_OK(kiln_session_destroy(session, error));
    kiln_plan_release(plan);
}

/* [T, 3, 8] seen as [3·T, 8]: the count follows three times the symbol. */
static void test_symbol_products(void **unused) {
    (void)unused;
    kiln_graph_reset(graph);
    kiln_slot tokens = kiln_slot_i64(graph, "n_tokens", 0, 5);
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_sym(tokens), kiln_n(3), kiln_n(8)));
    kiln_tensor rows = kiln_reshape(graph, x, KILN_SHAPE(kiln_sym_times(tokens, 3), kiln_n(8)));
    kiln_tensor y = kiln_output(graph, kiln_silu(graph, rows), "y");
    kiln_plan *plan;
    kiln_session *session;
    CHECK_OK(kiln_bake(graph, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    float *in = kiln_session_data(session, x), *out = kiln_session_data(session, y);
    for (int i = 0; i < 5 * 24; i++)
        in[i] = 1;
    for (int64_t t = 0; t <= 5; t++) {
        for (int i = 0; i < 5 * 24; i++)
            out[i] = -1;
        CHECK_OK(kiln_session_set_i64(session, tokens, t, error));
        CHECK_OK(kiln_run(session, error));
        for (int i = 0; i < 5 * 24; i++)
            assert_true(i < t * 24 ? out[i] > 0.7f : out[i] == -1);
    }
    CHECK_OK(kiln_session_destroy(session, error));
    kiln_plan_release(plan);
}

/* Operands that begin inside a storage, of every kind of storage. */
static void test_offsets(void **unused) {
    (void)unused;
    static float weights[12];
    for (int i = 0; i < 12; i++)
        weights[i] = (float)i;
    kiln_graph_reset(graph);
    kiln_dim row = kiln_n(4);
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(3), row));
    kiln_storage file = kiln_storage_add(graph, KILN_STORAGE_WEIGHT, "file", sizeof weights);
    kiln_storage_data(graph, file, weights, sizeof weights, 0);
    kiln_tensor w = kiln_tensor_at(graph, file, 32, KILN_F32, 1, &row, NULL);    /* 8 … 11 */
    kiln_tensor sum = kiln_add(graph, kiln_slice(graph, x, 0, 1, kiln_n(2)), w); /* x's rows 1 and 2 */
    kiln_tensor y =
        kiln_output(graph, kiln_copy(graph, kiln_slice(graph, sum, 0, 1, kiln_n(1)), KILN_F32), "y");
    kiln_plan *plan;
    kiln_session *session;
    CHECK_OK(kiln_bake(graph, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    float *in = kiln_session_data(session, x), *out = kiln_session_data(session, y);
    for (int i = 0; i < 12; i++)
        in[i] = 100.0f * (float)i;
    CHECK_OK(kiln_run(session, error));
    for (int i = 0; i < 4; i++)
        assert_true(out[i] == in[8 + i] + weights[8 + i]);
    assert_ptr_equal(kiln_session_data(session, w), weights + 8);
    CHECK_OK(kiln_session_destroy(session, error));
    kiln_plan_release(plan);
}

/* An op that declares no accesses stands alone between two barriers. */
static void test_opaque(void **unused) {
    (void)unused;
    for (int opaque = 0; opaque < 2; opaque++) {
        kiln_graph_reset(graph);
        kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(4))), y;
        kiln_output(graph, kiln_silu(graph, x), "a");
        assert_int_equal(kiln_node_add(graph, opaque ? &test_opaque_op : &test_gate_op, &x, 1, NULL, &y),
                         KILN_OK);
        kiln_output(graph, y, "b");
        kiln_output(graph, kiln_silu(graph, x), "c");
        kiln_plan *plan;
        kiln_plan_summary s;
        CHECK_OK(kiln_bake(graph, NULL, &plan, error));
        kiln_plan_get_summary(plan, &s);
        assert_int_equal(s.regions, opaque ? 3 : 1);
        kiln_plan_release(plan);
        const kiln_tap tap = {"b", KILN_WATCH_HASH}; /* what it makes can be watched like anything else */
        CHECK_OK(kiln_bake(graph, &(kiln_bake_options){.taps = &tap, .n_taps = 1}, &plan, error));
        kiln_plan_release(plan);
    }
}

/* A node may not write bytes that it reads through another operand:
 * what comes of it would depend on tiles. */
static void test_own_overlap(void **unused) {
    (void)unused;
    static const kiln_tensor none = {0, 0};
    kiln_plan *plan;
    kiln_dim shape[] = {kiln_n(8), kiln_n(4)};
    kiln_graph_reset(graph);
    kiln_tensor s = kiln_state(graph, "s", KILN_F32, 2, shape);
    kiln_tensor rows = kiln_slice(graph, s, 0, 0, kiln_n(4));
    kiln_name(graph, rows, "rows");
    kiln_set_rows(graph, s, rows, none, (kiln_set_rows_attrs){kiln_i64_const(4), 0}); /* apart: moves them */
    CHECK_OK(kiln_bake(graph, NULL, &plan, error));
    kiln_plan_release(plan);
    kiln_name(graph, kiln_set_rows(graph, s, rows, none, (kiln_set_rows_attrs){kiln_i64_const(3), 0}),
              "shift");
    CHECK_FAILS(kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
                "node 'shift' (set_rows) writes to 'shift' and reads 'rows', and the two share bytes; copy "
                "one of them "
                "first (kiln_copy)");
    assert_null(plan);

    kiln_graph_reset(graph);
    s = kiln_state(graph, "s", KILN_F32, 2, shape);
    kiln_tensor upper = kiln_slice(graph, s, 0, 1, kiln_n(7)), lower = kiln_slice(graph, s, 0, 0, kiln_n(7));
    kiln_accumulate(graph, upper, kiln_copy(graph, lower, KILN_F32), none);
    CHECK_OK(kiln_bake(graph, NULL, &plan, error)); /* as the hint says */
    kiln_plan_release(plan);
    kiln_accumulate(graph, upper, lower, none);
    CHECK_FAILS(
        kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
        "node 'accumulate.2' (accumulate) writes to 'accumulate.2:0' and reads 'tensor.3', and the two share "
        "bytes; copy one of them first (kiln_copy)");

    /* The same through two storages that lie over each other. */
    static float memory[64];
    kiln_graph_reset(graph);
    s = kiln_output(graph, kiln_zeros(graph, 2, shape), "s");
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, 2, shape);
    kiln_storage_data(graph, kiln_storage_of(graph, s), memory, 128, 0);
    kiln_storage_data(graph, kiln_storage_of(graph, x), memory + 31, 128, 0);
    kiln_name(graph, kiln_accumulate(graph, s, x, none), "sum");
    CHECK_FAILS(kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
                "node 'sum' (accumulate) writes to 'sum' and reads 'x', and the two share bytes; copy one of "
                "them first "
                "(kiln_copy)");
}

/* An intermediate of which only some bytes were written. */
static void test_half_written(void **unused) {
    (void)unused;
    kiln_plan *plan;
    kiln_dim row = kiln_n(4), all = kiln_n(12);
    for (int parts = 1; parts <= 3; parts++) {
        kiln_graph_reset(graph);
        kiln_storage hole = kiln_storage_add(graph, KILN_STORAGE_ARENA, "hole", 48);
        for (int i = 0; i < parts; i++) /* the middle one comes last */
            kiln_zero(graph, kiln_tensor_at(graph, hole,
                                            i == 1   ? 32
                                            : i == 2 ? 16
                                                     : 0,
                                            KILN_F32, 1, &row, NULL));
        kiln_tensor whole = kiln_tensor_at(graph, hole, 0, KILN_F32, 1, &all, NULL);
        kiln_name(graph, whole, "whole");
        kiln_output(graph, kiln_silu(graph, whole), "y");
        if (parts < 3) {
            CHECK_FAILS(
                kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
                "node 'y' (silu) reads 'whole', of which no earlier node writes byte 16 of storage 'hole'");
        } else {
            CHECK_OK(kiln_bake(graph, NULL, &plan, error));
            kiln_plan_release(plan);
        }
    }
    /* Columns that together are all of it, and a column that is missing. */
    static const int64_t strides[] = {16, 4};
    for (int64_t columns = 3; columns <= 4; columns++) {
        kiln_graph_reset(graph);
        kiln_storage hole = kiln_storage_add(graph, KILN_STORAGE_ARENA, "", 48);
        kiln_dim column[] = {kiln_n(3), kiln_n(1)}, square[] = {kiln_n(3), kiln_n(4)};
        for (int64_t i = 0; i < columns; i++)
            kiln_zero(graph, kiln_tensor_at(graph, hole, 4 * i, KILN_F32, 2, column, strides));
        kiln_output(graph, kiln_silu(graph, kiln_tensor_at(graph, hole, 0, KILN_F32, 2, square, NULL)), "y");
        if (columns < 4) {
            CHECK_FAILS(
                kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
                "node 'y' (silu) reads 'tensor.7', of which no earlier node writes byte 12 of storage "
                "'storage.1'");
        } else {
            CHECK_OK(kiln_bake(graph, NULL, &plan, error));
            kiln_plan_release(plan);
        }
    }
}

/* Columns written by a node each, and each half of two columns read by a node each: what a read looks at does
 * not grow with the nodes before it, so that the last of thousands is checked as the first is. */
static void test_half_written_columns(void **unused) {
    (void)unused;
    enum { COLUMNS = 2000, ROWS = 64 };
    kiln_plan *plan;
    kiln_dim one[] = {kiln_n(ROWS), kiln_n(1)}, two[] = {kiln_n(ROWS / 2), kiln_n(2)};
    int64_t strides[] = {4 * COLUMNS, 4}, size = ROWS * strides[0];
    for (int64_t missing = 0; missing <= 1; missing++) {
        kiln_graph_reset(graph);
        kiln_storage hole = kiln_storage_add(graph, KILN_STORAGE_ARENA, "hole", size);
        for (int64_t i = 0; i < COLUMNS - missing; i++)
            kiln_zero(graph, kiln_tensor_at(graph, hole, 4 * i, KILN_F32, 2, one, strides));
        for (int64_t i = 0; i < COLUMNS; i += 2)
            kiln_silu(graph, kiln_tensor_at(graph, hole, size / 2 + 4 * i, KILN_F32, 2, two, strides));
        kiln_status status = kiln_bake(graph, NULL, &plan, NULL);
        assert_int_equal(status, missing ? KILN_ERROR_ARGUMENT : KILN_OK);
        kiln_plan_release(plan);
    }
}

/* Written in place: elements that lie on each other are refused. */
static void test_crossing_strides(void **unused) {
    (void)unused;
    static const int64_t crossing[] = {8, 8, 4}, nested[] = {8, 16, 4};
    kiln_dim shape[] = {kiln_n(2), kiln_n(2), kiln_n(2)};
    kiln_graph_reset(graph);
    kiln_storage bytes = kiln_storage_add(graph, KILN_STORAGE_STATE, "s", 64);
    kiln_zero(graph, kiln_tensor_at(graph, bytes, 0, KILN_F32, 3, shape, nested)); /* a transposed view */
    CHECK_OK(kiln_graph_check(graph, error));
    kiln_zero(graph, kiln_tensor_at(graph, bytes, 0, KILN_F32, 3, shape, crossing));
    CHECK_FAILS(
        kiln_graph_check(graph, error), KILN_ERROR_ARGUMENT,
        "node 'zero.1' (zero) would write into a view whose elements share bytes (broadcast, or strides that "
        "cross)");
}

static kiln_status all_rows(const kiln_access_query *query) {
    const kiln_desc *x = query->in[0];
    kiln_box rows = {.length = x->strides[0],
                     .count = {kiln_access_dim_max(query, x->dims[0])},
                     .stride = {x->strides[0]}};
    kiln_status status = kiln_access_box(query, 0, KILN_READ, &rows);
    return status ? status : kiln_access_operand(query, 1, KILN_WRITE);
}

static kiln_status one_run(const kiln_access_query *query) { /* levels left zero are unused */
    kiln_box first = {.length = 4};
    kiln_status status = kiln_access_box(query, 0, KILN_READ, &first);
    return status ? status : kiln_access_operand(query, 1, KILN_WRITE);
}

/* Boxes that a custom op declares: for the maximum of a symbol, and with unused levels. The op waits for what it reads. */
static void test_declared_boxes(void **unused) {
    (void)unused;
    kiln_status (*const accesses[])(const kiln_access_query *) = {all_rows, one_run};
    for (size_t i = 0; i < 2; i++) {
        kiln_op op = test_gate_op;
        op.accesses = accesses[i];
        kiln_graph_reset(graph);
        kiln_slot n = kiln_slot_i64(graph, "n", 0, 4);
        kiln_dim shape[] = {kiln_sym(n), kiln_n(4)};
        kiln_tensor s = kiln_state(graph, "s", KILN_F32, 2, shape), y;
        kiln_zero(graph,
                  i == 0 ? kiln_tensor_at(graph, kiln_storage_of(graph, s), 48, KILN_F32,
                                          KILN_SHAPE(kiln_n(4)), NULL)
                         : kiln_tensor_at(graph, kiln_storage_of(graph, s), 0, KILN_F32,
                                          KILN_SHAPE(kiln_n(1)), NULL)); /* the last row; the first value */
        assert_int_equal(kiln_node_add(graph, &op, &s, 1, NULL, &y), KILN_OK);
        kiln_output(graph, y, "y");
        kiln_plan *plan;
        kiln_plan_summary summary;
        CHECK_OK(kiln_bake(graph, NULL, &plan, error));
        kiln_plan_get_summary(plan, &summary);
        assert_int_equal(summary.regions, 2);
        kiln_plan_release(plan);
    }
}

static kiln_status too_far(const kiln_access_query *query) {
    kiln_box rows = {.length = 16, .count = {5}, .stride = {16}};
    return kiln_access_box(query, 0, KILN_READ, &rows);
}

static kiln_status odd_mode(const kiln_access_query *query) {
    return kiln_access_operand(query, 0, (kiln_access_mode)4);
}

static void test_access_mode(void **unused) {
    (void)unused;
    kiln_plan *plan;
    kiln_op odd = test_gate_op;
    odd.accesses = odd_mode;
    kiln_graph_reset(graph);
    kiln_tensor in = kiln_input(graph, "in", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(4))), out;
    assert_int_equal(kiln_node_add(graph, &odd, &in, 1, NULL, &out), KILN_OK);
    CHECK_FAILS(kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
                "node 'test_gate.0' (test_gate): its accesses: operand 0: unknown access mode 4");
    odd.accesses = too_far;
    CHECK_FAILS(kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
                "node 'test_gate.0' (test_gate): its accesses: operand 0: its box ends at byte 80 of a "
                "storage of 64");
    kiln_bake_options taps = {.n_taps = 1};
    CHECK_FAILS(kiln_bake(graph, &taps, &plan, error), KILN_ERROR_ARGUMENT, "kiln_bake: taps is NULL");
    odd.name = NULL;
    kiln_graph_reset(graph);
    in = kiln_input(graph, "in", KILN_F32, KILN_SHAPE(kiln_n(4)));
    assert_int_equal(kiln_node_add(graph, &odd, &in, 1, NULL, &out), KILN_ERROR_ARGUMENT);
    CHECK_FAILS(kiln_graph_check(graph, error), KILN_ERROR_ARGUMENT,
                "kiln_node_add: the descriptor of op '' has no name");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_memory_cap),
                                       cmocka_unit_test(test_overlapping_storages),
                                       cmocka_unit_test(test_symbol_products),
                                       cmocka_unit_test(test_opaque),
                                       cmocka_unit_test(test_own_overlap),
                                       cmocka_unit_test(test_half_written),
                                       cmocka_unit_test(test_half_written_columns),
                                       cmocka_unit_test(test_crossing_strides),
                                       cmocka_unit_test(test_access_mode),
                                       cmocka_unit_test(test_declared_boxes),
                                       cmocka_unit_test(test_offsets)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
