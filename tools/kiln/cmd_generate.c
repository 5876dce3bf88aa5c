/* kiln generate: greedy decoding, as llama2.c's run.c at temperature 0. */
#include "commands.h"
#include "common.h"
#include "nonfinite.h"
#include "tools/llm/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct options {
    const char *prompt;
    int64_t steps, chunk, context, threads;
    int cache;
    bool warm, quiet;
    const char *trace;
    plan_args plan;
} options;

static const char *const cache_names[] = {"auto", "f32", "f16", "bf16", NULL};

typedef struct generation {
    options opt;
    model_file model;
    kiln_tok *tok;
    kiln_executor *executor;
    kiln_llama_decoder *decoder;
    kiln_llama_decoder_options build; /* of the decoder */
    int32_t *tokens;                  /* the prompt, with BOS, then what was fed since */
    size_t n_prompt;
    bool bos;        /* the prompt begins with it */
    int64_t context; /* positions there are */
    int64_t steps;   /* positions to run; fewer than n_prompt where there is nothing to predict */
    int64_t made;    /* tokens printed after the prompt */
    int64_t predicted, prompt_ns, made_ns;
    bool ended;       /* by BOS or EOS */
    int64_t baked_ns; /* building, baking and preparing */
    kiln_warm_report warmed;
} generation;

static int encode_prompt(generation *g) {
    kiln_error error;
    size_t size = strlen(g->opt.prompt), room = kiln_tok_encode_bound(size);
    g->tokens = room < SIZE_MAX / sizeof *g->tokens ? malloc((room + 1) * sizeof *g->tokens) : NULL;
    if (g->tokens == NULL) {
        (void)fail_text(NULL, "out of memory for a prompt of %zu bytes", size);
        return EXIT_FAILED;
    }
    if (kiln_tok_encode(g->tok, g->opt.prompt, size, true, g->tokens, room, &g->n_prompt, &error) != KILN_OK)
        return fail(&error, "the prompt must be text that the model's vocabulary can spell");
    if (g->n_prompt == 0)
        return fail_text("give one with -p",
                         "this model's vocabulary has no BOS token, so it needs a prompt");
    g->context = kiln_llama_get_params(g->model.llama)->n_context;
    if (g->opt.context > g->context)
        return fail_text(NULL, "--context is %lld, but the model was trained for %lld positions",
                         (long long)g->opt.context, (long long)g->context);
    if (g->opt.context > 0)
        g->context = g->opt.context;
    /* As run.c: N positions are run, of which BOS has the first;
     * the last one's prediction is printed, too. */
    g->bos = g->tokens[0] == kiln_tok_bos(g->tok);
    int64_t n = (int64_t)g->n_prompt, wanted = g->opt.steps - 1 + g->bos;
    if (n - g->bos > g->opt.steps)
        return fail_text("raise -n", "the prompt has %lld tokens, BOS not counted, and -n is %lld",
                         (long long)(n - g->bos), (long long)g->opt.steps);
    if (n > g->context)
        return fail_text("shorten the prompt, or raise --context",
                         "the prompt has %lld tokens, which leaves no room in %lld positions", (long long)n,
                         (long long)g->context);
    g->steps = wanted < g->context ? wanted : g->context;
    const size_t most = (size_t)(g->steps > n ? g->steps : n) + 1;
    int32_t *grown = realloc(g->tokens, most * sizeof *g->tokens);
    if (grown == NULL)
        return fail_text("try a smaller -n", "out of memory for %zu tokens", most);
    g->tokens = grown;
    return EXIT_OK;
}

static int make_decoder(generation *g) {
    static const kiln_dtype caches[] = {KILN_DTYPE_NONE, KILN_F32, KILN_F16, KILN_BF16};
    kiln_error error;
    int64_t start = now_ns(), n = (int64_t)g->n_prompt;
    if (n > g->steps) /* the prompt is all of it */
        return EXIT_OK;
    kiln_cpu_options cpu = {.threads = (uint32_t)g->opt.threads};
    if (kiln_cpu_executor_create(NULL, &cpu, &g->executor, &error) != KILN_OK)
        return fail(&error, "try fewer --threads");
    kiln_llama_decoder_options *o = &g->build;
    o->bake = bake_options(&g->opt.plan);
    o->graph.max_tokens = n < g->opt.chunk ? n : g->opt.chunk;
    o->graph.context = g->steps;
    o->graph.cache = g->opt.cache ? caches[g->opt.cache] : g->opt.plan.exact ? KILN_F32 : KILN_F16;
    if (kiln_llama_decoder_create(g->model.llama, o, g->executor, NULL, &g->decoder, &error) != KILN_OK)
        return fail(&error, error.status == KILN_ERROR_MEMORY ? "try a smaller --chunk or -n" : NULL);
    g->baked_ns = now_ns() - start;
    if (g->opt.warm && kiln_llama_decoder_warm(g->decoder, NULL, &g->warmed, &error) != KILN_OK)
        return fail(&error, NULL);
    return g->opt.trace != NULL ? trace_begin(kiln_llama_decoder_session(g->decoder), g->opt.trace) : EXIT_OK;
}

static int32_t best(const float *logits, int64_t n) {
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[at])
            at = i;
    return (int32_t)at;
}

/* What one token adds to the text. Control characters other than white space are left out: they come from the
 * file, and would do as they like with a terminal. */
static void print_token(const generation *g, int32_t previous, int32_t token) {
    kiln_gguf_string s = kiln_tok_decode(g->tok, previous, token);
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if ((c >= 0x20 && c != 0x7f) || (c >= '\t' && c <= '\r'))
            putchar(c);
    }
}

/* The prompt in chunks; gives the logits of its last token. */
static kiln_status run_prompt(generation *g, const float **logits, kiln_error *error) {
    int64_t n = (int64_t)g->n_prompt, done = 0, start = now_ns();
    kiln_status status;
    progress p = progress_start("prompt", n);
    do { /* a prompt has at least one token, as BOS is one */
        int64_t now = n - done < g->opt.chunk ? n - done : g->opt.chunk;
        status = kiln_llama_step(g->decoder, g->tokens + done, now, done, done + now == n, logits, error);
        done += now;
        progress_update(&p, done);
    } while (done < n && status == KILN_OK);
    progress_end(&p);
    g->prompt_ns = now_ns() - start;
    return status;
}

/* Takes the likeliest token after `position` tokens, then feeds it, until all positions are run. What a step
 * predicts is printed, BOS ends the text, and so does EOS (as run.c). */
static int continue_text(generation *g, const float *logits, progress *p, kiln_error *error) {
    const int64_t n_vocab = kiln_llama_get_params(g->model.llama)->n_vocab;
    const int32_t bos = kiln_tok_bos(g->tok), eos = kiln_tok_eos(g->tok);
    for (int64_t position = (int64_t)g->n_prompt;; position++) {
        if (nonfinite_first(logits, n_vocab) >= 0) {
            progress_end(p);
            putchar('\n');
            return nonfinite_fail(&g->model, &g->build, g->executor, g->tokens, position);
        }
        int32_t next = best(logits, n_vocab);
        g->predicted++;
        g->ended = next == bos || next == eos;
        if (g->ended)
            return EXIT_OK;
        print_token(g, g->tokens[position - 1], next);
        g->made++;
        if (!flush_stdout()) /* no program reads it: the rest is not worth computing */
            return EXIT_FAILED;
        progress_update(p, g->made);
        if (position == g->steps)
            return EXIT_OK;
        g->tokens[position] = next;
        if (kiln_llama_step(g->decoder, &next, 1, position, 1, &logits, error) != KILN_OK) {
            progress_end(p);
            putchar('\n');
            return fail(error, NULL);
        }
    }
}

static int generate(generation *g) {
    const bool live = isatty(STDOUT_FILENO) != 0;
    const float *logits = NULL;
    kiln_error error;
    int code = EXIT_OK;
    for (size_t i = 0; i < g->n_prompt; i++)
        print_token(g, i > 0 ? g->tokens[i - 1] : -1, g->tokens[i]);
    if (!flush_stdout())
        return EXIT_FAILED;
    if (g->decoder != NULL && run_prompt(g, &logits, &error) != KILN_OK) {
        putchar('\n');
        return fail(&error, NULL);
    }
    progress p = progress_start("token", g->steps - (int64_t)g->n_prompt + 1);
    p.on = p.on && !live;
    int64_t start = now_ns();
    if (g->decoder != NULL)
        code = continue_text(g, logits, &p, &error);
    g->made_ns = now_ns() - start;
    progress_end(&p);
    if (code != EXIT_OK)
        return code;
    putchar('\n');
    return flush_stdout() ? EXIT_OK : EXIT_FAILED;
}

/* "1 token", "2 tokens" */
static const char *tokens_text(int64_t n, char buffer[40]) {
    snprintf(buffer, 40, "%lld token%s", (long long)n, n == 1 ? "" : "s");
    return buffer;
}

/* Why there are fewer tokens than -n says, or none, unless the model has ended the text. */
static void print_end(const generation *g) {
    char made[40];
    const int64_t prompt = (int64_t)g->n_prompt - g->bos, missing = g->opt.steps - prompt - g->made;
    const int64_t most = kiln_llama_get_params(g->model.llama)->n_context;
    if (g->decoder == NULL)
        fprintf(stderr, "kiln: nothing is generated: the prompt alone has the %s of -n\n",
                tokens_text(prompt, made));
    if (g->ended || missing <= 0)
        return;
    fprintf(stderr,
            "kiln: the context is full: %s generated after the prompt fill%s its %lld positions, and %lld of "
            "-n %lld are missing",
            tokens_text(g->made, made), g->made == 1 ? "s" : "", (long long)g->context, (long long)missing,
            (long long)g->opt.steps);
    if (g->context < most)
        fprintf(stderr, "; --context goes up to %lld", (long long)most);
    fputc('\n', stderr);
}

static void print_statistics(const generation *g) {
    /* The first predicted token comes with the prompt's last step. */
    const int64_t steps = g->predicted > 0 ? g->predicted - 1 : 0, prompt = (int64_t)g->n_prompt - g->bos;
    char text[40];
    fprintf(stderr, "kiln: %s, %u thread%s, %s mode; built and baked once in %.1f ms, replayed %llu times\n",
            kiln_executor_level(g->executor), kiln_executor_threads(g->executor),
            kiln_executor_threads(g->executor) == 1 ? "" : "s", mode_names[g->opt.plan.exact],
            (double)g->baked_ns / 1e6, (unsigned long long)kiln_llama_decoder_replays(g->decoder));
    if (g->opt.warm)
        print_warm_report(stderr, &g->warmed);
    fprintf(stderr, "kiln: prompt: %s%s in %.1f ms (%.0f/s)\n", tokens_text(prompt, text),
            g->bos ? " and BOS" : "", (double)g->prompt_ns / 1e6,
            (double)g->n_prompt * 1e9 / (double)(g->prompt_ns + 1));
    fprintf(stderr, "kiln: generated: %s%s", tokens_text(g->made, text),
            g->ended ? ", then the end of the text," : "");
    if (steps > 0)
        fprintf(stderr, " in %.1f ms (%.0f/s)", (double)g->made_ns / 1e6,
                (double)steps * 1e9 / (double)(g->made_ns + 1));
    int64_t counted = prompt + g->made;
    fprintf(stderr, "; with the prompt's %lld of -n %lld\n", (long long)counted, (long long)g->opt.steps);
    print_plan_summary(stderr, "kiln: ", kiln_llama_decoder_plan(g->decoder));
}

static int run(generation *g, const char *path) {
    kiln_error error;
    int code = model_open(&g->model, path);
    if (code == EXIT_OK && g->opt.trace != NULL && strcmp(g->opt.trace, "-") == 0)
        code = args_usage("generate", "--trace is '-'; stdout is for the text");
    if (code == EXIT_OK)
        code = refuse_model(g->opt.trace, g->model.gguf);
    if (code != EXIT_OK)
        return code;
    if (kiln_tok_create(g->model.gguf, (kiln_allocator){0}, &g->tok, &error) != KILN_OK)
        return fail(&error, "'kiln logits' works without a tokenizer");
    if ((code = encode_prompt(g)) != EXIT_OK || (code = make_decoder(g)) != EXIT_OK)
        return code;
    code = generate(g);
    if (g->opt.trace != NULL && g->decoder != NULL && code == EXIT_OK)
        code = trace_write(kiln_llama_decoder_session(g->decoder), g->opt.trace);
    if (code == EXIT_OK)
        print_end(g);
    if (!g->opt.quiet && g->decoder != NULL && code == EXIT_OK)
        print_statistics(g);
    return code;
}

int cmd_generate(int argc, char **argv) {
    generation g = {.opt = {.prompt = "", .steps = 256, .chunk = 256}};
    options *o = &g.opt;
    const arg_option rows[] = {
        {"prompt", 'p', ARG_TEXT, "TEXT", "text to continue (default: none)", &o->prompt, 0, 0, NULL},
        {"steps", 'n', ARG_INT, "N",
         "tokens to print: those of the prompt and those that are\ngenerated; BOS and EOS are not printed "
         "(default: 256)",
         &o->steps, 1, INT32_MAX, NULL},
        {"chunk", 0, ARG_INT, "N", "tokens of the prompt per run (default: 256)", &o->chunk, 1, INT32_MAX,
         NULL},
        {"context", 0, ARG_INT, "N", "positions to go up to (default: what the model has)", &o->context, 1,
         INT32_MAX, NULL},
        {"cache", 0, ARG_CHOICE, "auto|f32|f16|bf16", "KV caches (auto: f32 in exact mode, f16 in fast)",
         &o->cache, 0, 0, cache_names},
        THREADS_OPTION(o->threads),
        PLAN_OPTIONS(o->plan),
        TRACE_OPTION(o->trace),
        {"warm", 0, ARG_FLAG, NULL, "warm up first, and say what the first step and later\nones take",
         &o->warm, 0, 0, NULL},
        {"quiet", 'q', ARG_FLAG, NULL, "no statistics", &o->quiet, 0, 0, NULL},
    };
    const arg_spec spec = {
        "generate",
        "MODEL.gguf [-p PROMPT] [-n N] [OPTION...]",
        "Continues a text with the model, always taking the likeliest token. The text goes\n"
        "to stdout, statistics to stderr.",
        "model",
        1,
        1,
        rows,
        sizeof rows / sizeof rows[0]};
    const char *path;
    int code = args_parse(&spec, argc, argv, &path);
    if (code != ARGS_GO_ON)
        return code;
    code = run(&g, path);
    kiln_llama_decoder_destroy(g.decoder);
    (void)kiln_executor_destroy(g.executor, NULL); /* nothing runs on it now */
    kiln_tok_destroy(g.tok);
    model_close(&g.model);
    free(g.tokens);
    return code;
}
