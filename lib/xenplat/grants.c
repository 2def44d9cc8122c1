/* SPDX-License-Identifier: MIT */
/* Grants of the production platform: libxengnttab, both handles. */
#include <string.h>
#include <sys/mman.h>
#include <xengnttab.h>
#include "xenplat/internal.h"

enum {
    COPY_BATCH = 512, /* pieces of one library call; the kernel itself takes 16
                         at a time */
    GNTST_GENERAL = -1,
};

int
fh_xenplat_gnt_map(struct fh_plat *p, uint16_t domid, const uint32_t *refs,
                   uint32_t n, int prot, void **addr)
{
    struct fh_xenplat *x = fh_xenplat_of(p);
    int flags = PROT_READ | (prot == FH_PLAT_PROT_RW ? PROT_WRITE : 0);
    void *at;

    if (!x->gnttab)
        return FH_ENOSYS;
    x->counts.maps++;
    /* The library declares its array writable but only reads it. */
    at = xengnttab_map_domain_grant_refs(x->gnttab, n, domid,
                                         (uint32_t *)(uintptr_t)refs, flags);
    if (!at)
        return errno == EINVAL ? FH_PLAT_E_REFUSED : fh_xenplat_errno();
    *addr = at;
    return 0;
}

int
fh_xenplat_gnt_unmap(struct fh_plat *p, void *addr, uint32_t n)
{
    struct fh_xenplat *x = fh_xenplat_of(p);

    if (!x->gnttab)
        return FH_ENOSYS;
    x->counts.unmaps++;
    return xengnttab_unmap(x->gnttab, addr, n) ? fh_xenplat_errno() : 0;
}

static void
fill_segment(xengnttab_grant_copy_segment_t *seg, const struct fh_plat_copy *c)
{
    memset(seg, 0, sizeof(*seg));
    seg->len = c->bytes;
    if (c->to_grant) {
        seg->flags = GNTCOPY_dest_gref;
        seg->source.virt = c->local;
        seg->dest.foreign.ref = c->gref;
        seg->dest.foreign.offset = c->offset;
        seg->dest.foreign.domid = c->domid;
    } else {
        seg->flags = GNTCOPY_source_gref;
        seg->source.foreign.ref = c->gref;
        seg->source.foreign.offset = c->offset;
        seg->source.foreign.domid = c->domid;
        seg->dest.virt = c->local;
    }
}

static int
copy_batch(struct fh_xenplat *x, struct fh_plat_copy *pieces, uint32_t n)
{
    xengnttab_grant_copy_segment_t segs[COPY_BATCH];

    for (uint32_t i = 0; i < n; i++)
        fill_segment(&segs[i], &pieces[i]);
    x->counts.copies++;
    if (xengnttab_grant_copy(x->gnttab, n, segs))
        return fh_xenplat_errno();
    for (uint32_t i = 0; i < n; i++)
        pieces[i].status = segs[i].status;
    return 0;
}

int
fh_xenplat_gnt_copy(struct fh_plat *p, struct fh_plat_copy *pieces, uint32_t n)
{
    struct fh_xenplat *x = fh_xenplat_of(p);

    if (!x->gnttab)
        return FH_ENOSYS;
    for (uint32_t done = 0; done < n;) {
        uint32_t batch = n - done < COPY_BATCH ? n - done : COPY_BATCH;
        int r = copy_batch(x, pieces + done, batch);

        if (r && !done)
            return r;
        /* Part of the work is done: the pieces themselves must say which. */
        for (uint32_t i = 0; r && i < batch; i++)
            pieces[done + i].status = GNTST_GENERAL;
        done += batch;
    }
    return 0;
}

int
fh_xenplat_gnt_share(struct fh_plat *p, uint16_t domid, uint32_t n,
                     bool writable, uint32_t *refs, void **addr)
{
    struct fh_xenplat *x = fh_xenplat_of(p);
    void *at;

    if (!x->gntshr)
        return FH_ENOSYS;
    x->counts.shares++;
    at = xengntshr_share_pages(x->gntshr, domid, (int)n, refs, writable);
    if (!at)
        return fh_xenplat_errno();
    *addr = at;
    return 0;
}

int
fh_xenplat_gnt_unshare(struct fh_plat *p, void *addr, uint32_t n)
{
    struct fh_xenplat *x = fh_xenplat_of(p);

    if (!x->gntshr)
        return FH_ENOSYS;
    x->counts.unshares++;
    return xengntshr_unshare(x->gntshr, addr, n) ? fh_xenplat_errno() : 0;
}
