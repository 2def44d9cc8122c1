/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A port's link word and its pending and mask bits: the part of event channels
 * that is used without a lock.
 *
 *   bits  0..3   state, EVTCHNSTAT_*
 *   bit   4      BUSY: the port is being changed, senders keep out
 *   bit   5      CLOSING: besides, it will be closed
 *   bits  8..23  senders that are using the port right now
 *   bits 24..39  domid of the other side (unbound: who may bind)
 *   bits 40..63  port of the other side
 *
 * Who changes a port holds its domain's lock, freezes the link (senders leave),
 * changes what the link stands for, and sets the new link.  A sender counts
 * itself in, which keeps everything as it is, and out.
 *
 * A send that meets BUSY need not wait.  Either the port is closing, then it
 * came after the close.  Or the other end is: then it came after that, and an
 * unbound port swallows it.  Or the port is being bound: then it came before
 * that, and was swallowed too, but the binder's end becomes pending once the
 * link is set, and the sender's data is seen there (P5).
 *
 * Model: tests/model/evtchn.cc compiles this file.
 */
#include "base/shared.h"

#define FH_LINK_STATE     0xfull
#define FH_LINK_BUSY      (1ull << 4)
#define FH_LINK_CLOSING   (1ull << 5)
#define FH_LINK_FROZEN    (FH_LINK_BUSY | FH_LINK_CLOSING)
#define FH_LINK_SENDER    (1ull << 8)
#define FH_LINK_SENDERS   (0xffffull << 8)
#define FH_LINK_DOMID_BIT 24
#define FH_LINK_PORT_BIT  40

static inline uint64_t
fh_link(uint32_t state, uint16_t domid, uint32_t port)
{
    return state | (uint64_t)domid << FH_LINK_DOMID_BIT |
           (uint64_t)port << FH_LINK_PORT_BIT;
}

static inline uint32_t
fh_link_state(uint64_t link)
{
    return (uint32_t)(link & FH_LINK_STATE);
}

static inline uint16_t
fh_link_domid(uint64_t link)
{
    return (uint16_t)(link >> FH_LINK_DOMID_BIT);
}

static inline uint32_t
fh_link_port(uint64_t link)
{
    return (uint32_t)(link >> FH_LINK_PORT_BIT);
}

/* A domain's lock: held for a bounded time, never while calling out. */
static inline void
fh_port_lock(fh_word32 *lock)
{
    uint32_t expected = 0;

    /* K1 acquire, pairs with K2. */
    while (!fh_cas32(lock, &expected, 1)) {
        fh_cpu_relax();
        expected = 0;
    }
}

static inline void
fh_port_unlock(fh_word32 *lock)
{
    fh_store_release32(lock, 0); /* K2 release */
}

/* The link without what senders do to it.  For the holder of the lock. */
static inline uint64_t
fh_link_look(const fh_word64 *w)
{
    return fh_load_relaxed64(w) & ~(FH_LINK_FROZEN | FH_LINK_SENDERS);
}

/* Keeps senders out (@how: BUSY, or FROZEN to close) and waits until those
 * inside have left.  They do nothing but set bits and call deliver, so the wait
 * is short; nobody comes in who has seen BUSY. */
static inline void
fh_link_freeze(fh_word64 *w, uint64_t how)
{
    fh_fetch_or64(w, how);
    /* P1 acquire, pairs with P4: what senders did is done. */
    while (fh_load_acquire64(w) & FH_LINK_SENDERS)
        fh_cpu_relax();
}

/* Gives a frozen (or free) port its new link and lets senders in. */
static inline void
fh_link_set(fh_word64 *w, uint64_t link)
{
    uint64_t old = fh_load_relaxed64(w);

    /* P2 release, pairs with P3: who sees the link sees what it stands for.
     * Senders who came and found BUSY take their count back themselves. */
    while (!fh_cas64(w, &old, link | (old & FH_LINK_SENDERS)))
        ;
}

/*
 * Counts the caller in as a sender; the link holds still until
 * fh_link_leave().  With BUSY in the answer the caller is not in, and is
 * ordered before the change that is under way.
 */
static inline uint64_t
fh_link_try(fh_word64 *w)
{
    uint64_t link;

    for (;;) {
        if (!(fh_load_relaxed64(w) & FH_LINK_BUSY)) {
            /* P3 acquire, pairs with P2. */
            link = fh_fetch_add64(w, FH_LINK_SENDER);
            if (link & FH_LINK_BUSY)
                fh_fetch_add64(w, 0 - FH_LINK_SENDER);
            return link;
        }
        /* P5 release, pairs with P2: who sets the new link, and then raises
         * the event of a bind, has seen what we wrote before the send. */
        link = fh_fetch_add64(w, 0);
        if (link & FH_LINK_BUSY)
            return link;
    }
}

/* As fh_link_try(), but waits for a change to be over. */
static inline uint64_t
fh_link_enter(fh_word64 *w)
{
    uint64_t link;

    while ((link = fh_link_try(w)) & FH_LINK_BUSY)
        fh_cpu_relax();
    return link;
}

static inline void
fh_link_leave(fh_word64 *w)
{
    /* P4 release, pairs with P1. */
    fh_fetch_add64(w, 0 - FH_LINK_SENDER);
}

/* Sets @bit of @pending.  True: it was clear and is not masked: deliver. */
static inline bool
fh_bit_raise(fh_word64 *pending, fh_word64 *masked, uint64_t bit)
{
    /* M3 release, pairs with M4: who consumes sees what was written before. */
    if (fh_fetch_or64(pending, bit) & bit)
        return false;
    /* M1 full fence, pairs with M2: our pending bit before our look at the
     * mask; one of the two sides delivers. */
    fh_fence_full();
    return !(fh_load_relaxed64(masked) & bit);
}

/* Clears @bit of @masked.  True: it is pending: deliver. */
static inline bool
fh_bit_unmask(fh_word64 *pending, fh_word64 *masked, uint64_t bit)
{
    fh_fetch_and64(masked, ~bit);
    /* M2 full fence, pairs with M1. */
    fh_fence_full();
    return fh_load_relaxed64(pending) & bit;
}

/* Clears @bit of @pending; true if it was set. */
static inline bool
fh_bit_consume(fh_word64 *pending, uint64_t bit)
{
    /* M4 acquire, pairs with M3. */
    return fh_fetch_and64(pending, ~bit) & bit;
}
