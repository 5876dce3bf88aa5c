/* Decoding with a very small model, of which everything fits a cache and regions are tiny: what a second thread costs or
 * brings, and what replaying costs beside the kernels.
 *
 * Replay overhead on one thread is wall time minus time in kernels. Kernels here last a hundred nanoseconds, as long as it
 * takes to look at the clock around them. So kernels are timed all together: right behind a step, with its slots, counts and
 * pointers, the records of the session's own tape are called one behind the other in a loop that does nothing else. (A
 * step can be repeated: it starts from the token and writes the same rows.) Three parts are told apart:
 *
 *     step     kiln_llama_step: slots, counts brought up to date, submission, the run
 *     run      kiln_run again at the same position: submission and the run
 *     kernels  the bare loop; behind it the results must be what they were. What the loop itself takes is taken off:
 *              a loop over the same records with kernels that return at once. So the overhead includes an indirect
 *              call per record, and is rather too large than too small.
 *
 * For comparison `empty` is a replay whose records were given kernels that return at once. */
#include "cases.h"
#include "llama.h"
#include "ours.h"
#include "plan.h"    /* the session's tape */
#include "fp_mode.h" /* that kernels run in */
#include "testdata.h"
#include "tile.h"

#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 128 };

typedef struct model {
    const char *name;
    kiln_gguf *file;
    kiln_llama_model *llama;
    kiln_executor *executor[3];
    kiln_llama_decoder *decoder[3]; /* by number of threads */
    int32_t tokens[TOKENS];
} model;

/* ---- the model -------------------------------------------------------------------------------------- */

/* The tokens it says by itself, which the test data has. */
static bool read_tokens(model *m) {
    char relative[128], path[TESTDATA_PATH_SIZE];
    snprintf(relative, sizeof relative, "stories260K/dense_%s.greedy.tokens", m->name);
    FILE *f = testdata_path(relative, path, sizeof path) != NULL ? fopen(path, "r") : NULL;
    bool ok = f != NULL;
    for (int i = 0; ok && i < TOKENS; i++)
        ok = fscanf(f, "%d", &m->tokens[i]) == 1;
    if (f != NULL)
        fclose(f);
    return ok;
}

static const float *step(model *m, int threads, int64_t position) {
    kiln_error error;
    const float *logits;
    bench_must(kiln_llama_step(m->decoder[threads], &m->tokens[position], 1, position, 1, &logits, &error),
               &error);
    return logits;
}

static void open_decoders(model *m, kiln_precision precision) {
    const kiln_llama_decoder_options options = {.bake = {.precision = precision}};
    kiln_error error;
    for (int n = 1; n <= 2; n++) {
        kiln_llama_decoder_destroy(m->decoder[n]);
        bench_must(
            kiln_llama_decoder_create(m->llama, &options, m->executor[n], NULL, &m->decoder[n], &error),
            &error);
    }
}

/* Both numbers of threads give the same bits; `tokens`: and say the next token. */
static void check(model *m, bool tokens) {
    const size_t vocabulary = (size_t)kiln_llama_get_params(m->llama)->n_vocab;
    for (int64_t i = 0; i < TOKENS; i++) {
        const float *one = step(m, 1, i), *two = step(m, 2, i);
        if (memcmp(one, two, vocabulary * sizeof *one) != 0)
            bench_fail("%s: logits at %lld differ between 1 and 2 threads", m->name, (long long)i);
        size_t best = 0;
        for (size_t k = 1; k < vocabulary; k++)
            best = one[k] > one[best] ? k : best;
        if (tokens && i + 1 < TOKENS && (int32_t)best != m->tokens[i + 1])
            bench_fail("%s: token %lld is %zu instead of %d", m->name, (long long)i + 1, best,
                       m->tokens[i + 1]);
    }
}

static bool model_open(model *m, const char *name) {
    char relative[128], path[TESTDATA_PATH_SIZE];
    kiln_error error;
    memset(m, 0, sizeof *m);
    m->name = name;
    snprintf(relative, sizeof relative, "stories260K/stories260K-%s.gguf", name);
    if (testdata_path(relative, path, sizeof path) == NULL || !read_tokens(m))
        return false;
    bench_must(kiln_gguf_open(path, NULL, &m->file, &error), &error);
    bench_must(kiln_llama_open(m->file, NULL, &m->llama, &error), &error);
    for (uint32_t n = 1; n <= 2; n++) {
        const kiln_cpu_options cpu = {.threads = n};
        bench_must(kiln_cpu_executor_create(NULL, &cpu, &m->executor[n], &error), &error);
    }
    open_decoders(m, KILN_PRECISION_EXACT); /* what is said must be what the test data has */
    check(m, true);
    open_decoders(m, KILN_PRECISION_FAST); /* what is measured */
    check(m, false);
    return true;
}

static void model_close(model *m) {
    for (int n = 1; n <= 2; n++) {
        kiln_llama_decoder_destroy(m->decoder[n]);
        (void)kiln_executor_destroy(m->executor[n], NULL);
    }
    kiln_llama_destroy(m->llama);
    kiln_gguf_destroy(m->file);
}

/* ---- two threads against one ------------------------------------------------------------------------ */

static double decode_us(model *m, int threads) {
    int64_t start = bench_now();
    for (int64_t i = 0; i < TOKENS; i++)
        (void)step(m, threads, i);
    return (double)(bench_now() - start) / 1e3 / (double)TOKENS;
}

/* Is two threads' median later than one's by more than one's quartiles are apart? */
static bool compare(bench *b, const bench_options *options, model *m, double *ratio) {
    bench_series *s[3];
    for (int n = 1; n <= 2; n++)
        s[n] = bench_series_new(b, "us/token", "decode %s, %d thread%s", m->name, n, n == 1 ? "" : "s");
    for (int r = 0; r < options->rounds; r++)
        for (int n = 1; n <= 2; n++)
            bench_add(s[n], decode_us(m, n));
    bench_series *x = bench_ratio(b, s[2], s[1], "decode %s: 2 threads / 1 thread", m->name);
    bench_show(s[1]);
    bench_show(s[2]);
    bench_show(x);
    bench_stats one = bench_stats_of(s[1]);
    *ratio = bench_stats_of(x).median;
    return *ratio <= 1 + (one.q3 - one.q1) / one.median;
}

/* ---- replay overhead -------------------------------------------------------------------------------- */

static kiln_status nothing(const kiln_args *args, kiln_tile *tile) {
    (void)args;
    (void)tile;
    return KILN_OK;
}

/* What calling kernels needs, and kernels that return at once, one for each of the tape's. */
typedef struct bare {
    kiln__tape *tape;
    const kiln_kernel **real;
    kiln_kernel *empty;
    unsigned char *scratch;
    kiln__tile_sink sink;
} bare;

static void bare_open(bare *l, kiln__tape *tape) {
    int64_t most = 64;
    void *scratch = NULL;
    memset(l, 0, sizeof *l);
    l->tape = tape;
    l->real = calloc(tape->n_records, sizeof *l->real);
    l->empty = calloc(tape->n_records, sizeof *l->empty);
    if (l->real == NULL || l->empty == NULL)
        bench_fail("out of memory");
    for (uint32_t i = 0; i < tape->n_records; i++) {
        l->real[i] = tape->records[i].kernel;
        l->empty[i] = *l->real[i];
        l->empty[i].run = nothing;
        int64_t bytes = l->real[i]->scratch != NULL ? l->real[i]->scratch(&tape->records[i].args) : 0;
        most = bytes > most ? bytes : most;
    }
    if (posix_memalign(&scratch, 128, (size_t)most) != 0)
        bench_fail("out of memory");
    memset(scratch, 0, (size_t)most);
    l->scratch = scratch;
}

static void bare_close(bare *l) {
    free(l->real);
    free(l->empty);
    free(l->scratch);
}

/* Gives the records their own kernels, or those that do nothing. */
static void use(bare *l, bool real) {
    for (uint32_t i = 0; i < l->tape->n_records; i++)
        l->tape->records[i].kernel = real ? l->real[i] : &l->empty[i];
}

static double bare_ns(bare *l) {
    const kiln__fp mode = kiln__enter_fp_mode();
    const uint32_t n = l->tape->n_records;
    kiln_status status = KILN_OK;
    int64_t start = bench_now();
    for (uint32_t i = 0; i < n && status == KILN_OK; i++) {
        const kiln__record *record = &l->tape->records[i];
        const kiln_kernel *kernel = record->kernel;
        kiln_tile tile = {0, record->tiles, l->scratch, &l->sink, false};
        status = kernel->run(&record->args, &tile);
    }
    double ns = (double)(bench_now() - start);
    kiln__leave_fp_mode(mode);
    if (status != KILN_OK || l->sink.reports != 0)
        bench_fail("a kernel failed in the bare loop");
    return ns;
}

typedef struct parts {
    double step, run, kernels, loop, empty; /* ns per record, over all positions */
} parts;

/* What is timed, each with a stack of its own depth: whether buffers on the stack and operands fall on the same lines of a
 * cache is worth more than what is looked for, and differs from process to process. */
typedef struct timed {
    model *m;
    bare *l;
    int64_t position;
} timed;

static double time_step(const timed *t) {
    (void)step(t->m, 1,
               t->position > 0 ? t->position - 1 : 1); /* so that slots do change, as from token to token */
    int64_t start = bench_now();
    (void)step(t->m, 1, t->position);
    return (double)(bench_now() - start);
}

static double time_run(const timed *t) {
    return bench_run_ns(kiln_llama_decoder_session(t->m->decoder[1]), 1);
}

static double time_bare(const timed *t) {
    return bare_ns(t->l);
}

static double at_depth(size_t bytes, double (*f)(const timed *), const timed *t) {
    volatile unsigned char room[bytes];
    room[0] = 0;
    double ns = f(t);
    return ns + room[0];
}

/* The least of several, at depths that cover a page: whatever disturbs only adds. They take turns. */
static void least_of(const timed *t, size_t n, double (*const *f)(const timed *), double *sums,
                     double records) {
    enum { REPS = 8, PAGE = 4096 };
    double least[3];
    for (size_t k = 0; k < REPS; k++)
        for (size_t i = 0; i < n; i++) {
            double ns = at_depth(64 + k * PAGE / REPS, f[i], t);
            least[i] = k == 0 || ns < least[i] ? ns : least[i];
        }
    for (size_t i = 0; i < n; i++)
        sums[i] += least[i] / records;
}

/* All positions once. */
static parts round_of(model *m, bare *l, float *before) {
    static double (*const real[])(const timed *) = {time_step, time_run, time_bare};
    static double (*const empty[])(const timed *) = {time_bare, time_run};
    const size_t bytes = (size_t)kiln_llama_get_params(m->llama)->n_vocab * sizeof(float);
    const double records = (double)l->tape->n_records * (double)TOKENS;
    double with[3] = {0}, without[2] = {0};
    for (int64_t i = 0; i < TOKENS; i++) {
        const timed t = {m, l, i};
        const float *logits = step(m, 1, i);
        memcpy(before, logits, bytes);
        least_of(&t, 3, real, with, records);
        if (memcmp(before, logits, bytes) != 0)
            bench_fail("%s: the bare loop at %lld gives other logits", m->name, (long long)i);
        use(l, false);
        least_of(&t, 2, empty, without, records);
        use(l, true);
    }
    return (parts){with[0], with[1], with[2], without[0], without[1]};
}

/* Returns the median overhead of a step, ns per record; *run: without slots and counts. */
static double overhead(bench *b, const bench_options *options, model *m, double *run) {
    static const char *const text[] = {"a step", "a run", "the kernels in a bare loop", "the loop alone",
                                       "a replay with empty kernels"};
    bench_series *s[5], *steps, *runs;
    float *room = calloc((size_t)kiln_llama_get_params(m->llama)->n_vocab, sizeof *room);
    bare l;
    if (room == NULL)
        bench_fail("out of memory");
    bare_open(&l, &kiln_llama_decoder_session(m->decoder[1])->tape);
    printf("  %s: %u records in %u regions\n", m->name, l.tape->n_records, l.tape->n_regions);
    for (int i = 0; i < 5; i++)
        s[i] = bench_series_new(b, "ns/record", "decode %s, 1 thread: %s", m->name, text[i]);
    steps = bench_series_new(b, "ns/record", "decode %s: overhead of a step", m->name);
    runs = bench_series_new(b, "ns/record", "decode %s: overhead of a run", m->name);
    for (int r = 0; r < options->rounds; r++) {
        parts p = round_of(m, &l, room);
        const double v[] = {p.step, p.run, p.kernels, p.loop, p.empty};
        for (int i = 0; i < 5; i++)
            bench_add(s[i], v[i]);
        bench_add(steps, p.step - (p.kernels - p.loop));
        bench_add(runs, p.run - (p.kernels - p.loop));
    }
    for (int i = 0; i < 5; i++)
        bench_show(s[i]);
    bench_show(steps);
    bench_show(runs);
    bare_close(&l);
    free(room);
    *run = bench_stats_of(runs).median;
    return bench_stats_of(steps).median;
}

/* What a profile costs, at the same work by turns. */
static void profiled(bench *b, const bench_options *options, model *m) {
    kiln_session *session = kiln_llama_decoder_session(m->decoder[1]);
    kiln_error error;
    bench_series *off = bench_series_new(b, "us/token", "decode %s, 1 thread, not profiled", m->name);
    bench_series *on = bench_series_new(b, "us/token", "decode %s, 1 thread, profiled", m->name);
    for (int r = 0; r < options->rounds; r++)
        for (int k = 0; k < 2; k++) {
            bench_must(kiln_session_profile(session, k == 0 ? 0 : 4 * TOKENS * 128, &error), &error);
            (void)decode_us(m, 1);
            bench_add(k == 0 ? off : on, decode_us(m, 1));
        }
    bench_must(kiln_session_profile(session, 0, &error), &error);
    bench_show(off);
    bench_show(on);
    bench_show(bench_ratio(b, on, off, "decode %s: profiled / not", m->name));
}

void bench_decode(bench *b, const peer *p, const bench_options *options) {
    static const char *const names[] = {"f32", "q8_0"};
    bool ok = true;
    double ratio[2], ns[2], run[2];
    (void)p;
    puts("\ndecode: stories260K, token by token");
    if (b->cpus < 2) {
        puts("  skipped: one processor");
        return;
    }
    for (int i = 0; i < 2; i++) {
        model m;
        if (!model_open(&m, names[i])) {
            puts("  skipped: no test data");
            return;
        }
        ok = compare(b, options, &m, &ratio[i]) && ok;
        ns[i] = overhead(b, options, &m, &run[i]);
        ok = ok && ns[i] <= 15;
        profiled(b, options, &m);
        model_close(&m);
    }
    bench_bar_add(b, "7", ok,
                  "2 threads no slower than 1 by more than the spread; replay overhead <= 15 ns a record",
                  "f32, q8_0: 2 threads %.3fx, %.3fx the time of 1; overhead of a step %.1f, %.1f ns (run "
                  "alone %.1f, %.1f)",
                  ratio[0], ratio[1], ns[0], ns[1], run[0], run[1]);
}
