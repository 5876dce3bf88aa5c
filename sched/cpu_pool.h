/* The CPU executor's own types: the pool of workers, and what a prepared run consists of. Internal; the
 * method is explained in cpu_pool.c.
 *
 *     cpu_executor.c  the table: create, prepare, submit, wait, cancel, destroy
 *     cpu_pool.c      who computes what, and who sleeps: claims, regions, spinning, parking
 *     cpu_threads.c   a pool's workers and guests: create, help, dismiss, destroy
 *     cpu_company.c   whether to share what is too little to wake anybody for
 *     cpu_host.c      regions computed through the host's parallel_for
 *     cpu_run.c       computing tiles and what comes of it: refresh, kernels' reports, the outcome
 *     cpu_describe.c  what was decided, for dumps
 */
#ifndef KILN_CPU_POOL_INTERNAL_H
#define KILN_CPU_POOL_INTERNAL_H

#include "executor.h"
#include "fork_mark.h"
#include "sync.h"
#include "tile.h"

#include <stdatomic.h>

/* Two cache lines: processors fetch them in pairs, and Apple's are this long. */
#define KILN__LINE 128

enum {
    KILN__CPU_MAX_THREADS = 1024,
    KILN__CPU_CHUNK = 8, /* tiles claimed at once, at most, unless they are tiny */
    KILN__CPU_PIECE =
        64, /* tiles that a thread computes alone between two looks at cancel and deadline, at most */
    KILN__CPU_DRAIN = 4096, /* tiles thrown away at once after a cancel */
    KILN__CPU_STRETCH = 64, /* regions computed alone between two looks at whether others want the thread */
    KILN__CPU_GRAIN_MAX = 1024, /* tiles that a thread claims at once, when they are tiny */
    KILN__CPU_SPIN_US = 20,     /* as long as waking a parked thread takes */
    KILN__CPU_LOST_NS = 100000, /* that many polls never take that long: the processor was taken away */
    KILN__CPU_WATCH_POLLS = 64  /* polls of one idle run before looking at the next */
};

/* What one of the pool's threads adds to kiln__cpu_run.helpers: itself, and itself among the pool's. */
enum { KILN__CPU_INSIDE = 1 << 16, KILN__CPU_HELPER = KILN__CPU_INSIDE + 1 };

/* Polls between two looks at the clock; claims that one of the pool's threads makes in one run while others are active. A
 * test that enumerates states wants fewer. */
#ifndef KILN__CPU_POLLS
#define KILN__CPU_POLLS 16
#endif
#ifndef KILN__CPU_QUANTUM
#define KILN__CPU_QUANTUM 16
#endif

/* A region's tiles: the claim word has 32 bits for them, half of which is room for late claims. */
#define KILN__CPU_MAX_TILES INT64_C(0x7fffffff)

/* What one worker needs for one run. Written by its worker while it holds tiles of the run; read by whoever
 * ends the run. */
typedef struct kiln__cpu_slot {
    _Alignas(KILN__LINE) unsigned char *scratch;
    bool follows; /* profiled: nothing came between the last call and the next */
    bool failed, bad_index;
    uint32_t last_record; /* whose kernel was called last, */
    uint64_t last_run;    /* and in which submission */
    kiln__tile_sink
        sink; /* of the present kernel call; only where something is wrong, more than its first member */
    uint32_t fail_record; /* the first failure in record order, then tile order */
    int64_t fail_tile;
    uint32_t bad_record; /* the first bad index in record order, then row, then tile */
    int64_t bad_row, bad_tile, bad_value, bad_limit;
    char fail_text[256];
} kiln__cpu_slot;

/* A run's phase, in the low bits of its phase word; the rest counts submissions. */
enum { KILN__CPU_AT_REST, KILN__CPU_STARTING, KILN__CPU_RUNNING, KILN__CPU_CANCELLING, KILN__CPU_PHASES };

/* Bits of kiln__cpu_run.trouble. */
enum { KILN__CPU_FAILED = 1, KILN__CPU_BAD_INDEX = 2, KILN__CPU_SKIPPED = 4 };

/* Where a thread that computes records one after another stands. */
typedef struct kiln__cpu_place {
    uint32_t record;
    int64_t tile;
} kiln__cpu_place;

/* How a region is computed, found from the costs whenever counts have changed. */
typedef struct kiln__cpu_step {
    uint32_t units;       /* that can be claimed: its tiles, or 1 when one thread computes it alone */
    uint16_t grain, most; /* tiles that a thread claims at least, and at most */
    uint32_t
        serial_end; /* one thread computes it alone: one past the last region that follows it without a break */
    uint32_t
        wake; /* sleepers to wake when it begins; one thread computes it alone: for the next one that is shared */
} kiln__cpu_step;

/* What was measured of small runs alone and in company, see cpu_company.c. */
typedef struct kiln__cpu_habit {
    int64_t began, ended; /* ns: the present run, the one before; as far as they are looked at */
    int64_t ns[5];        /* of the windows of this comparison */
    uint32_t window;      /* that is timed; behind the last: no comparison is under way */
    uint32_t runs;        /* in this window, or since the last comparison */
    uint32_t hold;        /* runs between comparisons */
    uint32_t close;       /* runs that followed each other closely, up to enough of them */
    bool company;         /* is faster */
} kiln__cpu_habit;

/* A prepared run: one allocation with its unit counts, its slots and their scratch behind it. */
typedef struct kiln__cpu_run {
    /* Mostly read. */
    _Alignas(KILN__LINE) _Atomic uint64_t phase; /* submissions × KILN__CPU_PHASES + phase */
    _Atomic uint32_t trouble;
    uint32_t threads;      /* that compute, the waiting one included */
    kiln__cpu_step *steps; /* [n_regions + 1]; the last has no units: nothing left to claim */
    kiln__cpu_slot *slots; /* [lanes]: 0 is the waiting thread's, then the workers', then the guests' */
    kiln__run *run;
    kiln_cpu_pool *pool;
    struct kiln__cpu_executor *executor;
    uint64_t number; /* of the submission */
    uint32_t lanes;  /* threads that may compute, at one time or another: slots */
    size_t bytes;    /* of the whole allocation */

    /* Without a pool's threads: where the next wait goes on. */
    kiln__cpu_place at;
    uint32_t region;
    /* Of kiln_run: threads that could help with regions of which none is worth waking anybody for; 0: it is not so. */
    uint32_t company;
    kiln__cpu_habit habit;
    bool unshared; /* only the thread that started it knows of it: on no ring, nothing published */

    struct kiln__cpu_run *next, *prev; /* ring of active runs; pool->lock */
    pthread_cond_t changed;            /* with pool->lock: ended, or the caller's place or work is free */

    /* Of the waiting threads. */
    _Alignas(KILN__LINE) _Atomic uint32_t caller_taken; /* one of them computes */
    _Atomic uint32_t caller_parked;                     /* and it sleeps, wanting work */
    _Atomic uint32_t blocked;                           /* others, that wait for its place or the end */
    _Atomic uint32_t users;                             /* threads inside wait */
    /* Threads that may look at the tape, for which submit and release wait; and how many of them are the pool's, in
     * units of KILN__CPU_INSIDE: threads - 1 at most. */
    _Atomic uint32_t helpers;

    /* Times that a region was published, never 0, << 32 | the region: what threads without units poll, so that they do
     * not take the next line away from those who claim. */
    _Alignas(KILN__LINE) _Atomic uint64_t opened;
    /* On one line: who ends a region publishes the next. */
    _Alignas(KILN__LINE) _Atomic uint64_t claim; /* region << 32 | next unit */
    _Atomic uint32_t left;                       /* units of the published region not yet done */
} kiln__cpu_run;

typedef struct kiln__cpu_worker {
    kiln_cpu_pool *pool;
    uint32_t index; /* from 1 */
    pthread_t thread;
} kiln__cpu_worker;

struct kiln_cpu_pool {
    kiln_allocator allocator;
    size_t bytes; /* of this allocation */
    uint32_t n_workers, n_guests;
    uint32_t awake_max; /* workers and guests that are woken to be awake at a time */
    int64_t spin_ns;
    kiln__fork_mark fork_mark; /* of the process that has the workers */

    pthread_mutex_t lock;
    pthread_cond_t work;        /* tokens, dismissals, or stop */
    kiln__cpu_run *active;      /* ring; where the next worker looks first. lock */
    uint32_t tokens;            /* wake-ups given and not yet taken. lock */
    uint32_t present;           /* workers, and guests that are inside. lock */
    int waker;                  /* the processor that the last tokens came from. lock */
    bool placed;                /* workers have processors of their own by the host's wish */
    bool *seats;                /* [n_guests]: taken. lock */
    _Atomic uint32_t executors; /* that were made on it */

    _Alignas(KILN__LINE) _Atomic uint32_t n_active; /* changed under the lock; spinning workers watch it */
    _Atomic uint32_t stop;
    _Atomic uint32_t dismissals; /* changed under the lock */
    /* Sleeping workers and guests without a token; changed under the lock. */
    _Alignas(KILN__LINE) _Atomic uint32_t parked;

    kiln__cpu_worker workers[]; /* [n_workers], then the seats */
};

typedef struct kiln__cpu_executor {
    kiln_executor base;
    kiln_cpu_pool *pool;
    bool own_pool; /* made with the executor, and goes with it */
    uint32_t features;
    kiln_parallel_for parallel_for;
    void *parallel_for_context;
    _Atomic uint32_t prepared; /* runs that exist */
} kiln__cpu_executor;

/* Does the pool's threads' help count? Else the waiting thread alone computes, perhaps through parallel_for. */
static inline bool kiln__cpu_pooled(const kiln__cpu_executor *executor) {
    return executor->base.threads > 1 && executor->parallel_for == NULL;
}

/* The waiting thread computes while it waits; a worker for as long as the pool lives; a guest until it has to go. */
typedef enum kiln__cpu_role { KILN__CPU_CALLER, KILN__CPU_WORKER, KILN__CPU_GUEST } kiln__cpu_role;

/* One thread's view while it computes for a run. */
typedef struct kiln__cpu_lane {
    kiln_cpu_pool *pool;
    kiln__cpu_run *run;
    kiln__cpu_role role;
    uint32_t index;      /* its slot in every run */
    uint32_t credit;     /* not the caller: claims it may still make while other runs wait */
    uint64_t tried;      /* kiln__cpu_run.opened when it last claimed units; 0: not yet, of this run */
    uint64_t emptied;    /* and when it last found none */
    uint32_t dismissals; /* guest: how many there had been when it came */
    bool brief;          /* guest: goes when there is nothing to do */
    bool worked;
    int64_t deadline;   /* when to leave */
    int64_t idle_since; /* 0: it has just computed */
    int64_t looked;     /* at the clock, while idle */
} kiln__cpu_lane;

/* ---- cpu_run.c -------------------------------------------------------------------------------------- */

/* Brings tiles, first tiles, region sums and units up to date for stale records. Nobody else may look at the
 * tape. KILN_ERROR_OVERFLOW: a kernel gave a negative count; KILN_ERROR_LIMIT: too many tiles; *record says
 * whose. */
kiln_status kiln__cpu_refresh(kiln__cpu_run *run, uint32_t *record);

/* Forgets what the last run reported. */
void kiln__cpu_reset(kiln__cpu_run *run);

/* Computes tiles first ≤ i < last of a region, whatever records they belong to. */
void kiln__cpu_tiles(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t region, int64_t first, int64_t last);

/* Computes a region and those that follow it without a break alone, `most` of them at most, up to the first failure or a
 * cancel. Returns the last of them. */
uint32_t kiln__cpu_alone(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t region, uint32_t most);

/* Without a pool's threads: computes records in order, what is shared through parallel_for, until the run ended (true)
 * or the deadline has passed (false). */
bool kiln__cpu_serial(kiln__cpu_run *run, int64_t deadline);

/* All units of the region are done, and this thread alone is left: calls the hook and decides whether the run
 * goes on. False: it has ended. */
bool kiln__cpu_region_end(kiln__cpu_run *run, uint32_t region);

/* Ends the run: outcome, done hook, off the ring, waiters woken. The calling thread counts as a helper. */
void kiln__cpu_end(kiln__cpu_run *run, kiln_status status);

/* ---- cpu_company.c ---------------------------------------------------------------------------------- */

/* A run begins: shall others be awake for it? `asleep`: are all? */
bool kiln__cpu_habit_begin(kiln__cpu_habit *h, int64_t spin_ns, bool asleep);

/* It has ended. */
void kiln__cpu_habit_end(kiln__cpu_habit *h);

/* ---- cpu_host.c ------------------------------------------------------------------------------------- */

/* Computes a region of several units through the host's parallel_for. False: the deadline has passed with something
 * left. */
bool kiln__cpu_host_region(kiln__cpu_run *run, uint32_t region, int64_t deadline);

/* ---- cpu_describe.c --------------------------------------------------------------------------------- */

/* As kiln__executor_table.describe. */
void kiln__cpu_describe(const kiln__run *run, uint32_t region, kiln__region_info *out);

/* ---- cpu_pool.c ------------------------------------------------------------------------------------- */

/* A worker's or guest's life, until the pool stops or the guest has to go. */
void kiln__cpu_live(kiln__cpu_lane *lane);

/* Makes region r claimable, and wakes nobody. `index`: of the calling thread's slot. */
void kiln__cpu_offer(kiln__cpu_run *run, uint32_t r, uint32_t index);

/* The same for the region behind the last, which has nothing to claim: threads that look at the run leave it. */
void kiln__cpu_close(kiln__cpu_run *run);

/* Claims units of the region that is claimable and computes them. *r: which; *done: all its units are, and this thread
 * has the run for itself. False: there are none at present. */
bool kiln__cpu_take(kiln__cpu_lane *lane, uint32_t *r, bool *done);

/* A guest gets up from its seat, and wakes another thread for what it might have done. */
void kiln__cpu_hand_over(kiln_cpu_pool *pool, uint32_t seat);

/* Shows a run to the workers: on the ring, `region` published, phase set, as many woken as it can use. */
void kiln__cpu_enter(kiln__cpu_run *run, uint32_t region);

/* The caller computes a run that nobody else can wait for, from the first region to the end; what one thread does alone
 * at its beginning is done before the workers hear of it. */
void kiln__cpu_run_here(kiln__cpu_run *run, uint64_t serial);

/* The waiting thread computes until submission `serial` is over (KILN_OK) or the deadline has passed
 * (KILN_ERROR_TIMEOUT). It holds the caller's place and counts as a helper. */
kiln_status kiln__cpu_help(kiln__cpu_run *run, uint64_t serial, int64_t deadline);

/* Waits until threads that are about to leave have left. */
void kiln__cpu_until_left(_Atomic uint32_t *inside);

/* Is this the child of the process that has the pool's threads? */
static inline bool kiln__cpu_in_child(const kiln_cpu_pool *pool) {
    return pool->n_workers + pool->n_guests > 0 && kiln__forked(&pool->fork_mark);
}

/* ---- small ------------------------------------------------------------------------------------------ */

static inline bool kiln__cpu_phase_running(uint64_t phase) {
    return phase % KILN__CPU_PHASES >= KILN__CPU_RUNNING;
}

/* Is submission `serial` over? */
static inline bool kiln__cpu_over(kiln__cpu_run *run, uint64_t serial) {
    /* Acquire: who sees the end also sees the outcome and everything that was computed. */
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_acquire);
    return phase / KILN__CPU_PHASES != serial || !kiln__cpu_phase_running(phase);
}

static inline bool kiln__cpu_cancelled(kiln__cpu_run *run) {
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_relaxed);
    return phase % KILN__CPU_PHASES == KILN__CPU_CANCELLING;
}

/* By the one thread that starts or ends the run. A cancel that comes at the same moment came too late. */
static inline void kiln__cpu_set_phase(kiln__cpu_run *run, uint32_t phase) {
    uint64_t now = atomic_load_explicit(&run->phase, memory_order_relaxed);
    /* Release: orders the tape as refreshed (start), or the outcome and all results (end), before it. */
    atomic_store_explicit(&run->phase, now - now % KILN__CPU_PHASES + phase, memory_order_release);
}

static inline uint32_t kiln__cpu_trouble(kiln__cpu_run *run) {
    return atomic_load_explicit(&run->trouble, memory_order_relaxed);
}

/* Relaxed: whoever needs to know is ordered behind this thread by `left` or by having called it. */
static inline void kiln__cpu_add_trouble(kiln__cpu_run *run, uint32_t bits) {
    atomic_fetch_or_explicit(&run->trouble, bits, memory_order_relaxed);
}

#endif
