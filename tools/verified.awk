# awk -f tools/verified.awk OUTCOMES tests/verified.txt: which rows of README's table ran, in part or not at all, in up
# to four lines. OUTCOMES: "TEST OK", or SKIPPED or FAILED, a line each, as tools/run_tests.sh writes them.
function add(list, row) { return list == "" ? row : list ", " row }
NR == FNR { outcome[$1] = $2; next }
/^#/ || /^$/ { next }
{
    split($0, halves, "\t")
    ok = skipped = failed = 0
    n = split(halves[2], tests, " ")
    for (i = 1; i <= n; i++)
        for (t in outcome)
            if (t == tests[i] || (tests[i] ~ /\*$/ && index(t, substr(tests[i], 1, length(tests[i]) - 1)) == 1)) {
                ok += outcome[t] == "OK"
                skipped += outcome[t] == "SKIPPED"
                failed += outcome[t] == "FAILED"
            }
    if (failed)
        wrong = add(wrong, halves[1])
    else if (ok && !skipped)
        ran = add(ran, halves[1])
    else if (ok)
        partly = add(partly, halves[1])
    else
        missing = add(missing, halves[1])
}
END {
    print "What is verified (see README.md): " (ran == "" ? "nothing in whole" : ran)
    if (partly != "")
        print "  in part, as some tests were skipped: " partly
    if (missing != "")
        print "  not run (above is why): " missing
    if (wrong != "")
        print "  FAILED: " wrong
}
