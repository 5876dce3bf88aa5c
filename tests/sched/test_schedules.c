/* The CPU executor under seeded schedules: at every atomic and lock operation a thread may pause, yield or nap, as a
 * generator of its own says. A seed makes a scenario: threads (more than the machine has), a few host threads, small
 * jobs, and what the hosts do with them. Meant for the thread sanitizer (make schedules).
 *
 * KILN_SCHEDULES: how many seeds. KILN_SCHEDULE_SEED=n: that one only, as many times; a seed decides everything but when
 * the system lets which thread run, so a failure may need several. */
#define _DEFAULT_SOURCE /* the executor's sources want it */
#include "hooked_executor.h"

#include "executor_job.h"

#include <unistd.h>

enum { MAX_HOSTS = 4, MAX_JOBS = 3, MAX_ROUNDS = 4, MAX_WAITERS = 3, STUCK_SECONDS = SLOW ? 120 : 60 };

typedef struct host {
    kiln_executor *executor;
    job *jobs[MAX_JOBS];
    int n_jobs;
    uint64_t seed;
    const char *doing; /* atomically; for the watchdog */
    pthread_t thread;
} host;

/* The scenario being played: what hooks and the watchdog see of it. */
static struct {
    uint64_t seed;
    uint32_t threads, spin_us, every; /* a thread does something odd once in so many operations */
    int n_hosts;
    bool own_sessions; /* hosts make and release their sessions themselves */
    host hosts[MAX_HOSTS];
    uint64_t played; /* atomically, as are those below */
    uint64_t streams, oddities;
    uint64_t runs, cancelled, failed, timeouts;
} now;

static void count(uint64_t *figure) {
    __atomic_fetch_add(figure, 1, __ATOMIC_RELAXED);
}

static void say_scenario(void) {
    fprintf(stderr, "seed %llu: %u threads, spin %u us, odd once in %u, %d hosts, sessions of %s\n",
            (unsigned long long)now.seed, (unsigned)now.threads, (unsigned)now.spin_us, (unsigned)now.every,
            now.n_hosts, now.own_sessions ? "each host's own" : "the main thread");
    for (int i = 0; i < now.n_hosts; i++) {
        const char *doing = __atomic_load_n(&now.hosts[i].doing, __ATOMIC_RELAXED);
        fprintf(stderr, "  host %d: %s\n", i, doing != NULL ? doing : "not begun");
    }
    fprintf(stderr, "  again: KILN_SCHEDULE_SEED=%llu\n", (unsigned long long)now.seed);
}

/* Ends the process: threads are in the middle of something. */
static void broken(const char *what) {
    fprintf(stderr, "%s\n", what);
    say_scenario();
    _exit(1);
}

static void demand(bool ok, const char *what) {
    if (!ok)
        broken(what);
}

/* ---- the hook --------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static void hooked(hooked_kind kind, const volatile void *object, size_t bytes, const char *text,
                   const char *function) {
    static _Thread_local uint64_t stream, of_scenario;
    (void)kind;
    (void)object;
    (void)bytes;
    (void)text;
    (void)function;
    if (stream == 0 || of_scenario != now.seed) {
        of_scenario = now.seed;
        stream = mix(now.seed + (__atomic_fetch_add(&now.streams, 1, __ATOMIC_RELAXED) << 32)) | 1;
    }
    stream ^= stream >> 12;
    stream ^= stream << 25;
    stream ^= stream >> 27;
    uint32_t drawn = (uint32_t)(stream * 2685821657736338717u >> 32);
    if (drawn % now.every != 0)
        return;
    count(&now.oddities);
    uint32_t which = drawn / now.every % 32;
    if (which < 5) {
        (sched_yield)();
    } else if (which < 31) {
        for (uint32_t i = 0; i < 16 * which; i++)
            kiln__pause();
    } else {
        struct timespec t = {0, (long)(1 + drawn % 30) * 1000};
        (nanosleep)(&t, NULL);
    }
}

/* ---- jobs ------------------------------------------------------------------------------------------- */

static int64_t few_tiles(void) {
    int n = below(8);
    return n == 0 ? 0 : n < 3 ? 1 : n < 7 ? 1 + below(8) : 1 + below(MAX_TILES);
}

static job *small_job(void) {
    int64_t sizes[32];
    int n = 0, regions = below(6);
    for (int r = 0; r < regions; r++) {
        for (int i = below(4); i > 0; i--)
            sizes[n++] = few_tiles();
        sizes[n++] = -1;
    }
    sizes[n] = -2;
    job *j = job_new(sizes);
    const bool failing = below(4) == 0, bad = below(5) == 0;
    for (uint32_t i = 0; i < j->tape.n_records; i++) {
        node *x = &j->nodes[i];
        /* Nothing; a microsecond a tile; so much that all sleepers are wanted. */
        x->ops = (int64_t[]){1, 0, INT64_C(4000000000)}[below(3)];
        x->scratch = below(4) == 0 ? below(100) : 0;
        x->spins = below(6) == 0 ? (uint32_t)below(2000) : 0;
        for (int k = 0; k < 2; k++)
            x->fail[k] = failing && below(4) == 0 ? below(MAX_TILES) : -1;
        x->bad_tile = bad && below(2) == 0 ? below(8) : -1;
        x->bad_row = below(100);
    }
    for (int r = 0; r < regions; r++)
        j->tape.regions[r].observed = below(3) == 0;
    if (regions > 0 && below(10) == 0) {
        j->hook_fails = KILN_ERROR_NUMERIC;
        j->hook_region = (uint32_t)below(regions);
    }
    return j;
}

/* The tile at which a record fails: the first; -1: none. */
static int64_t failing_tile(const node *n) {
    int64_t at = -1;
    for (int k = 0; k < 2; k++)
        if (n->fail[k] >= 0 && n->fail[k] < n->tiles && (at < 0 || n->fail[k] < at))
            at = n->fail[k];
    return at;
}

/* What comes of a run that nobody cancels. *end: regions that are computed, the failing one included. */
static kiln__outcome expected(const job *j, uint32_t *end) {
    kiln__outcome bad = {.status = KILN_OK};
    for (uint32_t r = 0; r < j->tape.n_regions; r++) {
        const kiln__region *region = &j->tape.regions[r];
        *end = r + 1;
        for (uint32_t i = region->first; i < region->last; i++) {
            const node *n = &j->nodes[i];
            if (failing_tile(n) >= 0) {
                kiln__outcome o = {.status = KILN_ERROR_KERNEL, .record = i};
                snprintf(o.text, sizeof o.text, "record %u tile %lld", (unsigned)i,
                         (long long)failing_tile(n));
                return o;
            }
            if (n->bad_tile >= 0 && n->bad_tile < n->tiles && bad.status == KILN_OK)
                bad = (kiln__outcome){KILN_ERROR_INDEX, i, n->bad_row, 100 + n->bad_tile, 7, ""};
        }
        if (region->observed && j->hook_fails != KILN_OK && j->hook_region == r) {
            kiln__outcome o = {.status = j->hook_fails, .record = region->first};
            snprintf(o.text, sizeof o.text, "hook at %u", (unsigned)r);
            return o;
        }
    }
    *end = j->tape.n_regions;
    return bad;
}

/* Every tile of the first `whole` regions once, no tile twice, none of region `end` or later. */
static void check_tiles(job *j, uint32_t whole, uint32_t end) {
    for (uint32_t i = 0; i < j->tape.n_records; i++) {
        node *n = &j->nodes[i];
        for (int t = 0; t < MAX_TILES; t++) {
            int hits = atomic_load(&n->hits[t]);
            demand(hits <= (t < n->tiles), "a tile was computed twice, or does not exist");
            demand(hits == 0 || n->region < end, "a tile behind the end of the run");
            demand(hits == 1 || n->region >= whole || t >= n->tiles, "a tile was lost");
        }
    }
}

/* After a submission is over. */
static void check_run(job *j, bool cancelled) {
    const kiln__outcome *got = &j->run.outcome;
    uint32_t end = 0;
    kiln__outcome want = expected(j, &end);
    demand(atomic_load(&j->violations) == 0, "a kernel or a hook saw something wrong");
    demand(atomic_load(&j->done_calls) == 1, "the done hook was not called once");
    count(&now.runs);
    if (cancelled && got->status == KILN_ERROR_CANCELLED) {
        count(&now.cancelled);
        check_tiles(j, 0, end);
        return;
    }
    demand(got->status == want.status, "the wrong outcome");
    check_tiles(j, got->status == KILN_ERROR_KERNEL ? end - 1 : end, end);
    if (want.status == KILN_OK)
        demand(job_complete(j), "the run is not complete");
    else
        demand(got->record == want.record, "not the first error in plan order");
    if (want.status == KILN_ERROR_INDEX)
        demand(got->row == want.row && got->index == want.index && got->limit == want.limit, "the bad index");
    else if (want.status != KILN_OK)
        demand(strcmp(got->text, want.text) == 0, "the text of the error");
    if (want.status != KILN_OK)
        count(&now.failed);
}

/* ---- what hosts do ---------------------------------------------------------------------------------- */

static void begin(kiln_executor *e, job *j) {
    job_reset(j);
    demand(submit(e, j) == KILN_OK, "submit");
}

/* With and without limits, until the run is over. */
static void wait_somehow(kiln_executor *e, job *j) {
    for (;;) {
        kiln_status status = wait_for(e, j, below(2) ? -1 : below(60) * 1000);
        if (status == KILN_OK)
            return;
        demand(status == KILN_ERROR_TIMEOUT, "wait");
        count(&now.timeouts);
    }
}

typedef struct helper {
    kiln_executor *executor;
    job *job;
    uint64_t seed;
    pthread_t thread;
} helper;

static void *wait_beside(void *context) {
    helper *h = context;
    seed = h->seed;
    wait_somehow(h->executor, h->job);
    return NULL;
}

static void *cancel_beside(void *context) {
    helper *h = context;
    seed = h->seed;
    for (int i = below(200); i > 0; i--)
        hooked(HOOKED_YIELD, NULL, 0, "", "");
    for (int i = 1 + below(3); i > 0; i--)
        h->executor->table->cancel(h->executor, &h->job->run);
    return NULL;
}

static void start_helper(helper *h, host *x, job *j, void *(*body)(void *)) {
    *h = (helper){.executor = x->executor, .job = j, .seed = mix(seed + (uint64_t)below(1 << 20)) | 1};
    demand(pthread_create(&h->thread, NULL, body, h) == 0, "no thread to be had");
}

static void run_directly(host *x, job *j) {
    job_reset(j);
    demand(x->executor->table->run(x->executor, &j->run) == KILN_OK, "run");
    check_run(j, false);
}

/* So often that the executor compares runs alone with runs in company (sched/cpu_company.c): nothing is worth waking
 * anybody for. */
static void run_in_a_row(host *x, job *j) {
    for (uint32_t i = 0; i < j->tape.n_records; i++)
        if (j->nodes[i].ops > 1) {
            j->nodes[i].ops = 0;
            kiln__tape_touch(&j->tape, j->nodes[i].region, i);
        }
    /* They are close only where idle threads spin for a while. */
    for (int i = now.threads > 1 && now.spin_us == 50 ? 80 : 3; i > 0; i--)
        run_directly(x, j);
}

static void submit_and_wait(host *x, job *j) {
    begin(x->executor, j);
    wait_somehow(x->executor, j);
    check_run(j, false);
}

static void submit_and_poll(host *x, job *j) {
    uint32_t turn = 0;
    begin(x->executor, j);
    if (now.threads == 1)
        wait_somehow(x->executor, j); /* nothing goes on otherwise */
    while (!x->executor->table->is_done(x->executor, &j->run))
        kiln__back_off(&turn);
    check_run(j, false);
}

static void several_wait(host *x, job *j) {
    helper waiters[MAX_WAITERS];
    int n = 1 + below(MAX_WAITERS);
    begin(x->executor, j);
    for (int i = 0; i < n; i++)
        start_helper(&waiters[i], x, j, wait_beside);
    if (below(2))
        wait_somehow(x->executor, j);
    for (int i = 0; i < n; i++)
        pthread_join(waiters[i].thread, NULL);
    check_run(j, false);
}

static void cancelled_by_another(host *x, job *j) {
    helper canceller;
    begin(x->executor, j);
    start_helper(&canceller, x, j, cancel_beside);
    wait_somehow(x->executor, j);
    check_run(j, true);
    pthread_join(canceller.thread, NULL);
}

static void cancelled_at_once(host *x, job *j) {
    begin(x->executor, j);
    x->executor->table->cancel(x->executor, &j->run);
    wait_somehow(x->executor, j);
    check_run(j, true);
}

/* The next submission begins while others who waited for the last are leaving, or yet to look. */
static void again_at_once(host *x, job *j) {
    helper waiter;
    uint32_t turn = 0;
    begin(x->executor, j);
    start_helper(&waiter, x, j, wait_beside);
    while (!x->executor->table->is_done(x->executor, &j->run))
        kiln__back_off(&turn);
    check_run(j, false);
    if (below(2)) {
        submit_and_wait(x, j);
    } else {
        run_directly(x, j);
    }
    pthread_join(waiter.thread, NULL);
}

static void idle_calls(host *x, job *j) {
    x->executor->table->cancel(x->executor, &j->run);
    demand(wait_for(x->executor, j, below(2) ? -1 : 0) == KILN_OK, "wait for nothing");
    demand(x->executor->table->is_done(x->executor, &j->run), "done without having begun");
    submit_and_wait(x, j); /* that cancel was for nobody */
}

static void counts_change(host *x, job *j) {
    for (uint32_t i = 0; i < j->tape.n_records; i++)
        if (below(2)) {
            j->nodes[i].tiles = few_tiles();
            kiln__tape_touch(&j->tape, j->nodes[i].region, i);
        }
    submit_and_wait(x, j);
}

static void make_anew(host *x, job *j) {
    submit_and_wait(x, j);
    if (!now.own_sessions)
        return;
    x->executor->table->release(x->executor, &j->run);
    demand(x->executor->table->prepare(x->executor, &j->run, NULL, NULL) == KILN_OK, "prepare");
    run_directly(x, j);
}

static void all_at_once(host *x) {
    for (int i = 0; i < x->n_jobs; i++)
        begin(x->executor, x->jobs[i]);
    for (int i = x->n_jobs; i-- > 0;) {
        wait_somehow(x->executor, x->jobs[i]);
        check_run(x->jobs[i], false);
    }
}

static const struct {
    const char *name;
    void (*play)(host *x, job *j);
} acts[] = {
    {"run", run_directly},
    {"run", run_directly},
    {"run in a row", run_in_a_row},
    {"submit and wait", submit_and_wait},
    {"submit and wait", submit_and_wait},
    {"submit and poll", submit_and_poll},
    {"several wait", several_wait},
    {"cancelled by another", cancelled_by_another},
    {"cancelled by another", cancelled_by_another},
    {"cancelled at once", cancelled_at_once},
    {"again at once", again_at_once},
    {"idle calls", idle_calls},
    {"counts change", counts_change},
    {"release and prepare again", make_anew},
};

static void doing(host *x, const char *what) {
    __atomic_store_n(&x->doing, what, __ATOMIC_RELAXED);
}

static void make_sessions(host *x) {
    for (int i = 0; i < x->n_jobs; i++)
        demand(x->executor->table->prepare(x->executor, &x->jobs[i]->run, NULL, NULL) == KILN_OK, "prepare");
}

static void *host_main(void *context) {
    host *x = context;
    seed = x->seed;
    doing(x, "prepare");
    if (now.own_sessions)
        make_sessions(x);
    for (int round = 1 + below(MAX_ROUNDS); round > 0; round--) {
        int act = below((int)(sizeof acts / sizeof acts[0]) + 1);
        if (act == (int)(sizeof acts / sizeof acts[0])) {
            doing(x, "all at once");
            all_at_once(x);
        } else {
            doing(x, acts[act].name);
            acts[act].play(x, x->jobs[below(x->n_jobs)]);
        }
    }
    doing(x, "release");
    for (int i = 0; now.own_sessions && i < x->n_jobs; i++)
        x->executor->table->release(x->executor, &x->jobs[i]->run);
    doing(x, "gone");
    return NULL;
}

/* ---- scenarios -------------------------------------------------------------------------------------- */

static void choose(uint64_t of_seed) {
    now.seed = of_seed;
    now.streams = 0;
    seed = mix(of_seed) | 1;
    now.threads = (uint32_t)(below(4) ? 1 + below(5) : 1 + below(16));
    now.spin_us = (uint32_t[]){0, 1, 1, 50}[below(4)];
    now.every = (uint32_t[]){4, 16, 16, 64, 256}[below(5)];
    now.n_hosts = 1 + below(MAX_HOSTS);
    now.own_sessions = below(2) == 0;
    memset(now.hosts, 0, sizeof now.hosts);
}

static void play(uint64_t of_seed) {
    kiln_error error;
    choose(of_seed);
    kiln_executor *e = executor_new(now.threads, now.spin_us);
    for (int i = 0; i < now.n_hosts; i++) {
        host *x = &now.hosts[i];
        x->executor = e;
        x->seed = mix(of_seed ^ ((uint64_t)i + 1) << 40) | 1;
        x->n_jobs = 1 + below(MAX_JOBS);
        for (int k = 0; k < x->n_jobs; k++)
            x->jobs[k] = small_job();
        if (!now.own_sessions)
            make_sessions(x);
    }
    for (int i = 0; i < now.n_hosts; i++)
        demand(pthread_create(&now.hosts[i].thread, NULL, host_main, &now.hosts[i]) == 0,
               "no thread to be had");
    /* Nobody makes or releases a session meanwhile, as destroy demands. */
    for (int i = now.own_sessions ? 0 : below(4); i > 0; i--) {
        demand(kiln_executor_destroy(e, &error) == KILN_ERROR_BUSY, "destroyed while busy");
        hooked(HOOKED_YIELD, NULL, 0, "", "");
    }
    for (int i = 0; i < now.n_hosts; i++)
        pthread_join(now.hosts[i].thread, NULL);
    for (int i = 0; i < now.n_hosts; i++)
        for (int k = 0; k < now.hosts[i].n_jobs; k++) {
            job *j = now.hosts[i].jobs[k];
            if (!now.own_sessions)
                e->table->release(e, &j->run);
            job_free(j);
        }
    demand(kiln_executor_destroy(e, &error) == KILN_OK, "destroy");
}

/* A scenario that takes minutes hangs. */
static void *watch(void *context) {
    const uint32_t *stop = context;
    uint64_t last = 0, ticks = 0;
    while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
        struct timespec t = {0, 100000000};
        (nanosleep)(&t, NULL);
        uint64_t played = __atomic_load_n(&now.played, __ATOMIC_RELAXED);
        ticks = played == last ? ticks + 1 : 0;
        last = played;
        if (ticks > 10 * STUCK_SECONDS)
            broken("it hangs");
    }
    return NULL;
}

static uint64_t number(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void seeded_schedules(void **state) {
    (void)state;
    const uint64_t n = number("KILN_SCHEDULES", SLOW ? 150 : 800), only = number("KILN_SCHEDULE_SEED", 0);
    const bool terminal = isatty(STDERR_FILENO) != 0;
    uint32_t stop = 0;
    pthread_t watchdog;
    assert_int_equal((pthread_create)(&watchdog, NULL, watch, &stop), 0);
    for (uint64_t i = 1; i <= n; i++) {
        play(only != 0 ? only : i);
        count(&now.played);
        if (terminal && i % 50 == 0)
            fprintf(stderr, "\r%llu of %llu schedules ", (unsigned long long)i, (unsigned long long)n);
    }
    if (terminal)
        fprintf(stderr, "\r%40s\r", "");
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    (pthread_join)(watchdog, NULL);
    print_message("%llu seeds: %llu runs, %llu of them cancelled, %llu failed as told; %llu waits timed out; "
                  "%llu pauses, yields and naps\n",
                  (unsigned long long)n, (unsigned long long)now.runs, (unsigned long long)now.cancelled,
                  (unsigned long long)now.failed, (unsigned long long)now.timeouts,
                  (unsigned long long)now.oddities);
    assert_true(now.runs >= n / 2);
}

/* A report of the thread sanitizer ends the process and says which seed it belongs to. */
#if SLOW
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void) {
    return "halt_on_error=1";
}
__attribute__((visibility("default"))) void __tsan_on_report(void *report);
__attribute__((visibility("default"))) void __tsan_on_report(void *report) {
    (void)report;
    say_scenario();
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeded_schedules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
