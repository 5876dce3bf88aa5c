#!/bin/sh
# ggml's argmax takes the last of equal maxima.
#
# Guess: the first one wins, as in numpy, PyTorch's CPU code, TensorFlow and ONNX (select_last_index 0).
#
# Seen (npm @node-llama-cpp/linux-x64 3.22.1 with ggml 0.25.1, CPU): 1,3,3,2 gives 2; 3,1,3,1,3 gives 4; a row
# of -inf gives its last index. Of NaN,1,2 and 1,NaN,2 it gives 2, of 1,2,NaN 1: a NaN never wins.
#
# Why it matters: greedy decoding, MoE routers and VQ codebooks meet exact ties with quantised or masked
# logits. Kiln takes the lowest index, so a port picks another token from the same logits.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund @node-llama-cpp/linux-x64@3.22.1 koffi@3.3.4
cp "$(dirname "$0")/ggml.js" "$d"
cd "$d"
cat >run.js <<'JS'
const { TENSOR, f32, i32 } = require('./ggml.js');
const INF = Infinity;
const rows = [[1, 3, 3, 2], [3, 1, 3, 1, 3], [-INF, -INF, -INF], [NaN, 1, 2], [1, NaN, 2], [1, 2, NaN]];
for (const row of rows) {
  console.log(`${row}:`, ...i32('argmax', [TENSOR], f32([row.length, 1], row)));
}
JS
node run.js | tee seen
cat >expected <<'TEXT'
1,3,3,2: 2
3,1,3,1,3: 4
-Infinity,-Infinity,-Infinity: 2
NaN,1,2: 2
1,NaN,2: 2
1,2,NaN: 1
TEXT
diff expected seen || { echo 'changed: argmax of ggml breaks ties differently now' >&2; exit 1; }
