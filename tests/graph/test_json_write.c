/* The JSON writer, and that what it writes reads back the same, in any locale. */
#include "tests/support/fault_alloc.h"
#include "json_read.h"
#include "json_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const kiln__json_caps caps = {1 << 26, 1 << 22, 64};

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random_u64(void) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1du;
}

static void assert_text(const kiln_json_text *text, const char *expected) {
    assert_string_equal(text->data, expected);
    assert_int_equal(text->size, strlen(expected));
}

/* ---- the writer ------------------------------------------------------------------------------------- */

static void write_sample(kiln__json_writer *w) {
    kiln__json_begin_object(w, KILN_JSON_LINES);
    kiln__json_key(w, "format");
    kiln__json_put_cstring(w, "sample");
    kiln__json_key(w, "none");
    kiln__json_begin_array(w, KILN_JSON_LINES);
    kiln__json_end(w);
    kiln__json_key(w, "list");
    kiln__json_begin_array(w, KILN_JSON_LINES);
    for (int i = 0; i < 2; i++) {
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        kiln__json_key(w, "i");
        kiln__json_put_i64(w, i);
        kiln__json_key(w, "v");
        kiln__json_begin_array(w, KILN_JSON_LINES); /* inline all the same */
        kiln__json_put_bool(w, i == 0);
        kiln__json_put_null(w);
        kiln__json_put_f32(w, 0.1f);
        kiln__json_end(w);
        kiln__json_end(w);
    }
    kiln__json_end(w);
    kiln__json_end(w);
}

static const char sample[] = "{\n"
                             "  \"format\": \"sample\",\n"
                             "  \"none\": [],\n"
                             "  \"list\": [\n"
                             "    {\"i\": 0, \"v\": [true, null, 0.1]},\n"
                             "    {\"i\": 1, \"v\": [false, null, 0.1]}\n"
                             "  ]\n"
                             "}\n";

static const char compact_sample[] = "{\"format\":\"sample\",\"none\":[],\"list\":["
                                     "{\"i\":0,\"v\":[true,null,0.1]},{\"i\":1,\"v\":[false,null,0.1]}]}";

static void writer_layout(void **state) {
    (void)state;
    for (int compact = 0; compact < 2; compact++) {
        kiln__json_writer w;
        kiln_json_text text;
        kiln__json_writer_init(&w, NULL, compact);
        write_sample(&w);
        assert_int_equal(kiln__json_writer_finish(&w, &text, NULL), KILN_OK);
        assert_text(&text, compact ? compact_sample : sample);
        kiln_json_text_free(&text);
        assert_null(text.data);
        kiln_json_text_free(&text);
    }
    kiln_json_text_free(NULL);
}

typedef struct gathered {
    char bytes[8192];
    size_t used, calls, stop; /* stop: the call that is refused, from 1; 0 for none */
} gathered;

static bool gather(void *context, const char *data, size_t size) {
    gathered *g = context;
    assert_true(size > 0 && size <= KILN__JSON_CHUNK);
    assert_true(g->used + size <= sizeof g->bytes);
    if (++g->calls == g->stop)
        return false;
    memcpy(g->bytes + g->used, data, size);
    g->used += size;
    return true;
}

static void writer_sink(void **state) {
    (void)state;
    static gathered g;
    kiln__json_writer w;
    kiln__json_writer_init_sink(&w, gather, &g, false);
    write_sample(&w);
    assert_int_equal(kiln__json_writer_finish(&w, NULL, NULL), KILN_OK);
    assert_int_equal(g.used, strlen(sample));
    assert_memory_equal(g.bytes, sample, g.used);

    char name[3001];
    memset(name, 'x', 3000);
    name[3000] = '\0';
    for (size_t stop = 0; stop <= 3; stop++) {
        memset(&g, 0, sizeof g);
        g.stop = stop;
        kiln_error error = {0};
        kiln__json_writer_init_sink(&w, gather, &g, true);
        kiln__json_put_cstring(&w, name);
        kiln_status status = kiln__json_writer_finish(&w, NULL, &error);
        assert_int_equal(status, stop ? KILN_ERROR_CANCELLED : KILN_OK);
        assert_int_equal(g.calls, stop ? stop : 3);
        assert_string_equal(error.text, stop ? "writing JSON: the sink refused" : "");
    }
    assert_int_equal(g.used, 2048);
}

static void put_and_compare(const char *bytes, size_t size, const char *expected) {
    kiln__json_writer w;
    kiln_json_text text;
    kiln__json_writer_init(&w, NULL, true);
    kiln__json_put_string(&w, bytes, size);
    assert_int_equal(kiln__json_writer_finish(&w, &text, NULL), KILN_OK);
    assert_text(&text, expected);
    kiln_json_text_free(&text);
}

static void writer_strings(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *expected;
    } cases[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
        {"\b\t\n\f\r", "\"\\b\\t\\n\\f\\r\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\xff", "\"\xef\xbf\xbd\""},
        {"a\x80z", "\"a\xef\xbf\xbdz\""},
        {"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\""},                 /* overlong */
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* a surrogate */
        {"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\""}, /* cut off */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        put_and_compare(cases[i].bytes, strlen(cases[i].bytes), cases[i].expected);
    put_and_compare("a\0b", 3, "\"a\\u0000b\"");
}

static void writer_integers(void **state) {
    (void)state;
    kiln__json_writer w;
    kiln_json_text text;
    kiln__json_writer_init(&w, NULL, false);
    kiln__json_begin_array(&w, KILN_JSON_INLINE);
    static const int64_t values[] = {
        0,         -1,       4503599627370495, -4503599627370495, 4503599627370496, -4503599627370496,
        INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        kiln__json_put_i64(&w, values[i]);
    kiln__json_put_u64(&w, 4503599627370495);
    kiln__json_put_u64(&w, 4503599627370496);
    kiln__json_put_u64(&w, UINT64_MAX);
    kiln__json_end(&w);
    assert_int_equal(kiln__json_writer_finish(&w, &text, NULL), KILN_OK);
    assert_text(&text,
                "[0, -1, 4503599627370495, -4503599627370495, \"4503599627370496\", \"-4503599627370496\", "
                "\"9223372036854775807\", \"-9223372036854775808\", 4503599627370495, "
                "\"4503599627370496\", \"18446744073709551615\"]\n");
    kiln_json_text_free(&text);
}

static void misuse_value_without_key(kiln__json_writer *w) {
    kiln__json_begin_object(w, KILN_JSON_LINES);
    kiln__json_put_null(w);
    kiln__json_end(w);
}
static void misuse_key_in_array(kiln__json_writer *w) {
    kiln__json_begin_array(w, KILN_JSON_LINES);
    kiln__json_key(w, "k");
    kiln__json_end(w);
}
static void misuse_key_twice(kiln__json_writer *w) {
    kiln__json_begin_object(w, KILN_JSON_LINES);
    kiln__json_key(w, "k");
    kiln__json_key(w, "l");
}
static void misuse_end_after_key(kiln__json_writer *w) {
    kiln__json_begin_object(w, KILN_JSON_LINES);
    kiln__json_key(w, "k");
    kiln__json_end(w);
}
static void misuse_two_values(kiln__json_writer *w) {
    kiln__json_put_null(w);
    kiln__json_put_null(w);
}
static void misuse_nothing(kiln__json_writer *w) {
    (void)w;
}
static void misuse_open(kiln__json_writer *w) {
    kiln__json_begin_array(w, KILN_JSON_LINES);
}
static void misuse_end(kiln__json_writer *w) {
    kiln__json_end(w);
}
static void misuse_deep(kiln__json_writer *w) {
    for (int i = 0; i <= KILN__JSON_NESTING; i++)
        kiln__json_begin_array(w, KILN_JSON_LINES);
    for (int i = 0; i <= KILN__JSON_NESTING; i++)
        kiln__json_end(w);
}

static void writer_misuse(void **state) {
    (void)state;
    static void (*const cases[])(kiln__json_writer *) = {misuse_value_without_key,
                                                         misuse_key_in_array,
                                                         misuse_key_twice,
                                                         misuse_end_after_key,
                                                         misuse_two_values,
                                                         misuse_nothing,
                                                         misuse_open,
                                                         misuse_end,
                                                         misuse_deep};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln__json_writer w;
        kiln_json_text text;
        kiln_error error = {0};
        kiln__json_writer_init(&w, NULL, false);
        cases[i](&w);
        assert_int_equal(kiln__json_writer_finish(&w, &text, &error), KILN_ERROR_ARGUMENT);
        assert_string_equal(error.text, "writing JSON: calls out of order or nested too deeply");
        assert_null(text.data);
    }
}

static void writer_deepest(void **state) {
    (void)state;
    kiln__json_writer w;
    kiln_json_text text;
    kiln__json_writer_init(&w, NULL, false);
    for (int i = 0; i < KILN__JSON_NESTING; i++)
        kiln__json_begin_array(&w, KILN_JSON_LINES);
    for (int i = 0; i < KILN__JSON_NESTING; i++)
        kiln__json_end(&w);
    assert_int_equal(kiln__json_writer_finish(&w, &text, NULL), KILN_OK);
    kiln__json_facts facts;
    assert_int_equal(kiln__json_scan(text.data, text.size, &caps, &facts, NULL), KILN_OK);
    assert_int_equal(facts.depth, KILN__JSON_NESTING);
    kiln_json_text_free(&text);
}

static kiln_status write_body(kiln_allocator allocator, void *context) {
    (void)context;
    kiln__json_writer w;
    kiln_json_text text;
    kiln__json_writer_init(&w, &allocator, false);
    kiln__json_begin_array(&w, KILN_JSON_LINES);
    for (int i = 0; i < 200; i++)
        kiln__json_put_i64(&w, i);
    kiln__json_end(&w);
    kiln_status status = kiln__json_writer_finish(&w, &text, NULL);
    assert_true((status == KILN_OK) == (text.data != NULL));
    kiln_json_text_free(&text);
    return status;
}

static void writer_faults(void **state) {
    (void)state;
    assert_true(fault_alloc_every("JSON writer", write_body, NULL) > 0);
}

/* ---- floats ----------------------------------------------------------------------------------------- */

static float f32_of(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static double f64_of(uint64_t bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

enum { BATCH = 4096 };

typedef struct batch {
    float f32[BATCH];
    double f64[BATCH];
    size_t n32, n64;
} batch;

/* Writes a batch, reads it, and compares bit by bit (any NaN for a NaN). */
static void check_batch(batch *b) {
    kiln__json_writer w;
    kiln_json_text text;
    kiln__json_doc doc;
    kiln_error error = {0};
    kiln__json_writer_init(&w, NULL, true);
    kiln__json_begin_array(&w, KILN_JSON_INLINE);
    for (size_t i = 0; i < b->n32; i++)
        kiln__json_put_f32(&w, b->f32[i]);
    for (size_t i = 0; i < b->n64; i++)
        kiln__json_put_f64(&w, b->f64[i]);
    kiln__json_end(&w);
    assert_int_equal(kiln__json_writer_finish(&w, &text, NULL), KILN_OK);
    if (kiln__json_open(&doc, text.data, text.size, &caps, NULL, &error) != KILN_OK)
        fail_msg("%s", error.text);
    kiln__json root = kiln__json_root(&doc);
    for (kiln__json v = kiln__json_first(&root); v.item != NULL; kiln__json_next(&v)) {
        if (v.index < b->n32) {
            float want = b->f32[v.index], got;
            assert_int_equal(kiln__json_get_f32(&v, &got, NULL), KILN_OK);
            if (memcmp(&got, &want, sizeof got) != 0 && !(isnan(got) && isnan(want)))
                fail_msg("float %.9g came back as %.9g", (double)want, (double)got);
        } else {
            double want = b->f64[v.index - b->n32], got;
            assert_int_equal(kiln__json_get_f64(&v, &got, NULL), KILN_OK);
            if (memcmp(&got, &want, sizeof got) != 0 && !(isnan(got) && isnan(want)))
                fail_msg("double %.17g came back as %.17g", want, got);
        }
    }
    kiln__json_close(&doc);
    kiln_json_text_free(&text);
    b->n32 = b->n64 = 0;
}

static void add_f32(batch *b, uint32_t bits) {
    b->f32[b->n32++] = f32_of(bits);
    if (b->n32 == BATCH)
        check_batch(b);
}

static void add_f64(batch *b, uint64_t bits) {
    b->f64[b->n64++] = f64_of(bits);
    if (b->n64 == BATCH)
        check_batch(b);
}

/* Every sign and exponent with edge mantissas, then random bits. */
static void round_trip_floats(size_t random) {
    static batch b;
    static const uint32_t mantissa32[] = {0,        1,        2,        0x7fffff, 0x7ffffe,
                                          0x400000, 0x3fffff, 0x2aaaaa, 0x555555};
    static const uint64_t mantissa64[] = {0, 1, 0xfffffffffffff, 0x8000000000000, 0x5555555555555};
    for (uint32_t e = 0; e < 512; e++) /* sign and exponent */
        for (size_t m = 0; m < sizeof mantissa32 / sizeof *mantissa32; m++)
            add_f32(&b, e << 23 | mantissa32[m]);
    for (uint64_t e = 0; e < 4096; e++)
        for (size_t m = 0; m < sizeof mantissa64 / sizeof *mantissa64; m++)
            add_f64(&b, e << 52 | mantissa64[m]);
    for (size_t i = 0; i < random; i++) {
        add_f32(&b, (uint32_t)(random_u64() >> 32));
        add_f64(&b, random_u64());
    }
    check_batch(&b);
}

static void floats_round_trip(void **state) {
    (void)state;
    round_trip_floats(100000);
}

static void floats_are_short(void **state) {
    (void)state;
    static const struct {
        double value;
        bool single;
        const char *text;
    } cases[] = {
        {0, true, "0"},
        {-0.0, true, "-0.0"},
        {1, true, "1"},
        {-2.5, true, "-2.5"},
        {0.1f, true, "0.1"},
        {0.1, false, "0.1"},
        {0.1f, false, "0.10000000149011612"},
        {10000, true, "10000"},
        {16777216, true, "16777216"},
        {1e-5f, true, "0.00001"},
        {1e-6f, true, "1e-6"},
        {1.5e-10f, true, "1.5e-10"},
        {3.4028234663852886e38, true, "3.4028235e38"},
        {1.401298464324817e-45, true, "1e-45"},
        {1e15, false, "1000000000000000"},
        {1e16, false, "1e16"},
        {123456789.125, false, "123456789.125"},
        {1.7976931348623157e308, false, "1.7976931348623157e308"},
        {5e-324, false, "5e-324"},
        {(double)INFINITY, true, "Infinity"},
        {-(double)INFINITY, false, "-Infinity"},
        {(double)NAN, true, "NaN"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[KILN__JSON_NUMBER_SIZE];
        size_t n = cases[i].single ? kiln__json_format_f32((float)cases[i].value, text)
                                   : kiln__json_format_f64(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(n, strlen(text));
    }
}

/* ---- locales ---------------------------------------------------------------------------------------- */

/* Sets a locale whose decimal separator is a comma: one of the machine's, or one made with localedef in a
 * temporary folder. */
static bool set_comma_locale(void) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE",
                                        "fr_FR.UTF-8", "fr_FR.utf8", "kiln_comma"};
    static const size_t n = sizeof names / sizeof *names;
    char folder[] = "/tmp/kiln-locale-XXXXXX", command[256];
    for (int attempt = 0; attempt < 2; attempt++) {
        for (size_t i = 0; i < n; i++)
            if (setlocale(LC_ALL, names[i]) != NULL && strcmp(localeconv()->decimal_point, ",") == 0)
                return true;
        if (attempt > 0 || mkdtemp(folder) == NULL)
            break;
        snprintf(command, sizeof command,
                 "localedef --no-archive -i de_DE -f UTF-8 %s/kiln_comma >/dev/null 2>&1", folder);
        if (system(command) != 0)
            print_message("localedef could not make one\n");
        setenv("LOCPATH", folder, 1);
    }
    return false;
}

static void remove_made_locale(void) {
    const char *folder = getenv("LOCPATH");
    char command[256];
    if (folder == NULL || strncmp(folder, "/tmp/kiln-locale-", 17) != 0)
        return;
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    if (system(command) != 0)
        print_message("could not remove %s\n", folder);
    unsetenv("LOCPATH");
}

static void locale_with_comma(void **state) {
    (void)state;
    bool set = set_comma_locale();
    char comma[8] = "";
    if (set) {
        snprintf(comma, sizeof comma, "%.1f", 0.5);
        round_trip_floats(1000);
        floats_are_short(state);
        writer_layout(state);
    }
    setlocale(LC_ALL, "C");
    remove_made_locale();
    if (!set) {
        print_message("skipped: no locale with a decimal comma, and none could be made\n");
        skip();
    }
    assert_string_equal(comma, "0,5"); /* the locale was really in force */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writer_layout),    cmocka_unit_test(writer_sink),
        cmocka_unit_test(writer_strings),   cmocka_unit_test(writer_integers),
        cmocka_unit_test(writer_misuse),    cmocka_unit_test(writer_deepest),
        cmocka_unit_test(writer_faults),    cmocka_unit_test(floats_round_trip),
        cmocka_unit_test(floats_are_short), cmocka_unit_test(locale_with_comma),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
