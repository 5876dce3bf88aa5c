/* Shared by the op files: checks with complete messages, and declarations of the descriptors. Internal.
 *
 * A check returns KILN_OK or what kiln_infer_fail returned, so that infer functions read as a list of checks.
 * `i` is an operand's index and `name` what messages call it. Absent operands pass every check, so that
 * optional ones need no extra test (required ones were seen to before infer runs).
 */
#ifndef KILN_INFER_UTIL_H
#define KILN_INFER_UTIL_H

#include "kiln_ops.h"

#define KILN_OP(name) extern const kiln_op kiln__op_##name;
#include "op_list.inc"
#undef KILN_OP

/* Sets of dtypes as bit masks. */
#define KILN__DT(NAME) (1u << KILN_##NAME)
enum {
    KILN__FLOATS = KILN__DT(F32) | KILN__DT(F16) | KILN__DT(BF16),
    KILN__INDICES = KILN__DT(I32) | KILN__DT(U32),
};

#define KILN__TRY(check)                                                                                     \
    do {                                                                                                     \
        kiln_status status_ = (check);                                                                       \
        if (status_ != KILN_OK)                                                                              \
            return status_;                                                                                  \
    } while (0)

/* Operand i, NULL when absent. */
static inline const kiln_desc *kiln__in(const kiln_infer *infer, uint32_t i) {
    return i < infer->n_in ? infer->in[i] : NULL;
}

/* One of `dtypes`, ndim_min … ndim_max dimensions, and the elements of a row adjacent. */
kiln_status kiln__need(const kiln_infer *infer, uint32_t i, const char *name, uint32_t dtypes,
                       uint32_t ndim_min, uint32_t ndim_max);
/* Only the elements of a row adjacent. */
kiln_status kiln__need_dense_rows(const kiln_infer *infer, uint32_t i, const char *name);
/* Axis `axis` (from the front; negative: from the end) of operand i equals axis `j_axis` of operand j. */
kiln_status kiln__need_axis(const kiln_infer *infer, uint32_t i, const char *name, int axis, uint32_t j,
                            const char *j_name, int j_axis);
/* Operands i and j have the same dimensions. */
kiln_status kiln__need_same(const kiln_infer *infer, uint32_t i, const char *name, uint32_t j,
                            const char *j_name);
/* Operand i can be repeated to the dimensions of `to`: counted from the innermost, axes are equal or 1. */
kiln_status kiln__need_broadcast(const kiln_infer *infer, uint32_t i, const char *name, const kiln_desc *to,
                                 const char *to_name);
/* Axis of operand i is a constant, not a symbol, and at least 1. `why` ends the message. */
kiln_status kiln__need_constant(const kiln_infer *infer, uint32_t i, const char *name, int axis,
                                const char *why);

/* Operand i is a vector of floats, one per column of operand `of`: a weight or a bias. */
kiln_status kiln__need_vector(const kiln_infer *infer, uint32_t i, const char *name, uint32_t of,
                              const char *of_name);
/* `axis` (from the front; negative: from the end) is one of operand i's; *at is it from the front. */
kiln_status kiln__need_axis_in(const kiln_infer *infer, uint32_t i, const char *name, int64_t axis,
                               uint32_t *at);
/* Positions in a row of operand i fit i32. */
kiln_status kiln__need_short_rows(const kiln_infer *infer, uint32_t i, const char *name);

/* Output j gets the dimensions of `like` and `dtype`. */
static inline void kiln__out_like(const kiln_infer *infer, uint32_t j, const kiln_desc *like,
                                  kiln_dtype dtype) {
    infer->out[j] = *like;
    infer->out[j].dtype = dtype;
}

/* y in f32, as x [...] of any float dtype: all of `infer` for ops with nothing else,
 * a beginning for others. */
kiln_status kiln__infer_unary(kiln_infer *infer);
/* The same of a, with b of any float dtype repeated to a. */
kiln_status kiln__infer_binary(kiln_infer *infer);

/* In-place pairs of ops that share a kernel's walk. */
extern const kiln_inplace kiln__inplace_unary[1];
extern const kiln_inplace kiln__inplace_binary[2];
extern const kiln_inplace kiln__inplace_norm[1];

/* The attributes of rms_norm, which are add_rms_norm's too. */
extern const kiln_attr kiln__rms_norm_attr_rows[2];

/* Names of kiln_act and kiln_quant, as in JSON. */
extern const char *const kiln__act_names[4];
extern const char *const kiln__quant_names[4];

/* The dtype of a second, quantised copy; KILN_DTYPE_NONE for KILN_QUANT_NONE. */
kiln_dtype kiln__quant_dtype(uint32_t quant);
/* Output j as a quantised copy of output `of`, or one output fewer when quant is NONE: j must be the last. */
kiln_status kiln__out_quant(kiln_infer *infer, uint32_t j, uint32_t of, uint32_t quant);

/* Adds a node and returns its first output; `outputs` may be NULL, else it receives all of them. */
kiln_tensor kiln__add_node(kiln_graph *graph, const kiln_op *op, const kiln_tensor *inputs, uint32_t n,
                           const void *attrs, kiln_tensor *outputs);

#endif
