/* What the explorer (explore.c) and its simulated world (explore_world.c) share: the threads, what they wait
 * for, and how one goes on. */
#ifndef KILN_TEST_EXPLORE_WORLD_H
#define KILN_TEST_EXPLORE_WORLD_H

#include "explore.h"

enum {
    MAX_THREADS = 6,
    MAX_LOCKS = 4,
    MAX_FREED = 4,
    MAX_CHOICES = 2 * MAX_THREADS + 2,
    STACK = 32768,
    ARENA = 65536
};

typedef enum status { ABSENT, READY, WAITING, FINISHED } status;
typedef enum need { NOTHING, A_LOCK, AN_END, A_CHANGE, A_CONDITION, TO_SIGNAL, TO_BROADCAST } need;

typedef struct thread {
    unsigned char *sp;
    const char *text, *function;
    const volatile void *object; /* of the operation that comes next; of a wait: the condition */
    const void *mutex;           /* to be taken */
    size_t bytes;
    void *(*body)(void *);
    void *context;
    uint8_t status, need;
    bool sees; /* the operation that comes next tells the thread what the object holds */
    bool timed, timed_out;
    uint32_t target; /* to be joined */
    uint32_t clock;
    /* What the thread knows (explore.h): now; in front of the operation that comes next; where the call in
     * which it is began; where it was named last. */
    uint64_t knows, before, call, place, hidden;
    uint64_t polled; /* what the last object that it saw held */
    bool (*ready)(const void *);
    const void *ready_context;
    const void *own;
} thread;

/* All that changes but for allocations and stacks. */
typedef struct world {
    thread threads[MAX_THREADS];
    uint32_t n_threads, spurious;
    struct {
        const void *mutex;
        uint32_t owner; /* thread + 1 */
    } locks[MAX_LOCKS];
    struct {
        const unsigned char *begin, *end;
    } freed[MAX_FREED];
    uint32_t n_freed;
    size_t allocated;
    const char *failure;
    uint32_t late, last, preemptions;
} world;

/* All that there is. The explorer saves and restores `now`, what is allocated of the arena, and the
 * stacks. */
typedef struct everything {
    world now;
    _Alignas(128) unsigned char arena[ARENA];
    _Alignas(128) unsigned char stacks[MAX_THREADS][STACK];
    uint32_t running;
    void *explorer; /* its stack pointer while a thread runs */
    void (*body)(const void *);
    const void *body_context;
} everything;

extern everything explored;

enum { TIME = 255 }; /* in the place of a thread: it gets late */

typedef struct choice {
    uint8_t thread, which; /* which: the waiter that a signal finds */
} choice;

/* Nothing has happened yet: a thread 0, which begins with `body`. */
void explore__start(void (*body)(const void *), const void *context, const explore_limits *limits);

/* What can happen next. *alive: some thread can go on, were there no limits. */
uint32_t explore__choices(const explore_limits *limits, choice *out, bool *alive);

/* Lets one of them happen. */
void explore__step(const explore_limits *limits, choice c);

bool explore__all_finished(void);

/* What the object of the thread's next operation holds; 0 if that is not a number. */
uint64_t explore__value_of(const thread *t);

/* From here on (or no longer) a thread that crashes ends in a failure and not the process. */
void explore__catch_crashes(bool on);

/* Of the explorer: a thread that knows this does that next. */
void explore__does(uint64_t knows, uint64_t what);

#endif
