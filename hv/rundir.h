/* SPDX-License-Identifier: MIT */
#pragma once
/* The run directory: made, locked, cleaned. */
#include <stddef.h>

#include <freehold/err.h>

/*
 * fh_hv_rundir_open - make the run directory ours
 *
 * @name:    of the program, for messages on standard error
 * @dir:     wanted directory, or NULL for the default
 * @lib_dir: where the two libraries are copied from, or NULL
 * @path:    gets its absolute name
 * @lock_fd: gets a descriptor whose lock says that we are the one
 *
 * Returns 0, or a negative error that was reported.
 */
FH_MUST_CHECK int
fh_hv_rundir_open(const char *name, const char *dir, const char *lib_dir,
                  char *path, size_t size, int *lock_fd);

/* Removes what a hypervisor makes in the run directory, and nothing else. */
void
fh_hv_rundir_clean(const char *path);

/* The same and the lock: for the end. */
void
fh_hv_rundir_leave(const char *path);
