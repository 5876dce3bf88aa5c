#!/bin/sh
# ONNX Runtime sums and raises int64 tensors in double precision, and whether it does so depends on the
# operator, on an attribute and even on the shape of an exponent.
#
# Guess: an operator that takes and gives int64 is exact as long as no result overflows 64 bits, as Add, Mul
# and CumSum are; the shape of Pow's exponent cannot change a value.
#
# Seen (onnxruntime-node 1.30.0, CPU), with a = 2^53 + 1 = 9007199254740993:
#   CumSum a,1 gives ...993, ...994; ReduceSum a,1 gives 9007199254740992 (less than its first addend);
#   ReduceMax is exact, ReduceMean, ReduceProd and Einsum are not; Mod a,2 gives 1, with fmod=1 it gives 0;
#   Pow of two values 3000000001 with exponent 2 gives 9000000006000000001 for an exponent of shape [] and
#   9000000006000000000 for shape [2]; with one value instead of two it gives ...000 for shape [] as well.
#
# Why it matters: exported graphs compute positions, offsets and hashed ids in int64. Kiln takes such values
# ready made (i64 tensors and slots), so a port computes them on the host, exactly, and gathers other rows
# above 2^53.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
# The package's install script would fetch GPU libraries, which are not needed.
npm install --prefix "$d" --silent --no-audit --no-fund --ignore-scripts onnxruntime-node@1.30.0
cp "$(dirname "$0")/onnx.js" "$d"
cd "$d"
cat >run.js <<'JS'
const { op, show } = require('./onnx.js');
const i64 = (values, dims = [values.length]) => ['int64', dims, values];
(async () => {
  const a = 2n ** 53n + 1n;
  const pair = i64([a, 1n]);
  for (const name of ['ReduceSum', 'ReduceProd', 'ReduceMax']) {
    show(name, ...(await op(name, [pair, i64([0])], ['int64'])));
  }
  show('ReduceMean a,a', ...(await op('ReduceMean', [i64([a, a]), i64([0])], ['int64'])));
  show('Einsum i->', ...(await op('Einsum', [pair], ['int64'], { equation: 'i->' })));
  show('CumSum', ...(await op('CumSum', [pair, i64([0], [])], ['int64'])));
  for (const fmod of [0, 1]) {
    show(`Mod fmod=${fmod}`, ...(await op('Mod', [i64([a]), i64([2])], ['int64'], { fmod })));
  }
  for (const exponent of [i64([2], []), i64([2, 2])]) {
    const [y] = await op('Pow', [i64([3000000001n, 1n]), exponent], ['int64']);
    show(`Pow, exponent [${exponent[1]}]`, y);
  }
  show('Pow of one value', ...(await op('Pow', [i64([3000000001n]), i64([2], [])], ['int64'])));
})();
JS
node run.js | tee seen
cat >expected <<'TEXT'
ReduceSum 9007199254740992
ReduceProd 9007199254740992
ReduceMax 9007199254740993
ReduceMean a,a 9007199254740992
Einsum i-> 9007199254740992
CumSum 9007199254740993 9007199254740994
Mod fmod=0 1
Mod fmod=1 0
Pow, exponent [] 9000000006000000001 1
Pow, exponent [2] 9000000006000000000 1
Pow of one value 9000000006000000000
TEXT
diff expected seen || { echo 'changed: int64 operators of ONNX Runtime answer differently now' >&2; exit 1; }
