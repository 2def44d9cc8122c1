/* SPDX-License-Identifier: MIT */
/*
 * Upstream's shape today: a reader-writer lock per table whose readers are per
 * CPU, a lock per entry, free handles in a list per vCPU with a lock of its
 * own (freed to the vCPU that took them, stolen when one runs dry), I/O
 * mappings counted in a radix tree under the mapper's lock for writing.
 */
#include "bench/gnt/locked.h"

enum {
    NO_HANDLE = 0xffffffffu,
    TREE_BITS = 6,
    TREE_WAYS = 1 << TREE_BITS,
    TREE_LEVELS = 8,
};

/* One vCPU's free handles: taken from the head, freed to the tail. */
struct free_list {
    struct ticket lock;
    uint32_t head, tail;
} __attribute__((aligned(64)));

/* A node of the tree of I/O counts; a leaf's slot is {writers:31,readers:31}
 * with the lowest bit set. */
struct node {
    uint64_t slot[TREE_WAYS];
    uint32_t n_used;
    struct node *next_free;
};

struct table {
    struct rwlock lock;
    uint32_t version;
    struct active *active;
    uint32_t n_entries;
    struct record **pages;
    fh_word32 n_handles; /* that exist */
    uint32_t max_handles;
    struct ticket grow_lock;
    struct free_list *lists; /* per CPU */
    struct node *root;
    struct node *free_nodes;
    struct ticket node_lock;
};

static struct reader readers[BENCH_MAX_CPUS];

static struct table *
table_of(const struct bench_domain *d)
{
    return d->engine;
}

/* --------------------------------------------------------------- entries -- */

static uint32_t
n_refs(const struct table *t)
{
    return t->version == 1 ? t->n_entries : t->n_entries / 2;
}

static struct active *
entry_lock(struct call *c, struct bench_domain *granter, uint32_t ref)
{
    struct table *t = table_of(granter);
    struct active *a;

    rw_read(&t->lock, &readers[c->cpu], c->counters);
    if (ref >= n_refs(t)) {
        rw_read_done(&t->lock, &readers[c->cpu]);
        return NULL;
    }
    BENCH_FENCE();
    a = &t->active[ref];
    ticket_lock(&a->lock, c->counters);
    return a;
}

static void
entry_unlock(struct call *c, struct bench_domain *granter, struct active *a)
{
    ticket_unlock(&a->lock);
    rw_read_done(&table_of(granter)->lock, &readers[c->cpu]);
}

/* --------------------------------------------------------------- handles -- */

static struct record *
record_at(const struct table *t, uint32_t handle)
{
    return &t->pages[handle / RECORDS_PER_PAGE][handle % RECORDS_PER_PAGE];
}

/* Takes the first of a list, but never its last. */
static uint32_t
list_take(const struct table *t, struct free_list *l, struct bench_cpu *cpu)
{
    uint32_t handle, next;

    ticket_lock(&l->lock, cpu);
    handle = l->head;
    if (handle != NO_HANDLE) {
        next = record_at(t, handle)->ref;
        if (next == NO_HANDLE)
            handle = NO_HANDLE;
        else
            l->head = next;
    }
    ticket_unlock(&l->lock);
    return handle;
}

static void
list_give(const struct table *t, struct free_list *l, uint32_t first,
          uint32_t last, struct bench_cpu *cpu)
{
    uint32_t before;

    record_at(t, last)->ref = NO_HANDLE;
    ticket_lock(&l->lock, cpu);
    before = l->tail;
    l->tail = last;
    if (before == NO_HANDLE)
        l->head = first;
    else
        record_at(t, before)->ref = first;
    ticket_unlock(&l->lock);
}

/* A page of handles more, the first of which is taken. */
static uint32_t
handles_grow(struct call *c, struct table *t)
{
    uint32_t first, n;

    ticket_lock(&t->grow_lock, c->counters);
    first = fh_load_relaxed32(&t->n_handles);
    n = t->max_handles - first;
    n = n < RECORDS_PER_PAGE ? n : RECORDS_PER_PAGE;
    for (uint32_t i = 0; i < n; i++) {
        record_at(t, first + i)->ref = first + i + 1;
        record_at(t, first + i)->cpu = c->cpu;
    }
    fh_store_release32(&t->n_handles, first + n);
    ticket_unlock(&t->grow_lock);
    if (n > 1)
        list_give(t, &t->lists[c->cpu], first + 1, first + n - 1, c->counters);
    return n ? first : NO_HANDLE;
}

static uint32_t
handle_steal(struct call *c, struct table *t)
{
    for (uint32_t i = 1; i < c->m->n_threads; i++) {
        const uint32_t victim = (c->cpu + i) % c->m->n_threads;
        const uint32_t h = list_take(t, &t->lists[victim], c->counters);

        if (h != NO_HANDLE) {
            record_at(t, h)->cpu = c->cpu;
            return h;
        }
    }
    return NO_HANDLE;
}

static struct record *
handle_get(struct call *c, struct bench_domain *granter, uint32_t ref,
           uint32_t *handle)
{
    struct table *t = table_of(c->caller);

    *handle = list_take(t, &t->lists[c->cpu], c->counters);
    if (*handle == NO_HANDLE)
        *handle = handles_grow(c, t);
    if (*handle == NO_HANDLE)
        *handle = handle_steal(c, t);
    return *handle == NO_HANDLE ? NULL : record_at(t, *handle);
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
    fh_store_release16(&r->flags, flags); /* live last */
}

static struct record *
handle_find(struct call *c, uint32_t handle, struct record *copy)
{
    const struct table *t = table_of(c->caller);
    struct record *r;

    if (handle >= fh_load_acquire32(&t->n_handles))
        return NULL;
    BENCH_FENCE();
    r = record_at(t, handle);
    copy->flags = fh_load_acquire16(&r->flags);
    copy->ref = fh_load_relaxed32(&r->ref);
    copy->domid = fh_load_relaxed16(&r->domid);
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

    list_give(t, &t->lists[r->cpu], handle, handle, c->counters);
}

/* ------------------------------------------------------------ I/O counts -- */

static struct node *
node_new(struct call *c, struct table *t)
{
    struct node *n;

    ticket_lock(&t->node_lock, c->counters);
    n = t->free_nodes;
    if (n)
        t->free_nodes = n->next_free;
    ticket_unlock(&t->node_lock);
    if (!n)
        return bench_zeroed(sizeof(*n));
    *n = (struct node){ 0 };
    return n;
}

static void
node_free(struct call *c, struct table *t, struct node *n)
{
    ticket_lock(&t->node_lock, c->counters);
    n->next_free = t->free_nodes;
    t->free_nodes = n;
    ticket_unlock(&t->node_lock);
}

/* Machine frames have 48 bits at most: eight levels of six. */
static unsigned
way(uint64_t mfn, unsigned level)
{
    return mfn >> ((TREE_LEVELS - 1 - level) * TREE_BITS) & (TREE_WAYS - 1);
}

/* The leaf of @mfn; the nodes that lead there are in @path. */
static uint64_t *
tree_find(struct call *c, struct table *t, uint64_t mfn, bool make,
          struct node **path)
{
    struct node *n = t->root;

    for (unsigned level = 0; level < TREE_LEVELS - 1; level++) {
        uint64_t *slot = &n->slot[way(mfn, level)];

        path[level] = n;
        if (!*slot) {
            if (!make)
                return NULL;
            *slot = (uintptr_t)node_new(c, t);
            n->n_used++;
        }
        n = (struct node *)(uintptr_t)*slot;
    }
    path[TREE_LEVELS - 1] = n;
    return &n->slot[way(mfn, TREE_LEVELS - 1)];
}

/* The leaf is 0 again: it and what it alone needed go. */
static void
tree_prune(struct call *c, struct table *t, uint64_t mfn, struct node **path)
{
    for (unsigned level = TREE_LEVELS; level-- > 0;) {
        struct node *n = path[level];

        n->slot[way(mfn, level)] = 0;
        if (--n->n_used || !level)
            break;
        node_free(c, t, n);
    }
}

enum { IO_READER = 2 };
#define IO_WRITER (1ull << 33)

static bool
io_add(struct call *c, uint64_t mfn, bool readonly)
{
    struct table *t = table_of(c->caller);
    struct node *path[TREE_LEVELS];
    uint64_t *leaf, old;

    rw_write(&t->lock, readers, c->m->n_threads, c->counters);
    leaf = tree_find(c, t, mfn, true, path);
    old = *leaf;
    if (!old)
        path[TREE_LEVELS - 1]->n_used++;
    *leaf = (old | 1) + (readonly ? IO_READER : IO_WRITER);
    if (!old || (!readonly && old < IO_WRITER))
        bench_frame_of(c->m, mfn)->io_perm = readonly ? 1 : 3;
    rw_write_done(&t->lock);
    return true;
}

static void
io_sub(struct call *c, uint64_t mfn, bool readonly)
{
    struct table *t = table_of(c->caller);
    struct node *path[TREE_LEVELS];
    uint64_t *leaf;

    rw_write(&t->lock, readers, c->m->n_threads, c->counters);
    leaf = tree_find(c, t, mfn, false, path);
    *leaf -= readonly ? IO_READER : IO_WRITER;
    if (*leaf == 1) {
        bench_frame_of(c->m, mfn)->io_perm = 0;
        c->counters->iotlb_flushes++;
        tree_prune(c, t, mfn, path);
    } else if (!readonly && *leaf < IO_WRITER) {
        bench_frame_of(c->m, mfn)->io_perm = 1;
        c->counters->iotlb_flushes++;
    }
    rw_write_done(&t->lock);
}

#include "bench/gnt/locked_flow.inc"

/* ------------------------------------------------------- set-up, death -- */

static void
init_domain(struct bench_machine *m, struct bench_domain *d)
{
    const uint32_t n_pages = m->max_handles / RECORDS_PER_PAGE + 1;
    struct record *records =
        bench_zeroed((size_t)n_pages * RECORDS_PER_PAGE * sizeof(*records));
    struct table *t = bench_zeroed(sizeof(*t));

    *t = (struct table){
        .version = 1,
        .active = bench_zeroed(d->n_entries * sizeof(*t->active)),
        .n_entries = d->n_entries,
        .pages = bench_zeroed(n_pages * sizeof(*t->pages)),
        /* each list keeps one, and pages belong to one CPU */
        .max_handles = m->max_handles,
        .lists = bench_zeroed(m->n_threads * sizeof(*t->lists)),
        .root = bench_zeroed(sizeof(struct node)),
    };
    for (uint32_t i = 0; i < n_pages; i++)
        t->pages[i] = &records[(size_t)i * RECORDS_PER_PAGE];
    for (uint32_t i = 0; i < m->n_threads; i++)
        t->lists[i].head = t->lists[i].tail = NO_HANDLE;
    d->engine = t;
}

static void
init(struct bench_machine *m)
{
    m->max_handles += m->n_threads * RECORDS_PER_PAGE;
    init_domain(m, &m->domains[BENCH_MAPPER]);
    for (uint32_t i = 0; i < m->n_granters; i++)
        init_domain(m, &m->domains[BENCH_GRANTER + i]);
}

static void
release(struct bench_machine *m, struct bench_domain *mapper, uint32_t budget,
        struct bench_release *r)
{
    struct call c = { m, &m->cpu[0], mapper, 0 };
    const struct table *t = table_of(mapper);
    const uint32_t n = fh_load_acquire32(&t->n_handles);

    for (r->units = 0; r->cursor < n && r->units < RECORDS_PER_PAGE;
         r->units++, r->cursor++)
        release_record(&c, record_at(t, (uint32_t)r->cursor));
    r->done = r->cursor == n;
}

#ifdef BENCH_WITH_LFENCE
#define ENGINE engine_percpu_fenced
#else
#define ENGINE engine_percpu
struct ticket locked_flush_lock;
#endif

const struct bench_engine ENGINE = {
    .name = "percpu",
    .init = init,
    .map = locked_map,
    .unmap = locked_unmap,
    .copy = locked_copy,
    .release = release,
};
