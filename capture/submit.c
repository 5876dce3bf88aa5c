/* Submitting a session's run, waiting for it and cancelling it. */
#include "plan.h"

#include <sched.h>

/* ---- bindings before the first run, and after each change ------------------------------------------- */

/* Shell sort: in place, no allocation (qsort may allocate), and a few hundred ranges at most. */
static void sort_ranges(kiln__range *r, size_t n) {
    for (size_t gap = n / 2; gap > 0; gap /= 2)
        for (size_t i = gap; i < n; i++) {
            kiln__range x = r[i];
            size_t j = i;
            for (; j >= gap && r[j - gap].start > x.start; j -= gap)
                r[j] = r[j - gap];
            r[j] = x;
        }
}

/* Two storages may share bytes when nothing writes them, or when the plan was baked with the same overlap. */
static bool overlap_allowed(const kiln_session *s, const kiln__range *a, const kiln__range *b) {
    const kiln_plan *plan = s->plan;
    bool written_a = a->storage == 0 || plan->uses[a->storage].written;
    bool written_b = b->storage == 0 || plan->uses[b->storage].written;
    if (!written_a && !written_b)
        return true;
    if (a->storage == 0 || b->storage == 0)
        return false;
    const kiln__space_place *x = &plan->hazards.places[a->storage], *y = &plan->hazards.places[b->storage];
    return x->space == y->space && y->base - x->base == (int64_t)(intptr_t)s->bindings[b->storage].data -
                                                            (int64_t)(intptr_t)s->bindings[a->storage].data;
}

/* Each state buffer once, for writing when any of its storages is written. */
static void find_holds(kiln_session *s) {
    s->n_holds = 0;
    for (uint32_t i = 1; i < s->n_storages; i++) {
        kiln_state_buffer *state = s->bindings[i].state;
        size_t at = 0;
        if (state == NULL)
            continue;
        while (at < s->n_holds && s->holds[at].state != state)
            at++;
        if (at == s->n_holds)
            s->holds[s->n_holds++] = (kiln__hold){state, false, i};
        s->holds[at].write |= s->plan->uses[i].written;
    }
}

bool kiln__session_overlap(kiln_session *s, uint32_t *x, uint32_t *y) {
    const kiln_graph *p = s->plan->program;
    size_t n = 0;
    for (uint32_t i = 1; i < s->n_storages; i++) {
        const kiln__storage *d = &p->storages.items[i];
        const unsigned char *data = s->bindings[i].data;
        if (d->kind != KILN_STORAGE_ARENA && d->size > 0 && data != NULL)
            s->ranges[n++] = (kiln__range){(uintptr_t)data, (uintptr_t)data + (uintptr_t)d->size, i};
    }
    int64_t arena = s->plan->schedule.memory.arena_bytes;
    if (arena > 0)
        s->ranges[n++] = (kiln__range){(uintptr_t)s->memory, (uintptr_t)s->memory + (uintptr_t)arena, 0};
    sort_ranges(s->ranges, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n && s->ranges[j].start < s->ranges[i].end; j++)
            if (!overlap_allowed(s, &s->ranges[i], &s->ranges[j])) {
                *x = s->ranges[i].storage;
                *y = s->ranges[j].storage;
                return true;
            }
    return false;
}

static kiln_status check_bindings(kiln_session *s, kiln_error *error) {
    const kiln_graph *p = s->plan->program;
    for (uint32_t i = 1; i < s->n_storages; i++) {
        const kiln__storage *d = &p->storages.items[i];
        if (d->kind != KILN_STORAGE_ARENA && d->size > 0 && s->bindings[i].data == NULL &&
            (s->plan->uses[i].read || s->plan->uses[i].written))
            return kiln_error_set(
                error, KILN_ERROR_BINDING, "%s '%s' (%lld bytes) is not bound; call %s",
                kiln__storage_kind_names[d->kind], KILN__STORAGE_LABEL(p, i), (long long)d->size,
                d->kind == KILN_STORAGE_STATE ? "kiln_session_bind_state" : "kiln_session_bind");
    }
    uint32_t x, y;
    if (kiln__session_overlap(s, &x, &y))
        return kiln_error_set(
            error, KILN_ERROR_BINDING,
            "'%s' and '%s' overlap in memory and a node writes to one of them; they did not "
            "overlap when the plan was baked",
            x ? KILN__STORAGE_LABEL(p, x) : "the arena", y ? KILN__STORAGE_LABEL(p, y) : "the arena");
    find_holds(s);
    s->bindings_checked = true;
    return KILN_OK;
}

/* ---- submit ----------------------------------------------------------------------------------------- */

KILN__HOT static kiln_status acquire_states(kiln_session *s, bool look, kiln_error *error) {
    for (size_t i = 0; i < s->n_holds; i++) {
        const kiln__hold *h = &s->holds[i];
        kiln_status status = kiln__state_acquire(h->state, h->write && !look,
                                                 KILN__STORAGE_LABEL(s->plan->program, h->storage), error);
        if (status == KILN_OK)
            continue;
        while (i-- > 0)
            kiln__state_release(s->holds[i].state, s->holds[i].write && !look, false);
        return status;
    }
    return KILN_OK;
}

/* Waits for threads that still look at the last submission: it is over, so they are about to leave. Those
 * that come now find that their fence is no longer the last one. */
KILN__HOT static unsigned long long retire_fences(kiln_session *s) {
    /* Sequentially consistent, both, and in hold_fence the other way round:
     * either it sees the new number, or this sees it. */
    unsigned long long sequence = atomic_fetch_add(&s->sequence, 1) + 1;
    while (atomic_load(&s->users) != 0)
        sched_yield();
    return sequence;
}

/* `users`, `busy` and states may be held by threads that are not in this process. */
static kiln_status refuse_lost(const char *what, kiln_error *error) {
    return kiln_error_set(
        error, KILN_ERROR_SYSTEM,
        "%s: the executor's threads stayed in the parent of this fork; make an executor and a session here",
        what);
}

KILN__HOT kiln_status kiln__session_begin(kiln_session *s, const char *what, bool look, kiln_fence *fence,
                                          kiln_error *error) {
    unsigned idle = 0;
    const kiln__executor_table *x = s->executor->table;
    if (x->is_lost(s->executor))
        return refuse_lost(what, error);
    /* Acquire: pairs with the release in run_done. */
    if (!atomic_compare_exchange_strong_explicit(&s->busy, &idle, 1, memory_order_acquire,
                                                 memory_order_relaxed))
        return kiln_error_set(error, KILN_ERROR_BUSY, "%s: the session is running; wait for its fence first",
                              what);
    kiln_status status = KILN_OK;
    /* The last run gave up `busy` a moment before the executor let go of it. */
    if (!x->is_done(s->executor, &s->run))
        status = x->wait(s->executor, &s->run, -1);
    if (status == KILN_OK && !s->bindings_checked)
        status = check_bindings(s, error);
    if (status == KILN_OK && !s->limits_checked)
        status = kiln__limits_check(s, what, error);
    if (status == KILN_OK)
        status = acquire_states(s, look, error);
    if (status != KILN_OK) {
        atomic_store_explicit(&s->busy, 0, memory_order_release);
        return status;
    }
    *fence = (kiln_fence){s, retire_fences(s)};
    return KILN_OK;
}

void kiln__session_end(kiln_session *s, bool look) {
    for (size_t i = 0; i < s->n_holds; i++)
        kiln__state_release(s->holds[i].state, s->holds[i].write && !look, false);
    atomic_store_explicit(&s->busy, 0, memory_order_release);
}

kiln_status kiln__session_refused(const kiln_session *s, const char *what, kiln_status status,
                                  kiln_error *error) {
    const kiln__outcome *o = &s->run.outcome;
    if ((status == KILN_ERROR_OVERFLOW || status == KILN_ERROR_LIMIT) && o->record < s->tape.n_records) {
        const kiln__record *record = &s->tape.records[o->record];
        char label[KILN__LABEL_SIZE];
        return kiln_error_set(error, status, "%s: node '%s' (%s): %s", what,
                              kiln__node_label(s->plan->program, record->node, label), record->op->name,
                              o->text);
    }
    return kiln_error_set(error, status, "%s: the %s executor refused: %s", what,
                          kiln_executor_name(s->executor), kiln_status_text(status));
}

kiln_status kiln_submit(kiln_session *s, kiln_fence *fence, kiln_error *error) {
    if (s == NULL || fence == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_submit: session or fence is NULL");
    kiln_fence begun;
    kiln_status status = kiln__session_begin(s, "kiln_submit", false, &begun, error);
    if (status != KILN_OK)
        return status;
    status = s->executor->table->submit(s->executor, &s->run);
    if (status == KILN_OK) {
        *fence = begun;
        return KILN_OK;
    }
    kiln__session_end(s, false);
    return kiln__session_refused(s, "kiln_submit", status, error);
}

/* ---- waiting ---------------------------------------------------------------------------------------- */

kiln_status kiln__session_outcome(const kiln_session *s, kiln_error *error) {
    const kiln__outcome *o = &s->run.outcome;
    const kiln_graph *p = s->plan->program;
    if (o->status == KILN_OK)
        return KILN_OK;
    if (o->status == KILN_ERROR_CANCELLED)
        return kiln_error_set(error, o->status, "the run was cancelled; states it writes are marked dirty");
    if (o->record >= s->tape.n_records)
        return kiln_error_set(error, o->status, "%s", o->text[0] ? o->text : kiln_status_text(o->status));
    uint32_t node = s->tape.records[o->record].node;
    char label[KILN__LABEL_SIZE];
    kiln__node_label(p, node, label);
    const char *op = p->nodes.items[node].op->name;
    if (o->status == KILN_ERROR_INDEX && o->limit <= 0)
        return kiln_error_set(
            error, o->status,
            "node '%s' (%s), row %lld: index %lld, and there is nothing to choose from (0 rows); "
            "the row was zeroed or its write dropped",
            label, op, (long long)o->row, (long long)o->index);
    if (o->status == KILN_ERROR_INDEX)
        return kiln_error_set(error, o->status,
                              "node '%s' (%s), row %lld: index %lld is outside 0 to %lld; the "
                              "row was zeroed or its write dropped",
                              label, op, (long long)o->row, (long long)o->index, (long long)o->limit - 1);
    return kiln_error_set(error, o->status, "node '%s' (%s): %s", label, op,
                          o->text[0] ? o->text : kiln_status_text(o->status));
}

/* While a fence is held, its submission stays the session's last. False: it is not. */
static bool hold_fence(kiln_fence fence) {
    if (fence.session == NULL || fence.sequence == 0)
        return false;
    atomic_fetch_add(&fence.session->users, 1); /* see retire_fences */
    if (atomic_load(&fence.session->sequence) == fence.sequence)
        return true;
    atomic_fetch_sub(&fence.session->users, 1);
    return false;
}

KILN__HOT static void drop_fence(kiln_fence fence) {
    /* Release: what was read of the outcome is read before the next submission writes it. */
    atomic_fetch_sub_explicit(&fence.session->users, 1, memory_order_release);
}

kiln_status kiln_wait(kiln_fence fence, int64_t timeout_ns, kiln_error *error) {
    if (!hold_fence(fence))
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "kiln_wait: not the fence of this session's last submission");
    kiln_session *s = fence.session;
    kiln_status status = s->executor->table->wait(s->executor, &s->run, timeout_ns);
    if (status == KILN_OK)
        status = kiln__session_outcome(s, error);
    else if (status == KILN_ERROR_TIMEOUT)
        kiln_error_set(error, status, "kiln_wait: not done after %lld ns; the run goes on",
                       (long long)timeout_ns);
    else
        status = refuse_lost("kiln_wait", error); /* waiting has no other errors */
    drop_fence(fence);
    return status;
}

bool kiln_fence_done(kiln_fence fence) {
    if (!hold_fence(fence))
        return true;
    bool done = fence.session->executor->table->is_done(fence.session->executor, &fence.session->run);
    drop_fence(fence);
    return done;
}

void kiln_cancel(kiln_fence fence) {
    if (!hold_fence(fence))
        return;
    fence.session->executor->table->cancel(fence.session->executor, &fence.session->run);
    drop_fence(fence);
}

KILN__HOT kiln_status kiln_run(kiln_session *s, kiln_error *error) {
    kiln_fence fence;
    if (s == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_run: session is NULL");
    kiln_status status = kiln__session_begin(s, "kiln_run", false, &fence, error);
    if (status != KILN_OK)
        return status;
    /* Held like a fence: the session is free again before the outcome has been read here. */
    atomic_fetch_add(&s->users, 1);
    status = s->executor->table->run(s->executor, &s->run);
    if (status == KILN_OK) {
        status = s->run.outcome.status == KILN_OK ? KILN_OK : kiln__session_outcome(s, error);
    } else {
        kiln__session_end(s, false);
        status = kiln__session_refused(s, "kiln_run", status, error);
    }
    drop_fence(fence);
    return status;
}
