/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who has to flush for a request, and who does it for whom.
 *
 * A request has a time, taken after its mappings left the page tables.  It is
 * served when each of its processors has a stamp of that time or later: then
 * the processor began to flush after the mappings were gone.  That one
 * comparison is the generation filter (before the first flush) and the
 * condition for joining somebody else's flush (after): there is no other.
 *
 *   request   clock + 1 -> which CPUs, less those that are served already
 *             -> add them to `wanted` -> until all are served: lead, or wait
 *   leader    take all that is wanted -> stamp = clock -> flush -> give each of
 *             them the stamp -> give up the lead
 *
 * So one flush runs at a time, everybody who asks meanwhile is served by the
 * next one together, and whoever waits takes the lead when it is free: nobody
 * depends on another's coming back.
 *
 * Checked on the machine of tests/mmu; model: tests/model/grant_tlb.cc compiles
 * this file.
 */
#ifndef FH_MODEL /* a model brings a struct of atomics */
#include <freehold/tlb.h>
#endif

#include "base/shared.h"

static inline uint32_t
fh_tlb_n_words(const struct fh_tlb *tlb)
{
    return (tlb->n_cpus + 63) / 64;
}

static inline uint32_t
fh_tlb_n_cpus(const struct fh_tlb *tlb, const uint64_t *cpus)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < fh_tlb_n_words(tlb); i++) {
        for (uint64_t left = cpus[i]; left; left &= left - 1)
            n++;
    }
    return n;
}

/* The time of a request whose mappings are out of the page tables. */
static inline uint64_t
fh_tlb_ask(struct fh_tlb *tlb)
{
    /* F1 full fence, pairs with the fence of a processor between entering
     * itself among those that may hold translations and its first walk: if the
     * request does not see it there, it sees the mappings gone. */
    fh_fence_full();
    /* F2 release (by F1 as well), pairs with F3: who sees the time sees the
     * mappings gone. */
    return fh_fetch_add64(&tlb->clock, 1) + 1;
}

/* The stamp of a flush that begins now. */
static inline uint64_t
fh_tlb_now(const struct fh_tlb *tlb)
{
    return fh_load_acquire64(&tlb->clock); /* F3 acquire, pairs with F2 */
}

/* Two may say so at once, the processor and a leader: the later stamp stays. */
static inline void
fh_tlb_stamp(struct fh_tlb *tlb, uint32_t cpu, uint64_t stamp)
{
    uint64_t old = fh_load_relaxed64(&tlb->cpus[cpu].flushed);

    /* F4 release, pairs with F5: the flush is over. */
    while (old < stamp &&
           !fh_cas64(&tlb->cpus[cpu].flushed, &old, stamp))
        ;
}

/* Drops those of @cpus that flushed for a request of @time; how many are
 * left. */
static inline uint32_t
fh_tlb_left(const struct fh_tlb *tlb, uint64_t time, uint64_t *cpus)
{
    for (uint32_t i = 0; i < fh_tlb_n_words(tlb); i++) {
        for (uint64_t left = cpus[i]; left; left &= left - 1) {
            const uint32_t bit = (uint32_t)__builtin_ctzll(left);

            /* F5 acquire, pairs with F4: what the processor did with the old
             * translation comes before what we do with the page. */
            if (fh_load_acquire64(&tlb->cpus[i * 64 + bit].flushed) >= time)
                cpus[i] &= ~(1ull << bit);
        }
    }
    return fh_tlb_n_cpus(tlb, cpus);
}

/* The flush itself: returns when all of @cpus did. */
typedef void (*fh_tlb_flush_fn)(void *arg, const uint64_t *cpus);

/* With the lead: flushes for everybody who waits, us among them. */
static inline void
fh_tlb_lead(struct fh_tlb *tlb, const uint64_t *ours, fh_tlb_flush_fn flush,
            void *arg)
{
    uint64_t cpus[FH_TLB_WORDS];
    uint64_t stamp;

    /* Ours once more: an earlier leader may have taken them from `wanted`
     * without our seeing it yet. */
    for (uint32_t i = 0; i < fh_tlb_n_words(tlb); i++)
        cpus[i] = fh_exchange64(&tlb->wanted[i], 0) | ours[i]; /* F6 acquire */
    stamp = fh_tlb_now(tlb);
    flush(arg, cpus);
    for (uint32_t i = 0; i < fh_tlb_n_words(tlb); i++) {
        for (uint64_t left = cpus[i]; left; left &= left - 1)
            fh_tlb_stamp(tlb, i * 64 + (uint32_t)__builtin_ctzll(left), stamp);
    }
}

/*
 * Returns when all of @cpus flushed for a request of @time.  How many of them
 * flushed because we led; 0: others did it all.
 */
static inline uint32_t
fh_tlb_wait(struct fh_tlb *tlb, uint64_t time, uint64_t *cpus,
            fh_tlb_flush_fn flush, void *arg)
{
    uint32_t n_ours = 0, left;

    for (uint32_t i = 0; i < fh_tlb_n_words(tlb); i++) {
        if (cpus[i]) /* F7 release, pairs with F6: the leader's stamp is not
                      * earlier than our time */
            fh_fetch_or64(&tlb->wanted[i], cpus[i]);
    }
    while (fh_tlb_left(tlb, time, cpus)) {
        if (fh_load_relaxed32(&tlb->led) ||
            fh_exchange32(&tlb->led, 1)) { /* F8 acquire, pairs with F9 */
            fh_cpu_relax();
            continue;
        }
        left = fh_tlb_left(tlb, time, cpus);
        if (left)
            fh_tlb_lead(tlb, cpus, flush, arg);
        n_ours += left;
        /* F9 release, pairs with F8: the next leader sees our stamps. */
        fh_store_release32(&tlb->led, 0);
    }
    return n_ours;
}
