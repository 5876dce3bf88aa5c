/* The cases of bench-executor, one file each. Every function measures, shows its series and notes its bars. */
#ifndef KILN_BENCH_CASES_H
#define KILN_BENCH_CASES_H

#include "bench.h"
#include "peer.h"

typedef struct bench_options {
    int rounds;
} bench_options;

void bench_nodes(bench *b, const peer *p, const bench_options *o); /* bars 1, 2 and 4 */
void bench_wake(bench *b, const peer *p, const bench_options *o);  /* bar 3 */
void bench_bake(bench *b, const peer *p, const bench_options *o);  /* bar 5 */

#endif
