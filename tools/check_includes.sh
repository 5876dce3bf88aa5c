#!/bin/sh
# The include rule: graph <- kernels <- ops <- sched <- capture <- tools, tests, examples. Each layer includes only
# its own headers or those of layers before it; kernels, moreover, see descriptors and never a graph; xxHash comes through
# graph/hash.h, which lets no symbol of it out; the core library does not print, exit, open files or read the environment.
cd "$(dirname "$0")/.." || exit 1
awk '
function layer(path) {
    if (path ~ /^graph\//) return 1
    if (path ~ /^kernels\//) return 2
    if (path ~ /^ops\//) return 3
    if (path ~ /^sched\//) return 4
    if (path ~ /^capture\//) return 5
    return 6
}
BEGIN {
    while (("find graph kernels ops sched capture tools tests -name \"*.h\" -o -name \"*.inc\"" | getline path) > 0) {
        name = path; sub(/.*\//, "", name)
        where[name] = (name in where) && layer(where[name]) < layer(path) ? where[name] : path
    }
}
FNR == 1 { mine = layer(FILENAME) }
/^#include "/ {
    name = $2; gsub(/"/, "", name); sub(/.*\//, "", name)
    if (name in where && layer(where[name]) > mine) {
        printf "%s:%d: includes %s, which is a later layer\n", FILENAME, FNR, where[name]; bad = 1
    }
    if (mine == 2 && name == "graph.h") {
        printf "%s:%d: kernels never see a graph\n", FILENAME, FNR; bad = 1
    }
}
/^#include <(xxhash|cjson)/ && FILENAME != "graph/hash.h" {
    printf "%s:%d: the library takes xxHash from graph/hash.h, and nothing else of others\n", FILENAME, FNR; bad = 1
}
mine <= 5 && /[^a-zA-Z_](getenv|abort|exit|printf|fprintf|puts|fopen|assert)[ ]*\(/ && !/^ *(\/\*|\*)/ && !/format *\(printf/ {
    printf "%s:%d: not in the core library: %s\n", FILENAME, FNR, $0; bad = 1
}
END { exit bad }
' $(find graph kernels ops sched capture -name '*.[ch]') || exit 1
