/* An op whose tiles compute for as long as one likes, with a result that can be told exactly: for regions of known size
 * and shape. */
#ifndef KILN_BENCH_WORK_H
#define KILN_BENCH_WORK_H

#include "kiln.h"

#include <stdbool.h>

/* Rows have two cache lines of their own, so that tiles do not share any. */
enum { BENCH_WORK_LANES = 32 };

typedef struct bench_work {
    int64_t tiles; /* the rows of x are dealt out among them */
    int64_t steps; /* per row; bench_work_steps says how many last how long */
    int64_t ns;    /* what its cost says that all tiles take one thread */
} bench_work;

/* x: [rows, BENCH_WORK_LANES] i32; the result has the same shape. Lane 0 goes through `steps` steps of a linear
 * congruence, each waiting for the last; the other lanes are copied. */
kiln_tensor bench_work_add(kiln_graph *g, kiln_tensor x, bench_work work);

/* The same for one value: what to expect in lane 0. */
uint32_t bench_work_value(uint32_t x, int64_t steps);

/* Runs a session whose input "x" and output "y" are `rows` rows, which go through `steps` steps in all; ends the program
 * when the result is not exactly that. */
void bench_work_check(kiln_session *session, int64_t rows, int64_t steps);

/* Steps that last `ns` on this processor, at least 1; measured when first asked. */
int64_t bench_work_steps(double ns);

/* The longest that one tile took since the last call, ns, if tiles are watched: that costs two looks at the clock a tile. */
void bench_work_watch(bool on);
int64_t bench_work_worst(void);

#endif
