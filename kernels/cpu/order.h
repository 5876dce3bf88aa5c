/* Ordering floats: keys that compare as integers, the k largest of a row, a stable sort. NaN comes last,
 * equal values (-0 and 0 are equal) in the order of their indices. Only for files in kernels/cpu/. */
#ifndef KILN_ORDER_H
#define KILN_ORDER_H

#include "vec.h"

/* Larger for larger values, 0 for NaN, never 0 otherwise: the sign-magnitude bits of a float as unsigned. */
static inline uint32_t order_key(float x) {
    if (x != x)
        return 0;
    uint32_t bits = float_bits(x + 0.0f); /* -0 becomes 0 */
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Key and index in one: the larger, the earlier among the k largest. All are distinct. */
static inline uint64_t order_rank(float x, int64_t i) {
    return (uint64_t)order_key(x) << 32 | (0xffffffffu - (uint32_t)i);
}
static inline int64_t order_index(uint64_t rank) {
    return (int64_t)(0xffffffffu - (uint32_t)rank);
}

/* Is any of 64 values above the bound? */
static inline bool order_any_above(const float *x, float bound) {
    vi above = {0};
    for (int64_t l = 0; l < 64; l += KILN_VL)
        above |= vf_load(x + l) > bound;
    int32_t lanes[KILN_VL], any = 0;
    memcpy(lanes, &above, sizeof lanes);
    for (int l = 0; l < KILN_VL; l++)
        any |= lanes[l];
    return any != 0;
}

/* Restores a heap whose smallest rank is on top, after a change at `at`. */
static inline void order_sift(uint64_t *heap, int64_t n, int64_t at) {
    uint64_t rank = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= rank)
            break;
        heap[at] = heap[child];
    }
    heap[at] = rank;
}

/* Ranks of the k largest of n values, best first, in `heap`, which has room for k. 1 ≤ k ≤ n < 2^31. The heap
 * holds the best so far, the last of them on top. Blocks without a value above that one are skipped: an equal
 * one has a higher index and would come after it. */
static inline void order_top(const float *x, int64_t n, int64_t k, uint64_t *heap) {
    for (int64_t i = 0; i < k; i++)
        heap[i] = order_rank(x[i], i);
    for (int64_t i = k / 2; i-- > 0;)
        order_sift(heap, k, i);
    for (int64_t i = k; i < n;) {
        float bound = x[order_index(heap[0])];
        if (n - i >= 64 && bound == bound && !order_any_above(x + i, bound)) {
            i += 64;
            continue;
        }
        for (int64_t end = n - i >= 64 ? i + 64 : n; i < end; i++) {
            uint64_t rank = order_rank(x[i], i);
            if (rank > heap[0]) {
                heap[0] = rank;
                order_sift(heap, k, 0);
            }
        }
    }
    for (int64_t end = k - 1; end > 0; end--) { /* the last goes to the back, again and again */
        uint64_t last = heap[0];
        heap[0] = heap[end];
        order_sift(heap, end, 0);
        heap[end] = last;
    }
}

/* Sorts pairs (key, index) by key, stably: insertion for short rows, else by the key's bytes from the lowest
 * up. The result is in `a` or in `b`, whichever is returned. */
static inline uint64_t *order_sort(uint64_t *a, uint64_t *b, int64_t n) {
    if (n <= 32) {
        for (int64_t i = 1; i < n; i++) {
            uint64_t v = a[i];
            int64_t at = i;
            for (; at > 0 && a[at - 1] > v; at--)
                a[at] = a[at - 1];
            a[at] = v;
        }
        return a;
    }
    for (int shift = 32; shift < 64; shift += 8) {
        int64_t start[257] = {0};
        for (int64_t i = 0; i < n; i++)
            start[(a[i] >> shift & 255) + 1]++;
        if (start[(a[0] >> shift & 255) + 1] == n)
            continue; /* all keys have this byte in common */
        for (int i = 0; i < 256; i++)
            start[i + 1] += start[i];
        for (int64_t i = 0; i < n; i++)
            b[start[a[i] >> shift & 255]++] = a[i];
        uint64_t *t = a;
        a = b;
        b = t;
    }
    return a;
}

#endif
