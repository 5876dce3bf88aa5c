/* Holding a plan dump against a plan baked afresh from the graph and options in it. */
#include "kiln_plan_json.h"
#include "plan_json.h"

#include <string.h>

/* ---- options ---------------------------------------------------------------------------------------- */

typedef struct options_reader {
    kiln_bake_options options;
    kiln_tap taps[256];
} options_reader;

static kiln_status read_bits(const kiln__json *array, const kiln__bit_name *names, uint32_t *bits,
                             kiln_error *error) {
    const char *list[32];
    size_t n = 0, count, which;
    for (; names[n].name != NULL; n++)
        list[n] = names[n].name;
    *bits = 0;
    kiln_status status = kiln__json_count(array, 0, n, &count, error);
    if (status != KILN_OK)
        return status;
    for (kiln__json v = kiln__json_first(array); v.item != NULL; kiln__json_next(&v)) {
        status = kiln__json_get_enum(&v, list, n, &which, error);
        if (status != KILN_OK)
            return status;
        *bits |= names[which].bit;
    }
    return KILN_OK;
}

static kiln_status read_taps(const kiln__json *array, options_reader *r, kiln_error *error) {
    size_t count, most = sizeof r->taps / sizeof *r->taps;
    kiln_status status = kiln__json_count(array, 0, most, &count, error);
    if (status != KILN_OK)
        return status;
    uint32_t i = 0;
    for (kiln__json v = kiln__json_first(array); v.item != NULL; kiln__json_next(&v), i++) {
        kiln__json tensor, watch;
        status = kiln__json_members(
            &v, (kiln__json_field[]){{"tensor", &tensor, true}, {"watch", &watch, true}}, 2, error);
        if (status == KILN_OK)
            status = kiln__json_get_string(&tensor, KILN__LABEL_SIZE, &r->taps[i].tensor, error);
        if (status == KILN_OK)
            status = read_bits(&watch, kiln__watch_bits, &r->taps[i].watch, error);
        if (status != KILN_OK)
            return status;
    }
    r->options.taps = r->taps;
    r->options.n_taps = i;
    return KILN_OK;
}

static kiln_status read_options(const kiln__json *object, options_reader *r, kiln_error *error) {
    kiln__json precision, no_fuse, no_reuse, no_inplace, serial, max_arena, taps;
    kiln__json_field fields[] = {
        {"precision", &precision, true}, {"no_fuse", &no_fuse, true},
        {"no_reuse", &no_reuse, true},   {"no_inplace", &no_inplace, true},
        {"serial", &serial, true},       {"max_arena", &max_arena, true},
        {"taps", &taps, true},
    };
    size_t which = 0;
    kiln_status status = kiln__json_members(object, fields, sizeof fields / sizeof *fields, error);
    if (status == KILN_OK)
        status = kiln__json_get_enum(&precision, kiln__precision_names, 2, &which, error);
    if (status == KILN_OK)
        status = read_bits(&no_fuse, kiln__fusion_bits, &r->options.no_fuse, error);
    if (status == KILN_OK)
        status = kiln__json_get_bool(&no_reuse, &r->options.no_reuse, error);
    if (status == KILN_OK)
        status = kiln__json_get_bool(&no_inplace, &r->options.no_inplace, error);
    if (status == KILN_OK)
        status = kiln__json_get_bool(&serial, &r->options.serial, error);
    if (status == KILN_OK)
        status = kiln__json_get_i64(&max_arena, 0, INT64_MAX, &r->options.max_arena, error);
    if (status == KILN_OK)
        status = read_taps(&taps, r, error);
    r->options.precision = (kiln_precision)which;
    return status;
}

/* ---- comparison ------------------------------------------------------------------------------------- */

static kiln_status stale(const kiln__json *dumped, const kiln__json *fresh, kiln_error *error) {
    char was[KILN__JSON_QUOTE_SIZE], now[KILN__JSON_QUOTE_SIZE];
    return kiln__json_fail(dumped, KILN_ERROR_STALE, error, "%s in the dump, %s when baked afresh",
                           kiln__json_show(dumped, was), kiln__json_show(fresh, now));
}

static kiln_status compare(const kiln__json *dumped, const kiln__json *fresh, kiln_error *error);

static kiln_status compare_objects(const kiln__json *dumped, const kiln__json *fresh, kiln_error *error) {
    for (kiln__json v = kiln__json_first(fresh); v.item != NULL; kiln__json_next(&v)) {
        kiln__json mine = kiln__json_member(dumped, kiln__json_key_of(&v));
        if (mine.item == NULL)
            return kiln__json_fail(dumped, KILN_ERROR_STALE, error,
                                   "has no \"%.60s\", which a fresh plan has", kiln__json_key_of(&v));
        kiln_status status = compare(&mine, &v, error);
        if (status != KILN_OK)
            return status;
    }
    for (kiln__json v = kiln__json_first(dumped); v.item != NULL; kiln__json_next(&v))
        if (kiln__json_member(fresh, kiln__json_key_of(&v)).item == NULL)
            return kiln__json_fail(&v, KILN_ERROR_STALE, error, "a fresh plan has no such member");
    return KILN_OK;
}

/* Goes only as deep as a fresh plan is, which is a few levels, whatever the dump holds. */
// NOLINTNEXTLINE(misc-no-recursion)
static kiln_status compare_arrays(const kiln__json *dumped, const kiln__json *fresh, kiln_error *error) {
    size_t n = 0, m = 0;
    kiln_status status = kiln__json_count(dumped, 0, SIZE_MAX, &n, error);
    if (status == KILN_OK)
        status = kiln__json_count(fresh, 0, SIZE_MAX, &m, error);
    if (status == KILN_OK && n != m)
        status = kiln__json_fail(dumped, KILN_ERROR_STALE, error,
                                 "%zu elements in the dump, %zu when baked afresh", n, m);
    if (status != KILN_OK)
        return status;
    kiln__json b = kiln__json_first(fresh);
    for (kiln__json a = kiln__json_first(dumped); a.item != NULL; kiln__json_next(&a), kiln__json_next(&b))
        if ((status = compare(&a, &b, error)) != KILN_OK)
            return status;
    return KILN_OK;
}

// NOLINTNEXTLINE(misc-no-recursion)
static kiln_status compare(const kiln__json *dumped, const kiln__json *fresh, kiln_error *error) {
    if (kiln__json_is_object(dumped) && kiln__json_is_object(fresh))
        return compare_objects(dumped, fresh, error);
    if (kiln__json_is_array(dumped) && kiln__json_is_array(fresh))
        return compare_arrays(dumped, fresh, error);
    return kiln__json_same_scalar(dumped, fresh) ? KILN_OK : stale(dumped, fresh, error);
}

/* ---- checking --------------------------------------------------------------------------------------- */

static kiln_status compare_with(const kiln__json *dumped, const kiln_plan *plan, const kiln__json_caps *caps,
                                const kiln_allocator *a, kiln_error *error) {
    kiln__json_writer w;
    kiln_json_text text;
    kiln__json_writer_init(&w, a, true);
    kiln_status put = kiln__plan_put_json(&w, plan, error);
    kiln_status status = kiln__json_writer_finish(&w, &text, error);
    status = put != KILN_OK ? put : status;
    kiln__json_doc doc;
    if (status == KILN_OK &&
        (status = kiln__json_open(&doc, text.data, text.size, caps, a, error)) == KILN_OK) {
        kiln__json fresh = kiln__json_root(&doc);
        status = compare(dumped, &fresh, error);
        kiln__json_close(&doc);
    }
    kiln_json_text_free(&text);
    return status;
}

/* What a document of a plan holds, taken apart; `graph` is the caller's to destroy. */
typedef struct dump {
    kiln__json plan; /* the "plan" object */
    options_reader options;
    kiln_graph *graph;
} dump;

static kiln_status read_dump(const kiln__json *root, kiln_op_set ops, const kiln_json_limits *limits,
                             const kiln_allocator *a, dump *out, kiln_error *error) {
    static const char *const formats[] = {"kiln.plan"};
    kiln__json format, version, options, graph, session;
    size_t which;
    int64_t number;
    kiln__json_field fields[] = {
        {"format", &format, true}, {"version", &version, true}, {"options", &options, true},
        {"graph", &graph, true},   {"plan", &out->plan, true},  {"session", &session, false},
    };
    kiln_status status = kiln__json_check_format(root, formats, 1, &which, &number, error);
    if (status == KILN_OK)
        status = kiln__json_members(root, fields, sizeof fields / sizeof *fields, error);
    if (status == KILN_OK)
        status = read_options(&options, &out->options, error);
    return status != KILN_OK ? status : kiln__graph_get_json(&graph, ops, limits, a, &out->graph, error);
}

/* Bakes what the text says; with `check`, also holds the text's plan against it. *out may be NULL. */
static kiln_status bake_dump(const char *text, size_t size, kiln_op_set ops, const kiln_json_limits *limits,
                             const kiln_allocator *allocator, bool check, kiln_plan **out,
                             kiln_error *error) {
    kiln_allocator a = kiln__allocator_or_default(allocator);
    kiln_json_limits resolved = kiln__json_limits_resolve(limits);
    kiln__json_caps caps = kiln__json_limits_caps(&resolved);
    kiln__json_doc doc;
    kiln_status status = kiln__json_open(&doc, text, size, &caps, &a, error);
    if (status != KILN_OK)
        return status;
    kiln__json root = kiln__json_root(&doc);
    dump d = {.graph = NULL};
    kiln_plan *plan = NULL;
    status = read_dump(&root, ops, &resolved, &a, &d, error);
    if (status == KILN_OK)
        status = kiln_bake(d.graph, &d.options.options, &plan, error);
    if (status == KILN_OK && check)
        status = compare_with(&d.plan, plan, &caps, &a, error);
    kiln_graph_destroy(d.graph);
    kiln__json_close(&doc);
    if (status == KILN_OK && out != NULL)
        *out = plan;
    else
        kiln_plan_release(plan);
    return status;
}

kiln_status kiln_plan_from_json(const char *text, size_t size, kiln_op_set ops,
                                const kiln_json_limits *limits, const kiln_allocator *allocator,
                                kiln_plan **out, kiln_error *error) {
    if (text == NULL || out == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_plan_from_json: text or out is NULL");
    *out = NULL;
    return bake_dump(text, size, ops, limits, allocator, false, out, error);
}

kiln_status kiln_plan_check_json(const char *text, size_t size, kiln_op_set ops,
                                 const kiln_json_limits *limits, const kiln_allocator *allocator,
                                 kiln_error *error) {
    if (text == NULL)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_plan_check_json: text is NULL");
    return bake_dump(text, size, ops, limits, allocator, true, NULL, error);
}
