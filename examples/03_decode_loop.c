/* Lesson 3: a decode loop. One plan, baked once, is replayed for the prompt (in chunks) and for every token:
 * positions and lengths are slots, the KV cache is a state that the caller owns.
 *
 * The model is one attention layer with random weights: what matters is the shape of the loop. At the end,
 * the prompt in one chunk and token by token must have given the same tokens.
 */
#include <kiln/kiln.h>
#include <stdio.h>

enum { VOCAB = 64, H = 32, HEADS = 4, D = H / HEADS, CONTEXT = 48, CHUNK = 8, PROMPT = 11, STEPS = 20 };

static float embedding[VOCAB][H], wqkv[3][H][H], wo[H][H];

static void fill(float *p, size_t n, uint32_t seed, float scale) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * scale;
    }
}

typedef struct model {
    kiln_graph *graph;
    kiln_slot tokens, past; /* how many now, how many before */
    kiln_tensor ids, last, next;
} model;

static kiln_tensor weight(kiln_graph *g, const char *name, const void *data, int64_t rows, int64_t columns) {
    kiln_tensor t = kiln_weight(g, name, KILN_F32, KILN_SHAPE(kiln_n(rows), kiln_n(columns)));
    kiln_storage_data_const(g, kiln_storage_of(g, t), data, rows * columns * (int64_t)sizeof(float), 0);
    return t;
}

static const uint32_t heads_first[] = {1, 0, 2};

/* [T, H] seen as [heads, T, D]: a view, no copy. */
static kiln_tensor heads(kiln_graph *g, kiln_tensor x, kiln_dim n) {
    kiln_tensor split = kiln_reshape(g, x, KILN_SHAPE(n, kiln_n(HEADS), kiln_n(D)));
    return kiln_permute(g, split, heads_first);
}

static kiln_status build(model *m, kiln_error *error) {
    kiln_status status = kiln_graph_create(NULL, &m->graph, error);
    if (status)
        return status;
    kiln_graph *g = m->graph;
    const kiln_tensor none = {0, 0};
    m->tokens = kiln_slot_i64(g, "n_tokens", 0, CHUNK);
    m->past = kiln_slot_i64(g, "n_past", 0, CONTEXT - 1);
    /* What follows from other slots is computed from them, and cannot be forgotten. */
    kiln_slot length =
        kiln_slot_sum(g, "n_kv", 0, CONTEXT, KILN_SHAPE(kiln_sym(m->past), kiln_sym(m->tokens)));
    kiln_dim t = kiln_sym(m->tokens), kv = kiln_sym(length);
    m->ids = kiln_input(g, "ids", KILN_I32, 1, &t);
    m->last = kiln_input(g, "last", KILN_I32, KILN_SHAPE(kiln_n(1)));
    kiln_tensor table = weight(g, "embedding", embedding, VOCAB, H);
    kiln_tensor k_cache = kiln_state(g, "k", KILN_F32, KILN_SHAPE(kiln_n(CONTEXT), kiln_n(H)));
    kiln_tensor v_cache = kiln_state(g, "v", KILN_F32, KILN_SHAPE(kiln_n(CONTEXT), kiln_n(H)));

    kiln_tensor x = kiln_get_rows(g, table, m->ids);
    kiln_tensor normed = kiln_rms_norm(g, x, none, 1e-5f);
    kiln_tensor q = kiln_matmul(g, weight(g, "wq", wqkv[0], H, H), normed);
    kiln_tensor k = kiln_matmul(g, weight(g, "wk", wqkv[1], H, H), normed);
    kiln_tensor v = kiln_matmul(g, weight(g, "wv", wqkv[2], H, H), normed);

    /* Positions follow a slot; so does the place where the new rows go. */
    kiln_rope_attrs rope = {.position = kiln_i64_of(m->past)};
    kiln_tensor q3 = kiln_rope(g, kiln_reshape(g, q, KILN_SHAPE(t, kiln_n(HEADS), kiln_n(D))), none, rope);
    kiln_tensor k3 = kiln_rope(g, kiln_reshape(g, k, KILN_SHAPE(t, kiln_n(HEADS), kiln_n(D))), none, rope);
    kiln_set_rows_attrs at = {.position = kiln_i64_of(m->past)};
    k_cache = kiln_set_rows(g, k_cache, kiln_reshape(g, k3, KILN_SHAPE(t, kiln_n(H))), none, at);
    v_cache = kiln_set_rows(g, v_cache, v, none, at);

    /* The keys to look at: the first n_kv rows of the cache. */
    kiln_tensor keys = heads(g, kiln_slice(g, k_cache, 0, 0, kv), kv);
    kiln_tensor values = heads(g, kiln_slice(g, v_cache, 0, 0, kv), kv);
    kiln_tensor queries = kiln_permute(g, q3, heads_first);
    kiln_tensor a = kiln_attention(g, queries, keys, values, none,
                                   (kiln_attention_attrs){.causal = 1, .q_position = kiln_i64_of(m->past)});
    a = kiln_matmul(g, weight(g, "wo", wo, H, H), kiln_reshape(g, a, KILN_SHAPE(t, kiln_n(H))));
    x = kiln_add(g, x, a);

    kiln_tensor row = kiln_get_rows(g, x, m->last); /* only the last token's logits are wanted */
    kiln_tensor logits = kiln_matmul(g, table, kiln_rms_norm(g, row, none, 1e-5f));
    m->next = kiln_output(g, kiln_argmax(g, logits), "next");
    return kiln_graph_check(g, error);
}

/* Decodes greedily, the prompt in chunks of `chunk`; tokens go to `out`. */
static kiln_status decode(const model *m, kiln_plan *plan, kiln_executor *executor, int chunk, int32_t *out,
                          kiln_error *error) {
    kiln_session *session = NULL;
    kiln_state_buffer *k = NULL, *v = NULL;
    int64_t cache = CONTEXT * H * (int64_t)sizeof(float);
    kiln_status status = kiln_session_create(plan, executor, NULL, &session, error);
    if (!status)
        status = kiln_state_buffer_create(NULL, cache, &k, error);
    if (!status)
        status = kiln_state_buffer_create(NULL, cache, &v, error);
    if (!status)
        status = kiln_session_bind_state(session, kiln_plan_storage(plan, "k"), k, error);
    if (!status)
        status = kiln_session_bind_state(session, kiln_plan_storage(plan, "v"), v, error);
    if (!status) {
        int32_t sequence[PROMPT + STEPS];
        for (int i = 0; i < PROMPT; i++)
            sequence[i] = (i * 7 + 3) % VOCAB;
        int32_t *ids = (int32_t *)kiln_session_data(session, m->ids);
        int32_t *last = (int32_t *)kiln_session_data(session, m->last);
        const int32_t *next = (const int32_t *)kiln_session_data(session, m->next);
        for (int past = 0, n; past < PROMPT + STEPS - 1 && !status; past += n) {
            n = past < PROMPT ? (PROMPT - past < chunk ? PROMPT - past : chunk) : 1;
            for (int i = 0; i < n; i++)
                ids[i] = sequence[past + i];
            last[0] = n - 1;
            /* Two numbers change between runs, and n_kv with them. Nothing is baked, recorded or
             * allocated. */
            status = kiln_session_set_i64(session, m->tokens, n, error);
            if (!status)
                status = kiln_session_set_i64(session, m->past, past, error);
            if (!status)
                status = kiln_run(session, error);
            if (past + n >= PROMPT && !status)
                out[past + n - PROMPT] = sequence[past + n] = next[0];
        }
    }
    kiln_session_destroy(session, NULL);
    kiln_state_buffer_destroy(k, NULL);
    kiln_state_buffer_destroy(v, NULL);
    return status;
}

int main(void) {
    kiln_error error = {KILN_OK, ""};
    model m = {0};
    kiln_plan *plan;
    kiln_executor *executor;
    fill(&embedding[0][0], VOCAB * H, 5, 1.0f);
    fill(&wqkv[0][0][0], 3 * H * H, 6, 0.4f);
    fill(&wo[0][0], H * H, 7, 0.6f);
    int32_t whole[STEPS] = {0}, single[STEPS] = {0};
    kiln_bake_options exact = {.precision = KILN_PRECISION_EXACT};
    if (build(&m, &error) || kiln_bake(m.graph, &exact, &plan, &error) ||
        kiln_cpu_executor_create(NULL, NULL, &executor, &error) ||
        decode(&m, plan, executor, CHUNK, whole, &error) || decode(&m, plan, executor, 1, single, &error)) {
        fprintf(stderr, "%s: %s\n", kiln_status_name(error.status), error.text);
        return 1;
    }
    int differ = 0;
    for (int i = 0; i < STEPS; i++) {
        printf("%d ", whole[i]);
        differ += whole[i] != single[i];
    }
    printf("\n%d tokens differ between a chunked and a token-by-token prompt\n", differ);
    kiln_executor_destroy(executor, NULL);
    kiln_plan_release(plan);
    kiln_graph_destroy(m.graph);
    return differ ? 1 : 0;
}
