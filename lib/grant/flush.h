/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a batch of unmaps took out, and the flushes that are due before any of
 * its pages is released.
 *
 * The rule (docs/adr/0081): a TLB flush is due if any mapping that was taken
 * out may have been used, which is what its page-table entry said at the
 * exchange, or if its handle is tainted: the embedder does not vouch for what
 * the entry says (FH_GNT_PT_ALWAYS_FLUSH, fh_gnt_taint()), or an earlier call
 * took a part of this mapping out and may not have flushed yet.
 */
#include "grant/internal.h"

/* Sums over the batch; fh_gnt_flush() looks at them once. */
struct fh_gnt_due {
    uint64_t words;     /* of the slots whose mappings ended, or'ed */
    uint32_t found;     /* what pt_remove() found, or'ed */
    uint32_t n_removed; /* host mappings taken out */
    uint32_t n_io;      /* I/O mappings that shrank or went */
};

/* A host mapping was taken out; @found is what pt_remove() said, not
 * negative. */
static inline void
fh_gnt_due_host(struct fh_gnt_due *due, int found)
{
    due->n_removed++;
    due->found |= (uint32_t)found;
}

/* A mapping ends whose slot's word is @word. */
static inline void
fh_gnt_due_end(struct fh_gnt_due *due, uint64_t word)
{
    due->words |= word;
}

/* To be or'ed to the slot's @word of a mapping that lives on without its host
 * or its device part: another CPU may end it before our flush, and has to flush
 * then. */
static inline uint64_t
fh_gnt_due_later(const struct fh_gnt_due *due, uint64_t word)
{
    const uint64_t io =
        !(word & GNTMAP_device_map) && due->n_io ? FH_SLOT_IOTLB : 0;

    if (word & GNTMAP_host_map)
        return io;
    return io |
           (due->found & FH_GNT_PT_ACCESSED ? FH_SLOT_TAINTED : 0) |
           (due->found & FH_GNT_PT_IOTLB ? FH_SLOT_IOTLB : 0);
}

/* Flushes what is due, of @mapper, and counts it.  The page tables have
 * changed; no page was released. */
void
fh_gnt_flush(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
             const struct fh_gnt_due *due);
