/* ggml as a peer to measure beside, from shared libraries that its users get from a package registry. Optional:
 * without them the benchmark runs alone and says so. No header of its is used; the few functions called here are
 * declared by what their names have meant for years. */
#ifndef KILN_BENCH_PEER_H
#define KILN_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct peer_context peer_context;
typedef struct peer_tensor peer_tensor;
typedef struct peer_graph peer_graph;
typedef struct peer_backend peer_backend;
typedef struct peer_buffer peer_buffer;
typedef struct peer_buffer_type peer_buffer_type;
typedef struct peer_allocr peer_allocr;
typedef struct peer_pool peer_pool;

typedef struct peer_params {
    size_t size;
    void *memory;
    bool no_alloc;
} peer_params;

enum { PEER_F32 = 0, PEER_THREADS = 2 };

typedef struct peer {
    peer_context *(*init)(peer_params);
    void (*free)(peer_context *);
    peer_tensor *(*new_1d)(peer_context *, int, int64_t);
    peer_tensor *(*add)(peer_context *, peer_tensor *, peer_tensor *);
    peer_graph *(*new_graph)(peer_context *, size_t, bool);
    void (*expand)(peer_graph *, peer_tensor *);
    size_t (*tensor_overhead)(void);
    size_t (*graph_overhead)(size_t, bool);
    peer_backend *(*cpu_init)(void);
    void (*set_threads)(peer_backend *, int);
    void (*set_pool)(peer_backend *, peer_pool *);
    int (*compute)(peer_backend *, peer_graph *);
    peer_buffer_type *(*buffer_type)(peer_backend *);
    peer_buffer *(*alloc_tensors)(peer_context *, peer_backend *);
    void (*buffer_free)(peer_buffer *);
    void (*set)(peer_tensor *, const void *, size_t, size_t);
    void (*get)(const peer_tensor *, void *, size_t, size_t);
    peer_allocr *(*allocr_new)(peer_buffer_type *);
    bool (*allocr_alloc)(peer_allocr *, peer_graph *);
    void (*allocr_free)(peer_allocr *);
    void (*pool_params)(void *, int);
    peer_pool *(*pool_new)(void *);
    void (*pool_pause)(peer_pool *);
    peer_backend *backend[PEER_THREADS + 1]; /* by number of threads */
    peer_pool *pool[PEER_THREADS + 1];
} peer;

/* From a folder with libggml-base and libggml-cpu-*; takes the library for this processor. NULL after saying why on stdout.
 * One set for the life of the process. */
const peer *peer_open(const char *folder);

/* Lets its workers sleep, so that what is measured next is not disturbed. */
void peer_rest(const peer *p);

#endif
