/* SPDX-License-Identifier: MIT */
/*
 * What a guest asks about tables, its own or, if the embedder allows it,
 * another domain's: setup_table, which also grows them, query_size,
 * get_status_frames, get_version.
 *
 * Invariants: frames are counted before their numbers are told, and told only
 * when all of them are there (XSA-26); the lists have one length, checked in
 * frames (XSA-382); nothing is locked, as tables only grow.
 */
#include "grant/internal.h"

/* Frame numbers that are written to the guest at once. */
#define LIST_CHUNK 32u

/* The domain that an element names, with a reference if it is not the caller,
 * or NULL. */
static struct fh_gnt_domain *
peer_get(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller, uint16_t domid)
{
    if (domid == DOMID_SELF)
        return caller;
    if (domid >= DOMID_FIRST_RESERVED)
        return NULL;
    return ctx->ops->domain_get(ctx->hv, domid);
}

static void
peer_put(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d, uint16_t domid)
{
    if (domid != DOMID_SELF)
        ctx->ops->domain_put(ctx->hv, d);
}

/* A list of the guest's that takes frame numbers. */
struct list {
    struct fh_gnt_ctx *ctx;
    struct fh_gnt_domain *caller;
    uint64_t guest_addr;
    uint32_t number_bytes; /* 4 for a list of a 32-bit caller's */
};

/* Writes entries [@at, @at + @n) of @list, at most LIST_CHUNK. */
static int16_t
list_write(const struct list *list, uint32_t at, const uint64_t *gfns,
           uint32_t n)
{
    const struct fh_hv_ops *ops = list->ctx->ops;
    uint32_t narrow[LIST_CHUNK];
    const void *src = gfns;

    for (uint32_t i = 0; list->number_bytes == 4 && i < n; i++) {
        if (gfns[i] > UINT32_MAX)
            return GNTST_address_too_big;
        narrow[i] = (uint32_t)gfns[i];
        src = narrow;
    }
    if (!ops->guest_write ||
        ops->guest_write(list->ctx->hv, list->caller,
                         list->guest_addr + (uint64_t)at * list->number_bytes,
                         src, (size_t)n * list->number_bytes))
        return GNTST_bad_virt_addr;
    return GNTST_okay;
}

static int16_t
list_frames(const struct list *list, const struct fh_gnt_domain *d,
            bool is_status, uint32_t n)
{
    uint64_t gfns[LIST_CHUNK];
    int16_t status = GNTST_okay;

    for (uint32_t at = 0; at < n && !status; at += LIST_CHUNK) {
        const uint32_t left = n - at;
        const uint32_t some = left < LIST_CHUNK ? left : LIST_CHUNK;

        for (uint32_t i = 0; i < some; i++)
            gfns[i] = is_status ? d->status[at + i].gfn
                                : d->frames[at + i].gfn;
        status = list_write(list, at, gfns, some);
    }
    return status;
}

/* ----------------------------------------------------------- setup_table -- */

static bool
is_long_enough(const struct fh_gnt_domain *d, uint32_t n_frames)
{
    const uint32_t n = fh_table_count(&d->n_frames);

    /* not only version 2: also a table that is on its way to it */
    if (fh_load_acquire32(&d->version) != 1 &&
        fh_table_count(&d->n_status) < fh_gnt_status_needed(n))
        return false;
    return n >= n_frames;
}

/* Makes the table at least @n_frames long. */
static int16_t
grow(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d, uint32_t n_frames)
{
    const uint32_t now = fh_table_count(&d->n_frames);
    const uint32_t want = n_frames > now ? n_frames : now;
    const uint32_t n_status = fh_load_acquire32(&d->version) == 1
                                  ? 0
                                  : fh_gnt_status_needed(want);

    if (is_long_enough(d, n_frames))
        return GNTST_okay;
    if (!ctx->ops->table_grow ||
        ctx->ops->table_grow(ctx->hv, d, want, n_status))
        return GNTST_general_error;
    return is_long_enough(d, n_frames) ? GNTST_okay : GNTST_general_error;
}

static int16_t
setup_table(const struct list *list, struct fh_gnt_domain *d, uint32_t n_frames)
{
    int16_t status;

    if (!fh_gnt_may(list->ctx, list->caller, d, GNTTABOP_setup_table))
        return GNTST_permission_denied;
    if (n_frames > d->max_frames)
        return GNTST_general_error;
    status = grow(list->ctx, d, n_frames);
    return status ? status : list_frames(list, d, false, n_frames);
}

int16_t
fh_gnt_setup_table_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                       const struct gnttab_setup_table *op,
                       uint32_t number_bytes)
{
    const struct list list = {
        .ctx = ctx, .caller = caller,
        .guest_addr = (uintptr_t)op->frame_list.p,
        .number_bytes = number_bytes,
    };
    struct fh_gnt_domain *d = peer_get(ctx, caller, op->dom);
    int16_t status;

    if (!d)
        return GNTST_bad_domain;
    status = setup_table(&list, d, op->nr_frames);
    peer_put(ctx, d, op->dom);
    return status;
}

long
fh_gnt_op_setup_table(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct gnttab_setup_table *ops, uint32_t count,
                      uint32_t *done)
{
    struct gnttab_setup_table op;

    *done = 0;
    if (count != 1)
        return FH_EINVAL;
    fh_copy_in(&op, ops, sizeof(op));
    op.status = fh_gnt_setup_table_one(ctx, caller, &op, sizeof(uint64_t));
    fh_store_relaxed16(&ops->status, (uint16_t)op.status);
    *done = 1;
    return 0;
}

/* ----------------------------------------------------- get_status_frames -- */

int16_t
fh_gnt_status_frames_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                         const struct gnttab_get_status_frames *op)
{
    const struct list list = {
        .ctx = ctx, .caller = caller,
        .guest_addr = (uintptr_t)op->frame_list.p,
        .number_bytes = sizeof(uint64_t), /* for 32-bit callers as well */
    };
    struct fh_gnt_domain *d = peer_get(ctx, caller, op->dom);
    int16_t status = GNTST_general_error;

    if (!d)
        return GNTST_bad_domain;
    if (!fh_gnt_may(ctx, caller, d, GNTTABOP_get_status_frames))
        status = GNTST_permission_denied;
    else if (op->nr_frames <= fh_gnt_status_frames(d))
        status = list_frames(&list, d, true, op->nr_frames);
    peer_put(ctx, d, op->dom);
    return status;
}

long
fh_gnt_op_get_status_frames(struct fh_gnt_ctx *ctx,
                            struct fh_gnt_domain *caller,
                            FH_SHARED struct gnttab_get_status_frames *ops,
                            uint32_t count, uint32_t *done)
{
    struct gnttab_get_status_frames op;

    *done = 0;
    if (count != 1)
        return FH_EINVAL;
    fh_copy_in(&op, ops, sizeof(op));
    op.status = fh_gnt_status_frames_one(ctx, caller, &op);
    fh_store_relaxed16(&ops->status, (uint16_t)op.status);
    *done = 1;
    return 0;
}

/* ------------------------------------------------------------- questions -- */

/* Fills @op's results. */
static int16_t
query_size(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
           struct gnttab_query_size *op)
{
    struct fh_gnt_domain *d = peer_get(ctx, caller, op->dom);
    int16_t status = GNTST_permission_denied;

    if (!d)
        return GNTST_bad_domain;
    if (fh_gnt_may(ctx, caller, d, GNTTABOP_query_size)) {
        op->nr_frames = fh_table_count(&d->n_frames);
        op->max_nr_frames = d->max_frames;
        status = GNTST_okay;
    }
    peer_put(ctx, d, op->dom);
    return status;
}

long
fh_gnt_op_query_size(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                     FH_SHARED struct gnttab_query_size *ops, uint32_t count,
                     uint32_t *done)
{
    struct gnttab_query_size op;

    *done = 0;
    if (count != 1)
        return FH_EINVAL;
    fh_copy_in(&op, ops, sizeof(op));
    op.status = query_size(ctx, caller, &op);
    if (!op.status) {
        fh_store_relaxed32(&ops->nr_frames, op.nr_frames);
        fh_store_relaxed32(&ops->max_nr_frames, op.max_nr_frames);
    }
    fh_store_relaxed16(&ops->status, (uint16_t)op.status);
    *done = 1;
    return 0;
}

long
fh_gnt_op_get_version(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct gnttab_get_version *ops, uint32_t count,
                      uint32_t *done)
{
    const uint16_t domid = fh_load_relaxed16(&ops->dom);
    struct fh_gnt_domain *d = peer_get(ctx, caller, domid);
    int r = FH_EPERM;

    *done = 1;
    if (!d)
        return FH_ESRCH;
    if (fh_gnt_may(ctx, caller, d, GNTTABOP_get_version)) {
        fh_store_relaxed32(&ops->version, fh_gnt_version(d));
        r = 0;
    }
    peer_put(ctx, d, domid);
    return r;
}
