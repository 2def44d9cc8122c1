/* SPDX-License-Identifier: MIT */
/*
 * transfer: gives a page of the caller's to a domain that has said, by an entry
 * of its table, that it accepts one from the caller.
 *
 * Order, as on Xen, and frozen: the page is taken from the caller and flushed
 * out of his TLBs before the target is looked at, so whatever fails later frees
 * it (only bad_page leaves it with him).  Room for it is kept before the target
 * is told: a guest that reads "committed" may spin until it reads "completed".
 *
 * Invariants: BUSY of the target's entry is held from the check of its version
 * to the last write, so the words are those of the version that was seen when
 * they were checked (XSA-501), and nobody pins the entry meanwhile.  Each step
 * that took something is undone by name when a later one fails (XSA-217,
 * XSA-222, XSA-284, XSA-287).
 */
#include "grant/flush.h"
#include "grant/internal.h"

_Static_assert(sizeof(struct gnttab_transfer) == 24, "ABI");
_Static_assert(offsetof(struct gnttab_transfer, domid) == 8, "ABI");
_Static_assert(offsetof(struct gnttab_transfer, ref) == 12, "ABI");
_Static_assert(offsetof(struct gnttab_transfer, status) == 16, "ABI");

/* The highest frame number that an entry of the table can say. */
static uint64_t
max_mfn(uint32_t version)
{
    return version == 1 ? UINT32_MAX : UINT64_MAX >> FH_PAGE_SHIFT;
}

/* Marks the granter's word, if it accepts exactly this. */
static bool
commit(FH_SHARED void *header, uint16_t from)
{
    const uint32_t want = GTF_accept_transfer | (uint32_t)from << 16;
    uint32_t word = want;

    return fh_cas32(header, &word, want | GTF_transfer_committed);
}

/* Tells the guest its page; BUSY is ours and the word is committed. */
static void
complete(const struct fh_gnt_domain *to, uint32_t ref, uint32_t version,
         uint64_t mfn)
{
    FH_SHARED uint16_t *flags;

    if (version == 1) {
        FH_SHARED grant_entry_v1_t *e = fh_gnt_v1_at(to, ref);

        fh_store_relaxed32(&e->frame, (uint32_t)mfn);
        flags = &e->flags;
    } else {
        FH_SHARED grant_entry_v2_t *e = fh_gnt_v2_at(to, ref);

        fh_store_relaxed64(&e->full_page.frame, mfn);
        flags = &e->hdr.flags;
    }
    /* G7 release, pairs with the guest's read barrier after it saw completed:
     * the frame number is there. */
    fh_fetch_or16(flags, GTF_transfer_completed);
}

/* The entry is ours. */
static int16_t
hand_over_held(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
               struct fh_gnt_domain *to, uint32_t ref,
               const struct fh_gnt_frame *frame)
{
    const uint32_t version = fh_version_held(&to->version);
    FH_SHARED void *header;

    if ((version & FH_VERSION_SWITCHING) || !fh_gnt_ref_in(to, ref, version) ||
        frame->mfn > max_mfn(version))
        return GNTST_general_error;
    header = version == 1 ? (FH_SHARED void *)fh_gnt_v1_at(to, ref)
                          : (FH_SHARED void *)fh_gnt_v2_at(to, ref);
    if (!commit(header, caller->domid))
        return GNTST_general_error;
    ctx->ops->page_assign(ctx->hv, to, frame);
    complete(to, ref, version, frame->mfn);
    return GNTST_okay;
}

static int16_t
hand_over(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
          struct fh_gnt_domain *to, uint32_t ref,
          const struct fh_gnt_frame *frame)
{
    struct fh_gnt_entry *e = NULL;
    int16_t status;

    if (fh_gnt_ref_in(to, ref, fh_gnt_version(to)))
        e = fh_gnt_entry_at(to, ref);
    if (!e || !fh_gnt_take_free(e))
        return GNTST_general_error;
    status = hand_over_held(ctx, caller, to, ref, frame);
    fh_entry_settle_free(&e->word);
    return status;
}

/* A stolen page for @to; on failure it is nobody's still. */
static int16_t
offer(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
      struct fh_gnt_domain *to, uint32_t ref, struct fh_gnt_frame *frame)
{
    const struct fh_hv_ops *ops = ctx->ops;
    int16_t status;
    int r;

    if (!fh_gnt_may(ctx, caller, to, GNTTABOP_transfer))
        return GNTST_permission_denied;
    if (fh_load_acquire32(&to->is_dying) ||
        (to->flags & FH_GNT_DOM_TRANSLATED))
        return GNTST_general_error;
    r = ops->page_offer(ctx->hv, to, max_mfn(fh_gnt_version(to)), frame);
    if (r)
        return r == FH_GNT_E_TOO_BIG ? GNTST_address_too_big
                                     : GNTST_general_error;
    status = hand_over(ctx, caller, to, ref, frame);
    if (status)
        ops->page_retract(ctx->hv, to, frame);
    return status;
}

/* Everything after the page was stolen. */
static int16_t
transfer_stolen(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                const struct gnttab_transfer *op)
{
    const struct fh_hv_ops *ops = ctx->ops;
    const struct fh_gnt_due due = { .found = FH_GNT_PT_ACCESSED };
    struct fh_gnt_frame frame = { .mfn = op->mfn };
    struct fh_gnt_domain *to = NULL;
    int16_t status = GNTST_bad_domain;

    fh_gnt_flush(ctx, caller, &due);
    if (op->domid < DOMID_FIRST_RESERVED)
        to = ops->domain_get(ctx->hv, op->domid);
    if (to) {
        status = offer(ctx, caller, to, op->ref, &frame);
        ops->domain_put(ctx->hv, to);
    }
    if (status)
        ops->page_free(ctx->hv, &frame);
    return status;
}

static int16_t
transfer_element(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                 const struct gnttab_transfer *op)
{
    if (caller->flags & FH_GNT_DOM_TRANSLATED)
        return GNTST_bad_page;
    if (ctx->ops->page_steal(ctx->hv, caller, op->mfn))
        return GNTST_bad_page;
    return transfer_stolen(ctx, caller, op);
}

long
fh_gnt_op_transfer(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                   FH_SHARED struct gnttab_transfer *ops, uint32_t count,
                   uint32_t *done)
{
    uint32_t i;

    *done = 0;
    if (!ctx->ops->page_steal)
        return FH_EOPNOTSUPP;
    for (i = 0; i < count; i++) {
        struct gnttab_transfer op;

        if (i && fh_gnt_must_stop(ctx))
            break;
        fh_copy_in(&op, &ops[i], sizeof(op));
        op.status = transfer_element(ctx, caller, &op);
        fh_store_relaxed16(&ops[i].status, (uint16_t)op.status);
    }
    fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->elements, i);
    *done = i;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}
