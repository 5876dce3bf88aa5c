#include "run.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int run_list_slots(runner *r) {
    kiln_slot_info info;
    for (size_t i = 0; kiln_plan_slot_at(r->plan, i, &info); i++)
        if (info.slot.id >= r->slots_end)
            r->slots_end = (size_t)info.slot.id + 1;
    r->slots = calloc(r->slots_end + 1, sizeof *r->slots);
    r->slot_infos = calloc(r->slots_end + 1, sizeof *r->slot_infos);
    if (r->slots == NULL || r->slot_infos == NULL)
        return fail_text(NULL, "out of memory");
    for (size_t i = 0; kiln_plan_slot_at(r->plan, i, &info); i++) {
        r->slots[info.slot.id] = RUN_UNSET;
        r->slot_infos[info.slot.id] = info;
    }
    return EXIT_OK;
}

/* ---- --set ------------------------------------------------------------------------------------------ */

/* "there are: n (0 to 4), gain (a number)" */
static int no_such_slot(const runner *r, const char *name) {
    char names[600] = "";
    kiln_slot_info s;
    for (size_t i = 0, at = 0; kiln_plan_slot_at(r->plan, i, &s); i++, at = strlen(names)) {
        const char *head = at ? ", " : "there are: ";
        if (s.is_float)
            snprintf(names + at, sizeof names - at, "%s%s (a number)", head, s.name);
        else if (s.n_terms > 0)
            snprintf(names + at, sizeof names - at, "%s%s (computed)", head, s.name);
        else
            snprintf(names + at, sizeof names - at, "%s%s (%lld to %lld)", head, s.name, (long long)s.min,
                     (long long)s.max);
    }
    return fail_text(names[0] != '\0' ? names : "there are none", "the graph has no slot '%s'", name);
}

static int set_float(const runner *r, const kiln_slot_info *s, const char *value) {
    kiln_error error;
    char *end;
    float f = strtof(value, &end);
    if (*end != '\0' || !isfinite(f))
        return args_usage("run", "slot '%s' is '%s'; expected a number from %g to %g", s->name, value,
                          -(double)FLT_MAX, (double)FLT_MAX);
    return kiln_session_set_f32(r->session, s->slot, f, &error) == KILN_OK ? EXIT_OK : fail(&error, NULL);
}

/* The session says what it is computed from. */
static int refuse_computed(const runner *r, const kiln_slot_info *s) {
    kiln_error error;
    return kiln_session_set_i64(r->session, s->slot, s->min, &error) == KILN_OK ? EXIT_OK
                                                                                : fail(&error, NULL);
}

int run_set_slots(runner *r) {
    int code = EXIT_OK;
    for (size_t i = 0; i < r->opt->slots.count && code == EXIT_OK; i++) {
        const char *text = r->opt->slots.items[i];
        char name[256];
        size_t length;
        const char *value = run_split(text, &length);
        if (value == NULL || length >= sizeof name)
            return args_usage("run", "--set is '%s'; expected SLOT=VALUE", text);
        snprintf(name, sizeof name, "%.*s", (int)length, text);
        kiln_slot slot = kiln_plan_slot(r->plan, name);
        if (slot.id == 0)
            return no_such_slot(r, name);
        const kiln_slot_info *s = &r->slot_infos[slot.id];
        if (s->n_terms > 0)
            code = refuse_computed(r, s);
        else if (s->is_float)
            code = set_float(r, s, value);
        else if (!args_int(value, s->min, s->max, &r->slots[slot.id]))
            code = fail_text(NULL, "slot '%s' is '%s'; expected an integer from %lld to %lld", name, value,
                             (long long)s->min, (long long)s->max);
    }
    return code;
}

/* ---- symbols ---------------------------------------------------------------------------------------- */

/* What the graph says a dimension is: "4", "a multiple of 2" or "6 (2 times n, and that is 3)". */
static const char *dim_text(const runner *r, kiln_dim d, const int64_t *slot, char *buffer, size_t size) {
    if (slot == NULL)
        snprintf(buffer, size, "%lld", (long long)d.n);
    else if (*slot == RUN_UNSET)
        snprintf(buffer, size, "a multiple of %lld", (long long)d.n);
    else {
        int64_t count = d.n * *slot;
        snprintf(buffer, size, "%lld (%lld times %.80s, and that is %lld)", (long long)count, (long long)d.n,
                 r->slot_infos[d.slot].name, (long long)*slot);
    }
    return buffer;
}

/* Takes the value of a symbol from a count, if it is not known and the count is a multiple. */
static int infer_slot(runner *r, kiln_dim d, int64_t count, const char *label, const char *source) {
    const kiln_slot_info *s = &r->slot_infos[d.slot];
    if (r->slots[d.slot] != RUN_UNSET || d.n <= 0 || count % d.n != 0)
        return EXIT_OK;
    int64_t value = count / d.n;
    if (value < s->min || value > s->max)
        return fail_text(NULL, "'%s' makes %s %lld with %s, but its bounds are %lld and %lld", label, s->name,
                         (long long)value, source, (long long)s->min, (long long)s->max);
    r->slots[d.slot] = value;
    return EXIT_OK;
}

int run_infer_slots(runner *r, const run_part *p) {
    const kiln_desc *d = &p->info.desc;
    char label[RUN_LABEL_SIZE], text[300];
    const char *name = run_part_label(p, label);
    const char *kind = p->storage.kind == KILN_STORAGE_WEIGHT ? "weight" : "input";
    if (p->npy.dtype != d->dtype || p->npy.ndim != (int32_t)d->ndim)
        return fail_text(NULL, "%s '%s' is %s with %u dimensions, but %s holds %s with %d", kind, name,
                         kiln_dtype_get(d->dtype)->name, d->ndim, p->source,
                         kiln_dtype_get(p->npy.dtype)->name, p->npy.ndim);
    for (uint32_t i = 0; i < d->ndim; i++) {
        int64_t n = d->dims[i].n, count = p->npy.dims[i];
        int64_t *slot = d->dims[i].slot ? &r->slots[d->dims[i].slot] : NULL;
        int code = slot != NULL ? infer_slot(r, d->dims[i], count, name, p->source) : EXIT_OK;
        if (code != EXIT_OK)
            return code;
        /* The product fits: slots are within their bounds, and what the bounds allow was checked. */
        if ((slot != NULL && *slot == RUN_UNSET) || count != n * (slot ? *slot : 1))
            return fail_text("shapes are outermost first; --set SLOT=VALUE sets a symbol",
                             "%s '%s': dimension %u is %lld in %s, but the graph says %s", kind, name, i,
                             (long long)count, p->source, dim_text(r, d->dims[i], slot, text, sizeof text));
    }
    return EXIT_OK;
}

/* What computed slots come to, once all others are set. An input may have said otherwise. */
static int take_computed(runner *r) {
    for (size_t i = 0; i < r->slots_end; i++) {
        const kiln_slot_info *s = &r->slot_infos[i];
        if (s->n_terms == 0)
            continue;
        int64_t value = kiln_session_get_i64(r->session, s->slot);
        if (r->slots[i] != RUN_UNSET && r->slots[i] != value)
            return fail_text("--set SLOT=VALUE sets the slots that it is computed from",
                             "slot '%s' is computed and comes to %lld, but the inputs are for %lld", s->name,
                             (long long)value, (long long)r->slots[i]);
        if (value < s->min || value > s->max)
            return fail_text("--set SLOT=VALUE sets the slots that it is computed from",
                             "slot '%s' is computed and comes to %lld; its bounds are %lld and %lld", s->name,
                             (long long)value, (long long)s->min, (long long)s->max);
        r->slots[i] = value;
    }
    return EXIT_OK;
}

int run_apply_slots(runner *r) {
    kiln_tensor_info info;
    kiln_error error;
    for (size_t i = 0; kiln_plan_tensor_get(r->plan, kiln_plan_tensor_at(r->plan, i), &info) == KILN_OK; i++)
        for (uint32_t d = 0; d < info.desc.ndim; d++) {
            uint32_t slot = info.desc.dims[d].slot;
            if (slot != 0 && r->slots[slot] == RUN_UNSET && r->slot_infos[slot].n_terms == 0)
                r->slots[slot] = r->slot_infos[slot].max;
        }
    for (size_t i = 0; i < r->slots_end; i++) {
        const kiln_slot_info *s = &r->slot_infos[i];
        if (s->slot.id == 0 || s->is_float || s->n_terms > 0)
            continue;
        if (r->slots[i] == RUN_UNSET)
            r->slots[i] = s->min;
        if (kiln_session_set_i64(r->session, s->slot, r->slots[i], &error) != KILN_OK)
            return fail(&error, "--set SLOT=VALUE sets a slot");
    }
    return take_computed(r);
}
