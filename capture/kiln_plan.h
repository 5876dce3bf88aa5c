/* Plans and sessions: a graph is baked once into a plan; a session replays it.
 *
 *     kiln_plan *plan;          kiln_bake(graph, NULL, &plan, &error);
 *     kiln_session *session;    kiln_session_create(plan, executor, NULL, &session, &error);
 *                               kiln_session_bind(session, storage, data, size, &error);     weights, buffers
 *     every token:              kiln_session_set_i64(session, slot, value, &error);
 *                               kiln_run(session, &error);
 *
 * A plan is immutable: any thread, any number of sessions. Texts and handles that it gives out are good as
 * long as the plan. A session runs one submission at a time; apart from kiln_wait, kiln_cancel and
 * kiln_fence_done its functions are for one thread at a time.
 *
 * What is destroyed while it is needed answers KILN_ERROR_BUSY: an executor with sessions, a session that
 * runs, a state buffer that is bound. Plans are counted. Memory that was bound is the caller's to keep.
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

/* How matmuls against quantised and half-precision weights read their activations. Sums are f32 in either
 * case. */
typedef enum kiln_precision {
    /* For block weights quantised to 8 bits per block of 32; for f16 and bf16 rounded to bf16. */
    KILN_PRECISION_FAST,
    KILN_PRECISION_EXACT /* kept as f32 */
} kiln_precision;

/* What is watched about a tensor. */
enum {
    KILN_WATCH_VALUES = 1 << 0, /* the callback gets its bytes */
    KILN_WATCH_FINITE = 1 << 1, /* the first NaN or Inf stops the run with KILN_ERROR_NUMERIC; floats only */
    KILN_WATCH_HASH = 1 << 2,   /* XXH3-64 of its bytes, element by element in row-major order */
    KILN_WATCH_TIME = 1 << 3    /* nanoseconds spent in kernels of the node that makes it */
};

/* Declares an observer. Its tensor stays un-fused; nothing else changes, and nothing is done for it on the
 * way until a session switches it on. */
typedef struct kiln_tap {
    /* Which outputs of nodes: a name (kiln_name, kiln_output; of one without, what dumps call it,
     * "silu.3:0"); "prefix*" for all that begin so; "*" for all. Views and what no node makes (inputs,
     * weights) cannot be tapped. A tap reads the whole tensor when its node is done. An intermediate or
     * output of which some bytes are not written by then (set_rows into a part of it) is left out by a
     * pattern, and refused by name. Rows that an append at a slot's position or at indices left out hold
     * whatever lay there. */
    const char *tensor;
    uint32_t watch; /* KILN_WATCH_*; taps that name one tensor twice are added up */
} kiln_tap;

/* Zeroed fields mean the default. */
typedef struct kiln_bake_options {
    kiln_precision precision;
    uint32_t no_fuse;  /* KILN_FUSE_* rules not to apply; other bits are not looked at */
    bool no_reuse;     /* every intermediate gets bytes of its own */
    bool no_inplace;   /* no output takes the place of an input */
    bool serial;       /* one node per region, in program order (to look for faults) */
    int64_t max_arena; /* bytes; regions are added only as far as it needs. 0: no cap */
    const kiln_tap *taps;
    uint32_t n_taps;
} kiln_bake_options;

/* Bakes a graph: validates, lowers and fuses a copy of it, orders it, places its intermediates. The graph may
 * change or go afterwards; its allocator, which the plan's memory comes from, its ops and the state buffers
 * it names must stay. `options` may be NULL; neither it nor its taps are kept. `*out` has one reference, for
 * kiln_plan_release. Errors:
 * - the graph's remembered error;
 * - KILN_ERROR_ARGUMENT: graph or out is NULL; an unknown precision, max_arena < 0, taps missing; a tap
 *   without a name, with unknown bits, that matches nothing, or that names a tensor not all of which is
 *   written; a node that reads bytes of an intermediate or
 *   output which none before it writes; an access that writes to a weight or input; a node that writes bytes
 *   which it reads or writes through another operand, unless its op allows that; a custom op whose accesses
 *   name an absent operand or bytes outside its storage, leave out an operand, or never write an output;
 * - what a custom op's `accesses` returns;
 * - KILN_ERROR_LIMIT: no plan found within max_arena (the text has the least found); about 2³² nodes or
 *   accesses;
 * - KILN_ERROR_OVERFLOW: sizes that do not fit 63 bits, or data (kiln_storage_data) past the end of memory;
 * - KILN_ERROR_MEMORY.
 * Any thread that may read the graph. */
KILN_API KILN_MUST_CHECK kiln_status kiln_bake(const kiln_graph *graph, const kiln_bake_options *options,
                                               kiln_plan **out, kiln_error *error);

/* Plans are shared: sessions hold a reference of their own, and the last release frees the plan, on whatever
 * thread that is. NULL is allowed. Any thread. */
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

/* Counts and sizes in bytes, at the symbols' maxima, into *out. Any thread. */
KILN_API void kiln_plan_get_summary(const kiln_plan *plan, kiln_plan_summary *out);

/* Handles by name, as in the graph: they are equal to the graph's own. Invalid (all 0) when there is none,
 * also for NULL. Any thread. */
KILN_API kiln_tensor kiln_plan_tensor(const kiln_plan *plan, const char *name);
KILN_API kiln_storage kiln_plan_storage(const kiln_plan *plan, const char *name);
KILN_API kiln_slot kiln_plan_slot(const kiln_plan *plan, const char *name);
/* Tensors in the order they were made, views included: i from 0; invalid behind the last. Any thread. */
KILN_API kiln_tensor kiln_plan_tensor_at(const kiln_plan *plan, size_t i);
/* What it looks like; info.name lives as long as the plan. KILN_ERROR_ARGUMENT when it is none of the plan's,
 * and *out is as it was. Any thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plan_tensor_get(const kiln_plan *plan, kiln_tensor tensor,
                                                          kiln_tensor_info *out);

/* Storages in order, to list what wants binding (so without the arena's): i from 0; false behind the last,
 * and *out is as it was. Any thread. */
typedef struct kiln_storage_info {
    kiln_storage storage;
    const char *name; /* lives as long as the plan */
    kiln_storage_kind kind;
    int64_t size;   /* bytes */
    uint32_t align; /* bytes: a pointer bound to it must be a multiple of this */
    bool written;   /* some node writes it */
} kiln_storage_info;
KILN_API bool kiln_plan_storage_at(const kiln_plan *plan, size_t i, kiln_storage_info *out);

/* Slots in order: i from 0; false behind the last, and *out is as it was. Any thread. The name lives as long
 * as the plan. */
typedef struct kiln_slot_info {
    kiln_slot slot;
    const char *name;
    bool is_float;
    int64_t min, max; /* integers */
    float preset;     /* floats */
    uint32_t n_terms; /* above 0: computed as the sum of these (kiln_slot_sum), and not to be set */
    kiln_dim terms[KILN_MAX_TERMS];
} kiln_slot_info;
KILN_API bool kiln_plan_slot_at(const kiln_plan *plan, size_t i, kiln_slot_info *out);

/* ---- states: KV caches and the like, the caller's, alive across runs, sessions and plans ------------ */

/* `size` zeroed bytes, or the caller's own memory as it is (which must outlive the buffer, and be aligned as
 * kiln_storage_info.align of what it will be bound to says: 128 always suffices). `allocator` may be NULL
 * (malloc); it must outlive the buffer, wrapped ones included. *out is the caller's, for
 * kiln_state_buffer_destroy; NULL on failure. Errors: KILN_ERROR_ARGUMENT (out is NULL, size < 0, to wrap:
 * data is NULL), KILN_ERROR_MEMORY. Any thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_state_buffer_create(const kiln_allocator *allocator, int64_t size,
                                                              kiln_state_buffer **out, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_state_buffer_wrap(const kiln_allocator *allocator, void *data,
                                                            int64_t size, kiln_state_buffer **out,
                                                            kiln_error *error);
/* Frees the buffer, not memory that it wraps. KILN_ERROR_BUSY, and nothing happens, while a session has it
 * bound, or a plan exists whose graph named it (kiln_storage_state); graphs that name it are not counted.
 * NULL is allowed. One thread, while no other uses it. */
KILN_API kiln_status kiln_state_buffer_destroy(kiln_state_buffer *state, kiln_error *error);

/* Its first byte, and how many it has; good until it is destroyed. Any thread; the bytes are not to be
 * touched while a run uses them. */
KILN_API void *kiln_state_buffer_data(kiln_state_buffer *state);
KILN_API int64_t kiln_state_buffer_size(const kiln_state_buffer *state);

/* True after a run that failed or was cancelled may have left it half written. Submissions on it are refused
 * with KILN_ERROR_DIRTY until `acknowledge`, which says: I restored it, or do not mind. Any thread. */
KILN_API bool kiln_state_buffer_is_dirty(const kiln_state_buffer *state);
KILN_API void kiln_state_buffer_acknowledge(kiln_state_buffer *state);

/* Says in the graph which buffer a state storage lies in: sessions then bind it by themselves. The buffer
 * must outlive the graph, the plans baked from it and those sessions. Its alignment is judged when a session
 * is made. Remembered errors: KILN_ERROR_ARGUMENT (unknown storage, not a state; state is NULL),
 * KILN_ERROR_BINDING (too small). From the graph's thread. */
KILN_API void kiln_storage_state(kiln_graph *graph, kiln_storage storage, kiln_state_buffer *state);

/* ---- sessions --------------------------------------------------------------------------------------- */

/* Prepares a plan for an executor: records, arena, inputs and outputs, kernels for the symbols' maxima.
 * Storages whose data the graph knew are bound. Slots hold their minima (integers) and presets (floats);
 * inputs and outputs of the session's own are zeroed. Everything is allocated here; running allocates
 * nothing. `allocator` may be NULL (malloc) and must outlive the session; memory for runs comes from the
 * executor's. The session holds a reference of the plan; the executor must outlive it. *out is the caller's,
 * for kiln_session_destroy. Errors: KILN_ERROR_ARGUMENT (plan, executor or out is NULL),
 * KILN_ERROR_UNSUPPORTED (no kernel for a node; the text names it), KILN_ERROR_BINDING (data that the graph
 * knew is misaligned), KILN_ERROR_OVERFLOW (memory that does not fit 63 bits; a kernel of a custom op asks
 * for a negative number of tiles or scratch), KILN_ERROR_LIMIT (more than 2³¹ - 1 tiles in a region),
 * KILN_ERROR_SYSTEM (the system refused, or the executor's workers stayed behind at a fork),
 * KILN_ERROR_MEMORY. Any thread, several at once on one plan and executor. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_create(kiln_plan *plan, kiln_executor *executor,
                                                         const kiln_allocator *allocator, kiln_session **out,
                                                         kiln_error *error);

/* Frees the session, with its bindings and its fences, before its executor. KILN_ERROR_BUSY, and nothing
 * happens, while a submission runs (wait for it or cancel it first). NULL is allowed. One thread, while no
 * other is in a call on the session or a fence of it. */
KILN_API kiln_status kiln_session_destroy(kiln_session *session, kiln_error *error);

/* The plan it was made from; not a reference of the caller's. Any thread. */
KILN_API kiln_plan *kiln_session_plan(const kiln_session *session);

/* Sets a slot for the runs that follow, and those that are computed from it; allocates nothing. Whether these
 * lie within their bounds is asked at the next submit. Errors: KILN_ERROR_ARGUMENT (unknown slot, wrong type,
 * a slot that is computed: the text says from what), KILN_ERROR_LIMIT (outside its bounds; the text has name,
 * value and bounds), KILN_ERROR_BUSY (a submission runs). The old value stays on failure. Floats have no
 * bounds; NaN is taken. */
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
 * (size in bytes too small, misaligned; with name, expected, actual), KILN_ERROR_BUSY. A failed call changes
 * nothing. A weight that is unbound (NULL) is an error of the next submit only. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_bind(kiln_session *session, kiln_storage storage,
                                                       void *data, int64_t size, kiln_error *error);
/* The same for bytes that are never written: those of a weight or input storage. An output is
 * KILN_ERROR_ARGUMENT. What kiln_session_data returns for them is not to be written through. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_bind_const(kiln_session *session, kiln_storage storage,
                                                             const void *data, int64_t size,
                                                             kiln_error *error);

/* Binds a state storage; NULL unbinds it. The buffer must outlive the binding. A buffer may be bound to
 * several storages as the plan's overlaps allow (see kiln_session_bind). Errors: KILN_ERROR_ARGUMENT (unknown
 * storage, not a state), KILN_ERROR_BINDING (too small, misaligned), KILN_ERROR_BUSY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_bind_state(kiln_session *session, kiln_storage storage,
                                                             kiln_state_buffer *state, kiln_error *error);

/* The first byte of a tensor of the graph, for inputs to be filled before a run and outputs to be read after
 * it; NULL for intermediates (watch them instead), unbound storages and handles that are not the plan's. Rows
 * lie at the strides of the symbols' maxima, whatever the slots hold (kiln_tensor_get: desc.strides): of f32
 * [2, n], where n is at most 100, row 1 begins 400 bytes after row 0. Good until its storage is bound again
 * or the session goes. Not to be touched while a submission runs. */
KILN_API void *kiln_session_data(kiln_session *session, kiln_tensor tensor);

/* ---- running ---------------------------------------------------------------------------------------- */

/* One submission. A value, not an object; valid until its session goes. A zeroed one is that of no
 * submission. */
typedef struct kiln_fence {
    kiln_session *session;
    uint64_t sequence;
} kiln_fence;

/* Starts a run; *fence is what to wait for, and stays as it was on failure. Everything is checked before anything
 * runs, and nothing is allocated. With an executor of one thread the run makes progress in kiln_wait only.
 * Errors: KILN_ERROR_ARGUMENT (session or fence is NULL), KILN_ERROR_BUSY (this session is running, or
 * another one that uses a state which either of them writes), KILN_ERROR_DIRTY (a state may be half written),
 * KILN_ERROR_BINDING (a storage without bytes; overlaps), KILN_ERROR_LIMIT (what the values of slots show to
 * be impossible, see kiln_op.check and kiln_slot_sum; the text names node, slots and values),
 * KILN_ERROR_LIMIT and KILN_ERROR_OVERFLOW (at the present slot values a region has more than 2³¹ - 1 tiles,
 * or a custom kernel a negative number of them), KILN_ERROR_SYSTEM (after fork, see kiln_executor.h). From
 * the session's thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_submit(kiln_session *session, kiln_fence *fence, kiln_error *error);

/* Waits for a submission, computing meanwhile. timeout_ns < 0: without limit; 0: looks, and where nobody else
 * computes (1 thread, parallel_for) computes a piece. Returns the
 * run's own status: KILN_OK, KILN_ERROR_CANCELLED, KILN_ERROR_INDEX (everything ran; the text names node,
 * row, index), KILN_ERROR_KERNEL (a kernel failed), KILN_ERROR_NUMERIC (an observer stopped it): after all of
 * these but KILN_OK and KILN_ERROR_INDEX the states that the run writes are dirty; or KILN_ERROR_TIMEOUT, and
 * the run goes on; KILN_ERROR_ARGUMENT for a fence that a later submission of the session has replaced;
 * KILN_ERROR_SYSTEM in a child forked during the run, where it never ends. Asked again, it answers the same.
 * Any thread, several at once. */
KILN_API KILN_MUST_CHECK kiln_status kiln_wait(kiln_fence fence, int64_t timeout_ns, kiln_error *error);

/* True when kiln_wait would return at once: the run is over, or the fence is not the last. Any thread. */
KILN_API bool kiln_fence_done(kiln_fence fence);

/* Asks the submission to end early: kiln_wait then returns KILN_ERROR_CANCELLED, unless it was done before.
 * Waits for nothing. Without effect on other submissions. Any thread. */
KILN_API void kiln_cancel(kiln_fence fence);

/* Submit and wait without limit, with less ado: nobody else knows of the run (so it cannot be cancelled), nor is woken
 * for what is over sooner. Errors: those of both, KILN_ERROR_TIMEOUT aside; KILN_ERROR_ARGUMENT when session is NULL. From
 * the session's thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_run(kiln_session *session, kiln_error *error);

/* ---- warming up ------------------------------------------------------------------------------------- */

/* Zeroed fields mean the default. */
typedef struct kiln_warm_options {
    uint32_t runs; /* most of them, the first included; 0: 8 */
    int64_t
        max_ns;    /* no further run is begun when these have passed; 0: a second. There is always a first. */
    bool no_runs;  /* kernels are not called: weights are touched only */
    bool no_touch; /* weights are not touched beyond what the runs read */
} kiln_warm_options;

typedef struct kiln_warm_report {
    uint32_t runs;     /* done; 0 with no_runs, or where nothing says what a node would touch */
    int64_t first_ns;  /* the first of them: what the first call would have taken; 0 without runs */
    int64_t steady_ns; /* median of the last half of them (of 32 at most); 0 for fewer than two */
    int64_t touched;   /* bytes of weights, of whose pages each was read, after the runs */
    int64_t touch_ns;  /* how long that took */
} kiln_warm_report;

/* Pays now for what would make the first run slow, and says how slow: runs the plan a few times at the present slot
 * values (so set them as for a run that is typical), then reads a byte of every page bound as weights that the plan
 * reads. Workers are woken, code, records, arena and scratch are touched, files mapped as weights are read in.
 *
 * Nothing that the caller can see changes. Weights, inputs and states are read as they are bound, and must be good
 * to read, as for a run. Outputs, and states where a node writes them, are replaced by memory of the session's
 * allocator for as long as it lasts; what is read of a state is the bound one's. (That memory is as large as these
 * storages, but of a state's only pages that the runs write are touched, unless a node both reads and writes it: an
 * allocator that hands out untouched pages, as malloc does, has little to give.) Slot values, dirty marks, what taps
 * saw and the last submission's outcome stay; observers are not called. Kernels of custom ops are called, as by a
 * run, with such memory as outputs; with a node in the plan that declares no accesses there are no runs, as nothing
 * says what it would change. Memory bound for outputs and states is not touched for the sake of it: its pages are
 * the caller's.
 *
 * `options` and `report` may be NULL; *report is zeroed on failure. An index out of range is no failure here, as
 * inputs need not hold anything yet. Errors: KILN_ERROR_ARGUMENT (session is NULL, max_ns < 0), KILN_ERROR_KERNEL (a
 * kernel failed), KILN_ERROR_MEMORY, and those of kiln_submit; KILN_ERROR_BUSY also while another session's run writes
 * a state that is bound here. After each the session is as before. Not to be cancelled: a run that has begun is
 * finished. While it lasts, kiln_wait on the session's earlier fence, in another thread, answers
 * KILN_ERROR_ARGUMENT. From the session's thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_session_warm(kiln_session *session,
                                                       const kiln_warm_options *options,
                                                       kiln_warm_report *report, kiln_error *error);

/* ---- observers -------------------------------------------------------------------------------------- */

typedef struct kiln_observation {
    const char *tensor; /* its label; lives as long as the plan */
    const char *op;     /* of the node that made it; the descriptor's */
    const void *data;   /* its bytes; valid during the callback only */
    kiln_dtype dtype;
    uint32_t ndim;
    int64_t dims[KILN_MAX_DIMS];    /* counts of this run, outermost first */
    int64_t strides[KILN_MAX_DIMS]; /* bytes */
    uint64_t hash;                  /* KILN_WATCH_HASH */
    int64_t nonfinite; /* KILN_WATCH_FINITE: row-major index of the first NaN or Inf, -1 when there is none */
    int64_t ns;        /* KILN_WATCH_TIME: kernel time of its node in this run, over all workers */
    bool seen; /* false: the last run did not come to it, or it was not watched; then only `tensor` is set */
} kiln_observation;

/* Switches the plan's observers on for this session: those of kinds `watch` (KILN_WATCH_*) act in the runs
 * that follow; 0 switches them off. `callback` (may be NULL) is called for every tensor tapped for one of
 * these kinds, after the region that makes it, from the thread that finished the region (a worker, or one
 * that waits; one call at a time), and must not call into this session; anything but KILN_OK stops the run
 * with KILN_ERROR_NUMERIC. `context` is handed on; both must stay good until they are replaced or the session
 * goes. Errors: KILN_ERROR_BUSY (a submission runs); KILN_ERROR_ARGUMENT (the plan has no taps, unknown bits
 * in `watch`). From the session's thread. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_session_observe(kiln_session *session, uint32_t watch,
                     kiln_status (*callback)(void *context, const kiln_observation *observation),
                     void *context, kiln_error *error);

/* What the i-th tap saw in the last run (data is NULL; `seen` says whether it saw anything); taps in the
 * order in which their tensors are made. False behind the last, and *out is as it was. From the session's
 * thread, not while a submission runs. */
KILN_API bool kiln_session_observed(const kiln_session *session, size_t i, kiln_observation *out);

#ifdef __cplusplus
}
#endif
#endif
