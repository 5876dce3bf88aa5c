/* What the files of the GGUF library share. Internal.
 *
 *   gguf_types.c    the tables of value and tensor types
 *   gguf_file.c     bytes of a file: mapped, read or given
 *   gguf_parse.c    header of one part: cursor, keys, tensor infos
 *   gguf_tensors.c  where tensors lie: sizes, bounds, overlaps
 *   gguf_open.c     parts put together, lookup by name, destroy
 *   gguf_get.c      typed access to keys
 *   gguf_text.c     a value as text for people
 *   gguf_writer.c   collects what is to be written; gguf_write.c lays it out and writes it
 */
#ifndef KILN_GGUF_INTERNAL_H
#define KILN_GGUF_INTERNAL_H

#include "kiln_gguf.h"
#include "checked.h"
#include "index_sort.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF data is used in place, which needs a little-endian machine"
#endif

#define GGUF_MAX_KEY       65535
#define GGUF_MAX_NAME      255
#define GGUF_MAX_WRITTEN   63 /* of a tensor name, that ggml reads: GGML_MAX_NAME less its NUL */
#define GGUF_MIN_ALIGNMENT 1
#define GGUF_MAX_ALIGNMENT (1u << 24)
#define GGUF_HEADER_SIZE   24
#define GGUF_MIN_KV        14 /* u64 length, one byte of key, u32 type, one byte of value */
#define GGUF_MIN_TENSOR    25 /* u64 length, one byte of name, u32 ndim, u32 type, u64 offset */
#define GGUF_LABEL_SIZE    112

/* The file name in messages: the end of its path. */
typedef struct gguf_label {
    char text[GGUF_LABEL_SIZE];
} gguf_label;

typedef enum gguf_origin { GGUF_GIVEN, GGUF_MAPPED, GGUF_ALLOCATED } gguf_origin;

typedef struct gguf_file {
    kiln_gguf_part part;
    gguf_origin origin;
    char *path; /* owned; part.path */
    gguf_label label;
} gguf_file;

/* While parsing, `kv.key` points into the file and is not terminated; afterwards into the pool. */
typedef struct gguf_kv_entry {
    kiln_gguf_kv kv;
    size_t key_size;
} gguf_kv_entry;

/* The keys of one part. `index` is sorted by key. */
typedef struct gguf_keys {
    gguf_kv_entry *items;
    size_t count, capacity;
    char *pool;
    size_t pool_size;
    uint32_t *index;
    size_t index_count;
} gguf_keys;

typedef struct gguf_tensor_entry {
    kiln_gguf_tensor tensor; /* `name` as `kv.key` above */
    size_t name_size;
} gguf_tensor_entry;

/* The tensors of all parts. */
typedef struct gguf_tensors {
    gguf_tensor_entry *items;
    size_t count, capacity;
    char *pool;
    size_t pool_size;
    uint32_t *index;
    size_t index_count;
} gguf_tensors;

struct kiln_gguf {
    kiln_allocator allocator;
    struct {
        gguf_file *items;
        size_t count, capacity;
    } files;
    gguf_keys keys;
    gguf_tensors tensors;
};

/* Sets `error` and gives STATUS, which the compiler can thus see to be no success. */
#define GGUF_ERROR(ERROR, STATUS, ...) (kiln_error_set((ERROR), (STATUS), __VA_ARGS__), (kiln_status)(STATUS))

/* The same with a text that begins with the file; takes at least one argument after FORMAT. */
#define GGUF_FAIL(LABEL, ERROR, STATUS, FORMAT, ...)                                                         \
    GGUF_ERROR((ERROR), (STATUS), "%s: " FORMAT, (LABEL)->text, __VA_ARGS__)

/* For "%.*s": `size` bytes of UTF-8, or as many whole characters as leave room for the rest of a message. */
static inline int kiln_gguf__clip(const char *text, size_t size) {
    size_t most = 120;
    if (size <= most)
        return (int)size;
    while (most > 0 && ((unsigned char)text[most] & 0xC0) == 0x80)
        most--;
    return (int)most;
}

#define GGUF_KEY(E)  kiln_gguf__clip((E)->kv.key, (E)->key_size), (E)->kv.key
#define GGUF_NAME(E) kiln_gguf__clip((E)->tensor.name, (E)->name_size), (E)->tensor.name

/* ---- gguf_types.c ----------------------------------------------------------------------------------- */

/* Bytes of one scalar; 0 for string and array. `type` is in the enum. */
size_t kiln_gguf__scalar_size(kiln_gguf_type type);

/* NULL when `size` bytes at `text` are fit for a key or a tensor name; else what is wrong with them. */
const char *kiln_gguf__bad_name(const char *text, size_t size);

/* Length of the valid UTF-8 sequence at `text` (`size` ≥ 1 bytes), or 0 when there is none. */
size_t kiln_gguf__utf8(const unsigned char *text, size_t size);

/* Elements of a shape, outermost first, and the bytes they take as `type`. Dimensions of 0 count as 1 when
 * the products are checked. SHAPE: ndim outside 0..4, a negative dimension, or an innermost one that is no
 * multiple of the block; OVERFLOW: beyond 63 bits. */
kiln_status kiln_gguf__tensor_bytes(const kiln_gguf_tensor_type *type, int32_t ndim, const int64_t *dims,
                                    int64_t *bytes);

/* ---- gguf_file.c ------------------------------------------------------------------------------------ */

void kiln_gguf__label_set(gguf_label *label, const char *path);

/* Fills `file` with the bytes at `path`. On failure nothing is held. */
kiln_status kiln_gguf__file_load(const kiln_allocator *a, const char *path, kiln_gguf_access access,
                                 gguf_file *file, kiln_error *error);

/* Fills `file` with bytes that stay the caller's. */
kiln_status kiln_gguf__file_given(const kiln_allocator *a, const kiln_gguf_bytes *bytes, gguf_file *file,
                                  kiln_error *error);

void kiln_gguf__file_release(const kiln_allocator *a, gguf_file *file);

/* ---- gguf_parse.c ----------------------------------------------------------------------------------- */

/* Parses the part's header into `keys` (empty before) and appends its tensors, with part number `part`, to
 * `tensors`; fills the rest of file->part.
 * On failure what was allocated is left in both for their release. */
kiln_status kiln_gguf__parse(const kiln_allocator *a, gguf_file *file, uint32_t part, gguf_keys *keys,
                             gguf_tensors *tensors, kiln_error *error);

/* The entry of `key` in `keys`, or NULL. */
const kiln_gguf_kv *kiln_gguf__keys_find(const gguf_keys *keys, const char *key);

void kiln_gguf__keys_release(const kiln_allocator *a, gguf_keys *keys);

/* ---- gguf_tensors.c --------------------------------------------------------------------------------- */

/* Checks a tensor info whose numbers have been read and fills in bytes. */
kiln_status kiln_gguf__tensor_shape(const gguf_label *label, gguf_tensor_entry *entry, kiln_error *error);

/* Checks where tensors from `first` on lie in `file`, whose data_offset and alignment are set, and fills in
 * their data pointers. */
kiln_status kiln_gguf__tensors_place(const kiln_allocator *a, const gguf_file *file, gguf_tensors *tensors,
                                     size_t first, kiln_error *error);

/* Copies names to the pool, sorts the index, and refuses names that stand twice. */
kiln_status kiln_gguf__tensors_finish(const kiln_allocator *a, const gguf_file *files, gguf_tensors *tensors,
                                      kiln_error *error);

void kiln_gguf__tensors_release(const kiln_allocator *a, gguf_tensors *tensors);

/* ---- gguf_get.c ------------------------------------------------------------------------------------- */

/* The value of an integer key, or `*out` untouched when `keys` has no such key. FORMAT when it has another
 * type or is outside [low, high]. */
kiln_status kiln_gguf__optional_int(const gguf_keys *keys, const gguf_label *label, const char *key,
                                    int64_t low, int64_t high, int64_t *out, kiln_error *error);

#endif
