/* Warming a session up: its own records are run on its own arena by its own executor, so that everything the first
 * run would pay for is paid, and nothing that the caller can see is written.
 *
 * What a run writes outside the arena is outputs and states. For the runs here, operands in an output lie in a copy,
 * all of them, since nothing is read of an output that was not written before. A state may be gigabytes of which a
 * run reads and writes little; so no copy of its contents is made: a node that writes to a state gets its operands in
 * that state moved to a copy that nobody has filled, all others read the state itself. Only where one node both reads
 * and writes a state must the copy hold something, and is zeroed. (A sibling session would need an arena, records and
 * scratch of its own, and warm those.)
 *
 * Whatever a run leaves behind in the session (outcome, times of records, what is a fence's submission) is put back.
 */
#include "plan.h"
#include "fp_mode.h"
#include "sync.h"

enum { RUNS = 8, KEPT = 32, PAGE = 4096 };
#define MAX_NS INT64_C(1000000000)

/* Of one storage: where its copy lies. */
typedef struct copy {
    unsigned char *data; /* NULL: it has none */
    bool zeroed;
} copy;

typedef struct warmer {
    kiln_session *session;
    kiln_warm_options options; /* defaults filled in */
    copy *copies;              /* [n_storages] */
    unsigned char *memory;     /* of all copies */
    size_t size;
    kiln_warm_report report;
} warmer;

/* ---- copies ----------------------------------------------------------------------------------------- */

static bool is_copied(const kiln_session *s, uint32_t storage) {
    kiln_storage_kind kind = s->plan->program->storages.items[storage].kind;
    return (kind == KILN_STORAGE_OUTPUT || kind == KILN_STORAGE_STATE) && s->plan->uses[storage].written;
}

/* Makes room for the copies, and leaves it as the allocator gave it. */
static kiln_status make_copies(warmer *w, kiln_error *error) {
    kiln_session *s = w->session;
    const kiln__storage *storages = s->plan->program->storages.items;
    int64_t size = 0;
    w->copies = KILN_NEW(&s->allocator, copy, s->n_storages);
    if (w->copies == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "kiln_session_warm: out of memory");
    for (uint32_t i = 1; i < s->n_storages; i++)
        if (is_copied(s, i) &&
            (!kiln__add(size, storages[i].size, &size) || !kiln__align_up(size, 128, &size)))
            return kiln_error_set(error, KILN_ERROR_OVERFLOW,
                                  "kiln_session_warm: outputs and states do not fit 63 bits");
    if (size == 0)
        return KILN_OK;
    w->memory = s->allocator.alloc(s->allocator.context, (size_t)size, 128);
    if (w->memory == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY,
                              "kiln_session_warm: %lld bytes in place of outputs and states: out of memory",
                              (long long)size);
    w->size = (size_t)size;
    size = 0;
    for (uint32_t i = 1; i < s->n_storages; i++)
        if (is_copied(s, i)) {
            w->copies[i].data = w->memory + size;
            size += (storages[i].size + 127) & ~INT64_C(127); /* fits: added up before */
        }
    return KILN_OK;
}

static void free_copies(warmer *w) {
    const kiln_allocator *a = &w->session->allocator;
    if (w->memory != NULL)
        a->free(a->context, w->memory, w->size);
    KILN_DELETE(a, w->copies, copy, w->session->n_storages);
}

/* Moves a record's operands in a state that it writes to the copy. */
static void move_operands(warmer *w, const kiln__record *record, uint32_t state) {
    const kiln_graph *p = w->session->plan->program;
    const kiln__node *n = &p->nodes.items[record->node];
    const kiln__hazards *h = &w->session->plan->hazards;
    copy *c = &w->copies[state];
    for (uint32_t k = 0; k < n->n_in + n->n_out; k++) {
        uint32_t tensor = p->operands.items[n->operands + k];
        const kiln__tensor *t = &p->tensors.items[tensor];
        kiln_operand *o = k < n->n_in ? &record->args.in[k] : &record->args.out[k - n->n_in];
        if (tensor != 0 && t->storage == state)
            o->data = c->data + t->offset;
    }
    for (size_t i = h->first_access[record->node]; i < h->first_access[record->node + 1]; i++) {
        const kiln__access *a = &h->list.items[i];
        if (a->storage == state && (a->mode & KILN_READ) && !c->zeroed) {
            memset(c->data, 0, (size_t)p->storages.items[state].size);
            c->zeroed = true;
        }
    }
}

static void use_copies(warmer *w) {
    kiln_session *s = w->session;
    const kiln__hazards *h = &s->plan->hazards;
    const kiln__storage *storages = s->plan->program->storages.items;
    for (uint32_t i = 1; i < s->n_storages; i++)
        if (w->copies[i].data != NULL && storages[i].kind == KILN_STORAGE_OUTPUT)
            kiln__session_apply_base(s, i, w->copies[i].data);
    for (uint32_t r = 0; r < s->tape.n_records; r++) {
        uint32_t node = s->tape.records[r].node;
        for (size_t i = h->first_access[node]; i < h->first_access[node + 1]; i++) {
            const kiln__access *a = &h->list.items[i];
            if ((a->mode & KILN_WRITE) && storages[a->storage].kind == KILN_STORAGE_STATE)
                move_operands(w, &s->tape.records[r], a->storage);
        }
    }
}

static void use_bound(kiln_session *s) {
    for (uint32_t i = 1; i < s->n_storages; i++)
        if (is_copied(s, i))
            kiln__session_apply_base(s, i, s->bindings[i].data);
}

/* ---- runs ------------------------------------------------------------------------------------------- */

/* Does some node not say what it touches? */
static bool is_opaque(const kiln_plan *plan) {
    for (size_t i = 0; i < plan->hazards.list.count; i++)
        if (plan->hazards.list.items[i].operand == KILN__OPERAND_ANY)
            return true;
    return false;
}

static int64_t median(int64_t *times, uint32_t n) {
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k > 0 && times[k - 1] > times[k]; k--) {
            int64_t t = times[k];
            times[k] = times[k - 1];
            times[k - 1] = t;
        }
    return times[(n - 1) / 2] + (times[n / 2] - times[(n - 1) / 2]) / 2;
}

static kiln_status run_often(warmer *w, kiln_error *error) {
    kiln_session *s = w->session;
    const kiln__executor_table *x = s->executor->table;
    int64_t times[KEPT], last[KEPT], start = kiln__now_ns(), now = start;
    uint32_t n = 0;
    while (n < w->options.runs && (n == 0 || now - start < w->options.max_ns)) {
        int64_t began = kiln__now_ns();
        kiln_status status = x->run(s->executor, &s->run);
        if (status != KILN_OK)
            return kiln__session_refused(s, "kiln_session_warm", status, error);
        now = kiln__now_ns();
        status = s->run.outcome.status;
        if (status != KILN_OK && status != KILN_ERROR_INDEX)
            return kiln__session_outcome(s, error);
        times[n % KEPT] = now - began;
        w->report.first_ns = n == 0 ? now - began : w->report.first_ns;
        n++;
    }
    uint32_t kept = n / 2 < KEPT ? n / 2 : KEPT;
    for (uint32_t i = 0; i < kept; i++)
        last[i] = times[(n - 1 - i) % KEPT];
    w->report.steady_ns = kept > 0 ? median(last, kept) : 0;
    w->report.runs = n;
    return KILN_OK;
}

static kiln_status run_on_copies(warmer *w, kiln_error *error) {
    static const kiln__run_hooks none = {NULL,
                                         NULL}; /* no observer is called, and nothing ends the submission */
    kiln_session *s = w->session;
    kiln_status status = make_copies(w, error);
    if (status == KILN_OK) {
        const kiln__run_hooks *hooks = s->run.hooks;
        const uint32_t timed = s->tape.timed;
        const kiln__outcome outcome = s->run.outcome;
        s->run.hooks = &none;
        s->tape.timed = 0;
        use_copies(w);
        status = run_often(w, error);
        use_bound(s);
        s->run.hooks = hooks;
        s->tape.timed = timed;
        s->run.outcome = outcome;
    }
    free_copies(w);
    return status;
}

/* ---- weights ---------------------------------------------------------------------------------------- */

static void touch_weights(warmer *w) {
    const kiln_session *s = w->session;
    const kiln__storage *storages = s->plan->program->storages.items;
    int64_t start = kiln__now_ns();
    for (uint32_t i = 1; i < s->n_storages; i++) {
        const volatile unsigned char *data =
            s->bindings[i].data; /* volatile: reads that nobody needs are made */
        if (storages[i].kind != KILN_STORAGE_WEIGHT || !s->plan->uses[i].read || storages[i].size == 0)
            continue;
        for (int64_t at = 0; at < storages[i].size; at += PAGE)
            (void)data[at];
        (void)data[storages[i].size - 1];      /* it need not begin with a page */
        w->report.touched += storages[i].size; /* fits: they are bytes in memory */
    }
    w->report.touch_ns = kiln__now_ns() - start;
}

/* ---- both ------------------------------------------------------------------------------------------- */

kiln_status kiln_session_warm(kiln_session *s, const kiln_warm_options *options, kiln_warm_report *report,
                              kiln_error *error) {
    warmer w = {.session = s, .options = options != NULL ? *options : (kiln_warm_options){0}};
    kiln_fence fence;
    if (report != NULL)
        *report = (kiln_warm_report){0};
    if (s == NULL || w.options.max_ns < 0)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "kiln_session_warm: session is NULL, or max_ns is negative");
    w.options.runs = w.options.runs > 0 ? w.options.runs : RUNS;
    w.options.max_ns = w.options.max_ns > 0 ? w.options.max_ns : MAX_NS;
    kiln_status status = kiln__session_begin(s, "kiln_session_warm", true, &fence, error);
    if (status != KILN_OK)
        return status;
    kiln__fp mode = kiln__enter_fp_mode();
    if (!w.options.no_runs && !is_opaque(s->plan))
        status = run_on_copies(&w, error);
    if (status == KILN_OK && !w.options.no_touch)
        touch_weights(&w);
    kiln__leave_fp_mode(mode);
    /* The submission before is the last one again: nobody was given a fence of this one. Sequentially consistent, as
     * all that is done with the number: who finds it sees the outcome put back. */
    atomic_store(&s->sequence, fence.sequence - 1);
    kiln__session_end(s, true);
    if (status == KILN_OK && report != NULL)
        *report = w.report;
    return status;
}
