#!/bin/sh
# llama.cpp refuses a llama model of whose heads only a part turns.
#
# Guess: rope.dimension_count may be any even number up to the size of a head, as the key's name says.
# Seen:  node-llama-cpp 3.22.1 (llama.cpp v0.5.0): for this architecture it may only repeat the size of a head (8 here):
#          8: loads
#          4: refused: ... invalid n_rot: 4, expected 8
# Why:   Kiln computes such models (4 here), so there is no llama.cpp to hold them against; an engine that writes files
#        for both keeps rope.dimension_count at attention.key_length.
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
const lines = [];
for (const dims of [8, 4]) {
    model('m.gguf', vocabulary(), {'llama.rope.dimension_count': ['u32', dims]});
    // Of a refusal the part after the function and what it was doing.
    lines.push(`${dims}: ${(await load('m.gguf', () => 'loads')).replace(/refused: .*: invalid/, 'refused: ... invalid')}`);
}
compare(lines.join('\n'), '8: loads\n4: refused: ... invalid n_rot: 4, expected 8');
await done();
EOF
node run.mjs
