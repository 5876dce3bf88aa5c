/* Observers: what taps see when a region is finished. Nothing here runs unless a session switched them on. */
#include "fp_mode.h"
#include "hash.h"
#include "plan.h"

#include <math.h>
#include <stdio.h>

/* ---- walking a tensor ------------------------------------------------------------------------------- */

/* Calls back for each run of adjacent bytes of the tensor, in row-major order. */
typedef void run_fn(void *context, const unsigned char *data, int64_t bytes);

static void walk_runs(const kiln_observation *o, run_fn *fn, void *context) {
    const kiln_dtype_info *info = kiln_dtype_get(o->dtype);
    int64_t n[KILN_MAX_DIMS], at[KILN_MAX_DIMS] = {0};
    uint32_t d = o->ndim;
    if (d < 1 || d > KILN_MAX_DIMS)
        return;
    for (uint32_t i = 0; i < d; i++) {
        n[i] = i == d - 1 ? o->dims[i] / info->block : o->dims[i];
        if (n[i] == 0)
            return;
    }
    bool row = o->strides[d - 1] == (int64_t)info->bytes || n[d - 1] == 1;
    int64_t bytes = row ? n[d - 1] * (int64_t)info->bytes : (int64_t)info->bytes;
    uint32_t levels = row ? d - 1 : d;
    for (;;) {
        const unsigned char *p = o->data;
        for (uint32_t i = 0; i < levels; i++)
            p += at[i] * o->strides[i];
        fn(context, p, bytes);
        uint32_t i = levels;
        while (i-- > 0 && ++at[i] == n[i])
            at[i] = 0;
        if (i == UINT32_MAX)
            return;
    }
}

static void hash_run(void *context, const unsigned char *data, int64_t bytes) {
    XXH3_64bits_update(context, data, (size_t)bytes);
}

typedef struct finite_scan {
    kiln_dtype dtype;
    int64_t seen;  /* elements before this run */
    int64_t first; /* index of the first that is not finite, -1 while there is none */
} finite_scan;

/* All exponent bits set: NaN or Inf, whatever the width. */
static void scan_run(void *context, const unsigned char *data, int64_t bytes) {
    finite_scan *f = context;
    uint32_t size = kiln_dtype_get(f->dtype)->bytes;
    uint32_t mask = f->dtype == KILN_F32 ? 0x7f800000u : f->dtype == KILN_F16 ? 0x7c00u : 0x7f80u;
    int64_t n = bytes / size;
    for (int64_t i = 0; i < n && f->first < 0; i++) {
        uint32_t bits = 0;
        if (size == 4) {
            memcpy(&bits, data + i * 4, 4);
        } else {
            uint16_t half;
            memcpy(&half, data + i * 2, 2);
            bits = half;
        }
        if ((bits & mask) == mask)
            f->first = f->seen + i;
    }
    f->seen += n;
}

/* ---- one tap ---------------------------------------------------------------------------------------- */

static void describe(kiln_session *s, const kiln__tap *tap, kiln_observation *o) {
    const kiln_graph *p = s->plan->program;
    const kiln__tensor *t = &p->tensors.items[tap->tensor];
    const kiln_desc *desc = kiln__desc_of(p, t);
    *o = (kiln_observation){.tensor = tap->label,
                            .op = s->tape.records[tap->record].op->name,
                            .dtype = desc->dtype,
                            .ndim = desc->ndim,
                            .nonfinite = -1,
                            .seen = true};
    for (uint32_t i = 0; i < desc->ndim; i++) {
        kiln_dim d = desc->dims[i];
        o->dims[i] = d.n * (d.slot ? s->i64[d.slot] : 1);
        o->strides[i] = desc->strides[i];
    }
    const unsigned char *base = s->bindings[t->storage].data;
    if (p->storages.items[t->storage].kind == KILN_STORAGE_ARENA)
        base = s->memory + s->plan->schedule.memory.places[t->storage].offset;
    o->data = base + t->offset;
}

static kiln_status observe(kiln_session *s, size_t index) {
    const kiln__tap *tap = &s->plan->taps.items[index];
    kiln_observation *o = &s->observed[index];
    uint32_t watch = tap->watch & s->watch;
    if (watch == 0)
        return KILN_OK;
    describe(s, tap, o);
    s->observed_at[index] = atomic_load(&s->sequence);
    if (watch & KILN_WATCH_TIME)
        o->ns = atomic_load_explicit(&s->tape.records[tap->record].ns, memory_order_relaxed);
    if (watch & KILN_WATCH_HASH) {
        XXH3_state_t state;
        XXH3_64bits_reset(&state);
        walk_runs(o, hash_run, &state);
        o->hash = XXH3_64bits_digest(&state);
    }
    if ((watch & KILN_WATCH_FINITE) && kiln_dtype_get(o->dtype)->kind == KILN_KIND_FLOAT) {
        finite_scan f = {o->dtype, 0, -1};
        walk_runs(o, scan_run, &f);
        o->nonfinite = f.first;
    }
    kiln__outcome *out = &s->run.outcome;
    kiln_status status = s->callback != NULL ? s->callback(s->callback_context, o) : KILN_OK;
    /* The host's code may have changed the mode, and this thread goes on computing. */
    (void)kiln__enter_fp_mode();
    o->data = NULL;
    if (status != KILN_OK) {
        snprintf(out->text, sizeof out->text, "the observer of '%.120s' stopped the run", o->tensor);
    } else if (o->nonfinite >= 0) {
        snprintf(out->text, sizeof out->text, "'%.120s' holds NaN or Inf, first at element %lld", o->tensor,
                 (long long)o->nonfinite);
    } else {
        return KILN_OK;
    }
    out->record = tap->record;
    return KILN_ERROR_NUMERIC;
}

kiln_status kiln__observe_region(kiln__run *run, uint32_t region) {
    kiln_session *s = kiln__session_of(run);
    const kiln__tap *taps = s->plan->taps.items;
    size_t low = 0, high = s->plan->taps.count; /* the first tap of the region */
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (taps[mid].region < region)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < s->plan->taps.count && taps[low].region == region; low++) {
        kiln_status status = observe(s, low);
        if (status != KILN_OK)
            return status;
    }
    return KILN_OK;
}

/* ---- switching -------------------------------------------------------------------------------------- */

kiln_status kiln_session_observe(kiln_session *s, uint32_t watch,
                                 kiln_status (*callback)(void *context, const kiln_observation *observation),
                                 void *context, kiln_error *error) {
    kiln_status status = kiln__session_refuse_busy(s, "kiln_session_observe", error);
    if (status != KILN_OK)
        return status;
    const uint32_t known = KILN_WATCH_VALUES | KILN_WATCH_FINITE | KILN_WATCH_HASH | KILN_WATCH_TIME;
    if (watch & ~known)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT, "kiln_session_observe: unknown watch bits 0x%x",
                              watch & ~known);
    if (s->plan->taps.count == 0 && watch != 0)
        return kiln_error_set(error, KILN_ERROR_ARGUMENT,
                              "kiln_session_observe: the plan has no taps; declare them "
                              "in kiln_bake_options");
    s->watch = watch;
    s->callback = callback;
    s->callback_context = context;
    s->tape.timed &= ~(uint32_t)KILN__TIME_RECORDS;
    s->tape.timed |= watch & KILN_WATCH_TIME ? KILN__TIME_RECORDS : 0;
    s->tape.stale |= KILN__STALE_STEPS; /* what runs without a break depends on it */
    for (uint32_t r = 0; r < s->tape.n_regions; r++)
        s->tape.regions[r].observed = 0;
    for (size_t i = 0; i < s->plan->taps.count; i++)
        if (watch & s->plan->taps.items[i].watch)
            s->tape.regions[s->plan->taps.items[i].region].observed = 1;
    return KILN_OK;
}

bool kiln_session_observed(const kiln_session *s, size_t i, kiln_observation *out) {
    if (i >= s->plan->taps.count)
        return false;
    if (s->observed_at[i] != 0 && s->observed_at[i] == atomic_load(&s->sequence))
        *out = s->observed[i];
    else
        *out = (kiln_observation){.tensor = s->plan->taps.items[i].label, .nonfinite = -1};
    return true;
}
