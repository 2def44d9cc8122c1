/* SPDX-License-Identifier: MIT */
/*
 * Version 1 entries, both sides of them.
 *
 * Invariants: the engine reads the granter's word {flags, domid} once per
 * transition, checks it, and marks it by one compare-and-swap of the same word;
 * the frame number is read once after that.  The granter writes the flags last,
 * in the order that <xen/grant_table.h> asks for, and withdraws a grant by one
 * compare-and-swap that fails if the entry is in use.
 */
#include "grant/internal.h"

/* --------------------------------------------------------- the engine's -- */

static bool
word_allows(uint32_t word, const struct fh_gnt_pin_req *q)
{
    const uint32_t mask =
        GTF_type_mask | (q->use == FH_GNT_USE_MAP ? GTF_sub_page : 0);

    return (word & mask) == GTF_permit_access &&
           word >> 16 == q->grantee->domid;
}

int16_t
fh_gnt_v1_mark(const struct fh_gnt_pin_req *q, const struct fh_gnt_entry *e,
               bool is_pinned, struct fh_gnt_claim *out)
{
    FH_SHARED grant_entry_v1_t *shared = fh_gnt_v1_at(e->granter, e->ref);
    uint32_t word = fh_load_relaxed32(shared);

    for (int i = 0; i < FH_GNT_SHARED_TRIES; i++) {
        if (!is_pinned && !word_allows(word, q))
            break;
        if (q->is_write && (word & GTF_readonly))
            break;
        /* G1, pairs with the granter's release of flags: domid and frame are
         * those that the flags belong to.  (No model: the two sides access one
         * word in different widths, which C++11 does not know.) */
        if (!fh_cas32(shared, &word, word | fh_gnt_marks(q->is_write)))
            continue;
        if (!is_pinned)
            *out = (struct fh_gnt_claim){
                .gfn = fh_load_relaxed32(&shared->frame),
                .length = FH_PAGE_BYTES,
            };
        return GNTST_okay;
    }
    return GNTST_general_error;
}

/* -------------------------------------------------------- the granter's -- */

/* Changes of the flags by the hypervisor that a revoke tolerates; each means
 * that a grantee came or went meanwhile. */
#define REVOKE_TRIES 16

void
fh_gnt_v1_grant(FH_SHARED grant_entry_v1_t *table, uint32_t ref, uint16_t domid,
                uint32_t gfn, bool readonly)
{
    FH_SHARED grant_entry_v1_t *e = &table[ref];

    fh_store_relaxed32(&e->frame, gfn);
    fh_store_relaxed16(&e->domid, domid);
    /* Release, pairs with G1. */
    fh_store_release16(&e->flags,
                       GTF_permit_access | (readonly ? GTF_readonly : 0));
}

int
fh_gnt_v1_revoke(FH_SHARED grant_entry_v1_t *table, uint32_t ref)
{
    FH_SHARED grant_entry_v1_t *e = &table[ref];
    uint16_t flags = fh_load_relaxed16(&e->flags);

    for (int i = 0; i < REVOKE_TRIES; i++) {
        if (flags & (GTF_reading | GTF_writing))
            return FH_GNT_E_IN_USE;
        if (fh_cas16(&e->flags, &flags, 0))
            return 0;
    }
    return FH_GNT_E_IN_USE;
}
