/* A whole expert-routed feed-forward block, from the ops. No op of its own: the graph shows what it is made
 * of. */
#include "infer_util.h"

#include "graph.h"

kiln_tensor kiln_moe_ffn(kiln_graph *graph, const kiln_moe_ffn_spec *spec) {
    kiln_tensor none = {0, 0}, weights;
    if (spec == NULL) {
        (void)kiln__graph_fail(graph, KILN_ERROR_ARGUMENT, "kiln_moe_ffn: spec is NULL");
        return none;
    }
    kiln_tensor probs = kiln_matmul(graph, spec->router, spec->x);
    if (!spec->softmax_chosen)
        probs = kiln_softmax(graph, probs, none, (kiln_softmax_attrs){0});
    kiln_gather_topk_attrs choice = {.k = spec->k,
                                     .no_normalise = spec->no_normalise,
                                     .softmax =
                                         spec->softmax_chosen ? KILN_TOPK_SOFTMAX_CHOSEN : KILN_TOPK_PROBS};
    kiln_tensor ids = kiln_gather_topk(graph, probs, none, spec->scale, choice, &weights);
    kiln_tensor hidden = kiln_matmul_id(graph, spec->gate, spec->x, ids);
    if (kiln_tensor_valid(spec->up))
        hidden = kiln_swiglu(graph, hidden, kiln_matmul_id(graph, spec->up, spec->x, ids), spec->act);
    else
        hidden = kiln_swiglu_packed(graph, hidden, spec->act);
    kiln_tensor y = kiln_matmul_id(graph, spec->down, hidden, ids);
    return kiln_weighted_sum_full(graph, y, weights, spec->residual, none, none);
}
