/* Capture: call the op functions again for every token, and get the plan that was baked the first time.
 *
 *     kiln_graph *g = kiln_capture_begin(capture);
 *     ... inputs, weights, ops, as if the graph were built anew ...
 *     kiln_capture_end(capture, &session, &error);     found by fingerprint, or baked
 *     kiln_run(session, &error);
 *
 * The fingerprint (XXH3-128) covers ops, attributes, shapes, dtypes, storages, slots and topology, not
 * addresses. On a hit the whole graph is compared with the one baked (custom ops by identity), then pointers
 * are rebound; nothing is allocated. On a miss the reason names the first node and field that differ from the
 * nearest cached plan.
 *
 * Threads: one at a time per capture, with its graph and its sessions (but for kiln_wait, kiln_cancel and
 * kiln_fence_done). Several captures may share an executor and run at once.
 */
#ifndef KILN_CAPTURE_H
#define KILN_CAPTURE_H

#include "kiln_plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_capture kiln_capture;

/* Zeroed fields mean the default. */
typedef struct kiln_capture_options {
    kiln_bake_options bake; /* kept; its taps must outlive the capture */
    uint32_t max_entries;   /* plans kept; 0: 16 */
    int64_t max_bytes; /* of plans and sessions kept; 0: no cap. The plan in use stays, whatever its size */
} kiln_capture_options;

/* From any thread. The executor must outlive the capture; `allocator` too, which its graph, plans and
 * sessions take their memory from. `options` and `allocator` may be NULL (malloc). *out is the caller's, for
 * kiln_capture_destroy. Errors: KILN_ERROR_ARGUMENT (executor or out is NULL), KILN_ERROR_MEMORY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_capture_create(kiln_executor *executor,
                                                         const kiln_capture_options *options,
                                                         const kiln_allocator *allocator, kiln_capture **out,
                                                         kiln_error *error);

/* Frees the cached plans and sessions too. KILN_ERROR_BUSY, and nothing happens, while one of them runs. NULL
 * is allowed. Plans retained from its sessions must be released before, by the capture's thread. */
KILN_API kiln_status kiln_capture_destroy(kiln_capture *capture, kiln_error *error);

/* The capture's graph, emptied, not the caller's to destroy; old handles are void, new ones are good until
 * the next begin. */
KILN_API kiln_graph *kiln_capture_begin(kiln_capture *capture);

/* Finds or bakes the plan for the graph just built and gives its session, bound to the data that the graph
 * knows (kiln_storage_data, kiln_storage_state). The session is the capture's and good until it is evicted,
 * which only a later `end` or kiln_capture_clear does. Slots keep the values they had, and so do bindings
 * made by hand on the session; a storage that an earlier graph gave bytes to and this one does not goes back
 * to the session's own memory (inputs, outputs), or is unbound. An equal graph whose data overlap in memory
 * otherwise than when its plan was baked is baked anew. Handles of the graph are good for the session until
 * the next graph's take their place; those that its plan gives out always are. Errors, with *session NULL:
 * the graph's remembered error; those of kiln_bake, kiln_session_create and kiln_session_bind;
 * KILN_ERROR_BUSY (the session found is running: wait for its fence first; nothing has changed);
 * KILN_ERROR_LIMIT (max_entries plans are cached and all of them are running). A plan that could not be baked
 * or prepared leaves nothing behind, but the one it was to replace may have been evicted. After an error of
 * binding on a hit the storages before the one that was refused are bound anew, the others as before; the
 * next `end` that succeeds binds all that its graph knows. */
KILN_API KILN_MUST_CHECK kiln_status kiln_capture_end(kiln_capture *capture, kiln_session **session,
                                                      kiln_error *error);

/* Forgets all cached plans and frees their sessions: the next `end` bakes anew. KILN_ERROR_BUSY, and nothing
 * happens, while one of them runs. From the capture's thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_capture_clear(kiln_capture *capture, kiln_error *error);

/* Takes a state buffer off all cached sessions, so that it can be destroyed (when a conversation ends, say);
 * the plans stay for the next one. KILN_OK also when none has it. KILN_ERROR_BUSY while one of those sessions
 * runs; then some may be unbound already. */
KILN_API KILN_MUST_CHECK kiln_status kiln_capture_unbind_state(kiln_capture *capture,
                                                               kiln_state_buffer *state, kiln_error *error);

typedef struct kiln_capture_counters {
    uint64_t hits, misses, evictions;
    uint32_t entries; /* now */
    int64_t bytes;    /* now, of plans and sessions */
} kiln_capture_counters;
/* What the cache has done since it was made, into *out. A graph in error counts neither as hit nor as miss; a
 * miss counts when the plan could not be made, too. */
KILN_API void kiln_capture_get_counters(const kiln_capture *capture, kiln_capture_counters *out);

/* Why the last `end` missed: the first node and field that differ from the nearest cached plan, or that the
 * cache was empty; "" after a hit, and before the first `end`. Good until the next `end`. */
KILN_API const char *kiln_capture_miss_reason(const kiln_capture *capture);

/* ---- the guard, for engines that keep plans themselves ---------------------------------------------- */

/* 128 bits over everything that a plan depends on; addresses and names of tensors excluded. */
typedef struct kiln_fingerprint {
    uint64_t low, high;
} kiln_fingerprint;
/* Of a graph without a remembered error. Equal graphs have equal ones, on every machine. XXH3-128 (xxHash)
 * over the fields in order. Allocates nothing. Any thread that may read the graph. */
KILN_API kiln_fingerprint kiln_graph_fingerprint(const kiln_graph *graph);

/* KILN_OK when the plan was baked from a graph equal to this one. Otherwise KILN_ERROR_STALE, with a text
 * like "the plan is stale: node 12 'blk.0.ffn_up' (matmul): operand w was [64, 172] f32, is [64, 176] f32";
 * also the graph's remembered error. Allocates nothing. Any thread that may read the graph. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plan_match(const kiln_plan *plan, const kiln_graph *graph,
                                                     kiln_error *error);

/* Refuses a graph that does not match the session's plan (KILN_ERROR_STALE), else rebinds the session to the
 * data that the graph knows, as kiln_capture_end does. Handles stay those of the plan, not of this graph.
 * Errors: those of kiln_plan_match; KILN_ERROR_BUSY (a submission runs; nothing has changed); those of
 * kiln_session_bind, and then the storages before the one that was refused are bound anew. From the session's
 * thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_rebind(kiln_session *session, const kiln_graph *graph,
                                                         kiln_error *error);

#ifdef __cplusplus
}
#endif
#endif
