/* Graphs as JSON: the same bytes after a round trip, damaged texts, failing allocations. The ops are these
 * tests' own; Kiln's are in test_graph_json_ops.c. */
#include "tests/graph/graph_json_case.h"
#include "tests/support/fault_alloc.h"

#include <math.h>

/* ---- round trips ------------------------------------------------------------------------------------ */

static void small_text(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    build_small(g);
    check_built(g);
    kiln_json_text text = dump(g, false);
    assert_string_equal(text.data, small);
    kiln_json_text_free(&text);
    check_round_trip(g);
    kiln_graph_destroy(g);
}

static void empty_graph(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_json_text text = dump(g, true);
    assert_string_equal(text.data, "{\"format\":\"kiln.graph\",\"version\":1,\"slots\":[],\"storages\":[],"
                                   "\"tensors\":[],\"nodes\":[]}");
    kiln_json_text_free(&text);
    check_round_trip(g);
    kiln_graph_destroy(g);
}

/* Views, odd names, every dtype and storage kind, wide slots, unusual floats. */
static void varied_graph(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_slot n = kiln_slot_i64(g, "n \"quoted\" \xc3\xa9\n", 0, 16);
    kiln_slot_i64(g, "wide", INT64_MIN, INT64_MAX);
    kiln_slot_f32(g, "nan", NAN);
    kiln_slot_f32(g, "inf", -INFINITY);
    kiln_slot_f32(g, "tiny", 1.4e-45f);
    for (int d = 1; d < KILN_DTYPE_COUNT; d++) {
        char name[32];
        snprintf(name, sizeof name, "w.%s", kiln_dtype_get((kiln_dtype)d)->name);
        kiln_weight(g, name, (kiln_dtype)d, KILN_SHAPE(kiln_n(3), kiln_n(256)));
    }
    kiln_tensor s = kiln_state(g, "state", KILN_F16, KILN_SHAPE(kiln_n(16), kiln_n(4), kiln_n(8)));
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym_times(n, 2), kiln_n(8)));
    kiln_tensor v = kiln_slice(g, s, 1, 1, kiln_n(2));
    kiln_name(g, v, "a view");
    kiln_permute(g, v, (uint32_t[]){1, 0, 2});
    kiln_broadcast(g, kiln_reshape(g, x, KILN_SHAPE(kiln_sym_times(n, 2), kiln_n(1), kiln_n(8))),
                   KILN_SHAPE(kiln_sym_times(n, 2), kiln_n(5), kiln_n(8)));
    kiln_weight(g, "empty", KILN_F32, KILN_SHAPE(kiln_n(0), kiln_n(7)));
    kiln_storage_add(g, KILN_STORAGE_WEIGHT, "huge", INT64_MAX);
    kiln_storage arena = kiln_storage_add(g, KILN_STORAGE_ARENA, NULL, 256);
    kiln_tensor t =
        kiln_tensor_at(g, arena, 64, KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(3)), (int64_t[]){64, 4});
    t = add_node(g, &op_clear, t, (kiln_tensor){0, 0}, NULL);
    t = add_node(g, &op_blind, t, (kiln_tensor){0, 0}, NULL);
    kiln_output(g, t, "out");
    many_attrs attrs;
    kiln_op_defaults(&op_many, &attrs);
    attrs.no_flag = 1;
    attrs.mode = 1;
    attrs.eps = 1e-6f;
    attrs.weight = kiln_f32_const(-INFINITY);
    attrs.any = 9007199254740993;
    kiln_tensor out[2], in[3] = {x, {0, 0}, x};
    assert_int_equal(kiln_node_add(g, &op_many, in, 3, &attrs, out), KILN_OK);
    check_built(g);
    check_round_trip(g);
    kiln_json_text text = dump(g, false);
    assert_non_null(strstr(text.data, "\"inputs\": [17, null, 17]"));
    assert_non_null(strstr(text.data, "\"weight\": \"-Infinity\", \"any\": \"9007199254740993\""));
    assert_non_null(strstr(text.data, "{\"n\": 2, \"slot\": \"n \\\"quoted\\\" \xc3\xa9\\n\"}"));
    kiln_json_text_free(&text);
    kiln_graph_destroy(g);
}

/* What a text leaves out is the op's default; keys may stand in any order, numbers in any form. */
static void other_spellings(void **state) {
    (void)state;
    static const char text[] =
        "{\"nodes\":[{\"outputs\":[2,3],\"inputs\":[1.0],\"op\":\"many\",\"attrs\":{\"eps\":25E-2,\"k\":"
        "\"3\"}}],"
        "\"tensors\":[{\"id\":1,\"dtype\":\"f32\",\"shape\":[8],\"storage\":1,\"offset\":0,\"strides\":[4]},"
        "{\"id\":2,\"dtype\":\"f32\",\"shape\":[8],\"storage\":2},{\"id\":3,\"dtype\":\"f32\",\"shape\":[8],"
        "\"storage\":3}],\"storages\":[{\"id\":1,\"name\":\"\\u0078\",\"kind\":\"input\",\"size\":3.2e1},"
        "{\"id\":2,\"kind\":\"arena\",\"size\":32},{\"id\":3,\"kind\":\"arena\",\"size\":32}],\"slots\":[],"
        "\"version\":1,\"format\":\"kiln.graph\"}";
    kiln_graph *g;
    kiln_error error = {0};
    if (load(text, strlen(text), NULL, &g, &error) != KILN_OK)
        fail_msg("%s", error.text);
    kiln_json_text again = dump(g, true);
    assert_string_equal(
        again.data,
        "{\"format\":\"kiln.graph\",\"version\":1,\"slots\":[],\"storages\":[{\"id\":1,\"name\":\"x\","
        "\"kind\":"
        "\"input\",\"size\":32},{\"id\":2,\"kind\":\"arena\",\"size\":32},{\"id\":3,\"kind\":\"arena\","
        "\"size\":32}],"
        "\"tensors\":[{\"id\":1,\"dtype\":\"f32\",\"shape\":[8],\"storage\":1},{\"id\":2,\"dtype\":\"f32\","
        "\"shape\":"
        "[8],\"storage\":2},{\"id\":3,\"dtype\":\"f32\",\"shape\":[8],\"storage\":3}],\"nodes\":[{\"op\":"
        "\"many\","
        "\"inputs\":[1],\"outputs\":[2,3],\"attrs\":{\"flag\":true,\"mode\":\"slow\",\"k\":3,\"eps\":0.25,"
        "\"position\":0,\"weight\":1,\"any\":0}}]}");
    kiln_json_text_free(&again);
    kiln_graph_destroy(g);
}

static void plan_dump(void **state) {
    (void)state;
    char text[8192];
    snprintf(text, sizeof text,
             "{\"regions\": [{\"a\": 1}], \"graph\": %s, \"format\": \"kiln.plan\", \"version\": 1}", small);
    kiln_graph *g;
    kiln_error error = {0};
    if (load(text, strlen(text), NULL, &g, &error) != KILN_OK)
        fail_msg("%s", error.text);
    kiln_json_text again = dump(g, false);
    assert_string_equal(again.data, small);
    kiln_json_text_free(&again);

    kiln__json_writer w; /* a plan dump nests the graph with the same writer */
    kiln__json_writer_init(&w, NULL, false);
    kiln__json_begin_object(&w, KILN_JSON_LINES);
    kiln__json_key(&w, "format");
    kiln__json_put_cstring(&w, "kiln.plan");
    kiln__json_key(&w, "version");
    kiln__json_put_i64(&w, 1);
    kiln__json_key(&w, "graph");
    assert_int_equal(kiln__graph_put_json(&w, g, NULL), KILN_OK);
    kiln__json_end(&w);
    assert_int_equal(kiln__json_writer_finish(&w, &again, NULL), KILN_OK);
    kiln_graph_destroy(g);
    assert_non_null(strstr(again.data, "    \"slots\": [\n      {\"name\": \"n\""));
    assert_int_equal(load(again.data, again.size, NULL, &g, NULL), KILN_OK);
    kiln_json_text_free(&again);
    again = dump(g, false);
    assert_string_equal(again.data, small);
    kiln_json_text_free(&again);
    kiln_graph_destroy(g);
}

static void caps_and_arguments(void **state) {
    (void)state;
    static const struct {
        kiln_json_limits limits;
        const char *error;
    } cases[] = {
        {{.bytes = sizeof small - 2}, NULL},
        {{.depth = 4}, "JSON, line 21, column 142 (byte 865): more than 4 levels of arrays and objects"},
        {{.values = 10}, NULL},
        {{.slots = 1}, "$.slots: 2 elements; the cap is 1"},
        {{.storages = 3}, "$.storages: 4 elements; the cap is 3"},
        {{.tensors = 3}, "$.tensors: 4 elements; the cap is 3"},
        {{.nodes = 1}, "$.nodes: 2 elements; the cap is 1"},
    };
    kiln_graph *g;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln_error error = {0};
        assert_int_equal(load(small, strlen(small), &cases[i].limits, &g, &error), KILN_ERROR_LIMIT);
        if (cases[i].error != NULL)
            assert_string_equal(error.text, cases[i].error);
    }
    kiln_json_limits exact = {
        .bytes = sizeof small - 1, .depth = 5, .slots = 2, .storages = 4, .tensors = 4, .nodes = 2};
    assert_int_equal(load(small, strlen(small), &exact, &g, NULL), KILN_OK);
    kiln_json_text text;
    kiln_error error = {0};
    assert_int_equal(kiln_graph_to_json(g, NULL, NULL, &error), KILN_ERROR_ARGUMENT);
    assert_string_equal(error.text, "kiln_graph_to_json: out is NULL");
    assert_int_equal(kiln_graph_to_json(NULL, NULL, &text, &error), KILN_ERROR_ARGUMENT);
    assert_null(text.data);
    assert_int_equal(kiln_graph_to_json_sink(g, NULL, NULL, NULL, &error), KILN_ERROR_ARGUMENT);
    assert_string_equal(error.text, "kiln_graph_to_json_sink: sink is NULL");
    (void)kiln_slot_i64(g, "n", 0, 1); /* a graph that has failed is not written */
    assert_int_equal(kiln_graph_to_json(g, NULL, &text, &error), KILN_ERROR_ARGUMENT);
    assert_string_equal(error.text, "slot name 'n' is taken already");
    kiln_graph_destroy(g);
    assert_int_equal(kiln_graph_from_json(NULL, 1, ops, NULL, NULL, &g, &error), KILN_ERROR_ARGUMENT);
    assert_string_equal(error.text, "kiln_graph_from_json: text is NULL");
    assert_int_equal(kiln_graph_from_json(small, 1, ops, NULL, NULL, NULL, &error), KILN_ERROR_ARGUMENT);
    assert_string_equal(error.text, "kiln_graph_from_json: out is NULL");
    assert_int_equal(load("[]", 2, NULL, &g, &error), KILN_ERROR_FORMAT);
    assert_string_equal(error.text, "$: expected an object, got an array");
}

static void unnamed_enum(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(8)));
    many_attrs attrs;
    kiln_op_defaults(&op_many, &attrs);
    attrs.mode = 2; /* within n_names, but without a name */
    add_node(g, &op_many, x, (kiln_tensor){0, 0}, &attrs);
    kiln_json_text text;
    kiln_error error = {0};
    assert_int_equal(kiln_graph_to_json(g, NULL, &text, &error), KILN_ERROR_ARGUMENT);
    assert_string_equal(error.text, "node 'many.0' (many): the value of attribute mode has no name");
    assert_null(text.data);
    kiln_graph_destroy(g);
}

typedef struct collected {
    char bytes[4096];
    size_t used, limit;
} collected;

static bool collect(void *context, const char *data, size_t size) {
    collected *c = context;
    if (c->used + size > c->limit)
        return false;
    memcpy(c->bytes + c->used, data, size);
    c->used += size;
    return true;
}

static void sink(void **state) {
    (void)state;
    kiln_graph *g;
    assert_int_equal(load(small, strlen(small), NULL, &g, NULL), KILN_OK);
    static collected c;
    c.limit = sizeof c.bytes;
    assert_int_equal(kiln_graph_to_json_sink(g, NULL, collect, &c, NULL), KILN_OK);
    assert_int_equal(c.used, strlen(small));
    assert_memory_equal(c.bytes, small, c.used);
    c.used = 0;
    c.limit = 500; /* the first piece is larger */
    assert_int_equal(kiln_graph_to_json_sink(g, NULL, collect, &c, NULL), KILN_ERROR_CANCELLED);
    assert_int_equal(c.used, 0);
    kiln_graph_destroy(g);
}

/* ---- damage ----------------------------------------------------------------------------------------- */

static void truncations(void **state) {
    (void)state;
    size_t size = strlen(small);
    for (size_t cut = 0; cut < size - 1; cut++) { /* the last byte is a line break */
        kiln_graph *g;
        kiln_error error = {0};
        assert_int_equal(load(small, cut, NULL, &g, &error), KILN_ERROR_FORMAT);
        assert_true(error.text[0] != '\0');
    }
    print_message("%zu truncations\n", size - 1);
}

static void mutations(void **state) {
    (void)state;
    static const unsigned char bytes[] = "\0\x01 \n\"\\,:[]{}019-.eEntx\x7f\x80\xc3\xff";
    size_t size = strlen(small), loaded = 0, total = 0;
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t at = 0; at < size; at++)
        for (size_t b = 0; b < sizeof bytes - 1; b++, total++) {
            memcpy(text, small, size);
            text[at] = (char)bytes[b];
            kiln_graph *g;
            kiln_error error = {0};
            kiln_status status = load(text, size, NULL, &g, &error);
            if (status == KILN_OK) {
                loaded++;
                check_round_trip(g);
                kiln_graph_destroy(g);
            } else {
                assert_true(error.status == status && error.text[0] != '\0');
            }
        }
    free(text);
    print_message("%zu mutations, %zu of them still a graph\n", total, loaded);
}

/* ---- failing allocations ---------------------------------------------------------------------------- */

/* A count beyond what a double holds, which no slot of that name may take for itself. */
static void large_counts(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    (void)kiln_slot_i64(g, "1152921504606846976", 0, 3);
    (void)kiln_input(g, "x", KILN_U8, KILN_SHAPE(kiln_n(INT64_C(1) << 60), kiln_n(1)));
    check_round_trip(g);
    kiln_json_text text = dump(g, false);
    assert_non_null(strstr(text.data, "\"shape\": [{\"n\": \"1152921504606846976\"}, 1]"));
    kiln_json_text_free(&text);
    kiln_graph_destroy(g);
}

static kiln_status round_trip_body(kiln_allocator allocator, void *context) {
    (void)context;
    kiln_graph *g;
    kiln_json_text text;
    kiln_status status = kiln_graph_from_json(small, strlen(small), ops, NULL, &allocator, &g, NULL);
    if (status != KILN_OK)
        return status;
    status = kiln_graph_to_json(g, &(kiln_json_options){.allocator = allocator}, &text, NULL);
    kiln_graph_destroy(g);
    if (status == KILN_OK)
        assert_string_equal(text.data, small);
    kiln_json_text_free(&text);
    return status;
}

static void kiln_faults(void **state) {
    (void)state;
    assert_true(fault_alloc_every("graph JSON, Kiln's allocator", round_trip_body, NULL) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_text),
        cmocka_unit_test(empty_graph),
        cmocka_unit_test(large_counts),
        cmocka_unit_test(varied_graph),
        cmocka_unit_test(other_spellings),
        cmocka_unit_test(plan_dump),
        cmocka_unit_test(caps_and_arguments),
        cmocka_unit_test(unnamed_enum),
        cmocka_unit_test(sink),
        cmocka_unit_test(truncations),
        cmocka_unit_test(mutations),
        cmocka_unit_test(kiln_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
