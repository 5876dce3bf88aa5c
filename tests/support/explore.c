#include "explore_world.h"
#include "hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    const thread *t = &explored.now.threads[i];
    return t->sp != NULL ? (size_t)(explored.stacks[i] + STACK - t->sp) : 0;
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
    for (uint32_t i = 0; i < explored.now.n_threads; i++) {
        const thread *t = &explored.now.threads[i];
        key.knows[i] = t->knows;
        key.status[i] = t->status;
        key.clock[i] = t->need == A_LOCK ? 0 : t->clock; /* a lock sets it */
    }
    for (uint32_t i = 0; i < MAX_LOCKS; i++)
        key.owner[i] = explored.now.locks[i].owner;
    key.n_threads = (uint8_t)explored.now.n_threads;
    key.late = (uint8_t)explored.now.late;
    key.n_freed = explored.now.n_freed;
    key.spurious = explored.now.spurious;
    key.last = explored.now.last;
    key.preemptions = explored.now.preemptions;
    return key;
}

static size_t state_bytes(void) {
    size_t bytes = sizeof explored.now + sizeof(state_key) + explored.now.allocated;
    for (uint32_t i = 0; i < explored.now.n_threads; i++)
        bytes += stack_bytes(i);
    return bytes;
}

/* [the world | key | what was allocated | stacks]: what is in the middle tells states apart. */
static XXH128_hash_t save(unsigned char *to) {
    const state_key key = key_of_now();
    memcpy(to, &explored.now, sizeof explored.now);
    to += sizeof explored.now;
    memcpy(to, &key, sizeof key);
    memcpy(to + sizeof key, explored.arena, explored.now.allocated);
    const XXH128_hash_t hash = XXH3_128bits(to, sizeof key + explored.now.allocated);
    to += sizeof key + explored.now.allocated;
    for (uint32_t i = 0; i < explored.now.n_threads; to += stack_bytes(i), i++)
        if (explored.now.threads[i].sp != NULL)
            memcpy(to, explored.now.threads[i].sp, stack_bytes(i));
    return hash;
}

static void restore(const unsigned char *from) {
    memcpy(&explored.now, from, sizeof explored.now);
    from += sizeof explored.now + sizeof(state_key);
    memcpy(explored.arena, from, explored.now.allocated);
    from += explored.now.allocated;
    for (uint32_t i = 0; i < explored.now.n_threads; from += stack_bytes(i), i++)
        if (explored.now.threads[i].sp != NULL)
            memcpy(explored.now.threads[i].sp, from, stack_bytes(i));
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
    table seen;           /* states */
    bool unseen;          /* that a thread did something else was reported */
    unsigned char *saved; /* states of the frames, one after the other */
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

/* What a thread knew, and what it did next; unseen: once it did something else. Threads note it, so it is not
 * part of the search. */
typedef struct habits {
    table table;
    bool unseen;
} habits;

static habits the_habits;

void explore__does(uint64_t knows, uint64_t what) {
    const uint32_t short_what = (uint32_t)what | 1;
    bool fresh;
    entry *e = note(&the_habits.table, knows, 0, &fresh);
    if (fresh)
        e->id = short_what;
    the_habits.unseen = the_habits.unseen || e->id != short_what;
}

/* Saves the present state after those of the frames. Returns its number; *fresh: it was not seen before. */
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
    const thread t = explored.now.threads[c.thread]; /* before the step */
    fprintf(stderr, "  %4zu  %*sT%u %s%s%s", i, 4 * c.thread, "", (unsigned)c.thread, t.text,
            t.function[0] ? " in " : "", t.function);
    if (t.status == WAITING)
        fprintf(stderr, t.timed && explored.now.late ? " (late)" : " (for no reason)");
    if (t.bytes > 0)
        fprintf(stderr, ": 0x%llx", (unsigned long long)explore__value_of(&t));
}

/* Goes the way again and says what happens. The objects' values: before -> after. */
static void print_path(search *s, const char *failure) {
    fprintf(stderr, "explore: %s after %zu steps (T0 began, the others in order of creation):\n", failure,
            s->n_path);
    restore(s->saved);
    for (size_t i = 0; i < s->n_path; i++) {
        choice c = s->path[i];
        print_step(i, c);
        const thread before = c.thread != TIME ? explored.now.threads[c.thread] : (thread){0};
        explore__step(s->limits, c);
        if (before.bytes > 0 && explored.now.failure == NULL)
            fprintf(stderr, " -> 0x%llx", (unsigned long long)explore__value_of(&before));
        if (c.thread != TIME)
            fprintf(stderr, "\n");
    }
    for (uint32_t i = 0; i < explored.now.n_threads; i++) {
        const thread *t = &explored.now.threads[i];
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
    if (!the_habits.unseen || s->unseen)
        return;
    s->unseen = true;
    print_path(s, unseen);
}

static void add_step(search *s, choice c) {
    GROW(s->path, s->n_path, s->path_room);
    s->path[s->n_path++] = c;
}

/* The state just reached was seen before, perhaps on another way: does the thread that came here on this one
 * do the same next? Asked of all states at first, then of one in 16. Nothing of it is kept. */
static void check_merge(search *s, uint32_t i) {
    choice list[MAX_CHOICES + 1];
    bool alive;
    if (s->result.states > 10000 && s->result.transitions % 16 != 0)
        return;
    const uint32_t n = explore__choices(s->limits, list, &alive);
    for (uint32_t k = 0; k < n; k++) {
        if (list[k].thread != i)
            continue;
        add_step(s, list[k]);
        explore__step(s->limits, list[k]);
        check_habits(s);
        s->n_path--;
        restore(s->saved + s->saved_bytes); /* note_state has put it there */
    }
}

/* The state just reached: a frame for it, if there is something to try. False: the search is over. */
static bool enter(search *s, uint32_t id, bool fresh) {
    bool alive;
    frame f = {.at = s->saved_bytes, .id = id, .depth = (uint32_t)s->n_path};
    if (explored.now.failure != NULL) {
        fail_at(s, explored.now.failure);
        return false;
    }
    if (!fresh)
        return true;
    s->result.depth = f.depth > s->result.depth ? f.depth : s->result.depth;
    if (explore__all_finished()) {
        GROW(s->ends, s->n_ends, s->ends_room);
        s->ends[s->n_ends++] = id;
        return true;
    }
    f.n = (uint8_t)explore__choices(s->limits, f.list, &alive);
    if (!alive) {
        fail_at(s, "no thread can go on, and not all have finished");
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
        add_step(s, c);
        explore__step(s->limits, c);
        check_habits(s);
        s->result.transitions++;
        const uint32_t from = f->id;
        id = note_state(s, &fresh);
        GROW(s->edges, s->n_edges, s->edges_room);
        s->edges[s->n_edges][0] = from;
        s->edges[s->n_edges++][1] = id;
        if (!fresh && c.thread != TIME && explored.now.failure == NULL)
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
    the_habits = (habits){0};
    explore__start(body, context, limits);
    explore__catch_crashes(true);
    follow_all(&s);
    explore__catch_crashes(false);
    s.result.ends = s.n_ends;
    if (s.result.failure == NULL && s.result.whole)
        check_ends(&s);
    if (s.result.failure == NULL && s.unseen)
        s.result.failure = unseen;
    free(s.seen.entries);
    free(the_habits.table.entries);
    free(s.saved);
    free(s.frames);
    free(s.path);
    free(s.edges);
    free(s.ends);
    return s.result;
}
