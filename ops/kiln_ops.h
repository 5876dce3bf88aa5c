/* The ops, as builder functions over `kiln_node_add`. Each returns the handle of its (first) output and
 * remembers the first error in the graph; see kiln_graph.h. All of them are called from the graph's one
 * thread.
 *
 * Shapes are row-major, outermost first: T tokens, E experts, k experts per token, K inner size, N columns,
 * H hidden size. "..." stands for any leading dimensions, four in all. Inputs may be views with any strides
 * unless said otherwise, with the elements of the innermost axis adjacent (permute last axes with
 * `kiln_copy`). A row is the innermost axis. Arithmetic is f32, sums are f32 or better, outputs are f32
 * unless said otherwise. "float" means f32, f16 or bf16. Every op gives KILN_ERROR_SHAPE and KILN_ERROR_DTYPE
 * for operands that do not fit, with node, operand, expected and actual in the text, and the errors of
 * kiln_node_add.
 *
 * Each op's attribute struct is public (kiln_attrs.h), so that `kiln_node_add` and JSON can set every field.
 */
#ifndef KILN_OPS_H
#define KILN_OPS_H

#include "kiln_attrs.h"
#include "kiln_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Kiln's own ops, for `kiln_graph_from_json`. Static; any thread. */
KILN_API kiln_op_set kiln_ops_builtin(void);

/* The op with that name in a set, or NULL. Any thread. */
KILN_API const kiln_op *kiln_op_find(kiln_op_set set, const char *name);

/* ---- matrices --------------------------------------------------------------------------------------- */

/* y[..., N] = Σ_j W[n,j]·x[..., j]. w: [N,K], any float or block dtype. x: [..., K] float, or [..., h, d]
 * with h·d = K (so the permuted output of an attention needs no copy). */
KILN_API kiln_tensor kiln_matmul(kiln_graph *graph, kiln_tensor w, kiln_tensor x);

/* The same with a copy of w in f16 (`shadow`, [N,K]) that kernels may use instead where it is faster. The
 * caller keeps the two equal. */
KILN_API kiln_tensor kiln_matmul_shadow(kiln_graph *graph, kiln_tensor w, kiln_tensor x, kiln_tensor shadow);

/* y[t,s,:] = W[ids[t,s]]·x[t] or ·x[t,s]. w: [E,N,K] float or block dtype, the expert stride may be larger
 * than N rows. x: [T,K] (one row for all slots) or [T,k,K] (a row per slot), float. ids: [T,k] i32 or u32;
 * duplicates are legal; an id outside [0,E) gives a zero row and KILN_ERROR_INDEX on the fence.
 * y: [T,k,N]. */
KILN_API kiln_tensor kiln_matmul_id(kiln_graph *graph, kiln_tensor w, kiln_tensor x, kiln_tensor ids);

/* The same with the experts as n_experts separate tensors [N,K] of one dtype and shape. */
KILN_API kiln_tensor kiln_matmul_id_split(kiln_graph *graph, const kiln_tensor *w, uint32_t n_experts,
                                          kiln_tensor x, kiln_tensor ids);

/* Groups (token, slot) pairs by expert: offsets [E+2] i32 and entries [k·T] i32, entry = token·k + slot,
 * ascending within an expert; the last group (E) holds the pairs whose id is out of range. Baking adds it by
 * itself where matmul_id profits. T·k < 2³¹. */
KILN_API kiln_tensor kiln_expert_map(kiln_graph *graph, kiln_tensor ids, int64_t n_experts,
                                     kiln_tensor *entries);

/* The k largest of each row of probs [T,E], or the first k of order [T,E] i32 when given (ids out of range
 * there give weight 0 and KILN_ERROR_INDEX). ids [T,k] i32 (ties: lowest id; NaN last; always distinct),
 * weights [T,k] f32. */
/* `order` and `scale` may be zeroed handles. scale: [E] f32, multiplied in after normalising. The returned
 * tensor is ids; *weights receives the other. */
KILN_API kiln_tensor kiln_gather_topk(kiln_graph *graph, kiln_tensor probs, kiln_tensor order,
                                      kiln_tensor scale, kiln_gather_topk_attrs attrs, kiln_tensor *weights);

/* act(gate)·up. One operand: [..., 2N], gate first; two: [..., N] each. float in, f32 out [..., N]. */
KILN_API kiln_tensor kiln_swiglu(kiln_graph *graph, kiln_tensor gate, kiln_tensor up, kiln_act act);
KILN_API kiln_tensor kiln_swiglu_packed(kiln_graph *graph, kiln_tensor gate_up, kiln_act act);

/* y[t,:] = Σ_s w[t,s]·x[t,s,:], s ascending. x: [T,k,H], w: [T,k] f32, y: [T,H]. Optional residual [T,H] is
 * added first of all; optional shared [T,H] with shared_logit [T,1] adds sigmoid(logit)·shared (without a
 * logit: shared) at the end. Absent operands are zeroed handles. */
KILN_API kiln_tensor kiln_weighted_sum(kiln_graph *graph, kiln_tensor x, kiln_tensor w);
KILN_API kiln_tensor kiln_weighted_sum_full(kiln_graph *graph, kiln_tensor x, kiln_tensor w,
                                            kiln_tensor residual, kiln_tensor shared,
                                            kiln_tensor shared_logit);

/* acc += w·x in place; never skipped for a small w (0·Inf is NaN). acc: f32, x: the same shape, float. w: a
 * one-element f32 tensor, or the attribute when the handle is zeroed. Returns acc's new value. */
KILN_API kiln_tensor kiln_accumulate(kiln_graph *graph, kiln_tensor acc, kiln_tensor x, kiln_tensor w);
KILN_API kiln_tensor kiln_accumulate_by(kiln_graph *graph, kiln_tensor acc, kiln_tensor x, kiln_f32_value w);

/* Sets a tensor to zero in place (any dtype but activations). */
KILN_API kiln_tensor kiln_zero(kiln_graph *graph, kiln_tensor x);

/* A fresh f32 tensor of zeros: the start of a chain of kiln_accumulate. */
KILN_API kiln_tensor kiln_zeros(kiln_graph *graph, uint32_t ndim, const kiln_dim *dims);

/* softmax of scale·x + mask along an axis, the maximum subtracted. mask: f32 (added) or u8 (0 = left out),
 * broadcast over x's leading axes, or a zeroed handle. A row with everything left out gives zeros. */
KILN_API kiln_tensor kiln_softmax(kiln_graph *graph, kiln_tensor x, kiln_tensor mask,
                                  kiln_softmax_attrs attrs);

/* Positions that sort each row: i32, same shape. Stable; NaN last in either direction. */
KILN_API kiln_tensor kiln_argsort(kiln_graph *graph, kiln_tensor x, bool descending);

/* The k largest of each row, descending, ties to the lowest index, NaN last: values [..., k] f32; *indices
 * receives [..., k] i32 (may be NULL). 1 ≤ k ≤ row length. */
KILN_API kiln_tensor kiln_top_k(kiln_graph *graph, kiln_tensor x, int64_t k, kiln_tensor *indices);

/* Index of the largest of each row, i32 [...] (a row vector [N] gives [1]); ties to the lowest, NaN only when
 * all are. */
KILN_API kiln_tensor kiln_argmax(kiln_graph *graph, kiln_tensor x);

/* ---- rows ------------------------------------------------------------------------------------------- */

/* y[i...,:] = table[ids[i...],:] as f32. table: [N,H] any float or block dtype, ids: [...] i32 or u32 (three
 * dimensions at most). An id out of range gives a zero row and KILN_ERROR_INDEX. */
KILN_API kiln_tensor kiln_get_rows(kiln_graph *graph, kiln_tensor table, kiln_tensor ids);

/* Writes rows [T, ...] (float) into dst [C, ...] (f32, f16 or bf16) in place: row t goes to position + t, or
 * to indices[t] (i32, u32 or i64) when that operand is given. `ring`: positions are taken modulo C. Out of
 * range: dropped, and KILN_ERROR_INDEX. Returns dst's new value: whoever must see the rows reads (a view of)
 * that. */
KILN_API kiln_tensor kiln_set_rows(kiln_graph *graph, kiln_tensor dst, kiln_tensor rows, kiln_tensor indices,
                                   kiln_set_rows_attrs attrs);

/* Rotary embedding of x [T, heads, d] (or [T, d]); pairs (2i, 2i+1) or, NeoX, (i, i + dims/2) of the first
 * `dims` elements turn by pos·freq_scale·theta^(-2i/dims), the rest is copied. Positions: position + t, or
 * positions[t] (i32 or i64 [T]) + position when given. float in, f32 out. */
KILN_API kiln_tensor kiln_rope(kiln_graph *graph, kiln_tensor x, kiln_tensor positions,
                               kiln_rope_attrs attrs);

/* rope then set_rows, in one: the fused form of a KV append. dst [C, heads, d]. The rope's and the append's
 * positions are separate fields. */
KILN_API kiln_tensor kiln_rope_set_rows(kiln_graph *graph, kiln_tensor dst, kiln_tensor x,
                                        kiln_tensor positions, kiln_tensor indices,
                                        kiln_rope_set_rows_attrs attrs);

/* softmax(scale·q·kᵀ, masked)·v per head, by online softmax. q: [..., heads, Tq, d], k and v: [..., kv_heads,
 * Tk, d] and [..., kv_heads, Tk, dv] (at most one leading axis; heads a multiple of kv_heads), float; usually
 * permuted views. y: [..., Tq, heads, dv] f32, token-major, so that a reshape feeds the output projection.
 * Query i stands at position q_position + i, key j at position j. causal: only keys at or before the query;
 * window > 0: only keys after position − window. mask: f32 (added) or u8 (0 = left out), broadcast to
 * [..., heads, Tq, Tk]. ring: k and v are ring caches of capacity Tk in which position p lies in row p mod Tk
 * and q_position + Tq positions have been written; needs window > 0 and Tk ≥ window + max Tq − 1.
 * A query with nothing to attend to gives zeros. */
KILN_API kiln_tensor kiln_attention(kiln_graph *graph, kiln_tensor q, kiln_tensor k, kiln_tensor v,
                                    kiln_tensor mask, kiln_attention_attrs attrs);

/* ---- element by element and row by row -------------------------------------------------------------- */

/* a + b and a·b, float; b is broadcast to a: missing leading axes and axes of count 1 repeat. */
KILN_API kiln_tensor kiln_add(kiln_graph *graph, kiln_tensor a, kiln_tensor b);
KILN_API kiln_tensor kiln_mul(kiln_graph *graph, kiln_tensor a, kiln_tensor b);

/* scale·x + shift. */
KILN_API kiln_tensor kiln_scale(kiln_graph *graph, kiln_tensor x, kiln_scale_attrs attrs);

/* x + b with b [N] repeated over all rows. */
KILN_API kiln_tensor kiln_bias(kiln_graph *graph, kiln_tensor x, kiln_tensor b);

/* x / √(mean(x²) + eps) · weight; weight [N] float, or a zeroed handle for none. */
KILN_API kiln_tensor kiln_rms_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, float eps);

/* The fused form of add, then rms_norm: outputs the sum a + b (same shapes) and, in *normed, its norm. */
KILN_API kiln_tensor kiln_add_rms_norm(kiln_graph *graph, kiln_tensor a, kiln_tensor b, kiln_tensor weight,
                                       float eps, kiln_tensor *normed);

/* (x − mean) / √(variance + eps) · weight + bias; weight, bias [N] or zeroed handles. */
KILN_API kiln_tensor kiln_layer_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, kiln_tensor bias,
                                     float eps);

/* x / max(√Σx², eps). */
KILN_API kiln_tensor kiln_l2_norm(kiln_graph *graph, kiln_tensor x, float eps);

/* x / (1 + e^−x). */
KILN_API kiln_tensor kiln_silu(kiln_graph *graph, kiln_tensor x);

/* exact: x·Φ(x) by erf; otherwise 0.5·x·(1 + tanh(0.7978845608·(x + 0.044715·x³))). */
KILN_API kiln_tensor kiln_gelu(kiln_graph *graph, kiln_tensor x, bool exact);

/* cap·tanh(x/cap), cap > 0. */
KILN_API kiln_tensor kiln_softcap(kiln_graph *graph, kiln_tensor x, float cap);

/* Mean of the rows t with mask[..., t] ≠ 0. x: [..., T, H], mask: [..., T] f32, u8 or i32, or a zeroed handle
 * for all rows; y: [..., H] ([T,H] gives [H]). No row left: zeros. */
KILN_API kiln_tensor kiln_mean_pool(kiln_graph *graph, kiln_tensor x, kiln_tensor mask);

/* A dense copy in the given dtype. float → float (round to nearest even), integer → the same integer dtype,
 * block → f32. Any strides, the innermost included. */
KILN_API kiln_tensor kiln_copy(kiln_graph *graph, kiln_tensor x, kiln_dtype dtype);

/* Tensors of one dtype one after the other along an axis; other dimensions equal. */
KILN_API kiln_tensor kiln_concat(kiln_graph *graph, const kiln_tensor *parts, uint32_t n_parts, int64_t axis);

/* Rows of x [..., K] in the form that integer and bf16 dot products take; K a multiple of 32 for q8_a. Baking
 * adds it by itself for `fast` precision. */
KILN_API kiln_tensor kiln_quantize(kiln_graph *graph, kiln_tensor x, kiln_quant quant);

/* ---- blocks ----------------------------------------------------------------------------------------- */

/* A whole expert-routed feed-forward block from the ops above: router matmul, softmax, gather_topk, matmul_id
 * gate and up, swiglu, matmul_id down, weighted_sum. */
typedef struct kiln_moe_ffn_spec {
    kiln_tensor x;        /* [T,H] */
    kiln_tensor router;   /* [E,H] */
    kiln_tensor gate;     /* [E,N,H]; with `up` zeroed, gate and up packed: [E,2N,H], gate first */
    kiln_tensor up;       /* [E,N,H] or zeroed */
    kiln_tensor down;     /* [E,H,N] */
    kiln_tensor scale;    /* [E] per-expert scale, or zeroed */
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
