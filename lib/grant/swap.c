/* SPDX-License-Identifier: MIT */
/*
 * swap_grant_ref: exchanges what two references of the caller's own table
 * grant.
 *
 * Invariants: both entries are free, and stay so while they are exchanged: BUSY
 * of both is held.  It waits for neither while it holds the other, but answers
 * GNTST_eagain.  What fh_gnt_entry_set() said belongs to the reference and is
 * not exchanged.
 */
#include "grant/internal.h"

bool
fh_gnt_take_free(struct fh_gnt_entry *e)
{
    for (int i = 0; i < FH_GNT_BUSY_TRIES; i++) {
        enum fh_entry_look look;

        if (fh_load_relaxed64(&e->word) & FH_ENTRY_PINS)
            return false;
        look = fh_entry_try_busy(&e->word);
        if (look == FH_ENTRY_IS_FREE)
            return true;
        if (look == FH_ENTRY_IS_PINNED)
            fh_entry_end_busy(&e->word, look);
        fh_cpu_relax();
    }
    return false;
}

/* @n bytes of ours for each other's; both in the granter's memory. */
static void
exchange(FH_SHARED void *a, FH_SHARED void *b, size_t n)
{
    uint8_t from_a[sizeof(grant_entry_v2_t)], from_b[sizeof(grant_entry_v2_t)];

    fh_copy_in(from_a, a, n);
    fh_copy_in(from_b, b, n);
    fh_copy_out(a, from_b, n);
    fh_copy_out(b, from_a, n);
}

/* Both entries are ours. */
static int16_t
swap_held(const struct fh_gnt_domain *d, uint32_t a, uint32_t b)
{
    const uint32_t version = fh_version_held(&d->version);

    if (version & FH_VERSION_SWITCHING)
        return GNTST_eagain;
    if (!fh_gnt_ref_in(d, a, version) || !fh_gnt_ref_in(d, b, version))
        return GNTST_bad_gntref;
    if (version == 1) {
        exchange(fh_gnt_v1_at(d, a), fh_gnt_v1_at(d, b),
                 sizeof(grant_entry_v1_t));
        return GNTST_okay;
    }
    exchange(fh_gnt_v2_at(d, a), fh_gnt_v2_at(d, b), sizeof(grant_entry_v2_t));
    exchange(fh_gnt_status_at(d, a), fh_gnt_status_at(d, b),
             sizeof(grant_status_t));
    return GNTST_okay;
}

static int16_t
swap(const struct fh_gnt_domain *d, uint32_t a, uint32_t b)
{
    const uint32_t version = fh_gnt_version(d);
    struct fh_gnt_entry *first, *second;
    int16_t status = GNTST_eagain;

    if (!fh_gnt_ref_in(d, a, version) || !fh_gnt_ref_in(d, b, version))
        return GNTST_bad_gntref; /* XSA-18 */
    if (a == b)
        return GNTST_okay;
    first = fh_gnt_entry_at(d, a < b ? a : b);
    second = fh_gnt_entry_at(d, a < b ? b : a);
    if (!fh_gnt_take_free(first))
        return GNTST_eagain;
    if (fh_gnt_take_free(second)) {
        status = swap_held(d, a, b);
        fh_entry_settle_free(&second->word);
    }
    fh_entry_settle_free(&first->word);
    return status;
}

long
fh_gnt_op_swap(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
               FH_SHARED struct gnttab_swap_grant_ref *ops, uint32_t count,
               uint32_t *done)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        struct gnttab_swap_grant_ref op;

        if (i && fh_gnt_must_stop(ctx))
            break;
        fh_copy_in(&op, &ops[i], sizeof(op));
        op.status = swap(caller, op.ref_a, op.ref_b);
        fh_store_relaxed16(&ops[i].status, (uint16_t)op.status);
    }
    fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->elements, i);
    *done = i;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}
