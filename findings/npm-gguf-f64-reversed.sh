#!/bin/sh
# The npm package gguf reads f64 keys with their bytes in reverse.
#
# Guess: 1.0 written as f64, little-endian as everything in the file, is 1.
# Seen:  gguf 1.0.7: f32 is right, f64 is not, alone or in an array. (A file must also have 10 MiB or more: below,
#        "unexpected bytes read".)
#          {"f32":1,"f64":3.03865e-319,"list":[3.03865e-319,3.16e-322]}
# Why:   kiln_gguf_writer_add_f64 writes what this reader turns into a number near 0. Keep what such tools are to show
#        in f32.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund gguf@1.0.7
cp "$here/gguf_input.mjs" "$d"
cd "$d"
cat >run.mjs <<'EOF'
import {createRequire} from 'node:module';
import {compare, key, write} from './gguf_input.mjs';
const {parseRawMetadata} = createRequire(import.meta.url)('gguf');
write('m.gguf', [key('x.f32', 'f32', 1), key('x.f64', 'f64', 1), key('x.list', 'f64', [1, 2])],
      [['zeros', [1024, 3072], new Float32Array(1024 * 3072)]]);
const {metadata, error} = await parseRawMetadata('m.gguf');
compare(error ? String(error) : JSON.stringify(metadata.x), '{"f32":1,"f64":3.03865e-319,"list":[3.03865e-319,3.16e-322]}');
EOF
node run.mjs
