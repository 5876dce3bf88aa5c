#!/bin/sh
# ONNX Runtime's ReduceMax keeps a NaN or forgets it by its place in the row, and MaxPool changes its values
# when the caller also asks for Indices.
#
# Guess: a maximum either always passes a NaN on (as the elementwise Max does) or never, and an optional
# second output leaves the first one as it is.
#
# Seen (onnxruntime-node 1.30.0, x86-64 with AVX-512): ReduceMax of NaN,1,2 gives NaN, but of 1,NaN,2 and of
# 1,2,NaN it gives 2. MaxPool with kernel 2 over 1,NaN,2 gives NaN 2, but 1 NaN when Indices are asked for:
# without them a NaN in front wins, with them a NaN at the end. Over the single window -inf,-inf it gives
# -3.4028234663852886e+38, with Indices -Infinity; over several such windows -Infinity in either case.
#
# Why it matters: the order of a row hides or shows a NaN, so a NaN check after a maximum proves nothing, and
# a cell masked by -inf becomes a finite number or not by an output that looks unrelated. In Kiln a NaN is
# last in argmax and top_k at every place, so a comparison needs the NaN at several places.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
# The package's install script would fetch GPU libraries, which are not needed.
npm install --prefix "$d" --silent --no-audit --no-fund --ignore-scripts onnxruntime-node@1.30.0
cp "$(dirname "$0")/onnx.js" "$d"
cd "$d"
cat >run.js <<'JS'
const { op, show } = require('./onnx.js');
const row = (values) => ['float32', [1, 1, 1, values.length], values];
(async () => {
  show('Max', ...(await op('Max', [row([NaN, 1]), row([1, NaN])], ['float32'])));
  for (const values of [[NaN, 1, 2], [1, NaN, 2], [1, 2, NaN]]) {
    show(`ReduceMax ${values}:`, ...(await op('ReduceMax', [row(values), ['int64', [1], [3]]], ['float32'])));
  }
  for (const values of [[1, NaN, 2], [-Infinity, -Infinity], [-Infinity, -Infinity, -Infinity]]) {
    for (const outputs of [['float32'], ['float32', 'int64']]) {
      const [y] = await op('MaxPool', [row(values)], outputs, { kernel_shape: [1, 2] });
      show(`MaxPool ${values}, ${outputs.length} outputs:`, y);
    }
  }
})();
JS
node run.js | tee seen
cat >expected <<'TEXT'
Max NaN NaN
ReduceMax NaN,1,2: NaN
ReduceMax 1,NaN,2: 2
ReduceMax 1,2,NaN: 2
MaxPool 1,NaN,2, 1 outputs: NaN 2
MaxPool 1,NaN,2, 2 outputs: 1 NaN
MaxPool -Infinity,-Infinity, 1 outputs: -3.4028234663852886e+38
MaxPool -Infinity,-Infinity, 2 outputs: -Infinity
MaxPool -Infinity,-Infinity,-Infinity, 1 outputs: -Infinity -Infinity
MaxPool -Infinity,-Infinity,-Infinity, 2 outputs: -Infinity -Infinity
TEXT
diff expected seen || { echo 'changed: maxima of ONNX Runtime treat NaN or -inf otherwise' >&2; exit 1; }
