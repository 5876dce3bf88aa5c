/* Matrix products in f32: rows of W, dequantised a chunk at a time, against rows of f32 activations.
 *
 * The elements of both run along K, so a tile of R×C sums needs R + C loads for R·C fused multiply-adds and
 * no rearranging, and a mat-vec adds up exactly as a mat-mat does. Chunks keep the rows of W in the first
 * cache; between chunks the sums rest in scratch, in their 16 lanes.
 */
#include "dtype_float.h"
#include "dtype_kernels.h"
#include "gemm.h"
#include "gemm_scratch.h"

#if defined(__AVX512F__)
enum { TILE_ROWS = 4, TILE_TOKENS = 4 };
#elif defined(__AVX2__) || defined(__aarch64__)
enum { TILE_ROWS = 2, TILE_TOKENS = 3 };
#else
enum { TILE_ROWS = 1, TILE_TOKENS = 3 };
#endif

/* Without this gcc loads x from memory once per row. */
#if defined(__AVX2__)
#define KEEP_IN_REGISTER(v) __asm__("" : "+v"(v))
#else
#define KEEP_IN_REGISTER(v) ((void)(v))
#endif

enum { GROUP = KILN__GEMM_ROWS, CHUNK = KILN__GEMM_CHUNK };

/* sums[c][r] += Σ_j w[r][j]·x[c][j] for n elements from element `at` of x; n a multiple of 16 but at the end.
 */
typedef void tile_fn(const unsigned char *const *w, const unsigned char *const *x, int64_t at, int64_t n,
                     float *sums);

KILN_INLINE void tile(int rows, int tokens, vf_reader *read, int64_t size, const unsigned char *const *w,
                      const unsigned char *const *x, int64_t at, int64_t n, float *sums) {
    enum { MOST = 4 };
    vf acc[MOST][MOST][VECS];
    for (int c = 0; c < tokens; c++)
        for (int r = 0; r < rows; r++)
            memcpy(acc[c][r], sums + (c * GROUP + r) * LANES, sizeof acc[c][r]);
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int v = 0; v < VECS; v++) {
            vf wv[MOST];
            for (int r = 0; r < rows; r++)
                wv[r] = read(w[r] + (j + v * VW) * size);
            for (int c = 0; c < tokens; c++) {
                vf xv = vf_from_f32(x[c] + (at + j + v * VW) * 4);
                KEEP_IN_REGISTER(xv);
                for (int r = 0; r < rows; r++)
                    acc[c][r][v] += wv[r] * xv;
            }
        }
    if (j < n)
        for (int c = 0; c < tokens; c++)
            for (int r = 0; r < rows; r++)
                dot_lanes(acc[c][r], read, size, w[r] + j * size, vf_from_f32, 4, x[c] + (at + j) * 4, n - j);
    for (int c = 0; c < tokens; c++)
        for (int r = 0; r < rows; r++)
            memcpy(sums + (c * GROUP + r) * LANES, acc[c][r], sizeof acc[c][r]);
}

#define TILE(name, rows, tokens, format, size)                                                               \
    static void name(const unsigned char *const *w, const unsigned char *const *x, int64_t at, int64_t n,    \
                     float *sums) {                                                                          \
        tile(rows, tokens, vf_from_##format, size, w, x, at, n, sums);                                       \
    }
TILE(tile_many, TILE_ROWS, TILE_TOKENS, f32, 4)
TILE(tile_f32, GROUP, 1, f32, 4)
TILE(tile_f16, GROUP, 1, f16, 2)
TILE(tile_bf16, GROUP, 1, bf16, 2)

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

/* Fetches from the next rows what is read of these now: four short streams are too many for the processor's own
 * guesses. */
static void fetch_ahead(const kiln__gemm *g, int64_t row, int64_t at, int64_t bytes) {
    for (int64_t r = row + GROUP; r < row + 2 * GROUP; r++)
        for (int64_t o = 0; o < bytes; o += 64)
            __builtin_prefetch(g->w + r * g->w_stride + at + o);
}

void KILN_LEVEL_FN(gemm_float)(const kiln__gemm *g) {
    const kiln_dtype_info *info = kiln_dtype_get((kiln_dtype)g->w_dtype);
    const kiln__dtype_fns *fns = &KILN_LEVEL_FN(dtype)[g->w_dtype];
    float *chunk = (float *)(void *)g->scratch, *sums = chunk + GROUP * CHUNK;
    tile_fn *in_place = direct(g);
    for (int64_t row = 0; row < g->rows; row += GROUP) {
        int64_t left = g->rows - row;
        memset(sums, 0, (size_t)g->tokens * GROUP * LANES * sizeof *sums);
        for (int64_t at = 0; at < g->k; at += CHUNK) {
            const unsigned char *w[GROUP];
            int64_t n = g->k - at < CHUNK ? g->k - at : CHUNK;
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
        }
        for (int64_t t = 0; t < g->tokens; t++)
            for (int64_t r = 0; r < GROUP && r < left; r++) {
                vf lanes[VECS];
                memcpy(lanes, sums + (t * GROUP + r) * LANES, sizeof lanes);
                g->y[t][row + r] = lanes_sum(lanes);
            }
    }
}
