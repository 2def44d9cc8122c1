/* SPDX-License-Identifier: MIT */
/*
 * The machine of mmu.h, and the operations by which it embeds libgrant.
 */
#include "mmu/mmu.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_REF 8u

static struct mmu_domain *
dom_of(struct fh_gnt_domain *d)
{
    return (struct mmu_domain *)d; /* gnt is its first member */
}

static void
point(struct mmu *m)
{
    if (m->point)
        m->point(m);
}

/* ------------------------------------------------------------ processors -- */

void
mmu_enter(struct mmu *m, uint32_t cpu, struct mmu_domain *d)
{
    d->cpus[cpu / 64] |= 1ull << (cpu % 64);
    m->cpu[cpu].runs = d;
}

static void
forget(struct mmu *m, struct mmu_cpu *c)
{
    memset(c->tlb, 0, m->n_slots * sizeof(*c->tlb));
    c->walk.active = false;
}

void
mmu_leave_begin(struct mmu *m, uint32_t cpu)
{
    struct mmu_cpu *c = &m->cpu[cpu];

    c->leaving = true;
    if (m->broken & MMU_STAMP)
        forget(m, c);
    else
        c->stamp = fh_tlb_begin(&m->tlb);
}

void
mmu_leave(struct mmu *m, uint32_t cpu)
{
    struct mmu_cpu *c = &m->cpu[cpu];

    c->leaving = false;
    if (m->broken & MMU_STAMP) { /* and stays where it is */
        fh_tlb_flushed(&m->tlb, cpu, fh_tlb_begin(&m->tlb));
        return;
    }
    forget(m, c);
    c->runs->cpus[cpu / 64] &= ~(1ull << (cpu % 64));
    c->runs = NULL;
    fh_tlb_flushed(&m->tlb, cpu, c->stamp);
}

void
mmu_walk_begin(struct mmu *m, uint32_t cpu, uint32_t slot)
{
    struct mmu_cpu *c = &m->cpu[cpu];

    c->walk = (struct mmu_walk){ .active = c->runs->pt[slot] & MMU_P,
                                 .slot = slot, .seen = c->runs->pt[slot] };
}

void
mmu_walk_end(struct mmu *m, uint32_t cpu)
{
    struct mmu_cpu *c = &m->cpu[cpu];
    const struct mmu_walk walk = c->walk;
    uint64_t seen = walk.seen;
    uint64_t *pte = &c->runs->pt[walk.slot];

    c->walk.active = false;
    if (!walk.active)
        return;
    if (m->late_accessed) {
        if (*pte & MMU_P)
            *pte |= MMU_A;
    } else if (!m->no_accessed && !(seen & MMU_A) &&
               !fh_cas64(pte, &seen, seen | MMU_A)) {
        return; /* the entry has changed: the walk starts again, some day */
    }
    c->tlb[walk.slot] = walk.seen;
}

void
mmu_fill(struct mmu *m, uint32_t cpu, uint32_t slot)
{
    const struct mmu_walk before = m->cpu[cpu].walk;

    mmu_walk_begin(m, cpu, slot);
    mmu_walk_end(m, cpu);
    if (m->prefetches && slot + 1 < m->n_slots) {
        mmu_walk_begin(m, cpu, slot + 1);
        mmu_walk_end(m, cpu);
    }
    m->cpu[cpu].walk = before;
}

void
mmu_serve(struct mmu *m, uint32_t cpu)
{
    m->cpu[cpu].ipi = false;
    forget(m, &m->cpu[cpu]);
}

static bool
pending(const struct mmu *m)
{
    for (uint32_t i = 0; i < m->n_cpus; i++) {
        if (m->cpu[i].ipi)
            return true;
    }
    return false;
}

/* Asks @cpus to flush, and waits until they have. */
static void
interrupt(struct mmu *m, const uint64_t *cpus)
{
    for (uint32_t i = 0; i < m->n_cpus; i++) {
        if (cpus[i / 64] >> (i % 64) & 1) {
            m->cpu[i].ipi = true;
            m->ipis++;
        }
    }
    if (m->broken & MMU_A13)
        return;
    while (m->wait && pending(m))
        m->wait(m);
    for (uint32_t i = 0; i < m->n_cpus; i++) {
        if (m->cpu[i].ipi)
            mmu_serve(m, i);
    }
}

void
mmu_flush_all(struct mmu *m, struct mmu_domain *d)
{
    uint64_t cpus[FH_TLB_WORDS];

    memcpy(cpus, d->cpus, sizeof(cpus));
    interrupt(m, cpus);
}

/* --------------------------------------------------------------- devices -- */

void
mmu_dma(struct mmu *m, struct mmu_domain *d, uint32_t key)
{
    if (m->shared_table)
        d->iotlb[key] = d->pt[key] & MMU_P ? d->pt[key] : 0;
    else
        d->iotlb[key] = d->io[key];
}

static uint32_t
io_pages(const struct mmu *m, const struct mmu_domain *d)
{
    return m->shared_table ? m->n_slots : m->n_frames + d->gnt.n_slots;
}

/* ------------------------------------------------------------ the question -- */

static const char *
seen_by(uint64_t word, uint64_t mfn, bool may_read, bool may_write,
        const char *who)
{
    if (!(word & MMU_P) || word >> 8 != mfn)
        return NULL;
    if (!may_read || (!may_write && (word & MMU_W)))
        return who;
    return NULL;
}

static const char *
check_cpus(const struct mmu *m, uint64_t mfn, bool r, bool w)
{
    const char *bad = NULL;

    for (uint32_t i = 0; i < m->n_cpus && !bad; i++) {
        for (uint32_t s = 0; s < m->n_slots && !bad; s++)
            bad = seen_by(m->cpu[i].tlb[s], mfn, r, w,
                          "a TLB reaches a frame whose grant is free");
    }
    return bad;
}

static const char *
check_mapper(const struct mmu *m, const struct mmu_domain *d, uint64_t mfn,
             bool r, bool w)
{
    const char *bad = NULL;

    if (!d->exists)
        return NULL;
    for (uint32_t s = 0; s < m->n_slots && !bad; s++)
        bad = seen_by(d->pt[s], mfn, r, w,
                      "a page table maps a frame whose grant is free");
    for (uint32_t k = 0; k < io_pages(m, d) && !bad; k++) {
        bad = seen_by(d->iotlb[k], mfn, r, w,
                      "an IOTLB reaches a frame whose grant is free");
        if (!bad && !m->shared_table)
            bad = seen_by(d->io[k], mfn, r, w,
                          "the IOMMU maps a frame whose grant is free");
    }
    return bad;
}

static const char *
check_ref(const struct mmu *m, const struct mmu_domain *d, uint32_t i)
{
    const uint16_t flags = d->table[FIRST_REF + i].flags;
    const bool r = flags & GTF_reading, w = flags & GTF_writing;
    const char *bad = check_cpus(m, d->mfn + i, r, w);

    for (uint32_t k = 0; k < MMU_DOMS && !bad; k++)
        bad = check_mapper(m, &m->dom[k], d->mfn + i, r, w);
    if (!bad && !r && m->direct[d->mfn + i - MMU_MFN0])
        bad = "the hypervisor reaches a frame whose grant is free";
    return bad;
}

const char *
mmu_check(const struct mmu *m)
{
    const char *bad = NULL;

    for (uint32_t k = 0; k < MMU_DOMS && !bad; k++) {
        for (uint32_t i = 0; i < m->dom[k].n_refs && !bad; i++)
            bad = check_ref(m, &m->dom[k], i);
    }
    return bad;
}

/* --------------------------------------------------------- the operations -- */

static struct fh_gnt_domain *
m_domain_get(void *hv, uint16_t domid)
{
    struct mmu *m = hv;

    return domid < MMU_DOMS && m->dom[domid].exists ? &m->dom[domid].gnt : NULL;
}

static void
m_domain_ref(void *hv, struct fh_gnt_domain *d)
{
}

static int
m_frame_get(void *hv, struct fh_gnt_domain *owner, uint64_t gfn, bool for_write,
            struct fh_gnt_frame *out)
{
    struct mmu *m = hv;

    if (gfn < MMU_MFN0 || gfn - MMU_MFN0 >= m->n_frames)
        return FH_GNT_E_BAD_PAGE;
    out->mfn = gfn;
    return 0;
}

static void
m_frame_put(void *hv, struct fh_gnt_domain *owner, uint64_t mfn)
{
}

static void *
m_frame_map(void *hv, struct fh_gnt_domain *owner, uint64_t mfn, bool for_write)
{
    static uint8_t bytes[FH_PAGE_BYTES];
    struct mmu *m = hv;

    m->direct[mfn - MMU_MFN0]++;
    point(m);
    return bytes;
}

static void
m_frame_unmap(void *hv, struct fh_gnt_domain *owner, uint64_t mfn, void *addr,
              bool for_write)
{
    struct mmu *m = hv;

    point(m);
    if (!(m->broken & MMU_A9))
        m->direct[mfn - MMU_MFN0]--;
}

static bool
must_always_flush(const struct mmu *m)
{
    return (m->no_accessed && !(m->broken & MMU_A7)) ||
           (m->late_accessed && !(m->broken & MMU_A5));
}

static int
m_pt_install(void *hv, struct fh_gnt_domain *mapper,
             const struct fh_gnt_pte *pte, uint64_t *old)
{
    struct mmu *m = hv;
    struct mmu_domain *d = dom_of(mapper);
    const uint64_t slot = (pte->host_addr >> 12) - 1;
    uint64_t word = pte->mfn << 8 | MMU_P;

    if (slot >= m->n_slots)
        return FH_EFAULT;
    if (!(pte->flags & GNTMAP_readonly))
        word |= MMU_W;
    if (m->broken & MMU_A1)
        word |= MMU_A | MMU_D;
    point(m);
    *old = d->pt[slot];
    d->handles[slot] = pte->handle + 1;
    d->guest_pt[slot] = word;
    d->pt[slot] = word;
    point(m);
    return must_always_flush(m) ? FH_GNT_PT_ALWAYS_FLUSH : 0;
}

/* The exchange of the entry for nothing; what it was. */
static uint64_t
take_out(struct mmu *m, uint64_t *pte)
{
    const uint64_t was = *pte;

    if (m->broken & MMU_A4)
        point(m);
    *pte = 0;
    return was;
}

static int
m_pt_remove(void *hv, struct fh_gnt_domain *mapper,
            const struct fh_gnt_pte *pte, uint64_t *old)
{
    struct mmu *m = hv;
    struct mmu_domain *d = dom_of(mapper);
    const uint64_t slot = (pte->host_addr >> 12) - 1;
    const uint64_t w = pte->flags & GNTMAP_readonly ? 0 : MMU_W;
    int found;

    point(m);
    if (slot >= m->n_slots || (d->pt[slot] & ~(uint64_t)(MMU_A | MMU_D)) !=
                                  (pte->mfn << 8 | MMU_P | w))
        return FH_EINVAL;
    *old = take_out(m, &d->pt[slot]);
    d->handles[slot] = 0;
    if (m->broken & MMU_A8)
        *old = d->guest_pt[slot];
    d->guest_pt[slot] = 0;
    point(m);
    found = *old & MMU_A ? FH_GNT_PT_ACCESSED : FH_GNT_PT_UNTOUCHED;
    if (m->shared_table && !(m->broken & MMU_A7))
        found |= FH_GNT_PT_IOTLB;
    return found;
}

static void
m_tlb_flush(void *hv, struct fh_gnt_domain *mapper)
{
    mmu_flush_all(hv, dom_of(mapper));
}

static void
m_tlb_cpus(void *hv, struct fh_gnt_domain *mapper, uint64_t *cpus)
{
    struct mmu *m = hv;

    memcpy(cpus, dom_of(mapper)->cpus,
           (m->n_cpus + 63) / 64 * sizeof(*cpus));
    point(m);
}

static void
m_tlb_flush_cpus(void *hv, const uint64_t *cpus)
{
    interrupt(hv, cpus);
}

static uint64_t *
m_iommu_count(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn)
{
    struct mmu *m = hv;

    return m->iommu ? &dom_of(mapper)->io_count[mfn - MMU_MFN0] : NULL;
}

static void
io_set(struct mmu *m, struct fh_gnt_domain *mapper, uint32_t key, uint64_t word)
{
    point(m);
    dom_of(mapper)->io[key] = word;
    point(m);
}

static int
m_iommu_map(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn, bool readonly)
{
    struct mmu *m = hv;

    m->io_maps++;
    io_set(m, mapper, (uint32_t)(mfn - MMU_MFN0),
           mfn << 8 | MMU_P | (readonly ? 0 : MMU_W));
    return 0;
}

static int
m_iommu_unmap(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn,
              bool to_readonly)
{
    struct mmu *m = hv;

    m->io_unmaps++;
    io_set(m, mapper, (uint32_t)(mfn - MMU_MFN0),
           to_readonly ? mfn << 8 | MMU_P : 0);
    return 0;
}

static uint32_t
own_key(const struct mmu *m, uint64_t iova)
{
    return m->n_frames + (uint32_t)((iova - MMU_IOVA) >> FH_PAGE_SHIFT);
}

static int
m_iommu_map_at(void *hv, struct fh_gnt_domain *mapper, uint64_t iova,
               uint64_t mfn, bool readonly)
{
    struct mmu *m = hv;

    m->io_maps++;
    io_set(m, mapper, own_key(m, iova),
           mfn << 8 | MMU_P | (readonly ? 0 : MMU_W));
    return 0;
}

static void
m_iommu_unmap_at(void *hv, struct fh_gnt_domain *mapper, uint64_t iova)
{
    struct mmu *m = hv;

    m->io_unmaps++;
    io_set(m, mapper, own_key(m, iova), 0);
}

static void
m_iommu_flush(void *hv, struct fh_gnt_domain *mapper)
{
    struct mmu *m = hv;
    struct mmu_domain *d = dom_of(mapper);

    point(m);
    m->io_flushes++;
    if (!(m->broken & MMU_A6))
        memset(d->iotlb, 0, io_pages(m, d) * sizeof(*d->iotlb));
}

static const struct fh_hv_ops mmu_ops = {
    .domain_get = m_domain_get,
    .domain_hold = m_domain_ref,
    .domain_put = m_domain_ref,
    .frame_get = m_frame_get,
    .frame_put = m_frame_put,
    .frame_map = m_frame_map,
    .frame_unmap = m_frame_unmap,
    .pt_install = m_pt_install,
    .pt_remove = m_pt_remove,
    .tlb_flush = m_tlb_flush,
    .tlb_cpus = m_tlb_cpus,
    .tlb_flush_cpus = m_tlb_flush_cpus,
    .iommu_count = m_iommu_count,
    .iommu_map = m_iommu_map,
    .iommu_unmap = m_iommu_unmap,
    .iommu_flush = m_iommu_flush,
    .iommu_map_at = m_iommu_map_at,
    .iommu_unmap_at = m_iommu_unmap_at,
};

/* -------------------------------------------------------------- its life -- */

static void *
zeroed(struct mmu *m, size_t bytes)
{
    void *p = aligned_alloc(4096, fh_round_up(bytes, 4096));

    if (!p || m->n_mem == FH_ARRAY_SIZE(m->mem))
        abort();
    memset(p, 0, bytes);
    m->mem[m->n_mem++] = p;
    return p;
}

void
mmu_init(struct mmu *m, uint32_t n_cpus, uint32_t n_slots, uint32_t n_frames)
{
    memset(m, 0, sizeof(*m));
    m->ops = mmu_ops;
    m->n_cpus = n_cpus;
    m->n_slots = n_slots;
    m->n_frames = n_frames;
    m->direct = zeroed(m, n_frames);
    fh_tlb_init(&m->tlb, n_cpus, m->tlb_cpus);
    for (uint32_t i = 0; i < n_cpus; i++)
        m->cpu[i].tlb = zeroed(m, n_slots * sizeof(uint64_t));
}

void
mmu_fini(struct mmu *m)
{
    while (m->n_mem)
        free(m->mem[--m->n_mem]);
}

static void
make_tables(struct mmu *m, struct mmu_domain *d, uint32_t n_handles)
{
    const size_t io = (m->n_frames + n_handles + m->n_slots) * sizeof(uint64_t);

    fh_gnt_maptrack_init(&d->gnt, n_handles,
                         zeroed(m, fh_gnt_maptrack_bytes(n_handles)));
    d->pt = zeroed(m, m->n_slots * sizeof(*d->pt));
    d->guest_pt = zeroed(m, m->n_slots * sizeof(*d->guest_pt));
    d->handles = zeroed(m, m->n_slots * sizeof(*d->handles));
    d->io = zeroed(m, io);
    d->iotlb = zeroed(m, io);
    d->io_count = zeroed(m, m->n_frames * sizeof(*d->io_count));
}

struct mmu_domain *
mmu_add(struct mmu *m, uint16_t domid, uint32_t first, uint32_t n,
        uint16_t grantee, uint32_t n_handles)
{
    struct mmu_domain *d = &m->dom[domid];
    const struct fh_gnt_domain_params params = {
        .uid = 100u + domid,
        .domid = domid,
        .n_cpus = MMU_CPUS,
        .stats = d->stats,
        .tlb = &m->tlb,
        .flags = m->own_iova ? FH_GNT_DOM_OWN_IOVA : 0,
        .iova_base = MMU_IOVA,
    };

    d->exists = true;
    d->mfn = MMU_MFN0 + first;
    fh_gnt_domain_init(&d->gnt, &params);
    fh_gnt_table_init(&d->gnt, 1, zeroed(m, fh_gnt_table_bytes(1)));
    d->table = zeroed(m, FH_PAGE_BYTES);
    if (fh_gnt_table_grow(&d->gnt, d->table, zeroed(m, fh_gnt_frame_bytes()), 0))
        abort();
    make_tables(m, d, n_handles);
    for (uint32_t i = 0; i < n; i++)
        fh_gnt_v1_grant(d->table, FIRST_REF + i, grantee,
                        (uint32_t)d->mfn + i, false);
    d->n_refs = n;
    return d;
}
