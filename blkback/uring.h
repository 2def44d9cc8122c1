/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The worker's one io_uring: store I/O, the descriptors it watches, its only
 * sleep.  Everything that was prepared goes to the kernel together with the
 * next kick or sleep.
 *
 * Its table of registered files holds the write end of the supervisor's fence
 * pipe, and nobody else does: the pipe's EOF tells that the kernel has let go
 * of the ring and of every I/O in it, which may be seconds after the process
 * is gone.  Until the first store's file is in the table there is no such I/O,
 * and the fence is an ordinary descriptor: a worker of memory disks is over
 * when its process is.
 *
 * It does reads, writes, syncs, polls and timeouts on what is open, and is
 * restricted to them (a filter of system calls does not see what it does): a
 * further operation must be entered in uring.c's restrict_ring().
 *
 * Life: open > watch, I/O > close.  One thread, always the same.  Only
 * fh_uring_wait() sleeps.  Never logs.
 */
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <freehold/err.h>
#include "blkback/store/store.h"

enum {
    FH_URING_SQES = 256,
    FH_URING_CQES = 4096,
    FH_URING_WATCHES = 2,
    FH_URING_BUFFERS = 64, /* a region for each disk */
    FH_URING_FILES = 1 + FH_URING_BUFFERS, /* the fence, a file for each */
    FH_URING_FENCE = 0, /* its place in the table of files */
};

struct fh_uring {
    struct io_uring ring;
    bool open;
    int fence_fd;         /* until it is in the table; -1: it is, or none */
    uint64_t n_enters;    /* system calls made here */
    uint64_t locked_bytes_left; /* that may still be registered */
    uint64_t files_used;  /* bit i: place i + 1 of the table */
    uint64_t buffers_used;
    struct {
        int fd; /* -1: none */
        bool armed;
        bool ready; /* set here, cleared by the user */
    } watch[FH_URING_WATCHES];
    bool has_alarm;       /* set and not gone off yet */
    struct __kernel_timespec alarm;
};

/*
 * fh_uring_open - make the ring
 *
 * @fence_fd:     owned from now on, also after a failure; -1: no fence (tests)
 * @locked_bytes: registered buffers at most
 *
 * Returns 0 or a negative error (FH_ENOSYS, FH_EPERM: no io_uring here).
 */
FH_MUST_CHECK int
fh_uring_open(struct fh_uring *u, int fence_fd, uint64_t locked_bytes);

/* Tolerates a ring that is not open. */
void
fh_uring_close(struct fh_uring *u);

/* Place @i watches @fd for input from the next sleep on. */
void
fh_uring_watch(struct fh_uring *u, uint32_t i, int fd);

/* Takes @fd into the table of files, after the fence: the place, or a negative
 * error.  The descriptor may then be closed. */
int
fh_uring_add_file(struct fh_uring *u, int fd);
void
fh_uring_remove_file(struct fh_uring *u, int place);

/* Registers a buffer: its index, or -1 when the limits forbid it, which is no
 * error: I/O works without. */
int32_t
fh_uring_add_buffer(struct fh_uring *u, void *base, size_t bytes);
void
fh_uring_remove_buffer(struct fh_uring *u, int32_t index, size_t bytes);

/* An entry to prepare, or NULL: the ring is full even after a kick. */
struct io_uring_sqe *
fh_uring_sqe(struct fh_uring *u);

/* Makes @sqe end with @complete(io, res).  Uses io->priv[0]. */
typedef void
fh_uring_complete(struct fh_store_io *io, int32_t res);
void
fh_uring_bind(struct io_uring_sqe *sqe, struct fh_store_io *io,
              fh_uring_complete *complete);

/* Hands what is prepared to the kernel. */
int
fh_uring_kick(struct fh_uring *u);

/* Completes what has finished, without sleeping; how many I/Os that were. */
uint32_t
fh_uring_reap(struct fh_uring *u);

/* Ends a sleep in @timeout_ns, this one or one of those after it; there is one
 * alarm at most.  Cheaper than a limit on every sleep. */
void
fh_uring_alarm(struct fh_uring *u, uint64_t timeout_ns);

/* Kicks, and sleeps until anything finished, a watched descriptor is ready or
 * @timeout_ns passed (UINT64_MAX: no limit).  Reaps nothing. */
int
fh_uring_wait(struct fh_uring *u, uint64_t timeout_ns);
