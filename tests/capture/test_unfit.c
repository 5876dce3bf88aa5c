/* Kernels of the user's own that say nonsense about their tiles and scratch: refused, with the node's name, when the session
 * is made, or when a run is started with counts that bring it out. */
#include "kiln.h"
#include "check.h"
#include "extra_ops.h"

static int64_t minus_one(const kiln_args *args) {
    (void)args;
    return -1;
}

static int64_t too_many(const kiln_args *args) {
    (void)args;
    return INT64_C(1) << 31;
}

static int64_t enormous(const kiln_args *args) {
    (void)args;
    return INT64_MAX;
}

static bool never(const kiln_args *args) {
    (void)args;
    return false;
}

/* An op of the user's own whose kernel says nonsense: the node is named, whatever is wrong. */
static void test_unfit_kernels(void **unused) {
    (void)unused;
    static const struct {
        kiln_kernel kernel;
        kiln_status status;
        const char *text;
    } cases[] = {
        {{.name = "k", .tiles = minus_one},
         KILN_ERROR_OVERFLOW,
         "node 'mine': op 'cust': a negative number of tiles"},
        {{.name = "k", .tiles = too_many},
         KILN_ERROR_LIMIT,
         "node 'mine': op 'cust': more than 2147483647 tiles in one region"},
        {{.name = "k", .scratch = minus_one},
         KILN_ERROR_OVERFLOW,
         "node 'mine': op 'cust': the scratch of kernel k overflows"},
        {{.name = "k", .scratch = enormous},
         KILN_ERROR_OVERFLOW,
         "node 'mine': 9223372036854775807 bytes of scratch for each of 1 thread(s) overflow"},
        {{.name = "k", .supports = never},
         KILN_ERROR_UNSUPPORTED,
         "node 'mine': op 'cust' has no CPU kernel for (f32) -> (f32) at level base (of 1)"},
    };
    kiln_cpu_options cpu = {.threads = 1, .without = KILN_CPU_AVX2 | KILN_CPU_AVX512};
    kiln_executor *executor;
    CHECK_OK(kiln_cpu_executor_create(NULL, &cpu, &executor, error));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kiln_op cust = test_gate_op;
        kiln_kernel kernel = cases[i].kernel;
        kernel.run = test_gate_op.kernels[0].run;
        cust.name = "cust";
        cust.kernels = &kernel;
        kiln_graph *g;
        kiln_plan *plan;
        kiln_session *session;
        CHECK_OK(kiln_graph_create(NULL, &g, error));
        kiln_tensor x = kiln_silu(g, kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(8)))), y;
        assert_int_equal(kiln_node_add(g, &cust, &x, 1, NULL, &y), KILN_OK);
        kiln_name(g, y, "mine");
        kiln_output(g, kiln_silu(g, y), "y");
        CHECK_OK(kiln_bake(g, NULL, &plan, error));
        CHECK_FAILS(kiln_session_create(plan, executor, NULL, &session, error), cases[i].status,
                    cases[i].text);
        assert_null(session);
        kiln_plan_release(plan);
        kiln_graph_destroy(g);
    }
    CHECK_OK(kiln_executor_destroy(executor, error));
}

/* Nonsense for one row only. */
static int64_t at_one_row(const kiln_args *args) {
    const int64_t rows = args->out[0].ne[2];
    return rows == 1 ? -1 : rows == 2 ? INT64_C(1) << 31 : rows;
}

/* The same when a count changes: each call that starts a run names the node, and with other counts it runs. */
static void test_unfit_counts(void **unused) {
    (void)unused;
    kiln_op cust = test_gate_op;
    kiln_kernel kernel = cust.kernels[0];
    kiln_executor *executor;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_session *session;
    kiln_fence fence = {0};
    kernel.tiles = at_one_row;
    cust.name = "cust";
    cust.kernels = &kernel;
    CHECK_OK(kiln_cpu_executor_create(NULL, NULL, &executor, error));
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_slot n = kiln_slot_i64(g, "n", 1, 4);
    /* Not the first record: an outcome that was never written names that one. */
    kiln_tensor x = kiln_silu(g, kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(n), kiln_n(4)))), y;
    assert_int_equal(kiln_node_add(g, &cust, &x, 1, NULL, &y), KILN_OK);
    kiln_name(g, y, "mine");
    kiln_output(g, kiln_copy(g, y, KILN_F32), "y");
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    CHECK_FAILS(kiln_run(session, error), KILN_ERROR_OVERFLOW,
                "kiln_run: node 'mine' (cust): a negative number of tiles");
    CHECK_FAILS(kiln_submit(session, &fence, error), KILN_ERROR_OVERFLOW,
                "kiln_submit: node 'mine' (cust): a negative number of tiles");
    assert_null(fence.session); /* nothing was started, so nothing can be waited for */
    CHECK_OK(kiln_session_set_i64(session, n, 2, error));
    CHECK_FAILS(kiln_submit(session, &fence, error), KILN_ERROR_LIMIT,
                "kiln_submit: node 'mine' (cust): more than 2147483647 tiles in one region");
    CHECK_OK(kiln_session_set_i64(session, n, 3, error));
    CHECK_OK(kiln_run(session, error));
    CHECK_OK(kiln_session_destroy(session, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    CHECK_OK(kiln_executor_destroy(executor, error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unfit_kernels),
        cmocka_unit_test(test_unfit_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
