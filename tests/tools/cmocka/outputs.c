/* What the recorded outputs beside this file come from: groups of tests that pass, fail, skip themselves,
 * fail in setup or teardown, and crash.
 *
 *     cc outputs.c -lcmocka -o outputs
 *     for c in good mixed one skip setup teardown group group-down two crash; do
 *         { ./outputs $c; echo "exit $?"; } >VERSION-$c.txt 2>&1
 *     done
 *
 * Recorded with the libcmocka-dev of Debian 12 (1.1.5), Debian 13 (1.1.7) and Debian forky (2.0.2). */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void good(void **state) {
    (void)state;
    printf("12 figures of a good test\n");
}
static void bad(void **state) {
    (void)state;
    assert_int_equal(1, 2);
}
static void skipped(void **state) {
    (void)state;
    printf("skipped: no test data\n");
    skip();
}
static void crash(void **state) {
    (void)state;
    raise(SIGKILL);
}
static int broken(void **state) {
    (void)state;
    return -1;
}

int main(int argc, char **argv) {
    const struct CMUnitTest fine[] = {cmocka_unit_test(good), cmocka_unit_test(good)};
    const struct CMUnitTest mixed[] = {cmocka_unit_test(good), cmocka_unit_test(bad),
                                       cmocka_unit_test(skipped), cmocka_unit_test(bad)};
    const struct CMUnitTest one[] = {cmocka_unit_test(good), cmocka_unit_test(bad)};
    const struct CMUnitTest skips[] = {cmocka_unit_test(skipped), cmocka_unit_test(skipped),
                                       cmocka_unit_test(skipped)};
    const struct CMUnitTest setup[] = {cmocka_unit_test_setup_teardown(good, broken, NULL),
                                       cmocka_unit_test(good)};
    const struct CMUnitTest teardown[] = {cmocka_unit_test_setup_teardown(good, NULL, broken),
                                          cmocka_unit_test(good)};
    const struct CMUnitTest crashes[] = {cmocka_unit_test(good), cmocka_unit_test(crash),
                                         cmocka_unit_test(good)};
    const char *which = argc > 1 ? argv[1] : "good";
    if (strcmp(which, "good") == 0)
        return cmocka_run_group_tests(fine, NULL, NULL);
    if (strcmp(which, "mixed") == 0)
        return cmocka_run_group_tests(mixed, NULL, NULL);
    if (strcmp(which, "one") == 0)
        return cmocka_run_group_tests(one, NULL, NULL);
    if (strcmp(which, "skip") == 0)
        return cmocka_run_group_tests(skips, NULL, NULL);
    if (strcmp(which, "setup") == 0)
        return cmocka_run_group_tests(setup, NULL, NULL);
    if (strcmp(which, "teardown") == 0)
        return cmocka_run_group_tests(teardown, NULL, NULL);
    if (strcmp(which, "group") == 0)
        return cmocka_run_group_tests(fine, broken, NULL);
    if (strcmp(which, "group-down") == 0)
        return cmocka_run_group_tests(fine, NULL, broken);
    if (strcmp(which, "crash") == 0)
        return cmocka_run_group_tests(crashes, NULL, NULL);
    return cmocka_run_group_tests_name("first", mixed, NULL, NULL) +
           cmocka_run_group_tests_name("second of 2 test(s)", one, NULL, NULL);
}
