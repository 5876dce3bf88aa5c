/* Pools that executors share, threads of the host's as guests or through parallel_for, and how threads are set up. */
#include "executor_job.h"

#include "cpu_pool.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/resource.h>
#endif

static kiln_cpu_pool *pool_new(uint32_t threads, uint32_t guests) {
    kiln_cpu_pool *pool;
    kiln_error error;
    kiln_cpu_pool_options options = {.threads = threads, .guests = guests, .oversubscribe = true};
    if (kiln_cpu_pool_create(NULL, &options, &pool, &error) != KILN_OK)
        fail_msg("pool: %s", error.text);
    return pool;
}

static kiln_executor *executor_on(kiln_cpu_pool *pool, uint32_t threads) {
    kiln_executor *e;
    kiln_error error;
    kiln_cpu_options options = {.threads = threads, .pool = pool};
    if (kiln_cpu_executor_create(NULL, &options, &e, &error) != KILN_OK)
        fail_msg("executor: %s", error.text);
    return e;
}

static void pool_free(kiln_cpu_pool *pool) {
    kiln_error error;
    if (kiln_cpu_pool_destroy(pool, &error) != KILN_OK)
        fail_msg("pool: %s", error.text);
}

/* ---- options ---------------------------------------------------------------------------------------- */

static void refused_options(void **state) {
    (void)state;
    static const uint32_t processors[] = {0, 100000};
    static const struct {
        kiln_cpu_pool_options options;
        kiln_status status;
        const char *text;
    } cases[] = {
        {{.threads = 1025}, KILN_ERROR_ARGUMENT, "1025 threads asked for, at most 1024"},
        {{.threads = 4, .guests = 4}, KILN_ERROR_ARGUMENT, "it takes at least 5 threads"},
        {{.guests = 5000}, KILN_ERROR_ARGUMENT, "5000 guests asked for, at most 1023"},
        {{.threads = 2, .n_affinity = 1}, KILN_ERROR_ARGUMENT, "affinity is NULL"},
        {{.threads = 2, .priority = (kiln_priority)9}, KILN_ERROR_ARGUMENT, "unknown priority 9"},
#if defined(__linux__)
        {{.threads = 3, .affinity = processors, .n_affinity = 2},
         KILN_ERROR_SYSTEM,
         "worker 2 was refused processor 100000"},
#else
        {{.threads = 3, .affinity = processors, .n_affinity = 2}, KILN_ERROR_UNSUPPORTED, "affinity"},
#endif
    };
    kiln_cpu_pool *pool = (void *)1;
    kiln_error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(kiln_cpu_pool_create(NULL, &cases[i].options, &pool, &error), cases[i].status);
        assert_null(pool);
        if (strstr(error.text, cases[i].text) == NULL)
            fail_msg("'%s' without '%s'", error.text, cases[i].text);
    }
    assert_int_equal(kiln_cpu_pool_create(NULL, NULL, NULL, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_cpu_pool_destroy(NULL, &error), KILN_OK);
    assert_int_equal(kiln_cpu_pool_help(NULL, 0), KILN_ERROR_ARGUMENT);
    kiln_cpu_pool_dismiss(NULL);
    assert_int_equal(kiln_cpu_pool_threads(NULL), 1);
    assert_int_equal(kiln_cpu_pool_create(NULL, NULL, &pool, &error), KILN_OK);
    assert_true(kiln_cpu_pool_threads(pool) >= 1);
    pool_free(pool);
}

static void no_parallel(void *context, uint32_t n, void (*body)(void *, uint32_t), void *arg) {
    (void)context;
    for (uint32_t i = 0; i < n; i++)
        body(arg, i);
}

static void refused_executors(void **state) {
    (void)state;
    kiln_cpu_pool *pool = pool_new(2, 0);
    const kiln_cpu_options bad[] = {{.pool = pool, .parallel_for = no_parallel},
                                    {.pool = pool, .spin_us = 3},
                                    {.parallel_for = no_parallel, .oversubscribe = true},
                                    {.pool = pool, .threads = 1025}};
    kiln_executor *e;
    kiln_error error;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(kiln_cpu_executor_create(NULL, &bad[i], &e, &error), KILN_ERROR_ARGUMENT);
        assert_null(e);
    }
    e = executor_on(pool, 7); /* no more than the pool has */
    assert_int_equal(kiln_executor_threads(e), 2);
    assert_int_equal(kiln_cpu_pool_destroy(pool, &error), KILN_ERROR_BUSY);
    assert_non_null(strstr(error.text, "1 executor(s)"));
    executor_free(e);
    pool_free(pool);
}

#if defined(__linux__)
typedef struct seen {
    int priority;
    char name[64];
    size_t processors;
} seen;

static seen look;

/* Looks at the worker from inside, once it is not the waiting thread. */
static void look_around(node *n, int64_t tile) {
    (void)tile;
    if (pthread_equal(pthread_self(), n->thread)) {
        while (!atomic_load(&n->job->flag))
            sched_yield();
        return;
    }
    FILE *f = fopen("/proc/thread-self/comm", "r");
    if (f == NULL || fgets(look.name, sizeof look.name, f) == NULL)
        look.name[0] = '\0';
    if (f != NULL)
        fclose(f);
    look.name[strcspn(look.name, "\n")] = '\0';
    f = fopen("/proc/thread-self/status", "r");
    char line[256];
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "Cpus_allowed_list:", 18) == 0)
            look.processors = (size_t)(strchr(line, ',') == NULL && strchr(line, '-') == NULL);
    if (f != NULL)
        fclose(f);
    look.priority = getpriority(PRIO_PROCESS, 0);
    atomic_store(&n->job->flag, 1);
}
#endif

static void settled(void **state) {
    (void)state;
#if !defined(__linux__)
    print_message("skipped: names, priorities and processors of threads are only looked up on Linux\n");
    skip();
#else
    static const int64_t sizes[] = {2, -1, -2};
    static const uint32_t processors[] = {0};
    kiln_cpu_pool *pool;
    kiln_error error;
    const kiln_cpu_pool_options options = {.threads = 2,
                                           .affinity = processors,
                                           .n_affinity = 1,
                                           .priority = KILN_PRIORITY_LOW,
                                           .stack_bytes = 1 << 20,
                                           .name = "a-rather-long-name"};
    kiln_status status = kiln_cpu_pool_create(NULL, &options, &pool, &error);
    if (status != KILN_OK && strstr(error.text, "processor 0") != NULL) {
        print_message("skipped: processor 0 is not ours\n");
        skip();
    }
    assert_int_equal(status, KILN_OK);
    kiln_executor *e = executor_on(pool, 0);
    job *j = job_new(sizes);
    j->nodes[0].before = look_around;
    j->nodes[0].thread = pthread_self();
    j->nodes[0].ops = 1 << 30;
    prepare(e, j);
    assert_int_equal(run_once(e, j), KILN_OK);
    if (look.name[0] == '\0') /* emulators do not always have it */
        print_message("skipped in part: no /proc/thread-self here\n");
    else {
        assert_string_equal(look.name, "a-rather-long-1");
        assert_int_equal(look.processors, 1);
    }
    const int mine = getpriority(PRIO_PROCESS, 0);
    assert_int_equal(look.priority, mine > 10 ? mine : 10);
    release_free(e, j);
    executor_free(e);
    pool_free(pool);
#endif
}

/* ---- one pool, several executors -------------------------------------------------------------------- */

static void run_sessions(kiln_executor *const *executors, int n, int rounds) {
    client clients[8] = {{0}};
    for (int i = 0; i < n; i++)
        clients[i] = (client){.executor = executors[i], .seed = 77 + (uint64_t)i, .rounds = rounds};
    run_clients(clients, n, session_main);
}

static void shared_by_executors(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 5; threads++) {
        kiln_cpu_pool *pool = pool_new(threads, 0);
        kiln_executor *e[4] = {executor_on(pool, 0), executor_on(pool, 2), executor_on(pool, 1),
                               executor_on(pool, 3)};
        run_sessions(e, 4, SLOW ? 10 : 40);
        for (int i = 0; i < 4; i++)
            executor_free(e[i]);
        pool_free(pool);
    }
}

/* An executor for 2 threads on a pool of 6: never more than one of the pool's at a time. */
static atomic_int at_once, most_at_once, awaited;

static void count_in(node *n, int64_t tile) {
    (void)tile;
    if (pthread_equal(pthread_self(), n->thread)) {
        while (atomic_load(&most_at_once) < atomic_load(&awaited))
            sched_yield();
        return;
    }
    int now = atomic_fetch_add(&at_once, 1) + 1, most = atomic_load(&most_at_once);
    while (now > most && !atomic_compare_exchange_weak(&most_at_once, &most, now)) {
    }
    nanosleep(&(struct timespec){0, 100000}, NULL); /* whoever may come has time to */
    while (atomic_load(&most_at_once) < atomic_load(&awaited))
        sched_yield();
    atomic_fetch_sub(&at_once, 1);
}

static void limited(void **state) {
    (void)state;
    static const int64_t sizes[] = {40, -1, 40, -1, -2};
    kiln_cpu_pool *pool = pool_new(6, 0);
    kiln_executor *two = executor_on(pool, 2), *all = executor_on(pool, 0);
    job *j = job_new(sizes);
    for (uint32_t i = 0; i < j->tape.n_records; i++) {
        j->nodes[i].before = count_in;
        j->nodes[i].thread = pthread_self();
        j->nodes[i].ops = 1 << 30; /* worth waking all */
    }
    for (int which = 0; which < 2; which++) {
        kiln_executor *e = which == 0 ? two : all;
        atomic_store(&most_at_once, 0);
        atomic_store(&awaited, which == 0 ? 0 : 2);
        prepare(e, j);
        for (int again = 0; again < 20; again++) {
            job_reset(j);
            assert_int_equal(run_once(e, j), KILN_OK);
            assert_true(job_complete(j));
        }
        e->table->release(e, &j->run);
        if (which == 0)
            assert_true(atomic_load(&most_at_once) <= 1);
        else
            assert_true(atomic_load(&most_at_once) >= 2);
    }
    job_free(j);
    executor_free(two);
    executor_free(all);
    pool_free(pool);
}

/* ---- guests ----------------------------------------------------------------------------------------- */

typedef struct guest {
    kiln_cpu_pool *pool;
    int64_t timeout_ns;
    kiln_status status;
    bool insists; /* comes again while there is no seat */
    atomic_int gone;
    pthread_t thread;
} guest;

static void *guest_main(void *context) {
    guest *g = context;
    do
        g->status = kiln_cpu_pool_help(g->pool, g->timeout_ns);
    while (g->insists && g->status == KILN_ERROR_BUSY);
    atomic_store(&g->gone, 1);
    return NULL;
}

static void guest_start(guest *g, kiln_cpu_pool *pool, int64_t timeout_ns, bool insists) {
    *g = (guest){.pool = pool, .timeout_ns = timeout_ns, .insists = insists};
    assert_int_equal(pthread_create(&g->thread, NULL, guest_main, g), 0);
}

/* Holds the waiting thread back until somebody else has computed. */
static void for_others(node *n, int64_t tile) {
    (void)tile;
    if (pthread_equal(pthread_self(), n->thread))
        while (!atomic_load(&n->job->flag))
            sched_yield();
    else
        atomic_store(&n->job->flag, 1);
}

static void guests_help(void **state) {
    (void)state;
    static const int64_t sizes[] = {2, -1, -2};
    kiln_cpu_pool *pool = pool_new(2, 1); /* no workers at all */
    kiln_executor *e = executor_on(pool, 0);
    job *j = job_new(sizes);
    guest g, other;
    j->nodes[0].before = for_others;
    j->nodes[0].thread = pthread_self();
    j->nodes[0].ops = 1 << 30;
    prepare(e, j);
    guest_start(&g, pool, -1, true);
    for (int again = 0; again < 50; again++) {
        job_reset(j);
        atomic_store(&j->flag, 0);
        assert_int_equal(run_once(e, j), KILN_OK); /* ends only if the guest takes part */
        assert_true(job_complete(j));
    }
    guest_start(&other, pool, -1, false); /* no seat */
    assert_int_equal(pthread_join(other.thread, NULL), 0);
    assert_int_equal(other.status, KILN_ERROR_BUSY);
    assert_int_equal(atomic_load(&g.gone), 0);
    kiln_cpu_pool_dismiss(pool);
    assert_int_equal(pthread_join(g.thread, NULL), 0);
    assert_int_equal(g.status, KILN_OK);
    /* By a guest alone: a submission that nobody waits for; helping for no time takes it to its end. */
    job_reset(j);
    j->nodes[0].before = NULL;
    assert_int_equal(submit(e, j), KILN_OK);
    assert_false(e->table->is_done(e, &j->run));
    assert_int_equal(kiln_cpu_pool_help(pool, 0), KILN_OK);
    assert_true(e->table->is_done(e, &j->run));
    assert_true(job_complete(j));
    assert_int_equal(kiln_cpu_pool_help(pool, 2000000), KILN_OK); /* 2 ms with nothing to do */
    release_free(e, j);
    executor_free(e);
    pool_free(pool);
}

static void destroy_with_guests(void **state) {
    (void)state;
    kiln_cpu_pool *pool = pool_new(3, 1);
    kiln_error error;
    guest g;
    guest_start(&g, pool, -1, true);
    kiln_status status;
    while ((status = kiln_cpu_pool_help(pool, 0)) == KILN_OK) /* until it has sat down */
        sched_yield();
    assert_int_equal(status, KILN_ERROR_BUSY);
    assert_int_equal(kiln_cpu_pool_destroy(pool, &error), KILN_ERROR_BUSY);
    assert_non_null(strstr(error.text, "1 guest(s)"));
    kiln_cpu_pool_dismiss(pool);
    assert_int_equal(pthread_join(g.thread, NULL), 0);
    pool_free(pool);
}

/* A guest leaves a run for another one, and then for good, while the thread that waits for the first sleeps: that one has
 * to be told. */
static void until_caller_sleeps(node *n, int64_t tile) {
    (void)tile;
    const kiln__cpu_run *run = n->job->run.state;
    while (!atomic_load(&run->caller_parked))
        sched_yield();
}

static void dismiss_guests(node *n, int64_t tile) {
    (void)tile;
    const kiln__cpu_run *run = n->job->run.state;
    kiln_cpu_pool_dismiss(run->pool);
}

static void *wait_long(void *context) {
    job *j = context;
    return wait_for(j->executor, j, INT64_C(20000000000)) == KILN_OK ? j : NULL;
}

static void left_to_the_caller(void **state) {
    (void)state;
    enum { REGIONS = 3 * KILN__CPU_QUANTUM };
    static const int64_t other_sizes[] = {40, -1, -2};
    int64_t sizes[2 * REGIONS + 1];
    for (int i = 0; i < REGIONS; i++) {
        sizes[2 * i] = 1;
        sizes[2 * i + 1] = -1;
    }
    sizes[2 * REGIONS] = -2;
    kiln_cpu_pool *pool = pool_new(2, 1); /* no workers at all */
    kiln_executor *e = executor_on(pool, 0);
    job *first = job_new(sizes), *other = job_new(other_sizes);
    pthread_t waiter;
    guest g;
    void *ended;
    first->executor = e;
    first->nodes[0].before = until_caller_sleeps;
    other->nodes[0].before = dismiss_guests;
    prepare(e, first);
    prepare(e, other);
    assert_int_equal(submit(e, first), KILN_OK);
    assert_int_equal(submit(e, other), KILN_OK);
    guest_start(&g, pool, -1, true);
    while (atomic_load(&first->calls) == 0) /* the guest computes, and the waiting thread comes too late */
        sched_yield();
    assert_int_equal(pthread_create(&waiter, NULL, wait_long, first), 0);
    assert_int_equal(pthread_join(g.thread, NULL), 0);
    assert_int_equal(pthread_join(waiter, &ended), 0);
    assert_ptr_equal(ended, first);
    assert_true(job_complete(first));
    assert_int_equal(wait_for(e, other, -1), KILN_OK);
    assert_true(job_complete(other));
    release_free(e, first);
    release_free(e, other);
    executor_free(e);
    pool_free(pool);
}

/* A host may ask for work again and again while somebody computes a long tile: the claim word, which has an end, is left
 * alone. */
static void hold(node *n, int64_t tile) {
    (void)tile;
    while (!atomic_load(&n->job->flag))
        sched_yield();
}

static void asked_often(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, -2};
    kiln_cpu_pool *pool = pool_new(3, 2);
    kiln_executor *e = executor_on(pool, 0);
    job *j = job_new(sizes);
    guest g;
    j->nodes[0].before = hold;
    prepare(e, j);
    guest_start(&g, pool, -1, true);
    assert_int_equal(submit(e, j), KILN_OK);
    while (atomic_load(&j->calls) == 0)
        sched_yield();
    kiln__cpu_run *run = j->run.state;
    const uint64_t before = atomic_load(&run->claim);
    for (int again = 0; again < 100; again++) {
        assert_int_equal(kiln_cpu_pool_help(pool, 0), KILN_OK);
        assert_int_equal(wait_for(e, j, 1000), KILN_ERROR_TIMEOUT);
    }
    assert_int_equal(atomic_load(&run->claim), before);
    atomic_store(&j->flag, 1);
    assert_int_equal(wait_for(e, j, -1), KILN_OK);
    assert_true(job_complete(j));
    kiln_cpu_pool_dismiss(pool);
    assert_int_equal(pthread_join(g.thread, NULL), 0);
    release_free(e, j);
    executor_free(e);
    pool_free(pool);
}

/* Guests that come and go at all moments: nothing is lost, and nobody waits in vain. */
static atomic_int guests_end;

static void *coming_and_going(void *context) {
    client *c = context;
    seed = c->seed;
    c->ok = true;
    while (!atomic_load(&guests_end) && c->ok) {
        kiln_status status =
            kiln_cpu_pool_help((kiln_cpu_pool *)(void *)c->shared, below(2) ? 0 : below(200000));
        c->ok = status == KILN_OK || status == KILN_ERROR_BUSY;
    }
    return NULL;
}

static void guests_come_and_go(void **state) {
    (void)state;
    for (uint32_t workers = 0; workers <= 2; workers++) {
        kiln_cpu_pool *pool = pool_new(1 + workers + 3, 3);
        kiln_executor *e[4] = {executor_on(pool, 0), executor_on(pool, 2), executor_on(pool, 0), NULL};
        client visitors[4] = {{0}};
        atomic_store(&guests_end, 0);
        for (int i = 0; i < 4; i++) {
            visitors[i] = (client){.shared = (job *)(void *)pool, .seed = 31 + (uint64_t)i};
            assert_int_equal(pthread_create(&visitors[i].thread, NULL, coming_and_going, &visitors[i]), 0);
        }
        run_sessions(e, 3, SLOW ? 10 : 40);
        atomic_store(&guests_end, 1);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(visitors[i].thread, NULL), 0);
            assert_true(visitors[i].ok);
        }
        for (int i = 0; i < 3; i++)
            executor_free(e[i]);
        pool_free(pool);
    }
}

/* ---- parallel_for ----------------------------------------------------------------------------------- */

typedef struct host {
    int way; /* 0: in order; 1: backwards; 2: each on a thread; 3: only some; 4: every call twice */
    atomic_int calls;
    int longest;
} host;

typedef struct host_call {
    void (*body)(void *, uint32_t);
    void *arg;
    uint32_t i;
    pthread_t thread;
} host_call;

static void *host_main(void *context) {
    const host_call *c = context;
    c->body(c->arg, c->i);
    return NULL;
}

static void host_parallel(void *context, uint32_t n, void (*body)(void *, uint32_t), void *arg) {
    host *h = context;
    host_call calls[8];
    atomic_fetch_add(&h->calls, 1);
    h->longest = (int)n > h->longest ? (int)n : h->longest;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = h->way == 1 ? n - 1 - k : k;
        calls[k] = (host_call){.body = body, .arg = arg, .i = i};
        if (h->way == 2) {
            if (pthread_create(&calls[k].thread, NULL, host_main, &calls[k]) != 0)
                abort();
        } else if (h->way != 3 || k % 2 == 1) {
            body(arg, i);
        }
        if (h->way == 4)
            body(arg, i);
    }
    for (uint32_t k = 0; k < n && h->way == 2; k++)
        pthread_join(calls[k].thread, NULL);
}

static void parallel_for(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, 40, 7, -1, 1, -1, 30, -1, 1, -1, -2};
    for (uint32_t threads = 1; threads <= 8; threads *= 2)
        for (int way = 0; way < 5; way++) {
            host h = {.way = way};
            kiln_cpu_options options = {
                .threads = threads, .parallel_for = host_parallel, .parallel_for_context = &h};
            kiln_executor *e;
            assert_int_equal(kiln_cpu_executor_create(NULL, &options, &e, NULL), KILN_OK);
            assert_int_equal(kiln_executor_threads(e), threads);
            job *j = job_new(sizes);
            for (uint32_t i = 0; i < j->tape.n_records; i++)
                j->nodes[i].scratch = 100;
            prepare(e, j);
            assert_int_equal(e->table->run(e, &j->run), KILN_OK);
            assert_true(job_complete(j));
            assert_int_equal(atomic_load(&h.calls), threads == 1 ? 0 : 2); /* what is worth sharing */
            assert_int_equal(h.longest, threads == 1 ? 0 : threads);
            release_free(e, j);
            run_sessions((kiln_executor *[]){e}, 1, SLOW ? 5 : 20);
            executor_free(e);
        }
}

/* ---- fork ------------------------------------------------------------------------------------------- */

static int child(kiln_cpu_pool *pool, kiln_executor *e) {
    kiln_executor *other = (void *)1;
    kiln_error error;
    const kiln_cpu_options on = {.pool = pool};
    if (kiln_cpu_executor_create(NULL, &on, &other, &error) != KILN_ERROR_SYSTEM || other != NULL ||
        strstr(error.text, "fork") == NULL)
        return 1;
    if (kiln_cpu_pool_help(pool, -1) != KILN_ERROR_SYSTEM)
        return 2;
    kiln_cpu_pool_dismiss(pool);
    if (kiln_executor_destroy(e, NULL) != KILN_OK || kiln_cpu_pool_destroy(pool, NULL) != KILN_OK)
        return 3;
    return 0;
}

static void after_fork(void **state) {
    (void)state;
#if SLOW
    print_message("skipped: fork with threads is not supported under the sanitizers\n");
    skip();
#endif
    for (uint32_t guests = 0; guests <= 2; guests += 2) {
        kiln_cpu_pool *pool = pool_new(3, guests);
        kiln_executor *e = executor_on(pool, 0);
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            alarm(20);
            _exit(child(pool, e));
        }
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        executor_free(e);
        pool_free(pool);
    }
}

int main(void) {
    alarm(HANG_SECONDS); /* a hang ends the process */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_options),
        cmocka_unit_test(refused_executors),
        cmocka_unit_test(settled),
        cmocka_unit_test(shared_by_executors),
        cmocka_unit_test(limited),
        cmocka_unit_test(guests_help),
        cmocka_unit_test(destroy_with_guests),
        cmocka_unit_test(left_to_the_caller),
        cmocka_unit_test(asked_often),
        cmocka_unit_test(guests_come_and_go),
        cmocka_unit_test(parallel_for),
        cmocka_unit_test(after_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
