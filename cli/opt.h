/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Options of a subcommand as one table: parsing, limits, the help text and the
 * messages for bad input all come from it.
 *
 * A command describes itself with a static struct fh_opt_cmd and parses into a
 * struct of its own, whose defaults it has filled in before.  A message names
 * the word that was wrong and says what would be right.
 *
 * Threads: one.  Prints on stdout (help) and stderr (bad input).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FH_EXIT_OK = 0,
    FH_EXIT_FAILURE = 1,
    FH_EXIT_USAGE = 2,
    FH_OPT_GO = -1, /* fh_opt_parse(): go on; everything else is an exit
                       status */
};

enum fh_opt_kind {
    FH_OPT_FLAG,    /* bool, set to true */
    FH_OPT_STRING,  /* const char * */
    FH_OPT_NUMBER,  /* uint32_t, min .. max */
    FH_OPT_SIZE,    /* uint64_t bytes with k, m, g; min .. max */
    FH_OPT_SECONDS, /* double; min .. max in milliseconds */
    FH_OPT_CHOICE,  /* int, index into choices */
};

struct fh_opt {
    const char *name; /* long, without dashes */
    char letter;      /* 0: none */
    enum fh_opt_kind kind;
    size_t offset;    /* of the member it writes */
    const char *arg;  /* how the help names the value; NULL for flags */
    const char *help; /* may have several lines */
    uint64_t min;
    uint64_t max;     /* 0: the type's own */
    const char *const *choices; /* NULL-terminated */
    bool hidden;      /* for tests */
};

struct fh_opt_cmd {
    const char *name; /* as typed, "hv start" */
    const char *args; /* behind the options in the usage line; may be "" */
    const char *text; /* what it does, with examples; ends in a newline */
    const struct fh_opt *options;
    size_t n_options;
    int min_args;     /* positional arguments */
    int max_args;     /* -1: any number */
    bool stop_at_arg; /* the first positional ends the options (exec) */
};

/*
 * fh_opt_parse - read a command's options
 *
 * @c:      the description
 * @values: the command's struct
 * @argc:   in and out: on FH_OPT_GO the positional arguments, and
 * @argv:   the first of them; the array is reordered in place
 *
 * Returns FH_OPT_GO, or the exit status after help (0) or bad input (2), which
 * it has then explained.
 */
int
fh_opt_parse(const struct fh_opt_cmd *c, void *values, int *argc,
             char ***argv);

/* Prints "freehold NAME: ..." and where to find help; returns 2. */
int
fh_opt_usage(const struct fh_opt_cmd *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Prints "freehold NAME: ..." for a failure; returns 1. */
int
fh_opt_fail(const char *name, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Reads "64m", "4k", "512", "1g"; false when it is none of these. */
bool
fh_opt_size(const char *text, uint64_t *bytes);

/* Reads a whole decimal number of at most @max; false when it is none. */
bool
fh_opt_number(const char *text, uint64_t max, uint64_t *value);
