/* All interleavings of small cases of the CPU executor's protocol: claiming, finishing, publishing, sleeping,
 * waking, leaving. The executor's own sources are compiled in behind hooks that hand every atomic operation,
 * lock and wait to the explorer (explore.h says what is and what is not covered); a kernel has a point in the
 * middle of each tile. A thread without work gives up at its second look at the clock; waiting longer is
 * standing still before that look.
 *
 * Each case creates an executor, whose workers may be as late as they like, submits, waits, checks, and
 * destroys all; a guest comes whenever it likes.
 *
 * KILN_INTERLEAVINGS=all: the large cases too (make interleavings); few: the small ones only.
 * KILN_INTERLEAVING=name: that case only. KILN_INTERLEAVINGS_COUNTS=free: any number of states is right. */
#define _DEFAULT_SOURCE   /* the executor's sources want it */
#define KILN__CPU_POLLS   1
#define KILN__CPU_QUANTUM quantum
#include <stdint.h>
static uint32_t quantum; /* of the present case */
#include "explored_executor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* ---- cases ------------------------------------------------------------------------------------------ */

enum { MAX_REGIONS = 4, MAX_TILES = 4, MAX_JOBS = 2, MAX_BESIDE = 2, NEVER = 255 };

/* Some hundred to a million states; a few million; many millions. */
typedef enum size { SMALL, MEDIUM, LARGE } size;

/* When a guest leaves: when it is dismissed, behind the last submission or at any moment; when there is
 * nothing to do; when its time is over, which may be at any moment. */
typedef enum guest { NO_GUEST, STAYS, DISMISSED, BRIEF, GETS_LATE } guest;

typedef struct example {
    const char *name;
    const char *
        regions; /* a record each: '2', '3', …: so many tiles, shared; '1': one thread's; 'o' behind: observed */
    uint32_t threads;
    uint32_t pool; /* threads of a pool made by hand, one of them a guest; 0: the executor has its own */
    guest guest;
    bool turns;   /* of two sessions, with each claim; else with every 16 */
    bool crowded; /* only one of that pool's threads is meant to be awake */
    size size;
    bool direct; /* table->run instead of submit and wait */
    bool poll;   /* nobody waits, or only once with a limit */
    bool early;  /* one thread: released as soon as it is done, while the one beside that waited is leaving */
    bool cancel; /* by a thread beside, at any moment */
    bool late;   /* the first wait has a limit, and may reach it at any moment */
    uint8_t waiters; /* threads beside that wait, too */
    uint8_t jobs;    /* sessions, submitted at once; 0: 1 */
    uint8_t times;   /* submissions of each; 0: 1 */
    uint8_t fails;   /* record + 1 whose tiles all fail in the first submission */
    uint8_t spurious;
    uint32_t states; /* as many, whatever compiled it; 0: not held */
    int8_t
        preemptions; /* + 1; 0: no limit. The end must be reached without any more: nobody runs in circles until
                           another thread has its processor back */
} example;

/* For waits that end when it gets late. */
static const int64_t until_late = INT64_C(500000) * EXPLORE_LATE * 1000;

typedef struct job job;

typedef struct record_view {
    job *job;
    uint32_t record;
    int64_t tiles;
    bool solo, fails;
    uint8_t begun[MAX_TILES], ended;
} record_view;

struct job {
    kiln__run run;
    kiln__tape tape;
    record_view views[MAX_REGIONS];
    const example *example;
    kiln_executor *executor;
    uint8_t observed, done_calls;
    pthread_t beside[MAX_BESIDE];
};

/* A guest's stay, and who ends it. */
typedef struct visit {
    kiln_cpu_pool *pool;
    guest kind;
    bool left;
    pthread_t guest, host;
} visit;

static void require(bool ok, const char *what) {
    if (!ok)
        explore_fail(what);
}

static int64_t tiles_of(const kiln_args *args) {
    return ((const record_view *)args->attrs)->tiles;
}

static kiln_status compute_tiles(const kiln_args *args, kiln_tile *tile) {
    record_view *v = (record_view *)(uintptr_t)args->attrs;
    explore_saw(&(int64_t[]){v->record, tile->first, tile->last, v->fails}, 32);
    for (int64_t i = tile->first; i < tile->last; i++) {
        require(i >= 0 && i < v->tiles, "a tile that does not exist");
        require(v->begun[i] == 0, "a tile is computed twice");
        require(v->record == 0 || v[-1].ended == v[-1].tiles, "a tile before the end of the region in front");
        v->begun[i]++;
        explore_point("in a tile", "the kernel", NULL, 0, false);
        v->ended++;
        if (v->fails)
            return kiln_tile_fail(tile, "record %u", (unsigned)v->record);
    }
    return KILN_OK;
}

static kiln_cost cost_of(const kiln_args *args) {
    return (kiln_cost){0, ((const record_view *)args->attrs)->solo ? 1 : INT64_C(4000000000)};
}

static const kiln_kernel the_kernels[] = {{"plain", 0, NULL, tiles_of, NULL, compute_tiles, cost_of}};
static const kiln_op the_op = {.name = "watch", .kernels = the_kernels, .n_kernels = 1};

static kiln_status when_region_done(kiln__run *run, uint32_t region) {
    job *j = (job *)(void *)run;
    require(j->views[region].ended == j->views[region].tiles, "region_done before its tiles");
    require(region + 1 == j->tape.n_regions || j->views[region + 1].begun[0] == 0,
            "region_done behind tiles of the next region");
    j->observed++;
    return KILN_OK;
}

static void when_done(kiln__run *run) {
    ((job *)(void *)run)->done_calls++;
}

static const kiln__run_hooks the_hooks = {when_region_done, when_done};

static job *make_job(const example *x, kiln_executor *e) {
    job *j = explore_alloc(sizeof *j, 64);
    j->example = x;
    j->executor = e;
    j->tape.records = explore_alloc(MAX_REGIONS * sizeof(kiln__record), 64);
    j->tape.regions = explore_alloc(MAX_REGIONS * sizeof(kiln__region), 64);
    for (const char *c = x->regions; *c != 0; c++) {
        uint32_t i = j->tape.n_regions;
        if (*c == 'o') {
            j->tape.regions[i - 1].observed = 1;
            continue;
        }
        j->views[i] = (record_view){.job = j, .record = i, .tiles = *c - '0', .solo = *c == '1'};
        j->tape.records[i].op = &the_op;
        j->tape.records[i].args.attrs = &j->views[i];
        j->tape.regions[i] = (kiln__region){.first = i, .last = i + 1};
        j->tape.n_regions = j->tape.n_records = i + 1;
    }
    j->run.tape = &j->tape;
    j->run.hooks = &the_hooks;
    require(e->table->prepare(e, &j->run, NULL, NULL) == KILN_OK, "prepare");
    return j;
}

/* ---- what threads do -------------------------------------------------------------------------------- */

static void *wait_too(void *context) {
    job *j = context;
    require(j->executor->table->wait(j->executor, &j->run, -1) == KILN_OK, "a wait beside");
    return NULL;
}

static void *cancel_it(void *context) {
    job *j = context;
    j->executor->table->cancel(j->executor, &j->run);
    return NULL;
}

static uint32_t n_beside(const example *x) {
    return (uint32_t)x->waiters + x->cancel;
}

static void start_beside(job *j) {
    for (uint32_t i = 0; i < n_beside(j->example); i++)
        require(pthread_create(&j->beside[i], NULL, i < j->example->waiters ? wait_too : cancel_it, j) == 0,
                "create");
}

/* A thread of ours begins something, and remembers only what and for which job. */
static void begins(const char *what, const job *j, uint32_t time) {
    const uint64_t known[] = {(uint64_t)(uintptr_t)j, time};
    explore_begin(what, known, sizeof known);
}

static void start_job(job *j, uint32_t time) {
    const example *x = j->example;
    begins("start", j, time);
    for (uint32_t i = 0; i < j->tape.n_records; i++) {
        memset(j->views[i].begun, 0, sizeof j->views[i].begun);
        j->views[i].ended = 0;
        j->views[i].fails = time == 0 && x->fails == i + 1;
    }
    j->done_calls = j->observed = 0;
    if (!x->early && time == 0)
        start_beside(j);
    if (x->direct)
        require(j->executor->table->run(j->executor, &j->run) == KILN_OK, "run");
    else
        require(j->executor->table->submit(j->executor, &j->run) == KILN_OK, "submit");
    if (x->early)
        start_beside(j);
}

static void finish_job(job *j, uint32_t time) {
    const example *x = j->example;
    const kiln__executor_table *table = j->executor->table;
    begins("wait", j, time);
    if (!x->direct && (!x->poll || x->late)) {
        kiln_status status = table->wait(j->executor, &j->run, x->late ? until_late : -1);
        if (x->late && !x->poll && status == KILN_ERROR_TIMEOUT) {
            begins("wait again", j, time);
            status = table->wait(j->executor, &j->run, -1);
        }
        require(status == KILN_OK || (x->poll && status == KILN_ERROR_TIMEOUT), "wait");
    }
    begins("poll", j, time);
    while (x->poll && !table->is_done(j->executor, &j->run))
        explore_idle();
    require(table->is_done(j->executor, &j->run), "not done behind a wait");
    require(j->done_calls == 1, "the done hook was not called once");
    const kiln_status got = j->run.outcome.status;
    const bool fails = time == 0 && x->fails != 0;
    require(got == (fails ? KILN_ERROR_KERNEL : KILN_OK) ||
                (x->cancel && time == 0 && got == KILN_ERROR_CANCELLED),
            "the wrong outcome");
    require(got != KILN_ERROR_KERNEL || j->run.outcome.record + 1 == x->fails, "the wrong record's error");
    uint32_t observed = 0;
    for (uint32_t r = 0; got == KILN_OK && r < j->tape.n_regions; r++) {
        require(j->views[r].ended == j->views[r].tiles, "a tile was lost");
        observed += j->tape.regions[r].observed;
    }
    require(got != KILN_OK || j->observed == observed, "an observed region was not shown");
    begins("finish", j, time);
    for (uint32_t i = x->waiters; i < n_beside(x) && time == 0; i++)
        pthread_join(j->beside[i], NULL); /* a cancel is for the first submission only */
    for (uint32_t r = x->fails; fails && r < j->tape.n_regions; r++)
        require(j->views[r].begun[0] == 0, "a tile behind a region that failed");
}

static void *be_guest(void *context) {
    visit *v = context;
    const int64_t limit = v->kind == BRIEF ? 0 : v->kind == GETS_LATE ? until_late : -1;
    require(kiln_cpu_pool_help(v->pool, limit) == KILN_OK, "help");
    explore_point("has left", "the guest", &v->left, sizeof v->left, false);
    v->left = true;
    return NULL;
}

static void *dismiss(void *context) {
    kiln_cpu_pool_dismiss(((visit *)context)->pool);
    return NULL;
}

static void begin_visit(visit *v) {
    require(pthread_create(&v->guest, NULL, be_guest, v) == 0, "create");
    if (v->kind == DISMISSED)
        require(pthread_create(&v->host, NULL, dismiss, v) == 0, "create");
}

static bool has_come(const void *context) {
    const visit *v = context;
    return v->left || v->pool->present > v->pool->n_workers;
}

static void end_visit(visit *v) {
    if (v->kind == DISMISSED)
        pthread_join(v->host, NULL);
    explore_until(has_come, v, "waits for the guest"); /* those who come after a dismissal stay */
    kiln_cpu_pool_dismiss(v->pool);
    pthread_join(v->guest, NULL);
}

static void *arena_alloc(void *context, size_t bytes, size_t alignment) {
    (void)context;
    return explore_alloc(bytes, alignment);
}

static void arena_free(void *context, void *p, size_t bytes) {
    (void)context;
    explore_free(p, bytes);
}

static void whole_life(const void *context) {
    const example *x = context;
    const kiln_allocator arena = {NULL, arena_alloc, arena_free};
    const kiln_cpu_pool_options shared = {.threads = x->pool, .guests = 1, .oversubscribe = !x->crowded};
    visit *v = explore_alloc(sizeof *v, 64);
    v->kind = x->guest;
    begins("create", NULL, 0);
    const uint32_t jobs = x->jobs > 0 ? x->jobs : 1, times = x->times > 0 ? x->times : 1;
    kiln_executor *e = NULL;
    job *all[MAX_JOBS];
    if (x->pool > 0)
        require(kiln_cpu_pool_create(&arena, &shared, &v->pool, NULL) == KILN_OK, "create the pool");
    const kiln_cpu_options options = {
        .threads = x->threads, .pool = v->pool, .oversubscribe = v->pool == NULL};
    require(kiln_cpu_executor_create(&arena, &options, &e, NULL) == KILN_OK, "create");
    for (uint32_t i = 0; i < jobs; i++)
        all[i] = make_job(x, e);
    if (x->guest != NO_GUEST)
        begin_visit(v);
    for (uint32_t time = 0; time < times; time++) {
        for (uint32_t i = 0; i < jobs; i++)
            start_job(all[i], time);
        for (uint32_t i = 0; i < jobs; i++)
            finish_job(all[i], time);
    }
    for (uint32_t i = 0; i < jobs; i++) {
        begins("release", all[i], 0);
        if (x->early)
            e->table->release(e, &all[i]->run);
        for (uint32_t k = 0; k < x->waiters; k++)
            pthread_join(all[i]->beside[k], NULL);
        if (!x->early)
            e->table->release(e, &all[i]->run);
    }
    begins("end", NULL, 0);
    if (x->guest != NO_GUEST)
        end_visit(v);
    require(kiln_executor_destroy(e, NULL) == KILN_OK, "destroy");
    require(kiln_cpu_pool_destroy(v->pool, NULL) == KILN_OK, "destroy the pool");
}

/* ---- all of them ------------------------------------------------------------------------------------ */

static const example examples[] = {
    {.name = "1 thread", .regions = "212o1", .threads = 1, .times = 2, .states = 98},
    {.name = "1 thread, cancelled", .regions = "21", .threads = 1, .cancel = true, .times = 2, .states = 301},
    {.name = "1 thread, a limit", .regions = "121", .threads = 1, .late = true, .times = 2, .states = 498},
    {.name = "1 thread, two wait", .regions = "12", .threads = 1, .waiters = 1, .times = 2, .states = 2371},
    {.name = "1 thread, released early",
     .regions = "12",
     .threads = 1,
     .waiters = 1,
     .poll = true,
     .early = true,
     .states = 97},
    {.name = "1 thread, nothing to do", .regions = "", .threads = 1, .waiters = 1, .times = 2, .states = 119},
    {.name = "2 threads", .regions = "3", .threads = 2, .times = 2, .states = 77141},
    {.name = "2 threads, run", .regions = "12o1", .threads = 2, .direct = true, .times = 3, .states = 127522},
    {.name = "2 threads, nobody waits",
     .regions = "22o21",
     .threads = 2,
     .poll = true,
     .times = 3,
     .states = 3085},
    {.name = "2 threads, held up", .regions = "22", .threads = 2, .preemptions = 1 + 4, .states = 131593},
    {.name = "3 threads, held up", .regions = "21", .threads = 3, .preemptions = 1 + 2, .states = 17478},
    {.name = "2 threads, all serial",
     .regions = "11",
     .threads = 2,
     .poll = true,
     .times = 2,
     .states = 1478},
    {.name = "2 threads, 3 shared", .regions = "333", .threads = 2, .size = MEDIUM, .states = 779030},
    {.name = "2 threads, 4 shared", .regions = "22o22", .threads = 2, .size = MEDIUM, .states = 1352406},
    {.name = "2 threads, serial between", .regions = "2121", .threads = 2, .states = 124575},
    {.name = "2 threads, serial first", .regions = "112o2", .threads = 2, .states = 327222},
    {.name = "2 threads, a failure", .regions = "22", .threads = 2, .fails = 1, .times = 2, .states = 503431},
    {.name = "2 threads, cancelled",
     .regions = "22",
     .threads = 2,
     .cancel = true,
     .times = 2,
     .size = MEDIUM,
     .states = 1243989},
    {.name = "2 threads, a limit",
     .regions = "212",
     .threads = 2,
     .late = true,
     .size = MEDIUM,
     .states = 887809},
    {.name = "2 threads, left alone",
     .regions = "1212",
     .threads = 2,
     .late = true,
     .poll = true,
     .size = MEDIUM,
     .states = 1788189},
    {.name = "2 threads, false wake-ups", .regions = "22", .threads = 2, .spurious = 2, .states = 310408},
    {.name = "2 threads, two wait", .regions = "2", .threads = 2, .waiters = 1, .states = 296957},
    {.name = "2 threads, nothing to do",
     .regions = "",
     .threads = 2,
     .waiters = 1,
     .times = 2,
     .states = 328},
    {.name = "2 threads, two sessions", .regions = "21", .threads = 2, .jobs = 2, .states = 219122},
    {.name = "2 threads, taking turns",
     .regions = "21",
     .threads = 2,
     .jobs = 2,
     .turns = true,
     .states = 842620},
    {.name = "a guest", .regions = "2", .threads = 2, .pool = 2, .guest = STAYS, .times = 2, .states = 54200},
    {.name = "a guest, nobody waits",
     .regions = "12",
     .threads = 2,
     .pool = 2,
     .guest = STAYS,
     .poll = true,
     .times = 2,
     .states = 1833},
    {.name = "a guest, left alone",
     .regions = "12",
     .threads = 2,
     .pool = 2,
     .guest = STAYS,
     .late = true,
     .poll = true,
     .size = MEDIUM,
     .states = 371956},
    {.name = "a guest, dismissed",
     .regions = "21",
     .threads = 2,
     .pool = 2,
     .guest = DISMISSED,
     .states = 145808},
    {.name = "a guest, a limit",
     .regions = "21",
     .threads = 2,
     .pool = 2,
     .guest = GETS_LATE,
     .states = 125750},
    {.name = "a guest, brief", .regions = "212", .threads = 2, .pool = 2, .guest = BRIEF, .states = 43584},
    {.name = "a guest, two sessions",
     .regions = "11",
     .threads = 2,
     .pool = 2,
     .guest = DISMISSED,
     .jobs = 2,
     .turns = true,
     .size = MEDIUM,
     .states = 1905701},
    {.name = "a guest and a worker",
     .regions = "1",
     .threads = 3,
     .pool = 3,
     .guest = DISMISSED,
     .poll = true,
     .size = MEDIUM,
     .states = 375939},
    {.name = "a guest or a worker",
     .regions = "21",
     .threads = 2,
     .pool = 3,
     .guest = DISMISSED,
     .poll = true,
     .states = 164524},
    {.name = "a guest, one awake",
     .regions = "21",
     .threads = 3,
     .pool = 3,
     .guest = BRIEF,
     .poll = true,
     .crowded = true,
     .states = 76228},
    {.name = "3 threads", .regions = "2", .threads = 3, .size = MEDIUM, .states = 2116806},
    {.name = "3 threads, run",
     .regions = "12",
     .threads = 3,
     .direct = true,
     .size = MEDIUM,
     .states = 3426833},
    {.name = "3 threads, nobody waits",
     .regions = "32",
     .threads = 3,
     .poll = true,
     .size = MEDIUM,
     .states = 852061},
    {.name = "3 threads, a tile each", .regions = "3", .threads = 3, .size = LARGE},
    {.name = "3 threads, run, a tile each", .regions = "13", .threads = 3, .direct = true, .size = LARGE},
    {.name = "3 threads, 2 shared", .regions = "22", .threads = 3, .size = LARGE},
    {.name = "3 threads, twice", .regions = "2", .threads = 3, .times = 2, .size = LARGE},
    {.name = "3 threads, serial between", .regions = "2121", .threads = 3, .size = LARGE},
    {.name = "3 threads, 4 shared", .regions = "2222", .threads = 3, .preemptions = 1 + 3, .size = LARGE},
    {.name = "3 threads, a failure", .regions = "22", .threads = 3, .fails = 1, .size = LARGE},
    {.name = "3 threads, failed, again", .regions = "2", .threads = 3, .fails = 1, .times = 2, .size = LARGE},
    {.name = "3 threads, cancelled", .regions = "2", .threads = 3, .cancel = true, .times = 2, .size = LARGE},
    {.name = "3 threads, a limit", .regions = "2", .threads = 3, .late = true, .size = LARGE},
    {.name = "3 threads, false wake-ups", .regions = "2", .threads = 3, .spurious = 1, .size = LARGE},
    {.name = "3 threads, two wait", .regions = "2", .threads = 3, .waiters = 1, .size = LARGE},
    {.name = "3 threads, two sessions", .regions = "2", .threads = 3, .jobs = 2, .size = LARGE},
    {.name = "a guest, a worker, a limit",
     .regions = "1",
     .threads = 3,
     .pool = 3,
     .guest = GETS_LATE,
     .poll = true,
     .size = LARGE},
    {.name = "a guest, all three",
     .regions = "1",
     .threads = 3,
     .pool = 3,
     .guest = DISMISSED,
     .size = LARGE},
    {.name = "a guest, taking turns",
     .regions = "21",
     .threads = 2,
     .pool = 2,
     .guest = DISMISSED,
     .jobs = 2,
     .turns = true,
     .size = LARGE},
};

/* "few", for slow machines; "all"; else what takes some ten seconds. */
static bool chosen(const example *x) {
    const char *which = getenv("KILN_INTERLEAVINGS"), *only = getenv("KILN_INTERLEAVING");
    if (only != NULL)
        return strcmp(only, x->name) == 0;
    size most = which != NULL && strcmp(which, "few") == 0   ? SMALL
                : which != NULL && strcmp(which, "all") == 0 ? LARGE
                                                             : MEDIUM;
    return x->size <= most;
}

/* Sources that were changed on purpose (tests/mutate.sh) must fail for a fault, not for its number of
 * states. */
static bool counts_are_free(void) {
    const char *counts = getenv("KILN_INTERLEAVINGS_COUNTS");
    return counts != NULL && strcmp(counts, "free") == 0;
}

static void say(const example *x, const explore_result *r) {
    char bound[64] = "";
    if (x->preemptions > 0)
        snprintf(bound, sizeof bound, ", at most %d preemptions", x->preemptions - 1);
    print_message("%-26s %9llu states, %9llu transitions, schedules of up to %u steps%s\n", x->name,
                  (unsigned long long)r->states, (unsigned long long)r->transitions, (unsigned)r->depth,
                  bound);
}

static void interleavings(void **state) {
    (void)state;
    uint64_t states = 0, transitions = 0;
    uint32_t cases = 0, left_out = 0;
    if (explore_refusal() != NULL) {
        print_message("skipped: %s\n", explore_refusal());
        skip();
    }
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        const example *x = &examples[i];
        if (!chosen(x)) {
            left_out++;
            continue;
        }
        const explore_limits limits = {x->late || x->guest == GETS_LATE, x->spurious, x->preemptions - 1,
                                       x->size == LARGE ? UINT32_MAX / 2 : 12000000};
        quantum = x->turns ? 1 : 16;
        several_runs = x->jobs > 1;
        explore_result r = explore(whole_life, x, &limits);
        say(x, &r);
        if (r.failure != NULL)
            fail_msg("%s: %s", x->name, r.failure);
        if (!r.whole)
            fail_msg("%s: given up after %llu states, the limit of a case", x->name,
                     (unsigned long long)limits.states);
        if (x->states > 0 && r.states != x->states && !counts_are_free())
            fail_msg("%s: %llu states, not %llu. Either the protocol was changed: then that is the new "
                     "number; or what "
                     "a thread knows depends on the compiler",
                     x->name, (unsigned long long)r.states, (unsigned long long)x->states);
        states += r.states;
        transitions += r.transitions;
        cases++;
    }
    print_message("%u cases, %llu states, %llu transitions; %u larger cases left to make interleavings\n",
                  (unsigned)cases, (unsigned long long)states, (unsigned long long)transitions,
                  (unsigned)left_out);
    assert_true(cases > 0);
}

/* A thread reads what another one writes, and does not say that it has seen it: the explorer says so. */
static void *raise_it(void *context) {
    explore_point("raises it", "a test", context, 4, false);
    *(uint32_t *)context = 1;
    return NULL;
}

static void reads_without_saying(const void *context) {
    uint32_t *flag = explore_alloc(sizeof *flag, 64);
    pthread_t other;
    (void)pthread_create(&other, NULL, raise_it, flag);
    explore_point("reads it", "a test", NULL, 0, false);
    const uint32_t seen = *flag;
    if (*(const bool *)context)
        explore_saw(&seen, sizeof seen);
    explore_point("goes on", "a test", NULL, 0, false);
    if (seen > 0)
        explore_point("found it", "a test", NULL, 0, false);
    pthread_join(other, NULL);
}

static void what_is_not_seen_is_found(void **state) {
    (void)state;
    if (explore_refusal() != NULL) {
        print_message("skipped: %s\n", explore_refusal());
        skip();
    }
    const explore_limits limits = {false, 0, -1, 1000};
    const bool says = true, keeps_quiet = false;
    explore_result r = explore(reads_without_saying, &says, &limits);
    if (r.failure != NULL)
        fail_msg("%s", r.failure);
    assert_true(r.whole);
    const uint64_t states = r.states;
    r = explore(reads_without_saying, &keeps_quiet, &limits);
    assert_non_null(r.failure);
    assert_non_null(strstr(r.failure, "explore_saw is missing"));
    assert_true(r.states < states); /* some were taken for the same */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_not_seen_is_found),
                                       cmocka_unit_test(interleavings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
