#!/bin/sh
# Runs test programs (cmocka), examples and shell tests one after the other; a line each, the figures that a test prints
# about what it did, everything a failing one printed, and a closing line "N passed, N failed, N skipped".
#   RUNNER    an emulator, when cross-compiled
#   VERIFIED  a table like tests/verified.txt: which of its rows ran is said before the closing line
# A shell test that skips itself as a whole says why and exits with 77.
set -u
# These change the output that is counted here, or where it goes.
unset CMOCKA_MESSAGE_OUTPUT CMOCKA_XML_FILE
# A test that starts make does it as a user would: this run's flags and jobs are not for it.
unset MAKEFLAGS MFLAGS MAKELEVEL
passed=0 failed=0 skipped=0 injected=0 number=0
log=$(mktemp) && results=$(mktemp) || exit 1
trap 'rm -f "$log" "$results"' EXIT

# "PASSED FAILED SKIPPED SUMMARIES" of a log, from what cmocka says at the end of each group. A program may run several groups.
# 1.1.7 and 2 put the group's name before the numbers. What ran and neither passed nor was skipped has failed: a test
# whose setup fails is not listed as such. A group that does not end is a crash.
counts() {
    awk '
        function tests() { match($0, /[0-9]+ test\(s\)/); return substr($0, RSTART, RLENGTH) + 0 }
        /\[==========\] .*Running [0-9]+ test\(s\)/ { open = 1; fine = 0 }
        /\[       OK \]/ { fine++ }
        /\[  FAILED  \] GROUP (SETUP|TEARDOWN)/ { failed++ }
        /\[==========\] .*[0-9]+ test\(s\) run/ { open = 0; ends++; failed += tests() }
        /\[  PASSED  \] [0-9]+ test\(s\)/ { passed += tests(); failed -= tests() }
        /\[  SKIPPED \] .*[0-9]+ test\(s\), listed below/ { skipped += tests(); failed -= tests() }
        END { print passed + open * fine, failed + open, skipped + 0, ends + open }' "$1"
}

# A line for each test of a log, for the table of what was verified: "graph/test_x:NAME OK", or SKIPPED or FAILED.
outcomes() {
    awk -v program="$2" '/^\[ *(OK|SKIPPED|FAILED) *\] [A-Za-z_0-9]+$/ {
        print program ":" $NF, /SKIPPED/ ? "SKIPPED" : /FAILED/ ? "FAILED" : "OK" }' "$1"
}

for t in "$@"; do
    number=$((number + 1))
    [ ! -t 1 ] || printf '  ...   %s (%d of %d)\r' "$t" "$number" $#
    start=$(date +%s)
    case $t in
    *.sh) sh "$t" >"$log" 2>&1 </dev/null ;;
    *) ${RUNNER:-} "$t" >"$log" 2>&1 </dev/null ;;
    esac
    code=$?
    seconds=$(($(date +%s) - start))
    [ ! -t 1 ] || printf '\033[K'
    read -r ok bad skip summaries <<END
$(counts "$log")
END
    case $t in
    *.sh | */examples/*) # one test each
        ok=0 bad=0 skip=0
        case $code in
        0) ok=1 ;;
        77) code=0 skip=1 ;;
        esac ;;
    *)
        if [ $code = 0 ] && [ "$summaries" = 0 ]; then
            echo 'No summary that tools/run_tests.sh can read: it knows those of cmocka 1.1.5 to 2.0.' >>"$log"
            code=1
        fi ;;
    esac
    [ $code = 0 ] && [ "$bad" = 0 ] || failed=$((failed + (bad > 0 ? bad : 1)))
    passed=$((passed + ok)) skipped=$((skipped + skip))
    name=${t#*tests/} name=${name%.sh}
    outcomes "$log" "$name" >>"$results"
    if [ $code = 0 ] && [ "$bad" = 0 ]; then
        echo "$name $([ "$ok" = 0 ] && echo SKIPPED || echo OK)" >>"$results"
        printf '  ok    %-44s %4d passed%s  %ds\n' "$t" "$ok" "$([ "$skip" = 0 ] || echo ", $skip skipped")" "$seconds"
        case $t in */test_*) grep -v -i '^\[\|^skipped\|^ *[0-9]* [a-z]* test(s)$' "$log" | grep '[0-9]' | uniq | sed 's/^ */          /' ;; esac
        more=$(sed -n 's/.*allocations, \([0-9]*\) injected failures$/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
        injected=$((injected + more))
        grep -i '^skipped' "$log" | sort | uniq -c | sed 's/^ */          /; s/^\( *\)1 /\1/'
    else
        echo "$name FAILED" >>"$results"
        printf '  FAIL  %-44s exit %d\n' "$t" "$code"
        sed 's/^/        /' "$log" | tail -n 80
    fi
done
[ $injected = 0 ] || printf '%d failures of allocations injected\n' $injected
[ -z "${VERIFIED:-}" ] || awk -f tools/verified.awk "$results" "$VERIFIED"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ $failed = 0 ]
