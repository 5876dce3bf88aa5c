/* Placing items in an arena.
 *
 * Properties. Items whose regions intersect never share a byte. The better of two placements is taken; when
 * the first meets the lower bound the second is not tried. Deterministic. Near-linear: the second placement,
 * whose cost is the number of pairs alive at once, is tried only while that number is small against the
 * items.
 *
 * Problem. Offsets for intervals so that the highest end is least: dynamic storage allocation, NP-hard.
 *
 * Method 1, in time: region by region, free what died in the region before, then allocate what is born,
 * largest first, from a list of holes: the best of a few in the smallest size class that has one that fits,
 * else at the top. Blocks know their neighbours in memory, so holes join at once; size classes have a bitmap,
 * so each step is O(1). Exact when little dies out of order, as in a chain of layers.
 *
 * Method 2, by size: largest item first, each into the smallest gap between those already placed that are
 * alive with it. Ignoring time lets large items lie flush and small ones fill the gaps. To enumerate who is
 * alive with an item, items are sorted by first region, with a tree of the latest last region of those
 * placed.
 *
 * Considered. First fit by a tree over holes: no better packing, more code. Exact search: exponential.
 */
#include "place.h"

#include "checked.h"
#include "sort.h"

/* ---- method 1 --------------------------------------------------------------------------------------- */

enum { NONE = -1, SUB = 8, BINS = 2 * SUB + 59 * SUB, LOOK = 8 };

/* A hole, or an item's bytes. Indices of blocks; NONE ends a list. */
typedef struct block {
    int64_t offset, size;
    int32_t below, above;            /* neighbours in memory */
    int32_t hole_before, hole_after; /* in the bin, for holes */
    bool hole;
} block;

typedef struct pool {
    block *blocks; /* items have blocks 0 … n-1, the rest are for holes */
    int32_t spare; /* the first block never used: n to begin with, and each release takes at most one */
    int32_t top;   /* the highest block */
    int32_t bins[BINS];
    uint64_t filled[BINS / 64 + 1]; /* bins that are not empty */
    int64_t unit;
} pool;

/* Size classes: each size below 16 units, then 8 per doubling. */
static int bin_of(const pool *p, int64_t size) {
    uint64_t units = (uint64_t)(size / p->unit);
    if (units < 2 * SUB)
        return (int)units;
    int log = 63 - __builtin_clzll(units);
    return 2 * SUB + (log - 4) * SUB + (int)((units >> (log - 3)) & (SUB - 1));
}

static void hole_add(pool *p, int32_t i) {
    block *b = &p->blocks[i];
    int bin = bin_of(p, b->size);
    b->hole = true;
    b->hole_before = NONE;
    b->hole_after = p->bins[bin];
    if (b->hole_after != NONE)
        p->blocks[b->hole_after].hole_before = i;
    p->bins[bin] = i;
    p->filled[bin / 64] |= UINT64_C(1) << bin % 64;
}

static void hole_remove(pool *p, int32_t i) {
    block *b = &p->blocks[i];
    int bin = bin_of(p, b->size);
    b->hole = false;
    if (b->hole_after != NONE)
        p->blocks[b->hole_after].hole_before = b->hole_before;
    if (b->hole_before != NONE)
        p->blocks[b->hole_before].hole_after = b->hole_after;
    else if ((p->bins[bin] = b->hole_after) == NONE)
        p->filled[bin / 64] &= ~(UINT64_C(1) << bin % 64);
}

/* Takes a block out of the order in memory. */
static void unlink_block(pool *p, int32_t i) {
    block *b = &p->blocks[i];
    if (b->below != NONE)
        p->blocks[b->below].above = b->above;
    if (b->above != NONE)
        p->blocks[b->above].below = b->below;
    else
        p->top = b->below;
}

/* Puts a block between two neighbours, either of them NONE at the ends. */
static void link_block(pool *p, int32_t i, int32_t below, int32_t above) {
    p->blocks[i].below = below;
    p->blocks[i].above = above;
    if (below != NONE)
        p->blocks[below].above = i;
    if (above != NONE)
        p->blocks[above].below = i;
    else
        p->top = i;
}

static int next_filled(const pool *p, int bin) {
    for (; bin < BINS; bin = (bin / 64 + 1) * 64) {
        uint64_t rest = p->filled[bin / 64] >> bin % 64;
        if (rest != 0)
            return bin + __builtin_ctzll(rest);
    }
    return NONE;
}

/* The smallest of the first few holes of a bin that hold `size`. */
static int32_t best_in_bin(const pool *p, int bin, int64_t size) {
    int32_t best = NONE, i = p->bins[bin];
    for (int look = 0; i != NONE && look < LOOK; i = p->blocks[i].hole_after, look++)
        if (p->blocks[i].size >= size && (best == NONE || p->blocks[i].size < p->blocks[best].size))
            best = i;
    return best;
}

static void allocate(pool *p, int32_t item) {
    block *b = &p->blocks[item];
    int bin = bin_of(p, b->size);
    int32_t hole = best_in_bin(p, bin, b->size);
    if (hole == NONE && (bin = next_filled(p, bin + 1)) != NONE)
        hole = best_in_bin(p, bin, b->size);
    if (hole == NONE) {
        int32_t below = p->top;
        if (below != NONE && p->blocks[below].hole) { /* grow the hole at the top */
            b->offset = p->blocks[below].offset;
            hole_remove(p, below);
            unlink_block(p, below);
        } else {
            b->offset = below != NONE ? p->blocks[below].offset + p->blocks[below].size : 0;
        }
        link_block(p, item, p->top, NONE);
        return;
    }
    block *h = &p->blocks[hole];
    hole_remove(p, hole);
    b->offset = h->offset;
    link_block(p, item, h->below, hole);
    h->offset += b->size;
    h->size -= b->size;
    if (h->size > 0)
        hole_add(p, hole);
    else
        unlink_block(p, hole);
}

static void release(pool *p, int32_t item) {
    const block *b = &p->blocks[item];
    int32_t below = b->below, above = b->above, hole;
    if (below != NONE && p->blocks[below].hole) {
        hole = below;
        hole_remove(p, hole);
        p->blocks[hole].size += b->size;
    } else {
        hole = p->spare++;
        p->blocks[hole].offset = b->offset;
        p->blocks[hole].size = b->size;
        link_block(p, hole, below, item);
    }
    unlink_block(p, item);
    if (above != NONE && p->blocks[above].hole) {
        hole_remove(p, above);
        p->blocks[hole].size += p->blocks[above].size;
        unlink_block(p, above);
    }
    hole_add(p, hole);
}

/* by_birth: by first region, then size descending. by_death: by last region. Each n items. */
static bool place_in_time(kiln__item *items, uint32_t n, int64_t unit, const kiln__key *by_birth,
                          const kiln__key *by_death, const kiln_allocator *a, int64_t *total) {
    pool p = {.spare = (int32_t)n, .top = NONE, .unit = unit};
    size_t n_blocks = 2 * (size_t)n;
    p.blocks = KILN_NEW_RAW(a, block, n_blocks);
    if (p.blocks == NULL)
        return false;
    for (int bin = 0; bin < BINS; bin++)
        p.bins[bin] = NONE;
    *total = 0;
    uint32_t dead = 0;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = by_birth[k].index;
        for (; by_death[dead].key < items[i].first; dead++)
            release(&p, (int32_t)by_death[dead].index);
        p.blocks[i] = (block){.size = items[i].size};
        allocate(&p, (int32_t)i);
        items[i].offset = p.blocks[i].offset;
        int64_t end = items[i].offset + items[i].size;
        *total = end > *total ? end : *total;
    }
    KILN_DELETE(a, p.blocks, block, n_blocks);
    return true;
}

/* ---- method 2 --------------------------------------------------------------------------------------- */

typedef struct alive {
    const kiln__item *items;
    const int64_t *offsets;
    const kiln__key *by_birth;
    uint32_t *tree; /* [2 * leaves]: 1 + the latest last region of the items placed below, 0 for none */
    uint32_t leaves;
    kiln__key *found; /* (offset, item) of those placed that are alive with the one asked for */
    size_t n_found;
} alive;

static void find_alive(alive *v, uint32_t node, uint32_t from, uint32_t count, const kiln__item *item) {
    if (v->tree[node] <= item->first) /* all gone before */
        return;
    uint32_t i = v->by_birth[from].index;
    if (v->items[i].first > item->last) /* all born after */
        return;
    if (count == 1) {
        v->found[v->n_found++] = (kiln__key){v->offsets[i], i};
        return;
    }
    find_alive(v, 2 * node, from, count / 2, item);
    find_alive(v, 2 * node + 1, from + count / 2, count / 2, item);
}

/* The smallest gap between the items found that holds `size`, the lowest among equals;
 * else behind the last. */
static int64_t best_gap(const alive *v, int64_t size) {
    int64_t end = 0, best = -1, best_size = INT64_MAX;
    for (size_t i = 0; i < v->n_found; i++) {
        int64_t gap = v->found[i].key - end;
        if (gap >= size && gap < best_size) {
            best = end;
            best_size = gap;
        }
        int64_t past = v->found[i].key + v->items[v->found[i].index].size;
        end = past > end ? past : end;
    }
    return best >= 0 ? best : end;
}

/* Offsets to offsets[n]. `by_size`: by size descending. */
static bool place_by_size(const kiln__item *items, uint32_t n, const kiln__key *by_birth,
                          const kiln__key *by_size, int64_t *offsets, const kiln_allocator *a,
                          int64_t *total) {
    alive v = {.items = items, .offsets = offsets, .by_birth = by_birth, .leaves = 1};
    while (v.leaves < n)
        v.leaves *= 2;
    v.tree = KILN_NEW(a, uint32_t, 2 * (size_t)v.leaves);
    v.found = KILN_NEW_RAW(a, kiln__key, 2 * (size_t)n);
    uint32_t *leaf_of = KILN_NEW_RAW(a, uint32_t, n);
    bool ok = v.tree != NULL && v.found != NULL && leaf_of != NULL;
    *total = 0;
    for (uint32_t k = 0; ok && k < n; k++)
        leaf_of[by_birth[k].index] = k;
    for (uint32_t k = 0; ok && k < n; k++) {
        uint32_t i = by_size[k].index;
        v.n_found = 0;
        find_alive(&v, 1, 0, v.leaves, &items[i]);
        kiln__sort_keys(v.found, v.found + n, v.n_found);
        offsets[i] = best_gap(&v, items[i].size);
        *total = offsets[i] + items[i].size > *total ? offsets[i] + items[i].size : *total;
        for (uint32_t node = v.leaves + leaf_of[i]; node > 0; node /= 2)
            v.tree[node] = items[i].last + 1 > v.tree[node] ? items[i].last + 1 : v.tree[node];
    }
    KILN_DELETE(a, v.tree, uint32_t, 2 * (size_t)v.leaves);
    KILN_DELETE(a, v.found, kiln__key, 2 * (size_t)n);
    KILN_DELETE(a, leaf_of, uint32_t, n);
    return ok;
}

/* ---- both ------------------------------------------------------------------------------------------- */

/* Keys by birth, then by size descending; by death; by size descending. */
typedef struct keys {
    kiln__key *birth, *death, *size, *scratch;
} keys;

static void sort_items(const kiln__item *items, uint32_t n, keys *k) {
    for (uint32_t i = 0; i < n; i++) {
        k->size[i] = (kiln__key){-items[i].size, i};
        k->death[i] = (kiln__key){items[i].last, i};
    }
    kiln__sort_keys(k->size, k->scratch, n);
    kiln__sort_keys(k->death, k->scratch, n);
    for (uint32_t i = 0; i < n; i++)
        k->birth[i] = (kiln__key){items[k->size[i].index].first, k->size[i].index};
    kiln__sort_keys(k->birth, k->scratch, n); /* stable: sizes stay in order */
}

/* The largest sum of sizes alive at once, and the number of pairs alive at once. */
static int64_t largest_live_set(const kiln__item *items, uint32_t n, const keys *k, uint64_t *pairs) {
    int64_t sum = 0, largest = 0;
    uint64_t count = 0;
    uint32_t dead = 0;
    *pairs = 0;
    for (uint32_t i = 0; i < n; i++) {
        const kiln__item *item = &items[k->birth[i].index];
        for (; k->death[dead].key < item->first; dead++, count--)
            sum -= items[k->death[dead].index].size;
        sum += item->size;
        largest = sum > largest ? sum : largest;
        *pairs += count++;
    }
    return largest;
}

bool kiln__place_items(kiln__item *items, uint32_t n, int64_t unit, const kiln_allocator *a, int64_t *total,
                       int64_t *lower_bound) {
    *total = *lower_bound = 0;
    if (n == 0)
        return true;
    if (n > INT32_MAX / 2)
        return false;
    kiln__key *all = KILN_NEW_RAW(a, kiln__key, 4 * (size_t)n);
    int64_t *offsets = KILN_NEW_RAW(a, int64_t, n);
    bool ok = all != NULL && offsets != NULL;
    if (ok) {
        keys k = {all, all + n, all + 2 * (size_t)n, all + 3 * (size_t)n};
        uint64_t pairs;
        sort_items(items, n, &k);
        *lower_bound = largest_live_set(items, n, &k, &pairs);
        ok = place_in_time(items, n, unit, k.birth, k.death, a, total);
        if (ok && *total > *lower_bound && pairs <= 64 * (uint64_t)n + 65536) {
            int64_t by_size;
            ok = place_by_size(items, n, k.birth, k.size, offsets, a, &by_size);
            for (uint32_t i = 0; ok && by_size < *total && i < n; i++)
                items[i].offset = offsets[i];
            *total = ok && by_size < *total ? by_size : *total;
        }
    }
    KILN_DELETE(a, all, kiln__key, 4 * (size_t)n);
    KILN_DELETE(a, offsets, int64_t, n);
    return ok;
}
