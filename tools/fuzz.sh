#!/bin/sh
# Builds each libFuzzer target with clang and runs it; a finding ends with the input that caused it.
#   tools/fuzz.sh FILE.c...      KILN_FUZZ_SECONDS=60 by default
set -u
command -v clang >/dev/null 2>&1 || { echo "kiln: make fuzz needs clang (apt-get install clang)" >&2; exit 1; }
seconds=${KILN_FUZZ_SECONDS:-60}
data=${KILN_TEST_DATA:-../shared/data}
# Objects are built once with coverage and sanitizers; the fuzzer's main is linked in last.
make --no-print-directory -j2 CC=clang BUILD=build/fuzz OPT=-O1 KERNEL_OPT=-O1 \
    CFLAGS='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all' \
    build/fuzz/libkiln.a build/fuzz/libkiln_gguf.a build/fuzz/libkiln_llm.a build/fuzz/libkiln_test.a || exit 1
libs="build/fuzz/libkiln_test.a build/fuzz/libkiln_llm.a build/fuzz/libkiln_gguf.a build/fuzz/libkiln.a
      $(pkg-config --libs cmocka) -lm -lpthread"
bad=0
for f in "$@"; do
    name=$(basename "$f" .c)
    clang -std=c11 -D_POSIX_C_SOURCE=200809L -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        -I. -Igraph -Iops -Isched -Icapture -Ikernels -Itools/gguf -Itools/llm -Itests/support \
        $(pkg-config --cflags cmocka) "$f" -o "build/fuzz/$name" $libs || { bad=1; continue; }
    corpus=build/fuzz/corpus-$name
    mkdir -p "$corpus"
    case $name in
    *gguf*) cp "$data"/gguf/*.gguf "$data"/malformed/gguf/* "$corpus"/ 2>/dev/null ;;
    *json*)
        cp "$data"/jsontestsuite/test_parsing/y_* "$corpus"/ 2>/dev/null
        # Whole graphs to start from: the examples of the documentation, a file each.
        awk -v to="$corpus/example_" '/^```json/ {f = to (++n); next} /^```/ {f = ""} f != "" {print > f}' graph/JSON.md
        ;;
    esac
    printf '%s: %s s ... ' "$name" "$seconds"
    if "build/fuzz/$name" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=4096 -timeout=20 -verbosity=0 \
        -artifact_prefix=build/fuzz/ "$corpus" >"build/fuzz/$name.log" 2>&1; then
        echo "no finding"
    else
        echo "FOUND; see build/fuzz/$name.log"
        tail -n 30 "build/fuzz/$name.log"
        bad=1
    fi
done
exit $bad
