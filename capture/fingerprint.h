/* Telling graphs apart: a hash to find a plan by, and a comparison that says where two differ. Internal. */
#ifndef KILN_FINGERPRINT_H
#define KILN_FINGERPRINT_H

#include "graph.h"

/* The first difference between a baked graph and one built now. */
typedef struct kiln__difference {
    bool any;
    size_t node; /* nodes before this one are equal: how near the two are */
    char text[KILN_ERROR_TEXT_SIZE];
} kiln__difference;

/* Are they equal in everything that the fingerprint covers? The fast way to say yes. */
bool kiln__graph_equal(const kiln_graph *baked, const kiln_graph *now);

/* Compares slots, storages, tensors and nodes: everything that the fingerprint covers. Allocates nothing.
 * With `describe` false the text is left alone, which is faster. */
void kiln__graph_compare(const kiln_graph *baked, const kiln_graph *now, bool describe,
                         kiln__difference *out);

#endif
