/* The inside of a llama model: which tensor of the file is what. */
#ifndef KILN_TOOLS_LLAMA_INTERNAL_H
#define KILN_TOOLS_LLAMA_INTERNAL_H

#include "llama.h"
#include "checked.h"

typedef const kiln_gguf_tensor *llama_tensor;

/* Experts stand in one tensor [E, …], or (older files) in a tensor each;
 * then `each` has n_experts entries. */
typedef struct llama_experts {
    llama_tensor all;
    llama_tensor *each;
} llama_experts;

/* NULL where the file has none; biases are optional. */
typedef struct llama_layer {
    llama_tensor attn_norm, q, k, v, o, q_bias, k_bias, v_bias, o_bias;
    llama_tensor ffn_norm;
    llama_tensor gate, up, down; /* dense */
    llama_tensor router;         /* expert-routed */
    llama_experts gate_exps, up_exps, down_exps;
} llama_layer;

struct kiln_llama_model {
    kiln_allocator allocator;
    const kiln_gguf *gguf;
    const char *path; /* of the first part, for messages */
    kiln_llama_params params;
    llama_tensor embedding, output_norm, output;
    llama_layer *layers; /* [n_layers] */
};

/* llama_params.c */
kiln_status llama_params_read(const kiln_gguf *gguf, kiln_llama_params *out, kiln_error *error);

#endif
