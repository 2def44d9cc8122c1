/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where things are: run directories, the libraries of the local hypervisor;
 * and the few lines that every command shares to print JSON.
 *
 * Threads: one.
 */
#include <stddef.h>
#include <stdint.h>

struct json_object;

enum { FH_PLACE_PATH = 256 };

#define FH_PLACE_RUN_DIR_HELP                                                  \
    "where hypervisor and backend have their sockets\n"                        \
    "(default: /run/freehold as root, else\n"                                  \
    "$XDG_RUNTIME_DIR/freehold or /tmp/freehold-UID)"

/* The run directory: @given, or the default; it need not exist.  Returns 0 or
 * a negative error, explained: it is somebody else's. */
int
fh_place_run_dir(char out[FH_PLACE_PATH], const char *given, const char *who);

/* The same for whoever will serve there: made unless it exists. */
int
fh_place_make_run_dir(char out[FH_PLACE_PATH], const char *given,
                      const char *who);

/* The hypervisor's directory in run directory @run_dir. */
void
fh_place_hv_dir(char out[FH_PLACE_PATH], const char *run_dir);

/* Where libxengnttab.so.1 and libxenevtchn.so.1 of fhv are: beside a built
 * executable, or where they were installed.  Explained if neither. */
int
fh_place_libs(char out[FH_PLACE_PATH], const char *who);

/* The nbdkit plugin, likewise. */
int
fh_place_plugin(char out[FH_PLACE_PATH], const char *who);

/* 0 when this user namespace has the @n uids from @want on; otherwise, in a
 * container that lacks them, the first of @n others that it has. */
uint32_t
fh_place_uids(uint32_t want, uint32_t n);

/* Prints @o on stdout as indented JSON and a newline; returns 0, or 1 when
 * stdout does not take it. */
int
fh_place_print_json(struct json_object *o);
