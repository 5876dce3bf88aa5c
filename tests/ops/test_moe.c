/* kiln_moe_ffn against a plain loop over experts in double, and against ONNX Runtime's golden vectors. */
#include "kiln_ops.h"
#include "tests/support/op_case.h"
#include "tests/support/testdata.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <cjson/cJSON.h>

typedef struct block_case {
    const char *name;
    int64_t tokens, most; /* tokens of this run; most > 0: a symbol with that maximum */
    int64_t experts, k, hidden, inner;
    bool packed, scaled, residual, normalise, chosen;
    kiln_act act;
    kiln_dtype weights;
    int64_t nan_row; /* -1: none; the router's input of this token is NaN */
} block_case;

/* All tensors of a block as doubles, row-major. */
typedef struct block {
    const block_case *c;
    double *x, *router, *gate, *up, *down, *scale, *residual, *y, *size;
} block;

/* ---- the plain loop --------------------------------------------------------------------------------- */

static double act_of(kiln_act act, double x) {
    if (act == KILN_ACT_SILU)
        return x / (1 + exp(-x));
    if (act == KILN_ACT_GELU_TANH)
        return 0.5 * x * (1 + tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
    return act == KILN_ACT_GELU_ERF ? 0.5 * x * erfc(-x / sqrt(2.0)) : fmax(x, 0);
}

static void softmax(double *x, int64_t n) {
    double most = -(double)INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - most);
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* The experts of token t and their weights. */
static void route(const block *b, int64_t t, int64_t *ids, double *w) {
    const block_case *c = b->c;
    double p[64], sum = 0;
    bool taken[64] = {false};
    for (int64_t e = 0; e < c->experts; e++) {
        p[e] = 0;
        for (int64_t j = 0; j < c->hidden; j++)
            p[e] += b->router[e * c->hidden + j] * b->x[t * c->hidden + j];
    }
    if (!c->chosen)
        softmax(p, c->experts);
    for (int64_t s = 0; s < c->k; s++) {
        int64_t best = -1;
        for (int64_t e = 0; e < c->experts; e++)
            if (!taken[e] && (best < 0 || p[e] > p[best] || (isnan(p[best]) && !isnan(p[e]))))
                best = e;
        taken[best] = true;
        ids[s] = best;
        w[s] = p[best];
    }
    if (c->chosen)
        softmax(w, c->k);
    for (int64_t s = 0; s < c->k; s++)
        sum += w[s];
    for (int64_t s = 0; s < c->k; s++)
        w[s] = (c->normalise && !c->chosen ? w[s] / sum : w[s]) * (c->scaled ? b->scale[ids[s]] : 1);
}

static void expert(const block *b, int64_t t, int64_t e, double w, double *y, double *size) {
    const block_case *c = b->c;
    const double *x = b->x + t * c->hidden;
    for (int64_t n = 0; n < c->inner; n++) {
        double g = 0, u = 0;
        for (int64_t j = 0; j < c->hidden; j++) {
            g += b->gate[(e * c->inner + n) * c->hidden + j] * x[j];
            u += b->up[(e * c->inner + n) * c->hidden + j] * x[j];
        }
        double h = act_of(c->act, g) * u;
        for (int64_t j = 0; j < c->hidden; j++) {
            double term = w * b->down[(e * c->hidden + j) * c->inner + n] * h;
            y[j] += term;
            size[j] += fabs(term);
        }
    }
}

static void plain_loop(block *b) {
    const block_case *c = b->c;
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t ids[64];
        double w[64];
        route(b, t, ids, w);
        for (int64_t j = 0; j < c->hidden; j++)
            b->size[t * c->hidden + j] =
                fabs(b->y[t * c->hidden + j] = c->residual ? b->residual[t * c->hidden + j] : 0);
        for (int64_t s = 0; s < c->k; s++)
            expert(b, t, ids[s], w[s], b->y + t * c->hidden, b->size + t * c->hidden);
    }
}

/* ---- the block -------------------------------------------------------------------------------------- */

static double *values(int64_t n, kiln_dtype dtype, uint64_t *random) {
    double *v = calloc((size_t)n + 1, sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n && random != NULL; i++) {
        uint64_t bits = 0;
        op_encode(dtype, &bits, 0, op_random_between(random, -1, 1));
        v[i] = op_decode(dtype, &bits, 0);
    }
    return v;
}

static void put(eager *run, kiln_tensor t, kiln_dtype dtype, const double *v, int64_t n) {
    for (int64_t i = 0; kiln_tensor_valid(t) && i < n; i++)
        op_encode(dtype, eager_data(run, t), i, v[i]);
}

static kiln_tensor weight(kiln_graph *g, const char *name, kiln_dtype dtype, int64_t a, int64_t b,
                          int64_t c) {
    return kiln_weight(g, name, dtype, KILN_SHAPE(kiln_n(a), kiln_n(b), kiln_n(c)));
}

/* Gate and up of each expert one after the other. */
static void put_packed(eager *run, kiln_tensor t, const block *b) {
    const block_case *c = b->c;
    int64_t n = c->inner * c->hidden;
    for (int64_t i = 0; i < c->experts * n; i++) {
        op_encode(c->weights, eager_data(run, t), i / n * 2 * n + i % n, b->gate[i]);
        op_encode(c->weights, eager_data(run, t), i / n * 2 * n + n + i % n, b->up[i]);
    }
}

static void run_level(const block *b, const op_level *level) {
    const block_case *c = b->c;
    kiln_graph *g;
    kiln_error error;
    kiln_slot slot = {0, 0};
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    if (c->most > 0)
        slot = kiln_slot_i64(g, "n_tokens", 0, c->most);
    kiln_dim tokens = c->most > 0 ? kiln_sym(slot) : kiln_n(c->tokens);
    kiln_moe_ffn_spec s = {
        .k = c->k, .no_normalise = !c->normalise, .softmax_chosen = c->chosen, .act = c->act};
    s.x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(tokens, kiln_n(c->hidden)));
    s.router = kiln_weight(g, "router", KILN_F32, KILN_SHAPE(kiln_n(c->experts), kiln_n(c->hidden)));
    s.gate = weight(g, "gate", c->weights, c->experts, c->packed ? 2 * c->inner : c->inner, c->hidden);
    if (!c->packed)
        s.up = weight(g, "up", c->weights, c->experts, c->inner, c->hidden);
    s.down = weight(g, "down", c->weights, c->experts, c->hidden, c->inner);
    if (c->scaled)
        s.scale = kiln_weight(g, "scale", KILN_F32, KILN_SHAPE(kiln_n(c->experts)));
    if (c->residual)
        s.residual = kiln_input(g, "residual", KILN_F32, KILN_SHAPE(tokens, kiln_n(c->hidden)));
    kiln_tensor y = kiln_moe_ffn(g, &s);
    if (kiln_graph_check(g, &error) != KILN_OK)
        fail_msg("%s: %s", c->name, error.text);
    eager *run = eager_new(g, level->cpu);
    int64_t rows = c->tokens * c->hidden, all = c->experts * c->inner * c->hidden;
    if (c->most > 0)
        eager_set_i64(run, slot, c->tokens);
    put(run, s.x, KILN_F32, b->x, rows);
    put(run, s.router, KILN_F32, b->router, c->experts * c->hidden);
    if (c->packed)
        put_packed(run, s.gate, b);
    else
        put(run, s.gate, c->weights, b->gate, all);
    put(run, s.up, c->weights, b->up, all);
    put(run, s.down, c->weights, b->down, all);
    put(run, s.scale, KILN_F32, b->scale, c->experts);
    put(run, s.residual, KILN_F32, b->residual, rows);
    eager_result result = eager_run(run, 3);
    if (result.status != KILN_OK)
        fail_msg("%s, %s: %s", c->name, level->name, kiln_status_name(result.status));
    for (int64_t i = 0; i < rows; i++) {
        double got = (double)((float *)eager_data(run, y))[i];
        bool near = isnan(b->y[i]) ? isnan(got) : fabs(got - b->y[i]) <= 3e-6 * b->size[i] + 1e-7;
        if (!near)
            fail_msg("%s, %s: element %lld is %.9g, expected %.9g", c->name, level->name, (long long)i, got,
                     b->y[i]);
    }
    eager_free(run);
    kiln_graph_destroy(g);
}

static void run_case(const block_case *c) {
    uint64_t random = 99;
    int64_t all = c->experts * c->inner * c->hidden, rows = c->tokens * c->hidden;
    block b = {.c = c};
    b.x = values(rows, KILN_F32, &random);
    b.router = values(c->experts * c->hidden, KILN_F32, &random);
    b.gate = values(all, c->weights, &random);
    b.up = values(all, c->weights, &random);
    b.down = values(all, c->weights, &random);
    b.scale = values(c->experts, KILN_F32, &random);
    b.residual = values(rows, KILN_F32, &random);
    b.y = values(rows, KILN_F32, NULL);
    b.size = values(rows, KILN_F32, NULL);
    for (int64_t j = 0; c->nan_row >= 0 && j < c->hidden; j++)
        b.x[c->nan_row * c->hidden + j] = (double)NAN;
    plain_loop(&b);
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < n_levels; l++)
        run_level(&b, &levels[l]);
    double *arrays[] = {b.x, b.router, b.gate, b.up, b.down, b.scale, b.residual, b.y, b.size};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        free(arrays[i]);
}

static void test_blocks(void **state) {
    (void)state;
    static const block_case cases[] = {
        {"plain", 5, 0, 8, 2, 32, 48, false, false, false, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"packed", 5, 0, 8, 2, 32, 48, true, false, false, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"f16 weights", 5, 0, 8, 3, 64, 32, false, false, false, true, false, KILN_ACT_SILU, KILN_F16, -1},
        {"one token", 1, 0, 8, 2, 32, 48, false, false, false, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"many tokens", 70, 0, 8, 2, 32, 48, false, false, true, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"not normalised", 5, 0, 8, 2, 32, 48, false, false, false, false, false, KILN_ACT_SILU, KILN_F32,
         -1},
        {"softmax over the chosen", 5, 0, 8, 2, 32, 48, false, false, false, true, true, KILN_ACT_SILU,
         KILN_F32, -1},
        {"scale", 5, 0, 8, 2, 32, 48, false, true, false, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"scale, residual, packed, chosen", 5, 0, 8, 2, 32, 48, true, true, true, true, true,
         KILN_ACT_GELU_TANH, KILN_F32, -1},
        {"gelu by erf", 5, 0, 8, 2, 32, 48, false, false, false, true, false, KILN_ACT_GELU_ERF, KILN_F32,
         -1},
        {"relu", 5, 0, 8, 2, 32, 48, false, false, false, true, false, KILN_ACT_RELU, KILN_F32, -1},
        {"all experts", 5, 0, 6, 6, 32, 48, false, false, false, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"one expert", 5, 0, 1, 1, 32, 48, false, false, false, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"NaN router", 5, 0, 8, 2, 32, 48, false, false, false, true, false, KILN_ACT_SILU, KILN_F32, 2},
        {"symbol", 3, 9, 8, 2, 32, 48, false, false, true, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"symbol at its maximum", 9, 9, 8, 2, 32, 48, true, false, false, true, false, KILN_ACT_SILU,
         KILN_F32, -1},
        {"no tokens", 0, 9, 8, 2, 32, 48, false, false, true, true, false, KILN_ACT_SILU, KILN_F32, -1},
        {"no tokens, constant", 0, 0, 8, 2, 32, 48, false, false, false, true, false, KILN_ACT_SILU, KILN_F32,
         -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_case(&cases[i]);
}

/* ---- ONNX Runtime ----------------------------------------------------------------------------------- */

static double *array_of(const cJSON *json, const char *name, int64_t n) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, name), *item;
    double *v = values(n, KILN_F32, NULL);
    int64_t i = 0;
    assert_int_equal(cJSON_GetArraySize(list), n);
    cJSON_ArrayForEach(item, list) v[i++] = item->valuedouble;
    return v;
}

/* Row by row: their router logits are given, so each row gets a router of rank one that yields just those,
 * logits ⊗ x / |x|². */
static void mixtral(const cJSON *json) {
    static const block_case c = {"Mixtral",     1,        0, 8, 2, 4, 8, false, false, false, true, false,
                                 KILN_ACT_SILU, KILN_F32, -1};
    double *x = array_of(json, "input", 24), *logits = array_of(json, "router_logits", 48);
    double *want = array_of(json, "output", 24);
    block b = {.c = &c, .gate = array_of(json, "fc1", 256), .up = array_of(json, "fc3", 256)};
    b.down = array_of(json, "fc2", 256);
    b.router = values(32, KILN_F32, NULL);
    b.size = values(4, KILN_F32, NULL);
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (int64_t t = 0; t < 6; t++) {
        double square = 0;
        b.x = x + t * 4;
        b.y = want + t * 4;
        for (int64_t j = 0; j < 4; j++) {
            square += b.x[j] * b.x[j];
            b.size[j] = 1;
        }
        for (int64_t i = 0; i < 32; i++)
            b.router[i] = logits[t * 8 + i / 4] * b.x[i % 4] / square;
        for (size_t l = 0; l < n_levels; l++)
            run_level(&b, &levels[l]);
    }
    double *arrays[] = {x, logits, want, b.gate, b.up, b.down, b.router, b.size};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        free(arrays[i]);
}

static void test_mixtral(void **state) {
    (void)state;
    size_t size;
    char *text = testdata_read("moe_ort/MoETest_Mixtral.json", &size);
    if (text == NULL)
        skip();
    cJSON *json = cJSON_ParseWithLength(text, size);
    assert_non_null(json);
    mixtral(json);
    cJSON_Delete(json);
    free(text);
}

/* ---- refusals --------------------------------------------------------------------------------------- */

static void test_refusals(void **state) {
    (void)state;
    kiln_graph *g;
    kiln_error error;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    assert_false(kiln_tensor_valid(kiln_moe_ffn(g, NULL)));
    assert_int_equal(kiln_graph_check(g, &error), KILN_ERROR_ARGUMENT);
    assert_string_equal(error.text, "kiln_moe_ffn: spec is NULL");
    kiln_graph_reset(g);
    kiln_moe_ffn_spec s = {.k = 9};
    kiln_slot t = kiln_slot_i64(g, "n_tokens", 0, 4);
    s.x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(t), kiln_n(32)));
    s.router = kiln_weight(g, "router", KILN_F32, KILN_SHAPE(kiln_n(8), kiln_n(32)));
    s.gate = weight(g, "gate", KILN_F32, 8, 16, 32);
    s.up = weight(g, "up", KILN_F32, 8, 16, 32);
    s.down = weight(g, "down", KILN_F32, 8, 32, 16);
    assert_false(kiln_tensor_valid(kiln_moe_ffn(g, &s)));
    assert_int_equal(kiln_graph_check(g, &error), KILN_ERROR_SHAPE);
    assert_string_equal(error.text,
                        "node 'gather_topk.2' (gather_topk): k = 9 is larger than the 8 experts of "
                        "probs [n_tokens, 8]");
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_mixtral),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
