#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

/* Warming up: it runs and touches, and leaves all that a caller can see as it was. */
#include "kiln.h"
#include "check.h"
#include "extra_ops.h"
#include "fault_alloc.h"
#include "tiny_model.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { ROWS = 64, WIDTH = 32, COUNT = ROWS * WIDTH };

typedef struct world {
    kiln_graph *graph;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    kiln_slot tokens, at, factor;
    kiln_tensor x, ids, y;
    kiln_state_buffer *cache, *sum;
    kiln_allocator *allocator; /* of the session */
} world;

static float weight[COUNT], bound_y[COUNT];

static const kiln_op *middle; /* of the graph: test_gate_op, test_opaque_op */

/* picked = w[ids]; y = gate(factor · (x + picked)), at the end scaled in place; the state "cache" gets y's rows from
 * position `at` on, "sum" (which is read and written by one node) all of x, and y what "cache" held. */
static void build(world *t) {
    kiln_graph *g = t->graph;
    t->tokens = kiln_slot_i64(g, "n_tokens", 0, ROWS);
    t->at = kiln_slot_i64(g, "at", 0, ROWS);
    t->factor = kiln_slot_f32(g, "factor", 2.0f);
    kiln_dim shape[] = {kiln_sym(t->tokens), kiln_n(WIDTH)};
    t->x = kiln_input(g, "x", KILN_F32, 2, shape);
    t->ids = kiln_input(g, "ids", KILN_I32, 1, shape);
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(ROWS), kiln_n(WIDTH)));
    kiln_tensor cache = kiln_state(g, "cache", KILN_F32, KILN_SHAPE(kiln_n(2 * ROWS), kiln_n(WIDTH)));
    kiln_tensor sum = kiln_state(g, "sum", KILN_F32, 2, shape);
    kiln_tensor picked = kiln_get_rows(g, w, t->ids), gated;
    kiln_scale_attrs by = {.scale = kiln_f32_of(t->factor)};
    kiln_tensor scaled = kiln_scale(g, kiln_add(g, t->x, picked), by);
    assert_int_equal(kiln_node_add(g, middle, &scaled, 1, NULL, &gated), KILN_OK);
    kiln_name(g, gated, "gated");
    kiln_set_rows_attrs place = {.position = kiln_i64_of(t->at)};
    kiln_tensor appended = kiln_set_rows(g, cache, gated, (kiln_tensor){0, 0}, place);
    kiln_accumulate(g, sum, t->x, (kiln_tensor){0, 0});
    t->y = kiln_output(g, kiln_get_rows(g, appended, t->ids), "y");
}

static kiln_status bind(world *t) {
    const kiln_allocator *a = t->allocator;
    kiln_status status = kiln_state_buffer_create(a, 2 * sizeof weight, &t->cache, NULL);
    if (status == KILN_OK)
        status = kiln_state_buffer_create(a, sizeof weight, &t->sum, NULL);
    if (status == KILN_OK)
        status = kiln_session_bind_state(t->session, kiln_plan_storage(t->plan, "cache"), t->cache, NULL);
    if (status == KILN_OK)
        status = kiln_session_bind_state(t->session, kiln_plan_storage(t->plan, "sum"), t->sum, NULL);
    if (status == KILN_OK)
        status = kiln_session_bind(t->session, kiln_plan_storage(t->plan, "w"), weight, sizeof weight, NULL);
    return status;
}

/* Without bindings. */
static kiln_status make(world *t, const kiln_op *op, uint32_t threads, kiln_allocator *allocator) {
    static const kiln_tap taps[] = {{"gated", KILN_WATCH_VALUES | KILN_WATCH_HASH | KILN_WATCH_TIME}};
    kiln_bake_options options = {.taps = taps, .n_taps = op == &test_gate_op}; /* no opaque one's */
    kiln_cpu_options cpu = {.threads = threads};
    *t = (world){.allocator = allocator};
    middle = op;
    atomic_store(&test_gate_shared.closed, false);
    atomic_store(&test_gate_shared.fail, false);
    atomic_store(&test_gate_shared.returns, KILN_OK);
    atomic_store(&test_gate_shared.entered, 0);
    for (int i = 0; i < COUNT; i++)
        weight[i] = (float)(i % 61) / 8;
    CHECK_OK(kiln_graph_create(NULL, &t->graph, error));
    build(t);
    CHECK_OK(kiln_bake(t->graph, &options, &t->plan, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &t->executor, error));
    return kiln_session_create(t->plan, t->executor, allocator, &t->session, NULL);
}

/* Bound, and as after some real runs: nothing is zero. */
static void make_used(world *t, const kiln_op *op, uint32_t threads) {
    assert_int_equal(make(t, op, threads, NULL), KILN_OK);
    assert_int_equal(bind(t), KILN_OK);
    CHECK_OK(kiln_session_bind(t->session, kiln_plan_storage(t->plan, "y"), bound_y, sizeof bound_y, error));
    CHECK_OK(kiln_session_set_i64(t->session, t->tokens, ROWS - 1, error));
    CHECK_OK(kiln_session_set_i64(t->session, t->at, 3, error));
    CHECK_OK(kiln_session_set_f32(t->session, t->factor, -1.5f, error));
    float *x = kiln_session_data(t->session, t->x), *cache = kiln_state_buffer_data(t->cache);
    float *sum = kiln_state_buffer_data(t->sum);
    int32_t *ids = kiln_session_data(t->session, t->ids);
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)(i % 17) + 0.25f;
        bound_y[i] = 100.0f + (float)i;
        cache[i] = cache[COUNT + i] = 200.0f + (float)(i % 50);
        sum[i] = (float)i;
    }
    for (int i = 0; i < ROWS; i++)
        ids[i] = (i * 7) % ROWS;
}

static void unmake(world *t) {
    assert_int_equal(kiln_session_destroy(t->session, NULL), KILN_OK);
    assert_int_equal(kiln_state_buffer_destroy(t->cache, NULL), KILN_OK);
    assert_int_equal(kiln_state_buffer_destroy(t->sum, NULL), KILN_OK);
    assert_int_equal(kiln_executor_destroy(t->executor, NULL), KILN_OK);
    kiln_plan_release(t->plan);
    kiln_graph_destroy(t->graph);
}

/* All bytes that a caller can read. */
typedef struct snapshot {
    float w[COUNT], x[COUNT], y[COUNT], cache[2 * COUNT], sum[COUNT], factor;
    int32_t ids[ROWS];
    int64_t tokens, at;
    bool dirty_cache, dirty_sum;
} snapshot;

static snapshot *take(world *t) {
    snapshot *s = calloc(1, sizeof *s); /* padding is compared, too */
    assert_non_null(s);
    memcpy(s->w, weight, sizeof s->w);
    memcpy(s->x, kiln_session_data(t->session, t->x), sizeof s->x);
    memcpy(s->y, bound_y, sizeof s->y);
    memcpy(s->cache, kiln_state_buffer_data(t->cache), sizeof s->cache);
    memcpy(s->sum, kiln_state_buffer_data(t->sum), sizeof s->sum);
    memcpy(s->ids, kiln_session_data(t->session, t->ids), sizeof s->ids);
    s->factor = kiln_session_get_f32(t->session, t->factor);
    s->tokens = kiln_session_get_i64(t->session, t->tokens);
    s->at = kiln_session_get_i64(t->session, t->at);
    s->dirty_cache = kiln_state_buffer_is_dirty(t->cache);
    s->dirty_sum = kiln_state_buffer_is_dirty(t->sum);
    return s;
}

static const kiln_warm_options six = {.runs = 6, .max_ns = INT64_MAX};

static void test_unchanged(void **unused) {
    (void)unused;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        world t;
        kiln_warm_report report;
        make_used(&t, &test_gate_op, threads);
        snapshot *before = take(&t);
        CHECK_OK(kiln_session_warm(t.session, &six, &report, error));
        snapshot *after = take(&t);
        assert_memory_equal(before, after, sizeof *before);
        assert_int_equal(report.runs, 6);
        assert_true(atomic_load(&test_gate_shared.entered) >= 6);
        assert_true(report.first_ns > 0 && report.steady_ns > 0);
        assert_int_equal(report.touched, sizeof weight);
        assert_true(report.touch_ns >= 0);
        /* The real run then works on what is bound. */
        CHECK_OK(kiln_run(t.session, error));
        const float *cache = kiln_state_buffer_data(t.cache), *sum = kiln_state_buffer_data(t.sum);
        for (int i = 0; i < COUNT - WIDTH; i++) {
            int id = before->ids[i / WIDTH], k = i % WIDTH;
            assert_true(cache[3 * WIDTH + i] == -1.5f * (before->x[i] + before->w[id * WIDTH + k]));
            assert_true(bound_y[i] == cache[id * WIDTH + k]);
            assert_true(sum[i] == before->sum[i] + before->x[i]);
        }
        assert_memory_equal(cache, before->cache, 3 * WIDTH * sizeof(float));
        assert_false(kiln_state_buffer_is_dirty(t.cache));
        free(before);
        free(after);
        unmake(&t);
    }
}

/* Of the plan with the session's records, which have the times of the last run. */
static kiln_json_text dump(const world *t) {
    kiln_json_text text;
    CHECK_OK(kiln_plan_to_json(t->plan, t->session, NULL, &text, error));
    assert_non_null(strstr(text.data, "\"ns\": "));
    return text;
}

static int observations;

static kiln_status count_observation(void *unused, const kiln_observation *o) {
    (void)unused;
    (void)o;
    observations++;
    return KILN_OK;
}

/* What the last run left: its outcome, by its fence, what taps saw, and how long records took. */
static void test_last_run_stays(void **unused) {
    (void)unused;
    for (uint32_t threads = 1; threads <= 2; threads++) {
        world t;
        kiln_fence fence;
        kiln_observation before = {0}, after = {0};
        kiln_error was = {KILN_OK, ""};
        make_used(&t, &test_gate_op, threads);
        observations = 0;
        CHECK_OK(kiln_session_observe(t.session, KILN_WATCH_HASH | KILN_WATCH_TIME, count_observation, NULL,
                                      error));
        ((int32_t *)kiln_session_data(t.session, t.ids))[5] = ROWS + 2;
        CHECK_OK(kiln_submit(t.session, &fence, error));
        assert_int_equal(kiln_wait(fence, -1, &was), KILN_ERROR_INDEX);
        assert_true(kiln_session_observed(t.session, 0, &before) && before.seen);
        CHECK_OK(kiln_session_set_f32(t.session, t.factor, 7.0f, error));
        ((int32_t *)kiln_session_data(t.session, t.ids))[5] = 1;
        kiln_json_text dumped = dump(&t);
        CHECK_OK(kiln_session_warm(t.session, &six, NULL, error));
        kiln_json_text again = dump(&t);
        assert_string_equal(dumped.data, again.data);
        kiln_json_text_free(&dumped);
        kiln_json_text_free(&again);
        CHECK_FAILS(kiln_wait(fence, -1, error), KILN_ERROR_INDEX, was.text);
        assert_int_equal(observations, 1);
        assert_true(kiln_session_observed(t.session, 0, &after) && after.seen);
        assert_true(before.hash == after.hash && before.ns == after.ns);
        /* And they go on. */
        CHECK_OK(kiln_run(t.session, error));
        assert_int_equal(observations, 2);
        assert_true(kiln_session_observed(t.session, 0, &after) && after.hash != before.hash);
        assert_true(after.ns > 0);
        /* An index out of range is none of warming's business. */
        ((int32_t *)kiln_session_data(t.session, t.ids))[5] = -1;
        CHECK_OK(kiln_session_warm(t.session, &six, NULL, error));
        unmake(&t);
    }
}

static void test_options(void **unused) {
    (void)unused;
    world t;
    kiln_warm_report report;
    make_used(&t, &test_gate_op, 1);
    CHECK_OK(kiln_session_warm(t.session, &(kiln_warm_options){.no_runs = true}, &report, error));
    assert_int_equal(atomic_load(&test_gate_shared.entered), 0);
    assert_true(report.runs == 0 && report.first_ns == 0 && report.steady_ns == 0);
    assert_int_equal(report.touched, sizeof weight);
    CHECK_OK(kiln_session_warm(t.session, &(kiln_warm_options){.no_touch = true, .runs = 1}, &report, error));
    assert_true(atomic_load(&test_gate_shared.entered) >= 1);
    assert_true(report.runs == 1 && report.first_ns > 0 && report.steady_ns == 0);
    assert_true(report.touched == 0 && report.touch_ns == 0);
    /* Time is up after the first. */
    CHECK_OK(kiln_session_warm(t.session, &(kiln_warm_options){.max_ns = 1}, &report, error));
    assert_int_equal(report.runs, 1);
    /* More runs than times are kept of. */
    CHECK_OK(
        kiln_session_warm(t.session, &(kiln_warm_options){.runs = 100, .max_ns = INT64_MAX}, &report, error));
    assert_true(report.runs == 100 && report.steady_ns > 0);
    CHECK_OK(kiln_session_warm(t.session, NULL, NULL, error));
    unmake(&t);
}

/* Nothing says what such a node writes. */
static void test_opaque(void **unused) {
    (void)unused;
    world t;
    kiln_warm_report report;
    make_used(&t, &test_opaque_op, 2);
    CHECK_OK(kiln_session_warm(t.session, &six, &report, error));
    assert_int_equal(atomic_load(&test_gate_shared.entered), 0);
    assert_true(report.runs == 0 && report.touched == sizeof weight);
    unmake(&t);
}

static void test_empty(void **unused) {
    (void)unused;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    kiln_plan_summary summary;
    kiln_warm_report report;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    (void)kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4)));
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    kiln_plan_get_summary(plan, &summary);
    assert_int_equal(summary.records, 0);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        CHECK_OK(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = threads}, &executor, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
        CHECK_OK(kiln_session_warm(session, &six, &report, error));
        assert_true(report.runs == 6 && report.touched == 0);
        CHECK_OK(kiln_run(session, error));
        CHECK_OK(kiln_session_destroy(session, error));
        CHECK_OK(kiln_executor_destroy(executor, error));
    }
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

static void test_errors(void **unused) {
    (void)unused;
    world t;
    kiln_warm_report report = {.runs = 77};
    CHECK_FAILS(kiln_session_warm(NULL, NULL, &report, error), KILN_ERROR_ARGUMENT,
                "kiln_session_warm: session is NULL, or max_ns is negative");
    assert_int_equal(report.runs, 0);
    assert_int_equal(make(&t, &test_gate_op, 2, NULL), KILN_OK);
    CHECK_FAILS(kiln_session_warm(t.session, &(kiln_warm_options){.max_ns = -1}, NULL, error),
                KILN_ERROR_ARGUMENT, "kiln_session_warm: session is NULL, or max_ns is negative");
    CHECK_FAILS(kiln_session_warm(t.session, &(kiln_warm_options){.no_runs = true}, NULL, error),
                KILN_ERROR_BINDING, "weight 'w' (8192 bytes) is not bound; call kiln_session_bind");
    CHECK_OK(kiln_session_bind(t.session, kiln_plan_storage(t.plan, "w"), weight, sizeof weight, error));
    CHECK_FAILS(kiln_session_warm(t.session, NULL, NULL, error), KILN_ERROR_BINDING,
                "state 'cache' (16384 bytes) is not bound; call kiln_session_bind_state");
    assert_int_equal(bind(&t), KILN_OK);
    CHECK_OK(kiln_session_set_i64(t.session, t.tokens, 4, error));

    /* A kernel that fails: said, and nothing has come of it. */
    atomic_store(&test_gate_shared.fail, true);
    report.runs = 77;
    CHECK_FAILS(kiln_session_warm(t.session, NULL, &report, error), KILN_ERROR_KERNEL,
                "node 'gated' (test_gate): told to fail");
    assert_int_equal(report.runs, 0);
    assert_false(kiln_state_buffer_is_dirty(t.cache));
    atomic_store(&test_gate_shared.fail, false);
    CHECK_OK(kiln_session_warm(t.session, NULL, &report, error));
    CHECK_OK(kiln_run(t.session, error));

    /* Busy: this session, and another one that writes the state. */
    kiln_fence fence;
    kiln_session *other;
    CHECK_OK(kiln_session_create(t.plan, t.executor, NULL, &other, error));
    CHECK_OK(kiln_session_bind(other, kiln_plan_storage(t.plan, "w"), weight, sizeof weight, error));
    CHECK_OK(kiln_session_bind_state(other, kiln_plan_storage(t.plan, "cache"), t.cache, error));
    CHECK_OK(kiln_session_bind_state(other, kiln_plan_storage(t.plan, "sum"), t.sum, error));
    atomic_store(&test_gate_shared.closed, true);
    CHECK_OK(kiln_submit(t.session, &fence, error));
    CHECK_FAILS(kiln_session_warm(t.session, NULL, NULL, error), KILN_ERROR_BUSY,
                "kiln_session_warm: the session is running; wait for its fence first");
    CHECK_FAILS(kiln_session_warm(other, NULL, NULL, error), KILN_ERROR_BUSY,
                "state 'cache' is in use by another running session, and that one writes it");
    kiln_cancel(fence);
    atomic_store(&test_gate_shared.closed, false);
    kiln_status status = kiln_wait(fence, -1, NULL);
    assert_true(status == KILN_ERROR_CANCELLED);
    CHECK_FAILS(kiln_session_warm(other, NULL, NULL, error), KILN_ERROR_DIRTY,
                "state 'cache' may be half written by a run that failed or was cancelled; restore it, then "
                "call kiln_state_buffer_acknowledge");
    assert_true(kiln_state_buffer_is_dirty(t.cache));
    kiln_state_buffer_acknowledge(t.cache);
    kiln_state_buffer_acknowledge(t.sum);
    CHECK_OK(kiln_session_warm(other, NULL, NULL, error));
    CHECK_OK(kiln_session_destroy(other, error));
    unmake(&t);
}

/* A failed one leaves a session that runs. */
static kiln_status warm_with(kiln_allocator a, void *context) {
    (void)context;
    world t;
    kiln_status status = make(&t, &test_gate_op, 1, &a);
    if (status == KILN_OK)
        status = bind(&t);
    if (status == KILN_OK) {
        CHECK_OK(kiln_session_set_i64(t.session, t.tokens, 4, error));
        float *sum = kiln_state_buffer_data(t.sum);
        sum[0] = 5;
        status = kiln_session_warm(t.session, NULL, NULL, NULL);
        assert_true(sum[0] == 5 && !kiln_state_buffer_is_dirty(t.sum));
        CHECK_OK(kiln_run(t.session, error));
    }
    unmake(&t);
    return status;
}

static void test_memory(void **unused) {
    (void)unused;
    assert_true(fault_alloc_every("session, warm, run", warm_with, NULL) > 10);
}

static long peak_bytes(void) {
    struct rusage use;
    assert_int_equal(getrusage(RUSAGE_SELF, &use), 0);
#if defined(__APPLE__)
    return use.ru_maxrss;
#else
    return use.ru_maxrss * 1024;
#endif
}

/* A cache far larger than what a run appends to it and reads of it. It cannot be written to here, and neither it nor what
 * stands in for it becomes resident. */
static void test_large_state(void **unused) {
    (void)unused;
    enum { MANY = 1 << 17, WIDE = 1024 };
    const size_t size = (size_t)MANY * WIDE * sizeof(float);
    kiln_graph *g;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    kiln_state_buffer *state;
    kiln_warm_report report;
    void *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(memory != MAP_FAILED);
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_slot n = kiln_slot_i64(g, "n", 1, MANY);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(WIDE)));
    kiln_tensor cache = kiln_state(g, "cache", KILN_F32, KILN_SHAPE(kiln_n(MANY), kiln_n(WIDE)));
    kiln_tensor filled =
        kiln_set_rows(g, cache, x, (kiln_tensor){0, 0}, (kiln_set_rows_attrs){.position = kiln_i64_of(n)});
    kiln_output(g, kiln_get_rows(g, filled, kiln_input(g, "ids", KILN_I32, KILN_SHAPE(kiln_n(3)))), "y");
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = 2}, &executor, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    CHECK_OK(kiln_state_buffer_wrap(NULL, memory, (int64_t)size, &state, error));
    CHECK_OK(kiln_session_bind_state(session, kiln_plan_storage(plan, "cache"), state, error));
    long before = peak_bytes();
    CHECK_OK(kiln_session_set_i64(session, n, MANY - 4, error));
    CHECK_OK(kiln_session_warm(session, &six, &report, error));
    long grown = peak_bytes() - before;
    assert_int_equal(report.runs, 6);
    print_message("a state of %zu MiB: %ld KiB became resident\n", size >> 20, grown >> 10);
#if defined(__SANITIZE_THREAD__)
    /* That sanitizer keeps up to twice the bytes of a mapping as its shadow, and clears them when it goes. */
    print_message("skipped: what became resident is not judged, as ThreadSanitizer's shadow counts there\n");
#else
    assert_true(grown < (long)(size / 4)); /* ASan's shadow of it is an eighth */
#endif
    CHECK_OK(kiln_session_destroy(session, error));
    CHECK_OK(kiln_state_buffer_destroy(state, error));
    CHECK_OK(kiln_executor_destroy(executor, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    munmap(memory, size);
}

/* A whole decoder's logits are those of one that was never warmed. */
static void test_decoder(void **unused) {
    (void)unused;
    static const int32_t tokens[] = {3, 14, 15, 9, 26, 5};
    float logits[2][TINY_VOCAB];
    for (int warmed = 0; warmed < 2; warmed++) {
        kiln_graph *g;
        kiln_plan *plan;
        kiln_executor *executor;
        kiln_session *session;
        tiny_model m;
        tiny_states states;
        CHECK_OK(kiln_graph_create(NULL, &g, error));
        tiny_build(g, 2, &m);
        CHECK_OK(kiln_bake(g, NULL, &plan, error));
        CHECK_OK(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = 2}, &executor, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
        tiny_bind_states(session, 2, &states);
        for (int i = 0; i < 6; i++) {
            CHECK_OK(tiny_eval(session, &m, tokens, i, 1, error));
            if (warmed)
                CHECK_OK(kiln_session_warm(session, &six, NULL, error));
        }
        memcpy(logits[warmed], kiln_session_data(session, m.logits), sizeof logits[0]);
        CHECK_OK(kiln_session_destroy(session, error));
        tiny_free_states(&states);
        CHECK_OK(kiln_executor_destroy(executor, error));
        kiln_plan_release(plan);
        kiln_graph_destroy(g);
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unchanged), cmocka_unit_test(test_last_run_stays),
        cmocka_unit_test(test_options),   cmocka_unit_test(test_opaque),
        cmocka_unit_test(test_empty),     cmocka_unit_test(test_errors),
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_large_state),
        cmocka_unit_test(test_decoder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
