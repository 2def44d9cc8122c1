/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files of lib/blkfront share.
 *
 *   blkfront.c   memory, life, accessors
 *   handshake.c  xenstore: the frontend's side of the states
 *   io.c         submit, kick, poll
 *   wait.c       spin, arm, sleep, events
 *   sync.c       any bytes, blocking
 *   pool.c       pages
 */
#include <freehold/blkfront.h>
#include "base/poller.h"
#include "ring/ring.h"
#include "blkfront/pool.h"

enum {
    FH_BLKFRONT_MAX_SLOTS = 512, /* of a ring of order 4 */
    FH_BLKFRONT_NO_SLOT = 0xffff,
    FH_BLKFRONT_TXN_TRIES = 32,        /* a conflict storm must not hold us */
    FH_BLKFRONT_STEPS = 8,             /* longest chain of states */
    FH_BLKFRONT_SPURIOUS = 16,         /* events for nothing, in a row, ... */
    FH_BLKFRONT_CALM_NS = 1000 * 1000, /* ... before we stop listening so
                                          long */
    FH_BLKFRONT_WATCH_POLLS = 4096,    /* polls between looks at xenstore */
};

/* One request in flight, or a free slot. */
struct fh_blkfront_slot {
    uint64_t id; /* on the wire: use count << 32 | index, never twice */
    uint64_t cookie;
    uint64_t start_ns;
    void *copy_to;     /* bounced read: where the data goes */
    uint32_t n_bytes;  /* bounced */
    uint32_t page;     /* bounced: first page of the pool */
    uint16_t n_pages;  /* bounced */
    uint16_t n_grants; /* in place: of queue.grants */
    uint16_t desc;     /* descriptor page + 1; 0: a direct request */
    uint16_t next;     /* in the free list */
    uint8_t op;        /* enum fh_blkif_op */
    uint8_t wire_op;   /* that the response must have */
    bool live;
};

/* One ring and what belongs to it; a disk has one, for now. */
struct fh_blkfront_queue {
    struct fh_fring ring;
    struct fh_blkfront_slot *slots;
    uint32_t n_slots; /* of the ring in use */
    uint32_t n_live;
    uint16_t free_slot; /* head of the list */
    uint16_t n_free_desc;
    uint16_t *free_desc; /* stack of descriptor pages */
    uint32_t *grants;    /* in place: max_segments for each slot; or NULL */
    void *ring_addr;     /* NULL: no ring */
    uint32_t ring_pages;
    uint32_t port;
    bool has_port;
    bool masked;         /* an event was taken: unmask before a sleep */
    bool worked;         /* a response came since that event */
    uint32_t n_spurious; /* in a row */
    uint32_t rsp_bytes;
    uint32_t slot_bytes;
};

struct fh_blkfront {
    struct fh_blkfront_params params;
    struct fh_blkfront_info info;
    struct fh_blkfront_counts counts;
    struct fh_blkfront_queue queue;
    struct fh_blkfront_pool pool;
    struct fh_poller poller;
    enum fh_blkfront_state state;
    enum fh_blkfront_fault fault;
    bool gone;  /* the backend died or left: requests fail */
    bool dirty; /* a watch fired: step */
    bool watching;
    bool said_closed; /* our state is 6, the backend's is awaited */
    bool pool_taken;  /* by pread and friends */
    int read_error;   /* xenstore failed when a number was read */
    uint16_t domid;   /* of the backend */
    uint32_t n_polls;
    uint32_t sector_mask; /* alignment, in sectors - 1 */
    uint8_t *pool_addr;   /* NULL: not shared yet; then descriptor pages */
    uint32_t *refs;       /* of pool and descriptor pages */
    uint32_t n_desc;
    struct fh_blkif_seg *segs;         /* scratch, FH_BLKIF_MAX_SEGMENTS */
    char frontend[FH_XS_PATH_MAX + 1]; /* also the watch's token */
    char backend[FH_XS_PATH_MAX + 1];
    char path[FH_XS_PATH_MAX + 1]; /* scratch */
    char token[FH_XS_PATH_MAX + 1];
    char value[FH_XS_PAYLOAD_MAX + 1];
};

/* blkfront.c */

/* Stops the disk for good; the first reason counts. */
void
fh_blkfront_break(struct fh_blkfront *bf, enum fh_blkfront_fault f);

/* Shares ring (info.order), pool and an event channel. */
FH_MUST_CHECK int
fh_blkfront_share(struct fh_blkfront *bf, uint32_t *ring_refs);
void
fh_blkfront_drop_ring(struct fh_blkfront *bf);
void
fh_blkfront_drop_pool(struct fh_blkfront *bf);

/* handshake.c */
FH_MUST_CHECK int
fh_blkfront_find_backend(struct fh_blkfront *bf);
void
fh_blkfront_unwatch(struct fh_blkfront *bf);

/* wait.c: takes what the platform has for us; never blocks. */
int
fh_blkfront_take_watches(struct fh_blkfront *bf);
int
fh_blkfront_take_events(struct fh_blkfront *bf);

/* Time until @deadline_ns; UINT64_MAX: none. */
static inline uint64_t
fh_blkfront_left(struct fh_plat *p, uint64_t deadline_ns)
{
    uint64_t now;

    if (deadline_ns == UINT64_MAX)
        return UINT64_MAX;
    now = p->ops->now_ns(p);
    return now < deadline_ns ? deadline_ns - now : 0;
}

static inline uint64_t
fh_blkfront_deadline(struct fh_plat *p, uint64_t timeout_ns)
{
    uint64_t now = p->ops->now_ns(p);

    return timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
}
