/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The subcommands of freehold.  Each takes argv with its own name in argv[0],
 * parses with cli/opt.h, explains its failures on stderr and returns the
 * process's exit status: 0, 1 for a failure, 2 for bad usage.
 */

struct fh_cli_command {
    const char *name;
    const char *summary; /* one line of `freehold help`; NULL: hidden */
    int (*run)(int argc, char **argv);
};

/* The entry named @name, or NULL. */
const struct fh_cli_command *
fh_cli_find(const char *name);

int
cmd_hv(int argc, char **argv);
int
cmd_exec(int argc, char **argv);
int
cmd_serve(int argc, char **argv);
int
cmd_attach(int argc, char **argv);
int
cmd_detach(int argc, char **argv);
int
cmd_list(int argc, char **argv);
int
cmd_status(int argc, char **argv);
int
cmd_stats(int argc, char **argv);
int
cmd_bench(int argc, char **argv);
int
cmd_run(int argc, char **argv);

/* Hidden: processes that the commands start of themselves. */
int
cmd_worker(int argc, char **argv);
int
cmd_bench_guest(int argc, char **argv);
int
cmd_run_guest(int argc, char **argv);
