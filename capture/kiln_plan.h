/* Plans and sessions: a graph is baked once into a plan; a session replays it.
 *
 *     kiln_plan *plan;          kiln_bake(graph, NULL, &plan, &error);
 *     kiln_session *session;    kiln_session_create(plan, executor, NULL, &session, &error);
 *                               kiln_session_bind(session, storage, data, size, &error);     weights, buffers
 *     every token:              kiln_session_set_i64(session, slot, value, &error);
 *                               kiln_run(session, &error);
 *
 * A plan is immutable: any thread, any number of sessions. A session runs one submission at a time; apart
 * from kiln_wait, kiln_cancel and kiln_fence_done its functions are for one thread at a time.
 */
#ifndef KILN_PLAN_H
#define KILN_PLAN_H

#include "kiln_executor.h"
#include "kiln_fusion.h"
#include "kiln_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_plan kiln_plan;
typedef struct kiln_session kiln_session;
typedef struct kiln_state_buffer kiln_state_buffer;

/* ---- baking ----------------------------------------------------------------------------------------- */

/* How matmuls against quantised and half-precision weights read their activations. */
typedef enum kiln_precision {
    /* For block weights quantised to 8 bits per block of 32; for f16 and bf16 rounded to bf16. */
    KILN_PRECISION_FAST,
    KILN_PRECISION_EXACT /* kept as f32 */
} kiln_precision;

/* What is watched about a tensor. */
enum {
    KILN_WATCH_VALUES = 1 << 0, /* the callback gets its bytes */
    KILN_WATCH_FINITE = 1 << 1, /* the first NaN or Inf stops the run with KILN_ERROR_NUMERIC */
    KILN_WATCH_HASH = 1 << 2,   /* XXH3-64 of its bytes, element by element in row-major order */
    KILN_WATCH_TIME = 1 << 3    /* nanoseconds spent in kernels of the node that makes it */
};

/* Declares an observer. Its tensor stays un-fused; nothing else changes, and nothing is done for it on the
 * way until a session switches it on. */
typedef struct kiln_tap {
    const char *tensor; /* a name (kiln_name, kiln_output); "prefix*" for all that begin so; "*" for all */
    uint32_t watch;     /* KILN_WATCH_* */
} kiln_tap;

/* Zeroed fields mean the default. */
typedef struct kiln_bake_options {
    kiln_precision precision;
    uint32_t no_fuse;  /* KILN_FUSE_* rules not to apply */
    bool no_reuse;     /* every intermediate gets bytes of its own */
    bool no_inplace;   /* no output takes the place of an input */
    bool serial;       /* one node per region, in program order (to look for faults) */
    int64_t max_arena; /* bytes; regions are added only as far as it needs. 0: no cap */
    const kiln_tap *taps;
    uint32_t n_taps;
} kiln_bake_options;

/* Bakes a graph: validates, lowers and fuses a copy of it, orders it, places its intermediates. The graph may
 * change or go afterwards; ops must stay. `options` may be NULL. `*out` has one reference.
 * Errors: the graph's remembered error; KILN_ERROR_ARGUMENT (a tap that matches nothing); KILN_ERROR_LIMIT
 * (max_arena); KILN_ERROR_OVERFLOW; KILN_ERROR_MEMORY. Any thread that may read the graph. */
KILN_API KILN_MUST_CHECK kiln_status kiln_bake(const kiln_graph *graph, const kiln_bake_options *options,
                                               kiln_plan **out, kiln_error *error);

/* Plans are shared: sessions hold a reference of their own. NULL is allowed. Any thread. */
KILN_API void kiln_plan_retain(kiln_plan *plan);
KILN_API void kiln_plan_release(kiln_plan *plan);

typedef struct kiln_plan_summary {
    uint32_t nodes;   /* of the graph as built */
    uint32_t records; /* dispatches after lowering and fusion */
    uint32_t regions;
    uint32_t barriers;         /* regions - 1 */
    uint32_t barriers_avoided; /* against one between any two records */
    uint32_t longest_chain;    /* the least number of regions there can be */
    uint32_t fusions;          /* rules applied */
    uint32_t inplace;          /* outputs that took an input's place */
    int64_t arena_bytes;
    int64_t sum_bytes;   /* of all intermediates, without reuse */
    int64_t lower_bound; /* the largest live set */
    int64_t io_bytes;    /* inputs and outputs a session owns unless they are bound */
} kiln_plan_summary;

/* Any thread. */
KILN_API void kiln_plan_get_summary(const kiln_plan *plan, kiln_plan_summary *out);

/* Handles by name, as in the graph: they are equal to the graph's own. Invalid when there is none. Any
 * thread. */
KILN_API kiln_tensor kiln_plan_tensor(const kiln_plan *plan, const char *name);
KILN_API kiln_storage kiln_plan_storage(const kiln_plan *plan, const char *name);
KILN_API kiln_slot kiln_plan_slot(const kiln_plan *plan, const char *name);
/* Tensors in the order they were made, views included: i from 0; invalid behind the last. */
KILN_API kiln_tensor kiln_plan_tensor_at(const kiln_plan *plan, size_t i);
/* What it looks like. KILN_ERROR_ARGUMENT when it is none of the plan's. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plan_tensor_get(const kiln_plan *plan, kiln_tensor tensor,
                                                          kiln_tensor_info *out);

/* Storages in order, to list what wants binding: i from 0; false behind the last. Any thread. */
typedef struct kiln_storage_info {
    kiln_storage storage;
    const char *name;
    kiln_storage_kind kind;
    int64_t size;
    uint32_t align; /* a pointer bound to it must be a multiple of this */
    bool written;   /* some node writes it */
} kiln_storage_info;
KILN_API bool kiln_plan_storage_at(const kiln_plan *plan, size_t i, kiln_storage_info *out);

/* Slots in order: i from 0; false behind the last. Any thread. The name lives as long as the plan. */
typedef struct kiln_slot_info {
    kiln_slot slot;
    const char *name;
    bool is_float;
    int64_t min, max; /* integers */
    float preset;     /* floats */
} kiln_slot_info;
KILN_API bool kiln_plan_slot_at(const kiln_plan *plan, size_t i, kiln_slot_info *out);

/* ---- states: KV caches and the like, the caller's, alive across runs, sessions and plans ------------ */

/* `size` zeroed bytes, or the caller's own memory (which must outlive the buffer, and be aligned as
 * kiln_storage_info.align of what it will be bound to says: 128 always suffices). Errors:
 * KILN_ERROR_ARGUMENT, KILN_ERROR_MEMORY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_state_buffer_create(const kiln_allocator *allocator, int64_t size,
                                                              kiln_state_buffer **out, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_state_buffer_wrap(const kiln_allocator *allocator, void *data,
                                                            int64_t size, kiln_state_buffer **out,
                                                            kiln_error *error);
/* KILN_ERROR_BUSY, and nothing happens, while a session has it bound, or a plan exists whose graph named it
 * (kiln_storage_state). NULL is allowed. */
KILN_API kiln_status kiln_state_buffer_destroy(kiln_state_buffer *state, kiln_error *error);

/* Its bytes; not to be touched while a run uses it. */
KILN_API void *kiln_state_buffer_data(kiln_state_buffer *state);
KILN_API int64_t kiln_state_buffer_size(const kiln_state_buffer *state);

/* True after a run that failed or was cancelled may have left it half written. Submissions on it are refused
 * with KILN_ERROR_DIRTY until `acknowledge`, which says: I restored it, or do not mind. Any thread. */
KILN_API bool kiln_state_buffer_is_dirty(const kiln_state_buffer *state);
KILN_API void kiln_state_buffer_acknowledge(kiln_state_buffer *state);

/* Says in the graph which buffer a state storage lies in: sessions then bind it by themselves. The buffer
 * must outlive the graph, the plans baked from it and those sessions. Remembered errors: KILN_ERROR_ARGUMENT
 * (unknown storage, not a state), KILN_ERROR_BINDING (too small). From the graph's thread. */
KILN_API void kiln_storage_state(kiln_graph *graph, kiln_storage storage, kiln_state_buffer *state);

/* ---- sessions --------------------------------------------------------------------------------------- */

/* Prepares a plan for an executor: records, arena, inputs and outputs. Storages whose data the graph knew are
 * bound. Slots hold their minima (integers) and presets (floats). Everything is allocated here; running
 * allocates nothing. Errors: KILN_ERROR_UNSUPPORTED (no kernel for a node; the text names it),
 * KILN_ERROR_MEMORY, KILN_ERROR_OVERFLOW. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_create(kiln_plan *plan, kiln_executor *executor,
                                                         const kiln_allocator *allocator, kiln_session **out,
                                                         kiln_error *error);

/* KILN_ERROR_BUSY, and nothing happens, while a submission runs (wait for it or cancel it first). NULL is
 * allowed. */
KILN_API kiln_status kiln_session_destroy(kiln_session *session, kiln_error *error);

/* The plan it was made from; not a reference of the caller's. Any thread. */
KILN_API kiln_plan *kiln_session_plan(const kiln_session *session);

/* Errors: KILN_ERROR_ARGUMENT (unknown slot, wrong type), KILN_ERROR_LIMIT (outside its bounds; the text has
 * name, value and bounds), KILN_ERROR_BUSY. The old value stays on failure. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_set_i64(kiln_session *session, kiln_slot slot,
                                                          int64_t value, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_session_set_f32(kiln_session *session, kiln_slot slot, float value,
                                                          kiln_error *error);

/* What a slot holds now; 0 for a slot that is not of this plan, or of the other type. */
KILN_API int64_t kiln_session_get_i64(const kiln_session *session, kiln_slot slot);
KILN_API float kiln_session_get_f32(const kiln_session *session, kiln_slot slot);

/* Binds a weight, input or output storage to the caller's memory, which must stay until another is bound or
 * the session goes; data NULL returns an input or output to the session's own memory. Different storages may
 * share bytes only when no node writes them, or as they did when the plan was baked: this is checked at the
 * next submit. Errors: KILN_ERROR_ARGUMENT (unknown storage, a state or intermediate), KILN_ERROR_BINDING
 * (too small, misaligned; with name, expected, actual), KILN_ERROR_BUSY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_bind(kiln_session *session, kiln_storage storage,
                                                       void *data, int64_t size, kiln_error *error);

/* Binds a state storage; NULL unbinds it. The buffer must outlive the binding. A buffer may be bound to
 * several storages as the plan's overlaps allow (see kiln_session_bind). Errors: KILN_ERROR_ARGUMENT (unknown
 * storage, not a state), KILN_ERROR_BINDING (too small, misaligned), KILN_ERROR_BUSY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_bind_state(kiln_session *session, kiln_storage storage,
                                                             kiln_state_buffer *state, kiln_error *error);

/* The first byte of a tensor of the graph, for inputs to be filled before a run and outputs to be read after
 * it; NULL for intermediates (watch them instead) and unbound storages. Not to be touched while a submission
 * runs. */
KILN_API void *kiln_session_data(kiln_session *session, kiln_tensor tensor);

/* ---- running ---------------------------------------------------------------------------------------- */

/* One submission. A value, not an object; valid until its session goes. */
typedef struct kiln_fence {
    kiln_session *session;
    uint64_t sequence;
} kiln_fence;

/* Starts a run. Everything is checked before anything runs.
 * Errors: KILN_ERROR_BUSY (this session is running, or another that writes one of its states),
 * KILN_ERROR_DIRTY, KILN_ERROR_BINDING (a storage without bytes; overlaps), KILN_ERROR_SYSTEM. */
KILN_API KILN_MUST_CHECK kiln_status kiln_submit(kiln_session *session, kiln_fence *fence, kiln_error *error);

/* Waits for a submission, computing meanwhile. timeout_ns < 0: without limit; 0: only looks. Returns the
 * run's own status: KILN_OK, KILN_ERROR_CANCELLED, KILN_ERROR_INDEX (everything ran; the text names node,
 * row, index), KILN_ERROR_KERNEL, KILN_ERROR_NUMERIC; or KILN_ERROR_TIMEOUT, and the run goes on;
 * KILN_ERROR_ARGUMENT for a fence that a later submission of the session has replaced. Any thread, several at
 * once. */
KILN_API KILN_MUST_CHECK kiln_status kiln_wait(kiln_fence fence, int64_t timeout_ns, kiln_error *error);

/* True when kiln_wait would return at once. Any thread. */
KILN_API bool kiln_fence_done(kiln_fence fence);

/* Asks the submission to end early: kiln_wait then returns KILN_ERROR_CANCELLED, unless it was done before.
 * Waits for nothing. Without effect on other submissions. Any thread. */
KILN_API void kiln_cancel(kiln_fence fence);

/* Submit and wait without limit. Errors: those of both. */
KILN_API KILN_MUST_CHECK kiln_status kiln_run(kiln_session *session, kiln_error *error);

/* ---- observers -------------------------------------------------------------------------------------- */

typedef struct kiln_observation {
    const char *tensor; /* its label */
    const char *op;     /* of the node that made it */
    const void *data;   /* its bytes; valid during the callback only */
    kiln_dtype dtype;
    uint32_t ndim;
    int64_t dims[KILN_MAX_DIMS]; /* counts of this run, outermost first */
    int64_t strides[KILN_MAX_DIMS];
    uint64_t hash;     /* KILN_WATCH_HASH */
    int64_t nonfinite; /* KILN_WATCH_FINITE: row-major index of the first NaN or Inf, -1 when there is none */
    int64_t ns;        /* KILN_WATCH_TIME: kernel time of its node in this run, over all workers */
    bool seen; /* false: the last run did not come to it, or it was not watched; then only `tensor` is set */
} kiln_observation;

/* Switches the plan's observers on for this session: those of kinds `watch` act in the runs that follow; 0
 * switches them off. `callback` (may be NULL) is called for every tapped tensor, after the region that makes
 * it, from the thread that finished the region, and must not call into this session; anything but KILN_OK
 * stops the run with KILN_ERROR_NUMERIC. Errors: KILN_ERROR_BUSY;
 * KILN_ERROR_ARGUMENT (the plan has no taps, unknown bits in `watch`). */
KILN_API KILN_MUST_CHECK kiln_status
kiln_session_observe(kiln_session *session, uint32_t watch,
                     kiln_status (*callback)(void *context, const kiln_observation *observation),
                     void *context, kiln_error *error);

/* What the i-th tap saw in the last run (data is NULL; `seen` says whether it saw anything); false behind the last.
 * Not while a submission runs. */
KILN_API bool kiln_session_observed(const kiln_session *session, size_t i, kiln_observation *out);

#ifdef __cplusplus
}
#endif
#endif
