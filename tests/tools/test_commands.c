/* The commands run, dump and check on graphs and plans that were edited (tests/support/json_mutate.h): each
 * ends by itself, with exit code 0, or 1 or 2 and a message, and reads and writes nothing but its own. A
 * child does the work, so that what ends it is a finding like any other. The file of a finding is kept, and
 * what makes it again is printed.
 *
 * KILN_COMMANDS: how many edited files; KILN_COMMANDS_SEED: of the first; KILN_COMMANDS_SECONDS: for no
 * longer. `make fuzz-commands` runs many of them under AddressSanitizer and UndefinedBehaviorSanitizer. */
#include "check.h"
#include "every_op.h"
#include "json_mutate.h"
#include "kiln_plan_json.h"
#include "random_graph.h"
#include "sanitized.h"
#include "tiny_model.h"
#include "tools/kiln/args.h"
#include "tools/kiln/commands.h"
#include "tools/npy/npy.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_BASES = 64,
    BATCH = 32,       /* files that one child takes */
    MAX_FINDINGS = 10 /* then it ends */
};

/* Larger allocations are refused, which the commands must take: small files can ask for much. */
#define SANITIZER_OPTIONS                                                                                    \
    "allocator_may_return_null=1:max_allocation_size_mb=64:detect_stack_use_after_return=0"
/* A shared sanitizer library finds only what is exported. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return SANITIZER_OPTIONS;
}
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return SANITIZER_OPTIONS;
}

enum { RUN, DUMP, CHECK, N_COMMANDS };
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[N_COMMANDS] = {{"run", cmd_run}, {"dump", cmd_dump}, {"check", cmd_check}};

/* What a child tells, while it runs and after its end. */
typedef struct shared {
    uint64_t seed;                 /* of the file that it is at */
    int64_t since_ns;              /* when the command began; 0 between two */
    char command[1200];            /* its words */
    char problem[300];             /* what is wrong with how it ended; "": nothing */
    uint64_t count[N_COMMANDS][3]; /* by exit code */
} shared;

static struct {
    char *bases[MAX_BASES]; /* graphs, then plan dumps */
    int n_bases, n_graphs;
    char folder[64];
    int out, err; /* where the commands' two streams go */
    shared *shared;
} t;

static int64_t now_ns_here(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- what is edited --------------------------------------------------------------------------------- */

static void add_base(kiln_json_text *text) {
    assert_true(t.n_bases < MAX_BASES);
    t.bases[t.n_bases] = malloc(text->size + 1);
    assert_non_null(t.bases[t.n_bases]);
    memcpy(t.bases[t.n_bases], text->data, text->size);
    t.bases[t.n_bases++][text->size] = '\0';
    kiln_json_text_free(text);
}

static void add_graph(const kiln_graph *graph) {
    kiln_json_text text = {0};
    CHECK_OK(kiln_graph_to_json(graph, NULL, &text, error));
    add_base(&text);
    t.n_graphs = t.n_bases;
}

static void add_plan(const char *graph, uint64_t how) {
    kiln_bake_options options = {.precision = how & 1 ? KILN_PRECISION_EXACT : KILN_PRECISION_FAST,
                                 .no_fuse = how & 2 ? KILN_FUSE_ALL : 0,
                                 .no_reuse = how & 4,
                                 .serial = how & 8};
    kiln_json_text text = {0};
    kiln_graph *g;
    kiln_plan *plan;
    CHECK_OK(kiln_graph_from_json(graph, strlen(graph), kiln_ops_builtin(), NULL, NULL, &g, error));
    CHECK_OK(kiln_bake(g, &options, &plan, error));
    CHECK_OK(kiln_plan_to_json(plan, NULL, NULL, &text, error));
    add_base(&text);
    kiln_plan_release(plan);
    kiln_graph_destroy(g);
}

/* Two tensors side by side in an input and in an output, and views of them. */
static void add_parts(void) {
    static const char text[] =
        "{\"format\": \"kiln.graph\", \"version\": 1, \"slots\": [{\"name\": \"n\", \"type\": \"i64\", "
        "\"min\": 1, \"max\": 4}],"
        " \"storages\": [{\"id\": 1, \"name\": \"x\", \"kind\": \"input\", \"size\": 256}, {\"id\": 2, "
        "\"name\": \"w\", \"kind\": "
        "\"weight\", \"size\": 128}, {\"id\": 3, \"name\": \"y\", \"kind\": \"output\", \"size\": 256}],"
        " \"tensors\": [{\"id\": 1, \"name\": \"y\", \"dtype\": \"f32\", \"shape\": [\"n\", 8], \"storage\": "
        "1},"
        " {\"id\": 2, \"name\": \"w\", \"dtype\": \"f32\", \"shape\": [4, 8], \"storage\": 1, \"offset\": "
        "128},"
        " {\"id\": 3, \"name\": \"x\", \"dtype\": \"f32\", \"shape\": [4, 8], \"storage\": 2},"
        " {\"id\": 4, \"dtype\": \"f32\", \"shape\": [\"n\", 8], \"storage\": 3},"
        " {\"id\": 5, \"dtype\": \"f32\", \"shape\": [4, 8], \"storage\": 3, \"offset\": 128},"
        " {\"id\": 6, \"name\": \"row\", \"dtype\": \"f32\", \"shape\": [1, 8], \"storage\": 1}],"
        " \"nodes\": [{\"op\": \"silu\", \"inputs\": [1], \"outputs\": [4]}, {\"op\": \"add\", \"inputs\": "
        "[2, 3], \"outputs\": [5]}]}";
    kiln_graph *g;
    CHECK_OK(kiln_graph_from_json(text, sizeof text - 1, kiln_ops_builtin(), NULL, NULL, &g, error));
    add_graph(g);
    kiln_graph_destroy(g);
}

static void make_bases(void) {
    kiln_graph *g = every_op_graph();
    tiny_model m;
    add_graph(g);
    kiln_graph_destroy(g);
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    tiny_build(g, 1, &m);
    add_graph(g);
    kiln_graph_destroy(g);
    add_parts();
    for (uint64_t seed = 1; seed <= 30; seed++) {
        random_graph r;
        random_graph_make(seed, &r);
        add_graph(r.graph);
        random_graph_free(&r);
    }
    for (int i = 0; i < 12; i++)
        add_plan(t.bases[i], (uint64_t)i);
}

/* Arrays that fit few of the inputs they are given for. */
enum { N_ARRAYS = 6 };
static void make_arrays(void) {
    static const struct {
        kiln_dtype dtype;
        int32_t ndim;
        int64_t dims[4];
    } arrays[N_ARRAYS] = {
        {KILN_F32, 1, {4}},    {KILN_F32, 2, {4, 8}}, {KILN_I32, 1, {3}},
        {KILN_F32, 2, {0, 8}}, {KILN_U8, 0, {0}},     {KILN_F32, 3, {INT64_MAX / 8, 0, 1}},
    };
    static const float data[32] = {1, 2, 3, 4};
    char path[128];
    for (int i = 0; i < N_ARRAYS; i++) {
        snprintf(path, sizeof path, "%s/%d.npy", t.folder, i);
        CHECK_OK(kiln_npy_write(path, arrays[i].dtype, arrays[i].ndim, arrays[i].dims, data, NULL));
    }
}

static int setup(void **state) {
    (void)state;
    snprintf(t.folder, sizeof t.folder, "/tmp/kiln-commands-XXXXXX");
    assert_non_null(mkdtemp(t.folder));
    char path[128];
    snprintf(path, sizeof path, "%s/shared", t.folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(ftruncate(fd, sizeof *t.shared), 0);
    t.shared = mmap(NULL, sizeof *t.shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(t.shared != MAP_FAILED);
    close(fd);
    snprintf(path, sizeof path, "%s/out", t.folder);
    t.out = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);
    snprintf(path, sizeof path, "%s/err", t.folder);
    t.err = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);
    assert_true(t.out >= 0 && t.err >= 0);
    make_bases();
    make_arrays();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    char command[200];
    for (int i = 0; i < t.n_bases; i++)
        free(t.bases[i]);
    close(t.out);
    close(t.err);
    munmap(t.shared, sizeof *t.shared);
    snprintf(command, sizeof command, "rm -rf '%s'", t.folder);
    return system(command);
}

/* ---- one command ------------------------------------------------------------------------------------ */

enum { MAX_WORDS = 48, WORD = 300 };

typedef struct line {
    char words[MAX_WORDS][WORD];
    int n;
} line;

static void word(line *l, const char *format, ...) KILN_PRINTF(2, 3);
static void word(line *l, const char *format, ...) {
    va_list args;
    if (l->n == MAX_WORDS)
        return;
    va_start(args, format);
    vsnprintf(l->words[l->n++], WORD, format, args);
    va_end(args);
}

static size_t read_back(int fd, char *to, size_t size) {
    ssize_t n = pread(fd, to, size - 1, 0);
    to[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* Every line on stderr says whose it is, but for a sanitizer's about what it refused; a failure has one, and
 * no text of a file controls the terminal. */
static void judge(int code) {
    static char text[1 << 16];
    shared *s = t.shared;
    if (code < 0 || code > 2)
        snprintf(s->problem, sizeof s->problem, "exit code %d", code);
    size_t n = read_back(t.err, text, sizeof text);
    if (code != 0 && n == 0)
        snprintf(s->problem, sizeof s->problem, "exit code %d without a message", code);
    for (const char *at = text; *at != '\0'; at += strcspn(at, "\n"), at += *at == '\n')
        if (strncmp(at, "kiln: ", 6) != 0 && !(at[0] == '=' && strstr(at, "failed to allocate") != NULL))
            snprintf(s->problem, sizeof s->problem, "stderr has '%.100s'", at);
    for (int i = 0; i < 2; i++)
        for (const char *at = text; *at != '\0' && (i == 0 || read_back(t.out, text, sizeof text) > 0);
             at++) {
            if ((unsigned char)*at < 0x20 && *at != '\n')
                snprintf(s->problem, sizeof s->problem, "a control character, %d, is printed", *at);
            if (i == 1 && at[1] == '\0')
                break;
        }
}

static int call(int command, line *l) {
    char *argv[MAX_WORDS];
    shared *s = t.shared;
    size_t at = (size_t)snprintf(s->command, sizeof s->command, "kiln %s", commands[command].name);
    for (int i = 0; i < l->n; i++) {
        argv[i] = l->words[i];
        if (at < sizeof s->command)
            at += (size_t)snprintf(s->command + at, sizeof s->command - at, " '%s'", l->words[i]);
    }
    if (ftruncate(t.out, 0) != 0 || ftruncate(t.err, 0) != 0)
        snprintf(s->problem, sizeof s->problem, "the streams' files cannot be emptied");
    s->since_ns = now_ns_here();
    int code = commands[command].run(l->n, argv);
    fflush(stdout);
    s->since_ns = 0;
    judge(code);
    if (code >= 0 && code <= 2)
        s->count[command][code]++;
    return code;
}

/* ---- one file --------------------------------------------------------------------------------------- */

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        snprintf(t.shared->problem, sizeof t.shared->problem, "cannot write %s", path);
}

static void options_of_plans(line *l, uint64_t *state) {
    static const char *const options[] = {"--no-fuse", "--no-reuse", "--serial", "--mode=exact",
                                          "--max-arena=4096"};
    while (mutate_next(state) % 4 == 0)
        word(l, "%s", options[mutate_next(state) % 5]);
}

static void feed(line *l, const char *text, uint64_t *state, const char *kind) {
    char names[12][MUTATE_NAME];
    int n = mutate_storages(text, kind, names, 12);
    const bool odd = mutate_next(state) % 4 == 0; /* else what fits most graphs: indices are 0 */
    for (int i = 0; i < n; i++) {
        uint64_t how = mutate_next(state);
        if (odd && how % 16 == 0)
            continue;
        word(l, "-i");
        if (!odd)
            word(l, "%s=random:%d:1", names[i], (int)(how / 16 % 100));
        else if (how % 16 <= 2)
            word(l, "%s=%s/%d.npy", names[i], t.folder, (int)(how / 16 % N_ARRAYS));
        else if (how % 16 == 3)
            word(l, "%s=random:%d:%d", names[i], (int)(how / 16 % 100), 1 << (how / 256 % 31));
        else
            word(l, "%s=random:%d", names[i], (int)(how / 16 % 100));
    }
}

static void run_words(line *l, const char *path, const char *text, uint64_t *state) {
    char names[8][MUTATE_NAME];
    word(l, "%s", path);
    feed(l, text, state, "input");
    if (mutate_next(state) % 16 > 0)
        word(l, "--weights=random:%d", (int)(mutate_next(state) % 9));
    if (mutate_next(state) % 8 == 0)
        feed(l, text, state, "weight");
    int n = mutate_storages(text, "output", names, 8);
    for (int i = 0; i < n; i++)
        if (mutate_next(state) % 4 == 0) {
            word(l, "-o");
            word(l, "%s=%s/y%d.npy", names[i], t.folder, i);
        }
    if (mutate_next(state) % 6 == 0)
        word(l, "-sn=%d", (int)(mutate_next(state) % 5));
    if (mutate_next(state) % 6 == 0)
        word(l, "-sposition=%d", (int)(mutate_next(state) % 30) - 1);
    if (mutate_next(state) % 6 == 0) {
        word(l, "--plan=%s/p.json", t.folder);
        if (mutate_next(state) % 2)
            word(l, "--time");
    }
    if (mutate_next(state) % 10 == 0)
        word(l, "--trace=%s/t.json", t.folder);
    if (mutate_next(state) % 10 == 0)
        word(l, "--warm");
    word(l, "-t%d", 1 + (int)(mutate_next(state) % 3));
    options_of_plans(l, state);
}

static void dump_words(line *l, const char *path, uint64_t *state) {
    static const char *const outputs[] = {"graph", "plan", "dot"};
    word(l, "%s", path);
    for (int i = 0; i < 3; i++)
        if (mutate_next(state) % 2)
            word(l, "--%s=%s/%s", outputs[i], t.folder, outputs[i]);
    if (mutate_next(state) % 3 == 0)
        word(l, "--threads=%d", 1 + (int)(mutate_next(state) % 3));
    options_of_plans(l, state);
}

static void one_file(uint64_t seed) {
    uint64_t state = seed;
    char path[128];
    const char *base = t.bases[mutate_next(&state) % (uint64_t)t.n_bases];
    char *text = mutate_graph(base, &state, 1 + (int)(mutate_next(&state) % 2 * (mutate_next(&state) % 4)));
    t.shared->seed = seed;
    if (text == NULL)
        return;
    snprintf(path, sizeof path, "%s/%llu.json", t.folder, (unsigned long long)seed);
    write_text(path, text);
    line run = {.n = 0}, dump = {.n = 0}, check = {.n = 0};
    run_words(&run, path, text, &state);
    dump_words(&dump, path, &state);
    word(&check, "%s", path);
    if (mutate_next(&state) % 2)
        word(&check, "-q");
    (void)call(RUN, &run);
    if (t.shared->problem[0] == '\0')
        (void)call(DUMP, &dump);
    if (t.shared->problem[0] == '\0')
        (void)call(CHECK, &check);
    free(text);
    if (t.shared->problem[0] != '\0')
        exit(3);
    unlink(path);
}

/* ---- children --------------------------------------------------------------------------------------- */

static void child(void (*work)(uint64_t first, uint64_t n), uint64_t first, uint64_t n) {
    fflush(NULL);
    dup2(t.out, STDOUT_FILENO);
    dup2(t.err, STDERR_FILENO);
#ifndef SANITIZED
    /* Where no sanitizer refuses them, the system refuses large allocations. */
    const struct rlimit limit = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    (void)setrlimit(RLIMIT_AS, &limit);
#endif
    work(first, n);
    exit(0); /* leaks are looked for here */
}

static void some_files(uint64_t first, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        one_file(first + i);
}

/* Waits for a child; false after having said what was found. */
static bool ended_well(pid_t pid, int64_t limit_ns) {
    static char text[6000];
    shared *s = t.shared;
    int status = 0;
    bool hung = false;
    for (;;) {
        pid_t done = waitpid(pid, &status, WNOHANG);
        if (done == pid)
            break;
        int64_t since = s->since_ns;
        hung = hung || (since != 0 && now_ns_here() - since > limit_ns);
        if (hung)
            kill(pid, SIGKILL);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    (void)read_back(t.err, text, sizeof text);
    printf("seed %llu: %s: %s\n%s\n", (unsigned long long)s->seed, s->command,
           hung                    ? "it does not end"
           : s->problem[0] != '\0' ? s->problem
           : WIFSIGNALED(status)   ? strsignal(WTERMSIG(status))
                                   : "a sanitizer's finding",
           text);
    return false;
}

static uint64_t from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static void edited_files_end_in_an_exit_code(void **state) {
    (void)state;
    const uint64_t n = from_environment("KILN_COMMANDS", 300),
                   seed = from_environment("KILN_COMMANDS_SEED", 1);
    const int64_t until =
        now_ns_here() + (int64_t)from_environment("KILN_COMMANDS_SECONDS", 3600) * 1000000000;
    shared *s = t.shared;
    memset(s, 0, sizeof *s);
    int findings = 0;
    uint64_t done = 0;
    while (done < n && findings < MAX_FINDINGS && now_ns_here() < until) {
        const uint64_t batch = n - done < BATCH ? n - done : BATCH;
        s->problem[0] = '\0';
        s->since_ns = 0;
        fflush(stdout);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            child(some_files, seed + done, batch);
        if (ended_well(pid, (int64_t)30 * 1000000000)) {
            done += batch;
            continue;
        }
        findings++;
        char path[128], kept[128];
        snprintf(path, sizeof path, "%s/%llu.json", t.folder, (unsigned long long)s->seed);
        snprintf(kept, sizeof kept, "/tmp/kiln-finding-%llu.json", (unsigned long long)s->seed);
        printf("%s; again: KILN_COMMANDS=1 KILN_COMMANDS_SEED=%llu\n",
               rename(path, kept) == 0 ? kept : "no file", (unsigned long long)s->seed);
        done = s->seed - seed + 1;
    }
    printf("%llu files from seed %llu", (unsigned long long)done, (unsigned long long)seed);
    uint64_t all = 0;
    for (int i = 0; i < N_COMMANDS; i++) {
        all += s->count[i][0] + s->count[i][1] + s->count[i][2];
        printf("; %s: %llu done, %llu failed, %llu used wrongly", commands[i].name,
               (unsigned long long)s->count[i][0], (unsigned long long)s->count[i][1],
               (unsigned long long)s->count[i][2]);
    }
    printf("; %llu commands in all\n", (unsigned long long)all);
    if (findings > 0)
        fail_msg("%d findings", findings);
    /* Edits must leave enough that goes all the way, or nothing is tested. */
    for (int i = 0; i < N_COMMANDS && n >= 100; i++)
        assert_true(s->count[i][0] >= done / 10);
}

/* ---- names ------------------------------------------------------------------------------------------ */

/* What a run prints, or an exit code. */
static int printed(const char *path, const char *text, char *out, size_t size) {
    char names[16][MUTATE_NAME];
    line l = {.n = 0};
    word(&l, "%s", path);
    word(&l, "-t1");
    word(&l, "--weights=random:1");
    int n = mutate_storages(text, "input", names, 16);
    for (int i = 0; i < n; i++) {
        word(&l, "-i");
        word(&l, "%s=random:%d", names[i], i + 1);
    }
    int code = call(RUN, &l);
    (void)read_back(t.out, out, size);
    /* Of tensors with the same bytes the one with a name gives the shape: only what comes after it is
     * compared. */
    char *to = out;
    for (const char *at = out; *at != '\0'; at += strcspn(at, "\n"), at += *at == '\n') {
        const char *end = strchr(at, '\n'), *values = strchr(at, ']');
        if (end != NULL && values != NULL && values < end) {
            memmove(to, values, (size_t)(end - values) + 1);
            to += end - values + 1;
            at = end;
        }
    }
    *to = '\0';
    return code;
}

static void renamed(uint64_t first, uint64_t n) {
    static char before[1 << 14], after[1 << 14];
    char path[128];
    snprintf(path, sizeof path, "%s/names.json", t.folder);
    for (uint64_t i = first; i < first + n && t.shared->problem[0] == '\0'; i++) {
        uint64_t state = i;
        const char *text = t.bases[i % (uint64_t)t.n_graphs];
        t.shared->seed = i;
        write_text(path, text);
        int code = printed(path, text, before, sizeof before);
        char *other = mutate_names(text, &state);
        write_text(path, other);
        if (printed(path, other, after, sizeof after) != code || strcmp(before, after) != 0)
            snprintf(t.shared->problem, sizeof t.shared->problem, "before: %.120s; after: %.120s", before,
                     after);
        free(other);
    }
    exit(t.shared->problem[0] != '\0' ? 3 : 0);
}

static void names_of_tensors_do_not_matter(void **state) {
    (void)state;
    shared *s = t.shared;
    memset(s, 0, sizeof *s);
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child(renamed, 0, 4 * (uint64_t)t.n_graphs);
    assert_true(ended_well(pid, (int64_t)30 * 1000000000));
    assert_true(s->count[RUN][0] >= 4 * (uint64_t)t.n_graphs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_tensors_do_not_matter),
        cmocka_unit_test(edited_files_end_in_an_exit_code),
    };
    return cmocka_run_group_tests_name("commands", tests, setup, teardown);
}
