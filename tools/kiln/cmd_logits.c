/* kiln logits: teacher-forced logits, for comparing with another implementation. */
#include "commands.h"
#include "common.h"
#include "nonfinite.h"
#include "tools/npy/npy.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *tokens, *out;
    int64_t most, chunk, threads;
    plan_args plan;
} options;

/* Integers separated by white space or commas. */
static int parse_tokens(const char *path, char *text, size_t size, int32_t *tokens, int64_t most,
                        int64_t *count) {
    *count = 0;
    for (size_t i = 0; i < size && *count < most;) {
        if (isspace((unsigned char)text[i]) || text[i] == ',') {
            i++;
            continue;
        }
        size_t end = i;
        while (end < size && !isspace((unsigned char)text[end]) && text[end] != ',')
            end++;
        char word[16] = "";
        int64_t value;
        if (end - i < sizeof word)
            memcpy(word, text + i, end - i);
        if (!args_int(word, 0, INT32_MAX, &value))
            return fail_text("the file holds token numbers, separated by white space or commas",
                             "%s: '%.*s' is no token number", path, end - i < 20 ? (int)(end - i) : 20,
                             text + i);
        tokens[(*count)++] = (int32_t)value;
        i = end;
    }
    return *count > 0 ? EXIT_OK : fail_text(NULL, "%s: no tokens in it", path);
}

static int read_tokens(const options *o, int32_t **tokens, int64_t *count) {
    char *text;
    size_t size;
    if (!read_file(o->tokens, &text, &size))
        return EXIT_FAILED;
    int code = EXIT_FAILED;
    *tokens = malloc((size / 2 + 1) * sizeof **tokens); /* a digit and a space each, at least */
    if (*tokens == NULL)
        fail_text(NULL, "out of memory for the tokens of %s", o->tokens);
    else
        code = parse_tokens(o->tokens, text, size, *tokens, o->most, count);
    free(text);
    return code;
}

/* Runs the tokens in chunks, all their logits to out[count][n_vocab]. */
static int evaluate(const options *o, const model_file *m, kiln_executor *executor, const int32_t *tokens,
                    int64_t count, float *out) {
    kiln_error error;
    kiln_llama_decoder *decoder;
    int64_t n_vocab = kiln_llama_get_params(m->llama)->n_vocab, chunk = o->chunk < count ? o->chunk : count;
    kiln_llama_decoder_options d = {.graph = {chunk, chunk, count, KILN_F32}, .bake = bake_options(&o->plan)};
    if (kiln_llama_decoder_create(m->llama, &d, executor, NULL, &decoder, &error) != KILN_OK)
        return fail(&error, "does the model have that many positions? -n takes the first ones only");
    kiln_status status = KILN_OK;
    progress p = progress_start("token", count);
    for (int64_t done = 0; done < count && status == KILN_OK;) {
        int64_t now = count - done < chunk ? count - done : chunk;
        const float *logits;
        status = kiln_llama_step(decoder, tokens + done, now, done, now, &logits, &error);
        if (status == KILN_OK)
            memcpy(out + done * n_vocab, logits, (size_t)(now * n_vocab) * sizeof *out);
        done += now;
        progress_update(&p, done);
    }
    progress_end(&p);
    kiln_llama_decoder_destroy(decoder);
    if (status != KILN_OK)
        return fail(&error, NULL);
    int64_t bad = nonfinite_first(out, count * n_vocab);
    return bad < 0 ? EXIT_OK : nonfinite_fail(m, &d, executor, tokens, bad / n_vocab + 1);
}

static int store(const options *o, const float *logits, int64_t count, int64_t n_vocab) {
    size_t length = strlen(o->out);
    if (length > 4 && strcmp(o->out + length - 4, ".npy") == 0) {
        kiln_error error;
        int64_t dims[] = {count, n_vocab};
        if (kiln_npy_write(o->out, KILN_F32, 2, dims, logits, &error) != KILN_OK)
            return fail(&error, "does the folder exist, and may you write there?");
        return EXIT_OK;
    }
    return write_file(o->out, logits, (size_t)(count * n_vocab) * sizeof *logits) ? EXIT_OK : EXIT_FAILED;
}

static int run(const options *o, const char *path) {
    model_file m = {NULL, NULL};
    kiln_executor *executor = NULL;
    kiln_error error;
    int32_t *tokens = NULL;
    float *logits = NULL;
    int64_t count = 0, n_vocab = 0;
    kiln_cpu_options cpu = {.threads = (uint32_t)o->threads};
    int code = model_open(&m, path);
    if (code == EXIT_OK && (code = refuse_model(o->out, m.gguf)) == EXIT_OK)
        code = refuse_same(o->out, o->tokens);
    if (code == EXIT_OK)
        code = read_tokens(o, &tokens, &count);
    if (code == EXIT_OK) {
        n_vocab = kiln_llama_get_params(m.llama)->n_vocab;
        if (count <= INT64_MAX / 4 / n_vocab)
            logits = malloc((size_t)(count * n_vocab) * sizeof *logits + 1);
        if (logits == NULL)
            code = fail_text("take fewer tokens with -n", "out of memory for %lld rows of %lld logits",
                             (long long)count, (long long)n_vocab);
    }
    if (code == EXIT_OK && kiln_cpu_executor_create(NULL, &cpu, &executor, &error) != KILN_OK)
        code = fail(&error, "try fewer --threads");
    if (code == EXIT_OK && logits != NULL)
        code = evaluate(o, &m, executor, tokens, count, logits);
    if (code == EXIT_OK)
        code = store(o, logits, count, n_vocab);
    if (code == EXIT_OK && strcmp(o->out, "-") != 0)
        fprintf(stderr, "kiln: wrote %lld rows of %lld logits to %s\n", (long long)count, (long long)n_vocab,
                o->out);
    free(logits);
    free(tokens);
    (void)kiln_executor_destroy(executor, NULL); /* nothing runs on it now */
    model_close(&m);
    return code;
}

int cmd_logits(int argc, char **argv) {
    options o = {.most = INT32_MAX, .chunk = 256};
    const arg_option rows[] = {
        {"tokens", 0, ARG_TEXT, "FILE", "token numbers, separated by white space or commas;\n'-' is stdin",
         &o.tokens, 0, 0, NULL},
        {"out", 'o', ARG_TEXT, "FILE", "where to: rows of little-endian f32, or .npy; '-' is\nstdout", &o.out,
         0, 0, NULL},
        {"first", 'n', ARG_INT, "N", "take the first N tokens only", &o.most, 1, INT32_MAX, NULL},
        {"chunk", 0, ARG_INT, "N", "tokens per run (default: 256)", &o.chunk, 1, INT32_MAX, NULL},
        THREADS_OPTION(o.threads),
        PLAN_OPTIONS(o.plan),
    };
    const arg_spec spec = {
        "logits",
        "MODEL.gguf --tokens FILE --out FILE [OPTION...]",
        "Feeds the given tokens, from position 0 on, and writes the logits after each, unless\n"
        "they hold NaN or Inf: then it says where these come from.",
        "model",
        1,
        1,
        rows,
        sizeof rows / sizeof rows[0]};
    const char *path;
    int code = args_parse(&spec, argc, argv, &path);
    if (code != ARGS_GO_ON)
        return code;
    if (o.tokens == NULL || o.out == NULL)
        return args_usage("logits", "--%s is missing", o.tokens == NULL ? "tokens" : "out");
    return run(&o, path);
}
