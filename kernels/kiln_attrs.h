/* The attribute structs of the ops: what kernels read, what JSON sets. What the ops mean stands in
 * kiln_ops.h. Fields of type kiln_i64_value and kiln_f32_value take a constant or a slot; bool and enum
 * fields are uint32_t. All fields have fixed widths.
 *
 * Defaults are in parentheses. They are what JSON takes for keys that are absent, and kiln_node_add for attrs
 * = NULL. A STRUCT FILLED WITH ZEROES, or an initialiser that leaves fields out, DOES NOT HOLD THEM: it asks
 * for 0 in every field. Begin with kiln_op_defaults(kiln_op_find(kiln_ops_builtin(), "rope"), &attrs) and
 * set fields after, or write all of them. Where 0 is taken and means something else than the default, the
 * field says so ("0: ..."); where it is refused, the bounds do. Values out of bounds, and NaN, are
 * KILN_ERROR_ARGUMENT when the node is added, unless the text says something else. */
#ifndef KILN_ATTRS_H
#define KILN_ATTRS_H

#include "kiln_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_expert_map_attrs {
    int64_t n_experts; /* (1) E, 1 to 2³¹ - 3 */
} kiln_expert_map_attrs;

typedef enum kiln_topk_softmax {
    KILN_TOPK_PROBS,          /* probs are probabilities already */
    KILN_TOPK_SOFTMAX,        /* probs are logits: softmax over the row first */
    KILN_TOPK_SOFTMAX_CHOSEN, /* probs are logits: choose, then softmax over the chosen (Mixtral) */
} kiln_topk_softmax;

typedef struct kiln_gather_topk_attrs {
    int64_t k; /* (1) 1 ≤ k ≤ E; above E: KILN_ERROR_SHAPE */
    /* (1) Divide the weights by their sum; all 0 when the sum is ≤ 0, NaN when NaN. Not applied with
     * SOFTMAX_CHOSEN, whose weights sum to 1 already. 0: they stay as they are. */
    uint32_t normalise;
    uint32_t softmax; /* (PROBS) kiln_topk_softmax */
} kiln_gather_topk_attrs;

typedef enum kiln_act { KILN_ACT_SILU, KILN_ACT_GELU_TANH, KILN_ACT_GELU_ERF, KILN_ACT_RELU } kiln_act;

/* What a second, quantised copy of an output is for: the activations of a following matmul in `fast`
 * precision. Baking sets it; KILN_QUANT_NONE in graphs that people build. */
typedef enum kiln_quant { KILN_QUANT_NONE, KILN_QUANT_Q8_A, KILN_QUANT_BF16, KILN_QUANT_F16 } kiln_quant;

typedef struct kiln_swiglu_attrs {
    uint32_t act;   /* (SILU) kiln_act */
    float limit;    /* (0 = none) ≥ 0: gate clamped to ≤ limit, up to ±limit, before the activation */
    uint32_t quant; /* (NONE) kiln_quant: a second output with the same values quantised */
} kiln_swiglu_attrs;

typedef struct kiln_accumulate_attrs {
    kiln_f32_value w; /* (1) without the operand w; 0: adds 0·x, which is NaN where x is Inf or NaN */
} kiln_accumulate_attrs;

typedef struct kiln_softmax_attrs {
    int64_t axis; /* (-1) the innermost; negative ones count from the end. 0: the outermost axis */
    float scale;  /* (1) 0: x does not count, only the mask does; all shares are equal without one */
} kiln_softmax_attrs;

typedef struct kiln_argsort_attrs {
    uint32_t descending; /* (0) the smallest first; 1: the largest first */
} kiln_argsort_attrs;

typedef struct kiln_top_k_attrs {
    int64_t k; /* (1) 1 ≤ k ≤ row length; above it: KILN_ERROR_SHAPE */
} kiln_top_k_attrs;

typedef struct kiln_set_rows_attrs {
    kiln_i64_value position; /* (0) row of dst for row 0, in rows; not used with indices */
    uint32_t ring;           /* (0) 1: positions and indices are taken modulo the rows of dst */
} kiln_set_rows_attrs;

typedef enum kiln_rope_mode { KILN_ROPE_INTERLEAVED, KILN_ROPE_NEOX } kiln_rope_mode;

typedef struct kiln_rope_attrs {
    kiln_i64_value position; /* (0) of row 0, or what is added to `positions` */
    int64_t dims;            /* (0 = all of d) even and at most d, else KILN_ERROR_SHAPE */
    float theta;             /* (10000) > 0 */
    float freq_scale;        /* (1) 0: nothing turns, whatever the position */
    uint32_t mode;           /* (INTERLEAVED) kiln_rope_mode */
} kiln_rope_attrs;

typedef struct kiln_rope_set_rows_attrs {
    kiln_rope_attrs rope;
    kiln_set_rows_attrs rows;
} kiln_rope_set_rows_attrs;

typedef struct kiln_attention_attrs {
    float scale;               /* (0 = 1/√d) */
    uint32_t causal;           /* (0) every key, those behind the query too */
    int64_t window;            /* (0 = none) positions, up to 2⁴⁰ */
    float softcap;             /* (0 = none) ≥ 0: cap·tanh(s/cap) on the scaled scores */
    uint32_t ring;             /* (0) 1: k and v are rings; needs window > 0, else KILN_ERROR_SHAPE */
    kiln_i64_value q_position; /* (0) position of query 0 */
} kiln_attention_attrs;

typedef struct kiln_scale_attrs {
    kiln_f32_value scale; /* (1) 0: the result is `shift`, or NaN where x is Inf or NaN */
    kiln_f32_value shift; /* (0) */
} kiln_scale_attrs;

typedef struct kiln_rms_norm_attrs {
    float eps;      /* (1e-5) ≥ 0; 0: a row of zeros gives NaN */
    uint32_t quant; /* (NONE) kiln_quant: a further output with the same values quantised */
} kiln_rms_norm_attrs;

typedef struct kiln_layer_norm_attrs {
    float eps; /* (1e-5) ≥ 0; 0: a row of equal elements gives NaN */
} kiln_layer_norm_attrs;

typedef struct kiln_l2_norm_attrs {
    float eps; /* (1e-12) ≥ 0; 0: a row of zeros gives NaN */
} kiln_l2_norm_attrs;

typedef struct kiln_gelu_attrs {
    uint32_t exact; /* (0) 1: by erf; 0: the tanh form */
} kiln_gelu_attrs;

typedef struct kiln_softcap_attrs {
    float cap; /* (30) > 0 */
} kiln_softcap_attrs;

typedef struct kiln_copy_attrs {
    uint32_t dtype; /* (F32) kiln_dtype, by name in JSON; 0, no dtype: KILN_ERROR_DTYPE */
} kiln_copy_attrs;

typedef struct kiln_concat_attrs {
    int64_t axis; /* (0) the outermost; negative ones count from the end */
} kiln_concat_attrs;

typedef struct kiln_quantize_attrs {
    uint32_t quant; /* kiln_quant (Q8_A); 0, KILN_QUANT_NONE: KILN_ERROR_ARGUMENT */
} kiln_quantize_attrs;

#ifdef __cplusplus
}
#endif
#endif
