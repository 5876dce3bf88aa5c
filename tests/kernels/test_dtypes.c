/* Every dtype's conversions and dots, at every CPU level of this machine,
 * against reference bits and doubles. */
#include "dtype_kernels.h"
#include "tests/support/op_case.h"
#include "tests/support/testdata.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const kiln__dtype_fns *const tables[] = {
#define TABLE(level, features, unused) kiln__dtype_##level,
    KILN_CPU_EACH(TABLE, )
#undef TABLE
};

/* Calls `check` with the functions of each level. */
static void each_level(void (*check)(const kiln__dtype_fns *fns, const char *level)) {
    size_t n;
    const op_level *levels = op_levels(&n);
    for (size_t i = 0; i < n; i++)
        check(tables[i], levels[i].name);
}

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* ---- conversions of halves ----------------------------------------------------------------------------- */

static uint16_t all_halves[65536];
static float wide[65536];
static uint16_t back[65536];

static void check_half_to_float(const kiln__dtype_fns *fns, const char *level) {
    for (uint32_t h = 0; h < 65536; h++)
        all_halves[h] = (uint16_t)h;
    fns[KILN_F16].to_f32(all_halves, wide, 65536);
    for (uint32_t h = 0; h < 65536; h++) {
        double want = op_f16_decode((uint16_t)h);
        uint32_t got = bits_of(wide[h]);
        uint32_t bits =
            isnan(want) ? (h & 0x8000) << 16 | 0x7fc00000 | (h & 0x3ff) << 13 : bits_of((float)want);
        if (got != bits)
            fail_msg("%s: f16 %04x gives %08x, expected %08x", level, h, got, bits);
    }
    fns[KILN_F16].from_f32(wide, back, 65536);
    for (uint32_t h = 0; h < 65536; h++) {
        uint32_t want = (h & 0x7fff) > 0x7c00 ? h | 0x200 : h; /* quiet */
        if (back[h] != want)
            fail_msg("%s: f16 %04x comes back as %04x", level, h, back[h]);
    }
    fns[KILN_BF16].to_f32(all_halves, wide, 65536);
    for (uint32_t h = 0; h < 65536; h++)
        if (bits_of(wide[h]) != h << 16)
            fail_msg("%s: bf16 %04x gives %08x", level, h, bits_of(wide[h]));
    fns[KILN_BF16].from_f32(wide, back, 65536);
    for (uint32_t h = 0; h < 65536; h++) {
        uint32_t want = (h & 0x7fff) > 0x7f80 ? h | 0x40 : h;
        if (back[h] != want)
            fail_msg("%s: bf16 %04x comes back as %04x", level, h, back[h]);
    }
}

static void half_to_float(void **state) {
    (void)state;
    each_level(check_half_to_float);
}

/* One value in a full vector, so that vector code is what is tested. */
static void check_rounding(const kiln__dtype_fns *fns, const char *level, kiln_dtype dtype, uint32_t bits) {
    float in[16];
    uint16_t out[16], want;
    for (int i = 0; i < 16; i++)
        in[i] = float_of(bits);
    fns[dtype].from_f32(in, out, 16);
    if (isnan(in[0]))
        want = dtype == KILN_F16 ? (uint16_t)((bits >> 16 & 0x8000) | 0x7e00 | (bits >> 13 & 0x3ff))
                                 : (uint16_t)(bits >> 16 | 0x40);
    else
        op_encode(dtype, &want, 0, (double)in[0]);
    if (out[0] != want || out[15] != want)
        fail_msg("%s: %s of %08x (%g) is %04x, expected %04x", level, kiln_dtype_get(dtype)->name, bits,
                 (double)in[0], out[0], want);
    fns[dtype].from_f32(in, out, 1); /* the tail */
    if (out[0] != want)
        fail_msg("%s: %s of %08x is %04x in a tail, expected %04x", level, kiln_dtype_get(dtype)->name, bits,
                 out[0], want);
}

/* Around every value and every midpoint of both formats, where rounding may go wrong. */
static void check_float_to_half(const kiln__dtype_fns *fns, const char *level) {
    for (uint32_t h = 0; h < 0x7c00; h++) {
        uint32_t here = bits_of((float)op_f16_decode((uint16_t)h));
        double next = h == 0x7bff ? 65536.0 : op_f16_decode((uint16_t)(h + 1));
        uint32_t middle = bits_of((float)((op_f16_decode((uint16_t)h) + next) / 2));
        for (uint32_t sign = 0; sign <= 0x80000000; sign += 0x80000000) {
            check_rounding(fns, level, KILN_F16, sign | here);
            for (uint32_t d = 0; d < 3; d++)
                check_rounding(fns, level, KILN_F16, sign | (middle - 1 + d));
            if (sign)
                break;
        }
    }
    for (uint32_t h = 0; h < 0x10000; h += 7)
        for (uint32_t low = 0x7fff; low <= 0x8001; low++)
            check_rounding(fns, level, KILN_BF16, h << 16 | low);
    static const uint32_t edges[] = {0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000, 0x33000000,
                                     0x33000001, 0x337fffff, 0x38800000, 0x387fffff, 0x387fe000, 0x477fe000,
                                     0x477fefff, 0x477ff000, 0x47800000, 0x7f7fffff, 0xff7fffff, 0x7f800000,
                                     0xff800000, 0x7f800001, 0x7fa00000, 0x7fc00000, 0xffffffff, 0x7fffffff};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        check_rounding(fns, level, KILN_F16, edges[i]);
        check_rounding(fns, level, KILN_BF16, edges[i]);
    }
    uint64_t seed = 1;
    for (int i = 0; i < 200000; i++) {
        uint32_t bits = (uint32_t)op_random(&seed);
        check_rounding(fns, level, KILN_F16, bits);
        check_rounding(fns, level, KILN_BF16, bits);
    }
}

static void float_to_half(void **state) {
    (void)state;
    each_level(check_float_to_half);
}

/* ---- reference blocks ---------------------------------------------------------------------------------- */

/* Bounds on the largest error of a dot of 256 elements with these rows, relative to Σ|w·x|: `exact` with f32
 * activations, `fast` with quantised ones. Measured: exact 1.5e-8 … 4.4e-8; fast 8.5e-5 for halves
 * (activations in bf16) and 1.03e-3 … 1.10e-3 for blocks,
 * where ggml's own dots are off by 0.88e-3 … 1.09e-3. */
static const struct {
    kiln_dtype dtype;
    double exact, fast;
} formats[] = {
    {KILN_F16, 1e-7, 1e-4},    {KILN_BF16, 1e-7, 1e-4},   {KILN_Q4_0, 1e-7, 1.2e-3},
    {KILN_Q5_1, 1e-7, 1.2e-3}, {KILN_Q8_0, 1e-7, 1.2e-3}, {KILN_IQ4_NL, 1e-7, 1.2e-3},
    {KILN_Q4_K, 1e-7, 1.2e-3}, {KILN_Q5_K, 1e-7, 1.2e-3}, {KILN_Q6_K, 1e-7, 1.2e-3},
};
enum { N_FORMATS = sizeof formats / sizeof formats[0], ROWS = 32, COLUMNS = 256 };

static void *reference(kiln_dtype dtype, const char *what, size_t want) {
    char name[64];
    size_t size;
    snprintf(name, sizeof name, "quant/%s.%s", kiln_dtype_get(dtype)->name, what);
    void *data = testdata_read(name, &size);
    if (data == NULL)
        skip();
    assert_int_equal(size, want);
    return data;
}

static void check_reference(const kiln__dtype_fns *fns, const char *level) {
    for (size_t f = 0; f < N_FORMATS; f++) {
        kiln_dtype dtype = formats[f].dtype;
        const kiln_dtype_info *info = kiln_dtype_get(dtype);
        unsigned char *blk = reference(dtype, "blk", (size_t)ROWS * COLUMNS / info->block * info->bytes);
        float *deq = reference(dtype, "deq.f32", sizeof(float) * ROWS * COLUMNS);
        float *got = malloc(sizeof(float) * ROWS * COLUMNS);
        assert_non_null(got);
        fns[dtype].to_f32(blk, got, (int64_t)ROWS * COLUMNS);
        for (int i = 0; i < ROWS * COLUMNS; i++)
            if (bits_of(got[i]) != bits_of(deq[i]))
                fail_msg("%s: %s value %d is %.9g, expected %.9g", level, info->name, i, (double)got[i],
                         (double)deq[i]);
        free(blk);
        free(deq);
        free(got);
    }
}

static void blocks_equal_reference(void **state) {
    (void)state;
    each_level(check_reference);
}

/* The dot in fast precision: integer for blocks, with bf16 activations for halves. */
static float fast_dot(const kiln__dtype_fns *fns, kiln_dtype dtype, const void *row, const float *x) {
    unsigned char quantised[COLUMNS * 2];
    if (fns[dtype].dot_q8_a == NULL) {
        fns[KILN_BF16].from_f32(x, quantised, COLUMNS);
        return fns[dtype].dot_bf16(row, (const uint16_t *)(const void *)quantised, COLUMNS);
    }
    fns[KILN_Q8_A].from_f32(x, quantised, COLUMNS);
    return fns[dtype].dot_q8_a(row, quantised, COLUMNS);
}

static void check_reference_dots(const kiln__dtype_fns *fns, const char *level) {
    size_t size;
    float *x = testdata_read("quant/act256.f32", &size);
    if (x == NULL)
        skip();
    assert_int_equal(size, COLUMNS * sizeof *x);
    for (size_t f = 0; f < N_FORMATS; f++) {
        kiln_dtype dtype = formats[f].dtype;
        const kiln_dtype_info *info = kiln_dtype_get(dtype);
        size_t row_bytes = COLUMNS / info->block * info->bytes;
        unsigned char *blk = reference(dtype, "blk", ROWS * row_bytes);
        float *deq = reference(dtype, "deq.f32", sizeof(float) * ROWS * COLUMNS);
        float *theirs = reference(dtype, "ggmldot.f32", sizeof(float) * ROWS);
        double *want = reference(dtype, "refdot.f64", sizeof(double) * ROWS);
        double exact = 0, fast = 0, ggml = 0; /* largest errors */
        for (int r = 0; r < ROWS; r++) {
            double size_of_sum = 0;
            for (int j = 0; j < COLUMNS; j++)
                size_of_sum += fabs((double)deq[r * COLUMNS + j] * (double)x[j]);
            const unsigned char *row = blk + (size_t)r * row_bytes;
            exact = fmax(exact, fabs((double)fns[dtype].dot_f32(row, x, COLUMNS) - want[r]) / size_of_sum);
            fast = fmax(fast, fabs((double)fast_dot(fns, dtype, row, x) - want[r]) / size_of_sum);
            ggml = fmax(ggml, fabs((double)theirs[r] - want[r]) / size_of_sum);
        }
        if (!(exact <= formats[f].exact) || !(fast <= formats[f].fast) || fast > 1.3 * ggml + 6e-5)
            fail_msg("%s: %s dots are off by %.3g (exact) and %.3g (fast); ggml's by %.3g", level, info->name,
                     exact, fast, ggml);
        free(blk);
        free(deq);
        free(theirs);
        free(want);
    }
    free(x);
}

static void dots_near_reference(void **state) {
    (void)state;
    each_level(check_reference_dots);
}

/* ---- dots of random rows ------------------------------------------------------------------------------- */

enum { MOST = 1024 };

/* Against the double dot of what both operands hold, so that only the summing may err. */
static void check_dot(const char *level, kiln_dtype wtype, kiln_dtype xtype, const void *w, const void *x,
                      int64_t n, float got) {
    static double wv[MOST], xv[MOST];
    double sum = 0, size = 0;
    op_decode_row(wtype, w, n, wv);
    op_decode_row(xtype, x, n, xv);
    for (int64_t j = 0; j < n; j++) {
        sum += wv[j] * xv[j];
        size += fabs(wv[j] * xv[j]);
    }
    /* Mins and scales are applied to whole blocks in fast dots, so that errors refer to larger terms. */
    double rel = xtype == KILN_Q8_A ? 3e-6 : 1e-6;
    if (!(fabs((double)got - sum) <= rel * size + 1e-30))
        fail_msg("%s: dot of %s and %s over %lld is %.9g, expected %.9g (magnitude %.9g)", level,
                 kiln_dtype_get(wtype)->name, kiln_dtype_get(xtype)->name, (long long)n, (double)got, sum,
                 size);
}

static void check_random_dots(const kiln__dtype_fns *fns, const char *level) {
    static unsigned char w[MOST * 4], x[MOST * 4];
    static float xf[MOST], wf[MOST];
    uint64_t seed = 7;
    for (int d = 1; d < KILN_DTYPE_COUNT; d++) {
        kiln_dtype dtype = (kiln_dtype)d;
        const kiln_dtype_info *info = kiln_dtype_get(dtype);
        if (fns[d].dot_f32 == NULL)
            continue;
        int64_t step = info->block == 1 ? 1 : info->block, most = info->block == 1 ? 70 : MOST;
        for (int64_t n = 0; n <= most; n += step) {
            for (int64_t j = 0; j < n; j++) {
                xf[j] = (float)op_random_between(&seed, -2, 2);
                wf[j] = (float)op_random_between(&seed, -2, 2);
            }
            if (info->kind == KILN_KIND_BLOCK)
                op_random_blocks(dtype, w, n, &seed);
            else
                fns[d].from_f32(wf, w, n);
            check_dot(level, dtype, KILN_F32, w, xf, n, fns[d].dot_f32(w, xf, n));
            fns[KILN_F16].from_f32(xf, x, n);
            check_dot(level, dtype, KILN_F16, w, x, n, fns[d].dot_f16(w, (uint16_t *)(void *)x, n));
            fns[KILN_BF16].from_f32(xf, x, n);
            check_dot(level, dtype, KILN_BF16, w, x, n, fns[d].dot_bf16(w, (uint16_t *)(void *)x, n));
            if (fns[d].dot_q8_a != NULL) {
                fns[KILN_Q8_A].from_f32(xf, x, n);
                check_dot(level, dtype, KILN_Q8_A, w, x, n, fns[d].dot_q8_a(w, x, n));
            }
        }
    }
}

static void dots_of_random_rows(void **state) {
    (void)state;
    each_level(check_random_dots);
}

/* One NaN or Inf anywhere in the activations makes every dot with a nonzero row not finite. */
static void check_specials(const kiln__dtype_fns *fns, const char *level) {
    static const float specials[] = {NAN, INFINITY, -INFINITY};
    unsigned char w[COLUMNS * 4], x[COLUMNS * 4];
    float xf[COLUMNS], wf[COLUMNS];
    for (int d = 1; d < KILN_DTYPE_COUNT; d++) {
        if (fns[d].dot_f32 == NULL)
            continue;
        uint64_t seed = (uint64_t)d;
        for (int s = 0; s < 3; s++)
            for (int at = 0; at < COLUMNS; at += 37) {
                for (int j = 0; j < COLUMNS; j++) {
                    xf[j] = (float)op_random_between(&seed, -1, 1);
                    wf[j] = 1.0f + (float)j;
                }
                xf[at] = specials[s];
                if (fns[d].from_f32 != NULL)
                    fns[d].from_f32(wf, w, COLUMNS);
                else
                    op_random_blocks((kiln_dtype)d, w, COLUMNS, &seed);
                float got[4] = {fns[d].dot_f32(w, xf, COLUMNS)};
                fns[KILN_F16].from_f32(xf, x, COLUMNS);
                got[1] = fns[d].dot_f16(w, (uint16_t *)(void *)x, COLUMNS);
                fns[KILN_BF16].from_f32(xf, x, COLUMNS);
                got[2] = fns[d].dot_bf16(w, (uint16_t *)(void *)x, COLUMNS);
                fns[KILN_Q8_A].from_f32(xf, x, COLUMNS);
                got[3] = fns[d].dot_q8_a ? fns[d].dot_q8_a(w, x, COLUMNS) : NAN;
                for (int g = 0; g < 4; g++)
                    if (isfinite(got[g]) || (s == 0 && !isnan(got[g])))
                        fail_msg("%s: %s with %g in x at %d gives %g (way %d)", level,
                                 kiln_dtype_get((kiln_dtype)d)->name, (double)specials[s], at, (double)got[g],
                                 g);
            }
    }
}

static void specials_flow(void **state) {
    (void)state;
    each_level(check_specials);
}

/* ---- activations --------------------------------------------------------------------------------------- */

static void check_activations(const kiln__dtype_fns *fns, const char *level) {
    static const float sizes[] = {0, 1e-45f, 1e-40f, 1e-37f, 1e-35f, 1e-10f, 1, 100, 1e30f, 3e38f};
    uint64_t seed = 3;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int round = 0; round < 100; round++) {
            float x[32], back32[32], d, sum;
            unsigned char block[40];
            int total = 0;
            for (int i = 0; i < 32; i++)
                x[i] = (float)(op_random_between(&seed, -1, 1) * (double)sizes[s]);
            x[round % 32] = sizes[s];
            fns[KILN_Q8_A].from_f32(x, block, 32);
            fns[KILN_Q8_A].to_f32(block, back32, 32);
            memcpy(&d, block, sizeof d);
            memcpy(&sum, block + 4, sizeof sum);
            for (int i = 0; i < 32; i++) {
                int q = (int8_t)block[8 + i];
                total += q;
                /* Half a step, and what two roundings add; tiny blocks become zeros. */
                double bound = fmax((double)d * 0.50001, (double)sizes[s] < 1e-35 ? 0x1p-119 : 0);
                if (fabs((double)back32[i] - (double)x[i]) > bound || q == -128)
                    fail_msg("%s: %g comes back as %g (d %g, q %d)", level, (double)x[i], (double)back32[i],
                             (double)d, q);
            }
            assert_true(sum == d * (float)total);
        }
}

static void activations_come_back(void **state) {
    (void)state;
    each_level(check_activations);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_to_float),          cmocka_unit_test(float_to_half),
        cmocka_unit_test(blocks_equal_reference), cmocka_unit_test(dots_near_reference),
        cmocka_unit_test(dots_of_random_rows),    cmocka_unit_test(specials_flow),
        cmocka_unit_test(activations_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
