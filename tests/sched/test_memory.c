/* Where storages lie, and what takes whose place. Against brute force, and run for real: test_oracle.c. */
#include "fault_alloc.h"
#include "place.h"
#include "random_dag.h"
#include "schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

static made make(const kiln_graph *g, kiln__memory_options memory) {
    made m;
    kiln__schedule_options options = {.memory = memory};
    kiln_error error = {0};
    if (kiln__hazards_find(g, NULL, NULL, &m.h, &error) != KILN_OK ||
        kiln__schedule_make(g, &m.h, &options, &m.s, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return m;
}

static void unmake(made *m) {
    kiln__schedule_free(&m->s);
    kiln__hazards_free(&m->h);
}

static const kiln__memory_options defaults;

static uint32_t storage_of(const kiln_graph *g, kiln_tensor t) {
    return kiln_storage_of(g, t).id;
}

static uint32_t inplace_count(const kiln_graph *g, kiln__memory_options options) {
    made m = make(g, options);
    uint32_t n = m.s.memory.n_inplace;
    unmake(&m);
    return n;
}

/* ---- in place --------------------------------------------------------------------------------------- */

static void chain_in_place(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor first = dag_make(g, kiln_n(100)), x = first;
    for (int i = 0; i < 9; i++)
        x = dag_map(g, &x, 1);
    made m = make(g, defaults);
    assert_int_equal(m.s.memory.n_inplace, 9);
    assert_int_equal(m.s.memory.arena_bytes, KILN__ARENA_ALIGN);
    assert_int_equal(m.s.memory.lower_bound, KILN__ARENA_ALIGN);
    assert_int_equal(m.s.memory.sum_bytes, 10 * KILN__ARENA_ALIGN);
    assert_int_equal(m.s.memory.places[storage_of(g, first)].host, 0);
    assert_int_equal(m.s.memory.places[storage_of(g, x)].heir, 0);
    assert_int_not_equal(m.s.memory.places[storage_of(g, x)].host, 0);
    assert_int_equal(m.s.memory.inplace[0].node, 1);
    unmake(&m);
    m = make(g, (kiln__memory_options){.no_inplace = true});
    assert_int_equal(m.s.memory.n_inplace, 0);
    assert_int_equal(m.s.memory.arena_bytes, 2 * KILN__ARENA_ALIGN);
    unmake(&m);
    m = make(g, (kiln__memory_options){.no_reuse = true});
    assert_int_equal(m.s.memory.arena_bytes, KILN__ARENA_ALIGN); /* in place is not reuse */
    unmake(&m);
    m = make(g, (kiln__memory_options){.no_reuse = true, .no_inplace = true});
    assert_int_equal(m.s.memory.arena_bytes, m.s.memory.sum_bytes);
    unmake(&m);
    kiln_graph_destroy(g);
}

static void other_readers(void **state) {
    (void)state;
    kiln_graph *g = new_graph(); /* two readers in one region: neither takes x */
    kiln_tensor x = dag_make(g, kiln_n(32));
    dag_map(g, &x, 1);
    dag_map(g, &x, 1);
    assert_int_equal(inplace_count(g, defaults), 0);
    kiln_graph_destroy(g);

    g = new_graph(); /* one strictly earlier: y over x at the third node, z over y' … */
    x = dag_make(g, kiln_n(32));
    kiln_tensor y = dag_map(g, &x, 1);    /* region 1 */
    dag_map(g, (kiln_tensor[]){x, y}, 2); /* region 2: x is free by then, and so is y */
    made m = make(g, defaults);
    assert_int_equal(m.s.memory.n_inplace, 1);
    assert_int_equal(m.s.memory.inplace[0].node, 2);
    assert_int_equal(m.s.memory.inplace[0].in, 0);
    unmake(&m);
    kiln_graph_destroy(g);

    g = new_graph(); /* a later reader */
    x = dag_make(g, kiln_n(32));
    y = dag_map(g, &x, 1);
    y = dag_map(g, &y, 1);
    dag_map(g, (kiln_tensor[]){y, x}, 2);
    m = make(g, defaults);
    for (uint32_t i = 0; i < m.s.memory.n_inplace; i++)
        assert_int_not_equal(m.s.memory.inplace[i].node, 1);
    unmake(&m);
    kiln_graph_destroy(g);
}

static void same_tensor_twice(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = dag_make(g, kiln_n(64));
    dag_map(g, (kiln_tensor[]){x, x}, 2); /* each element only meets itself */
    assert_int_equal(inplace_count(g, defaults), 1);
    kiln_graph_destroy(g);

    g = new_graph();
    x = dag_make(g, kiln_n(64));
    kiln_tensor square = kiln_reshape(g, x, KILN_SHAPE(kiln_n(8), kiln_n(8)));
    dag_map(g, (kiln_tensor[]){square, kiln_transpose(g, square, 0, 1)}, 2); /* other elements are read */
    assert_int_equal(inplace_count(g, defaults), 0);
    kiln_graph_destroy(g);
}

static void what_does_not_match(void **state) {
    (void)state;
    kiln_graph *g = new_graph(); /* a part of its storage */
    kiln_tensor x = dag_make(g, kiln_n(64)), part = kiln_slice(g, x, 0, 0, kiln_n(32));
    dag_map(g, &part, 1);
    assert_int_equal(inplace_count(g, defaults), 0);
    kiln_graph_destroy(g);

    g = new_graph(); /* other strides than the dense output */
    x = kiln_reshape(g, dag_make(g, kiln_n(64)), KILN_SHAPE(kiln_n(4), kiln_n(16)));
    kiln_tensor turned = kiln_transpose(g, x, 0, 1);
    dag_map(g, &turned, 1);
    assert_int_equal(inplace_count(g, defaults), 0);
    kiln_graph_destroy(g);

    g = new_graph(); /* not in the arena */
    x = dag_state(g, "x", 64);
    dag_map(g, &x, 1);
    assert_int_equal(inplace_count(g, defaults), 0);
    kiln_graph_destroy(g);

    g = new_graph(); /* an output of the graph is not in the arena either */
    x = dag_make(g, kiln_n(64));
    kiln_output(g, dag_map(g, &x, 1), "y");
    assert_int_equal(inplace_count(g, defaults), 0);
    kiln_graph_destroy(g);
}

/* Ops that claim an in-place pair but do something that forbids it. */
static kiln_status writes_input(const kiln_access_query *query) {
    kiln_status status = kiln_access_operand(query, 0, KILN_READ_WRITE);
    return status == KILN_OK ? kiln_access_operand(query, query->n_in, KILN_WRITE) : status;
}

static kiln_status reads_output(const kiln_access_query *query) {
    kiln_status status = kiln_access_operand(query, 0, KILN_READ);
    return status == KILN_OK ? kiln_access_operand(query, query->n_in, KILN_READ_WRITE) : status;
}

static kiln_status writes_half(const kiln_access_query *query) {
    kiln_box half = {0, 32, {1, 1, 1}, {0, 0, 0}};
    kiln_status status = kiln_access_operand(query, 0, KILN_READ);
    return status == KILN_OK ? kiln_access_box(query, query->n_in, KILN_WRITE, &half) : status;
}

/* With `x`, another node reads x and writes the rest of the output. */
static uint32_t inplace_of_op(kiln_op op, const kiln_tensor *in, uint32_t n, kiln_graph *g, kiln_tensor x) {
    kiln_tensor out[8];
    assert_int_equal(kiln_node_add(g, &op, in, n, NULL, out), KILN_OK);
    dag_access rest[2] = {{.operand = 0, .mode = KILN_READ, .count = {1, 1, 1}, .length = 1},
                          {.operand = 1, .mode = KILN_WRITE, .count = {1, 1, 1}, .offset = 32, .length = 32}};
    if (kiln_tensor_valid(x))
        dag_touch(g, (kiln_tensor[]){x, out[0]}, 2, rest, 2);
    return inplace_count(g, defaults);
}

static kiln_status square_infer(kiln_infer *infer) {
    infer->out[0] = *infer->in[0];
    infer->out[0].ndim = 2;
    infer->out[0].dims[0] = infer->out[0].dims[1] = kiln_n(8);
    return KILN_OK;
}

static void other_dimensions(void **state) {
    (void)state;
    kiln_op op = dag_map_op;
    op.infer = square_infer;
    kiln_graph *g = new_graph();
    kiln_tensor x = dag_make(g, kiln_n(64));
    assert_int_equal(inplace_of_op(op, &x, 1, g, (kiln_tensor){0, 0}), 0);
    kiln_graph_destroy(g);
}

static void pairs_that_do_more(void **state) {
    (void)state;
    static const kiln_inplace first[] = {{0, 0}};
    static kiln_status (*const accesses[])(const kiln_access_query *) = {
        kiln_access_operands, writes_input, reads_output, writes_half, writes_half, NULL};
    static const uint32_t expected[] = {1, 0, 0, 1, 0, 0};
    for (int i = 0; i < 6; i++) {
        kiln_op op = dag_map_op;
        op.inplace = first;
        op.n_inplace = 1;
        op.accesses = accesses[i];
        kiln_graph *g = new_graph();
        kiln_tensor x = dag_make(g, kiln_n(64)), y = dag_make(g, kiln_n(64)), none = {0, 0};
        /* i = 4: another node touches the output, in the region that makes it */
        uint32_t got = inplace_of_op(op, &y, 1, g, i == 4 ? x : none);
        if (got != expected[i])
            fail_msg("case %d: %u in place", i, got);
        kiln_graph_destroy(g);
    }
    kiln_op op = dag_map_op; /* the second operand is the same tensor, but may not be overwritten */
    op.inplace = first;
    op.n_inplace = 1;
    kiln_graph *g = new_graph();
    kiln_tensor x = dag_make(g, kiln_n(64));
    assert_int_equal(inplace_of_op(op, (kiln_tensor[]){x, x}, 2, g, (kiln_tensor){0, 0}), 0);
    kiln_graph_destroy(g);
}

static void symbols_match(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_slot n = kiln_slot_i64(g, "n", 0, 16);
    kiln_tensor x = dag_make(g, kiln_sym_times(n, 4));
    dag_map(g, &x, 1);
    assert_int_equal(inplace_count(g, defaults), 1);
    kiln_graph_destroy(g);
}

/* ---- lives ------------------------------------------------------------------------------------------ */

static void kept_storages(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x[6] = {dag_make(g, kiln_n(32))};
    for (int i = 1; i < 6; i++)
        x[i] = dag_map(g, &x[i - 1], 1);
    kiln__keep keep[2] = {{storage_of(g, x[1]), 2}, {storage_of(g, x[3]), KILN__KEEP_TO_END}};
    made m = make(g, (kiln__memory_options){.keep = keep, .n_keep = 2});
    const kiln__place *p = m.s.memory.places;
    assert_int_equal(p[storage_of(g, x[1])].last, 2);
    assert_int_equal(p[storage_of(g, x[3])].last, m.s.n_regions - 1);
    assert_int_equal(p[storage_of(g, x[1])].heir, 0); /* it is read after region 2, where x[2] is made */
    assert_int_equal(p[storage_of(g, x[3])].heir, 0);
    assert_int_equal(p[storage_of(g, x[2])].heir, storage_of(g, x[3]));
    unmake(&m);
    keep[0].node = 1; /* only until it is made: no reason against in place */
    m = make(g, (kiln__memory_options){.keep = keep, .n_keep = 1});
    assert_int_equal(m.s.memory.n_inplace, 5);
    unmake(&m);
    kiln_graph_destroy(g);
}

static void unused_and_empty(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_storage unused = kiln_storage_add(g, KILN_STORAGE_ARENA, NULL, 1000);
    kiln_tensor empty = dag_make(g, kiln_n(0)), x = dag_make(g, kiln_n(8));
    dag_map(g, &empty, 1);
    kiln_tensor s = dag_state(g, "s", 8);
    dag_touch_run(g, s, KILN_READ, 0, 8);
    made m = make(g, defaults);
    const kiln__place *p = m.s.memory.places;
    assert_int_equal(p[unused.id].first, KILN__NEVER);
    assert_int_equal(p[unused.id].offset, 0);
    assert_int_equal(p[storage_of(g, empty)].first, KILN__NEVER);
    assert_int_equal(p[storage_of(g, s)].offset, -1);
    assert_int_equal(p[storage_of(g, s)].first, 0);
    assert_int_equal(m.s.memory.arena_bytes, KILN__ARENA_ALIGN);
    assert_int_equal(p[storage_of(g, x)].offset, 0);
    unmake(&m);
    kiln_graph_destroy(g);
}

/* What an opaque node is bound to lives while it runs. */
static void opaque_operands_live(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = dag_make(g, kiln_n(8)), s = dag_state(g, "s", 8);
    for (int i = 0; i < 3; i++)
        dag_touch_run(g, s, KILN_WRITE, 0, 8);
    dag_opaque(g, &x, 1);
    made m = make(g, defaults);
    assert_int_equal(m.s.memory.places[storage_of(g, x)].last, 3);
    unmake(&m);
    kiln_graph_destroy(g);
}

static void reuse_in_turn(void **state) {
    (void)state;
    kiln_graph *g = new_graph(); /* sizes 1, 2, 3, 1, 2, 3 … in a row, two alive at once: at most 5 units */
    kiln_tensor x = dag_make(g, kiln_n(128));
    for (int i = 1; i < 60; i++) {
        int64_t n = 128 * (1 + i % 3);
        kiln_tensor y = dag_make(g, kiln_n(n));
        dag_access a[2] = {
            {.operand = 0, .mode = KILN_READ, .count = {1, 1, 1}, .length = 128},
            {.operand = 1, .mode = KILN_READ_WRITE, .count = {1, 1, 1}, .length = (uint16_t)n}};
        dag_touch(g, (kiln_tensor[]){x, y}, 2, a, 2);
        x = y;
    }
    made m = make(g, defaults);
    assert_int_equal(m.s.memory.n_inplace, 0);
    assert_true(m.s.memory.sum_bytes == 120 * 128);
    assert_true(m.s.memory.arena_bytes <= 9 * 128); /* the next one is made beside the two */
    unmake(&m);
    kiln_graph_destroy(g);
}

/* ---- options and limits ----------------------------------------------------------------------------- */

static void alignment(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    for (int i = 0; i < 3; i++)
        dag_make(g, kiln_n(10));
    made m = make(g, (kiln__memory_options){.align = 16});
    assert_int_equal(m.s.memory.arena_bytes, 48);
    assert_int_equal(m.s.memory.align, 16);
    unmake(&m);
    m = make(g, (kiln__memory_options){.align = 4096});
    assert_int_equal(m.s.memory.arena_bytes, 3 * 4096);
    unmake(&m);
    kiln_graph_destroy(g);
}

static void bad_options(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    dag_make(g, kiln_n(10));
    kiln__hazards h;
    kiln__schedule s;
    kiln_error error;
    kiln__keep keep[4] = {{0, 0}, {99, 0}, {1, 1}, {1, KILN__KEEP_TO_END}};
    assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, NULL), KILN_OK);
    for (int i = 0; i < 4; i++) {
        kiln__schedule_options options = {.memory = {.keep = &keep[i], .n_keep = 1}};
        assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error),
                         i < 3 ? KILN_ERROR_ARGUMENT : KILN_OK);
        kiln__schedule_free(&s);
    }
    static const int64_t aligns[] = {3, -1, INT64_MIN, 96};
    for (int i = 0; i < 4; i++) {
        kiln__schedule_options options = {.memory = {.align = aligns[i]}};
        assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error), KILN_ERROR_ARGUMENT);
        assert_non_null(strstr(error.text, "power of two"));
    }
    kiln__hazards_free(&h);
    kiln_graph_destroy(g);
}

static void sums_overflow(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    for (int i = 0; i < 2; i++) {
        kiln_storage s = kiln_storage_add(g, KILN_STORAGE_ARENA, NULL, INT64_C(1) << 62);
        kiln_dim n = kiln_n(8);
        dag_touch_run(g, kiln_tensor_at(g, s, 0, KILN_U8, 1, &n, NULL), KILN_WRITE, 0, 8);
    }
    kiln__hazards h;
    kiln__schedule s;
    kiln__schedule_options options = {0};
    kiln_error error;
    assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, NULL), KILN_OK);
    assert_int_equal(kiln__schedule_make(g, &h, &options, &s, &error), KILN_ERROR_OVERFLOW);
    assert_non_null(strstr(error.text, "63 bits"));
    static const uint32_t regions[] = {0, 1};
    kiln__memory m;
    assert_int_equal(kiln__memory_plan(g, &h, regions, 2, &options.memory, &h.allocator, &m, &error),
                     KILN_ERROR_OVERFLOW);
    kiln__hazards_free(&h);
    kiln_graph_destroy(g);
}

/* ---- placing by itself ------------------------------------------------------------------------------ */

static void check_items(const kiln__item *items, uint32_t n, int64_t unit, int64_t total, int64_t bound) {
    int64_t end = 0, largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        int64_t alive = 0;
        assert_true(items[i].offset >= 0 && items[i].offset % unit == 0);
        end = items[i].offset + items[i].size > end ? items[i].offset + items[i].size : end;
        for (uint32_t j = 0; j < n; j++) {
            bool meet = items[i].first <= items[j].last && items[j].first <= items[i].last;
            bool share = items[i].offset < items[j].offset + items[j].size &&
                         items[j].offset < items[i].offset + items[i].size;
            if (i != j && meet && share)
                fail_msg("items %u and %u overlap", i, j);
            if (items[j].first <= items[i].first && items[i].first <= items[j].last)
                alive += items[j].size;
        }
        largest = alive > largest ? alive : largest;
    }
    assert_true(total == end && bound == largest && total >= bound);
}

static void random_items(void **state) {
    (void)state;
    enum { N = 400, ROUNDS = 300 };
    static kiln__item items[N];
    dag_random r = {17};
    kiln_allocator a = kiln_allocator_default();
    double over = 0, worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = 1 + (uint32_t)dag_below(&r, N), regions = 1 + (uint32_t)dag_below(&r, 200);
        int64_t longest = 1 + dag_below(&r, round % 2 ? 12 : 200), unit = round % 3 ? 128 : 1;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t first = (uint32_t)dag_below(&r, regions);
            uint32_t last = first + (uint32_t)dag_below(&r, longest);
            int64_t size = 1 + (dag_below(&r, 4) ? dag_below(&r, 20) : dag_below(&r, 3000));
            items[i] = (kiln__item){size * unit, -1, first, last < regions ? last : regions - 1};
        }
        int64_t total, bound;
        assert_true(kiln__place_items(items, n, unit, &a, &total, &bound));
        check_items(items, n, unit, total, bound);
        double ratio = (double)total / (double)bound - 1;
        over += ratio;
        worst = ratio > worst ? ratio : worst;
    }
    printf("%d arenas: %.2f%% above the lower bound on average, %.1f%% at worst\n", ROUNDS,
           100 * over / (double)ROUNDS, 100 * worst);
    assert_true(over / (double)ROUNDS < 0.05);
}

/* So many, so long alive that only the linear method is tried; holes join and are used again. */
static void many_items(void **state) {
    (void)state;
    enum { N = 50000 };
    kiln__item *items = calloc(N, sizeof *items);
    assert_non_null(items);
    dag_random r = {23};
    kiln_allocator a = kiln_allocator_default();
    int64_t total, bound;
    for (uint32_t i = 0; i < N; i++)
        items[i] = (kiln__item){1 + dag_below(&r, 1000), 0, i, i + (uint32_t)dag_below(&r, 5000)};
    assert_true(kiln__place_items(items, N, 1, &a, &total, &bound));
    assert_true((double)total < 1.3 * (double)bound);
    for (uint32_t i = 0; i < N; i += 97) /* a sample of pairs */
        for (uint32_t j = i + 1; j < N && j < i + 5000; j++)
            assert_false(items[j].first <= items[i].last &&
                         items[i].offset < items[j].offset + items[j].size &&
                         items[j].offset < items[i].offset + items[i].size);
    free(items);
}

static kiln_status plan_once(kiln_allocator allocator, void *context) {
    kiln__hazards h;
    kiln_status status = kiln__hazards_find(context, NULL, NULL, &h, NULL);
    if (status != KILN_OK)
        return status;
    uint32_t region_of[64];
    for (uint32_t i = 0; i < h.n_nodes; i++)
        region_of[i] = i;
    kiln__memory m;
    kiln__memory_options options = {0};
    status = kiln__memory_plan(context, &h, region_of, h.n_nodes, &options, &allocator, &m, NULL);
    if (status == KILN_OK)
        kiln__memory_free(&m, &allocator);
    kiln__hazards_free(&h);
    return status;
}

static void every_allocation_fails(void **state) {
    (void)state;
    kiln_graph *g = random_dag(5, 64, DAG_CHAINS);
    assert_true(fault_alloc_every("memory plan of a random program", plan_once, g) > 5);
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_in_place),
        cmocka_unit_test(other_readers),
        cmocka_unit_test(same_tensor_twice),
        cmocka_unit_test(what_does_not_match),
        cmocka_unit_test(pairs_that_do_more),
        cmocka_unit_test(other_dimensions),
        cmocka_unit_test(symbols_match),
        cmocka_unit_test(kept_storages),
        cmocka_unit_test(unused_and_empty),
        cmocka_unit_test(opaque_operands_live),
        cmocka_unit_test(reuse_in_turn),
        cmocka_unit_test(alignment),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(sums_overflow),
        cmocka_unit_test(random_items),
        cmocka_unit_test(many_items),
        cmocka_unit_test(every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
