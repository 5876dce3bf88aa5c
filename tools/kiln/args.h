/* Command lines: options as rows of a table, from which parsing and --help are made.
 *
 * Usage errors and help follow what Unix users expect: --help prints to stdout and exits with 0; a mistake is
 * one line on stderr, with the nearest option named, and exits with 2. "--" ends the options; "-" is an
 * operand; --name=value and --name value are the same; options and operands may be mixed. */
#ifndef KILN_ARGS_H
#define KILN_ARGS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, ARGS_GO_ON = -1 };

/* Collects a repeatable option; free `items` (not the texts, they are argv's). */
typedef struct arg_list {
    const char **items;
    size_t count;
} arg_list;

typedef enum arg_type {
    ARG_FLAG,   /* bool *: set to true */
    ARG_TEXT,   /* const char ** */
    ARG_INT,    /* int64_t *, within min … max */
    ARG_BYTES,  /* the same, with K, M, G or T after it if wanted */
    ARG_CHOICE, /* int *: the position of the word in `choices` */
    ARG_LIST    /* arg_list * */
} arg_type;

typedef struct arg_option {
    const char *name; /* without the dashes */
    char letter;      /* short form, 0 for none */
    arg_type type;
    const char *value; /* what stands for the value in the help; NULL for flags */
    const char *help;
    void *to;
    int64_t min, max;           /* ARG_INT, ARG_BYTES */
    const char *const *choices; /* ARG_CHOICE, ends in NULL */
} arg_option;

typedef struct arg_spec {
    const char *command;  /* "generate" */
    const char *synopsis; /* operands and options, behind "kiln generate " */
    const char *text;     /* what it does, some lines */
    const char *operand;  /* what an operand is called in messages */
    int min_operands, max_operands;
    const arg_option *options;
    size_t n_options;
} arg_spec;

/* Parses argv[0 … argc-1] (the command's name not among them). Operands go to `operands`, which has room for
 * max_operands. Returns ARGS_GO_ON, or the exit code after having printed help or an error. */
int args_parse(const arg_spec *spec, int argc, char **argv, const char **operands);

/* An integer of the whole text, within bounds. */
bool args_int(const char *text, int64_t min, int64_t max, int64_t *out);

/* The same for bytes: "4096", or with K, M, G or T after it for 1024, 1024², 1024³ or 1024⁴ of them; "iB"
 * may follow. */
bool args_bytes(const char *text, int64_t min, int64_t max, int64_t *out);

/* The word of a NULL-terminated list that is nearest to `word`, or NULL when none is near. */
const char *args_nearest(const char *word, const char *const *words);

/* As fprintf, with a new line behind it. Names come from files, so every line that may hold one is printed by
 * this: what would control a terminal is written as \xNN, a new line in it as \n, and only 4 KiB of it. */
void print_line(FILE *file, const char *format, ...) __attribute__((format(printf, 2, 3)));
void print_line_list(FILE *file, const char *format, va_list args) __attribute__((format(printf, 2, 0)));

/* "kiln: COMMAND: TEXT" and where to read on; returns EXIT_USAGE. */
int args_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
