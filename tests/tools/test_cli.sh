#!/bin/sh
# The kiln command as a user meets it: exit codes, what goes to stdout and what to stderr, and the way from a model
# to a graph, a plan, a check and a run. $KILN is the binary; $KILN_TEST_DATA or ../shared/data adds real models.
set -u
# shellcheck source=tests/tools/cli_help.sh
. "$(dirname "$0")/cli_help.sh"
man=$root/tools/kiln/kiln.1

# ---- help, versions and mistakes -----------------------------------------------------------------------------

expect 2
no_out
err_has '^Usage: kiln COMMAND'
for word in --help -h help; do
    expect 0 $word
    no_err
    out_has '^Usage: kiln COMMAND'
done
expect 0 --version
no_err
out_has '^kiln [0-9]*\.[0-9]*\.[0-9]*$'
for name in generate logits dump run check demo demo-model; do
    expect 0 $name --help
    no_err
    out_has "^Usage: kiln $name "
    cp out help1
    expect 0 help $name
    same help1 out
    expect 0 $name nonsense -h
    same help1 out
    usage "unknown option '--nonsense'" $name --nonsense
done
usage "unknown command 'genrate'; did you mean 'generate'?" genrate
usage "unknown command 'xyzzy'" xyzzy
usage "unknown option '--frobnicate'" --frobnicate
usage "did you mean '--no-fuse'?" generate m.gguf --no-fuze
usage "did you mean '--threads'?" generate m.gguf --thread=2
usage "unknown option '-z'" generate m.gguf -z
usage "no model given" generate
usage "one argument too many: 'b'" generate a b
usage "one argument too many: '--no-fuse'" generate -- a --no-fuse
usage "--threads is '0'; expected an integer from 1 to 1024" generate m.gguf --threads 0
usage "--threads is '2x'" generate m.gguf -t 2x
usage "--steps is '99999999999999999999'" generate m.gguf -n 99999999999999999999
usage "--mode is 'slow'; expected fast or exact" generate m.gguf --mode slow
usage "--no-fuse takes no value" generate m.gguf --no-fuse=1
usage "--prompt needs a value (TEXT)" generate m.gguf -p
usage "--tokens is missing" logits m.gguf --out o
usage "--out is missing" logits m.gguf --tokens t
usage "one argument too many" demo here

# ---- files that are not there, or not what they should be ----------------------------------------------------

: >empty
printf 'no model\n' >text
printf 'GGUF\003\000\000\000' >torn.gguf
printf '{"format": "kiln.graph", "version": 1' >torn.json
printf '{"format": "something else"}' >other.json
for name in generate dump check; do
    failure "cannot open 'nowhere.gguf': No such file" $name nowhere.gguf
    no_out
    err_has 'hint: '
    failure "'empty' is empty" $name empty
    failure "'text' is neither a GGUF file nor a JSON object" $name text
    failure "torn.gguf" $name torn.gguf
    failure "" $name .
done
failure "cannot open 'nowhere.json'" run nowhere.json
for name in dump check run; do
    failure 'torn.json' $name torn.json
    failure 'other.json' $name other.json
    no_out
done
failure "cannot create" demo-model nowhere/m.gguf
failure "cannot create 'nowhere/there'" demo --dir nowhere/there

# ---- the demo ------------------------------------------------------------------------------------------------

expect 0 demo --dir d -t 2
no_err
sentence='Kiln bakes a graph once, then replays it for every token. Barriers stand only where two byte ranges meet;'
sentence="$sentence experts that nobody chose cost nothing and you see why in the dump!"
out_has "^text      $sentence (and so on)$"
for line in 'speed     128 tokens, [0-9]* a second' 'plan      [0-9]* nodes became [0-9]* records in [0-9]* regions' \
    'plan .* baked once, replayed 128 times$' 'barriers  [0-9]* kept, [0-9]* avoided' 'arena     [0-9.]* KiB; without reuse' \
    'files     d/demo-moe.graph.json, d/demo-moe.plan.json$' 'regions   ' '     2    matmul, matmul, matmul  *raw blk.0.attn_norm -> blk.0.q$' \
    "command   $KILN\$"; do
    out_has "^$line"
done
[ "$(wc -l <out)" -le 24 ] || problem "$command: more than 24 lines"
[ "$(grep -c "$sentence" out)" = 1 ] && [ "$(grep -o 'Kiln bakes' out | wc -l)" = 1 ] || problem "$command: the text comes twice"
# The three commands that it ends with work as they are printed.
tail -n 3 out | sed 's/^next//; s/^ *//' >next
[ "$(grep -c "^$KILN " next)" = 3 ] || problem "$command: three commands to try are missing"
while read -r command; do
    checks=$((checks + 1))
    eval "$command" >out 2>err </dev/null || problem "a command that demo prints: $command"
done <next
for option in --serial --no-fuse '--max-arena 12000' '-n 2'; do
    # shellcheck disable=SC2086
    expect 0 demo --dir d2 $option
    [ "$(wc -l <out)" -le 24 ] || problem "$command: more than 24 lines"
done
model=d/demo-moe.gguf
expect 0 demo-model again.gguf
no_out
same $model again.gguf

# A key of the architecture that Kiln does not know has no effect, which is told; one with an effect is refused.
LC_ALL=C sed 's/llama\.vocab_size/llama.vocab_sizf/' again.gguf >unknown.gguf
expect 0 generate $model -n 3 -q
cp out want
for what in "generate unknown.gguf -n 3 -q" "dump unknown.gguf"; do
    # shellcheck disable=SC2086
    expect 0 $what
    err_has '^kiln: unknown.gguf: llama.vocab_sizf ([0-9]*) is not known and has no effect$'
    test "$(grep -c vocab_sizf err)" = 1 || problem "$command: the key is not told once"
done
expect 0 generate unknown.gguf -n 3 -q
same out want
LC_ALL=C sed 's/llama\.vocab_size/llama.ssm.a_bcde/' again.gguf >foreign.gguf
failure 'llama.ssm.a_bcde is [0-9]*, which would change what the model computes' generate foreign.gguf -n 3

# The text is the whole of stdout; statistics go to stderr, and -q leaves them out. It is the same in every way a
# plan can be made.
expect 0 generate $model -n 32
prefixed
err_has 'generated: 32 tokens'
printf '%s\n' "$sentence" >want
same out want
for how in '-t 1' '-t 2 -m exact' '--no-fuse' '--no-reuse' '--serial' '-m exact --no-fuse --no-reuse --serial' \
    '--cache f32' '--cache bf16 -m exact'; do
    # shellcheck disable=SC2086
    expect 0 generate $model -n 32 -q $how
    no_err
    same out want
done
for chunk in 1 3 7 100; do
    expect 0 generate $model -n 32 -q -p 'Kiln bakes a graph once, then' --chunk $chunk
    no_err
    same out want
done
expect 0 generate $model -q -n 1 -p ''
printf 'Kiln\n' >want
same out want
expect 0 generate $model -n 1 -p Kiln # BOS is not counted, so that there is room for this one
same out want
expect 0 generate $model -q -n 2 -p Kiln
printf 'Kiln bakes\n' >want
same out want
failure 'the prompt has 2 tokens, BOS not counted, and -n is 1' generate $model -n 1 -p 'Kiln bakes'
failure 'the prompt has .* tokens, which leaves no room in 3 positions' generate $model --context 3 -p "$sentence"
# Every token is written when it is there; when nobody reads any more, there is an end to it.
"$KILN" generate $model -n 1000 2>err | head -c 20 >out
[ -s err ] && problem 'generate into a closed pipe complains'
(trap '' PIPE && "$KILN" generate $model -q -n 1000 2>err; echo $? >code) | head -c 20 >out
if [ -s err ] || [ "$(cat code)" != 1 ]; then problem 'generate does not end quietly when nobody reads'; fi
failure 'context is 5000, but the model was trained for 1024' generate $model --context 5000
failure 'max_arena\|arena' generate $model --max-arena 16
# Bytes may have a unit, in every command that takes some.
printf '%s\n' "$sentence" >want
for size in 1048576 1024K 1M 1MiB 1G 8388607T; do
    expect 0 generate $model -n 32 -q --max-arena $size
    same out want
    expect 0 check $model -q --max-arena $size
    expect 0 dump $model --max-arena=$size
done
failure 'arena' check $model --max-arena 1K
for size in 1m 1KB K 1Mi 1.5M -1M 8388608T 9223372036854775808 1M1 ''; do
    for name in generate check dump run; do
        usage "--max-arena is '$size'; expected bytes from 0 to 9223372036854775807, as 4096, 64K, 1M or 2G" $name $model \
            --max-arena="$size"
    done
done
if [ -w /dev/full ]; then
    "$KILN" generate $model -q -n 8 >/dev/full 2>err
    [ $? = 1 ] || problem 'generate to a full disk does not exit with 1'
    grep -q '^kiln: stdout: No space' err || problem 'generate to a full disk does not say so'
fi
for how in "generate $model -n 8" "dump $model" "dump $model --plan -" "dump $model --dot -" "dump $model --graph -" \
    "logits $model --tokens one --out -" "check $model" --help; do
    echo 1 >one
    command="kiln $how >&-"
    checks=$((checks + 1))
    # shellcheck disable=SC2086
    "$KILN" $how 2>err >&-
    [ $? = 1 ] || problem "$command: does not exit with 1"
    [ "$(grep -c '^kiln: stdout: ' err)" = 1 ] || problem "$command: does not say once that it failed"
done
"$KILN" dump $model 2>err | head -n 1 >out
[ -s err ] && problem 'dump into a closed pipe complains'

# ---- dump, check, run ----------------------------------------------------------------------------------------

expect 0 dump $model
no_err
out_has 'llama.expert_count  *u32 *8$'
out_has 'blk.0.ffn_gate_exps.weight  *q4_0'
out_has '^plan: [0-9]* nodes'
expect 0 dump $model --graph g.json --plan p.json --dot p.dot -m exact
no_out
no_err
grep -q '^digraph plan {' p.dot || problem 'the picture is none'
grep -q 'barrier 0: hazard, raw' p.dot || problem 'the picture lacks its barriers'
[ "$(grep -c 'subgraph cluster' p.dot)" -gt 10 ] || problem 'the picture lacks its regions'
# frames FILE: readers may put a node into the frame in which it is first named, so no edge comes before a frame.
frames() {
    awk '/->/ { edges++ } /subgraph|\[label=|shape=box, style=filled/ { late += edges > 0 } END { exit !(edges > 0 && !late) }' "$1" ||
        problem "$1: an edge comes before a frame or a node"
}
frames p.dot
if command -v dot >/dev/null; then
    dot -Tsvg p.dot >/dev/null || problem 'Graphviz refuses the picture'
else
    echo "skipped: no Graphviz to try the picture with; its order was checked"
fi
expect 0 dump $model --graph - -m exact
same out g.json
expect 0 dump g.json --plan - -m exact
same out p.json
expect 0 dump p.json --graph - # a plan dump holds its graph
same out g.json
expect 0 dump p.json
out_has '^plan: '
failure "cannot create 'nowhere/g.json'" dump $model --graph nowhere/g.json

expect 0 check $model
no_err
[ "$(grep -c 'no hazard is missed' out)" = 4 ] || problem "check does not check four plans"
[ "$(tail -n 1 out)" = 'right: 4 plans' ] || problem "$command: no verdict in the last line"
expect 0 check g.json --mode exact --no-fuse
[ "$(grep -c 'no hazard is missed' out)" = 1 ] || problem "check --mode exact --no-fuse does not check one plan"
expect 0 check $model -q --chunk 16 --no-reuse
no_out
expect 0 check g.json --serial -q
expect 0 check p.json
out_has 'p.json: the plan in it is the one that is baked afresh'
[ "$(grep -c 'no hazard is missed' out)" = 5 ] || problem "check does not check the plan of the dump, and four"
[ "$(tail -n 1 out)" = 'right: 5 plans' ] || problem "$command: no verdict in the last line"
sed 's/"serial": false/"serial": true/' p.json >edited.json
failure 'hint: the file was edited or is of another version' check edited.json
[ "$(tail -n 1 out)" = 'wrong: the plan in the file is not the one that its graph and options give' ] ||
    problem "$command: no verdict in the last line"
expect 0 check d/demo-moe.plan.json
for name in g p; do # with a byte order mark, as some editors write
    { printf '\357\273\277' && cat $name.json; } >marked-$name.json
    expect 0 check marked-$name.json
done
printf '\377\376{\000' >utf16.json
failure 'the text is in UTF-16; save it as UTF-8' check utf16.json
# A plan dump has options of its own; they hold where the command line has none.
expect 0 dump g.json --plan p2.json -m exact --serial --no-reuse
expect 0 dump p2.json --plan -
same out p2.json
expect 0 dump p2.json --plan - -m exact
same out p.json
expect 0 check p2.json
out_has '^as dumped: '
expect 0 check g.json --context 8
expect 0 check $model --context 8 -q
# Two ops that write the rows of one storage in turns: thousands of runs, each between two of the other's.
cat >turns.json <<'EOF'
{"format": "kiln.graph", "version": 1, "slots": [{"name": "pos", "type": "i64", "min": 0, "max": 4096}],
 "storages": [{"id": 1, "name": "kv", "kind": "state", "size": 2097152}, {"id": 2, "name": "k", "kind": "input", "size": 256},
   {"id": 3, "name": "v", "kind": "input", "size": 256}],
 "tensors": [{"id": 1, "name": "k", "dtype": "f32", "shape": [1, 64], "storage": 2},
   {"id": 2, "name": "v", "dtype": "f32", "shape": [1, 64], "storage": 3},
   {"id": 3, "dtype": "f32", "shape": [4096, 64], "storage": 1, "strides": [512, 4]},
   {"id": 4, "dtype": "f32", "shape": [4096, 64], "storage": 1, "strides": [512, 4]},
   {"id": 5, "dtype": "f32", "shape": [4096, 64], "storage": 1, "strides": [512, 4], "offset": 256},
   {"id": 6, "dtype": "f32", "shape": [4096, 64], "storage": 1, "strides": [512, 4], "offset": 256}],
 "nodes": [{"op": "set_rows", "inputs": [3, 1], "outputs": [4], "attrs": {"position": {"slot": "pos"}, "ring": false}},
   {"op": "set_rows", "inputs": [5, 2], "outputs": [6], "attrs": {"position": {"slot": "pos"}, "ring": false}}]}
EOF
expect 0 check turns.json --mode exact --no-fuse
out_has 'no hazard is missed; 1 regions'
# What has too many runs to be compared is said to be undecided, and is no finding.
cat >odd.json <<'EOF'
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "s", "kind": "state", "size": 100000}, {"id": 2, "name": "y", "kind": "output", "size": 108000000}],
 "tensors": [{"id": 1, "dtype": "f32", "shape": [11000, 1], "storage": 1, "offset": 4, "strides": [8, 4]},
   {"id": 2, "dtype": "f32", "shape": [11000, 1], "storage": 1, "offset": 4, "strides": [8, 4]},
   {"id": 3, "dtype": "f32", "shape": [300, 300, 300, 1], "storage": 1, "strides": [112, 104, 88, 4]},
   {"id": 4, "name": "y", "dtype": "f32", "shape": [300, 300, 300, 1], "storage": 2}],
 "nodes": [{"op": "zero", "inputs": [1], "outputs": [2]}, {"op": "silu", "name": "y", "inputs": [3], "outputs": [4]}]}
EOF
expect 0 check odd.json --mode exact --no-fuse
out_has 'undecided: 1 pairs'
out_has '^right: 1 plan, as far as that was decided: 1 pairs of accesses were not$'
# What comes through a pipe is read once.
checks=$((checks + 3))
command='dump and check of a pipe'
# shellcheck disable=SC2002
cat p2.json | "$KILN" dump /dev/stdin --plan - >out 2>err || problem "$command"
same out p2.json
"$KILN" check - <g.json >out 2>err || problem "$command"
mkfifo json
cat g.json >json &
expect 0 check json -q
wait
cat $model | "$KILN" dump - >out 2>err && problem 'a model in a pipe is taken'
err_has "'-' is a model in a pipe"
# Hints are given where they hold.
sed 's/"kiln.plan"/"kiln.plan", "surplus": 1/' p.json >surplus.json
failure 'surplus' check surplus.json
! grep -q 'dump the plan again' err || problem "$command: a misleading hint"
failure 'torn.gguf' dump torn.gguf
err_has 'damaged'
failure "'d/demo-moe.gguf' is a model" run d/demo-moe.gguf
sed 's/"arena_bytes": [0-9]*/"arena_bytes": 12/; t
     s/"n_regions": [0-9]*/"n_regions": 12/; t
     s/"offset": 128/"offset": 0/' p.json >bad.json
cmp -s p.json bad.json && problem 'nothing in the plan was there to tamper with'
failure 'bad.json: ' check bad.json
err_has 'dump the plan again'

# A run of the graph gives the logits that decoding gives, bit for bit. The file is the token 1 (BOS) as .npy.
npy '<i4' '(1,)' '\0001\0000\0000\0000' >bos.npy
npy '<i4' '(1,)' '\0000\0000\0000\0000' >row.npy
echo 1 >tokens
expect 0 logits $model --tokens tokens --out l.npy -m exact
no_out
expect 0 run g.json --weights $model --input tokens=bos.npy --input rows=row.npy --set position=0 \
    --output logits=r.npy -m exact
out_has '^logits f32 \[1, [0-9]*\]: from -*[0-9]'
prefixed
same l.npy r.npy
expect 0 run p.json -w $model -i tokens=bos.npy -i rows=row.npy -o logits=r2.npy -m exact -t 2 --no-reuse
same l.npy r2.npy
expect 0 run g.json --weights $model --input tokens=random:7:200
err_has "input 'rows' is not given; it is all zeros"
cp out first
expect 0 run g.json --weights $model --input tokens=random:7:200
same out first
expect 0 logits $model --tokens tokens --out - -m exact
tail -c +129 l.npy >raw
same out raw
printf '1, 292 297\n304\t308 275' >tokens
for chunk in 1 2 100; do
    expect 0 logits $model --tokens tokens --out l$chunk.f32 -m exact --chunk $chunk
    err_has 'wrote 6 rows'
done
"$KILN" logits $model --tokens - -n 2 --out l.f32 -m exact <tokens 2>err || problem 'logits does not read stdin'
head -c "$(wc -c <l.f32 | tr -d ' ')" l1.f32 | cmp -s - l.f32 || problem 'logits from stdin differ'
# Statistics of outputs of every type that numbers can have, NaN and Inf apart.
copied() { # copied DTYPE-IN DTYPE-OUT BYTES-IN BYTES-OUT: a graph that copies four numbers
    cat <<EOF
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "x", "kind": "input", "size": $3}, {"id": 2, "name": "y", "kind": "output", "size": $4}],
 "tensors": [{"id": 1, "name": "x", "dtype": "$1", "shape": [4], "storage": 1},
   {"id": 2, "name": "y", "dtype": "$2", "shape": [4], "storage": 2}],
 "nodes": [{"op": "copy", "name": "y", "inputs": [1], "outputs": [2], "attrs": {"dtype": "$2"}}]}
EOF
}
# 1, -2, 0.5 and NaN
npy '<f4' '(4,)' '\0000\0000\0200\0077\0000\0000\0000\0300\0000\0000\0000\0077\0000\0000\0300\0177' >floats.npy
npy '<u4' '(4,)' '\0000\0000\0000\0200\0001\0000\0000\0000\0000\0000\0000\0000\0377\0377\0377\0377' >u32.npy
npy '<i4' '(4,)' '\0376\0377\0377\0377\0001\0000\0000\0000\0000\0000\0000\0000\0003\0000\0000\0000' >i32.npy
npy '|u1' '(4,)' '\0377\0001\0000\0000' >u8.npy
npy '<i8' '(4,)' '\0377\0377\0377\0377\0376\0377\0377\0377\0001\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0001\0000\0000\0000' >i64.npy
for to in f16 bf16 f32; do
    copied f32 $to 16 "$([ $to = f32 ] && echo 16 || echo 8)" >copy.json
    expect 0 run copy.json -i x=floats.npy
    out_has "^y $to \[4\]: from -2 to 1, mean -0.1666667, 1 NaN or Inf$"
done
copied u32 u32 16 16 >copy.json
expect 0 run copy.json -i x=u32.npy
out_has '^y u32 \[4\]: from 0 to 4.294967e+09, mean 1.610613e+09$'
copied i32 i32 16 16 >copy.json
expect 0 run copy.json -i x=i32.npy
out_has '^y i32 \[4\]: from -2 to 3, mean 0.5$'
copied u8 u8 4 4 >copy.json
expect 0 run copy.json -i x=u8.npy
out_has '^y u8 \[4\]: from 0 to 255, mean 64$'
copied i64 i64 32 32 >copy.json
expect 0 run copy.json -i x=i64.npy
out_has '^y i64 \[4\]: from -4.294967e+09 to 4.294967e+09, mean 0$'
copied f32 bf16 16 8 >copy.json
failure "output 'y' is bf16, which .npy has no type for" run copy.json -i x=floats.npy -o y=y.npy
! grep -q 'ran once\|folder' err || problem "$command: ran, or a misleading hint"
[ ! -e y.npy ] || problem "$command: wrote y.npy"
# Names come from files: nothing in them reaches the terminal as a control character.
cat >names.json <<'EOF'
{"format": "kiln.graph", "version": 1, "slots": [{"name": "n", "type": "i64", "min": 0, "max": 4}, {"name": "gain\u001b[2J", "type": "f32", "preset": 1}],
 "storages": [{"id": 1, "name": "x\u001b[31m\n", "kind": "input", "size": 64}, {"id": 2, "name": "y\u009b\u001b[31m\n\u007f", "kind": "output", "size": 64}],
 "tensors": [{"id": 1, "name": "x\u001b[31m\n", "dtype": "f32", "shape": [{"n": 2, "slot": "n"}, 2], "storage": 1},
   {"id": 2, "name": "y\u009b\u001b[31m\n\u007f", "dtype": "f32", "shape": [{"n": 2, "slot": "n"}, 2], "storage": 2}],
 "nodes": [{"op": "scale", "name": "y\u009b\u001b[31m\n\u007f", "inputs": [1], "outputs": [2], "attrs": {"scale": {"slot": "gain\u001b[2J"}, "shift": 0}}]}
EOF
tame() { # the last command printed no control characters, and no line that does not begin as its own do
    prefixed
    ! cat out err | tr -d '\n' | grep -q '[[:cntrl:]]' || problem "$command: control characters"
    ! cat out err | grep -q "$(printf '\302\233')" || problem "$command: a control character of two bytes"
}
expect 0 run names.json
tame
out_has '^y\\x9b\\x1b\[31m\\n\\x7f f32 \[8, 2\]: from 0 to 0, mean 0$'
err_has "input 'x\\\\x1b\[31m\\\\n' is not given"
failure 'no output' run names.json -o z=z.npy
tame
err_has 'there are: y\\x9b'
failure 'no input or weight' run names.json -i z=random:1
tame
for name in dump check; do
    expect 0 $name names.json
    tame
done
sed 's/"dtype": "f32"/"dtype": "u8"/g' names.json >bad_names.json
for name in dump check run; do
    failure bad_names.json $name bad_names.json
    tame
done
# Slots and the shapes of files.
npy '<f4' '(3, 2)' "$(printf '%.0s\\0000' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24)" >rows.npy
sed 's/\\u001b\[31m\\n//g; s/\\u001b\[2J//' names.json >slots.json
failure "dimension 0 is 3 in rows.npy, but the graph says a multiple of 2$" run slots.json -i x=rows.npy
failure "dimension 0 is 3 in rows.npy, but the graph says 6 (2 times n, and that is 3)$" run slots.json -i x=rows.npy -s n=3
for value in 1e99 -1e99 nan inf x 1x; do
    usage "slot 'gain' is '$value'; expected a number from -3.4" run slots.json -s gain=$value
done
expect 0 run slots.json -s gain=-1e-3 -s n=0
failure "'slots.json' is JSON, but a GGUF model is needed" generate slots.json
! grep -q damaged err || problem "$command: a misleading hint"
# The plan with what a session adds to it; it is still a plan dump.
expect 0 run g.json -w $model -i tokens=random:1:200 --plan records.json
grep -q '"kernel": "[a-z]' records.json || problem "$command: no records"
! grep -q '"ns": ' records.json || problem "$command: times though not asked for"
expect 0 run g.json -w $model -i tokens=random:1:200 --plan times.json --time
[ "$(grep -c '"kernel": .*"ns": [1-9]' times.json)" -gt 20 ] || problem "$command: no times"
err_has 'kiln: executor: cpu, .* serial run of [0-9]* record'
for file in records.json times.json; do
    expect 0 check $file -m exact
    expect 0 run $file -w $model -i tokens=random:1:200
done
# What an executor makes of a plan; the plan is the same for all.
expect 0 dump g.json -m exact --threads 1
out_has '^executor: cpu, .*, 1 thread$'
out_has '^  regions 0 to [0-9]*: serial run of [0-9]* records, about'
expect 0 dump g.json -m exact --threads 2 --plan session.json --dot session.dot
expect 0 check session.json -m exact
expect 0 dump g.json -m exact --plan bare.json
grep -q '"serial_run": {"records": ' session.json || problem 'no serial run in the dump'
sed '/^  "session": {/,$d' session.json | sed '$s/,$//' >before
sed '$d' bare.json | cmp - before || problem 'the plan depends on the executor'
grep -q 'cluster_serial_0 {' session.dot || problem 'no frame around a serial run'
grep -q 'label="serial run of [0-9]* record' session.dot || problem 'the frame has no label'
frames session.dot
[ "$(grep -o '{' session.dot | wc -l)" = "$(grep -o '}' session.dot | wc -l)" ] || problem 'frames are left open'
if command -v dot >/dev/null; then dot -Tsvg session.dot >/dev/null || problem 'Graphviz refuses the frames'; fi
usage 'threads' dump g.json --threads 0
# Warmed up: the same output, and two times.
expect 0 run g.json -w $model -i tokens=random:1:200 --set n_tokens=1
cp out cold
expect 0 run g.json -w $model -i tokens=random:1:200 --set n_tokens=1 --warm
cmp -s out cold || problem "$command: warming changed the result"
err_has '^kiln: warmed: first call [0-9.]* ms, steady [0-9.]* ms ([0-9]* runs), then .* of weights touched in'
expect 0 generate $model -n 8
cp out cold
expect 0 generate $model -n 8 --warm
cmp -s out cold || problem "$command: warming changed the text"
err_has '^kiln: warmed: first call'
usage '--time is for --plan FILE' run g.json --time
usage "stdout is for" run g.json --plan -
expect 0 run g.json -w $model -i tokens=random:1:200 --trace trace.json
grep -q '"kiln.trace"' trace.json && grep -q '"thread_name"' trace.json || problem "$command: no trace"
expect 0 generate $model -p "" -n 4 --trace trace2.json
grep -q '"ph":"X"' trace2.json || problem "$command: no slices"
usage "stdout is for" run g.json --trace -
usage "stdout is for" generate $model --trace -
failure 'is the input' run g.json -w $model --trace g.json
failure "cannot create 'nowhere/t.json'" run g.json -w $model -i tokens=random:1:200 --trace nowhere/t.json
failure "cannot create 'nowhere/t.json'" generate $model -p "" -n 4 --trace nowhere/t.json
no_out # before anything is made
failure 'two outputs would be written' run g.json -w $model --plan both --trace both
failure 'is the input' run g.json -w $model --plan g.json
failure 'two outputs would be written' run g.json -w $model -o logits=both --plan both
failure 'run g.json\|has no data' run g.json
failure "no input or weight 'nothing'" run g.json -w $model -i nothing=bos.npy
err_has 'there are: tokens, rows'
failure "no output 'nothing'" run g.json -w $model -o nothing=x.npy
! grep -q 'ran once' err || problem "$command: ran all the same"
usage "gives 'tokens' twice" run g.json -w $model -i tokens=bos.npy -i tokens=random:1
failure "no slot 'nothing'" run g.json -w $model -s nothing=1
failure "slot 'n_logits' is '-1'" run g.json -w $model -s n_logits=-1
failure "slot 'n_kv' cannot be set: it is computed, as position + n_tokens" run g.json -w $model -s n_kv=1
failure "slot 'n_kv' is computed and comes to 1[0-9]*; its bounds are 0 and 1024" run g.json -w $model -i tokens=bos.npy -s position=1024
failure "nowhere.npy" run g.json -w $model -i tokens=nowhere.npy
failure "dimension 0 is 1" run g.json -w $model -i tokens=bos.npy -s n_tokens=0
failure "out of range\|KILN_ERROR_INDEX\|index" run g.json -w $model -i rows=random:1:2 -i tokens=random:1:2 -s n_tokens=0
usage "expected NAME=FILE.npy" run g.json -w $model -i tokens
usage "expected SLOT=VALUE" run g.json -w $model -s n_kv
usage "expected NAME=FILE.npy" run g.json -w $model -o logits
usage "random:SEED" run g.json -w $model -i tokens=random:x
usage "i32: 1 to 2147483648" run g.json -w $model -i tokens=random:1:2147483649
usage "stdout is for" run g.json -w $model -o logits=-
usage "name a file" demo-model -
printf '1 x' >bad_tokens
failure "'x' is no token number" logits $model --tokens bad_tokens --out l.f32
printf '99999' >bad_tokens
failure "token 99999 at position 0 is not in the vocabulary" logits $model --tokens bad_tokens --out l.f32
failure "no tokens in it" logits $model --tokens empty --out l.f32

# ---- what is written over, and what is not -------------------------------------------------------------------

# A write that fails leaves the old file, and nothing beside it.
printf 'old\n' >old
for how in "dump $model --plan old" "logits $model --tokens one --out old" "demo-model old" \
    "run g.json -w $model -o logits=old"; do
    echo 1 >one
    checks=$((checks + 1))
    command="kiln $how with no room"
    # shellcheck disable=SC2086
    (trap '' XFSZ && ulimit -f 1 && exec "$KILN" $how) >out 2>err
    [ $? = 1 ] || problem "$command: does not exit with 1"
    err_has 'cannot write'
    [ "$(cat old)" = old ] || problem "$command: the old file is gone"
    [ ! -e old.partial ] || problem "$command: old.partial is left"
done
# Pipes are written and stay; links are followed and stay.
mkfifo pipe
ln -s linked link
for how in "dump g.json --graph" "dump g.json --plan" "logits $model --tokens tokens --out" "demo-model" \
    "run g.json -w $model -o"; do
    case $how in run*) how="$how logits=" ;; *) how="$how " ;; esac
    cat pipe >piped &
    # shellcheck disable=SC2086
    expect 0 ${how}pipe
    wait
    [ -p pipe ] || problem "$command: the pipe is gone"
    : >linked
    # shellcheck disable=SC2086
    expect 0 ${how}link
    [ -h link ] || problem "$command: the link is gone"
    same piped linked
done
# Nothing is written over what is read.
cp $model m.gguf
cp g.json in.json
ln -s m.gguf also.gguf
cp m.gguf b.gguf.partial
for how in "dump m.gguf --graph m.gguf" "dump m.gguf --plan also.gguf" "dump in.json --dot in.json" \
    "dump b.gguf.partial --plan b.gguf" "logits m.gguf --tokens tokens --out m.gguf" \
    "logits m.gguf --tokens tokens --out tokens" "run in.json -w m.gguf -o logits=m.gguf" \
    "run in.json -w m.gguf -o logits=in.json" "run in.json -w m.gguf -i tokens=bos.npy -o logits=bos.npy"; do
    # shellcheck disable=SC2086
    failure 'is the input' $how
    same m.gguf $model
    same in.json g.json
    same b.gguf.partial $model
done

# Nor two outputs into one file, whether it exists or not.
mkdir -p sub
failure 'two outputs would be written' dump $model --graph both --plan both
failure 'two outputs would be written' dump in.json --plan sub/../both --dot ./both
failure 'two outputs would be written' dump in.json --plan - --graph -
[ ! -e both ] || problem "$command: wrote something"
# A model that comes through a pipe.
mkfifo model.pipe
failure 'hint: a model is read in place; write it to a file first' generate model.pipe

# ---- real models ---------------------------------------------------------------------------------------------

stories=$data/stories260K
if [ -r "$stories/stories260K-f32.gguf" ]; then
    expect 0 generate "$stories/stories260K-f32.gguf" --mode exact
    same out "$stories/run_c_greedy_n256.txt"
    expect 0 generate "$stories/stories260K-f32.gguf" --mode exact -n 512 -q
    same out "$stories/run_c_greedy_n512.txt"
    expect 0 check "$stories/stories260K-moe8x-permuted-q8_0.gguf"
    for file in "$data"/malformed/gguf/sem_*.gguf; do
        failure "${file##*/}: llama" generate "$file"
        no_out
    done
    for file in "$data"/gguf/*.gguf; do
        case $file in *-0000[2-9]-of-*) continue ;; esac
        expect 0 dump "$file" # every GGUF file may be looked at
        no_err
        out_has '^graph: none ('
    done
    # The examples of the man page. Graphviz may be missing; its picture was tried above.
    mkdir examples
    cp "$stories/stories260K-f32.gguf" examples/model.gguf
    sed -n '/^\.SH EXAMPLES/,$ { /^kiln /p; }' "$man" | sed 's/\\-/-/g; s/ | less$//; s/&& dot .*//' >example_list
    [ -s example_list ] || problem 'the man page has no examples'
    while read -r command; do
        checks=$((checks + 1))
        (cd examples && PATH=${KILN%/*}:$PATH && eval "$command") >out 2>err </dev/null || problem "example: $command"
    done <example_list
else
    echo "skipped: no test data ($stories)"
fi

finish
