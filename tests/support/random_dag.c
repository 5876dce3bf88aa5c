#include "random_dag.h"

#include <stdio.h>
#include <stdlib.h>

unsigned char dag_memory[DAG_MEMORY];

uint64_t dag_next(dag_random *r) {
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 2685821657736338717u;
}

int64_t dag_below(dag_random *r, int64_t n) {
    return (int64_t)(dag_next(r) >> 33) % n;
}

/* ---- ops -------------------------------------------------------------------------------------------- */

static kiln_box box_of(const dag_access *a) {
    kiln_box box = {.offset = a->offset, .length = a->length};
    for (int l = 0; l < KILN_BOX_LEVELS; l++) {
        box.count[l] = a->count[l];
        box.stride[l] = a->stride[l];
    }
    return box;
}

static kiln_status touch_infer(kiln_infer *infer) {
    infer->n_out = 0;
    return KILN_OK;
}

/* What the attributes do not name, or hide, is named with an empty box. */
static kiln_status touch_accesses(const kiln_access_query *query) {
    const dag_attrs *attrs = query->attrs;
    for (uint32_t i = 0; i < query->n_in; i++) {
        kiln_status status =
            query->in[i] == NULL ? KILN_OK : kiln_access_box(query, i, KILN_READ, &(kiln_box){0});
        if (status != KILN_OK)
            return status;
    }
    for (uint32_t i = 0; i < attrs->n_accesses; i++) {
        const dag_access *a = &attrs->accesses[i];
        kiln_box box = box_of(a);
        kiln_status status =
            a->hidden ? KILN_OK : kiln_access_box(query, a->operand, (kiln_access_mode)a->mode, &box);
        if (status != KILN_OK)
            return status;
    }
    return KILN_OK;
}

static kiln_status make_infer(kiln_infer *infer) {
    const dag_attrs *attrs = infer->attrs;
    infer->out[0].dtype = KILN_U8;
    infer->out[0].ndim = 1;
    infer->out[0].dims[0] = (kiln_dim){attrs->elements, attrs->slot};
    return KILN_OK;
}

static kiln_status map_infer(kiln_infer *infer) {
    infer->out[0] = *infer->in[0];
    return KILN_OK;
}

static const char *const names[] = {"x"};
static const char *const map_names[] = {"a", "b", "c"};
static const kiln_inplace map_inplace[] = {{0, 0}, {0, 1}, {0, 2}};

const kiln_op dag_touch_op = {.name = "touch",
                              .text = "reads and writes the given boxes",
                              .in_names = names,
                              .n_in_max = 1,
                              .variadic = true,
                              .attrs_size = sizeof(dag_attrs),
                              .infer = touch_infer,
                              .accesses = touch_accesses};
const kiln_op dag_make_op = {.name = "make",
                             .text = "writes a fresh tensor",
                             .in_names = names,
                             .out_names = names,
                             .n_out = 1,
                             .attrs_size = sizeof(dag_attrs),
                             .infer = make_infer,
                             .accesses = kiln_access_operands};
const kiln_op dag_map_op = {.name = "map",
                            .text = "element by element",
                            .in_names = map_names,
                            .n_in_min = 1,
                            .n_in_max = 3,
                            .out_names = names,
                            .n_out = 1,
                            .infer = map_infer,
                            .accesses = kiln_access_operands,
                            .inplace = map_inplace,
                            .n_inplace = 3};
const kiln_op dag_opaque_op = {.name = "opaque",
                               .text = "declares nothing",
                               .in_names = names,
                               .n_in_max = 1,
                               .variadic = true,
                               .infer = touch_infer};

/* ---- building --------------------------------------------------------------------------------------- */

static void check(const kiln_graph *g) {
    kiln_error error;
    if (kiln_graph_check(g, &error) != KILN_OK) {
        fprintf(stderr, "random_dag: %s\n", error.text);
        abort();
    }
}

static kiln_tensor add(kiln_graph *g, const kiln_op *op, const kiln_tensor *in, uint32_t n,
                       const dag_attrs *attrs) {
    kiln_tensor out[8] = {{0, 0}};
    (void)kiln_node_add(g, op, in, n, attrs, out);
    check(g);
    return out[0];
}

void dag_touch(kiln_graph *g, const kiln_tensor *tensors, uint32_t n, const dag_access *accesses,
               uint32_t n_accesses) {
    dag_attrs attrs = {.n_accesses = n_accesses};
    for (uint32_t i = 0; i < n_accesses; i++)
        attrs.accesses[i] = accesses[i];
    add(g, &dag_touch_op, tensors, n, &attrs);
}

void dag_touch_run(kiln_graph *g, kiln_tensor tensor, kiln_access_mode mode, int64_t offset, int64_t length) {
    dag_access a = {
        .mode = (uint8_t)mode, .count = {1, 1, 1}, .offset = (uint16_t)offset, .length = (uint16_t)length};
    dag_touch(g, &tensor, 1, &a, 1);
}

kiln_tensor dag_make(kiln_graph *g, kiln_dim elements) {
    dag_attrs attrs = {.elements = (uint32_t)elements.n, .slot = elements.slot};
    return add(g, &dag_make_op, NULL, 0, &attrs);
}

kiln_tensor dag_map(kiln_graph *g, const kiln_tensor *tensors, uint32_t n) {
    return add(g, &dag_map_op, tensors, n, NULL);
}

void dag_opaque(kiln_graph *g, const kiln_tensor *tensors, uint32_t n) {
    add(g, &dag_opaque_op, tensors, n, NULL);
}

kiln_tensor dag_state(kiln_graph *g, const char *name, int64_t bytes) {
    kiln_tensor t = kiln_state(g, name, KILN_U8, KILN_SHAPE(kiln_n(bytes)));
    check(g);
    return t;
}

/* ---- random programs -------------------------------------------------------------------------------- */

enum { POOL = 512 };

typedef struct builder {
    kiln_graph *g;
    dag_random r;
    kiln_tensor pool[POOL]; /* all tensors a node may use */
    uint32_t n_pool;
    kiln_slot symbol;
} builder;

static void keep(builder *b, kiln_tensor t) {
    check(b->g);
    if (b->n_pool < POOL)
        b->pool[b->n_pool++] = t;
}

/* Mostly recent ones, so that chains form. */
static kiln_tensor any(builder *b) {
    int64_t n = b->n_pool;
    if (dag_below(&b->r, 2) == 0 && n > 8)
        return b->pool[n - 1 - dag_below(&b->r, 8)];
    return b->pool[dag_below(&b->r, n)];
}

static const kiln__tensor *inside(const builder *b, kiln_tensor t) {
    return &b->g->tensors.items[t.id];
}

static bool has_symbol(const kiln_desc *d) {
    bool found = false;
    for (uint32_t i = 0; i < d->ndim; i++)
        found |= d->dims[i].slot != 0;
    return found;
}

static bool writable(const builder *b, kiln_tensor t) {
    kiln_storage_kind kind = b->g->storages.items[inside(b, t)->storage].kind;
    return kind != KILN_STORAGE_WEIGHT && kind != KILN_STORAGE_INPUT;
}

static void add_leaves(builder *b, unsigned features) {
    char name[32];
    int64_t states = 1 + dag_below(&b->r, 3);
    for (int64_t i = 0; i < states; i++) {
        snprintf(name, sizeof name, "state%d", (int)i);
        int64_t rows = 2 + dag_below(&b->r, 6), row = 8 * (1 + dag_below(&b->r, 4));
        kiln_tensor t = kiln_state(b->g, name, KILN_U8, KILN_SHAPE(kiln_n(rows), kiln_n(row)));
        keep(b, t);
        keep(b, kiln_slice(b->g, t, 1, 0, kiln_n(row / 2)));
        keep(b, kiln_slice(b->g, t, 1, row / 2, kiln_n(row / 2)));
        keep(b, kiln_slice(b->g, t, 0, rows / 2, kiln_n(rows - rows / 2)));
        keep(b, kiln_transpose(b->g, t, 0, 1));
    }
    for (int i = 0; (features & DAG_MAPPED) && i < 4; i++) {
        static const kiln_storage_kind kinds[] = {KILN_STORAGE_OUTPUT, KILN_STORAGE_OUTPUT,
                                                  KILN_STORAGE_WEIGHT, KILN_STORAGE_INPUT};
        snprintf(name, sizeof name, "mapped%d", i);
        int64_t size = 16 + dag_below(&b->r, 100), at = dag_below(&b->r, DAG_MEMORY - size);
        kiln_storage s = kiln_storage_add(b->g, kinds[i], name, size);
        kiln_storage_data(b->g, s, dag_memory + at, size, 0);
        kiln_dim all = kiln_n(size), half = kiln_n(size / 2);
        int64_t two = 2;
        keep(b, kiln_tensor_at(b->g, s, 0, KILN_U8, 1, &all, NULL));
        keep(b, kiln_tensor_at(b->g, s, dag_below(&b->r, 2), KILN_U8, 1, &half, &two));
    }
}

static void add_view(builder *b) {
    kiln_tensor t = any(b);
    const kiln_desc d = *kiln__desc_of(b->g, inside(b, t));
    int32_t axis = (int32_t)dag_below(&b->r, d.ndim);
    int64_t n = d.dims[axis].n;
    if (d.dims[axis].slot != 0 || n < 2)
        return;
    int64_t start = dag_below(&b->r, n), length = 1 + dag_below(&b->r, n - start);
    switch (dag_below(&b->r, 3)) {
    case 0:
        keep(b, kiln_slice(b->g, t, axis, start, kiln_n(length)));
        break;
    case 1:
        if (d.ndim == 2)
            keep(b, kiln_transpose(b->g, t, 0, 1));
        break;
    default:
        if (d.ndim == 1 && n % 4 == 0 && kiln__desc_is_dense(b->g, &d))
            keep(b, kiln_reshape(b->g, t, KILN_SHAPE(kiln_n(4), kiln_n(n / 4))));
    }
}

/* A random box that lies in the tensor's storage, sometimes the tensor's own. */
static dag_access random_access(builder *b, uint32_t operand, kiln_tensor t, bool may_write) {
    const kiln__tensor *tensor = inside(b, t);
    int64_t room = b->g->storages.items[tensor->storage].size - tensor->offset;
    kiln_box own = kiln__tensor_box(b->g, tensor, NULL);
    for (;;) {
        dag_access a = {.operand = (uint8_t)operand, .count = {1, 1, 1}};
        a.mode = (uint8_t)(may_write ? 1 + dag_below(&b->r, 3) : KILN_READ);
        int64_t end = 0;
        if (dag_below(&b->r, 4) == 0) { /* the tensor's own box */
            a.length = (uint16_t)own.length;
            for (int l = 0; l < KILN_BOX_LEVELS; l++) {
                a.count[l] = (uint8_t)own.count[l];
                a.stride[l] = (uint16_t)own.stride[l];
            }
            return a;
        }
        static const uint16_t strides[] = {2, 4, 8, 16, 24, 32, 5, 12};
        a.length = (uint16_t)dag_below(&b->r, dag_below(&b->r, 3) ? 10 : room + 1);
        for (int l = 0; l < KILN_BOX_LEVELS && dag_below(&b->r, 2); l++) {
            a.count[l] = (uint8_t)dag_below(&b->r, 7);
            a.stride[l] = strides[dag_below(&b->r, 8)];
            end += a.count[l] > 0 ? (a.count[l] - 1) * a.stride[l] : 0;
        }
        end += a.length;
        if (end > room)
            continue;
        a.offset = (uint16_t)dag_below(&b->r, room - end + 1);
        return a;
    }
}

static void add_touch(builder *b) {
    kiln_tensor in[3];
    dag_access accesses[6];
    uint32_t n = 1 + (uint32_t)dag_below(&b->r, 3), n_accesses = 0;
    for (uint32_t i = 0; i < n; i++) {
        do
            in[i] = any(b);
        while (has_symbol(kiln__desc_of(b->g, inside(b, in[i]))) || inside(b, in[i])->bytes == 0);
        for (int64_t k = dag_below(&b->r, 3); k > 0; k--)
            accesses[n_accesses++] = random_access(b, i, in[i], writable(b, in[i]));
    }
    dag_touch(b->g, in, n, accesses, n_accesses);
}

static bool same_shape(const kiln_desc *a, const kiln_desc *b) {
    bool same = a->ndim == b->ndim;
    for (uint32_t i = 0; same && i < a->ndim; i++)
        same = kiln_dim_equal(a->dims[i], b->dims[i]);
    return same;
}

static void add_map(builder *b) {
    kiln_tensor in[3] = {any(b)};
    uint32_t n = 1;
    for (int tries = 0; tries < 12 && n < 3; tries++) {
        kiln_tensor t = any(b);
        if (same_shape(kiln__desc_of(b->g, inside(b, t)), kiln__desc_of(b->g, inside(b, in[0]))))
            in[n++] = t;
    }
    keep(b, dag_map(b->g, in, n));
}

kiln_graph *random_dag(uint64_t seed, uint32_t max_nodes, unsigned features) {
    builder b = {.r = {seed * 0x9E3779B97F4A7C15u + 0x1234567u}};
    if (b.r.state == 0)
        b.r.state = 1;
    kiln_error error;
    if (kiln_graph_create(NULL, &b.g, &error) != KILN_OK) {
        fprintf(stderr, "random_dag: %s\n", error.text);
        abort();
    }
    for (int i = 0; i < 4; i++)
        dag_next(&b.r);
    b.symbol = kiln_slot_i64(b.g, "n", 0, 16);
    add_leaves(&b, features);
    int64_t n = 1 + dag_below(&b.r, max_nodes), map_share = features & DAG_CHAINS ? 70 : 25;
    while ((int64_t)b.g->nodes.count < n) {
        int64_t dice = dag_below(&b.r, 100);
        if (dice < 10)
            keep(&b, dag_make(b.g, dag_below(&b.r, 3) ? kiln_n(4 * (1 + dag_below(&b.r, 12)))
                                                      : kiln_sym_times(b.symbol, 1 + dag_below(&b.r, 2))));
        else if (dice < 20)
            add_view(&b);
        else if (dice < 22 && (features & DAG_OPAQUE))
            dag_opaque(b.g, (kiln_tensor[]){any(&b), any(&b)}, 2);
        else if (dice < 22 + map_share)
            add_map(&b);
        else
            add_touch(&b);
    }
    check(b.g);
    return b.g;
}

/* ---- what nodes truly touch ------------------------------------------------------------------------- */

static void visit_tensor(const kiln_graph *g, uint32_t id, const int64_t *slots, kiln_access_mode mode,
                         dag_visit visit, void *context) {
    const kiln__tensor *t = &g->tensors.items[id];
    const kiln_desc *desc = kiln__desc_of(g, t);
    int64_t n[KILN_MAX_DIMS] = {1, 1, 1, 1}, stride[KILN_MAX_DIMS] = {0};
    for (uint32_t i = 0; i < desc->ndim; i++) {
        kiln_dim d = desc->dims[i];
        n[i] = d.slot ? d.n * slots[d.slot] : d.n;
        stride[i] = desc->strides[i];
    }
    for (int64_t i = 0; i < n[0]; i++)
        for (int64_t j = 0; j < n[1]; j++)
            for (int64_t k = 0; k < n[2]; k++)
                for (int64_t l = 0; l < n[3]; l++)
                    visit(context, t->storage,
                          t->offset + i * stride[0] + j * stride[1] + k * stride[2] + l * stride[3], mode);
}

static void visit_box(uint32_t storage, int64_t base, const kiln_box *b, kiln_access_mode mode,
                      dag_visit visit, void *context) {
    for (int64_t i = 0; i < b->count[0]; i++)
        for (int64_t j = 0; j < b->count[1]; j++)
            for (int64_t k = 0; k < b->count[2]; k++)
                for (int64_t x = 0; x < b->length; x++)
                    visit(context, storage,
                          base + b->offset + i * b->stride[0] + j * b->stride[1] + k * b->stride[2] + x,
                          mode);
}

void dag_visit_bytes(const kiln_graph *g, size_t node, const int64_t *slots, dag_visit visit, void *context) {
    const kiln__node *n = &g->nodes.items[node];
    const uint32_t *operands = kiln__node_in(g, n);
    if (n->op == &dag_touch_op) {
        const dag_attrs *attrs = kiln__node_attrs(g, n);
        for (uint32_t i = 0; i < attrs->n_accesses; i++) {
            const kiln__tensor *t = &g->tensors.items[operands[attrs->accesses[i].operand]];
            kiln_box box = box_of(&attrs->accesses[i]);
            visit_box(t->storage, t->offset, &box, (kiln_access_mode)attrs->accesses[i].mode, visit, context);
        }
        return;
    }
    for (uint32_t i = 0; i < n->n_in + n->n_out; i++) {
        kiln_storage_kind kind = g->storages.items[g->tensors.items[operands[i]].storage].kind;
        kiln_access_mode mode = i < n->n_in ? KILN_READ : KILN_WRITE;
        if (n->op == &dag_opaque_op && kind != KILN_STORAGE_WEIGHT && kind != KILN_STORAGE_INPUT)
            mode = KILN_READ_WRITE;
        visit_tensor(g, operands[i], slots, mode, visit, context);
    }
}
