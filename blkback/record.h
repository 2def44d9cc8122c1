/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Stores to the recovery state (recovery.h): every single one goes through
 * here, in program order, and is counted.
 *
 * A worker that is killed leaves a prefix of these stores behind.  The count
 * serves the tests that cut the sequence after the k-th for every k: a real
 * worker kills itself in the hook, unit tests and the simulator take a
 * snapshot or leave the world there.
 *
 * Life: fh_rec_format() by whoever makes the file; fh_rec_check() and then the
 * verbs by the worker; no deinit.  One thread.  Never blocks, never logs.
 */
#include <stdbool.h>
#include <stdint.h>
#include <freehold/err.h>
#include "blkback/recovery.h"
#include "ring/ring.h"

/* Verdict: the state is corrupt, or another disk's.  FH_WK_E_RECOVERY on the
 * wire. */
enum { FH_REC_E_CORRUPT = 1 };

/* The count, one for all recovery files of a worker. */
struct fh_rec_log {
    uint64_t n_stores;
    uint64_t hook_at; /* hook() runs after the store of this number; 0: never */
    void (*hook)(struct fh_rec_log *log); /* may change hook_at */
    void *arg;                            /* the hook's own */
};

/* The part of a recovery file that one queue writes. */
struct fh_rec {
    struct fh_rec_log *log;
    struct fh_rec_queue *q;
    uint32_t n_slots;
    uint32_t rsp_prod; /* as committed */
    uint32_t req_cons;
};

static inline void
fh_rec_stored(struct fh_rec_log *log)
{
    /* What a kill leaves behind is in program order. */
    fh_fence_kill();
    if (__builtin_expect(++log->n_stores == log->hook_at, 0))
        log->hook(log);
}

static inline void
fh_rec_store32(struct fh_rec_log *log, uint32_t *p, uint32_t v)
{
    fh_store_relaxed32(p, v);
    fh_rec_stored(log);
}

static inline void
fh_rec_store64(struct fh_rec_log *log, uint64_t *p, uint64_t v)
{
    fh_store_relaxed64(p, v);
    fh_rec_stored(log);
}

/* R1: takes the next request of @ring into entry @e. */
static inline void
fh_rec_take(struct fh_rec *r, uint32_t e, struct fh_bring *ring)
{
    struct fh_rec_entry *entry = &r->q->entry[e];

    fh_rec_store32(r->log, &entry->req_idx, ring->req_cons);
    fh_rec_store64(r->log, &entry->answer, 0);
    fh_rec_store32(r->log, &entry->n_segs, 0);
    fh_bring_take(ring, entry->slot);
    fh_rec_stored(r->log);
}

/* R2 and R3: the commit point. */
static inline void
fh_rec_commit(struct fh_rec *r, uint32_t req_cons, uint32_t rsp_prod)
{
    r->req_cons = req_cons;
    r->rsp_prod = rsp_prod;
    fh_rec_store64(r->log, &r->q->commit, (uint64_t)req_cons << 32 | rsp_prod);
}

/* R3: entry @e has been answered in the response slot of index @rsp_idx. */
static inline void
fh_rec_answer(struct fh_rec *r, uint32_t e, uint32_t rsp_idx)
{
    fh_rec_store64(r->log, &r->q->entry[e].answer, FH_REC_ANSWERED | rsp_idx);
}

/* The descriptors of entry @e are all in segs[e]. */
static inline void
fh_rec_segs_saved(struct fh_rec *r, uint32_t e, uint32_t n_segs)
{
    fh_rec_store32(r->log, &r->q->entry[e].n_segs, n_segs);
}

/*
 * fh_rec_format - write the header of a new recovery file
 *
 * @file: mapped and zeroed, sizeof(struct fh_rec_file) long (sparse)
 *
 * Every queue area is inactive.  By the supervisor, before a worker has the
 * file: these stores are not counted.
 */
void
fh_rec_format(struct fh_rec_file *file, uint64_t disk_sectors, uint32_t domid,
              uint32_t devid, uint64_t connection);

/* Whether @file is a recovery file of a disk of @disk_sectors: 0 or
 * FH_REC_E_CORRUPT. */
FH_MUST_CHECK int
fh_rec_check(const struct fh_rec_file *file, uint64_t disk_sectors);

/*
 * fh_rec_start - make queue @q's area that of a fresh ring
 *
 * Nothing counts as outstanding before, between and after these stores.
 */
void
fh_rec_start(struct fh_rec *r, struct fh_rec_log *log, struct fh_rec_queue *q,
             uint32_t abi, uint32_t n_slots);

/*
 * fh_rec_resume - take up queue @q's area after the death of its worker
 *
 * @todo:   FH_REC_MAX_SLOTS; entries that are outstanding, oldest first
 * @n_todo: how many
 *
 * Everything in the file is judged as if a hostile peer had written it.
 *
 * Returns 0; FH_REC_E_CORRUPT; or FH_ENOENT when the area was never started
 *   (its worker died before it took anything: start it fresh).
 */
FH_MUST_CHECK int
fh_rec_resume(struct fh_rec *r, struct fh_rec_log *log, struct fh_rec_queue *q,
              uint32_t abi, uint32_t n_slots, uint16_t *todo, uint32_t *n_todo);

/* The ring is gone: nothing in the area is outstanding any more. */
void
fh_rec_stop(struct fh_rec *r);

/*
 * fh_rec_scrub - renew the answers of free entries
 *
 * R4 compares indices in a window of 2^31: an entry that stays free for that
 * long would look outstanding again.  To be called at least once in 2^30
 * requests.
 *
 * @free: @n entries that hold nothing
 */
void
fh_rec_scrub(struct fh_rec *r, const uint16_t *free, uint32_t n);
