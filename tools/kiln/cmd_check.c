/* kiln check: is the plan right? See brute.c for what that means. */
#include "brute.h"
#include "commands.h"
#include "common.h"
#include "kiln_ops.h"
#include "kiln_plan_json.h"

#include <stdlib.h>
#include <string.h>

typedef struct options {
    int64_t chunk, context;
    int mode; /* 0: both, else 1 + position in mode_names */
    bool quiet;
    plan_args plan;
    /* Of all plans that were checked. */
    unsigned plans;
    uint64_t undecided;
    const char *wrong; /* what was found; NULL: nothing, or no plan was judged */
} options;

static const char *const modes[] = {"both", "fast", "exact", NULL};

static void tick(void *context, int64_t done) {
    progress_update(context, done);
}

static void print_report(const char *what, const brute_report *r) {
    printf("%s: %llu ops, %llu accesses, %llu pairs compared, %llu conflicts\n", what,
           (unsigned long long)r->nodes, (unsigned long long)r->accesses, (unsigned long long)r->pairs,
           (unsigned long long)r->conflicts);
    printf("  no hazard is missed%s; %u regions, and a chain of %u ops that need one each\n",
           r->undecided > 0 ? " where that was decided" : "", r->regions, r->longest_chain);
    printf("  %llu intermediates: %llu pairs share bytes, none alive at the same time\n",
           (unsigned long long)r->storages, (unsigned long long)r->sharing);
    if (r->cautious > 0)
        printf("  %llu pairs only interlace, and are kept apart all the same\n",
               (unsigned long long)r->cautious);
    if (r->undecided > 0)
        printf("  undecided: %llu pairs of accesses have too many runs of bytes to compare them all\n",
               (unsigned long long)r->undecided);
}

/* Takes the plan. */
static int check_plan(options *o, kiln_plan *plan, size_t nodes, const char *what) {
    kiln_error error;
    brute_report report;
    progress p = progress_start(what, (int64_t)nodes);
    kiln_status status = brute_check(plan, tick, &p, &report, &error);
    progress_end(&p);
    kiln_plan_release(plan);
    if (status != KILN_OK)
        return fail(&error, NULL);
    if (!report.ok)
        o->wrong = "a plan misses a hazard or shares bytes that are alive";
    if (!report.ok)
        return fail_text(
            "this is a defect in Kiln or in a custom op's accesses; please report it with the graph",
            "%s: the plan is wrong: %s", what, report.problem);
    if (!o->quiet)
        print_report(what, &report);
    o->plans++;
    o->undecided += report.undecided;
    return EXIT_OK;
}

/* The last line: what a user wants to know. Nothing where no plan was judged: the file could not be read,
 * say. */
static void print_verdict(const options *o, int code) {
    if (code != EXIT_OK && o->wrong)
        printf("wrong: %s\n", o->wrong);
    if (code != EXIT_OK)
        return;
    printf("right: %u plan%s", o->plans, o->plans == 1 ? "" : "s");
    if (o->undecided > 0)
        printf(", as far as that was decided: %llu pairs of accesses were not",
               (unsigned long long)o->undecided);
    putchar('\n');
}

static int bake_and_check(options *o, const kiln_graph *graph, const plan_args *args) {
    kiln_error error;
    kiln_plan *plan;
    char what[80];
    if (bake_plan(graph, NULL, 0, args, &plan, &error) != KILN_OK)
        return fail(&error, NULL);
    snprintf(what, sizeof what, "%s, %s%s", mode_names[args->exact], args->no_fuse ? "not fused" : "fused",
             args->no_reuse ? ", no reuse" : "");
    return check_plan(o, plan, kiln_graph_node_count(graph), what);
}

/* The plans that a graph can become: both modes, fused and not,
 * as far as the command line leaves them open. */
static int check_graph(options *o, const kiln_graph *graph) {
    int code = EXIT_OK;
    for (int exact = 0; exact < 2; exact++)
        for (int no_fuse = 0; no_fuse < 2; no_fuse++) {
            plan_args args = o->plan;
            args.exact = exact;
            args.no_fuse = no_fuse;
            if ((o->mode != 0 && o->mode - 1 != exact) || (o->plan.no_fuse && !no_fuse))
                continue;
            if (code == EXIT_OK)
                code = bake_and_check(o, graph, &args);
        }
    return code;
}

static int check_model(options *o, const char *path) {
    model_file m = {NULL, NULL};
    kiln_graph *graph = NULL;
    kiln_error error;
    int code = model_open(&m, path);
    kiln_llama_options build = {.max_tokens = o->chunk, .context = o->context};
    if (code == EXIT_OK && (kiln_graph_create(NULL, &graph, &error) != KILN_OK ||
                            kiln_llama_build(m.llama, &build, graph, &error) != KILN_OK))
        code = fail(&error, NULL);
    if (code == EXIT_OK)
        code = check_graph(o, graph);
    kiln_graph_destroy(graph);
    model_close(&m);
    return code;
}

/* A plan dump is held against a plan baked afresh, and that plan, with the dump's own options, is checked. */
static int check_dump(options *o, const char *path, const char *text, size_t size, size_t nodes) {
    kiln_error error;
    kiln_plan *plan;
    if (kiln_plan_check_json(text, size, kiln_ops_builtin(), NULL, NULL, &error) != KILN_OK) {
        bool stale = error.status == KILN_ERROR_STALE;
        o->wrong = stale ? "the plan in the file is not the one that its graph and options give" : NULL;
        return fail_text(stale ? "the file was edited or is of another version of Kiln: dump the plan again"
                               : NULL,
                         "%s: %s", path, error.text);
    }
    if (!o->quiet)
        print_line(stdout, "%s: the plan in it is the one that is baked afresh", path);
    if (kiln_plan_from_json(text, size, kiln_ops_builtin(), NULL, NULL, &plan, &error) != KILN_OK)
        return fail_text(NULL, "%s: %s", path, error.text);
    return check_plan(o, plan, nodes, "as dumped");
}

/* Then, as for every graph, what it can be baked into is checked. */
static int check_json(options *o, const char *path, const char *text, size_t size) {
    kiln_graph *graph = NULL;
    int code = graph_open(path, text, size, &graph);
    if (code == EXIT_OK && is_plan_dump(text, size))
        code = check_dump(o, path, text, size, kiln_graph_node_count(graph));
    if (code == EXIT_OK)
        code = check_graph(o, graph);
    kiln_graph_destroy(graph);
    return code;
}

int cmd_check(int argc, char **argv) {
    options o = {.chunk = 1};
    const arg_option rows[] = {
        {"mode", 'm', ARG_CHOICE, "both|exact|fast", "precision of the plans to check (default: both)",
         &o.mode, 0, 0, modes},
        {"no-fuse", 0, ARG_FLAG, NULL, "only plans without fusion (default: with and without)",
         &o.plan.no_fuse, 0, 0, NULL},
        {"no-reuse", 0, ARG_FLAG, NULL, "every intermediate with bytes of its own", &o.plan.no_reuse, 0, 0,
         NULL},
        {"serial", 0, ARG_FLAG, NULL, "one op per region", &o.plan.serial, 0, 0, NULL},
        {"max-arena", 0, ARG_BYTES, "BYTES", "cap on intermediates (65536, 64K, 1M, 2G)", &o.plan.max_arena,
         0, INT64_MAX, NULL},
        {"chunk", 0, ARG_INT, "N", "models: most tokens of one run (default: 1)", &o.chunk, 1, INT32_MAX,
         NULL},
        {"context", 0, ARG_INT, "N", "models: positions in the KV caches (default: the\nmodel's)", &o.context,
         1, INT32_MAX, NULL},
        {"quiet", 'q', ARG_FLAG, NULL, "print nothing when all is well", &o.quiet, 0, 0, NULL},
    };
    const arg_spec spec = {
        "check",
        "GRAPH.json|PLAN.json|MODEL.gguf [OPTION...]",
        "Compares every access of every op with every other, derives all hazards, the least\n"
        "number of regions and the lives of intermediates from that, and holds the plans\n"
        "against it. A plan dump is also compared with a plan baked afresh with the options in\n"
        "it, and that plan is checked first.",
        "file",
        1,
        1,
        rows,
        sizeof rows / sizeof rows[0]};
    const char *path;
    int code = args_parse(&spec, argc, argv, &path);
    if (code != ARGS_GO_ON)
        return code;
    char *text;
    size_t size = 0;
    file_kind kind = input_open(path, &text, &size);
    if (kind == FILE_BAD)
        return EXIT_FAILED;
    code = kind == FILE_GGUF ? check_model(&o, path) : check_json(&o, path, text, size);
    free(text);
    if (!o.quiet)
        print_verdict(&o, code);
    return code;
}
