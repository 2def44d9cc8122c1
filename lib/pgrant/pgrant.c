/* SPDX-License-Identifier: MIT */
/*
 * The persistent-grant cache; <freehold/pgrant.h> says what it promises.
 *
 * Memory, all of the caller's: pages and chunks are arrays with free lists, and
 * their numbers serve as pointers (0: none, so that zeroed memory is empty).
 * root[ref / 512] is a leaf, leaf[ref % 512] a page.  Leaf 0 is never written:
 * whatever is not in the table leads there and reads page 0, which makes the
 * look-up one comparison and two loads.
 *
 * Invariants, checked by the test's model after every step:
 *   - a page is in the table exactly while it belongs to a chunk;
 *   - a chunk is in the idle list exactly while its pins are 0, and the list
 *     is ordered by idle_since_ns;
 *   - n_idle_pages is the sum of the idle chunks' pages;
 *   - a leaf is attached to the root exactly while a page is in it.
 */
#include <freehold/pgrant.h>
#include <stdbool.h>
#include <string.h>
#include "base/arith.h"

enum {
    LEAF_BYTES = FH_PGRANT_LEAF_REFS * sizeof(uint16_t),
};

struct fh_pgrant_page {
    void *addr; /* NULL while its chunk is being mapped */
    uint32_t gref;
    uint16_t chunk;
    uint16_t next; /* in its chunk, or in the free list */
};

struct fh_pgrant_chunk {
    uint64_t idle_since_ns; /* while idle */
    void *addr;             /* as gnt_map gave it */
    uint32_t pins;          /* uses of its pages by gets not put back */
    uint16_t n;             /* pages */
    uint16_t first;         /* head of its pages */
    uint16_t newer;         /* neighbours in the idle list; */
    uint16_t older;         /* free chunks are linked by newer */
};

/* Reference @ref's page, or 0. */
static inline uint16_t
page_of(const struct fh_pgrant *c, uint32_t ref)
{
    const uint32_t frame = ref / FH_PGRANT_LEAF_REFS;

    if (frame >= FH_PGRANT_ROOT_LEAVES)
        return 0;
    return c->leaves[c->root[frame] * FH_PGRANT_LEAF_REFS +
                     ref % FH_PGRANT_LEAF_REFS];
}

static void
idle_link(struct fh_pgrant *c, uint16_t i, uint64_t now_ns)
{
    struct fh_pgrant_chunk *head = &c->chunks[0];
    struct fh_pgrant_chunk *ch = &c->chunks[i];

    ch->idle_since_ns = now_ns;
    ch->newer = 0;
    ch->older = head->older;
    c->chunks[head->older].newer = i;
    head->older = i;
    c->n_idle_pages += ch->n;
}

static void
idle_unlink(struct fh_pgrant *c, struct fh_pgrant_chunk *ch)
{
    c->chunks[ch->older].newer = ch->newer;
    c->chunks[ch->newer].older = ch->older;
    c->n_idle_pages -= ch->n;
}

static inline void
pin(struct fh_pgrant *c, const struct fh_pgrant_page *page)
{
    struct fh_pgrant_chunk *ch = &c->chunks[page->chunk];

    if (ch->pins++ == 0)
        idle_unlink(c, ch);
}

static inline void
unpin(struct fh_pgrant *c, const struct fh_pgrant_page *page, uint64_t now_ns)
{
    struct fh_pgrant_chunk *ch = &c->chunks[page->chunk];

    if (--ch->pins == 0)
        idle_link(c, page->chunk, now_ns);
}

/* Enters free page @i for @ref, or says that there is no leaf for it. */
static bool
table_insert(struct fh_pgrant *c, uint32_t ref, uint16_t i)
{
    uint16_t *leaf = &c->root[ref / FH_PGRANT_LEAF_REFS];

    if (!*leaf) {
        if (!c->free_leaf)
            return false;
        *leaf = c->free_leaf;
        c->free_leaf = c->leaves[*leaf * FH_PGRANT_LEAF_REFS];
        c->leaves[*leaf * FH_PGRANT_LEAF_REFS] = 0;
    }
    c->leaves[*leaf * FH_PGRANT_LEAF_REFS + ref % FH_PGRANT_LEAF_REFS] = i;
    c->leaf_used[*leaf]++;
    return true;
}

static void
table_remove(struct fh_pgrant *c, uint32_t ref)
{
    uint16_t *leaf = &c->root[ref / FH_PGRANT_LEAF_REFS];

    c->leaves[*leaf * FH_PGRANT_LEAF_REFS + ref % FH_PGRANT_LEAF_REFS] = 0;
    if (--c->leaf_used[*leaf])
        return;
    /* Empty, so all zero; free leaves are linked by their first word. */
    c->leaves[*leaf * FH_PGRANT_LEAF_REFS] = c->free_leaf;
    c->free_leaf = *leaf;
    *leaf = 0;
}

static uint16_t
chunk_take(struct fh_pgrant *c)
{
    /* There are max_pages + 1 of them, at most max_pages hold pages and one is
     * being built: the list is not empty. */
    const uint16_t i = c->free_chunk;

    c->free_chunk = c->chunks[i].newer;
    c->chunks[i] = (struct fh_pgrant_chunk){0};
    c->n_chunks++;
    return i;
}

/* Forgets chunk @i, which is neither mapped nor linked, and its pages. */
static void
chunk_drop(struct fh_pgrant *c, uint16_t i)
{
    struct fh_pgrant_chunk *ch = &c->chunks[i];

    while (ch->first) {
        const uint16_t p = ch->first;
        struct fh_pgrant_page *page = &c->pages[p];

        table_remove(c, page->gref);
        ch->first = page->next;
        page->next = c->free_page;
        c->free_page = p;
    }
    c->n_pages -= ch->n;
    ch->newer = c->free_chunk;
    c->free_chunk = i;
    c->n_chunks--;
}

/*
 * Unmaps the chunk that has been idle for longest; there is one.  When the
 * platform fails it goes to the new end, so that no loop meets it again soon.
 */
static int
evict(struct fh_pgrant *c, uint64_t now_ns, uint64_t *counter)
{
    struct fh_plat *plat = c->params.plat;
    const uint16_t i = c->chunks[0].newer;
    struct fh_pgrant_chunk *ch = &c->chunks[i];
    int r;

    idle_unlink(c, ch);
    r = plat->ops->gnt_unmap(plat, ch->addr, ch->n);
    if (r) {
        c->stats.errors++;
        idle_link(c, i, now_ns);
        return r < 0 ? r : FH_EIO;
    }
    c->stats.unmaps++;
    c->stats.unmapped_pages += ch->n;
    ++*counter;
    chunk_drop(c, i);
    return 0;
}

/* Adds a page for @ref, not yet mapped, to chunk @i. */
static int
chunk_add(struct fh_pgrant *c, uint16_t i, uint32_t ref, uint64_t now_ns)
{
    struct fh_pgrant_chunk *ch = &c->chunks[i];
    uint16_t p;
    int r;

    if (!c->free_page) {
        r = evict(c, now_ns, &c->stats.evict_cap);
        if (r)
            return r;
    }
    p = c->free_page;
    if (!table_insert(c, ref, p))
        return FH_PGRANT_E_NOCACHE;
    c->free_page = c->pages[p].next;
    c->pages[p] = (struct fh_pgrant_page){.gref = ref, .chunk = i};
    c->map_refs[ch->n++] = ref;
    c->n_pages++;

    /* At the head: chunk_place() relies on it. */
    c->pages[p].next = ch->first;
    ch->first = p;
    return 0;
}

/* Gives the pages of @ch their addresses; the last one added comes first. */
static void
chunk_place(struct fh_pgrant *c, struct fh_pgrant_chunk *ch)
{
    size_t k = ch->n;

    for (uint16_t p = ch->first; p; p = c->pages[p].next)
        c->pages[p].addr = (char *)ch->addr + --k * FH_PAGE_BYTES;
}

static int
chunk_map(struct fh_pgrant *c, struct fh_pgrant_chunk *ch)
{
    struct fh_plat *plat = c->params.plat;
    int r;

    r = plat->ops->gnt_map(plat, c->params.domid, c->map_refs, ch->n,
                           FH_PLAT_PROT_RW, &ch->addr);
    if (r < 0) {
        c->stats.errors++;
        return r;
    }
    if (r > 0)
        return FH_PGRANT_E_REFUSED;
    c->stats.maps++;
    c->stats.mapped_pages += ch->n;
    chunk_place(c, ch);
    return 0;
}

/*
 * Adds to chunk @i what is missing among @refs until it is full; *@done counts
 * the references passed by.
 */
static int
chunk_gather(struct fh_pgrant *c, uint16_t i, const uint32_t *refs, uint32_t n,
             uint64_t now_ns, void **addrs, uint32_t *done)
{
    uint32_t k;

    for (k = 0; k < n && c->chunks[i].n < c->params.max_chunk; k++) {
        /* A reference that is there already is one that repeats itself. */
        if (addrs[k] || page_of(c, refs[k]))
            continue;
        int r = chunk_add(c, i, refs[k], now_ns);

        if (r)
            return r;
    }
    *done = k;
    return 0;
}

/* Gives those of @refs that have none yet an address, and pins their pages. */
static void
pin_missed(struct fh_pgrant *c, const uint32_t *refs, uint32_t n, void **addrs)
{
    for (uint32_t k = 0; k < n; k++) {
        if (addrs[k])
            continue;
        const struct fh_pgrant_page *page = &c->pages[page_of(c, refs[k])];

        addrs[k] = page->addr;
        pin(c, page);
    }
}

/*
 * Maps, as one chunk, the first max_chunk pages missing among @refs, and pins
 * for each reference that it passed by, *@done in number.  All or nothing.
 */
static int
fill_chunk(struct fh_pgrant *c, const uint32_t *refs, uint32_t n,
           uint64_t now_ns, void **addrs, uint32_t *done)
{
    const uint16_t i = chunk_take(c);
    int r;

    r = chunk_gather(c, i, refs, n, now_ns, addrs, done);
    if (!r && c->chunks[i].n)
        r = chunk_map(c, &c->chunks[i]);
    if (r || !c->chunks[i].n)
        chunk_drop(c, i);
    else
        idle_link(c, i, now_ns); /* pin_missed() takes it out again */
    if (!r)
        pin_missed(c, refs, *done, addrs);
    return r;
}

/* Maps what fh_pgrant_get() missed: @n_miss references with no address. */
static int
fill(struct fh_pgrant *c, const uint32_t *refs, uint32_t n, uint32_t n_miss,
     uint64_t now_ns, void **addrs)
{
    const uint32_t room = c->params.max_pages - c->n_pages + c->n_idle_pages;
    uint32_t done = 0;

    c->stats.misses += n_miss;
    for (uint32_t i = 0; i < n; i++)
        if (refs[i] / FH_PGRANT_LEAF_REFS >= FH_PGRANT_ROOT_LEAVES)
            return FH_PGRANT_E_NOCACHE;
    if (n_miss > room)
        return FH_PGRANT_E_QUOTA;

    /* Ends: a chunk has room for at least one page. */
    while (done < n) {
        uint32_t k;
        int r = fill_chunk(c, refs + done, n - done, now_ns, addrs + done, &k);

        if (r)
            return r;
        done += k;
    }
    return 0;
}

static void
count_verdict(struct fh_pgrant_stats *s, int r)
{
    if (r == FH_PGRANT_E_REFUSED)
        s->refused++;
    else if (r == FH_PGRANT_E_QUOTA)
        s->quota++;
    else if (r == FH_PGRANT_E_NOCACHE)
        s->nocache++;
}

/* The rest of a get that has met a reference without a page; kept out of the
 * way of those that have not. */
static __attribute__((noinline)) int
get_missed(struct fh_pgrant *c, const uint32_t *refs, uint32_t n,
           uint32_t n_miss, uint64_t now_ns, void **addrs)
{
    int r;

    r = fill(c, refs, n, n_miss, now_ns, addrs);
    if (!r)
        return 0;
    count_verdict(&c->stats, r);
    for (uint32_t i = 0; i < n; i++)
        if (addrs[i])
            unpin(c, &c->pages[page_of(c, refs[i])], now_ns);
    return r;
}

int
fh_pgrant_get(struct fh_pgrant *c, const uint32_t *refs, uint32_t n,
              uint64_t now_ns, void **addrs)
{
    uint32_t n_miss = 0;

    for (uint32_t i = 0; i < n; i++) {
        const uint16_t p = page_of(c, refs[i]);
        const struct fh_pgrant_page *page = &c->pages[p];

        addrs[i] = page->addr; /* page 0 has none */
        if (p)
            pin(c, page);
        else
            n_miss++;
    }
    c->stats.hits += n - n_miss;
    return n_miss ? get_missed(c, refs, n, n_miss, now_ns, addrs) : 0;
}

void
fh_pgrant_put(struct fh_pgrant *c, const uint32_t *refs, uint32_t n,
              uint64_t now_ns)
{
    /* In use, so never unmapped since: the look-up finds the same page. */
    for (uint32_t i = 0; i < n; i++)
        unpin(c, &c->pages[page_of(c, refs[i])], now_ns);
}

int
fh_pgrant_expire(struct fh_pgrant *c, uint64_t now_ns, uint64_t *next_ns)
{
    const struct fh_pgrant_chunk *head = &c->chunks[0];
    const uint64_t idle_ns = c->params.idle_ns;
    uint64_t next = UINT64_MAX;
    int first = 0;

    for (uint32_t n = 0; head->newer && n < FH_PGRANT_EXPIRE_CHUNKS; n++) {
        if (now_ns - c->chunks[head->newer].idle_since_ns < idle_ns)
            break;
        int r = evict(c, now_ns, &c->stats.evict_idle);

        first = first ? first : r;
    }
    if (head->newer) {
        const uint64_t since = c->chunks[head->newer].idle_since_ns;

        next = idle_ns > UINT64_MAX - since ? UINT64_MAX : since + idle_ns;
    }
    if (next_ns)
        *next_ns = next;
    return first;
}

int
fh_pgrant_shrink(struct fh_pgrant *c, uint32_t max_pages)
{
    const struct fh_pgrant_chunk *head = &c->chunks[0];
    int first = 0;

    /* Each chunk is tried once at most, even if the platform fails always:
     * what could not be unmapped becomes the newest. */
    for (uint32_t n = c->n_chunks; n && head->newer; n--) {
        const uint64_t newest_ns = c->chunks[head->older].idle_since_ns;

        if (c->n_pages <= max_pages)
            break;
        int r = evict(c, newest_ns, &c->stats.evict_pressure);

        first = first ? first : r;
    }
    return first;
}

int
fh_pgrant_fini(struct fh_pgrant *c)
{
    int r;

    if (!c->chunks)
        return 0;
    r = fh_pgrant_shrink(c, 0);
    if (r)
        return r;
    if (c->n_pages)
        return FH_EBUSY;
    c->chunks = NULL;
    return 0;
}

/* Copies @params with its defaults filled in; false when out of bounds. */
static bool
params_valid(const struct fh_pgrant_params *params,
             struct fh_pgrant_params *full)
{
    *full = *params;
    if (!full->max_chunk)
        full->max_chunk = FH_PGRANT_CHUNK_DEFAULT;
    if (!full->max_leaves)
        full->max_leaves = FH_PGRANT_LEAVES_DEFAULT;
    return full->max_pages && full->max_pages <= FH_PGRANT_MAX_PAGES &&
           full->max_chunk <= FH_PGRANT_MAX_CHUNK &&
           full->max_leaves <= FH_PGRANT_ROOT_LEAVES;
}

/* Takes @n elements of @bytes off the memory at *@at. */
static void *
carve(uintptr_t *at, size_t n, size_t bytes)
{
    void *p = (void *)*at;

    *at += n * bytes;
    return p;
}

/* Points @c's arrays into the memory at @mem, those of the widest alignment
 * first.  Returns their length; touches nothing, so @mem may be no memory. */
static size_t
layout(struct fh_pgrant *c, uintptr_t mem)
{
    const struct fh_pgrant_params *p = &c->params;
    const size_t n_leaves = p->max_leaves + 1;
    uintptr_t at = mem;

    c->pages = carve(&at, p->max_pages + 1, sizeof(*c->pages));
    c->chunks = carve(&at, p->max_pages + 2, sizeof(*c->chunks));
    c->map_refs = carve(&at, p->max_chunk, sizeof(*c->map_refs));
    c->root = carve(&at, FH_PGRANT_ROOT_LEAVES, sizeof(*c->root));
    c->leaf_used = carve(&at, n_leaves, sizeof(*c->leaf_used));
    c->leaves = carve(&at, n_leaves, LEAF_BYTES);
    return at - mem;
}

size_t
fh_pgrant_bytes(const struct fh_pgrant_params *params)
{
    struct fh_pgrant c;

    return params_valid(params, &c.params) ? layout(&c, 0) : 0;
}

int
fh_pgrant_init(struct fh_pgrant *c, void *mem,
               const struct fh_pgrant_params *params)
{
    struct fh_pgrant_params full;

    if (!params_valid(params, &full))
        return FH_EINVAL;
    *c = (struct fh_pgrant){.params = full};
    memset(mem, 0, layout(c, (uintptr_t)mem));

    for (uint32_t i = full.max_pages; i; i--) {
        c->pages[i].next = c->free_page;
        c->free_page = (uint16_t)i;
    }
    for (uint32_t i = full.max_pages + 1; i; i--) {
        c->chunks[i].newer = c->free_chunk;
        c->free_chunk = (uint16_t)i;
    }
    for (uint32_t i = full.max_leaves; i; i--) {
        c->leaves[i * FH_PGRANT_LEAF_REFS] = c->free_leaf;
        c->free_leaf = (uint16_t)i;
    }
    return 0;
}
