/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Handles of live mappings, and the slots behind them.
 *
 * A domain's slots are an array in the embedder's memory; a handle is
 * {generation | index}, index in the low index_bits, bit 31 clear.  The slot's
 * generation goes up whenever the slot is freed, so a stale or doubled unmap
 * names a generation that is not there (until it wraps: 2^(31 - index_bits)
 * uses of one slot).
 *
 * A slot is in exactly one place: live (its handle is the guest's), in the
 * hands of one call, on the free list, or never used yet.  The free list is a
 * stack with a tag, popped and pushed in chains: one compare-and-swap per
 * batch.  A slot that was never used is taken by raising fresh_slots, so a
 * table of a million costs no set-up and no memory that is not used.
 *
 * The first n_reserved slots are a reserve with a list and a count of its own,
 * from which only chosen mappings take, one at a time, when nothing else is
 * left; so an ordinary map or unmap pays nothing for it but to give back each
 * slot where it belongs.
 *
 *   word: bits 0..15 FH_SLOT_* and GNTMAP flags, bits 32..63 generation
 *
 * Only who set BUSY changes a live slot.
 *
 * From an address to its mapping: a word of the embedder's per address holds
 * handle + 1 while the mapping is there.  Whoever follows it takes nothing and
 * waits for nobody: he reads the record and looks whether the slot is still the
 * same mapping's.
 *
 * Models: tests/model/grant_handle.cc compiles this file and handle.c,
 * tests/model/grant_mapat.cc this file.
 */
#ifndef FH_MODEL /* a model brings a domain with only the fields used here */
#include <freehold/grant.h>
#endif

#include "base/shared.h"

struct fh_gnt_entry;

#define FH_SLOT_LIVE 0x8000ull
#define FH_SLOT_BUSY 0x4000ull
/* The last unmap of this mapping flushes the TLBs, or the IOTLB, whatever it
 * finds itself (flush.h). */
#define FH_SLOT_TAINTED 0x2000ull
#define FH_SLOT_IOTLB   0x1000ull
/* The low bits are the mapping's GNTMAP flags. */
#define FH_SLOT_KEEP                                                           \
    (GNTMAP_device_map | GNTMAP_host_map | GNTMAP_readonly |                   \
     GNTMAP_application_map | GNTMAP_contains_pte)

#ifdef FH_MODEL
typedef fh_word64 fh_slot_entry; /* any number */
#else
typedef struct fh_gnt_entry *fh_slot_entry;
#endif

struct fh_gnt_slot {
    fh_word64 word;
    fh_slot_entry entry;
    fh_word64 host_addr;
    fh_word32 next;  /* in a chain: index + 1, 0 ends it */
    fh_word32 avail; /* guest-available bits of the map flags */
};

#ifndef FH_MODEL
_Static_assert(sizeof(struct fh_gnt_slot) == 32, "two slots per cache line");
#endif

/* Slots in the hands of one call. */
struct fh_slot_chain {
    uint32_t head; /* index + 1, 0 is empty */
    uint32_t tail; /* index + 1, while head is not 0 */
    uint32_t n;
};

/* Takes up to @want slots into empty @chain; at least one if any is free. */
void
fh_slots_take(struct fh_gnt_domain *d, uint32_t want,
              struct fh_slot_chain *chain, uint64_t *lost);

/* The same for one slot of the reserve. */
void
fh_slots_take_reserved(struct fh_gnt_domain *d, struct fh_slot_chain *chain,
                       uint64_t *lost);

/* Gives back all of @chain, each to the list that it is of. */
void
fh_slots_give(struct fh_gnt_domain *d, struct fh_slot_chain *chain,
              uint64_t *lost);

static inline uint32_t
fh_slot_handle(const struct fh_gnt_domain *d, uint32_t index, uint64_t word)
{
    const uint32_t gen = (uint32_t)(word >> 32);

    return ((gen << d->index_bits) | index) & 0x7fffffffu;
}

static inline uint32_t
fh_slot_index(const struct fh_gnt_domain *d, const struct fh_gnt_slot *slot)
{
    return (uint32_t)(slot - d->slots);
}

static inline void
fh_chain_push(const struct fh_gnt_domain *d, struct fh_slot_chain *chain,
              struct fh_gnt_slot *slot)
{
    const uint32_t link = fh_slot_index(d, slot) + 1;
    const uint32_t next = chain->head;

    fh_store_relaxed32(&slot->next, next);
    if (!next)
        chain->tail = link;
    chain->head = link;
    chain->n++;
}

/* The chain's first slot, or NULL. */
static inline struct fh_gnt_slot *
fh_chain_pop(const struct fh_gnt_domain *d, struct fh_slot_chain *chain)
{
    struct fh_gnt_slot *slot;

    if (!chain->head)
        return NULL;
    slot = &d->slots[chain->head - 1];
    chain->head = fh_load_relaxed32(&slot->next);
    chain->n--;
    return slot;
}

/* Fills the record of a slot of ours.  @entry: its address. */
static inline void
fh_slot_fill(struct fh_gnt_slot *slot, uint64_t entry, uint64_t host_addr,
             uint32_t avail)
{
    /* M1 release, pairs with M2: who reads any of this sees that the slot was
     * retired since the mapping before. */
    fh_store_release64(&slot->entry, entry);
    fh_store_release64(&slot->host_addr, host_addr);
    fh_store_release32(&slot->avail, avail);
}

/* Makes a slot of ours live.  @word: as it was, perhaps FH_SLOT_TAINTED. */
static inline void
fh_slot_publish(struct fh_gnt_slot *slot, uint64_t word, uint32_t flags)
{
    /* H1 release, pairs with H2 in fh_slot_claim: the record is complete. */
    fh_store_release64(&slot->word, word | FH_SLOT_LIVE |
                                        (flags & FH_SLOT_KEEP));
}

/* The slot that live @handle names, or NULL.  Not claimed. */
static inline struct fh_gnt_slot *
fh_slot_find(const struct fh_gnt_domain *d, uint32_t handle)
{
    const uint32_t index = handle & ((1u << d->index_bits) - 1);

    if (handle >> 31 || index >= d->n_slots)
        return NULL;
    return &d->slots[index];
}

/*
 * Claims the mapping that @handle names: BUSY is ours.  Returns its slot and
 * *@word as it was, or NULL: no such handle (GNTST_bad_handle).
 */
static inline struct fh_gnt_slot *
fh_slot_claim(const struct fh_gnt_domain *d, uint32_t handle, uint64_t *word,
              uint64_t *lost)
{
    const uint32_t index = handle & ((1u << d->index_bits) - 1);
    struct fh_gnt_slot *slot = &d->slots[index];
    uint64_t old;

    if (handle >> 31 || index >= d->n_slots)
        return NULL;
    old = fh_load_relaxed64(&slot->word);
    for (;;) {
        if (!(old & FH_SLOT_LIVE) || fh_slot_handle(d, index, old) != handle)
            return NULL;
        if (old & FH_SLOT_BUSY) {
            fh_cpu_relax();
            old = fh_load_relaxed64(&slot->word);
        } else if (fh_cas64(&slot->word, &old, old | FH_SLOT_BUSY)) {
            break; /* H2 acquire, pairs with H1 and H3 */
        }
        ++*lost;
    }
    *word = old;
    return slot;
}

/* Ends a claim; @word is the slot's new word (not live: ours to free). */
static inline void
fh_slot_unclaim(struct fh_gnt_slot *slot, uint64_t word)
{
    /* H3 release, pairs with H2. */
    fh_store_release64(&slot->word, word & ~FH_SLOT_BUSY);
}

/* Makes a dead slot of ours ready for the free list. */
static inline void
fh_slot_retire(struct fh_gnt_slot *slot, uint64_t word)
{
    fh_store_relaxed64(&slot->word, ((word >> 32) + 1) << 32);
}

/* ------------------------------------------ from an address to a mapping -- */

/* What a slot says of its mapping. */
struct fh_slot_record {
    uint64_t word; /* the slot's */
    uint64_t entry, host_addr;
    uint32_t avail;
};

/* The mapping of @slot, found by fh_slot_find() for @handle; false: it is not
 * live.  Good for as long as fh_slot_is_still() says so. */
static inline bool
fh_slot_read(const struct fh_gnt_domain *d, const struct fh_gnt_slot *slot,
             uint32_t handle, struct fh_slot_record *out)
{
    /* Acquire, pairs with H1: the record is complete. */
    out->word = fh_load_acquire64(&slot->word);
    if (!(out->word & FH_SLOT_LIVE) ||
        fh_slot_handle(d, fh_slot_index(d, slot), out->word) != handle)
        return false;
    /* M2 acquire, pairs with M1: the word is looked at again after these. */
    out->entry = fh_load_acquire64(&slot->entry);
    out->host_addr = fh_load_acquire64(&slot->host_addr);
    out->avail = fh_load_acquire32(&slot->avail);
    return true;
}

/* No other mapping has taken the slot since fh_slot_read(). */
static inline bool
fh_slot_is_still(const struct fh_gnt_slot *slot,
                 const struct fh_slot_record *record)
{
    const uint64_t now = fh_load_relaxed64(&slot->word);

    return (now & FH_SLOT_LIVE) && now >> 32 == record->word >> 32;
}

/* The address's word: a mapping of ours is there, live in a moment.  A word is
 * a hint: who follows it looks at the slot, which orders what has to be. */
static inline void
fh_map_word_set(FH_SHARED fh_word32 *word, uint32_t handle)
{
    fh_store_relaxed32(word, handle + 1);
}

/* No more, unless another one came meanwhile. */
static inline void
fh_map_word_clear(FH_SHARED fh_word32 *word, uint32_t handle)
{
    uint32_t old = handle + 1;

    (void)fh_cas32(word, &old, 0);
}

/* True: *@handle is, was or will be mapped there. */
static inline bool
fh_map_word_get(const FH_SHARED fh_word32 *word, uint32_t *handle)
{
    const uint32_t now = fh_load_relaxed32(word);

    *handle = now - 1;
    return now != 0;
}
