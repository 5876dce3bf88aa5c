/* A graph with a node of every op. */
#include "every_op.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const kiln_tensor none = {0, 0};

enum { T = EVERY_OP_TOKENS, H = 64, E = 4, N = 32, K = 2, HEADS = 4, D = 16, C = 16 };

typedef struct model {
    kiln_graph *g;
    kiln_slot t, pos, gain;
    kiln_tensor x, ids; /* [t,H] f32; [t,K] i32 */
} model;

static kiln_tensor weight(model *m, const char *name, kiln_dtype dtype, int64_t a, int64_t b, int64_t c) {
    kiln_dim dims[3] = {kiln_n(a), kiln_n(b), kiln_n(c)};
    uint32_t first = a ? 0 : b ? 1 : 2;
    return kiln_weight(m->g, name, dtype, 3 - first, dims + first);
}

static void routed_block(model *m) {
    kiln_graph *g = m->g;
    kiln_tensor logits = kiln_matmul(g, weight(m, "router", KILN_F32, 0, E, H), m->x);
    kiln_tensor probs = kiln_softmax(g, logits, none, (kiln_softmax_attrs){0}), weights;
    kiln_tensor order = kiln_argsort(g, probs, true);
    kiln_tensor ids = kiln_gather_topk(g, probs, order, weight(m, "per_expert", KILN_F32, 0, 0, E),
                                       (kiln_gather_topk_attrs){.k = K}, &weights);
    kiln_name(g, ids, "chosen");
    kiln_tensor entries;
    kiln_expert_map(g, ids, E, &entries);
    kiln_tensor gate = kiln_matmul_id(g, weight(m, "gate", KILN_Q8_0, E, N, H), m->x, ids);
    kiln_tensor parts[E];
    for (int e = 0; e < E; e++) {
        char name[16];
        snprintf(name, sizeof name, "up.%d", e);
        parts[e] = weight(m, name, KILN_F16, 0, N, H);
    }
    kiln_tensor up = kiln_matmul_id_split(g, parts, E, m->x, ids);
    kiln_tensor act = kiln_swiglu(g, gate, up, KILN_ACT_GELU_TANH);
    kiln_tensor down = kiln_matmul_id(g, weight(m, "down", KILN_Q4_0, E, H, N), act, ids);
    kiln_tensor y = kiln_weighted_sum_full(g, down, weights, m->x, none, none);
    kiln_accumulate_by(g, y, m->x, kiln_f32_of(m->gain));
    kiln_tensor zeros = kiln_zeros(g, KILN_SHAPE(kiln_sym(m->t), kiln_n(H)));
    kiln_accumulate(g, zeros, m->x, weight(m, "one", KILN_F32, 0, 0, 1));
    kiln_zero(g, kiln_slice(g, zeros, 1, 0, kiln_n(8)));
    kiln_tensor indices;
    kiln_top_k(g, logits, K, &indices);
    kiln_argmax(g, logits);
}

static void attention_block(model *m) {
    kiln_graph *g = m->g;
    kiln_tensor cache_k = kiln_state(g, "k", KILN_F16, KILN_SHAPE(kiln_n(C), kiln_n(HEADS), kiln_n(D)));
    kiln_tensor cache_v = kiln_state(g, "v", KILN_F32, KILN_SHAPE(kiln_n(C), kiln_n(HEADS), kiln_n(D)));
    kiln_tensor x = kiln_reshape(g, m->x, KILN_SHAPE(kiln_sym(m->t), kiln_n(HEADS), kiln_n(D)));
    kiln_rope_attrs rope = {
        .position = kiln_i64_of(m->pos), .theta = 10000, .freq_scale = 0.1f, .mode = KILN_ROPE_NEOX};
    kiln_set_rows_attrs rows = {.position = kiln_i64_of(m->pos)};
    kiln_tensor q = kiln_rope(g, x, none, rope);
    kiln_tensor k = kiln_rope_set_rows(g, cache_k, x, none, none, (kiln_rope_set_rows_attrs){rope, rows});
    kiln_tensor v = kiln_set_rows(g, cache_v, x, none, rows);
    kiln_tensor mask = kiln_input(g, "mask", KILN_U8, KILN_SHAPE(kiln_sym(m->t), kiln_n(C)));
    kiln_tensor y =
        kiln_attention(g, kiln_transpose(g, q, 0, 1), kiln_transpose(g, k, 0, 1), kiln_transpose(g, v, 0, 1),
                       mask, (kiln_attention_attrs){.causal = 1, .q_position = kiln_i64_of(m->pos)});
    kiln_matmul(g, weight(m, "proj", KILN_Q4_K, 0, N, 256),
                kiln_concat(g, (kiln_tensor[]){m->x, m->x, m->x, m->x}, 4, 1));
    kiln_matmul_shadow(g, weight(m, "out", KILN_Q8_0, 0, N, H), y, weight(m, "out.f16", KILN_F16, 0, N, H));
}

static void rows_block(model *m) {
    kiln_graph *g = m->g;
    kiln_tensor w = weight(m, "norm", KILN_F32, 0, 0, H), normed, a = m->x;
    a = kiln_rms_norm(g, a, w, 1e-6f);
    kiln_add_rms_norm(g, a, m->x, w, 1e-5f, &normed);
    a = kiln_layer_norm(g, normed, w, none, 1e-5f);
    a = kiln_l2_norm(g, a, 1e-12f);
    a = kiln_silu(g, kiln_gelu(g, a, true));
    a = kiln_softcap(g, a, 30);
    a = kiln_scale(g, a, (kiln_scale_attrs){kiln_f32_of(m->gain), kiln_f32_const(-0.5f)});
    a = kiln_bias(g, kiln_mul(g, kiln_add(g, a, m->x), w), w);
    kiln_quantize(g, a, KILN_QUANT_Q8_A);
    kiln_output(g, kiln_mean_pool(g, a, none), "pooled");
    kiln_output(g, kiln_copy(g, kiln_transpose(g, a, 0, 1), KILN_BF16), "turned");
    kiln_get_rows(g, weight(m, "table", KILN_Q6_K, 0, 8, 256), m->ids);
}

kiln_graph *every_op_graph(void) {
    model m;
    assert_int_equal(kiln_graph_create(NULL, &m.g, NULL), KILN_OK);
    m.t = kiln_slot_i64(m.g, "n_tokens", 0, T);
    m.pos = kiln_slot_i64(m.g, "position", 0, C - T);
    m.gain = kiln_slot_f32(m.g, "gain", 0.75f);
    m.x = kiln_input(m.g, "x", KILN_F32, KILN_SHAPE(kiln_sym(m.t), kiln_n(H)));
    m.ids = kiln_input(m.g, "ids", KILN_I32, KILN_SHAPE(kiln_sym(m.t), kiln_n(K)));
    routed_block(&m);
    attention_block(&m);
    rows_block(&m);
    kiln_moe_ffn(m.g, &(kiln_moe_ffn_spec){.x = m.x,
                                           .router = weight(&m, "moe.router", KILN_F32, 0, E, H),
                                           .gate = weight(&m, "moe.gate_up", KILN_BF16, E, 2 * N, H),
                                           .down = weight(&m, "moe.down", KILN_BF16, E, H, N),
                                           .residual = m.x,
                                           .k = K,
                                           .no_normalise = true,
                                           .softmax_chosen = true});
    kiln_error error;
    if (kiln_graph_check(m.g, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return m.g;
}
