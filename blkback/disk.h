/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A disk: a store, its recovery file, its buffers and the order of its writes.
 * Queues (queue.h) are another object: several may serve one disk.
 *
 * Invariants: no two writes that overlap are ever under way together (R5 of
 * recovery.h); no two flushes are: an fsync that fails tells it once, and the
 * other one might be answered well although data is lost; once a flush has
 * failed, every later write and flush fails.
 *
 * Life: fh_disk_init > queues connect and disconnect > fh_disk_fini.  All
 * memory is the caller's.  One thread.  Never blocks, allocates or logs.
 */
#include <stdbool.h>
#include <stdint.h>
#include <freehold/err.h>
#include "blkback/pool.h"
#include "blkback/record.h"
#include "blkback/store/store.h"

struct fh_rq;

struct fh_disk_params {
    uint32_t id;              /* the supervisor's number */
    struct fh_store *store;   /* open; closed by whoever opened it */
    struct fh_rec_file *rec;  /* mapped for writing */
    struct fh_rec_log *log;
    void *buffers;            /* for I/O, page-aligned */
    size_t buffer_bytes;      /* of them; FH_POOL_MIN_BYTES at least */
    int32_t buffer_index;     /* registered with the kernel as, or -1 */
};

struct fh_disk {
    uint32_t id;
    struct fh_store *store;
    struct fh_rec_file *rec;
    struct fh_rec_log *log;
    struct fh_pool pool;
    int32_t buffer_index;
    bool failed;            /* a flush failed, now or in an earlier life */
    uint32_t n_queues;      /* connected */
    uint32_t n_held;        /* writes that wait for others */
    struct fh_rq *writes;   /* under way or held, oldest first */
    struct fh_rq *writes_last;
    struct fh_rq *flush;      /* under way, or about to be */
    struct fh_rq *flush_same; /* will be answered with it */
    struct fh_rq *flush_next; /* came later: the next one is for all of them */
    struct fh_rq *ready;    /* to be submitted now, oldest first */
    struct fh_rq *ready_last;
};

/*
 * fh_disk_init - make a disk of an open store
 *
 * Returns 0, FH_EINVAL for buffers that are too small, or FH_REC_E_CORRUPT
 *   when the recovery file is not this disk's.
 */
FH_MUST_CHECK int
fh_disk_init(struct fh_disk *d, const struct fh_disk_params *p);

/* No queue may be connected. */
void
fh_disk_fini(struct fh_disk *d);

/* A flush failed: from now on every write and flush does, for good. */
void
fh_disk_fail(struct fh_disk *d);

/*
 * fh_disk_write_begin - enter a write into the order
 *
 * Returns true when it may start at once; otherwise it is held back, and comes
 *   out of fh_disk_next_ready() once nothing older overlaps it.
 */
bool
fh_disk_write_begin(struct fh_disk *d, struct fh_rq *rq);

/* The write has been answered; what it held back may become ready. */
void
fh_disk_write_end(struct fh_disk *d, struct fh_rq *rq);

/* Enters a flush.  True: start it; false: it waits for the one under way. */
bool
fh_disk_flush_begin(struct fh_disk *d, struct fh_rq *rq);

/*
 * fh_disk_flush_end - the flush under way has ended
 *
 * The next one becomes ready.  Returns those that it was for as well, by
 * rq->next.
 */
struct fh_rq *
fh_disk_flush_end(struct fh_disk *d);

/* To be started at the next opportunity: a held write, or what the store had
 * no room for. */
void
fh_disk_make_ready(struct fh_disk *d, struct fh_rq *rq);

/* The next request that may start now, or NULL. */
struct fh_rq *
fh_disk_next_ready(struct fh_disk *d);
