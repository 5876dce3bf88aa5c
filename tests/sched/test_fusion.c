/* Each fusion rule: where it fires, every reason for which it must not, and that results stay the same. */
#include "rewrite_case.h"

#include "operands.h"

enum { H = 64, E = 8, MAX_T = 9 };

/* ---- what graphs are made of --------------------------------------------------------------------------- */

typedef struct build {
    kiln_graph *g;
    kiln_dim t;
    int variant;
} build;

static kiln_tensor rows_input(const build *b, const char *name) {
    return kiln_input(b->g, name, KILN_F32, KILN_SHAPE(b->t, kiln_n(H)));
}

static kiln_tensor vector(const build *b, const char *name) {
    return kiln_weight(b->g, name, KILN_F32, KILN_SHAPE(kiln_n(H)));
}

/* An intermediate that may be written in place. */
static kiln_tensor scratch(const build *b, kiln_tensor x) {
    return kiln_copy(b->g, x, KILN_F32);
}

static void show(const build *b, kiln_tensor x, const char *name) {
    kiln_output(b->g, kiln_silu(b->g, x), name);
}

static kiln_tensor left_half(const build *b, kiln_tensor x) {
    return kiln_slice(b->g, x, -1, 0, kiln_n(32));
}

static kiln_status opaque_infer(kiln_infer *infer) {
    infer->out[0] = *infer->in[0];
    return KILN_OK;
}
static kiln_status opaque_run(const kiln_args *args, kiln_tile *tile) {
    (void)tile;
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    for (int64_t i = 0; i < x->ne[2]; i++)
        memcpy(y->data + i * y->nb[2], x->data + i * x->nb[2], (size_t)x->ne[3] * 4);
    return KILN_OK;
}
static const char *const opaque_names[] = {"x"};
static const kiln_kernel opaque_kernels[] = {{.name = "opaque", .run = opaque_run}};
static const kiln_op opaque_op = {.name = "opaque", /* copies [T, H] and does not say so */
                                  .in_names = opaque_names,
                                  .n_in_min = 1,
                                  .n_in_max = 1,
                                  .out_names = opaque_names,
                                  .n_out = 1,
                                  .infer = opaque_infer,
                                  .kernels = opaque_kernels,
                                  .n_kernels = 1};

static void opaque(const build *b, kiln_tensor x, const char *name) {
    kiln_tensor y;
    assert_int_equal(kiln_node_add(b->g, &opaque_op, &x, 1, NULL, &y), KILN_OK);
    kiln_output(b->g, y, name);
}

/* What every rule must notice about an intermediate x between its two nodes. */
typedef enum common {
    PLAIN,
    READER,      /* another node reads it */
    READER_LATE, /* after the second node */
    VIEW_READER, /* ... reads a part of it */
    OUTPUT,      /* it is an output of the graph */
    TAP,         /* it is watched */
    VIEW_TAP,    /* a view of it is */
    WRITTEN,     /* written between */
    PART_WRITTEN,
    OPAQUE_BETWEEN,
    OPAQUE_LATE,
    OPAQUE_EARLY,
    OWN /* variants of the rule's own from here on */
} common;

static void before(const build *b, kiln_tensor in) {
    if (b->variant == OPAQUE_EARLY)
        opaque(b, in, "opaque");
}

static void between(const build *b, kiln_tensor x) {
    switch (b->variant) {
    case READER:
        show(b, x, "reader");
        break;
    case VIEW_READER:
        show(b, kiln_slice(b->g, x, -1, 0, kiln_n(4)), "reader");
        break;
    case OUTPUT:
        kiln_output(b->g, x, "is_output");
        break;
    case TAP:
        kiln_name(b->g, x, "tap");
        break;
    case VIEW_TAP:
        kiln_name(b->g, kiln_slice(b->g, x, -1, 0, kiln_n(4)), "tap");
        break;
    case WRITTEN:
        (void)kiln_zero(b->g, x);
        break;
    case PART_WRITTEN:
        (void)kiln_zero(b->g, kiln_slice(b->g, x, -1, 0, kiln_n(4)));
        break;
    case OPAQUE_BETWEEN:
        opaque(b, kiln_input(b->g, "other", KILN_F32, KILN_SHAPE(b->t, kiln_n(H))), "opaque");
        break;
    default:
        break;
    }
}

static void after(const build *b, kiln_tensor x) {
    if (b->variant == READER_LATE)
        show(b, x, "reader");
    if (b->variant == OPAQUE_LATE)
        opaque(b, kiln_input(b->g, "other", KILN_F32, KILN_SHAPE(b->t, kiln_n(H))), "opaque");
}

/* ---- the rules ----------------------------------------------------------------------------------------- */

enum softmax_topk {
    ST_AXIS_1 = OWN,
    ST_AXIS_0,
    ST_SCALE,
    ST_MASK,
    ST_ORDER,
    ST_CHOSEN,
    ST_SCALED,
    ST_UP,
    ST_STUCK
};

static void softmax_topk(const build *b) {
    kiln_graph *g = b->g;
    kiln_tensor logits = kiln_input(g, "x", KILN_F32, KILN_SHAPE(b->t, kiln_n(E)));
    kiln_tensor scale = {0, 0}, order = {0, 0}, mask = {0, 0}, w;
    before(b, kiln_input(g, "early", KILN_F32, KILN_SHAPE(b->t, kiln_n(H))));
    if (b->variant == ST_UP || b->variant == ST_STUCK)
        logits = scratch(b, logits);
    if (b->variant == ST_ORDER)
        order = kiln_input(g, "order", KILN_I32, KILN_SHAPE(b->t, kiln_n(E)));
    if (b->variant == ST_MASK)
        mask = kiln_input(g, "mask", KILN_F32, KILN_SHAPE(b->t, kiln_n(E)));
    if (b->variant == ST_SCALED || b->variant == ST_STUCK)
        scale = scratch(b, kiln_weight(g, "scale", KILN_F32, KILN_SHAPE(kiln_n(E))));
    kiln_softmax_attrs attrs = {.axis = b->variant == ST_AXIS_1   ? 1
                                        : b->variant == ST_AXIS_0 ? KILN_ZERO_I64
                                                                  : -1,
                                .scale = b->variant == ST_SCALE ? 0.5f : 1.0f};
    kiln_tensor probs = kiln_softmax(g, logits, mask, attrs);
    between(b, probs);
    if (b->variant == ST_UP || b->variant == ST_STUCK)
        (void)kiln_zero(g, logits);
    if (b->variant == ST_STUCK)
        (void)kiln_zero(g, scale);
    kiln_tensor ids = kiln_gather_topk(
        g, probs, order, scale,
        (kiln_gather_topk_attrs){
            .k = 3, .softmax = b->variant == ST_CHOSEN ? KILN_TOPK_SOFTMAX_CHOSEN : KILN_TOPK_PROBS},
        &w);
    after(b, probs);
    kiln_output(g, ids, "ids");
    kiln_output(g, w, "weights");
}

enum norm_weight {
    NW_HAS_WEIGHT = OWN,
    NW_QUANTISED,
    NW_MATRIX,
    NW_ROW,
    NW_SQUARE,
    NW_VECTOR,
    NW_VECTOR_SWAPPED,
    NW_MATRIX_64,
    NW_SHORT_VIEW,
    NW_UP,
    NW_STUCK
};

static kiln_tensor quantised_norm(const build *b, kiln_tensor x) {
    kiln_rms_norm_attrs attrs = {1e-5f, KILN_QUANT_Q8_A};
    kiln_tensor out[2];
    assert_int_equal(kiln_node_add(b->g, &kiln__op_rms_norm, &x, 1, &attrs, out), KILN_OK);
    return out[0];
}

static void norm_weight(const build *b) {
    kiln_graph *g = b->g;
    int v = b->variant;
    bool one = v == NW_VECTOR || v == NW_VECTOR_SWAPPED, copied = v == NW_UP || v == NW_STUCK;
    kiln_dim square[] = {kiln_n(H), kiln_n(H)};
    kiln_tensor x = one                 ? kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(H)))
                    : v == NW_MATRIX_64 ? kiln_input(g, "x", KILN_F32, 2, square)
                                        : rows_input(b, "x");
    kiln_tensor w = v == NW_MATRIX      ? rows_input(b, "w")
                    : v == NW_MATRIX_64 ? kiln_weight(g, "w", KILN_F32, 2, square)
                    : v == NW_ROW       ? kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(H)))
                                        : vector(b, "w");
    before(b, x);
    if (copied)
        x = scratch(b, x);
    if (v == NW_STUCK)
        w = scratch(b, w);
    kiln_tensor n =
        v == NW_QUANTISED ? quantised_norm(b, x) : kiln_rms_norm(g, x, v == NW_HAS_WEIGHT ? w : none, 1e-5f);
    between(b, n);
    if (copied)
        (void)kiln_zero(g, x);
    if (v == NW_STUCK)
        (void)kiln_zero(g, w);
    kiln_tensor y;
    if (v == NW_SHORT_VIEW)
        y = kiln_mul(g, left_half(b, n), kiln_slice(g, w, 0, 0, kiln_n(32)));
    else
        y = v == NW_VECTOR_SWAPPED ? kiln_mul(g, w, n) : kiln_mul(g, n, v == NW_SQUARE ? n : w);
    after(b, n);
    kiln_output(g, y, "y");
}

enum add_norm {
    AN_REPEATED = OWN,
    AN_RESHAPED,
    AN_TWO_NORMS,
    AN_NO_WEIGHT,
    AN_LATE_WEIGHT,
    AN_HALF,
    AN_UP,
    AN_STUCK
};

static void add_norm(const build *b) {
    kiln_graph *g = b->g;
    int v = b->variant;
    bool copied = v == AN_UP || v == AN_STUCK;
    kiln_tensor x = rows_input(b, "x"), w = v == AN_NO_WEIGHT ? none : vector(b, "w");
    kiln_tensor r = v == AN_REPEATED ? vector(b, "r") : rows_input(b, "r");
    before(b, x);
    if (copied)
        x = scratch(b, x);
    if (v == AN_LATE_WEIGHT || v == AN_STUCK)
        w = scratch(b, w);
    if (v == AN_HALF)
        x = kiln_copy(g, x, KILN_F16);
    kiln_tensor sum = kiln_add(g, x, r);
    between(b, sum);
    if (copied)
        (void)kiln_zero(g, x);
    if (v == AN_STUCK)
        show(b, sum, "reader");
    kiln_tensor in = sum;
    if (v == AN_RESHAPED) {
        in = kiln_reshape(g, sum, KILN_SHAPE(b->t, kiln_n(2), kiln_n(32)));
        w = kiln_slice(g, w, 0, 0, kiln_n(32));
    }
    kiln_output(g, kiln_rms_norm(g, in, w, 1e-5f), "normed");
    if (v == AN_TWO_NORMS)
        kiln_output(g, kiln_rms_norm(g, sum, none, 1e-3f), "normed_too");
    after(b, sum);
    show(b, sum, "last");
}

enum sum_residual {
    SR_SWAPPED = OWN,
    SR_HAS_RESIDUAL,
    SR_REPEATED,
    SR_TWICE,
    SR_SHARED,
    SR_HALF,
    SR_UP,
    SR_STUCK
};

static void sum_residual(const build *b) {
    kiln_graph *g = b->g;
    int v = b->variant;
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(b->t, kiln_n(3), kiln_n(H)));
    kiln_tensor w = kiln_input(g, "w", KILN_F32, KILN_SHAPE(b->t, kiln_n(3)));
    kiln_tensor r = v == SR_REPEATED ? vector(b, "r") : rows_input(b, "r");
    before(b, r);
    if (v == SR_HALF)
        r = kiln_copy(g, r, KILN_F16);
    if (v == SR_UP || v == SR_STUCK)
        w = scratch(b, w);
    if (v == SR_STUCK)
        r = scratch(b, r);
    kiln_tensor s = kiln_weighted_sum_full(g, x, w, v == SR_HAS_RESIDUAL ? r : none,
                                           v == SR_SHARED ? rows_input(b, "shared") : none, none);
    between(b, s);
    if (v == SR_UP || v == SR_STUCK)
        (void)kiln_zero(g, w);
    if (v == SR_STUCK)
        (void)kiln_zero(g, r);
    kiln_tensor y = v == SR_SWAPPED || v == SR_HALF ? kiln_add(g, v == SR_HALF ? scratch(b, r) : r, s)
                                                    : kiln_add(g, s, v == SR_TWICE ? s : r);
    after(b, s);
    kiln_output(g, y, "y");
}

enum rope_append {
    RA_MERGED = OWN,
    RA_STRIDED,
    RA_MERGED_STRIDED,
    RA_FEW_ROWS,
    RA_OTHER_ROWS,
    RA_INDICES,
    RA_POSITIONS,
    RA_FROM_CACHE,
    RA_UP,
    RA_STUCK
};

static void rope_append(const build *b) {
    kiln_graph *g = b->g;
    int v = b->variant;
    kiln_dim flat[] = {kiln_n(32), kiln_n(H)}, heads[] = {kiln_n(32), kiln_n(4), kiln_n(16)};
    bool merged = v == RA_MERGED, turned = v == RA_STRIDED || v == RA_MERGED_STRIDED;
    kiln_dim by_head[] = {kiln_n(4), kiln_n(32), kiln_n(16)};
    kiln_tensor cache = turned   ? kiln_state(g, "cache", KILN_F16, 3, by_head)
                        : merged ? kiln_state(g, "cache", KILN_F16, 2, flat)
                                 : kiln_state(g, "cache", KILN_F16, 3, heads);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(b->t, kiln_n(4), kiln_n(16)));
    kiln_tensor where = kiln_input(g, "where", KILN_I32, KILN_SHAPE(b->t)), dst = cache;
    before(b, kiln_input(g, "early", KILN_F32, KILN_SHAPE(b->t, kiln_n(H))));
    if (turned)
        dst = kiln_permute(g, cache, (uint32_t[]){1, 0, 2});
    if (v == RA_FROM_CACHE)
        x = kiln_slice(g, cache, 0, 0, b->t);
    if (v == RA_UP || v == RA_STUCK)
        x = scratch(b, x);
    kiln_tensor y = kiln_rope(g, x, v == RA_POSITIONS ? where : none,
                              (kiln_rope_attrs){.position = kiln_i64_of(kiln_slot_find(g, "past")),
                                                .theta = 10000,
                                                .freq_scale = 1,
                                                .mode = KILN_ROPE_NEOX});
    between(b, y);
    if (v == RA_UP || v == RA_STUCK)
        (void)kiln_zero(g, x);
    if (v == RA_STUCK)
        (void)kiln_zero(g, kiln_slice(g, cache, 0, 3, kiln_n(2)));
    kiln_tensor rows = y, indices = v == RA_INDICES ? where : none;
    if (merged)
        rows = kiln_reshape(g, y, KILN_SHAPE(b->t, kiln_n(H)));
    if (v == RA_FEW_ROWS)
        rows = kiln_slice(g, y, 0, 0, kiln_n(0));
    if (v == RA_OTHER_ROWS) { /* the same bytes as twice the rows of half the heads */
        rows = kiln_reshape(g, y, KILN_SHAPE((kiln_dim){2, b->t.slot}, kiln_n(2), kiln_n(16)));
        dst = kiln_reshape(g, cache, KILN_SHAPE(kiln_n(64), kiln_n(2), kiln_n(16)));
    }
    dst = kiln_set_rows(g, dst, rows, indices,
                        (kiln_set_rows_attrs){.position = kiln_i64_of(kiln_slot_find(g, "past"))});
    after(b, y);
    kiln_output(g, kiln_copy(g, dst, KILN_F32), "seen");
}

/* Producers with quant; fast precision. */
enum quantize { Q_NORM = OWN, Q_ADD_NORM, Q_SUM, Q_RESHAPED, Q_TWO_KINDS, Q_ODD, Q_READER_BETWEEN, Q_KEPT };

static void quantize(const build *b) {
    kiln_graph *g = b->g;
    int v = b->variant;
    kiln_tensor x = rows_input(b, "x"), u = rows_input(b, "u"), y, sum;
    before(b, x);
    if (v == Q_NORM)
        y = kiln_rms_norm(g, x, vector(b, "w"), 1e-5f);
    else if (v == Q_ADD_NORM || v == Q_SUM)
        sum = kiln_add_rms_norm(g, x, u, vector(b, "w"), 1e-5f, &y);
    else
        y = kiln_swiglu(g, x, u, KILN_ACT_SILU);
    if (v == Q_SUM)
        y = sum;
    between(b, y);
    kiln_tensor rows = y;
    bool reshaped = v == Q_RESHAPED || v == Q_KEPT;
    int64_t k = reshaped ? 32 : H;
    if (reshaped)
        rows = kiln_reshape(g, y, KILN_SHAPE((kiln_dim){2, b->t.slot}, kiln_n(32)));
    if (v == Q_READER_BETWEEN)
        show(b, y, "reader");
    kiln_tensor w = kiln_weight(g, "m", KILN_Q8_0, KILN_SHAPE(kiln_n(16), kiln_n(k)));
    kiln_tensor in[] = {w, rows, none, none}, out;
    if (v == Q_KEPT) { /* the graph's own quantize: its output is watched as it is, in its own shape */
        in[KILN_MATMUL_XQ] = kiln_quantize(g, rows, KILN_QUANT_Q8_A);
        kiln_name(g, in[KILN_MATMUL_XQ], "tap");
    }
    assert_int_equal(kiln_node_add(g, &kiln__op_matmul, in, 4, NULL, &out), KILN_OK);
    kiln_output(g, out, "y");
    if (v == Q_TWO_KINDS)
        kiln_output(g, kiln_matmul(g, kiln_weight(g, "m16", KILN_F16, KILN_SHAPE(kiln_n(16), kiln_n(k))), y),
                    "y16");
    after(b, y);
}

/* ---- the table ----------------------------------------------------------------------------------------- */

typedef struct fusion_case {
    const char *name;
    int variant;
    bool fires;
} fusion_case;

typedef struct rule_cases {
    const char *rule;
    uint32_t bit;
    void (*build)(const build *b);
    bool fast, keeps; /* keeps: the tensor between stays, so others may read it */
    double tolerance; /* 0: bit for bit, as all but sum_residual, which adds in another order */
    fusion_case own[12];
} rule_cases;

static const rule_cases rules[] = {
    {"softmax_topk",
     KILN_FUSE_SOFTMAX_TOPK,
     softmax_topk,
     false,
     false,
     0,
     {{"axis 1", ST_AXIS_1, true},
      {"axis 0", ST_AXIS_0, false},
      {"scale", ST_SCALE, false},
      {"mask", ST_MASK, false},
      {"order", ST_ORDER, false},
      {"softmax over the chosen", ST_CHOSEN, false},
      {"per-expert scale", ST_SCALED, true},
      {"logits written between", ST_UP, true},
      {"logits and scale written between", ST_STUCK, false}}},
    {"norm_weight",
     KILN_FUSE_NORM_WEIGHT,
     norm_weight,
     false,
     false,
     0,
     {{"has a weight", NW_HAS_WEIGHT, false},
      {"quantised already", NW_QUANTISED, false},
      {"by a matrix", NW_MATRIX, false},
      {"by a matrix with as many rows as columns", NW_MATRIX_64, false},
      {"by one row", NW_ROW, false},
      {"by itself", NW_SQUARE, false},
      {"vectors", NW_VECTOR, true},
      {"weight first", NW_VECTOR_SWAPPED, true},
      {"part of the norm", NW_SHORT_VIEW, false},
      {"x written between", NW_UP, true},
      {"x and weight written between", NW_STUCK, false}}},
    {"add_norm",
     KILN_FUSE_ADD_NORM,
     add_norm,
     false,
     true,
     0,
     {{"a repeated term", AN_REPEATED, false},
      {"sum in another shape", AN_RESHAPED, false},
      {"two norms", AN_TWO_NORMS, true},
      {"no weight", AN_NO_WEIGHT, true},
      {"computed weight", AN_LATE_WEIGHT, false},
      {"f16 term", AN_HALF, true},
      {"term written between", AN_UP, true},
      {"computed weight, term written, sum read", AN_STUCK, false}}},
    {"sum_residual",
     KILN_FUSE_SUM_RESIDUAL,
     sum_residual,
     false,
     false,
     1e-6,
     {{"residual first", SR_SWAPPED, true},
      {"has a residual", SR_HAS_RESIDUAL, false},
      {"a repeated residual", SR_REPEATED, false},
      {"the sum twice", SR_TWICE, false},
      {"with a shared expert", SR_SHARED, true},
      {"f16 residual, copied", SR_HALF, true},
      {"w written between", SR_UP, true},
      {"w and residual written between", SR_STUCK, false}}},
    {"rope_append",
     KILN_FUSE_ROPE_APPEND,
     rope_append,
     false,
     false,
     0,
     {{"heads merged", RA_MERGED, true},
      {"cache by heads", RA_STRIDED, true},
      {"some rows", RA_FEW_ROWS, false},
      {"other rows", RA_OTHER_ROWS, false},
      {"indices", RA_INDICES, true},
      {"positions", RA_POSITIONS, true},
      {"from the cache", RA_FROM_CACHE, false},
      {"x written between", RA_UP, true},
      {"x and cache written between", RA_STUCK, false}}},
    {"quantize",
     KILN_FUSE_QUANTIZE,
     quantize,
     true,
     true,
     0,
     {{"rms_norm", Q_NORM, true},
      {"add_rms_norm", Q_ADD_NORM, true},
      {"the sum of add_rms_norm", Q_SUM, false},
      {"in another shape", Q_RESHAPED, true},
      {"in another shape, watched", Q_KEPT, false},
      {"two kinds", Q_TWO_KINDS, true},
      {"read between", Q_READER_BETWEEN, true}}},
};

enum { N_RULES = sizeof rules / sizeof rules[0] };

static void run_case(const rule_cases *r, const char *name, int variant, bool fires) {
    kiln_graph *g = new_graph();
    build b = {g, kiln_sym(kiln_slot_i64(g, "t", 0, MAX_T)), variant};
    (void)kiln_slot_i64(g, "past", 0, 32 - MAX_T);
    r->build(&b);
    if (g->error.status != KILN_OK)
        fail_msg("%s, %s: %s", r->rule, name, g->error.text);
    uint8_t *keep = calloc(g->tensors.count, 1);
    assert_non_null(keep);
    keep[kiln_tensor_find(g, "tap").id] = 1;
    kiln__rewrites with, without;
    kiln__rewrite_options options = {.exact = !r->fast, .keep = keep};
    kiln_graph *p = rewritten(g, &options, &with);
    if ((count_rule(&with, r->rule) == 1) != fires || count_rule(&with, r->rule) > 1)
        fail_msg("%s, %s: applied %zu times", r->rule, name, count_rule(&with, r->rule));
    options.no_fuse = r->bit;
    kiln_graph *q = rewritten(g, &options, &without);
    assert_int_equal(count_rule(&without, r->rule), 0);
    assert_int_equal(p->nodes.count + with.count, q->nodes.count + without.count);
    compare(q, p, r->tolerance, (uint64_t)variant);
    if (!r->fast)
        compare(g, p, 1e-6, (uint64_t)variant + 100);
    kiln__rewrites_free(&with);
    kiln__rewrites_free(&without);
    kiln_graph_destroy(p);
    kiln_graph_destroy(q);
    kiln_graph_destroy(g);
    free(keep);
}

static void run_rule(const rule_cases *r) {
    static const fusion_case shared[] = {{"plain", PLAIN, true},
                                         {"read", READER, false},
                                         {"read later", READER_LATE, false},
                                         {"part read", VIEW_READER, false},
                                         {"output", OUTPUT, false},
                                         {"watched", TAP, false},
                                         {"part watched", VIEW_TAP, false}};
    static const fusion_case strict[] = {{"written between", WRITTEN, false},
                                         {"part written", PART_WRITTEN, false},
                                         {"opaque node between", OPAQUE_BETWEEN, false},
                                         {"opaque node before", OPAQUE_EARLY, true}};
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++)
        run_case(r, shared[i].name, shared[i].variant, shared[i].fires || r->keeps);
    for (size_t i = 0; i < sizeof strict / sizeof strict[0]; i++)
        run_case(r, strict[i].name, strict[i].variant, strict[i].fires);
    run_case(r, "opaque node later", OPAQUE_LATE, r->keeps);
    for (size_t i = 0; r->own[i].name != NULL; i++)
        run_case(r, r->own[i].name, r->own[i].variant, r->own[i].fires);
}

#define RULE(i, name)                                                                                        \
    static void name##_rule(void **state) {                                                                  \
        (void)state;                                                                                         \
        run_rule(&rules[i]);                                                                                 \
    }
RULE(0, softmax_topk)
RULE(1, norm_weight)
RULE(2, add_norm)
RULE(3, sum_residual)
RULE(4, rope_append)
RULE(5, quantize)

/* An add between a weighted_sum and a norm goes to the weighted_sum; without that rule, to the norm. */
static void sum_goes_first(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    build b = {g, kiln_sym(kiln_slot_i64(g, "t", 0, MAX_T)), PLAIN};
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(b.t, kiln_n(3), kiln_n(H)));
    kiln_tensor w = kiln_input(g, "w", KILN_F32, KILN_SHAPE(b.t, kiln_n(3)));
    kiln_tensor y = kiln_add(g, rows_input(&b, "r"), kiln_weighted_sum(g, x, w));
    kiln_name(g, y, "sum");
    kiln_output(g, kiln_mul(g, kiln_rms_norm(g, y, none, 1e-5f), vector(&b, "norm")), "normed");
    kiln__rewrites r;
    kiln_graph *p = rewritten(g, &(kiln__rewrite_options){.exact = true}, &r);
    assert_int_equal(p->nodes.count, 2);
    assert_ptr_equal(p->nodes.items[0].op, &kiln__op_weighted_sum);
    assert_string_equal(kiln__text(p, p->nodes.items[0].name), "sum");
    assert_string_equal(kiln__text(p, p->nodes.items[1].name), "normed");
    assert_int_equal(p->nodes.items[0].origin, 2);
    assert_int_equal(p->nodes.items[1].origin, 4);
    compare(g, p, 1e-6, 1);
    kiln_graph_destroy(p);
    kiln__rewrites_free(&r);
    p = rewritten(g, &(kiln__rewrite_options){.exact = true, .no_fuse = KILN_FUSE_SUM_RESIDUAL}, &r);
    assert_int_equal(p->nodes.count, 2);
    assert_ptr_equal(p->nodes.items[1].op, &kiln__op_add_rms_norm);
    /* add, rms_norm, mul: the log has both rules, each with all it came from, and where that is now */
    assert_int_equal(r.count, 2);
    assert_int_equal(r.items[0].n_from, 2);
    assert_int_equal(r.items[1].n_from, 3);
    assert_int_equal(r.items[0].node, 1);
    assert_int_equal(r.items[1].node, 1);
    assert_int_equal(r.items[1].from[0], 1);
    assert_int_equal(r.items[1].from[2], 3);
    compare(g, p, 1e-6, 1);
    kiln_graph_destroy(p);
    kiln__rewrites_free(&r);
    kiln_graph_destroy(g);
}

/* The add_rms_norm stands where the add stood, since the sum is read right after it; what comes then must see
 * that reader. */
static void moved_twice(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    build b = {g, kiln_sym(kiln_slot_i64(g, "t", 0, MAX_T)), PLAIN};
    kiln_tensor sum = kiln_add(g, rows_input(&b, "x"), rows_input(&b, "r"));
    show(&b, sum, "reader");
    kiln_tensor normed = kiln_rms_norm(g, sum, vector(&b, "w"), 1e-5f);
    kiln_output(g, kiln_matmul(g, kiln_weight(g, "m", KILN_Q8_0, KILN_SHAPE(kiln_n(16), kiln_n(H))), normed),
                "y");
    kiln__rewrites r, s;
    kiln_graph *p = rewritten(g, &(kiln__rewrite_options){.exact = false}, &r);
    kiln_graph *q = rewritten(g, &(kiln__rewrite_options){.no_fuse = KILN_FUSE_ALL}, &s);
    assert_int_equal(r.count, 2);
    assert_ptr_equal(p->nodes.items[0].op, &kiln__op_add_rms_norm);
    assert_int_equal(p->nodes.items[0].n_out, 3);
    compare(q, p, 1e-6, 1);
    kiln__rewrites_free(&r);
    kiln__rewrites_free(&s);
    kiln_graph_destroy(p);
    kiln_graph_destroy(q);
    kiln_graph_destroy(g);
}

/* A program may put an output over an operand that dies there; a fused kernel works in other steps. */
static void outputs_over_operands(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    build b = {g, kiln_n(2), PLAIN};
    kiln_tensor w = kiln_input(g, "w", KILN_F32, KILN_SHAPE(b.t, kiln_n(3)));
    kiln_tensor r = rows_input(&b, "r");
    kiln_storage s = kiln_storage_add(g, KILN_STORAGE_ARENA, NULL, 2 * 3 * H * 4);
    kiln_tensor x = kiln_tensor_at(g, s, 0, KILN_F32, KILN_SHAPE(b.t, kiln_n(3), kiln_n(H)), NULL);
    kiln_tensor y = kiln_tensor_at(g, s, 0, KILN_F32, KILN_SHAPE(b.t, kiln_n(H)), NULL);
    kiln_copy_attrs copy = {KILN_F32};
    kiln_tensor in = kiln_input(g, "in", KILN_F32, KILN_SHAPE(b.t, kiln_n(3), kiln_n(H)));
    assert_int_equal(kiln__node_emit(g, &kiln__op_copy, NULL, &in.id, 1, &x.id, 1, &copy), KILN_OK);
    kiln_tensor sum = kiln_weighted_sum(g, x, w);
    assert_int_equal(kiln__node_emit(g, &kiln__op_add, NULL, (uint32_t[]){sum.id, r.id}, 2, &y.id, 1, NULL),
                     KILN_OK);
    kiln_output(g, kiln_silu(g, y), "y");
    kiln__rewrites log;
    kiln_graph *p = rewritten(g, &(kiln__rewrite_options){.exact = true}, &log);
    assert_int_equal(log.count, 0); /* the sum's input would be overwritten while it is read */
    compare(g, p, 0, 1);
    kiln_graph_destroy(p);
    kiln__rewrites_free(&log);
    kiln_graph_destroy(g);
}

/* Storages over the same memory are the same bytes. */
static void mapped_memory(void **state) {
    (void)state;
    static float memory[16 * H];
    for (int apart = 0; apart < 2; apart++) {
        kiln_graph *g = new_graph();
        build b = {g, kiln_n(2), PLAIN};
        kiln_tensor x = rows_input(&b, "x"), u = rows_input(&b, "u");
        kiln_tensor n = kiln_rms_norm(g, x, none, 1e-5f);
        kiln_tensor w = vector(&b, "w"), other = kiln_silu(g, u); /* other lies over x, or behind it */
        kiln_output(g, other, "other");
        kiln_tensor v = kiln_mul(g, other, u), y = kiln_mul(g, n, w);
        kiln_output(g, v, "v");
        kiln_output(g, y, "y");
        kiln_storage_data(g, kiln_storage_of(g, x), memory, sizeof(float) * 2 * H, 0);
        kiln_storage_data(g, kiln_storage_of(g, other), memory + (apart ? 2 : 1) * H, sizeof(float) * 2 * H,
                          0);
        kiln_storage_data(g, kiln_storage_of(g, v), memory + 8 * H, sizeof(float) * 2 * H, 0);
        kiln__rewrites log;
        kiln_graph *p = rewritten(g, &(kiln__rewrite_options){.exact = true}, &log);
        assert_int_equal(log.count, 1);
        /* moved down when nothing is in the way; else the product moves up to where the norm was */
        assert_ptr_equal(p->nodes.items[apart ? 2 : 0].op, &kiln__op_rms_norm);
        kiln_graph_destroy(p);
        kiln__rewrites_free(&log);
        kiln_graph_destroy(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_topk_rule), cmocka_unit_test(norm_weight_rule),
        cmocka_unit_test(add_norm_rule),     cmocka_unit_test(sum_residual_rule),
        cmocka_unit_test(rope_append_rule),  cmocka_unit_test(quantize_rule),
        cmocka_unit_test(sum_goes_first),    cmocka_unit_test(outputs_over_operands),
        cmocka_unit_test(mapped_memory),     cmocka_unit_test(moved_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
