/* What sessions see of an executor: one small table of functions. Internal.
 *
 * A run is the state of one session's submissions, one at a time: embedded in the session, it lives as long.
 * submit starts it, wait waits for it (and may compute), cancel asks it to end early. Errors belong to the
 * run, never to the executor.
 */
#ifndef KILN_EXECUTOR_INTERNAL_H
#define KILN_EXECUTOR_INTERNAL_H

#include "kiln_executor.h"
#include "record.h"

typedef struct kiln__run kiln__run;

typedef struct kiln__run_hooks {
    /* After the last tile of a region marked `observed`, before any record of the next one. Called by
     * whichever thread finished it; no other thread computes for this run meanwhile. A status other than
     * KILN_OK ends the run with it; the hook then has set run->outcome.text and .record. */
    kiln_status (*region_done)(kiln__run *run, uint32_t region);
    /* Once per submission, with the outcome final, before the run counts as done. */
    void (*done)(kiln__run *run);
} kiln__run_hooks;

typedef struct kiln__outcome {
    kiln_status status;
    uint32_t record;           /* the first in plan order that failed */
    int64_t row, index, limit; /* KILN_ERROR_INDEX */
    char text[256];            /* KILN_ERROR_KERNEL, KILN_ERROR_NUMERIC: what the kernel or hook said */
} kiln__outcome;

struct kiln__run {
    kiln__tape *tape;             /* set by the session before prepare */
    const kiln__run_hooks *hooks; /* set by the session before prepare; its functions may be NULL */
    void *state;                  /* the executor's, made by prepare */
    kiln__outcome outcome;        /* final when wait has returned anything but KILN_ERROR_TIMEOUT */
};

/* What an executor decided about a region when it last looked at the counts: at the latest run, or, before there is one,
 * at the symbols' maxima. For dumps. */
typedef struct kiln__region_info {
    bool shared; /* its tiles are for all threads; false: one thread computes it, and nobody is waited for */
    int64_t estimate; /* ns that it takes one thread, roughly */
    int64_t tiles;
    uint32_t grain; /* tiles that a thread takes at least, when it is shared */
    uint32_t
        wakes; /* sleepers woken when it begins, at most; for itself or for the next region that is shared */
    /* Of the first of regions that one thread computes one after another, no barrier between them: how many these are,
     * and their records. Else 0. */
    uint32_t serial_regions, serial_records;
} kiln__region_info;

typedef struct kiln__executor_table {
    const char *name;
    /* Chooses kernels for all records at the present (maximal) counts, and allocates all that running will
     * need. KILN_ERROR_UNSUPPORTED when a record has no kernel: error->text names the op. *record is the
     * record that the failure is about, or n_records when it is about none. */
    kiln_status (*prepare)(kiln_executor *executor, kiln__run *run, uint32_t *record, kiln_error *error);
    /* Undoes prepare. The run is not running. */
    void (*release)(kiln_executor *executor, kiln__run *run);
    /* Starts the run (refreshing stale records first). The session has made sure it is not running. Allocates
     * nothing. KILN_ERROR_OVERFLOW, KILN_ERROR_LIMIT: a record's counts are impossible; the outcome's `record` and `text`
     * say whose, and why. */
    kiln_status (*submit)(kiln_executor *executor, kiln__run *run);
    /* The same as submit, then wait without limit, by a thread that alone knows of the submission: what it does is up to
     * it alone, so nobody need be told of what it can as well do itself. The outcome is final when it returns. Errors as
     * submit. */
    kiln_status (*run)(kiln_executor *executor, kiln__run *run);
    /* Waits until the run is done, computing meanwhile. timeout_ns < 0: without limit. KILN_OK when it is
     * done (look at run->outcome), KILN_ERROR_TIMEOUT. Any number of threads. */
    kiln_status (*wait)(kiln_executor *executor, kiln__run *run, int64_t timeout_ns);
    bool (*is_done)(kiln_executor *executor, kiln__run *run);
    /* Have its workers stayed behind at a fork? Then nothing that was running ever ends. */
    bool (*is_lost)(const kiln_executor *executor);
    /* Asks a running run to end with KILN_ERROR_CANCELLED;
     * without effect when it is not running. Any thread. */
    void (*cancel)(kiln_executor *executor, kiln__run *run);
    /* Whose notes those of a lane in a profile are: "waiting", "worker 3". */
    void (*lane_name)(const kiln_executor *executor, uint32_t lane, char *text, size_t size);
    /* Looks at a prepared run that is not running; region < n_regions. */
    void (*describe)(const kiln__run *run, uint32_t region, kiln__region_info *out);
    kiln_status (*destroy)(kiln_executor *executor, kiln_error *error);
} kiln__executor_table;

/* The first member of every executor. */
struct kiln_executor {
    const kiln__executor_table *table;
    kiln_allocator allocator;
    uint32_t threads;  /* that compute, the waiting one included: at least 1 */
    uint32_t lanes;    /* different threads that may, at one time or another: at least that many */
    const char *level; /* what kernels run at; static, "" where there are no levels */
};

#endif
