/* The order with the fewest regions.
 *
 * Properties. Exactly as many regions as the longest chain of hazards has nodes: each node's earliest region
 * is one more than the latest of its predecessors, and a node only ever moves between its predecessors and
 * its successors. The peak of what is alive is never above that of the earliest order. Deterministic,
 * near-linear.
 *
 * Problem. Least peak memory within the slack is NP-hard; what costs memory in practice are producers run
 * long before anyone needs them (tables, casts, masks: sources of the graph) and reducers run late.
 *
 * Method. Bytes × regions alive stands in for the peak: it is a sum over storages, so the cost of moving one
 * node concerns the few storages it touches. As a function of the node's region that cost is convex and
 * piecewise linear, so its least value lies at an end of the slack or where another user of a storage stands:
 * those are tried. Nodes are swept backwards (ties go late, which frees predecessors to follow) and forwards
 * (ties go early, towards program order). One start is everything early; another everything late, because a
 * whole chain of sources may have to move together. Of the results the one with the lowest true peak is
 * taken, the earliest order first among equals.
 *
 * Considered. Minimising the peak by itself: flat almost everywhere, so local moves find nothing. Branch and
 * bound: exponential.
 */
#include "order.h"

enum {
    USERS_MAX = 32, /* a storage with more users is not weighed: one of them hardly ever decides its life */
    SWEEPS = 2
};

/* First and last region among the users of a storage, one node left out. */
typedef struct life {
    uint32_t first, last;
    bool any;
} life;

static life life_of_others(const kiln__flow *f, const uint32_t *region_of, uint32_t storage, uint32_t node) {
    life l = {UINT32_MAX, 0, false};
    for (size_t i = f->first_user[storage]; i < f->first_user[storage + 1]; i++) {
        uint32_t user = f->user_node[i];
        if (user == node)
            continue;
        l.any = true;
        l.first = region_of[user] < l.first ? region_of[user] : l.first;
        l.last = region_of[user] > l.last ? region_of[user] : l.last;
    }
    return l;
}

/* Behind all predecessors. */
static uint32_t earliest(const kiln__flow *f, const uint32_t *region_of, uint32_t node) {
    const kiln__hazards *h = f->hazards;
    uint32_t lo = 0;
    for (size_t e = h->first_hazard[node]; e < h->first_hazard[node + 1]; e++) {
        uint32_t after = region_of[h->items[e].from] + 1;
        lo = after > lo ? after : lo;
    }
    return lo;
}

/* Before all successors. */
static uint32_t latest(const kiln__flow *f, const uint32_t *region_of, uint32_t n_regions, uint32_t node) {
    uint32_t hi = n_regions - 1;
    for (size_t i = f->first_out[node]; i < f->first_out[node + 1]; i++) {
        uint32_t before = region_of[f->out_node[i]] - 1;
        hi = before < hi ? before : hi;
    }
    return hi;
}

enum { LIVES_MAX = 16 }; /* storages of one node that are weighed */

typedef struct weigh {
    life lives[LIVES_MAX];
    int64_t bytes[LIVES_MAX];
    int n;
} weigh;

/* Bytes × regions of the weighed storages with the node in region r. As a double: it only ranks. */
static double cost_at(const weigh *w, uint32_t r) {
    double cost = 0;
    for (int i = 0; i < w->n; i++) {
        uint32_t first = w->lives[i].first < r ? w->lives[i].first : r;
        uint32_t last = w->lives[i].last > r ? w->lives[i].last : r;
        cost += (double)w->bytes[i] * (double)(last - first);
    }
    return cost;
}

static uint32_t best_region(const kiln__flow *f, const uint32_t *region_of, uint32_t n_regions, uint32_t node,
                            uint32_t lo, uint32_t hi, bool late) {
    weigh w = {.n = 0};
    for (size_t i = f->first_touch[node]; i < f->first_touch[node + 1] && w.n < LIVES_MAX; i++) {
        uint32_t storage = f->touch_storage[i];
        if (f->first_user[storage + 1] - f->first_user[storage] > USERS_MAX)
            continue;
        life l = life_of_others(f, region_of, storage, node);
        if (f->to_end[storage]) {
            l.last = n_regions - 1;
            l.any = true;
        }
        if (!l.any)
            continue;
        w.bytes[w.n] = f->bytes[storage];
        w.lives[w.n++] = l;
    }
    uint32_t best = late ? hi : lo;
    double least = cost_at(&w, best);
    for (int i = -1; i < 2 * w.n; i++) {
        uint32_t r = i < 0 ? (late ? lo : hi) : i % 2 ? w.lives[i / 2].last : w.lives[i / 2].first;
        if (r < lo || r > hi)
            continue;
        double cost = cost_at(&w, r);
        if (cost < least || (!(cost > least) && (late ? r > best : r < best))) {
            least = cost;
            best = r;
        }
    }
    return best;
}

static void move(const kiln__flow *f, uint32_t *region_of, uint32_t n_regions, uint32_t node, bool late) {
    uint32_t lo = earliest(f, region_of, node), hi = latest(f, region_of, n_regions, node);
    if (lo < hi)
        region_of[node] = best_region(f, region_of, n_regions, node, lo, hi, late);
}

static void sweep(const kiln__flow *f, uint32_t *region_of, uint32_t n_regions, const uint32_t *movable,
                  uint32_t n_movable) {
    for (int round = 0; round < SWEEPS; round++) {
        for (uint32_t i = n_movable; i-- > 0;)
            move(f, region_of, n_regions, movable[i], true);
        for (uint32_t i = 0; i < n_movable; i++)
            move(f, region_of, n_regions, movable[i], false);
    }
}

static void everything_early(const kiln__flow *f, uint32_t *region_of, uint32_t *n_regions) {
    *n_regions = 0;
    for (uint32_t node = 0; node < f->n_nodes; node++) {
        region_of[node] = earliest(f, region_of, node);
        *n_regions = region_of[node] >= *n_regions ? region_of[node] + 1 : *n_regions;
    }
}

static void everything_late(const kiln__flow *f, uint32_t *region_of, uint32_t n_regions) {
    for (uint32_t node = f->n_nodes; node-- > 0;)
        region_of[node] = latest(f, region_of, n_regions, node);
}

/* The largest sum of sizes alive in one region; `change` has n_regions + 1 entries. */
static int64_t peak_of(const kiln__flow *f, const uint32_t *region_of, uint32_t n_regions, int64_t *change) {
    memset(change, 0, ((size_t)n_regions + 1) * sizeof *change);
    for (uint32_t s = 1; s < f->n_storages; s++) {
        if (f->first_user[s] == f->first_user[s + 1])
            continue;
        life l = life_of_others(f, region_of, s, UINT32_MAX);
        change[l.first] += f->bytes[s];
        change[f->to_end[s] ? n_regions : l.last + 1] -= f->bytes[s];
    }
    int64_t peak = 0, alive = 0;
    for (uint32_t r = 0; r < n_regions; r++) {
        alive += change[r];
        peak = alive > peak ? alive : peak;
    }
    return peak;
}

/* Those whose place is not the same in the earliest and the latest order: no sweep moves another. */
static uint32_t find_movable(const kiln__flow *f, const uint32_t *early, const uint32_t *late,
                             uint32_t *movable) {
    uint32_t n = 0;
    for (uint32_t node = 0; node < f->n_nodes; node++)
        if (early[node] < late[node])
            movable[n++] = node;
    return n;
}

kiln_status kiln__order_shortest(const kiln__flow *f, uint32_t *region_of, uint32_t *n_regions,
                                 kiln_error *error) {
    everything_early(f, region_of, n_regions);
    if (f->n_touch == 0)
        return KILN_OK;
    uint32_t *trial = KILN_NEW_RAW(&f->allocator, uint32_t, f->n_nodes);
    uint32_t *late = KILN_NEW_RAW(&f->allocator, uint32_t, f->n_nodes);
    uint32_t *movable = KILN_NEW_RAW(&f->allocator, uint32_t, f->n_nodes);
    int64_t *change = KILN_NEW_RAW(&f->allocator, int64_t, (size_t)*n_regions + 1);
    bool ok = trial != NULL && late != NULL && movable != NULL && change != NULL;
    uint32_t n_movable = 0;
    if (ok) {
        everything_late(f, late, *n_regions);
        n_movable = find_movable(f, region_of, late, movable);
    }
    if (n_movable > 0) {
        int64_t least = peak_of(f, region_of, *n_regions, change);
        for (int start = 0; start < 2; start++) {
            memcpy(trial, start == 0 ? region_of : late, f->n_nodes * sizeof *trial);
            sweep(f, trial, *n_regions, movable, n_movable);
            int64_t peak = peak_of(f, trial, *n_regions, change);
            if (peak < least) {
                least = peak;
                memcpy(region_of, trial, f->n_nodes * sizeof *trial);
            }
        }
    }
    KILN_DELETE(&f->allocator, trial, uint32_t, f->n_nodes);
    KILN_DELETE(&f->allocator, late, uint32_t, f->n_nodes);
    KILN_DELETE(&f->allocator, movable, uint32_t, f->n_nodes);
    KILN_DELETE(&f->allocator, change, int64_t, (size_t)*n_regions + 1);
    return ok ? KILN_OK
              : kiln_error_set(error, KILN_ERROR_MEMORY, "ordering %u nodes: out of memory", f->n_nodes);
}

void kiln__order_serial(const kiln__flow *f, uint32_t *region_of, uint32_t *n_regions) {
    for (uint32_t node = 0; node < f->n_nodes; node++)
        region_of[node] = node;
    *n_regions = f->n_nodes;
}
