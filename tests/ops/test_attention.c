/* attention in both forms, against a plain double loop. */
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
#define BF16(...)                                                                                            \
    { .dtype = KILN_BF16, OP_DIMS(__VA_ARGS__) }
#define U8(...)                                                                                              \
    { .dtype = KILN_U8, OP_DIMS(__VA_ARGS__), .lo = 0, .hi = 1 }
#define INF ((double)INFINITY)
#define NOT ((double)NAN)

/* ---- the oracle ------------------------------------------------------------------------------------- */

/* What one query sees: scores by row of k, -Inf for those it does not. */
typedef struct look {
    const op_case *c;
    const op_values *in;
    int64_t b, h, i; /* batch, head, query */
    int64_t base;
    const kiln_attention_attrs *a;
} look;

static double mask_at(const look *l, int64_t row) {
    const op_values *m = &l->in[3];
    if (l->c->n_in < 4 || m->v == NULL)
        return 0;
    const int64_t at[4] = {l->b, l->h, l->i, row};
    int64_t index = 0;
    for (int k = 0; k < 4; k++)
        index = index * m->ne[k] + (m->ne[k] == 1 ? 0 : at[k]);
    return m->dtype == KILN_U8 ? (m->v[index] != 0 ? 0 : -INF) : m->v[index];
}

/* Position of the key in row `row`, or -1 when there is none. */
static int64_t key_position(const look *l, int64_t row) {
    int64_t capacity = l->in[1].ne[2], written = l->base + l->in[0].ne[2];
    if (!l->a->ring)
        return row;
    int64_t p = (written - 1) / capacity * capacity + row; /* the last one written to this row */
    if (p >= written)
        p -= capacity;
    return p;
}

static double score(const look *l, int64_t row, double *size) {
    const op_values *q = &l->in[0], *k = &l->in[1];
    int64_t d = q->ne[3], group = q->ne[1] / k->ne[1], p = key_position(l, row), at = l->base + l->i;
    const double *qs = q->v + ((l->b * q->ne[1] + l->h) * q->ne[2] + l->i) * d;
    const double *ks = k->v + ((l->b * k->ne[1] + l->h / group) * k->ne[2] + row) * d;
    double s = 0, m = mask_at(l, row);
    if (p < 0 || (l->a->causal && p > at) || (l->a->window > 0 && p <= at - l->a->window) || m == -INF)
        return -INF;
    for (int64_t j = 0; j < d; j++)
        s += qs[j] * ks[j];
    s *= l->a->scale != 0 ? (double)l->a->scale : 1 / sqrt((double)d);
    if (l->a->softcap > 0)
        s = (double)l->a->softcap * tanh(s / (double)l->a->softcap);
    *size = fmax(*size, fabs(s));
    return s + m;
}

static void attend(const look *l, double *y, double *slack) {
    const op_values *v = &l->in[2];
    int64_t rows = v->ne[2], dv = v->ne[3], group = l->in[0].ne[1] / l->in[1].ne[1];
    const double *vs = v->v + (l->b * v->ne[1] + l->h / group) * rows * dv;
    double most = -INF, sum = 0, size = 1, *p = calloc((size_t)rows + 1, sizeof *p);
    assert_non_null(p);
    for (int64_t r = 0; r < rows; r++) {
        p[r] = score(l, r, &size);
        most = fmax(most, p[r]);
    }
    if (most == -INF)
        most = 0;
    for (int64_t r = 0; r < rows; r++) {
        p[r] = p[r] == -INF ? -1 : exp(p[r] - most); /* -1: not seen, v is not even looked at */
        sum += p[r] == -1 ? 0 : p[r];
    }
    for (int64_t j = 0; j < dv; j++) {
        y[j] = slack[j] = 0;
        for (int64_t r = 0; r < rows; r++)
            if (p[r] != -1) {
                y[j] += p[r] * vs[r * dv + j] / sum;
                slack[j] += p[r] * fabs(vs[r * dv + j]) / sum * size;
            }
    }
    free(p);
}

static void oracle(const op_case *c, const op_values *in, op_values *out) {
    static const kiln_attention_attrs preset = {0};
    const kiln_attention_attrs *a = c->attrs ? c->attrs : &preset;
    int64_t heads = in[0].ne[1], queries = in[0].ne[2], dv = in[2].ne[3];
    look l = {.c = c, .in = in, .a = a};
    l.base = a->q_position.slot ? c->slots[a->q_position.slot - 1].value : a->q_position.value;
    for (l.b = 0; l.b < in[0].ne[0]; l.b++)
        for (l.i = 0; l.i < queries; l.i++)
            for (l.h = 0; l.h < heads; l.h++) {
                int64_t at = ((l.b * queries + l.i) * heads + l.h) * dv;
                attend(&l, out->v + at, out->slack + at);
            }
}

#define CASE(title, attributes, count, ...)                                                                  \
    {                                                                                                        \
        .name = title, .op = &kiln__op_attention, .n_in = count, .in = {__VA_ARGS__}, .attrs = attributes,   \
        .oracle = oracle, .rel = 2e-6                                                                        \
    }
#define AT(p) .q_position = {p, 0, 0}

static const kiln_attention_attrs causal = {.causal = 1}, at20 = {.causal = 1, AT(20)},
                                  window = {.causal = 1, .window = 5, AT(90)},
                                  both_ways = {.window = 7, AT(60)}, capped = {.scale = 3, .softcap = 2},
                                  at_start = {.causal = 1, AT(0)},
                                  beyond = {.causal = 1, .window = 4, AT(300)},
                                  before = {.causal = 1, AT(-3)},
                                  far = {.window = 3, .causal = 1, AT(INT64_MAX - 99)},
                                  far_back = {.causal = 1, AT(INT64_MIN)};

/* One, a few, and more query rows than a tile holds. */
static void test_plain(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("one query", NULL, 3, F32(4, 1, 32), F32(4, 9, 32), F32(4, 9, 32)),
        CASE("one query, long", NULL, 3, F32(2, 1, 64), F32(2, 700, 64), F32(2, 700, 64)),
        CASE("one query, group of 4", NULL, 3, F32(8, 1, 64), F32(2, 100, 64), F32(2, 100, 64)),
        CASE("one query, group of 8", NULL, 3, F32(8, 1, 64), F32(1, 100, 64), F32(1, 100, 64)),
        CASE("one query, group of 12: many rows", NULL, 3, F32(12, 1, 64), F32(1, 100, 64), F32(1, 100, 64)),
        CASE("one query, group of 100", NULL, 3, F32(100, 1, 16), F32(1, 70, 16), F32(1, 70, 16)),
        CASE("three queries", NULL, 3, F32(2, 3, 20), F32(2, 70, 20), F32(2, 70, 20)),
        CASE("sixteen queries", NULL, 3, F32(2, 16, 64), F32(2, 130, 64), F32(2, 130, 64)),
        CASE("hundred queries", NULL, 3, F32(2, 100, 24), F32(2, 100, 24), F32(2, 100, 24)),
        CASE("groups of 3 and many queries", NULL, 3, F32(6, 50, 24), F32(2, 90, 24), F32(2, 90, 24)),
        CASE("batch", NULL, 3, F32(3, 4, 9, 16), F32(3, 2, 30, 16), F32(3, 2, 30, 16)),
        CASE("batch, one query", NULL, 3, F32(3, 4, 1, 16), F32(3, 2, 30, 16), F32(3, 2, 30, 16)),
        CASE("odd sizes", NULL, 3, F32(2, 5, 7), F32(2, 33, 7), F32(2, 33, 5)),
        CASE("odd sizes, many", NULL, 3, F32(2, 21, 7), F32(2, 67, 7), F32(2, 67, 5)),
        CASE("size 1", NULL, 3, F32(1, 1, 1), F32(1, 1, 1), F32(1, 1, 1)),
        CASE("size 1, many", NULL, 3, F32(1, 17, 1), F32(1, 5, 1), F32(1, 5, 1)),
        CASE("wide v", NULL, 3, F32(2, 2, 16), F32(2, 40, 16), F32(2, 40, 300)),
        CASE("wide v, many", NULL, 3, F32(2, 20, 16), F32(2, 40, 16), F32(2, 40, 300)),
        CASE("no keys", NULL, 3, F32(2, 3, 16), F32(2, 0, 16), F32(2, 0, 16)),
        CASE("no keys, many", NULL, 3, F32(2, 30, 16), F32(2, 0, 16), F32(2, 0, 16)),
        CASE("no queries", NULL, 3, F32(2, 0, 16), F32(2, 5, 16), F32(2, 5, 16)),
        CASE("f16", NULL, 3, F16(4, 2, 40), F16(2, 100, 40), F16(2, 100, 40)),
        CASE("f16, many", NULL, 3, F16(4, 20, 40), F16(2, 100, 40), BF16(2, 100, 40)),
        CASE("f32 on bf16", NULL, 3, F32(4, 2, 40), BF16(2, 100, 40), F16(2, 100, 40)),
        CASE("scale and cap", &capped, 3, F32(2, 3, 20), F32(2, 70, 20), F32(2, 70, 20)),
        CASE("scale and cap, many", &capped, 3, F32(2, 13, 20), F32(2, 70, 20), F32(2, 70, 20)),
        CASE("large scores", &capped, 3, {.dtype = KILN_F32, OP_DIMS(2, 3, 20), .lo = -1e18, .hi = 1e18},
             {.dtype = KILN_F32, OP_DIMS(2, 70, 20), .lo = -1e18, .hi = 1e18}, F32(2, 70, 20)),
    };
    OP_CASES_RUN(cases);
}

static void test_ranges(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("causal", &causal, 3, F32(2, 5, 20), F32(2, 5, 20), F32(2, 5, 20)),
        CASE("causal, many", &causal, 3, F32(2, 150, 20), F32(2, 150, 20), F32(2, 150, 20)),
        CASE("causal from 20", &at20, 3, F32(4, 3, 20), F32(2, 40, 20), F32(2, 40, 20)),
        CASE("causal from 20, many", &at20, 3, F32(4, 33, 20), F32(2, 60, 20), F32(2, 60, 20)),
        CASE("causal, more keys than needed", &at_start, 3, F32(2, 1, 20), F32(2, 200, 20), F32(2, 200, 20)),
        CASE("window", &window, 3, F32(2, 3, 20), F32(2, 100, 20), F32(2, 100, 20)),
        CASE("window, many", &window, 3, F32(2, 40, 20), F32(2, 200, 20), F32(2, 200, 20)),
        CASE("window both ways", &both_ways, 3, F32(2, 40, 20), F32(2, 130, 20), F32(2, 130, 20)),
        CASE("window both ways, few", &both_ways, 3, F32(2, 2, 20), F32(2, 130, 20), F32(2, 130, 20)),
        CASE("queries beyond the keys", &beyond, 3, F32(2, 3, 20), F32(2, 100, 20), F32(2, 100, 20)),
        CASE("queries beyond the keys, many", &beyond, 3, F32(2, 30, 20), F32(2, 310, 20), F32(2, 310, 20)),
        CASE("queries before the keys", &before, 3, F32(2, 5, 20), F32(2, 100, 20), F32(2, 100, 20)),
        CASE("queries before the keys, many", &before, 3, F32(2, 25, 20), F32(2, 100, 20), F32(2, 100, 20)),
        CASE("queries at the end of time", &far, 3, F32(2, 25, 20), F32(2, 30, 20), F32(2, 30, 20)),
        CASE("queries at its start", &far_back, 3, F32(2, 2, 20), F32(2, 30, 20), F32(2, 30, 20)),
    };
    OP_CASES_RUN(cases);
}

static void test_masks(void **state) {
    (void)state;
    const op_case cases[] = {
        CASE("f32 mask", NULL, 4, F32(2, 3, 20), F32(2, 70, 20), F32(2, 70, 20), F32(2, 3, 70)),
        CASE("f32 mask, many", NULL, 4, F32(2, 23, 20), F32(2, 70, 20), F32(2, 70, 20), F32(2, 23, 70)),
        CASE("u8 mask of keys", NULL, 4, F32(2, 3, 20), F32(2, 70, 20), F32(2, 70, 20), U8(70)),
        CASE("u8 mask of keys, many", NULL, 4, F32(2, 23, 20), F32(2, 70, 20), F32(2, 70, 20), U8(70)),
        CASE("u8 mask of batch and keys", NULL, 4, F32(3, 2, 23, 20), F32(3, 2, 70, 20), F32(3, 2, 70, 20),
             U8(3, 1, 1, 70)),
        CASE("f32 mask of queries and keys, causal", &causal, 4, F32(4, 23, 20), F32(2, 70, 20),
             F32(2, 70, 20), F32(23, 70)),
        CASE("one value for all keys", NULL, 4, F32(4, 3, 20), F32(2, 70, 20), F32(2, 70, 20), F32(4, 3, 1)),
        CASE("u8 mask, causal, capped", &capped, 4, F32(2, 2, 20), F32(2, 9, 20), F32(2, 9, 20), U8(2, 2, 9)),
        CASE("nothing left", NULL, 4, F32(2, 3, 20), F32(2, 70, 20), F32(2, 70, 20),
             {.dtype = KILN_U8, OP_DIMS(1), OP_DATA(0)}),
        CASE("nothing left, many", NULL, 4, F32(2, 30, 20), F32(2, 70, 20), F32(2, 70, 20),
             {.dtype = KILN_F32, OP_DIMS(30, 1), OP_DATA(0, -INF)}),
        CASE("mask strided", NULL, 4, F32(2, 13, 20), F32(2, 70, 20), F32(2, 70, 20),
             {.dtype = KILN_F32, OP_DIMS(2, 13, 70), .order = "102", .pad = 3}),
    };
    OP_CASES_RUN(cases);
}

/* NaN and infinities of keys that a query does not see do not reach it; those it sees do. */
static void test_special(void **state) {
    (void)state;
    static const double spoilt[] = {1, 2, NAN, 4, 5, INFINITY, 7, 8, 9, 10, -INFINITY, 12};
    const op_case cases[] = {
        CASE("causal, NaN in later values", &causal, 3, F32(1, 6, 2), F32(1, 6, 2),
             {.dtype = KILN_F32, OP_DIMS(1, 6, 2), .data = spoilt, .n_data = 12}),
        CASE("causal, NaN in later values, many", &causal, 3, F32(3, 6, 2), F32(1, 6, 2),
             {.dtype = KILN_F32, OP_DIMS(1, 6, 2), .data = spoilt, .n_data = 12}),
        CASE("causal, NaN in later keys, many", &causal, 3, F32(3, 6, 2),
             {.dtype = KILN_F32, OP_DIMS(1, 6, 2), OP_DATA(1, 2, 3, 4, 5, 6, NOT, 7, 8, 9, 10, 11)},
             F32(1, 6, 2)),
        CASE("left out, NaN there", NULL, 4, F32(1, 2, 2),
             {.dtype = KILN_F32, OP_DIMS(1, 3, 2), OP_DATA(1, 2, NOT, 3, 5, 6)},
             {.dtype = KILN_F32, OP_DIMS(1, 3, 2), OP_DATA(1, 2, NOT, 3, INF, 6)},
             {.dtype = KILN_U8, OP_DIMS(2, 3), OP_DATA(1, 0, 0, 1, 0, 0)}),
        CASE("NaN query", NULL, 3, {.dtype = KILN_F32, OP_DIMS(2, 2, 2), OP_DATA(1, NOT, 2, 3, 4, 5, 6, 7)},
             F32(2, 5, 2), F32(2, 5, 2)),
        CASE("NaN query, many", NULL, 3,
             {.dtype = KILN_F32, OP_DIMS(2, 15, 2), OP_DATA(1, NOT, 2, 3, 4, 5, 6, 7, 8, 9, 1)}, F32(2, 5, 2),
             F32(2, 5, 2)),
    };
    OP_CASES_RUN(cases);
}

/* Caches [T, heads, d], seen as [heads, T, d]; their length a symbol, the position a slot. */
static void test_caches(void **state) {
    (void)state;
    static const kiln_attention_attrs at_slot = {.causal = 1, .q_position = {0, 1, 0}};
    op_case c =
        CASE("cache", &at_slot, 3, {.dtype = KILN_F32, OP_DIMS(4, 1, 16), .slots = {0, 3}, .order = "102"},
             {.dtype = KILN_F16, OP_DIMS(2, 1, 16), .slots = {0, 2}, .order = "102", .pad = 4},
             {.dtype = KILN_F16, OP_DIMS(2, 1, 24), .slots = {0, 2}, .order = "102"});
    c.slots[0] = (op_slot){.min = 0, .max = 100, .value = 0};
    c.slots[1] = (op_slot){.min = 0, .max = 100, .value = 0};
    c.slots[2] = (op_slot){.min = 0, .max = 20, .value = 0};
    c.n_slots = 3;
    static const int64_t runs[][3] = {{0, 1, 1},    {0, 20, 20},   {20, 21, 1},
                                      {99, 100, 1}, {80, 100, 20}, {5, 7, 2}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        for (size_t s = 0; s < 3; s++)
            c.slots[s].value = runs[i][s];
        op_case_run(&c);
    }
}

static void test_ring(void **state) {
    (void)state;
    static const kiln_attention_attrs ring = {.causal = 1, .window = 6, .ring = 1, .q_position = {0, 1, 0}};
    static const kiln_attention_attrs both = {.window = 6, .ring = 1, .q_position = {0, 1, 0}};
    static const int64_t positions[] = {0, 3, 9, 10, 11, 25, 1000000007};
    for (int64_t chunk = 1; chunk <= 5; chunk += 4)
        for (int form = 0; form < 4; form++)
            for (size_t p = 0; p < sizeof positions / sizeof positions[0]; p++) {
                int64_t heads = form & 1 ? 24 : 2;
                op_case c =
                    CASE("ring", form & 2 ? &both : &ring, 3, F32(2, 1, 16), F16(2, 10, 16), F16(2, 10, 8));
                c.in[0].dims[0] = heads;
                c.in[0].dims[1] = chunk;
                c.slots[0] = (op_slot){.min = 0, .max = INT64_MAX / 2, .value = positions[p]};
                c.n_slots = 1;
                op_case_run(&c);
            }
}

static void test_refusals(void **state) {
    (void)state;
    static const kiln_attention_attrs ring = {.ring = 1}, small = {.ring = 1, .window = 6},
                                      negative = {.window = -1}, ring_10 = {.ring = 1, .window = 10};
    const struct {
        op_case c;
        kiln_status status;
        const char *text;
    } cases[] = {
        {CASE("r0", NULL, 3, F32(4, 2, 8), F32(3, 5, 8), F32(3, 5, 8)), KILN_ERROR_SHAPE,
         "the 4 heads of q [4, 2, 8] are no multiple of the 3 kv heads of k [3, 5, 8]"},
        {CASE("r1", NULL, 3, F32(4, 2, 8), F32(2, 5, 9), F32(2, 5, 8)), KILN_ERROR_SHAPE,
         "axis 2 of k [2, 5, 9] is 9; it must be 8, axis 2 of q [4, 2, 8]"},
        {CASE("r2", NULL, 3, F32(4, 2, 8), F32(2, 5, 8), F32(2, 6, 8)), KILN_ERROR_SHAPE,
         "axis 1 of v [2, 6, 8] is 6; it must be 5, axis 1 of k [2, 5, 8]"},
        {CASE("r3", NULL, 3, F32(4, 2, 8), F32(2, 5, 8), F32(1, 5, 8)), KILN_ERROR_SHAPE,
         "axis 0 of v [1, 5, 8] is 1; it must be 2, axis 0 of k [2, 5, 8]"},
        {CASE("r4", NULL, 3, F32(3, 4, 2, 8), F32(2, 5, 8), F32(2, 5, 8)), KILN_ERROR_SHAPE,
         "k [2, 5, 8] has 3 dimensions; it must have 4"},
        {CASE("r5", NULL, 3, F32(3, 4, 2, 8), F32(2, 2, 5, 8), F32(2, 2, 5, 8)), KILN_ERROR_SHAPE,
         "axis 0 of k [2, 2, 5, 8] is 2; it must be 3, axis 0 of q [3, 4, 2, 8]"},
        {CASE("r6", NULL, 3, F32(2, 8), F32(2, 5, 8), F32(2, 5, 8)), KILN_ERROR_SHAPE,
         "q [2, 8] has 2 dimensions; it must have 3 to 4"},
        {CASE("r7", NULL, 4, F32(4, 2, 8), F32(2, 5, 8), F32(2, 5, 8), F32(3, 5)), KILN_ERROR_SHAPE,
         "mask [3, 5] cannot be repeated to [..., heads, queries, keys] [4, 2, 5]: counted from the "
         "innermost, axes must be equal or 1"},
        {CASE("r8", &ring, 3, F32(4, 2, 8), F32(2, 5, 8), F32(2, 5, 8)), KILN_ERROR_SHAPE,
         "ring = 1 needs window > 0"},
        {CASE("r9", &small, 3, F32(4, 3, 8), F32(2, 7, 8), F32(2, 7, 8)), KILN_ERROR_SHAPE,
         "the ring of k [2, 7, 8] has room for 7 positions; window + largest chunk - 1 = 6 + 3 - 1 are "
         "needed"},
        {CASE("r10", &ring_10, 3, F32(4, 1, 8), F32(2, 7, 8), F32(2, 7, 8)), KILN_ERROR_SHAPE,
         "the ring of k [2, 7, 8] has room for 7 positions; window + largest chunk - 1 = 10 + 1 - 1 are "
         "needed"},
        {CASE("r11", &negative, 3, F32(4, 1, 8), F32(2, 7, 8), F32(2, 7, 8)), KILN_ERROR_ARGUMENT,
         "attribute window is -1; it must be 0 to 1.099511628e+12"},
        {CASE("r12", NULL, 3, F32(4, 1, 8), {.dtype = KILN_Q8_0, OP_DIMS(2, 7, 32)}, F32(2, 7, 8)),
         KILN_ERROR_DTYPE, "k [2, 7, 32] is q8_0; it must be f32, f16 or bf16"},
        {CASE("r13", NULL, 3, F32(4, 0, 8), F32(0, 7, 8), F32(0, 7, 8)), KILN_ERROR_SHAPE,
         "axis 0 of k [0, 7, 8] is 0; it must be a constant of at least 1: it is the number of kv heads"},
        {{.name = "r14",
          .op = &kiln__op_attention,
          .n_in = 3,
          .in = {{.dtype = KILN_F32, OP_DIMS(4, 1, 8), .slots = {0, 1}}, F32(2, 9, 8), F32(2, 9, 8)},
          .attrs = &small,
          .slots = {{.min = 0, .max = 5}},
          .n_slots = 1},
         KILN_ERROR_SHAPE,
         "the ring of k [2, 9, 8] has room for 9 positions; window + largest chunk - 1 = 6 + 5 - 1 are "
         "needed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        op_case_refused(&cases[i].c, cases[i].status, cases[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),    cmocka_unit_test(test_ranges), cmocka_unit_test(test_masks),
        cmocka_unit_test(test_special),  cmocka_unit_test(test_caches), cmocka_unit_test(test_ring),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
