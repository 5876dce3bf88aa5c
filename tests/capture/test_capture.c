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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hits_and_rebinding),
        cmocka_unit_test(test_misses_say_why),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_guard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
