/* Reads the vocabulary; looks tokens up and decodes them. */
#include "tokenizer_internal.h"

#include "index_sort.h"

#include <inttypes.h>
#include <math.h>

#define TOK_FAIL(G, ERROR, STATUS, FORMAT, ...)                                                              \
    (kiln_error_set((ERROR), (STATUS), "%s: " FORMAT, file_of(G), __VA_ARGS__), (kiln_status)(STATUS))

/* The end of the file's path, for messages. */
static const char *file_of(const kiln_gguf *gguf) {
    const char *path = kiln_gguf_part_at(gguf, 0)->path;
    size_t length = strlen(path);
    return length > 120 ? path + length - 120 : path;
}

/* ---- Loading ---------------------------------------------------------------------------------------- */

static int compare_text(const char *a, size_t a_size, const char *b, size_t b_size) {
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order != 0 ? order : a_size < b_size ? -1 : a_size > b_size;
}

static int compare_tokens(const void *items, uint32_t a, uint32_t b) {
    const tok_token *tokens = items;
    return compare_text(tokens[a].text, tokens[a].size, tokens[b].text, tokens[b].size);
}

static kiln_status check_model(const kiln_gguf *g, kiln_error *error) {
    kiln_gguf_string model;
    kiln_status status = kiln_gguf_get_string(g, "tokenizer.ggml.model", &model, error);
    if (status == KILN_OK && (model.size != 5 || memcmp(model.data, "llama", 5) != 0)) {
        char text[64];
        kiln_gguf_kv_text(kiln_gguf_kv_find(g, "tokenizer.ggml.model"), 1, text, sizeof text);
        return TOK_FAIL(g, error, KILN_ERROR_UNSUPPORTED,
                        "tokenizer.ggml.model is %s, only \"llama\" (SentencePiece BPE) is known", text);
    }
    return status;
}

size_t kiln_tok__plain_spaces(const char *text, size_t size, char *to) {
    static const char space[3] = {'\xE2', '\x96', '\x81'};
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        if (size - i >= 3 && memcmp(text + i, space, 3) == 0) {
            to[n++] = ' ';
            i += 3;
        } else {
            to[n++] = text[i++];
        }
    }
    return n;
}

static kiln_status load_texts(kiln_tok *t, const kiln_gguf *g, kiln_error *error) {
    const kiln_gguf_kv *kv = NULL;
    kiln_status status = kiln_gguf_get_array(g, "tokenizer.ggml.tokens", &kv, error);
    if (status != KILN_OK)
        return status;
    if (kv->element != KILN_GGUF_STRING || kv->count == 0)
        return TOK_FAIL(g, error, KILN_ERROR_FORMAT,
                        "tokenizer.ggml.tokens is an array of %" PRId64 " %s, expected strings", kv->count,
                        kiln_gguf_type_name(kv->element));
    if (kv->count > INT32_MAX)
        return TOK_FAIL(g, error, KILN_ERROR_LIMIT, "%" PRId64 " tokens, at most 2^31 are allowed",
                        kv->count);
    size_t count = (size_t)kv->count;
    t->tokens = KILN_NEW(&t->allocator, tok_token, count);
    t->index = KILN_NEW(&t->allocator, uint32_t, count);
    t->pool = KILN_NEW(&t->allocator, char, kv->bytes);
    t->count = count;
    t->pool_size = kv->bytes;
    if (t->tokens == NULL || t->index == NULL || t->pool == NULL)
        return TOK_FAIL(g, error, KILN_ERROR_MEMORY, "no memory for a vocabulary of %zu tokens", count);
    kiln_gguf_strings strings = kiln_gguf_strings_of(kv);
    kiln_gguf_string s;
    char *next = t->pool;
    for (size_t i = 0; kiln_gguf_strings_next(&strings, &s); i++) {
        t->tokens[i].text = next;
        t->tokens[i].size = kiln_tok__plain_spaces(s.data, s.size, next);
        next += t->tokens[i].size;
    }
    kiln_gguf__index_sort(t->tokens, compare_tokens, t->index, count);
    return KILN_OK;
}

/* Scores, and the numbers of token types, through one array of the allocator's. */
static kiln_status load_scores_and_types(kiln_tok *t, const kiln_gguf *g, kiln_error *error) {
    bool typed = kiln_gguf_has(g, "tokenizer.ggml.token_type");
    float *scores = KILN_NEW(&t->allocator, float, t->count);
    int32_t *types = KILN_NEW(&t->allocator, int32_t, t->count);
    kiln_status status = KILN_OK;
    if (scores == NULL || types == NULL)
        status = TOK_FAIL(g, error, KILN_ERROR_MEMORY, "no memory for %zu scores", t->count);
    if (status == KILN_OK)
        status = kiln_gguf_get_array_f32(g, "tokenizer.ggml.scores", scores, (int64_t)t->count, error);
    if (status == KILN_OK && typed)
        status = kiln_gguf_get_array_i32(g, "tokenizer.ggml.token_type", types, (int64_t)t->count, error);
    for (size_t i = 0; i < t->count && status == KILN_OK; i++) {
        if (!isfinite(scores[i]))
            status = TOK_FAIL(g, error, KILN_ERROR_FORMAT,
                              "the score of token %zu is %g, expected a finite number", i, (double)scores[i]);
        else if (types[i] < 0 || types[i] >= TOKEN_TYPE_COUNT)
            status = TOK_FAIL(g, error, KILN_ERROR_FORMAT, "token %zu has type %" PRId32 ", expected 0 to %d",
                              i, types[i], TOKEN_TYPE_COUNT - 1);
        t->tokens[i].score = scores[i];
        t->tokens[i].type = (tok_type)types[i];
    }
    KILN_DELETE(&t->allocator, scores, float, t->count);
    KILN_DELETE(&t->allocator, types, int32_t, t->count);
    return status;
}

static kiln_status load_id(const kiln_tok *t, const kiln_gguf *g, const char *key, int32_t *out,
                           kiln_error *error) {
    int64_t id = 0;
    *out = -1;
    if (!kiln_gguf_has(g, key))
        return KILN_OK;
    kiln_status status = kiln_gguf_get_i64(g, key, &id, error);
    if (status != KILN_OK)
        return status;
    if (id < 0 || (uint64_t)id >= t->count)
        return TOK_FAIL(g, error, KILN_ERROR_FORMAT, "%s is %" PRId64 ", expected 0 to %zu", key, id,
                        t->count - 1);
    *out = (int32_t)id;
    return KILN_OK;
}

static kiln_status load_flag(const kiln_gguf *g, const char *key, bool *out, kiln_error *error) {
    return kiln_gguf_has(g, key) ? kiln_gguf_get_bool(g, key, out, error) : KILN_OK;
}

static kiln_status load_special(kiln_tok *t, const kiln_gguf *g, kiln_error *error) {
    kiln_status status = load_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, error);
    if (status == KILN_OK)
        status = load_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, error);
    if (status == KILN_OK)
        status = load_id(t, g, "tokenizer.ggml.unknown_token_id", &t->unknown, error);
    t->adds_bos = t->bos >= 0;
    t->adds_space = true;
    if (status == KILN_OK)
        status = load_flag(g, "tokenizer.ggml.add_bos_token", &t->adds_bos, error);
    if (status == KILN_OK)
        status = load_flag(g, "tokenizer.ggml.add_eos_token", &t->adds_eos, error);
    if (status == KILN_OK)
        status = load_flag(g, "tokenizer.ggml.add_space_prefix", &t->adds_space, error);
    if (status == KILN_OK && ((t->adds_bos && t->bos < 0) || (t->adds_eos && t->eos < 0)))
        status =
            TOK_FAIL(g, error, KILN_ERROR_FORMAT, "tokenizer.ggml.add_%s_token is true, but there is no %s",
                     t->adds_bos && t->bos < 0 ? "bos" : "eos",
                     t->adds_bos && t->bos < 0 ? "bos_token_id" : "eos_token_id");
    return status;
}

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The byte a token spelled <0xNN> stands for, or -1. */
static int byte_of(const tok_token *t) {
    if (t->size != 6 || memcmp(t->text, "<0x", 3) != 0 || t->text[5] != '>')
        return -1;
    int high = hex(t->text[3]), low = hex(t->text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* What token types mean: the table of bytes, the list of user-defined tokens, the unknown token. */
static kiln_status sort_out(kiln_tok *t, const kiln_gguf *g, kiln_error *error) {
    bool typed = kiln_gguf_has(g, "tokenizer.ggml.token_type");
    for (int i = 0; i < 256; i++) {
        t->bytes[i] = (unsigned char)i;
        t->byte_id[i] = -1;
    }
    for (size_t i = t->count; i-- > 0;) { /* downwards: the lowest id of several stays */
        tok_token *k = &t->tokens[i];
        int byte = byte_of(k);
        if (!typed)
            k->type = byte >= 0 ? TOKEN_BYTE : TOKEN_NORMAL;
        if (!typed && ((int32_t)i == t->bos || (int32_t)i == t->eos))
            k->type = TOKEN_CONTROL;
        if (!typed && (int32_t)i == t->unknown)
            k->type = TOKEN_UNKNOWN;
        if (k->type == TOKEN_BYTE && byte < 0)
            return TOK_FAIL(g, error, KILN_ERROR_FORMAT,
                            "token %zu is a byte, but is spelled '%.*s', not <0xNN>", i,
                            (int)(k->size < 40 ? k->size : 40), k->text);
        if (k->type == TOKEN_BYTE)
            t->byte_id[byte] = (int32_t)i;
        if (k->type == TOKEN_UNKNOWN && !kiln_gguf_has(g, "tokenizer.ggml.unknown_token_id"))
            t->unknown = (int32_t)i;
        t->user_count += k->type == TOKEN_USER && k->size > 0;
    }
    t->users = KILN_NEW(&t->allocator, int32_t, t->user_count);
    if (t->users == NULL)
        return TOK_FAIL(g, error, KILN_ERROR_MEMORY, "no memory for %zu user-defined tokens", t->user_count);
    for (size_t i = 0, n = 0; i < t->count; i++)
        if (t->tokens[i].type == TOKEN_USER && t->tokens[i].size > 0) {
            t->users[n++] = (int32_t)i;
            t->user_begins[(unsigned char)t->tokens[i].text[0]] = true;
        }
    return KILN_OK;
}

kiln_status kiln_tok_create(const kiln_gguf *gguf, kiln_allocator allocator, kiln_tok **out,
                            kiln_error *error) {
    if (out != NULL)
        *out = NULL;
    if (gguf == NULL || out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "tokenizer: gguf or out is NULL");
    kiln_allocator a = kiln__allocator_or_default(&allocator);
    kiln_status status = check_model(gguf, error);
    if (status != KILN_OK)
        return status;
    kiln_tok *t = KILN_NEW(&a, kiln_tok, 1);
    if (t == NULL)
        return TOK_FAIL(gguf, error, KILN_ERROR_MEMORY, "no memory for a tokenizer (%zu bytes)", sizeof *t);
    t->allocator = a;
    status = load_texts(t, gguf, error);
    if (status == KILN_OK)
        status = load_scores_and_types(t, gguf, error);
    if (status == KILN_OK)
        status = load_special(t, gguf, error);
    if (status == KILN_OK)
        status = sort_out(t, gguf, error);
    if (status == KILN_OK)
        *out = t;
    else
        kiln_tok_destroy(t);
    return status;
}

void kiln_tok_destroy(kiln_tok *tok) {
    if (tok == NULL)
        return;
    kiln_allocator a = tok->allocator;
    KILN_DELETE(&a, tok->tokens, tok_token, tok->count);
    KILN_DELETE(&a, tok->index, uint32_t, tok->count);
    KILN_DELETE(&a, tok->pool, char, tok->pool_size);
    KILN_DELETE(&a, tok->users, int32_t, tok->user_count);
    KILN_DELETE(&a, tok, kiln_tok, 1);
}

/* ---- Looking up ------------------------------------------------------------------------------------- */

int32_t kiln_tok_count(const kiln_tok *tok) {
    return (int32_t)tok->count;
}

int32_t kiln_tok_bos(const kiln_tok *tok) {
    return tok->bos;
}

int32_t kiln_tok_eos(const kiln_tok *tok) {
    return tok->eos;
}

int32_t kiln_tok_unknown(const kiln_tok *tok) {
    return tok->unknown;
}

kiln_gguf_string kiln_tok_text(const kiln_tok *tok, int32_t id) {
    if (id < 0 || (size_t)id >= tok->count)
        return (kiln_gguf_string){"", 0};
    return (kiln_gguf_string){tok->tokens[id].text, tok->tokens[id].size};
}

/* Where in the index the first token spelled so would stand. */
static size_t lower_bound(const kiln_tok *t, const char *text, size_t size) {
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const tok_token *k = &t->tokens[t->index[middle]];
        if (compare_text(k->text, k->size, text, size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_spelled(const kiln_tok *t, size_t place, const char *text, size_t size) {
    if (place >= t->count)
        return false;
    const tok_token *k = &t->tokens[t->index[place]];
    return k->size == size && memcmp(k->text, text, size) == 0;
}

int32_t kiln_tok_find(const kiln_tok *tok, const char *text, size_t size) {
    size_t place = lower_bound(tok, text != NULL ? text : "", size);
    return is_spelled(tok, place, text != NULL ? text : "", size) ? (int32_t)tok->index[place] : -1;
}

int32_t kiln_tok__find_piece(const kiln_tok *tok, const char *text, size_t size) {
    for (size_t place = lower_bound(tok, text, size); is_spelled(tok, place, text, size); place++) {
        tok_type type = tok->tokens[tok->index[place]].type;
        if (type == TOKEN_NORMAL || type == TOKEN_USER || type == TOKEN_UNDEFINED)
            return (int32_t)tok->index[place];
    }
    return -1;
}

kiln_gguf_string kiln_tok_decode(const kiln_tok *tok, int32_t previous, int32_t token_id) {
    kiln_gguf_string nothing = {"", 0};
    if (token_id < 0 || (size_t)token_id >= tok->count)
        return nothing;
    const tok_token *k = &tok->tokens[token_id];
    if (k->type == TOKEN_CONTROL)
        return nothing;
    if (k->type == TOKEN_BYTE)
        return (kiln_gguf_string){(const char *)&tok->bytes[byte_of(k)], 1};
    bool strip = tok->adds_space && previous >= 0 && previous == tok->bos && k->size > 0 && k->text[0] == ' ';
    return (kiln_gguf_string){k->text + strip, k->size - strip};
}
