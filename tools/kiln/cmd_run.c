/* kiln run: one run of a graph, inputs from files or random, outputs to files. */
#include "commands.h"
#include "common.h"
#include "half.h"
#include "kiln_ops.h"
#include "kiln_plan_json.h"
#include "regions.h"
#include "tools/npy/npy.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *weights, *dump, *trace;
    arg_list inputs, outputs, slots;
    int64_t threads;
    bool warm;
    plan_args plan;
} options;

/* A weight or input whose bytes come from the command line. */
typedef struct given {
    kiln_storage_info storage;
    kiln_tensor tensor;
    kiln_tensor_info info;
    const char *source; /* behind the '=' */
    kiln_npy npy;       /* data NULL when random */
    void *bytes;        /* what a weight is bound to */
} given;

typedef struct runner {
    const options *opt;
    char *text; /* of the graph's file */
    kiln_graph *graph;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    kiln_gguf *gguf;
    kiln_state_buffer **states;
    size_t n_states;
    given *given;
    size_t n_given;
    int64_t *slots;             /* values of integer slots, by id */
    kiln_slot_info *slot_infos; /* by id */
    size_t slots_end;           /* one more than the largest id */
} runner;

#define UNSET INT64_MIN

/* "NAME=REST": the length of NAME, and REST; names may hold '=' but the last part does not. */
static const char *split(const char *text, size_t *length) {
    const char *at = strchr(text, '=');
    *length = at != NULL ? (size_t)(at - text) : 0;
    return at != NULL && at > text && at[1] != '\0' ? at + 1 : NULL;
}

static bool storage_named(const runner *r, const char *name, size_t length, kiln_storage_info *out) {
    for (size_t i = 0; kiln_plan_storage_at(r->plan, i, out); i++)
        if (strlen(out->name) == length && memcmp(out->name, name, length) == 0)
            return true;
    return false;
}

/* "a, b, c": what there is to choose from. */
static const char *names_of(const runner *r, bool (*wanted)(kiln_storage_kind), char *buffer, size_t size) {
    kiln_storage_info s;
    size_t at = 0;
    snprintf(buffer, size, "there are none");
    for (size_t i = 0; kiln_plan_storage_at(r->plan, i, &s); i++)
        if (wanted(s.kind) && at < size)
            at += (size_t)snprintf(buffer + at, size - at, at ? ", %s" : "there are: %s", s.name);
    return buffer;
}

static bool is_fed(kiln_storage_kind kind) {
    return kind == KILN_STORAGE_INPUT || kind == KILN_STORAGE_WEIGHT;
}

static bool is_output(kiln_storage_kind kind) {
    return kind == KILN_STORAGE_OUTPUT;
}

static bool is_number(kiln_dtype dtype) {
    kiln_dtype_kind kind = kiln_dtype_get(dtype)->kind;
    return kind == KILN_KIND_FLOAT || kind == KILN_KIND_INT;
}

/* ---- slots ------------------------------------------------------------------------------------------ */

static int set_slots(runner *r) {
    for (size_t i = 0; i < r->opt->slots.count; i++) {
        const char *text = r->opt->slots.items[i];
        char name[256];
        size_t length;
        const char *value = split(text, &length);
        if (value == NULL || length >= sizeof name)
            return args_usage("run", "--set is '%s'; expected SLOT=VALUE", text);
        snprintf(name, sizeof name, "%.*s", (int)length, text);
        kiln_slot slot = kiln_plan_slot(r->plan, name);
        if (slot.id == 0)
            return fail_text("'kiln dump GRAPH.json --graph -' shows the slots", "the graph has no slot '%s'",
                             name);
        const kiln_slot_info *s = &r->slot_infos[slot.id];
        kiln_error error;
        char *end;
        if (s->is_float) {
            float f = strtof(value, &end);
            if (*end != '\0' || !isfinite(f))
                return args_usage("run", "slot '%s' is '%s'; expected a number from %g to %g", name, value,
                                  -(double)FLT_MAX, (double)FLT_MAX);
            if (kiln_session_set_f32(r->session, slot, f, &error) != KILN_OK)
                return fail(&error, NULL);
        } else if (!args_int(value, s->min, s->max, &r->slots[slot.id])) {
            return fail_text(NULL, "slot '%s' is '%s'; expected an integer from %lld to %lld", name, value,
                             (long long)s->min, (long long)s->max);
        }
    }
    return EXIT_OK;
}

/* What the graph says a dimension is: "4", "a multiple of 2" or "6 (2 times n, and that is 3)". */
static const char *dim_text(const runner *r, kiln_dim d, const int64_t *slot, char *buffer, size_t size) {
    if (slot == NULL) {
        snprintf(buffer, size, "%lld", (long long)d.n);
    } else if (*slot == UNSET) {
        snprintf(buffer, size, "a multiple of %lld", (long long)d.n);
    } else {
        int64_t n = d.n * *slot;
        snprintf(buffer, size, "%lld (%lld times %.80s, and that is %lld)", (long long)n, (long long)d.n,
                 r->slot_infos[d.slot].name, (long long)*slot);
    }
    return buffer;
}

/* A file's shape says what the symbols in the input's shape are. */
static int infer_slots(runner *r, const given *g) {
    const kiln_desc *d = &g->info.desc;
    if (g->npy.dtype != d->dtype || g->npy.ndim != (int32_t)d->ndim)
        return fail_text(NULL, "input '%s' is %s with %u dimensions, but %s holds %s with %d",
                         g->storage.name, kiln_dtype_get(d->dtype)->name, d->ndim, g->source,
                         kiln_dtype_get(g->npy.dtype)->name, g->npy.ndim);
    for (uint32_t i = 0; i < d->ndim; i++) {
        int64_t n = d->dims[i].n, count = g->npy.dims[i];
        int64_t *slot = d->dims[i].slot ? &r->slots[d->dims[i].slot] : NULL;
        if (slot != NULL && *slot == UNSET && n > 0 && count % n == 0)
            *slot = count / n;
        char text[300];
        if ((slot != NULL && *slot == UNSET) || count != n * (slot ? *slot : 1))
            return fail_text("shapes are outermost first; --set SLOT=VALUE sets a symbol",
                             "input '%s': dimension %u is %lld in %s, but the graph says %s", g->storage.name,
                             i, (long long)count, g->source,
                             dim_text(r, d->dims[i], slot, text, sizeof text));
    }
    return EXIT_OK;
}

/* Every slot of the plan, none of them set. */
static int list_slots(runner *r) {
    kiln_slot_info info;
    for (size_t i = 0; kiln_plan_slot_at(r->plan, i, &info); i++)
        if (info.slot.id >= r->slots_end)
            r->slots_end = (size_t)info.slot.id + 1;
    r->slots = calloc(r->slots_end + 1, sizeof *r->slots);
    r->slot_infos = calloc(r->slots_end + 1, sizeof *r->slot_infos);
    if (r->slots == NULL || r->slot_infos == NULL)
        return fail_text(NULL, "out of memory");
    for (size_t i = 0; kiln_plan_slot_at(r->plan, i, &info); i++) {
        r->slots[info.slot.id] = UNSET;
        r->slot_infos[info.slot.id] = info;
    }
    return EXIT_OK;
}

/* Symbols that nothing has said anything about take their maximum, other slots keep their minimum. */
static int apply_slots(runner *r) {
    kiln_tensor_info info;
    kiln_error error;
    for (size_t i = 0; kiln_plan_tensor_get(r->plan, kiln_plan_tensor_at(r->plan, i), &info) == KILN_OK; i++)
        for (uint32_t d = 0; d < info.desc.ndim; d++) {
            uint32_t slot = info.desc.dims[d].slot;
            if (slot != 0 && r->slots[slot] == UNSET)
                r->slots[slot] = r->slot_infos[slot].max;
        }
    for (size_t i = 0; i < r->slots_end; i++) {
        const kiln_slot_info *s = &r->slot_infos[i];
        if (s->slot.id == 0 || s->is_float)
            continue;
        if (r->slots[i] == UNSET)
            r->slots[i] = s->min;
        if (kiln_session_set_i64(r->session, s->slot, r->slots[i], &error) != KILN_OK)
            return fail(&error, "--set SLOT=VALUE sets a slot");
    }
    return EXIT_OK;
}

/* ---- inputs and weights ----------------------------------------------------------------------------- */

static int64_t count_of(const runner *r, kiln_dim d) {
    return d.n * (d.slot ? r->slots[d.slot] : 1);
}

/* Where element `i` (row-major) of a tensor lies, in bytes from its first. */
static int64_t byte_of(const kiln_desc *d, const int64_t *counts, int64_t i) {
    int64_t at = 0;
    for (uint32_t k = d->ndim; k-- > 0; i /= counts[k])
        at += i % counts[k] * d->strides[k];
    return at;
}

static int64_t elements(const runner *r, const kiln_desc *d, int64_t counts[KILN_MAX_DIMS]) {
    int64_t n = 1;
    for (uint32_t i = 0; i < d->ndim; i++)
        n *= counts[i] = count_of(r, d->dims[i]);
    return n;
}

/* SplitMix64: a few lines, the same on every machine. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Floats in [-1, 1), integers in [0, limit). */
static void put_random(unsigned char *to, kiln_dtype dtype, uint64_t bits, int64_t limit) {
    float f = (float)((double)(bits >> 40) / 8388608.0 - 1.0);
    uint16_t half = dtype == KILN_F16 ? half_from_float(f) : bfloat_from_float(f);
    int64_t value = (int64_t)(bits % (uint64_t)limit);
    if (dtype == KILN_F32)
        memcpy(to, &f, sizeof f);
    else if (dtype == KILN_F16 || dtype == KILN_BF16)
        memcpy(to, &half, sizeof half);
    else /* little-endian, so that the low bytes come first */
        memcpy(to, &value, kiln_dtype_get(dtype)->bytes);
}

/* One more than the largest integer; where there is no such number, the largest. */
static int64_t most_limit(kiln_dtype dtype) {
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    if (info->kind != KILN_KIND_INT || info->bytes >= 8)
        return INT64_MAX;
    bool is_unsigned = dtype == KILN_U8 || dtype == KILN_U32;
    return (int64_t)1 << (8 * info->bytes - (is_unsigned ? 0 : 1));
}

/* "random:SEED" or "random:SEED:LIMIT" */
static bool parse_random(const char *source, kiln_dtype dtype, int64_t *seed, int64_t *limit) {
    char text[64];
    if (strncmp(source, "random:", 7) != 0 || strlen(source + 7) >= sizeof text)
        return false;
    snprintf(text, sizeof text, "%s", source + 7);
    char *colon = strchr(text, ':');
    *limit = 2;
    if (colon != NULL)
        *colon++ = '\0';
    return args_int(text, 0, INT64_MAX, seed) &&
           (colon == NULL || args_int(colon, 1, most_limit(dtype), limit));
}

static int parse_given(runner *r, const char *text, given *g) {
    size_t length;
    char names[300];
    kiln_error error;
    memset(g, 0, sizeof *g);
    g->source = split(text, &length);
    if (g->source == NULL)
        return args_usage("run", "--input is '%s'; expected NAME=FILE.npy or NAME=random:SEED", text);
    if (!storage_named(r, text, length, &g->storage) || !is_fed(g->storage.kind))
        return fail_text(names_of(r, is_fed, names, sizeof names), "the graph has no input or weight '%.*s'",
                         (int)length, text);
    for (const given *other = r->given; other < g; other++)
        if (other->storage.storage.id == g->storage.storage.id)
            return args_usage("run", "--input gives '%s' twice", g->storage.name);
    g->tensor = kiln_plan_tensor(r->plan, g->storage.name);
    if (kiln_plan_tensor_get(r->plan, g->tensor, &g->info) != KILN_OK)
        return fail_text("--weights binds storages that hold many tensors",
                         "'%s' is a storage without a tensor of that name", g->storage.name);
    if (strncmp(g->source, "random:", 7) != 0) {
        if (kiln_npy_read(g->source, 0, (kiln_allocator){0}, &g->npy, &error) != KILN_OK)
            return fail(&error, "inputs are .npy files, as numpy.save writes them, or random:SEED");
        return infer_slots(r, g);
    }
    int64_t seed, limit;
    if (!parse_random(g->source, g->info.desc.dtype, &seed, &limit))
        return args_usage(
            "run",
            "'%s': expected random:SEED, or random:SEED:LIMIT for integers below LIMIT (%s: 1 to %lld)",
            g->source, kiln_dtype_get(g->info.desc.dtype)->name, (long long)most_limit(g->info.desc.dtype));
    if (!is_number(g->info.desc.dtype))
        return fail_text("--weights F.gguf brings quantised weights", "'%s' is %s, which cannot be random",
                         g->storage.name, kiln_dtype_get(g->info.desc.dtype)->name);
    return EXIT_OK;
}

static void fill(const runner *r, const given *g, unsigned char *to) {
    int64_t counts[KILN_MAX_DIMS], seed = 0, limit = 2, n = elements(r, &g->info.desc, counts);
    uint32_t bytes = kiln_dtype_get(g->info.desc.dtype)->bytes;
    if (g->npy.data == NULL)
        (void)parse_random(g->source, g->info.desc.dtype, &seed, &limit); /* was checked when it was read */
    uint64_t state = (uint64_t)seed;
    for (int64_t i = 0; i < n; i++) {
        unsigned char *at = to + byte_of(&g->info.desc, counts, i);
        if (g->npy.data != NULL)
            memcpy(at, (const unsigned char *)g->npy.data + i * bytes, bytes);
        else
            put_random(at, g->info.desc.dtype, next_random(&state), limit);
    }
}

static int feed(runner *r) {
    kiln_error error;
    for (size_t i = 0; i < r->n_given; i++) {
        given *g = &r->given[i];
        if (g->storage.kind == KILN_STORAGE_INPUT) {
            fill(r, g, kiln_session_data(r->session, g->tensor));
            continue;
        }
        g->bytes = aligned_alloc(64, ((size_t)g->storage.size + 127) & ~(size_t)63);
        if (g->bytes == NULL)
            return fail_text(NULL, "out of memory for weight '%s'", g->storage.name);
        fill(r, g, (unsigned char *)g->bytes + g->info.offset);
        if (kiln_session_bind(r->session, g->storage.storage, g->bytes, g->storage.size, &error) != KILN_OK)
            return fail(&error, NULL);
    }
    return EXIT_OK;
}

static bool is_given(const runner *r, kiln_storage storage) {
    for (size_t i = 0; i < r->n_given; i++)
        if (r->given[i].storage.storage.id == storage.id)
            return true;
    return false;
}

/* A weight storage is a whole part of the file (gguf.N, as 'kiln dump' writes it) or one of its tensors. */
static int bind_weight(runner *r, const kiln_storage_info *s) {
    kiln_error error;
    const void *data = NULL;
    int64_t size = 0, part;
    if (r->gguf == NULL)
        return fail_text("--weights FILE.gguf, or --input NAME=FILE.npy", "weight '%s' has no data", s->name);
    const kiln_gguf_tensor *t = kiln_gguf_tensor_find(r->gguf, s->name);
    if (strncmp(s->name, "gguf.", 5) == 0 && args_int(s->name + 5, 0, INT32_MAX, &part) &&
        (size_t)part < kiln_gguf_part_count(r->gguf)) {
        data = kiln_gguf_part_at(r->gguf, (size_t)part)->base;
        size = (int64_t)kiln_gguf_part_at(r->gguf, (size_t)part)->size;
    } else if (t != NULL) {
        data = t->data;
        size = t->bytes;
    }
    if (data == NULL)
        return fail_text("--input NAME=FILE.npy gives it from another file", "%s has no tensor '%s'",
                         r->opt->weights, s->name);
    if (size != s->size)
        return fail_text("are these the weights that the graph was made for?",
                         "weight '%s' has %lld bytes in the graph, but %lld in %s", s->name,
                         (long long)s->size, (long long)size, r->opt->weights);
    /* Weights are never written: the const goes because outputs are bound by the same call. */
    if (kiln_session_bind(r->session, s->storage, (void *)(uintptr_t)data, size, &error) != KILN_OK)
        return fail(&error, NULL);
    return EXIT_OK;
}

static int bind_storages(runner *r) {
    kiln_storage_info s;
    kiln_error error;
    for (size_t i = 0; kiln_plan_storage_at(r->plan, i, &s); i++) {
        if (s.kind == KILN_STORAGE_WEIGHT && !is_given(r, s.storage)) {
            int code = bind_weight(r, &s);
            if (code != EXIT_OK)
                return code;
        }
        if (s.kind == KILN_STORAGE_INPUT && !is_given(r, s.storage))
            print_line(stderr, "kiln: input '%s' is not given; it is all zeros", s.name);
        if (s.kind != KILN_STORAGE_STATE)
            continue;
        kiln_state_buffer **grown = realloc(r->states, (r->n_states + 1) * sizeof(kiln_state_buffer *));
        if (grown == NULL)
            return fail_text(NULL, "out of memory for state '%s'", s.name);
        r->states = grown;
        r->states[r->n_states] = NULL;
        if (kiln_state_buffer_create(NULL, s.size, &r->states[r->n_states], &error) != KILN_OK ||
            kiln_session_bind_state(r->session, s.storage, r->states[r->n_states++], &error) != KILN_OK)
            return fail(&error, NULL);
    }
    return EXIT_OK;
}

/* ---- outputs ---------------------------------------------------------------------------------------- */

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
static void summarise(const runner *r, const kiln_storage_info *s, const kiln_tensor_info *info,
                      const unsigned char *data) {
    kiln_dtype dtype = info->desc.dtype;
    int64_t counts[KILN_MAX_DIMS], n = elements(r, &info->desc, counts);
    char shape[100] = "", range[120] = "", wrong[60] = "";
    for (uint32_t i = 0, at = 0; i < info->desc.ndim; i++)
        at += (uint32_t)snprintf(shape + at, sizeof shape - at, i ? ", %lld" : "%lld", (long long)counts[i]);
    double low = INFINITY, high = -INFINITY, sum = 0;
    int64_t bad = 0;
    for (int64_t i = 0; i < n && is_number(dtype); i++) {
        double value = value_at(dtype, data + byte_of(&info->desc, counts, i));
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
    print_line(stdout, "%s %s [%s]%s%s", s->name, kiln_dtype_get(dtype)->name, shape, range, wrong);
}

/* Gathers an output's elements, which need not lie next to each other, and writes them. */
static int write_output(const runner *r, const char *path, const kiln_tensor_info *info,
                        const unsigned char *data) {
    int64_t counts[KILN_MAX_DIMS], n = elements(r, &info->desc, counts);
    uint32_t bytes = kiln_dtype_get(info->desc.dtype)->bytes;
    kiln_error error;
    unsigned char *dense = malloc((size_t)n * bytes + 1);
    if (dense == NULL)
        return fail_text(NULL, "out of memory for %s", path);
    for (int64_t i = 0; i < n; i++)
        memcpy(dense + i * bytes, data + byte_of(&info->desc, counts, i), bytes);
    kiln_status status =
        kiln_npy_write(path, info->desc.dtype, (int32_t)info->desc.ndim, counts, dense, &error);
    free(dense);
    return status == KILN_OK
               ? EXIT_OK
               : fail(&error,
                      status == KILN_ERROR_SYSTEM ? "does the folder exist, and may you write there?" : NULL);
}

static int outputs(const runner *r) {
    kiln_storage_info s;
    kiln_tensor_info info;
    for (size_t i = 0; i < r->opt->outputs.count; i++) {
        size_t length;
        const char *text = r->opt->outputs.items[i], *path = split(text, &length);
        if (path == NULL || !storage_named(r, text, length, &s))
            continue; /* was refused before the run */
        kiln_tensor t = kiln_plan_tensor(r->plan, s.name);
        if (kiln_plan_tensor_get(r->plan, t, &info) != KILN_OK)
            continue; /* the same */
        int code = write_output(r, path, &info, kiln_session_data(r->session, t));
        if (code != EXIT_OK)
            return code;
    }
    for (size_t i = 0; kiln_plan_storage_at(r->plan, i, &s); i++) {
        kiln_tensor t = kiln_plan_tensor(r->plan, s.name);
        if (is_output(s.kind) && kiln_plan_tensor_get(r->plan, t, &info) == KILN_OK)
            summarise(r, &s, &info, kiln_session_data(r->session, t));
    }
    return EXIT_OK;
}

/* ---- all of it -------------------------------------------------------------------------------------- */

static int prepare(runner *r, const char *path) {
    const options *o = r->opt;
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
    if (o->weights != NULL && kiln_gguf_open(o->weights, NULL, &r->gguf, &error) != KILN_OK)
        return fail(&error,
                    error.status == KILN_ERROR_FORMAT ? "--weights takes a GGUF file" : gguf_hint(&error));
    r->given = calloc(o->inputs.count + 1, sizeof *r->given);
    if (r->given == NULL)
        return fail_text(NULL, "out of memory");
    return list_slots(r);
}

/* Found before the run, which may take long. */
static int check_dtype(const runner *r, const kiln_storage_info *s) {
    kiln_tensor_info info;
    if (kiln_plan_tensor_get(r->plan, kiln_plan_tensor(r->plan, s->name), &info) != KILN_OK)
        return fail_text(NULL, "output '%s' is a storage without a tensor of that name", s->name);
    if (is_number(info.desc.dtype) && info.desc.dtype != KILN_BF16)
        return EXIT_OK;
    return fail_text("copy it to f32 in the graph", "output '%s' is %s, which .npy has no type for", s->name,
                     kiln_dtype_get(info.desc.dtype)->name);
}

/* No file is written that is read, and none twice; `outputs` of those named by --output stand before it. */
static int check_target(const runner *r, const char *path, const char *graph, size_t outputs) {
    size_t length;
    int code = refuse_same(path, graph);
    if (code == EXIT_OK)
        code = refuse_model(path, r->gguf);
    for (size_t k = 0; k < r->opt->inputs.count && code == EXIT_OK; k++)
        code = refuse_same(path, split(r->opt->inputs.items[k], &length));
    for (size_t k = 0; k < outputs && code == EXIT_OK; k++)
        code = refuse_both(path, split(r->opt->outputs.items[k], &length));
    return code;
}

/* An output must be one that the graph has. */
static int check_outputs(const runner *r, const char *graph) {
    kiln_storage_info s;
    char names[300];
    int code = EXIT_OK;
    for (size_t i = 0; i < r->opt->outputs.count && code == EXIT_OK; i++) {
        size_t length;
        const char *text = r->opt->outputs.items[i], *path = split(text, &length);
        if (path == NULL)
            return args_usage("run", "--output is '%s'; expected NAME=FILE.npy", text);
        if (strcmp(path, "-") == 0)
            return args_usage("run", "--output is '%s'; stdout is for the lines about outputs", text);
        if (!storage_named(r, text, length, &s) || !is_output(s.kind))
            return fail_text(names_of(r, is_output, names, sizeof names), "the graph has no output '%.*s'",
                             (int)length, text);
        if ((code = check_dtype(r, &s)) == EXIT_OK)
            code = check_target(r, path, graph, i);
    }
    if (code == EXIT_OK && r->opt->dump != NULL)
        code = check_target(r, r->opt->dump, graph, r->opt->outputs.count);
    if (code == EXIT_OK && r->opt->trace != NULL)
        code = check_target(r, r->opt->trace, graph, r->opt->outputs.count);
    return code == EXIT_OK ? refuse_both(r->opt->trace, r->opt->dump) : code;
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
        code = check_outputs(r, path);
    if (code == EXIT_OK)
        code = set_slots(r);
    for (size_t i = 0; i < r->opt->inputs.count && code == EXIT_OK; i++)
        code = parse_given(r, r->opt->inputs.items[i], &r->given[r->n_given++]);
    if (code == EXIT_OK)
        code = apply_slots(r);
    if (code == EXIT_OK)
        code = bind_storages(r);
    if (code == EXIT_OK)
        code = feed(r);
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
    return code == EXIT_OK ? outputs(r) : code;
}

static void release(runner *r) {
    (void)kiln_session_destroy(r->session, NULL); /* nothing is running any more */
    for (size_t i = 0; i < r->n_states; i++)
        (void)kiln_state_buffer_destroy(r->states[i], NULL);
    for (size_t i = 0; i < r->n_given; i++) {
        kiln_npy_release(&r->given[i].npy);
        free(r->given[i].bytes);
    }
    free(r->text);
    free(r->states);
    free(r->given);
    free(r->slots);
    free(r->slot_infos);
    (void)kiln_executor_destroy(r->executor, NULL);
    kiln_plan_release(r->plan);
    kiln_graph_destroy(r->graph);
    kiln_gguf_destroy(r->gguf);
}

int cmd_run(int argc, char **argv) {
    options o = {.plan = PLAN_ARGS_NONE};
    const arg_option rows[] = {
        {"weights", 'w', ARG_TEXT, "FILE",
         "GGUF file: weights are its parts (gguf.N) or its\ntensors, by name", &o.weights, 0, 0, NULL},
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
        "GRAPH.json [--weights FILE.gguf] [--input NAME=SOURCE] [--output NAME=FILE.npy] "
        "[OPTION...]",
        "Bakes a graph, runs it once and prints a line about each output. States begin as\n"
        "zeros.",
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
