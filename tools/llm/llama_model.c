/* The tensors of a llama model: found by name, and checked against the hyperparameters. */
#include "llama_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct used_tensor {
    llama_tensor tensor;
} used_tensor;

/* While the tensors are looked up: those of the file that are used, to notice the others. */
typedef struct finder {
    kiln_llama_model *model;
    kiln_error *error;
    kiln_status status; /* the first failure; later calls do nothing */
    struct {
        used_tensor *items;
        size_t count, capacity;
    } used;
} finder;

static void shape_text(char *buffer, size_t size, int32_t ndim, const int64_t *dims) {
    size_t at = (size_t)snprintf(buffer, size, "[");
    for (int32_t i = 0; i < ndim && at < size; i++)
        at += (size_t)snprintf(buffer + at, size - at, i ? ", %lld" : "%lld", (long long)dims[i]);
    if (at < size)
        snprintf(buffer + at, size - at, "]");
}

/* Norm weights and biases are vectors of floats; matrices may be quantised. */
static kiln_status check_type(const finder *f, llama_tensor t, bool vector) {
    const kiln_dtype_info *info = kiln_dtype_get(t->dtype);
    if (info == NULL)
        return kiln_error_set(f->error, KILN_ERROR_UNSUPPORTED,
                              "%s: tensor '%s' has type %s, which Kiln can show but not compute with; "
                              "use the model in another quantisation, such as q4_K or q8_0",
                              f->model->path, t->name, t->type->name);
    if (info->kind != KILN_KIND_FLOAT && (info->kind != KILN_KIND_BLOCK || vector))
        return kiln_error_set(f->error, KILN_ERROR_UNSUPPORTED, "%s: tensor '%s' has type %s; expected %s",
                              f->model->path, t->name, t->type->name,
                              vector ? "floats" : "floats or quantised blocks");
    return KILN_OK;
}

/* The tensor `name` of shape dims, or NULL with f->status set (or, if optional, just NULL). */
static llama_tensor find(finder *f, bool optional, const char *name, int32_t ndim, const int64_t *dims) {
    if (f->status != KILN_OK)
        return NULL;
    llama_tensor t = kiln_gguf_tensor_find(f->model->gguf, name);
    if (t == NULL && optional)
        return NULL;
    if (t == NULL) {
        f->status = kiln_error_set(
            f->error, KILN_ERROR_FORMAT, "%s: tensor '%s' is missing; the file is incomplete, or no %s model",
            f->model->path, name, f->model->params.n_experts > 0 ? "expert-routed llama" : "llama");
        return NULL;
    }
    bool same = true;
    for (int32_t i = 0; i < KILN_GGUF_MAX_DIMS; i++)
        same = same && llama_dim(t, i) == (i < ndim ? dims[ndim - 1 - i] : 1);
    if (!same) {
        char want[96], got[96];
        shape_text(want, sizeof want, ndim, dims);
        shape_text(got, sizeof got, t->ndim, t->dims);
        f->status =
            kiln_error_set(f->error, KILN_ERROR_SHAPE,
                           "%s: tensor '%s' has shape %s; the hyperparameters say %s (outermost first)",
                           f->model->path, name, got, want);
        return NULL;
    }
    f->status = check_type(f, t, ndim == 1);
    if (!KILN_GROW(&f->model->allocator, f->used, f->used.count + 1))
        f->status = kiln_error_set(f->error, KILN_ERROR_MEMORY, "%s: out of memory", f->model->path);
    if (f->status != KILN_OK)
        return NULL;
    return f->used.items[f->used.count++].tensor = t;
}

/* blk.LAYER.WHAT, of n rows of k (k 0: a vector of n). */
static llama_tensor of_layer(finder *f, bool optional, int64_t layer, const char *what, int64_t n,
                             int64_t k) {
    char name[128];
    snprintf(name, sizeof name, "blk.%lld.%.96s", (long long)layer, what);
    return find(f, optional, name, k ? 2 : 1, (int64_t[]){n, k});
}

static void attention_tensors(finder *f, int64_t i, llama_layer *l) {
    const kiln_llama_params *p = &f->model->params;
    int64_t n_q = p->n_heads * p->head_dim, n_k = p->n_kv_heads * p->head_dim;
    int64_t n_v = p->n_kv_heads * p->value_dim, n_o = p->n_heads * p->value_dim;
    l->attn_norm = of_layer(f, false, i, "attn_norm.weight", p->n_embd, 0);
    l->q = of_layer(f, false, i, "attn_q.weight", n_q, p->n_embd);
    l->k = of_layer(f, false, i, "attn_k.weight", n_k, p->n_embd);
    l->v = of_layer(f, false, i, "attn_v.weight", n_v, p->n_embd);
    l->o = of_layer(f, false, i, "attn_output.weight", p->n_embd, n_o);
    l->q_bias = of_layer(f, true, i, "attn_q.bias", n_q, 0);
    l->k_bias = of_layer(f, true, i, "attn_k.bias", n_k, 0);
    l->v_bias = of_layer(f, true, i, "attn_v.bias", n_v, 0);
    l->o_bias = of_layer(f, true, i, "attn_output.bias", p->n_embd, 0);
}

/* All experts in one tensor, or in one tensor each, which must then be of one type. */
static void expert_tensors(finder *f, int64_t layer, const char *what, int64_t n, int64_t k,
                           llama_experts *out) {
    const kiln_llama_model *m = f->model;
    int64_t n_experts = m->params.n_experts;
    char name[96], first[96];
    snprintf(name, sizeof name, "blk.%lld.%s_exps.weight", (long long)layer, what);
    snprintf(first, sizeof first, "blk.%lld.%s.0.weight", (long long)layer, what);
    if (kiln_gguf_tensor_find(m->gguf, name) != NULL || kiln_gguf_tensor_find(m->gguf, first) == NULL) {
        out->all = find(f, false, name, 3, (int64_t[]){n_experts, n, k});
        return;
    }
    out->each = KILN_NEW(&m->allocator, llama_tensor, (size_t)n_experts);
    if (out->each == NULL) {
        f->status = kiln_error_set(f->error, KILN_ERROR_MEMORY, "%s: out of memory", m->path);
        return;
    }
    for (int64_t e = 0; e < n_experts && f->status == KILN_OK; e++) {
        snprintf(name, sizeof name, "%s.%lld.weight", what, (long long)e);
        out->each[e] = of_layer(f, false, layer, name, n, k);
        if (f->status == KILN_OK && out->each[e]->dtype != out->each[0]->dtype)
            f->status = kiln_error_set(
                f->error, KILN_ERROR_DTYPE,
                "%s: tensor '%s' has type %s, but that of expert 0 has %s; the experts "
                "of a layer must be of one type",
                m->path, out->each[e]->name, out->each[e]->type->name, out->each[0]->type->name);
    }
}

static void layer_tensors(finder *f, int64_t i) {
    const kiln_llama_params *p = &f->model->params;
    llama_layer *l = &f->model->layers[i];
    attention_tensors(f, i, l);
    l->ffn_norm = of_layer(f, false, i, "ffn_norm.weight", p->n_embd, 0);
    if (p->n_experts == 0) {
        l->gate = of_layer(f, false, i, "ffn_gate.weight", p->n_ff, p->n_embd);
        l->up = of_layer(f, false, i, "ffn_up.weight", p->n_ff, p->n_embd);
        l->down = of_layer(f, false, i, "ffn_down.weight", p->n_embd, p->n_ff);
        l->gate_bias = of_layer(f, true, i, "ffn_gate.bias", p->n_ff, 0);
        l->up_bias = of_layer(f, true, i, "ffn_up.bias", p->n_ff, 0);
        l->down_bias = of_layer(f, true, i, "ffn_down.bias", p->n_embd, 0);
        return;
    }
    l->router = of_layer(f, false, i, "ffn_gate_inp.weight", p->n_experts, p->n_embd);
    if (f->status == KILN_OK)
        expert_tensors(f, i, "ffn_gate", p->n_expert_ff, p->n_embd, &l->gate_exps);
    if (f->status == KILN_OK)
        expert_tensors(f, i, "ffn_up", p->n_expert_ff, p->n_embd, &l->up_exps);
    if (f->status == KILN_OK)
        expert_tensors(f, i, "ffn_down", p->n_embd, p->n_expert_ff, &l->down_exps);
}

/* The vocabulary is as large as the embedding table says; the key, where present, must agree. */
static void find_outer(finder *f) {
    kiln_llama_model *m = f->model;
    kiln_llama_params *p = &m->params;
    llama_tensor table = kiln_gguf_tensor_find(m->gguf, "token_embd.weight");
    if (p->n_vocab == 0 && table != NULL)
        p->n_vocab = llama_dim(table, 1);
    if (p->n_vocab > INT32_MAX) {
        f->status = kiln_error_set(f->error, KILN_ERROR_LIMIT, "%s: a vocabulary of %lld tokens; at most %d",
                                   m->path, (long long)p->n_vocab, INT32_MAX);
        return;
    }
    m->embedding = find(f, false, "token_embd.weight", 2, (int64_t[]){p->n_vocab, p->n_embd});
    m->output_norm = find(f, false, "output_norm.weight", 1, &p->n_embd);
    m->output = find(f, true, "output.weight", 2, (int64_t[]){p->n_vocab, p->n_embd});
    p->tied = m->output == NULL;
}

/* Files whose experts are narrower than feed_forward_length need not say so in a key: then the first expert's
 * gate does, and all others are held against it. */
static void find_expert_width(finder *f) {
    kiln_llama_params *p = &f->model->params;
    llama_tensor all = kiln_gguf_tensor_find(f->model->gguf, "blk.0.ffn_gate_exps.weight");
    llama_tensor first = kiln_gguf_tensor_find(f->model->gguf, "blk.0.ffn_gate.0.weight");
    if (p->n_experts == 0)
        p->n_expert_ff = 0;
    else if (p->n_expert_ff == 0)
        p->n_expert_ff = all != NULL && llama_dim(all, 1) > 0       ? llama_dim(all, 1)
                         : first != NULL && llama_dim(first, 1) > 0 ? llama_dim(first, 1)
                                                                    : p->n_ff;
}

/* What tensors that are not used hold, by the end of their names. Those that only repeat what keys say
 * have no effect. */
static const struct {
    const char *ending, *what;
    bool harmless;
} unused[] = {
    {"attn_rot_embd.weight", "the rope's frequencies, which keys give", true},
    {"rope_freqs.weight", "a factor for each frequency of the rope, as of Llama 3.1", false},
    {"rope_factors_long.weight", "a factor for each frequency of the rope (longrope)", false},
    {"rope_factors_short.weight", "a factor for each frequency of the rope (longrope)", false},
    {"attn_qkv.weight", "queries, keys and values in one matrix", false},
    {"attn_qkv.bias", "queries, keys and values in one bias", false},
    {"attn_q_norm.weight", "a norm of queries", false},
    {"attn_k_norm.weight", "a norm of keys", false},
    {"attn_sinks.weight", "attention sinks", false},
    {"_norm.weight", "a norm that a llama model does not have", false},
    {"_norm.bias", "the bias of a norm", false},
    {"gate_up_exps.weight", "gate and up projections in one tensor", false},
    {"exps.bias", "biases of experts", false},
    {"exp_probs_b.bias", "a bias for choosing experts", false},
    {"ffn_gate_inp.bias", "a bias of the router", false},
    {"shexp.weight", "a shared expert", false},
    {".input_scale", "a scale of activations, as of nvfp4", false},
    {".scale", "a scale of a weight, as of nvfp4", false},
    {"output.bias", "a bias of the classifier", false},
    {"lora_a", "a LoRA adapter", false},
    {"lora_b", "a LoRA adapter", false},
};

/* The layer in a tensor's name, blk.N.…; -1 for others. */
static int64_t layer_of(const char *name) {
    char *end;
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9')
        return -1;
    long long layer = strtoll(name + 4, &end, 10);
    return *end == '.' ? layer : -1;
}

static kiln_status note_unused(finder *f, llama_tensor t) {
    kiln_llama_model *m = f->model;
    size_t size = strlen(t->name), i = 0;
    int64_t layer = layer_of(t->name);
    if (layer >= m->params.n_layers)
        return kiln_error_set(f->error, KILN_ERROR_UNSUPPORTED,
                              "%s: tensor '%s' is of layer %" PRId64 ", but llama.block_count is %" PRId64,
                              m->path, t->name, layer, m->params.n_layers);
    for (; i < sizeof unused / sizeof unused[0]; i++) {
        size_t end = strlen(unused[i].ending);
        if (size >= end && strcmp(t->name + size - end, unused[i].ending) == 0)
            break;
    }
    bool known = i < sizeof unused / sizeof unused[0];
    if (!known || !unused[i].harmless)
        return kiln_error_set(f->error, KILN_ERROR_UNSUPPORTED,
                              "%s: tensor '%s'%s%s%s is not one of a plain llama model; running without it "
                              "would compute something else",
                              m->path, t->name, known ? " (" : "", known ? unused[i].what : "",
                              known ? ")" : "");
    if (!llama_notice(m, "tensor '%s' (%s) has no effect", t->name, unused[i].what))
        return kiln_error_set(f->error, KILN_ERROR_MEMORY, "%s: out of memory", m->path);
    return KILN_OK;
}

static int compare_tensors(const void *a, const void *b) {
    uintptr_t x = (uintptr_t)((const used_tensor *)a)->tensor,
              y = (uintptr_t)((const used_tensor *)b)->tensor;
    return (x > y) - (x < y);
}

/* After all have been found: every other tensor of the file is refused or noted. */
static void check_unused(finder *f) {
    const kiln_gguf *gguf = f->model->gguf;
    size_t count = kiln_gguf_tensor_count(gguf);
    /* Items are there: a model has tensors. */
    if (f->status != KILN_OK || f->used.count == count || f->used.items == NULL)
        return;
    qsort(f->used.items, f->used.count, sizeof *f->used.items, compare_tensors);
    for (size_t i = 0; i < count && f->status == KILN_OK; i++) {
        used_tensor t = {kiln_gguf_tensor_at(gguf, i)};
        if (bsearch(&t, f->used.items, f->used.count, sizeof t, compare_tensors) == NULL)
            f->status = note_unused(f, t.tensor);
    }
}

static kiln_status find_tensors(kiln_llama_model *m, kiln_error *error) {
    finder f = {m, error, KILN_OK, {NULL, 0, 0}};
    int64_t n_layers = m->params.n_layers;
    /* Nine tensors a layer at least: this bounds what a made-up layer count can cost. */
    if ((size_t)n_layers > kiln_gguf_tensor_count(m->gguf) / 9)
        return kiln_error_set(error, KILN_ERROR_FORMAT,
                              "%s: llama.block_count is %lld, but the file has %zu tensors only; it is "
                              "incomplete",
                              m->path, (long long)n_layers, kiln_gguf_tensor_count(m->gguf));
    m->layers = KILN_NEW(&m->allocator, llama_layer, (size_t)n_layers);
    if (m->layers == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "%s: out of memory for %lld layers", m->path,
                              (long long)n_layers);
    find_outer(&f);
    find_expert_width(&f);
    for (int64_t i = 0; i < n_layers && f.status == KILN_OK; i++)
        layer_tensors(&f, i);
    check_unused(&f);
    KILN_ARRAY_FREE(&m->allocator, f.used);
    return f.status;
}

kiln_status kiln_llama_open(const kiln_gguf *gguf, const kiln_allocator *allocator, kiln_llama_model **out,
                            kiln_error *error) {
    if (out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_llama_open: out is NULL");
    *out = NULL;
    if (gguf == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_llama_open: gguf is NULL");
    kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln_llama_model *m = KILN_NEW(&a, kiln_llama_model, 1);
    if (m == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "kiln_llama_open: out of memory");
    m->allocator = a;
    m->gguf = gguf;
    m->path = kiln_gguf_part_at(gguf, 0)->path;
    kiln_status status = llama_params_read(m, error);
    if (status == KILN_OK)
        status = llama_keys_check(m, error);
    if (status == KILN_OK)
        status = find_tensors(m, error);
    if (status != KILN_OK)
        kiln_llama_destroy(m);
    else
        *out = m;
    return status;
}

void kiln_llama_destroy(kiln_llama_model *m) {
    if (m == NULL)
        return;
    kiln_allocator a = m->allocator;
    size_t n_experts = (size_t)m->params.n_experts;
    for (int64_t i = 0; m->layers != NULL && i < m->params.n_layers; i++) {
        llama_layer *l = &m->layers[i];
        KILN_DELETE(&a, l->gate_exps.each, llama_tensor, n_experts);
        KILN_DELETE(&a, l->up_exps.each, llama_tensor, n_experts);
        KILN_DELETE(&a, l->down_exps.each, llama_tensor, n_experts);
    }
    KILN_DELETE(&a, m->layers, llama_layer, (size_t)m->params.n_layers);
    KILN_ARRAY_FREE(&a, m->notices);
    KILN_DELETE(&a, m, kiln_llama_model, 1);
}

const kiln_llama_params *kiln_llama_get_params(const kiln_llama_model *m) {
    return &m->params;
}

bool llama_notice(kiln_llama_model *m, const char *format, ...) {
    if (!KILN_GROW(&m->allocator, m->notices, m->notices.count + 1))
        return false;
    va_list args;
    va_start(args, format);
    vsnprintf(m->notices.items[m->notices.count++], LLAMA_NOTICE_SIZE, format, args);
    va_end(args);
    return true;
}

const char *kiln_llama_notice(const kiln_llama_model *m, size_t index) {
    return index < m->notices.count ? m->notices.items[index] : NULL;
}
