/* The inside of a llama model: which tensor of the file is what. */
#ifndef KILN_TOOLS_LLAMA_INTERNAL_H
#define KILN_TOOLS_LLAMA_INTERNAL_H

#include "llama.h"
#include "checked.h"

enum { LLAMA_NOTICE_SIZE = 320 };

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
    llama_tensor gate, up, down, gate_bias, up_bias, down_bias; /* dense */
    llama_tensor router;                                        /* expert-routed */
    llama_experts gate_exps, up_exps, down_exps;
} llama_layer;

struct kiln_llama_model {
    kiln_allocator allocator;
    const kiln_gguf *gguf;
    const char *path; /* of the first part, for messages */
    kiln_llama_params params;
    llama_tensor embedding, output_norm, output;
    llama_layer *layers; /* [n_layers] */
    struct {
        char (*items)[LLAMA_NOTICE_SIZE];
        size_t count, capacity;
    } notices;
};

/* Dimension `i` counted from the innermost; 1 beyond the last. A shape in a file is four numbers, of which
 * the outermost ones may be left out when they are 1. */
static inline int64_t llama_dim(llama_tensor t, int32_t i) {
    return i < t->ndim ? t->dims[t->ndim - 1 - i] : 1;
}

/* llama_params.c: reads m->params, and says whether it reads a key. */
kiln_status llama_params_read(kiln_llama_model *m, kiln_error *error);
bool llama_params_has(const char *key);

/* llama_keys.c: refuses keys that change the model, notes unknown ones; after the parameters are read. */
kiln_status llama_keys_check(kiln_llama_model *m, kiln_error *error);

/* llama_model.c: one more notice; false when there is no memory for it. */
KILN_PRINTF(2, 3) bool llama_notice(kiln_llama_model *m, const char *format, ...);

#endif
