/* Observers: what they see, what they cost, and that they stop a run. */
#include "kiln.h"
#include "check.h"
#include "extra_ops.h"
#include "tiny_model.h"

#include <math.h>

static const int32_t prompt[] = {3, 14, 15, 9, 26, 5, 31, 8, 0, 7, 17, 22};

typedef struct bench {
    kiln_graph *graph;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    tiny_model model;
    tiny_states states;
} bench;

static void setup(bench *b, const kiln_tap *taps, uint32_t n, uint32_t threads) {
    kiln_bake_options options = {.precision = KILN_PRECISION_EXACT, .taps = taps, .n_taps = n};
    kiln_cpu_options cpu = {.threads = threads};
    CHECK_OK(kiln_graph_create(NULL, &b->graph, error));
    tiny_build(b->graph, 2, &b->model);
    CHECK_OK(kiln_bake(b->graph, &options, &b->plan, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &b->executor, error));
    CHECK_OK(kiln_session_create(b->plan, b->executor, NULL, &b->session, error));
    tiny_bind_states(b->session, 2, &b->states);
}

static void teardown(bench *b) {
    CHECK_OK(kiln_session_destroy(b->session, error));
    tiny_free_states(&b->states);
    CHECK_OK(kiln_executor_destroy(b->executor, error));
    kiln_plan_release(b->plan);
    kiln_graph_destroy(b->graph);
}

typedef struct seen {
    int calls;
    char names[8][32];
    int32_t topk[8 * TINY_K];
    float resid[8 * TINY_H];
} seen;

static kiln_status look(void *context, const kiln_observation *o) {
    seen *s = context;
    if (s->calls < 8)
        snprintf(s->names[s->calls], sizeof s->names[0], "%.31s", o->tensor);
    s->calls++;
    if (strcmp(o->tensor, "topk.0") == 0)
        for (int64_t t = 0; t < o->dims[0]; t++)
            memcpy(s->topk + t * TINY_K, (const char *)o->data + t * o->strides[0], TINY_K * sizeof(int32_t));
    if (strcmp(o->tensor, "resid.1") == 0) {
        assert_int_equal(o->ndim, 2);
        assert_int_equal(o->dims[1], TINY_H);
        memcpy(s->resid, o->data, (size_t)o->dims[0] * TINY_H * sizeof(float));
    }
    return KILN_OK;
}

static void test_values(void **unused) {
    (void)unused;
    static const kiln_tap taps[] = {
        {"topk.0", KILN_WATCH_VALUES | KILN_WATCH_HASH},
        {"resid.*", KILN_WATCH_VALUES | KILN_WATCH_HASH | KILN_WATCH_TIME | KILN_WATCH_FINITE}};
    uint64_t hash = 0;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        bench b;
        seen s = {0};
        setup(&b, taps, 2, threads);
        CHECK_OK(tiny_eval(b.session, &b.model, prompt, 0, 5, error));
        float quiet[5 * TINY_VOCAB], *logits = kiln_session_data(b.session, b.model.logits);
        memcpy(quiet, logits, sizeof quiet);
        CHECK_OK(kiln_session_observe(
            b.session, KILN_WATCH_VALUES | KILN_WATCH_HASH | KILN_WATCH_TIME | KILN_WATCH_FINITE, look, &s,
            error));
        CHECK_OK(tiny_eval(b.session, &b.model, prompt, 0, 5, error));
        assert_memory_equal(quiet, logits, sizeof quiet); /* looking changes nothing */
        assert_int_equal(s.calls, 3);
        assert_string_equal(s.names[0], "topk.0");
        assert_string_equal(s.names[1], "resid.0");
        assert_string_equal(s.names[2], "resid.1");
        for (int t = 0; t < 5; t++) {
            assert_in_range(s.topk[t * 2], 0, TINY_E - 1);
            assert_int_not_equal(s.topk[t * 2], s.topk[t * 2 + 1]);
        }
        kiln_observation o;
        assert_true(kiln_session_observed(b.session, 2, &o));
        assert_string_equal(o.tensor, "resid.1");
        assert_null(o.data);
        assert_int_equal(o.nonfinite, -1);
        assert_true(o.ns > 0);
        assert_true(hash == 0 || hash == o.hash); /* the same for any number of threads */
        hash = o.hash;
        assert_true(o.seen);
        assert_false(kiln_session_observed(b.session, 3, &o));
        CHECK_FAILS(kiln_session_observe(b.session, 0x30, NULL, NULL, error), KILN_ERROR_ARGUMENT,
                    "kiln_session_observe: unknown watch bits 0x30");
        /* Off again: no calls. */
        CHECK_OK(kiln_session_observe(b.session, 0, NULL, NULL, error));
        CHECK_OK(tiny_eval(b.session, &b.model, prompt, 0, 5, error));
        assert_int_equal(s.calls, 3);
        assert_true(kiln_session_observed(b.session, 2, &o)); /* and nothing of an earlier run */
        assert_true(!o.seen && o.hash == 0 && o.ns == 0 && o.nonfinite == -1);
        assert_string_equal(o.tensor, "resid.1");
        teardown(&b);
    }
}

static kiln_status keep_rows(void *context, const kiln_observation *o) {
    memcpy(context, o->data, (size_t)o->dims[0] * 4 * sizeof(float));
    return KILN_OK;
}

/* What a tap shows is what the tensor holds when its node is done, also where the node wrote only some rows:
 * neither what a later node writes to the others, nor what was there before an earlier one did. */
static void test_partial_writes(void **unused) {
    (void)unused;
    static const kiln_tap tap = {"first", KILN_WATCH_VALUES};
    static const kiln_tensor none = {0, 0};
    for (int serial = 0; serial < 2; serial++) {
        kiln_graph *g;
        kiln_plan *plan;
        kiln_executor *executor;
        kiln_session *session;
        kiln_cpu_options cpu = {.threads = 1};
        kiln_bake_options options = {.taps = &tap, .n_taps = 1, .serial = serial};
        kiln_dim shape[] = {kiln_n(4), kiln_n(4)}, twice[] = {kiln_n(8), kiln_n(4)};
        CHECK_OK(kiln_graph_create(NULL, &g, error));
        kiln_tensor x = kiln_input(g, "x", KILN_F32, 2, shape), z = kiln_zeros(g, 2, twice);
        for (int i = 0; i < 3; i++) /* rows 4 to 7 late */
            x = kiln_scale(g, x, (kiln_scale_attrs){kiln_f32_const(1), kiln_f32_const(1)});
        kiln_set_rows(g, z, x, none, (kiln_set_rows_attrs){kiln_i64_const(4), 0});
        kiln_tensor first = kiln_set_rows(g, z, kiln_tensor_find(g, "x"), none, (kiln_set_rows_attrs){0});
        kiln_name(g, first, "first");
        kiln_tensor y = kiln_input(g, "y", KILN_F32, 2, shape);
        kiln_tensor second = kiln_set_rows(g, z, y, none, (kiln_set_rows_attrs){kiln_i64_const(4), 0});
        kiln_output(g, kiln_copy(g, second, KILN_F32), "out");
        CHECK_OK(kiln_bake(g, &options, &plan, error));
        CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
        float shown[32], *xs = kiln_session_data(session, kiln_plan_tensor(plan, "x"));
        float *ys = kiln_session_data(session, y);
        for (int i = 0; i < 16; i++) {
            xs[i] = 1;
            ys[i] = 2;
        }
        CHECK_OK(kiln_session_observe(session, KILN_WATCH_VALUES, keep_rows, shown, error));
        CHECK_OK(kiln_run(session, error));
        for (int i = 0; i < 32; i++)
            assert_true(shown[i] == (i < 16 ? 1.0f : 4.0f));
        CHECK_OK(kiln_session_destroy(session, error));
        CHECK_OK(kiln_executor_destroy(executor, error));
        kiln_plan_release(plan);
        kiln_graph_destroy(g);
    }
}

static kiln_status note_name(void *context, const kiln_observation *o) {
    char *names = context;
    strcat(strcat(names, o->tensor), " ");
    return KILN_OK;
}

/* Rows 0 to 3 of an arena tensor are appended, then read; rows 4 to 7 never hold anything. */
static void build_partial(kiln_graph *g) {
    kiln_dim shape[] = {kiln_n(4), kiln_n(4)};
    kiln_tensor x = kiln_input(g, "x", KILN_F32, 2, shape);
    kiln_storage arena = kiln_storage_add(g, KILN_STORAGE_ARENA, "rows", 8 * 16);
    kiln_tensor dst = kiln_tensor_at(g, arena, 0, KILN_F32, KILN_SHAPE(kiln_n(8), kiln_n(4)), NULL);
    kiln_tensor appended = kiln_set_rows(g, dst, x, (kiln_tensor){0, 0}, (kiln_set_rows_attrs){0});
    kiln_name(g, appended, "k.rows");
    kiln_tensor doubled = kiln_add(g, kiln_slice(g, appended, 0, 0, kiln_n(4)), x);
    kiln_name(g, doubled, "k.doubled");
    kiln_output(g, kiln_copy(g, doubled, KILN_F32), "y");
}

/* What a pattern matches is watched where all of it is written, and bakes as it does without taps. */
static void test_unwritten_bytes(void **unused) {
    (void)unused;
    static const char *const patterns[] = {"*", "k.*", "k.r*", NULL}, *const expected[] = {"k.doubled y ",
                                                                                           "k.doubled "};
    kiln_graph *g;
    kiln_executor *executor;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    build_partial(g);
    CHECK_OK(kiln_cpu_executor_create(NULL, NULL, &executor, error));
    for (int i = 0; i < 4; i++) {
        kiln_tap tap = {patterns[i], KILN_WATCH_VALUES | KILN_WATCH_FINITE};
        kiln_bake_options options = {.taps = &tap, .n_taps = patterns[i] != NULL};
        kiln_plan *plan;
        kiln_session *session;
        kiln_json_text text;
        CHECK_OK(kiln_bake(g, &options, &plan, error));
        CHECK_OK(kiln_plan_to_json(plan, NULL, NULL, &text, error));
        CHECK_OK(kiln_plan_check_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, error));
        kiln_json_text_free(&text);
        CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
        float *x = kiln_session_data(session, kiln_plan_tensor(plan, "x"));
        for (int k = 0; k < 16; k++)
            x[k] = (float)k;
        char names[64] = "";
        kiln_observation o;
        if (i < 2)
            CHECK_OK(kiln_session_observe(session, KILN_WATCH_VALUES | KILN_WATCH_FINITE, note_name, names,
                                          error));
        else
            assert_false(kiln_session_observed(session, 0, &o));
        CHECK_OK(kiln_run(session, error));
        assert_string_equal(names, i < 2 ? expected[i] : "");
        const float *y = kiln_session_data(session, kiln_plan_tensor(plan, "y"));
        for (int k = 0; k < 16; k++)
            assert_true(y[k] == 2 * x[k]);
        CHECK_OK(kiln_session_destroy(session, error));
        kiln_plan_release(plan);
    }
    CHECK_OK(kiln_executor_destroy(executor, error));
    kiln_graph_destroy(g);
}

/* By its name it is refused, and the tap is to blame; so it is beside a pattern, in either order. */
static void test_unwritten_by_name(void **unused) {
    (void)unused;
    static const kiln_tap taps[] = {{"k.rows", KILN_WATCH_HASH}, {"*", KILN_WATCH_TIME}, {"k.rows", 0}};
    kiln_graph *g;
    kiln_plan *plan;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    build_partial(g);
    kiln_bake_options options = {.taps = taps, .n_taps = 2};
    CHECK_FAILS(
        kiln_bake(g, &options, &plan, error), KILN_ERROR_ARGUMENT,
        "tap 0: 'k.rows' cannot be watched: when node 'k.rows' (set_rows) is done, byte 64 of its 128 has "
        "not been written; write it before (kiln_zero), or tap what is made of it");
    options.taps = taps + 1;
    CHECK_FAILS(
        kiln_bake(g, &options, &plan, error), KILN_ERROR_ARGUMENT,
        "tap 1: 'k.rows' cannot be watched: when node 'k.rows' (set_rows) is done, byte 64 of its 128 has "
        "not been written; write it before (kiln_zero), or tap what is made of it");
    kiln_graph_destroy(g);
}

/* A node that declares no accesses may have written anything before: then the tap is believed, as a reader
 * would be. */
static void test_unwritten_after_opaque(void **unused) {
    (void)unused;
    static const kiln_tap tap = {"late", KILN_WATCH_VALUES};
    kiln_graph *g;
    kiln_plan *plan;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_dim shape[] = {kiln_n(4), kiln_n(4)};
    kiln_tensor x = kiln_input(g, "x", KILN_F32, 2, shape), y;
    assert_int_equal(kiln_node_add(g, &test_opaque_op, &x, 1, NULL, &y), KILN_OK);
    kiln_storage arena = kiln_storage_add(g, KILN_STORAGE_ARENA, "rows", 8 * 16);
    kiln_tensor dst = kiln_tensor_at(g, arena, 0, KILN_F32, KILN_SHAPE(kiln_n(8), kiln_n(4)), NULL);
    kiln_name(g, kiln_set_rows(g, dst, x, (kiln_tensor){0, 0}, (kiln_set_rows_attrs){0}), "late");
    CHECK_OK(kiln_bake(g, &(kiln_bake_options){.taps = &tap, .n_taps = 1}, &plan, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

static void test_regions_stay(void **unused) {
    (void)unused;
    /* A tapped tensor that no fusion swallows costs nothing; one that a fusion would swallow costs that
     * fusion. */
    static const kiln_tap harmless[] = {{"topk.*", KILN_WATCH_VALUES}};
    bench none, some;
    setup(&none, NULL, 0, 1);
    setup(&some, harmless, 1, 1);
    kiln_plan_summary a, b;
    kiln_plan_get_summary(none.plan, &a);
    kiln_plan_get_summary(some.plan, &b);
    assert_int_equal(a.regions, b.regions);
    assert_int_equal(a.records, b.records);
    teardown(&none);
    teardown(&some);
}

static void test_stops(void **unused) {
    (void)unused;
    static const kiln_tap taps[] = {{"*", KILN_WATCH_FINITE}};
    for (uint32_t threads = 1; threads <= 2; threads++) {
        bench b;
        setup(&b, taps, 1, threads);
        CHECK_OK(kiln_session_observe(b.session, KILN_WATCH_FINITE, NULL, NULL, error));
        CHECK_OK(tiny_eval(b.session, &b.model, prompt, 0, 3, error));
        /* Poison one value of a cache: the append to it is the first node whose output has it. */
        float *v = kiln_state_buffer_data(b.states.buffers[1]);
        v[TINY_H + 5] = NAN;
        kiln_error why;
        assert_int_equal(tiny_eval(b.session, &b.model, prompt, 3, 2, &why), KILN_ERROR_NUMERIC);
        assert_non_null(strstr(why.text, "(set_rows): '"));
        assert_non_null(strstr(why.text, "holds NaN or Inf, first at element 69"));
        assert_true(kiln_state_buffer_is_dirty(b.states.buffers[0]));
        for (int i = 0; i < b.states.count; i++)
            kiln_state_buffer_acknowledge(b.states.buffers[i]);
        CHECK_OK(tiny_eval(b.session, &b.model, prompt, 0, 5, error));
        teardown(&b);
    }
}

static kiln_status refuse(void *context, const kiln_observation *o) {
    (void)context;
    (void)o;
    return KILN_ERROR_KERNEL;
}

static void test_errors(void **unused) {
    (void)unused;
    static const kiln_tap tap[] = {{"resid.0", KILN_WATCH_VALUES}},
                          missing[] = {{"nobody", KILN_WATCH_VALUES}};
    bench b;
    setup(&b, tap, 1, 2);
    CHECK_OK(kiln_session_observe(b.session, KILN_WATCH_VALUES, refuse, NULL, error));
    CHECK_FAILS(tiny_eval(b.session, &b.model, prompt, 0, 3, error), KILN_ERROR_NUMERIC,
                "node 'resid.0' (weighted_sum): the observer of 'resid.0' stopped the run");
    kiln_plan *plan;
    kiln_bake_options options = {.taps = missing, .n_taps = 1};
    CHECK_FAILS(kiln_bake(b.graph, &options, &plan, error), KILN_ERROR_ARGUMENT,
                "tap 0: no node makes a tensor named 'nobody'");
    teardown(&b);
    setup(&b, NULL, 0, 1);
    CHECK_FAILS(kiln_session_observe(b.session, KILN_WATCH_VALUES, refuse, NULL, error), KILN_ERROR_ARGUMENT,
                "kiln_session_observe: the plan has no taps; declare them in kiln_bake_options");
    teardown(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_partial_writes),
                                       cmocka_unit_test(test_unwritten_bytes),
                                       cmocka_unit_test(test_unwritten_by_name),
                                       cmocka_unit_test(test_unwritten_after_opaque),
                                       cmocka_unit_test(test_regions_stay),
                                       cmocka_unit_test(test_stops),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
