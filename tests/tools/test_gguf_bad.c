/* The GGUF reader on bad ground: malformed, truncated and damaged files, wrong use, no memory. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_help.h"

/* ---- Malformed files -------------------------------------------------------------------------------- */

/* What this reader does where a strict reader may choose; kiln_gguf.h says why. */
static const struct {
    const char *name;
    bool accepts;
} policies[] = {
    {"ok_zero_dim_elem", true}, {"key_dup", true},  {"key_badutf8", false},
    {"ndims_0", true},          {"off_desc", true},
};

static bool is_accepted(const char *name, const char *expected) {
    if (strcmp(expected, "accept") == 0 || strcmp(expected, "model-reject") == 0)
        return true;
    if (strcmp(expected, "reject") == 0)
        return false;
    assert_string_equal(expected, "policy");
    for (size_t i = 0; i < COUNT(policies); i++)
        if (strcmp(policies[i].name, name) == 0)
            return policies[i].accepts;
    fail_msg("no decision on %s", name);
    return false;
}

static void check_malformed(const char *name, bool accepted) {
    char relative[256], path[TESTDATA_PATH_SIZE];
    snprintf(relative, sizeof relative, "malformed/gguf/%s.gguf", name);
    assert_non_null(testdata_path(relative, path, sizeof path));
    for (int access = KILN_GGUF_MMAP; access <= KILN_GGUF_READ; access++) {
        kiln_gguf_options options = {.access = (kiln_gguf_access)access};
        kiln_gguf *g = NULL;
        kiln_error error = {0};
        kiln_status status = kiln_gguf_open(path, &options, &g, &error);
        if ((status == KILN_OK) != accepted)
            fail_msg("%s: %s %s", name, kiln_status_name(status), error.text);
        assert_int_equal(error.status, status);
        if (accepted)
            assert_int_not_equal(gguf_walk(g), 0);
        else
            expect_text(&error, name);
        kiln_gguf_destroy(g);
    }
    size_t size = 0;
    uint64_t hash = 0;
    void *bytes = testdata_read(relative, &size);
    assert_non_null(bytes);
    assert_int_equal(open_copy(bytes, size, &hash, NULL) == KILN_OK, accepted);
    free(bytes);
}

static void malformed_files_are_refused(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE], line[1024], name[128], expected[64];
    size_t rows = 0, accepted = 0;
    FILE *index = fopen(need("malformed/INDEX.tsv", path), "r");
    assert_non_null(index);
    assert_non_null(fgets(line, sizeof line, index));
    while (fgets(line, sizeof line, index) != NULL) {
        assert_int_equal(sscanf(line, "%127[^\t]\t%*d\t%63[^\t]", name, expected), 2);
        bool accepts = is_accepted(name, expected);
        check_malformed(name, accepts);
        rows++;
        accepted += accepts;
    }
    fclose(index);
    printf("malformed: %zu files, %zu accepted, %zu refused\n", rows, accepted, rows - accepted);
    assert_int_equal(rows, 64);
}

static void names_and_keys_are_checked(void **state) {
    (void)state;
    built b;
    const uint64_t dims[] = {2};
    char long_name[300];
    put_start(&b, 0, 2);
    put_key_u32(&b, "k", 1);
    put_key_u32(&b, "k", 1);
    expect_built(&b, KILN_OK, "");
    put_start(&b, 0, 2);
    put_key_u32(&b, "k", 1);
    put_key_u32(&b, "k", 2);
    expect_built(&b, KILN_ERROR_FORMAT, "key 'k' stands twice");
    put_start(&b, 0, 1);
    put_key_u32(&b, "", 1);
    expect_built(&b, KILN_ERROR_FORMAT, "key 0 at byte 24 is empty");
    put_start(&b, 0, 1);
    put_key_u32(&b, "a\x1b[2J", 1);
    expect_built(&b, KILN_ERROR_FORMAT, "control character");
    put_start(&b, 0, 1);
    put_key_u32(&b, "a\xed\xa0\x80", 1);
    expect_built(&b, KILN_ERROR_FORMAT, "UTF-8");
    put_start(&b, 2, 0);
    put_tensor(&b, "w", 1, dims, 0, 0);
    put_tensor(&b, "w", 1, dims, 0, 32);
    put_end(&b, 32, 64);
    expect_built(&b, KILN_ERROR_FORMAT, "tensor 'w' stands twice");
    for (size_t length = 255; length <= 256; length++) {
        memset(long_name, 'n', length);
        long_name[length] = '\0';
        put_start(&b, 1, 0);
        put_tensor(&b, long_name, 1, dims, 0, 0);
        put_end(&b, 32, 32);
        expect_built(&b, length == 255 ? KILN_OK : KILN_ERROR_LIMIT, "256 bytes long, at most 255");
    }
    put_start(&b, 0, 1);
    put_text(&b, "flag");
    put_u32(&b, KILN_GGUF_BOOL);
    put(&b, "\x02", 1);
    expect_built(&b, KILN_ERROR_FORMAT, "key 'flag': a bool of value 2");
}

static void places_of_tensors_are_checked(void **state) {
    (void)state;
    built b;
    const uint64_t dims[] = {8, 1}, none[] = {0, (uint64_t)1 << 62, 8}, large[] = {32, (uint64_t)1 << 62};
    put_start(&b, 2, 0);
    put_tensor(&b, "a", 1, dims, 0, 32);
    put_tensor(&b, "b", 1, dims, 0, 0);
    put_end(&b, 32, 64);
    expect_built(&b, KILN_OK, ""); /* any order */
    put_start(&b, 2, 0);
    put_tensor(&b, "a", 1, dims, 0, 0);
    put_tensor(&b, "b", 1, dims, 0, 4096 - 32);
    put_end(&b, 32, 4096);
    expect_built(&b, KILN_OK, ""); /* a gap */
    put_start(&b, 3, 0);
    put_tensor(&b, "a", 1, (const uint64_t[]){9}, 0, 0);
    put_tensor(&b, "empty", 1, (const uint64_t[]){0}, 0, 32);
    put_tensor(&b, "b", 1, dims, 0, 32);
    put_end(&b, 32, 64);
    expect_built(&b, KILN_ERROR_FORMAT, "tensors 'a' (offset 0, 36 bytes) and 'b' (offset 32) share bytes");
    put_start(&b, 1, 0);
    put_tensor(&b, "a", 1, dims, 0, 0);
    put_end(&b, 32, 31);
    expect_built(&b, KILN_ERROR_FORMAT, "tensor 'a' takes 32 bytes at offset 0, but the data section has 31");
    for (size_t data = 27; data <= 33; data++) {
        put_start(&b, 1, 0);
        put_tensor(&b, "a", 1, (const uint64_t[]){7}, 0, 0);
        put_end(&b, 32, data);
        /* Padding holds no data: all, some or none of it may be there. */
        expect_built(&b, data < 28 ? KILN_ERROR_FORMAT : KILN_OK, "takes 28 bytes at offset 0");
    }
    put_start(&b, 1, 0);
    put_tensor(&b, "a", 3, none, 0, 0);
    put_end(&b, 32, 0);
    expect_built(&b, KILN_ERROR_OVERFLOW, "[8, 4611686018427387904, 0]");
    put_start(&b, 1, 0);
    put_tensor(&b, "a", 2, large, 8, 0);
    put_end(&b, 32, 0);
    expect_built(&b, KILN_ERROR_OVERFLOW, "does not fit 63 bits");
    put_start(&b, 1, 0);
    put_tensor(&b, "a", 0, NULL, 8, 0);
    put_end(&b, 32, 64);
    expect_built(&b, KILN_ERROR_FORMAT, "no multiple of the 32 values in a block of type q8_0");
    put_start(&b, 1, 0);
    put_tensor(&b, "a", 1, dims, 33, 0);
    put_end(&b, 32, 64);
    expect_built(&b, KILN_ERROR_UNSUPPORTED, "tensor 'a' has ggml type 33");
}

static void alignment_and_padding_are_checked(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 3, 6, 12, 24, 48, (1u << 24) + 8, 1u << 25, UINT32_MAX};
    built b;
    for (size_t i = 0; i < COUNT(bad); i++) {
        put_start(&b, 0, 1);
        put_key_u32(&b, "general.alignment", bad[i]);
        expect_built(&b, KILN_ERROR_FORMAT, "general.alignment");
    }
    for (uint32_t alignment = 1; alignment <= 1024; alignment *= 2) {
        put_start(&b, 1, 1);
        put_key_u32(&b, "general.alignment", alignment);
        /* The header takes 92 bytes. */
        put_tensor(&b, "abc", 1, (const uint64_t[]){1}, 0, alignment < 4 ? 4 : alignment);
        put_end(&b, alignment, 8 + 2 * alignment);
        expect_built(&b, KILN_OK, "");
    }
    put_start(&b, 0, 1);
    put_key_u32(&b, "k", 1);
    expect_built(&b, KILN_OK, ""); /* ends with the header, 41 bytes */
    for (size_t size = 42; size <= 65; size++) {
        b.bytes[size - 1] = 0;
        b.size = size;
        expect_built(&b, KILN_OK, ""); /* padding, and after it what is ignored */
    }
}

/* With an alignment below what an element needs, each tensor's place decides. */
static void elements_are_aligned(void **state) {
    (void)state;
    static const struct {
        const char *type, *name; /* the header takes 89 bytes and the name */
        uint32_t alignment;
        uint64_t offset;
        const char *says; /* NULL: opens */
    } rows[] = {
        {"f32", "abc", 1, 0, NULL},
        {"f32", "abc", 1, 4, NULL},
        {"f32", "a", 1, 2, NULL},
        {"f32", "abc", 2, 2, "tensor 'abc' of type f32 lies at byte 94, expected a multiple of 4"},
        {"f32", "a", 1, 0, "tensor 'a' of type f32 lies at byte 90, expected a multiple of 4"},
        {"f32", "a", 2, 1, "tensor 'a' has offset 1, expected a multiple of the alignment 2"},
        {"i64", "abc", 4, 4, NULL},
        {"i64", "abc", 4, 0, "tensor 'abc' of type i64 lies at byte 92, expected a multiple of 8"},
        {"f64", "abc", 1, 4, NULL},
        {"f64", "abc", 1, 0, "tensor 'abc' of type f64 lies at byte 92, expected a multiple of 8"},
        {"f16", "a", 1, 0, NULL},
        {"bf16", "ab", 1, 0, "tensor 'ab' of type bf16 lies at byte 91, expected a multiple of 2"},
        {"q8_0", "a", 1, 0, NULL},
        {"q4_K", "ab", 1, 0, "tensor 'ab' of type q4_K lies at byte 91, expected a multiple of 2"},
        {"i8", "ab", 1, 3, NULL},
        {"mxfp4", "ab", 1, 3, NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        built b;
        put_start(&b, 1, 1);
        put_key_u32(&b, "general.alignment", rows[i].alignment);
        put_tensor(&b, rows[i].name, 1, (const uint64_t[]){256},
                   kiln_gguf_tensor_type_by_name(rows[i].type)->id, rows[i].offset);
        put_end(&b, rows[i].alignment, 2200);
        expect_built(&b, rows[i].says ? KILN_ERROR_FORMAT : KILN_OK, rows[i].says ? rows[i].says : "");
    }
}

/* ---- Truncation and damage -------------------------------------------------------------------------- */

static void expect_refused(const unsigned char *bytes, size_t size, const char *name) {
    kiln_error error = {0};
    uint64_t hash;
    if (open_copy(bytes, size, &hash, &error) == KILN_OK)
        fail_msg("%s cut to %zu bytes was accepted", name, size);
    assert_int_not_equal(error.status, KILN_OK);
    assert_true(error.text[0] != '\0');
}

/* Where to cut next: at every byte of a header, and of its first 64 KiB where it is a vocabulary of many words;
 * data at samples. Primes, so that cuts fall everywhere within what repeats. */
static size_t next_cut(size_t cut, size_t header, size_t size) {
    if (size <= 4096 || cut < (header <= 100000 ? header : 65536))
        return cut + 1;
    return cut + (cut < header ? 997 : 4099);
}

/* Where the last tensor's bytes end, in bytes from the start of the file; 0 without tensors. */
static size_t data_end(const kiln_gguf *g) {
    size_t end = 0;
    for (size_t i = 0; i < kiln_gguf_tensor_count(g); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(g, i);
        if ((size_t)(t->part_offset + t->bytes) > end)
            end = (size_t)(t->part_offset + t->bytes);
    }
    return end;
}

/* Of the last cuts only those that take nothing but padding open. */
static void cut_padding(const unsigned char *bytes, size_t size, size_t end, size_t alignment,
                        const char *name) {
    size_t least = size;
    for (size_t back = 1; back <= 64 && back < size; back++) {
        uint64_t hash;
        if (open_copy(bytes, size - back, &hash, NULL) != KILN_OK)
            continue;
        if (least != size - back + 1)
            fail_msg("%s cut to %zu bytes opens, and to %zu does not", name, size - back, size - back + 1);
        least = size - back;
    }
    if (end != 0 ? least != end : size - least >= alignment)
        fail_msg("%s of %zu bytes opens from %zu bytes on, but its data ends at %zu", name, size, least, end);
}

static void truncated_anywhere_is_refused(void **state) {
    (void)state;
    size_t cuts = 0;
    for (size_t f = 0; f < COUNT(gguf_valid); f++) {
        size_t size = 0;
        unsigned char *bytes = need_bytes(gguf_valid[f], &size);
        kiln_gguf_bytes part = {bytes, size, NULL};
        kiln_gguf *g = NULL;
        if (kiln_gguf_open_memory(&part, 1, NULL, &g, NULL) != KILN_OK) { /* the split one */
            free(bytes);
            continue;
        }
        size_t header = (size_t)kiln_gguf_part_at(g, 0)->data_offset, end = data_end(g);
        size_t alignment = kiln_gguf_part_at(g, 0)->alignment, last = end != 0 ? end : size - alignment + 1;
        kiln_gguf_destroy(g);
        for (size_t cut = 0; cut < last; cut = next_cut(cut, header, size), cuts++)
            expect_refused(bytes, cut, gguf_valid[f]);
        cut_padding(bytes, size, end, alignment, gguf_valid[f]);
        free(bytes);
    }
    printf("truncation: %zu cuts\n", cuts);
}

static void damage_is_survived(void **state) {
    (void)state;
    static const char *const files[] = {"gguf/docker_dummy.gguf", "gguf/iree_multiple.gguf",
                                        "gguf/docker_dummy-00002-of-00002.gguf"};
    static const unsigned char bad[] = {0x00, 0x01, 0x7F, 0x80, 0xFF};
    uint64_t random = 12345;
    size_t opened = 0, refused = 0;
    for (size_t f = 0; f < COUNT(files); f++) {
        size_t size = 0;
        unsigned char *bytes = need_bytes(files[f], &size);
        for (size_t at = 0; at < size; at++)
            for (size_t k = 0; k < COUNT(bad); k++) {
                unsigned char good = bytes[at];
                random = random * 6364136223846793005u + 1442695040888963407u;
                size_t other = (size_t)(random >> 33) % size;
                unsigned char other_good = bytes[other];
                bytes[at] = bad[k];
                if (k & 1)
                    bytes[other] = (unsigned char)(random >> 20);
                uint64_t hash = 0;
                if (open_copy(bytes, size, &hash, NULL) == KILN_OK)
                    opened++;
                else
                    refused++;
                bytes[other] = other_good;
                bytes[at] = good;
            }
        free(bytes);
    }
    printf("damage: %zu opened, %zu refused\n", opened, refused);
    assert_true(opened > 0 && refused > 0);
}

/* ---- Use and faults --------------------------------------------------------------------------------- */

static void wrong_use_is_an_error(void **state) {
    (void)state;
    kiln_gguf *g = (kiln_gguf *)&g;
    kiln_error error = {0};
    kiln_gguf_options options = {.access = (kiln_gguf_access)7};
    kiln_gguf_bytes none = {NULL, 100, NULL};
    assert_int_equal(kiln_gguf_open(NULL, NULL, &g, NULL), KILN_ERROR_ARGUMENT);
    assert_null(g);
    assert_int_equal(kiln_gguf_open("x", NULL, NULL, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_gguf_open("x", &options, &g, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_gguf_open_memory(NULL, 1, NULL, &g, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_gguf_open_memory(&none, 0, NULL, &g, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_gguf_open_memory(&none, 1, NULL, &g, &error), KILN_ERROR_ARGUMENT);
    none.size = 0;
    assert_int_equal(kiln_gguf_open_memory(&none, 1, NULL, &g, &error), KILN_ERROR_FORMAT);
    assert_int_equal(kiln_gguf_open("/tmp", NULL, &g, &error), KILN_ERROR_SYSTEM);
    expect_text(&error, "/tmp: is a folder, not a file");
    assert_int_equal(kiln_gguf_open("/dev/null", NULL, &g, &error), KILN_ERROR_SYSTEM);
    assert_int_equal(kiln_gguf_open("/no/such/file.gguf", NULL, &g, &error), KILN_ERROR_SYSTEM);
    expect_text(&error, "/no/such/file.gguf: cannot open");
    char path[600];
    memset(path, 'p', sizeof path - 1);
    memcpy(path + sizeof path - 6, ".gguf", 6);
    assert_int_equal(kiln_gguf_open(path, NULL, &g, &error), KILN_ERROR_SYSTEM);
    expect_text(&error, "ppp.gguf: cannot open");
    kiln_gguf_destroy(NULL);
}

typedef struct fault_case {
    const char *relative;
    kiln_gguf_access access;
} fault_case;

static kiln_status open_and_walk(kiln_allocator allocator, void *context) {
    const fault_case *c = context;
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf_options options = {allocator, c->access};
    kiln_gguf *g = NULL;
    kiln_error error = {0};
    testdata_path(c->relative, path, sizeof path);
    kiln_status status = kiln_gguf_open(path, &options, &g, &error);
    if (status != KILN_OK) {
        assert_null(g);
        assert_int_equal(error.status, status);
    } else {
        assert_int_not_equal(gguf_walk(g), 0);
    }
    kiln_gguf_destroy(g);
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const char *const files[] = {"gguf/docker_dummy.gguf", "gguf/docker_dummy-00001-of-00002.gguf",
                                        "gguf/iree_multiple.gguf", "malformed/gguf/off_desc.gguf",
                                        "stories260K/stories260K-q4_0.gguf"};
    char path[TESTDATA_PATH_SIZE], what[128];
    for (size_t i = 0; i < COUNT(files); i++)
        for (int access = KILN_GGUF_MMAP; access <= KILN_GGUF_READ; access++) {
            fault_case c = {files[i], (kiln_gguf_access)access};
            need(files[i], path);
            snprintf(what, sizeof what, "%s (%s)", files[i], access == KILN_GGUF_MMAP ? "mmap" : "read");
            assert_true(fault_alloc_every(what, open_and_walk, &c) > 4);
        }
}

static void memory_is_bounded_by_the_header(void **state) {
    (void)state;
    char path[TESTDATA_PATH_SIZE];
    for (size_t i = 0; i < COUNT(gguf_valid); i++) {
        fault_alloc faults;
        fault_alloc_init(&faults);
        kiln_gguf_options options = {fault_alloc_allocator(&faults), KILN_GGUF_MMAP};
        kiln_gguf *g = NULL;
        assert_int_equal(kiln_gguf_open(need(gguf_valid[i], path), &options, &g, NULL), KILN_OK);
        size_t header = 0;
        for (size_t k = 0; k < kiln_gguf_part_count(g); k++)
            header += (size_t)kiln_gguf_part_at(g, k)->data_offset;
        assert_true(faults.peak_bytes <= 8 * header + 8192);
        kiln_gguf_destroy(g);
        assert_true(fault_alloc_finish(&faults));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_files_are_refused),
        cmocka_unit_test(names_and_keys_are_checked),
        cmocka_unit_test(places_of_tensors_are_checked),
        cmocka_unit_test(alignment_and_padding_are_checked),
        cmocka_unit_test(elements_are_aligned),
        cmocka_unit_test(truncated_anywhere_is_refused),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(wrong_use_is_an_error),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(memory_is_bounded_by_the_header),
    };
    return cmocka_run_group_tests_name("gguf_bad", tests, NULL, NULL);
}
