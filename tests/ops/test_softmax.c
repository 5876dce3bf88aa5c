/* softmax along every axis, scaled and masked. */
#include "infer_util.h"
#include "tests/support/op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define F32(...)                                                                                             \
    { .dtype = KILN_F32, OP_DIMS(__VA_ARGS__) }
#define F16(...)                                                                                             \
    { .dtype = KILN_F16, OP_DIMS(__VA_ARGS__) }
#define U8(...)                                                                                              \
    { .dtype = KILN_U8, OP_DIMS(__VA_ARGS__), .lo = 0, .hi = 1 }

/* What the mask does to element i of x. */
static double masked(const op_values *x, const op_values *mask, int64_t i, double value) {
    int64_t at = 0, step = 1;
    if (mask->v == NULL)
        return value;
    for (int k = KILN_MAX_DIMS - 1; k >= 0; k--) {
        if (mask->ne[k] != 1)
            at += i % x->ne[k] * step;
        i /= x->ne[k];
        step *= mask->ne[k];
    }
    if (mask->dtype == KILN_U8)
        return mask->v[at] != 0 ? value : -(double)INFINITY;
    return value + mask->v[at];
}

static void oracle(const op_case *c, const op_values *in, op_values *out) {
    static const kiln_softmax_attrs preset = {-1, 1};
    const kiln_softmax_attrs *a = c->attrs ? c->attrs : &preset;
    const op_values *x = &in[0];
    int64_t axis = a->axis < 0 ? 4 + a->axis : 4 - (int64_t)x->ndim + a->axis, inner = 1, n = x->ne[axis];
    for (int64_t k = axis + 1; k < 4; k++)
        inner *= x->ne[k];
    for (int64_t i = 0; i < x->n; i++) {
        if (i / inner % n != 0)
            continue;
        double most = -(double)INFINITY, sum = 0;
        for (int64_t j = 0; j < n; j++) {
            double s = masked(x, &in[1], i + j * inner, (double)a->scale * x->v[i + j * inner]);
            out->v[i + j * inner] = s;
            most = fmax(most, s);
        }
        for (int64_t j = 0; j < n; j++) {
            double *y = &out->v[i + j * inner];
            *y = isinf(most) && most < 0 && !isnan(*y) ? 0 : exp(*y - (isinf(most) && most < 0 ? 0 : most));
            sum += *y;
        }
        for (int64_t j = 0; j < n; j++)
            out->v[i + j * inner] /= sum == 0 ? 1 : sum;
    }
}

#define CASE(title, attributes, count, ...)                                                                  \
    {                                                                                                        \
        .name = title, .op = &kiln__op_softmax, .n_in = count, .in = {__VA_ARGS__}, .attrs = attributes,     \
        .oracle = oracle, .rel = 1e-6, .abs = 1e-12                                                          \
    }

static const kiln_softmax_attrs scaled = {-1, 0.125f}, axis0 = {0, 1}, axis1 = {1, -2}, axis_m2 = {-2, 3},
                                axis_m3 = {-3, 1};

static void test_rows(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("row", NULL, 1, F32(37)),
        CASE("one element", NULL, 1, F32(3, 1)),
        CASE("rows", NULL, 1, {.dtype = KILN_F32, OP_DIMS(5, 3, 67), .lo = -30, .hi = 30}),
        CASE("long rows", NULL, 1, {.dtype = KILN_F32, OP_DIMS(3, 5003), .lo = -9, .hi = 9}),
        CASE("large values", NULL, 1, {.dtype = KILN_F32, OP_DIMS(4, 9), .lo = -3e38, .hi = 3e38}),
        CASE("f16", NULL, 1, F16(3, 100)),
        CASE("scaled", &scaled, 1, {.dtype = KILN_F32, OP_DIMS(3, 100), .lo = -50, .hi = 50}),
        CASE("strided", &scaled, 1, {.dtype = KILN_F32, OP_DIMS(3, 4, 33), .order = "102", .pad = 1}),
        CASE("empty rows", NULL, 1, F32(3, 0)),
        CASE("no rows", NULL, 1, F32(0, 3)),
        CASE("all -Inf", NULL, 1, {.dtype = KILN_F32, OP_DIMS(2, 3), OP_DATA(-(double)INFINITY)}),
        CASE("NaN fills its row", NULL, 1,
             {.dtype = KILN_F32,
              OP_DIMS(3, 3),
              OP_DATA((double)NAN, 1, 2, 1, 2, 3, (double)NAN, -(double)INFINITY, -(double)INFINITY)}),
        CASE("+Inf is NaN", NULL, 1, {.dtype = KILN_F32, OP_DIMS(2, 3), OP_DATA(1, (double)INFINITY, 2)}),
    };
    OP_CASES_RUN(cases);
}

static void test_masks(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("f32 mask", &scaled, 2, F32(5, 33), F32(5, 33)),
        CASE("mask row", NULL, 2, F32(2, 3, 33), F32(33)),
        CASE("mask repeated in the middle", NULL, 2, F32(2, 3, 4, 33), F32(2, 1, 4, 33)),
        CASE("u8 mask", &scaled, 2, F32(5, 33), U8(5, 33)),
        CASE("u8 mask row", NULL, 2, F16(2, 3, 33), U8(1, 33)),
        CASE("all left out", NULL, 2, F32(3, 9), {.dtype = KILN_U8, OP_DIMS(9), OP_DATA(0)}),
        CASE("left out, whatever is there", NULL, 2,
             {.dtype = KILN_F32, OP_DIMS(1, 4), OP_DATA((double)NAN, (double)INFINITY, 1, 2)},
             {.dtype = KILN_U8, OP_DIMS(4), OP_DATA(0, 0, 1, 1)}),
        CASE("-Inf in the mask", NULL, 2, F32(2, 3),
             {.dtype = KILN_F32,
              OP_DIMS(2, 3),
              OP_DATA(0, -(double)INFINITY, 1, -(double)INFINITY, -(double)INFINITY, -(double)INFINITY)}),
    };
    OP_CASES_RUN(cases);
}

static void test_axes(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("axis 0 of 2", &axis0, 1, {.dtype = KILN_F32, OP_DIMS(7, 33), .lo = -9, .hi = 9}),
        CASE("axis 0 of 3, several blocks", &axis0, 1, F32(5, 2, 600)),
        CASE("axis 1 of 3", &axis1, 1, F32(3, 5, 33)),
        CASE("axis -2 of 4", &axis_m2, 1, F32(2, 3, 5, 33)),
        CASE("axis -3 of 4", &axis_m3, 1, F16(2, 5, 3, 33)),
        CASE("axis 0 of 1", &axis0, 1, F32(33)),
        CASE("axis 1 of 3, mask", &axis1, 2, F32(3, 5, 33), F32(5, 33)),
        CASE("axis 0 of 3, u8 mask", &axis0, 2, F32(3, 5, 33), U8(3, 1, 33)),
        CASE("axis 0, long", &axis0, 1, F32(900, 3)),
        CASE("axis 1, empty", &axis1, 1, F32(3, 0, 5)),
        CASE("axis 0, special", &axis0, 1,
             {.dtype = KILN_F32,
              OP_DIMS(2, 4),
              OP_DATA((double)NAN, -(double)INFINITY, -(double)INFINITY, 1, 1, -(double)INFINITY, 1, 2)}),
    };
    OP_CASES_RUN(cases);
    op_case symbol = {.name = "axis 0 is a symbol",
                      .op = &kiln__op_softmax,
                      .n_in = 1,
                      .in = {{.dtype = KILN_F32, OP_DIMS(1, 9), .slots = {1}}},
                      .attrs = &axis0,
                      .slots = {{.min = 0, .max = 11, .value = 4}},
                      .n_slots = 1,
                      .oracle = oracle,
                      .rel = 1e-6};
    op_case_run(&symbol);
}

static void test_refusals(void **state) {
    (void)state;
    static const kiln_softmax_attrs far = {2, 1};
    const struct {
        op_case c;
        kiln_status status;
        const char *text;
    } cases[] = {
        {CASE("r0", &far, 1, F32(2, 3)), KILN_ERROR_SHAPE, "axis = 2; x [2, 3] has axes -2 to 1"},
        {CASE("r1", NULL, 2, F32(2, 3), F32(3, 3)), KILN_ERROR_SHAPE,
         "mask [3, 3] cannot be repeated to x [2, 3]: counted from the innermost, axes must be equal or 1"},
        {CASE("r2", NULL, 2, F32(2, 3), F32(2, 1)), KILN_ERROR_SHAPE,
         "axis 1 of mask [2, 1] is 1; it must be 3, axis 1 of x [2, 3]"},
        {CASE("r3", NULL, 2, F32(2, 3), F16(3)), KILN_ERROR_DTYPE, "mask [3] is f16; it must be f32 or u8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        op_case_refused(&cases[i].c, cases[i].status, cases[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_axes),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
