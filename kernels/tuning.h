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
} kiln__tuning;

/* Measured on Zen 4. */
static const kiln__tuning kiln__cpu_tuning = {
    .tile_macs = 1 << 17,
    .tile_rows = 64,
    .float_tokens = 32,
    .int_tokens = 64,
    .panel_tokens = 5,
    .map_tokens = 8,
};

#endif
