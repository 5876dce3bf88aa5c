/* The floating-point mode: rounding, flushing to zero, traps. A host may have changed it in the thread that
 * calls us (so does linking with -ffast-math), and threads inherit it from the thread that makes them.
 * Whatever computes with floats, reads or writes numbers enters one fixed mode and leaves it again, so that
 * results depend neither on the host's mode nor on the thread that computes:
 *
 *     kiln__fp mode = kiln__enter_fp_mode();
 *     …
 *     kiln__leave_fp_mode(mode);
 *
 * Where the mode is the right one already both calls only look at it. Pairs may lie within each other.
 * Internal. */
#ifndef KILN_FP_MODE_H
#define KILN_FP_MODE_H

#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <fenv.h>
#endif

/* x86-64: MXCSR, and the x87 control word from bit 32 on, which C libraries ask for the rounding when they
 * convert numbers. arm64: FPCR. Elsewhere the rounding of fenv.h. */
typedef uint64_t kiln__fp;

#if defined(__x86_64__)
#define KILN__FP_OURS ((kiln__fp)0x037f << 32 | 0x1f80)
#elif defined(__aarch64__)
#define KILN__FP_OURS ((kiln__fp)0)
#else
#define KILN__FP_OURS ((kiln__fp)FE_TONEAREST)
#endif

static inline kiln__fp kiln__fp_mode(void) {
#if defined(__x86_64__)
    uint16_t x87;
    __asm__ __volatile__("fnstcw %0" : "=m"(x87));
    /* The sticky exception flags are not a mode. */
    return (kiln__fp)x87 << 32 | (__builtin_ia32_stmxcsr() & ~0x3fu);
#elif defined(__aarch64__)
    kiln__fp mode;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(mode)::"memory");
    return mode;
#else
    return (kiln__fp)fegetround();
#endif
}

static inline void kiln__set_fp_mode(kiln__fp mode) {
#if defined(__x86_64__)
    uint16_t x87 = (uint16_t)(mode >> 32);
    __asm__ __volatile__("fldcw %0" ::"m"(x87) : "memory");
    __builtin_ia32_ldmxcsr((unsigned)mode | (__builtin_ia32_stmxcsr() & 0x3f));
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" ::"r"(mode) : "memory");
#else
    (void)fesetround((int)mode);
#endif
}

/* Round to nearest, subnormals kept, no traps. Returns the mode to put back. */
static inline kiln__fp kiln__enter_fp_mode(void) {
    kiln__fp before = kiln__fp_mode();
    if (before != KILN__FP_OURS)
        kiln__set_fp_mode(KILN__FP_OURS);
    return before;
}

static inline void kiln__leave_fp_mode(kiln__fp before) {
    if (kiln__fp_mode() != before)
        kiln__set_fp_mode(before);
}

#endif
