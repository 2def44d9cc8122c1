/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A file system of one file, "disk", in which writes take as long as the test
 * likes: below the worker's kernel I/O, so that a write goes on after the
 * worker's death.  Speaks the kernel's FUSE protocol itself; needs root.
 *
 * The server is a process of its own; its memory is shared with the test.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/shared.h"

enum { SLOWFS_BYTES = 64 << 20 };

struct slowfs {
    pid_t pid;
    char dir[64];
    char path[80]; /* of the file */
    uint8_t *data; /* its contents */
    struct slowfs_shared *shared;
};

struct slowfs_shared {
    fh_word32 delay_ms;  /* of writes that arrive from now on */
    fh_word32 n_writes;  /* arrived */
    fh_word32 n_landed;
};

/* False: not possible here (no root, no FUSE). */
bool
slowfs_start(struct slowfs *fs);
void
slowfs_stop(struct slowfs *fs);
