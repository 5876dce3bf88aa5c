/* The capture style: graphs built anew for every token, and a bounded cache of the plans baked for them. */
#include "kiln_capture.h"
#include "fingerprint.h"
#include "plan.h"

enum { DEFAULT_ENTRIES = 16 };
#define NO_ENTRY UINT32_MAX

typedef struct entry {
    kiln_fingerprint key;
    kiln_plan *plan;
    kiln_session *session;
    int64_t bytes;
    uint64_t used; /* when, in calls of kiln_capture_end */
} entry;

struct kiln_capture {
    kiln_allocator base;     /* the caller's */
    kiln_allocator counting; /* the same, counting into live_bytes */
    int64_t live_bytes;
    kiln_executor *executor;
    kiln_capture_options options;
    kiln_graph *graph;
    entry *entries; /* [options.max_entries] */
    uint32_t n_entries;
    uint64_t clock;
    kiln_capture_counters counters;
    kiln__difference reason;
};

/* ---- the counting allocator: what an entry holds is what its making left allocated ------------------ */

static void *counting_alloc(void *context, size_t size, size_t align) {
    kiln_capture *c = context;
    void *p = c->base.alloc(c->base.context, size, align);
    if (p != NULL)
        c->live_bytes += (int64_t)size;
    return p;
}

static void counting_free(void *context, void *pointer, size_t size) {
    kiln_capture *c = context;
    c->live_bytes -= (int64_t)size;
    c->base.free(c->base.context, pointer, size);
}

/* ---- life ------------------------------------------------------------------------------------------- */

kiln_status kiln_capture_create(kiln_executor *executor, const kiln_capture_options *options,
                                const kiln_allocator *allocator, kiln_capture **out, kiln_error *error) {
    if (executor == NULL || out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_capture_create: executor or out is NULL");
    *out = NULL;
    kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln_capture *c = KILN_NEW(&a, kiln_capture, 1);
    if (c == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "kiln_capture_create: out of memory");
    c->base = a;
    c->counting = (kiln_allocator){c, counting_alloc, counting_free};
    c->executor = executor;
    if (options != NULL)
        c->options = *options;
    if (c->options.max_entries == 0)
        c->options.max_entries = DEFAULT_ENTRIES;
    c->entries = KILN_NEW(&a, entry, c->options.max_entries);
    kiln_status status = c->entries == NULL
                             ? kiln_error_set(error, KILN_ERROR_MEMORY, "kiln_capture_create: out of memory")
                             : kiln_graph_create(&c->counting, &c->graph, error);
    if (status != KILN_OK) {
        (void)kiln_capture_destroy(c, NULL);
        return status;
    }
    *out = c;
    return KILN_OK;
}

static bool is_busy(const entry *e) {
    return atomic_load_explicit(&e->session->busy, memory_order_acquire) != 0;
}

kiln_status kiln_capture_destroy(kiln_capture *c, kiln_error *error) {
    if (c == NULL)
        return KILN_OK;
    for (uint32_t i = 0; i < c->n_entries; i++)
        if (is_busy(&c->entries[i]))
            return kiln_error_set(error, KILN_ERROR_BUSY, "kiln_capture_destroy: a session of it is running");
    for (uint32_t i = 0; i < c->n_entries; i++) {
        (void)kiln_session_destroy(c->entries[i].session, NULL);
        kiln_plan_release(c->entries[i].plan);
    }
    kiln_graph_destroy(c->graph);
    kiln_allocator a = c->base;
    KILN_DELETE(&a, c->entries, entry, c->options.max_entries);
    KILN_DELETE(&a, c, kiln_capture, 1);
    return KILN_OK;
}

/* ---- cache ------------------------------------------------------------------------------------------ */

/* The plan used last is nearly always the one: compared before anything is hashed. */
static entry *find_latest(kiln_capture *c) {
    for (uint32_t i = 0; i < c->n_entries; i++)
        if (c->entries[i].used == c->clock)
            return kiln__graph_equal(c->entries[i].plan->graph, c->graph) ? &c->entries[i] : NULL;
    return NULL;
}

static entry *find(kiln_capture *c, kiln_fingerprint key) {
    for (uint32_t i = 0; i < c->n_entries; i++)
        if (c->entries[i].key.low == key.low && c->entries[i].key.high == key.high &&
            kiln__graph_equal(c->entries[i].plan->graph, c->graph))
            return &c->entries[i];
    return NULL;
}

/* Removes an entry that is not running; the last one takes its place. */
static void drop(kiln_capture *c, entry *e) {
    (void)kiln_session_destroy(e->session, NULL);
    kiln_plan_release(e->plan);
    c->counters.bytes -= e->bytes;
    c->counters.evictions++;
    *e = c->entries[--c->n_entries];
}

/* Removes the entry used longest ago that is not running and not the last one made;
 * false when there is none. */
static bool evict(kiln_capture *c, const entry *keep) {
    entry *oldest = NULL;
    for (uint32_t i = 0; i < c->n_entries; i++) {
        entry *e = &c->entries[i];
        if (e != keep && !is_busy(e) && (oldest == NULL || e->used < oldest->used))
            oldest = e;
    }
    if (oldest == NULL)
        return false;
    drop(c, oldest);
    return true;
}

/* The cached plan with the most equal nodes, the latest used of them, says why nothing matched. */
static void explain(kiln_capture *c) {
    const entry *nearest = NULL;
    size_t most = 0;
    for (uint32_t i = 0; i < c->n_entries; i++) {
        kiln__difference d;
        kiln__graph_compare(c->entries[i].plan->graph, c->graph, false, &d);
        if (nearest == NULL || d.node > most || (d.node == most && c->entries[i].used > nearest->used)) {
            nearest = &c->entries[i];
            most = d.node;
        }
    }
    if (nearest != NULL) {
        kiln__graph_compare(nearest->plan->graph, c->graph, true, &c->reason);
    } else {
        static const char empty[] = "the cache was empty";
        memcpy(c->reason.text, empty, sizeof empty);
    }
}

/* Bakes the graph into a new entry: c->entries[*at]. */
static kiln_status add_entry(kiln_capture *c, kiln_fingerprint key, uint32_t *at, kiln_error *error) {
    if (c->n_entries == c->options.max_entries && !evict(c, NULL))
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "kiln_capture_end: all %u cached plans are running; raise "
                              "max_entries or wait for one",
                              c->n_entries);
    entry e = {.key = key};
    int64_t before = c->live_bytes;
    kiln_status status = kiln_bake(c->graph, &c->options.bake, &e.plan, error);
    if (status == KILN_OK)
        status = kiln_session_create(e.plan, c->executor, &c->counting, &e.session, error);
    if (status == KILN_OK)
        kiln__plan_drop_states(e.plan); /* those of a later graph may be others */
    if (status != KILN_OK) {
        kiln_plan_release(e.plan);
        return status;
    }
    e.bytes = c->live_bytes - before;
    c->counters.bytes += e.bytes;
    *at = c->n_entries++;
    c->entries[*at] = e;
    while (c->options.max_bytes > 0 && c->counters.bytes > c->options.max_bytes && c->n_entries > 1) {
        if (!evict(c, &c->entries[*at]))
            break;
        /* Eviction moves the last entry into the gap: find ours again. */
        for (uint32_t i = 0; i < c->n_entries; i++)
            if (c->entries[i].session == e.session)
                *at = i;
    }
    return KILN_OK;
}

/* Points the session at the data that the graph knows, and away from what an earlier one knew. What the
 * caller bound by hand stays. The graphs are equal, so ids are. */
static kiln_status rebind(kiln_session *session, const kiln_graph *g, kiln_error *error) {
    uint32_t tag = session->plan->program->tag;
    for (uint32_t i = 1; i < g->storages.count; i++) {
        const kiln__storage *s = &g->storages.items[i];
        kiln__binding *b = &session->bindings[i];
        if (s->data == NULL && !b->of_graph)
            continue;
        kiln_storage handle = {i, tag};
        kiln_status status = s->kind == KILN_STORAGE_STATE
                                 ? kiln_session_bind_state(session, handle, s->owner, error)
                                 : kiln_session_bind(session, handle, s->data, s->size, error);
        if (status != KILN_OK)
            return status;
        b->of_graph = s->data != NULL;
    }
    return KILN_OK;
}

/* ---- capture ---------------------------------------------------------------------------------------- */

kiln_graph *kiln_capture_begin(kiln_capture *c) {
    kiln_graph_reset(c->graph);
    return c->graph;
}

/* Finds the graph's plan in the cache: c->entries[*at]; *at is NO_ENTRY when there is none, and then *key is the graph's. */
static kiln_status look_up(kiln_capture *c, kiln_fingerprint *key, uint32_t *at, kiln_error *error) {
    entry *e = find_latest(c);
    *at = NO_ENTRY;
    if (e == NULL) {
        *key = kiln_graph_fingerprint(c->graph);
        e = find(c, *key);
    } else {
        *key = e->key;
    }
    if (e == NULL)
        return KILN_OK;
    /* First of all: nothing of a running session may change, what handles it takes included. */
    kiln_status status = kiln__session_refuse_busy(e->session, "kiln_capture_end", error);
    if (status == KILN_OK)
        status = rebind(e->session, c->graph, error);
    if (status != KILN_OK)
        return status;
    uint32_t x, y;
    if (!e->session->bindings_checked && kiln__session_overlap(e->session, &x, &y)) {
        /* An equal graph, but its data lie over each other as they did not when the plan was baked. */
        static const char why[] = "the graph's data overlap in memory otherwise than when the plan was baked";
        memcpy(c->reason.text, why, sizeof why);
        drop(c, e);
        return KILN_OK;
    }
    *at = (uint32_t)(e - c->entries);
    return KILN_OK;
}

kiln_status kiln_capture_end(kiln_capture *c, kiln_session **session, kiln_error *error) {
    *session = NULL;
    kiln_status status = kiln_graph_check(c->graph, error);
    if (status != KILN_OK)
        return status;
    kiln_fingerprint key;
    uint32_t at;
    c->reason.text[0] = '\0';
    status = look_up(c, &key, &at, error);
    if (status != KILN_OK)
        return status;
    if (at != NO_ENTRY) {
        c->counters.hits++;
    } else {
        c->counters.misses++;
        if (c->reason.text[0] == '\0')
            explain(c);
        status = add_entry(c, key, &at, error);
        if (status != KILN_OK)
            return status;
    }
    /* The graph built now is the baked one's equal: its handles serve for the session too. */
    entry *e = &c->entries[at];
    e->session->tag = c->graph->tag;
    e->used = ++c->clock;
    *session = e->session;
    return KILN_OK;
}

kiln_status kiln_capture_clear(kiln_capture *c, kiln_error *error) {
    for (uint32_t i = 0; i < c->n_entries; i++)
        if (is_busy(&c->entries[i]))
            return kiln_error_set(error, KILN_ERROR_BUSY, "kiln_capture_clear: a session of it is running");
    while (c->n_entries > 0)
        drop(c, &c->entries[0]);
    return KILN_OK;
}

void kiln_capture_get_counters(const kiln_capture *c, kiln_capture_counters *out) {
    *out = c->counters;
    out->entries = c->n_entries;
}

const char *kiln_capture_miss_reason(const kiln_capture *c) {
    return c->reason.text;
}

kiln_status kiln_capture_unbind_state(kiln_capture *c, kiln_state_buffer *state, kiln_error *error) {
    for (uint32_t i = 0; i < c->n_entries; i++) {
        kiln_session *s = c->entries[i].session;
        for (uint32_t id = 1; id < s->n_storages; id++) {
            if (s->bindings[id].state == NULL || s->bindings[id].state != state)
                continue;
            kiln_status status =
                kiln_session_bind_state(s, (kiln_storage){id, s->plan->program->tag}, NULL, error);
            if (status != KILN_OK)
                return status;
        }
    }
    return KILN_OK;
}

/* ---- guard ------------------------------------------------------------------------------------------ */

kiln_status kiln_plan_match(const kiln_plan *plan, const kiln_graph *graph, kiln_error *error) {
    kiln_status status = kiln_graph_check(graph, error);
    if (status != KILN_OK)
        return status;
    kiln__difference d;
    kiln__graph_compare(plan->graph, graph, error != NULL, &d);
    return d.any ? kiln_error_set(error, KILN_ERROR_STALE, "the plan is stale: %s", error ? d.text : "")
                 : KILN_OK;
}

kiln_status kiln_session_rebind(kiln_session *session, const kiln_graph *graph, kiln_error *error) {
    kiln_status status = kiln_plan_match(session->plan, graph, error);
    if (status == KILN_OK)
        status = kiln__session_refuse_busy(session, "kiln_session_rebind", error);
    return status != KILN_OK ? status : rebind(session, graph, error);
}
