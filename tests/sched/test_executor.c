/* The CPU executor: every tile once, regions in order, sessions side by side, and its own life. */
#include "fp_mode.h"
#include "cpu_features.h"
#include "executor_job.h"
#include "../support/fault_alloc.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const kiln_kernel bare_kernels[] = {{.name = "bare", .run = run_tiles}};
static const kiln_op bare = {.name = "bare", .kernels = bare_kernels, .n_kernels = 1};

static void options_and_names(void **state) {
    (void)state;
    kiln_executor *e = NULL;
    kiln_error error;
    kiln_cpu_options options = {.threads = 1025};
    assert_int_equal(kiln_cpu_executor_create(NULL, &options, &e, &error), KILN_ERROR_ARGUMENT);
    assert_null(e);
    assert_int_equal(kiln_cpu_executor_create(NULL, NULL, NULL, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_executor_destroy(NULL, NULL), KILN_OK);
    assert_int_equal(kiln_cpu_executor_create(NULL, NULL, &e, NULL), KILN_OK);
    assert_true(kiln_executor_threads(e) >= 1);
    assert_string_equal(kiln_executor_name(e), "cpu");
    executor_free(e);

    static const struct {
        uint32_t without;
        const char *level;
    } levels[] = {
        {KILN_CPU_AVX2 | KILN_CPU_AVX512, "base"}, {KILN_CPU_AVX2, "base"}, {KILN_CPU_AVX512, "avx2"}};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        options = (kiln_cpu_options){.threads = 3, .without = levels[i].without};
        assert_int_equal(kiln_cpu_executor_create(NULL, &options, &e, &error), KILN_OK);
        assert_int_equal(kiln_executor_threads(e), 3);
        if (kiln__cpu_features() & KILN_CPU_AVX2)
            assert_string_equal(kiln_executor_level(e), levels[i].level);
        else
            assert_string_equal(kiln_executor_level(e), "base");
        executor_free(e);
    }
    kiln_executor *all[4]; /* create and destroy at once, workers just starting */
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 4; i++)
            all[i] = executor_new(4, 1);
        for (int i = 0; i < 4; i++)
            executor_free(all[i]);
    }
}

static void every_tile_once(void **state) {
    (void)state;
    static const uint32_t threads[] = {1, 2, 3, 4, 8}, spins[] = {0, 1, 200};
    long runs = 0;
    seed = 42;
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++)
        for (size_t s = 0; s < sizeof spins / sizeof spins[0]; s++) {
            kiln_executor *e = executor_new(threads[t], spins[s]);
            for (int tape = 0; tape < (SLOW ? 8 : 40); tape++) {
                job *j = random_job();
                prepare(e, j);
                for (int again = 0; again < (SLOW ? 15 : 50); again++, runs++) {
                    job_reset(j);
                    assert_int_equal(run_once(e, j), KILN_OK);
                    assert_true(job_complete(j));
                }
                release_free(e, j);
            }
            executor_free(e);
        }
    print_message("%ld runs\n", runs);
}

/* Counts change between submissions; only records marked stale are asked again. */
static void counts_change(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        seed = 7;
        for (int tape = 0; tape < 20; tape++) {
            job *j = random_job();
            prepare(e, j);
            for (int again = 0; again < 30; again++) {
                for (uint32_t i = 0; i < j->tape.n_records; i++)
                    if (below(3) == 0) {
                        j->nodes[i].tiles = random_tiles();
                        kiln__tape_touch(&j->tape, j->nodes[i].region, i);
                    }
                job_reset(j);
                assert_int_equal(run_once(e, j), KILN_OK);
                assert_true(job_complete(j));
                assert_int_equal(j->tape.stale, 0);
            }
            release_free(e, j);
        }
        executor_free(e);
    }
}

/* A kernel is told when its scratch is as its last call for the same record in the same run left it: not in the first
 * call of a run, nor after another record. (job.h checks what it is told.) */
static void scratch_again(void **state) {
    (void)state;
    static const int64_t sizes[] = {40, -1, -2};
    for (uint32_t threads = 1; threads <= 3; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        job *j = job_new(sizes);
        j->nodes[0].scratch = 64;
        j->nodes[0].ops =
            40 * 50000 * kiln__cpu_tuning.ops_per_ns; /* so that a call has a few tiles at most */
        prepare(e, j);
        for (int again = 0; again < 20; again++) {
            atomic_store(&j->agains, 0);
            job_reset(j);
            assert_int_equal(run_once(e, j), KILN_OK);
            assert_true(job_complete(j));
            assert_true(atomic_load(&j->agains) >= atomic_load(&j->calls) - (int)threads);
            assert_true(atomic_load(&j->agains) < atomic_load(&j->calls));
        }
        release_free(e, j);
        executor_free(e);
    }
}

/* Regions that are over before others could hear of them are computed by one thread; the others are still shared. */
static void note_thread(node *n, int64_t tile) {
    (void)tile;
    n->thread = pthread_self();
}

static void small_regions(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 1, 1, -1, 1, 0, 1, -1, 5, 3, -1, 2, 1, -1, -2};
    kiln_executor *e = executor_new(4, 0);
    job *j = job_new(sizes);
    for (uint32_t i = 0; i < j->tape.n_records; i++) {
        j->nodes[i].ops = i + 1 < j->tape.n_records ? 1 : INT64_MAX;
        j->nodes[i].before =
            j->nodes[i].region + 1 < j->tape.n_regions ? note_thread : NULL; /* the last one is shared */
    }
    prepare(e, j);
    for (int again = 0; again < 200; again++) {
        job_reset(j);
        assert_int_equal(run_once(e, j), KILN_OK);
        assert_true(job_complete(j));
        for (uint32_t r = 0; r + 1 < j->tape.n_regions; r++)
            for (uint32_t i = j->tape.regions[r].first; i < j->tape.regions[r].last; i++)
                if (j->nodes[i].tiles > 0)
                    assert_true(pthread_equal(j->nodes[i].thread, j->nodes[0].thread));
        assert_int_equal(atomic_load(&j->calls),
                         3 + 2 + 2 + 3); /* a call for each small record, one per large tile */
    }
    release_free(e, j);
    executor_free(e);
}

static void nothing_to_do(void **state) {
    (void)state;
    static const int64_t none[] = {-2}, empty[] = {-1, -1, -1, -2}, zero[] = {0, 0, -1, 0, -1, -2};
    const int64_t *tapes[] = {none, empty, zero};
    for (uint32_t threads = 1; threads <= 3; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        for (size_t i = 0; i < 3; i++) {
            job *j = job_new(tapes[i]);
            for (uint32_t r = 0; r < j->tape.n_regions; r++)
                j->tape.regions[r].observed = r != 1;
            prepare(e, j);
            assert_true(e->table->is_done(e, &j->run));
            assert_int_equal(wait_for(e, j, 0), KILN_OK); /* never submitted */
            e->table->cancel(e, &j->run);
            for (int again = 0; again < 50; again++) {
                job_reset(j);
                assert_int_equal(run_once(e, j), KILN_OK);
                assert_true(job_complete(j));
                assert_int_equal(atomic_load(&j->calls), 0);
            }
            release_free(e, j);
        }
        executor_free(e);
    }
}

/* Runs go on without anybody waiting; a kernel without a tile count has one tile. */
static void progress_without_waiting(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, 1, -1, 20, 3, -1, 1, -1, -2};
    for (uint32_t threads = 2; threads <= 4; threads++) {
        kiln_executor *e = executor_new(threads, 1);
        job *j = job_new(sizes);
        j->tape.records[0].op = &bare;
        prepare(e, j);
        for (int again = 0; again < 50; again++) {
            job_reset(j);
            assert_int_equal(submit(e, j), KILN_OK);
            uint32_t turn = 0;
            while (!e->table->is_done(e, &j->run))
                kiln__back_off(&turn);
            assert_true(job_complete(j));
        }
        release_free(e, j);
        executor_free(e);
    }
}

/* ---- several threads -------------------------------------------------------------------------------- */

static void concurrent_sessions(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        kiln_executor *e = executor_new(threads, threads == 3 ? 1 : 0);
        client clients[4] = {{0}};
        for (int i = 0; i < 4; i++)
            clients[i] = (client){.executor = e, .seed = 1000 + (uint64_t)i, .rounds = SLOW ? 15 : 60};
        run_clients(clients, 4, session_main);
        executor_free(e);
    }
}

/* Any number of threads wait for the same run, with and without limits. */
static void *waiter_main(void *context) {
    client *c = context;
    kiln_executor *e = c->executor;
    seed = c->seed;
    while (wait_for(e, c->shared, below(2) ? -1 : below(100) * 1000) == KILN_ERROR_TIMEOUT) {
    }
    c->ok = atomic_load(&c->shared->done_calls) == 1 && c->shared->run.outcome.status == KILN_OK;
    return NULL;
}

static void many_waiters(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, 40, 7, -1, 1, -1, 30, -1, 1, -1, -2};
    for (uint32_t threads = 1; threads <= 3; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        job *j = job_new(sizes);
        for (uint32_t i = 0; i < j->tape.n_records; i++)
            j->nodes[i].spins = 2000;
        prepare(e, j);
        for (int again = 0; again < 40; again++) {
            job_reset(j);
            assert_int_equal(submit(e, j), KILN_OK);
            client clients[6] = {{0}};
            for (int i = 0; i < 6; i++)
                clients[i] = (client){.executor = e, .shared = j, .seed = 5 + (uint64_t)(again * 6 + i)};
            run_clients(clients, 6, waiter_main);
            assert_true(job_complete(j));
        }
        release_free(e, j);
        executor_free(e);
    }
}

/* One worker, two runs, nobody waits: a long run of single-tile regions lets the other have its turn. */
static void hold_until_flag(node *n, int64_t tile) {
    (void)tile;
    while (n->record == 0 && !atomic_load(&n->job->flag))
        sched_yield();
    if (n->record == 500 && atomic_load(&n->job->other->done_calls) == 0)
        violation(n->job, "the other run never had its turn");
}

static void turns(void **state) {
    (void)state;
    static int64_t sizes[2002];
    static const int64_t one[] = {1, -1, -2};
    for (int i = 0; i < 1000; i++) {
        sizes[2 * i] = 1;
        sizes[2 * i + 1] = -1;
    }
    sizes[2000] = -2;
    kiln_executor *e = executor_new(2, 0);
    job *lengthy = job_new(sizes), *quick = job_new(one);
    lengthy->other = quick;
    for (uint32_t i = 0; i < 1000; i++)
        lengthy->nodes[i].before = hold_until_flag;
    prepare(e, lengthy);
    prepare(e, quick);
    assert_int_equal(submit(e, lengthy), KILN_OK);
    while (atomic_load(&lengthy->calls) == 0)
        sched_yield();
    assert_int_equal(submit(e, quick), KILN_OK);
    atomic_store(&lengthy->flag, 1);
    uint32_t turn = 0;
    while (!e->table->is_done(e, &lengthy->run) || !e->table->is_done(e, &quick->run))
        kiln__back_off(&turn);
    assert_true(job_complete(lengthy));
    assert_true(job_complete(quick));
    release_free(e, lengthy);
    release_free(e, quick);
    executor_free(e);
}

static void destroy_busy(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, -2};
    kiln_executor *e = executor_new(3, 0);
    kiln_error error;
    job *a = job_new(sizes), *b = job_new(sizes);
    prepare(e, a);
    prepare(e, b);
    assert_int_equal(kiln_executor_destroy(e, &error), KILN_ERROR_BUSY);
    assert_int_equal(run_once(e, a), KILN_OK);
    release_free(e, a);
    assert_int_equal(kiln_executor_destroy(e, &error), KILN_ERROR_BUSY);
    release_free(e, b);
    executor_free(e);
}

static kiln_status use_once(kiln_allocator allocator, void *context) {
    static const int64_t sizes[] = {1, 4, -1, 30, 2, -1, -2};
    kiln_cpu_options options = {.threads = *(uint32_t *)context};
    kiln_executor *e;
    kiln_status status = kiln_cpu_executor_create(&allocator, &options, &e, NULL);
    if (status != KILN_OK)
        return status;
    job *j = job_new(sizes);
    j->nodes[1].scratch = 1000;
    status = e->table->prepare(e, &j->run, NULL, NULL);
    for (int again = 0; again < 3 && status == KILN_OK; again++) {
        job_reset(j);
        status = run_once(e, j);
        assert_true(job_complete(j));
    }
    e->table->release(e, &j->run);
    job_free(j);
    executor_free(e);
    return status;
}

static void allocation_failures(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++)
        assert_true(fault_alloc_every("executor", use_once, &threads) >= 2);
}

/* The caller's rounding and flushing modes neither reach kernels nor get lost. */
static void watch_fp_mode(node *n, int64_t tile) {
    (void)tile;
    if (kiln__fp_mode() != KILN__FP_OURS)
        violation(n->job, "floating-point mode");
}

static void floating_point_mode(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, 40, -1, -2};
    kiln__fp before = kiln__enter_fp_mode(), ours = kiln__fp_mode();
#if defined(__x86_64__)
    kiln__fp odd = ours | 0x8040; /* flush to zero, denormals are zero */
#else
    kiln__fp odd = ours;
#endif
    kiln__set_fp_mode(odd);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        kiln_executor *e = executor_new(threads, 0); /* workers inherit the mode */
        job *j = job_new(sizes);
        for (uint32_t i = 0; i < j->tape.n_records; i++)
            j->nodes[i].before = watch_fp_mode;
        prepare(e, j);
        for (int again = 0; again < 20; again++) {
            job_reset(j);
            assert_int_equal(run_once(e, j), KILN_OK);
        }
        assert_true(kiln__fp_mode() == odd);
        release_free(e, j);
        executor_free(e);
    }
    kiln__set_fp_mode(before);
}

/* In a forked child the pool is gone: calls answer, nothing hangs. */
static int child_main(kiln_executor *e, job *running, job *idle) {
    if (submit(e, idle) != KILN_ERROR_SYSTEM)
        return 1;
    if (wait_for(e, running, -1) != KILN_ERROR_SYSTEM)
        return 2;
    if (wait_for(e, idle, -1) != KILN_OK)
        return 3;
    kiln__run again = {.tape = &idle->tape};
    if (e->table->prepare(e, &again, NULL, NULL) != KILN_ERROR_SYSTEM)
        return 4;
    e->table->release(e, &running->run);
    e->table->release(e, &idle->run);
    return kiln_executor_destroy(e, NULL) == KILN_OK ? 0 : 5;
}

static void hold(node *n, int64_t tile) {
    (void)tile;
    while (!atomic_load(&n->job->flag))
        sched_yield();
}

static void after_fork(void **state) {
    (void)state;
#if SLOW
    print_message("skipped: fork with threads is not supported under the sanitizers\n");
    skip();
#endif
    static const int64_t sizes[] = {4, -1, -2};
    kiln_executor *e = executor_new(3, 0), *alone = executor_new(1, 0);
    job *running = job_new(sizes), *idle = job_new(sizes), *serial = job_new(sizes);
    running->nodes[0].before = hold;
    prepare(e, running);
    prepare(e, idle);
    prepare(alone, serial);
    assert_int_equal(submit(e, running), KILN_OK);
    while (atomic_load(&running->calls) == 0)
        sched_yield();
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(20);
        int result = child_main(e, running, idle);
        if (result == 0 && (submit(alone, serial) != KILN_OK || wait_for(alone, serial, -1) != KILN_OK ||
                            !job_complete(serial)))
            result = 6; /* without a pool, nothing is lost */
        _exit(result);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    atomic_store(&running->flag, 1);
    assert_int_equal(wait_for(e, running, -1), KILN_OK);
    release_free(e, running);
    release_free(e, idle);
    release_free(alone, serial);
    executor_free(e);
    executor_free(alone);
}

/* Threads that the system refuses: an error, nothing left behind, and a smaller executor still works. */
static void threads_refused(void **state) {
    (void)state;
#if SLOW
    print_message("skipped: the sanitizers need the address space that is taken away here\n");
    skip();
#endif
    const char *emulator = getenv("RUNNER"); /* see tools/run_tests.sh */
    if (emulator != NULL && emulator[0] != '\0') {
        print_message("skipped: the emulator needs the address space that is taken away here\n");
        skip();
    }
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static const int64_t sizes[] = {4, -1, -2};
        const struct rlimit limit = {100 << 20, 100 << 20}; /* room for some 8 MiB stacks, not for 200 */
        kiln_cpu_options options = {.threads = 200};
        kiln_executor *e = NULL;
        kiln_error error;
        alarm(20);
        setrlimit(RLIMIT_AS, &limit);
        kiln_status status = kiln_cpu_executor_create(NULL, &options, &e, &error);
        if (status == KILN_OK) /* a system that does not count stacks */
            _exit(kiln_executor_destroy(e, NULL) == KILN_OK ? 0 : 1);
        if (status != KILN_ERROR_SYSTEM || e != NULL || strstr(error.text, "of 199") == NULL)
            _exit(2);
        e = executor_new(2, 0);
        job *j = job_new(sizes);
        prepare(e, j);
        _exit(run_once(e, j) == KILN_OK && job_complete(j) ? 0 : 3);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    alarm(HANG_SECONDS); /* a hang ends the process */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_names),
        cmocka_unit_test(every_tile_once),
        cmocka_unit_test(counts_change),
        cmocka_unit_test(small_regions),
        cmocka_unit_test(scratch_again),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(progress_without_waiting),
        cmocka_unit_test(concurrent_sessions),
        cmocka_unit_test(many_waiters),
        cmocka_unit_test(turns),
        cmocka_unit_test(destroy_busy),
        cmocka_unit_test(allocation_failures),
        cmocka_unit_test(floating_point_mode),
        cmocka_unit_test(after_fork),
        cmocka_unit_test(threads_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
