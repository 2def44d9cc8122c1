/* SPDX-License-Identifier: MIT */
/*
 * Version 2 entries, both sides of them.
 *
 * Invariants: the engine checks the granter's header {flags, domid}, read as
 * one word, sets the status word, and checks the header once more: what it then
 * says is granted.  So there are two reads and no loop, however fast a granter
 * rewrites it (XSA-295).  Everything else of the entry is read once, after
 * that.  The status word belongs to the guest as much as to the engine: nothing
 * is ever decided by it.
 */
#include "grant/internal.h"

/* --------------------------------------------------------- the engine's -- */

static bool
kind_allowed(uint32_t word, const struct fh_gnt_pin_req *q,
             const struct fh_gnt_domain *granter)
{
    if ((word & GTF_type_mask) == GTF_permit_access)
        return q->use != FH_GNT_USE_MAP || !(word & GTF_sub_page);
    return (word & GTF_type_mask) == GTF_transitive &&
           q->use == FH_GNT_USE_COPY &&
           (granter->flags & FH_GNT_DOM_TRANSITIVE);
}

static bool
header_allows(uint32_t word, const struct fh_gnt_pin_req *q,
              const struct fh_gnt_domain *granter, bool is_pinned)
{
    if (q->is_write && (word & GTF_readonly))
        return false;
    return is_pinned || (word >> 16 == q->grantee->domid &&
                         kind_allowed(word, q, granter));
}

/* The rest of an entry whose header is @word. */
static struct fh_gnt_claim
claim_read(FH_SHARED grant_entry_v2_t *shared, uint32_t word)
{
    struct fh_gnt_claim claim = { .length = FH_PAGE_BYTES };
    uint32_t second;

    if ((word & GTF_type_mask) == GTF_transitive) {
        claim.kind = FH_ENTRY_TRANSITIVE;
        claim.trans_domid = fh_load_relaxed16(&shared->transitive.trans_domid);
        claim.trans_ref = fh_load_relaxed32(&shared->transitive.gref);
        return claim;
    }
    claim.gfn = fh_load_relaxed64(&shared->full_page.frame);
    if (word & GTF_sub_page) {
        second = fh_load_relaxed32(&shared->sub_page.page_off);
        claim.kind = FH_ENTRY_SUB_PAGE;
        claim.start = (uint16_t)second;
        claim.length = (uint16_t)(second >> 16);
    }
    return claim;
}

int16_t
fh_gnt_v2_mark(const struct fh_gnt_pin_req *q, const struct fh_gnt_entry *e,
               bool is_pinned, struct fh_gnt_claim *out)
{
    FH_SHARED grant_entry_v2_t *shared = fh_gnt_v2_at(e->granter, e->ref);
    FH_SHARED grant_status_t *status = fh_gnt_status_at(e->granter, e->ref);
    const uint16_t marks =
        is_pinned ? GTF_writing : fh_gnt_marks(q->is_write);
    uint32_t word = fh_load_relaxed32(shared);

    if (!header_allows(word, q, e->granter, is_pinned))
        return GNTST_general_error;
    word = fh_v2_mark((FH_SHARED uint32_t *)shared, status, marks);
    if (!header_allows(word, q, e->granter, is_pinned)) {
        fh_v2_unmark(status, marks);
        return GNTST_general_error;
    }
    if (!is_pinned)
        *out = claim_read(shared, word);
    return GNTST_okay;
}

void
fh_gnt_unmark(const struct fh_gnt_entry *e, uint16_t marks)
{
    if (fh_version_kept(&e->granter->version) == 1)
        fh_fetch_and16(&fh_gnt_v1_at(e->granter, e->ref)->flags,
                       (uint16_t)~marks);
    else
        fh_v2_unmark(fh_gnt_status_at(e->granter, e->ref), marks);
}

/* -------------------------------------------------------- the granter's -- */

/* The header last. */
static void
header_write(FH_SHARED grant_entry_v2_t *e, uint32_t flags, uint16_t domid,
             bool readonly)
{
    fh_v2_publish((FH_SHARED uint32_t *)e,
                  (flags | (readonly ? GTF_readonly : 0)) |
                      (uint32_t)domid << 16);
}

void
fh_gnt_v2_grant(FH_SHARED grant_entry_v2_t *table, uint32_t ref, uint16_t domid,
                uint64_t gfn, bool readonly)
{
    fh_store_relaxed64(&table[ref].full_page.frame, gfn);
    header_write(&table[ref], GTF_permit_access, domid, readonly);
}

void
fh_gnt_v2_grant_window(FH_SHARED grant_entry_v2_t *table, uint32_t ref,
                       uint16_t domid, uint64_t gfn, uint16_t start,
                       uint16_t length, bool readonly)
{
    FH_SHARED grant_entry_v2_t *e = &table[ref];

    fh_store_relaxed16(&e->sub_page.page_off, start);
    fh_store_relaxed16(&e->sub_page.length, length);
    fh_store_relaxed64(&e->sub_page.frame, gfn);
    header_write(e, GTF_permit_access | GTF_sub_page, domid, readonly);
}

void
fh_gnt_v2_grant_transitive(FH_SHARED grant_entry_v2_t *table, uint32_t ref,
                           uint16_t domid, uint16_t trans_domid,
                           uint32_t trans_ref, bool readonly)
{
    FH_SHARED grant_entry_v2_t *e = &table[ref];

    fh_store_relaxed16(&e->transitive.trans_domid, trans_domid);
    fh_store_relaxed32(&e->transitive.gref, trans_ref);
    header_write(e, GTF_transitive, domid, readonly);
}

int
fh_gnt_v2_revoke(FH_SHARED grant_entry_v2_t *table,
                 const FH_SHARED grant_status_t *status, uint32_t ref)
{
    const uint16_t marks = fh_v2_withdraw((FH_SHARED uint32_t *)&table[ref],
                                          &status[ref]);

    return marks & (GTF_reading | GTF_writing) ? FH_GNT_E_IN_USE : 0;
}
