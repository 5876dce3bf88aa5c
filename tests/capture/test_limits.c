/* What the values of slots show to be impossible is refused when a run is submitted, before anything runs;
 * the error names the nodes, the slots and their values. What is possible runs. */
#include "kiln.h"
#include "check.h"
#include "extra_ops.h"

#include <stdlib.h>

enum { T = 4, C = 16, H = 8 };

static const kiln_tensor none = {0, 0};
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

/* ---- a decoder's attention ---------------------------------------------------------------------------- */

typedef struct shape {
    bool bidirectional, fixed_q, masked, roped, whole_cache, late_view, zeroed, by_indices, other_writer,
        fixed_v;
} shape;

typedef struct model {
    kiln_plan *plan;
    kiln_session *session;
    kiln_state_buffer *k, *v;
    kiln_slot tokens, past, kv;
} model;

static kiln_tensor append(kiln_graph *g, const model *m, shape s, kiln_tensor cache, kiln_tensor x,
                          bool rope) {
    kiln_set_rows_attrs at = {0};
    if (!s.fixed_v || rope)
        at.position = kiln_i64_of(m->past);
    kiln_rope_attrs turn = {.position = kiln_i64_of(m->past), .theta = 10000, .freq_scale = 1};
    kiln_tensor indices = none;
    if (s.by_indices)
        indices = kiln_input(g, rope ? "k_indices" : "v_indices", KILN_I32, KILN_SHAPE(kiln_sym(m->tokens)));
    if (s.zeroed)
        cache = kiln_zero(g, cache);
    /* Fused when the plan is baked. */
    if (s.roped && rope)
        x = kiln_rope(g, x, none, turn);
    return kiln_set_rows(g, cache, x, indices, at);
}

static kiln_tensor keys_of(kiln_graph *g, const model *m, shape s, kiln_tensor cache) {
    if (!s.whole_cache)
        cache = kiln_slice(g, cache, 0, s.late_view ? 2 : 0, kiln_sym(m->kv));
    return kiln_transpose(
        g,
        kiln_reshape(g, cache, 3,
                     (kiln_dim[]){s.whole_cache ? kiln_n(C) : kiln_sym(m->kv), kiln_n(1), kiln_n(H)}),
        0, 1);
}

static void build(shape s, model *m) {
    kiln_graph *g;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    m->tokens = kiln_slot_i64(g, "n_tokens", 0, T);
    m->past = kiln_slot_i64(g, "n_past", -1, C);
    m->kv = kiln_slot_i64(g, "n_kv", 0, s.late_view ? C - 2 : C);
    kiln_dim t = kiln_sym(m->tokens), cache[] = {kiln_n(C), kiln_n(H)};
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(t, kiln_n(H)));
    kiln_tensor k = append(g, m, s, kiln_state(g, "k", KILN_F32, 2, cache), x, true);
    kiln_name(g, k, "k.append");
    kiln_tensor v = append(g, m, s, kiln_state(g, "v", KILN_F32, 2, cache), x, false);
    kiln_name(g, v, "v.append");
    if (s.other_writer) {
        k = kiln_zero(g, k);
        v = kiln_zero(g, v);
    }
    kiln_tensor mask = none,
                q = kiln_transpose(g, kiln_reshape(g, x, KILN_SHAPE(t, kiln_n(1), kiln_n(H))), 0, 1);
    if (s.masked)
        mask = kiln_input(g, "mask", KILN_U8,
                          KILN_SHAPE(kiln_n(1), s.whole_cache ? kiln_n(C) : kiln_sym(m->kv)));
    kiln_attention_attrs attrs = {.causal = !s.bidirectional};
    if (!s.fixed_q)
        attrs.q_position = kiln_i64_of(m->past);
    kiln_tensor y = kiln_attention(g, q, keys_of(g, m, s, k), keys_of(g, m, s, v), mask, attrs);
    kiln_output(g, y, "y");
    CHECK_OK(kiln_bake(g, NULL, &m->plan, error));
    CHECK_OK(kiln_session_create(m->plan, executor, NULL, &m->session, error));
    CHECK_OK(kiln_state_buffer_create(NULL, C * H * 4, &m->k, error));
    CHECK_OK(kiln_state_buffer_create(NULL, C * H * 4, &m->v, error));
    CHECK_OK(kiln_session_bind_state(m->session, kiln_plan_storage(m->plan, "k"), m->k, error));
    CHECK_OK(kiln_session_bind_state(m->session, kiln_plan_storage(m->plan, "v"), m->v, error));
    kiln_graph_destroy(g);
}

static void destroy(model *m) {
    CHECK_OK(kiln_session_destroy(m->session, error));
    CHECK_OK(kiln_state_buffer_destroy(m->k, error));
    CHECK_OK(kiln_state_buffer_destroy(m->v, error));
    kiln_plan_release(m->plan);
}

static kiln_status run(const model *m, int64_t tokens, int64_t past, int64_t kv, kiln_error *why) {
    CHECK_OK(kiln_session_set_i64(m->session, m->tokens, tokens, error));
    CHECK_OK(kiln_session_set_i64(m->session, m->past, past, error));
    CHECK_OK(kiln_session_set_i64(m->session, m->kv, kv, error));
    return kiln_run(m->session, why);
}

static void test_lengths(void **unused) {
    (void)unused;
    model m;
    build((shape){0}, &m);
    CHECK_OK(run(&m, 0, 0, 0, error)); /* as a session begins */
    CHECK_OK(run(&m, 3, 0, 3, error));
    CHECK_OK(run(&m, 1, 3, 4, error));
    CHECK_OK(run(&m, 4, 12, 16, error));
    /* n_kv forgotten: as it was, or never set. */
    CHECK_FAILS(
        run(&m, 1, 4, 4, error), KILN_ERROR_LIMIT,
        "kiln_run: node 'y' (attention): it is causal, and 1 query from position 4 on goes beyond its 4 "
        "keys; slots: n_past = 4, n_tokens = 1, n_kv = 4");
    CHECK_FAILS(
        run(&m, 2, 0, 0, error), KILN_ERROR_LIMIT,
        "kiln_run: node 'y' (attention): it is causal, and 2 queries from position 0 on go beyond its 0 "
        "keys; slots: n_past = 0, n_tokens = 2, n_kv = 0");
    /* More keys than there are. */
    CHECK_FAILS(
        run(&m, 1, 4, 6, error), KILN_ERROR_LIMIT,
        "kiln_run: node 'y' (attention): it reads 6 keys, and the cache holds 5: read that many, append at "
        "another position, or give a mask (appended by node 'k.append', set_rows); slots: n_past = 4, "
        "n_tokens = 1, n_kv = 6");
    /* Beyond the cache. */
    CHECK_FAILS(
        run(&m, 4, 13, 16, error), KILN_ERROR_LIMIT,
        "kiln_run: node 'k.append' (set_rows): 4 rows from position 13 on do not fit the 16 rows of dst; "
        "slots: n_past = 13, n_tokens = 4");
    CHECK_FAILS(
        run(&m, 1, -1, 1, error), KILN_ERROR_LIMIT,
        "kiln_run: node 'k.append' (set_rows): 1 row from position -1 on does not fit the 16 rows of dst; "
        "slots: n_past = -1, n_tokens = 1");
    CHECK_OK(run(&m, 0, 16, 16, error)); /* nothing to append */
    /* Refused before anything ran: no state is dirty, and the next run is as good as any. */
    assert_false(kiln_state_buffer_is_dirty(m.k));
    CHECK_OK(run(&m, 1, 4, 5, error));
    destroy(&m);
}

/* Refused each time, by each way of running, until a slot changes. */
static void test_every_way(void **unused) {
    (void)unused;
    model m;
    kiln_fence fence = {0};
    build((shape){0}, &m);
    kiln_error text;
    assert_int_equal(run(&m, 2, 3, 3, &text), KILN_ERROR_LIMIT);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kiln_run(m.session, &text), KILN_ERROR_LIMIT);
        CHECK_FAILS(
            kiln_submit(m.session, &fence, error), KILN_ERROR_LIMIT,
            "kiln_submit: node 'y' (attention): it is causal, and 2 queries from position 3 on go beyond its "
            "3 keys; slots: n_past = 3, n_tokens = 2, n_kv = 3");
        assert_null(fence.session);
        CHECK_FAILS(
            kiln_session_warm(m.session, NULL, NULL, error), KILN_ERROR_LIMIT,
            "kiln_session_warm: node 'y' (attention): it is causal, and 2 queries from position 3 on go "
            "beyond its 3 keys; slots: n_past = 3, n_tokens = 2, n_kv = 3");
    }
    CHECK_OK(kiln_session_set_i64(m.session, m.kv, 5, error));
    CHECK_OK(kiln_session_warm(m.session, NULL, NULL, error));
    CHECK_OK(kiln_submit(m.session, &fence, error));
    CHECK_OK(kiln_wait(fence, -1, error));
    destroy(&m);
}

/* q_position left out of a decoder: right while nothing is in the cache, refused from then on. */
static void test_forgotten_q_position(void **unused) {
    (void)unused;
    model m;
    build((shape){.fixed_q = true}, &m);
    CHECK_OK(run(&m, 4, 0, 4, error));
    CHECK_FAILS(
        run(&m, 1, 4, 5, error), KILN_ERROR_LIMIT,
        "kiln_run: node 'y' (attention): q_position is the constant 0, and its 1 queries end before the last "
        "of the 5 rows of the cache that are filled: let q_position follow the slot at which rows are "
        "appended (appended by node 'k.append', set_rows); slots: n_tokens = 1, n_kv = 5, n_past = 4");
    destroy(&m);
    /* Also where the keys are the whole cache. */
    build((shape){.fixed_q = true, .whole_cache = true}, &m);
    CHECK_OK(run(&m, 4, 0, 0, error));
    kiln_error text;
    assert_int_equal(run(&m, 1, 4, 0, &text), KILN_ERROR_LIMIT);
    assert_non_null(strstr(text.text, "q_position is the constant 0"));
    destroy(&m);
    /* Both ways, the position does not matter. */
    build((shape){.fixed_q = true, .bidirectional = true}, &m);
    CHECK_OK(run(&m, 1, 4, 5, error));
    assert_int_equal(run(&m, 1, 4, 6, &text), KILN_ERROR_LIMIT);
    destroy(&m);
}

/* rope and set_rows are one node in the plan, under the same rules. */
static void test_fused(void **unused) {
    (void)unused;
    model m;
    kiln_error text;
    build((shape){.roped = true}, &m);
    CHECK_OK(run(&m, 4, 0, 4, error));
    assert_int_equal(run(&m, 4, 13, 16, &text), KILN_ERROR_LIMIT);
    assert_non_null(
        strstr(text.text, "node 'k.append' (rope_set_rows): 4 rows from position 13 on do not fit"));
    assert_int_equal(run(&m, 1, 4, 7, &text), KILN_ERROR_LIMIT);
    assert_non_null(strstr(text.text, "it reads 7 keys, and the cache holds 5"));
    assert_non_null(strstr(text.text, "(appended by node 'k.append', rope_set_rows)"));
    destroy(&m);
    build((shape){.roped = true, .fixed_q = true}, &m);
    assert_int_equal(run(&m, 1, 4, 5, &text), KILN_ERROR_LIMIT);
    destroy(&m);
}

/* Where it is not known what the cache holds, or a mask says what counts, only what is impossible by itself
 * is refused. */
static void test_what_is_possible(void **unused) {
    (void)unused;
    static const shape shapes[] = {{.masked = true},
                                   {.whole_cache = true},
                                   {.zeroed = true},
                                   {.by_indices = true},
                                   {.masked = true, .fixed_q = true},
                                   {.other_writer = true}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        model m;
        kiln_error text;
        build(shapes[i], &m);
        CHECK_OK(run(&m, 1, 4, 7, error));
        CHECK_OK(run(&m, 4, 12, 16, error));
        if (!shapes[i].whole_cache && !shapes[i].fixed_q)
            assert_int_equal(run(&m, 2, 4, 4, &text), KILN_ERROR_LIMIT);
        destroy(&m);
    }
}

/* Keys that begin at row 2 of the cache: key 0 is row 2. */
static void test_view_of_later_rows(void **unused) {
    (void)unused;
    model m;
    build((shape){.late_view = true, .bidirectional = true}, &m);
    CHECK_OK(run(&m, 1, 4, 3, error));
    kiln_error text;
    assert_int_equal(run(&m, 1, 4, 4, &text), KILN_ERROR_LIMIT);
    assert_non_null(strstr(text.text, "it reads 4 keys, and the cache holds 3"));
    assert_int_equal(run(&m, 1, 0, 1, &text), KILN_ERROR_LIMIT);
    assert_non_null(strstr(text.text, "it reads 1 keys, and the cache holds 0"));
    destroy(&m);
}

/* The position of the values' append was forgotten: their cache holds what one step wrote. */
static void test_values(void **unused) {
    (void)unused;
    model m;
    build((shape){.fixed_v = true}, &m);
    CHECK_OK(run(&m, 3, 0, 3, error));
    CHECK_FAILS(
        run(&m, 1, 3, 4, error), KILN_ERROR_LIMIT,
        "kiln_run: node 'y' (attention): it reads 4 values, and the cache holds 1: read that many, append at "
        "another position, or give a mask (appended by node 'v.append', set_rows); slots: n_past = 3, "
        "n_tokens = 1, n_kv = 4");
    destroy(&m);
}

/* Programs that are right although their appends do not say what the cache holds. */
static void test_other_caches(void **unused) {
    (void)unused;
    for (int how = 0; how < 2; how++) {
        kiln_graph *g;
        kiln_plan *plan;
        kiln_session *s;
        kiln_state_buffer *state;
        CHECK_OK(kiln_graph_create(NULL, &g, error));
        kiln_slot past = kiln_slot_i64(g, "n_past", 0, C - 1);
        kiln_tensor cache = kiln_state(g, "cache", KILN_F32, KILN_SHAPE(kiln_n(C), kiln_n(1), kiln_n(H)));
        kiln_tensor row = kiln_input(g, "row", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(1), kiln_n(H)));
        kiln_set_rows_attrs at = {.position = kiln_i64_of(past)};
        kiln_tensor q, keys;
        kiln_attention_attrs attrs = {.causal = how == 0};
        if (how == 0) { /* the first eight rows, whatever was appended since */
            q = kiln_input(g, "q", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(8), kiln_n(H)));
            keys = kiln_slice(g, kiln_set_rows(g, cache, row, none, at), 0, 0, kiln_n(8));
        } else { /* two rows are always written again, and the past is read before the new row joins it */
            kiln_tensor sink = kiln_input(g, "sink", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(1), kiln_n(H)));
            q = kiln_input(g, "q", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(1), kiln_n(H)));
            cache = kiln_set_rows(g, cache, sink, none, (kiln_set_rows_attrs){0});
            keys = kiln_slice(g, cache, 0, 0, kiln_sym(past));
        }
        keys = kiln_transpose(g, keys, 0, 1);
        kiln_output(g, kiln_attention(g, q, keys, keys, none, attrs), "y");
        if (how == 1)
            kiln_set_rows(g, cache, row, none, at);
        CHECK_OK(kiln_bake(g, NULL, &plan, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &s, error));
        CHECK_OK(kiln_state_buffer_create(NULL, C * H * 4, &state, error));
        CHECK_OK(kiln_session_bind_state(s, kiln_plan_storage(plan, "cache"), state, error));
        for (int64_t n = how == 0 ? 7 : 2; n < C; n++) {
            CHECK_OK(kiln_session_set_i64(s, past, n, error));
            CHECK_OK(kiln_run(s, error));
        }
        CHECK_OK(kiln_session_destroy(s, error));
        CHECK_OK(kiln_state_buffer_destroy(state, error));
        kiln_plan_release(plan);
        kiln_graph_destroy(g);
    }
}

/* A plan after a node that may write anything: nothing is known of the cache. */
static void test_opaque(void **unused) {
    (void)unused;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_session *session;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_slot past = kiln_slot_i64(g, "n_past", 0, C), kv = kiln_slot_i64(g, "n_kv", 0, C);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(H))), y;
    kiln_state_buffer *state;
    CHECK_OK(kiln_state_buffer_create(NULL, C * H * 4, &state, error));
    kiln_tensor k = kiln_state(g, "k", KILN_F32, KILN_SHAPE(kiln_n(C), kiln_n(H)));
    kiln_storage_state(g, kiln_storage_of(g, k), state);
    k = kiln_set_rows(g, k, x, none, (kiln_set_rows_attrs){.position = kiln_i64_of(past)});
    assert_int_equal(kiln_node_add(g, &test_opaque_op, &x, 1, NULL, &y), KILN_OK);
    k = kiln_reshape(g, kiln_slice(g, k, 0, 0, kiln_sym(kv)), KILN_SHAPE(kiln_n(1), kiln_sym(kv), kiln_n(H)));
    y = kiln_reshape(g, y, KILN_SHAPE(kiln_n(1), kiln_n(1), kiln_n(H)));
    kiln_output(g, kiln_attention(g, y, k, k, none, (kiln_attention_attrs){0}), "y");
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    CHECK_OK(kiln_session_set_i64(session, kv, 9, error));
    CHECK_OK(kiln_run(session, error));
    CHECK_OK(kiln_session_destroy(session, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    CHECK_OK(kiln_state_buffer_destroy(state, error));
}

/* ---- appends alone ------------------------------------------------------------------------------------- */

/* A ring takes any position; what only constants say is reported when it runs, as it is for indices. */
static void test_rings_and_constants(void **unused) {
    (void)unused;
    for (int ring = 0; ring < 2; ring++) {
        kiln_graph *g;
        kiln_plan *plan;
        kiln_session *session;
        CHECK_OK(kiln_graph_create(NULL, &g, error));
        kiln_slot past = kiln_slot_i64(g, "n_past", 0, 1000);
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(T), kiln_n(H)));
        kiln_tensor z = kiln_zeros(g, KILN_SHAPE(kiln_n(C), kiln_n(H)));
        kiln_set_rows_attrs at = {.position = ring ? kiln_i64_of(past) : kiln_i64_const(C - 1),
                                  .ring = (uint32_t)ring};
        kiln_output(g, kiln_set_rows(g, z, x, none, at), "y");
        CHECK_OK(kiln_bake(g, NULL, &plan, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
        CHECK_OK(kiln_session_set_i64(session, past, 900, error));
        if (ring)
            CHECK_OK(kiln_run(session, error));
        else
            CHECK_FAILS(
                kiln_run(session, error), KILN_ERROR_INDEX,
                "node 'y' (set_rows), row 1: index 16 is outside 0 to 15; the row was zeroed or its write "
                "dropped");
        CHECK_OK(kiln_session_destroy(session, error));
        kiln_plan_release(plan);
        kiln_graph_destroy(g);
    }
}

/* ---- an op of one's own -------------------------------------------------------------------------------- */

typedef struct half_attrs {
    kiln_i64_value position;
} half_attrs;

static int asked;

static kiln_status check_half(const kiln_check *check) {
    const half_attrs *a = check->args->attrs;
    asked++;
    if (kiln_check_count_follows(check, 0, 3) || kiln_check_count_follows(check, 9, 0) ||
        kiln_check_rows_held(check, 0, 2).rows != -1)
        return KILN_ERROR_KERNEL;
    if (check->args->in[0].ne[2] == 2)
        return KILN_ERROR_UNSUPPORTED;
    return a->position.value % 2 == 0
               ? KILN_OK
               : kiln_check_fail(check, "position %lld is odd", (long long)a->position.value);
}

/* Many nodes that are alike are asked for once, and only after a slot has changed; a status without a text
 * has one. */
static void test_custom(void **unused) {
    (void)unused;
    enum { LAYERS = 40 };
    static const kiln_attr fields[] = {
        {.name = "position", .type = KILN_ATTR_I64_SLOT, .offset = offsetof(half_attrs, position)}};
    kiln_op op = test_gate_op;
    op.attrs = fields;
    op.n_attrs = 1;
    op.attrs_size = sizeof(half_attrs);
    op.check = check_half;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_session *session;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_slot n = kiln_slot_i64(g, "n", 0, 4), at = kiln_slot_i64(g, "at", 0, 9),
              unused_slot = kiln_slot_i64(g, "u", 0, 9);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(n), kiln_n(H)));
    for (int i = 0; i < LAYERS; i++)
        assert_int_equal(kiln_node_add(g, &op, &x, 1, &(half_attrs){kiln_i64_of(at)}, &x), KILN_OK);
    kiln_output(g, x, "y");
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    asked = 0;
    for (int i = 0; i < 3; i++)
        CHECK_OK(kiln_run(session, error));
    assert_int_equal(asked, 1);
    CHECK_OK(kiln_session_set_i64(session, unused_slot, 3, error));
    CHECK_OK(kiln_session_set_i64(session, at, 4, error));
    CHECK_OK(kiln_run(session, error));
    assert_int_equal(asked, 2);
    CHECK_OK(kiln_session_set_i64(session, at, 5, error));
    CHECK_FAILS(kiln_run(session, error), KILN_ERROR_LIMIT,
                "kiln_run: node 'test_gate.0' (test_gate): position 5 is odd; slots: at = 5, n = 0");
    CHECK_OK(kiln_session_set_i64(session, n, 2, error));
    CHECK_FAILS(kiln_run(session, error), KILN_ERROR_UNSUPPORTED,
                "kiln_run: node 'test_gate.0' (test_gate): not supported here; slots: at = 5, n = 2");
    CHECK_OK(kiln_session_destroy(session, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_every_way),
        cmocka_unit_test(test_forgotten_q_position),
        cmocka_unit_test(test_fused),
        cmocka_unit_test(test_what_is_possible),
        cmocka_unit_test(test_view_of_later_rows),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_other_caches),
        cmocka_unit_test(test_opaque),
        cmocka_unit_test(test_rings_and_constants),
        cmocka_unit_test(test_custom),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
