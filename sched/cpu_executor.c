/* The CPU executor as sessions see it: preparing runs, and the life of a submission. Who computes what is explained
 * in cpu_pool.c.
 *
 *     AT_REST --submit--> STARTING --> RUNNING --(last region, failure)--> AT_REST
 *                                         \--cancel--> CANCELLING ---------/
 *
 * The phase word also counts submissions, so a thread that waits for one never takes the next for it. All
 * memory comes from create (one block) and prepare (one block per run); submit, wait and cancel allocate
 * nothing. With one thread, or the host's parallel_for, no thread of a pool takes part: submit only marks the run,
 * and wait computes it in order.
 *
 * After fork the child has the memory of a pool, but no workers, and perhaps a lock that nobody will open.
 * The pool knows by a page that children get as zeroes, its executors answer KILN_ERROR_SYSTEM there, and all can
 * still be taken apart. With one thread everything works in the child too. */
#include "args.h"
#include "fp_mode.h"
#include "checked.h"
#include "cpu_features.h"
#include "cpu_pool.h"

#include "thread.h"

#include <stdio.h>
#include <string.h>

static kiln__cpu_executor *cpu_of(kiln_executor *executor) {
    return (kiln__cpu_executor *)(void *)executor;
}

/* Are the threads that it counts on those of another process? */
static bool in_child(const kiln__cpu_executor *cpu) {
    return kiln__cpu_pooled(cpu) && kiln__cpu_in_child(cpu->pool);
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

static kiln_status unsupported(const kiln__cpu_executor *cpu, const kiln__record *record, kiln_error *error) {
    char dtypes[256] = "";
    append_dtypes(dtypes, sizeof dtypes, record->args.in, record->args.n_in);
    size_t at = strlen(dtypes);
    snprintf(dtypes + at, sizeof dtypes - at, " -> ");
    append_dtypes(dtypes, sizeof dtypes, record->args.out, record->args.n_out);
    return kiln_error_set(error, KILN_ERROR_UNSUPPORTED,
                          "op '%s' has no CPU kernel for %s at level %s (of %u)", record->op->name, dtypes,
                          cpu->base.level, (unsigned)record->op->n_kernels);
}

/* Chooses all kernels and marks all records stale. *scratch: the most that one of them asks for. *at: the record
 * that has failed, or else the one that asks for the most. */
static kiln_status choose_kernels(const kiln__cpu_executor *cpu, kiln__tape *tape, int64_t *scratch,
                                  uint32_t *at, kiln_error *error) {
    uint32_t widest = tape->n_records;
    *scratch = 0;
    for (uint32_t r = 0; r < tape->n_regions; r++)
        tape->regions[r].stale = 1;
    for (uint32_t i = 0; i < tape->n_records; i++) {
        kiln__record *record = &tape->records[i];
        const kiln_kernel *kernel = kiln__kernel_choose(record->op, &record->args, cpu->features);
        *at = i;
        if (kernel == NULL)
            return unsupported(cpu, record, error);
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
    tape->stale = KILN__STALE_COUNTS | KILN__STALE_STEPS;
    *at = widest;
    return KILN_OK;
}

/* [run | steps | slots | scratch of slot 0 | of slot 1 | …], each part a multiple of KILN__LINE, so that no two workers
 * share a line. */
typedef struct layout {
    int64_t steps, slots, scratch, stride, bytes;
} layout;

static bool lay_out(uint32_t lanes, uint32_t n_regions, int64_t scratch, layout *out) {
    int64_t steps, all;
    out->steps = (int64_t)sizeof(kiln__cpu_run);
    return kiln__mul((int64_t)n_regions + 1, sizeof(kiln__cpu_step), &steps) &&
           kiln__align_up(out->steps + steps, KILN__LINE, &out->slots) &&
           kiln__mul(lanes, (int64_t)sizeof(kiln__cpu_slot), &all) &&
           kiln__add(out->slots, all, &out->scratch) && kiln__align_up(scratch, KILN__LINE, &out->stride) &&
           kiln__mul(out->stride, lanes, &all) && kiln__add(out->scratch, all, &out->bytes);
}

static kiln__cpu_run *run_new(kiln__cpu_executor *cpu, kiln__run *owner, const layout *at) {
    const kiln_allocator *a = &cpu->base.allocator;
    unsigned char *block = a->alloc(a->context, (size_t)at->bytes, KILN__LINE);
    if (block == NULL)
        return NULL;
    memset(block, 0, (size_t)at->bytes); /* scratch too: its pages are there before the first run */
    kiln__cpu_run *run = (kiln__cpu_run *)(void *)block;
    run->executor = cpu;
    run->pool = cpu->pool;
    run->run = owner;
    run->threads = cpu->base.threads;
    run->lanes = cpu->base.lanes;
    run->bytes = (size_t)at->bytes;
    run->steps = (kiln__cpu_step *)(void *)(block + at->steps);
    run->slots = (kiln__cpu_slot *)(void *)(block + at->slots);
    for (uint32_t r = 0; r < owner->tape->n_regions; r++)
        run->steps[r] = (kiln__cpu_step){.units = 1, .grain = 1}; /* regions without records stay so */
    for (uint32_t i = 0; i < run->lanes; i++)
        run->slots[i].scratch = block + at->scratch + i * at->stride;
    atomic_init(&run->phase, KILN__CPU_AT_REST);
    atomic_init(&run->trouble, 0);
    atomic_init(&run->caller_taken, 0);
    atomic_init(&run->caller_parked, 0);
    atomic_init(&run->blocked, 0);
    atomic_init(&run->users, 0);
    atomic_init(&run->helpers, 0);
    atomic_init(&run->opened, (UINT64_C(1) << 32) + owner->tape->n_regions);
    atomic_init(&run->claim, (uint64_t)owner->tape->n_regions << 32);
    atomic_init(&run->left, 0);
    return run;
}

/* What refreshing counts found wrong, and whose it is. */
static const char *count_trouble(kiln_status status) {
    return status == KILN_ERROR_OVERFLOW ? "a negative number of tiles"
                                         : "more than 2147483647 tiles in one region";
}

static kiln_status cpu_prepare(kiln_executor *executor, kiln__run *owner, uint32_t *at, kiln_error *error) {
    kiln__cpu_executor *cpu = cpu_of(executor);
    kiln__tape *tape = owner->tape;
    const kiln_allocator *a = &cpu->base.allocator;
    uint32_t none;
    int64_t scratch;
    layout place;
    at = at != NULL ? at : &none;
    *at = tape->n_records;
    owner->state = NULL;
    if (in_child(cpu))
        return kiln_error_set(
            error, KILN_ERROR_SYSTEM,
            "the executor's threads stayed in the parent of this fork; make a new one here");
    kiln_status status = choose_kernels(cpu, tape, &scratch, at, error);
    if (status != KILN_OK)
        return status;
    if (!lay_out(cpu->base.lanes, tape->n_regions, scratch, &place))
        return kiln_error_set(error, KILN_ERROR_OVERFLOW,
                              "%lld bytes of scratch for each of %u thread(s) overflow", (long long)scratch,
                              (unsigned)cpu->base.lanes);
    *at = tape->n_records; /* no record's fault */
    kiln__cpu_run *run = run_new(cpu, owner, &place);
    if (run == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY,
                              "out of memory: %lld bytes to prepare a run on %u threads",
                              (long long)place.bytes, (unsigned)cpu->base.lanes);
    status = kiln__cpu_refresh(run, at);
    if (status != KILN_OK)
        kiln_error_set(error, status, "op '%s': %s", tape->records[*at].op->name, count_trouble(status));
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
    atomic_fetch_add_explicit(&cpu->prepared, 1, memory_order_relaxed);
    return KILN_OK;
}

KILN__HOT void kiln__cpu_until_left(_Atomic uint32_t *inside) {
    uint32_t turn = 0;
    /* Sequentially consistent: as an acquire, orders what they did before the reuse; and with the phase
     * written before, one of us and a thread that enters by the door of wait sees the other
     * (see cpu_wait). */
    while (atomic_load_explicit(inside, memory_order_seq_cst) != 0)
        kiln__back_off(&turn);
}

static void cpu_release(kiln_executor *executor, kiln__run *owner) {
    kiln__cpu_executor *cpu = cpu_of(executor);
    const kiln_allocator *a = &cpu->base.allocator;
    kiln__cpu_run *run = owner->state;
    if (run == NULL)
        return;
    if (!in_child(cpu)) { /* there, the others are gone without having left */
        kiln__cpu_until_left(&run->users);
        kiln__cpu_until_left(&run->helpers);
        pthread_cond_destroy(&run->changed);
    }
    owner->state = NULL;
    a->free(a->context, run, run->bytes);
    /* Relaxed: the caller orders it before destroy. */
    atomic_fetch_sub_explicit(&cpu->prepared, 1, memory_order_relaxed);
}

/* ---- a submission ----------------------------------------------------------------------------------- */

/* A new submission: the run is nobody's, its tape is up to date and its reports are forgotten. *serial: its number. */
KILN__HOT static kiln_status start(kiln__cpu_run *run, uint64_t *serial) {
    if (in_child(run->executor))
        return KILN_ERROR_SYSTEM;
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_relaxed);
    uint64_t starting = phase - phase % KILN__CPU_PHASES + KILN__CPU_PHASES + KILN__CPU_STARTING;
    *serial = starting / KILN__CPU_PHASES;
    /* Sequentially consistent: acquires the end of the last run; and see kiln__cpu_until_left. */
    if (phase % KILN__CPU_PHASES != KILN__CPU_AT_REST ||
        !atomic_compare_exchange_strong_explicit(&run->phase, &phase, starting, memory_order_seq_cst,
                                                 memory_order_relaxed))
        return KILN_ERROR_BUSY;
    kiln__cpu_until_left(&run->helpers);
    uint32_t at;
    kiln_status status = run->run->tape->stale ? kiln__cpu_refresh(run, &at) : KILN_OK;
    if (status != KILN_OK) {
        run->run->outcome.record = at;
        snprintf(run->run->outcome.text, sizeof run->run->outcome.text, "%s", count_trouble(status));
        kiln__cpu_set_phase(run, KILN__CPU_AT_REST);
        return status;
    }
    run->number = *serial;
    kiln__cpu_reset(run);
    /* This thread is a helper until it leaves: the run may end at any moment. Relaxed and release: as in
     * kiln__cpu_worker_main. */
    atomic_fetch_add_explicit(&run->helpers, 1, memory_order_relaxed);
    return KILN_OK;
}

static kiln_status cpu_submit(kiln_executor *executor, kiln__run *owner) {
    kiln__cpu_run *run = owner->state;
    uint64_t serial;
    kiln_status status = start(run, &serial);
    if (status != KILN_OK)
        return status;
    run->unshared = false;
    if (owner->tape->n_regions == 0) {
        kiln__cpu_end(run, KILN_OK); /* never shown as running: a thread that waits would compute, too */
    } else if (kiln__cpu_pooled(cpu_of(executor))) {
        kiln__cpu_enter(run, 0);
    } else {
        kiln__cpu_set_phase(run, KILN__CPU_RUNNING);
    }
    atomic_fetch_sub_explicit(&run->helpers, 1, memory_order_release);
    return KILN_OK;
}

/* In the caller's place: computes. */
static kiln_status compute(kiln__cpu_run *run, uint64_t serial, int64_t deadline) {
    kiln_status status = KILN_OK;
    /* Sequentially consistent: if submission `serial` is over and somebody starts the next, then either we
     * see that here, or kiln__cpu_until_left sees us. */
    atomic_fetch_add_explicit(&run->helpers, 1, memory_order_seq_cst);
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_seq_cst);
    if (phase / KILN__CPU_PHASES == serial && kiln__cpu_phase_running(phase)) {
        kiln__fp mode = kiln__enter_fp_mode();
        if (kiln__cpu_pooled(run->executor))
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
    kiln_cpu_pool *pool = run->pool;
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

KILN__HOT static void leave_place(kiln__cpu_run *run) {
    /* Sequentially consistent: see block; as a release, hands slot 0 over to the next in this place. */
    atomic_store_explicit(&run->caller_taken, 0, memory_order_seq_cst);
    if (atomic_load_explicit(&run->blocked, memory_order_seq_cst) == 0)
        return;
    pthread_mutex_lock(&run->pool->lock);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->pool->lock);
}

static kiln_status cpu_wait(kiln_executor *executor, kiln__run *owner, int64_t timeout_ns) {
    kiln__cpu_run *run = owner->state;
    /* Acquire: who sees the end also sees the outcome and everything that was computed. */
    uint64_t phase = atomic_load_explicit(&run->phase, memory_order_acquire);
    if (!kiln__cpu_phase_running(phase))
        return KILN_OK;
    if (in_child(cpu_of(executor)))
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
KILN__HOT static kiln_status cpu_run(kiln_executor *executor, kiln__run *owner) {
    kiln__cpu_run *run = owner->state;
    uint64_t serial;
    uint32_t turn = 0;
    kiln_status status = start(run, &serial);
    if (status != KILN_OK)
        return status;
    /* Who waited for the last submission may be just leaving. Acquire: as in cpu_wait. */
    while (atomic_exchange_explicit(&run->caller_taken, 1, memory_order_acquire) != 0)
        kiln__back_off(&turn);
    kiln__fp mode = kiln__enter_fp_mode();
    run->unshared = true;
    kiln__cpu_set_phase(run, KILN__CPU_RUNNING);
    if (owner->tape->n_regions == 0)
        kiln__cpu_end(run, KILN_OK);
    else if (kiln__cpu_pooled(cpu_of(executor)))
        kiln__cpu_run_here(run, serial);
    else
        (void)kiln__cpu_serial(run, KILN__NO_DEADLINE);
    kiln__leave_fp_mode(mode);
    leave_place(run);
    atomic_fetch_sub_explicit(&run->helpers, 1, memory_order_release);
    return KILN_OK;
}

KILN__HOT static bool cpu_is_done(kiln_executor *executor, kiln__run *owner) {
    (void)executor;
    kiln__cpu_run *run = owner->state;
    /* Acquire: as in cpu_wait. */
    return !kiln__cpu_phase_running(atomic_load_explicit(&run->phase, memory_order_acquire));
}

static bool cpu_is_lost(const kiln_executor *executor) {
    return in_child((const kiln__cpu_executor *)(const void *)executor);
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

static void cpu_lane_name(const kiln_executor *executor, uint32_t lane, char *text, size_t size) {
    const kiln__cpu_executor *cpu = (const kiln__cpu_executor *)(const void *)executor;
    if (lane == 0)
        snprintf(text, size, "waiting");
    else if (cpu->parallel_for != NULL)
        snprintf(text, size, "call %u", (unsigned)lane);
    else if (lane <= cpu->pool->n_workers)
        snprintf(text, size, "worker %u", (unsigned)lane);
    else
        snprintf(text, size, "guest %u", (unsigned)(lane - cpu->pool->n_workers));
}

/* ---- create and destroy ----------------------------------------------------------------------------- */

/* Takes the pool along if it was made for this executor. */
static void cpu_free(kiln__cpu_executor *cpu) {
    kiln_allocator a = cpu->base.allocator;
    if (cpu->own_pool)
        (void)kiln_cpu_pool_destroy(cpu->pool, NULL); /* it has nobody else who could keep it */
    a.free(a.context, cpu, sizeof *cpu);
}

static kiln_status cpu_destroy(kiln_executor *executor, kiln_error *error) {
    kiln__cpu_executor *cpu = cpu_of(executor);
    /* Relaxed: the caller orders prepare and release before this. */
    uint32_t prepared = atomic_load_explicit(&cpu->prepared, memory_order_relaxed);
    if (prepared > 0)
        return kiln_error_set(error, KILN_ERROR_BUSY, "%u session(s) made on this executor still exist",
                              (unsigned)prepared);
    /* Relaxed: the caller orders this before the pool's destruction. */
    atomic_fetch_sub_explicit(&cpu->pool->executors, 1, memory_order_relaxed);
    cpu_free(cpu);
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
    .is_lost = cpu_is_lost,
    .cancel = cpu_cancel,
    .lane_name = cpu_lane_name,
    .describe = kiln__cpu_describe,
    .destroy = cpu_destroy,
};

static kiln_status check_cpu_options(const kiln_cpu_options *o, kiln_error *error) {
    if (o->threads > KILN__CPU_MAX_THREADS)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "%u threads asked for, at most %d possible",
                              (unsigned)o->threads, (int)KILN__CPU_MAX_THREADS);
    if (o->pool != NULL && o->parallel_for != NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "a pool and parallel_for: threads come from one of them");
    if ((o->spin_us > 0 || o->oversubscribe) && (o->pool != NULL || o->parallel_for != NULL))
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "spin_us and oversubscribe are for threads of the executor's own%s",
                              o->pool != NULL ? ": give them to the pool" : "");
    if (o->pool != NULL && kiln__cpu_in_child(o->pool))
        return kiln_error_set(error, KILN_ERROR_SYSTEM,
                              "the pool's threads stayed in the parent of this fork; make a new pool here");
    return KILN_OK;
}

/* The host's pool, or one of its own: where parallel_for or one thread computes, for its lock alone, which then nobody
 * else can hold when the process forks. */
static kiln_status find_pool(kiln__cpu_executor *cpu, const kiln_cpu_options *o, uint32_t threads,
                             kiln_error *error) {
    const kiln_cpu_pool_options own = {.threads = o->parallel_for != NULL ? 1 : threads,
                                       .spin_us = o->spin_us,
                                       .oversubscribe = o->oversubscribe};
    cpu->own_pool = o->pool == NULL || threads == 1;
    cpu->pool = cpu->own_pool ? NULL : o->pool;
    return cpu->own_pool ? kiln_cpu_pool_create(&cpu->base.allocator, &own, &cpu->pool, error) : KILN_OK;
}

kiln_status kiln_cpu_executor_create(const kiln_allocator *allocator, const kiln_cpu_options *options,
                                     kiln_executor **out, kiln_error *error) {
    const kiln_cpu_options chosen = options != NULL ? *options : (kiln_cpu_options){0};
    if (out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "no place to put the executor");
    *out = NULL;
    kiln_status status = check_cpu_options(&chosen, error);
    if (status != KILN_OK)
        return status;
    const uint32_t most = chosen.pool != NULL ? kiln_cpu_pool_threads(chosen.pool) : KILN__CPU_MAX_THREADS;
    uint32_t threads = chosen.threads > 0 ? chosen.threads : chosen.pool != NULL ? most : kiln__processors();
    threads = threads < most ? threads : most;
    const kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln__cpu_executor *cpu = a.alloc(a.context, sizeof *cpu, KILN__LINE);
    if (cpu == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "out of memory: %zu bytes for an executor",
                              sizeof *cpu);
    memset(cpu, 0, sizeof *cpu);
    cpu->features = kiln__cpu_features() & ~chosen.without;
    cpu->base = (kiln_executor){&cpu_table, a, threads, 1, level_name(cpu->features)};
    cpu->parallel_for = chosen.parallel_for;
    cpu->parallel_for_context = chosen.parallel_for_context;
    atomic_init(&cpu->prepared, 0);
    status = find_pool(cpu, &chosen, threads, error);
    if (status != KILN_OK) {
        a.free(a.context, cpu, sizeof *cpu);
        return status;
    }
    /* Who computes has a slot for itself: any of the pool's threads may, if not all at once. */
    const uint32_t all = kiln_cpu_pool_threads(cpu->pool);
    cpu->base.lanes = threads == 1 || all < threads ? threads : all;
    /* Relaxed: the caller orders it before the pool's destruction. */
    atomic_fetch_add_explicit(&cpu->pool->executors, 1, memory_order_relaxed);
    *out = &cpu->base;
    return KILN_OK;
}
