#include "common.h"
#include "kiln_ops.h"
#include "kiln_plan_json.h"
#include "kiln_profile.h"
#include "tools/gguf/out_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- messages --------------------------------------------------------------------------------------- */

int fail(const kiln_error *error, const char *hint) {
    return fail_text(hint, "%s", error->text);
}

int fail_text(const char *hint, const char *format, ...) {
    va_list args;
    fflush(stdout); /* so that what went well stands before it on a terminal */
    fputs("kiln: ", stderr);
    va_start(args, format);
    print_line_list(stderr, format, args);
    va_end(args);
    if (hint != NULL)
        print_line(stderr, "kiln: hint: %s", hint);
    return EXIT_FAILED;
}

bool flush_stdout(void) {
    static bool said;
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    int why = errno != 0 ? errno : EIO;
    if (!said && why != EPIPE) /* a reader that has seen enough is no news */
        fprintf(stderr, "kiln: stdout: %s\n", strerror(why));
    said = true;
    return false;
}

int finish_stdout(int code) {
    return flush_stdout() || code != EXIT_OK ? code : EXIT_FAILED;
}

int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

progress progress_start(const char *label, int64_t total) {
    return (progress){label, total, now_ns(), isatty(STDERR_FILENO) != 0};
}

void progress_update(progress *p, int64_t done) {
    int64_t now = p->on ? now_ns() : 0;
    if (!p->on || now - p->shown_ns < 100000000) /* ten times a second is enough for eyes */
        return;
    p->shown_ns = now;
    fprintf(stderr, "\r\033[Kkiln: %s %lld/%lld", p->label, (long long)done, (long long)p->total);
}

void progress_end(progress *p) {
    if (p->on)
        fputs("\r\033[K", stderr);
    p->on = false;
}

const char *bytes_text(int64_t bytes, char buffer[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(buffer, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return buffer;
}

/* ---- files ------------------------------------------------------------------------------------------ */

static const char path_hint[] = "check the path, and that you may read it";

/* All that is left of it, behind the bytes of `head` (at most 64) that were read before. */
static bool read_stream(FILE *file, const char *head, size_t head_size, char **data, size_t *size) {
    size_t capacity = 1 << 16, count = 0;
    char *bytes = NULL;
    for (;;) {
        char *grown = realloc(bytes, capacity);
        if (grown == NULL)
            break;
        bytes = grown;
        if (count == 0 && head_size > 0)
            memcpy(bytes, head, count = head_size);
        count += fread(bytes + count, 1, capacity - count, file);
        if (count < capacity) {
            *data = bytes;
            *size = count;
            return !ferror(file);
        }
        capacity *= 2;
    }
    *data = bytes;
    errno = ENOMEM;
    return false;
}

bool read_file(const char *path, char **data, size_t *size) {
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rb");
    *data = NULL;
    if (file == NULL) {
        fail_text(path_hint, "cannot open '%s': %s", path, strerror(errno));
        return false;
    }
    bool ok = read_stream(file, NULL, 0, data, size);
    if (!ok) {
        fail_text(path_hint, "cannot read '%s': %s", path, strerror(errno));
        free(*data);
        *data = NULL;
    }
    if (!standard)
        fclose(file);
    return ok;
}

static bool out_open(kiln__out_file *out, const char *path) {
    int code = kiln__out_open(out, path);
    if (code != 0)
        fail_text("does the folder exist, and may you write there?", "cannot create '%s': %s", path,
                  strerror(code));
    return code == 0;
}

bool write_file(const char *path, const void *data, size_t size) {
    if (strcmp(path, "-") == 0)
        return fwrite(data, 1, size, stdout) == size ? flush_stdout() : (flush_stdout(), false);
    kiln__out_file out;
    if (!out_open(&out, path))
        return false;
    int wrote = kiln__out_write(&out, data, size), code = kiln__out_finish(&out, wrote == 0);
    if (wrote == 0 && code == 0)
        return true;
    fail_text("is the disk full?", "cannot write '%s': %s", path, strerror(wrote != 0 ? wrote : code));
    return false;
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

int refuse_same(const char *output, const char *input) {
    char partial[KILN_OUT_PATH_MAX + 16];
    if (output == NULL || input == NULL || strcmp(output, "-") == 0 || strcmp(input, "-") == 0)
        return EXIT_OK;
    int length = snprintf(partial, sizeof partial, "%s.partial", output);
    if (!same_file(output, input) &&
        (length < 0 || (size_t)length >= sizeof partial || !same_file(partial, input)))
        return EXIT_OK;
    return fail_text("name another file to write to",
                     "'%s' is the input '%s', or would be written through it", output, input);
}

/* Would two paths, of which neither need exist yet, name one file?
 * The same folder and the same name in it. */
static bool same_target(const char *a, const char *b) {
    char folders[2][KILN_OUT_PATH_MAX];
    const char *paths[] = {a, b}, *names[2];
    struct stat info[2];
    if (strcmp(a, b) == 0 || same_file(a, b))
        return true;
    for (int i = 0; i < 2; i++) {
        const char *slash = strrchr(paths[i], '/');
        size_t length = slash == NULL ? 1 : slash == paths[i] ? 1 : (size_t)(slash - paths[i]);
        if (length >= sizeof folders[i])
            return false;
        memcpy(folders[i], slash == NULL ? "." : paths[i], length);
        folders[i][length] = '\0';
        names[i] = slash == NULL ? paths[i] : slash + 1;
        if (stat(folders[i], &info[i]) != 0)
            return false; /* creating it will say so */
    }
    return strcmp(names[0], names[1]) == 0 && info[0].st_dev == info[1].st_dev &&
           info[0].st_ino == info[1].st_ino;
}

int refuse_both(const char *output, const char *other) {
    if (output == NULL || other == NULL || !same_target(output, other))
        return EXIT_OK;
    return fail_text("name another file for one of them", "two outputs would be written to '%s'", output);
}

int refuse_model(const char *output, const kiln_gguf *gguf) {
    int code = EXIT_OK;
    for (size_t i = 0; gguf != NULL && code == EXIT_OK && i < kiln_gguf_part_count(gguf); i++)
        code = refuse_same(output, kiln_gguf_part_at(gguf, i)->path);
    return code;
}

/* What begins so. FILE_BAD after having said why. */
static file_kind kind_of(const char *path, const char *head, size_t n, bool all) {
    static const char give[] = "give a .gguf model, or JSON written by 'kiln dump'";
    if (n >= 4 && memcmp(head, "GGUF", 4) == 0)
        return FILE_GGUF;
    /* Byte order marks of UTF-8, which the parser skips, and of UTF-16, of which it says what to do. */
    if ((n >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0) ||
        (n >= 2 && (memcmp(head, "\xff\xfe", 2) == 0 || memcmp(head, "\xfe\xff", 2) == 0)))
        return FILE_JSON;
    for (size_t i = 0; i < n; i++)
        if (strchr(" \t\r\n", head[i]) == NULL || head[i] == '\0') {
            if (head[i] == '{')
                return FILE_JSON;
            fail_text(give, "'%s' is neither a GGUF file nor a JSON object", path);
            return FILE_BAD;
        }
    if (!all)
        return FILE_JSON; /* much white space: the parser says what is behind it */
    fail_text(give, "'%s' is empty", path);
    return FILE_BAD;
}

static file_kind read_kind(FILE *file, const char *path, char **text, size_t *size) {
    char head[64];
    struct stat info;
    size_t n = fread(head, 1, sizeof head, file);
    if (ferror(file)) {
        fail_text(path_hint, "cannot read '%s': %s", path, strerror(errno));
        return FILE_BAD;
    }
    file_kind kind = kind_of(path, head, n, n < sizeof head);
    if (kind == FILE_GGUF && text != NULL &&
        (file == stdin || fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode))) {
        fail_text("give its path", "'%s' is a model in a pipe, but models are files", path);
        return FILE_BAD;
    }
    if (kind == FILE_JSON && text != NULL && !read_stream(file, head, n, text, size)) {
        fail_text(path_hint, "cannot read '%s': %s", path, strerror(errno));
        free(*text);
        *text = NULL;
        return FILE_BAD;
    }
    return kind;
}

file_kind input_open(const char *path, char **text, size_t *size) {
    bool standard = text != NULL && strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rb");
    if (text != NULL)
        *text = NULL;
    if (file == NULL) {
        fail_text(path_hint, "cannot open '%s': %s", path, strerror(errno));
        return FILE_BAD;
    }
    file_kind kind = read_kind(file, path, text, size);
    if (!standard)
        fclose(file);
    return kind;
}

/* ---- plans ------------------------------------------------------------------------------------------ */

const char *const mode_names[] = {"fast", "exact", NULL};

kiln_bake_options bake_options(const plan_args *args) {
    static const kiln_tap every = {"*", KILN_WATCH_TIME};
    return (kiln_bake_options){.precision = args->exact > 0 ? KILN_PRECISION_EXACT : KILN_PRECISION_FAST,
                               .no_fuse = args->no_fuse ? KILN_FUSE_ALL : 0,
                               .no_reuse = args->no_reuse,
                               .no_inplace = args->no_reuse,
                               .serial = args->serial,
                               .taps = args->time ? &every : NULL,
                               .n_taps = args->time,
                               .max_arena = args->max_arena > 0 ? args->max_arena : 0};
}

/* Only a plan dump has a format of this name before its first list. */
bool is_plan_dump(const char *text, size_t size) {
    const char *mark = memchr(text, '[', size);
    size_t head = mark != NULL ? (size_t)(mark - text) : size;
    for (size_t i = 0; i + 11 <= head; i++)
        if (memcmp(text + i, "\"kiln.plan\"", 11) == 0)
            return true;
    return false;
}

const char *plan_text(const char *text, size_t size, const plan_args *args) {
    bool given = args->exact >= 0 || args->no_fuse || args->no_reuse || args->serial || args->time ||
                 args->max_arena >= 0;
    return !given && is_plan_dump(text, size) ? text : NULL;
}

kiln_status bake_plan(const kiln_graph *graph, const char *dump, size_t size, const plan_args *args,
                      kiln_plan **out, kiln_error *error) {
    kiln_bake_options bake = bake_options(args);
    if (dump != NULL)
        return kiln_plan_from_json(dump, size, kiln_ops_builtin(), NULL, NULL, out, error);
    return kiln_bake(graph, &bake, out, error);
}

int write_json(const char *path, kiln_status status, kiln_json_text *text, const kiln_error *error) {
    if (status != KILN_OK)
        return fail(error, NULL);
    bool ok = write_file(path, text->data, text->size);
    kiln_json_text_free(text);
    return ok ? EXIT_OK : EXIT_FAILED;
}

enum {
    TRACE_CALLS = 1 << 18
}; /* 8 MiB a thread: some thousand tokens of a small model, and some hundred of a large */

int trace_begin(kiln_session *session, const char *path) {
    kiln_error error;
    kiln__out_file out;
    struct stat info;
    /* Not a pipe: its reader would take the second opening for another's. */
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode)) {
        if (!out_open(&out, path))
            return EXIT_FAILED;
        (void)kiln__out_finish(&out, false); /* it was only to see whether it can be made */
    }
    return kiln_session_profile(session, TRACE_CALLS, &error) == KILN_OK ? EXIT_OK : fail(&error, NULL);
}

static bool trace_skip(void *context, const kiln_profile_call *call) {
    (void)context;
    (void)call;
    return true;
}

int trace_write(const kiln_session *session, const char *path) {
    kiln_json_text text = {0};
    kiln_error error;
    uint64_t dropped = 0;
    kiln_status status = kiln_session_profile_read(session, trace_skip, NULL, &dropped, &error);
    if (status == KILN_OK)
        status = kiln_session_profile_trace(session, &(kiln_json_options){.compact = true}, &text, &error);
    int code = write_json(path, status, &text, &error);
    if (code == EXIT_OK && dropped > 0)
        fprintf(stderr, "kiln: %llu kernel calls came after the trace was full\n",
                (unsigned long long)dropped);
    return code;
}

void print_plan_summary(FILE *file, const char *prefix, const kiln_plan *plan) {
    kiln_plan_summary s;
    char arena[32], sum[32], bound[32];
    kiln_plan_get_summary(plan, &s);
    fprintf(file, "%splan: %u nodes, %u records, %u regions, %u fusions, %u in place\n", prefix, s.nodes,
            s.records, s.regions, s.fusions, s.inplace);
    fprintf(file, "%sbarriers: %u kept, %u avoided against one after every op\n", prefix, s.barriers,
            s.barriers_avoided);
    fprintf(file, "%sarena: %s; %s without reuse; these regions need at least %s\n", prefix,
            bytes_text(s.arena_bytes, arena), bytes_text(s.sum_bytes, sum), bytes_text(s.lower_bound, bound));
}

void print_warm_report(FILE *file, const kiln_warm_report *report) {
    char bytes[32];
    fprintf(file, "kiln: warmed: ");
    if (report->runs > 0)
        fprintf(file, "first call %.3f ms, steady %.3f ms (%u runs), then ", (double)report->first_ns / 1e6,
                (double)report->steady_ns / 1e6, report->runs);
    fprintf(file, "%s of weights touched in %.1f ms\n", bytes_text(report->touched, bytes),
            (double)report->touch_ns / 1e6);
}

/* ---- models ----------------------------------------------------------------------------------------- */

const char *gguf_hint(const kiln_error *error) {
    switch (error->status) {
    case KILN_ERROR_FORMAT:
        return "the file may be damaged or incomplete; get it again";
    case KILN_ERROR_SYSTEM:
        return path_hint;
    default:
        return NULL;
    }
}

void model_notices(const kiln_llama_model *model, const char *path) {
    const char *notice;
    for (size_t i = 0; (notice = kiln_llama_notice(model, i)) != NULL; i++)
        print_line(stderr, "kiln: %s: %s", path, notice);
}

int model_open(model_file *m, const char *path) {
    kiln_error error;
    struct stat info; /* a pipe is left alone: opening says that it is none */
    bool special = stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
    file_kind kind = special ? FILE_GGUF : input_open(path, NULL, NULL);
    if (kind == FILE_BAD)
        return EXIT_FAILED;
    if (kind == FILE_JSON)
        return fail_text("'kiln run', 'kiln dump' and 'kiln check' take graphs",
                         "'%s' is JSON, but a GGUF model is needed", path);
    if (kiln_gguf_open(path, NULL, &m->gguf, &error) != KILN_OK)
        return fail(&error,
                    special ? "a model is read in place; write it to a file first" : gguf_hint(&error));
    if (kiln_llama_open(m->gguf, NULL, &m->llama, &error) != KILN_OK)
        return fail(&error, "'kiln dump FILE' shows what the file has");
    model_notices(m->llama, path);
    return EXIT_OK;
}

void model_close(model_file *m) {
    kiln_llama_destroy(m->llama);
    kiln_gguf_destroy(m->gguf);
    *m = (model_file){NULL, NULL};
}

int graph_open(const char *path, const char *text, size_t size, kiln_graph **out) {
    kiln_error error;
    if (kiln_graph_from_json(text, size, kiln_ops_builtin(), NULL, NULL, out, &error) == KILN_OK)
        return EXIT_OK;
    return fail_text("'kiln dump MODEL.gguf --graph FILE' writes a graph that can be read", "%s: %s", path,
                     error.text);
}
