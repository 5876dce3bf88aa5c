/* Lesson 5: an op of your own. It is the same descriptor that Kiln's ops are: attributes as data, shape
 * inference, the bytes it reads and writes, and a kernel in tiles. The scheduler, JSON and the executor treat
 * it like any other.
 *
 * The op: y[t, :] = a·x[t, :] for even columns, x for odd ones, of the left half of x only. Because it
 * declares that it reads only the left half, a node that writes the right half may run at the same time: the
 * plan has no barrier between them.
 */
#include <kiln/kiln.h>
#include <stdio.h>

enum { T = 6, H = 8 };

typedef struct stripe_attrs {
    kiln_f32_value a; /* a constant or a slot */
} stripe_attrs;

static kiln_status stripe_infer(kiln_infer *infer) {
    const kiln_desc *x = infer->in[0];
    if (x->dtype != KILN_F32)
        return kiln_infer_fail(infer, KILN_ERROR_DTYPE, "x is %s; it must be f32",
                               kiln_dtype_get(x->dtype)->name);
    if (x->ndim != 2 || x->dims[1].slot != 0 || x->dims[1].n % 2 != 0)
        return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "x must be [T, H] with an even H");
    infer->out[0].dtype = KILN_F32;
    infer->out[0].ndim = 2;
    infer->out[0].dims[0] = x->dims[0];
    infer->out[0].dims[1] = kiln_n(x->dims[1].n / 2);
    return KILN_OK;
}

/* Reads H/2 floats of each row of x; writes all of y. How many rows there can be is for kiln_access_dim_max to say: the
 * first dimension may be a symbol. Leave this out and the op is taken to touch all memory. */
static kiln_status stripe_accesses(const kiln_access_query *query) {
    const kiln_desc *x = query->in[0];
    kiln_box left = {.length = x->dims[1].n / 2 * (int64_t)sizeof(float),
                     .count = {kiln_access_dim_max(query, x->dims[0])},
                     .stride = {x->strides[0]}};
    kiln_status status = kiln_access_box(query, 0, KILN_READ, &left);
    return status ? status : kiln_access_operand(query, 1, KILN_WRITE);
}

/* One tile a row, whatever the number of threads. */
static int64_t stripe_tiles(const kiln_args *args) {
    return args->out[0].ne[2];
}

static kiln_status stripe_run(const kiln_args *args, kiln_tile *tile) {
    const stripe_attrs *attrs = (const stripe_attrs *)args->attrs;
    const kiln_operand *x = &args->in[0], *y = &args->out[0];
    for (int64_t t = tile->first; t < tile->last; t++) {
        const float *in = (const float *)(const void *)(x->data + t * x->nb[2]);
        float *out = (float *)(void *)(y->data + t * y->nb[2]);
        for (int64_t i = 0; i < y->ne[3]; i++)
            out[i] = i % 2 == 0 ? attrs->a.value * in[i] : in[i];
    }
    return KILN_OK;
}

static const kiln_attr stripe_attr_table[] = {
    {.name = "a", .type = KILN_ATTR_F32_SLOT, .offset = offsetof(stripe_attrs, a), .preset = 1}};
static const kiln_kernel stripe_kernels[] = {{.name = "stripe_c", .tiles = stripe_tiles, .run = stripe_run}};
static const char *const stripe_in[] = {"x"}, *const stripe_out[] = {"y"};
static const kiln_op stripe = {.name = "stripe",
                               .text = "left half of x, even columns times a",
                               .in_names = stripe_in,
                               .n_in_min = 1,
                               .n_in_max = 1,
                               .out_names = stripe_out,
                               .n_out = 1,
                               .attrs = stripe_attr_table,
                               .n_attrs = 1,
                               .attrs_size = sizeof(stripe_attrs),
                               .infer = stripe_infer,
                               .accesses = stripe_accesses,
                               .kernels = stripe_kernels,
                               .n_kernels = 1};

int main(void) {
    kiln_error error = {KILN_OK, ""};
    kiln_graph *g;
    if (kiln_graph_create(NULL, &g, &error))
        return 1;
    kiln_slot a = kiln_slot_f32(g, "a", 1.0f);
    kiln_slot tokens = kiln_slot_i64(g, "n_tokens", 0, T);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(tokens), kiln_n(H)));
    kiln_tensor buffer = kiln_copy(g, x, KILN_F32);
    stripe_attrs attrs = {kiln_f32_of(a)};
    kiln_tensor y;
    (void)kiln_node_add(g, &stripe, &buffer, 1, &attrs,
                        &y); /* remembers its error, like every builder call */
    kiln_output(g, y, "y");
    kiln_zero(g, kiln_slice(g, buffer, 1, H / 2, kiln_n(H / 2))); /* in place, the other half: no hazard */

    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    if (kiln_bake(g, NULL, &plan, &error) || kiln_cpu_executor_create(NULL, NULL, &executor, &error) ||
        kiln_session_create(plan, executor, NULL, &session, &error)) {
        fprintf(stderr, "%s: %s\n", kiln_status_name(error.status), error.text);
        return 1;
    }
    kiln_plan_summary s;
    kiln_plan_get_summary(plan, &s);
    printf("%u records in %u regions: copy, then stripe and zero side by side\n", s.records, s.regions);
    float *in = (float *)kiln_session_data(session, x), *out = (float *)kiln_session_data(session, y);
    for (int i = 0; i < T * H; i++)
        in[i] = (float)i;
    if (kiln_session_set_i64(session, tokens, T, &error))
        return 1;
    int wrong = s.regions != 2;
    for (int run = 0; run < 3; run++) {
        float value = (float)(run + 1) * 0.5f;
        if (kiln_session_set_f32(session, a, value, &error) || kiln_run(session, &error)) {
            fprintf(stderr, "%s\n", error.text);
            return 1;
        }
        for (int t = 0; t < T; t++)
            for (int i = 0; i < H / 2; i++)
                wrong += out[t * H / 2 + i] != (i % 2 ? in[t * H + i] : value * in[t * H + i]);
    }
    /* A custom op's messages read like the others. */
    kiln_tensor bad = kiln_input(g, "bad", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_n(3)));
    (void)kiln_node_add(g, &stripe, &bad, 1, NULL, &y);
    if (kiln_graph_check(g, &error))
        printf("as expected: %s\n", error.text);
    else
        wrong++;
    printf("%d wrong values\n", wrong);
    kiln_session_destroy(session, NULL);
    kiln_executor_destroy(executor, NULL);
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
    return wrong ? 1 : 0;
}
