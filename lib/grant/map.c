/* SPDX-License-Identifier: MIT */
/*
 * map_grant_ref.
 *
 * Order of checks, as on Xen: flags, domain, permission, handle, reference,
 * entry, frame; then the effects: host mapping, I/O mapping, handle.  A failed
 * effect undoes the earlier ones in reverse, flushed before the page is
 * released.  The handle becomes live last.
 */
#include "grant/flush.h"
#include "grant/internal.h"

#define NO_DOMID 0x10000u /* of no domain */

/* Kept out of the code of ordinary maps. */
#define SELDOM __attribute__((noinline, cold))

/* One call: what it carries from element to element. */
struct map_call {
    struct fh_gnt_ctx *ctx;
    const struct fh_hv_ops *ops; /* the context's */
    void *hv;
    struct fh_gnt_domain *caller;
    struct fh_gnt_domain *peer; /* the last granter, with a reference */
    uint32_t peer_domid;        /* if there is one */
    struct fh_slot_chain slots; /* handles taken ahead */
    /* the element at hand, and their end */
    FH_SHARED struct gnttab_map_grant_ref *at, *end;
    bool own_iova; /* the caller's devices use addresses of the engine's */
    uint64_t maps, lost;
};

static void
call_end(struct map_call *c, uint32_t elements)
{
    struct fh_gnt_stats *stats = fh_gnt_my_stats(c->ctx, c->caller);

    if (c->peer)
        c->ops->domain_put(c->hv, c->peer);
    fh_slots_give(c->caller, &c->slots, &c->lost);
    fh_gnt_count(&stats->elements, elements);
    fh_gnt_count(&stats->maps, c->maps);
    if (c->lost)
        fh_gnt_count(&stats->retries, c->lost);
}

/* The granter, looked up once for a run of elements that name it. */
static struct fh_gnt_domain *
call_peer(struct map_call *c, uint16_t domid)
{
    const struct fh_hv_ops *ops = c->ops;

    if (c->peer_domid == domid)
        return c->peer;
    if (c->peer)
        ops->domain_put(c->hv, c->peer);
    c->peer = NULL;
    c->peer_domid = NO_DOMID;
    if (domid < DOMID_FIRST_RESERVED)
        c->peer = ops->domain_get(c->hv, domid);
    if (c->peer)
        c->peer_domid = domid;
    return c->peer;
}

/* A free slot, or NULL when the quota is spent. */
static struct fh_gnt_slot *
call_slot(struct map_call *c)
{
    if (!c->slots.head) {
        const uint32_t left = (uint32_t)(c->end - c->at);
        const uint32_t want =
            left < FH_GNT_SLOTS_AHEAD ? left : FH_GNT_SLOTS_AHEAD;

        fh_slots_take(c->caller, want, &c->slots, &c->lost);
    }
    return fh_chain_pop(c->caller, &c->slots);
}

/* One of the reserve, if the embedder wants it so. */
static SELDOM struct fh_gnt_slot *
call_reserve(struct map_call *c, struct fh_gnt_domain *granter, uint32_t ref)
{
    const struct fh_hv_ops *ops = c->ops;
    struct fh_slot_chain one = { 0 };

    if (!c->caller->n_reserved || !ops->may_use_reserve ||
        !ops->may_use_reserve(c->hv, c->caller, granter, ref))
        return NULL;
    fh_slots_take_reserved(c->caller, &one, &c->lost);
    return fh_chain_pop(c->caller, &one);
}

/* A map failed: the next element may have its slot, but not one of the
 * reserve. */
static SELDOM void
call_return(struct map_call *c, struct fh_gnt_slot *slot)
{
    struct fh_slot_chain one = { 0 };

    if (fh_slot_index(c->caller, slot) >= c->caller->n_reserved) {
        fh_chain_push(c->caller, &c->slots, slot);
        return;
    }
    fh_chain_push(c->caller, &one, slot);
    fh_slots_give(c->caller, &one, &c->lost);
}

static int16_t
check_flags(const struct fh_gnt_domain *caller, uint32_t flags)
{
    const uint32_t pv_only =
        GNTMAP_device_map | GNTMAP_application_map | GNTMAP_contains_pte;

    if (!(flags & (GNTMAP_device_map | GNTMAP_host_map)))
        return GNTST_bad_gntref;
    if ((caller->flags & FH_GNT_DOM_TRANSLATED) && (flags & pv_only))
        return GNTST_general_error;
    return GNTST_okay;
}

/* Takes an installed host mapping out again; nobody may hold it cached. */
static void
undo_host(struct map_call *c, const struct fh_gnt_pte *pte)
{
    struct fh_gnt_due due = { .found = FH_GNT_PT_ACCESSED };
    uint64_t old;

    (void)c->ops->pt_remove(c->hv, c->caller, pte, &old);
    fh_gnt_flush(c->ctx, c->caller, &due);
}

/* The host mapping.  GNTST_okay; *@word becomes tainted if its accessed bit is
 * not to be believed. */
static int16_t
install(struct map_call *c, const struct fh_gnt_pte *pte, uint64_t *word)
{
    uint64_t old;
    const int r = c->ops->pt_install(c->hv, c->caller, pte, &old);

    if (!r)
        return GNTST_okay;
    if (r != FH_GNT_PT_ALWAYS_FLUSH)
        return GNTST_general_error;
    *word |= FH_SLOT_TAINTED;
    return GNTST_okay;
}

/* The mapping can be found by its address as soon as its handle is live. */
static SELDOM void
tell_address(struct map_call *c, const struct fh_gnt_pte *pte)
{
    uint32_t *word = NULL;

    if (pte->flags & GNTMAP_host_map)
        word = c->ops->map_word(c->hv, c->caller, pte->host_addr);
    if (word)
        fh_map_word_set(word, pte->handle);
}

/* The I/O mapping, on a machine that has such. */
static SELDOM int16_t
add_io(struct map_call *c, const struct fh_gnt_entry *e,
       const struct gnttab_map_grant_ref *op, uint32_t handle)
{
    return fh_gnt_iommu_add(c->ctx, c->caller, e, handle, op->flags);
}

/* The effects, on a pinned entry. */
static int16_t
map_pinned(struct map_call *c, struct fh_gnt_entry *e,
           const struct gnttab_map_grant_ref *op, uint32_t handle,
           uint64_t *word)
{
    const struct fh_gnt_pte pte = {
        .host_addr = op->host_addr,
        .mfn = e->mfn,
        .flags = op->flags,
        .handle = handle,
    };

    if ((op->flags & GNTMAP_host_map) && install(c, &pte, word))
        return GNTST_general_error;
    if (c->ops->iommu_count && c->caller != e->granter &&
        add_io(c, e, op, handle)) {
        if (op->flags & GNTMAP_host_map)
            undo_host(c, &pte);
        return GNTST_general_error;
    }
    if (c->ops->map_word)
        tell_address(c, &pte);
    return GNTST_okay;
}

/* Everything after the handle; on success the caller has his results. */
static int16_t
map_with_slot(struct map_call *c, struct fh_gnt_slot *slot,
              struct fh_gnt_domain *granter,
              const struct gnttab_map_grant_ref *op)
{
    const bool is_write = !(op->flags & GNTMAP_readonly);
    uint64_t word = fh_load_relaxed64(&slot->word);
    const uint32_t handle =
        fh_slot_handle(c->caller, fh_slot_index(c->caller, slot), word);
    struct fh_gnt_entry *e = NULL;
    uint64_t bus;
    int16_t status = fh_gnt_pin(c->ctx, granter, op->ref, c->caller, is_write,
                                FH_GNT_USE_MAP, &e);

    if (status)
        return status;
    status = map_pinned(c, e, op, handle, &word);
    if (status) {
        fh_gnt_unpin(c->ctx, c->caller, e, is_write);
        return status;
    }
    fh_slot_fill(slot, (uintptr_t)e, op->host_addr,
                 op->flags & GNTMAP_guest_avail_mask);
    bus = e->mfn << FH_PAGE_SHIFT; /* the entry is ours until published */
    fh_slot_publish(slot, word, op->flags);
    fh_store_relaxed32(&c->at->handle, handle);
    if (c->own_iova)
        bus = fh_gnt_bus_addr(c->caller, granter, bus, handle, op->flags);
    fh_store_relaxed64(&c->at->dev_bus_addr, bus);
    return GNTST_okay;
}

/* One element, in memory of our own. */
static int16_t
map_element(struct map_call *c, const struct gnttab_map_grant_ref *op)
{
    struct fh_gnt_domain *granter;
    struct fh_gnt_slot *slot;
    int16_t status = check_flags(c->caller, op->flags);

    if (status)
        return status;
    granter = call_peer(c, op->dom);
    if (!granter)
        return GNTST_bad_domain;
    if (!fh_gnt_may(c->ctx, c->caller, granter, GNTTABOP_map_grant_ref))
        return GNTST_permission_denied;
    slot = call_slot(c);
    if (!slot)
        slot = call_reserve(c, granter, op->ref);
    if (!slot)
        return GNTST_no_space;
    status = map_with_slot(c, slot, granter, op);
    if (status)
        call_return(c, slot);
    else
        c->maps++;
    return status;
}

long
fh_gnt_op_map(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              FH_SHARED struct gnttab_map_grant_ref *ops, uint32_t count,
              uint32_t *done)
{
    struct map_call c = { .ctx = ctx, .ops = ctx->ops, .hv = ctx->hv,
                          .caller = caller, .peer_domid = NO_DOMID,
                          .at = ops, .end = ops + count,
                          .own_iova = caller->flags & FH_GNT_DOM_OWN_IOVA };
    uint32_t i;

    for (i = 0; i < count; i++, c.at++) {
        struct gnttab_map_grant_ref op;
        int16_t status;

        if (i && fh_gnt_must_stop(ctx))
            break;
        fh_copy_in(&op, c.at, sizeof(op));
        status = map_element(&c, &op);
        fh_store_relaxed16(&c.at->status, (uint16_t)status);
    }
    call_end(&c, i);
    *done = i;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}

int16_t
fh_gnt_map_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
               struct gnttab_map_grant_ref *op)
{
    uint32_t done;

    (void)!fh_gnt_op_map(ctx, caller, op, 1, &done);
    return op->status;
}
