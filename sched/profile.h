/* What threads note down about a run while its session is profiled: kernel calls and the opening of regions, each
 * thread in a list of its own. Internal; capture/profile.c makes sense of it.
 *
 * A call is noted with one look at the clock when the one before it ended right there, else with two. Ticks are the
 * processor's time stamp counter where it runs at one speed and in step on all cores (x86-64 says so; on arm64 the
 * architecture does), else nanoseconds. */
#ifndef KILN_PROFILE_INTERNAL_H
#define KILN_PROFILE_INTERNAL_H

#include "sync.h"

#include <stddef.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

typedef struct kiln__profile_event {
    uint64_t start, end; /* ticks; `end` of an opening is 0 */
    uint32_t run;        /* the submission's number */
    uint32_t index;      /* a record, or the region that was opened */
    uint32_t first, tiles;
} kiln__profile_event;

typedef struct kiln__profile_lane {
    _Alignas(128) kiln__profile_event *events; /* [capacity] */
    size_t n;
    size_t dropped; /* for want of room */
} kiln__profile_lane;

typedef struct kiln__profile {
    uint32_t n_lanes;
    bool by_clock;
    size_t capacity, bytes;
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

static inline void kiln__profile_note(kiln__profile *profile, uint32_t lane, kiln__profile_event event) {
    kiln__profile_lane *l = &profile->lanes[lane];
    if (l->n < profile->capacity)
        l->events[l->n++] = event;
    else
        l->dropped++;
}

static inline void kiln__profile_opened(kiln__profile *profile, uint32_t lane, uint32_t run,
                                        uint32_t region) {
    kiln__profile_note(profile, lane, (kiln__profile_event){kiln__ticks(profile), 0, run, region, 0, 0});
}

#endif
