/* Boxes against the plain sets of their bytes. */
#include "box.h"
#include "checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { SPACE = 512, PAIRS = 400000 };

static uint64_t seed;

static int64_t below(int64_t n) { /* xorshift64* */
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (int64_t)((seed * 2685821657736338717u) >> 33) % n;
}

/* The bytes of a box that lies in [0, SPACE). */
static void bytes_of(const kiln_box *b, unsigned char set[SPACE]) {
    memset(set, 0, SPACE);
    for (int64_t i = 0; i < b->count[0]; i++)
        for (int64_t j = 0; j < b->count[1]; j++)
            for (int64_t k = 0; k < b->count[2]; k++)
                for (int64_t x = 0; x < b->length; x++)
                    set[b->offset + i * b->stride[0] + j * b->stride[1] + k * b->stride[2] + x] = 1;
}

static kiln_box box(int64_t offset, int64_t length) {
    return (kiln_box){offset, length, {1, 1, 1}, {0, 0, 0}};
}

static kiln_box box1(int64_t offset, int64_t length, int64_t count, int64_t stride) {
    return (kiln_box){offset, length, {count, 1, 1}, {stride, 0, 0}};
}

typedef enum family { EQUAL, NESTED, ANY, FAMILIES } family;

/* A random box in [0, SPACE). NESTED: strides from a chain of divisors, possibly longer than needed; EQUAL:
 * the strides of a fixed [8][6][4] tensor of 2 bytes; ANY: whatever. Levels come in any order. */
static kiln_box random_box(family f) {
    static const int64_t chain[] = {1, 2, 4, 8, 24, 48, 96, 192};
    static const int64_t fixed[] = {2, 8, 48};
    for (;;) {
        kiln_box b = box(0, below(f == EQUAL ? 4 : 12));
        int levels = (int)below(KILN_BOX_LEVELS + 1);
        for (int l = 0; l < levels && l < KILN_BOX_LEVELS; l++) {
            b.count[l] = 1 + below(f == ANY ? 9 : 8);
            b.stride[l] = f == EQUAL ? fixed[l] : f == NESTED ? chain[below(8)] : below(70);
            if (f == ANY && below(8) == 0)
                b.stride[l] = -b.stride[l];
        }
        if (below(40) == 0)
            b.count[below(3)] = 0;
        int64_t lo, hi;
        assert_true(kiln__box_hull(&b, &lo, &hi));
        if (hi - lo >= SPACE)
            continue;
        b.offset = below(SPACE - (hi - lo)) - lo;
        return b;
    }
}

static void print_box(const char *name, const kiln_box *b) {
    fprintf(stderr, "%s: +%lld run %lld levels %lldx%lld %lldx%lld %lldx%lld\n", name, (long long)b->offset,
            (long long)b->length, (long long)b->count[0], (long long)b->stride[0], (long long)b->count[1],
            (long long)b->stride[1], (long long)b->count[2], (long long)b->stride[2]);
}

static void random_pairs(void **state) {
    (void)state;
    static unsigned char sa[SPACE], sb[SPACE];
    long overlaps = 0, contained = 0, proven = 0;
    seed = 0x9E3779B97F4A7C15u;
    for (long i = 0; i < PAIRS; i++) {
        family f = (family)(i % FAMILIES);
        kiln_box a = random_box(f), b = random_box(f);
        bytes_of(&a, sa);
        bytes_of(&b, sb);
        bool share = false, inside = true, dense = true, gap = false;
        for (int x = 0; x < SPACE; x++) {
            share |= sa[x] && sb[x];
            inside &= sa[x] || !sb[x];
            if (x > 0 && sa[x - 1] && !sa[x])
                gap = true;
            if (gap && sa[x])
                dense = false;
        }
        bool got = kiln__box_overlap(&a, &b), covers = kiln__box_covers(&a, &b);
        if (got != share || (covers && !inside) || got != kiln__box_overlap(&b, &a)) {
            print_box("a", &a);
            print_box("b", &b);
            fail_msg("pair %ld: overlap %d, by bytes %d; covers %d, by bytes %d", i, got, share, covers,
                     inside);
        }
        if (kiln__box_dense(&a))
            assert_true(dense);
        overlaps += share;
        contained += inside && !kiln__box_empty(&b);
        proven += covers && !kiln__box_empty(&b);
    }
    printf("%d pairs: %ld overlap, %ld contain, %ld of them proven\n", PAIRS, overlaps, contained, proven);
    assert_true(overlaps > PAIRS / 20 && overlaps < PAIRS - PAIRS / 20);
    assert_true(proven > contained / 2);
}

/* What trim takes off is held by the other box, and what it leaves is the rest. */
static void random_trims(void **state) {
    (void)state;
    static unsigned char before[SPACE], by_set[SPACE], after[SPACE];
    long trimmed = 0, emptied = 0;
    seed = 0x853C49E6748FEA9Bu;
    for (long i = 0; i < PAIRS; i++) {
        family f = (family)(i % FAMILIES);
        kiln_box rest = random_box(f), by = random_box(f);
        bytes_of(&rest, before);
        bytes_of(&by, by_set);
        kiln_box was = rest;
        bool took = kiln__box_trim(&rest, &by), changed = false, right = true;
        bytes_of(&rest, after);
        for (int x = 0; x < SPACE; x++) {
            changed |= before[x] != after[x];
            right &= before[x] ? (after[x] || by_set[x]) : !after[x];
        }
        if (changed != took || !right) {
            print_box("rest", &was);
            print_box("by", &by);
            print_box("left", &rest);
            fail_msg("pair %ld: trim says %d, by bytes %d, %s", i, took, changed, right ? "right" : "wrong");
        }
        trimmed += took;
        emptied += took && kiln__box_empty(&rest);
    }
    printf("%d pairs: %ld trimmed, %ld of them to nothing\n", PAIRS, trimmed, emptied);
    assert_true(trimmed > PAIRS / 40 && emptied > 1000);
}

static void trims(void **state) {
    (void)state;
    kiln_box whole = box(0, 64), column = box1(0, 4, 4, 16), last = box1(12, 4, 4, 16);
    assert_true(kiln__box_trim(&whole, &column)); /* a run less its first column: rows */
    assert_true(whole.offset == 4 && whole.length == 12 && whole.count[0] == 4 && whole.stride[0] == 16);
    assert_true(kiln__box_trim(&whole, &last));
    assert_true(whole.offset == 4 && whole.length == 8);
    kiln_box top = box(0, 32), middle = box1(8, 4, 4, 16);
    assert_true(kiln__box_trim(&whole, &top)); /* two whole rows */
    assert_true(whole.offset == 36 && whole.count[0] == 2);
    assert_true(kiln__box_trim(&whole, &middle));
    assert_true(whole.offset == 36 && whole.length == 4);
    middle.length = 1; /* not at an end */
    middle.offset = 5;
    assert_false(kiln__box_trim(&whole, &middle));
    assert_true(kiln__box_trim(&whole, &column) == false);
    column = box1(4, 4, 4, 16);
    assert_true(kiln__box_trim(&whole, &column) && kiln__box_empty(&whole));
}

/* Large boxes as models have them, against a row-by-row comparison of runs. */
static void large_strides(void **state) {
    (void)state;
    seed = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        int64_t row = 4096, rows = 50, piece = 1 + below(512);
        kiln_box a = box1(below(row - 512) + row * below(3), piece, rows, row);
        kiln_box b = {below(row), 1 + below(64), {1 + below(4), 1 + below(40), 1}, {1024, row, 0}};
        bool share = false;
        for (int64_t r = 0; r < a.count[0]; r++)
            for (int64_t s = 0; s < b.count[0]; s++)
                for (int64_t t = 0; t < b.count[1]; t++) {
                    int64_t x = a.offset + r * row, y = b.offset + s * 1024 + t * row;
                    share |= x < y + b.length && y < x + a.length;
                }
        assert_int_equal(kiln__box_overlap(&a, &b), share);
    }
}

static void edges(void **state) {
    (void)state;
    kiln_box a = box(0, 4), b = box(4, 4), empty = box(2, 0), none = box1(0, 4, 0, 8);
    assert_false(kiln__box_overlap(&a, &b)); /* adjacent is not overlapping */
    assert_true(kiln__box_overlap(&a, &a));
    assert_false(kiln__box_overlap(&a, &empty));
    assert_false(kiln__box_overlap(&empty, &empty));
    assert_false(kiln__box_overlap(&none, &a));
    assert_true(kiln__box_covers(&empty, &none));
    assert_false(kiln__box_covers(&empty, &a));
    /* two column slices of one matrix */
    kiln_box left = box1(0, 64, 1000000, 128), right = box1(64, 64, 1000000, 128);
    assert_false(kiln__box_overlap(&left, &right));
    right.length = 65; /* the last byte is the next row's first */
    assert_true(kiln__box_overlap(&left, &right));
    /* a slice against a much finer slicing of the same matrix: strides divide, the counts do not */
    kiln_box fine = box1(64, 4, 7999997, 16), coarse = box1(68, 4, 1000000, 128);
    assert_false(kiln__box_overlap(&fine, &coarse));
    coarse.length = 13;
    assert_true(kiln__box_overlap(&fine, &coarse));
    /* whole holds part */
    kiln_box whole = box(0, 128 * 1000000), every_other = box1(0, 32, 500000, 256);
    assert_true(kiln__box_covers(&whole, &left));
    assert_true(kiln__box_covers(&left, &every_other));
    assert_false(kiln__box_covers(&every_other, &left));
    assert_true(kiln__box_dense(&whole));
    assert_false(kiln__box_dense(&left));
}

/* Strides that do not divide, with very many rows: an answer in bounded time, and never a missed overlap. */
static void bounded(void **state) {
    (void)state;
    kiln_box a = {0, 1, {1000003, 1000033, 1}, {6, 10000019, 0}};
    kiln_box b = {1, 1, {1000037, 1000039, 1}, {10, 10000079, 0}};
    for (int i = 0; i < 1000; i++) {
        b.offset += 2;
        (void)kiln__box_overlap(&a, &b);
    }
    kiln_box c = {6 * 77777, 1, {3, 999, 1}, {10, 1000003, 0}};
    assert_true(kiln__box_overlap(&a, &c));
}

static void far_away(void **state) {
    (void)state;
    kiln_box end = box(INT64_MAX - 4, 4), over = box(INT64_MAX - 4, 8),
             wild = box1(0, 1, INT64_MAX, INT64_MAX);
    kiln_box a = box(0, 4);
    int64_t lo, hi;
    assert_true(kiln__box_hull(&end, &lo, &hi));
    assert_true(hi == INT64_MAX);
    assert_false(kiln__box_hull(&over, &lo, &hi));
    assert_false(kiln__box_hull(&wild, &lo, &hi));
    assert_false(kiln__box_overlap(&a, &end));
    assert_true(kiln__box_overlap(&end, &end));
    assert_true(kiln__box_overlap(&over, &a)); /* not known: yes */
    assert_false(kiln__box_covers(&wild, &a));
    assert_false(kiln__box_covers(&end, &end)); /* not proven: no */
    kiln_box gaps = box1((INT64_C(1) << 60) - 64, 4, 20, 8);
    assert_false(kiln__box_dense(&gaps));
    assert_false(kiln__box_dense(&wild));
    assert_false(kiln__box_trim(&gaps, &gaps));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_pairs),  cmocka_unit_test(random_trims), cmocka_unit_test(trims),
        cmocka_unit_test(large_strides), cmocka_unit_test(edges),        cmocka_unit_test(bounded),
        cmocka_unit_test(far_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
