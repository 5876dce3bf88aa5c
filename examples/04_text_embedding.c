/* Lesson 4: a text-embedding encoder (BERT-like): layer_norm, gelu, bidirectional attention, masked mean
 * pool, l2_norm, over a batch of texts of different lengths padded to one.
 *
 * The weights are random. At the end, each text in the batch must have the embedding it has alone.
 */
#include <kiln/kiln.h>
#include <math.h>
#include <stdio.h>

enum { VOCAB = 100, H = 32, HEADS = 4, D = H / HEADS, FF = 64, LAYERS = 2, BATCH = 3, T_MAX = 12 };

static float word[VOCAB][H], place[T_MAX][H], w[LAYERS][4][H][H], up[LAYERS][FF][H], down[LAYERS][H][FF];
static float ones[H], zeros[H];

static void fill(float *p, size_t n, uint32_t seed, float scale) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * scale;
    }
}

static kiln_tensor weight(kiln_graph *g, const char *name, int layer, const void *data, uint32_t ndim,
                          const kiln_dim *dims) {
    char full[64];
    snprintf(full, sizeof full, "%s.%d", name, layer);
    kiln_tensor t = kiln_weight(g, full, KILN_F32, ndim, dims);
    int64_t size = sizeof(float);
    for (uint32_t i = 0; i < ndim; i++)
        size *= dims[i].n;
    kiln_storage_data_const(g, kiln_storage_of(g, t), data, size, 0);
    return t;
}

typedef struct encoder {
    kiln_graph *graph;
    kiln_slot batch;
    kiln_tensor ids, mask, embedding;
} encoder;

/* [B, T, H] as [B, heads, T, D]. */
static kiln_tensor split(kiln_graph *g, kiln_tensor x, kiln_dim b, kiln_dim t) {
    static const uint32_t heads_before_tokens[] = {0, 2, 1, 3};
    return kiln_permute(g, kiln_reshape(g, x, KILN_SHAPE(b, t, kiln_n(HEADS), kiln_n(D))),
                        heads_before_tokens);
}

static kiln_status build(encoder *e, kiln_error *error) {
    kiln_status status = kiln_graph_create(NULL, &e->graph, error);
    if (status)
        return status;
    kiln_graph *g = e->graph;
    e->batch = kiln_slot_i64(g, "n_texts", 0, BATCH);
    kiln_dim b = kiln_sym(e->batch), n = kiln_n(T_MAX), square[2] = {kiln_n(H), kiln_n(H)};
    e->ids = kiln_input(g, "ids", KILN_I32, KILN_SHAPE(b, n));
    e->mask = kiln_input(g, "mask", KILN_U8, KILN_SHAPE(b, n));
    kiln_tensor gain = weight(g, "gain", 0, ones, KILN_SHAPE(kiln_n(H)));
    kiln_tensor shift = weight(g, "shift", 0, zeros, KILN_SHAPE(kiln_n(H)));
    kiln_tensor words = weight(g, "word", 0, word, KILN_SHAPE(kiln_n(VOCAB), kiln_n(H)));
    kiln_tensor places = weight(g, "place", 0, place, KILN_SHAPE(n, kiln_n(H)));
    kiln_tensor x = kiln_add(g, kiln_get_rows(g, words, e->ids), places);
    x = kiln_layer_norm(g, x, gain, shift, 1e-12f);
    /* The mask leaves out padding as keys: one row for all heads and queries of a text. */
    kiln_tensor keys_mask = kiln_reshape(g, e->mask, KILN_SHAPE(b, kiln_n(1), kiln_n(1), n));
    for (int l = 0; l < LAYERS; l++) {
        kiln_tensor q = split(g, kiln_matmul(g, weight(g, "q", l, w[l][0], 2, square), x), b, n);
        kiln_tensor k = split(g, kiln_matmul(g, weight(g, "k", l, w[l][1], 2, square), x), b, n);
        kiln_tensor v = split(g, kiln_matmul(g, weight(g, "v", l, w[l][2], 2, square), x), b, n);
        kiln_tensor a = kiln_attention(g, q, k, v, keys_mask, (kiln_attention_attrs){0});
        a = kiln_matmul(g, weight(g, "o", l, w[l][3], 2, square),
                        kiln_reshape(g, a, KILN_SHAPE(b, n, kiln_n(H))));
        x = kiln_layer_norm(g, kiln_add(g, x, a), gain, shift, 1e-12f);
        kiln_tensor f = kiln_matmul(g, weight(g, "up", l, up[l], KILN_SHAPE(kiln_n(FF), kiln_n(H))), x);
        f = kiln_matmul(g, weight(g, "down", l, down[l], KILN_SHAPE(kiln_n(H), kiln_n(FF))),
                        kiln_gelu(g, f, true));
        x = kiln_layer_norm(g, kiln_add(g, x, f), gain, shift, 1e-12f);
    }
    e->embedding = kiln_output(g, kiln_l2_norm(g, kiln_mean_pool(g, x, e->mask), 1e-12f), "embedding");
    return kiln_graph_check(g, error);
}

/* Runs `n` texts; text i has lengths[i] tokens. Embeddings go to out[i]. */
static kiln_status embed(const encoder *e, kiln_session *session, int n, const int *lengths,
                         int32_t texts[][T_MAX], float out[][H], kiln_error *error) {
    int32_t *ids = (int32_t *)kiln_session_data(session, e->ids);
    uint8_t *mask = (uint8_t *)kiln_session_data(session, e->mask);
    for (int i = 0; i < n; i++)
        for (int t = 0; t < T_MAX; t++) {
            /* Padding may be any token: it is masked. */
            ids[i * T_MAX + t] = t < lengths[i] ? texts[i][t] : 0;
            mask[i * T_MAX + t] = t < lengths[i];
        }
    kiln_status status = kiln_session_set_i64(session, e->batch, n, error);
    if (!status)
        status = kiln_run(session, error);
    const float *y = (const float *)kiln_session_data(session, e->embedding);
    for (int i = 0; i < n && !status; i++)
        for (int h = 0; h < H; h++)
            out[i][h] = y[i * H + h];
    return status;
}

int main(void) {
    kiln_error error = {KILN_OK, ""};
    encoder e = {0};
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    fill(&word[0][0], VOCAB * H, 1, 1.0f);
    fill(&place[0][0], T_MAX * H, 2, 0.3f);
    fill(&w[0][0][0][0], LAYERS * 4 * H * H, 3, 0.3f);
    fill(&up[0][0][0], LAYERS * FF * H, 4, 0.3f);
    fill(&down[0][0][0], LAYERS * H * FF, 5, 0.3f);
    for (int h = 0; h < H; h++)
        ones[h] = 1;
    if (build(&e, &error) || kiln_bake(e.graph, NULL, &plan, &error) ||
        kiln_cpu_executor_create(NULL, NULL, &executor, &error) ||
        kiln_session_create(plan, executor, NULL, &session, &error)) {
        fprintf(stderr, "%s: %s\n", kiln_status_name(error.status), error.text);
        return 1;
    }
    int lengths[BATCH] = {4, 12, 7};
    int32_t texts[BATCH][T_MAX];
    for (int i = 0; i < BATCH; i++)
        for (int t = 0; t < T_MAX; t++)
            texts[i][t] = (i * 31 + t * 17 + 5) % VOCAB;
    float together[BATCH][H], alone[1][H];
    if (embed(&e, session, BATCH, lengths, texts, together, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    double worst = 0;
    for (int i = 0; i < BATCH; i++) {
        if (embed(&e, session, 1, &lengths[i], &texts[i], alone, &error)) {
            fprintf(stderr, "%s\n", error.text);
            return 1;
        }
        double dot = 0;
        for (int h = 0; h < H; h++) {
            worst = fmax(worst, fabs((double)(together[i][h] - alone[0][h])));
            dot += (double)together[0][h] * (double)together[i][h];
        }
        printf("text %d: %2d tokens, cosine with text 0: %+.4f\n", i, lengths[i], dot);
    }
    printf("largest difference between a text in the batch and alone: %.2g\n", worst);
    kiln_session_destroy(session, NULL);
    kiln_executor_destroy(executor, NULL);
    kiln_plan_release(plan);
    kiln_graph_destroy(e.graph);
    return worst < 1e-6 ? 0 : 1;
}
