/* SPDX-License-Identifier: MIT */
/*
 * The I/O mappings of a mapper whose devices use machine addresses: per frame,
 * a count of the handles that let devices read or write it.
 *
 * The count is a word as in entry.h, with grantee 0, in the embedder's memory;
 * so it costs one compare-and-swap per handle, and the IOMMU's tables change
 * only when the permission does: first reader, first writer, last writer (down
 * to read-only), last of all.  One handle counts once, from its birth to its
 * death (XSA-394).
 */
#include "grant/internal.h"

int16_t
fh_gnt_iommu_add(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 uint64_t mfn, bool readonly)
{
    const struct fh_hv_ops *ops = ctx->ops;
    fh_word64 *word = ops->iommu_count(ctx->hv, mapper, mfn);
    uint64_t lost = 0;
    enum fh_entry_step step;

    if (!word)
        return GNTST_okay;
    step = fh_entry_pin(word, 0, !readonly, 0, &lost);
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

bool
fh_gnt_iommu_sub(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 uint64_t mfn, bool readonly)
{
    const struct fh_hv_ops *ops = ctx->ops;
    fh_word64 *word = ops->iommu_count(ctx->hv, mapper, mfn);
    uint64_t lost = 0;
    enum fh_entry_step step;

    if (!word)
        return false;
    step = fh_entry_unpin(word, !readonly, &lost);
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
