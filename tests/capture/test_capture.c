/* The capture style: hits, misses with their reason, the bounded cache, and the guard. */
#include "kiln.h"
#include "check.h"
#include "extra_ops.h"

static float weight_a[16 * 8], weight_b[16 * 8];

typedef struct shape {
    int64_t columns; /* of w's rows */
    float eps;
    const kiln_op *op;
    float *w;
} shape;

static const shape plain = {8, 1e-5f, NULL, weight_a};

/* y = rms_norm(w x), optionally through a custom op. */
static void build(kiln_graph *g, const shape *s, kiln_tensor *x, kiln_tensor *y) {
    *x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(s->columns)));
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(s->columns)));
    kiln_storage_data(g, kiln_storage_of(g, w), s->w, 4 * s->columns * 4, 0);
    kiln_tensor t = kiln_matmul(g, w, *x);
    kiln_name(g, t, "proj");
    if (s->op != NULL)
        assert_int_equal(kiln_node_add(g, s->op, &t, 1, NULL, &t), KILN_OK);
    *y = kiln_output(g, kiln_rms_norm(g, t, (kiln_tensor){0, 0}, s->eps), "y");
}

static kiln_session *token(kiln_capture *c, const shape *s, float *out) {
    kiln_tensor x, y;
    kiln_session *session = NULL;
    build(kiln_capture_begin(c), s, &x, &y);
    CHECK_OK(kiln_capture_end(c, &session, error));
    float *in = kiln_session_data(session, x);
    for (int i = 0; i < s->columns; i++)
        in[i] = (float)i + 1;
    CHECK_OK(kiln_run(session, error));
    if (out != NULL)
        memcpy(out, kiln_session_data(session, y), 4 * sizeof(float));
    return session;
}

static kiln_capture_counters counters(const kiln_capture *c) {
    kiln_capture_counters n;
    kiln_capture_get_counters(c, &n);
    return n;
}

static void fill(void) {
    for (int i = 0; i < 16 * 8; i++) {
        weight_a[i] = (float)(i % 7) - 3;
        weight_b[i] = (float)(i % 5) - 1;
    }
}

static kiln_executor *executor;
static kiln_capture *capture;

static void setup(uint32_t entries, int64_t bytes) {
    fill();
    kiln_cpu_options cpu = {.threads = 1};
    kiln_capture_options options = {.max_entries = entries, .max_bytes = bytes};
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
    CHECK_OK(kiln_capture_create(executor, &options, NULL, &capture, error));
}

static void teardown(void) {
    CHECK_OK(kiln_capture_destroy(capture, error));
    CHECK_OK(kiln_executor_destroy(executor, error));
}

static void test_hits_and_rebinding(void **unused) {
    (void)unused;
    setup(0, 0);
    float first[4], second[4], third[4];
    kiln_session *s = token(capture, &plain, first);
    assert_string_equal(kiln_capture_miss_reason(capture), "the cache was empty");
    for (int i = 0; i < 10; i++)
        assert_ptr_equal(token(capture, &plain, second), s);
    assert_string_equal(kiln_capture_miss_reason(capture), "");
    assert_memory_equal(first, second, sizeof first);
    shape other = plain; /* the same graph, other weights: bound anew, not baked anew */
    other.w = weight_b;
    assert_ptr_equal(token(capture, &other, third), s);
    assert_memory_not_equal(first, third, sizeof first);
    token(capture, &plain, third);
    assert_memory_equal(first, third, sizeof first);
    kiln_capture_counters n = counters(capture);
    assert_int_equal(n.hits, 12);
    assert_int_equal(n.misses, 1);
    assert_int_equal(n.entries, 1);
    assert_true(n.bytes > 0);
    teardown();
}

static void test_misses_say_why(void **unused) {
    (void)unused;
    setup(0, 0);
    token(capture, &plain, NULL);
    shape s = plain;
    s.eps = 1e-6f;
    token(capture, &s, NULL);
    assert_string_equal(kiln_capture_miss_reason(capture),
                        "node 1 'y' (rms_norm): attribute eps was 9.99999975e-06, is 9.99999997e-07");
    s = plain;
    s.columns = 16;
    token(capture, &s, NULL);
    assert_string_equal(kiln_capture_miss_reason(capture),
                        "node 0 'proj' (matmul): operand w was [4, 8] f32, is [4, 16] f32");
    s = plain;
    s.op = &test_gate_op;
    token(capture, &s, NULL);
    assert_string_equal(kiln_capture_miss_reason(capture),
                        "node 1 'test_gate.1' (test_gate): op was rms_norm, is test_gate");
    /* Custom ops are compared by identity, not by name. */
    kiln_op twin = test_gate_op;
    s.op = &twin;
    token(capture, &s, NULL);
    assert_string_equal(
        kiln_capture_miss_reason(capture),
        "node 1 'test_gate.1' (test_gate): op was test_gate, is test_gate (another descriptor of that name)");
    assert_int_equal(counters(capture).misses, 5);
    assert_int_equal(counters(capture).hits, 0);
    assert_int_equal(counters(capture).entries, 5);
    teardown();
}

static void test_bounded(void **unused) {
    (void)unused;
    setup(2, 0);
    shape a = plain, b = plain, c = plain;
    b.eps = 1e-4f;
    c.eps = 1e-3f;
    token(capture, &a, NULL);
    token(capture, &b, NULL);
    token(capture, &a, NULL); /* a is used later than b */
    token(capture, &c, NULL); /* so b goes */
    assert_int_equal(counters(capture).evictions, 1);
    token(capture, &a, NULL);
    assert_int_equal(counters(capture).hits, 2);
    token(capture, &b, NULL);
    assert_int_equal(counters(capture).misses, 4);
    assert_int_equal(counters(capture).entries, 2);
    int64_t two = counters(capture).bytes;
    teardown();

    setup(0, two / 2 + 1); /* room for one, by bytes */
    token(capture, &a, NULL);
    token(capture, &b, NULL);
    assert_int_equal(counters(capture).entries, 1);
    assert_int_equal(counters(capture).evictions, 1);
    assert_true(counters(capture).bytes <= two / 2 + 1);
    token(capture, &b, NULL); /* what was just made stays */
    assert_int_equal(counters(capture).hits, 1);
    teardown();
}

static void test_errors(void **unused) {
    (void)unused;
    setup(0, 0);
    kiln_graph *g = kiln_capture_begin(capture);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(8)));
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(9)));
    kiln_matmul(g, w, x);
    kiln_session *session;
    kiln_error error;
    assert_int_equal(kiln_capture_end(capture, &session, &error), KILN_ERROR_SHAPE);
    assert_non_null(strstr(error.text, "matmul"));
    assert_null(session);
    token(capture, &plain, NULL); /* usable afterwards */
    teardown();
}

static void test_guard(void **unused) {
    (void)unused;
    fill();
    kiln_graph *g, *now;
    kiln_plan *plan;
    kiln_session *session;
    kiln_tensor x, y;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    CHECK_OK(kiln_graph_create(NULL, &now, error));
    build(g, &plain, &x, &y);
    CHECK_OK(kiln_cpu_executor_create(NULL, NULL, &executor, error));
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    build(now, &plain, &x, &y);
    CHECK_OK(kiln_plan_match(plan, now, error));
    CHECK_OK(kiln_session_rebind(session, now, error));
    kiln_fingerprint f = kiln_graph_fingerprint(g), h = kiln_graph_fingerprint(now);
    assert_true(f.low == h.low && f.high == h.high);
    kiln_graph_reset(now);
    shape s = plain;
    s.eps = 0;
    build(now, &s, &x, &y);
    h = kiln_graph_fingerprint(now);
    assert_false(f.low == h.low && f.high == h.high);
    CHECK_FAILS(kiln_session_rebind(session, now, error), KILN_ERROR_STALE,
                "the plan is stale: node 1 'y' (rms_norm): attribute eps was 9.99999975e-06, is 0");
    kiln_graph_reset(now);
    build(now, &plain, &x, &y);
    kiln_silu(now, y);
    CHECK_FAILS(kiln_plan_match(plan, now, error), KILN_ERROR_STALE,
                "the plan is stale: the graph had 2 nodes, has 3");
    CHECK_OK(kiln_session_destroy(session, error));
    kiln_plan_release(plan);
    CHECK_OK(kiln_executor_destroy(executor, error));
    kiln_graph_destroy(g);
    kiln_graph_destroy(now);
}

/* y = x + state, where the graph may or may not say where x and the state are. */
static kiln_status add_state(kiln_session **session, float *x_data, kiln_state_buffer *state, kiln_tensor *x,
                             kiln_tensor *y, kiln_error *error) {
    kiln_graph *g = kiln_capture_begin(capture);
    *x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(4)));
    kiln_tensor s = kiln_state(g, "s", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(4))), t;
    if (x_data != NULL)
        kiln_storage_data(g, kiln_storage_of(g, *x), x_data, 16, 0);
    if (state != NULL)
        kiln_storage_state(g, kiln_storage_of(g, s), state);
    t = kiln_add(g, *x, s);
    assert_int_equal(kiln_node_add(g, &test_gate_op, &t, 1, NULL, &t), KILN_OK);
    *y = kiln_output(g, t, "y");
    return kiln_capture_end(capture, session, error);
}

/* Bytes that one token's graph named are not used for a token whose graph does not name them. */
static void test_bindings_do_not_linger(void **unused) {
    (void)unused;
    setup(0, 0);
    float here[4] = {1, 2, 3, 4};
    kiln_tensor x, y;
    kiln_session *session;
    kiln_state_buffer *state, *other;
    CHECK_OK(kiln_state_buffer_create(NULL, 16, &state, error));
    CHECK_OK(kiln_state_buffer_create(NULL, 16, &other, error));
    for (int i = 0; i < 4; i++)
        ((float *)kiln_state_buffer_data(state))[i] = 10;
    CHECK_OK(add_state(&session, here, state, &x, &y, error));
    CHECK_OK(kiln_run(session, error));
    assert_true(((float *)kiln_session_data(session, y))[3] == 14);
    assert_ptr_equal(kiln_session_data(session, x), here);

    CHECK_OK(add_state(&session, NULL, state, &x, &y, error));
    assert_ptr_not_equal(kiln_session_data(session, x), here);
    CHECK_OK(add_state(&session, here, NULL, &x, &y, error)); /* nothing holds the state any more */
    CHECK_FAILS(kiln_run(session, error), KILN_ERROR_BINDING,
                "state 's' (16 bytes) is not bound; call kiln_session_bind_state");
    CHECK_OK(kiln_state_buffer_destroy(state, error));

    /* What is bound by hand stays, until it is taken back. */
    CHECK_OK(
        kiln_session_bind_state(session, kiln_plan_storage(kiln_session_plan(session), "s"), other, error));
    CHECK_OK(add_state(&session, NULL, NULL, &x, &y, error));
    memcpy(kiln_session_data(session, x), here, sizeof here);
    CHECK_OK(kiln_run(session, error));
    assert_true(((float *)kiln_session_data(session, y))[3] == 4);
    CHECK_FAILS(
        kiln_state_buffer_destroy(other, error), KILN_ERROR_BUSY,
        "the state buffer is bound 1 time by sessions and plans; unbind it (kiln_session_bind_state with "
        "NULL), or destroy them first");
    CHECK_OK(kiln_capture_unbind_state(capture, other, error));
    CHECK_OK(kiln_state_buffer_destroy(other, error));
    assert_int_equal(counters(capture).misses, 1);
    teardown();
}

/* y = x + w, both from the caller's memory. */
static kiln_status add_here(kiln_session **session, float *x_data, float *y_data, kiln_error *error) {
    kiln_graph *g = kiln_capture_begin(capture);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4)));
    kiln_tensor y = kiln_output(g, kiln_copy(g, kiln_silu(g, x), KILN_F32), "y");
    kiln_storage_data(g, kiln_storage_of(g, x), x_data, 16, 0);
    kiln_storage_data(g, kiln_storage_of(g, y), y_data, 16, 0);
    return kiln_capture_end(capture, session, error);
}

/* Data that lie over each other as they did not when the plan was baked: baked anew, not refused for good. */
static void test_overlap_bakes_anew(void **unused) {
    (void)unused;
    setup(0, 0);
    static float memory[16];
    kiln_session *session;
    for (int round = 0; round < 2; round++) {
        CHECK_OK(add_here(&session, memory, memory + 8, error));
        CHECK_OK(kiln_run(session, error));
        CHECK_OK(add_here(&session, memory, memory + 4, error)); /* apart, too */
        CHECK_OK(kiln_run(session, error));
        assert_int_equal(counters(capture).misses, 1 + round);
        CHECK_OK(add_here(&session, memory, memory + 2, error));
        assert_string_equal(
            kiln_capture_miss_reason(capture),
            round == 0 ? "the graph's data overlap in memory otherwise than when the plan was baked" : "");
        CHECK_OK(kiln_run(session, error));
        CHECK_OK(add_here(&session, memory + 8, memory + 10, error)); /* the same overlap elsewhere */
        CHECK_OK(kiln_run(session, error));
        assert_int_equal(counters(capture).misses, 2); /* the new plan is good for all of them */
        assert_int_equal(counters(capture).entries, 1);
    }
    CHECK_OK(kiln_capture_clear(capture, error));
    assert_int_equal(counters(capture).entries, 0);
    assert_int_equal(counters(capture).bytes, 0);
    teardown();
}

/* The same bytes in another shape are another graph, although ops, attributes and storages are equal. */
/* y = column or row `start` of x, 3 by 3: graphs that differ in nothing but where a view begins, or which way it lies. */
static kiln_session *view_token(int32_t axis, int64_t start) {
    kiln_session *session = NULL;
    kiln_graph *g = kiln_capture_begin(capture);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(3), kiln_n(3)));
    kiln_tensor row = kiln_slice(g, x, 0, axis == 0 ? start : 0, kiln_n(1)),
                column = kiln_transpose(g, kiln_slice(g, x, 1, axis == 1 ? start : 0, kiln_n(1)), 0, 1);
    kiln_tensor y = kiln_output(g, kiln_copy(g, axis == 0 ? row : column, KILN_F32), "y");
    CHECK_OK(kiln_capture_end(capture, &session, error));
    float *in = kiln_session_data(session, x);
    for (int i = 0; i < 9; i++)
        in[i] = (float)i;
    CHECK_OK(kiln_run(session, error));
    const float *out = kiln_session_data(session, y);
    for (int i = 0; i < 3; i++)
        assert_true(out[i] == (float)(axis == 0 ? 3 * start + i : 3 * i + start));
    return session;
}

static void test_views_count(void **unused) {
    (void)unused;
    setup(0, 0);
    kiln_session *seen[6];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 6; i++) {
            kiln_session *s = view_token(i / 3, i % 3);
            if (round == 0)
                seen[i] = s;
            else
                assert_ptr_equal(s, seen[i]);
            assert_ptr_equal(view_token(i / 3, i % 3),
                             s); /* the latest is compared before anything is hashed */
        }
    assert_int_equal(counters(capture).misses, 6);
    teardown();
}

static void test_shapes_count(void **unused) {
    (void)unused;
    setup(0, 0);
    for (int i = 0; i < 2; i++) {
        kiln_session *session;
        kiln_graph *g = kiln_capture_begin(capture);
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1 + i), kiln_n(4 / (1 + i))));
        kiln_output(g, kiln_softmax(g, x, (kiln_tensor){0, 0}, (kiln_softmax_attrs){-1, 1.0f}), "y");
        CHECK_OK(kiln_capture_end(capture, &session, error));
    }
    assert_int_equal(counters(capture).misses, 2);
    teardown();
}

/* A plan stays as it is while its session takes the handles of graph after graph. */
static void test_plans_stay(void **unused) {
    (void)unused;
    setup(0, 0);
    kiln_tensor x, y, old_x;
    kiln_session *session, *own;
    build(kiln_capture_begin(capture), &plain, &old_x, &y);
    CHECK_OK(kiln_capture_end(capture, &session, error));
    kiln_plan *plan = kiln_session_plan(session);
    kiln_tensor of_plan = kiln_plan_tensor(plan, "x");
    CHECK_OK(kiln_session_create(plan, executor, NULL, &own, error));
    for (int token = 0; token < 3; token++) {
        build(kiln_capture_begin(capture), &plain, &x, &y);
        CHECK_OK(kiln_capture_end(capture, &session, error));
        assert_non_null(kiln_session_data(session, x));
        assert_ptr_equal(kiln_session_data(session, of_plan), kiln_session_data(session, x));
        assert_non_null(kiln_session_data(own, of_plan));
        assert_true(kiln_plan_tensor(plan, "x").graph == of_plan.graph);
        assert_null(kiln_session_data(own, x)); /* a handle of a graph that it never heard of */
    }
    CHECK_OK(kiln_session_destroy(own, error));
    teardown();
}

/* A session that runs is not touched, even when nothing is to be rebound. */
static void test_busy(void **unused) {
    (void)unused;
    setup(0, 0);
    kiln_tensor x, y;
    kiln_session *session, *again;
    kiln_state_buffer *state;
    kiln_fence fence;
    CHECK_OK(kiln_state_buffer_create(NULL, 16, &state, error));
    CHECK_OK(add_state(&session, NULL, state, &x, &y, error));
    CHECK_OK(kiln_submit(session, &fence, error)); /* one thread: nothing is done before the wait */
    CHECK_FAILS(add_state(&again, NULL, NULL, &x, &y, error), KILN_ERROR_BUSY,
                "kiln_capture_end: the session is running; wait for its fence first");
    assert_null(again);
    CHECK_FAILS(kiln_capture_unbind_state(capture, state, error), KILN_ERROR_BUSY,
                "binding: the session is running; wait for its fence first");
    CHECK_FAILS(kiln_capture_destroy(capture, error), KILN_ERROR_BUSY,
                "kiln_capture_destroy: a session of it is running");
    CHECK_OK(kiln_wait(fence, -1, error));
    CHECK_OK(add_state(&again, NULL, state, &x, &y, error));
    assert_ptr_equal(again, session);
    CHECK_OK(kiln_run(session, error));
    teardown();
    CHECK_OK(kiln_state_buffer_destroy(state, error));
}

/* Room for one plan, which runs: there is none for another, until it is done. */
static void test_all_running(void **unused) {
    (void)unused;
    setup(1, 0);
    kiln_tensor x, y;
    kiln_session *session, *second;
    kiln_state_buffer *state;
    kiln_fence fence;
    CHECK_OK(kiln_state_buffer_create(NULL, 16, &state, error));
    CHECK_OK(add_state(&session, NULL, state, &x, &y, error));
    CHECK_OK(kiln_submit(session, &fence, error));
    build(kiln_capture_begin(capture), &plain, &x, &y);
    CHECK_FAILS(kiln_capture_end(capture, &second, error), KILN_ERROR_LIMIT,
                "kiln_capture_end: all 1 cached plans are running; raise max_entries or wait for one");
    assert_null(second);
    CHECK_OK(kiln_wait(fence, -1, error));
    build(kiln_capture_begin(capture), &plain, &x, &y);
    CHECK_OK(kiln_capture_end(capture, &second, error));
    CHECK_OK(kiln_run(second, error));
    teardown();
    CHECK_OK(kiln_state_buffer_destroy(state, error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hits_and_rebinding),
        cmocka_unit_test(test_misses_say_why),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_guard),
        cmocka_unit_test(test_bindings_do_not_linger),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_all_running),
        cmocka_unit_test(test_overlap_bakes_anew),
        cmocka_unit_test(test_plans_stay),
        cmocka_unit_test(test_views_count),
        cmocka_unit_test(test_shapes_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
