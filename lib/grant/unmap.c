/* SPDX-License-Identifier: MIT */
/*
 * unmap_grant_ref and its kin, in two phases per batch: (1) each mapping is
 * claimed, checked and taken out of the page tables, its handle dies; then the
 * flushes that the batch needs; (2) pins are given back and handles freed.
 *
 * The kin differ in what takes the page's place (unmap_and_replace,
 * unmap_and_duplicate) and in what else must agree (unmap_ref).  The code is
 * compiled twice: for unmap_grant_ref alone, which is the hot one, and for the
 * others together.
 *
 * Invariants: phase 2 of an element runs if its phase 1 took anything out,
 * whatever else happens (XSA-224); no page is released before the flush
 * decision that covers it; a handle dies exactly once.  A TLB flush is asked
 * for only if a mapping that was taken out may have been used.
 */
#include <freehold/grant_ext.h>

#include "grant/flush.h"
#include "grant/internal.h"

/* Compiled for each caller, with what it knows of the kind. */
#define PER_KIND static inline __attribute__((always_inline))

enum unmap_kind { UNMAP_PLAIN, UNMAP_REPLACE, UNMAP_DUPLICATE, UNMAP_REF };

/* What one element asks for. */
struct unmap_want {
    struct gnttab_unmap_grant_ref op;
    /* of the other kinds only */
    uint64_t new_addr; /* what is mapped there takes the place; 0: nothing */
    uint32_t ref;      /* UNMAP_REF: what the handle must stand for */
    uint16_t dom;
};

/* Unmaps on their way between taking the mapping out and releasing the page. */
struct dying {
    struct fh_slot_chain slots; /* dead, entries still pinned */
    struct fh_gnt_due due;
    uint64_t lost; /* waits and swaps that lost */
};

/* Ends the claimed mapping @slot: no access is left but what TLBs hold. */
static inline void
dying_add(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 struct fh_gnt_slot *slot, uint64_t word,
                 struct dying *dying)
{
    struct fh_gnt_entry *e = slot->entry;

    if (fh_gnt_has_iommu(ctx, mapper, e->granter) &&
        fh_gnt_iommu_sub(ctx, mapper, e, fh_slot_index(mapper, slot),
                         (uint32_t)word))
        dying->due.n_io++;
    fh_gnt_due_end(&dying->due, word);
    fh_slot_unclaim(slot, word & ~FH_SLOT_LIVE);
    fh_chain_push(mapper, &dying->slots, slot);
}

/* Flushes what is due, releases the pages and frees the handles. */
static void
dying_finish(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
             struct dying *dying)
{
    struct fh_gnt_stats *stats = fh_gnt_my_stats(ctx, mapper);
    uint32_t i = dying->slots.head;

    fh_gnt_flush(ctx, mapper, &dying->due);
    fh_gnt_count(&stats->unmaps, dying->slots.n);
    while (i) {
        struct fh_gnt_slot *slot = &mapper->slots[i - 1];
        const uint64_t word = fh_load_relaxed64(&slot->word);

        fh_gnt_unpin(ctx, mapper, slot->entry, !(word & GNTMAP_readonly));
        fh_slot_retire(slot, word);
        i = fh_load_relaxed32(&slot->next);
    }
    fh_slots_give(mapper, &dying->slots, &dying->lost);
    if (dying->lost)
        fh_gnt_count(&stats->retries, dying->lost);
}

/* Puts what is mapped at want->new_addr in the place of the host mapping. */
static int
replace_host(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
             const struct fh_gnt_pte *pte, enum unmap_kind kind,
             uint64_t new_addr)
{
    uint64_t old;

    if (!ctx->ops->pt_replace || (pte->flags & GNTMAP_contains_pte) ||
        (caller->flags & FH_GNT_DOM_TRANSLATED))
        return FH_EOPNOTSUPP;
    return ctx->ops->pt_replace(ctx->hv, caller, pte, new_addr,
                                kind == UNMAP_DUPLICATE, &old);
}

/* One exchange in the page tables. */
PER_KIND int
take_out(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
         const struct fh_gnt_pte *pte, enum unmap_kind kind, uint64_t new_addr)
{
    uint64_t old;

    if (kind != UNMAP_PLAIN && new_addr)
        return replace_host(ctx, caller, pte, kind, new_addr);
    return ctx->ops->pt_remove(ctx->hv, caller, pte, &old);
}

/* The same where each address has a word that says what is mapped there. */
static __attribute__((noinline)) int
take_out_told(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              const struct fh_gnt_pte *pte, enum unmap_kind kind,
              uint64_t new_addr)
{
    uint32_t *word = ctx->ops->map_word(ctx->hv, caller, pte->host_addr);
    uint32_t there;
    int r;

    if (word && (!fh_map_word_get(word, &there) || there != pte->handle))
        return FH_ENOENT; /* another mapping's place, or nobody's */
    r = take_out(ctx, caller, pte, kind, new_addr);
    if (r >= 0 && word)
        fh_map_word_clear(word, pte->handle);
    return r;
}

/* Takes the host mapping out of the page tables. */
PER_KIND int16_t
remove_host(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
            const struct fh_gnt_slot *slot, uint64_t *word,
            enum unmap_kind kind, const struct unmap_want *want,
            struct dying *dying)
{
    const struct fh_gnt_pte pte = {
        .host_addr = want->op.host_addr,
        .mfn = slot->entry->mfn,
        .flags = (uint32_t)(*word & FH_SLOT_KEEP) | slot->avail,
        .handle = want->op.handle,
    };
    const uint64_t new_addr = kind == UNMAP_PLAIN ? 0 : want->new_addr;
    int r;

    if (__builtin_expect(ctx->ops->map_word != NULL, false))
        r = take_out_told(ctx, caller, &pte, kind, new_addr);
    else
        r = take_out(ctx, caller, &pte, kind, new_addr);

    if (r < 0)
        return GNTST_general_error;
    fh_gnt_due_host(&dying->due, r);
    *word &= ~(uint64_t)GNTMAP_host_map;
    return GNTST_okay;
}

/* The mapping is the one that the caller means. */
PER_KIND int16_t
check_claimed(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              const struct fh_gnt_entry *e, enum unmap_kind kind,
              const struct unmap_want *want)
{
    if (!fh_gnt_may(ctx, caller, e->granter, GNTTABOP_unmap_grant_ref))
        return GNTST_permission_denied;
    if (kind == UNMAP_REF && e->granter->domid != want->dom)
        return GNTST_bad_domain;
    if (kind == UNMAP_REF && e->ref != want->ref)
        return GNTST_bad_gntref;
    return GNTST_okay;
}

/* Not on the way of a mapping that is for processors alone. */
static __attribute__((noinline)) uint64_t
bus_addr(const struct fh_gnt_domain *caller, const struct fh_gnt_slot *slot)
{
    return fh_gnt_bus_addr(caller, slot->entry->granter,
                           slot->entry->mfn << FH_PAGE_SHIFT,
                           fh_slot_index(caller, slot), GNTMAP_device_map);
}

static __attribute__((noinline)) void
end_device_part(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                const struct fh_gnt_slot *slot, struct dying *dying)
{
    dying->due.n_io += fh_gnt_iommu_sub_part(ctx, caller, slot->entry,
                                             fh_slot_index(caller, slot));
}

/* Phase 1 on a claimed mapping; *@word loses what was taken out. */
PER_KIND int16_t
unmap_claimed(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              const struct fh_gnt_slot *slot, uint64_t *word,
              enum unmap_kind kind, const struct unmap_want *want,
              struct dying *dying)
{
    const struct fh_gnt_entry *e = slot->entry;
    const int16_t status = check_claimed(ctx, caller, e, kind, want);
    uint64_t gone = 0;

    if (status)
        return status;
    if (want->op.dev_bus_addr && (*word & GNTMAP_device_map)) {
        if (want->op.dev_bus_addr != bus_addr(caller, slot))
            return GNTST_bad_dev_addr;
        gone = GNTMAP_device_map;
    }
    if (want->op.host_addr && (*word & GNTMAP_host_map) &&
        remove_host(ctx, caller, slot, word, kind, want, dying))
        return GNTST_general_error;
    *word &= ~gone;
    if (gone)
        end_device_part(ctx, caller, slot, dying);
    return GNTST_okay;
}

/* Phase 1 of one element. */
PER_KIND int16_t
unmap_element(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              enum unmap_kind kind, const struct unmap_want *want,
              struct dying *dying)
{
    uint64_t word = 0;
    struct fh_gnt_slot *slot =
        fh_slot_claim(caller, want->op.handle, &word, &dying->lost);
    int16_t status;

    if (!slot)
        return GNTST_bad_handle;
    status = unmap_claimed(ctx, caller, slot, &word, kind, want, dying);
    if (word & (GNTMAP_host_map | GNTMAP_device_map))
        fh_slot_unclaim(slot, word | fh_gnt_due_later(&dying->due, word));
    else
        dying_add(ctx, caller, slot, word, dying);
    return status;
}

/* ----------------------------------------------------- the four layouts -- */

PER_KIND size_t
want_bytes(enum unmap_kind kind)
{
    switch (kind) {
    case UNMAP_PLAIN:
        return sizeof(struct gnttab_unmap_grant_ref);
    case UNMAP_REPLACE:
        return sizeof(struct gnttab_unmap_and_replace);
    case UNMAP_DUPLICATE:
        return sizeof(struct fh_gnttab_unmap_and_duplicate);
    case UNMAP_REF:
        return sizeof(struct fh_gnttab_unmap_ref);
    }
    return 0;
}

PER_KIND size_t
status_at(enum unmap_kind kind)
{
    switch (kind) {
    case UNMAP_PLAIN:
        return offsetof(struct gnttab_unmap_grant_ref, status);
    case UNMAP_REPLACE:
        return offsetof(struct gnttab_unmap_and_replace, status);
    case UNMAP_DUPLICATE:
        return offsetof(struct fh_gnttab_unmap_and_duplicate, status);
    case UNMAP_REF:
        return offsetof(struct fh_gnttab_unmap_ref, status);
    }
    return 0;
}

/* Reads one element of another kind than PLAIN, once. */
PER_KIND void
kin_read(enum unmap_kind kind, const FH_SHARED uint8_t *at,
         struct unmap_want *want)
{
    union {
        struct gnttab_unmap_and_replace replace;
        struct fh_gnttab_unmap_and_duplicate duplicate;
        struct fh_gnttab_unmap_ref by_ref;
    } in;

    fh_copy_in(&in, at, want_bytes(kind));
    *want = (struct unmap_want){ 0 };
    switch (kind) {
    case UNMAP_PLAIN:
        break;
    case UNMAP_REPLACE:
        want->op.host_addr = in.replace.host_addr;
        want->new_addr = in.replace.new_addr;
        want->op.handle = in.replace.handle;
        break;
    case UNMAP_DUPLICATE:
        want->op.host_addr = in.duplicate.host_addr;
        want->op.dev_bus_addr = in.duplicate.dev_bus_addr;
        want->new_addr = in.duplicate.new_addr;
        want->op.handle = in.duplicate.handle;
        break;
    case UNMAP_REF:
        want->op.host_addr = in.by_ref.host_addr;
        want->op.dev_bus_addr = in.by_ref.dev_bus_addr;
        want->op.handle = in.by_ref.handle;
        want->ref = in.by_ref.ref;
        want->dom = in.by_ref.dom;
        break;
    }
}

PER_KIND void
want_read(enum unmap_kind kind, const FH_SHARED uint8_t *at,
          struct unmap_want *want)
{
    if (kind != UNMAP_PLAIN) {
        kin_read(kind, at, want);
        return;
    }
    fh_copy_in(&want->op, at, sizeof(want->op));
}

/* ------------------------------------------------------- the operations -- */

PER_KIND long
unmap_array(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
            enum unmap_kind kind, FH_SHARED uint8_t *ops, uint32_t count,
            uint32_t *done)
{
    const size_t bytes = want_bytes(kind);
    FH_SHARED uint8_t *at = ops;
    uint32_t i = 0;
    bool stop = false;

    while (i < count && !stop) {
        const uint32_t n = count - i < FH_GNT_UNMAP_BATCH ? count - i
                                                          : FH_GNT_UNMAP_BATCH;
        const uint32_t end = i + n;
        struct dying dying = { 0 };

        for (; i < end; i++, at += bytes) {
            struct unmap_want want;
            int16_t status;

            stop = i && fh_gnt_must_stop(ctx);
            if (stop)
                break;
            want_read(kind, at, &want);
            status = unmap_element(ctx, caller, kind, &want, &dying);
            fh_store_relaxed16(at + status_at(kind), (uint16_t)status);
        }
        dying_finish(ctx, caller, &dying);
    }
    fh_gnt_count(&fh_gnt_my_stats(ctx, caller)->elements, i);
    *done = i;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}

long
fh_gnt_op_unmap(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                FH_SHARED struct gnttab_unmap_grant_ref *ops, uint32_t count,
                uint32_t *done)
{
    return unmap_array(ctx, caller, UNMAP_PLAIN, (FH_SHARED uint8_t *)ops,
                       count, done);
}

static __attribute__((noinline)) long
unmap_kin(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
          enum unmap_kind kind, FH_SHARED void *ops, uint32_t count,
          uint32_t *done)
{
    return unmap_array(ctx, caller, kind, ops, count, done);
}

long
fh_gnt_op_unmap_and_replace(struct fh_gnt_ctx *ctx,
                            struct fh_gnt_domain *caller,
                            FH_SHARED struct gnttab_unmap_and_replace *ops,
                            uint32_t count, uint32_t *done)
{
    return unmap_kin(ctx, caller, UNMAP_REPLACE, ops, count, done);
}

long
fh_gnt_op_unmap_and_duplicate(
    struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
    FH_SHARED struct fh_gnttab_unmap_and_duplicate *ops, uint32_t count,
    uint32_t *done)
{
    return unmap_kin(ctx, caller, UNMAP_DUPLICATE, ops, count, done);
}

long
fh_gnt_op_unmap_ref(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                    FH_SHARED struct fh_gnttab_unmap_ref *ops, uint32_t count,
                    uint32_t *done)
{
    return unmap_kin(ctx, caller, UNMAP_REF, ops, count, done);
}

int16_t
fh_gnt_unmap_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                 struct gnttab_unmap_grant_ref *op)
{
    uint32_t done;

    (void)!fh_gnt_op_unmap(ctx, caller, op, 1, &done);
    return op->status;
}

int
fh_gnt_release_maps(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                    uint32_t budget, uint32_t *cursor)
{
    const uint32_t end = fh_load_acquire32(&mapper->fresh_slots);
    struct dying dying = { 0 };
    uint32_t i = *cursor;

    for (; i < end && budget; i++, budget--) {
        struct fh_gnt_slot *slot = &mapper->slots[i];
        const uint64_t word = fh_load_acquire64(&slot->word);

        if (word & FH_SLOT_LIVE)
            dying_add(ctx, mapper, slot, word, &dying);
    }
    dying.due.words &= ~FH_SLOT_TAINTED; /* no TLB holds anything of it */
    dying_finish(ctx, mapper, &dying);
    *cursor = i;
    return i < end ? FH_GNT_E_PREEMPTED : 0;
}
