/* One function per command: argv[0 … argc-1] are the arguments behind its name. They return exit codes. */
#ifndef KILN_TOOLS_COMMANDS_H
#define KILN_TOOLS_COMMANDS_H

/* The command as the user called it. */
extern const char *command_path;

int cmd_generate(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_demo_model(int argc, char **argv);

#endif
