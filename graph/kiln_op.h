/* What an op is: one const descriptor. Building, validation, JSON, hazards, fusion, tests and the table of
 * ops are all driven by it. A user's own op is the same descriptor, passed at run time, with the same rights.
 *
 * A descriptor and everything it points to must outlive every graph, plan and session that uses it; in
 * practice it is `static const`. Its functions may be called from any thread, several at once: infer by
 * whoever builds a graph, accesses by whoever bakes, a kernel's `run` by whoever computes, its other
 * functions by whoever makes a session or submits. What such a function is handed lives until it returns.
 *
 * The calls below that take one of these structs (kiln_infer_*, kiln_access_*, kiln_tile_*) are for the
 * function that was handed it, on its thread.
 */
#ifndef KILN_OP_H
#define KILN_OP_H

#include "kiln_dtype.h"

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KILN_MAX_DIMS = 4 };

/* A dimension: the constant n when `slot` is 0, else n × (value of the slot), e.g. {8, n_tokens}. Slots used
 * in shapes are "symbols": integers with a maximum, whose value may change from run to run. */
typedef struct kiln_dim {
    int64_t n;
    uint32_t
        slot; /* 0, or the slot: as kiln_sym sets it when given to Kiln, the plain id when Kiln gives it */
} kiln_dim;

/* What a tensor looks like: row-major, outermost dimension first. Strides are bytes and are fixed at the
 * symbols' maxima; only the counts vary. For a block dtype the innermost stride is the block's bytes. `dims`
 * count values, not blocks. Entries from ndim on are 0. */
typedef struct kiln_desc {
    kiln_dtype dtype;
    uint32_t ndim;
    kiln_dim dims[KILN_MAX_DIMS];
    int64_t strides[KILN_MAX_DIMS];
} kiln_desc;

/* ---- attributes: plain structs described as data ---------------------------------------------------- */

/* How zero is read. In the struct that kiln_node_add gets, and in the attribute structs that builder
 * functions take, a field that holds 0 was left out. It means the default, or the node is refused with an
 * error that names the attribute, where the descriptor says `required`:
 *   - An integer or a float that is 0 is replaced by `preset`.
 *   - An enum's default is the enumerator 0; one with another default is `required`.
 *   - A flag that is off by default is a KILN_ATTR_BOOL.
 *   - A flag that is on by default is a KILN_ATTR_OFF: its field (`no_normalise`) says the opposite of its
 *     name (`normalise`).
 *   - A field that follows a slot is never replaced: a slot whose value is 0 means 0.
 * The number zero, where 0 is read as something else, is written KILN_ZERO_I64, KILN_ZERO_F32,
 * kiln_i64_const(0) or kiln_f32_const(0); for a value that may be zero there are kiln_i64_given and
 * kiln_f32_given. Arguments of builder functions that are not structs always mean what they are.
 *
 * This happens once, when the node is added: infer, accesses, kernels, JSON and fingerprints see plain
 * numbers. JSON has another rule: what is left out there is a key, a 0 is a 0, and `normalise` is true or
 * false. */

typedef enum kiln_attr_type {
    KILN_ATTR_BOOL,     /* uint32_t, 0 or 1; off by default */
    KILN_ATTR_ENUM,     /* uint32_t, an index into `names` */
    KILN_ATTR_I64,      /* int64_t */
    KILN_ATTR_F32,      /* float */
    KILN_ATTR_I64_SLOT, /* kiln_i64_value */
    KILN_ATTR_F32_SLOT, /* kiln_f32_value */
    KILN_ATTR_OFF       /* uint32_t, 1 switches off what is on by default: true in JSON is 0 here */
} kiln_attr_type;

/* The number zero in fields of type int64_t and float. The first is a number that no computation comes by;
 * the second is zero with a sign, which is dropped. */
#define KILN_ZERO_I64 (INT64_MIN + INT64_C(0x6b696c6e))
#define KILN_ZERO_F32 (-0.0f)

/* A value for a field, whatever it is: zero is spelled so that it stays zero. Any thread. */
static inline int64_t kiln_i64_given(int64_t value) {
    return value == 0 ? KILN_ZERO_I64 : value;
}
static inline float kiln_f32_given(float value) {
    /* By its bits: compilers that are told to ignore the sign of zero drop a comparison. */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = bits << 1 == 0 ? UINT32_C(0x80000000) : bits;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

/* An attribute that is either a constant (slot 0) or follows a slot: at run time `value` is what the slot
 * holds; at build time it is ignored when slot is not 0. All zero: the default. kiln_i64_const and the like
 * (kiln_graph.h) fill it. */
typedef struct kiln_i64_value {
    int64_t value;
    uint32_t slot;
    uint32_t given; /* 1: `value` counts also when it is 0. What kernels see is 0. */
} kiln_i64_value;

typedef struct kiln_f32_value {
    float value; /* KILN_ZERO_F32: the number zero */
    uint32_t slot;
} kiln_f32_value;

typedef struct kiln_attr {
    const char *name; /* as in JSON */
    kiln_attr_type type;
    uint32_t offset; /* offsetof in the op's attribute struct */
    double preset;   /* default: of a field that is 0 and of an absent JSON key; 0 for BOOL and OFF */
    double min, max; /* inclusive bounds of constants, which NaN never passes; both 0: unbounded */
    const char *const *names; /* ENUM: names of 0 … n_names-1 */
    uint32_t n_names;
    /* A field that is 0 is refused (KILN_ERROR_ARGUMENT) instead of holding `preset`: there is no usual
     * value. It then is the default of JSON and of attrs == NULL alone. */
    bool required;
} kiln_attr;

/* ---- infer: shapes and dtypes ----------------------------------------------------------------------- */

typedef struct kiln_infer {
    uint32_t n_in;              /* operands given, absent optional ones included */
    const kiln_desc *const *in; /* NULL where an optional operand is absent */
    const void *attrs;          /* the op's attribute struct, bounds already checked; NULL when it has none */
    kiln_desc *out;             /* fill dtype, ndim, dims of each output; dense strides are set afterwards */
    uint32_t n_out; /* preset to the descriptor's n_out; lower it when optional outputs are absent */
    /* Per output: -1 (fresh bytes), or the input whose bytes this output is: then the output takes that
     * input's whole description. */
    int32_t *alias;
    const void *reserved; /* for the kiln_infer_* calls */
} kiln_infer;

/* Records a failure in the graph, unless it remembers one; returns `status`, for `return kiln_infer_fail(…)`.
 * The text gets "node 'N' (op): " in front. Name operands, expected and actual numbers. */
KILN_API kiln_status kiln_infer_fail(const kiln_infer *infer, kiln_status status, const char *format, ...)
    KILN_PRINTF(3, 4);

/* The largest count of a dimension: n, or n times the maximum of its slot. For dimensions of the operands it
 * fits 63 bits: that was checked when their tensor was made. */
KILN_API int64_t kiln_infer_dim_max(const kiln_infer *infer, kiln_dim dim);

/* Shapes and dimensions as messages show them: "[n_tokens, 64]", "8*n_tokens"; slots by name.
 * Written to the buffer, cut where it ends; the buffer is returned. */
enum { KILN_SHAPE_TEXT_SIZE = 160 };
KILN_API const char *kiln_infer_shape_text(const kiln_infer *infer, const kiln_desc *desc,
                                           char buffer[KILN_SHAPE_TEXT_SIZE]);
KILN_API const char *kiln_infer_dim_text(const kiln_infer *infer, kiln_dim dim,
                                         char buffer[KILN_SHAPE_TEXT_SIZE]);

/* True when two dimensions are equal for every value of the symbols. */
static inline bool kiln_dim_equal(kiln_dim a, kiln_dim b) {
    uint32_t ids = UINT32_C(0xfffff); /* the rest of `slot` is the mark that kiln_sym puts there */
    return a.n == b.n && ((a.slot & ids) == (b.slot & ids) || a.n == 0);
}

/* ---- accesses: which bytes a node reads and writes -------------------------------------------------- */

typedef enum kiln_access_mode { KILN_READ = 1, KILN_WRITE = 2, KILN_READ_WRITE = 3 } kiln_access_mode;

enum { KILN_BOX_LEVELS = 3 };

/* A set of bytes: runs of `length` bytes starting at offset + Σ i_l·stride[l], 0 ≤ i_l < count[l]. Unused
 * levels have count 1 and stride 0. Half-open: [0,4) and [4,8) do not touch. */
typedef struct kiln_box {
    int64_t offset;
    int64_t length;
    int64_t count[KILN_BOX_LEVELS];
    int64_t stride[KILN_BOX_LEVELS];
} kiln_box;

typedef struct kiln_access_list kiln_access_list; /* collects what one node accesses */

typedef struct kiln_access_query {
    uint32_t n_in, n_out;
    const kiln_desc *const *in; /* NULL where absent */
    const kiln_desc *const *out;
    const void *attrs;
    kiln_access_list *list;
} kiln_access_query;

/* Adds an access to the whole of an operand (the strided set of bytes its description covers at the symbols'
 * maxima; of a view with four separate axes, the innermost with its gaps). `operand`: input i is i, output j
 * is n_in + j. An operand without bytes adds nothing. KILN_ERROR_ARGUMENT for an absent operand, one out of
 * range or an unknown mode, KILN_ERROR_MEMORY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_access_operand(const kiln_access_query *query, uint32_t operand,
                                                         kiln_access_mode mode);

/* The most elements that a dimension of the query's descriptions can have: n, or n times the symbol's
 * maximum. Boxes are for the maxima, like strides; dims[i].n alone is one row, not all, when the dimension is
 * a symbol. */
KILN_API int64_t kiln_access_dim_max(const kiln_access_query *query, kiln_dim dim);

/* Adds an access to some bytes of an operand; box->offset counts from the operand's first byte, and `box` is
 * copied. It must lie in the operand's storage, and may reach beyond the operand. A level with count 0 and
 * stride 0 counts as unused (count 1); a length of 0, or count 0 with a stride, is an empty box, and no
 * access. KILN_ERROR_ARGUMENT for an absent operand or one out of range, an unknown mode, negative numbers,
 * and bytes outside the operand's storage: the error of the bake names the operand and the numbers.
 * KILN_ERROR_MEMORY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_access_box(const kiln_access_query *query, uint32_t operand,
                                                     kiln_access_mode mode, const kiln_box *box);

/* The usual answer: reads every input whole, writes every output whole. Use it as `accesses`, or call it from
 * there. KILN_ERROR_MEMORY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_access_operands(const kiln_access_query *query);

/* ---- kernels: what a worker runs -------------------------------------------------------------------- */

/* One operand as a kernel sees it: always four dimensions, padded with 1s in front, so ne[3] is the innermost
 * count and nb[3] its stride. Counts are the values of this run, strides those of the maxima. */
typedef struct kiln_operand {
    unsigned char *data; /* NULL when the operand is absent */
    int64_t ne[KILN_MAX_DIMS];
    int64_t nb[KILN_MAX_DIMS];
    uint32_t dtype; /* kiln_dtype; KILN_DTYPE_NONE when absent */
    uint16_t ndim;  /* as built, before padding */
    uint16_t flat;  /* 1: at this run's counts its elements (blocks) lie one behind the other, without gaps */
} kiln_operand;

typedef struct kiln_args {
    uint32_t n_in, n_out;
    kiln_operand *in;
    kiln_operand *out;
    const void *attrs; /* slot values patched in */
} kiln_args;

/* What a worker hands to a kernel besides its arguments. */
typedef struct kiln_tile {
    int64_t first, last;    /* compute tiles first ≤ i < last */
    unsigned char *scratch; /* this worker's own bytes, 64-byte aligned; size as `scratch` asked */
    void *reserved;         /* for the kiln_tile_* calls */
    bool
        again; /* scratch is as this worker's call before left it, which was for the same node in the same run */
} kiln_tile;

/* Reports that row `row` met an index outside [0, limit); what counts as a row is the op's affair. The kernel
 * must have zeroed that row (or dropped the write), and goes on. The fence then holds KILN_ERROR_INDEX for
 * the first such row of the first such node in plan order. */
KILN_API void kiln_tile_bad_index(kiln_tile *tile, int64_t row, int64_t index, int64_t limit);

/* Reports a failure of the kernel's own with a text, cut at 255 bytes; the run stops, and the fence holds
 * KILN_ERROR_KERNEL with "node 'N' (op): " before it. Returns that status, for `return kiln_tile_fail(…)`. */
KILN_API kiln_status kiln_tile_fail(kiln_tile *tile, const char *format, ...) KILN_PRINTF(2, 3);

/* What computing all tiles costs, roughly: executors decide by it what is worth sharing among threads, never what comes
 * out. */
typedef struct kiln_cost {
    int64_t bytes; /* read and written, each counted once */
    int64_t ops;   /* multiply-adds, or what takes as long: an exponential or a division is about 8 */
} kiln_cost;

typedef struct kiln_kernel {
    const char *name; /* for dumps and messages */
    uint32_t cpu;     /* KILN_CPU_* features it needs, 0 for none */
    /* May it serve these arguments (dtypes, strides, counts at the maxima)? NULL: always. Data pointers are
     * not set when it is asked. */
    bool (*supports)(const kiln_args *args);
    /* Number of independent tiles for these counts, ≥ 0 (less is KILN_ERROR_OVERFLOW, more than 2³¹ - 1 in
     * one region KILN_ERROR_LIMIT, when the session is made or the run submitted). NULL: 1. Tiles may run in
     * any order, at once, on any worker; results must not depend on that. It is asked again when counts change: data, and
     * attributes that follow a slot, are not to be read. */
    int64_t (*tiles)(const kiln_args *args);
    /* Bytes of scratch a worker needs, at the maxima. NULL: none. Negative: overflow. */
    int64_t (*scratch)(const kiln_args *args);
    /* Computes the tiles. Anything but KILN_OK ends the run, whose fence then holds KILN_ERROR_KERNEL. Not
     * NULL. */
    kiln_status (*run)(const kiln_args *args, kiln_tile *tile);
    /* For the counts of this run, asked with `tiles`; data is not to be read, and an attribute that follows a slot may be
     * of an earlier run. NULL: not known; a microsecond per tile is assumed, and tiles that take much less are shared for
     * nothing. */
    kiln_cost (*cost)(const kiln_args *args);
} kiln_kernel;

enum {
    KILN_CPU_AVX2 = 1 << 0,   /* AVX2, FMA, F16C, BMI2 */
    KILN_CPU_AVX512 = 1 << 1, /* AVX-512 F, BW, CD, DQ, VL, VNNI */
};

/* ---- check: what the values of slots show ------------------------------------------------------------ */

/* What an op's `check` is handed. For its functions below: on the thread that called `check`, until it
 * returns. */
typedef struct kiln_check {
    const kiln_args *args; /* counts and attributes of the run that is to begin; `data` is not to be read */
    void *reserved;        /* for the kiln_check_* calls */
} kiln_check;

/* Refuses the run; returns KILN_ERROR_LIMIT, for `return kiln_check_fail(…)`. Say what does not fit, with
 * numbers, and what to set. The text gets "node 'N' (op): " in front, and after it the slots that the node
 * follows, with their values. Cut at 255 bytes. */
KILN_API kiln_status kiln_check_fail(const kiln_check *check, const char *format, ...) KILN_PRINTF(2, 3);

/* Does the count of an operand along an axis follow a slot? `operand`: input i is i, output j is n_in + j;
 * `axis`: 0 … 3, as of kiln_operand. False for an operand that is absent or out of range. */
KILN_API bool kiln_check_count_follows(const kiln_check *check, uint32_t operand, uint32_t axis);

typedef struct kiln_rows_held {
    int64_t rows; /* those along the axis, from the operand's first, that hold something; -1: not known */
    bool moves;   /* where they are appended, or how many, follows a slot */
} kiln_rows_held;

/* How many rows of an input hold something when the node runs: the furthest that nodes before it in the graph
 * have appended (`rows_held` of their ops), at the present values of slots. Not known where none appends to
 * these bytes, where anything else may write them, and where rows along `axis` are not those that are
 * appended. */
KILN_API kiln_rows_held kiln_check_rows_held(const kiln_check *check, uint32_t operand, uint32_t axis);

/* ---- the descriptor --------------------------------------------------------------------------------- */

typedef struct kiln_inplace {
    uint8_t out, in;
} kiln_inplace;

typedef struct kiln_op {
    const char *name; /* unique within an op set; as in JSON */
    const char *text; /* one line for people: what it computes */

    const char *const *in_names; /* operands' names, n_in_max of them; with `variadic` the last one repeats */
    uint32_t n_in_min, n_in_max; /* required operands come first, optional ones after */
    bool variadic; /* any number of operands from n_in_min up; those behind n_in_max are like the last */
    const char *const *out_names;
    uint32_t n_out; /* 8 at most; infer may lower it */

    const kiln_attr *attrs;
    uint32_t n_attrs;
    uint32_t attrs_size; /* sizeof the attribute struct, at most 256; 0 when there is none */

    /* Checks operands and attributes and describes the outputs; a status other than KILN_OK refuses the node.
     * Its answer must follow from these alone: it may be asked once for many nodes with equal ones. Not NULL. */
    kiln_status (*infer)(kiln_infer *infer);
    /* Declares all bytes that the kernels touch; a status other than KILN_OK is what kiln_bake returns. NULL
     * fails closed: the node is taken to read and write all memory there is.
     * Every operand that is given and has bytes is named by at least one access, every output by one that
     * writes. For an output that `infer` puts on an operand's bytes, a write of either operand serves. Where
     * the kernels touch nothing of an operand, an access with an empty box says so. Else kiln_bake returns
     * KILN_ERROR_ARGUMENT: an operand that was forgotten would be read before it is written. */
    kiln_status (*accesses)(const kiln_access_query *query);

    /* Pairs where the output may take the place of the input's dying bytes, given the same size and strides:
     * each tile reads an element of the input only before it writes the same element of the output. */
    const kiln_inplace *inplace;
    uint32_t n_inplace;

    const kiln_kernel
        *kernels; /* plainest first; the last one supported wins; none: no session can be made */
    uint32_t n_kernels;

    /* Refuses what the values of slots show to be impossible: KILN_OK, or what kiln_check_fail returned.
     * NULL: nothing is. It is asked when a run is submitted after an integer slot has changed, for nodes that
     * follow a slot, or whose inputs were appended to at one; once for nodes that are alike. It must be
     * quick, and allocate nothing. */
    kiln_status (*check)(const kiln_check *check);
    /* Of an op that appends rows to its first output, which lies on its first operand: how many of the
     * operand's outermost rows hold something after it, at these counts and attributes; -1: not known. `data`
     * is not to be read. NULL: the op does not append. */
    int64_t (*rows_held)(const kiln_args *args);
} kiln_op;

/* A set of ops, for the JSON loader (there is no registry). `kiln_ops_builtin()` gives Kiln's own. */
typedef struct kiln_op_set {
    const kiln_op *const *ops;
    size_t count;
} kiln_op_set;

#ifdef __cplusplus
}
#endif
#endif
