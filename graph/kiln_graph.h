/* Graphs: storages, tensors, slots and nodes, built by one writer.
 *
 * A graph is a program: its nodes mean "one after the other, in the order they were added". The scheduler may
 * reorder them only where no byte written by one is read or written by another.
 *
 * Builder calls return a handle and remember the first error: after a failure every further call returns the
 * invalid handle at once, so a chain of calls needs one check, `kiln_graph_check`. A call that fails leaves
 * the graph as it was, apart from that error.
 *
 * Names of slots, of storages and of tensors: 1 to 127 bytes of valid UTF-8, any characters, copied; unique
 * among the names of their kind. A bad or taken name is KILN_ERROR_ARGUMENT, and the text says which.
 *
 * Threads: one thread at a time per graph. Different graphs are independent. What only reads a graph (const)
 * may be called from several threads at once while nobody changes it.
 *
 * Remembered by every call that builds, apart from what its comment says: KILN_ERROR_MEMORY.
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
    KILN_STORAGE_STATE,  /* a kiln_state_buffer of the caller's, lives across runs and plans */
    KILN_STORAGE_ARENA,  /* intermediate; placed by the memory planner */
    KILN_STORAGE_KIND_COUNT
} kiln_storage_kind;

/* Creates an empty graph. `allocator` may be NULL (malloc); the graph and the plans baked from it take all
 * their memory from it, so it must outlive the graph and those plans (see kiln_allocator). *out is the
 * caller's, for kiln_graph_destroy. Errors: KILN_ERROR_ARGUMENT (out is NULL), KILN_ERROR_MEMORY. Any
 * thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_create(const kiln_allocator *allocator, kiln_graph **out,
                                                       kiln_error *error);

/* Frees the graph; its handles and the names it gave out are void. Plans baked from it live on, and with them
 * the need for its allocator. NULL is allowed. */
KILN_API void kiln_graph_destroy(kiln_graph *graph);

/* Empties the graph, its remembered error included, and keeps its memory for the next build. Old handles are
 * void. */
KILN_API void kiln_graph_reset(kiln_graph *graph);

/* The first error since creation or reset, or KILN_OK. `error` receives its text. KILN_ERROR_ARGUMENT for
 * NULL. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_check(const kiln_graph *graph, kiln_error *error);

/* ---- slots ------------------------------------------------------------------------------------------ */

/* Declares an integer that may change between runs, min ≤ value ≤ max. With min ≥ 0 it may serve as a symbol
 * in shapes (`kiln_sym`). Its value before it is first set is `min`. What it sizes
 * costs memory for `max`. Errors: KILN_ERROR_ARGUMENT (bad name, min > max), KILN_ERROR_MEMORY. */
KILN_API kiln_slot kiln_slot_i64(kiln_graph *graph, const char *name, int64_t min, int64_t max);

enum { KILN_MAX_TERMS = 4 };

/* Declares an integer that is computed from others, so that it cannot be forgotten: the sum of 1 to
 * KILN_MAX_TERMS terms, each a constant, a slot or a multiple of one, with factors of any sign:
 *
 *     kiln_slot_sum(g, "n_kv", 0, CONTEXT, KILN_SHAPE(kiln_sym(n_past), kiln_sym(n_tokens)));
 *
 * At least one term is a slot, an integer that was declared before. The sum follows whenever one of them is
 * set, in any order, and cannot be set itself. It is used as any slot: in shapes, where its bounds count like
 * those of kiln_slot_i64, and for attributes. A run for which it lies outside of its bounds is refused when
 * it is submitted (KILN_ERROR_LIMIT). Errors: KILN_ERROR_ARGUMENT (bad name, min > max, no terms or too many,
 * terms is NULL, a term's slot is of another graph, was not found or is a float, no term is a slot),
 * KILN_ERROR_OVERFLOW (some values of the slots make a sum beyond 63 bits), KILN_ERROR_MEMORY. */
KILN_API kiln_slot kiln_slot_sum(kiln_graph *graph, const char *name, int64_t min, int64_t max,
                                 uint32_t n_terms, const kiln_dim *terms);

/* Declares a float that may change between runs; before it is first set it is `preset`. It may stand for
 * attributes (`kiln_f32_of`), not in shapes. Errors: KILN_ERROR_ARGUMENT (bad name), KILN_ERROR_MEMORY. */
KILN_API kiln_slot kiln_slot_f32(kiln_graph *graph, const char *name, float preset);

/* What the `slot` field of a dimension or an attribute value is set to: the slot's id with a mark of its graph, so
 * that slots of other graphs, and those that were not found, are refused where they are used. A plain id serves
 * too, unguarded; what Kiln gives back are plain ids. Any thread. */
static inline uint32_t kiln_slot_ref(kiln_slot slot) {
    return slot.id == 0 ? UINT32_MAX : (slot.graph * UINT32_C(0x9e3779b1) & UINT32_C(0xfff00000)) | slot.id;
}

/* Dimensions: a constant; a symbol; n times a symbol. The call that takes the dimension sees what is wrong with it:
 * KILN_ERROR_ARGUMENT for a slot of another graph or one that was not found, a float slot or one with min < 0;
 * n < 0 is KILN_ERROR_SHAPE. Any thread. */
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

/* Attribute values: a constant (0 means 0, not the default) or a slot, which may be any of the graph's
 * with that type. kiln_node_add answers KILN_ERROR_ARGUMENT for a slot of another graph, one that was not
 * found, or one of the wrong type. Any thread. */
static inline kiln_i64_value kiln_i64_const(int64_t value) {
    kiln_i64_value v = {value, 0, 1};
    return v;
}
static inline kiln_i64_value kiln_i64_of(kiln_slot slot) {
    kiln_i64_value v = {0, kiln_slot_ref(slot), 0};
    return v;
}
static inline kiln_f32_value kiln_f32_const(float value) {
    kiln_f32_value v = {kiln_f32_given(value), 0};
    return v;
}
static inline kiln_f32_value kiln_f32_of(kiln_slot slot) {
    kiln_f32_value v = {0.0f, kiln_slot_ref(slot)};
    return v;
}

/* A shape argument: KILN_SHAPE(kiln_sym(n_tokens), kiln_n(64)) stands for `ndim, dims`. */
#ifdef __cplusplus
#define KILN_SHAPE(...)                                                                                      \
    static_cast<uint32_t>(sizeof(kiln_shape_count_(__VA_ARGS__))),                                           \
        (std::initializer_list<kiln_dim>{__VA_ARGS__}.begin())
#else
#define KILN_SHAPE(...)                                                                                      \
    (uint32_t)(sizeof((kiln_dim[]){__VA_ARGS__}) / sizeof(kiln_dim)), (const kiln_dim[]) {                   \
        __VA_ARGS__                                                                                          \
    }
#endif

/* ---- storages and leaf tensors ---------------------------------------------------------------------- */

/* A dense tensor on a fresh storage of its own; `dims` are outermost first, of any dtype. The name is given
 * to both: it must be free among storages and among tensors. It is how bindings, JSON and messages refer to
 * it. Sizes are those at the symbols' maxima; a dimension may be 0. Errors: KILN_ERROR_ARGUMENT (bad name,
 * dims NULL, a bad slot), KILN_ERROR_SHAPE (ndim not 1…4, a negative dimension, innermost count no multiple
 * of the block), KILN_ERROR_OVERFLOW (the bytes do not fit 63 bits), KILN_ERROR_DTYPE (unknown),
 * KILN_ERROR_MEMORY. */
KILN_API kiln_tensor kiln_input(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t ndim,
                                const kiln_dim *dims);
KILN_API kiln_tensor kiln_weight(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t ndim,
                                 const kiln_dim *dims);
KILN_API kiln_tensor kiln_state(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t ndim,
                                const kiln_dim *dims);

/* The general form: a storage of `size` bytes (≥ 0), then tensors anywhere in it, which may share bytes (a
 * mapped model file is one weight storage with a tensor per entry). A storage of any kind needs a name, but
 * for KILN_STORAGE_ARENA, where it may be NULL or "". What lies in an arena or output storage holds nothing
 * before a node writes it: baking refuses to read it earlier.
 * Errors of kiln_storage_add: KILN_ERROR_ARGUMENT (bad name, unknown kind, negative size), KILN_ERROR_MEMORY.
 *
 * A tensor without a name (see kiln_name), `offset` bytes from the start of the storage; `strides` in bytes,
 * outermost first, or NULL for dense. Errors of kiln_tensor_at: those of kiln_input but for names;
 * KILN_ERROR_ARGUMENT also for an unknown storage; KILN_ERROR_SHAPE also when the tensor does not lie within
 * the storage, a stride is negative, the offset or a stride breaks the dtype's alignment, or the blocks of a
 * row are not adjacent. */
KILN_API kiln_storage kiln_storage_add(kiln_graph *graph, kiln_storage_kind kind, const char *name,
                                       int64_t size);
KILN_API kiln_tensor kiln_tensor_at(kiln_graph *graph, kiln_storage storage, int64_t offset, kiln_dtype dtype,
                                    uint32_t ndim, const kiln_dim *dims, const int64_t *strides);

/* Says where the bytes of a weight, input or output storage are, for sessions made from this graph: they bind
 * it by themselves. The memory stays the caller's and must outlive those sessions. Baking does not look into
 * it, but takes its address into account: storages that overlap here may overlap when they run. `size` is in
 * bytes and may be more than the storage's. `data` may be NULL only for a storage of 0 bytes. Its alignment
 * is judged when a session is made (KILN_ERROR_BINDING there): only then it is known which dtypes lie in it.
 * `generation` tells contents apart, for executors that keep something derived from weights (the CPU executor
 * keeps nothing): change it when the bytes behind a weight change.
 * Errors: KILN_ERROR_ARGUMENT (an unknown, arena or state storage; data is NULL), KILN_ERROR_BINDING (size
 * below the storage's). */
KILN_API void kiln_storage_data(kiln_graph *graph, kiln_storage storage, void *data, int64_t size,
                                uint64_t generation);
/* The same for bytes that are never written: those of a weight or input storage. An output is
 * KILN_ERROR_ARGUMENT. */
KILN_API void kiln_storage_data_const(kiln_graph *graph, kiln_storage storage, const void *data, int64_t size,
                                      uint64_t generation);

/* The storage a tensor lies in; invalid for an unknown tensor. */
KILN_API kiln_storage kiln_storage_of(const kiln_graph *graph, kiln_tensor tensor);

/* ---- views: other shapes over the same bytes -------------------------------------------------------- */

/* A view is a tensor like any other, of the same storage and dtype, without a name; no node makes it, nothing
 * is copied. Errors of all: KILN_ERROR_ARGUMENT (an unknown tensor; dims or perm is NULL; a dimension's slot
 * is unknown, a float, or has min < 0), KILN_ERROR_SHAPE (what does not fit), KILN_ERROR_OVERFLOW (dims that
 * do not fit 63 bits), KILN_ERROR_MEMORY. The innermost axis of a block dtype stays where it is. */

/* Elements start … start+length-1 of one axis (negative axis counts from the end: -1 is the innermost). They
 * must be there in every run: of an axis that is a symbol, up to its minimum, or up to the same symbol from 0
 * on. With a symbol as `length`, its maximum must fit. On the innermost axis of a block dtype start and
 * length are multiples of the block. */
KILN_API kiln_tensor kiln_slice(kiln_graph *graph, kiln_tensor tensor, int32_t axis, int64_t start,
                                kiln_dim length);
/* The same elements, in the same order, in another shape. The tensor must be dense enough for that (merged
 * axes contiguous; a symbol may only be the outermost of a merged group, and becomes n × symbol). */
KILN_API kiln_tensor kiln_reshape(kiln_graph *graph, kiln_tensor tensor, uint32_t ndim, const kiln_dim *dims);
/* Axis i of the result is axis perm[i] of the tensor (as many entries as it has axes); transpose swaps two
 * axes, negative ones counted from the end. */
KILN_API kiln_tensor kiln_permute(kiln_graph *graph, kiln_tensor tensor, const uint32_t *perm);
KILN_API kiln_tensor kiln_transpose(kiln_graph *graph, kiln_tensor tensor, int32_t axis_a, int32_t axis_b);
/* Axes of count 1 (and missing outer axes) are repeated, with stride 0, up to `dims`. Such a tensor can only
 * be read. */
KILN_API kiln_tensor kiln_broadcast(kiln_graph *graph, kiln_tensor tensor, uint32_t ndim,
                                    const kiln_dim *dims);

/* ---- nodes ------------------------------------------------------------------------------------------ */

/* Adds a node: runs the op's validation and makes its outputs. `inputs` has n_inputs handles; an absent
 * optional operand is a zeroed handle. `attrs` points to the op's attribute struct (copied), whose fields of
 * 0 mean the default (kiln_op.h, "How zero is read"); NULL for all defaults. Output handles go to `outputs`
 * (at least op->n_out entries; absent ones are zeroed).
 * The builder functions of kiln_ops.h are thin forms of this one.
 * `op` is kept: it must outlive the graph and its plans. `outputs` may be the array that the inputs came in.
 * Errors: what the op's infer says; KILN_ERROR_ARGUMENT (op, outputs or inputs is NULL; operand count,
 * unknown handle, a required operand absent, attribute out of its bounds, or 0 although it has no default, a
 * slot of the wrong type; a descriptor in which a part is missing, or whose defaults zero cannot mean; an op
 * in place on bytes that may not be written: those of a weight or input, or a view whose elements share
 * bytes), KILN_ERROR_LIMIT (more than 1024 operands, 8 outputs or 256 bytes of attributes), KILN_ERROR_SHAPE,
 * KILN_ERROR_DTYPE, KILN_ERROR_OVERFLOW (an output that infer described cannot be), KILN_ERROR_MEMORY. All
 * are remembered by the graph too, and a graph that remembers an error returns it at once. */
KILN_API kiln_status kiln_node_add(kiln_graph *graph, const kiln_op *op, const kiln_tensor *inputs,
                                   uint32_t n_inputs, const void *attrs, kiln_tensor *outputs);

/* Fills an attribute struct, op->attrs_size bytes, with the op's defaults in numbers: those that JSON uses
 * for keys that are absent, also for attributes that are `required` in C. Any thread. */
KILN_API void kiln_op_defaults(const kiln_op *op, void *attrs);

/* Names a tensor, and the node that makes it if it is the node's first output; printf-like, cut at 127 bytes,
 * not within a character. Names are for people, observers and dumps. Two tensors may not share one. A tensor
 * named again shows the new name; the old one stays taken and still finds it. Errors: KILN_ERROR_ARGUMENT
 * (unknown tensor; name empty, not UTF-8 or taken), KILN_ERROR_MEMORY. */
KILN_API void kiln_name(kiln_graph *graph, kiln_tensor tensor, const char *format, ...) KILN_PRINTF(3, 4);

/* Marks a tensor as an output of the graph: the whole arena storage that it lies in becomes
 * KILN_STORAGE_OUTPUT under that name, so there is one output per storage, and other tensors in it are read
 * with it. The tensor gets the name too unless it has one. A tensor (or view) on the bytes of an input,
 * weight, state or another output is refused (copy it first). Returns the tensor. Errors: KILN_ERROR_ARGUMENT
 * (unknown tensor; such bytes; bad name, or taken by a storage or, for a tensor without a name, by a tensor),
 * KILN_ERROR_MEMORY. */
KILN_API kiln_tensor kiln_output(kiln_graph *graph, kiln_tensor tensor, const char *name);

/* ---- looking ---------------------------------------------------------------------------------------- */

typedef struct kiln_tensor_info {
    const char *name; /* UTF-8, "" when unnamed; the graph's, valid until it changes */
    kiln_desc desc;
    kiln_storage storage;
    kiln_storage_kind kind;
    int64_t offset; /* of its first byte in the storage */
    int64_t bytes;  /* from its first to behind its last byte, at the maxima */
} kiln_tensor_info;

/* What a tensor looks like, into *out. KILN_ERROR_ARGUMENT for a handle that is not this graph's, and then
 * *out is as it was. Is not remembered. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_get(const kiln_graph *graph, kiln_tensor tensor,
                                                     kiln_tensor_info *out);
/* By name: a tensor named by kiln_name, kiln_output or its storage. Invalid handle when there is none, also
 * for NULL. */
KILN_API kiln_tensor kiln_tensor_find(const kiln_graph *graph, const char *name);
/* Slots and storages by name; invalid (id 0) when there is none. */
KILN_API kiln_slot kiln_slot_find(const kiln_graph *graph, const char *name);
KILN_API kiln_storage kiln_storage_find(const kiln_graph *graph, const char *name);
/* Nodes added so far. */
KILN_API size_t kiln_graph_node_count(const kiln_graph *graph);

#ifdef __cplusplus
}
#endif
#endif
