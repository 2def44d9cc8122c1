/* SPDX-License-Identifier: MIT */
/*
 * The second proposal of mail 004: the active entry itself holds the records
 * of its first two mappings, so that these need no handle of their own; their
 * handle names the entry: {1 | domid:15 | slot:1 | ref:15}.  Further mappings,
 * and references from 2^15 on, take a record from the mapper's table under its
 * one lock.  Tables only grow; each entry has a lock, which covers its records.
 * I/O mappings are not counted here: the mail left that as it was.
 */
#include "bench/gnt/locked.h"

enum {
    NO_HANDLE = 0xffffffff,
    N_FAST = 2,
    FAST_REFS = 1 << 15,
    RESERVED = 0x8000, /* in the flags of a record that is not live yet */
    IS_FAST = 1,       /* in the spare word of such a record */
};
#define FAST_HANDLE 0x80000000u

/* An entry and its two records: one cache line. */
struct fast_active {
    struct active active;
    struct record fast[N_FAST];
};
_Static_assert(sizeof(struct fast_active) == 64, "one cache line");

struct table {
    struct fast_active *entries;
    fh_word32 n_entries;
    struct ticket lock; /* of the records that are not in entries */
    uint32_t free_handle, n_handles, max_handles;
    struct record *records;
};

/* Stands for the record that handle_late() will find. */
static struct record later;

static struct table *
table_of(const struct bench_domain *d)
{
    return d->engine;
}

static struct active *
entry_lock(struct call *c, struct bench_domain *granter, uint32_t ref)
{
    struct table *t = table_of(granter);

    if (ref >= fh_load_acquire32(&t->n_entries))
        return NULL;
    ticket_lock(&t->entries[ref].active.lock, c->counters);
    return &t->entries[ref].active;
}

static void
entry_unlock(struct call *c, struct bench_domain *granter, struct active *a)
{
    ticket_unlock(&a->lock);
}

/* --------------------------------------------------------------- handles -- */

static struct record *
handle_get(struct call *c, struct bench_domain *granter, uint32_t ref,
           uint32_t *handle)
{
    return &later;
}

/* A record of the mapper's table. */
static struct record *
slow_get(struct call *c, uint32_t *handle)
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

/* Under the entry's lock: one of its own records, if one is free. */
static struct record *
handle_late(struct call *c, struct active *a, struct record *record,
            struct bench_domain *granter, uint32_t ref, uint32_t *handle)
{
    struct fast_active *f = (struct fast_active *)a; /* its first member */

    for (uint32_t i = 0; i < N_FAST && ref < FAST_REFS; i++) {
        if (f->fast[i].flags)
            continue;
        f->fast[i] = (struct record){ .flags = RESERVED, .ref = ref,
                                      .domid = c->caller->domid,
                                      .spare = IS_FAST };
        *handle = FAST_HANDLE | (uint32_t)granter->domid << 16 | i << 15 | ref;
        return &f->fast[i];
    }
    return slow_get(c, handle);
}

static void
handle_publish(struct call *c, struct record *r, uint32_t ref, uint16_t domid,
               uint16_t flags)
{
    if (r->spare != IS_FAST) {
        r->domid = domid;
        r->ref = ref;
    }
    fh_store_release16(&r->flags, flags);
}

static struct record *
fast_find(struct call *c, uint32_t handle, struct record *copy)
{
    const uint32_t ref = handle & (FAST_REFS - 1);
    const struct bench_domain *granter =
        bench_domain_find(c->m, handle >> 16 & 0x7fff);
    struct record *r;

    if (!granter || ref >= table_of(granter)->n_entries)
        return NULL;
    r = &table_of(granter)->entries[ref].fast[handle >> 15 & 1];
    copy->flags = fh_load_acquire16(&r->flags);
    copy->ref = ref;
    copy->domid = granter->domid;
    return copy->flags && r->domid == c->caller->domid ? r : NULL;
}

static struct record *
handle_find(struct call *c, uint32_t handle, struct record *copy)
{
    struct table *t = table_of(c->caller);
    struct record *r;

    if (handle & FAST_HANDLE)
        return fast_find(c, handle, copy);
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
    if (r->spare == IS_FAST)
        return r->flags == copy->flags && r->domid == c->caller->domid;
    return r->flags == copy->flags && r->ref == copy->ref &&
           r->domid == copy->domid;
}

/* One in an entry is free as soon as its flags are 0. */
static void
handle_put(struct call *c, struct record *r, uint32_t handle)
{
    struct table *t = table_of(c->caller);

    if (r == &later)
        return;
    fh_store_release16(&r->flags, 0);
    if (handle & FAST_HANDLE)
        return;
    ticket_lock(&t->lock, c->counters);
    r->ref = t->free_handle;
    t->free_handle = handle;
    ticket_unlock(&t->lock);
}

static bool
io_add(struct call *c, uint64_t mfn, bool readonly)
{
    return false;
}

static void
io_sub(struct call *c, uint64_t mfn, bool readonly)
{
}

#define HANDLE_PUT_IN_ENTRY(handle) ((handle) & FAST_HANDLE)
#include "bench/gnt/locked_flow.inc"

/* --------------------------------------------------------- set-up, death -- */

static void
init_domain(struct bench_machine *m, struct bench_domain *d)
{
    struct table *t = bench_zeroed(sizeof(*t));

    *t = (struct table){
        .entries = bench_zeroed(d->n_entries * sizeof(*t->entries)),
        .n_entries = d->n_entries,
        .free_handle = NO_HANDLE,
        .max_handles = m->max_handles,
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

/* The mapper's records in the entries of @granter: all have to be looked at. */
static void
release_fast(struct call *c, struct bench_domain *granter,
             struct bench_release *r)
{
    struct table *t = table_of(granter);

    for (uint32_t i = 0; i < N_FAST * t->n_entries; i++) {
        const uint32_t ref = i / N_FAST;
        struct record *record = &t->entries[ref].fast[i % N_FAST];

        r->units++;
        if (!record->flags || record->domid != c->caller->domid)
            continue;
        release_pin(c, granter, ref, record->flags & GNTMAP_readonly);
        record->flags = 0;
    }
}

static void
release(struct bench_machine *m, struct bench_domain *mapper, uint32_t budget,
        struct bench_release *r)
{
    struct call c = { m, &m->cpu[0], mapper, 0 };
    struct table *t = table_of(mapper);

    for (uint32_t g = 0; g < m->n_granters; g++)
        release_fast(&c, &m->domains[BENCH_GRANTER + g], r);
    for (uint32_t h = 0; h < t->n_handles; h++) {
        r->units++;
        release_record(&c, &t->records[h]);
    }
    r->done = true;
}

const struct bench_engine engine_fast_entry = {
    .name = "fast-entry",
    .no_iommu = true,
    .init = init,
    .map = locked_map,
    .unmap = locked_unmap,
    .copy = locked_copy,
    .release = release,
};
