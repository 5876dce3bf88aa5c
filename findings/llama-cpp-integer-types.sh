#!/bin/sh
# llama.cpp refuses a model whose counts are u64 or i32, and an epsilon or factor that is f64.
#
# Guess: an integer of any type will do where the value fits, and an f64 for an f32.
# Seen:  node-llama-cpp 3.22.1 (llama.cpp v0.5.0): only the one type that its writers use loads:
#          block_count u32: loads
#          block_count u64: refused: key llama.block_count has wrong type u64 but expected type u32
#          block_count i32: refused: key llama.block_count has wrong type i32 but expected type u32
#          epsilon f64: refused: key llama.attention.layer_norm_rms_epsilon has wrong type f64 but expected type f32
#          alignment u64: refused: key 'general.alignment' must be of type u32 but is u64
# Why:   Kiln converts integers where the value fits, and kiln_gguf_writer_add_u64 and _add_f64 write what Kiln opens
#        and llama.cpp does not: use add_u32 and add_f32 for keys that it is to read.
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
const cases = [['block_count u32', 'llama.block_count', ['u32', 2]], ['block_count u64', 'llama.block_count', ['u64', 2]],
               ['block_count i32', 'llama.block_count', ['i32', 2]],
               ['epsilon f64', 'llama.attention.layer_norm_rms_epsilon', ['f64', 1e-5]],
               ['alignment u64', 'general.alignment', ['u64', 32]]];
const lines = [];
for (const [name, key, value] of cases) {
    model('m.gguf', vocabulary(), {[key]: value});
    // Of a refusal the part after the file and the function.
    lines.push(`${name}: ${(await load('m.gguf', () => 'loads')).replace(/refused: .*: key/, 'refused: key')}`);
}
const wrong = (key, is, want) => `refused: key ${key} has wrong type ${is} but expected type ${want}`;
compare(lines.join('\n'), ['block_count u32: loads',
    'block_count u64: ' + wrong('llama.block_count', 'u64', 'u32'),
    'block_count i32: ' + wrong('llama.block_count', 'i32', 'u32'),
    'epsilon f64: ' + wrong('llama.attention.layer_norm_rms_epsilon', 'f64', 'f32'),
    "alignment u64: refused: key 'general.alignment' must be of type u32 but is u64"].join('\n'));
await done();
EOF
node run.mjs
