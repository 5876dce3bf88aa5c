/* JSON on threads of small stacks: whatever the depth of a text, reading it takes no more stack than
 * kiln_json.h says. musl gives threads 128 KiB by default, other systems 64 KiB and less. */
#include "kiln.h"
#include "check.h"
#include "sanitized.h"
#include "tiny_model.h"

#include <pthread.h>
#include <stdlib.h>

/* PROMISED is what kiln_json.h says about reading; baking, which kiln_plan_check_json does, may take twice
 * that. */
enum { STACK = 256 << 10, PROMISED = 32 << 10, DEPTH = 512, PAINT = 0xA5 };

static const kiln_json_limits deep = {.depth = DEPTH};

typedef struct job {
    char *text;
    size_t size;
    kiln_status (*call)(struct job *j);
    kiln_status status;
    kiln_error error;
} job;

static kiln_status load(job *j) {
    kiln_graph *g = NULL;
    kiln_status status =
        kiln_graph_from_json(j->text, j->size, kiln_ops_builtin(), &deep, NULL, &g, &j->error);
    kiln_graph_destroy(g);
    return status;
}

static kiln_status check(job *j) {
    return kiln_plan_check_json(j->text, j->size, kiln_ops_builtin(), &deep, NULL, &j->error);
}

static kiln_status nothing(job *j) {
    (void)j;
    return KILN_OK;
}

static void *work(void *context) {
    job *j = context;
    j->status = j->call(j);
    return NULL;
}

/* Runs the call on a thread whose stack is painted; returns how many bytes of it were touched. */
static size_t run(job *j) {
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 65536, STACK), 0);
    unsigned char *stack = memory;
    memset(stack, PAINT, STACK);
    pthread_attr_t attr;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstack(&attr, stack, STACK), 0);
    assert_int_equal(pthread_create(&thread, &attr, work, j), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    size_t free_bytes = 0;
    while (free_bytes < STACK && stack[free_bytes] == PAINT)
        free_bytes++;
    free(stack);
    return STACK - free_bytes;
}

/* What a thread takes before it calls anything. */
static size_t idle(void) {
    job j = {.call = nothing};
    return run(&j);
}

/* `head`, then `levels` of `open`, `middle` and as many of `close`, then `tail`. */
static void nested(job *j, const char *head, size_t levels, const char *open, const char *middle, char close,
                   const char *tail) {
    size_t n = strlen(head), o = strlen(open), m = strlen(middle), t = strlen(tail), at = 0;
    j->text = malloc(n + levels * (o + 1) + m + t + 1);
    assert_non_null(j->text);
    memcpy(j->text, head, n);
    at = n;
    for (size_t i = 0; i < levels; i++, at += o)
        memcpy(j->text + at, open, o);
    memcpy(j->text + at, middle, m);
    memset(j->text + at + m, close, levels);
    memcpy(j->text + at + m + levels, tail, t + 1);
    j->size = at + m + levels + t;
}

static void expect(job *j, const char *what, kiln_status status, const char *message, size_t most) {
    size_t used = run(j), before = idle();
    print_message("%s: %zu bytes of stack\n", what, used - before);
    assert_int_equal(j->status, status);
    if (message != NULL)
        assert_non_null(strstr(j->error.text, message));
    assert_true(used - before <= most);
    free(j->text);
}

static void skip_sanitized(void) {
#ifdef SANITIZED
    print_message("skipped: frames of sanitizers are larger\n");
    skip();
#endif
}

#define GRAPH                                                                                                \
    "\"graph\": {\"format\": \"kiln.graph\", \"version\": 1, \"slots\": [], \"storages\": [], \"tensors\": " \
    "[], "                                                                                                   \
    "\"nodes\": []}"

static void deep_texts(void **state) {
    (void)state;
    skip_sanitized();
    job j = {.call = load};
    nested(&j, "", DEPTH, "[", "", ']', "");
    expect(&j, "512 arrays", KILN_ERROR_FORMAT, "$: expected an object, got an array", PROMISED);
    nested(&j, "", DEPTH, "{\"a\": ", "0", '}', "");
    expect(&j, "512 objects", KILN_ERROR_FORMAT, "$: key \"format\" is missing", PROMISED);
    nested(&j, "", DEPTH + 1, "[", "", ']', "");
    expect(&j, "513 arrays", KILN_ERROR_LIMIT, "more than 512 levels", PROMISED);
    nested(&j, "", DEPTH - 1, "{\"a\": ", "{\"b\": 1, \"b\": 2}", '}', "");
    expect(&j, "a duplicate key in 512 objects", KILN_ERROR_FORMAT, "$.a.a.a.a.", PROMISED);
    nested(&j, "{\"format\": \"kiln.plan\", \"version\": 1, " GRAPH ", \"plan\": ", DEPTH - 1, "[", "", ']',
           "}");
    expect(&j, "a member that is skipped, of 511 arrays", KILN_OK, NULL, PROMISED);
    nested(&j, "{\"format\": \"kiln.plan\", \"version\": 1, \"graph\": {\"nodes\": ", DEPTH - 2, "[", "", ']',
           "}}");
    expect(&j, "510 arrays as a graph's nodes", KILN_ERROR_FORMAT, "$.graph: key \"format\" is missing",
           PROMISED);
}

/* A plan dump of a real model, as it is and with a deep member where the reader compares. */
static void plan_dump(void **state) {
    (void)state;
    skip_sanitized();
    tiny_model m;
    kiln_graph *g;
    kiln_plan *plan;
    kiln_json_text text;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    tiny_build(g, 2, &m);
    CHECK_OK(kiln_bake(g, NULL, &plan, error));
    CHECK_OK(kiln_plan_to_json(plan, NULL, NULL, &text, error));
    kiln_plan_release(plan);
    kiln_graph_destroy(g);

    job j = {.text = malloc(text.size), .size = text.size, .call = load};
    assert_non_null(j.text);
    memcpy(j.text, text.data, text.size);
    expect(&j, "a plan dump, loaded", KILN_OK, NULL, PROMISED);
    j = (job){.text = malloc(text.size), .size = text.size, .call = check};
    assert_non_null(j.text);
    memcpy(j.text, text.data, text.size);
    expect(&j, "a plan dump, checked", KILN_OK, NULL, (size_t)2 * PROMISED);

    /* The text ends in "}" and a line break: a session of many levels is not looked at. */
    text.data[text.size - 2] = '\0';
    j = (job){.call = check};
    nested(&j, text.data, 0, "", ", \"session\": ", ' ', "");
    kiln_json_text_free(&text);
    char *head = j.text;
    nested(&j, head, DEPTH - 1, "[", "", ']', "}");
    free(head);
    expect(&j, "a plan dump with a session of 511 arrays, checked", KILN_OK, NULL, (size_t)2 * PROMISED);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(deep_texts), cmocka_unit_test(plan_dump)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
