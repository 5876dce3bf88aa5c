/* Decoding with real weights: texts, logits and routes against the goldens,
 * in every way a plan can be made. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_help.h"
#include "kiln_ops.h"
#include "tests/support/eager.h"
#include "tests/support/tales.h"
#include "tools/llm/llama.h"
#include "tools/llm/tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A model and its answers: a file of the test data, or a form of the repository's own model
 * (tests/support/tales.h). `golden`: the answers' path without ".greedy.txt" and so on. `fast`: how far its
 * logits may be off in that mode, about one and a half times the most that was measured on any CPU level:
 * 3.8e-6, 0.039, 0.130, 0.114, 0.145 for tales in f32, f16, q8_0, q4_0, iq4_nl (logits up to 18), and 7.6e-6,
 * 0.081, 0.204, 0.294, 0.269 for stories260K (logits up to 22). With f32 weights this mode rounds nothing.
 * `regions`: of one layer when one token is decoded, in exact and in fast mode. `route`: the experts chosen,
 * a line per token and layer: how the answer's path ends, or the line when all are the same. */
typedef struct variant {
    const char *name, *gguf;
    tales_form form;
    const char *golden;
    double fast;
    uint32_t regions[2];
    const char *route;
} variant;

#define STORIES  "stories260K/"
#define IN(name) STORIES "stories260K-" name ".gguf"

static const variant variants[] = {
    {"tales f32", NULL, {KILN_F32, TALES_DENSE, 0}, TALES "f32", 6e-6, {9, 9}, NULL},
    {"tales f16", NULL, {KILN_F16, TALES_DENSE, 0}, TALES "f32", 0.058, {9, 10}, NULL},
    {"tales q8_0", NULL, {KILN_Q8_0, TALES_DENSE, 0}, TALES "q8_0", 0.2, {9, 10}, NULL},
    {"tales q4_0", NULL, {KILN_Q4_0, TALES_DENSE, 0}, TALES "q4_0", 0.17, {9, 10}, NULL},
    {"tales iq4_nl", NULL, {KILN_IQ4_NL, TALES_DENSE, 0}, TALES "iq4_nl", 0.22, {9, 10}, NULL},
    {"tales moe4x", NULL, {KILN_F32, TALES_PERMUTED, 4}, TALES "f32", 6e-6, {12, 12}, ".experts4.route.txt"},
    {"tales split", NULL, {KILN_F32, TALES_SPLIT, 4}, TALES "f32", 6e-6, {12, 12}, "0 1 2 3\n"},
    {"tales moe8x", NULL, {KILN_Q8_0, TALES_PERMUTED, 8}, TALES "q8_0", 0.2, {12, 13}, ".experts8.route.txt"},
    {"f32", IN("f32"), {0}, STORIES "dense_f32", 1.2e-5, {9, 9}, NULL},
    {"f16", IN("f16"), {0}, STORIES "dense_f16", 0.12, {9, 10}, NULL},
    {"q8_0", IN("q8_0"), {0}, STORIES "dense_q8_0", 0.3, {9, 10}, NULL},
    {"q4_0", IN("q4_0"), {0}, STORIES "dense_q4_0", 0.44, {9, 10}, NULL},
    {"iq4_nl", IN("iq4_nl"), {0}, STORIES "dense_iq4_nl", 0.4, {9, 10}, NULL},
    {"moe4x", IN("moe4x-permuted-f32"), {0}, STORIES "moe4_permuted_f32", 1.2e-5, {12, 12}, ".route.txt"},
    {"split", IN("moe4x-split-f32"), {0}, STORIES "moe4_split_f32", 1.2e-5, {12, 12}, ".route.txt"},
    {"moe8x", IN("moe8x-permuted-q8_0"), {0}, STORIES "moe8_permuted_q8_0", 0.3, {12, 13}, ".route.txt"},
};
enum { OWN = 8 }; /* variants that are always there */
enum { STEPS = 256, FIRST = 32, MAX_LAYERS = 8 };

/* How many of them: all, or the repository's own when the test data is absent (which is printed). */
static size_t n_variants;

typedef struct fixture {
    void *bytes; /* of a model made here */
    kiln_gguf *gguf;
    kiln_llama_model *model;
    kiln_tok *tok;
} fixture;

static void must(kiln_status status, const kiln_error *error) {
    if (status != KILN_OK)
        fail_msg("%s: %s", kiln_status_name(status), error->text);
}

static int count_variants(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    n_variants = testdata_path(STORIES, path, sizeof path) != NULL ? COUNT(variants) : OWN;
    return 0;
}

static void open_variant(fixture *f, const variant *v) {
    char path[TESTDATA_PATH_SIZE];
    kiln_error error;
    size_t size;
    f->bytes = NULL;
    if (v->gguf != NULL) {
        f->gguf = open_good(need(v->gguf, path), KILN_GGUF_MMAP);
    } else {
        must(tales_make(&v->form, &f->bytes, &size, &error), &error);
        must(kiln_gguf_open_memory(&(kiln_gguf_bytes){f->bytes, size, v->name}, 1, NULL, &f->gguf, &error),
             &error);
    }
    must(kiln_llama_open(f->gguf, NULL, &f->model, &error), &error);
    must(kiln_tok_create(f->gguf, (kiln_allocator){0}, &f->tok, &error), &error);
}

static void close_variant(fixture *f) {
    kiln_tok_destroy(f->tok);
    kiln_llama_destroy(f->model);
    kiln_gguf_destroy(f->gguf);
    free(f->bytes);
}

/* One of a variant's answers, from malloc. */
static char *answer(const char *path, size_t *size) {
    char *bytes =
        strncmp(path, TALES, strlen(TALES)) == 0 ? testdata_read_path(path, size) : testdata_read(path, size);
    if (bytes == NULL)
        fail_msg("%s cannot be read", path);
    return bytes;
}

static kiln_executor *executor_of(uint32_t threads, uint32_t without) {
    kiln_executor *e;
    kiln_error error;
    must(kiln_cpu_executor_create(NULL, &(kiln_cpu_options){.threads = threads, .without = without}, &e,
                                  &error),
         &error);
    return e;
}

static kiln_llama_decoder *decoder_of(const fixture *f, kiln_executor *e, kiln_llama_options graph,
                                      kiln_bake_options bake) {
    kiln_llama_decoder *d;
    kiln_error error;
    kiln_llama_decoder_options o = {graph, bake};
    must(kiln_llama_decoder_create(f->model, &o, e, NULL, &d, &error), &error);
    return d;
}

static int32_t best_of(const float *logits, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

/* The golden tokens: BOS, then the 256 that are generated. */
static size_t golden_tokens(const variant *v, int32_t tokens[STEPS + 1]) {
    char path[128];
    size_t size, n = 0;
    snprintf(path, sizeof path, "%s.greedy.tokens", v->golden);
    char *text = answer(path, &size), *copy = calloc(size + 1, 1);
    assert_non_null(copy);
    memcpy(copy, text, size);
    free(text);
    for (char *word = strtok(copy, " \n"); word != NULL && n <= STEPS; word = strtok(NULL, " \n"))
        tokens[n++] = (int32_t)strtol(word, NULL, 10);
    free(copy);
    return n;
}

/* ---- texts ------------------------------------------------------------------------------------------ */

/* Decodes greedily as run.c does, from `n` tokens fed in chunks of `chunk`, into text (of at least 4096
 * bytes). */
static size_t decode(const fixture *f, kiln_llama_decoder *d, const int32_t *prompt, int64_t n, char *text) {
    int64_t n_vocab = kiln_llama_get_params(f->model)->n_vocab;
    size_t size = 0;
    const float *logits;
    kiln_error error;
    int32_t previous = prompt[n - 1];
    for (int64_t i = 1; i < n; i++) {
        kiln_gguf_string s = kiln_tok_decode(f->tok, prompt[i - 1], prompt[i]);
        memcpy(text + size, s.data, s.size);
        size += s.size;
    }
    must(kiln_llama_eval(d, prompt, n, 0, &logits, &error), &error);
    for (int64_t position = n;; position++) {
        int32_t next = best_of(logits, n_vocab);
        if (next == kiln_tok_bos(f->tok) || next == kiln_tok_eos(f->tok))
            break;
        kiln_gguf_string s = kiln_tok_decode(f->tok, previous, next);
        memcpy(text + size, s.data, s.size);
        size += s.size;
        if (position == STEPS || size > 4000)
            break;
        previous = next;
        must(kiln_llama_step(d, &next, 1, position, 1, &logits, &error), &error);
    }
    return size;
}

static void check_text(const variant *v, const char *how, const char *text, size_t size) {
    char path[128];
    size_t want_size;
    snprintf(path, sizeof path, "%s.greedy.txt", v->golden);
    char *want = answer(path, &want_size);
    if (size != want_size || memcmp(text, want, size) != 0)
        fail_msg("%s, %s: the text is\n%.*s\nexpected\n%.*s", v->name, how, (int)size, text, (int)want_size,
                 want);
    free(want);
}

static void text_of(const fixture *f, const variant *v, kiln_executor *e, kiln_bake_options bake,
                    const char *how) {
    char text[4096];
    const int32_t bos = kiln_tok_bos(f->tok);
    bake.precision = KILN_PRECISION_EXACT;
    kiln_llama_decoder *d = decoder_of(f, e, (kiln_llama_options){.context = STEPS}, bake);
    size_t size = decode(f, d, &bos, 1, text);
    check_text(v, how, text, size);
    assert_int_equal(kiln_llama_decoder_replays(d), STEPS);
    kiln_llama_decoder_destroy(d);
}

static void test_texts(void **state) {
    (void)state;
    kiln_executor *pools[] = {executor_of(1, 0), executor_of(2, 0)};
    for (size_t i = 0; i < n_variants; i++) {
        fixture f;
        open_variant(&f, &variants[i]);
        for (unsigned how = 0; how < 8; how++) {
            char text[80];
            bool no_fuse = how & 2, no_reuse = how & 4;
            snprintf(text, sizeof text, "%u threads%s%s", 1 + (how & 1), no_fuse ? ", not fused" : "",
                     no_reuse ? ", no reuse" : "");
            text_of(&f, &variants[i], pools[how & 1],
                    (kiln_bake_options){
                        .no_fuse = no_fuse ? KILN_FUSE_ALL : 0, .no_reuse = no_reuse, .no_inplace = no_reuse},
                    text);
        }
        close_variant(&f);
    }
    for (size_t i = 0; i < COUNT(pools); i++)
        assert_int_equal(kiln_executor_destroy(pools[i], NULL), KILN_OK);
}

/* Serial order and lower CPU levels give the same text. */
static void test_texts_of_other_plans(void **state) {
    (void)state;
    const uint32_t without[] = {0, KILN_CPU_AVX512, KILN_CPU_AVX512 | KILN_CPU_AVX2};
    for (size_t i = 0; i < n_variants; i += 3) { /* a slice, as these are many runs */
        fixture f;
        open_variant(&f, &variants[i]);
        for (size_t level = 0; level < COUNT(without); level++) {
            kiln_executor *e = executor_of(2, without[level]);
            text_of(&f, &variants[i], e, (kiln_bake_options){.serial = true}, kiln_executor_level(e));
            assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
        }
        close_variant(&f);
    }
}

/* The answers of stories260K are run.c's, but for its final newline. */
static void test_text_of_run_c(void **state) {
    (void)state;
    size_t a_size, b_size;
    char *a = (char *)need_bytes(STORIES "run_c_greedy_n256.txt", &a_size);
    char *b = (char *)need_bytes(STORIES "dense_f32.greedy.txt", &b_size);
    assert_int_equal(a_size, b_size + 1);
    assert_memory_equal(a, b, b_size);
    free(a);
    free(b);
}

/* However a prompt is cut, the text goes on the same. */
static void test_chunks(void **state) {
    (void)state;
    kiln_executor *e = executor_of(2, 0);
    for (size_t i = 0; i < n_variants; i++) {
        fixture f;
        int32_t tokens[STEPS + 1];
        open_variant(&f, &variants[i]);
        golden_tokens(&variants[i], tokens);
        const int64_t chunks[] = {1, 3, 7, 40};
        for (size_t c = 0; c < COUNT(chunks); c++) {
            char text[4096], how[40];
            snprintf(how, sizeof how, "chunks of %d", (int)chunks[c]);
            kiln_llama_decoder *d =
                decoder_of(&f, e, (kiln_llama_options){.max_tokens = chunks[c], .context = STEPS},
                           (kiln_bake_options){.precision = KILN_PRECISION_EXACT});
            size_t size = decode(&f, d, tokens, 40, text);
            check_text(&variants[i], how, text, size);
            kiln_llama_decoder_destroy(d);
        }
        close_variant(&f);
    }
    assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
}

/* ---- logits ----------------------------------------------------------------------------------------- */

/* Teacher-forced logits of the first 32 tokens, `chunk` at a time. */
static void logits_of(const fixture *f, kiln_executor *e, const int32_t *tokens, int64_t chunk,
                      kiln_llama_options graph, kiln_bake_options bake, float *out) {
    int64_t n_vocab = kiln_llama_get_params(f->model)->n_vocab;
    graph.max_tokens = graph.max_logits = chunk;
    graph.context = FIRST;
    kiln_llama_decoder *d = decoder_of(f, e, graph, bake);
    for (int64_t at = 0; at < FIRST; at += chunk) {
        int64_t n = FIRST - at < chunk ? FIRST - at : chunk;
        const float *logits;
        kiln_error error;
        must(kiln_llama_step(d, tokens + at, n, at, n, &logits, &error), &error);
        memcpy(out + at * n_vocab, logits, (size_t)(n * n_vocab) * sizeof *out);
    }
    kiln_llama_decoder_destroy(d);
}

static double worst(const float *a, const float *b, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        most = difference > most || isnan(difference) ? difference : most;
    }
    return most;
}

/* Bounds: exact mode by the goldens' own rule; 16-bit caches by the size of their rounding, against logits of
 * magnitude 10 and a random error of a percent per layer; fast mode by each model's own, where that is larger. */
static void test_logits(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t chunk;
        kiln_precision precision;
        kiln_dtype cache;
        double bound;
    } rows[] = {
        {"exact", 1, KILN_PRECISION_EXACT, KILN_F32, 1e-3},
        {"exact", 7, KILN_PRECISION_EXACT, KILN_F32, 1e-3},
        {"exact", 32, KILN_PRECISION_EXACT, KILN_F32, 1e-3},
        {"exact, f16 cache", 5, KILN_PRECISION_EXACT, KILN_F16, 2e-2},
        {"exact, bf16 cache", 5, KILN_PRECISION_EXACT, KILN_BF16, 2e-1},
        {"fast", 1, KILN_PRECISION_FAST, KILN_F32, 0},
        {"fast, f16 cache", 32, KILN_PRECISION_FAST, KILN_F16, 2e-2},
    };
    kiln_executor *e = executor_of(2, 0);
    float *got = malloc(FIRST * 512 * sizeof *got);
    assert_non_null(got);
    for (size_t i = 0; i < n_variants; i++) {
        fixture f;
        int32_t tokens[STEPS + 1];
        char path[128];
        size_t size;
        open_variant(&f, &variants[i]);
        golden_tokens(&variants[i], tokens);
        snprintf(path, sizeof path, "%s.logits.first32.f32", variants[i].golden);
        float *want = (float *)(void *)answer(path, &size);
        assert_int_equal(size, FIRST * 512 * sizeof *want);
        for (size_t r = 0; r < COUNT(rows); r++) {
            logits_of(&f, e, tokens, rows[r].chunk, (kiln_llama_options){.cache = rows[r].cache},
                      (kiln_bake_options){.precision = rows[r].precision}, got);
            double most = worst(got, want, FIRST * 512);
            bool fast = rows[r].precision == KILN_PRECISION_FAST;
            double bound = fast ? fmax(rows[r].bound, variants[i].fast) : rows[r].bound;
            if (!(most <= bound))
                fail_msg("%s, %s, chunks of %d: logits are off by up to %g; at most %g", variants[i].name,
                         rows[r].name, (int)rows[r].chunk, most, bound);
        }
        free(want);
        close_variant(&f);
    }
    free(got);
    assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
}

/* A plan against the same graph run node by node, without plan, order or shared memory: the same bits. */
static void test_eager(void **state) {
    (void)state;
    enum { N = 5 };
    kiln_executor *e = executor_of(2, KILN_CPU_AVX512 | KILN_CPU_AVX2);
    for (size_t i = 0; i < n_variants; i++) {
        fixture f;
        int32_t tokens[STEPS + 1];
        kiln_error error;
        kiln_graph *g;
        const float *logits;
        open_variant(&f, &variants[i]);
        golden_tokens(&variants[i], tokens);
        kiln_llama_options o = {.max_tokens = N, .context = 16};
        must(kiln_graph_create(NULL, &g, &error), &error);
        must(kiln_llama_build(f.model, &o, g, &error), &error);
        eager *run = eager_new(g, 0);
        memcpy(eager_data(run, kiln_tensor_find(g, "tokens")), tokens, N * sizeof *tokens);
        *(int32_t *)eager_data(run, kiln_tensor_find(g, "rows")) = N - 1;
        eager_set_i64(run, kiln_slot_find(g, "n_tokens"), N);
        eager_set_i64(run, kiln_slot_find(g, "n_logits"), 1);
        assert_int_equal(eager_run(run, 3).status, KILN_OK);
        kiln_llama_decoder *d = decoder_of(
            &f, e, o, (kiln_bake_options){.precision = KILN_PRECISION_EXACT, .no_fuse = KILN_FUSE_ALL});
        must(kiln_llama_eval(d, tokens, N, 0, &logits, &error), &error);
        assert_memory_equal(logits, eager_data(run, kiln_tensor_find(g, "logits")), 512 * sizeof *logits);
        kiln_llama_decoder_destroy(d);
        eager_free(run);
        kiln_graph_destroy(g);
        close_variant(&f);
    }
    assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
}

/* ---- routes ----------------------------------------------------------------------------------------- */

typedef struct routes {
    FILE *file;
} routes;

/* Every tap is one layer's chosen experts; a line per token. Layers come in order, as each needs the one
 * before. */
static kiln_status note_route(void *context, const kiln_observation *o) {
    routes *r = context;
    const unsigned char *row = o->data;
    for (int64_t t = 0; t < o->dims[0]; t++, row += o->strides[0])
        for (int64_t s = 0; s < o->dims[1]; s++) {
            int32_t id;
            memcpy(&id, row + s * o->strides[1], sizeof id);
            fprintf(r->file, "%d%c", id, s + 1 < o->dims[1] ? ' ' : '\n');
        }
    return KILN_OK;
}

static void check_route(const variant *v, const char *got, size_t size, size_t lines) {
    char path[128];
    size_t want_size, line = strlen(v->route);
    if (v->route[0] == '.') {
        snprintf(path, sizeof path, "%s%s", v->golden, v->route);
        char *want = answer(path, &want_size);
        assert_int_equal(size, want_size);
        assert_memory_equal(got, want, want_size);
        free(want);
        return;
    }
    assert_int_equal(size, lines * line);
    for (size_t i = 0; i < lines; i++)
        assert_memory_equal(got + i * line, v->route, line);
}

static void route_of(const variant *v, kiln_executor *e, uint32_t no_fuse) {
    char names[MAX_LAYERS][32], *got = NULL;
    kiln_tap taps[MAX_LAYERS];
    size_t got_size = 0;
    int32_t tokens[STEPS + 1];
    fixture f;
    kiln_error error;
    open_variant(&f, v);
    golden_tokens(v, tokens);
    uint32_t layers = (uint32_t)kiln_llama_get_params(f.model)->n_layers;
    assert_true(layers <= MAX_LAYERS);
    for (uint32_t i = 0; i < layers; i++) {
        snprintf(names[i], sizeof names[i], "blk.%u.route", i);
        taps[i] = (kiln_tap){names[i], KILN_WATCH_VALUES};
    }
    kiln_llama_decoder *d = decoder_of(
        &f, e, (kiln_llama_options){.context = STEPS},
        (kiln_bake_options){
            .precision = KILN_PRECISION_EXACT, .no_fuse = no_fuse, .taps = taps, .n_taps = layers});
    routes r = {open_memstream(&got, &got_size)};
    assert_non_null(r.file);
    must(kiln_session_observe(kiln_llama_decoder_session(d), KILN_WATCH_VALUES, note_route, &r, &error),
         &error);
    for (int64_t i = 0; i < STEPS; i++)
        must(kiln_llama_step(d, &tokens[i], 1, i, 0, NULL, &error), &error);
    fclose(r.file);
    check_route(v, got, got_size, STEPS * layers);
    free(got);
    kiln_llama_decoder_destroy(d);
    close_variant(&f);
}

static void test_routes(void **state) {
    (void)state;
    kiln_executor *e = executor_of(2, 0);
    for (size_t i = 0; i < n_variants; i++)
        if (variants[i].route != NULL) {
            route_of(&variants[i], e, 0);
            route_of(&variants[i], e, KILN_FUSE_ALL);
        }
    assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
}

/* ---- the decoder's own rules ------------------------------------------------------------------------ */

static void test_refusals(void **state) {
    (void)state;
    fixture f;
    kiln_error error;
    const float *logits;
    int32_t tokens[STEPS + 1], bad[] = {1, 512, -1};
    open_variant(&f, &variants[0]);
    golden_tokens(&variants[0], tokens);
    kiln_executor *e = executor_of(1, 0);
    kiln_llama_decoder *d = decoder_of(&f, e, (kiln_llama_options){.max_tokens = 4, .context = 10},
                                       (kiln_bake_options){.precision = KILN_PRECISION_EXACT});
    assert_int_equal(kiln_llama_step(d, bad, 2, 0, 1, &logits, &error), KILN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.text, "token 512 at position 1"));
    assert_null(logits);
    assert_int_equal(kiln_llama_step(d, bad + 2, 1, 0, 1, &logits, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_llama_step(d, tokens, 5, 0, 1, &logits, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_llama_step(d, tokens, 2, 0, 2, &logits, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_llama_step(d, tokens, -1, 0, 0, &logits, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_llama_step(d, tokens, 1, 10, 1, &logits, &error), KILN_ERROR_LIMIT);
    assert_int_equal(kiln_llama_step(d, tokens, 1, -1, 1, &logits, &error), KILN_ERROR_LIMIT);
    assert_int_equal(kiln_llama_eval(d, tokens, 0, 0, &logits, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_llama_eval(d, tokens, 11, 0, &logits, &error), KILN_ERROR_LIMIT);
    /* None of that disturbs what follows, and going back to an earlier position gives the same again. */
    float first[512];
    must(kiln_llama_eval(d, tokens, 10, 0, &logits, &error), &error);
    memcpy(first, logits, sizeof first);
    must(kiln_llama_step(d, tokens, 0, 10, 0, &logits, &error), &error); /* no tokens: nothing to do */
    assert_null(logits);
    must(kiln_llama_eval(d, tokens, 10, 0, &logits, &error), &error);
    assert_memory_equal(logits, first, sizeof first);
    kiln_llama_decoder_destroy(d);

    kiln_llama_decoder_options o = {.graph = {.context = 513}};
    assert_int_equal(kiln_llama_decoder_create(f.model, &o, e, NULL, &d, &error), KILN_ERROR_LIMIT);
    o.graph = (kiln_llama_options){.max_tokens = 3, .max_logits = 4};
    assert_int_equal(kiln_llama_decoder_create(f.model, &o, e, NULL, &d, &error), KILN_ERROR_LIMIT);
    o.graph = (kiln_llama_options){.cache = KILN_Q8_0};
    assert_int_not_equal(kiln_llama_decoder_create(f.model, &o, e, NULL, &d, &error), KILN_OK);
    assert_null(d);
    assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
    close_variant(&f);
}

/* A run that an observer stops leaves the caches half written; decoding goes on from the same position. */
static kiln_status stop(void *context, const kiln_observation *o) {
    (void)o;
    return --*(int *)context == 0 ? KILN_ERROR_NUMERIC : KILN_OK;
}

static void test_stopped_run(void **state) {
    (void)state;
    fixture f;
    kiln_error error;
    const float *logits;
    float want[512];
    int32_t tokens[STEPS + 1];
    open_variant(&f, &variants[0]);
    golden_tokens(&variants[0], tokens);
    kiln_executor *e = executor_of(2, 0);
    kiln_tap tap = {"blk.2.mid", KILN_WATCH_VALUES};
    kiln_llama_decoder *d =
        decoder_of(&f, e, (kiln_llama_options){.context = 16},
                   (kiln_bake_options){.precision = KILN_PRECISION_EXACT, .taps = &tap, .n_taps = 1});
    must(kiln_llama_eval(d, tokens, 8, 0, &logits, &error), &error);
    memcpy(want, logits, sizeof want);
    int countdown = 6;
    must(kiln_session_observe(kiln_llama_decoder_session(d), KILN_WATCH_VALUES, stop, &countdown, &error),
         &error);
    assert_int_equal(kiln_llama_eval(d, tokens, 8, 0, &logits, &error), KILN_ERROR_NUMERIC);
    must(kiln_session_observe(kiln_llama_decoder_session(d), 0, NULL, NULL, &error), &error);
    must(kiln_llama_eval(d, tokens + 5, 3, 5, &logits, &error), &error);
    assert_memory_equal(logits, want, sizeof want);
    kiln_llama_decoder_destroy(d);
    assert_int_equal(kiln_executor_destroy(e, NULL), KILN_OK);
    close_variant(&f);
}

/* What the scheduler and the fusion rules are for: a decode step in few regions. */
static void test_regions_per_layer(void **unused) {
    (void)unused;
    static const kiln_precision precisions[] = {KILN_PRECISION_EXACT, KILN_PRECISION_FAST};
    for (size_t v = 0; v < n_variants; v++)
        for (int p = 0; p < 2; p++) {
            fixture f;
            kiln_graph *g;
            kiln_plan *plan;
            kiln_error error;
            kiln_plan_summary s;
            kiln_bake_options options = {.precision = precisions[p]};
            open_variant(&f, &variants[v]);
            must(kiln_graph_create(NULL, &g, &error), &error);
            must(kiln_llama_build(f.model, NULL, g, &error), &error); /* one token at a time */
            must(kiln_bake(g, &options, &plan, &error), &error);
            kiln_plan_get_summary(plan, &s);
            const kiln_llama_params *params = kiln_llama_get_params(f.model);
            /* Around the layers: the embedding's lookup, the row picked, the last norm, the classifier, and
             * in a dense model the last residual. In a layer, `fast` quantises what attention made, unless
             * the weights are f32. */
            uint32_t around = params->n_experts > 0 ? 4 : 5, layer = variants[v].regions[p];
            if (s.regions > layer * params->n_layers + around)
                fail_msg("%s: %u regions for %lld layers, more than %u a layer and %u around",
                         variants[v].name, s.regions, (long long)params->n_layers, layer, around);
            assert_int_equal(s.regions, s.longest_chain);
            kiln_plan_release(plan);
            kiln_graph_destroy(g);
            close_variant(&f);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),         cmocka_unit_test(test_texts_of_other_plans),
        cmocka_unit_test(test_text_of_run_c), cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_logits),        cmocka_unit_test(test_eager),
        cmocka_unit_test(test_routes),        cmocka_unit_test(test_regions_per_layer),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_stopped_run),
    };
    return cmocka_run_group_tests(tests, count_variants, NULL);
}
