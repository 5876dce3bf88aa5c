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

/* What a block adds to a numerator: Σ_j p[j·step]·v[j][c], in runs as the forms without NaN or Inf in v add
 * it, but without the keys that have no weight: 0·NaN must not come in. */
static inline float kiln__att_careful(const kiln__att_block *b, const float *p, int64_t step, int64_t c) {
    float total = 0.0f;
    for (int64_t j = 0; j < b->n; j += RUN) {
        float sum = 0.0f;
        for (int64_t i = j; i < b->n && i < j + RUN; i++)
            if (p[i * step] != 0.0f)
                sum = madd(p[i * step], kiln__att_value(b, i)[c], sum);
        total += sum;
    }
    return total;
}

/* A numerator's vector after a block: what it was, scaled to the new maximum, and what the block adds. */
KILN_INLINE void kiln__att_join(double *out, vw factor, vf block) {
    vw_store(out, vw_load(out) * factor + vf_wide(block));
}

/* 1/sum, or 0 when nothing was attended to: then the output is zeros. */
static inline double kiln__att_inverse(double sum) {
    return sum == 0.0 ? 0.0 : 1.0 / sum;
}
static inline float *kiln__att_out(const kiln__att *a, const kiln__att_row *r) {
    return (float *)(void *)(a->y->data + a->batch * a->y->nb[0] + r->query * a->y->nb[1] +
                             r->head * a->y->nb[2]);
}

#endif
