/* Filling kernel arguments from a node: shared by executors and by the tests' eager runner. Internal; it
 * knows descriptions, not graphs. */
#ifndef KILN_ARGS_H
#define KILN_ARGS_H

#include "kiln_op.h"

/* An operand at given counts: `ne` holds desc->ndim counts. Pads to four dimensions in front. */
static inline void kiln__operand_fill(kiln_operand *o, const kiln_desc *desc, const int64_t *ne) {
    uint32_t pad = KILN_MAX_DIMS - desc->ndim;
    o->dtype = (uint32_t)desc->dtype;
    o->ndim = (uint16_t)desc->ndim;
    for (uint32_t i = 0; i < KILN_MAX_DIMS; i++) {
        o->ne[i] = i < pad ? 1 : ne[i - pad];
        o->nb[i] = i < pad ? 0 : desc->strides[i - pad];
    }
}

/* Sets `flat` from the counts, after they were filled or have changed. */
static inline void kiln__args_flatten(const kiln_args *args) {
    for (uint32_t i = 0; i < args->n_in + args->n_out; i++) {
        kiln_operand *o = i < args->n_in ? &args->in[i] : &args->out[i - args->n_in];
        const kiln_dtype_info *info = kiln_dtype_get((kiln_dtype)o->dtype);
        if (info == NULL)
            continue; /* absent */
        int64_t expect = info->bytes;
        bool flat = true;
        for (int k = KILN_MAX_DIMS - 1; k >= 0; k--) {
            int64_t n = k == KILN_MAX_DIMS - 1 && info->block > 1 ? o->ne[k] / info->block : o->ne[k];
            flat = flat && (n == 1 || o->nb[k] == expect);
            expect *= n; /* fits: never more than at the maxima, which were checked */
        }
        o->flat = flat;
    }
}

/* The kernel for these arguments on a processor with `features`: the last supported one, or NULL. */
static inline const kiln_kernel *kiln__kernel_choose(const kiln_op *op, const kiln_args *args,
                                                     uint32_t features) {
    const kiln_kernel *best = NULL;
    for (uint32_t i = 0; i < op->n_kernels; i++) {
        const kiln_kernel *k = &op->kernels[i];
        if ((k->cpu & features) == k->cpu && (k->supports == NULL || k->supports(args)))
            best = k;
    }
    return best;
}

#endif
