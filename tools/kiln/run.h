/* What the parts of `kiln run` share: cmd_run.c runs them one after the other. */
#ifndef KILN_TOOLS_RUN_H
#define KILN_TOOLS_RUN_H

#include "common.h"
#include "tools/npy/npy.h"

typedef struct run_options {
    const char *weights, *dump, *trace;
    arg_list inputs, outputs, slots;
    int64_t threads;
    bool warm;
    plan_args plan;
} run_options;

/* A tensor of an input, weight or output storage that no other tensor of that storage holds: what is filled,
 * or shown. Most storages have one. The names of tensors only decide between dense ones of the same bytes. */
typedef struct run_part {
    kiln_storage_info storage;
    kiln_tensor tensor;
    kiln_tensor_info info;
    bool dense;         /* its elements lie in row-major order, without gaps */
    bool only;          /* of its storage, for which it then stands */
    const char *source; /* what --input says of it; NULL: it is not given */
    kiln_npy npy;       /* data NULL when it is not from a file */
} run_part;

typedef struct runner {
    const run_options *opt;
    char *text; /* of the graph's file */
    kiln_graph *graph;
    kiln_plan *plan;
    kiln_executor *executor;
    kiln_session *session;
    kiln_gguf *gguf;
    bool random_weights;
    int64_t weights_seed;
    kiln_state_buffer **states;
    size_t n_states;
    void **owned; /* memory of weights that are not used where the file has them */
    size_t n_owned;
    run_part *parts; /* by storage, in order of their offsets */
    size_t n_parts;
    run_part **outputs;         /* by --output option: what it writes */
    int64_t *slots;             /* values of integer slots, by id */
    kiln_slot_info *slot_infos; /* by id */
    size_t slots_end;           /* one more than the largest id */
} runner;

#define RUN_UNSET INT64_MIN

/* The functions below return exit codes: anything but EXIT_OK after having said why. */

/* ---- run_parts.c: which tensors storages hold ------------------------------------------------------- */

/* Fills r->parts from r->plan. */
int run_find_parts(runner *r);

/* Finds what NAME, `length` bytes at `name`, stands for: with `output` an output, else an input or weight.
 * That is a storage with one part; of a storage with several parts the one that has its name too; where no
 * storage is called so, a part by its own name. With `all` not NULL a storage with several parts gives the
 * first of them, and *all is set. */
int run_part_named(runner *r, const char *name, size_t length, bool output, run_part **out, bool *all);

/* "NAME=REST": the length of NAME, and REST or NULL. Names may hold '=' but the last part does not. */
const char *run_split(const char *text, size_t *length);

/* "x", or "'low' of x" for one of several parts of x. */
enum { RUN_LABEL_SIZE = 320 };
const char *run_part_label(const run_part *p, char buffer[RUN_LABEL_SIZE]);

/* How many elements a part has at the present slot values; for block types, blocks. `counts` of each
 * dimension. */
int64_t run_elements(const runner *r, const run_part *p, int64_t counts[KILN_MAX_DIMS]);
/* Where element `i` (row-major) lies, in bytes from the part's first. */
int64_t run_byte_of(const run_part *p, const int64_t *counts, int64_t i);

/* ---- run_slots.c ------------------------------------------------------------------------------------ */

/* Lists the slots of the plan, none of them set. */
int run_list_slots(runner *r);
/* What --set says. */
int run_set_slots(runner *r);
/* What the shape of a part's file says of the symbols in the part's shape; and whether it fits. */
int run_infer_slots(runner *r, const run_part *p);
/* Symbols of which nothing is known take their maximum, other slots keep their minimum; the session gets
 * all. */
int run_apply_slots(runner *r);

/* ---- run_feed.c ------------------------------------------------------------------------------------- */

/* Reads what --input and --weights name; before slots are applied. */
int run_read_inputs(runner *r);
/* Fills inputs, binds weights and states; after slots are applied. */
int run_feed(runner *r);

/* ---- run_outputs.c ---------------------------------------------------------------------------------- */

/* Can everything be written that the command line names? Before the run, which may take long. */
int run_check_outputs(runner *r, const char *graph);
/* Writes the outputs named, then prints a line about each. */
int run_put_outputs(const runner *r);

#endif
