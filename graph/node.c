/* Nodes: attribute checks, inference, and adding them. */
#include "graph.h"
#include "fp_mode.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    MAX_OPERANDS = 1024, /* per node; bounds what inference keeps on the stack */
    MAX_ATTRS = 256
};

/* The label of the node being added, for messages: made only when there is one. Functions here have the graph, the op
 * and the node's name (NULL or "": none) at hand. */
#define WHO kiln__new_node_label(g, op, name, (char[KILN__LABEL_SIZE]){0})

/* What infer functions need for their messages. */
typedef struct infer_context {
    kiln_graph *graph;
    const kiln_op *op;
    const char *name;
} infer_context;

kiln_status kiln_infer_fail(const kiln_infer *infer, kiln_status status, const char *format, ...) {
    const infer_context *c = infer->reserved;
    char text[KILN_ERROR_TEXT_SIZE], label[KILN__LABEL_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return kiln__graph_fail(c->graph, status, "node '%s' (%s): %s",
                            kiln__new_node_label(c->graph, c->op, c->name, label), c->op->name, text);
}

int64_t kiln_infer_dim_max(const kiln_infer *infer, kiln_dim dim) {
    const infer_context *c = infer->reserved;
    return kiln__dim_max(c->graph, dim);
}

const char *kiln_infer_shape_text(const kiln_infer *infer, const kiln_desc *desc,
                                  char buffer[KILN_SHAPE_TEXT_SIZE]) {
    const infer_context *c = infer->reserved;
    return kiln__shape_text(c->graph, desc, buffer);
}

const char *kiln_infer_dim_text(const kiln_infer *infer, kiln_dim dim, char buffer[KILN_SHAPE_TEXT_SIZE]) {
    const infer_context *c = infer->reserved;
    return kiln__dim_text(c->graph, dim, buffer);
}

/* ---- attributes: their defaults and bounds ---------------------------------------------------------- */

void kiln_op_defaults(const kiln_op *op, void *attrs) {
    memset(attrs, 0, op->attrs_size);
    for (uint32_t i = 0; i < op->n_attrs; i++) {
        const kiln_attr *a = &op->attrs[i];
        unsigned char *at = (unsigned char *)attrs + a->offset;
        switch (a->type) {
        case KILN_ATTR_BOOL:
        case KILN_ATTR_OFF: /* zero is the default of both */
            break;
        case KILN_ATTR_ENUM:
            *(uint32_t *)(void *)at = (uint32_t)a->preset;
            break;
        case KILN_ATTR_I64:
        case KILN_ATTR_I64_SLOT: /* the value is the first member */
            *(int64_t *)(void *)at = (int64_t)a->preset;
            break;
        case KILN_ATTR_F32:
        case KILN_ATTR_F32_SLOT:
            *(float *)(void *)at = (float)a->preset;
            break;
        }
    }
}

static bool bounded(const kiln_attr *a) {
    return a->min != 0 || a->max != 0;
}

static kiln_status check_i64(kiln_graph *g, const char *name, const kiln_op *op, const kiln_attr *a,
                             int64_t value, const char *what) {
    if (bounded(a) && ((double)value < a->min || (double)value > a->max))
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                "node '%s' (%s): %s %s is %lld; it must be %.10g to "
                                "%.10g",
                                WHO, op->name, what, a->name, (long long)value, a->min, a->max);
    return KILN_OK;
}

static kiln_status check_f32(kiln_graph *g, const char *name, const kiln_op *op, const kiln_attr *a,
                             float value) {
    if (isnan(value) && !bounded(a))
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                "node '%s' (%s): attribute %s is nan; it must be a number", WHO, op->name,
                                a->name);
    if (isnan(value) || (bounded(a) && ((double)value < a->min || (double)value > a->max)))
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                "node '%s' (%s): attribute %s is %g; it must be %.10g to "
                                "%.10g",
                                WHO, op->name, a->name, (double)value, a->min, a->max);
    return KILN_OK;
}

static kiln_status check_slot(kiln_graph *g, const char *name, const kiln_op *op, const kiln_attr *a,
                              uint32_t slot) {
    bool is_float = a->type == KILN_ATTR_F32_SLOT;
    if (slot >= g->slots.count || g->slots.items[slot].is_float != is_float)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                "node '%s' (%s): attribute %s follows slot %u, which is "
                                "not %s slot of this graph",
                                WHO, op->name, a->name, slot, is_float ? "a float" : "an integer");
    if (is_float)
        return KILN_OK;
    kiln_status status = check_i64(g, name, op, a, g->slots.items[slot].min, "the minimum of the slot for");
    return status != KILN_OK
               ? status
               : check_i64(g, name, op, a, g->slots.items[slot].max, "the maximum of the slot for");
}

static kiln_status check_attr(kiln_graph *g, const char *name, const kiln_op *op, const kiln_attr *a,
                              const unsigned char *at) {
    switch (a->type) {
    case KILN_ATTR_BOOL:
    case KILN_ATTR_OFF:
    case KILN_ATTR_ENUM: {
        uint32_t value = *(const uint32_t *)(const void *)at, n = a->type == KILN_ATTR_ENUM ? a->n_names : 2;
        if (value >= n)
            return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                    "node '%s' (%s): attribute %s is %u; it must be "
                                    "below %u",
                                    WHO, op->name, a->name, value, n);
        return KILN_OK;
    }
    case KILN_ATTR_I64:
        return check_i64(g, name, op, a, *(const int64_t *)(const void *)at, "attribute");
    case KILN_ATTR_F32:
        return check_f32(g, name, op, a, *(const float *)(const void *)at);
    case KILN_ATTR_I64_SLOT: {
        const kiln_i64_value *v = (const void *)at;
        return v->slot ? check_slot(g, name, op, a, v->slot)
                       : check_i64(g, name, op, a, v->value, "attribute");
    }
    case KILN_ATTR_F32_SLOT: {
        const kiln_f32_value *v = (const void *)at;
        return v->slot ? check_slot(g, name, op, a, v->slot) : check_f32(g, name, op, a, v->value);
    }
    }
    return KILN_OK;
}

/* ---- attributes as a caller gives them -------------------------------------------------------------- */

/* kiln_op.h, "How zero is read", for one number: *left_out when it is 0 (then it becomes the default), a
 * spelled zero becomes 0. */
static void plain_i64(const kiln_attr *a, int64_t *value, bool *left_out) {
    *left_out = *value == 0;
    if (*left_out)
        *value = (int64_t)a->preset;
    else if (*value == KILN_ZERO_I64)
        *value = 0;
}

static void plain_f32(const kiln_attr *a, float *value, bool *left_out) {
    uint32_t bits;
    memcpy(&bits, value, sizeof bits);
    *left_out = bits == 0;
    if (*left_out)
        *value = (float)a->preset;
    else if (bits << 1 == 0) /* -0 */
        *value = 0;
}

static void plain_i64_value(const kiln_attr *a, kiln_i64_value *v, bool *left_out) {
    *left_out = v->slot == 0 && v->given == 0 && v->value == 0;
    if (*left_out)
        v->value = (int64_t)a->preset;
    v->given = 0;
}

static kiln_status fail_left_out(kiln_graph *g, const kiln_op *op, const char *name, const kiln_attr *a) {
    char range[64] = "";
    if (a->type == KILN_ATTR_ENUM && a->preset < a->n_names && a->names[(uint32_t)a->preset] != NULL)
        snprintf(range, sizeof range, ", e.g. to %.32s", a->names[(uint32_t)a->preset]);
    else if (bounded(a))
        snprintf(range, sizeof range, " to %.10g … %.10g", a->min, a->max);
    return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                            "node '%s' (%s): attribute %s is 0, and has no default: set it%s", WHO, op->name,
                            a->name, range);
}

/* The same for any attribute, and slots as plain ids. */
static kiln_status plain_attr(kiln_graph *g, const kiln_op *op, const char *name, const kiln_attr *a,
                              void *at) {
    bool left_out = false, known = true;
    switch (a->type) {
    case KILN_ATTR_BOOL:
    case KILN_ATTR_OFF:
        break;
    case KILN_ATTR_ENUM:
        left_out = *(const uint32_t *)at == 0;
        break;
    case KILN_ATTR_I64:
        plain_i64(a, at, &left_out);
        break;
    case KILN_ATTR_F32:
        plain_f32(a, at, &left_out);
        break;
    case KILN_ATTR_I64_SLOT:
        plain_i64_value(a, at, &left_out);
        known = kiln__slot_resolve(g, &((kiln_i64_value *)at)->slot);
        break;
    case KILN_ATTR_F32_SLOT:
        if (((kiln_f32_value *)at)->slot == 0)
            plain_f32(a, &((kiln_f32_value *)at)->value, &left_out);
        known = kiln__slot_resolve(g, &((kiln_f32_value *)at)->slot);
        break;
    }
    if (!known)
        return kiln__graph_fail(
            g, KILN_ERROR_ARGUMENT,
            "node '%s' (%s): attribute %s follows a slot that is not of this graph, or was "
            "not found",
            WHO, op->name, a->name);
    return left_out && a->required ? fail_left_out(g, op, name, a) : KILN_OK;
}

/* A copy of attributes as a caller gave them: defaults in place of zeroes, slots as plain ids. The one
 * place where the C form of an attribute is read. */
static kiln_status plain_attrs(kiln_graph *g, const kiln_op *op, const char *name, const void *attrs,
                               unsigned char copy[MAX_ATTRS]) {
    kiln_status status = KILN_OK;
    if (op->attrs_size > 0)
        memcpy(copy, attrs, op->attrs_size);
    for (uint32_t i = 0; status == KILN_OK && i < op->n_attrs; i++)
        status = plain_attr(g, op, name, &op->attrs[i], copy + op->attrs[i].offset);
    return status;
}

/* ---- inference -------------------------------------------------------------------------------------- */

static kiln_status check_operands(kiln_graph *g, const kiln_op *op, const char *name, const uint32_t *in,
                                  uint32_t n_in) {
    uint32_t most = op->variadic ? MAX_OPERANDS : op->n_in_max;
    if (n_in < op->n_in_min || n_in > most)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "node '%s' (%s): %u operands; it takes %u to %u", WHO,
                                op->name, n_in, op->n_in_min, most);
    for (uint32_t i = 0; i < n_in; i++) {
        uint32_t shown = i < op->n_in_max ? i : op->n_in_max - 1;
        if (in[i] >= g->tensors.count)
            return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                    "node '%s' (%s): operand %u (%s) is unknown tensor "
                                    "%u",
                                    WHO, op->name, i, op->in_names[shown], in[i]);
        if (in[i] == 0 && i < op->n_in_min && !op->variadic)
            return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "node '%s' (%s): operand %s is missing", WHO,
                                    op->name, op->in_names[shown]);
    }
    return KILN_OK;
}

kiln_status kiln__node_infer(kiln_graph *g, const kiln_op *op, const char *name, const uint32_t *in,
                             uint32_t n_in, const void *attrs, kiln_desc *out, int32_t *alias,
                             uint32_t *n_out) {
    kiln_status status = check_operands(g, op, name, in, n_in);
    for (uint32_t i = 0; status == KILN_OK && i < op->n_attrs; i++)
        status = check_attr(g, name, op, &op->attrs[i], (const unsigned char *)attrs + op->attrs[i].offset);
    if (status != KILN_OK)
        return status;
    const kiln_desc *descs[MAX_OPERANDS];
    for (uint32_t i = 0; i < n_in; i++)
        descs[i] = in[i] ? kiln__desc_of(g, &g->tensors.items[in[i]]) : NULL;
    memset(out, 0, op->n_out * sizeof *out);
    for (uint32_t j = 0; j < op->n_out; j++)
        alias[j] = -1;
    infer_context context = {g, op, name};
    kiln_infer infer = {n_in, descs, attrs, out, op->n_out, alias, &context};
    status = op->infer(&infer);
    if (status != KILN_OK) {
        /* A custom op may fail without a text; whatever it does, the graph remembers an error. */
        return kiln__graph_fail(g, status, "node '%s' (%s): %s", WHO, op->name, kiln_status_text(status));
    }
    *n_out = infer.n_out < op->n_out ? infer.n_out : op->n_out;
    for (uint32_t j = 0; j < *n_out; j++) {
        kiln_error why;
        int64_t bytes;
        if (alias[j] >= 0) {
            if ((uint32_t)alias[j] >= n_in || descs[alias[j]] == NULL)
                return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                        "node '%s' (%s): output %u aliases operand %d, "
                                        "which is absent",
                                        WHO, op->name, j, alias[j]);
            out[j] = *descs[alias[j]];
            continue;
        }
        for (uint32_t i = 0; i < out[j].ndim && i < KILN_MAX_DIMS; i++)
            if (!kiln__slot_resolve(g, &out[j].dims[i].slot)) /* as kiln_sym made it */
                return kiln__graph_fail(
                    g, KILN_ERROR_ARGUMENT,
                    "node '%s' (%s): output %s: dimension %u follows a slot that is not of this "
                    "graph, or was not found",
                    WHO, op->name, op->out_names[j], i);
        if (kiln__desc_dense(g, &out[j], &bytes, &why) != KILN_OK) {
            return kiln__graph_fail(g, why.status, "node '%s' (%s): output %s: %s", WHO, op->name,
                                    op->out_names[j], why.text);
        }
    }
    return KILN_OK;
}

/* A node writes to the bytes of operand `in`: they must be writable. */
static kiln_status check_written(kiln_graph *g, const kiln_op *op, const char *name, uint32_t tensor) {
    const kiln__tensor *t = &g->tensors.items[tensor];
    const kiln__storage *s = &g->storages.items[t->storage];
    if (s->kind == KILN_STORAGE_WEIGHT || s->kind == KILN_STORAGE_INPUT)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                "node '%s' (%s) would write into '%s', which is of kind "
                                "%s; copy it first (kiln_copy) or make it a state",
                                WHO, op->name, KILN__STORAGE_LABEL(g, t->storage),
                                kiln__storage_kind_names[s->kind]);
    if (kiln__desc_shares_bytes(g, kiln__desc_of(g, t)))
        return kiln__graph_fail(
            g, KILN_ERROR_ARGUMENT,
            "node '%s' (%s) would write into a view whose elements share bytes (broadcast, "
            "or strides that cross)",
            WHO, op->name);
    return KILN_OK;
}

/* ---- appending -------------------------------------------------------------------------------------- */

/* Where the arrays stood, to take a failed call back. Nodes made here have no names yet, so the hash table
 * and the text are not touched. */
typedef struct mark {
    size_t storages, tensors, operands, attrs;
} mark;

static mark mark_of(const kiln_graph *g) {
    return (mark){g->storages.count, g->tensors.count, g->operands.count, g->attrs.count};
}

static kiln_status rollback(kiln_graph *g, mark m, kiln_status status) {
    g->storages.count = m.storages;
    g->tensors.count = g->producers.count = m.tensors;
    g->operands.count = m.operands;
    g->attrs.count = m.attrs;
    return status;
}

/* Appends the node record itself; its outputs are tensors `out`. */
static kiln_status append(kiln_graph *g, const kiln_op *op, const char *name, const uint32_t *in,
                          uint32_t n_in, const uint32_t *out, uint32_t n_out, const int32_t *alias,
                          const void *attrs) {
    size_t attrs_size = (op->attrs_size + 7u) & ~(size_t)7;
    if (g->nodes.count >= UINT32_MAX - 1 || g->operands.count + n_in + n_out > UINT32_MAX ||
        g->attrs.count + attrs_size > UINT32_MAX || !KILN_GROW(&g->allocator, g->nodes, g->nodes.count + 1) ||
        !KILN_GROW(&g->allocator, g->operands, g->operands.count + n_in + n_out) ||
        !KILN_GROW(&g->allocator, g->attrs, g->attrs.count + attrs_size))
        return kiln__graph_fail(g, KILN_ERROR_MEMORY, "node '%s' (%s): out of memory", WHO, op->name);
    kiln__node n = {op,
                    0,
                    (uint32_t)g->operands.count,
                    n_in,
                    n_out,
                    (uint32_t)g->attrs.count,
                    (uint32_t)g->nodes.count + 1,
                    {0}};
    uint32_t *operands = g->operands.items + g->operands.count;
    for (uint32_t i = 0; i < n_in; i++)
        operands[i] = in[i];
    for (uint32_t j = 0; j < n_out; j++) {
        operands[n_in + j] = out[j];
        n.alias[j] = (uint16_t)(alias[j] + 1);
        if (out[j] != 0)
            g->producers.items[out[j]] = (uint32_t)g->nodes.count + 1;
    }
    if (attrs_size > 0) {
        memset(g->attrs.items + g->attrs.count, 0, attrs_size);
        memcpy(g->attrs.items + g->attrs.count, attrs, op->attrs_size);
    }
    g->operands.count += n_in + n_out;
    g->attrs.count += attrs_size;
    g->nodes.items[g->nodes.count++] = n;
    return KILN_OK;
}

/* Makes an output tensor of a new node: on the aliased operand's bytes, or on an arena storage of its own. */
static uint32_t make_output(kiln_graph *g, const uint32_t *in, uint32_t shape, int32_t alias) {
    if (alias >= 0) {
        const kiln__tensor *t = &g->tensors.items[in[alias]];
        return kiln__tensor_push(g, t->storage, t->offset, shape);
    }
    uint32_t storage = kiln__storage_new(g, KILN_STORAGE_ARENA, NULL, g->shapes.items[shape].bytes);
    return storage ? kiln__tensor_push(g, storage, 0, shape) : 0;
}

/* Where the answer of infer for these operands is remembered, with their shapes; NULL for what is not. */
static kiln__inferred *place_of_answer(const kiln_graph *g, const kiln_op *op, const uint32_t *in,
                                       uint32_t n_in, uint32_t shapes[KILN__INFERRED_IN]) {
    if (g->inferred == NULL || n_in > KILN__INFERRED_IN || op->attrs_size > KILN__INFERRED_ATTRS)
        return NULL;
    uint64_t hash = (uintptr_t)op;
    for (uint32_t i = 0; i < n_in; i++) {
        if (in[i] >= g->tensors.count)
            return NULL;
        shapes[i] = g->tensors.items[in[i]].shape;
        hash = (hash ^ shapes[i]) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return &g->inferred[hash >> 59];
}

static bool answers(const kiln__inferred *a, const kiln_graph *g, const kiln_op *op, const uint32_t *shapes,
                    uint32_t n_in, const void *attrs) {
    if (a->op != op || a->tag != g->tag || a->n_in != n_in)
        return false;
    for (uint32_t i = 0; i < n_in; i++)
        if (a->in[i] != shapes[i])
            return false;
    return op->attrs_size == 0 || memcmp(a->attrs, attrs, op->attrs_size) == 0;
}

static void remember(kiln__inferred *a, const kiln_graph *g, const kiln_op *op, const uint32_t *shapes,
                     uint32_t n_in, const void *attrs) {
    a->op = op;
    a->tag = g->tag;
    a->n_in = n_in;
    memcpy(a->in, shapes, n_in * sizeof *shapes);
    memcpy(a->attrs, attrs, op->attrs_size);
}

/* Fills what infer answers into *a. */
static kiln_status ask(kiln_graph *g, const kiln_op *op, const char *name, const uint32_t *in, uint32_t n_in,
                       const void *attrs, kiln__inferred *a) {
    kiln_desc descs[KILN__MAX_OUTPUTS];
    a->op = NULL;
    kiln_status status = kiln__node_infer(g, op, name, in, n_in, attrs, descs, a->alias, &a->n_out);
    for (uint32_t j = 0; status == KILN_OK && j < a->n_out; j++) {
        a->out[j] = a->alias[j] >= 0 ? g->tensors.items[in[a->alias[j]]].shape
                                     : kiln__shape_of(g, &descs[j], kiln__dense_bytes(g, &descs[j]));
        status = g->error.status;
    }
    return status;
}

/* kiln_node_add with ids instead of handles; *n_out outputs go to out. Engines add the same nodes layer after layer, so infer
 * is asked once for those of one op, equal shapes and attributes. */
static kiln_status add(kiln_graph *g, const kiln_op *op, const char *name, const uint32_t *in, uint32_t n_in,
                       const void *attrs, uint32_t *out, uint32_t *n_out) {
    _Alignas(8) unsigned char defaults[MAX_ATTRS], plain[MAX_ATTRS];
    uint32_t shapes[KILN__INFERRED_IN];
    kiln__inferred once, *a = place_of_answer(g, op, in, n_in, shapes);
    if (attrs == NULL && op->attrs_size > 0) {
        kiln_op_defaults(op, defaults);
        attrs = defaults;
    }
    kiln_status status = plain_attrs(g, op, name, attrs, plain);
    if (status != KILN_OK)
        return status;
    if (a == NULL) {
        a = &once;
        status = ask(g, op, name, in, n_in, plain, a);
    } else if (!answers(a, g, op, shapes, n_in, plain)) {
        status = ask(g, op, name, in, n_in, plain, a);
        if (status == KILN_OK)
            remember(a, g, op, shapes, n_in, plain);
    }
    if (status != KILN_OK)
        return status;
    mark before = mark_of(g);
    *n_out = a->n_out;
    for (uint32_t j = 0; j < *n_out; j++) {
        if (a->alias[j] >= 0 && (status = check_written(g, op, name, in[a->alias[j]])) != KILN_OK)
            return rollback(g, before, status);
        out[j] = make_output(g, in, a->out[j], a->alias[j]);
        if (out[j] == 0)
            return rollback(g, before, g->error.status);
    }
    status = append(g, op, name, in, n_in, out, *n_out, a->alias, plain);
    return status != KILN_OK ? rollback(g, before, status) : KILN_OK;
}

static bool has_pair_of_nothing(const kiln_op *op) {
    for (uint32_t i = 0; i < op->n_inplace; i++)
        if (op->inplace[i].out >= op->n_out || (op->inplace[i].in >= op->n_in_max && !op->variadic))
            return true;
    return false;
}

/* A default that a zeroed field cannot mean (kiln_op.h, "How zero is read"), or NULL. */
static const char *misread_zero(const kiln_attr *a) {
    if ((a->type == KILN_ATTR_BOOL || a->type == KILN_ATTR_OFF) && a->preset != 0)
        return "a flag with a preset: make one that is on by default a KILN_ATTR_OFF";
    if (a->type == KILN_ATTR_ENUM && a->preset != 0 && !a->required)
        return "an enum whose default is not its first name: make it `required`";
    return NULL;
}

/* What a descriptor must have, so that nothing stumbles over it later. NULL: nothing is missing. */
static const char *missing_part(const kiln_op *op) {
    if (op->name == NULL || op->name[0] == '\0')
        return "no name";
    if (op->infer == NULL)
        return "no infer function";
    if ((op->in_names == NULL && op->n_in_max > 0) || (op->out_names == NULL && op->n_out > 0))
        return "no names for its operands";
    if ((op->attrs == NULL && op->n_attrs > 0) || (op->kernels == NULL && op->n_kernels > 0) ||
        (op->inplace == NULL && op->n_inplace > 0))
        return "a table that is NULL";
    if (has_pair_of_nothing(op))
        return "an in-place pair of an operand that it does not have";
    for (uint32_t i = 0; i < op->n_attrs; i++)
        if (misread_zero(&op->attrs[i]) != NULL)
            return misread_zero(&op->attrs[i]);
    return op->n_in_min > op->n_in_max ? "n_in_min above n_in_max" : NULL;
}

static kiln_status check_limits(kiln_graph *g, const kiln_op *op, const char *name, uint32_t n_in) {
    const struct {
        const char *what;
        uint32_t count, most;
    } limits[] = {{"operands", n_in, MAX_OPERANDS},
                  {"outputs", op->n_out, KILN__MAX_OUTPUTS},
                  {"bytes of attributes", op->attrs_size, MAX_ATTRS}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        if (limits[i].count > limits[i].most)
            return kiln__graph_fail(g, KILN_ERROR_LIMIT, "node '%s' (%s): %u %s; at most %u are allowed", WHO,
                                    op->name, limits[i].count, limits[i].what, limits[i].most);
    return KILN_OK;
}

kiln_status kiln_node_add(kiln_graph *g, const kiln_op *op, const kiln_tensor *inputs, uint32_t n_inputs,
                          const void *attrs, kiln_tensor *outputs) {
    if (op == NULL || outputs == NULL || (inputs == NULL && n_inputs > 0))
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "kiln_node_add: %s is NULL",
                                op == NULL        ? "the op"
                                : outputs == NULL ? "the array for the outputs"
                                                  : "the array of inputs");
    if (op != g->checked && missing_part(op) != NULL)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "kiln_node_add: the descriptor of op '%.100s' has %s",
                                op->name != NULL ? op->name : "", missing_part(op));
    const char *name = NULL; /* given to its output, later */
    uint32_t in[MAX_OPERANDS], out[KILN__MAX_OUTPUTS] = {0}, n_out = 0, n_in = 0;
    kiln_status status = g->error.status;
    if (status == KILN_OK && (op != g->checked || n_inputs > MAX_OPERANDS))
        status = check_limits(g, op, NULL, n_inputs);
    if (status == KILN_OK)
        g->checked = op;
    for (; status == KILN_OK && n_in < n_inputs; n_in++) {
        in[n_in] = inputs[n_in].id;
        if (inputs[n_in].id != 0 && inputs[n_in].graph != g->tag)
            status =
                kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                 "node '%s' (%s): operand %u is a tensor of another graph, or of this one "
                                 "before its reset",
                                 WHO, op->name, n_in);
    }
    while (n_in > op->n_in_min && in[n_in - 1] == 0)
        n_in--; /* absent optional operands at the end need no room */
    if (status == KILN_OK) {
        kiln__fp mode = kiln__enter_fp_mode(); /* bounds are compared */
        status = add(g, op, NULL, in, n_in, attrs, out, &n_out);
        kiln__leave_fp_mode(mode);
    }
    /* Only now: `outputs` may be the array that the inputs came in. */
    for (uint32_t j = 0; j < op->n_out; j++) {
        bool made = status == KILN_OK && j < n_out;
        outputs[j] = (kiln_tensor){made ? out[j] : 0, made ? g->tag : 0};
    }
    return status;
}

/* One output of an emitted node against what infer says it must be. */
static kiln_status check_emitted(kiln_graph *g, const kiln_op *op, const char *name, uint32_t j, uint32_t out,
                                 const kiln_desc *desc, uint32_t aliased) {
    const kiln__tensor *t = &g->tensors.items[out];
    char want[KILN__SHAPE_SIZE], got[KILN__SHAPE_SIZE];
    if (!kiln__desc_equal(kiln__desc_of(g, t), desc))
        return kiln__graph_fail(g, KILN_ERROR_SHAPE,
                                "node '%s' (%s): output %s is %s %s with %s strides; the op "
                                "makes %s %s",
                                WHO, op->name, op->out_names[j],
                                kiln_dtype_get(kiln__desc_of(g, t)->dtype)->name,
                                kiln__shape_text(g, kiln__desc_of(g, t), got),
                                kiln__desc_is_dense(g, kiln__desc_of(g, t)) ? "dense" : "other",
                                kiln_dtype_get(desc->dtype)->name, kiln__shape_text(g, desc, want));
    if (aliased != 0 &&
        (g->tensors.items[aliased].storage != t->storage || g->tensors.items[aliased].offset != t->offset))
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                "node '%s' (%s): output %s must lie on its operand's "
                                "bytes",
                                WHO, op->name, op->out_names[j]);
    if (g->producers.items[out] != 0)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                "node '%s' (%s): output %s is an output of another node "
                                "already",
                                WHO, op->name, op->out_names[j]);
    return check_written(g, op, name, out);
}

static bool spans_meet(const kiln__tensor *a, const kiln__tensor *b) {
    return a->storage == b->storage && a->bytes > 0 && b->bytes > 0 && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

bool kiln__op_has_inplace(const kiln_op *op, uint32_t out, uint32_t in) {
    for (uint32_t i = 0; i < op->n_inplace; i++)
        if (op->inplace[i].out == out && op->inplace[i].in == in)
            return true;
    return false;
}

/* Exactly on each other, as a pair of the op allows. */
static bool is_inplace(const kiln_graph *g, const kiln_op *op, const kiln__tensor *out, uint32_t j,
                       const kiln__tensor *in, uint32_t i) {
    return out->offset == in->offset && kiln__desc_same_layout(kiln__desc_of(g, out), kiln__desc_of(g, in)) &&
           kiln__op_has_inplace(op, j, i);
}

/* An output that the op does not make on an operand's bytes lies apart from everything else it touches. */
static kiln_status check_apart(kiln_graph *g, const kiln_op *op, const char *name, const uint32_t *in,
                               uint32_t n_in, const uint32_t *out, uint32_t n_out, const int32_t *alias) {
    const kiln__tensor *tensors = g->tensors.items;
    for (uint32_t j = 0; j < n_out; j++) {
        for (uint32_t k = 0; k < n_out; k++)
            if (k != j &&
                (out[k] == out[j] || (alias[j] < 0 && spans_meet(&tensors[out[j]], &tensors[out[k]]))))
                return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                        "node '%s' (%s): outputs %u and %u share bytes", WHO, op->name,
                                        j < k ? j : k, j < k ? k : j);
        for (uint32_t i = 0; i < n_in && alias[j] < 0; i++)
            if (in[i] == out[j])
                return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                        "node '%s' (%s): operand %u is output %u of the same node: a cycle",
                                        WHO, op->name, i, j);
            else if (in[i] != 0 && spans_meet(&tensors[out[j]], &tensors[in[i]]) &&
                     !is_inplace(g, op, &tensors[out[j]], j, &tensors[in[i]], i))
                return kiln__graph_fail(g, KILN_ERROR_ARGUMENT,
                                        "node '%s' (%s): output %u shares bytes with operand %u", WHO,
                                        op->name, j, i);
    }
    return KILN_OK;
}

kiln_status kiln__node_emit(kiln_graph *g, const kiln_op *op, const char *name, const uint32_t *in,
                            uint32_t n_in, const uint32_t *out, uint32_t n_out, const void *attrs) {
    if (g->error.status != KILN_OK)
        return g->error.status;
    kiln_desc descs[KILN__MAX_OUTPUTS];
    int32_t alias[KILN__MAX_OUTPUTS];
    uint32_t n_inferred = 0;
    kiln_status status = check_limits(g, op, name, n_in);
    if (status != KILN_OK)
        return status;
    status = kiln__node_infer(g, op, name, in, n_in, attrs, descs, alias, &n_inferred);
    if (status != KILN_OK)
        return status;
    if (n_out != n_inferred)
        return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "node '%s' (%s): %u outputs; the op makes %u", WHO,
                                op->name, n_out, n_inferred);
    for (uint32_t j = 0; j < n_out; j++) {
        if (out[j] == 0 || out[j] >= g->tensors.count)
            return kiln__graph_fail(g, KILN_ERROR_ARGUMENT, "node '%s' (%s): output %s is unknown tensor %u",
                                    WHO, op->name, op->out_names[j], out[j]);
        status = check_emitted(g, op, name, j, out[j], &descs[j], alias[j] >= 0 ? in[alias[j]] : 0);
        if (status != KILN_OK)
            return status;
    }
    if ((status = check_apart(g, op, name, in, n_in, out, n_out, alias)) != KILN_OK)
        return status;
    mark before = mark_of(g);
    status = append(g, op, name, in, n_in, out, n_out, alias, attrs);
    if (status != KILN_OK)
        return rollback(g, before, status);
    if (name != NULL && name[0] != '\0' && n_out > 0 && g->tensors.items[out[0]].name != 0 &&
        strcmp(kiln__text(g, g->tensors.items[out[0]].name), name) == 0)
        g->nodes.items[g->nodes.count - 1].name = g->tensors.items[out[0]].name;
    return KILN_OK;
}
