/* Profiles: making room for what threads note (sched/profile.h), and making sense of it. */
#include "kiln_profile.h"

#include "checked.h"
#include "json_write.h"
#include "plan.h"

#include <stdlib.h>
#include <string.h>

/* ---- on and off ------------------------------------------------------------------------------------- */

void kiln__profile_free(kiln_session *s) {
    kiln__profile *p = s->tape.profile;
    s->tape.timed &= ~(uint32_t)KILN__TIME_PROFILE;
    s->tape.profile = NULL;
    if (p != NULL)
        s->allocator.free(s->allocator.context, p, p->bytes);
}

/* Entries that a call takes at most. */
enum { PER_CALL = 2 };

/* [profile | lanes | entries of lane 0 | of lane 1 | …]; touched, so that no page is missing when it
 * counts. */
static kiln__profile *profile_new(const kiln_session *s, size_t calls, kiln_error *error) {
    const uint32_t lanes = s->executor->lanes;
    int64_t entries, head, bytes;
    if (calls > INT64_MAX || !kiln__mul((int64_t)calls, PER_CALL * sizeof(kiln__profile_entry), &entries) ||
        !kiln__mul(entries, lanes, &bytes) || !kiln__mul(lanes, (int64_t)sizeof(kiln__profile_lane), &head) ||
        !kiln__add(head, (int64_t)sizeof(kiln__profile), &head) || !kiln__add(bytes, head, &bytes)) {
        kiln_error_set(error, KILN_ERROR_OVERFLOW, "a profile of %zu calls on each of %u thread(s) overflows",
                       calls, (unsigned)lanes);
        return NULL;
    }
    unsigned char *block =
        s->allocator.alloc(s->allocator.context, (size_t)bytes, _Alignof(kiln__profile_lane));
    if (block == NULL) {
        kiln_error_set(error, KILN_ERROR_MEMORY, "out of memory: %lld bytes for a profile", (long long)bytes);
        return NULL;
    }
    memset(block, 0, (size_t)bytes);
    kiln__profile *p = (kiln__profile *)(void *)block;
    p->n_lanes = lanes;
    p->by_clock = !kiln__ticks_steady();
    p->bytes = (size_t)bytes;
    for (uint32_t i = 0; i < lanes; i++) {
        p->lanes[i].entries = (kiln__profile_entry *)(void *)(block + head + i * entries);
        p->lanes[i].capacity = PER_CALL * calls;
    }
    return p;
}

kiln_status kiln_session_profile(kiln_session *s, size_t calls, kiln_error *error) {
    if (s == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_session_profile: session is NULL");
    kiln_status status = kiln__session_refuse_busy(s, "kiln_session_profile", error);
    if (status != KILN_OK)
        return status;
    kiln__profile *p = NULL;
    kiln_error what;
    if (calls > 0 && (p = profile_new(s, calls, &what)) == NULL)
        return kiln_error_set(error, what.status, "%s", what.text);
    kiln__profile_free(s);
    if (p == NULL)
        return KILN_OK;
    p->ns0 = kiln__now_ns();
    p->ticks0 = kiln__ticks(p);
    s->tape.profile = p;
    s->tape.timed |= KILN__TIME_PROFILE;
    return KILN_OK;
}

void kiln_session_profile_thread(const kiln_session *s, uint32_t thread, char *text, size_t size) {
    if (size == 0)
        return;
    text[0] = '\0';
    if (s != NULL && thread < s->executor->lanes)
        s->executor->table->lane_name(s->executor, thread, text, size);
}

/* ---- making sense ----------------------------------------------------------------------------------- */

typedef struct opening {
    uint32_t run, region;
    uint64_t at; /* ticks */
} opening;

typedef struct reader {
    const kiln_session *session;
    const kiln__profile *profile;
    opening *openings; /* by run and region */
    size_t n_openings;
    double ns_per_tick;
} reader;

static int by_region(const void *a, const void *b) {
    const opening *x = a, *y = b;
    if (x->run != y->run)
        return x->run < y->run ? -1 : 1;
    return (x->region > y->region) - (x->region < y->region);
}

static bool is_opening(const kiln__profile_entry *e) {
    return e->kind == KILN__PROFILE_OPEN;
}

static kiln_status reader_open(reader *r, const kiln_session *s, kiln_error *error) {
    const kiln__profile *p = s->tape.profile;
    *r = (reader){.session = s, .profile = p, .ns_per_tick = 1};
    for (uint32_t i = 0; i < p->n_lanes; i++)
        for (size_t k = 0; k < p->lanes[i].n; k++)
            r->n_openings += is_opening(&p->lanes[i].entries[k]);
    /* One more, as there are allocators that do not give 0 bytes. */
    r->openings = s->allocator.alloc(s->allocator.context, (r->n_openings + 1) * sizeof(opening), 16);
    if (r->openings == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "out of memory: %zu bytes to read a profile",
                              (r->n_openings + 1) * sizeof(opening));
    size_t n = 0;
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        uint32_t run = 0;
        for (size_t k = 0; k < p->lanes[i].n; k++) {
            const kiln__profile_entry *e = &p->lanes[i].entries[k];
            if (e->kind == KILN__PROFILE_RUN)
                run = e->value;
            else if (is_opening(e))
                r->openings[n++] = (opening){run, e->index, e->ticks};
        }
    }
    qsort(r->openings, n, sizeof *r->openings, by_region);
    const int64_t ns = kiln__now_ns() - p->ns0;
    const uint64_t ticks = kiln__ticks(p) - p->ticks0;
    if (!p->by_clock && ticks > 0)
        r->ns_per_tick = (double)ns / (double)ticks;
    return KILN_OK;
}

static void reader_close(reader *r) {
    const kiln_allocator *a = &r->session->allocator;
    a->free(a->context, r->openings, (r->n_openings + 1) * sizeof(opening));
}

static int64_t to_ns(const reader *r, uint64_t ticks) {
    return (int64_t)((double)(int64_t)(ticks - r->profile->ticks0) * r->ns_per_tick + 0.5);
}

/* When the region was opened, or `otherwise`: it followed in a serial run, or was the first of kiln_run. */
static uint64_t opened_at(const reader *r, uint32_t run, uint32_t region, uint64_t otherwise) {
    const opening key = {.run = run, .region = region};
    const opening *found =
        r->n_openings > 0 ? bsearch(&key, r->openings, r->n_openings, sizeof key, by_region) : NULL;
    return found != NULL ? found->at : otherwise;
}

static uint32_t region_of(const kiln__tape *tape, uint32_t record) {
    uint32_t low = 0, high = tape->n_regions;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (tape->regions[middle].first <= record)
            low = middle;
        else
            high = middle;
    }
    return low;
}

typedef bool visitor(void *context, const kiln_profile_call *call);

/* What the entries of a lane say so far. */
typedef struct lane_state {
    uint32_t run;
    uint64_t start; /* ticks: of the next call, if it follows the last entry */
    int64_t tile;   /* that it begins with, if it is one of `record` (any, behind a beginning) */
    int64_t record; /* of the last call; -1 behind a beginning */
    uint64_t end;   /* ticks: of the last call of this run; 0: there was none */
} lane_state;

static kiln_profile_call make_call(const reader *r, uint32_t lane, const lane_state *state,
                                   const kiln__profile_entry *e, char label[KILN__LABEL_SIZE]) {
    const kiln__tape *tape = &r->session->tape;
    const kiln__record *record = &tape->records[e->index];
    const bool follows = state->record >= 0 && state->record != e->index;
    kiln_profile_call call = {.run = state->run,
                              .thread = lane,
                              .record = e->index,
                              .region = region_of(tape, e->index),
                              .node = kiln__node_label(r->session->plan->program, record->node, label),
                              .op = record->op->name,
                              .first_tile = follows ? 0 : state->tile,
                              .tiles = e->value,
                              .start_ns = to_ns(r, state->start),
                              .end_ns = to_ns(r, e->ticks)};
    const uint64_t opened =
        opened_at(r, state->run, call.region, state->end != 0 ? state->end : state->start);
    const uint64_t since = state->end != 0 ? state->end : opened;
    const uint64_t ready = opened > since ? opened : since;
    call.barrier_ns = to_ns(r, ready) - to_ns(r, since);
    call.wait_ns = state->start > ready ? call.start_ns - to_ns(r, ready) : 0;
    return call;
}

static bool read_lane(const reader *r, uint32_t lane, visitor *visit, void *context) {
    const kiln__profile_lane *l = &r->profile->lanes[lane];
    lane_state state = {0};
    for (size_t k = 0; k < l->n; k++) {
        const kiln__profile_entry *e = &l->entries[k];
        char label[KILN__LABEL_SIZE];
        switch ((kiln__profile_kind)e->kind) {
        case KILN__PROFILE_RUN:
            state = (lane_state){.run = e->value};
            break;
        case KILN__PROFILE_OPEN:
            break;
        case KILN__PROFILE_BEGIN:
            state.start = e->ticks;
            state.tile = e->value;
            state.record = -1;
            break;
        case KILN__PROFILE_CALL: {
            const kiln_profile_call call = make_call(r, lane, &state, e, label);
            if (!visit(context, &call))
                return false;
            state.start = state.end = e->ticks;
            state.tile = call.first_tile + call.tiles;
            state.record = e->index;
            break;
        }
        }
    }
    return true;
}

static kiln_status check(const kiln_session *s, bool complete, const char *what, kiln_error *error) {
    if (s == NULL || !complete)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "%s: an argument is NULL", what);
    kiln_status status = kiln__session_refuse_busy(s, what, error);
    if (status == KILN_OK && s->tape.profile == NULL)
        status = kiln_error_set(error, KILN_ERROR_ARGUMENT,
                                "%s: the session is not profiled; call kiln_session_profile first", what);
    return status;
}

kiln_status kiln_session_profile_read(const kiln_session *s, visitor *visit, void *context, uint64_t *dropped,
                                      kiln_error *error) {
    reader r;
    kiln_status status = check(s, visit != NULL, "kiln_session_profile_read", error);
    if (status != KILN_OK)
        return status;
    status = reader_open(&r, s, error);
    if (status != KILN_OK)
        return status;
    uint64_t lost = 0;
    for (uint32_t i = 0; i < r.profile->n_lanes && status == KILN_OK; i++) {
        lost += r.profile->lanes[i].dropped;
        if (!read_lane(&r, i, visit, context))
            status = kiln_error_set(error, KILN_ERROR_CANCELLED, "the visitor ended the reading");
    }
    reader_close(&r);
    if (dropped != NULL)
        *dropped = lost;
    return status;
}

/* ---- the trace -------------------------------------------------------------------------------------- */

/* A slice: "X" is a complete event, with its beginning and length in microseconds. Viewers add the two as
 * doubles, and the sum is often one rounding after the beginning of the next slice, which they then take to
 * lie within this one. So that slices that touch stay apart, each ends 1 ns earlier, which is more than the
 * rounding of any time below a month. */
static void begin_slice(kiln__json_writer *w, const char *name, const char *category, uint32_t thread,
                        int64_t start_ns, int64_t ns) {
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    kiln__json_key(w, "ph");
    kiln__json_put_cstring(w, "X");
    kiln__json_key(w, "pid");
    kiln__json_put_u64(w, 1);
    kiln__json_key(w, "tid");
    kiln__json_put_u64(w, thread);
    kiln__json_key(w, "name");
    kiln__json_put_cstring(w, name);
    kiln__json_key(w, "cat");
    kiln__json_put_cstring(w, category);
    kiln__json_key(w, "ts");
    kiln__json_put_f64(w, (double)start_ns / 1e3);
    kiln__json_key(w, "dur");
    kiln__json_put_f64(w, (double)(ns > 0 ? ns - 1 : 0) / 1e3);
}

static bool put_call(void *context, const kiln_profile_call *call) {
    kiln__json_writer *w = context;
    const int64_t ready = call->start_ns - call->wait_ns;
    if (call->barrier_ns > 0) {
        begin_slice(w, "barrier", "barrier", call->thread, ready - call->barrier_ns, call->barrier_ns);
        kiln__json_end(w);
    }
    if (call->wait_ns > 0) {
        begin_slice(w, "wait", "wait", call->thread, ready, call->wait_ns);
        kiln__json_end(w);
    }
    begin_slice(w, call->node, call->op, call->thread, call->start_ns, call->end_ns - call->start_ns);
    kiln__json_key(w, "args");
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    const struct {
        const char *key;
        int64_t value;
    } rows[] = {{"run", call->run},
                {"record", call->record},
                {"region", call->region},
                {"first_tile", call->first_tile},
                {"tiles", call->tiles}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln__json_key(w, rows[i].key);
        kiln__json_put_i64(w, rows[i].value);
    }
    kiln__json_end(w);
    kiln__json_end(w);
    return true;
}

/* "M" is metadata: here, what a row is called. */
static void put_thread(kiln__json_writer *w, const kiln_session *s, uint32_t thread) {
    char name[64];
    kiln_session_profile_thread(s, thread, name, sizeof name);
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    kiln__json_key(w, "ph");
    kiln__json_put_cstring(w, "M");
    kiln__json_key(w, "pid");
    kiln__json_put_u64(w, 1);
    kiln__json_key(w, "tid");
    kiln__json_put_u64(w, thread);
    kiln__json_key(w, "name");
    kiln__json_put_cstring(w, "thread_name");
    kiln__json_key(w, "args");
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    kiln__json_key(w, "name");
    kiln__json_put_cstring(w, name);
    kiln__json_end(w);
    kiln__json_end(w);
}

kiln_status kiln_session_profile_trace(const kiln_session *s, const kiln_json_options *options,
                                       kiln_json_text *out, kiln_error *error) {
    if (out != NULL)
        memset(out, 0, sizeof *out);
    kiln_status status = check(s, out != NULL, "kiln_session_profile_trace", error);
    if (status != KILN_OK)
        return status;
    kiln__json_writer w;
    uint64_t dropped = 0;
    kiln__json_writer_init(&w, options ? &options->allocator : NULL, options && options->compact);
    kiln__json_begin_object(&w, KILN_JSON_LINES);
    kiln__json_key(&w, "displayTimeUnit");
    kiln__json_put_cstring(&w, "ns");
    kiln__json_key(&w, "traceEvents");
    kiln__json_begin_array(&w, KILN_JSON_LINES);
    for (uint32_t i = 0; i < s->executor->lanes; i++)
        put_thread(&w, s, i);
    status = kiln_session_profile_read(s, put_call, &w, &dropped, error);
    kiln__json_end(&w);
    kiln__json_key(&w, "otherData");
    kiln__json_begin_object(&w, KILN_JSON_INLINE);
    kiln__json_key(&w, "format");
    kiln__json_put_cstring(&w, "kiln.trace");
    kiln__json_key(&w, "version");
    kiln__json_put_u64(&w, 1);
    kiln__json_key(&w, "dropped");
    kiln__json_put_u64(&w, dropped);
    kiln__json_end(&w);
    kiln__json_end(&w);
    kiln_status written = kiln__json_writer_finish(&w, out, error);
    status = status != KILN_OK ? status : written;
    if (status != KILN_OK)
        kiln_json_text_free(out);
    return status;
}
