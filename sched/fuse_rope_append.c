/* rope, then set_rows of the result into a cache: one rope_set_rows.
 *
 * Legal when
 * - set_rows appends all rows of the rope's output, one row of the cache per token: the output itself, or a
 *   view of all its bytes, dense as it is, with the same outermost dimension (heads and elements merged or
 *   split);
 * - in the latter case the cache can be seen in the rope's shape: its own inner dimensions are dense. Only
 *   shapes change; whoever reads the cache reads bytes;
 * - the turned rows have the dtype that set_rows would round from in any case (f32, no other reader);
 * - nobody else may see the turned rows (is_private), and the two can meet: in particular the rope's operands
 *   are not written by the append.
 */
#include "rewriter.h"

#include "infer_util.h"

enum { DST, ROWS, INDICES };

/* dst [C, ...] as [C, inner dimensions of rows].
 * 0: not possible, or (remembered by the graph) out of memory. */
static uint32_t dst_like(kiln__rewriter *rw, uint32_t dst, const kiln_desc *rows) {
    kiln_desc desc = *kiln__rewriter_desc(rw, dst);
    int64_t expect = kiln_dtype_get(desc.dtype)->bytes;
    for (uint32_t i = desc.ndim; i-- > 1;) { /* a row of dst must be one run */
        if (desc.dims[i].slot != 0 || desc.strides[i] != expect)
            return 0;
        expect *= desc.dims[i].n;
    }
    int64_t stride = kiln_dtype_get(desc.dtype)->bytes;
    for (uint32_t i = rows->ndim; i-- > 1;) {
        if (rows->dims[i].slot != 0)
            return 0;
        desc.dims[i] = rows->dims[i];
        desc.strides[i] = stride;
        stride *= rows->dims[i].n;
    }
    for (uint32_t i = rows->ndim; i < KILN_MAX_DIMS; i++) {
        desc.dims[i] = (kiln_dim){0, 0};
        desc.strides[i] = 0;
    }
    desc.ndim = rows->ndim;
    return stride == expect ? kiln__rewriter_view(rw, dst, &desc) : 0;
}

/* The dst operand and the output for rows of the rope's shape. False: not possible, or out of memory. */
static bool shape_dst(kiln__rewriter *rw, uint32_t node, const kiln_desc *turned, uint32_t *dst,
                      uint32_t *out) {
    const kiln_desc shape = *turned; /* making views may move tensors */
    const kiln_desc *rows = kiln__rewriter_desc(rw, kiln__rewriter_in(rw, node, ROWS));
    *dst = kiln__rewriter_in(rw, node, DST);
    *out = kiln__rewriter_out(rw, node, 0);
    if (kiln__same_dims(rows, &shape))
        return true;
    /* The first dimension of a dense tensor can be told apart from the rest only when it is the same. */
    if (rows->dims[0].n != shape.dims[0].n || rows->dims[0].slot != shape.dims[0].slot || shape.ndim < 2 ||
        kiln__rewriter_is_kept(rw, *out))
        return false;
    *dst = dst_like(rw, *dst, &shape);
    *out = *dst ? dst_like(rw, *out, &shape) : 0;
    return *out != 0;
}

kiln_status kiln__fuse_rope_append(kiln__rewriter *rw, uint32_t node) {
    kiln__link link;
    bool ok;
    uint32_t at, dst, out;
    if (!kiln__rewriter_link(rw, node, ROWS, &kiln__op_rope, &link) || !kiln__rewriter_is_private(rw, &link))
        return KILN_OK;
    kiln_status status = kiln__rewriter_meet(rw, &link, &ok, &at);
    if (status != KILN_OK || !ok)
        return status;
    const kiln_desc *turned = kiln__rewriter_desc(rw, kiln__rewriter_out(rw, link.from, 0));
    if (!shape_dst(rw, node, turned, &dst, &out))
        return rw->g->error.status;
    kiln_rope_set_rows_attrs attrs = {.rope = *(const kiln_rope_attrs *)kiln__rewriter_attrs(rw, link.from),
                                      .rows = *(const kiln_set_rows_attrs *)kiln__rewriter_attrs(rw, node)};
    kiln__fused fused = {.op = &kiln__op_rope_set_rows,
                         .in = {dst, kiln__rewriter_in(rw, link.from, 0), kiln__rewriter_in(rw, link.from, 1),
                                kiln__rewriter_in(rw, node, INDICES)},
                         .n_in = 4,
                         .out = {out},
                         .n_out = 1,
                         .attrs = &attrs};
    return kiln__rewriter_fuse(rw, &link, at, &fused);
}
