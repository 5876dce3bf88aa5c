#include "op_case.h"
#include "dtype_kernels.h"
#include "cpu_features.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { GUARD = 64 };

/* ---- values -------------------------------------------------------------------------------------------- */

uint64_t op_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double op_random_between(uint64_t *state, double lo, double hi) {
    return lo + (hi - lo) * ((double)(op_random(state) >> 11) * 0x1p-53);
}

double op_f16_decode(uint16_t bits) {
    int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    double v = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return bits & 0x8000 ? -v : v;
}

/* By the definition: the nearest multiple of the last place, ties to even (the mode of nearbyint). */
uint16_t op_f16_encode(double value) {
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double a = fabs(value);
    if (isnan(value))
        return (uint16_t)(sign | 0x7e00);
    int exponent = a < 0x1p-14 ? -14 : a > 0x1p16 ? 16 : ilogb(a);
    double units = nearbyint(ldexp(a, 10 - exponent)); /* may round up to 2048: the carry is right */
    double bits = exponent == -14 ? units : units + 1024.0 * (exponent + 14);
    return (uint16_t)(sign | (bits > 0x7c00 ? 0x7c00 : (uint16_t)bits));
}

static double bf16_decode(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &wide, sizeof f);
    return (double)f;
}

static uint16_t bf16_encode(double value) {
    float f = (float)value;
    uint32_t wide;
    memcpy(&wide, &f, sizeof wide);
    if (isnan(value))
        return (uint16_t)((wide >> 16) | 0x40);
    uint32_t rest = wide & 0xffff, up = rest > 0x8000 || (rest == 0x8000 && (wide & 0x10000));
    return (uint16_t)((wide >> 16) + up);
}

double op_decode(kiln_dtype dtype, const void *row, int64_t i) {
    switch (dtype) {
    case KILN_F32:
        return (double)((const float *)row)[i];
    case KILN_F16:
        return op_f16_decode(((const uint16_t *)row)[i]);
    case KILN_BF16:
        return bf16_decode(((const uint16_t *)row)[i]);
    case KILN_I32:
        return ((const int32_t *)row)[i];
    case KILN_U32:
        return ((const uint32_t *)row)[i];
    case KILN_I64:
        return (double)((const int64_t *)row)[i];
    case KILN_U8:
        return ((const uint8_t *)row)[i];
    default:
        return (double)NAN;
    }
}

void op_encode(kiln_dtype dtype, void *row, int64_t i, double value) {
    switch (dtype) {
    case KILN_F32:
        ((float *)row)[i] = (float)value;
        break;
    case KILN_F16:
        ((uint16_t *)row)[i] = op_f16_encode((double)(float)value);
        break;
    case KILN_BF16:
        ((uint16_t *)row)[i] = bf16_encode(value);
        break;
    case KILN_I32:
        ((int32_t *)row)[i] = (int32_t)value;
        break;
    case KILN_U32:
        ((uint32_t *)row)[i] = (uint32_t)(int64_t)value;
        break;
    case KILN_I64:
        ((int64_t *)row)[i] = (int64_t)value;
        break;
    case KILN_U8:
        ((uint8_t *)row)[i] = (uint8_t)value;
        break;
    default:
        fail_msg("op_encode: dtype %d", (int)dtype);
    }
}

void op_decode_row(kiln_dtype dtype, const void *row, int64_t n, double *out) {
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    if (info->block == 1) {
        for (int64_t i = 0; i < n; i++)
            out[i] = op_decode(dtype, row, i);
        return;
    }
    /* Block by block through the plainest kernel, which test_dtypes holds against the reference bits. */
    float block[256];
    for (int64_t b = 0; b < n / info->block; b++) {
        kiln__dtype_base[dtype].to_f32((const unsigned char *)row + b * info->bytes, block, info->block);
        for (uint32_t i = 0; i < info->block; i++)
            out[b * info->block + i] = (double)block[i];
    }
}

void op_random_blocks(kiln_dtype dtype, void *row, int64_t n, uint64_t *state) {
    /* Where a block's f16 scales stand. */
    static const struct {
        int count, at[2];
    } scales[KILN_DTYPE_COUNT] = {
        [KILN_Q4_0] = {1, {0}},   [KILN_Q5_1] = {2, {0, 2}}, [KILN_Q8_0] = {1, {0}},
        [KILN_IQ4_NL] = {1, {0}}, [KILN_Q4_K] = {2, {0, 2}}, [KILN_Q5_K] = {2, {0, 2}},
        [KILN_Q6_K] = {1, {208}},
    };
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    unsigned char *p = row;
    for (int64_t b = 0; b < n / info->block; b++, p += info->bytes) {
        for (uint32_t i = 0; i < info->bytes; i++)
            p[i] = (unsigned char)op_random(state);
        for (int s = 0; s < scales[dtype].count; s++) {
            uint16_t h = op_f16_encode(op_random_between(state, -0.01, 0.01));
            memcpy(p + scales[dtype].at[s], &h, sizeof h);
        }
    }
}

/* ---- levels -------------------------------------------------------------------------------------------- */

const op_level *op_levels(size_t *count) {
    static const op_level all[] = {
#define LEVEL(level, features, unused) {#level, features},
        KILN_CPU_EACH(LEVEL, )
#undef LEVEL
    };
    size_t n = 0;
    while (n < sizeof all / sizeof all[0] && (all[n].cpu & kiln__cpu_features()) == all[n].cpu)
        n++;
    *count = n;
    return all;
}

/* ---- building ------------------------------------------------------------------------------------------ */

typedef struct op_run {
    const op_case *c;
    kiln_graph *graph;
    uint32_t in[OP_MAX_IN], out[OP_MAX_OUT];
    uint32_t n_out;
    _Alignas(8) unsigned char attrs[256];
    eager *eager;
    const char *level;
    unsigned char **before, **after; /* bytes of every storage, by id */
} op_run;

static void *must(void *p) {
    if (p == NULL)
        fail_msg("out of memory");
    return p;
}

/* Strides for the memory order, gaps and repeats that the case asks for; returns the bytes spanned. */
static int64_t lay_out(const kiln_graph *g, const op_in *in, kiln_desc *desc) {
    const kiln_dtype_info *info = kiln_dtype_get(in->dtype);
    assert_non_null(info);
    int64_t stride = info->bytes, span = info->bytes;
    desc->dtype = in->dtype;
    desc->ndim = in->ndim;
    for (uint32_t step = in->ndim; step-- > 0;) {
        uint32_t a = in->order ? (uint32_t)(in->order[step] - '0') : step;
        desc->dims[a] = (kiln_dim){in->dims[a], in->slots[a]};
        int64_t n = kiln__dim_max(g, desc->dims[a]) / (a == in->ndim - 1 ? info->block : 1);
        desc->strides[a] = in->repeat >> a & 1 ? 0 : stride;
        if (n > 0)
            span += (n - 1) * desc->strides[a];
        if (desc->strides[a] != 0 && n > 0)
            stride *= n;
        if (step == in->ndim - 1)
            stride += in->pad * info->bytes;
    }
    return span;
}

static uint32_t add_tensor(kiln_graph *g, kiln_storage_kind kind, const char *prefix, uint32_t index,
                           const kiln_desc *desc, int64_t span) {
    char name[32];
    snprintf(name, sizeof name, "%s%u", prefix, index);
    uint32_t s = kiln__storage_new(g, kind, name, span + 2 * GUARD);
    return s ? kiln__tensor_new(g, s, GUARD, desc) : 0;
}

static void build_inputs(op_run *r) {
    const op_case *c = r->c;
    assert_true(c->n_in <= OP_MAX_IN && c->op->n_out <= OP_MAX_OUT);
    assert_int_equal(kiln_graph_create(NULL, &r->graph, NULL), KILN_OK);
    for (uint32_t i = 0; i < c->n_slots; i++) {
        char name[32];
        snprintf(name, sizeof name, "slot%u", i);
        (void)kiln__slot_new(r->graph, name, c->slots[i].is_float, c->slots[i].min, c->slots[i].max,
                             c->slots[i].number);
    }
    for (uint32_t i = 0; i < c->n_in; i++) {
        if (c->in[i].dtype == KILN_DTYPE_NONE)
            continue;
        kiln_desc desc = {0};
        int64_t span = lay_out(r->graph, &c->in[i], &desc);
        r->in[i] = add_tensor(r->graph, c->in[i].kind, "in", i, &desc, span);
    }
    if (c->attrs != NULL)
        memcpy(r->attrs, c->attrs, c->op->attrs_size);
    else
        kiln_op_defaults(c->op, r->attrs);
    kiln_error error;
    if (kiln_graph_check(r->graph, &error) != KILN_OK)
        fail_msg("%s: %s", c->name, error.text);
}

/* The node with outputs on guarded storages of their own, or on the operands that they alias. */
static void build_node(op_run *r) {
    const op_case *c = r->c;
    kiln_graph *g = r->graph;
    kiln_desc desc[OP_MAX_OUT];
    int32_t alias[OP_MAX_OUT];
    const void *attrs = c->op->attrs_size ? r->attrs : NULL;
    kiln_error error;
    if (kiln__node_infer(g, c->op, c->name, r->in, c->n_in, attrs, desc, alias, &r->n_out) == KILN_OK) {
        for (uint32_t j = 0; j < r->n_out; j++) {
            int64_t bytes = 0;
            if (alias[j] >= 0) {
                const kiln__tensor *t = &g->tensors.items[r->in[alias[j]]];
                r->out[j] = kiln__tensor_new(g, t->storage, t->offset, &desc[j]);
            } else if (kiln__desc_dense(g, &desc[j], &bytes, NULL) == KILN_OK) {
                r->out[j] = add_tensor(g, KILN_STORAGE_OUTPUT, "out", j, &desc[j], bytes);
            }
        }
        (void)kiln__node_emit(g, c->op, "", r->in, c->n_in, r->out, r->n_out, attrs);
    }
    if (kiln_graph_check(g, &error) != KILN_OK)
        fail_msg("%s: %s", c->name, error.text);
}

static int64_t storage_size(const op_run *r, size_t storage) {
    return r->graph->storages.items[storage].size;
}

/* The first byte of a storage: every storage has some tensor at GUARD. */
static unsigned char *storage_bytes(const op_run *r, size_t storage) {
    for (size_t t = 1; t < r->graph->tensors.count; t++)
        if (r->graph->tensors.items[t].storage == storage)
            return (unsigned char *)eager_data(r->eager, (kiln_tensor){(uint32_t)t, r->graph->tag}) - GUARD;
    fail_msg("%s: a storage without a tensor", r->c->name);
    return NULL;
}

/* ---- reading and writing values ------------------------------------------------------------------------ */

static void shape_now(const op_run *r, uint32_t tensor, op_values *v) {
    const kiln_desc *d = kiln__desc_of(r->graph, &r->graph->tensors.items[tensor]);
    *v = (op_values){.dtype = d->dtype, .ndim = d->ndim, .ne = {1, 1, 1, 1}, .n = 1};
    for (uint32_t i = 0; i < d->ndim; i++) {
        uint32_t slot = d->dims[i].slot;
        int64_t n = d->dims[i].n * (slot ? r->c->slots[slot - 1].value : 1);
        v->ne[KILN_MAX_DIMS - d->ndim + i] = n;
        v->n *= n;
    }
}

/* Calls `visit` with the address of each innermost row of a tensor in `bytes` (its storage). */
static void each_row(const op_run *r, uint32_t tensor, const op_values *v, unsigned char *bytes,
                     void (*visit)(const kiln_desc *d, const op_values *v, unsigned char *row, int64_t at)) {
    const kiln__tensor *t = &r->graph->tensors.items[tensor];
    const kiln_desc *desc = kiln__desc_of(r->graph, t);
    int64_t row_n = v->ne[KILN_MAX_DIMS - 1];
    for (int64_t i = 0; row_n > 0 && i < v->n / row_n; i++) {
        int64_t rest = i, at = t->offset;
        for (int axis = (int)desc->ndim - 2; axis >= 0; axis--) {
            int64_t n = v->ne[KILN_MAX_DIMS - (int)desc->ndim + axis];
            at += rest % n * desc->strides[axis];
            rest /= n;
        }
        visit(desc, v, bytes + at, i * row_n);
    }
}

static void read_row(const kiln_desc *d, const op_values *v, unsigned char *row, int64_t at) {
    const kiln_dtype_info *info = kiln_dtype_get(d->dtype);
    int64_t n = v->ne[KILN_MAX_DIMS - 1], stride = d->strides[d->ndim - 1];
    for (int64_t b = 0; b < n / info->block; b++)
        op_decode_row(d->dtype, row + b * stride, info->block, v->v + at + b * info->block);
}

static void write_row(const kiln_desc *d, const op_values *v, unsigned char *row, int64_t at) {
    int64_t stride = d->strides[d->ndim - 1];
    for (int64_t i = 0; i < v->ne[KILN_MAX_DIMS - 1]; i++)
        op_encode(d->dtype, row + i * stride, 0, v->v[at + i]);
}

/* `slack` carries the dense bytes that a case's `make` filled, in row order. */
static void copy_row(const kiln_desc *d, const op_values *v, unsigned char *row, int64_t at) {
    const kiln_dtype_info *info = kiln_dtype_get(d->dtype);
    int64_t blocks = v->ne[KILN_MAX_DIMS - 1] / info->block;
    const unsigned char *from = (const unsigned char *)v->slack + at / info->block * info->bytes;
    for (int64_t b = 0; b < blocks; b++)
        memcpy(row + b * d->strides[d->ndim - 1], from + b * info->bytes, info->bytes);
}

static bool is_scalar_int(kiln_dtype dtype) {
    return kiln_dtype_get(dtype)->kind == KILN_KIND_INT;
}

static void fill_input(op_run *r, uint32_t i, op_values *all, uint64_t *state) {
    const op_in *in = &r->c->in[i];
    op_values *v = &all[i];
    shape_now(r, r->in[i], v);
    v->v = must(calloc((size_t)v->n + 1, sizeof *v->v));
    const kiln_dtype_info *info = kiln_dtype_get(in->dtype);
    unsigned char *bytes = r->before[r->graph->tensors.items[r->in[i]].storage];
    if (in->data != NULL || (in->make == NULL && info->block == 1)) {
        bool preset = in->lo == 0 && in->hi == 0, whole = is_scalar_int(in->dtype);
        double lo = preset ? (whole ? 0 : -1) : in->lo, hi = preset ? (whole ? 3 : 1) : in->hi;
        for (int64_t e = 0; e < v->n; e++)
            v->v[e] = in->data ? in->data[(size_t)e % in->n_data]
                      : whole  ? floor(op_random_between(state, lo, hi + 1))
                               : op_random_between(state, lo, hi);
        each_row(r, r->in[i], v, bytes, write_row);
    } else {
        unsigned char *dense = must(calloc((size_t)(v->n / info->block) + 1, info->bytes));
        if (in->make != NULL)
            in->make(r->c, all, i, dense);
        else
            op_random_blocks(in->dtype, dense, v->n, state);
        v->slack = (double *)(void *)dense;
        each_row(r, r->in[i], v, bytes, copy_row);
        v->slack = NULL;
        free(dense);
    }
    each_row(r, r->in[i], v, bytes, read_row); /* what the dtype made of them */
}

/* ---- checks -------------------------------------------------------------------------------------------- */

/* Marks in maps[storage] the bytes of an access box. */
static void mark_box(const op_run *r, unsigned char **maps, const kiln_access_list *list,
                     const kiln__access *a, unsigned char bit) {
    const kiln_box box = kiln__access_box(list, a), *b = &box;
    if (a->operand == KILN__OPERAND_ANY) {
        for (size_t s = 1; s < r->graph->storages.count; s++)
            memset(maps[s], bit, (size_t)storage_size(r, s));
        return;
    }
    for (int64_t i = 0; i < b->count[0]; i++)
        for (int64_t j = 0; j < b->count[1]; j++)
            for (int64_t k = 0; k < b->count[2]; k++)
                for (int64_t n = 0; n < b->length; n++)
                    maps[a->storage]
                        [b->offset + i * b->stride[0] + j * b->stride[1] + k * b->stride[2] + n] |= bit;
}

static unsigned char **storage_arrays(const op_run *r) {
    unsigned char **arrays = must(calloc(r->graph->storages.count, sizeof *arrays));
    for (size_t s = 1; s < r->graph->storages.count; s++)
        arrays[s] = must(calloc((size_t)storage_size(r, s), 1));
    return arrays;
}

static void free_arrays(const op_run *r, unsigned char **arrays) {
    for (size_t s = 1; s < r->graph->storages.count; s++)
        free(arrays[s]);
    free(arrays);
}

/* bit 1: declared as read, bit 2: as written */
static unsigned char **access_maps(const op_run *r) {
    unsigned char **maps = storage_arrays(r);
    kiln_access_list list = {.graph = r->graph, .allocator = kiln_allocator_default()};
    kiln_error error;
    if (kiln__access_collect(&list, 0, &error) != KILN_OK)
        fail_msg("%s: %s", r->c->name, error.text);
    for (size_t i = 0; i < list.count; i++)
        mark_box(r, maps, &list, &list.items[i], (unsigned char)list.items[i].mode);
    kiln__access_free(&list);
    return maps;
}

/* Copies `before` into the run's storages, runs the node, and keeps what stands there then in `after`. */
static void run_once(op_run *r, int64_t split, unsigned char **after) {
    for (size_t s = 1; s < r->graph->storages.count; s++)
        memcpy(storage_bytes(r, s), r->before[s], (size_t)storage_size(r, s));
    eager_result result = eager_run(r->eager, split);
    const op_case *c = r->c;
    if (result.status != c->expect)
        fail_msg("%s, %s, split %lld: status %s, expected %s", c->name, r->level, (long long)split,
                 kiln_status_name(result.status), kiln_status_name(c->expect));
    if (c->expect == KILN_ERROR_INDEX &&
        (result.row != c->bad_row || result.index != c->bad_index || result.limit != c->bad_limit))
        fail_msg("%s, %s, split %lld: bad index at row %lld: %lld, limit %lld; expected row %lld: %lld, "
                 "limit %lld",
                 c->name, r->level, (long long)split, (long long)result.row, (long long)result.index,
                 (long long)result.limit, (long long)c->bad_row, (long long)c->bad_index,
                 (long long)c->bad_limit);
    for (size_t s = 1; s < r->graph->storages.count; s++)
        memcpy(after[s], storage_bytes(r, s), (size_t)storage_size(r, s));
}

static void check_untouched(const op_run *r, unsigned char **maps, unsigned char **after, const char *when) {
    for (size_t s = 1; s < r->graph->storages.count; s++)
        for (int64_t i = 0; i < storage_size(r, s); i++)
            if (!(maps[s][i] & KILN_WRITE) && after[s][i] != r->before[s][i])
                fail_msg("%s, %s, %s: byte %lld of storage %s changed, and is not declared as written",
                         r->c->name, r->level, when, (long long)(i - GUARD),
                         kiln__text(r->graph, r->graph->storages.items[s].name));
}

static void check_splits(op_run *r, unsigned char **maps) {
    static const int64_t splits[] = {1, 3, INT64_MAX};
    unsigned char **other = storage_arrays(r);
    run_once(r, splits[0], r->after);
    check_untouched(r, maps, r->after, "1 piece");
    for (size_t i = 1; i < sizeof splits / sizeof splits[0]; i++) {
        run_once(r, splits[i] == INT64_MAX ? (1 << 20) : splits[i], other);
        for (size_t s = 1; s < r->graph->storages.count; s++)
            if (memcmp(other[s], r->after[s], (size_t)storage_size(r, s)) != 0)
                fail_msg("%s, %s: the bytes of %s depend on how tiles are split (%s)", r->c->name, r->level,
                         kiln__text(r->graph, r->graph->storages.items[s].name), i == 1 ? "3" : "all");
    }
    free_arrays(r, other);
}

/* Other bytes where the op says it does not read: what it writes must stay the same. */
static void check_unread(op_run *r, unsigned char **maps, uint64_t *state) {
    unsigned char **kept = r->before, **changed = storage_arrays(r), **other = storage_arrays(r);
    for (size_t s = 1; s < r->graph->storages.count; s++)
        for (int64_t i = 0; i < storage_size(r, s); i++)
            changed[s][i] = maps[s][i] & KILN_READ ? kept[s][i] : (unsigned char)op_random(state);
    r->before = changed;
    run_once(r, 1, other);
    check_untouched(r, maps, other, "unread bytes changed");
    r->before = kept;
    for (size_t s = 1; s < r->graph->storages.count; s++)
        for (int64_t i = 0; i < storage_size(r, s); i++) {
            bool untouched = r->after[s][i] == kept[s][i] && other[s][i] == changed[s][i];
            if ((maps[s][i] & KILN_WRITE) && r->after[s][i] != other[s][i] && !untouched)
                fail_msg("%s, %s: byte %lld of %s depends on bytes that are not declared as read", r->c->name,
                         r->level, (long long)(i - GUARD),
                         kiln__text(r->graph, r->graph->storages.items[s].name));
        }
    free_arrays(r, changed);
    free_arrays(r, other);
}

static bool close_enough(const op_case *c, const op_values *want, int64_t i, double got) {
    double e = want->v[i];
    if (isnan(e) || isnan(got))
        return isnan(e) && isnan(got);
    if (isinf(e) || isinf(got) || is_scalar_int(want->dtype))
        return e == got;
    double size = fmax(fabs(e), want->slack[i]);
    return fabs(got - e) <= c->abs + c->rel * size;
}

static void check_values(const op_run *r, const op_values *want) {
    for (uint32_t j = 0; j < r->n_out; j++) {
        op_values got = want[j];
        got.v = must(calloc((size_t)got.n + 1, sizeof *got.v));
        each_row(r, r->out[j], &got, r->after[r->graph->tensors.items[r->out[j]].storage], read_row);
        for (int64_t i = 0; i < got.n; i++)
            if (!close_enough(r->c, &want[j], i, got.v[i]))
                fail_msg(
                    "%s, %s: output %s[%lld] (row %lld, column %lld) is %.9g, expected %.9g (magnitude %.9g)",
                    r->c->name, r->level, r->c->op->out_names[j], (long long)i, (long long)(i / got.ne[3]),
                    (long long)(i % got.ne[3]), got.v[i], want[j].v[i], want[j].slack[i]);
        free(got.v);
    }
}

/* ---- running ------------------------------------------------------------------------------------------- */

static void run_levels(op_run *r, const op_values *want, uint64_t *state) {
    size_t n_levels;
    const op_level *levels = op_levels(&n_levels);
    unsigned char **maps = access_maps(r);
    for (size_t l = 0; l < n_levels; l++) {
        r->level = levels[l].name;
        r->eager = eager_new(r->graph, levels[l].cpu);
        for (uint32_t i = 0; i < r->c->n_slots; i++) {
            kiln_slot slot = {i + 1, r->graph->tag};
            if (r->c->slots[i].is_float)
                eager_set_f32(r->eager, slot, r->c->slots[i].number);
            else
                eager_set_i64(r->eager, slot, r->c->slots[i].value);
        }
        check_splits(r, maps);
        check_values(r, want);
        check_unread(r, maps, state);
        eager_free(r->eager);
    }
    free_arrays(r, maps);
}

void op_case_run(const op_case *c) {
    op_run r = {.c = c};
    op_values in[OP_MAX_IN] = {{0}}, out[OP_MAX_OUT] = {{0}};
    uint64_t state = 0;
    for (const char *p = c->name; *p; p++)
        state = state * 131 + (unsigned char)*p;
    build_inputs(&r);
    build_node(&r);
    r.before = storage_arrays(&r);
    r.after = storage_arrays(&r);
    for (size_t s = 1; s < r.graph->storages.count; s++)
        for (int64_t i = 0; i < storage_size(&r, s); i++)
            r.before[s][i] = (unsigned char)op_random(&state);
    for (uint32_t i = 0; i < c->n_in; i++)
        if (r.in[i] != 0)
            fill_input(&r, i, in, &state);
    for (uint32_t j = 0; j < r.n_out; j++) {
        shape_now(&r, r.out[j], &out[j]);
        out[j].v = must(calloc((size_t)out[j].n + 1, sizeof(double)));
        out[j].slack = must(calloc((size_t)out[j].n + 1, sizeof(double)));
    }
    c->oracle(c, in, out);
    run_levels(&r, out, &state);
    for (uint32_t i = 0; i < c->n_in; i++)
        free(in[i].v);
    for (uint32_t j = 0; j < r.n_out; j++) {
        free(out[j].v);
        free(out[j].slack);
    }
    free_arrays(&r, r.before);
    free_arrays(&r, r.after);
    kiln_graph_destroy(r.graph);
}

void op_cases_run(const op_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++)
        op_case_run(&cases[i]);
}

void op_case_refused(const op_case *c, kiln_status status, const char *text) {
    op_run r = {.c = c};
    kiln_tensor in[OP_MAX_IN] = {{0}}, out[OP_MAX_OUT];
    kiln_error error = {0};
    build_inputs(&r);
    for (uint32_t i = 0; i < c->n_in; i++)
        in[i] = (kiln_tensor){r.in[i], r.in[i] ? r.graph->tag : 0};
    kiln_status got = kiln_node_add(r.graph, c->op, in, c->n_in, c->op->attrs_size ? r.attrs : NULL, out);
    if (got != status || kiln_graph_check(r.graph, &error) != status)
        fail_msg("%s: status %s (%s), expected %s", c->name, kiln_status_name(got), error.text,
                 kiln_status_name(status));
    char want[KILN_ERROR_TEXT_SIZE];
    snprintf(want, sizeof want, "node '%s.0' (%s)%s%s", c->op->name, c->op->name, text[0] == ' ' ? "" : ": ",
             text);
    assert_string_equal(error.text, want);
    kiln_graph_destroy(r.graph);
}
