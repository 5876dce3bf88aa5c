/* Driver of rewriting: lowers node by node into a new list, then applies the rules to that list. */
#include "rewriter.h"

#include "infer_util.h"

/* In the order they are applied, each once over the whole program. The weight joins its norm first, so that
 * add_norm finds complete norms. sum_residual comes before add_norm: an add between a weighted_sum and a norm
 * saves one region with either, and this way the sum is not written twice. quantize is last: by then every
 * producer has its final form. No rule makes work for an earlier one. */
static const struct {
    const char *name;
    uint32_t bit;
    const kiln_op *op; /* of the nodes it is asked about */
    kiln__fuse_rule apply;
} rules[] = {
    {"norm_weight", KILN_FUSE_NORM_WEIGHT, &kiln__op_mul, kiln__fuse_norm_weight},
    {"softmax_topk", KILN_FUSE_SOFTMAX_TOPK, &kiln__op_gather_topk, kiln__fuse_softmax_topk},
    {"sum_residual", KILN_FUSE_SUM_RESIDUAL, &kiln__op_add, kiln__fuse_sum_residual},
    {"add_norm", KILN_FUSE_ADD_NORM, &kiln__op_rms_norm, kiln__fuse_add_norm},
    {"rope_append", KILN_FUSE_ROPE_APPEND, &kiln__op_set_rows, kiln__fuse_rope_append},
    {"quantize", KILN_FUSE_QUANTIZE, &kiln__op_quantize, kiln__fuse_quantize},
};

enum { MAX_OPERANDS = 1024 }; /* of a node, as in graph/node.c */

static bool is_matmul(const kiln__node *n) {
    return n->op == &kiln__op_matmul || n->op == &kiln__op_matmul_id;
}

static kiln_status lower_matmul(kiln__rewriter *rw, const kiln__node *node, bool exact) {
    uint32_t in[MAX_OPERANDS], n_in = node->n_in;
    memcpy(in, kiln__node_in(rw->g, node), n_in * sizeof *in);
    kiln_status status = kiln__lower_experts(rw, node, in, &n_in);
    if (status == KILN_OK && !exact)
        status = kiln__lower_precision(rw, node, in, &n_in);
    if (status != KILN_OK)
        return status;
    if (n_in == node->n_in && memcmp(in, kiln__node_in(rw->g, node), n_in * sizeof *in) == 0)
        return kiln__rewriter_push(rw, node);
    return kiln__rewriter_push_with(rw, node, in, n_in);
}

static kiln_status lower(kiln__rewriter *rw, const kiln__node *nodes, size_t n, bool exact) {
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < n && status == KILN_OK; i++)
        status =
            is_matmul(&nodes[i]) ? lower_matmul(rw, &nodes[i], exact) : kiln__rewriter_push(rw, &nodes[i]);
    return status;
}

static kiln_status fuse(kiln__rewriter *rw, uint32_t no_fuse) {
    kiln_status status = KILN_OK;
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        if (no_fuse & rules[r].bit)
            continue;
        rw->rule = rules[r].name;
        for (size_t i = 0; i < rw->work.count && status == KILN_OK; i++)
            if (rw->g->nodes.items[i].op == rules[r].op)
                status = rules[r].apply(rw, (uint32_t)i);
    }
    return status;
}

/* What the program remembers says most; else what an op's accesses said; else it was memory. */
static kiln_status explain(const kiln__rewriter *rw, size_t n, kiln_status status, kiln_error *error) {
    if (rw->g->error.status != KILN_OK)
        return kiln_graph_check(rw->g, error);
    if (rw->error.status != KILN_OK)
        return kiln_error_set(error, status, "%s", rw->error.text);
    return kiln_error_set(error, status, "rewriting a program of %zu nodes: %s", n, kiln_status_text(status));
}

kiln_status kiln__rewrite(kiln_graph *built, const kiln__rewrite_options *options,
                          const kiln_allocator *allocator, kiln_graph **program, kiln__rewrites *out,
                          kiln_error *error) {
    *out = (kiln__rewrites){.allocator = kiln__allocator_or_default(allocator)};
    *program = NULL;
    kiln_status status = kiln_graph_check(built, error);
    if (status == KILN_OK)
        status = kiln__graph_fork(built, program, error);
    if (status != KILN_OK)
        return status;
    kiln__rewriter rw;
    size_t n = built->nodes.count;
    status = kiln__rewriter_init(&rw, *program, n, options, out);
    if (status == KILN_OK)
        status = lower(&rw, built->nodes.items, n, options->exact);
    if (status == KILN_OK)
        status = fuse(&rw, options->no_fuse);
    if (status == KILN_OK)
        status = kiln__rewriter_finish(&rw);
    if (status == KILN_OK) {
        kiln__graph_settle(built, *program);
    } else {
        status = explain(&rw, n, status, error);
        kiln__rewrites_free(out);
        kiln__graph_unfork(built, *program);
        *program = NULL;
    }
    kiln__rewriter_deinit(&rw);
    return status;
}

void kiln__rewrites_free(kiln__rewrites *r) {
    KILN_ARRAY_FREE(&r->allocator, *r);
}
