/* A zeroed attribute struct means the defaults, or is refused by name: over the whole table of ops, and what
 * comes out for the structs that people leave fields out of. */
#include "check.h"
#include "eager.h"
#include "every_op.h"
#include "graph.h"
#include "kiln_json.h"
#include "kiln_ops.h"

#include <math.h>

static const kiln_tensor none = {0, 0};

static kiln_graph *new_graph(void) {
    kiln_graph *g;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    return g;
}

/* ---- what comes out --------------------------------------------------------------------------------- */

/* Runs a graph and compares the first n values of y. */
static void check_values(kiln_graph *g, kiln_tensor x, const float *in, kiln_tensor y, const float *want,
                         int n) {
    CHECK_OK(kiln_graph_check(g, error));
    eager *run = eager_new(g, 0);
    memcpy(eager_data(run, x), in, (size_t)n * sizeof *in);
    assert_int_equal(eager_run(run, 1).status, KILN_OK);
    const float *got = eager_data(run, y);
    for (int i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-6f))
            fail_msg("element %d is %.9g, expected %.9g", i, (double)got[i], (double)want[i]);
    eager_free(run);
    kiln_graph_destroy(g);
}

static void softmax_of_rows(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(2)));
    kiln_tensor y = kiln_softmax(g, x, none, (kiln_softmax_attrs){0});
    check_values(g, x, (float[]){0, logf(3)}, y, (float[]){0.25f, 0.75f}, 2);
}

static void rope_turns(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(2)));
    kiln_tensor y = kiln_rope(g, x, none, (kiln_rope_attrs){.theta = 10000});
    check_values(g, x, (float[]){1, 0, 1, 0}, y, (float[]){1, 0, cosf(1), sinf(1)}, 4);
}

static kiln_tensor ones(kiln_graph *g, const char *name, int64_t a, int64_t b, int64_t c) {
    return kiln_weight(g, name, KILN_F32, KILN_SHAPE(kiln_n(a), kiln_n(b), kiln_n(c)));
}

/* Experts that are all alike: the weights of the chosen ones sum to 1, so it does not matter how many are
 * chosen. */
static void moe_weights_sum_to_one(void **state) {
    (void)state;
    float got[2];
    for (int i = 0; i < 2; i++) {
        kiln_graph *g = new_graph();
        kiln_moe_ffn_spec spec = {.k = i ? 4 : 2};
        spec.x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(2)));
        spec.router = kiln_weight(g, "router", KILN_F32, KILN_SHAPE(kiln_n(4), kiln_n(2)));
        spec.gate = ones(g, "gate_up", 4, 2, 2);
        spec.down = ones(g, "down", 4, 2, 1);
        kiln_tensor y = kiln_moe_ffn(g, &spec);
        CHECK_OK(kiln_graph_check(g, error));
        eager *run = eager_new(g, 0);
        const kiln_tensor all[] = {spec.x, spec.router, spec.gate, spec.down};
        const int counts[] = {2, 8, 16, 8};
        for (int t = 0; t < 4; t++)
            for (int n = 0; n < counts[t]; n++)
                ((float *)eager_data(run, all[t]))[n] = 1;
        assert_int_equal(eager_run(run, 1).status, KILN_OK);
        got[i] = *(const float *)eager_data(run, y);
        eager_free(run);
        kiln_graph_destroy(g);
    }
    if (!(fabsf(got[0] - got[1]) <= 1e-6f))
        fail_msg("two of four equal experts give %.9g, all four %.9g", (double)got[0], (double)got[1]);
}

/* What is written as zero is zero: the ways to write it, and a slot that holds 0. */
static void zero_that_was_given(void **state) {
    (void)state;
    const float in[] = {3, 5}, shift[] = {2, 2}, same[] = {3, 5};
    enum { SLOT = 3 };
    for (int way = 0; way <= SLOT; way++) {
        kiln_graph *g = new_graph();
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2)));
        kiln_slot slot = kiln_slot_f32(g, "s", 0);
        kiln_scale_attrs a = {.shift = kiln_f32_const(2)};
        if (way == 0)
            a.scale.value = KILN_ZERO_F32;
        else
            a.scale = way == SLOT ? kiln_f32_of(slot) : kiln_f32_const(way == 1 ? 0.0f : -0.0f);
        check_values(g, x, in, kiln_scale(g, x, a), shift, 2);
    }
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2)));
    check_values(g, x, in, kiln_scale(g, x, (kiln_scale_attrs){0}), same, 2);
}

static void accumulate_by(kiln_f32_value w, const float want[1]) {
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1)));
    kiln_tensor y = kiln_accumulate_by(g, kiln_zeros(g, KILN_SHAPE(kiln_n(1))), x, w);
    check_values(g, x, (float[]){4}, y, want, 1);
}

static void accumulated_weight(void **state) {
    (void)state;
    accumulate_by((kiln_f32_value){0, 0}, (float[]){4});
    accumulate_by(kiln_f32_const(0), (float[]){0});
    accumulate_by(kiln_f32_const(0.5f), (float[]){2});
}

static void softmax_of_columns(void **state) {
    (void)state;
    for (int way = 0; way < 2; way++) {
        kiln_graph *g = new_graph();
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(2)));
        kiln_softmax_attrs a = {.axis = way == 0 ? KILN_ZERO_I64 : kiln_i64_given(0)};
        check_values(g, x, (float[]){0, 5, logf(3), 5}, kiln_softmax(g, x, none, a),
                     (float[]){0.25f, 0.5f, 0.75f, 0.5f}, 4);
    }
}

/* ---- the whole table -------------------------------------------------------------------------------- */

static uint32_t attr_bytes(const kiln_attr *a) {
    static const uint32_t bytes[] = {
        [KILN_ATTR_BOOL] = 4,      [KILN_ATTR_ENUM] = 4,     [KILN_ATTR_I64] = 8, [KILN_ATTR_F32] = 4,
        [KILN_ATTR_I64_SLOT] = 16, [KILN_ATTR_F32_SLOT] = 8, [KILN_ATTR_OFF] = 4};
    return bytes[a->type];
}

/* Adds a node like node `at` with these attributes; *stored receives what its kernels are going to see. */
static kiln_status add_again(kiln_graph *g, size_t at, const void *attrs, unsigned char stored[256]) {
    const kiln__node n = g->nodes.items[at];
    kiln_tensor in[64], out[8];
    assert_true(n.n_in <= 64);
    for (uint32_t i = 0; i < n.n_in; i++) {
        uint32_t id = g->operands.items[n.operands + i];
        in[i] = (kiln_tensor){id, id ? g->tag : 0};
    }
    kiln_status status = kiln_node_add(g, n.op, in, n.n_in, attrs, out);
    if (status == KILN_OK && n.op->attrs_size > 0)
        memcpy(stored, kiln__node_attrs(g, &g->nodes.items[g->nodes.count - 1]), n.op->attrs_size);
    return status;
}

/* The error that the graph remembers names the attribute. Forgets it, so that the graph takes nodes again. */
static void check_named(kiln_graph *g, const kiln_op *op, const kiln_attr *a, const char *what) {
    kiln_error error;
    char want[64];
    snprintf(want, sizeof want, "attribute %s ", a->name);
    if (kiln_graph_check(g, &error) == KILN_OK || strstr(error.text, want) == NULL)
        fail_msg("%s: %s for %s is refused with '%s'", op->name, what, a->name, error.text);
    g->error.status = KILN_OK;
}

/* One attribute zeroed, all others as attrs == NULL has them. */
static void check_zeroed(kiln_graph *g, size_t at, const kiln_attr *a) {
    const kiln_op *op = g->nodes.items[at].op;
    _Alignas(8) unsigned char attrs[256], zeroed[256], preset[256];
    assert_int_equal(add_again(g, at, NULL, preset), KILN_OK);
    kiln_op_defaults(op, attrs);
    memset(attrs + a->offset, 0, attr_bytes(a));
    bool taken = add_again(g, at, attrs, zeroed) == KILN_OK;
    if (taken == a->required)
        fail_msg("%s: 0 for %s is %s", op->name, a->name, taken ? "taken" : "refused");
    if (!taken)
        check_named(g, op, a, "0");
    else if (memcmp(zeroed, preset, op->attrs_size) != 0)
        fail_msg("%s: 0 for %s is not its default", op->name, a->name);
}

/* What the attribute holds: all of it is 0 but for a sign. */
static bool is_zero(const kiln_attr *a, const unsigned char *stored) {
    static const unsigned char zero[16] = {0};
    return memcmp(stored + a->offset, zero, attr_bytes(a)) == 0;
}

/* One attribute that is a number given as zero: it is stored as 0, or a bound refuses it. False: it is not a
 * number. */
static bool check_given(kiln_graph *g, size_t at, const kiln_attr *a) {
    const kiln_op *op = g->nodes.items[at].op;
    _Alignas(8) unsigned char attrs[256], stored[256];
    kiln_op_defaults(op, attrs);
    void *field = attrs + a->offset;
    if (a->type == KILN_ATTR_I64)
        *(int64_t *)field = KILN_ZERO_I64;
    else if (a->type == KILN_ATTR_F32)
        *(float *)field = KILN_ZERO_F32;
    else if (a->type == KILN_ATTR_I64_SLOT)
        *(kiln_i64_value *)field = kiln_i64_const(0);
    else if (a->type == KILN_ATTR_F32_SLOT)
        *(kiln_f32_value *)field = kiln_f32_const(0);
    else
        return false;
    bool bounded = a->min > 0 || a->max < 0;
    bool taken = add_again(g, at, attrs, stored) == KILN_OK;
    if (taken == bounded)
        fail_msg("%s: zero for %s is %s", op->name, a->name, taken ? "taken" : "refused");
    if (!taken)
        check_named(g, op, a, "zero");
    else if (!is_zero(a, stored))
        fail_msg("%s: zero for %s is stored as something else", op->name, a->name);
    return true;
}

/* A struct of zeroes: refused with the name of an attribute that must be set, and with those set it is attrs
 * == NULL. */
static void check_zeroed_struct(kiln_graph *g, size_t at) {
    const kiln_op *op = g->nodes.items[at].op;
    _Alignas(8) unsigned char attrs[256] = {0}, zeroed[256], preset[256], defaults[256];
    assert_int_equal(add_again(g, at, NULL, preset), KILN_OK);
    kiln_op_defaults(op, defaults);
    for (uint32_t k = 0; k < op->n_attrs; k++) {
        const kiln_attr *a = &op->attrs[k];
        if (!a->required)
            continue;
        assert_int_equal(add_again(g, at, attrs, zeroed), KILN_ERROR_ARGUMENT);
        check_named(g, op, a, "a struct of zeroes");
        memcpy(attrs + a->offset, defaults + a->offset, attr_bytes(a));
    }
    if (add_again(g, at, attrs, zeroed) != KILN_OK)
        fail_msg("%s: a struct of zeroes is refused: %s", op->name, g->error.text);
    assert_memory_equal(zeroed, preset, op->attrs_size);
}

static void every_attribute(void **state) {
    (void)state;
    kiln_graph *g = every_op_graph();
    size_t n_nodes = g->nodes.count, n = 0, n_numbers = 0;
    kiln_op_set set = kiln_ops_builtin();
    for (size_t i = 0; i < set.count; i++) {
        size_t at = 0;
        while (at < n_nodes && g->nodes.items[at].op != set.ops[i])
            at++;
        assert_true(at < n_nodes);
        for (uint32_t k = 0; k < set.ops[i]->n_attrs; k++, n++) {
            check_zeroed(g, at, &set.ops[i]->attrs[k]);
            n_numbers += check_given(g, at, &set.ops[i]->attrs[k]);
        }
        if (set.ops[i]->n_attrs > 0)
            check_zeroed_struct(g, at);
    }
    print_message("%zu attributes, of which %zu are numbers, of %zu ops\n", n, n_numbers, set.count);
    assert_true(n_numbers > 0);
    kiln_graph_destroy(g);
}

/* ---- builder functions with plain arguments --------------------------------------------------------- */

static const void *attrs_of(const kiln_graph *g, kiln_tensor made) {
    return kiln__node_attrs(g, &g->nodes.items[g->producers.items[made.id] - 1]);
}

/* An argument of 0 is the 0 that was written. */
static void arguments(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(4))), y;
    y = kiln_rms_norm(g, x, none, 0);
    assert_true(((const kiln_rms_norm_attrs *)attrs_of(g, y))->eps == 0);
    y = kiln_add_rms_norm(g, x, x, none, 0, NULL);
    assert_true(((const kiln_rms_norm_attrs *)attrs_of(g, y))->eps == 0);
    y = kiln_layer_norm(g, x, none, none, 0);
    assert_true(((const kiln_layer_norm_attrs *)attrs_of(g, y))->eps == 0);
    y = kiln_l2_norm(g, x, 0);
    assert_true(((const kiln_l2_norm_attrs *)attrs_of(g, y))->eps == 0);
    y = kiln_concat(g, (kiln_tensor[]){x, x}, 2, 0);
    assert_true(((const kiln_concat_attrs *)attrs_of(g, y))->axis == 0);
    y = kiln_rms_norm(g, x, none, 1e-6f);
    assert_true(((const kiln_rms_norm_attrs *)attrs_of(g, y))->eps == 1e-6f);
    CHECK_OK(kiln_graph_check(g, error));
    kiln_graph_destroy(g);
}

/* Each in a separate graph; `call` has g, x [2,4] f32 and ids [2,2] i32. */
#define REFUSED(call, text)                                                                                  \
    do {                                                                                                     \
        kiln_graph *g = new_graph();                                                                         \
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(4)));                      \
        kiln_tensor ids = kiln_input(g, "ids", KILN_I32, KILN_SHAPE(kiln_n(2), kiln_n(2)));                  \
        (void)x, (void)ids, (void)(call);                                                                    \
        CHECK_FAILS(kiln_graph_check(g, error), KILN_ERROR_ARGUMENT, text);                                  \
        kiln_graph_destroy(g);                                                                               \
    } while (0)

static void refusals(void **state) {
    (void)state;
    REFUSED(kiln_top_k(g, x, 0, NULL),
            "node 'top_k.0' (top_k): attribute k is 0, and has no default: set it to 1 … 2147483647");
    REFUSED(
        kiln_gather_topk(g, x, none, none, (kiln_gather_topk_attrs){0}, NULL),
        "node 'gather_topk.0' (gather_topk): attribute k is 0, and has no default: set it to 1 … 2147483647");
    REFUSED(kiln_expert_map(g, ids, 0, NULL),
            "node 'expert_map.0' (expert_map): attribute n_experts is 0, and has "
            "no default: set it to 1 … 2147483645");
    REFUSED(kiln_quantize(g, x, KILN_QUANT_NONE),
            "node 'quantize.0' (quantize): attribute quant is 0, and has no default: set it, e.g. to q8_a");
    REFUSED(kiln_copy(g, x, KILN_DTYPE_NONE),
            "node 'copy.0' (copy): attribute dtype is 0, and has no default: set it, e.g. to f32");
    REFUSED(kiln_softcap(g, x, 0),
            "node 'softcap.0' (softcap): attribute cap is 0; it must be 1.175494351e-38 to "
            "3.402823466e+38");
    REFUSED(
        kiln_moe_ffn(g, &(kiln_moe_ffn_spec){.x = x, .router = x, .gate = x, .down = x}),
        "node 'gather_topk.2' (gather_topk): attribute k is 0, and has no default: set it to 1 … 2147483647");
}

/* ---- custom ops: the same rule ---------------------------------------------------------------------- */

typedef struct own_attrs {
    kiln_i64_value count;
    int64_t places;
    kiln_f32_value weight;
    float limit;
    uint32_t no_wrap, mode;
} own_attrs;

static const char *const modes[] = {"slow", "fast"};

static const kiln_attr own[] = {
    {.name = "count", .type = KILN_ATTR_I64_SLOT, .offset = offsetof(own_attrs, count), .preset = 7},
    {.name = "places", .type = KILN_ATTR_I64, .offset = offsetof(own_attrs, places), .preset = 3},
    {.name = "weight", .type = KILN_ATTR_F32_SLOT, .offset = offsetof(own_attrs, weight), .preset = 0.5},
    {.name = "limit",
     .type = KILN_ATTR_F32,
     .offset = offsetof(own_attrs, limit),
     .preset = 9,
     .required = true},
    {.name = "wrap", .type = KILN_ATTR_OFF, .offset = offsetof(own_attrs, no_wrap)},
    {.name = "mode",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(own_attrs, mode),
     .names = modes,
     .n_names = 2}};

static kiln_status infer_own(kiln_infer *infer) {
    infer->out[0] = *infer->in[0];
    return KILN_OK;
}

static const char *const in_names[] = {"x"}, *const out_names[] = {"y"};

static const kiln_op own_op = {.name = "own",
                               .in_names = in_names,
                               .n_in_min = 1,
                               .n_in_max = 1,
                               .out_names = out_names,
                               .n_out = 1,
                               .attrs = own,
                               .n_attrs = sizeof own / sizeof own[0],
                               .attrs_size = sizeof(own_attrs),
                               .infer = infer_own};

/* What is stored of these attributes, as integers. */
static void check_own(own_attrs a, own_attrs want) {
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4))), y;
    CHECK_OK(kiln_node_add(g, &own_op, &x, 1, &a, &y) == KILN_OK ? KILN_OK : kiln_graph_check(g, error));
    const own_attrs *got = attrs_of(g, y);
    assert_int_equal(got->count.value, want.count.value);
    assert_int_equal(got->count.given, 0);
    assert_int_equal(got->places, want.places);
    assert_memory_equal(&got->weight.value, &want.weight.value, sizeof(float)); /* the sign of 0 too */
    assert_memory_equal(&got->limit, &want.limit, sizeof(float));
    assert_int_equal(got->no_wrap, want.no_wrap);
    assert_int_equal(got->mode, want.mode);
    kiln_graph_destroy(g);
}

static void custom_op(void **state) {
    (void)state;
    check_own((own_attrs){.limit = 1}, (own_attrs){{7, 0, 0}, 3, {0.5f, 0}, 1, 0, 0});
    check_own((own_attrs){kiln_i64_const(0), KILN_ZERO_I64, kiln_f32_const(0), KILN_ZERO_F32, 1, 1},
              (own_attrs){{0, 0, 0}, 0, {0, 0}, 0, 1, 1});
    /* Extreme values are values. */
    check_own((own_attrs){kiln_i64_const(INT64_MIN), INT64_MIN, kiln_f32_const(-INFINITY), INFINITY, 0, 0},
              (own_attrs){{INT64_MIN, 0, 0}, INT64_MIN, {-INFINITY, 0}, INFINITY, 0, 0});
    check_own((own_attrs){{KILN_ZERO_I64, 0, 0}, kiln_i64_given(-1), {1e-45f, 0}, -1e-45f, 0, 0},
              (own_attrs){{KILN_ZERO_I64, 0, 0}, -1, {1e-45f, 0}, -1e-45f, 0, 0});
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4))), y;
    assert_int_equal(kiln_node_add(g, &own_op, &x, 1, &(own_attrs){.places = 1}, &y), KILN_ERROR_ARGUMENT);
    CHECK_FAILS(kiln_graph_check(g, error), KILN_ERROR_ARGUMENT,
                "node 'own.0' (own): attribute limit is 0, and has no default: set it");
    kiln_graph_reset(g);
    x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4)));
    CHECK_OK(kiln_node_add(g, &own_op, &x, 1, NULL, &y));
    assert_true(((const own_attrs *)attrs_of(g, y))->limit == 9);
    kiln_graph_destroy(g);
}

/* Descriptors whose default zero cannot mean are refused, so that no custom op misreads it. */
static void ambiguous_descriptors(void **state) {
    (void)state;
    static const kiln_attr on = {.name = "on", .type = KILN_ATTR_BOOL, .preset = 1},
                           off = {.name = "off", .type = KILN_ATTR_OFF, .preset = 1},
                           second = {.name = "mode",
                                     .type = KILN_ATTR_ENUM,
                                     .preset = 1,
                                     .names = modes,
                                     .n_names = 2};
    static const struct {
        const kiln_attr *attr;
        const char *text;
    } cases[] = {
        {&on, "kiln_node_add: the descriptor of op 'own' has a flag with a preset: make one that is on by "
              "default a KILN_ATTR_OFF"},
        {&off, "kiln_node_add: the descriptor of op 'own' has a flag with a preset: make one that is on by "
               "default a KILN_ATTR_OFF"},
        {&second,
         "kiln_node_add: the descriptor of op 'own' has an enum whose default is not its first name: "
         "make it `required`"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kiln_op op = own_op;
        op.attrs = cases[i].attr;
        op.n_attrs = 1;
        op.attrs_size = 4;
        kiln_graph *g = new_graph();
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4))), y;
        assert_int_equal(kiln_node_add(g, &op, &x, 1, NULL, &y), KILN_ERROR_ARGUMENT);
        CHECK_FAILS(kiln_graph_check(g, error), KILN_ERROR_ARGUMENT, cases[i].text);
        kiln_graph_destroy(g);
    }
}

/* ---- JSON keeps its meaning ------------------------------------------------------------------------- */

static void check_dump(const kiln_graph *g, const char *part) {
    kiln_json_text text;
    CHECK_OK(kiln_graph_to_json(g, NULL, &text, error));
    if (strstr(text.data, part) == NULL)
        fail_msg("no %s in %s", part, text.data);
    kiln_json_text_free(&text);
}

#define GRAPH_WITH(node)                                                                                     \
    "{\"format\":\"kiln.graph\",\"version\":1,\"slots\":[],\"storages\":["                                   \
    "{\"id\":1,\"name\":\"x\",\"kind\":\"input\",\"size\":32},{\"id\":2,\"kind\":\"arena\",\"size\":32}],"   \
    "\"tensors\":[{\"id\":1,\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[2,4],\"storage\":1},"                \
    "{\"id\":2,\"dtype\":\"f32\",\"shape\":[2,4],\"storage\":2}],\"nodes\":[" node "]}"

static void json_numbers(void **state) {
    (void)state;
    static const struct {
        const char *node, *attrs;
    } cases[] = {
        {"{\"op\":\"rope\",\"inputs\":[1],\"outputs\":[2],\"attrs\":{\"freq_scale\":0}}",
         "\"theta\": 10000, \"freq_scale\": 0,"},
        {"{\"op\":\"rope\",\"inputs\":[1],\"outputs\":[2]}", "\"theta\": 10000, \"freq_scale\": 1,"},
        {"{\"op\":\"softmax\",\"inputs\":[1],\"outputs\":[2],\"attrs\":{\"axis\":0}}",
         "\"axis\": 0, \"scale\": 1"},
        {"{\"op\":\"scale\",\"inputs\":[1],\"outputs\":[2],\"attrs\":{\"scale\":0}}",
         "\"scale\": 0, \"shift\": 0"},
        {"{\"op\":\"rms_norm\",\"inputs\":[1],\"outputs\":[2],\"attrs\":{\"eps\":0}}", "\"eps\": 0,"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[2048];
        snprintf(text, sizeof text, GRAPH_WITH("%s"), cases[i].node);
        kiln_graph *g;
        CHECK_OK(kiln_graph_from_json(text, strlen(text), kiln_ops_builtin(), NULL, NULL, &g, error));
        check_dump(g, cases[i].attrs);
        kiln_graph_destroy(g);
    }
}

/* The flag whose field is inverted: with and without it, from C and from JSON. */
static void json_flag(void **state) {
    (void)state;
    for (uint32_t no = 0; no < 2; no++) {
        kiln_graph *g = new_graph(), *again;
        kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(4)));
        kiln_tensor ids =
            kiln_gather_topk(g, x, none, none, (kiln_gather_topk_attrs){.k = 2, .no_normalise = no}, NULL);
        CHECK_OK(kiln_graph_check(g, error));
        const char *part = no ? "\"k\": 2, \"normalise\": false" : "\"k\": 2, \"normalise\": true";
        check_dump(g, part);
        kiln_json_text text;
        CHECK_OK(kiln_graph_to_json(g, NULL, &text, error));
        CHECK_OK(kiln_graph_from_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &again, error));
        assert_int_equal(((const kiln_gather_topk_attrs *)attrs_of(again, ids))->no_normalise, no);
        check_dump(again, part);
        kiln_json_text_free(&text);
        kiln_graph_destroy(again);
        kiln_graph_destroy(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_of_rows),
        cmocka_unit_test(rope_turns),
        cmocka_unit_test(moe_weights_sum_to_one),
        cmocka_unit_test(zero_that_was_given),
        cmocka_unit_test(accumulated_weight),
        cmocka_unit_test(softmax_of_columns),
        cmocka_unit_test(every_attribute),
        cmocka_unit_test(arguments),
        cmocka_unit_test(refusals),
        cmocka_unit_test(custom_op),
        cmocka_unit_test(ambiguous_descriptors),
        cmocka_unit_test(json_numbers),
        cmocka_unit_test(json_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
