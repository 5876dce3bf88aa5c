/* Tests of one op as rows of a table: op × operands × attributes × tolerance.
 *
 * `op_case_run` builds a graph with just that node, fills its operands from a seed made of the case's name,
 * and then, at every CPU level this machine has:
 *   - runs it with its tiles in 1, 3 and as many pieces as there are tiles: all bytes must come out the same;
 *   - compares the outputs with an oracle in double;
 *   - checks that no byte changed that the op does not declare as written (64 guard bytes around every
 *     operand and the gaps between rows included);
 *   - randomises every byte the op does not declare as read: the results must not change.
 * Failures name the case, the level and the element.
 */
#ifndef KILN_TEST_OP_CASE_H
#define KILN_TEST_OP_CASE_H

#include "eager.h"
#include "kiln_ops.h"

enum { OP_MAX_IN = 40, OP_MAX_OUT = 4, OP_MAX_SLOTS = 4 };

typedef struct op_case op_case;

/* An operand's values in row-major order, as doubles,
 * for the counts of this run (symbols at their values). */
typedef struct op_values {
    kiln_dtype dtype; /* KILN_DTYPE_NONE: absent */
    uint32_t ndim;
    int64_t ne[KILN_MAX_DIMS]; /* padded with 1s in front: ne[3] is the innermost count */
    int64_t n;                 /* their product */
    double *v;
    double *slack; /* outputs: the oracle may set a magnitude here (e.g. Σ|w·x|) that `rel` refers to */
} op_values;

/* One input. Only `dtype`, `ndim` and `dims` are needed; OP_DIMS sets the latter two. */
typedef struct op_in {
    kiln_dtype dtype; /* KILN_DTYPE_NONE: an absent optional operand */
    uint32_t ndim;
    int64_t dims[KILN_MAX_DIMS];
    /* Per axis: 0, or 1 + index in op_case.slots: the dimension is dims·slot. */
    uint32_t slots[KILN_MAX_DIMS];
    const char *order;      /* axes from outermost to innermost in memory, e.g. "102"; NULL: in order */
    int64_t pad;            /* gap after each innermost-in-memory run, in blocks of the dtype */
    uint32_t repeat;        /* bit a set: axis a has stride 0 (a broadcast view) */
    kiln_storage_kind kind; /* KILN_STORAGE_WEIGHT when left out */
    double lo, hi;          /* uniform values in lo … hi; both 0: -1 … 1, integers 0 … 3 */
    const double *data;     /* or these values, repeated as needed */
    size_t n_data;
    /* Or: fills the whole bytes. `values` holds the operands before this one,
     * `bytes` this one's dense bytes. */
    void (*make)(const op_case *c, const op_values *values, uint32_t operand, void *bytes);
} op_in;

#define OP_DIMS(...)                                                                                         \
    .ndim = (uint32_t)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dims = {__VA_ARGS__}
#define OP_DATA(...)                                                                                         \
    .data = (const double[]){__VA_ARGS__}, .n_data = sizeof((const double[]){__VA_ARGS__}) / sizeof(double)

typedef struct op_slot {
    bool is_float;
    int64_t min, max, value;
    float number;
} op_slot;

struct op_case {
    const char *name;
    const kiln_op *op;
    uint32_t n_in;
    op_in in[OP_MAX_IN];
    /* The op's attribute struct, slot ids being 1 + index in `slots`; NULL: defaults. As kernels see it, so 0
     * is 0; only op_case_refused hands it to kiln_node_add, where 0 is the default. */
    const void *attrs;
    op_slot slots[OP_MAX_SLOTS];
    uint32_t n_slots;
    /* Fills out[i].v from in[i].v; for in-place ops `in` holds the values before the run. */
    void (*oracle)(const op_case *c, const op_values *in, op_values *out);
    /* Floats pass within abs + rel·max(|expected|, slack); NaN and infinities must match.
     * Integers are equal. */
    double abs, rel;
    kiln_status expect; /* KILN_OK, or KILN_ERROR_INDEX with the first bad row, index and limit */
    int64_t bad_row, bad_index, bad_limit;
    const void *user; /* for `oracle` and `make` */
};

/* Runs one case, or all of a table. Fail through cmocka. */
void op_case_run(const op_case *c);
void op_cases_run(const op_case *cases, size_t count);
#define OP_CASES_RUN(table) op_cases_run((table), sizeof(table) / sizeof((table)[0]))

/* The op must refuse these operands with `status`, and `text` is all that stands behind "node '…' (op): ", or behind
 * "node '…' (op)" when it begins with a space. */
void op_case_refused(const op_case *c, kiln_status status, const char *text);

/* The CPU levels this machine can run, plainest first. */
typedef struct op_level {
    const char *name;
    uint32_t cpu;
} op_level;
const op_level *op_levels(size_t *count);

/* ---- helpers for oracles ------------------------------------------------------------------------------- */

/* Value of element i of a dense row in any dtype but blocks, and its inverse (round to nearest even). */
double op_decode(kiln_dtype dtype, const void *row, int64_t i);
void op_encode(kiln_dtype dtype, void *row, int64_t i, double value);
double op_f16_decode(uint16_t bits);
uint16_t op_f16_encode(double value);
/* Values of a whole row in any dtype, blocks and q8_a included; n is a multiple of the block. */
void op_decode_row(kiln_dtype dtype, const void *row, int64_t n, double *out);
/* Random blocks with sane scales. */
void op_random_blocks(kiln_dtype dtype, void *row, int64_t n, uint64_t *state);
uint64_t op_random(uint64_t *state);
double op_random_between(uint64_t *state, double lo, double hi);

#endif
