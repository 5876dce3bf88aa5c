/* copy and quantize: the two ops that only change how values are held. */
#include "matmul_help.h"

/* ---- copy ---------------------------------------------------------------------------------------------- */

/* The value as the target dtype holds it: exact. */
static void copy_oracle(const op_case *c, const op_values *in, op_values *out) {
    (void)c;
    for (int64_t i = 0; i < in->n; i++) {
        unsigned char held[8];
        op_encode(out->dtype, held, 0, in->v[i]);
        out->v[i] = op_decode(out->dtype, held, 0);
    }
}

static op_case copy_case(const char *name, const kiln_copy_attrs *to, op_in x) {
    return (op_case){
        .name = name, .op = &kiln__op_copy, .n_in = 1, .in = {x}, .attrs = to, .oracle = copy_oracle};
}

static void every_pair(void **state) {
    static const char *const orders[] = {NULL, "120", "021", "210"};
    static const kiln_dtype floats[] = {KILN_F32, KILN_F16, KILN_BF16};
    static const kiln_dtype ints[] = {KILN_I32, KILN_U32, KILN_I64, KILN_U8};
    (void)state;
    for (int f = 0; f < 3; f++)
        for (int t = 0; t < 3; t++)
            for (int o = 0; o < 4; o++) {
                char name[64];
                kiln_copy_attrs to = {(uint32_t)floats[t]};
                snprintf(name, sizeof name, "%d to %d, order %d", f, t, o);
                op_case c = copy_case(name, &to,
                                      (op_in){floats[f], OP_DIMS(3, 5, 70), .order = orders[o], .pad = o % 2,
                                              .lo = -7e4, .hi = 7e4});
                op_case_run(&c);
            }
    for (int i = 0; i < 4; i++)
        for (int o = 0; o < 4; o++) {
            char name[64];
            kiln_copy_attrs to = {(uint32_t)ints[i]};
            snprintf(name, sizeof name, "integer %d, order %d", i, o);
            op_case c =
                copy_case(name, &to, (op_in){ints[i], OP_DIMS(3, 5, 70), .order = orders[o], .hi = 200});
            op_case_run(&c);
        }
}

static void blocks(void **state) {
    static const kiln_copy_attrs to = {KILN_F32};
    (void)state;
    for (int d = 0; d < N_WEIGHTS; d++) {
        op_case c = copy_case(kiln_dtype_get(weight_dtypes[d])->name, &to,
                              (op_in){weight_dtypes[d], OP_DIMS(3, 2, 768), .order = "102", .pad = 1});
        op_case_run(&c);
        c.in[0] = (op_in){weight_dtypes[d], OP_DIMS(12 * 1024)}; /* one long row */
        op_case_run(&c);
    }
}

static void forms(void **state) {
    static const kiln_copy_attrs f32 = {KILN_F32}, f16 = {KILN_F16}, i32 = {KILN_I32};
    const op_case table[] = {
        copy_case("a long row", &f16, (op_in){KILN_F32, OP_DIMS(20000)}),
        copy_case("a repeated row", &f16, (op_in){KILN_F32, OP_DIMS(4, 30), .repeat = 1}),
        copy_case("a repeated column", &f32, (op_in){KILN_F32, OP_DIMS(4, 30), .repeat = 2}),
        copy_case("a repeated column, converted", &f32, (op_in){KILN_F16, OP_DIMS(4, 30), .repeat = 2}),
        copy_case("long rows of elements apart", &f32, (op_in){KILN_F16, OP_DIMS(3, 1300), .order = "10"}),
        copy_case("nothing", &f32, (op_in){KILN_F32, OP_DIMS(4, 0)}),
        copy_case("specials", &f16,
                  (op_in){KILN_F32, OP_DIMS(4, 8),
                          OP_DATA(NAN, (double)INFINITY, -(double)INFINITY, 65520, 1e-8, -0.0, 6e-8)}),
        copy_case("four dimensions", &i32, (op_in){KILN_I32, OP_DIMS(2, 3, 4, 5), .order = "3120"}),
    };
    op_case symbol = copy_case("a symbol inside", &f16,
                               (op_in){KILN_F32, OP_DIMS(3, 1, 6), .slots = {0, 1}, .order = "102"});
    (void)state;
    OP_CASES_RUN(table);
    symbol.n_slots = 1;
    symbol.slots[0] = (op_slot){false, 0, 5, 3, 0};
    op_case_run(&symbol);
}

/* ---- quantize ------------------------------------------------------------------------------------------ */

/* Half a step of a block of 32, or the rounding of the half. */
static void quantize_oracle(const op_case *c, const op_values *in, op_values *out) {
    if (out->dtype != KILN_Q8_A) {
        copy_oracle(c, in, out);
        return;
    }
    for (int64_t i = 0; i < in->n; i++) {
        double most = 0;
        for (int64_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
            most = fmax(most, fabs(in->v[j]));
        out->v[i] = in->v[i];
        out->slack[i] = most;
    }
}

static void quantised(void **state) {
    static const kiln_quantize_attrs forms[] = {{KILN_QUANT_Q8_A}, {KILN_QUANT_BF16}, {KILN_QUANT_F16}};
    static const kiln_dtype dtypes[] = {KILN_F32, KILN_F16, KILN_BF16};
    (void)state;
    for (int f = 0; f < 3; f++)
        for (int d = 0; d < 3; d++) {
            op_case c = {.name = "rows",
                         .op = &kiln__op_quantize,
                         .n_in = 1,
                         .in = {{dtypes[d], OP_DIMS(3, 5, 96), .order = "102", .pad = 1}},
                         .attrs = &forms[f],
                         .oracle = quantize_oracle,
                         .rel = f == 0 ? 0.5001 / 127 : 0};
            op_case_run(&c);
            c.in[0] = (op_in){dtypes[d], OP_DIMS(6400)};
            c.name = "a long row";
            op_case_run(&c);
            c.in[0] = (op_in){dtypes[d], OP_DIMS(1, 32), .slots = {1}};
            c.slots[0] = (op_slot){false, 0, 9, 4, 0};
            c.n_slots = 1;
            c.name = "a symbol";
            op_case_run(&c);
        }
}

static void refusals(void **state) {
    static const kiln_copy_attrs f32 = {KILN_F32}, q4 = {KILN_Q4_0}, none = {0}, f16 = {KILN_F16};
    static const kiln_quantize_attrs q8 = {KILN_QUANT_Q8_A}, no_quant = {KILN_QUANT_NONE};
    op_case c = copy_case("to blocks", &q4, (op_in){KILN_F32, OP_DIMS(4, 32)});
    (void)state;
    op_case_refused(&c, KILN_ERROR_DTYPE,
                    "x is f32 and cannot be copied to q4_0: floats go to f32, f16 or bf16, blocks to f32, "
                    "integers to their own dtype");
    c.attrs = &none;
    op_case_refused(&c, KILN_ERROR_ARGUMENT, "attribute dtype is 0, and has no default: set it, e.g. to f32");
    c = copy_case("integers to floats", &f32, (op_in){KILN_I32, OP_DIMS(4, 32)});
    op_case_refused(&c, KILN_ERROR_DTYPE,
                    "x is i32 and cannot be copied to f32: floats go to f32, f16 or bf16, blocks to f32, "
                    "integers to their own dtype");
    c = copy_case("blocks to halves", &f16, (op_in){KILN_Q8_0, OP_DIMS(4, 32)});
    op_case_refused(&c, KILN_ERROR_DTYPE,
                    "x is q8_0 and cannot be copied to f16: floats go to f32, f16 or bf16, blocks to f32, "
                    "integers to their own dtype");
    c = (op_case){.name = "odd rows",
                  .op = &kiln__op_quantize,
                  .n_in = 1,
                  .in = {{KILN_F32, OP_DIMS(4, 33)}},
                  .attrs = &q8};
    op_case_refused(&c, KILN_ERROR_SHAPE,
                    "rows of x [4, 33] do not divide into the 32 values of a q8_a block");
    c.attrs = &no_quant;
    op_case_refused(&c, KILN_ERROR_ARGUMENT,
                    "attribute quant is 0, and has no default: set it, e.g. to q8_a");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair), cmocka_unit_test(blocks),   cmocka_unit_test(forms),
        cmocka_unit_test(quantised),  cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
