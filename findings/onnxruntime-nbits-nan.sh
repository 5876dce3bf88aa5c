#!/bin/sh
# ONNX Runtime's 4-bit product with accuracy_level 4 turns a NaN activation into a finite result.
#
# Guess: quantising activations to 8 bits costs precision, but a NaN among them makes its block's scale NaN
# and so stays visible, as an infinity does.
#
# Seen (onnxruntime-node 1.30.0, x86-64 with AVX-512), 32 weights of 1, activations NaN,1,1,... (31 ones):
# accuracy_level 0 gives NaN, level 4 gives 31: the NaN counts as 0. With inf instead of NaN they give
# Infinity and NaN. DynamicQuantizeLinear of NaN,1,2,3 gives 0 85 170 255 with scale 0.0117647061124444 and
# zero point 0, so its NaN comes back as 0 too.
#
# Why it matters: the NaN of a broken layer disappears in the next quantised product and the model answers
# with fluent nonsense. Kiln's products give NaN; a comparison must use accuracy_level 0 or look at the
# activations.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
# The package's install script would fetch GPU libraries, which are not needed.
npm install --prefix "$d" --silent --no-audit --no-fund --ignore-scripts onnxruntime-node@1.30.0
cp "$(dirname "$0")/onnx.js" "$d"
cd "$d"
cat >run.js <<'JS'
const { op, show } = require('./onnx.js');
(async () => {
  // Two 4-bit weights a byte, each 9 - 8 = 1 at scale 1.
  const weight = ['uint8', [1, 1, 16], Array(16).fill(0x99)];
  const scale = ['float32', [1, 1], [1]];
  for (const accuracy_level of [0, 4]) {
    for (const first of [1, NaN, Infinity]) {
      const x = ['float32', [1, 32], [first, ...Array(31).fill(1)]];
      const attributes = { K: 32, N: 1, bits: 4, block_size: 32, accuracy_level };
      const options = { domain: 'com.microsoft', constant: [1, 2] };
      const [y] = await op('MatMulNBits', [x, weight, scale], ['float32'], attributes, options);
      show(`accuracy_level ${accuracy_level}, ${first} + 31 ones:`, y);
    }
  }
  const x = ['float32', [4], [NaN, 1, 2, 3]];
  show('DynamicQuantizeLinear', ...(await op('DynamicQuantizeLinear', [x], ['uint8', 'float32', 'uint8'])));
})();
JS
node run.js | tee seen
cat >expected <<'TEXT'
accuracy_level 0, 1 + 31 ones: 32
accuracy_level 0, NaN + 31 ones: NaN
accuracy_level 0, Infinity + 31 ones: Infinity
accuracy_level 4, 1 + 31 ones: 32
accuracy_level 4, NaN + 31 ones: 31
accuracy_level 4, Infinity + 31 ones: NaN
DynamicQuantizeLinear 0 85 170 255 | 0.0117647061124444 | 0
TEXT
diff expected seen || { echo 'changed: quantised products of ONNX Runtime treat NaN otherwise' >&2; exit 1; }
