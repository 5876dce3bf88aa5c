/* Opening: the parts of a model put together, lookup, and closing. */
#include "gguf_internal.h"

#include <inttypes.h>
#include <stdio.h>

/* "-00001-of-00002.gguf" */
#define SUFFIX_SIZE 32
#define MAX_PARTS   99999

/* What a part says about the split it belongs to. */
typedef struct split {
    int64_t count;   /* 0 and 1: a whole model */
    int64_t number;  /* from 0; -1 when not given */
    int64_t tensors; /* in all parts; -1 when not given */
} split;

static kiln_status read_split(const gguf_keys *keys, const gguf_label *label, split *s, kiln_error *error) {
    *s = (split){1, -1, -1};
    kiln_status status = kiln_gguf__optional_int(keys, label, "split.count", 0, MAX_PARTS, &s->count, error);
    if (status == KILN_OK && s->count > 1)
        status = kiln_gguf__optional_int(keys, label, "split.no", 0, MAX_PARTS, &s->number, error);
    if (status == KILN_OK && s->count > 1)
        status =
            kiln_gguf__optional_int(keys, label, "split.tensors.count", 0, INT32_MAX, &s->tensors, error);
    return status;
}

/* ---- One part --------------------------------------------------------------------------------------- */

static bool room_for_file(kiln_gguf *g, const char *name, kiln_status *status, kiln_error *error) {
    if (KILN_GROW(&g->allocator, g->files, g->files.count + 1))
        return true;
    gguf_label label;
    kiln_gguf__label_set(&label, name);
    *status = GGUF_FAIL(&label, error, KILN_ERROR_MEMORY, "no memory for part %zu", g->files.count + 1);
    return false;
}

static kiln_status add_path(kiln_gguf *g, const char *path, kiln_gguf_access access, kiln_error *error) {
    kiln_status status = KILN_OK;
    if (!room_for_file(g, path, &status, error))
        return status;
    status = kiln_gguf__file_load(&g->allocator, path, access, &g->files.items[g->files.count], error);
    g->files.count += status == KILN_OK;
    return status;
}

static kiln_status add_bytes(kiln_gguf *g, const kiln_gguf_bytes *bytes, kiln_error *error) {
    kiln_status status = KILN_OK;
    if (!room_for_file(g, bytes->name != NULL ? bytes->name : "memory", &status, error))
        return status;
    status = kiln_gguf__file_given(&g->allocator, bytes, &g->files.items[g->files.count], error);
    g->files.count += status == KILN_OK;
    return status;
}

static bool is_same_key(const gguf_keys *x, const gguf_keys *y, const char *key) {
    const kiln_gguf_kv *a = kiln_gguf__keys_find(x, key), *b = kiln_gguf__keys_find(y, key);
    return a == NULL || b == NULL ||
           (a->type == b->type && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0);
}

/* Parses the newest file as part number `number` > 0 of what the first part says, and compares the two. */
static kiln_status join_part(kiln_gguf *g, int64_t number, const split *first, kiln_error *error) {
    gguf_file *file = &g->files.items[g->files.count - 1];
    const gguf_label *label = &file->label;
    gguf_keys keys = {0};
    split s = {0};
    kiln_status status = kiln_gguf__parse(&g->allocator, file, (uint32_t)number, &keys, &g->tensors, error);
    if (status == KILN_OK)
        status = read_split(&keys, label, &s, error);
    if (status == KILN_OK && (s.count != first->count || s.number != number))
        status = GGUF_FAIL(label, error, KILN_ERROR_FORMAT,
                           "does not belong to %s: split.no %" PRId64 " of split.count %" PRId64
                           ", expected %" PRId64 " of %" PRId64,
                           g->files.items[0].label.text, s.number, s.count, number, first->count);
    if (status == KILN_OK && s.tensors >= 0 && first->tensors >= 0 && s.tensors != first->tensors)
        status = GGUF_FAIL(label, error, KILN_ERROR_FORMAT,
                           "does not belong to %s: split.tensors.count %" PRId64 ", expected %" PRId64,
                           g->files.items[0].label.text, s.tensors, first->tensors);
    if (status == KILN_OK && !is_same_key(&g->keys, &keys, "general.architecture"))
        status =
            GGUF_FAIL(label, error, KILN_ERROR_FORMAT, "does not belong to %s: another general.architecture",
                      g->files.items[0].label.text);
    kiln_gguf__keys_release(&g->allocator, &keys);
    return status;
}

/* After the last part. */
static kiln_status finish(kiln_gguf *g, const split *s, kiln_error *error) {
    if (s->count > 1 && s->tensors >= 0 && (uint64_t)s->tensors != g->tensors.count)
        return GGUF_FAIL(&g->files.items[0].label, error, KILN_ERROR_FORMAT,
                         "split.tensors.count is %" PRId64 ", but the %" PRId64 " parts have %zu tensors",
                         s->tensors, s->count, g->tensors.count);
    return kiln_gguf__tensors_finish(&g->allocator, g->files.items, &g->tensors, error);
}

/* ---- From files ------------------------------------------------------------------------------------- */

/* The first part's path ends in "-00001-of-0000N.gguf"; sets `*stem` to what comes before. */
static kiln_status check_first(const kiln_gguf *g, const char *path, const split *s, size_t *stem,
                               kiln_error *error) {
    char want[SUFFIX_SIZE];
    const gguf_label *label = &g->files.items[0].label;
    size_t length = strlen(path);
    size_t suffix = (size_t)snprintf(want, sizeof want, "-%05d-of-%05" PRId64 ".gguf", 1, s->count);
    if (s->number != 0)
        return GGUF_FAIL(label, error, KILN_ERROR_ARGUMENT,
                         "is part %" PRId64 " of %" PRId64 " of a split model: open the first part, NAME%s",
                         s->number + 1, s->count, want);
    if (length < suffix || strcmp(path + length - suffix, want) != 0)
        return GGUF_FAIL(label, error, KILN_ERROR_ARGUMENT,
                         "is the first of %" PRId64 " parts, but its name does not end in %s, so the others "
                         "cannot be found: give it its name back",
                         s->count, want);
    *stem = length - suffix;
    return KILN_OK;
}

static kiln_status add_other_paths(kiln_gguf *g, const char *path, kiln_gguf_access access, const split *s,
                                   kiln_error *error) {
    size_t stem = 0;
    kiln_status status = check_first(g, path, s, &stem, error);
    if (status != KILN_OK)
        return status;
    size_t size = strlen(path) + 1;
    char *name = KILN_NEW(&g->allocator, char, size);
    if (name == NULL)
        return GGUF_FAIL(&g->files.items[0].label, error, KILN_ERROR_MEMORY,
                         "no memory for a path (%zu bytes)", size);
    memcpy(name, path, size);
    for (int64_t i = 1; i < s->count && status == KILN_OK; i++) {
        snprintf(name + stem, size - stem, "-%05" PRId64 "-of-%05" PRId64 ".gguf", i + 1, s->count);
        if ((status = add_path(g, name, access, error)) == KILN_OK)
            status = join_part(g, i, s, error);
    }
    KILN_DELETE(&g->allocator, name, char, size);
    return status;
}

static kiln_status open_paths(kiln_gguf *g, const char *path, kiln_gguf_access access, kiln_error *error) {
    split s = {0};
    kiln_status status = add_path(g, path, access, error);
    if (status == KILN_OK)
        status = kiln_gguf__parse(&g->allocator, &g->files.items[0], 0, &g->keys, &g->tensors, error);
    if (status == KILN_OK)
        status = read_split(&g->keys, &g->files.items[0].label, &s, error);
    if (status == KILN_OK && s.count > 1)
        status = add_other_paths(g, path, access, &s, error);
    return status == KILN_OK ? finish(g, &s, error) : status;
}

/* ---- From memory ------------------------------------------------------------------------------------ */

static kiln_status open_bytes(kiln_gguf *g, const kiln_gguf_bytes *parts, size_t count, kiln_error *error) {
    split s = {0};
    kiln_status status = add_bytes(g, &parts[0], error);
    if (status == KILN_OK)
        status = kiln_gguf__parse(&g->allocator, &g->files.items[0], 0, &g->keys, &g->tensors, error);
    if (status == KILN_OK)
        status = read_split(&g->keys, &g->files.items[0].label, &s, error);
    if (status != KILN_OK)
        return status;
    const gguf_label *label = &g->files.items[0].label;
    if (s.count > 1 && s.number != 0)
        return GGUF_FAIL(label, error, KILN_ERROR_ARGUMENT,
                         "is part %" PRId64 " of %" PRId64 " of a split model: give the parts in order",
                         s.number + 1, s.count);
    if (count != (s.count > 1 ? (size_t)s.count : 1))
        return GGUF_FAIL(label, error, KILN_ERROR_FORMAT,
                         "is a model of %" PRId64 " parts, but %zu were given", s.count > 1 ? s.count : 1,
                         count);
    for (size_t i = 1; i < count && status == KILN_OK; i++)
        if ((status = add_bytes(g, &parts[i], error)) == KILN_OK)
            status = join_part(g, (int64_t)i, &s, error);
    return status == KILN_OK ? finish(g, &s, error) : status;
}

/* ---- Public ----------------------------------------------------------------------------------------- */

static kiln_status create(const kiln_gguf_options *options, kiln_gguf **out, kiln_error *error) {
    kiln_allocator a = kiln__allocator_or_default(options != NULL ? &options->allocator : NULL);
    if (options != NULL && options->access != KILN_GGUF_MMAP && options->access != KILN_GGUF_READ)
        return GGUF_ERROR(error, KILN_ERROR_ARGUMENT, "opening GGUF: access %d is neither MMAP nor READ",
                          (int)options->access);
    kiln_gguf *g = KILN_NEW(&a, kiln_gguf, 1);
    if (g == NULL)
        return GGUF_ERROR(error, KILN_ERROR_MEMORY, "opening GGUF: no memory (%zu bytes)", sizeof *g);
    g->allocator = a;
    *out = g;
    return KILN_OK;
}

static kiln_status hand_over(kiln_gguf *g, kiln_status status, kiln_gguf **out) {
    if (status == KILN_OK)
        *out = g;
    else
        kiln_gguf_destroy(g);
    return status;
}

kiln_status kiln_gguf_open(const char *path, const kiln_gguf_options *options, kiln_gguf **out,
                           kiln_error *error) {
    kiln_gguf *g = NULL;
    if (out != NULL)
        *out = NULL;
    if (path == NULL || out == NULL)
        return GGUF_ERROR(error, KILN_ERROR_ARGUMENT, "opening GGUF: path or out is NULL");
    kiln_status status = create(options, &g, error);
    if (status != KILN_OK)
        return status;
    return hand_over(g, open_paths(g, path, options != NULL ? options->access : KILN_GGUF_MMAP, error), out);
}

kiln_status kiln_gguf_open_memory(const kiln_gguf_bytes *parts, size_t count,
                                  const kiln_gguf_options *options, kiln_gguf **out, kiln_error *error) {
    kiln_gguf *g = NULL;
    if (out != NULL)
        *out = NULL;
    if (parts == NULL || count == 0 || out == NULL)
        return GGUF_ERROR(error, KILN_ERROR_ARGUMENT, "opening GGUF: parts or out is NULL, or count is 0");
    kiln_status status = create(options, &g, error);
    if (status != KILN_OK)
        return status;
    return hand_over(g, open_bytes(g, parts, count, error), out);
}

void kiln_gguf_destroy(kiln_gguf *gguf) {
    if (gguf == NULL)
        return;
    kiln_allocator a = gguf->allocator;
    kiln_gguf__keys_release(&a, &gguf->keys);
    kiln_gguf__tensors_release(&a, &gguf->tensors);
    for (size_t i = 0; i < gguf->files.count; i++)
        kiln_gguf__file_release(&a, &gguf->files.items[i]);
    KILN_ARRAY_FREE(&a, gguf->files);
    KILN_DELETE(&a, gguf, kiln_gguf, 1);
}

size_t kiln_gguf_part_count(const kiln_gguf *gguf) {
    return gguf->files.count;
}

const kiln_gguf_part *kiln_gguf_part_at(const kiln_gguf *gguf, size_t index) {
    return index < gguf->files.count ? &gguf->files.items[index].part : NULL;
}

size_t kiln_gguf_tensor_count(const kiln_gguf *gguf) {
    return gguf->tensors.count;
}

const kiln_gguf_tensor *kiln_gguf_tensor_at(const kiln_gguf *gguf, size_t index) {
    return index < gguf->tensors.count ? &gguf->tensors.items[index].tensor : NULL;
}

const kiln_gguf_tensor *kiln_gguf_tensor_find(const kiln_gguf *gguf, const char *name) {
    const gguf_tensors *tensors = &gguf->tensors;
    size_t low = 0, high = name != NULL ? tensors->count : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const kiln_gguf_tensor *t = &tensors->items[tensors->index[middle]].tensor;
        int order = strcmp(t->name, name);
        if (order == 0)
            return t;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

size_t kiln_gguf_kv_count(const kiln_gguf *gguf) {
    return gguf->keys.count;
}

const kiln_gguf_kv *kiln_gguf_kv_at(const kiln_gguf *gguf, size_t index) {
    return index < gguf->keys.count ? &gguf->keys.items[index].kv : NULL;
}

const kiln_gguf_kv *kiln_gguf_kv_find(const kiln_gguf *gguf, const char *key) {
    return key != NULL ? kiln_gguf__keys_find(&gguf->keys, key) : NULL;
}

bool kiln_gguf_has(const kiln_gguf *gguf, const char *key) {
    return kiln_gguf_kv_find(gguf, key) != NULL;
}
