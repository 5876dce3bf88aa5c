/* The host's floating-point mode: no public call depends on it, and each leaves it as it was. Hosts change it
 * by fesetround, by intrinsics, or by linking with -ffast-math, which flushes subnormals to zero. */
#include "fp_mode.h"
#include "kiln.h"
#include "tests/support/check.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct mode {
    const char *name;
    int rounding;
    bool flush;
} mode;
static const mode modes[] = {
    {"to nearest", FE_TONEAREST, false}, {"upward", FE_UPWARD, false},
    {"downward", FE_DOWNWARD, false},    {"toward zero", FE_TOWARDZERO, false},
    {"flushing", FE_TONEAREST, true},    {"upward, flushing", FE_UPWARD, true},
};
enum { N_MODES = sizeof modes / sizeof modes[0] };

static kiln__fp ours;      /* before all tests */
static kiln__fp now;       /* the mode that the host set */
static const char *called; /* what is checked */

static void set(const mode *m) {
    assert_int_equal(fesetround(m->rounding), 0);
    if (m->flush) {
#if defined(__x86_64__)
        kiln__set_fp_mode(kiln__fp_mode() | 0x8040); /* FTZ, DAZ */
#elif defined(__aarch64__)
        kiln__set_fp_mode(kiln__fp_mode() | 1 << 24); /* FZ */
#endif
    }
    now = kiln__fp_mode();
}

/* The test's own assertions and printing run in the mode it began with. */
static void unset(void) {
    kiln__fp is = kiln__fp_mode();
    kiln__set_fp_mode(ours);
    if (is != now)
        fail_msg("%s changed the floating-point mode from %llx to %llx", called, (unsigned long long)now,
                 (unsigned long long)is);
}

/* One call in the host's mode. */
#define IN_MODE(m, call)                                                                                     \
    do {                                                                                                     \
        called = #call;                                                                                      \
        set(m);                                                                                              \
        call;                                                                                                \
        unset();                                                                                             \
    } while (0)

/* Numbers that are read or written wrongly when rounding or flushing is another. */
static const float odd[] = {0.1f, 3.4028235e38f, 1e-45f, 1.17549435e-38f, 16777217.0f, 0.3f, 1e-5f, -1e-40f};
enum { N_ODD = sizeof odd / sizeof odd[0], K = 96 };

typedef struct results {
    kiln_fingerprint graph, again;
    kiln_json_text text, plan;
    float y[3][4 + N_ODD];
} results;

static kiln_graph *build(const mode *m) {
    kiln_graph *g = NULL;
    kiln_status status;
    IN_MODE(m, status = kiln_graph_create(NULL, &g, NULL));
    assert_int_equal(status, KILN_OK);
    kiln_tensor x, w, y, part;
    IN_MODE(m, x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(K))));
    IN_MODE(m, w = kiln_input(g, "w", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(K))));
    IN_MODE(m,
            y = kiln_matmul(
                g, w, kiln_softmax(g, x, (kiln_tensor){0}, (kiln_softmax_attrs){.axis = -1, .scale = 0.3f})));
    IN_MODE(m, kiln_output(g, y, "y"));
    for (size_t i = 0; i < N_ODD; i++) {
        kiln_scale_attrs scale = {.scale = kiln_f32_const(odd[i]),
                                  .shift = kiln_f32_const(odd[(i + 2) % N_ODD])};
        char name[8] = {'z', (char)('0' + i), '\0'};
        IN_MODE(m, part = kiln_scale(g, y, scale));
        IN_MODE(m, kiln_output(g, part, name));
    }
    return g;
}

static void serial_for(void *context, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg) {
    (void)context;
    for (uint32_t i = 0; i < n; i++)
        body(arg, i);
}

/* On one thread, on two, and with the host's parallel_for. */
static void run(const mode *m, kiln_plan *plan, int how, float *out) {
    kiln_executor *e = NULL;
    kiln_session *s = NULL;
    kiln_status status;
    kiln_cpu_options options = {.threads = how == 0 ? 1 : 2, .parallel_for = how == 2 ? serial_for : NULL};
    IN_MODE(m, status = kiln_cpu_executor_create(NULL, &options, &e, NULL));
    assert_int_equal(status, KILN_OK);
    IN_MODE(m, status = kiln_session_create(plan, e, NULL, &s, NULL));
    assert_int_equal(status, KILN_OK);
    float *x = kiln_session_data(s, kiln_plan_tensor(plan, "x")),
          *w = kiln_session_data(s, kiln_plan_tensor(plan, "w"));
    for (int i = 0; i < 4 * K; i++)
        x[i] = (float)(i % 31) * 0.37f;
    for (int i = 0; i < K; i++)
        w[i] = i % 7 == 0 ? 1e-40f : 0.1f * (float)(i % 5);
    IN_MODE(m, status = kiln_session_warm(s, NULL, NULL, NULL));
    assert_int_equal(status, KILN_OK);
    for (int again = 0; again < 2; again++) {
        IN_MODE(m, status = kiln_run(s, NULL));
        assert_int_equal(status, KILN_OK);
    }
    memcpy(out, kiln_session_data(s, kiln_plan_tensor(plan, "y")), 4 * sizeof(float));
    for (size_t i = 0; i < N_ODD; i++) {
        char name[8] = {'z', (char)('0' + i), '\0'};
        memcpy(out + 4 + i, kiln_session_data(s, kiln_plan_tensor(plan, name)), sizeof(float));
    }
    IN_MODE(m, status = kiln_session_destroy(s, NULL));
    assert_int_equal(status, KILN_OK);
    IN_MODE(m, status = kiln_executor_destroy(e, NULL));
    assert_int_equal(status, KILN_OK);
}

static results all_of(const mode *m) {
    results r;
    kiln_status status;
    kiln_graph *g = build(m), *again = NULL;
    kiln_plan *plan = NULL;
    memset(&r, 0, sizeof r);
    IN_MODE(m, r.graph = kiln_graph_fingerprint(g));
    IN_MODE(m, status = kiln_graph_to_json(g, NULL, &r.text, NULL));
    assert_int_equal(status, KILN_OK);
    IN_MODE(m, status = kiln_graph_from_json(r.text.data, r.text.size, kiln_ops_builtin(), NULL, NULL, &again,
                                             NULL));
    assert_int_equal(status, KILN_OK);
    IN_MODE(m, r.again = kiln_graph_fingerprint(again));
    IN_MODE(m, status = kiln_bake(again, NULL, &plan, NULL));
    assert_int_equal(status, KILN_OK);
    IN_MODE(m, status = kiln_plan_to_json(plan, NULL, NULL, &r.plan, NULL));
    assert_int_equal(status, KILN_OK);
    IN_MODE(m, status = kiln_plan_check_json(r.plan.data, r.plan.size, kiln_ops_builtin(), NULL, NULL, NULL));
    assert_int_equal(status, KILN_OK);
    kiln_graph_destroy(again);
    /* What is refused leaves the mode alone, too. */
    IN_MODE(m, status = kiln_graph_from_json("{\"format\": 0.1", 14, kiln_ops_builtin(), NULL, NULL, &again,
                                             NULL));
    assert_int_equal(status, KILN_ERROR_FORMAT);
    for (int how = 0; how < 3; how++)
        run(m, plan, how, r.y[how]);
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    return r;
}

static void same_in_all_modes(void **state) {
    (void)state;
    results want = all_of(&modes[0]);
    for (size_t i = 0; i < N_MODES; i++) {
        results got = all_of(&modes[i]);
        if (got.text.size != want.text.size || memcmp(got.text.data, want.text.data, want.text.size) != 0)
            fail_msg("%s: another text: %s", modes[i].name, got.text.data);
        assert_int_equal(got.plan.size, want.plan.size);
        assert_memory_equal(got.plan.data, want.plan.data, want.plan.size);
        assert_true(got.graph.low == want.graph.low && got.graph.high == want.graph.high);
        if (got.again.low != want.graph.low || got.again.high != want.graph.high)
            fail_msg("%s: a text is read as another graph", modes[i].name);
        for (int how = 0; how < 3; how++)
            if (memcmp(got.y[how], want.y[0], sizeof want.y[0]) != 0)
                fail_msg("%s, executor %d: other bits", modes[i].name, how);
        kiln_json_text_free(&got.text);
        kiln_json_text_free(&got.plan);
    }
    kiln_json_text_free(&want.text);
    kiln_json_text_free(&want.plan);
}

/* An observer that does not put the mode back: neither the rest of its run nor later ones see it. */
static kiln_status leave_flushing(void *context, const kiln_observation *o) {
    (void)context;
    (void)o;
    set(&modes[N_MODES - 1]);
    return KILN_OK;
}

static void observer_changes_mode(void **state) {
    (void)state;
    enum { N = 1 << 16 };
    for (uint32_t threads = 1; threads <= 2; threads++) {
        kiln_graph *g;
        kiln_plan *plan;
        kiln_executor *executor;
        kiln_session *s;
        kiln_tap tap = {"first", KILN_WATCH_VALUES};
        CHECK_OK(kiln_graph_create(NULL, &g, error));
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(N)));
        kiln_scale_attrs half = {.scale = kiln_f32_const(0.5f)};
        kiln_tensor y = kiln_scale(g, x, half);
        kiln_name(g, y, "first");
        y = kiln_output(g, kiln_scale(g, kiln_scale(g, y, half), half), "y");
        CHECK_OK(kiln_bake(g, &(kiln_bake_options){.taps = &tap, .n_taps = 1}, &plan, error));
        CHECK_OK(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = threads}, &executor, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &s, error));
        float *in = kiln_session_data(s, x);
        const float *out = kiln_session_data(s, y);
        for (int k = 0; k < N; k++)
            in[k] = 8e-39f; /* below the smallest normal number, and so is an eighth of it */
        for (int run = 0; run < 6; run++) {
            CHECK_OK(kiln_session_observe(s, run < 3 ? KILN_WATCH_VALUES : 0, leave_flushing, NULL, error));
            kiln_status status = kiln_run(s, NULL);
            kiln__set_fp_mode(ours);
            assert_int_equal(status, KILN_OK);
            for (int k = 0; k < N; k++)
                if (!(out[k] > 0))
                    fail_msg("%u threads, run %d: element %d was flushed to zero", threads, run, k);
        }
        CHECK_OK(kiln_session_destroy(s, error));
        CHECK_OK(kiln_executor_destroy(executor, error));
        kiln_plan_release(plan);
        kiln_graph_destroy(g);
    }
}

int main(void) {
    ours = kiln__fp_mode();
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_in_all_modes),
                                       cmocka_unit_test(observer_changes_mode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
