/* What the two files of the tokenizer share. Internal. */
#ifndef KILN_TOKENIZER_INTERNAL_H
#define KILN_TOKENIZER_INTERNAL_H

#include "tokenizer.h"
#include "checked.h"

/* As GGUF numbers them. */
typedef enum tok_type {
    TOKEN_UNDEFINED,
    TOKEN_NORMAL,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER,
    TOKEN_UNUSED,
    TOKEN_BYTE,
    TOKEN_TYPE_COUNT
} tok_type;

typedef struct tok_token {
    const char *text; /* in the pool; spaces are plain */
    size_t size;
    float score;
    tok_type type;
} tok_token;

struct kiln_tok {
    kiln_allocator allocator;
    tok_token *tokens;
    uint32_t *index; /* sorted by text, then id */
    size_t count;
    char *pool;
    size_t pool_size;
    int32_t bos, eos, unknown; /* -1: none */
    bool adds_bos, adds_eos, adds_space;
    unsigned char bytes[256]; /* bytes[i] == i: what byte tokens decode to */
    int32_t byte_id[256];     /* -1: none */
    bool user_begins[256];    /* some user-defined token begins with this byte */
    int32_t *users;           /* ids of user-defined tokens */
    size_t user_count;
};

/* Copies a text to `to`, which has room for as many bytes, with a space for every U+2581, the form in which
 * SentencePiece keeps spaces; returns the size of the copy. */
size_t kiln_tok__plain_spaces(const char *text, size_t size, char *to);

/* The lowest id of a token that text may be made of, or -1. */
int32_t kiln_tok__find_piece(const kiln_tok *tok, const char *text, size_t size);

#endif
