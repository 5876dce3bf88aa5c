/* kiln dump: what a file holds, and what becomes of it. */
#include "commands.h"
#include "common.h"
#include "dot.h"
#include "kiln_plan_json.h"
#include "regions.h"

#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *graph, *plan, *dot;
    int64_t chunk, context, threads; /* threads 0: no session */
    plan_args bake;
} options;

/* ---- GGUF files ------------------------------------------------------------------------------------- */

static void list_keys(const kiln_gguf *gguf) {
    printf("keys: %zu\n", kiln_gguf_kv_count(gguf));
    for (size_t i = 0; i < kiln_gguf_kv_count(gguf); i++) {
        const kiln_gguf_kv *kv = kiln_gguf_kv_at(gguf, i);
        char text[200];
        size_t length = kiln_gguf_kv_text(kv, 6, text, sizeof text);
        print_line(stdout, "  %-44s %-7s %s%s", kv->key, kiln_gguf_type_name(kv->type), text,
                   length >= sizeof text ? "…" : "");
    }
}

static void list_tensors(const kiln_gguf *gguf) {
    printf("tensors: %zu\n", kiln_gguf_tensor_count(gguf));
    for (size_t i = 0; i < kiln_gguf_tensor_count(gguf); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(gguf, i);
        char shape[100] = "", bytes[32];
        for (int32_t d = 0; d < t->ndim; d++) {
            size_t at = strlen(shape);
            snprintf(shape + at, sizeof shape - at, d ? ", %lld" : "%lld", (long long)t->dims[d]);
        }
        print_line(stdout, "  %-44s %-7s %10s  [%s]%s", t->name, t->type->name, bytes_text(t->bytes, bytes),
                   shape,
                   t->dtype == KILN_DTYPE_NONE ? "  (shown only: Kiln has no arithmetic for this type)" : "");
    }
}

static void list_parts(const kiln_gguf *gguf) {
    for (size_t i = 0; i < kiln_gguf_part_count(gguf); i++) {
        const kiln_gguf_part *p = kiln_gguf_part_at(gguf, i);
        char bytes[32];
        print_line(stdout, "%s: GGUF version %u, %s, data at %lld, alignment %u", p->path, p->version,
                   bytes_text((int64_t)p->size, bytes), (long long)p->data_offset, p->alignment);
    }
}

/* ---- graphs and plans ------------------------------------------------------------------------------- */

static int write_picture(const char *path, const kiln_plan *plan, const kiln_session *session) {
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory != NULL)
        dot_write(memory, plan, session);
    if (memory == NULL || fclose(memory) != 0) {
        free(text);
        return fail_text(NULL, "out of memory for the picture");
    }
    bool ok = write_file(path, text, size);
    free(text);
    return ok ? EXIT_OK : EXIT_FAILED;
}

static int refuse_outputs(const options *o, const char *input, const kiln_gguf *gguf) {
    const char *const outputs[] = {o->graph, o->plan, o->dot};
    int code = EXIT_OK;
    for (size_t i = 0; i < 3 && code == EXIT_OK; i++) {
        if ((code = refuse_same(outputs[i], input)) == EXIT_OK && outputs[i] != NULL)
            code = refuse_model(outputs[i], gguf);
        for (size_t k = 0; k < i && code == EXIT_OK; k++)
            code = refuse_both(outputs[i], outputs[k]);
    }
    return code;
}

/* To show what an executor would make of the plan; it is never run. */
static int prepare(const options *o, kiln_plan *plan, kiln_executor **executor, kiln_session **session) {
    kiln_cpu_options cpu = {.threads = (uint32_t)o->threads};
    kiln_error error;
    if (o->threads == 0 || (kiln_cpu_executor_create(NULL, &cpu, executor, &error) == KILN_OK &&
                            kiln_session_create(plan, *executor, NULL, session, &error) == KILN_OK))
        return EXIT_OK;
    return fail(&error, "without --threads, the plan alone is shown");
}

static int show_plan(const options *o, kiln_plan *plan) {
    kiln_executor *executor = NULL;
    kiln_session *session = NULL;
    kiln_json_text text = {0};
    kiln_error error;
    int code = prepare(o, plan, &executor, &session);
    if (code == EXIT_OK && o->plan != NULL) {
        kiln_status status = kiln_plan_to_json(plan, session, NULL, &text, &error);
        code = write_json(o->plan, status, &text, &error);
    }
    if (code == EXIT_OK && o->dot != NULL)
        code = write_picture(o->dot, plan, session);
    if (code == EXIT_OK && o->graph == NULL && o->plan == NULL && o->dot == NULL) {
        print_plan_summary(stdout, "", plan);
        if (session != NULL)
            print_regions(stdout, session);
    }
    (void)kiln_session_destroy(session, NULL); /* it has not been run */
    (void)kiln_executor_destroy(executor, NULL);
    return code;
}

/* `dump` (may be NULL) is a plan dump whose options are to be those of the plan. */
static int dump_graph(const options *o, const kiln_graph *graph, const char *dump, size_t size) {
    kiln_error error;
    kiln_json_text text = {0};
    kiln_plan *plan = NULL;
    int code = EXIT_OK;
    if (o->graph != NULL) {
        kiln_status status = kiln_graph_to_json(graph, NULL, &text, &error);
        code = write_json(o->graph, status, &text, &error);
    }
    if (code == EXIT_OK && bake_plan(graph, dump, size, &o->bake, &plan, &error) != KILN_OK)
        code = fail(&error, NULL);
    if (code == EXIT_OK)
        code = show_plan(o, plan);
    kiln_plan_release(plan);
    return code;
}

static int dump_model(const options *o, const char *path) {
    kiln_gguf *gguf = NULL;
    kiln_llama_model *model = NULL;
    kiln_graph *graph = NULL;
    kiln_error error;
    bool list = o->graph == NULL && o->plan == NULL && o->dot == NULL;
    if (kiln_gguf_open(path, NULL, &gguf, &error) != KILN_OK)
        return fail(&error, gguf_hint(&error));
    int code = refuse_outputs(o, path, gguf);
    if (code != EXIT_OK) {
        kiln_gguf_destroy(gguf);
        return code;
    }
    if (list) {
        list_parts(gguf);
        list_keys(gguf);
        list_tensors(gguf);
    }
    kiln_llama_options build = {.max_tokens = o->chunk, .max_logits = 1, .context = o->context};
    kiln_status status = kiln_llama_open(gguf, NULL, &model, &error);
    if (status == KILN_OK) {
        model_notices(model, path);
        status = kiln_graph_create(NULL, &graph, &error);
    }
    if (status == KILN_OK)
        status = kiln_llama_build(model, &build, graph, &error);
    if (status == KILN_OK)
        code = dump_graph(o, graph, NULL, 0);
    else if (list) /* any GGUF file may be looked at; only some are models that can be built */
        print_line(stdout, "graph: none (%s)", error.text);
    else
        code = fail(&error, "without options, 'kiln dump' shows what the file has");
    kiln_graph_destroy(graph);
    kiln_llama_destroy(model);
    kiln_gguf_destroy(gguf);
    return code;
}

int cmd_dump(int argc, char **argv) {
    options o = {.chunk = 1, .bake = PLAN_ARGS_NONE};
    const arg_option rows[] = {
        {"graph", 'g', ARG_TEXT, "FILE", "write the graph as JSON; '-' is stdout", &o.graph, 0, 0, NULL},
        {"plan", 'p', ARG_TEXT, "FILE",
         "write the plan as JSON: order, regions, byte ranges,\nwhy each barrier is "
         "there, the arena",
         &o.plan, 0, 0, NULL},
        {"dot", 'd', ARG_TEXT, "FILE", "write the plan as a Graphviz picture", &o.dot, 0, 0, NULL},
        {"chunk", 0, ARG_INT, "N", "models: most tokens of one run (default: 1)", &o.chunk, 1, INT32_MAX,
         NULL},
        {"context", 0, ARG_INT, "N", "models: positions in the KV caches (default: the\nmodel's)", &o.context,
         1, INT32_MAX, NULL},
        {"threads", 't', ARG_INT, "T",
         "show also what an executor of T threads makes of it:\nwhat is shared, serial runs, kernels",
         &o.threads, 1, 1024, NULL},
        PLAN_OPTIONS(o.bake),
    };
    const arg_spec spec = {
        "dump",
        "MODEL.gguf|GRAPH.json [--graph FILE] [--plan FILE] [--dot FILE] [OPTION...]",
        "Shows a model file (keys, tensors) or a graph, and a summary of its plan; or writes\n"
        "its graph, plan or picture.",
        "model or graph",
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
    if (kind == FILE_GGUF)
        return dump_model(&o, path);
    kiln_graph *graph = NULL;
    if ((code = refuse_outputs(&o, path, NULL)) == EXIT_OK)
        code = graph_open(path, text, size, &graph);
    if (code == EXIT_OK)
        code = dump_graph(&o, graph, plan_text(text, size, &o.bake), size);
    kiln_graph_destroy(graph);
    free(text);
    return code;
}
