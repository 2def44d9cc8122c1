/* SPDX-License-Identifier: MIT */
/*
 * copy: each side names a page by grant reference, or, of the caller's own
 * pages only, by frame number.
 *
 * A side that was claimed (pinned and made addressable) stays claimed for the
 * next element if that names the same page in the same way: same domain, same
 * number, same kind (a reference 7 is not frame 7).  Everything is released at
 * the first error and at the end.
 *
 * Order of checks, as on Xen: length 0 (fine, and nothing else is looked at);
 * per side the domain; permission; per side the page; then the bounds.
 */
#include "grant/internal.h"

/* One claimed side. */
struct copy_side {
    struct fh_gnt_domain *domain; /* NULL: nothing claimed */
    bool counted;                 /* the domain by reference; not the caller */
    bool claimed;
    bool is_ref;
    bool is_write;
    uint16_t domid; /* as the guest named it */
    uint64_t id;    /* ref or gfn */
    struct fh_gnt_entry *entry; /* if is_ref */
    struct fh_gnt_domain *owner; /* of the frame: kept alive by the claim */
    uint64_t mfn;
    uint32_t start, end; /* the bytes of the page that are granted */
    uint8_t *bytes;
};

struct copy_call {
    struct fh_gnt_ctx *ctx;
    struct fh_gnt_domain *caller;
    struct copy_side src, dst;
};

/* ------------------------------------------------------------- claiming -- */

static void
release_frame(struct copy_call *c, struct copy_side *s)
{
    const struct fh_hv_ops *ops = c->ctx->ops;

    if (s->is_write && ops->frame_put_writable)
        ops->frame_put_writable(c->ctx->hv, s->owner, s->mfn);
    ops->frame_put(c->ctx->hv, s->owner, s->mfn);
}

static void
release_page(struct copy_call *c, struct copy_side *s)
{
    if (!s->claimed)
        return;
    s->claimed = false;
    if (s->bytes)
        c->ctx->ops->frame_unmap(c->ctx->hv, s->owner, s->mfn, s->bytes,
                                 s->is_write);
    s->bytes = NULL;
    if (s->is_ref)
        fh_gnt_unpin(c->ctx, c->caller, s->entry, s->is_write);
    else
        release_frame(c, s);
}

static void
release_side(struct copy_call *c, struct copy_side *s)
{
    release_page(c, s);
    if (s->counted)
        c->ctx->ops->domain_put(c->ctx->hv, s->domain);
    s->counted = false;
    s->domain = NULL;
}

static void
release_both(struct copy_call *c)
{
    release_side(c, &c->src);
    release_side(c, &c->dst);
}

/* A frame number means something only in the caller's own memory. */
static bool
is_foreign_frame(uint16_t domid, bool is_ref)
{
    return !is_ref && domid != DOMID_SELF;
}

/* The domain of one side. */
static int16_t
claim_domain(struct copy_call *c, struct copy_side *s, uint16_t domid,
             bool is_ref)
{
    if (is_foreign_frame(domid, is_ref))
        return GNTST_permission_denied;
    s->domid = domid;
    if (domid == DOMID_SELF)
        s->domain = c->caller;
    else if (domid < DOMID_FIRST_RESERVED)
        s->domain = c->ctx->ops->domain_get(c->ctx->hv, domid);
    if (!s->domain)
        return GNTST_bad_domain;
    s->counted = domid != DOMID_SELF;
    return GNTST_okay;
}

static int16_t
claim_frame(struct copy_call *c, struct copy_side *s, uint64_t gfn)
{
    const struct fh_hv_ops *ops = c->ctx->ops;
    struct fh_gnt_frame frame = { 0 };
    const int16_t status = fh_gnt_frame_status(
        ops->frame_get(c->ctx->hv, s->domain, gfn, s->is_write, &frame));

    if (status)
        return status;
    if (s->is_write && ops->frame_get_writable &&
        ops->frame_get_writable(c->ctx->hv, s->domain, frame.mfn)) {
        ops->frame_put(c->ctx->hv, s->domain, frame.mfn);
        return GNTST_general_error;
    }
    s->owner = s->domain;
    s->mfn = frame.mfn;
    s->start = 0;
    s->end = FH_PAGE_BYTES;
    return GNTST_okay;
}

static int16_t
claim_ref(struct copy_call *c, struct copy_side *s, uint32_t ref)
{
    const int16_t status = fh_gnt_pin(c->ctx, s->domain, ref, c->caller,
                                      s->is_write, FH_GNT_USE_COPY, &s->entry);

    if (status)
        return status;
    s->owner = fh_gnt_frame_owner(s->entry);
    s->mfn = s->entry->mfn;
    s->start = s->entry->start;
    s->end = s->start + s->entry->length;
    return GNTST_okay;
}

/* The page of one side; on failure nothing of it is held. */
static int16_t
claim_page(struct copy_call *c, struct copy_side *s,
           const struct gnttab_copy_ptr *p, bool is_ref)
{
    int16_t status;

    s->is_ref = is_ref;
    s->id = is_ref ? p->u.ref : p->u.gmfn;
    status = is_ref ? claim_ref(c, s, p->u.ref) : claim_frame(c, s, p->u.gmfn);
    if (status)
        return status;
    s->claimed = true;
    s->bytes = c->ctx->ops->frame_map(c->ctx->hv, s->owner, s->mfn,
                                      s->is_write);
    if (s->bytes)
        return GNTST_okay;
    release_page(c, s);
    return GNTST_general_error;
}

static bool
side_is(const struct copy_side *s, const struct gnttab_copy_ptr *p, bool is_ref)
{
    return s->claimed && s->is_ref == is_ref &&
           s->id == (is_ref ? p->u.ref : p->u.gmfn);
}

/* ---------------------------------------------------------- one element -- */

static int16_t
claim_domains(struct copy_call *c, const struct gnttab_copy *op)
{
    const bool src_ref = op->flags & GNTCOPY_source_gref;
    const bool dst_ref = op->flags & GNTCOPY_dest_gref;
    int16_t status;

    if (c->src.domain && c->src.domid == op->source.domid && c->dst.domain &&
        c->dst.domid == op->dest.domid) {
        return is_foreign_frame(op->source.domid, src_ref) ||
                       is_foreign_frame(op->dest.domid, dst_ref)
                   ? GNTST_permission_denied
                   : GNTST_okay;
    }
    release_both(c);
    status = claim_domain(c, &c->src, op->source.domid, src_ref);
    if (status)
        return status;
    status = claim_domain(c, &c->dst, op->dest.domid, dst_ref);
    if (status)
        return status;
    if (!fh_gnt_may(c->ctx, c->src.domain, c->dst.domain, GNTTABOP_copy))
        return GNTST_permission_denied;
    return GNTST_okay;
}

static int16_t
claim_pages(struct copy_call *c, const struct gnttab_copy *op)
{
    const bool src_ref = op->flags & GNTCOPY_source_gref;
    const bool dst_ref = op->flags & GNTCOPY_dest_gref;
    int16_t status = GNTST_okay;

    if (!side_is(&c->src, &op->source, src_ref)) {
        release_page(c, &c->src);
        status = claim_page(c, &c->src, &op->source, src_ref);
    }
    if (!status && !side_is(&c->dst, &op->dest, dst_ref)) {
        release_page(c, &c->dst);
        status = claim_page(c, &c->dst, &op->dest, dst_ref);
    }
    return status;
}

static int16_t
copy_claimed(const struct copy_call *c, const struct gnttab_copy *op)
{
    const struct copy_side *src = &c->src, *dst = &c->dst;

    if (!fh_range_inside(op->source.offset, op->len, FH_PAGE_BYTES) ||
        !fh_range_inside(op->dest.offset, op->len, FH_PAGE_BYTES))
        return GNTST_bad_copy_arg;
    if (op->source.offset < src->start || op->dest.offset < dst->start ||
        op->source.offset + op->len > src->end ||
        op->dest.offset + op->len > dst->end)
        return GNTST_general_error;
    __builtin_memmove(dst->bytes + op->dest.offset,
                      src->bytes + op->source.offset, op->len);
    return GNTST_okay;
}

static int16_t
copy_element(struct copy_call *c, const struct gnttab_copy *op)
{
    int16_t status;

    if (!op->len)
        return GNTST_okay;
    status = claim_domains(c, op);
    if (!status)
        status = claim_pages(c, op);
    if (!status)
        status = copy_claimed(c, op);
    if (status)
        release_both(c);
    return status;
}

static void
call_end(struct copy_call *c, uint32_t elements, uint64_t copies)
{
    struct fh_gnt_stats *stats = fh_gnt_my_stats(c->ctx, c->caller);

    release_both(c);
    fh_gnt_count(&stats->elements, elements);
    fh_gnt_count(&stats->copies, copies);
}

long
fh_gnt_op_copy(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
               FH_SHARED struct gnttab_copy *ops, uint32_t count,
               uint32_t *done)
{
    struct copy_call c = { .ctx = ctx, .caller = caller,
                           .dst.is_write = true };
    uint64_t copies = 0;
    uint32_t i;

    for (i = 0; i < count; i++) {
        struct gnttab_copy op;

        if (i && fh_gnt_must_stop(ctx))
            break;
        fh_copy_in(&op, &ops[i], sizeof(op));
        op.status = copy_element(&c, &op);
        copies += !op.status;
        fh_store_relaxed16(&ops[i].status, (uint16_t)op.status);
    }
    call_end(&c, i, copies);
    *done = i;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}

int16_t
fh_gnt_copy_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                struct gnttab_copy *op)
{
    uint32_t done;

    (void)!fh_gnt_op_copy(ctx, caller, op, 1, &done);
    return op->status;
}
