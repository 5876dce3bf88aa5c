/* The independent check behind `kiln check`.
 *
 * It trusts the ops' declared accesses and nothing else: every access of every node is compared with every
 * later one, by enumerating runs of bytes rather than by reasoning about strides; the longest chain, the
 * lives of the intermediates and the arena's lower bound follow from that. Nothing of sched/ but the result
 * is used; only where boxes have too many runs to enumerate does sched's rule stand, and the report says so.
 *
 * A plan is right when
 * 1. every pair of nodes that conflicts stands in two regions, in program order (no missed hazard);
 * 2. there are no more regions than nodes on the longest chain of conflicts, unless a memory cap or serial
 *    order asked for more (no barrier that could be left out), and every hazard it names is a conflict;
 * 3. intermediates that share bytes are never alive in the same region, but for an output that replaces an
 *    input of its own node, as its op permits; and the numbers it reports are these numbers.
 */
#include "brute.h"
#include "box.h"
#include "plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 1 << 24 }; /* to decide one pair of boxes: below a second */

typedef struct brute {
    const kiln_plan *plan;
    const kiln_graph *program;
    const kiln__schedule *schedule;
    brute_report *report;
    kiln_access_list list;
    uint32_t *chain;        /* [nodes]: nodes on the longest chain that ends here */
    uint32_t *first, *last; /* [storages]: regions; KILN__NEVER when not accessed */
} brute;

static void wrong(brute *b, const char *format, ...) KILN_PRINTF(2, 3);
static void wrong(brute *b, const char *format, ...) {
    if (!b->report->ok)
        return; /* the first finding is the one to look at */
    va_list args;
    va_start(args, format);
    vsnprintf(b->report->problem, sizeof b->report->problem, format, args);
    va_end(args);
    b->report->ok = false;
}

/* ---- boxes, run by run ------------------------------------------------------------------------------ */

/* A box as runs of bytes: levels by stride, smallest first, each of at least two runs. */
typedef struct runs {
    int64_t at, length;
    int n;
    int64_t count[KILN_BOX_LEVELS], stride[KILN_BOX_LEVELS];
} runs;

/* Bytes from the first to behind the last of the run and the `levels` smallest levels. */
static int64_t reach(const runs *r, int levels) {
    int64_t bytes = r->length;
    for (int l = 0; l < levels; l++)
        bytes += (r->count[l] - 1) * r->stride[l];
    return bytes;
}

static runs runs_of(const kiln_box *box, int64_t base) {
    runs r = {.at = base + box->offset, .length = box->length}; /* no access is empty */
    for (int l = 0; l < KILN_BOX_LEVELS; l++) {
        int64_t count = box->count[l], stride = box->stride[l];
        if (count == 1 || stride == 0)
            continue;
        if (stride < 0) {
            r.at += (count - 1) * stride;
            stride = -stride;
        }
        int at = r.n++;
        for (; at > 0 && r.stride[at - 1] > stride; at--) {
            r.count[at] = r.count[at - 1];
            r.stride[at] = r.stride[at - 1];
        }
        r.count[at] = count;
        r.stride[at] = stride;
    }
    return r;
}

static runs without_level(const runs *r, int level) {
    runs rest = *r;
    rest.n--;
    for (int l = level; l < rest.n; l++) {
        rest.count[l] = rest.count[l + 1];
        rest.stride[l] = rest.stride[l + 1];
    }
    return rest;
}

/* The level to take away so that the runs come in order, one behind the other; -1 when they do. */
static int disorder(const runs *r) {
    for (int l = 0; l < r->n; l++)
        if (r->stride[l] < reach(r, l))
            return l > 0 && r->count[l - 1] < r->count[l] ? l - 1 : l;
    return -1;
}

/* Where the first run that ends behind byte `p` begins, of runs in order; false when there is none. */
static bool seek(const runs *r, int64_t p, int64_t *begin) {
    int64_t inside = reach(r, r->n), at = r->at;
    if (at + inside <= p)
        return false;
    for (int l = r->n - 1; l >= 0; l--) {
        inside -= (r->count[l] - 1) * r->stride[l];
        if (p >= at + inside)
            at += ((p - at - inside) / r->stride[l] + 1) * r->stride[l];
    }
    *begin = at;
    return true;
}

/* Runs in order: each side skips to where the other is. */
static bool merge(const runs *x, const runs *y, int64_t *steps) {
    int64_t a = x->at, b;
    while (--*steps >= 0 && seek(y, a, &b)) {
        if (b < a + x->length)
            return true;
        if (!seek(x, b, &a))
            return false;
        if (a < b + y->length)
            return true;
    }
    return false;
}

/* Do they share a byte? "No" means nothing when `steps` has run below zero. What is not in order is taken
 * apart, level by level, until it is. */
static bool meet(const runs *x, const runs *y, int64_t *steps) {
    if (--*steps < 0 || x->at + reach(x, x->n) <= y->at || y->at + reach(y, y->n) <= x->at)
        return false;
    if (disorder(x) < 0 && disorder(y) < 0)
        return merge(x, y, steps);
    const runs *cut = disorder(x) >= 0 ? x : y, *other = cut == x ? y : x;
    int level = disorder(cut);
    runs part = without_level(cut, level);
    for (int64_t i = 0; i < cut->count[level] && *steps >= 0; i++, part.at += cut->stride[level])
        if (meet(&part, other, steps))
            return true;
    return false;
}

/* Where a storage lies: bytes known by address are compared by address, all others only with themselves. */
static uint32_t space_of(const brute *b, uint32_t storage, int64_t *base) {
    const kiln__storage *s = &b->program->storages.items[storage];
    *base = s->data ? (int64_t)(uintptr_t)s->data : 0;
    return s->data ? 0 : storage;
}

/* INTERLACED: they share no byte, but the rule by which plans are made says that they do. UNSURE: there were
 * too many runs, and that rule alone says that they share a byte (LINKED) or do not (APART). */
typedef enum verdict { APART, UNSURE_APART, UNSURE_LINKED, INTERLACED, CONFLICT } verdict;

static verdict judge(const brute *b, const kiln_access_list *list, const kiln__access *x,
                     const kiln__access *y) {
    int64_t x_base, y_base, steps = STEPS;
    if (((x->mode | y->mode) & KILN_WRITE) == 0)
        return APART;
    if (x->operand == KILN__OPERAND_ANY || y->operand == KILN__OPERAND_ANY)
        return CONFLICT;
    if (space_of(b, x->storage, &x_base) != space_of(b, y->storage, &y_base))
        return APART;
    kiln_box box = kiln__access_box(list, x), there = kiln__access_box(list, y);
    runs p = runs_of(&box, x_base), q = runs_of(&there, y_base);
    if (meet(&p, &q, &steps))
        return CONFLICT;
    there.offset += y_base - x_base;
    bool rule = kiln__box_overlap(&box, &there);
    if (steps < 0)
        return rule ? UNSURE_LINKED : UNSURE_APART;
    return rule ? INTERLACED : APART;
}

/* ---- hazards ---------------------------------------------------------------------------------------- */

static const char *label(const brute *b, uint32_t node, char buffer[KILN__LABEL_SIZE]) {
    return kiln__node_label(b->program, node, buffer);
}

static void compare(brute *b, const kiln__access *x, const kiln__access *y) {
    char from[KILN__LABEL_SIZE], to[KILN__LABEL_SIZE];
    const uint32_t *region_of = b->schedule->region_of;
    b->report->pairs++;
    verdict v = judge(b, &b->list, x, y);
    if (v == APART)
        return;
    b->report->undecided += v == UNSURE_APART || v == UNSURE_LINKED;
    if (v == UNSURE_APART)
        return;
    b->report->conflicts += v == CONFLICT;
    b->report->cautious += v == INTERLACED;
    if (b->chain[x->node] + 1 > b->chain[y->node])
        b->chain[y->node] = b->chain[x->node] + 1;
    if (v == CONFLICT && region_of[x->node] >= region_of[y->node])
        wrong(b, "missed hazard: '%s' (region %u) must come before '%s' (region %u); both access '%s'",
              label(b, x->node, from), region_of[x->node], label(b, y->node, to), region_of[y->node],
              x->storage ? KILN__STORAGE_LABEL(b->program, x->storage) : "all memory");
}

static void all_pairs(brute *b, void (*tick)(void *, int64_t), void *context) {
    const kiln__access *items = b->list.items;
    for (size_t j = 0; j < b->list.count; j++) {
        if (tick != NULL && (j == 0 || items[j].node != items[j - 1].node))
            tick(context, items[j].node);
        for (size_t i = 0; i < j && items[i].node < items[j].node; i++)
            compare(b, &items[i], &items[j]);
    }
    for (size_t n = 0; n < b->program->nodes.count; n++)
        if (b->chain[n] > b->report->longest_chain)
            b->report->longest_chain = b->chain[n];
}

static void check_hazards(brute *b) {
    const kiln__hazards *h = &b->plan->hazards;
    char from[KILN__LABEL_SIZE], to[KILN__LABEL_SIZE];
    b->report->hazards = h->count;
    for (size_t i = 0; i < h->count; i++) {
        const kiln__access *x = &h->list.items[h->items[i].from_access];
        const kiln__access *y = &h->list.items[h->items[i].to_access];
        if (x->node != h->items[i].from || y->node != h->items[i].to || x->node >= y->node ||
            judge(b, &h->list, x, y) == APART)
            wrong(b, "invented hazard: '%s' and '%s' share no byte that one of them writes",
                  label(b, h->items[i].from, from), label(b, h->items[i].to, to));
    }
}

/* Without this nothing else can be looked at. */
static bool sizes_agree(brute *b) {
    const kiln__schedule *s = b->schedule;
    if (s->n_nodes != b->program->nodes.count || s->n_barriers != (s->n_regions ? s->n_regions - 1 : 0))
        wrong(b, "the schedule has %u nodes and %u barriers for %zu nodes in %u regions", s->n_nodes,
              s->n_barriers, b->program->nodes.count, s->n_regions);
    if (s->memory.n_storages != b->program->storages.count)
        wrong(b, "the memory plan has %u storages, the program %zu", s->memory.n_storages,
              b->program->storages.count);
    return b->report->ok;
}

static void check_order(brute *b) {
    const kiln__schedule *s = b->schedule;
    uint32_t n = s->n_nodes;
    /* Each region non-empty, its nodes ascending and saying that they are in it: then it is a permutation. */
    for (uint32_t r = 0; r < s->n_regions; r++)
        for (uint32_t i = s->region_first[r]; i < s->region_first[r + 1]; i++)
            if (s->order[i] >= n || s->region_of[s->order[i]] != r ||
                (i > s->region_first[r] && s->order[i - 1] >= s->order[i]))
                wrong(b, "region %u: entry %u of the order does not belong there", r, i);
    if (n > 0 && (s->region_first[0] != 0 || s->region_first[s->n_regions] != n))
        wrong(b, "the regions do not hold all nodes");
    const kiln_bake_options *o = &b->plan->options;
    if (s->n_regions > b->report->longest_chain && !o->serial && o->max_arena == 0)
        wrong(b, "%u regions, but no chain of hazards is longer than %u: a barrier can be left out",
              s->n_regions, b->report->longest_chain);
    if (s->longest_chain != b->report->longest_chain)
        wrong(b, "the plan says the longest chain has %u nodes; it has %u", s->longest_chain,
              b->report->longest_chain);
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static bool in_arena(const brute *b, uint32_t storage) {
    return b->program->storages.items[storage].kind == KILN_STORAGE_ARENA;
}

static void touch(brute *b, uint32_t storage, uint32_t region) {
    if (b->first[storage] == KILN__NEVER || region < b->first[storage])
        b->first[storage] = region;
    if (b->last[storage] == KILN__NEVER || region > b->last[storage])
        b->last[storage] = region;
}

static void find_lives(brute *b) {
    for (size_t i = 0; i < b->program->storages.count; i++)
        b->first[i] = b->last[i] = KILN__NEVER;
    for (size_t i = 0; i < b->list.count; i++) {
        const kiln__access *a = &b->list.items[i];
        uint32_t region = b->schedule->region_of[a->node];
        const kiln__node *n = &b->program->nodes.items[a->node];
        if (a->operand != KILN__OPERAND_ANY) {
            touch(b, a->storage, region);
            continue;
        }
        for (uint32_t o = 0; o < n->n_in + n->n_out; o++) {
            uint32_t id = b->program->operands.items[n->operands + o];
            if (id != 0 && b->program->tensors.items[id].bytes > 0)
                touch(b, b->program->tensors.items[id].storage, region);
        }
    }
}

static int64_t rounded(const brute *b, uint32_t storage) {
    int64_t align = b->schedule->memory.align;
    return (b->program->storages.items[storage].size + align - 1) / align * align;
}

/* May `heir` lie over `host` although both are alive in one region? Only as the output of a node that is the
 * last to access the one and the first to access the other, alone in that region. */
static bool replaces(const brute *b, uint32_t host, uint32_t heir) {
    const kiln__memory *m = &b->schedule->memory;
    if (m->places[heir].host != host || m->places[host].heir != heir || b->last[host] != b->first[heir] ||
        m->places[host].offset != m->places[heir].offset)
        return false;
    uint32_t region = b->last[host], node = UINT32_MAX;
    for (size_t i = 0; i < b->list.count; i++) {
        const kiln__access *a = &b->list.items[i];
        if ((a->storage != host && a->storage != heir) || b->schedule->region_of[a->node] != region)
            continue;
        if (node != UINT32_MAX && node != a->node)
            return false;
        node = a->node;
    }
    if (node == UINT32_MAX)
        return false;
    const kiln__node *n = &b->program->nodes.items[node];
    for (uint32_t i = 0; i < n->op->n_inplace; i++) {
        kiln_inplace pair = n->op->inplace[i];
        if (pair.in >= n->n_in || pair.out >= n->n_out)
            continue;
        uint32_t in = kiln__node_in(b->program, n)[pair.in], out = kiln__node_out(b->program, n)[pair.out];
        if (in != 0 && out != 0 && b->program->tensors.items[in].storage == host &&
            b->program->tensors.items[out].storage == heir)
            return true;
    }
    return false;
}

static void check_pair(brute *b, uint32_t x, uint32_t y) {
    const kiln__place *p = b->schedule->memory.places;
    int64_t x_end = p[x].offset + b->program->storages.items[x].size;
    int64_t y_end = p[y].offset + b->program->storages.items[y].size;
    if (p[x].offset >= y_end || p[y].offset >= x_end)
        return;
    b->report->sharing++;
    if (b->last[x] < b->first[y] || b->last[y] < b->first[x])
        return;
    if (replaces(b, x, y) || replaces(b, y, x))
        return;
    wrong(
        b,
        "intermediates %u (regions %u to %u) and %u (regions %u to %u) share bytes of the arena while alive",
        x, b->first[x], b->last[x], y, b->first[y], b->last[y]);
}

static bool placed(const brute *b, uint32_t storage) {
    return in_arena(b, storage) && b->first[storage] != KILN__NEVER &&
           b->program->storages.items[storage].size > 0;
}

/* The largest sum alive in a region;
 * an output that replaces an input takes no bytes in the region of both. */
static int64_t lower_bound(const brute *b) {
    int64_t best = 0;
    for (uint32_t r = 0; r < b->schedule->n_regions; r++) {
        int64_t sum = 0;
        for (uint32_t s = 1; s < b->program->storages.count; s++)
            if (placed(b, s) && b->first[s] <= r && r <= b->last[s] &&
                !(b->schedule->memory.places[s].host != 0 && b->first[s] == r))
                sum += rounded(b, s);
        if (sum > best)
            best = sum;
    }
    return best;
}

static void check_memory(brute *b) {
    const kiln__memory *m = &b->schedule->memory;
    int64_t sum = 0;
    for (uint32_t s = 1; s < m->n_storages; s++) {
        if (!placed(b, s))
            continue;
        b->report->storages++;
        sum += rounded(b, s);
        if (m->places[s].offset < 0 || m->places[s].offset % m->align != 0 ||
            m->places[s].offset > m->arena_bytes - b->program->storages.items[s].size)
            wrong(b, "intermediate %u does not lie within the arena of %lld bytes", s,
                  (long long)m->arena_bytes);
        for (uint32_t t = 1; t < s; t++)
            if (placed(b, t))
                check_pair(b, t, s);
    }
    int64_t bound = lower_bound(b);
    if (sum != m->sum_bytes || bound != m->lower_bound || m->arena_bytes < bound)
        wrong(b,
              "the plan says an arena of %lld bytes, sum %lld, lower bound %lld; sum and bound are %lld and "
              "%lld",
              (long long)m->arena_bytes, (long long)m->sum_bytes, (long long)m->lower_bound, (long long)sum,
              (long long)bound);
    if (b->plan->options.max_arena > 0 && m->arena_bytes > b->plan->options.max_arena)
        wrong(b, "an arena of %lld bytes, although at most %lld were allowed", (long long)m->arena_bytes,
              (long long)b->plan->options.max_arena);
}

/* ---- all of it -------------------------------------------------------------------------------------- */

static bool ends_behind(const kiln_box *box, int64_t size) {
    runs r = runs_of(box, 0);
    return r.at < 0 || r.at + reach(&r, r.n) > size;
}

static kiln_status collect(brute *b, kiln_error *error) {
    for (size_t n = 0; n < b->program->nodes.count; n++) {
        kiln_status status = kiln__access_collect(&b->list, n, error);
        if (status != KILN_OK)
            return status;
    }
    for (size_t i = 0; i < b->list.count; i++) {
        const kiln__access *a = &b->list.items[i];
        kiln_box box = kiln__access_box(&b->list, a);
        if (a->operand != KILN__OPERAND_ANY && ends_behind(&box, b->program->storages.items[a->storage].size))
            wrong(b, "node %u accesses bytes behind its storage", a->node);
    }
    b->report->nodes = b->program->nodes.count;
    b->report->accesses = b->list.count;
    b->report->regions = b->schedule->n_regions;
    return KILN_OK;
}

kiln_status brute_check(const kiln_plan *plan, void (*tick)(void *context, int64_t done), void *context,
                        brute_report *report, kiln_error *error) {
    brute b = {.plan = plan, .program = plan->program, .schedule = &plan->schedule, .report = report};
    size_t nodes = plan->program->nodes.count, storages = plan->program->storages.count;
    *report = (brute_report){.ok = true};
    b.list.graph = plan->program;
    b.list.allocator = plan->allocator;
    b.chain = calloc(nodes + 1, sizeof *b.chain);
    b.first = calloc(storages + 1, sizeof *b.first);
    b.last = calloc(storages + 1, sizeof *b.last);
    kiln_status status = KILN_ERROR_MEMORY;
    if (b.chain != NULL && b.first != NULL && b.last != NULL) {
        for (size_t n = 0; n < nodes; n++)
            b.chain[n] = 1;
        status = collect(&b, error);
        if (status == KILN_OK && sizes_agree(&b)) {
            all_pairs(&b, tick, context);
            check_hazards(&b);
            check_order(&b);
            find_lives(&b);
            check_memory(&b);
        }
    } else {
        kiln_error_set(error, KILN_ERROR_MEMORY, "checking: out of memory");
    }
    kiln__access_free(&b.list);
    free(b.chain);
    free(b.first);
    free(b.last);
    return status;
}
