#include "matmul_help.h"
#include "tests/support/testdata.h"

/* What a case is made of; `make_…` and the oracle read it from the op_case. */
typedef struct id_case {
    const char *name;
    int64_t experts, n, k, tokens, slots;
    bool per_slot;     /* x is [T,k,K] */
    bool split;        /* a tensor per expert */
    int64_t w_gap;     /* blocks between experts' rows (a stride larger than N rows comes from `order`) */
    const double *ids; /* repeated; NULL: random */
    size_t n_ids;
    kiln_dtype ids_dtype, x_dtype;
} id_case;

#define IDS(...) (const double[]){__VA_ARGS__}, sizeof((const double[]){__VA_ARGS__}) / sizeof(double)

/* ---- operands made from others ------------------------------------------------------------------------- */

static void make_xq(const op_case *c, const op_values *values, uint32_t operand, void *bytes) {
    quantise(&values[KILN_MATMUL_ID_X], c->in[operand].dtype, bytes);
}

static int64_t experts_of(const op_case *c) {
    const op_in *w = &c->in[KILN_MATMUL_ID_W];
    return w->ndim == 3 ? w->dims[0] : c->n_in - KILN_MATMUL_ID_W;
}

/* The group of a pair: its expert, or the last one. */
static int64_t group_of(const op_case *c, const op_values *ids, int64_t pair) {
    double id = ids->v[pair];
    return id >= 0 && id < (double)experts_of(c) ? (int64_t)id : experts_of(c);
}

static void make_offsets(const op_case *c, const op_values *values, uint32_t operand, void *bytes) {
    const op_values *ids = &values[KILN_MATMUL_ID_IDS];
    (void)operand;
    for (int64_t e = 0; e < experts_of(c) + 2; e++) {
        int32_t before = 0;
        for (int64_t p = 0; p < ids->n; p++)
            before += group_of(c, ids, p) < e;
        ((int32_t *)bytes)[e] = before;
    }
}

static void make_entries(const op_case *c, const op_values *values, uint32_t operand, void *bytes) {
    const op_values *ids = &values[KILN_MATMUL_ID_IDS];
    int64_t at = 0;
    (void)operand;
    for (int64_t e = 0; e <= experts_of(c); e++)
        for (int64_t p = 0; p < ids->n; p++)
            if (group_of(c, ids, p) == e)
                ((int32_t *)bytes)[at++] = (int32_t)p;
}

static void oracle(const op_case *c, const op_values *in, op_values *out) {
    const op_values *x = &in[in[KILN_MATMUL_ID_XQ].dtype ? KILN_MATMUL_ID_XQ : KILN_MATMUL_ID_X],
                    *ids = &in[KILN_MATMUL_ID_IDS], *w = &in[KILN_MATMUL_ID_W];
    int64_t k = w->ne[3], n = w->ne[2], slots = ids->ne[3];
    for (int64_t p = 0; p < ids->n; p++) {
        int64_t e = group_of(c, ids, p);
        const double *row = x->v + (x->ndim == 3 ? p : p / slots) * k;
        const double *matrix = w->ndim == 3 ? w->v + e * n * k : e < experts_of(c) ? w[e].v : NULL;
        for (int64_t r = 0; r < n && e < experts_of(c); r++)
            oracle_dot(matrix + r * k, row, k, &out->v[p * n + r], &out->slack[p * n + r]);
    }
}

/* ---- cases --------------------------------------------------------------------------------------------- */

static op_case base_case(const id_case *i, kiln_dtype wtype) {
    op_case c = {.name = i->name,
                 .op = &kiln__op_matmul_id,
                 .n_in = KILN_MATMUL_ID_W + (i->split ? (uint32_t)i->experts : 1),
                 .oracle = oracle,
                 .rel = (double)EXACT_PER_BILLION * 1e-9};
    kiln_dtype x = i->x_dtype ? i->x_dtype : KILN_F32, ids = i->ids_dtype ? i->ids_dtype : KILN_I32;
    c.in[KILN_MATMUL_ID_X] =
        i->per_slot ? (op_in){x, OP_DIMS(i->tokens, i->slots, i->k)} : (op_in){x, OP_DIMS(i->tokens, i->k)};
    c.in[KILN_MATMUL_ID_X].kind = KILN_STORAGE_INPUT;
    c.in[KILN_MATMUL_ID_IDS] = (op_in){ids, OP_DIMS(i->tokens, i->slots), .hi = (double)i->experts - 1};
    if (i->experts == 1 && i->ids == NULL) { /* lo = hi = 0 stands for a default range */
        c.in[KILN_MATMUL_ID_IDS].data = (const double[]){0};
        c.in[KILN_MATMUL_ID_IDS].n_data = 1;
    }
    if (i->ids != NULL) {
        c.in[KILN_MATMUL_ID_IDS].data = i->ids;
        c.in[KILN_MATMUL_ID_IDS].n_data = i->n_ids;
    }
    c.in[KILN_MATMUL_ID_IDS].kind = KILN_STORAGE_INPUT;
    for (uint32_t w = KILN_MATMUL_ID_W; w < c.n_in; w++) {
        c.in[w] =
            i->split ? (op_in){wtype, OP_DIMS(i->n, i->k)} : (op_in){wtype, OP_DIMS(i->experts, i->n, i->k)};
        c.in[w].pad = i->w_gap;
    }
    return c;
}

static void expect_bad(op_case *c, const double *ids, size_t n_ids) {
    int64_t pairs = c->in[KILN_MATMUL_ID_IDS].dims[0] * c->in[KILN_MATMUL_ID_IDS].dims[1];
    for (int64_t p = 0; p < pairs && ids != NULL; p++) {
        double id = ids[(size_t)p % n_ids];
        if (id >= 0 && id < (double)experts_of(c))
            continue;
        c->expect = KILN_ERROR_INDEX;
        c->bad_row = p;
        c->bad_index = (int64_t)id;
        c->bad_limit = experts_of(c);
        return;
    }
}

/* All forms of a case: with and without a map, exact and fast. */
static void run_forms(op_case c) {
    const char *base = c.name;
    for (int form = 0; form < 4; form++) {
        char name[128];
        kiln_dtype xq = fast_dtype(c.in[KILN_MATMUL_ID_W].dtype);
        if ((form & 2) && xq == KILN_DTYPE_NONE)
            continue;
        snprintf(name, sizeof name, "%s%s%s", base, form & 1 ? ", mapped" : "", form & 2 ? ", fast" : "");
        op_case f = c;
        f.name = name;
        if (form & 1) {
            int64_t pairs = c.in[KILN_MATMUL_ID_IDS].dims[0] * c.in[KILN_MATMUL_ID_IDS].dims[1];
            f.in[KILN_MATMUL_ID_OFFSETS] =
                (op_in){KILN_I32, OP_DIMS(experts_of(&c) + 2), .make = make_offsets};
            f.in[KILN_MATMUL_ID_ENTRIES] = (op_in){KILN_I32, OP_DIMS(pairs), .make = make_entries};
            f.in[KILN_MATMUL_ID_ENTRIES].slots[0] = c.in[KILN_MATMUL_ID_IDS].slots[0];
        }
        if (form & 2) {
            f.in[KILN_MATMUL_ID_XQ] = c.in[KILN_MATMUL_ID_X];
            f.in[KILN_MATMUL_ID_XQ].dtype = xq;
            f.in[KILN_MATMUL_ID_XQ].order = NULL;
            f.in[KILN_MATMUL_ID_XQ].pad = 0;
            f.in[KILN_MATMUL_ID_XQ].make = make_xq;
            f.rel = (double)FAST_PER_BILLION * 1e-9;
        }
        op_case_run(&f);
    }
}

static const id_case cases[] = {
    {.name = "one token", .experts = 8, 20, 256, 1, 2, .per_slot = false},
    {.name = "one token, a row per slot", .experts = 8, 20, 256, 1, 3, .per_slot = true},
    {.name = "some tokens", .experts = 8, 20, 256, 7, 2},
    {.name = "many tokens", .experts = 8, 37, 256, 50, 2},
    {.name = "many tokens, a row per slot", .experts = 8, 37, 256, 50, 2, .per_slot = true},
    {.name = "more than a block per expert", .experts = 2, 20, 256, 90, 2},
    {.name = "all experts", .experts = 5, 20, 256, 12, 5, .per_slot = true},
    {.name = "one expert in all", .experts = 1, 20, 256, 12, 1},
    {.name = "more slots than experts", .experts = 2, 20, 256, 12, 5},
    {.name = "all tokens to one expert", .experts = 8, 20, 256, 40, 1, .ids = IDS(5)},
    {.name = "duplicates", .experts = 8, 20, 256, 17, 2, .ids = IDS(3, 3, 1, 1, 3, 3)},
    {.name = "u32 ids", .experts = 8, 20, 256, 17, 2, .ids_dtype = KILN_U32},
    {.name = "f16 x", .experts = 8, 20, 256, 17, 2, .x_dtype = KILN_F16},
    {.name = "bf16 x, a row per slot", .experts = 8, 20, 256, 17, 2, .per_slot = true, .x_dtype = KILN_BF16},
    {.name = "bad ids", .experts = 8, 20, 256, 17, 2, .ids = IDS(3, 8, 1, -1, 2147483647, -2147483648.0, 7)},
    {.name = "bad ids, few tokens", .experts = 8, 20, 256, 2, 2, .ids = IDS(3, 1, -1, 9)},
    {.name = "only bad ids", .experts = 8, 20, 256, 20, 2, .ids = IDS(8, 9)},
    {.name = "bad u32 ids",
     .experts = 8,
     20,
     256,
     17,
     2,
     .ids = IDS(4294967295.0, 8, 1),
     .ids_dtype = KILN_U32},
    {.name = "separate storages", .experts = 6, 20, 256, 17, 2, .split = true},
    {.name = "separate storages, one token", .experts = 6, 20, 256, 1, 2, .split = true},
    {.name = "one separate storage", .experts = 1, 20, 256, 17, 1, .split = true},
    {.name = "separate storages, bad ids", .experts = 3, 20, 256, 17, 2, .split = true, .ids = IDS(1, 3, 2)},
    {.name = "gaps between rows of w", .experts = 4, 20, 256, 17, 2, .w_gap = 1},
    {.name = "no tokens at all", .experts = 4, 20, 256, 0, 2},
    {.name = "one column", .experts = 4, 1, 256, 20, 2},
};

static void patterns(void **state) {
    static const kiln_dtype dtypes[] = {KILN_F32, KILN_Q4_0, KILN_F16};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int d = 0; d < 3; d++) {
            char name[96];
            snprintf(name, sizeof name, "%s, %s", cases[i].name, kiln_dtype_get(dtypes[d])->name);
            op_case c = base_case(&cases[i], dtypes[d]);
            c.name = name;
            expect_bad(&c, cases[i].ids, cases[i].n_ids);
            run_forms(c);
        }
}

static void every_weight(void **state) {
    (void)state;
    for (int d = 0; d < N_WEIGHTS; d++)
        for (int64_t tokens = 1; tokens <= 30; tokens += 29) {
            char name[96];
            id_case i = {.name = NULL, 8, 33, 512, tokens, 3, .per_slot = tokens > 1};
            snprintf(name, sizeof name, "%s, %d tokens", kiln_dtype_get(weight_dtypes[d])->name, (int)tokens);
            i.name = name;
            run_forms(base_case(&i, weight_dtypes[d]));
        }
}

/* Experts as every other matrix of a storage, ids as columns of a wider table, x with permuted and spread
 * rows. */
static void strides(void **state) {
    static const id_case i = {"strides", 4, 20, 64, 17, 2, .per_slot = true};
    (void)state;
    op_case c = base_case(&i, KILN_Q4_0);
    c.in[KILN_MATMUL_ID_W].order = "102"; /* rows of the experts interleaved */
    c.in[KILN_MATMUL_ID_X].order = "102";
    c.in[KILN_MATMUL_ID_IDS].pad = 6;
    c.in[KILN_MATMUL_ID_IDS].hi = 3;
    run_forms(c);
    c.in[KILN_MATMUL_ID_IDS].order = "10";
    c.name = "strides, ids by slot";
    op_case_refused(&c, KILN_ERROR_SHAPE,
                    "the elements of a row of ids [17, 2] are 92 bytes apart; they must be adjacent, 4 bytes "
                    "(kiln_copy makes a dense tensor)");
}

/* The number of tokens is a symbol: what was built for many runs for few, without a map then. */
static void tokens_as_a_symbol(void **state) {
    (void)state;
    for (int64_t tokens = 0; tokens <= 40; tokens += tokens < 10 ? 1 : 15) {
        id_case i = {.name = "symbol", 4, 20, 64, 1, 2};
        char name[64];
        op_case c = base_case(&i, KILN_Q8_0);
        snprintf(name, sizeof name, "%d of 40 tokens", (int)tokens);
        c.name = name;
        c.n_slots = 1;
        c.slots[0] = (op_slot){false, 0, 40, tokens, 0};
        c.in[KILN_MATMUL_ID_X].slots[0] = 1;
        c.in[KILN_MATMUL_ID_IDS].slots[0] = 1;
        run_forms(c);
    }
}

/* ---- the map ------------------------------------------------------------------------------------------- */

static void map_oracle(const op_case *c, const op_values *in, op_values *out) {
    int64_t experts = ((const kiln_expert_map_attrs *)c->attrs)->n_experts, at = 0;
    for (int64_t e = 0; e <= experts + 1; e++) {
        out[0].v[e] = (double)at;
        for (int64_t p = 0; p < in->n && e <= experts; p++) {
            bool inside = in->v[p] >= 0 && in->v[p] < (double)experts;
            if ((inside ? (int64_t)in->v[p] : experts) == e)
                out[1].v[at++] = (double)p;
        }
    }
}

static void map(void **state) {
    static const kiln_expert_map_attrs seven = {7};
    const op_case table[] = {
        {.name = "map",
         .op = &kiln__op_expert_map,
         .n_in = 1,
         .in = {{KILN_I32, OP_DIMS(33, 3), .hi = 6}},
         .attrs = &seven,
         .oracle = map_oracle},
        {.name = "map of bad ids, u32, rows apart",
         .op = &kiln__op_expert_map,
         .n_in = 1,
         .in = {{KILN_U32, OP_DIMS(33, 3), OP_DATA(3, 7, 4294967295.0, 1), .pad = 2}},
         .attrs = &seven,
         .oracle = map_oracle},
        {.name = "map of a symbol",
         .op = &kiln__op_expert_map,
         .n_in = 1,
         .in = {{KILN_I32, OP_DIMS(1, 3), .slots = {1}, OP_DATA(-1, 6, 0, 2, 2)}},
         .slots = {{false, 0, 64, 20, 0}},
         .n_slots = 1,
         .attrs = &seven,
         .oracle = map_oracle},
    };
    (void)state;
    OP_CASES_RUN(table);
}

/* A map that somebody made up leads to an error or to wrong rows, never to other memory. */
static void made_up_map(void **state) {
    static const int32_t wrong[] = {-1, 40, INT32_MAX, INT32_MIN};
    (void)state;
    for (int i = 0; i < 12; i++) {
        kiln_graph *g;
        assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
        kiln_tensor in[KILN_MATMUL_ID_OPERANDS] = {
            kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(20), kiln_n(32))),
            kiln_input(g, "ids", KILN_I32, KILN_SHAPE(kiln_n(20), kiln_n(2))),
            kiln_input(g, "offsets", KILN_I32, KILN_SHAPE(kiln_n(6))),
            kiln_input(g, "entries", KILN_I32, KILN_SHAPE(kiln_n(40))),
            {0, 0},
            kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(8), kiln_n(32))),
        };
        kiln_tensor y;
        assert_int_equal(kiln_node_add(g, &kiln__op_matmul_id, in, KILN_MATMUL_ID_OPERANDS, NULL, &y),
                         KILN_OK);
        eager *run = eager_new(g, 0);
        int32_t *offsets = eager_data(run, in[KILN_MATMUL_ID_OFFSETS]),
                *entries = eager_data(run, in[KILN_MATMUL_ID_ENTRIES]);
        for (int e = 0; e < 6; e++)
            offsets[e] = i < 4 ? 10 * e : wrong[(i + e) % 4];
        for (int p = 0; p < 40; p++)
            entries[p] = p;
        if (i < 8)
            entries[7 * (i % 4)] = wrong[i % 4];
        kiln_status status = eager_run(run, 1).status;
        assert_true(i < 8 ? status == KILN_ERROR_KERNEL : status != KILN_ERROR_KERNEL);
        eager_free(run);
        kiln_graph_destroy(g);
    }
}

/* ---- golden vectors ------------------------------------------------------------------------------------ */

static void *golden(const char *format, const char *dtype, const char *name, size_t want) {
    char path[96];
    size_t size;
    snprintf(path, sizeof path, format, dtype, name);
    void *data = testdata_read(path, &size);
    if (data == NULL)
        skip();
    assert_int_equal(size, want);
    return data;
}

static void run_golden(kiln_dtype dtype, const char *name, int64_t tokens, bool per_slot) {
    enum { E = 8, M = 12, K = 256, USED = 2 };
    const char *type = kiln_dtype_get(dtype)->name;
    size_t bytes = (size_t)(E * M * K / block_of(dtype)) * kiln_dtype_get(dtype)->bytes;
    size_t pairs = (size_t)tokens * USED, rows = per_slot ? pairs : (size_t)tokens;
    void *w = golden("mul_mat_id/%s.as%s", type, "", bytes);
    void *x = golden("mul_mat_id/%.0s%s.b.f32", type, name, rows * K * sizeof(float));
    void *ids = golden("mul_mat_id/%s_%s.ids.i32", type, name, pairs * sizeof(int32_t));
    double *want = golden("mul_mat_id/%s_%s.ref.f64", type, name, pairs * M * sizeof(double));
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    for (size_t l = 0; l < 2 * n_levels; l++) {
        kiln_graph *g;
        assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
        kiln_tensor wt = kiln_weight(g, "w", dtype, KILN_SHAPE(kiln_n(E), kiln_n(M), kiln_n(K)));
        kiln_tensor xt =
            per_slot ? kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(tokens), kiln_n(USED), kiln_n(K)))
                     : kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(tokens), kiln_n(K)));
        kiln_tensor it = kiln_input(g, "ids", KILN_I32, KILN_SHAPE(kiln_n(tokens), kiln_n(USED))), yt;
        if (l % 2 == 0) {
            yt = kiln_matmul_id(g, wt, xt, it);
        } else {
            kiln_tensor in[KILN_MATMUL_ID_OPERANDS] = {xt, it, {0, 0}, {0, 0}, {0, 0}, wt};
            in[KILN_MATMUL_ID_OFFSETS] = kiln_expert_map(g, it, E, &in[KILN_MATMUL_ID_ENTRIES]);
            assert_int_equal(kiln_node_add(g, &kiln__op_matmul_id, in, KILN_MATMUL_ID_OPERANDS, NULL, &yt),
                             KILN_OK);
        }
        assert_int_equal(kiln_graph_check(g, NULL), KILN_OK);
        eager *run = eager_new(g, levels[l / 2].cpu);
        memcpy(eager_data(run, wt), w, bytes);
        memcpy(eager_data(run, xt), x, rows * K * sizeof(float));
        memcpy(eager_data(run, it), ids, pairs * sizeof(int32_t));
        assert_int_equal(eager_run(run, 3).status, KILN_OK);
        const float *y = eager_data(run, yt);
        for (size_t i = 0; i < pairs * M; i++)
            if (!(fabs((double)y[i] - want[i]) <= 1e-6))
                fail_msg("%s, %s %s: y[%zu] is %.9g, expected %.9g", levels[l / 2].name, type, name, i,
                         (double)y[i], want[i]);
        eager_free(run);
        kiln_graph_destroy(g);
    }
    free(w);
    free(x);
    free(ids);
    free(want);
}

static void golden_vectors(void **state) {
    static const kiln_dtype dtypes[] = {KILN_F32, KILN_Q4_0, KILN_Q4_K};
    (void)state;
    for (int d = 0; d < 3; d++) {
        run_golden(dtypes[d], "c0", 1, false);
        run_golden(dtypes[d], "c2", 7, false);
        run_golden(dtypes[d], "c5", 17, true);
    }
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

#define X   [KILN_MATMUL_ID_X]
#define IDX [KILN_MATMUL_ID_IDS]
#define W   [KILN_MATMUL_ID_W]
static const struct {
    const char *name;
    op_in in[KILN_MATMUL_ID_OPERANDS + 1];
    uint32_t n;
    kiln_status status;
    const char *text;
} refused[] = {
    {"inner sizes",
     {X = {KILN_F32, OP_DIMS(7, 64)}, IDX = {KILN_I32, OP_DIMS(7, 2)}, W = {KILN_F32, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_SHAPE,
     "w is [4, 8, 32] and x is [7, 64]: the inner sizes 32 and 64 differ"},
    {"tokens",
     {X = {KILN_F32, OP_DIMS(6, 32)}, IDX = {KILN_I32, OP_DIMS(7, 2)}, W = {KILN_F32, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_SHAPE,
     "axis 0 of x [6, 32] is 6; it must be 7, axis 0 of ids [7, 2]"},
    {"slots",
     {X = {KILN_F32, OP_DIMS(7, 3, 32)}, IDX = {KILN_I32, OP_DIMS(7, 2)}, W = {KILN_F32, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_SHAPE,
     "axis 1 of x [7, 3, 32] is 3; it must be 2, axis 1 of ids [7, 2]"},
    {"ids dtype",
     {X = {KILN_F32, OP_DIMS(7, 32)}, IDX = {KILN_I64, OP_DIMS(7, 2)}, W = {KILN_F32, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_DTYPE,
     "ids [7, 2] is i64; it must be i32 or u32"},
    {"two stacked tensors",
     {X = {KILN_F32, OP_DIMS(7, 32)},
      IDX = {KILN_I32, OP_DIMS(7, 2)},
      W = {KILN_F32, OP_DIMS(4, 8, 32)},
      {KILN_F32, OP_DIMS(4, 8, 32)}},
     7,
     KILN_ERROR_SHAPE,
     "w [4, 8, 32] has 3 dimensions; it must have 2"},
    {"experts of two dtypes",
     {X = {KILN_F32, OP_DIMS(7, 32)},
      IDX = {KILN_I32, OP_DIMS(7, 2)},
      W = {KILN_F32, OP_DIMS(8, 32)},
      {KILN_F16, OP_DIMS(8, 32)}},
     7,
     KILN_ERROR_DTYPE,
     "w of expert 1 [8, 32] is f16; it must be f32"},
    {"experts of two shapes",
     {X = {KILN_F32, OP_DIMS(7, 32)},
      IDX = {KILN_I32, OP_DIMS(7, 2)},
      W = {KILN_F32, OP_DIMS(8, 32)},
      {KILN_F32, OP_DIMS(9, 32)}},
     7,
     KILN_ERROR_SHAPE,
     "w of expert 1 [9, 32] must have the dimensions of w of expert 0 [8, 32]"},
    {"a missing expert",
     {X = {KILN_F32, OP_DIMS(7, 32)}, IDX = {KILN_I32, OP_DIMS(7, 2)}, W = {0}, {KILN_F32, OP_DIMS(8, 32)}},
     7,
     KILN_ERROR_ARGUMENT,
     "operand w is missing"},
    {"no ids",
     {X = {KILN_F32, OP_DIMS(7, 32)}, W = {KILN_F32, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_ARGUMENT,
     "operand ids is missing"},
    {"half a map",
     {X = {KILN_F32, OP_DIMS(7, 32)},
      IDX = {KILN_I32, OP_DIMS(7, 2)}, [KILN_MATMUL_ID_OFFSETS] = {KILN_I32, OP_DIMS(6)},
      W = {KILN_F32, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_ARGUMENT,
     "offsets and entries belong together; entries is missing"},
    {"offsets of other experts",
     {X = {KILN_F32, OP_DIMS(7, 32)}, IDX = {KILN_I32, OP_DIMS(7, 2)},
      [KILN_MATMUL_ID_OFFSETS] = {KILN_I32, OP_DIMS(5)}, [KILN_MATMUL_ID_ENTRIES] = {KILN_I32, OP_DIMS(14)},
      W = {KILN_F32, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_SHAPE,
     "offsets is [5]; for 4 experts it must be [6]"},
    {"entries of other tokens",
     {X = {KILN_F32, OP_DIMS(7, 32)}, IDX = {KILN_I32, OP_DIMS(7, 2)},
      [KILN_MATMUL_ID_OFFSETS] = {KILN_I32, OP_DIMS(6)}, [KILN_MATMUL_ID_ENTRIES] = {KILN_I32, OP_DIMS(7)},
      W = {KILN_F32, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_SHAPE,
     "entries is [7]; it must be [14], one per element of ids"},
    {"xq of another form",
     {X = {KILN_F32, OP_DIMS(7, 32)},
      IDX = {KILN_I32, OP_DIMS(7, 2)}, [KILN_MATMUL_ID_XQ] = {KILN_BF16, OP_DIMS(7, 32)},
      W = {KILN_Q8_0, OP_DIMS(4, 8, 32)}},
     6,
     KILN_ERROR_DTYPE,
     "xq is bf16, which w in q8_0 cannot be multiplied with (blocks take q8_a, f16 and bf16 take bf16 or "
     "f16, f32 takes none)"},
};
#undef X
#undef IDX
#undef W

static void refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        op_case c = {.name = refused[i].name, .op = &kiln__op_matmul_id, .n_in = refused[i].n};
        memcpy(c.in, refused[i].in, sizeof refused[i].in);
        op_case_refused(&c, refused[i].status, refused[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns),           cmocka_unit_test(every_weight), cmocka_unit_test(strides),
        cmocka_unit_test(tokens_as_a_symbol), cmocka_unit_test(map),          cmocka_unit_test(made_up_map),
        cmocka_unit_test(golden_vectors),     cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
