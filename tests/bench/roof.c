#include "roof.h"

#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

/* ---- threads of our own ----------------------------------------------------------------------------- */

typedef struct team {
    void (*f)(void *context, unsigned index, unsigned threads);
    void *context;
    unsigned threads;
    _Alignas(128) atomic_uint ready;
    _Alignas(128) atomic_uint go;
    _Alignas(128) atomic_uint left;
} team;

typedef struct member {
    team *of;
    unsigned index;
} member;

static void wait_until(atomic_uint *what, unsigned value) {
    for (unsigned turn = 1; atomic_load_explicit(what, memory_order_acquire) != value; turn++)
        if (turn % 4096 == 0)
            sched_yield();
}

static void *member_main(void *context) {
    const member *m = context;
    team *t = m->of;
    atomic_fetch_add(&t->ready, 1);
    wait_until(&t->go, 1);
    t->f(t->context, m->index, t->threads);
    atomic_fetch_sub(&t->left, 1);
    return NULL;
}

double bench_together(unsigned threads, void (*f)(void *context, unsigned index, unsigned threads),
                      void *context) {
    static team t;
    pthread_t thread[BENCH_ROOF_THREADS];
    member members[BENCH_ROOF_THREADS];
    if (threads < 1 || threads > BENCH_ROOF_THREADS)
        bench_fail("%u threads for a probe", threads);
    t.f = f;
    t.context = context;
    t.threads = threads;
    atomic_store(&t.ready, 1);
    atomic_store(&t.go, 0);
    atomic_store(&t.left, threads - 1);
    for (unsigned i = 1; i < threads; i++) {
        members[i] = (member){&t, i};
        if (pthread_create(&thread[i], NULL, member_main, &members[i]) != 0)
            bench_fail("the system refused a thread");
    }
    wait_until(&t.ready, threads);
    int64_t start = bench_now();
    atomic_store(&t.go, 1);
    f(context, 0, threads);
    wait_until(&t.left, 0);
    double ns = (double)(bench_now() - start);
    for (unsigned i = 1; i < threads; i++)
        pthread_join(thread[i], NULL);
    return ns;
}

/* ---- reading ---------------------------------------------------------------------------------------- */

/* Wide loads where the compiler has them; several sums, so that none waits for another. */
typedef uint64_t wide __attribute__((vector_size(64), aligned(64), may_alias));
enum { SUMS = 4 };

typedef struct stretch {
    const unsigned char *data;
    size_t bytes;
    _Atomic uint64_t sum;
} stretch;

static void read_share(void *context, unsigned index, unsigned threads) {
    stretch *s = context;
    const size_t step = SUMS * sizeof(wide), steps = s->bytes / step;
    const size_t first = steps * index / threads, last = steps * (index + 1) / threads;
    wide sums[SUMS] = {{0}};
    for (size_t i = first; i < last; i++) {
        const wide *p = (const wide *)(const void *)(s->data + i * step);
        for (size_t k = 0; k < SUMS; k++)
            sums[k] += p[k];
    }
    uint64_t sum = 0;
    for (size_t k = 0; k < SUMS; k++)
        for (size_t lane = 0; lane < 8; lane++)
            sum += sums[k][lane];
    atomic_fetch_add(&s->sum, sum); /* so that nothing of it is left out */
}

double bench_read_ns(const void *data, size_t bytes, unsigned threads) {
    const uintptr_t at = (uintptr_t)data, aligned = (at + 63) & ~(uintptr_t)63;
    stretch s = {.data = (const unsigned char *)data + (aligned - at),
                 .bytes = bytes - (size_t)(aligned - at)};
    return bench_together(threads, read_share, &s);
}

/* ---- computing -------------------------------------------------------------------------------------- */

typedef float lanes __attribute__((vector_size(64)));

static void compute_share(void *context, unsigned index, unsigned threads) {
    enum { STEPS = 100000, CHAINS = 4 };
    _Atomic uint64_t *sink = context;
    lanes v[CHAINS];
    (void)threads;
    for (size_t c = 0; c < CHAINS; c++)
        for (size_t l = 0; l < 16; l++)
            v[c][l] = (float)(index + c + l);
    for (int i = 0; i < STEPS; i++)
        for (size_t c = 0; c < CHAINS; c++)
            v[c] = v[c] * 0.999f + 1.0f;
    float sum = 0;
    for (size_t c = 0; c < CHAINS; c++)
        for (size_t l = 0; l < 16; l++)
            sum += v[c][l];
    atomic_fetch_add(sink, (uint64_t)sum);
}

double bench_arithmetic_ns(unsigned threads) {
    _Atomic uint64_t sink = 0;
    return bench_together(threads, compute_share, &sink);
}
