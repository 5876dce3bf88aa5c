/* The CPU executor's own sources, compiled into the test with the hooks of hooked_sync.h. The library's are
 * then not linked: all that they define is defined here. */
#ifndef KILN_TEST_HOOKED_EXECUTOR_H
#define KILN_TEST_HOOKED_EXECUTOR_H

#include "hooked_sync.h"

#ifdef HOOKED_SIMULATED
/* Loops that poll end in this; pausing, yielding and napping by turns would make states without end. */
#include "sync.h"
static void hooked_back_off(uint32_t *turn);
#define kiln__back_off(turn) hooked_back_off(turn)
/* Going back to a state before destroy does not map the page again. */
#include "fork_mark.h"
#define kiln__fork_mark_free(mark) ((void)(mark))
#endif

/* Threads are made through the hooks, and only so; how many there are does not depend on the machine. */
#include "thread.h"
uint32_t kiln__processors(void) {
    return 2;
}
int kiln__thread_start(pthread_t *out, size_t stack, void *(*run)(void *), void *arg) {
    (void)stack;
    return pthread_create(out, NULL, run, arg);
}
int kiln__thread_settle(const kiln_cpu_pool_options *options, uint32_t index, char *text, size_t size) {
    (void)options;
    (void)index;
    (void)text;
    (void)size;
    return 0;
}
int kiln__thread_processor(void) {
    return -1;
}
void kiln__thread_move_away(int processor) {
    (void)processor;
}
bool kiln__thread_has_affinity(void) {
    return false;
}

#include "sched/cpu_pool.c"
#ifdef HOOKED_SIMULATED
/* The two calls in which a thread computes for a pool: the test notes that they begin and end. */
static void hooked_live(kiln__cpu_lane *lane);
static kiln_status hooked_help(kiln__cpu_run *run, uint64_t serial, int64_t deadline);
#define kiln__cpu_live(lane)                  hooked_live(lane)
#define kiln__cpu_help(run, serial, deadline) hooked_help(run, serial, deadline)
#endif
#include "sched/cpu_run.c"
#include "sched/cpu_executor.c"
#include "sched/cpu_threads.c"
#include "sched/cpu_company.c"
#include "sched/cpu_host.c"
#include "sched/cpu_describe.c"

#endif
