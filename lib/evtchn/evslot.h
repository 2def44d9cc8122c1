/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One end of an event channel in memory that two processes share, so that a
 * notification needs no hypercall.
 *
 * A channel between two domains has two slots, one per receiving end, both in
 * memory that exactly this pair can write.  The sender of a notification sets
 * PENDING in the receiver's slot and wakes the receiver only when told to; the
 * receiver takes the event, which masks the slot as Xen's event channel device
 * does, looks at its rings, and unmasks.  Life: zeroed memory (idle and
 * unmasked), or fh_evslot_init() for a slot that is born pending; a slot needs
 * no end.
 *
 *     PENDING MASKED   meaning                      send kicks?
 *        0      0      idle, receiver may sleep     yes, and becomes 1 0
 *        1      0      kicked, not yet taken        no
 *        0      1      taken, receiver is awake     no, and becomes 1 1
 *        1      1      sent again meanwhile         no: unmask will tell
 *
 * The peer may write anything here at any time.  The worst that it can do is
 * to lose its own events or to wake the receiver for nothing; nothing is ever
 * computed from the slot but one boolean.
 *
 * Threads: any number of senders; one receiver at a time takes and unmasks.
 * Never blocks.  All ordering is on the one word: tests/model/evslot.cc.
 */
#include "base/shared.h"

#define FH_EVSLOT_PENDING 1u
#define FH_EVSLOT_MASKED  2u
#define FH_EVSLOT_BYTES   64u

/* A cache line of its own: two channels must not slow one another down. */
struct fh_evslot {
    fh_word32 state;
#ifndef FH_MODEL /* a word of a model is larger */
    uint8_t reserved[FH_EVSLOT_BYTES - sizeof(fh_word32)];
#endif
} __attribute__((aligned(64)));

#ifndef FH_MODEL
_Static_assert(sizeof(struct fh_evslot) == FH_EVSLOT_BYTES, "shared layout");
#endif

/* Makes @slot idle, or pending as a channel is right after bind.  For the one
 * who creates the channel, before either end knows of it. */
static inline void
fh_evslot_init(FH_SHARED struct fh_evslot *slot, bool is_pending)
{
    fh_store_release32(&slot->state, is_pending ? FH_EVSLOT_PENDING : 0);
}

/*
 * Notifies the owner of @slot.  True: the caller must now kick the receiver
 * (its eventfd); false: the receiver knows or will find out by itself.
 */
static inline bool
fh_evslot_send(FH_SHARED struct fh_evslot *slot)
{
    /* S1 release, pairs with T1 in fh_evslot_take: whoever takes the event
     * sees everything that was written to the ring before it was sent. */
    const uint32_t old = fh_fetch_or32(&slot->state, FH_EVSLOT_PENDING);

    return !(old & (FH_EVSLOT_PENDING | FH_EVSLOT_MASKED));
}

/*
 * Takes the event, if there is one and the slot is not masked: PENDING becomes
 * MASKED in one step.  True: look at the rings, then call fh_evslot_unmask().
 */
static inline bool
fh_evslot_take(FH_SHARED struct fh_evslot *slot)
{
    /* An idle slot must cost no locked instruction: the receiver looks at
     * every slot it has whenever it wakes. */
    const uint32_t seen = fh_load_relaxed32(&slot->state);

    if ((seen & (FH_EVSLOT_PENDING | FH_EVSLOT_MASKED)) != FH_EVSLOT_PENDING)
        return false;
    /* T1 acquire, pairs with S1.  Senders only ever set PENDING, so nothing
     * that an honest peer did in between is lost by the exchange. */
    (void)fh_exchange32(&slot->state, FH_EVSLOT_MASKED);
    return true;
}

/*
 * Lets the next notification through.  True: an event came while the slot was
 * masked and nobody was kicked for it; the caller must treat itself as kicked.
 */
static inline bool
fh_evslot_unmask(FH_SHARED struct fh_evslot *slot)
{
    /* U1 one read-modify-write with S1 on the same word: either the sender saw
     * MASKED and we see its PENDING, or it comes after us and kicks. */
    return fh_fetch_and32(&slot->state, ~FH_EVSLOT_MASKED) & FH_EVSLOT_PENDING;
}

/* Whether an event was taken and not yet unmasked, by whichever process. */
static inline bool
fh_evslot_is_masked(FH_SHARED struct fh_evslot *slot)
{
    return fh_load_relaxed32(&slot->state) & FH_EVSLOT_MASKED;
}

/* Masks the slot without taking anything: nothing is delivered until
 * fh_evslot_unmask(). */
static inline void
fh_evslot_mask(FH_SHARED struct fh_evslot *slot)
{
    (void)fh_fetch_or32(&slot->state, FH_EVSLOT_MASKED);
}
