/* kiln generate: greedy decoding, as llama2.c's run.c at temperature 0. */
#include "commands.h"
#include "common.h"
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
    int32_t *tokens; /* the prompt, with BOS */
    size_t n_prompt;
    int64_t steps; /* positions to run; fewer than n_prompt where there is nothing to predict */
    int64_t made, prompt_ns, made_ns;
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
    int64_t context = kiln_llama_get_params(g->model.llama)->n_context;
    if (g->opt.context > context)
        return fail_text(NULL, "--context is %lld, but the model was trained for %lld positions",
                         (long long)g->opt.context, (long long)context);
    if (g->opt.context > 0)
        context = g->opt.context;
    /* As run.c: N positions are run, of which BOS has the first;
     * the last one's prediction is printed, too. */
    int64_t n = (int64_t)g->n_prompt, bos = g->tokens[0] == kiln_tok_bos(g->tok) ? 1 : 0;
    int64_t wanted = g->opt.steps - 1 + bos;
    if (n - bos > g->opt.steps)
        return fail_text("raise -n", "the prompt has %lld tokens, BOS not counted, and -n is %lld",
                         (long long)(n - bos), (long long)g->opt.steps);
    if (n > context)
        return fail_text("shorten the prompt",
                         "the prompt has %lld tokens, which leaves no room in %lld positions", (long long)n,
                         (long long)context);
    g->steps = wanted < context ? wanted : context;
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
    kiln_llama_decoder_options o = {.bake = bake_options(&g->opt.plan)};
    o.graph.max_tokens = n < g->opt.chunk ? n : g->opt.chunk;
    o.graph.context = g->steps;
    o.graph.cache = g->opt.cache ? caches[g->opt.cache] : g->opt.plan.exact ? KILN_F32 : KILN_F16;
    if (kiln_llama_decoder_create(g->model.llama, &o, g->executor, NULL, &g->decoder, &error) != KILN_OK)
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
    int64_t n = (int64_t)g->n_prompt, start = now_ns();
    kiln_status status = KILN_OK;
    progress p = progress_start("prompt", n);
    for (int64_t done = 0; done < n && status == KILN_OK;) { /* n ≥ 1 */
        int64_t now = n - done < g->opt.chunk ? n - done : g->opt.chunk;
        status = kiln_llama_step(g->decoder, g->tokens + done, now, done, done + now == n, logits, error);
        done += now;
        progress_update(&p, done);
    }
    progress_end(&p);
    g->prompt_ns = now_ns() - start;
    return status;
}

/* As run.c: what a step predicts is printed, BOS ends the text, and so does EOS. */
static int generate(generation *g) {
    bool live = isatty(STDOUT_FILENO) != 0;
    int64_t n_vocab = kiln_llama_get_params(g->model.llama)->n_vocab;
    int32_t bos = kiln_tok_bos(g->tok), eos = kiln_tok_eos(g->tok), token = g->tokens[g->n_prompt - 1];
    const float *logits = NULL;
    kiln_error error;
    for (size_t i = 0; i < g->n_prompt; i++)
        print_token(g, i > 0 ? g->tokens[i - 1] : -1, g->tokens[i]);
    if (!flush_stdout())
        return EXIT_FAILED;
    kiln_status status = g->decoder != NULL ? run_prompt(g, &logits, &error) : KILN_OK;
    progress p = progress_start("token", g->steps - (int64_t)g->n_prompt + 1);
    p.on = p.on && !live;
    int64_t start = now_ns();
    for (int64_t position = (int64_t)g->n_prompt; status == KILN_OK && logits != NULL; position++) {
        int32_t next = best(logits, n_vocab);
        g->made++;
        if (next == bos || next == eos)
            break;
        print_token(g, token, next);
        if (!flush_stdout()) { /* nobody reads it: the rest is not worth its time */
            progress_end(&p);
            return EXIT_FAILED;
        }
        progress_update(&p, g->made);
        if (position == g->steps)
            break;
        token = next;
        status = kiln_llama_step(g->decoder, &token, 1, position, 1, &logits, &error);
    }
    g->made_ns = now_ns() - start;
    progress_end(&p);
    putchar('\n');
    bool arrived = flush_stdout();
    return status != KILN_OK ? fail(&error, NULL) : arrived ? EXIT_OK : EXIT_FAILED;
}

static void print_statistics(const generation *g) {
    /* The first predicted token comes with the prompt's last step. */
    int64_t steps = g->made > 0 ? g->made - 1 : 0;
    fprintf(stderr, "kiln: %s, %u thread%s, %s mode; built and baked once in %.1f ms, replayed %llu times\n",
            kiln_executor_level(g->executor), kiln_executor_threads(g->executor),
            kiln_executor_threads(g->executor) == 1 ? "" : "s", mode_names[g->opt.plan.exact],
            (double)g->baked_ns / 1e6, (unsigned long long)kiln_llama_decoder_replays(g->decoder));
    if (g->opt.warm)
        print_warm_report(stderr, &g->warmed);
    fprintf(stderr, "kiln: prompt: %zu tokens in %.1f ms (%.0f/s)\n", g->n_prompt, (double)g->prompt_ns / 1e6,
            (double)g->n_prompt * 1e9 / (double)(g->prompt_ns + 1));
    fprintf(stderr, "kiln: generated: %lld tokens in %.1f ms (%.0f/s)\n", (long long)g->made,
            (double)g->made_ns / 1e6, (double)steps * 1e9 / (double)(g->made_ns + 1));
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
         "tokens to print, of the prompt and the answer together;\nBOS is not counted (default: 256)",
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
