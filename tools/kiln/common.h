/* What several commands share: messages, progress, files, the options of a plan. */
#ifndef KILN_TOOLS_COMMON_H
#define KILN_TOOLS_COMMON_H

#include "args.h"
#include "kiln_json.h"
#include "kiln_plan.h"
#include "tools/llm/llama.h"

#include <stdio.h>

/* ---- messages: all of them on stderr ---------------------------------------------------------------- */

/* "kiln: TEXT", and on a second line what to try, unless `hint` is NULL. Returns EXIT_FAILED. */
int fail(const kiln_error *error, const char *hint);
int fail_text(const char *hint, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Flushes stdout. False when something that was printed did not arrive, after having said why, once. */
bool flush_stdout(void);
/* The same; EXIT_OK becomes EXIT_FAILED. */
int finish_stdout(int code);

/* A counter on one line of a terminal; nothing at all when stderr is no terminal. */
typedef struct progress {
    const char *label;
    int64_t total, shown_ns;
    bool on;
} progress;
progress progress_start(const char *label, int64_t total);
void progress_update(progress *p, int64_t done);
void progress_end(progress *p); /* clears the line */

int64_t now_ns(void);

/* "1.5 MiB" */
const char *bytes_text(int64_t bytes, char buffer[32]);

/* ---- files ------------------------------------------------------------------------------------------ */

/* The bytes of a file, from malloc; "-" is stdin. False after having said why. */
bool read_file(const char *path, char **data, size_t *size);
/* "-" is stdout. A regular file is replaced only by a whole one; a pipe or device is written.
 * False after having said why. */
bool write_file(const char *path, const void *data, size_t size);

/* An output must not be the file that is read: EXIT_FAILED after having said so.
 * Either may be NULL or "-". */
int refuse_same(const char *output, const char *input);
int refuse_both(const char *output, const char *other);      /* two outputs in one file; either may be NULL */
int refuse_model(const char *output, const kiln_gguf *gguf); /* any part of it; NULL: none */

typedef enum file_kind { FILE_BAD, FILE_GGUF, FILE_JSON } file_kind;
/* By its first bytes. What is JSON is read whole, since a pipe cannot be read twice: *text is from malloc.
 * "-" is stdin. With text NULL it is only looked at. FILE_BAD after having said why. */
file_kind input_open(const char *path, char **text, size_t *size);

/* ---- plans ------------------------------------------------------------------------------------------ */

typedef struct plan_args {
    int exact;                            /* position in mode_names; -1: not given */
    bool no_fuse, no_reuse, serial, time; /* time: tapped for KILN_WATCH_TIME */
    int64_t max_arena;                    /* -1: not given */
} plan_args;
#define PLAN_ARGS_NONE                                                                                       \
    { .exact = -1, .max_arena = -1 }
extern const char *const mode_names[]; /* "fast", "exact" */

/* Rows for an option table. */
#define PLAN_OPTIONS(p)                                                                                      \
    {"mode",                                                                                                 \
     'm',                                                                                                    \
     ARG_CHOICE,                                                                                             \
     "exact|fast",                                                                                           \
     "exact keeps activations f32; fast (default) rounds them\nfor integer dot products with quantised "     \
     "weights",                                                                                              \
     &(p).exact,                                                                                             \
     0,                                                                                                      \
     0,                                                                                                      \
     mode_names},                                                                                            \
        {"no-fuse", 0, ARG_FLAG, NULL, "do not fuse ops", &(p).no_fuse, 0, 0, NULL},                         \
        {"no-reuse",    0, ARG_FLAG, NULL, "give every intermediate bytes of its own",                       \
         &(p).no_reuse, 0, 0,        NULL},                                                                  \
        {"serial", 0, ARG_FLAG, NULL, "one op per region, in program order", &(p).serial, 0, 0, NULL}, {     \
        "max-arena", 0, ARG_BYTES, "BYTES",                                                                  \
            "cap on intermediates (65536, 64K, 1M, 2G); regions are\nadded where it needs", &(p).max_arena,  \
            0, INT64_MAX, NULL                                                                               \
    }
#define THREADS_OPTION(to)                                                                                   \
    {                                                                                                        \
        "threads", 't', ARG_INT, "T", "threads that compute (default: one per processor)", &(to), 1, 1024,   \
            NULL                                                                                             \
    }

kiln_bake_options bake_options(const plan_args *args);

/* Whether JSON that has been read is a plan dump. */
bool is_plan_dump(const char *text, size_t size);
/* `text` when it is a plan dump and the command line says nothing about plans (see PLAN_ARGS_NONE), so that
 * the dump's own options hold; else NULL. */
const char *plan_text(const char *text, size_t size, const plan_args *args);
/* The plan of `dump` with its own options, or where that is NULL, of `graph` with those of `args`. */
kiln_status bake_plan(const kiln_graph *graph, const char *dump, size_t size, const plan_args *args,
                      kiln_plan **out, kiln_error *error);

/* Writes what a function that makes JSON made, and frees it, or says why it failed. */
int write_json(const char *path, kiln_status status, kiln_json_text *text, const kiln_error *error);

/* ---- traces ----------------------------------------------------------------------------------------- */

/* Profiles the session's runs from now on, if there can be a file `path`, and writes there what was noted, for
 * ui.perfetto.dev. Exit codes, after having said why. */
int trace_begin(kiln_session *session, const char *path);
int trace_write(const kiln_session *session, const char *path);
#define TRACE_OPTION(path)                                                                                   \
    {                                                                                                        \
        "trace", 0, ARG_TEXT, "FILE",                                                                        \
            "write when each thread computed which node, and when it\n"                                      \
            "waited, as JSON for ui.perfetto.dev or chrome://tracing",                                       \
            &(path), 0, 0, NULL                                                                              \
    }

/* One or two lines about a plan, each with `prefix` in front. */
void print_plan_summary(FILE *file, const char *prefix, const kiln_plan *plan);

/* A line about what warming a session up has shown. */
void print_warm_report(FILE *file, const kiln_warm_report *report);

/* ---- models ----------------------------------------------------------------------------------------- */

/* A model file, open and checked. Zero it first; `model_close` may always be called. */
typedef struct model_file {
    kiln_gguf *gguf;
    kiln_llama_model *llama;
} model_file;
/* EXIT_OK, after the model's notices on stderr, or EXIT_FAILED after having said why. */
int model_open(model_file *m, const char *path);

/* What in the model's file has no effect, a line each on stderr. */
void model_notices(const kiln_llama_model *model, const char *path);
void model_close(model_file *m);

/* What to try when a GGUF file could not be opened; may be NULL. */
const char *gguf_hint(const kiln_error *error);

/* A graph from JSON (or a plan dump); `path` is for the message.
 * EXIT_OK, or EXIT_FAILED after having said why. */
int graph_open(const char *path, const char *text, size_t size, kiln_graph **out);

#endif
