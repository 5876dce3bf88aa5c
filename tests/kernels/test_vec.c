/* The vector functions of kernels/cpu/vec_math.h at every CPU level: largest errors against double, special
 * values, and that a value does not depend on where in a row it stands. */
#include "infer_util.h"
#include "tests/support/op_case.h"

#include "cpu/level.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

typedef void (*row_fn)(float *y, const float *x, int64_t n);

#define DECLARE(level, features, unused) void kiln__row_exp_##level(float *y, const float *x, int64_t n);
KILN_CPU_EACH(DECLARE, )
#undef DECLARE

static const row_fn exps[] = {
#define ROW(level, features, unused) kiln__row_exp_##level,
    KILN_CPU_EACH(ROW, )
#undef ROW
};

enum { PART = 4096 };

static float xs[PART], ys[PART];

/* Units in the last place of the float nearest to `want`. */
static double ulps(float got, double want) {
    float nearest = (float)want;
    if (got == nearest || (isnan(got) && isnan(want)))
        return 0;
    if (!isfinite(got) || !isfinite(nearest))
        return HUGE_VAL;
    int exponent;
    (void)frexp(want, &exponent);
    double unit = ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
    return fabs((double)got - want) / unit;
}

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Calls `apply` on every 2039th float of either sign up to `limit` (2.1 million in all), and returns the
 * largest error in units of the last place. */
static double sweep(void (*apply)(size_t level, int64_t n), size_t level, double (*want)(double),
                    float limit) {
    double worst = 0;
    int64_t n = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 2039) {
        xs[n] = float_of((uint32_t)bits);
        if (fabsf(xs[n]) <= limit)
            n++;
        if (n < PART && bits + 2039 <= UINT32_MAX)
            continue;
        apply(level, n);
        for (int64_t i = 0; i < n; i++)
            worst = fmax(worst, ulps(ys[i], want((double)xs[i])));
        n = 0;
    }
    return worst;
}

static void apply_exp(size_t level, int64_t n) {
    exps[level](ys, xs, n);
}

static void test_exp(void **state) {
    (void)state;
    static const float special[] = {0.0f,   -0.0f,   INFINITY, -INFINITY, NAN,      88.8f,
                                    1e30f,  FLT_MAX, -104.0f,  -1e30f,    -FLT_MAX, 88.72f,
                                    -87.4f, -100.0f, -103.9f,  1e-30f,    -1e-44f};
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++) {
        double worst = sweep(apply_exp, l, exp, INFINITY);
        printf("exp, %s: at most %.3f ulp\n", levels[l].name, worst);
        assert_true(worst < 1.0);
        for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
            exps[l](ys, &special[i], 1);
            assert_true(ulps(ys[0], exp((double)special[i])) < 1.0);
        }
        exps[l](ys, &special[0], 1);
        assert_true(ys[0] == 1.0f);
    }
}

/* ---- the functions that ops are made of ------------------------------------------------------------- */

static const kiln_op *current_op;
static const void *current_attrs;

/* Runs the op's kernel of this level over xs[0 … n-1] as one row. */
static void apply_op(size_t level, int64_t n) {
    kiln_operand x = {.data = (unsigned char *)xs,
                      .ne = {1, 1, 1, n},
                      .nb = {0, 0, 0, 4},
                      .dtype = KILN_F32,
                      .ndim = 1},
                 y = x;
    y.data = (unsigned char *)ys;
    kiln_args args = {1, 1, &x, &y, current_attrs};
    const kiln_kernel *k = &current_op->kernels[level];
    kiln_tile tile = {0, k->tiles(&args), NULL, NULL, false};
    assert_int_equal(k->run(&args, &tile), KILN_OK);
}

static double silu_of(double x) {
    return x / (1 + exp(-x));
}
static double tanh_of(double x) {
    return tanh(x);
}
static double gelu_erf_of(double x) {
    return 0.5 * x * erfc(-x / sqrt(2.0));
}
static double gelu_tanh_of(double x) {
    return x / (1 + exp(-2 * 0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static const kiln_softcap_attrs cap1 = {1};
static const kiln_gelu_attrs by_tanh = {0}, by_erf = {1};

static const struct {
    const char *name;
    const kiln_op *op;
    const void *attrs;
    double (*want)(double);
    float limit;  /* |x| up to which the error is measured */
    double bound; /* in units of the last place of the result */
} functions[] = {
    /* Errors of e^-x grow with |x| as those of its argument's rounding do; beyond the limits results are
     * below 10^-6 of x, and rounding the argument is most of the error. */
    {"silu", &kiln__op_silu, NULL, silu_of, 80, 2.5},
    {"tanh", &kiln__op_softcap, &cap1, tanh_of, INFINITY, 1.5},
    {"gelu by tanh", &kiln__op_gelu, &by_tanh, gelu_tanh_of, 3, 16},
    {"gelu by erf", &kiln__op_gelu, &by_erf, gelu_erf_of, 5, 14},
};

static void test_functions(void **state) {
    (void)state;
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++)
        for (size_t l = 0; l < n_levels; l++) {
            current_op = functions[f].op;
            current_attrs = functions[f].attrs;
            double worst = sweep(apply_op, l, functions[f].want, functions[f].limit);
            printf("%s, %s: at most %.3f ulp for |x| <= %g\n", functions[f].name, levels[l].name, worst,
                   (double)functions[f].limit);
            assert_true(worst < functions[f].bound);
        }
}

/* Rows of every length up to 70: each value as when it is alone. */
static void test_places(void **state) {
    (void)state;
    size_t n_levels;
    uint64_t random = 1;
    (void)op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++)
            for (int64_t n = 1; n <= 70; n++) {
                float row[70], together[70];
                for (int64_t i = 0; i < n; i++)
                    xs[i] = row[i] = (float)op_random_between(&random, -9, 9);
                current_op = functions[f].op;
                current_attrs = functions[f].attrs;
                apply_op(l, n);
                memcpy(together, ys, sizeof together);
                for (int64_t i = 0; i < n; i++) {
                    xs[0] = row[i];
                    apply_op(l, 1);
                    assert_memory_equal(&ys[0], &together[i], sizeof(float));
                }
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
