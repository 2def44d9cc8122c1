/* SPDX-License-Identifier: MIT */
/*
 * As before 2015: one spinlock for each domain's table, which covers its
 * entries, its handles and, of mapper and granter together, a mapping's birth
 * and end.  I/O mappings are counted by looking at every handle of the mapper.
 */
#include "bench/gnt/locked.h"

enum { NO_HANDLE = 0xffffffffu };

struct table {
    struct ticket lock;
    uint32_t free_handle; /* the first, or NO_HANDLE */
    uint32_t n_handles;   /* that were used once */
    uint32_t max_handles;
    uint32_t n_entries;
    struct active *active;
    struct record *records;
};

static struct table *
table_of(const struct bench_domain *d)
{
    return d->engine;
}

/* --------------------------------------------------------------- entries -- */

static struct active *
entry_lock(struct call *c, struct bench_domain *granter, uint32_t ref)
{
    struct table *t = table_of(granter);

    ticket_lock(&t->lock, c->counters);
    if (ref < t->n_entries)
        return &t->active[ref];
    ticket_unlock(&t->lock);
    return NULL;
}

static void
entry_unlock(struct call *c, struct bench_domain *granter, struct active *a)
{
    ticket_unlock(&table_of(granter)->lock);
}

/* Both tables, in the order of their addresses. */
static void
lock_both(struct call *c, struct bench_domain *granter)
{
    struct table *own = table_of(c->caller), *other = table_of(granter);

    if (own < other) {
        ticket_lock(&own->lock, c->counters);
        ticket_lock(&other->lock, c->counters);
    } else {
        ticket_lock(&other->lock, c->counters);
        if (own != other)
            ticket_lock(&own->lock, c->counters);
    }
}

static void
unlock_both(struct call *c, struct bench_domain *granter)
{
    struct table *own = table_of(c->caller), *other = table_of(granter);

    ticket_unlock(&other->lock);
    if (own != other)
        ticket_unlock(&own->lock);
}

static struct active *
end_lock(struct call *c, struct bench_domain *granter, uint32_t ref)
{
    lock_both(c, granter);
    if (ref < table_of(granter)->n_entries)
        return &table_of(granter)->active[ref];
    unlock_both(c, granter);
    return NULL;
}

static void
end_unlock(struct call *c, struct bench_domain *granter, struct active *a)
{
    unlock_both(c, granter);
}

/* --------------------------------------------------------------- handles -- */

static struct record *
handle_get(struct call *c, struct bench_domain *granter, uint32_t ref,
           uint32_t *handle)
{
    struct table *t = table_of(c->caller);

    ticket_lock(&t->lock, c->counters);
    *handle = t->free_handle;
    if (*handle != NO_HANDLE)
        t->free_handle = t->records[*handle].ref;
    else if (t->n_handles < t->max_handles)
        *handle = t->n_handles++;
    ticket_unlock(&t->lock);
    return *handle == NO_HANDLE ? NULL : &t->records[*handle];
}

static struct record *
handle_late(struct call *c, struct active *a, struct record *record,
            struct bench_domain *granter, uint32_t ref, uint32_t *handle)
{
    return record;
}

static void
handle_publish(struct call *c, struct record *r, uint32_t ref, uint16_t domid,
               uint16_t flags)
{
    struct bench_domain *granter = bench_domain_find(c->m, domid);

    lock_both(c, granter);
    r->domid = domid;
    r->ref = ref;
    fh_store_release16(&r->flags, flags);
    unlock_both(c, granter);
}

static struct record *
handle_find(struct call *c, uint32_t handle, struct record *copy)
{
    struct table *t = table_of(c->caller);
    struct record *r;

    if (handle >= fh_load_relaxed32(&t->n_handles))
        return NULL;
    r = &t->records[handle];
    copy->flags = fh_load_acquire16(&r->flags);
    copy->ref = r->ref;
    copy->domid = r->domid;
    return copy->flags ? r : NULL;
}

static bool
handle_is(struct call *c, struct active *a, struct record *r,
          const struct record *copy)
{
    return r->flags == copy->flags && r->ref == copy->ref &&
           r->domid == copy->domid;
}

static void
handle_put(struct call *c, struct record *r, uint32_t handle)
{
    struct table *t = table_of(c->caller);

    ticket_lock(&t->lock, c->counters);
    r->ref = t->free_handle;
    t->free_handle = handle;
    ticket_unlock(&t->lock);
}

/* ------------------------------------------------------------ I/O counts -- */

struct io_count {
    uint32_t readers, writers;
};

/* The mapper's live handles on @mfn of @granter, under both locks. */
static struct io_count
io_count(struct call *c, struct bench_domain *granter, uint64_t mfn)
{
    const struct table *own = table_of(c->caller);
    const struct table *other = table_of(granter);
    struct io_count n = { 0 };

    for (uint32_t h = 0; h < own->n_handles; h++) {
        const struct record *r = &own->records[h];

        if (!r->flags || r->domid != granter->domid ||
            other->active[r->ref].mfn != mfn)
            continue;
        if (r->flags & GNTMAP_readonly)
            n.readers++;
        else
            n.writers++;
    }
    return n;
}

static struct bench_domain *
owner_of(struct call *c, uint64_t mfn)
{
    return bench_domain_find(c->m, bench_frame_of(c->m, mfn)->owner);
}

/* Before the handle is live, so that it is not among those counted. */
static bool
io_add(struct call *c, uint64_t mfn, bool readonly)
{
    struct bench_domain *granter = owner_of(c, mfn);
    struct io_count n;

    lock_both(c, granter);
    n = io_count(c, granter, mfn);
    if (!n.writers && (!readonly || !n.readers))
        bench_frame_of(c->m, mfn)->io_perm = readonly ? 1 : 3;
    unlock_both(c, granter);
    return true;
}

static void
io_sub(struct call *c, uint64_t mfn, bool readonly)
{
    struct bench_domain *granter = owner_of(c, mfn);
    struct io_count n;

    lock_both(c, granter);
    n = io_count(c, granter, mfn);
    if (!n.writers && (!readonly || !n.readers)) {
        bench_frame_of(c->m, mfn)->io_perm = n.readers ? 1 : 0;
        c->counters->iotlb_flushes++;
    }
    unlock_both(c, granter);
}

#define UNMAP_LOCK   end_lock
#define UNMAP_UNLOCK end_unlock
#include "bench/gnt/locked_flow.inc"

/* --------------------------------------------------------- set-up, death -- */

static void
init_domain(struct bench_machine *m, struct bench_domain *d)
{
    struct table *t = bench_zeroed(sizeof(*t));

    *t = (struct table){
        .free_handle = NO_HANDLE,
        .max_handles = m->max_handles,
        .n_entries = d->n_entries,
        .active = bench_zeroed(d->n_entries * sizeof(*t->active)),
        .records = bench_zeroed(m->max_handles * sizeof(*t->records)),
    };
    d->engine = t;
}

static void
init(struct bench_machine *m)
{
    init_domain(m, &m->domains[BENCH_MAPPER]);
    for (uint32_t i = 0; i < m->n_granters; i++)
        init_domain(m, &m->domains[BENCH_GRANTER + i]);
}

/* All in one go: nobody had thought of preemption there. */
static void
release(struct bench_machine *m, struct bench_domain *mapper, uint32_t budget,
        struct bench_release *r)
{
    struct call c = { m, &m->cpu[0], mapper, 0 };
    struct table *t = table_of(mapper);

    for (uint32_t h = 0; h < t->n_handles; h++) {
        r->units++;
        release_record(&c, &t->records[h]);
    }
    r->done = true;
}

const struct bench_engine engine_one_lock = {
    .name = "one-lock",
    .init = init,
    .map = locked_map,
    .unmap = locked_unmap,
    .copy = locked_copy,
    .release = release,
};
