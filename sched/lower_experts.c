/* matmul_id over many tokens: rows grouped by expert, by a node of its own that all matmul_id with the same
 * ids and number of experts share (while nobody writes the ids). Programs that never have that many tokens
 * get none. */
#include "rewriter.h"

#include "infer_util.h"
#include "operands.h"
#include "tuning.h"

kiln_status kiln__lower_experts(kiln__rewriter *rw, const kiln__node *node, uint32_t *in, uint32_t *n_in) {
    if (node->op != &kiln__op_matmul_id || in[KILN_MATMUL_ID_OFFSETS] != 0)
        return KILN_OK;
    uint32_t ids = in[KILN_MATMUL_ID_IDS], out[2];
    const kiln_desc *w = kiln__rewriter_desc(rw, in[KILN_MATMUL_ID_W]);
    int64_t tokens = kiln__dim_max(rw->g, kiln__rewriter_desc(rw, ids)->dims[0]);
    if (tokens < kiln__cpu_tuning.map_tokens)
        return KILN_OK;
    kiln_expert_map_attrs attrs = {w->ndim == 3 ? w->dims[0].n : (int64_t)(*n_in - KILN_MATMUL_ID_W)};
    kiln_status status = kiln__rewriter_derive(rw, &kiln__op_expert_map, ids, &attrs, attrs.n_experts, out);
    in[KILN_MATMUL_ID_OFFSETS] = out[0];
    in[KILN_MATMUL_ID_ENTRIES] = out[1];
    return status;
}
