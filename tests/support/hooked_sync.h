/* Hooks in front of every operation by which threads meet: atomics, locks, conditions, threads, clock, naps.
 * Include this first, then the sources under test (hooked_executor.h): they are compiled as they stand, with
 * these macros in force. Nothing in production code knows of it.
 *
 * The test defines `hooked`, which is called before each operation. With HOOKED_SIMULATED it defines all
 * functions of the second part too, in place of the system's; else they call `hooked` and go on to the
 * system. Where the real function is wanted, (pthread_mutex_lock)(m) is it. */
#ifndef KILN_TEST_HOOKED_SYNC_H
#define KILN_TEST_HOOKED_SYNC_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef enum hooked_kind {
    HOOKED_LOAD,
    HOOKED_STORE,
    HOOKED_SWAP,   /* an exchange, whether the value is what was expected or in any case */
    HOOKED_CHANGE, /* another read-modify-write */
    HOOKED_LOCK,
    HOOKED_UNLOCK,
    HOOKED_WAIT,
    HOOKED_SIGNAL,
    HOOKED_BROADCAST,
    HOOKED_CREATE,
    HOOKED_JOIN,
    HOOKED_YIELD,
    HOOKED_SLEEP,
    HOOKED_CLOCK
} hooked_kind;

/* Before an operation of this kind on `object`. Of atomics also how many bytes it has, how the source calls
 * it, and in which function; else 0, "" and "". */
static void hooked(hooked_kind kind, const volatile void *object, size_t bytes, const char *text,
                   const char *function);

/* ---- atomics ---------------------------------------------------------------------------------------- */

/* Clang's builtins for _Atomic types, and GCC's, which take these too. */
#if defined(__clang__)
#define HOOKED__LOAD(p, order)     __c11_atomic_load(p, order)
#define HOOKED__STORE(p, v, order) __c11_atomic_store(p, v, order)
#define HOOKED__RMW(name)          __c11_atomic_##name
#define HOOKED__CAS(p, e, d, weak, yes, no)                                                                  \
    ((weak) ? __c11_atomic_compare_exchange_weak(p, e, d, yes, no)                                           \
            : __c11_atomic_compare_exchange_strong(p, e, d, yes, no))
#else
#define HOOKED__LOAD(p, order)              __atomic_load_n(p, order)
#define HOOKED__STORE(p, v, order)          __atomic_store_n(p, v, order)
#define HOOKED__RMW_exchange                __atomic_exchange_n
#define HOOKED__RMW_fetch_add               __atomic_fetch_add
#define HOOKED__RMW_fetch_sub               __atomic_fetch_sub
#define HOOKED__RMW_fetch_or                __atomic_fetch_or
#define HOOKED__RMW_fetch_and               __atomic_fetch_and
#define HOOKED__RMW(name)                   HOOKED__RMW_##name
#define HOOKED__CAS(p, e, d, weak, yes, no) __atomic_compare_exchange_n(p, e, d, weak, yes, no)
#endif

/* Evaluated in the scope of the operation, before it: a test may want to see variables there. */
#ifndef HOOKED_SCOPE
#define HOOKED_SCOPE(text) ((void)0)
#endif

#define HOOKED__AT(kind, p)                                                                                  \
    (HOOKED_SCOPE(#p), hooked(kind, (const volatile void *)(p), sizeof *(p), #p, __func__))

#undef atomic_init
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_weak_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_fetch_or
#undef atomic_fetch_and
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_strong

/* Nobody else knows of it yet. */
#define atomic_init(p, v) HOOKED__STORE(p, v, memory_order_relaxed)

#define atomic_load_explicit(p, order)         (HOOKED__AT(HOOKED_LOAD, p), HOOKED__LOAD(p, order))
#define atomic_store_explicit(p, v, order)     (HOOKED__AT(HOOKED_STORE, p), HOOKED__STORE(p, v, order))
#define HOOKED__DO(name, p, v, order)          (HOOKED__AT(HOOKED_CHANGE, p), HOOKED__RMW(name)(p, v, order))
#define atomic_exchange_explicit(p, v, order)  (HOOKED__AT(HOOKED_SWAP, p), HOOKED__RMW(exchange)(p, v, order))
#define atomic_fetch_add_explicit(p, v, order) HOOKED__DO(fetch_add, p, v, order)
#define atomic_fetch_sub_explicit(p, v, order) HOOKED__DO(fetch_sub, p, v, order)
#define atomic_fetch_or_explicit(p, v, order)  HOOKED__DO(fetch_or, p, v, order)
#define atomic_fetch_and_explicit(p, v, order) HOOKED__DO(fetch_and, p, v, order)
#define atomic_compare_exchange_weak_explicit(p, e, d, yes, no)                                              \
    (HOOKED__AT(HOOKED_SWAP, p), HOOKED__CAS(p, e, d, 1, yes, no))
#define atomic_compare_exchange_strong_explicit(p, e, d, yes, no)                                            \
    (HOOKED__AT(HOOKED_SWAP, p), HOOKED__CAS(p, e, d, 0, yes, no))

#define atomic_load(p)         atomic_load_explicit(p, memory_order_seq_cst)
#define atomic_store(p, v)     atomic_store_explicit(p, v, memory_order_seq_cst)
#define atomic_exchange(p, v)  atomic_exchange_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_add(p, v) atomic_fetch_add_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_sub(p, v) atomic_fetch_sub_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_or(p, v)  atomic_fetch_or_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_and(p, v) atomic_fetch_and_explicit(p, v, memory_order_seq_cst)
#define atomic_compare_exchange_weak(p, e, d)                                                                \
    atomic_compare_exchange_weak_explicit(p, e, d, memory_order_seq_cst, memory_order_seq_cst)
#define atomic_compare_exchange_strong(p, e, d)                                                              \
    atomic_compare_exchange_strong_explicit(p, e, d, memory_order_seq_cst, memory_order_seq_cst)

/* ---- the system ------------------------------------------------------------------------------------- */

static int hooked_lock(pthread_mutex_t *m);
static int hooked_unlock(pthread_mutex_t *m);
static int hooked_wait(pthread_cond_t *c, pthread_mutex_t *m);
static int hooked_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t);
static int hooked_signal(pthread_cond_t *c);
static int hooked_broadcast(pthread_cond_t *c);
static int hooked_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *context);
static int hooked_join(pthread_t thread, void **result);
static int hooked_yield(void);
static int hooked_sleep(const struct timespec *t, struct timespec *left);
static int hooked_clock(clockid_t id, struct timespec *t);

#ifndef HOOKED_SIMULATED
static int hooked_lock(pthread_mutex_t *m) {
    hooked(HOOKED_LOCK, m, 0, "", "");
    return pthread_mutex_lock(m);
}
static int hooked_unlock(pthread_mutex_t *m) {
    hooked(HOOKED_UNLOCK, m, 0, "", "");
    return pthread_mutex_unlock(m);
}
static int hooked_wait(pthread_cond_t *c, pthread_mutex_t *m) {
    hooked(HOOKED_WAIT, c, 0, "", "");
    return pthread_cond_wait(c, m);
}
static int hooked_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t) {
    hooked(HOOKED_WAIT, c, 0, "", "");
#if defined(__APPLE__)
    return pthread_cond_timedwait_relative_np(c, m, t);
#else
    return pthread_cond_timedwait(c, m, t);
#endif
}
static int hooked_signal(pthread_cond_t *c) {
    hooked(HOOKED_SIGNAL, c, 0, "", "");
    return pthread_cond_signal(c);
}
static int hooked_broadcast(pthread_cond_t *c) {
    hooked(HOOKED_BROADCAST, c, 0, "", "");
    return pthread_cond_broadcast(c);
}
static int hooked_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *),
                         void *context) {
    hooked(HOOKED_CREATE, thread, 0, "", "");
    return pthread_create(thread, attr, body, context);
}
static int hooked_join(pthread_t thread, void **result) {
    hooked(HOOKED_JOIN, NULL, 0, "", "");
    return pthread_join(thread, result);
}
static int hooked_yield(void) {
    hooked(HOOKED_YIELD, NULL, 0, "", "");
    return sched_yield();
}
static int hooked_sleep(const struct timespec *t, struct timespec *left) {
    hooked(HOOKED_SLEEP, NULL, 0, "", "");
    return nanosleep(t, left);
}
static int hooked_clock(clockid_t id, struct timespec *t) {
    hooked(HOOKED_CLOCK, NULL, 0, "", "");
    return clock_gettime(id, t);
}
#endif

#define pthread_mutex_lock(m)                       (HOOKED_SCOPE(#m), hooked_lock(m))
#define pthread_mutex_unlock(m)                     hooked_unlock(m)
#define pthread_cond_wait(c, m)                     hooked_wait(c, m)
#define pthread_cond_timedwait(c, m, t)             hooked_timedwait(c, m, t)
#define pthread_cond_timedwait_relative_np(c, m, t) hooked_timedwait(c, m, t)
#define pthread_cond_signal(c)                      (HOOKED_SCOPE(#c), hooked_signal(c))
#define pthread_cond_broadcast(c)                   (HOOKED_SCOPE(#c), hooked_broadcast(c))
#define pthread_create(t, a, body, x)               hooked_create(t, a, body, x)
#define pthread_join(t, result)                     hooked_join(t, result)
#define sched_yield()                               (HOOKED_SCOPE("yield"), hooked_yield())
#define nanosleep(t, left)                          hooked_sleep(t, left)
#define clock_gettime(id, t)                        hooked_clock(id, t)

#endif
