/* Chains and rows of small adds on our side, ready to run on one and two threads. */
#ifndef KILN_BENCH_OURS_H
#define KILN_BENCH_OURS_H

#include "bench.h"
#include "kiln.h"

#include <string.h>

typedef struct bench_ours {
    kiln_graph *graph;
    kiln_plan *plan;
    kiln_executor *executor[3]; /* by number of threads */
    kiln_session *session[3];
} bench_ours;

/* Ends the program when a call failed. */
void bench_must(kiln_status status, const kiln_error *error);

/* n adds of `width` floats: a + c + c + …, or a_i + c for all i. The output is "y", the last of them. */
void bench_build_adds(kiln_graph *g, int n, int width, bool chain);
/* Fusion off, f32. */
extern const kiln_bake_options bench_unfused;

/* The same, baked, with inputs filled and sessions made. */
void bench_ours_open(bench_ours *o, int n, int width, bool chain);
void bench_ours_close(bench_ours *o);

/* A session of a plan, on an executor of its own. */
typedef struct bench_rig {
    kiln_executor *executor;
    kiln_session *session;
} bench_rig;

void bench_rig_open(bench_rig *r, kiln_plan *plan, uint32_t threads);
void bench_rig_close(bench_rig *r);

/* Nanoseconds of one run, the mean of `reps` one behind the other. */
double bench_run_ns(kiln_session *session, int reps);

/* Numbers that add up without rounding to the same in any order that is not in order: what inputs are filled with. */
float bench_value(size_t i);

#endif
