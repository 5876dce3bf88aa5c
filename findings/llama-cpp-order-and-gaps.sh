#!/bin/sh
# ggml refuses a GGUF file whose tensors do not lie in the order of their infos, or with a gap between them.
#
# Guess: offsets say where tensors lie, so any order, and room between them, is as good.
# Seen:  node-llama-cpp 3.22.1 (llama.cpp v0.5.0): an offset is only compared with the one it has computed:
#          in order: loads
#          gap of 64: refused: gguf_init_from_reader: tensor 'output_norm.weight' has offset 34368, expected 34304
#          first two swapped: refused: gguf_init_from_reader: tensor 'token_embd.weight' has offset 128, expected 0
# Why:   Kiln opens both. A tool that leaves room to edit a tensor in place, or that aligns some tensors to pages, makes
#        files that only readers which follow the offsets open.
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
import {done, load} from './llama_cpp.mjs';
const inOrder = (sizes, gap) => { let at = 0; return sizes.map((n) => { const o = at; at += n + gap; return o; }); };
const places = {'in order': (s) => inOrder(s, 0), 'gap of 64': (s) => inOrder(s, 64),
                'first two swapped': (s) => { const o = inOrder(s, 0); o[0] = s[1]; o[1] = 0; return o; }};
const lines = [];
for (const [name, place] of Object.entries(places)) {
    model('m.gguf', vocabulary(), {}, place);
    lines.push(`${name}: ${await load('m.gguf', () => 'loads')}`);
}
const refused = 'refused: gguf_init_from_reader: tensor';
compare(lines.join('\n'), `in order: loads\ngap of 64: ${refused} 'output_norm.weight' has offset 34368, expected 34304\n` +
                          `first two swapped: ${refused} 'token_embd.weight' has offset 128, expected 0`);
await done();
EOF
node run.mjs
