/* What a program uses each storage for, and what its accesses must not do. Everything here is decided by the
 * access boxes that hazards were found from, in program order.
 *
 * Refused, because the result would depend on tiles, threads or where the arena lies:
 * - reading bytes of an intermediate or an output that nothing before writes;
 * - writing to a weight or an input, or through a view whose elements share bytes;
 * - one node that writes bytes which it reads, or writes, through another operand. Exempt are an output that
 *   the op makes on an input's bytes (its alias) and a pair that its descriptor declares as safe in place,
 *   both only when the two are the same tensor; within one operand order is the op's own affair.
 */
#include "plan.h"

#include "box.h"

#include <stdlib.h>

typedef struct checker {
    const kiln_allocator *a;
    const kiln_graph *p;
    const kiln__hazards *h;
    const kiln_access_list *list; /* of h */
    kiln__storage_use *uses;
    size_t n_uses;
    struct {
        uint32_t *items; /* accesses that may have written what is being read */
        size_t count, capacity;
    } writers;
    bool opaque; /* a node before this one may have written anything */
    size_t runs_left;
    kiln_error *error;
} checker;

/* Runs of bytes that may be looked at, all reads together; what comes after is believed. Only reads that no
 * single earlier write covers cost any. */
enum { RUNS_MAX = 1 << 22 };

static const char *operand_label(const checker *c, const kiln__access *a, char buffer[KILN__LABEL_SIZE]) {
    const kiln__node *n = &c->p->nodes.items[a->node];
    return kiln__tensor_label(c->p, c->p->operands.items[n->operands + a->operand], buffer);
}

/* ---- read before written ---------------------------------------------------------------------------- */

typedef struct run {
    int64_t lo, hi;
} run;

typedef struct runs {
    run *items;
    size_t count, capacity;
} runs;

static int by_start(const void *a, const void *b) {
    const run *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Appends the runs of a box. False: out of memory, or too many (then *runs_left is 0). */
static bool add_runs(const kiln_allocator *a, runs *to, const kiln_box *box, size_t *runs_left) {
    kiln_box b = *box;
    if (kiln__box_dense(box)) {
        int64_t lo, hi;
        (void)kiln__box_hull(box, &lo, &hi); /* fits: checked when the access was declared */
        b = (kiln_box){lo, hi - lo, {1, 1, 1}, {0, 0, 0}};
    }
    int64_t left = (int64_t)*runs_left;
    if (b.count[0] > left || b.count[1] > left / b.count[0] || b.count[2] > left / b.count[0] / b.count[1]) {
        *runs_left = 0;
        return false;
    }
    size_t n = (size_t)(b.count[0] * b.count[1] * b.count[2]);
    if (n == 0)
        return true;
    if (!KILN_GROW(a, *to, to->count + n))
        return false;
    *runs_left -= n;
    for (int64_t i = 0; i < b.count[0]; i++)
        for (int64_t j = 0; j < b.count[1]; j++)
            for (int64_t k = 0; k < b.count[2]; k++) {
                int64_t lo = b.offset + i * b.stride[0] + j * b.stride[1] + k * b.stride[2];
                to->items[to->count++] = (run){lo, lo + b.length};
            }
    return true;
}

/* Sorted, and what touches made one. */
static void merge_runs(runs *r) {
    size_t n = 0;
    if (r->count > 0)
        qsort(r->items, r->count, sizeof *r->items, by_start);
    for (size_t i = 0; i < r->count; i++) {
        if (n > 0 && r->items[i].lo <= r->items[n - 1].hi)
            r->items[n - 1].hi = r->items[i].hi > r->items[n - 1].hi ? r->items[i].hi : r->items[n - 1].hi;
        else
            r->items[n++] = r->items[i];
    }
    r->count = n;
}

/* The first byte of `reads` that is not in `writes`, both merged; -1 when there is none. */
static int64_t first_missing(const runs *reads, const runs *writes) {
    size_t w = 0;
    for (size_t i = 0; i < reads->count; i++) {
        while (w < writes->count && writes->items[w].hi <= reads->items[i].lo)
            w++;
        if (w == writes->count || writes->items[w].lo > reads->items[i].lo)
            return reads->items[i].lo;
        if (writes->items[w].hi < reads->items[i].hi)
            return writes->items[w].hi;
    }
    return -1;
}

static bool add_writers(checker *c, uint32_t node, size_t end, uint32_t space) {
    const kiln__hazards *h = c->h;
    for (size_t i = h->first_access[node]; i < end; i++) {
        const kiln__access *a = &c->list->items[i];
        if (!(a->mode & KILN_WRITE) || h->places[a->storage].space != space)
            continue;
        if (!KILN_GROW(c->a, c->writers, c->writers.count + 1))
            return false;
        c->writers.items[c->writers.count++] = (uint32_t)i;
    }
    return true;
}

/* Fills c->writers for access `at`. The node that wrote a byte last has a hazard to every node that reads it, so
 * nobody else need be asked; and its own node's accesses before it. */
static bool find_writers(checker *c, size_t at) {
    const kiln__hazards *h = c->h;
    uint32_t node = c->list->items[at].node, space = h->places[c->list->items[at].storage].space;
    bool ok = true;
    c->writers.count = 0;
    for (size_t e = h->first_hazard[node]; ok && e < h->first_hazard[node + 1]; e++)
        ok = add_writers(c, h->items[e].from, h->first_access[h->items[e].from + 1], space);
    return ok && add_writers(c, node, at, space);
}

/* The box of a writer, with offsets as in the storage that is read. */
static kiln_box writer_box(const checker *c, size_t writer, const kiln__access *read) {
    const kiln__space_place *places = c->h->places;
    const kiln__access *a = &c->list->items[c->writers.items[writer]];
    kiln_box box = kiln__access_box(c->list, a);
    box.offset += places[a->storage].base - places[read->storage].base;
    return box;
}

static bool one_covers(const checker *c, const kiln__access *read) {
    kiln_box wanted = kiln__access_box(c->list, read);
    for (size_t i = 0; i < c->writers.count; i++) {
        kiln_box box = writer_box(c, i, read);
        if (kiln__box_covers(&box, &wanted))
            return true;
    }
    return false;
}

/* Looks for a byte that access `at` reads and that none of its writers writes. */
static kiln_status find_missing(checker *c, size_t at, int64_t *missing) {
    const kiln__access *read = &c->list->items[at];
    const kiln_allocator *a = c->a;
    runs reads = {0}, writes = {0};
    *missing = -1;
    kiln_box wanted = kiln__access_box(c->list, read);
    bool ok = add_runs(a, &reads, &wanted, &c->runs_left);
    for (size_t i = 0; ok && i < c->writers.count; i++) {
        kiln_box box = writer_box(c, i, read);
        ok = add_runs(a, &writes, &box, &c->runs_left);
    }
    if (ok) {
        merge_runs(&reads);
        merge_runs(&writes);
        *missing = first_missing(&reads, &writes);
    }
    KILN_ARRAY_FREE(a, reads);
    KILN_ARRAY_FREE(a, writes);
    return ok || c->runs_left == 0 ? KILN_OK
                                   : kiln_error_set(c->error, KILN_ERROR_MEMORY, "baking: out of memory");
}

/* Does the write of one hazard hold all of the read that it ends in? So it is nearly always, and then nothing else need be
 * looked at. */
static bool one_hazard_covers(const checker *c, size_t at) {
    const kiln__hazards *h = c->h;
    const kiln__access *read = &c->list->items[at];
    for (size_t e = h->first_hazard[read->node]; e < h->first_hazard[read->node + 1]; e++) {
        const kiln__access *a = &c->list->items[h->items[e].from_access];
        if (h->items[e].to_access == at && (a->mode & KILN_WRITE) && a->levels == 0 && read->levels == 0 &&
            a->storage == read->storage && a->offset <= read->offset &&
            read->offset + read->length <= a->offset + a->length)
            return true;
    }
    return false;
}

/* A byte of the storage that access `at` reads and that nothing before it has written; -1: there is none. */
static kiln_status find_unwritten(checker *c, size_t at, int64_t *byte) {
    const kiln__access *a = &c->list->items[at];
    kiln_storage_kind kind = c->p->storages.items[a->storage].kind;
    *byte = -1;
    if (c->opaque || (kind != KILN_STORAGE_ARENA && kind != KILN_STORAGE_OUTPUT) || one_hazard_covers(c, at))
        return KILN_OK;
    if (!find_writers(c, at))
        return kiln_error_set(c->error, KILN_ERROR_MEMORY, "baking: out of memory");
    return one_covers(c, a) ? KILN_OK : find_missing(c, at, byte);
}

static kiln_status check_read(checker *c, size_t at) {
    const kiln__access *a = &c->list->items[at];
    int64_t missing;
    kiln_status status = find_unwritten(c, at, &missing);
    if (status != KILN_OK || missing < 0)
        return status;
    char node[KILN__LABEL_SIZE], tensor[KILN__LABEL_SIZE];
    const char *op = c->p->nodes.items[a->node].op->name;
    kiln__node_label(c->p, a->node, node);
    operand_label(c, a, tensor);
    if (!c->uses[a->storage].written)
        return kiln_error_set(c->error, KILN_ERROR_ARGUMENT,
                              "node '%s' (%s) reads '%s', which no earlier node writes", node, op, tensor);
    return kiln_error_set(
        c->error, KILN_ERROR_ARGUMENT,
        "node '%s' (%s) reads '%s', of which no earlier node writes byte %lld of storage '%s'", node, op,
        tensor, (long long)missing, KILN__STORAGE_LABEL(c->p, a->storage));
}

static kiln_status check_write(const checker *c, const kiln__access *a) {
    kiln_storage_kind kind = c->p->storages.items[a->storage].kind;
    const kiln__node *n = &c->p->nodes.items[a->node];
    uint32_t tensor = c->p->operands.items[n->operands + a->operand];
    char node[KILN__LABEL_SIZE];
    /* Of outputs that is known since the node was added. */
    if (a->operand < n->n_in &&
        kiln__desc_shares_bytes(c->p, kiln__desc_of(c->p, &c->p->tensors.items[tensor])))
        return kiln_error_set(
            c->error, KILN_ERROR_ARGUMENT,
            "node '%s' (%s) declares that it writes to operand %u (%s), a view whose elements share bytes "
            "(broadcast, or strides that cross)",
            kiln__node_label(c->p, a->node, node), n->op->name, (unsigned)a->operand,
            n->op->in_names[a->operand < n->op->n_in_max ? a->operand : n->op->n_in_max - 1u]);
    if (kind != KILN_STORAGE_WEIGHT && kind != KILN_STORAGE_INPUT)
        return KILN_OK;
    return kiln_error_set(c->error, KILN_ERROR_ARGUMENT,
                          "node '%s' (%s) declares that it writes to '%s', which is of kind %s",
                          kiln__node_label(c->p, a->node, node), c->p->nodes.items[a->node].op->name,
                          KILN__STORAGE_LABEL(c->p, a->storage), kiln__storage_kind_names[kind]);
}

/* ---- two operands of one node ----------------------------------------------------------------------- */

static bool may_share(const checker *c, const kiln__node *n, const kiln__access *x, const kiln__access *y) {
    const kiln__access *in = x->operand < y->operand ? x : y, *out = in == x ? y : x;
    if (in->operand >= n->n_in || out->operand < n->n_in)
        return false;
    const uint32_t *operands = kiln__node_in(c->p, n);
    const kiln__tensor *t = &c->p->tensors.items[operands[in->operand]];
    const kiln__tensor *u = &c->p->tensors.items[operands[out->operand]];
    uint32_t j = out->operand - n->n_in;
    return t->storage == u->storage && t->offset == u->offset &&
           kiln__desc_same_layout(kiln__desc_of(c->p, t), kiln__desc_of(c->p, u)) &&
           (n->alias[j] == in->operand + 1 || kiln__op_has_inplace(n->op, j, in->operand));
}

static kiln_status check_apart(const checker *c, uint32_t node) {
    const kiln__hazards *h = c->h;
    const kiln__node *n = &c->p->nodes.items[node];
    for (size_t i = h->first_access[node]; i < h->first_access[node + 1]; i++) {
        const kiln__access *x = &c->list->items[i];
        for (size_t k = h->first_access[node]; (x->mode & KILN_WRITE) && k < h->first_access[node + 1]; k++) {
            const kiln__access *y = &c->list->items[k];
            /* What declares no accesses has one, of all memory: it knows what it does. A tap's may stand beside that. */
            if (x->operand == KILN__OPERAND_ANY || x->operand == y->operand ||
                !kiln__accesses_conflict(h, x, y, NULL) || may_share(c, n, x, y))
                continue;
            char label[KILN__LABEL_SIZE], a[KILN__LABEL_SIZE], b[KILN__LABEL_SIZE];
            return kiln_error_set(
                c->error, KILN_ERROR_ARGUMENT,
                "node '%s' (%s) writes to '%s' and %s '%s', and the two share bytes; copy one "
                "of them first (kiln_copy)",
                kiln__node_label(c->p, node, label), n->op->name, operand_label(c, x, a),
                y->mode & KILN_WRITE ? "to" : "reads", operand_label(c, y, b));
        }
    }
    return KILN_OK;
}

/* ---- the walk --------------------------------------------------------------------------------------- */

static void note_aligns(kiln_plan *plan) {
    const kiln_graph *p = plan->program;
    for (size_t i = 0; i < plan->n_uses; i++)
        plan->uses[i].align = 1;
    for (size_t i = 1; i < p->tensors.count; i++) {
        const kiln__tensor *t = &p->tensors.items[i];
        uint32_t align = kiln_dtype_get(kiln__desc_of(p, t)->dtype)->align;
        if (plan->uses[t->storage].align < align)
            plan->uses[t->storage].align = align;
    }
}

static kiln_status check_node(checker *c, uint32_t node) {
    const kiln__hazards *h = c->h;
    kiln_status status = KILN_OK;
    for (size_t i = h->first_access[node]; status == KILN_OK && i < h->first_access[node + 1]; i++) {
        const kiln__access *a = &c->list->items[i];
        kiln__storage_use *use = &c->uses[a->storage];
        if (a->operand == KILN__OPERAND_ANY) {
            c->opaque = true;
            for (size_t s = 0; s < c->n_uses; s++)
                c->uses[s].read = c->uses[s].written = true;
            continue;
        }
        if (a->mode & KILN_READ)
            status = check_read(c, i);
        if (status == KILN_OK && (a->mode & KILN_WRITE))
            status = check_write(c, a);
        use->read = use->read || (a->mode & KILN_READ);
        use->written = use->written || (a->mode & KILN_WRITE);
    }
    return status == KILN_OK ? check_apart(c, node) : status;
}

kiln_status kiln__plan_check_uses(kiln_plan *plan, kiln_error *error) {
    const kiln_graph *p = plan->program;
    checker c = {.a = &plan->allocator,
                 .p = p,
                 .h = &plan->hazards,
                 .list = &plan->hazards.list,
                 .runs_left = RUNS_MAX,
                 .error = error};
    plan->n_uses = p->storages.count;
    plan->uses = KILN_NEW(&plan->allocator, kiln__storage_use, plan->n_uses);
    c.uses = plan->uses;
    c.n_uses = plan->n_uses;
    kiln_status status =
        plan->uses != NULL ? KILN_OK : kiln_error_set(error, KILN_ERROR_MEMORY, "baking: out of memory");
    if (status == KILN_OK)
        note_aligns(plan);
    for (uint32_t node = 0; status == KILN_OK && node < plan->hazards.n_nodes; node++)
        status = check_node(&c, node);
    KILN_ARRAY_FREE(&plan->allocator, c.writers);
    return status;
}

/* ---- taps ------------------------------------------------------------------------------------------- */

/* The access by which a tapped output is read when its node is done: the node's last one of that operand. */
static size_t access_of_tap(const checker *c, const kiln__tap *tap, uint32_t node) {
    const kiln__node *n = &c->p->nodes.items[node];
    uint32_t operand = n->n_in;
    while (c->p->operands.items[n->operands + operand] != tap->tensor)
        operand++;
    size_t at = c->h->first_access[node + 1];
    while (at > c->h->first_access[node] && c->list->items[at - 1].operand != operand)
        at--;
    return at; /* 1 + its index */
}

kiln_status kiln__taps_find_unwritten(const kiln_plan *plan, const kiln__hazards *h, int64_t *unwritten,
                                      kiln_error *error) {
    const kiln_graph *g = plan->graph;
    checker c = {
        .a = &plan->allocator, .p = g, .h = h, .list = &h->list, .runs_left = RUNS_MAX, .error = error};
    uint32_t first_opaque = 0;
    while (first_opaque < g->nodes.count && g->nodes.items[first_opaque].op->accesses != NULL)
        first_opaque++;
    kiln_status status = KILN_OK;
    for (size_t t = 0; status == KILN_OK && t < plan->taps.count; t++) {
        const kiln__tap *tap = &plan->taps.items[t];
        uint32_t node = g->producers.items[tap->tensor] - 1;
        unwritten[t] = -1;
        c.opaque = first_opaque <= node;
        if (g->tensors.items[tap->tensor].bytes > 0)
            status = find_unwritten(&c, access_of_tap(&c, tap, node) - 1, &unwritten[t]);
    }
    KILN_ARRAY_FREE(c.a, c.writers);
    return status;
}
