/* Life of a graph, names, slots and storages. */
#include "graph.h"
#include "hash.h"
#include "json_scan.h"

#include <stdarg.h>
#include <stdio.h>

const char *const kiln__storage_kind_names[KILN_STORAGE_KIND_COUNT] = {"weight", "input", "output", "state",
                                                                       "arena"};

kiln_status kiln__graph_fail(kiln_graph *g, kiln_status status, const char *format, ...) {
    if (g->error.status != KILN_OK)
        return status;
    char text[KILN_ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return kiln_error_set(&g->error, status, "%s", text);
}

/* ---- life ------------------------------------------------------------------------------------------- */

/* Index 0 of each array means "none"; offset 0 of the text is "". */
static bool reserve_zeroth(kiln_graph *g) {
    const kiln_allocator *a = &g->allocator;
    if (!KILN_GROW(a, g->slots, 1) || !KILN_GROW(a, g->storages, 1) || !KILN_GROW(a, g->tensors, 1) ||
        !KILN_GROW(a, g->shapes, 1) || !KILN_GROW(a, g->producers, 1) || !KILN_GROW(a, g->text, 64))
        return false;
    memset(g->slots.items, 0, sizeof *g->slots.items);
    memset(g->storages.items, 0, sizeof *g->storages.items);
    memset(g->tensors.items, 0, sizeof *g->tensors.items);
    memset(g->shapes.items, 0, sizeof *g->shapes.items);
    g->producers.items[0] = 0;
    g->text.items[0] = '\0';
    g->slots.count = g->storages.count = g->tensors.count = g->shapes.count = g->producers.count =
        g->text.count = 1;
    return true;
}

/* Differs from graph to graph and from process to process, since addresses are randomised: a file cannot be
 * made whose names all fall into one place of the table. */
static uint64_t name_seed(const kiln_graph *g) {
    uintptr_t addresses[2]; /* of the heap and of the stack */
    addresses[0] = (uintptr_t)g;
    addresses[1] = (uintptr_t)addresses;
    return XXH3_64bits(addresses, sizeof addresses);
}

kiln_status kiln_graph_create(const kiln_allocator *allocator, kiln_graph **out, kiln_error *error) {
    if (out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_graph_create: out is NULL");
    *out = NULL;
    kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln_graph *g = KILN_NEW(&a, kiln_graph, 1);
    if (g != NULL) {
        g->allocator = a;
        g->tag = (uint32_t)((uintptr_t)g >> 4);
        g->names.seed = name_seed(g);
        g->inferred = KILN_NEW(&a, kiln__inferred, KILN__INFERRED);
        if (g->inferred != NULL && reserve_zeroth(g)) {
            *out = g;
            return KILN_OK;
        }
        kiln_graph_destroy(g);
    }
    return kiln_error_set(error, KILN_ERROR_MEMORY, "kiln_graph_create: out of memory");
}

void kiln_graph_destroy(kiln_graph *g) {
    if (g == NULL)
        return;
    kiln_allocator a = g->allocator;
    KILN_ARRAY_FREE(&a, g->nodes);
    KILN_ARRAY_FREE(&a, g->producers);
    KILN_DELETE(&a, g->inferred, kiln__inferred, KILN__INFERRED);
    if (!g->forked) {
        KILN_ARRAY_FREE(&a, g->slots);
        KILN_ARRAY_FREE(&a, g->storages);
        KILN_ARRAY_FREE(&a, g->tensors);
        KILN_ARRAY_FREE(&a, g->shapes);
        KILN_ARRAY_FREE(&a, g->operands);
        KILN_ARRAY_FREE(&a, g->attrs);
        KILN_ARRAY_FREE(&a, g->text);
        KILN_ARRAY_FREE(&a, g->names);
    }
    KILN_DELETE(&a, g, kiln_graph, 1);
}

void kiln_graph_reset(kiln_graph *g) {
    g->slots.count = g->storages.count = g->tensors.count = g->shapes.count = g->producers.count =
        g->text.count = 1;
    g->nodes.count = g->operands.count = g->attrs.count = 0;
    if (g->names.count > 0)
        memset(g->names.items, 0, g->names.capacity * sizeof *g->names.items);
    g->names.count = 0;
    g->error.status = KILN_OK;
    g->tag++;
    g->checked = NULL;
    memset(g->recent, 0, sizeof g->recent);
}

kiln_status kiln_graph_check(const kiln_graph *g, kiln_error *error) {
    if (g == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "graph is NULL");
    if (g->error.status != KILN_OK && error != NULL)
        *error = g->error;
    return g->error.status;
}

/* Copies one array into a fresh graph, with some room: most copies are added to, most of them a little. */
#define CLONE_ARRAY(a, to, from)                                                                             \
    (KILN_GROW((a), (to), (from).count + (from).count / 8 + 1) &&                                            \
     (memcpy((to).items, (from).items ? (const void *)(from).items : "",                                     \
             (from).items ? (from).count * sizeof *(from).items : 0),                                        \
      (to).count = (from).count, true))

kiln_status kiln__graph_clone(const kiln_graph *from, const kiln_allocator *allocator, kiln_graph **out,
                              kiln_error *error) {
    kiln_allocator a = kiln__allocator_or_default(allocator);
    *out = NULL;
    kiln_graph *g = KILN_NEW(&a, kiln_graph, 1);
    if (g == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "copying a graph: out of memory");
    g->allocator = a;
    g->tag = from->tag;
    bool ok = CLONE_ARRAY(&a, g->slots, from->slots) && CLONE_ARRAY(&a, g->storages, from->storages) &&
              CLONE_ARRAY(&a, g->tensors, from->tensors) && CLONE_ARRAY(&a, g->shapes, from->shapes) &&
              CLONE_ARRAY(&a, g->producers, from->producers) && CLONE_ARRAY(&a, g->nodes, from->nodes) &&
              CLONE_ARRAY(&a, g->operands, from->operands) && CLONE_ARRAY(&a, g->attrs, from->attrs) &&
              CLONE_ARRAY(&a, g->text, from->text);
    if (ok && from->names.capacity > 0) {
        /* The hash table's places depend on its capacity and seed, so it keeps exactly those. */
        g->names.items = KILN_NEW_RAW(&a, kiln__name_entry, from->names.capacity);
        ok = g->names.items != NULL;
        if (ok) {
            memcpy(g->names.items, from->names.items, from->names.capacity * sizeof *from->names.items);
            g->names.count = from->names.count;
            g->names.capacity = from->names.capacity;
        }
    }
    g->names.seed = from->names.seed;
    memcpy(g->recent, from->recent, sizeof g->recent);
    if (!ok) {
        kiln_graph_destroy(g);
        return kiln_error_set(error, KILN_ERROR_MEMORY, "copying a graph of %zu nodes: out of memory",
                              from->nodes.count);
    }
    *out = g;
    return KILN_OK;
}

/* Puts the arrays of `from`, all but nodes and producers, in the place of those of `to`, which keeps its counts. */
#define TAKE(to, from, array)                                                                                \
    ((to)->array.items = (from)->array.items, (to)->array.capacity = (from)->array.capacity)

static void take_arrays(kiln_graph *to, const kiln_graph *from) {
    TAKE(to, from, slots);
    TAKE(to, from, storages);
    TAKE(to, from, tensors);
    TAKE(to, from, shapes);
    TAKE(to, from, operands);
    TAKE(to, from, attrs);
    TAKE(to, from, text);
    TAKE(to, from, names);
}

kiln_status kiln__graph_fork(kiln_graph *g, kiln_graph **program, kiln_error *error) {
    *program = KILN_NEW(&g->allocator, kiln_graph, 1);
    kiln_graph *p = *program;
    if (p != NULL) {
        *p = *g;
        memset(&p->nodes, 0, sizeof p->nodes);
        memset(&p->producers, 0, sizeof p->producers);
        p->inferred = NULL;
        g->forked = true;
        if (CLONE_ARRAY(&g->allocator, p->producers, g->producers))
            return KILN_OK;
        kiln__graph_unfork(g, p);
        *program = NULL;
    }
    return kiln_error_set(error, KILN_ERROR_MEMORY, "copying a graph of %zu nodes: out of memory",
                          g->nodes.count);
}

void kiln__graph_settle(kiln_graph *g, const kiln_graph *program) {
    take_arrays(g, program);
}

void kiln__graph_unfork(kiln_graph *g, kiln_graph *program) {
    take_arrays(g, program);
    g->forked = false;
    program->forked = true;
    kiln_graph_destroy(program);
}

/* ---- names ------------------------------------------------------------------------------------------ */

/* The place of a name: its entry, or the free one where it would go. NULL only while the table is empty. */
static kiln__name_entry *name_place(const kiln_graph *g, uint32_t kind, const char *name) {
    if (g->names.capacity == 0)
        return NULL;
    size_t mask = g->names.capacity - 1;
    uint64_t hash = XXH3_64bits_withSeed(name, strlen(name), g->names.seed + kind);
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        kiln__name_entry *e = &g->names.items[i];
        if (e->text == 0 || (e->kind == kind && strcmp(kiln__text(g, e->text), name) == 0))
            return e;
    }
}

uint32_t kiln__name_find(const kiln_graph *g, kiln__name_kind kind, const char *name) {
    const kiln__name_entry *e = name == NULL ? NULL : name_place(g, kind, name);
    return e != NULL && e->text != 0 ? e->id : 0;
}

static bool names_grow(kiln_graph *g) {
    if (2 * (g->names.count + 1) <= g->names.capacity)
        return true;
    size_t old = g->names.capacity, next = old ? 2 * old : 32;
    kiln__name_entry *items = KILN_NEW(&g->allocator, kiln__name_entry, next);
    if (items == NULL)
        return false;
    kiln__name_entry *before = g->names.items;
    g->names.items = items;
    g->names.capacity = next;
    for (size_t i = 0; i < old; i++)
        if (before[i].text != 0)
            *name_place(g, before[i].kind, kiln__text(g, before[i].text)) = before[i];
    KILN_DELETE(&g->allocator, before, kiln__name_entry, old);
    return true;
}

/* Stores a name for (kind, id). Fails when it is taken, empty, too long, or memory is out. */
static kiln_status name_add(kiln_graph *g, kiln__name_kind kind, const char *name, uint32_t id,
                            uint32_t *offset) {
    static const char *const what[] = {"slot", "storage", "tensor"};
    size_t n = name == NULL ? 0 : strlen(name);
    if (n == 0 || n > KILN_NAME_MAX)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "a %s's name has %zu bytes; 1 to %d are allowed",
                                what[kind], n, KILN_NAME_MAX);
    for (size_t i = 0, step; i < n; i += step)
        if ((step = kiln__utf8_length(name + i, n - i)) == 0)
            return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "a %s's name is not valid UTF-8 at byte %zu",
                                    what[kind], i);
    if (kiln__name_find(g, kind, name) != 0)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "%s name '%s' is taken already", what[kind], name);
    if (!names_grow(g) || g->text.count + n + 1 > UINT32_MAX ||
        !KILN_GROW(&g->allocator, g->text, g->text.count + n + 1))
        return kiln__graph_fail(g, KILN_ERROR_MEMORY, "naming %s '%s': out of memory", what[kind], name);
    *offset = (uint32_t)g->text.count;
    memcpy(g->text.items + g->text.count, name, n + 1);
    g->text.count += n + 1;
    *name_place(g, kind, name) = (kiln__name_entry){*offset, kind, id};
    g->names.count++;
    return KILN_OK;
}

kiln_status kiln__tensor_set_name(kiln_graph *g, uint32_t tensor, const char *name) {
    uint32_t offset;
    kiln_status status = name_add(g, KILN_NAME_TENSOR, name, tensor, &offset);
    if (status != KILN_OK)
        return status;
    kiln__tensor *t = &g->tensors.items[tensor];
    t->name = offset;
    if (g->producers.items[tensor] != 0) {
        kiln__node *n = &g->nodes.items[g->producers.items[tensor] - 1];
        if (kiln__node_out(g, n)[0] == tensor)
            n->name = offset;
    }
    return KILN_OK;
}

void kiln_name(kiln_graph *g, kiln_tensor tensor, const char *format, ...) {
    if (g->error.status != KILN_OK)
        return;
    kiln_tensor_info info;
    if (kiln_tensor_get(g, tensor, &info) != KILN_OK) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "kiln_name: unknown tensor");
        return;
    }
    char name[KILN_NAME_MAX + 1];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(name, sizeof name, format, args);
    va_end(args);
    if (n > KILN_NAME_MAX) { /* cut: but not in the middle of a character */
        size_t end = KILN_NAME_MAX;
        while (end > 0 && ((unsigned char)name[end - 1] & 0xc0) == 0x80)
            end--;
        if (end > 0 && (unsigned char)name[end - 1] >= 0xc0)
            name[end - 1] = '\0';
    }
    (void)kiln__tensor_set_name(g, tensor.id, name);
}

const char *kiln__node_label(const kiln_graph *g, size_t node, char buffer[KILN__LABEL_SIZE]) {
    const kiln__node *n = &g->nodes.items[node];
    if (n->name != 0)
        snprintf(buffer, KILN__LABEL_SIZE, "%s", kiln__text(g, n->name));
    else
        snprintf(buffer, KILN__LABEL_SIZE, "%.100s.%s%zu", n->op->name, n->origin ? "" : "added",
                 n->origin ? (size_t)n->origin - 1 : node);
    return buffer;
}

/* Made for every node although only errors show it: snprintf took two fifths of the time of adding a node. */
const char *kiln__new_node_label(const kiln_graph *g, const kiln_op *op, const char *name,
                                 char buffer[KILN__LABEL_SIZE]) {
    if (name != NULL && name[0] != '\0')
        return name;
    char digits[20];
    size_t used = 0, n = 0, index = g->nodes.count;
    for (; used < 100 && op->name[used] != '\0'; used++)
        buffer[used] = op->name[used];
    do
        digits[n++] = (char)('0' + index % 10);
    while ((index /= 10) != 0);
    for (buffer[used++] = '.'; n > 0;)
        buffer[used++] = digits[--n];
    buffer[used] = '\0';
    return buffer;
}

const char *kiln__tensor_label(const kiln_graph *g, uint32_t tensor, char buffer[KILN__LABEL_SIZE]) {
    uint32_t name = g->tensors.items[tensor].name, producer = g->producers.items[tensor];
    if (name != 0) {
        snprintf(buffer, KILN__LABEL_SIZE, "%s", kiln__text(g, name));
    } else if (producer != 0) {
        const kiln__node *n = &g->nodes.items[producer - 1];
        const uint32_t *out = kiln__node_out(g, n);
        uint32_t j = 0;
        while (j + 1 < n->n_out && out[j] != tensor)
            j++;
        snprintf(buffer, KILN__LABEL_SIZE, "%.100s.%s%u:%u", n->op->name, n->origin ? "" : "added",
                 (n->origin ? n->origin : producer) - 1, j);
    } else {
        snprintf(buffer, KILN__LABEL_SIZE, "tensor.%u", tensor);
    }
    return buffer;
}

const char *kiln__storage_label(const kiln_graph *g, uint32_t storage, char buffer[KILN__LABEL_SIZE]) {
    if (g->storages.items[storage].name != 0)
        return kiln__text(g, g->storages.items[storage].name);
    snprintf(buffer, KILN__LABEL_SIZE, "storage.%u", storage);
    return buffer;
}

/* ---- slots ------------------------------------------------------------------------------------------ */

uint32_t kiln__slot_new(kiln_graph *g, const char *name, bool is_float, int64_t min, int64_t max,
                        float preset) {
    if (g->error.status != KILN_OK)
        return 0;
    if (min > max) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "slot '%s': min %lld is above max %lld",
                               name ? name : "", (long long)min, (long long)max);
        return 0;
    }
    if (g->slots.count > KILN__SLOTS_MAX) {
        (void)kiln__graph_fail(g, KILN_ERROR_LIMIT, "slot '%s': a graph has at most %d slots",
                               name ? name : "", (int)KILN__SLOTS_MAX);
        return 0;
    }
    if (!KILN_GROW(&g->allocator, g->slots, g->slots.count + 1)) {
        (void)kiln__graph_fail(g, KILN_ERROR_MEMORY, "adding a slot: out of memory");
        return 0;
    }
    uint32_t id = (uint32_t)g->slots.count, offset;
    if (name_add(g, KILN_NAME_SLOT, name, id, &offset) != KILN_OK)
        return 0;
    g->slots.items[id] =
        (kiln__slot){.name = offset, .is_float = is_float, .min = min, .max = max, .preset = preset};
    g->slots.count++;
    return id;
}

/* Adds what the term can be at least and at most. False: that does not fit. */
static bool add_term(const kiln_graph *g, kiln_dim term, int64_t *least, int64_t *most) {
    const kiln__slot *s = &g->slots.items[term.slot];
    int64_t low = term.n, high = term.n;
    if (term.slot != 0 && (!kiln__mul(term.n, term.n < 0 ? s->max : s->min, &low) ||
                           !kiln__mul(term.n, term.n < 0 ? s->min : s->max, &high)))
        return false;
    return kiln__add(*least, low, least) && kiln__add(*most, high, most);
}

/* Resolves the slots of terms into `sum`. */
static kiln_status take_terms(kiln_graph *g, const char *name, const kiln_dim *terms, kiln__slot *sum) {
    int64_t least = 0, most = 0;
    bool fits = true, any = false;
    for (uint32_t i = 0; i < sum->n_terms; i++) {
        kiln_dim term = terms[i];
        if (!kiln__slot_resolve(g, &term.slot) || g->slots.items[term.slot].is_float)
            return kiln__graph_fail(
                g, KILN_ERROR_ARGUMENT,
                "slot '%s': term %u is not an integer slot of this graph, or was not found", name, i);
        any = any || term.slot != 0;
        fits = fits && add_term(g, term, &least, &most);
        sum->terms[i] = term;
    }
    if (!any)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "slot '%s': no term of the sum is a slot", name);
    return fits ? KILN_OK
                : kiln__graph_fail(g, KILN_ERROR_OVERFLOW,
                                   "slot '%s': with some values of its slots the sum does not fit 63 bits",
                                   name);
}

uint32_t kiln__slot_sum_new(kiln_graph *g, const char *name, int64_t min, int64_t max, uint32_t n_terms,
                            const kiln_dim *terms) {
    kiln__slot sum = {.n_terms = n_terms};
    const char *shown = name ? name : "";
    if (g->error.status != KILN_OK)
        return 0;
    if (terms == NULL || n_terms == 0 || n_terms > KILN_MAX_TERMS)
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "slot '%s': %u terms%s; a sum has 1 to %d", shown,
                               n_terms, terms == NULL ? " at NULL" : "", (int)KILN_MAX_TERMS);
    else
        (void)take_terms(g, shown, terms, &sum);
    uint32_t id = kiln__slot_new(g, name, false, min, max, 0.0f);
    if (id != 0) {
        g->slots.items[id].n_terms = sum.n_terms;
        memcpy(g->slots.items[id].terms, sum.terms, sizeof sum.terms);
    }
    return id;
}

const char *kiln__sum_text(const kiln_graph *g, uint32_t slot, char buffer[KILN__SHAPE_SIZE]) {
    const kiln__slot *s = &g->slots.items[slot];
    char term[KILN__SHAPE_SIZE];
    size_t at = 0;
    buffer[0] = '\0';
    for (uint32_t i = 0; i < s->n_terms && at < KILN__SHAPE_SIZE; i++) {
        int n = snprintf(buffer + at, KILN__SHAPE_SIZE - at, "%s%s", i > 0 ? " + " : "",
                         kiln__dim_text(g, s->terms[i], term));
        at += n > 0 ? (size_t)n : 0;
    }
    return buffer;
}

bool kiln__slot_resolve(const kiln_graph *g, uint32_t *slot) {
    uint32_t id = *slot & KILN__SLOTS_MAX;
    bool known = *slot == 0 || (id != 0 && id < g->slots.count &&
                                (*slot == id || *slot == kiln_slot_ref((kiln_slot){id, g->tag})));
    *slot = id;
    return known;
}

kiln_slot kiln_slot_i64(kiln_graph *g, const char *name, int64_t min, int64_t max) {
    return (kiln_slot){kiln__slot_new(g, name, false, min, max, 0.0f), g->tag};
}

kiln_slot kiln_slot_sum(kiln_graph *g, const char *name, int64_t min, int64_t max, uint32_t n_terms,
                        const kiln_dim *terms) {
    return (kiln_slot){kiln__slot_sum_new(g, name, min, max, n_terms, terms), g->tag};
}

kiln_slot kiln_slot_f32(kiln_graph *g, const char *name, float preset) {
    return (kiln_slot){kiln__slot_new(g, name, true, 0, 0, preset), g->tag};
}

kiln_slot kiln_slot_find(const kiln_graph *g, const char *name) {
    return (kiln_slot){kiln__name_find(g, KILN_NAME_SLOT, name), g->tag};
}

/* ---- storages --------------------------------------------------------------------------------------- */

uint32_t kiln__storage_new(kiln_graph *g, kiln_storage_kind kind, const char *name, int64_t size) {
    if (g->error.status != KILN_OK)
        return 0;
    if ((unsigned)kind >= KILN_STORAGE_KIND_COUNT || size < 0) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "storage '%s': %s", name ? name : "",
                               size < 0 ? "a negative size" : "unknown kind");
        return 0;
    }
    if (g->storages.count >= UINT32_MAX || !KILN_GROW(&g->allocator, g->storages, g->storages.count + 1)) {
        (void)kiln__graph_fail(g, KILN_ERROR_MEMORY, "adding a storage: out of memory");
        return 0;
    }
    uint32_t id = (uint32_t)g->storages.count, offset = 0;
    bool unnamed = kind == KILN_STORAGE_ARENA && (name == NULL || name[0] == '\0');
    if (!unnamed && name_add(g, KILN_NAME_STORAGE, name, id, &offset) != KILN_OK)
        return 0;
    g->storages.items[id] = (kiln__storage){.name = offset, .kind = kind, .size = size};
    g->storages.count++;
    return id;
}

kiln_status kiln__storage_set_name(kiln_graph *g, uint32_t storage, const char *name) {
    return name_add(g, KILN_NAME_STORAGE, name, storage, &g->storages.items[storage].name);
}

kiln_storage kiln_storage_add(kiln_graph *g, kiln_storage_kind kind, const char *name, int64_t size) {
    return (kiln_storage){kiln__storage_new(g, kind, name, size), g->tag};
}

/* call: for the message. Only `data` of an input or weight may be constant. */
static void storage_data(kiln_graph *g, kiln_storage storage, void *data, bool constant, int64_t size,
                         uint64_t generation, const char *call) {
    if (g->error.status != KILN_OK)
        return;
    if (storage.graph != g->tag || storage.id == 0 || storage.id >= g->storages.count) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "%s: unknown storage", call);
        return;
    }
    kiln__storage *s = &g->storages.items[storage.id];
    const char *name = KILN__STORAGE_LABEL(g, storage.id);
    if (s->kind == KILN_STORAGE_ARENA || s->kind == KILN_STORAGE_STATE)
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "storage '%s' is %s: its bytes cannot be given here%s",
                               name, kiln__storage_kind_names[s->kind],
                               s->kind == KILN_STORAGE_STATE ? "; bind a kiln_state to the session" : "");
    else if (constant && s->kind == KILN_STORAGE_OUTPUT)
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                               "storage '%s' is output: nodes write it, so its bytes cannot be const; use "
                               "kiln_storage_data",
                               name);
    else if (data == NULL && s->size > 0)
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "storage '%s' needs %lld bytes, and data is NULL",
                               name, (long long)s->size);
    else if (size < s->size)
        (void)kiln__graph_fail(g, KILN_ERROR_BINDING, "storage '%s' needs %lld bytes, got %lld", name,
                               (long long)s->size, (long long)size);
    else {
        s->data = data;
        s->generation = generation;
    }
}

void kiln_storage_data(kiln_graph *g, kiln_storage storage, void *data, int64_t size, uint64_t generation) {
    storage_data(g, storage, data, false, size, generation, "kiln_storage_data");
}

void kiln_storage_data_const(kiln_graph *g, kiln_storage storage, const void *data, int64_t size,
                             uint64_t generation) {
    storage_data(g, storage, (void *)(uintptr_t)data, true, size, generation, "kiln_storage_data_const");
}

kiln_storage kiln_storage_of(const kiln_graph *g, kiln_tensor tensor) {
    kiln_tensor_info info;
    if (kiln_tensor_get(g, tensor, &info) != KILN_OK)
        return (kiln_storage){0, 0};
    return info.storage;
}

kiln_storage kiln_storage_find(const kiln_graph *g, const char *name) {
    uint32_t id = kiln__name_find(g, KILN_NAME_STORAGE, name);
    return (kiln_storage){id, id ? g->tag : 0};
}

size_t kiln_graph_node_count(const kiln_graph *g) {
    return g->nodes.count;
}
