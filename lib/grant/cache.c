/* SPDX-License-Identifier: MIT */
/*
 * cache_flush: lets a guest clean or invalidate the data cache for a part of a
 * page, its own or one that is granted to it.
 *
 * Who may: the owner, and whoever has the page mapped, which one word says, the
 * counter of iommu_count(); so it takes the same time however long the tables
 * are (Xen looks through the owner's table).  Ranges are checked without adding
 * what the guest chose (XSA-447); a page of nobody's is refused (XSA-232).
 */
#include "grant/internal.h"

_Static_assert(sizeof(struct gnttab_cache_flush) == 16, "ABI");
_Static_assert(offsetof(struct gnttab_cache_flush, offset) == 8, "ABI");
_Static_assert(offsetof(struct gnttab_cache_flush, length) == 10, "ABI");
_Static_assert(offsetof(struct gnttab_cache_flush, op) == 12, "ABI");

/* The counter is not zero: devices of @caller or itself may reach the page. */
static bool
has_mapped(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller, uint64_t mfn)
{
    const uint64_t *word;

    if (!ctx->ops->iommu_count)
        return false;
    word = ctx->ops->iommu_count(ctx->hv, caller, mfn);
    return word && (fh_load_acquire64(word) & FH_ENTRY_PINS);
}

/* The page is there and stays its owner's meanwhile. */
static int
flush_owned(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
            struct fh_gnt_domain *owner, uint64_t mfn,
            const struct gnttab_cache_flush *op)
{
    if (owner != caller && !has_mapped(ctx, caller, mfn))
        return FH_EINVAL;
    if (!fh_gnt_may(ctx, caller, owner, GNTTABOP_cache_flush))
        return FH_EPERM;
    return ctx->ops->cache_flush(ctx->hv, mfn, op->offset, op->length,
                                 op->op) ? FH_EINVAL : 0;
}

static int
flush_element(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              const struct gnttab_cache_flush *op)
{
    const struct fh_hv_ops *ops = ctx->ops;
    const uint64_t mfn = op->a.dev_bus_addr >> FH_PAGE_SHIFT;
    struct fh_gnt_domain *owner;
    int r;

    if (op->op & GNTTAB_CACHE_SOURCE_GREF)
        return FH_EOPNOTSUPP;
    if (op->op & ~(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL) ||
        op->offset >= FH_PAGE_BYTES ||
        !fh_range_inside(op->offset, op->length, FH_PAGE_BYTES))
        return FH_EINVAL;
    if (!op->length || !op->op)
        return 0;
    owner = ops->frame_owner(ctx->hv, mfn);
    if (!owner)
        return FH_EPERM;
    r = flush_owned(ctx, caller, owner, mfn, op);
    ops->frame_put(ctx->hv, owner, mfn);
    ops->domain_put(ctx->hv, owner);
    return r;
}

long
fh_gnt_op_cache_flush(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct gnttab_cache_flush *ops, uint32_t count,
                      uint32_t *done)
{
    uint32_t i;
    int r = 0;

    *done = 0;
    if (!ctx->ops->cache_flush || !ctx->ops->frame_owner)
        return FH_ENOSYS;
    for (i = 0; i < count && !r; i += !r) {
        struct gnttab_cache_flush op;

        if (i && fh_gnt_must_stop(ctx))
            break;
        fh_copy_in(&op, &ops[i], sizeof(op));
        r = flush_element(ctx, caller, &op);
    }
    fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->elements, i);
    *done = i;
    if (r)
        return r;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}
