/* Plan dumps: complete, loadable as graphs, checkable against a fresh plan;
 * each kind of tampering is found. */
#include "kiln.h"
#include "check.h"
#include "tiny_model.h"

#include <stdlib.h>
#include <time.h>

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

static size_t count(const char *data, const char *what) {
    size_t n = 0;
    for (; (data = strstr(data, what)) != NULL; data++)
        n++;
    return n;
}

/* How it is prepared for so many threads; the "session" object alone. The plan must be the one dumped without it. */
static char *session_text(kiln_plan *p, uint32_t threads) {
    kiln_executor *executor;
    kiln_session *session;
    kiln_json_text bare, t;
    CHECK_OK(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = threads}, &executor, error));
    CHECK_OK(kiln_session_create(p, executor, NULL, &session, error));
    CHECK_OK(kiln_plan_to_json(p, NULL, NULL, &bare, error));
    CHECK_OK(kiln_plan_to_json(p, session, NULL, &t, error));
    CHECK_OK(check(t.data, t.size, error));
    const char *at = strstr(t.data, ",\n  \"session\":");
    assert_non_null(at);
    assert_memory_equal(t.data, bare.data, (size_t)(at - t.data));
    assert_string_equal(bare.data + (at - t.data), "\n}\n");
    char *copy = malloc(strlen(at) + 1);
    assert_non_null(copy);
    strcpy(copy, at);
    kiln_json_text_free(&t);
    kiln_json_text_free(&bare);
    CHECK_OK(kiln_session_destroy(session, error));
    CHECK_OK(kiln_executor_destroy(executor, error));
    return copy;
}

/* Tiny regions on both sides of a large one: 2 + 2 + 1 + 1 + 1 records, the matrix, `tail` records. */
static kiln_plan *bake_mixed(int tail) {
    kiln_graph *g;
    kiln_plan *p;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(256)));
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(1024), kiln_n(256)));
    kiln_tensor a = kiln_silu(g, x), b = kiln_gelu(g, x, false);
    a = kiln_silu(g, a);
    b = kiln_gelu(g, b, false);
    kiln_tensor y = kiln_silu(g, kiln_silu(g, kiln_add(g, a, b)));
    y = kiln_matmul(g, w, y);
    for (int i = 0; i < tail; i++)
        y = kiln_silu(g, y);
    kiln_output(g, y, "y");
    kiln_bake_options options = {.precision = KILN_PRECISION_EXACT};
    CHECK_OK(kiln_bake(g, &options, &p, error));
    kiln_graph_destroy(g);
    return p;
}

static void test_serial_runs(void **unused) {
    (void)unused;
    kiln_plan *p = bake_mixed(3);
    char *two = session_text(p, 2), *one = session_text(p, 1);
    assert_int_equal(count(two, "\"serial_run\""), 2);
    assert_non_null(strstr(two, "\"serial_run\": {\"records\": 7, \"regions\": 5}"));
    assert_non_null(strstr(two, "\"serial_run\": {\"records\": 3, \"regions\": 3}"));
    assert_int_equal(count(two, "\"threads\": \"one\""), 8);
    assert_int_equal(count(two, "\"threads\": \"shared\""), 1);
    assert_int_equal(count(two, "\"grain\": "), 1);
    assert_int_equal(count(two, "\"estimate_ns\": "), 9);
    assert_int_equal(count(one, "\"serial_run\""), 1);
    assert_non_null(strstr(one, "\"serial_run\": {\"records\": 11, \"regions\": 9}"));
    assert_int_equal(count(one, "\"threads\": \"one\""), 9);
    assert_int_equal(count(one, "\"wakes\""), 0);
    free(one);
    free(two);
    kiln_plan_release(p);
}

/* Somebody is woken in the middle of a long serial run, well before the region that is shared: that takes the thread a
 * moment, but no barrier, and so the run is still one. */
static void test_woken_early(void **unused) {
    (void)unused;
    enum { TINY = 2000 };
    kiln_graph *g;
    kiln_plan *p;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(512))), y = x;
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(8192), kiln_n(512)));
    for (int i = 0; i < TINY; i++)
        y = kiln_silu(g, y);
    kiln_output(g, kiln_matmul(g, w, y), "y");
    kiln_bake_options options = {.precision = KILN_PRECISION_EXACT};
    CHECK_OK(kiln_bake(g, &options, &p, error));
    char *two = session_text(p, 2);
    assert_int_equal(count(two, "\"serial_run\""), 1);
    assert_non_null(strstr(two, "\"serial_run\": {\"records\": 2000, \"regions\": 2000}"));
    const char *woken = strstr(two, "\"wakes\": 1"), *shared = strstr(two, "\"shared\"");
    const char *first = strstr(two, "\"threads\": \"one\"");
    assert_true(first != NULL && woken != NULL && shared != NULL && woken < shared);
    assert_true(strchr(first, '\n') < woken); /* not at its beginning */
    free(two);
    kiln_plan_release(p);
    kiln_graph_destroy(g);
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

/* A chain of nodes, with a number that is no integer, and its plan's text. */
static kiln_json_text dump_chain(int nodes) {
    kiln_graph *g;
    kiln_plan *p;
    kiln_json_text t;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4))), y = x;
    for (int i = 1; i < nodes; i++)
        y = kiln_add(g, y, x);
    kiln_output(g, kiln_scale(g, y, (kiln_scale_attrs){.scale = kiln_f32_const(0.5f)}), "y");
    CHECK_OK(kiln_bake(g, NULL, &p, error));
    CHECK_OK(kiln_plan_to_json(p, NULL, NULL, &t, error));
    kiln_plan_release(p);
    kiln_graph_destroy(g);
    return t;
}

/* What is said of each kind of difference; replacements are made in the "plan" object. */
static void test_texts(void **unused) {
    (void)unused;
    static const struct {
        const char *from, *to, *error; /* no error: the same value written in another way */
    } cases[] = {
        {"\"regions\": 2", "\"regions\": 2.0", NULL},
        {"\"regions\": 2", "\"regions\": 20e-1", NULL},
        {"\"mode\"", "\"m\\u006fde\"", NULL},
        {"\"shift\": 0", "\"shift\": 0.0", NULL},
        {"\"shift\": 0", "\"shift\": -0",
         "$.plan.program.nodes[1].attrs.shift: -0 in the dump, 0 when baked afresh"},
        {"\"regions\": 2", "\"regions\": 3", "$.plan.summary.regions: 3 in the dump, 2 when baked afresh"},
        {"\"regions\": 2", "\"regions\": \"2\"",
         "$.plan.summary.regions: \"2\" in the dump, 2 when baked afresh"},
        {"\"regions\": 2", "\"regions\": true",
         "$.plan.summary.regions: true in the dump, 2 when baked afresh"},
        {"\"regions\": 2", "\"regions\": null",
         "$.plan.summary.regions: null in the dump, 2 when baked afresh"},
        {"\"regions\": 2", "\"regions\": [2]",
         "$.plan.summary.regions: an array in the dump, 2 when baked afresh"},
        {"\"regions\": 2", "\"regions\": {}",
         "$.plan.summary.regions: an object in the dump, 2 when baked afresh"},
        {"\"inplace\": []", "\"inplace\": {}",
         "$.plan.inplace: an object in the dump, an array when baked afresh"},
        {"\"scale\": 0.5", "\"scale\": 0.25",
         "$.plan.program.nodes[1].attrs.scale: 0.25 in the dump, 0.5 when baked afresh"},
        {"\"cause\": \"hazard\"", "\"cause\": \"Hazard\"",
         "$.plan.barriers[0].cause: \"Hazard\" in the dump, \"hazard\" when baked afresh"},
        {"\"origin\": [0, 1]", "\"origin\": [0]",
         "$.plan.origin: 1 elements in the dump, 2 when baked afresh"},
        {"\"origin\": [0, 1]", "\"origin\": [null, 1]",
         "$.plan.origin[0]: null in the dump, 0 when baked afresh"},
        {"\"regions\": 2", "\"Regions\": 2", "$.plan.summary: has no \"regions\", which a fresh plan has"},
        {"\"regions\": 2", "\"regions\": 2, \"q\": 0", "$.plan.summary.q: a fresh plan has no such member"},
    };
    kiln_json_text t = dump_chain(2);
    char *changed = malloc(t.size + 100);
    assert_non_null(changed);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *at = strstr(strstr(t.data, "\"plan\":"), cases[i].from);
        assert_non_null(at);
        int n = snprintf(changed, t.size + 100, "%.*s%s%s", (int)(at - t.data), t.data, cases[i].to,
                         at + strlen(cases[i].from));
        if (cases[i].error == NULL)
            CHECK_OK(check(changed, (size_t)n, error));
        else
            CHECK_FAILS(check(changed, (size_t)n, error), KILN_ERROR_STALE, cases[i].error);
    }
    free(changed);
    kiln_json_text_free(&t);
}

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Checking reads the text, bakes, writes and reads again: about twice what reading and baking takes. It took
 * nine times as long when each comparison put together the text of an error that nobody saw. */
static void test_cost(void **unused) {
    (void)unused;
    enum { NODES = 1000, RUNS = 5 };
    kiln_json_text t = dump_chain(NODES);
    double load = 1e9, whole = 1e9;
    for (int i = 0; i < RUNS; i++) {
        kiln_plan *p;
        double start = cpu_ms();
        CHECK_OK(kiln_plan_from_json(t.data, t.size, kiln_ops_builtin(), NULL, NULL, &p, error));
        double between = cpu_ms();
        CHECK_OK(check(t.data, t.size, error));
        double end = cpu_ms();
        kiln_plan_release(p);
        load = between - start < load ? between - start : load;
        whole = end - between < whole ? end - between : whole;
    }
    print_message("%d nodes: read and baked in %.2f ms, checked in %.2f ms\n", NODES, load, whole);
    assert_true(whole < 5 * load);
    kiln_json_text_free(&t);
}

/* A dump of several 100 KB that ends too early, wherever that is, is refused by every reader of it, in words. Each
 * part is a copy of its own, so that ASan sees a read past its end. */
static void test_truncation(void **unused) {
    (void)unused;
    enum { LAYERS = 12, HEAD = 4096, TAIL = 512, STEP = 997 };
    kiln_graph *large;
    kiln_plan *p;
    kiln_json_text t;
    tiny_model m;
    size_t cuts = 0;
    CHECK_OK(kiln_graph_create(NULL, &large, error));
    tiny_build(large, LAYERS, &m);
    CHECK_OK(kiln_bake(large, NULL, &p, error));
    CHECK_OK(kiln_plan_to_json(p, NULL, NULL, &t, error));
    assert_true(t.size > 300000);
    for (size_t cut = 0; cut + 1 < t.size; cuts++) { /* the last byte is a line break */
        kiln_graph *no_graph = (void *)1;
        kiln_plan *no_plan = (void *)1;
        kiln_error e = {0};
        char *part = malloc(cut > 0 ? cut : 1);
        assert_non_null(part);
        memcpy(part, t.data, cut);
        assert_int_equal(kiln_graph_from_json(part, cut, kiln_ops_builtin(), NULL, NULL, &no_graph, &e),
                         KILN_ERROR_FORMAT);
        assert_true(no_graph == NULL && e.text[0] != '\0');
        assert_int_equal(kiln_plan_from_json(part, cut, kiln_ops_builtin(), NULL, NULL, &no_plan, NULL),
                         KILN_ERROR_FORMAT);
        assert_null(no_plan);
        assert_int_equal(check(part, cut, NULL), KILN_ERROR_FORMAT);
        free(part);
        cut += cut < HEAD || cut + TAIL >= t.size ? 1
               : cut + STEP + TAIL < t.size       ? STEP
                                                  : t.size - TAIL - cut;
    }
    print_message("truncation of %zu bytes: %zu cuts\n", t.size, cuts);
    kiln_json_text_free(&t);
    kiln_plan_release(p);
    kiln_graph_destroy(large);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_session_part),
        cmocka_unit_test(test_tampering),   cmocka_unit_test(test_serial_runs),
        cmocka_unit_test(test_woken_early), cmocka_unit_test(test_texts),
        cmocka_unit_test(test_cost),        cmocka_unit_test(test_truncation)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
