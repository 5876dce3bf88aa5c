/* Hand-made tapes for tests of executors: records with a small kernel that watches what is done to it. No
 * graph, no plan. Checks go through cmocka on the test's own thread,
 * and are counted as violations elsewhere. */
#ifndef KILN_TEST_EXECUTOR_JOB_H
#define KILN_TEST_EXECUTOR_JOB_H

#include "checked.h"
#include "cost.h"
#include "executor.h"
#include "sanitized.h"
#include "sync.h"
#include "tuning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#if defined(SANITIZED)
#define SLOW 1
#else
#define SLOW 0
#endif

enum { MAX_TILES = 40, HANG_SECONDS = 240 };

static _Thread_local uint64_t seed = 1;

static inline int below(int n) { /* xorshift64* */
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (int)((seed * 2685821657736338717u) >> 33) % n;
}

/* ---- jobs: a tape and what happened to it ----------------------------------------------------------- */

typedef struct job job;

/* One record, as its kernel sees it (its attributes). */
typedef struct node {
    job *job;
    uint32_t record, region;
    int64_t tiles, scratch;
    int64_t fail[2];            /* tiles that fail, -1: none */
    int64_t bad_tile, bad_row;  /* the tile that reports a bad row, -1: none */
    atomic_int hits[MAX_TILES]; /* how often each tile was computed */
    int64_t cells[MAX_TILES];   /* written and read without atomics: for the thread sanitizer */
    int64_t ops;                /* what it says it costs; 0: a microsecond per tile */
    pthread_t thread;
    uint32_t spins;
    void (*before)(struct node *node, int64_t tile);
} node;

struct job {
    kiln__run run;
    kiln__tape tape;
    node *nodes;
    atomic_llong *finished; /* per region: tiles */
    atomic_int violations, hooks_called, done_calls, calls;
    atomic_int agains;      /* calls whose scratch was as the one before had left it */
    uint32_t resets;        /* which run this is */
    kiln_status hook_fails; /* at region */
    uint32_t hook_region;
    atomic_int flag;
    job *other;
    kiln_executor *executor;
};

static inline void violation(job *j, const char *what) {
    if (atomic_fetch_add(&j->violations, 1) == 0)
        fprintf(stderr, "violation: %s\n", what);
}

static inline int64_t count_tiles(const kiln_args *args) {
    return ((const node *)args->attrs)->tiles;
}

static inline int64_t count_scratch(const kiln_args *args) {
    return ((const node *)args->attrs)->scratch;
}

/* Left at the end of a call, found at the next when that is for the same record in the same run. */
typedef struct trace {
    uint32_t record, resets;
} trace;

static inline void check_trace(const node *n, const kiln_tile *tile) {
    trace t;
    if (!tile->again || n->scratch < (int64_t)sizeof t)
        return;
    memcpy(&t, tile->scratch, sizeof t);
    if (t.record != n->record || t.resets != n->job->resets)
        violation(n->job, "the scratch is said to be of the last call, and is not");
    atomic_fetch_add(&n->job->agains, 1);
}

static inline void leave_trace(const node *n, const kiln_tile *tile) {
    const trace t = {n->record, n->job->resets};
    if (n->scratch >= (int64_t)sizeof t)
        memcpy(tile->scratch, &t, sizeof t);
}

/* No other worker may touch the scratch during the call. */
static inline void use_scratch(node *n, kiln_tile *tile, bool check) {
    unsigned char mark = (unsigned char)(n->record * 31 + (uint32_t)tile->first);
    if (n->scratch > 0 && (uintptr_t)tile->scratch % 64 != 0)
        violation(n->job, "scratch is not aligned");
    for (int64_t i = 0; i < n->scratch; i++)
        if (!check)
            tile->scratch[i] = mark;
        else if (tile->scratch[i] != mark)
            violation(n->job, "scratch is shared");
}

static inline kiln_status run_tiles(const kiln_args *args, kiln_tile *tile) {
    node *n = (node *)(uintptr_t)args->attrs;
    job *j = n->job;
    atomic_fetch_add(&j->calls, 1);
    if (tile->first < 0 || tile->first >= tile->last || tile->last > n->tiles)
        violation(j, "tile range");
    check_trace(n, tile);
    use_scratch(n, tile, false);
    const kiln__region *last = n->region > 0 ? &j->tape.regions[n->region - 1] : NULL;
    const node *source = last != NULL && last->first < last->last ? &j->nodes[last->first] : NULL;
    for (int64_t i = tile->first; i < tile->last; i++) {
        if (n->before != NULL)
            n->before(n, i);
        if (last != NULL &&
            atomic_load_explicit(&j->finished[n->region - 1], memory_order_relaxed) != last->tiles)
            violation(j, "a region began before the one in front of it was finished");
        int64_t sum = 1;
        for (int64_t k = 0; source != NULL && k < source->tiles; k++)
            sum += source->cells[k];
        for (volatile uint32_t s = 0; s < n->spins; s++) {
        }
        n->cells[i] = sum & 0xffff;
        atomic_fetch_add_explicit(&n->hits[i], 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&j->finished[n->region], 1, memory_order_relaxed);
        if (i == n->bad_tile)
            kiln_tile_bad_index(tile, n->bad_row, 100 + i, 7);
        if (i != n->fail[0] && i != n->fail[1])
            continue;
        leave_trace(n, tile);
        return kiln_tile_fail(tile, "record %u tile %lld", (unsigned)n->record, (long long)i);
    }
    use_scratch(n, tile, true);
    leave_trace(n, tile);
    return KILN_OK;
}

/* What the node says, else a microsecond per tile. */
static inline kiln_cost say_cost(const kiln_args *args) {
    const node *n = args->attrs;
    return (kiln_cost){0, n->ops > 0 ? n->ops : kiln__times(n->tiles, 1000 * kiln__cpu_tuning.ops_per_ns)};
}

static const kiln_kernel kernels[] = {{"plain", 0, NULL, count_tiles, count_scratch, run_tiles, say_cost}};
static const kiln_op op = {.name = "watch", .kernels = kernels, .n_kernels = 1};
static inline kiln_status region_done(kiln__run *run, uint32_t region) {
    job *j = (job *)(void *)run;
    if (atomic_load(&j->finished[region]) != j->tape.regions[region].tiles)
        violation(j, "region_done before its tiles");
    if (region + 1 < j->tape.n_regions && atomic_load(&j->finished[region + 1]) != 0)
        violation(j, "region_done behind tiles of the next region");
    if (!j->tape.regions[region].observed)
        violation(j, "region_done of a region that is not observed");
    atomic_fetch_add(&j->hooks_called, 1);
    if (j->hook_fails != KILN_OK && region == j->hook_region) {
        snprintf(run->outcome.text, sizeof run->outcome.text, "hook at %u", (unsigned)region);
        run->outcome.record = j->tape.regions[region].first;
        return j->hook_fails;
    }
    return KILN_OK;
}

static inline void done(kiln__run *run) {
    job *j = (job *)(void *)run;
    atomic_fetch_add(&j->done_calls, 1);
}

static const kiln__run_hooks hooks = {region_done, done};

static inline void *must(void *p) {
    if (p == NULL)
        abort();
    return p;
}

/* `sizes` lists the tiles of each record; -1 ends a region, -2 the tape. */
static inline job *job_new(const int64_t *sizes) {
    uint32_t n_records = 0, n_regions = 0;
    for (const int64_t *s = sizes; *s != -2; s++)
        *s == -1 ? n_regions++ : n_records++;
    job *j = must(calloc(1, sizeof *j));
    j->nodes = must(calloc(n_records + 1, sizeof *j->nodes));
    j->finished = must(calloc(n_regions + 1, sizeof *j->finished));
    j->tape.records = must(aligned_alloc(64, (n_records + 1) * 128));
    j->tape.regions = must(calloc(n_regions + 1, sizeof *j->tape.regions));
    memset(j->tape.records, 0, (n_records + 1) * 128);
    for (; *sizes != -2; sizes++) {
        if (*sizes == -1) {
            j->tape.n_regions++;
            j->tape.regions[j->tape.n_regions].first = j->tape.n_records;
            continue;
        }
        node *n = &j->nodes[j->tape.n_records];
        kiln__record *r = &j->tape.records[j->tape.n_records];
        *n = (node){.job = j, .record = j->tape.n_records, .region = j->tape.n_regions, .tiles = *sizes};
        n->fail[0] = n->fail[1] = n->bad_tile = -1;
        r->op = &op;
        r->args.attrs = n;
        r->node = j->tape.n_records;
        j->tape.regions[j->tape.n_regions].last = ++j->tape.n_records;
    }
    for (uint32_t r = 0; r < j->tape.n_regions; r++)
        if (j->tape.regions[r].last < j->tape.regions[r].first)
            j->tape.regions[r].last = j->tape.regions[r].first;
    j->run.tape = &j->tape;
    j->run.hooks = &hooks;
    return j;
}

static inline void job_free(job *j) {
    free(j->nodes);
    free(j->finished);
    free(j->tape.records);
    free(j->tape.regions);
    free(j);
}

static inline int64_t random_tiles(void) {
    switch (below(6)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return 1;
    default:
        return 1 + below(MAX_TILES);
    }
}

static inline job *random_job(void) {
    int64_t sizes[200];
    int n = 0, regions = below(12);
    for (int r = 0; r < regions; r++) {
        for (int i = below(6); i > 0; i--)
            sizes[n++] = random_tiles();
        sizes[n++] = -1;
    }
    sizes[n] = -2;
    job *j = job_new(sizes);
    for (int r = 0; r < regions; r++)
        j->tape.regions[r].observed = below(3) == 0;
    for (uint32_t i = 0; i < j->tape.n_records; i++) {
        j->nodes[i].scratch = below(3) ? 0 : below(300);
        j->nodes[i].spins = below(4) ? 0 : (uint32_t)below(3000);
    }
    return j;
}

static inline void job_reset(job *j) {
    for (uint32_t i = 0; i < j->tape.n_records; i++)
        for (int t = 0; t < MAX_TILES; t++)
            atomic_store(&j->nodes[i].hits[t], 0);
    for (uint32_t r = 0; r < j->tape.n_regions; r++)
        atomic_store(&j->finished[r], 0);
    j->resets++;
    atomic_store(&j->hooks_called, 0);
    atomic_store(&j->done_calls, 0);
    atomic_store(&j->calls, 0);
}

/* After a run that succeeded: every tile exactly once, every hook. False, with a text, when not. */
static inline bool job_complete(job *j) {
    int observed = 0;
    for (uint32_t i = 0; i < j->tape.n_records; i++)
        for (int t = 0; t < MAX_TILES; t++)
            if (atomic_load(&j->nodes[i].hits[t]) != (t < j->nodes[i].tiles))
                violation(j, "a tile was not computed exactly once");
    for (uint32_t r = 0; r < j->tape.n_regions; r++)
        observed += j->tape.regions[r].observed != 0;
    if (atomic_load(&j->hooks_called) != observed)
        violation(j, "hooks called");
    if (atomic_load(&j->done_calls) != 1)
        violation(j, "done called");
    if (j->run.outcome.status != KILN_OK)
        violation(j, "outcome");
    return atomic_load(&j->violations) == 0;
}

/* ---- executors -------------------------------------------------------------------------------------- */

static inline kiln_executor *executor_new(uint32_t threads, uint32_t spin_us) {
    kiln_executor *e;
    kiln_error error;
    kiln_cpu_options options = {.threads = threads, .spin_us = spin_us, .oversubscribe = true};
    if (kiln_cpu_executor_create(NULL, &options, &e, &error) != KILN_OK)
        fail_msg("create: %s", error.text);
    return e;
}

static inline void executor_free(kiln_executor *e) {
    kiln_error error;
    if (kiln_executor_destroy(e, &error) != KILN_OK)
        fail_msg("destroy: %s", error.text);
}

static inline void prepare(kiln_executor *e, job *j) {
    kiln_error error;
    uint32_t record;
    if (e->table->prepare(e, &j->run, &record, &error) != KILN_OK)
        fail_msg("prepare: %s", error.text);
}

static inline void release_free(kiln_executor *e, job *j) {
    assert_int_equal(atomic_load(&j->violations), 0);
    e->table->release(e, &j->run);
    assert_null(j->run.state);
    job_free(j);
}

static inline kiln_status submit(kiln_executor *e, job *j) {
    return e->table->submit(e, &j->run);
}

static inline kiln_status wait_for(kiln_executor *e, job *j, int64_t timeout_ns) {
    return e->table->wait(e, &j->run, timeout_ns);
}

static inline kiln_status run_once(kiln_executor *e, job *j) {
    assert_int_equal(submit(e, j), KILN_OK);
    assert_int_equal(wait_for(e, j, -1), KILN_OK);
    assert_true(e->table->is_done(e, &j->run));
    return j->run.outcome.status;
}

/* A thread that uses an executor beside the test's own. */
typedef struct client {
    kiln_executor *executor;
    job *shared;
    uint64_t seed;
    int rounds;
    bool ok;
    pthread_t thread;
} client;

/* Jobs of its own, submitted, run and cancelled at random. */
static inline void *session_main(void *context) {
    client *c = context;
    kiln_executor *e = c->executor;
    seed = c->seed;
    c->ok = true;
    for (int tape = 0; tape < c->rounds && c->ok; tape++) {
        job *j = random_job();
        kiln_error error;
        if (e->table->prepare(e, &j->run, NULL, &error) != KILN_OK)
            return NULL;
        for (int again = 0; again < 10 && c->ok; again++) {
            job_reset(j);
            const bool cancelled = below(5) == 0;
            if (below(3) == 0) {
                c->ok = e->table->run(e, &j->run) == KILN_OK && job_complete(j);
                continue;
            }
            c->ok = submit(e, j) == KILN_OK;
            if (cancelled)
                e->table->cancel(e, &j->run);
            while (c->ok && wait_for(e, j, below(2) ? -1 : below(50) * 1000) == KILN_ERROR_TIMEOUT) {
            }
            c->ok = c->ok && (j->run.outcome.status == KILN_OK
                                  ? job_complete(j)
                                  : cancelled && j->run.outcome.status == KILN_ERROR_CANCELLED);
        }
        e->table->release(e, &j->run);
        job_free(j);
    }
    return NULL;
}

static inline void run_clients(client *clients, int n, void *(*body)(void *)) {
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_create(&clients[i].thread, NULL, body, &clients[i]), 0);
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
    for (int i = 0; i < n; i++)
        assert_true(clients[i].ok);
}

#endif
