#!/bin/sh
# llama.cpp puts token 1 before a prompt of a SentencePiece model that names no BOS token.
#
# Guess: without tokenizer.ggml.bos_token_id there is no BOS token, and none is added.
# Seen:  node-llama-cpp 3.22.1 (llama.cpp v0.5.0): ids that are missing are taken to be 1 (BOS) and 2 (EOS), and BOS is
#        added:
#          with the keys: bos 1, eos 2, added true
#          without: bos 1, eos 2, added true
# Why:   Kiln adds BOS only where the file has its id. A file without the keys therefore gives prompts that are a token
#        shorter, and other logits; write the key.
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
const ids = (m) => `bos ${m.tokens.bos}, eos ${m.tokens.eos}, added ${m.tokens.shouldPrependBosToken}`;
model('with.gguf', vocabulary());
model('without.gguf', vocabulary(), {'tokenizer.ggml.bos_token_id': null, 'tokenizer.ggml.eos_token_id': null});
compare(`with the keys: ${await load('with.gguf', ids)}\nwithout: ${await load('without.gguf', ids)}`,
        'with the keys: bos 1, eos 2, added true\nwithout: bos 1, eos 2, added true');
await done();
EOF
node run.mjs
