#!/bin/sh
# To two npm readers a GGUF key called version is the version of the format.
#
# Guess: keys of the file and fields of its header are kept apart.
# Seen:  @huggingface/gguf 0.4.6 and hyllama 0.2.2 put both into one object, keys last; in the former tensor_count and
#        kv_count go the same way:
#          @huggingface/gguf: version 77, tensor_count 88
#          hyllama: version 77, tensorCount 1
# Why:   kiln_gguf_writer takes any key. One of these names makes a file of version 3 show as another version: give
#        keys a prefix.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund @huggingface/gguf@0.4.6 hyllama@0.2.2
cp "$here/gguf_input.mjs" "$d"
cd "$d"
cat >run.mjs <<'EOF'
import fs from 'node:fs';
import {gguf} from '@huggingface/gguf';
import {ggufMetadata} from 'hyllama';
import {compare, key, write} from './gguf_input.mjs';
write('m.gguf', [key('version', 'u32', 77), key('tensor_count', 'u32', 88)], [['one', [1], [1]]]);
const a = (await gguf('./m.gguf', {allowLocalFile: true})).metadata;
const b = ggufMetadata(new Uint8Array(fs.readFileSync('m.gguf')).buffer).metadata;
compare(`@huggingface/gguf: version ${a.version}, tensor_count ${a.tensor_count}\n` +
        `hyllama: version ${b.version}, tensorCount ${b.tensorCount}`,
        '@huggingface/gguf: version 77, tensor_count 88\nhyllama: version 77, tensorCount 1');
EOF
node run.mjs
