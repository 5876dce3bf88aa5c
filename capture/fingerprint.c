#include "fingerprint.h"
#include "hash.h"
#include "kiln_capture.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- hash ------------------------------------------------------------------------------------------- */

/* Words collect here, so that the hash is fed in large pieces. */
typedef struct sink {
    XXH3_state_t state;
    size_t n;
    uint64_t words[256];
} sink;

static void put(sink *s, uint64_t word) {
    if (s->n == sizeof s->words / sizeof *s->words) {
        XXH3_128bits_update(&s->state, s->words, sizeof s->words);
        s->n = 0;
    }
    s->words[s->n++] = word;
}

static void put_text(sink *s, const char *text) {
    size_t n = strlen(text);
    put(s, n);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, text + i, n - i < 8 ? n - i : 8);
        put(s, word);
    }
}

static uint64_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void put_attr(sink *s, const kiln_attr *a, const unsigned char *at) {
    switch (a->type) {
    case KILN_ATTR_BOOL:
    case KILN_ATTR_ENUM:
        put(s, *(const uint32_t *)(const void *)at);
        break;
    case KILN_ATTR_OFF: /* as JSON has it */
        put(s, *(const uint32_t *)(const void *)at == 0);
        break;
    case KILN_ATTR_I64:
        put(s, (uint64_t) * (const int64_t *)(const void *)at);
        break;
    case KILN_ATTR_F32:
        put(s, float_bits(*(const float *)(const void *)at));
        break;
    case KILN_ATTR_I64_SLOT: {
        const kiln_i64_value *v = (const void *)at;
        put(s, v->slot);
        put(s, v->slot ? 0 : (uint64_t)v->value);
        break;
    }
    case KILN_ATTR_F32_SLOT: {
        const kiln_f32_value *v = (const void *)at;
        put(s, v->slot);
        put(s, v->slot ? 0 : float_bits(v->value));
        break;
    }
    }
}

static void put_tensor(sink *s, const kiln_graph *g, const kiln__tensor *t) {
    const kiln_desc *desc = kiln__desc_of(g, t);
    put(s, (uint64_t)desc->dtype << 32 | desc->ndim);
    for (uint32_t i = 0; i < desc->ndim; i++) {
        put(s, (uint64_t)desc->dims[i].n);
        put(s, desc->dims[i].slot);
        put(s, (uint64_t)desc->strides[i]);
    }
    put(s, t->storage);
    put(s, (uint64_t)t->offset);
}

/* No name is as long as the first word says. */
static void put_terms(sink *s, const kiln__slot *slot) {
    put(s, UINT64_MAX - slot->n_terms);
    for (uint32_t i = 0; i < slot->n_terms; i++) {
        put(s, (uint64_t)slot->terms[i].n);
        put(s, slot->terms[i].slot);
    }
}

kiln_fingerprint kiln_graph_fingerprint(const kiln_graph *g) {
    sink s;
    XXH3_128bits_reset(&s.state);
    s.n = 0;
    put(&s, (uint64_t)g->slots.count << 32 | g->storages.count);
    put(&s, (uint64_t)g->tensors.count << 32 | g->nodes.count);
    for (size_t i = 1; i < g->slots.count; i++) {
        const kiln__slot *slot = &g->slots.items[i];
        put_text(&s, kiln__text(g, slot->name));
        put(&s, slot->is_float);
        put(&s, (uint64_t)slot->min);
        put(&s, (uint64_t)slot->max);
        put(&s, float_bits(slot->preset));
        if (slot->n_terms > 0)
            put_terms(&s, slot);
    }
    for (size_t i = 1; i < g->storages.count; i++) {
        const kiln__storage *storage = &g->storages.items[i];
        put(&s, (uint64_t)storage->kind);
        put(&s, (uint64_t)storage->size);
        if (storage->name != 0)
            put_text(&s, kiln__text(g, storage->name));
    }
    for (size_t i = 1; i < g->tensors.count; i++)
        put_tensor(&s, g, &g->tensors.items[i]);
    for (size_t i = 0; i < g->nodes.count; i++) {
        const kiln__node *n = &g->nodes.items[i];
        put_text(&s, n->op->name);
        put(&s, (uint64_t)n->n_in << 32 | n->n_out);
        for (uint32_t j = 0; j < n->n_in + n->n_out; j++)
            put(&s, g->operands.items[n->operands + j]);
        const unsigned char *attrs = kiln__node_attrs(g, n);
        for (uint32_t j = 0; j < n->op->n_attrs; j++)
            put_attr(&s, &n->op->attrs[j], attrs + n->op->attrs[j].offset);
    }
    XXH3_128bits_update(&s.state, s.words, s.n * sizeof *s.words);
    XXH128_hash_t h = XXH3_128bits_digest(&s.state);
    return (kiln_fingerprint){h.low64, h.high64};
}

/* ---- comparison ------------------------------------------------------------------------------------- */

static void differ(kiln__difference *d, size_t node, bool describe, const char *format, ...)
    KILN_PRINTF(4, 5);

static void differ(kiln__difference *d, size_t node, bool describe, const char *format, ...) {
    d->any = true;
    d->node = node;
    if (!describe)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(d->text, sizeof d->text, format, args);
    va_end(args);
}

static bool same_tensor(const kiln_graph *baked, const kiln_graph *now, uint32_t id) {
    const kiln__tensor *a = &baked->tensors.items[id], *b = &now->tensors.items[id];
    return a->storage == b->storage && a->offset == b->offset &&
           kiln__desc_equal(kiln__desc_of(baked, a), kiln__desc_of(now, b));
}

/* "attribute eps was 1e-05, is 1e-06" */
static bool same_attr(const kiln_graph *baked, const kiln_graph *now, const kiln_attr *a,
                      const unsigned char *x, const unsigned char *y, char *text, size_t size) {
    const char *of = a->name;
    switch (a->type) {
    case KILN_ATTR_BOOL:
    case KILN_ATTR_OFF:
    case KILN_ATTR_ENUM: {
        uint32_t u = *(const uint32_t *)(const void *)x, v = *(const uint32_t *)(const void *)y;
        if (u == v)
            return true;
        if (a->type == KILN_ATTR_ENUM)
            snprintf(text, size, "attribute %s was %s, is %s", of, a->names[u], a->names[v]);
        else if (a->type == KILN_ATTR_OFF)
            snprintf(text, size, "attribute %s was %u, is %u", of, u == 0, v == 0);
        else
            snprintf(text, size, "attribute %s was %u, is %u", of, u, v);
        return false;
    }
    case KILN_ATTR_I64_SLOT:
    case KILN_ATTR_I64: {
        const kiln_i64_value *p = (const void *)x, *q = (const void *)y;
        bool slots = a->type == KILN_ATTR_I64_SLOT;
        if (slots && (p->slot != 0 || q->slot != 0)) {
            if (p->slot == q->slot)
                return true;
            snprintf(text, size, "attribute %s followed %s, follows %s", of,
                     p->slot ? kiln__text(baked, baked->slots.items[p->slot].name) : "no slot",
                     q->slot ? kiln__text(now, now->slots.items[q->slot].name) : "no slot");
            return false;
        }
        int64_t u = *(const int64_t *)(const void *)x, v = *(const int64_t *)(const void *)y;
        if (u != v)
            snprintf(text, size, "attribute %s was %lld, is %lld", of, (long long)u, (long long)v);
        return u == v;
    }
    case KILN_ATTR_F32_SLOT:
    case KILN_ATTR_F32: {
        const kiln_f32_value *p = (const void *)x, *q = (const void *)y;
        bool slots = a->type == KILN_ATTR_F32_SLOT;
        if (slots && (p->slot != 0 || q->slot != 0)) {
            if (p->slot == q->slot)
                return true;
            snprintf(text, size, "attribute %s followed %s, follows %s", of,
                     p->slot ? kiln__text(baked, baked->slots.items[p->slot].name) : "no slot",
                     q->slot ? kiln__text(now, now->slots.items[q->slot].name) : "no slot");
            return false;
        }
        float u = *(const float *)(const void *)x, v = *(const float *)(const void *)y;
        bool same = float_bits(u) == float_bits(v); /* as bits: NaN is itself, 0 is not -0 */
        if (!same)
            snprintf(text, size, "attribute %s was %.9g, is %.9g", of, (double)u, (double)v);
        return same;
    }
    }
    return true;
}

/* One operand of two nodes that are otherwise equal. */
static bool same_operand(const kiln_graph *baked, const kiln_graph *now, const kiln__node *x,
                         const kiln__node *y, uint32_t i, char *text, size_t size) {
    uint32_t a = baked->operands.items[x->operands + i], b = now->operands.items[y->operands + i];
    if (a == b && (a == 0 || same_tensor(baked, now, a)))
        return true;
    const kiln_desc *was = kiln__desc_of(baked, &baked->tensors.items[a]),
                    *is = kiln__desc_of(now, &now->tensors.items[b]);
    bool in = i < x->n_in;
    uint32_t shown = in ? (i < x->op->n_in_max ? i : x->op->n_in_max - 1) : i - x->n_in;
    const char *name = in ? x->op->in_names[shown] : x->op->out_names[shown];
    const char *kind = in ? "operand" : "output";
    if (a == 0 || b == 0) {
        snprintf(text, size, "%s %s was %s, is %s", kind, name, a ? "given" : "absent",
                 b ? "given" : "absent");
    } else if (!kiln__desc_equal(was, is)) {
        char from[KILN__SHAPE_SIZE], to[KILN__SHAPE_SIZE];
        const char *f = kiln__shape_text(baked, was, from), *g = kiln__shape_text(now, is, to);
        const char *strides = strcmp(f, g) == 0 && was->dtype == is->dtype ? " with other strides" : "";
        snprintf(text, size, "%s %s was %s %s, is %s %s%s", kind, name, f, kiln_dtype_get(was->dtype)->name,
                 g, kiln_dtype_get(is->dtype)->name, strides);
    } else {
        char from[KILN__LABEL_SIZE], to[KILN__LABEL_SIZE];
        snprintf(text, size, "%s %s was '%s', is '%s'%s", kind, name, kiln__tensor_label(baked, a, from),
                 kiln__tensor_label(now, b, to), a == b ? " at another place in its storage" : "");
    }
    return false;
}

static bool same_node(const kiln_graph *baked, const kiln_graph *now, size_t i, char *text, size_t size) {
    const kiln__node *x = &baked->nodes.items[i], *y = &now->nodes.items[i];
    if (x->op != y->op) {
        snprintf(text, size, "op was %s, is %s%s", x->op->name, y->op->name,
                 strcmp(x->op->name, y->op->name) == 0 ? " (another descriptor of that name)" : "");
        return false;
    }
    if (x->n_in != y->n_in || x->n_out != y->n_out) {
        snprintf(text, size, "had %u operands and %u outputs, has %u and %u", x->n_in, x->n_out, y->n_in,
                 y->n_out);
        return false;
    }
    const unsigned char *p = kiln__node_attrs(baked, x), *q = kiln__node_attrs(now, y);
    for (uint32_t j = 0; j < x->op->n_attrs; j++)
        if (!same_attr(baked, now, &x->op->attrs[j], p + x->op->attrs[j].offset, q + x->op->attrs[j].offset,
                       text, size))
            return false;
    for (uint32_t j = 0; j < x->n_in + x->n_out; j++)
        if (!same_operand(baked, now, x, y, j, text, size))
            return false;
    return true;
}

static bool same_terms(const kiln__slot *x, const kiln__slot *y) {
    bool same = x->n_terms == y->n_terms;
    for (uint32_t i = 0; same && i < x->n_terms; i++)
        same = x->terms[i].n == y->terms[i].n && x->terms[i].slot == y->terms[i].slot;
    return same;
}

static const char *set_or_computed(const kiln_graph *g, uint32_t slot, char buffer[KILN__SHAPE_SIZE]) {
    return g->slots.items[slot].n_terms > 0 ? kiln__sum_text(g, slot, buffer) : "set";
}

static bool same_slots(const kiln_graph *baked, const kiln_graph *now, bool describe, kiln__difference *out) {
    for (size_t i = 1; i < baked->slots.count && i < now->slots.count; i++) {
        const kiln__slot *x = &baked->slots.items[i], *y = &now->slots.items[i];
        bool same_way = same_terms(x, y);
        if (same_way && strcmp(kiln__text(baked, x->name), kiln__text(now, y->name)) == 0 &&
            x->is_float == y->is_float && x->min == y->min && x->max == y->max &&
            float_bits(x->preset) == float_bits(y->preset))
            continue;
        char was[KILN__SHAPE_SIZE], is[KILN__SHAPE_SIZE];
        if (!same_way) {
            differ(out, 0, describe, "slot '%s' was '%s', is '%s'", kiln__text(now, y->name),
                   set_or_computed(baked, (uint32_t)i, was), set_or_computed(now, (uint32_t)i, is));
            return false;
        }
        differ(out, 0, describe, "slot '%s' (%lld to %lld) was '%s' (%lld to %lld)", kiln__text(now, y->name),
               (long long)y->min, (long long)y->max, kiln__text(baked, x->name), (long long)x->min,
               (long long)x->max);
        return false;
    }
    return true;
}

static bool same_storages(const kiln_graph *baked, const kiln_graph *now, bool describe,
                          kiln__difference *out) {
    for (size_t i = 1; i < baked->storages.count && i < now->storages.count; i++) {
        const kiln__storage *x = &baked->storages.items[i], *y = &now->storages.items[i];
        if (x->kind == y->kind && x->size == y->size &&
            ((x->name == 0 && y->name == 0) ||
             strcmp(kiln__text(baked, x->name), kiln__text(now, y->name)) == 0))
            continue;
        differ(out, 0, describe, "storage %zu was %s '%s' of %lld bytes, is %s '%s' of %lld bytes", i,
               kiln__storage_kind_names[x->kind], kiln__text(baked, x->name), (long long)x->size,
               kiln__storage_kind_names[y->kind], kiln__text(now, y->name), (long long)y->size);
        return false;
    }
    return true;
}

void kiln__graph_compare(const kiln_graph *baked, const kiln_graph *now, bool describe,
                         kiln__difference *out) {
    out->any = false;
    out->node = 0;
    char text[KILN_ERROR_TEXT_SIZE - 200], label[KILN__LABEL_SIZE];
    if (!same_slots(baked, now, describe, out))
        return;
    for (size_t i = 0; i < baked->nodes.count && i < now->nodes.count; i++)
        if (!same_node(baked, now, i, text, sizeof text)) {
            differ(out, i, describe, "node %zu '%s' (%s): %s", i, kiln__node_label(now, i, label),
                   now->nodes.items[i].op->name, text);
            return;
        }
    if (baked->nodes.count != now->nodes.count) {
        differ(out, baked->nodes.count < now->nodes.count ? baked->nodes.count : now->nodes.count, describe,
               "the graph had %zu nodes, has %zu", baked->nodes.count, now->nodes.count);
        return;
    }
    if (!same_storages(baked, now, describe, out))
        return;
    if (baked->slots.count != now->slots.count || baked->storages.count != now->storages.count ||
        baked->tensors.count != now->tensors.count) {
        differ(out, baked->nodes.count, describe,
               "the graph had %zu slots, %zu storages and %zu tensors, has %zu, %zu and %zu",
               baked->slots.count - 1, baked->storages.count - 1, baked->tensors.count - 1,
               now->slots.count - 1, now->storages.count - 1, now->tensors.count - 1);
        return;
    }
    for (size_t i = 1; i < baked->tensors.count; i++)
        if (!same_tensor(baked, now, (uint32_t)i)) {
            differ(out, baked->nodes.count, describe, "tensor '%s' has another shape, dtype or place",
                   kiln__tensor_label(now, (uint32_t)i, label));
            return;
        }
}

static bool same_bytes(const void *a, const void *b, size_t n) {
    return n == 0 || memcmp(a, b, n) == 0; /* with nothing to compare, either may be NULL */
}

static bool same_shapes(const kiln_graph *baked, const kiln_graph *now) {
    bool same = baked->shapes.count == now->shapes.count;
    for (size_t i = 1; same && i < now->shapes.count; i++)
        same = kiln__desc_equal(&baked->shapes.items[i].desc, &now->shapes.items[i].desc);
    return same;
}

/* Everything but slots and storages. False for what may be equal in another way: constants behind a slot do not count, and
 * shapes may be numbered otherwise. */
static bool same_arrays(const kiln_graph *baked, const kiln_graph *now) {
    if (!same_shapes(baked, now) || !same_bytes(baked->attrs.items, now->attrs.items, now->attrs.count))
        return false;
    for (size_t i = 0; i < now->nodes.count; i++) {
        const kiln__node *x = &baked->nodes.items[i], *y = &now->nodes.items[i];
        if (x->op != y->op || x->n_in != y->n_in || x->n_out != y->n_out)
            return false;
    }
    for (size_t i = 1; i < now->tensors.count; i++) {
        const kiln__tensor *x = &baked->tensors.items[i], *y = &now->tensors.items[i];
        if (x->shape != y->shape || x->storage != y->storage || x->offset != y->offset)
            return false;
    }
    return true;
}

bool kiln__graph_equal(const kiln_graph *baked, const kiln_graph *now) {
    kiln__difference d;
    if (baked->nodes.count != now->nodes.count || baked->tensors.count != now->tensors.count ||
        baked->storages.count != now->storages.count || baked->slots.count != now->slots.count ||
        baked->operands.count != now->operands.count || baked->attrs.count != now->attrs.count ||
        !same_bytes(baked->operands.items, now->operands.items, now->operands.count * sizeof(uint32_t)))
        return false;
    if (same_arrays(baked, now))
        return same_slots(baked, now, false, &d) && same_storages(baked, now, false, &d);
    kiln__graph_compare(baked, now, false, &d);
    return !d.any;
}
