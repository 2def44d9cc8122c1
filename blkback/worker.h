/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The worker's loop over its disks and queues, without any way to the world
 * but struct fh_plat and struct fh_store: worker_main.c gives it sockets and an
 * io_uring, the simulator virtual time.
 *
 * A turn: finish what the stores finished, take events, take requests of each
 * queue (a bounded batch), do the collected grant copies, submit, answer,
 * publish and notify at most once per queue, unmask.
 *
 *   for (;;) {
 *       if (fh_worker_turn(w))         { fh_worker_kick(w); continue; }
 *       ... poll for a while, then:
 *       if (!fh_worker_arm(w))         continue;
 *       wait, at most until fh_worker_due(w)  (kicks as well)
 *   }
 *
 * One thread.  Never blocks but in the platform's grant calls, never logs.
 */
#include <stdbool.h>
#include <stdint.h>
#include <freehold/err.h>
#include "blkback/disk.h"
#include "blkback/queue.h"

enum {
    FH_WORKER_MAX_QUEUES = FH_WK_STATS_QUEUES,
    FH_WORKER_MAX_DISKS = 64,
    FH_WORKER_EVENTS = 64, /* taken in one turn: a storm costs no more */
};

struct fh_worker {
    struct fh_back back;
    struct fh_rec_log log; /* of all recovery files */
    struct fh_queue *queue[FH_WORKER_MAX_QUEUES]; /* NULL: none */
    struct fh_disk *disk[FH_WORKER_MAX_DISKS];
    uint32_t n_queues; /* slots in use, from the start of queue[] */
    uint32_t n_disks;
    uint32_t first;    /* queue to begin the next turn with */
    uint64_t n_turns;
    uint64_t expire_ns; /* when cached grants are next looked at */
    void (*fault)(struct fh_worker *w, struct fh_queue *q); /* broken ring;
                                         called once per queue; may be NULL */
    void *arg;          /* the embedder's */
};

void
fh_worker_init(struct fh_worker *w, struct fh_plat *plat);

/* Enters a disk or a queue, or takes it out again (closed, disconnected);
 * the caller owns them.  FH_ENOSPC at the limit. */
FH_MUST_CHECK int
fh_worker_add_disk(struct fh_worker *w, struct fh_disk *d);
FH_MUST_CHECK int
fh_worker_add_queue(struct fh_worker *w, struct fh_queue *q);
void
fh_worker_remove_disk(struct fh_worker *w, struct fh_disk *d);
void
fh_worker_remove_queue(struct fh_worker *w, struct fh_queue *q);

/* One turn.  Returns how much was done: 0 when there was nothing to do. */
uint32_t
fh_worker_turn(struct fh_worker *w);

/* Hands what was submitted to the kernel. */
int
fh_worker_kick(struct fh_worker *w);

/* Before sleeping: asks every frontend for an event.  True: nothing is there,
 * sleep; false: there is work already. */
bool
fh_worker_arm(struct fh_worker *w);

/* When the worker wants to run again although nothing happens (idle grants are
 * unmapped then); UINT64_MAX: never. */
uint64_t
fh_worker_due(const struct fh_worker *w);
