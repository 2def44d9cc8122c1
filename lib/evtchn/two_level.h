/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The bits of one port in the 2-level ABI, all of them in memory that the guest
 * writes as well.
 *
 *   pending --> (mask clear) --> selector --> upcall flag --> kick
 *
 * Each step is taken by whoever finds the bit before it clear, so any number of
 * events until the guest consumes them is one kick.  32-bit accesses serve both
 * of the guest's word widths: the bits of its longs are numbered alike.
 *
 * Model: tests/model/evtchn_2l.cc compiles this file.
 */
#include "base/shared.h"

struct fh_2l {
    FH_SHARED fh_word32 *pending, *mask;
    uint32_t bit;
    FH_SHARED fh_word32 *sel; /* NULL: no vcpu_info, always kick */
    uint32_t sel_bit;
    FH_SHARED fh_word8 *upcall;
};

enum {
    FH_EV_NEW = 1,  /* it was not pending before */
    FH_EV_KICK = 2, /* the vCPU must be told */
};

/* The selector and the upcall flag. */
static inline uint32_t
fh_2l_select(const struct fh_2l *b)
{
    if (!b->sel)
        return FH_EV_KICK;
    /* T3 release, pairs with T4 (the guest takes the selector): whoever takes
     * it sees the pending bit. */
    if (fh_fetch_or32(b->sel, b->sel_bit) & b->sel_bit)
        return 0;
    /* T5 release, pairs with T6 (the guest clears the flag, then takes the
     * selector): the selector is there before the flag is. */
    return fh_exchange8(b->upcall, 1) ? 0 : FH_EV_KICK;
}

/* An event.  FH_EV_*. */
static inline uint32_t
fh_2l_raise(const struct fh_2l *b)
{
    /* T1 release, pairs with the guest's clearing of the bit: what was written
     * before the event is seen after it. */
    if (fh_fetch_or32(b->pending, b->bit) & b->bit)
        return 0;
    /* T2 full fence, pairs with T7: our pending bit before our look at the
     * mask; one of the two sides goes on to the selector. */
    fh_fence_full();
    if (fh_load_relaxed32(b->mask) & b->bit)
        return FH_EV_NEW;
    return FH_EV_NEW | fh_2l_select(b);
}

/* EVTCHNOP_unmask.  FH_EV_KICK or 0.  A guest that clears the bit itself looks
 * itself, too: nothing is done for a port that was not masked. */
static inline uint32_t
fh_2l_unmask(const struct fh_2l *b)
{
    if (!(fh_fetch_and32(b->mask, ~b->bit) & b->bit))
        return 0;
    /* T7 full fence, pairs with T2. */
    fh_fence_full();
    if (!(fh_load_relaxed32(b->pending) & b->bit))
        return 0;
    return fh_2l_select(b);
}
