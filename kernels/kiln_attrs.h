/* The attribute structs of the ops: what people fill, what kernels read, what JSON sets. What the ops mean
 * stands in kiln_ops.h. Fields of type kiln_i64_value and kiln_f32_value take a constant or a slot; bool
 * and enum fields are uint32_t. All fields have fixed widths.
 *
 * Defaults are in parentheses. They hold for every field that is 0, so for those that an initialiser
 * leaves out, for attrs = NULL of kiln_node_add and for JSON keys that are absent. A field marked "must be
 * set" has no usual value: 0 is KILN_ERROR_ARGUMENT, with its name; its default in parentheses is that of
 * attrs = NULL and of JSON. The number zero where the default is another one is KILN_ZERO_F32,
 * KILN_ZERO_I64 or kiln_f32_const(0); the field says what it does ("zero: ..."). What follows a slot whose
 * value is 0 is 0. kiln_op.h, "How zero is read", has the whole rule.
 *
 * Infer, accesses and kernels see plain numbers: there a 0 is a 0. Values out of bounds, and NaN, are
 * KILN_ERROR_ARGUMENT when the node is added, unless the text says something else. */
#ifndef KILN_ATTRS_H
#define KILN_ATTRS_H

#include "kiln_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_expert_map_attrs {
    int64_t n_experts; /* (1; must be set) E, 1 to 2³¹ - 3 */
} kiln_expert_map_attrs;

typedef enum kiln_topk_softmax {
    KILN_TOPK_PROBS,          /* probs are probabilities already */
    KILN_TOPK_SOFTMAX,        /* probs are logits: softmax over the row first */
    KILN_TOPK_SOFTMAX_CHOSEN, /* probs are logits: choose, then softmax over the chosen (Mixtral) */
} kiln_topk_softmax;

typedef struct kiln_gather_topk_attrs {
    int64_t k; /* (1; must be set) 1 ≤ k ≤ E; above E: KILN_ERROR_SHAPE */
    /* (0) The weights are divided by their sum; all 0 when the sum is ≤ 0, NaN when NaN. 1: they stay as
     * they are, as they always do with SOFTMAX_CHOSEN, whose weights sum to 1 already. In JSON:
     * "normalise", the opposite. */
    uint32_t no_normalise;
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
    kiln_f32_value w; /* (1) without the operand w; zero: adds 0·x, which is NaN where x is Inf or NaN */
} kiln_accumulate_attrs;

typedef struct kiln_softmax_attrs {
    int64_t axis; /* (-1) the innermost; negative ones count from the end; the outermost: KILN_ZERO_I64 */
    float scale;  /* (1) zero: x does not count, only the mask does; all shares are equal without one */
} kiln_softmax_attrs;

typedef struct kiln_argsort_attrs {
    uint32_t descending; /* (0) the smallest first; 1: the largest first */
} kiln_argsort_attrs;

typedef struct kiln_top_k_attrs {
    int64_t k; /* (1; must be set) 1 ≤ k ≤ row length; above it: KILN_ERROR_SHAPE */
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
    float freq_scale;        /* (1) zero: nothing turns, whatever the position */
    uint32_t mode;           /* (INTERLEAVED) kiln_rope_mode */
} kiln_rope_attrs;

typedef struct kiln_rope_set_rows_attrs {
    kiln_rope_attrs rope;
    kiln_set_rows_attrs rows;
} kiln_rope_set_rows_attrs;

typedef struct kiln_attention_attrs {
    float scale;               /* (0 = 1/√d) */
    uint32_t causal;           /* (0) every key, those after the query too */
    int64_t window;            /* (0 = none) positions, up to 2⁴⁰ */
    float softcap;             /* (0 = none) ≥ 0: cap·tanh(s/cap) on the scaled scores */
    uint32_t ring;             /* (0) 1: k and v are rings; needs window > 0, else KILN_ERROR_SHAPE */
    kiln_i64_value q_position; /* (0) position of query 0 */
} kiln_attention_attrs;

typedef struct kiln_scale_attrs {
    kiln_f32_value scale; /* (1) zero: the result is `shift`, or NaN where x is Inf or NaN */
    kiln_f32_value shift; /* (0) */
} kiln_scale_attrs;

typedef struct kiln_rms_norm_attrs {
    float eps;      /* (1e-5) ≥ 0; zero: a row of zeros gives NaN */
    uint32_t quant; /* (NONE) kiln_quant: a further output with the same values quantised */
} kiln_rms_norm_attrs;

typedef struct kiln_layer_norm_attrs {
    float eps; /* (1e-5) ≥ 0; zero: a row of equal elements gives NaN */
} kiln_layer_norm_attrs;

typedef struct kiln_l2_norm_attrs {
    float eps; /* (1e-12) ≥ 0; zero: a row of zeros gives NaN */
} kiln_l2_norm_attrs;

typedef struct kiln_gelu_attrs {
    uint32_t exact; /* (0) 1: by erf; 0: the tanh form */
} kiln_gelu_attrs;

typedef struct kiln_softcap_attrs {
    float cap; /* (30) > 0 */
} kiln_softcap_attrs;

typedef struct kiln_copy_attrs {
    uint32_t dtype; /* (F32; must be set) kiln_dtype, by name in JSON */
} kiln_copy_attrs;

typedef struct kiln_concat_attrs {
    int64_t axis; /* (0) the outermost; negative ones count from the end */
} kiln_concat_attrs;

typedef struct kiln_quantize_attrs {
    uint32_t quant; /* (Q8_A; must be set) kiln_quant other than NONE */
} kiln_quantize_attrs;

#ifdef __cplusplus
}
#endif
#endif
