/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Freeing what other threads may be looking at.
 *
 * Threads find domains and files in tables, without a lock, and use them within
 * one turn of their loop.  Each thread has an epoch: odd in a turn, even between
 * two.  Who frees takes the object out of its table first, notes every thread's
 * epoch, and frees it when each was even or has changed.  A reference that
 * outlives the turn is counted in the object.
 *
 * Model: tests/model/hv_quiesce.cc compiles this file.
 */
#include "base/shared.h"

/* Its own thread only. */
static inline void
fh_hv_epoch_enter(fh_word64 *epoch)
{
    fh_store_relaxed64(epoch, fh_load_relaxed64(epoch) + 1);
    /* Q1 full fence, pairs with Q2: if a freer saw us outside, we see that the
     * object is not in its table. */
    fh_fence_full();
}

static inline void
fh_hv_epoch_leave(fh_word64 *epoch)
{
    /* Q3 release, pairs with Q4: our use of the object is over. */
    fh_store_release64(epoch, fh_load_relaxed64(epoch) + 1);
}

/* To be called after the object left its table, before the epochs are read. */
static inline void
fh_hv_epoch_barrier(void)
{
    fh_fence_full(); /* Q2, pairs with Q1 */
}

static inline uint64_t
fh_hv_epoch_read(const fh_word64 *epoch)
{
    return fh_load_acquire64(epoch); /* Q4, pairs with Q3 */
}

/* True when the thread, whose epoch was @seen after the barrier, can not look
 * at the object any more. */
static inline bool
fh_hv_epoch_over(const fh_word64 *epoch, uint64_t seen)
{
    return !(seen & 1) || fh_hv_epoch_read(epoch) != seen;
}
