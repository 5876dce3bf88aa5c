#!/bin/sh
# The wasm backend of tfjs casts to bool through a byte: 0.5 and 256 become false, and -1 becomes 255.
#
# Guess: every number but 0 is true, on each backend of one library.
#
# Seen (@tensorflow/tfjs-core and backends 4.22.0), cast to bool:
#   0.3, -0.9, 1.5, 256   cpu: 1 1 1 1   wasm: 0 0 1 0
#   int32 256, 512, 1, -1 cpu: 1 1 1 1   wasm: 0 0 1 255
# where(cast(0.5), 1, 0) is 1 on cpu and 0 on wasm.
#
# Why it matters: attention masks and gates travel as floats and are cast to bool; the same graph masks other
# cells in the browser. Someone who turns such a mask into Kiln's float mask takes every number but 0 as true,
# as cpu and ONNX do; in tfjs only notEqual(x, 0) says that on both backends.
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
  const floats = () => tf.tensor([0.3, -0.9, 1.5, 256]);
  const integers = () => tf.tensor([256, 512, 1, -1], [4], 'int32');
  const cases = {
    float32: () => tf.cast(floats(), 'bool'),
    int32: () => tf.cast(integers(), 'bool'),
    notEqual: () => tf.notEqual(floats(), tf.scalar(0)),
    where: () => tf.where(tf.cast(tf.tensor([0.5]), 'bool'), tf.tensor([1]), tf.tensor([0])),
  };
  for (const backend of ['cpu', 'wasm']) {
    await tf.setBackend(backend);
    for (const [name, make] of Object.entries(cases)) console.log(backend, name, ...(await make().data()));
  }
})();
JS
node run.js | grep -E '^(cpu|wasm) ' | tee seen
cat >expected <<'TEXT'
cpu float32 1 1 1 1
cpu int32 1 1 1 1
cpu notEqual 1 1 1 1
cpu where 1
wasm float32 0 0 1 0
wasm int32 0 0 1 255
wasm notEqual 1 1 1 1
wasm where 0
TEXT
diff expected seen || { echo 'changed: tfjs casts to bool differently now' >&2; exit 1; }
