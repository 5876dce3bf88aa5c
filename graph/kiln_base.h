/* Kiln base: status codes, errors and the allocator. Everything else in Kiln includes this header.
 *
 * Conventions that hold for the whole library:
 * - Every call that can fail returns a `kiln_status` and takes a `kiln_error *` that may be NULL. When it
 *   is not NULL it receives a text naming what was wrong (node, op, tensor, expected, actual).
 * - Nothing aborts, prints, exits, reads the environment or opens a file. There is no global mutable state.
 * - Objects come from `kiln_X_create` and go with `kiln_X_destroy`, which accepts NULL. A call that makes an
 *   object sets `*out` to NULL when it fails.
 * - An object pointer (graph, plan, session, executor, capture, state buffer) must not be NULL unless a
 *   comment allows it; creating, baking, submitting and the JSON calls answer NULL with KILN_ERROR_ARGUMENT,
 *   the others do not look.
 * - An array or struct that a call is shown is read during the call and not kept, unless a comment says so.
 * - Texts that are handed out are UTF-8.
 */
#ifndef KILN_BASE_H
#define KILN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define KILN_API
#elif defined(__GNUC__)
#define KILN_API __attribute__((visibility("default")))
#else
#define KILN_API
#endif

#if defined(__GNUC__)
#define KILN_MUST_CHECK      __attribute__((warn_unused_result))
#define KILN_PRINTF(fmt, va) __attribute__((format(printf, fmt, va)))
#else
#define KILN_MUST_CHECK
#define KILN_PRINTF(fmt, va)
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define KILN_VERSION_MAJOR 0
#define KILN_VERSION_MINOR 1
#define KILN_VERSION_PATCH 0

/* What went wrong, as a class. The text in `kiln_error` says the particulars. */
typedef enum kiln_status {
    KILN_OK = 0,
    KILN_ERROR_ARGUMENT,    /* a call was used wrongly: NULL, an unknown handle, a call out of order */
    KILN_ERROR_SHAPE,       /* dimensions do not fit the op, or each other */
    KILN_ERROR_DTYPE,       /* a dtype the op does not take, or may not compute with */
    KILN_ERROR_OVERFLOW,    /* a size does not fit 63 bits */
    KILN_ERROR_MEMORY,      /* the allocator returned NULL; the object is as it was before the call */
    KILN_ERROR_UNSUPPORTED, /* a legal request that this build, machine or executor cannot serve */
    KILN_ERROR_FORMAT,      /* a file or text is malformed */
    KILN_ERROR_LIMIT,       /* a stated cap was exceeded (depth, bytes, nodes, a slot's maximum) */
    KILN_ERROR_BINDING,     /* a binding is missing, too small, misaligned, or overlaps another */
    KILN_ERROR_STALE,       /* a plan no longer matches the graph it is asked to run */
    KILN_ERROR_BUSY,        /* the object is running; try again when its fence is done (transient) */
    KILN_ERROR_DIRTY,       /* a state may be half written: restore it, then acknowledge */
    KILN_ERROR_INDEX,       /* an index read from data was out of range; its row was zeroed or dropped */
    KILN_ERROR_CANCELLED,   /* the run was cancelled (transient) */
    KILN_ERROR_TIMEOUT,     /* the wait timed out; the run goes on (transient) */
    KILN_ERROR_KERNEL,      /* a kernel reported a failure of its own */
    KILN_ERROR_NUMERIC,     /* an observer found NaN or Inf and stopped the run */
    KILN_ERROR_SYSTEM,      /* the operating system refused a thread or a mapping */
    KILN_STATUS_COUNT
} kiln_status;

/* The name of a status, e.g. "KILN_ERROR_SHAPE"; "KILN_UNKNOWN" for a value outside the enum. Any thread. */
KILN_API const char *kiln_status_name(kiln_status status);

/* One plain sentence for a status. Static text, never NULL. Any thread. */
KILN_API const char *kiln_status_text(kiln_status status);

/* True when the same call may succeed later without any change (BUSY, CANCELLED, TIMEOUT, MEMORY); false for
 * KILN_OK and for a value outside the enum. Any thread. */
KILN_API bool kiln_status_is_transient(kiln_status status);

#define KILN_ERROR_TEXT_SIZE 512

/* Caller-owned. A call that fails fills it, one that succeeds leaves it alone. Long texts are cut, ending in
 * "...". Always NUL-terminated, and valid UTF-8 without control characters: other bytes are written as \xNN
 * each. */
typedef struct kiln_error {
    kiln_status status;
    char text[KILN_ERROR_TEXT_SIZE];
} kiln_error;

/* Fills `error` (NULL allowed) with `status` and a formatted text, and returns `status`, so that code reads
 * `return kiln_error_set(error, KILN_ERROR_SHAPE, "...")`. For custom ops and for programs built on Kiln.
 * What the arguments point to must not be error->text itself. Any thread, one at a time per `error`. */
KILN_API kiln_status kiln_error_set(kiln_error *error, kiln_status status, const char *format, ...)
    KILN_PRINTF(3, 4);

/* An allocator. `alloc` returns `size` bytes aligned to `align` (a power of two), or NULL; they need not be
 * zeroed. `free` receives a pointer that is not NULL and the size that was asked for.
 * NULL in place of an allocator, or a zeroed struct, stands for `kiln_allocator_default()`.
 *
 * Lifetime: the struct is copied. What it points to must outlive every object that takes memory from it:
 * - a graph's: the graph and all plans baked from it, until their last reference is gone (sessions hold one);
 * - an executor's: the executor, which outlives its sessions (they take memory for their runs from it);
 * - a session's, a state buffer's, a JSON text's: that object;
 * - a capture's: the capture, with its graph, plans and sessions.
 *
 * Threads: both functions are called inside calls into Kiln only, by the thread that makes the call, never by
 * a worker and never during a run. But calls on different objects may come from several threads at once:
 * sessions made or destroyed on one executor, graphs with one allocator, plans of one graph released. Then
 * the functions must be thread-safe, as malloc is. They must not call into Kiln. */
typedef struct kiln_allocator {
    void *context;
    void *(*alloc)(void *context, size_t size, size_t align);
    void (*free)(void *context, void *pointer, size_t size);
} kiln_allocator;

/* malloc, aligned_alloc and free of the C library; thread-safe. Any thread. */
KILN_API kiln_allocator kiln_allocator_default(void);

/* Library version as "0.1.0". Static. Any thread. */
KILN_API const char *kiln_version(void);

#ifdef __cplusplus
}
#endif
#endif
