/* SPDX-License-Identifier: MIT */
/*
 * The I/O mappings of a mapper's grants, in one of two ways (docs/adr/0080).
 *
 * Counted: its devices use machine addresses, so all its mappings of a frame
 * share one I/O mapping, and per frame there is a count of the handles that let
 * devices read or write it.  The count is a word as in entry.h, with grantee 0,
 * in the embedder's memory: one compare-and-swap per handle, whatever else is
 * mapped (XSA-380), no lock; the IOMMU's tables change only when the
 * permission does: first reader, first writer, last writer (down to read-only),
 * last of all.  One handle counts once, from its birth to its death, whichever
 * of its parts ends first (XSA-394).
 *
 * Own addresses: each device map has an I/O mapping of its own, at an address
 * that follows from the index of its handle.  A handle belongs to one call at a
 * time, so does the address: nothing to count, nothing shared.
 */
#include "grant/internal.h"

static bool
has_own(const struct fh_gnt_domain *mapper)
{
    return mapper->flags & FH_GNT_DOM_OWN_IOVA;
}

static uint64_t
own_addr(const struct fh_gnt_domain *mapper, uint32_t handle)
{
    const uint64_t index = handle & ((1u << mapper->index_bits) - 1);

    return mapper->iova_base + (index << FH_PAGE_SHIFT);
}

uint64_t
fh_gnt_bus_addr(const struct fh_gnt_domain *mapper,
                const struct fh_gnt_domain *granter, uint64_t machine_addr,
                uint32_t handle, uint32_t flags)
{
    if (!has_own(mapper) || mapper == granter)
        return machine_addr;
    return flags & GNTMAP_device_map ? own_addr(mapper, handle) : 0;
}

static void
count_lost(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper, uint64_t lost)
{
    if (lost)
        fh_gnt_count(&fh_gnt_my_stats(ctx, mapper)->retries, lost);
}

/* One more handle for @mfn. */
static int16_t
count_in(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper, uint64_t mfn,
         bool readonly)
{
    const struct fh_hv_ops *ops = ctx->ops;
    fh_word64 *word = ops->iommu_count(ctx->hv, mapper, mfn);
    uint64_t lost = 0;
    enum fh_entry_step step;

    if (!word)
        return GNTST_okay;
    step = fh_entry_pin(word, 0, !readonly, 0, &lost);
    count_lost(ctx, mapper, lost);
    if (step == FH_ENTRY_DONE)
        return GNTST_okay;
    if (step == FH_ENTRY_REFUSED)
        return GNTST_general_error;

    if (ops->iommu_map(ctx->hv, mapper, mfn, readonly)) {
        if (step == FH_ENTRY_BEGIN)
            fh_entry_settle_free(word);
        else
            fh_entry_settle_pinned(word);
        return GNTST_general_error;
    }
    if (step == FH_ENTRY_BEGIN)
        fh_entry_publish_first(word, !readonly, 0);
    else
        fh_entry_publish_writer(word);
    return GNTST_okay;
}

/* One handle less.  True: the permission shrank. */
static bool
count_out(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper, uint64_t mfn,
          bool readonly)
{
    const struct fh_hv_ops *ops = ctx->ops;
    fh_word64 *word = ops->iommu_count(ctx->hv, mapper, mfn);
    uint64_t lost = 0;
    enum fh_entry_step step;

    if (!word)
        return false;
    step = fh_entry_unpin(word, !readonly, &lost);
    count_lost(ctx, mapper, lost);
    if (step == FH_ENTRY_DONE)
        return false;
    /* An embedder that cannot remove a mapping has to keep the device away by
     * other means; the count is true either way. */
    (void)ops->iommu_unmap(ctx->hv, mapper, mfn, step == FH_ENTRY_LAST_WRITER);
    if (step == FH_ENTRY_LAST)
        fh_entry_settle_free(word);
    else
        fh_entry_settle_pinned(word);
    return true;
}

int16_t
fh_gnt_iommu_add(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 const struct fh_gnt_entry *e, uint32_t handle, uint32_t flags)
{
    const bool readonly = flags & GNTMAP_readonly;

    if (!has_own(mapper))
        return count_in(ctx, mapper, e->mfn, readonly);
    if ((flags & GNTMAP_device_map) &&
        ctx->ops->iommu_map_at(ctx->hv, mapper, own_addr(mapper, handle),
                               e->mfn, readonly))
        return GNTST_general_error;
    return GNTST_okay;
}

bool
fh_gnt_iommu_sub_part(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                      const struct fh_gnt_entry *e, uint32_t handle)
{
    if (!has_own(mapper) || !fh_gnt_has_iommu(ctx, mapper, e->granter))
        return false;
    ctx->ops->iommu_unmap_at(ctx->hv, mapper, own_addr(mapper, handle));
    return true;
}

bool
fh_gnt_iommu_sub(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 const struct fh_gnt_entry *e, uint32_t handle, uint32_t flags)
{
    if (!has_own(mapper))
        return count_out(ctx, mapper, e->mfn, flags & GNTMAP_readonly);
    return (flags & GNTMAP_device_map) &&
           fh_gnt_iommu_sub_part(ctx, mapper, e, handle);
}
