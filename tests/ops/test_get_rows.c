#include "matmul_help.h"

static void oracle(const op_case *c, const op_values *in, op_values *out) {
    const op_values *table = &in[0], *ids = &in[1];
    (void)c;
    for (int64_t i = 0; i < ids->n; i++)
        for (int64_t j = 0; j < table->ne[3]; j++) {
            double id = ids->v[i];
            bool inside = id >= 0 && id < (double)table->ne[2];
            out->v[i * table->ne[3] + j] = inside ? table->v[(int64_t)id * table->ne[3] + j] : 0;
        }
}

#define GET_ROWS .op = &kiln__op_get_rows, .n_in = 2, .oracle = oracle

/* Dequantised rows are exact: no tolerance. */
static void every_table(void **state) {
    (void)state;
    for (int d = 0; d < N_WEIGHTS; d++)
        for (int64_t n = 256; n <= 6 * 1024; n *= 24) {
            char name[64];
            snprintf(name, sizeof name, "%s rows of %d", kiln_dtype_get(weight_dtypes[d])->name, (int)n);
            op_case c = {.name = name,
                         GET_ROWS,
                         .in = {{weight_dtypes[d], OP_DIMS(9, n)}, {KILN_I32, OP_DIMS(7), .hi = 8}}};
            op_case_run(&c);
        }
}

static void forms(void **state) {
    const op_case table[] = {
        {.name = "ids of two dimensions",
         GET_ROWS,
         .in = {{KILN_F32, OP_DIMS(9, 5)}, {KILN_U32, OP_DIMS(3, 4), .hi = 8}}},
        {.name = "ids of three dimensions, permuted",
         GET_ROWS,
         .in = {{KILN_F16, OP_DIMS(9, 5)}, {KILN_I32, OP_DIMS(2, 3, 4), .order = "102", .pad = 1, .hi = 8}}},
        {.name = "gaps between rows",
         GET_ROWS,
         .in = {{KILN_Q4_0, OP_DIMS(9, 64), .pad = 1}, {KILN_I32, OP_DIMS(50), .hi = 8}}},
        {.name = "no ids", GET_ROWS, .in = {{KILN_F32, OP_DIMS(9, 5)}, {KILN_I32, OP_DIMS(0)}}},
        {.name = "some ids of a symbol",
         GET_ROWS,
         .in = {{KILN_BF16, OP_DIMS(9, 5)}, {KILN_I32, OP_DIMS(3, 1), .slots = {0, 1}, .hi = 8}},
         .slots = {{false, 0, 6, 4, 0}},
         .n_slots = 1},
        {.name = "ids out of range",
         GET_ROWS,
         .in = {{KILN_F32, OP_DIMS(9, 5)}, {KILN_I32, OP_DIMS(6), OP_DATA(8, 9, -1, 0, 2147483647, 3)}},
         .expect = KILN_ERROR_INDEX,
         .bad_row = 1,
         .bad_index = 9,
         .bad_limit = 9},
        {.name = "u32 ids out of range",
         GET_ROWS,
         .in = {{KILN_Q8_0, OP_DIMS(9, 32)}, {KILN_U32, OP_DIMS(4), OP_DATA(8, 3, 4294967295.0, 0)}},
         .expect = KILN_ERROR_INDEX,
         .bad_row = 2,
         .bad_index = 4294967295,
         .bad_limit = 9},
        {.name = "an empty table",
         GET_ROWS,
         .in = {{KILN_F32, OP_DIMS(0, 5)}, {KILN_I32, OP_DIMS(2), OP_DATA(0)}},
         .expect = KILN_ERROR_INDEX},
    };
    (void)state;
    OP_CASES_RUN(table);
}

static void refusals(void **state) {
    const op_case ids = {.name = "ids",
                         .op = &kiln__op_get_rows,
                         .n_in = 2,
                         .in = {{KILN_F32, OP_DIMS(9, 5)}, {KILN_F32, OP_DIMS(3)}}};
    const op_case dims = {.name = "dims",
                          .op = &kiln__op_get_rows,
                          .n_in = 2,
                          .in = {{KILN_F32, OP_DIMS(9, 5)}, {KILN_I32, OP_DIMS(1, 1, 1, 1)}}};
    const op_case table = {.name = "table",
                           .op = &kiln__op_get_rows,
                           .n_in = 2,
                           .in = {{KILN_I64, OP_DIMS(9, 5)}, {KILN_I32, OP_DIMS(1)}}};
    (void)state;
    op_case_refused(&ids, KILN_ERROR_DTYPE, "ids [3] is f32; it must be i32 or u32");
    op_case_refused(&dims, KILN_ERROR_SHAPE, "ids [1, 1, 1, 1] has 4 dimensions; it must have 1 to 3");
    op_case_refused(
        &table, KILN_ERROR_DTYPE,
        "table [9, 5] is i64; it must be f32, f16, bf16, q4_0, q5_1, q8_0, iq4_nl, q4_K, q5_K or q6_K");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table),
        cmocka_unit_test(forms),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
