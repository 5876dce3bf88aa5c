/* What an executor made of a plan's regions, for people. */
#ifndef KILN_TOOLS_REGIONS_H
#define KILN_TOOLS_REGIONS_H

#include "kiln_plan.h"

#include <stdio.h>

/* A line about the executor, then one for each region that its threads share and each serial run between them. The
 * session must not be running; so for all of these. */
void print_regions(FILE *file, const kiln_session *session);

/* The same in one line, counted, with `prefix` in front. */
void print_regions_summary(FILE *file, const char *prefix, const kiln_session *session);

/* `n` regions of a plan from `first` on, a line each: the ops, and the hazard that the barrier before them is
 * for. */
void print_plan_regions(FILE *file, const kiln_plan *plan, uint32_t first, uint32_t n);

/* "serial run of 7 records" */
const char *serial_run_text(uint32_t records, char buffer[48]);

#endif
