/* A small decoder with everything in it: embedding, attention with KV states, a MoE block, residuals; symbols
 * n_tokens and n_kv. For tests of plans, sessions and captures. */
#ifndef KILN_TEST_TINY_MODEL_H
#define KILN_TEST_TINY_MODEL_H

#include "kiln_ops.h"
#include "kiln_plan.h"

enum {
    TINY_VOCAB = 32,
    TINY_H = 64,
    TINY_HEADS = 2,
    TINY_E = 4,
    TINY_K = 2,
    TINY_N = 32,
    TINY_CTX = 24,
    TINY_CHUNK = 8
};

typedef struct tiny_model {
    kiln_slot tokens, past, length;
    kiln_tensor ids, logits; /* [T] i32, [T, VOCAB] */
    kiln_tensor topk,
        resid; /* chosen experts and the residual stream of the last layer, named "topk.L", "resid.L" */
} tiny_model;

/* Builds it into a graph, with `layers` layers. Weights point to static memory that is the same every time
 * (not const: kiln_storage_data takes what the graph may write). */
void tiny_build(kiln_graph *graph, int layers, tiny_model *out);

/* KV state buffers of `layers` layers, bound to the session. */
typedef struct tiny_states {
    kiln_state_buffer *buffers[16];
    int count;
} tiny_states;
void tiny_bind_states(kiln_session *session, int layers, tiny_states *out);
void tiny_free_states(tiny_states *states);

/* Sets slots and ids for tokens[past … past+n-1] and runs. */
kiln_status tiny_eval(kiln_session *session, const tiny_model *m, const int32_t *tokens, int past, int n,
                      kiln_error *error);

#endif
