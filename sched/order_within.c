/* An order under a memory budget.
 *
 * Properties. Every node is placed; hazards go from lower to higher regions; what is alive stays within the
 * budget whenever one of the nodes looked at fits it. Deterministic; n log n plus a bounded look-ahead per
 * region.
 *
 * Problem. Given a cap on memory, use few regions. Splitting the regions of the shortest order at its peak
 * does not help where many branches grow and then shrink again ("expand" nodes all in one region, "reduce"
 * nodes all in the next): halves of the first region still all live until the second. The branches must be
 * interleaved.
 *
 * Method. List scheduling: a node is ready when its predecessors are in closed regions. Ready nodes join the
 * current region, those first that free at least as much as they add (they can only help), program order
 * within both kinds, as long as what is alive plus what they add stays within the budget. When LOOK nodes did
 * not fit, or none is left, the region is closed and what died in it is free. A region that would stay empty
 * takes the node that adds least on balance, budget or not.
 *
 * Considered. Searching for the fewest regions (bin packing with precedence, NP-hard). Trying smaller budgets
 * and taking the best plan is left to the caller, which sees real arena sizes, in-place pairs included.
 */
#include "order.h"

enum { LOOK = 64 };

typedef struct heap {
    uint32_t *items; /* the lowest node first */
    size_t n;
} heap;

typedef enum node_state { WAITING, READY, READY_FREEING, DONE } node_state;

typedef struct lister {
    const kiln__flow *f;
    uint32_t *pending;    /* [n_nodes]: hazards that still hold it back */
    unsigned char *state; /* [n_nodes]: node_state */
    uint32_t *users_left; /* [n_storages] */
    uint32_t *users_xor;  /* [n_storages]: of the users left, so that the last one is known */
    bool *begun;          /* [n_storages]: its bytes count in `alive` */
    heap freeing, others; /* ready nodes; entries whose state says otherwise are stale */
    uint32_t *taken;      /* [n_nodes]: of the current region */
    size_t n_taken;
    int64_t alive;
} lister;

static void heap_push(heap *h, uint32_t node) {
    size_t i = h->n++;
    for (; i > 0 && h->items[(i - 1) / 2] > node; i = (i - 1) / 2)
        h->items[i] = h->items[(i - 1) / 2];
    h->items[i] = node;
}

static uint32_t heap_pop(heap *h) {
    uint32_t top = h->items[0], node = h->items[--h->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        child += child + 1 < h->n && h->items[child + 1] < h->items[child];
        if (h->items[child] >= node)
            break;
        h->items[i] = h->items[child];
    }
    h->items[i] = node;
    return top;
}

/* Bytes that come to life with the node, and those that die when its region closes if it were alone. */
static void balance(const lister *l, uint32_t node, int64_t *adds, int64_t *frees) {
    const kiln__flow *f = l->f;
    *adds = *frees = 0;
    for (size_t i = f->first_touch[node]; i < f->first_touch[node + 1]; i++) {
        uint32_t s = f->touch_storage[i];
        *adds += l->begun[s] ? 0 : f->bytes[s];
        *frees += l->users_left[s] == 1 && !f->to_end[s] ? f->bytes[s] : 0;
    }
}

static void make_ready(lister *l, uint32_t node) {
    int64_t adds, frees;
    balance(l, node, &adds, &frees);
    l->state[node] = adds <= frees ? READY_FREEING : READY;
    heap_push(adds <= frees ? &l->freeing : &l->others, node);
}

static void take(lister *l, uint32_t node) {
    const kiln__flow *f = l->f;
    l->state[node] = DONE;
    l->taken[l->n_taken++] = node;
    for (size_t i = f->first_touch[node]; i < f->first_touch[node + 1]; i++) {
        uint32_t s = f->touch_storage[i];
        l->alive += l->begun[s] ? 0 : f->bytes[s];
        l->begun[s] = true;
    }
}

/* The next ready node by preference; false when there is none. */
static bool next_ready(lister *l, uint32_t *node) {
    while (l->freeing.n > 0) {
        *node = heap_pop(&l->freeing);
        if (l->state[*node] == READY_FREEING)
            return true;
    }
    while (l->others.n > 0) {
        *node = heap_pop(&l->others);
        if (l->state[*node] == READY)
            return true;
    }
    return false;
}

static void fill_region(lister *l, int64_t budget) {
    uint32_t skipped[LOOK], node, least = 0;
    int64_t least_net = INT64_MAX;
    size_t n_skipped = 0;
    l->n_taken = 0;
    while (n_skipped < LOOK && next_ready(l, &node)) {
        int64_t adds, frees;
        balance(l, node, &adds, &frees);
        if (adds == 0 || adds <= budget - l->alive) {
            take(l, node);
            continue;
        }
        if (adds - frees < least_net) {
            least_net = adds - frees;
            least = node;
        }
        skipped[n_skipped++] = node;
    }
    if (l->n_taken == 0 && n_skipped > 0)
        take(l, least);
    for (size_t i = 0; i < n_skipped; i++)
        if (l->state[skipped[i]] != DONE)
            heap_push(l->state[skipped[i]] == READY ? &l->others : &l->freeing, skipped[i]);
}

static void close_region(lister *l) {
    const kiln__flow *f = l->f;
    for (size_t t = 0; t < l->n_taken; t++) {
        uint32_t node = l->taken[t];
        for (size_t i = f->first_touch[node]; i < f->first_touch[node + 1]; i++) {
            uint32_t s = f->touch_storage[i];
            l->users_xor[s] ^= node;
            if (--l->users_left[s] == 0 && !f->to_end[s])
                l->alive -= f->bytes[s];
        }
    }
    for (size_t t = 0; t < l->n_taken; t++) {
        uint32_t node = l->taken[t];
        for (size_t i = f->first_touch[node]; i < f->first_touch[node + 1]; i++) {
            uint32_t s = f->touch_storage[i], last = l->users_xor[s];
            int64_t adds, frees;
            if (l->users_left[s] != 1 || l->state[last] != READY)
                continue;
            balance(l, last, &adds, &frees);
            if (adds > frees)
                continue;
            l->state[last] = READY_FREEING; /* its entry among the others is stale now */
            heap_push(&l->freeing, last);
        }
        for (size_t i = f->first_out[node]; i < f->first_out[node + 1]; i++)
            if (--l->pending[f->out_node[i]] == 0)
                make_ready(l, f->out_node[i]);
    }
}

static bool lister_init(lister *l, const kiln__flow *f) {
    const kiln_allocator *a = &f->allocator;
    *l = (lister){.f = f};
    l->pending = KILN_NEW(a, uint32_t, f->n_nodes);
    l->state = KILN_NEW(a, unsigned char, f->n_nodes);
    l->users_left = KILN_NEW(a, uint32_t, f->n_storages);
    l->users_xor = KILN_NEW(a, uint32_t, f->n_storages);
    l->begun = KILN_NEW(a, bool, f->n_storages);
    l->freeing.items = KILN_NEW(a, uint32_t, f->n_nodes);
    l->others.items = KILN_NEW(a, uint32_t, f->n_nodes);
    l->taken = KILN_NEW(a, uint32_t, f->n_nodes);
    if (!l->pending || !l->state || !l->users_left || !l->users_xor || !l->begun || !l->freeing.items ||
        !l->others.items || !l->taken)
        return false;
    for (uint32_t s = 0; s < f->n_storages; s++) {
        l->users_left[s] = (uint32_t)(f->first_user[s + 1] - f->first_user[s]);
        for (size_t i = f->first_user[s]; i < f->first_user[s + 1]; i++)
            l->users_xor[s] ^= f->user_node[i];
    }
    for (uint32_t node = 0; node < f->n_nodes; node++) {
        const uint32_t *first = f->hazards->first_hazard;
        l->pending[node] = (uint32_t)(first[node + 1] - first[node]);
        if (l->pending[node] == 0)
            make_ready(l, node);
    }
    return true;
}

static void lister_free(lister *l) {
    const kiln__flow *f = l->f;
    const kiln_allocator *a = &f->allocator;
    KILN_DELETE(a, l->pending, uint32_t, f->n_nodes);
    KILN_DELETE(a, l->state, unsigned char, f->n_nodes);
    KILN_DELETE(a, l->users_left, uint32_t, f->n_storages);
    KILN_DELETE(a, l->users_xor, uint32_t, f->n_storages);
    KILN_DELETE(a, l->begun, bool, f->n_storages);
    KILN_DELETE(a, l->freeing.items, uint32_t, f->n_nodes);
    KILN_DELETE(a, l->others.items, uint32_t, f->n_nodes);
    KILN_DELETE(a, l->taken, uint32_t, f->n_nodes);
}

kiln_status kiln__order_within(const kiln__flow *f, int64_t budget, uint32_t *region_of, uint32_t *n_regions,
                               kiln_error *error) {
    lister l;
    *n_regions = 0;
    bool ok = lister_init(&l, f);
    for (uint32_t placed = 0; ok && placed < f->n_nodes; (*n_regions)++) {
        fill_region(&l, budget);
        for (size_t t = 0; t < l.n_taken; t++)
            region_of[l.taken[t]] = *n_regions;
        placed += (uint32_t)l.n_taken;
        close_region(&l);
    }
    lister_free(&l);
    return ok ? KILN_OK
              : kiln_error_set(error, KILN_ERROR_MEMORY, "ordering %u nodes: out of memory", f->n_nodes);
}
