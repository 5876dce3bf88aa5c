/* The graph of a llama model. */
#include "llama_internal.h"
#include "kiln_ops.h"

#include <stdio.h>

typedef struct builder {
    const kiln_llama_model *model;
    const kiln_llama_params *params;
    kiln_llama_options options; /* defaults filled in */
    kiln_graph *graph;
    kiln_storage *parts; /* a weight storage per part of the file */
    kiln_tensor *each;   /* room for one tensor per expert */
    kiln_slot n_tokens, n_kv, n_logits, position;
    int64_t layer;
} builder;

static const kiln_tensor none = {0, 0};

/* A tensor of the file, where it lies in its part, with as many dimensions as the model gives it. */
static kiln_tensor placed(const builder *b, llama_tensor t, int32_t ndim) {
    kiln_dim dims[KILN_GGUF_MAX_DIMS];
    for (int32_t i = 0; i < ndim; i++)
        dims[i] = kiln_n(llama_dim(t, ndim - 1 - i));
    kiln_tensor w =
        kiln_tensor_at(b->graph, b->parts[t->part], t->part_offset, t->dtype, (uint32_t)ndim, dims, NULL);
    kiln_name(b->graph, w, "%s", t->name);
    return w;
}

/* A norm's weight or a bias. */
static kiln_tensor vector(const builder *b, llama_tensor t) {
    return placed(b, t, 1);
}

static kiln_tensor matrix(const builder *b, llama_tensor t) {
    return placed(b, t, 2);
}

/* factor·x, or x where there is no factor. */
static kiln_tensor scaled(const builder *b, kiln_tensor x, float factor) {
    if (factor == 0.0f || factor == 1.0f)
        return x;
    return kiln_scale(b->graph, x, (kiln_scale_attrs){.scale = kiln_f32_const(factor)});
}

/* Gives a tensor of the present layer its name, blk.I.WHAT. */
static kiln_tensor named(const builder *b, kiln_tensor t, const char *what) {
    kiln_name(b->graph, t, "blk.%lld.%s", (long long)b->layer, what);
    return t;
}

/* W·x (+ bias). */
static kiln_tensor linear(const builder *b, llama_tensor w, llama_tensor bias, kiln_tensor x) {
    kiln_tensor y = kiln_matmul(b->graph, matrix(b, w), x);
    return bias != NULL ? kiln_bias(b->graph, y, vector(b, bias)) : y;
}

/* The same, as [n_tokens, heads, dim]. */
static kiln_tensor project(const builder *b, llama_tensor w, llama_tensor bias, kiln_tensor x, int64_t heads,
                           int64_t dim, const char *what) {
    kiln_tensor y = named(b, linear(b, w, bias, x), what);
    return kiln_reshape(b->graph, y, KILN_SHAPE(kiln_sym(b->n_tokens), kiln_n(heads), kiln_n(dim)));
}

static kiln_tensor rope(const builder *b, kiln_tensor x) {
    kiln_rope_attrs attrs = {.position = kiln_i64_of(b->position),
                             .dims = b->params->rope_dims,
                             .theta = kiln_f32_given(b->params->rope_theta),
                             .freq_scale = kiln_f32_given(b->params->rope_scale),
                             .mode = KILN_ROPE_INTERLEAVED};
    return kiln_rope(b->graph, x, none, attrs);
}

/* Appends this run's rows to a cache of the layer and returns all rows so far, as [heads, n_kv, dim]. */
static kiln_tensor cached(const builder *b, kiln_tensor rows, int64_t dim, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "blk.%lld.%s", (long long)b->layer, what);
    kiln_tensor cache =
        kiln_state(b->graph, name, b->options.cache,
                   KILN_SHAPE(kiln_n(b->options.context), kiln_n(b->params->n_kv_heads), kiln_n(dim)));
    kiln_set_rows_attrs attrs = {.position = kiln_i64_of(b->position)};
    cache = kiln_set_rows(b->graph, cache, rows, none, attrs);
    cache = kiln_slice(b->graph, cache, 0, 0, kiln_sym(b->n_kv));
    return kiln_transpose(b->graph, cache, 0, 1);
}

static kiln_tensor attention(const builder *b, const llama_layer *l, kiln_tensor x) {
    const kiln_llama_params *p = b->params;
    kiln_graph *g = b->graph;
    kiln_tensor h = named(b, kiln_rms_norm(g, x, vector(b, l->attn_norm), p->rms_eps), "attn_norm");
    kiln_tensor q = project(b, l->q, l->q_bias, h, p->n_heads, p->head_dim, "q");
    kiln_tensor k = project(b, l->k, l->k_bias, h, p->n_kv_heads, p->head_dim, "k");
    kiln_tensor v = project(b, l->v, l->v_bias, h, p->n_kv_heads, p->value_dim, "v");
    q = named(b, rope(b, q), "q_rope");
    k = named(b, rope(b, k), "k_rope");
    kiln_tensor keys = cached(b, k, p->head_dim, "cache_k");
    kiln_tensor values = cached(b, v, p->value_dim, "cache_v");
    kiln_attention_attrs attrs = {
        .scale = p->attn_scale, .causal = 1, .window = p->window, .q_position = kiln_i64_of(b->position)};
    kiln_tensor a = kiln_attention(g, kiln_transpose(g, q, 0, 1), keys, values, none, attrs);
    named(b, a, "attn");
    a = kiln_reshape(g, a, KILN_SHAPE(kiln_sym(b->n_tokens), kiln_n(p->n_heads * p->value_dim)));
    return named(b, linear(b, l->o, l->o_bias, a), "attn_out");
}

static kiln_tensor dense_ffn(const builder *b, const llama_layer *l, kiln_tensor h) {
    kiln_tensor gate = named(b, linear(b, l->gate, l->gate_bias, h), "gate");
    kiln_tensor up = named(b, linear(b, l->up, l->up_bias, h), "up");
    kiln_tensor act = named(b, kiln_swiglu(b->graph, gate, up, KILN_ACT_SILU), "act");
    return linear(b, l->down, l->down_bias, act);
}

static kiln_tensor by_expert(const builder *b, const llama_experts *w, kiln_tensor x, kiln_tensor ids) {
    if (w->all != NULL)
        return kiln_matmul_id(b->graph, placed(b, w->all, 3), x, ids);
    for (int64_t e = 0; e < b->params->n_experts; e++)
        b->each[e] = matrix(b, w->each[e]);
    return kiln_matmul_id_split(b->graph, b->each, (uint32_t)b->params->n_experts, x, ids);
}

/* Mixtral: the k best experts by router logit, weighted by a softmax over those k, whose sum is 1. */
static kiln_tensor expert_ffn(const builder *b, const llama_layer *l, kiln_tensor h) {
    kiln_graph *g = b->graph;
    kiln_gather_topk_attrs attrs = {
        .k = b->params->n_experts_used, .no_normalise = 1, .softmax = KILN_TOPK_SOFTMAX_CHOSEN};
    kiln_tensor router = named(b, kiln_matmul(g, matrix(b, l->router), h), "router");
    kiln_tensor weights, ids = named(b, kiln_gather_topk(g, router, none, none, attrs, &weights), "route");
    kiln_tensor gate = named(b, by_expert(b, &l->gate_exps, h, ids), "gate");
    kiln_tensor up = named(b, by_expert(b, &l->up_exps, h, ids), "up");
    kiln_tensor act = named(b, kiln_swiglu(g, gate, up, KILN_ACT_SILU), "act");
    kiln_tensor down = named(b, by_expert(b, &l->down_exps, act, ids), "down");
    return kiln_weighted_sum(g, down, scaled(b, weights, b->params->expert_scale));
}

static kiln_tensor layer(const builder *b, const llama_layer *l, kiln_tensor x) {
    kiln_graph *g = b->graph;
    float factor = b->params->residual_scale;
    x = named(b, kiln_add(g, x, scaled(b, attention(b, l, x), factor)), "mid");
    kiln_tensor h = named(b, kiln_rms_norm(g, x, vector(b, l->ffn_norm), b->params->rms_eps), "ffn_norm");
    kiln_tensor f = b->params->n_experts > 0 ? expert_ffn(b, l, h) : dense_ffn(b, l, h);
    return named(b, kiln_add(g, x, scaled(b, named(b, f, "ffn"), factor)), "out");
}

/* Defaults, and bounds: rows are counted in 32 bits by the inputs, and positions by the file's own limit. */
static kiln_status check_options(builder *b, kiln_error *error) {
    kiln_llama_options *o = &b->options;
    const struct {
        const char *name;
        int64_t *value, preset, max;
    } rows[] = {{"context", &o->context, b->params->n_context, b->params->n_context},
                {"max_tokens", &o->max_tokens, 1, INT64_MAX},
                {"max_logits", &o->max_logits, 1, INT64_MAX}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (*rows[i].value == 0)
            *rows[i].value = rows[i].preset;
        int64_t max = i == 0 ? rows[i].max : i == 1 ? o->context : o->max_tokens;
        if (*rows[i].value < 1 || *rows[i].value > max)
            return kiln_error_set(error, KILN_ERROR_LIMIT, "%s: %s is %lld; expected 1 to %lld",
                                  b->model->path, rows[i].name, (long long)*rows[i].value, (long long)max);
    }
    if (o->cache == KILN_DTYPE_NONE)
        o->cache = KILN_F32;
    return KILN_OK;
}

static void add_parts(builder *b) {
    for (size_t i = 0; i < kiln_gguf_part_count(b->model->gguf); i++) {
        const kiln_gguf_part *part = kiln_gguf_part_at(b->model->gguf, i);
        char name[32];
        snprintf(name, sizeof name, "gguf.%zu", i);
        b->parts[i] = kiln_storage_add(b->graph, KILN_STORAGE_WEIGHT, name, (int64_t)part->size);
        /* Weights are never written: the const goes because outputs are bound by the same call. */
        kiln_storage_data_const(b->graph, b->parts[i], part->base, (int64_t)part->size, 1);
    }
}

static void build(builder *b) {
    const kiln_llama_params *p = b->params;
    const kiln_llama_model *m = b->model;
    kiln_graph *g = b->graph;
    b->n_tokens = kiln_slot_i64(g, "n_tokens", 0, b->options.max_tokens);
    b->n_logits = kiln_slot_i64(g, "n_logits", 0, b->options.max_logits);
    b->position = kiln_slot_i64(g, "position", 0, b->options.context);
    b->n_kv = kiln_slot_sum(g, "n_kv", 0, b->options.context,
                            KILN_SHAPE(kiln_sym(b->position), kiln_sym(b->n_tokens)));
    kiln_tensor tokens = kiln_input(g, "tokens", KILN_I32, KILN_SHAPE(kiln_sym(b->n_tokens)));
    kiln_tensor rows = kiln_input(g, "rows", KILN_I32, KILN_SHAPE(kiln_sym(b->n_logits)));
    add_parts(b);
    kiln_tensor table = matrix(b, m->embedding);
    kiln_tensor x = scaled(b, kiln_get_rows(g, table, tokens), p->embedding_scale);
    kiln_name(g, x, "embedding");
    for (b->layer = 0; b->layer < p->n_layers; b->layer++)
        x = layer(b, &m->layers[b->layer], x);
    /* Only the rows asked for meet the classifier, which is often the largest matrix. */
    x = kiln_get_rows(g, x, rows);
    kiln_name(g, x, "last");
    x = kiln_rms_norm(g, x, vector(b, m->output_norm), p->rms_eps);
    kiln_name(g, x, "norm");
    kiln_output(g, kiln_matmul(g, p->tied ? table : matrix(b, m->output), x), "logits");
}

kiln_status kiln_llama_build(const kiln_llama_model *model, const kiln_llama_options *options,
                             kiln_graph *graph, kiln_error *error) {
    builder b = {.model = model, .params = &model->params, .graph = graph};
    size_t n_parts = kiln_gguf_part_count(model->gguf);
    if (options != NULL)
        b.options = *options;
    kiln_status status = check_options(&b, error);
    if (status != KILN_OK)
        return status;
    const kiln_allocator *a = &model->allocator;
    size_t n_experts = (size_t)model->params.n_experts;
    b.parts = KILN_NEW(a, kiln_storage, n_parts);
    b.each = KILN_NEW(a, kiln_tensor, n_experts);
    if (b.parts != NULL && b.each != NULL) {
        build(&b);
        status = kiln_graph_check(graph, error);
    } else {
        status = kiln_error_set(error, KILN_ERROR_MEMORY, "%s: out of memory", model->path);
    }
    KILN_DELETE(a, b.parts, kiln_storage, n_parts);
    KILN_DELETE(a, b.each, kiln_tensor, n_experts);
    return status;
}
