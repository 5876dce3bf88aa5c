#include "random_graph.h"

#include "kiln_ops.h"
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { POOL = 256 };

typedef struct world {
    random_graph *out;
    kiln_graph *g;
    uint64_t seed;
    kiln_tensor pool[POOL];
    uint32_t n_pool;
    kiln_tensor focus; /* the operand chosen last */
    bool nonfinite;    /* among the values of leaves */
    int64_t ids_past;  /* ids of leaves are below */
} world;

static const kiln_tensor none;

static uint32_t below(world *w, uint32_t n) {
    return (uint32_t)(op_random(&w->seed) >> 33) % n;
}

static bool one_in(world *w, uint32_t n) {
    return below(w, n) == 0;
}

static const kiln__tensor *info(const world *w, kiln_tensor t) {
    return &w->g->tensors.items[t.id];
}

static const kiln_desc *desc_of(const world *w, kiln_tensor t) {
    return kiln__desc_of(w->g, info(w, t));
}

static kiln_dim dim(const world *w, kiln_tensor t, int axis) {
    const kiln_desc *d = desc_of(w, t);
    return d->dims[axis < 0 ? (int)d->ndim + axis : axis];
}

/* ---- choosing operands ------------------------------------------------------------------------------ */

typedef enum match {
    ANY,
    SAME,   /* all dimensions */
    INNER,  /* all but the first */
    LEADING /* all of the candidate's, from the first on */
} match;

enum { FLOATS, F32, I32, ALL };
enum { READ = 1 << KILN_STORAGE_INPUT | 1 << KILN_STORAGE_STATE | 1 << KILN_STORAGE_ARENA };
enum { WEIGHTS = 1 << KILN_STORAGE_WEIGHT, WRITE = 1 << KILN_STORAGE_STATE | 1 << KILN_STORAGE_ARENA };

typedef struct want {
    int dtypes;
    unsigned kinds; /* bits of storage kinds */
    uint32_t ndim;  /* 0: any */
    match match;
    kiln_tensor like;
    kiln_dim last; /* n 0: any */
    bool apart;    /* from the storage of `like` */
} want;

static bool is_float(kiln_dtype dtype) {
    return kiln_dtype_get(dtype)->kind == KILN_KIND_FLOAT;
}

static bool matches(const kiln_desc *d, const kiln_desc *like, match m) {
    if (m == ANY)
        return true;
    if (m == LEADING ? d->ndim > like->ndim : d->ndim != like->ndim)
        return false;
    for (uint32_t i = m == INNER; i < d->ndim; i++)
        if (!kiln_dim_equal(d->dims[i], like->dims[i]))
            return false;
    return true;
}

static bool fits(const world *w, kiln_tensor candidate, const want *v) {
    const kiln__tensor *t = info(w, candidate), *like = info(w, v->like);
    const kiln_desc *d = desc_of(w, candidate);
    bool dtype = v->dtypes == FLOATS ? is_float(d->dtype)
                 : v->dtypes == F32  ? d->dtype == KILN_F32
                 : v->dtypes == I32  ? d->dtype == KILN_I32
                                     : true;
    return dtype && (v->kinds >> w->g->storages.items[t->storage].kind & 1) &&
           (v->ndim == 0 || d->ndim == v->ndim) &&
           (v->last.n == 0 || kiln_dim_equal(d->dims[d->ndim - 1], v->last)) &&
           (v->like.id == 0 ||
            (matches(d, desc_of(w, v->like), v->match) && !(v->apart && t->storage == like->storage)));
}

/* A tensor of the pool; a zeroed handle when none fits. Often the one before again, or a recent one: rules are
 * tried, and orders matter, where nodes share operands. */
static kiln_tensor pick(world *w, want v) {
    uint32_t recent = w->n_pool < 6 ? w->n_pool : 6;
    if (w->focus.id != 0 && one_in(w, 3) && fits(w, w->focus, &v))
        return w->focus;
    uint32_t at = one_in(w, 3) ? below(w, w->n_pool) : w->n_pool - 1 - below(w, recent);
    for (uint32_t i = 0; i<w->n_pool; i++, at = at> 0 ? at - 1 : w->n_pool - 1)
        if (fits(w, w->pool[at], &v))
            return w->focus = w->pool[at];
    return none;
}

static kiln_tensor pick_like(world *w, kiln_tensor x, match m) {
    return pick(w, (want){.kinds = READ, .match = m, .like = x});
}

/* A vector as long as the innermost axis of x. */
static kiln_tensor pick_vector(world *w, kiln_tensor x) {
    return pick(w, (want){.kinds = READ | WEIGHTS, .ndim = 1, .last = dim(w, x, -1)});
}

/* Keeps what a step made. What the builder refuses leaves the graph as it was. */
static kiln_tensor put(world *w, kiln_tensor t) {
    if (w->g->error.status == KILN_ERROR_MEMORY)
        abort();
    w->g->error = (kiln_error){KILN_OK, ""};
    if (t.id != 0 && w->n_pool < POOL)
        w->pool[w->n_pool++] = t;
    return t;
}

static kiln_i64_value position(world *w) {
    return one_in(w, 2) ? kiln_i64_of(w->out->position) : kiln_i64_const((int64_t)below(w, 6));
}

static kiln_f32_value factor(world *w) {
    return one_in(w, 2) ? kiln_f32_of(w->out->factor) : kiln_f32_const(0.5f);
}

/* ---- steps: views ----------------------------------------------------------------------------------- */

static void slice_step(world *w) {
    kiln_tensor x = pick(w, (want){.kinds = READ});
    int32_t axis = (int32_t)below(w, desc_of(w, x)->ndim);
    kiln_dim d = dim(w, x, axis), length = one_in(w, 5) ? kiln_sym(w->out->n) : d;
    int64_t start = 0;
    if (d.slot == 0 && d.n > 1 && length.slot == 0) {
        length = kiln_n(one_in(w, 2) ? (d.n + 1) / 2 : 1 + below(w, (uint32_t)d.n));
        start = below(w, (uint32_t)(d.n - length.n + 1));
    }
    put(w, kiln_slice(w->g, x, axis, start, length));
}

static void reshape_step(world *w) {
    kiln_tensor x = pick(w, (want){.dtypes = FLOATS, .kinds = READ});
    const kiln_desc *d = desc_of(w, x);
    kiln_dim dims[KILN_MAX_DIMS];
    uint32_t n = 0, axis = below(w, d->ndim), parts = 1u << below(w, 5);
    bool merge = one_in(w, 2);
    for (uint32_t i = 0; i < d->ndim; i++) {
        kiln_dim a = d->dims[i], b = i + 1 < d->ndim ? d->dims[i + 1] : kiln_n(1);
        if (i == axis && merge && i + 1 < d->ndim) {
            dims[n++] = (kiln_dim){a.n * b.n, a.slot ? a.slot : b.slot};
            i++;
        } else if (i == axis && d->ndim < KILN_MAX_DIMS && a.n % parts == 0) {
            dims[n++] = (kiln_dim){a.n / parts, a.slot};
            dims[n++] = kiln_n(parts);
        } else {
            dims[n++] = a;
        }
    }
    put(w, kiln_reshape(w->g, x, n, dims));
}

static void turn_step(world *w) {
    kiln_tensor x = pick(w, (want){.kinds = READ});
    uint32_t n = desc_of(w, x)->ndim;
    if (one_in(w, 4)) {
        kiln_dim rows[] = {kiln_n(3), dim(w, x, 0), n > 1 ? dim(w, x, 1) : kiln_n(1)};
        put(w, kiln_broadcast(w->g, x, n < 3 ? n + 1 : 3, rows));
    } else {
        put(w, kiln_transpose(w->g, x, (int32_t)below(w, n), (int32_t)below(w, n)));
    }
}

/* ---- steps: values ---------------------------------------------------------------------------------- */

static void matmul_step(world *w) {
    kiln_tensor m = pick(w, (want){.dtypes = ALL, .kinds = WEIGHTS, .ndim = 2});
    put(w, kiln_matmul(w->g, m, pick(w, (want){.kinds = READ, .last = dim(w, m, -1)})));
}

static void experts_step(world *w) {
    kiln_tensor m = pick(w, (want){.dtypes = ALL, .kinds = WEIGHTS, .ndim = 3});
    kiln_tensor x = pick(w, (want){.kinds = READ, .last = dim(w, m, -1)}), y;
    kiln_tensor ids = pick(w, (want){.dtypes = I32, .kinds = READ, .ndim = 2, .match = LEADING, .like = x});
    if (ids.id == 0 || one_in(w, 2))
        ids = pick(w, (want){.dtypes = I32, .kinds = READ, .ndim = 2});
    y = put(w, kiln_matmul_id(w->g, m, x, ids));
    if (y.id == 0 || one_in(w, 3))
        return;
    kiln_tensor weights =
        pick(w, (want){.dtypes = F32, .kinds = READ, .ndim = 2, .match = LEADING, .like = y});
    y = put(w, kiln_weighted_sum(w->g, y, weights));
    if (y.id != 0 && one_in(w, 2)) {
        kiln_tensor other = pick_like(w, y, SAME);
        put(w, one_in(w, 2) ? kiln_add(w->g, y, other) : kiln_add(w->g, other, y));
    }
}

static void choose_step(world *w) {
    kiln_tensor weights = none, x = pick(w, (want){.kinds = READ, .ndim = 2});
    kiln_gather_topk_attrs attrs = {1 + (int64_t)below(w, 4), below(w, 2), below(w, 2)};
    if (!one_in(w, 4)) {
        x = put(w, kiln_softmax(w->g, x, none, (kiln_softmax_attrs){0}));
        attrs.softmax = 0;
    }
    put(w, kiln_gather_topk(w->g, x, none, none, attrs, &weights));
    put(w, weights);
}

static void sort_step(world *w) {
    kiln_tensor indices = none, x = pick(w, (want){.kinds = READ});
    switch (below(w, 3)) {
    case 0:
        put(w, kiln_argsort(w->g, x, one_in(w, 2)));
        break;
    case 1:
        put(w, kiln_argmax(w->g, x));
        break;
    default:
        put(w, kiln_top_k(w->g, x, 1 + (int64_t)below(w, 4), &indices));
        put(w, indices);
    }
}

static void gate_step(world *w) {
    kiln_tensor x = pick(w, (want){.kinds = READ});
    kiln_act act = (kiln_act)below(w, 4);
    put(w,
        one_in(w, 2) ? kiln_swiglu_packed(w->g, x, act) : kiln_swiglu(w->g, x, pick_like(w, x, SAME), act));
}

static void softmax_step(world *w) {
    kiln_tensor x = pick(w, (want){.kinds = READ}), mask = none;
    kiln_softmax_attrs attrs = {one_in(w, 3) ? KILN_ZERO_I64 : -1, 0.5f};
    if (one_in(w, 3))
        mask = pick(w, (want){.dtypes = F32, .kinds = READ, .last = dim(w, x, -1)});
    put(w, kiln_softmax(w->g, x, mask, attrs));
}

static kiln_tensor rope(world *w, kiln_tensor x) {
    kiln_i64_value first = one_in(w, 4) ? kiln_i64_of(w->out->later) : position(w);
    kiln_rope_attrs attrs = {.position = first, .mode = below(w, 2)};
    kiln_tensor positions = none;
    if (one_in(w, 4))
        positions = pick(w, (want){.dtypes = I32, .kinds = READ, .ndim = 1, .match = LEADING, .like = x});
    return put(w, kiln_rope(w->g, x, positions, attrs));
}

static void rope_step(world *w) {
    (void)rope(w, pick(w, (want){.kinds = READ}));
}

/* May rows of `x` along `axis` go beyond those of `y`, where the slot says so? Runs for which that is so are
 * refused: most graphs are to be run. */
static bool goes_beyond(const world *w, kiln_tensor x, kiln_tensor y, int axis) {
    return x.id == 0 || y.id == 0 ||
           kiln__dim_max(w->g, dim(w, x, axis)) + 7 > kiln__dim_max(w->g, dim(w, y, axis));
}

static void attention_step(world *w) {
    kiln_tensor q = pick(w, (want){.kinds = READ, .ndim = 3});
    want like_q = {.kinds = READ, .ndim = 3, .last = dim(w, q, -1)};
    kiln_tensor k = pick(w, like_q), v = one_in(w, 2) ? k : pick(w, like_q);
    kiln_attention_attrs attrs = {.causal = below(w, 2), .q_position = position(w)};
    attrs.window = one_in(w, 3) ? 1 + (int64_t)below(w, 4) : 0;
    if (goes_beyond(w, q, k, -2) && !one_in(w, 16))
        attrs.causal = 0;
    put(w, kiln_attention(w->g, q, k, v, none, attrs));
}

static void norm_step(world *w) {
    kiln_tensor x = pick(w, (want){.kinds = READ}), sum = x, normed = none;
    switch (below(w, 5)) {
    case 0:
        sum = put(w, kiln_add(w->g, x, pick_like(w, x, SAME)));
        put(w, kiln_rms_norm(w->g, sum, pick_vector(w, x), 1e-5f));
        break;
    case 1:
        normed = put(w, kiln_rms_norm(w->g, x, none, 1e-5f));
        put(w, kiln_mul(w->g, normed, pick_vector(w, x)));
        break;
    case 2:
        put(w, kiln_add_rms_norm(w->g, x, pick_like(w, x, SAME), pick_vector(w, x), 1e-5f, &normed));
        put(w, normed);
        break;
    case 3:
        put(w, kiln_layer_norm(w->g, x, pick_vector(w, x), none, 1e-5f));
        break;
    default:
        put(w, kiln_l2_norm(w->g, x, 1e-12f));
    }
}

static void elements_step(world *w) {
    kiln_tensor x = pick(w, (want){.kinds = READ});
    switch (below(w, 6)) {
    case 0:
        put(w, kiln_add(w->g, x, pick(w, (want){.kinds = READ | WEIGHTS, .last = dim(w, x, -1)})));
        break;
    case 1:
        put(w, kiln_mul(w->g, x, pick_like(w, x, SAME)));
        break;
    case 2:
        put(w, kiln_scale(w->g, x, (kiln_scale_attrs){factor(w), kiln_f32_const(0.1f)}));
        break;
    case 3:
        put(w, kiln_bias(w->g, x, pick_vector(w, x)));
        break;
    case 4:
        put(w, one_in(w, 2) ? kiln_silu(w->g, x) : kiln_gelu(w->g, x, one_in(w, 2)));
        break;
    default:
        put(w, kiln_softcap(w->g, x, 3));
    }
}

static void move_step(world *w) {
    static const kiln_dtype floats[] = {KILN_F32, KILN_F16, KILN_BF16};
    kiln_tensor x = pick(w, (want){.kinds = READ}),
                parts[3] = {x, pick_like(w, x, SAME), pick_like(w, x, SAME)};
    kiln_dtype dtype = floats[below(w, 3)];
    uint32_t n = 2 + below(w, 2), axis = below(w, desc_of(w, x)->ndim);
    switch (below(w, 4)) {
    case 0:
        put(w, kiln_copy(w->g, x, dtype));
        break;
    case 1:
        put(w, kiln_concat(w->g, parts, n, axis));
        break;
    case 2:
        put(w, kiln_mean_pool(w->g, x, none));
        break;
    default:
        x = pick(w, (want){.kinds = READ | WEIGHTS, .ndim = 2});
        put(w, kiln_get_rows(w->g, x, pick(w, (want){.dtypes = I32, .kinds = READ})));
    }
}

/* ---- steps: writing in place ------------------------------------------------------------------------ */

static void append_step(world *w) {
    kiln_tensor dst = pick(w, (want){.kinds = WRITE}), indices = none;
    kiln_tensor rows = pick(w, (want){.kinds = READ, .match = INNER, .like = dst, .apart = true});
    if (rows.id != 0 && one_in(w, 3))
        rows = rope(w, rows);
    if (rows.id == 0 || info(w, rows)->storage == info(w, dst)->storage)
        return;
    if (one_in(w, 3))
        indices = pick(w, (want){.dtypes = I32, .kinds = READ, .ndim = 1, .match = LEADING, .like = rows});
    kiln_set_rows_attrs attrs = {position(w), one_in(w, 3)};
    if (indices.id == 0 && goes_beyond(w, rows, dst, 0) && !one_in(w, 16))
        attrs.ring = 1;
    put(w, kiln_set_rows(w->g, dst, rows, indices, attrs));
}

static void accumulate_step(world *w) {
    kiln_tensor sum = pick(w, (want){.dtypes = F32, .kinds = WRITE});
    kiln_tensor x = pick(w, (want){.kinds = READ, .match = SAME, .like = sum, .apart = true});
    kiln_tensor by = pick(w, (want){.dtypes = F32, .kinds = READ, .ndim = 1, .last = kiln_n(1)});
    if (x.id == 0)
        return;
    if (one_in(w, 3) && info(w, by)->storage != info(w, sum)->storage)
        put(w, kiln_accumulate(w->g, sum, x, by));
    else
        put(w, kiln_accumulate_by(w->g, sum, x, factor(w)));
}

static void zero_step(world *w) {
    put(w, kiln_zero(w->g, pick(w, (want){.kinds = WRITE})));
}

static void (*const steps[])(world *) = {
    slice_step,   slice_step,     reshape_step, reshape_step,   turn_step, matmul_step,   matmul_step,
    experts_step, experts_step,   choose_step,  sort_step,      gate_step, softmax_step,  rope_step,
    norm_step,    attention_step, norm_step,    elements_step,  move_step, elements_step, append_step,
    append_step,  append_step,    zero_step,    accumulate_step};

/* ---- leaves ----------------------------------------------------------------------------------------- */

static void fill(world *w, kiln_dtype dtype, unsigned char *data, int64_t n) {
    static const double odd[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    if (kiln_dtype_get(dtype)->kind == KILN_KIND_BLOCK) {
        op_random_blocks(dtype, data, n, &w->seed);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double value =
            dtype == KILN_I32 ? below(w, (uint32_t)w->ids_past) : op_random_between(&w->seed, -2, 2);
        if (w->nonfinite && is_float(dtype) && one_in(w, 60))
            value = odd[below(w, 3)];
        op_encode(dtype, data, i, value);
    }
}

static void leaf(world *w, kiln_storage_kind kind, kiln_dtype dtype, uint32_t ndim, const kiln_dim *dims) {
    kiln_tensor (*const make[])(kiln_graph *, const char *, kiln_dtype, uint32_t,
                                const kiln_dim *) = {[KILN_STORAGE_WEIGHT] = kiln_weight,
                                                     [KILN_STORAGE_INPUT] = kiln_input,
                                                     [KILN_STORAGE_STATE] = kiln_state};
    random_leaf *l = &w->out->leaves[w->out->n_leaves];
    char name[16];
    snprintf(name, sizeof name, "leaf%d", w->out->n_leaves++);
    kiln_tensor t = make[kind](w->g, name, dtype, ndim, dims);
    const kiln_dtype_info *d = kiln_dtype_get(dtype);
    *l = (random_leaf){t, kiln_storage_of(w->g, t), kind, NULL, info(w, t)->bytes};
    l->data = aligned_alloc(128, ((size_t)l->size + 128) & ~(size_t)127);
    if (t.id == 0 || l->data == NULL)
        abort();
    fill(w, dtype, l->data, l->size / d->bytes * d->block);
    put(w, t);
}

#define LEAF(kind, dtype, ...)                                                                               \
    leaf(w, KILN_STORAGE_##kind, dtype, sizeof((kiln_dim[]){__VA_ARGS__}) / sizeof(kiln_dim),                \
         (kiln_dim[]){__VA_ARGS__})

static void make_leaves(world *w) {
    static const kiln_dtype dtypes[] = {KILN_F32, KILN_F16, KILN_BF16, KILN_Q8_0, KILN_Q4_0};
    int64_t width = one_in(w, 2) ? 32 : 64;
    kiln_dim n = kiln_sym(w->out->n), h = kiln_n(width), half = kiln_n(width / 2), twice = kiln_n(2 * width);
    kiln_dim two = kiln_n(2), four = kiln_n(4), eight = kiln_n(8), ten = kiln_n(10);
#define FLOAT  dtypes[below(w, 3)]
#define MATRIX dtypes[below(w, 5)]
    LEAF(INPUT, KILN_F32, n, h);
    LEAF(INPUT, KILN_F32, n, two, half);
    LEAF(INPUT, FLOAT, n, h);
    LEAF(INPUT, KILN_F32, kiln_n(3), h);
    LEAF(INPUT, KILN_F32, n, eight);
    LEAF(INPUT, KILN_F32, kiln_n(1));
    LEAF(INPUT, KILN_F32, n, two);
    LEAF(INPUT, KILN_F32, n, two, h);
    w->ids_past = one_in(w, 8) ? 12 : 4;
    LEAF(INPUT, KILN_I32, n);
    LEAF(INPUT, KILN_I32, n, two);
    LEAF(WEIGHT, MATRIX, h, h);
    LEAF(WEIGHT, MATRIX, twice, h);
    LEAF(WEIGHT, MATRIX, h, twice);
    LEAF(WEIGHT, MATRIX, eight, h);
    LEAF(WEIGHT, MATRIX, four, h, h);
    LEAF(WEIGHT, MATRIX, eight, twice, h);
    LEAF(WEIGHT, FLOAT, h);
    LEAF(WEIGHT, KILN_F32, half);
    LEAF(STATE, FLOAT, ten, h);
    LEAF(STATE, KILN_F32, ten, h);
    LEAF(STATE, FLOAT, kiln_n(12), two, half);
    LEAF(STATE, KILN_F32, n, h);
    LEAF(INPUT, KILN_F32, kiln_sym(w->out->more), h);
    LEAF(STATE, KILN_F32, kiln_sym(w->out->more), h);
#undef FLOAT
#undef MATRIX
}

/* ---- the whole -------------------------------------------------------------------------------------- */

/* Recent intermediates, each in a storage of its own. */
static void make_outputs(world *w) {
    random_graph *out = w->out;
    uint32_t want_outputs = 1 + below(w, RANDOM_OUTPUTS);
    for (uint32_t i = w->n_pool; i-- > 0 && (uint32_t)out->n_outputs < want_outputs;) {
        char name[16];
        snprintf(name, sizeof name, "out%d", out->n_outputs);
        kiln_tensor t = w->pool[i];
        if (w->g->storages.items[info(w, t)->storage].kind == KILN_STORAGE_ARENA && !one_in(w, 4))
            out->outputs[out->n_outputs++] = kiln_output(w->g, t, name);
    }
}

void random_graph_make(uint64_t seed, random_graph *out) {
    static const int64_t most[] = {1, 3, 6, 12, 40, 200};
    *out = (random_graph){0};
    world w = {.out = out, .seed = seed * 0x9e3779b97f4a7c15u + 1};
    if (kiln_graph_create(NULL, &out->graph, NULL) != KILN_OK)
        abort();
    w.g = out->graph;
    w.nonfinite = one_in(&w, 5);
    out->n_max = most[below(&w, 6)];
    out->n = kiln_slot_i64(w.g, "n", 0, out->n_max);
    out->position = kiln_slot_i64(w.g, "position", 0, 20);
    out->factor = kiln_slot_f32(w.g, "factor", 0.5f);
    out->more = kiln_slot_sum(w.g, "more", 0, out->n_max + 2, KILN_SHAPE(kiln_sym(out->n), kiln_n(2)));
    out->later = kiln_slot_sum(w.g, "later", 0, out->n_max + 21,
                               KILN_SHAPE(kiln_n(1), kiln_sym(out->position), kiln_sym(out->n)));
    make_leaves(&w);
    size_t nodes = 3 + below(&w, 30);
    for (size_t tries = 8 * nodes; tries > 0 && w.g->nodes.count < nodes; tries--)
        steps[below(&w, sizeof steps / sizeof *steps)](&w);
    make_outputs(&w);
    if (w.g->error.status != KILN_OK)
        abort();
}

void random_graph_free(random_graph *g) {
    for (int i = 0; i < g->n_leaves; i++)
        free(g->leaves[i].data);
    kiln_graph_destroy(g->graph);
    *g = (random_graph){0};
}
