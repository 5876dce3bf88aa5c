/* Executors: what runs a session's records. The CPU executor is a pool of threads, which any number of
 * sessions may share and run on at once.
 *
 * After fork the child has no workers. With more than one thread the executor and its sessions answer
 * KILN_ERROR_SYSTEM there to kiln_session_create, kiln_submit, kiln_run, and kiln_wait for what was running;
 * they can be destroyed, and a new executor made. With one thread all goes on in the child, if no call on it
 * was under way in another thread. */
#ifndef KILN_EXECUTOR_H
#define KILN_EXECUTOR_H

#include "kiln_cpu_pool.h"
#include "kiln_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_executor kiln_executor;

/* The host's way to compute in parallel: calls body(arg, i) once for each 0 ≤ i < n, in any order, on any threads, and
 * returns when all of these calls have. They never wait for each other, so it may as well make them one after
 * another; no two calls of one i may overlap, and none may begin after the return. `context` is from
 * kiln_cpu_options. */
typedef void (*kiln_parallel_for)(void *context, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg);

/* Zeroed fields mean the default. */
typedef struct kiln_cpu_options {
    /* Threads that compute, the one that waits included; 0: as many as the pool has (more are not to be had), without
     * a pool one per processor that this process may use (a container's quota of their time is not known here: ask
     * for fewer there). With 1 no other thread takes part: a submission makes progress inside kiln_wait only, which
     * is also so with parallel_for. Threads that sleep are woken for work that lasts longer than their waking;
     * whether they help with less, where calls of kiln_run follow one another closely, is measured while they do,
     * and what was faster is kept. */
    uint32_t threads;
    /* Of threads of its own, so not with a pool or parallel_for; as in kiln_cpu_pool_options, which has more: for
     * affinity, priority, stack size, names and guests, make a pool. */
    uint32_t spin_us;   /* how long an idle worker spins before it parks; 0: a default of a few µs */
    bool oversubscribe; /* more workers may be awake than there are processors for */
    uint32_t without;   /* KILN_CPU_* features not to use although the processor has them */
    /* Whose threads compute; NULL: threads of its own. It must outlive the executor; not used by 1 thread. */
    kiln_cpu_pool *pool;
    /* Instead of a pool: the host's threads compute what is worth sharing, one call for each region of this kind, from
     * inside kiln_wait. NULL: not. */
    kiln_parallel_for parallel_for;
    void *parallel_for_context;
} kiln_cpu_options;

/* Makes an executor; without a pool and parallel_for it starts threads - 1 workers, with all signals blocked.
 * `options` and `allocator` may be NULL (malloc). The allocator must outlive the executor; sessions take the memory
 * of their runs from it too, when they are made and destroyed, on the threads that do that: it must be thread-safe
 * when these are several. Results do not depend on the number of threads, nor on whose they are. *out is the
 * caller's, for kiln_executor_destroy. Errors: KILN_ERROR_ARGUMENT (out NULL, more than 1024 threads, a pool and
 * parallel_for, or spin_us or oversubscribe with either), KILN_ERROR_MEMORY, KILN_ERROR_SYSTEM (the system refused a thread, a mutex or
 * the like; the pool belongs to the parent of a fork). Any thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cpu_executor_create(const kiln_allocator *allocator,
                                                              const kiln_cpu_options *options,
                                                              kiln_executor **out, kiln_error *error);

/* Frees the executor; if it has threads of its own, it stops and joins them. NULL is allowed. KILN_ERROR_BUSY, and
 * nothing happens, while sessions made on it exist. One thread, while no other makes or destroys a session on it. */
KILN_API kiln_status kiln_executor_destroy(kiln_executor *executor, kiln_error *error);

/* "cpu"; "" for NULL. Static. Any thread. */
KILN_API const char *kiln_executor_name(const kiln_executor *executor);

/* Threads that compute, the waiting one included; 1 for NULL. Any thread. */
KILN_API uint32_t kiln_executor_threads(const kiln_executor *executor);

/* The CPU level kernels run at: "base", "avx2", "avx512"; "" for NULL. Static. Any thread. */
KILN_API const char *kiln_executor_level(const kiln_executor *executor);

#ifdef __cplusplus
}
#endif
#endif
