/* A small expert-routed model of Kiln's own, the same bytes on every machine. */
#ifndef KILN_TOOLS_DEMO_MODEL_H
#define KILN_TOOLS_DEMO_MODEL_H

#include "kiln_base.h"

/* Writes the model to `path`. Errors: KILN_ERROR_MEMORY, KILN_ERROR_SYSTEM. */
KILN_MUST_CHECK kiln_status demo_model_write(const char *path, kiln_error *error);

/* What it is, for people. */
extern const char demo_model_text[];

#endif
