#!/bin/sh
# llama.cpp loads a llama model with an attention window and computes it without; it heeds llama.attention.causal.
#
# Guess: a model of the llama architecture that states a window is computed with it, or refused.
# Seen:  node-llama-cpp 3.22.1 (llama.cpp v0.5.0): a window of 4 changes nothing after 20 tokens, and neither do
#        residual_scale and attention.clamp_kqv, which it reads for other architectures; causal false does:
#          none, sliding_window, residual_scale, clamp_kqv: 152:0.1184 69:0.0929 3:0.0410
#          causal: 152:0.3489 69:0.0652 184:0.0242
# Why:   Kiln computes the window and the scale, and refuses the clamp and causal false: logits of one file differ
#        from those of llama.cpp, and the file says that they must.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund --ignore-scripts --omit=optional \
    node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
cp "$here/gguf_input.mjs" "$here/llama_cpp.mjs" "$d"
cd "$d"
cat >run.mjs <<'EOF'
import {compare, model, vocabulary} from './gguf_input.mjs';
import {done, likeliest, load} from './llama_cpp.mjs';
const added = {none: [], sliding_window: ['llama.attention.sliding_window', ['u32', 4]],
               residual_scale: ['llama.residual_scale', ['f32', 0.5]],
               clamp_kqv: ['llama.attention.clamp_kqv', ['f32', 0.01]], causal: ['llama.attention.causal', ['bool', false]]};
const lines = [];
for (const [name, [key, value]] of Object.entries(added)) {
    model('m.gguf', vocabulary(), key ? {[key]: value} : {});
    lines.push(`${name}: ${await load('m.gguf', likeliest)}`);
}
const plain = '152:0.1184 69:0.0929 3:0.0410';
compare(lines.join('\n'), `none: ${plain}\nsliding_window: ${plain}\nresidual_scale: ${plain}\n` +
                          `clamp_kqv: ${plain}\ncausal: 152:0.3489 69:0.0652 184:0.0242`);
await done();
EOF
node run.mjs
