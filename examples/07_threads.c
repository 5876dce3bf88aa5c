/* Lesson 7: whose threads compute.
 *
 * Two models on one pool of workers; a thread of the host's that helps out as a guest; and, for hosts with a thread
 * library of their own, no workers at all: regions that are worth sharing go through the host's parallel_for. The
 * results are the same to the bit. At the end, a profile says who computed how much.
 */
#include <kiln/kiln.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 64, WIDTH = 256, THREADS = 4 };

static int fail(const kiln_error *error) {
    fprintf(stderr, "%s: %s\n", kiln_status_name(error->status), error->text);
    return 1;
}

/* y = silu(W x), big enough to be worth sharing. */
static kiln_status build(float *weight, kiln_plan **plan, kiln_error *error) {
    kiln_graph *g;
    kiln_status status = kiln_graph_create(NULL, &g, error);
    if (status != KILN_OK)
        return status;
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(ROWS), kiln_n(WIDTH)));
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(WIDTH), kiln_n(WIDTH)));
    kiln_storage_data_const(g, kiln_storage_of(g, w), weight, sizeof(float[WIDTH][WIDTH]), 0);
    kiln_output(g, kiln_silu(g, kiln_matmul(g, w, x)), "y");
    status = kiln_bake(g, NULL, plan, error);
    kiln_graph_destroy(g);
    return status;
}

static kiln_status compute(kiln_plan *plan, kiln_executor *executor, kiln_session **session,
                           kiln_error *error) {
    kiln_status status = kiln_session_create(plan, executor, NULL, session, error);
    if (status != KILN_OK)
        return status;
    float *x = (float *)kiln_session_data(*session, kiln_plan_tensor(plan, "x"));
    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = (float)(i % 17) / 17.0f;
    return kiln_run(*session, error);
}

static const void *result(kiln_session *session, const kiln_plan *plan) {
    return kiln_session_data(session, kiln_plan_tensor(plan, "y"));
}

static int same(const void *a, const void *b) {
    return memcmp(a, b, sizeof(float[ROWS][WIDTH])) == 0;
}

/* ---- a guest ---------------------------------------------------------------------------------------- */

/* A thread of the host's, which would be idle otherwise: it computes whatever runs on the pool until it is dismissed. */
static void *guest_main(void *pool) {
    return kiln_cpu_pool_help((kiln_cpu_pool *)pool, -1) == KILN_OK ? NULL : pool;
}

/* ---- the host's own parallel_for -------------------------------------------------------------------- */

typedef struct piece {
    void (*body)(void *arg, uint32_t i);
    void *arg;
    uint32_t i;
} piece;

static void *piece_main(void *context) {
    piece *p = (piece *)context;
    p->body(p->arg, p->i);
    return NULL;
}

/* A real host hands the calls to its own workers. A call that finds nothing left to do just returns, so a thread that
 * cannot be had does no harm either: the call is made here. */
static void parallel_for(void *context, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg) {
    pthread_t threads[THREADS];
    piece pieces[THREADS];
    int started[THREADS];
    for (uint32_t i = 0; i < n; i++) {
        pieces[i] = (piece){body, arg, i};
        started[i] = i > 0 && pthread_create(&threads[i], NULL, piece_main, &pieces[i]) == 0;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!started[i])
            body(arg, i);
    for (uint32_t i = 0; i < n; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
    *(int *)context += 1;
}

/* ---- who did what ----------------------------------------------------------------------------------- */

static bool add_up(void *context, const kiln_profile_call *call) {
    int64_t *ns = (int64_t *)context;
    if (call->thread < THREADS)
        ns[call->thread] += call->end_ns - call->start_ns;
    return true;
}

static kiln_status show_profile(kiln_session *session, kiln_error *error) {
    int64_t ns[THREADS] = {0};
    kiln_status status = kiln_session_profile(session, 1000, error);
    for (int i = 0; i < 20 && status == KILN_OK; i++)
        status = kiln_run(session, error);
    if (status == KILN_OK)
        status = kiln_session_profile_read(session, add_up, ns, NULL, error);
    for (uint32_t i = 0; i < THREADS && status == KILN_OK; i++) {
        char who[32];
        kiln_session_profile_thread(session, i, who, sizeof who);
        if (who[0] != '\0')
            printf("%-10s computed for %5.1f us\n", who, (double)ns[i] / 1e3);
    }
    if (status == KILN_OK)
        puts("(no more are woken than the work is worth, nor than there are processors)");
    return status;
}

int main(void) {
    static float weight[2][WIDTH * WIDTH];
    kiln_error error;
    kiln_plan *plan[2];
    kiln_cpu_pool *pool;
    kiln_executor *shared[2], *host;
    kiln_session *on_pool[2], *on_host;
    pthread_t guest;
    for (int i = 0; i < WIDTH * WIDTH; i++) {
        weight[0][i] = (float)(i % 31) / 31.0f - 0.5f;
        weight[1][i] = (float)(i % 29) / 29.0f - 0.5f;
    }
    for (int i = 0; i < 2; i++)
        if (build(weight[i], &plan[i], &error))
            return fail(&error);

    /* One pool, two executors: one of the three threads is the host's guest, one the one that waits. */
    const kiln_cpu_pool_options options = {.threads = 3, .guests = 1, .name = "lesson"};
    if (kiln_cpu_pool_create(NULL, &options, &pool, &error))
        return fail(&error);
    if (pthread_create(&guest, NULL, guest_main, pool) != 0)
        return 1;
    const kiln_cpu_options on_the_pool = {.pool = pool};
    for (int i = 0; i < 2; i++)
        if (kiln_cpu_executor_create(NULL, &on_the_pool, &shared[i], &error) ||
            compute(plan[i], shared[i], &on_pool[i], &error))
            return fail(&error);
    if (show_profile(on_pool[0], &error))
        return fail(&error);

    /* The host's threads instead. */
    int calls = 0;
    const kiln_cpu_options through_host = {
        .threads = THREADS, .parallel_for = parallel_for, .parallel_for_context = &calls};
    if (kiln_cpu_executor_create(NULL, &through_host, &host, &error) ||
        compute(plan[0], host, &on_host, &error))
        return fail(&error);
    const void *y = result(on_pool[0], plan[0]);
    int ok = calls > 0 && same(y, result(on_host, plan[0])) && !same(y, result(on_pool[1], plan[1]));
    printf("parallel_for was called %d time(s); the results are %s\n", calls, ok ? "the same" : "different");

    void *trouble = NULL;
    kiln_cpu_pool_dismiss(pool);
    pthread_join(guest, &trouble);
    kiln_session_destroy(on_host, NULL);
    kiln_executor_destroy(host, NULL);
    for (int i = 0; i < 2; i++) {
        kiln_session_destroy(on_pool[i], NULL);
        kiln_executor_destroy(shared[i], NULL);
        kiln_plan_release(plan[i]);
    }
    if (kiln_cpu_pool_destroy(pool, &error))
        return fail(&error);
    return ok && trouble == NULL ? 0 : 1;
}
