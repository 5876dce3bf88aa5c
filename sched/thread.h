/* What systems do differently about threads: how many processors there are for us, and where, how urgently and under
 * which name a thread runs. Internal. */
#ifndef KILN_THREAD_H
#define KILN_THREAD_H

#include "kiln_cpu_pool.h"

#include <pthread.h>

/* Processors that this process may run on: at least 1. */
uint32_t kiln__processors(void);

/* A thread of at least `stack` bytes (0: as is usual) with all signals blocked, so that handlers run on the host's own
 * threads. Returns 0 or an error number. */
int kiln__thread_start(pthread_t *out, size_t stack, void *(*main)(void *), void *arg);

/* The calling thread becomes worker `index` (from 0) as the options want it. Returns 0, or an error number with what
 * could not be done in text. */
int kiln__thread_settle(const kiln_cpu_pool_options *options, uint32_t index, char *text, size_t size);

/* The processor that the calling thread runs on at this moment; -1: not to be had. */
int kiln__thread_processor(void);

/* The calling thread goes to another processor than this one, if it may run on several, and may come back later. */
void kiln__thread_move_away(int processor);

/* Is there affinity here? */
bool kiln__thread_has_affinity(void);

#endif
