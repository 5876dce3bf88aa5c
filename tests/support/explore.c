#define _DEFAULT_SOURCE /* sigaltstack */
#include "explore.h"
#include "explore_switch.h"
#include "hash.h"
#include "sanitized.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_THREADS = 6,
    MAX_LOCKS = 4,
    MAX_FREED = 4,
    MAX_CHOICES = 2 * MAX_THREADS + 2,
    STACK = 32768,
    ARENA = 65536
};

const char *explore_refusal(void) {
#if defined(SANITIZED)
    return "the sanitizers do not follow coroutines on stacks that are copied";
#elif defined(NO_SWITCH)
    return "switching stacks is written for x86-64 and arm64 only";
#else
    return NULL;
#endif
}

/* ---- the world -------------------------------------------------------------------------------------- */

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

static struct {
    world now;
    _Alignas(128) unsigned char arena[ARENA];
    _Alignas(128) unsigned char stacks[MAX_THREADS][STACK];
    uint32_t running;
    void *explorer; /* its stack pointer while a thread runs */
    void (*body)(const void *);
    const void *body_context;
    struct table *habits; /* what a thread knew, and what it did next; */
    bool unseen;          /* once it did something else */
} w;

static void does(uint64_t what);

static thread *self(void) {
    return &w.now.threads[w.running];
}

static void leave(void) {
    explore__switch((void **)(void *)&self()->sp, w.explorer);
}

void explore_fail(const char *what) {
    w.now.failure = what;
    for (;;)
        leave();
}

void *explore_alloc(size_t bytes, size_t alignment) {
    size_t at = (w.now.allocated + alignment - 1) / alignment * alignment;
    if (bytes > ARENA || at > ARENA - bytes)
        explore_fail("the arena is too small");
    w.now.allocated = at + bytes;
    return memset(w.arena + at, 0, bytes);
}

void explore_free(void *p, size_t bytes) {
    if (w.now.n_freed == MAX_FREED)
        explore_fail("too much is freed");
    w.now.freed[w.now.n_freed].begin = p;
    w.now.freed[w.now.n_freed++].end = (unsigned char *)p + bytes;
    memset(p, 0xdd, bytes);
}

static void check_not_freed(const volatile void *object) {
    const unsigned char *p = (const unsigned char *)(uintptr_t)object;
    for (uint32_t i = 0; i < w.now.n_freed; i++)
        if (p >= w.now.freed[i].begin && p < w.now.freed[i].end)
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
        if (w.now.locks[i].mutex == NULL)
            w.now.locks[i].mutex = mutex;
        if (w.now.locks[i].mutex == mutex)
            return &w.now.locks[i].owner;
    }
    explore_fail("too many locks");
    return NULL;
}

void explore_lock(const void *mutex) {
    self()->mutex = mutex;
    pause_for(A_LOCK, "lock", "", mutex, 0, false);
}

/* No point before it: what follows, up to the next point, nobody else sees, and nobody could have come in
 * before. */
void explore_unlock(const void *mutex) {
    check_not_freed(mutex);
    if (*owner_of(mutex) != w.running + 1)
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
        if (w.now.locks[i].owner == w.running + 1 && (mutex == NULL || w.now.locks[i].mutex == mutex))
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
    const int64_t seconds = (int64_t)++self()->clock + (w.now.late ? EXPLORE_LATE : 0);
    explore_saw(&seconds, sizeof seconds);
    return seconds;
}

static void first_call(void) {
    thread *t = self();
    if (w.running == 0)
        w.body(w.body_context);
    else
        t->body(t->context);
    does(THE_END);
    t->status = FINISHED;
    for (;;)
        leave();
}

uint32_t explore_create(void *(*body)(void *), void *context) {
    const uint32_t i = w.now.n_threads;
    if (i == MAX_THREADS)
        explore_fail("too many threads");
    w.now.n_threads++;
    thread *t = &w.now.threads[i];
    void (*begin)(void) = first_call;
    t->sp = w.stacks[i] + STACK - 8 * SAVED_WORDS;
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
    if (w.explorer == NULL) {
        signal(number, SIG_DFL);
        return;
    }
    explore_fail("a crash");
}

static void catch_crashes(bool on) {
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

enum { TIME = 255 }; /* in the place of a thread: it gets late */

typedef struct choice {
    uint8_t thread, which; /* which: the waiter that a signal finds */
} choice;

static bool free_for(const thread *t) {
    for (uint32_t i = 0; i < MAX_LOCKS; i++)
        if (w.now.locks[i].mutex == t->mutex)
            return w.now.locks[i].owner == 0;
    return true;
}

static bool waits_for(const thread *t, const volatile void *cond) {
    return t->status == WAITING && t->object == cond;
}

static uint64_t value_of(const thread *t) {
    uint64_t value = 0;
    if (t->bytes > 0 && t->bytes <= sizeof value)
        memcpy(&value, (const void *)(uintptr_t)t->object, t->bytes);
    return value;
}

/* In how many ways a thread can go on. */
static uint32_t ways(const thread *t) {
    if (t->status == WAITING)
        return ((t->timed && w.now.late) || w.now.spurious > 0) && free_for(t);
    if (t->status != READY)
        return 0;
    switch ((need)t->need) {
    case A_LOCK:
        return free_for(t);
    case AN_END:
        return w.now.threads[t->target].status == FINISHED;
    case A_CHANGE:
        return value_of(t) != t->polled;
    case A_CONDITION:
        return t->ready(t->ready_context);
    case TO_SIGNAL: {
        uint32_t n = 0;
        for (uint32_t i = 0; i < w.now.n_threads; i++)
            n += waits_for(&w.now.threads[i], t->object);
        return n > 0 ? n : 1;
    }
    case NOTHING:
    case TO_BROADCAST:
        break;
    }
    return 1;
}

/* *alive: some thread can go on, were there no limits. */
static uint32_t choices(const explore_limits *limits, choice *out, bool *alive) {
    uint32_t n = 0;
    const bool spent = limits->preemptions >= 0 && w.now.preemptions >= (uint32_t)limits->preemptions &&
                       ways(&w.now.threads[w.now.last]) > 0;
    *alive = false;
    for (uint32_t i = 0; i < w.now.n_threads; i++) {
        const thread *t = &w.now.threads[i];
        uint32_t k = ways(t);
        /* A wake-up for no reason is nothing to rely on. */
        const bool for_reason = t->status != WAITING || (t->timed && w.now.late);
        *alive = *alive || (k > 0 && for_reason);
        if (spent && i != w.now.last)
            continue;
        for (uint32_t which = 0; which < k && n < MAX_CHOICES; which++)
            out[n++] = (choice){(uint8_t)i, (uint8_t)which};
    }
    if (limits->late && !w.now.late)
        out[n++] = (choice){TIME, 0};
    return *alive ? n : 0;
}

static void wake_waiter(thread *t) {
    t->status = READY; /* and takes the lock next */
}

static void wake_for(const thread *t, uint32_t which) {
    for (uint32_t i = 0; i < w.now.n_threads; i++)
        if (waits_for(&w.now.threads[i], t->object)) {
            if (t->need == TO_BROADCAST || which == 0)
                wake_waiter(&w.now.threads[i]);
            which--;
        }
}

static void step(const explore_limits *limits, choice c) {
    if (c.thread == TIME) {
        w.now.late = 1;
        return;
    }
    thread *t = &w.now.threads[c.thread];
    if (limits->preemptions >= 0) {
        w.now.preemptions += c.thread != w.now.last && ways(&w.now.threads[w.now.last]) > 0;
        w.now.last = c.thread;
    }
    if (t->status == WAITING) {
        if (t->timed && w.now.late)
            t->timed_out = true;
        else
            w.now.spurious--;
        wake_waiter(t);
    }
    if (t->need == A_LOCK) {
        *owner_of(t->mutex) = c.thread + 1;
        t->clock = 0;
    } else if (t->need == TO_SIGNAL || t->need == TO_BROADCAST) {
        wake_for(t, c.which);
    }
    if (t->sees) {
        t->polled = value_of(t);
        t->knows = mix(t->knows, &t->polled, sizeof t->polled);
    }
    w.running = c.thread;
    explore__switch(&w.explorer, t->sp);
    w.explorer = NULL;
    if (t->status == FINISHED)
        *t = (thread){.status = FINISHED};
}

static bool all_finished(void) {
    for (uint32_t i = 0; i < w.now.n_threads; i++)
        if (w.now.threads[i].status != FINISHED)
            return false;
    return true;
}

/* ---- states ----------------------------------------------------------------------------------------- */

static void *must(void *p) {
    if (p == NULL) {
        fprintf(stderr, "explore: out of memory\n");
        exit(1);
    }
    return p;
}

/* A list that grows. */
#define GROW(list, n, room)                                                                                  \
    do {                                                                                                     \
        if ((n) == (room)) {                                                                                 \
            (room) = (room) > 0 ? 2 * (room) : 1024;                                                         \
            (list) = must(realloc((list), (room) * sizeof *(list)));                                         \
        }                                                                                                    \
    } while (0)

static size_t stack_bytes(uint32_t i) {
    const thread *t = &w.now.threads[i];
    return t->sp != NULL ? (size_t)(w.stacks[i] + STACK - t->sp) : 0;
}

/* What makes two states the same, beside the memory that was allocated. Written without gaps. */
typedef struct state_key {
    uint64_t knows[MAX_THREADS];
    uint32_t clock[MAX_THREADS], owner[MAX_LOCKS];
    uint8_t status[MAX_THREADS], n_threads, late;
    uint32_t n_freed, spurious, last, preemptions;
} state_key;

static state_key key_of_now(void) {
    state_key key;
    memset(&key, 0, sizeof key);
    for (uint32_t i = 0; i < w.now.n_threads; i++) {
        const thread *t = &w.now.threads[i];
        key.knows[i] = t->knows;
        key.status[i] = t->status;
        key.clock[i] = t->need == A_LOCK ? 0 : t->clock; /* a lock sets it */
    }
    for (uint32_t i = 0; i < MAX_LOCKS; i++)
        key.owner[i] = w.now.locks[i].owner;
    key.n_threads = (uint8_t)w.now.n_threads;
    key.late = (uint8_t)w.now.late;
    key.n_freed = w.now.n_freed;
    key.spurious = w.now.spurious;
    key.last = w.now.last;
    key.preemptions = w.now.preemptions;
    return key;
}

static size_t state_bytes(void) {
    size_t bytes = sizeof w.now + sizeof(state_key) + w.now.allocated;
    for (uint32_t i = 0; i < w.now.n_threads; i++)
        bytes += stack_bytes(i);
    return bytes;
}

/* [the world | key | what was allocated | stacks]: what is in the middle tells states apart. */
static XXH128_hash_t save(unsigned char *to) {
    const state_key key = key_of_now();
    memcpy(to, &w.now, sizeof w.now);
    to += sizeof w.now;
    memcpy(to, &key, sizeof key);
    memcpy(to + sizeof key, w.arena, w.now.allocated);
    const XXH128_hash_t hash = XXH3_128bits(to, sizeof key + w.now.allocated);
    to += sizeof key + w.now.allocated;
    for (uint32_t i = 0; i < w.now.n_threads; to += stack_bytes(i), i++)
        if (w.now.threads[i].sp != NULL)
            memcpy(to, w.now.threads[i].sp, stack_bytes(i));
    return hash;
}

static void restore(const unsigned char *from) {
    memcpy(&w.now, from, sizeof w.now);
    from += sizeof w.now + sizeof(state_key);
    memcpy(w.arena, from, w.now.allocated);
    from += w.now.allocated;
    for (uint32_t i = 0; i < w.now.n_threads; from += stack_bytes(i), i++)
        if (w.now.threads[i].sp != NULL)
            memcpy(w.now.threads[i].sp, from, stack_bytes(i));
}

/* A hash table. 96 bits of the hash: with 10^8 states, two that differ are taken for one with a probability
 * of 10^-13. */
typedef struct entry {
    uint64_t low;
    uint32_t high, id; /* id: from 1 */
} entry;

typedef struct table {
    entry *entries;
    size_t n, room; /* a power of two */
} table;

typedef struct frame {
    size_t at; /* of the state in `saved` */
    uint32_t id, depth;
    uint8_t n, next;
    choice list[MAX_CHOICES + 1];
} frame;

/* An exploration under way. */
typedef struct search {
    const explore_limits *limits;
    explore_result result;
    table seen, habits;   /* states; see the world */
    bool unseen;          /* and it was reported */
    unsigned char *saved; /* states of the frames, one behind the other */
    size_t saved_bytes, saved_room;
    frame *frames;
    size_t n_frames, frames_room;
    choice *path;
    size_t n_path, path_room;
    uint32_t (*edges)[2]; /* from, to */
    size_t n_edges, edges_room;
    uint32_t *ends;
    size_t n_ends, ends_room;
} search;

/* The entry of this key, or the free one that it belongs to. */
static entry *entry_of(const table *t, uint64_t low, uint32_t high) {
    size_t at = (size_t)low & (t->room - 1);
    while (t->entries[at].id != 0 && (t->entries[at].low != low || t->entries[at].high != high))
        at = (at + 1) & (t->room - 1);
    return &t->entries[at];
}

static void grow_table(table *t) {
    const table old = *t;
    t->room = old.room > 0 ? 2 * old.room : 1 << 12;
    t->entries = must(calloc(t->room, sizeof *t->entries));
    for (size_t i = 0; i < old.room; i++)
        if (old.entries[i].id != 0)
            *entry_of(t, old.entries[i].low, old.entries[i].high) = old.entries[i];
    free(old.entries);
}

/* The entry of a key, which gets the next number if it is new. */
static entry *note(table *t, uint64_t low, uint32_t high, bool *fresh) {
    if (4 * t->n >= 3 * t->room)
        grow_table(t);
    entry *e = entry_of(t, low, high);
    *fresh = e->id == 0;
    if (*fresh)
        *e = (entry){low, high, (uint32_t)++t->n};
    return e;
}

/* The running thread does this, knowing what it knows. */
static void does(uint64_t what) {
    const uint32_t short_what = (uint32_t)what | 1;
    bool fresh;
    entry *e = note(w.habits, mix(self()->knows, &w.running, sizeof w.running), 0, &fresh);
    if (fresh)
        e->id = short_what;
    w.unseen = w.unseen || e->id != short_what;
}

/* Saves the present state behind those of the frames. Returns its number; *fresh: it was not seen before. */
static uint32_t note_state(search *s, bool *fresh) {
    const size_t bytes = state_bytes();
    if (s->saved_room - s->saved_bytes < bytes) {
        s->saved_room = 2 * s->saved_room + bytes;
        s->saved = must(realloc(s->saved, s->saved_room));
    }
    const XXH128_hash_t hash = save(s->saved + s->saved_bytes);
    const uint32_t id = note(&s->seen, hash.low64, (uint32_t)hash.high64, fresh)->id;
    s->result.states = s->seen.n;
    return id;
}

/* ---- the search ------------------------------------------------------------------------------------- */

static void print_step(size_t i, choice c) {
    if (c.thread == TIME) {
        fprintf(stderr, "  %4zu  it gets late\n", i);
        return;
    }
    const thread t = w.now.threads[c.thread]; /* before the step */
    fprintf(stderr, "  %4zu  %*sT%u %s%s%s", i, 4 * c.thread, "", (unsigned)c.thread, t.text,
            t.function[0] ? " in " : "", t.function);
    if (t.status == WAITING)
        fprintf(stderr, t.timed && w.now.late ? " (late)" : " (for no reason)");
    if (t.bytes > 0)
        fprintf(stderr, ": 0x%llx", (unsigned long long)value_of(&t));
}

/* Goes the way again and says what happens. The objects' values: before -> behind. */
static void print_path(search *s, const char *failure) {
    fprintf(stderr, "explore: %s after %zu steps (T0 began, the others in order of creation):\n", failure,
            s->n_path);
    restore(s->saved);
    for (size_t i = 0; i < s->n_path; i++) {
        choice c = s->path[i];
        print_step(i, c);
        const thread before = c.thread != TIME ? w.now.threads[c.thread] : (thread){0};
        step(s->limits, c);
        if (before.bytes > 0 && w.now.failure == NULL)
            fprintf(stderr, " -> 0x%llx", (unsigned long long)value_of(&before));
        if (c.thread != TIME)
            fprintf(stderr, "\n");
    }
    for (uint32_t i = 0; i < w.now.n_threads; i++) {
        const thread *t = &w.now.threads[i];
        fprintf(stderr, "  T%u %s %s\n", (unsigned)i,
                t->status == FINISHED  ? "has finished"
                : t->status == WAITING ? "sleeps"
                                       : "stands before:",
                t->status == READY && t->text != NULL ? t->text : "");
    }
}

static void fail_at(search *s, const char *failure) {
    s->result.failure = failure;
    print_path(s, failure);
}

static const char unseen[] =
    "what a thread does does not follow from what it has seen: explore_saw is missing";

/* Does what a thread does follow from what it knows? Else states may have been taken for the same that are
 * not. The search goes on, since a fault in the sources is the better thing to report. */
static void check_habits(search *s) {
    if (!w.unseen || s->unseen)
        return;
    s->unseen = true;
    print_path(s, unseen);
}

/* The state just reached was seen before, perhaps on another way: does the thread that came here on this one
 * do the same next? Asked of all states at first, then of one in 16. Nothing of it is kept. */
static void check_merge(search *s, uint32_t i) {
    choice list[MAX_CHOICES + 1];
    bool alive;
    if (s->result.states > 10000 && s->result.transitions % 16 != 0)
        return;
    const uint32_t n = choices(s->limits, list, &alive);
    for (uint32_t k = 0; k < n; k++) {
        if (list[k].thread != i)
            continue;
        step(s->limits, list[k]);
        check_habits(s);
        restore(s->saved + s->saved_bytes); /* note_state has put it there */
    }
}

/* The state just reached: a frame for it, if there is something to try. False: the search is over. */
static bool enter(search *s, uint32_t id, bool fresh) {
    bool alive;
    frame f = {.at = s->saved_bytes, .id = id, .depth = (uint32_t)s->n_path};
    if (w.now.failure != NULL) {
        fail_at(s, w.now.failure);
        return false;
    }
    if (!fresh)
        return true;
    s->result.depth = f.depth > s->result.depth ? f.depth : s->result.depth;
    if (all_finished()) {
        GROW(s->ends, s->n_ends, s->ends_room);
        s->ends[s->n_ends++] = id;
        return true;
    }
    f.n = (uint8_t)choices(s->limits, f.list, &alive);
    if (!alive) {
        fail_at(s, "nobody can go on, and not all have finished");
        return false;
    }
    s->saved_bytes += state_bytes();
    GROW(s->frames, s->n_frames, s->frames_room);
    s->frames[s->n_frames++] = f;
    return true;
}

static void follow_all(search *s) {
    bool fresh;
    uint32_t id = note_state(s, &fresh);
    bool here = true; /* the last frame's state is the present one */
    if (!enter(s, id, fresh))
        return;
    while (s->n_frames > 0) {
        frame *f = &s->frames[s->n_frames - 1];
        if (f->next == f->n) {
            s->saved_bytes = f->at;
            s->n_frames--;
            here = false;
            continue;
        }
        if (s->result.states >= s->limits->states) {
            s->result.whole = false;
            return;
        }
        if (!here)
            restore(s->saved + f->at);
        choice c = f->list[f->next++];
        s->n_path = f->depth;
        GROW(s->path, s->n_path, s->path_room);
        s->path[s->n_path++] = c;
        step(s->limits, c);
        check_habits(s);
        s->result.transitions++;
        const uint32_t from = f->id;
        id = note_state(s, &fresh);
        GROW(s->edges, s->n_edges, s->edges_room);
        s->edges[s->n_edges][0] = from;
        s->edges[s->n_edges++][1] = id;
        if (!fresh && c.thread != TIME && w.now.failure == NULL)
            check_merge(s, c.thread);
        const size_t n = s->n_frames;
        if (!enter(s, id, fresh))
            return;
        here = s->n_frames > n;
    }
}

/* From each state, can an end be reached? Backwards from the ends along the transitions. */
static void check_ends(search *s) {
    const size_t n = (size_t)s->result.states + 2;
    size_t *first = must(calloc(n + 1, sizeof *first)), n_stack = 0, reached = 0;
    uint32_t *from = must(malloc((s->n_edges + 1) * sizeof *from)), *stack = must(malloc(n * sizeof *stack));
    bool *reaches = must(calloc(n, sizeof *reaches));
    for (size_t i = 0; i < s->n_edges; i++)
        first[s->edges[i][1] + 1]++;
    for (size_t i = 0; i < n; i++)
        first[i + 1] += first[i];
    size_t *at = must(malloc((n + 1) * sizeof *at));
    memcpy(at, first, (n + 1) * sizeof *at);
    for (size_t i = 0; i < s->n_edges; i++)
        from[at[s->edges[i][1]]++] = s->edges[i][0];
    for (size_t i = 0; i < s->n_ends; i++) {
        reaches[s->ends[i]] = true;
        stack[n_stack++] = s->ends[i];
    }
    while (n_stack > 0) {
        uint32_t id = stack[--n_stack];
        reached++;
        for (size_t i = first[id]; i < first[id + 1]; i++)
            if (!reaches[from[i]]) {
                reaches[from[i]] = true;
                stack[n_stack++] = from[i];
            }
    }
    if (reached != s->result.states) {
        s->result.failure = "there are states from which the end cannot be reached";
        fprintf(stderr, "explore: %s: %llu of %llu\n", s->result.failure,
                (unsigned long long)(s->result.states - reached), (unsigned long long)s->result.states);
    }
    free(first);
    free(from);
    free(stack);
    free(reaches);
    free(at);
}

explore_result explore(void (*body)(const void *), const void *context, const explore_limits *limits) {
    search s = {.limits = limits, .result = {.whole = true}};
    memset(&w, 0, sizeof w);
    w.now.spurious = limits->spurious;
    w.habits = &s.habits;
    w.body = body;
    w.body_context = context;
    (void)explore_create(NULL, NULL);
    catch_crashes(true);
    follow_all(&s);
    catch_crashes(false);
    s.result.ends = s.n_ends;
    if (s.result.failure == NULL && s.result.whole)
        check_ends(&s);
    if (s.result.failure == NULL && s.unseen)
        s.result.failure = unseen;
    free(s.seen.entries);
    free(s.habits.entries);
    free(s.saved);
    free(s.frames);
    free(s.path);
    free(s.edges);
    free(s.ends);
    return s.result;
}
