/* kiln demo: all of Kiln in one go, without any file from elsewhere. */
#include "commands.h"
#include "common.h"
#include "demo_model.h"
#include "kiln_plan_json.h"
#include "regions.h"
#include "tools/llm/tokenizer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* The whole report fits a terminal of 24 lines. */
enum { REGIONS = 10 };

typedef struct options {
    const char *folder;
    int64_t steps, threads;
    plan_args plan;
} options;

typedef struct demo_run {
    options opt;
    char model_path[1024], graph_path[1024], plan_path[1024];
    model_file model;
    kiln_tok *tok;
    kiln_executor *executor;
    kiln_llama_decoder *decoder;
    kiln_llama_options shape;
    int64_t first_ns, steady_ns;
} demo_run;

static int write_text(const char *path, kiln_status status, kiln_json_text *text, const kiln_error *error) {
    if (status != KILN_OK)
        return fail(error, NULL);
    bool ok = write_file(path, text->data, text->size);
    kiln_json_text_free(text);
    return ok ? EXIT_OK : EXIT_FAILED;
}

/* The graph is built a second time for its JSON; it is not baked a second time. */
static int write_dumps(const demo_run *r) {
    kiln_json_text text = {0};
    kiln_graph *graph;
    kiln_error error;
    kiln_status status = kiln_graph_create(NULL, &graph, &error);
    if (status != KILN_OK)
        return fail(&error, NULL);
    status = kiln_llama_build(r->model.llama, &r->shape, graph, &error);
    if (status == KILN_OK)
        status = kiln_graph_to_json(graph, NULL, &text, &error);
    int code = write_text(r->graph_path, status, &text, &error);
    kiln_graph_destroy(graph);
    if (code != EXIT_OK)
        return code;
    status = kiln_plan_to_json(kiln_llama_decoder_plan(r->decoder), kiln_llama_decoder_session(r->decoder),
                               NULL, &text, &error);
    return write_text(r->plan_path, status, &text, &error);
}

/* The text is a chain of words that comes round: it is printed once. */
static int decode(demo_run *r) {
    int64_t n_vocab = kiln_llama_get_params(r->model.llama)->n_vocab;
    int32_t previous = kiln_tok_bos(r->tok), first = -1;
    bool again = false;
    kiln_error error;
    printf("text      ");
    for (int64_t position = 0; position < r->opt.steps; position++) {
        const float *logits;
        int64_t start = now_ns();
        if (kiln_llama_step(r->decoder, &previous, 1, position, 1, &logits, &error) != KILN_OK)
            return fail(&error, NULL);
        *(position == 0 ? &r->first_ns : &r->steady_ns) += now_ns() - start;
        int32_t best = 0;
        for (int32_t i = 1; i < n_vocab; i++)
            if (logits[i] > logits[best])
                best = i;
        again = again || best == first;
        if (position == 0)
            first = best;
        kiln_gguf_string piece = kiln_tok_decode(r->tok, previous, best);
        if (!again)
            fwrite(piece.data, 1, piece.size, stdout);
        previous = best;
    }
    printf("%s\n", again ? " (and so on)" : "");
    return EXIT_OK;
}

static void report(const demo_run *r) {
    const kiln_plan *plan = kiln_llama_decoder_plan(r->decoder);
    kiln_plan_summary s;
    char arena[32], sum[32], bound[32];
    kiln_plan_get_summary(plan, &s);
    printf("speed     %lld tokens, %.0f a second (the first took %.2f ms), on %u thread%s, %s kernels, %s "
           "mode\n",
           (long long)r->opt.steps, (double)(r->opt.steps - 1) * 1e9 / (double)(r->steady_ns + 1),
           (double)r->first_ns / 1e6, kiln_executor_threads(r->executor),
           kiln_executor_threads(r->executor) == 1 ? "" : "s", kiln_executor_level(r->executor),
           mode_names[r->opt.plan.exact]);
    printf("plan      %u nodes became %u records in %u regions: baked once, replayed %llu times\n", s.nodes,
           s.records, s.regions, (unsigned long long)kiln_llama_decoder_replays(r->decoder));
    printf("barriers  %u kept, %u avoided; one after every op would be %u\n", s.barriers, s.barriers_avoided,
           s.barriers + s.barriers_avoided);
    printf("arena     %s; without reuse %s; these regions need at least %s\n",
           bytes_text(s.arena_bytes, arena), bytes_text(s.sum_bytes, sum), bytes_text(s.lower_bound, bound));
    printf("files     %s, %s\n", r->graph_path, r->plan_path);
    printf("regions   the first %d, and the hazard that each waits for (raw: a read after a write):\n",
           REGIONS);
    print_plan_regions(stdout, plan, 0, REGIONS);
}

static void what_next(const demo_run *r) {
    const char *self = command_path;
    printf("command   %s\nnext      %s check %s\n", self, self, r->plan_path);
    printf("          %s dump %s --dot plan.dot\n", self, r->model_path);
    printf("          %s generate %s -p \"Kiln\" -n 32 --trace trace.json\n", self, r->model_path);
}

static int prepare(demo_run *r) {
    const options *o = &r->opt;
    kiln_error error;
    kiln_cpu_options cpu = {.threads = (uint32_t)o->threads};
    if (mkdir(o->folder, 0777) != 0 && errno != EEXIST)
        return fail_text("--dir names a folder to write to", "cannot create '%s': %s", o->folder,
                         strerror(errno));
    if (snprintf(r->model_path, sizeof r->model_path, "%s/demo-moe.gguf", o->folder) >= 1024 ||
        snprintf(r->graph_path, sizeof r->graph_path, "%s/demo-moe.graph.json", o->folder) >= 1024 ||
        snprintf(r->plan_path, sizeof r->plan_path, "%s/demo-moe.plan.json", o->folder) >= 1024)
        return fail_text(NULL, "the name of the folder is too long");
    if (demo_model_write(r->model_path, &error) != KILN_OK)
        return fail(&error, "--dir names a folder to write to");
    int code = model_open(&r->model, r->model_path);
    if (code != EXIT_OK)
        return code;
    r->shape = (kiln_llama_options){.max_tokens = 1, .max_logits = 1, .context = o->steps};
    kiln_llama_decoder_options d = {.graph = r->shape, .bake = bake_options(&o->plan)};
    if (kiln_tok_create(r->model.gguf, (kiln_allocator){0}, &r->tok, &error) != KILN_OK ||
        kiln_cpu_executor_create(NULL, &cpu, &r->executor, &error) != KILN_OK ||
        kiln_llama_decoder_create(r->model.llama, &d, r->executor, NULL, &r->decoder, &error) != KILN_OK)
        return fail(&error, NULL);
    printf("model     %s: %s\n", r->model_path, demo_model_text);
    return EXIT_OK;
}

int cmd_demo(int argc, char **argv) {
    demo_run r = {.opt = {.folder = "kiln-demo", .steps = 128}};
    options *o = &r.opt;
    const arg_option rows[] = {
        {"dir", 'd', ARG_TEXT, "FOLDER", "where to write (default: kiln-demo)", &o->folder, 0, 0, NULL},
        {"steps", 'n', ARG_INT, "N", "tokens to decode (default: 128)", &o->steps, 2, 1024, NULL},
        THREADS_OPTION(o->threads),
        PLAN_OPTIONS(o->plan),
    };
    const arg_spec spec = {
        "demo",
        "[--dir FOLDER] [-n N] [OPTION...]",
        "Makes a small expert-routed model, decodes with it through one baked plan, and shows\n"
        "what was baked. The model is random around a chain of words: its text only shows that\n"
        "everything was computed.",
        "",
        0,
        0,
        rows,
        sizeof rows / sizeof rows[0]};
    int code = args_parse(&spec, argc, argv, NULL);
    if (code != ARGS_GO_ON)
        return code;
    code = prepare(&r);
    if (code == EXIT_OK)
        code = decode(&r);
    if (code == EXIT_OK)
        code = write_dumps(&r);
    if (code == EXIT_OK) {
        report(&r);
        what_next(&r);
    }
    kiln_llama_decoder_destroy(r.decoder);
    (void)kiln_executor_destroy(r.executor, NULL); /* nothing runs on it now */
    kiln_tok_destroy(r.tok);
    model_close(&r.model);
    return code;
}
