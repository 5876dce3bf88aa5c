/* Profiles: every kernel call is noted, times make sense, and the trace is JSON of the promised form. */
#include "check.h"
#include "extra_ops.h"
#include "fault_alloc.h"
#include "kiln.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 64, WIDTH = 128, LAYERS = 4, RUNS = 3 };

typedef struct world {
    kiln_graph *graph;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    float *weight;
} world;

/* Layers of a product that is worth sharing and small sums that are not. */
static void setup(world *w, uint32_t threads, const kiln_allocator *allocator) {
    const kiln_cpu_options options = {.threads = threads, .oversubscribe = true};
    *w = (world){.weight = calloc(WIDTH * WIDTH, sizeof(float))};
    assert_non_null(w->weight);
    CHECK_OK(kiln_graph_create(NULL, &w->graph, error));
    kiln_tensor x = kiln_input(w->graph, "x", KILN_F32, KILN_SHAPE(kiln_n(ROWS), kiln_n(WIDTH)));
    kiln_tensor m = kiln_weight(w->graph, "m", KILN_F32, KILN_SHAPE(kiln_n(WIDTH), kiln_n(WIDTH)));
    kiln_tensor small = kiln_input(w->graph, "small", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(4))), y = x;
    for (int i = 0; i < LAYERS; i++) {
        y = kiln_matmul(w->graph, m, y);
        small = kiln_add(w->graph, small,
                         kiln_slice(w->graph, kiln_slice(w->graph, y, 0, 0, kiln_n(1)), 1, 0, kiln_n(4)));
    }
    kiln_output(w->graph, y, "y");
    kiln_output(w->graph, small, "sum");
    CHECK_OK(kiln_bake(w->graph, NULL, &w->plan, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &options, &w->executor, error));
    CHECK_OK(kiln_session_create(w->plan, w->executor, allocator, &w->session, error));
    CHECK_OK(kiln_session_bind(w->session, kiln_plan_storage(w->plan, "m"), w->weight,
                               WIDTH * WIDTH * sizeof(float), error));
}

static void teardown(world *w) {
    CHECK_OK(kiln_session_destroy(w->session, error));
    CHECK_OK(kiln_executor_destroy(w->executor, error));
    kiln_plan_release(w->plan);
    kiln_graph_destroy(w->graph);
    free(w->weight);
}

/* ---- what is noted ---------------------------------------------------------------------------------- */

typedef struct tally {
    int64_t tiles[RUNS + 1][64]; /* by run, as they come, and record */
    uint32_t run0;
    int64_t last_end;
    uint32_t last_thread, threads_seen;
    size_t calls;
    bool ok;
} tally;

static bool count_call(void *context, const kiln_profile_call *c) {
    tally *t = context;
    if (t->calls++ == 0 || c->run < t->run0)
        t->run0 = c->run;
    if (t->calls == 1 || c->thread != t->last_thread) {
        t->threads_seen++;
        t->last_end = 0;
    }
    t->ok = t->ok && c->start_ns >= t->last_end && c->end_ns >= c->start_ns && c->barrier_ns >= 0 &&
            c->wait_ns >= 0 && c->barrier_ns + c->wait_ns <= c->start_ns && c->tiles > 0 && c->record < 64 &&
            strlen(c->node) > 0 && (strcmp(c->op, "matmul") == 0 || strcmp(c->op, "add") == 0);
    t->last_end = c->end_ns;
    t->last_thread = c->thread;
    if (t->ok)
        t->tiles[c->run % (RUNS + 1)][c->record] += c->tiles;
    return true;
}

static void every_call(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        world w;
        uint64_t dropped = 99;
        setup(&w, threads, NULL);
        CHECK_OK(kiln_session_profile(w.session, 10000, error));
        for (int i = 0; i < RUNS; i++)
            CHECK_OK(kiln_run(w.session, error));
        kiln_fence fence;
        CHECK_OK(kiln_submit(w.session, &fence, error));
        CHECK_OK(kiln_wait(fence, -1, error));
        tally t = {.ok = true};
        CHECK_OK(kiln_session_profile_read(w.session, count_call, &t, &dropped, error));
        assert_true(t.ok);
        assert_int_equal(dropped, 0);
        assert_true(t.threads_seen >= 1 && t.threads_seen <= threads);
        kiln_plan_summary summary;
        kiln_plan_get_summary(w.plan, &summary);
        assert_int_equal(summary.records, 2 * LAYERS);
        for (uint32_t r = 0; r < summary.records; r++) {
            assert_true(t.tiles[0][r] > 0);
            for (int i = 1; i <= RUNS; i++)
                assert_int_equal(t.tiles[i][r], t.tiles[0][r]);
        }
        /* Begun anew: nothing of before. */
        CHECK_OK(kiln_session_profile(w.session, 10000, error));
        tally none = {.ok = true};
        CHECK_OK(kiln_session_profile_read(w.session, count_call, &none, NULL, error));
        assert_int_equal(none.calls, 0);
        teardown(&w);
    }
}

/* ---- which tiles ------------------------------------------------------------------------------------ */

enum { TILES = 10, GATES = 3 };

typedef struct cover {
    uint8_t seen[2][GATES][TILES]; /* by run and record */
    bool ok;
} cover;

static bool cover_call(void *context, const kiln_profile_call *c) {
    cover *v = context;
    for (int64_t t = c->first_tile; t < c->first_tile + c->tiles; t++) {
        v->ok = v->ok && t >= 0 && t < TILES && c->record < GATES;
        if (v->ok)
            v->seen[c->run % 2][c->record][t]++;
    }
    return true;
}

/* Records whose tiles one thread computes in several calls, or several threads in some: each tile is noted once. */
static void every_tile(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        const kiln_cpu_options options = {.threads = threads, .oversubscribe = true};
        kiln_graph *graph;
        kiln_plan *plan;
        kiln_executor *executor;
        kiln_session *session;
        uint64_t dropped;
        CHECK_OK(kiln_graph_create(NULL, &graph, error));
        kiln_tensor t = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(TILES), kiln_n(4)));
        for (int i = 0; i < GATES; i++)
            assert_int_equal(kiln_node_add(graph, &test_gate_op, &t, 1, NULL, &t), KILN_OK);
        kiln_output(graph, t, "y");
        CHECK_OK(kiln_bake(graph, NULL, &plan, error));
        CHECK_OK(kiln_cpu_executor_create(NULL, &options, &executor, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
        CHECK_OK(kiln_session_profile(session, 1000, error));
        for (int i = 0; i < 2; i++)
            CHECK_OK(kiln_run(session, error));
        cover v = {.ok = true};
        CHECK_OK(kiln_session_profile_read(session, cover_call, &v, &dropped, error));
        assert_true(v.ok && dropped == 0);
        for (int run = 0; run < 2; run++)
            for (int r = 0; r < GATES; r++)
                for (int i = 0; i < TILES; i++)
                    assert_int_equal(v.seen[run][r][i], 1);
        CHECK_OK(kiln_session_destroy(session, error));
        CHECK_OK(kiln_executor_destroy(executor, error));
        kiln_plan_release(plan);
        kiln_graph_destroy(graph);
    }
}

/* ---- bounds ----------------------------------------------------------------------------------------- */

static bool first_only(void *context, const kiln_profile_call *c) {
    (void)c;
    return ++*(int *)context < 1;
}

static void bounds(void **state) {
    (void)state;
    world w;
    int visits = 0;
    uint64_t dropped;
    tally t = {.ok = true};
    char text[32] = "x";
    setup(&w, 1, NULL);
    CHECK_FAILS(kiln_session_profile_read(w.session, count_call, &t, NULL, error), KILN_ERROR_ARGUMENT,
                "kiln_session_profile_read: the session is not profiled; call kiln_session_profile first");
    CHECK_OK(kiln_session_profile(w.session, 100, error));
    CHECK_OK(kiln_run(w.session, error));
    CHECK_OK(kiln_session_profile_read(w.session, count_call, &t, &dropped, error));
    const size_t calls = t.calls;
    assert_true(calls >= 2 * LAYERS && dropped == 0);
    t = (tally){.ok = true};
    CHECK_OK(kiln_session_profile(w.session, 3, error));
    CHECK_OK(kiln_run(w.session, error));
    CHECK_OK(kiln_session_profile_read(w.session, count_call, &t, &dropped, error));
    assert_true(t.calls >= 3 && t.calls <= 6);
    assert_int_equal(t.calls + dropped, calls);
    assert_int_equal(kiln_session_profile_read(w.session, first_only, &visits, NULL, NULL),
                     KILN_ERROR_CANCELLED);
    assert_int_equal(visits, 1);
    assert_int_equal(kiln_session_profile_read(w.session, NULL, NULL, NULL, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_session_profile(w.session, SIZE_MAX / 8, NULL), KILN_ERROR_OVERFLOW);
    CHECK_OK(kiln_session_profile_read(w.session, first_only, &(int){-9}, NULL, error)); /* still there */
    kiln_session_profile_thread(w.session, 0, text, sizeof text);
    assert_string_equal(text, "waiting");
    kiln_session_profile_thread(w.session, 1, text, sizeof text);
    assert_string_equal(text, "");
    CHECK_OK(kiln_session_profile(w.session, 0, error));
    assert_int_equal(kiln_session_profile_read(w.session, count_call, &t, NULL, NULL), KILN_ERROR_ARGUMENT);
    teardown(&w);
}

static void allocations(void **state) {
    (void)state;
    fault_alloc f;
    world w;
    fault_alloc_init(&f);
    const kiln_allocator a = fault_alloc_allocator(&f);
    setup(&w, 2, &a);
    fault_alloc_arm(&f, FAULT_ONCE, 1);
    assert_int_equal(kiln_session_profile(w.session, 100, NULL), KILN_ERROR_MEMORY);
    CHECK_OK(kiln_session_profile(w.session, 100, error));
    CHECK_OK(kiln_run(w.session, error));
    tally t = {.ok = true};
    fault_alloc_arm(&f, FAULT_ONCE, 1);
    assert_int_equal(kiln_session_profile_read(w.session, count_call, &t, NULL, NULL), KILN_ERROR_MEMORY);
    assert_int_equal(t.calls, 0);
    CHECK_OK(kiln_session_profile_read(w.session, count_call, &t, NULL, error));
    teardown(&w);
    assert_true(fault_alloc_finish(&f));
}

/* ---- the trace -------------------------------------------------------------------------------------- */

static const char *text_of(const cJSON *object, const char *key) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return text != NULL ? text : "";
}

static void trace(void **state) {
    (void)state;
    world w;
    kiln_json_text text;
    setup(&w, 2, NULL);
    assert_int_equal(kiln_session_profile_trace(w.session, NULL, &text, NULL), KILN_ERROR_ARGUMENT);
    assert_null(text.data);
    CHECK_OK(kiln_session_profile(w.session, 10000, error));
    for (int i = 0; i < 60; i++) /* many slices that touch, at times of many digits */
        CHECK_OK(kiln_run(w.session, error));
    assert_int_equal(kiln_session_profile_trace(w.session, NULL, NULL, NULL), KILN_ERROR_ARGUMENT);
    CHECK_OK(kiln_session_profile_trace(w.session, NULL, &text, error));
    cJSON *root = cJSON_ParseWithLength(text.data, text.size);
    assert_non_null(root);
    const cJSON *event, *events = cJSON_GetObjectItemCaseSensitive(root, "traceEvents");
    int names = 0, calls = 0, touching = 0;
    double last[2] = {0, 0};
    cJSON_ArrayForEach(event, events) {
        const double tid = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(event, "tid"));
        assert_true(tid == 0 || tid == 1);
        if (strcmp(text_of(event, "ph"), "M") == 0) {
            const cJSON *args = cJSON_GetObjectItemCaseSensitive(event, "args");
            assert_string_equal(text_of(event, "name"), "thread_name");
            assert_string_equal(text_of(args, "name"), tid == 0 ? "waiting" : "worker 1");
            names++;
            continue;
        }
        assert_string_equal(text_of(event, "ph"), "X");
        const double ts = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(event, "ts"));
        const double dur = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(event, "dur"));
        /* A row's slices do not overlap for a viewer either, which adds doubles. */
        assert_true(dur >= 0 && last[(int)tid] <= ts);
        touching += ts > 0 && ts - last[(int)tid] < 0.0015;
        last[(int)tid] = ts + dur;
        calls += cJSON_GetObjectItemCaseSensitive(event, "args") != NULL;
    }
    assert_int_equal(names, 2);
    assert_true(calls >= 60 * 2 * LAYERS && touching >= 60);
    const cJSON *other = cJSON_GetObjectItemCaseSensitive(root, "otherData");
    assert_string_equal(text_of(other, "format"), "kiln.trace");
    cJSON_Delete(root);
    kiln_json_text_free(&text);
    teardown(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call),  cmocka_unit_test(every_tile), cmocka_unit_test(bounds),
        cmocka_unit_test(allocations), cmocka_unit_test(trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
