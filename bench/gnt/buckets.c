/* SPDX-License-Identifier: MIT */
/*
 * The first proposal of mail 004: a mapper's records are spread over buckets
 * by a hash of the granter and the reference, each bucket with a lock and a
 * growing table of records of its own; a handle is {bucket:16 | index:16}.
 * Tables only grow, so a reference is checked without a lock; each entry has
 * one.  I/O mappings are not counted here: the mail left that as it was.
 */
#include "bench/gnt/locked.h"

enum {
    N_BUCKETS = 4096, /* of at most 65536 records */
    BUCKET_PAGES = 65536 / RECORDS_PER_PAGE,
    NO_INDEX = 0xffffffff,
};

struct bucket {
    struct ticket lock;
    uint32_t free_index; /* the first, or NO_INDEX */
    uint32_t n_records;
    struct record **pages;
} __attribute__((aligned(32)));

struct table {
    struct active *active;
    fh_word32 n_entries;
    struct bucket *buckets;
};

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
    ticket_lock(&t->active[ref].lock, c->counters);
    return &t->active[ref];
}

static void
entry_unlock(struct call *c, struct bench_domain *granter, struct active *a)
{
    ticket_unlock(&a->lock);
}

/* --------------------------------------------------------------- handles -- */

static struct bucket *
bucket_at(const struct bench_domain *d, uint32_t handle)
{
    return &table_of(d)->buckets[handle >> 16];
}

static uint32_t
hash(uint16_t domid, uint32_t ref)
{
    return ((ref ^ (uint32_t)domid << 16) * 0x9e3779b1u) >> 20; /* 12 bits */
}

static struct record *
record_at(const struct bucket *b, uint32_t index)
{
    return &b->pages[index / RECORDS_PER_PAGE][index % RECORDS_PER_PAGE];
}

/* An index that nobody used yet, or NO_INDEX. */
static uint32_t
bucket_grow(struct bucket *b)
{
    const uint32_t index = b->n_records;
    struct record **page = &b->pages[index / RECORDS_PER_PAGE];

    if (index == BUCKET_PAGES * RECORDS_PER_PAGE)
        return NO_INDEX;
    if (!*page)
        *page = bench_zeroed(RECORDS_PER_PAGE * sizeof(**page));
    b->n_records++;
    return index;
}

static struct record *
handle_get(struct call *c, struct bench_domain *granter, uint32_t ref,
           uint32_t *handle)
{
    const uint32_t which = hash(granter->domid, ref);
    struct bucket *b = &table_of(c->caller)->buckets[which];
    struct record *r = NULL;
    uint32_t index;

    ticket_lock(&b->lock, c->counters);
    index = b->free_index;
    if (index == NO_INDEX)
        index = bucket_grow(b);
    else
        b->free_index = record_at(b, index)->ref;
    if (index != NO_INDEX)
        r = record_at(b, index);
    ticket_unlock(&b->lock);
    *handle = which << 16 | index;
    return r;
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
    r->domid = domid;
    r->ref = ref;
    fh_store_release16(&r->flags, flags);
}

static struct record *
handle_find(struct call *c, uint32_t handle, struct record *copy)
{
    const uint32_t index = handle & 0xffff;
    struct record *r = NULL;
    struct bucket *b;

    if (handle >> 16 >= N_BUCKETS)
        return NULL;
    b = bucket_at(c->caller, handle);
    ticket_lock(&b->lock, c->counters);
    if (index < b->n_records) {
        r = record_at(b, index);
        *copy = *r;
        if (!copy->flags)
            r = NULL;
    }
    ticket_unlock(&b->lock);
    return r;
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
    struct bucket *b = bucket_at(c->caller, handle);

    ticket_lock(&b->lock, c->counters);
    r->ref = b->free_index;
    b->free_index = handle & 0xffff;
    ticket_unlock(&b->lock);
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

#include "bench/gnt/locked_flow.inc"

/* --------------------------------------------------------- set-up, death -- */

static void
init_domain(struct bench_domain *d, bool is_mapper)
{
    struct table *t = bench_zeroed(sizeof(*t));

    *t = (struct table){
        .active = bench_zeroed(d->n_entries * sizeof(*t->active)),
        .n_entries = d->n_entries,
    };
    d->engine = t;
    if (!is_mapper)
        return;
    t->buckets = bench_zeroed(N_BUCKETS * sizeof(*t->buckets));
    for (uint32_t i = 0; i < N_BUCKETS; i++) {
        t->buckets[i].free_index = NO_INDEX;
        t->buckets[i].pages =
            bench_zeroed(BUCKET_PAGES * sizeof(*t->buckets[i].pages));
    }
}

static void
init(struct bench_machine *m)
{
    init_domain(&m->domains[BENCH_MAPPER], true);
    for (uint32_t i = 0; i < m->n_granters; i++)
        init_domain(&m->domains[BENCH_GRANTER + i], false);
}

static void
release(struct bench_machine *m, struct bench_domain *mapper, uint32_t budget,
        struct bench_release *r)
{
    struct call c = { m, &m->cpu[0], mapper, 0 };

    for (uint32_t i = 0; i < N_BUCKETS; i++) {
        struct bucket *b = &table_of(mapper)->buckets[i];

        for (uint32_t k = 0; k < b->n_records; k++) {
            r->units++;
            release_record(&c, record_at(b, k));
        }
    }
    r->done = true;
}

const struct bench_engine engine_buckets = {
    .name = "buckets",
    .no_iommu = true,
    .init = init,
    .map = locked_map,
    .unmap = locked_unmap,
    .copy = locked_copy,
    .release = release,
};
