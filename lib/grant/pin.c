/* SPDX-License-Identifier: MIT */
/*
 * Pinning and unpinning of entries: what has to happen beside the control word
 * when an entry gets its first pin or first writer, or loses its last.
 *
 * Invariants: the version of the table is looked at with BUSY held, and used
 * until BUSY is given back (version.h); the granter's entry is checked and
 * marked by v1.c or v2.c.  Pinned entries are served from the payload alone
 * (XSA-500).  An entry holds one reference on its frame, one writable reference
 * while it has writers, and one on its domain while it has any pin; a
 * transitive one holds pins of its inner entry instead of references on a frame
 * (transitive.c).  The granter's flags are cleared after the references are
 * gone and the caller has flushed (XSA-218, XSA-236).
 */
#include "grant/internal.h"

/* Whose doing: the wait count of a transition. */
static void
count_lost(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller, uint64_t lost)
{
    if (lost)
        fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->retries, lost);
}

int16_t
fh_gnt_frame_status(int verdict)
{
    if (!verdict)
        return GNTST_okay;
    if (verdict == FH_GNT_E_BAD_PAGE)
        return GNTST_bad_page;
    return verdict == FH_GNT_E_AGAIN ? GNTST_eagain : GNTST_general_error;
}

/* ---------------------------------------------------------------- pinning -- */

/* Checks and marks the granter's entry; BUSY is ours. */
static int16_t
mark(const struct fh_gnt_pin_req *q, const struct fh_gnt_entry *e,
     bool is_pinned, struct fh_gnt_claim *claim)
{
    const uint32_t version = fh_version_held(&e->granter->version);

    if (version & FH_VERSION_SWITCHING)
        return GNTST_eagain;
    if (!fh_gnt_ref_in(e->granter, e->ref, version))
        return GNTST_bad_gntref;
    return version == 1 ? fh_gnt_v1_mark(q, e, is_pinned, claim)
                        : fh_gnt_v2_mark(q, e, is_pinned, claim);
}

/* Takes the frame that the entry names, for a first pin; fills the payload. */
static int16_t
take_frame(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e,
           const struct fh_gnt_claim *claim)
{
    const struct fh_hv_ops *ops = q->ctx->ops;
    struct fh_gnt_frame frame = { 0 };
    const int16_t status = fh_gnt_frame_status(ops->frame_get(
        q->ctx->hv, e->granter, claim->gfn, q->is_write, &frame));

    if (status)
        return status;
    if (q->is_write && ops->frame_get_writable &&
        ops->frame_get_writable(q->ctx->hv, e->granter, frame.mfn)) {
        ops->frame_put(q->ctx->hv, e->granter, frame.mfn);
        return GNTST_general_error;
    }
    fh_store_relaxed64(&e->mfn, frame.mfn); /* fh_gnt_map_at() may look */
    e->start = claim->start;
    e->length = claim->length;
    return GNTST_okay;
}

/* Ends a first pin that came to @status, marked or not; BUSY is ours. */
static int16_t
first_end(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e,
          int16_t status, uint64_t kind)
{
    if (status) {
        fh_entry_settle_free(&e->word);
        return status;
    }
    q->ctx->ops->domain_hold(q->ctx->hv, e->granter);
    e->grantee_uid = q->grantee->uid;
    fh_entry_publish_first(&e->word, q->is_write, kind);
    return GNTST_okay;
}

/* The first pin of an entry that may not be transitive; BUSY is ours. */
static int16_t
first_plain(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e)
{
    struct fh_gnt_claim claim = { 0 };
    int16_t status = mark(q, e, false, &claim);

    if (!status) {
        status = take_frame(q, e, &claim);
        if (status)
            fh_gnt_unmark(e, fh_gnt_marks(q->is_write));
    }
    return first_end(q, e, status, claim.kind);
}

/* The first pin of any entry. */
static int16_t
first(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e)
{
    struct fh_gnt_claim claim = { 0 };
    int16_t status = mark(q, e, false, &claim);

    if (!status) {
        status = claim.kind == FH_ENTRY_TRANSITIVE
                     ? fh_gnt_inner_take(q, e, &claim)
                     : take_frame(q, e, &claim);
        if (status)
            fh_gnt_unmark(e, fh_gnt_marks(q->is_write));
    }
    return first_end(q, e, status, claim.kind);
}

static int16_t
get_writable(const struct fh_gnt_pin_req *q, const struct fh_gnt_entry *e)
{
    const struct fh_hv_ops *ops = q->ctx->ops;

    return ops->frame_get_writable &&
                   ops->frame_get_writable(q->ctx->hv, e->granter, e->mfn)
               ? GNTST_general_error
               : GNTST_okay;
}

/* The first writer of an entry that has readers; BUSY is ours.
 * @more: what else it takes, or NULL */
static int16_t
upgrade(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e,
        int16_t (*more)(const struct fh_gnt_pin_req *q,
                        const struct fh_gnt_entry *e))
{
    int16_t status = GNTST_general_error;

    if (e->grantee_uid == q->grantee->uid)
        status = mark(q, e, true, NULL);
    if (!status) {
        status = more(q, e);
        if (status)
            fh_gnt_unmark(e, GTF_writing);
    }
    if (status)
        fh_entry_settle_pinned(&e->word);
    else
        fh_entry_publish_writer(&e->word);
    return status;
}

/* A counted pin is his, or another domain's that was called as he is. */
static int16_t
plain_whose(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e)
{
    if (e->grantee_uid == q->grantee->uid)
        return GNTST_okay;
    fh_gnt_unpin_plain(q->ctx, q->caller, e, q->is_write);
    return GNTST_general_error;
}

int16_t
fh_gnt_pin_plain(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e)
{
    uint64_t lost = 0;
    const enum fh_entry_step step =
        fh_entry_pin_once(&e->word, q->grantee->domid, q->is_write,
                          fh_gnt_forbidden(q->use), &lost);

    count_lost(q->ctx, q->caller, lost);
    switch (step) {
    case FH_ENTRY_DONE:
        return plain_whose(q, e);
    case FH_ENTRY_BEGIN:
        return first_plain(q, e);
    case FH_ENTRY_UPGRADE:
        return upgrade(q, e, get_writable);
    case FH_ENTRY_WAIT:
        return FH_GNT_PIN_BUSY;
    case FH_ENTRY_REFUSED:
    case FH_ENTRY_LAST_WRITER:
    case FH_ENTRY_LAST:
        break;
    }
    return GNTST_general_error;
}

/* Why the control word said no: outside the table comes first. */
static int16_t
refused(const struct fh_gnt_entry *e)
{
    return fh_gnt_ref_in(e->granter, e->ref,
                         fh_version_kept(&e->granter->version))
               ? GNTST_general_error
               : GNTST_bad_gntref;
}

static int16_t
pin_after(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e,
          enum fh_entry_step step)
{
    switch (step) {
    case FH_ENTRY_BEGIN:
        fh_gnt_count(&fh_gnt_my_stats(q->ctx, q->caller)->map_slow, 1);
        return first(q, e);
    case FH_ENTRY_UPGRADE:
        fh_gnt_count(&fh_gnt_my_stats(q->ctx, q->caller)->map_slow, 1);
        return upgrade(q, e,
                       fh_load_relaxed64(&e->word) & FH_ENTRY_TRANSITIVE
                           ? fh_gnt_inner_take_writer
                           : get_writable);
    case FH_ENTRY_DONE:
        return fh_gnt_pin_whose(q->ctx, e, q->caller, q->is_write);
    case FH_ENTRY_REFUSED:
        return refused(e);
    case FH_ENTRY_WAIT:
    case FH_ENTRY_LAST_WRITER:
    case FH_ENTRY_LAST:
        break;
    }
    return GNTST_general_error;
}

int16_t
fh_gnt_pin_slowly(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e,
                  struct fh_gnt_domain *caller, bool is_write,
                  enum fh_gnt_use use)
{
    const struct fh_gnt_pin_req q = { .ctx = ctx, .caller = caller,
                                      .grantee = caller, .is_write = is_write,
                                      .use = use };

    for (int i = 0; i < FH_GNT_BUSY_TRIES; i++) {
        uint64_t lost = 0;
        const enum fh_entry_step step =
            fh_entry_pin(&e->word, caller->domid, is_write,
                         fh_gnt_forbidden(use), &lost);
        const int16_t status = pin_after(&q, e, step);

        /* DONE: the fast path's swap lost, or it saw another state */
        if (status == FH_GNT_PIN_BUSY || step == FH_ENTRY_DONE)
            lost++;
        count_lost(ctx, caller, lost);
        if (status != FH_GNT_PIN_BUSY)
            return status;
        fh_cpu_relax();
    }
    return GNTST_eagain;
}

/* -------------------------------------------------------------- unpinning -- */

static void
put_writable(struct fh_gnt_ctx *ctx, const struct fh_gnt_entry *e)
{
    if (ctx->ops->frame_put_writable)
        ctx->ops->frame_put_writable(ctx->hv, e->granter, e->mfn);
}

/* The last pin went; BUSY is ours. */
static void
unpin_last(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e, bool is_write,
           bool is_plain)
{
    const struct fh_hv_ops *ops = ctx->ops;
    struct fh_gnt_domain *granter = e->granter;
    const uint32_t ref = e->ref;
    const bool notify = fh_load_relaxed64(&e->word) & FH_ENTRY_NOTIFY;

    if (is_plain && is_write)
        put_writable(ctx, e);
    if (is_plain)
        ops->frame_put(ctx->hv, granter, e->mfn);
    fh_gnt_unmark(e, fh_gnt_marks(is_write));
    fh_entry_settle_free(&e->word);
    if (notify && ops->domain_kick)
        ops->domain_kick(ctx->hv, granter, ref);
    ops->domain_put(ctx->hv, granter); /* the entry may be gone from here on */
}

/* The last writer went, readers are left; BUSY is ours. */
static void
unpin_last_writer(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e, bool is_plain)
{
    if (is_plain)
        put_writable(ctx, e);
    fh_gnt_unmark(e, GTF_writing);
    fh_entry_settle_pinned(&e->word);
}

/* Returns the inner entry of a transitive one that lost its last pin or writer
 * (*@step says which), and with it the inner pins to give back; or NULL. */
static struct fh_gnt_entry *
unpin(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
      struct fh_gnt_entry *e, bool is_write, enum fh_entry_step *step)
{
    struct fh_gnt_entry *inner = NULL;
    uint64_t lost = 0;

    *step = fh_entry_unpin(&e->word, is_write, &lost);
    /* the fast path did not do it: its swap lost, or the state has changed */
    count_lost(ctx, caller, lost + (*step == FH_ENTRY_DONE));
    if (*step == FH_ENTRY_DONE)
        return NULL;
    if (fh_load_relaxed64(&e->word) & FH_ENTRY_TRANSITIVE)
        inner = e->inner;
    if (*step == FH_ENTRY_LAST)
        unpin_last(ctx, e, is_write, !inner);
    else
        unpin_last_writer(ctx, e, !inner);
    return inner;
}

void
fh_gnt_unpin_plain(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                   struct fh_gnt_entry *e, bool is_write)
{
    enum fh_entry_step step;

    if (!fh_entry_try_unpin(&e->word, is_write))
        (void)unpin(ctx, caller, e, is_write, &step);
}

/* Waits for the inner entry with nothing held. */
void
fh_gnt_unpin_slowly(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                    struct fh_gnt_entry *e, bool is_write)
{
    enum fh_entry_step step;
    struct fh_gnt_entry *inner = unpin(ctx, caller, e, is_write, &step);

    if (inner && is_write)
        fh_gnt_unpin_plain(ctx, caller, inner, true);
    if (inner && step == FH_ENTRY_LAST)
        fh_gnt_unpin_plain(ctx, caller, inner, false);
}
