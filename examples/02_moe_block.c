/* Lesson 2: an expert-routed feed-forward block from the four ops that Kiln was made for:
 * gather_topk, matmul_id, swiglu, weighted_sum. Any number of tokens up to a maximum, from one plan.
 *
 * At the end the result is compared with a plain loop over the experts.
 */
#include <kiln/kiln.h>
#include <math.h>
#include <stdio.h>

enum { T_MAX = 5, H = 32, N = 64, E = 4, K = 2 };

static float router_w[E][H], gate_w[E][N][H], up_w[E][N][H], down_w[E][H][N];

static void fill(float *p, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * 0.2f;
    }
}

static kiln_tensor weight(kiln_graph *g, const char *name, const void *data, size_t size, uint32_t ndim,
                          const kiln_dim *dims) {
    kiln_tensor t = kiln_weight(g, name, KILN_F32, ndim, dims);
    kiln_storage_data_const(g, kiln_storage_of(g, t), data, (int64_t)size, 0);
    return t;
}

/* The same in double, token by token: softmax, the two best experts, renormalise, SwiGLU. */
static double reference(const float *x, int column) {
    double p[E], max = -INFINITY, y = 0;
    for (int e = 0; e < E; e++) {
        p[e] = 0;
        for (int h = 0; h < H; h++)
            p[e] += (double)router_w[e][h] * (double)x[h];
        max = fmax(max, p[e]);
    }
    /* The sum that softmax divides by cancels where the two best are renormalised. */
    for (int e = 0; e < E; e++)
        p[e] = exp(p[e] - max);
    int best = 0, second = -1;
    for (int e = 1; e < E; e++)
        if (p[e] > p[best])
            best = e;
    for (int e = 0; e < E; e++)
        if (e != best && (second < 0 || p[e] > p[second]))
            second = e;
    int chosen[K] = {best, second};
    for (int s = 0; s < K; s++) {
        int e = chosen[s];
        double w = p[e] / (p[best] + p[second]), out = 0;
        for (int n = 0; n < N; n++) {
            double gate = 0, up = 0;
            for (int h = 0; h < H; h++) {
                gate += (double)gate_w[e][n][h] * (double)x[h];
                up += (double)up_w[e][n][h] * (double)x[h];
            }
            out += (double)down_w[e][column][n] * gate / (1 + exp(-gate)) * up;
        }
        y += w * out;
    }
    return y;
}

int main(void) {
    kiln_error error = {KILN_OK, ""};
    kiln_graph *g;
    if (kiln_graph_create(NULL, &g, &error))
        return 1;
    fill(&router_w[0][0], E * H, 1);
    fill(&gate_w[0][0][0], E * N * H, 2);
    fill(&up_w[0][0][0], E * N * H, 3);
    fill(&down_w[0][0][0], E * H * N, 4);

    /* A symbol: a count that changes from run to run. */
    kiln_slot tokens = kiln_slot_i64(g, "n_tokens", 0, T_MAX);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(tokens), kiln_n(H)));
    kiln_tensor router = weight(g, "router", router_w, sizeof router_w, KILN_SHAPE(kiln_n(E), kiln_n(H)));
    kiln_tensor gate = weight(g, "gate", gate_w, sizeof gate_w, KILN_SHAPE(kiln_n(E), kiln_n(N), kiln_n(H)));
    kiln_tensor up = weight(g, "up", up_w, sizeof up_w, KILN_SHAPE(kiln_n(E), kiln_n(N), kiln_n(H)));
    kiln_tensor down = weight(g, "down", down_w, sizeof down_w, KILN_SHAPE(kiln_n(E), kiln_n(H), kiln_n(N)));

    kiln_tensor probs =
        kiln_softmax(g, kiln_matmul(g, router, x), (kiln_tensor){0, 0}, (kiln_softmax_attrs){0});
    kiln_tensor weights;
    kiln_tensor ids = kiln_gather_topk(g, probs, (kiln_tensor){0, 0}, (kiln_tensor){0, 0},
                                       (kiln_gather_topk_attrs){.k = K}, &weights);
    kiln_tensor hidden =
        kiln_swiglu(g, kiln_matmul_id(g, gate, x, ids), kiln_matmul_id(g, up, x, ids), KILN_ACT_SILU);
    kiln_tensor y = kiln_output(g, kiln_weighted_sum(g, kiln_matmul_id(g, down, hidden, ids), weights), "y");

    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    if (kiln_bake(g, NULL, &plan, &error) || kiln_cpu_executor_create(NULL, NULL, &executor, &error) ||
        kiln_session_create(plan, executor, NULL, &session, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    kiln_plan_summary s;
    kiln_plan_get_summary(plan, &s);
    printf("%u nodes as built, %u records in %u regions; arena %lld bytes instead of %lld\n", s.nodes,
           s.records, s.regions, (long long)s.arena_bytes, (long long)s.sum_bytes);

    double worst = 0;
    for (int64_t t = 0; t <= T_MAX; t++) { /* the same plan for 0 to 5 tokens */
        float *in = (float *)kiln_session_data(session, x), *out = (float *)kiln_session_data(session, y);
        fill(in, (size_t)t * H, 77);
        for (int64_t i = 0; i < t * H; i++)
            in[i] *= 5;
        if (kiln_session_set_i64(session, tokens, t, &error) || kiln_run(session, &error)) {
            fprintf(stderr, "%s\n", error.text);
            return 1;
        }
        for (int64_t i = 0; i < t; i++)
            for (int h = 0; h < H; h++)
                worst = fmax(worst, fabs((double)out[i * H + h] - reference(in + i * H, h)));
    }
    printf("largest difference from a plain loop over experts: %.2g\n", worst);

    kiln_session_destroy(session, NULL);
    kiln_executor_destroy(executor, NULL);
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    return worst < 1e-5 ? 0 : 1;
}
