/* The inside of plans and sessions. Internal. */
#ifndef KILN_PLAN_INTERNAL_H
#define KILN_PLAN_INTERNAL_H

#include "kiln_plan.h"
#include "graph.h"
#include "rewrite.h"
#include "schedule.h"
#include "executor.h"

#include <stdatomic.h>

/* ---- plan ------------------------------------------------------------------------------------------- */

/* A tap, resolved: which tensor, after which region. */
typedef struct kiln__tap {
    uint32_t tensor; /* id, the same in graph and program */
    uint32_t watch;  /* KILN_WATCH_* */
    uint32_t named;  /* 1 + index of the option that names it; 0: only patterns match it */
    uint32_t record; /* position in schedule.order of the node that makes it */
    uint32_t region;
    char label[KILN__LABEL_SIZE];
} kiln__tap;

/* What a session must know of a storage. */
typedef struct kiln__storage_use {
    uint32_t align;
    bool read, written;
} kiln__storage_use;

/* A node whose op checks what slots show (kiln_op.check): one for all that are alike. */
typedef struct kiln__limit {
    uint32_t node, record;
    uint32_t first_source; /* its sources end where those of the next limit begin */
} kiln__limit;

/* A node that appends rows to the bytes of an input of a checked one. */
typedef struct kiln__limit_source {
    uint32_t node, record;
    uint32_t operand; /* of the checked node */
    int64_t start;    /* the row of the append that is row 0 of the operand */
    int64_t stride;   /* bytes from row to row */
    bool moves;       /* where it appends, or how much, follows a slot */
} kiln__limit_source;

struct kiln_plan {
    kiln_allocator allocator;
    atomic_uint references;
    kiln_bake_options options; /* taps not kept */
    kiln_graph *graph;         /* as built */
    /* After lowering and fusion, a fork of the graph: ids of slots, storages and tensors are the same. */
    kiln_graph *program;
    kiln__rewrites rewrites;
    kiln__hazards hazards;
    kiln__schedule schedule;
    kiln__storage_use *uses; /* [n_uses], by storage id */
    size_t n_uses;
    bool holds_states; /* the owners of its graph's states count it among their bindings */
    struct {
        kiln__tap *items; /* by region, then record */
        size_t count, capacity;
    } taps;
    struct {
        kiln__limit *items; /* in program order; one more at the end, for its first_source */
        size_t count, capacity;
    } limits;
    struct {
        kiln__limit_source *items;
        size_t count, capacity;
    } limit_sources;
};

/* ---- states ----------------------------------------------------------------------------------------- */

struct kiln_state_buffer {
    kiln_allocator allocator;
    unsigned char *data;
    int64_t size;
    bool owned;
    atomic_uint bound; /* bindings of sessions, and storages of plans */
    atomic_int users;  /* running submissions: n readers, or -1 for one that writes */
    atomic_bool dirty;
};

/* ---- session ---------------------------------------------------------------------------------------- */

/* Where a slot's value goes. */
typedef struct kiln__slot_patch {
    uint32_t record, region;
    int64_t factor; /* of a count; 0: an attribute, which no count depends on */
    void *at;       /* int64_t, or float for a slot that is one */
} kiln__slot_patch;

/* An operand that lies in a storage. */
typedef struct kiln__pointer_patch {
    kiln_operand *operand;
    int64_t offset;
} kiln__pointer_patch;

typedef struct kiln__binding {
    unsigned char *data; /* NULL: unbound */
    unsigned char *own;  /* the session's own bytes for an input or output */
    kiln_state_buffer *state;
    bool of_graph; /* bound because the graph said where: kiln_session_rebind may take it back */
} kiln__binding;

/* A state buffer that every submission takes, once for all the storages that lie in it. */
typedef struct kiln__hold {
    kiln_state_buffer *state;
    bool write;
    uint32_t storage; /* the first of them */
} kiln__hold;

/* A range of memory, for the overlap check. */
typedef struct kiln__range {
    uintptr_t start, end;
    uint32_t storage; /* 0: the arena */
} kiln__range;

struct kiln_session {
    /* What every run looks at comes first, side by side: after a pause each line of memory costs. */
    kiln_executor *executor;
    atomic_uint busy;       /* 1 from submit until the run is done */
    atomic_uint users;      /* threads inside a call on a fence of the last submission */
    atomic_ullong sequence; /* of the last submission; the first is 1 */
    size_t n_holds;         /* good when bindings_checked */
    bool bindings_checked, prepared;
    bool limits_checked; /* no integer slot has changed since the values of all were found to be possible */
    kiln__tape tape;
    kiln__run run;

    kiln_allocator allocator;
    kiln_plan *plan;
    uint32_t tag; /* of the graph whose handles it takes beside the plan's own: of a capture's latest */

    void *tape_memory; /* records, regions and operand block, one allocation */
    size_t tape_size;
    unsigned char *memory; /* arena, then own inputs and outputs */
    size_t memory_size;

    size_t n_slots, n_storages;
    bool computes; /* some slot is computed */
    int64_t *i64;  /* slot values, by slot id */
    float *f32;
    kiln__slot_patch *slot_patches; /* grouped by slot */
    size_t *first_slot_patch;       /* [n_slots + 1] */
    kiln__pointer_patch *pointers;  /* grouped by storage */
    size_t *first_pointer;          /* [n_storages + 1] */
    kiln__binding *bindings;        /* [n_storages] */
    kiln__range *ranges;            /* [n_storages + 1], for the check */
    kiln__hold *holds;              /* [n_holds], of n_storages */
    uint32_t watch;                 /* KILN_WATCH_* switched on */
    kiln_status (*callback)(void *context, const kiln_observation *observation);
    void *callback_context;
    kiln_observation *observed;      /* [plan->taps.count] */
    unsigned long long *observed_at; /* [plan->taps.count]: the submission it is of */
};

/* session.c: KILN_ERROR_BUSY while a run of the session is under way; `what` begins the text. */
kiln_status kiln__session_refuse_busy(const kiln_session *session, const char *what, kiln_error *error);

/* submit.c: do two storages share bytes in a way that the plan was not baked for? *x, *y: which; 0 is the arena. Only of
 * what is bound. */
bool kiln__session_overlap(kiln_session *session, uint32_t *x, uint32_t *y);

/* submit.c: makes a submission of the session's: it is busy, its bindings are checked and its states taken (to be read
 * only, if the caller just wants to `look`), and fences of before are no longer those of the last submission. `what`
 * begins texts. The executor's done hook ends it, or, where it comes to no run with hooks, kiln__session_end. */
kiln_status kiln__session_begin(kiln_session *session, const char *what, bool look, kiln_fence *fence,
                                kiln_error *error);
void kiln__session_end(kiln_session *session, bool look);
/* Says that the executor did not take it; returns `status`. */
kiln_status kiln__session_refused(const kiln_session *session, const char *what, kiln_status status,
                                  kiln_error *error);
/* What came of the last run, in words. */
kiln_status kiln__session_outcome(const kiln_session *session, kiln_error *error);

/* Is a handle with this tag one of the session's? */
static inline bool kiln__session_knows(const kiln_session *s, uint32_t tag) {
    return tag == s->tag || tag == s->plan->program->tag;
}

/* profile.c: ends a profile, if there is one. */
void kiln__profile_free(kiln_session *session);

/* uses.c: fills plan->uses, and refuses accesses whose result would not be defined (the list is there). */
kiln_status kiln__plan_check_uses(kiln_plan *plan, kiln_error *error);

/* uses.c: unwritten[i] becomes the first byte of the storage that tap i reads and that nothing has written by
 * then, -1 when there is none. `hazards` are those of the graph as built, with all tapped tensors watched. */
kiln_status kiln__taps_find_unwritten(const kiln_plan *plan, const kiln__hazards *hazards, int64_t *unwritten,
                                      kiln_error *error);

/* taps.c: fills plan->taps with what the options ask for; keep[tensor] is set for each. Afterwards, when
 * there is a schedule, where each tapped tensor is made. */
kiln_status kiln__taps_resolve(kiln_plan *plan, const kiln_bake_options *options, uint8_t *keep,
                               kiln_error *error);
kiln_status kiln__taps_place(kiln_plan *plan, kiln_error *error);

/* limits.c: finds what is to be checked when slots have changed (the schedule is there), and checks it;
 * `what` begins the text. */
kiln_status kiln__limits_find(kiln_plan *plan, kiln_error *error);
kiln_status kiln__limits_check(kiln_session *session, const char *what, kiln_error *error);

/* tape.c: makes records, patches and their memory;
 * slot values must be set by kiln__session_apply_slot after. */
kiln_status kiln__tape_make(kiln_session *session, kiln_error *error);
void kiln__tape_free(kiln_session *session);
/* Writes a slot's present value to all places that follow it. */
void kiln__session_apply_slot(kiln_session *session, uint32_t slot);
/* Points all operands in a storage to its bytes. */
void kiln__session_apply_base(kiln_session *session, uint32_t storage, unsigned char *base);

/* bake.c: from now on the plan does not know which buffers its graph's states were in. */
void kiln__plan_drop_states(kiln_plan *plan);

/* observe.c */
kiln_status kiln__observe_region(kiln__run *run, uint32_t region);

/* state.c: takes or gives back the use of a state for one submission. */
kiln_status kiln__state_acquire(kiln_state_buffer *state, bool write, const char *name, kiln_error *error);
void kiln__state_release(kiln_state_buffer *state, bool write, bool failed);

/* What the session's executor decided about a region. Not while it runs. */
static inline kiln__region_info kiln__session_region(const kiln_session *s, uint32_t region) {
    kiln__region_info info;
    s->executor->table->describe(&s->run, region, &info);
    return info;
}

static inline kiln_session *kiln__session_of(kiln__run *run) {
    return (kiln_session *)(void *)((unsigned char *)run - offsetof(kiln_session, run));
}

#endif
