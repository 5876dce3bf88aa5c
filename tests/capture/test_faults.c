/* Whole scenarios with each allocation failed, once and persistently: a clean error, nothing leaked. (Loading
 * GGUF files is swept in tests/tools/test_gguf.c.) */
#include "kiln.h"
#include "check.h"
#include "fault_alloc.h"
#include "tiny_model.h"

static const int32_t prompt[] = {3, 14, 15, 9, 26, 5};

static void free_states(kiln_state_buffer **states, int n) {
    for (int i = 0; i < n; i++)
        (void)kiln_state_buffer_destroy(states[i], NULL);
}

/* Everything a token needs from nothing, all of it with one allocator. */
static kiln_status build_bake_run(kiln_allocator a, void *context) {
    const uint32_t *threads = context;
    kiln_graph *g = NULL;
    kiln_plan *plan = NULL;
    kiln_executor *executor = NULL;
    kiln_session *session = NULL;
    kiln_state_buffer *states[4] = {NULL};
    tiny_model m;
    kiln_cpu_options cpu = {.threads = *threads};
    static const kiln_tap taps[] = {{"topk.*", KILN_WATCH_HASH}};
    kiln_bake_options options = {.taps = taps, .n_taps = 1};
    kiln_status status = kiln_graph_create(&a, &g, NULL);
    if (status == KILN_OK) {
        tiny_build(g, 2, &m);
        status = kiln_bake(g, &options, &plan, NULL);
    }
    if (status == KILN_OK)
        status = kiln_cpu_executor_create(&a, &cpu, &executor, NULL);
    if (status == KILN_OK)
        status = kiln_session_create(plan, executor, &a, &session, NULL);
    for (int i = 0; status == KILN_OK && i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "%c.%d", i % 2 ? 'v' : 'k', i / 2);
        status = kiln_state_buffer_create(&a, TINY_CTX * TINY_H * 4, &states[i], NULL);
        if (status == KILN_OK)
            status = kiln_session_bind_state(session, kiln_plan_storage(plan, name), states[i], NULL);
    }
    if (status == KILN_OK)
        status = tiny_eval(session, &m, prompt, 0, 6, NULL);
    assert_int_equal(kiln_session_destroy(session, NULL), KILN_OK);
    free_states(states, 4);
    assert_int_equal(kiln_executor_destroy(executor, NULL), KILN_OK);
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    return status;
}

static kiln_status json_round_trip(kiln_allocator a, void *context) {
    const kiln_json_text *text = context;
    kiln_graph *g = NULL;
    kiln_plan *plan = NULL;
    kiln_json_text out = {0};
    kiln_json_options options = {.allocator = a};
    kiln_status status = kiln_graph_from_json(text->data, text->size, kiln_ops_builtin(), NULL, &a, &g, NULL);
    if (status == KILN_OK)
        status = kiln_bake(g, NULL, &plan, NULL);
    if (status == KILN_OK)
        status = kiln_plan_to_json(plan, NULL, &options, &out, NULL);
    if (status == KILN_OK)
        status = kiln_plan_check_json(out.data, out.size, kiln_ops_builtin(), NULL, &a, NULL);
    kiln_json_text_free(&out);
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    return status;
}

/* Two plans through a cache of one entry: hit, miss, eviction. */
static kiln_status capture_twice(kiln_allocator a, void *context) {
    (void)context;
    kiln_executor *executor = NULL;
    kiln_capture *capture = NULL;
    kiln_session *session;
    kiln_cpu_options cpu = {.threads = 1};
    kiln_capture_options options = {.max_entries = 1};
    tiny_model m;
    kiln_status status = kiln_cpu_executor_create(&a, &cpu, &executor, NULL);
    if (status == KILN_OK)
        status = kiln_capture_create(executor, &options, &a, &capture, NULL);
    for (int i = 0; status == KILN_OK && i < 3; i++) {
        tiny_build(kiln_capture_begin(capture), i == 2 ? 2 : 1, &m);
        status = kiln_capture_end(capture, &session, NULL);
    }
    assert_int_equal(kiln_capture_destroy(capture, NULL), KILN_OK);
    assert_int_equal(kiln_executor_destroy(executor, NULL), KILN_OK);
    return status;
}

static void test_build_bake_run(void **unused) {
    (void)unused;
    for (uint32_t threads = 1; threads <= 2; threads++)
        assert_true(fault_alloc_every("build, bake, run", build_bake_run, &threads) > 50);
}

static void test_json(void **unused) {
    (void)unused;
    kiln_graph *g;
    kiln_json_text text;
    tiny_model m;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    tiny_build(g, 1, &m);
    CHECK_OK(kiln_graph_to_json(g, NULL, &text, error));
    assert_true(fault_alloc_every("JSON load, bake, plan dump, check", json_round_trip, &text) > 50);
    kiln_json_text_free(&text);
    kiln_graph_destroy(g);
}

static void test_capture(void **unused) {
    (void)unused;
    assert_true(fault_alloc_every("capture, hit, miss, eviction", capture_twice, NULL) > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_build_bake_run), cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_capture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
