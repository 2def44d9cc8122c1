/* SPDX-License-Identifier: MIT */
/*
 * The granter's side of a version 1 table, in the order that
 * <xen/grant_table.h> asks for.
 *
 * Invariants: flags are written last when granting; a grant is withdrawn by one
 * compare-and-swap that fails if the entry is in use.
 */
#include <freehold/grant.h>

#include "base/shared.h"

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
    /* Release: pairs with G1 in lib/grant/pin.c. */
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
