/* Profiles: where the time of runs goes, thread by thread. While a session is profiled, each thread that computes for
 * it notes every kernel call in a list of its own, at the price of a look at the processor's time stamp counter and of 16
 * bytes of memory a call, or of two where a call does not follow another at once. While it is not profiled, that costs
 * nothing.
 *
 *     kiln_session_profile(session, 100000, &error);
 *     ... kiln_run, some times ...
 *     kiln_session_profile_trace(session, NULL, &text, &error);      for ui.perfetto.dev or chrome://tracing
 */
#ifndef KILN_PROFILE_H
#define KILN_PROFILE_H

#include "kiln_json.h"
#include "kiln_plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Begins a profile of the runs that follow, with room for about `calls` kernel calls of each thread (32 bytes each, taken
 * at once). A call takes all of that, or half where it follows another at once; a run takes half as well, of each thread
 * that computes for it, and a region opened for others, of the thread that opens it. What comes beyond that is dropped;
 * dropped calls are counted. 0 ends it and frees its memory. In both cases what was noted before is gone. Errors, after
 * which all is as it was: KILN_ERROR_ARGUMENT (NULL), KILN_ERROR_BUSY (a submission runs), KILN_ERROR_MEMORY,
 * KILN_ERROR_OVERFLOW (so many calls have no size). From the session's thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_profile(kiln_session *session, size_t calls,
                                                          kiln_error *error);

/* One kernel call: some tiles of one record. Times in nanoseconds, monotonic, from the moment the profile began. */
typedef struct kiln_profile_call {
    uint32_t run;    /* counts submissions, and the runs of kiln_session_warm */
    uint32_t thread; /* 0: the one that waits; then the others, see kiln_session_profile_thread */
    uint32_t record, region;
    const char *node; /* its label in the plan's program; valid during the visit */
    const char *op;   /* its name; the descriptor's */
    int64_t first_tile, tiles;
    int64_t start_ns, end_ns; /* in the kernel */
    /* What the thread did since the end of its last call in this run (or, for its first: since the region was opened):
     * it had nothing to do until all tiles of the regions before were done and this region was opened, */
    int64_t barrier_ns;
    int64_t
        wait_ns; /* and then it took that long to come by its tiles: claiming, waking up, lacking a processor */
} kiln_profile_call;

/* Visits all calls noted, thread by thread, each thread's in time order; false ends it. `dropped` (may be NULL) gets
 * how many there was no room for. Errors: KILN_ERROR_ARGUMENT (the session is not profiled, visit is NULL),
 * KILN_ERROR_BUSY (a submission runs), KILN_ERROR_MEMORY, KILN_ERROR_CANCELLED (visit returned false). From the session's
 * thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_profile_read(
    const kiln_session *session, bool (*visit)(void *context, const kiln_profile_call *call), void *context,
    uint64_t *dropped, kiln_error *error);

/* Who a thread of a profile is, into text: "waiting", "worker 3", "guest 1", "call 2" (of parallel_for), or "" when there is
 * none of this number. Any thread. */
KILN_API void kiln_session_profile_thread(const kiln_session *session, uint32_t thread, char *text,
                                          size_t size);

/* Writes the profile in the Trace Event Format (the JSON that chrome://tracing and ui.perfetto.dev open): a row per thread,
 * a slice per kernel call with its record, region and tiles, slices "barrier" and "wait" in front of it. The schema
 * is in graph/JSON.md. `options` may be NULL. *out is the caller's, for kiln_json_text_free; zeroed on failure. Errors:
 * as kiln_session_profile_read, KILN_ERROR_ARGUMENT also when out is NULL. From the session's thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_profile_trace(const kiln_session *session,
                                                                const kiln_json_options *options,
                                                                kiln_json_text *out, kiln_error *error);

#ifdef __cplusplus
}
#endif
#endif
