/* swiglu, rms_norm or add_rms_norm, then quantize of what it makes: the quantised form becomes one more
 * output of the producer, which has the row at hand.
 *
 * Legal when
 * - the producer makes no quantised copy yet, and quantize reads all of its output: the tensor itself, or a
 *   dense view of all its bytes (then blocks of a row are blocks of the other's row too: both row lengths are
 *   multiples of the block, and the bytes of the result are the same in either shape);
 * - the two can meet. The plain output stays, with the same values; any other node may read it. A node
 *   between that writes into it is seen by meet: quantize reads what that node wrote.
 */
#include "rewriter.h"

#include "infer_util.h"

static const struct {
    const kiln_op *op;
    uint32_t out; /* the output it can quantise; the copy is the one behind it */
} producers[] = {{&kiln__op_swiglu, 0}, {&kiln__op_rms_norm, 0}, {&kiln__op_add_rms_norm, 1}};

enum { N_PRODUCERS = sizeof producers / sizeof producers[0] };

/* The producer's attributes with `quant` set: kiln_swiglu_attrs or kiln_rms_norm_attrs. */
typedef union attributes {
    kiln_swiglu_attrs swiglu;
    kiln_rms_norm_attrs norm;
} attributes;

static void set_quant(attributes *a, const kiln_op *op, const void *from, uint32_t quant) {
    memcpy(a, from, op->attrs_size);
    if (op == &kiln__op_swiglu)
        a->swiglu.quant = quant;
    else
        a->norm.quant = quant;
}

/* The tensor that becomes the extra output: the quantize node's own, or another shape of its bytes. 0: not
 * possible, or (remembered by the graph) out of memory. */
static uint32_t extra_output(kiln__rewriter *rw, uint32_t made, uint32_t quantised) {
    kiln_desc desc = *kiln__rewriter_desc(rw, made);
    desc.dtype = kiln__rewriter_desc(rw, quantised)->dtype;
    int64_t bytes, block = kiln_dtype_get(desc.dtype)->block;
    if (kiln__same_dims(&desc, kiln__rewriter_desc(rw, quantised)))
        return quantised;
    if (desc.dims[desc.ndim - 1].n % block != 0 || kiln__rewriter_is_kept(rw, quantised) ||
        rw->g->storages.items[rw->g->tensors.items[quantised].storage].kind != KILN_STORAGE_ARENA ||
        kiln__desc_dense(rw->g, &desc, &bytes, NULL) != KILN_OK ||
        bytes != rw->g->tensors.items[quantised].bytes)
        return 0;
    return kiln__rewriter_view(rw, quantised, &desc);
}

static bool find_producer(const kiln__rewriter *rw, uint32_t node, kiln__link *link) {
    for (uint32_t i = 0; i < N_PRODUCERS; i++)
        if (kiln__rewriter_link(rw, node, 0, producers[i].op, link))
            return link->out == producers[i].out &&
                   kiln__rewriter_node(rw, link->from)->n_out == producers[i].out + 1;
    return false;
}

kiln_status kiln__fuse_quantize(kiln__rewriter *rw, uint32_t node) {
    kiln__link link;
    bool ok;
    uint32_t at;
    if (!find_producer(rw, node, &link))
        return KILN_OK;
    kiln_status status = kiln__rewriter_meet(rw, &link, &ok, &at);
    if (status != KILN_OK || !ok)
        return status;
    uint32_t extra =
        extra_output(rw, kiln__rewriter_out(rw, link.from, link.out), kiln__rewriter_out(rw, node, 0));
    if (extra == 0)
        return rw->g->error.status;
    const kiln__node *from = kiln__rewriter_node(rw, link.from);
    const kiln_quantize_attrs *quantize = kiln__rewriter_attrs(rw, node);
    attributes attrs;
    set_quant(&attrs, from->op, kiln__rewriter_attrs(rw, link.from), quantize->quant);
    kiln__fused fused = {.op = from->op, .n_in = from->n_in, .n_out = link.out + 2, .attrs = &attrs};
    memcpy(fused.in, kiln__node_in(rw->g, from), from->n_in * sizeof *fused.in);
    for (uint32_t j = 0; j <= link.out; j++)
        fused.out[j] = kiln__rewriter_out(rw, link.from, j);
    fused.out[link.out + 1] = extra;
    return kiln__rewriter_fuse(rw, &link, at, &fused);
}
