/* Fusion rules by name; each can be switched off for a plan (kiln_bake_options.no_fuse). */
#ifndef KILN_FUSION_H
#define KILN_FUSION_H

enum {
    KILN_FUSE_SOFTMAX_TOPK = 1 << 0, /* softmax, gather_topk */
    KILN_FUSE_NORM_WEIGHT = 1 << 1,  /* rms_norm, mul by a weight */
    KILN_FUSE_ADD_NORM = 1 << 2,     /* add, rms_norm */
    KILN_FUSE_QUANTIZE = 1 << 3,     /* swiglu or a norm, and the quantisation of what it makes */
    KILN_FUSE_SUM_RESIDUAL = 1 << 4, /* weighted_sum, add */
    KILN_FUSE_ROPE_APPEND = 1 << 5,  /* rope, set_rows */
    KILN_FUSE_ALL = (1 << 6) - 1
};

#endif
