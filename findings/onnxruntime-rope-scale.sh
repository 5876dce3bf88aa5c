#!/bin/sh
# ONNX Runtime's RotaryEmbedding has a documented attribute "scale" and ignores it.
#
# Guess: scale multiplies the rotated values or the positions (linear position interpolation); any value but 1
# changes the result.
#
# Seen (onnxruntime-node 1.30.0, CPU), 1,2,3,4 rotated at position 2: scale 1, 0.5 and 100 all give -0.5 1.5
# -0.5 3.5 interleaved and -1 -1 2 3 else; no warning. The attribute is accepted, a made-up name is refused by
# the model check.
#
# Why it matters: Kiln's rope has frequency scales and an attention factor. A converter that maps "scale" to
# either changes a model that ran with it ignored; the right port drops it.
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
  const x = ['float32', [1, 1, 4], [1, 2, 3, 4]];
  const cosines = ['float32', [3, 2], [1, 1, 0, 0, 0.5, 0.5]];
  const sines = ['float32', [3, 2], [0, 0, 1, 1, 0.5, 0.5]];
  const rotate = (attributes) => op('RotaryEmbedding', [x, ['int64', [1], [2]], cosines, sines], ['float32'],
    attributes, { domain: 'com.microsoft' });
  for (const interleaved of [1, 0]) {
    for (const float of [1, 0.5, 100]) {
      const [y] = await rotate({ interleaved, scale: { float } });
      show(`interleaved ${interleaved}, scale ${float}:`, y);
    }
  }
  const answer = await rotate({ escale: { float: 1 } }).then(() => 'taken', () => 'refused');
  console.log(`escale: ${answer}`);
})();
JS
node run.js | tee seen
cat >expected <<'TEXT'
interleaved 1, scale 1: -0.5 1.5 -0.5 3.5
interleaved 1, scale 0.5: -0.5 1.5 -0.5 3.5
interleaved 1, scale 100: -0.5 1.5 -0.5 3.5
interleaved 0, scale 1: -1 -1 2 3
interleaved 0, scale 0.5: -1 -1 2 3
interleaved 0, scale 100: -1 -1 2 3
escale: refused
TEXT
diff expected seen || { echo 'changed: RotaryEmbedding of ONNX Runtime heeds scale now' >&2; exit 1; }
