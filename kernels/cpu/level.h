/* CPU levels. Every file in kernels/cpu/ is compiled once per level the target has (see LEVEL_FLAGS_* in the
 * Makefile): "base" is what the ABI guarantees (SSE2 on x86-64, NEON on arm64), the others need CPU features.
 * A kernel is written once, in C that vectorises well, and named through KILN_LEVEL_FN.
 *
 *     in kernels/cpu/unary.c:  kiln_status KILN_LEVEL_FN(silu)(const kiln_args *args, kiln_tile *tile) { … }
 *     in ops/silu.c:           KILN_CPU_DECLARE(silu)
 *                              static const kiln_kernel kernels[] = {
 *                                  KILN_CPU_KERNELS(silu, kiln__tiles_unary, NULL, kiln__cost_function)};
 */
#ifndef KILN_LEVEL_H
#define KILN_LEVEL_H

#include "kiln_op.h"

#define KILN_CAT_(a, b, c) a##b##_##c
#define KILN_CAT(a, b, c)  KILN_CAT_(a, b, c)

#ifdef KILN_LEVEL
#define KILN_LEVEL_FN(name) KILN_CAT(kiln__, name, KILN_LEVEL)
#endif

#if defined(__x86_64__)
#define KILN_CPU_EACH(X, ...)                                                                                \
    X(base, 0, __VA_ARGS__)                                                                                  \
    X(avx2, KILN_CPU_AVX2, __VA_ARGS__) X(avx512, KILN_CPU_AVX2 | KILN_CPU_AVX512, __VA_ARGS__)
#else
#define KILN_CPU_EACH(X, ...) X(base, 0, __VA_ARGS__)
#endif

#define KILN_CPU_DECLARE_(level, features, name)                                                             \
    kiln_status kiln__##name##_##level(const kiln_args *args, kiln_tile *tile);
#define KILN_CPU_DECLARE(name) KILN_CPU_EACH(KILN_CPU_DECLARE_, name)

/* Rows of a kernel table: one per level, plainest first. */
#define KILN_CPU_ROW_(level, features, name, tiles, scratch, cost)                                           \
    {#name "_" #level, features, NULL, tiles, scratch, kiln__##name##_##level, cost},
#define KILN_CPU_KERNELS(name, tiles, scratch, cost) KILN_CPU_EACH(KILN_CPU_ROW_, name, tiles, scratch, cost)

#endif
