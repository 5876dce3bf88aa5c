#!/bin/sh
# What `kiln run` fills and prints is what storages say, whatever tensors are called. Storages and tensors have names
# of their own kind, so a tensor may have the name of a storage in which it does not lie.
set -u
# shellcheck source=tests/tools/cli_help.sh
. "$(dirname "$0")/cli_help.sh"

# The floats 1, 2, 3, 4 and 5, 6, 7, 8.
npy '<f4' '(4,)' '\0000\0000\0200\0077\0000\0000\0000\0100\0000\0000\0100\0100\0000\0000\0200\0100' >low.npy
npy '<f4' '(4,)' '\0000\0000\0240\0100\0000\0000\0300\0100\0000\0000\0340\0100\0000\0000\0000\0101' >high.npy

# ---- a tensor with the name of a storage in which it does not lie ---------------------------------------------

# graph NAME-OF-X NAME-OF-H NAME-OF-Y: y = 2 (x + 1) + 1 in storages x, (an intermediate) and y; the tensors' names are given.
graph() {
    cat <<END
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "x", "kind": "input", "size": 16}, {"id": 2, "kind": "arena", "size": 16},
   {"id": 3, "name": "y", "kind": "output", "size": 16}],
 "tensors": [{"id": 1, "name": "$1", "dtype": "f32", "shape": [4], "storage": 1},
   {"id": 2, "name": "$2", "dtype": "f32", "shape": [4], "storage": 2},
   {"id": 3, "name": "$3", "dtype": "f32", "shape": [4], "storage": 3}],
 "nodes": [{"op": "scale", "inputs": [1], "outputs": [2], "attrs": {"scale": 1, "shift": 1}},
   {"op": "scale", "inputs": [2], "outputs": [3], "attrs": {"scale": 2, "shift": 1}}]}
END
}
# The intermediate is called y, and the output "last": what kiln_name(h, "y"), kiln_name(z, "last"), kiln_output(z, "y") make.
for names in "x h y" "x y last" "in x y" "y x last" "h y x" "y h x" "a b c"; do
    # shellcheck disable=SC2086
    graph $names >names.json
    for how in '' --no-fuse '--no-fuse --no-reuse'; do
        # shellcheck disable=SC2086
        expect 0 run names.json -i x=low.npy -o y=y.npy $how
        out_has '^y f32 \[4\]: from 5 to 11, mean 8$'
        [ "$(wc -l <out)" = 1 ] || problem "$command ($names): not one line"
        ! grep -q 'not given' err || problem "$command ($names): x is said not to be given"
        expect 0 run names.json -i x=y.npy
        out_has '^y f32 \[4\]: from 13 to 25, mean 19$'
    done
    expect 0 run names.json
    err_has "input 'x' is not given; it is all zeros"
    out_has '^y f32 \[4\]: from 3 to 3'
done
# Two inputs whose tensors have each other's names: each is filled by its own.
cat >crossed.json <<'EOF2'
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "x", "kind": "input", "size": 16}, {"id": 2, "name": "w", "kind": "input", "size": 16},
   {"id": 3, "name": "y", "kind": "output", "size": 16}, {"id": 4, "name": "z", "kind": "output", "size": 16}],
 "tensors": [{"id": 1, "name": "w", "dtype": "f32", "shape": [4], "storage": 1},
   {"id": 2, "name": "x", "dtype": "f32", "shape": [4], "storage": 2},
   {"id": 3, "name": "z", "dtype": "f32", "shape": [4], "storage": 3},
   {"id": 4, "name": "y", "dtype": "f32", "shape": [4], "storage": 4}],
 "nodes": [{"op": "scale", "inputs": [1], "outputs": [3], "attrs": {"scale": 1, "shift": 0}},
   {"op": "scale", "inputs": [2], "outputs": [4], "attrs": {"scale": 10, "shift": 0}}]}
EOF2
expect 0 run crossed.json -i x=low.npy -o y=y.npy -o z=z.npy
err_has "input 'w' is not given; it is all zeros"
! grep -q "'x' is not given" err || problem "$command: x was given"
out_has '^y f32 \[4\]: from 1 to 4, mean 2.5$'
out_has '^z f32 \[4\]: from 0 to 0, mean 0$'
same y.npy low.npy
expect 0 run crossed.json -i x=low.npy -i w=high.npy
out_has '^y f32 \[4\]: from 1 to 4, mean 2.5$'
out_has '^z f32 \[4\]: from 50 to 80, mean 65$'
# A large tensor with the name of a small input: its bytes are not written past the input's.
cat >large.json <<'EOF2'
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "x", "kind": "input", "size": 128}, {"id": 2, "name": "big", "kind": "input", "size": 400000},
   {"id": 3, "name": "y", "kind": "output", "size": 128}, {"id": 4, "name": "z", "kind": "output", "size": 400000}],
 "tensors": [{"id": 1, "name": "small", "dtype": "f32", "shape": [32], "storage": 1},
   {"id": 2, "name": "x", "dtype": "f32", "shape": [100000], "storage": 2},
   {"id": 3, "dtype": "f32", "shape": [32], "storage": 3}, {"id": 4, "name": "y", "dtype": "f32", "shape": [100000], "storage": 4}],
 "nodes": [{"op": "silu", "inputs": [1], "outputs": [3]}, {"op": "silu", "inputs": [2], "outputs": [4]}]}
EOF2
expect 0 run large.json -i x=random:1 -o y=y.npy
out_has '^y f32 \[32\]: from -'
out_has '^z f32 \[100000\]: from 0 to 0, mean 0$'
[ "$(wc -c <y.npy | tr -d ' ')" = 256 ] || problem "$command: y.npy has not 32 floats"

# ---- storages of several tensors -----------------------------------------------------------------------------

# A tensor that another one of its storage holds is not a part by itself, whatever it is called: x is all of 4 x 2.
cat >views.json <<'EOF2'
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "x", "kind": "input", "size": 32}, {"id": 2, "name": "y", "kind": "output", "size": 32}],
 "tensors": [{"id": 1, "name": "x", "dtype": "f32", "shape": [1, 2], "storage": 1, "offset": 8},
   {"id": 2, "name": "all", "dtype": "f32", "shape": [4, 2], "storage": 1},
   {"id": 3, "name": "y", "dtype": "f32", "shape": [4], "storage": 2},
   {"id": 4, "dtype": "f32", "shape": [4, 2], "storage": 2}],
 "nodes": [{"op": "silu", "inputs": [2], "outputs": [4]}]}
EOF2
npy '<f4' '(1, 2)' '\0000\0000\0200\0077\0000\0000\0200\0077' >part.npy
failure "input 'x': dimension 0 is 1 in part.npy, but the graph says 4" run views.json -i x=part.npy
expect 0 run views.json -i x=random:3
out_has '^y f32 \[4, 2\]: '
# Side by side: each has to be named, and what is not given is said.
cat >parts.json <<'EOF2'
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "x", "kind": "input", "size": 128}, {"id": 2, "name": "y", "kind": "output", "size": 128},
   {"id": 3, "name": "idle", "kind": "input", "size": 64}, {"id": 4, "name": "never", "kind": "output", "size": 16}],
 "tensors": [{"id": 1, "name": "low", "dtype": "f32", "shape": [4], "storage": 1},
   {"id": 2, "name": "high", "dtype": "f32", "shape": [4], "storage": 1, "offset": 64},
   {"id": 3, "name": "second", "dtype": "f32", "shape": [4], "storage": 2, "offset": 64},
   {"id": 4, "name": "first", "dtype": "f32", "shape": [4], "storage": 2},
   {"id": 5, "name": "nothing", "dtype": "f32", "shape": [4], "storage": 4}],
 "nodes": [{"op": "scale", "inputs": [1], "outputs": [3], "attrs": {"scale": 1}},
   {"op": "scale", "inputs": [2], "outputs": [4], "attrs": {"scale": 1}}]}
EOF2
failure "input 'x' holds 2 tensors, none of which has all of it" run parts.json -i x=low.npy
err_has 'hint: name one of them: low, high$'
failure "output 'y' holds 2 tensors, none of which has all of it" run parts.json -o y=y.npy
err_has 'hint: name one of them: first, second$'
failure "input 'idle' holds no tensor" run parts.json -i idle=low.npy
expect 0 run parts.json -i high=high.npy -o first=first.npy
err_has "'low' of input 'x' is not given; it is all zeros"
! grep -q "'high' of\|'idle'" err || problem "$command: too much is said not to be given"
out_has "^'first' of y f32 \[4\]: from 5 to 8, mean 6.5$"
out_has "^'second' of y f32 \[4\]: from 0 to 0, mean 0$"
out_has '^never f32 \[4\]: from 0 to 0, mean 0; no node writes it$'
same first.npy high.npy
expect 0 run parts.json -i x=random:5
! grep -q 'not given' err || problem "$command: random numbers were given for all of x"
usage "gives 'low' twice" run parts.json -i low=low.npy -i low=high.npy
usage "gives 'low' twice" run parts.json -i x=random:1 -i low=high.npy
failure "'y' is an output; --input feeds inputs and weights" run parts.json -i y=low.npy
failure "'x' is an input; --output writes outputs" run parts.json -o x=x.npy
failure "no input or weight 'none'" run parts.json -i none=low.npy
err_has 'there are: x, idle$'

# One of them has the storage's name: that one is meant.
sed 's/"low"/"x"/; s/"second"/"y"/' parts.json >named.json
expect 0 run named.json -i x=low.npy -o y=y.npy
err_has "'high' of input 'x' is not given"
same y.npy low.npy

# ---- arrays of other writers ---------------------------------------------------------------------------------

# 1, 2, 3, 4 as f64, as big-endian f32, and as a column-major 2 x 2.
graph x h y >names.json
npy '<f8' '(4,)' '\0000\0000\0000\0000\0000\0000\0360\0077\0000\0000\0000\0000\0000\0000\0000\0100\0000\0000\0000\0000\0000\0000\0010\0100\0000\0000\0000\0000\0000\0000\0020\0100' >f8.npy
npy '>f4' '(4,)' '\0077\0200\0000\0000\0100\0000\0000\0000\0100\0100\0000\0000\0100\0200\0000\0000' >big.npy
for file in f8.npy:'f64, converted to f32' big.npy:'f32, big-endian, converted'; do
    expect 0 run names.json -i "x=${file%%:*}" -o y=y.npy
    out_has '^y f32 \[4\]: from 5 to 11, mean 8$'
    err_has "^kiln: ${file%%:*}: ${file#*:}$"
    prefixed
done
sed 's/\[4\]/[2, 2]/g' names.json | sed 's/"scale": 2, "shift": 1/"scale": 1, "shift": -1/' >square.json
npy '<f4' '(2, 2)' '\0000\0000\0200\0077\0000\0000\0100\0100\0000\0000\0000\0100\0000\0000\0200\0100' True >fortran.npy
expect 0 run square.json -i x=fortran.npy -o y=y.npy
err_has '^kiln: fortran.npy: f32 in Fortran order, converted, in C order$'
tail -c 16 y.npy >got
tail -c 16 low.npy >want
same got want

# ---- weights -------------------------------------------------------------------------------------------------

# weights DTYPE BYTES: x [1, 256] times two weights of 64 rows that lie side by side, and a norm's.
weights() {
    cat <<END
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "x", "kind": "input", "size": 1024}, {"id": 2, "name": "w", "kind": "weight", "size": $(($2 * 2))},
   {"id": 3, "name": "a", "kind": "output", "size": 256}, {"id": 4, "name": "b", "kind": "output", "size": 256},
   {"id": 5, "name": "f", "kind": "weight", "size": 256}],
 "tensors": [{"id": 1, "name": "x", "dtype": "f32", "shape": [1, 256], "storage": 1},
   {"id": 2, "name": "up", "dtype": "$1", "shape": [64, 256], "storage": 2},
   {"id": 3, "name": "down", "dtype": "$1", "shape": [64, 256], "storage": 2, "offset": $2},
   {"id": 4, "dtype": "f32", "shape": [1, 64], "storage": 3}, {"id": 5, "dtype": "f32", "shape": [1, 64], "storage": 4},
   {"id": 6, "dtype": "f32", "shape": [64], "storage": 5}],
 "nodes": [{"op": "matmul", "inputs": [2, 1], "outputs": [4]}, {"op": "matmul", "inputs": [3, 1], "outputs": [5]}]}
END
}
for type in f32:65536 f16:32768 bf16:32768 q4_0:9216 q5_1:12288 q8_0:17408 iq4_nl:9216 q4_K:9216 q5_K:11264 q6_K:13440; do
    weights ${type%:*} ${type#*:} >weights.json
    failure "weight 'w' has no data" run weights.json -i x=random:1
    err_has 'hint: --weights FILE.gguf or random:SEED'
    expect 0 run weights.json -i x=random:1 -w random:5
    # Sums of 256 products of which each is at most 1/16: all finite, and neither huge nor all the same.
    out_has '^a f32 \[1, 64\]: from -[0-9.]* to [0-9.]*, mean -*[0-9.e-]*$'
    cp out first
    expect 0 run weights.json -i x=random:1 -w random:5
    same first out
    expect 0 run weights.json -i x=random:1 -w random:6
    ! cmp -s first out || problem "$command: the seed does not matter"
    # One part of a weight may be given, the rest is as before.
    expect 0 run weights.json -i x=random:1 -w random:5 -i down=random:9
    [ "$(grep '^b' out)" != "$(grep '^b' first)" ] || problem "$command: 'down' is not what was given"
    failure "weight 'w' has no data" run weights.json -i x=random:1 -i f=random:1 -i down=random:9
    expect 0 run weights.json -i x=random:1 -i f=random:1 -i w=random:9
done
usage "expected FILE.gguf or random:SEED" run weights.json -w random:
usage "expected FILE.gguf or random:SEED" run weights.json -w random:x
usage "expected FILE.gguf or random:SEED" run weights.json -w random:1:2
# A tensor of the file with the weight's name, but another shape or type, is another one, whatever its size.
expect 0 demo-model m.gguf
expect 0 dump m.gguf
bytes() { # of a tensor of the model
    case $1 in f32) echo "$(($2 * 4))" ;; f16 | bf16) echo "$(($2 * 2))" ;; q4_0) echo "$(($2 / 32 * 18))" ;; esac
}
line=$(grep 'output_norm.weight' out)
type=$(echo "$line" | awk '{print $2}') width=$(echo "$line" | sed 's/.*\[\(.*\)\]/\1/')
normed() { # normed DTYPE SHAPE
    cat <<END
{"format": "kiln.graph", "version": 1, "slots": [],
 "storages": [{"id": 1, "name": "output_norm.weight", "kind": "weight", "size": $(bytes "$type" "$width")},
   {"id": 2, "name": "y", "kind": "output", "size": $((width * 4))}],
 "tensors": [{"id": 1, "name": "n", "dtype": "$1", "shape": $2, "storage": 1}, {"id": 2, "dtype": "f32", "shape": $2, "storage": 2}],
 "nodes": [{"op": "copy", "inputs": [1], "outputs": [2], "attrs": {"dtype": "f32"}}]}
END
}
normed "$type" "[$width]" >normed.json
expect 0 run normed.json -w m.gguf
out_has "^y f32 \[$width\]"
normed "$type" "[2, $((width / 2))]" >normed.json
failure "weight 'output_norm.weight' is $type \[2, $((width / 2))\] in the graph, but $type \[$width\] in m.gguf" \
    run normed.json -w m.gguf
normed "$type" "[$width]" | sed "s/\"dtype\": \"$type\"/\"dtype\": \"i32\"/g; s/\"dtype\": \"f32\"/\"dtype\": \"i32\"/g" >normed.json
failure "weight 'output_norm.weight' is i32 \[$width\] in the graph, but $type \[$width\] in m.gguf" run normed.json -w m.gguf
# A graph of another file of the same size: its tensors do not lie where this one's do.
expect 0 dump m.gguf --graph g.json -m exact --context 1
expect 0 run g.json -w m.gguf -i tokens=random:1:200
cp out first
at=$(sed -n 's/.*"name": "output_norm.weight".*"offset": \([0-9]*\).*/\1/p' g.json)
sed "s/\(\"output_norm.weight\".*\"offset\": \)$at/\1$((at - 128))/" g.json >moved.json
! cmp -s g.json moved.json || problem 'output_norm.weight was not moved'
failure "'output_norm.weight' of gguf.0 is $type at byte $((at - 128)) in the graph" run moved.json -w m.gguf -i tokens=random:1:200
# One tensor of a model may be given; the rest stays as the file has it.
expect 0 run g.json -w m.gguf -i tokens=random:1:200 -i output_norm.weight=random:4
! cmp -s first out || problem "$command: output_norm.weight is not what was given"
expect 0 run g.json -w random:1 -i tokens=random:1:200
out_has '^logits f32 .*: from -'

# ---- slots ---------------------------------------------------------------------------------------------------

failure "no slot 'nothing'" run g.json -w m.gguf -s nothing=1
err_has 'hint: there are: n_tokens (0 to 1), '
err_has 'position (0 to '
failure "no slot 'nothing'" run weights.json -s nothing=1
err_has 'hint: there are none'

finish
