/* Builder calls whose counts, strides and places are near the ends of int64: right or refused, and no sum or
 * product overflows on the way. That the latter holds is for the undefined behaviour sanitizer to say (make
 * check-asan-subset). */
#include "kiln.h"

#include "builder_calls.h"
#include "check.h"
#include "sanitized.h"

#include <stdlib.h>

enum { BYTES = 160 };

static uint64_t next(uint64_t *state) { /* xorshift64* (Vigna, 2016) */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static void any_integers(void **unused) {
    (void)unused;
    const char *asked = getenv("KILN_EXTREMES");
    const int programs = asked != NULL ? atoi(asked) : 3000;
    for (int seed = 1; seed <= programs; seed++) {
        uint64_t state = (uint64_t)seed * UINT64_C(0x9e3779b97f4a7c15);
        uint8_t bytes[BYTES];
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(next(&state) >> 32);
        builder_calls_run(bytes, sizeof bytes, true);
    }
    print_message("%d programs\n", programs);
}

static kiln_graph *graph_new(void) {
    kiln_graph *g;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    return g;
}

/* Axes of which the product of count and stride does not fit, although the tensor does. */
static void count_times_stride(void **unused) {
    (void)unused;
    kiln_graph *g = graph_new();
    const kiln_storage s = kiln_storage_add(g, KILN_STORAGE_INPUT, "s", INT64_MAX);
    const kiln_dim dims[] = {kiln_n(2), kiln_n(2), kiln_n(1)};
    const int64_t strides[] = {INT64_C(1) << 61, INT64_C(1) << 62, 4};
    const kiln_tensor x = kiln_tensor_at(g, s, 0, KILN_F32, 3, dims, strides);
    kiln_output(g, kiln_mul(g, x, x), "y");
    CHECK_OK(kiln_graph_check(g, error));
    const kiln_tensor flat = kiln_reshape(g, x, 1, (kiln_dim[]){kiln_n(4)});
    assert_false(kiln_tensor_valid(flat));
    kiln_graph_destroy(g);
}

/* A slice of a tensor without elements, whose stride leads beyond all bytes. */
static void slice_of_nothing(void **unused) {
    (void)unused;
    kiln_graph *g = graph_new();
    const kiln_storage s = kiln_storage_add(g, KILN_STORAGE_INPUT, "s", 64);
    const kiln_dim dims[] = {kiln_n(2), kiln_n(0)};
    const int64_t strides[] = {INT64_MAX - 7, 4}; /* one step from offset 16 does not fit */
    const kiln_tensor x = kiln_tensor_at(g, s, 16, KILN_F32, 2, dims, strides);
    kiln_tensor_info info;
    assert_int_equal(kiln_tensor_get(g, kiln_slice(g, x, 0, 1, kiln_n(1)), &info), KILN_OK);
    assert_int_equal(info.desc.ndim, 2);
    CHECK_OK(kiln_graph_check(g, error));
    /* Dense, and empty too: its first stride is near 2^63. */
    const kiln_tensor wide =
        kiln_input(g, "w", KILN_F32, 3, (kiln_dim[]){kiln_n(3), kiln_n(0), kiln_n(INT64_MAX / 16)});
    assert_true(kiln_tensor_valid(kiln_slice(g, wide, 0, 2, kiln_n(1))));
    CHECK_OK(kiln_graph_check(g, error));
    kiln_graph_destroy(g);
}

/* ---- reshape ---------------------------------------------------------------------------------------- */

enum { COUNT_MAX = 16 };

typedef struct layout {
    uint32_t n;
    int64_t counts[4], strides[4]; /* bytes */
} layout;

/* Where each element lies, in order. */
static int offsets(const layout *l, int64_t out[COUNT_MAX]) {
    int n = 1;
    for (uint32_t i = 0; i < l->n; i++)
        n *= (int)l->counts[i];
    for (int k = 0; k < n; k++) {
        int64_t rest = k;
        out[k] = 0;
        for (uint32_t i = l->n; i-- > 0; rest /= l->counts[i])
            out[k] += rest % l->counts[i] * l->strides[i];
    }
    return n;
}

/* Is there a tensor of these counts whose elements lie at these places? The first step along each axis says
 * its stride. */
static bool lies_so(const int64_t *at, int n, layout *l) {
    int64_t found[COUNT_MAX];
    int step = n;
    for (uint32_t i = 0; i < l->n; i++) {
        step /= (int)l->counts[i];
        l->strides[i] = l->counts[i] > 1 ? at[step] - at[0] : 0;
        if (l->strides[i] < 0)
            return false;
    }
    return offsets(l, found) == n && memcmp(found, at, (size_t)n * sizeof *at) == 0;
}

static void dims_of(const layout *l, kiln_dim out[4]) {
    for (uint32_t i = 0; i < l->n; i++)
        out[i] = kiln_n(l->counts[i]);
}

static uint32_t shapes_of(int64_t product, layout *out) {
    uint32_t n = 0;
    for (uint32_t ndim = 1; ndim <= 4; ndim++)
        for (uint32_t code = 0; code < 256 && code < 1u << (2 * ndim); code++) {
            layout l = {.n = ndim};
            int64_t p = 1;
            for (uint32_t i = 0; i < ndim; i++)
                p *= l.counts[i] = INT64_C(1) << (code >> 2 * i & 3);
            if (p == product)
                out[n++] = l;
        }
    return n;
}

static uint32_t accepted, refused;

/* Every other shape of as many elements: made exactly where there is one. */
static void reshape_all(const layout *from, const layout *shapes, uint32_t n_shapes) {
    int64_t at[COUNT_MAX], got_at[COUNT_MAX];
    const int n = offsets(from, at);
    kiln_dim dims[4];
    kiln_graph *g = graph_new();
    for (uint32_t k = 0; k < n_shapes; k++) {
        layout to = shapes[k];
        const bool possible = lies_so(at, n, &to);
        kiln_graph_reset(g);
        const kiln_storage s = kiln_storage_add(g, KILN_STORAGE_INPUT, "s", 1 << 20);
        dims_of(from, dims);
        const kiln_tensor x = kiln_tensor_at(g, s, 0, KILN_F32, from->n, dims, from->strides);
        dims_of(&to, dims);
        const kiln_tensor y = kiln_reshape(g, x, to.n, dims);
        assert_true(kiln_tensor_valid(x));
        assert_int_equal(kiln_tensor_valid(y), possible);
        accepted += possible;
        refused += !possible;
        kiln_tensor_info info;
        if (!possible)
            continue;
        assert_int_equal(kiln_tensor_get(g, y, &info), KILN_OK);
        memcpy(to.strides, info.desc.strides, sizeof to.strides);
        assert_int_equal(offsets(&to, got_at), n);
        assert_memory_equal(got_at, at, (size_t)n * sizeof *at);
    }
    kiln_graph_destroy(g);
}

static void reshape_of_views(void **unused) {
    (void)unused;
    layout shapes[256];
    for (int64_t product = 1; product <= 8; product *= 2) {
        const uint32_t n = shapes_of(product, shapes);
        for (uint32_t k = 0; k < n; k++)
            for (uint32_t gaps = 0; gaps < 3u * (1u << shapes[k].n); gaps++) {
                layout from = shapes[k];
                int64_t stride = 4;
                for (uint32_t i = from.n; i-- > 0;) { /* a gap after it, or the same element again */
                    const bool odd = gaps % 3 > 0 && (gaps / 3 >> i & 1) != 0;
                    from.strides[i] = odd && gaps % 3 == 2 ? 0 : odd ? 2 * stride : stride;
                    stride = from.strides[i] > 0 ? from.strides[i] * from.counts[i] : stride;
                }
                reshape_all(&from, shapes, n);
            }
    }
    print_message("%u reshapes made, %u refused\n", (unsigned)accepted, (unsigned)refused);
}

static void axes_of_one(void **unused) {
    (void)unused;
    kiln_graph *g = graph_new();
    const kiln_tensor x = kiln_input(g, "x", KILN_F32, 2, (kiln_dim[]){kiln_n(4), kiln_n(3)});
    const kiln_tensor column = kiln_slice(g, x, 1, 1, kiln_n(1)); /* [4, 1], with a gap after each */
    const kiln_tensor y = kiln_reshape(g, column, 3, (kiln_dim[]){kiln_n(2), kiln_n(2), kiln_n(1)});
    kiln_tensor_info info;
    assert_int_equal(kiln_tensor_get(g, y, &info), KILN_OK);
    assert_int_equal(info.desc.strides[0], 24);
    assert_int_equal(info.desc.strides[1], 12);
    CHECK_OK(kiln_graph_check(g, error));
    kiln_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(count_times_stride), cmocka_unit_test(slice_of_nothing),
        cmocka_unit_test(axes_of_one),        cmocka_unit_test(reshape_of_views),
        cmocka_unit_test(any_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
