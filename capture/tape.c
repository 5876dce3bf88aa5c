/* Makes a session's tape from its plan: records in execution order, and the lists of what to patch when a
 * slot or a binding changes. Two passes over the same walk: count, then fill. */
#include "plan.h"
#include "args.h"

/* ---- memory ----------------------------------------------------------------------------------------- */

typedef struct layout {
    int64_t regions, block, size; /* byte offsets in the allocation; records are first */
} layout;

static bool add_aligned(int64_t *at, int64_t bytes, int64_t align) {
    return kiln__align_up(*at, align, at) && kiln__add(*at, bytes, at);
}

static bool plan_layout(const kiln_plan *plan, layout *l) {
    const kiln_graph *p = plan->program;
    int64_t at = 0;
    if (!kiln__mul(plan->schedule.n_nodes, sizeof(kiln__record), &at) || !kiln__align_up(at, 64, &at))
        return false;
    l->regions = at;
    if (!add_aligned(&at, (int64_t)plan->schedule.n_regions * (int64_t)sizeof(kiln__region), 64) ||
        !kiln__align_up(at, 64, &at))
        return false;
    l->block = at;
    for (size_t i = 0; i < p->nodes.count; i++) {
        const kiln__node *n = &p->nodes.items[i];
        if (!add_aligned(&at, (int64_t)(n->n_in + n->n_out) * (int64_t)sizeof(kiln_operand), 64) ||
            !add_aligned(&at, n->op->attrs_size, 8) || !kiln__align_up(at, 64, &at)) /* in any order */
            return false;
    }
    l->size = at > 0 ? at : 64;
    return true;
}

/* ---- filling ---------------------------------------------------------------------------------------- */

/* Both passes: with patches NULL it only counts, into first_…[id + 1]. */
typedef struct filler {
    kiln_session *session;
    bool count;
    size_t *slot_at;    /* [n_slots + 1] */
    size_t *pointer_at; /* [n_storages + 1] */
    uint32_t region;    /* at hand */
} filler;

static void patch_slot(filler *f, uint32_t slot, uint32_t record, int64_t factor, void *at) {
    if (f->count)
        f->slot_at[slot + 1]++;
    else
        f->session->slot_patches[f->slot_at[slot]++] = (kiln__slot_patch){record, f->region, factor, at};
}

static void fill_operand(filler *f, uint32_t record, uint32_t tensor, kiln_operand *o) {
    const kiln_graph *p = f->session->plan->program;
    if (tensor == 0)
        return; /* absent: all zero, as the memory was made */
    const kiln__tensor *t = &p->tensors.items[tensor];
    const kiln_desc *desc = kiln__desc_of(p, t);
    if (f->count) {
        f->pointer_at[t->storage + 1]++;
    } else {
        int64_t ne[KILN_MAX_DIMS];
        for (uint32_t i = 0; i < desc->ndim; i++)
            ne[i] = kiln__dim_max(p, desc->dims[i]);
        kiln__operand_fill(o, desc, ne);
        f->session->pointers[f->pointer_at[t->storage]++] = (kiln__pointer_patch){o, t->offset};
    }
    for (uint32_t i = 0; i < desc->ndim; i++)
        if (desc->dims[i].slot != 0)
            patch_slot(f, desc->dims[i].slot, record, desc->dims[i].n,
                       f->count ? NULL : &o->ne[KILN_MAX_DIMS - desc->ndim + i]);
}

static void fill_attrs(filler *f, uint32_t record, const kiln__node *n, unsigned char *attrs) {
    const unsigned char *source = kiln__node_attrs(f->session->plan->program, n);
    if (!f->count && n->op->attrs_size > 0)
        memcpy(attrs, source, n->op->attrs_size);
    for (uint32_t i = 0; i < n->op->n_attrs; i++) {
        const kiln_attr *a = &n->op->attrs[i];
        if (a->type == KILN_ATTR_I64_SLOT) {
            uint32_t slot = ((const kiln_i64_value *)(const void *)(source + a->offset))->slot;
            if (slot != 0)
                patch_slot(f, slot, record, 0, f->count ? NULL : attrs + a->offset);
        } else if (a->type == KILN_ATTR_F32_SLOT) {
            uint32_t slot = ((const kiln_f32_value *)(const void *)(source + a->offset))->slot;
            if (slot != 0)
                patch_slot(f, slot, record, 0, f->count ? NULL : attrs + a->offset);
        }
    }
}

static void walk(filler *f, unsigned char *block) {
    kiln_session *s = f->session;
    const kiln_graph *p = s->plan->program;
    const kiln__schedule *schedule = &s->plan->schedule;
    int64_t at = 0;
    for (uint32_t r = 0; r < schedule->n_nodes; r++) {
        const kiln__node *n = &p->nodes.items[schedule->order[r]];
        uint32_t n_operands = n->n_in + n->n_out;
        while (schedule->region_first[f->region + 1] <= r)
            f->region++;
        int64_t operands_at = (at + 63) & ~(int64_t)63;
        int64_t attrs_at = operands_at + (int64_t)n_operands * (int64_t)sizeof(kiln_operand);
        at = attrs_at + (int64_t)n->op->attrs_size;
        kiln_operand *operands = f->count ? NULL : (kiln_operand *)(void *)(block + operands_at);
        unsigned char *attrs = f->count ? NULL : block + attrs_at;
        for (uint32_t i = 0; i < n_operands; i++)
            fill_operand(f, r, p->operands.items[n->operands + i], f->count ? NULL : &operands[i]);
        fill_attrs(f, r, n, attrs);
        if (f->count)
            continue;
        s->tape.records[r] = (kiln__record){
            .args = {n->n_in, n->n_out, operands, operands + n->n_in, n->op->attrs_size ? attrs : NULL},
            .op = n->op,
            .node = schedule->order[r]};
        kiln__args_flatten(&s->tape.records[r].args);
    }
}

static void prefix_sums(size_t *first, size_t n) {
    for (size_t i = 0; i < n; i++)
        first[i + 1] += first[i];
}

static bool alloc_lists(kiln_session *s) {
    const kiln_allocator *a = &s->allocator;
    s->first_slot_patch = KILN_NEW(a, size_t, s->n_slots + 2);
    s->first_pointer = KILN_NEW(a, size_t, s->n_storages + 2);
    return s->first_slot_patch != NULL && s->first_pointer != NULL;
}

kiln_status kiln__tape_make(kiln_session *s, kiln_error *error) {
    const kiln_plan *plan = s->plan;
    layout l;
    if (!plan_layout(plan, &l))
        return kiln_error_set(error, KILN_ERROR_OVERFLOW, "the records do not fit 63 bits");
    if (!alloc_lists(s))
        return kiln_error_set(error, KILN_ERROR_MEMORY, "making a session: out of memory");
    filler f = {s, true, s->first_slot_patch, s->first_pointer, 0};
    walk(&f, NULL);
    prefix_sums(s->first_slot_patch, s->n_slots + 1);
    prefix_sums(s->first_pointer, s->n_storages + 1);
    s->tape_size = (size_t)l.size;
    s->tape_memory = kiln__alloc_array(&s->allocator, s->tape_size, 1, 64);
    s->slot_patches = KILN_NEW(&s->allocator, kiln__slot_patch, s->first_slot_patch[s->n_slots]);
    s->pointers = KILN_NEW(&s->allocator, kiln__pointer_patch, s->first_pointer[s->n_storages]);
    if (s->tape_memory == NULL || s->slot_patches == NULL || s->pointers == NULL)
        return kiln_error_set(error, KILN_ERROR_MEMORY, "making a session of %u records: out of memory",
                              plan->schedule.n_nodes);
    unsigned char *base = s->tape_memory;
    s->tape.records = (kiln__record *)(void *)base;
    s->tape.regions = (kiln__region *)(void *)(base + l.regions);
    s->tape.n_records = plan->schedule.n_nodes;
    s->tape.n_regions = plan->schedule.n_regions;
    for (uint32_t r = 0; r < s->tape.n_regions; r++)
        s->tape.regions[r] = (kiln__region){.first = plan->schedule.region_first[r],
                                            .last = plan->schedule.region_first[r + 1]};
    /* Filling moves the first indices forward to where the next group begins; shift them back after. */
    f.count = false;
    f.region = 0;
    walk(&f, base + l.block);
    memmove(s->first_slot_patch + 1, s->first_slot_patch, s->n_slots * sizeof *s->first_slot_patch);
    memmove(s->first_pointer + 1, s->first_pointer, s->n_storages * sizeof *s->first_pointer);
    s->first_slot_patch[0] = s->first_pointer[0] = 0;
    return KILN_OK;
}

void kiln__tape_free(kiln_session *s) {
    const kiln_allocator *a = &s->allocator;
    if (s->slot_patches != NULL)
        KILN_DELETE(a, s->slot_patches, kiln__slot_patch, s->first_slot_patch[s->n_slots]);
    if (s->pointers != NULL)
        KILN_DELETE(a, s->pointers, kiln__pointer_patch, s->first_pointer[s->n_storages]);
    KILN_DELETE(a, s->first_slot_patch, size_t, s->n_slots + 2);
    KILN_DELETE(a, s->first_pointer, size_t, s->n_storages + 2);
    kiln__free_array(a, s->tape_memory, s->tape_size, 1);
}

/* ---- patching --------------------------------------------------------------------------------------- */

void kiln__session_apply_slot(kiln_session *s, uint32_t slot) {
    const bool is_float = s->plan->program->slots.items[slot].is_float;
    for (size_t i = s->first_slot_patch[slot]; i < s->first_slot_patch[slot + 1]; i++) {
        const kiln__slot_patch *p = &s->slot_patches[i];
        if (is_float) {
            *(float *)p->at = s->f32[slot];
        } else if (p->factor == 0) {
            *(int64_t *)p->at = s->i64[slot];
        } else {
            *(int64_t *)p->at = p->factor * s->i64[slot];
            kiln__tape_touch(&s->tape, p->region, p->record);
        }
    }
}

void kiln__session_apply_base(kiln_session *s, uint32_t storage, unsigned char *base) {
    for (size_t i = s->first_pointer[storage]; i < s->first_pointer[storage + 1]; i++)
        s->pointers[i].operand->data = base == NULL ? NULL : base + s->pointers[i].offset;
}
