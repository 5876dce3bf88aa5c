/* Pools: threads that compute for CPU executors. Most hosts never see one, since kiln_cpu_executor_create makes its
 * own. Making one by hand is for hosts that
 * - have several executors (one per model, or per precision or level) and do not want threads for each;
 * - have threads of their own that could compute for a while: guests;
 * - care where, how urgently and under which names threads run.
 *
 * Any number of sessions of any number of executors run on a pool at once, and take turns. The thread that waits
 * for a submission computes as well; it belongs to no pool.
 *
 * After fork the child has no workers: there, what would need them answers KILN_ERROR_SYSTEM, and everything can
 * be destroyed. */
#ifndef KILN_CPU_POOL_H
#define KILN_CPU_POOL_H

#include "kiln_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_cpu_pool kiln_cpu_pool;

/* How urgently the system should run a pool's workers, against the threads of the rest of the machine. On Linux:
 * nice values of 10 at least and of -10 at most, and SCHED_FIFO at its lowest; on macOS: the classes utility and
 * user-interactive, and SCHED_FIFO at its lowest. The last two want privileges on Linux. */
typedef enum kiln_priority {
    KILN_PRIORITY_NORMAL, /* as the thread that makes the pool */
    KILN_PRIORITY_LOW,
    KILN_PRIORITY_HIGH,
    KILN_PRIORITY_REALTIME
} kiln_priority;

/* Zeroed fields mean the default. */
typedef struct kiln_cpu_pool_options {
    /* Threads that compute for one submission, the one that waits for it included: 1 + workers + guests. 0: one per
     * processor that this process may use, but no fewer than 1 + guests. */
    uint32_t threads;
    uint32_t
        guests; /* how many of them are the host's own, coming by kiln_cpu_pool_help; the others are workers */
    /* How long an idle thread spins before it parks, at most: one that finds that its processor was taken away parks at
     * once. 0: a default of a few µs. */
    uint32_t spin_us;
    /* Workers may all be awake at a time. Else no more of them are than there are processors beside the waiting
     * thread's: more would only take turns, and each turn holds up somebody. */
    bool oversubscribe;
    const uint32_t
        *affinity;       /* worker i runs on processor affinity[i % n_affinity] only; read during create */
    uint32_t n_affinity; /* 0: wherever the thread that makes the pool may run */
    kiln_priority priority;
    size_t stack_bytes; /* of a worker; 0: the system's default. Our kernels need less than 64 KiB */
    const char *
        name; /* workers are called "name-1", "name-2", … where systems show it (Linux: 15 bytes); NULL: "kiln" */
} kiln_cpu_pool_options;

/* Starts the workers, with all signals blocked; they run before it returns. `options` and `allocator` may be NULL
 * (malloc); the allocator must outlive the pool. *out is the caller's, for kiln_cpu_pool_destroy. Errors:
 * - KILN_ERROR_ARGUMENT: out is NULL, more than 1024 threads, guests that leave no thread to wait, n_affinity without
 *   affinity, an unknown priority;
 * - KILN_ERROR_UNSUPPORTED: affinity where the system has none (macOS);
 * - KILN_ERROR_SYSTEM: the system refused a thread, its processor, its priority, its stack size; the text says which;
 * - KILN_ERROR_MEMORY.
 * Any thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cpu_pool_create(const kiln_allocator *allocator,
                                                          const kiln_cpu_pool_options *options,
                                                          kiln_cpu_pool **out, kiln_error *error);

/* Stops and joins the workers and frees the pool; NULL is allowed. KILN_ERROR_BUSY, and nothing happens, while
 * executors on it exist or guests are inside. One thread, while no other calls for the pool. */
KILN_API kiln_status kiln_cpu_pool_destroy(kiln_cpu_pool *pool, kiln_error *error);

/* Threads that compute for one submission: 1 + workers + guests; 1 for NULL. Any thread. */
KILN_API uint32_t kiln_cpu_pool_threads(const kiln_cpu_pool *pool);

/* The calling thread computes for whatever runs on the pool, as a worker does, and leaves between two tiles:
 * - timeout_ns = 0: as soon as there is nothing for it to compute;
 * - timeout_ns > 0: after that many nanoseconds;
 * - timeout_ns < 0: when kiln_cpu_pool_dismiss is called, which ends the others as well.
 * While there is nothing to do it spins and sleeps as workers do. What is running goes on without it. Kernels
 * run on it, with the floating-point mode set for them and set back afterwards. KILN_ERROR_ARGUMENT (NULL),
 * KILN_ERROR_BUSY (as many guests as the pool has room for are inside), KILN_ERROR_SYSTEM (in the child of a fork).
 * Any thread, but not from inside a kernel or a callback of a run. */
KILN_API kiln_status kiln_cpu_pool_help(kiln_cpu_pool *pool, int64_t timeout_ns);

/* Makes the guests that are inside now leave, each at the end of its tiles at hand; does not wait for them. Those who
 * come later stay. NULL is allowed. Any thread. */
KILN_API void kiln_cpu_pool_dismiss(kiln_cpu_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
