/* Models of the llama family (dense, and expert-routed as Mixtral) from a GGUF file, as one Kiln graph.
 *
 *     kiln_llama_model    what the file says, checked: hyperparameters, and every tensor present, of the
 *                         right shape and of a type Kiln computes with
 *     kiln_llama_build    the graph: one, for any number of tokens and any length of the past
 *     kiln_llama_decoder  a plan baked from it, a session and the KV caches: what decodes
 *
 * No weight is copied: each file (part) of the model is one weight storage, and tensors are offsets in it.
 * The kiln_gguf must outlive the model, graphs, plans and decoders made from it.
 *
 * Belongs to the tools; not a part of Kiln's core.
 */
#ifndef KILN_TOOLS_LLAMA_H
#define KILN_TOOLS_LLAMA_H

#include "kiln_gguf.h"
#include "kiln_plan.h"

/* ---- the model -------------------------------------------------------------------------------------- */

typedef struct kiln_llama_params {
    int64_t n_layers;
    int64_t n_embd;         /* width of the residual stream */
    int64_t n_heads;        /* of queries */
    int64_t n_kv_heads;     /* divides n_heads */
    int64_t head_dim;       /* of queries and keys */
    int64_t value_dim;      /* of values */
    int64_t n_ff;           /* hidden units of a dense feed-forward block */
    int64_t n_expert_ff;    /* of one expert: by its key, else as the first expert's gate has; 0 when dense */
    int64_t n_vocab;        /* rows of token_embd */
    int64_t n_context;      /* positions it was trained for */
    int64_t n_experts;      /* 0: dense */
    int64_t n_experts_used; /* per token; 0 when dense */
    int64_t rope_dims;      /* even, at most head_dim */
    int64_t window;         /* sliding attention window, 0 for none */
    float rope_theta;
    float rope_scale;       /* factor on positions: 1 / llama.rope.scaling.factor */
    float rope_attn_factor; /* factor on the rope's cosines and sines; 1 for none */
    float attn_scale;       /* factor on scores, rope_attn_factor² in it; 0: 1/√head_dim */
    float embedding_scale;  /* factor on embeddings; 0 for none */
    float residual_scale;   /* factor on what a block adds to the residual stream; 0 for none */
    float expert_scale;     /* factor on experts' weights; 0 for none */
    float rms_eps;
    bool tied; /* the classifier is token_embd: there is no output.weight */
} kiln_llama_params;

/* Immutable; any thread. */
typedef struct kiln_llama_model kiln_llama_model;

/* Reads and checks a model. Everything that is present is checked before anything is reported missing, so
 * that the message is about what is wrong. What is left out of the computation must not change it:
 *   keys     llama.* are read, or harmless, or refused where their value would change the model
 *            (llama_keys.c); unknown ones are reported by kiln_llama_notice
 *   tensors  one that this builder does not use is refused by name, unless it only repeats what keys say;
 *            then it is reported
 * A shape of the file is four numbers: [64] and [64, 1] (innermost first, as it stands there) are the same.
 * Errors: KILN_ERROR_UNSUPPORTED (another architecture; a key's value, tensor or tensor type that Kiln cannot
 * compute with), KILN_ERROR_FORMAT (a key is missing or of another type, two keys contradict each other, a
 * tensor is missing), KILN_ERROR_LIMIT (a value out of its range), KILN_ERROR_SHAPE (a tensor that does not
 * fit), KILN_ERROR_MEMORY. */
KILN_MUST_CHECK kiln_status kiln_llama_open(const kiln_gguf *gguf, const kiln_allocator *allocator,
                                            kiln_llama_model **out, kiln_error *error);
void kiln_llama_destroy(kiln_llama_model *model);

const kiln_llama_params *kiln_llama_get_params(const kiln_llama_model *model);

/* Notice `index` from 0 about something in the file that has no effect, each once: one line of text for
 * people, the model's; NULL past the last. Any thread. */
const char *kiln_llama_notice(const kiln_llama_model *model, size_t index);

/* ---- the graph -------------------------------------------------------------------------------------- */

/* Zeroed fields mean the default. */
typedef struct kiln_llama_options {
    int64_t max_tokens; /* most tokens of one run (1) */
    int64_t max_logits; /* most rows of logits of one run (1) */
    int64_t context;    /* positions the KV caches hold (what the model was trained for) */
    kiln_dtype cache;   /* of the KV caches: f32, f16 or bf16 (f32) */
} kiln_llama_options;

/* Adds the model to an empty graph.
 *
 *   slots    n_tokens, position, n_logits; n_kv, computed as position + n_tokens
 *   inputs   tokens [n_tokens] i32; rows [n_logits] i32: which of these tokens' logits are wanted
 *   output   logits [n_logits, n_vocab] f32
 *   states   blk.I.cache_k, blk.I.cache_v [context, kv_heads, dim]
 *   weights  gguf.P, one per part of the file, bound to its mapping
 *
 * Names of tensors worth watching: embedding, blk.I.attn, blk.I.route (the chosen experts [n_tokens, k]),
 * blk.I.out.
 * Errors (remembered by the graph too): KILN_ERROR_LIMIT (an option out of range), and those of building. */
KILN_MUST_CHECK kiln_status kiln_llama_build(const kiln_llama_model *model, const kiln_llama_options *options,
                                             kiln_graph *graph, kiln_error *error);

/* ---- decoding --------------------------------------------------------------------------------------- */

typedef struct kiln_llama_decoder_options {
    kiln_llama_options graph;
    kiln_bake_options bake;
} kiln_llama_decoder_options;

/* One sequence. One thread at a time. */
typedef struct kiln_llama_decoder kiln_llama_decoder;

/* Bakes one plan, prepares a session on `executor` (which must outlive the decoder) and makes empty KV
 * caches. Errors: those of building, baking, and of creating sessions. */
KILN_MUST_CHECK kiln_status kiln_llama_decoder_create(const kiln_llama_model *model,
                                                      const kiln_llama_decoder_options *options,
                                                      kiln_executor *executor,
                                                      const kiln_allocator *allocator,
                                                      kiln_llama_decoder **out, kiln_error *error);
void kiln_llama_decoder_destroy(kiln_llama_decoder *decoder);

/* Runs the plan once: n tokens (0 ≤ n ≤ max_tokens) at positions `position`, position + 1, …; everything
 * before `position` must have been run already, what stood at or after it is forgotten. Then gives the logits
 * of the last `n_logits` of these tokens (0 ≤ n_logits ≤ n, max_logits): rows of n_vocab floats, in order,
 * valid until the next run; *logits is NULL for none, `logits` itself may be NULL. After a failure the
 * decoder may go on from the same position or an earlier one. Errors: KILN_ERROR_ARGUMENT (a token that is
 * not in the vocabulary; counts), KILN_ERROR_LIMIT (the context is full), and those of running. */
KILN_MUST_CHECK kiln_status kiln_llama_step(kiln_llama_decoder *decoder, const int32_t *tokens, int64_t n,
                                            int64_t position, int64_t n_logits, const float **logits,
                                            kiln_error *error);

/* The same for any number of tokens ≥ 1, in as many runs as it takes; gives the last one's logits. */
KILN_MUST_CHECK kiln_status kiln_llama_eval(kiln_llama_decoder *decoder, const int32_t *tokens, int64_t n,
                                            int64_t position, const float **logits, kiln_error *error);

/* Warms up as kiln_session_warm does, for runs of one token at position 0 with its logits; caches and
 * results of before stay. Before the first step: its tokens are whatever the input holds, at first token
 * 0. Errors: those of kiln_session_warm. */
KILN_MUST_CHECK kiln_status kiln_llama_decoder_warm(kiln_llama_decoder *decoder,
                                                    const kiln_warm_options *options,
                                                    kiln_warm_report *report, kiln_error *error);

/* What it is made of, to look at and to observe; they stay the decoder's. */
kiln_plan *kiln_llama_decoder_plan(const kiln_llama_decoder *decoder);
kiln_session *kiln_llama_decoder_session(const kiln_llama_decoder *decoder);
/* How often the plan was run. */
uint64_t kiln_llama_decoder_replays(const kiln_llama_decoder *decoder);

#endif
