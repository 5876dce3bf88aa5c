/* make bench-executor: what the CPU executor costs, beside ggml's where that is at hand. */
#include "cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    void (*run)(bench *b, const peer *p, const bench_options *o);
} cases[] = {{"nodes", bench_nodes},   {"wake", bench_wake},     {"bake", bench_bake},
             {"branch", bench_branch}, {"decode", bench_decode}, {"crowd", bench_crowd},
             {"cancel", bench_cancel}, {"many", bench_many}};

static int usage(FILE *to, int code) {
    fputs("Usage: bench_executor [--peer FOLDER] [--rounds N] [--json FILE] [CASE...]\n"
          "  --peer    folder with ggml's shared libraries; without it the benchmark runs alone\n"
          "  --rounds  alternated rounds per case (21)\n"
          "  --json    where the report goes\nCases:",
          to);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        fprintf(to, " %s", cases[i].name);
    fputc('\n', to);
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
