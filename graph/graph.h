/* The inside of a graph. Internal: graph/, sched/ and capture/ see this, kernels and users do not.
 *
 * Everything is an array index; index 0 of slots, storages and tensors is never used, so that 0 means "none".
 * A baked plan keeps its program (the graph after lowering and fusion) in the same structure.
 */
#ifndef KILN_GRAPH_INTERNAL_H
#define KILN_GRAPH_INTERNAL_H

#include "kiln_graph.h"
#include "checked.h"

enum { KILN_NAME_MAX = 127 };

typedef struct kiln__slot {
    uint32_t name; /* offset in `text` */
    bool is_float;
    int64_t min, max; /* integers */
    float preset;     /* floats */
    /* Above 0: it is computed, as the sum of these, whose slots have smaller ids. */
    uint32_t n_terms;
    kiln_dim terms[KILN_MAX_TERMS];
} kiln__slot;

typedef struct kiln__storage {
    uint32_t name; /* offset in `text`; 0 ("") for storages that ops made */
    kiln_storage_kind kind;
    int64_t size;
    void *data; /* where its bytes are, when the builder said so */
    uint64_t generation;
    void *owner; /* of a state: the kiln_state_buffer that `data` belongs to; the graph does not look at it */
} kiln__storage;

typedef struct kiln__shape {
    kiln_desc desc;
    int64_t bytes; /* from first to behind last byte at the maxima; 0 when empty */
    bool run;      /* at the maxima it covers all of its bytes, in order */
} kiln__shape;

typedef struct kiln__tensor {
    uint32_t shape; /* index in `shapes` */
    uint32_t storage;
    int64_t offset; /* first byte in the storage */
    int64_t bytes;  /* of its shape */
    uint32_t name;  /* offset in `text`, 0 when unnamed */
} kiln__tensor;

enum { KILN__MAX_OUTPUTS = 8 };

typedef struct kiln__node {
    const kiln_op *op;
    uint32_t name;     /* offset in `text`, 0 when unnamed */
    uint32_t operands; /* index in `operands` of the first of n_in + n_out tensor ids (0: absent) */
    uint32_t n_in, n_out;
    uint32_t attrs; /* offset in `attrs` of its attribute struct; meaningless when op->attrs_size is 0 */
    /* 1 + its index in the graph as built (of a fused node: of the last of them); 0 for a node that lowering
     * added. */
    uint32_t origin;
    uint16_t alias[KILN__MAX_OUTPUTS]; /* per output: 1 + the input whose bytes it is; 0: bytes of its own */
} kiln__node;

typedef struct kiln__name_entry {
    uint32_t text; /* offset of the key; 0 for a free place */
    uint32_t kind; /* kiln__name_kind */
    uint32_t id;
} kiln__name_entry;

typedef enum kiln__name_kind { KILN_NAME_SLOT, KILN_NAME_STORAGE, KILN_NAME_TENSOR } kiln__name_kind;

/* What infer said of an op, given these operands and attributes. */
enum { KILN__INFERRED_IN = 8, KILN__INFERRED_ATTRS = 64 };

typedef struct kiln__inferred {
    const kiln_op *op; /* NULL: nothing yet */
    uint32_t tag;      /* of the graph at that time */
    uint32_t n_in, n_out;
    uint32_t in[KILN__INFERRED_IN];  /* shapes of the operands, 0 for those absent */
    uint32_t out[KILN__MAX_OUTPUTS]; /* shapes */
    int32_t alias[KILN__MAX_OUTPUTS];
    unsigned char attrs[KILN__INFERRED_ATTRS];
} kiln__inferred;

enum { KILN__RECENT = 64, KILN__INFERRED = 32 };

struct kiln_graph {
    kiln_allocator allocator;
    kiln_error error; /* the first one; status KILN_OK while there is none */
    uint32_t tag;     /* in every handle; changes at reset */
    const kiln_op
        *checked; /* the descriptor that was last found complete; graphs use the same few over and over */
    kiln__inferred *inferred; /* [KILN__INFERRED], by hash: what was asked last; NULL in copies */
    bool forked; /* all arrays but nodes and producers are its fork's, and begin with what this graph had */
    struct {
        kiln__slot *items;
        size_t count, capacity;
    } slots;
    struct {
        kiln__storage *items;
        size_t count, capacity;
    } storages;
    struct {
        kiln__tensor *items;
        size_t count, capacity;
    } tensors;
    struct {
        kiln__shape *items; /* mostly different ones */
        size_t count, capacity;
    } shapes;
    uint32_t recent[KILN__RECENT]; /* by hash: the shape that was last asked for, 0 for none */
    struct {
        uint32_t *items; /* by tensor id: 1 + index of the node whose output it is; 0 for leaves and views */
        size_t count, capacity;
    } producers;
    struct {
        kiln__node *items;
        size_t count, capacity;
    } nodes;
    struct {
        uint32_t *items;
        size_t count, capacity;
    } operands;
    struct {
        unsigned char *items; /* attribute structs, each at a multiple of 8 */
        size_t count, capacity;
    } attrs;
    struct {
        char *items; /* names, NUL-terminated; offset 0 is "" */
        size_t count, capacity;
    } text;
    struct {
        kiln__name_entry *items; /* open addressing; capacity is a power of two */
        size_t count, capacity;
        uint64_t seed; /* of the hash; nothing but an entry's place depends on it */
    } names;
};

/* ---- reading ---------------------------------------------------------------------------------------- */

static inline const char *kiln__text(const kiln_graph *g, uint32_t offset) {
    return g->text.items + offset;
}
static inline uint32_t *kiln__node_in(const kiln_graph *g, const kiln__node *n) {
    return g->operands.items + n->operands;
}
static inline uint32_t *kiln__node_out(const kiln_graph *g, const kiln__node *n) {
    return g->operands.items + n->operands + n->n_in;
}
static inline void *kiln__node_attrs(const kiln_graph *g, const kiln__node *n) {
    return n->op->attrs_size ? g->attrs.items + n->attrs : NULL;
}
/* Good until the next tensor is made. */
static inline const kiln_desc *kiln__desc_of(const kiln_graph *g, const kiln__tensor *t) {
    return &g->shapes.items[t->shape].desc;
}
/* Count of a dimension at its maximum. */
static inline int64_t kiln__dim_max(const kiln_graph *g, kiln_dim d) {
    return d.slot ? d.n * g->slots.items[d.slot].max : d.n;
}
/* "name" or, for an unnamed node, "op.index"; written to buffer, which is returned. */
enum { KILN__LABEL_SIZE = KILN_NAME_MAX + 33 };
const char *kiln__node_label(const kiln_graph *g, size_t node, char buffer[KILN__LABEL_SIZE]);
/* The same for a node that is about to be added; `name` may be NULL or empty. May return `name`. */
const char *kiln__new_node_label(const kiln_graph *g, const kiln_op *op, const char *name,
                                 char buffer[KILN__LABEL_SIZE]);
/* "name", or "op.index:out" of its producer, or "tensor.id". */
const char *kiln__tensor_label(const kiln_graph *g, uint32_t tensor, char buffer[KILN__LABEL_SIZE]);
/* "[n_tokens, 8]" */
enum { KILN__SHAPE_SIZE = KILN_SHAPE_TEXT_SIZE };
const char *kiln__dim_text(const kiln_graph *g, kiln_dim dim, char buffer[KILN__SHAPE_SIZE]);
const char *kiln__shape_text(const kiln_graph *g, const kiln_desc *desc, char buffer[KILN__SHAPE_SIZE]);
/* The name of a storage, or "storage.ID" (in the buffer) when it has none. */
const char *kiln__storage_label(const kiln_graph *g, uint32_t storage, char buffer[KILN__LABEL_SIZE]);
#define KILN__STORAGE_LABEL(g, storage) kiln__storage_label((g), (storage), (char[KILN__LABEL_SIZE]){0})
/* "n_past + 2*n_tokens + 1", of a slot that is computed. */
const char *kiln__sum_text(const kiln_graph *g, uint32_t slot, char buffer[KILN__SHAPE_SIZE]);
/* Turns a reference to a slot (kiln_slot_ref, or a plain id; 0 stays) into its id. False: of another graph, or unknown. */
bool kiln__slot_resolve(const kiln_graph *g, uint32_t *slot);
enum { KILN__SLOTS_MAX = (1 << 20) - 1 };
/* Id of a name, 0 when there is none. */
uint32_t kiln__name_find(const kiln_graph *g, kiln__name_kind kind, const char *name);
extern const char *const kiln__storage_kind_names[KILN_STORAGE_KIND_COUNT];

/* ---- descriptions ----------------------------------------------------------------------------------- */

/* Dense strides at the maxima, and the bytes from first to behind last. */
kiln_status kiln__desc_dense(const kiln_graph *g, kiln_desc *desc, int64_t *bytes, kiln_error *error);
/* Puts dimensions as a caller gave them into a description, slots as plain ids. False after remembering an error that begins
 * with `what`. */
bool kiln__dims_copy(kiln_graph *g, kiln_desc *desc, uint32_t ndim, const kiln_dim *dims, const char *what);
/* The bytes of a description that kiln__desc_dense has made. */
int64_t kiln__dense_bytes(const kiln_graph *g, const kiln_desc *desc);
/* Checks dtype, ndim, dims, slots, strides and alignment; gives the bytes spanned at the maxima. */
kiln_status kiln__desc_check(const kiln_graph *g, const kiln_desc *desc, int64_t *bytes, kiln_error *error);
bool kiln__desc_equal(const kiln_desc *a, const kiln_desc *b);
/* The same elements in the same bytes: shape, strides and sizes are equal, dtypes may differ (i32 on f32). */
bool kiln__desc_same_layout(const kiln_desc *a, const kiln_desc *b);
bool kiln__desc_is_dense(const kiln_graph *g, const kiln_desc *desc);
/* Could two elements lie on the same bytes? Surely not when strides nest: each at least the span of what lies
 * within it. Everything else counts as yes. */
bool kiln__desc_shares_bytes(const kiln_graph *g, const kiln_desc *desc);
/* The bytes a tensor covers in its storage, as one box (a superset where four levels would be needed; then
 * *exact is false; exact may be NULL). An empty tensor gives length 0. */
kiln_box kiln__tensor_box(const kiln_graph *g, const kiln__tensor *tensor, bool *exact);

/* ---- building, with tensor ids ---------------------------------------------------------------------- */

/* Remembers the first error of the graph; returns `status`. */
kiln_status kiln__graph_fail(kiln_graph *g, kiln_status status, const char *format, ...) KILN_PRINTF(3, 4);

/* The raw forms used by rewriting and by the JSON loader. They return an id, or 0 after remembering an error.
 * `name` may be NULL or "". */
uint32_t kiln__slot_new(kiln_graph *g, const char *name, bool is_float, int64_t min, int64_t max,
                        float preset);
/* One that is computed; `terms` have slots as kiln_sym sets them, or plain ids. */
uint32_t kiln__slot_sum_new(kiln_graph *g, const char *name, int64_t min, int64_t max, uint32_t n_terms,
                            const kiln_dim *terms);
uint32_t kiln__storage_new(kiln_graph *g, kiln_storage_kind kind, const char *name, int64_t size);
kiln_status kiln__storage_set_name(kiln_graph *g, uint32_t storage, const char *name);
uint32_t kiln__tensor_new(kiln_graph *g, uint32_t storage, int64_t offset, const kiln_desc *desc);
/* The same for what is known to be right. */
uint32_t kiln__tensor_push(kiln_graph *g, uint32_t storage, int64_t offset, uint32_t shape);
/* The index of a description in `shapes`; `bytes` as kiln__desc_check gives them. 0 when memory is out (remembered). */
uint32_t kiln__shape_of(kiln_graph *g, const kiln_desc *desc, int64_t bytes);
kiln_status kiln__tensor_set_name(kiln_graph *g, uint32_t tensor, const char *name);

/* Runs the op's checks and infer on operands; descs of outputs to out[op->n_out], aliases to alias[]. */
kiln_status kiln__node_infer(kiln_graph *g, const kiln_op *op, const char *label, const uint32_t *in,
                             uint32_t n_in, const void *attrs, kiln_desc *out, int32_t *alias,
                             uint32_t *n_out);

/* Appends a node with given input and output tensors: infer's answer must equal what the output tensors are
 * (dtype, dims, dense or aliased as it says), and an output that is not aliased must lie apart from the other
 * operands, or exactly on an input as an in-place pair of the op allows.
 * For the JSON loader and for rewriting. */
kiln_status kiln__node_emit(kiln_graph *g, const kiln_op *op, const char *name, const uint32_t *in,
                            uint32_t n_in, const uint32_t *out, uint32_t n_out, const void *attrs);

/* Does the op declare that output `out` may be made in the place of input `in`? */
bool kiln__op_has_inplace(const kiln_op *op, uint32_t out, uint32_t in);

/* A deep copy with the same ids, in its own allocations.
 * Attribute storage, names and data pointers included. */
kiln_status kiln__graph_clone(const kiln_graph *g, const kiln_allocator *allocator, kiln_graph **out,
                              kiln_error *error);

/* Makes a program without nodes that starts from the tensors of `g`: it owns the arrays of `g` from now on, all but nodes
 * and producers (of which it gets a copy), and may add to them. `g` is not to be read until one of these is called. */
kiln_status kiln__graph_fork(kiln_graph *g, kiln_graph **program, kiln_error *error);
/* The program is complete. `g` reads what it had where the program has it, and must not outlive it but to be destroyed;
 * nothing may be added to either. */
void kiln__graph_settle(kiln_graph *g, const kiln_graph *program);
/* The program came to nothing: `g` owns its arrays again, and the program is destroyed. */
void kiln__graph_unfork(kiln_graph *g, kiln_graph *program);

/* ---- accesses --------------------------------------------------------------------------------------- */

/* Most accesses are one run of bytes: what a box has beyond that is kept apart. */
typedef struct kiln__access {
    uint32_t node;
    uint32_t storage; /* 0 for "all memory" */
    uint16_t operand; /* input i: i; output j: n_in + j; KILN__OPERAND_ANY for "all memory" */
    uint16_t mode;    /* kiln_access_mode */
    uint32_t levels;  /* 1 + index of its box's levels in the list; 0: one run */
    int64_t offset;   /* of its box, from the storage's first byte */
    int64_t length;
} kiln__access;

#define KILN__OPERAND_ANY UINT16_MAX

typedef struct kiln__box_levels {
    int64_t count[KILN_BOX_LEVELS], stride[KILN_BOX_LEVELS];
} kiln__box_levels;

struct kiln_access_list {
    const kiln_graph *graph;
    kiln_allocator allocator;
    uint32_t node;
    kiln__access *items;
    size_t count, capacity;
    struct {
        kiln__box_levels *items;
        size_t count, capacity;
    } levels;
    struct {
        uint8_t *items; /* by operand of the node at hand: KILN__NAMED, and how it is accessed */
        size_t count, capacity;
    } named;
    char why[160]; /* of the last access that was refused */
};

/* Bit of `named`, beside those of kiln_access_mode: an access names the operand, be its box empty. */
enum { KILN__NAMED = 4 };

static inline kiln_box kiln__access_box(const kiln_access_list *list, const kiln__access *access) {
    kiln_box box = {access->offset, access->length, {1, 1, 1}, {0, 0, 0}};
    if (access->levels != 0) {
        memcpy(box.count, list->levels.items[access->levels - 1].count, sizeof box.count);
        memcpy(box.stride, list->levels.items[access->levels - 1].stride, sizeof box.stride);
    }
    return box;
}

/* Appends the accesses of one node to `list` (set graph and allocator first; zero the rest). A node whose op
 * declares none gets one entry: KILN__OPERAND_ANY, read and write. Empty boxes are left out.
 * Errors: what the op's `accesses` returns; KILN_ERROR_ARGUMENT for a declaration that does not fit the op
 * (see kiln_op.accesses); KILN_ERROR_MEMORY. */
kiln_status kiln__access_collect(kiln_access_list *list, size_t node, kiln_error *error);
/* Appends one access of `operand` in the storage of its tensor. False: memory is out. */
bool kiln__access_push(kiln_access_list *list, uint32_t node, uint32_t operand, uint32_t storage,
                       kiln_access_mode mode, const kiln_box *box);
static inline void kiln__access_clear(kiln_access_list *list) {
    list->count = list->levels.count = 0;
}
void kiln__access_free(kiln_access_list *list);

#endif
