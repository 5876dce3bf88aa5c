/* A streaming JSON writer: values go out as they are put, into a growing buffer or to a caller's sink. The
 * same calls give the same bytes, on every machine and in every locale. Internal: graph/ and capture/ use it.
 *
 *     kiln__json_writer w;
 *     kiln__json_writer_init(&w, &allocator, false);
 *     kiln__json_begin_object(&w, KILN_JSON_LINES);
 *     kiln__json_key(&w, "version");
 *     kiln__json_put_i64(&w, 1);
 *     kiln__json_end(&w);
 *     status = kiln__json_writer_finish(&w, &text, error);
 *
 * Errors are remembered: after the first, every call does nothing, and `finish` reports it. A writer that was
 * initialised must be finished, which frees what it holds. One thread at a time.
 */
#ifndef KILN_JSON_WRITE_H
#define KILN_JSON_WRITE_H

#include "fp_mode.h"
#include "kiln_json.h"

/* How the members of a container are laid out: one per line, indented by two spaces per level, or all on the
 * line where the container begins. Within an INLINE container everything is inline. */
typedef enum kiln__json_layout { KILN_JSON_INLINE, KILN_JSON_LINES } kiln__json_layout;

enum { KILN__JSON_NESTING = 32, KILN__JSON_CHUNK = 1024 };

typedef struct kiln__json_writer {
    kiln_allocator allocator;
    kiln_json_sink sink; /* NULL: `text` grows instead */
    void *context;
    struct {
        char *items;
        size_t count, capacity;
    } text;
    size_t chunked; /* bytes waiting in `chunk` for the sink */
    kiln__fp mode;  /* the host's, between init and finish */
    kiln_status status;
    bool compact;   /* no line breaks or spaces at all */
    bool after_key; /* a key is written and its value is due */
    bool done;      /* the outermost value is complete */
    uint32_t depth;
    struct {
        bool object, lines, used;
    } level[KILN__JSON_NESTING];
    char chunk[KILN__JSON_CHUNK];
} kiln__json_writer;

/* Into a buffer from `allocator` (NULL: malloc). */
void kiln__json_writer_init(kiln__json_writer *w, const kiln_allocator *allocator, bool compact);

/* Into a sink, in pieces of at most KILN__JSON_CHUNK bytes; allocates nothing. */
void kiln__json_writer_init_sink(kiln__json_writer *w, kiln_json_sink sink, void *context, bool compact);

/* Ends the text with a line break (unless compact) and hands it over: `out` is the caller's to free with
 * kiln_json_text_free; it must be NULL with a sink. On an error the buffer is freed and *out zeroed.
 * Errors: KILN_ERROR_MEMORY, KILN_ERROR_CANCELLED (the sink returned false); KILN_ERROR_ARGUMENT (calls that
 * do not make one JSON value, or more than KILN__JSON_NESTING levels). */
KILN_MUST_CHECK kiln_status kiln__json_writer_finish(kiln__json_writer *w, kiln_json_text *out,
                                                     kiln_error *error);

void kiln__json_begin_object(kiln__json_writer *w, kiln__json_layout layout);
void kiln__json_begin_array(kiln__json_writer *w, kiln__json_layout layout);
void kiln__json_end(kiln__json_writer *w); /* of the innermost container */

/* The key of the next value, in an object. */
void kiln__json_key(kiln__json_writer *w, const char *key);

void kiln__json_put_null(kiln__json_writer *w);
void kiln__json_put_bool(kiln__json_writer *w, bool value);
/* Beyond ±(2⁵² − 1), where programs that hold numbers as doubles may change them, the digits go out as a
 * string. */
void kiln__json_put_i64(kiln__json_writer *w, int64_t value);
bool kiln__json_is_plain_i64(int64_t value); /* is it a number there, not a string? */
void kiln__json_put_u64(kiln__json_writer *w, uint64_t value);
/* The fewest digits that read back as the same value; "NaN", "Infinity", "-Infinity" and "-0.0" as
 * strings. */
void kiln__json_put_f32(kiln__json_writer *w, float value);
void kiln__json_put_f64(kiln__json_writer *w, double value);
/* UTF-8 goes out as it is, each byte that is not part of valid UTF-8 as U+FFFD; control characters, quotes
 * and backslashes are escaped. */
void kiln__json_put_string(kiln__json_writer *w, const char *text, size_t size);
void kiln__json_put_cstring(kiln__json_writer *w, const char *text);

/* The text of a number as put_f32 and put_f64 write it, NUL-terminated, words without quotes. Returns its
 * length. */
enum { KILN__JSON_NUMBER_SIZE = 40 };
size_t kiln__json_format_f32(float value, char buffer[KILN__JSON_NUMBER_SIZE]);
size_t kiln__json_format_f64(double value, char buffer[KILN__JSON_NUMBER_SIZE]);

#endif
