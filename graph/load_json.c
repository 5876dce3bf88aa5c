/* Graphs from JSON. Nothing in the text is trusted; what the builder and the ops check themselves (names
 * taken, ranges of bytes, shapes) is left to them, and their messages get the place in the text in front. */
#include "graph_json.h"

#include <stdio.h>

typedef struct loader {
    kiln_graph *g;
    kiln_op_set ops;
    const kiln_json_limits *limits;
    kiln_error *error;
    int64_t version; /* of the graph object */
    struct {
        uint32_t *items;
        size_t count, capacity;
    } ids; /* the operands of one node */
} loader;

enum { ATTRS_MAX = 256 }; /* as kiln_node_add */

/* The graph's own error, at a place. */
static kiln_status fail_built(const loader *l, const kiln__json *at) {
    return kiln__json_fail(at, l->g->error.status, l->error, "%s", l->g->error.text);
}

/* ---- slots and storages ----------------------------------------------------------------------------- */

/* *out is NULL when the key is absent. */
static kiln_status get_name(const loader *l, const kiln__json *value, const char **out) {
    *out = NULL;
    if (value->item == NULL)
        return KILN_OK;
    kiln_status status = kiln__json_get_string(value, KILN_NAME_MAX, out, l->error);
    if (status == KILN_OK && **out == '\0')
        return kiln__json_fail_type(value, "a name", l->error);
    return status;
}

/* "id" counts from 1 in the order of the list. */
static kiln_status check_id(const loader *l, const kiln__json *value, size_t expected) {
    int64_t id;
    return kiln__json_get_i64(value, (int64_t)expected, (int64_t)expected, &id, l->error);
}

static kiln_status get_slot(const loader *l, const kiln__json *value, uint32_t *slot) {
    const char *name;
    kiln_status status = kiln__json_get_string(value, KILN_NAME_MAX, &name, l->error);
    if (status != KILN_OK)
        return status;
    *slot = kiln__name_find(l->g, KILN_NAME_SLOT, name);
    char quoted[KILN__JSON_QUOTE_SIZE];
    return *slot ? KILN_OK
                 : kiln__json_fail(value, KILN_ERROR_FORMAT, l->error, "no slot is named %s",
                                   kiln__json_quote(name, quoted));
}

/* A number is at least `least`, as is a factor. */
static kiln_status get_dim(const loader *l, const kiln__json *value, int64_t least, kiln_dim *dim) {
    *dim = (kiln_dim){1, 0};
    if (kiln__json_is_string(value))
        return get_slot(l, value, &dim->slot);
    if (!kiln__json_is_object(value))
        return kiln__json_get_i64(value, least, INT64_MAX, &dim->n, l->error);
    kiln__json n, slot;
    const kiln__json_field fields[] = {{"n", &n, true}, {"slot", &slot, false}};
    kiln_status status = kiln__json_members(value, fields, 2, l->error);
    if (status == KILN_OK)
        status = kiln__json_get_i64(&n, least, INT64_MAX, &dim->n, l->error);
    return status == KILN_OK && slot.item != NULL ? get_slot(l, &slot, &dim->slot) : status;
}

/* The terms of a computed slot, as dimensions are written; factors and constants may be negative. */
static kiln_status get_terms(const loader *l, const kiln__json *sum, kiln_dim terms[KILN_MAX_TERMS],
                             uint32_t *n) {
    size_t count = 0;
    if (l->version < 2)
        return kiln__json_fail(sum, KILN_ERROR_FORMAT, l->error,
                               "a computed slot needs version 2 of this format");
    kiln_status status = kiln__json_count(sum, 1, KILN_MAX_TERMS, &count, l->error);
    for (kiln__json v = kiln__json_first(sum); status == KILN_OK && v.item != NULL; kiln__json_next(&v))
        status = get_dim(l, &v, INT64_MIN, &terms[v.index]);
    *n = (uint32_t)count;
    return status;
}

static kiln_status load_slot(loader *l, const kiln__json *value) {
    static const char *const types[] = {"i64", "f32"};
    kiln__json name, type, min, max, preset, sum;
    const kiln__json_field fields[] = {{"name", &name, true},      {"type", &type, true},
                                       {"min", &min, false},       {"max", &max, false},
                                       {"preset", &preset, false}, {"sum", &sum, false}};
    const char *text;
    size_t is_float;
    kiln_dim terms[KILN_MAX_TERMS];
    uint32_t n_terms = 0;
    int64_t lowest = 0, highest = 0;
    float start = 0;
    kiln_status status = kiln__json_members(value, fields, 6, l->error);
    if (status != KILN_OK || (status = get_name(l, &name, &text)) != KILN_OK ||
        (status = kiln__json_get_enum(&type, types, 2, &is_float, l->error)) != KILN_OK)
        return status;
    if (is_float ? min.item != NULL || max.item != NULL || sum.item != NULL || preset.item == NULL
                 : min.item == NULL || max.item == NULL || preset.item != NULL)
        return kiln__json_fail(
            value, KILN_ERROR_FORMAT, l->error,
            is_float ? "a slot of type f32 has \"preset\", and neither \"min\", \"max\" nor \"sum\""
                     : "a slot of type i64 has \"min\" and \"max\", and no \"preset\"");
    if (is_float)
        status = kiln__json_get_f32(&preset, &start, l->error);
    else if ((status = kiln__json_get_i64(&min, INT64_MIN, INT64_MAX, &lowest, l->error)) == KILN_OK)
        status = kiln__json_get_i64(&max, INT64_MIN, INT64_MAX, &highest, l->error);
    if (status == KILN_OK && sum.item != NULL)
        status = get_terms(l, &sum, terms, &n_terms);
    if (status != KILN_OK)
        return status;
    uint32_t id = n_terms > 0 ? kiln__slot_sum_new(l->g, text, lowest, highest, n_terms, terms)
                              : kiln__slot_new(l->g, text, is_float, lowest, highest, start);
    return id ? KILN_OK : fail_built(l, value);
}

static kiln_status load_storage(loader *l, const kiln__json *value) {
    kiln__json id, name, kind, size;
    const kiln__json_field fields[] = {
        {"id", &id, true}, {"name", &name, false}, {"kind", &kind, true}, {"size", &size, true}};
    const char *text;
    size_t which;
    int64_t bytes;
    kiln_status status = kiln__json_members(value, fields, 4, l->error);
    if (status != KILN_OK || (status = check_id(l, &id, l->g->storages.count)) != KILN_OK ||
        (status = get_name(l, &name, &text)) != KILN_OK ||
        (status = kiln__json_get_enum(&kind, kiln__storage_kind_names, KILN_STORAGE_KIND_COUNT, &which,
                                      l->error)) != KILN_OK ||
        (status = kiln__json_get_i64(&size, 0, INT64_MAX, &bytes, l->error)) != KILN_OK)
        return status;
    if (text == NULL && which != KILN_STORAGE_ARENA)
        return kiln__json_fail(value, KILN_ERROR_FORMAT, l->error, "key \"name\" is missing");
    return kiln__storage_new(l->g, (kiln_storage_kind)which, text, bytes) ? KILN_OK : fail_built(l, value);
}

/* ---- tensors ---------------------------------------------------------------------------------------- */

static kiln_status get_dtype(const loader *l, const kiln__json *value, kiln_dtype *dtype) {
    const char *names[KILN_DTYPE_COUNT] = {NULL};
    for (int i = 1; i < KILN_DTYPE_COUNT; i++)
        names[i] = kiln_dtype_get((kiln_dtype)i)->name;
    size_t which = 0;
    kiln_status status = kiln__json_get_enum(value, names, KILN_DTYPE_COUNT, &which, l->error);
    *dtype = (kiln_dtype)which;
    return status;
}

static kiln_status get_desc(const loader *l, const kiln__json *tensor, const kiln__json *dtype,
                            const kiln__json *shape, const kiln__json *strides, kiln_desc *desc) {
    *desc = (kiln_desc){0};
    size_t ndim;
    kiln_status status = get_dtype(l, dtype, &desc->dtype);
    if (status == KILN_OK)
        status = kiln__json_count(shape, 1, KILN_MAX_DIMS, &ndim, l->error);
    if (status != KILN_OK)
        return status;
    desc->ndim = (uint32_t)ndim;
    for (kiln__json v = kiln__json_first(shape); v.item != NULL; kiln__json_next(&v))
        if ((status = get_dim(l, &v, 0, &desc->dims[v.index])) != KILN_OK)
            return status;
    if (strides->item == NULL) {
        kiln_error why;
        int64_t bytes;
        status = kiln__desc_dense(l->g, desc, &bytes, &why);
        return status == KILN_OK ? status : kiln__json_fail(tensor, status, l->error, "%s", why.text);
    }
    status = kiln__json_count(strides, ndim, ndim, &ndim, l->error);
    if (status != KILN_OK)
        return status;
    for (kiln__json v = kiln__json_first(strides); v.item != NULL; kiln__json_next(&v))
        if ((status = kiln__json_get_i64(&v, 0, INT64_MAX, &desc->strides[v.index], l->error)) != KILN_OK)
            return status;
    return KILN_OK;
}

static kiln_status load_tensor(loader *l, const kiln__json *value) {
    kiln__json id, name, dtype, shape, storage, offset, strides;
    const kiln__json_field fields[] = {{"id", &id, true},           {"name", &name, false},
                                       {"dtype", &dtype, true},     {"shape", &shape, true},
                                       {"storage", &storage, true}, {"offset", &offset, false},
                                       {"strides", &strides, false}};
    const char *text;
    kiln_desc desc;
    int64_t in, at = 0;
    kiln_status status = kiln__json_members(value, fields, 7, l->error);
    if (status != KILN_OK || (status = check_id(l, &id, l->g->tensors.count)) != KILN_OK ||
        (status = get_name(l, &name, &text)) != KILN_OK ||
        (status = get_desc(l, value, &dtype, &shape, &strides, &desc)) != KILN_OK ||
        (status = kiln__json_get_i64(&storage, INT64_MIN, INT64_MAX, &in, l->error)) != KILN_OK ||
        (offset.item != NULL &&
         (status = kiln__json_get_i64(&offset, 0, INT64_MAX, &at, l->error)) != KILN_OK))
        return status;
    if (in < 1 || (uint64_t)in >= l->g->storages.count)
        return kiln__json_fail(&storage, KILN_ERROR_FORMAT, l->error,
                               "no storage has id %lld (there are %zu)", (long long)in,
                               l->g->storages.count - 1);
    uint32_t made = kiln__tensor_new(l->g, (uint32_t)in, at, &desc);
    if (made == 0 || (text != NULL && kiln__tensor_set_name(l->g, made, text) != KILN_OK))
        return fail_built(l, value);
    return KILN_OK;
}

/* ---- nodes: op and attributes ----------------------------------------------------------------------- */

/* Single-character edits that make `a` into `b`; 99 for long names. */
static unsigned distance(const char *a, const char *b) {
    enum { MOST = 40 };
    size_t n = strlen(a), m = strlen(b);
    unsigned row[MOST + 1];
    if (n > MOST || m > MOST)
        return 99;
    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = above;
        }
    }
    return row[m];
}

static kiln_status fail_unknown_op(const loader *l, const kiln__json *value, const char *name) {
    enum { MOST = 3 };
    const char *near[MOST];
    unsigned far[MOST];
    size_t n = 0, length = strlen(name), tolerated = length / 3 + 1;
    for (size_t i = 0; i < l->ops.count; i++) {
        const char *candidate = l->ops.ops[i]->name;
        unsigned d = distance(name, candidate);
        if (length >= 3 && strncmp(candidate, name, length) == 0)
            d = 1; /* a name that goes on where this one ends */
        if (d > tolerated)
            continue;
        size_t at = n < MOST ? n++ : MOST; /* sorted by distance; of equal ones the first stay */
        for (; at > 0 && far[at - 1] > d; at--)
            if (at < MOST) {
                far[at] = far[at - 1];
                near[at] = near[at - 1];
            }
        if (at < MOST) {
            far[at] = d;
            near[at] = candidate;
        }
    }
    char quoted[KILN__JSON_QUOTE_SIZE], text[160] = "";
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%.40s", i ? ", " : "; nearest: ", near[i]);
    }
    return kiln__json_fail(value, KILN_ERROR_FORMAT, l->error, "none of the %zu ops given is named %s%s",
                           l->ops.count, kiln__json_quote(name, quoted), text);
}

static const kiln_op *find_op(const loader *l, const char *name) {
    for (size_t i = 0; i < l->ops.count; i++)
        if (strcmp(l->ops.ops[i]->name, name) == 0)
            return l->ops.ops[i];
    return NULL;
}

static int64_t bound(double limit) {
    return limit >= 9223372036854775807.0    ? INT64_MAX
           : limit <= -9223372036854775808.0 ? INT64_MIN
                                             : (int64_t)limit;
}

static kiln_status get_attr_i64(const loader *l, const kiln_attr *a, const kiln__json *value, int64_t *out) {
    bool bounded = a->min != 0 || a->max != 0;
    return kiln__json_get_i64(value, bounded ? bound(a->min) : INT64_MIN, bounded ? bound(a->max) : INT64_MAX,
                              out, l->error);
}

/* {"slot": "name"}; *slot stays 0 for any other value. */
static kiln_status get_attr_slot(const loader *l, const kiln__json *value, uint32_t *slot) {
    kiln__json name;
    if (!kiln__json_is_object(value))
        return KILN_OK;
    kiln_status status = kiln__json_members(value, &(kiln__json_field){"slot", &name, true}, 1, l->error);
    return status == KILN_OK ? get_slot(l, &name, slot) : status;
}

static kiln_status get_attr(const loader *l, const kiln_attr *a, const kiln__json *value, void *at) {
    kiln_status status;
    switch (a->type) {
    case KILN_ATTR_BOOL:
    case KILN_ATTR_OFF: {
        bool flag = false;
        status = kiln__json_get_bool(value, &flag, l->error);
        *(uint32_t *)at = flag != (a->type == KILN_ATTR_OFF);
        return status;
    }
    case KILN_ATTR_ENUM: {
        size_t which = 0;
        status = kiln__json_get_enum(value, a->names, a->n_names, &which, l->error);
        *(uint32_t *)at = (uint32_t)which;
        return status;
    }
    case KILN_ATTR_I64:
        return get_attr_i64(l, a, value, at);
    case KILN_ATTR_F32:
        return kiln__json_get_f32(value, at, l->error);
    case KILN_ATTR_I64_SLOT: {
        kiln_i64_value v = {0};
        status = get_attr_slot(l, value, &v.slot);
        if (status == KILN_OK && v.slot == 0)
            status = get_attr_i64(l, a, value, &v.value);
        *(kiln_i64_value *)at = v;
        return status;
    }
    case KILN_ATTR_F32_SLOT: {
        kiln_f32_value v = {0};
        status = get_attr_slot(l, value, &v.slot);
        if (status == KILN_OK && v.slot == 0)
            status = kiln__json_get_f32(value, &v.value, l->error);
        *(kiln_f32_value *)at = v;
        return status;
    }
    }
    return kiln__json_fail(value, KILN_ERROR_ARGUMENT, l->error, "the op describes it with an unknown type");
}

/* Fills the attribute struct: the op's defaults, then what the text says. */
static kiln_status get_attrs(const loader *l, const kiln_op *op, const kiln__json *node,
                             const kiln__json *attrs, unsigned char *out) {
    if (op->attrs_size > ATTRS_MAX)
        return kiln__json_fail(node, KILN_ERROR_LIMIT, l->error, "op %s has %u attribute bytes; at most %d",
                               op->name, op->attrs_size, ATTRS_MAX);
    kiln_op_defaults(op, out);
    if (attrs->item == NULL)
        return KILN_OK;
    if (!kiln__json_is_object(attrs))
        return kiln__json_fail_type(attrs, "an object", l->error);
    for (kiln__json v = kiln__json_first(attrs); v.item != NULL; kiln__json_next(&v)) {
        uint32_t i = 0;
        while (i < op->n_attrs && strcmp(op->attrs[i].name, kiln__json_key_of(&v)) != 0)
            i++;
        if (i == op->n_attrs)
            return kiln__json_fail(&v, KILN_ERROR_FORMAT, l->error, "op %s has no such attribute", op->name);
        kiln_status status = get_attr(l, &op->attrs[i], &v, out + op->attrs[i].offset);
        if (status != KILN_OK)
            return status;
    }
    return KILN_OK;
}

/* ---- nodes: operands -------------------------------------------------------------------------------- */

/* Appends the ids of a list to l->ids. */
static kiln_status get_ids(loader *l, const kiln__json *list, bool absent_allowed, uint32_t *n) {
    size_t count;
    kiln_status status = kiln__json_count(list, 0, UINT32_MAX, &count, l->error);
    if (status != KILN_OK)
        return status;
    if (!KILN_GROW(&l->g->allocator, l->ids, l->ids.count + count))
        return kiln__json_fail(list, KILN_ERROR_MEMORY, l->error, "out of memory");
    for (kiln__json v = kiln__json_first(list); v.item != NULL; kiln__json_next(&v)) {
        int64_t id = 0;
        if (!(absent_allowed && kiln__json_is_null(&v))) {
            status = kiln__json_get_i64(&v, INT64_MIN, INT64_MAX, &id, l->error);
            if (status != KILN_OK)
                return status;
            if (id < 1 || (uint64_t)id >= l->g->tensors.count)
                return kiln__json_fail(&v, KILN_ERROR_FORMAT, l->error,
                                       "no tensor has id %lld (there are %zu)", (long long)id,
                                       l->g->tensors.count - 1);
        }
        l->ids.items[l->ids.count++] = (uint32_t)id;
    }
    *n = (uint32_t)count;
    return KILN_OK;
}

static kiln_status load_node(loader *l, const kiln__json *value) {
    kiln__json op_name, name, inputs, outputs, attrs;
    const kiln__json_field fields[] = {{"op", &op_name, true},
                                       {"name", &name, false},
                                       {"inputs", &inputs, true},
                                       {"outputs", &outputs, true},
                                       {"attrs", &attrs, false}};
    const char *called, *text;
    uint32_t n_in = 0, n_out = 0;
    _Alignas(8) unsigned char bytes[ATTRS_MAX];
    l->ids.count = 0;
    kiln_status status = kiln__json_members(value, fields, 5, l->error);
    if (status != KILN_OK ||
        (status = kiln__json_get_string(&op_name, SIZE_MAX, &called, l->error)) != KILN_OK)
        return status;
    const kiln_op *op = find_op(l, called);
    if (op == NULL)
        return fail_unknown_op(l, &op_name, called);
    if ((status = get_name(l, &name, &text)) != KILN_OK ||
        (status = get_attrs(l, op, value, &attrs, bytes)) != KILN_OK ||
        (status = get_ids(l, &inputs, true, &n_in)) != KILN_OK ||
        (status = get_ids(l, &outputs, false, &n_out)) != KILN_OK)
        return status;
    const uint32_t *in = l->ids.items, *out = in + n_in;
    if (text != NULL && (n_out == 0 || strcmp(text, kiln__text(l->g, l->g->tensors.items[out[0]].name)) != 0))
        return kiln__json_fail(&name, KILN_ERROR_FORMAT, l->error,
                               "a node's name must be the name of its first output");
    return kiln__node_emit(l->g, op, text, in, n_in, out, n_out, bytes) == KILN_OK ? KILN_OK
                                                                                   : fail_built(l, value);
}

/* ---- the order of nodes ----------------------------------------------------------------------------- */

typedef struct order_check {
    kiln_access_list accesses; /* of one node */
    bool *written;             /* per storage: by a node before this one */
    const kiln__json *nodes;
} order_check;

static kiln__json node_at(const order_check *c, size_t index) {
    kiln__json at = kiln__json_first(c->nodes);
    while (at.index < index)
        kiln__json_next(&at);
    return at;
}

static kiln_status fail_order(const loader *l, const order_check *c, size_t reader, uint32_t tensor,
                              size_t writer) {
    char a[KILN__LABEL_SIZE], b[KILN__LABEL_SIZE], t[KILN__LABEL_SIZE];
    kiln__json at = node_at(c, reader);
    kiln__node_label(l->g, reader, a);
    kiln__tensor_label(l->g, tensor, t);
    if (writer == SIZE_MAX)
        return kiln__json_fail(&at, KILN_ERROR_FORMAT, l->error,
                               "node '%s' reads '%s', which is in the arena and which no node writes", a, t);
    return kiln__json_fail(
        &at, KILN_ERROR_FORMAT, l->error,
        "node '%s' reads '%s', which node '%s' (nodes[%zu]) writes only later: the nodes are "
        "out of order, or form a cycle",
        a, t, kiln__node_label(l->g, writer, b), writer);
}

/* Does a node put something into a storage? An op that declares no accesses is taken at its outputs. */
static bool has_output_in(const loader *l, const kiln__node *n, uint32_t storage) {
    for (uint32_t j = 0; j < n->n_out; j++)
        if (l->g->tensors.items[kiln__node_out(l->g, n)[j]].storage == storage)
            return true;
    return false;
}

/* The first node from `from` on that writes a storage, or SIZE_MAX. Only for messages. */
static size_t find_writer(const loader *l, order_check *c, size_t from, uint32_t storage) {
    for (size_t i = from; i < l->g->nodes.count; i++) {
        if (has_output_in(l, &l->g->nodes.items[i], storage))
            return i;
        kiln__access_clear(&c->accesses);
        if (kiln__access_collect(&c->accesses, i, NULL) != KILN_OK)
            return SIZE_MAX;
        for (size_t k = 0; k < c->accesses.count; k++)
            if ((c->accesses.items[k].mode & KILN_WRITE) && c->accesses.items[k].storage == storage)
                return i;
    }
    return SIZE_MAX;
}

/* The operand that a node reads although nothing was written there: declared reads of arena bytes, or, where
 * the op declares nothing, operands that it does not work on in place. 0 when there is none. */
static uint32_t find_unwritten(const loader *l, const order_check *c, const kiln__node *n) {
    const uint32_t *operands = kiln__node_in(l->g, n);
    for (size_t k = 0; k < c->accesses.count; k++) {
        const kiln__access *a = &c->accesses.items[k];
        bool undeclared = a->operand == KILN__OPERAND_ANY;
        for (uint32_t i = undeclared ? 0 : a->operand; i < (undeclared ? n->n_in : a->operand + 1u); i++) {
            uint32_t storage = operands[i] ? l->g->tensors.items[operands[i]].storage : 0;
            if (storage != 0 && (a->mode & KILN_READ) && !c->written[storage] &&
                l->g->storages.items[storage].kind == KILN_STORAGE_ARENA &&
                !(undeclared && has_output_in(l, n, storage)))
                return operands[i];
        }
    }
    return 0;
}

/* A tensor that another node makes must have been made before; and arena bytes reached in another way (a
 * view) must have been written before. */
static kiln_status check_node_order(const loader *l, order_check *c, size_t index) {
    const kiln__node *n = &l->g->nodes.items[index];
    const uint32_t *operands = kiln__node_in(l->g, n);
    const kiln__tensor *tensors = l->g->tensors.items;
    const uint32_t *producers = l->g->producers.items;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (operands[i] != 0 && producers[operands[i]] > index)
            return fail_order(l, c, index, operands[i], producers[operands[i]] - 1);
    kiln__access_clear(&c->accesses);
    kiln_error why;
    kiln_status status = kiln__access_collect(&c->accesses, index, &why);
    if (status != KILN_OK) {
        kiln__json at = node_at(c, index);
        return kiln__json_fail(&at, status, l->error, "%s", why.text);
    }
    uint32_t unwritten = find_unwritten(l, c, n);
    if (unwritten != 0)
        return fail_order(l, c, index, unwritten, find_writer(l, c, index + 1, tensors[unwritten].storage));
    for (size_t k = 0; k < c->accesses.count; k++)
        if (c->accesses.items[k].mode & KILN_WRITE)
            c->written[c->accesses.items[k].storage] = true;
    for (uint32_t j = 0; j < n->n_out; j++)
        c->written[tensors[operands[n->n_in + j]].storage] = true;
    return KILN_OK;
}

static kiln_status check_order(const loader *l, const kiln__json *nodes) {
    order_check c = {.accesses = {.graph = l->g, .allocator = l->g->allocator}, .nodes = nodes};
    size_t storages = l->g->storages.count;
    c.written = KILN_NEW(&l->g->allocator, bool, storages);
    if (c.written == NULL)
        return kiln__json_fail(nodes, KILN_ERROR_MEMORY, l->error, "out of memory");
    kiln_status status = KILN_OK;
    for (size_t i = 0; status == KILN_OK && i < l->g->nodes.count; i++)
        status = check_node_order(l, &c, i);
    kiln__access_free(&c.accesses);
    KILN_DELETE(&l->g->allocator, c.written, bool, storages);
    return status;
}

/* ---- the whole -------------------------------------------------------------------------------------- */

kiln_json_limits kiln__json_limits_resolve(const kiln_json_limits *limits) {
    kiln_json_limits r = limits ? *limits : (kiln_json_limits){0};
    r.bytes = r.bytes ? r.bytes : (size_t)64 << 20;
    r.depth = r.depth ? r.depth : 32;
    r.values = r.values ? r.values : 4000000;
    r.slots = r.slots ? r.slots : 1 << 16;
    r.storages = r.storages ? r.storages : 1 << 20;
    r.tensors = r.tensors ? r.tensors : 1 << 20;
    r.nodes = r.nodes ? r.nodes : 1 << 18;
    return r;
}

kiln__json_caps kiln__json_limits_caps(const kiln_json_limits *resolved) {
    return (kiln__json_caps){resolved->bytes, resolved->values, resolved->depth};
}

kiln_status kiln__json_check_format(const kiln__json *object, const char *const *formats, size_t n,
                                    size_t *which, int64_t *number, kiln_error *error) {
    if (!kiln__json_is_object(object))
        return kiln__json_fail_type(object, "an object", error);
    kiln__json format = kiln__json_member(object, "format"), version = kiln__json_member(object, "version");
    if (format.item == NULL || version.item == NULL)
        return kiln__json_fail(object, KILN_ERROR_FORMAT, error, "key \"%s\" is missing",
                               format.item ? "version" : "format");
    kiln_status status = kiln__json_get_enum(&format, formats, n, which, error);
    if (status == KILN_OK)
        status = kiln__json_get_i64(&version, 1, INT64_MAX, number, error);
    if (status == KILN_OK && *number > KILN__JSON_VERSION)
        return kiln__json_fail(&version, KILN_ERROR_UNSUPPORTED, error,
                               "version %lld; this library reads versions 1 to %d", (long long)*number,
                               (int)KILN__JSON_VERSION);
    return status;
}

static kiln_status load_all(loader *l, const kiln__json *value) {
    static const char *const formats[] = {"kiln.graph"};
    kiln__json format, version, lists[4];
    const kiln__json_field fields[] = {{"format", &format, true},    {"version", &version, true},
                                       {"slots", &lists[0], true},   {"storages", &lists[1], true},
                                       {"tensors", &lists[2], true}, {"nodes", &lists[3], true}};
    kiln_status (*const load[4])(loader *, const kiln__json *) = {load_slot, load_storage, load_tensor,
                                                                  load_node};
    const uint32_t caps[4] = {l->limits->slots, l->limits->storages, l->limits->tensors, l->limits->nodes};
    size_t which, count;
    kiln_status status = kiln__json_check_format(value, formats, 1, &which, &l->version, l->error);
    if (status == KILN_OK)
        status = kiln__json_members(value, fields, 6, l->error);
    for (int i = 0; status == KILN_OK && i < 4; i++)
        status = kiln__json_count(&lists[i], 0, caps[i], &count, l->error);
    if (status != KILN_OK)
        return status;
    for (int i = 0; i < 4; i++)
        for (kiln__json v = kiln__json_first(&lists[i]); v.item != NULL; kiln__json_next(&v))
            if ((status = load[i](l, &v)) != KILN_OK)
                return status;
    return check_order(l, &lists[3]);
}

kiln_status kiln__graph_get_json(const kiln__json *value, kiln_op_set ops, const kiln_json_limits *limits,
                                 const kiln_allocator *allocator, kiln_graph **out, kiln_error *error) {
    loader l = {.ops = ops, .limits = limits, .error = error};
    *out = NULL;
    kiln_status status = kiln_graph_create(allocator, &l.g, error);
    if (status != KILN_OK)
        return status;
    status = load_all(&l, value);
    KILN_ARRAY_FREE(&l.g->allocator, l.ids);
    if (status == KILN_OK)
        *out = l.g;
    else
        kiln_graph_destroy(l.g);
    return status;
}

kiln_status kiln_graph_from_json(const char *text, size_t size, kiln_op_set ops,
                                 const kiln_json_limits *limits, const kiln_allocator *allocator,
                                 kiln_graph **out, kiln_error *error) {
    static const char *const formats[] = {"kiln.graph", "kiln.plan"};
    if (out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_graph_from_json: out is NULL");
    *out = NULL;
    if (text == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_graph_from_json: text is NULL");
    kiln_json_limits resolved = kiln__json_limits_resolve(limits);
    kiln__json_caps caps = kiln__json_limits_caps(&resolved);
    kiln__json_doc doc;
    kiln_status status = kiln__json_open(&doc, text, size, &caps, allocator, error);
    if (status != KILN_OK)
        return status;
    kiln__json root = kiln__json_root(&doc), graph = root;
    size_t which = 0;
    int64_t version;
    status = kiln__json_check_format(&root, formats, 2, &which, &version, error);
    if (status == KILN_OK && which == 1) {
        graph = kiln__json_member(&root, "graph");
        if (graph.item == NULL)
            status = kiln__json_fail(&root, KILN_ERROR_FORMAT, error, "key \"graph\" is missing");
    }
    if (status == KILN_OK)
        status = kiln__graph_get_json(&graph, ops, &resolved, allocator, out, error);
    kiln__json_close(&doc);
    return status;
}
