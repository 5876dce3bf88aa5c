/* Every way in which a graph's JSON is refused, with the exact message. */
#include "tests/graph/graph_json_case.h"

#define ELLIPSIS "\xe2\x80\xa6"

/* ---- refusals --------------------------------------------------------------------------------------- */

/* Each: in the small graph's text, `find` becomes `put`. */
static const struct {
    const char *find, *put, *error;
    kiln_status status;
} refusals[] = {
    {"  \"version\"", "  version", "JSON, line 3, column 3 (byte 30): expected a key, got 'v'",
     KILN_ERROR_FORMAT},
    {"\"kiln.graph\"", "\"kiln.grap\"", "$.format: expected one of kiln.graph, kiln.plan, got \"kiln.grap\"",
     KILN_ERROR_FORMAT},
    {"\"format\"", "\"form\"", "$: key \"format\" is missing", KILN_ERROR_FORMAT},
    {"\"version\": 1,", "", "$: key \"version\" is missing", KILN_ERROR_FORMAT},
    {"\"version\": 1", "\"version\": 3", "$.version: version 3; this library reads versions 1 to 2",
     KILN_ERROR_UNSUPPORTED},
    {"\"version\": 1", "\"version\": \"one\"", "$.version: expected an integer from 1 up, got \"one\"",
     KILN_ERROR_FORMAT},
    {"\"version\": 1,", "\"version\": 1, \"extra\": 1,",
     "$.extra: unknown key (known here: format, version, slots, storages, tensors, nodes)",
     KILN_ERROR_FORMAT},
    {"\"version\": 1,", "\"version\": 1, \"version\": 1,", "$.version: duplicate key", KILN_ERROR_FORMAT},
    {"\"kiln.graph\"", "\"kiln.plan\"", "$: key \"graph\" is missing", KILN_ERROR_FORMAT},
    /* slots */
    {"\"slots\"", "\"slot\"",
     "$.slot: unknown key (known here: format, version, slots, storages, tensors, nodes)", KILN_ERROR_FORMAT},
    {"\"name\": \"n\", \"type\"", "\"type\"", "$.slots[0]: key \"name\" is missing", KILN_ERROR_FORMAT},
    {"\"name\": \"n\",", "\"name\": \"\",", "$.slots[0].name: expected a name, got \"\"", KILN_ERROR_FORMAT},
    {"\"alpha\", \"type\"", "\"n\", \"type\"", "$.slots[1]: slot name 'n' is taken already",
     KILN_ERROR_ARGUMENT},
    {"\"f32\", \"preset\"", "\"i32\", \"preset\"", "$.slots[1].type: expected one of i64, f32, got \"i32\"",
     KILN_ERROR_FORMAT},
    {"\"max\": 4", "\"preset\": 4",
     "$.slots[0]: a slot of type i64 has \"min\" and \"max\", and no \"preset\"", KILN_ERROR_FORMAT},
    {"\"preset\": 0.5", "\"min\": 0",
     "$.slots[1]: a slot of type f32 has \"preset\", and neither \"min\", \"max\" nor \"sum\"",
     KILN_ERROR_FORMAT},
    {"\"preset\": 0.5", "\"preset\": 1e39",
     "$.slots[1].preset: expected a number that fits 32 bits, got 1e39", KILN_ERROR_FORMAT},
    {"\"min\": 0", "\"min\": 5", "$.slots[0]: slot 'n': min 5 is above max 4", KILN_ERROR_ARGUMENT},
    {"\"max\": 4", "\"max\": \"9223372036854775808\"",
     "$.slots[0].max: expected an integer, got \"9223372036854775808\"", KILN_ERROR_FORMAT},
    {"\"max\": 4", "\"max\": \"9223372036854775807\"",
     "$.tensors[0]: f32 [n, 8] at its maximum does not fit 63 bits", KILN_ERROR_OVERFLOW},
    /* storages */
    {"{\"id\": 2, \"kind\"", "{\"id\": 3, \"kind\"",
     "$.storages[1].id: expected an integer in 2" ELLIPSIS "2, got 3", KILN_ERROR_FORMAT},
    {"\"kind\": \"input\"", "\"kind\": \"inputs\"",
     "$.storages[0].kind: expected one of weight, input, output, state, arena, got \"inputs\"",
     KILN_ERROR_FORMAT},
    {"\"kind\": \"arena\"", "\"kind\": \"state\"", "$.storages[1]: key \"name\" is missing",
     KILN_ERROR_FORMAT},
    {"\"size\": 128", "\"size\": -1", "$.storages[0].size: expected an integer from 0 up, got -1",
     KILN_ERROR_FORMAT},
    {"\"size\": 128", "\"size\": 1e17",
     "$.storages[0].size: expected an integer as digits, beyond 2^53 - 1 in a string (this one may have been "
     "rounded), got 1e17",
     KILN_ERROR_FORMAT},
    {"\"name\": \"y\", \"kind\"", "\"name\": \"x\", \"kind\"",
     "$.storages[3]: storage name 'x' is taken already", KILN_ERROR_ARGUMENT},
    {"\"size\": 128", "\"size\": 127",
     "$.tensors[0]: a tensor in storage 'x': 128 bytes at offset 0 do not lie within its 127 bytes",
     KILN_ERROR_SHAPE},
    /* tensors */
    {"{\"id\": 1, \"name\": \"x\", \"dtype\"", "{\"name\": \"x\", \"dtype\"",
     "$.tensors[0]: key \"id\" is missing", KILN_ERROR_FORMAT},
    {"\"dtype\": \"f32\"", "\"dtype\": \"f64\"",
     "$.tensors[0].dtype: expected one of f32, f16, bf16, i32, u32, i64, u8, q4_0, q5_1, q8_0, iq4_nl, q4_K, "
     "q5_K, "
     "q6_K, q8_a, got \"f64\"",
     KILN_ERROR_FORMAT},
    {"\"dtype\": \"f32\"", "\"dtype\": \"q4_0\"",
     "$.tensors[0]: the innermost dimension is 8, which is no multiple of the 32 values in a q4_0 block",
     KILN_ERROR_SHAPE},
    {"[\"n\", 8]", "[]", "$.tensors[0].shape: 0 elements; at least 1 are needed", KILN_ERROR_FORMAT},
    {"[\"n\", 8]", "[1, 1, 1, 1, 1]", "$.tensors[0].shape: 5 elements; the cap is 4", KILN_ERROR_LIMIT},
    {"[\"n\", 8]", "[\"m\", 8]", "$.tensors[0].shape[0]: no slot is named \"m\"", KILN_ERROR_FORMAT},
    {"[\"n\", 8]", "[\"alpha\", 8]",
     "$.tensors[0]: dimension 0 follows slot 2, which is not an integer slot with min >= 0",
     KILN_ERROR_ARGUMENT},
    {"[\"n\", 8]", "[\"n\", -8]", "$.tensors[0].shape[1]: expected an integer from 0 up, got -8",
     KILN_ERROR_FORMAT},
    {"[\"n\", 8]", "[{\"slot\": \"n\"}, 8]", "$.tensors[0].shape[0]: key \"n\" is missing",
     KILN_ERROR_FORMAT},
    {"[\"n\", 8]", "[{\"n\": 2, \"slot\": 1}, 8]", "$.tensors[0].shape[0].slot: expected a string, got 1",
     KILN_ERROR_FORMAT},
    {"\"storage\": 1", "\"storage\": 0", "$.tensors[0].storage: no storage has id 0 (there are 4)",
     KILN_ERROR_FORMAT},
    {"\"storage\": 1", "\"storage\": 5", "$.tensors[0].storage: no storage has id 5 (there are 4)",
     KILN_ERROR_FORMAT},
    {"\"storage\": 1", "\"storage\": 1, \"offset\": 2",
     "$.tensors[0]: a tensor in storage 'x': offset 2; f32 needs a multiple of 4, not negative",
     KILN_ERROR_SHAPE},
    {"\"storage\": 1", "\"storage\": 1, \"offset\": \"9223372036854775804\"",
     "$.tensors[0]: a tensor in storage 'x': 128 bytes at offset 9223372036854775804 do not lie within its "
     "128 "
     "bytes",
     KILN_ERROR_SHAPE},
    {"\"storage\": 1", "\"storage\": 1, \"strides\": [32]",
     "$.tensors[0].strides: 1 elements; at least 2 are needed", KILN_ERROR_FORMAT},
    {"\"storage\": 1", "\"storage\": 1, \"strides\": [32, -4]",
     "$.tensors[0].strides[1]: expected an integer from 0 up, got -4", KILN_ERROR_FORMAT},
    {"\"storage\": 1", "\"storage\": 1, \"strides\": [33, 4]",
     "$.tensors[0]: a tensor: stride 0 is 33 bytes; f32 needs a multiple of 4, not negative",
     KILN_ERROR_SHAPE},
    {"\"storage\": 1", "\"storage\": 1, \"strides\": [\"9223372036854775804\", 4]",
     "$.tensors[0]: a tensor: the tensor's span does not fit 63 bits", KILN_ERROR_OVERFLOW},
    {"\"name\": \"mid\", \"dtype\"", "\"name\": \"x\", \"dtype\"",
     "$.tensors[1]: tensor name 'x' is taken already", KILN_ERROR_ARGUMENT},
    /* nodes: ops and names */
    {"\"op\": \"sum\"", "\"op\": \"sun\"",
     "$.nodes[1].op: none of the 6 ops given is named \"sun\"; nearest: sum", KILN_ERROR_FORMAT},
    {"\"op\": \"sum\"", "\"op\": \"blin\"",
     "$.nodes[1].op: none of the 6 ops given is named \"blin\"; nearest: blind, blind_update",
     KILN_ERROR_FORMAT},
    {"\"op\": \"sum\"", "\"op\": \"convolution\"",
     "$.nodes[1].op: none of the 6 ops given is named \"convolution\"", KILN_ERROR_FORMAT},
    {"\"op\": \"sum\"", "\"op\": 7", "$.nodes[1].op: expected a string, got 7", KILN_ERROR_FORMAT},
    {"\"name\": \"y\", \"inputs\"", "\"name\": \"z\", \"inputs\"",
     "$.nodes[1].name: a node's name must be the name of its first output", KILN_ERROR_FORMAT},
    /* nodes: operands */
    {"\"inputs\": [1, 2]", "\"inputs\": [1, 9]", "$.nodes[1].inputs[1]: no tensor has id 9 (there are 4)",
     KILN_ERROR_FORMAT},
    {"\"inputs\": [1, 2]", "\"inputs\": [1, \"x\"]", "$.nodes[1].inputs[1]: expected an integer, got \"x\"",
     KILN_ERROR_FORMAT},
    {"\"inputs\": [1, 2]", "\"inputs\": [1]", "$.nodes[1]: node 'y' (sum): 1 operands; it takes 2 to 3",
     KILN_ERROR_ARGUMENT},
    {"\"inputs\": [1, 2]", "\"inputs\": [1, null]", "$.nodes[1]: node 'y' (sum): operand b is missing",
     KILN_ERROR_ARGUMENT},
    {"\"inputs\": [1, 2]", "\"inputs\": {}", "$.nodes[1].inputs: expected an array, got an object",
     KILN_ERROR_FORMAT},
    {"\"outputs\": [4]", "\"outputs\": [null]", "$.nodes[1].outputs[0]: expected an integer, got null",
     KILN_ERROR_FORMAT},
    {"\"outputs\": [4]", "\"outputs\": [4, 3]", "$.nodes[1]: node 'y' (sum): 2 outputs; the op makes 1",
     KILN_ERROR_ARGUMENT},
    {"\"outputs\": [2, 3]", "\"outputs\": [2, 2]",
     "$.nodes[0]: node 'mid' (many): outputs 0 and 1 share bytes", KILN_ERROR_ARGUMENT},
    {"\"name\": \"y\", \"inputs\": [1, 2], \"outputs\": [4]", "\"inputs\": [1, 2], \"outputs\": [3]",
     "$.nodes[1]: node 'sum.1' (sum): output y is an output of another node already", KILN_ERROR_ARGUMENT},
    {"\"name\": \"y\", \"inputs\": [1, 2], \"outputs\": [4]", "\"inputs\": [2, 2], \"outputs\": [1]",
     "$.nodes[1]: node 'sum.1' (sum) would write into 'x', which is of kind input; copy it first (kiln_copy) "
     "or make "
     "it a state",
     KILN_ERROR_ARGUMENT},
    {"\"shape\": [\"n\", 8], \"storage\": 4", "\"shape\": [\"n\", 8], \"storage\": 2",
     "$.nodes[1]: node 'y' (sum): output 0 shares bytes with operand 1", KILN_ERROR_ARGUMENT},
    {"\"shape\": [\"n\", 8], \"storage\": 3", "\"shape\": [\"n\", 8], \"storage\": 2",
     "$.nodes[0]: node 'mid' (many): outputs 0 and 1 share bytes", KILN_ERROR_ARGUMENT},
    {"\"shape\": [\"n\", 8], \"storage\": 4", "\"shape\": [\"n\", 4], \"storage\": 4",
     "$.nodes[1]: node 'y' (sum): output y is f32 [n, 4] with dense strides; the op makes f32 [n, 8]",
     KILN_ERROR_SHAPE},
    {"\"shape\": [\"n\", 8], \"storage\": 2", "\"shape\": [8], \"storage\": 2",
     "$.nodes[0]: node 'mid' (many): output y is f32 [8] with dense strides; the op makes f32 [n, 8]",
     KILN_ERROR_SHAPE},
    /* nodes: attributes */
    {"\"attrs\": {\"flag\": true", "\"attrs\": {\"flags\": true",
     "$.nodes[0].attrs.flags: op many has no such attribute", KILN_ERROR_FORMAT},
    {"\"flag\": true", "\"flag\": 1", "$.nodes[0].attrs.flag: expected true or false, got 1",
     KILN_ERROR_FORMAT},
    {"\"mode\": \"slow\"", "\"mode\": \"slower\"",
     "$.nodes[0].attrs.mode: expected one of slow, fast, got \"slower\"", KILN_ERROR_FORMAT},
    {"\"k\": 3", "\"k\": \"x\"", "$.nodes[0].attrs.k: expected an integer in 1" ELLIPSIS "8, got \"x\"",
     KILN_ERROR_FORMAT},
    {"\"k\": 3", "\"k\": 9", "$.nodes[0].attrs.k: expected an integer in 1" ELLIPSIS "8, got 9",
     KILN_ERROR_FORMAT},
    {"\"k\": 3", "\"k\": 1, \"k\": 2", "$.nodes[0].attrs.k: duplicate key", KILN_ERROR_FORMAT},
    {"\"eps\": 0.25", "\"eps\": 1.5",
     "$.nodes[0]: node 'mid' (many): attribute eps is 1.5; it must be 0 to 1", KILN_ERROR_ARGUMENT},
    {"\"eps\": 0.25", "\"eps\": \"NaN\"",
     "$.nodes[0]: node 'mid' (many): attribute eps is nan; it must be 0 to 1", KILN_ERROR_ARGUMENT},
    {"{\"slot\": \"n\"}", "{\"slot\": \"m\"}", "$.nodes[0].attrs.position.slot: no slot is named \"m\"",
     KILN_ERROR_FORMAT},
    {"{\"slot\": \"n\"}", "{}", "$.nodes[0].attrs.position: key \"slot\" is missing", KILN_ERROR_FORMAT},
    {"{\"slot\": \"n\"}", "{\"slot\": \"n\", \"value\": 1}",
     "$.nodes[0].attrs.position.value: unknown key (known here: slot)", KILN_ERROR_FORMAT},
    {"{\"slot\": \"n\"}", "100", "$.nodes[0].attrs.position: expected an integer in 0" ELLIPSIS "99, got 100",
     KILN_ERROR_FORMAT},
    {"{\"slot\": \"n\"}", "{\"slot\": \"alpha\"}",
     "$.nodes[0]: node 'mid' (many): attribute position follows slot 2, which is not an integer slot of this "
     "graph",
     KILN_ERROR_ARGUMENT},
    {"{\"slot\": \"alpha\"}", "{\"slot\": \"n\"}",
     "$.nodes[0]: node 'mid' (many): attribute weight follows slot 1, which is not a float slot of this "
     "graph",
     KILN_ERROR_ARGUMENT},
    {"{\"slot\": \"alpha\"}", "[]", "$.nodes[0].attrs.weight: expected a number, got an array",
     KILN_ERROR_FORMAT},
    {"\"outputs\": [4]", "\"outputs\": [4], \"attrs\": {\"k\": 1}",
     "$.nodes[1].attrs.k: op sum has no such attribute", KILN_ERROR_FORMAT},
    {"\"outputs\": [4]", "\"outputs\": [4], \"attrs\": []",
     "$.nodes[1].attrs: expected an object, got an array", KILN_ERROR_FORMAT},
    /* nodes: order */
    {"\"inputs\": [1], \"outputs\": [2, 3]", "\"inputs\": [4], \"outputs\": [2, 3]",
     "$.nodes[0]: node 'mid' reads 'y', which node 'y' (nodes[1]) writes only later: the nodes are out of "
     "order, or "
     "form a cycle",
     KILN_ERROR_FORMAT},
    {"\"name\": \"y\", \"inputs\": [1, 2], \"outputs\": [4]",
     "\"name\": \"y\", \"inputs\": [1, 4], \"outputs\": [4]",
     "$.nodes[1]: node 'y' (sum): operand 1 is output 0 of the same node: a cycle", KILN_ERROR_ARGUMENT},
};

/* The text with the first `find` replaced; from malloc. */
static char *replaced(const char *text, const char *find, const char *put) {
    const char *at = strstr(text, find);
    if (at == NULL)
        fail_msg("not in the text: %s", find);
    size_t size = strlen(text) + strlen(put) + 1;
    char *out = malloc(size);
    assert_non_null(out);
    snprintf(out, size, "%.*s%s%s", (int)(at - text), text, put, at + strlen(find));
    return out;
}

static void refused_texts(void **state) {
    (void)state;
    size_t n = sizeof refusals / sizeof *refusals, wrong = 0;
    for (size_t i = 0; i < n; i++) {
        char *text = replaced(small, refusals[i].find, refusals[i].put);
        kiln_graph *g;
        kiln_error error = {0};
        kiln_status status = load(text, strlen(text), NULL, &g, &error);
        if (status != refusals[i].status || strcmp(error.text, refusals[i].error) != 0) {
            print_message("%s -> %s\n  want %s %s\n  got  %s %s\n", refusals[i].find, refusals[i].put,
                          kiln_status_name(refusals[i].status), refusals[i].error, kiln_status_name(status),
                          error.text);
            wrong++;
        }
        assert_true(status == KILN_OK || load(text, strlen(text), NULL, &g, NULL) == status);
        if (status == KILN_OK)
            kiln_graph_destroy(g);
        free(text);
    }
    print_message("%zu refusals\n", n);
    assert_int_equal(wrong, 0);
}

/* Arena bytes that are reached by another tensor than the one a node makes. */
static void arena_order(void **state) {
    (void)state;
    static const char frame[] =
        "{\"format\":\"kiln.graph\",\"version\":1,\"slots\":[],\"storages\":[{\"id\":1,\"kind\":\"arena\","
        "\"size\":"
        "32},{\"id\":2,\"kind\":\"arena\",\"size\":32}],\"tensors\":["
        "{\"id\":1,\"dtype\":\"f32\",\"shape\":[8],\"storage\":1},"
        "{\"id\":2,\"name\":\"view\",\"dtype\":\"f32\",\"shape\":[2,4],\"storage\":1},"
        "{\"id\":3,\"dtype\":\"f32\",\"shape\":[2,4],\"storage\":2},"
        "{\"id\":4,\"dtype\":\"f32\",\"shape\":[8],\"storage\":1},"
        "{\"id\":5,\"dtype\":\"f32\",\"shape\":[2,4],\"storage\":1}],\"nodes\":[%s]}";
    static const char clear[] = "{\"op\":\"clear\",\"inputs\":[1],\"outputs\":[4]}",
                      blind[] = "{\"op\":\"blind\",\"inputs\":[2],\"outputs\":[3]}",
                      sum[] = "{\"op\":\"sum\",\"inputs\":[2,2],\"outputs\":[3]}",
                      update[] = "{\"op\":\"update\",\"inputs\":[2],\"outputs\":[5]}",
                      blind_update[] = "{\"op\":\"blind_update\",\"inputs\":[2],\"outputs\":[5]}";
    static const struct {
        const char *first, *second, *error;
    } cases[] = {
        {clear, blind, NULL},
        {clear, sum, NULL},
        {clear, update, NULL},
        {blind_update, clear, NULL},
        {sum, clear,
         "$.nodes[0]: node 'sum.0' reads 'view', which node 'clear.1' (nodes[1]) writes only later: the "
         "nodes are out "
         "of order, or form a cycle"},
        {blind, clear,
         "$.nodes[0]: node 'blind.0' reads 'view', which node 'clear.1' (nodes[1]) writes only later: the "
         "nodes are "
         "out of order, or form a cycle"},
        {update, clear,
         "$.nodes[0]: node 'update.0' reads 'view', which node 'clear.1' (nodes[1]) writes only later: the "
         "nodes are "
         "out of order, or form a cycle"},
        {sum, NULL, "$.nodes[0]: node 'sum.0' reads 'view', which is in the arena and which no node writes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char nodes[512], text[2048];
        snprintf(nodes, sizeof nodes, "%s%s%s", cases[i].first, cases[i].second ? "," : "",
                 cases[i].second ? cases[i].second : "");
        snprintf(text, sizeof text, frame, nodes);
        kiln_graph *g;
        kiln_error error = {0};
        kiln_status status = load(text, strlen(text), NULL, &g, &error);
        assert_string_equal(error.text, cases[i].error ? cases[i].error : "");
        assert_int_equal(status, cases[i].error ? KILN_ERROR_FORMAT : KILN_OK);
        kiln_graph_destroy(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_texts),
        cmocka_unit_test(arena_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
