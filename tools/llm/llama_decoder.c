/* Decoding: one plan, one session, the KV caches. */
#include "llama_internal.h"

#include <string.h>

struct kiln_llama_decoder {
    kiln_allocator allocator;
    kiln_plan *plan;
    kiln_session *session;
    kiln_state_buffer **states; /* [n_states] */
    size_t n_states;
    kiln_slot n_tokens, n_logits, position;
    kiln_tensor tokens, rows, logits;
    int64_t max_tokens, max_logits, context, n_vocab;
    uint64_t replays;
};

/* Builds and bakes; the graph is needed no longer then. */
static kiln_status bake(kiln_llama_decoder *d, const kiln_llama_model *model,
                        const kiln_llama_decoder_options *options, kiln_error *error) {
    kiln_graph *graph;
    kiln_status status = kiln_graph_create(&d->allocator, &graph, error);
    if (status != KILN_OK)
        return status;
    status = kiln_llama_build(model, &options->graph, graph, error);
    if (status == KILN_OK)
        status = kiln_bake(graph, &options->bake, &d->plan, error);
    kiln_graph_destroy(graph);
    if (status != KILN_OK)
        return status;
    const kiln_llama_options *o = &options->graph;
    d->max_tokens = o->max_tokens ? o->max_tokens : 1;
    d->max_logits = o->max_logits ? o->max_logits : 1;
    d->context = o->context ? o->context : model->params.n_context;
    d->n_vocab = model->params.n_vocab;
    d->n_tokens = kiln_plan_slot(d->plan, "n_tokens");
    d->n_logits = kiln_plan_slot(d->plan, "n_logits");
    d->position = kiln_plan_slot(d->plan, "position");
    d->tokens = kiln_plan_tensor(d->plan, "tokens");
    d->rows = kiln_plan_tensor(d->plan, "rows");
    d->logits = kiln_plan_tensor(d->plan, "logits");
    return KILN_OK;
}

static kiln_status make_states(kiln_llama_decoder *d, kiln_error *error) {
    kiln_storage_info info;
    size_t count = 0;
    for (size_t i = 0; kiln_plan_storage_at(d->plan, i, &info); i++)
        count += info.kind == KILN_STORAGE_STATE;
    d->states = KILN_NEW(&d->allocator, kiln_state_buffer *, count);
    if (d->states == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "llama decoder: out of memory");
    d->n_states = count;
    count = 0;
    for (size_t i = 0; kiln_plan_storage_at(d->plan, i, &info); i++) {
        if (info.kind != KILN_STORAGE_STATE)
            continue;
        kiln_state_buffer **state = &d->states[count++];
        kiln_status status = kiln_state_buffer_create(&d->allocator, info.size, state, error);
        if (status == KILN_OK)
            status = kiln_session_bind_state(d->session, info.storage, *state, error);
        if (status != KILN_OK)
            return status;
    }
    return KILN_OK;
}

kiln_status kiln_llama_decoder_create(const kiln_llama_model *model,
                                      const kiln_llama_decoder_options *options, kiln_executor *executor,
                                      const kiln_allocator *allocator, kiln_llama_decoder **out,
                                      kiln_error *error) {
    static const kiln_llama_decoder_options defaults = {0};
    if (out == NULL || model == NULL || executor == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "kiln_llama_decoder_create: model, executor or out is NULL");
    *out = NULL;
    kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln_llama_decoder *d = KILN_NEW(&a, kiln_llama_decoder, 1);
    if (d == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "llama decoder: out of memory");
    d->allocator = a;
    kiln_status status = bake(d, model, options ? options : &defaults, error);
    if (status == KILN_OK)
        status = kiln_session_create(d->plan, executor, &d->allocator, &d->session, error);
    if (status == KILN_OK)
        status = make_states(d, error);
    if (status != KILN_OK)
        kiln_llama_decoder_destroy(d);
    else
        *out = d;
    return status;
}

void kiln_llama_decoder_destroy(kiln_llama_decoder *d) {
    if (d == NULL)
        return;
    /* Steps wait for their runs, so nothing is running here and neither call can answer BUSY. */
    (void)kiln_session_destroy(d->session, NULL);
    for (size_t i = 0; i < d->n_states; i++)
        (void)kiln_state_buffer_destroy(d->states[i], NULL);
    kiln_plan_release(d->plan);
    kiln_allocator a = d->allocator;
    KILN_DELETE(&a, d->states, kiln_state_buffer *, d->n_states);
    KILN_DELETE(&a, d, kiln_llama_decoder, 1);
}

static kiln_status check_step(const kiln_llama_decoder *d, const int32_t *tokens, int64_t n, int64_t position,
                              int64_t n_logits, kiln_error *error) {
    if (n < 0 || n > d->max_tokens || n_logits < 0 || n_logits > n || n_logits > d->max_logits)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "%lld tokens and %lld rows of logits in one step; at most %lld and %lld",
                              (long long)n, (long long)n_logits, (long long)d->max_tokens,
                              (long long)d->max_logits);
    if (position < 0 || position > d->context || n > d->context - position)
        return kiln_error_set(error, KILN_ERROR_LIMIT,
                              "%lld tokens from position %lld on do not fit the context of %lld",
                              (long long)n, (long long)position, (long long)d->context);
    for (int64_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= d->n_vocab)
            return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                                  "token %d at position %lld is not in the vocabulary of %lld", tokens[i],
                                  (long long)position + (long long)i, (long long)d->n_vocab);
    return KILN_OK;
}

static kiln_status set_slots(kiln_llama_decoder *d, int64_t n, int64_t position, int64_t n_logits,
                             kiln_error *error) {
    kiln_status status = kiln_session_set_i64(d->session, d->n_tokens, n, error);
    if (status == KILN_OK)
        status = kiln_session_set_i64(d->session, d->n_logits, n_logits, error);
    if (status == KILN_OK)
        status = kiln_session_set_i64(d->session, d->position, position, error);
    return status;
}

kiln_status kiln_llama_step(kiln_llama_decoder *d, const int32_t *tokens, int64_t n, int64_t position,
                            int64_t n_logits, const float **logits, kiln_error *error) {
    if (logits != NULL)
        *logits = NULL;
    kiln_status status = check_step(d, tokens, n, position, n_logits, error);
    if (status == KILN_OK)
        status = set_slots(d, n, position, n_logits, error);
    if (status != KILN_OK)
        return status;
    if (n > 0)
        memcpy(kiln_session_data(d->session, d->tokens), tokens, (size_t)n * sizeof *tokens);
    int32_t *rows = kiln_session_data(d->session, d->rows);
    for (int64_t i = 0; i < n_logits; i++)
        rows[i] = (int32_t)(n - n_logits + i);
    status = kiln_run(d->session, error);
    d->replays++;
    if (status != KILN_OK) {
        /* What a failed run may have half written stands at or after `position`, and is written again before
         * it is read by whoever goes on from there. */
        for (size_t i = 0; i < d->n_states; i++)
            kiln_state_buffer_acknowledge(d->states[i]);
        return status;
    }
    if (logits != NULL && n_logits > 0)
        *logits = kiln_session_data(d->session, d->logits);
    return KILN_OK;
}

kiln_status kiln_llama_eval(kiln_llama_decoder *d, const int32_t *tokens, int64_t n, int64_t position,
                            const float **logits, kiln_error *error) {
    if (n < 1)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_llama_eval: no tokens");
    kiln_status status = KILN_OK;
    for (int64_t done = 0; done < n && status == KILN_OK;) {
        int64_t now = n - done < d->max_tokens ? n - done : d->max_tokens;
        status = kiln_llama_step(d, tokens + done, now, position + done, done + now == n, logits, error);
        done += now;
    }
    return status;
}

kiln_status kiln_llama_decoder_warm(kiln_llama_decoder *d, const kiln_warm_options *options,
                                    kiln_warm_report *report, kiln_error *error) {
    kiln_status status = set_slots(d, 1, 0, 1, error);
    return status == KILN_OK ? kiln_session_warm(d->session, options, report, error) : status;
}

kiln_plan *kiln_llama_decoder_plan(const kiln_llama_decoder *d) {
    return d->plan;
}

kiln_session *kiln_llama_decoder_session(const kiln_llama_decoder *d) {
    return d->session;
}

uint64_t kiln_llama_decoder_replays(const kiln_llama_decoder *d) {
    return d->replays;
}
