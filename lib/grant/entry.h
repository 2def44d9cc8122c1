/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The control word of an active grant entry, and the steps on it.
 *
 * LAYOUT, FINAL (docs/adr/0001-grant-entry-control-word.md):
 *
 *   bits  0..17  readers   pins that may only read
 *   bits 18..35  writers   pins that may read and write
 *   bits 36..51  grantee   domid that holds the pins; 0 when there are none
 *   bit  52      BUSY      one CPU moves the entry between its states
 *   bit  53      SUB_PAGE  only a window of the page is granted: no maps
 *   bit  54      TRANSITIVE  stands for an entry of another table: no maps
 *   bit  55      CLOSED    the granter wants no new pins
 *   bit  56      NOTIFY    the granter wants to hear of the last unpin
 *   bits 57..63  zero
 *
 * A pin is held by each live mapping (one handle is one pin, be it for the
 * host, for devices or for both: which of them is the handle's business, and
 * it ends when both ended) and by each running copy.  What the granter sees
 * depends on the two counts alone: GTF_reading while any pin is held,
 * GTF_writing while writers is not 0.
 *
 * States and steps:
 *
 *   free      no pins             pin -> BUSY, check, publish payload -> pinned
 *   pinned    readers, no writer  pin to read: one compare-and-swap
 *                                 pin to write: BUSY, check again -> pinned
 *   pinned    with writers        pin to read or write: one compare-and-swap
 *   last writer, last pin         unpin -> BUSY, tell the granter -> settled
 *
 * Rules.  (1) The payload beside the word is written only by the holder of
 * BUSY while there are no pins, and is immutable while there is one: read it
 * after pinning, never before.  (2) A step that crosses no state ignores BUSY;
 * one that does waits for it.  (3) While BUSY is set and there are no pins,
 * only its holder writes the word, so it may release by a plain store.
 *
 * The IOMMU's count of one frame is a word of the same layout, grantee 0.
 *
 * Models: tests/model/grant_entry.cc compiles this file.
 */
#include "base/shared.h"

#define FH_ENTRY_READER      1ull
#define FH_ENTRY_WRITER      (1ull << 18)
#define FH_ENTRY_COUNT_MAX   ((1ull << 18) - 1)
#define FH_ENTRY_READERS     FH_ENTRY_COUNT_MAX
#define FH_ENTRY_WRITERS     (FH_ENTRY_COUNT_MAX << 18)
#define FH_ENTRY_PINS        (FH_ENTRY_READERS | FH_ENTRY_WRITERS)
#define FH_ENTRY_GRANTEE_BIT 36
#define FH_ENTRY_GRANTEE     (0xffffull << FH_ENTRY_GRANTEE_BIT)
#define FH_ENTRY_BUSY        (1ull << 52)
#define FH_ENTRY_SUB_PAGE    (1ull << 53)
#define FH_ENTRY_TRANSITIVE  (1ull << 54)
#define FH_ENTRY_CLOSED      (1ull << 55)
#define FH_ENTRY_NOTIFY      (1ull << 56)
/* Set by the granter, outlive the pins. */
#define FH_ENTRY_KEPT (FH_ENTRY_CLOSED | FH_ENTRY_NOTIFY)

/* What somebody finds who wants no pin. */
enum fh_entry_look {
    FH_ENTRY_IS_FREE,
    FH_ENTRY_IS_PINNED,
    FH_ENTRY_IS_BUSY, /* another CPU is moving it: look again */
};

/* What a step on the word came to. */
enum fh_entry_step {
    FH_ENTRY_DONE,    /* the count changed, nothing else to do */
    FH_ENTRY_WAIT,    /* another CPU is moving the entry: look again */
    FH_ENTRY_REFUSED, /* nothing changed */
    /* The caller holds BUSY now, and must ... */
    FH_ENTRY_BEGIN,       /* check, fill the payload, publish or abort */
    FH_ENTRY_UPGRADE,     /* check for writing, then publish or abort */
    FH_ENTRY_LAST_WRITER, /* withdraw writing, then settle */
    FH_ENTRY_LAST,        /* withdraw everything, then settle */
};

static inline uint64_t
fh_entry_one(bool is_write)
{
    return is_write ? FH_ENTRY_WRITER : FH_ENTRY_READER;
}

static inline uint32_t
fh_entry_readers(uint64_t word)
{
    return (uint32_t)(word & FH_ENTRY_COUNT_MAX);
}

static inline uint32_t
fh_entry_writers(uint64_t word)
{
    return (uint32_t)((word >> 18) & FH_ENTRY_COUNT_MAX);
}

static inline uint16_t
fh_entry_grantee(uint64_t word)
{
    return (uint16_t)(word >> FH_ENTRY_GRANTEE_BIT);
}

/* True for a word that the steps below can have made. */
static inline bool
fh_entry_valid(uint64_t word)
{
    const bool pinned = word & FH_ENTRY_PINS;
    const bool busy = word & FH_ENTRY_BUSY;

    if (word >> 57)
        return false;
    return pinned || busy || !(word & ~FH_ENTRY_KEPT);
}

/*
 * What pinning @old for @grantee comes to; *@now is the word to swap in when
 * the answer is DONE, BEGIN or UPGRADE.  Pure.
 * @forbid: flags of the word that refuse this kind of pin
 */
static inline enum fh_entry_step
fh_entry_pin_step(uint64_t old, uint16_t grantee, bool is_write,
                  uint64_t forbid, uint64_t *now)
{
    const uint64_t who = (uint64_t)grantee << FH_ENTRY_GRANTEE_BIT;
    const uint64_t count = is_write ? FH_ENTRY_WRITERS : FH_ENTRY_READERS;

    if (old & forbid)
        return FH_ENTRY_REFUSED;
    if (!(old & FH_ENTRY_PINS)) {
        *now = old | who | FH_ENTRY_BUSY;
        return old & FH_ENTRY_BUSY ? FH_ENTRY_WAIT : FH_ENTRY_BEGIN;
    }
    if ((old & FH_ENTRY_GRANTEE) != who || (old & count) == count)
        return FH_ENTRY_REFUSED;
    if (is_write && !(old & FH_ENTRY_WRITERS)) {
        *now = old | FH_ENTRY_BUSY;
        return old & FH_ENTRY_BUSY ? FH_ENTRY_WAIT : FH_ENTRY_UPGRADE;
    }
    *now = old + fh_entry_one(is_write);
    return FH_ENTRY_DONE;
}

/* What giving back one pin of @old comes to.  Pure. */
static inline enum fh_entry_step
fh_entry_unpin_step(uint64_t old, bool is_write, uint64_t *now)
{
    const uint64_t left = old - fh_entry_one(is_write);
    enum fh_entry_step step;

    *now = left;
    if (!(left & FH_ENTRY_PINS))
        step = FH_ENTRY_LAST;
    else if (is_write && !(left & FH_ENTRY_WRITERS))
        step = FH_ENTRY_LAST_WRITER;
    else
        return FH_ENTRY_DONE;
    *now |= FH_ENTRY_BUSY;
    return old & FH_ENTRY_BUSY ? FH_ENTRY_WAIT : step;
}

/*
 * The fast paths: one step that crosses no state, tried once.  False: nothing
 * changed, and fh_entry_pin() or fh_entry_unpin() knows what to do.
 */
static inline bool
fh_entry_try_pin(fh_word64 *w, uint16_t grantee, bool is_write, uint64_t forbid)
{
    const uint64_t who = (uint64_t)grantee << FH_ENTRY_GRANTEE_BIT;
    uint64_t old = fh_load_relaxed64(w);

    if ((old & (FH_ENTRY_GRANTEE | forbid)) != who)
        return false;
    if (is_write
            ? !fh_entry_writers(old) || !(~old & FH_ENTRY_WRITERS)
            : !(old & FH_ENTRY_PINS) || !(~old & FH_ENTRY_READERS))
        return false;
    /* E1 acquire, as in fh_entry_pin. */
    return fh_cas64(w, &old, old + fh_entry_one(is_write));
}

static inline bool
fh_entry_try_unpin(fh_word64 *w, bool is_write)
{
    uint64_t old = fh_load_relaxed64(w);

    if (is_write ? fh_entry_writers(old) == 1
                 : (old & FH_ENTRY_PINS) == FH_ENTRY_READER)
        return false;
    /* E3 release, as in fh_entry_unpin. */
    return fh_cas64(w, &old, old - fh_entry_one(is_write));
}

/*
 * Pins the entry.  DONE: pinned, the payload may be read.  BEGIN or UPGRADE:
 * BUSY is ours.  REFUSED: another domain's, full, or of a kind in @forbid.
 * WAIT: another CPU moves it, nothing changed.  @lost counts failed swaps.
 */
static inline enum fh_entry_step
fh_entry_pin_once(fh_word64 *w, uint16_t grantee, bool is_write,
                  uint64_t forbid, uint64_t *lost)
{
    uint64_t old = fh_load_relaxed64(w);

    for (;;) {
        uint64_t now = 0;
        const enum fh_entry_step step =
            fh_entry_pin_step(old, grantee, is_write, forbid, &now);

        if (step == FH_ENTRY_REFUSED || step == FH_ENTRY_WAIT)
            return step;
        /* E1 acquire, pairs with E2 (the payload is there) and, for BEGIN, with
         * E3 and E4 (whoever used the payload before us is through). */
        if (fh_cas64(w, &old, now))
            return step;
        ++*lost;
    }
}

/* The same until it is another answer than WAIT. */
static inline enum fh_entry_step
fh_entry_pin(fh_word64 *w, uint16_t grantee, bool is_write, uint64_t forbid,
             uint64_t *lost)
{
    for (;;) {
        const enum fh_entry_step step =
            fh_entry_pin_once(w, grantee, is_write, forbid, lost);

        if (step != FH_ENTRY_WAIT)
            return step;
        ++*lost;
        fh_cpu_relax();
    }
}

/* Gives back one pin.  LAST or LAST_WRITER: BUSY is ours. */
static inline enum fh_entry_step
fh_entry_unpin(fh_word64 *w, bool is_write, uint64_t *lost)
{
    uint64_t old = fh_load_relaxed64(w);

    for (;;) {
        uint64_t now = 0;
        const enum fh_entry_step step =
            fh_entry_unpin_step(old, is_write, &now);

        /* E3 release, pairs with E1 of the CPU that fills the payload next and
         * of the one that withdraws the grant: our use of the page is over.
         * Acquire as well: for LAST, so is everybody else's. */
        if (step != FH_ENTRY_WAIT && fh_cas64(w, &old, now))
            return step;
        ++*lost;
        if (step == FH_ENTRY_WAIT) {
            fh_cpu_relax();
            old = fh_load_relaxed64(w);
        }
    }
}

/* After BEGIN: the payload is filled, the first pin is ours.  @kind: SUB_PAGE,
 * TRANSITIVE or 0. */
static inline void
fh_entry_publish_first(fh_word64 *w, bool is_write, uint64_t kind)
{
    const uint64_t busy = fh_load_relaxed64(w); /* ours alone, rule 3 */

    /* E2 release, pairs with E1: whoever pins sees the payload. */
    fh_store_release64(w, (busy & ~FH_ENTRY_BUSY) | kind |
                              fh_entry_one(is_write));
}

/* After UPGRADE: readers come and go meanwhile, so this is an addition. */
static inline void
fh_entry_publish_writer(fh_word64 *w)
{
    fh_fetch_add64(w, FH_ENTRY_WRITER - FH_ENTRY_BUSY);
}

/* After LAST, or a BEGIN that failed: the entry is free. */
static inline void
fh_entry_settle_free(fh_word64 *w)
{
    const uint64_t busy = fh_load_relaxed64(w); /* ours alone, rule 3 */

    /* E4 release, pairs with E1 of the next BEGIN: the granter's word and the
     * references are withdrawn before they are taken anew. */
    fh_store_release64(w, busy & FH_ENTRY_KEPT);
}

/* After LAST_WRITER, or an UPGRADE that failed: still pinned. */
static inline void
fh_entry_settle_pinned(fh_word64 *w)
{
    /* E5 as E4, for the next UPGRADE. */
    fh_fetch_and64(w, ~FH_ENTRY_BUSY);
}

/*
 * Takes BUSY for something that is neither a pin nor an unpin.  IS_FREE or
 * IS_PINNED: BUSY is ours, and so it stays until fh_entry_end_busy(): counts
 * may change, from or to none they may not.  IS_BUSY: nothing changed.
 */
static inline enum fh_entry_look
fh_entry_try_busy(fh_word64 *w)
{
    uint64_t old = fh_load_relaxed64(w);

    do {
        if (old & FH_ENTRY_BUSY)
            return FH_ENTRY_IS_BUSY;
        /* E6 acquire, pairs with E3, E4 and E5 as E1 does. */
    } while (!fh_cas64(w, &old, old | FH_ENTRY_BUSY));
    return old & FH_ENTRY_PINS ? FH_ENTRY_IS_PINNED : FH_ENTRY_IS_FREE;
}

/* @look: what fh_entry_try_busy() answered. */
static inline void
fh_entry_end_busy(fh_word64 *w, enum fh_entry_look look)
{
    if (look == FH_ENTRY_IS_PINNED)
        fh_entry_settle_pinned(w);
    else
        fh_entry_settle_free(w);
}

/* ------------------------------------------------------ the table's size -- */

/* Frames that may be used: their pointers are there, and stay. */
static inline uint32_t
fh_table_count(const fh_word32 *n_frames)
{
    return fh_load_acquire32(n_frames); /* T1 acquire, pairs with T2 */
}

/* After the pointers of frame @n - 1 are in place.  One grower at a time. */
static inline void
fh_table_publish(fh_word32 *n_frames, uint32_t n)
{
    /* T2 release, pairs with T1.  A full barrier as well: a version switch that
     * does not see these frames was begun before anybody could use them. */
    (void)fh_exchange32(n_frames, n);
}
