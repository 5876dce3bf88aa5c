/* The attribute structs of the ops: what kernels read, what JSON sets. What the ops mean stands in
 * kiln_ops.h. Defaults are in parentheses. Fields of type kiln_i64_value and kiln_f32_value take a constant
 * or a slot; bool and enum fields are uint32_t. All fields have fixed widths. */
#ifndef KILN_ATTRS_H
#define KILN_ATTRS_H

#include "kiln_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_expert_map_attrs {
    int64_t n_experts;
} kiln_expert_map_attrs;

typedef enum kiln_topk_softmax {
    KILN_TOPK_PROBS,          /* probs are probabilities already */
    KILN_TOPK_SOFTMAX,        /* probs are logits: softmax over the row first */
    KILN_TOPK_SOFTMAX_CHOSEN, /* probs are logits: choose, then softmax over the chosen (Mixtral) */
} kiln_topk_softmax;

typedef struct kiln_gather_topk_attrs {
    int64_t k; /* (1) 1 ≤ k ≤ E */
    /* (1) Divide the weights by their sum; all 0 when the sum is ≤ 0, NaN when NaN. Not applied with
     * SOFTMAX_CHOSEN, whose weights sum to 1 already. */
    uint32_t normalise;
    uint32_t softmax; /* kiln_topk_softmax (PROBS) */
} kiln_gather_topk_attrs;

typedef enum kiln_act { KILN_ACT_SILU, KILN_ACT_GELU_TANH, KILN_ACT_GELU_ERF, KILN_ACT_RELU } kiln_act;

/* What a second, quantised copy of an output is for: the activations of a following matmul in `fast`
 * precision. Baking sets it; KILN_QUANT_NONE in graphs that people build. */
typedef enum kiln_quant { KILN_QUANT_NONE, KILN_QUANT_Q8_A, KILN_QUANT_BF16, KILN_QUANT_F16 } kiln_quant;

typedef struct kiln_swiglu_attrs {
    uint32_t act;   /* kiln_act (SILU) */
    float limit;    /* (0 = none) gate clamped to ≤ limit, up to ±limit, before the activation */
    uint32_t quant; /* kiln_quant (NONE): a second output with the same values quantised */
} kiln_swiglu_attrs;

typedef struct kiln_accumulate_attrs {
    kiln_f32_value w; /* (1) */
} kiln_accumulate_attrs;

typedef struct kiln_softmax_attrs {
    int64_t axis; /* (-1) */
    float scale;  /* (1) */
} kiln_softmax_attrs;

typedef struct kiln_argsort_attrs {
    uint32_t descending; /* (0) */
} kiln_argsort_attrs;

typedef struct kiln_top_k_attrs {
    int64_t k; /* (1) */
} kiln_top_k_attrs;

typedef struct kiln_set_rows_attrs {
    kiln_i64_value position; /* (0) */
    uint32_t ring;           /* (0) */
} kiln_set_rows_attrs;

typedef enum kiln_rope_mode { KILN_ROPE_INTERLEAVED, KILN_ROPE_NEOX } kiln_rope_mode;

typedef struct kiln_rope_attrs {
    kiln_i64_value position; /* (0) */
    int64_t dims;            /* (0 = all of d) even */
    float theta;             /* (10000) */
    float freq_scale;        /* (1) */
    uint32_t mode;           /* kiln_rope_mode (INTERLEAVED) */
} kiln_rope_attrs;

typedef struct kiln_rope_set_rows_attrs {
    kiln_rope_attrs rope;
    kiln_set_rows_attrs rows;
} kiln_rope_set_rows_attrs;

typedef struct kiln_attention_attrs {
    float scale;               /* (0 = 1/√d) */
    uint32_t causal;           /* (0) */
    int64_t window;            /* (0 = none) */
    float softcap;             /* (0 = none) cap·tanh(s/cap) on the scaled scores */
    uint32_t ring;             /* (0) */
    kiln_i64_value q_position; /* (0) */
} kiln_attention_attrs;

typedef struct kiln_scale_attrs {
    kiln_f32_value scale; /* (1) */
    kiln_f32_value shift; /* (0) */
} kiln_scale_attrs;

typedef struct kiln_rms_norm_attrs {
    float eps;      /* (1e-5) ≥ 0 */
    uint32_t quant; /* kiln_quant (NONE): a further output with the same values quantised */
} kiln_rms_norm_attrs;

typedef struct kiln_layer_norm_attrs {
    float eps; /* (1e-5) ≥ 0 */
} kiln_layer_norm_attrs;

typedef struct kiln_l2_norm_attrs {
    float eps; /* (1e-12) ≥ 0 */
} kiln_l2_norm_attrs;

typedef struct kiln_gelu_attrs {
    uint32_t exact; /* (0) 1: by erf; 0: the tanh form */
} kiln_gelu_attrs;

typedef struct kiln_softcap_attrs {
    float cap; /* (30) */
} kiln_softcap_attrs;

typedef struct kiln_copy_attrs {
    uint32_t dtype; /* kiln_dtype by name in JSON (f32) */
} kiln_copy_attrs;

typedef struct kiln_concat_attrs {
    int64_t axis; /* (0) */
} kiln_concat_attrs;

typedef struct kiln_quantize_attrs {
    uint32_t quant; /* kiln_quant (Q8_A) */
} kiln_quantize_attrs;

#ifdef __cplusplus
}
#endif
#endif
