/* Runs a graph node by node in program order, on one thread, with no scheduler, no plan, no fusion and no
 * memory reuse: the reference that plans and replays are compared with,
 * and the way op tests run an op alone. */
#ifndef KILN_TEST_EAGER_H
#define KILN_TEST_EAGER_H

#include "graph.h"

typedef struct eager eager;

/* Allocates every storage (poisoned with NaN bytes, inputs and states zeroed). `cpu`: KILN_CPU_* features
 * that kernels may use. Aborts the test on allocation failure. */
eager *eager_new(const kiln_graph *graph, uint32_t cpu);
void eager_free(eager *run);

/* The bytes of a tensor's storage at the tensor's first byte. */
void *eager_data(eager *run, kiln_tensor tensor);

void eager_set_i64(eager *run, kiln_slot slot, int64_t value);
void eager_set_f32(eager *run, kiln_slot slot, float value);

typedef struct eager_result {
    kiln_status status;        /* KILN_OK, KILN_ERROR_INDEX (all nodes ran), or a kernel's failure */
    size_t node;               /* where */
    int64_t row, index, limit; /* the first bad index */
} eager_result;

/* Do the values of slots show some node to be impossible? Then a session refuses the run. Runs here go on all
 * the same: kernels must do no harm. */
bool eager_is_impossible(const eager *run);

/* `split`: how many pieces each node's tiles are cut into, run in reverse order, so that tiles that are not
 * independent are noticed. 1: in one piece. */
eager_result eager_run(eager *run, int64_t split);

#endif
