/* The working structure of rewriting. See rewriter.h.
 *
 * Why fusing two nodes is safe when kiln__rewriter_meet says yes. Let P come before C. A program means its
 * nodes one after the other, and two neighbours may change places when no byte that one writes is read or
 * written by the other. `clear` shows that for P and every live node between the two (then P may be moved
 * down until it stands right before C) or for C and every node between (then C may be moved up until it
 * stands right behind P). Neighbours P, C are one node when every byte that passes from one to the other
 * passes through the link: the pair check. Nodes with undeclared accesses can be passed by no one. Dead nodes
 * have no touches.
 *
 * Cost: a candidate looks at the touches that lie between its two nodes in the spaces of the moved one, at
 * most LOOK of them; so all of fusion is linear in the nodes.
 */
#include "rewriter.h"

#include "box.h"
#include "sort.h"

enum {
    LOOK = 256,     /* touches a candidate may look at */
    COPIES_MAX = 16 /* copies of tensors of one storage that are looked through */
};

/* ---- spaces ----------------------------------------------------------------------------------------- */

/* Storages whose memory is known and overlaps, directly or by others between them, become one space. */
static void share_spaces(kiln__rewriter *rw, const kiln__key *keys, size_t n) {
    uint32_t space = 0;
    int64_t begin = 0, end = 0, past;
    for (size_t i = 0; i < n; i++) {
        const kiln__storage *s = &rw->g->storages.items[keys[i].index];
        if (!kiln__add(keys[i].key, s->size, &past))
            past = INT64_MAX;
        if (i == 0 || keys[i].key >= end) {
            space = keys[i].index;
            begin = keys[i].key;
            end = past;
            continue;
        }
        end = past > end ? past : end;
        rw->homes.items[keys[i].index].space = space;
        rw->homes.items[keys[i].index].base = keys[i].key - begin;
    }
}

static bool find_spaces(kiln__rewriter *rw) {
    const kiln_graph *g = rw->g;
    size_t n = 0, at = 0;
    for (size_t i = 1; i < g->storages.count; i++)
        n += g->storages.items[i].data != NULL && g->storages.items[i].size > 0;
    if (n < 2)
        return true;
    kiln__key *keys = KILN_NEW_RAW(&rw->allocator, kiln__key, 2 * n);
    if (keys == NULL)
        return false;
    for (size_t i = 1; i < g->storages.count; i++)
        if (g->storages.items[i].data != NULL && g->storages.items[i].size > 0)
            keys[at++] = (kiln__key){(int64_t)(uintptr_t)g->storages.items[i].data, (uint32_t)i};
    kiln__sort_keys(keys, keys + n, n);
    share_spaces(rw, keys, n);
    KILN_DELETE(&rw->allocator, keys, kiln__key, 2 * n);
    return true;
}

/* Storages made since: each is a space of its own. */
static bool add_homes(kiln__rewriter *rw) {
    size_t n = rw->g->storages.count;
    if (!KILN_GROW(&rw->allocator, rw->homes, n))
        return false;
    for (; rw->homes.count < n; rw->homes.count++)
        rw->homes.items[rw->homes.count] = (kiln__home){.space = (uint32_t)rw->homes.count};
    return true;
}

static kiln__home *space_of(const kiln__rewriter *rw, uint32_t tensor) {
    uint32_t storage = rw->g->tensors.items[tensor].storage;
    return &rw->homes.items[rw->homes.items[storage].space];
}

/* ---- life ------------------------------------------------------------------------------------------- */

kiln_status kiln__rewriter_init(kiln__rewriter *rw, kiln_graph *g, size_t n_nodes,
                                const kiln__rewrite_options *options, kiln__rewrites *out) {
    memset(rw, 0, sizeof *rw);
    rw->g = g;
    rw->allocator = out->allocator;
    rw->out = out;
    rw->mine.graph = rw->theirs.graph = g;
    rw->mine.allocator = rw->theirs.allocator = rw->allocator;
    if (!KILN_GROW(&g->allocator, g->nodes, n_nodes + 1) ||
        !KILN_GROW(&rw->allocator, rw->work, n_nodes + 1) ||
        !KILN_GROW(&rw->allocator, rw->touches, g->operands.count + g->operands.count / 8 + 1) ||
        !KILN_GROW(&rw->allocator, rw->copies, 1) || !add_homes(rw) || !find_spaces(rw))
        return KILN_ERROR_MEMORY;
    rw->touches.items[0] = (kiln__touch){0};
    rw->copies.items[0] = (kiln__copy){0};
    rw->touches.count = rw->copies.count = 1;
    for (size_t i = 1; options->keep != NULL && i < g->tensors.count; i++)
        if (options->keep[i])
            rw->homes.items[g->tensors.items[i].storage].kept = true;
    return KILN_OK;
}

void kiln__rewriter_deinit(kiln__rewriter *rw) {
    KILN_ARRAY_FREE(&rw->allocator, rw->work);
    KILN_ARRAY_FREE(&rw->allocator, rw->touches);
    KILN_ARRAY_FREE(&rw->allocator, rw->homes);
    KILN_ARRAY_FREE(&rw->allocator, rw->copies);
    kiln__access_free(&rw->mine);
    kiln__access_free(&rw->theirs);
}

/* ---- touches ---------------------------------------------------------------------------------------- */

/* Room for the touches of the operands of a node; 0 when memory is out. */
static uint32_t new_touches(kiln__rewriter *rw, const kiln__node *n, uint32_t node) {
    size_t count = (size_t)n->n_in + n->n_out, first = rw->touches.count;
    if (first + count >= UINT32_MAX || !KILN_GROW(&rw->allocator, rw->touches, first + count))
        return 0;
    bool usual = n->op->accesses == kiln_access_operands; /* else only the op knows */
    for (size_t i = 0; i < count; i++)
        rw->touches.items[first + i] = (kiln__touch){node, 0, 0, usual && i < n->n_in};
    rw->touches.count += count;
    return (uint32_t)first;
}

/* Puts touch t into its space's list right behind touch `behind`; 0: at the front. */
static void insert_touch(kiln__rewriter *rw, kiln__home *space, uint32_t t, uint32_t behind) {
    kiln__touch *items = rw->touches.items;
    uint32_t next = behind ? items[behind].next : space->first;
    items[t].prev = behind;
    items[t].next = next;
    *(behind ? &items[behind].next : &space->first) = t;
    *(next ? &items[next].prev : &space->last) = t;
}

static void remove_touch(kiln__rewriter *rw, kiln__home *space, uint32_t t) {
    kiln__touch *items = rw->touches.items, it = items[t];
    *(it.prev ? &items[it.prev].next : &space->first) = it.next;
    *(it.next ? &items[it.next].prev : &space->last) = it.prev;
}

static void remove_touches(kiln__rewriter *rw, uint32_t node) {
    const kiln__node *n = &rw->g->nodes.items[node];
    const uint32_t *ids = kiln__node_in(rw->g, n);
    for (uint32_t i = 0; i < n->n_in + n->n_out; i++)
        if (ids[i] != 0)
            remove_touch(rw, space_of(rw, ids[i]), rw->work.items[node].touch + i);
}

/* The touch behind which one of node `at` in the space of `tensor` goes: found from where the two nodes that
 * are being replaced touch that space, else from the end. */
static uint32_t touch_before(const kiln__rewriter *rw, const kiln__link *link, uint32_t at, uint32_t tensor) {
    const kiln__home *space = space_of(rw, tensor);
    const kiln__touch *items = rw->touches.items;
    uint32_t t = space->last, nodes[2] = {link->from, link->to};
    for (uint32_t k = 0; k < 2; k++) {
        const kiln__node *n = &rw->g->nodes.items[nodes[k]];
        const uint32_t *ids = kiln__node_in(rw->g, n);
        for (uint32_t i = 0; i < n->n_in + n->n_out; i++)
            if (ids[i] != 0 && space_of(rw, ids[i]) == space)
                t = rw->work.items[nodes[k]].touch + i;
    }
    while (t != 0 && items[t].node > at)
        t = items[t].prev;
    while (t != 0 && items[t].next != 0 && items[items[t].next].node <= at)
        t = items[t].next;
    return t;
}

/* ---- accesses --------------------------------------------------------------------------------------- */

static kiln_status collect(kiln__rewriter *rw, kiln_access_list *list, uint32_t node) {
    kiln__access_clear(list);
    return kiln__access_collect(list, node, &rw->error);
}

/* Of one in `mine` and one in `theirs`. */
static bool conflict(const kiln__rewriter *rw, const kiln__access *a, const kiln__access *b) {
    if (!((a->mode | b->mode) & KILN_WRITE))
        return false;
    if (a->storage == 0 || b->storage == 0)
        return true; /* all memory */
    const kiln__home *x = &rw->homes.items[a->storage], *y = &rw->homes.items[b->storage];
    if (x->space != y->space)
        return false;
    kiln_box p = kiln__access_box(&rw->mine, a), q = kiln__access_box(&rw->theirs, b);
    p.offset += x->base;
    q.offset += y->base;
    return kiln__box_overlap(&p, &q);
}

static bool lists_conflict(const kiln__rewriter *rw) {
    for (size_t i = 0; i < rw->mine.count; i++)
        for (size_t j = 0; j < rw->theirs.count; j++)
            if (conflict(rw, &rw->mine.items[i], &rw->theirs.items[j]))
                return true;
    return false;
}

/* Nodes a < i ≤ b with undeclared accesses. */
static uint32_t opaque_between(const kiln__rewriter *rw, uint32_t a, uint32_t b) {
    return rw->work.items[b].opaque - rw->work.items[a].opaque;
}

/* ---- the end of the list ---------------------------------------------------------------------------- */

/* Registers the last node of the program. */
static kiln_status enlist(kiln__rewriter *rw) {
    uint32_t node = (uint32_t)rw->work.count;
    const kiln__node *n = &rw->g->nodes.items[node];
    const uint32_t *ids = kiln__node_in(rw->g, n);
    uint32_t first = new_touches(rw, n, node);
    if (first == 0 || !add_homes(rw) || !KILN_GROW(&rw->allocator, rw->work, rw->work.count + 1))
        return KILN_ERROR_MEMORY;
    for (uint32_t i = 0; i < n->n_in + n->n_out; i++)
        if (ids[i] != 0) {
            kiln__home *space = space_of(rw, ids[i]);
            insert_touch(rw, space, first + i, space->last);
        }
    uint32_t opaque = (node ? rw->work.items[node - 1].opaque : 0) + (n->op->accesses == NULL);
    rw->work.items[rw->work.count++] = (kiln__work){first, 0, 0, opaque};
    return KILN_OK;
}

static void set_producers(kiln_graph *g, const kiln__node *n, uint32_t producer) {
    for (uint32_t j = 0; j < n->n_out; j++)
        if (kiln__node_out(g, n)[j] != 0)
            g->producers.items[kiln__node_out(g, n)[j]] = producer;
}

kiln_status kiln__rewriter_push(kiln__rewriter *rw, const kiln__node *node) {
    kiln_graph *g = rw->g;
    if (g->nodes.count >= UINT32_MAX - 1 || !KILN_GROW(&g->allocator, g->nodes, g->nodes.count + 1))
        return KILN_ERROR_MEMORY;
    g->nodes.items[g->nodes.count++] = *node;
    set_producers(g, node, (uint32_t)g->nodes.count);
    return enlist(rw);
}

kiln_status kiln__rewriter_push_with(kiln__rewriter *rw, const kiln__node *node, const uint32_t *in,
                                     uint32_t n_in) {
    kiln_graph *g = rw->g;
    uint32_t out[8];
    uint64_t attrs[32]; /* emitting may move the graph's own */
    memcpy(out, kiln__node_out(g, node), node->n_out * sizeof *out);
    if (node->op->attrs_size > 0)
        memcpy(attrs, kiln__node_attrs(g, node), node->op->attrs_size);
    set_producers(g, node, 0);
    kiln_status status = kiln__node_emit(g, node->op, kiln__text(g, node->name), in, n_in, out, node->n_out,
                                         node->op->attrs_size > 0 ? attrs : NULL);
    if (status != KILN_OK)
        return status;
    g->nodes.items[g->nodes.count - 1].origin = node->origin;
    return enlist(rw);
}

/* ---- copies ----------------------------------------------------------------------------------------- */

/* Did no node from `copy->checked` on write the bytes of its tensor? Those seen are not looked at again. */
static kiln_status still_holds(kiln__rewriter *rw, kiln__copy *copy, bool *holds) {
    uint32_t end = (uint32_t)rw->work.count, met = UINT32_MAX;
    const kiln__tensor *t = &rw->g->tensors.items[copy->of];
    *holds = false;
    if (end > copy->checked && opaque_between(rw, copy->checked - 1, end - 1) > 0)
        return KILN_OK;
    const kiln_box box = kiln__tensor_box(rw->g, t, NULL);
    kiln__access_clear(&rw->mine);
    if (!kiln__access_push(&rw->mine, 0, 0, t->storage, KILN_READ, &box))
        return KILN_ERROR_MEMORY;
    for (uint32_t i = space_of(rw, copy->of)->last; i != 0; i = rw->touches.items[i].prev) {
        uint32_t node = rw->touches.items[i].node;
        if (node < copy->checked)
            break;
        if (node == met || rw->touches.items[i].reads)
            continue;
        met = node;
        kiln_status status = collect(rw, &rw->theirs, node);
        if (status != KILN_OK)
            return status;
        if (lists_conflict(rw))
            return KILN_OK;
    }
    copy->checked = end;
    *holds = true;
    return KILN_OK;
}

static kiln_status find_copy(kiln__rewriter *rw, const kiln_op *op, uint32_t of, int64_t key, uint32_t *out,
                             bool *found) {
    const kiln_graph *g = rw->g;
    const kiln__tensor *t = &g->tensors.items[of];
    *found = false;
    uint32_t at = rw->homes.items[t->storage].copies;
    for (int n = 0; at != 0 && n < COPIES_MAX; n++, at = rw->copies.items[at].next) {
        kiln__copy *c = &rw->copies.items[at];
        const kiln__tensor *u = &g->tensors.items[c->of];
        if (c->op != op || c->key != key || u->offset != t->offset ||
            !kiln__desc_equal(kiln__desc_of(g, u), kiln__desc_of(g, t)))
            continue;
        memcpy(out, c->out, sizeof c->out);
        return still_holds(rw, c, found); /* older ones are no better */
    }
    return KILN_OK;
}

/* Adds a node whose outputs are fresh tensors. */
static kiln_status add_node(kiln__rewriter *rw, const kiln_op *op, uint32_t in, const void *attrs,
                            uint32_t out[2]) {
    kiln_graph *g = rw->g;
    kiln_desc descs[2];
    int32_t alias[2];
    uint32_t n_out;
    kiln_status status = kiln__node_infer(g, op, op->name, &in, 1, attrs, descs, alias, &n_out);
    if (status != KILN_OK)
        return status;
    for (uint32_t j = 0; j < n_out; j++) {
        int64_t bytes;
        status = kiln__desc_dense(g, &descs[j], &bytes, NULL);
        uint32_t storage = status == KILN_OK ? kiln__storage_new(g, KILN_STORAGE_ARENA, NULL, bytes) : 0;
        out[j] = storage ? kiln__tensor_new(g, storage, 0, &descs[j]) : 0;
        if (out[j] == 0)
            return g->error.status;
    }
    if ((status = kiln__node_emit(g, op, NULL, &in, 1, out, n_out, attrs)) != KILN_OK)
        return status;
    g->nodes.items[g->nodes.count - 1].origin = 0;
    return enlist(rw);
}

kiln_status kiln__rewriter_derive(kiln__rewriter *rw, const kiln_op *op, uint32_t of, const void *attrs,
                                  int64_t key, uint32_t out[2]) {
    bool found;
    out[0] = out[1] = 0;
    kiln_status status = find_copy(rw, op, of, key, out, &found);
    if (status != KILN_OK || found)
        return status;
    out[0] = out[1] = 0;
    if (!KILN_GROW(&rw->allocator, rw->copies, rw->copies.count + 1))
        return KILN_ERROR_MEMORY;
    if ((status = add_node(rw, op, of, attrs, out)) != KILN_OK)
        return status;
    kiln__home *home = &rw->homes.items[rw->g->tensors.items[of].storage];
    rw->copies.items[rw->copies.count] =
        (kiln__copy){of, home->copies, op, key, {out[0], out[1]}, (uint32_t)rw->work.count};
    home->copies = (uint32_t)rw->copies.count++;
    return KILN_OK;
}

/* ---- questions of rules ----------------------------------------------------------------------------- */

bool kiln__same_dims(const kiln_desc *a, const kiln_desc *b) {
    bool same = a->ndim == b->ndim;
    for (uint32_t i = 0; same && i < a->ndim; i++)
        same = a->dims[i].n == b->dims[i].n && a->dims[i].slot == b->dims[i].slot;
    return same;
}

bool kiln__rewriter_link(const kiln__rewriter *rw, uint32_t to, uint32_t in, const kiln_op *op,
                         kiln__link *link) {
    const kiln_graph *g = rw->g;
    uint32_t id = kiln__rewriter_in(rw, to, in);
    if (id == 0)
        return false;
    const kiln__tensor *t = &g->tensors.items[id];
    /* A view remembers no parent: what first touches a storage is what made it, or there is no link. */
    uint32_t producer = g->producers.items[id];
    uint32_t from = producer ? producer - 1 : rw->touches.items[space_of(rw, id)->first].node;
    const kiln__node *n = &g->nodes.items[from];
    if (from >= to || n->op != op)
        return false;
    for (uint32_t j = 0; j < n->n_out; j++) {
        uint32_t made = kiln__node_out(g, n)[j];
        const kiln__tensor *u = &g->tensors.items[made];
        bool same_bytes = made != 0 && u->storage == t->storage && u->offset == t->offset &&
                          u->bytes == t->bytes && kiln__desc_of(g, u)->dtype == kiln__desc_of(g, t)->dtype &&
                          kiln__desc_is_dense(g, kiln__desc_of(g, t)) &&
                          kiln__desc_is_dense(g, kiln__desc_of(g, u));
        if (made != id && !same_bytes)
            continue;
        *link = (kiln__link){from, j, to, in};
        return true;
    }
    return false;
}

bool kiln__rewriter_is_kept(const kiln__rewriter *rw, uint32_t id) {
    return rw->homes.items[rw->g->tensors.items[id].storage].kept;
}

bool kiln__rewriter_is_private(const kiln__rewriter *rw, const kiln__link *link) {
    const kiln_graph *g = rw->g;
    uint32_t id = kiln__rewriter_out(rw, link->from, link->out);
    const kiln__home *space = space_of(rw, id);
    if (g->storages.items[g->tensors.items[id].storage].kind != KILN_STORAGE_ARENA ||
        kiln__rewriter_is_kept(rw, id) || opaque_between(rw, link->from, (uint32_t)rw->work.count - 1) > 0)
        return false;
    uint32_t write = rw->work.items[link->from].touch + g->nodes.items[link->from].n_in + link->out;
    uint32_t read = rw->work.items[link->to].touch + link->in;
    return space->first == write && rw->touches.items[write].next == read && space->last == read;
}

static bool writes_operand(const kiln_access_list *list, uint32_t operand) {
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].operand == operand && (list->items[i].mode & KILN_WRITE))
            return true;
    return false;
}

/* Does no live node strictly between m and `to` conflict with m, whose accesses are in `mine`? */
static kiln_status clear(kiln__rewriter *rw, uint32_t m, uint32_t to, bool *ok) {
    const kiln__node *n = &rw->g->nodes.items[m];
    uint32_t total = n->n_in + n->n_out, left = LOOK;
    *ok = false;
    for (uint32_t i = 0; i < total; i++) {
        if (kiln__node_in(rw->g, n)[i] == 0)
            continue;
        bool writes = writes_operand(&rw->mine, i);
        uint32_t met = m, at = rw->work.items[m].touch + i;
        for (;;) {
            at = to > m ? rw->touches.items[at].next : rw->touches.items[at].prev;
            const kiln__touch *t = &rw->touches.items[at];
            if (at == 0 || (to > m ? t->node >= to : t->node <= to))
                break;
            if (left-- == 0)
                return KILN_OK;
            if (t->node == met || (t->reads && !writes))
                continue;
            met = t->node;
            kiln_status status = collect(rw, &rw->theirs, t->node);
            if (status != KILN_OK)
                return status;
            if (lists_conflict(rw))
                return KILN_OK;
        }
    }
    *ok = true;
    return KILN_OK;
}

kiln_status kiln__rewriter_meet(kiln__rewriter *rw, const kiln__link *link, bool *ok, uint32_t *at) {
    const kiln__node *from = &rw->g->nodes.items[link->from];
    uint32_t made = from->n_in + link->out;
    *ok = false;
    *at = link->to;
    if (opaque_between(rw, link->from, link->to) > 0)
        return KILN_OK;
    kiln_status status = collect(rw, &rw->mine, link->from);
    if (status == KILN_OK)
        status = collect(rw, &rw->theirs, link->to);
    if (status != KILN_OK)
        return status;
    for (size_t i = 0; i < rw->mine.count; i++)
        for (size_t j = 0; j < rw->theirs.count; j++) {
            const kiln__access *a = &rw->mine.items[i], *b = &rw->theirs.items[j];
            if (!(a->operand == made && b->operand == link->in) && conflict(rw, a, b))
                return KILN_OK;
        }
    if ((status = clear(rw, link->from, link->to, ok)) != KILN_OK || *ok)
        return status;
    *at = link->from;
    if ((status = collect(rw, &rw->mine, link->to)) != KILN_OK)
        return status;
    return clear(rw, link->to, link->from, ok);
}

uint32_t kiln__rewriter_view(kiln__rewriter *rw, uint32_t id, const kiln_desc *desc) {
    kiln__tensor t = rw->g->tensors.items[id];
    return kiln__tensor_new(rw->g, t.storage, t.offset, desc);
}

/* ---- replacing -------------------------------------------------------------------------------------- */

/* The nodes of the graph as built behind a working node, into `from`; returns how many. */
static uint32_t origins(const kiln__rewriter *rw, uint32_t node, uint32_t from[4]) {
    const kiln__work *w = &rw->work.items[node];
    if (w->item != 0) {
        const kiln__fusion *f = &rw->out->items[w->item - 1];
        memcpy(from, f->from, sizeof f->from);
        return f->n_from;
    }
    from[0] = rw->g->nodes.items[node].origin - 1;
    return rw->g->nodes.items[node].origin != 0;
}

/* One line of the log: both sets of origins, ascending. */
static kiln_status log_rule(kiln__rewriter *rw, const kiln__link *link, uint32_t at) {
    kiln__rewrites *out = rw->out;
    kiln__fusion item = {.rule = rw->rule, .node = at};
    uint32_t all[8];
    uint32_t n = origins(rw, link->from, all);
    n += origins(rw, link->to, all + n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = item.n_from;
        while (j > 0 && item.from[j - 1] > all[i])
            j--;
        if ((j > 0 && item.from[j - 1] == all[i]) || item.n_from == 4)
            continue;
        memmove(&item.from[j + 1], &item.from[j], (item.n_from - j) * sizeof *item.from);
        item.from[j] = all[i];
        item.n_from++;
    }
    if (out->count >= UINT32_MAX || !KILN_GROW(&out->allocator, *out, out->count + 1))
        return KILN_ERROR_MEMORY;
    out->items[out->count++] = item;
    return KILN_OK;
}

/* The name for the new node: of the first of its outputs that has one. */
static uint32_t name_of(const kiln_graph *g, const kiln__fused *fused) {
    for (uint32_t j = 0; j < fused->n_out; j++)
        if (g->tensors.items[fused->out[j]].name != 0)
            return g->tensors.items[fused->out[j]].name;
    return 0;
}

kiln_status kiln__rewriter_fuse(kiln__rewriter *rw, const kiln__link *link, uint32_t at,
                                const kiln__fused *fused) {
    kiln_graph *g = rw->g;
    uint32_t n_in = fused->n_in, nodes[2] = {link->from, link->to};
    while (n_in > 0 && fused->in[n_in - 1] == 0)
        n_in--;
    uint32_t name = name_of(g, fused);
    for (int k = 0; k < 2; k++)
        set_producers(g, &g->nodes.items[nodes[k]], 0);
    kiln_status status = kiln__node_emit(g, fused->op, kiln__text(g, name), fused->in, n_in, fused->out,
                                         fused->n_out, fused->attrs);
    if (status != KILN_OK)
        return status;
    kiln__node made = g->nodes.items[--g->nodes.count];
    made.name = name;
    uint32_t first = new_touches(rw, &made, at);
    if (first == 0 || log_rule(rw, link, at) != KILN_OK)
        return KILN_ERROR_MEMORY;
    for (uint32_t i = 0; i < made.n_in + made.n_out; i++) {
        uint32_t id = kiln__node_in(g, &made)[i];
        if (id != 0)
            insert_touch(rw, space_of(rw, id), first + i, touch_before(rw, link, at, id));
    }
    uint32_t a = g->nodes.items[link->from].origin, b = g->nodes.items[link->to].origin;
    made.origin = a > b ? a : b;
    for (int k = 0; k < 2; k++) {
        remove_touches(rw, nodes[k]);
        g->nodes.items[nodes[k]].op = NULL;
        rw->work.items[nodes[k]].moved = at;
    }
    g->nodes.items[at] = made;
    set_producers(g, &made, at + 1);
    rw->work.items[at].touch = first;
    rw->work.items[at].item = (uint32_t)rw->out->count;
    return KILN_OK;
}

kiln_status kiln__rewriter_finish(kiln__rewriter *rw) {
    kiln_graph *g = rw->g;
    kiln__rewrites *out = rw->out;
    size_t live = 0, n = g->nodes.count;
    for (size_t i = 0; i < n; i++)
        live += g->nodes.items[i].op != NULL;
    for (size_t k = 0; k < out->count; k++) /* a node made by one rule may have been replaced by another */
        while (g->nodes.items[out->items[k].node].op == NULL)
            out->items[k].node = rw->work.items[out->items[k].node].moved;
    uint32_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (g->nodes.items[i].op == NULL)
            continue;
        kiln__node *node = &g->nodes.items[to];
        *node = g->nodes.items[i];
        rw->work.items[i].moved = to++;
        set_producers(g, node, to);
    }
    g->nodes.count = live;
    for (size_t k = 0; k < out->count; k++)
        out->items[k].node = rw->work.items[out->items[k].node].moved;
    return KILN_OK;
}
