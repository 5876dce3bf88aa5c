/* Reads and writes NumPy's .npy files: one array, for `kiln run --input NAME=FILE.npy` and its outputs.
 *
 * Read: format versions 1.0 and 2.0; dtypes f4, f2, i4, u4, i8 and u1; at most 4 dimensions (a Kiln tensor
 * has no more). What is big-endian, in Fortran order or f8 is converted, to little-endian, C order and f32,
 * and `converted` says so. Parsing is strict: the header has exactly the three known keys, and the file ends
 * with the last element. Written: version 1.0, the header padded so that data begins at a multiple of 64.
 * Little-endian machines only. Every function may be called from any thread. */
#ifndef KILN_NPY_H
#define KILN_NPY_H

#include "kiln_dtype.h"

#define KILN_NPY_MAX_DIMS   4
#define KILN_NPY_MAX_HEADER 65536              /* bytes */
#define KILN_NPY_MAX_BYTES  ((int64_t)1 << 32) /* the default cap on a whole file */

/* An array. `data` points into the bytes it was parsed from, or into `file`. */
typedef struct kiln_npy {
    kiln_dtype dtype;
    int32_t ndim;                    /* 0 (one element) to 4 */
    int64_t dims[KILN_NPY_MAX_DIMS]; /* outermost first; 1 from ndim on */
    int64_t bytes;                   /* of data */
    const void *data;                /* aligned for dtype when the parsed bytes begin at a multiple of 64 */
    char converted[120];      /* what was, for a notice: "f64 in Fortran order, converted to f32"; or "" */
    void *file;               /* what was allocated; NULL when parsed in place */
    size_t file_size;         /* bytes of `file` */
    kiln_allocator allocator; /* of `file` */
} kiln_npy;

/* Parses `size` bytes, which stay the caller's and must outlive `out`. `name` stands for the file in messages
 * (NULL: "memory"). What has to be converted is in memory from `allocator` (zeroed: the default). `*out` is
 * written on success only; release it with kiln_npy_release. An f8 beyond the range of f32 becomes infinite,
 * which `converted` counts. Errors: ARGUMENT (bytes or out is NULL); FORMAT (not .npy, malformed, truncated,
 * or bytes after the end); DTYPE (another dtype; the text says what to convert to); UNSUPPORTED (version 3);
 * LIMIT (more than 4 dimensions, a header beyond 64 KiB); OVERFLOW (a size beyond 63 bits); MEMORY. */
KILN_MUST_CHECK kiln_status kiln_npy_parse(const void *bytes, size_t size, const char *name,
                                           kiln_allocator allocator, kiln_npy *out, kiln_error *error);

/* Reads the file at `path` into memory from `allocator` (zeroed: the default) and parses it. A file beyond
 * `max_bytes` (0: KILN_NPY_MAX_BYTES) is refused. On success release `out` with kiln_npy_release; on failure
 * nothing is held and `*out` is untouched.
 * Errors: as kiln_npy_parse; ARGUMENT (path is NULL, max_bytes below 0); SYSTEM (the file cannot be opened or
 * read, or is no regular file); LIMIT (beyond max_bytes); MEMORY. */
KILN_MUST_CHECK kiln_status kiln_npy_read(const char *path, int64_t max_bytes, kiln_allocator allocator,
                                          kiln_npy *out, kiln_error *error);

/* Frees what reading allocated and clears `npy`. NULL and a cleared one are allowed. */
void kiln_npy_release(kiln_npy *npy);

/* Writes an array of `ndim` dimensions (outermost first; NULL allowed when 0) in C order to `path`. A regular
 * file there is replaced only by a whole one; a pipe or device is written. `data` may be NULL when the array
 * has no elements. The same input gives the same bytes.
 * Errors: ARGUMENT (path, or a needed dims or data is NULL); DTYPE (one that .npy has no plain type for: bf16
 * and the quantised ones); SHAPE (a negative dimension, ndim outside 0..4); OVERFLOW; SYSTEM. */
KILN_MUST_CHECK kiln_status kiln_npy_write(const char *path, kiln_dtype dtype, int32_t ndim,
                                           const int64_t *dims, const void *data, kiln_error *error);

#endif
