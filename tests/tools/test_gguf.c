/* The GGUF reader on good files: tables, tensors, keys, split models. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_help.h"

/* ---- Tables ----------------------------------------------------------------------------------------- */

static void tensor_types_agree_with_dtypes(void **state) {
    (void)state;
    size_t rows = 0, mapped = 0;
    for (uint32_t id = 0; id < 1000; id++) {
        const kiln_gguf_tensor_type *type = kiln_gguf_tensor_type_get(id);
        if (type == NULL)
            continue;
        rows++;
        assert_int_equal(type->id, id);
        assert_ptr_equal(kiln_gguf_tensor_type_by_name(type->name), type);
        /* What Kiln has under the same name is the same thing, and is used. */
        assert_int_equal(kiln_dtype_by_name(type->name), type->dtype);
        const kiln_dtype_info *info = kiln_dtype_get(type->dtype);
        if (info == NULL)
            continue;
        mapped++;
        assert_int_equal(info->block, type->block);
        assert_int_equal(info->bytes, type->bytes);
        assert_ptr_equal(kiln_gguf_tensor_type_of(type->dtype), type);
    }
    assert_int_equal(rows, 35);
    assert_true(mapped >= 12);
    assert_null(kiln_gguf_tensor_type_get(4));
    assert_null(kiln_gguf_tensor_type_get(UINT32_MAX));
    assert_null(kiln_gguf_tensor_type_by_name("q4_0_4_4"));
    assert_null(kiln_gguf_tensor_type_by_name(NULL));
    assert_null(kiln_gguf_tensor_type_of(KILN_DTYPE_NONE));
    assert_null(kiln_gguf_tensor_type_of(KILN_Q8_A));
    assert_string_equal(kiln_gguf_type_name(KILN_GGUF_BOOL), "bool");
    assert_string_equal(kiln_gguf_type_name((kiln_gguf_type)13), "unknown");
}

/* ---- Valid files ------------------------------------------------------------------------------------ */

static void valid_files_open_every_way(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    for (size_t i = 0; i < COUNT(gguf_valid); i++) {
        kiln_gguf *mapped = open_good(need(gguf_valid[i], path), KILN_GGUF_MMAP);
        kiln_gguf *copied = open_good(path, KILN_GGUF_READ);
        uint64_t hash = gguf_walk(mapped);
        assert_int_not_equal(hash, 0);
        assert_int_equal(hash, gguf_walk(copied));
        const kiln_gguf_part *part = kiln_gguf_part_at(mapped, 0);
        assert_string_equal(part->path, path);
        assert_int_equal((uintptr_t)part->base % 4096, 0);
        assert_int_equal((uintptr_t)kiln_gguf_part_at(copied, 0)->base % 16384, 0);
        assert_int_equal(kiln_gguf_part_at(copied, 0)->mapped_size % 16384, 0);
        for (size_t k = 0; k < kiln_gguf_tensor_count(mapped); k++) {
            const kiln_gguf_tensor *t = kiln_gguf_tensor_at(mapped, k);
            const kiln_gguf_part *at = kiln_gguf_part_at(mapped, t->part);
            assert_ptr_equal(t->data, (const char *)at->base + at->data_offset + t->offset);
            assert_int_equal(t->part_offset, at->data_offset + t->offset);
            assert_int_equal((uintptr_t)t->data % at->alignment, 0);
            assert_int_equal(t->dtype, t->type->dtype);
        }
        if (kiln_gguf_part_count(mapped) == 1) {
            size_t size = 0;
            uint64_t copy_hash = 0;
            void *bytes = testdata_read(gguf_valid[i], &size);
            assert_int_equal(open_copy(bytes, size, &copy_hash, NULL), KILN_OK);
            assert_int_equal(copy_hash, hash);
            free(bytes);
        }
        kiln_gguf_destroy(mapped);
        kiln_gguf_destroy(copied);
    }
}

static void every_tensor_type_shows(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *g = open_good(need("gguf/alltypes_real_256x128.gguf", path), KILN_GGUF_MMAP);
    assert_int_equal(kiln_gguf_tensor_count(g), 25);
    for (size_t i = 0; i < 25; i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(g, i);
        assert_string_equal(t->name + 2, t->type->name); /* "w.q4_K" */
        assert_int_equal(t->ndim, 2);
        assert_int_equal(t->dims[0], 128);
        assert_int_equal(t->dims[1], 256);
        assert_int_equal(t->dims[2], 1);
        assert_int_equal(t->dims[3], 1);
        assert_int_equal(t->bytes, 32768 / t->type->block * t->type->bytes);
    }
    assert_int_equal(kiln_gguf_tensor_find(g, "w.iq2_xxs")->dtype, KILN_DTYPE_NONE);
    assert_int_equal(kiln_gguf_tensor_find(g, "w.q6_K")->dtype, KILN_Q6_K);
    assert_null(kiln_gguf_tensor_find(g, "w"));
    assert_null(kiln_gguf_tensor_find(g, "x"));
    assert_null(kiln_gguf_tensor_find(g, NULL));
    assert_null(kiln_gguf_tensor_at(g, 25));
    kiln_gguf_destroy(g);
}

static void dims_are_outermost_first(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *g = open_good(need("stories260K/stories260K-moe8x-permuted-q8_0.gguf", path), KILN_GGUF_MMAP);
    const kiln_gguf_tensor *t = kiln_gguf_tensor_find(g, "blk.3.ffn_gate_exps.weight");
    assert_non_null(t);
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->dims[0], 8);
    assert_int_equal(t->dims[1], 172);
    assert_int_equal(t->dims[2], 64);
    assert_int_equal(t->dims[3], 1);
    assert_int_equal(t->dtype, KILN_Q8_0);
    kiln_gguf_destroy(g);
}

static void duplicate_keys_of_real_files_count_once(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *g = open_good(need("gguf/iree_single_v2.gguf", path), KILN_GGUF_MMAP);
    kiln_gguf_string s;
    assert_int_equal(kiln_gguf_kv_count(g), 5);
    assert_string_equal(kiln_gguf_kv_at(g, 0)->key, "general.architecture");
    assert_string_equal(kiln_gguf_kv_at(g, 1)->key, "general.alignment");
    assert_int_equal(kiln_gguf_get_string(g, "general.architecture", &s, NULL), KILN_OK);
    assert_int_equal(s.size, 7);
    assert_memory_equal(s.data, "generic", 7);
    assert_int_equal(kiln_gguf_part_at(g, 0)->version, 2);
    assert_int_equal(kiln_gguf_part_at(g, 0)->alignment, 64);
    kiln_gguf_destroy(g);
}

/* ---- Keys ------------------------------------------------------------------------------------------- */

static void scalars_convert_where_they_fit(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *g = open_good(need("gguf/docker_dummy.gguf", path), KILN_GGUF_MMAP);
    uint32_t u32 = 0;
    int32_t i32 = 0;
    uint64_t u64 = 0;
    int64_t i64 = 0;
    float f32 = 0;
    double f64 = 0;
    bool flag = false;
    assert_int_equal(kiln_gguf_get_u32(g, "some.parameter.uint8", &u32, NULL), KILN_OK);
    assert_true(u32 == 18);
    assert_int_equal(kiln_gguf_get_i32(g, "some.parameter.int8", &i32, NULL), KILN_OK);
    assert_true(i32 == -19);
    assert_int_equal(kiln_gguf_get_i64(g, "some.parameter.int16", &i64, NULL), KILN_OK);
    assert_true(i64 == -4661);
    assert_int_equal(kiln_gguf_get_u64(g, "some.parameter.uint16", &u64, NULL), KILN_OK);
    assert_true(u64 == 4660);
    assert_int_equal(kiln_gguf_get_f32(g, "some.parameter.int8", &f32, NULL), KILN_OK);
    assert_true(f32 == -19.0f);
    assert_int_equal(kiln_gguf_get_f64(g, "some.parameter.int32", &f64, NULL), KILN_OK);
    assert_true(f64 == -305419897.0);
    assert_int_equal(kiln_gguf_get_u64(g, "some.parameter.uint64", &u64, NULL), KILN_OK);
    assert_true(u64 == 1311768467463790320u);
    assert_int_equal(kiln_gguf_get_i64(g, "some.parameter.int64", &i64, NULL), KILN_OK);
    assert_true(i64 == -1311768467463790321);
    assert_int_equal(kiln_gguf_get_f64(g, "some.parameter.float64", &f64, NULL), KILN_OK);
    assert_true(f64 == 0.12345678901234568);
    assert_int_equal(kiln_gguf_get_f32(g, "some.parameter.float64", &f32, NULL), KILN_OK);
    assert_true(f32 == 0.12345679f);
    assert_int_equal(kiln_gguf_get_f64(g, "some.parameter.float32", &f64, NULL), KILN_OK);
    assert_true(f64 == (double)0.12345679f);
    assert_int_equal(kiln_gguf_get_bool(g, "some.parameter.bool", &flag, NULL), KILN_OK);
    assert_true(flag == true);
    assert_true(kiln_gguf_has(g, "some.parameter.bool"));
    assert_false(kiln_gguf_has(g, "some.parameter.boo"));
    assert_false(kiln_gguf_has(g, NULL));
    kiln_gguf_destroy(g);
}

/* Elements of any kind as numbers. */
static void elements_are_numbers(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    static const struct {
        const char *key;
        double value;
    } rows[] = {{"int8", -19},
                {"uint16", 4660},
                {"int32", -305419897},
                {"uint64", 1311768467463790320.0},
                {"bool", 1},
                {"float32", (double)0.12345679f},
                {"float64", 0.12345678901234568}};
    kiln_gguf *g = open_good(need("gguf/docker_dummy.gguf", path), KILN_GGUF_MMAP);
    double value = 7;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char key[64];
        snprintf(key, sizeof key, "some.parameter.%s", rows[i].key);
        const kiln_gguf_kv *kv = kiln_gguf_kv_find(g, key);
        assert_true(kiln_gguf_kv_f64(kv, 0, &value));
        assert_true(value == rows[i].value);
        assert_false(kiln_gguf_kv_f64(kv, 1, &value) || kiln_gguf_kv_f64(kv, -1, &value));
        assert_false(kiln_gguf_kv_f64(kv, 0, NULL));
    }
    const kiln_gguf_kv *list = kiln_gguf_kv_find(g, "some.parameter.arr.i16");
    int16_t want[4];
    memcpy(want, list->data, sizeof want);
    for (int64_t i = 0; i < 4; i++)
        assert_true(kiln_gguf_kv_f64(list, i, &value) && value == (double)want[i]);
    value = 7;
    assert_false(kiln_gguf_kv_f64(list, 4, &value) || kiln_gguf_kv_f64(NULL, 0, &value));
    assert_false(kiln_gguf_kv_f64(kiln_gguf_kv_find(g, "some.parameter.string"), 0, &value));
    assert_true(value == 7);
    kiln_gguf_destroy(g);
}

static void expect_unfit(kiln_status status, const kiln_error *error, const char *text) {
    assert_int_equal(status, KILN_ERROR_FORMAT);
    expect_text(error, "docker_dummy.gguf");
    expect_text(error, text);
}

static void scalars_that_do_not_fit_are_refused(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *g = open_good(need("gguf/docker_dummy.gguf", path), KILN_GGUF_MMAP);
    kiln_error error = {0};
    uint32_t u32 = 1;
    int32_t i32 = 1;
    uint64_t u64 = 1;
    int64_t i64 = 1;
    float f32 = 1;
    double f64 = 1;
    bool flag = true;
    expect_unfit(kiln_gguf_get_u32(g, "some.parameter.int8", &u32, &error), &error,
                 "key 'some.parameter.int8' is -19, which does not fit a u32");
    expect_unfit(kiln_gguf_get_u64(g, "some.parameter.int64", &u64, &error), &error, "does not fit a u64");
    expect_unfit(kiln_gguf_get_u32(g, "some.parameter.uint64", &u32, &error), &error,
                 "is 1311768467463790320, which does not fit a u32");
    expect_unfit(kiln_gguf_get_i32(g, "some.parameter.int64", &i32, &error), &error, "does not fit an i32");
    expect_unfit(kiln_gguf_get_f64(g, "some.parameter.uint64", &f64, &error), &error, "does not fit an f64");
    expect_unfit(kiln_gguf_get_f32(g, "some.parameter.uint32", &f32, &error), &error,
                 "is 305419896, which does not fit an f32");
    expect_unfit(kiln_gguf_get_u32(g, "some.parameter.float32", &u32, &error), &error,
                 "holds an f32, expected a u32");
    expect_unfit(kiln_gguf_get_u32(g, "some.parameter.bool", &u32, &error), &error,
                 "holds a bool, expected a u32");
    expect_unfit(kiln_gguf_get_f32(g, "some.parameter.string", &f32, &error), &error,
                 "holds a string, expected an f32");
    expect_unfit(kiln_gguf_get_i64(g, "some.parameter.arr.i16", &i64, &error), &error,
                 "holds an array of 4 i16, expected an i64");
    expect_unfit(kiln_gguf_get_bool(g, "some.parameter.uint8", &flag, &error), &error,
                 "holds a u8, expected a bool");
    expect_unfit(kiln_gguf_get_u32(g, "some.parameter.absent", &u32, &error), &error,
                 "has no key 'some.parameter.absent', expected a u32");
    assert_true(u32 == 1 && i32 == 1 && u64 == 1 && i64 == 1 && f32 == 1 && f64 == 1 && flag); /* untouched */
    assert_int_equal(kiln_gguf_get_u32(g, NULL, &u32, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_gguf_get_u32(g, "k", NULL, NULL), KILN_ERROR_ARGUMENT);
    kiln_gguf_destroy(g);
}

static void limits_of_conversions(void **state) {
    (void)state;
    built b;
    const double huge = 1e300;
    uint32_t u32;
    int32_t i32;
    int64_t i64;
    uint64_t u64;
    float f32;
    double f64;
    put_start(&b, 0, 5);
    put_text(&b, "least");
    put_u32(&b, KILN_GGUF_I64);
    put_u64(&b, (uint64_t)1 << 63);
    put_text(&b, "most");
    put_u32(&b, KILN_GGUF_U64);
    put_u64(&b, UINT64_MAX);
    put_text(&b, "high");
    put_u32(&b, KILN_GGUF_U64);
    put_u64(&b, (uint64_t)1 << 63);
    put_text(&b, "huge");
    put_u32(&b, KILN_GGUF_F64);
    put(&b, &huge, sizeof huge);
    put_key_u32(&b, "edge", 1u << 24);
    kiln_gguf_bytes part = {b.bytes, b.size, NULL};
    kiln_gguf *g = NULL;
    assert_int_equal(kiln_gguf_open_memory(&part, 1, NULL, &g, NULL), KILN_OK);
    assert_int_equal(kiln_gguf_get_i64(g, "least", &i64, NULL), KILN_OK);
    assert_true(i64 == INT64_MIN);
    assert_int_equal(kiln_gguf_get_u64(g, "least", &u64, NULL), KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_get_i32(g, "least", &i32, NULL), KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_get_u64(g, "most", &u64, NULL), KILN_OK);
    assert_true(u64 == UINT64_MAX);
    assert_int_equal(kiln_gguf_get_i64(g, "most", &i64, NULL), KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_get_i64(g, "high", &i64, NULL), KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_get_u32(g, "most", &u32, NULL), KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_get_f32(g, "huge", &f32, NULL), KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_get_f64(g, "huge", &f64, NULL), KILN_OK);
    assert_int_equal(kiln_gguf_get_f32(g, "edge", &f32, NULL), KILN_OK);
    assert_true(f32 == 16777216.0f);
    kiln_gguf_destroy(g);
}

static void arrays_and_strings_read(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *g = open_good(need("gguf/docker_dummy.gguf", path), KILN_GGUF_READ);
    int32_t numbers[4];
    uint32_t naturals[4];
    float reals[3];
    kiln_error error = {0};
    const kiln_gguf_kv *kv = NULL;
    kiln_gguf_string s;
    assert_int_equal(kiln_gguf_get_array_i32(g, "some.parameter.arr.i16", numbers, 4, NULL), KILN_OK);
    assert_memory_equal(numbers, ((int32_t[]){1, 2, 3, 4}), sizeof numbers);
    assert_int_equal(kiln_gguf_get_array_u32(g, "some.parameter.arr.i16", naturals, 4, NULL), KILN_OK);
    assert_int_equal(naturals[3], 4);
    assert_int_equal(kiln_gguf_get_array_f32(g, "some.parameter.arr.f32", reals, 3, NULL), KILN_OK);
    assert_true(reals[2] == 1.414f);
    assert_int_equal(kiln_gguf_get_array_i32(g, "some.parameter.arr.i16", numbers, 3, &error),
                     KILN_ERROR_FORMAT);
    expect_text(&error, "holds 4 elements, expected 3");
    assert_int_equal(kiln_gguf_get_array_i32(g, "some.parameter.arr.f32", numbers, 3, &error),
                     KILN_ERROR_FORMAT);
    expect_text(&error, "holds an f32, expected an i32");
    assert_int_equal(kiln_gguf_get_array_i32(g, "some.parameter.arr.str", numbers, 3, &error),
                     KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_get_array_i32(g, "some.parameter.int8", numbers, 1, &error),
                     KILN_ERROR_FORMAT);
    expect_text(&error, "holds an i8, expected an array");
    assert_int_equal(kiln_gguf_get_array(g, "some.parameter.arr.str", &kv, NULL), KILN_OK);
    assert_int_equal(kv->count, 3);
    assert_int_equal(kv->element, KILN_GGUF_STRING);
    kiln_gguf_strings strings = kiln_gguf_strings_of(kv);
    static const char *const words[] = {"hello", "world", "!"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(kiln_gguf_strings_next(&strings, &s));
        assert_int_equal(s.size, strlen(words[i]));
        assert_memory_equal(s.data, words[i], s.size);
    }
    assert_false(kiln_gguf_strings_next(&strings, &s));
    strings = kiln_gguf_strings_of(kiln_gguf_kv_find(g, "some.parameter.arr.i16"));
    assert_false(kiln_gguf_strings_next(&strings, &s));
    assert_int_equal(kiln_gguf_get_string(g, "some.parameter.string", &s, NULL), KILN_OK);
    assert_memory_equal(s.data, "hello world", 11);
    assert_int_equal(kiln_gguf_get_string(g, "some.parameter.arr.str", &s, &error), KILN_ERROR_FORMAT);
    expect_text(&error, "holds an array, expected a string");
    kiln_gguf_destroy(g);
}

static void expect_kv_text(const kiln_gguf *g, const char *key, int64_t most, const char *text) {
    char buffer[128];
    const kiln_gguf_kv *kv = kiln_gguf_kv_find(g, key);
    assert_int_equal(kiln_gguf_kv_text(kv, most, buffer, sizeof buffer), strlen(text));
    assert_string_equal(buffer, text);
    for (size_t size = 1; size <= strlen(text); size++) {
        memset(buffer, 'x', sizeof buffer);
        assert_int_equal(kiln_gguf_kv_text(kv, most, buffer, size), strlen(text));
        assert_int_equal(strlen(buffer), size - 1);
        assert_memory_equal(buffer, text, size - 1);
        assert_int_equal(buffer[size], 'x');
    }
    assert_int_equal(kiln_gguf_kv_text(kv, most, NULL, 0), strlen(text));
}

static void values_show_as_text(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *g = open_good(need("gguf/docker_dummy.gguf", path), KILN_GGUF_MMAP);
    expect_kv_text(g, "some.parameter.int64", 3, "-1311768467463790321");
    expect_kv_text(g, "some.parameter.bool", 3, "true");
    expect_kv_text(g, "some.parameter.string", 3, "\"hello world\"");
    expect_kv_text(g, "some.parameter.arr.i16", 2, "[1, 2, … of 4]");
    expect_kv_text(g, "some.parameter.arr.i16", 0, "[… of 4]");
    expect_kv_text(g, "some.parameter.arr.str", 3, "[\"hello\", \"world\", \"!\"]");
    kiln_gguf_destroy(g);
    built b;
    put_start(&b, 0, 2);
    put_text(&b, "s");
    put_u32(&b, KILN_GGUF_STRING);
    put_text(&b, "a\"\\\n\x1b\xff\xe2\x96\x81");
    put_text(&b, "none");
    put_u32(&b, KILN_GGUF_ARRAY);
    put_u32(&b, KILN_GGUF_U8);
    put_u64(&b, 0);
    kiln_gguf_bytes part = {b.bytes, b.size, NULL};
    assert_int_equal(kiln_gguf_open_memory(&part, 1, NULL, &g, NULL), KILN_OK);
    expect_kv_text(g, "s", 3, "\"a\\\"\\\\\\n\\x1b\\xff▁\"");
    expect_kv_text(g, "none", 3, "[]");
    assert_int_equal(kiln_gguf_kv_text(NULL, 3, NULL, 0), 0);
    kiln_gguf_destroy(g);
}

/* ---- Split files ------------------------------------------------------------------------------------ */

static void parts_make_one_model(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *whole = open_good(need("gguf/docker_dummy.gguf", path), KILN_GGUF_MMAP);
    kiln_gguf *g = open_good(need("gguf/docker_dummy-00001-of-00002.gguf", path), KILN_GGUF_MMAP);
    assert_int_equal(kiln_gguf_part_count(g), 2);
    assert_null(kiln_gguf_part_at(g, 2));
    assert_int_equal(kiln_gguf_kv_count(g), kiln_gguf_kv_count(whole) + 3);
    assert_int_equal(kiln_gguf_tensor_count(g), kiln_gguf_tensor_count(whole));
    for (size_t i = 0; i < kiln_gguf_tensor_count(g); i++) {
        const kiln_gguf_tensor *x = kiln_gguf_tensor_at(whole, i), *y = kiln_gguf_tensor_find(g, x->name);
        assert_non_null(y);
        assert_int_equal(y->part, 1);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, (size_t)x->bytes);
    }
    kiln_gguf_destroy(whole);
    kiln_gguf_destroy(g);
    kiln_error error = {0};
    assert_int_equal(kiln_gguf_open(need("gguf/docker_dummy-00002-of-00002.gguf", path), NULL, &g, &error),
                     KILN_ERROR_ARGUMENT);
    expect_text(&error, "is part 2 of 2 of a split model: open the first part, NAME-00001-of-00002.gguf");
}

static void write_bytes(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void parts_must_be_there_and_belong_together(void **state) {
    (void)state;
    size_t size1 = 0, size2 = 0;
    unsigned char *part1 = need_bytes("gguf/docker_dummy-00001-of-00002.gguf", &size1);
    unsigned char *part2 = need_bytes("gguf/docker_dummy-00002-of-00002.gguf", &size2);
    char folder[] = "/tmp/kiln-gguf-XXXXXX", first[64], second[64], other[64];
    kiln_gguf *g = NULL;
    kiln_error error = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(first, sizeof first, "%s/m-00001-of-00002.gguf", folder);
    snprintf(second, sizeof second, "%s/m-00002-of-00002.gguf", folder);
    snprintf(other, sizeof other, "%s/renamed.gguf", folder);
    write_bytes(first, part1, size1);
    write_bytes(other, part1, size1);
    assert_int_equal(kiln_gguf_open(first, NULL, &g, &error), KILN_ERROR_SYSTEM);
    expect_text(&error, "m-00002-of-00002.gguf");
    assert_int_equal(kiln_gguf_open(other, NULL, &g, &error), KILN_ERROR_ARGUMENT);
    expect_text(&error, "does not end in -00001-of-00002.gguf");
    write_bytes(second, part1, size1); /* says it is number 0 */
    assert_int_equal(kiln_gguf_open(first, NULL, &g, &error), KILN_ERROR_FORMAT);
    expect_text(&error, "does not belong to");
    expect_text(&error, "split.no 0 of split.count 2, expected 1 of 2");
    write_bytes(second, part2, size2);
    assert_int_equal(kiln_gguf_open(first, NULL, &g, &error), KILN_OK);
    kiln_gguf_destroy(g);
    unlink(first);
    unlink(second);
    unlink(other);
    rmdir(folder);
    free(part1);
    free(part2);
}

/* One part: split keys, and `tensors` tensors from number `first` on. */
static void put_part(built *b, uint32_t number, uint32_t count, uint32_t total, uint64_t tensors,
                     uint32_t first) {
    put_start(b, tensors, 3);
    put_key_u32(b, "split.no", number);
    put_key_u32(b, "split.count", count);
    put_key_u32(b, "split.tensors.count", total);
    for (uint64_t i = 0; i < tensors; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%u", first + (uint32_t)i);
        put_tensor(b, name, 1, (const uint64_t[]){8}, 0, 32 * i);
    }
    put_end(b, 32, 32 * tensors);
}

static void expect_parts(built *parts, size_t count, kiln_status status, const char *text) {
    kiln_gguf_bytes bytes[4];
    kiln_gguf *g = NULL;
    kiln_error error = {0};
    for (size_t i = 0; i < count; i++)
        bytes[i] = (kiln_gguf_bytes){parts[i].bytes, parts[i].size,
                                     i == 0   ? "one"
                                     : i == 1 ? "two"
                                              : "three"};
    kiln_status got = kiln_gguf_open_memory(bytes, count, NULL, &g, &error);
    if (got != status)
        fail_msg("%s %s", kiln_status_name(got), error.text);
    if (status == KILN_OK)
        assert_int_not_equal(gguf_walk(g), 0);
    else
        expect_text(&error, text);
    kiln_gguf_destroy(g);
}

static void parts_from_memory(void **state) {
    (void)state;
    static built p[3];
    put_part(&p[0], 0, 3, 5, 2, 0);
    put_part(&p[1], 1, 3, 5, 2, 2);
    put_part(&p[2], 2, 3, 5, 1, 4);
    expect_parts(p, 3, KILN_OK, "");
    expect_parts(p, 2, KILN_ERROR_FORMAT, "one: is a model of 3 parts, but 2 were given");
    expect_parts(p + 1, 1, KILN_ERROR_ARGUMENT, "is part 2 of 3");
    put_part(&p[1], 2, 3, 5, 2, 2);
    expect_parts(p, 3, KILN_ERROR_FORMAT,
                 "two: does not belong to one: split.no 2 of split.count 3, expected 1 of 3");
    put_part(&p[1], 1, 4, 5, 2, 2);
    expect_parts(p, 3, KILN_ERROR_FORMAT, "split.no 1 of split.count 4, expected 1 of 3");
    put_part(&p[1], 1, 3, 6, 2, 2);
    expect_parts(p, 3, KILN_ERROR_FORMAT, "split.tensors.count 6, expected 5");
    put_part(&p[1], 1, 3, 5, 1, 2);
    expect_parts(p, 3, KILN_ERROR_FORMAT, "split.tensors.count is 5, but the 3 parts have 4 tensors");
    put_part(&p[1], 1, 3, 5, 2, 1);
    expect_parts(p, 3, KILN_ERROR_FORMAT, "two: tensor 't1' stands twice (the other in one)");
    put_part(&p[1], 1, 3, 5, 2, 2);
    p[2].size -= 1;
    expect_parts(p, 3, KILN_ERROR_FORMAT, "three: tensor 't4'");
    put_part(&p[0], 0, 1, 2, 2, 0); /* one part: whole, whatever the rest says */
    expect_parts(p, 1, KILN_OK, "");
    put_part(&p[0], 0, 0, 7, 2, 0);
    expect_parts(p, 1, KILN_OK, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensor_types_agree_with_dtypes),
        cmocka_unit_test(valid_files_open_every_way),
        cmocka_unit_test(every_tensor_type_shows),
        cmocka_unit_test(dims_are_outermost_first),
        cmocka_unit_test(duplicate_keys_of_real_files_count_once),
        cmocka_unit_test(scalars_convert_where_they_fit),
        cmocka_unit_test(elements_are_numbers),
        cmocka_unit_test(scalars_that_do_not_fit_are_refused),
        cmocka_unit_test(limits_of_conversions),
        cmocka_unit_test(arrays_and_strings_read),
        cmocka_unit_test(values_show_as_text),
        cmocka_unit_test(parts_make_one_model),
        cmocka_unit_test(parts_must_be_there_and_belong_together),
        cmocka_unit_test(parts_from_memory),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
