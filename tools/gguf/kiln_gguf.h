/* Reads and writes GGUF, the single-file model format: keys with typed values, then tensors. The layout is
 * that of docs/gguf.md in github.com/ggml-org/ggml.
 *
 * A small library of its own beside the tools; Kiln's core never opens a file. Names: `kiln_gguf_*`.
 *
 *     kiln_gguf *model = NULL;
 *     uint32_t layers = 0;
 *     if (kiln_gguf_open("model.gguf", NULL, &model, &error) == KILN_OK &&
 *         kiln_gguf_get_u32(model, "llama.block_count", &layers, &error) == KILN_OK) ...
 *     const kiln_gguf_tensor *w = kiln_gguf_tensor_find(model, "blk.0.attn_q.weight");
 *     ... w->data points into the mapping: no copy ...
 *     kiln_gguf_destroy(model);
 *
 * The reader takes GGUF version 2 and 3, little-endian. It checks a file completely before it hands it out:
 * whatever an opened `kiln_gguf` returns lies inside the file. Memory taken is at most a few times the size
 * of the file's header, whatever the header claims.
 *
 * Where the format leaves room, this reader is strict in these ways:
 * - A key or tensor name is valid UTF-8 without control characters (so no NUL), not empty, and at most 65535
 *   bytes (key) or 255 bytes (name) long; so it is always safe to print. String *values* are any bytes.
 * - A key may stand twice when both values are the same bytes (files written by some tools have this); the
 *   first counts, and iteration shows it once. The same key with different values is refused, and so is a
 *   tensor name that stands twice, in all parts together.
 * - Array elements are scalars or strings; arrays of arrays are refused. A bool is 0 or 1.
 * - A tensor has 0 to 4 dimensions. None makes a scalar of one element. A dimension may be 0: the tensor then
 *   has no bytes. Its first stored dimension is a multiple of the type's block size. The product of the
 *   dimensions that are not 0, in elements and in bytes, fits 63 bits.
 * - Tensors may stand in the file in any order and with gaps, but no two may share a byte, and each starts at
 *   a multiple of general.alignment (a power of two from 1 to 16 MiB; 32 when absent). Where that is less
 *   than an element needs, the place of each tensor in the file decides: numbers lie at multiples of their
 *   size,
 *   blocks that hold an f16 at even bytes.
 * - The data section ends with the last tensor's bytes: a file that is shorter was truncated and is refused.
 *   The padding after the last tensor, or after the header of a file without tensors, may be missing (some
 *   writers leave it out). Bytes after that end are ignored.
 * - Every tensor type of ggml is known (gguf_types.inc). Types Kiln cannot compute with open, show and dump
 *   like the others; their `dtype` is KILN_DTYPE_NONE. Types that ggml removed or that are newer than this
 *   table are refused, as their size is unknown.
 *
 * Threads: an opened `kiln_gguf` never changes, so all functions on it may be called from any number of
 * threads at once; opening and destroying belong to one thread. A writer belongs to one thread at a time. */
#ifndef KILN_GGUF_H
#define KILN_GGUF_H

#include "kiln_dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KILN_GGUF_MAX_DIMS          4
#define KILN_GGUF_DEFAULT_ALIGNMENT 32

/* ---- Types ------------------------------------------------------------------------------------------ */

/* The type of a value, numbered as in the file. */
typedef enum kiln_gguf_type {
    KILN_GGUF_U8 = 0,
    KILN_GGUF_I8,
    KILN_GGUF_U16,
    KILN_GGUF_I16,
    KILN_GGUF_U32,
    KILN_GGUF_I32,
    KILN_GGUF_F32,
    KILN_GGUF_BOOL,
    KILN_GGUF_STRING,
    KILN_GGUF_ARRAY,
    KILN_GGUF_U64,
    KILN_GGUF_I64,
    KILN_GGUF_F64,
    KILN_GGUF_TYPE_COUNT
} kiln_gguf_type;

/* "u8", …, "string", "array"; "unknown" for a value outside the enum. Static text. Any thread. */
KILN_API const char *kiln_gguf_type_name(kiln_gguf_type type);

/* A tensor type as ggml numbers it. */
typedef struct kiln_gguf_tensor_type {
    const char *name; /* ggml's name: "f32", "q4_K", "iq2_xxs", … */
    uint32_t id;      /* ggml's number, as in the file */
    uint32_t block;   /* values per block */
    uint32_t bytes;   /* bytes per block */
    kiln_dtype dtype; /* the same bytes as a Kiln dtype; KILN_DTYPE_NONE when Kiln cannot compute with it */
} kiln_gguf_tensor_type;

/* The row of a ggml type number, or NULL when it is unknown or was removed. Static. Any thread. */
KILN_API const kiln_gguf_tensor_type *kiln_gguf_tensor_type_get(uint32_t id);

/* The row of a ggml type name, or NULL (also for NULL). Static. Any thread. */
KILN_API const kiln_gguf_tensor_type *kiln_gguf_tensor_type_by_name(const char *name);

/* The row that holds a Kiln dtype, or NULL when GGUF has none (u32, u8, q8_a). Static. Any thread. */
KILN_API const kiln_gguf_tensor_type *kiln_gguf_tensor_type_of(kiln_dtype dtype);

/* Bytes that are not NUL-terminated and may hold anything; `data` is never NULL. They belong to what they
 * were read from. */
typedef struct kiln_gguf_string {
    const char *data;
    size_t size; /* bytes */
} kiln_gguf_string;

/* ---- Opening ---------------------------------------------------------------------------------------- */

typedef enum kiln_gguf_access {
    /* Map the file: pages are read when they are touched. While it is open, or a session computes with its
     * tensors, no program may shorten it: touching a page beyond the new end ends the process with SIGBUS, in
     * the middle of a run too. Replacing it (rename) does no harm. */
    KILN_GGUF_MMAP = 0,
    KILN_GGUF_READ /* read the whole file into memory from the allocator */
} kiln_gguf_access;

typedef struct kiln_gguf_options {
    kiln_allocator allocator; /* zeroed: the default one. Copied; must live on until kiln_gguf_destroy */
    kiln_gguf_access access;  /* how files are brought in; of no effect on kiln_gguf_open_memory */
} kiln_gguf_options;

typedef struct kiln_gguf kiln_gguf;

/* Opens the file at `path` and, when its split.count is 2 or more, all parts that belong to it. `path` must
 * then be the first part, NAME-00001-of-0000N.gguf; the others are looked for beside it. Parts belong
 * together when each one's split.count, split.no and (where given) split.tensors.count and
 * general.architecture agree. Keys are those of the first part; of the others only the split keys and
 * general.alignment matter. `options` may be NULL (mmap, default allocator). On success `*out` is the
 * caller's, to be given to kiln_gguf_destroy; on failure `*out` is NULL, and nothing is left open or
 * allocated. Errors: ARGUMENT (path or out is NULL; the path is no first part of a split model; an unknown
 * access); SYSTEM (a file cannot be opened, mapped or read, is a folder or a device, or changed its size
 * meanwhile); FORMAT (malformed, truncated, or parts that do not belong together); OVERFLOW (a size beyond 63
 * bits); LIMIT (more than 4 dimensions, a name that is too long, more than 2^31 keys or tensors); UNSUPPORTED
 * (version 1, big-endian, or an unknown tensor type); MEMORY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_open(const char *path, const kiln_gguf_options *options,
                                                    kiln_gguf **out, kiln_error *error);

typedef struct kiln_gguf_bytes {
    const void *data;
    size_t size;
    const char *name; /* stands for the file name in messages; NULL: "memory". Copied */
} kiln_gguf_bytes;

/* The same from memory, one entry per part in their order (`count` 1 for a whole file). The bytes stay the
 * caller's and must outlive `*out`; nothing is copied. Tensor data is aligned as far as the caller's memory
 * is (align `data` to 64 bytes, or to a page to wrap it). Errors: as kiln_gguf_open without SYSTEM; ARGUMENT
 * also when `parts` is NULL or `count` 0, or data is NULL with a size; FORMAT when `count` is not
 * split.count. */
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_open_memory(const kiln_gguf_bytes *parts, size_t count,
                                                           const kiln_gguf_options *options, kiln_gguf **out,
                                                           kiln_error *error);

/* Unmaps and frees everything: keys, strings, tensor data. NULL is allowed.
 * No other thread may be using it. */
KILN_API void kiln_gguf_destroy(kiln_gguf *gguf);

/* ---- Parts ------------------------------------------------------------------------------------------ */

/* One file. [base, base + size) are its bytes; up to base + mapped_size may also be touched (a whole number
 * of 16 KiB pages when read, of system pages when mapped; equal to size from memory), so that the file can be
 * wrapped as one storage without a copy. Read only. Belongs to the kiln_gguf. */
typedef struct kiln_gguf_part {
    const char *path; /* as opened */
    const void *base;
    size_t size;         /* bytes in the file */
    size_t mapped_size;  /* bytes that may be touched, ≥ size */
    int64_t data_offset; /* where tensor data begins, bytes from base */
    uint32_t version;    /* 2 or 3 */
    uint32_t alignment;  /* bytes */
} kiln_gguf_part;

/* How many files it is made of, at least 1. Any thread. */
KILN_API size_t kiln_gguf_part_count(const kiln_gguf *gguf);

/* Part `index` from 0, or NULL past the end. Valid until destroy. Any thread. */
KILN_API const kiln_gguf_part *kiln_gguf_part_at(const kiln_gguf *gguf, size_t index);

/* ---- Tensors ---------------------------------------------------------------------------------------- */

typedef struct kiln_gguf_tensor {
    const char *name;                  /* NUL-terminated */
    const kiln_gguf_tensor_type *type; /* never NULL */
    kiln_dtype dtype;                  /* type->dtype: KILN_DTYPE_NONE when Kiln cannot compute with it */
    int32_t ndim;                      /* 0 to 4 */
    int64_t dims[KILN_GGUF_MAX_DIMS];  /* outermost first (the file has them the other way); 1 from ndim on */
    int64_t offset;                    /* bytes from the start of its part's data section */
    int64_t part_offset;               /* bytes from its part's base; data == base + part_offset */
    int64_t bytes;                     /* may be 0 */
    const void *data;                  /* in the part's mapping; never NULL, even when bytes is 0 */
    uint32_t part;                     /* index of its part */
} kiln_gguf_tensor;

/* Tensors of all parts together. Any thread. */
KILN_API size_t kiln_gguf_tensor_count(const kiln_gguf *gguf);

/* Tensor `index` from 0, in file order, or NULL past the end. Valid until destroy. Any thread. */
KILN_API const kiln_gguf_tensor *kiln_gguf_tensor_at(const kiln_gguf *gguf, size_t index);

/* The tensor with that name, by binary search; NULL when there is none, or for NULL. Valid until destroy. Any
 * thread. */
KILN_API const kiln_gguf_tensor *kiln_gguf_tensor_find(const kiln_gguf *gguf, const char *name);

/* ---- Keys ------------------------------------------------------------------------------------------- */

/* One key and where its value lies. A value's bytes are little-endian and not aligned; read them with the
 * accessors below. Belongs to the kiln_gguf. */
typedef struct kiln_gguf_kv {
    const char *key;        /* NUL-terminated */
    kiln_gguf_type type;    /* of the value */
    kiln_gguf_type element; /* of the elements when type is KILN_GGUF_ARRAY, else the same as type */
    int64_t count;          /* elements of an array, else 1 */
    const void *data;       /* the elements as they stand in the file; a string has its u64 length in front */
    size_t bytes;           /* of data */
} kiln_gguf_kv;

/* Keys, duplicates counted once. Any thread. */
KILN_API size_t kiln_gguf_kv_count(const kiln_gguf *gguf);

/* Key `index` from 0, in file order, or NULL past the end. Valid until destroy. Any thread. */
KILN_API const kiln_gguf_kv *kiln_gguf_kv_at(const kiln_gguf *gguf, size_t index);

/* The entry of a key, by binary search; NULL when there is none, or for NULL. Valid until destroy. Any
 * thread. */
KILN_API const kiln_gguf_kv *kiln_gguf_kv_find(const kiln_gguf *gguf, const char *key);

/* True when the file has this key. For optional keys: set the default, then `if (has) get`. Any thread. */
KILN_API bool kiln_gguf_has(const kiln_gguf *gguf, const char *key);

/* The value of `key`, converted. Integers convert between each other where the value fits. f32 and f64 also
 * take integers up to 2^24 and 2^53 in size; f32 takes an f64 unless it is finite and would become infinite.
 * A bool is only a bool, a string only a string. `*out` is written on success only; a string points into the
 * file and lives as long as `gguf`. Any thread.
 * Errors: ARGUMENT (a NULL argument); FORMAT (no such key, a type that does not convert, or a value out of
 * range; the text names file, key, expected and actual). */
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_u32(const kiln_gguf *gguf, const char *key, uint32_t *out,
                                                       kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_i32(const kiln_gguf *gguf, const char *key, int32_t *out,
                                                       kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_u64(const kiln_gguf *gguf, const char *key, uint64_t *out,
                                                       kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_i64(const kiln_gguf *gguf, const char *key, int64_t *out,
                                                       kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_f32(const kiln_gguf *gguf, const char *key, float *out,
                                                       kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_f64(const kiln_gguf *gguf, const char *key, double *out,
                                                       kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_bool(const kiln_gguf *gguf, const char *key, bool *out,
                                                        kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_string(const kiln_gguf *gguf, const char *key,
                                                          kiln_gguf_string *out, kiln_error *error);

/* The entry of an array. `*out` belongs to `gguf`. Any thread.
 * Errors: ARGUMENT (a NULL argument); FORMAT (no such key, or not an array). */
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_array(const kiln_gguf *gguf, const char *key,
                                                         const kiln_gguf_kv **out, kiln_error *error);

/* Copies all elements of an array to `out`, which has room for exactly `count`, converted as the scalars are.
 * Any thread. Errors: ARGUMENT (a NULL argument); FORMAT (no such key, not an array, the array has another
 * count, elements that do not convert; `out` is then unspecified). */
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_array_i32(const kiln_gguf *gguf, const char *key,
                                                             int32_t *out, int64_t count, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_array_u32(const kiln_gguf *gguf, const char *key,
                                                             uint32_t *out, int64_t count, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_array_f32(const kiln_gguf *gguf, const char *key,
                                                             float *out, int64_t count, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_array_u64(const kiln_gguf *gguf, const char *key,
                                                             uint64_t *out, int64_t count, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_array_i64(const kiln_gguf *gguf, const char *key,
                                                             int64_t *out, int64_t count, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_array_f64(const kiln_gguf *gguf, const char *key,
                                                             double *out, int64_t count, kiln_error *error);
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_get_array_bool(const kiln_gguf *gguf, const char *key,
                                                              bool *out, int64_t count, kiln_error *error);

/* Element `index` (0 for a scalar) of a value as a number, integers beyond 2^53 rounded; a bool is 0 or 1.
 * False for strings, for an index outside 0..count-1, and for NULL. `*out` is written on success only. Any
 * thread. */
KILN_API bool kiln_gguf_kv_f64(const kiln_gguf_kv *kv, int64_t index, double *out);

/* Walks the strings of an array, or the one string of a scalar. Caller memory, nothing to free. */
typedef struct kiln_gguf_strings {
    const unsigned char *next; /* internal */
    int64_t left;              /* strings not yet returned */
} kiln_gguf_strings;

/* Starts at the first string of `kv`; at the end when its elements are not strings (or kv is NULL). Any
 * thread. */
KILN_API kiln_gguf_strings kiln_gguf_strings_of(const kiln_gguf_kv *kv);

/* The next string, or false at the end. The bytes live as long as the kiln_gguf. One thread per walk. */
KILN_API bool kiln_gguf_strings_next(kiln_gguf_strings *strings, kiln_gguf_string *out);

/* The value as text for people, like snprintf: writes at most `size` bytes including the final NUL (`buffer`
 * may be NULL when size is 0) and returns the length of the whole text. Strings stand in quotes, with
 * everything but printable ASCII and UTF-8 escaped; of an array at most `max_items` elements are shown, then
 * "…" and the count. "" for NULL. Any thread. */
KILN_API size_t kiln_gguf_kv_text(const kiln_gguf_kv *kv, int64_t max_items, char *buffer, size_t size);

/* ---- Writing ---------------------------------------------------------------------------------------- */

/* Collects keys and tensors, then writes GGUF version 3 with alignment 32. What is written depends on the
 * calls and their order only. Every add returns its status and the writer keeps the first error: later adds
 * return that error again without doing anything, and so does writing, so a chain of adds needs no checks of
 * its own. */
typedef struct kiln_gguf_writer kiln_gguf_writer;

/* `allocator` zeroed: the default; copied, it must outlive the writer and what kiln_gguf_writer_write_memory
 * gives. On success `*out` goes to kiln_gguf_writer_destroy. Errors: ARGUMENT (out is NULL), MEMORY. Any
 * thread. */
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_writer_create(kiln_allocator allocator, kiln_gguf_writer **out,
                                                             kiln_error *error);

/* Frees the writer, not the tensor data it was shown. NULL is allowed. */
KILN_API void kiln_gguf_writer_destroy(kiln_gguf_writer *writer);

/* Adds a key; key and value are copied. Errors of all: ARGUMENT (writer, key or a value is NULL; a key or a
 * bool array element that the reader would refuse; general.alignment other than 32); MEMORY; LIMIT (the key
 * is too long). Keys are checked for duplicates when written. */
KILN_API kiln_status kiln_gguf_writer_add_u8(kiln_gguf_writer *writer, const char *key, uint8_t value);
KILN_API kiln_status kiln_gguf_writer_add_i8(kiln_gguf_writer *writer, const char *key, int8_t value);
KILN_API kiln_status kiln_gguf_writer_add_u16(kiln_gguf_writer *writer, const char *key, uint16_t value);
KILN_API kiln_status kiln_gguf_writer_add_i16(kiln_gguf_writer *writer, const char *key, int16_t value);
KILN_API kiln_status kiln_gguf_writer_add_u32(kiln_gguf_writer *writer, const char *key, uint32_t value);
KILN_API kiln_status kiln_gguf_writer_add_i32(kiln_gguf_writer *writer, const char *key, int32_t value);
KILN_API kiln_status kiln_gguf_writer_add_u64(kiln_gguf_writer *writer, const char *key, uint64_t value);
KILN_API kiln_status kiln_gguf_writer_add_i64(kiln_gguf_writer *writer, const char *key, int64_t value);
KILN_API kiln_status kiln_gguf_writer_add_f32(kiln_gguf_writer *writer, const char *key, float value);
KILN_API kiln_status kiln_gguf_writer_add_f64(kiln_gguf_writer *writer, const char *key, double value);
KILN_API kiln_status kiln_gguf_writer_add_bool(kiln_gguf_writer *writer, const char *key, bool value);

/* `text` is NUL-terminated. */
KILN_API kiln_status kiln_gguf_writer_add_string(kiln_gguf_writer *writer, const char *key, const char *text);

/* Any bytes, NULs too. */
KILN_API kiln_status kiln_gguf_writer_add_bytes(kiln_gguf_writer *writer, const char *key,
                                                kiln_gguf_string value);

/* An array of `count` scalars of type `element`, from `values` in their C types (bool: one byte each, 0 or
 * 1). `values` may be NULL when count is 0. ARGUMENT also for string or array elements. */
KILN_API kiln_status kiln_gguf_writer_add_array(kiln_gguf_writer *writer, const char *key,
                                                kiln_gguf_type element, const void *values, size_t count);

/* An array of strings. */
KILN_API kiln_status kiln_gguf_writer_add_strings(kiln_gguf_writer *writer, const char *key,
                                                  const kiln_gguf_string *values, size_t count);

/* An entry of an opened file, copied as it is. */
KILN_API kiln_status kiln_gguf_writer_add_kv(kiln_gguf_writer *writer, const kiln_gguf_kv *kv);

/* Adds a tensor. `name` is at most 63 bytes long: ggml refuses a file with a longer one. `type` is a row
 * of the type table (kiln_gguf_tensor_type_of, or a tensor's own); `dims` are outermost first; name and
 * dims are copied. `data` holds as many bytes as type and dims ask for, is not copied and must stay as it
 * is until written; it may be NULL only when that is 0. Errors: ARGUMENT (a NULL argument, a name the
 * reader would refuse, a type that is not from the table); SHAPE (a negative dimension, ndim outside 0..4,
 * an innermost dimension that is not a multiple of the block); OVERFLOW; LIMIT (the name is too long);
 * MEMORY. */
KILN_API kiln_status kiln_gguf_writer_add_tensor(kiln_gguf_writer *writer, const char *name,
                                                 const kiln_gguf_tensor_type *type, int32_t ndim,
                                                 const int64_t *dims, const void *data);

/* Writes the file, first as PATH.partial, which then replaces PATH in one step: a failure leaves an earlier
 * file at PATH as it was, and tensor data may be mapped from that earlier file. The writer stays usable.
 * Errors: the first error of an add; ARGUMENT (a NULL argument, a key or tensor name that stands twice);
 * OVERFLOW; MEMORY; SYSTEM (the file cannot be created, written or renamed; no .partial is left behind). */
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_writer_write(kiln_gguf_writer *writer, const char *path,
                                                            kiln_error *error);

/* The same to memory, aligned to 64 bytes, taken from the writer's allocator; the caller gives it back with
 * `allocator.free(allocator.context, *bytes, *size)`. Errors: as kiln_gguf_writer_write without SYSTEM; on
 * failure `*bytes` is NULL and `*size` 0. */
KILN_API KILN_MUST_CHECK kiln_status kiln_gguf_writer_write_memory(kiln_gguf_writer *writer, void **bytes,
                                                                   size_t *size, kiln_error *error);

#ifdef __cplusplus
}
#endif
#endif
