/* SPDX-License-Identifier: MIT */
/*
 * libxengnttab, grant copy: fhv copies between granted pages and the argument
 * area, the caller's memory is reached here.
 *
 * The area starts with the array of operations of a chunk; the rest is packed
 * with the local side of each segment, none across a page.  One hypercall per
 * chunk.
 */
#include <errno.h>
#include <string.h>

#include "base/arith.h"
#include "xenlibs/gnt.h"

enum {
    CHUNK_OPS = 512,
    OPS_BYTES = CHUNK_OPS * sizeof(struct gnttab_copy),
    FIRST_PAGE = (OPS_BYTES + FH_PAGE_BYTES - 1) / FH_PAGE_BYTES,
    AREA_PAGES = FH_GNTLIB_AREA_BYTES / FH_PAGE_BYTES,
};

/* Where the next local bytes go. */
struct stage {
    uint32_t page, offset;
};

/* Room for @len bytes in one page; false: the area is full. */
static bool
stage_place(struct stage *s, uint16_t len, struct stage *at)
{
    if (s->offset + len > FH_PAGE_BYTES) {
        s->page++;
        s->offset = 0;
    }
    if (s->page >= AREA_PAGES)
        return false;
    *at = *s;
    /* Keeps copies aligned as their callers' pages mostly are. */
    s->offset = (uint32_t)fh_round_up(s->offset + len, 64);
    return true;
}

static bool
foreign_valid(const union xengnttab_copy_ptr *p, uint16_t len)
{
    return p->foreign.offset <= FH_PAGE_BYTES &&
           len <= FH_PAGE_BYTES - p->foreign.offset;
}

/* What makes the kernel refuse the whole call, before it copies anything. */
static bool
segment_valid(const xengnttab_grant_copy_segment_t *s)
{
    const unsigned both = GNTCOPY_source_gref | GNTCOPY_dest_gref;

    if (!(s->flags & both) || s->flags & ~both || s->len > FH_PAGE_BYTES)
        return false;
    if (s->flags & GNTCOPY_source_gref && !foreign_valid(&s->source, s->len))
        return false;
    return !(s->flags & GNTCOPY_dest_gref) || foreign_valid(&s->dest, s->len);
}

/* Builds operation @op for @s; false: no room for its local side. */
static bool
op_build(xengnttab_handle *h, const xengnttab_grant_copy_segment_t *s,
         struct stage *stage, struct gnttab_copy *op)
{
    struct stage at = { 0 };

    *op = (struct gnttab_copy){ .len = s->len, .flags = s->flags };
    if (s->flags != (GNTCOPY_source_gref | GNTCOPY_dest_gref) &&
        !stage_place(stage, s->len, &at))
        return false;
    if (s->flags & GNTCOPY_source_gref) {
        op->source.u.ref = s->source.foreign.ref;
        op->source.domid = s->source.foreign.domid;
        op->source.offset = s->source.foreign.offset;
    } else {
        op->source.u.gmfn = at.page;
        op->source.domid = DOMID_SELF;
        op->source.offset = (uint16_t)at.offset;
        memcpy(h->hvc.area + at.page * FH_PAGE_BYTES + at.offset,
               s->source.virt, s->len);
    }
    if (s->flags & GNTCOPY_dest_gref) {
        op->dest.u.ref = s->dest.foreign.ref;
        op->dest.domid = s->dest.foreign.domid;
        op->dest.offset = s->dest.foreign.offset;
    } else {
        op->dest.u.gmfn = at.page;
        op->dest.domid = DOMID_SELF;
        op->dest.offset = (uint16_t)at.offset;
    }
    return true;
}

static void
op_finish(xengnttab_handle *h, const struct gnttab_copy *op,
          xengnttab_grant_copy_segment_t *s)
{
    s->status = op->status;
    if (s->flags & GNTCOPY_dest_gref || op->status != GNTST_okay)
        return;
    memcpy(s->dest.virt,
           h->hvc.area + op->dest.u.gmfn * FH_PAGE_BYTES + op->dest.offset,
           s->len);
}

/* Copies the first segments of @segs, as many as go at once: *@n_done. */
static int
copy_chunk(xengnttab_handle *h, uint32_t count,
           xengnttab_grant_copy_segment_t *segs, uint32_t *n_done)
{
    struct gnttab_copy *ops = (struct gnttab_copy *)h->hvc.area;
    struct stage stage = { .page = FIRST_PAGE };
    struct fh_hv_req req = { .op = FH_HV_GNT_COPY };
    uint32_t n = 0;
    int r;

    while (n < count && n < CHUNK_OPS &&
           op_build(h, &segs[n], &stage, &ops[n]))
        n++;
    req.count = n;
    r = fh_hvc_call(&h->hvc, &req, -1, NULL);
    if (r)
        return r;
    for (uint32_t i = 0; i < n; i++)
        op_finish(h, &ops[i], &segs[i]);
    *n_done = n;
    return 0;
}

int
xengnttab_grant_copy(xengnttab_handle *xgt, uint32_t count,
                     xengnttab_grant_copy_segment_t *segs)
{
    uint32_t n = 0;
    int r = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!segment_valid(&segs[i]))
            return fh_gntlib_fail(FH_EINVAL);
    }
    pthread_mutex_lock(&xgt->lock);
    for (uint32_t at = 0; at < count && !r; at += n)
        r = copy_chunk(xgt, count - at, segs + at, &n);
    pthread_mutex_unlock(&xgt->lock);
    return r ? fh_gntlib_fail(r) : 0;
}
