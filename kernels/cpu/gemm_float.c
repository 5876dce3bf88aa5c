/* Matrix products in f32: rows of W, dequantised a chunk at a time, against rows of f32 activations.
 *
 * The elements of both run along K, so a tile of R×C sums needs R + C loads for R·C fused multiply-adds and
 * no rearranging, and a mat-vec adds up exactly as a mat-mat does. Chunks keep the rows of W in the first
 * cache. A chunk is a run of 64 terms in each of the 16 lanes; scratch holds the sums of up to 16 chunks,
 * lane by lane, and what these come to together is added up in double. */
#include "dtype_float.h"
#include "dtype_kernels.h"
#include "gemm.h"
#include "gemm_scratch.h"

/* Without this gcc loads x from memory once per row. */
#if defined(__AVX2__)
#define KEEP_IN_REGISTER(v) __asm__("" : "+v"(v))
#else
#define KEEP_IN_REGISTER(v) ((void)(v))
#endif

enum { GROUP = KILN__GEMM_ROWS, CHUNK = KILN__GEMM_CHUNK, PIECE = 16 * CHUNK };

/* sums[c][r] += Σ_j w[r][j]·x[c][j] for n elements from element `at` of x;
 * n a multiple of 16 but at the end. */
typedef void tile_fn(const unsigned char *const *w, const unsigned char *const *x, int64_t at, int64_t n,
                     float *sums);

/* The last elements, fewer than 16: sum by sum, in memory. */
KILN_INLINE void tile_tail(int rows, int tokens, vf_reader *read, int64_t size, const unsigned char *const *w,
                           const unsigned char *const *x, int64_t at, int64_t j, int64_t n, float *sums) {
    for (int c = 0; c < tokens; c++)
        for (int r = 0; r < rows; r++) {
            vf acc[VECS];
            memcpy(acc, sums + (c * GROUP + r) * LANES, sizeof acc);
            dot_lanes(acc, read, size, w[r] + j * size, vf_from_f32, 4, x[c] + (at + j) * 4, n);
            memcpy(sums + (c * GROUP + r) * LANES, acc, sizeof acc);
        }
}

/* A tile of sums a<token><row>, each with a name of its own: arrays of them some compilers leave in memory.
 * There is a pass for each vector of the 16 lanes, so that a tile needs rows × tokens registers at any
 * width. */
#define ROWS_2(X, c)                                                                                         \
    X(c, 0);                                                                                                 \
    X(c, 1)
#define ROWS_4(X, c)                                                                                         \
    ROWS_2(X, c);                                                                                            \
    X(c, 2);                                                                                                 \
    X(c, 3)
#define TOKENS_1(X) X(0)
#define TOKENS_4(X)                                                                                          \
    X(0);                                                                                                    \
    X(1);                                                                                                    \
    X(2);                                                                                                    \
    X(3)
#define TOKENS_6(X)                                                                                          \
    TOKENS_4(X);                                                                                             \
    X(4);                                                                                                    \
    X(5)
#define SUM(c, r)  vf a##c##r = {0}
#define READ(c, r) vf w##r = read_w(w[r] + j * size_w)
#define ADD(c, r)  a##c##r = vf_madd(w##r, xv##c, a##c##r)
#define KEEP(c, r)                                                                                           \
    vf_store(sums + (c * GROUP + r) * LANES + lane, vf_load(sums + (c * GROUP + r) * LANES + lane) + a##c##r)
#define READ_X(c)                                                                                            \
    vf xv##c = vf_from_f32(x[c] + (at + j) * 4);                                                             \
    KEEP_IN_REGISTER(xv##c)
#define SUM_2(c) ROWS_2(SUM, c)
#define SUM_4(c) ROWS_4(SUM, c)
#define ADD_2(c)                                                                                             \
    READ_X(c);                                                                                               \
    ROWS_2(ADD, c)
#define ADD_4(c)                                                                                             \
    READ_X(c);                                                                                               \
    ROWS_4(ADD, c)
#define KEEP_2(c) ROWS_2(KEEP, c)
#define KEEP_4(c) ROWS_4(KEEP, c)

#define TILE(name, rows, tokens, format, size)                                                               \
    static void name(const unsigned char *const *w, const unsigned char *const *x, int64_t at, int64_t n,    \
                     float *sums) {                                                                          \
        enum { size_w = size };                                                                              \
        vf_reader *const read_w = vf_from_##format;                                                          \
        int64_t whole = n / LANES * LANES;                                                                   \
        for (int lane = 0; lane < LANES; lane += KILN_VL) {                                                  \
            TOKENS_##tokens(SUM_##rows);                                                                     \
            for (int64_t j = lane; j < whole; j += LANES) {                                                  \
                ROWS_##rows(READ, 0);                                                                        \
                TOKENS_##tokens(ADD_##rows);                                                                 \
            }                                                                                                \
            TOKENS_##tokens(KEEP_##rows);                                                                    \
        }                                                                                                    \
        if (whole < n)                                                                                       \
            tile_tail(rows, tokens, read_w, size, w, x, at, whole, n - whole, sums);                         \
    }

#if defined(__AVX512F__) || defined(__aarch64__) /* 32 registers */
enum { TILE_ROWS = 4, TILE_TOKENS = 4 };
TILE(tile_many, 4, 4, f32, 4)
#else
enum { TILE_ROWS = 2, TILE_TOKENS = 6 };
TILE(tile_many, 2, 6, f32, 4)
#endif
TILE(tile_f32, 4, 1, f32, 4)
TILE(tile_f16, 4, 1, f16, 2)
TILE(tile_bf16, 4, 1, bf16, 2)

/* One token takes its halves straight from memory; more tokens share what is made of them once. */
static tile_fn *direct(const kiln__gemm *g) {
    if (g->w_dtype == KILN_F32)
        return tile_f32;
    if (g->tokens > 1)
        return NULL;
    return g->w_dtype == KILN_F16 ? tile_f16 : g->w_dtype == KILN_BF16 ? tile_bf16 : NULL;
}

/* All tokens against a chunk of GROUP rows in f32. */
static void chunk_tokens(const kiln__gemm *g, const unsigned char *const *w, int64_t at, int64_t n,
                         float *sums) {
    int64_t t = 0;
    for (; t + TILE_TOKENS <= g->tokens; t += TILE_TOKENS)
        for (int r = 0; r < GROUP; r += TILE_ROWS)
            tile_many(w + r, g->x + t, at, n, sums + (t * GROUP + r) * LANES);
    for (; t < g->tokens; t++)
        tile_f32(w, g->x + t, at, n, sums + t * GROUP * LANES);
}

/* Fetches from the next rows what is read of these now. Not where W is used as it lies in memory: there processors guess
 * better by themselves (f32, one token, W in memory: 34 GB/s against 28 on Zen 4, 17.4 against 15.4 on Sapphire
 * Rapids). */
static void fetch_ahead(const kiln__gemm *g, int64_t row, int64_t at, int64_t bytes) {
    for (int64_t r = row + GROUP; r < row + 2 * GROUP; r++)
        for (int64_t o = 0; o < bytes; o += 64)
            __builtin_prefetch(g->w + r * g->w_stride + at + o);
}

/* A piece ends before the row does: its sums, of `count` pairs of a token and a row, join the totals and
 * start again. */
static void join_piece(double *totals, float *sums, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        vf lanes[VECS];
        memcpy(lanes, sums + i * LANES, sizeof lanes);
        totals[i] += (double)lanes_sum(lanes);
    }
    memset(sums, 0, (size_t)count * LANES * sizeof *sums);
}

void KILN_LEVEL_FN(gemm_float)(const kiln__gemm *g) {
    const kiln_dtype_info *info = kiln_dtype_get((kiln_dtype)g->w_dtype);
    const kiln__dtype_fns *fns = &KILN_LEVEL_FN(dtype)[g->w_dtype];
    float *chunk = (float *)(void *)g->scratch, *sums = chunk + GROUP * CHUNK;
    double *totals = (double *)(void *)(sums + g->tokens * GROUP * LANES);
    tile_fn *in_place = direct(g);
    for (int64_t row = 0; row < g->rows; row += GROUP) {
        int64_t left = g->rows - row;
        memset(sums, 0, (size_t)g->tokens * GROUP * LANES * sizeof *sums);
        if (g->k > PIECE)
            memset(totals, 0, (size_t)g->tokens * GROUP * sizeof *totals);
        for (int64_t at = 0; at < g->k; at += CHUNK) {
            const unsigned char *w[GROUP];
            int64_t n = g->k - at < CHUNK ? g->k - at : CHUNK;
            if (in_place == NULL)
                fetch_ahead(g, row, at / info->block * info->bytes, n / info->block * info->bytes);
            for (int r = 0; r < GROUP; r++) { /* past the last row: that row again, its sums unused */
                w[r] =
                    g->w + (row + (r < left ? r : left - 1)) * g->w_stride + at / info->block * info->bytes;
                if (in_place == NULL) {
                    if (r < left)
                        fns->to_f32(w[r], chunk + r * CHUNK, n);
                    w[r] = (const unsigned char *)(chunk + (r < left ? r : left - 1) * CHUNK);
                }
            }
            if (g->tokens == 1 && in_place != NULL)
                in_place(w, g->x, at, n, sums);
            else
                chunk_tokens(g, w, at, n, sums);
            if ((at + CHUNK) % PIECE == 0 && at + CHUNK < g->k)
                join_piece(totals, sums, g->tokens * GROUP);
        }
        for (int64_t t = 0; t < g->tokens; t++)
            for (int64_t r = 0; r < GROUP && r < left; r++) {
                vf lanes[VECS];
                memcpy(lanes, sums + (t * GROUP + r) * LANES, sizeof lanes);
                float last = lanes_sum(lanes);
                g->y[t][row + r] = g->k > PIECE ? (float)(totals[t * GROUP + r] + (double)last) : last;
            }
    }
}
