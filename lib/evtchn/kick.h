/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The receiver's budget of kicks.  Beyond it a vCPU is owed its kick until the
 * next refill, which pays; so a storm costs a receiver a bounded number of
 * interruptions and loses nothing.
 *
 * Model: tests/model/evtchn_kick.cc compiles this file.
 */
#include "base/shared.h"

#define FH_KICK_UNLIMITED UINT32_MAX

/* Takes one from the budget, if there is one. */
static inline bool
fh_kick_spend(fh_word32 *budget)
{
    uint32_t left = fh_load_relaxed32(budget);

    while (left) {
        if (left == FH_KICK_UNLIMITED || fh_cas32(budget, &left, left - 1))
            return true;
    }
    return false;
}

/* True: kick now.  False: the next refill will. */
static inline bool
fh_kick_now(fh_word32 *budget, fh_word32 *owed)
{
    if (fh_kick_spend(budget))
        return true;
    (void)fh_exchange32(owed, 1);
    /* Q1 full fence, pairs with Q2: our debt before our second look at the
     * budget; one of the two sides kicks. */
    fh_fence_full();
    return fh_load_relaxed32(budget) && fh_exchange32(owed, 0);
}

/* A new budget. */
static inline void
fh_kick_refill(fh_word32 *budget, uint32_t n)
{
    (void)fh_exchange32(budget, n);
    /* Q2 full fence, pairs with Q1: before the debts are looked at. */
    fh_fence_full();
}

/* After a refill.  True: the vCPU was owed a kick and gets it now.  Debts are
 * paid once each, so they need no budget. */
static inline bool
fh_kick_pay(fh_word32 *owed)
{
    return fh_load_relaxed32(owed) && fh_exchange32(owed, 0);
}
