/* The scan of JSON text and the reader, without graphs. */
#include "tests/support/fault_alloc.h"
#include "json_read.h"
#include "tests/support/testdata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const kiln__json_caps caps = {1 << 26, 1 << 22, 64};

/* ---- the scan --------------------------------------------------------------------------------------- */

static void scan_errors(void **state) {
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "JSON, line 1, column 1 (byte 0): expected a value, got the end of the text"},
        {"{\n  \"a\" 1}", "JSON, line 2, column 7 (byte 8): expected ':' after a key, got '1'"},
        {"[1,\n\n 2 x]", "JSON, line 3, column 4 (byte 8): expected ',' or ']', got 'x'"},
        {"{\"\xc3\xa9\": 'x'}", "JSON, line 1, column 7 (byte 7): expected a value, got \"'\""},
        {"{\"a\": 1,}", "JSON, line 1, column 9 (byte 8): expected a key, got '}'"},
        {"{1}", "JSON, line 1, column 2 (byte 1): expected a key or '}', got '1'"},
        {"{\"a\": 1]", "JSON, line 1, column 8 (byte 7): expected ',' or '}', got ']'"},
        {"[tru]", "JSON, line 1, column 5 (byte 4): expected true, false or null, got ']'"},
        {"[01]", "JSON, line 1, column 2 (byte 1): a number with a leading zero"},
        {"[-]", "JSON, line 1, column 3 (byte 2): expected a digit, got ']'"},
        {"[1.]", "JSON, line 1, column 4 (byte 3): expected a digit after the decimal point, got ']'"},
        {"[1e+]", "JSON, line 1, column 5 (byte 4): expected a digit in the exponent, got ']'"},
        {"[\"\\u12g4\"]", "JSON, line 1, column 7 (byte 6): expected four hex digits after \\u, got 'g'"},
        {"[\"\\q\"]", "JSON, line 1, column 4 (byte 3): expected an escape (one of \" \\ / b f n r t u) "
                      "after \\, got 'q'"},
        {"[\"\\u0000\"]", "JSON, line 1, column 3 (byte 2): U+0000 is not allowed in a string"},
        {"[\"\\ud800\"]", "JSON, line 1, column 3 (byte 2): a high surrogate without a low one after it"},
        {"[\"\\udc00\"]", "JSON, line 1, column 3 (byte 2): a low surrogate without a high one before it"},
        {"[\"a\tb\"]",
         "JSON, line 1, column 4 (byte 3): a control character in a string must be escaped, got byte 0x09"},
        {"[\"\xff\"]", "JSON, line 1, column 3 (byte 2): expected UTF-8, got byte 0xff"},
        {"[\"abc", "JSON, line 1, column 2 (byte 1): a string without its closing quote"},
        {"[] []", "JSON, line 1, column 4 (byte 3): expected nothing after the value, got '['"},
        {"\xef\xbb\xbf{} x", "JSON, line 1, column 4 (byte 6): expected nothing after the value, got 'x'"},
        {"\xef\xbb\xbf\xef\xbb\xbf{}", "JSON, line 1, column 1 (byte 3): expected a value, got byte 0xef"},
        {"{}\xef\xbb\xbf",
         "JSON, line 1, column 3 (byte 2): expected nothing after the value, got byte 0xef"},
        {"\xef\xbb", "JSON, line 1, column 1 (byte 0): expected a value, got byte 0xef"},
        {"\xff\xfe{", "JSON, line 1, column 1 (byte 0): the text is in UTF-16; save it as UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln__json_facts facts;
        kiln_error error = {0};
        assert_int_equal(kiln__json_scan(cases[i].text, strlen(cases[i].text), &caps, &facts, &error),
                         KILN_ERROR_FORMAT);
        assert_string_equal(error.text, cases[i].error);
    }
}

static void scan_caps(void **state) {
    (void)state;
    static const struct {
        const char *text;
        kiln__json_caps caps;
        const char *error;
    } cases[] = {
        {"[1, 2]", {5, 9, 9}, "JSON: 6 bytes; the cap is 5"},
        {"[1, 2]", {9, 2, 9}, "JSON, line 1, column 5 (byte 4): more than 2 values"},
        {"[[1]]", {9, 9, 1}, "JSON, line 1, column 2 (byte 1): more than 1 levels of arrays and objects"},
        {"[1, 2]", {6, 3, 1}, NULL},
        {"12345678901234567890123456789012345678901",
         {99, 9, 9},
         "JSON, line 1, column 1 (byte 0): a number of more than 40 significant digits"},
        {"1234567890123456789012345678901234567890", {99, 9, 9}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln__json_facts facts;
        kiln_error error = {0};
        kiln_status status =
            kiln__json_scan(cases[i].text, strlen(cases[i].text), &cases[i].caps, &facts, &error);
        assert_int_equal(status, cases[i].error ? KILN_ERROR_LIMIT : KILN_OK);
        assert_string_equal(error.text, cases[i].error ? cases[i].error : "");
    }
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void scan_many_brackets(void **state) {
    (void)state;
    enum { N = 100000 };
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, '[', N);
    kiln__json_facts facts;
    kiln_error error = {0};
    kiln__json_caps deep = {1 << 26, 1 << 22, UINT32_MAX}; /* counts as KILN__JSON_DEPTH_MAX */
    assert_int_equal(kiln__json_scan(text, N, &deep, &facts, &error), KILN_ERROR_LIMIT);
    assert_string_equal(error.text,
                        "JSON, line 1, column 513 (byte 512): more than 512 levels of arrays and objects");
    memset(text + 512, ']', 512);
    kiln__json_doc doc; /* the deepest that is allowed gets through the parser, too */
    assert_int_equal(kiln__json_open(&doc, text, 1024, &deep, NULL, NULL), KILN_OK);
    kiln__json_close(&doc);
    free(text);
}

/* Any cut of a valid text, and any byte of it replaced by any other, is refused or accepted without harm (the
 * text lies in memory of exactly its size, so that a sanitizer sees every step too far). */
static void scan_mutations(void **state) {
    (void)state;
    static const char text[] =
        "{\"a\\u00e9\": [1.5e3, -0, true], \"\xc3\xa9\": {\"n\": null, \"s\": \"x\\ud83d\\ude00\"}}";
    size_t size = strlen(text), accepted = 0;
    for (size_t cut = 0; cut <= size; cut++) {
        char *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, text, cut);
        char *exact = cut ? malloc(cut) : malloc(1);
        assert_non_null(exact);
        memcpy(exact, copy, cut);
        kiln__json_doc doc;
        kiln_status status = kiln__json_open(&doc, exact, cut, &caps, NULL, NULL);
        assert_int_equal(status, cut == size ? KILN_OK : KILN_ERROR_FORMAT);
        if (status == KILN_OK)
            kiln__json_close(&doc);
        free(exact);
        free(copy);
    }
    for (size_t at = 0; at < size; at++)
        for (int byte = 0; byte < 256; byte++) {
            char *copy = malloc(size);
            assert_non_null(copy);
            memcpy(copy, text, size);
            copy[at] = (char)byte;
            kiln__json_doc doc;
            kiln_status status = kiln__json_open(&doc, copy, size, &caps, NULL, NULL);
            assert_true(status == KILN_OK || status == KILN_ERROR_FORMAT);
            if (status == KILN_OK) {
                accepted++;
                kiln__json_close(&doc);
            }
            free(copy);
        }
    print_message("%zu cuts, %zu mutations, %zu of them still JSON\n", size + 1, size * 256, accepted);
}

/* The value does not depend on how a number is spelled, nor on how long it is. */
static void numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"1.5", 1.5},
        {"-0.25", -0.25},
        {"100.0", 100},
        {"0.0", 0},
        {"-0.000e5", -0.0},
        {"-0", -0.0},
        {"1.5e3", 1500},
        {"1.5E+3", 1500},
        {"120.50e-3", 0.1205},
        {"7", 7},
        {"1e5", 1e5},
        {"0.1", 0.1},
        {"5e-324", 5e-324},
        {"1.7976931348623157e308", 1.7976931348623157e308},
        {"0.00000000000000000000000000000000000000000000000000000000000000000000000000001", 1e-77},
        {"100000000000000000000000000000000000000000000000000000000000000000000000000000", 1e77},
        {"1.0e999999999999999999999999", (double)INFINITY},
        {"-1e999999999999999999999999", -(double)INFINITY},
        {"0.1e-999999999999999999999999", 0},
        {"1234567890123456789012345678901234567890.0", 1234567890123456789012345678901234567890.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln__json_facts facts;
        size_t size = strlen(cases[i].text);
        assert_int_equal(kiln__json_scan(cases[i].text, size, &caps, &facts, NULL), KILN_OK);
        double value = kiln__json_number(cases[i].text, size);
        assert_true(value == cases[i].value && !signbit(value) == !signbit(cases[i].value));
    }
}

/* Strings and keys come out as what their escapes stand for; containers of all kinds nest and end. */
static void tree(void **state) {
    (void)state;
    static const char text[] = "\xef\xbb\xbf {\"a\\n\\u00e9\\\"\": "
                               "[\"\\ud83d\\ude00\\/\\u20AC\\u007f\\b\\f\\r\\t\\\\\", \"\", [], {}, "
                               "{\"k\": \"k\"}], \"b\": -1.5e3, \"c\": {\"c\": null}}\n";
    static const struct {
        kiln__json_type type;
        const char *key, *text;
        size_t size, span;
    } expected[] = {
        {KILN_JSON_OBJECT, NULL, NULL, 3, 11},
        {KILN_JSON_ARRAY, "a\n\xc3\xa9\"", NULL, 5, 7},
        {KILN_JSON_STRING, NULL, "\xf0\x9f\x98\x80/\xe2\x82\xac\x7f\b\f\r\t\\", 14, 1},
        {KILN_JSON_STRING, NULL, "", 0, 1},
        {KILN_JSON_ARRAY, NULL, NULL, 0, 1},
        {KILN_JSON_OBJECT, NULL, NULL, 0, 1},
        {KILN_JSON_OBJECT, NULL, NULL, 1, 2},
        {KILN_JSON_STRING, "k", "k", 1, 1},
        {KILN_JSON_NUMBER, "b", "-1.5e3", 6, 1},
        {KILN_JSON_OBJECT, "c", NULL, 1, 2},
        {KILN_JSON_NULL, "c", NULL, 0, 1},
    };
    enum { N = sizeof expected / sizeof *expected };
    kiln__json_doc doc;
    assert_int_equal(kiln__json_open(&doc, text, strlen(text), &caps, NULL, NULL), KILN_OK);
    assert_int_equal(doc.tree.n, N);
    for (size_t i = 0; i < N; i++) {
        const kiln__json_item *item = &doc.tree.items[i];
        assert_int_equal(item->type, expected[i].type);
        assert_int_equal(item->size, expected[i].size);
        assert_int_equal(item->span, expected[i].span);
        assert_int_equal(item->key == NULL, expected[i].key == NULL);
        if (item->key != NULL)
            assert_string_equal(item->key, expected[i].key);
        assert_int_equal(item->text == NULL, expected[i].text == NULL);
        if (item->text != NULL)
            assert_memory_equal(item->text, expected[i].text, expected[i].size);
    }
    kiln__json_close(&doc);
}

/* ---- JSONTestSuite ---------------------------------------------------------------------------------- */

/* Files that RFC 8259 allows (y_) and Kiln refuses, and all that it leaves open (i_) with what Kiln does. */
static const struct {
    const char *file;
    kiln_status status;
    const char *why;
} decisions[] = {
    {"y_object_duplicated_key.json", KILN_ERROR_FORMAT, "duplicate keys say two things"},
    {"y_object_duplicated_key_and_value.json", KILN_ERROR_FORMAT, "duplicate keys say two things"},
    {"y_object_escaped_null_in_key.json", KILN_ERROR_FORMAT, "names end at U+0000"},
    {"y_string_null_escape.json", KILN_ERROR_FORMAT, "names end at U+0000"},
    {"n_structure_100000_opening_arrays.json", KILN_ERROR_LIMIT, "the depth cap comes first"},
    {"n_structure_open_array_object.json", KILN_ERROR_LIMIT, "the depth cap comes first"},
    {"i_number_double_huge_neg_exp.json", KILN_OK, "zero"},
    {"i_number_huge_exp.json", KILN_OK, "infinite: refused where a number is asked for"},
    {"i_number_neg_int_huge_exp.json", KILN_OK, "infinite: refused where a number is asked for"},
    {"i_number_pos_double_huge_exp.json", KILN_OK, "infinite: refused where a number is asked for"},
    {"i_number_real_neg_overflow.json", KILN_OK, "infinite: refused where a number is asked for"},
    {"i_number_real_pos_overflow.json", KILN_OK, "infinite: refused where a number is asked for"},
    {"i_number_real_underflow.json", KILN_OK, "zero"},
    {"i_number_too_big_neg_int.json", KILN_OK, "refused where an integer is asked for"},
    {"i_number_too_big_pos_int.json", KILN_OK, "refused where an integer is asked for"},
    {"i_number_very_big_negative_int.json", KILN_ERROR_LIMIT, "48 digits"},
    {"i_object_key_lone_2nd_surrogate.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_1st_surrogate_but_2nd_missing.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_1st_valid_surrogate_2nd_invalid.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_UTF-16LE_with_BOM.json", KILN_ERROR_FORMAT, "UTF-16"},
    {"i_string_UTF-8_invalid_sequence.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_UTF8_surrogate_U+D800.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_incomplete_surrogate_and_escape_valid.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_incomplete_surrogate_pair.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_incomplete_surrogates_escape_valid.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_invalid_lonely_surrogate.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_invalid_surrogate.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_invalid_utf-8.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_inverted_surrogates_U+1D11E.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_iso_latin_1.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_lone_second_surrogate.json", KILN_ERROR_FORMAT, "surrogate"},
    {"i_string_lone_utf8_continuation_byte.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_not_in_unicode_range.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_overlong_sequence_2_bytes.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_overlong_sequence_6_bytes.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_overlong_sequence_6_bytes_null.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_truncated-utf-8.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_utf16BE_no_BOM.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_string_utf16LE_no_BOM.json", KILN_ERROR_FORMAT, "not UTF-8"},
    {"i_structure_500_nested_arrays.json", KILN_ERROR_LIMIT, "the depth cap of this test is 64"},
    {"i_structure_UTF-8_BOM_empty_object.json", KILN_OK, "a byte order mark is skipped"},
};

static kiln_status expected_of(const char *file, bool *listed) {
    *listed = true;
    for (size_t i = 0; i < sizeof decisions / sizeof *decisions; i++)
        if (strcmp(decisions[i].file, file) == 0)
            return decisions[i].status;
    *listed = file[0] != 'i';
    return file[0] == 'y' ? KILN_OK : KILN_ERROR_FORMAT;
}

static void json_test_suite(void **state) {
    (void)state;
    char folder[TESTDATA_PATH_SIZE], path[2 * TESTDATA_PATH_SIZE];
    if (testdata_path("jsontestsuite/test_parsing", folder, sizeof folder) == NULL)
        skip();
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t seen[128] = {0}, wrong = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *file = entry->d_name;
        if (strstr(file, ".json") == NULL)
            continue;
        seen[file[0] & 127]++;
        snprintf(path, sizeof path, "%s/%s", folder, file);
        size_t size;
        char *text = testdata_read_path(path, &size);
        assert_non_null(text);
        kiln__json_doc doc;
        bool listed;
        kiln_error error = {0};
        kiln_status status = kiln__json_open(&doc, text, size, &caps, NULL, &error);
        if (status != expected_of(file, &listed) || !listed) {
            print_message("%s: %s %s%s\n", file, kiln_status_name(status), error.text,
                          listed ? "" : " (not in the table)");
            wrong++;
        }
        if (status == KILN_OK)
            kiln__json_close(&doc);
        free(text);
    }
    closedir(dir);
    print_message("JSONTestSuite: %zu y_, %zu n_, %zu i_, %zu decisions\n", seen['y'], seen['n'], seen['i'],
                  sizeof decisions / sizeof *decisions);
    assert_int_equal(wrong, 0);
    assert_true(seen['y'] >= 95 && seen['n'] >= 188 && seen['i'] >= 35);
}

/* ---- the reader ------------------------------------------------------------------------------------- */

typedef kiln_status (*reading)(const kiln__json *value, kiln_error *error);

static kiln_status read_i64(const kiln__json *v, kiln_error *error) {
    int64_t n;
    return kiln__json_get_i64(v, INT64_MIN, INT64_MAX, &n, error);
}
static kiln_status read_k(const kiln__json *v, kiln_error *error) {
    int64_t n;
    return kiln__json_get_i64(v, 1, 8, &n, error);
}
static kiln_status read_size(const kiln__json *v, kiln_error *error) {
    int64_t n;
    return kiln__json_get_i64(v, 0, INT64_MAX, &n, error);
}
static kiln_status read_f32(const kiln__json *v, kiln_error *error) {
    float f;
    return kiln__json_get_f32(v, &f, error);
}
static kiln_status read_f64(const kiln__json *v, kiln_error *error) {
    double d;
    return kiln__json_get_f64(v, &d, error);
}
static kiln_status read_flag(const kiln__json *v, kiln_error *error) {
    bool b;
    return kiln__json_get_bool(v, &b, error);
}
static kiln_status read_name(const kiln__json *v, kiln_error *error) {
    const char *s;
    return kiln__json_get_string(v, 3, &s, error);
}
static kiln_status read_color(const kiln__json *v, kiln_error *error) {
    static const char *const names[] = {"red", NULL, "blue"};
    size_t which;
    return kiln__json_get_enum(v, names, 3, &which, error);
}
static kiln_status read_pair(const kiln__json *v, kiln_error *error) {
    size_t n;
    return kiln__json_count(v, 2, 3, &n, error);
}
static kiln_status read_object(const kiln__json *v, kiln_error *error) {
    kiln__json a, b;
    const kiln__json_field fields[] = {{"a", &a, true}, {"b", &b, false}};
    return kiln__json_members(v, fields, 2, error);
}

#define ROUNDED                                                                                              \
    "expected an integer as digits, beyond 2^53 - 1 in a string (this one may have been rounded), got "

static void reader_messages(void **state) {
    (void)state;
    static const struct {
        reading read;
        const char *text, *error;
        kiln_status status;
    } cases[] = {
        {read_k, "\"x\"",
         "expected an integer in 1\xe2\x80\xa6"
         "8, got \"x\"",
         KILN_ERROR_FORMAT},
        {read_k, "9",
         "expected an integer in 1\xe2\x80\xa6"
         "8, got 9",
         KILN_ERROR_FORMAT},
        {read_k, "1.5",
         "expected an integer in 1\xe2\x80\xa6"
         "8, got 1.5",
         KILN_ERROR_FORMAT},
        {read_k, "\"9\"",
         "expected an integer in 1\xe2\x80\xa6"
         "8, got \"9\"",
         KILN_ERROR_FORMAT},
        {read_size, "-1", "expected an integer from 0 up, got -1", KILN_ERROR_FORMAT},
        {read_i64, "null", "expected an integer, got null", KILN_ERROR_FORMAT},
        {read_i64, "\"007\"", "expected an integer, got \"007\"", KILN_ERROR_FORMAT},
        {read_i64, "\"-0\"", "expected an integer, got \"-0\"", KILN_ERROR_FORMAT},
        {read_i64, "\"+1\"", "expected an integer, got \"+1\"", KILN_ERROR_FORMAT},
        {read_i64, "\"\"", "expected an integer, got \"\"", KILN_ERROR_FORMAT},
        {read_i64, "\"9223372036854775808\"", "expected an integer, got \"9223372036854775808\"",
         KILN_ERROR_FORMAT},
        {read_i64, "\"-9223372036854775809\"", "expected an integer, got \"-9223372036854775809\"",
         KILN_ERROR_FORMAT},
        {read_i64, "9007199254740992", ROUNDED "9007199254740992", KILN_ERROR_FORMAT},
        {read_i64, "-9007199254740992", ROUNDED "-9007199254740992", KILN_ERROR_FORMAT},
        {read_i64, "9.00719925474099e+15", ROUNDED "9.00719925474099e+15", KILN_ERROR_FORMAT},
        {read_i64, "4.503599627370495e+14", "expected an integer, got 4.503599627370495e+14",
         KILN_ERROR_FORMAT},
        {read_i64, "1e15", ROUNDED "1e15", KILN_ERROR_FORMAT},
        {read_i64, "4503599627370496.0", ROUNDED "4503599627370496.0", KILN_ERROR_FORMAT},
        {read_i64, "1.2345678901234e+14", ROUNDED "1.2345678901234e+14", KILN_ERROR_FORMAT},
        {read_i64, "1e400", ROUNDED "1e400", KILN_ERROR_FORMAT},
        {read_i64, "64.5", "expected an integer, got 64.5", KILN_ERROR_FORMAT},
        {read_i64, "\"-0.0\"", "expected an integer, got \"-0.0\"", KILN_ERROR_FORMAT},
        {read_f32, "true", "expected a number, got true", KILN_ERROR_FORMAT},
        {read_f32, "1e39", "expected a number that fits 32 bits, got 1e39", KILN_ERROR_FORMAT},
        {read_f64, "1e400", "expected a number, got 1e400", KILN_ERROR_FORMAT},
        {read_f64, "\"-0\"", "expected a number, got \"-0\"", KILN_ERROR_FORMAT},
        {read_f64, "\"nan\"", "expected a number, got \"nan\"", KILN_ERROR_FORMAT},
        {read_flag, "1", "expected true or false, got 1", KILN_ERROR_FORMAT},
        {read_name, "[]", "expected a string, got an array", KILN_ERROR_FORMAT},
        {read_name, "\"abcd\"", "a string of 4 bytes; at most 3 are allowed", KILN_ERROR_LIMIT},
        {read_color, "\"green\"", "expected one of red, blue, got \"green\"", KILN_ERROR_FORMAT},
        {read_color, "{}", "expected one of red, blue, got an object", KILN_ERROR_FORMAT},
        {read_pair, "{}", "expected an array, got an object", KILN_ERROR_FORMAT},
        {read_pair, "[1]", "1 elements; at least 2 are needed", KILN_ERROR_FORMAT},
        {read_pair, "[1, 2, 3, 4]", "4 elements; the cap is 3", KILN_ERROR_LIMIT},
        {read_object, "false", "expected an object, got false", KILN_ERROR_FORMAT},
        {read_object, "{\"b\": 1}", "key \"a\" is missing", KILN_ERROR_FORMAT},
        {read_k, "\"a\\nb\\u0001\\\"c\\\\ and then a text that goes on for longer than a message should be\"",
         "expected an integer in 1\xe2\x80\xa6"
         "8, got \"a\\u000ab\\u0001\\\"c\\\\ and then a text that goes on for longer...",
         KILN_ERROR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], expected[512];
        snprintf(text, sizeof text, "{\"nodes\": [0, {\"attrs\": %s}]}", cases[i].text);
        snprintf(expected, sizeof expected, "$.nodes[1].attrs: %s", cases[i].error);
        kiln__json_doc doc;
        kiln_error error = {0};
        assert_int_equal(kiln__json_open(&doc, text, strlen(text), &caps, NULL, NULL), KILN_OK);
        kiln__json root = kiln__json_root(&doc), nodes = kiln__json_member(&root, "nodes");
        kiln__json node = kiln__json_first(&nodes);
        kiln__json_next(&node);
        kiln__json value = kiln__json_member(&node, "attrs");
        assert_int_equal(cases[i].read(&value, &error), cases[i].status);
        assert_string_equal(error.text, expected);
        assert_int_equal(cases[i].read(&value, NULL), cases[i].status);
        kiln__json_close(&doc);
    }
}

static void reader_values(void **state) {
    (void)state;
    static const char text[] =
        "[9007199254740991, \"9223372036854775807\", \"-9223372036854775808\", 1e2, -0, \"0\", "
        "\"-17\", 64.0, 9.9999999999999e13, 4503599627370495.0, -4.503599627370495e15, \"NaN\", \"-0.0\", "
        "\"-Infinity\", true, \"blue\", {\"b\": 1, "
        "\"a\": 2}]";
    kiln__json_doc doc;
    assert_int_equal(kiln__json_open(&doc, text, strlen(text), &caps, NULL, NULL), KILN_OK);
    kiln__json root = kiln__json_root(&doc), v = kiln__json_first(&root);
    static const int64_t integers[] = {
        9007199254740991, INT64_MAX,        INT64_MIN,        100, 0, 0, -17, 64,
        99999999999999,   4503599627370495, -4503599627370495};
    for (size_t i = 0; i < 11; i++, kiln__json_next(&v)) {
        int64_t n;
        assert_int_equal(kiln__json_get_i64(&v, INT64_MIN, INT64_MAX, &n, NULL), KILN_OK);
        assert_true(n == integers[i]);
    }
    double d;
    assert_int_equal(kiln__json_get_f64(&v, &d, NULL), KILN_OK);
    assert_true(isnan(d));
    kiln__json_next(&v);
    assert_int_equal(kiln__json_get_f64(&v, &d, NULL), KILN_OK);
    assert_true(d == 0 && signbit(d));
    kiln__json_next(&v);
    float f;
    assert_int_equal(kiln__json_get_f32(&v, &f, NULL), KILN_OK);
    assert_true(isinf(f) && f < 0);
    kiln__json_next(&v);
    bool flag = false;
    assert_int_equal(kiln__json_get_bool(&v, &flag, NULL), KILN_OK);
    assert_true(flag);
    kiln__json_next(&v);
    size_t which;
    static const char *const names[] = {"red", NULL, "blue"};
    assert_int_equal(kiln__json_get_enum(&v, names, 3, &which, NULL), KILN_OK);
    assert_int_equal(which, 2);
    kiln__json_next(&v);
    assert_int_equal(read_object(&v, NULL), KILN_OK);
    assert_null(kiln__json_member(&v, "c").item);
    assert_null(kiln__json_member(&root, "a").item);
    kiln__json_next(&v);
    assert_null(v.item);
    kiln__json_close(&doc);
}

/* Two spellings of one value are the same; a dump of before and one of today may differ in them. */
static void reader_same(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"1", "1", true},
        {"1", "2", false},
        {"64", "64.0", true},
        {"1e2", "100", true},
        {"9007199254740991", "\"9007199254740991\"", true},
        {"9007199254740991", "9007199254740990", false},
        {"0", "-0", false},
        {"-0", "\"-0.0\"", true},
        {"0.0", "0", true},
        {"0.1", "1e-1", true},
        {"0.1", "0.2", false},
        {"\"NaN\"", "\"NaN\"", true},
        {"1", "true", false},
        {"null", "null", true},
        {"null", "false", false},
        {"true", "true", true},
        {"\"a\"", "\"a\"", true},
        {"\"a\"", "\"b\"", false},
        {"[]", "[]", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        snprintf(text, sizeof text, "[%s,%s]", cases[i].a, cases[i].b);
        kiln__json_doc doc;
        assert_int_equal(kiln__json_open(&doc, text, strlen(text), &caps, NULL, NULL), KILN_OK);
        kiln__json root = kiln__json_root(&doc), a = kiln__json_first(&root), b = a;
        kiln__json_next(&b);
        assert_int_equal(kiln__json_same_scalar(&a, &b), cases[i].same);
        assert_int_equal(kiln__json_same_scalar(&b, &a), cases[i].same);
        kiln__json_close(&doc);
    }
}

static void reader_paths(void **state) {
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"{\"a\": {\"b c\": [1, {\"d\": 1, \"d\": 2}]}}", "$.a[\"b c\"][1].d: duplicate key"},
        {"{\"\": {\"x\": 1, \"y\": 2, \"z\": 3, \"y\": 4, \"x\": 5}}", "$[\"\"].y: duplicate key"},
        {"{\"\\u0061\": 1, \"a\": 2}", "$.a: duplicate key"},
        {"{\"k\": 1, \"\\n\": 2, \"\\n\": 2}", "$[\"\\u000a\"]: duplicate key"},
        {"{\"A\": 1, \"a\": 2}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln__json_doc doc;
        kiln_error error = {0};
        kiln_status status = kiln__json_open(&doc, cases[i].text, strlen(cases[i].text), &caps, NULL, &error);
        assert_int_equal(status, cases[i].error ? KILN_ERROR_FORMAT : KILN_OK);
        assert_string_equal(error.text, cases[i].error ? cases[i].error : "");
        if (status == KILN_OK)
            kiln__json_close(&doc);
    }
    static const char unknown[] = "{\"a\": 1, \"c\": 2}";
    kiln__json_doc doc;
    kiln_error error = {0};
    assert_int_equal(kiln__json_open(&doc, unknown, strlen(unknown), &caps, NULL, NULL), KILN_OK);
    kiln__json root = kiln__json_root(&doc);
    assert_int_equal(read_object(&root, &error), KILN_ERROR_FORMAT);
    assert_string_equal(error.text, "$.c: unknown key (known here: a, b)");
    kiln__json_close(&doc);
}

/* Finding duplicates stays near-linear: 200,000 keys, the last two the same. */
static void reader_huge_object(void **state) {
    (void)state;
    enum { N = 200000 };
    char *text = malloc(N * 24 + 64);
    assert_non_null(text);
    size_t at = 0;
    text[at++] = '{';
    for (int i = 0; i < N; i++)
        at += (size_t)sprintf(text + at, "%s\"key_%07d\":0", i ? "," : "", i == N - 1 ? N - 2 : i);
    text[at++] = '}';
    kiln__json_doc doc;
    kiln_error error = {0};
    double start = seconds();
    assert_int_equal(kiln__json_open(&doc, text, at, &caps, NULL, &error), KILN_ERROR_FORMAT);
    print_message("%d keys: %.3f s\n", N, seconds() - start);
    assert_string_equal(error.text, "$.key_0199998: duplicate key");
    assert_true(seconds() - start < 20);
    free(text);
}

static kiln_status open_body(kiln_allocator allocator, void *context) {
    (void)context;
    static const char text[] =
        "{\"a\":1.5,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,\"i\":0,\"j\":0,"
        "\"k\":0,\"l\":0,\"m\":0,\"n\":0,\"o\":0,\"p\":0,\"q\":0}";
    kiln__json_doc doc;
    kiln_status status = kiln__json_open(&doc, text, strlen(text), &caps, &allocator, NULL);
    if (status == KILN_OK)
        kiln__json_close(&doc);
    return status;
}

static void reader_faults(void **state) {
    (void)state;
    assert_true(fault_alloc_every("JSON reader", open_body, NULL) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_errors),
        cmocka_unit_test(scan_caps),
        cmocka_unit_test(scan_many_brackets),
        cmocka_unit_test(scan_mutations),
        cmocka_unit_test(numbers),
        cmocka_unit_test(tree),
        cmocka_unit_test(json_test_suite),
        cmocka_unit_test(reader_messages),
        cmocka_unit_test(reader_values),
        cmocka_unit_test(reader_same),
        cmocka_unit_test(reader_paths),
        cmocka_unit_test(reader_huge_object),
        cmocka_unit_test(reader_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
