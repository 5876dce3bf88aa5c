/* Matrix products of block formats with q8_a activations: integer dots of 32 (or 16) values, then
 *     y = … + Σq·x · (d_w·d_x)   [+ m_w · s_x]
 * in f32, block after block, with one running sum per y and BLOCK_RUN values of K; these are added in double.
 * Both shapes below, and dot_q8_a, do exactly this, so that a result depends neither on how many tokens there
 * are nor on tiling.
 *
 *   strips   4 rows of W against up to 4 tokens, straight from the blocks: few tokens
 *   panels   16 rows of W unpacked once into bytes, 4 columns of a row beside each other, so that one vector
 *            instruction serves 16 rows and an activation is a 4-byte broadcast: many tokens
 */
#include "blocks.h"
#include "dot_bytes.h"
#include "gemm.h"
#include "gemm_scratch.h"
#include "tuning.h"

/* ---- strips -------------------------------------------------------------------------------------------- */

enum { STRIP = 4 };

KILN_INLINE f32x4 broadcast(const unsigned char *p) {
    float f;
    memcpy(&f, p, sizeof f);
    return (f32x4){f, f, f, f};
}

/* n elements of 4 rows become n vectors of 4. */
KILN_INLINE void columns(float (*row)[16], int n, f32x4 *out) {
    KILN_UNROLL
    for (int i = 0; i < n; i += 4) {
        f32x4 a = f32x4_load(row[0] + i), b = f32x4_load(row[1] + i), c = f32x4_load(row[2] + i),
              d = f32x4_load(row[3] + i);
        f32x4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        f32x4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        out[i] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        out[i + 1] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        out[i + 2] = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
        out[i + 3] = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
    }
}

/* One 32-value part of 4 rows against one token. d: the rows' scales, one vector per group; m: their mins. */
KILN_INLINE f32x4 strip_part(int off, int groups, int min, const u8x32 *q, const f32x4 *d, f32x4 m,
                             const unsigned char *x, f32x4 acc) {
    i8x32 xq = i8x32_load(x + Q8_A_BYTES_AT);
    i32x8 start = dot_start(off, &xq), dots[STRIP];
    for (int r = 0; r < STRIP; r++)
        dots[r] = dot_quads(off, &start, &q[r], &xq);
    sums4 s = sum_quads(off, dots);
    f32x4 xd = broadcast(x);
    if (groups == 1) {
        acc = madd4(__builtin_convertvector(s.low + s.high, f32x4), d[0] * xd, acc);
    } else {
        acc = madd4(__builtin_convertvector(s.low, f32x4), d[0] * xd, acc);
        acc = madd4(__builtin_convertvector(s.high, f32x4), d[1] * xd, acc);
    }
    return min ? madd4(m, broadcast(x + Q8_A_SUM), acc) : acc;
}

/* Fetches from the next strip as much as this one reads with block b of its rows, but as it lies in memory: one stream, not
 * four side by side (q8_0, one token, W in memory: 1 thread of Zen 4 gets 90 to 97% of what it can read at all, row by row
 * 72 to 86%, and less without; of Sapphire Rapids 80% and 88%, which is the price). NULL: the rows do not lie end to end, and the processor may guess. */
KILN_INLINE void fetch_ahead(const unsigned char *next, int64_t b, int bytes) {
    for (int o = 0; next != NULL && o < STRIP * bytes; o += 64)
        __builtin_prefetch(next + b * STRIP * bytes + o);
}

/* Scales and mins of block b of 4 rows: a vector per scale, a lane per row. Blocks of one part begin with f16
 * d and, where they have it, f16 m. */
#define COLUMNS(NAME, unused)                                                                                \
    KILN_INLINE void NAME##_columns(const unsigned char *const *w, int64_t b, f32x4 *d, f32x4 *m) {          \
        if (NAME##_PARTS == 1) {                                                                             \
            d[0] = f16_column(w, b * NAME##_BYTES);                                                          \
            m[0] = NAME##_MIN ? f16_column(w, b * NAME##_BYTES + 2) : (f32x4){0};                            \
        } else {                                                                                             \
            float rd[4][16], rm[4][16];                                                                      \
            for (int r = 0; r < 4; r++)                                                                      \
                NAME##_scales(w[r] + b * NAME##_BYTES, rd[r], rm[r]);                                        \
            columns(rd, NAME##_PARTS *NAME##_GROUPS, d);                                                     \
            if (NAME##_MIN)                                                                                  \
                columns(rm, NAME##_PARTS, m);                                                                \
        }                                                                                                    \
    }
BLOCKS_EACH(COLUMNS, )

/* y[c] = 4 rows · x[c] over `blocks` blocks, for a fixed number of tokens. */
#define STRIP_TOKENS(NAME, unused)                                                                           \
    KILN_INLINE void NAME##_strip(const unsigned char *const *w, const unsigned char *next, int64_t blocks,  \
                                  const unsigned char *const *x, int tokens, f32x4 *y) {                     \
        const int64_t run = BLOCK_RUN / NAME##_VALUES;                                                       \
        f64x4 total[STRIP] = {{0}};                                                                          \
        for (int64_t b = 0; b < blocks;) {                                                                   \
            f32x4 acc[STRIP] = {{0}};                                                                        \
            for (const int64_t end = blocks - b < run ? blocks : b + run; b < end; b++) {                    \
                f32x4 d[16], m[8] = {{0}};                                                                   \
                fetch_ahead(next, b, NAME##_BYTES);                                                          \
                NAME##_columns(w, b, d, m);                                                                  \
                KILN_UNROLL                                                                                  \
                for (int p = 0; p < NAME##_PARTS; p++) {                                                     \
                    u8x32 q[STRIP];                                                                          \
                    for (int r = 0; r < STRIP; r++)                                                          \
                        q[r] = NAME##_bytes(w[r] + b * NAME##_BYTES, p);                                     \
                    for (int c = 0; c < tokens; c++)                                                         \
                        acc[c] = strip_part(NAME##_OFF, NAME##_GROUPS, NAME##_MIN, q, d + p * NAME##_GROUPS, \
                                            m[p], x[c] + (b * NAME##_PARTS + p) * q8_a_BYTES, acc[c]);       \
                }                                                                                            \
            }                                                                                                \
            if (blocks <= run) {                                                                             \
                memcpy(y, acc, (size_t)tokens * sizeof *y);                                                  \
                return;                                                                                      \
            }                                                                                                \
            for (int c = 0; c < tokens; c++)                                                                 \
                total[c] += __builtin_convertvector(acc[c], f64x4);                                          \
        }                                                                                                    \
        for (int c = 0; c < tokens; c++)                                                                     \
            y[c] = __builtin_convertvector(total[c], f32x4);                                                 \
    }                                                                                                        \
    static void NAME##_strip_1(const unsigned char *const *w, const unsigned char *next, int64_t blocks,     \
                               const unsigned char *const *x, f32x4 *y) {                                    \
        NAME##_strip(w, next, blocks, x, 1, y);                                                              \
    }                                                                                                        \
    static void NAME##_strip_4(const unsigned char *const *w, const unsigned char *next, int64_t blocks,     \
                               const unsigned char *const *x, f32x4 *y) {                                    \
        NAME##_strip(w, next, blocks, x, 4, y);                                                              \
    }
BLOCKS_EACH(STRIP_TOKENS, )

typedef void strip_fn(const unsigned char *const *w, const unsigned char *next, int64_t blocks,
                      const unsigned char *const *x, f32x4 *y);

/* ---- panels -------------------------------------------------------------------------------------------- */

#if defined(KILN_DOT_VNNI) || defined(KILN_DOT_AVX2)
#define HAVE_PANELS 1

enum { WIDE = KILN__PANEL_ROWS, SIDE = KILN__PANEL_TOKENS };

/* 32 columns of 16 rows of W. q[j][4·row + i] is column 4j + i. */
typedef struct panel_part {
    _Alignas(64) uint8_t q[8][4 * WIDE];
    float d[2][WIDE], m[WIDE];
} panel_part;
_Static_assert(sizeof(panel_part) == KILN__PANEL_PART, "gemm_scratch.h must say how large this is");

/* 32 columns of 8 tokens. start: what an integer sum begins with to take off OFF, per group. */
typedef struct panel_x {
    _Alignas(64) int8_t q[SIDE][32];
    float d[SIDE], s[SIDE];
    int32_t start[2][SIDE];
} panel_x;
_Static_assert(sizeof(panel_x) == KILN__PANEL_X, "gemm_scratch.h must say how large this is");

/* 8 rows of 8 words, each word being 4 columns, become 8 columns of 8 words. */
KILN_INLINE void transpose_words(const i32x8 *row, uint8_t (*out)[4 * WIDE], int at) {
    i32x8 a[8], b[8];
    for (int i = 0; i < 8; i += 2) { /* words 0 1 4 5 and 2 3 6 7 of neighbouring rows beside each other */
        a[i] = __builtin_shufflevector(row[i], row[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        a[i + 1] = __builtin_shufflevector(row[i], row[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int h = 0; h < 2; h++) {
            b[i + 2 * h] = __builtin_shufflevector(a[i + h], a[i + 2 + h], 0, 1, 8, 9, 4, 5, 12, 13);
            b[i + 2 * h + 1] = __builtin_shufflevector(a[i + h], a[i + 2 + h], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int j = 0; j < 4; j++) {
        i32x8 low = __builtin_shufflevector(b[j], b[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        i32x8 high = __builtin_shufflevector(b[j], b[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
        memcpy(out[j] + at, &low, sizeof low);
        memcpy(out[j + 4] + at, &high, sizeof high);
    }
}

#define UNPACK(NAME, unused)                                                                                 \
    static void NAME##_unpack(const unsigned char *const *w, int64_t blocks, panel_part *out) {              \
        for (int64_t b = 0; b < blocks; b++, out += NAME##_PARTS) {                                          \
            for (int r = 0; r < WIDE; r += 4) {                                                              \
                f32x4 d[16], m[8];                                                                           \
                NAME##_columns(w + r, b, d, m);                                                              \
                for (int p = 0; p < NAME##_PARTS; p++) {                                                     \
                    for (int g = 0; g < NAME##_GROUPS; g++)                                                  \
                        memcpy(out[p].d[g] + r, &d[p * NAME##_GROUPS + g], sizeof *d);                       \
                    if (NAME##_MIN)                                                                          \
                        memcpy(out[p].m + r, &m[p], sizeof *m);                                              \
                }                                                                                            \
            }                                                                                                \
            KILN_UNROLL                                                                                      \
            for (int p = 0; p < NAME##_PARTS; p++)                                                           \
                for (int r = 0; r < WIDE; r += 8) {                                                          \
                    i32x8 row[8];                                                                            \
                    for (int i = 0; i < 8; i++)                                                              \
                        row[i] = (i32x8)NAME##_bytes(w[r + i] + b * NAME##_BYTES, p);                        \
                    transpose_words(row, out[p].q, 4 * r);                                                   \
                }                                                                                            \
        }                                                                                                    \
    }
BLOCKS_EACH(UNPACK, )

/* Up to 8 tokens side by side; in place of missing ones the first again, whose results nobody takes. */
static void gather_x(int off, int groups, const unsigned char *const *x, int64_t tokens, int64_t parts,
                     panel_x *out) {
    const unsigned char *from[SIDE];
    for (int64_t c = 0; c < SIDE; c++)
        from[c] = x[c < tokens ? c : 0];
    for (int64_t p = 0; p < parts; p++, out++) {
        i32x8 v[SIDE], sum[2] = {{0}, {0}};
        uint8_t words[8][4 * WIDE];
        for (int c = 0; c < SIDE; c++, from[c - 1] += q8_a_BYTES) {
            memcpy(&out->d[c], from[c], sizeof(float));
            memcpy(&out->s[c], from[c] + Q8_A_SUM, sizeof(float));
            i8x32 q = i8x32_load((const int8_t *)from[c] + Q8_A_BYTES_AT);
            memcpy(out->q[c], &q, sizeof q);
            v[c] = dot_start(off, &q);
        }
        transpose_words(v, words, 0); /* lanes of all tokens beside each other, to be added up */
        for (int j = 0; j < 8; j++) {
            i32x8 lane;
            memcpy(&lane, words[j], sizeof lane);
            sum[j / 4] += lane;
        }
        i32x8 first = groups == 1 ? sum[0] + sum[1] : sum[0];
        memcpy(out->start[0], &first, sizeof first);
        memcpy(out->start[1], &sum[1], sizeof sum[1]);
    }
}

#if defined(KILN_DOT_VNNI)
enum { ROWS_AT_ONCE = 16, TOKENS_AT_ONCE = 8 };
typedef int32_t row_sums __attribute__((vector_size(64)));
#else
enum { ROWS_AT_ONCE = 8, TOKENS_AT_ONCE = 4 };
typedef int32_t row_sums __attribute__((vector_size(32)));
#endif
_Static_assert((int)ROWS_AT_ONCE == (int)KILN_VL, "a vf holds a float per row");

/* sum += four columns of rows · four columns of one token */
KILN_INLINE row_sums add_quad(int off, row_sums sum, const uint8_t *w, const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
#if defined(KILN_DOT_VNNI)
    (void)off;
    return (row_sums)_mm512_dpbusd_epi32((__m512i)sum, _mm512_load_si512(w), _mm512_set1_epi32(four));
#else
    u8x32 wv = u8x32_load(w);
    i8x32 xv = (i8x32)_mm256_set1_epi32(four);
    return dot_quads(off, &sum, &wv, &xv);
#endif
}

/* What one group of a part adds to the sums of a panel's rows from `row` on and `tokens` tokens from `token`
 * on. */
KILN_INLINE void panel_group(int off, int groups, int min, int tokens, const panel_part *w, const panel_x *x,
                             int g, int row, int token, vf *acc) {
    row_sums sum[TOKENS_AT_ONCE];
    vf d, m;
    for (int c = 0; c < tokens; c++)
        sum[c] = (row_sums){0} + x->start[g][token + c];
    for (int j = 8 / groups * g; j < 8 / groups * (g + 1); j++)
        for (int c = 0; c < tokens; c++)
            sum[c] = add_quad(off, sum[c], w->q[j] + 4 * row, x->q[token + c] + 4 * j);
    memcpy(&d, w->d[g] + row, sizeof d);
    for (int c = 0; c < tokens; c++)
        acc[c] = vf_madd(__builtin_convertvector(sum[c], vf), d * x->d[token + c], acc[c]);
    if (min) {
        memcpy(&m, w->m + row, sizeof m);
        for (int c = 0; c < tokens; c++)
            acc[c] = vf_madd(m, vf_set(x->s[token + c]), acc[c]);
    }
}

/* A panel's rows from `row` on against `tokens` tokens from `token` on. */
KILN_INLINE void panel_kernel(int off, int groups, int min, int tokens, const panel_part *w, const panel_x *x,
                              int64_t parts, int row, int token, float (*y)[WIDE]) {
    const int64_t run = BLOCK_RUN / 32;
    vw total[TOKENS_AT_ONCE];
    for (int c = 0; c < tokens; c++)
        total[c] = (vw){0};
    for (int64_t p = 0; p < parts;) {
        vf acc[TOKENS_AT_ONCE];
        for (int c = 0; c < tokens; c++)
            acc[c] = (vf){0};
        for (const int64_t end = parts - p < run ? parts : p + run; p < end; p++)
            for (int g = 0; g < groups; g++)
                panel_group(off, groups, min, tokens, w + p, x + p, g, row, token, acc);
        if (parts <= run) {
            for (int c = 0; c < tokens; c++)
                vf_store(y[token + c] + row, acc[c]);
            return;
        }
        for (int c = 0; c < tokens; c++)
            total[c] += vf_wide(acc[c]);
    }
    for (int c = 0; c < tokens; c++)
        vf_store(y[token + c] + row, vw_narrow(total[c]));
}

typedef void panel_fn(const panel_part *w, const panel_x *x, int64_t parts, int row, int token,
                      float (*y)[WIDE]);

/* One kernel serves all formats with the same arithmetic.
 * On AVX2 the offset also chooses the instructions. */
#define PANEL(name, off, groups, min)                                                                        \
    static void name##_many(const panel_part *w, const panel_x *x, int64_t parts, int row, int token,        \
                            float(*y)[WIDE]) {                                                               \
        panel_kernel(off, groups, min, TOKENS_AT_ONCE, w, x, parts, row, token, y);                          \
    }                                                                                                        \
    static void name##_one(const panel_part *w, const panel_x *x, int64_t parts, int row, int token,         \
                           float(*y)[WIDE]) {                                                                \
        panel_kernel(off, groups, min, 1, w, x, parts, row, token, y);                                       \
    }
PANEL(panel_min, 0, 1, 1)       /* q5_1, q4_K, q5_K */
PANEL(panel_small, 8, 1, 0)     /* q4_0 */
PANEL(panel_centred, 128, 1, 0) /* q8_0, iq4_nl */
PANEL(panel_halves, 32, 2, 0)   /* q6_K */

#endif

/* ---- the table of formats ------------------------------------------------------------------------------ */

typedef struct int_format {
    strip_fn *strip_1, *strip_4;
    int values, off, groups;
#if defined(HAVE_PANELS)
    void (*unpack)(const unsigned char *const *w, int64_t blocks, panel_part *out);
    panel_fn *many, *one;
#endif
} int_format;

#if defined(HAVE_PANELS)
#define FORMAT(NAME, panel)                                                                                  \
    {                                                                                                        \
        NAME##_strip_1, NAME##_strip_4, NAME##_VALUES, NAME##_OFF, NAME##_GROUPS, NAME##_unpack,             \
            panel##_many, panel##_one                                                                        \
    }
#else
#define FORMAT(NAME, panel)                                                                                  \
    { NAME##_strip_1, NAME##_strip_4, NAME##_VALUES, NAME##_OFF, NAME##_GROUPS }
#endif

static const int_format formats[KILN_DTYPE_COUNT] = {
    [KILN_Q4_0] = FORMAT(q4_0, panel_small),   [KILN_Q5_1] = FORMAT(q5_1, panel_min),
    [KILN_Q8_0] = FORMAT(q8_0, panel_centred), [KILN_IQ4_NL] = FORMAT(iq4_nl, panel_centred),
    [KILN_Q4_K] = FORMAT(q4_K, panel_min),     [KILN_Q5_K] = FORMAT(q5_K, panel_min),
    [KILN_Q6_K] = FORMAT(q6_K, panel_halves),
};

/* Pointers to `n` rows from `row` on; past the last row that row again, its results unused. */
static void row_pointers(const kiln__gemm *g, int64_t row, int n, const unsigned char **w) {
    for (int r = 0; r < n; r++)
        w[r] = g->w + (row + r < g->rows ? row + r : g->rows - 1) * g->w_stride;
}

static void run_strips(const kiln__gemm *g, const int_format *f) {
    const int64_t blocks = g->k / f->values;
    const bool end_to_end = g->w_stride == blocks * kiln_dtype_get((kiln_dtype)g->w_dtype)->bytes;
    for (int64_t row = 0; row < g->rows; row += STRIP) {
        const unsigned char *w[STRIP], *next = end_to_end ? g->w + (row + STRIP) * g->w_stride : NULL;
        int64_t n = g->rows - row < STRIP ? g->rows - row : STRIP;
        row_pointers(g, row, STRIP, w);
        for (int64_t t = 0, step; t < g->tokens; t += step) {
            f32x4 y[STRIP];
            const unsigned char *x[STRIP];
            step = g->tokens - t > 4 ? 4 : g->tokens - t;
            if (step > 2) { /* a missing fourth is the first again */
                for (int64_t c = 0; c < STRIP; c++)
                    x[c] = g->x[t + (c < step ? c : 0)];
                f->strip_4(w, next, blocks, x, y);
            } else {
                step = 1;
                f->strip_1(w, next, blocks, g->x + t, y);
            }
            for (int64_t c = 0; c < step; c++)
                memcpy(g->y[t + c] + row, &y[c], (size_t)n * sizeof(float));
        }
    }
}

#if defined(HAVE_PANELS)
static void run_panels(const kiln__gemm *g, const int_format *f) {
    int64_t parts = g->k / 32;
    int64_t *packed = (int64_t *)(void *)g->scratch;
    panel_part *panel = (panel_part *)(void *)(g->scratch + KILN__PANEL_HEAD);
    panel_x *x = (panel_x *)(void *)(panel + parts);
    for (int64_t t = 0; t < g->tokens && *packed != g->first; t += SIDE) {
        int64_t n = g->tokens - t < SIDE ? g->tokens - t : SIDE;
        gather_x(f->off, f->groups, g->x + t, n, parts, x + t / SIDE * parts);
    }
    *packed = g->first;
    for (int64_t row = 0; row < g->rows; row += WIDE) {
        const unsigned char *w[WIDE];
        int64_t rows = g->rows - row < WIDE ? g->rows - row : WIDE;
        row_pointers(g, row, WIDE, w);
        f->unpack(w, g->k / f->values, panel);
        for (int64_t t = 0; t < g->tokens; t += SIDE) {
            float y[SIDE][WIDE];
            int n = (int)(g->tokens - t < SIDE ? g->tokens - t : SIDE);
            for (int c = 0, step; c < n; c += step) {
                step = n - c > 2 ? TOKENS_AT_ONCE : 1; /* a full one costs about as much as three alone */
                for (int r = 0; r < WIDE; r += ROWS_AT_ONCE)
                    (step > 1 ? f->many : f->one)(panel, x + t / SIDE * parts, parts, r, c, y);
            }
            for (int c = 0; c < n; c++)
                memcpy(g->y[t + c] + row, y[c], (size_t)rows * sizeof(float));
        }
    }
}
#endif

void KILN_LEVEL_FN(gemm_int)(const kiln__gemm *g) {
    const int_format *f = &formats[g->w_dtype];
#if defined(HAVE_PANELS)
    if (g->tokens >= kiln__cpu_tuning.panel_tokens && g->rows >= WIDE / 2) {
        run_panels(g, f);
        return;
    }
#endif
    run_strips(g, f);
}
