/* Bytes to the GGUF reader, as one file and as two parts, then everything read; files that open are also
 * written again and compared. `clang -fsanitize=fuzzer,address,undefined`; a corpus:
 * ../shared/data/{gguf,malformed/gguf}. */
#include "kiln_gguf.h"
#include "tests/support/gguf_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        __builtin_trap();
}

/* What was read, written and read again, is the same. */
static void write_again(const kiln_gguf *g) {
    kiln_gguf_writer *w = NULL;
    kiln_gguf *again = NULL;
    void *bytes = NULL;
    size_t size = 0;
    kiln_error error = {0};
    uint32_t alignment = kiln_gguf_part_at(g, 0)->alignment;
    check(kiln_gguf_writer_create(kiln_allocator_default(), &w, &error) == KILN_OK);
    for (size_t i = 0; i < kiln_gguf_kv_count(g); i++)
        if (strcmp(kiln_gguf_kv_at(g, i)->key, "general.alignment") != 0)
            check(kiln_gguf_writer_add_kv(w, kiln_gguf_kv_at(g, i)) == KILN_OK);
    /* Names that are read may be longer than those that are written. */
    bool written = true;
    for (size_t i = 0; i < kiln_gguf_tensor_count(g); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(g, i);
        kiln_status status = kiln_gguf_writer_add_tensor(w, t->name, t->type, t->ndim, t->dims, t->data);
        written = written && strlen(t->name) <= 63;
        check(status == (written ? KILN_OK : KILN_ERROR_LIMIT));
    }
    kiln_status status = kiln_gguf_writer_write_memory(w, &bytes, &size, &error);
    check(status == (written ? KILN_OK : KILN_ERROR_LIMIT));
    if (!written) {
        kiln_gguf_writer_destroy(w);
        return;
    }
    kiln_gguf_bytes part = {bytes, size, NULL};
    check(kiln_gguf_open_memory(&part, 1, NULL, &again, &error) == KILN_OK);
    check(kiln_gguf_tensor_count(again) == kiln_gguf_tensor_count(g));
    if (!kiln_gguf_has(g, "general.alignment"))
        check(alignment == KILN_GGUF_DEFAULT_ALIGNMENT && kiln_gguf_kv_count(again) == kiln_gguf_kv_count(g));
    for (size_t i = 0; i < kiln_gguf_tensor_count(g); i++) {
        const kiln_gguf_tensor *x = kiln_gguf_tensor_at(g, i), *y = kiln_gguf_tensor_at(again, i);
        check(strcmp(x->name, y->name) == 0 && x->bytes == y->bytes && x->ndim == y->ndim);
        check(memcmp(x->dims, y->dims, sizeof x->dims) == 0);
        check(memcmp(x->data, y->data, (size_t)x->bytes) == 0);
    }
    kiln_gguf_destroy(again);
    kiln_gguf_writer_destroy(w);
    kiln_allocator_default().free(NULL, bytes, size);
}

static void open_parts(const kiln_gguf_bytes *parts, size_t count) {
    kiln_gguf *g = NULL;
    kiln_error error = {0};
    kiln_status status = kiln_gguf_open_memory(parts, count, NULL, &g, &error);
    check((status == KILN_OK) == (g != NULL));
    check(status == error.status && strlen(error.text) < sizeof error.text);
    if (status != KILN_OK)
        return;
    check(gguf_walk(g) != 0);
    if (count == 1)
        write_again(g);
    kiln_gguf_destroy(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kiln_gguf_bytes whole = {data, size, "fuzz"};
    open_parts(&whole, 1);
    /* Two parts: the first two bytes say where the second begins. */
    if (size > 2) {
        size_t cut = (size_t)(data[0] | data[1] << 8) % (size - 2);
        kiln_gguf_bytes parts[2] = {{data + 2, cut, "one"}, {data + 2 + cut, size - 2 - cut, "two"}};
        open_parts(parts, 2);
    }
    return 0;
}
