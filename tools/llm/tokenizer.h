/* Text to tokens and back, for models with a `llama` (SentencePiece BPE) vocabulary inside their GGUF file.
 *
 * Encoding: spaces are part of tokens, and a text begins with one (unless tokenizer.ggml.add_space_prefix is
 * false). A U+2581 in the text is a space, the form in which SentencePiece keeps spaces; it comes back as a
 * space. The text is cut into characters, and the two neighbours whose concatenation is the token with the
 * highest score are joined (ties: the leftmost) until no two can be. What is then no token is written as its
 * bytes, one <0xNN> token each; where the vocabulary lacks one of those, as the unknown token. User-defined
 * tokens are cut out whole first, the longest at each place. Control tokens (<s>, …) are never made from
 * text.
 *
 * A tokenizer copies what it needs, so the GGUF file may be closed. It never changes: any number of threads
 * may use it at once. Names: `kiln_tok_*`. */
#ifndef KILN_TOKENIZER_H
#define KILN_TOKENIZER_H

#include "kiln_gguf.h"

typedef struct kiln_tok kiln_tok;

/* Reads tokenizer.ggml.* of `gguf`. `allocator` (zeroed: the default) is used now and by kiln_tok_encode. On
 * success `*out` goes to kiln_tok_destroy; on failure it is NULL.
 * Keys: model ("llama"), tokens, scores; optional token_type, bos_token_id, eos_token_id, unknown_token_id,
 * add_bos_token (default: true when there is a bos_token_id), add_eos_token (default false), add_space_prefix
 * (default true). Without token_type, tokens spelled <0xNN> are bytes and the three ids are control tokens.
 * Errors: ARGUMENT (gguf or out is NULL); FORMAT (a key is missing or of the wrong type; tokens, scores and
 * token_type differ in length; no tokens; a score is not finite; an unknown token type; a byte token not
 * spelled <0xNN>; an id outside the vocabulary; BOS or EOS wanted without an id); UNSUPPORTED (another
 * model); LIMIT (more than 2^31 tokens); MEMORY. */
KILN_MUST_CHECK kiln_status kiln_tok_create(const kiln_gguf *gguf, kiln_allocator allocator, kiln_tok **out,
                                            kiln_error *error);

/* NULL is allowed. No other thread may be using it. */
void kiln_tok_destroy(kiln_tok *tok);

/* Tokens in the vocabulary, at least 1. */
int32_t kiln_tok_count(const kiln_tok *tok);

/* The ids of the special tokens; -1 when there is none. */
int32_t kiln_tok_bos(const kiln_tok *tok);
int32_t kiln_tok_eos(const kiln_tok *tok);
int32_t kiln_tok_unknown(const kiln_tok *tok);

/* The spelling of a token, with plain spaces; empty for an id outside the vocabulary. Belongs to `tok`. */
kiln_gguf_string kiln_tok_text(const kiln_tok *tok, int32_t id);

/* The lowest id with exactly this spelling (control tokens too), or -1. */
int32_t kiln_tok_find(const kiln_tok *tok, const char *text, size_t size);

/* No text of `size` bytes gives more tokens than this, special ones included; SIZE_MAX when that is beyond
 * size_t. */
size_t kiln_tok_encode_bound(size_t size);

/* Encodes `size` bytes of text (any bytes; `text` may be NULL when size is 0). With `special`, BOS and EOS
 * are added where the vocabulary asks for them. At most `capacity` ids are written to `tokens`, and `*count`
 * gets their number; an empty text gives only the special ones. Takes time O(size · log size) and memory of
 * about 70 bytes per byte of text, returned at the end. Errors: ARGUMENT (tok, count, or a needed text or
 * tokens is NULL); LIMIT (`capacity` is too small: `*count` says what is needed; or a text beyond 2^30
 * bytes); FORMAT (a byte that has no token in a vocabulary without an unknown token); MEMORY. */
KILN_MUST_CHECK kiln_status kiln_tok_encode(const kiln_tok *tok, const char *text, size_t size, bool special,
                                            int32_t *tokens, size_t capacity, size_t *count,
                                            kiln_error *error);

/* The bytes a token adds to the text, given the token before it (-1: none). A byte token gives its byte, so
 * one character may come in several pieces; a control token and an id outside the vocabulary give nothing.
 * After BOS the space that encoding put before the text is taken away again. The bytes belong to `tok`. */
kiln_gguf_string kiln_tok_decode(const kiln_tok *tok, int32_t previous, int32_t token);

#endif
