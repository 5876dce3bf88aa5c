#!/bin/sh
# llama.cpp puts a space after each user-defined token of a text, whether one stands there or not.
#
# Guess: a<user>b is the tokens of a, <user> and b, and a space is added at the start of the text only.
# Seen:  node-llama-cpp 3.22.1 (llama.cpp v0.5.0): what follows the token gets the space of a text's start too,
#        so that a<user>b ends in the token " b" (269), and b alone (261) cannot follow a user-defined token:
#          a<user>b: 270 268 269
#          a<user> b: 270 268 259 269
# Why:   Kiln adds the space once, at the start, and gives 270 268 261: token lists of the two differ for every
#        text with a user-defined token in it.
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
// 268: the user-defined token; 269 and 270: b and a with the space before them.
model('m.gguf', [...vocabulary(), ['<user>', 0, 4], ['\u2581b', -1, 1], ['\u2581a', -1, 1]]);
const texts = ['a<user>b', 'a<user> b'];
const seen = await load('m.gguf', (m) => texts.map((t) => `${t}: ${m.tokenize(t, false).join(' ')}`).join('\n'));
compare(seen, 'a<user>b: 270 268 269\na<user> b: 270 268 259 269');
await done();
EOF
node run.mjs
