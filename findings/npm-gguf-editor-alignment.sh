#!/bin/sh
# buildGgufHeader of @huggingface/gguf pads to 32 bytes whatever general.alignment says that it writes.
#
# Guess: the alignment is that of the metadata given, and the option of that name only for files without the key.
# Seen:  @huggingface/gguf 0.4.6: a file of alignment 64 whose header is built again with a longer text gets a header of
#        160 bytes, so its one tensor (1 to 16) lies 32 bytes before where every reader looks; with the option alignment
#        64 all is well:
#          header 160 bytes, data at 192, tensor read as 9 10 11 12
#          header 192 bytes, data at 192, tensor read as 1 2 3 4
# Why:   Kiln opens files of any alignment; one that went through such an editor holds other weights than before, and
#        nothing in it shows that.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund @huggingface/gguf@0.4.6
cp "$here/gguf_input.mjs" "$d"
cd "$d"
cat >run.mjs <<'EOF'
import fs from 'node:fs';
import {buildGgufHeader, gguf} from '@huggingface/gguf';
import {compare, key, write} from './gguf_input.mjs';
const read = (path) => gguf(path, {allowLocalFile: true, typedMetadata: true});
write('m.gguf', [key('general.alignment', 'u32', 64), key('x.text', 'text', 'a')],
      [['one', [16], Array.from({length: 16}, (_, i) => i + 1)]], null, 64);
const bytes = fs.readFileSync('m.gguf'), old = await read('./m.gguf'), lines = [];
for (const option of [{}, {alignment: 64}]) {
    const metadata = {...old.typedMetadata, 'x.text': {value: 'b'.repeat(30), type: 8}};
    const head = await buildGgufHeader(new Blob([bytes]), metadata, {littleEndian: true,
                                       tensorInfoByteRange: old.tensorInfoByteRange, ...option});
    const again = Buffer.concat([Buffer.from(await head.arrayBuffer()), bytes.subarray(Number(old.tensorDataOffset))]);
    fs.writeFileSync('n.gguf', again);
    const at = Number((await read('./n.gguf')).tensorDataOffset);
    const values = [0, 1, 2, 3].map((i) => again.readFloatLE(at + 4 * i));
    lines.push(`header ${head.size} bytes, data at ${at}, tensor read as ${values.join(' ')}`);
}
compare(lines.join('\n'), 'header 160 bytes, data at 192, tensor read as 9 10 11 12\n' +
                          'header 192 bytes, data at 192, tensor read as 1 2 3 4');
EOF
node run.mjs
