#include "bench.h"

#include "json_write.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

void bench_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* ---- clocks ----------------------------------------------------------------------------------------- */

int64_t bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void bench_sleep_us(int64_t us) {
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};
    nanosleep(&t, NULL);
}

double bench_idle_share(int64_t us) {
    struct timespec t[2];
    bench_sleep_us(100000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t[0]);
    int64_t start = bench_now();
    bench_sleep_us(us);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t[1]);
    double used = (double)(t[1].tv_sec - t[0].tv_sec) * 1e9 + (double)(t[1].tv_nsec - t[0].tv_nsec);
    return used / (double)(bench_now() - start);
}

/* ---- samples ---------------------------------------------------------------------------------------- */

static bench_series *series_make(bench *b, const char *unit, const char *format, va_list args) {
    bench_series *s = calloc(1, sizeof *s);
    if (s == NULL || b->n_series == BENCH_SERIES)
        bench_fail("out of room for series");
    s->unit = unit;
    vsnprintf(s->name, sizeof s->name, format, args);
    b->series[b->n_series++] = s;
    return s;
}

bench_series *bench_series_new(bench *b, const char *unit, const char *format, ...) {
    va_list args;
    va_start(args, format);
    bench_series *s = series_make(b, unit, format, args);
    va_end(args);
    return s;
}

void bench_add(bench_series *s, double value) {
    if (s->n < BENCH_SAMPLES)
        s->v[s->n++] = value;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bench_stats bench_stats_of(const bench_series *s) {
    double v[BENCH_SAMPLES];
    if (s->n == 0)
        return (bench_stats){NAN, NAN, NAN, NAN, NAN, NAN};
    memcpy(v, s->v, s->n * sizeof *v);
    qsort(v, s->n, sizeof *v, by_value);
    size_t last = s->n - 1;
    return (bench_stats){v[0], v[s->n / 4], v[s->n / 2], v[3 * s->n / 4], v[(last * 99 + 99) / 100], v[last]};
}

bench_series *bench_ratio(bench *b, const bench_series *x, const bench_series *y, const char *format, ...) {
    va_list args;
    va_start(args, format);
    bench_series *s = series_make(b, "x", format, args);
    va_end(args);
    for (size_t i = 0; i < x->n && i < y->n; i++)
        bench_add(s, x->v[i] / y->v[i]);
    return s;
}

void bench_show(const bench_series *s) {
    bench_stats t = bench_stats_of(s);
    printf("  %-66s %10.4g [%.4g … %.4g] %s, p99 %.4g, n %zu\n", s->name, t.median, t.q1, t.q3, s->unit,
           t.p99, s->n);
    fflush(stdout);
}

/* ---- the machine ------------------------------------------------------------------------------------ */

typedef struct ping {
    _Alignas(128) atomic_int turn;
    _Alignas(128) atomic_bool stop;
} ping;

static void *answer(void *context) {
    ping *p = context;
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed))
        if (atomic_load_explicit(&p->turn, memory_order_acquire) == 1)
            atomic_store_explicit(&p->turn, 0, memory_order_release);
    return NULL;
}

double bench_round_trip(void) {
    enum { TRIPS = 1000, ROUNDS = 21 };
    static ping p;
    pthread_t thread;
    double v[ROUNDS];
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        return 0;
    atomic_store(&p.turn, 0);
    atomic_store(&p.stop, false);
    if (pthread_create(&thread, NULL, answer, &p) != 0)
        return 0;
    for (int r = 0; r < ROUNDS; r++) {
        int64_t start = bench_now();
        for (int i = 0; i < TRIPS; i++) {
            atomic_store_explicit(&p.turn, 1, memory_order_release);
            while (atomic_load_explicit(&p.turn, memory_order_acquire) != 0)
                ;
        }
        v[r] = (double)(bench_now() - start) / (double)TRIPS;
    }
    atomic_store(&p.stop, true);
    pthread_join(thread, NULL);
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

static void read_cpu(bench *b) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(b->cpu, sizeof b->cpu, "unknown processor");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            snprintf(b->cpu, sizeof b->cpu, "%.100s", strchr(line, ':') + 2);
            b->cpu[strcspn(b->cpu, "\n")] = '\0';
            break;
        }
    if (f != NULL)
        fclose(f);
}

void bench_begin(bench *b, const char *title) {
    struct utsname u;
    double load[1] = {-1};
    memset(b, 0, sizeof *b);
    b->title = title;
    b->cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    read_cpu(b);
    if (uname(&u) == 0)
        snprintf(b->system, sizeof b->system, "%.40s %.40s %.40s", u.sysname, u.release, u.machine);
    FILE *f = fopen("/proc/loadavg", "r");
    if (f != NULL) {
        if (fscanf(f, "%lf", load) != 1)
            load[0] = -1;
        fclose(f);
    }
    printf("%s\nmachine: %s, %u processors, %s, load %.2f\n", title, b->cpu, b->cpus, b->system, load[0]);
    printf(
        "method: what is compared alternates in this process; median [first … third quartile] over rounds\n");
    bench_series *trip = bench_series_new(b, "ns", "probe: cache line round trip between two threads");
    for (int i = 0; i < 5; i++)
        bench_add(trip, bench_round_trip());
    bench_show(trip);
}

/* ---- bars and the report ---------------------------------------------------------------------------- */

void bench_bar_add(bench *b, const char *id, bool ok, const char *target, const char *format, ...) {
    if (b->n_bars == BENCH_BARS)
        bench_fail("out of room for bars");
    bench_bar *bar = &b->bars[b->n_bars++];
    va_list args;
    va_start(args, format);
    vsnprintf(bar->figure, sizeof bar->figure, format, args);
    va_end(args);
    snprintf(bar->id, sizeof bar->id, "%s", id);
    snprintf(bar->target, sizeof bar->target, "%s", target);
    bar->ok = ok;
}

static void put_series(kiln__json_writer *w, const bench_series *s) {
    bench_stats t = bench_stats_of(s);
    const struct {
        const char *key;
        double value;
    } rows[] = {{"min", t.min}, {"q1", t.q1},   {"median", t.median},
                {"q3", t.q3},   {"p99", t.p99}, {"max", t.max}};
    kiln__json_begin_object(w, KILN_JSON_INLINE);
    kiln__json_key(w, "name");
    kiln__json_put_cstring(w, s->name);
    kiln__json_key(w, "unit");
    kiln__json_put_cstring(w, s->unit);
    kiln__json_key(w, "samples");
    kiln__json_put_u64(w, s->n);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln__json_key(w, rows[i].key);
        kiln__json_put_f64(w, rows[i].value);
    }
    kiln__json_end(w);
}

static void put_report(kiln__json_writer *w, const bench *b) {
    kiln__json_begin_object(w, KILN_JSON_LINES);
    kiln__json_key(w, "version");
    kiln__json_put_i64(w, 1);
    kiln__json_key(w, "bench");
    kiln__json_put_cstring(w, b->title);
    kiln__json_key(w, "processor");
    kiln__json_put_cstring(w, b->cpu);
    kiln__json_key(w, "processors");
    kiln__json_put_u64(w, b->cpus);
    kiln__json_key(w, "system");
    kiln__json_put_cstring(w, b->system);
    kiln__json_key(w, "series");
    kiln__json_begin_array(w, KILN_JSON_LINES);
    for (size_t i = 0; i < b->n_series; i++)
        put_series(w, b->series[i]);
    kiln__json_end(w);
    kiln__json_key(w, "bars");
    kiln__json_begin_array(w, KILN_JSON_LINES);
    for (size_t i = 0; i < b->n_bars; i++) {
        kiln__json_begin_object(w, KILN_JSON_INLINE);
        kiln__json_key(w, "bar");
        kiln__json_put_cstring(w, b->bars[i].id);
        kiln__json_key(w, "ok");
        kiln__json_put_bool(w, b->bars[i].ok);
        kiln__json_key(w, "figure");
        kiln__json_put_cstring(w, b->bars[i].figure);
        kiln__json_key(w, "target");
        kiln__json_put_cstring(w, b->bars[i].target);
        kiln__json_end(w);
    }
    kiln__json_end(w);
    kiln__json_end(w);
}

bool bench_finish(bench *b, const char *path) {
    bool ok = true;
    puts("");
    for (size_t i = 0; i < b->n_bars; i++)
        printf("bar %s %s %s (%s)\n", b->bars[i].id, b->bars[i].ok ? "ok" : "short", b->bars[i].figure,
               b->bars[i].target);
    if (path != NULL) {
        kiln__json_writer w;
        kiln_json_text text;
        kiln_error error;
        kiln__json_writer_init(&w, NULL, false);
        put_report(&w, b);
        FILE *f = fopen(path, "w");
        ok = kiln__json_writer_finish(&w, &text, &error) == KILN_OK && f != NULL &&
             fwrite(text.data, 1, text.size, f) == text.size;
        kiln_json_text_free(&text);
        ok = (f == NULL || fclose(f) == 0) && ok;
        fprintf(stderr, ok ? "report: %s\n" : "bench: cannot write '%s'\n", path);
    }
    for (size_t i = 0; i < b->n_series; i++)
        free(b->series[i]);
    fflush(stdout);
    return ok;
}
