/* The functions that ops apply to vectors: exp, tanh, the activations; and maps and sums over rows.
 *
 * A row is walked in whole vectors; its last part is copied to a padded vector and goes through the same
 * code, so a value never depends on where in a row it stands.
 *
 * Measured errors against libm in double are held by tests/kernels/test_vec.c.
 */
#ifndef KILN_VEC_MATH_H
#define KILN_VEC_MATH_H

#include "vec.h"

/* e^x: x = n·ln 2 + r, |r| ≤ ln 2 / 2, e^r by a polynomial (coefficients of Cephes' expf, S. L. Moshier),
 * then times 2^n in two steps, so that results below the smallest normal number are right too. For x ≤ 89. */
static inline vf vf_exp_small(vf x) {
    const float magic = 12582912.0f; /* 1.5·2^23: adding it rounds to an integer in the low bits */
    vf c = vf_at_least(x, -105.0f);
    vf t = c * 1.44269504088896341f + magic;
    vf n = t - magic;
    vf r = c - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vi whole = (vi)((vu)t - (vu)vf_set(magic));
    vi half = whole >> 1;
    vf s1 = (vf)(((vu)half + 127u) << 23), s2 = (vf)(((vu)whole - (vu)half + 127u) << 23);
    return p * s1 * s2;
}

/* e^x for every x. */
static inline vf vf_exp(vf x) {
    return vf_exp_small(vf_at_most(x, 89.0f));
}

/* 1 / (1 + e^-x) */
static inline vf vf_sigmoid(vf x) {
    return 1.0f / (1.0f + vf_exp(-x));
}

/* x / (1 + e^-x) */
static inline vf vf_silu(vf x) {
    return x / (1.0f + vf_exp(-x));
}

/* tanh: odd polynomial below 0.625 (Cephes' tanhf), 1 - 2 / (e^2|x| + 1) above. */
static inline vf vf_tanh(vf x) {
    vf a = vf_abs(x), z = x * x;
    vf p = z * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * z + -5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z + -3.33332819422e-1f;
    p = p * z * x + x;
    vf far = vf_copysign(1.0f - 2.0f / (vf_exp(a + a) + 1.0f), x);
    return vf_select(a < 0.625f, p, far);
}

/* 0.5·x·(1 + tanh(u)), u = √(2/π)·(x + 0.044715·x³), which is x / (1 + e^-2u). */
static inline vf vf_gelu_tanh(vf x) {
    vf u = x * 0.7978845608f * (1.0f + x * x * 0.044715f);
    return x / (1.0f + vf_exp(u * -2.0f));
}

/* 0.5·x·(1 + erf(x/√2)) = x·Φ(x). With z = |x|/√2 and t = 1/(1 + 0.3275911·z) (the variable of Abramowitz and
 * Stegun 7.1.26), erfc(z) = e^(-z²)·t·P(t); P is a Chebyshev fit of degree 9 for z ≤ 10.5, within 3e-9. */
static inline vf vf_gelu_erf(vf x) {
    vf z = vf_abs(x) * 0.70710678118654752f;
    vf t = 1.0f / (1.0f + z * 0.3275911f);
    vf p = t * 0.0592738048848f + -0.331088911728f;
    p = p * t + 0.659813274315f;
    p = p * t + -0.602813583702f;
    p = p * t + 0.536468401752f;
    p = p * t + -0.0689523490985f;
    p = p * t + 0.212272863965f;
    p = p * t + 0.164303464046f;
    p = p * t + 0.185951958398f;
    p = p * t + 0.184771077268f;
    vf tail = 0.5f * t * p * vf_exp(x * x * -0.5f);
    return x * vf_select(x < 0.0f, tail, 1.0f - tail);
}

static inline vf vf_relu(vf x) {
    return vf_at_least(x, 0.0f);
}

/* ---- rows ------------------------------------------------------------------------------------------- */

/* y[i] = fn of x[i] (and z[i]); y may be x or z. Loads come before the store of the same lanes. */
#define VEC_MAP1(y, x, n, v, expr)                                                                           \
    do {                                                                                                     \
        int64_t i_ = 0;                                                                                      \
        for (; i_ + KILN_VL <= (n); i_ += KILN_VL) {                                                         \
            vf v = vf_load((x) + i_);                                                                        \
            vf_store((y) + i_, (expr));                                                                      \
        }                                                                                                    \
        if (i_ < (n)) {                                                                                      \
            vf v = vf_load_part((x) + i_, (n)-i_, 0.0f);                                                     \
            vf_store_part((y) + i_, (expr), (n)-i_);                                                         \
        }                                                                                                    \
    } while (0)

#define VEC_MAP2(y, x, z, n, v, w, expr)                                                                     \
    do {                                                                                                     \
        int64_t i_ = 0;                                                                                      \
        for (; i_ + KILN_VL <= (n); i_ += KILN_VL) {                                                         \
            vf v = vf_load((x) + i_), w = vf_load((z) + i_);                                                 \
            vf_store((y) + i_, (expr));                                                                      \
        }                                                                                                    \
        if (i_ < (n)) {                                                                                      \
            vf v = vf_load_part((x) + i_, (n)-i_, 0.0f), w = vf_load_part((z) + i_, (n)-i_, 0.0f);           \
            vf_store_part((y) + i_, (expr), (n)-i_);                                                         \
        }                                                                                                    \
    } while (0)

/* Σ expr over a row, a double: four running vectors, each in runs of RUN terms. `pad` is a value for which
 * expr is 0. */
#define VEC_SUM(total, x, n, pad, v, expr)                                                                   \
    do {                                                                                                     \
        double total_ = 0.0;                                                                                 \
        for (int64_t b_ = 0; b_ < (n); b_ += 4 * RUN * KILN_VL) {                                            \
            int64_t end_ = (n)-b_ < 4 * RUN * KILN_VL ? (n) : b_ + 4 * RUN * KILN_VL, i_ = b_;               \
            vf a_[4] = {{0}};                                                                                \
            for (; i_ + 4 * KILN_VL <= end_; i_ += 4 * KILN_VL)                                              \
                for (int l_ = 0; l_ < 4; l_++) {                                                             \
                    vf v = vf_load((x) + i_ + l_ * KILN_VL);                                                 \
                    a_[l_] += (expr);                                                                        \
                }                                                                                            \
            for (; i_ < end_; i_ += KILN_VL) {                                                               \
                vf v = end_ - i_ < KILN_VL ? vf_load_part((x) + i_, end_ - i_, (pad)) : vf_load((x) + i_);   \
                a_[0] += (expr);                                                                             \
            }                                                                                                \
            total_ += (double)vf_sum((a_[0] + a_[1]) + (a_[2] + a_[3]));                                     \
        }                                                                                                    \
        (total) = total_;                                                                                    \
    } while (0)

/* Two such sums in one pass. */
#define VEC_SUM2(total, more, x, n, pad, v, expr, expr_more)                                                 \
    do {                                                                                                     \
        double total_ = 0.0, more_ = 0.0;                                                                    \
        for (int64_t b_ = 0; b_ < (n); b_ += 4 * RUN * KILN_VL) {                                            \
            int64_t end_ = (n)-b_ < 4 * RUN * KILN_VL ? (n) : b_ + 4 * RUN * KILN_VL, i_ = b_;               \
            vf a_[4] = {{0}}, c_[4] = {{0}};                                                                 \
            for (; i_ + 4 * KILN_VL <= end_; i_ += 4 * KILN_VL)                                              \
                for (int l_ = 0; l_ < 4; l_++) {                                                             \
                    vf v = vf_load((x) + i_ + l_ * KILN_VL);                                                 \
                    a_[l_] += (expr);                                                                        \
                    c_[l_] += (expr_more);                                                                   \
                }                                                                                            \
            for (; i_ < end_; i_ += KILN_VL) {                                                               \
                vf v = end_ - i_ < KILN_VL ? vf_load_part((x) + i_, end_ - i_, (pad)) : vf_load((x) + i_);   \
                a_[0] += (expr);                                                                             \
                c_[0] += (expr_more);                                                                        \
            }                                                                                                \
            total_ += (double)vf_sum((a_[0] + a_[1]) + (a_[2] + a_[3]));                                     \
            more_ += (double)vf_sum((c_[0] + c_[1]) + (c_[2] + c_[3]));                                      \
        }                                                                                                    \
        (total) = total_;                                                                                    \
        (more) = more_;                                                                                      \
    } while (0)

/* A run ends: total += run, run = 0. */
static inline void vec_join(double *total, float *run, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        total[i] += (double)run[i];
        run[i] = 0.0f;
    }
}

#endif
