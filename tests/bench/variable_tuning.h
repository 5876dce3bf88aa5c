/* Included in front of the executor's sources when they are built for `make bench-tuning`: their tuning numbers become a
 * variable of the benchmark, in its copy of the executor only. */
#ifndef KILN_BENCH_VARIABLE_TUNING_H
#define KILN_BENCH_VARIABLE_TUNING_H

#define kiln__cpu_tuning bench_fixed_tuning
#include "tuning.h"
#undef kiln__cpu_tuning
#define kiln__cpu_tuning bench_tuning

extern kiln__tuning bench_tuning; /* read when sessions are made and counts change */

#endif
