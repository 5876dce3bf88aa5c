#!/bin/sh
# Runs test programs (cmocka), examples and shell tests one after the other; a line each, the figures that a test prints
# about what it did, everything a failing one printed, and a closing line "N passed, N failed, N skipped".
set -u
passed=0 failed=0 skipped=0 injected=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
for t in "$@"; do
    start=$(date +%s)
    case $t in
    *.sh) sh "$t" >"$log" 2>&1 </dev/null ;;
    *) ${RUNNER:-} "$t" >"$log" 2>&1 </dev/null ;; # RUNNER: an emulator, when cross-compiled
    esac
    code=$?
    seconds=$(($(date +%s) - start))
    ok=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    bad=$(grep -c '^\[  FAILED  \] .*[a-z]' "$log")
    skip=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test(s).*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    [ "$ok" = 0 ] && [ "$skip" = 0 ] && [ $code = 0 ] && ok=1 # examples and shell tests count as one
    passed=$((passed + ok)) skipped=$((skipped + skip))
    if [ $code = 0 ]; then
        printf '  ok    %-44s %4d passed%s  %ds\n' "$t" "$ok" "$([ "$skip" = 0 ] || echo ", $skip skipped")" "$seconds"
        case $t in */test_*) grep -v -i '^\[\|^skipped' "$log" | grep '[0-9]' | uniq | sed 's/^ */          /' ;; esac
        more=$(sed -n 's/.*allocations, \([0-9]*\) injected failures$/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
        injected=$((injected + more))
        grep -i '^skipped' "$log" | sort | uniq -c | sed 's/^ */          /; s/^\( *\)1 /\1/'
    else
        failed=$((failed + (bad > 0 ? bad : 1)))
        printf '  FAIL  %-44s exit %d\n' "$t" "$code"
        sed 's/^/        /' "$log" | tail -n 80
    fi
done
[ $injected = 0 ] || printf '%d failures of allocations injected\n' $injected
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ $failed = 0 ]
