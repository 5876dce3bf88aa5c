/* The numbers that were found by measuring and not by thinking, in one place per executor. No result
 * depends on them. Internal. */
#ifndef KILN_TUNING_H
#define KILN_TUNING_H

#include <stdint.h>

typedef struct kiln__tuning {
    int64_t tile_macs;    /* multiply-adds a matmul tile should have: a few microseconds */
    int64_t tile_rows;    /* rows of W a tile has at least when there are several tokens */
    int64_t float_tokens; /* tokens per tile in f32: their rows stay in the second cache */
    int64_t int_tokens;   /* tokens per tile with q8_a activations */
    int64_t panel_tokens; /* from here on integer tiles unpack W into panels once for all tokens */
    int64_t map_tokens;   /* matmul_id groups rows by expert from this many tokens on */
    /* What one thread gets through, for estimates of how long records take. */
    int64_t bytes_per_ns; /* from the second cache, say */
    int64_t ops_per_ns;   /* f32 multiply-adds */
    int64_t record_ns;    /* a kernel call that has nothing to do */
    int64_t unknown_ns;   /* a tile of a kernel that does not say */
    /* What is worth telling other threads. */
    int64_t share_ns; /* a region shorter than this is computed by one thread, and two share one as long */
    int64_t claim_ns; /* tiles are claimed in portions about this long */
    int64_t
        look_ns; /* a thread looks at least so often whether the run was cancelled, if tiles are shorter */
    int64_t wake_ns; /* from waking a parked thread until it computes; less work than that is not worth it */
} kiln__tuning;

/* Measured on Zen 4, two processors of a shared host: tiles and tokens in the ops' own benchmarks, what follows them by
 * `make bench-tuning`, whose figures are given where they are not the numbers themselves. There, two threads took 0.91 of
 * the time of one for regions of 0.5 us, 0.68 for 1 us and 0.59 for 2 us; claims of 125 ns to 16 us took 119, 134, 117,
 * 110, 108, 107, 108 and 106 us for a region of 200 us; waking took 59 us (15 to 84, by the state of the host). */
static const kiln__tuning kiln__cpu_tuning = {
    .tile_macs = 1 << 17,
    .tile_rows = 32,
    .float_tokens = 32,
    .int_tokens = 64,
    .panel_tokens = 5,
    .map_tokens = 8,
    .bytes_per_ns = 40, /* 48 from the second cache, 30 from memory */
    .ops_per_ns = 32,   /* 25 with some tokens; small ops were fitted to 40 */
    .record_ns = 10,
    .unknown_ns = 1000,
    .share_ns = 1000,
    .claim_ns = 2000,
    .look_ns = 100000,
    .wake_ns = 40000,
};

#endif
