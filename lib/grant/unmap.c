/* SPDX-License-Identifier: MIT */
/*
 * unmap_grant_ref, in two phases per batch: (1) each mapping is claimed,
 * checked and taken out of the page tables, its handle dies; then the flushes
 * that the batch needs; (2) pins are given back and handles freed.
 *
 * Invariants: phase 2 of an element runs if its phase 1 took anything out,
 * whatever else happens (XSA-224); no page is released before the flush
 * decision that covers it; a handle dies exactly once.  A TLB flush is asked
 * for only if a mapping that was taken out may have been used.
 */
#include "grant/internal.h"

/* Unmaps on their way between taking the mapping out and releasing the page. */
struct dying {
    struct fh_slot_chain slots; /* dead, entries still pinned */
    bool removed;               /* some host mapping was taken out ... */
    bool accessed;              /* ... that a TLB may hold */
    bool iotlb;
};

/* Ends the claimed mapping @slot: no access is left but what TLBs hold. */
static inline void
dying_add(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 struct fh_gnt_slot *slot, uint64_t word,
                 struct dying *dying)
{
    struct fh_gnt_entry *e = slot->entry;

    if (ctx->ops->iommu_count && mapper != e->granter &&
        fh_gnt_iommu_sub(ctx, mapper, e->mfn, word & GNTMAP_readonly))
        dying->iotlb = true;
    fh_slot_unclaim(slot, word & ~FH_SLOT_LIVE);
    fh_chain_push(mapper, &dying->slots, slot);
}

static void
flush(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
      const struct dying *dying, bool tlb)
{
    struct fh_gnt_stats *stats = fh_gnt_my_stats(ctx, mapper);

    if (tlb && dying->accessed) {
        ctx->ops->tlb_flush(ctx->hv, mapper);
        fh_gnt_count(&stats->flushes, 1);
    } else if (tlb && dying->removed) {
        fh_gnt_count(&stats->flushes_elided, 1);
    }
    if (dying->iotlb) {
        ctx->ops->iommu_flush(ctx->hv, mapper);
        fh_gnt_count(&stats->iotlb_flushes, 1);
    }
}

/* Flushes what @dying asks for, releases the pages and frees the handles.
 * @tlb: false when no TLB can hold anything of @mapper any more */
static void
dying_finish(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                    struct dying *dying, bool tlb)
{
    struct fh_gnt_stats *stats = fh_gnt_my_stats(ctx, mapper);
    uint32_t i = dying->slots.head;
    uint64_t lost = 0;

    flush(ctx, mapper, dying, tlb);
    if (!i)
        return;
    fh_gnt_count(&stats->unmaps, dying->slots.n);
    while (i) {
        struct fh_gnt_slot *slot = &mapper->slots[i - 1];
        const uint64_t word = fh_load_relaxed64(&slot->word);

        fh_gnt_unpin(ctx, mapper, slot->entry, !(word & GNTMAP_readonly));
        fh_slot_retire(slot, word);
        i = fh_load_relaxed32(&slot->next);
    }
    fh_slots_give(mapper, &dying->slots, &lost);
    if (lost)
        fh_gnt_count(&stats->retries, lost);
}

/* Takes the host mapping out of the page tables. */
static int16_t
remove_host(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
            const struct fh_gnt_slot *slot, uint64_t word,
            const struct gnttab_unmap_grant_ref *op, struct dying *dying)
{
    const struct fh_gnt_pte pte = {
        .host_addr = op->host_addr,
        .mfn = slot->entry->mfn,
        .flags = (uint32_t)(word & FH_SLOT_KEEP) | slot->avail,
        .handle = op->handle,
    };
    uint64_t old;
    const int r = ctx->ops->pt_remove(ctx->hv, caller, &pte, &old);

    if (r < 0)
        return GNTST_general_error;
    dying->removed = true;
    if (r != FH_GNT_PT_UNTOUCHED)
        dying->accessed = true;
    return GNTST_okay;
}

/* Phase 1 on a claimed mapping; *@word loses what was taken out. */
static int16_t
unmap_claimed(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              const struct fh_gnt_slot *slot, uint64_t *word,
              const struct gnttab_unmap_grant_ref *op,
              struct dying *dying)
{
    const struct fh_gnt_entry *e = slot->entry;
    const bool dev = op->dev_bus_addr && (*word & GNTMAP_device_map);
    const bool host = op->host_addr && (*word & GNTMAP_host_map);

    if (!fh_gnt_may(ctx, caller, e->granter, GNTTABOP_unmap_grant_ref))
        return GNTST_permission_denied;
    if (dev && op->dev_bus_addr != e->mfn << FH_PAGE_SHIFT)
        return GNTST_bad_dev_addr;
    if (host && remove_host(ctx, caller, slot, *word, op, dying))
        return GNTST_general_error;
    if (host)
        *word &= ~(uint64_t)GNTMAP_host_map;
    if (dev)
        *word &= ~(uint64_t)GNTMAP_device_map;
    return GNTST_okay;
}

/* Phase 1 of one element. */
static int16_t
unmap_element(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              const struct gnttab_unmap_grant_ref *op,
              struct dying *dying)
{
    uint64_t word = 0, lost = 0;
    struct fh_gnt_slot *slot = fh_slot_claim(caller, op->handle, &word, &lost);
    int16_t status;

    if (lost)
        fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->retries, lost);
    if (!slot)
        return GNTST_bad_handle;
    status = unmap_claimed(ctx, caller, slot, &word, op, dying);
    if (word & (GNTMAP_host_map | GNTMAP_device_map))
        fh_slot_unclaim(slot, word);
    else
        dying_add(ctx, caller, slot, word, dying);
    return status;
}

long
fh_gnt_op_unmap(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                FH_SHARED struct gnttab_unmap_grant_ref *ops, uint32_t count,
                uint32_t *done)
{
    uint32_t i = 0;
    bool stop = false;

    while (i < count && !stop) {
        const uint32_t n = count - i < FH_GNT_UNMAP_BATCH ? count - i
                                                          : FH_GNT_UNMAP_BATCH;
        const uint32_t end = i + n;
        struct dying dying = { 0 };

        for (; i < end; i++) {
            struct gnttab_unmap_grant_ref op;

            stop = i && fh_gnt_must_stop(ctx);
            if (stop)
                break;
            fh_copy_in(&op, &ops[i], sizeof(op));
            op.status = unmap_element(ctx, caller, &op, &dying);
            fh_store_relaxed16(&ops[i].status, (uint16_t)op.status);
        }
        dying_finish(ctx, caller, &dying, true);
    }
    fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->elements, i);
    *done = i;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}

int16_t
fh_gnt_unmap_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                 struct gnttab_unmap_grant_ref *op)
{
    uint32_t done;

    (void)!fh_gnt_op_unmap(ctx, caller, op, 1, &done);
    return op->status;
}

int
fh_gnt_release_maps(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                    uint32_t budget, uint32_t *cursor)
{
    const uint32_t end = fh_load_acquire32(&mapper->fresh_slots);
    struct dying dying = { 0 };
    uint32_t i = *cursor;

    for (; i < end && budget; i++, budget--) {
        struct fh_gnt_slot *slot = &mapper->slots[i];
        const uint64_t word = fh_load_acquire64(&slot->word);

        if (word & FH_SLOT_LIVE)
            dying_add(ctx, mapper, slot, word, &dying);
    }
    dying_finish(ctx, mapper, &dying, false);
    *cursor = i;
    return i < end ? FH_GNT_E_PREEMPTED : 0;
}
