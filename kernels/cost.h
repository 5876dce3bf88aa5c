/* What kernels cost, for the `cost` callbacks of ops and for executors. Estimates: a factor of two does not matter,
 * overflow must not. Internal. */
#ifndef KILN_COST_H
#define KILN_COST_H

#include "operands.h"

/* a·b for counts, INT64_MAX when it does not fit. */
static inline int64_t kiln__times(int64_t a, int64_t b) {
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static inline int64_t kiln__plus(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static inline int64_t kiln__elements(const kiln_operand *o) {
    return kiln__times(kiln__times(o->ne[0], o->ne[1]), kiln__times(o->ne[2], o->ne[3]));
}

/* Bytes of `elements` of an operand's dtype; 0 when it is absent. */
static inline int64_t kiln__bytes_of(const kiln_operand *o, int64_t elements) {
    const kiln_dtype_info *info = kiln_dtype_get((kiln_dtype)o->dtype);
    return info == NULL ? 0 : kiln__times(elements / info->block, info->bytes);
}

/* The default: every operand once, an operation per output element. */
static inline kiln_cost kiln__cost_plain(const kiln_args *args) {
    kiln_cost cost = {0, 0};
    for (uint32_t i = 0; i < args->n_in; i++)
        cost.bytes = kiln__plus(cost.bytes, kiln__bytes_of(&args->in[i], kiln__elements(&args->in[i])));
    for (uint32_t j = 0; j < args->n_out; j++) {
        int64_t n = args->out[j].dtype == KILN_DTYPE_NONE ? 0 : kiln__elements(&args->out[j]);
        cost.bytes = kiln__plus(cost.bytes, kiln__bytes_of(&args->out[j], n));
        cost.ops = kiln__plus(cost.ops, n);
    }
    return cost;
}

/* What it takes to begin with rows, tables or lists, before the first element. */
enum { KILN__COST_START = 1000 };

/* An exponential, a root or a few steps for every element of the first operand. */
static inline kiln_cost kiln__cost_function(const kiln_args *args) {
    kiln_cost cost = kiln__cost_plain(args);
    cost.ops = kiln__plus(kiln__times(32, kiln__elements(&args->in[0])), KILN__COST_START);
    return cost;
}

/* Rows are sorted or searched. */
static inline kiln_cost kiln__cost_sort(const kiln_args *args) {
    kiln_cost cost = kiln__cost_plain(args);
    cost.ops = kiln__plus(kiln__times(64, kiln__elements(&args->in[0])), 6 * KILN__COST_START);
    return cost;
}

/* Only as much of the inputs as there are outputs: rows of a table. */
static inline kiln_cost kiln__cost_outputs(const kiln_args *args) {
    int64_t n = kiln__elements(&args->out[0]);
    return (kiln_cost){kiln__plus(kiln__bytes_of(&args->in[0], n), kiln__bytes_of(&args->out[0], n)), n};
}

/* Only as much of the output as there are rows in the second operand: an append, turned on the way or not. */
static inline kiln_cost kiln__cost_append(const kiln_args *args) {
    int64_t n = kiln__elements(&args->in[1]);
    return (kiln_cost){kiln__plus(kiln__bytes_of(&args->in[1], n), kiln__bytes_of(&args->out[0], n)),
                       kiln__plus(kiln__times(64, n), 2 * KILN__COST_START)};
}

#endif
