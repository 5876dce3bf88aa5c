/* What the tests of graph JSON share: ops of their own, a small graph and its text. */
#ifndef KILN_TESTS_GRAPH_JSON_CASE_H
#define KILN_TESTS_GRAPH_JSON_CASE_H

#include "graph_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

/* ---- ops -------------------------------------------------------------------------------------------- */

static inline kiln_status infer_same(kiln_infer *infer) {
    for (uint32_t i = 1; i < infer->n_in; i++)
        if (infer->in[i] != NULL && infer->in[i]->ndim != infer->in[0]->ndim)
            return kiln_infer_fail(infer, KILN_ERROR_SHAPE, "operand %u has %u dimensions, not %u", i,
                                   infer->in[i]->ndim, infer->in[0]->ndim);
    for (uint32_t j = 0; j < infer->n_out; j++)
        infer->out[j] = *infer->in[0];
    return KILN_OK;
}

static inline kiln_status infer_in_place(kiln_infer *infer) {
    infer->alias[0] = 0;
    return KILN_OK;
}

/* Writes operand 0 without reading it, as kiln_zero does. */
static inline kiln_status access_write(const kiln_access_query *query) {
    return kiln_access_operand(query, query->n_in, KILN_WRITE);
}

static const char *const in_names[] = {"a", "b", "c"};
static const char *const out_names[] = {"y", "z"};

typedef struct many_attrs {
    uint32_t no_flag, mode;
    int64_t k;
    float eps;
    kiln_i64_value position;
    kiln_f32_value weight;
    int64_t any;
} many_attrs;

static const char *const mode_names[] = {"slow", "fast", NULL};

static const kiln_attr many_fields[] = {
    {.name = "flag", .type = KILN_ATTR_OFF, .offset = offsetof(many_attrs, no_flag)},
    {.name = "mode",
     .type = KILN_ATTR_ENUM,
     .offset = offsetof(many_attrs, mode),
     .names = mode_names,
     .n_names = 3},
    {.name = "k", .type = KILN_ATTR_I64, .offset = offsetof(many_attrs, k), .preset = 2, .min = 1, .max = 8},
    {.name = "eps",
     .type = KILN_ATTR_F32,
     .offset = offsetof(many_attrs, eps),
     .preset = 0.25,
     .min = 0,
     .max = 1},
    {.name = "position",
     .type = KILN_ATTR_I64_SLOT,
     .offset = offsetof(many_attrs, position),
     .min = 0,
     .max = 99},
    {.name = "weight", .type = KILN_ATTR_F32_SLOT, .offset = offsetof(many_attrs, weight), .preset = 1},
    {.name = "any", .type = KILN_ATTR_I64, .offset = offsetof(many_attrs, any)},
};

static const kiln_op op_sum = {.name = "sum",
                               .in_names = in_names,
                               .n_in_min = 2,
                               .n_in_max = 3,
                               .out_names = out_names,
                               .n_out = 1,
                               .infer = infer_same,
                               .accesses = kiln_access_operands};
static const kiln_op op_many = {.name = "many",
                                .in_names = in_names,
                                .n_in_min = 1,
                                .n_in_max = 3,
                                .out_names = out_names,
                                .n_out = 2,
                                .attrs = many_fields,
                                .n_attrs = sizeof many_fields / sizeof *many_fields,
                                .attrs_size = sizeof(many_attrs),
                                .infer = infer_same,
                                .accesses = kiln_access_operands};
static const kiln_op op_clear = {.name = "clear",
                                 .in_names = in_names,
                                 .n_in_min = 1,
                                 .n_in_max = 1,
                                 .out_names = out_names,
                                 .n_out = 1,
                                 .infer = infer_in_place,
                                 .accesses = access_write};
static const kiln_op op_blind = {.name = "blind", /* declares no accesses */
                                 .in_names = in_names,
                                 .n_in_min = 1,
                                 .n_in_max = 1,
                                 .out_names = out_names,
                                 .n_out = 1,
                                 .infer = infer_same};
static const kiln_op op_update = {.name = "update",
                                  .in_names = in_names,
                                  .n_in_min = 1,
                                  .n_in_max = 2,
                                  .out_names = out_names,
                                  .n_out = 1,
                                  .infer = infer_in_place,
                                  .accesses = kiln_access_operands};
static const kiln_op op_blind_update = {.name = "blind_update",
                                        .in_names = in_names,
                                        .n_in_min = 1,
                                        .n_in_max = 1,
                                        .out_names = out_names,
                                        .n_out = 1,
                                        .infer = infer_in_place};

static const kiln_op *const op_list[] = {&op_sum,   &op_many,   &op_clear,
                                         &op_blind, &op_update, &op_blind_update};
static const kiln_op_set ops = {op_list, sizeof op_list / sizeof op_list[0]};

/* ---- helpers ---------------------------------------------------------------------------------------- */

static inline kiln_tensor add_node(kiln_graph *g, const kiln_op *op, kiln_tensor a, kiln_tensor b,
                                   const void *attrs) {
    kiln_tensor out[2], in[2] = {a, b};
    (void)kiln_node_add(g, op, in, 2, attrs, out);
    return out[0];
}

/* Load from memory of exactly the text's size, so that a sanitizer sees a step too far. */
static inline kiln_status load(const char *text, size_t size, const kiln_json_limits *limits,
                               kiln_graph **out, kiln_error *error) {
    char *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, text, size);
    kiln_status status = kiln_graph_from_json(exact, size, ops, limits, NULL, out, error);
    free(exact);
    assert_true((status == KILN_OK) == (*out != NULL));
    return status;
}

static inline kiln_json_text dump(const kiln_graph *g, bool compact) {
    kiln_json_text text;
    kiln_error error = {0};
    if (kiln_graph_to_json(g, &(kiln_json_options){.compact = compact}, &text, &error) != KILN_OK)
        fail_msg("%s", error.text);
    assert_int_equal(text.data[text.size], 0);
    return text;
}

/* Dumps g, loads that, dumps again, readably and compact: the same bytes. */
static inline void check_round_trip(const kiln_graph *g) {
    for (int compact = 0; compact < 2; compact++) {
        kiln_json_text first = dump(g, compact);
        kiln_graph *again;
        kiln_error error = {0};
        if (load(first.data, first.size, NULL, &again, &error) != KILN_OK)
            fail_msg("%s\n%s", error.text, first.data);
        kiln_json_text second = dump(again, compact);
        assert_string_equal(first.data, second.data);
        assert_int_equal(first.size, second.size);
        kiln_json_text_free(&first);
        kiln_json_text_free(&second);
        kiln_graph_destroy(again);
    }
}

static inline kiln_graph *new_graph(void) {
    kiln_graph *g;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    return g;
}

static inline void check_built(const kiln_graph *g) {
    kiln_error error;
    if (kiln_graph_check(g, &error) != KILN_OK)
        fail_msg("%s", error.text);
}

/* The graph that most tests here work on. */
static inline void build_small(kiln_graph *g) {
    kiln_slot n = kiln_slot_i64(g, "n", 0, 4), alpha = kiln_slot_f32(g, "alpha", 0.5f);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(n), kiln_n(8)));
    many_attrs attrs;
    kiln_op_defaults(&op_many, &attrs);
    attrs.k = 3;
    attrs.position = kiln_i64_of(n);
    attrs.weight = kiln_f32_of(alpha);
    attrs.any = INT64_MIN;
    kiln_tensor y = add_node(g, &op_many, x, (kiln_tensor){0, 0}, &attrs);
    kiln_name(g, y, "mid");
    y = add_node(g, &op_sum, x, y, NULL);
    kiln_output(g, y, "y");
}

static const char small[] =
    "{\n"
    "  \"format\": \"kiln.graph\",\n"
    "  \"version\": 1,\n"
    "  \"slots\": [\n"
    "    {\"name\": \"n\", \"type\": \"i64\", \"min\": 0, \"max\": 4},\n"
    "    {\"name\": \"alpha\", \"type\": \"f32\", \"preset\": 0.5}\n"
    "  ],\n"
    "  \"storages\": [\n"
    "    {\"id\": 1, \"name\": \"x\", \"kind\": \"input\", \"size\": 128},\n"
    "    {\"id\": 2, \"kind\": \"arena\", \"size\": 128},\n"
    "    {\"id\": 3, \"kind\": \"arena\", \"size\": 128},\n"
    "    {\"id\": 4, \"name\": \"y\", \"kind\": \"output\", \"size\": 128}\n"
    "  ],\n"
    "  \"tensors\": [\n"
    "    {\"id\": 1, \"name\": \"x\", \"dtype\": \"f32\", \"shape\": [\"n\", 8], \"storage\": 1},\n"
    "    {\"id\": 2, \"name\": \"mid\", \"dtype\": \"f32\", \"shape\": [\"n\", 8], \"storage\": 2},\n"
    "    {\"id\": 3, \"dtype\": \"f32\", \"shape\": [\"n\", 8], \"storage\": 3},\n"
    "    {\"id\": 4, \"name\": \"y\", \"dtype\": \"f32\", \"shape\": [\"n\", 8], \"storage\": 4}\n"
    "  ],\n"
    "  \"nodes\": [\n"
    "    {\"op\": \"many\", \"name\": \"mid\", \"inputs\": [1], \"outputs\": [2, 3], \"attrs\": {\"flag\": "
    "true, "
    "\"mode\": \"slow\", \"k\": 3, \"eps\": 0.25, \"position\": {\"slot\": \"n\"}, \"weight\": {\"slot\": "
    "\"alpha\"}, \"any\": \"-9223372036854775808\"}},\n"
    "    {\"op\": \"sum\", \"name\": \"y\", \"inputs\": [1, 2], \"outputs\": [4]}\n"
    "  ]\n"
    "}\n";

#endif
