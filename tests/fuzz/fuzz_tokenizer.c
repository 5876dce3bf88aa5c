/* A vocabulary and a text made from the bytes: encoding never fails for want of room within the bound, and
 * with a token for every byte, decoding gives the text back, with plain spaces. */
#include "tests/support/plain_spaces.h"
#include "tools/llm/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        __builtin_trap();
}

/* <unk>, <s>, 256 bytes, then pieces of 1 to 8 bytes cut from the front of the data,
 * with scores and types. */
static size_t fill(kiln_gguf_string *texts, float *scores, int32_t *types, char names[256][8],
                   const uint8_t **data, size_t *size) {
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    texts[n] = (kiln_gguf_string){"<unk>", 5};
    types[n++] = 2;
    texts[n] = (kiln_gguf_string){"<s>", 3};
    types[n++] = 3;
    for (size_t i = 0; i < 256; i++) {
        memcpy(names[i], "<0x00>", 6);
        names[i][3] = hex[i >> 4];
        names[i][4] = hex[i & 15];
        texts[n] = (kiln_gguf_string){names[i], 6};
        types[n++] = 6;
    }
    for (size_t i = 0; i < n; i++)
        scores[i] = 0;
    size_t pieces = *size > 0 ? (*data)[0] % 64 : 0;
    for (size_t i = 0; i<pieces && * size> 12; i++) {
        size_t length = 1 + (*data)[1] % 8;
        scores[n] = (float)(int8_t)(*data)[2];
        types[n] = (*data)[3] % 5 == 0 ? 4 : (*data)[3] % 7 == 0 ? 5 : 1;
        texts[n++] = (kiln_gguf_string){(const char *)*data + 4, length};
        *data += 4 + length;
        *size -= 4 + length;
    }
    return n;
}

static void encode_and_decode(const kiln_tok *tok, const char *text, size_t size) {
    size_t room = kiln_tok_encode_bound(size), count = 0, at = 0;
    int32_t *ids = malloc(room * sizeof *ids);
    char *back = malloc(size + 8), *spaced = malloc(size + 1);
    check(ids != NULL && back != NULL && spaced != NULL);
    check(kiln_tok_encode(tok, text, size, true, ids, room, &count, NULL) == KILN_OK);
    for (size_t i = 0; i < count; i++) {
        kiln_gguf_string s = kiln_tok_decode(tok, i > 0 ? ids[i - 1] : -1, ids[i]);
        check(at + s.size <= size + 1);
        memcpy(back + at, s.data, s.size);
        at += s.size;
    }
    /* The leading space is a byte token where the vocabulary has none with it: then it stays. */
    size_t spaced_size = plain_spaces(text, size, spaced), extra = at - spaced_size;
    check(at >= spaced_size && extra <= 1 && (extra == 0 || back[0] == ' ') &&
          memcmp(back + extra, spaced, spaced_size) == 0);
    free(ids);
    free(back);
    free(spaced);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kiln_gguf_string texts[400];
    float scores[400];
    int32_t types[400];
    static char names[256][8];
    size_t count = fill(texts, scores, types, names, &data, &size), bytes_size = 0;
    kiln_gguf_writer *w = NULL;
    kiln_gguf *g = NULL;
    kiln_tok *tok = NULL;
    void *bytes = NULL;
    check(kiln_gguf_writer_create(kiln_allocator_default(), &w, NULL) == KILN_OK);
    kiln_gguf_writer_add_string(w, "tokenizer.ggml.model", "llama");
    kiln_gguf_writer_add_strings(w, "tokenizer.ggml.tokens", texts, count);
    kiln_gguf_writer_add_array(w, "tokenizer.ggml.scores", KILN_GGUF_F32, scores, count);
    kiln_gguf_writer_add_array(w, "tokenizer.ggml.token_type", KILN_GGUF_I32, types, count);
    kiln_gguf_writer_add_u32(w, "tokenizer.ggml.bos_token_id", 1);
    check(kiln_gguf_writer_write_memory(w, &bytes, &bytes_size, NULL) == KILN_OK);
    kiln_gguf_writer_destroy(w);
    kiln_gguf_bytes part = {bytes, bytes_size, NULL};
    check(kiln_gguf_open_memory(&part, 1, NULL, &g, NULL) == KILN_OK);
    check(kiln_tok_create(g, kiln_allocator_default(), &tok, NULL) == KILN_OK);
    kiln_gguf_destroy(g);
    free(bytes);
    encode_and_decode(tok, (const char *)data, size);
    kiln_tok_destroy(tok);
    return 0;
}
