/* Reading JSON with the place in every message: strict accessors over the tree of a text. Internal: graph/
 * and capture/ use it.
 *
 *     kiln__json_doc doc;
 *     status = kiln__json_open(&doc, text, size, &caps, &allocator, error);
 *     kiln__json root = kiln__json_root(&doc), version;
 *     status = kiln__json_members(&root, (kiln__json_field[]){{"version", &version, true}}, 1, error);
 *     status = kiln__json_get_i64(&version, 1, 1, &number, error);
 *     kiln__json_close(&doc);
 *
 * Statuses, unless a function says otherwise: KILN_ERROR_FORMAT with a text like
 * "$.nodes[3].attrs.k: expected an integer in 1…8, got \"x\"". One thread at a time per document.
 */
#ifndef KILN_JSON_READ_H
#define KILN_JSON_READ_H

#include "fp_mode.h"
#include "json_tree.h"

typedef struct kiln__json_doc {
    kiln__json_tree tree;
    kiln_allocator allocator;
    kiln__fp mode; /* the host's, from open to close */
} kiln__json_doc;

/* A value and where it stands. It points to its container's kiln__json, which must live as long. */
typedef struct kiln__json {
    const kiln__json_item *item; /* NULL: absent */
    const struct kiln__json *up;
    size_t index; /* in its container */
} kiln__json;

/* Scans, builds the tree, and refuses duplicate keys. The text must live until the document is closed;
 * `allocator` (NULL: malloc) serves the tree. After a failure there is nothing to close.
 * Errors: those of kiln__json_scan; KILN_ERROR_FORMAT ("$.a.b: duplicate key"); KILN_ERROR_MEMORY. */
KILN_MUST_CHECK kiln_status kiln__json_open(kiln__json_doc *doc, const char *text, size_t size,
                                            const kiln__json_caps *caps, const kiln_allocator *allocator,
                                            kiln_error *error);
void kiln__json_close(kiln__json_doc *doc);
kiln__json kiln__json_root(const kiln__json_doc *doc);

/* Fills `error` with the value's path, ": " and the text; returns `status`. */
kiln_status kiln__json_fail(const kiln__json *value, kiln_status status, kiln_error *error,
                            const char *format, ...) KILN_PRINTF(4, 5);

/* The same with "PATH: expected WHAT, got VALUE" and KILN_ERROR_FORMAT. */
kiln_status kiln__json_fail_type(const kiln__json *value, const char *expected, kiln_error *error);

/* A value for messages: as the text spells it, "an array" or "an object". Returns `buffer`. */
enum { KILN__JSON_QUOTE_SIZE = 64 };
const char *kiln__json_show(const kiln__json *value, char buffer[KILN__JSON_QUOTE_SIZE]);

/* A text for messages: quoted, cut to about 40 bytes, control characters escaped. Returns `buffer`. */
const char *kiln__json_quote(const char *text, char buffer[KILN__JSON_QUOTE_SIZE]);

/* ---- containers ------------------------------------------------------------------------------------- */

typedef struct kiln__json_field {
    const char *key;
    kiln__json *value; /* receives the member; item NULL when it is absent */
    bool required;
} kiln__json_field;

/* Takes an object apart. Every key must be one of `fields`. */
KILN_MUST_CHECK kiln_status kiln__json_members(const kiln__json *object, const kiln__json_field *fields,
                                               size_t n, kiln_error *error);

/* One member of an object, whatever others there are; item NULL when it is absent or this is no object. */
kiln__json kiln__json_member(const kiln__json *object, const char *key);

/* Checks that the value is an array of `least` to `most` elements and counts them: KILN_ERROR_LIMIT when
 * there are more than `most`. */
KILN_MUST_CHECK kiln_status kiln__json_count(const kiln__json *array, size_t least, size_t most,
                                             size_t *count, kiln_error *error);

/* for (kiln__json v = kiln__json_first(&array); v.item != NULL; kiln__json_next(&v)), also over an object. */
kiln__json kiln__json_first(const kiln__json *container);
void kiln__json_next(kiln__json *value);
/* Key of a member of an object. */
const char *kiln__json_key_of(const kiln__json *value);

bool kiln__json_is_null(const kiln__json *value);
bool kiln__json_is_object(const kiln__json *value);
bool kiln__json_is_array(const kiln__json *value);
bool kiln__json_is_string(const kiln__json *value);

/* ---- scalars ---------------------------------------------------------------------------------------- */

/* Are these the same null, truth value, number or string? Spelling does not count: 64 and 64.0 are the same,
 * and so are the two forms of what may stand in a string (large integers, -0). 0 and -0 differ. False where
 * either is a container. */
bool kiln__json_same_scalar(const kiln__json *a, const kiln__json *b);

KILN_MUST_CHECK kiln_status kiln__json_get_bool(const kiln__json *value, bool *out, kiln_error *error);

/* An integer within min … max: digits up to ±(2⁵³ − 1), or in a string up to the whole of int64. A number
 * with a point or an exponent is taken where it is integral (64.0, 1e3) and below 10¹⁴, or below 2⁵² with 16
 * digits or more. Others are refused: programs that hold numbers as doubles print larger integers so, and may
 * have rounded them. */
KILN_MUST_CHECK kiln_status kiln__json_get_i64(const kiln__json *value, int64_t min, int64_t max,
                                               int64_t *out, kiln_error *error);

/* A number, or "NaN", "Infinity", "-Infinity", "-0.0". A finite number that the type cannot hold is
 * refused. */
KILN_MUST_CHECK kiln_status kiln__json_get_f64(const kiln__json *value, double *out, kiln_error *error);
KILN_MUST_CHECK kiln_status kiln__json_get_f32(const kiln__json *value, float *out, kiln_error *error);

/* A string of at most `most` bytes; valid until the document is closed. */
KILN_MUST_CHECK kiln_status kiln__json_get_string(const kiln__json *value, size_t most, const char **out,
                                                  kiln_error *error);

/* A string that is one of names[0 .. n); entries may be NULL. */
KILN_MUST_CHECK kiln_status kiln__json_get_enum(const kiln__json *value, const char *const *names, size_t n,
                                                size_t *out, kiln_error *error);

#endif
