#include "nonfinite.h"

#include <string.h>

/* All exponent bits set. */
static bool is_nonfinite(const void *value, uint32_t bytes, uint32_t mask) {
    uint32_t bits = 0; /* little-endian, as the files are */
    memcpy(&bits, value, bytes);
    return (bits & mask) == mask;
}

int64_t nonfinite_first(const float *values, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (is_nonfinite(&values[i], 4, 0x7f800000u))
            return i;
    return -1;
}

/* What a decoder that watches everything saw. */
typedef struct finding {
    int64_t token; /* from 0; -1: everything was finite */
    int64_t count; /* tokens of the run that it was seen in */
    char text[KILN_ERROR_TEXT_SIZE];
} finding;

/* The first observation of the last run that is not finite: taps stand in the order of their regions. */
static void describe(const kiln_session *session, const kiln_error *error, finding *f) {
    kiln_observation o;
    snprintf(f->text, sizeof f->text, "%s", error->text);
    for (size_t i = 0; kiln_session_observed(session, i, &o); i++)
        if (o.seen && o.nonfinite >= 0) {
            snprintf(f->text, sizeof f->text, "'%.200s' (%s), element %lld", o.tensor, o.op,
                     (long long)o.nonfinite);
            return;
        }
}

/* Decodes until something is not finite: chunks up to token `single`, from there one token at a time. */
static kiln_status watch(const model_file *model, const kiln_llama_decoder_options *options,
                         kiln_executor *executor, const int32_t *tokens, int64_t count, int64_t single,
                         finding *f, kiln_error *error) {
    static const kiln_tap every = {"*", KILN_WATCH_FINITE};
    kiln_llama_decoder_options o = *options;
    kiln_llama_decoder *decoder;
    f->token = -1;
    o.bake.taps = &every;
    o.bake.n_taps = 1;
    kiln_status status = kiln_llama_decoder_create(model->llama, &o, executor, NULL, &decoder, error);
    if (status != KILN_OK)
        return status;
    kiln_session *session = kiln_llama_decoder_session(decoder);
    status = kiln_session_observe(session, KILN_WATCH_FINITE, NULL, NULL, error);
    progress p = progress_start("looking for NaN or Inf: token", count);
    for (int64_t at = 0; status == KILN_OK && at < count;) {
        int64_t left = at < single ? single - at : count - at;
        int64_t n = at >= single || o.graph.max_tokens < 1 ? 1 : o.graph.max_tokens;
        n = n < left ? n : left;
        status = kiln_llama_step(decoder, tokens + at, n, at, 1, NULL, error);
        if (status == KILN_ERROR_NUMERIC) {
            f->token = at;
            f->count = n;
            describe(session, error, f);
        }
        at += n;
        progress_update(&p, at);
    }
    progress_end(&p);
    kiln_llama_decoder_destroy(decoder);
    return status == KILN_ERROR_NUMERIC ? KILN_OK : status;
}

/* The first float of a tensor of the file that is not finite; -1 when there is none, or for other types. */
static int64_t first_of_weight(const kiln_gguf_tensor *t) {
    const uint32_t mask = t->dtype == KILN_F32    ? 0x7f800000u
                          : t->dtype == KILN_F16  ? 0x7c00u
                          : t->dtype == KILN_BF16 ? 0x7f80u
                                                  : 0;
    const uint32_t bytes = t->dtype == KILN_F32 ? 4 : 2;
    for (int64_t i = 0; mask != 0 && i < t->bytes / bytes; i++)
        if (is_nonfinite((const unsigned char *)t->data + i * bytes, bytes, mask))
            return i;
    return -1;
}

static const char *weights_text(const kiln_gguf *gguf, char *buffer, size_t size) {
    size_t bad = 0;
    for (size_t i = 0; i < kiln_gguf_tensor_count(gguf); i++) {
        const kiln_gguf_tensor *t = kiln_gguf_tensor_at(gguf, i);
        int64_t at = first_of_weight(t);
        if (at >= 0 && bad++ == 0)
            snprintf(buffer, size, "the file's tensor '%.200s' holds NaN or Inf, first at element %lld",
                     t->name, (long long)at);
    }
    size_t length = bad > 1 ? strlen(buffer) : 0;
    if (bad > 1)
        snprintf(buffer + length, size - length, ", and so do %zu more", bad - 1);
    return bad > 0 ? buffer
                   : "no float weight of the file is NaN or Inf; is it whole, and made for this format?";
}

int nonfinite_fail(const model_file *model, const kiln_llama_decoder_options *options,
                   kiln_executor *executor, const int32_t *tokens, int64_t count) {
    finding f, one;
    char hint[400];
    kiln_error error;
    kiln_status status = watch(model, options, executor, tokens, count, count, &f, &error);
    /* In a run of several tokens it may be any of them; caches that a stopped run has left may hold NaN, so
     * again. */
    if (status == KILN_OK && f.token >= 0 && f.count > 1 &&
        watch(model, options, executor, tokens, f.token + f.count, f.token, &one, &error) == KILN_OK &&
        one.token >= 0)
        f = one;
    const char *weights = weights_text(model->gguf, hint, sizeof hint);
    if (status != KILN_OK)
        return fail_text(weights,
                         "the logits after token %lld (position %lld) hold NaN or Inf; looking for the node "
                         "that makes them failed: %s",
                         (long long)count, (long long)count - 1, error.text);
    if (f.token < 0)
        return fail_text(
            weights,
            "the logits after token %lld (position %lld) hold NaN or Inf, but only where ops are fused: "
            "--no-fuse computes all steps apart",
            (long long)count, (long long)count - 1);
    int64_t last = f.token + f.count;
    if (f.count > 1)
        return fail_text(
            weights,
            "the logits after token %lld (position %lld) hold NaN or Inf; the first is in tokens %lld to "
            "%lld: %s",
            (long long)count, (long long)count - 1, (long long)f.token + 1, (long long)last, f.text);
    return fail_text(
        weights,
        "the logits after token %lld (position %lld) hold NaN or Inf; the first is in token %lld: %s",
        (long long)count, (long long)count - 1, (long long)f.token + 1, f.text);
}
