/* The demo's model: Mixtral's layout with random weights, around a chain of words.
 *
 * A token's embedding is a random pattern of ±1. The classifier's row of a word is the pattern of the word
 * that comes before it in the chain. Layers add random, but modest, contributions: everything is computed,
 * every expert is routed to, and the text still comes out readable and the same in every mode and on every
 * machine, with a wide margin. So it shows how Kiln runs; it says nothing about what models know.
 *
 * Weights come from integer arithmetic and single float operations, so the file is the same everywhere.
 */
#include "demo_model.h"
#include "commands.h"
#include "common.h"
#include "tools/llm/quantise.h"

#include <stdlib.h>
#include <string.h>

enum {
    LAYERS = 4,
    DIM = 256,
    HEADS = 8,
    KV_HEADS = 4,
    HEAD = DIM / HEADS,
    HIDDEN = 512,
    EXPERTS = 8,
    USED = 2
};
enum { CONTEXT = 1024, MAX_TOKENS = 1024 };
enum { UNKNOWN = 0, BOS = 1, EOS = 2, BYTES = 3, TEXTS = BYTES + 256 };

const char demo_model_text[] = "4 layers, 8 experts, 2 per token; experts in q4_0 and q8_0";

#define SPACE "\xe2\x96\x81" /* U+2581, a space in SentencePiece */
static const char *const words[] = {
    SPACE "Kiln",
    SPACE "bakes",
    SPACE "a" SPACE "graph",
    SPACE "once",
    ",",
    SPACE "then",
    SPACE "replays",
    SPACE "it" SPACE "for",
    SPACE "every",
    SPACE "token",
    ".",
    SPACE "Barriers",
    SPACE "stand",
    SPACE "only",
    SPACE "where",
    SPACE "two",
    SPACE "byte",
    SPACE "ranges",
    SPACE "meet",
    ";",
    SPACE "experts",
    SPACE "that",
    SPACE "nobody",
    SPACE "chose",
    SPACE "cost",
    SPACE "nothing",
    SPACE "and" SPACE "you",
    SPACE "see",
    SPACE "why",
    SPACE "in" SPACE "the",
    SPACE "dump",
    "!",
};
enum { N_WORDS = sizeof words / sizeof words[0] };

typedef struct demo {
    kiln_gguf_writer *writer;
    char texts[MAX_TOKENS][32];
    float scores[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    int32_t n_tokens;
    int32_t chain[N_WORDS]; /* tokens of the words */
    uint64_t random;
    struct {
        void **items; /* tensor data, kept until the file is written */
        size_t count;
    } kept;
    bool failed; /* out of memory */
} demo;

/* ---- vocabulary ------------------------------------------------------------------------------------- */

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_BYTE = 6 };

static int32_t token(demo *d, const char *text, size_t size, float score, int32_t type) {
    for (int32_t i = 0; i < d->n_tokens; i++)
        if (strlen(d->texts[i]) == size && memcmp(d->texts[i], text, size) == 0)
            return i;
    snprintf(d->texts[d->n_tokens], sizeof d->texts[0], "%.*s", (int)size, text);
    d->scores[d->n_tokens] = score;
    d->types[d->n_tokens] = type;
    return d->n_tokens++;
}

static size_t character(const char *text) {
    return (unsigned char)text[0] == 0xe2 ? 3 : 1;
}

/* Every word with all its beginnings and characters, so that joining neighbours from the left arrives at it;
 * a longer beginning is the better one to join. */
static void make_vocabulary(demo *d) {
    token(d, "<unk>", 5, 0, TYPE_UNKNOWN);
    token(d, "<s>", 3, 0, TYPE_CONTROL);
    token(d, "</s>", 4, 0, TYPE_CONTROL);
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)i);
        token(d, text, 6, 0, TYPE_BYTE);
    }
    for (size_t w = 0; w < N_WORDS; w++)
        for (size_t at = 0; words[w][at] != '\0'; at += character(words[w] + at))
            token(d, words[w] + at, character(words[w] + at), -1000, TYPE_NORMAL);
    for (size_t w = 0; w < N_WORDS; w++) {
        size_t end = 0;
        for (float score = -100; words[w][end] != '\0'; score += 1) {
            end += character(words[w] + end);
            d->chain[w] = token(d, words[w], end, score, TYPE_NORMAL);
        }
    }
}

static void write_keys(demo *d) {
    kiln_gguf_writer *w = d->writer;
    kiln_gguf_string texts[MAX_TOKENS];
    for (int32_t i = 0; i < d->n_tokens; i++)
        texts[i] = (kiln_gguf_string){d->texts[i], strlen(d->texts[i])};
    kiln_gguf_writer_add_string(w, "general.architecture", "llama");
    kiln_gguf_writer_add_string(w, "general.name", "kiln-demo-moe");
    kiln_gguf_writer_add_u32(w, "llama.context_length", CONTEXT);
    kiln_gguf_writer_add_u32(w, "llama.embedding_length", DIM);
    kiln_gguf_writer_add_u32(w, "llama.block_count", LAYERS);
    kiln_gguf_writer_add_u32(w, "llama.feed_forward_length", HIDDEN);
    kiln_gguf_writer_add_u32(w, "llama.attention.head_count", HEADS);
    kiln_gguf_writer_add_u32(w, "llama.attention.head_count_kv", KV_HEADS);
    kiln_gguf_writer_add_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    kiln_gguf_writer_add_u32(w, "llama.rope.dimension_count", HEAD);
    kiln_gguf_writer_add_f32(w, "llama.rope.freq_base", 10000.0f);
    kiln_gguf_writer_add_u32(w, "llama.vocab_size", (uint32_t)d->n_tokens);
    kiln_gguf_writer_add_u32(w, "llama.expert_count", EXPERTS);
    kiln_gguf_writer_add_u32(w, "llama.expert_used_count", USED);
    kiln_gguf_writer_add_string(w, "tokenizer.ggml.model", "llama");
    kiln_gguf_writer_add_strings(w, "tokenizer.ggml.tokens", texts, (size_t)d->n_tokens);
    kiln_gguf_writer_add_array(w, "tokenizer.ggml.scores", KILN_GGUF_F32, d->scores, (size_t)d->n_tokens);
    kiln_gguf_writer_add_array(w, "tokenizer.ggml.token_type", KILN_GGUF_I32, d->types, (size_t)d->n_tokens);
    kiln_gguf_writer_add_u32(w, "tokenizer.ggml.bos_token_id", BOS);
    kiln_gguf_writer_add_u32(w, "tokenizer.ggml.eos_token_id", EOS);
    kiln_gguf_writer_add_u32(w, "tokenizer.ggml.unknown_token_id", UNKNOWN);
}

/* ---- tensors ---------------------------------------------------------------------------------------- */

static uint64_t next_random(demo *d) {
    uint64_t z = (d->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [-1, 1). */
static float uniform(demo *d) {
    return (float)(int64_t)(next_random(d) >> 40) * 0x1p-23f - 1.0f;
}

/* Adds a tensor made from `x` (of as many values as dims say), which is freed. */
static void add(demo *d, const char *name, kiln_dtype dtype, int32_t ndim, const int64_t *dims, float *x) {
    int64_t n = 1, bytes = 0;
    for (int32_t i = 0; i < ndim; i++)
        n *= dims[i];
    void **grown = realloc(d->kept.items, (d->kept.count + 1) * sizeof *grown);
    if (grown != NULL)
        d->kept.items = grown;
    unsigned char *data = NULL;
    if (x != NULL && grown != NULL && kiln_dtype_row_bytes(dtype, n, &bytes) == KILN_OK)
        data = malloc((size_t)bytes);
    d->failed = d->failed || data == NULL;
    if (data != NULL) {
        quantise(dtype, x, (size_t)n, data);
        d->kept.items[d->kept.count++] = data;
        kiln_gguf_writer_add_tensor(d->writer, name, kiln_gguf_tensor_type_of(dtype), ndim, dims, data);
    }
    free(x);
}

/* A random matrix whose products with vectors of unit variance have about the variance `gain` squared. */
static void add_random(demo *d, int layer, const char *what, kiln_dtype dtype, int32_t ndim,
                       const int64_t *dims, float gain) {
    char name[64];
    int64_t n = 1;
    for (int32_t i = 0; i < ndim; i++)
        n *= dims[i];
    /* A uniform value in [-1, 1) has the variance 1/3. */
    float scale = gain * 1.7320508f * (dims[ndim - 1] == DIM ? 1.0f / 16 : 0.0441942f);
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; x != NULL && i < n; i++)
        x[i] = uniform(d) * scale;
    snprintf(name, sizeof name, "blk.%d.%s", layer, what);
    add(d, name, dtype, ndim, dims, x);
}

static void add_norm(demo *d, const char *name) {
    float *x = malloc(DIM * sizeof *x);
    for (int i = 0; x != NULL && i < DIM; i++)
        x[i] = 1.0f;
    add(d, name, KILN_F32, 1, (int64_t[]){DIM}, x);
}

static void add_layer(demo *d, int i) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.attn_norm.weight", i);
    add_norm(d, name);
    add_random(d, i, "attn_q.weight", KILN_Q8_0, 2, (int64_t[]){DIM, DIM}, 1.0f);
    add_random(d, i, "attn_k.weight", KILN_Q8_0, 2, (int64_t[]){KV_HEADS * HEAD, DIM}, 1.0f);
    add_random(d, i, "attn_v.weight", KILN_Q8_0, 2, (int64_t[]){KV_HEADS * HEAD, DIM}, 1.0f);
    add_random(d, i, "attn_output.weight", KILN_Q8_0, 2, (int64_t[]){DIM, DIM}, 0.2f);
    snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", i);
    add_norm(d, name);
    add_random(d, i, "ffn_gate_inp.weight", KILN_F32, 2, (int64_t[]){EXPERTS, DIM}, 1.0f);
    add_random(d, i, "ffn_gate_exps.weight", KILN_Q4_0, 3, (int64_t[]){EXPERTS, HIDDEN, DIM}, 1.0f);
    add_random(d, i, "ffn_up_exps.weight", KILN_Q4_0, 3, (int64_t[]){EXPERTS, HIDDEN, DIM}, 1.0f);
    add_random(d, i, "ffn_down_exps.weight", KILN_Q8_0, 3, (int64_t[]){EXPERTS, DIM, HIDDEN}, 0.5f);
}

/* Tokens outside the chain look much like BOS, so that whatever was said before, the chain begins. */
static void add_outer(demo *d) {
    int64_t dims[] = {d->n_tokens, DIM};
    float *table = calloc((size_t)d->n_tokens * DIM, sizeof *table);
    float *classifier = calloc((size_t)d->n_tokens * DIM, sizeof *classifier);
    if (table != NULL && classifier != NULL) {
        for (int i = 0; i < DIM; i++)
            table[BOS * DIM + i] = next_random(d) & 1 ? 1.0f : -1.0f;
        for (int32_t t = 0; t < d->n_tokens; t++)
            for (int i = 0; t != BOS && i < DIM; i++)
                table[t * DIM + i] = next_random(d) % 8 == 0 ? -table[BOS * DIM + i] : table[BOS * DIM + i];
        for (size_t w = 0; w < N_WORDS; w++)
            for (int i = 0; i < DIM; i++)
                table[d->chain[w] * DIM + i] = next_random(d) & 1 ? 1.0f : -1.0f;
        for (size_t w = 0; w < N_WORDS; w++)
            for (int i = 0; i < DIM; i++)
                classifier[d->chain[(w + 1) % N_WORDS] * DIM + i] = table[d->chain[w] * DIM + i] * 0.0625f;
        for (int i = 0; i < DIM; i++)
            classifier[d->chain[0] * DIM + i] += table[BOS * DIM + i] * 0.0625f;
    }
    add(d, "token_embd.weight", KILN_F16, 2, dims, table);
    add(d, "output.weight", KILN_F16, 2, dims, classifier);
    add_norm(d, "output_norm.weight");
}

kiln_status demo_model_write(const char *path, kiln_error *error) {
    demo *d = calloc(1, sizeof *d);
    if (d == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "the demo's model: out of memory");
    d->random = 20240229;
    kiln_status status = kiln_gguf_writer_create((kiln_allocator){0}, &d->writer, error);
    if (status == KILN_OK) {
        make_vocabulary(d);
        write_keys(d);
        add_outer(d);
        for (int i = 0; i < LAYERS; i++)
            add_layer(d, i);
        status = d->failed ? kiln_error_set(error, KILN_ERROR_MEMORY, "the demo's model: out of memory")
                           : kiln_gguf_writer_write(d->writer, path, error);
    }
    kiln_gguf_writer_destroy(d->writer);
    for (size_t i = 0; i < d->kept.count; i++)
        free(d->kept.items[i]);
    free(d->kept.items);
    free(d);
    return status;
}

int cmd_demo_model(int argc, char **argv) {
    const arg_spec spec = {
        "demo-model",
        "OUT.gguf",
        "Writes the small expert-routed model that 'kiln demo' decodes with. The file is the\n"
        "same on every machine.",
        "file to write",
        1,
        1,
        NULL,
        0};
    const char *path;
    kiln_error error;
    int code = args_parse(&spec, argc, argv, &path);
    if (code != ARGS_GO_ON)
        return code;
    if (strcmp(path, "-") == 0)
        return args_usage("demo-model", "a model does not go to stdout; name a file");
    if (demo_model_write(path, &error) != KILN_OK)
        return fail(&error, "does the folder exist, and may you write there?");
    fprintf(stderr, "kiln: wrote %s: %s\n", path, demo_model_text);
    return EXIT_OK;
}
