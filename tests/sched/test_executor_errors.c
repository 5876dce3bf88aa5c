/* The CPU executor when runs do not simply end well: timeouts, cancels, failing kernels and hooks, bad
 * indices. */
#include "executor_job.h"

#include <unistd.h>

static bool only_wide(const kiln_args *args) {
    return ((const node *)args->attrs)->tiles > 1;
}

static const kiln_kernel picky_kernels[] = {
    {.name = "wide", .supports = only_wide, .tiles = count_tiles, .run = run_tiles},
    {.name = "avx2", .cpu = KILN_CPU_AVX2, .supports = only_wide, .tiles = count_tiles, .run = run_tiles}};
static const kiln_op picky = {.name = "picky", .kernels = picky_kernels, .n_kernels = 2};
/* ---- timeouts and cancelling ------------------------------------------------------------------------ */

static void timeouts(void **state) {
    (void)state;
    seed = 11;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        for (int tape = 0; tape < 20; tape++) {
            job *j = random_job();
            prepare(e, j);
            for (int again = 0; again < 10; again++) {
                job_reset(j);
                assert_int_equal(submit(e, j), KILN_OK);
                kiln_status status;
                while ((status = wait_for(e, j, again % 2 ? 0 : below(20000))) != KILN_OK)
                    assert_int_equal(status, KILN_ERROR_TIMEOUT);
                assert_true(job_complete(j));
            }
            release_free(e, j);
        }
        executor_free(e);
    }
}

/* One thread, no time at all: every wait makes some progress, and the run ends. */
static void zero_timeout_progress(void **state) {
    (void)state;
    static const int64_t sizes[] = {40, -1, 0, -1, 1, 9, -1, -2};
    kiln_executor *e = executor_new(1, 0);
    job *j = job_new(sizes);
    prepare(e, j);
    int waits = 1;
    assert_int_equal(submit(e, j), KILN_OK);
    assert_false(e->table->is_done(e, &j->run));
    assert_int_equal(submit(e, j), KILN_ERROR_BUSY);
    while (wait_for(e, j, 0) == KILN_ERROR_TIMEOUT)
        waits++;
    assert_true(job_complete(j));
    assert_true(waits > 1 && waits <= 50);
    release_free(e, j);
    executor_free(e);
}

static void *canceller_main(void *context) {
    client *c = context;
    seed = c->seed;
    c->ok = true;
    while (!atomic_load(&c->shared->flag)) {
        for (volatile int s = below(20000); s > 0; s--) {
        }
        c->executor->table->cancel(c->executor, &c->shared->run);
    }
    return NULL;
}

/* From inside, so that it hits at every point of a run, and on workers as well as on the waiting thread. */
static void cancel_inside(node *n, int64_t tile) {
    if (tile == n->tiles / 2)
        n->job->executor->table->cancel(n->job->executor, &n->job->run);
}

static void cancel_anywhere(void **state) {
    (void)state;
    seed = 3;
    long cancelled = 0, finished = 0;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        for (int tape = 0; tape < 15; tape++) {
            job *j = random_job();
            prepare(e, j);
            client c = {.executor = e, .shared = j, .seed = 77 + (uint64_t)tape};
            assert_int_equal(pthread_create(&c.thread, NULL, canceller_main, &c), 0);
            j->executor = e;
            for (int again = 0; again < 40; again++) {
                job_reset(j);
                node *n =
                    j->tape.n_records > 0 && again % 2 == 0 ? &j->nodes[below((int)j->tape.n_records)] : NULL;
                if (n != NULL)
                    n->before = cancel_inside;
                kiln_status status = run_once(e, j);
                if (n != NULL)
                    n->before = NULL;
                assert_int_equal(atomic_load(&j->done_calls), 1);
                assert_int_equal(atomic_load(&j->violations), 0);
                if (status == KILN_OK) {
                    assert_true(job_complete(j));
                    finished++;
                } else {
                    assert_int_equal(status, KILN_ERROR_CANCELLED);
                    cancelled++;
                }
            }
            atomic_store(&j->flag, 1);
            pthread_join(c.thread, NULL);
            job_reset(j); /* nothing sticks */
            assert_int_equal(run_once(e, j), KILN_OK);
            assert_true(job_complete(j));
            release_free(e, j);
        }
        executor_free(e);
    }
    assert_true(cancelled > 0 && finished > 0);
    print_message("%ld cancelled, %ld finished\n", cancelled, finished);
}

static void *cancel_on_flag(void *context) {
    client *c = context;
    while (!atomic_load(&c->shared->flag))
        sched_yield();
    c->executor->table->cancel(c->executor, &c->shared->run);
    atomic_store(&c->shared->flag, 2);
    c->ok = true;
    return NULL;
}

static void hold_until_cancelled(node *n, int64_t tile) {
    int first = 0;
    if (n->record == 0 && tile == 0)
        atomic_compare_exchange_strong(&n->job->flag, &first, 1);
    while (atomic_load(&n->job->flag) != 2)
        sched_yield();
}

/* After a cancel, no thread begins another claim: 40 records of 40 tiles, cancelled in the first tile. */
static void cancel_is_prompt(void **state) {
    (void)state;
    int64_t sizes[64];
    for (int i = 0; i < 40; i++)
        sizes[i] = MAX_TILES;
    sizes[40] = -1;
    sizes[41] = 1;
    sizes[42] = -1;
    sizes[43] = -2;
    for (uint32_t threads = 1; threads <= 8; threads *= 2) {
        kiln_executor *e = executor_new(threads, 0);
        job *j = job_new(sizes);
        for (uint32_t i = 0; i < 40; i++)
            j->nodes[i].before = hold_until_cancelled;
        prepare(e, j);
        client c = {.executor = e, .shared = j};
        assert_int_equal(pthread_create(&c.thread, NULL, cancel_on_flag, &c), 0);
        assert_int_equal(run_once(e, j), KILN_ERROR_CANCELLED);
        pthread_join(c.thread, NULL);
        /* A claim may span two records. */
        assert_true(atomic_load(&j->calls) <= (int)(2 * threads));
        assert_int_equal(atomic_load(&j->nodes[40].hits[0]), 0);
        release_free(e, j);
        executor_free(e);
    }
}

/* ---- errors ----------------------------------------------------------------------------------------- */

static void same_failure_everywhere(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, 30, 40, 40, 1, -1, 40, -1, -2};
    for (uint32_t threads = 1; threads <= 8; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        job *j = job_new(sizes);
        j->nodes[1].bad_tile = 3;
        j->nodes[2].fail[0] = 37;
        j->nodes[2].fail[1] = 21;
        j->nodes[3].fail[0] = 0;
        j->nodes[4].fail[0] = 0;
        prepare(e, j);
        for (int again = 0; again < 50; again++) {
            job_reset(j);
            assert_int_equal(run_once(e, j), KILN_ERROR_KERNEL);
            assert_int_equal(j->run.outcome.record, 2);
            assert_string_equal(j->run.outcome.text, "record 2 tile 21");
            assert_int_equal(atomic_load(&j->finished[2]), 0);
            assert_int_equal(atomic_load(&j->done_calls), 1);
        }
        j->nodes[2].fail[0] = j->nodes[2].fail[1] = j->nodes[3].fail[0] = j->nodes[4].fail[0] = -1;
        j->nodes[1].bad_tile = -1;
        job_reset(j);
        assert_int_equal(run_once(e, j), KILN_OK);
        assert_true(job_complete(j));
        assert_string_equal(j->run.outcome.text, "");
        release_free(e, j);
        executor_free(e);
    }
}

static void first_bad_index(void **state) {
    (void)state;
    static const int64_t sizes[] = {40, 40, -1, 1, -1, 40, -1, -2};
    for (uint32_t threads = 1; threads <= 8; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        job *j = job_new(sizes);
        for (int i = 0; i < 4; i++) { /* record 0 is fine; in record 1 a late tile has the lower row */
            j->nodes[i].bad_tile = i == 0 ? -1 : i == 2 ? 0 : 33 - i;
            j->nodes[i].bad_row = 9 - i;
        }
        prepare(e, j);
        for (int again = 0; again < 50; again++) {
            job_reset(j);
            assert_int_equal(run_once(e, j), KILN_ERROR_INDEX);
            assert_int_equal(j->run.outcome.record, 1);
            assert_int_equal(j->run.outcome.row, 8);
            assert_int_equal(j->run.outcome.index, 132);
            assert_int_equal(j->run.outcome.limit, 7);
            assert_int_equal(atomic_load(&j->finished[2]), 40); /* it went on */
        }
        release_free(e, j);
        executor_free(e);
    }
}

static void failing_hook(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, 20, -1, 0, -1, 1, -1, 20, -1, -2};
    for (uint32_t threads = 1; threads <= 4; threads++) {
        kiln_executor *e = executor_new(threads, 0);
        job *j = job_new(sizes);
        for (uint32_t r = 0; r < j->tape.n_regions; r++)
            j->tape.regions[r].observed = 1;
        j->nodes[0].bad_tile = 0;
        prepare(e, j);
        for (int again = 0; again < 40; again++) {
            j->hook_fails = KILN_ERROR_NUMERIC;
            j->hook_region = (uint32_t)again % j->tape.n_regions;
            job_reset(j);
            assert_int_equal(run_once(e, j), KILN_ERROR_NUMERIC);
            char text[32];
            snprintf(text, sizeof text, "hook at %u", (unsigned)j->hook_region);
            assert_string_equal(j->run.outcome.text, text);
            assert_int_equal(j->run.outcome.record, j->tape.regions[j->hook_region].first);
            assert_int_equal(atomic_load(&j->hooks_called), j->hook_region + 1);
        }
        release_free(e, j);
        j = job_new(sizes); /* and none at all */
        j->run.hooks = NULL;
        j->tape.regions[1].observed = 1;
        prepare(e, j);
        assert_int_equal(run_once(e, j), KILN_OK);
        release_free(e, j);
        executor_free(e);
    }
}

static void refused_at_prepare(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, -1, 2, 1, -1, -2};
    kiln_executor *e = executor_new(2, 0);
    kiln_error error;
    uint32_t record = 99;
    job *j = job_new(sizes);
    kiln_operand operands[] = {{.dtype = KILN_F32}, {.dtype = KILN_DTYPE_NONE}, {.dtype = KILN_Q4_0}};
    j->tape.records[2].op = &picky;
    j->tape.records[2].args = (kiln_args){2, 1, operands, operands + 2, &j->nodes[2]};
    assert_int_equal(e->table->prepare(e, &j->run, &record, &error), KILN_ERROR_UNSUPPORTED);
    assert_int_equal(record, 2);
    assert_non_null(strstr(error.text, "'picky'"));
    assert_non_null(strstr(error.text, "(f32, -) -> (q4_0)"));
    assert_int_equal(e->table->prepare(e, &j->run, NULL, NULL), KILN_ERROR_UNSUPPORTED);
    j->tape.records[2].op = &op;
    static const struct {
        int64_t tiles, scratch;
        kiln_status status;
    } cases[] = {{-1, 0, KILN_ERROR_OVERFLOW},
                 {INT64_MAX, 0, KILN_ERROR_LIMIT},
                 {INT64_C(0x80000000) - 2, 0, KILN_ERROR_LIMIT},
                 {1, -1, KILN_ERROR_OVERFLOW},
                 {1, INT64_MAX, KILN_ERROR_OVERFLOW},
                 {1, INT64_MAX / 2 + 1, KILN_ERROR_OVERFLOW}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        j->nodes[2].tiles = cases[i].tiles;
        j->nodes[2].scratch = cases[i].scratch;
        assert_int_equal(e->table->prepare(e, &j->run, &record, &error), cases[i].status);
        assert_int_equal(record, 2);
        assert_int_equal(error.status, cases[i].status);
        assert_null(j->run.state);
    }
    j->nodes[2].tiles = 1;
    j->nodes[2].scratch = 0;
    prepare(e, j);
    j->nodes[2].tiles = INT64_MAX; /* the same later, when counts change */
    kiln__tape_touch(&j->tape, j->nodes[2].region, 2);
    assert_int_equal(submit(e, j), KILN_ERROR_LIMIT);
    assert_int_equal(submit(e, j), KILN_ERROR_LIMIT);
    assert_int_equal(j->run.outcome.record, 2);
    assert_true(e->table->is_done(e, &j->run));
    j->nodes[2].tiles = 3;
    assert_int_equal(run_once(e, j), KILN_OK);
    assert_true(job_complete(j));
    release_free(e, j);
    executor_free(e);
}

int main(void) {
    alarm(HANG_SECONDS); /* a hang ends the process */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts),
        cmocka_unit_test(zero_timeout_progress),
        cmocka_unit_test(cancel_anywhere),
        cmocka_unit_test(cancel_is_prompt),
        cmocka_unit_test(same_failure_everywhere),
        cmocka_unit_test(first_bad_index),
        cmocka_unit_test(failing_hook),
        cmocka_unit_test(refused_at_prepare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
