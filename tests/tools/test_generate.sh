#!/bin/sh
# How `kiln generate` and `kiln logits` end: with as many tokens as -n says, with a full context, or where a model's
# logits are not numbers.
set -u
# shellcheck source=tests/tools/cli_help.sh
. "$(dirname "$0")/cli_help.sh"
expect 0 demo-model m.gguf

# ---- -n counts what is printed -------------------------------------------------------------------------------

# words N: as many words as tokens, in this model, are on stdout.
words() { [ "$(wc -w <out | tr -d ' ')" = "$1" ] || problem "$command: not $1 words"; }
expect 0 generate m.gguf -n 8 -p 'Kiln bakes a'
words 8
err_has '^kiln: prompt: 3 tokens and BOS in '
err_has '^kiln: generated: 5 tokens in .*; with the prompt.s 8 of -n 8$'
! grep -q 'context is full' err || problem "$command: the context is not full"
expect 0 generate m.gguf -n 4 -p 'Kiln bakes a'
words 4
err_has '^kiln: generated: 1 token; with the prompt.s 4 of -n 4$'
expect 0 generate m.gguf -n 3 -p 'Kiln bakes a' -q
words 3
err_has '^kiln: nothing is generated: the prompt alone has the 3 tokens of -n$'
failure 'the prompt has 3 tokens, BOS not counted, and -n is 2' generate m.gguf -n 2 -p 'Kiln bakes a'

# ---- a full context ------------------------------------------------------------------------------------------

expect 0 generate m.gguf -n 100 -p 'Kiln bakes a' --context 4
words 4
err_has '^kiln: the context is full: 1 token generated after the prompt fills its 4 positions, and 96 of -n 100 are missing'
err_has '; --context goes up to 1024$'
expect 0 generate m.gguf -n 100 -p 'Kiln bakes a' --context 10 -q
words 10
err_has '^kiln: the context is full: 7 tokens generated after the prompt fill its 10 positions, and 90 of -n 100'
expect 0 generate m.gguf -n 10 -p 'Kiln bakes a' --context 10 -q
no_err
expect 0 generate m.gguf -n 2000 -q
err_has '^kiln: the context is full: 1024 tokens generated after the prompt fill its 1024 positions, and 976 of -n 2000 are missing$'

# ---- logits that are not numbers ------------------------------------------------------------------------------

expect 0 dump m.gguf --graph g.json
place() { sed -n "s/.*\"name\": \"$1\".*\"offset\": \\([0-9]*\\).*/\\1/p" g.json; }
# spoil TENSOR BYTES-FURTHER BYTES: a copy of the model with these bytes in it, bad.gguf.
spoil() {
    cp m.gguf bad.gguf
    printf '%b' "$3" | dd of=bad.gguf bs=1 seek=$(($(place "$1") + $2)) conv=notrunc 2>dd.err || problem 'dd failed'
}
echo '1, 264 265 266 267' >tokens
nan='\0000\0000\0300\0177' inf='\0000\0000\0200\0377'
for bad in "$nan" "$inf"; do
    spoil blk.2.ffn_norm.weight 8 "$bad"
    for how in '' '-m exact' '--chunk 2' '--no-fuse' '-t 1'; do
        # shellcheck disable=SC2086
        failure '^kiln: the logits after token 4 (position 3) hold NaN or Inf; the first is in token 1: .*blk.2' \
            generate bad.gguf -p 'Kiln bakes a' -n 20 $how
        err_has "hint: the file's tensor 'blk.2.ffn_norm.weight' holds NaN or Inf, first at element 2$"
        words 3 # the prompt's
        ! grep -q unk out || problem "$command: tokens are made up"
        # shellcheck disable=SC2086
        failure '^kiln: the logits after token 1 (position 0) hold NaN or Inf; the first is in token 1: .*blk.2' \
            logits bad.gguf --tokens tokens --out l.npy $how
        [ ! -e l.npy ] || problem "$command: wrote l.npy"
    done
done
# Only one token's row of the embedding: nothing is wrong before that token comes.
spoil token_embd.weight $((266 * 512)) '\0000\0176'
expect 0 logits bad.gguf --tokens tokens -n 3 --out l.npy
failure '^kiln: the logits after token 4 (position 3) hold NaN or Inf; the first is in token 4: .*embedding' \
    logits bad.gguf --tokens tokens --out l2.npy
err_has "'token_embd.weight' holds NaN or Inf, first at element $((266 * 256))$"
failure 'the first is in token 4: ' logits bad.gguf --tokens tokens --out l2.npy --chunk 1

finish
