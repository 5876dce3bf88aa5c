#include "cpu_features.h"
#include "kiln_op.h"

uint32_t kiln__cpu_features(void) {
    uint32_t features = 0;
#if defined(__x86_64__)
    /* The builtins also ask the operating system (XGETBV) whether it saves the wide registers. */
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        features |= KILN_CPU_AVX2;
    if ((features & KILN_CPU_AVX2) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        features |= KILN_CPU_AVX512;
#endif
    return features;
}
