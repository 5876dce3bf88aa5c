/* What is hashed are the bytes that were stored last, whatever the type they were stored as: the hash is
 * inlined into its callers, where compilers reorder reads and stores of types that may not alias. */
#include "tests/support/check.h"
#include "hash.h"

/* The same hash of a copy, of whose stores no compiler knows. */
static __attribute__((noinline)) uint64_t hash_of_copy(const volatile unsigned char *bytes, size_t n,
                                                       uint64_t seed) {
    unsigned char copy[64];
    assert_true(n <= sizeof copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = bytes[i];
    __asm__ volatile("" : : "r"(copy) : "memory");
    return XXH3_64bits_withSeed(copy, n, seed);
}

/* Stores n values beside the hash so far, and hashes them at once; before, zeros lie there. */
#define STORES(type, n)                                                                                      \
    typedef struct box_##type##_##n {                                                                        \
        type value[n];                                                                                       \
        uint64_t seed;                                                                                       \
    } box_##type##_##n;                                                                                      \
    static __attribute__((noinline)) void store_##type##_##n(box_##type##_##n *box, const type *value) {     \
        for (int i = 0; i < (n); i++)                                                                        \
            box->value[i] = value[i];                                                                        \
        box->seed = XXH3_64bits_withSeed(box->value, sizeof box->value, box->seed);                          \
    }                                                                                                        \
    static void hashes_##type##_##n(void **state) {                                                          \
        (void)state;                                                                                         \
        for (uint64_t seed = 0; seed < 100; seed++) {                                                        \
            type value[n];                                                                                   \
            box_##type##_##n box = {.seed = seed};                                                           \
            for (int i = 0; i < (n); i++)                                                                    \
                value[i] = (type)(seed + 77 + 5 * (uint64_t)i);                                              \
            store_##type##_##n(&box, value);                                                                 \
            const uint64_t expected =                                                                        \
                hash_of_copy((const volatile unsigned char *)box.value, sizeof box.value, seed);             \
            if (box.seed != expected)                                                                        \
                fail_msg("%d of type " #type ": hash %016llx, not %016llx: it is of what was there before",  \
                         n, (unsigned long long)box.seed, (unsigned long long)expected);                     \
        }                                                                                                    \
    }

STORES(uint64_t, 1)
STORES(uint64_t, 2)
STORES(uint64_t, 8)
STORES(uint32_t, 1)
STORES(uint32_t, 2)
STORES(uint32_t, 8)
STORES(uint16_t, 2)
STORES(uint16_t, 8)
STORES(float, 1)
STORES(float, 2)
STORES(float, 8)
STORES(double, 1)
STORES(double, 2)
STORES(double, 8)

/* Of the empty text, as xxHash publishes it, so that both sides above are not wrong in the same way. */
static void hashes_nothing(void **state) {
    (void)state;
    assert_true(XXH3_64bits("", 0) == UINT64_C(0x2d06800538d394c2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_uint64_t_1), cmocka_unit_test(hashes_uint64_t_2),
        cmocka_unit_test(hashes_uint64_t_8), cmocka_unit_test(hashes_uint32_t_1),
        cmocka_unit_test(hashes_uint32_t_2), cmocka_unit_test(hashes_uint32_t_8),
        cmocka_unit_test(hashes_uint16_t_2), cmocka_unit_test(hashes_uint16_t_8),
        cmocka_unit_test(hashes_float_1),    cmocka_unit_test(hashes_float_2),
        cmocka_unit_test(hashes_float_8),    cmocka_unit_test(hashes_double_1),
        cmocka_unit_test(hashes_double_2),   cmocka_unit_test(hashes_double_8),
        cmocka_unit_test(hashes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
