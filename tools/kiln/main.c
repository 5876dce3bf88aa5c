/* The kiln command: finds the command and leaves the rest to it. */
#include "commands.h"
#include "common.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name, *text;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"generate", "continue a text with a model", cmd_generate},
    {"logits", "write a model's logits for given tokens", cmd_logits},
    {"dump", "show a model or graph, and write its graph, plan or picture", cmd_dump},
    {"run", "run a graph on given inputs", cmd_run},
    {"check", "derive all hazards again by brute force and compare them with the plan", cmd_check},
    {"demo", "make a small expert-routed model and decode with it", cmd_demo},
    {"demo-model", "only make that model", cmd_demo_model},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *file) {
    fputs("Usage: kiln COMMAND [ARGUMENT...]\n\n"
          "Bakes dataflow graphs into plans with few barriers, and replays them.\n\nCommands:\n",
          file);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(file, "  %-12s %s\n", commands[i].name, commands[i].text);
    fputs("\n'kiln COMMAND --help' tells more. Exit codes: 0 done, 1 failed, 2 used wrongly.\n"
          "Try: kiln demo\n",
          file);
}

static int unknown(const char *word) {
    const char *words[N_COMMANDS + 1] = {NULL};
    for (size_t i = 0; i < N_COMMANDS; i++)
        words[i] = commands[i].name;
    const char *kind = word[0] == '-' ? "option" : "command";
    const char *found = args_nearest(word, words);
    if (found != NULL)
        return args_usage(NULL, "unknown %s '%s'; did you mean '%s'?", kind, word, found);
    return args_usage(NULL, "unknown %s '%s'", kind, word);
}

/* A standard stream that is closed must not become the next file that is opened. What takes its place fails
 * as the closed one would. */
static void keep_streams(void) {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

const char *command_path = "kiln";

int main(int argc, char **argv) {
    keep_streams();
    if (argc > 0)
        command_path = argv[0];
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("kiln %s\n", kiln_version());
        return finish_stdout(EXIT_OK);
    }
    bool help = strcmp(word, "help") == 0;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (help && argc == 2)) {
        print_help(stdout);
        return finish_stdout(EXIT_OK);
    }
    char *ask[] = {(char[]){"--help"}, NULL};
    if (help)
        word = argv[2];
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, word) == 0)
            return finish_stdout(help ? commands[i].run(1, ask) : commands[i].run(argc - 2, argv + 2));
    return unknown(word);
}
