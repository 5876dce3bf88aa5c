/* The tensors of a llama model: found by name, and checked against the hyperparameters. */
#include "llama_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* While the tensors are looked up: how many of the file's were used, to notice those that are not. */
typedef struct finder {
    kiln_llama_model *model;
    kiln_error *error;
    kiln_status status; /* the first failure; later calls do nothing */
    size_t found;
} finder;

static void shape_text(char *buffer, size_t size, int32_t ndim, const int64_t *dims) {
    size_t at = (size_t)snprintf(buffer, size, "[");
    for (int32_t i = 0; i < ndim && at < size; i++)
        at += (size_t)snprintf(buffer + at, size - at, i ? ", %lld" : "%lld", (long long)dims[i]);
    if (at < size)
        snprintf(buffer + at, size - at, "]");
}

/* Norm weights and biases are vectors of floats; matrices may be quantised. */
static kiln_status check_type(const finder *f, llama_tensor t) {
    const kiln_dtype_info *info = kiln_dtype_get(t->dtype);
    if (info == NULL)
        return kiln_error_set(f->error, KILN_ERROR_UNSUPPORTED,
                              "%s: tensor '%s' has type %s, which Kiln can show but not compute with; "
                              "use the model in another quantisation, such as q4_K or q8_0",
                              f->model->path, t->name, t->type->name);
    if (info->kind != KILN_KIND_FLOAT && (info->kind != KILN_KIND_BLOCK || t->ndim == 1))
        return kiln_error_set(f->error, KILN_ERROR_UNSUPPORTED, "%s: tensor '%s' has type %s; expected %s",
                              f->model->path, t->name, t->type->name,
                              t->ndim == 1 ? "floats" : "floats or quantised blocks");
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
    bool same = t->ndim == ndim;
    for (int32_t i = 0; same && i < ndim; i++)
        same = t->dims[i] == dims[i];
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
    f->status = check_type(f, t);
    f->found++;
    return f->status == KILN_OK ? t : NULL;
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
    if (p->n_vocab == 0 && table != NULL && table->ndim == 2)
        p->n_vocab = table->dims[0];
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
        p->n_expert_ff = all != NULL && all->ndim == 3 && all->dims[1] > 0         ? all->dims[1]
                         : first != NULL && first->ndim == 2 && first->dims[0] > 0 ? first->dims[0]
                                                                                   : p->n_ff;
}

static int compare_tensors(const void *a, const void *b) {
    uintptr_t x = (uintptr_t) * (const llama_tensor *)a, y = (uintptr_t) * (const llama_tensor *)b;
    return (x > y) - (x < y);
}

static void collect_experts(const llama_experts *e, int64_t n_experts, llama_tensor *used, size_t *n) {
    if (e->all != NULL)
        used[(*n)++] = e->all;
    for (int64_t i = 0; e->each != NULL && i < n_experts; i++)
        used[(*n)++] = e->each[i];
}

/* Names a tensor of the file that is not part of the model. Only called when the counts say there is one. */
static kiln_status unknown_tensor(finder *f) {
    kiln_llama_model *m = f->model;
    const kiln_gguf *gguf = m->gguf;
    llama_tensor *used = KILN_NEW(&m->allocator, llama_tensor, f->found);
    size_t n = 0;
    if (used == NULL)
        return kiln_error_set(f->error, KILN_ERROR_MEMORY, "%s: out of memory", m->path);
    llama_tensor outer[] = {m->embedding, m->output_norm, m->output};
    for (size_t i = 0; i < 3; i++)
        if (outer[i] != NULL)
            used[n++] = outer[i];
    for (int64_t i = 0; i < m->params.n_layers; i++) {
        const llama_layer *l = &m->layers[i];
        llama_tensor each[] = {l->attn_norm, l->q,      l->k,        l->v,    l->o,  l->q_bias, l->k_bias,
                               l->v_bias,    l->o_bias, l->ffn_norm, l->gate, l->up, l->down,   l->router};
        for (size_t j = 0; j < sizeof each / sizeof each[0]; j++)
            if (each[j] != NULL)
                used[n++] = each[j];
        collect_experts(&l->gate_exps, m->params.n_experts, used, &n);
        collect_experts(&l->up_exps, m->params.n_experts, used, &n);
        collect_experts(&l->down_exps, m->params.n_experts, used, &n);
    }
    qsort(used, n, sizeof(llama_tensor), compare_tensors);
    const char *name = "?";
    for (size_t i = 0; i < kiln_gguf_tensor_count(gguf); i++) {
        llama_tensor t = kiln_gguf_tensor_at(gguf, i);
        if (bsearch(&t, used, n, sizeof(llama_tensor), compare_tensors) == NULL) {
            name = t->name;
            break;
        }
    }
    KILN_DELETE(&m->allocator, used, llama_tensor, f->found);
    return kiln_error_set(f->error, KILN_ERROR_UNSUPPORTED,
                          "%s: tensor '%s' is not one of a plain llama model; running without it would "
                          "compute something else",
                          m->path, name);
}

static kiln_status find_tensors(kiln_llama_model *m, kiln_error *error) {
    finder f = {m, error, KILN_OK, 0};
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
    if (f.status == KILN_OK && f.found != kiln_gguf_tensor_count(m->gguf))
        f.status = unknown_tensor(&f);
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
    kiln_llama_params params;
    kiln_status status = llama_params_read(gguf, &params, error);
    if (status != KILN_OK)
        return status;
    kiln_llama_model *m = KILN_NEW(&a, kiln_llama_model, 1);
    if (m == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "kiln_llama_open: out of memory");
    m->allocator = a;
    m->gguf = gguf;
    m->path = kiln_gguf_part_at(gguf, 0)->path;
    m->params = params;
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
    KILN_DELETE(&a, m, kiln_llama_model, 1);
}

const kiln_llama_params *kiln_llama_get_params(const kiln_llama_model *m) {
    return &m->params;
}
