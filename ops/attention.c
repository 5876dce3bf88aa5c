#include "infer_util.h"

#include <float.h>

#include "cpu/attention.h"
#include "cpu/level.h"

static const char *const in_names[] = {"q", "k", "v", "mask"};
static const char *const out_names[] = {"y"};

static const kiln_attr attrs[] = {
    {.name = "scale",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_attention_attrs, scale),
     .min = -FLT_MAX,
     .max = FLT_MAX},
    {.name = "causal", .type = KILN_ATTR_BOOL, .offset = offsetof(kiln_attention_attrs, causal)},
    {.name = "window",
     .type = KILN_ATTR_I64,
     .offset = offsetof(kiln_attention_attrs, window),
     .max = 1099511627776.0},
    {.name = "softcap",
     .type = KILN_ATTR_F32,
     .offset = offsetof(kiln_attention_attrs, softcap),
     .max = FLT_MAX},
    {.name = "ring", .type = KILN_ATTR_BOOL, .offset = offsetof(kiln_attention_attrs, ring)},
    {.name = "q_position", .type = KILN_ATTR_I64_SLOT, .offset = offsetof(kiln_attention_attrs, q_position)},
};

/* q [..., heads, Tq, d], k [..., kv_heads, Tk, d], v [..., kv_heads, Tk, dv] */
static kiln_status check_heads(const kiln_infer *infer) {
    KILN__TRY(kiln__need(infer, 0, "q", KILN__FLOATS, 3, 4));
    const kiln_desc *q = infer->in[0], *k = infer->in[1];
    KILN__TRY(kiln__need(infer, 1, "k", KILN__FLOATS, q->ndim, q->ndim));
    KILN__TRY(kiln__need(infer, 2, "v", KILN__FLOATS, q->ndim, q->ndim));
    if (q->ndim == 4) {
        KILN__TRY(kiln__need_axis(infer, 1, "k", 0, 0, "q", 0));
        KILN__TRY(kiln__need_axis(infer, 2, "v", 0, 0, "q", 0));
    }
    KILN__TRY(kiln__need_constant(infer, 0, "q", -1, "it is the size of a head"));
    KILN__TRY(kiln__need_constant(infer, 0, "q", -3, "it is the number of heads"));
    KILN__TRY(kiln__need_constant(infer, 1, "k", -3, "it is the number of kv heads"));
    KILN__TRY(kiln__need_constant(infer, 2, "v", -1, "it is the size of a head"));
    KILN__TRY(kiln__need_axis(infer, 1, "k", -1, 0, "q", -1));
    KILN__TRY(kiln__need_axis(infer, 2, "v", -3, 1, "k", -3));
    KILN__TRY(kiln__need_axis(infer, 2, "v", -2, 1, "k", -2));
    int64_t heads = q->dims[q->ndim - 3].n, kv_heads = k->dims[k->ndim - 3].n;
    char a[KILN_SHAPE_TEXT_SIZE], b[KILN_SHAPE_TEXT_SIZE];
    if (heads % kv_heads != 0)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "the %lld heads of q %s are no multiple of the %lld kv heads of k %s",
                               (long long)heads, kiln_infer_shape_text(infer, q, a), (long long)kv_heads,
                               kiln_infer_shape_text(infer, k, b));
    return KILN_OK;
}

/* A key must still be there when the last query of the largest chunk has been written and the first one looks
 * back over its window. */
static kiln_status check_ring(const kiln_infer *infer, const kiln_attention_attrs *a) {
    const kiln_desc *q = infer->in[0], *k = infer->in[1];
    if (!a->ring)
        return KILN_OK;
    if (a->window == 0)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "ring = 1 needs window > 0");
    KILN__TRY(kiln__need_constant(infer, 1, "k", -2, "it is the capacity of the ring"));
    int64_t capacity = k->dims[k->ndim - 2].n, chunk = kiln_infer_dim_max(infer, q->dims[q->ndim - 2]);
    char shape[KILN_SHAPE_TEXT_SIZE];
    if (capacity < a->window || capacity - a->window < chunk - 1)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE,
                               "the ring of k %s has room for %lld positions; window + largest chunk - 1 = "
                               "%lld + %lld - 1 are needed",
                               kiln_infer_shape_text(infer, k, shape), (long long)capacity,
                               (long long)a->window, (long long)chunk);
    return KILN_OK;
}

static kiln_status infer(kiln_infer *infer) {
    KILN__TRY(check_heads(infer));
    KILN__TRY(check_ring(infer, infer->attrs));
    const kiln_desc *q = infer->in[0], *k = infer->in[1], *v = infer->in[2];
    uint32_t n = q->ndim;
    kiln_desc scores = *q;
    scores.dims[n - 1] = k->dims[n - 2];
    KILN__TRY(kiln__need(infer, 3, "mask", KILN__DT(F32) | KILN__DT(U8), 1, 4));
    KILN__TRY(kiln__need_broadcast(infer, 3, "mask", &scores, "[..., heads, queries, keys]"));
    kiln_desc *y = &infer->out[0];
    kiln__out_like(infer, 0, q, KILN_F32);
    y->dims[n - 3] = q->dims[n - 2];
    y->dims[n - 2] = q->dims[n - 3];
    y->dims[n - 1] = v->dims[n - 1];
    return KILN_OK;
}

/* Axes of queries and keys among the four of an operand. */
enum { QUERIES = 2, KEYS = 2 };

/* Keys that the cache does not hold, and a constant where a slot was meant. Not with a mask: it says which
 * rows count, wherever they were appended. */
static kiln_status check_cache(const kiln_check *c, const kiln_attention_attrs *a) {
    static const char *const names[] = {NULL, "keys", "values"};
    int64_t queries = c->args->in[0].ne[QUERIES], keys = c->args->in[1].ne[KEYS];
    kiln_rows_held held[3];
    /* The keys last: a refusal names the append that was asked for last. */
    for (uint32_t i = 2; i >= 1; i--)
        held[i] = kiln_check_rows_held(c, i, KEYS);
    for (uint32_t i = 1; i <= 2; i++) {
        /* Appends at a constant may only refresh what another plan has filled, unless keys and values
         * disagree. */
        bool bound = held[i].rows >= 0 && (held[i].moves || held[3 - i].moves);
        if (!bound || keys <= held[i].rows || !kiln_check_count_follows(c, i, KEYS))
            continue;
        (void)kiln_check_rows_held(c, i, KEYS);
        return kiln_check_fail(c,
                               "it reads %lld %s, and the cache holds %lld: read that many, append at "
                               "another position, or give a mask",
                               (long long)keys, names[i], (long long)held[i].rows);
    }
    int64_t filled = held[1].rows < keys ? held[1].rows : keys;
    if (a->causal && a->q_position.slot == 0 && held[1].moves && a->q_position.value < filled - queries)
        return kiln_check_fail(
            c,
            "q_position is the constant %lld, and its %lld queries end before the last of the "
            "%lld rows of the cache that are filled: let q_position follow the slot at which rows "
            "are appended",
            (long long)a->q_position.value, (long long)queries, (long long)filled);
    return KILN_OK;
}

static kiln_status check(const kiln_check *c) {
    const kiln_attention_attrs *a = c->args->attrs;
    int64_t queries = c->args->in[0].ne[QUERIES], keys = c->args->in[1].ne[KEYS];
    bool follows = a->q_position.slot != 0 || kiln_check_count_follows(c, 0, QUERIES) ||
                   kiln_check_count_follows(c, 1, KEYS);
    if (a->ring || kiln__count(&c->args->out[0]) == 0)
        return KILN_OK;
    if (a->causal && follows && a->q_position.value > keys - queries)
        return kiln_check_fail(
            c, "it is causal, and %lld quer%s from position %lld on go%s beyond its %lld key%s",
            (long long)queries, queries == 1 ? "y" : "ies", (long long)a->q_position.value,
            queries == 1 ? "es" : "", (long long)keys, keys == 1 ? "" : "s");
    return kiln__optional(c->args, 3) == NULL ? check_cache(c, a) : KILN_OK;
}

static int64_t tiles(const kiln_args *args) {
    return kiln__att_grid_of(args).tiles;
}

KILN_CPU_DECLARE(attention)
static const kiln_kernel kernels[] = {KILN_CPU_KERNELS(attention, tiles, kiln__att_scratch, kiln__att_cost)};

const kiln_op kiln__op_attention = {
    .name = "attention",
    .text = "softmax(scale * q k^T, masked) v for each head; zeros where there is nothing to attend to",
    .in_names = in_names,
    .n_in_min = 3,
    .n_in_max = 4,
    .out_names = out_names,
    .n_out = 1,
    .attrs = attrs,
    .n_attrs = sizeof attrs / sizeof attrs[0],
    .attrs_size = sizeof(kiln_attention_attrs),
    .infer = infer,
    .accesses = kiln_access_operands,
    .kernels = kernels,
    .n_kernels = sizeof kernels / sizeof kernels[0],
    .check = check,
};

kiln_tensor kiln_attention(kiln_graph *graph, kiln_tensor q, kiln_tensor k, kiln_tensor v, kiln_tensor mask,
                           kiln_attention_attrs attributes) {
    const kiln_tensor in[] = {q, k, v, mask};
    return kiln__add_node(graph, &kiln__op_attention, in, 4, &attributes, NULL);
}
