/* SPDX-License-Identifier: MIT */
/*
 * What a granter may ask for while its pages are in use, and what an embedder
 * may ask about the use of a table.  Xen has neither.
 *
 * Invariant: the flags change in the same word as the pins, so whoever asks to
 * be told of the last unpin knows whether one is still to come.
 */
#include <freehold/grant_ext.h>

#include "grant/internal.h"

/* Replaces the granter's flags of @e; the word as it was. */
static uint64_t
entry_set(struct fh_gnt_entry *e, unsigned flags)
{
    const uint64_t kept = (flags & FH_GNT_ENTRY_CLOSED ? FH_ENTRY_CLOSED : 0) |
                          (flags & FH_GNT_ENTRY_NOTIFY ? FH_ENTRY_NOTIFY : 0);
    uint64_t old = fh_load_relaxed64(&e->word);

    for (;;) {
        if (old & FH_ENTRY_BUSY) { /* rule 3 of entry.h */
            fh_cpu_relax();
            old = fh_load_relaxed64(&e->word);
        } else if (fh_cas64(&e->word, &old, (old & ~FH_ENTRY_KEPT) | kept)) {
            return old;
        }
    }
}

int
fh_gnt_entry_set(struct fh_gnt_domain *granter, uint32_t ref, unsigned flags)
{
    struct fh_gnt_entry *e = fh_gnt_entry_at(granter, ref);

    if (!e)
        return FH_ERANGE;
    (void)entry_set(e, flags);
    return 0;
}

static int16_t
flags_element(struct fh_gnt_domain *caller,
              const struct fh_gnttab_entry_flags *op, bool *in_use)
{
    struct fh_gnt_entry *e = NULL;

    if (op->flags & ~(FH_GNT_ENTRY_CLOSED | FH_GNT_ENTRY_NOTIFY))
        return GNTST_general_error;
    if (fh_gnt_ref_in(caller, op->ref, fh_gnt_version(caller)))
        e = fh_gnt_entry_at(caller, op->ref);
    if (!e)
        return GNTST_bad_gntref;
    *in_use = entry_set(e, op->flags) & FH_ENTRY_PINS;
    return GNTST_okay;
}

long
fh_gnt_op_entry_flags(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct fh_gnttab_entry_flags *ops,
                      uint32_t count, uint32_t *done)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        struct fh_gnttab_entry_flags op;
        bool in_use = false;

        if (i && fh_gnt_must_stop(ctx))
            break;
        fh_copy_in(&op, &ops[i], sizeof(op));
        op.status = flags_element(caller, &op, &in_use);
        if (!op.status)
            fh_store_relaxed16(&ops[i].in_use, in_use);
        fh_store_relaxed16(&ops[i].status, (uint16_t)op.status);
    }
    fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->elements, i);
    *done = i;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}

/* Bucket of a histogram: 0, 1, 2, 3 to 4, 5 to 8, ... */
static uint32_t
bucket_of(uint32_t pins)
{
    uint32_t b = 0, top = 1;

    if (!pins)
        return 0;
    for (b = 1; top < pins && b < FH_GNT_HISTOGRAM_BUCKETS - 1; b++)
        top <<= 1;
    return b;
}

int
fh_gnt_histogram(const struct fh_gnt_domain *granter, uint32_t budget,
                 uint32_t *cursor, struct fh_gnt_histogram *out)
{
    uint32_t ref = *cursor;

    for (; budget; ref++, budget--) {
        const struct fh_gnt_entry *e = fh_gnt_entry_at(granter, ref);
        uint64_t word;

        if (!e)
            break;
        word = fh_load_relaxed64(&e->word);
        out->entries[bucket_of(fh_entry_readers(word) +
                               fh_entry_writers(word))]++;
    }
    *cursor = ref;
    return fh_gnt_entry_at(granter, ref) ? FH_GNT_E_PREEMPTED : 0;
}
