/* The CPU executor as sessions see it: creating the pool, preparing runs, and the life of a submission. Who
 * computes what is explained in cpu_pool.c.
 *
 *     AT_REST --submit--> STARTING --> RUNNING --(last region, failure)--> AT_REST
 *                                         \--cancel--> CANCELLING ---------/
 *
 * The phase word also counts submissions, so a thread that waits for one never takes the next for it. All
 * memory comes from create (one block) and prepare (one block per run); submit, wait and cancel allocate
 * nothing. With one thread there is no pool: submit only marks the run, and wait computes it in order.
 *
 * After fork the child has the memory of a pool, but no workers, and perhaps a lock that nobody will open.
 * The executor knows by a page that children get as zeroes, answers KILN_ERROR_SYSTEM there, and can still be
 * taken apart. With one thread everything works in the child too. */
#include "args.h"
#include "checked.h"
#include "cpu_features.h"
#include "cpu_pool.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static kiln__cpu_pool *pool_of(kiln_executor *executor) {
    return (kiln__cpu_pool *)(void *)executor;
}

static bool in_child(const kiln__cpu_pool *pool) {
    return pool->base.threads > 1 && kiln__forked(&pool->fork_mark);
}

/* ---- prepare and release ---------------------------------------------------------------------------- */

static const char *level_name(uint32_t features) {
    if (!(features & KILN_CPU_AVX2))
        return "base"; /* wider levels build on AVX2 */
    return features & KILN_CPU_AVX512 ? "avx512" : "avx2";
}

/* Appends "(f32, q4_0, -)". */
static void append_dtypes(char *text, size_t size, const kiln_operand *operands, uint32_t n) {
    size_t at = strlen(text);
    for (uint32_t i = 0; i <= n && at < size; i++) {
        const kiln_dtype_info *info = i < n ? kiln_dtype_get((kiln_dtype)operands[i].dtype) : NULL;
        int more = i < n
                       ? snprintf(text + at, size - at, "%s%s", i == 0 ? "(" : ", ", info ? info->name : "-")
                       : snprintf(text + at, size - at, "%s", n == 0 ? "()" : ")");
        at += more > 0 ? (size_t)more : 0;
    }
}

static kiln_status unsupported(const kiln__cpu_pool *pool, const kiln__record *record, kiln_error *error) {
    char dtypes[256] = "";
    append_dtypes(dtypes, sizeof dtypes, record->args.in, record->args.n_in);
    size_t at = strlen(dtypes);
    snprintf(dtypes + at, sizeof dtypes - at, " -> ");
    append_dtypes(dtypes, sizeof dtypes, record->args.out, record->args.n_out);
    return kiln_error_set(error, KILN_ERROR_UNSUPPORTED,
                          "op '%s' has no CPU kernel for %s at level %s (of %u)", record->op->name, dtypes,
                          pool->base.level, (unsigned)record->op->n_kernels);
}

/* Chooses all kernels and marks all records stale. *scratch: the most that one of them asks for. *at: the record
 * that has failed, or else the one that asks for the most. */
static kiln_status choose_kernels(const kiln__cpu_pool *pool, kiln__tape *tape, int64_t *scratch,
                                  uint32_t *at, kiln_error *error) {
    uint32_t widest = tape->n_records;
    *scratch = 0;
    for (uint32_t i = 0; i < tape->n_records; i++) {
        kiln__record *record = &tape->records[i];
        const kiln_kernel *kernel = kiln__kernel_choose(record->op, &record->args, pool->features);
        *at = i;
        if (kernel == NULL)
            return unsupported(pool, record, error);
        int64_t bytes = kernel->scratch ? kernel->scratch(&record->args) : 0;
        if (bytes < 0)
            return kiln_error_set(error, KILN_ERROR_OVERFLOW, "op '%s': the scratch of kernel %s overflows",
                                  record->op->name, kernel->name);
        if (bytes > *scratch) {
            *scratch = bytes;
            widest = i;
        }
        record->kernel = kernel;
        record->stale = 1;
    }
    tape->stale = 1;
    *at = widest;
    return KILN_OK;
}

/* [run | units | serial ends | wakes | slots | scratch of slot 0 | of slot 1 | …], each part a multiple of KILN__LINE, so that no
 * two workers share a line. */
typedef struct layout {
    int64_t units, serial, wake, slots, scratch, stride, bytes;
} layout;

static bool lay_out(uint32_t threads, uint32_t n_regions, int64_t scratch, layout *out) {
    int64_t units, all;
    out->units = (int64_t)sizeof(kiln__cpu_run);
    if (!kiln__mul((int64_t)n_regions + 1, sizeof(uint32_t), &units))
        return false;
    out->serial = out->units + units;
    out->wake = out->serial + units;
    return kiln__align_up(out->wake + units, KILN__LINE, &out->slots) &&
           kiln__mul(threads, (int64_t)sizeof(kiln__cpu_slot), &all) &&
           kiln__add(out->slots, all, &out->scratch) && kiln__align_up(scratch, KILN__LINE, &out->stride) &&
           kiln__mul(out->stride, threads, &all) && kiln__add(out->scratch, all, &out->bytes);
}

static kiln__cpu_run *run_new(kiln__cpu_pool *pool, kiln__run *owner, const layout *at) {
    const kiln_allocator *a = &pool->base.allocator;
    unsigned char *block = a->alloc(a->context, (size_t)at->bytes, KILN__LINE);
    if (block == NULL)
        return NULL;
    memset(block, 0, (size_t)at->bytes); /* scratch too: its pages are there before the first run */
    kiln__cpu_run *run = (kiln__cpu_run *)(void *)block;
    run->pool = pool;
    run->run = owner;
    run->bytes = (size_t)at->bytes;
    run->units = (uint32_t *)(void *)(block + at->units);
    run->serial_end = (uint32_t *)(void *)(block + at->serial);
    run->wake = (uint32_t *)(void *)(block + at->wake);
    run->slots = (kiln__cpu_slot *)(void *)(block + at->slots);
    for (uint32_t r = 0; r < owner->tape->n_regions; r++)
        run->units[r] = owner->tape->regions[r].grain = 1; /* regions without records stay so */
    for (uint32_t i = 0; i < pool->base.threads; i++)
        run->slots[i].scratch = block + at->scratch + i * at->stride;
    atomic_init(&run->phase, KILN__CPU_AT_REST);
    atomic_init(&run->trouble, 0);
    atomic_init(&run->caller_taken, 0);
    atomic_init(&run->caller_parked, 0);
    atomic_init(&run->blocked, 0);
    atomic_init(&run->users, 0);
    atomic_init(&run->helpers, 0);
    atomic_init(&run->claim, (uint64_t)owner->tape->n_regions << 32);
    atomic_init(&run->left, 0);
    return run;
}

static kiln_status cpu_prepare(kiln_executor *executor, kiln__run *owner, uint32_t *at, kiln_error *error) {
    kiln__cpu_pool *pool = pool_of(executor);
    kiln__tape *tape = owner->tape;
    const kiln_allocator *a = &pool->base.allocator;
    uint32_t none;
    int64_t scratch;
    layout place;
    at = at != NULL ? at : &none;
    *at = tape->n_records;
    owner->state = NULL;
    if (in_child(pool))
        return kiln_error_set(error, KILN_ERROR_SYSTEM, "the executor's workers did not survive the fork");
    kiln_status status = choose_kernels(pool, tape, &scratch, at, error);
    if (status != KILN_OK)
        return status;
    if (!lay_out(pool->base.threads, tape->n_regions, scratch, &place))
        return kiln_error_set(error, KILN_ERROR_OVERFLOW,
                              "%u workers with %lld bytes of scratch each overflow",
                              (unsigned)pool->base.threads, (long long)scratch);
    *at = tape->n_records; /* no record's fault */
    kiln__cpu_run *run = run_new(pool, owner, &place);
    if (run == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY,
                              "out of memory: %lld bytes to prepare a run on %u threads",
                              (long long)place.bytes, (unsigned)pool->base.threads);
    status = kiln__cpu_refresh(run, at);
    if (status != KILN_OK)
        kiln_error_set(error, status, "op '%s': %s", tape->records[*at].op->name,
                       status == KILN_ERROR_OVERFLOW ? "a negative number of tiles"
                                                     : "more than 2147483647 tiles in one region");
    else if (!kiln__cond_init(&run->changed)) {
        *at = tape->n_records;
        status = kiln_error_set(error, KILN_ERROR_SYSTEM, "the system refused a condition variable");
    }
    if (status != KILN_OK) {
        a->free(a->context, run, run->bytes);
        return status;
    }
    owner->state = run;
    /* Relaxed: the caller orders it before destroy. */
    atomic_fetch_add_explicit(&pool->prepared, 1, memory_order_relaxed);
    return KILN_OK;
}

/* Waits for threads that are about to leave a run that is over. */
static void until_left(_Atomic uint32_t *inside) {
    uint32_t turn = 0;
    /* Sequentially consistent: as an acquire, orders what they did before the reuse; and with the phase
     * written before, one of us and a thread that enters by the door of wait sees the other
     * (see cpu_wait). */
    while (atomic_load_explicit(inside, memory_order_seq_cst) != 0)
        kiln__back_off(&turn);
}

static void cpu_release(kiln_executor *executor, kiln__run *owner) {
    kiln__cpu_pool *pool = pool_of(executor);
    const kiln_allocator *a = &pool->base.allocator;
    kiln__cpu_run *run = owner->state;
    if (run == NULL)
        return;
    if (!in_child(pool)) { /* there, the others are gone without having left */
        until_left(&run->users);
        until_left(&run->helpers);
        pthread_cond_destroy(&run->changed);
    }
    owner->state = NULL;
    a->free(a->context, run, run->bytes);
    /* Relaxed: the caller orders it before destroy. */
    atomic_fetch_sub_explicit(&pool->prepared, 1, memory_order_relaxed);
}

/* ---- a submission ----------------------------------------------------------------------------------- */

/* A new submission: the run is nobody's, its tape is up to date and its reports are forgotten. *serial: its number. */
static kiln_status start(kiln__cpu_run *run, uint64_t *serial) {
    if (in_child(run->pool))
        return KILN_ERROR_SYSTEM;
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_relaxed);
    uint64_t starting = phase - phase % KILN__CPU_PHASES + KILN__CPU_PHASES + KILN__CPU_STARTING;
    *serial = starting / KILN__CPU_PHASES;
    /* Sequentially consistent: acquires the end of the last run; and see until_left. */
    if (phase % KILN__CPU_PHASES != KILN__CPU_AT_REST ||
        !atomic_compare_exchange_strong_explicit(&run->phase, &phase, starting, memory_order_seq_cst,
                                                 memory_order_relaxed))
        return KILN_ERROR_BUSY;
    until_left(&run->helpers);
    uint32_t at;
    kiln_status status = kiln__cpu_refresh(run, &at);
    if (status != KILN_OK) {
        kiln__cpu_set_phase(run, KILN__CPU_AT_REST);
        return status;
    }
    kiln__cpu_reset(run);
    /* This thread is a helper until it leaves: the run may end at any moment. Relaxed and release: as in
     * kiln__cpu_worker_main. */
    atomic_fetch_add_explicit(&run->helpers, 1, memory_order_relaxed);
    return KILN_OK;
}

static kiln_status cpu_submit(kiln_executor *executor, kiln__run *owner) {
    kiln__cpu_pool *pool = pool_of(executor);
    kiln__cpu_run *run = owner->state;
    uint64_t serial;
    kiln_status status = start(run, &serial);
    if (status != KILN_OK)
        return status;
    run->unshared = false;
    if (owner->tape->n_regions == 0) {
        kiln__cpu_set_phase(run, KILN__CPU_RUNNING);
        kiln__cpu_end(run, KILN_OK);
    } else if (pool->base.threads == 1) {
        kiln__cpu_set_phase(run, KILN__CPU_RUNNING);
    } else {
        kiln__cpu_enter(run, 0);
    }
    atomic_fetch_sub_explicit(&run->helpers, 1, memory_order_release);
    return KILN_OK;
}

/* In the caller's place: computes. */
static kiln_status compute(kiln__cpu_run *run, uint64_t serial, int64_t deadline) {
    kiln_status status = KILN_OK;
    /* Sequentially consistent: if submission `serial` is over and somebody starts the next, then either we
     * see that here, or until_left sees us. */
    atomic_fetch_add_explicit(&run->helpers, 1, memory_order_seq_cst);
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_seq_cst);
    if (phase / KILN__CPU_PHASES == serial && kiln__cpu_phase_running(phase)) {
        uint64_t mode = kiln__enter_fp_mode();
        if (run->pool->base.threads > 1)
            status = kiln__cpu_help(run, serial, deadline);
        else if (!kiln__cpu_serial(run, deadline))
            status = KILN_ERROR_TIMEOUT;
        kiln__leave_fp_mode(mode);
    }
    /* Release: orders all reads of the run before its reuse or release. */
    atomic_fetch_sub_explicit(&run->helpers, 1, memory_order_release);
    return status;
}

/* Somebody else has the caller's place: sleeps until it is free, the run is over, or the deadline. */
static void block(kiln__cpu_run *run, uint64_t serial, int64_t deadline) {
    kiln__cpu_pool *pool = run->pool;
    pthread_mutex_lock(&pool->lock);
    /* Sequentially consistent, both: leaving the place writes caller_taken and reads blocked, this does it
     * the other way round, so one sees the other. */
    atomic_fetch_add_explicit(&run->blocked, 1, memory_order_seq_cst);
    while (atomic_load_explicit(&run->caller_taken, memory_order_seq_cst) && !kiln__cpu_over(run, serial) &&
           !kiln__expired(deadline))
        kiln__cond_wait(&run->changed, &pool->lock, deadline);
    atomic_fetch_sub_explicit(&run->blocked, 1, memory_order_relaxed); /* relaxed: at worst a needless wake */
    pthread_mutex_unlock(&pool->lock);
}

static void leave_place(kiln__cpu_run *run) {
    /* Sequentially consistent: see block; as a release, hands slot 0 over to the next in this place. */
    atomic_store_explicit(&run->caller_taken, 0, memory_order_seq_cst);
    if (atomic_load_explicit(&run->blocked, memory_order_seq_cst) == 0)
        return;
    pthread_mutex_lock(&run->pool->lock);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->pool->lock);
}

static kiln_status cpu_wait(kiln_executor *executor, kiln__run *owner, int64_t timeout_ns) {
    kiln__cpu_pool *pool = pool_of(executor);
    kiln__cpu_run *run = owner->state;
    /* Acquire: who sees the end also sees the outcome and everything that was computed. */
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_acquire);
    if (!kiln__cpu_phase_running(phase))
        return KILN_OK;
    if (in_child(pool))
        return KILN_ERROR_SYSTEM;
    const uint64_t serial = phase / KILN__CPU_PHASES;
    const int64_t deadline = kiln__deadline(timeout_ns);
    kiln_status status = KILN_ERROR_TIMEOUT;
    /* Relaxed and release: release waits for 0 before it frees the run. */
    atomic_fetch_add_explicit(&run->users, 1, memory_order_relaxed);
    for (;;) {
        /* Acquire: slot 0 and, with one thread, the place where the last one stopped. */
        if (atomic_exchange_explicit(&run->caller_taken, 1, memory_order_acquire) == 0) {
            status = compute(run, serial, deadline);
            leave_place(run);
            break;
        }
        block(run, serial, deadline);
        if (kiln__cpu_over(run, serial)) {
            status = KILN_OK;
            break;
        }
        if (kiln__expired(deadline))
            break;
    }
    atomic_fetch_sub_explicit(&run->users, 1, memory_order_release);
    return status;
}

/* Nobody has a fence of this submission: no other thread can cancel it, or wait for it, but for one that found the
 * session free since the done hook and is about to submit again; it blocks until this place is left. */
static kiln_status cpu_run(kiln_executor *executor, kiln__run *owner) {
    kiln__cpu_pool *pool = pool_of(executor);
    kiln__cpu_run *run = owner->state;
    uint64_t serial;
    uint32_t turn = 0;
    kiln_status status = start(run, &serial);
    if (status != KILN_OK)
        return status;
    /* Who waited for the last submission may be just leaving. Acquire: as in cpu_wait. */
    while (atomic_exchange_explicit(&run->caller_taken, 1, memory_order_acquire) != 0)
        kiln__back_off(&turn);
    uint64_t mode = kiln__enter_fp_mode();
    run->unshared = true;
    kiln__cpu_set_phase(run, KILN__CPU_RUNNING);
    if (owner->tape->n_regions == 0)
        kiln__cpu_end(run, KILN_OK);
    else if (pool->base.threads == 1)
        (void)kiln__cpu_serial(run, KILN__NO_DEADLINE);
    else
        kiln__cpu_run_here(run, serial);
    kiln__leave_fp_mode(mode);
    leave_place(run);
    atomic_fetch_sub_explicit(&run->helpers, 1, memory_order_release);
    return KILN_OK;
}

static bool cpu_is_done(kiln_executor *executor, kiln__run *owner) {
    (void)executor;
    kiln__cpu_run *run = owner->state;
    /* Acquire: as in cpu_wait. */
    return !kiln__cpu_phase_running(atomic_load_explicit(&run->phase, memory_order_acquire));
}

static void cpu_cancel(kiln_executor *executor, kiln__run *owner) {
    (void)executor;
    kiln__cpu_run *run = owner->state;
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_relaxed);
    /* Relaxed: the request carries no data. Comparing the whole word, it cannot hit a later submission than
     * one that was running during this call. */
    while (phase % KILN__CPU_PHASES == KILN__CPU_RUNNING &&
           !atomic_compare_exchange_weak_explicit(&run->phase, &phase,
                                                  phase - KILN__CPU_RUNNING + KILN__CPU_CANCELLING,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* ---- create and destroy ----------------------------------------------------------------------------- */

/* Stops and joins the first `n` workers. */
static void stop_workers(kiln__cpu_pool *pool, uint32_t n) {
    pthread_mutex_lock(&pool->lock);
    /* Relaxed: joining orders everything. */
    atomic_store_explicit(&pool->stop, 1, memory_order_relaxed);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < n; i++)
        pthread_join(pool->workers[i].thread, NULL);
}

static void pool_free(kiln__cpu_pool *pool) {
    kiln_allocator a = pool->base.allocator;
    kiln__fork_mark_free(&pool->fork_mark);
    a.free(a.context, pool, pool->bytes);
}

static kiln_status cpu_destroy(kiln_executor *executor, kiln_error *error) {
    kiln__cpu_pool *pool = pool_of(executor);
    /* Relaxed: the caller orders prepare and release before this. */
    uint32_t prepared = atomic_load_explicit(&pool->prepared, memory_order_relaxed);
    if (prepared > 0)
        return kiln_error_set(error, KILN_ERROR_BUSY, "%u session(s) made on this executor still exist",
                              (unsigned)prepared);
    if (!in_child(pool)) { /* there, the workers are gone, and the lock may be held for good */
        stop_workers(pool, pool->base.threads - 1);
        pthread_cond_destroy(&pool->work);
        pthread_mutex_destroy(&pool->lock);
    }
    pool_free(pool);
    return KILN_OK;
}

static const kiln__executor_table cpu_table = {
    .name = "cpu",
    .prepare = cpu_prepare,
    .release = cpu_release,
    .submit = cpu_submit,
    .run = cpu_run,
    .wait = cpu_wait,
    .is_done = cpu_is_done,
    .cancel = cpu_cancel,
    .destroy = cpu_destroy,
};

/* Starts the workers with all signals blocked, so that handlers run on the host's own threads. */
static kiln_status start_workers(kiln__cpu_pool *pool, kiln_error *error) {
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return kiln_error_set(error, KILN_ERROR_SYSTEM, "the system refused to block signals");
    int refused = 0;
    uint32_t n = 0;
    for (; n + 1 < pool->base.threads && refused == 0; n += refused == 0) {
        pool->workers[n].pool = pool;
        pool->workers[n].index = n + 1;
        refused = pthread_create(&pool->workers[n].thread, NULL, kiln__cpu_worker_main, &pool->workers[n]);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (refused == 0)
        return KILN_OK;
    stop_workers(pool, n);
    return kiln_error_set(error, KILN_ERROR_SYSTEM, "worker %u of %u could not be started: error %d",
                          (unsigned)n + 1, (unsigned)pool->base.threads - 1, refused);
}

static uint32_t online_processors(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > KILN__CPU_MAX_THREADS ? KILN__CPU_MAX_THREADS : (uint32_t)n;
}

kiln_status kiln_cpu_executor_create(const kiln_allocator *allocator, const kiln_cpu_options *options,
                                     kiln_executor **out, kiln_error *error) {
    const kiln_cpu_options chosen = options != NULL ? *options : (kiln_cpu_options){0};
    if (out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "no place to put the executor");
    *out = NULL;
    if (chosen.threads > KILN__CPU_MAX_THREADS)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "%u threads asked for, at most %d possible",
                              (unsigned)chosen.threads, (int)KILN__CPU_MAX_THREADS);
    const uint32_t threads = chosen.threads > 0 ? chosen.threads : online_processors();
    const kiln_allocator a = kiln__allocator_or_default(allocator);
    const size_t bytes = sizeof(kiln__cpu_pool) + (threads - 1) * sizeof(kiln__cpu_worker);
    kiln__cpu_pool *pool = a.alloc(a.context, bytes, KILN__LINE);
    if (pool == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "out of memory: %zu bytes for an executor", bytes);
    memset(pool, 0, bytes);
    pool->features = kiln__cpu_features() & ~chosen.without;
    pool->base = (kiln_executor){&cpu_table, a, threads, level_name(pool->features)};
    pool->spin_ns = (int64_t)(chosen.spin_us > 0 ? chosen.spin_us : KILN__CPU_SPIN_US) * 1000;
    pool->fork_mark = kiln__fork_mark_make();
    pool->bytes = bytes;
    atomic_init(&pool->n_active, 0);
    atomic_init(&pool->stop, 0);
    atomic_init(&pool->parked, 0);
    atomic_init(&pool->prepared, 0);
    kiln_status status = KILN_ERROR_SYSTEM;
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        kiln_error_set(error, status, "the system refused a mutex");
    } else {
        if (!kiln__cond_init(&pool->work)) {
            kiln_error_set(error, status, "the system refused a condition variable");
        } else {
            status = start_workers(pool, error);
            if (status != KILN_OK)
                pthread_cond_destroy(&pool->work);
        }
        if (status != KILN_OK)
            pthread_mutex_destroy(&pool->lock);
    }
    if (status != KILN_OK) {
        pool_free(pool);
        return status;
    }
    *out = &pool->base;
    return KILN_OK;
}
