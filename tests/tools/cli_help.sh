# What the tests of the kiln command share; a test includes it first. $KILN is the binary, $data the folder of test
# data, $root the repository; the test then runs in a temporary folder, which it removes.
LC_ALL=C
export LC_ALL
if [ -z "${KILN:-}" ] || [ ! -x "$KILN" ]; then
    echo "skipped: no kiln command (set KILN to the binary)"
    exit 77
fi
case $KILN in /*) ;; *) KILN=$PWD/$KILN ;; esac
runner=${RUNNER:-} # an emulator, when cross-compiled
data=${KILN_TEST_DATA:-../shared/data}
case $data in /*) ;; *) data=$PWD/$data ;; esac
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
if [ -n "$runner" ]; then
    mkdir bin && printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$runner" "$KILN" >bin/kiln && chmod +x bin/kiln || exit 1
    KILN=$dir/bin/kiln
fi
failed=0 checks=0

problem() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    sed 's/^/    stdout: /' out 2>/dev/null | head -n 5
    sed 's/^/    stderr: /' err 2>/dev/null | head -n 5
}

# expect CODE ARGUMENT...: runs kiln; stdout to `out`, stderr to `err`.
expect() {
    want=$1
    shift
    command="kiln $*"
    "$KILN" "$@" >out 2>err </dev/null
    got=$?
    checks=$((checks + 1))
    [ "$got" = "$want" ] || problem "$command: exit $got, expected $want"
}
out_has() { grep -q -- "$1" out || problem "$command: stdout lacks '$1'"; }
err_has() { grep -q -- "$1" err || problem "$command: stderr lacks '$1'"; }
no_out() { [ ! -s out ] || problem "$command: stdout is not empty"; }
no_err() { [ ! -s err ] || problem "$command: stderr is not empty"; }
# Every line on stderr says whose it is.
prefixed() { ! grep -qv '^kiln: ' err || problem "$command: a line on stderr lacks 'kiln: '"; }
# usage TEXT ARGUMENT...: a mistake in the command line.
usage() {
    text=$1
    shift
    expect 2 "$@"
    no_out
    prefixed
    err_has "$text"
    err_has "--help'"
}
# failure TEXT ARGUMENT...: a well-formed command that cannot be done.
failure() {
    text=$1
    shift
    expect 1 "$@"
    prefixed
    err_has "$text"
}
same() { cmp -s "$1" "$2" || problem "$command: $1 and $2 differ"; }
# npy DESCR SHAPE BYTES: an array as .npy, to stdout; a fourth argument True says that it is in Fortran order.
npy() {
    printf '\223NUMPY\001\000\166\000'
    printf '%-117s\n' "{'descr': '$1', 'fortran_order': ${4:-False}, 'shape': $2, }"
    printf '%b' "$3"
}
# The last line of a test: what was counted, and its exit code.
finish() {
    echo "$checks commands, $failed problems"
    [ $failed = 0 ]
}
