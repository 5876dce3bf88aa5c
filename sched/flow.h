/* Who follows whom, and who touches which arena storage: what ordering walks over. Internal. */
#ifndef KILN_SCHED_FLOW_H
#define KILN_SCHED_FLOW_H

#include "memory.h"

/* Built once per schedule; borrows the hazards. */
typedef struct kiln__flow {
    kiln_allocator allocator;
    const kiln__hazards *hazards;
    uint32_t n_nodes, n_storages;
    uint32_t *first_out;     /* [n_nodes + 1] */
    uint32_t *out_node;      /* where the hazards from a node lead, grouped by it */
    uint32_t *first_touch;   /* [n_nodes + 1] */
    uint32_t *touch_storage; /* the arena storages a node touches, each once, grouped by node */
    uint32_t *first_user;    /* [n_storages + 1] */
    uint32_t *user_node;     /* the nodes that touch an arena storage, in program order, grouped by storage */
    uint32_t n_touch;
    size_t room;    /* of touch_storage and user_node */
    int64_t *bytes; /* [n_storages]: sizes rounded up to the alignment; 0 for those not in the arena */
    /* [n_storages]: kept to the end of the run. (Other `keep` entries count in the plan only.) */
    bool *to_end;
} kiln__flow;

/* `options` has passed kiln__memory_options_check. An opaque node touches all its operands. Errors:
 * KILN_ERROR_MEMORY, KILN_ERROR_OVERFLOW (the arena storages together do not fit 63 bits: so no sum of them
 * overflows later). */
KILN_MUST_CHECK kiln_status kiln__flow_make(const kiln_graph *graph, const kiln__hazards *hazards,
                                            const kiln__memory_options *options,
                                            const kiln_allocator *allocator, kiln__flow *out,
                                            kiln_error *error);
void kiln__flow_free(kiln__flow *flow);

/* Storages an access may touch: calls for each of them, an opaque node's operands one by one. */
static inline uint32_t kiln__access_storages(const kiln_graph *g, const kiln__access *access) {
    const kiln__node *n = &g->nodes.items[access->node];
    return access->storage != 0 ? 1 : n->n_in + n->n_out;
}
static inline uint32_t kiln__access_storage(const kiln_graph *g, const kiln__access *access, uint32_t i) {
    if (access->storage != 0)
        return access->storage;
    uint32_t tensor = g->operands.items[g->nodes.items[access->node].operands + i];
    return tensor != 0 ? g->tensors.items[tensor].storage : 0;
}

#endif
