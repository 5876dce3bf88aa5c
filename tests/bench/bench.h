/* Measuring: clocks, samples with their spread, the machine's own state, bars, and a report in JSON.
 *
 * How figures are taken: what is compared alternates within one process, round by round, since a shared host's speed
 * changes within minutes; a figure is the median over rounds with its quartiles; a ratio is the median of the rounds'
 * ratios. Results are checked before anything is timed. */
#ifndef KILN_BENCH_H
#define KILN_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_SAMPLES = 1024, BENCH_SERIES = 256, BENCH_BARS = 32, BENCH_NAME = 96 };

typedef struct bench_series {
    char name[BENCH_NAME];
    const char *unit;
    size_t n;
    double v[BENCH_SAMPLES];
} bench_series;

typedef struct bench_stats {
    double min, q1, median, q3, p99, max;
} bench_stats;

typedef struct bench_bar {
    char id[16];
    bool ok;
    char figure[160], target[160];
} bench_bar;

typedef struct bench {
    const char *title;
    unsigned cpus;
    char cpu[128], system[128];
    bench_series *series[BENCH_SERIES];
    size_t n_series;
    bench_bar bars[BENCH_BARS];
    size_t n_bars;
} bench;

/* Nanoseconds, monotonic. */
int64_t bench_now(void);
void bench_sleep_us(int64_t us);

/* Prints the machine: processor, cores, system, load, and how fast two cores pass a cache line back and forth. */
void bench_begin(bench *b, const char *title);

/* A named row of samples, owned by b. Ends the program when memory is out, as everything here does. */
bench_series *bench_series_new(bench *b, const char *unit, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Samples beyond BENCH_SAMPLES are dropped. */
void bench_add(bench_series *s, double value);
bench_stats bench_stats_of(const bench_series *s);
/* Per sample x/y, as a new series. */
bench_series *bench_ratio(bench *b, const bench_series *x, const bench_series *y, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* "  name   median [q1 … q3] unit, p99, n". */
void bench_show(const bench_series *s);

/* Notes a bar; all are printed at the end, "bar ID ok|short FIGURE (TARGET)". */
void bench_bar_add(bench *b, const char *id, bool ok, const char *target, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Median round trip of a cache line between two threads, ns; 0 when there is one processor. */
double bench_round_trip(void);

/* The process's processor time as a share of one processor, while this thread sleeps for `us` (and a moment before, in
 * which who still spins may park). */
double bench_idle_share(int64_t us);

/* Prints the bars, writes the report (path NULL: none) and frees the series. False: the file could not be written. */
bool bench_finish(bench *b, const char *json_path);

/* Ends the program with a text, when what is to be measured is broken: no figure is better than a wrong one. */
void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
