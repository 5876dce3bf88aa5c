/* Lesson 6: a graph as JSON: out, edited, and in again. A tool in any language can inspect or change it; what
 * comes back is checked as strictly as if it had been built by calls.
 */
#include <kiln/kiln.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int fail(const kiln_error *error) {
    fprintf(stderr, "%s: %s\n", kiln_status_name(error->status), error->text);
    return 1;
}

/* Bakes and runs a graph with input "x" and output "y" of four floats. */
static kiln_status run(const kiln_graph *graph, kiln_executor *executor, float y[4], kiln_error *error) {
    kiln_plan *plan = NULL;
    kiln_session *session = NULL;
    kiln_status status = kiln_bake(graph, NULL, &plan, error);
    if (!status)
        status = kiln_session_create(plan, executor, NULL, &session, error);
    if (!status) {
        float *x = (float *)kiln_session_data(session, kiln_plan_tensor(plan, "x"));
        for (int i = 0; i < 4; i++)
            x[i] = (float)(i - 1);
        status = kiln_run(session, error);
        if (!status)
            memcpy(y, kiln_session_data(session, kiln_plan_tensor(plan, "y")), 4 * sizeof *y);
    }
    kiln_session_destroy(session, NULL);
    kiln_plan_release(plan);
    return status;
}

int main(void) {
    kiln_error error = {KILN_OK, ""};
    kiln_graph *graph, *loaded, *edited;
    kiln_executor *executor;
    kiln_json_text text, again;
    float first[4], second[4], third[4];
    if (kiln_graph_create(NULL, &graph, &error) || kiln_cpu_executor_create(NULL, NULL, &executor, &error))
        return fail(&error);
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(4)));
    kiln_scale_attrs twice = {.scale = kiln_f32_const(2)};
    kiln_output(graph, kiln_silu(graph, kiln_scale(graph, x, twice)), "y");

    if (kiln_graph_to_json(graph, NULL, &text, &error))
        return fail(&error);
    fputs(text.data, stdout);
    if (kiln_graph_from_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &loaded, &error) ||
        kiln_graph_to_json(loaded, NULL, &again, &error) || run(graph, executor, first, &error) ||
        run(loaded, executor, second, &error))
        return fail(&error);
    int same = text.size == again.size && memcmp(text.data, again.data, text.size) == 0 &&
               memcmp(first, second, sizeof first) == 0;
    printf("dump, load, dump: %s\n", same ? "byte-identical, and the results bit-identical" : "DIFFERENT");

    /* An edit that any JSON tool could make: the scale becomes 4. */
    char *at = strstr(text.data, "\"scale\": 2");
    if (at == NULL)
        return 1;
    at[strlen("\"scale\": ")] = '4';
    if (kiln_graph_from_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &edited, &error) ||
        run(edited, executor, third, &error))
        return fail(&error);
    printf("silu(2x) at x = 2: %.5f; edited to silu(4x): %.5f\n", (double)first[3], (double)third[3]);
    int right = fabsf(third[3] - 8.0f / (1.0f + expf(-8.0f))) < 1e-5f;

    /* A wrong edit is refused with its place. */
    memcpy(strstr(text.data, "\"op\": \"silu\""), "\"op\": \"sila\"", 12);
    kiln_graph *none;
    kiln_status status =
        kiln_graph_from_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &none, &error);
    printf("as expected: %s: %s\n", kiln_status_name(status), error.text);

    kiln_json_text_free(&text);
    kiln_json_text_free(&again);
    kiln_graph_destroy(edited);
    kiln_graph_destroy(loaded);
    kiln_graph_destroy(graph);
    kiln_executor_destroy(executor, NULL);
    return same && right && status != KILN_OK ? 0 : 1;
}
