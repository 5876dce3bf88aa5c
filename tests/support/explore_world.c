#define _DEFAULT_SOURCE /* sigaltstack */
#include "explore_world.h"
#include "explore_switch.h"
#include "hash.h"
#include "sanitized.h"

#include <signal.h>
#include <string.h>

everything explored;

const char *explore_refusal(void) {
#if defined(SANITIZED)
    return "the sanitizers do not follow coroutines on stacks that are copied";
#elif defined(NO_SWITCH)
    return "switching stacks is written for x86-64 and arm64 only";
#else
    return NULL;
#endif
}

/* ---- threads and memory ----------------------------------------------------------------------------- */

static thread *self(void) {
    return &explored.now.threads[explored.running];
}

static void leave(void) {
    explore__switch((void **)(void *)&self()->sp, explored.explorer);
}

void explore_fail(const char *what) {
    explored.now.failure = what;
    for (;;)
        leave();
}

void *explore_alloc(size_t bytes, size_t alignment) {
    size_t at = (explored.now.allocated + alignment - 1) / alignment * alignment;
    if (bytes > ARENA || at > ARENA - bytes)
        explore_fail("the arena is too small");
    explored.now.allocated = at + bytes;
    return memset(explored.arena + at, 0, bytes);
}

void explore_free(void *p, size_t bytes) {
    if (explored.now.n_freed == MAX_FREED)
        explore_fail("too much is freed");
    explored.now.freed[explored.now.n_freed].begin = p;
    explored.now.freed[explored.now.n_freed++].end = (unsigned char *)p + bytes;
    memset(p, 0xdd, bytes);
}

static void check_not_freed(const volatile void *object) {
    const unsigned char *p = (const unsigned char *)(uintptr_t)object;
    for (uint32_t i = 0; i < explored.now.n_freed; i++)
        if (p >= explored.now.freed[i].begin && p < explored.now.freed[i].end)
            explore_fail("memory is used that was freed");
}

/* ---- what threads know ------------------------------------------------------------------------------ */

/* What a thread can do: these, beside operations and places that have names. */
enum { AN_OPERATION = 1, A_PLACE, A_LOOK, A_RETURN, THE_END };

static uint64_t mix(uint64_t knows, const void *bytes, size_t n) {
    return XXH3_64bits_withSeed(bytes, n, knows);
}

static uint64_t mix_text(uint64_t knows, const char *text) {
    return mix(knows, text, strlen(text));
}

/* The running thread does this, knowing what it knows. */
static void does(uint64_t what) {
    explore__does(mix(self()->knows, &explored.running, sizeof explored.running), what);
}

void explore_saw(const void *bytes, size_t n) {
    does(A_LOOK);
    self()->knows = mix(self()->knows, bytes, n);
}

void explore_stands(const char *place, const void *bytes, size_t n) {
    thread *t = self();
    does(mix_text(A_PLACE, place));
    t->knows = t->place = mix(mix_text(t->call, place), bytes, n);
    t->hidden = 0;
}

void explore_hide(void) {
    thread *t = self();
    if (t->hidden == 0)
        t->hidden = t->knows;
}

void explore_show(const void *bytes, size_t n) {
    thread *t = self();
    if (t->hidden == 0)
        return;
    does(A_RETURN);
    t->knows = mix(t->hidden, bytes, n);
    t->hidden = 0;
}

void explore_begin(const char *place, const void *bytes, size_t n) {
    thread *t = self();
    t->clock = 0;
    t->call = 0;
    (void)explore_call(place, bytes, n);
}

uint64_t explore_call(const char *place, const void *bytes, size_t n) {
    const uint64_t outer = self()->call;
    explore_stands(place, bytes, n);
    self()->call = self()->place;
    return outer;
}

void explore_return(uint64_t outer, const char *place, const void *bytes, size_t n) {
    self()->call = outer;
    explore_stands(place, bytes, n);
}

const void **explore_own(void) {
    return &self()->own;
}

void explore_set_clock(void) {
    self()->clock = 0;
}

/* The thread is about to do this: it goes on knowing where it stands. */
static void pause_for(need need_, const char *text, const char *function, const volatile void *object,
                      size_t bytes, bool sees) {
    thread *t = self();
    const uint64_t in[] = {(uint64_t)(uintptr_t)object, (uint64_t)need_, mix_text(0, function)};
    const uint64_t operation = mix(mix_text(AN_OPERATION, text), in, sizeof in);
    does(operation);
    t->before = t->knows;
    t->knows = mix(t->knows, &operation, sizeof operation);
    t->need = (uint8_t)need_;
    t->text = text;
    t->function = function;
    t->object = object;
    t->bytes = bytes;
    t->sees = sees;
    leave();
    check_not_freed(object); /* now that it is used */
}

void explore_point(const char *text, const char *function, const volatile void *object, size_t bytes,
                   bool sees) {
    pause_for(NOTHING, text, function, object, bytes, sees);
}

void explore_idle(void) {
    thread *t = self();
    const uint64_t again = t->before;
    pause_for(A_CHANGE, "polls again", t->function, t->object, t->bytes, false);
    t->knows = again;
}

void explore_until(bool (*ready)(const void *), const void *context, const char *what) {
    self()->ready = ready;
    self()->ready_context = context;
    pause_for(A_CONDITION, what, "", NULL, 0, false);
}

static uint32_t *owner_of(const void *mutex) {
    for (uint32_t i = 0; i < MAX_LOCKS; i++) {
        if (explored.now.locks[i].mutex == NULL)
            explored.now.locks[i].mutex = mutex;
        if (explored.now.locks[i].mutex == mutex)
            return &explored.now.locks[i].owner;
    }
    explore_fail("too many locks");
    return NULL;
}

void explore_lock(const void *mutex) {
    self()->mutex = mutex;
    pause_for(A_LOCK, "lock", "", mutex, 0, false);
}

/* No point before it: what follows, up to the next point, no other thread sees, and none could have come in
 * before. */
void explore_unlock(const void *mutex) {
    check_not_freed(mutex);
    if (*owner_of(mutex) != explored.running + 1)
        explore_fail("unlocks what it has not locked");
    *owner_of(mutex) = 0;
}

bool explore_wait(const void *cond, const void *mutex, bool timed) {
    thread *t = self();
    explore_unlock(mutex);
    t->status = WAITING;
    t->mutex = mutex;
    t->timed = timed;
    t->timed_out = false;
    t->hidden = t->place;
    t->knows =
        mix_text(t->place, "sleeps"); /* it stands in a loop that keeps nothing from one wait to the next */
    pause_for(A_LOCK, "wakes", "", cond, 0, false);
    explore_saw(&t->timed_out, sizeof t->timed_out);
    return !t->timed_out;
}

bool explore_holds(const void *mutex) {
    for (uint32_t i = 0; i < MAX_LOCKS; i++)
        if (explored.now.locks[i].owner == explored.running + 1 &&
            (mutex == NULL || explored.now.locks[i].mutex == mutex))
            return true;
    return false;
}

void explore_signal(const void *cond) {
    pause_for(TO_SIGNAL, "signal", "", cond, 0, false);
}

void explore_broadcast(const void *cond) {
    pause_for(TO_BROADCAST, "broadcast", "", cond, 0, false);
}

int64_t explore_seconds(void) {
    const int64_t seconds = (int64_t)++self()->clock + (explored.now.late ? EXPLORE_LATE : 0);
    explore_saw(&seconds, sizeof seconds);
    return seconds;
}

static void first_call(void) {
    thread *t = self();
    if (explored.running == 0)
        explored.body(explored.body_context);
    else
        t->body(t->context);
    does(THE_END);
    t->status = FINISHED;
    for (;;)
        leave();
}

uint32_t explore_create(void *(*body)(void *), void *context) {
    const uint32_t i = explored.now.n_threads;
    if (i == MAX_THREADS)
        explore_fail("too many threads");
    explored.now.n_threads++;
    thread *t = &explored.now.threads[i];
    void (*begin)(void) = first_call;
    t->sp = explored.stacks[i] + STACK - 8 * SAVED_WORDS;
    memset(t->sp, 0, 8 * SAVED_WORDS);
    memcpy(t->sp + (size_t)8 * RETURN_AT, &begin, sizeof begin);
    t->text = "begins";
    t->function = "";
    t->body = body;
    t->context = context;
    t->status = READY;
    return i;
}

void explore_join(uint32_t i) {
    self()->target = i;
    explore_saw(&i, sizeof i);
    pause_for(AN_END, "join", "", NULL, 0, false);
}

/* A thread of ours crashed: its schedule is worth more than a core file. */
static void crashed(int number) {
    if (explored.explorer == NULL) {
        signal(number, SIG_DFL);
        return;
    }
    explore_fail("a crash");
}

void explore__catch_crashes(bool on) {
    static _Alignas(16) unsigned char stack[65536];
    static struct sigaction before[2];
    static const int numbers[2] = {SIGSEGV, SIGBUS};
    const stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = on ? 0 : SS_DISABLE};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = crashed;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    sigaltstack(&alternative, NULL);
    for (int i = 0; i < 2; i++)
        sigaction(numbers[i], on ? &action : &before[i], on ? &before[i] : NULL);
}

/* ---- transitions ------------------------------------------------------------------------------------ */

static bool free_for(const thread *t) {
    for (uint32_t i = 0; i < MAX_LOCKS; i++)
        if (explored.now.locks[i].mutex == t->mutex)
            return explored.now.locks[i].owner == 0;
    return true;
}

static bool waits_for(const thread *t, const volatile void *cond) {
    return t->status == WAITING && t->object == cond;
}

uint64_t explore__value_of(const thread *t) {
    uint64_t value = 0;
    if (t->bytes > 0 && t->bytes <= sizeof value)
        memcpy(&value, (const void *)(uintptr_t)t->object, t->bytes);
    return value;
}

/* In how many ways a thread can go on. */
static uint32_t ways(const thread *t) {
    if (t->status == WAITING)
        return ((t->timed && explored.now.late) || explored.now.spurious > 0) && free_for(t);
    if (t->status != READY)
        return 0;
    switch ((need)t->need) {
    case A_LOCK:
        return free_for(t);
    case AN_END:
        return explored.now.threads[t->target].status == FINISHED;
    case A_CHANGE:
        return explore__value_of(t) != t->polled;
    case A_CONDITION:
        return t->ready(t->ready_context);
    case TO_SIGNAL: {
        uint32_t n = 0;
        for (uint32_t i = 0; i < explored.now.n_threads; i++)
            n += waits_for(&explored.now.threads[i], t->object);
        return n > 0 ? n : 1;
    }
    case NOTHING:
    case TO_BROADCAST:
        break;
    }
    return 1;
}

uint32_t explore__choices(const explore_limits *limits, choice *out, bool *alive) {
    uint32_t n = 0;
    const bool spent = limits->preemptions >= 0 &&
                       explored.now.preemptions >= (uint32_t)limits->preemptions &&
                       ways(&explored.now.threads[explored.now.last]) > 0;
    *alive = false;
    for (uint32_t i = 0; i < explored.now.n_threads; i++) {
        const thread *t = &explored.now.threads[i];
        uint32_t k = ways(t);
        /* A wake-up for no reason is nothing to rely on. */
        const bool for_reason = t->status != WAITING || (t->timed && explored.now.late);
        *alive = *alive || (k > 0 && for_reason);
        if (spent && i != explored.now.last)
            continue;
        for (uint32_t which = 0; which < k && n < MAX_CHOICES; which++)
            out[n++] = (choice){(uint8_t)i, (uint8_t)which};
    }
    if (limits->late && !explored.now.late)
        out[n++] = (choice){TIME, 0};
    return *alive ? n : 0;
}

static void wake_waiter(thread *t) {
    t->status = READY; /* and takes the lock next */
}

static void wake_for(const thread *t, uint32_t which) {
    for (uint32_t i = 0; i < explored.now.n_threads; i++)
        if (waits_for(&explored.now.threads[i], t->object)) {
            if (t->need == TO_BROADCAST || which == 0)
                wake_waiter(&explored.now.threads[i]);
            which--;
        }
}

void explore__step(const explore_limits *limits, choice c) {
    if (c.thread == TIME) {
        explored.now.late = 1;
        return;
    }
    thread *t = &explored.now.threads[c.thread];
    if (limits->preemptions >= 0) {
        explored.now.preemptions +=
            c.thread != explored.now.last && ways(&explored.now.threads[explored.now.last]) > 0;
        explored.now.last = c.thread;
    }
    if (t->status == WAITING) {
        if (t->timed && explored.now.late)
            t->timed_out = true;
        else
            explored.now.spurious--;
        wake_waiter(t);
    }
    if (t->need == A_LOCK) {
        *owner_of(t->mutex) = c.thread + 1;
        t->clock = 0;
    } else if (t->need == TO_SIGNAL || t->need == TO_BROADCAST) {
        wake_for(t, c.which);
    }
    if (t->sees) {
        t->polled = explore__value_of(t);
        t->knows = mix(t->knows, &t->polled, sizeof t->polled);
    }
    explored.running = c.thread;
    explore__switch(&explored.explorer, t->sp);
    explored.explorer = NULL;
    if (t->status == FINISHED)
        *t = (thread){.status = FINISHED};
}

bool explore__all_finished(void) {
    for (uint32_t i = 0; i < explored.now.n_threads; i++)
        if (explored.now.threads[i].status != FINISHED)
            return false;
    return true;
}

void explore__start(void (*body)(const void *), const void *context, const explore_limits *limits) {
    memset(&explored, 0, sizeof explored);
    explored.now.spurious = limits->spurious;
    explored.body = body;
    explored.body_context = context;
    (void)explore_create(NULL, NULL);
}
