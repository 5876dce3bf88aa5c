/* The memory plan.
 *
 * Properties. Storages share bytes only if one's last region comes before the other's first: the barrier
 * between those regions exists already, so reuse costs none. The one exception is in-place: an output takes
 * the place of an input that dies in the very node that makes the output. Deterministic, near-linear.
 *
 * In-place, for output tensor O of node n over input tensor I, region r of n:
 *   - both lie in arena storages of their own, offset 0, the whole storage, with equal dimensions, strides
 *     and element sizes: the kernel's tile that reads an element of I is the one that writes it in O, and the
 *     op's descriptor says it reads it before it writes it;
 *   - every access of I's storage but n's is in a region before r, so a barrier lies between; and nothing
 *     keeps I;
 *   - no other node of region r or before touches O's storage;
 *   - n reads I only, and writes O only, as these operands (or as another operand that is the same tensor I
 *     and may be overwritten by O as well): so no tile reads an element of I that another tile has written.
 * Whoever reads O later depends on n. O may in turn be taken over by another: a chain has one place, alive
 * from the first region of its first storage to the last of its last.
 *
 * Considered. In-place before ordering: then the order must be bent around it, which costs regions.
 */
#include "memory.h"

#include "flow.h"
#include "place.h"

/* What the plan must know of a storage besides its place. Nodes are 1 + index; 0 for none, MANY for more than
 * one. */
typedef struct usage {
    uint32_t first_node, last_node; /* who touches it in its first and in its last region */
    uint32_t kept;                  /* 1 + the last region it is kept for, 0 if none */
    uint32_t item;                  /* index of its item, shared by a chain */
} usage;
#define MANY UINT32_MAX

typedef struct planner {
    const kiln_graph *g;
    const kiln__hazards *h;
    const uint32_t *region_of;
    const kiln__memory_options *options;
    const kiln_allocator *a;
    kiln__memory *m;
    usage *usages;     /* [n_storages] */
    kiln__item *items; /* [n_storages] at most */
    uint32_t n_items;
} planner;

kiln_status kiln__memory_options_check(const kiln_graph *graph, const kiln__memory_options *options,
                                       kiln_error *error) {
    int64_t align = kiln__arena_align(options);
    if (align < 0 || (align & (align - 1)) != 0)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "arena alignment %lld is no power of two",
                              (long long)align);
    for (uint32_t i = 0; i < options->n_keep; i++) {
        kiln__keep k = options->keep[i];
        if (k.storage == 0 || k.storage >= graph->storages.count ||
            (k.node != KILN__KEEP_TO_END && k.node >= graph->nodes.count))
            return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                                  "keep %u: storage %u of %zu until node %u of %zu does not exist", i,
                                  k.storage, graph->storages.count, k.node, graph->nodes.count);
    }
    return KILN_OK;
}

/* ---- lives ------------------------------------------------------------------------------------------ */

static void touch(planner *p, uint32_t storage, uint32_t node) {
    kiln__place *place = &p->m->places[storage];
    usage *u = &p->usages[storage];
    uint32_t r = p->region_of[node], by = node + 1;
    if (place->first == KILN__NEVER) {
        place->first = place->last = r;
        u->first_node = u->last_node = by;
        return;
    }
    if (r < place->first) {
        place->first = r;
        u->first_node = by;
    } else if (r == place->first && u->first_node != by) {
        u->first_node = MANY;
    }
    if (r > place->last) {
        place->last = r;
        u->last_node = by;
    } else if (r == place->last && u->last_node != by) {
        u->last_node = MANY;
    }
}

static void find_lives(planner *p, uint32_t n_regions) {
    for (uint32_t s = 0; s < p->m->n_storages; s++) {
        bool arena = s != 0 && p->g->storages.items[s].kind == KILN_STORAGE_ARENA;
        p->m->places[s] = (kiln__place){.offset = arena ? 0 : -1, .first = KILN__NEVER, .last = KILN__NEVER};
    }
    for (size_t k = 0; k < p->h->list.count; k++) {
        const kiln__access *a = &p->h->list.items[k];
        for (uint32_t i = 0, n = kiln__access_storages(p->g, a); i < n; i++) {
            uint32_t s = kiln__access_storage(p->g, a, i);
            if (s != 0)
                touch(p, s, a->node);
        }
    }
    for (uint32_t i = 0; i < p->options->n_keep; i++) {
        kiln__keep k = p->options->keep[i];
        uint32_t until = k.node == KILN__KEEP_TO_END ? n_regions - 1 : p->region_of[k.node];
        if (p->m->places[k.storage].first != KILN__NEVER && until + 1 > p->usages[k.storage].kept)
            p->usages[k.storage].kept = until + 1;
    }
}

/* ---- in-place --------------------------------------------------------------------------------------- */

static const kiln__tensor *whole_arena_tensor(const kiln_graph *g, uint32_t id) {
    const kiln__tensor *t = id != 0 ? &g->tensors.items[id] : NULL;
    if (t == NULL || t->bytes == 0 || t->offset != 0)
        return NULL;
    const kiln__storage *s = &g->storages.items[t->storage];
    return s->kind == KILN_STORAGE_ARENA && s->size == t->bytes ? t : NULL;
}

/* The node reads storage `in` and writes storage `out` only by the pair's operands, or by equals of the
 * input. */
static bool only_by_pair(const planner *p, uint32_t node, kiln_inplace pair, const kiln__tensor *in,
                         const kiln__tensor *out) {
    const kiln__node *n = &p->g->nodes.items[node];
    const uint32_t *operands = kiln__node_in(p->g, n);
    for (uint32_t k = p->h->first_access[node]; k < p->h->first_access[node + 1]; k++) {
        const kiln__access *a = &p->h->list.items[k];
        if (a->storage == in->storage &&
            (a->mode != KILN_READ || a->operand >= n->n_in || operands[a->operand] != operands[pair.in] ||
             !kiln__op_has_inplace(n->op, pair.out, a->operand)))
            return false;
        if (a->storage == out->storage && (a->mode != KILN_WRITE || a->operand != n->n_in + pair.out))
            return false;
        if (a->storage == 0)
            return false;
    }
    return true;
}

static bool may_take(const planner *p, uint32_t node, kiln_inplace pair) {
    const kiln__node *n = &p->g->nodes.items[node];
    if (pair.in >= n->n_in || pair.out >= n->n_out)
        return false;
    const kiln__tensor *in = whole_arena_tensor(p->g, kiln__node_in(p->g, n)[pair.in]);
    const kiln__tensor *out = whole_arena_tensor(p->g, kiln__node_out(p->g, n)[pair.out]);
    if (in == NULL || out == NULL || in->storage == out->storage ||
        !kiln__desc_same_layout(kiln__desc_of(p->g, in), kiln__desc_of(p->g, out)))
        return false;
    const kiln__place *from = &p->m->places[in->storage], *to = &p->m->places[out->storage];
    const usage *from_usage = &p->usages[in->storage], *to_usage = &p->usages[out->storage];
    uint32_t r = p->region_of[node];
    return from->heir == 0 && to->host == 0 && from->last == r && from_usage->last_node == node + 1 &&
           from_usage->kept <= r && to->first == r && to_usage->first_node == node + 1 &&
           only_by_pair(p, node, pair, in, out);
}

static kiln_status take_inplace(planner *p) {
    for (uint32_t node = 0; node < p->h->n_nodes; node++) {
        const kiln__node *n = &p->g->nodes.items[node];
        for (uint32_t i = 0; i < n->op->n_inplace; i++) {
            kiln_inplace pair = n->op->inplace[i];
            if (!may_take(p, node, pair))
                continue;
            size_t want = (size_t)p->m->n_inplace + 1;
            if (!kiln__grow(p->a, (void **)&p->m->inplace, &p->m->inplace_capacity, want,
                            sizeof *p->m->inplace, _Alignof(max_align_t)))
                return KILN_ERROR_MEMORY;
            p->m->inplace[p->m->n_inplace++] = (kiln__inplace_use){node, pair.out, pair.in};
            uint32_t in = p->g->tensors.items[kiln__node_in(p->g, n)[pair.in]].storage;
            uint32_t out = p->g->tensors.items[kiln__node_out(p->g, n)[pair.out]].storage;
            p->m->places[in].heir = out;
            p->m->places[out].host = in;
        }
    }
    return KILN_OK;
}

/* ---- places ----------------------------------------------------------------------------------------- */

/* One item per chain: made at its first storage, then walked to the end. */
static kiln_status make_items(planner *p, kiln_error *error) {
    for (uint32_t s = 1; s < p->m->n_storages; s++) {
        const kiln__storage *storage = &p->g->storages.items[s];
        kiln__place *first = &p->m->places[s];
        int64_t size;
        if (p->usages[s].kept > 0 && p->usages[s].kept - 1 > first->last)
            first->last = p->usages[s].kept - 1;
        if (storage->kind != KILN_STORAGE_ARENA || storage->size == 0 || first->first == KILN__NEVER)
            continue;
        if (!kiln__align_up(storage->size, p->m->align, &size) ||
            !kiln__add(p->m->sum_bytes, size, &p->m->sum_bytes))
            return kiln_error_set(error, KILN_ERROR_OVERFLOW,
                                  "intermediate storages together take more than 63 bits of bytes (%lld in "
                                  "storage %u)",
                                  (long long)storage->size, s);
        if (first->host != 0)
            continue;
        kiln__item *item = &p->items[p->n_items];
        *item = (kiln__item){.size = size, .first = first->first};
        for (uint32_t link = s; link != 0; link = p->m->places[link].heir) {
            uint32_t kept = p->usages[link].kept, last = p->m->places[link].last;
            last = kept > last + 1 ? kept - 1 : last;
            item->last = last > item->last ? last : item->last;
            p->usages[link].item = p->n_items;
        }
        p->n_items++;
    }
    return KILN_OK;
}

static kiln_status place(planner *p, kiln_error *error) {
    kiln_status status = make_items(p, error);
    if (status != KILN_OK)
        return status;
    if (!kiln__place_items(p->items, p->n_items, p->m->align, p->a, &p->m->arena_bytes, &p->m->lower_bound))
        return kiln_error_set(error, KILN_ERROR_MEMORY, "planning the memory of %u storages: out of memory",
                              p->m->n_storages);
    if (p->options->no_reuse) {
        p->m->arena_bytes = 0;
        for (uint32_t i = 0; i < p->n_items; i++) {
            p->items[i].offset = p->m->arena_bytes;
            p->m->arena_bytes += p->items[i].size;
        }
    }
    for (uint32_t s = 1; s < p->m->n_storages; s++) {
        const kiln__storage *storage = &p->g->storages.items[s];
        if (storage->kind == KILN_STORAGE_ARENA && storage->size > 0 && p->m->places[s].first != KILN__NEVER)
            p->m->places[s].offset = p->items[p->usages[s].item].offset;
    }
    return KILN_OK;
}

kiln_status kiln__memory_plan(const kiln_graph *graph, const kiln__hazards *hazards,
                              const uint32_t *region_of, uint32_t n_regions,
                              const kiln__memory_options *options, const kiln_allocator *allocator,
                              kiln__memory *out, kiln_error *error) {
    *out = (kiln__memory){0};
    kiln_status status = kiln__memory_options_check(graph, options, error);
    if (status != KILN_OK)
        return status;
    out->n_storages = hazards->n_storages;
    out->align = kiln__arena_align(options);
    out->places = KILN_NEW_RAW(allocator, kiln__place, out->n_storages);
    planner p = {
        .g = graph, .h = hazards, .region_of = region_of, .options = options, .a = allocator, .m = out};
    p.usages = KILN_NEW(allocator, usage, out->n_storages);
    p.items = KILN_NEW_RAW(allocator, kiln__item, out->n_storages);
    status = KILN_ERROR_MEMORY;
    if (out->places != NULL && p.usages != NULL && p.items != NULL) {
        find_lives(&p, n_regions);
        status = options->no_inplace ? KILN_OK : take_inplace(&p);
    }
    if (status == KILN_OK)
        status = place(&p, error);
    else
        status = kiln_error_set(error, status, "planning the memory of %u storages: out of memory",
                                out->n_storages);
    KILN_DELETE(allocator, p.usages, usage, out->n_storages);
    KILN_DELETE(allocator, p.items, kiln__item, out->n_storages);
    if (status != KILN_OK)
        kiln__memory_free(out, allocator);
    return status;
}

void kiln__memory_free(kiln__memory *m, const kiln_allocator *allocator) {
    KILN_DELETE(allocator, m->places, kiln__place, m->n_storages);
    KILN_DELETE(allocator, m->inplace, kiln__inplace_use, m->inplace_capacity);
    *m = (kiln__memory){0};
}
