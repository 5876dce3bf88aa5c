/* Pools as hosts see them: their workers, started and stopped, and the host's own threads as guests. What all of these
 * do meanwhile is in cpu_pool.c. */
#include "checked.h"
#include "fp_mode.h"
#include "cpu_pool.h"
#include "thread.h"

#include <stdio.h>
#include <string.h>

/* ---- workers ---------------------------------------------------------------------------------------- */

/* What a starting worker and its maker share. */
typedef struct worker_start {
    const kiln_cpu_pool_options *options;
    kiln__cpu_worker *worker;
    pthread_cond_t *settled; /* with pool->lock */
    bool done;
    int refused;
    char text[96];
} worker_start;

static void *worker_main(void *context) {
    worker_start *s = context;
    kiln_cpu_pool *pool = s->worker->pool;
    kiln__cpu_lane lane = {
        .pool = pool, .role = KILN__CPU_WORKER, .index = s->worker->index, .deadline = KILN__NO_DEADLINE};
    int refused = kiln__thread_settle(s->options, s->worker->index - 1, s->text, sizeof s->text);
    pthread_mutex_lock(&pool->lock);
    pool->present++;
    s->refused = refused;
    s->done = true;
    pthread_cond_signal(s->settled); /* from here on `s` is the maker's */
    pthread_mutex_unlock(&pool->lock);
    kiln__enter_fp_mode();
    kiln__cpu_live(&lane);
    return NULL;
}

/* Stops and joins the first `n` workers. */
static void stop_workers(kiln_cpu_pool *pool, uint32_t n) {
    pthread_mutex_lock(&pool->lock);
    /* Relaxed: joining orders everything. */
    atomic_store_explicit(&pool->stop, 1, memory_order_relaxed);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < n; i++)
        pthread_join(pool->workers[i].thread, NULL);
}

/* Starts worker i and waits until it is as it was asked to be. */
static kiln_status start_worker(kiln_cpu_pool *pool, const kiln_cpu_pool_options *options,
                                pthread_cond_t *settled, uint32_t i, kiln_error *error) {
    kiln__cpu_worker *worker = &pool->workers[i];
    worker_start s = {.options = options, .worker = worker, .settled = settled};
    *worker = (kiln__cpu_worker){.pool = pool, .index = i + 1};
    int refused = kiln__thread_start(&worker->thread, options->stack_bytes, worker_main, &s);
    if (refused != 0)
        return kiln_error_set(
            error, KILN_ERROR_SYSTEM,
            "worker %u of %u could not be started: error %d; ask for fewer threads, or for a smaller stack",
            (unsigned)i + 1, (unsigned)pool->n_workers, refused);
    pthread_mutex_lock(&pool->lock);
    while (!s.done)
        kiln__cond_wait(settled, &pool->lock, KILN__NO_DEADLINE);
    pthread_mutex_unlock(&pool->lock);
    if (s.refused == 0)
        return KILN_OK;
    stop_workers(pool, i + 1);
    return kiln_error_set(error, KILN_ERROR_SYSTEM, "%s: error %d", s.text, s.refused);
}

static kiln_status start_workers(kiln_cpu_pool *pool, const kiln_cpu_pool_options *options,
                                 kiln_error *error) {
    pthread_cond_t settled;
    if (!kiln__cond_init(&settled))
        return kiln_error_set(error, KILN_ERROR_SYSTEM, "the system refused a condition variable");
    kiln_status status = KILN_OK;
    for (uint32_t i = 0; i < pool->n_workers && status == KILN_OK; i++) {
        status = start_worker(pool, options, &settled, i, error);
        if (status != KILN_OK && !atomic_load_explicit(&pool->stop, memory_order_relaxed))
            stop_workers(pool, i); /* relaxed: this thread wrote it */
    }
    pthread_cond_destroy(&settled);
    return status;
}

/* ---- create and destroy ----------------------------------------------------------------------------- */

static void pool_free(kiln_cpu_pool *pool) {
    kiln_allocator a = pool->allocator;
    kiln__fork_mark_free(&pool->fork_mark);
    a.free(a.context, pool, pool->bytes);
}

/* How many of the pool's threads may be awake: one processor is the waiting thread's. */
static uint32_t find_awake_max(const kiln_cpu_pool *pool, const kiln_cpu_pool_options *options) {
    const uint32_t all = pool->n_workers + pool->n_guests;
    uint32_t room = kiln__processors() - 1, distinct = 0;
    for (uint32_t i = 0; i < options->n_affinity; i++) { /* these were chosen for workers */
        uint32_t k = 0;
        while (options->affinity[k] != options->affinity[i])
            k++;
        distinct += k == i;
    }
    room = options->n_affinity > 0 ? distinct : room > 0 ? room : 1;
    return options->oversubscribe || room > all ? all : room;
}

static kiln_status check_pool_options(const kiln_cpu_pool_options *o, uint32_t threads, kiln_error *error) {
    if (o->guests >= KILN__CPU_MAX_THREADS)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "%u guests asked for, at most %d possible",
                              (unsigned)o->guests, (int)KILN__CPU_MAX_THREADS - 1);
    if (threads > KILN__CPU_MAX_THREADS)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "%u threads asked for, at most %d possible",
                              (unsigned)threads, (int)KILN__CPU_MAX_THREADS);
    if (o->guests >= threads)
        return kiln_error_set(
            error, KILN_ERROR_ARGUMENT,
            "%u guests among %u threads: one of them waits, so it takes at least %u threads",
            (unsigned)o->guests, (unsigned)threads, (unsigned)o->guests + 1);
    if (o->n_affinity > 0 && o->affinity == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "n_affinity is %u, but affinity is NULL",
                              (unsigned)o->n_affinity);
    if ((unsigned)o->priority > KILN_PRIORITY_REALTIME)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "unknown priority %d", (int)o->priority);
    if (o->n_affinity > 0 && !kiln__thread_has_affinity())
        return kiln_error_set(error, KILN_ERROR_UNSUPPORTED,
                              "this system cannot bind threads to processors: leave affinity out");
    return KILN_OK;
}

static uint32_t default_threads(uint32_t guests) {
    const uint32_t n = kiln__processors(), least = guests < KILN__CPU_MAX_THREADS ? guests + 1 : guests;
    const uint32_t most = n < KILN__CPU_MAX_THREADS ? n : KILN__CPU_MAX_THREADS;
    return most > least ? most : least;
}

/* Locks, then workers; undone when it fails. */
static kiln_status pool_open(kiln_cpu_pool *pool, const kiln_cpu_pool_options *options, kiln_error *error) {
    kiln_status status = KILN_ERROR_SYSTEM;
    if (pthread_mutex_init(&pool->lock, NULL) != 0)
        return kiln_error_set(error, status, "the system refused a mutex");
    if (!kiln__cond_init(&pool->work)) {
        kiln_error_set(error, status, "the system refused a condition variable");
    } else {
        status = start_workers(pool, options, error);
        if (status != KILN_OK)
            pthread_cond_destroy(&pool->work);
    }
    if (status != KILN_OK)
        pthread_mutex_destroy(&pool->lock);
    return status;
}

kiln_status kiln_cpu_pool_create(const kiln_allocator *allocator, const kiln_cpu_pool_options *options,
                                 kiln_cpu_pool **out, kiln_error *error) {
    const kiln_cpu_pool_options chosen = options != NULL ? *options : (kiln_cpu_pool_options){0};
    if (out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "no place to put the pool");
    *out = NULL;
    const uint32_t threads = chosen.threads > 0 ? chosen.threads : default_threads(chosen.guests);
    kiln_status status = check_pool_options(&chosen, threads, error);
    if (status != KILN_OK)
        return status;
    const kiln_allocator a = kiln__allocator_or_default(allocator);
    const uint32_t n_workers = threads - 1 - chosen.guests;
    const size_t seats = sizeof(kiln_cpu_pool) + n_workers * sizeof(kiln__cpu_worker);
    const size_t bytes = seats + chosen.guests * sizeof(bool);
    unsigned char *block = a.alloc(a.context, bytes, KILN__LINE);
    if (block == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "out of memory: %zu bytes for a pool of %u threads",
                              bytes, (unsigned)threads);
    memset(block, 0, bytes);
    kiln_cpu_pool *pool = (kiln_cpu_pool *)(void *)block;
    pool->allocator = a;
    pool->bytes = bytes;
    pool->n_workers = n_workers;
    pool->n_guests = chosen.guests;
    pool->placed = chosen.n_affinity > 0;
    pool->awake_max = find_awake_max(pool, &chosen);
    pool->spin_ns = (int64_t)(chosen.spin_us > 0 ? chosen.spin_us : KILN__CPU_SPIN_US) * 1000;
    pool->fork_mark = kiln__fork_mark_make();
    pool->seats = (bool *)(block + seats);
    atomic_init(&pool->executors, 0);
    atomic_init(&pool->n_active, 0);
    atomic_init(&pool->stop, 0);
    atomic_init(&pool->dismissals, 0);
    atomic_init(&pool->parked, 0);
    status = pool_open(pool, &chosen, error);
    if (status != KILN_OK) {
        pool_free(pool);
        return status;
    }
    *out = pool;
    return KILN_OK;
}

kiln_status kiln_cpu_pool_destroy(kiln_cpu_pool *pool, kiln_error *error) {
    if (pool == NULL)
        return KILN_OK;
    /* Relaxed: the caller orders the making and destroying of executors before this. */
    uint32_t executors = atomic_load_explicit(&pool->executors, memory_order_relaxed);
    if (executors > 0)
        return kiln_error_set(error, KILN_ERROR_BUSY, "%u executor(s) made on this pool still exist",
                              (unsigned)executors);
    if (!kiln__cpu_in_child(pool)) { /* there, the others are gone, and the lock may be held for good */
        pthread_mutex_lock(&pool->lock);
        const uint32_t guests = pool->present - pool->n_workers;
        pthread_mutex_unlock(&pool->lock);
        if (guests > 0)
            return kiln_error_set(error, KILN_ERROR_BUSY,
                                  "%u guest(s) are still inside: kiln_cpu_pool_dismiss, and join them",
                                  (unsigned)guests);
        stop_workers(pool, pool->n_workers);
        pthread_cond_destroy(&pool->work);
        pthread_mutex_destroy(&pool->lock);
    }
    pool_free(pool);
    return KILN_OK;
}

uint32_t kiln_cpu_pool_threads(const kiln_cpu_pool *pool) {
    return pool != NULL ? 1 + pool->n_workers + pool->n_guests : 1;
}

/* ---- guests ----------------------------------------------------------------------------------------- */

/* Takes a free seat: *seat, and how many dismissals there have been. False: there is none. */
static bool sit_down(kiln_cpu_pool *pool, uint32_t *seat, uint32_t *dismissals) {
    uint32_t i = 0;
    pthread_mutex_lock(&pool->lock);
    while (i < pool->n_guests && pool->seats[i])
        i++;
    const bool found = i < pool->n_guests;
    if (found) {
        pool->seats[i] = true;
        pool->present++;
    }
    *seat = i;
    *dismissals = atomic_load_explicit(&pool->dismissals, memory_order_relaxed); /* relaxed: under the lock */
    pthread_mutex_unlock(&pool->lock);
    return found;
}

kiln_status kiln_cpu_pool_help(kiln_cpu_pool *pool, int64_t timeout_ns) {
    if (pool == NULL)
        return KILN_ERROR_ARGUMENT;
    if (kiln__cpu_in_child(pool))
        return KILN_ERROR_SYSTEM;
    uint32_t seat;
    kiln__cpu_lane lane = {.pool = pool, .role = KILN__CPU_GUEST, .brief = timeout_ns == 0};
    lane.deadline = timeout_ns == 0 ? KILN__NO_DEADLINE : kiln__deadline(timeout_ns);
    if (!sit_down(pool, &seat, &lane.dismissals))
        return KILN_ERROR_BUSY;
    lane.index = 1 + pool->n_workers + seat;
    kiln__fp mode = kiln__enter_fp_mode();
    kiln__cpu_live(&lane);
    kiln__leave_fp_mode(mode);
    kiln__cpu_hand_over(pool, seat);
    return KILN_OK;
}

void kiln_cpu_pool_dismiss(kiln_cpu_pool *pool) {
    if (pool == NULL || kiln__cpu_in_child(pool))
        return;
    pthread_mutex_lock(&pool->lock);
    /* Relaxed: under the lock, which sleepers look at it under; who computes sees it soon enough. */
    atomic_fetch_add_explicit(&pool->dismissals, 1, memory_order_relaxed);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}
