/* SPDX-License-Identifier: MIT */
/*
 * Pinning and unpinning of entries: what has to happen beside the control word
 * when an entry gets its first pin or first writer, or loses its last.
 *
 * Invariants: the granter's entry is read once per transition, checked, and
 * marked by one compare-and-swap of the same word that was checked; the frame
 * number is read once after that.  Pinned entries are served from the payload
 * alone (XSA-500).  An entry holds one reference on its frame, one writable
 * reference while it has writers, and one on its domain while it has any pin.
 * The granter's flags are cleared after the references are gone and the caller
 * has flushed (XSA-218, XSA-236).
 */
#include "grant/internal.h"

/* Whose doing: the wait count of a transition. */
static void
count_lost(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller, uint64_t lost)
{
    if (lost)
        fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->retries, lost);
}

static FH_SHARED grant_entry_v1_t *
shared_of(const struct fh_gnt_entry *e)
{
    return &e->granter->frames[e->ref / FH_GNT_V1_PER_FRAME]
                .shared[e->ref % FH_GNT_V1_PER_FRAME];
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

/*
 * Checks the granter's word and marks it as in use, in one step.  While the
 * entry is pinned only its readonly bit matters: type and grantee are those of
 * the moment it was pinned.
 */
static int16_t
shared_mark(FH_SHARED grant_entry_v1_t *shared, uint16_t grantee, bool is_write,
            enum fh_gnt_use use, bool is_pinned)
{
    const uint32_t mask =
        GTF_type_mask | (use == FH_GNT_USE_MAP ? GTF_sub_page : 0);
    uint32_t word = fh_load_relaxed32(shared);

    for (int i = 0; i < FH_GNT_SHARED_TRIES; i++) {
        uint32_t marked = word | GTF_reading;

        if (!is_pinned &&
            ((word & mask) != GTF_permit_access || word >> 16 != grantee))
            return GNTST_general_error;
        if (is_write && (word & GTF_readonly))
            return GNTST_general_error;
        if (is_write)
            marked |= GTF_writing;
        /* G1, pairs with the granter's release of flags: domid and frame are
         * those that the flags belong to.  (No model: the two sides access one
         * word in different widths, which C++11 does not know.) */
        if (fh_cas32(shared, &word, marked))
            return GNTST_okay;
    }
    return GNTST_general_error;
}

/* Withdraws our marks.  16 bits only: the rest is the granter's. */
static void
shared_clear(FH_SHARED grant_entry_v1_t *shared, uint32_t marks)
{
    fh_fetch_and16(&shared->flags, (uint16_t)~marks);
}

/* The marks of the only pin.  A writing mark that is not ours stays: who writes
 * it himself has it for himself, as on Xen. */
static uint32_t
marks_of(bool is_write)
{
    return is_write ? GTF_reading | GTF_writing : GTF_reading;
}

/* Takes the frame that the entry names, for a first pin. */
static int16_t
take_frame(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *granter, uint64_t gfn,
           bool is_write, struct fh_gnt_frame *frame)
{
    const struct fh_hv_ops *ops = ctx->ops;
    const int16_t status = fh_gnt_frame_status(
        ops->frame_get(ctx->hv, granter, gfn, is_write, frame));

    if (status)
        return status;
    if (is_write && ops->frame_get_writable &&
        ops->frame_get_writable(ctx->hv, granter, frame->mfn)) {
        ops->frame_put(ctx->hv, granter, frame->mfn);
        return GNTST_general_error;
    }
    return GNTST_okay;
}

static void
put_writable(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e)
{
    if (ctx->ops->frame_put_writable)
        ctx->ops->frame_put_writable(ctx->hv, e->granter, e->mfn);
}

/* The first pin; BUSY is ours. */
static int16_t
pin_first(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e,
          struct fh_gnt_domain *caller, bool is_write, enum fh_gnt_use use)
{
    FH_SHARED grant_entry_v1_t *shared = shared_of(e);
    struct fh_gnt_domain *granter = e->granter;
    struct fh_gnt_frame frame = { 0 };
    int16_t status;

    status = shared_mark(shared, caller->domid, is_write, use, false);
    if (status)
        goto fail;
    status = take_frame(ctx, granter, fh_load_relaxed32(&shared->frame),
                        is_write, &frame);
    if (status) {
        shared_clear(shared, marks_of(is_write));
        goto fail;
    }
    ctx->ops->domain_hold(ctx->hv, granter);
    e->mfn = frame.mfn;
    e->grantee_uid = caller->uid;
    e->start = 0;
    e->length = FH_PAGE_BYTES;
    fh_entry_publish_first(&e->word, is_write, 0);
    return GNTST_okay;

fail:
    fh_entry_settle_free(&e->word);
    return status;
}

/* The first writer of an entry that has readers; BUSY is ours. */
static int16_t
pin_upgrade(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e,
            struct fh_gnt_domain *caller, enum fh_gnt_use use)
{
    const struct fh_hv_ops *ops = ctx->ops;
    FH_SHARED grant_entry_v1_t *shared = shared_of(e);

    if (e->grantee_uid != caller->uid ||
        shared_mark(shared, caller->domid, true, use, true))
        goto fail;
    if (ops->frame_get_writable &&
        ops->frame_get_writable(ctx->hv, e->granter, e->mfn)) {
        shared_clear(shared, GTF_writing);
        goto fail;
    }
    fh_entry_publish_writer(&e->word);
    return GNTST_okay;

fail:
    fh_entry_settle_pinned(&e->word);
    return GNTST_general_error;
}

static int16_t
pin_after(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e,
          struct fh_gnt_domain *caller, bool is_write, enum fh_gnt_use use,
          enum fh_entry_step step)
{
    switch (step) {
    case FH_ENTRY_BEGIN:
        fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->map_slow, 1);
        return pin_first(ctx, e, caller, is_write, use);
    case FH_ENTRY_UPGRADE:
        fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->map_slow, 1);
        return pin_upgrade(ctx, e, caller, use);
    case FH_ENTRY_DONE:
        return fh_gnt_pin_whose(ctx, e, caller, is_write);
    case FH_ENTRY_REFUSED:
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
    uint64_t lost = 0;
    const enum fh_entry_step step = fh_entry_pin(
        &e->word, caller->domid, is_write, fh_gnt_forbidden(use), &lost);

    count_lost(ctx, caller, lost);
    return pin_after(ctx, e, caller, is_write, use, step);
}

/* The last pin went; BUSY is ours. */
static void
unpin_last(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e, bool is_write)
{
    const struct fh_hv_ops *ops = ctx->ops;
    struct fh_gnt_domain *granter = e->granter;
    const uint32_t ref = e->ref;
    const bool notify = fh_load_relaxed64(&e->word) & FH_ENTRY_NOTIFY;

    if (is_write)
        put_writable(ctx, e);
    ops->frame_put(ctx->hv, granter, e->mfn);
    shared_clear(shared_of(e), marks_of(is_write));
    fh_entry_settle_free(&e->word);
    if (notify && ops->domain_kick)
        ops->domain_kick(ctx->hv, granter, ref);
    ops->domain_put(ctx->hv, granter); /* the entry may be gone from here on */
}

void
fh_gnt_unpin_slowly(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                    struct fh_gnt_entry *e, bool is_write)
{
    uint64_t lost = 0;
    const enum fh_entry_step step = fh_entry_unpin(&e->word, is_write, &lost);

    count_lost(ctx, caller, lost);
    if (step == FH_ENTRY_LAST) {
        unpin_last(ctx, e, is_write);
    } else if (step == FH_ENTRY_LAST_WRITER) {
        put_writable(ctx, e);
        shared_clear(shared_of(e), GTF_writing);
        fh_entry_settle_pinned(&e->word);
    }
}
