/* What set_rows and rope_set_rows check and declare alike. Internal to ops. */
#ifndef KILN_APPEND_INFER_H
#define KILN_APPEND_INFER_H

#include "infer_util.h"

/* dst (operand 0) [C, ...], `rows` (operand 1) [T, ...], `indices` (operand i) [T]. */
kiln_status kiln__append_infer(kiln_infer *infer, const char *rows, uint32_t indices, uint32_t ndim_min,
                               uint32_t ndim_max);

/* Reads all inputs but dst; writes the rows of dst that may be meant: those that a constant position names,
 * or any. */
kiln_status kiln__append_accesses(const kiln_access_query *query, const kiln_set_rows_attrs *attrs,
                                  uint32_t indices);

/* Refuses rows that do not fit dst where a slot says so: an append at constants alone runs, and reports. */
kiln_status kiln__append_check(const kiln_check *check, uint32_t indices, const kiln_set_rows_attrs *attrs);

/* position + T: the cache is filled from its first row on. Not known with indices, and of a ring. */
int64_t kiln__append_rows_held(const kiln_args *args, uint32_t indices, const kiln_set_rows_attrs *attrs);

#endif
