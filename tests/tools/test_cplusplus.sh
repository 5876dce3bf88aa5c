# README's program and the lessons in C and in C++: with g++ and clang++ where they are there, from C++11 to C++20, against
# the headers as they are installed. README's program prints what README says, whatever it was compiled as.
set -u
case ${BUILD:-build} in *asan* | *tsan* | *arm64*) echo "skipped: not for sanitizer and cross builds"; exit 77 ;; esac
build=${BUILD:-build}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0 checks=0
fail() {
    failed=$((failed + 1))
    echo "FAILED: $*"
}
# try TEXT COMMAND...
try() {
    what=$1
    shift
    checks=$((checks + 1))
    "$@" >"$tmp/log" 2>&1 && return
    fail "$what"
    head -n 12 "$tmp/log" | sed 's/^/    /'
    return 1
}
mkdir -p "$tmp/include/kiln"
cp graph/kiln*.h kernels/kiln*.h ops/kiln*.h sched/kiln*.h capture/kiln*.h tools/gguf/kiln*.h "$tmp/include/kiln"
libs="$build/libkiln_gguf.a $build/libkiln.a -lm -lpthread"
awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md >"$tmp/program.c"
[ "$(wc -l <"$tmp/program.c")" -ge 20 ] || fail 'no program in README.md'
# "It prints `...`", after the program.
expected=$(sed -n 's/.*It prints `\([^`]*\)`.*/\1/p' README.md)
[ -n "$expected" ] || fail 'README.md does not say what its program prints'

# run_readme HOW COMMAND...: compiles README's program, compares what it prints.
run_readme() {
    how=$1
    shift
    # shellcheck disable=SC2086
    try "README's program, $how" "$@" -I"$tmp/include" "$tmp/program.c" -x none $libs -o "$tmp/program" || return
    got=$("$tmp/program")
    checks=$((checks + 1))
    [ "$got" = "$expected" ] || fail "README's program, $how, printed '$got', and README says '$expected'"
}
strict='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror'
# shellcheck disable=SC2086
run_readme "${CC:-cc}" ${CC:-cc} -std=c11 $strict -x c

# What the headers' macros and inline functions become must not warn in a host that is strict about C++.
cat >"$tmp/headers.cc" <<'END'
#include <kiln/kiln.h>
#include <kiln/kiln_gguf.h>
#include <cstdio>
static const float two[2] = {1, 2};
int main() {
    kiln_error error;
    kiln_graph *graph;
    if (kiln_graph_create(nullptr, &graph, &error) != KILN_OK) return 1;
    /* In place: the arguments of KILN_SHAPE are evaluated once. */
    kiln_tensor y = kiln_silu(graph, kiln_input(graph, "x", KILN_F32,
                                                KILN_SHAPE(kiln_sym(kiln_slot_i64(graph, "n_tokens", 0, 8)), kiln_n(4))));
    kiln_tensor w = kiln_weight(graph, "w", KILN_F32, KILN_SHAPE(kiln_n(2)));
    kiln_storage_data_const(graph, kiln_storage_of(graph, w), two, sizeof two, 0);
    std::printf("%d %s\n", static_cast<int>(kiln_tensor_valid(y)), kiln_graph_check(graph, nullptr) ? "bad" : "good");
    kiln_graph_destroy(graph);
}
END

found=
for cxx in ${CXX:-} g++ clang++; do
    command -v "$cxx" >/dev/null 2>&1 || continue
    case " $found " in *" $cxx "*) continue ;; esac
    found="$found $cxx"
    for std in c++11 c++14 c++17 c++20; do
        echo 'int main() {}' >"$tmp/empty.cc"
        "$cxx" -std=$std -fsyntax-only "$tmp/empty.cc" 2>/dev/null || continue
        # shellcheck disable=SC2086
        try "the headers with $cxx -std=$std" "$cxx" -std=$std $strict -Wold-style-cast -Wzero-as-null-pointer-constant \
            -I"$tmp/include" "$tmp/headers.cc" $libs -o "$tmp/headers" && try "its program" "$tmp/headers"
        case $std in c++11 | c++20) run_readme "$cxx -std=$std" "$cxx" -std=$std -Wall -Wextra -Werror -x c++ ;; esac
        for lesson in examples/*.c; do
            if [ $std = c++11 ]; then
                # shellcheck disable=SC2086
                try "$lesson with $cxx -std=$std" "$cxx" -std=$std -w -I"$tmp/include" -x c++ "$lesson" -x none $libs \
                    -o "$tmp/lesson" && try "$lesson from $cxx" "$tmp/lesson"
            else
                try "$lesson with $cxx -std=$std" "$cxx" -std=$std -w -I"$tmp/include" -fsyntax-only -x c++ "$lesson"
            fi
        done
    done
done
[ -n "$found" ] || echo "skipped: no C++ compiler; README's program and the lessons are only tried as C"
echo "$checks checks in C and C++ ($found ), $failed failed"
[ $failed = 0 ]
