/* Every op of Kiln's own set in graphs that go through JSON: the same bytes again, and the same results. */
#include "graph_json.h"
#include "kiln_ops.h"
#include "tests/support/eager.h"
#include "tests/support/every_op.h"
#include "tests/support/testdata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

static kiln_json_text dump(const kiln_graph *g) {
    kiln_json_text text;
    kiln_error error = {0};
    if (kiln_graph_to_json(g, NULL, &text, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return text;
}

static kiln_graph *load(const char *text, size_t size) {
    kiln_graph *g;
    kiln_error error = {0};
    if (kiln_graph_from_json(text, size, kiln_ops_builtin(), NULL, NULL, &g, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return g;
}

static void every_op_is_there(void **state) {
    (void)state;
    kiln_graph *g = every_op_graph();
    kiln_op_set set = kiln_ops_builtin();
    size_t missing = 0;
    for (size_t i = 0; i < set.count; i++) {
        size_t n = 0;
        for (size_t k = 0; k < g->nodes.count; k++)
            n += g->nodes.items[k].op == set.ops[i];
        if (n == 0)
            print_message("no node of op %s\n", set.ops[i]->name);
        missing += n == 0;
    }
    assert_int_equal(missing, 0);
    kiln_json_text first = dump(g);
    kiln_graph *again = load(first.data, first.size);
    kiln_json_text second = dump(again);
    assert_string_equal(first.data, second.data);
    print_message("%zu ops, %zu nodes, %zu bytes of JSON\n", set.count, g->nodes.count, first.size);
    kiln_json_text_free(&first);
    kiln_json_text_free(&second);
    kiln_graph_destroy(again);
    kiln_graph_destroy(g);
}

/* Runs a graph on bytes that depend on ids and places only. */
static eager *run(const kiln_graph *g) {
    eager *e = eager_new(g, 0);
    for (uint32_t i = 1; i < g->tensors.count; i++) {
        const kiln__tensor *t = &g->tensors.items[i];
        kiln_storage_kind kind = g->storages.items[t->storage].kind;
        unsigned char *bytes = eager_data(e, (kiln_tensor){i, g->tag});
        if (g->producers.items[i] != 0 || kind == KILN_STORAGE_ARENA || kind == KILN_STORAGE_OUTPUT)
            continue;
        for (int64_t b = 0; b < t->bytes; b++)
            bytes[b] = (unsigned char)(kiln__desc_of(g, t)->dtype == KILN_I32 ? 0 : 0x38 + (b * 7 + i) % 5);
    }
    eager_set_i64(e, kiln_slot_find(g, "n_tokens"), EVERY_OP_TOKENS);
    eager_set_i64(e, kiln_slot_find(g, "position"), 2);
    eager_result result = eager_run(e, 1);
    assert_int_equal(result.status, KILN_OK);
    return e;
}

static void same_results(void **state) {
    (void)state;
    kiln_graph *g = every_op_graph();
    kiln_json_text text = dump(g);
    kiln_graph *again = load(text.data, text.size);
    eager *a = run(g), *b = run(again);
    for (uint32_t i = 1; i < g->tensors.count; i++) {
        size_t bytes = (size_t)g->tensors.items[i].bytes;
        assert_memory_equal(eager_data(a, (kiln_tensor){i, g->tag}),
                            eager_data(b, (kiln_tensor){i, again->tag}), bytes);
    }
    eager_free(a);
    eager_free(b);
    kiln_json_text_free(&text);
    kiln_graph_destroy(again);
    kiln_graph_destroy(g);
}

/* The example in graph/JSON.md is what the writer writes. */
static void documented_example(void **state) {
    (void)state;
    size_t size;
    char *page = testdata_read_path("graph/JSON.md", &size);
    if (page == NULL) /* it is ours, so it is no reason to skip */
        fail_msg("graph/JSON.md is not here; tests run from the repository root");
    char *copy = realloc(page, size + 1);
    assert_non_null(copy);
    copy[size] = '\0';
    char *from = strstr(copy, "```json\n");
    assert_non_null(from);
    from += 8;
    char *to = strstr(from, "```");
    assert_non_null(to);
    *to = '\0';
    kiln_graph *g = load(from, strlen(from));
    kiln_json_text text = dump(g);
    assert_string_equal(text.data, from);
    kiln_json_text_free(&text);
    kiln_graph_destroy(g);
    free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_is_there),
        cmocka_unit_test(same_results),
        cmocka_unit_test(documented_example),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
