/* Small assertions for tests that speak Kiln. Include after the cmocka headers' prerequisites; includes
 * cmocka. */
#ifndef KILN_TEST_CHECK_H
#define KILN_TEST_CHECK_H

#include "kiln_base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* The call succeeds; otherwise its text is shown. */
#define CHECK_OK(call)                                                                                       \
    do {                                                                                                     \
        kiln_error error_ = {KILN_OK, ""};                                                                   \
        kiln_error *error = &error_;                                                                         \
        (void)error;                                                                                         \
        kiln_status status_ = (call);                                                                        \
        if (status_ != KILN_OK)                                                                              \
            fail_msg("%s: %s: %s", #call, kiln_status_name(status_), error_.text);                           \
    } while (0)

/* The call fails with this status and exactly this text. Within `call`, `error` is the error to pass. */
#define CHECK_FAILS(call, expected_status, expected_text)                                                    \
    do {                                                                                                     \
        kiln_error error_ = {KILN_OK, ""};                                                                   \
        kiln_error *error = &error_;                                                                         \
        kiln_status status_ = (call);                                                                        \
        if (status_ != (expected_status) || error_.status != (expected_status) ||                            \
            strcmp(error_.text, (expected_text)) != 0)                                                       \
            fail_msg("%s:\n  got  %s \"%s\"\n  want %s \"%s\"", #call, kiln_status_name(status_),            \
                     error_.text, kiln_status_name(expected_status), (expected_text));                       \
    } while (0)

#endif
