/* What the descriptor of a custom op declares must fit together: its outputs, the operands that they lie on,
 * its in-place pairs and its accesses. Whatever does not is refused, with the node, the op and the operand
 * named. */
#include "kiln.h"
#include "check.h"

static kiln_graph *graph;

static int setup(void **unused) {
    (void)unused;
    CHECK_OK(kiln_graph_create(NULL, &graph, error));
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    kiln_graph_destroy(graph);
    return 0;
}

/* ---- ops: output y on operand `on`, or apart; accesses as the test says -------------------------------- */

static kiln_status infer_on_first(kiln_infer *infer) {
    infer->alias[0] = 0;
    return KILN_OK;
}

static kiln_status infer_both_on_first(kiln_infer *infer) {
    infer->alias[0] = infer->alias[1] = 0;
    return KILN_OK;
}

static kiln_status infer_apart(kiln_infer *infer) {
    infer->out[0] = *infer->in[0];
    return KILN_OK;
}

/* What the accesses under test name: the mode of each operand, 0 for none, and whether with an empty box. */
enum { EMPTY = 8 };
static unsigned modes[4];

static kiln_status accesses(const kiln_access_query *query) {
    for (uint32_t i = 0; i < query->n_in + query->n_out; i++) {
        kiln_access_mode mode = (kiln_access_mode)(modes[i] & 3);
        kiln_status status = modes[i] == 0      ? KILN_OK
                             : modes[i] & EMPTY ? kiln_access_box(query, i, mode, &(kiln_box){0})
                                                : kiln_access_operand(query, i, mode);
        if (status != KILN_OK)
            return status;
    }
    return KILN_OK;
}

static const char *const in_names[] = {"a", "b"}, *const out_names[] = {"y", "z"};

static kiln_op op_with(kiln_status (*infer)(kiln_infer *infer)) {
    return (kiln_op){.name = "custom",
                     .in_names = in_names,
                     .n_in_min = 1,
                     .n_in_max = 2,
                     .out_names = out_names,
                     .n_out = infer == infer_both_on_first ? 2 : 1,
                     .infer = infer,
                     .accesses = accesses};
}

/* Bakes "custom" on two intermediates of n elements. */
static kiln_status bake(const kiln_op *op, uint32_t n_in, int64_t n, kiln_error *error) {
    kiln_plan *plan = NULL;
    kiln_graph_reset(graph);
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(n)));
    kiln_tensor in[2] = {kiln_copy(graph, x, KILN_F32), kiln_copy(graph, x, KILN_F32)}, out[2];
    assert_int_equal(kiln_node_add(graph, op, in, n_in, NULL, out), KILN_OK);
    kiln_status status = kiln_bake(graph, NULL, &plan, error);
    kiln_plan_release(plan);
    return status;
}

#define SAYS(a, b, c, d) (modes[0] = (a), modes[1] = (b), modes[2] = (c), modes[3] = (d))

static void test_output_on_an_operand(void **unused) {
    (void)unused;
    kiln_op op = op_with(infer_on_first);
    const char *text = "node 'custom.2' (custom): its accesses: output y lies on operand a, and none writes "
                       "either; declare what the kernels write";
    SAYS(KILN_READ, 0, 0, 0);
    CHECK_FAILS(bake(&op, 1, 8, error), KILN_ERROR_ARGUMENT, text);
    SAYS(KILN_READ, KILN_READ, 0, 0); /* the output, declared as read */
    CHECK_FAILS(bake(&op, 1, 8, error), KILN_ERROR_ARGUMENT, text);
    SAYS(0, 0, 0, 0);
    CHECK_FAILS(bake(&op, 1, 8, error), KILN_ERROR_ARGUMENT, text);
    SAYS(KILN_READ, KILN_WRITE, 0, 0); /* by the output */
    CHECK_OK(bake(&op, 1, 8, error));
    SAYS(KILN_READ_WRITE, 0, 0, 0); /* by the operand it lies on */
    CHECK_OK(bake(&op, 1, 8, error));
    SAYS(KILN_READ, KILN_WRITE | EMPTY, 0, 0); /* a write of nothing, and said so */
    CHECK_OK(bake(&op, 1, 8, error));
    SAYS(KILN_READ, 0, 0, 0); /* nothing to write */
    CHECK_OK(bake(&op, 1, 0, error));
}

/* Two outputs on one operand are two names of the same bytes: one write serves. */
static void test_two_outputs_on_an_operand(void **unused) {
    (void)unused;
    kiln_op op = op_with(infer_both_on_first);
    SAYS(KILN_READ, 0, 0, 0);
    CHECK_FAILS(bake(&op, 1, 8, error), KILN_ERROR_ARGUMENT,
                "node 'custom.2' (custom): its accesses: output y lies on operand a, and none writes either; "
                "declare what the kernels write");
    SAYS(KILN_READ, 0, KILN_WRITE, 0);
    CHECK_OK(bake(&op, 1, 8, error));
}

static void test_output_apart(void **unused) {
    (void)unused;
    kiln_op op = op_with(infer_apart);
    const char *text = "node 'custom.2' (custom): its accesses: output y: none writes it; declare what the "
                       "kernels write of it";
    SAYS(KILN_READ, 0, 0, 0);
    CHECK_FAILS(bake(&op, 1, 8, error), KILN_ERROR_ARGUMENT, text);
    SAYS(KILN_READ_WRITE, KILN_READ, 0, 0); /* a write of the operand does not serve */
    CHECK_FAILS(bake(&op, 1, 8, error), KILN_ERROR_ARGUMENT, text);
    SAYS(KILN_READ, KILN_WRITE, 0, 0);
    CHECK_OK(bake(&op, 1, 8, error));
    SAYS(KILN_READ, KILN_WRITE | EMPTY, 0, 0);
    CHECK_OK(bake(&op, 1, 8, error));
    SAYS(KILN_READ, 0, 0, 0);
    CHECK_OK(bake(&op, 1, 0, error));
}

static void test_forgotten_operand(void **unused) {
    (void)unused;
    kiln_op op = op_with(infer_apart);
    SAYS(KILN_READ, 0, KILN_WRITE, 0);
    CHECK_FAILS(bake(&op, 2, 8, error), KILN_ERROR_ARGUMENT,
                "node 'custom.2' (custom): its accesses: operand 1 (b): none names it; if the kernels do not "
                "touch it, say so with an empty box");
    SAYS(KILN_READ, KILN_READ | EMPTY, KILN_WRITE, 0);
    CHECK_OK(bake(&op, 2, 8, error));
    SAYS(KILN_READ, 0, KILN_WRITE, 0);
    CHECK_OK(bake(&op, 2, 0, error));
}

/* An operand that is written must have separate bytes for each element, be it an output or not. */
static void test_written_views(void **unused) {
    (void)unused;
    kiln_op op = op_with(infer_apart);
    kiln_plan *plan;
    kiln_graph_reset(graph);
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(4))), out;
    kiln_tensor rows = kiln_broadcast(graph, kiln_copy(graph, x, KILN_F32), KILN_SHAPE(kiln_n(3), kiln_n(4)));
    assert_int_equal(kiln_node_add(graph, &op, &rows, 1, NULL, &out), KILN_OK);
    SAYS(KILN_WRITE, KILN_WRITE, 0, 0);
    CHECK_FAILS(
        kiln_bake(graph, NULL, &plan, error), KILN_ERROR_ARGUMENT,
        "node 'custom.1' (custom) declares that it writes to operand 0 (a), a view whose elements share "
        "bytes (broadcast, or strides that cross)");
    SAYS(KILN_READ, KILN_WRITE, 0, 0);
    CHECK_OK(kiln_bake(graph, NULL, &plan, error));
    kiln_plan_release(plan);
}

static void test_inplace_pairs(void **unused) {
    (void)unused;
    static const kiln_inplace no_input[] = {{0, 2}}, no_output[] = {{1, 0}}, repeated[] = {{0, 7}};
    kiln_op op = op_with(infer_apart);
    kiln_tensor x, out;
    op.inplace = no_input;
    op.n_inplace = 1;
    for (int i = 0; i < 2; i++) {
        kiln_graph_reset(graph);
        x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(4)));
        assert_int_equal(kiln_node_add(graph, &op, &x, 1, NULL, &out), KILN_ERROR_ARGUMENT);
        CHECK_FAILS(kiln_graph_check(graph, error), KILN_ERROR_ARGUMENT,
                    "kiln_node_add: the descriptor of op 'custom' has an in-place pair of an operand that it "
                    "does not have");
        op.inplace = no_output;
    }
    op.inplace = repeated; /* the last operand of a variadic op repeats */
    op.variadic = true;
    kiln_graph_reset(graph);
    x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(4)));
    assert_int_equal(kiln_node_add(graph, &op, &x, 1, NULL, &out), KILN_OK);
}

/* Appending rows that are all out of range writes nothing, which is not a fault of the op. */
static void test_append_of_nothing(void **unused) {
    (void)unused;
    kiln_plan *plan;
    kiln_graph_reset(graph);
    kiln_tensor cache = kiln_state(graph, "cache", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(8)));
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(8)));
    kiln_set_rows(graph, cache, x, (kiln_tensor){0, 0}, (kiln_set_rows_attrs){.position = kiln_i64_const(9)});
    CHECK_OK(kiln_bake(graph, NULL, &plan, error));
    kiln_plan_release(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_output_on_an_operand),
                                       cmocka_unit_test(test_output_apart),
                                       cmocka_unit_test(test_two_outputs_on_an_operand),
                                       cmocka_unit_test(test_forgotten_operand),
                                       cmocka_unit_test(test_written_views),
                                       cmocka_unit_test(test_inplace_pairs),
                                       cmocka_unit_test(test_append_of_nothing)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
