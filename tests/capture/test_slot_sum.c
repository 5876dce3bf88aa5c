/* Slots that are computed from others: what they come to, in shapes and attributes, in sessions, captures,
 * dumps and fingerprints; what is refused. */
#include "kiln.h"
#include "check.h"

#include <stdlib.h>

enum { T = 4, C = 16, H = 4 };

static kiln_executor *executor;

static int setup(void **unused) {
    (void)unused;
    CHECK_OK(kiln_cpu_executor_create(NULL, NULL, &executor, error));
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    CHECK_OK(kiln_executor_destroy(executor, error));
    return 0;
}

static kiln_graph *new_graph(void) {
    kiln_graph *g;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    return g;
}

/* ---- what is refused when it is declared --------------------------------------------------------------- */

static void test_refused_terms(void **unused) {
    (void)unused;
    kiln_graph *g = new_graph(), *other = new_graph();
    kiln_slot foreign = kiln_slot_i64(other, "a", 0, 1);
    for (int i = 0; i < 12; i++) {
        kiln_graph_reset(g);
        kiln_slot a = kiln_slot_i64(g, "a", -8, 8), far = kiln_slot_i64(g, "far", INT64_MIN, INT64_MAX);
        kiln_slot f = kiln_slot_f32(g, "f", 0), big = kiln_slot_i64(g, "big", 0, INT64_MAX / 2 + 1);
        const struct {
            kiln_dim terms[5];
            uint32_t n;
            int64_t min, max;
            const char *name;
            kiln_status status;
            const char *text;
        } cases[] = {
            {{{0, 0}}, 0, 0, 9, "s", KILN_ERROR_ARGUMENT, "slot 's': 0 terms; a sum has 1 to 4"},
            {{kiln_sym(a), kiln_sym(a), kiln_sym(a), kiln_sym(a), kiln_sym(a)},
             5,
             0,
             9,
             "s",
             KILN_ERROR_ARGUMENT,
             "slot 's': 5 terms; a sum has 1 to 4"},
            {{kiln_n(1), kiln_n(2)},
             2,
             0,
             9,
             "s",
             KILN_ERROR_ARGUMENT,
             "slot 's': no term of the sum is a slot"},
            {{kiln_sym(a), kiln_sym(f)},
             2,
             0,
             9,
             "s",
             KILN_ERROR_ARGUMENT,
             "slot 's': term 1 is not an integer slot of this graph, or was not found"},
            {{kiln_sym(foreign)},
             1,
             0,
             9,
             "s",
             KILN_ERROR_ARGUMENT,
             "slot 's': term 0 is not an integer slot of this graph, or was not found"},
            {{kiln_sym(kiln_slot_find(g, "none"))},
             1,
             0,
             9,
             "s",
             KILN_ERROR_ARGUMENT,
             "slot 's': term 0 is not an integer slot of this graph, or was not found"},
            {{kiln_sym(far), kiln_n(1)},
             2,
             0,
             9,
             "s",
             KILN_ERROR_OVERFLOW,
             "slot 's': with some values of its slots the sum does not fit 63 bits"},
            {{kiln_sym_times(far, -1)},
             1,
             0,
             9,
             "s",
             KILN_ERROR_OVERFLOW,
             "slot 's': with some values of its slots the sum does not fit 63 bits"},
            {{kiln_sym(big), kiln_sym(big)},
             2,
             0,
             9,
             "s",
             KILN_ERROR_OVERFLOW,
             "slot 's': with some values of its slots the sum does not fit 63 bits"},
            {{kiln_sym_times(big, INT64_MIN)},
             1,
             0,
             9,
             "s",
             KILN_ERROR_OVERFLOW,
             "slot 's': with some values of its slots the sum does not fit 63 bits"},
            {{kiln_sym(a)}, 1, 9, 0, "s", KILN_ERROR_ARGUMENT, "slot 's': min 9 is above max 0"},
            {{kiln_sym(a)}, 1, 0, 9, "a", KILN_ERROR_ARGUMENT, "slot name 'a' is taken already"},
        };
        kiln_slot s = kiln_slot_sum(g, cases[i].name, cases[i].min, cases[i].max, cases[i].n, cases[i].terms);
        assert_int_equal(s.id, 0);
        CHECK_FAILS(kiln_graph_check(g, error), cases[i].status, cases[i].text);
    }
    kiln_graph_reset(g);
    (void)kiln_slot_sum(g, "s", 0, 9, 1, NULL);
    CHECK_FAILS(kiln_graph_check(g, error), KILN_ERROR_ARGUMENT,
                "slot 's': 1 terms at NULL; a sum has 1 to 4");
    (void)kiln_slot_sum(g, "s", 0, 9, 1, NULL); /* after an error: nothing */
    kiln_graph_reset(g);                        /* the widest that fits */
    kiln_slot a = kiln_slot_i64(g, "a", INT64_MIN + 1, INT64_MAX);
    assert_int_not_equal(kiln_slot_sum(g, "s", 0, 9, 1, &(kiln_dim){-1, kiln_slot_ref(a)}).id, 0);
    CHECK_OK(kiln_graph_check(g, error));
    kiln_graph_destroy(g);
    kiln_graph_destroy(other);
}

/* ---- a graph with computed slots ----------------------------------------------------------------------- */

typedef struct model {
    kiln_graph *g;
    kiln_slot past, tokens, kv, first, left;
    kiln_tensor x, y, z;
} model;

/* y: the first n_kv rows of the cache after an append at n_past; z: rows appended at 2·n_past + 1. */
static void build(kiln_graph *g, model *m) {
    const kiln_tensor none = {0, 0};
    m->g = g;
    m->past = kiln_slot_i64(g, "n_past", 0, C);
    m->tokens = kiln_slot_i64(g, "n_tokens", 0, T);
    m->kv = kiln_slot_sum(g, "n_kv", 0, C, KILN_SHAPE(kiln_sym(m->past), kiln_sym(m->tokens)));
    m->first = kiln_slot_sum(g, "first", 0, 40, KILN_SHAPE(kiln_sym_times(m->past, 2), kiln_n(1)));
    m->left = kiln_slot_sum(g, "left", -T, C, KILN_SHAPE(kiln_n(C), kiln_sym_times(m->kv, -1)));
    m->x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(m->tokens), kiln_n(H)));
    kiln_tensor cache = kiln_zeros(g, KILN_SHAPE(kiln_n(C), kiln_n(H)));
    cache = kiln_set_rows(g, cache, m->x, none, (kiln_set_rows_attrs){.position = kiln_i64_of(m->past)});
    m->y = kiln_output(g, kiln_copy(g, kiln_slice(g, cache, 0, 0, kiln_sym(m->kv)), KILN_F32), "y");
    kiln_tensor wide = kiln_zeros(g, KILN_SHAPE(kiln_n(44), kiln_n(H)));
    m->z = kiln_output(
        g, kiln_set_rows(g, wide, m->x, none, (kiln_set_rows_attrs){.position = kiln_i64_of(m->first)}), "z");
    CHECK_OK(kiln_graph_check(g, error));
}

static void check_values(kiln_session *s, const model *m, int64_t past, int64_t tokens) {
    assert_int_equal(kiln_session_get_i64(s, m->past), past);
    assert_int_equal(kiln_session_get_i64(s, m->tokens), tokens);
    assert_int_equal(kiln_session_get_i64(s, m->kv), past + tokens);
    assert_int_equal(kiln_session_get_i64(s, m->first), 2 * past + 1);
    assert_int_equal(kiln_session_get_i64(s, m->left), C - past - tokens);
}

static void check_run(kiln_session *s, const model *m, int64_t past, int64_t tokens) {
    float *x = kiln_session_data(s, m->x), *y = kiln_session_data(s, m->y), *z = kiln_session_data(s, m->z);
    for (int i = 0; i < T * H; i++)
        x[i] = (float)(100 * past + i + 1);
    for (int i = 0; i < C * H; i++)
        y[i] = -1;
    CHECK_OK(kiln_run(s, error));
    check_values(s, m, past, tokens);
    for (int64_t i = 0; i < C * H; i++)
        assert_true(y[i] == (i >= (past + tokens) * H ? -1 : i < past * H ? 0 : x[i - past * H]));
    for (int64_t i = 0, from = (2 * past + 1) * H; i < 44 * H; i++)
        assert_true(z[i] == (i >= from && i < from + tokens * H ? x[i - from] : 0));
}

static void test_follows(void **unused) {
    (void)unused;
    model m;
    kiln_plan *plan;
    kiln_session *s;
    build(new_graph(), &m);
    CHECK_OK(kiln_bake(m.g, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &s, error));
    check_values(s, &m, 0, 0);
    check_run(s, &m, 0, 0);
    CHECK_OK(kiln_session_set_i64(s, m.tokens, 3, error));
    check_run(s, &m, 0, 3);
    /* In any order, over what is impossible on the way. */
    CHECK_OK(kiln_session_set_i64(s, m.past, 15, error));
    check_values(s, &m, 15, 3);
    CHECK_FAILS(
        kiln_run(s, error), KILN_ERROR_LIMIT,
        "kiln_run: slot 'n_kv' is n_past + n_tokens = 18; its bounds are 0 and 16; slots: n_past = 15, "
        "n_tokens = 3");
    CHECK_OK(kiln_session_set_i64(s, m.tokens, 1, error));
    check_run(s, &m, 15, 1);
    CHECK_OK(kiln_session_set_i64(s, m.tokens, 4, error));
    kiln_error text;
    assert_int_equal(kiln_run(s, &text), KILN_ERROR_LIMIT);
    assert_int_equal(kiln_run(s, &text), KILN_ERROR_LIMIT); /* again, though nothing has changed */
    CHECK_OK(kiln_session_set_i64(s, m.past, 7, error));
    check_run(s, &m, 7, 4);
    CHECK_OK(kiln_session_set_i64(s, m.past, 12, error)); /* back to a sum that it had before */
    check_run(s, &m, 12, 4);
    CHECK_FAILS(
        kiln_session_set_i64(s, m.kv, 5, error), KILN_ERROR_ARGUMENT,
        "slot 'n_kv' cannot be set: it is computed, as n_past + n_tokens; set what it is computed from");
    CHECK_FAILS(kiln_session_set_i64(s, m.first, 5, error), KILN_ERROR_ARGUMENT,
                "slot 'first' cannot be set: it is computed, as 2*n_past + 1; set what it is computed from");
    CHECK_FAILS(kiln_session_set_f32(s, m.kv, 5, error), KILN_ERROR_ARGUMENT,
                "slot 'n_kv' holds an integer; use kiln_session_set_i64");
    check_run(s, &m, 12, 4);
    CHECK_OK(kiln_session_destroy(s, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(m.g);
}

static void test_plan_slot_at(void **unused) {
    (void)unused;
    model m;
    kiln_plan *plan;
    kiln_slot_info info;
    build(new_graph(), &m);
    CHECK_OK(kiln_bake(m.g, NULL, &plan, error));
    assert_true(kiln_plan_slot_at(plan, 0, &info));
    assert_int_equal(info.n_terms, 0);
    assert_true(kiln_plan_slot_at(plan, 4, &info));
    assert_string_equal(info.name, "left");
    assert_true(info.min == -T && info.max == C && !info.is_float && info.n_terms == 2);
    assert_true(info.terms[0].n == C && info.terms[0].slot == 0);
    assert_true(info.terms[1].n == -1 && info.terms[1].slot == kiln_plan_slot(plan, "n_kv").id);
    kiln_plan_release(plan);
    kiln_graph_destroy(m.g);
}

/* ---- dumps --------------------------------------------------------------------------------------------- */

static void test_json(void **unused) {
    (void)unused;
    model m;
    kiln_json_text text, again;
    kiln_graph *loaded;
    kiln_plan *plan;
    build(new_graph(), &m);
    CHECK_OK(kiln_graph_to_json(m.g, NULL, &text, error));
    assert_non_null(strstr(text.data, "\"version\": 2,"));
    assert_non_null(strstr(text.data,
                           "{\"name\": \"n_kv\", \"type\": \"i64\", \"min\": 0, \"max\": 16, \"sum\": "
                           "[\"n_past\", \"n_tokens\"]}"));
    assert_non_null(strstr(text.data, "\"sum\": [{\"n\": 2, \"slot\": \"n_past\"}, 1]}"));
    assert_non_null(strstr(text.data, "\"sum\": [16, {\"n\": -1, \"slot\": \"n_kv\"}]}"));
    CHECK_OK(kiln_graph_from_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &loaded, error));
    CHECK_OK(kiln_graph_to_json(loaded, NULL, &again, error));
    assert_string_equal(text.data, again.data);
    kiln_fingerprint a = kiln_graph_fingerprint(m.g), b = kiln_graph_fingerprint(loaded);
    assert_true(a.low == b.low && a.high == b.high);
    kiln_json_text_free(&again);
    /* A plan dump has the version of its graph, and is checked. */
    CHECK_OK(kiln_bake(loaded, NULL, &plan, error));
    CHECK_OK(kiln_plan_match(plan, m.g, error));
    CHECK_OK(kiln_plan_to_json(plan, NULL, NULL, &again, error));
    assert_memory_equal(again.data, "{\n  \"format\": \"kiln.plan\",\n  \"version\": 2,", 42);
    CHECK_OK(kiln_plan_check_json(again.data, again.size, kiln_ops_builtin(), NULL, NULL, error));
    kiln_json_text_free(&again);
    kiln_plan_release(plan);
    kiln_json_text_free(&text);
    kiln_graph_destroy(loaded);
    kiln_graph_destroy(m.g);
}

static void test_json_refusals(void **unused) {
    (void)unused;
    static const struct {
        const char *version, *slot;
        kiln_status status;
        const char *text;
    } cases[] = {
        {"1", "\"min\":0,\"max\":9,\"sum\":[\"n\"]", KILN_ERROR_FORMAT,
         "$.slots[1].sum: a computed slot needs version 2 of this format"},
        {"2", "\"min\":0,\"max\":9,\"sum\":[]", KILN_ERROR_FORMAT, NULL},
        {"2", "\"min\":0,\"max\":9,\"sum\":[1,2,3,4,\"n\"]", KILN_ERROR_LIMIT, NULL},
        {"2", "\"min\":0,\"max\":9,\"sum\":[\"later\"]", KILN_ERROR_FORMAT,
         "$.slots[1].sum[0]: no slot is named \"later\""},
        {"2", "\"min\":0,\"max\":9,\"sum\":[\"s\"]", KILN_ERROR_FORMAT,
         "$.slots[1].sum[0]: no slot is named \"s\""},
        {"2", "\"min\":0,\"max\":9,\"sum\":[3]", KILN_ERROR_ARGUMENT,
         "$.slots[1]: slot 's': no term of the sum is a slot"},
        {"2", "\"min\":0,\"max\":9,\"sum\":[{\"n\":\"9223372036854775807\",\"slot\":\"n\"}]",
         KILN_ERROR_OVERFLOW,
         "$.slots[1]: slot 's': with some values of its slots the sum does not fit 63 bits"},
        {"2", "\"min\":0,\"max\":9,\"sum\":\"n\"", KILN_ERROR_FORMAT, NULL},
        {"2", "\"sum\":[\"n\"]", KILN_ERROR_FORMAT,
         "$.slots[1]: a slot of type i64 has \"min\" and \"max\", and no "
         "\"preset\""},
        {"3", "\"min\":0,\"max\":9", KILN_ERROR_UNSUPPORTED,
         "$.version: version 3; this library reads versions 1 to 2"},
        {"2", "\"min\":0,\"max\":9,\"sum\":[{\"n\":-3,\"slot\":\"n\"},\"-5\"]", KILN_ERROR_FORMAT,
         "$.slots[1].sum[1]: no slot is named \"-5\""},
        {"2", "\"min\":0,\"max\":9,\"sum\":[{\"n\":-3,\"slot\":\"n\"},-5]", KILN_OK, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        kiln_graph *g;
        kiln_error error = {KILN_OK, ""};
        int n = snprintf(
            text, sizeof text,
            "{\"format\":\"kiln.graph\",\"version\":%s,\"slots\":[{\"name\":\"n\",\"type\":\"i64\",\"min\":0,"
            "\"max\":4},{\"name\":\"s\",\"type\":\"i64\",%s},{\"name\":\"later\",\"type\":\"i64\",\"min\":0,"
            "\"max\":1}],\"storages\":[],\"tensors\":[],\"nodes\":[]}",
            cases[i].version, cases[i].slot);
        kiln_status status =
            kiln_graph_from_json(text, (size_t)n, kiln_ops_builtin(), NULL, NULL, &g, &error);
        if (status != cases[i].status || (cases[i].text != NULL && strcmp(error.text, cases[i].text) != 0))
            fail_msg("case %zu: %s \"%s\"", i, kiln_status_name(status), error.text);
        kiln_graph_destroy(g);
    }
}

/* ---- guards -------------------------------------------------------------------------------------------- */

/* How slot "s" is declared, in a graph that is otherwise the same. */
static void declare(kiln_graph *g, int how) {
    kiln_slot a = kiln_slot_i64(g, "a", 0, 4), b = kiln_slot_i64(g, "b", 0, 4), s;
    if (how == 0)
        s = kiln_slot_i64(g, "s", 0, 8);
    else if (how == 1)
        s = kiln_slot_sum(g, "s", 0, 8, KILN_SHAPE(kiln_sym(a), kiln_sym(b)));
    else if (how == 2)
        s = kiln_slot_sum(g, "s", 0, 8, KILN_SHAPE(kiln_sym(a), kiln_sym_times(b, 2)));
    else
        s = kiln_slot_sum(g, "s", 0, 8, KILN_SHAPE(kiln_sym(a)));
    kiln_output(g, kiln_silu(g, kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(s)))), "y");
}

static void test_fingerprint(void **unused) {
    (void)unused;
    kiln_graph *g[4];
    kiln_plan *plan;
    for (int i = 0; i < 4; i++)
        declare(g[i] = new_graph(), i);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++) {
            kiln_fingerprint a = kiln_graph_fingerprint(g[i]), b = kiln_graph_fingerprint(g[k]);
            assert_true(a.low != b.low || a.high != b.high);
        }
    CHECK_OK(kiln_bake(g[1], NULL, &plan, error));
    CHECK_OK(kiln_plan_match(plan, g[1], error));
    CHECK_FAILS(kiln_plan_match(plan, g[0], error), KILN_ERROR_STALE,
                "the plan is stale: slot 's' was 'a + b', is 'set'");
    CHECK_FAILS(kiln_plan_match(plan, g[2], error), KILN_ERROR_STALE,
                "the plan is stale: slot 's' was 'a + b', is 'a + 2*b'");
    CHECK_FAILS(kiln_plan_match(plan, g[3], error), KILN_ERROR_STALE,
                "the plan is stale: slot 's' was 'a + b', is 'a'");
    kiln_plan_release(plan);
    for (int i = 0; i < 4; i++)
        kiln_graph_destroy(g[i]);
}

static void test_capture(void **unused) {
    (void)unused;
    kiln_capture *capture;
    kiln_capture_counters counters;
    CHECK_OK(kiln_capture_create(executor, NULL, NULL, &capture, error));
    for (int i = 0; i < 3; i++) {
        model m;
        kiln_session *s;
        build(kiln_capture_begin(capture), &m);
        CHECK_OK(kiln_capture_end(capture, &s, error));
        CHECK_OK(kiln_session_set_i64(s, m.past, 2 * i, error));
        CHECK_OK(kiln_session_set_i64(s, m.tokens, 2, error));
        check_run(s, &m, 2 * i, 2);
    }
    kiln_capture_get_counters(capture, &counters);
    assert_true(counters.misses == 1 && counters.hits == 2);
    CHECK_OK(kiln_capture_destroy(capture, error));
}

/* A sum out of its bounds, by far, in another sum: the run is refused, and nothing overflows on the way
 * there. */
static void test_chain_out_of_bounds(void **unused) {
    (void)unused;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_session *s;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_slot a = kiln_slot_i64(g, "a", 0, INT64_C(1) << 62);
    kiln_slot b = kiln_slot_sum(g, "b", 0, 1, KILN_SHAPE(kiln_sym(a)));
    kiln_slot_sum(g, "t", 0, INT64_C(1) << 61, KILN_SHAPE(kiln_sym_times(b, INT64_C(1) << 61)));
    kiln_output(g, kiln_silu(g, kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(b)))), "y");
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &s, error));
    CHECK_OK(kiln_session_set_i64(s, a, INT64_C(1) << 62, error));
    CHECK_FAILS(kiln_run(s, error), KILN_ERROR_LIMIT,
                "kiln_run: slot 'b' is a = 4611686018427387904; its bounds are 0 and 1; slots: a = "
                "4611686018427387904");
    CHECK_OK(kiln_session_set_i64(s, a, 1, error));
    CHECK_OK(kiln_run(s, error));
    CHECK_OK(kiln_session_destroy(s, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_terms), cmocka_unit_test(test_follows),
        cmocka_unit_test(test_plan_slot_at),  cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_refusals), cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_capture),       cmocka_unit_test(test_chain_out_of_bounds),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
