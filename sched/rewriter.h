/* The program while it is being rewritten: its nodes, who touches which bytes, and the two safe ways to
 * change it (add a node at the end while lowering; put one node in the place of two while fusing). Internal.
 *
 * Lowering builds the node list anew, from the first to the last; fusion then only replaces nodes of that
 * list, so the index of a node is its place in program order from the moment it is pushed. A node that was
 * replaced is dead (op NULL) until kiln__rewriter_finish closes the gaps. Every operand of every live node is
 * a *touch*, in a list per space of bytes in program order: that is how readers are found, and what may lie
 * between two nodes. What exactly a node reads and writes is asked only then, from its op, and compared as
 * boxes.
 */
#ifndef KILN_REWRITER_H
#define KILN_REWRITER_H

#include "rewrite.h"

/* An operand of a node, in the list of its space. Those of a node lie together, operand i behind `touch`. */
typedef struct kiln__touch {
    uint32_t node;
    uint32_t prev, next; /* in the same space, by node index; 0: none */
    bool reads;          /* surely does no more than read */
} kiln__touch;

typedef struct kiln__work {
    uint32_t touch;  /* index of the touch of its first operand */
    uint32_t item;   /* 1 + the last rule that made this node; 0: none did */
    uint32_t moved;  /* of a dead node: the node that does its work now */
    uint32_t opaque; /* nodes up to and with this one that declare no accesses */
} kiln__work;

/* A copy of a tensor that lowering made (its quantised form, the map of its ids), for the next node that
 * wants the same. */
typedef struct kiln__copy {
    uint32_t of;   /* the tensor */
    uint32_t next; /* copies of tensors in the same storage, newest first; 0: none */
    const kiln_op *op;
    int64_t key;      /* the quant, or the number of experts */
    uint32_t out[2];  /* tensors that hold it */
    uint32_t checked; /* nodes below this index are known not to write what it was made from */
} kiln__copy;

typedef struct kiln__home {
    uint32_t space;       /* the storage that stands for its space */
    int64_t base;         /* offset of its first byte there */
    uint32_t first, last; /* touches; of the space */
    uint32_t copies;      /* index of the newest kiln__copy */
    bool kept;            /* a tensor in it must be made as such */
} kiln__home;

typedef struct kiln__rewriter {
    kiln_graph *g;
    kiln_allocator allocator;
    kiln__rewrites *out;
    const char *rule; /* being applied, for the log */
    kiln_error error; /* of kiln__access_collect */
    struct {
        kiln__work *items; /* as g->nodes */
        size_t count, capacity;
    } work;
    struct {
        kiln__touch *items; /* from 1 */
        size_t count, capacity;
    } touches;
    struct {
        kiln__home *items; /* as g->storages */
        size_t count, capacity;
    } homes;
    struct {
        kiln__copy *items; /* from 1 */
        size_t count, capacity;
    } copies;
    kiln_access_list mine, theirs;
} kiln__rewriter;

/* For a program whose `n_nodes` nodes the caller has taken out: they come back through kiln__rewriter_push.
 * `out` has its allocator. kiln__rewriter_deinit is due in any case. */
kiln_status kiln__rewriter_init(kiln__rewriter *rw, kiln_graph *program, size_t n_nodes,
                                const kiln__rewrite_options *options, kiln__rewrites *out);
void kiln__rewriter_deinit(kiln__rewriter *rw);

/* ---- lowering: at the end of the list --------------------------------------------------------------- */

/* A node as it was. */
kiln_status kiln__rewriter_push(kiln__rewriter *rw, const kiln__node *node);

/* The node with operands `in` instead of its own. */
kiln_status kiln__rewriter_push_with(kiln__rewriter *rw, const kiln__node *node, const uint32_t *in,
                                     uint32_t n_in);

/* The result of `op` on tensor `of`, as two (or one) fresh tensors in out[]: a node that an earlier call
 * added when nothing wrote the bytes of `of` since, else a new one. `key` tells attributes apart. */
kiln_status kiln__rewriter_derive(kiln__rewriter *rw, const kiln_op *op, uint32_t of, const void *attrs,
                                  int64_t key, uint32_t out[2]);

/* ---- fusion: two nodes become one ------------------------------------------------------------------- */

/* Node `to` reads as operand `in` what node `from` makes as output `out`. */
typedef struct kiln__link {
    uint32_t from, out;
    uint32_t to, in;
} kiln__link;

/* What takes their place: operands and outputs on the same storages as theirs. */
typedef struct kiln__fused {
    const kiln_op *op;
    uint32_t in[8], n_in; /* absent ones at the end are left off */
    uint32_t out[4], n_out;
    const void *attrs;
} kiln__fused;

static inline const kiln__node *kiln__rewriter_node(const kiln__rewriter *rw, uint32_t node) {
    return &rw->g->nodes.items[node];
}
/* Operand i, 0 when absent. */
static inline uint32_t kiln__rewriter_in(const kiln__rewriter *rw, uint32_t node, uint32_t i) {
    const kiln__node *n = &rw->g->nodes.items[node];
    return i < n->n_in ? kiln__node_in(rw->g, n)[i] : 0;
}
static inline uint32_t kiln__rewriter_out(const kiln__rewriter *rw, uint32_t node, uint32_t j) {
    const kiln__node *n = &rw->g->nodes.items[node];
    return j < n->n_out ? kiln__node_out(rw->g, n)[j] : 0;
}
static inline const kiln_desc *kiln__rewriter_desc(const kiln__rewriter *rw, uint32_t id) {
    return kiln__desc_of(rw->g, &rw->g->tensors.items[id]);
}
static inline const void *kiln__rewriter_attrs(const kiln__rewriter *rw, uint32_t node) {
    return kiln__node_attrs(rw->g, &rw->g->nodes.items[node]);
}

/* A candidate: operand `in` of node `to` is an output of an `op` node, or a dense view of all bytes of one
 * that is dense. Whether those bytes still hold that output is for kiln__rewriter_meet to say. */
bool kiln__rewriter_link(const kiln__rewriter *rw, uint32_t to, uint32_t in, const kiln_op *op,
                         kiln__link *link);

/* May nobody but `link->to` see what `link->from` makes? Its storage is an intermediate that is not kept, and
 * of all nodes only these two touch it, through these two operands; no later node has undeclared accesses. */
bool kiln__rewriter_is_private(const kiln__rewriter *rw, const kiln__link *link);

/* May one node do the work of both? *ok says so and *at where: in the place of the second (then nothing
 * between them conflicts with the first), or of the first (nothing between conflicts with the second). In
 * either case the two themselves conflict through the link only, so the operand holds what `from` made, and
 * no byte that one reads or writes is written by the other. Gives up (no) when too much lies between. */
kiln_status kiln__rewriter_meet(kiln__rewriter *rw, const kiln__link *link, bool *ok, uint32_t *at);

/* Replaces both by `fused` at `at`. */
kiln_status kiln__rewriter_fuse(kiln__rewriter *rw, const kiln__link *link, uint32_t at,
                                const kiln__fused *fused);

/* Tensor `id` with other dimensions and strides, over the same bytes.
 * 0 on failure (remembered by the graph). */
uint32_t kiln__rewriter_view(kiln__rewriter *rw, uint32_t id, const kiln_desc *desc);

/* Is the tensor, or one on the same storage, to be made as such? */
bool kiln__rewriter_is_kept(const kiln__rewriter *rw, uint32_t id);

/* The same dimensions, symbol by symbol; dtypes and strides may differ. */
bool kiln__same_dims(const kiln_desc *a, const kiln_desc *b);

/* Closes the gaps and writes the nodes of the items. */
kiln_status kiln__rewriter_finish(kiln__rewriter *rw);

/* ---- the parts -------------------------------------------------------------------------------------- */

/* Extra operands of a matmul or matmul_id on their way in; lowering fills in[] and n_in. */
kiln_status kiln__lower_precision(kiln__rewriter *rw, const kiln__node *node, uint32_t *in, uint32_t *n_in);
kiln_status kiln__lower_experts(kiln__rewriter *rw, const kiln__node *node, uint32_t *in, uint32_t *n_in);

/* Rules: look at one live node of the op that the table in rewrite.c gives, and fuse it with a neighbour if that is legal. */
typedef kiln_status (*kiln__fuse_rule)(kiln__rewriter *rw, uint32_t node);
kiln_status kiln__fuse_softmax_topk(kiln__rewriter *rw, uint32_t node);
kiln_status kiln__fuse_norm_weight(kiln__rewriter *rw, uint32_t node);
kiln_status kiln__fuse_add_norm(kiln__rewriter *rw, uint32_t node);
kiln_status kiln__fuse_quantize(kiln__rewriter *rw, uint32_t node);
kiln_status kiln__fuse_sum_residual(kiln__rewriter *rw, uint32_t node);
kiln_status kiln__fuse_rope_append(kiln__rewriter *rw, uint32_t node);

#endif
