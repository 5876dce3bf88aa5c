#include "run.h"
#include "random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- --input and --weights -------------------------------------------------------------------------- */

static bool is_random(const char *source) {
    return strncmp(source, "random:", 7) == 0;
}

/* "random:SEED" or, where there may be one, "random:SEED:LIMIT". */
static bool parse_random(const char *source, kiln_dtype dtype, int64_t *seed, int64_t *limit) {
    char text[64];
    if (!is_random(source) || strlen(source + 7) >= sizeof text)
        return false;
    snprintf(text, sizeof text, "%s", source + 7);
    char *colon = strchr(text, ':');
    *limit = 2;
    if (colon != NULL)
        *colon++ = '\0';
    return args_int(text, 0, INT64_MAX, seed) &&
           (colon == NULL || args_int(colon, 1, random_most(dtype), limit));
}

static int read_random(run_part *p) {
    int64_t seed, limit;
    char label[RUN_LABEL_SIZE];
    kiln_dtype dtype = p->info.desc.dtype;
    if (!parse_random(p->source, dtype, &seed, &limit))
        return args_usage(
            "run",
            "'%s': expected random:SEED, or random:SEED:LIMIT for integers below LIMIT (%s: 1 to %lld)",
            p->source, kiln_dtype_get(dtype)->name, (long long)random_most(dtype));
    return random_has(dtype) ? EXIT_OK
                             : fail_text(NULL, "'%s' is %s, which cannot be random", run_part_label(p, label),
                                         kiln_dtype_get(dtype)->name);
}

static int read_source(runner *r, run_part *p, const char *source) {
    kiln_error error;
    char label[RUN_LABEL_SIZE];
    if (p->source != NULL)
        return args_usage("run", "--input gives '%s' twice",
                          p->only || p->info.name[0] == '\0' ? run_part_label(p, label) : p->info.name);
    p->source = source;
    if (is_random(source))
        return read_random(p);
    if (kiln_npy_read(source, 0, (kiln_allocator){0}, &p->npy, &error) != KILN_OK)
        return fail(&error, "inputs are .npy files, as numpy.save writes them, or random:SEED");
    if (p->npy.converted[0] != '\0')
        print_line(stderr, "kiln: %s: %s", source, p->npy.converted);
    return run_infer_slots(r, p);
}

static int read_input(runner *r, const char *text) {
    size_t length;
    run_part *p;
    bool all = false;
    const char *source = run_split(text, &length);
    if (source == NULL)
        return args_usage("run", "--input is '%s'; expected NAME=FILE.npy or NAME=random:SEED", text);
    int code = run_part_named(r, text, length, false, &p, is_random(source) ? &all : NULL);
    if (code != EXIT_OK)
        return code;
    const uint32_t storage = p->storage.storage.id;
    do {
        code = read_source(r, p++, source);
    } while (all && code == EXIT_OK && p < r->parts + r->n_parts && p->storage.storage.id == storage);
    return code;
}

static int read_weights(runner *r) {
    kiln_error error;
    const char *source = r->opt->weights;
    if (source == NULL)
        return EXIT_OK;
    r->random_weights = is_random(source);
    if (r->random_weights)
        return args_int(source + 7, 0, INT64_MAX, &r->weights_seed)
                   ? EXIT_OK
                   : args_usage("run", "--weights is '%s'; expected FILE.gguf or random:SEED", source);
    if (kiln_gguf_open(source, NULL, &r->gguf, &error) == KILN_OK)
        return EXIT_OK;
    return fail(&error, error.status == KILN_ERROR_FORMAT ? "--weights takes a GGUF file, or random:SEED"
                                                          : gguf_hint(&error));
}

int run_read_inputs(runner *r) {
    int code = read_weights(r);
    for (size_t i = 0; i < r->opt->inputs.count && code == EXIT_OK; i++)
        code = read_input(r, r->opt->inputs.items[i]);
    return code;
}

/* ---- filling ---------------------------------------------------------------------------------------- */

static void put_all_random(const runner *r, const run_part *p, unsigned char *to, uint64_t *state,
                           float scale, int64_t limit) {
    int64_t counts[KILN_MAX_DIMS], n = run_elements(r, p, counts);
    for (int64_t i = 0; i < n; i++)
        random_put(to + run_byte_of(p, counts, i), p->info.desc.dtype, state, scale, limit);
}

/* `to` is the part's first byte. */
static void fill(const runner *r, const run_part *p, unsigned char *to) {
    int64_t counts[KILN_MAX_DIMS], seed = 0, limit = 2;
    if (p->npy.data == NULL) {
        (void)parse_random(p->source, p->info.desc.dtype, &seed, &limit); /* was checked when it was read */
        uint64_t state = (uint64_t)seed;
        put_all_random(r, p, to, &state, 1, limit);
        return;
    }
    int64_t n = run_elements(r, p, counts);
    uint32_t bytes = kiln_dtype_get(p->info.desc.dtype)->bytes;
    for (int64_t i = 0; i < n; i++)
        memcpy(to + run_byte_of(p, counts, i), (const unsigned char *)p->npy.data + i * bytes, bytes);
}

/* What is fed lies where the session says that the part's own tensor is. */
static void feed_inputs(const runner *r) {
    char label[RUN_LABEL_SIZE];
    for (size_t i = 0; i < r->n_parts; i++) {
        const run_part *p = &r->parts[i];
        if (p->storage.kind != KILN_STORAGE_INPUT)
            continue;
        if (p->source != NULL)
            fill(r, p, kiln_session_data(r->session, p->tensor));
        else if (p->only)
            print_line(stderr, "kiln: input '%s' is not given; it is all zeros", p->storage.name);
        else if (p->info.name[0] != '\0')
            print_line(stderr, "kiln: '%s' of input '%s' is not given; it is all zeros", p->info.name,
                       p->storage.name);
        else
            print_line(stderr, "kiln: %s is not given; it is all zeros", run_part_label(p, label));
    }
}

/* ---- weights ---------------------------------------------------------------------------------------- */

/* The parts of a weight storage, and how many of them --input gives. */
static run_part *weight_parts(const runner *r, const kiln_storage_info *s, size_t *n, size_t *n_given) {
    run_part *first = NULL;
    *n = *n_given = 0;
    for (size_t i = 0; i < r->n_parts; i++) {
        if (r->parts[i].storage.storage.id != s->storage.id)
            continue;
        if ((*n)++ == 0)
            first = &r->parts[i];
        *n_given += r->parts[i].source != NULL;
    }
    return first;
}

/* A tensor of the file in the place of a weight: the same type and shape, as sizes alone say little. */
static int check_tensor(const runner *r, const run_part *p, const kiln_gguf_tensor *t) {
    const kiln_desc *d = &p->info.desc;
    bool same = t->dtype == d->dtype && t->ndim == (int32_t)d->ndim;
    for (uint32_t i = 0; i < d->ndim && same; i++)
        same = d->dims[i].slot == 0 && d->dims[i].n == t->dims[i];
    if (same)
        return EXIT_OK;
    char shapes[2][100] = {"", ""};
    for (uint32_t i = 0, at = 0; i < d->ndim; i++) {
        int64_t count = d->dims[i].n * (d->dims[i].slot ? r->slots[d->dims[i].slot] : 1);
        at += (uint32_t)snprintf(shapes[0] + at, sizeof shapes[0] - at, i ? ", %lld" : "%lld",
                                 (long long)count);
    }
    for (int32_t i = 0, at = 0; i < t->ndim; i++)
        at += snprintf(shapes[1] + at, sizeof shapes[1] - (size_t)at, i ? ", %lld" : "%lld",
                       (long long)t->dims[i]);
    return fail_text("was the graph made from another file?",
                     "weight '%s' is %s [%s] in the graph, but %s [%s] in %s", p->storage.name,
                     kiln_dtype_get(d->dtype)->name, shapes[0], t->type->name, shapes[1], r->opt->weights);
}

/* A whole part of the file in the place of a weight: tensors that both name lie at the same place in both. */
static int check_file_part(const runner *r, const run_part *parts, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_find(r->gguf, parts[i].info.name);
        if (t != NULL && (t->part_offset != parts[i].info.offset || t->dtype != parts[i].info.desc.dtype))
            return fail_text("was the graph made from another file?",
                             "'%s' of %s is %s at byte %lld in the graph, but %s at byte %lld in %s", t->name,
                             parts[i].storage.name, kiln_dtype_get(parts[i].info.desc.dtype)->name,
                             (long long)parts[i].info.offset, t->type->name, (long long)t->part_offset,
                             r->opt->weights);
    }
    return EXIT_OK;
}

/* Where the file has a weight storage: a whole part of it (gguf.N, as 'kiln dump' writes it), or a tensor. */
static int find_weight(const runner *r, const kiln_storage_info *s, const run_part *parts, size_t n,
                       const void **data) {
    int64_t size = 0, number;
    int code = EXIT_OK;
    if (r->gguf == NULL)
        return fail_text("--weights FILE.gguf or random:SEED, or --input NAME=FILE.npy",
                         "weight '%s' has no data", s->name);
    const kiln_gguf_tensor *t = kiln_gguf_tensor_find(r->gguf, s->name);
    if (strncmp(s->name, "gguf.", 5) == 0 && args_int(s->name + 5, 0, INT32_MAX, &number) &&
        (size_t)number < kiln_gguf_part_count(r->gguf)) {
        *data = kiln_gguf_part_at(r->gguf, (size_t)number)->base;
        size = (int64_t)kiln_gguf_part_at(r->gguf, (size_t)number)->size;
        code = size == s->size ? check_file_part(r, parts, n) : EXIT_OK;
    } else if (t != NULL) {
        *data = t->data;
        size = t->bytes;
        code = n == 1 ? check_tensor(r, parts, t) : EXIT_OK;
    } else {
        return fail_text("--input NAME=FILE.npy gives it from another file", "%s has no tensor '%s'",
                         r->opt->weights, s->name);
    }
    if (code == EXIT_OK && size != s->size)
        code = fail_text("was the graph made from another file?",
                         "weight '%s' has %lld bytes in the graph, but %lld in %s", s->name,
                         (long long)s->size, (long long)size, r->opt->weights);
    return code;
}

/* Zeroed memory for a weight, that goes with the runner. */
static unsigned char *own_memory(runner *r, const kiln_storage_info *s) {
    const size_t size = ((size_t)s->size + 255) & ~(size_t)127;
    unsigned char *memory = aligned_alloc(128, size);
    if (memory != NULL)
        r->owned[r->n_owned++] = memset(memory, 0, size);
    else
        (void)fail_text(NULL, "out of memory for weight '%s' (%lld bytes)", s->name, (long long)s->size);
    return memory;
}

/* Uniform in ±1/√K for rows of K values, so that sums over a row stay near 1. */
static int put_random_weight(const runner *r, const run_part *p, unsigned char *to, uint64_t *state) {
    const kiln_desc *d = &p->info.desc;
    char label[RUN_LABEL_SIZE];
    if (!random_has(d->dtype))
        return fail_text(NULL, "weight '%s' is %s, which cannot be random", run_part_label(p, label),
                         kiln_dtype_get(d->dtype)->name);
    const int64_t row = d->dims[d->ndim - 1].n;
    put_all_random(r, p, to, state, row > 0 ? 1 / sqrtf((float)row) : 1, 2);
    return EXIT_OK;
}

/* Bound where the file has it; what --input or --weights random gives a part of lies in separate memory. */
static int feed_weight(runner *r, const kiln_storage_info *s, uint64_t *state) {
    kiln_error error;
    size_t n, n_given;
    const void *data = NULL;
    const run_part *parts = weight_parts(r, s, &n, &n_given);
    int code = EXIT_OK;
    if (!r->random_weights && (n == 0 || n_given < n))
        code = find_weight(r, s, parts, n, &data);
    if (code != EXIT_OK)
        return code;
    if (n_given > 0 || data == NULL) {
        unsigned char *own = own_memory(r, s);
        if (own == NULL)
            return EXIT_FAILED;
        if (data != NULL)
            memcpy(own, data, (size_t)s->size);
        for (size_t i = 0; i < n && code == EXIT_OK; i++) {
            if (parts[i].source != NULL)
                fill(r, &parts[i], own + parts[i].info.offset);
            else if (r->random_weights)
                code = put_random_weight(r, &parts[i], own + parts[i].info.offset, state);
        }
        data = own;
    }
    /* Weights are never written: the const goes because outputs are bound by the same call. */
    if (code == EXIT_OK &&
        kiln_session_bind(r->session, s->storage, (void *)(uintptr_t)data, s->size, &error) != KILN_OK)
        code = fail(&error, NULL);
    return code;
}

static int feed_state(runner *r, const kiln_storage_info *s) {
    kiln_error error;
    kiln_state_buffer *state;
    if (kiln_state_buffer_create(NULL, s->size, &state, &error) != KILN_OK)
        return fail_text(NULL, "state '%s': %s", s->name, error.text);
    r->states[r->n_states++] = state;
    return kiln_session_bind_state(r->session, s->storage, state, &error) == KILN_OK ? EXIT_OK
                                                                                     : fail(&error, NULL);
}

int run_feed(runner *r) {
    kiln_storage_info s;
    size_t n = 0;
    uint64_t state = (uint64_t)r->weights_seed;
    int code = EXIT_OK;
    while (kiln_plan_storage_at(r->plan, n, &s))
        n++;
    r->states = calloc(n + 1, sizeof(kiln_state_buffer *));
    r->owned = calloc(n + 1, sizeof(void *));
    if (r->states == NULL || r->owned == NULL)
        return fail_text(NULL, "out of memory");
    for (size_t i = 0; kiln_plan_storage_at(r->plan, i, &s) && code == EXIT_OK; i++)
        code = s.kind == KILN_STORAGE_WEIGHT  ? feed_weight(r, &s, &state)
               : s.kind == KILN_STORAGE_STATE ? feed_state(r, &s)
                                              : EXIT_OK;
    if (code == EXIT_OK)
        feed_inputs(r);
    return code;
}
