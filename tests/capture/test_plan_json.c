/* Plan dumps: complete, loadable as graphs, checkable against a fresh plan; each kind of tampering is found.
 */
#include "kiln.h"
#include "check.h"
#include "tiny_model.h"

#include <stdlib.h>

static kiln_graph *graph;
static kiln_plan *plan;
static kiln_json_text text;

static int setup(void **unused) {
    (void)unused;
    tiny_model m;
    static const kiln_tap taps[] = {{"topk.0", KILN_WATCH_VALUES | KILN_WATCH_TIME}};
    kiln_bake_options options = {.precision = KILN_PRECISION_EXACT, .taps = taps, .n_taps = 1};
    CHECK_OK(kiln_graph_create(NULL, &graph, error));
    tiny_build(graph, 2, &m);
    CHECK_OK(kiln_bake(graph, &options, &plan, error));
    CHECK_OK(kiln_plan_to_json(plan, NULL, NULL, &text, error));
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    kiln_json_text_free(&text);
    kiln_plan_release(plan);
    kiln_graph_destroy(graph);
    return 0;
}

static kiln_status check(const char *data, size_t size, kiln_error *error) {
    return kiln_plan_check_json(data, size, kiln_ops_builtin(), NULL, NULL, error);
}

static void test_round_trip(void **unused) {
    (void)unused;
    CHECK_OK(check(text.data, text.size, error));
    /* The graph in it loads, and is the graph. */
    kiln_graph *loaded;
    kiln_json_text a, b;
    CHECK_OK(kiln_graph_from_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &loaded, error));
    CHECK_OK(kiln_graph_to_json(graph, NULL, &a, error));
    CHECK_OK(kiln_graph_to_json(loaded, NULL, &b, error));
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    kiln_json_text_free(&a);
    kiln_json_text_free(&b);
    kiln_graph_destroy(loaded);
    /* Compact text checks as well. */
    kiln_json_options compact = {.compact = true};
    CHECK_OK(kiln_plan_to_json(plan, NULL, &compact, &a, error));
    CHECK_OK(check(a.data, a.size, error));
    kiln_json_text_free(&a);
    static const char *const members[] = {"\"regions\"",      "\"accesses\"", "\"barriers\"",
                                          "\"arena\"",        "\"fusions\"",  "\"from_access\"",
                                          "\"first_region\"", "\"slots\"",    "\"fingerprint\""};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        assert_non_null(strstr(text.data, members[i]));
}

static void test_session_part(void **unused) {
    (void)unused;
    kiln_executor *executor;
    kiln_session *session;
    kiln_json_text t;
    tiny_states states;
    static const int32_t tokens[] = {1, 2, 3};
    tiny_model m = {.tokens = kiln_plan_slot(plan, "n_tokens"),
                    .past = kiln_plan_slot(plan, "n_past"),
                    .length = kiln_plan_slot(plan, "n_kv"),
                    .ids = kiln_plan_tensor(plan, "ids")};
    CHECK_OK(kiln_cpu_executor_create(NULL, NULL, &executor, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    tiny_bind_states(session, 2, &states);
    CHECK_OK(kiln_session_observe(session, KILN_WATCH_TIME, NULL, NULL, error));
    CHECK_OK(tiny_eval(session, &m, tokens, 0, 3, error));
    CHECK_OK(kiln_plan_to_json(plan, session, NULL, &t, error));
    assert_non_null(strstr(t.data, "\"kernel\": \"matmul"));
    assert_non_null(strstr(t.data, "\"ns\": "));
    CHECK_OK(check(t.data, t.size, error));
    kiln_json_text_free(&t);
    CHECK_OK(kiln_session_destroy(session, error));
    tiny_free_states(&states);
    CHECK_OK(kiln_executor_destroy(executor, error));
}

/* Replaces the first `from` behind `anchor`; the texts have equal lengths. */
static void tampered(const char *anchor, const char *from, const char *to, const char *place) {
    char *copy = malloc(text.size + 1);
    memcpy(copy, text.data, text.size + 1);
    char *at = strstr(copy, anchor);
    assert_non_null(at);
    at = strstr(at, from);
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    kiln_error error = {KILN_OK, ""};
    kiln_status status = check(copy, text.size, &error);
    if (status != KILN_ERROR_STALE || strncmp(error.text, place, strlen(place)) != 0)
        fail_msg("%s -> %s: %s \"%s\", want STALE at %s", from, to, kiln_status_name(status), error.text,
                 place);
    free(copy);
}

static void test_tampering(void **unused) {
    (void)unused;
    tampered("\"plan\":", "\"regions\": 2", "\"regions\": 1", "$.plan.summary.regions");
    tampered("\"accesses\":", "\"read\"", "\"writ\"", "$.plan.accesses[0].mode");
    tampered("\"accesses\":", "\"length\": 3", "\"length\": 4", "$.plan.accesses[");
    tampered("\"barriers\":", "\"kind\": \"raw\"", "\"kind\": \"war\"", "$.plan.barriers[0].hazards[0].kind");
    tampered("\"barriers\":", "\"to_access\": ", "\"to_bccess\": ", "$.plan.barriers[0].hazards[0]");
    tampered("\"places\":", "\"offset\": 0", "\"offset\": 1", "$.plan.arena.places[");
    tampered("\"places\":", "\"first_region\": ", "\"First_region\": ", "$.plan.arena.places[0]");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_session_part),
                                       cmocka_unit_test(test_tampering)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
