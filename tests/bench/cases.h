/* The cases of bench-executor, one file each. Every function measures, shows its series and notes its bars. */
#ifndef KILN_BENCH_CASES_H
#define KILN_BENCH_CASES_H

#include "bench.h"
#include "peer.h"

enum { BENCH_ROUNDS = 21 };

typedef struct bench_options {
    int rounds; /* BENCH_ROUNDS unless asked otherwise; what takes more samples takes them in proportion */
} bench_options;

void bench_nodes(bench *b, const peer *p, const bench_options *o);  /* bars 1, 2 and 4 */
void bench_wake(bench *b, const peer *p, const bench_options *o);   /* bar 3 */
void bench_bake(bench *b, const peer *p, const bench_options *o);   /* bar 5 */
void bench_branch(bench *b, const peer *p, const bench_options *o); /* bar 6 */
void bench_decode(bench *b, const peer *p, const bench_options *o); /* bar 7 */
void bench_crowd(bench *b, const peer *p, const bench_options *o);  /* bar 8 */
void bench_cancel(bench *b, const peer *p, const bench_options *o); /* bar 9 */
void bench_many(bench *b, const peer *p, const bench_options *o);   /* bar 10 */

#endif
