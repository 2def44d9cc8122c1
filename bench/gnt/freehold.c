/* SPDX-License-Identifier: MIT */
/* Our engine on the machine: the struct of operations, and the arrays. */
#include "bench/gnt/engine.h"

/* ------------------------------------------------------- the operations -- */

/* The machine, and the CPU that the call is for. */
struct cpu_of {
    struct bench_machine *m;
    unsigned cpu;
    struct fh_gnt_ctx ctx;
} __attribute__((aligned(64)));

static struct cpu_of cpus[BENCH_MAX_CPUS];

static struct bench_domain *
domain_of(struct fh_gnt_domain *d)
{
    return (struct bench_domain *)d; /* gnt is its first member */
}

static struct bench_machine *
machine(void *hv)
{
    return ((struct cpu_of *)hv)->m;
}

static struct fh_gnt_domain *
domain_get(void *hv, uint16_t domid)
{
    struct bench_domain *d = bench_domain_find(machine(hv), domid);

    if (!d)
        return NULL;
    fh_fetch_add32(&d->refs, 1);
    return &d->gnt;
}

static void
domain_hold(void *hv, struct fh_gnt_domain *d)
{
    fh_fetch_add32(&domain_of(d)->refs, 1);
}

static void
domain_put(void *hv, struct fh_gnt_domain *d)
{
    fh_fetch_add32(&domain_of(d)->refs, UINT32_MAX);
}

static int
frame_get(void *hv, struct fh_gnt_domain *owner, uint64_t gfn, bool for_write,
          struct fh_gnt_frame *out)
{
    struct bench_frame *f = bench_frame_find(machine(hv), owner->domid, gfn);

    if (!f || !bench_page_get(f, owner->domid))
        return FH_GNT_E_BAD_PAGE;
    out->mfn = gfn;
    return 0;
}

static void
frame_put(void *hv, struct fh_gnt_domain *owner, uint64_t mfn)
{
    bench_page_put(bench_frame_of(machine(hv), mfn));
}

static int
frame_get_writable(void *hv, struct fh_gnt_domain *owner, uint64_t mfn)
{
    return !bench_type_get(bench_frame_of(machine(hv), mfn));
}

static void
frame_put_writable(void *hv, struct fh_gnt_domain *owner, uint64_t mfn)
{
    bench_type_put(bench_frame_of(machine(hv), mfn));
}

static void *
frame_map(void *hv, struct fh_gnt_domain *owner, uint64_t mfn, bool for_write)
{
    return bench_bytes(machine(hv), mfn);
}

static void
frame_unmap(void *hv, struct fh_gnt_domain *owner, uint64_t mfn, void *addr,
            bool for_write)
{
}

static int
pt_install(void *hv, struct fh_gnt_domain *mapper, const struct fh_gnt_pte *pte,
           uint64_t *old)
{
    return !bench_pte_install(domain_of(mapper), pte->host_addr, pte->mfn,
                              pte->flags & GNTMAP_readonly, old);
}

static int
pt_remove(void *hv, struct fh_gnt_domain *mapper, const struct fh_gnt_pte *pte,
          uint64_t *old)
{
    if (!bench_pte_remove(domain_of(mapper), pte->host_addr, pte->mfn,
                          pte->flags & GNTMAP_readonly, old))
        return FH_EINVAL;
    return *old & BENCH_ACCESSED ? FH_GNT_PT_ACCESSED : FH_GNT_PT_UNTOUCHED;
}

static void
tlb_flush(void *hv, struct fh_gnt_domain *mapper)
{
    bench_flush(machine(hv), ((struct cpu_of *)hv)->cpu);
}

static uint64_t *
iommu_count(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn)
{
    return &bench_frame_of(machine(hv), mfn)->iommu;
}

static int
iommu_map(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn, bool readonly)
{
    bench_frame_of(machine(hv), mfn)->io_perm = readonly ? 1 : 3;
    return 0;
}

static int
iommu_unmap(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn,
            bool to_readonly)
{
    bench_frame_of(machine(hv), mfn)->io_perm = to_readonly ? 1 : 0;
    return 0;
}

static void
iommu_flush(void *hv, struct fh_gnt_domain *mapper)
{
    const struct cpu_of *c = hv;

    c->m->cpu[c->cpu].iotlb_flushes++;
}

static bool
preempt(void *hv)
{
    return bench_must_stop(machine(hv));
}

static struct fh_hv_ops machine_ops = {
    .domain_get = domain_get,
    .domain_hold = domain_hold,
    .domain_put = domain_put,
    .frame_get = frame_get,
    .frame_put = frame_put,
    .frame_get_writable = frame_get_writable,
    .frame_put_writable = frame_put_writable,
    .frame_map = frame_map,
    .frame_unmap = frame_unmap,
    .pt_install = pt_install,
    .pt_remove = pt_remove,
    .tlb_flush = tlb_flush,
    .iommu_map = iommu_map,
    .iommu_unmap = iommu_unmap,
    .iommu_flush = iommu_flush,
    .preempt = preempt,
};

/* ------------------------------------------------------------- set-up -- */

static void
grow(struct bench_domain *d)
{
    const uint32_t n = fh_gnt_table_frames(&d->gnt);

    if (fh_gnt_table_grow(&d->gnt, &d->table[n * FH_GNT_V1_PER_FRAME],
                          bench_zeroed(fh_gnt_frame_bytes()), 0))
        abort();
}

static void
init_domain(struct bench_machine *m, struct bench_domain *d)
{
    const uint32_t n_frames = d->n_entries / FH_GNT_V1_PER_FRAME;
    const struct fh_gnt_domain_params params = {
        .uid = 1000u + d->domid,
        .domid = d->domid,
        .n_cpus = m->n_threads,
        .stats = bench_zeroed(m->n_threads * sizeof(struct fh_gnt_stats)),
    };

    fh_gnt_domain_init(&d->gnt, &params);
    fh_gnt_table_init(&d->gnt, n_frames,
                      bench_zeroed(fh_gnt_table_bytes(n_frames)));
    for (uint32_t i = 0; i < n_frames; i++)
        grow(d);
    fh_gnt_maptrack_init(&d->gnt, m->max_handles,
                         bench_zeroed(fh_gnt_maptrack_bytes(m->max_handles)));
}

static void
init(struct bench_machine *m)
{
    if (m->iommu)
        machine_ops.iommu_count = iommu_count;
    for (unsigned i = 0; i < m->n_threads; i++) {
        cpus[i] = (struct cpu_of){ .m = m, .cpu = i };
        fh_gnt_ctx_init(&cpus[i].ctx, &machine_ops, &cpus[i], i);
    }
    init_domain(m, &m->domains[BENCH_MAPPER]);
    for (uint32_t i = 0; i < m->n_granters; i++)
        init_domain(m, &m->domains[BENCH_GRANTER + i]);
}

/* --------------------------------------------------------- operations -- */

/* What the domain counted of waits and lost swaps is the CPU's spins. */
static void
note_retries(struct bench_machine *m, unsigned cpu, struct bench_domain *d)
{
    m->cpu[cpu].spins = d->gnt.stats[cpu].retries;
}

static void
map(struct bench_machine *m, unsigned cpu, struct bench_domain *caller,
    struct gnttab_map_grant_ref *ops, uint32_t n)
{
    uint32_t done;

    (void)!fh_gnt_op_map(&cpus[cpu].ctx, &caller->gnt, ops, n, &done);
    note_retries(m, cpu, caller);
}

static void
unmap(struct bench_machine *m, unsigned cpu, struct bench_domain *caller,
      struct gnttab_unmap_grant_ref *ops, uint32_t n)
{
    uint32_t done;

    (void)!fh_gnt_op_unmap(&cpus[cpu].ctx, &caller->gnt, ops, n, &done);
    note_retries(m, cpu, caller);
}

static void
copy(struct bench_machine *m, unsigned cpu, struct bench_domain *caller,
     struct gnttab_copy *ops, uint32_t n)
{
    uint32_t done;

    (void)!fh_gnt_op_copy(&cpus[cpu].ctx, &caller->gnt, ops, n, &done);
    note_retries(m, cpu, caller);
}

static void
release(struct bench_machine *m, struct bench_domain *mapper, uint32_t budget,
        struct bench_release *r)
{
    uint32_t cursor = (uint32_t)r->cursor;

    r->done = !fh_gnt_release_maps(&cpus[0].ctx, &mapper->gnt, budget, &cursor);
    r->units = cursor - (uint32_t)r->cursor;
    r->cursor = cursor;
}

const struct bench_engine engine_freehold = {
    .name = "freehold",
    .init = init,
    .map = map,
    .unmap = unmap,
    .copy = copy,
    .release = release,
};
