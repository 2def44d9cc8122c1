/* SPDX-License-Identifier: MIT */
/*
 * The freehold command: finds the subcommand in one table and runs it.
 */
#include <stdio.h>
#include <string.h>

#include "base/arith.h"
#include "cli/cli.h"
#include "cli/opt.h"

#ifndef FH_VERSION
#define FH_VERSION "0"
#endif

static int
cmd_help(int argc, char **argv);

static const struct fh_cli_command commands[] = {
    { "run", "show the whole thing: hypervisor, backend, guests, proof",
      cmd_run },
    { "bench", "measure: starts what it needs, cleans up", cmd_bench },
    { "hv", "the local hypervisor: start, stop, status, domains", cmd_hv },
    { "exec", "run any program inside a local domain", cmd_exec },
    { "serve", "the backend: serves disk images to guests", cmd_serve },
    { "attach", "give a guest a disk", cmd_attach },
    { "detach", "take it away", cmd_detach },
    { "list", "the disks that are served", cmd_list },
    { "status", "the same, with workers and counters", cmd_status },
    { "stats", "grants and events of local domains, counted", cmd_stats },
    { "help", "this text, or that of one command", cmd_help },
    { "--worker", NULL, cmd_worker },
    { "--bench-guest", NULL, cmd_bench_guest },
    { "--run-guest", NULL, cmd_run_guest },
};

const struct fh_cli_command *
fh_cli_find(const char *name)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(commands); i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static void
print_overview(FILE *f)
{
    fprintf(f, "usage: freehold COMMAND [OPTIONS] ...\n\n"
               "Serves disk images to Xen guests over persistent grants; "
               "brings a local\nhypervisor along, so that it all runs "
               "without Xen.\n\n");
    for (size_t i = 0; i < FH_ARRAY_SIZE(commands); i++)
        if (commands[i].summary)
            fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fprintf(f, "\nBegin with `freehold run`.  `freehold COMMAND --help` "
               "explains one command.\n");
}

static int
no_such_command(const char *name)
{
    fprintf(stderr, "freehold: there is no command '%s'; the commands are",
            name);
    for (size_t i = 0; i < FH_ARRAY_SIZE(commands); i++)
        if (commands[i].summary)
            fprintf(stderr, " %s", commands[i].name);
    fputc('\n', stderr);
    return FH_EXIT_USAGE;
}

static int
cmd_help(int argc, char **argv)
{
    static char help_word[] = "--help";
    char *words[3];
    const struct fh_cli_command *c;

    if (argc < 2 || argv[1][0] == '-') {
        print_overview(stdout);
        return FH_EXIT_OK;
    }
    c = fh_cli_find(argv[1]);
    if (!c || !c->summary)
        return no_such_command(argv[1]);
    words[0] = argv[1];
    words[1] = c->run == cmd_hv && argc > 2 ? argv[2] : help_word;
    words[2] = help_word;
    if (words[1] == help_word)
        return c->run(2, words);
    return c->run(3, words);
}

int
main(int argc, char **argv)
{
    const struct fh_cli_command *c;

    if (argc < 2) {
        print_overview(stderr);
        return FH_EXIT_USAGE;
    }
    if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))
        return cmd_help(1, argv);
    if (!strcmp(argv[1], "--version")) {
        printf("freehold %s\n", FH_VERSION);
        return FH_EXIT_OK;
    }
    c = fh_cli_find(argv[1]);
    if (!c)
        return no_such_command(argv[1]);
    return c->run(argc - 1, argv + 1);
}
