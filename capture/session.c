/* Sessions: a plan prepared for an executor, with its memory, slot values and bindings. */
#include "plan.h"
#include "fp_mode.h"

static kiln_status out_of_memory(kiln_error *error) {
    return kiln_error_set(error, KILN_ERROR_MEMORY, "making a session: out of memory");
}

/* ---- memory ----------------------------------------------------------------------------------------- */

/* One allocation: the arena, then the session's own inputs and outputs, each at a multiple of 128. */
static kiln_status place_memory(kiln_session *s, kiln_error *error) {
    const kiln_graph *p = s->plan->program;
    const kiln__memory *m = &s->plan->schedule.memory;
    int64_t size = m->arena_bytes;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            s->memory_size = (size_t)size;
            s->memory = kiln__alloc_array(&s->allocator, s->memory_size, 1, 128);
            if (s->memory == NULL)
                return kiln_error_set(error, KILN_ERROR_MEMORY,
                                      "making a session: %lld bytes of arena, inputs and "
                                      "outputs: out of memory",
                                      (long long)size);
            size = m->arena_bytes;
        }
        for (size_t i = 1; i < s->n_storages; i++) {
            const kiln__storage *storage = &p->storages.items[i];
            if (storage->kind != KILN_STORAGE_INPUT && storage->kind != KILN_STORAGE_OUTPUT)
                continue;
            if (!kiln__align_up(size, 128, &size))
                return kiln_error_set(error, KILN_ERROR_OVERFLOW, "inputs and outputs do not fit 63 bits");
            if (pass == 1)
                s->bindings[i].own = s->bindings[i].data = s->memory + size;
            if (!kiln__add(size, storage->size, &size))
                return kiln_error_set(error, KILN_ERROR_OVERFLOW, "inputs and outputs do not fit 63 bits");
        }
    }
    return KILN_OK;
}

static kiln_status check_align(const kiln_session *s, uint32_t storage, const void *data, kiln_error *error) {
    uint32_t align = s->plan->uses[storage].align;
    if ((uintptr_t)data % align == 0)
        return KILN_OK;
    return kiln_error_set(error, KILN_ERROR_BINDING,
                          "storage '%s' needs a pointer aligned to %u bytes, got %p",
                          KILN__STORAGE_LABEL(s->plan->program, storage), align, data);
}

static kiln_status bind_initial(kiln_session *s, kiln_error *error) {
    const kiln_graph *p = s->plan->program;
    const kiln__memory *m = &s->plan->schedule.memory;
    for (uint32_t i = 1; i < s->n_storages; i++) {
        const kiln__storage *storage = &p->storages.items[i];
        if (storage->kind == KILN_STORAGE_ARENA)
            kiln__session_apply_base(s, i, s->memory + m->places[i].offset);
        if (storage->data != NULL) {
            kiln_status status = check_align(s, i, storage->data, error);
            if (status != KILN_OK)
                return status;
            s->bindings[i].data = storage->data;
            s->bindings[i].of_graph = true;
        }
        if (storage->owner != NULL) {
            s->bindings[i].state = storage->owner;
            atomic_fetch_add(&s->bindings[i].state->bound, 1);
        }
        if (s->bindings[i].data != NULL)
            kiln__session_apply_base(s, i, s->bindings[i].data);
    }
    return KILN_OK;
}

/* ---- life ------------------------------------------------------------------------------------------- */

KILN__HOT static void run_done(kiln__run *run) {
    kiln_session *s = kiln__session_of(run);
    kiln_status status = run->outcome.status;
    bool failed = status != KILN_OK && status != KILN_ERROR_INDEX; /* after INDEX everything has run */
    for (size_t i = 0; i < s->n_holds; i++)
        kiln__state_release(s->holds[i].state, s->holds[i].write, failed);
    /* Release: whoever sees busy = 0 sees the outcome and the released states. */
    atomic_store_explicit(&s->busy, 0, memory_order_release);
}

static const kiln__run_hooks hooks = {kiln__observe_region, run_done};

/* What a computed slot comes to, and true. False when that does not fit, which was ruled out when it was
 * declared as long as the slots it is computed from are within their bounds. */
static bool sum_of(const kiln_session *s, const kiln__slot *slot, int64_t *sum) {
    *sum = 0;
    for (uint32_t k = 0; k < slot->n_terms; k++) {
        int64_t term, value = slot->terms[k].slot ? s->i64[slot->terms[k].slot] : 1;
        if (__builtin_mul_overflow(slot->terms[k].n, value, &term) || __builtin_add_overflow(*sum, term, sum))
            return false;
    }
    return true;
}

/* Brings computed slots up to date, in the order of ids: a sum is of slots before it. One that is out of its
 * bounds is not put on the tape, which has counts for what is within; the next submission is refused until it
 * is. */
static void compute_slots(kiln_session *s) {
    const kiln__slot *slots = s->plan->program->slots.items;
    for (uint32_t i = 1; s->computes && i < s->n_slots; i++) {
        int64_t sum;
        if (slots[i].n_terms == 0 || !sum_of(s, &slots[i], &sum) || sum == s->i64[i])
            continue;
        s->i64[i] = sum;
        if (sum >= slots[i].min && sum <= slots[i].max)
            kiln__session_apply_slot(s, i);
    }
}

static kiln_status create_into(kiln_session *s, kiln_error *error) {
    const kiln_graph *p = s->plan->program;
    const kiln_allocator *a = &s->allocator;
    s->n_slots = p->slots.count;
    s->n_storages = p->storages.count;
    s->i64 = KILN_NEW(a, int64_t, s->n_slots);
    s->f32 = KILN_NEW(a, float, s->n_slots);
    s->bindings = KILN_NEW(a, kiln__binding, s->n_storages);
    s->ranges = KILN_NEW(a, kiln__range, s->n_storages + 1);
    s->observed = KILN_NEW(a, kiln_observation, s->plan->taps.count);
    s->observed_at = KILN_NEW(a, unsigned long long, s->plan->taps.count);
    s->holds = KILN_NEW(a, kiln__hold, s->n_storages);
    if (!s->i64 || !s->f32 || !s->bindings || !s->ranges || !s->holds || !s->observed || !s->observed_at)
        return out_of_memory(error);
    kiln_status status = place_memory(s, error);
    if (status != KILN_OK || (status = kiln__tape_make(s, error)) != KILN_OK)
        return status;
    if ((status = bind_initial(s, error)) != KILN_OK)
        return status;
    /* Kernels are chosen at the maxima, which is what the tape holds now. */
    uint32_t record = 0;
    s->run.tape = &s->tape;
    s->run.hooks = &hooks;
    kiln_error why = {KILN_OK, ""};
    status = s->executor->table->prepare(s->executor, &s->run, &record, &why);
    if (status != KILN_OK && record < s->tape.n_records) {
        char label[KILN__LABEL_SIZE];
        return kiln_error_set(error, status, "node '%s': %s",
                              kiln__node_label(p, s->tape.records[record].node, label), why.text);
    }
    if (status != KILN_OK)
        return kiln_error_set(error, status, "%s", why.text);
    s->prepared = true;
    for (uint32_t i = 1; i < s->n_slots; i++) {
        s->i64[i] = p->slots.items[i].min;
        s->f32[i] = p->slots.items[i].preset;
        s->computes = s->computes || p->slots.items[i].n_terms > 0;
        kiln__session_apply_slot(s, i);
    }
    compute_slots(s);
    return KILN_OK;
}

static void destroy(kiln_session *s) {
    kiln_allocator a = s->allocator;
    if (s->prepared)
        s->executor->table->release(s->executor, &s->run);
    for (size_t i = 1; s->bindings != NULL && i < s->n_storages; i++)
        if (s->bindings[i].state != NULL)
            atomic_fetch_sub(&s->bindings[i].state->bound, 1);
    kiln__profile_free(s);
    kiln__tape_free(s);
    kiln__free_array(&a, s->memory, s->memory_size, 1);
    KILN_DELETE(&a, s->observed_at, unsigned long long, s->plan->taps.count);
    KILN_DELETE(&a, s->observed, kiln_observation, s->plan->taps.count);
    KILN_DELETE(&a, s->holds, kiln__hold, s->n_storages);
    KILN_DELETE(&a, s->ranges, kiln__range, s->n_storages + 1);
    KILN_DELETE(&a, s->bindings, kiln__binding, s->n_storages);
    KILN_DELETE(&a, s->f32, float, s->n_slots);
    KILN_DELETE(&a, s->i64, int64_t, s->n_slots);
    kiln_plan_release(s->plan);
    KILN_DELETE(&a, s, kiln_session, 1);
}

kiln_status kiln_session_create(kiln_plan *plan, kiln_executor *executor, const kiln_allocator *allocator,
                                kiln_session **out, kiln_error *error) {
    if (plan == NULL || executor == NULL || out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "kiln_session_create: plan, executor or out is NULL");
    *out = NULL;
    kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln_session *s = KILN_NEW(&a, kiln_session, 1);
    if (s == NULL)
        return out_of_memory(error);
    s->allocator = a;
    s->plan = plan;
    s->executor = executor;
    s->tag = plan->program->tag;
    kiln_plan_retain(plan);
    atomic_init(&s->busy, 0);
    atomic_init(&s->users, 0);
    atomic_init(&s->sequence, 0);
    kiln__fp mode = kiln__enter_fp_mode();
    kiln_status status = create_into(s, error);
    kiln__leave_fp_mode(mode);
    if (status != KILN_OK) {
        destroy(s);
        return status;
    }
    *out = s;
    return KILN_OK;
}

kiln_status kiln__session_refuse_busy(const kiln_session *s, const char *what, kiln_error *error) {
    /* Acquire: pairs with run_done, so that the caller may touch what the run touched. */
    if (atomic_load_explicit(&s->busy, memory_order_acquire) == 0)
        return KILN_OK;
    if (s->executor->table->is_lost(s->executor))
        return KILN_OK; /* what was running goes on in the parent of a fork, and never here */
    return kiln_error_set(error, KILN_ERROR_BUSY, "%s: the session is running; wait for its fence first",
                          what);
}

kiln_status kiln_session_destroy(kiln_session *s, kiln_error *error) {
    if (s == NULL)
        return KILN_OK;
    kiln_status status = kiln__session_refuse_busy(s, "kiln_session_destroy", error);
    if (status != KILN_OK)
        return status;
    destroy(s);
    return KILN_OK;
}

kiln_plan *kiln_session_plan(const kiln_session *s) {
    return s->plan;
}

/* ---- slots ------------------------------------------------------------------------------------------ */

static kiln_status find_slot(const kiln_session *s, kiln_slot slot, bool is_float, kiln_error *error) {
    const kiln_graph *p = s->plan->program;
    if (!kiln__session_knows(s, slot.graph) || slot.id == 0 || slot.id >= s->n_slots)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "unknown slot (id %u): not of this session's plan",
                              slot.id);
    if (p->slots.items[slot.id].is_float != is_float)
        return kiln_error_set(
            error, KILN_ERROR_ARGUMENT, "slot '%s' holds %s", kiln__text(p, p->slots.items[slot.id].name),
            is_float ? "an integer; use kiln_session_set_i64" : "a float; use kiln_session_set_f32");
    return kiln__session_refuse_busy(s, "setting a slot", error);
}

kiln_status kiln_session_set_i64(kiln_session *s, kiln_slot slot, int64_t value, kiln_error *error) {
    kiln_status status = find_slot(s, slot, false, error);
    if (status != KILN_OK)
        return status;
    const kiln__slot *d = &s->plan->program->slots.items[slot.id];
    char sum[KILN__SHAPE_SIZE];
    if (d->n_terms > 0)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "slot '%s' cannot be set: it is computed, as %s; set what it is computed from",
                              kiln__text(s->plan->program, d->name),
                              kiln__sum_text(s->plan->program, slot.id, sum));
    if (value < d->min || value > d->max)
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "slot '%s' cannot be %lld: the plan was baked for %lld to "
                              "%lld",
                              kiln__text(s->plan->program, d->name), (long long)value, (long long)d->min,
                              (long long)d->max);
    if (s->i64[slot.id] != value) {
        s->i64[slot.id] = value;
        s->limits_checked = false;
        kiln__session_apply_slot(s, slot.id);
        compute_slots(s);
    }
    return KILN_OK;
}

kiln_status kiln_session_set_f32(kiln_session *s, kiln_slot slot, float value, kiln_error *error) {
    kiln_status status = find_slot(s, slot, true, error);
    if (status != KILN_OK)
        return status;
    s->f32[slot.id] = value;
    kiln__session_apply_slot(s, slot.id);
    return KILN_OK;
}

int64_t kiln_session_get_i64(const kiln_session *s, kiln_slot slot) {
    bool known = kiln__session_knows(s, slot.graph) && slot.id < s->n_slots;
    return known ? s->i64[slot.id] : 0;
}

float kiln_session_get_f32(const kiln_session *s, kiln_slot slot) {
    bool known = kiln__session_knows(s, slot.graph) && slot.id < s->n_slots;
    return known ? s->f32[slot.id] : 0.0f;
}

/* ---- bindings --------------------------------------------------------------------------------------- */

static kiln_status check_binding(const kiln_session *s, kiln_storage storage, bool state, const void *data,
                                 int64_t size, kiln_error *error) {
    const kiln_graph *p = s->plan->program;
    if (!kiln__session_knows(s, storage.graph) || storage.id == 0 || storage.id >= s->n_storages)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "unknown storage (id %u): not of this session's plan", storage.id);
    const kiln__storage *d = &p->storages.items[storage.id];
    const char *name = KILN__STORAGE_LABEL(p, storage.id);
    if (d->kind == KILN_STORAGE_ARENA)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "an intermediate cannot be bound");
    if ((d->kind == KILN_STORAGE_STATE) != state)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "storage '%s' is of kind %s; use %s", name,
                              kiln__storage_kind_names[d->kind],
                              state ? "kiln_session_bind" : "kiln_session_bind_state");
    if (data != NULL && size < d->size)
        return kiln_error_set(error, KILN_ERROR_BINDING, "storage '%s' needs %lld bytes, got %lld", name,
                              (long long)d->size, (long long)size);
    kiln_status status = data != NULL ? check_align(s, storage.id, data, error) : KILN_OK;
    return status == KILN_OK ? kiln__session_refuse_busy(s, "binding", error) : status;
}

kiln_status kiln_session_bind(kiln_session *s, kiln_storage storage, void *data, int64_t size,
                              kiln_error *error) {
    kiln_status status = check_binding(s, storage, false, data, size, error);
    if (status != KILN_OK)
        return status;
    kiln__binding *b = &s->bindings[storage.id];
    unsigned char *now = data != NULL ? data : b->own;
    b->of_graph = false;
    if (b->data != now) {
        b->data = now;
        s->bindings_checked = false;
        kiln__session_apply_base(s, storage.id, now);
    }
    return KILN_OK;
}

kiln_status kiln_session_bind_const(kiln_session *s, kiln_storage storage, const void *data, int64_t size,
                                    kiln_error *error) {
    const kiln_graph *p = s->plan->program;
    if (data != NULL && kiln__session_knows(s, storage.graph) && storage.id < s->n_storages &&
        p->storages.items[storage.id].kind == KILN_STORAGE_OUTPUT)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "storage '%s' is output: nodes write it, so its bytes cannot be const; use "
                              "kiln_session_bind",
                              KILN__STORAGE_LABEL(p, storage.id));
    return kiln_session_bind(s, storage, (void *)(uintptr_t)data, size, error);
}

kiln_status kiln_session_bind_state(kiln_session *s, kiln_storage storage, kiln_state_buffer *state,
                                    kiln_error *error) {
    kiln_status status =
        check_binding(s, storage, true, state ? state->data : NULL, state ? state->size : 0, error);
    if (status != KILN_OK)
        return status;
    kiln__binding *b = &s->bindings[storage.id];
    b->of_graph = false;
    if (b->state == state)
        return KILN_OK;
    if (state != NULL)
        atomic_fetch_add(&state->bound, 1);
    if (b->state != NULL)
        atomic_fetch_sub(&b->state->bound, 1);
    b->state = state;
    b->data = state != NULL ? state->data : NULL;
    s->bindings_checked = false;
    kiln__session_apply_base(s, storage.id, b->data);
    return KILN_OK;
}

void *kiln_session_data(kiln_session *s, kiln_tensor tensor) {
    const kiln_graph *p = s->plan->program;
    if (!kiln__session_knows(s, tensor.graph) || tensor.id == 0 || tensor.id >= p->tensors.count)
        return NULL;
    const kiln__tensor *t = &p->tensors.items[tensor.id];
    unsigned char *base = s->bindings[t->storage].data;
    return base == NULL ? NULL : base + t->offset;
}
