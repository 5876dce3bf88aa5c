#!/bin/sh
# Runs tests/mutations.txt: copies the tree to build/mutate, breaks one line, builds the tests named and runs them. A mutation that no
# test notices is a hole in the tests, and this fails.
set -u
work=build/mutate
rm -rf "$work/tree"
mkdir -p "$work/tree" && cp -r Makefile graph kernels ops sched capture tests tools "$work/tree/" || exit 1
list=$PWD/tests/mutations.txt
here=$PWD
cd "$work/tree" || exit 1
export KILN_ORACLE_DAGS=2000 KILN_INTERLEAVINGS_COUNTS=free KILN_TEST_DATA="${KILN_TEST_DATA:-$here/../shared/data}"
killed=0 survived=0 line=0
log=$here/$work/log

build() { make -s --no-print-directory -j2 OPT=-O1 KERNEL_OPT=-O1 WARN=-w BUILD=../out "$@" >"$log" 2>&1; }

# Replaces the only occurrence of $2 in file $1 by $3; '@' stands for a line break.
mutate() {
    awk -v from="$2" -v to="$3" 'BEGIN { gsub(/@/, "\n", from); gsub(/@/, "\n", to); RS = "\001" }
        { n = 0; rest = $0; while ((at = index(rest, from)) > 0) { n++; rest = substr(rest, at + length(from)) }
          if (n != 1) { exit 3 }
          at = index($0, from); printf "%s%s%s", substr($0, 1, at - 1), to, substr($0, at + length(from)) }' "$1" >"$1.mutant"
}

targets=$(sed '/^#/d' "$list" | cut -f4 | tr ' ' '\n' | sort -u | sed 's|\(.*\)/\(.*\)|../out/tests/\1/test_\2|')
build $targets || { tail -n 20 "$log"; exit 1; }
for t in $targets; do
    timeout 600 "$t" >"$log" 2>&1 || { echo "kiln: $t fails without any mutation"; tail -n 20 "$log"; exit 1; }
done
while IFS= read -r row; do
    line=$((line + 1))
    case $row in '#'* | '') continue ;; esac
    file=$(printf '%s' "$row" | cut -f1) from=$(printf '%s' "$row" | cut -f2)
    to=$(printf '%s' "$row" | cut -f3) tests=$(printf '%s' "$row" | cut -f4)
    cp "$file" "$file.original"
    if ! mutate "$file" "$from" "$to"; then
        echo "tests/mutations.txt:$line: '$from' does not occur exactly once in $file"
        rm -f "$file.mutant" "$file.original"
        survived=$((survived + 1))
        continue
    fi
    mv "$file.mutant" "$file"
    by=
    list_of=$(for t in $tests; do echo "../out/tests/${t%/*}/test_${t#*/}"; done)
    if build $list_of; then
        for t in $list_of; do
            timeout 400 "$t" >"$log" 2>&1 || { by=$(basename "$t"); break; }
        done
    else
        echo "tests/mutations.txt:$line: does not compile:"; tail -n 5 "$log"
    fi
    if [ -n "$by" ]; then
        killed=$((killed + 1))
        printf '  killed by %-16s %s: %s\n' "$by" "$file" "$to"
    else
        survived=$((survived + 1))
        printf '  SURVIVED  %-16s %s: %s -> %s\n' "" "$file" "$from" "$to"
    fi
    mv "$file.original" "$file"
    touch "$file"
done <"$list"
echo "$killed mutations killed, $survived survived"
[ $survived = 0 ]
