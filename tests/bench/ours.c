#include "ours.h"

const kiln_bake_options bench_unfused = {.precision = KILN_PRECISION_EXACT, .no_fuse = KILN_FUSE_ALL};

void bench_must(kiln_status status, const kiln_error *error) {
    if (status != KILN_OK)
        bench_fail("%s: %s", kiln_status_name(status), error->text);
}

float bench_value(size_t i) {
    return 1e-6f * (float)(i % 61);
}

void bench_build_adds(kiln_graph *g, int n, int width, bool chain) {
    kiln_dim shape[] = {kiln_n(width)}, rows[] = {kiln_n(n), kiln_n(width)};
    kiln_tensor c = kiln_input(g, "c", KILN_F32, 1, shape);
    kiln_tensor a = chain ? kiln_input(g, "a", KILN_F32, 1, shape) : kiln_input(g, "a", KILN_F32, 2, rows),
                x = a;
    for (int i = 0; i < n; i++) {
        kiln_tensor in = chain ? x : kiln_reshape(g, kiln_slice(g, a, 0, i, kiln_n(1)), 1, shape);
        x = kiln_add(g, in, c);
    }
    kiln_output(g, x, "y");
}

void bench_ours_open(bench_ours *o, int n, int width, bool chain) {
    kiln_error error;
    bench_must(kiln_graph_create(NULL, &o->graph, &error), &error);
    bench_build_adds(o->graph, n, width, chain);
    bench_must(kiln_bake(o->graph, &bench_unfused, &o->plan, &error), &error);
    kiln_plan_summary s;
    kiln_plan_get_summary(o->plan, &s);
    if (s.records != (uint32_t)n)
        bench_fail("%u records instead of %d", s.records, n);
    for (uint32_t t = 1; t <= 2; t++) {
        kiln_cpu_options cpu = {.threads = t};
        bench_must(kiln_cpu_executor_create(NULL, &cpu, &o->executor[t], &error), &error);
        bench_must(kiln_session_create(o->plan, o->executor[t], NULL, &o->session[t], &error), &error);
        float *a = kiln_session_data(o->session[t], kiln_plan_tensor(o->plan, "a"));
        float *c = kiln_session_data(o->session[t], kiln_plan_tensor(o->plan, "c"));
        for (size_t i = 0; i < (size_t)width * (chain ? 1 : (size_t)n); i++)
            a[i] = bench_value(i);
        for (size_t i = 0; i < (size_t)width; i++)
            c[i] = bench_value(i);
    }
}

void bench_ours_close(bench_ours *o) {
    for (uint32_t t = 1; t <= 2; t++) {
        (void)kiln_session_destroy(o->session[t], NULL);
        (void)kiln_executor_destroy(o->executor[t], NULL);
    }
    kiln_plan_release(o->plan);
    kiln_graph_destroy(o->graph);
}

void bench_rig_open(bench_rig *r, kiln_plan *plan, uint32_t threads) {
    kiln_error error;
    const kiln_cpu_options cpu = {.threads = threads};
    bench_must(kiln_cpu_executor_create(NULL, &cpu, &r->executor, &error), &error);
    bench_must(kiln_session_create(plan, r->executor, NULL, &r->session, &error), &error);
}

void bench_rig_close(bench_rig *r) {
    kiln_error error;
    bench_must(kiln_session_destroy(r->session, &error), &error);
    bench_must(kiln_executor_destroy(r->executor, &error), &error);
}

double bench_run_ns(kiln_session *session, int reps) {
    kiln_error error;
    int64_t start = bench_now();
    for (int i = 0; i < reps; i++)
        bench_must(kiln_run(session, &error), &error);
    return (double)(bench_now() - start) / reps;
}
