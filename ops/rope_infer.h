/* What rope and rope_set_rows check alike. Internal to ops. */
#ifndef KILN_ROPE_INFER_H
#define KILN_ROPE_INFER_H

#include "infer_util.h"

extern const char *const kiln__rope_mode_names[2];

/* x (operand i) [T, heads, d] or [T, d], positions (operand p) [T]. */
kiln_status kiln__rope_infer(const kiln_infer *infer, uint32_t i, uint32_t p, const kiln_rope_attrs *attrs);

#endif
