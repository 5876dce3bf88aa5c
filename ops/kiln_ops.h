/* The ops, as builder functions over `kiln_node_add`. Each returns the handle of its (first) output and
 * remembers the first error in the graph; see kiln_graph.h. All of them are called from the graph's one thread.
 *
 * Shapes are row-major, outermost first: T tokens, E experts, k experts per token, K inner size, N columns,
 * H hidden size. "..." stands for any leading dimensions, four in all. Inputs may be views with any strides
 * unless said otherwise, with the elements of the innermost axis adjacent (permute last axes with `kiln_copy`).
 * A row is the innermost axis. Arithmetic is f32, sums are f32 or better, outputs are f32 unless said
 * otherwise. "float" means f32, f16 or bf16. Every op gives KILN_ERROR_SHAPE and KILN_ERROR_DTYPE for operands
 * that do not fit, with node, operand, expected and actual in the text, and the errors of kiln_node_add.
 *
 * Each op's attribute struct is public, so that `kiln_node_add` and JSON can set every field; defaults are in
 * parentheses. Fields of type kiln_i64_value and kiln_f32_value take a constant or a slot.
 */
#ifndef KILN_OPS_H
#define KILN_OPS_H

#include "kiln_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Kiln's own ops, for `kiln_graph_from_json`. Static; any thread. */
KILN_API kiln_op_set kiln_ops_builtin(void);

/* The op with that name in a set, or NULL. Any thread. */
KILN_API const kiln_op *kiln_op_find(kiln_op_set set, const char *name);

/* ---- matrices ------------------------------------------------------------------------------------------- */

/* y[..., N] = Σ_j W[n,j]·x[..., j]. w: [N,K], any float or block dtype. x: [..., K] float, or [..., h, d] with
 * h·d = K (so the permuted output of an attention needs no copy). */
KILN_API kiln_tensor kiln_matmul(kiln_graph *graph, kiln_tensor w, kiln_tensor x);

/* The same with a copy of w in f16 (`shadow`, [N,K]) that kernels may use instead where it is faster. The
 * caller keeps the two equal. */
KILN_API kiln_tensor kiln_matmul_shadow(kiln_graph *graph, kiln_tensor w, kiln_tensor x, kiln_tensor shadow);

/* y[t,s,:] = W[ids[t,s]]·x[t] or ·x[t,s]. w: [E,N,K] float or block dtype, the expert stride may be larger
 * than N rows. x: [T,K] (one row for all slots) or [T,k,K] (a row per slot), float. ids: [T,k] i32 or u32;
 * duplicates are legal; an id outside [0,E) gives a zero row and KILN_ERROR_INDEX on the fence. y: [T,k,N]. */
KILN_API kiln_tensor kiln_matmul_id(kiln_graph *graph, kiln_tensor w, kiln_tensor x, kiln_tensor ids);

/* The same with the experts as n_experts separate tensors [N,K] of one dtype and shape. */
KILN_API kiln_tensor kiln_matmul_id_split(kiln_graph *graph, const kiln_tensor *w, uint32_t n_experts,
                                          kiln_tensor x, kiln_tensor ids);

/* Groups (token, slot) pairs by expert: offsets [E+2] i32 and entries [k·T] i32, entry = token·k + slot,
 * ascending within an expert; the last group (E) holds the pairs whose id is out of range. Baking adds it by
 * itself where matmul_id profits. T·k < 2³¹. */
typedef struct kiln_expert_map_attrs {
    int64_t n_experts;
} kiln_expert_map_attrs;
KILN_API kiln_tensor kiln_expert_map(kiln_graph *graph, kiln_tensor ids, int64_t n_experts,
                                     kiln_tensor *entries);

/* The k largest of each row of probs [T,E], or the first k of order [T,E] i32 when given (ids out of range there
 * give weight 0 and KILN_ERROR_INDEX). ids [T,k] i32 (ties: lowest id; NaN last; always distinct), weights [T,k] f32. */
typedef enum kiln_topk_softmax {
    KILN_TOPK_PROBS,          /* probs are probabilities already */
    KILN_TOPK_SOFTMAX,        /* probs are logits: softmax over the row first */
    KILN_TOPK_SOFTMAX_CHOSEN, /* probs are logits: choose, then softmax over the chosen (Mixtral) */
} kiln_topk_softmax;
typedef struct kiln_gather_topk_attrs {
    int64_t k;          /* (1) 1 ≤ k ≤ E */
    uint32_t normalise; /* (1) divide the weights by their sum; all 0 when the sum is ≤ 0, NaN when NaN.
                           Not applied with SOFTMAX_CHOSEN, whose weights sum to 1 already. */
    uint32_t softmax;   /* kiln_topk_softmax (PROBS) */
} kiln_gather_topk_attrs;
/* `order` and `scale` may be zeroed handles. scale: [E] f32, multiplied in after normalising. The returned
 * tensor is ids; *weights receives the other. */
KILN_API kiln_tensor kiln_gather_topk(kiln_graph *graph, kiln_tensor probs, kiln_tensor order,
                                      kiln_tensor scale, kiln_gather_topk_attrs attrs, kiln_tensor *weights);

typedef enum kiln_act { KILN_ACT_SILU, KILN_ACT_GELU_TANH, KILN_ACT_GELU_ERF, KILN_ACT_RELU } kiln_act;

/* What a second, quantised copy of an output is for: the activations of a following matmul in `fast`
 * precision. Baking sets it; KILN_QUANT_NONE in graphs that people build. */
typedef enum kiln_quant { KILN_QUANT_NONE, KILN_QUANT_Q8_A, KILN_QUANT_BF16, KILN_QUANT_F16 } kiln_quant;

/* act(gate)·up. One operand: [..., 2N], gate first; two: [..., N] each. float in, f32 out [..., N]. */
typedef struct kiln_swiglu_attrs {
    uint32_t act;   /* kiln_act (SILU) */
    float limit;    /* (0 = none) gate clamped to ≤ limit, up to ±limit, before the activation */
    uint32_t quant; /* kiln_quant (NONE): a second output with the same values quantised */
} kiln_swiglu_attrs;
KILN_API kiln_tensor kiln_swiglu(kiln_graph *graph, kiln_tensor gate, kiln_tensor up, kiln_act act);
KILN_API kiln_tensor kiln_swiglu_packed(kiln_graph *graph, kiln_tensor gate_up, kiln_act act);

/* y[t,:] = Σ_s w[t,s]·x[t,s,:], s ascending. x: [T,k,H], w: [T,k] f32, y: [T,H]. Optional residual [T,H] is
 * added first of all; optional shared [T,H] with shared_logit [T,1] adds sigmoid(logit)·shared (without a logit:
 * shared) at the end. Absent operands are zeroed handles. */
KILN_API kiln_tensor kiln_weighted_sum(kiln_graph *graph, kiln_tensor x, kiln_tensor w);
KILN_API kiln_tensor kiln_weighted_sum_full(kiln_graph *graph, kiln_tensor x, kiln_tensor w,
                                            kiln_tensor residual, kiln_tensor shared,
                                            kiln_tensor shared_logit);

/* acc += w·x in place; never skipped for a small w (0·Inf is NaN). acc: f32, x: the same shape, float. w: a
 * one-element f32 tensor, or the attribute when the handle is zeroed. Returns acc's new value. */
typedef struct kiln_accumulate_attrs {
    kiln_f32_value w; /* (1) */
} kiln_accumulate_attrs;
KILN_API kiln_tensor kiln_accumulate(kiln_graph *graph, kiln_tensor acc, kiln_tensor x, kiln_tensor w);
KILN_API kiln_tensor kiln_accumulate_by(kiln_graph *graph, kiln_tensor acc, kiln_tensor x, kiln_f32_value w);

/* Sets a tensor to zero in place (any dtype but activations). */
KILN_API kiln_tensor kiln_zero(kiln_graph *graph, kiln_tensor x);

/* A fresh f32 tensor of zeros: the start of a chain of kiln_accumulate. */
KILN_API kiln_tensor kiln_zeros(kiln_graph *graph, uint32_t ndim, const kiln_dim *dims);

/* softmax of scale·x + mask along an axis, the maximum subtracted. mask: f32 (added) or u8 (0 = left out),
 * broadcast over x's leading axes, or a zeroed handle. A row with everything left out gives zeros. */
typedef struct kiln_softmax_attrs {
    int64_t axis; /* (-1) */
    float scale;  /* (1) */
} kiln_softmax_attrs;
KILN_API kiln_tensor kiln_softmax(kiln_graph *graph, kiln_tensor x, kiln_tensor mask,
                                  kiln_softmax_attrs attrs);

/* Positions that sort each row: i32, same shape. Stable; NaN last in either direction. */
typedef struct kiln_argsort_attrs {
    uint32_t descending; /* (0) */
} kiln_argsort_attrs;
KILN_API kiln_tensor kiln_argsort(kiln_graph *graph, kiln_tensor x, bool descending);

/* The k largest of each row, descending, ties to the lowest index, NaN last: values [..., k] f32; *indices
 * receives [..., k] i32 (may be NULL). 1 ≤ k ≤ row length. */
typedef struct kiln_top_k_attrs {
    int64_t k; /* (1) */
} kiln_top_k_attrs;
KILN_API kiln_tensor kiln_top_k(kiln_graph *graph, kiln_tensor x, int64_t k, kiln_tensor *indices);

/* Index of the largest of each row, i32 [...] (a row vector [N] gives [1]); ties to the lowest, NaN only when all are. */
KILN_API kiln_tensor kiln_argmax(kiln_graph *graph, kiln_tensor x);

/* ---- rows ------------------------------------------------------------------------------------------------ */

/* y[i...,:] = table[ids[i...],:] as f32. table: [N,H] any float or block dtype, ids: [...] i32 or u32 (three dimensions
 * at most). An id out of range gives a zero row and KILN_ERROR_INDEX. */
KILN_API kiln_tensor kiln_get_rows(kiln_graph *graph, kiln_tensor table, kiln_tensor ids);

/* Writes rows [T, ...] (float) into dst [C, ...] (f32, f16 or bf16) in place: row t goes to position + t, or to indices[t]
 * (i32, u32 or i64) when that operand is given. `ring`: positions are taken modulo C. Out of range: dropped, and
 * KILN_ERROR_INDEX. Returns dst's new value: whoever must see the rows reads (a view of) that. */
typedef struct kiln_set_rows_attrs {
    kiln_i64_value position; /* (0) */
    uint32_t ring;           /* (0) */
} kiln_set_rows_attrs;
KILN_API kiln_tensor kiln_set_rows(kiln_graph *graph, kiln_tensor dst, kiln_tensor rows, kiln_tensor indices,
                                   kiln_set_rows_attrs attrs);

/* Rotary embedding of x [T, heads, d] (or [T, d]); pairs (2i, 2i+1) or, NeoX, (i, i + dims/2) of the first `dims`
 * elements turn by pos·freq_scale·theta^(-2i/dims), the rest is copied. Positions: position + t, or positions[t]
 * (i32 or i64 [T]) + position when given. float in, f32 out. */
typedef enum kiln_rope_mode { KILN_ROPE_INTERLEAVED, KILN_ROPE_NEOX } kiln_rope_mode;
typedef struct kiln_rope_attrs {
    kiln_i64_value position; /* (0) */
    int64_t dims;            /* (0 = all of d) even */
    float theta;             /* (10000) */
    float freq_scale;        /* (1) */
    uint32_t mode;           /* kiln_rope_mode (INTERLEAVED) */
} kiln_rope_attrs;
KILN_API kiln_tensor kiln_rope(kiln_graph *graph, kiln_tensor x, kiln_tensor positions,
                               kiln_rope_attrs attrs);

/* rope then set_rows, in one: the fused form of a KV append. dst [C, heads, d]. The rope's and the append's
 * positions are separate fields. */
typedef struct kiln_rope_set_rows_attrs {
    kiln_rope_attrs rope;
    kiln_set_rows_attrs rows;
} kiln_rope_set_rows_attrs;
KILN_API kiln_tensor kiln_rope_set_rows(kiln_graph *graph, kiln_tensor dst, kiln_tensor x,
                                        kiln_tensor positions, kiln_tensor indices,
                                        kiln_rope_set_rows_attrs attrs);

/* softmax(scale·q·kᵀ, masked)·v per head, by online softmax. q: [..., heads, Tq, d], k and v: [..., kv_heads, Tk, d]
 * and [..., kv_heads, Tk, dv] (at most one leading axis; heads a multiple of kv_heads), float; usually permuted views.
 * y: [..., Tq, heads, dv] f32, token-major, so that a reshape feeds the output projection.
 * Query i stands at position q_position + i, key j at position j. causal: only keys at or before the query;
 * window > 0: only keys after position − window. mask: f32 (added) or u8 (0 = left out), broadcast to
 * [..., heads, Tq, Tk]. ring: k and v are ring caches of capacity Tk in which position p lies in row p mod Tk
 * and q_position + Tq positions have been written; needs window > 0 and Tk ≥ window + max Tq − 1.
 * A query with nothing to attend to gives zeros. */
typedef struct kiln_attention_attrs {
    float scale;               /* (0 = 1/√d) */
    uint32_t causal;           /* (0) */
    int64_t window;            /* (0 = none) */
    float softcap;             /* (0 = none) cap·tanh(s/cap) on the scaled scores */
    uint32_t ring;             /* (0) */
    kiln_i64_value q_position; /* (0) */
} kiln_attention_attrs;
KILN_API kiln_tensor kiln_attention(kiln_graph *graph, kiln_tensor q, kiln_tensor k, kiln_tensor v,
                                    kiln_tensor mask, kiln_attention_attrs attrs);

/* ---- element by element and row by row ----------------------------------------------------------------- */

/* a + b and a·b, float; b is broadcast to a: missing leading axes and axes of count 1 repeat. */
KILN_API kiln_tensor kiln_add(kiln_graph *graph, kiln_tensor a, kiln_tensor b);
KILN_API kiln_tensor kiln_mul(kiln_graph *graph, kiln_tensor a, kiln_tensor b);

/* scale·x + shift. */
typedef struct kiln_scale_attrs {
    kiln_f32_value scale; /* (1) */
    kiln_f32_value shift; /* (0) */
} kiln_scale_attrs;
KILN_API kiln_tensor kiln_scale(kiln_graph *graph, kiln_tensor x, kiln_scale_attrs attrs);

/* x + b with b [N] repeated over all rows. */
KILN_API kiln_tensor kiln_bias(kiln_graph *graph, kiln_tensor x, kiln_tensor b);

/* x / √(mean(x²) + eps) · weight; weight [N] float, or a zeroed handle for none. */
typedef struct kiln_rms_norm_attrs {
    float eps;      /* (1e-5) ≥ 0 */
    uint32_t quant; /* kiln_quant (NONE): a further output with the same values quantised */
} kiln_rms_norm_attrs;
KILN_API kiln_tensor kiln_rms_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, float eps);

/* The fused form of add, then rms_norm: outputs the sum a + b (same shapes) and, in *normed, its norm. */
KILN_API kiln_tensor kiln_add_rms_norm(kiln_graph *graph, kiln_tensor a, kiln_tensor b, kiln_tensor weight,
                                       float eps, kiln_tensor *normed);

/* (x − mean) / √(variance + eps) · weight + bias; weight, bias [N] or zeroed handles. */
typedef struct kiln_layer_norm_attrs {
    float eps; /* (1e-5) ≥ 0 */
} kiln_layer_norm_attrs;
KILN_API kiln_tensor kiln_layer_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, kiln_tensor bias,
                                     float eps);

/* x / max(√Σx², eps). */
typedef struct kiln_l2_norm_attrs {
    float eps; /* (1e-12) ≥ 0 */
} kiln_l2_norm_attrs;
KILN_API kiln_tensor kiln_l2_norm(kiln_graph *graph, kiln_tensor x, float eps);

KILN_API kiln_tensor kiln_silu(kiln_graph *graph, kiln_tensor x);

typedef struct kiln_gelu_attrs {
    uint32_t exact; /* (0) 1: by erf; 0: the tanh form */
} kiln_gelu_attrs;
KILN_API kiln_tensor kiln_gelu(kiln_graph *graph, kiln_tensor x, bool exact);

/* cap·tanh(x/cap), cap > 0. */
typedef struct kiln_softcap_attrs {
    float cap; /* (30) */
} kiln_softcap_attrs;
KILN_API kiln_tensor kiln_softcap(kiln_graph *graph, kiln_tensor x, float cap);

/* Mean of the rows t with mask[..., t] ≠ 0. x: [..., T, H], mask: [..., T] f32, u8 or i32, or a zeroed handle
 * for all rows; y: [..., H] ([T,H] gives [H]). No row left: zeros. */
KILN_API kiln_tensor kiln_mean_pool(kiln_graph *graph, kiln_tensor x, kiln_tensor mask);

/* A dense copy in the given dtype. float → float (round to nearest even), integer → the same integer dtype,
 * block → f32. Any strides, the innermost included. */
typedef struct kiln_copy_attrs {
    uint32_t dtype; /* kiln_dtype by name in JSON (f32) */
} kiln_copy_attrs;
KILN_API kiln_tensor kiln_copy(kiln_graph *graph, kiln_tensor x, kiln_dtype dtype);

/* Tensors of one dtype one after the other along an axis; other dimensions equal. */
typedef struct kiln_concat_attrs {
    int64_t axis; /* (0) */
} kiln_concat_attrs;
KILN_API kiln_tensor kiln_concat(kiln_graph *graph, const kiln_tensor *parts, uint32_t n_parts, int64_t axis);

/* Rows of x [..., K] in the form that integer and bf16 dot products take; K a multiple of 32 for q8_a. Baking adds it by
 * itself for `fast` precision. */
typedef struct kiln_quantize_attrs {
    uint32_t quant; /* kiln_quant (Q8_A) */
} kiln_quantize_attrs;
KILN_API kiln_tensor kiln_quantize(kiln_graph *graph, kiln_tensor x, kiln_quant quant);

/* ---- blocks ----------------------------------------------------------------------------------------------- */

/* A whole expert-routed feed-forward block from the ops above: router matmul, softmax, gather_topk, matmul_id
 * gate and up, swiglu, matmul_id down, weighted_sum. */
typedef struct kiln_moe_ffn_spec {
    kiln_tensor x;      /* [T,H] */
    kiln_tensor router; /* [E,H] */
    kiln_tensor gate;   /* [E,N,H]; with `up` zeroed, gate and up packed: [E,2N,H], gate first */
    kiln_tensor up;     /* [E,N,H] or zeroed */
    kiln_tensor down;   /* [E,H,N] */
    kiln_tensor scale;  /* [E] per-expert scale, or zeroed */
    kiln_tensor residual; /* [T,H], or zeroed */
    int64_t k;
    bool normalise;
    bool softmax_chosen; /* softmax over the chosen ones instead of over all experts */
    kiln_act act;
} kiln_moe_ffn_spec;
KILN_API kiln_tensor kiln_moe_ffn(kiln_graph *graph, const kiln_moe_ffn_spec *spec);

#ifdef __cplusplus
}
#endif
#endif
