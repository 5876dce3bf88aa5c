#!/bin/sh
# llama.cpp makes tokens from text that the vocabulary marks as unused.
#
# Guess: a token of type 5 (unused) is skipped in encoding, so that its text becomes other tokens.
# Seen:  node-llama-cpp 3.22.1 (llama.cpp v0.5.0): the type plays no part in joining; 268 is the token "ab", 259 the
#        space at the start:
#          normal: 259 268
#          unused: 259 268
# Why:   Kiln passes over such tokens (259 260 261), so token lists of the two differ for a vocabulary that has them.
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
for (const [name, type] of [['normal', 1], ['unused', 5]]) {
    model('m.gguf', [...vocabulary(), ['ab', -1, type]]); // 268
    lines.push(`${name}: ${await load('m.gguf', (m) => m.tokenize('ab', false).join(' '))}`);
}
compare(lines.join('\n'), 'normal: 259 268\nunused: 259 268');
await done();
EOF
node run.mjs
