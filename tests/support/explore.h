/* Enumerates all interleavings of a few threads, deterministically: threads are coroutines on small stacks, a
 * point in front of each operation by which they meet switches to the explorer, and the explorer goes on with
 * each of those that can in turn. Locks, conditions and time are simulated.
 *
 * A state is the memory that was allocated here, which thread waits for what, and what each thread knows.
 * States are told apart by a hash (96 bits of XXH3); one that was seen before is not followed again. So all
 * schedules are covered although most share their states, and waiting in circles ends.
 *
 * What a thread knows is a hash of all that it has seen since it last stood at a place that the test names:
 * which operations it came to and what their objects held. Stacks and registers are not part of a state,
 * since what lies there depends on the compiler; they are saved beside it, to go on from. So the test must
 * say two things.
 * - explore_stands: here the thread remembers nothing but these bytes of what it has seen in this call.
 *   Without it a thread that goes round a loop would never be in the same state twice.
 * - explore_saw: it reads this, which is neither an atomic (explore_point) nor known from the place it stands
 *   at.
 *
 * Both are checked: what a thread does next must follow from what it knows, in all states that are reached.
 *
 * What is found: explore_fail, a crash, an operation on freed memory, a state in which no thread can go on
 * and not all are finished (a deadlock, a lost wake-up), and a state from which the end cannot be reached (a
 * livelock).
 *
 * What is not covered: memory is sequentially consistent here, and memory orders say nothing. Between two
 * points a thread is not interrupted. That is for the thread sanitizer and seeded schedules.
 *
 * Time: a thread's clock starts at 1 s when it takes a lock, and goes on by 1 s with each look at it:
 * whatever takes less ends at the second look. In place of long waits, "it is late" happens once at any
 * moment (explore_limits): the clocks jump by EXPLORE_LATE seconds, and timed waits may end. */
#ifndef KILN_TEST_EXPLORE_H
#define KILN_TEST_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPLORE_LATE = 1000000 };

typedef struct explore_limits {
    bool late;           /* it may get late */
    uint32_t spurious;   /* waits on conditions that end for no reason, at most */
    int32_t preemptions; /* threads stopped although they can go on, at most; negative: no limit */
    uint64_t states;     /* give up after as many */
} explore_limits;

typedef struct explore_result {
    bool whole; /* nothing was cut off but what preemptions say; else the limit of states was met */
    uint64_t states, transitions, ends;
    uint32_t depth;      /* of the longest schedule followed */
    const char *failure; /* NULL: none. The schedule that leads there was printed on stderr */
} explore_result;

/* NULL, or why it cannot be done on this machine or in this build. */
const char *explore_refusal(void);

/* Runs `body` in a thread 0, in all ways. What it reads and writes comes from explore_alloc, or is on its
 * stack, or never changes. */
explore_result explore(void (*body)(const void *), const void *context, const explore_limits *limits);

/* ---- within: by the threads ------------------------------------------------------------------------- */

void *explore_alloc(size_t bytes, size_t alignment); /* zeroed */
void explore_free(void *p, size_t bytes);            /* the memory is not used again, and must not be */
void explore_fail(const char *what);                 /* does not return */

/* Before an operation on `object`: `text` and `function` say in schedules which and where. `sees`: the thread
 * learns what the object holds. */
void explore_point(const char *text, const char *function, const volatile void *object, size_t bytes,
                   bool sees);

/* In a loop that polls, when the last operation has found nothing: sleeps until its object holds something
 * else. The loop keeps nothing from one turn to the next. */
void explore_idle(void);

/* Sleeps until `ready(context)`, which looks at memory that was allocated here. */
void explore_until(bool (*ready)(const void *), const void *context, const char *what);

/* ---- within: what the calling thread knows ---------------------------------------------------------- */

/* It has read these bytes. */
void explore_saw(const void *bytes, size_t n);

/* It stands at this place of the present call, and remembers only these bytes. A wait for a condition stands
 * there too: a loop around it keeps nothing from one wait to the next. */
void explore_stands(const char *place, const void *bytes, size_t n);

/* It begins something new, outside of any call, and remembers only these bytes. Its clock starts again. */
void explore_begin(const char *place, const void *bytes, size_t n);

/* It enters a call with these bytes; and leaves it, with these, given what explore_call returned. */
uint64_t explore_call(const char *place, const void *bytes, size_t n);
void explore_return(uint64_t outer, const char *place, const void *bytes, size_t n);

/* From here on it does something of which it will remember nothing; it has done it, and remembers only these
 * bytes. Nothing happens where that has begun already, or has not. */
void explore_hide(void);
void explore_show(const void *bytes, size_t n);

/* Its clock starts again: it has forgotten what it saw there. */
void explore_set_clock(void);

/* A pointer of the thread's, for the test. */
const void **explore_own(void);

/* ---- within: the system ----------------------------------------------------------------------------- */

void explore_lock(const void *mutex);
void explore_unlock(const void *mutex);
bool explore_holds(const void *mutex);                              /* the calling thread; NULL: any */
bool explore_wait(const void *cond, const void *mutex, bool timed); /* false: it got late */
void explore_signal(const void *cond);
void explore_broadcast(const void *cond);
uint32_t explore_create(void *(*body)(void *), void *context);
void explore_join(uint32_t thread);
int64_t explore_seconds(void);

#endif
