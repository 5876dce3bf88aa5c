#!/bin/sh
# The trace engine of Chrome's DevTools drops a slice that begins where the one before it ends, if ts + dur of that one,
# added as doubles, comes out one rounding later.
#
# Guess: slices that overlap by less than a nanosecond are shown side by side, or one within the other.
# Seen:  @paulirish/trace_engine 0.0.65, slices a (ts 0.1, dur 0.2), b (ts 0.3, dur 10) and c: b is among the thread's
#        events, and not in its call tree. With a ending 1 ns earlier it is. Of 2,000 touching slices with ns in decimal
#        µs, 239 are missing.
#          touching: a c
#          1 ns apart: a b c
#          2000 touching: 1761
# Why:   a trace whose threads go from one kernel to the next without a gap shows less work there than was done.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund @paulirish/trace_engine@0.0.65
cd "$d"
cat >run.mjs <<'EOC'
// The engine expects a browser's DOMRect.
globalThis.DOMRect = class { constructor(x, y, width, height) { Object.assign(this, {x, y, width, height}); } };
const {TraceModel} = await import('@paulirish/trace_engine');

// Names of the slices in the call tree of the only thread.
async function tree(slices) {
    const thread = {pid: 1, tid: 0, cat: 'op'};
    const events = [{...thread, ph: 'M', name: 'thread_name', ts: 0, args: {name: 'worker'}},
                    ...slices.map(([name, ts, dur]) => ({...thread, ph: 'X', name, ts, dur}))];
    const model = TraceModel.Model.createWithAllHandlers();
    await model.parse(events);
    const got = model.parsedTrace().data.Renderer.processes.get(1).threads.get(0);
    if (got.entries.length !== slices.length) throw new Error('events are missing, too');
    const names = node => [node.entry.name, ...node.children.flatMap(names)];
    return [...got.tree.roots].flatMap(names);
}

const many = [];
for (let i = 0, ns = 1, seed = 7; i < 2000; i++) {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    const dur = 1 + seed % 3000;
    many.push(['n' + i, ns / 1000, dur / 1000]);
    ns += dur;
}
const rest = [['b', 0.3, 10], ['c', 20, 1]];
const seen = ['touching: ' + (await tree([['a', 0.1, 0.2], ...rest])).join(' '),
              '1 ns apart: ' + (await tree([['a', 0.1, 0.199], ...rest])).join(' '),
              '2000 touching: ' + (await tree(many)).length].join('\n');
console.log(seen);
if (seen !== 'touching: a c\n1 ns apart: a b c\n2000 touching: 1761') {
    console.log('this has changed');
    process.exit(1);
}
EOC
node run.mjs
