/* The GGUF writer: what it writes reads back, and is the bytes other writers make of the same content. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_help.h"

static kiln_gguf_writer *new_writer(void) {
    kiln_gguf_writer *w = NULL;
    assert_int_equal(kiln_gguf_writer_create((kiln_allocator){0}, &w, NULL), KILN_OK);
    return w;
}

static void add_all(kiln_gguf_writer *w, const kiln_gguf *g) {
    for (size_t i = 0; i < kiln_gguf_kv_count(g); i++)
        kiln_gguf_writer_add_kv(w, kiln_gguf_kv_at(g, i));
    for (size_t i = 0; i < kiln_gguf_tensor_count(g); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(g, i);
        kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim, t->dims, t->data);
    }
}

static void *write_to_memory(kiln_gguf_writer *w, size_t *size) {
    void *bytes = NULL;
    kiln_error error = {0};
    if (kiln_gguf_writer_write_memory(w, &bytes, size, &error) != KILN_OK)
        fail_msg("%s", error.text);
    assert_int_equal((uintptr_t)bytes % 64, 0);
    return bytes;
}

static kiln_gguf *open_bytes(const void *bytes, size_t size) {
    kiln_gguf_bytes part = {bytes, size, "written"};
    kiln_gguf *g = NULL;
    kiln_error error = {0};
    if (kiln_gguf_open_memory(&part, 1, NULL, &g, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return g;
}

static void real_files_are_written_byte_for_byte(void **state) {
    (void)state;
    static const char *const files[] = {
        "gguf/alltypes_real_256x128.gguf",
        "gguf/docker_dummy.gguf",
        "malformed/gguf/ok_minimal.gguf",
        "malformed/gguf/ok_no_tensors.gguf",
        "malformed/gguf/ok_zero_dim_elem.gguf",
        "malformed/gguf/ndims_0.gguf",
        "stories260K/stories260K-f32.gguf",
        "stories260K/stories260K-q4_0.gguf",
        "stories260K/stories260K-moe4x-split-f32.gguf",
        "stories260K/stories260K-moe8x-permuted-q8_0.gguf",
    };
    char path[TESTDATA_PATH_SIZE];
    for (size_t i = 0; i < COUNT(files); i++) {
        kiln_gguf *g = open_good(need(files[i], path), KILN_GGUF_MMAP);
        kiln_gguf_writer *w = new_writer();
        size_t size = 0, file_size = 0;
        add_all(w, g);
        void *bytes = write_to_memory(w, &size), *file = testdata_read(files[i], &file_size);
        assert_non_null(file);
        assert_int_equal(size, file_size);
        assert_memory_equal(bytes, file, size);
        free(bytes);
        free(file);
        kiln_gguf_writer_destroy(w);
        kiln_gguf_destroy(g);
    }
}

/* Version 2, alignment 64, duplicate keys, no padding: the content stays. */
static void other_files_keep_their_content(void **state) {
    (void)state;
    static const char *const files[] = {"gguf/iree_multiple.gguf", "gguf/iree_single_v2.gguf",
                                        "gguf/ggml-vocab-phi-3.gguf",
                                        "gguf/docker_dummy-00001-of-00002.gguf"};
    char path[TESTDATA_PATH_SIZE];
    for (size_t i = 0; i < COUNT(files); i++) {
        kiln_gguf *g = open_good(need(files[i], path), KILN_GGUF_MMAP);
        kiln_gguf_writer *w = new_writer();
        size_t size = 0;
        for (size_t k = 0; k < kiln_gguf_kv_count(g); k++) {
            const kiln_gguf_kv *kv = kiln_gguf_kv_at(g, k);
            if (strncmp(kv->key, "split.", 6) != 0 && strcmp(kv->key, "general.alignment") != 0)
                assert_int_equal(kiln_gguf_writer_add_kv(w, kv), KILN_OK);
        }
        for (size_t k = 0; k < kiln_gguf_tensor_count(g); k++) {
            const kiln_gguf_tensor *t = kiln_gguf_tensor_at(g, k);
            assert_int_equal(kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim, t->dims, t->data),
                             KILN_OK);
        }
        void *bytes = write_to_memory(w, &size);
        kiln_gguf *again = open_bytes(bytes, size);
        assert_int_equal(kiln_gguf_part_at(again, 0)->version, 3);
        assert_int_equal(kiln_gguf_tensor_count(again), kiln_gguf_tensor_count(g));
        for (size_t k = 0; k < kiln_gguf_kv_count(again); k++) {
            const kiln_gguf_kv *x = kiln_gguf_kv_at(again, k), *y = kiln_gguf_kv_find(g, x->key);
            assert_non_null(y);
            assert_int_equal(x->type, y->type);
            assert_int_equal(x->count, y->count);
            assert_int_equal(x->bytes, y->bytes);
            assert_memory_equal(x->data, y->data, x->bytes);
        }
        for (size_t k = 0; k < kiln_gguf_tensor_count(g); k++) {
            const kiln_gguf_tensor *x = kiln_gguf_tensor_at(g, k), *y = kiln_gguf_tensor_at(again, k);
            assert_string_equal(x->name, y->name);
            assert_memory_equal(x->dims, y->dims, sizeof x->dims);
            assert_memory_equal(x->data, y->data, (size_t)x->bytes);
        }
        kiln_gguf_destroy(again);
        free(bytes);
        kiln_gguf_writer_destroy(w);
        kiln_gguf_destroy(g);
    }
}

/* One of everything. */
static void add_samples(kiln_gguf_writer *w, const float *weights, const void *blocks) {
    static const int16_t shorts[] = {-1, 0, 1};
    static const uint8_t flags[] = {1, 0, 1, 1};
    static const double reals[] = {0.5, -1e300};
    const kiln_gguf_string words[] = {{"one", 3}, {"", 0}, {"t\0o", 3}};
    kiln_gguf_writer_add_u8(w, "u8", UINT8_MAX);
    kiln_gguf_writer_add_i8(w, "i8", INT8_MIN);
    kiln_gguf_writer_add_u16(w, "u16", UINT16_MAX);
    kiln_gguf_writer_add_i16(w, "i16", INT16_MIN);
    kiln_gguf_writer_add_u32(w, "u32", UINT32_MAX);
    kiln_gguf_writer_add_i32(w, "i32", INT32_MIN);
    kiln_gguf_writer_add_u64(w, "u64", UINT64_MAX);
    kiln_gguf_writer_add_i64(w, "i64", INT64_MIN);
    kiln_gguf_writer_add_f32(w, "f32", -0.25f);
    kiln_gguf_writer_add_f64(w, "f64", 1e-300);
    kiln_gguf_writer_add_bool(w, "yes", true);
    kiln_gguf_writer_add_bool(w, "no", false);
    kiln_gguf_writer_add_string(w, "string", "text");
    kiln_gguf_writer_add_bytes(w, "bytes", words[2]);
    kiln_gguf_writer_add_array(w, "shorts", KILN_GGUF_I16, shorts, COUNT(shorts));
    kiln_gguf_writer_add_array(w, "flags", KILN_GGUF_BOOL, flags, COUNT(flags));
    kiln_gguf_writer_add_array(w, "reals", KILN_GGUF_F64, reals, COUNT(reals));
    kiln_gguf_writer_add_array(w, "empty", KILN_GGUF_U32, NULL, 0);
    kiln_gguf_writer_add_strings(w, "words", words, COUNT(words));
    kiln_gguf_writer_add_strings(w, "no words", NULL, 0);
    kiln_gguf_writer_add_u32(w, "general.alignment", 32);
    kiln_gguf_writer_add_tensor(w, "weights", kiln_gguf_tensor_type_of(KILN_F32), 3, (int64_t[]){2, 1, 3},
                                weights);
    kiln_gguf_writer_add_tensor(w, "blocks", kiln_gguf_tensor_type_of(KILN_Q8_0), 2, (int64_t[]){3, 32},
                                blocks);
    kiln_gguf_writer_add_tensor(w, "none", kiln_gguf_tensor_type_of(KILN_F16), 2, (int64_t[]){0, 7}, NULL);
    kiln_gguf_writer_add_tensor(w, "scalar", kiln_gguf_tensor_type_of(KILN_F32), 0, NULL, weights);
}

static const float sample_weights[6] = {1, 2, 3, 4, 5, 6};
static const unsigned char sample_blocks[102] = {1, 2, 3};

static void check_samples(const kiln_gguf *g) {
    static const struct {
        const char *key, *text;
    } expected[] = {
        {"u8", "255"},
        {"i8", "-128"},
        {"u16", "65535"},
        {"i16", "-32768"},
        {"u32", "4294967295"},
        {"i32", "-2147483648"},
        {"u64", "18446744073709551615"},
        {"i64", "-9223372036854775808"},
        {"f32", "-0.25"},
        {"f64", "1e-300"},
        {"yes", "true"},
        {"no", "false"},
        {"string", "\"text\""},
        {"bytes", "\"t\\x00o\""},
        {"shorts", "[-1, 0, 1]"},
        {"flags", "[true, false, true, true]"},
        {"reals", "[0.5, -1.0000000000000001e+300]"},
        {"empty", "[]"},
        {"words", "[\"one\", \"\", \"t\\x00o\"]"},
        {"no words", "[]"},
        {"general.alignment", "32"},
    };
    char text[128];
    assert_int_equal(kiln_gguf_kv_count(g), COUNT(expected));
    for (size_t i = 0; i < COUNT(expected); i++) {
        const kiln_gguf_kv *kv = kiln_gguf_kv_at(g, i);
        assert_string_equal(kv->key, expected[i].key);
        kiln_gguf_kv_text(kv, 10, text, sizeof text);
        assert_string_equal(text, expected[i].text);
    }
    int64_t whole[3];
    uint64_t naturals[3];
    double reals[2];
    bool flags[4];
    assert_int_equal(kiln_gguf_get_array_i64(g, "shorts", whole, 3, NULL), KILN_OK);
    assert_memory_equal(whole, ((int64_t[]){-1, 0, 1}), sizeof whole);
    assert_int_equal(kiln_gguf_get_array_u64(g, "shorts", naturals, 3, NULL), KILN_ERROR_FORMAT); /* -1 */
    assert_int_equal(kiln_gguf_get_array_u64(g, "empty", naturals, 0, NULL), KILN_OK);
    assert_int_equal(kiln_gguf_get_array_f64(g, "reals", reals, 2, NULL), KILN_OK);
    assert_true(reals[0] == 0.5 && reals[1] == -1e300);
    assert_int_equal(kiln_gguf_get_array_bool(g, "flags", flags, 4, NULL), KILN_OK);
    assert_true(flags[0] && !flags[1] && flags[2] && flags[3]);
    assert_int_equal(kiln_gguf_get_array_bool(g, "shorts", flags, 3, NULL), KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_tensor_count(g), 4);
    const kiln_gguf_tensor *t = kiln_gguf_tensor_at(g, 0);
    assert_string_equal(t->name, "weights");
    assert_int_equal(t->ndim, 3);
    assert_memory_equal(t->dims, ((int64_t[]){2, 1, 3, 1}), sizeof t->dims);
    assert_memory_equal(t->data, sample_weights, sizeof sample_weights);
    t = kiln_gguf_tensor_at(g, 1);
    assert_int_equal(t->dtype, KILN_Q8_0);
    assert_int_equal(t->bytes, 102);
    assert_memory_equal(t->data, sample_blocks, 102);
    assert_int_equal(kiln_gguf_tensor_find(g, "none")->bytes, 0);
    assert_int_equal(kiln_gguf_tensor_find(g, "scalar")->ndim, 0);
    assert_int_equal(kiln_gguf_tensor_find(g, "scalar")->bytes, 4);
}

static void every_type_reads_back(void **state) {
    (void)state;
    kiln_gguf_writer *w = new_writer();
    size_t size = 0, twice_size = 0;
    add_samples(w, sample_weights, sample_blocks);
    void *bytes = write_to_memory(w, &size), *twice = write_to_memory(w, &twice_size);
    assert_int_equal(size, twice_size);
    assert_memory_equal(bytes, twice, size);
    free(twice);
    kiln_gguf_writer_destroy(w);
    w = new_writer(); /* the same calls, the same bytes */
    add_samples(w, sample_weights, sample_blocks);
    twice = write_to_memory(w, &twice_size);
    assert_int_equal(size, twice_size);
    assert_memory_equal(bytes, twice, size);
    kiln_gguf *g = open_bytes(bytes, size);
    check_samples(g);
    kiln_gguf_destroy(g);
    free(bytes);
    free(twice);
    kiln_gguf_writer_destroy(w);
}

static void nothing_makes_an_empty_file(void **state) {
    (void)state;
    kiln_gguf_writer *w = new_writer();
    size_t size = 0;
    void *bytes = write_to_memory(w, &size);
    kiln_gguf *g = open_bytes(bytes, size);
    assert_int_equal(size, 32);
    assert_int_equal(kiln_gguf_kv_count(g), 0);
    assert_int_equal(kiln_gguf_tensor_count(g), 0);
    assert_null(kiln_gguf_kv_find(g, "k"));
    kiln_gguf_destroy(g);
    free(bytes);
    kiln_gguf_writer_destroy(w);
}

static void files_are_replaced_in_one_step(void **state) {
    (void)state;
    char folder[] = "/tmp/kiln-gguf-XXXXXX", path[64], partial[80];
    kiln_error error = {0};
    kiln_gguf *g = NULL;
    size_t size = 0, file_size = 0;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    snprintf(partial, sizeof partial, "%s.partial", path);
    kiln_gguf_writer *w = new_writer();
    add_samples(w, sample_weights, sample_blocks);
    assert_int_equal(kiln_gguf_writer_write(w, path, &error), KILN_OK);
    void *bytes = write_to_memory(w, &size), *file = testdata_read_path(path, &file_size);
    assert_int_equal(size, file_size);
    assert_memory_equal(bytes, file, size);
    free(bytes);
    free(file);
    kiln_gguf_writer_destroy(w);
    /* Over a file that is mapped and whose tensors are the source. */
    g = open_good(path, KILN_GGUF_MMAP);
    w = new_writer();
    add_all(w, g);
    assert_int_equal(kiln_gguf_writer_write(w, path, &error), KILN_OK);
    check_samples(g);
    kiln_gguf_destroy(g);
    g = open_good(path, KILN_GGUF_READ);
    check_samples(g);
    kiln_gguf_destroy(g);
    assert_int_not_equal(access(partial, F_OK), 0);
    kiln_gguf_writer_destroy(w);
    /* Where it cannot be: nothing is left. */
    w = new_writer();
    kiln_gguf_writer_add_u8(w, "k", 1);
    assert_int_equal(kiln_gguf_writer_write(w, "/no/such/folder/a.gguf", &error), KILN_ERROR_SYSTEM);
    expect_text(&error, "/no/such/folder/a.gguf: cannot create");
    assert_int_equal(kiln_gguf_writer_write(w, folder, &error), KILN_ERROR_SYSTEM);
    snprintf(partial, sizeof partial, "%s.partial", folder);
    assert_int_not_equal(access(partial, F_OK), 0);
    kiln_gguf_writer_destroy(w);
    unlink(path);
    rmdir(folder);
}

static void expect_failed(kiln_gguf_writer *w, kiln_status got, kiln_status status, const char *text) {
    kiln_error error = {0};
    void *bytes = &bytes;
    size_t size = 1;
    assert_int_equal(got, status);
    assert_int_equal(kiln_gguf_writer_add_u8(w, "later", 1), status); /* the first error stays */
    assert_int_equal(kiln_gguf_writer_write_memory(w, &bytes, &size, &error), status);
    assert_null(bytes);
    assert_int_equal(size, 0);
    assert_int_equal(error.status, status);
    expect_text(&error, text);
    assert_int_equal(kiln_gguf_writer_write(w, "/no/such/folder/a.gguf", &error), status);
    kiln_gguf_writer_destroy(w);
}

static void wrong_keys_are_refused(void **state) {
    (void)state;
    static const uint8_t flags[] = {0, 2};
    const kiln_gguf_string null[] = {{NULL, 0}};
    kiln_gguf_writer *w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_u8(w, "", 1), KILN_ERROR_ARGUMENT, "key '' is empty");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_u8(w, "a\n", 1), KILN_ERROR_ARGUMENT, "control character");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_u8(w, NULL, 1), KILN_ERROR_ARGUMENT, "key is NULL");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_string(w, "k", NULL), KILN_ERROR_ARGUMENT,
                  "string for key 'k' is NULL");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_array(w, "k", KILN_GGUF_BOOL, flags, 2), KILN_ERROR_ARGUMENT,
                  "bool 1 has value 2");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_array(w, "k", KILN_GGUF_STRING, flags, 2), KILN_ERROR_ARGUMENT,
                  "expected scalars");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_array(w, "k", (kiln_gguf_type)99, flags, 2), KILN_ERROR_ARGUMENT,
                  "array 'k' of unknown");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_array(w, "k", KILN_GGUF_U8, NULL, 2), KILN_ERROR_ARGUMENT,
                  "is NULL");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_array(w, "k", KILN_GGUF_U64, flags, SIZE_MAX / 4),
                  KILN_ERROR_MEMORY, "no memory for key 'k'");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_strings(w, "k", null, 1), KILN_ERROR_ARGUMENT, "string 0 is NULL");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_u32(w, "general.alignment", 64), KILN_ERROR_ARGUMENT,
                  "leave it out");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_u8(w, "general.alignment", 32), KILN_ERROR_ARGUMENT,
                  "leave it out");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_string(w, "general.alignment", "32"), KILN_ERROR_ARGUMENT,
                  "leave it");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_kv(w, NULL), KILN_ERROR_ARGUMENT, "kv is NULL");
    assert_int_equal(kiln_gguf_writer_add_u8(NULL, "k", 1), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_gguf_writer_create((kiln_allocator){0}, NULL, NULL), KILN_ERROR_ARGUMENT);
    kiln_gguf_writer_destroy(NULL);
}

static void wrong_tensors_are_refused(void **state) {
    (void)state;
    const kiln_gguf_tensor_type *f32 = kiln_gguf_tensor_type_of(KILN_F32),
                                *q8 = kiln_gguf_tensor_type_of(KILN_Q8_0);
    const kiln_gguf_tensor_type own = *f32;
    const int64_t dims[] = {1, 2, 3, 4, 5}, huge[] = {INT64_MAX, 2}, negative[] = {-1, 32};
    kiln_gguf_writer *w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "t", f32, 5, dims, dims), KILN_ERROR_SHAPE,
                  "5 dimensions");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "t", f32, 2, negative, dims), KILN_ERROR_SHAPE,
                  "tensor 't'");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "t", q8, 2, dims, dims), KILN_ERROR_SHAPE,
                  "multiple of 32");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "t", f32, 2, huge, dims), KILN_ERROR_OVERFLOW, "63 bits");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "t", &own, 1, dims, dims), KILN_ERROR_ARGUMENT,
                  "from the table");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "t", NULL, 1, dims, dims), KILN_ERROR_ARGUMENT,
                  "is NULL");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "t", f32, 1, NULL, dims), KILN_ERROR_ARGUMENT, "is NULL");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "t", f32, 1, dims, NULL), KILN_ERROR_ARGUMENT,
                  "data is NULL");
    w = new_writer();
    expect_failed(w, kiln_gguf_writer_add_tensor(w, "", f32, 1, dims, dims), KILN_ERROR_ARGUMENT, "is empty");
    /* The longest name that ggml reads. */
    char name[300];
    memset(name, 'n', sizeof name);
    name[63] = '\0';
    w = new_writer();
    assert_int_equal(kiln_gguf_writer_add_tensor(w, name, f32, 1, dims, dims), KILN_OK);
    kiln_gguf_writer_destroy(w);
    for (size_t size = 64; size <= 256; size += 64) {
        memset(name, 'n', sizeof name);
        name[size] = '\0';
        w = new_writer();
        expect_failed(w, kiln_gguf_writer_add_tensor(w, name, f32, 1, dims, dims), KILN_ERROR_LIMIT,
                      "at most 63 are allowed: ggml refuses a file with a longer one");
    }
}

static void what_stands_twice_is_refused(void **state) {
    (void)state;
    kiln_error error = {0};
    void *bytes = NULL;
    size_t size = 0;
    kiln_gguf_writer *w = new_writer();
    kiln_gguf_writer_add_u8(w, "a.b", 1);
    kiln_gguf_writer_add_u8(w, "a", 1);
    kiln_gguf_writer_add_u8(w, "a.b", 1);
    assert_int_equal(kiln_gguf_writer_write_memory(w, &bytes, &size, &error), KILN_ERROR_ARGUMENT);
    expect_text(&error, "key 'a.b' was added twice");
    kiln_gguf_writer_destroy(w);
    w = new_writer();
    const kiln_gguf_tensor_type *f32 = kiln_gguf_tensor_type_of(KILN_F32);
    kiln_gguf_writer_add_tensor(w, "t", f32, 1, (int64_t[]){1}, sample_weights);
    kiln_gguf_writer_add_tensor(w, "t", f32, 1, (int64_t[]){2}, sample_weights);
    assert_int_equal(kiln_gguf_writer_write_memory(w, &bytes, &size, &error), KILN_ERROR_ARGUMENT);
    expect_text(&error, "tensor 't' was added twice");
    assert_null(bytes);
    kiln_gguf_writer_destroy(w);
}

static kiln_status write_with(kiln_allocator allocator, void *context) {
    kiln_gguf_writer *w = NULL;
    void *bytes = NULL;
    size_t size = 0;
    kiln_error error = {0};
    kiln_status status = kiln_gguf_writer_create(allocator, &w, &error);
    if (status != KILN_OK)
        return status;
    add_samples(w, sample_weights, sample_blocks);
    status = kiln_gguf_writer_write_memory(w, &bytes, &size, &error);
    if (status == KILN_OK) {
        kiln_gguf *g = open_bytes(bytes, size);
        check_samples(g);
        kiln_gguf_destroy(g);
        allocator.free(allocator.context, bytes, size);
        status = kiln_gguf_writer_write(w, context, &error);
    } else {
        assert_null(bytes);
    }
    assert_int_equal(error.status, status);
    kiln_gguf_writer_destroy(w);
    return status;
}

static void every_allocation_of_the_writer_may_fail(void **state) {
    (void)state;
    char folder[] = "/tmp/kiln-gguf-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    assert_true(fault_alloc_every("writer, to memory and to a file", write_with, path) > 20);
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* no .partial is left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_files_are_written_byte_for_byte),
        cmocka_unit_test(other_files_keep_their_content),
        cmocka_unit_test(every_type_reads_back),
        cmocka_unit_test(nothing_makes_an_empty_file),
        cmocka_unit_test(files_are_replaced_in_one_step),
        cmocka_unit_test(wrong_keys_are_refused),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(what_stands_twice_is_refused),
        cmocka_unit_test(every_allocation_of_the_writer_may_fail),
    };
    return cmocka_run_group_tests_name("gguf_write", tests, NULL, NULL);
}
