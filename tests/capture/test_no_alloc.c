/* Replay performs no allocation at all: neither through Kiln's allocators nor by malloc behind their back. */
#include "sanitized.h"
#include "kiln.h"
#include "check.h"
#include "fault_alloc.h"
#include "tiny_model.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(__GLIBC__) && !defined(SANITIZED)
#define COUNTS_MALLOC 1
/* glibc's own entry points, so that these definitions, which take the place of malloc's for the whole
 * process, can count and pass on. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
static atomic_ulong mallocs;
void *malloc(size_t size) {
    atomic_fetch_add(&mallocs, 1);
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
    atomic_fetch_add(&mallocs, 1);
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t size) {
    atomic_fetch_add(&mallocs, 1);
    return __libc_realloc(p, size);
}
void *aligned_alloc(size_t align, size_t size) {
    atomic_fetch_add(&mallocs, 1);
    return __libc_memalign(align, size);
}
static unsigned long malloc_count(void) {
    return atomic_load(&mallocs);
}
#else
static unsigned long malloc_count(void) {
    return 0;
}
#endif

static const int32_t prompt[] = {3, 14, 15, 9, 26, 5, 31, 8, 0, 7, 17, 22};

static void test_session(void **unused) {
    (void)unused;
#ifdef COUNTS_MALLOC
    unsigned long self = malloc_count();
    void *volatile probe = malloc(10); /* volatile: or the compiler drops the pair */
    free(probe);
    assert_true(malloc_count() > self); /* the counter counts */
#else
    printf(
        "skipped: malloc is not counted here (it needs glibc without a sanitizer); Kiln's allocators are\n");
#endif
    for (uint32_t threads = 1; threads <= 3; threads++) {
        fault_alloc faults;
        kiln_graph *g;
        kiln_plan *plan;
        kiln_executor *executor;
        kiln_session *session;
        tiny_model m;
        tiny_states states;
        fault_alloc_init(&faults);
        kiln_allocator a = fault_alloc_allocator(&faults);
        kiln_cpu_options cpu = {.threads = threads};
        static const kiln_tap taps[] = {{"resid.*", KILN_WATCH_HASH | KILN_WATCH_FINITE | KILN_WATCH_TIME}};
        kiln_bake_options options = {.taps = taps, .n_taps = 1};
        CHECK_OK(kiln_graph_create(&a, &g, error));
        tiny_build(g, 2, &m);
        CHECK_OK(kiln_bake(g, &options, &plan, error));
        CHECK_OK(kiln_cpu_executor_create(&a, &cpu, &executor, error));
        CHECK_OK(kiln_session_create(plan, executor, &a, &session, error));
        tiny_bind_states(session, 2, &states);
        for (int observe = 0; observe < 2; observe++) {
            CHECK_OK(kiln_session_observe(session,
                                          observe ? KILN_WATCH_HASH | KILN_WATCH_FINITE | KILN_WATCH_TIME : 0,
                                          NULL, NULL, error));
            size_t before = faults.total;
            unsigned long mallocs_before = malloc_count();
            /* From the very first run: preparing has done it all. */
            for (int past = 0; past < 12; past += past < 8 ? 4 : 1)
                CHECK_OK(tiny_eval(session, &m, prompt, past, past < 8 ? 4 : 1, error));
            kiln_fence fence;
            CHECK_OK(kiln_submit(session, &fence, error));
            kiln_cancel(fence);
            kiln_status status = kiln_wait(fence, -1, NULL);
            assert_true(status == KILN_OK || status == KILN_ERROR_CANCELLED);
            assert_int_equal(malloc_count(), mallocs_before);
            assert_int_equal(faults.total, before);
            for (int i = 0; i < states.count; i++)
                kiln_state_buffer_acknowledge(states.buffers[i]);
        }
        CHECK_OK(kiln_session_destroy(session, error));
        tiny_free_states(&states);
        CHECK_OK(kiln_executor_destroy(executor, error));
        kiln_plan_release(plan);
        kiln_graph_destroy(g);
        assert_true(fault_alloc_finish(&faults));
    }
}

static void test_capture(void **unused) {
    (void)unused;
    fault_alloc faults;
    fault_alloc_init(&faults);
    kiln_allocator a = fault_alloc_allocator(&faults);
    kiln_executor *executor;
    kiln_capture *capture;
    kiln_session *session;
    kiln_cpu_options cpu = {.threads = 1};
    tiny_model m;
    tiny_states states;
    CHECK_OK(kiln_cpu_executor_create(&a, &cpu, &executor, error));
    CHECK_OK(kiln_capture_create(executor, NULL, &a, &capture, error));
    tiny_build(kiln_capture_begin(capture), 2, &m);
    CHECK_OK(kiln_capture_end(capture, &session, error));
    tiny_bind_states(session, 2, &states);
    size_t before = faults.total;
    unsigned long mallocs_before = malloc_count();
    for (int past = 0; past < 12; past++) {
        tiny_build(kiln_capture_begin(capture), 2, &m);
        CHECK_OK(kiln_capture_end(capture, &session, error));
        CHECK_OK(tiny_eval(session, &m, prompt, past, 1, error));
    }
    assert_int_equal(malloc_count(), mallocs_before);
    assert_int_equal(faults.total, before);
    kiln_capture_counters n;
    kiln_capture_get_counters(capture, &n);
    assert_int_equal(n.hits, 12);
    CHECK_OK(kiln_capture_destroy(capture, error));
    tiny_free_states(&states);
    CHECK_OK(kiln_executor_destroy(executor, error));
    assert_true(fault_alloc_finish(&faults));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_session), cmocka_unit_test(test_capture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
