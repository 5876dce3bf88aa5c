/* Schedules of random programs against brute force: see tests/support/hazard_oracle.h. KILN_ORACLE_DAGS sets
 * the number of programs. */
#include "hazard_oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

typedef struct totals {
    long programs, nodes, hazards, regions, inplace, reused, capped, cap_refused, boundaries_added, opaque;
    double arena, bound;
} totals;

static long count_of_dags(void) {
    const char *text = getenv("KILN_ORACLE_DAGS");
    long n = text != NULL ? strtol(text, NULL, 10) : 0;
    return n > 0 ? n : 5000;
}

#define CHECK(call)                                                                                          \
    do {                                                                                                     \
        const char *why = (call);                                                                            \
        if (why != NULL)                                                                                     \
            fail_msg("program %llu: %s", (unsigned long long)seed, why);                                     \
    } while (0)

static void check_schedule(uint64_t seed, const oracle *o, const kiln__hazards *h,
                           const kiln__schedule_options *options, const kiln__schedule *s, dag_random *r) {
    static const int64_t values[] = {0, 1, 7, 16};
    CHECK(oracle_check_order(o, h, s, options));
    CHECK(oracle_check_memory(o, h, s, options));
    for (int i = 0; i < 4; i++)
        CHECK(oracle_check_run(o, s, values[i], r));
}

static void make(uint64_t seed, const kiln_graph *g, const kiln__hazards *h,
                 const kiln__schedule_options *options, kiln__schedule *s) {
    kiln_error error;
    if (kiln__schedule_make(g, h, options, s, &error) != KILN_OK)
        fail_msg("program %llu: %s", (unsigned long long)seed, error.text);
}

/* A cap somewhere between the largest storage and what the plan took: either it fits, or an error says why.
 * With a plan in hand, no two neighbouring regions can be one: a hazard is between them, or the arena grows
 * past the cap. */
static void check_cap(uint64_t seed, const oracle *o, const kiln__hazards *h, int64_t taken, dag_random *r,
                      totals *t) {
    kiln__schedule_options options = {.max_arena = KILN__ARENA_ALIGN * (1 + dag_below(r, taken / 128))};
    kiln__schedule s;
    kiln_error error = {0};
    kiln_status status = kiln__schedule_make(o->graph, h, &options, &s, &error);
    if (status != KILN_OK) {
        assert_int_equal(status, KILN_ERROR_LIMIT);
        assert_non_null(strstr(error.text, "capped"));
        t->cap_refused++;
        return;
    }
    assert_true(s.memory.arena_bytes <= options.max_arena);
    check_schedule(seed, o, h, &options, &s, r);
    t->capped++;
    t->boundaries_added += s.n_regions - s.longest_chain;
    for (uint32_t b = 0; b < s.n_barriers; b++) {
        if (s.barriers[b].n > 0)
            continue;
        uint32_t merged[ORACLE_NODES];
        for (uint32_t i = 0; i < o->n; i++)
            merged[i] = s.region_of[i] - (s.region_of[i] > b);
        kiln__memory m;
        assert_int_equal(
            kiln__memory_plan(o->graph, h, merged, s.n_regions - 1, &options.memory, &h->allocator, &m, NULL),
            KILN_OK);
        if (m.arena_bytes <= options.max_arena)
            fail_msg("program %llu: barrier %u could go under the cap", (unsigned long long)seed, b);
        kiln__memory_free(&m, &h->allocator);
    }
    kiln__schedule_free(&s);
}

static void check_program(uint64_t seed, totals *t) {
    dag_random r = {seed * 77 + 5};
    unsigned features = (unsigned)(seed % 8);
    kiln_graph *g = random_dag(seed, seed % 3 ? 64 : 12, features);
    kiln__hazards h;
    kiln_error error;
    if (kiln__hazards_find(g, NULL, NULL, &h, &error) != KILN_OK)
        fail_msg("program %llu: %s", (unsigned long long)seed, error.text);
    static oracle o;
    oracle_init(&o, g, &h);
    CHECK(oracle_check_accesses(&o, &h));
    CHECK(oracle_check_hazards(&o, &h));

    kiln__keep keep[2];
    uint32_t storages = (uint32_t)g->storages.count - 1, nodes = h.n_nodes;
    for (int i = 0; i < 2; i++) {
        keep[i].storage = 1 + (uint32_t)dag_below(&r, storages);
        keep[i].node = i == 0 ? KILN__KEEP_TO_END : (uint32_t)dag_below(&r, nodes);
    }
    kiln__schedule_options options = {0};
    kiln__schedule s;
    make(seed, g, &h, &options, &s);
    check_schedule(seed, &o, &h, &options, &s, &r);
    int64_t taken = s.memory.arena_bytes;
    t->programs++;
    t->nodes += nodes;
    t->hazards += (long)h.count;
    t->regions += s.n_regions;
    t->inplace += s.memory.n_inplace;
    t->reused += s.memory.arena_bytes < s.memory.sum_bytes;
    t->arena += (double)s.memory.arena_bytes;
    t->bound += (double)s.memory.lower_bound;
    t->opaque += (features & DAG_OPAQUE) != 0;
    kiln__schedule_free(&s);

    options.serial = seed % 5 == 0;
    options.memory.no_reuse = seed % 4 == 1;
    options.memory.no_inplace = seed % 4 == 2;
    options.memory.align = seed % 2 ? 16 : 0;
    options.memory.keep = keep;
    options.memory.n_keep = (uint32_t)(seed % 3);
    make(seed, g, &h, &options, &s);
    check_schedule(seed, &o, &h, &options, &s, &r);
    kiln__schedule_free(&s);

    if (taken >= 2 * KILN__ARENA_ALIGN)
        check_cap(seed, &o, &h, taken, &r, t);
    kiln__hazards_free(&h);
    kiln_graph_destroy(g);
}

static void random_programs(void **state) {
    (void)state;
    totals t = {0};
    long n = count_of_dags();
    for (long i = 0; i < n; i++)
        check_program((uint64_t)i, &t);
    printf(
        "%ld programs (%ld with opaque nodes), %ld nodes, %ld hazards, %ld regions, %ld in place, %ld reuse "
        "arena bytes\n",
        t.programs, t.opaque, t.nodes, t.hazards, t.regions, t.inplace, t.reused);
    printf(
        "arenas are %.2f%% above the lower bound; %ld memory caps met with %ld added regions, %ld refused\n",
        100.0 * (t.arena / t.bound - 1.0), t.capped, t.boundaries_added, t.cap_refused);
    assert_true(t.inplace > n / 4 && t.reused > n / 4 && t.capped > n / 20);
}

/* ---- the oracle itself: corrupted schedules are noticed --------------------------------------------- */

static void removed_barrier(void **state) {
    (void)state;
    long barriers = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        kiln_graph *g = random_dag(seed, 40, (unsigned)(seed % 8));
        kiln__hazards h;
        kiln__schedule s;
        kiln__schedule_options options = {0};
        assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, NULL), KILN_OK);
        make(seed, g, &h, &options, &s);
        static oracle o;
        oracle_init(&o, g, &h);
        uint32_t *regions = s.region_of, n = s.n_regions;
        uint32_t merged[ORACLE_NODES], first[ORACLE_NODES + 1];
        uint32_t *region_first = s.region_first;
        for (uint32_t b = 0; b + 1 < n; b++, barriers++) {
            for (uint32_t i = 0; i < o.n; i++)
                merged[i] = regions[i] - (regions[i] > b);
            for (uint32_t r = 0; r < n; r++)
                first[r] = region_first[r + (r > b)];
            uint32_t order[ORACLE_NODES], k = 0;
            for (uint32_t r = 0; r < n - 1; r++)
                for (uint32_t i = 0; i < o.n; i++)
                    if (merged[i] == r)
                        order[k++] = i;
            kiln__schedule bad = s;
            bad.region_of = merged;
            bad.region_first = first;
            bad.order = order;
            bad.n_regions = n - 1;
            bad.n_barriers = n - 2;
            bad.barriers_avoided = o.n - (n - 1);
            const char *why = oracle_check_order(&o, &h, &bad, &options);
            assert_non_null(why);
            assert_non_null(strstr(why, "missed hazard"));
        }
        kiln__schedule_free(&s);
        kiln__hazards_free(&h);
        kiln_graph_destroy(g);
    }
    printf("%ld removed barriers noticed\n", barriers);
    assert_true(barriers > 500);
}

static void wrong_declaration(void **state) {
    (void)state;
    kiln_graph *g;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    kiln_tensor x = dag_state(g, "x", 32), y = dag_state(g, "y", 32);
    dag_touch_run(g, x, KILN_WRITE, 0, 16);
    dag_access lie[] = {{.operand = 0, .mode = KILN_READ, .hidden = 1, .count = {1, 1, 1}, .length = 4},
                        {.operand = 1, .mode = KILN_WRITE, .count = {1, 1, 1}, .length = 4}};
    dag_touch(g, (kiln_tensor[]){x, y}, 2, lie, 2);
    kiln__hazards h;
    kiln__schedule s;
    kiln__schedule_options options = {0};
    assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, NULL), KILN_OK);
    make(0, g, &h, &options, &s);
    assert_int_equal(s.n_regions, 1);
    static oracle o;
    oracle_init(&o, g, &h);
    assert_non_null(oracle_check_accesses(&o, &h));
    assert_non_null(oracle_check_hazards(&o, &h));
    assert_non_null(oracle_check_order(&o, &h, &s, &options));
    bool seen = false; /* in some order of the region's nodes */
    dag_random r = {3};
    for (int i = 0; i < 32; i++)
        seen |= oracle_check_run(&o, &s, 0, &r) != NULL;
    assert_true(seen);
    kiln__schedule_free(&s);
    kiln__hazards_free(&h);
    kiln_graph_destroy(g);
}

static void wrong_reuse(void **state) {
    (void)state;
    long corrupted = 0, run_noticed = 0;
    dag_random r = {11};
    for (uint64_t seed = 0; seed < 200; seed++) {
        kiln_graph *g = random_dag(seed, 40, DAG_CHAINS);
        kiln__hazards h;
        kiln__schedule s;
        kiln__schedule_options options = {0};
        assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, NULL), KILN_OK);
        make(seed, g, &h, &options, &s);
        static oracle o;
        oracle_init(&o, g, &h);
        kiln__place *places = s.memory.places;
        for (uint32_t a = 1; a < g->storages.count; a++)
            for (uint32_t b = 1; b < a; b++) {
                bool live =
                    g->storages.items[a].kind == KILN_STORAGE_ARENA && g->storages.items[a].size > 0 &&
                    g->storages.items[b].kind == KILN_STORAGE_ARENA && g->storages.items[b].size > 0 &&
                    places[a].first != KILN__NEVER && places[b].first != KILN__NEVER;
                if (!live || places[a].first > places[b].last || places[b].first > places[a].last ||
                    places[a].offset == places[b].offset)
                    continue;
                int64_t before = places[a].offset;
                places[a].offset = places[b].offset;
                assert_non_null(oracle_check_memory(&o, &h, &s, &options));
                if (places[b].offset + g->storages.items[a].size <= s.memory.arena_bytes)
                    run_noticed += oracle_check_run(&o, &s, 16, &r) != NULL;
                places[a].offset = before;
                corrupted++;
            }
        kiln__schedule_free(&s);
        kiln__hazards_free(&h);
        kiln_graph_destroy(g);
    }
    printf("%ld wrongly reused ranges noticed, %ld of them by running\n", corrupted, run_noticed);
    assert_true(corrupted > 500 && run_noticed > corrupted / 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(removed_barrier),
        cmocka_unit_test(wrong_declaration),
        cmocka_unit_test(wrong_reuse),
        cmocka_unit_test(random_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
