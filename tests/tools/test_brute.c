/* The check behind `kiln check`: it agrees with every plan that is baked, and notices each that is broken. */
#include "tools/kiln/brute.c" /* the command's sources are in no library */

#include "tests/support/random_dag.h"
#include "tests/support/tiny_model.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

static kiln_plan *baked(const kiln_graph *g, kiln_bake_options options) {
    kiln_plan *plan;
    kiln_error error;
    if (kiln_bake(g, &options, &plan, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return plan;
}

static brute_report checked(const kiln_plan *plan) {
    brute_report report;
    kiln_error error;
    if (brute_check(plan, NULL, NULL, &report, &error) != KILN_OK)
        fail_msg("%s", error.text);
    return report;
}

static void expect_right(const kiln_graph *g, kiln_bake_options options, uint64_t seed) {
    kiln_plan *plan = baked(g, options);
    brute_report report = checked(plan);
    if (!report.ok)
        fail_msg("seed %llu: %s", (unsigned long long)seed, report.problem);
    assert_int_equal(report.nodes, plan->program->nodes.count);
    kiln_plan_release(plan);
}

static void test_random_plans(void **state) {
    (void)state;
    int refused = 0;
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        kiln_graph *g = random_dag(seed, 24, (unsigned)seed % 8);
        kiln_plan *plan;
        kiln_status status = kiln_bake(g, NULL, &plan, NULL);
        kiln_plan_release(plan);
        if (status != KILN_OK) { /* some of these programs read what nobody wrote, which baking refuses */
            assert_int_equal(status, KILN_ERROR_ARGUMENT);
            kiln_graph_destroy(g);
            refused++;
            continue;
        }
        expect_right(g, (kiln_bake_options){0}, seed);
        expect_right(g, (kiln_bake_options){.no_reuse = true, .no_inplace = true}, seed);
        expect_right(g, (kiln_bake_options){.serial = true}, seed);
        kiln_graph_destroy(g);
    }
    assert_true(refused < 1000);
}

static kiln_graph *tiny(void) {
    kiln_graph *g;
    kiln_error error;
    tiny_model m;
    assert_int_equal(kiln_graph_create(NULL, &g, &error), KILN_OK);
    tiny_build(g, 3, &m);
    return g;
}

static void test_a_decoder(void **state) {
    (void)state;
    kiln_graph *g = tiny();
    kiln_plan *plan = baked(g, (kiln_bake_options){0});
    kiln_plan_summary s;
    kiln_plan_get_summary(plan, &s);
    kiln_plan_release(plan);
    for (int exact = 0; exact < 2; exact++)
        for (int fuse = 0; fuse < 2; fuse++) {
            kiln_bake_options o = {.precision = exact ? KILN_PRECISION_EXACT : KILN_PRECISION_FAST,
                                   .no_fuse = fuse ? 0 : KILN_FUSE_ALL};
            expect_right(g, o, 0);
            o.max_arena = s.arena_bytes * 2;
            expect_right(g, o, 0);
        }
    kiln_graph_destroy(g);
}

/* ---- broken plans ----------------------------------------------------------------------------------- */

/* Each breaks one thing of a plan; false when this plan has no such thing to break. */

/* Region 1 joins region 0: a hazard is missed. */
static bool merge_regions(kiln_plan *p) {
    kiln__schedule *s = &p->schedule;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        s->region_of[i] -= s->region_of[i] > 0;
    return s->n_regions > 1;
}

static bool swap_regions(kiln_plan *p) {
    kiln__schedule *s = &p->schedule;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        if (s->region_of[i] == 2 || s->region_of[i] == 3)
            s->region_of[i] = 5 - s->region_of[i];
    return s->n_regions > 3;
}

/* The last node of the last region gets one of its own, for nothing. */
static bool tear_region(kiln_plan *p) {
    kiln__schedule *s = &p->schedule;
    uint32_t *first = realloc(NULL, (s->n_regions + 2) * sizeof *first);
    assert_non_null(first);
    memcpy(first, s->region_first, (s->n_regions + 1) * sizeof *first);
    uint32_t r = 0; /* a region of two nodes or more: its last one goes */
    while (r < s->n_regions && first[r + 1] - first[r] < 2)
        r++;
    if (r < s->n_regions) {
        memmove(first + r + 2, first + r + 1, (s->n_regions - r) * sizeof *first);
        first[r + 1]--;
        for (uint32_t i = first[r + 1]; i < s->n_nodes; i++)
            s->region_of[s->order[i]]++;
        /* The schedule's own arrays keep their sizes, so the wider one lives for the check only. */
        uint32_t *old = s->region_first;
        s->region_first = first;
        s->n_regions++;
        s->n_barriers++;
        brute_report report = checked(p);
        s->n_regions--;
        s->n_barriers--;
        s->region_first = old;
        assert_false(report.ok);
        assert_non_null(strstr(report.problem, "barrier can be left out"));
        free(first);
        return false; /* checked here already */
    }
    free(first);
    return false;
}

/* Between a node and the next it has nothing to do with. */
static bool invent_hazard(kiln_plan *p) {
    kiln__hazards *h = &p->hazards;
    const kiln__access *last = &h->list.items[h->list.count - 1];
    for (size_t i = 0; i < h->list.count; i++) {
        const kiln__access *a = &h->list.items[i];
        if (a->node < last->node && a->storage != last->storage) {
            h->items[0] =
                (kiln__hazard){a->node, last->node, (uint32_t)i, (uint32_t)h->list.count - 1, KILN__RAW};
            return true;
        }
    }
    return false;
}

static bool shuffle_order(kiln_plan *p) {
    uint32_t *o = p->schedule.order, n = p->schedule.n_nodes, keep = o[0];
    o[0] = o[n - 1];
    o[n - 1] = keep;
    return n > 1;
}

static bool all_at_zero(kiln_plan *p) {
    for (uint32_t i = 0; i < p->schedule.memory.n_storages; i++)
        p->schedule.memory.places[i].offset = 0;
    return p->schedule.memory.n_storages > 4;
}

static bool beyond_arena(kiln_plan *p) {
    kiln__memory *m = &p->schedule.memory;
    for (uint32_t i = 1; i < m->n_storages; i++)
        if (p->program->storages.items[i].kind == KILN_STORAGE_ARENA && m->places[i].first != KILN__NEVER &&
            p->program->storages.items[i].size > 0) {
            m->places[i].offset = m->arena_bytes;
            return true;
        }
    return false;
}

static bool forget_host(kiln_plan *p) { /* an in-place pair that is none */
    kiln__memory *m = &p->schedule.memory;
    for (uint32_t i = 1; i < m->n_storages; i++)
        if (m->places[i].host != 0) {
            m->places[m->places[i].host].heir = 0;
            m->places[i].host = 0;
            return true;
        }
    return false;
}

static bool wrong_sum(kiln_plan *p) {
    return p->schedule.memory.sum_bytes++ > 0;
}

static bool wrong_bound(kiln_plan *p) {
    return p->schedule.memory.lower_bound-- > 0;
}

static bool wrong_chain(kiln_plan *p) {
    return p->schedule.longest_chain-- > 0;
}

static bool misaligned(kiln_plan *p) {
    kiln__memory *m = &p->schedule.memory;
    for (uint32_t i = 1; i < m->n_storages; i++)
        if (m->places[i].offset > 0) {
            m->places[i].offset += 4;
            return true;
        }
    return false;
}

static void test_broken_plans(void **state) {
    (void)state;
    bool (*const faults[])(kiln_plan *) = {merge_regions, swap_regions, tear_region,  invent_hazard,
                                           shuffle_order, all_at_zero,  beyond_arena, forget_host,
                                           wrong_sum,     wrong_bound,  wrong_chain,  misaligned};
    kiln_graph *g = tiny();
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        kiln_plan *plan = baked(g, (kiln_bake_options){0});
        bool broken = faults[i](plan);
        brute_report report;
        if (broken) {
            report = checked(plan);
            if (report.ok)
                fail_msg("fault %zu went unnoticed", i);
            assert_true(strlen(report.problem) > 20);
        } else {
            assert_true(faults[i] == tear_region);
        }
        kiln_plan_release(plan);
    }
    kiln_graph_destroy(g);
}

static bool met(const kiln_box *x, const kiln_box *y, int64_t base) {
    int64_t steps = STEPS;
    runs p = runs_of(x, base), q = runs_of(y, base);
    bool yes = meet(&p, &q, &steps);
    assert_true(steps >= 0);
    return yes;
}

/* Sets the bytes of a box, or with `look` finds whether one of them is set. */
static bool mark(const kiln_box *box, unsigned char *bytes, bool look) {
    bool found = false;
    for (int64_t x = 0; x < box->count[0]; x++)
        for (int64_t y = 0; y < box->count[1]; y++)
            for (int64_t z = 0; z < box->count[2]; z++)
                for (int64_t o = 0; o < box->length; o++) {
                    int64_t at =
                        box->offset + x * box->stride[0] + y * box->stride[1] + z * box->stride[2] + o;
                    found = found || bytes[at];
                    bytes[at] = (unsigned char)(bytes[at] | !look);
                }
    return found;
}

/* Boxes by runs against bytes one by one: small ones of every kind, and larger ones that interlace. */
static void test_boxes(void **state) {
    (void)state;
    enum { ROOM = 1 << 14 };
    static unsigned char bytes[ROOM];
    dag_random r = {42};
    int apart = 0;
    for (int i = 0; i < 24000; i++) {
        bool large = i >= 20000;
        int64_t steps = large ? 8 + dag_below(&r, 20) : 1;
        kiln_box box[2];
        memset(bytes, 0, large ? ROOM : 512);
        for (int k = 0; k < 2; k++) {
            box[k] = (kiln_box){dag_below(&r, 40), 1 + dag_below(&r, large ? 9 : 6), {1, 1, 1}, {0, 0, 0}};
            for (int l = 0; l < KILN_BOX_LEVELS; l++) {
                box[k].count[l] = 1 + dag_below(&r, large ? 9 : 3);
                box[k].stride[l] = box[k].count[l] > 1 ? dag_below(&r, large ? 20 : 30) * steps : 0;
                if (dag_below(&r, 4) == 0) { /* the same bytes from the other end */
                    box[k].offset += (box[k].count[l] - 1) * box[k].stride[l];
                    box[k].stride[l] = -box[k].stride[l];
                }
            }
        }
        mark(&box[0], bytes, false);
        bool meets = mark(&box[1], bytes, true);
        apart += large && !meets;
        assert_int_equal(met(&box[0], &box[1], 0), meets);
        assert_int_equal(met(&box[1], &box[0], 7), meets);
    }
    assert_true(apart > 100);
}

/* Boxes of very many runs, each between two of the other: apart, and by one byte not. */
static void test_interlaced_boxes(void **state) {
    (void)state;
    for (int64_t n = 1024; n <= 1 << 20; n *= 4) {
        kiln_box k = {0, 256, {n / 64, 64, 1}, {512 * 64, 512, 0}};
        kiln_box v = {256, 256, {n, 1, 1}, {512, 0, 0}},
                 last = {512 * (n - 1) + 255, 2, {1, 1, 1}, {0, 0, 0}};
        assert_false(met(&k, &v, 0));
        assert_false(met(&v, &k, 0));
        assert_true(met(&k, &last, 0) && met(&v, &last, 0));
        v.length = 257; /* into the next row of the other */
        assert_true(met(&k, &v, 0) && met(&v, &k, 0));
    }
    /* One that overlaps itself, as the windows of a convolution do. */
    kiln_box windows = {0, 4, {3, 1000, 3}, {640, 640, 8}}, gaps = {4, 4, {1000, 1, 1}, {640, 0, 0}};
    assert_false(met(&windows, &gaps, 0));
    gaps.offset = 5;
    assert_true(met(&windows, &gaps, 0));
}

/* Where there is too much to enumerate, the answer is that there is none. */
static void test_undecided(void **state) {
    (void)state;
    kiln_box even = {0, 1, {300, 300, 300}, {22, 26, 28}}, odd = {1, 1, {11000, 1, 1}, {2, 0, 0}};
    int64_t steps = STEPS;
    runs p = runs_of(&even, 0), q = runs_of(&odd, 0);
    assert_false(meet(&p, &q, &steps));
    assert_true(steps < 0);
    odd.offset = 0;
    assert_true(met(&even, &odd, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_plans),     cmocka_unit_test(test_a_decoder),
        cmocka_unit_test(test_broken_plans),     cmocka_unit_test(test_boxes),
        cmocka_unit_test(test_interlaced_boxes), cmocka_unit_test(test_undecided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
