/* SPDX-License-Identifier: MIT */
/*
 * set_version: makes the table of the other version of the same frames.
 *
 * In steps, each bounded, with a preemption check between them; how far it is
 * stays in the domain, so that any CPU may go on:
 *
 *   scan     no entry is pinned, but for the reserved ones
 *   prepare  what may still refuse: reserved entries that version 1 cannot say,
 *            status frames that cannot be had
 *   clean    all shared frames but the reserved entries, and all status words
 *   commit   the reserved entries, pinned or not, under their BUSY
 *
 * Invariants: nothing is changed before prepare is through; from then on only
 * commit refuses, if the granter rewrote a reserved entry meanwhile.  No lock
 * is held and nobody waits: who would begin to use the granter's entry while
 * SWITCHING is set gets GNTST_eagain (version.h says why that is safe).  Frames
 * are never freed, status frames neither: a table in version 1 keeps them for
 * the next time (XSA-255, XSA-379, XSA-384, XSA-486).  Whether a reserved entry
 * is in use is said by its control word, never by what the guest can write.
 */
#include "grant/internal.h"

/* Entries between two preemption checks: a cache line each. */
#define SCAN_CHUNK 128u

enum phase { PHASE_SCAN, PHASE_PREPARE, PHASE_CLEAN, PHASE_COMMIT };

/* Answers of a step besides negative errors. */
enum { STEP_MORE, STEP_DONE, STEP_WAIT };

/* The reserved entries in private memory. */
struct reserved {
    uint32_t n; /* none in a table without frames */
    struct fh_gnt_entry *active[FH_GNT_N_RESERVED];
    enum fh_entry_look looks[FH_GNT_N_RESERVED];
    uint32_t header[FH_GNT_N_RESERVED];
    uint64_t frame[FH_GNT_N_RESERVED];
    uint16_t marks[FH_GNT_N_RESERVED];
};

static void
next_phase(struct fh_gnt_domain *d, enum phase phase)
{
    d->switch_phase = phase;
    d->switch_cursor = 0;
}

/* ------------------------------------------------------------------ scan -- */

static enum fh_entry_look
look_a_while(const struct fh_gnt_entry *e)
{
    enum fh_entry_look look = fh_version_look(&e->word);

    for (int i = 0; look == FH_ENTRY_IS_BUSY && i < FH_GNT_BUSY_TRIES; i++) {
        fh_cpu_relax();
        look = fh_version_look(&e->word);
    }
    return look;
}

/* FH_EBUSY if an entry of [@from, @to) that exists is pinned, FH_EAGAIN if one
 * keeps moving; else 0. */
static int
scan(const struct fh_gnt_domain *d, uint32_t from, uint32_t to)
{
    for (uint32_t ref = from; ref < to; ref++) {
        const struct fh_gnt_entry *e = fh_gnt_entry_at(d, ref);
        const enum fh_entry_look look =
            e ? look_a_while(e) : FH_ENTRY_IS_FREE;

        if (look == FH_ENTRY_IS_PINNED)
            return FH_EBUSY;
        if (look == FH_ENTRY_IS_BUSY)
            return FH_EAGAIN;
    }
    return 0;
}

static int
step_scan(struct fh_gnt_domain *d)
{
    /* Ordered after SWITCHING, see T2. */
    const uint32_t end =
        fh_load_ordered32(&d->n_frames) * FH_GNT_V1_PER_FRAME;
    const uint32_t from = d->switch_cursor, to = from + SCAN_CHUNK;
    const int r = scan(d, from < FH_GNT_N_RESERVED ? FH_GNT_N_RESERVED : from,
                       to < end ? to : end);

    if (r)
        return r;
    d->switch_cursor = to;
    if (to >= end)
        next_phase(d, PHASE_PREPARE);
    return STEP_MORE;
}

/* --------------------------------------------------------------- prepare -- */

static void
reserved_find(const struct fh_gnt_domain *d, struct reserved *r)
{
    r->n = fh_table_count(&d->n_frames) ? FH_GNT_N_RESERVED : 0;
    for (uint32_t i = 0; i < r->n; i++)
        r->active[i] = fh_gnt_entry_at(d, i);
}

/* Reads what the granter wrote in @version, each word once. */
static void
reserved_read(const struct fh_gnt_domain *d, uint32_t version,
              struct reserved *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        if (version == 1) {
            r->header[i] = fh_load_relaxed32(fh_gnt_v1_at(d, i));
            r->frame[i] = fh_load_relaxed32(&fh_gnt_v1_at(d, i)->frame);
        } else {
            r->header[i] = fh_load_relaxed32(fh_gnt_v2_at(d, i));
            r->frame[i] =
                fh_load_relaxed64(&fh_gnt_v2_at(d, i)->full_page.frame);
        }
    }
}

/* True if version 1 has words for them. */
static bool
reserved_representable(const struct reserved *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const uint32_t type = r->header[i] & GTF_type_mask;

        if (type == GTF_transitive)
            return false;
        if (type == GTF_permit_access && (r->header[i] & GTF_sub_page))
            return false;
        if (type != GTF_invalid && r->frame[i] > UINT32_MAX)
            return false;
    }
    return true;
}

static bool
has_status_frames(const struct fh_gnt_domain *d)
{
    return fh_table_count(&d->n_status) >=
           fh_gnt_status_needed(fh_table_count(&d->n_frames));
}

static int
prepare_v1(const struct fh_gnt_domain *d)
{
    struct reserved r = { 0 };

    reserved_find(d, &r);
    reserved_read(d, 2, &r);
    return reserved_representable(&r) ? 0 : FH_ERANGE;
}

static int
prepare_v2(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d)
{
    const uint32_t n = fh_table_count(&d->n_frames);

    if (!has_status_frames(d) &&
        (!ctx->ops->table_grow ||
         ctx->ops->table_grow(ctx->hv, d, n, fh_gnt_status_needed(n)) ||
         !has_status_frames(d)))
        return FH_ENOMEM;
    return 0;
}

static int
step_prepare(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d, uint32_t target)
{
    const int r = target == 1 ? prepare_v1(d) : prepare_v2(ctx, d);

    if (r)
        return r;
    next_phase(d, PHASE_CLEAN);
    return STEP_MORE;
}

/* ----------------------------------------------------------------- clean -- */

/* Bytes of the reserved entries in the first frame. */
static uint32_t
reserved_bytes(uint32_t version)
{
    return FH_GNT_N_RESERVED * (version == 1 ? sizeof(grant_entry_v1_t)
                                             : sizeof(grant_entry_v2_t));
}

/* One frame, then the status frames, one a step.  Those of a table that is
 * still version 2 say who uses the reserved entries. */
static int
step_clean(struct fh_gnt_domain *d, uint32_t target)
{
    const uint32_t n_frames = fh_table_count(&d->n_frames);
    const uint32_t i = d->switch_cursor++;
    const uint32_t skip =
        i ? 0 : reserved_bytes(fh_version_kept(&d->version));

    if (i < n_frames)
        fh_zero_out((FH_SHARED uint8_t *)d->frames[i].shared + skip,
                    FH_PAGE_BYTES - skip);
    else if (target == 2 && i - n_frames < fh_table_count(&d->n_status))
        fh_zero_out(d->status[i - n_frames].shared, FH_PAGE_BYTES);
    else
        next_phase(d, PHASE_COMMIT);
    return STEP_MORE;
}

/* ---------------------------------------------------------------- commit -- */

static bool
take_busy(struct reserved *r, uint32_t i)
{
    for (int tries = 0; tries < FH_GNT_BUSY_TRIES; tries++) {
        r->looks[i] = fh_entry_try_busy(&r->active[i]->word);
        if (r->looks[i] != FH_ENTRY_IS_BUSY)
            return true;
        fh_cpu_relax();
    }
    return false;
}

static void
give_busy(const struct reserved *r, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        fh_entry_end_busy(&r->active[i]->word, r->looks[i]);
}

/* Moves to reading and writing what the control words say, BUSY held. */
static void
reserved_mark(struct reserved *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const uint64_t word = fh_load_relaxed64(&r->active[i]->word);

        r->header[i] &= ~(uint32_t)(GTF_reading | GTF_writing);
        r->marks[i] = word & FH_ENTRY_PINS
                          ? fh_gnt_marks(word & FH_ENTRY_WRITERS)
                          : 0;
    }
}

static void
write_v1(const struct fh_gnt_domain *d, const struct reserved *r)
{
    grant_entry_v1_t out[2 * FH_GNT_N_RESERVED] = { 0 }; /* v2's place */

    for (uint32_t i = 0; i < r->n; i++)
        out[i] = (grant_entry_v1_t){
            .flags = (uint16_t)(r->header[i] | r->marks[i]),
            .domid = (uint16_t)(r->header[i] >> 16),
            .frame = (uint32_t)r->frame[i],
        };
    fh_copy_out(d->frames[0].shared, out, sizeof(out));
}

static void
write_v2(const struct fh_gnt_domain *d, const struct reserved *r)
{
    grant_entry_v2_t out[FH_GNT_N_RESERVED] = { 0 };

    for (uint32_t i = 0; i < r->n; i++)
        out[i].full_page = (typeof(out[i].full_page)){
            .hdr.flags = (uint16_t)r->header[i],
            .hdr.domid = (uint16_t)(r->header[i] >> 16),
            .frame = r->frame[i],
        };
    fh_copy_out(d->frames[0].shared, out, sizeof(out));
    fh_copy_out(d->status[0].shared, r->marks, sizeof(r->marks));
}

/* All reserved entries are ours. */
static int
commit_held(struct fh_gnt_domain *d, struct reserved *r, uint32_t target)
{
    reserved_read(d, fh_version_kept(&d->version), r);
    if (target == 1 && !reserved_representable(r))
        return FH_ERANGE;
    reserved_mark(r);
    if (r->n && target == 1)
        write_v1(d, r);
    else if (r->n)
        write_v2(d, r);
    fh_version_end(&d->version, target);
    return STEP_DONE;
}

static int
step_commit(struct fh_gnt_domain *d, uint32_t target)
{
    struct reserved r = { 0 };
    uint32_t n;
    int status = STEP_WAIT;

    if (target == 2 && !has_status_frames(d)) { /* it grew meanwhile */
        next_phase(d, PHASE_PREPARE);
        return STEP_MORE;
    }
    reserved_find(d, &r);
    for (n = 0; n < r.n && take_busy(&r, n); n++)
        ;
    if (n == r.n)
        status = commit_held(d, &r, target);
    give_busy(&r, n);
    return status;
}

/* ---------------------------------------------------------------- driver -- */

static int
step(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d, uint32_t target)
{
    switch ((enum phase)d->switch_phase) {
    case PHASE_SCAN:
        return step_scan(d);
    case PHASE_PREPARE:
        return step_prepare(ctx, d, target);
    case PHASE_CLEAN:
        return step_clean(d, target);
    case PHASE_COMMIT:
        return step_commit(d, target);
    }
    return FH_EINVAL;
}

/* Goes on with a switch that is ours now. */
static long
run(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d, uint32_t target)
{
    for (;;) {
        const int r = step(ctx, d, target);

        if (r == STEP_DONE)
            return 0;
        if (r < 0) {
            fh_version_end(&d->version, fh_version_kept(&d->version));
            return r;
        }
        if (r == STEP_WAIT || fh_gnt_must_stop(ctx)) {
            fh_version_pause(&d->version);
            return FH_GNT_E_PREEMPTED;
        }
    }
}

/* A table that nobody is switching. */
static long
begin(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d, uint32_t old,
      uint32_t target)
{
    int r;

    if (old == target)
        return 0;
    /* Most tables that are in use say so here, and nobody is disturbed. */
    r = scan(d, FH_GNT_N_RESERVED, SCAN_CHUNK);
    if (r)
        return r;
    if (!fh_version_begin(&d->version, old, target))
        return FH_EAGAIN;
    next_phase(d, PHASE_SCAN);
    return run(ctx, d, target);
}

static long
set_version(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d, uint32_t target)
{
    const uint32_t old = fh_load_relaxed32(&d->version); /* V2, V6 */

    if (target != 1 && target != 2)
        return FH_EINVAL;
    if (target == 2 && (d->flags & FH_GNT_DOM_V1_ONLY))
        return FH_ENOSYS;
    if (!(old & FH_VERSION_SWITCHING))
        return begin(ctx, d, old, target);
    if ((old & FH_VERSION_ACTIVE) || fh_version_target(old) != target ||
        !fh_version_resume(&d->version, old))
        return FH_EAGAIN;
    return run(ctx, d, target);
}

long
fh_gnt_op_set_version(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct gnttab_set_version *ops, uint32_t count,
                      uint32_t *done)
{
    const long r = set_version(ctx, caller, fh_load_relaxed32(&ops->version));

    *done = r != FH_GNT_E_PREEMPTED;
    if (*done)
        fh_store_relaxed32(&ops->version, fh_gnt_version(caller));
    return r;
}
