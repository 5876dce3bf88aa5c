#include "eager.h"
#include "args.h"
#include "box.h"
#include "infer_util.h"
#include "tile.h"

#include <stdio.h>
#include <stdlib.h>

struct eager {
    const kiln_graph *graph;
    uint32_t cpu;
    unsigned char **storages; /* by storage id */
    int64_t *i64;             /* slot values by id */
    float *f32;
};

static void *must(void *p) {
    if (p == NULL) {
        fprintf(stderr, "eager: out of memory\n");
        abort();
    }
    return p;
}

/* Those that are sums of others, in the order of their declaration. */
static void compute_slots(eager *run) {
    for (size_t i = 1; i < run->graph->slots.count; i++) {
        const kiln__slot *s = &run->graph->slots.items[i];
        int64_t sum = 0;
        for (uint32_t k = 0; k < s->n_terms; k++)
            sum += s->terms[k].n * (s->terms[k].slot ? run->i64[s->terms[k].slot] : 1);
        if (s->n_terms > 0)
            run->i64[i] = sum;
    }
}

eager *eager_new(const kiln_graph *g, uint32_t cpu) {
    eager *run = must(calloc(1, sizeof *run));
    run->graph = g;
    run->cpu = cpu;
    run->storages = must(calloc(g->storages.count, sizeof *run->storages));
    run->i64 = must(calloc(g->slots.count, sizeof *run->i64));
    run->f32 = must(calloc(g->slots.count, sizeof *run->f32));
    for (size_t i = 1; i < g->slots.count; i++) {
        run->i64[i] = g->slots.items[i].min;
        run->f32[i] = g->slots.items[i].preset;
    }
    compute_slots(run);
    for (size_t i = 1; i < g->storages.count; i++) {
        const kiln__storage *s = &g->storages.items[i];
        size_t size = ((size_t)s->size + 64) & ~(size_t)63;
        run->storages[i] = must(aligned_alloc(64, size));
        memset(run->storages[i], s->kind == KILN_STORAGE_INPUT || s->kind == KILN_STORAGE_STATE ? 0 : 0xff,
               size);
        if (s->data != NULL && s->kind == KILN_STORAGE_WEIGHT)
            memcpy(run->storages[i], s->data, (size_t)s->size);
    }
    return run;
}

void eager_free(eager *run) {
    if (run == NULL)
        return;
    for (size_t i = 1; i < run->graph->storages.count; i++)
        free(run->storages[i]);
    free(run->storages);
    free(run->i64);
    free(run->f32);
    free(run);
}

void *eager_data(eager *run, kiln_tensor tensor) {
    const kiln__tensor *t = &run->graph->tensors.items[tensor.id];
    return run->storages[t->storage] + t->offset;
}

void eager_set_i64(eager *run, kiln_slot slot, int64_t value) {
    run->i64[slot.id] = value;
    compute_slots(run);
}

void eager_set_f32(eager *run, kiln_slot slot, float value) {
    run->f32[slot.id] = value;
}

static void fill_operand(eager *run, uint32_t id, kiln_operand *o) {
    memset(o, 0, sizeof *o);
    if (id == 0)
        return;
    const kiln__tensor *t = &run->graph->tensors.items[id];
    const kiln_desc *desc = kiln__desc_of(run->graph, t);
    int64_t ne[KILN_MAX_DIMS];
    for (uint32_t i = 0; i < desc->ndim; i++)
        ne[i] = desc->dims[i].n * (desc->dims[i].slot ? run->i64[desc->dims[i].slot] : 1);
    kiln__operand_fill(o, desc, ne);
    o->data = run->storages[t->storage] + t->offset;
}

static void patch_attrs(eager *run, const kiln_op *op, unsigned char *attrs) {
    for (uint32_t i = 0; i < op->n_attrs; i++) {
        void *at = attrs + op->attrs[i].offset;
        if (op->attrs[i].type == KILN_ATTR_I64_SLOT && ((kiln_i64_value *)at)->slot)
            ((kiln_i64_value *)at)->value = run->i64[((kiln_i64_value *)at)->slot];
        if (op->attrs[i].type == KILN_ATTR_F32_SLOT && ((kiln_f32_value *)at)->slot)
            ((kiln_f32_value *)at)->value = run->f32[((kiln_f32_value *)at)->slot];
    }
}

/* One node, its tiles in `split` pieces from the last to the first. */
static kiln_status run_node(eager *run, size_t index, int64_t split, kiln__tile_sink *sink) {
    const kiln_graph *g = run->graph;
    const kiln__node *n = &g->nodes.items[index];
    kiln_operand *operands = must(calloc(n->n_in + n->n_out + 1, sizeof *operands));
    for (uint32_t i = 0; i < n->n_in + n->n_out; i++)
        fill_operand(run, g->operands.items[n->operands + i], &operands[i]);
    _Alignas(8) unsigned char attrs[256];
    if (n->op->attrs_size > 0) {
        memcpy(attrs, kiln__node_attrs(g, n), n->op->attrs_size);
        patch_attrs(run, n->op, attrs);
    }
    kiln_args args = {n->n_in, n->n_out, operands, operands + n->n_in, n->op->attrs_size ? attrs : NULL};
    kiln__args_flatten(&args);
    const kiln_kernel *k = kiln__kernel_choose(n->op, &args, run->cpu);
    kiln_status status = KILN_ERROR_UNSUPPORTED;
    if (k != NULL) {
        int64_t tiles = k->tiles ? k->tiles(&args) : 1, scratch = k->scratch ? k->scratch(&args) : 0;
        unsigned char *bytes = must(aligned_alloc(64, ((size_t)scratch + 64) & ~(size_t)63));
        status = KILN_OK;
        if (split > tiles)
            split = tiles;
        for (int64_t p = split; p-- > 0 && status == KILN_OK;) {
            memset(bytes, 0xff, (size_t)scratch);
            kiln_tile tile = {tiles * p / split, tiles * (p + 1) / split, bytes, sink, false};
            status = k->run(&args, &tile);
        }
        free(bytes);
    }
    free(operands);
    return status;
}

/* ---- what slots show to be impossible ------------------------------------------------------------------ */

static int64_t count_of(const eager *run, uint32_t id, int axis) {
    const kiln_desc *d = kiln__desc_of(run->graph, &run->graph->tensors.items[id]);
    kiln_dim dim = d->dims[axis < 0 ? (int)d->ndim + axis : axis];
    return dim.n * (dim.slot ? run->i64[dim.slot] : 1);
}

static bool follows(const eager *run, uint32_t id, int axis) {
    const kiln_desc *d = kiln__desc_of(run->graph, &run->graph->tensors.items[id]);
    return d->dims[axis < 0 ? (int)d->ndim + axis : axis].slot != 0;
}

static bool is_empty(const eager *run, uint32_t id) {
    const kiln_desc *d = kiln__desc_of(run->graph, &run->graph->tensors.items[id]);
    int64_t n = 1;
    for (uint32_t i = 0; i < d->ndim; i++)
        n *= count_of(run, id, (int)i);
    return n == 0;
}

static int64_t value_of(const eager *run, kiln_i64_value v) {
    return v.slot ? run->i64[v.slot] : v.value;
}

/* The attributes of an append; NULL for another op. */
static const kiln_set_rows_attrs *append_attrs(const kiln_graph *g, const kiln__node *n, uint32_t *indices) {
    *indices = 2;
    if (n->op == &kiln__op_set_rows)
        return kiln__node_attrs(g, n);
    *indices = 3;
    return n->op == &kiln__op_rope_set_rows
               ? &((const kiln_rope_set_rows_attrs *)kiln__node_attrs(g, n))->rows
               : NULL;
}

static bool has_input(const kiln_graph *g, const kiln__node *n, uint32_t i) {
    return i < n->n_in && kiln__node_in(g, n)[i] != 0;
}

static bool append_is_impossible(const eager *run, const kiln__node *n) {
    const kiln_graph *g = run->graph;
    uint32_t indices;
    const kiln_set_rows_attrs *a = append_attrs(g, n, &indices);
    if (a == NULL || a->ring || has_input(g, n, indices))
        return false;
    uint32_t dst = kiln__node_in(g, n)[0], rows = kiln__node_in(g, n)[1];
    int64_t first = value_of(run, a->position);
    return (a->position.slot != 0 || follows(run, dst, 0) || follows(run, rows, 0)) && !is_empty(run, rows) &&
           (first < 0 || first + count_of(run, rows, 0) > count_of(run, dst, 0));
}

/* How many rows of the keys are filled by the appends before node `end`; -1 where that is not known, as where
 * a later node writes them, too. `moves`: where or how much is appended follows a slot. */
static int64_t rows_filled(const eager *run, size_t end, uint32_t keys, bool *moves) {
    const kiln_graph *g = run->graph;
    const kiln__tensor *t = &g->tensors.items[keys];
    const kiln_desc *d = kiln__desc_of(g, t);
    kiln_box read = kiln__tensor_box(g, t, NULL);
    kiln_access_list list = {.graph = g, .allocator = kiln_allocator_default()};
    int64_t filled = -1;
    bool known = true;
    *moves = false;
    for (size_t i = 0; i < g->nodes.count && known; i++) {
        const kiln__node *n = &g->nodes.items[i];
        kiln__access_clear(&list);
        if (kiln__access_collect(&list, i, NULL) != KILN_OK)
            abort();
        for (size_t k = 0; k < list.count && known; k++) {
            const kiln__access *a = &list.items[k];
            kiln_box box = kiln__access_box(&list, a);
            uint32_t indices;
            const kiln_set_rows_attrs *attrs = append_attrs(g, n, &indices);
            known = a->operand != KILN__OPERAND_ANY;
            if (!known || !(a->mode & KILN_WRITE) || a->storage != t->storage ||
                !kiln__box_overlap(&box, &read))
                continue;
            const kiln__tensor *dst = &g->tensors.items[kiln__node_in(g, n)[0]];
            int64_t stride = kiln__desc_of(g, dst)->strides[0];
            known = i < end && attrs != NULL && !attrs->ring && !has_input(g, n, indices) &&
                    value_of(run, attrs->position) >= 0 && stride > 0 && stride == d->strides[d->ndim - 2] &&
                    t->offset >= dst->offset;
            if (!known)
                continue;
            int64_t rows = value_of(run, attrs->position) + count_of(run, kiln__node_in(g, n)[1], 0) -
                           (t->offset - dst->offset) / stride;
            filled = rows > filled ? rows : filled;
            filled = filled > 0 ? filled : 0;
            *moves = *moves || attrs->position.slot != 0 || follows(run, kiln__node_in(g, n)[1], 0) ||
                     follows(run, kiln__node_in(g, n)[0], 0);
        }
    }
    kiln__access_free(&list);
    return known ? filled : -1;
}

static bool attention_is_impossible(const eager *run, size_t index) {
    const kiln_graph *g = run->graph;
    const kiln__node *n = &g->nodes.items[index];
    if (n->op != &kiln__op_attention)
        return false;
    const kiln_attention_attrs *a = kiln__node_attrs(g, n);
    uint32_t q = kiln__node_in(g, n)[0], k = kiln__node_in(g, n)[1];
    int64_t first = value_of(run, a->q_position), queries = count_of(run, q, -2), keys = count_of(run, k, -2);
    if (a->ring || is_empty(run, kiln__node_out(g, n)[0]))
        return false;
    if (a->causal && (a->q_position.slot || follows(run, q, -2) || follows(run, k, -2)) &&
        first + queries > keys)
        return true;
    int64_t filled[2];
    bool moves[2] = {false, false};
    for (int i = 0; i < 2; i++)
        filled[i] = has_input(g, n, 3) ? -1 : rows_filled(run, index, kiln__node_in(g, n)[1 + i], &moves[i]);
    for (int i = 0; i < 2; i++) {
        bool bound = filled[i] >= 0 && (moves[i] || (filled[1 - i] >= 0 && moves[1 - i]));
        if (bound && follows(run, kiln__node_in(g, n)[1 + i], -2) && keys > filled[i])
            return true;
    }
    int64_t seen = filled[0] < keys ? filled[0] : keys;
    return filled[0] >= 0 && a->causal && !a->q_position.slot && moves[0] && first + queries < seen;
}

bool eager_is_impossible(const eager *run) {
    for (size_t i = 1; i < run->graph->slots.count; i++) {
        const kiln__slot *s = &run->graph->slots.items[i];
        if (s->n_terms > 0 && (run->i64[i] < s->min || run->i64[i] > s->max))
            return true;
    }
    for (size_t i = 0; i < run->graph->nodes.count; i++)
        if (append_is_impossible(run, &run->graph->nodes.items[i]) || attention_is_impossible(run, i))
            return true;
    return false;
}

eager_result eager_run(eager *run, int64_t split) {
    eager_result result = {KILN_OK, 0, 0, 0, 0};
    for (size_t i = 0; i < run->graph->nodes.count; i++) {
        kiln__tile_sink sink = {0};
        kiln_status status = run_node(run, i, split, &sink);
        if (status != KILN_OK)
            return (eager_result){status, i, 0, 0, 0};
        if ((sink.reports & KILN__SINK_BAD_INDEX) && result.status == KILN_OK)
            result = (eager_result){KILN_ERROR_INDEX, i, sink.row, sink.index, sink.limit};
    }
    return result;
}
