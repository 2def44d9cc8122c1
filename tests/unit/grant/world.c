/* SPDX-License-Identifier: MIT */
/*
 * The machine behind the tests of libgrant, and the invariants of
 * reference section 6 as one predicate over it.
 */
#include "grant/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grant/internal.h"

/* True: this call is the one that has to fail. */
static bool
faulted(struct world *w, enum world_op op)
{
    if (w->hook)
        w->hook(w, w->hook_arg);
    if (w->fail_at == UINT64_MAX || w->calls++ != w->fail_at)
        return false;
    w->failed = op;
    w->did_fail = true;
    return true;
}

static struct world_domain *
dom_of(struct fh_gnt_domain *d)
{
    return (struct world_domain *)d; /* gnt is its first member */
}

static struct fh_gnt_domain *
w_domain_get(void *hv, uint16_t domid)
{
    struct world *w = hv;

    if (faulted(w, W_DOMAIN_GET))
        return NULL;
    if (domid >= WORLD_DOMAINS || !w->dom[domid].exists)
        return NULL;
    fh_fetch_add32(&w->dom[domid].refs, 1);
    return &w->dom[domid].gnt;
}

static void
w_domain_hold(void *hv, struct fh_gnt_domain *d)
{
    fh_fetch_add32(&dom_of(d)->refs, 1);
}

static void
w_domain_put(void *hv, struct fh_gnt_domain *d)
{
    if (!fh_fetch_add32(&dom_of(d)->refs, UINT32_MAX))
        abort();
}

static bool
w_may(void *hv, struct fh_gnt_domain *caller, struct fh_gnt_domain *peer,
      unsigned op)
{
    return !faulted(hv, W_MAY);
}

struct world_frame *
world_frame(struct world *w, uint64_t mfn)
{
    if (mfn < WORLD_MFN0 || mfn - WORLD_MFN0 >= WORLD_FRAMES)
        return NULL;
    return &w->frames[mfn - WORLD_MFN0];
}

static int
w_frame_get(void *hv, struct fh_gnt_domain *owner, uint64_t gfn, bool for_write,
            struct fh_gnt_frame *out)
{
    struct world *w = hv;
    struct world_frame *f = world_frame(w, gfn);

    if (faulted(w, W_FRAME_GET))
        return w->frame_verdict;
    if (!f || f->owner != owner->domid)
        return FH_GNT_E_BAD_PAGE;
    fh_fetch_add32(&f->refs, 1);
    out->mfn = gfn;
    return 0;
}

static void
w_frame_put(void *hv, struct fh_gnt_domain *owner, uint64_t mfn)
{
    if (!fh_fetch_add32(&world_frame(hv, mfn)->refs, UINT32_MAX))
        abort();
}

static int
w_frame_get_writable(void *hv, struct fh_gnt_domain *owner, uint64_t mfn)
{
    if (faulted(hv, W_FRAME_GET_WRITABLE))
        return FH_EBUSY;
    fh_fetch_add32(&world_frame(hv, mfn)->writable_refs, 1);
    return 0;
}

static void
w_frame_put_writable(void *hv, struct fh_gnt_domain *owner, uint64_t mfn)
{
    if (!fh_fetch_add32(&world_frame(hv, mfn)->writable_refs, UINT32_MAX))
        abort();
}

static void *
w_frame_map(void *hv, struct fh_gnt_domain *owner, uint64_t mfn, bool for_write)
{
    return faulted(hv, W_FRAME_MAP) ? NULL : world_frame(hv, mfn)->bytes;
}

static void
w_frame_unmap(void *hv, struct fh_gnt_domain *owner, uint64_t mfn, void *addr,
              bool for_write)
{
    if (addr != world_frame(hv, mfn)->bytes)
        abort();
}

static struct world_pte *
pte_at(struct fh_gnt_domain *d, uint64_t host_addr)
{
    struct world_domain *wd = dom_of(d);
    const uint64_t slot = (host_addr >> 12) - 1;

    return slot < wd->n_ptes ? &wd->ptes[slot] : NULL;
}

static int
w_pt_install(void *hv, struct fh_gnt_domain *mapper,
             const struct fh_gnt_pte *pte, uint64_t *old)
{
    struct world_pte *p = pte_at(mapper, pte->host_addr);
    uint64_t word = pte->mfn << 8 | W_PTE_PRESENT;

    if (faulted(hv, W_PT_INSTALL) || !p)
        return FH_EFAULT;
    if (!(pte->flags & GNTMAP_readonly))
        word |= W_PTE_RW;
    *old = fh_exchange64(&p->word, word);
    if ((*old & W_PTE_PRESENT) && !(*old & W_PTE_OWN))
        fh_fetch_add32(&world_frame(hv, *old >> 8)->n_maps, UINT32_MAX);
    fh_fetch_add32(&world_frame(hv, pte->mfn)->n_maps, 1);
    return 0;
}

static int
w_pt_remove(void *hv, struct fh_gnt_domain *mapper,
            const struct fh_gnt_pte *pte, uint64_t *old)
{
    struct world_pte *p = pte_at(mapper, pte->host_addr);
    uint64_t want = pte->mfn << 8 | W_PTE_PRESENT;

    if (faulted(hv, W_PT_REMOVE) || !p)
        return FH_EINVAL;
    if (!(pte->flags & GNTMAP_readonly))
        want |= W_PTE_RW;
    *old = fh_load_relaxed64(&p->word);
    if ((*old & ~(uint64_t)W_PTE_ACCESSED) != want)
        return FH_EINVAL;
    *old = fh_exchange64(&p->word, 0);
    fh_fetch_add32(&world_frame(hv, pte->mfn)->n_maps, UINT32_MAX);
    return *old & W_PTE_ACCESSED ? FH_GNT_PT_ACCESSED : FH_GNT_PT_UNTOUCHED;
}

/* Single-threaded: the two entries change one after the other. */
static int
w_pt_replace(void *hv, struct fh_gnt_domain *mapper,
             const struct fh_gnt_pte *pte, uint64_t new_addr, bool duplicate,
             uint64_t *old)
{
    struct world_pte *from = pte_at(mapper, new_addr);
    const uint64_t mine = from ? from->word : 0;
    int r;

    if (faulted(hv, W_PT_REPLACE) || !(mine & W_PTE_OWN))
        return FH_EINVAL;
    r = w_pt_remove(hv, mapper, pte, old);
    if (r < 0)
        return r;
    pte_at(mapper, pte->host_addr)->word = mine & ~(uint64_t)W_PTE_ACCESSED;
    if (!duplicate)
        from->word = 0;
    return mine & W_PTE_ACCESSED && !duplicate ? FH_GNT_PT_ACCESSED : r;
}

static void
w_tlb_flush(void *hv, struct fh_gnt_domain *mapper)
{
    fh_fetch_add64(&dom_of(mapper)->flushes, 1);
}

static uint64_t *
w_iommu_count(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn)
{
    struct world *w = hv;

    return w->iommu ? &world_frame(w, mfn)->iommu[mapper->domid] : NULL;
}

static int
w_iommu_map(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn, bool readonly)
{
    if (faulted(hv, W_IOMMU_MAP))
        return FH_ENOMEM;
    fh_store_relaxed8(&world_frame(hv, mfn)->io_perm[mapper->domid],
                      readonly ? 1 : 3);
    return 0;
}

static int
w_iommu_unmap(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn,
              bool to_readonly)
{
    fh_store_relaxed8(&world_frame(hv, mfn)->io_perm[mapper->domid],
                      to_readonly ? 1 : 0);
    return 0;
}

static void
w_iommu_flush(void *hv, struct fh_gnt_domain *mapper)
{
    fh_fetch_add64(&dom_of(mapper)->io_flushes, 1);
}

static struct fh_gnt_domain *
w_frame_owner(void *hv, uint64_t mfn)
{
    struct world *w = hv;
    struct world_frame *f = world_frame(w, mfn);

    if (faulted(w, W_FRAME_OWNER) || !f || f->owner >= WORLD_DOMAINS)
        return NULL;
    fh_fetch_add32(&f->refs, 1);
    fh_fetch_add32(&w->dom[f->owner].refs, 1);
    return &w->dom[f->owner].gnt;
}

static int
w_cache_flush(void *hv, uint64_t mfn, uint32_t offset, uint32_t n, uint32_t op)
{
    struct world *w = hv;

    if (faulted(w, W_CACHE_FLUSH))
        return FH_EIO;
    if (offset + n > FH_PAGE_BYTES || !world_frame(w, mfn)->refs)
        abort();
    w->cache.calls++;
    w->cache.mfn = mfn;
    w->cache.offset = offset;
    w->cache.n = n;
    w->cache.op = op;
    return 0;
}

static int
w_table_grow(void *hv, struct fh_gnt_domain *d, uint32_t n_frames,
             uint32_t n_status)
{
    struct world_domain *wd = dom_of(d);

    if (faulted(hv, W_TABLE_GROW) || wd->refuses_to_grow)
        return FH_ENOMEM;
    while (d->n_status < n_status) {
        const uint32_t n = d->n_status;

        if (fh_gnt_status_grow(d, wd->status + n * FH_GNT_STATUS_PER_FRAME,
                               WORLD_STATUS_GFN(d->domid, n)))
            return FH_ENOMEM;
    }
    while (d->n_frames < n_frames) {
        if (world_grow(wd))
            return FH_ENOMEM;
    }
    return 0;
}

/* The guests of this machine live in the test's own address space. */
static int
w_guest_write(void *hv, struct fh_gnt_domain *caller, uint64_t guest_addr,
              const void *src, size_t n)
{
    if (faulted(hv, W_GUEST_WRITE) || !guest_addr)
        return FH_EFAULT;
    memcpy((void *)(uintptr_t)guest_addr, src, n);
    return 0;
}

static int
w_page_steal(void *hv, struct fh_gnt_domain *from, uint64_t mfn)
{
    struct world *w = hv;
    struct world_frame *f = world_frame(w, mfn);

    if (faulted(w, W_PAGE_STEAL) || !f || f->owner != from->domid || f->refs)
        return FH_EBUSY;
    f->owner = UINT16_MAX;
    w->n_stolen++;
    return 0;
}

static int
w_page_offer(void *hv, struct fh_gnt_domain *to, uint64_t max_mfn,
             struct fh_gnt_frame *frame)
{
    struct world *w = hv;

    if (faulted(w, W_PAGE_OFFER))
        return FH_ENOMEM;
    if (world_frame(w, frame->mfn)->owner != UINT16_MAX)
        abort();
    w->max_mfn = max_mfn;
    if (w->low_mfn == WORLD_NO_MFN)
        return FH_GNT_E_TOO_BIG;
    if (w->low_mfn) {
        memcpy(world_frame(w, w->low_mfn)->bytes,
               world_frame(w, frame->mfn)->bytes, FH_PAGE_BYTES);
        frame->mfn = w->low_mfn;
    }
    w->n_offered++;
    return 0;
}

static void
w_page_assign(void *hv, struct fh_gnt_domain *to,
              const struct fh_gnt_frame *frame)
{
    struct world *w = hv;

    world_frame(w, frame->mfn)->owner = to->domid;
    w->n_offered--;
    w->n_stolen--;
    w->n_assigned++;
}

static void
w_page_retract(void *hv, struct fh_gnt_domain *to,
               const struct fh_gnt_frame *frame)
{
    struct world *w = hv;

    w->n_offered--;
}

static void
w_page_free(void *hv, const struct fh_gnt_frame *frame)
{
    struct world *w = hv;

    if (world_frame(w, frame->mfn)->owner != UINT16_MAX)
        abort();
    w->n_stolen--;
    w->n_freed++;
}

static bool
w_may_use_reserve(void *hv, struct fh_gnt_domain *mapper,
                  struct fh_gnt_domain *granter, uint32_t ref)
{
    const struct world *w = hv;

    return w->reserve_from_ref && ref >= w->reserve_from_ref;
}

static uint32_t *
w_map_word(void *hv, struct fh_gnt_domain *mapper, uint64_t host_addr)
{
    struct world_domain *d = dom_of(mapper);
    const struct world_pte *p = pte_at(mapper, host_addr);

    return p && d->map_words ? &d->map_words[p - d->ptes] : NULL;
}

static void
w_domain_kick(void *hv, struct fh_gnt_domain *d, uint32_t ref)
{
    dom_of(d)->kicks++;
    dom_of(d)->kicked_ref = ref;
}

static bool
w_preempt(void *hv)
{
    struct world *w = hv;

    if (!w->preempt_every)
        return false;
    return ++w->preempt_asks % w->preempt_every == 0;
}

static const struct fh_hv_ops world_ops = {
    .domain_get = w_domain_get,
    .domain_hold = w_domain_hold,
    .domain_put = w_domain_put,
    .may = w_may,
    .frame_get = w_frame_get,
    .frame_put = w_frame_put,
    .frame_get_writable = w_frame_get_writable,
    .frame_put_writable = w_frame_put_writable,
    .frame_map = w_frame_map,
    .frame_unmap = w_frame_unmap,
    .pt_install = w_pt_install,
    .pt_remove = w_pt_remove,
    .pt_replace = w_pt_replace,
    .tlb_flush = w_tlb_flush,
    .iommu_count = w_iommu_count,
    .iommu_map = w_iommu_map,
    .iommu_unmap = w_iommu_unmap,
    .iommu_flush = w_iommu_flush,
    .page_steal = w_page_steal,
    .page_offer = w_page_offer,
    .page_assign = w_page_assign,
    .page_retract = w_page_retract,
    .page_free = w_page_free,
    .may_use_reserve = w_may_use_reserve,
    .map_word = w_map_word,
    .frame_owner = w_frame_owner,
    .cache_flush = w_cache_flush,
    .table_grow = w_table_grow,
    .guest_write = w_guest_write,
    .domain_kick = w_domain_kick,
    .preempt = w_preempt,
};

static void *
zeroed(struct world_domain *d, size_t bytes)
{
    void *p = aligned_alloc(4096, fh_round_up(bytes, 4096));

    if (!p || d->n_mem == FH_ARRAY_SIZE(d->mem))
        abort();
    memset(p, 0, bytes);
    d->mem[d->n_mem++] = p;
    return p;
}

void
world_init(struct world *w)
{
    *w = (struct world){ .ops = world_ops, .fail_at = UINT64_MAX,
                         .frame_verdict = FH_GNT_E_BAD_PAGE, .next_uid = 100 };
    w->frames = calloc(WORLD_FRAMES, sizeof(*w->frames));
    if (!w->frames)
        abort();
    for (uint32_t i = 0; i < WORLD_FRAMES; i++)
        w->frames[i].owner = UINT16_MAX;
}

void
world_fini(struct world *w)
{
    for (unsigned i = 0; i < WORLD_DOMAINS; i++) {
        while (w->dom[i].n_mem)
            free(w->dom[i].mem[--w->dom[i].n_mem]);
    }
    free(w->frames);
}

int
world_grow(struct world_domain *d)
{
    const uint32_t n = d->gnt.n_frames;

    if (n == d->gnt.max_frames)
        return FH_ENOSPC;
    return fh_gnt_table_grow(&d->gnt, &d->table[n * FH_GNT_V1_PER_FRAME],
                             zeroed(d, fh_gnt_frame_bytes()),
                             WORLD_GRANT_GFN(d->gnt.domid, n));
}

struct world_domain *
world_add(struct world *w, uint16_t domid, uint64_t mfn, uint32_t n_frames,
          uint32_t max_frames, uint32_t n_handles, uint32_t n_ptes,
          uint32_t flags)
{
    struct world_domain *d = &w->dom[domid];
    const struct fh_gnt_domain_params params = {
        .uid = w->next_uid++,
        .domid = domid,
        .flags = flags,
        .n_cpus = FH_ARRAY_SIZE(d->stats),
        .stats = d->stats,
    };

    *d = (struct world_domain){ .exists = true, .n_ptes = n_ptes };
    fh_gnt_domain_init(&d->gnt, &params);
    fh_gnt_table_init(&d->gnt, max_frames,
                      zeroed(d, fh_gnt_table_bytes(max_frames)));
    d->table = zeroed(d, (size_t)max_frames * FH_PAGE_BYTES);
    d->table2 = (grant_entry_v2_t *)d->table;
    d->status = zeroed(d, fh_gnt_status_needed(max_frames) * FH_PAGE_BYTES);
    fh_gnt_maptrack_init(&d->gnt, n_handles,
                         zeroed(d, fh_gnt_maptrack_bytes(n_handles)));
    d->ptes = zeroed(d, (n_ptes + 1) * sizeof(*d->ptes));
    if (world_grow(d))
        abort();
    for (uint32_t i = 0; i < n_frames; i++)
        world_frame(w, mfn + i)->owner = domid;
    return d;
}

void
world_touch(struct world_domain *d, uint32_t slot)
{
    fh_fetch_or64(&d->ptes[slot].word, W_PTE_ACCESSED);
}

void
world_add_map_words(struct world_domain *d)
{
    d->map_words = zeroed(d, d->n_ptes * sizeof(*d->map_words));
}

void
world_map_own(struct world_domain *d, uint32_t slot, uint64_t mfn)
{
    d->ptes[slot].word = mfn << 8 | W_PTE_PRESENT | W_PTE_RW | W_PTE_OWN;
}

/* ------------------------------------------------------------ invariants -- */

/* What the live handles of everybody add up to, per entry of one granter. */
struct tally {
    uint32_t readers, writers;
    uint16_t grantee;
};

static const char *
tally_slots(const struct world_domain *d, const struct fh_gnt_domain *granter,
            struct tally *t, uint32_t *live)
{
    for (uint32_t i = 0; i < d->gnt.n_slots; i++) {
        const struct fh_gnt_slot *s = &d->gnt.slots[i];
        const uint64_t word = s->word;

        if (word & FH_SLOT_BUSY)
            return "a slot is claimed";
        if (!(word & FH_SLOT_LIVE))
            continue;
        ++*live;
        if (s->entry->granter != granter)
            continue;
        if (word & GNTMAP_readonly)
            t[s->entry->ref].readers++;
        else
            t[s->entry->ref].writers++;
        t[s->entry->ref].grantee = d->gnt.domid;
    }
    return NULL;
}

/* Walks one free list, adding to *@n. */
static const char *
check_list(const struct world_domain *d, uint64_t head, bool is_reserve,
           uint32_t *n)
{
    uint32_t i = (uint32_t)head;

    while (i) {
        const struct fh_gnt_slot *s = &d->gnt.slots[i - 1];

        if (s->word & 0xffffffff)
            return "I5: a slot on the free list is live";
        if (++*n > d->gnt.n_slots)
            return "I5: the free list has a cycle";
        if ((i - 1 < d->gnt.n_reserved) != is_reserve)
            return "I5: a slot is on the wrong list";
        i = s->next;
    }
    return NULL;
}

/* I5: each index is live, free or fresh, and only one of these. */
static const char *
check_free_list(const struct world_domain *d, uint32_t live)
{
    const uint32_t used =
        d->gnt.fresh_slots - d->gnt.n_reserved + d->gnt.fresh_reserve;
    uint32_t n = 0;
    const char *bad = check_list(d, d->gnt.free_slots, false, &n);

    if (!bad)
        bad = check_list(d, d->gnt.free_reserve, true, &n);
    if (bad)
        return bad;
    return n + live == used ? NULL : "I5: slots are missing";
}

/* Each address's word is the mapping that is there. */
static const char *
check_map_words(const struct world_domain *d)
{
    for (uint32_t i = 0; d->map_words && i < d->n_ptes; i++) {
        const uint64_t pte = d->ptes[i].word;
        const bool granted =
            (pte & W_PTE_PRESENT) && !(pte & W_PTE_OWN);
        struct fh_gnt_map_info info;

        if (granted != (d->map_words[i] != 0))
            return "an address's word is not what is mapped";
        if (granted &&
            (fh_gnt_map_info(&d->gnt, d->map_words[i] - 1, &info) ||
             info.mfn != pte >> 8 || info.host_addr != world_addr(i)))
            return "an address's word names another mapping";
    }
    return NULL;
}

/* What the granter sees of an entry's use. */
static uint16_t
marks_seen(const struct world_domain *d, uint32_t ref)
{
    if (d->gnt.version == 1)
        return d->table[ref].flags;
    return ref < d->gnt.n_frames * FH_GNT_V2_PER_FRAME ? d->status[ref] : 0;
}

static const char *
check_entry(const struct world_domain *d, uint32_t ref, const struct tally *t,
            struct world_frame *f)
{
    const struct fh_gnt_entry *e = fh_gnt_entry_at(&d->gnt, ref);
    const uint64_t word = e->word;
    uint16_t flags = marks_seen(d, ref);

    if (!fh_entry_valid(word) || (word & FH_ENTRY_BUSY))
        return "an entry's word is not valid";
    if (fh_entry_readers(word) != t->readers ||
        fh_entry_writers(word) != t->writers)
        return "I2: pins are not the live handles";
    if (!(word & FH_ENTRY_PINS))
        return !d->guest_lies && (flags & (GTF_reading | GTF_writing))
                   ? "I1: the granter sees a use that is over"
                   : NULL;
    if (fh_entry_grantee(word) != t->grantee)
        return "I2: pinned by somebody else";
    if (d->guest_lies)
        flags = GTF_reading | (t->writers ? GTF_writing : 0);
    if (!(flags & GTF_reading) || !(flags & GTF_writing) != !t->writers)
        return "I1: the granter does not see the use";
    if (!f || f->owner != d->gnt.domid)
        return "I3: a pinned frame is not the granter's";
    return NULL;
}

/* I1 to I3 for one granter; adds the references that it accounts for. */
static const char *
check_granter(struct world *w, struct world_domain *d, uint32_t *refs,
              uint32_t *writable)
{
    const uint32_t n = d->gnt.n_frames * FH_GNT_V1_PER_FRAME;
    struct tally *t = calloc(n, sizeof(*t));
    const char *bad = NULL;
    uint32_t held = 0, live = 0;

    for (unsigned m = 0; m < WORLD_DOMAINS && !bad; m++)
        bad = tally_slots(&w->dom[m], &d->gnt, t, &live);
    for (uint32_t ref = 0; ref < n && !bad; ref++) {
        const struct fh_gnt_entry *e = fh_gnt_entry_at(&d->gnt, ref);
        struct world_frame *f = world_frame(w, e->mfn);

        bad = check_entry(d, ref, &t[ref], f);
        if (bad || !(e->word & FH_ENTRY_PINS))
            continue;
        held++;
        refs[f - w->frames]++;
        writable[f - w->frames] += fh_entry_writers(e->word) > 0;
    }
    free(t);
    if (!bad && held != d->refs)
        bad = "a domain's references are not its pinned entries";
    return bad;
}

/* I6: the permission of devices is what the count says. */
static const char *
check_iommu(const struct world *w, const struct world_frame *f)
{
    for (unsigned m = 0; m < WORLD_DOMAINS; m++) {
        const uint64_t c = f->iommu[m];
        const uint8_t want = c & FH_ENTRY_WRITERS ? 3 : c ? 1 : 0;

        if (c & ~FH_ENTRY_PINS)
            return "I6: an I/O count is busy";
        if (f->io_perm[m] != want)
            return "I6: I/O permission";
    }
    return NULL;
}

static const char *
check_frames(struct world *w, const uint32_t *refs, const uint32_t *writable)
{
    for (uint32_t i = 0; i < WORLD_FRAMES; i++) {
        const struct world_frame *f = &w->frames[i];
        const char *bad = check_iommu(w, f);

        if (bad)
            return bad;
        if (f->refs != refs[i])
            return "I3: references on a frame";
        if (f->writable_refs != writable[i])
            return "I3: writable references on a frame";
        if (f->n_maps && !f->refs)
            return "I4: a released frame is mapped";
    }
    return NULL;
}

static const char *
check_mapper(struct world *w, struct world_domain *d)
{
    uint32_t live = 0;
    struct tally *none = NULL;
    const char *bad = tally_slots(d, NULL, none, &live);

    if (!bad)
        bad = check_free_list(d, live);
    return bad ? bad : check_map_words(d);
}

const char *
world_check(struct world *w)
{
    uint32_t refs[WORLD_FRAMES] = { 0 }, writable[WORLD_FRAMES] = { 0 };
    const char *bad = NULL;

    for (unsigned i = 0; i < WORLD_DOMAINS && !bad; i++) {
        if (!w->dom[i].exists)
            continue;
        bad = check_granter(w, &w->dom[i], refs, writable);
        if (!bad)
            bad = check_mapper(w, &w->dom[i]);
    }
    return bad ? bad : check_frames(w, refs, writable);
}
