/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Event words and queues of the FIFO ABI, in memory that the guest writes as
 * well: the steps of one event.
 *
 *   1. PENDING into the port's word.  Was it LINKED, whoever consumes it will
 *      see the event; was it MASKED, the unmask will.  Nothing more to do, and
 *      no lock was needed.
 *   2. With the locks of its old and its new queue held: LINKED, which one
 *      event wins; then the port behind the tail, or, when the guest has
 *      consumed the tail, at the head.
 *   3. A new head is announced: the ready bit, the upcall flag, a kick.
 *
 * LINK is written by one OR into the tail's word, whose answer tells whether
 * the tail was still linked: if it was, the guest will find the port there; if
 * it was not, the guest is through with that word, and the bits are taken back
 * before the lock is released.  So there is nothing to be tried again, however
 * the guest rewrites its words, and BUSY is not needed.  The engine never
 * follows a link.
 *
 * Model: tests/model/evtchn_fifo.cc compiles this file.
 */
#include "base/shared.h"

#define FH_FIFO_PENDING (1u << 31)
#define FH_FIFO_MASKED  (1u << 30)
#define FH_FIFO_LINKED  (1u << 29)
#define FH_FIFO_LINK    0x1ffffu

/* Step 1.  The word as it was. */
static inline uint32_t
fh_fifo_pend(FH_SHARED fh_word32 *word)
{
    /* W1 release, pairs with the guest's clearing of LINKED or MASKED in the
     * same word: it sees PENDING, and what was written before the event. */
    return fh_fetch_or32(word, FH_FIFO_PENDING);
}

/* Whether an event that met @old has to be put into a queue. */
static inline bool
fh_fifo_wants_link(uint32_t old)
{
    return !(old & (FH_FIFO_MASKED | FH_FIFO_LINKED));
}

/* Unmasks.  True: it is pending and in no queue. */
static inline bool
fh_fifo_unmask(FH_SHARED fh_word32 *word)
{
    const uint32_t old = fh_fetch_and32(word, ~FH_FIFO_MASKED);

    return (old & FH_FIFO_PENDING) && !(old & FH_FIFO_LINKED);
}

/* Step 2, first half, with the lock of the port's last queue.  False: it is in
 * a queue already. */
static inline bool
fh_fifo_claim(FH_SHARED fh_word32 *word)
{
    const uint32_t old = fh_fetch_or32(word, FH_FIFO_LINKED);

    if (old & FH_FIFO_LINKED)
        return false;
    if (old & FH_FIFO_LINK) /* garbage of the guest's */
        (void)fh_fetch_and32(word, ~FH_FIFO_LINK);
    return true;
}

/*
 * Step 2, second half, with the queue's lock: @port, claimed, behind the tail.
 * @tail: the tail's word, NULL for none.  False: it is the new head.
 */
static inline bool
fh_fifo_append(FH_SHARED fh_word32 *tail, FH_SHARED fh_word32 *head,
               uint32_t port)
{
    if (tail) {
        /* W2 release, pairs with W3 (the guest takes the link). */
        if (fh_fetch_or32(tail, port) & FH_FIFO_LINKED)
            return true;
        (void)fh_fetch_and32(tail, ~FH_FIFO_LINK);
    }
    fh_store_relaxed32(head, port);
    return false;
}

/* Step 3.  True: the vCPU must be kicked.  @upcall: NULL when it has none. */
static inline bool
fh_fifo_announce(FH_SHARED fh_word32 *ready, uint32_t priority,
                 FH_SHARED fh_word8 *upcall)
{
    const uint32_t bit = 1u << priority;

    /* W4 release, pairs with W5 (the guest takes the ready bits): it sees the
     * head. */
    if (fh_fetch_or32(ready, bit) & bit)
        return false;
    /* W6 release, pairs with the guest's clearing of the flag: it sees the
     * ready bit. */
    return !upcall || !fh_exchange8(upcall, 1);
}
