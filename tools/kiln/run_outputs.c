#include "run.h"
#include "tools/llm/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_number(kiln_dtype dtype) {
    kiln_dtype_kind kind = kiln_dtype_get(dtype)->kind;
    return kind == KILN_KIND_FLOAT || kind == KILN_KIND_INT;
}

/* ---- before the run --------------------------------------------------------------------------------- */

static int check_dtype(const run_part *p) {
    char label[RUN_LABEL_SIZE];
    if (is_number(p->info.desc.dtype) && p->info.desc.dtype != KILN_BF16)
        return EXIT_OK;
    return fail_text("copy it to f32 in the graph", "output '%s' is %s, which .npy has no type for",
                     run_part_label(p, label), kiln_dtype_get(p->info.desc.dtype)->name);
}

/* No file is written that is read, and none twice; `outputs` of those named by --output stand before it. */
static int check_target(const runner *r, const char *path, const char *graph, size_t outputs) {
    size_t length;
    int code = refuse_same(path, graph);
    if (code == EXIT_OK)
        code = refuse_model(path, r->gguf);
    for (size_t k = 0; k < r->opt->inputs.count && code == EXIT_OK; k++)
        code = refuse_same(path, run_split(r->opt->inputs.items[k], &length));
    for (size_t k = 0; k < outputs && code == EXIT_OK; k++)
        code = refuse_both(path, run_split(r->opt->outputs.items[k], &length));
    return code;
}

int run_check_outputs(runner *r, const char *graph) {
    int code = EXIT_OK;
    r->outputs = calloc(r->opt->outputs.count + 1, sizeof(run_part *));
    if (r->outputs == NULL)
        return fail_text(NULL, "out of memory");
    for (size_t i = 0; i < r->opt->outputs.count && code == EXIT_OK; i++) {
        size_t length;
        const char *text = r->opt->outputs.items[i], *path = run_split(text, &length);
        if (path == NULL)
            return args_usage("run", "--output is '%s'; expected NAME=FILE.npy", text);
        if (strcmp(path, "-") == 0)
            return args_usage("run", "--output is '%s'; stdout is for the lines about outputs", text);
        code = run_part_named(r, text, length, true, &r->outputs[i], NULL);
        if (code == EXIT_OK && (code = check_dtype(r->outputs[i])) == EXIT_OK)
            code = check_target(r, path, graph, i);
    }
    if (code == EXIT_OK && r->opt->dump != NULL)
        code = check_target(r, r->opt->dump, graph, r->opt->outputs.count);
    if (code == EXIT_OK && r->opt->trace != NULL)
        code = check_target(r, r->opt->trace, graph, r->opt->outputs.count);
    return code == EXIT_OK ? refuse_both(r->opt->trace, r->opt->dump) : code;
}

/* ---- after it --------------------------------------------------------------------------------------- */

/* The number at `at`, which need not be aligned. */
static double value_at(kiln_dtype dtype, const unsigned char *at) {
    float f;
    uint16_t half;
    int32_t i;
    uint32_t u;
    int64_t l;
    switch (dtype) {
    case KILN_F32:
        return (double)(memcpy(&f, at, sizeof f), f);
    case KILN_F16:
        return (double)float_from_half((memcpy(&half, at, sizeof half), half));
    case KILN_BF16:
        return (double)float_from_bfloat((memcpy(&half, at, sizeof half), half));
    case KILN_I32:
        return (double)(memcpy(&i, at, sizeof i), i);
    case KILN_U32:
        return (double)(memcpy(&u, at, sizeof u), u);
    case KILN_I64:
        return (double)(memcpy(&l, at, sizeof l), l);
    case KILN_U8:
        return (double)*at;
    default:
        return NAN; /* so that a new dtype cannot look right */
    }
}

/* One line: what an output is, and for numbers the range and mean of those that are finite, which show most
 * mistakes at a glance. */
static void summarise(const runner *r, const run_part *p, const unsigned char *data) {
    kiln_dtype dtype = p->info.desc.dtype;
    int64_t counts[KILN_MAX_DIMS], n = run_elements(r, p, counts);
    char shape[100] = "", range[120] = "", wrong[60] = "", label[RUN_LABEL_SIZE];
    for (uint32_t i = 0, at = 0; i < p->info.desc.ndim; i++) {
        int64_t count = i + 1 < p->info.desc.ndim ? counts[i] : counts[i] * kiln_dtype_get(dtype)->block;
        at += (uint32_t)snprintf(shape + at, sizeof shape - at, i ? ", %lld" : "%lld", (long long)count);
    }
    double low = INFINITY, high = -INFINITY, sum = 0;
    int64_t bad = 0;
    for (int64_t i = 0; i < n && is_number(dtype); i++) {
        double value = value_at(dtype, data + run_byte_of(p, counts, i));
        if (!isfinite(value)) {
            bad++;
            continue;
        }
        low = value < low ? value : low;
        high = value > high ? value : high;
        sum += value;
    }
    if (low <= high)
        snprintf(range, sizeof range, ": from %.7g to %.7g, mean %.7g", low, high, sum / (double)(n - bad));
    if (bad > 0)
        snprintf(wrong, sizeof wrong, "%s%lld NaN or Inf", low <= high ? ", " : ": ", (long long)bad);
    print_line(stdout, "%s %s [%s]%s%s%s", run_part_label(p, label), kiln_dtype_get(dtype)->name, shape,
               range, wrong, p->storage.written ? "" : "; no node writes it");
}

/* Gathers an output's elements, which need not lie next to each other, and writes them. */
static int write_output(const runner *r, const char *path, const run_part *p, const unsigned char *data) {
    int64_t counts[KILN_MAX_DIMS], n = run_elements(r, p, counts);
    uint32_t bytes = kiln_dtype_get(p->info.desc.dtype)->bytes;
    kiln_error error;
    unsigned char *dense = malloc((size_t)n * bytes + 1);
    if (dense == NULL)
        return fail_text(NULL, "out of memory for %s", path);
    for (int64_t i = 0; i < n; i++)
        memcpy(dense + i * bytes, data + run_byte_of(p, counts, i), bytes);
    kiln_status status =
        kiln_npy_write(path, p->info.desc.dtype, (int32_t)p->info.desc.ndim, counts, dense, &error);
    free(dense);
    return status == KILN_OK
               ? EXIT_OK
               : fail(&error,
                      status == KILN_ERROR_SYSTEM ? "does the folder exist, and may you write there?" : NULL);
}

int run_put_outputs(const runner *r) {
    int code = EXIT_OK;
    for (size_t i = 0; i < r->opt->outputs.count && code == EXIT_OK; i++) {
        size_t length;
        const char *path = run_split(r->opt->outputs.items[i], &length);
        code = write_output(r, path, r->outputs[i], kiln_session_data(r->session, r->outputs[i]->tensor));
    }
    for (size_t i = 0; i < r->n_parts && code == EXIT_OK; i++)
        if (r->parts[i].storage.kind == KILN_STORAGE_OUTPUT)
            summarise(r, &r->parts[i], kiln_session_data(r->session, r->parts[i].tensor));
    return code;
}
