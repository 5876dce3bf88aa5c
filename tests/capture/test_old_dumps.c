/* Dumps that earlier versions wrote load for ever, and mean what they meant (tests/data/README.md). */
#include "kiln.h"
#include "check.h"
#include "testdata.h"
#include "tests/graph/graph_json_case.h"

#include <stdlib.h>
#include <string.h>

typedef struct old_dump {
    const char *file;
    const char *fingerprint; /* of its graph, by the Kiln that wrote it */
    bool custom;             /* its ops are those of graph_json_case.h */
    bool is_plan;
} old_dump;

static const old_dump dumps[] = {
    {"tests/data/version1/every_op.graph.json", "866423146b367ed34545900f31f93f4c", false, false},
    {"tests/data/version1/every_op.plan.json", "866423146b367ed34545900f31f93f4c", false, true},
    {"tests/data/version1/attributes.graph.json", "3846b07afc695072c1525ba58f02572f", true, false},
    {"tests/data/version1/captured.plan.json", "22893a6ed2cc007e5196180c2bdc53cb", false, true},
    {"tests/data/version1/demo.plan.json", "baaffb54d8d00dd55e9d054d40ab2c49", false, true},
    {"tests/data/version2/sums.plan.json", "221910c9140a39abdcb475a6494b3210", false, true},
};

static void check_fingerprint(const old_dump *d, const kiln_graph *g) {
    char text[33];
    kiln_fingerprint f = kiln_graph_fingerprint(g);
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)f.high, (unsigned long long)f.low);
    if (strcmp(text, d->fingerprint) != 0)
        fail_msg("%s: the fingerprint was %s, is %s", d->file, d->fingerprint, text);
}

/* What this Kiln writes of the graph loads as the same graph. */
static void check_written_again(const old_dump *d, kiln_op_set set, const kiln_graph *g) {
    kiln_json_text text;
    kiln_graph *again;
    CHECK_OK(kiln_graph_to_json(g, NULL, &text, error));
    CHECK_OK(kiln_graph_from_json(text.data, text.size, set, NULL, NULL, &again, error));
    check_fingerprint(d, again);
    kiln_json_text_free(&text);
    kiln_graph_destroy(again);
}

static void every_dump_loads(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof dumps / sizeof *dumps; i++) {
        const old_dump *d = &dumps[i];
        kiln_op_set set = d->custom ? ops : kiln_ops_builtin();
        size_t size;
        kiln_graph *g;
        char *text = testdata_read_path(d->file, &size);
        if (text == NULL)
            fail_msg("%s is missing; tests run from the root of the repository", d->file);
        CHECK_OK(kiln_graph_from_json(text, size, set, NULL, NULL, &g, error));
        check_fingerprint(d, g);
        check_written_again(d, set, g);
        if (d->is_plan) {
            kiln_plan *plan;
            CHECK_OK(kiln_plan_check_json(text, size, set, NULL, NULL, error));
            CHECK_OK(kiln_plan_from_json(text, size, set, NULL, NULL, &plan, error));
            CHECK_OK(kiln_plan_match(plan, g, error));
            kiln_plan_release(plan);
        }
        kiln_graph_destroy(g);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_dump_loads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
