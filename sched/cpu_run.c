/* Computing tiles, and what comes of it.
 *
 * The outcome of a run does not depend on the number of threads. A kernel computes the tiles it is given in
 * ascending order and stops at the first that fails, and all tiles of a region are tried even when one of
 * them has failed; so the lowest (record, first tile of the call) among the failed calls belongs to the
 * lowest failing tile, however the tiles were cut into calls. Each worker keeps its lowest in its slot, and
 * the thread that ends the run takes the lowest of all. One thread alone meets the lowest failure first, and
 * stops there. Bad indices are kept the same way, by (record, row, tile). */
#include "args.h"
#include "checked.h"
#include "cost.h"
#include "cpu_pool.h"
#include "tuning.h"

#include <stdio.h>

_Static_assert(sizeof(((kiln__tile_sink *)0)->text) == sizeof(((kiln__outcome *)0)->text), "copied whole");

/* ---- counts ----------------------------------------------------------------------------------------- */

/* How long the tiles of a record take one thread, roughly. */
static int64_t estimate(const kiln__record *record) {
    const kiln__tuning *t = &kiln__cpu_tuning;
    const kiln_kernel *kernel = record->kernel;
    if (kernel->cost == NULL)
        return kiln__plus(t->record_ns, kiln__times(record->tiles, t->unknown_ns));
    kiln_cost cost = kernel->cost(&record->args);
    int64_t moving = cost.bytes / t->bytes_per_ns, computing = cost.ops / t->ops_per_ns;
    return kiln__plus(t->record_ns, moving > computing ? moving : computing);
}

/* Tiles that take about `ns` together. */
static uint32_t tiles_in(int64_t ns, int64_t tiles, int64_t estimate_ns, uint32_t most) {
    int64_t tile = tiles > 0 ? estimate_ns / tiles : 0, n = tile > 0 ? ns / tile : most;
    return n < 1 ? 1 : n > most ? most : (uint32_t)n;
}

/* A thread does not look up more often than that, nor less. Of tiles that are not known it does a few. */
static uint32_t piece_of(const kiln__record *record) {
    if (((const kiln_kernel *)record->kernel)->cost == NULL)
        return 4;
    if (record->estimate <= kiln__cpu_tuning.look_ns)
        return KILN__CPU_PIECE;
    return tiles_in(kiln__cpu_tuning.look_ns, record->tiles, record->estimate, KILN__CPU_PIECE);
}

/* How much a thread claims: enough that claiming costs little beside computing, and no more than lets it look up in
 * time. Where that makes few portions, they are as many for each thread that there is enough work for. */
static void find_claims(const kiln__cpu_run *run, const kiln__region *region, kiln__cpu_step *step) {
    const kiln__tape *tape = run->run->tape;
    uint32_t most = KILN__CPU_CHUNK, tiles = (uint32_t)region->tiles;
    uint32_t grain = tiles_in(kiln__cpu_tuning.claim_ns, tiles, region->estimate, KILN__CPU_GRAIN_MAX);
    const int64_t useful = region->estimate / (kiln__cpu_tuning.share_ns / 2); /* threads */
    const uint32_t threads = useful < 2 ? 2 : useful < run->threads ? (uint32_t)useful : run->threads;
    const int64_t each = region->estimate / kiln__cpu_tuning.claim_ns / threads; /* portions */
    if (each < 4) {
        const uint32_t portions = threads * (each < 1 ? 1 : (uint32_t)each);
        grain = (tiles + portions - 1) / portions;
        grain = grain < 1 ? 1 : grain < KILN__CPU_GRAIN_MAX ? grain : KILN__CPU_GRAIN_MAX;
    }
    for (uint32_t i = region->first; i < region->last; i++)
        most = tape->records[i].piece < most ? tape->records[i].piece : most;
    step->grain = (uint16_t)grain;
    step->most = (uint16_t)(grain > most ? grain : most);
}

/* A region of which some record is stale. *at: the record that a failure belongs to. */
static kiln_status refresh_region(kiln__tape *tape, kiln__region *region, uint32_t *at) {
    int64_t sum = 0, time = 0;
    for (uint32_t i = region->first; i < region->last; i++) {
        kiln__record *record = &tape->records[i];
        const kiln_kernel *kernel = record->kernel;
        *at = i;
        if (record->stale) {
            kiln__args_flatten(&record->args);
            record->tiles = kernel->tiles ? kernel->tiles(&record->args) : 1;
            record->estimate = estimate(record);
            record->piece = piece_of(record);
        }
        if (record->tiles < 0)
            return KILN_ERROR_OVERFLOW;
        time = kiln__plus(time, record->estimate);
        record->first_tile = sum;
        if (!kiln__add(sum, record->tiles, &sum) || sum > KILN__CPU_MAX_TILES)
            return KILN_ERROR_LIMIT;
    }
    region->tiles = sum;
    region->estimate = time;
    for (uint32_t i = region->first; i < region->last; i++)
        tape->records[i].stale = 0;
    return KILN_OK;
}

/* Is the work of a region too little to share it? */
static bool is_solo(const kiln__cpu_run *run, const kiln__region *region) {
    return run->threads == 1 || region->tiles <= 1 || region->estimate < kiln__cpu_tuning.share_ns;
}

/* Sleepers to wake for a region that is shared: as many as there is work for within a few times what waking takes,
 * from this region on. Threads that are still awake join in any case. */
static void find_wakes(kiln__cpu_run *run) {
    const kiln__region *regions = run->run->tape->regions;
    const uint32_t n = run->run->tape->n_regions;
    const int64_t wake_ns = kiln__cpu_tuning.wake_ns;
    int64_t all = 0, shared = 0; /* of regions r … end-1 */
    for (uint32_t r = 0, end = 0; r < n; r++) {
        for (; end < n && all < 4 * wake_ns; end++) {
            all = kiln__plus(all, regions[end].estimate);
            shared = kiln__plus(shared, run->steps[end].units > 1 ? regions[end].estimate : 0);
        }
        int64_t useful = shared / (2 * wake_ns), others = (int64_t)run->steps[r].units - 1;
        others = others < run->threads - 1 ? others : run->threads - 1;
        run->steps[r].wake = (uint32_t)(useful < others ? useful : others);
        if (all == INT64_MAX ||
            shared == INT64_MAX) { /* no sums to take anything off: look anew from the next */
            all = shared = 0;
            end = r + 1;
        } else if (end > r) {
            all -= regions[r].estimate;
            shared -= run->steps[r].units > 1 ? regions[r].estimate : 0;
        }
    }
}

/* Which regions follow one another without a break, when one thread computes them alone. Sleepers are woken as much
 * before a shared region as waking takes: there is a break, too. */
static void find_serial_runs(kiln__cpu_run *run) {
    const kiln__tape *tape = run->run->tape;
    int64_t until = 0;     /* from region r + 1 to the next one that is shared */
    uint32_t sleepers = 0; /* still to be woken for that one */
    for (uint32_t r = tape->n_regions; r-- > 0;) {
        if (run->steps[r].units > 1) {
            run->steps[r].serial_end = r + 1;
            until = 0;
            sleepers = run->steps[r].wake;
            continue;
        }
        bool last = r + 1 == tape->n_regions || run->steps[r + 1].units > 1 || tape->regions[r].observed;
        bool woken = !last && run->steps[r + 1].wake > 0; /* there is the break */
        run->steps[r].serial_end = last || woken ? r + 1 : run->steps[r + 1].serial_end;
        until = kiln__plus(until, tape->regions[r].estimate);
        run->steps[r].wake = until >= kiln__cpu_tuning.wake_ns || r == 0 ? sleepers : 0;
        sleepers = run->steps[r].wake > 0 ? 0 : sleepers;
    }
}

/* Would it be decided otherwise? Not for a token more in a cache. */
static bool has_changed(const kiln__region *region) {
    int64_t now = region->estimate, then = region->decided;
    return (now > then ? now - then : then - now) > then / 4;
}

/* How many could help, where there is something to share, but nothing to wake anybody for. */
static uint32_t find_company(const kiln__cpu_run *run) {
    const kiln__tape *tape = run->run->tape;
    int64_t most = 0;
    for (uint32_t r = 0; r < tape->n_regions; r++) {
        const kiln__cpu_step *step = &run->steps[r];
        int64_t useful = tape->regions[r].estimate / kiln__cpu_tuning.share_ns,
                others = (int64_t)step->units - 1;
        if (step->wake > 0)
            return 0;
        useful = useful < others ? useful : others;
        most = useful > most ? useful : most;
    }
    return most < run->threads - 1 ? (uint32_t)most : run->threads - 1;
}

static void decide(kiln__cpu_run *run) {
    kiln__tape *tape = run->run->tape;
    find_wakes(run);
    find_serial_runs(run);
    run->company = find_company(run);
    for (uint32_t r = 0; r < tape->n_regions; r++)
        tape->regions[r].decided = tape->regions[r].estimate;
}

kiln_status kiln__cpu_refresh(kiln__cpu_run *run, uint32_t *at) {
    kiln__tape *tape = run->run->tape;
    bool anew = (tape->stale & KILN__STALE_STEPS) != 0;
    for (uint32_t r = 0; r < tape->n_regions; r++) {
        kiln__region *region = &tape->regions[r];
        kiln__cpu_step *step = &run->steps[r];
        if (!region->stale)
            continue;
        if (region->first < region->last) { /* what has no records stays one unit */
            kiln_status status = refresh_region(tape, region, at);
            if (status != KILN_OK) { /* its records stay stale, so the next submit comes here again */
                tape->stale |= KILN__STALE_STEPS;
                return status;
            }
            const uint32_t units = is_solo(run, region) ? 1 : (uint32_t)region->tiles;
            anew = anew || units != step->units || has_changed(region);
            step->units = units;
            if (units > 1)
                find_claims(run, region, step);
        }
        region->stale = 0;
    }
    if (anew)
        decide(run);
    tape->stale = 0;
    return KILN_OK;
}

/* ---- reports ---------------------------------------------------------------------------------------- */

KILN__HOT void kiln__cpu_reset(kiln__cpu_run *run) {
    const kiln__tape *tape = run->run->tape;
    kiln__outcome *outcome = &run->run->outcome;
    outcome->status = KILN_OK;
    outcome->record = 0;
    outcome->row = outcome->index = outcome->limit = 0;
    outcome->text[0] = '\0'; /* what is behind it is many lines of memory */
    run->region = 0;
    run->at = (kiln__cpu_place){tape->n_regions > 0 ? tape->regions[0].first : 0, 0};
    for (uint32_t i = 0; (tape->timed & KILN__TIME_RECORDS) && i < tape->n_records; i++)
        atomic_store_explicit(&tape->records[i].ns, 0,
                              memory_order_relaxed); /* ordered by the start of the run */
    if (kiln__cpu_trouble(run) == 0)
        return;
    for (uint32_t i = 0; i < run->lanes; i++)
        run->slots[i].failed = run->slots[i].bad_index = false;
    atomic_store_explicit(&run->trouble, 0, memory_order_relaxed); /* ordered by the start of the run */
}

/* Whatever a kernel returned, the run has failed: other statuses mean something to those who wait. */
static void note_failure(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t record, int64_t tile,
                         kiln_status returned) {
    if (slot->failed &&
        (slot->fail_record < record || (slot->fail_record == record && slot->fail_tile <= tile)))
        return;
    slot->failed = true;
    slot->fail_record = record;
    slot->fail_tile = tile;
    if (!(slot->sink.reports & KILN__SINK_FAILED))
        snprintf(slot->fail_text, sizeof slot->fail_text, "the kernel returned %s",
                 kiln_status_name(returned));
    else
        memcpy(slot->fail_text, slot->sink.text, sizeof slot->fail_text);
    kiln__cpu_add_trouble(run, KILN__CPU_FAILED);
}

static bool bad_index_before(const kiln__cpu_slot *a, const kiln__cpu_slot *b) {
    if (a->bad_record != b->bad_record)
        return a->bad_record < b->bad_record;
    return a->bad_row != b->bad_row ? a->bad_row < b->bad_row : a->bad_tile < b->bad_tile;
}

static void note_bad_index(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t record, int64_t tile) {
    kiln__cpu_slot found = {.bad_record = record, .bad_row = slot->sink.row, .bad_tile = tile};
    if (slot->bad_index && !bad_index_before(&found, slot))
        return;
    slot->bad_index = true;
    slot->bad_record = record;
    slot->bad_row = slot->sink.row;
    slot->bad_tile = tile;
    slot->bad_value = slot->sink.index;
    slot->bad_limit = slot->sink.limit;
    kiln__cpu_add_trouble(run, KILN__CPU_BAD_INDEX);
}

static void take_failure(const kiln__cpu_run *run, kiln__outcome *outcome) {
    const kiln__cpu_slot *best = &run->slots[0];
    for (uint32_t i = 1; i < run->lanes; i++) {
        const kiln__cpu_slot *s = &run->slots[i];
        if (s->failed && (!best->failed || s->fail_record < best->fail_record ||
                          (s->fail_record == best->fail_record && s->fail_tile < best->fail_tile)))
            best = s;
    }
    outcome->status = KILN_ERROR_KERNEL;
    outcome->record = best->fail_record;
    memcpy(outcome->text, best->fail_text, sizeof outcome->text);
}

static void take_bad_index(const kiln__cpu_run *run, kiln__outcome *outcome) {
    const kiln__cpu_slot *best = &run->slots[0];
    for (uint32_t i = 1; i < run->lanes; i++) {
        const kiln__cpu_slot *s = &run->slots[i];
        if (s->bad_index && (!best->bad_index || bad_index_before(s, best)))
            best = s;
    }
    outcome->status = KILN_ERROR_INDEX;
    outcome->record = best->bad_record;
    outcome->row = best->bad_row;
    outcome->index = best->bad_value;
    outcome->limit = best->bad_limit;
}

/* ---- tiles ------------------------------------------------------------------------------------------ */

/* What a kernel call left in the sink, or returned. */
static void take_reports(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t record, int64_t tile,
                         kiln_status status) {
    if (slot->sink.reports & KILN__SINK_BAD_INDEX)
        note_bad_index(run, slot, record, tile);
    if (status != KILN_OK || (slot->sink.reports & KILN__SINK_FAILED))
        note_failure(run, slot, record, tile, status);
    slot->sink.reports = 0;
}

/* The same as calling the kernel, with a look at the time. */
static kiln_status timed_call(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t index, kiln_tile *tile) {
    const kiln__tape *tape = run->run->tape;
    kiln__record *record = &tape->records[index];
    const kiln_kernel *kernel = record->kernel;
    kiln__profile *profile = tape->timed & KILN__TIME_PROFILE ? tape->profile : NULL;
    const uint32_t lane = (uint32_t)(slot - run->slots);
    const int64_t since = tape->timed & KILN__TIME_RECORDS ? kiln__now_ns() : 0;
    if (profile != NULL && !slot->follows) {
        kiln__profile_enter(profile, lane, (uint32_t)run->number);
        kiln__profile_note(profile, lane, KILN__PROFILE_BEGIN, 0, (uint32_t)tile->first);
    }
    kiln_status status = kernel->run(&record->args, tile);
    if (profile != NULL) {
        kiln__profile_note(profile, lane, KILN__PROFILE_CALL, index, (uint32_t)(tile->last - tile->first));
        slot->follows = true;
    }
    if (tape->timed & KILN__TIME_RECORDS) /* relaxed: read after the region is done */
        atomic_fetch_add_explicit(&record->ns, kiln__now_ns() - since, memory_order_relaxed);
    return status;
}

/* One kernel call: tiles first ≤ i < last of one record. */
static inline void call(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t index, int64_t first,
                        int64_t last) {
    kiln__record *record = &run->run->tape->records[index];
    const kiln_kernel *kernel = record->kernel;
    const bool again = slot->last_record == index && slot->last_run == run->number;
    kiln_tile tile = {first, last, slot->scratch, &slot->sink, again};
    slot->last_record = index;
    slot->last_run = run->number;
    kiln_status status =
        run->run->tape->timed == 0 ? kernel->run(&record->args, &tile) : timed_call(run, slot, index, &tile);
    if (status != KILN_OK || slot->sink.reports != 0)
        take_reports(run, slot, index, first, status);
}

/* The record that a tile of the region belongs to: the last with first_tile ≤ tile. (Records without tiles
 * share first_tile with the one behind them, and those at the end lie beyond every tile.) */
static uint32_t record_of(const kiln__tape *tape, const kiln__region *region, int64_t tile) {
    uint32_t low = region->first, high = region->last;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (tape->records[middle].first_tile <= tile)
            low = middle;
        else
            high = middle;
    }
    return low;
}

KILN__HOT void kiln__cpu_tiles(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t region, int64_t first,
                               int64_t last) {
    const kiln__tape *tape = run->run->tape;
    slot->follows = false;
    for (uint32_t i = record_of(tape, &tape->regions[region], first); first < last; i++) {
        const kiln__record *record = &tape->records[i];
        int64_t end = record->first_tile + record->tiles < last ? record->first_tile + record->tiles : last;
        if (first < end)
            call(run, slot, i, first - record->first_tile, end - record->first_tile);
        first = end;
    }
}

/* Computes records up to `last` from where `at` stands, piece by piece, until one fails, the run is cancelled (then
 * what is left counts as skipped) or the deadline has passed with something
 * left. True: nothing is left to do for this thread. */
KILN__HOT static bool records_alone(kiln__cpu_run *run, kiln__cpu_slot *slot, kiln__cpu_place *at,
                                    uint32_t last, int64_t deadline) {
    const kiln__record *records = run->run->tape->records;
    slot->follows = false;
    for (; at->record < last; at->record++, at->tile = 0) {
        const int64_t tiles = records[at->record].tiles, piece = records[at->record].piece;
        while (at->tile < tiles) {
            if (kiln__cpu_cancelled(run)) {
                kiln__cpu_add_trouble(run, KILN__CPU_SKIPPED);
                return true;
            }
            const int64_t end = tiles - at->tile <= piece ? tiles : at->tile + piece;
            call(run, slot, at->record, at->tile, end);
            if (slot->failed)
                return true;
            at->tile = end;
            /* Looked at behind the piece: even a wait of 0 ns makes progress. */
            if (kiln__expired(deadline) && (end < tiles || at->record + 1 < last))
                return false;
        }
    }
    return true;
}

KILN__HOT uint32_t kiln__cpu_alone(kiln__cpu_run *run, kiln__cpu_slot *slot, uint32_t region, uint32_t most) {
    const kiln__region *regions = run->run->tape->regions;
    uint32_t end = run->steps[region].serial_end;
    if (end - region > most)
        end = region + most;
    kiln__cpu_place at = {regions[region].first, 0};
    (void)records_alone(run, slot, &at, regions[end - 1].last, KILN__NO_DEADLINE);
    return end - 1;
}

KILN__HOT bool kiln__cpu_serial(kiln__cpu_run *run, int64_t deadline) {
    const kiln__region *regions = run->run->tape->regions;
    for (;;) {
        const uint32_t last = run->steps[run->region].serial_end - 1;
        if (run->steps[last].units > 1
                ? !kiln__cpu_host_region(run, last, deadline)
                : !records_alone(run, &run->slots[0], &run->at, regions[last].last, deadline))
            return false;
        if (!kiln__cpu_region_end(run, last))
            return true;
        run->region = last + 1;
        run->at = (kiln__cpu_place){regions[run->region].first, 0};
        if (kiln__expired(deadline))
            return false;
    }
}

/* ---- ends ------------------------------------------------------------------------------------------- */

KILN__HOT bool kiln__cpu_region_end(kiln__cpu_run *run, uint32_t r) {
    const kiln__tape *tape = run->run->tape;
    const kiln__run_hooks *hooks = run->run->hooks;
    kiln_status status = KILN_OK;
    uint32_t trouble = kiln__cpu_trouble(run);
    if (trouble & KILN__CPU_FAILED) {
        take_failure(run, &run->run->outcome);
        status = run->run->outcome.status;
    } else if (trouble & KILN__CPU_SKIPPED) {
        status = KILN_ERROR_CANCELLED;
    } else {
        if (tape->regions[r].observed && hooks != NULL && hooks->region_done != NULL)
            status = hooks->region_done(run->run, r);
        if (status == KILN_OK && r + 1 < tape->n_regions) {
            if (!kiln__cpu_cancelled(run))
                return true;
            status = KILN_ERROR_CANCELLED;
        }
    }
    kiln__cpu_end(run, status);
    return false;
}

KILN__HOT void kiln__cpu_end(kiln__cpu_run *run, kiln_status status) {
    kiln_cpu_pool *pool = run->pool;
    const kiln__run_hooks *hooks = run->run->hooks;
    run->run->outcome.status = status;
    if (status == KILN_OK && (kiln__cpu_trouble(run) & KILN__CPU_BAD_INDEX))
        take_bad_index(run, &run->run->outcome);
    if (hooks != NULL && hooks->done != NULL)
        hooks->done(run->run);

    if (run->unshared) { /* nobody sleeps over it; those who wait for its place are woken when that is left */
        kiln__cpu_set_phase(run, KILN__CPU_AT_REST);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    /* Under the lock, so that workers that leave do not find it on the ring again and again should this thread lose its
     * processor here. */
    kiln__cpu_close(run);
    if (run->next != NULL) {
        pool->active = run->next == run ? NULL : run->next;
        run->next->prev = run->prev;
        run->prev->next = run->next;
        run->next = run->prev = NULL;
        /* Relaxed: a hint for spinning workers; the ring itself is under the lock. */
        atomic_fetch_sub_explicit(&pool->n_active, 1, memory_order_relaxed);
    }
    /* Under the lock: nobody can go to sleep between its look at the phase and this broadcast. */
    kiln__cpu_set_phase(run, KILN__CPU_AT_REST);
    /* Relaxed: only changed under the lock, but for the publisher's look at it. */
    atomic_store_explicit(&run->caller_parked, 0, memory_order_relaxed);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&pool->lock);
}
