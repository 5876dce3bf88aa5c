/* The keys under "llama." that llama_params.c does not read: which of them change nothing, and which are
 * refused.
 *
 * A key that is left out of the computation must not change it. What llama.cpp knows for any architecture
 * (src/llama-arch.cpp) is listed here with the values that mean what Kiln computes; another value is
 * refused. A key that stands nowhere is reported. */
#include "llama_internal.h"

#include <stdio.h>
#include <string.h>

typedef enum key_rule {
    HARMLESS, /* any value */
    NUMBER,   /* a number (a bool: 0 or 1), or an array of such, that is one of `same` */
    TEXT,     /* the text `text` */
    AS_INT,   /* the integer parameter at `field`, or 0 */
    AS_FLOAT, /* the float parameter at `field`, or 0 */
    NEVER     /* no value */
} key_rule;

typedef struct key_row {
    const char *name; /* after "llama."; one that ends in '.' stands for all that begin so */
    key_rule rule;
    double same[2];
    const char *text;
    size_t field;
} key_row;

#define FIELD(name) offsetof(kiln_llama_params, name)

static const key_row rows[] = {
    /* What they are for does not happen here: pooling and labels of embeddings, and fields of yarn, which is
     * refused by its type. Norms with a mean and a group have tensors of their own. */
    {"pooling_type", HARMLESS, {0}, NULL, 0},
    {"classifier.output_labels", HARMLESS, {0}, NULL, 0},
    {"attention.layer_norm_epsilon", HARMLESS, {0}, NULL, 0},
    {"attention.group_norm_epsilon", HARMLESS, {0}, NULL, 0},
    {"attention.group_norm_groups", HARMLESS, {0}, NULL, 0},
    {"rope.scaling.original_context_length", HARMLESS, {0}, NULL, 0},
    {"rope.scaling.finetuned", HARMLESS, {0}, NULL, 0},
    {"rope.scaling.yarn_log_multiplier", HARMLESS, {0}, NULL, 0},
    {"rope.scaling.yarn_beta_fast", HARMLESS, {0}, NULL, 0},
    {"rope.scaling.yarn_beta_slow", HARMLESS, {0}, NULL, 0},
    /* The same as another key, where it is given. */
    {"embedding_length_out", AS_INT, {0}, NULL, FIELD(n_embd)},
    {"attention.key_length_swa", AS_INT, {0}, NULL, FIELD(head_dim)},
    {"attention.value_length_swa", AS_INT, {0}, NULL, FIELD(value_dim)},
    {"rope.dimension_count_swa", AS_INT, {0}, NULL, FIELD(rope_dims)},
    {"rope.freq_base_swa", AS_FLOAT, {0}, NULL, FIELD(rope_theta)},
    /* Llama's own form, and no other. */
    {"tensor_data_layout", TEXT, {0}, "Meta AI original pth", 0},
    {"hidden_activation", TEXT, {0}, "silu", 0},
    {"use_parallel_residual", NUMBER, {0, 0}, NULL, 0},
    {"attention.causal", NUMBER, {1, 1}, NULL, 0},
    {"attention.clamp_kqv", NUMBER, {0, 0}, NULL, 0},
    {"attention.max_alibi_bias", NUMBER, {0, 0}, NULL, 0},
    {"attention.sliding_window_pattern", NUMBER, {0, 0}, NULL, 0},
    {"attention.output_scale", NUMBER, {0, 1}, NULL, 0},
    {"attention.value_scale", NUMBER, {0, 1}, NULL, 0},
    {"attention.temperature_length", NUMBER, {0, 0}, NULL, 0},
    {"attention.temperature_scale", NUMBER, {0, 0}, NULL, 0},
    {"attention.shared_kv_layers", NUMBER, {0, 0}, NULL, 0},
    {"attention.recurrent_layers", NUMBER, {0, 0}, NULL, 0},
    {"attention.key_length_mla", NUMBER, {0, 0}, NULL, 0},
    {"attention.value_length_mla", NUMBER, {0, 0}, NULL, 0},
    {"attention.q_lora_rank", NUMBER, {0, 0}, NULL, 0},
    {"attention.kv_lora_rank", NUMBER, {0, 0}, NULL, 0},
    {"attention.decay_lora_rank", NUMBER, {0, 0}, NULL, 0},
    {"attention.iclr_lora_rank", NUMBER, {0, 0}, NULL, 0},
    {"attention.value_residual_mix_lora_rank", NUMBER, {0, 0}, NULL, 0},
    {"attention.gate_lora_rank", NUMBER, {0, 0}, NULL, 0},
    {"attention.output_lora_rank", NUMBER, {0, 0}, NULL, 0},
    {"attention.output_group_count", NUMBER, {0, 1}, NULL, 0},
    {"attention.relative_buckets_count", NUMBER, {0, 0}, NULL, 0},
    {"attention.compress_ratios", NUMBER, {0, 1}, NULL, 0},
    {"attention.compress_rope_freq_base", NUMBER, {0, 0}, NULL, 0},
    {"attention.indexer.", NUMBER, {0, 0}, NULL, 0},
    {"attn_logit_softcapping", NUMBER, {0, 0}, NULL, 0},
    {"final_logit_softcapping", NUMBER, {0, 0}, NULL, 0},
    {"router_logit_softcapping", NUMBER, {0, 0}, NULL, 0},
    {"logit_scale", NUMBER, {0, 1}, NULL, 0},
    {"rope.scaling.alpha", NUMBER, {0, 1}, NULL, 0},
    {"rope.scaling.yarn_ext_factor", NUMBER, {0, -1}, NULL, 0},
    {"rope.scaling.yarn_attn_factor", NUMBER, {1, -1}, NULL, 0},
    {"rope.dimension_sections", NUMBER, {0, 0}, NULL, 0},
    {"expert_group_count", NUMBER, {0, 1}, NULL, 0},
    {"expert_group_used_count", NUMBER, {0, 1}, NULL, 0},
    {"expert_group_scale", NUMBER, {0, 1}, NULL, 0},
    {"experts_per_group", NUMBER, {0, 0}, NULL, 0},
    {"expert_shared_count", NUMBER, {0, 0}, NULL, 0},
    {"expert_shared_feed_forward_length", NUMBER, {0, 0}, NULL, 0},
    {"expert_chunk_feed_forward_length", NUMBER, {0, 0}, NULL, 0},
    {"expert_weights_norm", NUMBER, {1, 1}, NULL, 0},
    /* Softmax over all of which the chosen are normalised (1) and softmax over the chosen (3) are the
     * same. */
    {"expert_gating_func", NUMBER, {1, 3}, NULL, 0},
    {"moe_every_n_layers", NUMBER, {0, 1}, NULL, 0},
    {"moe_latent_size", NUMBER, {0, 0}, NULL, 0},
    {"interleave_moe_layer_step", NUMBER, {0, 1}, NULL, 0},
    {"leading_dense_block_count", NUMBER, {0, 0}, NULL, 0},
    {"full_attention_interval", NUMBER, {0, 1}, NULL, 0},
    {"hash_layer_count", NUMBER, {0, 0}, NULL, 0},
    {"nextn_predict_layers", NUMBER, {0, 0}, NULL, 0},
    {"n_deepstack_layers", NUMBER, {0, 0}, NULL, 0},
    {"deepstack_mapping", NUMBER, {-1, -1}, NULL, 0},
    {"decoder_block_count", NUMBER, {0, 0}, NULL, 0},
    {"features_length", NUMBER, {0, 0}, NULL, 0},
    {"embedding_length_per_layer_input", NUMBER, {0, 0}, NULL, 0},
    {"swiglu_clamp_exp", NUMBER, {0, 0}, NULL, 0},
    {"swiglu_clamp_shexp", NUMBER, {0, 0}, NULL, 0},
    {"swin_norm", NUMBER, {0, 0}, NULL, 0},
    {"rescale_every_n_layers", NUMBER, {0, 0}, NULL, 0},
    {"token_shift_count", NUMBER, {0, 0}, NULL, 0},
    /* Parts of other architectures. */
    {"decoder_start_token_id", NEVER, {0}, NULL, 0},
    {"time_mix_extra_dim", NEVER, {0}, NULL, 0},
    {"time_decay_extra_dim", NEVER, {0}, NULL, 0},
    {"target_layers", NEVER, {0}, NULL, 0},
    {"target_hidden_size", NEVER, {0}, NULL, 0},
    {"norm_before_residual", NEVER, {0}, NULL, 0},
    {"dense_2_feat_in", NEVER, {0}, NULL, 0},
    {"dense_2_feat_out", NEVER, {0}, NULL, 0},
    {"dense_3_feat_in", NEVER, {0}, NULL, 0},
    {"dense_3_feat_out", NEVER, {0}, NULL, 0},
    {"hyper_connection.", NEVER, {0}, NULL, 0},
    {"ssm.", NEVER, {0}, NULL, 0},
    {"kda.", NEVER, {0}, NULL, 0},
    {"wkv.", NEVER, {0}, NULL, 0},
    {"posnet.", NEVER, {0}, NULL, 0},
    {"convnext.", NEVER, {0}, NULL, 0},
    {"shortconv.", NEVER, {0}, NULL, 0},
};

static const char prefix[] = "llama.";
enum { PREFIX_SIZE = sizeof prefix - 1 };

static const key_row *row_of(const char *name) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t size = strlen(rows[i].name);
        bool family = rows[i].name[size - 1] == '.';
        if (family ? strncmp(name, rows[i].name, size) == 0 : strcmp(name, rows[i].name) == 0)
            return &rows[i];
    }
    return NULL;
}

/* Every element is one of the two numbers. */
static bool all_same(const kiln_gguf_kv *kv, const double same[2]) {
    double value;
    for (int64_t i = 0; i < kv->count; i++)
        if (!kiln_gguf_kv_f64(kv, i, &value) || !(value == same[0] || value == same[1]))
            return false;
    return true;
}

/* Keys of 0 stand for the other key's value. */
static bool is_as(const kiln_gguf_kv *kv, double other) {
    double value;
    return kv->type != KILN_GGUF_ARRAY && kiln_gguf_kv_f64(kv, 0, &value) && (value == 0.0 || value == other);
}

static bool is_text(const kiln_gguf_kv *kv, const char *text) {
    kiln_gguf_strings strings = kiln_gguf_strings_of(kv);
    kiln_gguf_string s;
    return kv->type == KILN_GGUF_STRING && kiln_gguf_strings_next(&strings, &s) && s.size == strlen(text) &&
           memcmp(s.data, text, s.size) == 0;
}

/* Whether the value means what Kiln computes; if not, `right` says what would. */
static bool is_right(const key_row *row, const kiln_gguf_kv *kv, const kiln_llama_params *p, char *right,
                     size_t size) {
    const char *field = (const char *)p + row->field;
    int64_t integer;
    float real;
    switch (row->rule) {
    case NUMBER:
        snprintf(right, size, row->same[0] == row->same[1] ? "%g" : "%g or %g", row->same[0], row->same[1]);
        return all_same(kv, row->same);
    case TEXT:
        snprintf(right, size, "\"%s\"", row->text);
        return is_text(kv, row->text);
    case AS_INT:
        memcpy(&integer, field, sizeof integer);
        snprintf(right, size, "%lld", (long long)integer);
        return is_as(kv, (double)integer);
    case AS_FLOAT:
        memcpy(&real, field, sizeof real);
        snprintf(right, size, "%g", (double)real);
        return is_as(kv, (double)real);
    case NEVER:
        snprintf(right, size, "no such key in a llama model");
        return false;
    case HARMLESS:
        break;
    }
    return true;
}

kiln_status llama_keys_check(kiln_llama_model *m, kiln_error *error) {
    for (size_t i = 0; i < kiln_gguf_kv_count(m->gguf); i++) {
        const kiln_gguf_kv *kv = kiln_gguf_kv_at(m->gguf, i);
        if (strncmp(kv->key, prefix, PREFIX_SIZE) != 0 || llama_params_has(kv->key))
            continue;
        char value[80], right[80] = "";
        const key_row *row = row_of(kv->key + PREFIX_SIZE);
        kiln_gguf_kv_text(kv, 4, value, sizeof value);
        if (row != NULL && !is_right(row, kv, &m->params, right, sizeof right))
            return kiln_error_set(
                error, KILN_ERROR_UNSUPPORTED,
                "%s: %.120s is %s, which would change what the model computes in a way that Kiln "
                "does not have; expected %s",
                m->path, kv->key, value, right);
        if (row == NULL && !llama_notice(m, "%.120s (%s) is not known and has no effect", kv->key, value))
            return kiln_error_set(error, KILN_ERROR_MEMORY, "%s: out of memory", m->path);
    }
    return KILN_OK;
}
