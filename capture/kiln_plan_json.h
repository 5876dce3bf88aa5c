/* Plans as JSON: what was baked and why, readable by people and tools, and checkable. The schema stands in
 * graph/JSON.md beside that of graphs. */
#ifndef KILN_PLAN_JSON_H
#define KILN_PLAN_JSON_H

#include "kiln_json.h"
#include "kiln_plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes a plan: the graph it was baked from (so that kiln_graph_from_json takes the text too), the options,
 * and the plan: program, fusions, order, regions, every access box, every barrier with the hazards that cause
 * it, arena places and lives. With a session (may be NULL, must not be running) also what its executor made of that:
 * which regions are shared by the threads and which are serial runs of one, and its records: kernels, tiles at the
 * slot values of the last run (before there is one, at the symbols' maxima), and the nanoseconds of that run where
 * KILN_WATCH_TIME was on.
 * `options` may be NULL. *out is the caller's to free with kiln_json_text_free; zeroed on failure.
 * Errors: KILN_ERROR_ARGUMENT (plan or out NULL, a session of
 * another plan; an enum attribute holds a value without a name), KILN_ERROR_BUSY (the session is running),
 * KILN_ERROR_MEMORY. Any thread; with a session, from the session's. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plan_to_json(const kiln_plan *plan, const kiln_session *session,
                                                       const kiln_json_options *options, kiln_json_text *out,
                                                       kiln_error *error);

/* Holds a plan dump against a plan baked afresh from the graph and options in it: KILN_ERROR_STALE names the
 * first place where they differ ("$.plan.regions[3][0]: 17 in the dump, 18 when baked afresh"). Arguments as
 * for kiln_graph_from_json; the allocator is needed during the call only. Other errors: those of
 * kiln_graph_from_json and kiln_bake; KILN_ERROR_FORMAT for a graph that is not a plan dump. Any thread with
 * 64 KiB of stack to spare, however deep the text is. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plan_check_json(const char *text, size_t size, kiln_op_set ops,
                                                          const kiln_json_limits *limits,
                                                          const kiln_allocator *allocator, kiln_error *error);

/* Bakes the graph in a plan dump with the options in it: the plan that was dumped, when nothing has changed
 * since. What "plan" says is not looked at. *out has one reference; NULL on failure; `allocator` (NULL:
 * malloc) and `ops` must outlive it. Taps are named as the dump names them. Errors: those of
 * kiln_graph_from_json and kiln_bake; KILN_ERROR_FORMAT for a graph that is not a plan dump. Any thread with
 * 64 KiB of stack to spare. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plan_from_json(const char *text, size_t size, kiln_op_set ops,
                                                         const kiln_json_limits *limits,
                                                         const kiln_allocator *allocator, kiln_plan **out,
                                                         kiln_error *error);

#ifdef __cplusplus
}
#endif
#endif
