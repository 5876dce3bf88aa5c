/* Lesson 1: a graph, a plan, a session.
 *
 * y = silu(W x + b), built once, baked once, run with different inputs.
 */
#include <kiln/kiln.h>
#include <stdio.h>

static int fail(const kiln_error *error) {
    fprintf(stderr, "%s: %s\n", kiln_status_name(error->status), error->text);
    return 1;
}

int main(void) {
    kiln_error error;
    kiln_graph *graph;
    if (kiln_graph_create(NULL, &graph, &error))
        return fail(&error);

    /* Shapes are outermost first. Weights are the caller's memory; inputs and outputs are the session's
     * unless bound. */
    static const float w_data[2][3] = {{1, 2, 3}, {-1, 0, 1}}, b_data[2] = {0.5f, -0.5f};
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(3)));
    kiln_tensor w = kiln_weight(graph, "w", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(3)));
    kiln_tensor b = kiln_weight(graph, "b", KILN_F32, KILN_SHAPE(kiln_n(2)));
    kiln_storage_data_const(graph, kiln_storage_of(graph, w), w_data, sizeof w_data, 0);
    kiln_storage_data_const(graph, kiln_storage_of(graph, b), b_data, sizeof b_data, 0);
    kiln_tensor y = kiln_output(graph, kiln_silu(graph, kiln_bias(graph, kiln_matmul(graph, w, x), b)), "y");

    /* One check for the whole chain of calls: baking reports the first thing that was wrong. */
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    if (kiln_bake(graph, NULL, &plan, &error) || kiln_cpu_executor_create(NULL, NULL, &executor, &error) ||
        kiln_session_create(plan, executor, NULL, &session, &error))
        return fail(&error);

    float *in = (float *)kiln_session_data(session, x), *out = (float *)kiln_session_data(session, y);
    for (int i = 0; i < 3; i++) {
        in[0] = (float)i, in[1] = 1, in[2] = -1;
        if (kiln_run(session, &error))
            return fail(&error);
        printf("x = [%g, 1, -1]   y = [%.4f, %.4f]\n", (double)i, (double)out[0], (double)out[1]);
    }
    /* W x + b = [2 + 2 - 3 + 0.5, -2 - 1 - 0.5] = [1.5, -3.5] for the last one. */
    int ok = out[0] > 1.22f && out[0] < 1.23f && out[1] > -0.103f && out[1] < -0.102f;

    kiln_session_destroy(session, NULL);
    kiln_executor_destroy(executor, NULL);
    kiln_plan_release(plan);
    kiln_graph_destroy(graph);
    return ok ? 0 : 1;
}
