#include "matmul_help.h"

static void make_xq(const op_case *c, const op_values *values, uint32_t operand, void *bytes) {
    quantise(&values[KILN_MATMUL_X], c->in[operand].dtype, bytes);
}

static void oracle(const op_case *c, const op_values *in, op_values *out) {
    const op_values *w = &in[KILN_MATMUL_W], *x = &in[KILN_MATMUL_X], *xq = &in[KILN_MATMUL_XQ];
    int64_t k = w->ne[3], n = w->ne[2], tokens = k > 0 ? x->n / k : 0;
    if (c->n_in > KILN_MATMUL_XQ && xq->dtype != KILN_DTYPE_NONE)
        x = xq;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t r = 0; r < n; r++)
            oracle_dot(w->v + r * k, x->v + t * k, k, &out->v[t * n + r], &out->slack[t * n + r]);
}

static op_case matmul_case(const char *name, op_in w, op_in x) {
    op_case c = {.name = name,
                 .op = &kiln__op_matmul,
                 .n_in = 2,
                 .in = {[KILN_MATMUL_W] = w, [KILN_MATMUL_X] = x},
                 .oracle = oracle,
                 .rel = (double)EXACT_PER_BILLION * 1e-9};
    c.in[KILN_MATMUL_X].kind = KILN_STORAGE_INPUT;
    return c;
}

/* The case again with x in the form of fast precision as well. */
static void run_fast(op_case c) {
    kiln_dtype dtype = fast_dtype(c.in[KILN_MATMUL_W].dtype);
    if (dtype == KILN_DTYPE_NONE)
        return;
    op_in xq = c.in[KILN_MATMUL_X];
    xq.dtype = dtype;
    xq.order = NULL;
    xq.pad = 0;
    xq.data = NULL;
    xq.make = make_xq;
    c.in[KILN_MATMUL_XQ] = xq;
    c.n_in = KILN_MATMUL_XQ + 1;
    c.rel = (double)FAST_PER_BILLION * 1e-9;
    char name[96];
    snprintf(name, sizeof name, "%s, fast", c.name);
    c.name = name;
    op_case_run(&c);
}

/* Every weight dtype × sizes that leave remainders in every blocking. */
static void every_weight(void **state) {
    static const int64_t sizes[][3] = {
        {1, 256, 1}, {3, 256, 2}, {16, 512, 3}, {33, 256, 7}, {70, 768, 13}, {21, 1280, 70}, {130, 256, 1},
    };
    (void)state;
    for (int d = 0; d < N_WEIGHTS; d++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            char name[64];
            snprintf(name, sizeof name, "%s [%d,%d] x [%d]", kiln_dtype_get(weight_dtypes[d])->name,
                     (int)sizes[s][0], (int)sizes[s][1], (int)sizes[s][2]);
            op_case c = matmul_case(name, (op_in){weight_dtypes[d], OP_DIMS(sizes[s][0], sizes[s][1])},
                                    (op_in){KILN_F32, OP_DIMS(sizes[s][2], sizes[s][1])});
            op_case_run(&c);
            run_fast(c);
        }
}

/* Float weights take any K. */
static void any_inner_size(void **state) {
    static const int64_t inner[] = {1, 2, 15, 17, 31, 172, 1023, 1025, 1100};
    (void)state;
    for (int d = 0; d < N_WEIGHTS; d++)
        for (size_t s = 0; s < sizeof inner / sizeof inner[0] && block_of(weight_dtypes[d]) == 1; s++)
            for (int64_t tokens = 1; tokens <= 9; tokens += 4) {
                char name[64];
                snprintf(name, sizeof name, "%s K %d x [%d]", kiln_dtype_get(weight_dtypes[d])->name,
                         (int)inner[s], (int)tokens);
                op_case c = matmul_case(name, (op_in){weight_dtypes[d], OP_DIMS(6, inner[s])},
                                        (op_in){KILN_F32, OP_DIMS(tokens, inner[s])});
                op_case_run(&c);
                run_fast(c);
            }
}

/* The forms x and w may have. */
static const struct {
    const char *name;
    op_in w, x;
    op_slot slot;
} layouts[] = {
    {"a row vector", {KILN_Q4_0, OP_DIMS(20, 64)}, {KILN_F32, OP_DIMS(64)}, {0}},
    {"f16 x", {KILN_Q4_0, OP_DIMS(20, 64)}, {KILN_F16, OP_DIMS(9, 64)}, {0}},
    {"bf16 x", {KILN_Q8_0, OP_DIMS(20, 64)}, {KILN_BF16, OP_DIMS(9, 64)}, {0}},
    {"f16 x, f32 w", {KILN_F32, OP_DIMS(20, 60)}, {KILN_F16, OP_DIMS(3, 60)}, {0}},
    {"gaps between rows of x", {KILN_Q4_0, OP_DIMS(20, 64)}, {KILN_F32, OP_DIMS(9, 64), .pad = 3}, {0}},
    {"gaps between rows of w", {KILN_Q4_0, OP_DIMS(20, 64), .pad = 2}, {KILN_F32, OP_DIMS(9, 64)}, {0}},
    {"gaps between rows of w, one token",
     {KILN_F32, OP_DIMS(20, 50), .pad = 2},
     {KILN_F32, OP_DIMS(1, 50)},
     {0}},
    {"four dimensions", {KILN_Q5_1, OP_DIMS(20, 64)}, {KILN_F32, OP_DIMS(2, 3, 4, 64)}, {0}},
    {"permuted leading axes",
     {KILN_Q5_1, OP_DIMS(20, 64)},
     {KILN_F32, OP_DIMS(2, 3, 4, 64), .order = "2013"},
     {0}},
    {"a repeated row", {KILN_Q4_0, OP_DIMS(20, 64)}, {KILN_F32, OP_DIMS(5, 64), .repeat = 1}, {0}},
    {"heads split K", {KILN_Q4_0, OP_DIMS(20, 64)}, {KILN_F32, OP_DIMS(9, 4, 16)}, {0}},
    {"heads outermost in memory",
     {KILN_Q4_0, OP_DIMS(20, 64)},
     {KILN_F32, OP_DIMS(9, 2, 32), .order = "102"},
     {0}},
    {"heads outermost, f16 x",
     {KILN_F16, OP_DIMS(20, 64)},
     {KILN_F16, OP_DIMS(9, 4, 16), .order = "102"},
     {0}},
    {"heads outermost, gaps, batch",
     {KILN_F32, OP_DIMS(5, 24)},
     {KILN_BF16, OP_DIMS(2, 3, 4, 6), .order = "2013", .pad = 1},
     {0}},
    {"one split row", {KILN_F32, OP_DIMS(5, 24)}, {KILN_F32, OP_DIMS(4, 6)}, {0}},
    {"some of the tokens",
     {KILN_Q4_0, OP_DIMS(20, 64)},
     {KILN_F32, OP_DIMS(1, 64), .slots = {1}},
     {false, 0, 80, 7, 0}},
    {"all of the tokens",
     {KILN_Q4_0, OP_DIMS(20, 64)},
     {KILN_F16, OP_DIMS(1, 64), .slots = {1}},
     {false, 0, 65, 65, 0}},
    {"no tokens",
     {KILN_Q4_0, OP_DIMS(20, 64)},
     {KILN_F32, OP_DIMS(1, 64), .slots = {1}},
     {false, 0, 8, 0, 0}},
    {"never any tokens", {KILN_Q4_0, OP_DIMS(20, 64)}, {KILN_F32, OP_DIMS(0, 64)}, {0}},
    {"tokens inside a batch",
     {KILN_Q4_K, OP_DIMS(20, 256)},
     {KILN_F32, OP_DIMS(3, 1, 256), .slots = {0, 1}},
     {false, 1, 6, 4, 0}},
    {"NaN in x", {KILN_F32, OP_DIMS(20, 64)}, {KILN_F32, OP_DIMS(3, 64), OP_DATA(1, 2, NAN, 0.5, 3)}, {0}},
    {"NaN in x, blocks", {KILN_Q8_0, OP_DIMS(20, 64)}, {KILN_F32, OP_DIMS(7, 64), OP_DATA(1, 2, NAN)}, {0}},
};

static void layouts_of_operands(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        op_case c = matmul_case(layouts[i].name, layouts[i].w, layouts[i].x);
        c.slots[0] = layouts[i].slot;
        c.n_slots = layouts[i].slot.max > 0;
        op_case_run(&c);
        if (layouts[i].x.dims[c.in[KILN_MATMUL_X].ndim - 1] % 32 == 0 && layouts[i].x.repeat == 0)
            run_fast(c);
    }
}

/* Infinite activations: sums are infinite, or NaN where both signs meet. */
static void infinities(void **state) {
    (void)state;
    for (int d = 0; d < N_WEIGHTS; d++) {
        op_case c = matmul_case("Inf in x", (op_in){weight_dtypes[d], OP_DIMS(20, 256)},
                                (op_in){KILN_F32, OP_DIMS(7, 256), OP_DATA(1, 2, 3, (double)INFINITY, 0.5)});
        op_case_run(&c);
    }
}

/* A shadow that is not what w holds, to see which one was read: never the shadow. */
static void shadow_beside_w(void **state) {
    (void)state;
    for (int64_t tokens = 1; tokens <= 9; tokens += 8) {
        char name[64];
        snprintf(name, sizeof name, "shadow, %d tokens", (int)tokens);
        op_case c =
            matmul_case(name, (op_in){KILN_Q4_0, OP_DIMS(20, 64)}, (op_in){KILN_F32, OP_DIMS(tokens, 64)});
        c.in[KILN_MATMUL_SHADOW] = (op_in){KILN_F16, OP_DIMS(20, 64)};
        c.n_in = KILN_MATMUL_SHADOW + 1;
        op_case_run(&c);
        run_fast(c);
    }
}

/* ---- one result, however it is computed ---------------------------------------------------------------- */

/* y of `tokens` rows of the same x (a prefix of `x`), by matmul on q with or without xq. */
static void compute(uint32_t cpu, kiln_dtype wtype, const void *w, int64_t n, int64_t k, const float *x,
                    int64_t tokens, bool fast, float *y) {
    kiln_graph *g;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    kiln_tensor wt = kiln_weight(g, "w", wtype, KILN_SHAPE(kiln_n(n), kiln_n(k)));
    kiln_tensor xt = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(tokens), kiln_n(k))), yt;
    if (fast) {
        kiln_tensor xq =
            kiln_quantize(g, xt, fast_dtype(wtype) == KILN_Q8_A ? KILN_QUANT_Q8_A : KILN_QUANT_BF16);
        kiln_tensor in[] = {wt, xt, {0, 0}, xq};
        assert_int_equal(kiln_node_add(g, &kiln__op_matmul, in, 4, NULL, &yt), KILN_OK);
    } else {
        yt = kiln_matmul(g, wt, xt);
    }
    assert_int_equal(kiln_graph_check(g, NULL), KILN_OK);
    eager *run = eager_new(g, cpu);
    memcpy(eager_data(run, wt), w, (size_t)(n * k / block_of(wtype)) * kiln_dtype_get(wtype)->bytes);
    memcpy(eager_data(run, xt), x, (size_t)(tokens * k) * sizeof *x);
    assert_int_equal(eager_run(run, 1).status, KILN_OK);
    memcpy(y, eager_data(run, yt), (size_t)(tokens * n) * sizeof *y);
    eager_free(run);
    kiln_graph_destroy(g);
}

/* A token's row is the same bits alone and among others, and equal to the dtype's own dot. */
static void rows_do_not_depend_on_neighbours(void **state) {
    enum { N = 37, K = 1280, T = 70 };
    static unsigned char w[N * K * 4];
    static float x[T * K], all[T * N], one[N];
    uint64_t seed = 11;
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    (void)state;
    for (int i = 0; i < T * K; i++)
        x[i] = (float)op_random_between(&seed, -1, 1);
    for (int d = 0; d < N_WEIGHTS; d++) {
        kiln_dtype dtype = weight_dtypes[d];
        if (block_of(dtype) > 1)
            op_random_blocks(dtype, w, (int64_t)N * K, &seed);
        else
            kiln__dtype_base[dtype].from_f32(x + 100, w, (int64_t)N * K);
        for (size_t l = 0; l < n_levels; l++)
            for (int fast = 0; fast < (fast_dtype(dtype) == KILN_DTYPE_NONE ? 1 : 2); fast++)
                for (int64_t k = block_of(dtype) > 1 ? K : K - 5; k <= K; k += 5) {
                    compute(levels[l].cpu, dtype, w, N, k, x, T, fast, all);
                    for (int64_t t = 0; t < T; t += 23) {
                        compute(levels[l].cpu, dtype, w, N, k, x + t * k, 1, fast, one);
                        if (memcmp(one, all + t * N, sizeof one) != 0)
                            fail_msg("%s, %s: row %lld alone and among %d tokens differ (K %lld, fast %d)",
                                     levels[l].name, kiln_dtype_get(dtype)->name, (long long)t, T,
                                     (long long)k, fast);
                    }
                }
    }
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    op_in in[4];
    uint32_t n;
    kiln_status status;
    const char *text;
} refused[] = {
    {"inner sizes",
     {{KILN_F32, OP_DIMS(4096, 128)}, {KILN_F32, OP_DIMS(7, 64)}},
     2,
     KILN_ERROR_SHAPE,
     "w is [4096, 128] and x is [7, 64]: the inner sizes 128 and 64 differ"},
    {"transposed",
     {{KILN_F32, OP_DIMS(64, 128)}, {KILN_F32, OP_DIMS(7, 64)}},
     2,
     KILN_ERROR_SHAPE,
     "w is [64, 128] and x is [7, 64]: the inner sizes 128 and 64 differ; w's rows count 64: is it "
     "transposed?"},
    {"integers",
     {{KILN_I32, OP_DIMS(64, 128)}, {KILN_F32, OP_DIMS(7, 128)}},
     2,
     KILN_ERROR_DTYPE,
     "w [64, 128] is i32; it must be f32, f16, bf16, q4_0, q5_1, q8_0, iq4_nl, q4_K, q5_K or q6_K"},
    {"x in blocks",
     {{KILN_F32, OP_DIMS(64, 128)}, {KILN_Q4_0, OP_DIMS(7, 128)}},
     2,
     KILN_ERROR_DTYPE,
     "x [7, 128] is q4_0; it must be f32, f16 or bf16"},
    {"w of three dimensions",
     {{KILN_F32, OP_DIMS(2, 64, 128)}, {KILN_F32, OP_DIMS(7, 128)}},
     2,
     KILN_ERROR_SHAPE,
     "w [2, 64, 128] has 3 dimensions; it must have 2"},
    {"transposed x",
     {{KILN_F32, OP_DIMS(64, 128)}, {KILN_F32, OP_DIMS(7, 128), .order = "10"}},
     2,
     KILN_ERROR_SHAPE,
     "the elements of a row of x [7, 128] are 28 bytes apart; they must be adjacent, 4 bytes (kiln_copy "
     "makes a dense tensor)"},
    {"shadow dtype",
     {{KILN_Q4_0, OP_DIMS(64, 128)}, {KILN_F32, OP_DIMS(7, 128)}, {KILN_F32, OP_DIMS(64, 128)}},
     3,
     KILN_ERROR_DTYPE,
     "shadow [64, 128] is f32; it must be f16"},
    {"shadow shape",
     {{KILN_Q4_0, OP_DIMS(64, 128)}, {KILN_F32, OP_DIMS(7, 128)}, {KILN_F16, OP_DIMS(63, 128)}},
     3,
     KILN_ERROR_SHAPE,
     "shadow [63, 128] must have the dimensions of w [64, 128]"},
    {"xq for f32 weights",
     {{KILN_F32, OP_DIMS(64, 128)}, {KILN_F32, OP_DIMS(7, 128)}, {0}, {KILN_Q8_A, OP_DIMS(7, 128)}},
     4,
     KILN_ERROR_DTYPE,
     "xq is q8_a, which w in f32 cannot be multiplied with (blocks take q8_a, f16 and bf16 take bf16 or f16, "
     "f32 takes none)"},
    {"xq in f32",
     {{KILN_Q4_0, OP_DIMS(64, 128)}, {KILN_F32, OP_DIMS(7, 128)}, {0}, {KILN_F32, OP_DIMS(7, 128)}},
     4,
     KILN_ERROR_DTYPE,
     "xq is f32, which w in q4_0 cannot be multiplied with (blocks take q8_a, f16 and bf16 take bf16 or f16, "
     "f32 takes none)"},
    {"xq of other tokens",
     {{KILN_Q4_0, OP_DIMS(64, 128)}, {KILN_F32, OP_DIMS(7, 128)}, {0}, {KILN_Q8_A, OP_DIMS(6, 128)}},
     4,
     KILN_ERROR_SHAPE,
     "xq [6, 128] must have the dimensions of x [7, 128]"},
    {"xq with heads apart",
     {{KILN_Q4_0, OP_DIMS(64, 128)},
      {KILN_F32, OP_DIMS(7, 4, 32)},
      {0},
      {KILN_Q8_A, OP_DIMS(7, 4, 32), .order = "102"}},
     4,
     KILN_ERROR_SHAPE,
     "the rows of xq [7, 4, 32] are 280 bytes apart; those of a token must be adjacent, 40 bytes"},
    {"no x", {{KILN_F32, OP_DIMS(64, 128)}, {0}}, 2, KILN_ERROR_ARGUMENT, "operand x is missing"},
};

static void refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        op_case c = matmul_case(refused[i].name, refused[i].in[0], refused[i].in[1]);
        c.in[2] = refused[i].in[2];
        c.in[3] = refused[i].in[3];
        c.n_in = refused[i].n;
        op_case_refused(&c, refused[i].status, refused[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_weight),
        cmocka_unit_test(any_inner_size),
        cmocka_unit_test(layouts_of_operands),
        cmocka_unit_test(infinities),
        cmocka_unit_test(shadow_beside_w),
        cmocka_unit_test(rows_do_not_depend_on_neighbours),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
