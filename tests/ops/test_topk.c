/* gather_topk, top_k, argsort, argmax. */
#include "infer_util.h"
#include "tests/support/op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define F32(...)                                                                                             \
    { .dtype = KILN_F32, OP_DIMS(__VA_ARGS__) }
#define F16(...)                                                                                             \
    { .dtype = KILN_F16, OP_DIMS(__VA_ARGS__) }
#define I32(...)                                                                                             \
    { .dtype = KILN_I32, OP_DIMS(__VA_ARGS__) }
#define NONE                                                                                                 \
    { .dtype = KILN_DTYPE_NONE }
#define INF ((double)INFINITY)
#define NOT ((double)NAN)

/* ---- oracles: pick the best that is left, again and again ------------------------------------------- */

/* Does a come before b among the largest? */
static bool before(double a, double b) {
    return isnan(a) ? false : isnan(b) ? true : a > b;
}

static int64_t best_left(const double *x, int64_t n, const bool *taken) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || before(x[i], x[best])))
            best = i;
    return best;
}

static void largest(const double *x, int64_t n, int64_t k, double *ids) {
    bool *taken = calloc((size_t)n + 1, sizeof *taken);
    assert_non_null(taken);
    for (int64_t s = 0; s < k; s++) {
        int64_t best = best_left(x, n, taken);
        taken[best] = true;
        ids[s] = (double)best;
    }
    free(taken);
}

static void softmax(double *x, int64_t n) {
    double most = -INF, sum = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, x[i]);
    if (isinf(most) && most < 0)
        most = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - most);
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum == 0 ? 1 : sum;
}

static void gather_row(const kiln_gather_topk_attrs *a, double *p, int64_t n, const double *order,
                       const double *scale, double *ids, double *w) {
    double sum = 0;
    if (a->softmax == KILN_TOPK_SOFTMAX)
        softmax(p, n);
    if (order == NULL)
        largest(p, n, a->k, ids);
    for (int64_t s = 0; s < a->k; s++) {
        if (order != NULL)
            ids[s] = order[s];
        bool ok = ids[s] >= 0 && ids[s] < (double)n;
        w[s] = ok ? p[(int64_t)ids[s]] : a->softmax == KILN_TOPK_SOFTMAX_CHOSEN ? -INF : 0;
    }
    if (a->softmax == KILN_TOPK_SOFTMAX_CHOSEN)
        softmax(w, a->k);
    for (int64_t s = 0; s < a->k; s++)
        sum += w[s];
    for (int64_t s = 0; s < a->k; s++) {
        if (!a->no_normalise && a->softmax != KILN_TOPK_SOFTMAX_CHOSEN)
            w[s] = sum <= 0 ? 0 : w[s] / sum;
        if (scale != NULL && ids[s] >= 0 && ids[s] < (double)n)
            w[s] *= scale[(int64_t)ids[s]];
    }
}

static void gather_oracle(const op_case *c, const op_values *in, op_values *out) {
    const kiln_gather_topk_attrs *a = c->attrs;
    int64_t n = in[0].ne[3], rows = in[0].n / n;
    double *p = malloc((size_t)n * sizeof *p);
    assert_non_null(p);
    for (int64_t r = 0; r < rows; r++) {
        memcpy(p, in[0].v + r * n, (size_t)n * sizeof *p);
        gather_row(a, p, n, c->n_in > 1 && in[1].v ? in[1].v + r * n : NULL, c->n_in > 2 ? in[2].v : NULL,
                   out[0].v + r * a->k, out[1].v + r * a->k);
    }
    free(p);
}

static void top_oracle(const op_case *c, const op_values *in, op_values *out) {
    const kiln_top_k_attrs *a = c->attrs;
    int64_t n = in[0].ne[3];
    for (int64_t r = 0; r < in[0].n / n; r++) {
        largest(in[0].v + r * n, n, a->k, out[1].v + r * a->k);
        for (int64_t s = 0; s < a->k; s++)
            out[0].v[r * a->k + s] = in[0].v[r * n + (int64_t)out[1].v[r * a->k + s]];
    }
}

static void sort_oracle(const op_case *c, const op_values *in, op_values *out) {
    const kiln_argsort_attrs *a = c->attrs;
    int64_t n = in[0].ne[3];
    for (int64_t i = 0; n > 0 && i < in[0].n; i += n) {
        double *x = malloc((size_t)n * sizeof *x);
        assert_non_null(x);
        for (int64_t j = 0; j < n; j++)
            x[j] = a != NULL && a->descending ? in[0].v[i + j] : -in[0].v[i + j];
        largest(x, n, n, out[0].v + i);
        free(x);
    }
}

static void max_oracle(const op_case *c, const op_values *in, op_values *out) {
    (void)c;
    int64_t n = in[0].ne[3];
    for (int64_t r = 0; r < out[0].n; r++) {
        out[0].v[r] = -1;
        if (n > 0)
            largest(in[0].v + r * n, n, 1, out[0].v + r);
    }
}

/* ---- gather_topk ------------------------------------------------------------------------------------ */

#define CASE(title, descriptor, check, attributes, count, ...)                                               \
    {                                                                                                        \
        .name = title, .op = &kiln__op_##descriptor, .n_in = count, .in = {__VA_ARGS__},                     \
        .attrs = attributes, .oracle = check, .rel = 1e-6                                                    \
    }
#define GATHER(title, attributes, count, ...)                                                                \
    CASE(title, gather_topk, gather_oracle, attributes, count, __VA_ARGS__)

static const kiln_gather_topk_attrs k2 = {2, 0, KILN_TOPK_PROBS}, k2_raw = {2, 1, KILN_TOPK_PROBS},
                                    k2_soft = {2, 0, KILN_TOPK_SOFTMAX},
                                    k2_soft_raw = {2, 1, KILN_TOPK_SOFTMAX},
                                    k2_chosen = {2, 0, KILN_TOPK_SOFTMAX_CHOSEN},
                                    k8 = {8, 0, KILN_TOPK_SOFTMAX}, k60 = {60, 0, KILN_TOPK_SOFTMAX},
                                    k1 = {1, 0, KILN_TOPK_PROBS}, k3 = {3, 1, KILN_TOPK_PROBS},
                                    k9 = {9, 0, KILN_TOPK_PROBS};

static void test_gather(void **state) {
    (void)state;
    const op_case cases[] = {
        GATHER("probs", &k2, 1, {.dtype = KILN_F32, OP_DIMS(7, 8), .lo = 0, .hi = 1}),
        GATHER("probs as they are", &k2_raw, 1, F32(7, 8)),
        GATHER("softmax", &k2_soft, 1, F32(7, 8)),
        GATHER("softmax as they are", &k2_soft_raw, 1, F16(7, 8)),
        GATHER("softmax over the chosen", &k2_chosen, 1, F32(7, 8)),
        GATHER("many tokens", &k8, 1, F32(300, 64)),
        GATHER("long list", &k60, 1, F32(5, 200)),
        GATHER("k = E", &k8, 1, F32(5, 8)),
        GATHER("k = E = 60", &k60, 1, F32(3, 60)),
        GATHER("one expert", &k1, 1, F32(5, 1)),
        GATHER("no tokens", &k2, 1, F32(0, 8)),
        GATHER("scale", &k2_soft, 3, F32(7, 8), NONE, F32(8)),
        GATHER("scale of the chosen", &k2_chosen, 3, F32(7, 8), NONE, F32(8)),
        GATHER("strided", &k2_soft, 1, {.dtype = KILN_F32, OP_DIMS(7, 8), .pad = 3}),
        GATHER("ties go to the lowest id", &k3, 1,
               {.dtype = KILN_F32, OP_DIMS(2, 6), OP_DATA(1, 2, 2, 2, 2, 0, 0, -0.0, 0, -0.0, 0, -1)}),
        GATHER("NaN last", &k3, 1,
               {.dtype = KILN_F32,
                OP_DIMS(3, 4),
                OP_DATA(NOT, 1, NOT, 2, NOT, NOT, NOT, NOT, 5, NOT, -INF, NOT)}),
        GATHER("NaN router: distinct ids, NaN weights", &k2_soft, 1,
               {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(1, NOT, 3, 4)}),
        GATHER("NaN router, softmax over the chosen", &k2_chosen, 1,
               {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(NOT, NOT, NOT, 4, 1, NOT, 2, 3)}),
        GATHER("sum of 0 gives 0", &k2, 1, {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(0)}),
        GATHER("sum below 0 gives 0", &k2, 1, {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(-1, -2, -3, -4)}),
        GATHER("infinities", &k2, 1, {.dtype = KILN_F32, OP_DIMS(2, 4), OP_DATA(1, INF, 2, -INF)}),
        GATHER("order", &k2, 2, F32(3, 8), I32(3, 8)),
        GATHER("order with duplicates", &k3, 2, F32(2, 4),
               {.dtype = KILN_I32, OP_DIMS(2, 4), OP_DATA(1, 1, 2, 0, 3, 3, 3, 0)}),
        GATHER("order, softmax, scale", &k2_soft, 3, F32(3, 8), I32(3, 8), F32(8)),
        GATHER("order, softmax over the chosen", &k2_chosen, 2, F32(3, 8), I32(3, 8)),
        GATHER("order strided", &k2, 2, F32(3, 8), {.dtype = KILN_I32, OP_DIMS(3, 8), .pad = 2}),
    };
    OP_CASES_RUN(cases);
    op_case symbol = GATHER("symbol", &k2_soft, 1, {.dtype = KILN_F32, OP_DIMS(1, 8), .slots = {1}});
    symbol.slots[0] = (op_slot){.min = 0, .max = 9, .value = 4};
    symbol.n_slots = 1;
    op_case_run(&symbol);
    symbol.slots[0].value = 0;
    op_case_run(&symbol);
}

static void test_gather_bad_order(void **state) {
    (void)state;
    const kiln_gather_topk_attrs *modes[] = {&k3, &k2, &k2_soft, &k2_chosen};
    for (size_t i = 0; i < 4; i++) {
        op_case c =
            GATHER("order out of range", modes[i], 3, F32(3, 4),
                   {.dtype = KILN_I32, OP_DIMS(3, 4), OP_DATA(0, 1, 2, 3, 3, 4, -1, 0, -7, 9, 1, 1)}, F32(4));
        c.expect = KILN_ERROR_INDEX;
        c.bad_row = 1;
        c.bad_index = 4;
        c.bad_limit = 4;
        op_case_run(&c);
    }
}

/* softmax, then gather_topk is gather_topk on logits, bit for bit. */
static void test_gather_fused(void **state) {
    (void)state;
    static const int64_t experts[] = {1, 5, 8, 64, 200};
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (size_t e = 0; e < 5; e++) {
            kiln_graph *g;
            kiln_tensor none = {0, 0}, w1, w2;
            assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
            kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(33), kiln_n(experts[e])));
            kiln_gather_topk_attrs a = {experts[e] < 8 ? 1 : 8, 0, KILN_TOPK_SOFTMAX}, b = a;
            b.softmax = KILN_TOPK_PROBS;
            kiln_tensor ids1 = kiln_gather_topk(g, x, none, none, a, &w1);
            kiln_tensor p = kiln_softmax(g, x, none, (kiln_softmax_attrs){0});
            kiln_tensor ids2 = kiln_gather_topk(g, p, none, none, b, &w2);
            assert_int_equal(kiln_graph_check(g, NULL), KILN_OK);
            eager *run = eager_new(g, levels[l].cpu);
            uint64_t random = 11;
            for (int64_t i = 0; i < 33 * experts[e]; i++)
                ((float *)eager_data(run, x))[i] = (float)op_random_between(&random, -6, 6);
            assert_int_equal(eager_run(run, 3).status, KILN_OK);
            size_t bytes = (size_t)(33 * a.k * 4);
            assert_memory_equal(eager_data(run, ids1), eager_data(run, ids2), bytes);
            assert_memory_equal(eager_data(run, w1), eager_data(run, w2), bytes);
            eager_free(run);
            kiln_graph_destroy(g);
        }
}

/* ---- the others ------------------------------------------------------------------------------------- */

static void test_top_and_sort(void **state) {
    (void)state;
    static const kiln_top_k_attrs t1 = {1}, t5 = {5}, t32 = {32}, t33 = {33}, t70 = {70};
    static const kiln_argsort_attrs down = {1};
    const op_case cases[] = {
        CASE("top 1", top_k, top_oracle, &t1, 1, F32(70)),
        CASE("top 5", top_k, top_oracle, &t5, 1, F32(3, 2, 700)),
        CASE("top 5 of halves", top_k, top_oracle, &t5, 1, F16(3, 2, 300)),
        CASE("top 5, equal values", top_k, top_oracle, &t5, 1,
             {.dtype = KILN_F32, OP_DIMS(4, 333), OP_DATA(1, 2, 3, 3, 2, 1, 0)}),
        CASE("top 32", top_k, top_oracle, &t32, 1, F32(3, 400)),
        CASE("top 33", top_k, top_oracle, &t33, 1, F32(3, 400)),
        CASE("top 33, equal values", top_k, top_oracle, &t33, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 133), OP_DATA(1, 2, 3, 3, 2, 1, 0)}),
        CASE("top 70 of 70", top_k, top_oracle, &t70, 1, F32(2, 70)),
        CASE("top 5 with NaN", top_k, top_oracle, &t5, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 130), OP_DATA(NOT, NOT, 1, NOT, -INF, NOT, NOT, NOT, NOT, NOT)}),
        CASE("top 5, NaN among few", top_k, top_oracle, &t5, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 6), OP_DATA(NOT, NOT, 1, NOT, -INF, NOT)}),
        CASE("sort up", argsort, sort_oracle, NULL, 1, F32(5, 100)),
        CASE("sort down", argsort, sort_oracle, &down, 1, F32(5, 3, 100)),
        CASE("sort short", argsort, sort_oracle, NULL, 1, F32(9, 7)),
        CASE("sort one", argsort, sort_oracle, &down, 1, F32(9, 1)),
        CASE("sort f16, long", argsort, sort_oracle, NULL, 1, F16(2, 2000)),
        CASE("sort stable up", argsort, sort_oracle, NULL, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 90), OP_DATA(2, 1, 0, -0.0, 2, 1, 3)}),
        CASE("sort stable down", argsort, sort_oracle, &down, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 90), OP_DATA(2, 1, 0, -0.0, 2, 1, 3)}),
        CASE("sort NaN up", argsort, sort_oracle, NULL, 1,
             {.dtype = KILN_F32, OP_DIMS(2, 50), OP_DATA(2, NOT, -INF, INF, 2, NOT, 3)}),
        CASE("sort NaN down", argsort, sort_oracle, &down, 1,
             {.dtype = KILN_F32, OP_DIMS(4, 11), OP_DATA(2, NOT, -INF, INF, 2, NOT, 3)}),
        CASE("sort nothing", argsort, sort_oracle, NULL, 1, F32(3, 0)),
    };
    OP_CASES_RUN(cases);
}

static void test_argmax(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("max of a vector", argmax, max_oracle, NULL, 1, F32(1000)),
        CASE("max of rows", argmax, max_oracle, NULL, 1, F32(3, 4, 5, 67)),
        CASE("max of a long row", argmax, max_oracle, NULL, 1, F32(1, 40000)),
        CASE("max of halves", argmax, max_oracle, NULL, 1, F16(7, 700)),
        CASE("max of one", argmax, max_oracle, NULL, 1, F32(5, 1)),
        CASE("max, ties", argmax, max_oracle, NULL, 1,
             {.dtype = KILN_F32, OP_DIMS(3, 700), OP_DATA(1, 2, 3, 3, 1)}),
        CASE("max with NaN", argmax, max_oracle, NULL, 1,
             {.dtype = KILN_F32,
              OP_DIMS(4, 3),
              OP_DATA(NOT, 1, 2, NOT, NOT, NOT, NOT, -INF, NOT, INF, NOT, INF)}),
        CASE("max of -Inf", argmax, max_oracle, NULL, 1, {.dtype = KILN_F32, OP_DIMS(2, 600), OP_DATA(-INF)}),
        CASE("max of no rows", argmax, max_oracle, NULL, 1, F32(0, 5)),
    };
    OP_CASES_RUN(cases);
    op_case symbol = CASE("max of a row that may be empty", argmax, max_oracle, NULL, 1,
                          {.dtype = KILN_F32, OP_DIMS(3, 1), .slots = {0, 1}});
    symbol.slots[0] = (op_slot){.min = 0, .max = 9, .value = 0};
    symbol.n_slots = 1;
    op_case_run(&symbol);
    symbol.slots[0].value = 4;
    op_case_run(&symbol);
}

static void test_refusals(void **state) {
    (void)state;
    static const kiln_top_k_attrs t9 = {9}, t0 = {0};
    const struct {
        op_case c;
        kiln_status status;
        const char *text;
    } cases[] = {
        {CASE("r0", gather_topk, NULL, &k9, 1, F32(3, 8)), KILN_ERROR_SHAPE,
         "k = 9 is larger than the 8 experts of probs [3, 8]"},
        {CASE("r1", gather_topk, NULL, &k2, 1, F32(8)), KILN_ERROR_SHAPE,
         "probs [8] has 1 dimensions; it must have 2"},
        {CASE("r2", gather_topk, NULL, &k2, 2, F32(3, 8), I32(3, 2)), KILN_ERROR_SHAPE,
         "order [3, 2] must have the dimensions of probs [3, 8]"},
        {CASE("r3", gather_topk, NULL, &k2, 2, F32(3, 8), F32(3, 8)), KILN_ERROR_DTYPE,
         "order [3, 8] is f32; it must be i32"},
        {CASE("r4", gather_topk, NULL, &k2, 3, F32(3, 8), NONE, F32(3)), KILN_ERROR_SHAPE,
         "axis 0 of scale [3] is 3; it must be 8, axis 1 of probs [3, 8]"},
        {{.name = "r5",
          .op = &kiln__op_gather_topk,
          .n_in = 1,
          .in = {{.dtype = KILN_F32, OP_DIMS(3, 1), .slots = {0, 1}}},
          .attrs = &k2,
          .slots = {{.min = 0, .max = 8}},
          .n_slots = 1},
         KILN_ERROR_SHAPE,
         "axis 1 of probs [3, slot0] is slot0; it must be a constant of at least 1: k experts are chosen "
         "among them in every run"},
        {{.name = "r6",
          .op = &kiln__op_gather_topk,
          .n_in = 1,
          .in = {{.dtype = KILN_F32, OP_DIMS(1, 8), .slots = {1}}},
          .attrs = &k9,
          .slots = {{.min = 0, .max = 8}},
          .n_slots = 1},
         KILN_ERROR_SHAPE,
         "k = 9 is larger than the 8 experts of probs [slot0, 8]"},
        {CASE("r7", top_k, NULL, &t9, 1, F32(2, 8)), KILN_ERROR_SHAPE,
         "k = 9 is larger than the 8 elements of a row of x [2, 8]"},
        {CASE("r8", top_k, NULL, &t0, 1, F32(2, 8)), KILN_ERROR_ARGUMENT,
         "attribute k is 0, and has no default: set it to 1 … 2147483647"},
        {CASE("r9", argsort, NULL, NULL, 1, I32(2, 8)), KILN_ERROR_DTYPE,
         "x [2, 8] is i32; it must be f32, f16 or bf16"},
        {CASE("r10", argmax, NULL, NULL, 1, F32(3, 0)), KILN_ERROR_SHAPE,
         "the rows of x [3, 0] have 0 elements; they must have 1 to 2147483647"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        op_case_refused(&cases[i].c, cases[i].status, cases[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather),       cmocka_unit_test(test_gather_bad_order),
        cmocka_unit_test(test_gather_fused), cmocka_unit_test(test_top_and_sort),
        cmocka_unit_test(test_argmax),       cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
