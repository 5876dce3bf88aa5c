/* Dumps that another program reads and writes again: every value is the same afterwards, or Kiln refuses the
 * text. cJSON is tried here. For other programs (test_json_libraries.sh):
 *     test_json_rewritten --write FOLDER          writes values.json and plan.json
 *     test_json_rewritten --judge NAME FOLDER     says how values.out and plan.out compare with them
 */
#include "kiln.h"
#include "check.h"
#include "every_op.h"
#include "graph_json.h"
#include "testdata.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- values ----------------------------------------------------------------------------------------- */

typedef enum value_kind { INTEGER, FLOAT, NAME, KINDS } value_kind;

static const char *const kind_names[KINDS] = {"integers", "floats", "names"};

/* Each value is a separate graph with one slot, so that one that is refused hides no other. */
typedef struct value {
    value_kind kind;
    int64_t integer;
    float number;
    const char *name;
} value;

static const int64_t integers[] = {
    0,
    1,
    -1,
    64,
    1000000,
    INT32_MAX,
    (int64_t)INT32_MAX + 1,
    INT32_MIN,
    (int64_t)INT32_MIN - 1,
    UINT32_MAX,
    (int64_t)UINT32_MAX + 1,
    99999999999999,
    100000000000000,
    123456789012345,
    999999999999999,
    1000000000000000,
    1234567890123456,
    4503599627370495,
    -4503599627370495,
    4503599627370496,
    4503599627370499,
    9007199254740991,
    -9007199254740991,
    9007199254740992,
    9007199254740993,
    999999999999999999,
    1000000000000000001,
    INT64_MAX,
    INT64_MAX - 1,
    INT64_MIN,
};

static const float numbers[] = {
    0.0f,
    -0.0f,
    1.0f,
    -1.0f,
    0.1f,
    0.5f,
    1e-5f,
    1e-6f,
    16777216.0f,
    16777217.0f,
    1e10f,
    -1e15f,
    1e16f,
    1e20f,
    1e21f,
    3.4028235e38f,
    -3.4028235e38f,
    1.17549435e-38f,
    1e-38f,
    1.4e-45f,
    -1.4e-45f,
    0.333333343f,
    123456.789f,
    2147483648.0f,
    9007199254740992.0f,
    9.2233720e18f,
};

static const char *const names[] = {
    "x",
    "blk.0/attn q",
    "\"quoted\" \\ and /",
    "\b\f\n\r\t\x01\x1f\x7f",
    "\xc3\xa9\xe2\x82\xac",
    "\xf0\x9f\x98\x80",
    "\xe2\x80\xa8\xe2\x80\xa9",
    "\xef\xbb\xbfx",
    "\xef\xbf\xbf",
    "NaN",
    "null",
    "true",
    "-0.0",
    "12345678901234567890",
    "1e5",
    "</script>&amp;",
};

enum {
    N_INTEGERS = sizeof integers / sizeof *integers,
    N_NUMBERS = sizeof numbers / sizeof *numbers,
    N_NAMES = sizeof names / sizeof *names,
    N_RANDOM = 400, /* of integers, and of floats */
    N_VALUES = N_INTEGERS + N_NUMBERS + 3 + N_NAMES + 2 * N_RANDOM
};

/* The same numbers in every process. */
static uint64_t next_random(uint64_t *state) {
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = (*state ^ (*state >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Integers of every length in bits, floats of every exponent. */
static value random_value(value_kind kind, uint64_t *state) {
    uint64_t bits = next_random(state);
    int64_t magnitude = (int64_t)(next_random(state) >> 1 >> (bits % 63));
    value v = {kind, bits >> 63 ? -magnitude : magnitude, 0, NULL};
    uint32_t pattern = (uint32_t)bits;
    /* Without NaN and the infinities. */
    if ((pattern & 0x7f800000u) == 0x7f800000u)
        pattern &= 0xbfffffffu;
    memcpy(&v.number, &pattern, sizeof pattern);
    return v;
}

static void make_values(value values[N_VALUES]) {
    size_t n = 0;
    uint64_t state = 1;
    for (size_t i = 0; i < N_INTEGERS; i++)
        values[n++] = (value){INTEGER, integers[i], 0, NULL};
    for (size_t i = 0; i < N_NUMBERS; i++)
        values[n++] = (value){FLOAT, 0, numbers[i], NULL};
    values[n++] = (value){FLOAT, 0, NAN, NULL};
    values[n++] = (value){FLOAT, 0, INFINITY, NULL};
    values[n++] = (value){FLOAT, 0, -INFINITY, NULL};
    for (size_t i = 0; i < N_NAMES; i++)
        values[n++] = (value){NAME, 0, 0, names[i]};
    for (size_t i = 0; i < N_RANDOM; i++) {
        values[n++] = random_value(INTEGER, &state);
        values[n++] = random_value(FLOAT, &state);
    }
    assert_int_equal(n, N_VALUES);
}

static kiln_graph *graph_of(const value *v) {
    kiln_graph *g;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    if (v->kind == FLOAT)
        (void)kiln_slot_f32(g, "s", v->number);
    else
        (void)kiln_slot_i64(g, v->kind == NAME ? v->name : "s", v->integer, v->integer);
    /* Programs in Lua write an empty list as an empty object: no list is empty here. */
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1)));
    kiln_output(g, kiln_silu(g, x), "y");
    CHECK_OK(kiln_graph_check(g, error));
    return g;
}

/* All of them as one array. */
static kiln_json_text write_values(const value values[N_VALUES]) {
    kiln__json_writer w;
    kiln_json_text text;
    kiln__json_writer_init(&w, NULL, false);
    kiln__json_begin_array(&w, KILN_JSON_LINES);
    for (size_t i = 0; i < N_VALUES; i++) {
        kiln_graph *g = graph_of(&values[i]);
        CHECK_OK(kiln__graph_put_json(&w, g, error));
        kiln_graph_destroy(g);
    }
    kiln__json_end(&w);
    CHECK_OK(kiln__json_writer_finish(&w, &text, error));
    return text;
}

static kiln_json_text write_plan(void) {
    kiln_graph *g = every_op_graph();
    kiln_plan *plan;
    kiln_json_text text;
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_plan_to_json(plan, NULL, NULL, &text, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    return text;
}

/* ---- the verdict ------------------------------------------------------------------------------------ */

typedef struct verdict {
    size_t same, refused[KINDS], changed[KINDS];
    char first_refused[KILN_ERROR_TEXT_SIZE], first_changed[128];
} verdict;

static void note_changed(verdict *out, const value *v, const kiln__json *now) {
    char shown[KILN__JSON_QUOTE_SIZE];
    kiln__json slots = kiln__json_member(now, "slots"), slot = kiln__json_first(&slots);
    const char *key = v->kind == FLOAT ? "preset" : v->kind == NAME ? "name" : "min";
    kiln__json is = kiln__json_member(&slot, key);
    if (out->changed[v->kind]++ == 0 && out->first_changed[0] == '\0')
        snprintf(out->first_changed, sizeof out->first_changed, "%" PRId64 ", %.9g, \"%.20s\" is now %s",
                 v->integer, (double)v->number, v->name ? v->name : "", kiln__json_show(&is, shown));
}

static void judge_value(verdict *out, const value *v, const kiln__json *now) {
    kiln_error error = {0};
    kiln_graph *before = graph_of(v), *after;
    kiln_json_limits limits = kiln__json_limits_resolve(NULL);
    if (kiln__graph_get_json(now, kiln_ops_builtin(), &limits, NULL, &after, &error) != KILN_OK) {
        if (out->first_refused[0] == '\0')
            snprintf(out->first_refused, sizeof out->first_refused, "%s", error.text);
        out->refused[v->kind]++;
    } else {
        kiln_fingerprint a = kiln_graph_fingerprint(before), b = kiln_graph_fingerprint(after);
        if (a.low == b.low && a.high == b.high)
            out->same++;
        else
            note_changed(out, v, now);
    }
    kiln_graph_destroy(after);
    kiln_graph_destroy(before);
}

/* False when the text is not JSON or lacks values: all of it is refused. */
static bool judge_values(const char *text, size_t size, const value values[N_VALUES], verdict *out) {
    kiln_error error = {0};
    kiln__json_doc doc;
    kiln_json_limits limits = kiln__json_limits_resolve(NULL);
    kiln__json_caps caps = kiln__json_limits_caps(&limits);
    size_t n = 0;
    memset(out, 0, sizeof *out);
    kiln_status status = kiln__json_open(&doc, text, size, &caps, NULL, &error);
    if (status == KILN_OK) {
        kiln__json root = kiln__json_root(&doc);
        status = kiln__json_count(&root, N_VALUES, N_VALUES, &n, &error);
        if (status == KILN_OK)
            for (kiln__json v = kiln__json_first(&root); v.item != NULL; kiln__json_next(&v))
                judge_value(out, &values[v.index], &v);
        kiln__json_close(&doc);
    }
    snprintf(status == KILN_OK ? error.text : out->first_refused, sizeof error.text, "%s", error.text);
    return status == KILN_OK;
}

static size_t sum(const size_t counts[KINDS]) {
    size_t n = 0;
    for (int i = 0; i < KINDS; i++)
        n += counts[i];
    return n;
}

static void print_counts(const char *what, const size_t counts[KINDS]) {
    for (int i = 0; i < KINDS; i++)
        if (counts[i] > 0)
            printf(", %zu %s %s", counts[i], kind_names[i], what);
}

/* A row of the table; false when a value was changed and nothing shows it. */
static bool report(const char *name, bool read, const verdict *v, kiln_status plan, const char *plan_text) {
    bool changed = sum(v->changed) > 0;
    printf("%-24s ", name);
    if (!read)
        printf("the text is refused");
    else
        printf("%zu values the same", v->same);
    print_counts("refused", v->refused);
    print_counts("CHANGED", v->changed);
    printf("; plan %s\n", plan == KILN_OK ? "the same" : plan == KILN_ERROR_STALE ? "CHANGED" : "refused");
    if (v->first_refused[0] != '\0')
        printf("%26srefused: %s\n", "", v->first_refused);
    if (changed)
        printf("%26schanged: %s\n", "", v->first_changed);
    if (plan != KILN_OK)
        printf("%26splan: %s\n", "", plan_text);
    return !changed && plan != KILN_ERROR_STALE;
}

static bool judge_texts(const char *name, const char *values_text, size_t values_size, const char *plan_text,
                        size_t plan_size) {
    static value values[N_VALUES];
    verdict v;
    kiln_error error = {0};
    make_values(values);
    bool read = judge_values(values_text, values_size, values, &v);
    kiln_status plan = kiln_plan_check_json(plan_text, plan_size, kiln_ops_builtin(), NULL, NULL, &error);
    return report(name, read, &v, plan, error.text);
}

/* ---- cJSON ------------------------------------------------------------------------------------------ */

static char *reprinted(const char *text, bool formatted) {
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    char *again = formatted ? cJSON_Print(json) : cJSON_PrintUnformatted(json);
    assert_non_null(again);
    cJSON_Delete(json);
    return again;
}

static void cjson_reprints(void **state) {
    (void)state;
    static value all[N_VALUES];
    make_values(all);
    kiln_json_text values = write_values(all), plan = write_plan();
    assert_true(judge_texts("Kiln itself", values.data, values.size, plan.data, plan.size));
    for (int formatted = 0; formatted < 2; formatted++) {
        char *a = reprinted(values.data, formatted), *b = reprinted(plan.data, formatted);
        assert_true(
            judge_texts(formatted ? "cJSON_Print" : "cJSON_PrintUnformatted", a, strlen(a), b, strlen(b)));
        free(a);
        free(b);
    }
    kiln_json_text_free(&values);
    kiln_json_text_free(&plan);
}

/* The judge notices: one value is replaced by its neighbour, one by what is refused. */
static void judge_notices(void **state) {
    (void)state;
    static value all[N_VALUES];
    verdict v;
    make_values(all);
    kiln_json_text values = write_values(all);
    char *at = strstr(values.data, "\"preset\": 0.1}");
    assert_non_null(at);
    memcpy(at, "\"preset\": 0.2}", 14);
    at = strstr(values.data, "\"min\": 64,");
    assert_non_null(at);
    memcpy(at, "\"min\": 6.,", 10);
    assert_false(judge_values(values.data, values.size, all, &v));
    memcpy(at, "\"min\":6.5,", 10);
    assert_true(judge_values(values.data, values.size, all, &v));
    assert_int_equal(v.changed[FLOAT], 1);
    assert_int_equal(v.refused[INTEGER], 1);
    assert_int_equal(v.same, N_VALUES - 2);
    kiln_json_text_free(&values);
}

/* ---- other programs --------------------------------------------------------------------------------- */

static int write_file(const char *folder, const char *name, const kiln_json_text *text) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    bool good = f != NULL && fwrite(text->data, 1, text->size, f) == text->size;
    good = f != NULL && fclose(f) == 0 && good;
    if (!good)
        fprintf(stderr, "cannot write %s\n", path);
    return good ? 0 : 1;
}

static int write_files(const char *folder) {
    static value all[N_VALUES];
    make_values(all);
    kiln_json_text values = write_values(all), plan = write_plan();
    int code = write_file(folder, "values.json", &values) | write_file(folder, "plan.json", &plan);
    kiln_json_text_free(&values);
    kiln_json_text_free(&plan);
    return code;
}

static int judge_files(const char *name, const char *folder) {
    char path[1024];
    size_t values_size, plan_size;
    snprintf(path, sizeof path, "%s/values.out", folder);
    char *values = testdata_read_path(path, &values_size);
    snprintf(path, sizeof path, "%s/plan.out", folder);
    char *plan = testdata_read_path(path, &plan_size);
    int code = 1;
    if (values == NULL || plan == NULL)
        fprintf(stderr, "%s: no values.out or plan.out in %s\n", name, folder);
    else
        code = judge_texts(name, values, values_size, plan, plan_size) ? 0 : 1;
    free(values);
    free(plan);
    return code;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return write_files(argv[2]);
    if (argc == 4 && strcmp(argv[1], "--judge") == 0)
        return judge_files(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(cjson_reprints), cmocka_unit_test(judge_notices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
