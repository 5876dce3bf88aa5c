/* The tokenizer: the golden token lists, and a second implementation of the rule on llama2.c's own
 * vocabulary. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_help.h"
#include "tests/support/plain_spaces.h"
#include "tools/llm/tokenizer.h"

/* Every variant of the model, with the tokens and the text it is to generate. */
static const struct {
    const char *gguf, *golden;
} variants[] = {
    {"stories260K/stories260K-f32.gguf", "dense_f32"},
    {"stories260K/stories260K-f16.gguf", "dense_f16"},
    {"stories260K/stories260K-q8_0.gguf", "dense_q8_0"},
    {"stories260K/stories260K-q4_0.gguf", "dense_q4_0"},
    {"stories260K/stories260K-iq4_nl.gguf", "dense_iq4_nl"},
    {"stories260K/stories260K-moe4x-permuted-f32.gguf", "moe4_permuted_f32"},
    {"stories260K/stories260K-moe4x-split-f32.gguf", "moe4_split_f32"},
    {"stories260K/stories260K-moe8x-permuted-q8_0.gguf", "moe8_permuted_q8_0"},
};

static kiln_tok *tokenizer_of(const char *relative) {
    char path[TESTDATA_PATH_SIZE];
    kiln_gguf *g = open_good(need(relative, path), KILN_GGUF_MMAP);
    kiln_tok *tok = NULL;
    kiln_error error = {0};
    if (kiln_tok_create(g, (kiln_allocator){0}, &tok, &error) != KILN_OK)
        fail_msg("%s", error.text);
    kiln_gguf_destroy(g); /* the tokenizer stands alone */
    return tok;
}

static size_t encode(const kiln_tok *tok, const char *text, size_t size, int32_t *ids, size_t room) {
    size_t count = 0;
    kiln_error error = {0};
    if (kiln_tok_encode(tok, text, size, true, ids, room, &count, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return count;
}

/* The text of `count` tokens, into `out`. */
static size_t decode(const kiln_tok *tok, const int32_t *ids, size_t count, char *out) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        kiln_gguf_string s = kiln_tok_decode(tok, i > 0 ? ids[i - 1] : -1, ids[i]);
        memcpy(out + size, s.data, s.size);
        size += s.size;
    }
    return size;
}

static size_t read_ids(const char *relative, int32_t *ids, size_t room) {
    size_t size = 0, count = 0;
    char *text = testdata_read(relative, &size);
    assert_non_null(text);
    text = realloc(text, size + 1);
    assert_non_null(text);
    text[size] = '\0';
    char *at = text;
    for (char *end; count < room; at = end, count++) {
        ids[count] = (int32_t)strtol(at, &end, 10);
        if (end == at)
            break;
    }
    free(text);
    return count;
}

/* ---- Golden lists ----------------------------------------------------------------------------------- */

static void golden_tokens_give_golden_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(variants); i++) {
        char name[128], path[TESTDATA_PATH_SIZE], text[4096];
        int32_t ids[300], again[1024];
        kiln_tok *tok = tokenizer_of(variants[i].gguf);
        snprintf(name, sizeof name, "stories260K/%s.greedy.tokens", variants[i].golden);
        need(name, path);
        size_t count = read_ids(name, ids, COUNT(ids)), golden_size = 0;
        assert_int_equal(count, 257); /* BOS and 256 tokens */
        assert_int_equal(ids[0], kiln_tok_bos(tok));
        size_t size = decode(tok, ids, count, text);
        snprintf(name, sizeof name, "stories260K/%s.greedy.txt", variants[i].golden);
        char *golden = testdata_read(name, &golden_size);
        assert_non_null(golden);
        assert_int_equal(size, golden_size);
        assert_memory_equal(text, golden, size);
        /* And back: the text gives these tokens again. */
        size_t again_count = encode(tok, text, size, again, COUNT(again));
        assert_int_equal(again_count, count);
        assert_memory_equal(again, ids, count * sizeof *ids);
        free(golden);
        kiln_tok_destroy(tok);
    }
}

/* ---- A second implementation ------------------------------------------------------------------------ */

/* llama2.c's vocabulary file and the rule of its encoder, written as plainly as can be: join the best pair of
 * neighbours, found by trying all, until there is none. (Two differences. On text that is not UTF-8 run.c
 * makes bytes of a letter, too, when a stray continuation byte follows it. And run.c makes bytes of a U+2581,
 * which is a space to SentencePiece and llama.cpp.) */
typedef struct plain {
    char *bytes;
    struct {
        float score;
        int32_t size;
        const char *text;
    } tokens[512];
} plain;

static bool plain_load(plain *p) {
    size_t size = 0;
    char *at = p->bytes = testdata_read("stories260K/tok512.bin", &size);
    if (at == NULL)
        return false;
    at += sizeof(int32_t);
    for (size_t i = 0; i < 512; i++) {
        memcpy(&p->tokens[i].score, at, sizeof(float));
        memcpy(&p->tokens[i].size, at + 4, sizeof(int32_t));
        p->tokens[i].text = at + 8;
        at += 8 + p->tokens[i].size;
    }
    assert_int_equal(at - p->bytes, size);
    return true;
}

static int32_t plain_find(const plain *p, const char *text, size_t size) {
    for (int32_t i = 0; i < 512; i++)
        if ((size_t)p->tokens[i].size == size && memcmp(p->tokens[i].text, text, size) == 0)
            return i;
    return -1;
}

static size_t plain_encode(const plain *p, const char *text, size_t size, int32_t *ids) {
    size_t count = 0;
    ids[count++] = 1;
    if (size > 0)
        ids[count++] = plain_find(p, " ", 1);
    for (size_t at = 0, length; at < size; at += length) {
        length = 1;
        while ((unsigned char)text[at] >= 0xC0 && length < 4 && at + length < size &&
               ((unsigned char)text[at + length] & 0xC0) == 0x80)
            length++;
        int32_t id = plain_find(p, text + at, length);
        if (id >= 0)
            ids[count++] = id;
        for (size_t i = 0; id < 0 && i < length; i++)
            ids[count++] = (unsigned char)text[at + i] + 3;
    }
    for (;;) {
        float best = -1e10f;
        int32_t best_id = -1;
        size_t best_at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            char both[256];
            size_t a = (size_t)p->tokens[ids[i]].size, b = (size_t)p->tokens[ids[i + 1]].size;
            memcpy(both, p->tokens[ids[i]].text, a);
            memcpy(both + a, p->tokens[ids[i + 1]].text, b);
            int32_t id = plain_find(p, both, a + b);
            if (id >= 0 && p->tokens[id].score > best) {
                best = p->tokens[id].score;
                best_id = id;
                best_at = i;
            }
        }
        if (best_id < 0)
            return count;
        ids[best_at] = best_id;
        memmove(ids + best_at + 1, ids + best_at + 2, (count - best_at - 2) * sizeof *ids);
        count--;
    }
}

static void compare_with_plain(const plain *p, const kiln_tok *tok, const char *text, size_t size) {
    int32_t expected[2048], ids[2048];
    char back[2048], spaced[2048];
    assert_true(size + 3 <= COUNT(ids));
    size_t spaced_size = plain_spaces(text, size, spaced);
    size_t want = plain_encode(p, spaced, spaced_size, expected);
    size_t got = encode(tok, text, size, ids, COUNT(ids));
    assert_int_equal(want, got);
    assert_memory_equal(expected, ids, want * sizeof *ids);
    assert_true(got <= kiln_tok_encode_bound(size));
    assert_int_equal(decode(tok, ids, got, back), spaced_size);
    assert_memory_equal(back, spaced, spaced_size);
}

static void the_rule_of_llama2_c_is_followed(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "  ",
        "a",
        "\n",
        "\t\x01",
        "Once upon a time",
        "Once upon a time, there was a little girl named Lily.",
        "  two  spaces  ",
        "zzzzQQQ",
        "\xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xb6!",
        "\xe2\x96\x81x",
        "<s></s><unk><0x41>",
        "\xff\xfe\x80\x80\x80\x80\x80\x80",
        "\xe2\x82",
        "ab\xc3",
        "The dog ran. The dog ran. The dog ran.",
    };
    static plain p;
    kiln_tok *tok = tokenizer_of("stories260K/stories260K-f32.gguf");
    if (!plain_load(&p))
        skip();
    for (size_t i = 0; i < COUNT(texts); i++)
        compare_with_plain(&p, tok, texts[i], strlen(texts[i]));
    /* Prefixes of a real text, random texts of its letters, random bytes without NUL. */
    size_t size = 0;
    char *story = testdata_read("stories260K/run_c_greedy_n256.txt", &size), random_text[200];
    assert_non_null(story);
    for (size_t prefix = 0; prefix <= 300; prefix += 3)
        compare_with_plain(&p, tok, story, prefix);
    uint64_t random = 7;
    for (int i = 0; i < 600; i++) {
        size_t n = (size_t)i % 120;
        for (size_t k = 0; k < n; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            random_text[k] = i % 2 == 0 ? story[(random >> 33) % size] : (char)(1 + (random >> 33) % 255);
        }
        compare_with_plain(&p, tok, random_text, n);
    }
    free(story);
    free(p.bytes);
    kiln_tok_destroy(tok);
}

/* SentencePiece's own space, whole and in parts, among letters of a story, spaces, and its neighbours in
 * Unicode. */
static void its_own_space_is_a_space(void **state) {
    (void)state;
#define PIECE(TEXT)                                                                                          \
    { TEXT, sizeof(TEXT) - 1 }
    static const kiln_gguf_string pieces[] = {PIECE("\xe2\x96\x81"),
                                              PIECE("\xe2\x96\x81\xe2\x96\x81"),
                                              PIECE(" "),
                                              PIECE("\xe2\x96\x80"),
                                              PIECE("\xe2\x96"),
                                              PIECE("\x81"),
                                              PIECE("\xe2"),
                                              PIECE("\xe2\x96\x82")};
#undef PIECE
    static plain p;
    kiln_tok *tok = tokenizer_of("stories260K/stories260K-f32.gguf");
    if (!plain_load(&p))
        skip();
    size_t size = 0;
    char *story = testdata_read("stories260K/run_c_greedy_n256.txt", &size), text[256];
    assert_non_null(story);
    uint64_t random = 2581;
    for (int i = 0; i < 2000; i++) {
        size_t n = 0;
        for (int k = 0; k < i % 40; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t letters = random >> 61, at = (size_t)(random >> 33) % (size - 8);
            kiln_gguf_string piece = pieces[(random >> 40) % (i % 2 == 0 ? 3 : COUNT(pieces))];
            memcpy(text + n, piece.data, piece.size);
            n += piece.size;
            memcpy(text + n, story + at, letters);
            n += letters;
            if (n > sizeof text - 16)
                break;
        }
        compare_with_plain(&p, tok, text, n);
    }
    free(story);
    free(p.bytes);
    kiln_tok_destroy(tok);
}

/* ---- Vocabularies made here ------------------------------------------------------------------------- */

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };

typedef struct row {
    const char *text;
    float score;
    int32_t type;
} row;

typedef struct vocabulary {
    row rows[16];
    size_t count;
    size_t scores, types; /* how many of each are written; types SIZE_MAX: the key is left out */
    int64_t bos, eos;     /* -1: the key is left out */
    int adds_bos, adds_eos, adds_space;
    const char *model;
} vocabulary;

static vocabulary sample(void) {
    return (vocabulary){.rows = {{"<unk>", 0, UNKNOWN},
                                 {"<s>", 0, CONTROL},
                                 {"</s>", 0, CONTROL},
                                 {"<0x41>", 0, BYTE},
                                 {"\xe2\x96\x81", -3, NORMAL},
                                 {"a", -3, NORMAL},
                                 {"b", -3, NORMAL},
                                 {"ab", -1, NORMAL},
                                 {"ba", -1, NORMAL},
                                 {"\xe2\x96\x81"
                                  "ab",
                                  -2, NORMAL},
                                 {"<user>", 0, USER},
                                 {"<user>!", 0, USER},
                                 {"aa", 5, UNUSED}},
                        .count = 13,
                        .scores = 13,
                        .types = 13,
                        .bos = 1,
                        .eos = 2,
                        .adds_bos = -1,
                        .adds_eos = -1,
                        .adds_space = -1,
                        .model = "llama"};
}

static kiln_gguf *vocabulary_file(const vocabulary *v, void **bytes) {
    kiln_gguf_writer *w = NULL;
    kiln_gguf_string texts[16];
    float scores[16];
    int32_t types[16];
    size_t size = 0;
    assert_int_equal(kiln_gguf_writer_create((kiln_allocator){0}, &w, NULL), KILN_OK);
    for (size_t i = 0; i < v->count; i++) {
        texts[i] = (kiln_gguf_string){v->rows[i].text, strlen(v->rows[i].text)};
        scores[i] = v->rows[i].score;
        types[i] = v->rows[i].type;
    }
    if (v->model != NULL)
        kiln_gguf_writer_add_string(w, "tokenizer.ggml.model", v->model);
    kiln_gguf_writer_add_strings(w, "tokenizer.ggml.tokens", texts, v->count);
    kiln_gguf_writer_add_array(w, "tokenizer.ggml.scores", KILN_GGUF_F32, scores, v->scores);
    if (v->types != SIZE_MAX)
        kiln_gguf_writer_add_array(w, "tokenizer.ggml.token_type", KILN_GGUF_I32, types, v->types);
    if (v->bos != -1)
        kiln_gguf_writer_add_i64(w, "tokenizer.ggml.bos_token_id", v->bos);
    if (v->eos != -1)
        kiln_gguf_writer_add_i64(w, "tokenizer.ggml.eos_token_id", v->eos);
    if (v->adds_bos >= 0)
        kiln_gguf_writer_add_bool(w, "tokenizer.ggml.add_bos_token", v->adds_bos != 0);
    if (v->adds_eos >= 0)
        kiln_gguf_writer_add_bool(w, "tokenizer.ggml.add_eos_token", v->adds_eos != 0);
    if (v->adds_space >= 0)
        kiln_gguf_writer_add_bool(w, "tokenizer.ggml.add_space_prefix", v->adds_space != 0);
    assert_int_equal(kiln_gguf_writer_write_memory(w, bytes, &size, NULL), KILN_OK);
    kiln_gguf_writer_destroy(w);
    kiln_gguf_bytes part = {*bytes, size, "vocabulary"};
    kiln_gguf *g = NULL;
    assert_int_equal(kiln_gguf_open_memory(&part, 1, NULL, &g, NULL), KILN_OK);
    return g;
}

static kiln_status make(const vocabulary *v, kiln_allocator allocator, kiln_tok **tok, kiln_error *error) {
    void *bytes = NULL;
    kiln_gguf *g = vocabulary_file(v, &bytes);
    kiln_status status = kiln_tok_create(g, allocator, tok, error);
    kiln_gguf_destroy(g);
    free(bytes);
    return status;
}

static void expect_encoded(const vocabulary *v, const char *text, const int32_t *ids, size_t count) {
    kiln_tok *tok = NULL;
    int32_t got[64];
    assert_int_equal(make(v, (kiln_allocator){0}, &tok, NULL), KILN_OK);
    assert_int_equal(encode(tok, text, strlen(text), got, COUNT(got)), count);
    assert_memory_equal(got, ids, count * sizeof *ids);
    kiln_tok_destroy(tok);
}

#define ENCODES(V, TEXT, ...)                                                                                \
    expect_encoded((V), (TEXT), (const int32_t[]){__VA_ARGS__}, COUNT(((const int32_t[]){__VA_ARGS__})))

static void pieces_are_chosen_by_the_rule(void **state) {
    (void)state;
    vocabulary v = sample();
    ENCODES(&v, "", 1);
    ENCODES(&v, "ab", 1, 9);
    ENCODES(&v, "aba", 1, 9, 5);                                 /* "ab" and "ba" tie: the left one */
    ENCODES(&v, "bab", 1, 4, 8, 6);                              /* here "ba" is the left one */
    ENCODES(&v, "aa", 1, 4, 5, 5);                               /* an unused token is not made */
    ENCODES(&v, "A", 1, 4, 3);                                   /* a byte */
    ENCODES(&v, "B", 1, 4, 0);                                   /* no byte token: unknown */
    ENCODES(&v, "<s>", 1, 4, 0, 0, 0);                           /* control tokens are not made from text */
    ENCODES(&v, "a<user>b", 1, 4, 5, 10, 6);                     /* user-defined ones are, */
    ENCODES(&v, "a<user>!b", 1, 4, 5, 11, 6);                    /* the longest first, */
    ENCODES(&v, "a<user>a<user", 1, 4, 5, 10, 5, 0, 0, 0, 0, 0); /* and whole */
    ENCODES(&v,
            "a\xe2\x96\x81"
            "ab",
            1, 4, 5, 9); /* a space in SentencePiece's own form */
    v.rows[10].text = "\xe2\x96\x81\xe2\x96\x81";
    ENCODES(&v,
            "a\xe2\x96\x81\xe2\x96\x81"
            "b  b",
            1, 4, 5, 10, 6, 10, 6); /* in user-defined ones too */
    v.adds_eos = 1;
    ENCODES(&v, "ab", 1, 9, 2);
    v.adds_bos = 0;
    v.adds_space = 0;
    ENCODES(&v, "ab", 7, 2);
    v.types = SIZE_MAX; /* by spelling: bytes; the three ids: control */
    ENCODES(&v, "aaA", 12, 3, 2);
    v.bos = -1; /* without an id nothing is added */
    v.adds_bos = v.adds_eos = -1;
    ENCODES(&v, "ab", 7);
}

static void lookup_and_single_tokens(void **state) {
    (void)state;
    vocabulary v = sample();
    kiln_tok *tok = NULL;
    assert_int_equal(make(&v, (kiln_allocator){0}, &tok, NULL), KILN_OK);
    assert_int_equal(kiln_tok_count(tok), 13);
    assert_int_equal(kiln_tok_bos(tok), 1);
    assert_int_equal(kiln_tok_eos(tok), 2);
    assert_int_equal(kiln_tok_unknown(tok), 0);
    assert_int_equal(kiln_tok_find(tok, "<s>", 3), 1);
    assert_int_equal(kiln_tok_find(tok, " ab", 3), 9);
    assert_int_equal(kiln_tok_find(tok, "zz", 2), -1);
    assert_int_equal(kiln_tok_find(tok, NULL, 0), -1);
    assert_int_equal(kiln_tok_text(tok, 9).size, 3);
    assert_int_equal(kiln_tok_text(tok, -1).size, 0);
    assert_int_equal(kiln_tok_text(tok, 13).size, 0);
    assert_int_equal(kiln_tok_decode(tok, -1, 9).size, 3);
    assert_int_equal(kiln_tok_decode(tok, 1, 9).size, 2); /* after BOS: no space */
    assert_memory_equal(kiln_tok_decode(tok, 1, 9).data, "ab", 2);
    assert_int_equal(kiln_tok_decode(tok, 5, 9).size, 3);
    assert_int_equal(kiln_tok_decode(tok, -1, 3).size, 1);
    assert_memory_equal(kiln_tok_decode(tok, -1, 3).data, "A", 1);
    assert_int_equal(kiln_tok_decode(tok, -1, 1).size, 0);
    assert_int_equal(kiln_tok_decode(tok, -1, 13).size, 0);
    assert_int_equal(kiln_tok_decode(tok, -1, -1).size, 0);
    assert_int_equal(kiln_tok_decode(tok, -1, INT32_MIN).size, 0);
    assert_int_equal(kiln_tok_encode_bound(SIZE_MAX), SIZE_MAX);
    kiln_tok_destroy(tok);
    kiln_tok_destroy(NULL);
}

static void expect_malformed(const vocabulary *v, kiln_status status, const char *text) {
    kiln_tok *tok = (kiln_tok *)&tok;
    kiln_error error = {0};
    kiln_status got = make(v, (kiln_allocator){0}, &tok, &error);
    if (got != status)
        fail_msg("%s %s", kiln_status_name(got), error.text);
    assert_null(tok);
    expect_text(&error, "vocabulary: ");
    expect_text(&error, text);
}

static void malformed_vocabularies_are_refused(void **state) {
    (void)state;
    vocabulary v = sample();
    v.scores = 12;
    expect_malformed(&v, KILN_ERROR_FORMAT, "tokenizer.ggml.scores' holds 12 elements, expected 13");
    v = sample();
    v.types = 1;
    expect_malformed(&v, KILN_ERROR_FORMAT, "tokenizer.ggml.token_type' holds 1 elements, expected 13");
    v = sample();
    v.count = v.scores = v.types = 0;
    expect_malformed(&v, KILN_ERROR_FORMAT, "array of 0 string");
    v = sample();
    v.bos = 13;
    expect_malformed(&v, KILN_ERROR_FORMAT, "tokenizer.ggml.bos_token_id is 13, expected 0 to 12");
    v = sample();
    v.eos = -2;
    expect_malformed(&v, KILN_ERROR_FORMAT, "tokenizer.ggml.eos_token_id is -2");
    v = sample();
    v.bos = -1;
    v.adds_bos = 1;
    expect_malformed(&v, KILN_ERROR_FORMAT, "add_bos_token is true, but there is no bos_token_id");
    v = sample();
    v.eos = -1;
    v.adds_eos = 1;
    expect_malformed(&v, KILN_ERROR_FORMAT, "add_eos_token is true, but there is no eos_token_id");
    v = sample();
    v.rows[3].text = "<0x4>";
    expect_malformed(&v, KILN_ERROR_FORMAT, "token 3 is a byte, but is spelled '<0x4>'");
    v = sample();
    v.rows[3].text = "<0xG1>";
    expect_malformed(&v, KILN_ERROR_FORMAT, "not <0xNN>");
    v = sample();
    v.rows[5].type = 7;
    expect_malformed(&v, KILN_ERROR_FORMAT, "token 5 has type 7");
    v = sample();
    v.rows[5].type = -1;
    expect_malformed(&v, KILN_ERROR_FORMAT, "token 5 has type -1");
    v = sample();
    v.rows[5].score = (float)strtod("nan", NULL);
    expect_malformed(&v, KILN_ERROR_FORMAT, "the score of token 5 is");
    v = sample();
    v.model = "gpt2";
    expect_malformed(&v, KILN_ERROR_UNSUPPORTED, "tokenizer.ggml.model is \"gpt2\", only \"llama\"");
    v = sample();
    v.model = NULL;
    expect_malformed(&v, KILN_ERROR_FORMAT, "has no key 'tokenizer.ggml.model'");
}

static void wrong_use_of_the_tokenizer(void **state) {
    (void)state;
    vocabulary v = sample();
    kiln_tok *tok = NULL;
    int32_t ids[8];
    size_t count = 77;
    kiln_error error = {0};
    assert_int_equal(kiln_tok_create(NULL, (kiln_allocator){0}, &tok, NULL), KILN_ERROR_ARGUMENT);
    v.rows[0].type = NORMAL; /* no unknown token */
    assert_int_equal(make(&v, (kiln_allocator){0}, &tok, NULL), KILN_OK);
    assert_int_equal(kiln_tok_unknown(tok), -1);
    assert_int_equal(kiln_tok_encode(tok, "aB", 2, true, ids, 8, &count, &error), KILN_ERROR_FORMAT);
    expect_text(&error, "no token for byte 0x42");
    assert_int_equal(count, 77);
    assert_int_equal(kiln_tok_encode(tok, "aaaa", 4, true, ids, 3, &count, &error), KILN_ERROR_LIMIT);
    expect_text(&error, "6 tokens, but room for 3");
    assert_int_equal(count, 6);
    assert_int_equal(ids[2], 5);
    assert_int_equal(kiln_tok_encode(tok, "aaaa", 4, true, NULL, 0, &count, NULL), KILN_ERROR_LIMIT);
    assert_int_equal(kiln_tok_encode(tok, NULL, 0, false, NULL, 0, &count, NULL), KILN_OK);
    assert_int_equal(count, 0);
    assert_int_equal(kiln_tok_encode(tok, NULL, 1, false, ids, 8, &count, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_tok_encode(tok, "a", 1, false, NULL, 8, &count, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_tok_encode(tok, "a", 1, false, ids, 8, NULL, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_tok_encode(NULL, "a", 1, false, ids, 8, &count, NULL), KILN_ERROR_ARGUMENT);
    assert_int_equal(kiln_tok_encode(tok, "a", (size_t)1 << 31, false, ids, 8, &count, NULL),
                     KILN_ERROR_LIMIT);
    kiln_tok_destroy(tok);
}

/* ---- A large vocabulary, long texts, faults --------------------------------------------------------- */

static void a_large_vocabulary_round_trips(void **state) {
    (void)state;
    kiln_tok *tok = tokenizer_of("gguf/ggml-vocab-phi-3.gguf");
    static int32_t ids[100003];
    static char back[100016], spaced[100000];
    size_t size = 0, room = COUNT(ids);
    char *text = testdata_read("gguf/ggml-vocab-phi-3.gguf", &size); /* anything at all */
    assert_non_null(text);
    size = size < 100000 ? size : 100000;
    size_t count = encode(tok, text, size, ids, room);
    assert_int_equal(kiln_tok_count(tok), 32064);
    size_t spaced_size = plain_spaces(text, size, spaced);
    assert_true(spaced_size < size); /* the vocabulary's own spellings have spaces in that form */
    assert_int_equal(decode(tok, ids, count, back), spaced_size);
    assert_memory_equal(back, spaced, spaced_size);
    /* One letter a hundred thousand times: time grows with n log n, not n². */
    memset(text, 'a', size);
    count = encode(tok, text, size, ids, room);
    assert_true(count < size / 2);
    assert_int_equal(decode(tok, ids, count, back), size);
    assert_memory_equal(back, text, size);
    static const char hello[] = "Hello world";
    count = encode(tok, hello, strlen(hello), ids, room);
    assert_int_equal(count, 3);
    assert_memory_equal(ids, ((int32_t[]){1, 15043, 3186}), count * sizeof *ids);
    free(text);
    kiln_tok_destroy(tok);
}

static kiln_status create_and_encode(kiln_allocator allocator, void *context) {
    kiln_tok *tok = NULL;
    int32_t ids[16];
    size_t count = 0;
    kiln_error error = {0};
    kiln_status status = make(context, allocator, &tok, &error);
    if (status == KILN_OK)
        status = kiln_tok_encode(tok, "ab<user>A", 9, true, ids, COUNT(ids), &count, &error);
    if (status == KILN_OK)
        assert_int_equal(count, 4);
    assert_int_equal(error.status, status);
    kiln_tok_destroy(tok);
    return status;
}

static void every_allocation_of_the_tokenizer_may_fail(void **state) {
    (void)state;
    vocabulary v = sample();
    assert_true(fault_alloc_every("tokenizer", create_and_encode, &v) > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_tokens_give_golden_texts),
        cmocka_unit_test(the_rule_of_llama2_c_is_followed),
        cmocka_unit_test(its_own_space_is_a_space),
        cmocka_unit_test(pieces_are_chosen_by_the_rule),
        cmocka_unit_test(lookup_and_single_tokens),
        cmocka_unit_test(malformed_vocabularies_are_refused),
        cmocka_unit_test(wrong_use_of_the_tokenizer),
        cmocka_unit_test(a_large_vocabulary_round_trips),
        cmocka_unit_test(every_allocation_of_the_tokenizer_may_fail),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
