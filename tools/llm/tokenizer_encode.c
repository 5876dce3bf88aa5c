/* Text to tokens: cut into characters, then join the best pair of neighbours until none is left. */
#include "tokenizer_internal.h"

/* A run of the text that is one piece so far. */
typedef struct symbol {
    uint32_t start, size;   /* size 0: was joined to the one before */
    int32_t previous, next; /* -1: none */
    bool whole;             /* a user-defined token: takes no part in joining */
} symbol;

/* Two neighbours that may be joined. Out of date when either has changed since. */
typedef struct pair {
    float score;
    int32_t left, right;
    uint32_t size; /* of both together */
} pair;

typedef struct encoder {
    const kiln_tok *tok;
    char *text; /* with the leading space, and with plain spaces */
    size_t size;
    symbol *symbols;
    size_t symbol_count;
    pair *heap; /* best pair first */
    size_t heap_count;
    int32_t *out;
    size_t out_capacity, out_count;
} encoder;

static bool is_better(const pair *a, const pair *b) {
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static void heap_push(encoder *e, pair p) {
    size_t at = e->heap_count++;
    for (size_t up; at > 0 && is_better(&p, &e->heap[up = (at - 1) / 2]); at = up)
        e->heap[at] = e->heap[up];
    e->heap[at] = p;
}

static pair heap_pop(encoder *e) {
    pair best = e->heap[0], last = e->heap[--e->heap_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < e->heap_count; at = child) {
        if (child + 1 < e->heap_count && is_better(&e->heap[child + 1], &e->heap[child]))
            child++;
        if (!is_better(&e->heap[child], &last))
            break;
        e->heap[at] = e->heap[child];
    }
    e->heap[at] = last;
    return best;
}

/* Pushes the pair of two neighbours (-1 allowed) if they make a token. */
static void consider(encoder *e, int32_t left, int32_t right) {
    if (left < 0 || right < 0 || e->symbols[left].whole || e->symbols[right].whole)
        return;
    uint32_t start = e->symbols[left].start, size = e->symbols[left].size + e->symbols[right].size;
    int32_t id = kiln_tok__find_piece(e->tok, e->text + start, size);
    if (id >= 0)
        heap_push(e, (pair){e->tok->tokens[id].score, left, right, size});
}

/* The longest user-defined token at `at`, or 0. */
static size_t user_token_at(const encoder *e, size_t at) {
    const kiln_tok *t = e->tok;
    size_t best = 0;
    if (!t->user_begins[(unsigned char)e->text[at]])
        return 0;
    for (size_t i = 0; i < t->user_count; i++) {
        const tok_token *k = &t->tokens[t->users[i]];
        if (k->size > best && k->size <= e->size - at && memcmp(k->text, e->text + at, k->size) == 0)
            best = k->size;
    }
    return best;
}

/* Bytes of the character at the start: by its first byte, cut short where the text does not go on so. What is
 * not UTF-8 thus gives small symbols that are in no vocabulary, and becomes bytes. */
static size_t character_size(const char *text, size_t left) {
    unsigned char lead = (unsigned char)text[0];
    size_t want = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4, size = 1;
    while (size < want && size < left && ((unsigned char)text[size] & 0xC0) == 0x80)
        size++;
    return size;
}

static void split(encoder *e) {
    int32_t n = 0;
    for (size_t at = 0; at < e->size; n++) {
        size_t user = user_token_at(e, at);
        size_t size = user != 0 ? user : character_size(e->text + at, e->size - at);
        e->symbols[n] = (symbol){(uint32_t)at, (uint32_t)size, n - 1, n + 1, user != 0};
        at += size;
    }
    e->symbol_count = (size_t)n;
    if (n > 0)
        e->symbols[n - 1].next = -1;
}

static void join(encoder *e) {
    for (size_t i = 1; i < e->symbol_count; i++)
        consider(e, (int32_t)i - 1, (int32_t)i);
    while (e->heap_count > 0) {
        pair p = heap_pop(e);
        symbol *left = &e->symbols[p.left], *right = &e->symbols[p.right];
        if (left->size == 0 || right->size == 0 || left->size + right->size != p.size)
            continue;
        left->size = p.size;
        right->size = 0;
        left->next = right->next;
        if (right->next >= 0)
            e->symbols[right->next].previous = p.left;
        consider(e, left->previous, p.left);
        consider(e, p.left, left->next);
    }
}

static void emit(encoder *e, int32_t id) {
    if (e->out_count < e->out_capacity)
        e->out[e->out_count] = id;
    e->out_count++;
}

/* A symbol as its token, its bytes, or the unknown token. */
static kiln_status emit_symbol(encoder *e, const symbol *s, kiln_error *error) {
    const unsigned char *bytes = (const unsigned char *)e->text + s->start;
    int32_t id = kiln_tok__find_piece(e->tok, e->text + s->start, s->size);
    bool spelled = true;
    for (uint32_t i = 0; i < s->size; i++)
        spelled = spelled && e->tok->byte_id[bytes[i]] >= 0;
    if (id < 0 && !spelled && e->tok->unknown < 0)
        return kiln_error_set(error, KILN_ERROR_FORMAT,
                              "tokenizer: the vocabulary has no token for byte 0x%02x of the text, and no "
                              "unknown token",
                              bytes[0]);
    if (id >= 0 || !spelled)
        emit(e, id >= 0 ? id : e->tok->unknown);
    for (uint32_t i = 0; id < 0 && spelled && i < s->size; i++)
        emit(e, e->tok->byte_id[bytes[i]]);
    return KILN_OK;
}

/* The tokens of a text that is not empty. */
static kiln_status encode_text(encoder *e, const char *text, size_t size, kiln_error *error) {
    const kiln_allocator *a = &e->tok->allocator;
    bool space = e->tok->adds_space;
    size_t room = size + 1;
    kiln_status status = KILN_OK;
    e->text = KILN_NEW(a, char, room);
    e->symbols = KILN_NEW(a, symbol, room);
    e->heap = KILN_NEW(a, pair, 3 * room); /* one per neighbourhood, then two per join */
    if (e->text == NULL || e->symbols == NULL || e->heap == NULL) {
        status =
            kiln_error_set(error, KILN_ERROR_MEMORY, "tokenizer: no memory for a text of %zu bytes", size);
    } else {
        e->text[0] = ' ';
        e->size = space + kiln_tok__plain_spaces(text, size, e->text + space);
        split(e);
        join(e);
        for (int32_t i = 0; i >= 0 && status == KILN_OK; i = e->symbols[i].next)
            status = emit_symbol(e, &e->symbols[i], error);
    }
    KILN_DELETE(a, e->text, char, room);
    KILN_DELETE(a, e->symbols, symbol, room);
    KILN_DELETE(a, e->heap, pair, 3 * room);
    return status;
}

size_t kiln_tok_encode_bound(size_t size) {
    size_t bound; /* a token per byte, the leading space, BOS, EOS */
    return __builtin_add_overflow(size, (size_t)3, &bound) ? SIZE_MAX : bound;
}

kiln_status kiln_tok_encode(const kiln_tok *tok, const char *text, size_t size, bool special, int32_t *tokens,
                            size_t capacity, size_t *count, kiln_error *error) {
    if (tok == NULL || count == NULL || (text == NULL && size != 0) || (tokens == NULL && capacity != 0))
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "tokenizer: tok, text, tokens or count is NULL");
    if (size > (size_t)1 << 30)
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "tokenizer: a text of %zu bytes, at most 2^30 are allowed", size);
    encoder e = {.tok = tok, .out = tokens, .out_capacity = capacity};
    kiln_status status = KILN_OK;
    if (special && tok->adds_bos)
        emit(&e, tok->bos);
    if (size > 0)
        status = encode_text(&e, text, size, error);
    if (special && tok->adds_eos)
        emit(&e, tok->eos);
    if (status != KILN_OK)
        return status;
    *count = e.out_count;
    if (e.out_count > capacity)
        return kiln_error_set(error, KILN_ERROR_LIMIT, "tokenizer: %zu tokens, but room for %zu", e.out_count,
                              capacity);
    return KILN_OK;
}
