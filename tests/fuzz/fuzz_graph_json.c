/* libFuzzer: any bytes as a graph's JSON. What loads must come out the same after dump, load, dump. */
#include "graph_json.h"
#include "kiln_ops.h"

#include <stdio.h>
#include <stdlib.h>

static void fail(const char *what, const char *text) {
    fprintf(stderr, "%s: %s\n", what, text);
    abort();
}

static kiln_json_text dump(const kiln_graph *g) {
    kiln_json_text text;
    kiln_error error = {0};
    if (kiln_graph_to_json(g, NULL, &text, &error) != KILN_OK)
        fail("dumping what was loaded", error.text);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kiln_graph *g;
    kiln_error error = {0};
    kiln_status status =
        kiln_graph_from_json((const char *)data, size, kiln_ops_builtin(), NULL, NULL, &g, &error);
    if (status != KILN_OK) {
        if (g != NULL || error.status != status || error.text[0] == '\0')
            fail("a refusal without its error", kiln_status_name(status));
        return 0;
    }
    kiln_json_text first = dump(g);
    kiln_graph_destroy(g);
    if (kiln_graph_from_json(first.data, first.size, kiln_ops_builtin(), NULL, NULL, &g, &error) != KILN_OK)
        fail("loading a dump", error.text);
    kiln_json_text second = dump(g);
    kiln_graph_destroy(g);
    if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
        fail("two dumps differ", second.data);
    kiln_json_text_free(&first);
    kiln_json_text_free(&second);
    return 0;
}
