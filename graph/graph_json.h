/* A graph as a part of a larger JSON text, such as a plan dump. Internal. */
#ifndef KILN_GRAPH_JSON_H
#define KILN_GRAPH_JSON_H

#include "json_read.h"
#include "json_write.h"
#include "graph.h"

/* Puts the graph object as the writer's next value, at whatever level it stands. Failures of the writer
 * itself stay in it. Errors: KILN_ERROR_ARGUMENT (an enum attribute holds a value without a name). */
KILN_MUST_CHECK kiln_status kiln__graph_put_json(kiln__json_writer *w, const kiln_graph *g,
                                                 kiln_error *error);

/* Builds a graph from a graph object; errors as kiln_graph_from_json, with the paths of the whole text.
 * `limits` are resolved. */
KILN_MUST_CHECK kiln_status kiln__graph_get_json(const kiln__json *value, kiln_op_set ops,
                                                 const kiln_json_limits *limits,
                                                 const kiln_allocator *allocator, kiln_graph **out,
                                                 kiln_error *error);

/* The limits with the defaults of kiln_json.h for every 0 (all of them for NULL), and what they mean to the
 * scan. */
kiln_json_limits kiln__json_limits_resolve(const kiln_json_limits *limits);
kiln__json_caps kiln__json_limits_caps(const kiln_json_limits *resolved);

/* The latest version of graphs and plan dumps, which is the first to have computed slots. */
enum { KILN__JSON_VERSION = 2 };

/* The version that a graph is written as: the lowest that can hold it. */
int64_t kiln__graph_json_version(const kiln_graph *g);

/* Reads "format" and "version" of a document: one of `formats` (index to *which), and 1 to
 * KILN__JSON_VERSION. */
KILN_MUST_CHECK kiln_status kiln__json_check_format(const kiln__json *object, const char *const *formats,
                                                    size_t n, size_t *which, int64_t *version,
                                                    kiln_error *error);

#endif
