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

/* Wide loads where the processor has them. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#define BENCH_WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define BENCH_WIDEST
#endif

typedef uint64_t wide __attribute__((vector_size(64), aligned(64), may_alias));
enum { STREAMS_MOST = 4 };

typedef struct stretch {
    const unsigned char *data;
    size_t bytes;
    unsigned streams; /* of each thread, side by side */
    bool ahead;       /* asks for lines 2 KiB ahead */
    _Atomic uint64_t sum;
} stretch;

/* Sums up `n` pieces of 256 bytes from each of `streams` places; several sums, so that none waits for another. */
BENCH_WIDEST static uint64_t read_pieces(const unsigned char *const *at, unsigned streams, size_t n,
                                         bool ahead) {
    wide a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < n; i++)
        for (unsigned k = 0; k < streams; k++) {
            const wide *p = (const wide *)(const void *)(at[k] + i * 4 * sizeof(wide));
            if (ahead)
                for (size_t line = 0; line < 4; line++)
                    __builtin_prefetch(p + 32 + line);
            a += p[0];
            b += p[1];
            c += p[2];
            d += p[3];
        }
    a += b + c + d;
    return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

static void read_share(void *context, unsigned index, unsigned threads) {
    stretch *s = context;
    const size_t piece = 4 * sizeof(wide), shares = (size_t)threads * s->streams,
                 n = s->bytes / piece / shares;
    const unsigned char *at[STREAMS_MOST];
    for (unsigned k = 0; k < s->streams; k++)
        at[k] = s->data + (index * s->streams + k) * n * piece;
    atomic_fetch_add(&s->sum,
                     read_pieces(at, s->streams, n, s->ahead)); /* so that nothing of it is left out */
}

double bench_read_ns(const void *data, size_t bytes, unsigned threads, unsigned way) {
    static const struct {
        unsigned streams;
        bool ahead;
    } ways[BENCH_READ_WAYS] = {{1, false}, {1, true}, {4, false}};
    const uintptr_t at = (uintptr_t)data, aligned = (at + 63) & ~(uintptr_t)63;
    stretch s = {.data = (const unsigned char *)data + (aligned - at),
                 .bytes = bytes - (size_t)(aligned - at),
                 .streams = ways[way].streams,
                 .ahead = ways[way].ahead};
    return bench_together(threads, read_share, &s);
}

/* ---- computing -------------------------------------------------------------------------------------- */

typedef float lanes __attribute__((vector_size(64)));

BENCH_WIDEST static void compute_share(void *context, unsigned index, unsigned threads) {
    enum {
        STEPS = 40000,
        CHAINS = 12
    }; /* enough to keep two units of 4 cycles busy: what threads of one core share shows */
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
