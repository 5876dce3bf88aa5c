/* Indices out of range, one case for every op that reads them: what stands on the fence, word for word, on one
 * thread and on several, and that the session goes on to work. */
#include "kiln.h"
#include "check.h"

static const kiln_tensor none = {0, 0};
static kiln_graph *g;

/* Gives the tensor that holds the indices, or an invalid one. The node is named "it", its output stays. */
typedef kiln_tensor build_fn(void);

static void keep(kiln_tensor t) {
    kiln_name(g, t, "it");
}

static kiln_tensor floats(const char *name, int64_t rows, int64_t columns) {
    return kiln_input(g, name, KILN_F32, KILN_SHAPE(kiln_n(rows), kiln_n(columns)));
}

static kiln_tensor vector(kiln_dtype dtype, int64_t n) {
    return kiln_input(g, "ids", dtype, KILN_SHAPE(kiln_n(n)));
}

static kiln_tensor lookup(int64_t rows) {
    kiln_tensor ids = vector(KILN_I32, 4), y = kiln_get_rows(g, floats("table", rows, 8), ids);
    keep(y);
    kiln_output(g, y, "y");
    return ids;
}

static kiln_tensor get_rows(void) {
    return lookup(5);
}

static kiln_tensor get_rows_of_nothing(void) {
    return lookup(0);
}

static kiln_tensor experts(kiln_dtype dtype) {
    kiln_tensor w = kiln_input(g, "w", KILN_F32, KILN_SHAPE(kiln_n(3), kiln_n(4), kiln_n(8)));
    kiln_tensor ids = kiln_input(g, "ids", dtype, KILN_SHAPE(kiln_n(2), kiln_n(2)));
    kiln_tensor y = kiln_matmul_id(g, w, floats("x", 2, 8), ids);
    keep(y);
    kiln_output(g, y, "y");
    return ids;
}

static kiln_tensor matmul_id(void) {
    return experts(KILN_I32);
}

static kiln_tensor matmul_id_unsigned(void) {
    return experts(KILN_U32);
}

static kiln_tensor gather_topk(void) {
    kiln_tensor order = kiln_input(g, "ids", KILN_I32, KILN_SHAPE(kiln_n(2), kiln_n(2))), weights;
    kiln_gather_topk_attrs attrs = {.k = 2, .no_normalise = 1};
    kiln_tensor ids = kiln_gather_topk(g, floats("probs", 2, 2), order, none, attrs, &weights);
    keep(ids);
    kiln_output(g, weights, "y");
    return order;
}

/* set_rows into a fresh tensor: 4 rows, into `capacity`. */
static kiln_tensor append(int64_t capacity, kiln_dtype dtype, kiln_set_rows_attrs attrs) {
    kiln_dim shape[] = {kiln_n(capacity), kiln_n(8)};
    kiln_tensor dst = kiln_zeros(g, 2, shape), ids = dtype ? vector(dtype, 4) : none;
    kiln_tensor y = kiln_set_rows(g, dst, floats("rows", 4, 8), ids, attrs);
    keep(y);
    kiln_output(g, y, "y");
    return ids;
}

static kiln_tensor set_rows(void) {
    return append(5, KILN_I64, (kiln_set_rows_attrs){0});
}

static kiln_tensor set_rows_ring(void) {
    return append(5, KILN_I32, (kiln_set_rows_attrs){.ring = 1});
}

static kiln_tensor set_rows_ring_of_nothing(void) {
    return append(0, KILN_I32, (kiln_set_rows_attrs){.ring = 1});
}

static kiln_tensor set_rows_past_the_end(void) {
    return append(5, KILN_DTYPE_NONE, (kiln_set_rows_attrs){.position = kiln_i64_const(3)});
}

static kiln_tensor set_rows_before_the_start(void) {
    return append(5, KILN_DTYPE_NONE, (kiln_set_rows_attrs){.position = kiln_i64_const(-1)});
}

static kiln_tensor rope_set_rows(void) {
    kiln_rope_set_rows_attrs attrs;
    kiln_op_defaults(kiln_op_find(kiln_ops_builtin(), "rope_set_rows"), &attrs);
    kiln_dim shape[] = {kiln_n(5), kiln_n(8)};
    kiln_tensor dst = kiln_zeros(g, 2, shape), ids = vector(KILN_U32, 4);
    kiln_tensor y = kiln_rope_set_rows(g, dst, floats("x", 4, 8), none, ids, attrs);
    keep(y);
    kiln_output(g, y, "y");
    return ids;
}

/* `bad` and `good` are the indices, in the dtype of the tensor; without `good` they cannot be right. */
typedef struct bad_case {
    build_fn *build;
    int64_t bad[4], good[4];
    bool never; /* there is no good index */
    const char *text;
} bad_case;

#define ZEROED "; the row was zeroed or its write dropped"
static const bad_case cases[] = {
    {get_rows,
     {4, 5, -1, 0},
     {4, 3, 2, 0},
     false,
     "node 'it' (get_rows), row 1: index 5 is outside 0 to 4" ZEROED},
    {get_rows_of_nothing,
     {7, 0, 0, 0},
     {0},
     true,
     "node 'it' (get_rows), row 0: index 7, and there is nothing to choose from (0 rows)" ZEROED},
    {matmul_id,
     {2, 1, 0, -3},
     {0, 1, 2, 0},
     false,
     "node 'it' (matmul_id), row 3: index -3 is outside 0 to 2" ZEROED},
    {matmul_id_unsigned,
     {2, 0xffffffff, 0, 3},
     {0, 1, 2, 0},
     false,
     "node 'it' (matmul_id), row 1: index 4294967295 is outside 0 to 2" ZEROED},
    {gather_topk,
     {0, 1, 1, 2},
     {0, 1, 1, 0},
     false,
     "node 'it' (gather_topk), row 1: index 2 is outside 0 to 1" ZEROED},
    {set_rows,
     {0, 4, INT64_MIN, 5},
     {4, 3, 2, 1},
     false,
     "node 'it' (set_rows), row 2: index -9223372036854775808 is outside 0 to 4" ZEROED},
    {set_rows_ring,
     {0, 5, 7, -1},
     {5, 6, 7, 8},
     false,
     "node 'it' (set_rows), row 3: index -1 is outside 0 to 9223372036854775806" ZEROED},
    {set_rows_ring_of_nothing,
     {3, 0, 0, 0},
     {0},
     true,
     "node 'it' (set_rows), row 0: index 3, and there is nothing to choose from (0 rows)" ZEROED},
    {set_rows_past_the_end, {0}, {0}, true, "node 'it' (set_rows), row 2: index 5 is outside 0 to 4" ZEROED},
    {set_rows_before_the_start,
     {0},
     {0},
     true,
     "node 'it' (set_rows), row 0: index -1 is outside 0 to 4" ZEROED},
    {rope_set_rows,
     {1, 9, 2, 3},
     {1, 0, 2, 3},
     false,
     "node 'it' (rope_set_rows), row 1: index 9 is outside 0 to 4" ZEROED},
};

static void put_indices(kiln_session *session, kiln_tensor tensor, const int64_t *values) {
    void *at = kiln_session_data(session, tensor);
    kiln_tensor_info info;
    if (!kiln_tensor_valid(tensor))
        return;
    assert_int_equal(kiln_plan_tensor_get(kiln_session_plan(session), tensor, &info), KILN_OK);
    for (int i = 0; i < 4; i++)
        if (info.desc.dtype == KILN_I64)
            ((int64_t *)at)[i] = values[i];
        else
            ((uint32_t *)at)[i] = (uint32_t)values[i];
}

static void run_case(const bad_case *c, uint32_t threads) {
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    kiln_cpu_options options = {.threads = threads};
    kiln_graph_reset(g);
    kiln_tensor indices = c->build();
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_cpu_executor_create(NULL, &options, &executor, error));
    CHECK_OK(kiln_session_create(plan, executor, NULL, &session, error));
    put_indices(session, indices, c->bad);
    CHECK_FAILS(kiln_run(session, error), KILN_ERROR_INDEX, c->text);
    CHECK_FAILS(kiln_run(session, error), KILN_ERROR_INDEX, c->text);
    if (!c->never) {
        put_indices(session, indices, c->good);
        CHECK_OK(kiln_run(session, error));
    }
    CHECK_OK(kiln_session_destroy(session, error));
    CHECK_OK(kiln_executor_destroy(executor, error));
    kiln_plan_release(plan);
}

static void test_every_op(void **unused) {
    (void)unused;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (uint32_t threads = 1; threads <= 3; threads++)
            run_case(&cases[i], threads);
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_op)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
