/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What stands behind a disk: a file, a block device, memory, or nothing;
 * opened with the right it is used with, sized, and locked against a second
 * writer.
 *
 * A lock is an open-file-description lock on a description of its own, so it
 * holds against other processes and against a second open by this one:
 * a writable image excludes everybody; read-only ones exclude writers; `shared`
 * ones exclude only those who are not.  Block devices are also compared by
 * number by whoever keeps several (two device nodes can name one device).
 *
 * Life: open -> worker_fd, once for each worker -> close.
 * Threads: any, one per image.  Blocks as open(2) does.  Logs never.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/err.h>
#include "blkback/proto.h"

enum { FH_IMAGE_TARGET_MAX = 1024, FH_IMAGE_TEXT_MAX = 256 };

struct fh_image {
    enum fh_wk_store store;
    char target[FH_IMAGE_TARGET_MAX];
    bool read_only;
    bool shared;
    bool direct;        /* descriptors are O_DIRECT */
    bool is_block;
    uint64_t dev, ino;  /* of a file; of a block device its own number, 0 */
    uint32_t alignment; /* of direct I/O, bytes */
    uint32_t physical_sector_bytes;
    uint64_t n_sectors;
    uint64_t lost_bytes; /* at the end, no whole sector */
    int fd;   /* what the next worker gets; -1: null.  Until then it is the
                 witness: opened before the present worker's first write */
    int lock_fd; /* holds the lock; -1 none */
};

/*
 * fh_image_open - open @target: an absolute path, "mem:SIZE" or "null:SIZE"
 *
 * @img: written in any case; after a failure nothing is open
 * @why: FH_IMAGE_TEXT_MAX bytes; on failure a sentence for a human
 *
 * Returns 0 or a negative error; FH_EBUSY: locked by somebody else.
 */
FH_MUST_CHECK int
fh_image_open(struct fh_image *img, const char *target, bool read_only,
              bool shared, char *why);

/* Tolerates an image that is not open. */
void
fh_image_close(struct fh_image *img);

/*
 * fh_image_worker_fd - the descriptor for a worker's next incarnation
 *
 * The witness is handed out and a new one opened.  An error of writing back
 * is reported once to each open description: the witness has not been asked
 * since before the dead worker's first write, so the successor's first fsync
 * on it sees what the dead one may have consumed.
 *
 * Returns the descriptor (the caller closes it), -1 for a null store, or
 * another negative error.
 */
int
fh_image_worker_fd(struct fh_image *img);

/*
 * fh_image_reopen - open again what an earlier process had open, by its name
 *
 * @img: as that process left it, without descriptors
 *
 * Returns 0 or a negative error; FH_EBADF: the name is another file's by now,
 *   or memory that is gone cannot come back with what was in it.
 */
FH_MUST_CHECK int
fh_image_reopen(struct fh_image *img, char *why);

/*
 * fh_image_take - take over what a worker kept of an image
 *
 * @fds: by enum fh_wk_fd; the worker may lie.  What is taken becomes -1
 *
 * Returns 0, or FH_EBADF: that is not the image.
 */
FH_MUST_CHECK int
fh_image_take(struct fh_image *img, int *fds);

/* Takes @fd, which fh_image_worker_fd() returned, as the witness again: its
 * worker never used it. */
void
fh_image_give_back(struct fh_image *img, int fd);

/* True when both are the same storage and one of them writes unshared. */
bool
fh_image_conflicts(const struct fh_image *a, const struct fh_image *b);

/* "64m", "1g", "4096": bytes, a multiple of 512, above 0. */
FH_MUST_CHECK int
fh_image_parse_size(const char *text, uint64_t *bytes);
