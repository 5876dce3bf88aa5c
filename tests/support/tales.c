#include "tales.h"
#include "tools/llm/half.h"
#include "tools/llm/quantise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 64 };

typedef struct maker {
    const tales_form *form;
    kiln_gguf_writer *writer;
    uint64_t random;
    void *kept[MAX_TENSORS]; /* data of tensors, until the file is written */
    size_t n_kept;
    bool failed; /* out of memory */
} maker;

/* make.py has the same generator. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Zeroed memory that lives until the file is written. */
static void *keep(maker *m, size_t bytes) {
    void *p = m->n_kept < MAX_TENSORS ? calloc(1, bytes) : NULL;
    if (p == NULL)
        m->failed = true;
    else
        m->kept[m->n_kept++] = p;
    return p;
}

static void add(maker *m, const char *name, kiln_dtype dtype, int32_t ndim, const int64_t *dims,
                const void *data) {
    kiln_gguf_writer_add_tensor(m->writer, name, kiln_gguf_tensor_type_of(dtype), ndim, dims, data);
}

/* Adds a matrix, or one for each expert, in the form's dtype. */
static void add_matrix(maker *m, const char *name, int32_t ndim, const int64_t *dims, const float *x) {
    kiln_dtype dtype = m->form->dtype;
    if (dims[ndim - 1] % kiln_dtype_get(dtype)->block != 0)
        dtype = KILN_F16;
    int64_t n = 1, bytes = 0;
    for (int32_t i = 0; i < ndim; i++)
        n *= dims[i];
    unsigned char *data = kiln_dtype_row_bytes(dtype, n, &bytes) == KILN_OK ? keep(m, (size_t)bytes) : NULL;
    if (data == NULL)
        return;
    quantise(dtype, x, (size_t)n, data);
    add(m, name, dtype, ndim, dims, data);
}

/* Which hidden unit of the dense block is the j-th of expert e, of n. The factors have no divisor in common
 * with n = 172. */
static int64_t unit_of(int64_t e, int64_t j, int64_t n) {
    static const int64_t factors[] = {1, 3, 5, 7, 9, 11, 13, 15};
    return (j * factors[e % 8] + 17 * e) % n;
}

/* The same of an expert: which unit, and what `up` and `down` are multiplied by. */
typedef struct unit {
    int64_t at;
    float up, down;
} unit;

static unit expert_unit(const tales_form *form, int64_t e, int64_t j, int64_t hidden) {
    if (form->experts == TALES_SPLIT)
        return (unit){e * (hidden / form->n_experts) + j, 1, (float)form->n_experts};
    float sign = j % 2 == 1 ? -1.0f : 1.0f;
    return (unit){unit_of(e, j, hidden), sign, sign};
}

typedef enum part { GATE, UP, DOWN } part;

/* gate, up: [hidden, dim]; down: [dim, hidden]. The experts' are in front of that. */
static void add_experts(maker *m, const char *name, part what, const int64_t dims[2], const float *x) {
    int64_t hidden = dims[what == DOWN], dim = dims[what != DOWN], n = m->form->n_experts;
    int64_t units = m->form->experts == TALES_SPLIT ? hidden / n : hidden;
    float *all = malloc((size_t)(n * units * dim) * sizeof *all);
    m->failed = m->failed || all == NULL;
    for (int64_t e = 0; all != NULL && e < n; e++)
        for (int64_t j = 0; j < units; j++) {
            unit u = expert_unit(m->form, e, j, hidden);
            for (int64_t i = 0; i < dim; i++) {
                if (what == DOWN)
                    all[(e * dim + i) * units + j] = x[i * hidden + u.at] * u.down;
                else
                    all[(e * units + j) * dim + i] = x[u.at * dim + i] * (what == UP ? u.up : 1.0f);
            }
        }
    if (all != NULL)
        add_matrix(m, name, 3, what == DOWN ? (int64_t[]){n, dim, units} : (int64_t[]){n, units, dim}, all);
    free(all);
}

static void add_router(maker *m, const char *layer, int64_t dim) {
    char name[64];
    int64_t n = m->form->n_experts;
    float *x = keep(m, (size_t)(n * dim) * sizeof *x);
    for (int64_t i = 0; x != NULL && m->form->experts == TALES_PERMUTED && i < n * dim; i++)
        x[i] = (float)(int64_t)(next_random(&m->random) >> 40) * 0x1p-23f - 1.0f;
    snprintf(name, sizeof name, "%s.ffn_gate_inp.weight", layer);
    if (x != NULL)
        add(m, name, KILN_F32, 2, (int64_t[]){n, dim}, x);
}

static void add_tensor(maker *m, const kiln_gguf_tensor *t) {
    static const char *const names[] = {".ffn_gate.weight", ".ffn_up.weight", ".ffn_down.weight"};
    if (t->ndim == 1) {
        add(m, t->name, KILN_F32, 1, t->dims, t->data);
        return;
    }
    int64_t n = t->dims[0] * t->dims[1];
    float *x = malloc((size_t)n * sizeof *x);
    m->failed = m->failed || x == NULL;
    for (int64_t i = 0; x != NULL && i < n; i++) {
        uint16_t half;
        memcpy(&half, (const unsigned char *)t->data + 2 * i, sizeof half);
        x[i] = float_from_half(half);
    }
    const char *suffix = NULL;
    part what = GATE;
    for (unsigned i = 0; m->form->experts != TALES_DENSE && i < 3 && suffix == NULL; i++) {
        suffix = strstr(t->name, names[i]);
        what = (part)i;
    }
    if (x != NULL && suffix == NULL) {
        add_matrix(m, t->name, 2, t->dims, x);
    } else if (x != NULL) {
        char layer[32], name[64];
        snprintf(layer, sizeof layer, "%.*s", (int)(suffix - t->name), t->name);
        snprintf(name, sizeof name, "%.*s_exps.weight", (int)(strlen(t->name) - strlen(".weight")), t->name);
        if (what == GATE)
            add_router(m, layer, t->dims[1]);
        add_experts(m, name, what, t->dims, x);
    }
    free(x);
}

kiln_status tales_make(const tales_form *form, void **bytes, size_t *size, kiln_error *error) {
    maker m = {.form = form, .random = form->n_experts};
    kiln_gguf *base = NULL;
    *bytes = NULL;
    *size = 0;
    kiln_status status = kiln_gguf_open(TALES "tales-f16.gguf", NULL, &base, error);
    if (status == KILN_OK)
        status = kiln_gguf_writer_create((kiln_allocator){0}, &m.writer, error);
    for (size_t i = 0; status == KILN_OK && i < kiln_gguf_kv_count(base); i++)
        kiln_gguf_writer_add_kv(m.writer, kiln_gguf_kv_at(base, i));
    if (status == KILN_OK && form->n_experts > 0) {
        uint32_t used = form->experts == TALES_SPLIT ? form->n_experts : 2;
        kiln_gguf_writer_add_u32(m.writer, "llama.expert_count", form->n_experts);
        kiln_gguf_writer_add_u32(m.writer, "llama.expert_used_count", used);
        if (form->experts == TALES_SPLIT)
            kiln_gguf_writer_add_u32(m.writer, "llama.expert_feed_forward_length", 172 / form->n_experts);
    }
    for (size_t i = 0; status == KILN_OK && i < kiln_gguf_tensor_count(base); i++)
        add_tensor(&m, kiln_gguf_tensor_at(base, i));
    if (status == KILN_OK)
        status = m.failed ? kiln_error_set(error, KILN_ERROR_MEMORY, "tales: out of memory")
                          : kiln_gguf_writer_write_memory(m.writer, bytes, size, error);
    for (size_t i = 0; i < m.n_kept; i++)
        free(m.kept[i]);
    kiln_gguf_writer_destroy(m.writer);
    kiln_gguf_destroy(base);
    return status;
}
