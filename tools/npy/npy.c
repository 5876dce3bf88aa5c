/* .npy: "\x93NUMPY", version, header length, a Python dict as text, then the elements. */
#define _POSIX_C_SOURCE 200809L

#include "npy.h"
#include "checked.h"
#include "tools/gguf/out_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "elements are used in place, which needs a little-endian machine"
#endif

static const unsigned char magic[8] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0}; /* and version 1.0 */

/* What elements are in the file, and what they are read as; f8 is converted. Written under the first row's
 * name. */
static const struct {
    const char *descr; /* without the byte order */
    kiln_dtype dtype;
    uint32_t bytes;   /* of an element in the file */
    const char *text; /* for the notice about a conversion */
} descrs[] = {
    {"f4", KILN_F32, 4, "f32"}, {"f2", KILN_F16, 2, "f16"}, {"i4", KILN_I32, 4, "i32"},
    {"u4", KILN_U32, 4, "u32"}, {"i8", KILN_I64, 8, "i64"}, {"u1", KILN_U8, 1, "u8"},
    {"f8", KILN_F32, 8, "f64"},
};

#define DESCR_COUNT (sizeof descrs / sizeof descrs[0])

/* The end of the path, for messages. */
static const char *short_name(const char *name) {
    if (name == NULL)
        return "memory";
    size_t length = strlen(name);
    return length > 120 ? name + length - 120 : name;
}

/* ---- The header's text ------------------------------------------------------------------------------ */

typedef struct reader {
    const char *start, *at, *end;
    const char *name;
    kiln_error *error;
    size_t descr; /* row of descrs */
    bool swapped; /* big-endian */
    bool fortran; /* innermost dimension first */
} reader;

static kiln_status malformed(const reader *r, const char *expected) {
    int n = (int)(r->end - r->at < 16 ? r->end - r->at : 16);
    char found[17] = {0};
    for (int i = 0; i < n; i++)
        found[i] = r->at[i] >= 0x20 && r->at[i] < 0x7F ? r->at[i] : '?';
    return kiln_error_set(r->error, KILN_ERROR_FORMAT,
                          "%s: .npy header, character %td: expected %s, found '%s'", r->name,
                          r->at - r->start, expected, found);
}

static void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n'))
        r->at++;
}

/* Skips space, then `c` if it is next. */
static bool accept(reader *r, char c) {
    skip_space(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* A quoted string without escapes, into `out`, NUL-terminated. */
static kiln_status read_string(reader *r, char *out, size_t size) {
    char quote = accept(r, '\'') ? '\'' : accept(r, '"') ? '"' : '\0';
    if (quote == '\0')
        return malformed(r, "a quoted string");
    size_t n = 0;
    while (r->at < r->end && *r->at != quote && *r->at >= 0x20 && *r->at < 0x7F && *r->at != '\\' &&
           n + 1 < size)
        out[n++] = *r->at++;
    out[n] = '\0';
    return accept(r, quote) ? KILN_OK : malformed(r, "a short plain string and its closing quote");
}

static kiln_status read_descr(reader *r, kiln_npy *out) {
    char descr[32];
    skip_space(r);
    if (r->at < r->end && *r->at == '[')
        return kiln_error_set(r->error, KILN_ERROR_DTYPE,
                              "%s: a structured dtype; one of f4 f8 f2 i4 u4 i8 u1 is read", r->name);
    kiln_status status = read_string(r, descr, sizeof descr);
    if (status != KILN_OK)
        return status;
    for (size_t i = 0; i < DESCR_COUNT; i++)
        if (descr[0] != '\0' && strchr(descrs[i].bytes == 1 ? "|<>" : "<>", descr[0]) != NULL &&
            strcmp(descr + 1, descrs[i].descr) == 0) {
            out->dtype = descrs[i].dtype;
            r->descr = i;
            r->swapped = descr[0] == '>' && descrs[i].bytes > 1;
            return KILN_OK;
        }
    return kiln_error_set(r->error, KILN_ERROR_DTYPE,
                          "%s: dtype '%s'; one of f4 f8 f2 i4 u4 i8 u1 is read: save it with "
                          "array.astype('<f4') or the like",
                          r->name, descr);
}

static kiln_status read_order(reader *r) {
    skip_space(r);
    const bool is_false = r->end - r->at >= 5 && memcmp(r->at, "False", 5) == 0;
    r->fortran = r->end - r->at >= 4 && memcmp(r->at, "True", 4) == 0;
    if (!is_false && !r->fortran)
        return malformed(r, "True or False");
    r->at += is_false ? 5 : 4;
    return KILN_OK;
}

static kiln_status read_number(reader *r, int64_t *out) {
    skip_space(r);
    if (r->at == r->end || *r->at < '0' || *r->at > '9')
        return malformed(r, "a number");
    if (*r->at == '0' && r->end - r->at > 1 && r->at[1] >= '0' && r->at[1] <= '9')
        return malformed(r, "a number without leading zeros");
    for (*out = 0; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
        if (!kiln__mul(*out, 10, out) || !kiln__add(*out, *r->at - '0', out))
            return kiln_error_set(r->error, KILN_ERROR_OVERFLOW, "%s: a dimension does not fit 63 bits",
                                  r->name);
    return KILN_OK;
}

/* "()", "(3,)", "(3, 4)", "(3, 4,)" */
static kiln_status read_shape(reader *r, kiln_npy *out) {
    if (!accept(r, '('))
        return malformed(r, "'('");
    out->ndim = 0;
    bool comma = true;
    while (!accept(r, ')')) {
        int64_t n = 0;
        if (!comma)
            return malformed(r, "',' or ')'");
        kiln_status status = read_number(r, &n);
        if (status != KILN_OK)
            return status;
        if (out->ndim == KILN_NPY_MAX_DIMS)
            return kiln_error_set(r->error, KILN_ERROR_LIMIT, "%s: more than %d dimensions", r->name,
                                  KILN_NPY_MAX_DIMS);
        out->dims[out->ndim++] = n;
        comma = accept(r, ',');
    }
    return out->ndim == 1 && !comma ? malformed(r, "a tuple such as '(3,)'") : KILN_OK;
}

static kiln_status read_dict(reader *r, kiln_npy *out) {
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    bool seen[3] = {false, false, false}, comma = true;
    if (!accept(r, '{'))
        return malformed(r, "'{'");
    while (!accept(r, '}')) {
        char key[16];
        if (!comma)
            return malformed(r, "',' or '}'");
        kiln_status status = read_string(r, key, sizeof key);
        if (status != KILN_OK)
            return status;
        size_t which = 0;
        while (which < 3 && strcmp(keys[which], key) != 0)
            which++;
        if (which == 3 || seen[which])
            return kiln_error_set(r->error, KILN_ERROR_FORMAT,
                                  "%s: .npy header: key '%s' %s; expected descr, fortran_order and shape",
                                  r->name, key, which == 3 ? "is unknown" : "stands twice");
        seen[which] = true;
        if (!accept(r, ':'))
            return malformed(r, "':'");
        status = which == 0 ? read_descr(r, out) : which == 1 ? read_order(r) : read_shape(r, out);
        if (status != KILN_OK)
            return status;
        comma = accept(r, ',');
    }
    for (size_t i = 0; i < 3; i++)
        if (!seen[i])
            return kiln_error_set(r->error, KILN_ERROR_FORMAT, "%s: .npy header: no key '%s'", r->name,
                                  keys[i]);
    skip_space(r);
    return r->at == r->end ? KILN_OK : malformed(r, "nothing after '}'");
}

/* Bytes of all elements, of so many bytes each. */
static kiln_status size_of(const char *name, const kiln_npy *npy, uint32_t element, int64_t *bytes,
                           kiln_error *error) {
    int64_t total = element;
    bool empty = false, fits = true;
    for (int32_t i = 0; i < npy->ndim; i++) {
        empty = empty || npy->dims[i] == 0;
        fits = fits && (npy->dims[i] == 0 || kiln__mul(total, npy->dims[i], &total));
    }
    if (!fits)
        return kiln_error_set(error, KILN_ERROR_OVERFLOW, "%s: the array does not fit 63 bits", name);
    *bytes = empty ? 0 : total;
    return KILN_OK;
}

/* ---- Converting ------------------------------------------------------------------------------------- */

/* One element, little-endian and as its dtype. True when a finite f64 has become infinite. */
static bool convert_element(const reader *r, const unsigned char *from, unsigned char *to) {
    const uint32_t bytes = descrs[r->descr].bytes;
    unsigned char element[8];
    for (uint32_t i = 0; i < bytes; i++)
        element[i] = from[r->swapped ? bytes - 1 - i : i];
    if (bytes == (uint32_t)kiln_dtype_get(descrs[r->descr].dtype)->bytes) {
        memcpy(to, element, bytes);
        return false;
    }
    double d;
    memcpy(&d, element, sizeof d);
    const float f = (float)d;
    memcpy(to, &f, sizeof f);
    return isinf(f) && !isinf(d);
}

/* All elements in C order; how many have become infinite. */
static int64_t convert_all(const reader *r, const kiln_npy *npy, const unsigned char *from,
                           unsigned char *to) {
    const int64_t in = descrs[r->descr].bytes, out = kiln_dtype_get(npy->dtype)->bytes;
    int64_t at[KILN_NPY_MAX_DIMS] = {0}, stride[KILN_NPY_MAX_DIMS], infinite = 0, next = in;
    for (int32_t i = 0; i < npy->ndim; i++) {
        const int32_t d = r->fortran ? i : npy->ndim - 1 - i;
        stride[d] = next;
        next *= npy->dims[d];
    }
    for (int64_t done = 0, offset = 0; done < npy->bytes; done += out) {
        infinite += convert_element(r, from + offset, to + done);
        for (int32_t d = npy->ndim; d-- > 0;) {
            offset += stride[d];
            if (++at[d] < npy->dims[d])
                break;
            offset -= at[d] * stride[d];
            at[d] = 0;
        }
    }
    return infinite;
}

/* Into its own memory, if something has to be; *npy has data already, as the file has it. */
static kiln_status convert(const reader *r, kiln_allocator a, kiln_npy *npy) {
    const bool narrowed = descrs[r->descr].bytes != (uint32_t)kiln_dtype_get(npy->dtype)->bytes;
    const bool reordered = r->fortran && npy->ndim > 1;
    if (!narrowed && !r->swapped && !reordered)
        return KILN_OK;
    const size_t room = npy->bytes > 0 ? (size_t)npy->bytes : 1;
    void *file = a.alloc(a.context, room, 64);
    if (file == NULL)
        return kiln_error_set(r->error, KILN_ERROR_MEMORY, "%s: no memory (%zu bytes)", r->name, room);
    int64_t infinite = convert_all(r, npy, npy->data, file);
    int n = snprintf(npy->converted, sizeof npy->converted, "%s%s%s, converted%s%s", descrs[r->descr].text,
                     r->swapped ? ", big-endian" : "", reordered ? " in Fortran order" : "",
                     narrowed ? " to f32" : "", reordered ? ", in C order" : "");
    if (infinite > 0 && n > 0 && (size_t)n < sizeof npy->converted)
        snprintf(npy->converted + n, sizeof npy->converted - (size_t)n,
                 "; %" PRId64 " too large became infinite", infinite);
    npy->data = npy->file = file;
    npy->file_size = room;
    npy->allocator = a;
    return KILN_OK;
}

/* ---- Parsing ---------------------------------------------------------------------------------------- */

/* The header's place. */
static kiln_status find_header(const unsigned char *b, size_t size, const char *name, size_t *start,
                               size_t *length, kiln_error *error) {
    if (size < 10 || memcmp(b, magic, 6) != 0)
        return kiln_error_set(
            error, KILN_ERROR_FORMAT, "%s: not a .npy file (%zu bytes)%s", name, size,
            size > 1 && b[0] == 'P' && b[1] == 'K' ? ": an .npz archive must be unpacked first" : "");
    if (b[6] == 3)
        return kiln_error_set(error, KILN_ERROR_UNSUPPORTED, "%s: .npy version 3, expected 1 or 2", name);
    if ((b[6] != 1 && b[6] != 2) || b[7] != 0 || (b[6] == 2 && size < 12))
        return kiln_error_set(error, KILN_ERROR_FORMAT,
                              "%s: .npy version %d.%d (or truncated), expected 1.0 or 2.0", name, b[6], b[7]);
    *start = b[6] == 1 ? 10 : 12;
    *length = (size_t)b[8] | (size_t)b[9] << 8;
    if (b[6] == 2)
        *length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (*length > KILN_NPY_MAX_HEADER)
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "%s: a .npy header of %zu bytes, at most %d are allowed", name, *length,
                              KILN_NPY_MAX_HEADER);
    if (*length > size - *start)
        return kiln_error_set(error, KILN_ERROR_FORMAT, "%s: truncated: a header of %zu bytes, %zu are left",
                              name, *length, size - *start);
    return KILN_OK;
}

kiln_status kiln_npy_parse(const void *bytes, size_t size, const char *name, kiln_allocator allocator,
                           kiln_npy *out, kiln_error *error) {
    name = short_name(name);
    if (bytes == NULL || out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "%s: reading .npy: bytes or out is NULL", name);
    size_t start = 0, length = 0;
    kiln_status status = find_header(bytes, size, name, &start, &length, error);
    if (status != KILN_OK)
        return status;
    kiln_npy npy = {.dims = {1, 1, 1, 1}};
    int64_t in_file = 0;
    const char *text = (const char *)bytes + start;
    reader r = {.start = text, .at = text, .end = text + length, .name = name, .error = error};
    if ((status = read_dict(&r, &npy)) != KILN_OK ||
        (status = size_of(name, &npy, descrs[r.descr].bytes, &in_file, error)) != KILN_OK ||
        (status = size_of(name, &npy, kiln_dtype_get(npy.dtype)->bytes, &npy.bytes, error)) != KILN_OK)
        return status;
    size_t left = size - start - length;
    if ((uint64_t)in_file != left)
        return kiln_error_set(error, KILN_ERROR_FORMAT,
                              "%s: %s: shape and dtype take %" PRId64 " bytes, %zu follow", name,
                              left < (uint64_t)in_file ? "truncated" : "bytes after the end", in_file, left);
    npy.data = (const unsigned char *)bytes + start + length;
    if ((status = convert(&r, kiln__allocator_or_default(&allocator), &npy)) != KILN_OK)
        return status;
    *out = npy;
    return KILN_OK;
}

/* ---- Files ------------------------------------------------------------------------------------------ */

static kiln_status system_error(const char *path, const char *what, int code, kiln_error *error) {
    return kiln_error_set(error, KILN_ERROR_SYSTEM, "%s: cannot %s: %s", short_name(path), what,
                          strerror(code));
}

/* Fills `size` bytes, all the file has. */
static kiln_status read_all(int fd, const char *path, unsigned char *to, size_t size, kiln_error *error) {
    for (size_t at = 0; at < size;) {
        ssize_t got = read(fd, to + at, size - at < ((size_t)1 << 30) ? size - at : (size_t)1 << 30);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_error(path, "read", errno, error);
        if (got == 0)
            return kiln_error_set(error, KILN_ERROR_SYSTEM, "%s: shortened while being read",
                                  short_name(path));
        at += (size_t)got;
    }
    return KILN_OK;
}

static kiln_status read_open(int fd, const char *path, int64_t most, kiln_allocator a, kiln_npy *out,
                             kiln_error *error) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return system_error(path, "inspect", errno, error);
    if (!S_ISREG(info.st_mode))
        return kiln_error_set(error, KILN_ERROR_SYSTEM, "%s: not a regular file", short_name(path));
    if (info.st_size > most)
        return kiln_error_set(error, KILN_ERROR_LIMIT, "%s: %lld bytes, at most %" PRId64 " are read",
                              short_name(path), (long long)info.st_size, most);
    size_t size = (size_t)info.st_size, room = size > 0 ? size : 1;
    unsigned char *file = a.alloc(a.context, room, 64);
    if (file == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "%s: no memory (%zu bytes)", short_name(path), room);
    kiln_npy npy = {0};
    kiln_status status = read_all(fd, path, file, size, error);
    if (status == KILN_OK)
        status = kiln_npy_parse(file, size, path, a, &npy, error);
    if (status != KILN_OK || npy.file != NULL) { /* what was converted lies elsewhere */
        a.free(a.context, file, room);
    } else {
        npy.file = file;
        npy.file_size = room;
        npy.allocator = a;
    }
    if (status == KILN_OK)
        *out = npy;
    return status;
}

kiln_status kiln_npy_read(const char *path, int64_t max_bytes, kiln_allocator allocator, kiln_npy *out,
                          kiln_error *error) {
    if (path == NULL || out == NULL || max_bytes < 0)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "reading .npy: path or out is NULL, or max_bytes is below 0");
    int fd;
    do {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must be refused, not waited for */
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return system_error(path, "open", errno, error);
    kiln_status status = read_open(fd, path, max_bytes > 0 ? max_bytes : KILN_NPY_MAX_BYTES,
                                   kiln__allocator_or_default(&allocator), out, error);
    close(fd);
    return status;
}

void kiln_npy_release(kiln_npy *npy) {
    if (npy == NULL)
        return;
    if (npy->file != NULL)
        npy->allocator.free(npy->allocator.context, npy->file, npy->file_size);
    memset(npy, 0, sizeof *npy);
}

/* The whole start of a file, a multiple of 64 bytes long: version 1.0. */
static size_t make_header(const char *descr, int32_t ndim, const int64_t *dims, char *out, size_t size) {
    size_t at = 10 + (size_t)snprintf(out + 10, size - 10,
                                      "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int32_t i = 0; i < ndim; i++)
        at += (size_t)snprintf(out + at, size - at, i + 1 < ndim ? "%" PRId64 ", " : "%" PRId64, dims[i]);
    at += (size_t)snprintf(out + at, size - at, ndim == 1 ? ",), }" : "), }");
    size_t whole = (at + 1 + 63) / 64 * 64;
    memset(out + at, ' ', whole - at);
    out[whole - 1] = '\n';
    memcpy(out, magic, sizeof magic);
    out[8] = (char)((whole - 10) & 0xFF);
    out[9] = (char)((whole - 10) >> 8);
    return whole;
}

kiln_status kiln_npy_write(const char *path, kiln_dtype dtype, int32_t ndim, const int64_t *dims,
                           const void *data, kiln_error *error) {
    if (path == NULL || (dims == NULL && ndim != 0))
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "writing .npy: path or dims is NULL");
    kiln_npy npy = {.dtype = dtype, .ndim = ndim, .data = data};
    const char *name = short_name(path);
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    size_t row = 0;
    while (row < DESCR_COUNT && descrs[row].dtype != dtype)
        row++;
    if (row == DESCR_COUNT)
        return kiln_error_set(error, KILN_ERROR_DTYPE, "%s: .npy has no dtype for %s: convert to f32 first",
                              name, info != NULL ? info->name : "an unknown dtype");
    if (ndim < 0 || ndim > KILN_NPY_MAX_DIMS)
        return kiln_error_set(error, KILN_ERROR_SHAPE, "%s: %d dimensions, expected 0 to %d", name, (int)ndim,
                              KILN_NPY_MAX_DIMS);
    for (int32_t i = 0; i < ndim; i++) {
        if (dims[i] < 0)
            return kiln_error_set(error, KILN_ERROR_SHAPE, "%s: dimension %d is %" PRId64, name, (int)i,
                                  dims[i]);
        npy.dims[i] = dims[i];
    }
    kiln_status status = size_of(name, &npy, descrs[row].bytes, &npy.bytes, error);
    if (status != KILN_OK)
        return status;
    if (data == NULL && npy.bytes != 0)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "%s: data is NULL, with %" PRId64 " bytes", name,
                              npy.bytes);
    char header[256]; /* 10 + 47 + 4 numbers of at most 19 digits + separators, to a multiple of 64 */
    char descr[8];
    snprintf(descr, sizeof descr, "%c%s", descrs[row].bytes == 1 ? '|' : '<', descrs[row].descr);
    size_t header_size = make_header(descr, ndim, npy.dims, header, sizeof header), bytes = (size_t)npy.bytes;
    kiln__out_file out;
    int code = kiln__out_open(&out, path);
    if (code != 0)
        return system_error(path, "create", code, error);
    int wrote = kiln__out_write(&out, header, header_size);
    if (wrote == 0)
        wrote = kiln__out_write(&out, data, bytes);
    code = kiln__out_finish(&out, wrote == 0);
    if (wrote != 0 || code != 0)
        return system_error(path, "write", wrote != 0 ? wrote : code, error);
    return KILN_OK;
}
