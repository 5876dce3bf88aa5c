/* Element types. One row per type stands in kiln_dtype_list.h; everything that depends on a type is a table
 * made from those rows, never a switch. */
#ifndef KILN_DTYPE_H
#define KILN_DTYPE_H

#include "kiln_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* KILN_F32, KILN_F16, KILN_BF16, KILN_I32, KILN_U32, KILN_I64, KILN_U8, the GGML blocks KILN_Q4_0 … KILN_Q6_K
 * (byte for byte as in a GGUF file), and KILN_Q8_A, the activations of `fast` precision (see
 * kiln_dtype_list.h). */
typedef enum kiln_dtype {
    KILN_DTYPE_NONE = 0,
#define KILN_DTYPE(NAME, lower, kind, block, bytes, align, text) KILN_##NAME,
#include "kiln_dtype_list.h"
#undef KILN_DTYPE
    KILN_DTYPE_COUNT
} kiln_dtype;

typedef enum kiln_dtype_kind {
    KILN_KIND_FLOAT, /* f32, f16, bf16 */
    KILN_KIND_INT,   /* i32, u32, i64, u8 */
    KILN_KIND_BLOCK, /* quantised weights */
    KILN_KIND_ACT    /* quantised activations, made by the `quantize` op */
} kiln_dtype_kind;

typedef struct kiln_dtype_info {
    const char *name;     /* as in JSON and messages: "f32", "q4_0", … */
    kiln_dtype_kind kind; /* what it may be used for */
    uint32_t block;       /* values per block; 1 for plain types */
    uint32_t bytes;       /* bytes per block */
    uint32_t align;       /* required alignment of a pointer to it, bytes */
    const char *text;     /* one line for people: how a value is made from the bits */
} kiln_dtype_info;

/* The row of a dtype; NULL for KILN_DTYPE_NONE or a value outside the enum. Static. Any thread. */
KILN_API const kiln_dtype_info *kiln_dtype_get(kiln_dtype dtype);

/* The dtype with that name, or KILN_DTYPE_NONE (also for NULL). Any thread. */
KILN_API kiln_dtype kiln_dtype_by_name(const char *name);

/* Bytes of `n` values. KILN_ERROR_SHAPE when n is negative or no multiple of the block size,
 * KILN_ERROR_OVERFLOW when the product does not fit 63 bits, KILN_ERROR_DTYPE for an unknown dtype; what
 * *bytes holds then means nothing. Any thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_dtype_row_bytes(kiln_dtype dtype, int64_t n, int64_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
