/* Executors: what runs a session's records. The CPU executor is a pool of threads. */
#ifndef KILN_EXECUTOR_H
#define KILN_EXECUTOR_H

#include "kiln_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_executor kiln_executor;

/* Zeroed fields mean the default. */
typedef struct kiln_cpu_options {
    /* Threads that compute, the one that waits included; 0: one per online processor. With 1 there is no
     * pool: a submission makes progress inside kiln_wait only. */
    uint32_t threads;
    uint32_t spin_us; /* how long an idle worker spins before it parks; 0: a default of a few µs */
    uint32_t without; /* KILN_CPU_* features not to use although the processor has them */
} kiln_cpu_options;

/* Starts threads - 1 workers. `options` and `allocator` may be NULL. Results do not depend on the number of
 * threads. Errors: KILN_ERROR_ARGUMENT (out NULL, more than 1024 threads), KILN_ERROR_MEMORY,
 * KILN_ERROR_SYSTEM (a thread could not be started). Any thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cpu_executor_create(const kiln_allocator *allocator,
                                                              const kiln_cpu_options *options,
                                                              kiln_executor **out, kiln_error *error);

/* Stops and joins the workers and frees the executor; NULL is allowed. KILN_ERROR_BUSY, and nothing happens,
 * while sessions made on it exist. One thread at a time. */
KILN_API kiln_status kiln_executor_destroy(kiln_executor *executor, kiln_error *error);

/* "cpu". Static. Any thread. */
KILN_API const char *kiln_executor_name(const kiln_executor *executor);

/* Threads that compute, the waiting one included. Any thread. */
KILN_API uint32_t kiln_executor_threads(const kiln_executor *executor);

/* The CPU level kernels run at: "base", "avx2", "avx512". Static. Any thread. */
KILN_API const char *kiln_executor_level(const kiln_executor *executor);

#ifdef __cplusplus
}
#endif
#endif
