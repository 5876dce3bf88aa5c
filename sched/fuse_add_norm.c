/* add, then rms_norm of the sum: one add_rms_norm that makes both.
 *
 * Legal when
 * - the terms have one shape (add repeats its second one, add_rms_norm does not) and the norm reads that sum;
 * - the two can meet. The sum stays an output of its own, with the same values: any number of other nodes may
 *   read it, it may be an output of the graph or watched. Those that read it before the norm make the fused
 *   node stand where the add stood (meet: nothing between may write what the norm reads);
 * - the weight is not computed by the program: the sum must not come to wait for something it did not need.
 */
#include "rewriter.h"

#include "infer_util.h"

static bool is_constant(const kiln__rewriter *rw, uint32_t id) {
    if (id == 0)
        return true;
    kiln_storage_kind kind = rw->g->storages.items[rw->g->tensors.items[id].storage].kind;
    return kind == KILN_STORAGE_WEIGHT || kind == KILN_STORAGE_INPUT;
}

kiln_status kiln__fuse_add_norm(kiln__rewriter *rw, uint32_t node) {
    kiln__link link;
    if (!kiln__rewriter_link(rw, node, 0, &kiln__op_add, &link))
        return KILN_OK;
    uint32_t a = kiln__rewriter_in(rw, link.from, 0), b = kiln__rewriter_in(rw, link.from, 1);
    uint32_t sum = kiln__rewriter_out(rw, link.from, 0), weight = kiln__rewriter_in(rw, node, 1);
    const kiln_desc *shape = kiln__rewriter_desc(rw, sum);
    if (!kiln__same_dims(shape, kiln__rewriter_desc(rw, a)) ||
        !kiln__same_dims(shape, kiln__rewriter_desc(rw, b)) ||
        !kiln__same_dims(shape, kiln__rewriter_desc(rw, kiln__rewriter_in(rw, node, 0))) ||
        !is_constant(rw, weight))
        return KILN_OK;
    bool ok;
    uint32_t at;
    kiln_status status = kiln__rewriter_meet(rw, &link, &ok, &at);
    if (status != KILN_OK || !ok)
        return status;
    kiln_rms_norm_attrs attrs = *(const kiln_rms_norm_attrs *)kiln__rewriter_attrs(rw, node);
    kiln__fused fused = {.op = &kiln__op_add_rms_norm,
                         .in = {a, b, weight},
                         .n_in = 3,
                         .out = {sum, kiln__rewriter_out(rw, node, 0), kiln__rewriter_out(rw, node, 1)},
                         .n_out = 1 + kiln__rewriter_node(rw, node)->n_out,
                         .attrs = &attrs};
    return kiln__rewriter_fuse(rw, &link, at, &fused);
}
