/* Regions computed through the host's parallel_for: one call for each region that is worth sharing. The calls that the
 * host makes in return claim tiles as workers do, each with a slot of its own, so they may run at once or one after
 * another: who comes to nothing just returns. */
#include "cpu_pool.h"
#include "fp_mode.h"

typedef struct host_call {
    kiln__cpu_run *run;
    int64_t deadline;
    _Atomic uint32_t inside; /* calls that are under way */
} host_call;

static void host_compute(host_call *s, uint32_t index) {
    kiln__cpu_lane lane = {.pool = s->run->pool, .run = s->run, .index = index};
    uint32_t r;
    bool done;
    while (kiln__cpu_take(&lane, &r, &done) && !kiln__expired(s->deadline)) {
    }
}

static void host_body(void *arg, uint32_t index) {
    host_call *s = arg;
    if (index >= s->run->lanes)
        return; /* nobody asked for that */
    /* Relaxed and release: the caller waits for 0 before it goes on. */
    atomic_fetch_add_explicit(&s->inside, 1, memory_order_relaxed);
    kiln__fp mode = kiln__enter_fp_mode();
    host_compute(s, index);
    kiln__leave_fp_mode(mode);
    atomic_fetch_sub_explicit(&s->inside, 1, memory_order_release);
}

bool kiln__cpu_host_region(kiln__cpu_run *run, uint32_t region, int64_t deadline) {
    kiln__cpu_executor *executor = run->executor;
    host_call s = {.run = run, .deadline = deadline};
    atomic_init(&s.inside, 0);
    /* Relaxed: only waiting threads write it here, and they take turns. */
    if (atomic_load_explicit(&run->claim, memory_order_relaxed) >> 32 != region)
        kiln__cpu_offer(run, region, 0); /* else the last wait had to stop in the middle */
    run->unshared = false;
    const uint32_t units = run->steps[region].units;
    executor->parallel_for(executor->parallel_for_context, units < run->lanes ? units : run->lanes, host_body,
                           &s);
    /* A host that leaves calls out, or returns while some are under way, loses time and nothing else. */
    kiln__cpu_until_left(&s.inside);
    host_compute(&s, 0); /* a portion at least: even a wait without time makes progress */
    /* Acquire: what the calls have computed. */
    return atomic_load_explicit(&run->left, memory_order_acquire) == 0;
}
