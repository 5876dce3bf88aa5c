/* make bench-executor: what the CPU executor costs, beside ggml's where that is at hand. */
#include "cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *text;
    void (*run)(bench *b, const peer *p, const bench_options *o);
} cases[] = {
    {"nodes", "tiny nodes, replayed, built anew and captured: bars 1, 2 and 4", bench_nodes},
    {"wake", "one node after the host slept: bar 3", bench_wake},
    {"bake", "baking, and the memory of a plan: bar 5", bench_bake},
    {"branch", "what a second thread brings for unequal products: bar 6", bench_branch},
    {"decode", "a very small model (needs test data): bar 7", bench_decode},
    {"crowd", "more threads than processors, beside others: bar 8", bench_crowd},
    {"cancel", "from the call to the fence: bar 9", bench_cancel},
    {"many", "1 to 16 threads (needs 16 processors): bar 10", bench_many},
};

static int usage(FILE *to, int code) {
    fputs(
        "Usage: bench_executor [--peer FOLDER] [--rounds N] [--json FILE] [CASE...]\n"
        "  --peer    folder with ggml's shared libraries; without it the benchmark runs alone, and bars 1 to "
        "4\n"
        "            are not judged\n"
        "  --rounds  alternated rounds per case (21)\n"
        "  --json    where the report goes\n"
        "Test data is looked for in $KILN_TEST_DATA, or ../shared/data. Leave the machine alone meanwhile.\n"
        "Cases (all, unless some are named):\n",
        to);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        fprintf(to, "  %-8s %s\n", cases[i].name, cases[i].text);
    return code;
}

int main(int argc, char **argv) {
    static bench b;
    bench_options o = {.rounds = BENCH_ROUNDS};
    const char *json = NULL, *folder = NULL;
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout, 0);
        if (i + 1 == argc)
            return usage(stderr, 2);
        if (strcmp(argv[i], "--peer") == 0)
            folder = argv[++i];
        else if (strcmp(argv[i], "--json") == 0)
            json = argv[++i];
        else if (strcmp(argv[i], "--rounds") == 0 && (o.rounds = atoi(argv[i + 1])) > 0 &&
                 o.rounds <= BENCH_SAMPLES)
            i++;
        else
            return usage(stderr, 2);
    }
    for (int k = i; k < argc; k++) {
        size_t c = 0;
        while (c < sizeof cases / sizeof *cases && strcmp(cases[c].name, argv[k]) != 0)
            c++;
        if (c == sizeof cases / sizeof *cases)
            return usage(stderr, 2);
    }
    bench_begin(&b, "kiln bench-executor");
    const peer *p = peer_open(folder);
    peer_rest(p);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        bool wanted = i == argc;
        for (int k = i; k < argc; k++)
            wanted = wanted || strcmp(cases[c].name, argv[k]) == 0;
        if (wanted)
            cases[c].run(&b, p, &o);
    }
    return bench_finish(&b, json) ? 0 : 1;
}
