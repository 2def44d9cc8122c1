/* SPDX-License-Identifier: MIT */
/*
 * The free list of a domain's handle slots: a stack of indices, its head a
 * 64-bit word {tag | index + 1}.
 *
 * Invariants: the tag goes up with every change of the head, so a head that is
 * still the same after a walk proves that nothing on the way was taken or
 * reused (a tag would have to wrap 2^32 times during one walk).  Slots are
 * never unmapped, so a walk that lost the race reads stale links, not wild
 * ones, and throws them away.
 */
#include "grant/handle.h"

static inline uint64_t
head_with(uint64_t old, uint32_t first)
{
    return (((old >> 32) + 1) << 32) | first;
}

/* Pops up to @want slots in one swap. */
static void
take_used(struct fh_gnt_domain *d, uint32_t want, struct fh_slot_chain *chain,
          uint64_t *lost)
{
    /* L1 acquire, pairs with L2: the links below the head are there. */
    uint64_t old = fh_load_acquire64(&d->free_slots);

    for (;;) {
        uint32_t first = (uint32_t)old, last = 0, rest = first, n = 0;

        while (n < want && rest && rest <= d->n_slots) {
            last = rest;
            rest = fh_load_relaxed32(&d->slots[rest - 1].next);
            n++;
        }
        if (!n)
            return;
        if (fh_cas64(&d->free_slots, &old, head_with(old, rest))) {
            fh_store_relaxed32(&d->slots[last - 1].next, 0);
            *chain = (struct fh_slot_chain){ first, last, n };
            return;
        }
        ++*lost;
    }
}

/* Takes up to @want slots that nobody used yet. */
static void
take_fresh(struct fh_gnt_domain *d, uint32_t want, struct fh_slot_chain *chain,
           uint64_t *lost)
{
    uint32_t first = fh_load_relaxed32(&d->fresh_slots);
    uint32_t n;

    do {
        const uint32_t left = d->n_slots - first;

        n = want < left ? want : left;
        if (!n)
            return;
        if (fh_cas32(&d->fresh_slots, &first, first + n))
            break;
        ++*lost;
    } while (1);

    while (n--)
        fh_chain_push(d, chain, &d->slots[first + n]);
}

void
fh_slots_take(struct fh_gnt_domain *d, uint32_t want,
              struct fh_slot_chain *chain, uint64_t *lost)
{
    take_used(d, want, chain, lost);
    if (!chain->head)
        take_fresh(d, want, chain, lost);
}

void
fh_slots_give(struct fh_gnt_domain *d, struct fh_slot_chain *chain,
              uint64_t *lost)
{
    uint64_t old;

    if (!chain->head)
        return;
    old = fh_load_relaxed64(&d->free_slots);
    for (;;) {
        fh_store_relaxed32(&d->slots[chain->tail - 1].next, (uint32_t)old);
        /* L2 release, pairs with L1. */
        if (fh_cas64(&d->free_slots, &old, head_with(old, chain->head)))
            break;
        ++*lost;
    }
    *chain = (struct fh_slot_chain){ 0 };
}
