/* Random programs for the scheduler's tests, made of ops whose accesses are data.
 *
 * The ops compute nothing a kernel could run; what they do to bytes is told by `dag_visit_bytes`, which knows
 * what a node truly touches, apart from what it declares.
 */
#ifndef KILN_TESTS_RANDOM_DAG_H
#define KILN_TESTS_RANDOM_DAG_H

#include "graph.h"

/* xorshift64*; the state must not be 0. */
typedef struct dag_random {
    uint64_t state;
} dag_random;
uint64_t dag_next(dag_random *r);
int64_t dag_below(dag_random *r, int64_t n); /* 0 … n-1 */

/* One access of a `dag_touch` node: a box of an operand, offset from its first byte. */
typedef struct dag_access {
    uint8_t operand, mode; /* kiln_access_mode */
    uint8_t hidden;        /* done, but not declared: a lie that oracles must notice */
    uint8_t count[KILN_BOX_LEVELS];
    uint16_t offset, length, stride[KILN_BOX_LEVELS];
} dag_access;

enum { DAG_ACCESSES = 14 };

typedef struct dag_attrs {
    uint32_t n_accesses;
    uint32_t elements, slot; /* dag_make: the output has elements × slot bytes */
    dag_access accesses[DAG_ACCESSES];
} dag_attrs;

extern const kiln_op dag_touch_op; /* any operands, no outputs; accesses as given */
extern const kiln_op dag_make_op;  /* no operands; writes its output, u8 [elements × slot] */
extern const kiln_op dag_map_op;   /* 1 to 3 operands of one shape to one output; in place over any of them */
extern const kiln_op dag_opaque_op; /* any operands, no outputs; declares nothing */

/* Adds a node; these fail the test run (abort) when the graph refuses. */
void dag_touch(kiln_graph *g, const kiln_tensor *tensors, uint32_t n, const dag_access *accesses,
               uint32_t n_accesses);
/* One operand, one run of bytes. */
void dag_touch_run(kiln_graph *g, kiln_tensor tensor, kiln_access_mode mode, int64_t offset, int64_t length);
kiln_tensor dag_make(kiln_graph *g, kiln_dim elements);
kiln_tensor dag_map(kiln_graph *g, const kiln_tensor *tensors, uint32_t n);
void dag_opaque(kiln_graph *g, const kiln_tensor *tensors, uint32_t n);
/* A u8 state of `bytes` bytes. */
kiln_tensor dag_state(kiln_graph *g, const char *name, int64_t bytes);

typedef enum dag_features {
    DAG_OPAQUE = 1, /* some opaque nodes */
    DAG_MAPPED = 2, /* storages that overlap in memory */
    DAG_CHAINS = 4  /* mostly dag_map: in-place and arena reuse */
} dag_features;

/* A program of 1 … max_nodes nodes: states, mapped outputs, arena storages written whole before they are
 * read, views, partial and strided reads and writes, a symbol "n" of at most 16. */
kiln_graph *random_dag(uint64_t seed, uint32_t max_nodes, unsigned features);

/* Calls for every byte the node truly reads or writes at the given slot values (by slot id), in a fixed
 * order. */
typedef void (*dag_visit)(void *context, uint32_t storage, int64_t byte, kiln_access_mode mode);
void dag_visit_bytes(const kiln_graph *g, size_t node, const int64_t *slots, dag_visit visit, void *context);

/* The bytes of mapped storages: their `data` points in here. */
enum { DAG_MEMORY = 256 };
extern unsigned char dag_memory[DAG_MEMORY];

#endif
