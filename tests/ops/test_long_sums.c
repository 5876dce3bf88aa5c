/* Sums of any length keep the bounds that ops/kiln_ops.h states, at every CPU level: what is measured here is how
 * far a result is from the same sum in double, relative to the sum of its terms' absolute values. */
#include "tests/support/check.h"
#include "tests/support/op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* What the elements of an operand are. */
typedef enum filling { EQUAL, RISING, RANDOM } filling;
static const char *const filling_names[] = {"equal", "rising", "random"};

/* Terms of one sign add their rounding errors up; random ones stand for all others. */
static double filled(filling f, int64_t i, int64_t n, uint64_t *seed) {
    return f == EQUAL ? 0.1 : f == RISING ? (double)(i + 1) / (double)n : op_random_between(seed, -1, 1);
}

static void fill(kiln_dtype dtype, void *to, int64_t n, filling f, uint64_t seed) {
    for (int64_t i = 0; i < n; i++)
        op_encode(dtype, to, i, filled(f, i, n, &seed));
}

static void expect_within(double bound, double got, double want, double size, const char *what,
                          const char *level, filling f, int64_t n) {
    if (!(fabs(got - want) <= bound * size))
        fail_msg(
            "%s at %s, %s terms, n = %lld: %.9g, expected %.9g: %.3g of the terms, at most %.3g is right",
            what, level, filling_names[f], (long long)n, got, want, fabs(got - want) / size, bound);
}

/* ---- attention -------------------------------------------------------------------------------------- */

enum { D = 4 };

typedef struct att {
    int64_t keys, queries;
    kiln_dtype cache;
    filling values;
    bool climbing; /* scores grow from block to block, so that numerators are rescaled all the time */
} att;

/* Keys whose scores, for queries of ones and scale 1, are multiples of 2^-10 and so exact. */
static double score_of(const att *a, int64_t j) {
    return a->climbing ? (double)(j * 8 / a->keys) / 1024.0 + (double)(j % 64) / 1024.0 : 0.0;
}

static void attend(const att *a, const op_level *level) {
    kiln_graph *g;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_dim d = kiln_n(D);
    kiln_tensor q = kiln_input(g, "q", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(a->queries), d));
    kiln_tensor k = kiln_input(g, "k", a->cache, KILN_SHAPE(kiln_n(1), kiln_n(a->keys), d));
    kiln_tensor v = kiln_input(g, "v", a->cache, KILN_SHAPE(kiln_n(1), kiln_n(a->keys), d));
    kiln_tensor y = kiln_attention(g, q, k, v, (kiln_tensor){0}, (kiln_attention_attrs){.scale = 1});
    eager *run = eager_new(g, level->cpu);
    float *qs = eager_data(run, q), *ys = eager_data(run, y);
    for (int64_t i = 0; i < a->queries * D; i++)
        qs[i] = i % D == 0;
    double sum = 0, want = 0, size = 0;
    fill(a->cache, eager_data(run, v), a->keys * D, a->values, 3);
    for (int64_t j = 0; j < a->keys; j++) {
        op_encode(a->cache, eager_data(run, k), j * D, score_of(a, j));
        double p = exp(score_of(a, j)), x = op_decode(a->cache, eager_data(run, v), j * D);
        sum += p;
        want += p * x;
        size += p * fabs(x);
    }
    assert_int_equal(eager_run(run, 1).status, KILN_OK);
    for (int64_t i = 0; i < a->queries; i++)
        expect_within(1e-6, (double)ys[i * D], want / sum, size / sum, "attention", level->name, a->values,
                      a->keys);
    eager_free(run);
    kiln_graph_destroy(g);
}

/* One query takes the form for few rows, 16 the one for many. */
static void test_attention(void **state) {
    (void)state;
    static const int64_t keys[] = {1, 63, 4096, 32768, 131072, 1 << 20};
    static const kiln_dtype caches[] = {KILN_F32, KILN_F16, KILN_BF16};
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++)
            for (int form = 0; form < 2; form++)
                for (size_t c = 0; c < 3; c++)
                    for (int f = EQUAL; f <= RANDOM; f++)
                        if (keys[k] < 1 << 20 || (f == EQUAL && c < 2)) {
                            attend(&(att){keys[k], form ? 16 : 1, caches[c], (filling)f, false}, &levels[l]);
                            if (c == 0 && keys[k] < 1 << 20)
                                attend(&(att){keys[k], form ? 16 : 1, caches[c], (filling)f, true},
                                       &levels[l]);
                        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
