/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A queue: one ring of one frontend, with its event channel, its grants and
 * its requests.
 *
 * The life of a request: taken into a recovery entry (that is the private
 * copy), decoded, refused or started; its data moves between the granted pages
 * and the store, by a persistent mapping, a grant copy or a mapping of its own;
 * answered once.  Everything stands on struct fh_plat and struct fh_store, so
 * that the simulator runs this very code.
 *
 * Invariants: requests in work + responses put = requests taken; a request is
 * judged on its entry only; asynchronous I/O never points at granted pages.
 *
 * Life: fh_queue_connect > take, publish (by the worker's turn) > fh_queue_stop
 * > until fh_queue_idle() > fh_queue_disconnect.  Memory is the caller's.  One
 * thread.  Never blocks but in the platform's grant calls, never logs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/blkif.h>
#include <freehold/err.h>
#include <freehold/pgrant.h>
#include <freehold/plat.h>
#include "blkback/disk.h"
#include "blkback/proto.h"
#include "blkback/record.h"
#include "ring/ring.h"

enum {
    FH_QUEUE_BATCH = 32, /* requests of one queue in a turn, and sectors (1 MiB
                            and what the last request exceeds it by): fairness */
    FH_QUEUE_TURN_SECTORS = 2048,
    FH_QUEUE_EARLY = 8,  /* answers of a batch that become visible at once, so
                            that the frontend works beside us */
    FH_COPY_PIECES = 1024,    /* of one grant copy; a request needs 512 */
    FH_QUEUE_MAX_PGRANTS = 16384, /* pages kept mapped: 64 MiB a ring */
    FH_QUEUE_SCRUB_BITS = 28, /* fh_rec_scrub() every 2^28 requests */
};

struct fh_queue;

/* What a request waits for. */
enum fh_rq_state {
    FH_RQ_FREE,
    FH_RQ_TODO,  /* taken, not judged or no buffer yet */
    FH_RQ_DESCS, /* its descriptors are being copied */
    FH_RQ_IN,    /* its data is being copied from the guest */
    FH_RQ_HELD,  /* an overlapping write, or a flush, is under way */
    FH_RQ_STORE, /* the store has it */
    FH_RQ_OUT,   /* its data is being copied to the guest */
};

/* A request in work; one for each slot of the ring. */
struct fh_rq {
    struct fh_store_io io; /* first: done() finds its request by it */
    struct fh_store_vec vec;
    struct fh_queue *q;
    struct fh_rq *next;    /* in the one list that it is in */
    uint16_t entry;        /* of the recovery file */
    uint16_t n_pieces;     /* in a copy batch, */
    uint32_t first_piece;  /* from here */
    enum fh_rq_state state;
    bool copy;             /* data moves by grant copy */
    bool judged;           /* req is valid */
    bool in_order;         /* stands in disk->writes */
    uint32_t n_blockers;   /* older overlapping writes */
    struct fh_rq *write_next; /* disk->writes */
    struct fh_rq *write_prev;
    void *buf;             /* of the pool, or NULL */
    struct fh_blkif_req req;
};

/* Grant copies collected over all queues, then done by one call. */
struct fh_copy_batch {
    uint32_t n;
    struct fh_rq *first; /* requests whose pieces these are */
    struct fh_rq *last;
    struct fh_plat_copy piece[FH_COPY_PIECES];
};

/* What all queues of one thread share. */
struct fh_back {
    struct fh_plat *plat;
    uint64_t now_ns;            /* of this turn, coarse */
    bool is_crowded;            /* other processes want our CPU; */
    uint64_t crowd_ns;          /* when to ask again */
    struct fh_copy_batch descs; /* indirect descriptors, */
    struct fh_copy_batch in;    /* data from guests, */
    struct fh_copy_batch out;   /* data to guests */
    uint64_t n_copy_calls;
    void *addr[FH_BLKIF_MAX_SEGMENTS]; /* scratch of one request */
    uint32_t ref[FH_BLKIF_MAX_SEGMENTS];
    struct fh_store_vec vec[FH_BLKIF_MAX_SEGMENTS];
};

struct fh_queue_params {
    uint32_t index;    /* of the disk's queues: which area of the recovery
                          file, 0 .. FH_REC_MAX_QUEUES - 1 */
    uint16_t domid;    /* the frontend's */
    enum fh_blkif_abi abi;
    uint32_t order;    /* 2^order ring pages, 0 .. 4 */
    const uint32_t *ring_refs;
    uint32_t port;     /* the frontend's event channel */
    enum fh_wk_grants grants;
    uint32_t max_indirect; /* as advertised; 0 .. FH_BLKIF_MAX_SEGMENTS */
    bool resume;           /* go on where a dead worker stopped */
    uint64_t pgrant_idle_ns;
    struct fh_wk_queue_stats *stats; /* or NULL: the queue keeps its own */
};

struct fh_queue {
    struct fh_back *back;
    struct fh_disk *disk;
    uint32_t index;
    uint16_t domid;
    enum fh_blkif_abi abi;
    enum fh_wk_grants grants;
    uint32_t response_bytes;
    uint32_t port;           /* ours */
    bool bound;
    bool stopping;           /* takes nothing any more */
    bool broken;             /* impossible index: never looked at again */
    bool fault_told;         /* the worker's: QUEUE_FAULT was sent */
    bool stalled;            /* waits for a very old request (R4's window) */
    bool notify_due;         /* the frontend asked for it, or was resumed */
    bool notified_early;     /* in this turn */
    bool unmask_due;         /* an event was taken: unmask after the work */
    struct fh_bring ring;
    uint32_t ring_pages;
    struct fh_rec rec;
    struct fh_blkif_limits limits;
    struct fh_pgrant pgrant;
    bool has_pgrant;
    struct fh_rq *rqs;       /* [n_slots] */
    uint16_t *free;          /* entries that hold nothing, a stack */
    uint32_t n_free;
    struct fh_rq *todo;      /* taken, waiting to start, oldest first */
    struct fh_rq *todo_last;
    struct fh_wk_queue_stats *stats;
    struct fh_wk_queue_stats own_stats;
};

/* Makes @b; it holds nothing to be freed. */
void
fh_back_init(struct fh_back *b, struct fh_plat *plat);

/* Bytes of memory that a queue of these parameters needs, or 0 when one is out
 * of its bounds. */
size_t
fh_queue_bytes(const struct fh_queue_params *p);

/*
 * fh_queue_connect - map the ring, bind the port, start or resume
 *
 * @mem: fh_queue_bytes(@p) bytes, aligned as malloc() aligns, zeroed; borrowed
 *       until fh_queue_disconnect()
 *
 * A resumed queue has its outstanding requests in work, and notifies the
 * frontend once.  On failure the queue is disconnected again.
 *
 * Returns 0, a negative error of the platform, FH_WK_E_RING or
 *   FH_WK_E_RECOVERY.
 */
FH_MUST_CHECK int
fh_queue_connect(struct fh_queue *q, void *mem, struct fh_back *b,
                 struct fh_disk *d, const struct fh_queue_params *p);

/*
 * fh_queue_take - take up to FH_QUEUE_BATCH requests and start them
 *
 * First those that had to wait.  Returns how many made progress; a broken ring
 * sets q->broken.
 */
uint32_t
fh_queue_take(struct fh_queue *q);

/* Does the copies collected so far and takes their requests further; then
 * starts writes of @d that are ready. */
void
fh_back_run_copies(struct fh_back *b);
void
fh_disk_run_ready(struct fh_disk *d);

/*
 * fh_queue_publish - make the answers visible, notify if the frontend asked
 *
 * Returns how many answers became visible.
 */
uint32_t
fh_queue_publish(struct fh_queue *q);

/*
 * fh_queue_arm - before sleeping: ask the frontend for an event
 *
 * Returns true when nothing is there to be taken: the caller may sleep.
 */
bool
fh_queue_arm(struct fh_queue *q);

/* Takes nothing any more; what is in work goes on. */
void
fh_queue_stop(struct fh_queue *q);

/* Nothing is in work. */
bool
fh_queue_idle(const struct fh_queue *q);

/* Unmaps and unbinds everything; q is idle.  Tolerates a half-built queue.
 * Returns 0 or the first error of the platform. */
int
fh_queue_disconnect(struct fh_queue *q);
