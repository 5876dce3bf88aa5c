#!/bin/sh
# On the wasm backend of tfjs (XNNPACK) a fused relu erases a NaN that the separate relu keeps, and pooling
# turns a window with a NaN into -Infinity, even when the window also holds a number.
#
# Guess: fusing an activation changes rounding at most, and a maximum or mean over a NaN is either NaN or
# leaves the NaN out.
#
# Seen (@tensorflow/tfjs-core and backends 4.22.0), wasm:
#   relu of matMul of NaN,-1: NaN 0    the same with activation 'relu' in fused.matMul: 0 0
#   clipByValue(NaN, -5, -1): -5
#   maxPool (kernel 2) of 1,NaN,2,1: 1 -Infinity 2    avgPool of it: -Infinity -Infinity 1.5
# The cpu backend gives NaN 0, NaN 0, NaN, 1 2 2 and NaN NaN 1.5.
#
# Why it matters: a converter fuses by itself, so a NaN that Kiln reports is 0 or -Infinity in the browser,
# where the next softmax makes plausible numbers of it; the cpu backend is not a reference for wasm.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund \
  @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-backend-cpu@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
cd "$d"
cat >run.js <<'JS'
// Keep the advice about other packages and the note of XNNPACK out of the output.
console.warn = () => {};
const tf = require('@tensorflow/tfjs-core');
require('@tensorflow/tfjs-backend-cpu');
require('@tensorflow/tfjs-backend-wasm');
(async () => {
  const x = () => tf.tensor([NaN, -1], [2, 1]);
  const one = () => tf.tensor([1], [1, 1]);
  const row = () => tf.tensor([1, NaN, 2, 1], [1, 4, 1]);
  const cases = {
    separate: () => tf.relu(tf.matMul(x(), one())),
    fused: () => tf.fused.matMul({ a: x(), b: one(), activation: 'relu' }),
    clip: () => tf.clipByValue(tf.tensor([NaN]), -5, -1),
    maxPool: () => tf.maxPool(row(), [1, 2], 1, 'valid'),
    avgPool: () => tf.avgPool(row(), [1, 2], 1, 'valid'),
  };
  for (const backend of ['cpu', 'wasm']) {
    await tf.setBackend(backend);
    for (const [name, make] of Object.entries(cases)) console.log(backend, name, ...(await make().data()));
  }
})();
JS
node run.js | grep -E '^(cpu|wasm) ' | tee seen
cat >expected <<'TEXT'
cpu separate NaN 0
cpu fused NaN 0
cpu clip NaN
cpu maxPool 1 2 2
cpu avgPool NaN NaN 1.5
wasm separate NaN 0
wasm fused 0 0
wasm clip -5
wasm maxPool 1 -Infinity 2
wasm avgPool -Infinity -Infinity 1.5
TEXT
diff expected seen || { echo 'changed: a backend of tfjs treats NaN differently now' >&2; exit 1; }
