/* Graphs to JSON. Reading is in load_json.c; the schema is in JSON.md. */
#include "graph_json.h"

/* ---- slots, storages, tensors ----------------------------------------------------------------------- */

static void put_name(kiln__json_writer *w, const kiln_graph *g, uint32_t name) {
    if (name == 0)
        return;
    kiln__json_key(w, "name");
    kiln__json_put_cstring(w, kiln__text(g, name));
}

static void put_slot_name(kiln__json_writer *w, const kiln_graph *g, uint32_t slot) {
    kiln__json_put_cstring(w, kiln__text(g, g->slots.items[slot].name));
}

/* 8, "n_tokens", {"n": 8, "slot": "n_tokens"}, or {"n": "4503599627370496"}: a string alone is a slot. */
static void put_dim(kiln__json_writer *w, const kiln_graph *g, kiln_dim dim) {
    if (dim.slot == 0 && kiln__json_is_plain_i64(dim.n)) {
        kiln__json_put_i64(w, dim.n);
    } else if (dim.slot != 0 && dim.n == 1) {
        put_slot_name(w, g, dim.slot);
    } else {
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        kiln__json_key(w, "n");
        kiln__json_put_i64(w, dim.n);
        if (dim.slot != 0) {
            kiln__json_key(w, "slot");
            put_slot_name(w, g, dim.slot);
        }
        kiln__json_end(w);
    }
}

static void put_slot(kiln__json_writer *w, const kiln_graph *g, const kiln__slot *slot) {
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    put_name(w, g, slot->name);
    kiln__json_key(w, "type");
    kiln__json_put_cstring(w, slot->is_float ? "f32" : "i64");
    if (slot->is_float) {
        kiln__json_key(w, "preset");
        kiln__json_put_f32(w, slot->preset);
    } else {
        kiln__json_key(w, "min");
        kiln__json_put_i64(w, slot->min);
        kiln__json_key(w, "max");
        kiln__json_put_i64(w, slot->max);
    }
    if (slot->n_terms > 0) {
        kiln__json_key(w, "sum");
        kiln__json_begin_array(w, KILN_JSON_INLINE);
        for (uint32_t i = 0; i < slot->n_terms; i++)
            put_dim(w, g, slot->terms[i]);
        kiln__json_end(w);
    }
    kiln__json_end(w);
}

static void put_storage(kiln__json_writer *w, const kiln_graph *g, size_t id) {
    const kiln__storage *s = &g->storages.items[id];
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    kiln__json_key(w, "id");
    kiln__json_put_u64(w, id);
    put_name(w, g, s->name);
    kiln__json_key(w, "kind");
    kiln__json_put_cstring(w, kiln__storage_kind_names[s->kind]);
    kiln__json_key(w, "size");
    kiln__json_put_i64(w, s->size);
    kiln__json_end(w);
}

static void put_tensor(kiln__json_writer *w, const kiln_graph *g, size_t id) {
    const kiln__tensor *t = &g->tensors.items[id];
    const kiln_desc *desc = kiln__desc_of(g, t);
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    kiln__json_key(w, "id");
    kiln__json_put_u64(w, id);
    put_name(w, g, t->name);
    kiln__json_key(w, "dtype");
    kiln__json_put_cstring(w, kiln_dtype_get(desc->dtype)->name);
    kiln__json_key(w, "shape");
    kiln__json_begin_array(w, KILN_JSON_INLINE);
    for (uint32_t i = 0; i < desc->ndim; i++)
        put_dim(w, g, desc->dims[i]);
    kiln__json_end(w);
    kiln__json_key(w, "storage");
    kiln__json_put_u64(w, t->storage);
    if (t->offset != 0) {
        kiln__json_key(w, "offset");
        kiln__json_put_i64(w, t->offset);
    }
    if (!kiln__desc_is_dense(g, desc)) {
        kiln__json_key(w, "strides");
        kiln__json_begin_array(w, KILN_JSON_INLINE);
        for (uint32_t i = 0; i < desc->ndim; i++)
            kiln__json_put_i64(w, desc->strides[i]);
        kiln__json_end(w);
    }
    kiln__json_end(w);
}

/* ---- nodes ------------------------------------------------------------------------------------------ */

static void put_slot_value(kiln__json_writer *w, const kiln_graph *g, uint32_t slot) {
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    kiln__json_key(w, "slot");
    put_slot_name(w, g, slot);
    kiln__json_end(w);
}

/* False for an enum value without a name. */
static bool put_attr(kiln__json_writer *w, const kiln_graph *g, const kiln_attr *a, const void *at) {
    kiln__json_key(w, a->name);
    switch (a->type) {
    case KILN_ATTR_BOOL:
        kiln__json_put_bool(w, *(const uint32_t *)at != 0);
        return true;
    case KILN_ATTR_OFF:
        kiln__json_put_bool(w, *(const uint32_t *)at == 0);
        return true;
    case KILN_ATTR_ENUM: {
        uint32_t value = *(const uint32_t *)at;
        if (value >= a->n_names || a->names[value] == NULL)
            return false;
        kiln__json_put_cstring(w, a->names[value]);
        return true;
    }
    case KILN_ATTR_I64:
        kiln__json_put_i64(w, *(const int64_t *)at);
        return true;
    case KILN_ATTR_F32:
        kiln__json_put_f32(w, *(const float *)at);
        return true;
    case KILN_ATTR_I64_SLOT: {
        const kiln_i64_value *value = at;
        if (value->slot != 0)
            put_slot_value(w, g, value->slot);
        else
            kiln__json_put_i64(w, value->value);
        return true;
    }
    case KILN_ATTR_F32_SLOT: {
        const kiln_f32_value *value = at;
        if (value->slot != 0)
            put_slot_value(w, g, value->slot);
        else
            kiln__json_put_f32(w, value->value);
        return true;
    }
    }
    return false;
}

static void put_ids(kiln__json_writer *w, const char *key, const uint32_t *ids, uint32_t n) {
    kiln__json_key(w, key);
    kiln__json_begin_array(w, KILN_JSON_INLINE);
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == 0)
            kiln__json_put_null(w);
        else
            kiln__json_put_u64(w, ids[i]);
    kiln__json_end(w);
}

static kiln_status put_node(kiln__json_writer *w, const kiln_graph *g, size_t index, kiln_error *error) {
    const kiln__node *n = &g->nodes.items[index];
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    kiln__json_key(w, "op");
    kiln__json_put_cstring(w, n->op->name);
    put_name(w, g, n->name);
    put_ids(w, "inputs", kiln__node_in(g, n), n->n_in);
    put_ids(w, "outputs", kiln__node_out(g, n), n->n_out);
    if (n->op->n_attrs > 0) {
        const unsigned char *attrs = kiln__node_attrs(g, n);
        kiln__json_key(w, "attrs");
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        for (uint32_t i = 0; i < n->op->n_attrs; i++) {
            const kiln_attr *a = &n->op->attrs[i];
            char label[KILN__LABEL_SIZE];
            if (!put_attr(w, g, a, attrs + a->offset))
                return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                                      "node '%s' (%s): the value of attribute %s has no name",
                                      kiln__node_label(g, index, label), n->op->name, a->name);
        }
        kiln__json_end(w);
    }
    kiln__json_end(w);
    return KILN_OK;
}

/* ---- graphs ----------------------------------------------------------------------------------------- */

static void begin_list(kiln__json_writer *w, const char *key) {
    kiln__json_key(w, key);
    kiln__json_begin_array(w, KILN_JSON_LINES);
}

int64_t kiln__graph_json_version(const kiln_graph *g) {
    for (size_t i = 1; i < g->slots.count; i++)
        if (g->slots.items[i].n_terms > 0)
            return 2;
    return 1;
}

kiln_status kiln__graph_put_json(kiln__json_writer *w, const kiln_graph *g, kiln_error *error) {
    kiln__json_begin_object(w, KILN_JSON_LINES);
    kiln__json_key(w, "format");
    kiln__json_put_cstring(w, "kiln.graph");
    kiln__json_key(w, "version");
    kiln__json_put_i64(w, kiln__graph_json_version(g));
    begin_list(w, "slots");
    for (size_t i = 1; i < g->slots.count; i++)
        put_slot(w, g, &g->slots.items[i]);
    kiln__json_end(w);
    begin_list(w, "storages");
    for (size_t i = 1; i < g->storages.count; i++)
        put_storage(w, g, i);
    kiln__json_end(w);
    begin_list(w, "tensors");
    for (size_t i = 1; i < g->tensors.count; i++)
        put_tensor(w, g, i);
    kiln__json_end(w);
    begin_list(w, "nodes");
    for (size_t i = 0; i < g->nodes.count; i++) {
        kiln_status status = put_node(w, g, i, error);
        if (status != KILN_OK)
            return status;
    }
    kiln__json_end(w);
    kiln__json_end(w);
    return KILN_OK;
}

/* Puts the graph and finishes the writer, whatever happens. */
static kiln_status write_and_finish(kiln__json_writer *w, const kiln_graph *g, kiln_json_text *out,
                                    kiln_error *error) {
    kiln_status status = kiln__graph_put_json(w, g, error);
    kiln_status finished = kiln__json_writer_finish(w, out, status == KILN_OK ? error : NULL);
    return status != KILN_OK ? status : finished;
}

kiln_status kiln_graph_to_json(const kiln_graph *g, const kiln_json_options *options, kiln_json_text *out,
                               kiln_error *error) {
    if (out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_graph_to_json: out is NULL");
    *out = (kiln_json_text){0};
    kiln_status status = kiln_graph_check(g, error);
    if (status != KILN_OK)
        return status;
    kiln__json_writer w;
    kiln__json_writer_init(&w, options ? &options->allocator : NULL, options != NULL && options->compact);
    return write_and_finish(&w, g, out, error);
}

kiln_status kiln_graph_to_json_sink(const kiln_graph *g, const kiln_json_options *options,
                                    kiln_json_sink sink, void *context, kiln_error *error) {
    kiln_status status = kiln_graph_check(g, error);
    if (status != KILN_OK)
        return status;
    if (sink == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_graph_to_json_sink: sink is NULL");
    kiln__json_writer w;
    kiln__json_writer_init_sink(&w, sink, context, options != NULL && options->compact);
    return write_and_finish(&w, g, NULL, error);
}
