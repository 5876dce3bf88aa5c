/* Precision `fast`: activations in the form that integer and bf16 dot products take, made once per tensor by
 * a node of its own that stands right before the first matmul that wants it.
 *
 * Sharing is legal while nobody writes the bytes it was made from: kiln__rewriter_derive asks every node
 * since.
 */
#include "rewriter.h"

#include "infer_util.h"
#include "operands.h"

/* The form for weights of a dtype; NONE for f32 weights, and where x is in such a form already. */
static uint32_t form_for(kiln_dtype w, kiln_dtype x) {
    if (kiln_dtype_get(w)->kind == KILN_KIND_BLOCK)
        return KILN_QUANT_Q8_A;
    return (w == KILN_F16 || w == KILN_BF16) && !kiln__takes_xq(w, x) ? KILN_QUANT_BF16 : KILN_QUANT_NONE;
}

/* x, or x [..., h, d] as [..., K] where its rows alone do not divide into blocks. 0: neither does; or memory
 * is out (remembered by the graph). */
static uint32_t rows_of(kiln__rewriter *rw, uint32_t x, int64_t block) {
    kiln_desc desc = *kiln__rewriter_desc(rw, x);
    uint32_t last = desc.ndim - 1;
    if (desc.dims[last].n % block == 0)
        return x;
    if (last == 0 || desc.dims[last].slot != 0 || desc.dims[last - 1].slot != 0 ||
        desc.dims[last].n * desc.dims[last - 1].n % block != 0 ||
        desc.strides[last - 1] != desc.dims[last].n * desc.strides[last])
        return 0;
    desc.dims[last - 1].n *= desc.dims[last].n; /* below 2^63: x was checked with it */
    desc.strides[last - 1] = desc.strides[last];
    desc.dims[last] = (kiln_dim){0, 0};
    desc.strides[last] = 0;
    desc.ndim = last;
    return kiln__rewriter_view(rw, x, &desc);
}

kiln_status kiln__lower_precision(kiln__rewriter *rw, const kiln__node *node, uint32_t *in, uint32_t *n_in) {
    bool routed = node->op == &kiln__op_matmul_id;
    uint32_t at = routed ? KILN_MATMUL_ID_XQ : KILN_MATMUL_XQ;
    uint32_t x = in[routed ? KILN_MATMUL_ID_X : KILN_MATMUL_X];
    kiln_dtype w = kiln__rewriter_desc(rw, in[routed ? KILN_MATMUL_ID_W : KILN_MATMUL_W])->dtype;
    uint32_t quant = form_for(w, kiln__rewriter_desc(rw, x)->dtype);
    if (quant == KILN_QUANT_NONE || (at < *n_in && in[at] != 0))
        return KILN_OK;
    kiln_quantize_attrs attrs = {quant};
    uint32_t rows = rows_of(rw, x, kiln_dtype_get(kiln__quant_dtype(quant))->block), out[2];
    if (rows == 0)
        return rw->g->error.status;
    kiln_status status = kiln__rewriter_derive(rw, &kiln__op_quantize, rows, &attrs, quant, out);
    if (status != KILN_OK)
        return status;
    while (*n_in <= at)
        in[(*n_in)++] = 0;
    in[at] = out[0];
    return KILN_OK;
}
