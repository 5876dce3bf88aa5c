/* Writing a plan as JSON. Reading one back and holding it against a fresh one is in plan_check_json.c. */
#include "kiln_plan_json.h"
#include "graph_json.h"
#include "kiln_capture.h"
#include "plan.h"
#include "plan_json.h"

#include <stdio.h>

const char *const kiln__precision_names[2] = {"fast", "exact"};

const kiln__bit_name kiln__fusion_bits[] = {
    {KILN_FUSE_SOFTMAX_TOPK, "softmax_topk"},
    {KILN_FUSE_NORM_WEIGHT, "norm_weight"},
    {KILN_FUSE_ADD_NORM, "add_norm"},
    {KILN_FUSE_QUANTIZE, "quantize"},
    {KILN_FUSE_SUM_RESIDUAL, "sum_residual"},
    {KILN_FUSE_ROPE_APPEND, "rope_append"},
    {0, NULL},
};

const kiln__bit_name kiln__watch_bits[] = {
    {KILN_WATCH_VALUES, "values"},
    {KILN_WATCH_FINITE, "finite"},
    {KILN_WATCH_HASH, "hash"},
    {KILN_WATCH_TIME, "time"},
    {0, NULL},
};

/* ---- small pieces ----------------------------------------------------------------------------------- */

static void put_u64(kiln__json_writer *w, const char *key, uint64_t value) {
    kiln__json_key(w, key);
    kiln__json_put_u64(w, value);
}

static void put_i64(kiln__json_writer *w, const char *key, int64_t value) {
    kiln__json_key(w, key);
    kiln__json_put_i64(w, value);
}

static void put_text(kiln__json_writer *w, const char *key, const char *value) {
    kiln__json_key(w, key);
    kiln__json_put_cstring(w, value);
}

static void put_bool(kiln__json_writer *w, const char *key, bool value) {
    kiln__json_key(w, key);
    kiln__json_put_bool(w, value);
}

static void begin_list(kiln__json_writer *w, const char *key, kiln__json_layout layout) {
    kiln__json_key(w, key);
    kiln__json_begin_array(w, layout);
}

static void put_bits(kiln__json_writer *w, const char *key, const kiln__bit_name *names, uint32_t bits) {
    begin_list(w, key, KILN_JSON_INLINE);
    for (; names->name != NULL; names++)
        if (bits & names->bit)
            kiln__json_put_cstring(w, names->name);
    kiln__json_end(w);
}

/* ---- parts ------------------------------------------------------------------------------------------ */

static void put_options(kiln__json_writer *w, const kiln_plan *plan) {
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    put_text(w, "precision", kiln__precision_names[plan->options.precision]);
    put_bits(w, "no_fuse", kiln__fusion_bits, plan->options.no_fuse);
    put_bool(w, "no_reuse", plan->options.no_reuse);
    put_bool(w, "no_inplace", plan->options.no_inplace);
    put_bool(w, "serial", plan->options.serial);
    put_i64(w, "max_arena", plan->options.max_arena);
    begin_list(w, "taps", KILN_JSON_INLINE);
    for (size_t i = 0; i < plan->taps.count; i++) {
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        put_text(w, "tensor", plan->taps.items[i].label);
        put_bits(w, "watch", kiln__watch_bits, plan->taps.items[i].watch);
        kiln__json_end(w);
    }
    kiln__json_end(w);
    kiln__json_end(w);
}

static void put_summary(kiln__json_writer *w, const kiln_plan *plan) {
    kiln_plan_summary s;
    kiln_plan_get_summary(plan, &s);
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    put_u64(w, "nodes", s.nodes);
    put_u64(w, "records", s.records);
    put_u64(w, "regions", s.regions);
    put_u64(w, "barriers", s.barriers);
    put_u64(w, "barriers_avoided", s.barriers_avoided);
    put_u64(w, "longest_chain", s.longest_chain);
    put_u64(w, "fusions", s.fusions);
    put_u64(w, "inplace", s.inplace);
    put_i64(w, "arena_bytes", s.arena_bytes);
    put_i64(w, "sum_bytes", s.sum_bytes);
    put_i64(w, "lower_bound", s.lower_bound);
    put_i64(w, "io_bytes", s.io_bytes);
    kiln__json_end(w);
}

static void put_fusions(kiln__json_writer *w, const kiln_plan *plan) {
    begin_list(w, "fusions", KILN_JSON_LINES);
    for (size_t i = 0; i < plan->rewrites.count; i++) {
        const kiln__fusion *f = &plan->rewrites.items[i];
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        put_text(w, "rule", f->rule);
        put_u64(w, "node", f->node);
        begin_list(w, "from", KILN_JSON_INLINE);
        for (uint32_t j = 0; j < f->n_from; j++)
            kiln__json_put_u64(w, f->from[j]);
        kiln__json_end(w);
        kiln__json_end(w);
    }
    kiln__json_end(w);
    /* For each node of the program, the node of the graph it comes from;
     * null for those that lowering added. */
    begin_list(w, "origin", KILN_JSON_INLINE);
    for (size_t i = 0; i < plan->program->nodes.count; i++)
        if (plan->program->nodes.items[i].origin == 0)
            kiln__json_put_null(w);
        else
            kiln__json_put_u64(w, plan->program->nodes.items[i].origin - 1);
    kiln__json_end(w);
}

static void put_regions(kiln__json_writer *w, const kiln__schedule *s) {
    begin_list(w, "regions", KILN_JSON_LINES);
    for (uint32_t r = 0; r < s->n_regions; r++) {
        kiln__json_begin_array(w, KILN_JSON_INLINE);
        for (uint32_t i = s->region_first[r]; i < s->region_first[r + 1]; i++)
            kiln__json_put_u64(w, s->order[i]);
        kiln__json_end(w);
    }
    kiln__json_end(w);
}

/* Levels that are not used are left out. */
static void put_box(kiln__json_writer *w, const kiln_box *box) {
    put_i64(w, "offset", box->offset);
    put_i64(w, "length", box->length);
    bool levels = false;
    for (int l = 0; l < KILN_BOX_LEVELS; l++)
        levels = levels || box->count[l] != 1;
    if (!levels)
        return;
    begin_list(w, "count", KILN_JSON_INLINE);
    for (int l = 0; l < KILN_BOX_LEVELS; l++)
        if (box->count[l] != 1)
            kiln__json_put_i64(w, box->count[l]);
    kiln__json_end(w);
    begin_list(w, "stride", KILN_JSON_INLINE);
    for (int l = 0; l < KILN_BOX_LEVELS; l++)
        if (box->count[l] != 1)
            kiln__json_put_i64(w, box->stride[l]);
    kiln__json_end(w);
}

static void put_access(kiln__json_writer *w, const kiln_graph *p, const kiln_access_list *list,
                       const kiln__access *a) {
    static const char *const modes[] = {"", "read", "write", "read_write"};
    const kiln__node *n = &p->nodes.items[a->node];
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    put_u64(w, "node", a->node);
    put_text(w, "mode", modes[a->mode]);
    if (a->operand == KILN__OPERAND_ANY) {
        put_text(w, "operand", "all memory");
    } else {
        put_text(w, "operand",
                 a->operand < n->n_in
                     ? n->op->in_names[a->operand < n->op->n_in_max ? a->operand : n->op->n_in_max - 1]
                     : n->op->out_names[a->operand - n->n_in]);
        put_u64(w, "tensor", p->operands.items[n->operands + a->operand]);
        put_u64(w, "storage", a->storage);
        kiln_box box = kiln__access_box(list, a);
        put_box(w, &box);
    }
    kiln__json_end(w);
}

static void put_accesses(kiln__json_writer *w, const kiln_plan *plan) {
    begin_list(w, "accesses", KILN_JSON_LINES);
    for (size_t i = 0; i < plan->hazards.list.count; i++)
        put_access(w, plan->program, &plan->hazards.list, &plan->hazards.list.items[i]);
    kiln__json_end(w);
}

/* A hazard by the indices of its two accesses, which hold node, storage and box. */
static void put_hazard(kiln__json_writer *w, const kiln__hazard *h) {
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    put_text(w, "kind", kiln__hazard_kind_names[h->kind]);
    put_u64(w, "from", h->from);
    put_u64(w, "to", h->to);
    put_u64(w, "from_access", h->from_access);
    put_u64(w, "to_access", h->to_access);
    kiln__json_end(w);
}

static void put_barriers(kiln__json_writer *w, const kiln_plan *plan) {
    const kiln__schedule *s = &plan->schedule;
    begin_list(w, "barriers", KILN_JSON_LINES);
    for (uint32_t b = 0; b < s->n_barriers; b++) {
        const kiln__barrier *barrier = &s->barriers[b];
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        put_u64(w, "after_region", b);
        put_text(w, "cause", kiln__barrier_cause_names[barrier->cause]);
        put_u64(w, "crossing", barrier->n_crossing);
        begin_list(w, "hazards", KILN_JSON_INLINE);
        for (size_t i = 0; i < barrier->n; i++)
            put_hazard(w, &plan->hazards.items[s->barrier_hazards[barrier->first + i]]);
        kiln__json_end(w);
        kiln__json_end(w);
    }
    kiln__json_end(w);
}

static void put_arena(kiln__json_writer *w, const kiln_plan *plan) {
    const kiln__memory *m = &plan->schedule.memory;
    kiln__json_key(w, "arena");
    kiln__json_begin_object(w, KILN_JSON_LINES);
    put_i64(w, "bytes", m->arena_bytes);
    put_i64(w, "sum", m->sum_bytes);
    put_i64(w, "lower_bound", m->lower_bound);
    put_i64(w, "align", m->align);
    begin_list(w, "places", KILN_JSON_LINES);
    for (uint32_t i = 1; i < m->n_storages; i++) {
        const kiln__place *place = &m->places[i];
        const kiln__storage *s = &plan->program->storages.items[i];
        if (s->kind != KILN_STORAGE_ARENA || place->first == KILN__NEVER)
            continue;
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        put_u64(w, "storage", i);
        put_i64(w, "offset", place->offset);
        put_i64(w, "size", s->size);
        put_u64(w, "first_region", place->first);
        put_u64(w, "last_region", place->last);
        if (place->host != 0)
            put_u64(w, "in_place_of", place->host);
        kiln__json_end(w);
    }
    kiln__json_end(w);
    kiln__json_end(w);
}

/* Which nodes follow which slots, by shape or attribute: nodes[first[slot] … first[slot + 1]-1], ascending. */
typedef struct followers {
    size_t *first;   /* [n_slots + 2] */
    uint32_t *seen;  /* [n_slots + 1]: 1 + the last node noted */
    uint32_t *nodes; /* NULL while counting */
} followers;

static void note_slot(followers *f, uint32_t slot, uint32_t node) {
    if (slot == 0 || f->seen[slot] == node + 1)
        return;
    f->seen[slot] = node + 1;
    if (f->nodes == NULL)
        f->first[slot + 1]++;
    else
        f->nodes[f->first[slot]++] = node;
}

static void note_node(followers *f, const kiln_graph *p, uint32_t node) {
    const kiln__node *n = &p->nodes.items[node];
    for (uint32_t i = 0; i < n->n_in + n->n_out; i++) {
        const kiln_desc *desc = kiln__desc_of(p, &p->tensors.items[p->operands.items[n->operands + i]]);
        for (uint32_t d = 0; d < desc->ndim; d++)
            note_slot(f, desc->dims[d].slot, node);
    }
    const unsigned char *attrs = kiln__node_attrs(p, n);
    for (uint32_t i = 0; i < n->op->n_attrs; i++) {
        const void *at = attrs + n->op->attrs[i].offset;
        if (n->op->attrs[i].type == KILN_ATTR_I64_SLOT)
            note_slot(f, ((const kiln_i64_value *)at)->slot, node);
        if (n->op->attrs[i].type == KILN_ATTR_F32_SLOT)
            note_slot(f, ((const kiln_f32_value *)at)->slot, node);
    }
}

static void put_followers(kiln__json_writer *w, const kiln_graph *p, followers *f) {
    begin_list(w, "slots", KILN_JSON_LINES);
    for (uint32_t slot = 1; slot < p->slots.count; slot++) {
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        put_text(w, "name", kiln__text(p, p->slots.items[slot].name));
        begin_list(w, "nodes", KILN_JSON_INLINE);
        /* Filling moved each first to where the next group begins. */
        for (size_t i = f->first[slot - 1]; i < f->first[slot]; i++)
            kiln__json_put_u64(w, f->nodes[i]);
        kiln__json_end(w);
        kiln__json_end(w);
    }
    kiln__json_end(w);
}

static kiln_status put_slots(kiln__json_writer *w, const kiln_graph *p, const kiln_allocator *a,
                             kiln_error *error) {
    size_t n = p->slots.count, total = 0;
    followers f = {KILN_NEW(a, size_t, n + 2), KILN_NEW(a, uint32_t, n + 1), NULL};
    uint32_t *nodes = NULL;
    kiln_status status = KILN_OK;
    if (f.first != NULL && f.seen != NULL) {
        for (uint32_t i = 0; i < p->nodes.count; i++)
            note_node(&f, p, i);
        for (size_t i = 0; i < n; i++)
            f.first[i + 1] += f.first[i];
        total = f.first[n];
        nodes = KILN_NEW(a, uint32_t, total);
        memset(f.seen, 0, (n + 1) * sizeof *f.seen);
    }
    f.nodes = nodes;
    if (nodes != NULL) {
        for (uint32_t i = 0; i < p->nodes.count; i++)
            note_node(&f, p, i);
        put_followers(w, p, &f);
    } else {
        status = kiln_error_set(error, KILN_ERROR_MEMORY, "dumping a plan: out of memory");
    }
    KILN_DELETE(a, nodes, uint32_t, total);
    KILN_DELETE(a, f.seen, uint32_t, n + 1);
    KILN_DELETE(a, f.first, size_t, n + 2);
    return status;
}

kiln_status kiln__plan_put_json(kiln__json_writer *w, const kiln_plan *plan, kiln_error *error) {
    kiln__json_begin_object(w, KILN_JSON_LINES);
    kiln_fingerprint key = kiln_graph_fingerprint(plan->graph);
    char hex[33];
    snprintf(hex, sizeof hex, "%016llx%016llx", (unsigned long long)key.high, (unsigned long long)key.low);
    put_text(w, "fingerprint", hex);
    kiln__json_key(w, "summary");
    put_summary(w, plan);
    kiln__json_key(w, "program");
    kiln_status status = kiln__graph_put_json(w, plan->program, error);
    put_fusions(w, plan);
    put_regions(w, &plan->schedule);
    put_accesses(w, plan);
    put_barriers(w, plan);
    begin_list(w, "inplace", KILN_JSON_LINES);
    for (uint32_t i = 0; i < plan->schedule.memory.n_inplace; i++) {
        const kiln__inplace_use *use = &plan->schedule.memory.inplace[i];
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        put_u64(w, "node", use->node);
        put_u64(w, "out", use->out);
        put_u64(w, "in", use->in);
        kiln__json_end(w);
    }
    kiln__json_end(w);
    put_arena(w, plan);
    if (status == KILN_OK)
        status = put_slots(w, plan->program, &plan->allocator, error);
    kiln__json_end(w);
    return status;
}

static void put_session_regions(kiln__json_writer *w, const kiln_session *s) {
    begin_list(w, "regions", KILN_JSON_LINES);
    for (uint32_t i = 0; i < s->tape.n_regions; i++) {
        const kiln__region_info r = kiln__session_region(s, i);
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        put_text(w, "threads", r.shared ? "shared" : "one");
        put_i64(w, "tiles", r.tiles);
        put_i64(w, "estimate_ns", r.estimate);
        if (r.shared)
            put_u64(w, "grain", r.grain);
        if (r.wakes > 0)
            put_u64(w, "wakes", r.wakes);
        if (r.serial_regions > 0) {
            kiln__json_key(w, "serial_run");
            kiln__json_begin_object(w, KILN_JSON_INLINE);
            put_u64(w, "records", r.serial_records);
            put_u64(w, "regions", r.serial_regions);
            kiln__json_end(w);
        }
        kiln__json_end(w);
    }
    kiln__json_end(w);
}

static void put_session(kiln__json_writer *w, const kiln_session *s) {
    kiln__json_begin_object(w, KILN_JSON_LINES);
    put_text(w, "executor", kiln_executor_name(s->executor));
    put_text(w, "level", kiln_executor_level(s->executor));
    put_u64(w, "threads", kiln_executor_threads(s->executor));
    put_session_regions(w, s);
    begin_list(w, "records", KILN_JSON_LINES);
    for (uint32_t i = 0; i < s->tape.n_records; i++) {
        const kiln__record *r = &s->tape.records[i];
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        put_u64(w, "node", r->node);
        put_text(w, "kernel", ((const kiln_kernel *)r->kernel)->name);
        put_i64(w, "tiles", r->tiles);
        if (s->tape.timed & KILN__TIME_RECORDS)
            put_i64(w, "ns", atomic_load_explicit(&r->ns, memory_order_relaxed));
        kiln__json_end(w);
    }
    kiln__json_end(w);
    kiln__json_end(w);
}

kiln_status kiln_plan_to_json(const kiln_plan *plan, const kiln_session *session,
                              const kiln_json_options *options, kiln_json_text *out, kiln_error *error) {
    if (out != NULL)
        memset(out, 0, sizeof *out);
    if (plan == NULL || out == NULL || (session != NULL && session->plan != plan))
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "kiln_plan_to_json: plan or out is NULL, or the session is of another plan");
    if (session != NULL && atomic_load_explicit(&session->busy, memory_order_acquire) != 0)
        return kiln_error_set(error, KILN_ERROR_BUSY, "kiln_plan_to_json: the session is running");
    kiln__json_writer w;
    kiln__json_writer_init(&w, options ? &options->allocator : NULL, options && options->compact);
    kiln__json_begin_object(&w, KILN_JSON_LINES);
    put_text(&w, "format", "kiln.plan");
    put_i64(&w, "version", kiln__graph_json_version(plan->graph));
    kiln__json_key(&w, "options");
    put_options(&w, plan);
    kiln__json_key(&w, "graph");
    kiln_status status = kiln__graph_put_json(&w, plan->graph, error);
    kiln__json_key(&w, "plan");
    kiln_status plan_status = kiln__plan_put_json(&w, plan, error);
    if (session != NULL) {
        kiln__json_key(&w, "session");
        put_session(&w, session);
    }
    kiln__json_end(&w);
    kiln_status written = kiln__json_writer_finish(&w, out, error);
    status = status != KILN_OK ? status : plan_status != KILN_OK ? plan_status : written;
    if (status != KILN_OK)
        kiln_json_text_free(out);
    return status;
}
