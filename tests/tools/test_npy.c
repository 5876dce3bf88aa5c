/* .npy files: what is written reads back, what others write reads, and all else is refused. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_help.h"
#include "tools/npy/npy.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

static const unsigned char magic[8] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};

/* A .npy file of version 1.0 with this header text, and `data` bytes that count up from 0. */
static size_t make_file(const char *header, size_t data, unsigned char *out) {
    size_t length = strlen(header);
    memcpy(out, magic, sizeof magic);
    out[8] = (unsigned char)(length & 0xFF);
    out[9] = (unsigned char)(length >> 8);
    for (size_t i = 0; i < length; i++)
        out[10 + i] = (unsigned char)header[i];
    for (size_t i = 0; i < data; i++)
        out[10 + length + i] = (unsigned char)i;
    return 10 + length + data;
}

/* Parses a copy that ends where the bytes end. */
static kiln_status parse_copy(const unsigned char *bytes, size_t size, kiln_npy *out, kiln_error *error) {
    unsigned char *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    kiln_status status = kiln_npy_parse(copy, size, "copy.npy", (kiln_allocator){0}, out, error);
    if (status == KILN_OK) { /* all of it can be read */
        unsigned char sum = 0;
        for (int64_t i = 0; i < out->bytes; i++)
            sum = (unsigned char)(sum + ((const unsigned char *)out->data)[i]);
        const kiln_npy kept = *out;
        kiln_npy_release(out);
        *out = kept;
        out->file = NULL;
        out->data = sum != 0 ? "sum" : NULL;
    }
    free(copy);
    return status;
}

static void expect_parsed(const char *header, size_t data, kiln_dtype dtype, int32_t ndim,
                          const int64_t *dims) {
    unsigned char bytes[1024];
    kiln_npy npy = {0};
    kiln_error error = {0};
    size_t size = make_file(header, data, bytes);
    if (parse_copy(bytes, size, &npy, &error) != KILN_OK)
        fail_msg("%s: %s", header, error.text);
    assert_int_equal(npy.dtype, dtype);
    assert_int_equal(npy.ndim, ndim);
    assert_int_equal(npy.bytes, data);
    assert_null(npy.file);
    for (int32_t i = 0; i < KILN_NPY_MAX_DIMS; i++)
        assert_int_equal(npy.dims[i], i < ndim ? dims[i] : 1);
    for (size_t cut = 0; cut < size; cut++)
        assert_int_not_equal(parse_copy(bytes, cut, &npy, NULL), KILN_OK);
    bytes[size] = 0;
    assert_int_equal(parse_copy(bytes, size + 1, &npy, &error), KILN_ERROR_FORMAT);
    expect_text(&error, "bytes after the end");
}

static void headers_of_other_writers_parse(void **state) {
    (void)state;
    expect_parsed("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }                  \n", 24,
                  KILN_F32, 2, (int64_t[]){2, 3});
    expect_parsed("{'descr': '<f2', 'fortran_order': False, 'shape': (5,), }\n", 10, KILN_F16, 1,
                  (int64_t[]){5});
    expect_parsed("{'descr': '<i8', 'fortran_order': False, 'shape': (), }\n", 8, KILN_I64, 0, NULL);
    expect_parsed("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2, 3, 4), }\n", 96, KILN_I32, 4,
                  (int64_t[]){1, 2, 3, 4});
    expect_parsed("{'shape':(2,2,),\"descr\":\"<u4\",'fortran_order':False}", 16, KILN_U32, 2,
                  (int64_t[]){2, 2});
    expect_parsed("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 7), }\n", 0, KILN_U8, 2,
                  (int64_t[]){0, 7});
}

static void version_2_parses(void **state) {
    (void)state;
    static const char header[] = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n";
    unsigned char first[256], bytes[256] = {0};
    kiln_npy npy = {0};
    size_t length = sizeof header - 1;
    make_file(header, 3, first);
    memcpy(bytes, first, 10); /* two more bytes of length */
    memcpy(bytes + 12, first + 10, length + 3);
    bytes[6] = 2;
    assert_int_equal(kiln_npy_parse(bytes, 15 + length, NULL, (kiln_allocator){0}, &npy, NULL), KILN_OK);
    assert_ptr_equal(npy.data, bytes + 12 + length);
    assert_int_equal(npy.bytes, 3);
    for (size_t cut = 0; cut < 15 + length; cut++)
        assert_int_not_equal(parse_copy(bytes, cut, &npy, NULL), KILN_OK);
    bytes[10] = 1; /* a header of 64 KiB and more */
    assert_int_equal(kiln_npy_parse(bytes, 15 + length, NULL, (kiln_allocator){0}, &npy, NULL),
                     KILN_ERROR_LIMIT);
}

static void other_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        kiln_status status;
        const char *text;
    } cases[] = {
        {"{'descr': '<f1', 'fortran_order': False, 'shape': (2, 3), }", KILN_ERROR_DTYPE, "dtype '<f1'"},
        {"{'descr': '=f4', 'fortran_order': False, 'shape': (2, 3), }", KILN_ERROR_DTYPE, "dtype '=f4'"},
        {"{'descr': '|f4', 'fortran_order': False, 'shape': (2, 3), }", KILN_ERROR_DTYPE, "dtype '|f4'"},
        {"{'descr': 'f4', 'fortran_order': False, 'shape': (2, 3), }", KILN_ERROR_DTYPE, "dtype 'f4'"},
        {"{'descr': '', 'fortran_order': False, 'shape': (2, 3), }", KILN_ERROR_DTYPE, "dtype ''"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", KILN_ERROR_FORMAT,
         "take 48 bytes, 24 follow"},
        {"{'descr': '>f8', 'fortran_order': True, 'shape': (2305843009213693952,), }", KILN_ERROR_OVERFLOW,
         "63 bits"},
        {"{'descr': '|b1', 'fortran_order': False, 'shape': (2, 3), }", KILN_ERROR_DTYPE, "dtype '|b1'"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }", KILN_ERROR_DTYPE, "dtype '|O'"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", KILN_ERROR_DTYPE,
         "structured"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1), }", KILN_ERROR_LIMIT,
         "4 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3), }", KILN_ERROR_FORMAT, "a tuple such as"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3 4), }", KILN_ERROR_FORMAT, "',' or ')'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", KILN_ERROR_FORMAT,
         "a number, found '-3,)"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (03,), }", KILN_ERROR_FORMAT, "leading zeros"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3L,), }", KILN_ERROR_FORMAT, "',' or ')'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (,), }", KILN_ERROR_FORMAT, "a number"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 3, }", KILN_ERROR_FORMAT, "expected '('"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,), }", KILN_ERROR_OVERFLOW,
         "63"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 0, 4), }",
         KILN_ERROR_OVERFLOW, "63 bits"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }", KILN_ERROR_OVERFLOW,
         "63"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }", KILN_ERROR_FORMAT,
         "truncated"},
        {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (3,), }", KILN_ERROR_FORMAT, "True or False"},
        {"{'descr': '<f4', 'fortran_order': False, }", KILN_ERROR_FORMAT, "no key 'shape'"},
        {"{'descr': '<f4', 'descr': '<f4', 'shape': (3,), }", KILN_ERROR_FORMAT, "'descr' stands twice"},
        {"{'descr': '<f4', 'order': False, 'shape': (3,), }", KILN_ERROR_FORMAT, "'order' is unknown"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (3,), }", KILN_ERROR_FORMAT, "',' or '}'"},
        {"{'descr' '<f4', 'fortran_order': False, 'shape': (3,), }", KILN_ERROR_FORMAT, "expected ':'"},
        {"{'descr': '<f4\\n', 'fortran_order': False, 'shape': (3,), }", KILN_ERROR_FORMAT, "closing quote"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), } x", KILN_ERROR_FORMAT, "nothing after"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,),", KILN_ERROR_FORMAT, "a quoted string"},
        {"", KILN_ERROR_FORMAT, "expected '{'"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        unsigned char bytes[1024];
        kiln_npy npy = {.ndim = 99};
        kiln_error error = {0};
        kiln_status got = parse_copy(bytes, make_file(cases[i].header, 24, bytes), &npy, &error);
        if (got != cases[i].status)
            fail_msg("%s: %s %s", cases[i].header, kiln_status_name(got), error.text);
        expect_text(&error, "copy.npy: ");
        expect_text(&error, cases[i].text);
        assert_int_equal(npy.ndim, 99);
    }
}

/* ---- Conversions ------------------------------------------------------------------------------------ */

static const int64_t shape4[4] = {2, 3, 4, 5};
enum { ELEMENTS4 = 120 };

/* Element i as bytes of the dtype, little-endian; f64 for "f8". */
static void element_of(const char *descr, int i, unsigned char *to) {
    const double d = i * 0.25 - 7;
    const float f = (float)d;
    const int64_t n = (int64_t)i * 0x0123456789 - 5;
    if (strcmp(descr, "f8") == 0)
        memcpy(to, &d, 8);
    else if (strcmp(descr, "f4") == 0)
        memcpy(to, &f, 4);
    else
        memcpy(to, &n, (size_t)(descr[1] - '0'));
}

/* Every dtype in both byte orders and both orders of dimensions is read as the same array. */
static void other_orders_are_converted(void **state) {
    (void)state;
    static const char *const descrs[] = {"f4", "f2", "i4", "u4", "i8", "u1", "f8"};
    for (size_t d = 0; d < COUNT(descrs); d++)
        for (int how = 0; how < 4; how++) {
            const bool big = how & 1, fortran = how & 2;
            const size_t size = (size_t)(descrs[d][1] - '0');
            unsigned char bytes[256 + ELEMENTS4 * 8], element[8];
            char header[120];
            kiln_npy npy = {0};
            snprintf(header, sizeof header, "{'descr': '%c%s', 'fortran_order': %s, 'shape': (2, 3, 4, 5), }",
                     big ? '>' : '<', descrs[d], fortran ? "True" : "False");
            size_t all = make_file(header, ELEMENTS4 * size, bytes), start = all - ELEMENTS4 * size;
            for (int i = 0; i < ELEMENTS4; i++) {
                int at[4] = {i / 60, i / 20 % 3, i / 5 % 4, i % 5}, place = i;
                if (fortran)
                    place = at[0] + 2 * (at[1] + 3 * (at[2] + 4 * at[3]));
                element_of(descrs[d], i, element);
                for (size_t b = 0; b < size; b++)
                    bytes[start + (size_t)place * size + b] = element[big ? size - 1 - b : b];
            }
            kiln_error error = {0};
            if (kiln_npy_parse(bytes, all, NULL, (kiln_allocator){0}, &npy, &error) != KILN_OK)
                fail_msg("%s: %s", header, error.text);
            const char *read_as = size == 8 && descrs[d][0] == 'f' ? "f4" : descrs[d];
            const size_t out = (size_t)(read_as[1] - '0');
            assert_int_equal(npy.bytes, ELEMENTS4 * out);
            assert_memory_equal(npy.dims, shape4, sizeof shape4);
            for (int i = 0; i < ELEMENTS4; i++) {
                element_of(read_as, i, element);
                assert_memory_equal((const unsigned char *)npy.data + (size_t)i * out, element, out);
            }
            const bool same = !fortran && read_as == descrs[d] && (!big || size == 1);
            assert_true((npy.file == NULL) == same && (npy.converted[0] == '\0') == same);
            if (same)
                assert_ptr_equal(npy.data, bytes + start);
            assert_true((strstr(npy.converted, "Fortran") != NULL) == fortran);
            assert_true((strstr(npy.converted, "big-endian") != NULL) == (big && size > 1));
            assert_true((strstr(npy.converted, "f64") != NULL) == (read_as != descrs[d]));
            kiln_npy_release(&npy);
        }
}

/* What f32 cannot hold becomes infinite, and is counted; NaN, infinity and what is too small stay what they
 * are. */
static void doubles_are_rounded(void **state) {
    (void)state;
    const double values[] = {0.1, 1e300, -1e39, 1e-320, 3.4028234e38, (double)INFINITY, (double)NAN, -0.0};
    unsigned char bytes[256];
    kiln_npy npy = {0};
    size_t all = make_file("{'descr': '<f8', 'fortran_order': True, 'shape': (8,), }", sizeof values, bytes);
    memcpy(bytes + all - sizeof values, values, sizeof values);
    assert_int_equal(KILN_OK, kiln_npy_parse(bytes, all, NULL, (kiln_allocator){0}, &npy, NULL));
    assert_string_equal(npy.converted, "f64, converted to f32; 2 too large became infinite");
    const float *f = npy.data;
    assert_true(f[0] == 0.1f && isinf(f[1]) && f[1] > 0 && isinf(f[2]) && f[2] < 0 && f[3] == 0);
    assert_true(f[4] == 3.4028234e38f && isinf(f[5]) && isnan(f[6]) && f[7] == 0 && signbit(f[7]));
    kiln_npy_release(&npy);
    /* One dimension has one order, and nothing to convert where there is no element. */
    all = make_file("{'descr': '<f4', 'fortran_order': True, 'shape': (3,), }", 12, bytes);
    assert_int_equal(KILN_OK, kiln_npy_parse(bytes, all, NULL, (kiln_allocator){0}, &npy, NULL));
    assert_string_equal(npy.converted, "");
    all = make_file("{'descr': '>f8', 'fortran_order': True, 'shape': (3, 0), }", 0, bytes);
    assert_int_equal(KILN_OK, kiln_npy_parse(bytes, all, NULL, (kiln_allocator){0}, &npy, NULL));
    assert_int_equal(npy.bytes, 0);
    kiln_npy_release(&npy);
}

static void other_files_are_refused(void **state) {
    (void)state;
    unsigned char bytes[256];
    kiln_npy npy;
    kiln_error error = {0};
    size_t size = make_file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 4, bytes);
    bytes[6] = 3;
    assert_int_equal(parse_copy(bytes, size, &npy, &error), KILN_ERROR_UNSUPPORTED);
    bytes[6] = 1;
    bytes[7] = 1;
    assert_int_equal(parse_copy(bytes, size, &npy, &error), KILN_ERROR_FORMAT);
    bytes[7] = 0;
    bytes[0] = 'P';
    bytes[1] = 'K';
    assert_int_equal(parse_copy(bytes, size, &npy, &error), KILN_ERROR_FORMAT);
    expect_text(&error, "not a .npy file");
    expect_text(&error, ".npz");
    assert_int_equal(kiln_npy_parse(NULL, 1, NULL, (kiln_allocator){0}, &npy, &error), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_npy_parse(bytes, size, NULL, (kiln_allocator){0}, NULL, &error),
                     KILN_ERROR_ARGUMENT);
}

/* Every byte of a header set to every value: refused or parsed, never a read outside. */
static void damage_to_a_header_is_survived(void **state) {
    (void)state;
    unsigned char bytes[256];
    kiln_npy npy;
    size_t size = make_file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 24, bytes),
           opened = 0;
    for (size_t at = 0; at < size - 24; at++)
        for (int value = 0; value < 256; value++) {
            unsigned char good = bytes[at];
            bytes[at] = (unsigned char)value;
            opened += parse_copy(bytes, size, &npy, NULL) == KILN_OK;
            bytes[at] = good;
        }
    assert_true(opened > 0);
}

/* ---- Files ------------------------------------------------------------------------------------------ */

static void arrays_round_trip_through_files(void **state) {
    (void)state;
    static const kiln_dtype dtypes[] = {KILN_F32, KILN_F16, KILN_I32, KILN_U32, KILN_I64, KILN_U8};
    static const struct {
        int32_t ndim;
        int64_t dims[4];
        int64_t elements;
    } shapes[] = {
        {0, {0}, 1}, {1, {7}, 7}, {2, {3, 5}, 15}, {3, {2, 1, 4}, 8}, {4, {2, 2, 2, 2}, 16}, {2, {0, 3}, 0},
    };
    unsigned char data[256];
    char folder[] = "/tmp/kiln-npy-XXXXXX", path[64];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.npy", folder);
    for (size_t d = 0; d < COUNT(dtypes); d++)
        for (size_t s = 0; s < COUNT(shapes); s++) {
            kiln_npy npy = {0};
            kiln_error error = {0};
            int64_t bytes = 0;
            assert_int_equal(kiln_npy_write(path, dtypes[d], shapes[s].ndim, shapes[s].dims, data, &error),
                             KILN_OK);
            if (kiln_npy_read(path, 0, (kiln_allocator){0}, &npy, &error) != KILN_OK)
                fail_msg("%s", error.text);
            assert_int_equal(kiln_dtype_row_bytes(dtypes[d], shapes[s].elements, &bytes), KILN_OK);
            assert_int_equal(npy.dtype, dtypes[d]);
            assert_int_equal(npy.ndim, shapes[s].ndim);
            assert_memory_equal(npy.dims, shapes[s].dims, (size_t)shapes[s].ndim * sizeof *npy.dims);
            assert_int_equal(npy.bytes, bytes);
            assert_int_equal((uintptr_t)npy.data % 64, 0);
            assert_memory_equal(npy.data, data, (size_t)bytes);
            kiln_npy_release(&npy);
            assert_null(npy.file);
            kiln_npy_release(&npy);
        }
    kiln_npy_release(NULL);
    unlink(path);
    rmdir(folder);
}

/* What cannot be replaced by a whole file is written where it is; links stay links. */
static void pipes_and_links_stay(void **state) {
    (void)state;
    char folder[] = "/tmp/kiln-npy-XXXXXX", path[64], target[64], read_back[256];
    const int32_t data[2] = {1, 2};
    const int64_t dims[1] = {2};
    kiln_error error = {0};
    struct stat info;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/pipe", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(fd >= 0);
    assert_int_equal(kiln_npy_write(path, KILN_I32, 1, dims, data, &error), KILN_OK);
    assert_int_equal(read(fd, read_back, sizeof read_back), 128 + 8);
    close(fd);
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    unlink(path);
    snprintf(path, sizeof path, "%s/link", folder);
    snprintf(target, sizeof target, "%s/target", folder);
    assert_int_equal(symlink("target", path), 0);
    for (int i = 0; i < 2; i++) { /* first the target is not there */
        assert_int_equal(kiln_npy_write(path, KILN_I32, 1, dims, data, &error), KILN_OK);
        assert_int_equal(lstat(path, &info), 0);
        assert_true(S_ISLNK(info.st_mode));
        assert_int_equal(stat(target, &info), 0);
        assert_int_equal(info.st_size, 128 + 8);
        assert_int_equal(chmod(target, 0640), 0);
    }
    assert_int_equal(stat(target, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    unlink(path);
    unlink(target);
    assert_int_equal(rmdir(folder), 0);
}

static void written_bytes_are_these(void **state) {
    (void)state;
    static const char start[] =
        "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }";
    char folder[] = "/tmp/kiln-npy-XXXXXX", path[64];
    size_t size = 0;
    const float data[] = {1, 2};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.npy", folder);
    assert_int_equal(kiln_npy_write(path, KILN_F32, 2, (int64_t[]){2, 1}, data, NULL), KILN_OK);
    char *file = testdata_read_path(path, &size);
    assert_non_null(file);
    assert_int_equal(size, 136);
    assert_memory_equal(file, start, sizeof start - 1);
    for (size_t i = sizeof start - 1; i < 127; i++)
        assert_int_equal(file[i], ' ');
    assert_int_equal(file[127], '\n');
    assert_memory_equal(file + 128, data, 8);
    free(file);
    /* The longest shape fits its header. */
    const int64_t longest[] = {INT64_MAX, 0, INT64_MAX, 0};
    assert_int_equal(kiln_npy_write(path, KILN_U8, 4, longest, NULL, NULL), KILN_ERROR_OVERFLOW);
    const int64_t wide[] = {INT64_MAX, 0, 1, 0};
    kiln_npy npy = {0};
    assert_int_equal(kiln_npy_write(path, KILN_U8, 4, wide, NULL, NULL), KILN_OK);
    assert_int_equal(kiln_npy_read(path, 0, (kiln_allocator){0}, &npy, NULL), KILN_OK);
    assert_true(npy.dims[0] == INT64_MAX);
    kiln_npy_release(&npy);
    unlink(path);
    rmdir(folder);
}

static void wrong_use_is_an_error(void **state) {
    (void)state;
    kiln_npy npy = {0};
    kiln_error error = {0};
    char folder[] = "/tmp/kiln-npy-XXXXXX", path[64];
    const int64_t dims[] = {4, 1, 1, 1, 1}, negative[] = {-1}, huge[] = {INT64_MAX};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.npy", folder);
    assert_int_equal(kiln_npy_write(NULL, KILN_U8, 1, dims, "abcd", NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_npy_write(path, KILN_U8, 1, NULL, "abcd", NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_npy_write(path, KILN_U8, 1, dims, NULL, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_npy_write(path, KILN_BF16, 1, dims, "abcd", &error), KILN_ERROR_DTYPE);
    expect_text(&error, "no dtype for bf16");
    assert_int_equal(kiln_npy_write(path, KILN_Q8_0, 1, dims, "abcd", NULL), KILN_ERROR_DTYPE);
    assert_int_equal(kiln_npy_write(path, KILN_DTYPE_NONE, 1, dims, "abcd", NULL), KILN_ERROR_DTYPE);
    assert_int_equal(kiln_npy_write(path, KILN_U8, 5, dims, "abcd", NULL), KILN_ERROR_SHAPE);
    assert_int_equal(kiln_npy_write(path, KILN_U8, -1, dims, "abcd", NULL), KILN_ERROR_SHAPE);
    assert_int_equal(kiln_npy_write(path, KILN_U8, 1, negative, "abcd", NULL), KILN_ERROR_SHAPE);
    assert_int_equal(kiln_npy_write(path, KILN_F32, 1, huge, "abcd", NULL), KILN_ERROR_OVERFLOW);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(kiln_npy_write("/no/such/folder/a.npy", KILN_U8, 1, dims, "abcd", NULL),
                     KILN_ERROR_SYSTEM);
    assert_int_equal(kiln_npy_read(path, 0, (kiln_allocator){0}, &npy, &error), KILN_ERROR_SYSTEM);
    expect_text(&error, "a.npy: cannot open");
    assert_int_equal(kiln_npy_read(folder, 0, (kiln_allocator){0}, &npy, &error), KILN_ERROR_SYSTEM);
    assert_int_equal(kiln_npy_read(NULL, 0, (kiln_allocator){0}, &npy, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_npy_read(path, -1, (kiln_allocator){0}, &npy, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_npy_write(path, KILN_U8, 1, dims, "abcd", NULL), KILN_OK);
    assert_int_equal(kiln_npy_read(path, 131, (kiln_allocator){0}, &npy, &error), KILN_ERROR_LIMIT);
    expect_text(&error, "132 bytes, at most 131 are read");
    assert_int_equal(kiln_npy_read(path, 132, (kiln_allocator){0}, &npy, NULL), KILN_OK);
    kiln_npy_release(&npy);
    unlink(path);
    rmdir(folder);
}

static kiln_status read_with(kiln_allocator allocator, void *context) {
    kiln_npy npy = {0};
    kiln_status status = kiln_npy_read(context, 0, allocator, &npy, NULL);
    kiln_npy_release(&npy);
    return status;
}

static void every_allocation_of_the_reader_may_fail(void **state) {
    (void)state;
    char folder[] = "/tmp/kiln-npy-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.npy", folder);
    assert_int_equal(kiln_npy_write(path, KILN_U8, 1, (int64_t[]){4}, "abcd", NULL), KILN_OK);
    assert_int_equal(fault_alloc_every("npy", read_with, path), 1);
    /* One that is converted takes another. */
    unsigned char bytes[256];
    FILE *f = fopen(path, "wb");
    size_t size = make_file("{'descr': '>f8', 'fortran_order': True, 'shape': (2, 2), }", 32, bytes);
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(fault_alloc_every("npy, converted", read_with, path), 2);
    unlink(path);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_of_other_writers_parse),
        cmocka_unit_test(version_2_parses),
        cmocka_unit_test(other_headers_are_refused),
        cmocka_unit_test(other_orders_are_converted),
        cmocka_unit_test(doubles_are_rounded),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(damage_to_a_header_is_survived),
        cmocka_unit_test(arrays_round_trip_through_files),
        cmocka_unit_test(pipes_and_links_stay),
        cmocka_unit_test(written_bytes_are_these),
        cmocka_unit_test(wrong_use_is_an_error),
        cmocka_unit_test(every_allocation_of_the_reader_may_fail),
    };
    return cmocka_run_group_tests_name("npy", tests, NULL, NULL);
}
