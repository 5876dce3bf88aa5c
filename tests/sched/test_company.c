/* Whether small runs are shared: what the comparison of runs alone and in company makes of times that the test decides. */
#include "check.h"
#include "sync.h"

static int64_t the_time;

static int64_t told_now(void) {
    return the_time;
}

#define kiln__now_ns told_now
#include "sched/cpu_company.c"

enum { SPIN = 20000, COMPARISON = WINDOWS * WINDOW };

/* A program that calls kiln_run again and again. */
typedef struct loop {
    kiln__cpu_habit habit;
    int64_t gap, alone, company; /* ns */
    bool asleep;                 /* the others, when a run begins */
    int n_company;               /* runs in company so far */
} loop;

static bool run_once(loop *l) {
    the_time += l->gap;
    l->asleep = l->asleep || l->gap > SPIN;
    const bool company = kiln__cpu_habit_begin(&l->habit, SPIN, l->asleep);
    l->asleep = !company;
    l->n_company += company;
    the_time += company ? l->company : l->alone;
    kiln__cpu_habit_end(&l->habit);
    return company;
}

/* Returns how many of them were in company. */
static int run_often(loop *l, int n) {
    const int before = l->n_company;
    while (n-- > 0)
        (void)run_once(l);
    return l->n_company - before;
}

static loop loop_new(int64_t gap, int64_t alone, int64_t company) {
    the_time = INT64_C(1000000000000);
    return (loop){.gap = gap, .alone = alone, .company = company, .asleep = true};
}

enum { IN_COMPANY = WINDOWS / 2 * WINDOW }; /* runs of a comparison */

static void the_faster(void **state) {
    (void)state;
    loop l = loop_new(1000, 50000, 30000);
    assert_int_equal(run_often(&l, COMPARISON), IN_COMPANY);
    assert_int_equal(run_often(&l, HOLD), HOLD);
    assert_int_equal(run_often(&l, COMPARISON), IN_COMPANY);
    assert_int_equal(run_often(&l, 2 * HOLD), 2 * HOLD); /* again, so it is kept for longer */
    l = loop_new(1000, 30000, 50000);
    assert_int_equal(run_often(&l, COMPARISON), IN_COMPANY);
    assert_int_equal(run_often(&l, HOLD), 0);
    assert_int_equal(run_often(&l, COMPARISON), IN_COMPANY);
    assert_int_equal(run_often(&l, HOLD), 0);
    l = loop_new(1000, 30000, 29500); /* not worth a processor */
    (void)run_often(&l, COMPARISON);
    assert_int_equal(run_often(&l, HOLD), 0);
}

/* Comparing costs little: two windows in company for each time that the choice is kept. */
static void ever_more_rarely(void **state) {
    (void)state;
    loop l = loop_new(1000, 30000, 50000);
    (void)run_often(&l, 100000);
    assert_int_equal(l.habit.hold, HOLD_MAX);
    assert_in_range(run_often(&l, 10 * (HOLD_MAX + COMPARISON)), 1, 11 * IN_COMPANY);
}

/* Runs that do not follow each other closely would wake a thread each. */
static void far_apart(void **state) {
    (void)state;
    loop l = loop_new(SPIN + 1, 50000, 30000);
    assert_int_equal(run_often(&l, 1000), 0);
    l.gap = 1000; /* from here on they do */
    assert_int_equal(run_often(&l, 2 * COMPARISON) > 0, 1);
    assert_true(l.habit.company);
}

/* Runs that grow longer, or shorter, are not mistaken for a difference between the two. */
static void growing(void **state) {
    (void)state;
    for (int64_t percent = -1; percent <= 1; percent += 2) {
        loop l = loop_new(1000, 40000, 40000);
        int company = 0;
        for (int i = 0; i < COMPARISON + 100; i++) {
            company += run_once(&l);
            l.alone = l.company = l.alone + percent * l.alone / 100;
        }
        assert_int_equal(company, IN_COMPANY);
    }
}

/* After a pause they are asleep: woken again when runs are seen to be close. */
static void a_pause(void **state) {
    (void)state;
    loop l = loop_new(1000, 50000, 30000);
    (void)run_often(&l, COMPARISON);
    l.gap = 1000000;
    assert_false(run_once(&l));
    l.gap = 1000;
    assert_int_equal(run_often(&l, CLOSE - 1), 0);
    assert_int_equal(run_often(&l, 100), 100);
    /* In the middle of a comparison, that begins anew. */
    l = loop_new(1000, 50000, 30000);
    (void)run_often(&l, WINDOW + 6);
    assert_int_equal(l.habit.window, 1);
    l.gap = 1000000;
    assert_false(run_once(&l));
    l.gap = 1000;
    assert_int_equal(run_often(&l, WINDOW - 1), 0);
    assert_int_equal(l.habit.window, 1);
    assert_int_equal(run_often(&l, WINDOW), WINDOW);
    assert_int_equal(l.habit.window, 2);
}

/* Bursts too short to compare anything in: nobody is woken for them, whatever there was before. */
static void bursts(void **state) {
    (void)state;
    loop l = loop_new(1000, 50000, 60000);
    (void)run_often(&l, WINDOW + 1);
    for (int again = 0; again < 100; again++) {
        l.gap = 1000000;
        assert_false(run_once(&l));
        l.gap = 1000;
        assert_int_equal(run_often(&l, WINDOW - 2), 0);
    }
}

/* One window says so and one does not: it stays as it was. */
static void disagreement(void **state) {
    (void)state;
    for (int before = 0; before < 2; before++) {
        loop l = loop_new(1000, 50000, before ? 30000 : 60000);
        (void)run_often(&l, COMPARISON + HOLD);
        l.company = 30000;
        (void)run_often(&l, 2 * WINDOW);
        l.company = 60000;
        (void)run_often(&l, COMPARISON - 2 * WINDOW);
        assert_int_equal(run_often(&l, HOLD), before ? HOLD : 0);
    }
}

/* What was faster once may not stay so. */
static void a_change(void **state) {
    (void)state;
    loop l = loop_new(1000, 50000, 30000);
    (void)run_often(&l, 100000);
    assert_true(l.habit.company);
    l.company = 70000;
    (void)run_often(&l, HOLD_MAX + COMPARISON);
    assert_false(l.habit.company);
    assert_in_range(l.habit.hold, HOLD, HOLD_MAX / 2); /* and sooner looked at again */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_faster),   cmocka_unit_test(ever_more_rarely), cmocka_unit_test(far_apart),
        cmocka_unit_test(growing),      cmocka_unit_test(a_pause),          cmocka_unit_test(bursts),
        cmocka_unit_test(disagreement), cmocka_unit_test(a_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
