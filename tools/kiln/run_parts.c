#include "run.h"
#include "box.h"
#include "plan.h"

#include <stdlib.h>
#include <string.h>

/* ---- finding ---------------------------------------------------------------------------------------- */

/* Where a part's bytes end when all symbols are at their minima; -1: unknown, as bytes are missing in
 * between. */
static int64_t surely_ends(const kiln_graph *g, const run_part *p) {
    const kiln_desc *d = &p->info.desc;
    if (!g->shapes.items[g->tensors.items[p->tensor.id].shape].run)
        return -1;
    /* Only the outermost count may be a symbol's if what there is at the minimum is to lie together. */
    for (uint32_t i = 1; i < d->ndim; i++)
        if (d->dims[i].slot != 0)
            return -1;
    if (d->dims[0].slot == 0)
        return p->info.offset + p->info.bytes;
    return p->info.offset + d->dims[0].n * g->slots.items[d->dims[0].slot].min * d->strides[0];
}

static bool has_slot(const kiln_desc *d, uint32_t slot) {
    for (uint32_t i = 0; i < d->ndim; i++)
        if (d->dims[i].slot == slot)
            return true;
    return false;
}

/* Whoever fills `a` has filled `b`, whatever the slots are: `a` has all bytes of `b` when all symbols are at
 * their maxima, and grows with the same symbols, or has enough at their minima. */
static bool holds(const kiln_graph *g, const run_part *a, const run_part *b) {
    kiln_box x = kiln__tensor_box(g, &g->tensors.items[a->tensor.id], NULL);
    kiln_box y = kiln__tensor_box(g, &g->tensors.items[b->tensor.id], NULL);
    if (!kiln__box_covers(&x, &y))
        return false;
    for (uint32_t i = 0; i < a->info.desc.ndim; i++) {
        uint32_t slot = a->info.desc.dims[i].slot;
        if (slot != 0 && !has_slot(&b->info.desc, slot))
            return b->info.offset + b->info.bytes <= surely_ends(g, a);
    }
    return true;
}

/* Of one storage, what may hold others first: those with bytes, from the front, the longest. Of equal ones:
 * dense ones, as only then the order of elements is that of bytes, then that with the storage's name, one
 * with a name, that made first. */
static int by_place(const void *a, const void *b) {
    const run_part *x = a, *y = b;
    if (x->storage.storage.id != y->storage.storage.id)
        return x->storage.storage.id < y->storage.storage.id ? -1 : 1;
    if ((x->info.bytes > 0) != (y->info.bytes > 0))
        return x->info.bytes > 0 ? -1 : 1;
    if (x->info.offset != y->info.offset)
        return x->info.offset < y->info.offset ? -1 : 1;
    if (x->info.bytes != y->info.bytes)
        return x->info.bytes > y->info.bytes ? -1 : 1;
    if (x->dense != y->dense)
        return x->dense ? -1 : 1;
    bool own = strcmp(x->info.name, x->storage.name) == 0;
    if (own != (strcmp(y->info.name, y->storage.name) == 0))
        return own ? -1 : 1;
    if ((x->info.name[0] != '\0') != (y->info.name[0] != '\0'))
        return x->info.name[0] != '\0' ? -1 : 1;
    return x->tensor.id < y->tensor.id ? -1 : 1;
}

/* Every tensor of these storages. */
static size_t list_tensors(const kiln_plan *plan, run_part *out) {
    kiln_storage_info s;
    kiln_tensor_info info;
    size_t n = 0;
    for (size_t i = 0; kiln_plan_storage_at(plan, i, &s); i++) {
        if (s.kind != KILN_STORAGE_INPUT && s.kind != KILN_STORAGE_WEIGHT && s.kind != KILN_STORAGE_OUTPUT)
            continue;
        kiln_tensor t;
        for (size_t k = 0; (t = kiln_plan_tensor_at(plan, k)).id != 0; k++)
            if (kiln_plan_tensor_get(plan, t, &info) == KILN_OK && info.storage.id == s.storage.id)
                out[n++] = (run_part){.storage = s,
                                      .tensor = t,
                                      .info = info,
                                      .dense = kiln__desc_is_dense(plan->graph, &info.desc)};
    }
    return n;
}

/* Adds p to the parts from `first` on, which are of its storage, unless one of them holds it. */
static void add_part(runner *r, size_t first, const run_part *p) {
    const kiln_graph *g = r->plan->graph;
    size_t n = first;
    for (size_t k = first; k < r->n_parts; k++)
        if (holds(g, &r->parts[k], p))
            return;
    /* One that begins with it and ends with it may still have gaps. */
    for (size_t k = first; k < r->n_parts; k++)
        if (!holds(g, p, &r->parts[k]))
            r->parts[n++] = r->parts[k];
    r->parts[n++] = *p;
    r->n_parts = n;
}

int run_find_parts(runner *r) {
    r->parts = calloc(r->plan->graph->tensors.count + 1, sizeof *r->parts);
    if (r->parts == NULL)
        return fail_text(NULL, "out of memory");
    size_t n = list_tensors(r->plan, r->parts);
    qsort(r->parts, n, sizeof *r->parts, by_place);
    for (size_t i = 0, next; i < n; i = next) {
        size_t first = r->n_parts;
        uint32_t storage = r->parts[i].storage.storage.id;
        for (next = i; next < n && r->parts[next].storage.storage.id == storage; next++) {
            const run_part p = r->parts[next]; /* its place may be taken */
            add_part(r, first, &p);
        }
        for (size_t k = first; k < r->n_parts; k++)
            r->parts[k].only = r->n_parts == first + 1;
    }
    return EXIT_OK;
}

/* ---- by name ---------------------------------------------------------------------------------------- */

const char *run_split(const char *text, size_t *length) {
    const char *at = strchr(text, '=');
    *length = at != NULL ? (size_t)(at - text) : 0;
    return at != NULL && at > text && at[1] != '\0' ? at + 1 : NULL;
}

static bool is_called(const char *name, const char *text, size_t length) {
    return strlen(name) == length && memcmp(name, text, length) == 0;
}

static bool is_wanted(kiln_storage_kind kind, bool output) {
    return output ? kind == KILN_STORAGE_OUTPUT : kind == KILN_STORAGE_INPUT || kind == KILN_STORAGE_WEIGHT;
}

static const char *kind_text(kiln_storage_kind kind) {
    return kind == KILN_STORAGE_INPUT    ? "an input"
           : kind == KILN_STORAGE_WEIGHT ? "a weight"
           : kind == KILN_STORAGE_OUTPUT ? "an output"
                                         : "a state";
}

/* Appends to a list of names; at most `size` bytes of it are kept. */
static void list_name(char *buffer, size_t size, const char *head, const char *name) {
    size_t at = strlen(buffer);
    snprintf(buffer + at, size - at, "%s%s", at ? ", " : head, name);
}

static int no_such(const runner *r, const char *name, size_t length, bool output) {
    char names[300] = "";
    kiln_storage_info s;
    for (size_t i = 0; kiln_plan_storage_at(r->plan, i, &s); i++)
        if (is_wanted(s.kind, output))
            list_name(names, sizeof names, "there are: ", s.name);
    return fail_text(names[0] != '\0' ? names : "there are none", "the graph has no %s '%.*s'",
                     output ? "output" : "input or weight", (int)length, name);
}

/* The parts of a storage: the first, and how many. */
static run_part *parts_of(const runner *r, kiln_storage storage, size_t *n) {
    run_part *first = NULL;
    *n = 0;
    for (size_t i = 0; i < r->n_parts; i++)
        if (r->parts[i].storage.storage.id == storage.id && (*n)++ == 0)
            first = &r->parts[i];
    return first;
}

static int part_of_storage(const runner *r, const kiln_storage_info *s, run_part **out, bool *all) {
    size_t n, unnamed = 0;
    run_part *first = parts_of(r, s->storage, &n);
    char names[300] = "", label[60];
    const char *kind = kind_text(s->kind);
    kind = strchr(kind, ' ') + 1;
    if (n == 0)
        return fail_text("no node can read or write it", "%s '%s' holds no tensor", kind, s->name);
    *out = first;
    if (n > 1 && all != NULL) {
        *all = true;
        return EXIT_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (n > 1 && strcmp(first[i].info.name, s->name) == 0) {
            *out = &first[i];
            return EXIT_OK;
        }
        if (first[i].info.name[0] != '\0')
            list_name(names, sizeof names, "name one of them: ", first[i].info.name);
        else
            unnamed++;
    }
    if (n == 1)
        return EXIT_OK;
    if (unnamed > 0) {
        snprintf(label, sizeof label, "%zu have no name", unnamed);
        list_name(names, sizeof names, "they cannot be named: ", label);
    }
    return fail_text(names, "%s '%s' holds %zu tensors, none of which has all of it", kind, s->name, n);
}

int run_part_named(runner *r, const char *name, size_t length, bool output, run_part **out, bool *all) {
    kiln_storage_info s;
    kiln_tensor_info info;
    char text[KILN_NAME_MAX + 1];
    for (size_t i = 0; kiln_plan_storage_at(r->plan, i, &s); i++) {
        if (!is_called(s.name, name, length))
            continue;
        if (!is_wanted(s.kind, output))
            return fail_text(NULL, "'%s' is %s; --%s", s.name, kind_text(s.kind),
                             output ? "output writes outputs" : "input feeds inputs and weights");
        return part_of_storage(r, &s, out, all);
    }
    for (size_t i = 0; i < r->n_parts; i++)
        if (is_called(r->parts[i].info.name, name, length) && is_wanted(r->parts[i].storage.kind, output)) {
            *out = &r->parts[i];
            return EXIT_OK;
        }
    if (length >= sizeof text)
        return no_such(r, name, length, output);
    memcpy(text, name, length);
    text[length] = '\0';
    if (kiln_plan_tensor_get(r->plan, kiln_plan_tensor(r->plan, text), &info) != KILN_OK ||
        !is_wanted(info.kind, output))
        return no_such(r, name, length, output);
    return fail_text("name the whole instead", "tensor '%s' is only a part of %s", text,
                     KILN__STORAGE_LABEL(r->plan->graph, info.storage.id));
}

const char *run_part_label(const run_part *p, char buffer[RUN_LABEL_SIZE]) {
    if (p->only)
        return p->storage.name;
    if (p->info.name[0] != '\0')
        snprintf(buffer, RUN_LABEL_SIZE, "'%s' of %s", p->info.name, p->storage.name);
    else
        snprintf(buffer, RUN_LABEL_SIZE, "byte %lld of %s", (long long)p->info.offset, p->storage.name);
    return buffer;
}

/* ---- elements --------------------------------------------------------------------------------------- */

int64_t run_elements(const runner *r, const run_part *p, int64_t counts[KILN_MAX_DIMS]) {
    const kiln_desc *d = &p->info.desc;
    int64_t n = 1;
    for (uint32_t i = 0; i < d->ndim; i++) {
        counts[i] = d->dims[i].n * (d->dims[i].slot ? r->slots[d->dims[i].slot] : 1);
        if (i == d->ndim - 1)
            counts[i] /= kiln_dtype_get(d->dtype)->block;
        n *= counts[i];
    }
    return n;
}

int64_t run_byte_of(const run_part *p, const int64_t *counts, int64_t i) {
    int64_t at = 0;
    for (uint32_t k = p->info.desc.ndim; k-- > 0; i /= counts[k])
        at += i % counts[k] * p->info.desc.strides[k];
    return at;
}
