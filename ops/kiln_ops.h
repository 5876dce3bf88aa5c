/* The ops, as builder functions over `kiln_node_add`. Each returns the handle of its (first) output and
 * remembers the first error in the graph; see kiln_graph.h. All of them are called from the graph's one
 * thread.
 *
 * Shapes are row-major, outermost first: T tokens, E experts, k experts per token, K inner size, N columns,
 * H hidden size. "..." stands for any leading dimensions, four in all. Inputs may be views with any strides
 * unless said otherwise, with the elements of the innermost axis adjacent (permute last axes with
 * `kiln_copy`). A row is the innermost axis. Arithmetic is f32, outputs are f32 unless said otherwise. A sum
 * adds short runs of terms in f32 and these in double, so that its error does not grow with the number of
 * terms; each op says how much of Σ|terms| it may be, beside the rounding of the terms themselves. "float"
 * means f32, f16 or bf16, "block" one of the quantised weight dtypes q4_0 … q6_K. Operands may differ in
 * dtype unless said otherwise. Every op gives KILN_ERROR_SHAPE and KILN_ERROR_DTYPE for operands that do not
 * fit, with node, operand, expected and actual in the text, and the errors of kiln_node_add. Optional
 * operands are absent as zeroed handles. A pointer to a further output receives its handle, invalid after an
 * error.
 *
 * An index read from data that is out of range ends nothing: its row is zeroed, or its write dropped, and
 * kiln_wait returns KILN_ERROR_INDEX with the first of them: node, row, index and bounds.
 *
 * Each op's attribute struct is public (kiln_attrs.h), so that `kiln_node_add` and JSON can set every
 * field. A field of such a struct that is 0 means its default, or is refused by name. An argument that is
 * no struct means what it says, 0 too.
 */
#ifndef KILN_OPS_H
#define KILN_OPS_H

#include "kiln_attrs.h"
#include "kiln_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Kiln's own ops, for `kiln_graph_from_json` and `kiln_op_find`. Static; any thread. */
KILN_API kiln_op_set kiln_ops_builtin(void);

/* The op with that name in a set, or NULL; the set's, not the caller's. Any thread. */
KILN_API const kiln_op *kiln_op_find(kiln_op_set set, const char *name);

/* ---- matrices --------------------------------------------------------------------------------------- */

/* y[..., n] = Σ_j w[n,j]·x[..., j]. w: [N,K], any float or block dtype, K constant. x: [..., K] float, or
 * [..., h, d] with h·d = K (so the permuted output of an attention needs no copy). y: [..., N]. With
 * KILN_PRECISION_FAST, baking may round x as kiln_precision says. Error of a sum of any K: 6e-6·Σ|w·x| at
 * most (measured: below 1.5e-6); of blocks against q8_a 8e-6 of what Σ|w·x| would be with mins apart from the
 * rest. So are those of kiln_matmul_id. */
KILN_API kiln_tensor kiln_matmul(kiln_graph *graph, kiln_tensor w, kiln_tensor x);

/* The same with a copy of w in f16 (`shadow`, [N,K]) that kernels may use instead where it is faster (those
 * for CPUs do not). The caller keeps the two equal. */
KILN_API kiln_tensor kiln_matmul_shadow(kiln_graph *graph, kiln_tensor w, kiln_tensor x, kiln_tensor shadow);

/* y[t,s,:] = W[ids[t,s]]·x[t] or ·x[t,s]. w: [E,N,K] float or block dtype, the expert stride may be larger
 * than N rows. x: [T,K] (one row for all slots) or [T,k,K] (a row per slot), float. ids: [T,k] i32 or u32;
 * duplicates are legal; an id outside [0,E) gives a zero row and KILN_ERROR_INDEX on the fence, where the row
 * is t·k + s. E, K and k constant, T·k < 2³¹ (else KILN_ERROR_LIMIT). y: [T,k,N]. */
KILN_API kiln_tensor kiln_matmul_id(kiln_graph *graph, kiln_tensor w, kiln_tensor x, kiln_tensor ids);

/* The same with the experts as n_experts separate tensors [N,K] of one dtype and shape, 1,019 at most
 * (KILN_ERROR_LIMIT: a node has 1,024 operands at most); a single one may also be all of them, [E,N,K]. */
KILN_API kiln_tensor kiln_matmul_id_split(kiln_graph *graph, const kiln_tensor *w, uint32_t n_experts,
                                          kiln_tensor x, kiln_tensor ids);

/* Groups (token, slot) pairs by expert. ids: [T,k] i32 or u32, k constant, T·k < 2³¹ (else KILN_ERROR_LIMIT);
 * 1 ≤ n_experts ≤ 2³¹ - 3. Returns the offsets of the groups, [E+2] i32; *entries (may be NULL) receives the
 * pairs, [k·T] i32, entry = token·k + slot, ascending within an expert; the last group (E) holds the pairs
 * whose id is out of range (that is no error here). Filled only where there are so many tokens that matmul_id
 * uses them: for that op, which baking gives it by itself where it profits. */
KILN_API kiln_tensor kiln_expert_map(kiln_graph *graph, kiln_tensor ids, int64_t n_experts,
                                     kiln_tensor *entries);

/* The k largest of each row of probs [T,E] float, or the first k of order [T,E] i32 when given (ids out of
 * range there give weight 0 and KILN_ERROR_INDEX). E constant, 1 ≤ k ≤ E. ids [T,k] i32 (ties: lowest id; NaN
 * last; always distinct, but as `order` has them), weights [T,k] f32: the probs of those, after
 * attrs.softmax, divided by their sum (unless attrs.no_normalise) and then times scale [E] f32. `order` and
 * `scale` are optional. The returned tensor is ids; *weights (may be NULL) receives the other. */
KILN_API kiln_tensor kiln_gather_topk(kiln_graph *graph, kiln_tensor probs, kiln_tensor order,
                                      kiln_tensor scale, kiln_gather_topk_attrs attrs, kiln_tensor *weights);

/* act(gate)·up, element by element; activations as of kiln_silu and kiln_gelu, relu: max(x, 0). One operand:
 * [..., 2N], gate first; two: [..., N] each. float in, f32 out [..., N]. (N. Shazeer, "GLU Variants Improve
 * Transformer", arXiv:2002.05202.) */
KILN_API kiln_tensor kiln_swiglu(kiln_graph *graph, kiln_tensor gate, kiln_tensor up, kiln_act act);
KILN_API kiln_tensor kiln_swiglu_packed(kiln_graph *graph, kiln_tensor gate_up, kiln_act act);

/* y[t,:] = Σ_s w[t,s]·x[t,s,:], s ascending. x: [T,k,H] float, w: [T,k] f32, y: [T,H]. Optional residual
 * [T,H] float is added first of all; optional shared [T,H] float with shared_logit [T,1] float adds
 * sigmoid(logit)·shared (without a logit: shared) at the end. A logit without shared: KILN_ERROR_ARGUMENT.
 * Error of the sum, for any k: 1.2e-6 of its terms' absolute values at most. */
KILN_API kiln_tensor kiln_weighted_sum(kiln_graph *graph, kiln_tensor x, kiln_tensor w);
KILN_API kiln_tensor kiln_weighted_sum_full(kiln_graph *graph, kiln_tensor x, kiln_tensor w,
                                            kiln_tensor residual, kiln_tensor shared,
                                            kiln_tensor shared_logit);

/* acc += w·x in place; never skipped for a small w (0·Inf is NaN). acc: f32 [...], of a state or an
 * intermediate (KILN_ERROR_ARGUMENT for a weight, an input or a broadcast view), x: the same shape, float.
 * w: a one-element f32 tensor, or 1 when the handle is zeroed; of kiln_accumulate_by a constant or a slot
 * (all of it 0: 1; kiln_f32_const(0): 0). Returns acc's new value: whoever must see it reads (a view of)
 * that. */
KILN_API kiln_tensor kiln_accumulate(kiln_graph *graph, kiln_tensor acc, kiln_tensor x, kiln_tensor w);
KILN_API kiln_tensor kiln_accumulate_by(kiln_graph *graph, kiln_tensor acc, kiln_tensor x, kiln_f32_value w);

/* Sets all elements of a tensor to zero in place; any dtype but activations; of a state or an intermediate,
 * as above. Returns its new value. */
KILN_API kiln_tensor kiln_zero(kiln_graph *graph, kiln_tensor x);

/* A fresh f32 tensor of zeros, an intermediate: the start of a chain of kiln_accumulate. `dims` and errors as
 * for kiln_input, without names. */
KILN_API kiln_tensor kiln_zeros(kiln_graph *graph, uint32_t ndim, const kiln_dim *dims);

/* softmax of scale·x + mask along an axis: e^(z − max z) / Σ e^(z − max z). x: [...] float. mask: optional,
 * f32 (added) or u8 (0 = left out), as long as x's rows, broadcast over its leading axes. y: f32, x's shape.
 * All along the axis left out (or −Inf): zeros. Relative error, beside that of z: 2e-6 at most for any
 * length. */
KILN_API kiln_tensor kiln_softmax(kiln_graph *graph, kiln_tensor x, kiln_tensor mask,
                                  kiln_softmax_attrs attrs);

/* Positions that sort each row of x [...] float: i32, same shape. Stable; NaN last in either direction. Rows
 * of 2³¹ - 1 at most (KILN_ERROR_LIMIT). */
KILN_API kiln_tensor kiln_argsort(kiln_graph *graph, kiln_tensor x, bool descending);

/* The k largest of each row of x [..., N] float, descending, ties to the lowest index, NaN last: values
 * [..., k] f32; *indices receives [..., k] i32 (may be NULL). N constant, at most 2³¹ - 1 (KILN_ERROR_LIMIT),
 * 1 ≤ k ≤ N. */
KILN_API kiln_tensor kiln_top_k(kiln_graph *graph, kiln_tensor x, int64_t k, kiln_tensor *indices);

/* Index of the largest of each row of x [..., N] float, 1 to 2³¹ - 1 elements at the symbols' maxima: i32
 * [...] (a row vector [N] gives [1]); ties to the lowest; of NaN only when all are, then 0; −1 of a row that
 * a symbol makes empty in this run. */
KILN_API kiln_tensor kiln_argmax(kiln_graph *graph, kiln_tensor x);

/* ---- rows ------------------------------------------------------------------------------------------- */

/* y[i...,:] = table[ids[i...],:] as f32. table: [N,H] any float or block dtype, ids: [...] i32 or u32 (three
 * dimensions at most), y: [..., H]. An id out of range gives a zero row and KILN_ERROR_INDEX, where rows
 * count the ids in row-major order. */
KILN_API kiln_tensor kiln_get_rows(kiln_graph *graph, kiln_tensor table, kiln_tensor ids);

/* Writes rows [T, ...] (float) into dst [C, ...] (float; 2 to 4 dimensions, those behind the first equal) in
 * place, rounded to nearest even: row t goes to position + t, or to indices[t] ([T] i32, u32 or i64) when
 * that operand is given. `ring`: both are taken modulo C. Of rows that go to one place the last stays. Out of
 * range (negative; without ring also C and above): dropped, and KILN_ERROR_INDEX. Rows that a slot (position,
 * T or C) puts out of range refuse the run before anything of it, with KILN_ERROR_LIMIT. dst is a state or an
 * intermediate (KILN_ERROR_ARGUMENT for a weight, an input or a broadcast view). Returns dst's new value:
 * whoever must see the rows reads (a view of) that. */
KILN_API kiln_tensor kiln_set_rows(kiln_graph *graph, kiln_tensor dst, kiln_tensor rows, kiln_tensor indices,
                                   kiln_set_rows_attrs attrs);

/* Rotary embedding of x [T, heads, d] (or [T, d]); pairs (2i, 2i+1) or, NeoX, (i, i + dims/2) of the first
 * `dims` elements turn by pos·freq_scale·theta^(-2i/dims), the rest is copied. Positions: position + t, or
 * positions[t] (i32 or i64 [T]) + position when given. float in, f32 out, same shape; d constant.
 * (J. Su et al., "RoFormer", arXiv:2104.09864.) */
KILN_API kiln_tensor kiln_rope(kiln_graph *graph, kiln_tensor x, kiln_tensor positions,
                               kiln_rope_attrs attrs);

/* rope then set_rows, in one: the fused form of a KV append. x [T, heads, d] or [T, d] float, dst [C, heads,
 * d] or [C, d] float, `positions` and `indices` optional, as of kiln_rope and kiln_set_rows. The rope's and
 * the append's positions are separate fields. Returns dst's new value. */
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
 * heads, kv_heads, d and dv constant. A query with nothing to attend to gives zeros. Error, beside that of
 * the scores: 3e-6·Σ p|v| / Σ p at most, p being the weights of the keys, for any number of them (measured:
 * below 1e-6 for up to 2^20). What slots show to be impossible is KILN_ERROR_LIMIT when the run is submitted,
 * but for rings: causal with q_position + Tq > Tk where one of these follows a slot; and, without a mask,
 * where k or v is a view of a cache that only appends before the attention write (kiln_set_rows, no indices),
 * which fill the rows before position + T: a Tk that follows a slot and exceeds them, and causal with a
 * constant q_position whose last query stands before the last of them while the append follows a slot
 * (q_position was forgotten). A mask of ones allows the latter two. Not found: a q_position or a rope's
 * position that follows a wrong slot or none that was set, and too few keys where causal is off. (Online
 * softmax: M. Milakov, N. Gimelshein, arXiv:1805.02867.) */
KILN_API kiln_tensor kiln_attention(kiln_graph *graph, kiln_tensor q, kiln_tensor k, kiln_tensor v,
                                    kiln_tensor mask, kiln_attention_attrs attrs);

/* ---- element by element and row by row -------------------------------------------------------------- */

/* a + b and a·b, float [...]; b is broadcast to a: missing leading axes and axes of count 1 repeat. y: f32,
 * of a's shape. */
KILN_API kiln_tensor kiln_add(kiln_graph *graph, kiln_tensor a, kiln_tensor b);
KILN_API kiln_tensor kiln_mul(kiln_graph *graph, kiln_tensor a, kiln_tensor b);

/* scale·x + shift, both constants or slots. x: [...] float; y: f32, same shape. */
KILN_API kiln_tensor kiln_scale(kiln_graph *graph, kiln_tensor x, kiln_scale_attrs attrs);

/* x + b with b [N] repeated over all rows. x: [..., N] float, b: float; y: f32 [..., N]. */
KILN_API kiln_tensor kiln_bias(kiln_graph *graph, kiln_tensor x, kiln_tensor b);

/* Norms (rms, layer, l2): the error of a row's factor is 2e-6 of it at most, that of the mean 3e-6 of the
 * standard deviation, for any N; rows whose squares leave f32's range, above or below, are computed in
 * double. */

/* x / √(mean(x²) + eps) · weight, row by row. x: [..., N] float; weight: optional, [N] float; y: f32 [...,
 * N]. eps ≥ 0. (B. Zhang, R. Sennrich, arXiv:1910.07467.) */
KILN_API kiln_tensor kiln_rms_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, float eps);

/* The fused form of add, then rms_norm: returns the sum a + b (float, of the same shape [..., N]); *normed
 * (may be NULL) receives its norm with the optional weight [N] float. Both outputs f32 [..., N]. */
KILN_API kiln_tensor kiln_add_rms_norm(kiln_graph *graph, kiln_tensor a, kiln_tensor b, kiln_tensor weight,
                                       float eps, kiln_tensor *normed);

/* (x − mean) / √(variance + eps) · weight + bias, row by row; the variance is that of all N elements (divided
 * by N). A mean that is large against the differences does no harm. x: [..., N] float; weight, bias:
 * optional, [N] float; y: f32 [..., N]. eps ≥ 0. (J. Ba et al., arXiv:1607.06450.) */
KILN_API kiln_tensor kiln_layer_norm(kiln_graph *graph, kiln_tensor x, kiln_tensor weight, kiln_tensor bias,
                                     float eps);

/* x / max(√Σx², eps), row by row. x: [..., N] float; y: f32, same shape. eps ≥ 0. */
KILN_API kiln_tensor kiln_l2_norm(kiln_graph *graph, kiln_tensor x, float eps);

/* x / (1 + e^−x). x: [...] float; y: f32, same shape. */
KILN_API kiln_tensor kiln_silu(kiln_graph *graph, kiln_tensor x);

/* exact: x·Φ(x) by erf; otherwise 0.5·x·(1 + tanh(0.7978845608·(x + 0.044715·x³))). x: [...] float; y: f32,
 * same shape. (D. Hendrycks, K. Gimpel, arXiv:1606.08415.) */
KILN_API kiln_tensor kiln_gelu(kiln_graph *graph, kiln_tensor x, bool exact);

/* cap·tanh(x/cap), cap > 0 (KILN_ERROR_ARGUMENT). x: [...] float; y: f32, same shape. */
KILN_API kiln_tensor kiln_softcap(kiln_graph *graph, kiln_tensor x, float cap);

/* Mean of the rows t with mask[..., t] ≠ 0. x: [..., T, H] float, mask: [..., T] f32, u8 or i32, or a zeroed
 * handle for all rows; y: f32 [..., H] ([T,H] gives [H]). No row left: zeros. Error for any T: 1.1e-6 of the
 * mean of the absolute values at most. */
KILN_API kiln_tensor kiln_mean_pool(kiln_graph *graph, kiln_tensor x, kiln_tensor mask);

/* A dense copy of x [...] in the given dtype. float → float (round to nearest even), integer → the same
 * integer dtype, block → f32; others are KILN_ERROR_DTYPE. Any strides, the innermost included. */
KILN_API kiln_tensor kiln_copy(kiln_graph *graph, kiln_tensor x, kiln_dtype dtype);

/* Tensors of one dtype (any but activations; the output has it too) one after the other along an axis,
 * negative counted from the end; other dimensions equal. 1 to 1,024 parts (KILN_ERROR_LIMIT); counts along
 * the axis are constants, or multiples of one symbol. */
KILN_API kiln_tensor kiln_concat(kiln_graph *graph, const kiln_tensor *parts, uint32_t n_parts, int64_t axis);

/* Rows of x [..., K] float in the form that integer and bf16 dot products take: dtype q8_a
 * (kiln_dtype_list.h; K a multiple of 32), bf16 or f16, same shape; KILN_QUANT_NONE is KILN_ERROR_ARGUMENT.
 * Baking adds it by itself for `fast` precision. */
KILN_API kiln_tensor kiln_quantize(kiln_graph *graph, kiln_tensor x, kiln_quant quant);

/* ---- blocks ----------------------------------------------------------------------------------------- */

/* A whole expert-routed feed-forward block from the ops above: router matmul, softmax, gather_topk, matmul_id
 * gate and up, swiglu, matmul_id down, weighted_sum. No node of its own: each of them may be fused and shows
 * in dumps. x, router and residual float, but a router also in blocks; gate, up and down float or block;
 * scale f32. Returns [T,H] f32. Errors: those of the ops; KILN_ERROR_ARGUMENT when spec is NULL or k
 * is 0. A field that is 0 means its default, as in attribute structs. */
typedef struct kiln_moe_ffn_spec {
    kiln_tensor x;        /* [T,H] */
    kiln_tensor router;   /* [E,H] */
    kiln_tensor gate;     /* [E,N,H]; with `up` zeroed, gate and up packed: [E,2N,H], gate first */
    kiln_tensor up;       /* [E,N,H] or zeroed */
    kiln_tensor down;     /* [E,H,N] */
    kiln_tensor scale;    /* [E] per-expert scale, or zeroed */
    kiln_tensor residual; /* [T,H], or zeroed */
    int64_t k;            /* experts per token, 1 ≤ k ≤ E; must be set */
    bool no_normalise;    /* leave the chosen weights as they are; else they are divided by their sum */
    bool softmax_chosen;  /* softmax over the chosen ones instead of over all experts */
    kiln_act act;         /* (SILU) */
} kiln_moe_ffn_spec;
KILN_API kiln_tensor kiln_moe_ffn(kiln_graph *graph, const kiln_moe_ffn_spec *spec);

#ifdef __cplusplus
}
#endif
#endif
