# How tools/run_tests.sh counts: outputs of cmocka 1.1.5, 1.1.7 and 2.0.2, recorded by tests/tools/cmocka/outputs.c, and programs that
# end in other ways; and which rows of README's table it says ran.
set -u
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
unset VERIFIED RUNNER # of the run that this test is part of
failed=0 checks=0

# expect CLOSING-LINE EXIT-CODE PROGRAM...: what a run of the programs ends with; all it printed goes to $tmp/out.
expect() {
    line=$1 code=$2
    shift 2
    sh tools/run_tests.sh "$@" >"$tmp/out" 2>&1
    got=$?
    checks=$((checks + 1))
    [ "$(tail -n 1 "$tmp/out")" = "$line" ] && [ $got = "$code" ] && return
    failed=$((failed + 1))
    echo "FAILED: $*: expected '$line' and exit code $code, got '$(tail -n 1 "$tmp/out")' and $got"
}
# program PATH CODE: a program that prints what stdin is here.
program() {
    mkdir -p "${1%/*}"
    cat >"$1.txt"
    printf '#!/bin/sh\ncat "%s"\nexit %d\n' "$1.txt" "$2" >"$1"
    chmod +x "$1"
}
x=$tmp/tests/x

for version in 1.1.5 1.1.7 2.0.2; do
    all=
    while read -r name closing; do
        output=tests/tools/cmocka/$version-$name.txt made=$x/test_$version-$name
        program "$made" "$(sed -n 's/^exit //p' "$output")" <"$output"
        all="$all $made"
        code=1
        case $closing in *' 0 failed,'*) code=0 ;; esac
        expect "$closing" $code "$made"
    done <<'END'
good 2 passed, 0 failed, 0 skipped
mixed 1 passed, 2 failed, 1 skipped
one 1 passed, 1 failed, 0 skipped
skip 0 passed, 0 failed, 3 skipped
setup 1 passed, 1 failed, 0 skipped
teardown 1 passed, 1 failed, 0 skipped
group 0 passed, 1 failed, 0 skipped
group-down 2 passed, 1 failed, 0 skipped
two 2 passed, 3 failed, 1 skipped
crash 1 passed, 1 failed, 0 skipped
END
    expect '11 passed, 11 failed, 5 skipped' 1 $all
done

# Text that a test prints without ending the line does not hide what follows it.
printf '[==========] Running 1 test(s).\n[ RUN      ] a\nfigures: 1[       OK ] a\nx[==========] 1 test(s) run.\n[  PASSED  ] 1 test(s).\n' |
    program "$x/test_unended" 0
expect '1 passed, 0 failed, 0 skipped' 0 "$x/test_unended"
# A summary in an unknown form is not taken for success.
echo 'ok 1 - a' | program "$x/test_tap" 0
expect '0 passed, 1 failed, 0 skipped' 1 "$x/test_tap"
# What fails in its own way after good tests, as a sanitizer does, fails.
program "$x/test_leak" 23 <tests/tools/cmocka/1.1.5-good.txt
expect '2 passed, 1 failed, 0 skipped' 1 "$x/test_leak"
# Examples and shell tests count as one.
echo 'y 1 2' | program "$tmp/examples/01_first" 0
expect '1 passed, 0 failed, 0 skipped' 0 "$tmp/examples/01_first"
echo 'y 1 2' | program "$tmp/examples/02_second" 3
expect '0 passed, 1 failed, 0 skipped' 1 "$tmp/examples/02_second"
echo 'exit 0' >"$tmp/test_a.sh"
echo 'echo "skipped: no cake"; exit 77' >"$tmp/test_b.sh"
echo 'exit 1' >"$tmp/test_c.sh"
expect '1 passed, 1 failed, 1 skipped' 1 "$tmp"/test_?.sh
grep -q '^ *skipped: no cake$' "$tmp/out" || { echo 'FAILED: no reason is printed'; failed=$((failed + 1)); }
# A user's CMOCKA_MESSAGE_OUTPUT would change what is counted.
printf '#!/bin/sh\n[ -z "${CMOCKA_MESSAGE_OUTPUT:-}" ] && cat tests/tools/cmocka/1.1.7-good.txt\n' >"$x/test_env"
chmod +x "$x/test_env"
export CMOCKA_MESSAGE_OUTPUT=tap
expect '2 passed, 0 failed, 0 skipped' 0 "$x/test_env"
unset CMOCKA_MESSAGE_OUTPUT

# ---- the table of what was verified --------------------------------------------------------------------------------

said() {
    checks=$((checks + 1))
    grep -qxF -- "$1" "$tmp/out" && return
    failed=$((failed + 1))
    echo "FAILED: '$1' is not in"
    sed 's/^/    /' "$tmp/out"
}
printf '# a comment\nall\tx/test_good*\nhalf\tx/test_mixed:good x/test_mixed:skipped\nnone\tx/test_mixed:skipped\nelse\ty/test_z*\nbroken\tx/*\n' \
    >"$tmp/table"
program "$x/test_good" 0 <tests/tools/cmocka/1.1.7-good.txt
program "$x/test_mixed" 2 <tests/tools/cmocka/1.1.7-mixed.txt
export VERIFIED="$tmp/table"
expect '3 passed, 2 failed, 1 skipped' 1 "$x/test_good" "$x/test_mixed"
unset VERIFIED
said 'What is verified (see README.md): all'
said '  in part, as some tests were skipped: half'
said '  not run (above is why): none, else'
said '  FAILED: broken'
# The table of the tree names rows that README has, all that `make check` runs, and tests that exist.
sed -n 's/^| \(.*\) | .* | `make check`\*\{0,1\} |$/\1/p' README.md >"$tmp/readme"
sed '/^#/d; s/	.*//' tests/verified.txt >"$tmp/rows"
cmp "$tmp/readme" "$tmp/rows" || { failed=$((failed + 1)); echo 'FAILED: tests/verified.txt and README.md name other rows'; }
set -f
for t in $(sed '/^#/d; s/.*	//' tests/verified.txt); do
    checks=$((checks + 1))
    case $t in
    *:*) grep -q "cmocka_unit_test(${t#*:})" "tests/${t%:*}.c" ;;
    *\*) (set +f && ls tests/$t.c) >/dev/null 2>&1 ;;
    *) [ -e "tests/$t.sh" ] ;;
    esac || { failed=$((failed + 1)); echo "FAILED: tests/verified.txt: there is no test $t"; }
done

echo "$checks checks of counting, $failed failed"
[ $failed = 0 ]
