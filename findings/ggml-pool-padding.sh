#!/bin/sh
# ggml's 1-D average pooling leaves padding out of the divisor and its 2-D one counts it.
#
# Guess: pool_1d is pool_2d with a height of 1, so a row pooled by either gives the same numbers.
#
# Seen (npm @node-llama-cpp/linux-x64 3.22.1 with ggml 0.25.1, CPU), average of 1,2,3,4 with kernel 3, stride
# 1, padding 1:
#   pool_1d 1.5 2 3 3.5
#   pool_2d 1 2 3 2.3333332538604736
#
# Why it matters: ONNX and PyTorch have count_include_pad; ggml has no such parameter, and its answer depends
# on the number of dimensions. A port to Kiln writes pooling as a product with a constant matrix, whose first
# and last row must differ for the two.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund @node-llama-cpp/linux-x64@3.22.1 koffi@3.3.4
cp "$(dirname "$0")/ggml.js" "$d"
cd "$d"
cat >run.js <<'JS'
const { TENSOR, f32, run } = require('./ggml.js');
const row = [1, 2, 3, 4];
const AVERAGE = 1;
// Parameters are operation, kernel, stride, padding; 2-D has each for both axes.
const one = run('pool_1d', [TENSOR, 'int', 'int', 'int', 'int'], f32([4, 1], row), AVERAGE, 3, 1, 1);
const two = run('pool_2d', [TENSOR, 'int', 'int', 'int', 'int', 'int', 'float', 'float'],
  f32([4, 1, 1], row), AVERAGE, 3, 1, 1, 1, 1, 0);
console.log('pool_1d', ...one);
console.log('pool_2d', ...two);
JS
node run.js | tee seen
cat >expected <<'TEXT'
pool_1d 1.5 2 3 3.5
pool_2d 1 2 3 2.3333332538604736
TEXT
diff expected seen || { echo 'changed: average pooling of ggml treats padding differently now' >&2; exit 1; }
