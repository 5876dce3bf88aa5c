/* What a node reads and writes, as byte boxes of storages. */
#include "graph.h"

#include <stdarg.h>
#include <stdio.h>

void kiln__access_free(kiln_access_list *list) {
    KILN_ARRAY_FREE(&list->allocator, list->levels);
    KILN_ARRAY_FREE(&list->allocator, list->named);
    KILN_ARRAY_FREE(&list->allocator, *list);
}

static kiln_status refuse(kiln_access_list *list, uint32_t operand, const char *format, ...)
    KILN_PRINTF(3, 4);

static kiln_status refuse(kiln_access_list *list, uint32_t operand, const char *format, ...) {
    va_list args;
    int at = snprintf(list->why, sizeof list->why, "operand %u: ", operand);
    va_start(args, format);
    vsnprintf(list->why + at, sizeof list->why - (size_t)at, format, args);
    va_end(args);
    return KILN_ERROR_ARGUMENT;
}

bool kiln__access_push(kiln_access_list *list, uint32_t node, uint32_t operand, uint32_t storage,
                       kiln_access_mode mode, const kiln_box *box) {
    bool run = box->count[0] == 1 && box->count[1] == 1 && box->count[2] == 1;
    if (!KILN_GROW(&list->allocator, *list, list->count + 1) ||
        (!run && !KILN_GROW(&list->allocator, list->levels, list->levels.count + 1)))
        return false;
    if (!run) {
        kiln__box_levels *levels = &list->levels.items[list->levels.count++];
        memcpy(levels->count, box->count, sizeof levels->count);
        memcpy(levels->stride, box->stride, sizeof levels->stride);
    }
    list->items[list->count++] = (kiln__access){
        node,        storage,    (uint16_t)operand, (uint16_t)mode, run ? 0 : (uint32_t)list->levels.count,
        box->offset, box->length};
    return true;
}

static kiln_status push(kiln_access_list *list, uint32_t operand, uint32_t storage, kiln_access_mode mode,
                        const kiln_box *box) {
    return kiln__access_push(list, list->node, operand, storage, mode, box) ? KILN_OK : KILN_ERROR_MEMORY;
}

/* An access names an operand; what it holds of its bytes comes after. */
static kiln_status name_operand(kiln_access_list *list, uint32_t operand, kiln_access_mode mode) {
    if (mode < KILN_READ || mode > KILN_READ_WRITE)
        return refuse(list, operand, "unknown access mode %d", (int)mode);
    list->named.items[operand] |= (uint8_t)(KILN__NAMED | mode);
    return KILN_OK;
}

/* The tensor of an operand of the list's node, or NULL. */
static const kiln__tensor *operand_tensor(const kiln_access_list *list, uint32_t operand) {
    const kiln__node *n = &list->graph->nodes.items[list->node];
    if (operand >= n->n_in + n->n_out)
        return NULL;
    uint32_t id = list->graph->operands.items[n->operands + operand];
    return id ? &list->graph->tensors.items[id] : NULL;
}

int64_t kiln_access_dim_max(const kiln_access_query *query, kiln_dim dim) {
    return kiln__dim_max(query->list->graph, dim);
}

kiln_status kiln_access_operand(const kiln_access_query *query, uint32_t operand, kiln_access_mode mode) {
    const kiln__tensor *t = operand_tensor(query->list, operand);
    if (t == NULL)
        return refuse(query->list, operand, "it is absent");
    kiln_status status = name_operand(query->list, operand, mode);
    kiln_box box = kiln__tensor_box(query->list->graph, t, NULL);
    if (status != KILN_OK || box.length == 0)
        return status;
    return push(query->list, operand, t->storage, mode, &box);
}

kiln_status kiln_access_box(const kiln_access_query *query, uint32_t operand, kiln_access_mode mode,
                            const kiln_box *declared) {
    kiln_access_list *list = query->list;
    const kiln__tensor *t = operand_tensor(list, operand);
    kiln_box box = *declared;
    if (t == NULL)
        return refuse(list, operand, "it is absent");
    kiln_status status = name_operand(list, operand, mode);
    if (status != KILN_OK)
        return status;
    if (box.length < 0 || box.offset < 0)
        return refuse(list, operand, "a box of %lld bytes at offset %lld", (long long)box.length,
                      (long long)box.offset);
    /* The box must stay within the storage: hazards of bytes outside would go unseen. */
    int64_t end, reach;
    bool ok = kiln__add(box.offset, box.length, &end) && kiln__add(end, t->offset, &end),
         empty = box.length == 0;
    for (uint32_t l = 0; l < KILN_BOX_LEVELS; l++) {
        if (box.count[l] < 0 || box.stride[l] < 0)
            return refuse(list, operand, "level %u of its box has count %lld and stride %lld", l,
                          (long long)box.count[l], (long long)box.stride[l]);
        if (box.count[l] == 0 && box.stride[l] == 0)
            box.count[l] = 1; /* left zero: unused */
        empty = empty || box.count[l] == 0;
        ok = ok && kiln__mul(box.count[l] > 0 ? box.count[l] - 1 : 0, box.stride[l], &reach) &&
             kiln__add(end, reach, &end);
    }
    if (empty)
        return KILN_OK;
    int64_t size = list->graph->storages.items[t->storage].size;
    if (!ok || end > size)
        return refuse(list, operand, "its box ends at byte %lld of a storage of %lld",
                      ok ? (long long)end : INT64_MAX, (long long)size);
    box.offset += t->offset;
    return push(list, operand, t->storage, mode, &box);
}

kiln_status kiln_access_operands(const kiln_access_query *query) {
    for (uint32_t i = 0; i < query->n_in + query->n_out; i++) {
        if (i < query->n_in ? query->in[i] == NULL : query->out[i - query->n_in] == NULL)
            continue;
        kiln_status status = kiln_access_operand(query, i, i < query->n_in ? KILN_READ : KILN_WRITE);
        if (status != KILN_OK)
            return status;
    }
    return KILN_OK;
}

static const char *operand_name(const kiln__node *n, uint32_t operand) {
    if (operand >= n->n_in)
        return n->op->out_names[operand - n->n_in];
    return n->op->in_names[operand < n->op->n_in_max ? operand : n->op->n_in_max - 1];
}

static kiln_status misdeclared(kiln_access_list *list, const char *format, ...) KILN_PRINTF(2, 3);

static kiln_status misdeclared(kiln_access_list *list, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(list->why, sizeof list->why, format, args);
    va_end(args);
    return KILN_ERROR_ARGUMENT;
}

/* Outputs are written, by their own accesses or by those of the operand that infer put them on. */
static kiln_status check_outputs(kiln_access_list *list, const kiln__node *n) {
    for (uint32_t j = 0; j < n->n_out; j++) {
        const kiln__tensor *t = operand_tensor(list, n->n_in + j);
        unsigned modes = list->named.items[n->n_in + j];
        if (n->alias[j] != 0)
            modes |= list->named.items[n->alias[j] - 1];
        for (uint32_t k = 0; n->alias[j] != 0 && k < n->n_out; k++)
            modes |= n->alias[k] == n->alias[j] ? list->named.items[n->n_in + k] : 0u;
        if (t == NULL || t->bytes == 0 || (modes & KILN_WRITE))
            continue;
        if (n->alias[j] == 0)
            return misdeclared(list, "output %s: none writes it; declare what the kernels write of it",
                               operand_name(n, n->n_in + j));
        return misdeclared(
            list, "output %s lies on operand %s, and none writes either; declare what the kernels write",
            operand_name(n, n->n_in + j), operand_name(n, n->alias[j] - 1u));
    }
    return KILN_OK;
}

/* An operand that was forgotten would be read before it is written. */
static kiln_status check_inputs(kiln_access_list *list, const kiln__node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        const kiln__tensor *t = operand_tensor(list, i);
        bool named = t == NULL || t->bytes == 0 || list->named.items[i] != 0;
        for (uint32_t j = 0; !named && j < n->n_out; j++)
            named = n->alias[j] == i + 1;
        if (!named)
            return misdeclared(list,
                               "operand %u (%s): none names it; if the kernels do not touch it, say so "
                               "with an empty box",
                               i, operand_name(n, i));
    }
    return KILN_OK;
}

kiln_status kiln__access_collect(kiln_access_list *list, size_t node, kiln_error *error) {
    const kiln_graph *g = list->graph;
    const kiln__node *n = &g->nodes.items[node];
    char label[KILN__LABEL_SIZE];
    list->node = (uint32_t)node;
    list->why[0] = '\0';
    kiln_status status;
    if (n->op->accesses == NULL) {
        const kiln_box all = {0, INT64_MAX, {1, 1, 1}, {0, 0, 0}};
        status = push(list, KILN__OPERAND_ANY, 0, KILN_READ_WRITE, &all);
    } else {
        uint32_t total = n->n_in + n->n_out;
        const kiln_desc *fixed[32], **descs = fixed;
        if (!KILN_GROW(&list->allocator, list->named, total) ||
            (total > 32 && (descs = KILN_NEW(&list->allocator, const kiln_desc *, total)) == NULL))
            return kiln_error_set(error, KILN_ERROR_MEMORY, "collecting accesses: out of memory");
        if (total > 0)
            memset(list->named.items, 0, total);
        for (uint32_t i = 0; i < total; i++) {
            const kiln__tensor *t = operand_tensor(list, i);
            descs[i] = t ? kiln__desc_of(list->graph, t) : NULL;
        }
        kiln_access_query query = {n->n_in, n->n_out, descs, descs + n->n_in, kiln__node_attrs(g, n), list};
        status = n->op->accesses(&query);
        if (status == KILN_OK)
            status = check_outputs(list, n);
        if (status == KILN_OK)
            status = check_inputs(list, n);
        if (descs != fixed)
            KILN_DELETE(&list->allocator, descs, const kiln_desc *, total);
    }
    if (status == KILN_OK)
        return KILN_OK;
    return kiln_error_set(error, status, "node '%s' (%s): its accesses: %s", kiln__node_label(g, node, label),
                          n->op->name, list->why[0] != '\0' ? list->why : kiln_status_text(status));
}
