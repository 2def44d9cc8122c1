/* SPDX-License-Identifier: MIT */
/*
 * What stands behind a transitive entry: an entry of a third domain that is
 * granted to the granter.
 *
 * Invariants: a transitive entry that is pinned owns exactly one read pin of
 * its inner entry, and one write pin while it has writers, as another entry
 * owns references on its frame; so further pins of it need no path of their
 * own, and no count can be lost (XSA-226).  The inner entry is never transitive
 * itself: there is no recursion.  Whoever holds the outer entry's BUSY never
 * waits for the inner's (XSA-411): he gives up and begins anew, a bounded
 * number of times.  The inner pins outlive the outer's marks by a moment: they
 * are given back with nothing held.
 */
#include "grant/internal.h"

/* One pin of @inner in the granter's name. */
static int16_t
take_one(const struct fh_gnt_pin_req *q, struct fh_gnt_domain *granter,
         struct fh_gnt_entry *inner, bool is_write)
{
    const struct fh_gnt_pin_req in = { .ctx = q->ctx, .caller = q->caller,
                                       .grantee = granter,
                                       .is_write = is_write,
                                       .use = FH_GNT_USE_INNER };

    return fh_gnt_pin_plain(&in, inner);
}

/* The pins of a transitive entry's first pin. */
static int16_t
take(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e,
     struct fh_gnt_domain *d, uint32_t ref)
{
    struct fh_gnt_entry *inner = fh_gnt_entry_at(d, ref);
    int16_t status = GNTST_okay;

    if (fh_load_acquire32(&d->is_dying))
        return GNTST_bad_domain;
    if (!inner)
        return GNTST_bad_gntref;
    if (q->is_write)
        status = take_one(q, e->granter, inner, true);
    if (status)
        return status;
    status = take_one(q, e->granter, inner, false);
    if (status && q->is_write)
        fh_gnt_unpin_plain(q->ctx, q->caller, inner, true);
    if (status)
        return status;
    e->inner = inner;
    e->mfn = inner->mfn;
    e->start = inner->start;
    e->length = inner->length;
    return GNTST_okay;
}

int16_t
fh_gnt_inner_take(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e,
                  const struct fh_gnt_claim *claim)
{
    const struct fh_hv_ops *ops = q->ctx->ops;
    struct fh_gnt_domain *d = NULL;
    int16_t status;

    if (claim->trans_domid < DOMID_FIRST_RESERVED &&
        claim->trans_domid != e->granter->domid)
        d = ops->domain_get(q->ctx->hv, claim->trans_domid);
    if (!d)
        return GNTST_general_error;
    status = take(q, e, d, claim->trans_ref);
    ops->domain_put(q->ctx->hv, d); /* a pinned entry holds one of its own */
    return status;
}

int16_t
fh_gnt_inner_take_writer(const struct fh_gnt_pin_req *q,
                         const struct fh_gnt_entry *e)
{
    return take_one(q, e->granter, e->inner, true);
}
