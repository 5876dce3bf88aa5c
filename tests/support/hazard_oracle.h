/* Brute-force judges of hazards, orders and memory plans: quadratic, byte by byte, sharing no code with
 * sched/ except, where said, the predicate kiln__accesses_conflict.
 *
 * Each judge returns NULL when all is well, else a text (static, overwritten by the next call). For programs
 * of random_dag.h, at most ORACLE_NODES nodes.
 */
#ifndef KILN_TESTS_HAZARD_ORACLE_H
#define KILN_TESTS_HAZARD_ORACLE_H

#include "random_dag.h"
#include "schedule.h"

enum { ORACLE_NODES = 64 };

typedef struct oracle {
    const kiln_graph *graph;
    uint32_t n;
    /* [i][j], i before j in program order: must i run in an earlier region than j? */
    bool by_bytes[ORACLE_NODES][ORACLE_NODES];     /* by the bytes truly touched, symbols at their maxima */
    bool by_predicate[ORACLE_NODES][ORACLE_NODES]; /* by declared accesses and the shared predicate */
    uint32_t longest_chain;                        /* by predicate */
    int64_t slots[8];                              /* slot values by id, at the maxima */
} oracle;

void oracle_init(oracle *o, const kiln_graph *graph, const kiln__hazards *hazards);

/* Every byte truly touched, at any of several values of the symbols,
 * lies in a declared access of that mode. */
const char *oracle_check_accesses(const oracle *o, const kiln__hazards *hazards);

/* The hazards' closure is that of all conflicting pairs, each hazard is a true one of its kind, each pair
 * that shares bytes is in it, and no two hazards are between the same nodes. */
const char *oracle_check_hazards(const oracle *o, const kiln__hazards *hazards);

/* No missed hazard between nodes of the same or wrongly ordered regions, by bytes and by predicate; as many
 * regions as the longest chain unless some were asked for; no barrier that could go unless it was asked for;
 * order, barriers and counts agree with one another. */
const char *oracle_check_order(const oracle *o, const kiln__hazards *hazards, const kiln__schedule *schedule,
                               const kiln__schedule_options *options);

/* Two storages alive in one region share no byte, but for the pairs in place, which satisfy their conditions;
 * sizes and the lower bound are right. */
const char *oracle_check_memory(const oracle *o, const kiln__hazards *hazards, const kiln__schedule *schedule,
                                const kiln__schedule_options *options);

/* Runs the nodes as byte writers: each reads its bytes, hashes them with its number and writes what follows
 * from the hash. In the schedule's order, nodes of a region in random order, over the planned arena: each
 * node must see what it sees in program order with storages apart, and the bytes at the end be the same.
 * `symbol` is the value of the slots. */
const char *oracle_check_run(const oracle *o, const kiln__schedule *schedule, int64_t symbol,
                             dag_random *random);

#endif
