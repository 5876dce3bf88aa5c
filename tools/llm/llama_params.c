/* Hyperparameters of a llama model: read, and held against what can be true. */
#include "llama_internal.h"

#include <string.h>

/* Bounds are generous, and there so that products of two of them fit 63 bits and a count that is plainly
 * garbage is called so before memory is asked for. */
enum { MOST_LAYERS = 1 << 16, MOST_WIDTH = 1 << 24, MOST_HEADS = 1 << 16, MOST_CONTEXT = 1 << 24 };

typedef struct int_key {
    const char *key;
    size_t offset; /* in kiln_llama_params */
    int64_t min, max;
    bool required;
} int_key;

#define FIELD(name) offsetof(kiln_llama_params, name)
static const int_key int_keys[] = {
    {"llama.block_count", FIELD(n_layers), 1, MOST_LAYERS, true},
    {"llama.context_length", FIELD(n_context), 1, MOST_CONTEXT, true},
    {"llama.embedding_length", FIELD(n_embd), 1, MOST_WIDTH, true},
    {"llama.feed_forward_length", FIELD(n_ff), 1, MOST_WIDTH, true},
    {"llama.expert_feed_forward_length", FIELD(n_expert_ff), 1, MOST_WIDTH, false},
    {"llama.attention.head_count", FIELD(n_heads), 1, MOST_HEADS, true},
    {"llama.attention.head_count_kv", FIELD(n_kv_heads), 1, MOST_HEADS, false},
    {"llama.attention.key_length", FIELD(head_dim), 1, MOST_WIDTH, false},
    {"llama.attention.value_length", FIELD(value_dim), 1, MOST_WIDTH, false},
    {"llama.attention.sliding_window", FIELD(window), 0, MOST_CONTEXT, false},
    {"llama.rope.dimension_count", FIELD(rope_dims), 2, MOST_WIDTH, false},
    {"llama.vocab_size", FIELD(n_vocab), 1, MOST_WIDTH, false},
    {"llama.expert_count", FIELD(n_experts), 0, MOST_HEADS, false},
    {"llama.expert_used_count", FIELD(n_experts_used), 0, UINT32_MAX, false},
};

/* Absent keys leave the 0 that is there. Only values that are present are judged here. */
static kiln_status read_ints(const kiln_gguf *gguf, const char *path, kiln_llama_params *p,
                             kiln_error *error) {
    for (size_t i = 0; i < sizeof int_keys / sizeof int_keys[0]; i++) {
        const int_key *k = &int_keys[i];
        int64_t value;
        if (!kiln_gguf_has(gguf, k->key))
            continue;
        kiln_status status = kiln_gguf_get_i64(gguf, k->key, &value, error);
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

static const float_key float_keys[] = {
    {"llama.attention.layer_norm_rms_epsilon", FIELD(rms_eps), 1e-5f, 0.0f, 1.0f},
    {"llama.rope.freq_base", FIELD(rope_theta), 10000.0f, 1e-3f, 1e30f},
    {"llama.rope.scaling.factor", FIELD(rope_scale), 1.0f, 1e-6f, 1e6f},
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

/* A factor alone means linear scaling, as in older files. Other kinds change each frequency by its own
 * amount, which the rope op does not do. */
static kiln_status check_scaling(const kiln_gguf *gguf, const char *path, kiln_llama_params *p,
                                 kiln_error *error) {
    const char *key = "llama.rope.scaling.type";
    kiln_gguf_string type;
    p->rope_scale = 1.0f / p->rope_scale;
    if (!kiln_gguf_has(gguf, key))
        return KILN_OK;
    kiln_status status = kiln_gguf_get_string(gguf, key, &type, error);
    if (status != KILN_OK)
        return status;
    if (type.size == 4 && memcmp(type.data, "none", 4) == 0) {
        p->rope_scale = 1.0f;
        return KILN_OK;
    }
    if (type.size == 6 && memcmp(type.data, "linear", 6) == 0)
        return KILN_OK;
    char text[SHOWN + 1];
    return kiln_error_set(error, KILN_ERROR_UNSUPPORTED,
                          "%s: %s is '%s'; Kiln computes 'none' and 'linear' only", path, key,
                          shown(type, text));
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

/* The values that must agree with each other are checked where both are present, before any is missed. */
kiln_status llama_params_read(const kiln_gguf *gguf, kiln_llama_params *out, kiln_error *error) {
    const char *path = kiln_gguf_part_at(gguf, 0)->path;
    kiln_gguf_string arch;
    memset(out, 0, sizeof *out);
    kiln_status status = kiln_gguf_get_string(gguf, "general.architecture", &arch, error);
    if (status != KILN_OK)
        return status;
    char text[SHOWN + 1];
    if (arch.size != 5 || memcmp(arch.data, "llama", 5) != 0)
        return kiln_error_set(error, KILN_ERROR_UNSUPPORTED,
                              "%s: the architecture is '%s'; only 'llama' (dense or Mixtral) can be run",
                              path, shown(arch, text));
    if ((status = read_ints(gguf, path, out, error)) != KILN_OK ||
        (status = read_floats(gguf, path, out, error)) != KILN_OK ||
        (status = check_scaling(gguf, path, out, error)) != KILN_OK ||
        (status = check_experts(out, path, error)) != KILN_OK)
        return status;
    for (size_t i = 0; i < sizeof int_keys / sizeof int_keys[0]; i++)
        if (int_keys[i].required && !kiln_gguf_has(gguf, int_keys[i].key))
            return kiln_error_set(error, KILN_ERROR_FORMAT, "%s: the key %s is missing", path,
                                  int_keys[i].key);
    return check_heads(out, path, error);
}
