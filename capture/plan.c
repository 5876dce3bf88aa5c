/* Looking at plans. */
#include "plan.h"

#include "cost.h"

void kiln_plan_get_summary(const kiln_plan *plan, kiln_plan_summary *out) {
    const kiln__schedule *s = &plan->schedule;
    *out = (kiln_plan_summary){.nodes = (uint32_t)plan->graph->nodes.count,
                               .records = s->n_nodes,
                               .regions = s->n_regions,
                               .barriers = s->n_barriers,
                               .barriers_avoided = s->barriers_avoided,
                               .longest_chain = s->longest_chain,
                               .fusions = (uint32_t)plan->rewrites.count,
                               .inplace = s->memory.n_inplace,
                               .arena_bytes = s->memory.arena_bytes,
                               .sum_bytes = s->memory.sum_bytes,
                               .lower_bound = s->memory.lower_bound};
    for (size_t i = 1; i < plan->program->storages.count; i++) {
        const kiln__storage *storage = &plan->program->storages.items[i];
        if (storage->kind == KILN_STORAGE_INPUT || storage->kind == KILN_STORAGE_OUTPUT)
            out->io_bytes = kiln__plus(out->io_bytes, storage->size);
    }
}

kiln_tensor kiln_plan_tensor(const kiln_plan *plan, const char *name) {
    return kiln_tensor_find(plan->graph, name);
}

kiln_storage kiln_plan_storage(const kiln_plan *plan, const char *name) {
    uint32_t id = kiln__name_find(plan->graph, KILN_NAME_STORAGE, name);
    return (kiln_storage){id, id ? plan->graph->tag : 0};
}

kiln_slot kiln_plan_slot(const kiln_plan *plan, const char *name) {
    kiln_slot slot = kiln_slot_find(plan->graph, name);
    return slot.id ? slot : (kiln_slot){0, 0};
}

kiln_tensor kiln_plan_tensor_at(const kiln_plan *plan, size_t i) {
    bool known = i < plan->graph->tensors.count - 1;
    return (kiln_tensor){known ? (uint32_t)i + 1 : 0, known ? plan->graph->tag : 0};
}

kiln_status kiln_plan_tensor_get(const kiln_plan *plan, kiln_tensor tensor, kiln_tensor_info *out) {
    return kiln_tensor_get(plan->graph, tensor, out);
}

bool kiln_plan_storage_at(const kiln_plan *plan, size_t i, kiln_storage_info *out) {
    const kiln_graph *g = plan->graph;
    for (size_t id = 1; id < g->storages.count; id++) {
        const kiln__storage *s = &g->storages.items[id];
        if (s->kind == KILN_STORAGE_ARENA || i-- > 0)
            continue;
        *out = (kiln_storage_info){.storage = {(uint32_t)id, g->tag},
                                   .name = kiln__text(g, s->name),
                                   .kind = s->kind,
                                   .size = s->size,
                                   .align = plan->uses[id].align,
                                   .written = plan->uses[id].written};
        return true;
    }
    return false;
}

bool kiln_plan_slot_at(const kiln_plan *plan, size_t i, kiln_slot_info *out) {
    const kiln_graph *g = plan->graph;
    if (i + 1 >= g->slots.count)
        return false;
    const kiln__slot *s = &g->slots.items[i + 1];
    *out = (kiln_slot_info){.slot = {(uint32_t)i + 1, g->tag},
                            .name = kiln__text(g, s->name),
                            .is_float = s->is_float,
                            .min = s->min,
                            .max = s->max,
                            .preset = s->preset,
                            .n_terms = s->n_terms};
    memcpy(out->terms, s->terms, sizeof out->terms);
    return true;
}
