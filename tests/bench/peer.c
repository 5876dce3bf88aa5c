#define _GNU_SOURCE /* dlmopen */

#include "peer.h"

#ifdef BENCH_WITHOUT_PEER

#include <stdio.h>

/* Linked statically: nothing can be loaded. */
const peer *peer_open(const char *folder) {
    (void)folder;
    puts("peer: none in a statically linked build; running alone");
    return NULL;
}

void peer_rest(const peer *p) {
    (void)p;
}

#else

#include "cpu_features.h"
#include "kiln_op.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* What the library is asked for, and where it goes. */
static const struct {
    const char *name;
    size_t at;
} symbols[] = {
    {"ggml_init", offsetof(peer, init)},
    {"ggml_free", offsetof(peer, free)},
    {"ggml_new_tensor_1d", offsetof(peer, new_1d)},
    {"ggml_add", offsetof(peer, add)},
    {"ggml_new_graph_custom", offsetof(peer, new_graph)},
    {"ggml_build_forward_expand", offsetof(peer, expand)},
    {"ggml_tensor_overhead", offsetof(peer, tensor_overhead)},
    {"ggml_graph_overhead_custom", offsetof(peer, graph_overhead)},
    {"ggml_backend_cpu_init", offsetof(peer, cpu_init)},
    {"ggml_backend_cpu_set_n_threads", offsetof(peer, set_threads)},
    {"ggml_backend_cpu_set_threadpool", offsetof(peer, set_pool)},
    {"ggml_backend_graph_compute", offsetof(peer, compute)},
    {"ggml_backend_get_default_buffer_type", offsetof(peer, buffer_type)},
    {"ggml_backend_alloc_ctx_tensors", offsetof(peer, alloc_tensors)},
    {"ggml_backend_buffer_free", offsetof(peer, buffer_free)},
    {"ggml_backend_tensor_set", offsetof(peer, set)},
    {"ggml_backend_tensor_get", offsetof(peer, get)},
    {"ggml_gallocr_new", offsetof(peer, allocr_new)},
    {"ggml_gallocr_alloc_graph", offsetof(peer, allocr_alloc)},
    {"ggml_gallocr_free", offsetof(peer, allocr_free)},
    {"ggml_threadpool_params_init", offsetof(peer, pool_params)},
    {"ggml_threadpool_new", offsetof(peer, pool_new)},
    {"ggml_threadpool_pause", offsetof(peer, pool_pause)},
};

static bool load_symbols(peer *p, void *const *handles, size_t n) {
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *at = NULL;
        for (size_t h = 0; h < n && at == NULL; h++)
            at = dlsym(handles[h], symbols[i].name);
        if (at == NULL) {
            printf("peer: the library has no %s; running alone\n", symbols[i].name);
            return false;
        }
        memcpy((char *)p + symbols[i].at, &at, sizeof at);
    }
    return true;
}

/* A pool per thread count, with the default polling of its command-line programs. */
static bool make_backends(peer *p) {
    for (int n = 1; n <= PEER_THREADS; n++) {
        struct {
            bool mask[512];
            int threads, priority;
            uint32_t poll;
            bool strict, paused;
            char room[256]; /* should a later version have more fields */
        } params;
        memset(&params, 0, sizeof params);
        p->pool_params(&params, n);
        if (params.threads != n) {
            puts("peer: its thread pool parameters look different; running alone");
            return false;
        }
        p->backend[n] = p->cpu_init();
        p->pool[n] = p->pool_new(&params);
        if (p->backend[n] == NULL || p->pool[n] == NULL) {
            puts("peer: it could not make a backend; running alone");
            return false;
        }
        p->set_pool(p->backend[n], p->pool[n]);
        p->set_threads(p->backend[n], n);
    }
    return true;
}

/* Its builds by processor, the best first. */
static const char *const builds_avx512[] = {"zen4",        "sapphirerapids", "icelake",
                                            "cascadelake", "skylakex",       NULL};
static const char *const builds_avx2[] = {"alderlake", "haswell", NULL};
static const char *const builds_base[] = {"x64", "armv8.0_1", "apple_m1", NULL};

const peer *peer_open(const char *folder) {
    static peer p;
    uint32_t features = kiln__cpu_features();
    const char *const *builds = features & KILN_CPU_AVX512 ? builds_avx512
                                : features & KILN_CPU_AVX2 ? builds_avx2
                                                           : builds_base;
    char path[1024];
    void *handles[2] = {NULL, NULL};
    if (folder == NULL || folder[0] == '\0') {
        puts("peer: none given (make fetches it when there is a network); running alone");
        return NULL;
    }
    snprintf(path, sizeof path, "%s/libggml-base.so", folder);
#if defined(__linux__)
    Lmid_t space; /* a namespace of its own: its C++ runtime and symbols do not mix with ours */
    handles[0] = dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL);
    if (handles[0] != NULL && dlinfo(handles[0], RTLD_DI_LMID, &space) != 0)
        handles[0] = NULL;
#else
    handles[0] = dlopen(path, RTLD_NOW | RTLD_LOCAL);
#endif
    for (; handles[0] != NULL && handles[1] == NULL && *builds != NULL; builds++) {
        snprintf(path, sizeof path, "%s/libggml-cpu-%s.so", folder, *builds);
#if defined(__linux__)
        handles[1] = dlmopen(space, path, RTLD_NOW | RTLD_LOCAL);
#else
        handles[1] = dlopen(path, RTLD_NOW | RTLD_LOCAL);
#endif
    }
    if (handles[1] == NULL) {
        const char *why = dlerror();
        printf("peer: cannot load ggml from '%s' (%s); running alone\n", folder,
               why ? why : "no library fits");
        return NULL;
    }
    if (!load_symbols(&p, handles, 2) || !make_backends(&p))
        return NULL;
    printf("peer: ggml, %s, polling as in its programs\n", path);
    return &p;
}

void peer_rest(const peer *p) {
    if (p == NULL)
        return;
    p->pool_pause(p->pool[PEER_THREADS]);
    struct timespec t = {0, 300000};
    nanosleep(&t, NULL);
}

#endif
