/* Which files are models: what is refused and with which words, and the forms a model may come in. */
#define _POSIX_C_SOURCE 200809L

#include "good_models.h"
#include "tools/llm/llama.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- malformed files -------------------------------------------------------------------------------- */

/* Every row of the index that calls for it: the container opens, the model does not. */
static void test_model_rejects(void **state) {
    (void)state;
    size_t size, rows = 0;
    char *index = (char *)need_bytes("malformed/INDEX.tsv", &size), *copy = calloc(size + 1, 1), *save = NULL;
    assert_non_null(copy);
    memcpy(copy, index, size);
    free(index);
    for (char *line = strtok_r(copy, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char name[100], expected[40], relative[200], path[TESTDATA_PATH_SIZE];
        if (sscanf(line, "%99s %*s %39s", name, expected) != 2 || strcmp(expected, "model-reject") != 0)
            continue;
        snprintf(relative, sizeof relative, "malformed/gguf/%s.gguf", name);
        kiln_gguf *g = open_good(need(relative, path), KILN_GGUF_MMAP);
        kiln_llama_model *m = (void *)1;
        kiln_error error;
        assert_int_equal(kiln_llama_open(g, NULL, &m, &error), KILN_ERROR_LIMIT);
        assert_null(m);
        /* The message is about what the file is named for, not about the first thing that is missing. */
        const char *key = strstr(name, "context") ? "llama.context_length is 4294967295; expected 1 to"
                          : strstr(name, "block") ? "llama.block_count is 4294967295; expected 1 to"
                          : strstr(name, "head")  ? "llama.attention.head_count is 0; expected 1 to"
                                                  : "llama.expert_used_count is";
        expect_text(&error, key);
        expect_text(&error, name);
        kiln_gguf_destroy(g);
        rows++;
    }
    assert_int_equal(rows, 5);
    free(copy);
}

/* ---- changed files ---------------------------------------------------------------------------------- */

enum { ZERO = -1 }; /* a `number` of 0 that is written */

/* One change to a good file. */
typedef struct change {
    const char *base;
    const char *key; /* left out, unless one of the next gives it another value */
    const char *text;
    int64_t number;
    double real;  /* as f32 */
    int yes;      /* a bool: 1 false, 2 true */
    int32_t list; /* i32 for each of so many layers: `number`, in the last one `other` */
    int32_t other;
    const char *tensor; /* left out, or with `rename` under another name, or with `type` of that type */
    const char *rename;
    const char *type;
    kiln_status status;
    const char *says;
} change;

static const change changes[] = {
    {DENSE, .key = "general.architecture", .status = KILN_ERROR_FORMAT, .says = "general.architecture"},
    {DENSE, .key = "general.architecture", .text = "gpt2", .status = KILN_ERROR_UNSUPPORTED,
     .says = "the architecture is 'gpt2'"},
    {DENSE, .key = "llama.block_count", .status = KILN_ERROR_FORMAT,
     .says = "the key llama.block_count is missing"},
    {DENSE, .key = "llama.block_count", .number = 6, .status = KILN_ERROR_FORMAT, .says = "47 tensors only"},
    {DENSE, .key = "llama.block_count", .number = 4, .status = KILN_ERROR_UNSUPPORTED,
     .says = "is of layer 4, but llama.block_count is 4"},
    {DENSE, .key = "llama.block_count", .text = "five", .status = KILN_ERROR_FORMAT,
     .says = "llama.block_count"},
    {DENSE, .key = "llama.attention.head_count", .number = 7, .status = KILN_ERROR_LIMIT,
     .says = "does not divide"},
    {DENSE, .key = "llama.attention.head_count", .number = 16, .status = KILN_ERROR_LIMIT,
     .says = "llama.rope.dimension_count is 8"},
    {DENSE, .key = "llama.attention.head_count_kv", .number = 3, .status = KILN_ERROR_LIMIT,
     .says = "does not divide"},
    {DENSE, .key = "llama.attention.head_count_kv", .status = KILN_ERROR_SHAPE,
     .says = "'blk.0.attn_k.weight' has shape [32, 64]; the hyperparameters say [64, 64]"},
    {DENSE, .key = "llama.feed_forward_length", .number = 128, .status = KILN_ERROR_SHAPE,
     .says = "'blk.0.ffn_gate.weight' has shape [172, 64]"},
    {DENSE, .key = "llama.rope.dimension_count", .number = 7, .status = KILN_ERROR_LIMIT,
     .says = "even number"},
    {DENSE, .key = "llama.rope.scaling.type", .text = "yarn", .status = KILN_ERROR_UNSUPPORTED,
     .says = "'yarn'"},
    {DENSE, .key = "llama.rope.scaling.type", .text = "linear", .status = KILN_OK},
    {DENSE, .key = "llama.rope.scaling.type", .text = "none", .status = KILN_OK},
    {DENSE, .key = "llama.vocab_size", .number = 511, .status = KILN_ERROR_SHAPE,
     .says = "'token_embd.weight' has shape [512, 64]; the hyperparameters say [511, 64]"},
    {DENSE, .key = "llama.vocab_size", .status = KILN_OK},
    {DENSE, .key = "llama.attention.key_length", .number = 16, .status = KILN_ERROR_SHAPE,
     .says = "'blk.0.attn_q.weight'"},
    {DENSE, .key = "llama.expert_count", .number = 4, .status = KILN_ERROR_LIMIT,
     .says = "llama.expert_used_count is 0 or missing"},
    {DENSE, .key = "general.type", .text = "adapter", .status = KILN_ERROR_UNSUPPORTED,
     .says = "general.type is 'adapter'; only a whole 'model' can be run"},
    {DENSE, .key = "general.type", .text = "model", .status = KILN_OK},
    {DENSE, .key = "llama.attention.layer_norm_rms_epsilon", .status = KILN_ERROR_FORMAT,
     .says = "the key llama.attention.layer_norm_rms_epsilon is missing"},
    {DENSE, .key = "llama.rope.scaling.factor", .number = ZERO, .status = KILN_OK},
    {DENSE, .key = "llama.rope.scale_linear", .real = 4, .status = KILN_OK},
    {DENSE, .key = "llama.rope.scale_linear", .real = -4, .status = KILN_ERROR_LIMIT,
     .says = "llama.rope.scale_linear is -4; expected 0 (none) or 1e-06 to 1e+06"},
    {DENSE, .key = "llama.rope.scaling.factor", .real = -1, .status = KILN_ERROR_LIMIT,
     .says = "llama.rope.scaling.factor is -1"},
    {DENSE, .key = "llama.rope.scaling.attn_factor", .number = ZERO, .status = KILN_ERROR_LIMIT,
     .says = "llama.rope.scaling.attn_factor is 0; expected 1e-06 to 1e+06"},
    {DENSE, .key = "llama.rope.scaling.attn_factor", .text = "two", .status = KILN_ERROR_FORMAT,
     .says = "llama.rope.scaling.attn_factor"},
    {DENSE, .key = "llama.rope.scaling.attn_factor", .real = 2, .status = KILN_OK},
    {DENSE, .key = "llama.rope.scaling.type", .text = "longrope", .status = KILN_ERROR_UNSUPPORTED,
     .says = "'longrope'"},
    {DENSE, .key = "llama.attention.head_count_kv", .number = 4, .list = 5, .other = 4, .status = KILN_OK},
    {DENSE, .key = "llama.attention.head_count_kv", .number = 4, .list = 5, .other = 2,
     .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.attention.head_count_kv is 2 in layer 4 and 4 in layer 0"},
    {DENSE, .key = "llama.attention.head_count_kv", .number = 4, .list = 4, .other = 4,
     .status = KILN_ERROR_FORMAT,
     .says = "llama.attention.head_count_kv has 4 values; expected one, or one for each of the 5 layers"},
    {DENSE, .key = "llama.feed_forward_length", .number = 172, .list = 5, .other = 172, .status = KILN_OK},
    {DENSE, .key = "llama.feed_forward_length", .number = 172, .list = 5, .other = 86,
     .status = KILN_ERROR_UNSUPPORTED, .says = "llama.feed_forward_length is 86 in layer 4"},
    {DENSE, .key = "llama.attention.head_count", .number = ZERO, .list = 5, .other = 0,
     .status = KILN_ERROR_LIMIT, .says = "llama.attention.head_count is 0; expected 1 to"},
    {DENSE, .key = "llama.block_count", .number = 5, .list = 5, .other = 5, .status = KILN_ERROR_FORMAT,
     .says = "llama.block_count"},
    {DENSE, .key = "llama.attention.causal", .yes = 2, .status = KILN_OK},
    {DENSE, .key = "llama.attention.causal", .yes = 1, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.attention.causal is false, which would change what the model computes in a way that Kiln "
             "does not have; expected 1"},
    {DENSE, .key = "llama.use_parallel_residual", .yes = 1, .status = KILN_OK},
    {DENSE, .key = "llama.use_parallel_residual", .yes = 2, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.use_parallel_residual is true"},
    {DENSE, .key = "llama.logit_scale", .real = 1, .status = KILN_OK},
    {DENSE, .key = "llama.logit_scale", .real = 0.5, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.logit_scale is 0.5, which would change what the model computes in a way that Kiln does "
             "not have; expected 0 or 1"},
    {DENSE, .key = "llama.attention.clamp_kqv", .real = 8, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.attention.clamp_kqv is 8"},
    {DENSE, .key = "llama.final_logit_softcapping", .real = 30, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.final_logit_softcapping is 30"},
    {DENSE, .key = "llama.logit_scale", .text = "one", .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.logit_scale is \"one\""},
    {DENSE, .key = "llama.tensor_data_layout", .text = "Meta AI original pth", .status = KILN_OK},
    {DENSE, .key = "llama.tensor_data_layout", .text = "reference", .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.tensor_data_layout is \"reference\""},
    {DENSE, .key = "llama.hidden_activation", .text = "gelu", .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.hidden_activation is \"gelu\""},
    {DENSE, .key = "llama.rope.freq_base_swa", .real = 10000, .status = KILN_OK},
    {DENSE, .key = "llama.rope.freq_base_swa", .real = 500000, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.rope.freq_base_swa is 500000"},
    {DENSE, .key = "llama.attention.key_length_swa", .number = 8, .status = KILN_OK},
    {DENSE, .key = "llama.attention.key_length_swa", .number = 16, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.attention.key_length_swa is 16, which would change what the model computes in a way that "
             "Kiln does not have; expected 8"},
    {DENSE, .key = "llama.swiglu_clamp_exp", .number = ZERO, .list = 5, .other = 0, .status = KILN_OK},
    {DENSE, .key = "llama.swiglu_clamp_exp", .number = ZERO, .list = 5, .other = 7,
     .status = KILN_ERROR_UNSUPPORTED, .says = "llama.swiglu_clamp_exp is [0, 0, 0, 0, … of 5]"},
    {DENSE, .key = "llama.ssm.state_size", .number = 16, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.ssm.state_size is 16"},
    {DENSE, .key = "llama.attention.indexer.top_k", .number = 64, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.attention.indexer.top_k is 64"},
    {DENSE, .key = "llama.rope.scaling.original_context_length", .number = 128, .status = KILN_OK},
    {DENSE, .key = "llama.pooling_type", .number = 1, .status = KILN_OK},
    {MOE, .key = "llama.expert_weights_norm", .yes = 2, .status = KILN_OK},
    {MOE, .key = "llama.expert_weights_norm", .yes = 1, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.expert_weights_norm is false"},
    {MOE, .key = "llama.expert_gating_func", .number = 1, .status = KILN_OK},
    {MOE, .key = "llama.expert_gating_func", .number = 2, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.expert_gating_func is 2"},
    {MOE, .key = "llama.expert_shared_count", .number = 1, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.expert_shared_count is 1"},
    {MOE, .key = "llama.leading_dense_block_count", .number = 1, .status = KILN_ERROR_UNSUPPORTED,
     .says = "llama.leading_dense_block_count is 1"},
    {DENSE, .tensor = "blk.3.attn_q.weight", .status = KILN_ERROR_FORMAT,
     .says = "tensor 'blk.3.attn_q.weight' is missing"},
    {DENSE, .tensor = "output_norm.weight", .status = KILN_ERROR_FORMAT,
     .says = "'output_norm.weight' is missing"},
    {DENSE, .tensor = "token_embd.weight", .status = KILN_ERROR_FORMAT,
     .says = "'token_embd.weight' is missing"},
    {DENSE, .tensor = "blk.2.ffn_norm.weight", .rename = "blk.2.post_norm.weight",
     .status = KILN_ERROR_FORMAT, .says = "'blk.2.ffn_norm.weight' is missing"},
    {DENSE, .tensor = "blk.1.attn_v.weight", .type = "i32", .status = KILN_ERROR_UNSUPPORTED,
     .says = "'blk.1.attn_v.weight' has type i32; expected floats or quantised blocks"},
    {MOE, .key = "llama.expert_count", .number = 5, .status = KILN_ERROR_SHAPE, .says = "[4, 64]"},
    {MOE, .key = "llama.expert_used_count", .status = KILN_ERROR_LIMIT, .says = "is 0 or missing"},
    {MOE, .key = "llama.expert_feed_forward_length", .number = 86, .status = KILN_ERROR_SHAPE,
     .says = "'blk.0.ffn_gate_exps.weight' has shape [4, 172, 64]; the hyperparameters say [4, 86, 64]"},
    {MOE, .tensor = "blk.4.ffn_gate_inp.weight", .status = KILN_ERROR_FORMAT,
     .says =
         "'blk.4.ffn_gate_inp.weight' is missing; the file is incomplete, or no expert-routed llama model"},
    {MOE, .tensor = "blk.0.ffn_up_exps.weight", .rename = "blk.0.ffn_up.weight", .status = KILN_ERROR_FORMAT,
     .says = "'blk.0.ffn_up_exps.weight' is missing"},
};

static void add_list(kiln_gguf_writer *w, const change *c) {
    int32_t values[16];
    assert_in_range(c->list, 1, 16);
    for (int32_t i = 0; i < c->list; i++)
        values[i] = (int32_t)(c->number == ZERO ? 0 : c->number);
    values[c->list - 1] = c->other;
    kiln_gguf_writer_add_array(w, c->key, KILN_GGUF_I32, values, (size_t)c->list);
}

static void copy_keys(kiln_gguf_writer *w, const kiln_gguf *g, const change *c) {
    for (size_t i = 0; i < kiln_gguf_kv_count(g); i++) {
        const kiln_gguf_kv *kv = kiln_gguf_kv_at(g, i);
        if (c->key == NULL || strcmp(kv->key, c->key) != 0)
            kiln_gguf_writer_add_kv(w, kv);
    }
    if (c->key != NULL && c->text != NULL)
        kiln_gguf_writer_add_string(w, c->key, c->text);
    else if (c->key != NULL && c->list != 0)
        add_list(w, c);
    else if (c->key != NULL && c->yes != 0)
        kiln_gguf_writer_add_bool(w, c->key, c->yes == 2);
    else if (c->key != NULL && c->real != 0)
        kiln_gguf_writer_add_f32(w, c->key, (float)c->real);
    else if (c->key != NULL && c->number != 0)
        kiln_gguf_writer_add_u32(w, c->key, c->number == ZERO ? 0 : (uint32_t)c->number);
}

static void copy_tensors(kiln_gguf_writer *w, const kiln_gguf *g, const change *c) {
    for (size_t i = 0; i < kiln_gguf_tensor_count(g); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(g, i);
        bool hit = c->tensor != NULL && strcmp(t->name, c->tensor) == 0;
        if (hit && c->rename == NULL && c->type == NULL)
            continue;
        kiln_gguf_writer_add_tensor(w, hit && c->rename ? c->rename : t->name,
                                    hit && c->type ? kiln_gguf_tensor_type_by_name(c->type) : t->type,
                                    t->ndim, t->dims, t->data);
    }
}

/* What was written, opened. Free the bytes last. */
static kiln_gguf *written(kiln_gguf_writer *w, void **bytes, size_t *size) {
    kiln_error error;
    kiln_gguf *g;
    must(kiln_gguf_writer_write_memory(w, bytes, size, &error), &error);
    kiln_gguf_writer_destroy(w);
    must(kiln_gguf_open_memory(&(kiln_gguf_bytes){*bytes, *size, "changed.gguf"}, 1, NULL, &g, &error),
         &error);
    return g;
}

static void check_change(const change *c) {
    kiln_error error = {KILN_OK, ""};
    kiln_gguf *base = open_base(c->base);
    kiln_gguf_writer *w;
    void *bytes;
    size_t size;
    must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
    copy_keys(w, base, c);
    copy_tensors(w, base, c);
    kiln_gguf *g = written(w, &bytes, &size);
    kiln_llama_model *m;
    kiln_status status = kiln_llama_open(g, NULL, &m, &error);
    if (status != c->status)
        fail_msg("%s of %s: got %s (%s), expected %s", c->key ? c->key : c->tensor, c->base,
                 kiln_status_name(status), error.text, kiln_status_name(c->status));
    if (status != KILN_OK) {
        expect_text(&error, c->says);
        expect_text(&error, "changed.gguf");
        assert_null(m);
    }
    kiln_llama_destroy(m);
    kiln_gguf_destroy(g);
    free(bytes);
    kiln_gguf_destroy(base);
}

static void test_changes(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(changes); i++)
        check_change(&changes[i]);
}

/* A model with one more tensor, and what opening it says: an error, or a notice, or nothing. */
static void check_extra(const char *base, const char *name, const char *error_says, const char *notice) {
    static const float ones[64] = {1, 1, 1, 1};
    kiln_error error = {KILN_OK, ""};
    kiln_gguf *whole = open_base(base);
    kiln_gguf_writer *w;
    void *bytes;
    size_t size;
    must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
    copy_keys(w, whole, &(change){0});
    copy_tensors(w, whole, &(change){0});
    kiln_gguf_writer_add_tensor(w, name, kiln_gguf_tensor_type_of(KILN_F32), 1, (int64_t[]){4}, ones);
    kiln_gguf *g = written(w, &bytes, &size);
    kiln_llama_model *m;
    kiln_status status = kiln_llama_open(g, NULL, &m, &error);
    if (status != (error_says ? KILN_ERROR_UNSUPPORTED : KILN_OK))
        fail_msg("%s: %s (%s)", name, kiln_status_name(status), error.text);
    if (error_says != NULL) {
        expect_text(&error, name);
        expect_text(&error, error_says);
    } else {
        assert_string_equal(kiln_llama_notice(m, 0), notice);
        assert_null(kiln_llama_notice(m, 1));
    }
    kiln_llama_destroy(m);
    kiln_gguf_destroy(g);
    free(bytes);
    kiln_gguf_destroy(whole);
}

static void test_unused_tensors(void **state) {
    (void)state;
    check_extra(DENSE, "rope_freqs.weight", "(a factor for each frequency of the rope, as of Llama 3.1)",
                NULL);
    check_extra(DENSE, "blk.1.attn_q.scale", "(a scale of a weight, as of nvfp4)", NULL);
    check_extra(DENSE, "blk.1.attn_q_norm.weight", "(a norm of queries)", NULL);
    check_extra(DENSE, "blk.1.attn_sinks.weight", "(attention sinks)", NULL);
    check_extra(MOE, "blk.1.ffn_up_shexp.weight", "(a shared expert)", NULL);
    check_extra(DENSE, "what.is.this", "'what.is.this' is not one of a plain llama model", NULL);
    check_extra(
        DENSE, "blk.0.attn_rot_embd.weight", NULL,
        "tensor 'blk.0.attn_rot_embd.weight' (the rope's frequencies, which keys give) has no effect");
}

/* Keys of the architecture that nothing knows are reported, each once; those of others are not looked at. */
static void test_unknown_keys(void **state) {
    (void)state;
    kiln_error error = {KILN_OK, ""};
    kiln_gguf *whole = open_base(DENSE);
    kiln_gguf_writer *w;
    kiln_llama_model *m;
    void *bytes;
    size_t size;
    must(kiln_llama_open(whole, NULL, &m, &error), &error);
    assert_null(kiln_llama_notice(m, 0));
    kiln_llama_destroy(m);
    must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
    copy_keys(w, whole, &(change){0});
    copy_tensors(w, whole, &(change){0});
    kiln_gguf_writer_add_f32(w, "llama.new_factor", 0.5f);
    kiln_gguf_writer_add_string(w, "llama.note", "a \x01 b");
    kiln_gguf_writer_add_u32(w, "granite.logit_scale", 4);
    kiln_gguf_writer_add_u32(w, "llama4.logit_scale", 4);
    kiln_gguf_writer_add_string(w, "general.author", "somebody");
    kiln_gguf *g = written(w, &bytes, &size);
    must(kiln_llama_open(g, NULL, &m, &error), &error);
    assert_string_equal(kiln_llama_notice(m, 0), "llama.new_factor (0.5) is not known and has no effect");
    assert_string_equal(kiln_llama_notice(m, 1), "llama.note (\"a \\x01 b\") is not known and has no effect");
    assert_null(kiln_llama_notice(m, 2));
    kiln_llama_destroy(m);
    kiln_gguf_destroy(g);
    free(bytes);
    kiln_gguf_destroy(whole);
}

/* The two names of the rope's linear factor: together they must say the same. */
static void test_both_factors(void **state) {
    (void)state;
    for (int same = 0; same < 2; same++) {
        kiln_error error = {KILN_OK, ""};
        kiln_gguf *whole = open_base(DENSE);
        kiln_gguf_writer *w;
        kiln_llama_model *m;
        void *bytes;
        size_t size;
        must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
        copy_keys(w, whole, &(change){0});
        copy_tensors(w, whole, &(change){0});
        kiln_gguf_writer_add_f32(w, "llama.rope.scaling.factor", 2);
        kiln_gguf_writer_add_f32(w, "llama.rope.scale_linear", same ? 2 : 4);
        kiln_gguf *g = written(w, &bytes, &size);
        assert_int_equal(kiln_llama_open(g, NULL, &m, &error), same ? KILN_OK : KILN_ERROR_FORMAT);
        if (same)
            assert_true(kiln_llama_get_params(m)->rope_scale == 0.5f);
        else
            expect_text(&error,
                        "llama.rope.scaling.factor is 2, but llama.rope.scale_linear, the older name of "
                        "the same, is 4; expected one of them");
        kiln_llama_destroy(m);
        kiln_gguf_destroy(g);
        free(bytes);
        kiln_gguf_destroy(whole);
    }
}

/* Files that are no models at all, and the examples of other projects, are refused in one sentence. */
static void test_other_files(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(gguf_valid); i++) {
        char path[TESTDATA_PATH_SIZE];
        if (strncmp(gguf_valid[i], "stories", 7) == 0)
            continue;
        kiln_gguf *g = open_good(need(gguf_valid[i], path), KILN_GGUF_MMAP);
        kiln_llama_model *m;
        kiln_error error = {KILN_OK, ""};
        assert_int_not_equal(kiln_llama_open(g, NULL, &m, &error), KILN_OK);
        assert_null(m);
        assert_true(strlen(error.text) > 20);
        kiln_gguf_destroy(g);
    }
    kiln_error error;
    kiln_llama_model *m;
    assert_int_equal(kiln_llama_open(NULL, NULL, &m, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_llama_open(NULL, NULL, NULL, &error), KILN_ERROR_ARGUMENT);
    kiln_llama_destroy(NULL);
    kiln_llama_decoder_destroy(NULL);
}

/* ---- forms ------------------------------------------------------------------------------------------ */

enum { TOKENS = 6, VOCAB = 512 };
static const int32_t tokens[TOKENS] = {1, 403, 407, 261, 378, 432};

static void logits_of(const kiln_gguf *g, float out[TOKENS * VOCAB]) {
    kiln_llama_model *m;
    kiln_llama_decoder *d;
    kiln_executor *e;
    kiln_error error;
    const float *logits;
    kiln_llama_decoder_options o = {.graph = {.max_tokens = TOKENS, .max_logits = TOKENS},
                                    .bake = {.precision = KILN_PRECISION_EXACT}};
    must(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = 1}, &e, &error), &error);
    must(kiln_llama_open(g, NULL, &m, &error), &error);
    must(kiln_llama_decoder_create(m, &o, e, NULL, &d, &error), &error);
    must(kiln_llama_step(d, tokens, TOKENS, 0, TOKENS, &logits, &error), &error);
    memcpy(out, logits, TOKENS * VOCAB * sizeof *out);
    kiln_llama_decoder_destroy(d);
    assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
    kiln_llama_destroy(m);
}

/* Writes a model again with one thing done to each tensor, and compares the logits bit for bit. */
static void check_form(const char *base, void (*each)(kiln_gguf_writer *, const kiln_gguf_tensor *)) {
    kiln_gguf *whole = open_base(base);
    kiln_gguf_writer *w;
    kiln_error error;
    void *bytes;
    size_t size;
    must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
    copy_keys(w, whole, &(change){0});
    for (size_t i = 0; i < kiln_gguf_tensor_count(whole); i++)
        each(w, kiln_gguf_tensor_at(whole, i));
    kiln_gguf *g = written(w, &bytes, &size);
    float *a = malloc(TOKENS * VOCAB * sizeof *a), *b = malloc(TOKENS * VOCAB * sizeof *b);
    assert_non_null(a);
    assert_non_null(b);
    logits_of(whole, a);
    logits_of(g, b);
    assert_memory_equal(a, b, TOKENS * VOCAB * sizeof *a);
    free(a);
    free(b);
    kiln_gguf_destroy(g);
    free(bytes);
    kiln_gguf_destroy(whole);
}

/* Experts in a tensor each, as older files have them. */
static void apart(kiln_gguf_writer *w, const kiln_gguf_tensor *t) {
    const char *suffix = strstr(t->name, "_exps.weight");
    if (suffix == NULL) {
        kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim, t->dims, t->data);
        return;
    }
    for (int64_t e = 0; e < t->dims[0]; e++) {
        char name[100];
        snprintf(name, sizeof name, "%.*s.%d.weight", (int)(suffix - t->name), t->name, (int)e);
        kiln_gguf_writer_add_tensor(w, name, t->type, 2, t->dims + 1,
                                    (const unsigned char *)t->data + e * (t->bytes / t->dims[0]));
    }
}

/* A classifier of its own, equal to the embedding. */
static void untied(kiln_gguf_writer *w, const kiln_gguf_tensor *t) {
    kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim, t->dims, t->data);
    if (strcmp(t->name, "token_embd.weight") == 0)
        kiln_gguf_writer_add_tensor(w, "output.weight", t->type, t->ndim, t->dims, t->data);
}

/* Biases of zero on all four projections. */
static void biased(kiln_gguf_writer *w, const kiln_gguf_tensor *t) {
    static const float zeros[64];
    char name[100];
    kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim, t->dims, t->data);
    const char *suffix = strstr(t->name, ".weight");
    if (strstr(t->name, ".attn_") == NULL || strstr(t->name, "_norm") != NULL)
        return;
    snprintf(name, sizeof name, "%.*s.bias", (int)(suffix - t->name), t->name);
    kiln_gguf_writer_add_tensor(w, name, kiln_gguf_tensor_type_of(KILN_F32), 1, t->dims, zeros);
}

static void test_forms(void **state) {
    (void)state;
    check_form(MOE, apart);
    check_form(MOE_Q8_0, apart);
    check_form(DENSE_Q4_0, untied);
    check_form(DENSE, biased);
}

/* The same bytes with dimensions of 1 outside: a file's shapes are four numbers. */
static void with_ones(kiln_gguf_writer *w, const kiln_gguf_tensor *t) {
    int64_t dims[KILN_GGUF_MAX_DIMS] = {1, 1, 1, 1};
    int32_t more = KILN_GGUF_MAX_DIMS - t->ndim;
    memcpy(dims + more, t->dims, (size_t)t->ndim * sizeof *dims);
    kiln_gguf_writer_add_tensor(w, t->name, t->type, KILN_GGUF_MAX_DIMS, dims, t->data);
}

static void with_a_one(kiln_gguf_writer *w, const kiln_gguf_tensor *t) {
    int64_t dims[KILN_GGUF_MAX_DIMS] = {1};
    memcpy(dims + 1, t->dims, (size_t)t->ndim * sizeof *dims);
    kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim + 1, dims, t->data);
}

/* Biases of zero in the dense feed-forward blocks. */
static void ffn_biased(kiln_gguf_writer *w, const kiln_gguf_tensor *t) {
    static const float zeros[172];
    char name[100];
    kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim, t->dims, t->data);
    const char *suffix = strstr(t->name, ".weight");
    if (strstr(t->name, ".ffn_") == NULL || strstr(t->name, "_norm") != NULL)
        return;
    snprintf(name, sizeof name, "%.*s.bias", (int)(suffix - t->name), t->name);
    kiln_gguf_writer_add_tensor(w, name, kiln_gguf_tensor_type_of(KILN_F32), 1, t->dims, zeros);
}

/* The last norm with a shape that it cannot have. */
static void check_norm_shape(const int64_t dims[2], const char *says) {
    static const float values[128];
    kiln_gguf *whole = open_base(DENSE);
    kiln_gguf_writer *w;
    kiln_error error;
    void *bytes;
    size_t size;
    must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
    copy_keys(w, whole, &(change){0});
    copy_tensors(w, whole, &(change){.tensor = "output_norm.weight"});
    kiln_gguf_writer_add_tensor(w, "output_norm.weight", kiln_gguf_tensor_type_of(KILN_F32), 2, dims, values);
    kiln_gguf *g = written(w, &bytes, &size);
    kiln_llama_model *m;
    assert_int_equal(kiln_llama_open(g, NULL, &m, &error), KILN_ERROR_SHAPE);
    expect_text(&error, says);
    kiln_gguf_destroy(g);
    free(bytes);
    kiln_gguf_destroy(whole);
}

static void test_ones(void **state) {
    (void)state;
    check_form(DENSE, with_ones);
    check_form(DENSE_Q4_0, with_ones);
    check_form(MOE, with_ones);
    check_form(MOE, with_a_one);
    check_form(DENSE, ffn_biased);
    /* A one inside is another shape: 64 rows of one number are not a vector, and neither are two rows. */
    check_norm_shape((int64_t[]){64, 1},
                     "'output_norm.weight' has shape [64, 1]; the hyperparameters say [64]");
    check_norm_shape((int64_t[]){2, 64},
                     "'output_norm.weight' has shape [2, 64]; the hyperparameters say [64]");
}

/* ---- factors that keys give ------------------------------------------------------------------------- */

/* A model with a key more, or with some weights multiplied by a power of two. */
typedef struct variant {
    const char *key;
    double value;
    float factor; /* on the tensors whose names hold one of `weights`; 0: none */
    const char *weights[2];
    bool untied; /* the classifier is a copy of the embedding as it was */
} variant;

static void variant_logits(const char *base, const variant *v, float *out) {
    kiln_gguf *whole = open_base(base);
    kiln_gguf_writer *w;
    kiln_error error;
    void *bytes, **copies = calloc(kiln_gguf_tensor_count(whole), sizeof *copies);
    size_t size;
    assert_non_null(copies);
    must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
    copy_keys(w, whole, &(change){.key = v->key, .real = v->value});
    for (size_t i = 0; i < kiln_gguf_tensor_count(whole); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(whole, i);
        bool hit = false;
        for (size_t k = 0; v->factor != 0 && k < 2 && v->weights[k] != NULL; k++)
            hit = hit || strstr(t->name, v->weights[k]) != NULL;
        float *data = copies[i] = malloc((size_t)t->bytes);
        assert_non_null(data);
        memcpy(data, t->data, (size_t)t->bytes);
        for (size_t k = 0; hit && k < (size_t)t->bytes / sizeof *data; k++)
            data[k] *= v->factor;
        kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim, t->dims, data);
        if (v->untied && strcmp(t->name, "token_embd.weight") == 0)
            kiln_gguf_writer_add_tensor(w, "output.weight", t->type, t->ndim, t->dims, t->data);
    }
    kiln_gguf *g = written(w, &bytes, &size);
    logits_of(g, out);
    kiln_gguf_destroy(g);
    free(bytes);
    for (size_t i = 0; i < kiln_gguf_tensor_count(whole); i++)
        free(copies[i]);
    free(copies);
    kiln_gguf_destroy(whole);
}

/* Every factor that a key gives is one on some weights, or another key's: by powers of two to the bit,
 * otherwise within rounding. */
static void test_factors(void **state) {
    (void)state;
    static const struct {
        const char *base;
        variant key, same;
        double within; /* of a logit's size; 0: to the bit */
    } cases[] = {
        {DENSE,
         {.key = "llama.rope.scale_linear", .value = 4},
         {.key = "llama.rope.scaling.factor", .value = 4},
         0},
        {DENSE,
         {.key = "llama.rope.scaling.attn_factor", .value = 2},
         {.factor = 4, .weights = {"attn_q."}},
         1e-5},
        {DENSE,
         {.key = "llama.rope.scaling.attn_factor", .value = 0.5},
         {.factor = 0.25f, .weights = {"attn_k."}},
         1e-5},
        {DENSE,
         {.key = "llama.attention.scale", .value = 0.70710678118654752},
         {.factor = 2, .weights = {"attn_q."}},
         1e-5},
        {DENSE, {.key = "llama.attention.scale", .value = 0.35355339059327376}, {.key = NULL}, 1e-5},
        {DENSE,
         {.key = "llama.residual_scale", .value = 0.5},
         {.factor = 0.5f, .weights = {"attn_output.", "ffn_down."}},
         0},
        {DENSE,
         {.key = "llama.embedding_scale", .value = 2},
         {.factor = 2, .weights = {"token_embd."}, .untied = true},
         0},
        {MOE,
         {.key = "llama.expert_weights_scale", .value = 2},
         {.factor = 2, .weights = {"ffn_down_exps."}},
         0},
    };
    float *plain = malloc(TOKENS * VOCAB * sizeof *plain), *a = malloc(TOKENS * VOCAB * sizeof *a);
    float *b = malloc(TOKENS * VOCAB * sizeof *b);
    assert_true(plain != NULL && a != NULL && b != NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        variant_logits(cases[i].base, &(variant){0}, plain);
        variant_logits(cases[i].base, &cases[i].key, a);
        variant_logits(cases[i].base, &cases[i].same, b);
        double most = farthest(a, b, TOKENS * VOCAB), moved = farthest(a, plain, TOKENS * VOCAB);
        if (most > cases[i].within * 20) /* logits are up to about 20 */
            fail_msg("%s: logits differ by %g from those of the same factor on weights", cases[i].key.key,
                     most);
        bool neutral = cases[i].same.key == NULL && cases[i].same.factor == 0;
        if (neutral ? moved > 1e-3 : moved < 1e-2)
            fail_msg("%s: logits moved by %g", cases[i].key.key, moved);
    }
    free(plain);
    free(a);
    free(b);
}

/* Experts of two types in one layer cannot be one op. */
static void test_mixed_experts(void **state) {
    (void)state;
    kiln_gguf *whole = open_base(MOE);
    kiln_gguf_writer *w;
    kiln_error error;
    void *bytes;
    size_t size;
    must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
    copy_keys(w, whole, &(change){0});
    for (size_t i = 0; i < kiln_gguf_tensor_count(whole); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(whole, i);
        if (strstr(t->name, "_exps") == NULL)
            apart(w, t);
        for (int e = 0; strstr(t->name, "_exps") != NULL && e < 4; e++) {
            char name[100];
            snprintf(name, sizeof name, "%.*s.%d.weight", (int)(strstr(t->name, "_exps") - t->name), t->name,
                     e);
            kiln_gguf_writer_add_tensor(w, name, kiln_gguf_tensor_type_of(e == 2 ? KILN_F16 : KILN_F32), 2,
                                        t->dims + 1, t->data);
        }
    }
    kiln_gguf *g = written(w, &bytes, &size);
    kiln_llama_model *m;
    assert_int_equal(kiln_llama_open(g, NULL, &m, &error), KILN_ERROR_DTYPE);
    expect_text(&error, "'blk.0.ffn_gate.2.weight' has type f16, but that of expert 0 has f32");
    kiln_gguf_destroy(g);
    free(bytes);
    kiln_gguf_destroy(whole);
}

/* Whatever the bytes before the data say, a file is a model, or it is not one. */
static void check_bytes(const char *name, uint64_t random) {
    const good_file *base = good_file_of(name);
    unsigned char *bytes = malloc(base->size);
    assert_non_null(bytes);
    memcpy(bytes, base->bytes, base->size);
    kiln_error error = {KILN_OK, ""};
    kiln_gguf *g;
    unsigned models = 0;
    kiln_gguf_bytes part = {bytes, base->size, "bytes.gguf"};
    must(kiln_gguf_open_memory(&part, 1, NULL, &g, &error), &error);
    size_t header = (size_t)kiln_gguf_part_at(g, 0)->data_offset;
    kiln_gguf_destroy(g);
    for (int i = 0; i < 4000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(random >> 33) % header;
        unsigned char old = bytes[at];
        bytes[at] = (unsigned char)(random >> 20);
        kiln_llama_model *m = NULL;
        kiln_graph *graph;
        if (kiln_gguf_open_memory(&part, 1, NULL, &g, &error) == KILN_OK &&
            kiln_llama_open(g, NULL, &m, &error) == KILN_OK) {
            must(kiln_graph_create(NULL, &graph, &error), &error);
            models += kiln_llama_build(m, NULL, graph, &error) == KILN_OK;
            kiln_graph_destroy(graph);
        }
        kiln_llama_destroy(m);
        kiln_gguf_destroy(g);
        bytes[at] = old;
    }
    assert_true(models > 0); /* most of a header is vocabulary */
    free(bytes);
}

static void test_bytes(void **state) {
    (void)state;
    check_bytes(DENSE_Q8_0, 1);
    check_bytes(MOE_Q8_0, 2);
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static kiln_status open_and_decode(kiln_allocator allocator, void *context) {
    void **both = context;
    kiln_llama_model *m;
    kiln_llama_decoder *d = NULL;
    kiln_error error;
    const float *logits;
    kiln_status status = kiln_llama_open(both[0], &allocator, &m, &error);
    if (status == KILN_OK)
        status = kiln_llama_decoder_create(m, NULL, both[1], &allocator, &d, &error);
    if (status == KILN_OK)
        status = kiln_llama_step(d, tokens, 1, 0, 1, &logits, &error);
    kiln_llama_decoder_destroy(d);
    kiln_llama_destroy(m);
    return status;
}

/* A model of one layer keeps the sweep short; experts apart take the most allocations. */
static void one_layer(kiln_gguf_writer *w, const kiln_gguf_tensor *t) {
    if (strncmp(t->name, "blk.", 4) != 0 || strncmp(t->name, "blk.0.", 6) == 0)
        apart(w, t);
}

static void test_every_allocation(void **state) {
    (void)state;
    kiln_gguf *whole = open_base(MOE);
    kiln_gguf_writer *w;
    kiln_error error;
    void *bytes;
    size_t size;
    kiln_executor *e;
    must(kiln_gguf_writer_create((kiln_allocator){0}, &w, &error), &error);
    copy_keys(w, whole, &(change){.key = "llama.block_count", .number = 1});
    for (size_t i = 0; i < kiln_gguf_tensor_count(whole); i++)
        one_layer(w, kiln_gguf_tensor_at(whole, i));
    kiln_gguf *g = written(w, &bytes, &size);
    must(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = 1}, &e, &error), &error);
    void *both[] = {g, e};
    assert_true(fault_alloc_every("llama model and decoder", open_and_decode, both) > 0);
    assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
    kiln_gguf_destroy(g);
    free(bytes);
    kiln_gguf_destroy(whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_rejects), cmocka_unit_test(test_changes),
        cmocka_unit_test(test_other_files),   cmocka_unit_test(test_forms),
        cmocka_unit_test(test_mixed_experts), cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_both_factors),  cmocka_unit_test(test_unused_tensors),
        cmocka_unit_test(test_unknown_keys),  cmocka_unit_test(test_ones),
        cmocka_unit_test(test_factors),       cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, make_good_files, free_good_files);
}
