/* What threads note down about a run while its session is profiled: kernel calls and the opening of regions, each
 * thread in a list of its own. Internal; capture/profile.c makes sense of it.
 *
 * A call that begins where the one before it ended takes one look at the clock and one entry, others two. Ticks are the
 * processor's time stamp counter where it runs at one speed and in step on all cores (x86-64 says so; on arm64 the
 * architecture does), else nanoseconds. */
#ifndef KILN_PROFILE_INTERNAL_H
#define KILN_PROFILE_INTERNAL_H

#include "sync.h"

#include <stddef.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

typedef enum kiln__profile_kind {
    KILN__PROFILE_RUN,   /* what follows belongs to submission `value` */
    KILN__PROFILE_OPEN,  /* region `index` was opened for others */
    KILN__PROFILE_BEGIN, /* a call begins, with tile `value` */
    KILN__PROFILE_CALL /* of record `index`, with `value` tiles: ends; it began at the entry before this one, and where
                            that is a call of the same record, with the tile behind its last, else with tile 0 */
} kiln__profile_kind;

typedef struct kiln__profile_entry {
    uint64_t ticks;
    uint32_t kind : 2, index : 30;
    uint32_t value;
} kiln__profile_entry;

typedef struct kiln__profile_lane {
    _Alignas(128) kiln__profile_entry *entries; /* [capacity] */
    size_t n, capacity;
    size_t dropped; /* calls, for want of room */
    uint32_t run;   /* noted last */
} kiln__profile_lane;

typedef struct kiln__profile {
    uint32_t n_lanes;
    bool by_clock;
    size_t bytes;
    uint64_t ticks0; /* the same moment on both clocks */
    int64_t ns0;
    kiln__profile_lane lanes[];
} kiln__profile;

/* Is the time stamp counter a clock? Intel SDM 3B 18.17.1, AMD APM 2 13.2.4: CPUID 80000007h, EDX bit 8. */
static inline bool kiln__ticks_steady(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8)) != 0;
#elif defined(__aarch64__)
    return true;
#else
    return false;
#endif
}

static inline uint64_t kiln__ticks(const kiln__profile *profile) {
#if defined(__x86_64__)
    if (!profile->by_clock)
        return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    if (!profile->by_clock) {
        uint64_t ticks;
        __asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(ticks));
        return ticks;
    }
#endif
    (void)profile;
    return (uint64_t)kiln__now_ns();
}

static inline void kiln__profile_note(kiln__profile *profile, uint32_t lane, kiln__profile_kind kind,
                                      uint32_t index, uint32_t value) {
    kiln__profile_lane *l = &profile->lanes[lane];
    if (l->n < l->capacity)
        l->entries[l->n++] = (kiln__profile_entry){kiln__ticks(profile), kind, index & 0x3fffffff, value};
    else
        l->dropped += kind == KILN__PROFILE_CALL;
}

/* Before anything else of a submission, by each thread. */
static inline void kiln__profile_enter(kiln__profile *profile, uint32_t lane, uint32_t run) {
    kiln__profile_lane *l = &profile->lanes[lane];
    if (l->n > 0 && l->run == run)
        return;
    l->run = run;
    kiln__profile_note(profile, lane, KILN__PROFILE_RUN, 0, run);
}

#endif
