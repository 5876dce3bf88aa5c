/* Sums of any length keep the bounds that ops/kiln_ops.h states, at every CPU level: what is measured here is
 * how far a result is from the same sum in double, relative to the sum of its terms' absolute values. */
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

/* ---- sums along a row, and down rows ---------------------------------------------------------------- */

/* Runs a graph of one output at a level and returns its first element; `x`, `w`: what to fill with what. */
typedef struct source {
    kiln_tensor tensor;
    kiln_dtype dtype;
    int64_t n;
    filling filling;
    uint64_t seed;
    const void *bytes; /* instead of a filling */
    size_t size;
} source;

static float first_of(kiln_graph *g, kiln_tensor y, const source *sources, size_t count,
                      const op_level *level) {
    eager *run = eager_new(g, level->cpu);
    for (size_t i = 0; i < count; i++) {
        if (sources[i].bytes != NULL)
            memcpy(eager_data(run, sources[i].tensor), sources[i].bytes, sources[i].size);
        else
            fill(sources[i].dtype, eager_data(run, sources[i].tensor), sources[i].n, sources[i].filling,
                 sources[i].seed);
    }
    assert_int_equal(eager_run(run, 1).status, KILN_OK);
    float y0 = *(float *)eager_data(run, y);
    eager_free(run);
    return y0;
}

static kiln_graph *new_graph(void) {
    kiln_graph *g;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    return g;
}

static const int64_t lengths[] = {1, 15, 1000, 4096, 100000, 1000000};
enum { N_LENGTHS = sizeof lengths / sizeof lengths[0] };

/* Calls `check` for every length, filling and level. */
static void each(void (*check)(int64_t n, filling f, const op_level *level)) {
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (size_t n = 0; n < N_LENGTHS; n++)
            for (int f = EQUAL; f <= RANDOM; f++)
                check(lengths[n], (filling)f, &levels[l]);
}

static double value(kiln_dtype dtype, filling f, int64_t i, int64_t n, uint64_t *seed) {
    unsigned char bytes[8];
    op_encode(dtype, bytes, 0, filled(f, i, n, seed));
    return op_decode(dtype, bytes, 0);
}

/* Σ w·x, both filled alike, of which the seeds are 3 and 4; with `size` Σ |w·x|. */
static double dot_of(kiln_dtype wt, kiln_dtype xt, filling f, int64_t n, double *size) {
    uint64_t seed = 3, other = 4;
    double sum = 0;
    *size = 0;
    for (int64_t i = 0; i < n; i++) {
        double t = value(wt, f, i, n, &seed) * value(xt, f, i, n, &other);
        sum += t;
        *size += fabs(t);
    }
    return sum;
}

static void check_mean_pool(int64_t n, filling f, const op_level *level) {
    static const kiln_dtype dtypes[] = {KILN_F32, KILN_F16};
    for (size_t d = 0; d < 2; d++) {
        const kiln_dtype dtype = dtypes[d];
        kiln_graph *g = new_graph();
        kiln_tensor x = kiln_input(g, "x", dtype, KILN_SHAPE(kiln_n(n), kiln_n(1)));
        kiln_tensor y = kiln_mean_pool(g, x, (kiln_tensor){0});
        uint64_t seed = 3;
        double sum = 0, size = 0;
        for (int64_t i = 0; i < n; i++) {
            double v = value(dtype, f, i, n, &seed);
            sum += v;
            size += fabs(v);
        }
        float got =
            first_of(g, y, &(source){.tensor = x, .dtype = dtype, .n = n, .filling = f, .seed = 3}, 1, level);
        expect_within(1e-6, (double)got, sum / (double)n, size / (double)n, "mean_pool", level->name, f, n);
        kiln_graph_destroy(g);
    }
}

static void test_mean_pool(void **state) {
    (void)state;
    each(check_mean_pool);
}

static void check_weighted_sum(int64_t n, filling f, const op_level *level) {
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(n), kiln_n(1)));
    kiln_tensor w = kiln_input(g, "w", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(n)));
    kiln_tensor y = kiln_weighted_sum(g, x, w);
    double size, want = dot_of(KILN_F32, KILN_F32, f, n, &size);
    const source sources[] = {{.tensor = w, .dtype = KILN_F32, .n = n, .filling = f, .seed = 3},
                              {.tensor = x, .dtype = KILN_F32, .n = n, .filling = f, .seed = 4}};
    float got = first_of(g, y, sources, 2, level);
    expect_within(1e-6, (double)got, want, size, "weighted_sum", level->name, f, n);
    kiln_graph_destroy(g);
}

static void test_weighted_sum(void **state) {
    (void)state;
    each(check_weighted_sum);
}

/* W in floats: one token, and as many as take the form for many. */
static void check_matmul(int64_t n, filling f, const op_level *level) {
    static const kiln_dtype dtypes[] = {KILN_F32, KILN_F16, KILN_BF16};
    for (size_t d = 0; d < 3; d++)
        for (int64_t tokens = 1; tokens <= 7 && n * tokens <= 1000000; tokens += 6) {
            kiln_graph *g = new_graph();
            kiln_tensor w = kiln_input(g, "w", dtypes[d], KILN_SHAPE(kiln_n(1), kiln_n(n)));
            kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(tokens), kiln_n(n)));
            double size, want = dot_of(dtypes[d], KILN_F32, f, n, &size);
            const source sources[] = {{.tensor = w, .dtype = dtypes[d], .n = n, .filling = f, .seed = 3},
                                      {.tensor = x, .dtype = KILN_F32, .n = n, .filling = f, .seed = 4}};
            float got = first_of(g, kiln_matmul(g, w, x), sources, 2, level);
            expect_within(1.5e-6, (double)got, want, size, "matmul", level->name, f, n);
            kiln_graph_destroy(g);
        }
}

static void test_matmul(void **state) {
    (void)state;
    each(check_matmul);
}

/* W in blocks, all of them alike, against ones: in f32, and in q8_a, which holds ones exactly. Equal
 * terms. */
static void check_blocks(kiln_dtype dtype, int64_t n, int64_t tokens, bool fast, const op_level *level) {
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    kiln_graph *g = new_graph();
    kiln_tensor w = kiln_input(g, "w", dtype, KILN_SHAPE(kiln_n(tokens > 1 ? 16 : 1), kiln_n(n)));
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(tokens), kiln_n(n)));
    kiln_tensor y = kiln_matmul(g, w, x);
    size_t bytes = (size_t)((tokens > 1 ? 16 : 1) * n / info->block) * info->bytes;
    unsigned char *blocks = malloc(bytes);
    double *values = malloc(info->block * sizeof *values), sum = 0, size = 0;
    float *ones = malloc((size_t)(n * tokens) * sizeof *ones);
    uint64_t seed = 5;
    assert_true(blocks != NULL && values != NULL && ones != NULL);
    op_random_blocks(dtype, blocks, info->block, &seed);
    for (size_t at = info->bytes; at < bytes; at += info->bytes)
        memcpy(blocks + at, blocks, info->bytes);
    op_decode_row(dtype, blocks, info->block, values);
    for (int64_t i = 0; i < info->block; i++) {
        sum += values[i] * (double)(n / info->block);
        size += fabs(values[i]) * (double)(n / info->block);
    }
    for (int64_t i = 0; i < n * tokens; i++)
        ones[i] = 127.0f;
    source sources[] = {{.tensor = w, .bytes = blocks, .size = bytes},
                        {.tensor = x, .bytes = ones, .size = (size_t)(n * tokens) * sizeof *ones}};
    if (fast) {
        kiln_tensor q = kiln_quantize(g, x, KILN_QUANT_Q8_A), out[1];
        const kiln_tensor in[] = {w, x, {0}, q};
        assert_int_equal(kiln_node_add(g, kiln_op_find(kiln_ops_builtin(), "matmul"), in, 4, NULL, out),
                         KILN_OK);
        y = out[0];
    }
    float got = first_of(g, y, sources, 2, level);
    /* Mins and scales are applied to whole blocks, so that terms are larger than the products. */
    expect_within(fast ? 4e-6 : 2e-6, (double)got / 127, sum, size, info->name, level->name, EQUAL, n);
    free(blocks);
    free(values);
    free(ones);
    kiln_graph_destroy(g);
}

static void test_blocks(void **state) {
    (void)state;
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        for (int d = 1; d < KILN_DTYPE_COUNT; d++)
            if (kiln_dtype_get((kiln_dtype)d)->kind == KILN_KIND_BLOCK)
                for (int64_t n = 256; n <= 256 * 4000; n *= 100)
                    for (int fast = 0; fast < 2; fast++) {
                        check_blocks((kiln_dtype)d, n, 1, fast, &levels[l]);
                        if (n < 100000)
                            check_blocks((kiln_dtype)d, n, 9, fast, &levels[l]);
                    }
}

static void check_norms(int64_t n, filling f, const op_level *level) {
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(n))), none = {0};
    uint64_t seed = 3;
    double x0 = 0, sum = 0, squares = 0, spread = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = value(KILN_F32, f, i, n, &seed);
        x0 = i == 0 ? v : x0;
        sum += v;
        squares += v * v;
    }
    seed = 3;
    for (int64_t i = 0; i < n; i++)
        spread += pow(value(KILN_F32, f, i, n, &seed) - sum / (double)n, 2);
    const source s = {.tensor = x, .dtype = KILN_F32, .n = n, .filling = f, .seed = 3};
    double rms = x0 / sqrt(squares / (double)n + (double)1e-5f);
    double layer = (x0 - sum / (double)n) / sqrt(spread / (double)n + (double)1e-5f);
    expect_within(1e-6, (double)first_of(g, kiln_rms_norm(g, x, none, 1e-5f), &s, 1, level), rms, fabs(rms),
                  "rms_norm", level->name, f, n);
    expect_within(1e-6, (double)first_of(g, kiln_l2_norm(g, x, 1e-12f), &s, 1, level), x0 / sqrt(squares),
                  fabs(x0) / sqrt(squares), "l2_norm", level->name, f, n);
    expect_within(1e-6, (double)first_of(g, kiln_layer_norm(g, x, none, none, 1e-5f), &s, 1, level), layer,
                  fmax(fabs(layer), 1), "layer_norm", level->name, f, n);
    kiln_graph_destroy(g);
}

static void test_norms(void **state) {
    (void)state;
    each(check_norms);
}

/* Along the row, and along another axis. */
static void check_softmax(int64_t n, filling f, const op_level *level) {
    for (int axis = 0; axis < 2; axis++) {
        kiln_graph *g = new_graph();
        const kiln_dim dims[2] = {kiln_n(axis ? 1 : n), kiln_n(axis ? n : 1)};
        kiln_tensor x = kiln_input(g, "x", KILN_F32, 2, dims);
        kiln_tensor y =
            kiln_softmax(g, x, (kiln_tensor){0}, (kiln_softmax_attrs){.axis = axis ? -1 : -2, .scale = 1});
        uint64_t seed = 3;
        double sum = 0, first = 0;
        for (int64_t i = 0; i < n; i++) {
            double e = exp(value(KILN_F32, f, i, n, &seed));
            first = i == 0 ? e : first;
            sum += e;
        }
        float got = first_of(g, y, &(source){.tensor = x, .dtype = KILN_F32, .n = n, .filling = f, .seed = 3},
                             1, level);
        expect_within(1e-6, (double)got, first / sum, first / sum, "softmax", level->name, f, n);
        kiln_graph_destroy(g);
    }
}

static void test_softmax(void **state) {
    (void)state;
    each(check_softmax);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),    cmocka_unit_test(test_mean_pool),
        cmocka_unit_test(test_weighted_sum), cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_blocks),       cmocka_unit_test(test_norms),
        cmocka_unit_test(test_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
