/* A plan as a Graphviz picture. */
#ifndef KILN_TOOLS_DOT_H
#define KILN_TOOLS_DOT_H

#include "kiln_plan.h"

#include <stdio.h>

/* Regions are boxes from top to bottom, with a bar for the barrier between two of them that says which bytes
 * made it necessary; arrows are hazards: solid where data flows, dashed where bytes are used again. */
void dot_write(FILE *file, const kiln_plan *plan);

#endif
