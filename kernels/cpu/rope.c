/* Rotary position embedding, and the same with the rows put into a cache.
 *
 * The pair number i of a token at position p turns by p·freq_scale·theta^(-2i/dims) (Su et al., RoFormer,
 * arXiv:2104.09864). Angles and their reduction are double, since an angle of 10^5 in f32 has lost two
 * decimal digits; sines and cosines of the reduced angle are f32. */
#include "append.h"
#include "kiln_attrs.h"
#include "rope_tiles.h"
#include "rows.h"

#include <math.h>

/* Factors of one token. NeoX: cosines and sines of the dims/2 pairs. Interleaved: each twice, the first sine
 * of a pair negative, so that y = x·cos + swapped x·sin. */
typedef struct factors {
    float *cos, *sin;
    float *row; /* room for a row */
    int64_t dims, d;
    uint32_t mode;
    double first, ratio; /* freq_scale, theta^(-2/dims) */
} factors;

static factors factors_of(const kiln_rope_attrs *attrs, int64_t d, unsigned char *scratch) {
    factors f = {.dims = attrs->dims > 0 ? attrs->dims : d, .d = d, .mode = attrs->mode};
    f.cos = (float *)(void *)scratch;
    f.sin = f.cos + kiln__scratch_row(d);
    f.row = f.sin + kiln__scratch_row(d);
    f.first = (double)attrs->freq_scale;
    f.ratio = pow((double)attrs->theta, -2.0 / (double)f.dims);
    return f;
}

/* Sine and cosine: less a multiple of π/2, held in two doubles, then Cephes' polynomials (S. L. Moshier, sinf
 * and cosf). Beyond 10^9 the multiple has too many digits for that. */
static inline void turn(double angle, float *c, float *s) {
    const double magic = 6755399441055744.0; /* 1.5·2^52: adding it rounds to an integer in the low bits */
    if (!(fabs(angle) < 1e9)) {
        *c = (float)cos(angle);
        *s = (float)sin(angle);
        return;
    }
    double t = angle * 0.63661977236758134308 + magic, n = t - magic;
    uint64_t bits;
    memcpy(&bits, &t, sizeof bits);
    float r = (float)((angle - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11), z = r * r;
    float sine = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * r + r;
    float cosine = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z -
                   0.5f * z + 1.0f;
    float a = bits & 1 ? cosine : sine, b = bits & 1 ? sine : cosine;
    *s = bits & 2 ? -a : a;
    *c = (bits + 1) & 2 ? -b : b;
}

static __attribute__((noinline)) void fill_factors(const factors *f, double position) {
    double angle = position * f->first;
    for (int64_t i = 0; i < f->dims / 2; i++, angle *= f->ratio) {
        float c, s;
        turn(angle, &c, &s);
        if (f->mode == KILN_ROPE_NEOX) {
            f->cos[i] = c;
            f->sin[i] = s;
        } else {
            f->cos[2 * i] = f->cos[2 * i + 1] = c;
            f->sin[2 * i] = -s;
            f->sin[2 * i + 1] = s;
        }
    }
}

/* Both elements of a pair are loaded before either is stored: y may be x. */
static __attribute__((noinline)) void rope_row(float *y, const float *x, const factors *f) {
    int64_t i = 0, half = f->dims / 2;
    if (f->mode == KILN_ROPE_NEOX) {
        for (; i < half; i += KILN_VL) {
            int64_t n = half - i;
            vf a = vf_load_n(x + i, n), b = vf_load_n(x + half + i, n);
            vf c = vf_load_n(f->cos + i, n), s = vf_load_n(f->sin + i, n);
            vf_store_n(y + i, a * c - b * s, n);
            vf_store_n(y + half + i, b * c + a * s, n);
        }
    } else {
        for (; i < f->dims; i += KILN_VL) {
            int64_t n = f->dims - i;
            vf v = vf_load_n(x + i, n), c = vf_load_n(f->cos + i, n), s = vf_load_n(f->sin + i, n);
            vf_store_n(y + i, v * c + vf_swap_pairs(v) * s, n);
        }
    }
    if (y != x && f->d > f->dims)
        memcpy(y + f->dims, x + f->dims, (size_t)(f->d - f->dims) * sizeof *y);
}

/* In double, which holds every position below 2^53 exactly and cannot overflow. */
static double position_of(const kiln_rope_attrs *attrs, const kiln_operand *positions, int64_t t) {
    double base = (double)attrs->position.value;
    if (positions == NULL)
        return base + (double)t;
    const unsigned char *p = positions->data + t * positions->nb[3];
    return base + (positions->dtype == KILN_I64 ? (double)*(const int64_t *)(const void *)p
                                                : (double)*(const int32_t *)(const void *)p);
}

kiln_status KILN_LEVEL_FN(rope)(const kiln_args *args, kiln_tile *tile) {
    const kiln_rope_attrs *attrs = args->attrs;
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    const kiln_operand *positions = kiln__optional(args, 1);
    kiln__rope_grid g = kiln__rope_grid_of(x);
    factors f = factors_of(attrs, g.d, tile->scratch);
    int64_t end = tile->last * g.per_tile < g.tokens ? tile->last * g.per_tile : g.tokens;
    for (int64_t t = tile->first * g.per_tile; t < end; t++) {
        fill_factors(&f, position_of(attrs, positions, t));
        for (int64_t h = 0; h < g.heads; h++) {
            int64_t at = g.axis == 1 ? h : 0;
            const unsigned char *from = x->data + t * x->nb[g.axis] + at * x->nb[2];
            unsigned char *to = y->data + t * y->nb[g.axis] + at * y->nb[2];
            rope_row((float *)(void *)to, kiln__f32_row(x->dtype, from, g.d, f.row), &f);
        }
    }
    return KILN_OK;
}

/* The row as rope gives it, then as set_rows stores it: the same bits as the two ops after one another. */
kiln_status KILN_LEVEL_FN(rope_set_rows)(const kiln_args *args, kiln_tile *tile) {
    const kiln_rope_set_rows_attrs *attrs = args->attrs;
    const kiln_operand *positions = kiln__optional(args, 2);
    const kiln_operand *indices = kiln__optional(args, 3);
    kiln__append a = kiln__append_of(&args->out[0], &args->in[1], indices, &attrs->rows, true);
    factors f = factors_of(&attrs->rope, a.n, tile->scratch);
    float *turned = f.row + kiln__scratch_row(a.n);
    int64_t begin = tile->first * a.per_tile;
    int64_t end = tile->last * a.per_tile < a.units ? tile->last * a.per_tile : a.units;
    int64_t t0 = indices ? 0 : begin, t1 = indices ? a.count : end;
    int64_t piece0 = indices ? begin : 0, piece1 = indices ? end : a.pieces;
    for (int64_t t = t0; t < t1; t++) {
        int64_t row = kiln__append_row(&a, t, tile, indices == NULL || begin == 0);
        if (row < 0)
            continue;
        fill_factors(&f, position_of(&attrs->rope, positions, t));
        for (int64_t piece = piece0; piece < piece1; piece++) {
            const unsigned char *from = kiln__append_run(&a, a.rows, t, piece);
            unsigned char *to = kiln__append_run(&a, a.dst, row, piece);
            const float *x = kiln__f32_row(a.rows->dtype, from, a.n, f.row);
            bool direct = a.dst->dtype == KILN_F32;
            rope_row(direct ? (float *)(void *)to : turned, x, &f);
            if (!direct)
                KILN__FNS[a.dst->dtype].from_f32(turned, to, a.n);
        }
    }
    return KILN_OK;
}
