/* Graphs: storages, tensors, slots and nodes, built by one writer.
 *
 * A graph is a program: its nodes mean "one after the other, in the order they were added". The scheduler may
 * reorder them only where no byte written by one is read or written by another.
 *
 * Builder calls return a handle and remember the first error: after a failure every further call returns the
 * invalid handle at once, so a chain of calls needs one check, `kiln_graph_check`. A call that fails leaves
 * the graph as it was, apart from that error.
 *
 * Threads: one thread at a time per graph. Different graphs are independent.
 */
#ifndef KILN_GRAPH_H
#define KILN_GRAPH_H

#include "kiln_op.h"

#ifdef __cplusplus
#include <initializer_list> /* for KILN_SHAPE */
/* How many arguments, without evaluating them: sizeof of what it is declared to return. */
template <class... T> char (&kiln_shape_count_(T...))[sizeof...(T)];
extern "C" {
#endif

typedef struct kiln_graph kiln_graph;

/* Handles are values; id 0 is invalid. `graph` guards against mixing graphs. */
typedef struct kiln_tensor {
    uint32_t id, graph;
} kiln_tensor;
typedef struct kiln_storage {
    uint32_t id, graph;
} kiln_storage;
typedef struct kiln_slot {
    uint32_t id, graph;
} kiln_slot;

static inline bool kiln_tensor_valid(kiln_tensor t) {
    return t.id != 0;
}

/* What a storage is for. It decides who owns its bytes at run time. */
typedef enum kiln_storage_kind {
    KILN_STORAGE_WEIGHT, /* the caller's, never written, bound before the first run */
    KILN_STORAGE_INPUT,  /* the session's own, or bound by the caller; not written by any node */
    KILN_STORAGE_OUTPUT, /* the session's own, or bound by the caller; written by nodes */
    KILN_STORAGE_STATE,  /* a kiln_state of the caller's, lives across runs and plans */
    KILN_STORAGE_ARENA,  /* intermediate; placed by the memory planner */
    KILN_STORAGE_KIND_COUNT
} kiln_storage_kind;

/* Creates an empty graph. `allocator` may be NULL (malloc); it must outlive the graph.
 * Errors: KILN_ERROR_ARGUMENT (out is NULL), KILN_ERROR_MEMORY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_create(const kiln_allocator *allocator, kiln_graph **out,
                                                       kiln_error *error);

/* Frees the graph. Plans baked from it live on. NULL is allowed. */
KILN_API void kiln_graph_destroy(kiln_graph *graph);

/* Empties the graph, its remembered error included, and keeps its memory for the next build. Old handles are
 * void. */
KILN_API void kiln_graph_reset(kiln_graph *graph);

/* The first error since creation or reset, or KILN_OK. `error` receives its text. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_check(const kiln_graph *graph, kiln_error *error);

/* ---- slots ------------------------------------------------------------------------------------------ */

/* Declares an integer that may change between runs, min ≤ value ≤ max. With min ≥ 0 it may serve as a symbol
 * in shapes (`kiln_sym`). Its value before it is first set is `min`. Errors: KILN_ERROR_ARGUMENT (name NULL,
 * empty or taken, min > max). */
KILN_API kiln_slot kiln_slot_i64(kiln_graph *graph, const char *name, int64_t min, int64_t max);

/* Declares a float that may change between runs; before it is first set it is `preset`. Errors:
 * KILN_ERROR_ARGUMENT (name NULL, empty or taken). */
KILN_API kiln_slot kiln_slot_f32(kiln_graph *graph, const char *name, float preset);

/* What the `slot` field of a dimension or an attribute value is set to: the slot's id with a mark of its graph, so
 * that slots of other graphs, and those that were not found, are refused where they are used. A plain id serves
 * too, unguarded; what Kiln gives back are plain ids. */
static inline uint32_t kiln_slot_ref(kiln_slot slot) {
    return slot.id == 0 ? UINT32_MAX : (slot.graph * UINT32_C(0x9e3779b1) & UINT32_C(0xfff00000)) | slot.id;
}

/* Dimensions: a constant; a symbol; n times a symbol. */
static inline kiln_dim kiln_n(int64_t n) {
    kiln_dim d = {n, 0};
    return d;
}
static inline kiln_dim kiln_sym(kiln_slot slot) {
    kiln_dim d = {1, kiln_slot_ref(slot)};
    return d;
}
static inline kiln_dim kiln_sym_times(kiln_slot slot, int64_t n) {
    kiln_dim d = {n, kiln_slot_ref(slot)};
    return d;
}

/* Attribute values: a constant or a slot. */
static inline kiln_i64_value kiln_i64_const(int64_t value) {
    kiln_i64_value v = {value, 0, 0};
    return v;
}
static inline kiln_i64_value kiln_i64_of(kiln_slot slot) {
    kiln_i64_value v = {0, kiln_slot_ref(slot), 0};
    return v;
}
static inline kiln_f32_value kiln_f32_const(float value) {
    kiln_f32_value v = {value, 0};
    return v;
}
static inline kiln_f32_value kiln_f32_of(kiln_slot slot) {
    kiln_f32_value v = {0.0f, kiln_slot_ref(slot)};
    return v;
}

/* A shape argument: KILN_SHAPE(kiln_sym(n_tokens), kiln_n(64)) stands for `ndim, dims`. */
#ifdef __cplusplus
#define KILN_SHAPE(...)                                                                                      \
    (uint32_t)sizeof(kiln_shape_count_(__VA_ARGS__)), (std::initializer_list<kiln_dim>{__VA_ARGS__}.begin())
#else
#define KILN_SHAPE(...)                                                                                      \
    (uint32_t)(sizeof((kiln_dim[]){__VA_ARGS__}) / sizeof(kiln_dim)), (const kiln_dim[]) {                   \
        __VA_ARGS__                                                                                          \
    }
#endif

/* ---- storages and leaf tensors ---------------------------------------------------------------------- */

/* A dense tensor on a fresh storage of its own. Names are unique among storages; they are how bindings, JSON
 * and messages refer to it. Sizes are those at the symbols' maxima.
 * Errors: KILN_ERROR_ARGUMENT (name NULL, empty or taken; bad slot), KILN_ERROR_SHAPE (ndim not 1…4, a
 * negative dimension, innermost count no multiple of the block), KILN_ERROR_OVERFLOW, KILN_ERROR_DTYPE,
 * KILN_ERROR_MEMORY. */
KILN_API kiln_tensor kiln_input(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t ndim,
                                const kiln_dim *dims);
KILN_API kiln_tensor kiln_weight(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t ndim,
                                 const kiln_dim *dims);
KILN_API kiln_tensor kiln_state(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t ndim,
                                const kiln_dim *dims);

/* The general form: a storage of `size` bytes, then tensors anywhere in it (a mapped model file is one
 * weight storage with a tensor per entry). `strides` in bytes, outermost first, or NULL for dense.
 * Errors as above; also KILN_ERROR_SHAPE when the tensor does not lie within the storage, a stride is
 * negative, or the offset or a stride breaks the dtype's alignment. */
KILN_API kiln_storage kiln_storage_add(kiln_graph *graph, kiln_storage_kind kind, const char *name,
                                       int64_t size);
KILN_API kiln_tensor kiln_tensor_at(kiln_graph *graph, kiln_storage storage, int64_t offset, kiln_dtype dtype,
                                    uint32_t ndim, const kiln_dim *dims, const int64_t *strides);

/* Says where the storage's bytes are, for sessions made from this graph: they bind it by themselves. The
 * memory stays the caller's and must outlive those sessions. `generation` tells contents apart: change it
 * when the bytes behind a weight change, so that nothing derived from the old ones is used.
 * Errors: KILN_ERROR_ARGUMENT (an arena or state storage), KILN_ERROR_BINDING (size below the storage's). */
KILN_API void kiln_storage_data(kiln_graph *graph, kiln_storage storage, void *data, int64_t size,
                                uint64_t generation);

/* The storage a tensor lies in; invalid for an unknown tensor. */
KILN_API kiln_storage kiln_storage_of(const kiln_graph *graph, kiln_tensor tensor);

/* ---- views: other shapes over the same bytes -------------------------------------------------------- */

/* Elements start … start+length-1 of one axis (negative axis counts from the end: -1 is the innermost). With
 * a symbol as `length`, its maximum must fit. On the innermost axis of a block dtype start and length are
 * multiples of the block. Errors: KILN_ERROR_SHAPE. */
KILN_API kiln_tensor kiln_slice(kiln_graph *graph, kiln_tensor tensor, int32_t axis, int64_t start,
                                kiln_dim length);
/* The same elements, in the same order, in another shape. The tensor must be dense enough for that (merged
 * axes contiguous; a symbol may only be the outermost of a merged group, and becomes n × symbol). */
KILN_API kiln_tensor kiln_reshape(kiln_graph *graph, kiln_tensor tensor, uint32_t ndim, const kiln_dim *dims);
/* Axis i of the result is axis perm[i] of the tensor; transpose swaps two axes. All views:
 * KILN_ERROR_ARGUMENT for an unknown tensor, KILN_ERROR_SHAPE for what does not fit, KILN_ERROR_MEMORY. The
 * innermost axis of a block dtype stays where it is. */
KILN_API kiln_tensor kiln_permute(kiln_graph *graph, kiln_tensor tensor, const uint32_t *perm);
KILN_API kiln_tensor kiln_transpose(kiln_graph *graph, kiln_tensor tensor, int32_t axis_a, int32_t axis_b);
/* Axes of count 1 (and missing outer axes) are repeated, with stride 0, up to `dims`. Such a tensor can only
 * be read. */
KILN_API kiln_tensor kiln_broadcast(kiln_graph *graph, kiln_tensor tensor, uint32_t ndim,
                                    const kiln_dim *dims);

/* ---- nodes ------------------------------------------------------------------------------------------ */

/* Adds a node: runs the op's validation and makes its outputs. `inputs` has n_inputs handles; an absent
 * optional operand is a zeroed handle. `attrs` points to the op's attribute struct (copied), NULL for all
 * defaults. Output handles go to `outputs` (at least op->n_out entries; absent ones are zeroed).
 * The builder functions of kiln_ops.h are thin forms of this one.
 * Errors: what the op's infer says; KILN_ERROR_ARGUMENT (operand count, unknown handle, attribute out of its
 * bounds, a slot of the wrong type), KILN_ERROR_MEMORY. All are remembered by the graph too. */
KILN_API kiln_status kiln_node_add(kiln_graph *graph, const kiln_op *op, const kiln_tensor *inputs,
                                   uint32_t n_inputs, const void *attrs, kiln_tensor *outputs);

/* Fills an attribute struct with the op's defaults. */
KILN_API void kiln_op_defaults(const kiln_op *op, void *attrs);

/* Names a tensor, and the node that makes it if it is the node's first output; printf-like, cut at 127 bytes.
 * Names are for people, observers and dumps. Two nodes may not share one. */
KILN_API void kiln_name(kiln_graph *graph, kiln_tensor tensor, const char *format, ...) KILN_PRINTF(3, 4);

/* Marks a tensor as an output of the graph. When its bytes are an arena storage, the whole storage becomes
 * KILN_STORAGE_OUTPUT under that name; a view of an input, weight or state is refused (copy it first).
 * Errors: KILN_ERROR_ARGUMENT. Returns the tensor. */
KILN_API kiln_tensor kiln_output(kiln_graph *graph, kiln_tensor tensor, const char *name);

/* ---- looking ---------------------------------------------------------------------------------------- */

typedef struct kiln_tensor_info {
    const char *name; /* "" when unnamed; valid until the graph changes */
    kiln_desc desc;
    kiln_storage storage;
    kiln_storage_kind kind;
    int64_t offset; /* of its first byte in the storage */
    int64_t bytes;  /* from its first to behind its last byte, at the maxima */
} kiln_tensor_info;

/* Errors: KILN_ERROR_ARGUMENT. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_get(const kiln_graph *graph, kiln_tensor tensor,
                                                     kiln_tensor_info *out);
/* By name: a tensor named by kiln_name, kiln_output or its storage. Invalid handle when there is none. */
KILN_API kiln_tensor kiln_tensor_find(const kiln_graph *graph, const char *name);
/* Slots and storages by name; invalid when there is none. */
KILN_API kiln_slot kiln_slot_find(const kiln_graph *graph, const char *name);
KILN_API kiln_storage kiln_storage_find(const kiln_graph *graph, const char *name);
/* Nodes added so far. */
KILN_API size_t kiln_graph_node_count(const kiln_graph *graph);

#ifdef __cplusplus
}
#endif
#endif
