/* Graphs as JSON text: written deterministically, and read back strictly. The schema is described, field by
 * field, in graph/JSON.md.
 *
 * A graph that is written, read and written again gives the same bytes. What a text does not hold: the memory
 * bound with kiln_storage_data, and generations; the reader's caller binds by name again.
 *
 * Reading and writing keep nothing between calls; different texts and graphs are independent, on any threads.
 */
#ifndef KILN_JSON_H
#define KILN_JSON_H

#include "kiln_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- writing ---------------------------------------------------------------------------------------- */

/* A text that Kiln wrote: `size` bytes of UTF-8 at `data`, with a NUL behind them that is not counted. */
typedef struct kiln_json_text {
    char *data;
    size_t size;
    size_t capacity;          /* bytes allocated */
    kiln_allocator allocator; /* where `data` came from */
} kiln_json_text;

/* Frees the text and zeroes the struct; NULL and a zeroed struct are allowed. Any thread that may use the
 * allocator. */
KILN_API void kiln_json_text_free(kiln_json_text *text);

typedef struct kiln_json_options {
    bool compact; /* (false) one line without spaces, instead of a line per slot, storage, tensor and node */
    kiln_allocator allocator; /* (zeroed: malloc) for the text; must outlive it */
} kiln_json_options;

/* Writes a graph, as the lowest version of the format that holds it: 2 when a slot is computed
 * (kiln_slot_sum), else 1. Both are read. `options` may be NULL for the defaults. *out is the caller's, to be
 * freed with kiln_json_text_free; it is zeroed on failure. Names are written as they are; bytes that are not
 * valid UTF-8 come out as U+FFFD. From the graph's thread. Errors: KILN_ERROR_ARGUMENT (graph or out is NULL;
 * an enum attribute holds a value without a name), KILN_ERROR_MEMORY, and the error that the graph remembers,
 * if there is one. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_to_json(const kiln_graph *graph,
                                                        const kiln_json_options *options, kiln_json_text *out,
                                                        kiln_error *error);

/* Receives a text piece by piece, in order; false stops the writing. */
typedef bool (*kiln_json_sink)(void *context, const char *data, size_t size);

/* The same text, handed to `sink` in pieces of at most 1024 bytes instead of being collected; allocates
 * nothing. Errors: as above, KILN_ERROR_ARGUMENT also when sink is NULL, and KILN_ERROR_CANCELLED when the
 * sink returned false; then the sink has received only a beginning. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_to_json_sink(const kiln_graph *graph,
                                                             const kiln_json_options *options,
                                                             kiln_json_sink sink, void *context,
                                                             kiln_error *error);

/* ---- reading ---------------------------------------------------------------------------------------- */

/* Caps on what a text may cost. 0 stands for the default. bytes, depth and values are checked before any of
 * the text is parsed, the others before anything is built from it. */
typedef struct kiln_json_limits {
    size_t bytes;      /* of text (64 MiB) */
    uint32_t depth;    /* of arrays and objects within each other (32; at most 512) */
    size_t values;     /* JSON values, each of which costs 40 bytes while reading (4 million) */
    uint32_t slots;    /* (65,536) */
    uint32_t storages; /* (1,048,576) */
    uint32_t tensors;  /* (1,048,576) */
    uint32_t nodes;    /* (262,144) */
} kiln_json_limits;

/* Builds a graph from `size` bytes of text, which need no NUL and are not kept. The text is a graph
 * ({"format": "kiln.graph", ...}) or a plan dump ({"format": "kiln.plan", "graph": {...}, ...}), whose graph
 * is taken. Ops are looked up by name in `ops`; their descriptors must outlive the graph. `limits` NULL: the
 * defaults. `allocator` NULL: malloc; it must outlive the graph. *out is the caller's to destroy; NULL on
 * failure. Any thread: 32 KiB of stack suffice, however deep the text is, since nothing recurses.
 *
 * Nothing in the text is trusted: grammar, UTF-8, unknown and duplicate keys, references, ranges, shapes
 * (inferred again and compared) and the order of nodes are checked, and the error names the place, as in
 * "$.nodes[3].attrs.k: expected an integer in 1…8, got \"x\"".
 * Errors: KILN_ERROR_FORMAT (the text is not JSON, or not this schema), KILN_ERROR_UNSUPPORTED (another
 * version), KILN_ERROR_LIMIT (a cap), KILN_ERROR_ARGUMENT (text or out is NULL; an attribute that the op
 * refuses), KILN_ERROR_SHAPE, KILN_ERROR_DTYPE, KILN_ERROR_OVERFLOW (what a tensor or a node says is not
 * possible), and KILN_ERROR_MEMORY. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_from_json(const char *text, size_t size, kiln_op_set ops,
                                                          const kiln_json_limits *limits,
                                                          const kiln_allocator *allocator, kiln_graph **out,
                                                          kiln_error *error);

#ifdef __cplusplus
}
#endif
#endif
