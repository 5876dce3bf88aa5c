#include "args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void print_line_list(FILE *file, const char *format, va_list args) {
    char text[4096];
    if (vsnprintf(text, sizeof text, format, args) < 0)
        return;
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at, next = (unsigned char)at[1];
        if (c == '\n')
            fputs("\\n", file);
        else if (c < 0x20 || c == 0x7f)
            fprintf(file, "\\x%02x", c);
        else if (c == 0xc2 && next >= 0x80 && next < 0xa0) /* U+0080 to U+009F are controls, too */
            fprintf(file, "\\x%02x", (unsigned char)*++at);
        else
            fputc(c, file);
    }
    fputc('\n', file);
}

void print_line(FILE *file, const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_line_list(file, format, args);
    va_end(args);
}

int args_usage(const char *command, const char *format, ...) {
    va_list args;
    fprintf(stderr, "kiln: %s%s", command ? command : "", command ? ": " : "");
    va_start(args, format);
    print_line_list(stderr, format, args);
    va_end(args);
    fprintf(stderr, "kiln: see 'kiln %s%s--help'\n", command ? command : "", command ? " " : "");
    return EXIT_USAGE;
}

bool args_int(const char *text, int64_t min, int64_t max, int64_t *out) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
        return false;
    *out = value;
    return true;
}

bool args_bytes(const char *text, int64_t min, int64_t max, int64_t *out) {
    static const char units[] = "KMGT";
    char number[24];
    size_t digits = strspn(text, "0123456789");
    const char *unit = text[digits] != '\0' ? strchr(units, text[digits]) : NULL;
    int64_t value, scale = 1;
    if (unit == NULL)
        return args_int(text, min, max, out);
    if (digits == 0 || digits >= sizeof number ||
        (text[digits + 1] != '\0' && strcmp(text + digits + 1, "iB") != 0))
        return false;
    for (const char *u = units; u <= unit; u++)
        scale *= 1024;
    memcpy(number, text, digits);
    number[digits] = '\0';
    if (!args_int(number, 0, max / scale, &value) || value * scale < min)
        return false;
    *out = value * scale;
    return true;
}

enum { WORD = 32 };

/* Edits (a letter more, less or other) from one word to another; words longer than WORD are cut. */
static size_t distance(const char *a, const char *b) {
    size_t row[WORD + 1], n = strnlen(b, WORD), m = strnlen(a, WORD);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

/* Near: at most a third of the letters are wrong, or one begins with the other. */
static bool near(const char *word, const char *candidate, size_t *best) {
    size_t d = distance(word, candidate), length = strlen(candidate), typed = strlen(word);
    if (typed >= 3 && strncmp(word, candidate, typed) == 0)
        d = 1;
    if (d > (length + 2) / 3 || d >= *best)
        return false;
    *best = d;
    return true;
}

const char *args_nearest(const char *word, const char *const *words) {
    const char *found = NULL;
    for (size_t best = WORD; *words != NULL; words++)
        if (near(word, *words, &best))
            found = *words;
    return found;
}

/* ---- help ------------------------------------------------------------------------------------------- */

static void print_help(const arg_spec *spec) {
    printf("Usage: kiln %s %s\n\n%s\n\nOptions:\n", spec->command, spec->synopsis, spec->text);
    for (size_t i = 0; i < spec->n_options; i++) {
        const arg_option *o = &spec->options[i];
        char left[64];
        int n = o->letter ? snprintf(left, sizeof left, "-%c, --%s", o->letter, o->name)
                          : snprintf(left, sizeof left, "    --%s", o->name);
        if (o->value != NULL && n > 0 && (size_t)n < sizeof left)
            snprintf(left + n, sizeof left - (size_t)n, " %s", o->value);
        printf("  %-28s ", left);
        /* Further lines of a help text stand under its first. */
        for (const char *c = o->help; *c != '\0'; c++) {
            putchar(*c);
            if (*c == '\n')
                printf("%31s", "");
        }
        putchar('\n');
    }
    printf("  %-28s %s\n", "-h, --help", "print this");
}

/* ---- parsing ---------------------------------------------------------------------------------------- */

static bool push(arg_list *list, const char *text) {
    const char **items = realloc((void *)list->items, (list->count + 1) * sizeof *items);
    if (items == NULL)
        return false;
    items[list->count++] = text;
    list->items = items;
    return true;
}

static int choose(const arg_spec *spec, const arg_option *o, const char *value) {
    char words[160] = "";
    for (int i = 0; o->choices[i] != NULL; i++) {
        if (strcmp(o->choices[i], value) == 0) {
            *(int *)o->to = i;
            return ARGS_GO_ON;
        }
        size_t at = strlen(words);
        snprintf(words + at, sizeof words - at, "%s%s", i ? " or " : "", o->choices[i]);
    }
    return args_usage(spec->command, "--%s is '%s'; expected %s", o->name, value, words);
}

static int store(const arg_spec *spec, const arg_option *o, const char *value) {
    switch (o->type) {
    case ARG_FLAG:
        *(bool *)o->to = true;
        return ARGS_GO_ON;
    case ARG_TEXT:
        *(const char **)o->to = value;
        return ARGS_GO_ON;
    case ARG_INT:
        if (args_int(value, o->min, o->max, (int64_t *)o->to))
            return ARGS_GO_ON;
        return args_usage(spec->command, "--%s is '%s'; expected an integer from %lld to %lld", o->name,
                          value, (long long)o->min, (long long)o->max);
    case ARG_BYTES:
        if (args_bytes(value, o->min, o->max, (int64_t *)o->to))
            return ARGS_GO_ON;
        return args_usage(spec->command,
                          "--%s is '%s'; expected bytes from %lld to %lld, as 4096, 64K, 1M or 2G", o->name,
                          value, (long long)o->min, (long long)o->max);
    case ARG_CHOICE:
        return choose(spec, o, value);
    case ARG_LIST:
        if (push(o->to, value))
            return ARGS_GO_ON;
        fprintf(stderr, "kiln: out of memory\n");
        return EXIT_FAILED;
    }
    return EXIT_FAILED;
}

static int unknown(const arg_spec *spec, const char *name, size_t size) {
    char word[WORD + 1] = "";
    const char *found = NULL;
    snprintf(word, sizeof word, "%.*s", (int)(size < WORD ? size : WORD), name);
    size_t best = WORD;
    for (size_t i = 0; i < spec->n_options; i++)
        if (near(word, spec->options[i].name, &best))
            found = spec->options[i].name;
    if (found != NULL)
        return args_usage(spec->command, "unknown option '--%s'; did you mean '--%s'?", word, found);
    return args_usage(spec->command, "unknown option '--%s'", word);
}

static const arg_option *find_long(const arg_spec *spec, const char *name, size_t size) {
    for (size_t i = 0; i < spec->n_options; i++)
        if (strncmp(spec->options[i].name, name, size) == 0 && spec->options[i].name[size] == '\0')
            return &spec->options[i];
    return NULL;
}

static const arg_option *find_short(const arg_spec *spec, char letter) {
    for (size_t i = 0; i < spec->n_options; i++)
        if (spec->options[i].letter == letter)
            return &spec->options[i];
    return NULL;
}

/* One argument that begins with a dash; *next is the index of the argument behind it. */
static int parse_option(const arg_spec *spec, int argc, char **argv, int *next) {
    const char *arg = argv[*next - 1], *value = NULL;
    const arg_option *o;
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
        print_help(spec);
        return EXIT_OK;
    }
    if (arg[1] == '-') {
        size_t size = strcspn(arg + 2, "=");
        o = find_long(spec, arg + 2, size);
        if (o == NULL)
            return unknown(spec, arg + 2, size);
        if (arg[2 + size] == '=')
            value = arg + 2 + size + 1;
    } else {
        o = find_short(spec, arg[1]);
        if (o == NULL)
            return args_usage(spec->command, "unknown option '-%c'", arg[1]);
        if (arg[2] != '\0')
            value = arg + 2;
    }
    if (o->type == ARG_FLAG) {
        if (value != NULL)
            return args_usage(spec->command, "--%s takes no value", o->name);
    } else if (value == NULL) {
        if (*next >= argc)
            return args_usage(spec->command, "--%s needs a value (%s)", o->name, o->value);
        value = argv[(*next)++];
    }
    return store(spec, o, value);
}

int args_parse(const arg_spec *spec, int argc, char **argv, const char **operands) {
    const char *extra = NULL; /* reported last, so that --help behind it still helps */
    int n = 0;
    bool options = true;
    for (int i = 0; i < argc;) {
        const char *arg = argv[i++];
        if (options && strcmp(arg, "--") == 0) {
            options = false;
        } else if (options && arg[0] == '-' && arg[1] != '\0') {
            int code = parse_option(spec, argc, argv, &i);
            if (code != ARGS_GO_ON)
                return code;
        } else if (n == spec->max_operands) {
            extra = extra ? extra : arg;
        } else {
            operands[n++] = arg;
        }
    }
    if (extra != NULL)
        return args_usage(spec->command, "one argument too many: '%s'", extra);
    if (n < spec->min_operands)
        return args_usage(spec->command, "no %s given", spec->operand);
    return ARGS_GO_ON;
}
