/* rms_norm without weight, then mul by a [N] weight: one rms_norm with that weight.
 *
 * Legal when
 * - the norm has no weight yet and no quantised copy (which would lack the weight);
 * - the product has the norm's shape, so the norm is what is not repeated, and the other factor is a vector
 *   of the length of a row, repeated over the rows: exactly the weight operand of rms_norm;
 * - nobody else may see the norm without weight (is_private), and the two can meet.
 */
#include "rewriter.h"

#include "infer_util.h"

static kiln_status try_factor(kiln__rewriter *rw, uint32_t node, uint32_t in, bool *done) {
    kiln__link link;
    if (!kiln__rewriter_link(rw, node, in, &kiln__op_rms_norm, &link) || link.out != 0)
        return KILN_OK;
    uint32_t weight = kiln__rewriter_in(rw, node, 1 - in), x = kiln__rewriter_in(rw, link.from, 0);
    uint32_t y = kiln__rewriter_out(rw, node, 0);
    const kiln_desc *rows = kiln__rewriter_desc(rw, y), *w = kiln__rewriter_desc(rw, weight);
    kiln_dim length = rows->dims[rows->ndim - 1];
    if (kiln__rewriter_in(rw, link.from, 1) != 0 || kiln__rewriter_node(rw, link.from)->n_out != 1 ||
        !kiln__same_dims(rows, kiln__rewriter_desc(rw, x)) ||
        !kiln__same_dims(rows, kiln__rewriter_desc(rw, kiln__rewriter_in(rw, node, in))) || w->ndim != 1 ||
        w->dims[0].n != length.n || w->dims[0].slot != length.slot || !kiln__rewriter_is_private(rw, &link))
        return KILN_OK;
    uint32_t at;
    kiln_status status = kiln__rewriter_meet(rw, &link, done, &at);
    if (status != KILN_OK || !*done)
        return status;
    kiln_rms_norm_attrs attrs = *(const kiln_rms_norm_attrs *)kiln__rewriter_attrs(rw, link.from);
    kiln__fused fused = {
        .op = &kiln__op_rms_norm, .in = {x, weight}, .n_in = 2, .out = {y}, .n_out = 1, .attrs = &attrs};
    return kiln__rewriter_fuse(rw, &link, at, &fused);
}

kiln_status kiln__fuse_norm_weight(kiln__rewriter *rw, uint32_t node) {
    bool done = false;
    kiln_status status = KILN_OK;
    for (uint32_t in = 0; in < 2 && status == KILN_OK && !done; in++)
        status = try_factor(rw, node, in, &done);
    return status;
}
