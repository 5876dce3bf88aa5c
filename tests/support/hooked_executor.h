/* The CPU executor's own sources, compiled into the test behind the hooks of hooked_sync.h. The library's are then not
 * linked: all that they define is defined here. */
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

#include "sched/cpu_pool.c"
#include "sched/cpu_run.c"
#include "sched/cpu_executor.c"
#include "sched/cpu_threads.c"
#include "sched/cpu_host.c"
#include "sched/cpu_describe.c"

#endif
