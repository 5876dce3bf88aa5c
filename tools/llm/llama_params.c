/* Hyperparameters of a llama model: read, and held against what can be true. */
#include "llama_internal.h"

#include <math.h>
#include <string.h>

/* Bounds are generous, and there so that products of two of them fit 63 bits and a count that is plainly
 * garbage is called so before memory is asked for. */
enum { MOST_LAYERS = 1 << 16, MOST_WIDTH = 1 << 24, MOST_HEADS = 1 << 16, MOST_CONTEXT = 1 << 24 };

typedef struct int_key {
    const char *key;
    size_t offset; /* in kiln_llama_params */
    int64_t min, max;
    bool required;
    bool per_layer; /* may be an array with a value for each layer, all the same */
} int_key;

#define FIELD(name) offsetof(kiln_llama_params, name)
static const int_key int_keys[] = {
    {"llama.block_count", FIELD(n_layers), 1, MOST_LAYERS, true, false},
    {"llama.context_length", FIELD(n_context), 1, MOST_CONTEXT, true, false},
    {"llama.embedding_length", FIELD(n_embd), 1, MOST_WIDTH, true, false},
    {"llama.feed_forward_length", FIELD(n_ff), 1, MOST_WIDTH, true, true},
    {"llama.expert_feed_forward_length", FIELD(n_expert_ff), 1, MOST_WIDTH, false, false},
    {"llama.attention.head_count", FIELD(n_heads), 1, MOST_HEADS, true, true},
    {"llama.attention.head_count_kv", FIELD(n_kv_heads), 1, MOST_HEADS, false, true},
    {"llama.attention.key_length", FIELD(head_dim), 1, MOST_WIDTH, false, false},
    {"llama.attention.value_length", FIELD(value_dim), 1, MOST_WIDTH, false, false},
    {"llama.attention.sliding_window", FIELD(window), 0, MOST_CONTEXT, false, false},
    {"llama.rope.dimension_count", FIELD(rope_dims), 2, MOST_WIDTH, false, false},
    {"llama.vocab_size", FIELD(n_vocab), 1, MOST_WIDTH, false, false},
    {"llama.expert_count", FIELD(n_experts), 0, MOST_HEADS, false, false},
    {"llama.expert_used_count", FIELD(n_experts_used), 0, UINT32_MAX, false, false},
};

/* The value of a key that may be an array with one for each layer. block_count stands first in the table,
 * so it is known here if it is at all. */
static kiln_status read_layers(const kiln_gguf *gguf, const char *path, const kiln_llama_params *p,
                               const char *key, int64_t *out, kiln_error *error) {
    const kiln_gguf_kv *kv = kiln_gguf_kv_find(gguf, key);
    double first = 0, value = 0;
    if (kv->count != p->n_layers)
        return kiln_error_set(error, KILN_ERROR_FORMAT,
                              "%s: %s has %lld values; expected one, or one for each of the %lld layers",
                              path, key, (long long)kv->count, (long long)p->n_layers);
    for (int64_t i = 0; i < kv->count; i++) {
        if (!kiln_gguf_kv_f64(kv, i, &value) || value != floor(value) || fabs(value) > 4294967295.0)
            return kiln_error_set(error, KILN_ERROR_FORMAT, "%s: %s is an array of %s; expected integers",
                                  path, key, kiln_gguf_type_name(kv->element));
        first = i == 0 ? value : first;
        if (value != first)
            return kiln_error_set(
                error, KILN_ERROR_UNSUPPORTED,
                "%s: %s is %.0f in layer %lld and %.0f in layer 0; Kiln computes llama models "
                "whose layers are all alike",
                path, key, value, (long long)i, first);
    }
    *out = (int64_t)first;
    return KILN_OK;
}

/* Absent keys leave the 0 that is there. Only values that are present are judged here. */
static kiln_status read_ints(const kiln_gguf *gguf, const char *path, kiln_llama_params *p,
                             kiln_error *error) {
    for (size_t i = 0; i < sizeof int_keys / sizeof int_keys[0]; i++) {
        const int_key *k = &int_keys[i];
        const kiln_gguf_kv *kv = kiln_gguf_kv_find(gguf, k->key);
        int64_t value = 0;
        if (kv == NULL)
            continue;
        kiln_status status = k->per_layer && kv->type == KILN_GGUF_ARRAY
                                 ? read_layers(gguf, path, p, k->key, &value, error)
                                 : kiln_gguf_get_i64(gguf, k->key, &value, error);
        if (status != KILN_OK)
            return status;
        if (value < k->min || value > k->max)
            return kiln_error_set(error, KILN_ERROR_LIMIT, "%s: %s is %lld; expected %lld to %lld", path,
                                  k->key, (long long)value, (long long)k->min, (long long)k->max);
        memcpy((char *)p + k->offset, &value, sizeof value);
    }
    return KILN_OK;
}

typedef struct float_key {
    const char *key;
    size_t offset;
    float preset, min, max; /* inclusive; NaN is never within */
} float_key;

/* A factor of 0 means that there is none. llama.cpp reads the scales of attention, embeddings, the
 * residual stream and experts' weights for relatives of llama (granite) and passes over them here; what
 * they mean is the same. */
static const float_key float_keys[] = {
    {"llama.attention.layer_norm_rms_epsilon", FIELD(rms_eps), 0.0f, 0.0f, 1.0f},
    {"llama.attention.scale", FIELD(attn_scale), 0.0f, 0.0f, 1e6f},
    {"llama.rope.freq_base", FIELD(rope_theta), 10000.0f, 1e-3f, 1e30f},
    {"llama.embedding_scale", FIELD(embedding_scale), 0.0f, -1e6f, 1e6f},
    {"llama.residual_scale", FIELD(residual_scale), 0.0f, -1e6f, 1e6f},
    {"llama.expert_weights_scale", FIELD(expert_scale), 0.0f, -1e6f, 1e6f},
};

static kiln_status read_floats(const kiln_gguf *gguf, const char *path, kiln_llama_params *p,
                               kiln_error *error) {
    for (size_t i = 0; i < sizeof float_keys / sizeof float_keys[0]; i++) {
        const float_key *k = &float_keys[i];
        float value = k->preset;
        if (kiln_gguf_has(gguf, k->key)) {
            kiln_status status = kiln_gguf_get_f32(gguf, k->key, &value, error);
            if (status != KILN_OK)
                return status;
        }
        if (!(value >= k->min && value <= k->max))
            return kiln_error_set(error, KILN_ERROR_LIMIT, "%s: %s is %g; expected %g to %g", path, k->key,
                                  (double)value, (double)k->min, (double)k->max);
        memcpy((char *)p + k->offset, &value, sizeof value);
    }
    return KILN_OK;
}

/* A text of the file, fit to stand in a message: cut, and with anything odd in it replaced. */
enum { SHOWN = 40 };
static const char *shown(kiln_gguf_string s, char buffer[SHOWN + 1]) {
    size_t n = s.size < SHOWN ? s.size : SHOWN;
    for (size_t i = 0; i < n; i++)
        buffer[i] = s.data[i] >= ' ' && s.data[i] <= '~' ? s.data[i] : '?';
    buffer[n] = '\0';
    return buffer;
}

static const char scaling_type[] = "llama.rope.scaling.type", scaling_factor[] = "llama.rope.scaling.factor",
                  scale_linear[] = "llama.rope.scale_linear",
                  attn_factor[] = "llama.rope.scaling.attn_factor";

/* A factor of the rope; absent it stays. */
static kiln_status read_factor(const kiln_gguf *gguf, const char *path, const char *key, float min,
                               float *out, kiln_error *error) {
    if (!kiln_gguf_has(gguf, key))
        return KILN_OK;
    kiln_status status = kiln_gguf_get_f32(gguf, key, out, error);
    if (status == KILN_OK && !(*out == min || (*out >= 1e-6f && *out <= 1e6f)))
        status = kiln_error_set(error, KILN_ERROR_LIMIT, "%s: %s is %g; expected %s1e-06 to 1e+06", path, key,
                                (double)*out, min == 0.0f ? "0 (none) or " : "");
    return status;
}

/* The linear factor, under its name and the one of older files; 0 means that there is none. */
static kiln_status read_linear(const kiln_gguf *gguf, const char *path, float *out, kiln_error *error) {
    float old = 0.0f;
    kiln_status status = read_factor(gguf, path, scaling_factor, 0.0f, out, error);
    if (status != KILN_OK || !kiln_gguf_has(gguf, scale_linear))
        return status;
    status = read_factor(gguf, path, scale_linear, 0.0f, &old, error);
    if (status != KILN_OK)
        return status;
    if (kiln_gguf_has(gguf, scaling_factor) && old != *out)
        return kiln_error_set(error, KILN_ERROR_FORMAT,
                              "%s: %s is %g, but %s, the older name of the same, is %g; expected one of them",
                              path, scaling_factor, (double)*out, scale_linear, (double)old);
    *out = old;
    return KILN_OK;
}

/* A factor alone means linear scaling, as in older files. Other kinds change each frequency by its own
 * amount, which the rope op does not do. */
static kiln_status read_scaling(const kiln_gguf *gguf, const char *path, kiln_llama_params *p,
                                kiln_error *error) {
    kiln_gguf_string type = {"linear", 6};
    float linear = 0.0f;
    p->rope_attn_factor = 1.0f;
    kiln_status status = read_linear(gguf, path, &linear, error);
    if (status == KILN_OK)
        status = read_factor(gguf, path, attn_factor, 1e-6f, &p->rope_attn_factor, error);
    if (status == KILN_OK && kiln_gguf_has(gguf, scaling_type))
        status = kiln_gguf_get_string(gguf, scaling_type, &type, error);
    if (status != KILN_OK)
        return status;
    bool is_none = type.size == 4 && memcmp(type.data, "none", 4) == 0;
    char text[SHOWN + 1];
    if (!is_none && !(type.size == 6 && memcmp(type.data, "linear", 6) == 0))
        return kiln_error_set(error, KILN_ERROR_UNSUPPORTED,
                              "%s: %s is '%s'; Kiln computes 'none' and 'linear' only", path, scaling_type,
                              shown(type, text));
    p->rope_scale = is_none || linear == 0.0f ? 1.0f : 1.0f / linear;
    return KILN_OK;
}

static kiln_status check_experts(const kiln_llama_params *p, const char *path, kiln_error *error) {
    if (p->n_experts_used > p->n_experts)
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "%s: llama.expert_used_count is %lld, but the model has %lld experts "
                              "(llama.expert_count)",
                              path, (long long)p->n_experts_used, (long long)p->n_experts);
    if (p->n_experts > 0 && p->n_experts_used == 0)
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "%s: the model has %lld experts but llama.expert_used_count is 0 or missing",
                              path, (long long)p->n_experts);
    return KILN_OK;
}

static kiln_status check_heads(kiln_llama_params *p, const char *path, kiln_error *error) {
    if (p->n_kv_heads == 0)
        p->n_kv_heads = p->n_heads;
    if (p->n_heads % p->n_kv_heads != 0)
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "%s: llama.attention.head_count_kv (%lld) does not divide "
                              "llama.attention.head_count (%lld)",
                              path, (long long)p->n_kv_heads, (long long)p->n_heads);
    if (p->head_dim == 0) {
        if (p->n_embd % p->n_heads != 0)
            return kiln_error_set(error, KILN_ERROR_LIMIT,
                                  "%s: llama.attention.head_count (%lld) does not divide "
                                  "llama.embedding_length (%lld), and there is no llama.attention.key_length",
                                  path, (long long)p->n_heads, (long long)p->n_embd);
        p->head_dim = p->n_embd / p->n_heads;
    }
    if (p->value_dim == 0)
        p->value_dim = p->head_dim;
    if (p->rope_dims == 0)
        p->rope_dims = p->head_dim;
    if (p->rope_dims % 2 != 0 || p->rope_dims > p->head_dim)
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "%s: llama.rope.dimension_count is %lld; expected an even number up to the "
                              "%lld of a head",
                              path, (long long)p->rope_dims, (long long)p->head_dim);
    return KILN_OK;
}

/* The factor on cosines and sines is one on queries and on keys, so its square is one on their products,
 * if all of a head turns. */
static kiln_status check_scale(kiln_llama_params *p, const char *path, kiln_error *error) {
    double factor = (double)p->rope_attn_factor;
    if (factor == 1.0)
        return KILN_OK;
    if (p->rope_dims != p->head_dim)
        return kiln_error_set(
            error, KILN_ERROR_UNSUPPORTED,
            "%s: %s is %g, but only %lld of a head's %lld elements turn; Kiln computes such a "
            "factor where all do",
            path, attn_factor, factor, (long long)p->rope_dims, (long long)p->head_dim);
    double scale = p->attn_scale != 0.0f ? (double)p->attn_scale : 1.0 / sqrt((double)p->head_dim);
    p->attn_scale = (float)(factor * factor * scale);
    return KILN_OK;
}

bool llama_params_has(const char *key) {
    static const char *const others[] = {scaling_type, scaling_factor, scale_linear, attn_factor};
    for (size_t i = 0; i < sizeof int_keys / sizeof int_keys[0]; i++)
        if (strcmp(int_keys[i].key, key) == 0)
            return true;
    for (size_t i = 0; i < sizeof float_keys / sizeof float_keys[0]; i++)
        if (strcmp(float_keys[i].key, key) == 0)
            return true;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(others[i], key) == 0)
            return true;
    return false;
}

/* Other architectures compute something else, and so do files that are not a whole model: adapters,
 * projectors. */
static kiln_status check_kind(const kiln_gguf *gguf, const char *path, kiln_error *error) {
    const char *keys[] = {"general.architecture", "general.type"};
    const char *want[] = {"llama", "model"};
    for (size_t i = 0; i < 2; i++) {
        kiln_gguf_string s;
        char text[SHOWN + 1];
        if (i == 1 && !kiln_gguf_has(gguf, keys[i]))
            continue;
        kiln_status status = kiln_gguf_get_string(gguf, keys[i], &s, error);
        if (status != KILN_OK)
            return status;
        if (s.size != 5 || memcmp(s.data, want[i], 5) != 0)
            return kiln_error_set(
                error, KILN_ERROR_UNSUPPORTED,
                i == 0 ? "%s: the architecture is '%s'; only 'llama' (dense or Mixtral) can be "
                         "run"
                       : "%s: general.type is '%s'; only a whole 'model' can be run",
                path, shown(s, text));
    }
    return KILN_OK;
}

/* Without them the model is another one. */
static kiln_status check_missing(const kiln_gguf *gguf, const char *path, kiln_error *error) {
    const char *missing = NULL;
    for (size_t i = 0; i < sizeof int_keys / sizeof int_keys[0] && missing == NULL; i++)
        if (int_keys[i].required && !kiln_gguf_has(gguf, int_keys[i].key))
            missing = int_keys[i].key;
    if (missing == NULL && !kiln_gguf_has(gguf, float_keys[0].key))
        missing = float_keys[0].key;
    return missing == NULL
               ? KILN_OK
               : kiln_error_set(error, KILN_ERROR_FORMAT, "%s: the key %s is missing", path, missing);
}

/* The values that must agree with each other are checked where both are present, before any is missed. */
kiln_status llama_params_read(kiln_llama_model *m, kiln_error *error) {
    kiln_llama_params *p = &m->params;
    kiln_status status = check_kind(m->gguf, m->path, error);
    if (status != KILN_OK || (status = read_ints(m->gguf, m->path, p, error)) != KILN_OK ||
        (status = read_floats(m->gguf, m->path, p, error)) != KILN_OK ||
        (status = read_scaling(m->gguf, m->path, p, error)) != KILN_OK ||
        (status = check_experts(p, m->path, error)) != KILN_OK ||
        (status = check_missing(m->gguf, m->path, error)) != KILN_OK ||
        (status = check_heads(p, m->path, error)) != KILN_OK)
        return status;
    return check_scale(p, m->path, error);
}
