/* Finding hazards.
 *
 * Properties. The transitive closure of the hazards found is that of all conflicting pairs of accesses.
 * Storages that no node writes cost nothing. An opaque node is ordered against every node that accesses
 * anything, with at most two hazards per node. Deterministic.
 *
 * Problem. Comparing every pair of accesses is quadratic. A map from byte intervals to their last writer is
 * linear for plain ranges, but column slices and pages are boxes with gaps: the map would break into as many
 * pieces as there are rows.
 *
 * Method. Accesses are sorted by their lowest byte, per space and apart for reads and writes, before the
 * sweep; an implicit tree over blocks of entries keeps the span [lowest, highest byte) of those entries that
 * are active. Nodes are then taken in program order: query what overlaps each access of the node, then
 * activate the node's accesses. A read meets active writes (RAW), a write meets active writes (WAW) and
 * active reads (WAR).
 *
 * The spans of column slices all overlap, so the tree keeps a second span: that of columns, which are
 * addresses modulo the row pitch that most strided accesses of the space have. Boxes that share a byte share
 * its column.
 *
 * What keeps it near-linear is that writes retire bytes: when write W of node w meets active access A of node
 * a, the hazard a → w is recorded, and bytes of A that W holds may be taken off A (kiln__box_trim: all of A,
 * or as many as leave a box). They need not be looked at again. For let X of a later node x conflict with A
 * in such a byte. W writes it, so X conflicts with W in it: either the byte is active in W when x comes, and
 * w → x is recorded, or a write W' of w' between them retired it there; then w → w' is recorded, and w' → … →
 * x by induction on the number of writes between. So a → x is implied by a → w → … → x. A read of w itself
 * that is covered by a write of w is never activated: whoever conflicts with it conflicts with that write.
 *
 * Considered. Keeping what is left as a list of boxes, so that writes in the middle retire bytes too: lists
 * grow where counts do not match. Without it, an access that is refilled in pieces from the middle stays
 * active until writes reach it from an end, and later writes of the same bytes get one more (true, implied)
 * hazard each.
 */
#include "hazard.h"

#include "box.h"
#include "sort.h"

enum { BLOCK = 8 };

const char *const kiln__hazard_kind_names[KILN__HAZARD_KIND_COUNT] = {"raw", "waw", "war"};

/* One access in a written space; offsets count from the space's first byte. */
typedef struct entry {
    int64_t lo, hi; /* hull of what is left of it; lo > hi while it is inactive */
    uint32_t access;
    uint32_t rest; /* what is left: REST_RUN, REST_OWN, or REST_KEPT + an index in `rests` */
} entry;

enum { REST_RUN, REST_OWN, REST_KEPT }; /* the run [lo, hi); the access's own box; a box cut from it */

typedef struct span {
    int64_t lo, hi;
} span;

static const span NOTHING = {INT64_MAX, INT64_MIN}, ANYTHING = {INT64_MIN, INT64_MAX};

/* Of the active entries below a node of a tree. */
typedef struct extent {
    span bytes, columns;
} extent;

/* All reads, or all writes, of one space: entries[first … first+n-1], and a tree of extents over its blocks,
 * node 1 being the root; `leaves` is a power of two, or 0 when one block is all there is. */
typedef struct group {
    uint32_t first, n, room; /* there are at most 2^32 - 2 accesses */
    uint32_t tree, leaves;
} group;

/* One access of the current node, on its way through the active entries of a group. */
typedef struct probe {
    const kiln__access *access;
    const group *reads; /* of its space; the writes are the next one */
    uint32_t index, entry;
    int64_t lo, hi; /* hull of its box in the space */
    span columns;
    bool run;     /* is all of its hull */
    bool retires; /* a write: takes what it covers off the active entries */
} probe;

typedef struct finder {
    const kiln_allocator *a;
    kiln__hazards *h;
    entry *entries;
    span *columns; /* per entry, of its whole box; NULL when no space has a pitch */
    uint32_t n_entries;
    uint32_t largest;   /* entries of the largest group */
    uint32_t *entry_of; /* per access, NO_ENTRY when its space is never written */
    group *groups;      /* [2 * n_spaces]: reads of space s at 2s, writes at 2s + 1 */
    extent *tree;
    uint32_t n_tree;
    struct {
        kiln_box *items;
        size_t count, capacity;
    } rests;
    uint32_t spare; /* 1 + a rest that is free, whose offset is the next such number; 0 for none */
    uint32_t *met;  /* per node: 1 + the last node it got a hazard to */
    probe *probes;  /* of the current node, as many as any node has accesses */
    uint32_t n_probes;
    uint32_t opaque; /* the last opaque node, NO_NODE if none */
    kiln_status status;
} finder;

#define NO_ENTRY UINT32_MAX
#define NO_NODE  UINT32_MAX

static bool is_opaque(const kiln__access *a) {
    return a->storage == 0;
}

/* ---- spaces ----------------------------------------------------------------------------------------- */

/* Storages whose memory is known, by address: those that overlap, directly or by others between them, are one
 * space that begins at the lowest of their bytes. */
static kiln_status share_spaces(const kiln_graph *g, kiln__hazards *h, const kiln__key *mapped, size_t n,
                                kiln_error *error) {
    uint64_t begin = 0, end = 0;
    uint32_t space = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = mapped[i].index;
        const kiln__storage *s = &g->storages.items[id];
        uint64_t at = (uint64_t)(uintptr_t)s->data, past;
        if (__builtin_add_overflow(at, (uint64_t)s->size, &past))
            return kiln_error_set(error, KILN_ERROR_OVERFLOW,
                                  "storage '%s': %lld bytes from its address on wrap around memory",
                                  KILN__STORAGE_LABEL(g, id), (long long)s->size);
        if (i == 0 || at >= end) {
            begin = at;
            end = past;
            space = h->places[id].space;
            continue;
        }
        end = past > end ? past : end;
        if (end - begin > INT64_MAX)
            return kiln_error_set(error, KILN_ERROR_OVERFLOW,
                                  "storage '%s' and those that overlap it span more than 63 bits",
                                  KILN__STORAGE_LABEL(g, id));
        h->places[id] = (kiln__space_place){space, (int64_t)(at - begin)};
    }
    return KILN_OK;
}

static kiln_status find_spaces(const kiln_graph *g, kiln__hazards *h, kiln_error *error) {
    size_t n_mapped = 0, n_storages = g->storages.count;
    h->n_storages = (uint32_t)n_storages;
    h->n_spaces = (uint32_t)n_storages;
    h->places = KILN_NEW_RAW(&h->allocator, kiln__space_place, n_storages);
    if (h->places == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "finding hazards: out of memory");
    h->places[0] = (kiln__space_place){0, 0};
    for (uint32_t s = 1; s < n_storages; s++) {
        h->places[s] = (kiln__space_place){s, 0};
        n_mapped += g->storages.items[s].data != NULL && g->storages.items[s].size > 0;
    }
    if (n_mapped < 2)
        return KILN_OK;
    kiln__key *keys = KILN_NEW_RAW(&h->allocator, kiln__key, 2 * n_mapped);
    if (keys == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "finding hazards: out of memory");
    size_t n = 0;
    for (uint32_t s = 1; s < n_storages; s++) {
        uint64_t at = (uint64_t)(uintptr_t)g->storages.items[s].data;
        if (at != 0 && g->storages.items[s].size > 0)
            keys[n++] = (kiln__key){(int64_t)(at ^ UINT64_C(1) << 63), s}; /* the order of unsigned numbers */
    }
    kiln__sort_keys(keys, keys + n_mapped, n);
    kiln_status status = share_spaces(g, h, keys, n, error);
    KILN_DELETE(&h->allocator, keys, kiln__key, 2 * n_mapped);
    return status;
}

/* ---- the predicate ---------------------------------------------------------------------------------- */

static kiln__hazard_kind kind_of(kiln_access_mode earlier, kiln_access_mode later) {
    if ((earlier & KILN_WRITE) && (later & KILN_READ))
        return KILN__RAW;
    return earlier & KILN_WRITE ? KILN__WAW : KILN__WAR;
}

static kiln_box box_in_space(const kiln__hazards *h, const kiln__access *a) {
    kiln_box box = kiln__access_box(&h->list, a);
    box.offset += h->places[a->storage].base;
    return box;
}

static bool boxes_meet(const kiln__hazards *h, const kiln__access *a, const kiln__access *b) {
    kiln_box box_a = box_in_space(h, a), box_b = box_in_space(h, b);
    return kiln__box_overlap(&box_a, &box_b);
}

bool kiln__accesses_conflict(const kiln__hazards *h, const kiln__access *earlier, const kiln__access *later,
                             kiln__hazard_kind *kind) {
    if (!((earlier->mode | later->mode) & KILN_WRITE))
        return false;
    if (kind != NULL)
        *kind = kind_of(earlier->mode, later->mode);
    if (is_opaque(earlier) || is_opaque(later))
        return true;
    return h->places[earlier->storage].space == h->places[later->storage].space &&
           boxes_meet(h, earlier, later);
}

/* ---- collecting and sorting ------------------------------------------------------------------------- */

static bool collect_watched(const kiln_graph *g, kiln__hazards *h, uint32_t node,
                            const kiln__watched *watched) {
    const kiln__node *n = &g->nodes.items[node];
    for (uint32_t j = 0; j < n->n_out; j++) {
        uint32_t id = kiln__node_out(g, n)[j];
        if (id == 0 || id >= watched->n || !watched->of[id] || g->tensors.items[id].bytes == 0)
            continue;
        const kiln__tensor *t = &g->tensors.items[id];
        const kiln_box box = kiln__tensor_box(g, t, NULL);
        if (!kiln__access_push(&h->list, node, n->n_in + j, t->storage, KILN_READ, &box))
            return false;
    }
    return true;
}

static kiln_status collect(const kiln_graph *g, kiln__hazards *h, const kiln__watched *watched,
                           kiln_error *error) {
    size_t n = g->nodes.count;
    if (n >= NO_NODE - 1)
        return kiln_error_set(error, KILN_ERROR_LIMIT, "%zu nodes; at most 2^32 - 3", n);
    h->n_nodes = (uint32_t)n;
    h->list.graph = g;
    h->list.allocator = h->allocator;
    h->first_access = KILN_NEW_RAW(&h->allocator, uint32_t, n + 1);
    h->first_hazard = KILN_NEW_RAW(&h->allocator, uint32_t, n + 1);
    if (h->first_access == NULL || h->first_hazard == NULL ||
        !KILN_GROW(&h->allocator, h->list, g->operands.count + 1))
        return kiln_error_set(error, KILN_ERROR_MEMORY, "collecting the accesses of %zu nodes: out of memory",
                              n);
    h->first_access[0] = h->first_hazard[0] = 0;
    for (size_t i = 0; i < n; i++) {
        kiln_status status = kiln__access_collect(&h->list, i, error);
        if (status != KILN_OK)
            return status;
        if (watched != NULL && !collect_watched(g, h, (uint32_t)i, watched))
            return kiln_error_set(error, KILN_ERROR_MEMORY,
                                  "collecting the accesses of %zu nodes: out of memory", n);
        if (h->list.count >= NO_ENTRY)
            return kiln_error_set(error, KILN_ERROR_LIMIT, "more than 2^32 - 2 accesses");
        h->first_access[i + 1] = (uint32_t)h->list.count;
    }
    return KILN_OK;
}

/* From the lowest to behind the highest byte, in the space. */
static void hull_of(const kiln__hazards *h, const kiln__access *a, int64_t *lo, int64_t *hi) {
    if (a->levels == 0) {
        *lo = h->places[a->storage].base + a->offset;
        *hi = *lo + a->length;
    } else {
        kiln_box box = box_in_space(h, a);
        (void)kiln__box_hull(&box, lo, hi); /* fits: checked when the access was declared */
    }
}

/* Is it all of its hull? */
static bool is_run(const kiln__hazards *h, const kiln__access *a) {
    kiln_box box;
    return a->levels == 0 || (box = kiln__access_box(&h->list, a), kiln__box_dense(&box));
}

static size_t group_of(const finder *f, const kiln__access *a) {
    return 2 * (size_t)f->h->places[a->storage].space + ((a->mode & KILN_WRITE) != 0);
}

/* Makes room for the entries of each group; a space without writes has none. Returns how many are reads. */
static size_t lay_out_groups(finder *f) {
    const kiln_access_list *list = &f->h->list;
    size_t n_reads = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!is_opaque(&list->items[i]))
            f->groups[group_of(f, &list->items[i])].room++;
    for (size_t s = 0; s < f->h->n_spaces; s++) {
        group *reads = &f->groups[2 * s], *writes = reads + 1;
        if (writes->room == 0)
            reads->room = 0;
        n_reads += reads->room;
        for (group *g = reads; g <= writes; g++) {
            uint32_t blocks = g->room / BLOCK + (g->room % BLOCK != 0);
            g->first = f->n_entries;
            f->n_entries += g->room;
            f->largest = g->room > f->largest ? g->room : f->largest;
            if (blocks < 2)
                continue;
            for (g->leaves = 2; g->leaves < blocks;)
                g->leaves *= 2;
            g->tree = f->n_tree;
            f->n_tree += 2 * g->leaves;
        }
    }
    return n_reads;
}

/* The distance between the runs of a box, 0 when it has one run. */
static int64_t pitch_of(const kiln_box *box) {
    int64_t pitch = 0;
    for (int l = 0; l < KILN_BOX_LEVELS; l++)
        if (box->count[l] > 1 && box->stride[l] > 0 && (pitch == 0 || box->stride[l] < pitch))
            pitch = box->stride[l];
    return pitch;
}

/* The pitch that more than half of the strided entries of two groups have, if there is one; any, or 0, if
 * not. */
static int64_t usual_pitch(const finder *f, const group *reads) {
    int64_t usual = 0;
    size_t votes = 0;
    for (const group *g = reads; g <= reads + 1; g++)
        for (size_t i = g->first; i < g->first + g->n; i++) {
            if (f->entries[i].rest == REST_RUN)
                continue;
            kiln_box box = box_in_space(f->h, &f->h->list.items[f->entries[i].access]);
            int64_t pitch = pitch_of(&box);
            if (pitch == 0)
                continue;
            usual = votes == 0 ? pitch : usual;
            votes = pitch == usual ? votes + 1 : votes - 1;
        }
    return usual;
}

/* Addresses of a box modulo `pitch`, as one span: levels that step by whole pitches change nothing. */
static span columns_of(const kiln_box *box, int64_t pitch) {
    int64_t reach = box->length, at = box->offset % pitch;
    for (int l = 0; l < KILN_BOX_LEVELS; l++)
        if (box->count[l] > 1 && box->stride[l] % pitch != 0)
            reach += (box->count[l] - 1) * box->stride[l];
    return at >= 0 && reach <= pitch - at ? (span){at, at + reach} : ANYTHING;
}

/* Columns for the entries of spaces that are large enough to have a tree. */
static bool find_columns(finder *f) {
    for (size_t s = 0; s < f->h->n_spaces; s++) {
        const group *reads = &f->groups[2 * s];
        int64_t pitch = reads[0].leaves + reads[1].leaves > 0 ? usual_pitch(f, reads) : 0;
        if (pitch == 0)
            continue;
        if (f->columns == NULL) {
            f->columns = KILN_NEW_RAW(f->a, span, f->n_entries);
            for (size_t i = 0; f->columns != NULL && i < f->n_entries; i++)
                f->columns[i] = ANYTHING;
        }
        if (f->columns == NULL)
            return false;
        for (const group *g = reads; g <= reads + 1; g++)
            for (size_t i = g->first; i < g->first + g->n; i++) {
                kiln_box box = box_in_space(f->h, &f->h->list.items[f->entries[i].access]);
                f->columns[i] = columns_of(&box, pitch);
            }
    }
    return true;
}

/* Puts the entries of a group in the order of `lo`, which nearly all are in already. `keys` has room for twice as many. */
static void sort_group(finder *f, const group *g, kiln__key *keys) {
    entry *entries = f->entries + g->first;
    bool sorted = true;
    for (uint32_t i = 1; i < g->n; i++)
        sorted = sorted && entries[i - 1].lo <= entries[i].lo;
    if (sorted)
        return;
    for (uint32_t i = 0; i < g->n; i++)
        keys[i] = (kiln__key){entries[i].lo, entries[i].access};
    kiln__sort_keys(keys, keys + g->n, g->n);
    for (uint32_t i = 0; i < g->n; i++)
        entries[i].access = keys[i].index;
}

/* Fills the groups with what is in written spaces, each in the order of lowest bytes, nothing active yet. */
static bool fill_groups(finder *f) {
    const kiln_access_list *list = &f->h->list;
    size_t n_groups = 2 * (size_t)f->h->n_spaces, n_keys = 2 * (size_t)f->largest;
    kiln__key *keys = KILN_NEW_RAW(f->a, kiln__key, n_keys);
    if (keys == NULL)
        return false;
    for (size_t i = 0; i < list->count; i++) {
        const kiln__access *a = &list->items[i];
        f->entry_of[i] = NO_ENTRY;
        if (is_opaque(a))
            continue;
        group *g = &f->groups[group_of(f, a)];
        if (g->room == 0)
            continue;
        entry *e = &f->entries[g->first + g->n++];
        hull_of(f->h, a, &e->lo, &e->hi);
        e->access = (uint32_t)i;
    }
    for (size_t i = 0; i < n_groups; i++)
        if (f->groups[i].n > 1)
            sort_group(f, &f->groups[i], keys);
    for (uint32_t i = 0; i < f->n_entries; i++) {
        uint32_t access = f->entries[i].access,
                 rest = is_run(f->h, &list->items[access]) ? REST_RUN : REST_OWN;
        f->entry_of[access] = i;
        f->entries[i] = (entry){NOTHING.lo, NOTHING.hi, access, rest};
    }
    KILN_DELETE(f->a, keys, kiln__key, n_keys);
    return true;
}

static bool prepare(finder *f) {
    f->groups = KILN_NEW(f->a, group, 2 * (size_t)f->h->n_spaces);
    f->entry_of = KILN_NEW_RAW(f->a, uint32_t, f->h->list.count);
    f->met = KILN_NEW(f->a, uint32_t, f->h->n_nodes);
    if (f->groups == NULL || f->entry_of == NULL || f->met == NULL)
        return false;
    size_t n_reads = lay_out_groups(f);
    for (uint32_t node = 0; node < f->h->n_nodes; node++) {
        uint32_t n = f->h->first_access[node + 1] - f->h->first_access[node];
        f->n_probes = n > f->n_probes ? n : f->n_probes;
    }
    f->probes = KILN_NEW_RAW(f->a, probe, f->n_probes);
    f->entries = KILN_NEW_RAW(f->a, entry, f->n_entries);
    f->tree = KILN_NEW_RAW(f->a, extent, f->n_tree);
    /* Most reads have one hazard, and few writes have more. */
    if (f->probes == NULL || f->entries == NULL || f->tree == NULL || !KILN_GROW(f->a, *f->h, n_reads))
        return false;
    for (size_t i = 0; i < f->n_tree; i++)
        f->tree[i] = (extent){NOTHING, NOTHING};
    return fill_groups(f) && find_columns(f);
}

/* ---- the sweep -------------------------------------------------------------------------------------- */

static void add_hazard(finder *f, kiln__hazard hazard) {
    kiln__hazards *h = f->h;
    if (f->status != KILN_OK || f->met[hazard.from] == hazard.to + 1)
        return;
    f->met[hazard.from] = hazard.to + 1;
    if (h->count >= UINT32_MAX - 1)
        f->status = KILN_ERROR_LIMIT;
    else if (!KILN_GROW(f->a, *h, h->count + 1))
        f->status = KILN_ERROR_MEMORY;
    else
        h->items[h->count++] = hazard;
}

static kiln_box rest_of(const finder *f, const entry *e) {
    if (e->rest == REST_RUN)
        return (kiln_box){e->lo, e->hi - e->lo, {1, 1, 1}, {0, 0, 0}};
    if (e->rest >= REST_KEPT)
        return f->rests.items[e->rest - REST_KEPT];
    return box_in_space(f->h, &f->h->list.items[e->access]);
}

/* Makes `box` what is left of an entry. */
static void set_rest(finder *f, entry *e, const kiln_box *box) {
    bool keep = !kiln__box_dense(box);
    if (e->rest >= REST_KEPT && !keep) {
        f->rests.items[e->rest - REST_KEPT].offset = f->spare;
        f->spare = e->rest - REST_KEPT + 1;
    } else if (e->rest < REST_KEPT && keep) {
        if (f->spare == 0 && !KILN_GROW(f->a, f->rests, f->rests.count + 1)) {
            f->status = KILN_ERROR_MEMORY;
            return;
        }
        uint32_t at = f->spare != 0 ? f->spare - 1 : (uint32_t)f->rests.count++;
        f->spare = f->spare != 0 ? (uint32_t)f->rests.items[at].offset : 0;
        e->rest = REST_KEPT + at;
    }
    if (keep)
        f->rests.items[e->rest - REST_KEPT] = *box;
    else
        e->rest = REST_RUN;
    (void)kiln__box_hull(box, &e->lo, &e->hi); /* fits: it is part of one that did */
    if (e->lo == e->hi) {
        e->lo = NOTHING.lo;
        e->hi = NOTHING.hi;
    }
}

static void retire(finder *f, const probe *p, entry *e) {
    if (p->run && p->lo <= e->lo && p->hi >= e->hi) {
        kiln_box nothing = {e->lo, 0, {1, 1, 1}, {0, 0, 0}};
        set_rest(f, e, &nothing);
    } else if (p->run && e->rest == REST_RUN) {
        if (p->lo <= e->lo)
            e->lo = p->hi;
        else if (p->hi >= e->hi)
            e->hi = p->lo;
    } else {
        kiln_box rest = rest_of(f, e), box = box_in_space(f->h, p->access);
        if (kiln__box_trim(&rest, &box))
            set_rest(f, e, &rest);
    }
}

static bool meets(const finder *f, const probe *p, const entry *e) {
    if (p->run && e->rest == REST_RUN)
        return true; /* their hulls do */
    kiln_box rest = rest_of(f, e), box = box_in_space(f->h, p->access);
    return kiln__box_overlap(&rest, &box);
}

static span columns_at(const finder *f, size_t i) {
    return f->columns != NULL ? f->columns[i] : ANYTHING;
}

static bool spans_meet(span a, span b) {
    return a.lo < b.hi && a.hi > b.lo;
}

static span join(span a, span b) {
    return (span){a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
}

static extent join_extents(extent a, extent b) {
    return (extent){join(a.bytes, b.bytes), join(a.columns, b.columns)};
}

static extent with_entry(const finder *f, extent all, size_t i) {
    const entry *e = &f->entries[i];
    return e->lo > e->hi ? all : join_extents(all, (extent){{e->lo, e->hi}, columns_at(f, i)});
}

static extent extent_of(const finder *f, size_t first, size_t last) {
    extent all = {NOTHING, NOTHING};
    for (size_t i = first; i < last; i++)
        all = with_entry(f, all, i);
    return all;
}

/* Entries first … last-1, in or out of a tree. */
static void scan(finder *f, const probe *p, size_t first, size_t last) {
    for (size_t i = first; i < last; i++) {
        entry *e = &f->entries[i];
        if (e->lo < p->hi && e->hi > p->lo && spans_meet(columns_at(f, i), p->columns) && meets(f, p, e)) {
            const kiln__access *a = &f->h->list.items[e->access];
            add_hazard(f, (kiln__hazard){a->node, p->access->node, e->access, p->index,
                                         kind_of(a->mode, p->access->mode)});
            if (p->retires)
                retire(f, p, e);
        }
    }
}

static size_t block_end(const group *g, size_t block) {
    size_t end = (block + 1) * BLOCK;
    return g->first + (end < g->n ? end : g->n);
}

static void descend(finder *f, const group *g, size_t node, const probe *p) {
    extent *tree = f->tree + g->tree;
    if (!spans_meet(tree[node].bytes, (span){p->lo, p->hi}) || !spans_meet(tree[node].columns, p->columns))
        return;
    if (node >= g->leaves) {
        size_t block = node - g->leaves, first = g->first + block * BLOCK;
        scan(f, p, first, block_end(g, block));
        tree[node] = extent_of(f, first, block_end(g, block));
        return;
    }
    descend(f, g, 2 * node, p);
    descend(f, g, 2 * node + 1, p);
    tree[node] = join_extents(tree[2 * node], tree[2 * node + 1]);
}

static void query(finder *f, const group *g, const probe *p) {
    if (g->leaves > 0)
        descend(f, g, 1, p);
    else
        scan(f, p, g->first, g->first + g->n);
}

/* What is left of entry `at` of a group, all of it or nothing. */
static void set_active(finder *f, const group *g, uint32_t at, int64_t lo, int64_t hi) {
    f->entries[at].lo = lo;
    f->entries[at].hi = hi;
    if (g->leaves == 0)
        return;
    size_t block = (at - g->first) / BLOCK, node = g->leaves + block;
    extent *tree = f->tree + g->tree;
    tree[node] = extent_of(f, g->first + block * BLOCK, block_end(g, block));
    while (node /= 2)
        tree[node] = join_extents(tree[2 * node], tree[2 * node + 1]);
}

static void set_probe(const finder *f, uint32_t index, probe *p) {
    const kiln__access *a = &f->h->list.items[index];
    p->access = a;
    p->reads = &f->groups[2 * (size_t)f->h->places[a->storage].space];
    p->index = index;
    p->entry = f->entry_of[index];
    hull_of(f->h, a, &p->lo, &p->hi);
    p->columns = columns_at(f, p->entry);
    p->run = f->entries[p->entry].rest == REST_RUN;
}

/* Does the node that makes this read write the same bytes itself? Looks at a few accesses only. */
static bool own_write_covers(const finder *f, uint32_t read, uint32_t first, uint32_t end) {
    const kiln__access *items = f->h->list.items;
    for (uint32_t i = first; i < end && i < first + 16; i++) {
        if (items[i].storage != items[read].storage || !(items[i].mode & KILN_WRITE))
            continue;
        kiln_box written = box_in_space(f->h, &items[i]), box = box_in_space(f->h, &items[read]);
        if (kiln__box_covers(&written, &box))
            return true;
    }
    return false;
}

static void sweep_node(finder *f, uint32_t node) {
    uint32_t first = f->h->first_access[node], end = f->h->first_access[node + 1], n = 0;
    for (uint32_t i = first; i < end; i++)
        if (f->entry_of[i] != NO_ENTRY)
            set_probe(f, i, &f->probes[n++]);
    /* RAW, then WAW, then WAR: the first hazard between two nodes is the one recorded. */
    for (int pass = KILN__RAW; pass <= KILN__WAR; pass++) {
        for (uint32_t i = 0; i < n; i++) {
            probe *p = &f->probes[i];
            if (!(p->access->mode & (pass == KILN__RAW ? KILN_READ : KILN_WRITE)))
                continue;
            p->retires = pass != KILN__RAW;
            query(f, pass == KILN__WAR ? p->reads : p->reads + 1, p);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        const probe *p = &f->probes[i];
        bool writes = p->access->mode & KILN_WRITE;
        if (writes || !own_write_covers(f, p->index, first, end))
            set_active(f, p->reads + writes, p->entry, p->lo, p->hi);
    }
}

/* The access of a node to show in a hazard with an opaque one: its first write, else its first. */
static uint32_t shown_access(const finder *f, uint32_t node) {
    uint32_t first = f->h->first_access[node], end = f->h->first_access[node + 1];
    for (uint32_t i = first; i < end; i++)
        if (f->h->list.items[i].mode & KILN_WRITE)
            return i;
    return first;
}

static void add_opaque(finder *f, uint32_t from, uint32_t to) {
    uint32_t a = shown_access(f, from), b = f->h->first_access[to];
    add_hazard(f,
               (kiln__hazard){from, to, a, b, kind_of(f->h->list.items[a].mode, f->h->list.items[b].mode)});
}

static void sweep(finder *f) {
    kiln__hazards *h = f->h;
    f->opaque = NO_NODE;
    for (uint32_t node = 0; node < h->n_nodes && f->status == KILN_OK; node++) {
        uint32_t first = h->first_access[node], end = h->first_access[node + 1];
        if (first < end && f->opaque != NO_NODE)
            add_opaque(f, f->opaque, node);
        if (first < end && is_opaque(&h->list.items[first])) {
            /* Everything since the last opaque node waits here, and is then implied by it. */
            for (uint32_t i = f->opaque == NO_NODE ? 0 : f->opaque + 1; i < node; i++) {
                if (h->first_access[i] < h->first_access[i + 1])
                    add_opaque(f, i, node);
                for (uint32_t k = h->first_access[i]; k < h->first_access[i + 1]; k++)
                    if (f->entry_of[k] != NO_ENTRY)
                        set_active(f, &f->groups[group_of(f, &h->list.items[k])], f->entry_of[k], NOTHING.lo,
                                   NOTHING.hi);
            }
            f->opaque = node;
        } else {
            sweep_node(f, node);
        }
        h->first_hazard[node + 1] = (uint32_t)h->count;
    }
}

kiln_status kiln__hazards_find(const kiln_graph *graph, const kiln_allocator *allocator,
                               const kiln__watched *watched, kiln__hazards *out, kiln_error *error) {
    *out = (kiln__hazards){.allocator = kiln__allocator_or_default(allocator)};
    kiln_status status = collect(graph, out, watched, error);
    if (status == KILN_OK)
        status = find_spaces(graph, out, error);
    if (status == KILN_OK) {
        finder f = {.a = &out->allocator, .h = out};
        if (prepare(&f))
            sweep(&f);
        else
            f.status = KILN_ERROR_MEMORY;
        if (f.status != KILN_OK)
            status = kiln_error_set(error, f.status, "finding the hazards of %u nodes, %zu accesses: %s",
                                    out->n_nodes, out->list.count, kiln_status_text(f.status));
        KILN_DELETE(f.a, f.groups, group, 2 * (size_t)out->n_spaces);
        KILN_DELETE(f.a, f.entry_of, uint32_t, out->list.count);
        KILN_DELETE(f.a, f.met, uint32_t, out->n_nodes);
        KILN_DELETE(f.a, f.probes, probe, f.n_probes);
        KILN_DELETE(f.a, f.entries, entry, f.n_entries);
        KILN_DELETE(f.a, f.columns, span, f.n_entries);
        KILN_ARRAY_FREE(f.a, f.rests);
        KILN_DELETE(f.a, f.tree, extent, f.n_tree);
    }
    if (status != KILN_OK)
        kiln__hazards_free(out);
    return status;
}

void kiln__hazards_free(kiln__hazards *h) {
    const kiln_allocator a = h->allocator;
    if (a.alloc == NULL)
        return;
    kiln__access_free(&h->list);
    KILN_ARRAY_FREE(&a, *h);
    KILN_DELETE(&a, h->first_access, uint32_t, (size_t)h->n_nodes + 1);
    KILN_DELETE(&a, h->first_hazard, uint32_t, (size_t)h->n_nodes + 1);
    KILN_DELETE(&a, h->places, kiln__space_place, h->n_storages);
    *h = (kiln__hazards){0};
}
