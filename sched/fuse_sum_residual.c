/* weighted_sum, then add: one weighted_sum with the other term as its residual.
 *
 * Legal when
 * - the weighted_sum has no residual yet, and the other term has the shape of its output (add would repeat a
 *   smaller one);
 * - nobody else may see the bare sum (is_private), and the two can meet.
 *
 * The residual is added first of all instead of last: the same terms in another order, so the result may
 * differ in its low bits.
 */
#include "rewriter.h"

#include "infer_util.h"

enum { RESIDUAL = 2 };

static kiln_status try_term(kiln__rewriter *rw, uint32_t node, uint32_t in, bool *done) {
    kiln__link link;
    if (!kiln__rewriter_link(rw, node, in, &kiln__op_weighted_sum, &link))
        return KILN_OK;
    uint32_t residual = kiln__rewriter_in(rw, node, 1 - in), y = kiln__rewriter_out(rw, node, 0);
    const kiln_desc *shape = kiln__rewriter_desc(rw, kiln__rewriter_out(rw, link.from, 0));
    if (kiln__rewriter_in(rw, link.from, RESIDUAL) != 0 ||
        !kiln__same_dims(shape, kiln__rewriter_desc(rw, kiln__rewriter_in(rw, node, in))) ||
        !kiln__same_dims(shape, kiln__rewriter_desc(rw, residual)) ||
        !kiln__same_dims(shape, kiln__rewriter_desc(rw, y)) || !kiln__rewriter_is_private(rw, &link))
        return KILN_OK;
    uint32_t at;
    kiln_status status = kiln__rewriter_meet(rw, &link, done, &at);
    if (status != KILN_OK || !*done)
        return status;
    kiln__fused fused = {.op = &kiln__op_weighted_sum, .n_in = 5, .out = {y}, .n_out = 1};
    for (uint32_t i = 0; i < fused.n_in; i++)
        fused.in[i] = i == RESIDUAL ? residual : kiln__rewriter_in(rw, link.from, i);
    return kiln__rewriter_fuse(rw, &link, at, &fused);
}

kiln_status kiln__fuse_sum_residual(kiln__rewriter *rw, uint32_t node) {
    bool done = false;
    kiln_status status = KILN_OK;
    for (uint32_t in = 0; in < 2 && status == KILN_OK && !done; in++)
        status = try_term(rw, node, in, &done);
    return status;
}
