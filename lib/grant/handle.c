/* SPDX-License-Identifier: MIT */
/*
 * The free lists of a domain's handle slots, the reserve's and the other one:
 * stacks of indices, the head a 64-bit word {tag | index + 1}.
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

/* Pops up to @want slots of list @head in one swap. */
static void
take_used(struct fh_gnt_domain *d, fh_word64 *head, uint32_t want,
          struct fh_slot_chain *chain, uint64_t *lost)
{
    /* L1 acquire, pairs with L2: the links below the head are there. */
    uint64_t old = fh_load_acquire64(head);

    for (;;) {
        uint32_t first = (uint32_t)old, last = 0, rest = first, n = 0;

        while (n < want && rest && rest <= d->n_slots) {
            last = rest;
            rest = fh_load_relaxed32(&d->slots[rest - 1].next);
            n++;
        }
        if (!n)
            return;
        if (fh_cas64(head, &old, head_with(old, rest))) {
            fh_store_relaxed32(&d->slots[last - 1].next, 0);
            *chain = (struct fh_slot_chain){ first, last, n };
            return;
        }
        ++*lost;
    }
}

/* Takes up to @want of the slots from *@fresh to @end, which nobody used
 * yet. */
static void
take_fresh(struct fh_gnt_domain *d, fh_word32 *fresh, uint32_t end,
           uint32_t want, struct fh_slot_chain *chain, uint64_t *lost)
{
    uint32_t first = fh_load_relaxed32(fresh);
    uint32_t n;

    do {
        const uint32_t left = end - first;

        n = want < left ? want : left;
        if (!n)
            return;
        if (fh_cas32(fresh, &first, first + n))
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
    take_used(d, &d->free_slots, want, chain, lost);
    if (!chain->head)
        take_fresh(d, &d->fresh_slots, d->n_slots, want, chain, lost);
}

void
fh_slots_take_reserved(struct fh_gnt_domain *d, struct fh_slot_chain *chain,
                       uint64_t *lost)
{
    take_used(d, &d->free_reserve, 1, chain, lost);
    if (!chain->head)
        take_fresh(d, &d->fresh_reserve, d->n_reserved, 1, chain, lost);
}

static void
give_to(struct fh_gnt_domain *d, fh_word64 *head, struct fh_slot_chain *chain,
        uint64_t *lost)
{
    uint64_t old;

    if (!chain->head)
        return;
    old = fh_load_relaxed64(head);
    for (;;) {
        fh_store_relaxed32(&d->slots[chain->tail - 1].next, (uint32_t)old);
        /* L2 release, pairs with L1. */
        if (fh_cas64(head, &old, head_with(old, chain->head)))
            break;
        ++*lost;
    }
    chain->head = chain->tail = chain->n = 0;
}

/* Takes the slots of the reserve out of @chain. */
static void
give_reserved(struct fh_gnt_domain *d, struct fh_slot_chain *chain,
              uint64_t *lost)
{
    struct fh_slot_chain all = *chain, reserved = { 0, 0, 0 };
    struct fh_gnt_slot *slot;

    chain->head = chain->tail = chain->n = 0;
    while ((slot = fh_chain_pop(d, &all)))
        fh_chain_push(d, fh_slot_index(d, slot) < d->n_reserved ? &reserved
                                                                : chain, slot);
    give_to(d, &d->free_reserve, &reserved, lost);
}

void
fh_slots_give(struct fh_gnt_domain *d, struct fh_slot_chain *chain,
              uint64_t *lost)
{
    if (d->n_reserved)
        give_reserved(d, chain, lost);
    give_to(d, &d->free_slots, chain, lost);
}
