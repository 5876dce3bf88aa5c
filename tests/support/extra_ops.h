/* Ops that tests need and nobody else: one that waits until it is let go, one that fails on demand. */
#ifndef KILN_TEST_EXTRA_OPS_H
#define KILN_TEST_EXTRA_OPS_H

#include "kiln_op.h"

#include <stdatomic.h>

/* y = x (f32, any shape, dense), one tile per element of the outermost axis. Each tile first counts itself in
 * gate->entered, then waits while gate->closed. */
typedef struct test_gate {
    atomic_bool closed;
    atomic_int entered;
    atomic_bool fail;   /* the kernel reports a failure, "told to fail" */
    atomic_int returns; /* what it returns, without a text; KILN_OK: it goes on */
} test_gate;
extern test_gate test_gate_shared; /* ops have no closure: the gate that the op looks at */
extern const kiln_op test_gate_op;

/* The same, but declares no accesses: it conflicts with everything. */
extern const kiln_op test_opaque_op;

#endif
