/* A strict check of JSON text (RFC 8259) that runs before a tree is built of it: grammar, UTF-8, escapes, and
 * caps on bytes, depth and values. Iterative, allocates nothing, reads every byte once. Internal.
 *
 * A byte order mark in front of the value is skipped, as programs of Windows and of npm write one. Three
 * things that RFC 8259 allows are refused: U+0000 in a string (strings are C's, so it would end them), a
 * number of more than 40 significant digits, and more than 512 levels. */
#ifndef KILN_JSON_SCAN_H
#define KILN_JSON_SCAN_H

#include "kiln_base.h"

enum { KILN__JSON_DEPTH_MAX = 512 };

typedef struct kiln__json_caps {
    size_t bytes;   /* of text */
    size_t values;  /* values of any kind, keys not counted */
    uint32_t depth; /* containers within each other; more than KILN__JSON_DEPTH_MAX counts as that */
} kiln__json_caps;

typedef struct kiln__json_facts {
    size_t start; /* of the text proper: 3 after a byte order mark, else 0 */
    size_t values;
    uint32_t depth;
    size_t string_bytes; /* at most so many for all strings and keys as values, each with a NUL after it */
} kiln__json_facts;

/* Any thread. Errors: KILN_ERROR_FORMAT, as in "JSON, line 2, column 5 (byte 17): expected ':' after a key,
 * got 'x'", where lines and columns count from 1, columns in characters, and bytes from 0;
 * KILN_ERROR_LIMIT. */
KILN_MUST_CHECK kiln_status kiln__json_scan(const char *text, size_t size, const kiln__json_caps *caps,
                                            kiln__json_facts *facts, kiln_error *error);

/* The value of a number that passed the scan: `size` characters at `text`. A number beyond the range of
 * double is infinite. The host's locale, which decides what a decimal separator is, plays no part. */
double kiln__json_number(const char *text, size_t size);

/* Length of the valid UTF-8 sequence at the start of text[0 .. size), 0 when there is none. Surrogates,
 * overlong forms and values above U+10FFFF are not valid. */
size_t kiln__utf8_length(const char *text, size_t size);

#endif
