/* Locks, a clock and processor hints: the few things the CPU executor needs that C11 does not have. Internal.
 *
 * POSIX threads are used as they are; what differs between systems is in here.
 */
#ifndef KILN_SYNC_H
#define KILN_SYNC_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define KILN__NO_DEADLINE INT64_MAX

/* What every run goes through: put side by side in the program, since a run after a pause finds none of it in caches. */
#define KILN__HOT __attribute__((hot))

/* Monotonic time. It never goes back, and does not jump when somebody sets the clock. */
static inline int64_t kiln__now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The moment `timeout_ns` from now; negative (or too far away) means never. */
static inline int64_t kiln__deadline(int64_t timeout_ns) {
    int64_t deadline;
    if (timeout_ns < 0 || __builtin_add_overflow(kiln__now_ns(), timeout_ns, &deadline))
        return KILN__NO_DEADLINE;
    return deadline;
}

static inline bool kiln__expired(int64_t deadline) {
    return deadline != KILN__NO_DEADLINE && kiln__now_ns() >= deadline;
}

/* A condition whose timed waits follow kiln__now_ns. */
static inline bool kiln__cond_init(pthread_cond_t *cond) {
#if defined(__APPLE__)
    return pthread_cond_init(cond, NULL) == 0; /* no setclock; timed waits are relative instead */
#else
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return false;
    bool ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(cond, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok;
#endif
}

/* Waits for a signal or the deadline; may also return early for no reason, as conditions do. */
static inline void kiln__cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline) {
    if (deadline == KILN__NO_DEADLINE) {
        pthread_cond_wait(cond, lock);
        return;
    }
#if defined(__APPLE__)
    int64_t left = deadline - kiln__now_ns();
    if (left <= 0)
        return;
    struct timespec t = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
    pthread_cond_timedwait_relative_np(cond, lock, &t);
#else
    struct timespec t = {(time_t)(deadline / 1000000000), (long)(deadline % 1000000000)};
    pthread_cond_timedwait(cond, lock, &t);
#endif
}

/* Tells the processor that this is a spin loop: the other hyperthread gets the core, and leaving the loop
 * does not cost a memory-order flush. */
static inline void kiln__pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory"); /* `yield` is a no-op on most cores */
#endif
}

/* Backs off in a wait that is short unless the thread waited for lost its processor: pauses, then yields,
 * then naps. `*turn` starts at 0. */
static inline void kiln__back_off(uint32_t *turn) {
    if (++*turn < 64) {
        kiln__pause();
    } else if (*turn < 128) {
        sched_yield();
    } else {
        struct timespec t = {0, 50000};
        nanosleep(&t, NULL);
    }
}

#endif
