/* What the processor this runs on can do. Internal. */
#ifndef KILN_CPU_FEATURES_H
#define KILN_CPU_FEATURES_H

#include <stdint.h>

/* KILN_CPU_* bits that this processor and operating system support. No environment, no files; any thread. */
uint32_t kiln__cpu_features(void);

#endif
