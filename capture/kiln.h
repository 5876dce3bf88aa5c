/* Kiln, all of it: `#include <kiln/kiln.h>`.
 *
 *     kiln_base.h      statuses, errors, allocators
 *     kiln_dtype.h     element types
 *     kiln_op.h        what an op is; for custom ops
 *     kiln_graph.h     building graphs
 *     kiln_ops.h       the ops
 *     kiln_executor.h  what runs plans
 *     kiln_cpu_pool.h  threads for it, shared or of the host's
 *     kiln_fusion.h    fusion rules by name
 *     kiln_plan.h      baking, sessions, running, observing
 *     kiln_capture.h   the imperative style with a plan cache
 *     kiln_json.h      graphs as JSON
 *     kiln_plan_json.h plans as JSON
 *     kiln_profile.h   where the time goes
 *
 * kiln_gguf.h, for GGUF files, is a library of its own: include it by name and link with
 * `pkg-config --libs kiln_gguf`.
 */
#ifndef KILN_H
#define KILN_H

#include "kiln_base.h"
#include "kiln_dtype.h"
#include "kiln_op.h"
#include "kiln_graph.h"
#include "kiln_ops.h"
#include "kiln_executor.h"
#include "kiln_cpu_pool.h"
#include "kiln_fusion.h"
#include "kiln_plan.h"
#include "kiln_capture.h"
#include "kiln_json.h"
#include "kiln_plan_json.h"
#include "kiln_profile.h"

#endif
