/* State buffers: memory of the caller's that outlives plans, with a guard on who uses it and a mark when a
 * failed run may have left it half written. */
#include "plan.h"

static kiln_status make(const kiln_allocator *allocator, void *data, int64_t size, kiln_state_buffer **out,
                        kiln_error *error) {
    if (out == NULL || size < 0)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "a state buffer of %lld bytes%s", (long long)size,
                              out == NULL ? ", and out is NULL" : "");
    *out = NULL;
    kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln_state_buffer *state = KILN_NEW(&a, kiln_state_buffer, 1);
    if (state == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "a state buffer: out of memory");
    state->allocator = a;
    state->size = size;
    state->owned = data == NULL;
    state->data = data != NULL ? data : kiln__alloc_array(&a, (size_t)size, 1, 128);
    atomic_init(&state->bound, 0);
    atomic_init(&state->users, 0);
    atomic_init(&state->dirty, false);
    if (state->data == NULL) {
        KILN_DELETE(&a, state, kiln_state_buffer, 1);
        return kiln_error_set(error, KILN_ERROR_MEMORY, "a state buffer of %lld bytes: out of memory",
                              (long long)size);
    }
    *out = state;
    return KILN_OK;
}

kiln_status kiln_state_buffer_create(const kiln_allocator *allocator, int64_t size, kiln_state_buffer **out,
                                     kiln_error *error) {
    return make(allocator, NULL, size, out, error);
}

kiln_status kiln_state_buffer_wrap(const kiln_allocator *allocator, void *data, int64_t size,
                                   kiln_state_buffer **out, kiln_error *error) {
    if (data == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_state_buffer_wrap: data is NULL");
    return make(allocator, data, size, out, error);
}

kiln_status kiln_state_buffer_destroy(kiln_state_buffer *state, kiln_error *error) {
    if (state == NULL)
        return KILN_OK;
    unsigned bound = atomic_load(&state->bound);
    if (bound != 0)
        return kiln_error_set(error, KILN_ERROR_BUSY,
                              "the state buffer is bound %u time%s by sessions and plans; unbind it "
                              "(kiln_session_bind_state with NULL), or destroy them first",
                              bound, bound == 1 ? "" : "s");
    kiln_allocator a = state->allocator;
    if (state->owned)
        kiln__free_array(&a, state->data, (size_t)state->size, 1);
    KILN_DELETE(&a, state, kiln_state_buffer, 1);
    return KILN_OK;
}

void *kiln_state_buffer_data(kiln_state_buffer *state) {
    return state->data;
}

int64_t kiln_state_buffer_size(const kiln_state_buffer *state) {
    return state->size;
}

bool kiln_state_buffer_is_dirty(const kiln_state_buffer *state) {
    return atomic_load(&state->dirty);
}

void kiln_state_buffer_acknowledge(kiln_state_buffer *state) {
    atomic_store(&state->dirty, false);
}

kiln_status kiln__state_acquire(kiln_state_buffer *state, bool write, const char *name, kiln_error *error) {
    int users = atomic_load(&state->users);
    do {
        if (users < 0 || (write && users > 0))
            return kiln_error_set(error, KILN_ERROR_BUSY,
                                  "state '%s' is in use by another running session, and %s writes it", name,
                                  users < 0 ? "that one" : "this one");
    } while (!atomic_compare_exchange_weak(&state->users, &users, write ? -1 : users + 1));
    /* Only now: a failing run marks the state before it gives it back. */
    if (!atomic_load(&state->dirty))
        return KILN_OK;
    kiln__state_release(state, write, false);
    return kiln_error_set(error, KILN_ERROR_DIRTY,
                          "state '%s' may be half written by a run that failed or was cancelled; restore it, "
                          "then call kiln_state_buffer_acknowledge",
                          name);
}

void kiln__state_release(kiln_state_buffer *state, bool write, bool failed) {
    if (write && failed)
        atomic_store(&state->dirty, true);
    if (write)
        atomic_store(&state->users, 0);
    else
        atomic_fetch_sub(&state->users, 1);
}

void kiln_storage_state(kiln_graph *g, kiln_storage storage, kiln_state_buffer *state) {
    if (g->error.status != KILN_OK)
        return;
    if (storage.graph != g->tag || storage.id == 0 || storage.id >= g->storages.count || state == NULL) {
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "kiln_storage_state: unknown storage, or no buffer");
        return;
    }
    kiln__storage *s = &g->storages.items[storage.id];
    if (s->kind != KILN_STORAGE_STATE)
        (void)kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "storage '%s' is of kind %s, not a state",
                               KILN__STORAGE_LABEL(g, storage.id), kiln__storage_kind_names[s->kind]);
    else if (state->size < s->size)
        (void)kiln__graph_fail(g, KILN_ERROR_BINDING, "state '%s' needs %lld bytes, the buffer has %lld",
                               KILN__STORAGE_LABEL(g, storage.id), (long long)s->size,
                               (long long)state->size);
    else {
        s->data = state->data;
        s->owner = state;
    }
}
