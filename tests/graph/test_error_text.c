/* Texts of errors: whatever bytes names, paths and files bring, a text can be printed and put into JSON. */
#include "check.h"
#include "json_scan.h"
#include "kiln.h"

static const char *said(kiln_error *error, const char *text) {
    kiln_error_set(error, KILN_ERROR_FORMAT, "name '%s'", text);
    return error->text;
}

static void assert_clean(const char *text) {
    const size_t size = strlen(text);
    for (size_t at = 0, n; at < size; at += n) {
        const unsigned char c = (unsigned char)text[at];
        n = kiln__utf8_length(text + at, size - at);
        assert_true(n > 0);
        assert_true(c >= 0x20 && c != 0x7f);
        assert_false(c == 0xc2 && (unsigned char)text[at + 1] < 0xa0);
    }
}

static void what_is_not_plain_is_escaped(void **unused) {
    (void)unused;
    kiln_error e;
    assert_string_equal(said(&e, "plain, \\ and caf\xc3\xa9"), "name 'plain, \\ and caf\xc3\xa9'");
    assert_string_equal(said(&e, "\x1b[31mred\n\t"), "name '\\x1b[31mred\\x0a\\x09'");
    assert_string_equal(said(&e, "\x7f"), "name '\\x7f'");
    assert_string_equal(said(&e, "\xc2\x9b"
                                 "31m"),
                        "name '\\xc2\\x9b31m'"); /* CSI, a control character of U+0080 on */
    assert_string_equal(said(&e, "\xc2\xa0"), "name '\xc2\xa0'");
    assert_string_equal(said(&e, "\xff\xfe"), "name '\\xff\\xfe'");
    assert_string_equal(said(&e, "\xe2\x96"), "name '\\xe2\\x96'");          /* half of U+2581 */
    assert_string_equal(said(&e, "\xed\xa0\x80"), "name '\\xed\\xa0\\x80'"); /* a surrogate */
    assert_string_equal(said(&e, "\xf0\x9f\x8d\x8e"), "name '\xf0\x9f\x8d\x8e'");
}

/* A text that is too long ends in "...", in front of the character or escape that does not fit. */
static void long_texts_are_cut_between_characters(void **unused) {
    (void)unused;
    static const char *const tails[] = {"x", "\xc3\xa9", "\xe2\x96\x81", "\xf0\x9f\x8d\x8e", "\x01", "\xff"};
    char text[2 * KILN_ERROR_TEXT_SIZE];
    kiln_error e;
    for (size_t t = 0; t < sizeof tails / sizeof tails[0]; t++)
        for (size_t head = KILN_ERROR_TEXT_SIZE - 20; head < KILN_ERROR_TEXT_SIZE + 4; head++) {
            memset(text, 'a', head);
            text[head] = '\0';
            for (int k = 0; k < 8; k++)
                strcat(text, tails[t]);
            kiln_error_set(&e, KILN_ERROR_FORMAT, "%s", text);
            const size_t shown = strlen(e.text), wide = t < 4 ? strlen(tails[t]) : 4;
            assert_clean(e.text);
            assert_true(shown < KILN_ERROR_TEXT_SIZE);
            if (head + 8 * wide < KILN_ERROR_TEXT_SIZE) {
                assert_int_equal(shown, head + 8 * wide);
            } else {
                assert_string_equal(e.text + shown - 3, "...");
                assert_true(shown + wide + 3 >= KILN_ERROR_TEXT_SIZE);
            }
        }
}

static void any_bytes(void **unused) {
    (void)unused;
    uint64_t state = 88172645463325252u; /* xorshift64 (Marsaglia, 2003) */
    char text[700];
    kiln_error e;
    for (int i = 0; i < 20000; i++) {
        size_t n = 0;
        do {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            const uint32_t kind = (uint32_t)(state >> 60);
            text[n] = (char)(kind < 4 ? 'a' : kind < 8 ? 0x80 + (state >> 32) % 64 : 1 + (state >> 32) % 255);
        } while (++n < (size_t)(state >> 8) % 699 + 1 && n < sizeof text - 1);
        text[n] = '\0';
        assert_clean(said(&e, text));
    }
}

/* Through a public call: a name that a caller gives, and one that a file gives. */
static void names_of_callers(void **unused) {
    (void)unused;
    kiln_graph *g;
    kiln_error e = {KILN_OK, ""};
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_input(g, "a\x1b[2J", KILN_F32, 1, (kiln_dim[]){kiln_n(1)});
    kiln_input(g, "a\x1b[2J", KILN_F32, 1, (kiln_dim[]){kiln_n(1)});
    assert_int_equal(kiln_graph_check(g, &e), KILN_ERROR_ARGUMENT);
    assert_non_null(strstr(e.text, "a\\x1b[2J"));
    assert_clean(e.text);
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_plain_is_escaped),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(any_bytes),
        cmocka_unit_test(names_of_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
