/* Regions, barriers and their causes, orders under a memory cap. Optimality against brute force:
 * test_oracle.c. */
#include "fault_alloc.h"
#include "random_dag.h"
#include "schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static kiln_graph *new_graph(void) {
    kiln_graph *g;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    return g;
}

typedef struct made {
    kiln__hazards h;
    kiln__schedule s;
} made;

static made make(const kiln_graph *g, kiln__schedule_options options) {
    made m;
    kiln_error error = {0};
    if (kiln__hazards_find(g, NULL, NULL, &m.h, &error) != KILN_OK ||
        kiln__schedule_make(g, &m.h, &options, &m.s, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return m;
}

static void unmake(made *m) {
    kiln__schedule_free(&m->s);
    kiln__schedule_free(&m->s); /* harmless */
    kiln__hazards_free(&m->h);
}

static kiln_tensor bytes(kiln_graph *g, int64_t n) {
    return dag_make(g, kiln_n(n));
}

/* Reads one tensor whole, makes one of another size. */
static kiln_tensor resize(kiln_graph *g, kiln_tensor from, int64_t n) {
    kiln_tensor out = bytes(g, n);
    dag_access a[2] = {{.operand = 0,
                        .mode = KILN_READ,
                        .count = {1, 1, 1},
                        .length = (uint16_t)g->tensors.items[from.id].bytes},
                       {.operand = 1, .mode = KILN_WRITE, .count = {1, 1, 1}, .length = (uint16_t)n}};
    dag_touch(g, (kiln_tensor[]){from, out}, 2, a, 2);
    return out;
}

static void empty_program(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    made m = make(g, (kiln__schedule_options){0});
    assert_int_equal(m.s.n_regions, 0);
    assert_int_equal(m.s.n_barriers, 0);
    assert_int_equal(m.s.longest_chain, 0);
    assert_int_equal(m.s.memory.arena_bytes, 0);
    unmake(&m);
    m = make(g, (kiln__schedule_options){.serial = true, .max_arena = 1});
    assert_int_equal(m.s.n_regions, 0);
    unmake(&m);
    kiln_graph_destroy(g);
}

static void shapes_of_programs(void **state) {
    (void)state;
    kiln_graph *g = new_graph(); /* independent */
    for (int i = 0; i < 10; i++)
        bytes(g, 16);
    made m = make(g, (kiln__schedule_options){0});
    assert_int_equal(m.s.n_regions, 1);
    assert_int_equal(m.s.barriers_avoided, 9);
    unmake(&m);
    kiln_graph_destroy(g);

    g = new_graph(); /* a diamond */
    kiln_tensor x = bytes(g, 16), l = dag_map(g, &x, 1), r = dag_map(g, &x, 1);
    dag_map(g, (kiln_tensor[]){l, r}, 2);
    m = make(g, (kiln__schedule_options){0});
    assert_int_equal(m.s.n_regions, 3);
    assert_int_equal(m.s.region_of[1], 1);
    assert_int_equal(m.s.region_of[2], 1);
    const kiln__barrier *b = &m.s.barriers[1];
    assert_int_equal(b->cause, KILN__BARRIER_HAZARD);
    assert_int_equal(b->n, 2);
    assert_int_equal(b->n_crossing, 2);
    const kiln__hazard *h = &m.h.items[b->hazard];
    assert_int_equal(h->kind, KILN__RAW);
    assert_int_equal(h->from, 1);
    assert_int_equal(h->to, 3);
    assert_int_equal(m.h.list.items[h->to_access].operand, 0);
    assert_string_equal(kiln__barrier_cause_names[b->cause], "hazard");
    unmake(&m);

    m = make(g, (kiln__schedule_options){.serial = true});
    assert_int_equal(m.s.n_regions, 4);
    assert_int_equal(m.s.longest_chain, 3);
    assert_int_equal(m.s.barriers[0].cause, KILN__BARRIER_HAZARD);
    assert_int_equal(m.s.barriers[1].cause, KILN__BARRIER_SERIAL);
    assert_int_equal(m.s.barriers[1].hazard, KILN__NO_HAZARD);
    assert_int_equal(m.s.barriers[1].n, 0);
    assert_int_equal(m.s.barriers[1].n_crossing, 2); /* 0 → 2 and 1 → 3 */
    assert_int_equal(m.s.barriers[2].cause, KILN__BARRIER_HAZARD);
    unmake(&m);
    kiln_graph_destroy(g);
}

/* Each layer appends to its part of a cache and reads it; q, k and v are independent. */
static void cache_pattern(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor cache = kiln_state(g, "cache", KILN_U8, KILN_SHAPE(kiln_n(4), kiln_n(64)));
    kiln_tensor x = bytes(g, 64);
    for (int layer = 0; layer < 4; layer++) {
        kiln_tensor q = dag_map(g, &x, 1), k = dag_map(g, &x, 1);
        kiln_tensor page = kiln_slice(g, cache, 0, layer, kiln_n(1));
        dag_access append[2] = {{.operand = 0, .mode = KILN_READ, .count = {1, 1, 1}, .length = 64},
                                {.operand = 1, .mode = KILN_WRITE, .count = {1, 1, 1}, .length = 64}};
        dag_touch(g, (kiln_tensor[]){k, page}, 2, append, 2);
        kiln_tensor out = bytes(g, 64);
        dag_access attend[3] = {{.operand = 0, .mode = KILN_READ, .count = {1, 1, 1}, .length = 64},
                                {.operand = 1, .mode = KILN_READ, .count = {1, 1, 1}, .length = 64},
                                {.operand = 2, .mode = KILN_WRITE, .count = {1, 1, 1}, .length = 64}};
        dag_touch(g, (kiln_tensor[]){q, page, out}, 3, attend, 3);
        x = out;
    }
    made m = make(g, (kiln__schedule_options){0});
    assert_int_equal(m.s.n_regions, 1 + 3 * 4); /* per layer: q and k, append, attend */
    unmake(&m);
    kiln_graph_destroy(g);
}

/* Sources whose results are needed late run late: the peak stays that of one step. */
static void sources_wait(void **state) {
    (void)state;
    enum { STEPS = 40 };
    kiln_graph *g = new_graph();
    kiln_tensor x = bytes(g, 128), tables[STEPS];
    for (int i = 0; i < STEPS; i++) /* all made first in program order, in two steps each */
        tables[i] = resize(g, bytes(g, 12800), 1280);
    for (int i = 0; i < STEPS; i++) {
        kiln_tensor out = bytes(g, 128);
        dag_access a[3] = {{.operand = 0, .mode = KILN_READ, .count = {1, 1, 1}, .length = 128},
                           {.operand = 1, .mode = KILN_READ, .count = {1, 1, 1}, .length = 1280},
                           {.operand = 2, .mode = KILN_WRITE, .count = {1, 1, 1}, .length = 128}};
        dag_touch(g, (kiln_tensor[]){x, tables[i], out}, 3, a, 3);
        x = out;
    }
    made m = make(g, (kiln__schedule_options){0});
    assert_int_equal(m.s.n_regions, m.s.longest_chain);
    assert_true(m.s.memory.sum_bytes > STEPS * 12800);
    assert_true(m.s.memory.arena_bytes < 6 * 12800);
    unmake(&m);
    kiln_graph_destroy(g);
}

/* ---- under a cap ------------------------------------------------------------------------------------ */

/* Branches that grow and shrink again, all expansions first in program order. */
static kiln_graph *branches(int n, int64_t wide, int64_t narrow) {
    kiln_graph *g = new_graph();
    kiln_tensor x = bytes(g, narrow), big[16];
    for (int i = 0; i < n; i++)
        big[i] = resize(g, x, wide);
    for (int i = 0; i < n; i++)
        resize(g, big[i], narrow);
    return g;
}

static void caps(void **state) {
    (void)state;
    enum { N = 8, WIDE = 1280, NARROW = 128 };
    kiln_graph *g = branches(N, WIDE, NARROW);
    made m = make(g, (kiln__schedule_options){0});
    uint32_t shortest = m.s.n_regions;
    int64_t all = m.s.memory.arena_bytes;
    assert_true(all >= N * WIDE);
    unmake(&m);
    m = make(g, (kiln__schedule_options){.max_arena = all}); /* a cap that does not bind */
    assert_int_equal(m.s.n_regions, shortest);
    unmake(&m);
    uint32_t before = shortest;
    for (int64_t cap = all - 1; cap >= WIDE + (N + 1) * NARROW; cap -= 640) {
        m = make(g, (kiln__schedule_options){.max_arena = cap});
        uint32_t added = 0;
        assert_true(m.s.memory.arena_bytes <= cap);
        assert_true(m.s.n_regions >= before); /* tighter caps do not need fewer regions */
        before = m.s.n_regions;
        for (uint32_t b = 0; b < m.s.n_barriers; b++)
            added += m.s.barriers[b].cause == KILN__BARRIER_MEMORY;
        assert_int_equal(added, m.s.n_regions - shortest);
        assert_int_equal(m.s.longest_chain, shortest);
        unmake(&m);
    }
    assert_true(before > shortest);
    kiln_graph_destroy(g);
}

static void half_is_a_few_regions_more(void **state) {
    (void)state;
    kiln_graph *g = branches(8, 1280, 128);
    made m = make(g, (kiln__schedule_options){.max_arena = 6 * 1280});
    assert_int_equal(m.s.n_regions, m.s.longest_chain + 3); /* five branches in three regions, then three */
    unmake(&m);
    kiln_graph_destroy(g);
}

static void cap_too_small(void **state) {
    (void)state;
    kiln_graph *g = branches(8, 1280, 128);
    kiln__hazards h;
    kiln__schedule s;
    kiln_error error = {0};
    assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, NULL), KILN_OK);
    kiln__schedule_options options = {.max_arena = 1300};
    assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error), KILN_ERROR_LIMIT);
    assert_non_null(strstr(error.text, "1300"));
    assert_non_null(strstr(error.text, "less than 1408")); /* one wide and one narrow at once */
    assert_null(s.order);
    kiln__schedule_free(&s);
    options.serial = true;
    assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error), KILN_ERROR_LIMIT);
    options.max_arena = -1;
    assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error), KILN_ERROR_ARGUMENT);
    kiln__hazards_free(&h);
    kiln_graph_destroy(g);
}

/* What no order goes below counts an output in place of an input where the op allows it. */
static void least_of_all(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = bytes(g, 1280);
    resize(g, x, 128);
    dag_map(g, &x, 1);
    kiln__hazards h;
    kiln__schedule s;
    kiln_error error = {0};
    assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, NULL), KILN_OK);
    kiln__schedule_options options = {.max_arena = 1};
    assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error), KILN_ERROR_LIMIT);
    assert_non_null(strstr(error.text, "less than 1408"));
    options.memory.no_inplace = true;
    assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error), KILN_ERROR_LIMIT);
    assert_non_null(strstr(error.text, "less than 2560"));
    kiln__hazards_free(&h);
    kiln_graph_destroy(g);

    g = new_graph();
    bytes(g, 1280);
    assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, NULL), KILN_OK);
    options.memory.no_inplace = false;
    assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error), KILN_ERROR_LIMIT);
    assert_non_null(strstr(error.text, "less than 1280"));
    kiln__hazards_free(&h);
    kiln_graph_destroy(g);
}

/* ---- the same every time, and when memory runs out -------------------------------------------------- */

static void deterministic(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        kiln_graph *g = random_dag(seed, 64, DAG_CHAINS), *again = random_dag(seed, 64, DAG_CHAINS);
        kiln__schedule_options options = {.max_arena = seed % 2 ? 4096 : 0};
        kiln__hazards h[2];
        kiln__schedule s[2];
        assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h[0], NULL), KILN_OK);
        assert_int_equal(kiln__hazards_find(again, NULL, NULL, &h[1], NULL), KILN_OK);
        kiln_status status = kiln__schedule_make(g, &h[0], &options, &s[0], NULL);
        assert_int_equal(kiln__schedule_make(again, &h[1], &options, &s[1], NULL), status);
        if (status == KILN_OK) {
            assert_memory_equal(s[0].order, s[1].order, s[0].n_nodes * sizeof *s[0].order);
            assert_int_equal(s[0].n_regions, s[1].n_regions);
            assert_memory_equal(s[0].region_of, s[1].region_of, s[0].n_nodes * sizeof *s[0].region_of);
            for (uint32_t i = 1; i < s[0].memory.n_storages; i++)
                assert_true(s[0].memory.places[i].offset == s[1].memory.places[i].offset);
        }
        for (int i = 0; i < 2; i++) {
            kiln__schedule_free(&s[i]);
            kiln__hazards_free(&h[i]);
        }
        kiln_graph_destroy(g);
        kiln_graph_destroy(again);
    }
}

typedef struct attempt {
    const kiln_graph *g;
    kiln__schedule_options options;
} attempt;

static kiln_status make_once(kiln_allocator allocator, void *context) {
    const attempt *a = context;
    kiln__hazards h;
    kiln__schedule s;
    kiln_error error;
    kiln_status status = kiln__hazards_find(a->g, &allocator, NULL, &h, &error);
    if (status != KILN_OK)
        return status;
    status = kiln__schedule_make(a->g, &h, &a->options, &s, &error);
    if (status == KILN_OK)
        kiln__schedule_free(&s);
    kiln__hazards_free(&h);
    return status;
}

static void every_allocation_fails(void **state) {
    (void)state;
    attempt a = {.g = random_dag(5, 64, DAG_CHAINS)};
    assert_true(fault_alloc_every("schedule of a random program", make_once, &a) > 20);
    kiln_graph *g = branches(8, 1280, 128);
    attempt capped = {.g = g, .options = {.max_arena = 6 * 1280}};
    assert_true(fault_alloc_every("schedule under a cap", make_once, &capped) > 100);
    kiln_graph_destroy((kiln_graph *)(uintptr_t)a.g);
    kiln_graph_destroy(g);
}

/* 20,000 nodes: near-linear or this takes minutes. */
static void large_programs(void **state) {
    (void)state;
    enum { N = 20000 };
    kiln_graph *g = new_graph();
    kiln_tensor x = bytes(g, 64);
    for (int i = 1; i < N; i++)
        x = dag_map(g, &x, 1);
    made m = make(g, (kiln__schedule_options){0});
    assert_int_equal(m.s.n_regions, N);
    assert_int_equal(m.s.memory.arena_bytes, KILN__ARENA_ALIGN); /* all in place */
    unmake(&m);
    m = make(g, (kiln__schedule_options){.memory = {.no_inplace = true}});
    assert_int_equal(m.s.memory.arena_bytes, 2 * KILN__ARENA_ALIGN);
    unmake(&m);
    kiln_graph_destroy(g);

    g = new_graph();
    for (int i = 0; i < N; i++)
        bytes(g, 64 + i % 1000);
    m = make(g, (kiln__schedule_options){0});
    assert_int_equal(m.s.n_regions, 1);
    assert_int_equal(m.s.memory.arena_bytes, m.s.memory.sum_bytes);
    unmake(&m);
    m = make(g, (kiln__schedule_options){.max_arena = 1 << 20});
    assert_true(m.s.memory.arena_bytes <= 1 << 20);
    assert_true(m.s.n_regions <= 1 + 2 * (m.s.memory.sum_bytes >> 20));
    unmake(&m);
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_program),  cmocka_unit_test(shapes_of_programs),
        cmocka_unit_test(cache_pattern),  cmocka_unit_test(sources_wait),
        cmocka_unit_test(caps),           cmocka_unit_test(half_is_a_few_regions_more),
        cmocka_unit_test(cap_too_small),  cmocka_unit_test(least_of_all),
        cmocka_unit_test(deterministic),  cmocka_unit_test(every_allocation_fails),
        cmocka_unit_test(large_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
