/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One thread that owns a disk's frontend and serves many.
 *
 * The frontend library belongs to one thread; nbdkit calls from as many as
 * there are requests.  So the callers queue a job and sleep; the engine's
 * thread cuts jobs into ring requests, keeps as many of them in flight as the
 * ring takes, and wakes each caller when his last one is answered.
 *
 * Life: start (after nbdkit has forked) > run > stop.
 * Threads: run and info from any, at the same time; start and stop from one.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/blkfront.h>

struct engine_config {
    const char *frontend;
    uint32_t order;
    uint32_t max_indirect;
    uint32_t pool_pages;
    uint32_t poll_ns;
    uint64_t timeout_ns; /* of connecting and closing */
    bool persistent;
};

/*
 * engine_start - connect to the backend
 *
 * Returns 0, a negative error or FH_BLKFRONT_E_*; *@what then names the step
 *   that failed.
 */
int
engine_start(const struct engine_config *config, const char **what);

/* Closes the disk; nobody may be in engine_run().  Tolerates not started. */
void
engine_stop(void);

/* What the backend offered; n_sectors may change. */
struct fh_blkfront_info
engine_info(void);

/*
 * engine_run - read, write, flush or discard any bytes, blocking
 *
 * @op:   FH_BLKIF_READ, _WRITE, _FLUSH or _DISCARD; the latter covers the whole
 *        sectors inside the range
 * @data: @bytes of them; NULL for flush and discard
 *
 * Parts of sectors are read and written back; two such writes never mix.
 *
 * Returns 0 or a negative error: FH_EIO, FH_ERANGE, FH_EROFS, FH_EOPNOTSUPP,
 *   FH_ENOTCONN.
 */
int
engine_run(enum fh_blkif_op op, void *data, uint64_t bytes, uint64_t offset);
