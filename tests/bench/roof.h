/* What the machine itself gives at the moment: how fast threads of our own read memory and compute, without any
 * executor. Measured in every round beside what is compared with it. */
#ifndef KILN_BENCH_ROOF_H
#define KILN_BENCH_ROOF_H

#include <stddef.h>
#include <stdint.h>

enum { BENCH_ROOF_THREADS = 64 };

/* Starts f(context, i) for i < threads at once, each on a thread of its own (0 on the caller's), and gives the
 * nanoseconds until the last is through; starting the threads is not part of it. */
double bench_together(unsigned threads, void (*f)(void *context, unsigned index, unsigned threads),
                      void *context);

/* Nanoseconds for reading `bytes` once, each thread a contiguous share of it, in one of BENCH_READ_WAYS ways: from
 * beginning to end, the same with prefetches, in four streams. Which is the fastest differs from machine to machine. */
enum { BENCH_READ_WAYS = 3 };
double bench_read_ns(const void *data, size_t bytes, unsigned threads, unsigned way);

/* Nanoseconds for a fixed amount of arithmetic per thread, from registers: with n threads, n times as much is done. */
double bench_arithmetic_ns(unsigned threads);

#endif
