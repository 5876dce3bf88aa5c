#include "tiny_model.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <cmocka.h>

enum { MAX_LAYERS = 12 };

static float embedding[TINY_VOCAB * TINY_H], attention[MAX_LAYERS][4][TINY_H * TINY_H],
    norms[MAX_LAYERS][2][TINY_H], router[MAX_LAYERS][TINY_E * TINY_H],
    experts[MAX_LAYERS][3][TINY_E * TINY_N * TINY_H];

static void fill(float *p, size_t n, uint32_t seed, float scale, float shift) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * scale + shift;
    }
}

static void fill_all(void) {
    if (embedding[0] != 0)
        return;
    for (int l = 0; l < MAX_LAYERS; l++) {
        uint32_t seed = (uint32_t)l * 100;
        for (int i = 0; i < 4; i++)
            fill(attention[l][i], TINY_H * TINY_H, seed + 1 + (uint32_t)i, 0.25f, 0);
        for (int i = 0; i < 2; i++)
            fill(norms[l][i], TINY_H, seed + 11 + (uint32_t)i, 0.2f, 1);
        fill(router[l], TINY_E * TINY_H, seed + 21, 0.5f, 0);
        for (int i = 0; i < 3; i++)
            fill(experts[l][i], TINY_E * TINY_N * TINY_H, seed + 31 + (uint32_t)i, 0.25f, 0);
    }
    fill(embedding, TINY_VOCAB * TINY_H, 99, 1, 0);
}

static kiln_tensor weight(kiln_graph *g, const char *name, int layer, float *data, uint32_t ndim,
                          const kiln_dim *dims) {
    char full[64];
    snprintf(full, sizeof full, "%s.%d", name, layer);
    int64_t size = sizeof(float);
    for (uint32_t i = 0; i < ndim; i++)
        size *= dims[i].n;
    kiln_tensor t = kiln_weight(g, full, KILN_F32, ndim, dims);
    kiln_storage_data(g, kiln_storage_of(g, t), data, size, 0);
    return t;
}

static kiln_tensor heads(kiln_graph *g, kiln_tensor x, kiln_dim n) {
    kiln_tensor t = kiln_reshape(g, x, KILN_SHAPE(n, kiln_n(TINY_HEADS), kiln_n(TINY_H / TINY_HEADS)));
    return kiln_permute(g, t, (uint32_t[]){1, 0, 2});
}

static kiln_tensor attention_block(kiln_graph *g, const tiny_model *m, int l, kiln_tensor x) {
    const kiln_tensor none = {0, 0};
    kiln_dim t = kiln_sym(m->tokens), kv = kiln_sym(m->length);
    uint32_t ndim = 2;
    kiln_dim square[] = {kiln_n(TINY_H), kiln_n(TINY_H)}, cache[] = {kiln_n(TINY_CTX), kiln_n(TINY_H)};
    char name[32];
    snprintf(name, sizeof name, "k.%d", l);
    kiln_tensor k_cache = kiln_state(g, name, KILN_F32, 2, cache);
    snprintf(name, sizeof name, "v.%d", l);
    kiln_tensor v_cache = kiln_state(g, name, KILN_F32, 2, cache);
    kiln_tensor h = kiln_rms_norm(g, x, none, 1e-5f);
    h = kiln_mul(g, h, weight(g, "attn_norm", l, norms[l][0], KILN_SHAPE(kiln_n(TINY_H))));
    kiln_tensor q = kiln_matmul(g, weight(g, "wq", l, attention[l][0], ndim, square), h);
    kiln_tensor k = kiln_matmul(g, weight(g, "wk", l, attention[l][1], ndim, square), h);
    kiln_tensor v = kiln_matmul(g, weight(g, "wv", l, attention[l][2], ndim, square), h);
    kiln_rope_attrs rope = {.position = kiln_i64_of(m->past)};
    kiln_dim split[] = {t, kiln_n(TINY_HEADS), kiln_n(TINY_H / TINY_HEADS)};
    q = kiln_rope(g, kiln_reshape(g, q, 3, split), none, rope);
    k = kiln_rope(g, kiln_reshape(g, k, 3, split), none, rope);
    kiln_set_rows_attrs at = {.position = kiln_i64_of(m->past)};
    k_cache = kiln_set_rows(g, k_cache, kiln_reshape(g, k, KILN_SHAPE(t, kiln_n(TINY_H))), none, at);
    v_cache = kiln_set_rows(g, v_cache, v, none, at);
    kiln_tensor a = kiln_attention(g, kiln_permute(g, q, (uint32_t[]){1, 0, 2}),
                                   heads(g, kiln_slice(g, k_cache, 0, 0, kv), kv),
                                   heads(g, kiln_slice(g, v_cache, 0, 0, kv), kv), none,
                                   (kiln_attention_attrs){.causal = 1, .q_position = kiln_i64_of(m->past)});
    a = kiln_reshape(g, a, KILN_SHAPE(t, kiln_n(TINY_H)));
    return kiln_add(g, x, kiln_matmul(g, weight(g, "wo", l, attention[l][3], ndim, square), a));
}

void tiny_build(kiln_graph *g, int layers, tiny_model *m) {
    fill_all();
    m->tokens = kiln_slot_i64(g, "n_tokens", 0, TINY_CHUNK);
    m->past = kiln_slot_i64(g, "n_past", 0, TINY_CTX - 1);
    m->length = kiln_slot_i64(g, "n_kv", 0, TINY_CTX);
    kiln_dim t = kiln_sym(m->tokens);
    m->ids = kiln_input(g, "ids", KILN_I32, 1, &t);
    kiln_tensor table = weight(g, "embedding", 0, embedding, KILN_SHAPE(kiln_n(TINY_VOCAB), kiln_n(TINY_H)));
    kiln_tensor x = kiln_get_rows(g, table, m->ids);
    for (int l = 0; l < layers; l++) {
        x = attention_block(g, m, l, x);
        kiln_tensor h =
            kiln_rms_norm(g, x, weight(g, "ffn_norm", l, norms[l][1], KILN_SHAPE(kiln_n(TINY_H))), 1e-5f);
        kiln_tensor logits =
            kiln_matmul(g, weight(g, "router", l, router[l], KILN_SHAPE(kiln_n(TINY_E), kiln_n(TINY_H))), h);
        kiln_tensor probs = kiln_softmax(g, logits, (kiln_tensor){0, 0}, (kiln_softmax_attrs){0});
        kiln_tensor w;
        m->topk = kiln_gather_topk(g, probs, (kiln_tensor){0, 0}, (kiln_tensor){0, 0},
                                   (kiln_gather_topk_attrs){.k = TINY_K}, &w);
        kiln_name(g, m->topk, "topk.%d", l);
        kiln_dim up[] = {kiln_n(TINY_E), kiln_n(TINY_N), kiln_n(TINY_H)};
        kiln_dim down[] = {kiln_n(TINY_E), kiln_n(TINY_H), kiln_n(TINY_N)};
        kiln_tensor gate = kiln_matmul_id(g, weight(g, "gate", l, experts[l][0], 3, up), h, m->topk);
        kiln_tensor both = kiln_swiglu(
            g, gate, kiln_matmul_id(g, weight(g, "up", l, experts[l][1], 3, up), h, m->topk), KILN_ACT_SILU);
        kiln_tensor y = kiln_matmul_id(g, weight(g, "down", l, experts[l][2], 3, down), both, m->topk);
        x = kiln_add(g, kiln_weighted_sum(g, y, w), x);
        kiln_name(g, x, "resid.%d", l);
        m->resid = x;
    }
    m->logits = kiln_matmul(g, table, kiln_rms_norm(g, x, (kiln_tensor){0, 0}, 1e-5f));
    kiln_output(g, m->logits, "logits");
}

void tiny_bind_states(kiln_session *session, int layers, tiny_states *out) {
    kiln_error error;
    out->count = 0;
    for (int i = 0; i < 2 * layers; i++) {
        char name[32];
        snprintf(name, sizeof name, "%c.%d", i % 2 ? 'v' : 'k', i / 2);
        kiln_state_buffer **b = &out->buffers[out->count++];
        assert_int_equal(kiln_state_buffer_create(NULL, TINY_CTX * TINY_H * 4, b, &error), KILN_OK);
        assert_int_equal(
            kiln_session_bind_state(session, kiln_plan_storage(kiln_session_plan(session), name), *b, &error),
            KILN_OK);
    }
}

void tiny_free_states(tiny_states *states) {
    for (int i = 0; i < states->count; i++)
        assert_int_equal(kiln_state_buffer_destroy(states->buffers[i], NULL), KILN_OK);
    states->count = 0;
}

kiln_status tiny_eval(kiln_session *session, const tiny_model *m, const int32_t *tokens, int past, int n,
                      kiln_error *error) {
    int32_t *ids = kiln_session_data(session, m->ids);
    for (int i = 0; i < n; i++)
        ids[i] = tokens[past + i];
    kiln_status status = kiln_session_set_i64(session, m->tokens, n, error);
    if (status == KILN_OK)
        status = kiln_session_set_i64(session, m->past, past, error);
    if (status == KILN_OK)
        status = kiln_session_set_i64(session, m->length, past + n, error);
    return status != KILN_OK ? status : kiln_run(session, error);
}
