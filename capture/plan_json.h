/* What writing and checking plan dumps share. Internal. */
#ifndef KILN_PLAN_JSON_INTERNAL_H
#define KILN_PLAN_JSON_INTERNAL_H

#include "graph_json.h"
#include "kiln_plan.h"

typedef struct kiln__bit_name {
    uint32_t bit;
    const char *name;
} kiln__bit_name;

/* Each ends with a NULL name. */
extern const kiln__bit_name kiln__fusion_bits[];
extern const kiln__bit_name kiln__watch_bits[];
extern const char *const kiln__precision_names[2];

/* Puts the "plan" object: what baking decided, and nothing that depends on an executor. */
kiln_status kiln__plan_put_json(kiln__json_writer *w, const kiln_plan *plan, kiln_error *error);

#endif
