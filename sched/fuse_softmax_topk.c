/* softmax, then gather_topk of the probabilities: one gather_topk of the logits.
 *
 * Legal when
 * - the softmax is plain and along rows: no mask, scale 1, the last axis; gather_topk with SOFTMAX is defined
 *   as just that on its first operand, before it chooses;
 * - gather_topk takes probabilities (PROBS) and orders them itself. With a given order it would still be
 *   right, but the probabilities are then read at k places only and softmax is the larger half: left alone;
 * - it reads the softmax's own output, not a view with other rows;
 * - nobody else may see the probabilities (is_private), and the two can meet.
 */
#include "rewriter.h"

#include "infer_util.h"

kiln_status kiln__fuse_softmax_topk(kiln__rewriter *rw, uint32_t node) {
    kiln__link link;
    if (kiln__rewriter_in(rw, node, 1) != 0 || !kiln__rewriter_link(rw, node, 0, &kiln__op_softmax, &link))
        return KILN_OK;
    kiln_gather_topk_attrs attrs = *(const kiln_gather_topk_attrs *)kiln__rewriter_attrs(rw, node);
    const kiln_softmax_attrs *softmax = kiln__rewriter_attrs(rw, link.from);
    uint32_t x = kiln__rewriter_in(rw, link.from, 0), probs = kiln__rewriter_in(rw, node, 0);
    const kiln_desc *rows = kiln__rewriter_desc(rw, x);
    int64_t last = (int64_t)rows->ndim - 1;
    bool plain = (softmax->axis == -1 || softmax->axis == last) && softmax->scale == 1.0f &&
                 kiln__rewriter_in(rw, link.from, 1) == 0;
    if (!plain || attrs.softmax != KILN_TOPK_PROBS ||
        !kiln__same_dims(rows, kiln__rewriter_desc(rw, probs)) || !kiln__rewriter_is_private(rw, &link))
        return KILN_OK;
    bool ok;
    uint32_t at;
    kiln_status status = kiln__rewriter_meet(rw, &link, &ok, &at);
    if (status != KILN_OK || !ok)
        return status;
    attrs.softmax = KILN_TOPK_SOFTMAX;
    kiln__fused fused = {.op = &kiln__op_gather_topk,
                         .in = {x, 0, kiln__rewriter_in(rw, node, 2)},
                         .n_in = 3,
                         .out = {kiln__rewriter_out(rw, node, 0), kiln__rewriter_out(rw, node, 1)},
                         .n_out = 2,
                         .attrs = &attrs};
    return kiln__rewriter_fuse(rw, &link, at, &fused);
}
