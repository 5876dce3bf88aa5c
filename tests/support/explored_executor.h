/* The CPU executor's sources under the explorer: the system is simulated, and what a thread knows where is
 * said here (explore.h). The test defines KILN__CPU_POLLS and KILN__CPU_QUANTUM before. */
#ifndef KILN_TEST_EXPLORED_EXECUTOR_H
#define KILN_TEST_EXPLORED_EXECUTOR_H

#define HOOKED_SIMULATED
#include <stdbool.h>
#include <stdint.h>

/* Where a thread stands is told by variables of the sources: HOOKED_SCOPE finds those that are in scope at an
 * operation. Where they are not, it finds these functions, which do not exist, and takes NULL. */
typedef struct kiln__cpu_lane kiln__cpu_lane;
void lane(void), serial(void), deadline(void);
#define HOOKED_SCOPE(text)                                                                                   \
    stands(__func__, text,                                                                                   \
           &(scope){_Generic(&lane, kiln__cpu_lane **: lane, const kiln__cpu_lane **: lane, default: NULL),  \
                    _Generic(&serial, uint64_t *: &serial, const uint64_t *: &serial, default: NULL),        \
                    _Generic(&deadline, int64_t *: &deadline, const int64_t *: &deadline, default: NULL)})
typedef struct scope {
    const void *lane, *serial, *deadline;
} scope;
static void stands(const char *function, const char *text, const scope *in);
#include "hooked_executor.h"

#include "explore.h"

#include <string.h>

/* In the present case several runs share the pool. Else counting its claims changes nothing that a thread
 * does. */
static bool several_runs;

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* ---- the system, simulated -------------------------------------------------------------------------- */

/* The lock of what is written under that lock only (NULL: it is not), so that reading it there meets no other
 * thread. */
static const pthread_mutex_t *guard_of(const char *text, const volatile void *object) {
    static const struct {
        const char *name;
        size_t in_pool, in_run;
    } guarded[] = {{"parked", offsetof(kiln_cpu_pool, parked), 0},
                   {"n_active", offsetof(kiln_cpu_pool, n_active), 0},
                   {"stop", offsetof(kiln_cpu_pool, stop), 0},
                   {"dismissals", offsetof(kiln_cpu_pool, dismissals), 0},
                   {"caller_parked", 0, offsetof(kiln__cpu_run, caller_parked)},
                   {"blocked", 0, offsetof(kiln__cpu_run, blocked)}};
    const char *at = (const char *)(uintptr_t)object, *last = strrchr(text, '>');
    for (size_t i = 0; last != NULL && i < sizeof guarded / sizeof guarded[0]; i++)
        if (strcmp(last + 1, guarded[i].name) == 0)
            return guarded[i].in_pool > 0
                       ? &((const kiln_cpu_pool *)(const void *)(at - guarded[i].in_pool))->lock
                       : &((const kiln__cpu_run *)(const void *)(at - guarded[i].in_run))->pool->lock;
    return NULL;
}

static void hooked(hooked_kind kind, const volatile void *object, size_t bytes, const char *text,
                   const char *function) {
    const pthread_mutex_t *guard = guard_of(text, object);
    const bool held = guard != NULL && explore_holds(guard);
    if (held && kind == HOOKED_LOAD) {
        explore_saw((const void *)(uintptr_t)object, bytes);
        return;
    }
    if (guard != NULL && !held && kind != HOOKED_LOAD)
        explore_fail("what only changes under the lock is changed without it");
    /* What an addition returns counts for units only. */
    explore_point(text, function, object, bytes,
                  kind == HOOKED_LOAD || kind == HOOKED_SWAP || strcmp(function, "kiln__cpu_take") == 0);
}

/* All that is not atomic and belongs to the pool's lock. */
static void saw_guarded(const pthread_mutex_t *m) {
    enum { RUNS = 4, SEATS = 4 };
    const char *at = (const char *)m;
    const kiln_cpu_pool *pool = (const kiln_cpu_pool *)(const void *)(at - offsetof(kiln_cpu_pool, lock));
    const kiln__cpu_run *run = pool->active;
    uint64_t all[2 + RUNS + SEATS] = {pool->tokens, pool->present};
    for (size_t i = 2; run != NULL; i++) {
        if (i == 2 + RUNS)
            explore_fail("there are more runs than a case has");
        all[i] = (uint64_t)(uintptr_t)run;
        run = run->next != pool->active ? run->next : NULL;
    }
    for (uint32_t i = 0; i < pool->n_guests && i < SEATS; i++)
        all[2 + RUNS + i] = pool->seats[i];
    explore_saw(all, sizeof all);
}

static int hooked_lock(pthread_mutex_t *m) {
    explore_lock(m);
    saw_guarded(m);
    return 0;
}

static int hooked_unlock(pthread_mutex_t *m) {
    explore_unlock(m);
    return 0;
}

static int hooked_wait(pthread_cond_t *c, pthread_mutex_t *m) {
    (void)explore_wait(c, m, false);
    saw_guarded(m);
    return 0;
}

static int hooked_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t) {
    (void)t; /* no wait here is for less than it takes to get late */
    const bool in_time = explore_wait(c, m, true);
    saw_guarded(m);
    return in_time ? 0 : ETIMEDOUT;
}

static int hooked_signal(pthread_cond_t *c) {
    explore_signal(c);
    return 0;
}

static int hooked_broadcast(pthread_cond_t *c) {
    explore_broadcast(c);
    return 0;
}

static int hooked_create(pthread_t *t, const pthread_attr_t *attr, void *(*body)(void *), void *context) {
    (void)attr;
    const uint32_t index = explore_create(body, context);
    *t = (pthread_t)(uintptr_t)index;
    explore_stands("has created", &index, sizeof index);
    return 0;
}

static int hooked_join(pthread_t t, void **result) {
    (void)result;
    explore_join((uint32_t)(uintptr_t)t);
    return 0;
}

/* Yielding changes nothing that others see. */
static int hooked_yield(void) {
    return 0;
}

static int hooked_sleep(const struct timespec *t, struct timespec *left) {
    (void)t;
    (void)left;
    explore_idle();
    return 0;
}

static int hooked_clock(clockid_t id, struct timespec *t) {
    (void)id;
    *t = (struct timespec){(time_t)explore_seconds(), 0};
    return 0;
}

static void hooked_back_off(uint32_t *turn) {
    (void)turn;
    explore_idle();
}

/* ---- where threads stand ---------------------------------------------------------------------------- */

/* Of the opening that a thread remembers: is it the present one, none, or another? Their numbers only grow,
 * so that another one equals none that is to come. */
static uint64_t opening(const kiln__cpu_lane *l, uint64_t number) {
    return number == l->run->opened || number == 0 ? number : 1;
}

/* It looks for tiles. */
static void stands_at_take(const kiln__cpu_lane *l) {
    const bool brief = l->role == KILN__CPU_GUEST && l->brief;
    const uint64_t known[] = {
        (uint64_t)(uintptr_t)l->run,
        several_runs ? l->credit : 0,
        opening(l, l->tried),
        l->emptied == l->run->opened ? l->emptied : 0, /* another one is as good as none */
        (uint64_t)l->idle_since,
        (uint64_t)l->looked,
        brief && l->worked,
    };
    explore_stands("take", known, sizeof known);
    if (l->idle_since == 0)
        explore_set_clock();
}

/* Functions that change objects, and of which their callers remember nothing. */
static bool hands_nothing_back(const char *function) {
    static const char *const names[] = {"wake",         "give_tokens",     "signal_workers",
                                        "announce",     "kiln__cpu_offer", "kiln__cpu_close",
                                        "leave_place",  "kiln__cpu_enter", "kiln__cpu_set_phase",
                                        "kiln__cpu_end"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (is(function, names[i]))
            return true;
    return false;
}

/* The places at which it is known what a thread remembers. `own`: the lane of a thread of the pool. */
static void stands_at(const char *function, const scope *in, const kiln__cpu_lane *own) {
    if (is(function, "enter_next")) {
        explore_stands(function, &(int64_t[]){own->idle_since, own->looked}, 16);
    } else if (is(function, "park")) {
        explore_stands(function, NULL, 0);
    } else if (is(function, "park_caller")) {
        const uint64_t tried = opening(own, own->tried);
        explore_stands(function, &tried, sizeof tried);
        *explore_own() = NULL; /* it is noted for this only */
    } else if (is(function, "block") || is(function, "cpu_wait")) {
        const int64_t until[] = {*(const int64_t *)in->serial, *(const int64_t *)in->deadline};
        explore_stands(function, until, sizeof until);
    }
}

/* Called before each operation. What a thread sees under the lock it has forgotten when it goes on without,
 * but for the run that enter_next chose. */
static void stands(const char *function, const char *text, const scope *in) {
    const kiln__cpu_lane *own = *explore_own();
    const bool locks = is(text, "&pool->lock") || is(text, "&run->pool->lock");
    const bool hides = locks || explore_holds(NULL) || hands_nothing_back(function);
    if (!explore_holds(NULL) && !hands_nothing_back(function))
        explore_show(own != NULL ? &own->run : NULL, own != NULL ? sizeof own->run : 0);
    if (is(function, "kiln__cpu_take") && is(text, "&run->opened"))
        stands_at_take(in->lane);
    else if (is(function, "spin"))
        *explore_own() = in->lane; /* a waiting thread parks next */
    else if (locks || (is(function, "cpu_wait") && is(text, "&run->caller_taken")))
        stands_at(function, in, own);
    if (hides)
        explore_hide();
}

/* A thread's life in the pool: it keeps its lane for all of it. */
static void hooked_live(kiln__cpu_lane *l) {
    const int64_t known[] = {l->index, l->dismissals, l->deadline};
    const uint64_t outer = explore_call("lives", known, sizeof known);
    *explore_own() = l;
    (kiln__cpu_live)(l);
    explore_return(outer, "has lived", known, sizeof known);
    *explore_own() = NULL;
}

static kiln_status hooked_help(kiln__cpu_run *run, uint64_t until, int64_t limit) {
    const int64_t known[] = {(int64_t)until, limit};
    const uint64_t outer = explore_call("helps", known, sizeof known);
    const kiln_status status = (kiln__cpu_help)(run, until, limit);
    explore_return(outer, "has helped", &status, sizeof status);
    return status;
}

#endif
