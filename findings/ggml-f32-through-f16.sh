#!/bin/sh
# ggml's conv_1d, conv_2d and gelu take and give f32 but round their input to f16 on the way; conv_2d_direct
# and gelu_erf, which look like mere variants, do not.
#
# Guess: with f32 weights and f32 activations every product is f32; only f16 weights bring f16 rounding. gelu
# of f32 is a formula, so it grows with its argument.
#
# Seen (npm @node-llama-cpp/linux-x64 3.22.1 with ggml 0.25.1, CPU), a 1x1 f32 kernel of 1 over
# 1.0001,70000,3.3333:
#   conv_1d, conv_2d and conv_2d_dw      1 Infinity 3.333984375
#   conv_2d_direct, conv_2d_dw_direct    1.000100016593933 70000 3.3333001136779785
# gelu is the same for 1 and 1.0004, gives 10 for 9.9969, and gelu_quick gives Infinity for 70000.
#
# Why it matters: Kiln's gelu works in f32, and a convolution written as its matmul of f32 does too, so a
# comparison with ggml differs in the fourth digit, and an activation above 65504, which a port handles, is
# infinite in the original.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund @node-llama-cpp/linux-x64@3.22.1 koffi@3.3.4
cp "$(dirname "$0")/ggml.js" "$d"
cd "$d"
cat >run.js <<'JS'
const { TENSOR, f32, run } = require('./ggml.js');
const row = [1.0001, 70000, 3.3333];
// Parameters are stride, padding and dilation; 2-D has each for both axes.
const int = (n) => Array(n).fill('int');
const kernel = f32([1, 1, 1], [1]);
console.log('conv_1d', ...run('conv_1d', [TENSOR, TENSOR, ...int(3)], kernel, f32([3, 1], row), 1, 0, 1));
for (const name of ['conv_2d', 'conv_2d_dw', 'conv_2d_direct', 'conv_2d_dw_direct']) {
  const image = f32([3, 1, 1], row);
  console.log(name, ...run(name, [TENSOR, TENSOR, ...int(6)], kernel, image, 1, 1, 0, 0, 1, 1));
}
for (const name of ['gelu', 'gelu_quick', 'gelu_erf']) {
  const y = run(name, [TENSOR], f32([4], [1, 1.0004, 9.9969, 70000]));
  console.log(name, ...y.map((v) => v.toPrecision(5)));
}
JS
node run.js | tee seen
cat >expected <<'TEXT'
conv_1d 1 Infinity 3.333984375
conv_2d 1 Infinity 3.333984375
conv_2d_dw 1 Infinity 3.333984375
conv_2d_direct 1.000100016593933 70000 3.3333001136779785
conv_2d_dw_direct 1.000100016593933 70000 3.3333001136779785
gelu 0.84131 0.84131 10.000 70000
gelu_quick 0.84570 0.84570 10.000 Infinity
gelu_erf 0.84134 0.84178 9.9969 70000
TEXT
diff expected seen || { echo 'changed: ggml rounds to f16 at other places now' >&2; exit 1; }
