/* What the values of slots show to be impossible is refused before anything runs: a computed slot outside of
 * its bounds, and what the ops' `check` finds.
 *
 * Baking finds which nodes are to be asked: those whose op has a check, and that follow a slot or read bytes
 * to which an append at a slot writes. Nodes that are alike (as layers are) give the same answer, so one of
 * them is asked. A submission asks only after an integer slot has changed; the tape holds the counts and
 * attributes by then. */
#include "plan.h"

#include "box.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- baking: which nodes ------------------------------------------------------------------------------- */

enum {
    LOOK = 4096, /* writes of a space that are looked at for one operand; of more, nothing is known */
    ALIKE = 16   /* limits back that a node is compared with */
};

typedef struct finder {
    kiln_plan *plan;
    const kiln_graph *p;
    const kiln__hazards *h;
    uint32_t *next; /* per access that writes: 1 + the one before it in its space; 0: none */
    uint32_t *last; /* per space, the same */
    bool *appended; /* per space: some op appends rows to it */
    bool opaque;    /* some node declares no accesses: anything may be written */
} finder;

/* The slot that attribute i follows; 0 for a constant, and for a float. */
static uint32_t slot_of_attr(const kiln_graph *p, const kiln__node *n, uint32_t i) {
    const kiln_attr *a = &n->op->attrs[i];
    if (a->type != KILN_ATTR_I64_SLOT)
        return 0;
    const unsigned char *attrs = kiln__node_attrs(p, n);
    return ((const kiln_i64_value *)(const void *)(attrs + a->offset))->slot;
}

static bool attr_follows(const kiln_graph *p, const kiln__node *n) {
    for (uint32_t i = 0; i < n->op->n_attrs; i++)
        if (slot_of_attr(p, n, i) != 0)
            return true;
    return false;
}

static bool count_follows(const kiln_graph *p, const kiln__node *n) {
    for (uint32_t i = 0; i < n->n_in + n->n_out; i++) {
        uint32_t id = p->operands.items[n->operands + i];
        const kiln_desc *desc = kiln__desc_of(p, &p->tensors.items[id]);
        for (uint32_t d = 0; id != 0 && d < desc->ndim; d++)
            if (desc->dims[d].slot != 0)
                return true;
    }
    return false;
}

/* The append that access `a` is part of, as rows of tensor `t`, if rows of the one are rows of the other. */
static bool source_of(const kiln_graph *p, const kiln__access *a, const kiln__tensor *t,
                      kiln__limit_source *out) {
    const kiln__node *n = &p->nodes.items[a->node];
    if (n->op->rows_held == NULL || a->operand != n->n_in || a->storage != t->storage)
        return false;
    const kiln__tensor *dst = &p->tensors.items[p->operands.items[n->operands + n->n_in]];
    int64_t stride = kiln__desc_of(p, dst)->strides[0];
    if (n->alias[0] != 1 || stride <= 0 || t->offset < dst->offset)
        return false;
    out->node = a->node;
    out->start = (t->offset - dst->offset) / stride;
    out->stride = stride;
    out->moves = attr_follows(p, n) || count_follows(p, n);
    return true;
}

/* Appends the sources of one operand of a node, or none where something else may write its bytes. A node that
 * writes them later did so in earlier runs, too, and then the appends before say nothing of what they
 * hold. */
static bool find_sources(finder *f, uint32_t node, const kiln__tensor *t, uint32_t operand) {
    kiln_plan *plan = f->plan;
    uint32_t space = f->h->places[t->storage].space, left = LOOK;
    size_t before = plan->limit_sources.count;
    kiln_box box = kiln__tensor_box(f->p, t, NULL);
    box.offset += f->h->places[t->storage].base;
    for (uint32_t at = f->last[space]; f->appended[space] && !f->opaque && at != 0; at = f->next[at - 1]) {
        const kiln__access *a = &f->h->list.items[at - 1];
        kiln_box written = kiln__access_box(&f->h->list, a);
        kiln__limit_source source = {.operand = operand};
        written.offset += f->h->places[a->storage].base;
        bool meets = kiln__box_overlap(&written, &box);
        if (left-- == 0 || (meets && (a->node >= node || !source_of(f->p, a, t, &source)))) {
            plan->limit_sources.count = before;
            return true;
        }
        if (!meets)
            continue;
        if (!KILN_GROW(&plan->allocator, plan->limit_sources, plan->limit_sources.count + 1))
            return false;
        plan->limit_sources.items[plan->limit_sources.count++] = source;
    }
    return true;
}

/* Do two nodes have equal attributes and operands of equal descriptions? */
static bool alike(const kiln_graph *p, uint32_t a, uint32_t b) {
    const kiln__node *x = &p->nodes.items[a], *y = &p->nodes.items[b];
    if (x->op != y->op || x->n_in != y->n_in || x->n_out != y->n_out)
        return false;
    for (uint32_t i = 0; i < x->n_in + x->n_out; i++) {
        uint32_t s = p->operands.items[x->operands + i], t = p->operands.items[y->operands + i];
        if ((s == 0) != (t == 0) ||
            !kiln__desc_equal(kiln__desc_of(p, &p->tensors.items[s]), kiln__desc_of(p, &p->tensors.items[t])))
            return false;
    }
    return x->op->attrs_size == 0 ||
           memcmp(kiln__node_attrs(p, x), kiln__node_attrs(p, y), x->op->attrs_size) == 0;
}

/* Would the last limit, which is not counted yet, answer as limit `i` does? */
static bool answers_alike(const finder *f, uint32_t i) {
    const kiln_plan *plan = f->plan;
    size_t n = plan->limits.count;
    const kiln__limit *x = &plan->limits.items[i], *y = &plan->limits.items[n];
    uint32_t end = x[1].first_source;
    if (!alike(f->p, x->node, y->node) ||
        end - x->first_source != plan->limit_sources.count - y->first_source)
        return false;
    for (uint32_t k = 0; k < end - x->first_source; k++) {
        const kiln__limit_source *s = &plan->limit_sources.items[x->first_source + k];
        const kiln__limit_source *t = &plan->limit_sources.items[y->first_source + k];
        if (s->operand != t->operand || s->start != t->start || s->stride != t->stride ||
            !alike(f->p, s->node, t->node))
            return false;
    }
    return true;
}

static bool add_limit(finder *f, uint32_t node) {
    kiln_plan *plan = f->plan;
    const kiln__node *n = &f->p->nodes.items[node];
    /* One more: the end of its sources. */
    if (!KILN_GROW(&plan->allocator, plan->limits, plan->limits.count + 2))
        return false;
    kiln__limit *limit = &plan->limits.items[plan->limits.count];
    *limit = (kiln__limit){.node = node, .first_source = (uint32_t)plan->limit_sources.count};
    for (uint32_t i = 0; i < n->n_in; i++) {
        uint32_t id = f->p->operands.items[n->operands + i];
        if (id != 0 && !find_sources(f, node, &f->p->tensors.items[id], i))
            return false;
    }
    bool follows = attr_follows(f->p, n) || count_follows(f->p, n);
    for (size_t k = limit->first_source; !follows && k < plan->limit_sources.count; k++) {
        const kiln__node *source = &f->p->nodes.items[plan->limit_sources.items[k].node];
        follows = plan->limit_sources.items[k].moves || count_follows(f->p, source);
    }
    for (size_t i = plan->limits.count; follows && i-- > 0 && i + ALIKE >= plan->limits.count;)
        follows = !answers_alike(f, (uint32_t)i);
    if (follows)
        plan->limits.count++;
    else
        plan->limit_sources.count = limit->first_source;
    return true;
}

static bool find_limits(finder *f) {
    for (uint32_t node = 0; node < f->h->n_nodes; node++)
        for (uint32_t i = f->h->first_access[node]; i < f->h->first_access[node + 1]; i++) {
            const kiln__access *a = &f->h->list.items[i];
            uint32_t space = f->h->places[a->storage].space;
            f->opaque = f->opaque || a->operand == KILN__OPERAND_ANY;
            if (a->operand == KILN__OPERAND_ANY || !(a->mode & KILN_WRITE))
                continue;
            f->next[i] = f->last[space];
            f->last[space] = i + 1;
            f->appended[space] |= f->p->nodes.items[node].op->rows_held != NULL;
        }
    for (uint32_t node = 0; node < f->h->n_nodes; node++)
        if (f->p->nodes.items[node].op->check != NULL && !add_limit(f, node))
            return false;
    return true;
}

/* After scheduling: where the nodes are on the tape. */
static bool find_records(kiln_plan *plan) {
    const kiln__schedule *s = &plan->schedule;
    uint32_t *position = KILN_NEW_RAW(&plan->allocator, uint32_t, s->n_nodes);
    if (position == NULL)
        return false;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        position[s->order[i]] = i;
    for (size_t i = 0; i < plan->limits.count; i++)
        plan->limits.items[i].record = position[plan->limits.items[i].node];
    for (size_t i = 0; i < plan->limit_sources.count; i++)
        plan->limit_sources.items[i].record = position[plan->limit_sources.items[i].node];
    KILN_DELETE(&plan->allocator, position, uint32_t, s->n_nodes);
    return true;
}

kiln_status kiln__limits_find(kiln_plan *plan, kiln_error *error) {
    const kiln__hazards *h = &plan->hazards;
    const kiln_allocator *a = &plan->allocator;
    bool any = false, ok = true;
    for (size_t i = 0; !any && i < plan->program->nodes.count; i++)
        any = plan->program->nodes.items[i].op->check != NULL;
    if (!any)
        return KILN_OK;
    finder f = {.plan = plan, .p = plan->program, .h = h};
    f.next = KILN_NEW_RAW(a, uint32_t, h->list.count);
    f.last = KILN_NEW(a, uint32_t, h->n_spaces);
    f.appended = KILN_NEW(a, bool, h->n_spaces);
    ok = f.next != NULL && f.last != NULL && f.appended != NULL && find_limits(&f);
    if (ok && plan->limits.count > 0) {
        plan->limits.items[plan->limits.count].first_source = (uint32_t)plan->limit_sources.count;
        ok = find_records(plan);
    }
    KILN_DELETE(a, f.next, uint32_t, h->list.count);
    KILN_DELETE(a, f.last, uint32_t, h->n_spaces);
    KILN_DELETE(a, f.appended, bool, h->n_spaces);
    return ok ? KILN_OK : kiln_error_set(error, KILN_ERROR_MEMORY, "baking: out of memory");
}

/* ---- submitting: asking them --------------------------------------------------------------------------- */

typedef struct asking {
    const kiln_session *session;
    const kiln__limit *limit;
    const kiln__limit_source *source; /* of the rows that were asked for, the furthest; NULL: none was */
    char text[256];
} asking;

kiln_status kiln_check_fail(const kiln_check *check, const char *format, ...) {
    asking *a = check->reserved;
    va_list args;
    va_start(args, format);
    vsnprintf(a->text, sizeof a->text, format, args);
    va_end(args);
    return KILN_ERROR_LIMIT;
}

bool kiln_check_count_follows(const kiln_check *check, uint32_t operand, uint32_t axis) {
    const asking *a = check->reserved;
    const kiln_graph *p = a->session->plan->program;
    const kiln__node *n = &p->nodes.items[a->limit->node];
    uint32_t id = operand < n->n_in + n->n_out ? p->operands.items[n->operands + operand] : 0;
    const kiln_desc *desc = kiln__desc_of(p, &p->tensors.items[id]);
    uint32_t outer = KILN_MAX_DIMS - desc->ndim;
    return id != 0 && axis >= outer && axis < KILN_MAX_DIMS && desc->dims[axis - outer].slot != 0;
}

kiln_rows_held kiln_check_rows_held(const kiln_check *check, uint32_t operand, uint32_t axis) {
    asking *a = check->reserved;
    const kiln_plan *plan = a->session->plan;
    kiln_rows_held held = {-1, false};
    for (uint32_t k = a->limit[0].first_source; k < a->limit[1].first_source; k++) {
        const kiln__limit_source *s = &plan->limit_sources.items[k];
        const kiln__record *record = &a->session->tape.records[s->record];
        if (s->operand != operand)
            continue;
        if (axis >= KILN_MAX_DIMS || check->args->in[operand].nb[axis] != s->stride)
            return (kiln_rows_held){-1, false};
        int64_t rows = record->op->rows_held(&record->args);
        if (rows < 0)
            return (kiln_rows_held){-1, false};
        rows = rows > s->start ? rows - s->start : 0;
        held.moves = held.moves || s->moves;
        if (rows > held.rows) {
            held.rows = rows;
            a->source = s;
        }
    }
    return held;
}

/* ---- what is refused, in words ------------------------------------------------------------------------- */

enum { SLOTS_TOLD = 8 };

typedef struct told_slots {
    uint32_t ids[SLOTS_TOLD];
    size_t n;
} told_slots;

static void tell(told_slots *told, uint32_t slot) {
    for (size_t i = 0; i < told->n; i++)
        if (told->ids[i] == slot)
            return;
    if (slot != 0 && told->n < SLOTS_TOLD)
        told->ids[told->n++] = slot;
}

static void tell_slots_of(const kiln_graph *p, uint32_t node, told_slots *told) {
    const kiln__node *n = &p->nodes.items[node];
    for (uint32_t i = 0; i < n->op->n_attrs; i++)
        tell(told, slot_of_attr(p, n, i));
    for (uint32_t i = 0; i < n->n_in + n->n_out; i++) {
        uint32_t id = p->operands.items[n->operands + i];
        const kiln_desc *desc = kiln__desc_of(p, &p->tensors.items[id]);
        for (uint32_t d = 0; id != 0 && d < desc->ndim; d++)
            tell(told, desc->dims[d].slot);
    }
}

/* "n_past = 12, n_tokens = 1" */
static void slots_text(const kiln_session *s, const told_slots *told, char *text, size_t size) {
    const kiln_graph *p = s->plan->program;
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < told->n && at < size; i++) {
        int n = snprintf(text + at, size - at, "%s%s = %lld", i > 0 ? ", " : "",
                         kiln__text(p, p->slots.items[told->ids[i]].name), (long long)s->i64[told->ids[i]]);
        at += n > 0 ? (size_t)n : 0;
    }
}

static kiln_status refuse(const asking *a, const char *what, kiln_status status, kiln_error *error) {
    const kiln_graph *p = a->session->plan->program;
    char label[KILN__LABEL_SIZE], append[KILN__LABEL_SIZE + 64] = "", slots[256];
    told_slots told = {.n = 0};
    tell_slots_of(p, a->limit->node, &told);
    if (a->source != NULL) {
        tell_slots_of(p, a->source->node, &told);
        kiln__node_label(p, a->source->node, label);
        snprintf(append, sizeof append, " (appended by node '%s', %.40s)", label,
                 p->nodes.items[a->source->node].op->name);
    }
    slots_text(a->session, &told, slots, sizeof slots);
    return kiln_error_set(error, status, "%s: node '%s' (%s): %s%s; slots: %s", what,
                          kiln__node_label(p, a->limit->node, label), p->nodes.items[a->limit->node].op->name,
                          a->text[0] != '\0' ? a->text : kiln_status_text(status), append, slots);
}

/* "kiln_run: slot 'n_kv' is n_past + n_tokens = 26; its bounds are 0 and 24; slots: n_past = 25, n_tokens =
 * 1" */
static kiln_status check_sum(const kiln_session *s, uint32_t slot, const char *what, kiln_error *error) {
    const kiln_graph *p = s->plan->program;
    const kiln__slot *d = &p->slots.items[slot];
    char sum[KILN__SHAPE_SIZE], slots[256];
    told_slots told = {.n = 0};
    if (d->n_terms == 0 || (s->i64[slot] >= d->min && s->i64[slot] <= d->max))
        return KILN_OK;
    for (uint32_t i = 0; i < d->n_terms; i++)
        tell(&told, d->terms[i].slot);
    slots_text(s, &told, slots, sizeof slots);
    return kiln_error_set(error, KILN_ERROR_LIMIT,
                          "%s: slot '%s' is %s = %lld; its bounds are %lld and %lld; slots: %s", what,
                          kiln__text(p, d->name), kiln__sum_text(p, slot, sum), (long long)s->i64[slot],
                          (long long)d->min, (long long)d->max, slots);
}

kiln_status kiln__limits_check(kiln_session *s, const char *what, kiln_error *error) {
    for (uint32_t i = 1; s->computes && i < s->n_slots; i++) {
        kiln_status status = check_sum(s, i, what, error);
        if (status != KILN_OK)
            return status;
    }
    for (size_t i = 0; i < s->plan->limits.count; i++) {
        asking a = {.session = s, .limit = &s->plan->limits.items[i]};
        const kiln__record *record = &s->tape.records[a.limit->record];
        kiln_check check = {&record->args, &a};
        kiln_status status = record->op->check(&check);
        if (status != KILN_OK)
            return refuse(&a, what, status, error);
    }
    s->limits_checked = true;
    return KILN_OK;
}
