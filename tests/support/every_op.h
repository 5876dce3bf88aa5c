/* A graph with at least one node of every op of Kiln's own set. */
#ifndef KILN_TEST_EVERY_OP_H
#define KILN_TEST_EVERY_OP_H

#include "kiln_ops.h"

/* The maximum of its slot "n_tokens". */
enum { EVERY_OP_TOKENS = 3 };

/* The caller's to destroy. Fails through cmocka when it cannot be built. */
kiln_graph *every_op_graph(void);

#endif
