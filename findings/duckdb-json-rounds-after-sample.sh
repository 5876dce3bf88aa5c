#!/bin/sh
# DuckDB takes a JSON column for integers after 20,480 of them, and then rounds every fraction without a word.
#
# Guess: a fraction after the sample makes the column DOUBLE, or is an error.
# Seen:  @duckdb/node-api 1.5.6-r.1 (DuckDB v1.5.6): the same three rows after 20,479 and after 20,480 integers:
#          20479 DOUBLE 1.5 2.75 -0.4
#          20480 BIGINT 2 3 0
# Why:   events of a trace and nodes of a dump are loaded so (jq -c '.traceEvents[]'): durations in µs and attributes
#        that happen to be integral at first lose their fractions further down. Say columns = {dur: 'DOUBLE'}, or
#        sample_size = -1.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
npm install --prefix "$d" --silent --no-audit --no-fund @duckdb/node-api@1.5.6-r.1
cd "$d"
cat >run.mjs <<'EOC'
import {DuckDBInstance} from '@duckdb/node-api';
import {writeFileSync} from 'node:fs';
const db = await (await DuckDBInstance.create(':memory:')).connect();
const seen = [];
for (const n of [20479, 20480]) {
    const rows = [...Array(n).keys(), 1.5, 2.75, -0.4].map(dur => JSON.stringify({dur}));
    writeFileSync('events.json', rows.join('\n'));
    const sql = `select typeof(dur), dur::varchar from read_json_auto('events.json') offset ${n}`;
    const got = (await db.runAndReadAll(sql)).getRowsJson();
    seen.push([n, got[0][0], ...got.map(row => row[1])].join(' '));
}
console.log(seen.join('\n'));
if (seen.join() !== '20479 DOUBLE 1.5 2.75 -0.4,20480 BIGINT 2 3 0') {
    console.log('this has changed');
    process.exit(1);
}
EOC
node run.mjs
