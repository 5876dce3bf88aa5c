/* Which files are models: what is refused and with which words, and the forms a model may come in. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_help.h"
#include "tools/llm/llama.h"

#include <stdlib.h>
#include <string.h>

static void must(kiln_status status, const kiln_error *error) {
    if (status != KILN_OK)
        fail_msg("%s: %s", kiln_status_name(status), error->text);
}

#define DENSE "stories260K/stories260K-f32.gguf"
#define MOE   "stories260K/stories260K-moe4x-permuted-f32.gguf"

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

/* One change to a good file. */
typedef struct change {
    const char *base;
    const char *key; /* left out, unless `text` or `number` gives it another value */
    const char *text;
    int64_t number;
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
     .says = "'blk.4.attn_k.weight' is not one of a plain llama model"},
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

static void copy_keys(kiln_gguf_writer *w, const kiln_gguf *g, const change *c) {
    for (size_t i = 0; i < kiln_gguf_kv_count(g); i++) {
        const kiln_gguf_kv *kv = kiln_gguf_kv_at(g, i);
        if (c->key == NULL || strcmp(kv->key, c->key) != 0)
            kiln_gguf_writer_add_kv(w, kv);
    }
    if (c->key != NULL && c->text != NULL)
        kiln_gguf_writer_add_string(w, c->key, c->text);
    else if (c->key != NULL && c->number != 0)
        kiln_gguf_writer_add_u32(w, c->key, (uint32_t)c->number);
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
    char path[TESTDATA_PATH_SIZE];
    kiln_error error = {KILN_OK, ""};
    kiln_gguf *base = open_good(need(c->base, path), KILN_GGUF_MMAP);
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
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *whole = open_good(need(base, path), KILN_GGUF_MMAP);
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
    check_form("stories260K/stories260K-moe8x-permuted-q8_0.gguf", apart);
    check_form("stories260K/stories260K-q4_0.gguf", untied);
    check_form(DENSE, biased);
}

/* Experts of two types in one layer cannot be one op. */
static void test_mixed_experts(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *whole = open_good(need(MOE, path), KILN_GGUF_MMAP);
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
static void check_bytes(const char *relative, uint64_t random) {
    size_t size;
    unsigned char *bytes = need_bytes(relative, &size);
    kiln_error error = {KILN_OK, ""};
    kiln_gguf *g;
    unsigned models = 0;
    kiln_gguf_bytes part = {bytes, size, "bytes.gguf"};
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
    check_bytes("stories260K/stories260K-q8_0.gguf", 1);
    check_bytes("stories260K/stories260K-moe8x-permuted-q8_0.gguf", 2);
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
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *whole = open_good(need(MOE, path), KILN_GGUF_MMAP);
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
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
