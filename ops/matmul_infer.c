#include "matmul_infer.h"
#include "operands.h"

#include <stdio.h>

static int64_t last_dim(const kiln_desc *d) {
    return d->dims[d->ndim - 1].n;
}

/* The innermost two dimensions are constants with product k. */
static bool splits(const kiln_desc *x, int64_t k) {
    int64_t product;
    if (x->ndim < 2 || x->dims[x->ndim - 1].slot != 0 || x->dims[x->ndim - 2].slot != 0)
        return false;
    return !__builtin_mul_overflow(last_dim(x), x->dims[x->ndim - 2].n, &product) && product == k;
}

kiln_status kiln__need_inner(const kiln_infer *infer, uint32_t wi, uint32_t xi, bool *split) {
    const kiln_desc *w = infer->in[wi], *x = infer->in[xi];
    KILN__TRY(kiln__need_constant(infer, wi, "w", -1, "it is the inner size K"));
    if (split != NULL)
        *split = false;
    if (kiln_dim_equal(w->dims[w->ndim - 1], x->dims[x->ndim - 1]))
        return KILN_OK;
    if (split != NULL && splits(x, last_dim(w))) {
        *split = true;
        return KILN_OK;
    }
    char ws[KILN_SHAPE_TEXT_SIZE], xs[KILN_SHAPE_TEXT_SIZE], got[KILN_SHAPE_TEXT_SIZE], hint[96] = "";
    if (kiln_dim_equal(w->dims[w->ndim - 2], x->dims[x->ndim - 1]))
        snprintf(hint, sizeof hint, "; w's rows count %lld: is it transposed?",
                 (long long)w->dims[w->ndim - 2].n);
    return kiln_infer_fail(
        infer, KILN_ERROR_SHAPE, "w is %s and x is %s: the inner sizes %lld and %s differ%s",
        kiln_infer_shape_text(infer, w, ws), kiln_infer_shape_text(infer, x, xs), (long long)last_dim(w),
        kiln_infer_dim_text(infer, x->dims[x->ndim - 1], got), hint);
}

/* The dimensions of x, or those with its `tail` innermost ones as one of K. */
static bool xq_fits(const kiln_desc *x, const kiln_desc *xq, uint32_t tail, kiln_dim k) {
    uint32_t lead = x->ndim - tail;
    bool merged = xq->ndim == lead + 1 && kiln_dim_equal(xq->dims[lead], k);
    if (!merged && xq->ndim != x->ndim)
        return false;
    for (uint32_t i = 0; i < (merged ? lead : x->ndim); i++)
        if (!kiln_dim_equal(x->dims[i], xq->dims[i]))
            return false;
    return true;
}

kiln_status kiln__need_xq(const kiln_infer *infer, uint32_t wi, uint32_t xi, uint32_t xqi, uint32_t tail) {
    const kiln_desc *w = infer->in[wi], *x = infer->in[xi], *xq = kiln__in(infer, xqi);
    if (xq == NULL)
        return KILN_OK;
    const kiln_dtype_info *info = kiln_dtype_get(xq->dtype);
    char xs[KILN_SHAPE_TEXT_SIZE], got[KILN_SHAPE_TEXT_SIZE];
    if (!kiln__takes_xq(w->dtype, xq->dtype))
        return kiln_infer_fail(infer, KILN_ERROR_DTYPE,
                               "xq is %s, which w in %s cannot be multiplied with (blocks take q8_a, f16 and "
                               "bf16 take bf16 or f16, f32 takes none)",
                               info->name, kiln_dtype_get(w->dtype)->name);
    if (!xq_fits(x, xq, tail, w->dims[w->ndim - 1]))
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "xq %s must have the dimensions of x %s",
                               kiln_infer_shape_text(infer, xq, got), kiln_infer_shape_text(infer, x, xs));
    KILN__TRY(kiln__need_dense_rows(infer, xqi, "xq"));
    int64_t row = last_dim(xq) / info->block * info->bytes;
    if (tail == 2 && xq->ndim == x->ndim && xq->strides[xq->ndim - 2] != row)
        return kiln_infer_fail(
            infer, KILN_ERROR_SHAPE,
            "the rows of xq %s are %lld bytes apart; those of a token must be adjacent, %lld "
            "bytes",
            kiln_infer_shape_text(infer, xq, got), (long long)xq->strides[xq->ndim - 2], (long long)row);
    return KILN_OK;
}

kiln_status kiln__need_ids(const kiln_infer *infer, uint32_t i, kiln_dim *pairs) {
    KILN__TRY(kiln__need(infer, i, "ids", KILN__INDICES, 2, 2));
    KILN__TRY(kiln__need_constant(infer, i, "ids", 1, "it is the number of experts per token"));
    const kiln_desc *ids = infer->in[i];
    int64_t most;
    char shape[KILN_SHAPE_TEXT_SIZE];
    pairs->slot = ids->dims[0].slot;
    if (__builtin_mul_overflow(ids->dims[0].n, ids->dims[1].n, &pairs->n) ||
        __builtin_mul_overflow(kiln_infer_dim_max(infer, ids->dims[0]), ids->dims[1].n, &most) ||
        most > INT32_MAX)
        return kiln_infer_fail(infer, KILN_ERROR_LIMIT,
                               "ids %s has more than 2147483647 (token, slot) pairs at its maximum",
                               kiln_infer_shape_text(infer, ids, shape));
    return KILN_OK;
}
