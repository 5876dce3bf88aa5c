/* The whole of it: order, memory, barriers and their causes.
 *
 * Under a memory cap, properties: the plan returned fits, or KILN_ERROR_LIMIT says what was found; without
 * need no region is added, since the shortest order is tried first. Problem: sizes are known only after
 * placing, and list scheduling sees neither fragmentation nor in-place pairs. Method: orders for a row of
 * budgets from twice the cap down to 0, and the serial one, are planned in full; the fitting one with the
 * fewest regions wins. Then neighbouring regions without a hazard between them are merged where the plan
 * still fits (a bounded number of tries). Considered: bisecting the budget, but neither regions nor bytes are
 * monotonic in it.
 */
#include "schedule.h"

#include "order.h"

const char *const kiln__barrier_cause_names[KILN__BARRIER_CAUSE_COUNT] = {"hazard", "memory", "serial"};

typedef struct maker {
    const kiln_graph *g;
    const kiln__hazards *h;
    const kiln__schedule_options *options;
    const kiln_allocator *a;
    kiln__flow flow;
    kiln_error *error;
} maker;

/* An order with its memory plan. */
typedef struct trial {
    uint32_t *region_of;
    uint32_t n_regions;
    kiln__memory memory;
} trial;

static kiln_status out_of_memory(const maker *m) {
    return kiln_error_set(m->error, KILN_ERROR_MEMORY, "scheduling %u nodes: out of memory", m->h->n_nodes);
}

static kiln_status trial_init(const maker *m, trial *t) {
    *t = (trial){.region_of = KILN_NEW_RAW(m->a, uint32_t, m->h->n_nodes)};
    return t->region_of != NULL ? KILN_OK : out_of_memory(m);
}

static void trial_free(const maker *m, trial *t) {
    KILN_DELETE(m->a, t->region_of, uint32_t, m->h->n_nodes);
    kiln__memory_free(&t->memory, m->a);
    *t = (trial){0};
}

/* Plans the memory of the trial's order anew. */
static kiln_status trial_plan(const maker *m, trial *t) {
    kiln__memory_free(&t->memory, m->a);
    return kiln__memory_plan(m->g, m->h, t->region_of, t->n_regions, &m->options->memory, m->a, &t->memory,
                             m->error);
}

/* ---- within a memory cap ---------------------------------------------------------------------------- */

static bool fits(const maker *m, const trial *t) {
    return m->options->max_arena == 0 || t->memory.arena_bytes <= m->options->max_arena;
}

static bool better(const maker *m, const trial *a, const trial *b) {
    if (fits(m, a) != fits(m, b))
        return fits(m, a);
    if (fits(m, a) && a->n_regions != b->n_regions)
        return a->n_regions < b->n_regions;
    return a->memory.arena_bytes < b->memory.arena_bytes;
}

/* What no order goes below: the most that one node touches, with each output in place where its op allows. */
static int64_t least_possible(const maker *m, uint32_t *node) {
    const kiln__flow *f = &m->flow;
    int64_t least = 0;
    for (uint32_t i = 0; i < f->n_nodes; i++) {
        int64_t sum = 0;
        for (size_t k = f->first_touch[i]; k < f->first_touch[i + 1]; k++)
            sum += f->bytes[f->touch_storage[k]];
        const kiln__node *n = &m->g->nodes.items[i];
        bool inplace = !m->options->memory.no_inplace && n->op->n_inplace > 0;
        for (uint32_t j = 0; inplace && j < n->n_out; j++) {
            uint32_t out = kiln__node_out(m->g, n)[j];
            sum -= out != 0 ? f->bytes[m->g->tensors.items[out].storage] : 0;
        }
        if (sum > least) {
            least = sum;
            *node = i;
        }
    }
    return least;
}

/* Marks in own[r] whether a hazard leads from region r to region r + 1. */
static void mark_own(const maker *m, const trial *t, bool *own) {
    memset(own, 0, t->n_regions * sizeof *own);
    for (size_t e = 0; e < m->h->count; e++) {
        uint32_t from = t->region_of[m->h->items[e].from], to = t->region_of[m->h->items[e].to];
        own[from] |= to == from + 1;
    }
}

static void merge_regions(const maker *m, const trial *from, uint32_t r, trial *to) {
    for (uint32_t i = 0; i < m->h->n_nodes; i++)
        to->region_of[i] = from->region_of[i] - (from->region_of[i] > r);
    to->n_regions = from->n_regions - 1;
}

/* One pass over the boundaries; *merged when one went. */
static kiln_status merge_pass(const maker *m, trial *best, trial *spare, bool *own, uint32_t *tries,
                              bool *merged) {
    *merged = false;
    mark_own(m, best, own);
    for (uint32_t r = best->n_regions - 1; r-- > 0 && *tries > 0;) {
        if (own[r])
            continue;
        --*tries;
        merge_regions(m, best, r, spare);
        kiln_status status = trial_plan(m, spare);
        if (status != KILN_OK)
            return status;
        if (!fits(m, spare))
            continue;
        trial t = *best;
        *best = *spare;
        *spare = t;
        *merged = true;
        mark_own(m, best, own);
    }
    return KILN_OK;
}

/* Removes regions that neither a hazard nor the cap needs, until none is left: placing is not monotonic, so a
 * merge may make room for one that was refused before. Each try plans anew; their number is bounded so that
 * large graphs stay fast. */
static kiln_status merge_where_possible(const maker *m, trial *best, trial *spare) {
    uint32_t tries = 8 + 2000000 / (m->h->n_nodes + 1);
    tries = tries < 256 ? tries : 256;
    size_t n_own = best->n_regions;
    bool *own = KILN_NEW_RAW(m->a, bool, n_own);
    if (own == NULL)
        return out_of_memory(m);
    kiln_status status = KILN_OK;
    for (bool merged = true; status == KILN_OK && merged;)
        status = merge_pass(m, best, spare, own, &tries, &merged);
    KILN_DELETE(m->a, own, bool, n_own);
    return status;
}

static kiln_status too_small(const maker *m, const trial *best) {
    char label[KILN__LABEL_SIZE];
    uint32_t node = 0;
    int64_t least = least_possible(m, &node);
    return kiln_error_set(
        m->error, KILN_ERROR_LIMIT,
        "the arena is capped at %lld bytes; the best order found needs %lld (%u regions), and "
        "no order can do with less than %lld, which node '%s' takes alone",
        (long long)m->options->max_arena, (long long)best->memory.arena_bytes, best->n_regions,
        (long long)least, kiln__node_label(m->g, node, label));
}

/* Budgets in eighths of the cap. Above it, because in-place pairs count twice while ordering. */
static const int BUDGETS[] = {16, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};

static int64_t budget_of(int64_t cap, int eighths) {
    int64_t product;
    return kiln__mul(cap, eighths, &product) ? product / 8 : cap;
}

/* `best` has the shortest order, which does not fit. */
static kiln_status fit(const maker *m, trial *best) {
    int n = (int)(sizeof BUDGETS / sizeof *BUDGETS);
    trial next;
    kiln_status status = trial_init(m, &next);
    for (int i = 0; status == KILN_OK && i <= n; i++) {
        if (i < n)
            status = kiln__order_within(&m->flow, budget_of(m->options->max_arena, BUDGETS[i]),
                                        next.region_of, &next.n_regions, m->error);
        else
            kiln__order_serial(&m->flow, next.region_of, &next.n_regions);
        if (status == KILN_OK)
            status = trial_plan(m, &next);
        if (status == KILN_OK && better(m, &next, best)) {
            trial t = *best;
            *best = next;
            next = t;
        }
    }
    if (status == KILN_OK)
        status = fits(m, best) ? merge_where_possible(m, best, &next) : too_small(m, best);
    trial_free(m, &next);
    return status;
}

static kiln_status order_and_place(const maker *m, trial *best) {
    kiln_status status = trial_init(m, best);
    if (status == KILN_OK && m->options->serial)
        kiln__order_serial(&m->flow, best->region_of, &best->n_regions);
    else if (status == KILN_OK)
        status = kiln__order_shortest(&m->flow, best->region_of, &best->n_regions, m->error);
    if (status == KILN_OK)
        status = trial_plan(m, best);
    if (status != KILN_OK || fits(m, best))
        return status;
    return m->options->serial ? too_small(m, best) : fit(m, best);
}

/* ---- the result ------------------------------------------------------------------------------------- */

/* Nodes by region, program order within. */
static bool list_nodes(kiln__schedule *s) {
    s->order = KILN_NEW_RAW(&s->allocator, uint32_t, s->n_nodes);
    s->region_first = KILN_NEW(&s->allocator, uint32_t, (size_t)s->n_regions + 1);
    if (s->order == NULL || s->region_first == NULL)
        return false;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        s->region_first[s->region_of[i] + 1]++;
    for (uint32_t r = 0; r < s->n_regions; r++)
        s->region_first[r + 1] += s->region_first[r];
    for (uint32_t i = 0; i < s->n_nodes; i++)
        s->order[s->region_first[s->region_of[i]]++] = i;
    for (uint32_t r = s->n_regions; r > 0; r--)
        s->region_first[r] = s->region_first[r - 1];
    s->region_first[0] = 0;
    return true;
}

/* Own hazards of each barrier, and how many cross it. */
static bool list_barrier_hazards(kiln__schedule *s, const kiln__hazards *h) {
    for (size_t e = 0; e < h->count; e++) {
        uint32_t from = s->region_of[h->items[e].from], to = s->region_of[h->items[e].to];
        s->barriers[from].n_crossing++;
        if (to < s->n_barriers)
            s->barriers[to].n_crossing--; /* wraps below zero; the running sum does not */
        s->barriers[from].n += to == from + 1;
    }
    for (uint32_t r = 0; r < s->n_barriers; r++) {
        kiln__barrier *b = &s->barriers[r];
        b->hazard = KILN__NO_HAZARD;
        b->first = s->n_barrier_hazards;
        s->n_barrier_hazards += b->n;
        b->n = 0;
        b->n_crossing += r > 0 ? b[-1].n_crossing : 0;
    }
    s->barrier_hazards = KILN_NEW_RAW(&s->allocator, uint32_t, s->n_barrier_hazards);
    if (s->barrier_hazards == NULL)
        return false;
    for (size_t e = 0; e < h->count; e++) {
        uint32_t from = s->region_of[h->items[e].from], to = s->region_of[h->items[e].to];
        kiln__barrier *b = &s->barriers[from];
        if (to == from + 1)
            s->barrier_hazards[b->first + b->n++] = (uint32_t)e;
    }
    for (uint32_t r = 0; r < s->n_barriers; r++)
        if (s->barriers[r].n > 0)
            s->barriers[r].hazard = s->barrier_hazards[s->barriers[r].first];
    return true;
}

/* Walks a longest chain backwards: each of its links needs a barrier, one with own hazards if there is one.
 * All other barriers were added. */
static bool find_causes(kiln__schedule *s, const kiln__hazards *h, kiln__barrier_cause added) {
    uint32_t *depth = KILN_NEW_RAW(&s->allocator, uint32_t, s->n_nodes), node = 0;
    if (depth == NULL)
        return false;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        depth[i] = 1;
        for (size_t e = h->first_hazard[i]; e < h->first_hazard[i + 1]; e++)
            if (depth[h->items[e].from] >= depth[i])
                depth[i] = depth[h->items[e].from] + 1;
        if (depth[i] > s->longest_chain) {
            s->longest_chain = depth[i];
            node = i;
        }
    }
    for (uint32_t r = 0; r < s->n_barriers; r++)
        s->barriers[r].cause = added;
    for (uint32_t at = s->longest_chain; at > 1; at--) {
        size_t e = h->first_hazard[node];
        while (depth[h->items[e].from] != at - 1)
            e++;
        uint32_t from = s->region_of[h->items[e].from], to = s->region_of[node], r = from;
        while (r + 1 < to && s->barriers[r].n == 0)
            r++;
        s->barriers[r].cause = KILN__BARRIER_HAZARD;
        if (s->barriers[r].n == 0)
            s->barriers[r].hazard = (uint32_t)e;
        node = h->items[e].from;
    }
    KILN_DELETE(&s->allocator, depth, uint32_t, s->n_nodes);
    return true;
}

static bool describe(kiln__schedule *s, const kiln__hazards *h, kiln__barrier_cause added) {
    s->n_barriers = s->n_regions > 0 ? s->n_regions - 1 : 0;
    s->barriers_avoided = s->n_nodes - s->n_regions;
    s->barriers = KILN_NEW(&s->allocator, kiln__barrier, s->n_barriers);
    return s->barriers != NULL && list_nodes(s) && list_barrier_hazards(s, h) && find_causes(s, h, added);
}

kiln_status kiln__schedule_make(const kiln_graph *graph, const kiln__hazards *hazards,
                                const kiln__schedule_options *options, kiln__schedule *out,
                                kiln_error *error) {
    *out = (kiln__schedule){0};
    maker m = {.g = graph, .h = hazards, .options = options, .a = &hazards->allocator, .error = error};
    if (options->max_arena < 0)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "the cap on the arena is %lld bytes",
                              (long long)options->max_arena);
    kiln_status status = kiln__memory_options_check(graph, &options->memory, error);
    if (status == KILN_OK)
        status = kiln__flow_make(graph, hazards, &options->memory, m.a, &m.flow, error);
    if (status != KILN_OK)
        return status;
    trial best = {0};
    status = order_and_place(&m, &best);
    kiln__flow_free(&m.flow);
    if (status != KILN_OK) {
        trial_free(&m, &best);
        return status;
    }
    *out = (kiln__schedule){.allocator = *m.a,
                            .n_nodes = hazards->n_nodes,
                            .n_regions = best.n_regions,
                            .region_of = best.region_of,
                            .memory = best.memory};
    if (describe(out, hazards, options->serial ? KILN__BARRIER_SERIAL : KILN__BARRIER_MEMORY))
        return KILN_OK;
    kiln__schedule_free(out);
    return out_of_memory(&m);
}

void kiln__schedule_free(kiln__schedule *s) {
    const kiln_allocator a = s->allocator;
    if (a.alloc == NULL)
        return;
    KILN_DELETE(&a, s->order, uint32_t, s->n_nodes);
    KILN_DELETE(&a, s->region_of, uint32_t, s->n_nodes);
    KILN_DELETE(&a, s->region_first, uint32_t, (size_t)s->n_regions + 1);
    KILN_DELETE(&a, s->barriers, kiln__barrier, s->n_barriers);
    KILN_DELETE(&a, s->barrier_hazards, uint32_t, s->n_barrier_hazards);
    kiln__memory_free(&s->memory, &a);
    *s = (kiln__schedule){0};
}
