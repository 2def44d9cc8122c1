/* SPDX-License-Identifier: MIT */
/*
 * Flushes: whether, of which processors, and by whom.
 *
 * Invariants: fh_gnt_flush() returns when no processor and no device holds a
 * translation that was taken out before it was called; it asks for the IOTLB
 * whenever an I/O mapping shrank, whatever the page tables say (devices set no
 * accessed bits there); it asks for the TLBs only when something was used.
 */
#include "grant/flush.h"

#include "grant/tlb.h"

void
fh_tlb_init(struct fh_tlb *tlb, uint32_t n_cpus, struct fh_tlb_cpu *cpus)
{
    *tlb = (struct fh_tlb){ .n_cpus = n_cpus, .cpus = cpus };
}

uint64_t
fh_tlb_begin(const struct fh_tlb *tlb)
{
    return fh_tlb_now(tlb);
}

void
fh_tlb_flushed(struct fh_tlb *tlb, uint32_t cpu, uint64_t stamp)
{
    fh_tlb_stamp(tlb, cpu, stamp);
}

/* One flush that we lead. */
struct turn {
    struct fh_gnt_ctx *ctx;
    struct fh_tlb *tlb;
    struct fh_gnt_stats *stats;
};

static void
flush_cpus(void *arg, const uint64_t *cpus)
{
    const struct turn *t = arg;
    const uint32_t me = t->ctx->cpu;
    const bool me_too =
        me < t->tlb->n_cpus && cpus[me / 64] >> (me % 64) & 1;

    t->ctx->ops->tlb_flush_cpus(t->ctx->hv, cpus);
    fh_gnt_count(&t->stats->flushes, 1);
    fh_gnt_count(&t->stats->cpus_interrupted,
                 fh_tlb_n_cpus(t->tlb, cpus) - me_too);
}

/* The mapper's processors flush, together with whatever others wait for. */
static void
flush_shared(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
             struct fh_gnt_stats *stats)
{
    struct turn turn = { ctx, mapper->tlb, stats };
    uint64_t cpus[FH_TLB_WORDS] = { 0 };
    const uint64_t time = fh_tlb_ask(mapper->tlb);
    uint32_t n, ours = 0;

    ctx->ops->tlb_cpus(ctx->hv, mapper, cpus);
    n = fh_tlb_n_cpus(mapper->tlb, cpus);
    if (fh_tlb_left(mapper->tlb, time, cpus))
        ours = fh_tlb_wait(mapper->tlb, time, cpus, flush_cpus, &turn);
    fh_gnt_count(&stats->cpus_skipped, n - ours);
    if (!ours)
        fh_gnt_count(&stats->flushes_merged, 1);
}

static void
flush_tlb(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
          struct fh_gnt_stats *stats)
{
    fh_gnt_count(&stats->flushes_asked, 1);
    if (mapper->tlb) {
        flush_shared(ctx, mapper, stats);
        return;
    }
    ctx->ops->tlb_flush(ctx->hv, mapper);
    fh_gnt_count(&stats->flushes, 1);
}

void
fh_gnt_flush(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
             const struct fh_gnt_due *due)
{
    struct fh_gnt_stats *stats = fh_gnt_my_stats(ctx, mapper);

    if ((due->found & FH_GNT_PT_ACCESSED) || (due->words & FH_SLOT_TAINTED))
        flush_tlb(ctx, mapper, stats);
    else if (due->n_removed)
        fh_gnt_count(&stats->flushes_elided, 1);
    if (due->n_io || (due->found & FH_GNT_PT_IOTLB) ||
        (due->words & FH_SLOT_IOTLB)) {
        ctx->ops->iommu_flush(ctx->hv, mapper);
        fh_gnt_count(&stats->iotlb_flushes, 1);
    }
}

int
fh_gnt_taint(struct fh_gnt_domain *mapper, uint32_t handle)
{
    uint64_t word = 0, lost = 0;
    struct fh_gnt_slot *slot = fh_slot_claim(mapper, handle, &word, &lost);

    if (!slot)
        return FH_ENOENT;
    fh_slot_unclaim(slot, word | FH_SLOT_TAINTED);
    return 0;
}
