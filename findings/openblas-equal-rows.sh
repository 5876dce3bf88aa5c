#!/bin/sh
# OpenBLAS's sgemm gives equal rows of A different rows of C within one call, on one thread.
#
# Guess: results may change with the shape of a call, the CPU and the number of threads, but within one call
# every row meets the same B and the same kernel, so equal rows give equal bits.
#
# Seen (Debian libopenblas0-pthread 0.3.21+ds-4, 1 thread, its kernels for Haswell, which Zen CPUs get too):
# m equal rows, k 1000, n 64; how many rows of C differ from the first, and the first that does:
#   m 4: 0   m 5: 1 from row 4   m 8: 0   m 12: 6 from row 6   m 16: 10 from row 6   m 24: 12 from row 6
# With its kernels for Nehalem no row differs.
#
# Why it matters: a batch of equal prompts diverges in one step, and a sequence's answer depends on its place
# in the batch. Kiln gives a row the same bits at each place and batch size; a BLAS beside it, or as its
# reference, does not, so bitwise comparisons need a tolerance.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
apt-get download -qq libopenblas0-pthread=0.3.21+ds-4 libgfortran5 libquadmath0 2>log || { cat log; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
lib=root/usr/lib/x86_64-linux-gnu
cat >rows.c <<'C'
#include <stdio.h>
#include <string.h>
void cblas_sgemm(int order, int transA, int transB, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc);
enum { ROW_MAJOR = 101, PLAIN = 111, M = 24, N = 64, K = 1000 };
static float a[M * K], b[K * N], c[M * N];
static float next(void) {
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 16777216.0f - 0.5f;
}
int main(void) {
    for (int i = 0; i < K; i++) a[i] = next();
    for (int i = 1; i < M; i++) memcpy(a + i * K, a, sizeof(float) * K);
    for (int i = 0; i < K * N; i++) b[i] = next();
    const int sizes[] = {4, 5, 8, 12, 16, 24};
    for (int s = 0; s < 6; s++) {
        cblas_sgemm(ROW_MAJOR, PLAIN, PLAIN, sizes[s], N, K, 1, a, K, b, N, 0, c, N);
        int differing = 0, first = -1;
        for (int i = sizes[s] - 1; i > 0; i--)
            if (memcmp(c + i * N, c, sizeof(float) * N)) differing++, first = i;
        printf(" %d:%d(%d)", sizes[s], differing, first);
    }
    printf("\n");
}
C
cc -O1 rows.c -o rows -L$lib/openblas-pthread -L$lib -l:libopenblas.so.0 -Wl,-rpath-link,$lib
export OPENBLAS_NUM_THREADS=1 LD_LIBRARY_PATH="$d/$lib/openblas-pthread:$d/$lib"
for kernels in Haswell Nehalem; do echo "$kernels$(OPENBLAS_CORETYPE=$kernels ./rows)"; done | tee seen
cat >expected <<'TEXT'
Haswell 4:0(-1) 5:1(4) 8:0(-1) 12:6(6) 16:10(6) 24:12(6)
Nehalem 4:0(-1) 5:0(-1) 8:0(-1) 12:0(-1) 16:0(-1) 24:0(-1)
TEXT
diff expected seen || { echo 'changed: equal rows differ elsewhere in sgemm of OpenBLAS now' >&2; exit 1; }
