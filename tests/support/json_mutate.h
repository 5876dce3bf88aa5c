/* Edits of graphs and plan dumps that keep to JSON but not to the graph: names, ids, shapes, offsets, kinds
 * and numbers are swapped, retargeted and set to extremes, elements go, come twice and move. Bytes are never
 * broken: that is what tests/fuzz is for. */
#ifndef KILN_TEST_JSON_MUTATE_H
#define KILN_TEST_JSON_MUTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* SplitMix64, for everything that is drawn here. */
uint64_t mutate_next(uint64_t *state);

/* `edits` edits of a graph or plan dump, drawn from *state; afterwards ids are mostly brought into order
 * again, with what refers to them, so that not every text is refused for its ids. From malloc; NULL when the
 * text is not JSON. */
char *mutate_graph(const char *text, uint64_t *state, int edits);

/* The same graph with its tensors' (and nodes') names dealt out again among all tensors, and with the names
 * of storages where none has them: what a run fills and prints must not depend on it. From malloc. */
char *mutate_names(const char *text, uint64_t *state);

/* Names of storages of one kind in a graph or plan dump, at most n of at most 127 bytes each; gives how
 * many. */
enum { MUTATE_NAME = 128 };
int mutate_storages(const char *text, const char *kind, char names[][MUTATE_NAME], int n);

#endif
