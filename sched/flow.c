/* Compressed rows in both directions, filled by counting. */
#include "flow.h"

/* Of counts at i + 1: starts at i. */
static void sums(uint32_t *first, size_t n) {
    for (size_t i = 0; i < n; i++)
        first[i + 1] += first[i];
}

/* Of starts at i + 1, as filling leaves them at i. */
static void shift(uint32_t *first, size_t n) {
    memmove(first + 1, first, n * sizeof *first);
    first[0] = 0;
}

static bool fill_out(kiln__flow *f) {
    const kiln__hazards *h = f->hazards;
    f->first_out = KILN_NEW(&f->allocator, uint32_t, (size_t)f->n_nodes + 1);
    f->out_node = KILN_NEW_RAW(&f->allocator, uint32_t, h->count);
    if (f->first_out == NULL || f->out_node == NULL)
        return false;
    for (size_t e = 0; e < h->count; e++)
        f->first_out[h->items[e].from + 1]++;
    sums(f->first_out, f->n_nodes);
    for (size_t e = 0; e < h->count; e++)
        f->out_node[f->first_out[h->items[e].from]++] = h->items[e].to;
    shift(f->first_out, f->n_nodes);
    return true;
}

/* Notes each (node, arena storage) once, by node; and counts them by storage. */
static void find_touches(kiln__flow *f, const kiln_graph *g, uint32_t *seen) {
    const kiln__hazards *h = f->hazards;
    uint32_t n = 0;
    for (uint32_t node = 0; node < f->n_nodes; node++) {
        f->first_touch[node] = n;
        for (uint32_t k = h->first_access[node]; k < h->first_access[node + 1]; k++) {
            const kiln__access *a = &h->list.items[k];
            for (uint32_t i = 0, end = kiln__access_storages(g, a); i < end; i++) {
                uint32_t s = kiln__access_storage(g, a, i);
                if (f->bytes[s] == 0 || seen[s] == node + 1)
                    continue;
                seen[s] = node + 1;
                f->touch_storage[n++] = s;
                f->first_user[s + 1]++;
            }
        }
    }
    f->first_touch[f->n_nodes] = f->n_touch = n;
}

static bool fill_touches(kiln__flow *f, const kiln_graph *g) {
    uint32_t *seen = KILN_NEW(&f->allocator, uint32_t, f->n_storages);
    f->room = g->operands.count; /* each is through an operand */
    f->first_touch = KILN_NEW_RAW(&f->allocator, uint32_t, (size_t)f->n_nodes + 1);
    f->first_user = KILN_NEW(&f->allocator, uint32_t, (size_t)f->n_storages + 1);
    f->touch_storage = KILN_NEW_RAW(&f->allocator, uint32_t, f->room);
    f->user_node = KILN_NEW_RAW(&f->allocator, uint32_t, f->room);
    bool ok = seen != NULL && f->first_touch != NULL && f->first_user != NULL && f->touch_storage != NULL &&
              f->user_node != NULL;
    if (ok) {
        find_touches(f, g, seen);
        sums(f->first_user, f->n_storages);
        for (uint32_t node = 0; node < f->n_nodes; node++)
            for (uint32_t i = f->first_touch[node]; i < f->first_touch[node + 1]; i++)
                f->user_node[f->first_user[f->touch_storage[i]]++] = node;
        shift(f->first_user, f->n_storages);
    }
    KILN_DELETE(&f->allocator, seen, uint32_t, f->n_storages);
    return ok;
}

static kiln_status fill_bytes(kiln__flow *f, const kiln_graph *g, const kiln__memory_options *options,
                              kiln_error *error) {
    f->bytes = KILN_NEW(&f->allocator, int64_t, f->n_storages);
    f->to_end = KILN_NEW(&f->allocator, bool, f->n_storages);
    if (f->bytes == NULL || f->to_end == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "ordering: out of memory");
    for (uint32_t i = 0; i < options->n_keep; i++)
        f->to_end[options->keep[i].storage] |= options->keep[i].node == KILN__KEEP_TO_END;
    int64_t sum = 0, align = kiln__arena_align(options);
    for (size_t s = 1; s < f->n_storages; s++) {
        const kiln__storage *storage = &g->storages.items[s];
        if (storage->kind == KILN_STORAGE_ARENA &&
            (!kiln__align_up(storage->size, align, &f->bytes[s]) || !kiln__add(sum, f->bytes[s], &sum)))
            return kiln_error_set(error, KILN_ERROR_OVERFLOW,
                                  "intermediate storages together take more than 63 bits of bytes (%lld in "
                                  "storage %zu)",
                                  (long long)storage->size, s);
    }
    return KILN_OK;
}

kiln_status kiln__flow_make(const kiln_graph *graph, const kiln__hazards *hazards,
                            const kiln__memory_options *options, const kiln_allocator *allocator,
                            kiln__flow *out, kiln_error *error) {
    *out = (kiln__flow){.allocator = *allocator,
                        .hazards = hazards,
                        .n_nodes = hazards->n_nodes,
                        .n_storages = hazards->n_storages};
    kiln_status status = fill_bytes(out, graph, options, error);
    if (status == KILN_OK && !(fill_out(out) && fill_touches(out, graph)))
        status = kiln_error_set(error, KILN_ERROR_MEMORY, "ordering %u nodes: out of memory", out->n_nodes);
    if (status != KILN_OK)
        kiln__flow_free(out);
    return status;
}

void kiln__flow_free(kiln__flow *f) {
    if (f->hazards == NULL)
        return;
    const kiln_allocator a = f->allocator;
    KILN_DELETE(&a, f->first_out, uint32_t, (size_t)f->n_nodes + 1);
    KILN_DELETE(&a, f->out_node, uint32_t, f->hazards->count);
    KILN_DELETE(&a, f->first_touch, uint32_t, (size_t)f->n_nodes + 1);
    KILN_DELETE(&a, f->touch_storage, uint32_t, f->room);
    KILN_DELETE(&a, f->first_user, uint32_t, (size_t)f->n_storages + 1);
    KILN_DELETE(&a, f->user_node, uint32_t, f->room);
    KILN_DELETE(&a, f->bytes, int64_t, f->n_storages);
    KILN_DELETE(&a, f->to_end, bool, f->n_storages);
    *f = (kiln__flow){0};
}
