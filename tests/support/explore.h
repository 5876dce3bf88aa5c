/* Enumerates all interleavings of a few threads, deterministically: threads are coroutines on small stacks, a point in
 * front of each operation by which they meet switches to the explorer, and the explorer goes on with each of those that
 * can in turn. Locks, conditions and time are simulated.
 *
 * A state is all memory that changes: what was allocated here, the stacks from the stack pointer up with the registers
 * saved on them, who waits for what. States are told apart by a hash (96 bits of XXH3); one that was seen before is
 * not followed again. So all schedules are covered although most share their states, and waiting in circles ends.
 *
 * What is found: explore_fail, a crash, an operation on freed memory, a state in which nobody can go on and not all are finished (a deadlock, a lost
 * wake-up), and a state from which the end cannot be reached (a livelock).
 *
 * What is not covered: memory is sequentially consistent here, and memory orders say nothing. Between two points a thread
 * is not interrupted. That is for the thread sanitizer and seeded schedules.
 *
 * Time: a thread's clock starts at 1 s when it takes a lock, and goes on by 1 s with each look at it: whatever takes
 * less ends at the second look. In place of long waits, "it is late" happens once at any moment (explore_limits): the clocks
 * jump by EXPLORE_LATE seconds, and timed waits may end. */
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
    uint64_t states;     /* give up behind as many */
} explore_limits;

typedef struct explore_result {
    bool whole; /* nothing was cut off but what preemptions say */
    uint64_t states, transitions, ends;
    uint32_t depth;      /* of the longest schedule followed */
    const char *failure; /* NULL: none. The schedule that leads there was printed on stderr */
} explore_result;

/* NULL, or why it cannot be done on this machine or in this build. */
const char *explore_refusal(void);

/* Runs `body` in a thread 0, in all ways. What it reads and writes comes from explore_alloc, or is on its stack, or
 * never changes. */
explore_result explore(void (*body)(const void *), const void *context, const explore_limits *limits);

/* ---- within: by the threads ------------------------------------------------------------------------- */

void *explore_alloc(size_t bytes, size_t alignment); /* zeroed */
void explore_free(void *p, size_t bytes);            /* the memory is not used again, and must not be */
void explore_fail(const char *what);                 /* does not return */

/* Before an operation on `object`: `text` and `function` say in schedules which and where. */
void explore_point(const char *text, const char *function, const volatile void *object, size_t bytes);

/* In a loop that polls, when it has found nothing: sleeps until another thread has changed an object. */
void explore_idle(void);

void explore_lock(const void *mutex);
void explore_unlock(const void *mutex);
bool explore_wait(const void *cond, const void *mutex, bool timed); /* false: it got late */
void explore_signal(const void *cond);
void explore_broadcast(const void *cond);
uint32_t explore_create(void *(*body)(void *), void *context);
void explore_join(uint32_t thread);
int64_t explore_seconds(void);

#endif
