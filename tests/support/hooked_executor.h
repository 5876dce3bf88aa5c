/* The CPU executor's own sources, compiled into the test behind the hooks of hooked_sync.h. The library's are then not
 * linked: all that they define is defined here. */
#ifndef KILN_TEST_HOOKED_EXECUTOR_H
#define KILN_TEST_HOOKED_EXECUTOR_H

#include "hooked_sync.h"

#include "sched/cpu_pool.c"
#include "sched/cpu_run.c"
#include "sched/cpu_executor.c"

#endif
