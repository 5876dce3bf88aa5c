/* A plan as a Graphviz picture. */
#ifndef KILN_TOOLS_DOT_H
#define KILN_TOOLS_DOT_H

#include "kiln_plan.h"

#include <stdio.h>

/* Regions are boxes from top to bottom, with a bar for the barrier between two of them that says which bytes
 * made it necessary; arrows are hazards: solid where data flows, dashed where bytes are used again. With a session of
 * the plan (may be NULL, must not be running) there is a frame around regions that one thread of its executor computes
 * in a row; bars inside are pale, since nobody is waited for there. */
void dot_write(FILE *file, const kiln_plan *plan, const kiln_session *session);

#endif
