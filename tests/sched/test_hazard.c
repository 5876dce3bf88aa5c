/* Which pairs of nodes are hazards, how many are recorded, and what happens when memory runs out. The judge
 * of completeness is test_oracle.c. */
#include "fault_alloc.h"
#include "hazard.h"
#include "random_dag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

static kiln_graph *new_graph(void) {
    kiln_graph *g;
    assert_int_equal(kiln_graph_create(NULL, &g, NULL), KILN_OK);
    return g;
}

static kiln__hazards find(const kiln_graph *g) {
    kiln__hazards h;
    kiln_error error = {0};
    if (kiln__hazards_find(g, NULL, NULL, &h, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return h;
}

static const kiln__hazard *between(const kiln__hazards *h, uint32_t from, uint32_t to) {
    for (size_t e = h->first_hazard[to]; e < h->first_hazard[to + 1]; e++)
        if (h->items[e].from == from)
            return &h->items[e];
    return NULL;
}

static void finish(kiln__hazards *h, kiln_graph *g) {
    kiln__hazards_free(h);
    kiln__hazards_free(h); /* harmless */
    kiln_graph_destroy(g);
}

static void kinds(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = dag_state(g, "x", 64);
    dag_touch_run(g, x, KILN_WRITE, 0, 16);      /* 0 */
    dag_touch_run(g, x, KILN_READ, 8, 4);        /* 1: RAW 0 */
    dag_touch_run(g, x, KILN_READ, 16, 4);       /* 2: nothing, adjacent */
    dag_touch_run(g, x, KILN_WRITE, 10, 1);      /* 3: WAW 0, WAR 1 */
    dag_touch_run(g, x, KILN_READ_WRITE, 14, 4); /* 4: RAW 0, WAR 2 */
    dag_touch_run(g, x, KILN_READ, 40, 0);       /* 5: no byte */
    dag_touch_run(g, x, KILN_READ, 20, 44);      /* 6: nothing */
    kiln__hazards h = find(g);
    assert_int_equal(h.count, 5);
    assert_int_equal(between(&h, 0, 1)->kind, KILN__RAW);
    assert_int_equal(between(&h, 0, 3)->kind, KILN__WAW);
    assert_int_equal(between(&h, 1, 3)->kind, KILN__WAR);
    assert_int_equal(between(&h, 0, 4)->kind, KILN__RAW);
    assert_int_equal(between(&h, 2, 4)->kind, KILN__WAR);
    const kiln__hazard *e = between(&h, 0, 1);
    assert_int_equal(h.list.items[e->from_access].node, 0);
    assert_int_equal(h.list.items[e->to_access].node, 1);
    assert_int_equal(h.list.items[e->to_access].offset, 8);
    assert_string_equal(kiln__hazard_kind_names[KILN__WAR], "war");
    finish(&h, g);
}

static void columns_do_not_meet(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor m = kiln_state(g, "m", KILN_F32, KILN_SHAPE(kiln_n(100), kiln_n(8)));
    for (int i = 0; i < 8; i++) {
        kiln_tensor c = kiln_slice(g, m, 1, i, kiln_n(1));
        dag_access a = {.mode = KILN_WRITE, .count = {100, 1, 1}, .stride = {32, 0, 0}, .length = 4};
        dag_touch(g, &c, 1, &a, 1);
    }
    dag_map(g, &m, 1);
    kiln__hazards h = find(g);
    assert_int_equal(h.count, 8); /* each writer to the reader, none among writers */
    for (uint32_t i = 0; i < 8; i++)
        assert_non_null(between(&h, i, 8));
    finish(&h, g);
}

static void mapped_storages(void **state) {
    (void)state;
    static unsigned char memory[64];
    kiln_graph *g = new_graph();
    kiln_storage a = kiln_storage_add(g, KILN_STORAGE_OUTPUT, "a", 32);
    kiln_storage b = kiln_storage_add(g, KILN_STORAGE_WEIGHT, "b", 32);
    kiln_storage c = kiln_storage_add(g, KILN_STORAGE_OUTPUT, "c", 32);
    kiln_storage d = kiln_storage_add(g, KILN_STORAGE_OUTPUT, "d", 32); /* its memory is not known */
    kiln_storage_data(g, c, memory, 32, 0);
    kiln_storage_data(g, b, memory + 16, 32, 0);
    kiln_storage_data(g, a, memory + 32, 32, 0);
    kiln_dim n = kiln_n(32);
    kiln_tensor ta = kiln_tensor_at(g, a, 0, KILN_U8, 1, &n, NULL);
    kiln_tensor tb = kiln_tensor_at(g, b, 0, KILN_U8, 1, &n, NULL);
    kiln_tensor tc = kiln_tensor_at(g, c, 0, KILN_U8, 1, &n, NULL);
    kiln_tensor td = kiln_tensor_at(g, d, 0, KILN_U8, 1, &n, NULL);
    dag_touch_run(g, ta, KILN_WRITE, 0, 32); /* 0: memory 32 … 64 */
    dag_touch_run(g, tc, KILN_WRITE, 0, 32); /* 1: memory 0 … 32, adjacent to 0 */
    dag_touch_run(g, tb, KILN_READ, 0, 16);  /* 2: memory 16 … 32 */
    dag_touch_run(g, tb, KILN_READ, 16, 16); /* 3: memory 32 … 48 */
    dag_touch_run(g, td, KILN_WRITE, 0, 32); /* 4: elsewhere */
    kiln__hazards h = find(g);
    assert_int_equal(h.count, 2);
    assert_int_equal(between(&h, 1, 2)->kind, KILN__RAW);
    assert_int_equal(between(&h, 0, 3)->kind, KILN__RAW);
    assert_int_equal(h.places[a.id].space, h.places[c.id].space);
    assert_int_not_equal(h.places[a.id].space, h.places[d.id].space);
    assert_int_equal(h.places[a.id].base, 32);
    finish(&h, g);
}

static void memory_that_wraps(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    for (int i = 0; i < 2; i++) {
        kiln_storage s = kiln_storage_add(g, KILN_STORAGE_OUTPUT, i ? "a" : "b", 64);
        kiln_storage_data(g, s, (void *)(UINTPTR_MAX - 32), 64, 0);
    }
    kiln__hazards h;
    kiln_error error;
    assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, &error), KILN_ERROR_OVERFLOW);
    assert_non_null(strstr(error.text, "wrap"));
    finish(&h, g);
}

static void opaque_nodes(void **state) {
    (void)state;
    enum { N = 200 };
    kiln_graph *g = new_graph();
    kiln_tensor x = dag_state(g, "x", 4 * N), w = kiln_weight(g, "w", KILN_U8, KILN_SHAPE(kiln_n(4)));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            if (i % 2 == 0)
                dag_touch_run(g, x, KILN_WRITE, 4 * i, 4);
            else
                dag_touch_run(g, w, KILN_READ, 0, 4); /* even what is never written */
        }
        dag_opaque(g, &w, 1);
    }
    kiln__hazards h = find(g);
    assert_int_equal(h.count, 3 * N + 2 * (N + 1));
    assert_int_equal(between(&h, 0, N)->kind, KILN__RAW);
    assert_int_equal(between(&h, 1, N)->kind, KILN__WAR);
    assert_int_equal(between(&h, N, N + 1)->kind, KILN__WAW);
    assert_int_equal(between(&h, N, N + 2)->kind, KILN__RAW);
    assert_non_null(between(&h, N, 2 * N + 1)); /* opaque to opaque */
    assert_null(between(&h, 0, N + 1));         /* implied by the opaque node */
    finish(&h, g);
}

static void no_accesses_no_hazards(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln__hazards h = find(g);
    assert_int_equal(h.count, 0);
    kiln__hazards_free(&h);
    kiln_tensor x = dag_state(g, "x", 8);
    dag_touch(g, &x, 1, NULL, 0);
    dag_opaque(g, &x, 1);
    dag_touch(g, &x, 1, NULL, 0);
    h = find(g);
    assert_int_equal(h.count, 0);
    finish(&h, g);
}

/* Patterns whose conflicting pairs are quadratic and whose hazards are not. */
static void hazards_stay_linear(void **state) {
    (void)state;
    enum { N = 3000 };
    kiln_graph *g = new_graph();
    kiln_tensor x = dag_state(g, "x", 1024);
    for (int i = 0; i < N; i++) { /* written whole, read whole */
        dag_touch_run(g, x, KILN_WRITE, 0, 1024);
        dag_touch_run(g, x, KILN_READ, 0, 1024);
    }
    kiln__hazards h = find(g);
    assert_true(h.count <= 3 * N);
    finish(&h, g);

    g = new_graph(); /* filled in pieces from either end, read whole */
    x = dag_state(g, "x", 1024);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 4; k++)
            dag_touch_run(g, x, KILN_WRITE, 256 * (i % 2 ? 3 - k : k), 256);
        dag_touch_run(g, x, KILN_READ, 0, 1024);
    }
    h = find(g);
    assert_true(h.count <= 13 * N);
    finish(&h, g);

    g = new_graph(); /* filled by columns, read whole */
    kiln_tensor m = kiln_state(g, "m", KILN_U8, KILN_SHAPE(kiln_n(16), kiln_n(64)));
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 4; k++) {
            dag_access a = {.mode = KILN_WRITE,
                            .count = {16, 1, 1},
                            .stride = {64, 0, 0},
                            .offset = (uint16_t)(16 * (i % 2 ? 3 - k : k)),
                            .length = 16};
            dag_touch(g, &m, 1, &a, 1);
        }
        dag_touch_run(g, m, KILN_READ, 0, 1024);
    }
    h = find(g);
    assert_true(h.count <= 13 * N);
    finish(&h, g);

    g = new_graph(); /* read and written by one node */
    x = dag_state(g, "x", 1024);
    for (int i = 0; i < N; i++) {
        dag_access rw[2] = {{.mode = KILN_READ, .count = {1, 1, 1}, .length = 1024},
                            {.mode = KILN_WRITE, .count = {1, 1, 1}, .length = 1024}};
        dag_touch(g, &x, 1, rw, 2);
    }
    h = find(g);
    assert_int_equal(h.count, N - 1);
    finish(&h, g);

    g = new_graph(); /* never written */
    kiln_tensor w = kiln_weight(g, "w", KILN_U8, KILN_SHAPE(kiln_n(1024)));
    for (int i = 0; i < N; i++)
        dag_touch_run(g, w, KILN_READ, 0, 1024);
    h = find(g);
    assert_int_equal(h.count, 0);
    finish(&h, g);
}

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Best of a few; n nodes write a column each, in an order that jumps, and the next n read one each. */
static double ms_of_columns(int n) {
    kiln_graph *g = new_graph();
    double best = 1e9;
    kiln_tensor m = kiln_state(g, "m", KILN_U8, KILN_SHAPE(kiln_n(64), kiln_n(n)));
    dag_access a = {.count = {64, 1, 1}, .stride = {(uint16_t)n, 0, 0}, .length = 1};
    for (int i = 0; i < 2 * n; i++) {
        kiln_tensor column = kiln_slice(g, m, 1, (int64_t)i * 7919 % n, kiln_n(1));
        a.mode = i < n ? KILN_WRITE : KILN_READ;
        dag_touch(g, &column, 1, &a, 1);
    }
    for (int run = 0; run < 3; run++) {
        double start = cpu_ms();
        kiln__hazards h = find(g);
        double took = cpu_ms() - start;
        best = took < best ? took : best;
        assert_int_equal(h.count, n);
        assert_non_null(between(&h, 0, (uint32_t)n));
        kiln__hazards_free(&h);
    }
    kiln_graph_destroy(g);
    return best;
}

/* All their hulls overlap: without an order among columns each would be held against all others. */
static void columns_cost_little(void **state) {
    (void)state;
    enum { N = 1000, TIMES = 16 };
    double few = ms_of_columns(N), many = ms_of_columns(TIMES * N);
    print_message("%d columns: %.2f ms; %d: %.2f ms\n", N, few, TIMES * N, many);
    assert_true(many < 4 * TIMES * few); /* squares would be TIMES * TIMES */
}

static void failing_declaration(void **state) {
    (void)state;
    kiln_graph *g = new_graph();
    kiln_tensor x = dag_state(g, "x", 8);
    dag_touch_run(g, x, KILN_WRITE, 0, 8);
    dag_touch_run(g, x, KILN_WRITE, 1, 8); /* one byte behind the storage */
    kiln__hazards h;
    kiln_error error;
    assert_int_equal(kiln__hazards_find(g, NULL, NULL, &h, &error), KILN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.text, "touch.1"));
    assert_int_equal(h.count, 0);
    finish(&h, g);
}

static kiln_status find_once(kiln_allocator allocator, void *context) {
    kiln__hazards h;
    kiln_error error;
    kiln_status status = kiln__hazards_find(context, &allocator, NULL, &h, &error);
    if (status == KILN_OK)
        kiln__hazards_free(&h);
    return status;
}

static void every_allocation_fails(void **state) {
    (void)state;
    kiln_graph *g = random_dag(7, 64, DAG_OPAQUE | DAG_MAPPED);
    assert_true(fault_alloc_every("hazards of a random program", find_once, g) > 5);
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(columns_do_not_meet),
        cmocka_unit_test(mapped_storages),
        cmocka_unit_test(memory_that_wraps),
        cmocka_unit_test(opaque_nodes),
        cmocka_unit_test(no_accesses_no_hazards),
        cmocka_unit_test(hazards_stay_linear),
        cmocka_unit_test(columns_cost_little),
        cmocka_unit_test(failing_declaration),
        cmocka_unit_test(every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
