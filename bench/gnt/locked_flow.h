/* SPDX-License-Identifier: MIT */
/*
 * map, unmap and copy of an engine with locks.  Not a header of declarations:
 * an engine's file defines the functions below, static, and includes this once;
 * the compiler then sees one program, as if each engine were written out.
 *
 *   struct active *entry_lock(call, granter, ref)   NULL: no such reference;
 *   void entry_unlock(call, granter, active)        also the table's locks
 *   struct record *handle_get(call, granter, ref, *handle)  NULL: none left
 *   struct record *handle_late(call, active, record, ...)   under entry_lock
 *   struct record *handle_find(call, handle, *copy)   NULL: not live
 *   bool handle_is(call, active, record, copy)        still, under entry_lock
 *   void handle_put(call, record, handle)             a dead one
 *   void handle_publish(call, record, ref, domid, flags)
 *   bool io_add(call, mfn, readonly), void io_sub(...)
 *
 * and may define UNMAP_LOCK and UNMAP_UNLOCK (what the first phase of an unmap
 * takes, if not just entry_lock) and HANDLE_PUT_IN_ENTRY(handle) (true: it is
 * free when its flags are 0).
 */
#ifndef UNMAP_LOCK
#define UNMAP_LOCK   entry_lock
#define UNMAP_UNLOCK entry_unlock
#endif
#ifndef HANDLE_PUT_IN_ENTRY
#define HANDLE_PUT_IN_ENTRY(handle) false
#endif

static int16_t
map_effects(struct call *c, const struct gnttab_map_grant_ref *op,
            struct bench_domain *granter, uint64_t mfn, bool readonly)
{
    uint64_t old;

    if (!refs_get(c, mfn, granter->domid, readonly))
        return GNTST_general_error;
    if (!bench_pte_install(c->caller, op->host_addr, mfn, readonly, &old)) {
        refs_put(c, mfn, readonly);
        return GNTST_general_error;
    }
    if (c->m->iommu && !io_add(c, mfn, readonly)) {
        (void)bench_pte_remove(c->caller, op->host_addr, mfn, readonly, &old);
        flush_locked(c);
        refs_put(c, mfn, readonly);
        return GNTST_general_error;
    }
    return GNTST_okay;
}

static void
map_undo(struct call *c, struct bench_domain *granter, uint32_t ref,
         bool readonly)
{
    struct active *a = entry_lock(c, granter, ref);

    active_unpin(a, granter, ref, readonly);
    entry_unlock(c, granter, a);
}

/* Pins the entry and finds out the frame. */
static int16_t
map_pin(struct call *c, struct bench_domain *granter, uint32_t ref,
        bool readonly, struct record **record, uint32_t *handle, uint64_t *mfn)
{
    struct active *a = entry_lock(c, granter, ref);
    int16_t status;

    if (!a)
        return GNTST_bad_gntref;
    status = active_pin(c, a, granter, ref, readonly, true);
    if (!status) {
        *record = handle_late(c, a, *record, granter, ref, handle);
        if (!*record) {
            active_unpin(a, granter, ref, readonly);
            status = GNTST_no_space;
        }
        *mfn = a->mfn;
    }
    entry_unlock(c, granter, a);
    return status;
}

static int16_t
map_element(struct call *c, struct gnttab_map_grant_ref *op)
{
    const bool readonly = op->flags & GNTMAP_readonly;
    struct bench_domain *granter;
    struct record *record;
    uint32_t handle = 0;
    uint64_t mfn = 0;
    int16_t status;

    if (!(op->flags & (GNTMAP_device_map | GNTMAP_host_map)))
        return GNTST_bad_gntref;
    granter = bench_domain_find(c->m, op->dom);
    if (!granter)
        return GNTST_bad_domain;
    BENCH_FENCE();
    record = handle_get(c, granter, op->ref, &handle);
    if (!record)
        return GNTST_no_space;
    status = map_pin(c, granter, op->ref, readonly, &record, &handle, &mfn);
    if (!status) {
        status = map_effects(c, op, granter, mfn, readonly);
        if (status)
            map_undo(c, granter, op->ref, readonly);
    }
    if (status) {
        if (record)
            handle_put(c, record, handle);
        return status;
    }
    handle_publish(c, record, op->ref, op->dom, (uint16_t)op->flags);
    op->handle = handle;
    op->dev_bus_addr = mfn << FH_PAGE_SHIFT;
    return GNTST_okay;
}

static void
locked_map(struct bench_machine *m, unsigned cpu, struct bench_domain *caller,
           struct gnttab_map_grant_ref *ops, uint32_t n)
{
    struct call c = { m, &m->cpu[cpu], caller, cpu };

    for (uint32_t i = 0; i < n; i++) {
        struct gnttab_map_grant_ref op;

        if (i && bench_must_stop(m))
            break;
        fh_copy_in(&op, &ops[i], sizeof(op));
        op.status = map_element(&c, &op);
        if (!op.status) {
            fh_store_relaxed32(&ops[i].handle, op.handle);
            fh_store_relaxed64(&ops[i].dev_bus_addr, op.dev_bus_addr);
        }
        fh_store_relaxed16(&ops[i].status, (uint16_t)op.status);
    }
}

/* ----------------------------------------------------------------- unmap -- */

/* Under the entry's lock: takes the mapping out. */
static int16_t
unmap_locked(struct call *c, struct active *a, struct record *record,
             const struct record *copy,
             const struct gnttab_unmap_grant_ref *op, struct undone *u)
{
    uint64_t old;

    if (!handle_is(c, a, record, copy))
        return GNTST_bad_handle;
    BENCH_FENCE();
    u->mfn = a->mfn;
    if (op->host_addr && (record->flags & GNTMAP_host_map)) {
        if (!bench_pte_remove(c->caller, op->host_addr, a->mfn, u->readonly,
                              &old))
            return GNTST_general_error;
        record->flags &= (uint16_t)~GNTMAP_host_map;
        u->removed = true;
    }
    return GNTST_okay;
}

/* The first phase of one element. */
static int16_t
unmap_element(struct call *c, const struct gnttab_unmap_grant_ref *op,
              struct undone *u)
{
    struct record copy;
    struct record *record = handle_find(c, op->handle, &copy);
    struct bench_domain *granter;
    struct active *a;
    int16_t status;
    bool dead;

    if (!record)
        return GNTST_bad_handle;
    BENCH_FENCE();
    granter = bench_domain_find(c->m, copy.domid);
    if (!granter)
        return GNTST_bad_domain;
    u->readonly = copy.flags & GNTMAP_readonly;
    u->ref = copy.ref;
    a = UNMAP_LOCK(c, granter, copy.ref);
    if (!a)
        return GNTST_bad_handle;
    status = unmap_locked(c, a, record, &copy, op, u);
    dead = !status && u->removed &&
           !(record->flags & (GNTMAP_host_map | GNTMAP_device_map));
    if (dead)
        record->flags = 0;
    UNMAP_UNLOCK(c, granter, a);
    if (dead) {
        if (!HANDLE_PUT_IN_ENTRY(op->handle))
            handle_put(c, record, op->handle);
        if (c->m->iommu)
            io_sub(c, u->mfn, u->readonly);
    }
    u->granter = u->removed ? granter : NULL;
    return status;
}

/* The second phase: nobody reaches the page any more. */
static void
unmap_complete(struct call *c, const struct undone *u)
{
    struct active *a;

    if (!u->granter)
        return;
    a = entry_lock(c, u->granter, u->ref);
    refs_put(c, u->mfn, u->readonly);
    active_unpin(a, u->granter, u->ref, u->readonly);
    entry_unlock(c, u->granter, a);
}

static void
locked_unmap(struct bench_machine *m, unsigned cpu, struct bench_domain *caller,
             struct gnttab_unmap_grant_ref *ops, uint32_t n)
{
    struct call c = { m, &m->cpu[cpu], caller, cpu };

    for (uint32_t i = 0; i < n; i += UNMAP_BATCH) {
        const uint32_t some = n - i < UNMAP_BATCH ? n - i : UNMAP_BATCH;
        struct undone undone[UNMAP_BATCH];

        if (i && bench_must_stop(m))
            break;
        for (uint32_t k = 0; k < some; k++) {
            struct gnttab_unmap_grant_ref op;

            undone[k] = (struct undone){ 0 };
            fh_copy_in(&op, &ops[i + k], sizeof(op));
            op.status = unmap_element(&c, &op, &undone[k]);
            fh_store_relaxed16(&ops[i + k].status, (uint16_t)op.status);
        }
        flush_locked(&c);
        for (uint32_t k = 0; k < some; k++)
            unmap_complete(&c, &undone[k]);
    }
}

/* ------------------------------------------------------------------ copy -- */

static int16_t
copy_source(struct call *c, const struct gnttab_copy_ptr *p, uint64_t *mfn)
{
    struct bench_domain *granter = bench_domain_find(c->m, p->domid);
    struct active *a;
    int16_t status;

    if (!granter)
        return GNTST_bad_domain;
    BENCH_FENCE();
    a = entry_lock(c, granter, p->u.ref);
    if (!a)
        return GNTST_bad_gntref;
    status = active_pin(c, a, granter, p->u.ref, true, false);
    if (!status && !refs_get(c, a->mfn, granter->domid, true)) {
        active_unpin(a, granter, p->u.ref, true);
        status = GNTST_general_error;
    }
    *mfn = a->mfn;
    entry_unlock(c, granter, a);
    return status;
}

static void
copy_source_done(struct call *c, const struct gnttab_copy_ptr *p, uint64_t mfn)
{
    struct bench_domain *granter = bench_domain_find(c->m, p->domid);
    struct active *a = entry_lock(c, granter, p->u.ref);

    refs_put(c, mfn, true);
    active_unpin(a, granter, p->u.ref, true);
    entry_unlock(c, granter, a);
}

/* From a reference to a frame of the caller's: all that is measured. */
static int16_t
copy_element(struct call *c, const struct gnttab_copy *op)
{
    const uint64_t to = op->dest.u.gmfn;
    uint64_t from = 0;
    int16_t status;

    if (!op->len)
        return GNTST_okay;
    if (op->flags != GNTCOPY_source_gref || op->dest.domid != DOMID_SELF)
        return GNTST_permission_denied;
    BENCH_FENCE();
    status = copy_source(c, &op->source, &from);
    if (status)
        return status;
    if (!bench_frame_find(c->m, c->caller->domid, to) ||
        !refs_get(c, to, c->caller->domid, false)) {
        copy_source_done(c, &op->source, from);
        return GNTST_bad_page;
    }
    if (op->source.offset + op->len > BENCH_PAGE_BYTES ||
        op->dest.offset + op->len > BENCH_PAGE_BYTES)
        status = GNTST_bad_copy_arg;
    else
        __builtin_memcpy(bench_bytes(c->m, to) + op->dest.offset,
                         bench_bytes(c->m, from) + op->source.offset, op->len);
    refs_put(c, to, false);
    copy_source_done(c, &op->source, from);
    return status;
}

static void
locked_copy(struct bench_machine *m, unsigned cpu, struct bench_domain *caller,
            struct gnttab_copy *ops, uint32_t n)
{
    struct call c = { m, &m->cpu[cpu], caller, cpu };

    for (uint32_t i = 0; i < n; i++) {
        struct gnttab_copy op;

        if (i && bench_must_stop(m))
            break;
        fh_copy_in(&op, &ops[i], sizeof(op));
        op.status = copy_element(&c, &op);
        fh_store_relaxed16(&ops[i].status, (uint16_t)op.status);
    }
}

/* ----------------------------------------------------------------- death -- */

/* Ends one mapping of a dead mapper, whose page tables are gone. */
static void
release_record(struct call *c, struct bench_domain *granter, uint32_t ref,
               bool readonly)
{
    struct active *a = entry_lock(c, granter, ref);

    refs_put(c, a->mfn, readonly);
    active_unpin(a, granter, ref, readonly);
    entry_unlock(c, granter, a);
}
