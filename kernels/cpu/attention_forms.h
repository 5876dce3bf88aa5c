/* The two forms of attention, for kernels/cpu/attention*.c: start, one block of keys, finish. */
#ifndef KILN_ATTENTION_FORMS_H
#define KILN_ATTENTION_FORMS_H

#include "attention.h"
#include "rows.h"

#include <math.h>

void KILN_LEVEL_FN(att_few)(kiln__att *a);
void KILN_LEVEL_FN(att_many)(kiln__att *a);

/* The next block from `position` on, k and v converted when they are not f32. */
kiln__att_block KILN_LEVEL_FN(att_block)(const kiln__att *a, int64_t position);

/* What the mask adds to the score of key row `row`: -Inf leaves it out. */
static inline float kiln__att_mask(const kiln__att *a, const unsigned char *mask, int64_t row) {
    const unsigned char *p = mask + row * a->mask_step;
    return a->mask_type == KILN_F32 ? *(const float *)(const void *)p : *p ? 0.0f : -INFINITY;
}

/* Are all values of v in the block finite?
 * If not, keys that are left out must not even be multiplied by 0. */
static inline bool kiln__att_finite(const kiln__att *a, const kiln__att_block *b) {
    vf bad = {0};
    for (int64_t j = 0; j < b->n; j++)
        for (int64_t c = 0; c < a->dv; c += KILN_VL)
            bad += vf_load_n(kiln__att_value(b, j) + c, a->dv - c) * 0.0f;
    float total = vf_sum(bad);
    return total == total;
}

/* Row m of the output from `values`, times 1/sum: zeros when nothing was attended to. */
static inline float kiln__att_inverse(float sum) {
    return sum == 0.0f ? 0.0f : 1.0f / sum;
}
static inline float *kiln__att_out(const kiln__att *a, const kiln__att_row *r) {
    return (float *)(void *)(a->y->data + a->batch * a->y->nb[0] + r->query * a->y->nb[1] +
                             r->head * a->y->nb[2]);
}

#endif
