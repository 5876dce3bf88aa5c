/* Sessions: bad use with its exact message, states, cancelling, and that many sessions of one plan do not
 * disturb each other.
 */
#include "kiln.h"
#include "check.h"
#include "extra_ops.h"
#include "fault_alloc.h"
#include "sanitized.h"
#include "tiny_model.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct world {
    kiln_graph *graph;
    kiln_executor *executor;
    kiln_plan *plan;
    kiln_session *session;
    kiln_tensor x, w, s, y;
    kiln_slot tokens, factor;
} world;

/* y = gate(factor · (x + w)), and the state s is overwritten with it. */
static void setup_threads(world *t, uint32_t threads) {
    memset(t, 0, sizeof *t);
    atomic_store(&test_gate_shared.closed, false);
    atomic_store(&test_gate_shared.fail, false);
    atomic_store(&test_gate_shared.returns, KILN_OK);
    atomic_store(&test_gate_shared.entered, 0);
    CHECK_OK(kiln_graph_create(NULL, &t->graph, error));
    kiln_graph *g = t->graph;
    t->tokens = kiln_slot_i64(g, "n_tokens", 0, 4);
    t->factor = kiln_slot_f32(g, "factor", 2.0f);
    kiln_dim shape[] = {kiln_sym(t->tokens), kiln_n(8)};
    t->x = kiln_input(g, "x", KILN_F32, 2, shape);
    t->w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(8)));
    t->s = kiln_state(g, "s", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(8)));
    kiln_scale_attrs by = {.scale = kiln_f32_of(t->factor)};
    kiln_tensor scaled = kiln_scale(g, kiln_add(g, t->x, t->w), by), gated;
    assert_int_equal(kiln_node_add(g, &test_gate_op, &scaled, 1, NULL, &gated), KILN_OK);
    kiln_name(g, gated, "gated");
    kiln_set_rows(g, t->s, gated, (kiln_tensor){0, 0}, (kiln_set_rows_attrs){0});
    t->y = kiln_output(g, kiln_copy(g, gated, KILN_F32), "y");
    CHECK_OK(kiln_bake(g, NULL, &t->plan, error));
    kiln_cpu_options options = {.threads = threads, .oversubscribe = true};
    CHECK_OK(kiln_cpu_executor_create(NULL, &options, &t->executor, error));
    CHECK_OK(kiln_session_create(t->plan, t->executor, NULL, &t->session, error));
}

static void teardown(world *t) {
    CHECK_OK(kiln_session_destroy(t->session, error));
    CHECK_OK(kiln_executor_destroy(t->executor, error));
    kiln_plan_release(t->plan);
    kiln_graph_destroy(t->graph);
}

static float weight[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static void bind_all(world *t, kiln_state_buffer **state) {
    CHECK_OK(kiln_session_bind(t->session, kiln_plan_storage(t->plan, "w"), weight, sizeof weight, error));
    CHECK_OK(kiln_state_buffer_create(NULL, 4 * 8 * 4, state, error));
    CHECK_OK(kiln_session_bind_state(t->session, kiln_plan_storage(t->plan, "s"), *state, error));
    CHECK_OK(kiln_session_set_i64(t->session, t->tokens, 3, error));
}

static void test_run(void **unused) {
    (void)unused;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        world t;
        kiln_state_buffer *state;
        setup_threads(&t, threads);
        bind_all(&t, &state);
        float *x = kiln_session_data(t.session, t.x), *y = kiln_session_data(t.session, t.y);
        for (int i = 0; i < 24; i++)
            x[i] = (float)i;
        CHECK_OK(kiln_run(t.session, error));
        for (int i = 0; i < 24; i++)
            assert_true(y[i] == 2.0f * ((float)i + weight[i % 8]));
        assert_memory_equal(kiln_state_buffer_data(state), y, 24 * sizeof(float));
        CHECK_OK(kiln_session_set_f32(t.session, t.factor, -1.0f, error));
        CHECK_OK(kiln_session_set_i64(t.session, t.tokens, 1, error));
        CHECK_OK(kiln_run(t.session, error));
        assert_true(y[7] == -15.0f && y[8] == 2.0f * (8 + 1)); /* row 1 is as the first run left it */
        CHECK_OK(kiln_session_set_i64(t.session, t.tokens, 0, error));
        CHECK_OK(kiln_run(t.session, error)); /* nothing to do, and that is fine */
        teardown(&t);
        CHECK_OK(kiln_state_buffer_destroy(state, error));
    }
}

static void test_bad_bindings(void **unused) {
    (void)unused;
    world t;
    setup_threads(&t, 1);
    kiln_fence fence;
    kiln_storage w = kiln_plan_storage(t.plan, "w"), s = kiln_plan_storage(t.plan, "s");
    CHECK_FAILS(kiln_submit(t.session, &fence, error), KILN_ERROR_BINDING,
                "weight 'w' (32 bytes) is not bound; call kiln_session_bind");
    CHECK_FAILS(kiln_session_bind(t.session, w, weight, 28, error), KILN_ERROR_BINDING,
                "storage 'w' needs 32 bytes, got 28");
    char text[128];
    char *odd = (char *)weight + 2;
    snprintf(text, sizeof text, "storage 'w' needs a pointer aligned to 4 bytes, got %p", (void *)odd);
    CHECK_FAILS(kiln_session_bind(t.session, w, odd, 32, error), KILN_ERROR_BINDING, text);
    CHECK_FAILS(kiln_session_bind(t.session, s, weight, 4096, error), KILN_ERROR_ARGUMENT,
                "storage 's' is of kind state; use kiln_session_bind_state");
    CHECK_FAILS(kiln_session_bind(t.session, (kiln_storage){999, w.graph}, weight, 32, error),
                KILN_ERROR_ARGUMENT, "unknown storage (id 999): not of this session's plan");
    /* A weight may be const, an output may not. */
    static const float constant[64] = {1, 2, 3, 4, 5, 6, 7, 8};
    CHECK_FAILS(
        kiln_session_bind_const(t.session, kiln_plan_storage(t.plan, "y"), constant, sizeof constant, error),
        KILN_ERROR_ARGUMENT,
        "storage 'y' is output: nodes write it, so its bytes cannot be const; use kiln_session_bind");
    CHECK_FAILS(kiln_session_bind_const(t.session, w, constant, 28, error), KILN_ERROR_BINDING,
                "storage 'w' needs 32 bytes, got 28");
    CHECK_FAILS(kiln_session_bind_const(t.session, (kiln_storage){999, w.graph}, constant, 32, error),
                KILN_ERROR_ARGUMENT, "unknown storage (id 999): not of this session's plan");
    CHECK_OK(kiln_session_bind_const(t.session, kiln_plan_storage(t.plan, "y"), NULL, 0, error));
    CHECK_OK(kiln_session_bind_const(t.session, w, constant, sizeof constant, error));
    CHECK_OK(kiln_session_bind(t.session, w, weight, sizeof weight, error));
    CHECK_FAILS(kiln_submit(t.session, &fence, error), KILN_ERROR_BINDING,
                "state 's' (128 bytes) is not bound; call kiln_session_bind_state");
    kiln_state_buffer *small, *state;
    CHECK_OK(kiln_state_buffer_create(NULL, 64, &small, error));
    CHECK_FAILS(kiln_session_bind_state(t.session, s, small, error), KILN_ERROR_BINDING,
                "storage 's' needs 128 bytes, got 64");
    CHECK_OK(kiln_state_buffer_create(NULL, 128, &state, error));
    CHECK_OK(kiln_session_bind_state(t.session, s, state, error));
    CHECK_FAILS(kiln_state_buffer_destroy(state, error), KILN_ERROR_BUSY,
                "the state buffer is bound 1 time by sessions and plans; unbind it (kiln_session_bind_state "
                "with NULL), or "
                "destroy them first");

    /* y and x on the same bytes: the plan was baked with them apart. */
    static float shared[64];
    CHECK_OK(kiln_session_bind(t.session, kiln_plan_storage(t.plan, "x"), shared, sizeof shared, error));
    CHECK_OK(
        kiln_session_bind(t.session, kiln_plan_storage(t.plan, "y"), shared + 8, sizeof shared - 32, error));
    CHECK_FAILS(kiln_submit(t.session, &fence, error), KILN_ERROR_BINDING,
                "'x' and 'y' overlap in memory and a node writes to one of them; they did not overlap when "
                "the plan was "
                "baked");
    CHECK_OK(kiln_session_bind(t.session, kiln_plan_storage(t.plan, "y"), shared + 32, 128, error));
    CHECK_OK(kiln_run(t.session, error)); /* adjacent is not overlapping */
    CHECK_OK(kiln_session_bind(t.session, kiln_plan_storage(t.plan, "y"), NULL, 0, error));
    /* Weights may share bytes with inputs: nothing writes them. */
    CHECK_OK(kiln_session_bind(t.session, w, shared, sizeof shared, error));
    CHECK_OK(kiln_run(t.session, error));
    teardown(&t);
    CHECK_OK(kiln_state_buffer_destroy(small, error));
    CHECK_OK(kiln_state_buffer_destroy(state, error));
}

static void test_bad_slots(void **unused) {
    (void)unused;
    world t;
    setup_threads(&t, 1);
    CHECK_FAILS(kiln_session_set_i64(t.session, t.tokens, 5, error), KILN_ERROR_LIMIT,
                "slot 'n_tokens' cannot be 5: the plan was baked for 0 to 4");
    CHECK_FAILS(kiln_session_set_i64(t.session, t.tokens, -1, error), KILN_ERROR_LIMIT,
                "slot 'n_tokens' cannot be -1: the plan was baked for 0 to 4");
    CHECK_FAILS(kiln_session_set_i64(t.session, t.factor, 1, error), KILN_ERROR_ARGUMENT,
                "slot 'factor' holds a float; use kiln_session_set_f32");
    CHECK_FAILS(kiln_session_set_f32(t.session, t.tokens, 1, error), KILN_ERROR_ARGUMENT,
                "slot 'n_tokens' holds an integer; use kiln_session_set_i64");
    CHECK_FAILS(kiln_session_set_i64(t.session, (kiln_slot){77, t.tokens.graph}, 1, error),
                KILN_ERROR_ARGUMENT, "unknown slot (id 77): not of this session's plan");
    assert_int_equal(kiln_session_get_i64(t.session, t.tokens), 0);
    teardown(&t);
}

static void wait_entered(int n) {
    while (atomic_load(&test_gate_shared.entered) < n)
        sched_yield();
}

static void test_busy(void **unused) {
    (void)unused;
    world t;
    kiln_state_buffer *state;
    kiln_fence fence, second;
    setup_threads(&t, 2);
    bind_all(&t, &state);
    atomic_store(&test_gate_shared.closed, true);
    CHECK_OK(kiln_submit(t.session, &fence, error));
    CHECK_FAILS(kiln_submit(t.session, &second, error), KILN_ERROR_BUSY,
                "kiln_submit: the session is running; wait for its fence first");
    CHECK_FAILS(kiln_session_destroy(t.session, error), KILN_ERROR_BUSY,
                "kiln_session_destroy: the session is running; wait for its fence first");
    CHECK_FAILS(kiln_session_set_i64(t.session, t.tokens, 1, error), KILN_ERROR_BUSY,
                "setting a slot: the session is running; wait for its fence first");
    CHECK_FAILS(kiln_session_bind(t.session, kiln_plan_storage(t.plan, "w"), weight, sizeof weight, error),
                KILN_ERROR_BUSY, "binding: the session is running; wait for its fence first");
    assert_false(kiln_fence_done(fence));
    wait_entered(1);
    CHECK_FAILS(kiln_wait(fence, 0, error), KILN_ERROR_TIMEOUT,
                "kiln_wait: not done after 0 ns; the run goes on");

    /* Another session that writes the same state is refused meanwhile; a state of its own is fine. */
    kiln_session *other;
    kiln_state_buffer *own;
    CHECK_OK(kiln_session_create(t.plan, t.executor, NULL, &other, error));
    CHECK_OK(kiln_session_bind(other, kiln_plan_storage(t.plan, "w"), weight, sizeof weight, error));
    CHECK_OK(kiln_session_bind_state(other, kiln_plan_storage(t.plan, "s"), state, error));
    CHECK_FAILS(kiln_submit(other, &second, error), KILN_ERROR_BUSY,
                "state 's' is in use by another running session, and that one writes it");
    CHECK_OK(kiln_state_buffer_create(NULL, 128, &own, error));
    CHECK_OK(kiln_session_bind_state(other, kiln_plan_storage(t.plan, "s"), own, error));
    CHECK_OK(kiln_run(other, error)); /* no tokens: done at once, although the first run still waits */
    CHECK_FAILS(kiln_executor_destroy(t.executor, error), KILN_ERROR_BUSY,
                "2 session(s) made on this executor still exist");

    atomic_store(&test_gate_shared.closed, false);
    CHECK_OK(kiln_wait(fence, -1, error));
    CHECK_OK(kiln_wait(fence, 0, error)); /* again: the same answer */
    assert_true(kiln_fence_done(fence));
    CHECK_OK(kiln_run(t.session, error));
    CHECK_FAILS(kiln_wait(fence, -1, error), KILN_ERROR_ARGUMENT,
                "kiln_wait: not the fence of this session's last submission");
    CHECK_OK(kiln_session_destroy(other, error));
    teardown(&t);
    CHECK_OK(kiln_state_buffer_destroy(state, error));
    CHECK_OK(kiln_state_buffer_destroy(own, error));
}

static void test_cancel_marks_dirty(void **unused) {
    (void)unused;
    world t;
    kiln_state_buffer *state;
    kiln_fence fence;
    setup_threads(&t, 2);
    bind_all(&t, &state);
    atomic_store(&test_gate_shared.closed, true);
    CHECK_OK(kiln_submit(t.session, &fence, error));
    wait_entered(1);
    kiln_cancel(fence);
    atomic_store(&test_gate_shared.closed, false);
    CHECK_FAILS(kiln_wait(fence, -1, error), KILN_ERROR_CANCELLED,
                "the run was cancelled; states it writes are marked dirty");
    assert_true(kiln_state_buffer_is_dirty(state));
    CHECK_FAILS(kiln_run(t.session, error), KILN_ERROR_DIRTY,
                "state 's' may be half written by a run that failed or was cancelled; restore it, then call "
                "kiln_state_buffer_acknowledge");
    kiln_state_buffer_acknowledge(state);
    CHECK_OK(kiln_run(t.session, error));
    kiln_cancel(fence); /* of an old submission: without effect */
    CHECK_OK(kiln_run(t.session, error));
    assert_false(kiln_state_buffer_is_dirty(state));

    atomic_store(&test_gate_shared.fail, true);
    CHECK_FAILS(kiln_run(t.session, error), KILN_ERROR_KERNEL, "node 'gated' (test_gate): told to fail");
    assert_true(kiln_state_buffer_is_dirty(state));
    atomic_store(&test_gate_shared.fail, false);
    kiln_state_buffer_acknowledge(state);
    CHECK_OK(kiln_run(t.session, error));
    teardown(&t);
    CHECK_OK(kiln_state_buffer_destroy(state, error));
}

/* Whatever a kernel returns, the run has failed, and waiting for it ends. */
static void test_kernel_statuses(void **unused) {
    (void)unused;
    for (uint32_t threads = 1; threads <= 2; threads++)
        for (int returns = 1; returns < KILN_STATUS_COUNT + 2; returns++) {
            world t;
            kiln_state_buffer *state;
            setup_threads(&t, threads);
            bind_all(&t, &state);
            atomic_store(&test_gate_shared.returns, returns);
            char text[200];
            snprintf(text, sizeof text, "node 'gated' (test_gate): the kernel returned %s",
                     kiln_status_name((kiln_status)returns));
            CHECK_FAILS(kiln_run(t.session, error), KILN_ERROR_KERNEL, text);
            assert_true(kiln_state_buffer_is_dirty(state));
            atomic_store(&test_gate_shared.returns, KILN_OK);
            teardown(&t);
            CHECK_OK(kiln_state_buffer_destroy(state, error));
        }
}

/* Two state storages in one buffer, as the graph says; one of them is written. */
static void test_one_buffer_twice(void **unused) {
    (void)unused;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    kiln_state_buffer *state;
    kiln_cpu_options cpu = {.threads = 1};
    kiln_dim shape[] = {kiln_n(4), kiln_n(8)};
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    CHECK_OK(kiln_state_buffer_create(NULL, 128, &state, error));
    kiln_tensor a = kiln_state(g, "a", KILN_F32, 2, shape), b = kiln_state(g, "b", KILN_F32, 2, shape);
    kiln_storage_state(g, kiln_storage_of(g, a), state);
    kiln_storage_state(g, kiln_storage_of(g, b), state);
    kiln_tensor before = kiln_output(g, kiln_copy(g, b, KILN_F32), "before");
    kiln_accumulate(g, a, kiln_input(g, "x", KILN_F32, 2, shape), (kiln_tensor){0, 0});
    kiln_tensor after = kiln_output(g, kiln_copy(g, b, KILN_F32), "after");
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_FAILS(
        kiln_state_buffer_destroy(state, error), KILN_ERROR_BUSY,
        "the state buffer is bound 2 times by sessions and plans; unbind it (kiln_session_bind_state with "
        "NULL), or destroy them first");
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    float *x = kiln_session_data(session, kiln_plan_tensor(plan, "x"));
    for (int run = 0; run < 3; run++) {
        for (int i = 0; i < 32; i++)
            x[i] = 1;
        CHECK_OK(kiln_run(session, error));
        const float *p = kiln_session_data(session, before), *q = kiln_session_data(session, after);
        for (int i = 0; i < 32; i++)
            assert_true(p[i] == (float)run && q[i] == (float)run + 1);
    }
    kiln_session *other; /* the buffer is taken as one that is written, whichever storage comes last */
    kiln_fence fence, second;
    CHECK_OK(kiln_session_create(plan, executor, NULL, &other, error));
    CHECK_OK(kiln_submit(session, &fence, error));
    CHECK_FAILS(kiln_submit(other, &second, error), KILN_ERROR_BUSY,
                "state 'a' is in use by another running session, and that one writes it");
    CHECK_OK(kiln_wait(fence, -1, error));
    CHECK_OK(kiln_session_destroy(other, error));
    CHECK_OK(kiln_session_bind_state(session, kiln_plan_storage(plan, "a"), NULL, error)); /* unbound */
    CHECK_FAILS(kiln_run(session, error), KILN_ERROR_BINDING,
                "state 'a' (128 bytes) is not bound; call kiln_session_bind_state");
    CHECK_OK(kiln_session_destroy(session, error));
    CHECK_OK(kiln_executor_destroy(executor, error));
    kiln_plan_release(plan);
    CHECK_OK(kiln_state_buffer_destroy(state, error));
    kiln_graph_destroy(g);
}

/* Data that the graph knows is held to the same alignment as data that is bound. */
static void test_misaligned_in_graph(void **unused) {
    (void)unused;
    _Alignas(16) static unsigned char bytes[64];
    kiln_graph *g;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    kiln_cpu_options cpu = {.threads = 1};
    char text[200];
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(8)));
    kiln_storage_data(g, kiln_storage_of(g, w), bytes + 1, 32, 0);
    kiln_output(g, kiln_silu(g, w), "y");
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
    snprintf(text, sizeof text, "storage 'w' needs a pointer aligned to 4 bytes, got %p",
             (void *)(bytes + 1));
    CHECK_FAILS(kiln_session_create(plan, executor, NULL, &session, error), KILN_ERROR_BINDING, text);
    assert_null(session);
    CHECK_OK(kiln_executor_destroy(executor, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

/* The last record of the schedule needs more room than the last node of the program:
 * an earlier layout wrote past its memory. */
static kiln_status make_session(kiln_allocator allocator, void *unused) {
    (void)unused;
    kiln_graph *g = NULL;
    kiln_plan *plan = NULL;
    kiln_executor *executor = NULL;
    kiln_session *session = NULL;
    kiln_cpu_options cpu = {.threads = 1};
    kiln_dim shape[] = {kiln_n(4), kiln_n(32)};
    kiln_status status = kiln_graph_create(&allocator, &g, NULL);
    if (status == KILN_OK) {
        kiln_tensor x = kiln_input(g, "x", KILN_F32, 2, shape), s = kiln_state(g, "s", KILN_F32, 2, shape);
        kiln_tensor y = kiln_scale(g, x, (kiln_scale_attrs){kiln_f32_const(2), kiln_f32_const(0)});
        kiln_output(g, kiln_swiglu(g, kiln_add(g, y, x), x, KILN_ACT_SILU), "y"); /* last region */
        kiln_zero(g, s);                                                          /* first region */
        status = kiln_bake(g, NULL, &plan, NULL);
    }
    if (status == KILN_OK)
        status = kiln_cpu_executor_create(&allocator, &cpu, &executor, NULL);
    if (status == KILN_OK)
        status = kiln_session_create(plan, executor, &allocator, &session, NULL);
    (void)kiln_session_destroy(session, NULL);
    (void)kiln_executor_destroy(executor, NULL);
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    return status;
}

static void test_memory_bounds(void **unused) {
    (void)unused;
    assert_true(fault_alloc_every("a session", make_session, NULL) > 20);
}

static void test_bad_index_reaches_fence(void **unused) {
    (void)unused;
    kiln_graph *g;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    static float table[4][8];
    for (int i = 0; i < 32; i++)
        table[i / 8][i % 8] = (float)(i + 1);
    kiln_tensor ids = kiln_input(g, "ids", KILN_I32, KILN_SHAPE(kiln_n(5)));
    kiln_tensor w = kiln_weight(g, "table", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(8)));
    kiln_storage_data(g, kiln_storage_of(g, w), table, sizeof table, 0);
    kiln_tensor rows = kiln_get_rows(g, w, ids);
    kiln_name(g, rows, "lookup");
    kiln_tensor y = kiln_output(g, kiln_silu(g, rows), "y");
    for (uint32_t threads = 1; threads <= 4; threads++) {
        kiln_plan *plan;
        kiln_executor *executor;
        kiln_session *session;
        kiln_cpu_options options = {.threads = threads, .oversubscribe = true};
        CHECK_OK(kiln_bake(g, NULL, &plan, error));
        CHECK_OK(kiln_cpu_executor_create(NULL, &options, &executor, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
        int32_t bad[5] = {3, 0, -7, 1, 99}, good[5] = {0, 1, 2, 3, 3};
        memcpy(kiln_session_data(session, ids), bad, sizeof bad);
        CHECK_FAILS(kiln_run(session, error), KILN_ERROR_INDEX,
                    "node 'lookup' (get_rows), row 2: index -7 is outside 0 to 3; the row was zeroed or its "
                    "write dropped");
        const float *out = kiln_session_data(session, y);
        for (int i = 0; i < 8; i++)
            assert_true(out[16 + i] == 0.0f && out[32 + i] == 0.0f && out[i] > 0.0f && out[24 + i] > 0.0f);
        memcpy(kiln_session_data(session, ids), good, sizeof good);
        CHECK_OK(kiln_run(session, error)); /* usable afterwards */
        CHECK_OK(kiln_session_destroy(session, error));
        CHECK_OK(kiln_executor_destroy(executor, error));
        kiln_plan_release(plan);
    }
    kiln_graph_destroy(g);
}

/* ---- a whole model ---------------------------------------------------------------------------------- */

static const int32_t prompt[] = {3, 14, 15, 9, 26, 5, 31, 8, 0, 7, 17, 22};

static void logits_of(uint32_t threads, const kiln_bake_options *options, int chunk, float *out) {
    kiln_graph *g;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    tiny_model m;
    tiny_states states;
    kiln_cpu_options cpu = {.threads = threads};
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    tiny_build(g, 2, &m);
    CHECK_OK(kiln_bake(g, options, &plan, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    tiny_bind_states(session, 2, &states);
    for (int past = 0; past < 12; past += chunk) {
        int n = 12 - past < chunk ? 12 - past : chunk;
        CHECK_OK(tiny_eval(session, &m, prompt, past, n, error));
        memcpy(out + past * TINY_VOCAB, kiln_session_data(session, m.logits), (size_t)n * TINY_VOCAB * 4);
    }
    CHECK_OK(kiln_session_destroy(session, error));
    tiny_free_states(&states);
    CHECK_OK(kiln_executor_destroy(executor, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

/* In the child of a fork, whatever a session was doing in the parent: every call answers, and all can be taken apart. */
static int in_child(world *t, kiln_fence fence) {
    kiln_error e;
    kiln_fence other;
    if (kiln_submit(t->session, &other, &e) != KILN_ERROR_SYSTEM || strstr(e.text, "fork") == NULL)
        return 1;
    if (kiln_run(t->session, &e) != KILN_ERROR_SYSTEM ||
        kiln_session_warm(t->session, NULL, NULL, &e) != KILN_ERROR_SYSTEM)
        return 2;
    if (fence.session != NULL && (kiln_wait(fence, -1, &e) != KILN_ERROR_SYSTEM ||
                                  strstr(e.text, "kiln_wait: the executor's threads stayed") == NULL))
        return 3;
    if (kiln_session_profile(t->session, 0, &e) != KILN_OK || kiln_session_destroy(t->session, &e) != KILN_OK)
        return 4;
    return kiln_executor_destroy(t->executor, &e) == KILN_OK ? 0 : 5;
}

static void fork_and_check(world *t, kiln_fence fence) {
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(20);
        _exit(in_child(t, fence));
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static atomic_bool submitting;

static void *submit_often(void *context) {
    world *t = context;
    while (atomic_load(&submitting)) {
        kiln_fence fence;
        kiln_error e;
        if (kiln_submit(t->session, &fence, &e) != KILN_OK || kiln_wait(fence, -1, &e) != KILN_OK)
            abort();
    }
    return NULL;
}

static void test_fork(void **unused) {
    (void)unused;
#if defined(SANITIZED)
    print_message("skipped: fork with threads is not supported under the sanitizers\n");
    skip();
#endif
    world t;
    pthread_t thread;
    kiln_state_buffer *state;
    setup_threads(&t, 3);
    bind_all(&t, &state);
    fork_and_check(&t, (kiln_fence){0});
    kiln_fence fence;
    atomic_store(&test_gate_shared.closed, true);
    CHECK_OK(kiln_submit(t.session, &fence, error));
    while (atomic_load(&test_gate_shared.entered) == 0)
        sched_yield();
    fork_and_check(&t, fence); /* in the middle of a run */
    atomic_store(&test_gate_shared.closed, false);
    CHECK_OK(kiln_wait(fence, -1, error));
    atomic_store(&submitting, true);
    assert_int_equal(pthread_create(&thread, NULL, submit_often, &t), 0);
    for (int i = 0; i < 50; i++) /* and anywhere else */
        fork_and_check(&t, (kiln_fence){0});
    atomic_store(&submitting, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    teardown(&t);
    CHECK_OK(kiln_state_buffer_destroy(state, error));
}

static void test_bit_identical(void **unused) {
    (void)unused;
    static float first[12 * TINY_VOCAB], other[12 * TINY_VOCAB];
    for (int precision = 0; precision < 2; precision++)
        for (int chunk = 1; chunk <= TINY_CHUNK; chunk += 3) {
            kiln_bake_options plain = {.precision = (kiln_precision)precision};
            logits_of(1, &plain, chunk, first);
            kiln_bake_options variants[] = {plain, plain, plain, plain};
            variants[1].no_reuse = true;
            variants[2].no_inplace = true;
            variants[3].serial = true;
            for (int v = 0; v < 4; v++)
                for (uint32_t threads = 1; threads <= 4; threads++) {
                    memset(other, 0, sizeof other);
                    logits_of(threads, &variants[v], chunk, other);
                    if (memcmp(first, other, sizeof first) != 0)
                        fail_msg("precision %d, chunk %d, variant %d, %u threads: other bits", precision,
                                 chunk, v, threads);
                }
            kiln_bake_options no_fuse = plain;
            no_fuse.no_fuse = KILN_FUSE_ALL;
            logits_of(1, &no_fuse, chunk, other);
            for (size_t i = 0; i < sizeof first / sizeof *first; i++)
                assert_float_equal(first[i], other[i], 1e-4f);
        }
}

typedef struct job {
    kiln_plan *plan;
    kiln_executor *executor;
    const tiny_model *model;
    float *logits;
    bool ok;
} job;

static void *run_job(void *context) {
    job *j = context;
    kiln_session *session;
    tiny_states states;
    CHECK_OK(kiln_session_create(j->plan, j->executor, NULL, &session, error));
    tiny_bind_states(session, 2, &states);
    for (int round = 0; round < 5; round++)
        for (int past = 0; past < 12; past++) {
            CHECK_OK(tiny_eval(session, j->model, prompt, past, 1, error));
            memcpy(j->logits + past * TINY_VOCAB, kiln_session_data(session, j->model->logits),
                   TINY_VOCAB * 4);
        }
    CHECK_OK(kiln_session_destroy(session, error));
    tiny_free_states(&states);
    j->ok = true;
    return NULL;
}

static void test_many_sessions(void **unused) {
    (void)unused;
    enum { JOBS = 4 };
    static float logits[JOBS][12 * TINY_VOCAB], alone[12 * TINY_VOCAB];
    kiln_graph *g;
    kiln_plan *plan;
    kiln_executor *executor;
    tiny_model m;
    kiln_cpu_options cpu = {.threads = 3};
    logits_of(1, NULL, 1, alone);
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    tiny_build(g, 2, &m);
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
    pthread_t threads[JOBS];
    job jobs[JOBS];
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (job){plan, executor, &m, logits[i], false};
        assert_int_equal(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
    }
    for (int i = 0; i < JOBS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].ok);
        assert_memory_equal(logits[i], alone, sizeof alone);
    }
    CHECK_OK(kiln_executor_destroy(executor, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

/* One thread submits and waits, others cancel, look and wait for the same fences:
 * every run ends in one of the two ways. */
typedef struct storm {
    pthread_mutex_t lock;
    kiln_fence fence; /* of the latest submission */
    atomic_bool stop;
    atomic_int seen;
} storm;

static void *disturb(void *context) {
    storm *s = context;
    for (uint32_t i = 1; !atomic_load(&s->stop); i++) {
        pthread_mutex_lock(&s->lock);
        kiln_fence fence = s->fence;
        pthread_mutex_unlock(&s->lock);
        if (fence.session == NULL)
            continue;
        if (i % 3 == 0)
            kiln_cancel(fence);
        (void)kiln_fence_done(fence);
        if (kiln_wait(fence, (int64_t)(i % 5) * 1000, NULL) != KILN_ERROR_TIMEOUT)
            atomic_fetch_add(&s->seen, 1);
        sched_yield();
    }
    return NULL;
}

static void test_cancel_storm(void **unused) {
    (void)unused;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        kiln_graph *g;
        kiln_plan *plan;
        kiln_executor *executor;
        kiln_session *session;
        tiny_model m;
        tiny_states states;
        kiln_cpu_options cpu = {.threads = threads};
        CHECK_OK(kiln_graph_create(NULL, &g, error));
        tiny_build(g, 2, &m);
        CHECK_OK(kiln_bake(g, NULL, &plan, error));
        CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
        CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
        tiny_bind_states(session, 2, &states);
        CHECK_OK(kiln_session_set_i64(session, m.tokens, 4, error));
        CHECK_OK(kiln_session_set_i64(session, m.length, 4, error));
        storm s = {.fence = {NULL, 0}};
        pthread_mutex_init(&s.lock, NULL);
        pthread_t others[2];
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&others[i], NULL, disturb, &s), 0);
        int done = 0, cancelled = 0;
        for (int i = 0; i < 300; i++) {
            kiln_fence fence;
            /* Submitting waits for nobody: the others may hold fences of the run before, which is over. */
            pthread_mutex_lock(&s.lock);
            kiln_status status = kiln_submit(session, &fence, NULL);
            s.fence = fence;
            pthread_mutex_unlock(&s.lock);
            assert_int_equal(status, KILN_OK);
            status = kiln_wait(fence, -1, NULL);
            assert_true(status == KILN_OK || status == KILN_ERROR_CANCELLED);
            done += status == KILN_OK;
            cancelled += status != KILN_OK;
            for (int b = 0; b < states.count; b++) {
                assert_true(status == KILN_OK ? !kiln_state_buffer_is_dirty(states.buffers[b]) : true);
                kiln_state_buffer_acknowledge(states.buffers[b]);
            }
        }
        atomic_store(&s.stop, true);
        for (int i = 0; i < 2; i++)
            pthread_join(others[i], NULL);
        pthread_mutex_destroy(&s.lock);
        assert_int_equal(done + cancelled, 300);
        CHECK_OK(kiln_session_destroy(session, error));
        tiny_free_states(&states);
        CHECK_OK(kiln_executor_destroy(executor, error));
        kiln_plan_release(plan);
        kiln_graph_destroy(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_bad_bindings),
        cmocka_unit_test(test_bad_slots),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_cancel_marks_dirty),
        cmocka_unit_test(test_bad_index_reaches_fence),
        cmocka_unit_test(test_kernel_statuses),
        cmocka_unit_test(test_one_buffer_twice),
        cmocka_unit_test(test_misaligned_in_graph),
        cmocka_unit_test(test_memory_bounds),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_bit_identical),
        cmocka_unit_test(test_many_sessions),
        cmocka_unit_test(test_cancel_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
