#include "hazard_oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static char text[512];

static const char *wrong(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return text;
}

static void *must(void *p) {
    if (p == NULL)
        abort();
    return p;
}

/* ---- who touches which bytes ------------------------------------------------------------------------ */

/* All storages side by side, those that are mapped at their place in dag_memory. */
typedef struct layout {
    int64_t *base; /* by storage */
    int64_t size;
} layout;

static layout layout_of(const kiln_graph *g) {
    layout l = {must(calloc(g->storages.count, sizeof(int64_t))),
                DAG_MEMORY}; /* a multiple of 8 in the end */
    for (size_t s = 1; s < g->storages.count; s++) {
        const kiln__storage *storage = &g->storages.items[s];
        if (storage->data != NULL) {
            l.base[s] = (unsigned char *)storage->data - dag_memory;
        } else {
            l.base[s] = l.size;
            l.size += (storage->size + 7) / 8 * 8;
        }
    }
    return l;
}

typedef struct touched {
    const layout *l;
    unsigned char *bytes; /* [size]: kiln_access_mode bits */
} touched;

static void mark_byte(void *context, uint32_t storage, int64_t byte, kiln_access_mode mode) {
    touched *t = context;
    t->bytes[t->l->base[storage] + byte] |= (unsigned char)mode;
}

static unsigned char **bytes_touched(const oracle *o, const layout *l) {
    unsigned char **all = must(calloc(o->n + 1, sizeof *all));
    for (uint32_t i = 0; i < o->n; i++) {
        touched t = {l, must(calloc((size_t)l->size, 1))};
        dag_visit_bytes(o->graph, i, o->slots, mark_byte, &t);
        all[i] = t.bytes;
    }
    return all;
}

static void free_touched(const oracle *o, unsigned char **all) {
    for (uint32_t i = 0; i < o->n; i++)
        free(all[i]);
    free(all);
}

/* Is there a byte that both touch and one writes? Eight at a time. */
static bool share_bytes(const unsigned char *a, const unsigned char *b, int64_t n) {
    const uint64_t ones = 0x0101010101010101u;
    for (int64_t x = 0; x < n; x += 8) {
        uint64_t va, vb;
        memcpy(&va, a + x, 8);
        memcpy(&vb, b + x, 8);
        uint64_t writes_a = va / KILN_WRITE & ones, writes_b = vb / KILN_WRITE & ones;
        uint64_t touches_a = (va | writes_a) & ones, touches_b = (vb | writes_b) & ones;
        if ((writes_a & touches_b) | (touches_a & writes_b))
            return true;
    }
    return false;
}

static bool accesses_something(const kiln__hazards *h, uint32_t node) {
    return h->first_access[node] < h->first_access[node + 1];
}

void oracle_init(oracle *o, const kiln_graph *g, const kiln__hazards *h) {
    memset(o, 0, sizeof *o);
    o->graph = g;
    o->n = (uint32_t)g->nodes.count;
    if (o->n > ORACLE_NODES || g->slots.count > 8)
        abort();
    for (size_t s = 1; s < g->slots.count; s++)
        o->slots[s] = g->slots.items[s].max;
    layout l = layout_of(g);
    unsigned char **bytes = bytes_touched(o, &l);
    uint32_t depth[ORACLE_NODES];
    for (uint32_t j = 0; j < o->n; j++) {
        depth[j] = 1;
        for (uint32_t i = 0; i < j; i++) {
            o->by_bytes[i][j] = share_bytes(bytes[i], bytes[j], l.size);
            for (uint32_t a = h->first_access[i]; a < h->first_access[i + 1]; a++)
                for (uint32_t b = h->first_access[j]; b < h->first_access[j + 1]; b++)
                    o->by_predicate[i][j] |=
                        kiln__accesses_conflict(h, &h->list.items[a], &h->list.items[b], NULL);
            bool opaque = g->nodes.items[i].op->accesses == NULL || g->nodes.items[j].op->accesses == NULL;
            o->by_bytes[i][j] |= opaque && accesses_something(h, i) && accesses_something(h, j);
            if (o->by_predicate[i][j] && depth[i] >= depth[j])
                depth[j] = depth[i] + 1;
        }
        o->longest_chain = depth[j] > o->longest_chain ? depth[j] : o->longest_chain;
    }
    free_touched(o, bytes);
    free(l.base);
}

const char *oracle_check_accesses(const oracle *o, const kiln__hazards *h) {
    layout l = layout_of(o->graph);
    const char *bad = NULL;
    unsigned char *declared = must(malloc((size_t)l.size));
    for (int v = 0; v < 4 && bad == NULL; v++) {
        oracle at = *o;
        for (size_t s = 1; s < 8; s++)
            at.slots[s] = v == 0 ? 0 : v == 1 ? 1 : v == 2 ? o->slots[s] / 2 : o->slots[s];
        unsigned char **bytes = bytes_touched(&at, &l);
        for (uint32_t i = 0; i < o->n && bad == NULL; i++) {
            memset(declared, 0, (size_t)l.size);
            for (uint32_t a = h->first_access[i]; a < h->first_access[i + 1]; a++) {
                const kiln__access *access = &h->list.items[a];
                const kiln_box box = kiln__access_box(&h->list, access), *b = &box;
                if (access->storage == 0) {
                    memset(declared, KILN_READ_WRITE, (size_t)l.size);
                    continue;
                }
                for (int64_t c = 0; c < b->count[0] * b->count[1] * b->count[2]; c++)
                    for (int64_t x = 0; x < b->length; x++) {
                        int64_t i0 = c / (b->count[1] * b->count[2]), i1 = c / b->count[2] % b->count[1];
                        int64_t at_byte = b->offset + i0 * b->stride[0] + i1 * b->stride[1] +
                                          c % b->count[2] * b->stride[2] + x;
                        declared[l.base[access->storage] + at_byte] |= (unsigned char)access->mode;
                    }
            }
            for (int64_t x = 0; x < l.size && bad == NULL; x++)
                if (bytes[i][x] & ~declared[x])
                    bad = wrong("node %u touches byte %lld (mode %d) that it did not declare", i,
                                (long long)x, bytes[i][x]);
        }
        free_touched(&at, bytes);
    }
    free(declared);
    free(l.base);
    return bad;
}

/* ---- hazards ---------------------------------------------------------------------------------------- */

typedef struct matrix {
    bool at[ORACLE_NODES][ORACLE_NODES];
} matrix;

static void close_over(matrix *m, uint32_t n) {
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < k; i++)
            for (uint32_t j = k + 1; m->at[i][k] && j < n; j++)
                m->at[i][j] |= m->at[k][j];
}

static const char *check_one(const kiln__hazards *h, const kiln__hazard *e) {
    if (e->from >= e->to || e->from_access < h->first_access[e->from] ||
        e->from_access >= h->first_access[e->from + 1] || e->to_access < h->first_access[e->to] ||
        e->to_access >= h->first_access[e->to + 1])
        return wrong("hazard %u -> %u with accesses %u, %u", e->from, e->to, e->from_access, e->to_access);
    kiln__hazard_kind kind;
    const kiln__access *a = &h->list.items[e->from_access], *b = &h->list.items[e->to_access];
    if (!kiln__accesses_conflict(h, a, b, &kind) || kind != e->kind)
        return wrong("hazard %u -> %u is none of kind %d", e->from, e->to, (int)e->kind);
    return NULL;
}

const char *oracle_check_hazards(const oracle *o, const kiln__hazards *h) {
    matrix *found = must(calloc(1, sizeof *found)), *all = must(calloc(1, sizeof *all));
    const char *bad = NULL;
    for (uint32_t j = 0; j < o->n; j++)
        for (size_t e = h->first_hazard[j]; e < h->first_hazard[j + 1] && bad == NULL; e++) {
            bad = check_one(h, &h->items[e]);
            if (bad == NULL && (h->items[e].to != j || found->at[h->items[e].from][j]))
                bad = wrong("hazard %zu: misplaced, or the second from %u to %u", e, h->items[e].from, j);
            if (bad == NULL)
                found->at[h->items[e].from][j] = true;
        }
    if (bad == NULL && h->first_hazard[o->n] != h->count)
        bad = wrong("%zu hazards, the index has %zu", h->count, h->first_hazard[o->n]);
    memcpy(all->at, o->by_predicate, sizeof all->at);
    close_over(found, o->n);
    close_over(all, o->n);
    for (uint32_t i = 0; i < o->n; i++)
        for (uint32_t j = 0; j < o->n && bad == NULL; j++)
            if (o->by_bytes[i][j] && !o->by_predicate[i][j])
                bad = wrong("nodes %u and %u share bytes, the predicate does not see it", i, j);
            else if (found->at[i][j] != all->at[i][j])
                bad = wrong("nodes %u and %u: %s", i, j, all->at[i][j] ? "hazard missed" : "no hazard there");
    free(found);
    free(all);
    return bad;
}

/* ---- order ------------------------------------------------------------------------------------------ */

static const char *check_regions(const oracle *o, const kiln__schedule *s) {
    bool seen[ORACLE_NODES] = {false};
    if (s->n_nodes != o->n || s->region_first[0] != 0 || s->region_first[s->n_regions] != o->n ||
        s->n_barriers + 1 != s->n_regions || s->barriers_avoided != o->n - s->n_regions)
        return wrong("%u nodes in %u regions with %u barriers", s->n_nodes, s->n_regions, s->n_barriers);
    for (uint32_t r = 0; r < s->n_regions; r++) {
        if (s->region_first[r] >= s->region_first[r + 1])
            return wrong("region %u is empty", r);
        for (uint32_t k = s->region_first[r]; k < s->region_first[r + 1]; k++) {
            uint32_t node = s->order[k];
            if (node >= o->n || seen[node] || s->region_of[node] != r ||
                (k > s->region_first[r] && s->order[k - 1] >= node))
                return wrong("region %u: node %u twice, elsewhere, or out of program order", r, node);
            seen[node] = true;
        }
    }
    for (uint32_t i = 0; i < o->n; i++)
        for (uint32_t j = i + 1; j < o->n; j++)
            if ((o->by_bytes[i][j] || o->by_predicate[i][j]) && s->region_of[i] >= s->region_of[j])
                return wrong("missed hazard: node %u in region %u, node %u in region %u", i, s->region_of[i],
                             j, s->region_of[j]);
    return NULL;
}

static const char *check_barrier(const oracle *o, const kiln__hazards *h, const kiln__schedule *s,
                                 uint32_t r) {
    const kiln__barrier *b = &s->barriers[r];
    size_t own = 0, crossing = 0;
    bool needed = false;
    for (size_t e = 0; e < h->count; e++) {
        uint32_t from = s->region_of[h->items[e].from], to = s->region_of[h->items[e].to];
        crossing += from <= r && r < to;
        if (from != r || to != r + 1)
            continue;
        if (own >= b->n || s->barrier_hazards[b->first + own] != e)
            return wrong("barrier %u does not list hazard %zu", r, e);
        own++;
    }
    for (uint32_t i = 0; i < o->n; i++)
        for (uint32_t j = i + 1; j < o->n; j++)
            needed |= o->by_predicate[i][j] && s->region_of[i] == r && s->region_of[j] == r + 1;
    if (own != b->n || crossing != b->n_crossing)
        return wrong("barrier %u counts %u own, %u crossing hazards; there are %zu, %zu", r, b->n,
                     b->n_crossing, own, crossing);
    if (needed != (own > 0))
        return wrong("barrier %u is %s by the predicate, with %zu hazards", r,
                     needed ? "needed" : "not needed", own);
    if ((b->n > 0 && b->hazard != s->barrier_hazards[b->first]) ||
        (b->n == 0 && (b->hazard != KILN__NO_HAZARD) != (b->cause == KILN__BARRIER_HAZARD)))
        return wrong("barrier %u names hazard %u", r, b->hazard);
    return NULL;
}

const char *oracle_check_order(const oracle *o, const kiln__hazards *h, const kiln__schedule *s,
                               const kiln__schedule_options *options) {
    const char *bad = check_regions(o, s);
    if (bad != NULL)
        return bad;
    bool free_order = options->max_arena == 0 && !options->serial;
    uint32_t by_hazard = 0;
    if (s->longest_chain != o->longest_chain || s->n_regions < o->longest_chain ||
        (free_order && s->n_regions != o->longest_chain) || (options->serial && s->n_regions != o->n))
        return wrong("%u regions, longest chain %u (by the oracle %u)", s->n_regions, s->longest_chain,
                     o->longest_chain);
    for (uint32_t r = 0; r < s->n_barriers && bad == NULL; r++) {
        const kiln__barrier *b = &s->barriers[r];
        bad = check_barrier(o, h, s, r);
        by_hazard += b->cause == KILN__BARRIER_HAZARD;
        if (bad == NULL && free_order && (b->cause != KILN__BARRIER_HAZARD || b->n == 0))
            bad = wrong("barrier %u could go", r);
        if (bad == NULL && b->cause != KILN__BARRIER_HAZARD &&
            b->cause != (options->serial ? KILN__BARRIER_SERIAL : KILN__BARRIER_MEMORY))
            bad = wrong("barrier %u has cause %d", r, (int)b->cause);
    }
    if (bad == NULL && by_hazard != o->longest_chain - 1)
        bad = wrong("%u barriers by hazard, the longest chain has %u nodes", by_hazard, o->longest_chain);
    return bad;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

typedef struct bytes_life {
    bool used;
    uint32_t first, last;
} bytes_life;

/* First and last region in which a node has an access to the storage (an opaque node: to its operands). */
static bytes_life life_of(const oracle *o, const kiln__hazards *h, const kiln__schedule *s, uint32_t storage,
                          const kiln__schedule_options *options) {
    bytes_life l = {false, UINT32_MAX, 0};
    for (uint32_t i = 0; i < o->n; i++) {
        bool uses = false;
        for (uint32_t a = h->first_access[i]; a < h->first_access[i + 1]; a++)
            uses |= h->list.items[a].storage == storage;
        const kiln__node *n = &o->graph->nodes.items[i];
        for (uint32_t k = 0; n->op->accesses == NULL && k < n->n_in + n->n_out; k++)
            uses |= o->graph->tensors.items[kiln__node_in(o->graph, n)[k]].storage == storage;
        if (!uses)
            continue;
        l.used = true;
        l.first = s->region_of[i] < l.first ? s->region_of[i] : l.first;
        l.last = s->region_of[i] > l.last ? s->region_of[i] : l.last;
    }
    for (uint32_t k = 0; k < options->memory.n_keep && l.used; k++) {
        kiln__keep keep = options->memory.keep[k];
        uint32_t until = keep.node == KILN__KEEP_TO_END ? s->n_regions - 1 : s->region_of[keep.node];
        if (keep.storage == storage && until > l.last)
            l.last = until;
    }
    return l;
}

static uint32_t head_of(const kiln__memory *m, uint32_t storage) {
    while (m->places[storage].host != 0)
        storage = m->places[storage].host;
    return storage;
}

static const char *check_inplace(const oracle *o, const kiln__schedule *s, const bytes_life *lives,
                                 const kiln__schedule_options *options) {
    const kiln__memory *m = &s->memory;
    uint32_t hosted = 0;
    for (uint32_t i = 0; i < m->n_inplace; i++) {
        kiln__inplace_use u = m->inplace[i];
        const kiln__node *n = &o->graph->nodes.items[u.node];
        uint32_t in = o->graph->tensors.items[kiln__node_in(o->graph, n)[u.in]].storage;
        uint32_t out = o->graph->tensors.items[kiln__node_out(o->graph, n)[u.out]].storage;
        if (m->places[in].heir != out || m->places[out].host != in ||
            m->places[in].offset != m->places[out].offset)
            return wrong("in place at node %u: storages %u and %u are not linked", u.node, in, out);
        if (lives[in].last != s->region_of[u.node] || lives[out].first != s->region_of[u.node])
            return wrong("in place at node %u: lives do not meet there", u.node);
        for (uint32_t k = 0; k < options->memory.n_keep; k++)
            if (options->memory.keep[k].storage == in &&
                (options->memory.keep[k].node == KILN__KEEP_TO_END ||
                 s->region_of[options->memory.keep[k].node] >= s->region_of[u.node]))
                return wrong("in place at node %u: storage %u was to be kept", u.node, in);
    }
    for (uint32_t k = 1; k < m->n_storages; k++)
        hosted += m->places[k].host != 0;
    if (hosted != m->n_inplace || (m->n_inplace > 0 && options->memory.no_inplace))
        return wrong("%u storages in place, %u listed", hosted, m->n_inplace);
    return NULL;
}

const char *oracle_check_memory(const oracle *o, const kiln__hazards *h, const kiln__schedule *s,
                                const kiln__schedule_options *options) {
    const kiln__memory *m = &s->memory;
    uint32_t n = (uint32_t)o->graph->storages.count;
    bytes_life *lives = must(calloc(n, sizeof *lives));
    int64_t end = 0, sum = 0, bound = 0, align = m->align;
    const char *bad = NULL;
    for (uint32_t a = 1; a < n && bad == NULL; a++) {
        const kiln__storage *storage = &o->graph->storages.items[a];
        const kiln__place *p = &m->places[a];
        lives[a] = life_of(o, h, s, a, options);
        if (lives[a].used ? p->first != lives[a].first || p->last != lives[a].last : p->first != KILN__NEVER)
            bad = wrong("storage %u: life %u to %u, the plan has %u to %u", a, lives[a].first, lives[a].last,
                        p->first, p->last);
        if (storage->kind != KILN_STORAGE_ARENA || storage->size == 0 || !lives[a].used) {
            lives[a].used = false;
            if (bad == NULL && p->offset != (storage->kind == KILN_STORAGE_ARENA ? 0 : -1))
                bad = wrong("storage %u has offset %lld", a, (long long)p->offset);
            continue;
        }
        sum += (storage->size + align - 1) / align * align;
        end = p->offset + storage->size > end ? p->offset + storage->size : end;
        if (bad == NULL && (p->offset < 0 || p->offset % align != 0))
            bad = wrong("storage %u has offset %lld", a, (long long)p->offset);
    }
    if (bad == NULL)
        bad = check_inplace(o, s, lives, options);
    for (uint32_t a = 1; a < n && bad == NULL; a++)
        for (uint32_t b = 1; b < a && bad == NULL; b++) {
            int64_t at_a = m->places[a].offset, at_b = m->places[b].offset;
            bool share = at_a < at_b + o->graph->storages.items[b].size &&
                         at_b < at_a + o->graph->storages.items[a].size;
            bool meet = lives[a].first <= lives[b].last && lives[b].first <= lives[a].last;
            bool pair = m->places[a].host == b || m->places[b].host == a;
            if (!lives[a].used || !lives[b].used || !share || pair)
                continue;
            if (meet || (options->memory.no_reuse && head_of(m, a) != head_of(m, b)))
                bad = wrong("storages %u [%u..%u] +%lld and %u [%u..%u] +%lld share bytes of the arena "
                            "(%lld) while both live",
                            a, lives[a].first, lives[a].last, (long long)at_a, b, lives[b].first,
                            lives[b].last, (long long)at_b, (long long)m->arena_bytes);
        }
    for (uint32_t r = 0; r < s->n_regions; r++) {
        int64_t alive = 0;
        for (uint32_t a = 1; a < n; a++) {
            uint32_t heir = m->places[a].heir;
            bool counted = heir != 0 && lives[heir].first <= r && r <= lives[heir].last;
            if (lives[a].used && !counted && lives[a].first <= r && r <= lives[a].last)
                alive += (o->graph->storages.items[a].size + align - 1) / align * align;
        }
        bound = alive > bound ? alive : bound;
    }
    if (bad == NULL && (sum != m->sum_bytes || bound != m->lower_bound || m->arena_bytes < end ||
                        m->arena_bytes < bound || m->arena_bytes > sum))
        bad = wrong("arena %lld bytes, sum %lld (%lld), lower bound %lld (%lld), highest end %lld",
                    (long long)m->arena_bytes, (long long)m->sum_bytes, (long long)sum,
                    (long long)m->lower_bound, (long long)bound, (long long)end);
    free(lives);
    return bad;
}

/* ---- running ---------------------------------------------------------------------------------------- */

typedef struct machine {
    unsigned char **at; /* by storage */
    unsigned char *own; /* all bytes that are not in the arena */
    int64_t own_size;
    unsigned char *arena;
    uint64_t seen[ORACLE_NODES]; /* what each node read, hashed */
    uint64_t hash;               /* of the current node */
    bool writing;
    uint64_t written;
} machine;

static uint64_t mix(uint64_t h) {
    h = (h ^ (h >> 31)) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

/* Storages over one block of bytes; those of the arena at the plan's offsets when there is a plan. */
static void machine_init(machine *m, const oracle *o, const kiln__memory *plan, uint64_t garbage) {
    layout l = layout_of(o->graph);
    *m = (machine){.own_size = l.size};
    m->own = must(malloc((size_t)l.size));
    m->at = must(calloc(o->graph->storages.count, sizeof *m->at));
    for (int64_t x = 0; x < l.size; x++)
        m->own[x] = (unsigned char)mix((uint64_t)x + 7);
    size_t arena = plan != NULL ? (size_t)plan->arena_bytes + 1 : 1;
    m->arena = must(malloc(arena));
    for (size_t x = 0; x < arena; x++)
        m->arena[x] = (unsigned char)mix(x + garbage);
    for (size_t s = 1; s < o->graph->storages.count; s++) {
        bool arena_kind = o->graph->storages.items[s].kind == KILN_STORAGE_ARENA;
        m->at[s] = arena_kind && plan != NULL ? m->arena + plan->places[s].offset : m->own + l.base[s];
    }
    free(l.base);
}

static void machine_free(machine *m) {
    free(m->own);
    free(m->at);
    free(m->arena);
}

static void visit_byte(void *context, uint32_t storage, int64_t byte, kiln_access_mode mode) {
    machine *m = context;
    unsigned char *at = m->at[storage] + byte;
    if (!m->writing && (mode & KILN_READ))
        m->hash = mix(m->hash * 257 + *at);
    if (m->writing && (mode & KILN_WRITE))
        *at = (unsigned char)mix(m->hash + m->written++);
}

static void run_node(machine *m, const oracle *o, const int64_t *slots, uint32_t node) {
    m->hash = mix(node + 1);
    m->writing = false;
    dag_visit_bytes(o->graph, node, slots, visit_byte, m);
    m->seen[node] = m->hash;
    m->writing = true;
    m->written = 0;
    dag_visit_bytes(o->graph, node, slots, visit_byte, m);
}

const char *oracle_check_run(const oracle *o, const kiln__schedule *s, int64_t symbol, dag_random *random) {
    int64_t slots[8];
    for (int i = 0; i < 8; i++)
        slots[i] = symbol;
    machine expected, got;
    machine_init(&expected, o, NULL, 0);
    machine_init(&got, o, &s->memory, 99);
    for (uint32_t i = 0; i < o->n; i++)
        run_node(&expected, o, slots, i);
    for (uint32_t r = 0; r < s->n_regions; r++) {
        uint32_t nodes[ORACLE_NODES], n = 0;
        for (uint32_t k = s->region_first[r]; k < s->region_first[r + 1]; k++)
            nodes[n++] = s->order[k];
        for (uint32_t k = n; k-- > 0;) { /* Fisher-Yates, backwards */
            uint32_t pick = (uint32_t)dag_below(random, k + 1), node = nodes[pick];
            nodes[pick] = nodes[k];
            run_node(&got, o, slots, node);
        }
    }
    const char *bad = NULL;
    for (uint32_t i = 0; i < o->n && bad == NULL; i++)
        if (got.seen[i] != expected.seen[i])
            bad = wrong("node %u (region %u) reads other bytes than in program order", i, s->region_of[i]);
    for (uint32_t k = 1; k < o->graph->storages.count && bad == NULL; k++) {
        const kiln__storage *storage = &o->graph->storages.items[k];
        if (storage->kind != KILN_STORAGE_ARENA &&
            memcmp(got.at[k], expected.at[k], (size_t)storage->size) != 0)
            bad = wrong("storage %u ends with other bytes than in program order", k);
    }
    machine_free(&expected);
    machine_free(&got);
    return bad;
}
