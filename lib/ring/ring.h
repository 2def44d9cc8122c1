/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The shared ring of a split driver, back half and front half.
 *
 * One page or 2^n pages that both sides map: four free-running 32-bit indices
 * in the first 16 bytes, slots from byte 64 on (<xen/io/ring.h> describes the
 * same memory; blkif's sizes are asserted in lib/blkif).  The frontend writes
 * requests and req_prod, the backend responses and rsp_prod; each side sets
 * the other's hold-off index when it is about to sleep.
 *
 * The peer is hostile: of the shared indices each half reads only the peer's,
 * its own come from private copies; a slot is copied out once and judged on
 * the copy (XSA-155, XSA-86).
 *
 * Life: init, then any verb, no deinit (the memory is the caller's).  One
 * thread per half.  Nothing here blocks, allocates or logs.
 *
 * Memory ordering, each pair modelled in tests/model/ring.cc:
 *   F1/B1  request slots before req_prod;  B2/F2  response slots before
 *   rsp_prod; F3/B4 and B3/F4  publish against arm (store, full fence, load on
 *   both sides: one of the two sees the other, or both would sleep).
 */
#include "base/shared.h"

enum {
    FH_RING_HEADER_BYTES = 64,
    FH_RING_MAX_ORDER = 4,
};

/* Verdicts. */
enum {
    /* The peer's index is impossible: stop the ring for good. */
    FH_RING_E_BROKEN = 1,
};

struct fh_ring_shared {
    fh_word32 req_prod;
    fh_word32 req_event;
    fh_word32 rsp_prod;
    fh_word32 rsp_event;
#ifndef FH_MODEL
    uint8_t reserved[48];
    uint8_t slots[];
#endif
};

#ifndef FH_MODEL
_Static_assert(sizeof(struct fh_ring_shared) == FH_RING_HEADER_BYTES,
               "slots begin at byte 64");

/* Number of slots of @slot_bytes that a ring of @ring_bytes holds: the largest
 * power of two that fits. */
static inline uint32_t
fh_ring_slots(uint32_t ring_bytes, uint32_t slot_bytes)
{
    uint32_t fit = (ring_bytes - FH_RING_HEADER_BYTES) / slot_bytes;

    return fit ? 1u << (31 - __builtin_clz(fit)) : 0;
}

/* Address of the slot that free-running index @i uses. */
static inline FH_SHARED uint8_t *
fh_ring_slot(FH_SHARED struct fh_ring_shared *s, uint32_t i, uint32_t n_slots,
             uint32_t slot_bytes)
{
    return &s->slots[(size_t)(i & (n_slots - 1)) * slot_bytes];
}
#endif

/* The back half: takes requests, puts responses. */
struct fh_bring {
    FH_SHARED struct fh_ring_shared *shared;
    uint32_t n_slots;       /* power of two */
    uint32_t slot_bytes;    /* stride of the ring's ABI */
    uint32_t req_cons;      /* next request to take */
    uint32_t rsp_prod;      /* next response to put */
    uint32_t rsp_published; /* last value stored in the shared rsp_prod */
};

/* The front half: puts requests, takes responses. */
struct fh_fring {
    FH_SHARED struct fh_ring_shared *shared;
    uint32_t n_slots;
    uint32_t slot_bytes;
    uint32_t req_prod;      /* next request to put */
    uint32_t req_published; /* last value stored in the shared req_prod */
    uint32_t rsp_cons;      /* next response to take */
};

/*
 * fh_bring_init - take up the back half of a ring
 *
 * @cons, @prod: both 0 for a fresh ring; for a successor of a dead backend the
 *               committed {req_cons, rsp_prod} of its recovery state
 *
 * Touches no shared memory.
 */
static inline void
fh_bring_init(struct fh_bring *r, FH_SHARED struct fh_ring_shared *shared,
              uint32_t n_slots, uint32_t slot_bytes, uint32_t cons,
              uint32_t prod)
{
    r->shared = shared;
    r->n_slots = n_slots;
    r->slot_bytes = slot_bytes;
    r->req_cons = cons;
    r->rsp_prod = prod;
    r->rsp_published = prod;
}

/*
 * fh_bring_pending - how many requests wait to be taken
 *
 * @n: written on success: 0 .. n_slots
 *
 * Returns 0, or FH_RING_E_BROKEN when the frontend claims more requests than
 *   the ring has slots for, or went backwards.
 */
static inline int
fh_bring_pending(const struct fh_bring *r, uint32_t *n)
{
    /* B1 acquire, pairs with F1 in fh_fring_publish: whoever sees the index
     * sees the requests below it. */
    const uint32_t prod = fh_load_acquire32(&r->shared->req_prod);

    if ((uint32_t)(prod - r->rsp_prod) > r->n_slots ||
        (uint32_t)(prod - r->req_cons) > r->n_slots)
        return FH_RING_E_BROKEN;
    *n = prod - r->req_cons;
    return 0;
}

#ifndef FH_MODEL
/* Copies the next request, slot_bytes long, to @dst.  fh_bring_pending() has
 * said that there is one. */
static inline void
fh_bring_take(struct fh_bring *r, void *dst)
{
    fh_copy_in(dst,
               fh_ring_slot(r->shared, r->req_cons, r->n_slots, r->slot_bytes),
               r->slot_bytes);
    r->req_cons++;
}

/* Writes one response of @bytes <= slot_bytes.  Its request has been taken, so
 * there is room. */
static inline void
fh_bring_put(struct fh_bring *r, const void *rsp, uint32_t bytes)
{
    fh_copy_out(
        fh_ring_slot(r->shared, r->rsp_prod, r->n_slots, r->slot_bytes), rsp,
        bytes);
    r->rsp_prod++;
}
#endif

/*
 * fh_bring_publish - make every response put so far visible
 *
 * Returns true when the frontend asked to be notified.  The old index comes
 * from our private copy, never from the page.
 */
static inline bool
fh_bring_publish(struct fh_bring *r)
{
    const uint32_t old = r->rsp_published;
    const uint32_t now = r->rsp_prod;

    /* B2 release, pairs with F2 in fh_fring_pending. */
    fh_store_release32(&r->shared->rsp_prod, now);
    r->rsp_published = now;

    /* B3 full fence, pairs with F4 in fh_fring_arm: our store of rsp_prod
     * before our load of rsp_event. */
    fh_fence_full();
    const uint32_t event = fh_load_relaxed32(&r->shared->rsp_event);

    return (uint32_t)(now - event) < (uint32_t)(now - old);
}

/*
 * fh_bring_arm - ask for a notification at the next request, before sleeping
 *
 * Returns 0 when the ring is empty and armed: the caller may sleep; 1 when
 *   requests arrived meanwhile: do not sleep; FH_RING_E_BROKEN never, a broken
 *   index counts as work and fh_bring_pending() will tell.
 */
static inline int
fh_bring_arm(struct fh_bring *r)
{
    fh_store_relaxed32(&r->shared->req_event, r->req_cons + 1);
    /* B4 full fence, pairs with F3 in fh_fring_publish: our store of req_event
     * before our load of req_prod. */
    fh_fence_full();
    return fh_load_acquire32(&r->shared->req_prod) != r->req_cons;
}

/* Takes up the front half of a fresh ring and clears its header. */
static inline void
fh_fring_init(struct fh_fring *r, FH_SHARED struct fh_ring_shared *shared,
              uint32_t n_slots, uint32_t slot_bytes)
{
    r->shared = shared;
    r->n_slots = n_slots;
    r->slot_bytes = slot_bytes;
    r->req_prod = 0;
    r->req_published = 0;
    r->rsp_cons = 0;
    fh_store_relaxed32(&shared->req_prod, 0);
    fh_store_relaxed32(&shared->rsp_prod, 0);
    fh_store_relaxed32(&shared->req_event, 1);
    fh_store_relaxed32(&shared->rsp_event, 1);
}

/* Free slots: 0 .. n_slots. */
static inline uint32_t
fh_fring_room(const struct fh_fring *r)
{
    return r->n_slots - (r->req_prod - r->rsp_cons);
}

#ifndef FH_MODEL
/* Writes one request of @bytes <= slot_bytes; there is room. */
static inline void
fh_fring_put(struct fh_fring *r, const void *req, uint32_t bytes)
{
    fh_copy_out(
        fh_ring_slot(r->shared, r->req_prod, r->n_slots, r->slot_bytes), req,
        bytes);
    r->req_prod++;
}

/* Copies the next response's first @bytes to @dst. */
static inline void
fh_fring_take(struct fh_fring *r, void *dst, uint32_t bytes)
{
    fh_copy_in(dst,
               fh_ring_slot(r->shared, r->rsp_cons, r->n_slots, r->slot_bytes),
               bytes);
    r->rsp_cons++;
}
#endif

/* Makes every request put so far visible; true: notify the backend. */
static inline bool
fh_fring_publish(struct fh_fring *r)
{
    const uint32_t old = r->req_published;
    const uint32_t now = r->req_prod;

    /* F1 release, pairs with B1 in fh_bring_pending. */
    fh_store_release32(&r->shared->req_prod, now);
    r->req_published = now;

    /* F3 full fence, pairs with B4 in fh_bring_arm. */
    fh_fence_full();
    const uint32_t event = fh_load_relaxed32(&r->shared->req_event);

    return (uint32_t)(now - event) < (uint32_t)(now - old);
}

/* How many responses wait; FH_RING_E_BROKEN when the backend claims more than
 * were asked for. */
static inline int
fh_fring_pending(const struct fh_fring *r, uint32_t *n)
{
    /* F2 acquire, pairs with B2 in fh_bring_publish. */
    const uint32_t prod = fh_load_acquire32(&r->shared->rsp_prod);

    if ((uint32_t)(prod - r->rsp_cons) >
        (uint32_t)(r->req_published - r->rsp_cons))
        return FH_RING_E_BROKEN;
    *n = prod - r->rsp_cons;
    return 0;
}

/* As fh_bring_arm(), for responses.  @ahead: 1 to be told of the next response,
 * more to be told once that many have come (at most the number in flight). */
static inline int
fh_fring_arm(struct fh_fring *r, uint32_t ahead)
{
    fh_store_relaxed32(&r->shared->rsp_event, r->rsp_cons + ahead);
    /* F4 full fence, pairs with B3 in fh_bring_publish. */
    fh_fence_full();
    return (uint32_t)(fh_load_acquire32(&r->shared->rsp_prod) - r->rsp_cons) >=
           ahead;
}
