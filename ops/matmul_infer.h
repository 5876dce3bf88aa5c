/* Checks shared by matmul and matmul_id. Internal. */
#ifndef KILN_MATMUL_INFER_H
#define KILN_MATMUL_INFER_H

#include "infer_util.h"

/* Dtypes that weights and tables may have. */
enum {
    KILN__BLOCKS = 0
#define KILN_DTYPE(NAME, lower, kind, block, bytes, align, text)                                             \
    | (KILN_KIND_##kind == KILN_KIND_BLOCK ? KILN__DT(NAME) : 0u)
#include "kiln_dtype_list.h"
#undef KILN_DTYPE
    ,
    KILN__WEIGHTS = KILN__FLOATS | KILN__BLOCKS
};

/* The last dimension of x is w's K; or, where `split` is not NULL, the last two multiply to it and *split is
 * set. */
kiln_status kiln__need_inner(const kiln_infer *infer, uint32_t w, uint32_t x, bool *split);

/* xq, when present, is a form of x that weights of w's dtype can be multiplied with. `tail`: over how many
 * innermost dimensions of x the K elements of a token run. */
kiln_status kiln__need_xq(const kiln_infer *infer, uint32_t w, uint32_t x, uint32_t xq, uint32_t tail);

/* Operand i is a table of expert ids [T,k], k a constant;
 * gives T·k, which is below 2^31 so that a map can number the pairs. */
kiln_status kiln__need_ids(const kiln_infer *infer, uint32_t i, kiln_dim *pairs);

#endif
