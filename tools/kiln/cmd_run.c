/* kiln run: one run of a graph, inputs from files or random, outputs to files. */
#include "commands.h"
#include "kiln_ops.h"
#include "kiln_plan_json.h"
#include "regions.h"
#include "run.h"

#include <stdlib.h>
#include <string.h>

static int prepare(runner *r, const char *path) {
    const run_options *o = r->opt;
    kiln_error error;
    size_t size = 0;
    file_kind kind = input_open(path, &r->text, &size);
    if (kind == FILE_GGUF)
        return fail_text("'kiln dump MODEL.gguf --graph FILE' writes its graph", "'%s' is a model, no graph",
                         path);
    int code = kind == FILE_JSON ? graph_open(path, r->text, size, &r->graph) : EXIT_FAILED;
    if (code != EXIT_OK)
        return code;
    const char *dump = plan_text(r->text, size, &o->plan);
    kiln_cpu_options cpu = {.threads = (uint32_t)o->threads};
    if (bake_plan(r->graph, dump, size, &o->plan, &r->plan, &error) != KILN_OK ||
        kiln_cpu_executor_create(NULL, &cpu, &r->executor, &error) != KILN_OK ||
        kiln_session_create(r->plan, r->executor, NULL, &r->session, &error) != KILN_OK)
        return fail(&error, NULL);
    if ((code = run_find_parts(r)) != EXIT_OK)
        return code;
    return run_list_slots(r);
}

static int dump_plan(const runner *r) {
    kiln_json_text text = {0};
    kiln_error error;
    kiln_status status = kiln_plan_to_json(r->plan, r->session, NULL, &text, &error);
    return write_json(r->opt->dump, status, &text, &error);
}

static int warm(const runner *r) {
    kiln_warm_report report;
    kiln_error error;
    if (kiln_session_warm(r->session, NULL, &report, &error) != KILN_OK)
        return fail(&error, NULL);
    print_warm_report(stderr, &report);
    return EXIT_OK;
}

static int run(runner *r, const char *path) {
    kiln_error error;
    int code = prepare(r, path);
    if (code == EXIT_OK)
        code = run_set_slots(r);
    if (code == EXIT_OK)
        code = run_read_inputs(r);
    if (code == EXIT_OK)
        code = run_check_outputs(r, path);
    if (code == EXIT_OK)
        code = run_apply_slots(r);
    if (code == EXIT_OK)
        code = run_feed(r);
    if (code != EXIT_OK)
        return code;
    if (r->opt->warm && (code = warm(r)) != EXIT_OK)
        return code;
    if (r->opt->plan.time && kiln_session_observe(r->session, KILN_WATCH_TIME, NULL, NULL, &error) != KILN_OK)
        return fail(&error, NULL);
    if (r->opt->trace != NULL && (code = trace_begin(r->session, r->opt->trace)) != EXIT_OK)
        return code;
    int64_t start = now_ns();
    if (kiln_run(r->session, &error) != KILN_OK)
        return fail(&error,
                    error.status == KILN_ERROR_INDEX
                        ? "an input holds an index that is out of range; random:SEED:LIMIT bounds them"
                        : NULL);
    fprintf(stderr, "kiln: ran once in %.3f ms\n", (double)(now_ns() - start) / 1e6);
    if (r->opt->dump != NULL)
        print_regions_summary(stderr, "kiln: ", r->session);
    code = r->opt->dump != NULL ? dump_plan(r) : EXIT_OK;
    if (code == EXIT_OK && r->opt->trace != NULL)
        code = trace_write(r->session, r->opt->trace);
    return code == EXIT_OK ? run_put_outputs(r) : code;
}

static void release(runner *r) {
    (void)kiln_session_destroy(r->session, NULL); /* nothing is running any more */
    for (size_t i = 0; i < r->n_states; i++)
        (void)kiln_state_buffer_destroy(r->states[i], NULL);
    for (size_t i = 0; i < r->n_owned; i++)
        free(r->owned[i]);
    for (size_t i = 0; i < r->n_parts; i++)
        kiln_npy_release(&r->parts[i].npy);
    free(r->text);
    free((void *)r->states);
    free((void *)r->owned);
    free((void *)r->outputs);
    free(r->parts);
    free(r->slots);
    free(r->slot_infos);
    (void)kiln_executor_destroy(r->executor, NULL);
    kiln_plan_release(r->plan);
    kiln_graph_destroy(r->graph);
    kiln_gguf_destroy(r->gguf);
}

int cmd_run(int argc, char **argv) {
    run_options o = {.plan = PLAN_ARGS_NONE};
    const arg_option rows[] = {
        {"weights", 'w', ARG_TEXT, "SOURCE",
         "GGUF file: weights are its parts (gguf.N) or its\ntensors, by name; or random:SEED", &o.weights, 0,
         0, NULL},
        {"input", 'i', ARG_LIST, "NAME=SOURCE",
         "FILE.npy, random:SEED or random:SEED:LIMIT (integers\nbelow LIMIT, "
         "default 2); weights may be given so too",
         &o.inputs, 0, 0, NULL},
        {"output", 'o', ARG_LIST, "NAME=FILE.npy", "write an output", &o.outputs, 0, 0, NULL},
        {"set", 's', ARG_LIST, "SLOT=VALUE",
         "set a slot; symbols not set follow the inputs' shapes,\nelse have "
         "their maximum",
         &o.slots, 0, 0, NULL},
        {"plan", 'p', ARG_TEXT, "FILE",
         "write the plan as JSON after the run, with its records:\nkernels and tiles", &o.dump, 0, 0, NULL},
        {"time", 0, ARG_FLAG, NULL,
         "and the time each record took; tensors with names\nare then computed on their own, not fused away",
         &o.plan.time, 0, 0, NULL},
        TRACE_OPTION(o.trace),
        {"warm", 0, ARG_FLAG, NULL,
         "warm up before the run, and say what the first call\nand later ones take", &o.warm, 0, 0, NULL},
        THREADS_OPTION(o.threads),
        PLAN_OPTIONS(o.plan),
    };
    const arg_spec spec = {
        "run",
        "GRAPH.json [--weights SOURCE] [--input NAME=SOURCE] [--output NAME=FILE.npy] "
        "[OPTION...]",
        "Bakes a graph, runs it once and prints a line about each output. States begin as\n"
        "zeros. NAME is that of an input, weight or output; where one holds several tensors\n"
        "side by side, that of one of these. Inputs not given are zeros, and it says which.",
        "graph",
        1,
        1,
        rows,
        sizeof rows / sizeof rows[0]};
    const char *path;
    int code = args_parse(&spec, argc, argv, &path);
    if (code == ARGS_GO_ON && o.plan.time && o.dump == NULL)
        code = args_usage("run", "--time is for --plan FILE, which has the times");
    if (code == ARGS_GO_ON && o.dump != NULL && strcmp(o.dump, "-") == 0)
        code = args_usage("run", "--plan is '-'; stdout is for the lines about outputs");
    if (code == ARGS_GO_ON && o.trace != NULL && strcmp(o.trace, "-") == 0)
        code = args_usage("run", "--trace is '-'; stdout is for the lines about outputs");
    if (code == ARGS_GO_ON) {
        runner r = {.opt = &o};
        code = run(&r, path);
        release(&r);
    }
    free((void *)o.inputs.items);
    free((void *)o.outputs.items);
    free((void *)o.slots.items);
    return code;
}
